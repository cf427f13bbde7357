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

/// Three partitions at their ends, which the last answer did not mention: they stand as the broker knows them.
fn three_that_stand() -> (Rig, Broker) {
    let (mut rig, mut broker) = (Rig::new(3), Broker::default());
    for news in [vec![empty(0), empty(1), empty(2)], Vec::new()] {
        let plan = rig.plan().unwrap();
        rig.wait(MAX_WAIT);
        rig.answer_by(&mut broker, &plan, news);
        rig.events();
    }
    (rig, broker)
}

fn forgotten(plan: &Plan) -> Vec<i32> {
    plan.request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone()).collect()
}

/// KIP-227: neither the broker nor anybody here has anything to do with those to which nothing happened.
#[test]
fn whoever_an_answer_does_not_mention_stands() {
    let (mut rig, mut broker) = three_that_stand();
    let reserved = rig.credit.used_by(0);
    assert!(reserved > 0, "its credit stays its own");
    for n in 0..3 {
        let plan = rig.plan().unwrap();
        assert_eq!(named(&plan), if n == 0 { vec![] } else { vec![1] });
        // In whole batches.
        assert!((3 << 20) - plan.request.max_bytes < 100, "the answer has room for all three");
        rig.answer_by(&mut broker, &plan, [data(1, batch(n, 1))]);
        let Some(Event::Answered { id, .. }) = rig.machine.poll_event() else { panic!("nothing came") };
        assert_eq!(id, 1);
        rig.credit.give_back(1, rig.credit.used_by(1));
        assert!(rig.machine.poll_event().is_none(), "of the others there is nothing to tell");
        assert_eq!([0, 2].map(|id| rig.credit.used_by(id)), [reserved; 2]);
    }
    assert_eq!(broker.sessions[&1].1.len(), 3, "the broker knows them all");
}

/// What is paused is not asked for from the next request on, and holds no credit.
#[test]
fn what_stands_is_paused_between_two_requests() {
    let (mut rig, mut broker) = three_that_stand();
    rig.machine.pause(1, true);
    assert!(rig.events().is_empty());
    assert_eq!(rig.credit.used_by(1), 0);
    let plan = rig.ask(LaneKind::Waiting, &[]);
    assert_eq!(forgotten(&plan), [1]);
    // And while a request is under way: it asks for it still, the next one does not.
    rig.machine.pause(2, true);
    rig.answer_by(&mut broker, &plan, []);
    assert!(rig.events().is_empty());
    assert_eq!((rig.credit.used_by(0) > 0, rig.credit.used_by(2)), (true, 0));
    rig.wait(ms(500));
    let plan = rig.ask(LaneKind::Waiting, &[]);
    assert_eq!(forgotten(&plan), [2]);
    // They come back on the other lane, and are in this one's session again later.
    [1, 2].into_iter().for_each(|id| rig.machine.pause(id, false));
    let resumed = rig.ask(LaneKind::Immediate, &[1, 2]);
    rig.answer_by(&mut broker, &resumed, [data(1, batch(0, 1)), empty(2)]);
    assert_eq!(rig.events(), ["1: 0..1"]);
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &plan, []);
    rig.events();
    let plan = rig.ask(LaneKind::Waiting, &[2, 1]);
    assert_eq!(plan.request.topics[0].partitions[1].fetch_offset, 1);
}

/// What is sought, or leaves, between two requests is not what stood.
#[test]
fn what_stands_is_sought_and_recalled_between_two_requests() {
    let (mut rig, mut broker) = three_that_stand();
    rig.machine.add(route(1, 1, 40));
    rig.machine.recall(2, 0);
    assert_eq!(rig.events(), ["2 released at 0: Recalled"]);
    assert_eq!((rig.credit.used_by(1), rig.credit.used_by(2)), (0, 0));
    let plan = rig.ask(LaneKind::Waiting, &[1]);
    assert_eq!((plan.request.topics[0].partitions[0].fetch_offset, forgotten(&plan)), (40, vec![2]));
    rig.answer_by(&mut broker, &plan, [data(1, batch(40, 2))]);
    assert_eq!(rig.events(), ["1: 40..42"]);
}

/// A request that is lost takes those that stand with it, and a session that is over: everything is named again.
#[test]
fn nobody_stands_in_a_session_that_is_over() {
    for loses in [true, false] {
        let (mut rig, mut broker) = three_that_stand();
        let plan = rig.ask(LaneKind::Waiting, &[]);
        if loses {
            rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
            assert_eq!(rig.events(), ["stale"]);
        } else {
            broker.sessions.clear();
            rig.answer_by(&mut broker, &plan, []);
            assert!(rig.events().is_empty());
        }
        assert_eq!(rig.credit.used(), 0);
        rig.wait(ms(1_000));
        let plan = rig.plan().unwrap();
        assert_eq!((named(&plan).len(), plan.request.session_epoch), (3, 0));
        // Of this answer each has to be in: it is about them all.
        rig.answer_by(&mut broker, &plan, [data(0, batch(0, 1)), empty(1)]);
        assert_eq!(rig.events(), ["0: 0..1"]);
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        assert_eq!(forgotten(&plan), [2], "it was left out, and pauses");
    }
}

/// A broker that answers with another session than that it was asked in has forgotten this one, and all that stood in it.
#[test]
fn whoever_stands_is_named_when_another_session_begins() {
    let (mut rig, mut broker) = three_that_stand();
    let plan = rig.ask(LaneKind::Waiting, &[]);
    rig.answer_as(&plan, FetchResponse { session_id: 99, ..response([data(1, batch(0, 1))]) });
    assert_eq!(rig.events(), ["1: 0..1"]);
    let plan = rig.ask(LaneKind::Waiting, &[1, 0, 2]);
    assert_eq!((plan.request.session_id, plan.request.session_epoch), (1, 0));
    rig.answer_by(&mut broker, &plan, [empty(0), empty(1), data(2, batch(0, 1))]);
    assert_eq!(rig.events(), ["2: 0..1"]);
    assert_eq!(broker.sessions.len(), 1, "the one before was replaced");
}

/// More partitions have smaller shares, and those that were there first are asked for no more than theirs.
#[test]
fn what_stands_holds_no_more_than_its_share() {
    for is_under_way in [false, true] {
        let (mut rig, mut broker) = three_that_stand();
        let plan = is_under_way.then(|| rig.ask(LaneKind::Waiting, &[]));
        rig.credit.assign(0..300);
        (3..300).for_each(|id| rig.machine.add(route(id, 0, 0)));
        let share = rig.credit.share();
        assert!(rig.credit.used_by(0) > share);
        if let Some(plan) = plan {
            let immediate = rig.plan().unwrap();
            assert_eq!((immediate.lane, named(&immediate).len()), (LaneKind::Immediate, 297));
            rig.wait(MAX_WAIT);
            rig.answer_by(&mut broker, &plan, []);
            rig.events();
        }
        let plan = rig.plan().unwrap();
        assert_eq!((plan.lane, rig.credit.used_by(0)), (LaneKind::Waiting, share), "{is_under_way}");
        assert!(named(&plan).starts_with(&[0, 1, 2]));
    }
}
