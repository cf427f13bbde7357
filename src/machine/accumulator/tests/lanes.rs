//! The fast and the slow connection of a leader: what is overdue, stuck, silent or not there yet.

use super::*;

/// Of the partitions of a request for one topic.
fn indexes(request: &ProduceRequest) -> Vec<i32> {
    let [topic] = &request.topic_data[..] else { panic!("{request:?}") };
    topic.partition_data.iter().map(|data| data.index).collect()
}

/// Rows 6 and 12 of the fault table for one connection: the head is overdue, the broker answers others, so it goes on
/// alone, and what was caught behind it goes out again at once.
#[test]
fn an_overdue_head_moves_and_frees_what_is_behind_it() {
    let mut rig = Rig::new(3);
    rig.accumulator.handle_up(rig.now, LaneId::Fast, true);
    for id in 0..3 {
        rig.push(id, 0);
        let token = rig.token();
        rig.pass(ms(10));
        rig.respond(token, vec![ok(id, 0)]);
    }
    rig.events();
    rig.push(0, 1);
    let stuck = rig.token();
    rig.push(1, 2);
    rig.token();
    rig.pass(ms(49));
    assert_eq!(rig.events(), []);
    rig.pass(ms(1));
    assert_eq!(rig.events(), [Seen::Probe(LaneId::Fast, stuck)]);
    // Then others are asked, again and again; nothing is cut before the broker has answered anything.
    for _ in 0..2 {
        rig.pass(ms(100));
        assert_eq!(rig.events(), [Seen::Overdue]);
    }
    rig.accumulator.handle_probe(rig.now, LaneId::Fast, stuck + 1, true);
    rig.pass(ms(20));
    assert_eq!((rig.events(), rig.request()), (vec![], None));
    rig.accumulator.handle_probe(rig.now, LaneId::Fast, stuck, true);
    rig.pass(ms(19));
    assert_eq!(rig.events(), []);
    rig.pass(ms(1));
    assert_eq!(rig.events(), [Seen::Cut(LaneId::Fast)]);
    // Same bytes, same sequences: the neighbour at once, the culprit alone, and answered soon.
    let Send { lane, token, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.timeout_ms, indexes(&request)), (LaneId::Fast, 2000, vec![1]));
    rig.respond(token, vec![ok(1, 1)]);
    let Send { lane, token, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.timeout_ms, indexes(&request)), (LaneId::Slow, 20, vec![0]));
    assert_eq!(rig.events(), [Acknowledged(1, 2, Some(1))]);
    // Said before its time was up: it waits, and asks for more patience.
    rig.respond(token, vec![refused(0, ErrorCode::REQUEST_TIMED_OUT)]);
    assert_eq!(rig.request(), None);
    rig.pass(BACKOFF);
    let Send { lane, token, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.timeout_ms), (LaneId::Slow, 40));
    // It has waited at the broker: then it goes out again at once.
    rig.pass(ms(40));
    rig.respond(token, vec![refused(0, ErrorCode::REQUEST_TIMED_OUT)]);
    let Send { lane, token, request, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((lane, request.timeout_ms), (LaneId::Slow, 80));
    rig.push(2, 3);
    let neighbour = rig.token();
    rig.pass(ms(2));
    rig.respond(neighbour, vec![ok(2, 1)]);
    rig.respond(token, vec![ok(0, 1)]);
    rig.push(0, 4);
    assert_eq!(rig.accumulator.poll_request(rig.now).unwrap().lane, LaneId::Fast, "back after a success");
}

/// Nobody may be sent a second time without idempotence, and nothing waits for followers without acks=all.
#[test]
fn only_idempotent_producers_with_all_acks_have_two_lanes() {
    for (acks, is_idempotent) in [(-1, false), (1, false), (1, true)] {
        let mut rig = Rig::with(Config { acks, ..config() }, is_idempotent);
        rig.adopt(0);
        rig.accumulator.handle_up(rig.now, LaneId::Fast, true);
        rig.push(0, 1);
        let token = rig.token();
        rig.pass(ms(250));
        assert_eq!(rig.events(), [Seen::Overdue]);
        rig.accumulator.handle_probe(rig.now, LaneId::Fast, token, true);
        rig.pass(ms(1000));
        assert!(!rig.events().contains(&Seen::Cut(LaneId::Fast)));
        rig.respond(token, vec![ok(0, 0)]);
        assert_eq!(rig.events(), [Acknowledged(0, 1, Some(0))]);
    }
}

