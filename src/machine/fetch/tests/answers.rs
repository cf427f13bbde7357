//! Refusals, failures, and answers that make no sense.

use super::*;

#[test]
fn each_error_has_its_way() {
    for (code, expected) in [
        (CODE_NOT_LEADER, vec!["stale", "0 released at 0: Moved(NOT_LEADER_OR_FOLLOWER (6))"]),
        (ErrorCode::UNKNOWN_TOPIC_ID, vec!["stale", "0 released at 0: Moved(UNKNOWN_TOPIC_ID (100))"]),
        (ErrorCode::FENCED_LEADER_EPOCH, vec!["stale", "0 released at 0: Moved(FENCED_LEADER_EPOCH (74))"]),
        (ErrorCode::OFFSET_OUT_OF_RANGE, vec!["0 released at 0: OutOfRange"]),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, vec!["0 released at 0: Refused(TOPIC_AUTHORIZATION_FAILED (29))"]),
        (ErrorCode(999), vec!["0 released at 0: Refused(error code 999)"]),
        // The leader is behind the client's picture: it will come to know.
        (ErrorCode::UNKNOWN_LEADER_EPOCH, vec![]),
        (ErrorCode::OFFSET_NOT_AVAILABLE, vec![]),
    ] {
        let mut rig = Rig::new(2);
        let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [refused(0, code), empty(1)]);
        assert_eq!(rig.events(), expected, "{code}");
        rig.ask(LaneKind::Waiting, &[1]);
        if expected.is_empty() {
            assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(100)));
            rig.wait(ms(100));
            rig.ask(LaneKind::Immediate, &[0]);
        }
    }
}

#[test]
fn damage_at_the_broker_is_tried_twice() {
    let mut rig = Rig::new(1);
    for expected in [vec![], vec!["0 released at 0: Refused(CORRUPT_MESSAGE (2))"]] {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [refused(0, ErrorCode::CORRUPT_MESSAGE)]);
        assert_eq!(rig.events(), expected);
        rig.wait(ms(100));
    }
}

#[test]
fn an_answer_that_helps_nobody_is_not_asked_for_at_round_trip_speed() {
    let mut rig = Rig::new(1);
    let started = rig.now;
    for _ in 0..10 {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.wait(ms(1));
        rig.answer(&plan, [empty(0)]);
        rig.silent();
        let due = rig.machine.poll_timeout().expect("a pause has an end");
        rig.wait(due - rig.now);
    }
    assert!(rig.now - started > ms(5_000), "{:?}", rig.now - started);
    // One that took its time is in order.
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.wait(MAX_WAIT);
    rig.answer(&plan, [empty(0)]);
    rig.ask(LaneKind::Waiting, &[0]);
}

#[test]
fn the_leader_as_a_whole_may_refuse_or_go_away() {
    for (code, expected) in [
        (ErrorCode::UNKNOWN_SERVER_ERROR, vec!["refused: UNKNOWN_SERVER_ERROR (-1)"]),
        (CODE_NOT_LEADER, vec!["stale"]),
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, vec![]),
    ] {
        let mut rig = Rig::new(2);
        let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
        rig.answer_as(&plan, FetchResponse { error_code: code, ..Default::default() });
        assert_eq!(rig.events(), expected);
        assert_eq!(rig.credit.used(), 0);
        rig.silent();
        rig.wait(ms(100));
        rig.ask(LaneKind::Waiting, &[0, 1]);
    }
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
    assert_eq!((rig.events(), rig.credit.used()), (vec!["stale".to_owned()], 0));
    rig.silent();
    rig.wait(ms(100));
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.handle_lanes_lost();
    assert_eq!((rig.events().len(), rig.credit.used()), (0, 0));
    // Its answer was on a connection that is gone; a token is known once.
    rig.answer(&plan, [data(0, batch(0, 1))]);
    assert!(rig.events().is_empty());
    rig.ask(LaneKind::Waiting, &[0, 1]);
}

