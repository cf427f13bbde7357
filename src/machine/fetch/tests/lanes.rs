//! What goes out when, on which lane, and what comes back for whom.

use super::*;

#[test]
fn what_was_fetched_is_handed_on_and_fetching_goes_on_behind_it() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    assert_eq!((plan.request.max_wait_ms, plan.request.min_bytes, plan.max_version), (500, 1, FETCH_LAST));
    assert_eq!(plan.request.max_bytes, 2 << 20, "no more than what is reserved");
    assert_eq!((plan.request.session_id, plan.request.session_epoch), (0, 0), "it asks for a session");
    let first = &plan.request.topics[0].partitions[0];
    assert_eq!((first.fetch_offset, first.current_leader_epoch, first.partition_max_bytes), (0, 3, 1 << 20));
    rig.silent();
    rig.answer(&plan, [data(0, set(&[(0, 5), (5, 5)])), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..10"]);
    let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
    assert_eq!(plan.request.topics[0].partitions[1].fetch_offset, 10, "whoever had data last comes last");
    rig.answer(&plan, [empty(1), data(0, set(&[(10, 1)]))]);
    assert_eq!(rig.events(), ["0: 10..11"]);
}

#[test]
fn one_topic_without_an_id_keeps_the_request_to_names() {
    let mut rig = Rig::new(1);
    rig.credit.assign([0, 9]);
    rig.machine.add(Route { topic: "old".into(), topic_id: Uuid::ZERO, ..route(9, 0, 0) });
    let plan = rig.plan().unwrap();
    assert_eq!(plan.max_version, 12);
    let by_name = |topic: &str, data| FetchableTopicResponse {
        topic: topic.into(),
        partitions: vec![data].into(),
        ..Default::default()
    };
    let responses = vec![by_name("t", data(0, batch(0, 1))), by_name("old", data(9, batch(0, 2)))].into();
    rig.answer_as(&plan, FetchResponse { responses, ..Default::default() });
    assert_eq!(rig.events(), ["0: 0..1", "9: 0..2"]);
}

#[test]
fn a_partition_that_comes_while_others_wait_goes_out_at_once_on_the_other_lane() {
    let mut rig = Rig::new(1);
    rig.credit.assign([0, 1]);
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.wait(ms(100));
    rig.machine.add(route(1, 0, 0));
    let plan = rig.ask(LaneKind::Immediate, &[1]);
    assert_eq!(plan.max_wait, Duration::ZERO);
    rig.answer(&plan, [data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["1: 0..1"]);
    // As long as there is data it is asked for at once; at the end of the log, with short pauses.
    let plan = rig.ask(LaneKind::Immediate, &[1]);
    assert_eq!(plan.max_wait, Duration::ZERO);
    rig.answer(&plan, [empty(1)]);
    let mut probes = 0;
    while let Some(due) = rig.machine.poll_timeout() {
        assert_eq!(due, rig.now + ms(20));
        rig.silent();
        rig.wait(ms(20));
        let plan = rig.ask(LaneKind::Immediate, &[1]);
        assert_eq!(plan.max_wait, ms(0), "it never waits at the broker: a seek may come");
        rig.answer(&plan, [empty(1)]);
        assert!(rig.events().is_empty());
        probes += 1;
    }
    // Shortly before the waiting lane is back it is left alone, so that both go out together.
    assert_eq!(probes, 18);
    rig.silent();
    rig.wait(ms(40));
    rig.answer(&waiting, [empty(0)]);
    rig.ask(LaneKind::Waiting, &[0, 1]);
    assert!(rig.events().is_empty());
}

#[test]
fn what_was_asked_before_a_seek_is_dropped_and_nobody_elses() {
    let mut rig = Rig::new(2);
    let old = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.add(route(0, 1, 700));
    assert!(rig.events().is_empty());
    assert_eq!(rig.credit.used(), 1 << 20, "its old reservation is void");
    let new = rig.ask(LaneKind::Immediate, &[0]);
    assert_eq!(new.request.topics[0].partitions[0].fetch_offset, 700);
    rig.answer(&old, [data(0, batch(0, 5)), data(1, batch(0, 3))]);
    assert_eq!(rig.events(), ["1: 0..3"]);
    // The partition is out on the other lane still.
    rig.ask(LaneKind::Waiting, &[1]);
    rig.answer(&new, [data(0, batch(700, 2))]);
    assert_eq!(rig.events(), ["0: 700..702"]);
}

/// What is answered is of a partition that another member has by now, or that was sought: its neighbours go on at once, for
/// no broker has answered too early. The next answer that helps nobody is one.
#[test]
fn what_left_delays_no_neighbour() {
    let recall = |rig: &mut Rig| rig.machine.recall(0, 0);
    let seek = |rig: &mut Rig| {
        rig.machine.add(route(0, 1, 700));
        rig.ask(LaneKind::Immediate, &[0]);
    };
    for leave in [recall as fn(&mut Rig), seek] {
        let mut rig = Rig::new(2);
        let old = rig.ask(LaneKind::Waiting, &[0, 1]);
        leave(&mut rig);
        rig.events();
        rig.wait(ms(1));
        rig.answer(&old, [data(0, batch(0, 5)), empty(1)]);
        assert!(rig.events().is_empty());
        let plan = rig.ask(LaneKind::Waiting, &[1]);
        rig.wait(ms(1));
        rig.answer(&plan, [empty(1)]);
        rig.silent();
    }
}

#[test]
fn what_left_and_came_back_is_not_given_what_was_asked_before() {
    let mut rig = Rig::new(1);
    let old = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.recall(0, 99);
    assert!(rig.events().is_empty(), "asked back under a generation that it has not");
    rig.machine.recall(0, 0);
    assert_eq!(rig.events(), ["0 released at 0: Recalled"]);
    rig.machine.recall(0, 0);
    assert!(rig.machine.partitions.is_empty() && rig.events().is_empty());
    rig.machine.add(route(0, 0, 0));
    let new = rig.ask(LaneKind::Immediate, &[0]);
    rig.answer(&old, [data(0, batch(0, 5))]);
    assert!(rig.events().is_empty());
    rig.answer(&new, [data(0, batch(0, 5))]);
    assert_eq!(rig.events(), ["0: 0..5"]);
    assert_eq!(rig.credit.used(), batch(0, 5).len());
}

/// Rule 52.
#[test]
fn a_paused_partition_is_not_asked_for_and_what_is_under_way_is_kept() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.pause(0, true);
    rig.answer(&plan, [data(0, batch(0, 3)), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..3"]);
    rig.wait(MAX_WAIT);
    let waiting = rig.ask(LaneKind::Waiting, &[1]);
    rig.silent();
    rig.machine.pause(0, false);
    let plan = rig.ask(LaneKind::Immediate, &[0]);
    assert_eq!((plan.max_wait, plan.request.topics[0].partitions[0].fetch_offset), (Duration::ZERO, 3));
    rig.answer(&waiting, []);
}

/// One whose time came while the lane was busy, shortly before the waiting lane is back: it is left alone, and there is
/// nothing to wake up for.
#[test]
fn who_is_late_for_the_immediate_lane_wakes_nobody_up() {
    let mut rig = Rig::new(1);
    rig.credit.assign([0, 1, 2]);
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.add(route(1, 0, 0));
    let plan = rig.ask(LaneKind::Immediate, &[1]);
    rig.answer(&plan, [empty(1)]);
    rig.machine.add(route(2, 0, 0));
    let plan = rig.ask(LaneKind::Immediate, &[2]);
    rig.wait(ms(490));
    rig.answer(&plan, [empty(2)]);
    rig.silent();
    assert_eq!(rig.machine.poll_timeout(), None);
    rig.wait(ms(10));
    rig.answer(&waiting, [empty(0)]);
    rig.ask(LaneKind::Waiting, &[0, 1, 2]);
}

/// A partition whose first batch found no room in the answer is asked for again at once, and once.
#[test]
fn what_was_left_out_for_lack_of_room_is_not_taken_for_idle() {
    let mut rig = Rig::new(2);
    let left_out = |partition, high_watermark| PartitionData { high_watermark, ..empty(partition) };
    rig.machine.recall(1, 0);
    rig.events();
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.add(route(1, 1, 0));
    for wait in [0, 0, 20] {
        if wait > 0 {
            rig.silent();
        }
        rig.wait(ms(wait));
        let plan = rig.ask(LaneKind::Immediate, &[1]);
        rig.answer(&plan, [left_out(1, 100)]);
    }
    rig.answer(&waiting, [left_out(0, 0)]);
}