/// KIP-219: silence that the broker asked for is not its delay, nor is the time that a connection takes.
#[test]
fn an_answer_is_overdue_only_while_the_broker_has_the_request() {
    let mut rig = Rig::new(1);
    rig.accumulator.handle_up(rig.now, LaneId::Fast, false);
    rig.push(0, 1);
    let token = rig.token();
    // No connection yet: others are asked who leads, and nothing is held against this one.
    rig.pass(ms(250));
    assert_eq!(rig.events(), [Seen::Overdue]);
    rig.accumulator.handle_up(rig.now, LaneId::Fast, true);
    rig.accumulator.handle_muted(rig.now, LaneId::Fast, rig.now + ms(5000));
    rig.pass(ms(5249));
    assert_eq!(rig.events(), []);
    rig.pass(ms(1));
    assert_eq!(rig.events(), [Seen::Probe(LaneId::Fast, token)]);
    rig.pass(ms(100));
    assert_eq!(rig.events(), [Seen::Overdue]);
}

/// KIP-219: what expires while the broker wants silence was not handed over, so nothing behind it needs a new epoch.
#[test]
fn a_batch_that_expires_while_its_connection_is_muted_leaves_no_gap() {
    let mut rig = Rig::new(1);
    rig.push(0, 0);
    let token = rig.token();
    rig.accumulator.handle_muted(rig.now, LaneId::Fast, rig.now + DELIVERY + ms(1000));
    rig.respond(token, vec![ok(0, 0)]);
    assert_eq!(rig.events(), [Acknowledged(0, 0, Some(0))]);
    rig.push(0, 1);
    rig.pass(ms(2000));
    rig.push(0, 2);
    assert_eq!(rig.request(), None);
    rig.pass(DELIVERY - ms(2000));
    assert_eq!((rig.request(), rig.events()), (None, vec![Failed(0, 1, false)]));
    assert_eq!(rig.accumulator.poll_timeout(), Some(rig.now + ms(1000)));
    rig.pass(ms(1000));
    assert_eq!(rig.request(), Some((token + 1, vec![(0, 0, 1)])));
}

/// The same of a connection that is being made: one request waits for it, which is what makes it.
#[test]
fn a_batch_that_expires_before_there_is_a_connection_leaves_no_gap() {
    let mut rig = Rig::new(1);
    rig.push(0, 0);
    let token = rig.token();
    rig.respond(token, vec![ok(0, 0)]);
    rig.accumulator.handle_up(rig.now, LaneId::Fast, false);
    rig.push(0, 1);
    let token = rig.token();
    rig.pass(ms(1000));
    rig.push(0, 2);
    assert_eq!(rig.request(), None);
    rig.pass(DELIVERY - ms(1000));
    rig.events();
    rig.accumulator.handle_failed(rig.now, token, &CallError::NotSentInTime { api: ApiKey::PRODUCE }, MIDDLE);
    assert_eq!(rig.events().last(), Some(&Failed(0, 1, false)));
    rig.accumulator.handle_up(rig.now, LaneId::Fast, true);
    rig.pass(BACKOFF);
    assert_eq!(rig.request(), Some((token + 1, vec![(0, 0, 1)])));
}

/// What is refused for now goes on alone at once: it may hold the next request as long as the last.
#[test]
fn a_refusal_for_now_moves_a_partition_to_the_slow_lane() {
    let mut rig = Rig::new(2);
    rig.push(0, 1);
    rig.push(1, 2);
    let token = rig.token();
    rig.respond(token, vec![refused(0, ErrorCode::NOT_ENOUGH_REPLICAS), ok(1, 0)]);
    rig.pass(BACKOFF);
    rig.push(1, 3);
    let lanes: Vec<_> = (0..2).map(|_| rig.accumulator.poll_request(rig.now).unwrap().lane).collect();
    assert_eq!(lanes, [LaneId::Fast, LaneId::Slow]);
}

/// In trouble twice, it needs two answers to come back; what was listed as slow meanwhile must not wait for an event.
#[test]
fn what_waits_for_the_slow_lane_goes_out_on_the_fast_one() {
    let mut rig = Rig::new(1);
    for batch in 0..2 {
        rig.push(0, batch);
        let token = rig.token();
        rig.respond(token, vec![refused(0, ErrorCode::NOT_ENOUGH_REPLICAS)]);
        rig.pass(BACKOFF);
        let token = rig.token();
        rig.respond(token, vec![ok(0, 0)]);
    }
    rig.push(0, 2);
    let token = rig.token();
    rig.push(0, 3);
    assert_eq!(rig.request(), None, "one request at a time on the slow lane");
    rig.respond(token, vec![ok(0, 1)]);
    assert_eq!(rig.accumulator.poll_request(rig.now).map(|send| send.lane), Some(LaneId::Fast));
}

