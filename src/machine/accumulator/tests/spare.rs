//! The spare connections: who goes over them, and when.

use super::*;

/// A leader that takes a millisecond, and is late with what partition 0 has sent.
fn late(partitions: u32) -> Rig {
    let mut rig = Rig::new(partitions);
    rig.set_spare(true);
    let idle = rig.sent(0);
    rig.pass(ms(1));
    rig.respond(idle.1, vec![ok(0, 0)]);
    assert_eq!(rig.sent(0).0, LaneId::Fast);
    rig.pass(ms(3));
    rig.events();
    rig
}

impl Rig {
    /// The spare connections are made, or gone.
    fn set_spare(&mut self, is_up: bool) {
        LaneId::SPARE.into_iter().for_each(|lane| self.accumulator.handle_up(self.now, lane, is_up));
    }

    /// A batch of the partition goes out: where, and under which token.
    fn sent(&mut self, id: PartitionId) -> (LaneId, Token) {
        self.push(id, id);
        let Send { lane, token, .. } = self.accumulator.poll_request(self.now).expect("something to send");
        (lane, token)
    }
}

/// A broker serves a connection one request at a time: what is behind a slow one waits for it. So each goes where it is alone,
/// as long as there is room.
#[test]
fn a_small_request_does_not_stand_in_line_behind_a_late_one() {
    let mut rig = late(5);
    let [one, two, three] = [1, 2, 3].map(|id| rig.sent(id));
    assert_eq!([one.0, two.0, three.0], [LaneId::Spare0, LaneId::Spare1, LaneId::Fast]);
    // The next of a partition waits for the one that is on another connection, and comes with what was sent meanwhile.
    rig.push(1, 11);
    rig.push(1, 12);
    assert_eq!(rig.request(), None);
    rig.respond(one.1, vec![ok(1, 0)]);
    assert_eq!(rig.events(), [Acknowledged(1, 1, Some(0))]);
    let Send { lane, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!(lane, LaneId::Spare0);
}

/// Whatever the leader's pace: once there is a connection, nothing is won by leaving it idle.
#[test]
fn a_small_request_does_not_stand_in_line_behind_one_that_is_in_time() {
    let mut rig = Rig::new(4);
    rig.set_spare(true);
    assert_eq!([0, 1, 2, 3].map(|id| rig.sent(id).0), [LaneId::Fast, LaneId::Spare0, LaneId::Spare1, LaneId::Fast]);
    assert_eq!(rig.events(), []);
}

/// What may not overtake its own partition's batches goes behind them.
#[test]
fn what_has_something_in_flight_stays_behind_it() {
    let mut rig = late(2);
    // Its second may be in flight beside the first, since one was acknowledged; but on the same connection.
    assert_eq!(rig.sent(0).0, LaneId::Fast);
    assert_eq!(rig.sent(1).0, LaneId::Spare0);
}

/// None more is made unless the leader is late: beyond twice the quickest. What is answered right behind another was not as
/// quick as that.
#[test]
fn a_leader_that_is_in_time_has_one_connection() {
    let mut rig = late(3);
    rig.set_spare(false);
    rig.respond(1, vec![ok(0, 1)]);
    for round in 0..20 {
        let quick = rig.sent(0).1;
        rig.pass(ms(1));
        rig.respond(quick, vec![ok(0, round)]);
        let token = rig.sent(0).1;
        rig.pass(ms(2));
        assert_eq!(rig.sent(1).0, LaneId::Fast);
        rig.respond(token, vec![ok(0, round)]);
        rig.respond(token + 1, vec![ok(1, round)]);
    }
    let is_open = |event: &Seen| matches!(event, Seen::Open(_));
    assert!(!rig.events().iter().any(is_open));
    let quick = rig.sent(0).1;
    rig.pass(ms(1));
    rig.respond(quick, vec![ok(0, 20)]);
    rig.sent(0);
    rig.pass(ms(2) + Duration::from_micros(1));
    rig.sent(1);
    assert!(rig.events().iter().any(is_open), "a moment later it is late");
}

/// How soon a connection breaks says nothing about how soon its broker answers.
#[test]
fn a_request_that_is_lost_tells_no_pace() {
    let mut rig = Rig::new(2);
    let token = rig.sent(0).1;
    rig.fail(token, true);
    rig.pass(BACKOFF);
    let token = rig.token();
    rig.pass(ms(10));
    rig.respond(token, vec![ok(0, 0)]);
    rig.sent(0);
    rig.pass(ms(15));
    rig.events();
    assert_eq!((rig.sent(1).0, rig.events()), (LaneId::Fast, vec![]), "no connection more is made");
}

/// Where there is much to send, more and smaller requests would only cost more.
#[test]
fn large_requests_stay_together() {
    let mut rig = late(4);
    rig.push_large(1, 1, 20 << 10);
    assert_eq!(rig.accumulator.poll_request(rig.now).unwrap().lane, LaneId::Fast);
    // Nor what is small one by one.
    (2..4).for_each(|id| rig.push_large(id, id, 10 << 10));
    let Send { lane, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.topic_data[0].partition_data.len()), (LaneId::Fast, 2));
    let mut rig = late(30);
    (1..30).for_each(|id| rig.push(id, id));
    let Send { lane, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.topic_data[0].partition_data.len()), (LaneId::Fast, 29));
}