#[test]
fn hostile_answers_move_nothing_twice_and_nothing_that_was_not_asked() {
    let mut rig = Rig::new(3);
    rig.machine.recall(2, 0);
    rig.events();
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    let strange = [data(0, batch(0, 5)), data(0, batch(5, 5)), data(2, batch(0, 1)), data(-7, batch(0, 1))];
    let mut answer = response(strange);
    let mut topics: Vec<_> = answer.responses.iter().collect();
    topics.push(FetchableTopicResponse {
        topic_id: Uuid([8; 16]),
        partitions: vec![data(0, batch(0, 9))].into(),
        ..Default::default()
    });
    answer.responses = topics.into();
    rig.answer_as(&plan, answer);
    assert_eq!(rig.events(), ["0: 0..5"]);
    // Partition 1 was left out of the answer: asked again, but not at once.
    rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(100)));
}

/// KIP-392: the leader says where to fetch, and sends nothing.
#[test]
fn a_preferred_replica_takes_the_partition() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    let preferred = PartitionData { preferred_read_replica: 4, ..empty(0) };
    rig.answer(&plan, [preferred, data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["0 released at 0: Preferred(4)", "1: 0..1"]);
}

/// KIP-951: the broker that does not lead says who does, and where that is.
#[test]
fn who_leads_now_is_passed_on() {
    use crate::wire::leader::fetch::{LeaderIdAndEpoch, NodeEndpoint};
    let leader = |leader_id, leader_epoch| LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
    for (code, current_leader, expected) in [
        (CODE_NOT_LEADER, leader(2, 4), Some("t-0: 2 leads at Some(\"b2:9092\") in 4")),
        (ErrorCode::FENCED_LEADER_EPOCH, leader(3, 4), Some("t-0: 3 leads at None in 4")),
        // No hint, half of one, and one beside an error that is about something else.
        (CODE_NOT_LEADER, leader(-1, -1), None),
        (CODE_NOT_LEADER, leader(2, -1), None),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, leader(2, 4), None),
    ] {
        let mut rig = Rig::new(1);
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        let endpoint = NodeEndpoint { node_id: 2, host: "b2".into(), port: 9092, ..Default::default() };
        let answer = response([PartitionData { current_leader, ..refused(0, code) }]);
        rig.answer_as(&plan, FetchResponse { node_endpoints: vec![endpoint].into(), ..answer });
        let events = rig.events();
        assert_eq!(events.iter().map(String::as_str).find(|event| event.contains("leads")), expected, "{code}");
        assert!(events.iter().any(|event| event.starts_with("0 released at 0")), "{events:?}");
    }
}

/// Rule 46: the leader would name the replica again that is down, and send nothing.
#[test]
fn a_leader_is_not_told_where_the_client_is_while_it_alone_will_do() {
    let mut rig = Rig::new(2);
    rig.machine.config.rack = "a".into();
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    assert_eq!(&*plan.request.rack_id, "a");
    rig.answer(&plan, [data(0, batch(0, 1)), data(1, batch(0, 1))]);
    rig.events();
    rig.machine.add(Route { leader_until: Some(rig.now + ms(1_000)), ..route(1, 1, 0) });
    for expected in ["", "a"] {
        let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
        assert_eq!(&*plan.request.rack_id, expected);
        rig.wait(ms(1_000));
        rig.answer(&plan, [data(0, batch(1, 1)), data(1, batch(0, 1))]);
        rig.events();
        if expected.is_empty() {
            rig.machine.add(route(0, 1, 1));
            rig.machine.add(Route { leader_until: Some(rig.now), ..route(1, 2, 0) });
        }
    }
}

/// Rule 46: a replica that does not answer sends its partitions home; a leader keeps its own.
#[test]
fn a_nearby_replica_that_fails_keeps_nothing() {
    let mut rig = Rig::new(3);
    rig.machine.add(Route { is_nearby: true, ..route(1, 1, 0) });
    let plan = rig.ask(LaneKind::Waiting, &[0, 2, 1]);
    // Sought since: it is not in that request any more.
    rig.machine.add(Route { is_nearby: true, ..route(2, 1, 5) });
    rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
    assert_eq!(rig.events(), ["stale", "1 released at 0: Unreachable"]);
    rig.wait(ms(100));
    rig.ask(LaneKind::Waiting, &[0, 2]);
}