/// Row 3: a leader that is dead has moved soon, and its partitions' own attempts come ever more rarely. Others are asked all
/// the while, every 50 ms for ten seconds.
#[test]
fn others_are_asked_while_a_leader_is_in_doubt() {
    let mut rig = Rig::new(1);
    rig.push(0, 1);
    let start = rig.now;
    let token = rig.token();
    rig.fail(token, true);
    assert_eq!(rig.events(), [Seen::Refresh]);
    let mut asked = Vec::new();
    while rig.now < start + ms(9_000) {
        rig.pass(ms(10));
        asked.extend(rig.events().iter().filter(|event| **event == Seen::Overdue).map(|_| rig.now - start));
    }
    let often: Vec<_> = (1..=180).map(|n| ms(50 * n)).collect();
    assert_eq!(asked, often);
    // A new leader was found: nobody is asked any more.
    rig.accumulator.release(rig.now, 0);
    assert_eq!(rig.events().last(), Some(&Left(0)));
    rig.pass(ms(5_000));
    assert_eq!((rig.events(), rig.accumulator.poll_timeout()), (vec![], None));
}

/// Partitions that wait for the same follower: the first that gets through tells the others not to wait on.
#[test]
fn a_stuck_partition_that_gets_through_ends_the_back_off_of_others() {
    let mut rig = Rig::new(3);
    (0..3).for_each(|id| rig.push(id, id));
    let token = rig.token();
    let refusals = (0..3).map(|id| refused(id, ErrorCode::NOT_ENOUGH_REPLICAS)).collect();
    rig.respond(token, refusals);
    assert_eq!(rig.request(), None);
    rig.pass(BACKOFF);
    for id in 0..2 {
        let (token, stamps) = rig.request().unwrap();
        assert_eq!(stamps, [(id, 0, 0)]);
        rig.respond(token, vec![refused(id, ErrorCode::NOT_ENOUGH_REPLICAS)]);
    }
    let (token, stamps) = rig.request().unwrap();
    assert_eq!((stamps, rig.request()), (vec![(2, 0, 0)], None));
    rig.respond(token, vec![ok(2, 0)]);
    assert_eq!(rig.partitions(), [0], "at once, though its back-off is 200 ms");
}

/// A partition that leaves while it waits for its turn on the slow lane, and comes back before that has come, has one turn:
/// a request that names a partition twice gets one answer for two batches. (Seed 9420 of the simulation.)
#[test]
fn a_partition_that_left_and_came_back_is_in_a_request_once() {
    let mut rig = Rig::new(2);
    (0..2).for_each(|id| rig.push(id, id));
    let token = rig.token();
    rig.respond(token, (0..2).map(|id| refused(id, ErrorCode::NOT_ENOUGH_REPLICAS)).collect());
    rig.pass(BACKOFF);
    let (slow, stamps) = rig.request().unwrap();
    assert_eq!((stamps, rig.request()), (vec![(0, 0, 0)], None), "one at a time");
    rig.accumulator.release(rig.now, 1);
    let (moving, _) = rig.left();
    rig.accumulator.adopt(rig.now, 1, moving, None);
    rig.push(1, 11);
    rig.push(1, 12);
    assert_eq!(rig.request(), None, "the slow lane is taken");
    rig.respond(slow, vec![ok(0, 0)]);
    let (token, stamps) = rig.request().unwrap();
    assert_eq!((stamps, rig.request()), (vec![(1, 0, 0)], None));
    rig.respond(token, vec![ok(1, 0)]);
    assert_eq!((rig.request().unwrap().1, rig.request().unwrap().1), (vec![(1, 0, 1)], vec![(1, 0, 2)]));
}

/// Partitions `ids`, with a batch each, as they come from a leader that was lost, where they had failed so often.
fn newcomers(rig: &mut Rig, ids: std::ops::Range<PartitionId>, failures: u32) {
    let mut former = Rig::new(ids.end);
    former.now = rig.now;
    for id in ids.clone() {
        former.push(id, id);
    }
    for _ in 0..failures {
        let token = former.token();
        former.fail(token, false);
        former.pass(ms(1_200));
    }
    rig.now = former.now;
    for id in ids {
        former.accumulator.release(former.now, id);
        let (moving, _) = former.left();
        rig.accumulator.adopt(rig.now, id, moving, None);
    }
}