/// Nobody waits for a connection to be made, and none is made that nothing would have gone over.
#[test]
fn connections_are_made_when_there_is_use_for_them() {
    let mut rig = late(6);
    rig.set_spare(false);
    assert_eq!((rig.sent(1).0, rig.events()), (LaneId::Fast, vec![Seen::Open(LaneId::Spare0)]));
    assert_eq!((rig.sent(2).0, rig.events()), (LaneId::Fast, vec![Seen::Open(LaneId::Spare1)]));
    assert_eq!((rig.sent(3).0, rig.events()), (LaneId::Fast, vec![]), "both are being made");
    rig.accumulator.handle_up(rig.now, LaneId::Spare1, true);
    assert_eq!((rig.sent(4).0, rig.events()), (LaneId::Spare1, vec![]));
    // The other attempt has failed; the next request asks for another.
    rig.accumulator.handle_up(rig.now, LaneId::Spare0, false);
    assert_eq!((rig.sent(5).0, rig.events()), (LaneId::Fast, vec![Seen::Open(LaneId::Spare0)]));
}

/// KIP-219: a broker that asked for silence on one connection is not spoken to over another.
#[test]
fn silence_is_not_evaded() {
    let mut rig = late(2);
    rig.accumulator.handle_muted(rig.now, LaneId::Fast, rig.now + ms(1000));
    rig.push(1, 1);
    assert_eq!(rig.request(), None);
    // A spare one that is muted is left out.
    let mut rig = late(2);
    rig.accumulator.handle_muted(rig.now, LaneId::Spare0, rig.now + ms(1000));
    assert_eq!(rig.sent(1).0, LaneId::Spare1);
}

/// What gets stuck on a spare connection is treated as on the fast one: it goes on alone, over the slow one.
#[test]
fn what_is_overdue_on_a_spare_connection_is_cut_too() {
    let mut rig = late(2);
    let (lane, token) = rig.sent(1);
    assert_eq!(lane, LaneId::Spare0);
    rig.respond(token - 1, vec![ok(0, 1)]);
    rig.pass(ms(50));
    rig.accumulator.handle_probe(rig.now, lane, token, true);
    rig.pass(ms(10));
    assert_eq!(rig.events()[1..], [Seen::Probe(lane, token), Seen::Cut(lane)]);
    let Send { lane, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.topic_data[0].partition_data[0].index), (LaneId::Slow, 1));
}
