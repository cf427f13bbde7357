//! What the broker remembers of each lane (KIP-227).

use super::*;

/// KIP-227: what nothing happens to is named once.
#[test]
fn a_thousand_idle_partitions_are_named_once_and_asked_for_twice_a_second() {
    let (mut rig, mut broker) = (Rig::new(1_000), Broker::default());
    let plan = rig.plan().unwrap();
    assert_eq!(named(&plan).len(), 1_000);
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &plan, (0..1_000).map(empty));
    assert!(rig.events().is_empty());
    // Those at their end ask for no more than their shares, which the session hears of once.
    let plan = rig.plan().unwrap();
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &plan, []);
    rig.events();
    for _ in 0..100 {
        let plan = rig.plan().unwrap();
        assert_eq!((named(&plan).len(), plan.request.forgotten_topics_data.len()), (0, 0));
        rig.silent();
        assert_eq!(rig.machine.poll_timeout(), None, "nothing to wake up for");
        rig.wait(MAX_WAIT);
        rig.answer_by(&mut broker, &plan, []);
        rig.events();
    }
    // One has data: it alone is named again, with where it goes on.
    let plan = rig.plan().unwrap();
    rig.answer_by(&mut broker, &plan, [data(500, batch(0, 3))]);
    assert_eq!(rig.events(), ["500: 0..3"]);
    let plan = rig.plan().unwrap();
    assert_eq!((named(&plan), plan.request.topics[0].partitions[0].fetch_offset), (vec![500], 3));
    assert_eq!(broker.sessions.len(), 1);
}

/// Row 15, rule 48: two topics of one name, of which one is deleted, are two in the request.
#[test]
fn a_topic_that_was_made_again_is_asked_for_by_its_own_id() {
    let mut rig = Rig::new(1);
    rig.credit.assign(0..2);
    rig.machine.add(Route { topic_id: Uuid([8; 16]), ..route(1, 0, 5) });
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    let asked = plan.request.topics.iter().map(|topic| (topic.topic_id, topic.partitions[0].fetch_offset));
    assert_eq!(asked.collect::<Vec<_>>(), [(Uuid([7; 16]), 0), (Uuid([8; 16]), 5)]);
}

/// KIP-227, with the second lane: what was sought goes out at once, and comes back to its neighbours afterwards.
#[test]
fn a_seek_beside_a_hundred_idle_partitions_is_one_request_for_it_alone() {
    let (mut rig, mut broker) = (Rig::new(101), Broker::default());
    for _ in 0..2 {
        let plan = rig.plan().unwrap();
        rig.wait(MAX_WAIT);
        rig.answer_by(&mut broker, &plan, (0..101).map(empty));
        assert!(rig.events().is_empty());
    }
    let waiting = rig.ask(LaneKind::Waiting, &[]);
    rig.machine.add(route(7, 1, 40));
    let plan = rig.ask(LaneKind::Immediate, &[7]);
    assert_eq!((plan.max_wait, plan.request.session_epoch), (Duration::ZERO, 0));
    rig.answer_by(&mut broker, &plan, [data(7, batch(40, 2))]);
    assert_eq!(rig.events(), ["7: 40..42"]);
    let plan = rig.ask(LaneKind::Immediate, &[7]);
    rig.answer_by(&mut broker, &plan, []);
    rig.events();
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &waiting, []);
    assert!(rig.events().is_empty());
    let plan = rig.ask(LaneKind::Waiting, &[7]);
    assert_eq!(plan.request.topics[0].partitions[0].fetch_offset, 42);
    assert_eq!(broker.sessions.len(), 2, "a session for each lane");
}

/// Rule 40, row 26: a broker that lost its sessions is told everything at once.
#[test]
fn evicted_sessions_cost_one_round_trip() {
    for evict in [
        |broker: &mut Broker| broker.sessions.clear(),
        |broker: &mut Broker| broker.sessions.get_mut(&1).unwrap().0 = 99,
    ] {
        let (mut rig, mut broker) = (Rig::new(3), Broker::default());
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        rig.answer_by(&mut broker, &plan, [data(0, batch(0, 1)), data(1, batch(0, 1)), data(2, batch(0, 1))]);
        rig.events();
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        assert_eq!((plan.request.session_id, plan.request.session_epoch), (1, 1));
        evict(&mut broker);
        rig.answer_by(&mut broker, &plan, []);
        assert_eq!((rig.events().len(), rig.credit.used()), (0, 3 * batch(0, 1).len()));
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        assert_eq!(plan.request.session_epoch, 0);
        rig.answer_by(&mut broker, &plan, [data(2, batch(1, 1))]);
        assert_eq!(rig.events(), ["2: 1..2"]);
        assert_eq!(broker.sessions.len(), 1, "no session is left behind");
    }
}

/// Rule 41: a topic that was made again leaves nothing behind in the session, so its neighbours go on undisturbed.
#[test]
fn a_dead_entry_is_evicted_from_the_session() {
    let (mut rig, mut broker) = (Rig::new(2), Broker::default());
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer_by(&mut broker, &plan, [data(0, batch(0, 1)), data(1, batch(0, 1))]);
    rig.events();
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer_by(&mut broker, &plan, [refused(0, ErrorCode::INCONSISTENT_TOPIC_ID), data(1, batch(1, 1))]);
    assert_eq!(rig.events(), ["stale", "0 released at 1: Moved(INCONSISTENT_TOPIC_ID (103))", "1: 1..2"]);
    let plan = rig.ask(LaneKind::Waiting, &[1]);
    let forgotten: Vec<_> = plan.request.forgotten_topics_data.iter().map(|topic| topic.partitions.clone()).collect();
    assert_eq!(forgotten, [[0]]);
    rig.answer_by(&mut broker, &plan, [data(1, batch(2, 1))]);
    assert_eq!(rig.events(), ["1: 2..3"]);
}

/// A place in the broker's memory is given back when nothing is fetched any more, though not at once.
#[test]
fn sessions_that_nobody_needs_are_ended() {
    let (mut rig, mut broker) = (Rig::new(2), Broker::default());
    let waiting = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer_by(&mut broker, &waiting, [data(0, batch(0, 1))]);
    rig.events();
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.add(route(1, 1, 5));
    let immediate = rig.ask(LaneKind::Immediate, &[1]);
    rig.answer_by(&mut broker, &immediate, [data(1, batch(5, 1))]);
    rig.machine.recall(0, 0);
    rig.machine.recall(1, 1);
    rig.events();
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &waiting, []);
    rig.wait(ms(0));
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(1_000)));
    // It comes back in time, and goes again.
    rig.wait(ms(999));
    rig.machine.add(route(0, 2, 1));
    rig.wait(ms(5_000));
    assert!(rig.events().is_empty());
    rig.machine.recall(0, 2);
    rig.wait(ms(0));
    rig.events();
    rig.wait(ms(1_000));
    assert_eq!(rig.events(), ["session 1 is over", "session 2 is over"]);
    assert_eq!(rig.machine.poll_timeout(), None);
    for id in [1, 2] {
        broker.open(&Fetch::farewell(id)).unwrap();
    }
    assert!(broker.sessions.is_empty());
    // Whoever comes now begins anew; and who closes ends what there is, once.
    rig.machine.add(route(0, 3, 1));
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!((plan.request.session_id, plan.request.session_epoch), (0, 0));
    rig.answer_by(&mut broker, &plan, []);
    assert_eq!((rig.machine.end_sessions(), rig.machine.end_sessions()), (vec![3], vec![]));
}