/// Row 3: the followers of what a dead leader had have to find the new one. Those partitions wait for them together, and
/// nothing else at the new leader does.
#[test]
fn what_comes_from_another_leader_keeps_nobody_waiting() {
    let mut rig = Rig::new(1);
    newcomers(&mut rig, 1..4, 1);
    rig.push(0, 10);
    let fast = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((fast.lane, fast.request.topic_data[0].partition_data.len()), (LaneId::Fast, 1));
    let slow = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((slow.lane, slow.request.timeout_ms), (LaneId::Slow, 100));
    assert_eq!(indexes(&slow.request), [3, 2, 1]);
    rig.respond(fast.token, vec![ok(0, 0)]);
    // The answer to the one whose followers were late comes with the others'. It goes out again at once.
    rig.pass(ms(100));
    rig.respond(slow.token, vec![ok(1, 0), refused(2, ErrorCode::REQUEST_TIMED_OUT), ok(3, 0)]);
    (0..4).for_each(|id| rig.push(id, 20 + id));
    let fast = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((fast.lane, indexes(&fast.request)), (LaneId::Fast, vec![0, 1, 3]));
    let slow = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((slow.lane, slow.request.timeout_ms), (LaneId::Slow, 200));
    rig.respond(slow.token, vec![ok(2, 0)]);
    let last = rig.accumulator.poll_request(rig.now).unwrap();
    assert_eq!((last.lane, indexes(&last.request)), (LaneId::Fast, vec![2]));
}

/// Before there is a second connection a newcomer goes out on the first: making one may take longer than its followers do.
#[test]
fn a_newcomer_does_not_wait_for_a_connection() {
    let mut rig = Rig::new(0);
    rig.accumulator.handle_up(rig.now, LaneId::Slow, false);
    newcomers(&mut rig, 0..1, 1);
    assert_eq!(rig.accumulator.poll_request(rig.now).map(|send| send.lane), Some(LaneId::Fast));
}

/// What waits for a follower that is dead, up to half a second each, is not waited for.
#[test]
fn newcomers_go_before_what_has_long_been_slow() {
    let mut rig = Rig::new(3);
    (0..3).for_each(|id| rig.push(id, id));
    let token = rig.token();
    rig.respond(token, (0..3).map(|id| refused(id, ErrorCode::REQUEST_TIMED_OUT)).collect());
    rig.pass(BACKOFF);
    let (token, stamps) = rig.request().unwrap();
    assert_eq!(stamps, [(0, 0, 0)]);
    newcomers(&mut rig, 3..5, 1);
    rig.respond(token, vec![refused(0, ErrorCode::REQUEST_TIMED_OUT)]);
    let (token, stamps) = rig.request().unwrap();
    assert_eq!(stamps, [(4, 0, 0), (3, 0, 0)]);
    rig.pass(ms(100));
    rig.respond(token, vec![ok(3, 0), refused(4, ErrorCode::REQUEST_TIMED_OUT)]);
    assert_eq!(rig.partitions(), [4]);
}

/// One whose followers never come is not waited for by those that come later.
#[test]
fn a_newcomer_without_followers_is_alone_in_the_end() {
    let mut rig = Rig::new(0);
    newcomers(&mut rig, 0..1, 1);
    for patience in [100, 200, 400] {
        let slow = rig.accumulator.poll_request(rig.now).unwrap();
        assert_eq!((slow.lane, slow.request.timeout_ms), (LaneId::Slow, patience));
        rig.pass(ms(patience as u64));
        if patience == 400 {
            newcomers(&mut rig, 1..3, 1);
        }
        rig.respond(slow.token, vec![refused(0, ErrorCode::REQUEST_TIMED_OUT)]);
    }
    let (token, stamps) = rig.request().unwrap();
    assert_eq!((stamps, rig.request()), (vec![(2, 0, 0), (1, 0, 0)], None));
    rig.respond(token, vec![ok(1, 0), ok(2, 0)]);
    assert_eq!(rig.partitions(), [0]);
}

/// However long the old leader was away: a new one that has not heard of its office yet is asked again soon.
#[test]
fn what_failed_at_the_former_leader_is_not_the_new_ones_back_off() {
    let mut rig = Rig::new(0);
    newcomers(&mut rig, 0..1, 6);
    let token = rig.token();
    rig.respond(token, vec![refused(0, ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
    rig.pass(BACKOFF - ms(1));
    assert_eq!(rig.request(), None);
    rig.pass(ms(1));
    let (token, stamps) = rig.request().unwrap();
    assert_eq!(stamps, [(0, 0, 0)]);
    // An answer that was kept back for the sake of others was pause enough.
    rig.pass(ms(100));
    rig.respond(token, vec![refused(0, ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
    assert_eq!(rig.partitions(), [0]);
}
