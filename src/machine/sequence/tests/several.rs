//! Several batches in flight: order, gaps, and what keeps its place.

use super::*;

/// Rule 6: a broker takes any first sequence, so the second batch waits until this leader has taken the first.
#[test]
fn more_than_one_is_sent_only_behind_a_success() {
    let mut rig = Rig::new();
    (1..8).for_each(|batch| rig.push(batch, 1));
    let (token, _) = rig.send();
    assert!(!rig.can_start() && rig.queue.is_in_flight());
    assert_eq!(rig.acknowledge(token + 1, 0), None, "an answer to something else");
    assert_eq!(rig.acknowledge(token, 5), Some((1, Ok(Some(5)))));
    assert_eq!(rig.acknowledge(token, 6), None, "one outcome for each attempt");
    let sequences: Vec<_> = (0..5).map(|_| rig.send().1.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert!(!rig.can_start(), "brokers recognise five");
    // Another leader has taken nothing yet.
    rig.queue.recall();
    assert_eq!(rig.send().1.sequence, 1);
    assert!(!rig.can_start());

    // Nor does a leader remember for ever who wrote before.
    let mut rig = Rig::proven();
    rig.pass(ms(60_000));
    (1..3).for_each(|batch| rig.push(batch, 1));
    rig.send();
    assert!(!rig.can_start());
}

/// The head of several in flight is refused for now: the same batches again, in order, one until the leader takes it.
#[test]
fn a_retry_of_several_keeps_their_order() {
    let mut rig = Rig::proven();
    (1..5).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..5).map(|_| rig.send()).collect();
    assert_eq!(rig.refuse(sent[0].0, NOT_YET), None);
    // Rule 1 and the Java rule: what is behind a gap is out of order for that, and keeps its place and bytes.
    assert_eq!(rig.refuse(sent[1].0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    assert!(!rig.can_start());
    rig.pass(BACKOFF);
    let (head, again) = rig.send();
    assert_eq!(again, sent[0].1);
    assert!(!rig.can_start());
    assert_eq!(rig.refuse(sent[2].0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    assert_eq!(rig.lose(sent[3].0, true), None);
    assert_eq!(rig.acknowledge(head, 2), Some((1, Ok(Some(2)))));
    for (_, bytes) in &sent[1..4] {
        assert_eq!(rig.send().1, *bytes);
    }
    assert_eq!(rig.queue.needs_newer_than(), None);
}

/// Rule 2: a broker knows its last five, so that what it may be asked about once more is never the sixth.
#[test]
fn nothing_goes_out_that_makes_a_broker_forget_the_head() {
    let mut rig = Rig::proven();
    (1..8).for_each(|batch| rig.push(batch, 1));
    let sent: Vec<_> = (1..6).map(|_| rig.send()).collect();
    assert_eq!(rig.refuse(sent[0].0, OPEN), None);
    for (token, offset) in sent[1..].iter().map(|(token, _)| *token).zip(2..) {
        assert_eq!(rig.acknowledge(token, offset), None);
    }
    // Whatever becomes of its second attempt, the third finds it among the five.
    let (token, again) = rig.send();
    assert_eq!(again, sent[0].1);
    assert!(!rig.can_start());
    assert_eq!(rig.refuse(token, OPEN), None);
    rig.pass(BACKOFF);
    let (token, again) = rig.send();
    assert_eq!(again, sent[0].1);
    assert!(!rig.can_start());
    assert_eq!(rig.acknowledge(token, 1), Some((1, Ok(Some(1)))));
    for batch in 2..6 {
        assert_eq!(rig.settled(), Some((batch, Ok(Some(i64::from(batch))))));
    }
    assert_eq!((rig.send().1.sequence, rig.send().1.sequence), (7, 8));
}

/// Rule 1: an answer may come before those of earlier batches, and is told behind them.
#[test]
fn batches_are_settled_in_the_order_in_which_they_were_sent() {
    let mut rig = Rig::proven();
    (1..4).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..4).map(|_| rig.send()).collect();
    assert_eq!(rig.refuse(sent[0].0, OPEN), None);
    assert_eq!(rig.acknowledge(sent[1].0, 4), None);
    assert_eq!(rig.acknowledge(sent[2].0, 6), None);
    // Only what is not known goes out again.
    let (token, again) = rig.send();
    assert_eq!(again, sent[0].1);
    assert!(!rig.can_start());
    assert_eq!(rig.acknowledge(token, 2), Some((1, Ok(Some(2)))));
    assert_eq!(rig.settled(), Some((2, Ok(Some(4)))));
    assert_eq!(rig.settled(), Some((3, Ok(Some(6)))));
    assert_eq!(rig.settled(), None);
}

/// A definite refusal behind a batch that has not ended says nothing yet: it is asked for again.
#[test]
fn a_refusal_counts_at_the_head_alone() {
    let mut rig = Rig::proven();
    (1..3).for_each(|batch| rig.push(batch, 2));
    let (first, second) = (rig.send().0, rig.send().0);
    assert_eq!(rig.refuse(first, OPEN), None);
    assert_eq!(rig.refuse(second, NEVER), None);
    rig.pass(BACKOFF);
    let first = rig.send().0;
    assert_eq!(rig.acknowledge(first, 2), Some((1, Ok(Some(2)))));
    let second = rig.send().0;
    assert_eq!(rig.refuse(second, NEVER), Some((2, Err(false))));
    rig.expect_sequence(3, 4);
}

/// Promise over rule 5: it fails alone; what was sent behind it was refused for the gap, and goes out under a new epoch.
#[test]
fn a_definite_rejection_before_others_gives_them_a_new_epoch() {
    let mut rig = Rig::proven();
    (1..4).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..4).map(|_| rig.send()).collect();
    assert_eq!(rig.refuse(sent[0].0, NEVER), Some((1, Err(false))));
    rig.push(4, 2);
    rig.identity = Some(SECOND);
    assert_eq!(rig.queue.needs_newer_than(), Some(FIRST));
    // Not before all of them have come back: a copy of theirs could still be taken under the old one.
    assert_eq!(rig.refuse(sent[1].0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    assert!(!rig.can_start());
    assert_eq!(rig.refuse(sent[2].0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    let (token, second) = rig.send();
    assert_eq!((second.epoch, second.sequence), (1, 0));
    assert!(!rig.can_start());
    assert_eq!(rig.acknowledge(token, 2), Some((2, Ok(Some(2)))));
    let rest: Vec<_> = (0..2).map(|_| rig.send().1).map(|sent| (sent.epoch, sent.sequence)).collect();
    assert_eq!(rest, [(1, 2), (1, 4)]);
}

/// The same, and the connection was lost: what may be in the log does not go out under another epoch.
#[test]
fn behind_a_gap_an_open_outcome_is_unknown() {
    let mut rig = Rig::proven();
    (1..4).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..4).map(|_| rig.send()).collect();
    assert_eq!(rig.refuse(sent[0].0, ErrorCode::UNKNOWN_PRODUCER_ID), None);
    assert_eq!(rig.lose(sent[1].0, true), None);
    assert_eq!(rig.refuse(sent[2].0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    rig.identity = Some(SECOND);
    rig.pass(ms(1200));
    let (token, first) = rig.send();
    assert_eq!((first.epoch, first.sequence), (1, 0));
    // In the order in which they were sent.
    assert_eq!(rig.acknowledge(token, 2), Some((1, Ok(Some(2)))));
    assert_eq!(rig.settled(), Some((2, Err(true))));
    let (_, third) = rig.send();
    assert_eq!((third.epoch, third.sequence), (1, 2));
}

/// Exception 3: an open batch ends as unknown at its deadline, and is tried on while what was sent behind it is open;
/// under another epoch those would be written twice.
#[test]
fn an_unknown_batch_keeps_its_place_for_those_behind_it() {
    let mut rig = Rig::proven();
    rig.push(1, 2);
    rig.pass(ms(5000));
    rig.push(2, 2);
    rig.push(3, 2);
    let sent: Vec<_> = (1..4).map(|_| rig.send()).collect();
    for (token, _) in &sent {
        assert_eq!(rig.lose(*token, true), None);
    }
    rig.pass(ms(5000));
    assert_eq!(rig.expire(), [(1, true)]);
    // In its place, with its bytes, and nothing new under this epoch.
    rig.push(4, 2);
    let (head, again) = rig.send();
    assert_eq!(again, sent[0].1);
    assert!(!rig.can_start());
    assert_eq!(rig.acknowledge(head, 2), None, "its receipts know already");
    for (index, batch) in [(1, 2), (2, 3)] {
        let (token, again) = rig.send();
        assert_eq!(again, sent[index].1);
        assert_eq!(rig.acknowledge(token, 4), Some((batch, Ok(Some(4)))));
    }
    assert!(!rig.can_start());
    assert_eq!(rig.queue.needs_newer_than(), Some(FIRST));
    rig.identity = Some(SECOND);
    let (_, next) = rig.send();
    assert_eq!((next.epoch, next.sequence), (1, 0));
}

/// Once nothing that was sent is open, it has no place to keep.
#[test]
fn unknown_batches_leave_together() {
    let mut rig = Rig::proven();
    (1..4).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..4).map(|_| rig.send().0).collect();
    for token in sent {
        assert_eq!(rig.lose(token, true), None);
    }
    rig.pass(DELIVERY);
    assert_eq!(rig.expire(), [(1, true), (2, true), (3, true)]);
    assert!(rig.queue.is_empty());
    rig.expect_new_epoch(4);
}

/// A client that slept finds all of its time up: what kept its place is in flight again, and those behind it end without it.
/// Whoever comes next waits for no answer to that. (Found by the simulation.)
#[test]
fn what_ends_behind_an_unknown_batch_in_flight_holds_up_nobody() {
    let mut rig = Rig::proven();
    (1..5).for_each(|batch| rig.push(batch, 2));
    let sent: Vec<_> = (1..5).map(|_| rig.send().0).collect();
    rig.pass(DELIVERY);
    assert_eq!(rig.refuse(sent[0], OPEN), Some((1, Err(true))));
    assert_eq!(rig.acknowledge(sent[1], 4), Some((2, Ok(Some(4)))));
    rig.send();
    assert_eq!(rig.refuse(sent[2], NEVER), Some((3, Err(false))));
    assert_eq!(rig.refuse(sent[3], NEVER), Some((4, Err(false))));
    assert!(rig.queue.is_empty());
    rig.expect_new_epoch(5);
}

/// Rule 9: while something is in flight the epoch stays, whatever others have gone on to.
#[test]
fn a_busy_partition_keeps_its_epoch() {
    let mut rig = Rig::proven();
    (1..4).for_each(|batch| rig.push(batch, 2));
    let (first, _) = rig.send();
    rig.identity = Some(SECOND);
    let (second, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (0, 4));
    rig.acknowledge(first, 2);
    rig.identity = None;
    let (third, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (0, 6));
    rig.acknowledge(second, 4);
    rig.acknowledge(third, 6);
    rig.push(5, 1);
    assert!(!rig.can_start());
    rig.identity = Some(SECOND);
    let (_, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (1, 0));
}

/// Row 28: in two, again and again, under the sequences that the batch had.
#[test]
fn a_batch_that_is_too_large_is_split() {
    let mut rig = Rig::proven();
    rig.push(1, 5);
    rig.push(2, 2);
    let (first, whole) = rig.send();
    let (second, behind) = rig.send();
    assert_eq!((whole.sequence, behind.sequence), (2, 7));
    assert_eq!(rig.refuse(first, ErrorCode::MESSAGE_TOO_LARGE), None);
    assert_eq!(rig.refuse(second, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), None);
    let (front, half) = rig.send();
    assert_eq!((half.epoch, half.sequence), (0, 2));
    assert!(half.count < 5 && half.bytes.len() < whole.bytes.len());
    assert_eq!(rig.refuse(front, ErrorCode::MESSAGE_TOO_LARGE), None);
    let mut seen = Vec::new();
    while rig.queue.batches.len() > 1 {
        let (token, part) = rig.send();
        seen.push((part.sequence, part.count));
        assert_eq!(rig.acknowledge(token, 0), Some((1, Ok(Some(0)))));
    }
    assert_eq!(seen.iter().map(|(_, count)| count).sum::<i32>(), 5);
    assert!(seen.iter().zip(&seen[1..]).all(|((sequence, count), next)| sequence + count == next.0), "{seen:?}");
    // The batch behind keeps its own.
    assert_eq!(rig.send().1, behind);

    // One record is what it is.
    let mut rig = Rig::new();
    rig.push(1, 1);
    let (token, _) = rig.send();
    assert_eq!(rig.refuse(token, ErrorCode::MESSAGE_TOO_LARGE), Some((1, Err(false))));
}

/// By name: without idempotence several may be under way, and each stands for itself.
#[test]
fn with_reordering_allowed_each_batch_ends_by_itself() {
    let mut rig = Rig { queue: queue(false, 3), ..Rig::without_idempotence() };
    (1..6).for_each(|batch| rig.push(batch, 1));
    let sent: Vec<_> = (1..4).map(|_| rig.send().0).collect();
    assert!(!rig.can_start());
    assert_eq!(rig.refuse(sent[0], NOT_YET), None);
    assert_eq!(rig.acknowledge(sent[2], 1), Some((3, Ok(Some(1)))));
    assert_eq!(rig.refuse(sent[1], NEVER), Some((2, Err(false))));
    assert!(rig.can_start());
}

/// A batch that is being compressed keeps its place, and those behind it wait.
#[test]
fn a_lent_batch_holds_back_those_behind_it() {
    let mut rig = Rig::proven();
    let mut writer = BatchWriter::new(256);
    writer.append(0, None, Some(b"v"), NO_HEADERS).unwrap();
    let mut batch = Batch::new(writer.finish(), 1, rig.now + DELIVERY);
    let sealed = batch.lend(77).unwrap();
    rig.queue.push(batch);
    rig.push(2, 1);
    assert!(!rig.can_start() && !rig.queue.can_leave() && !rig.queue.has_room(rig.now));
    rig.pass(DELIVERY);
    assert_eq!(rig.expire(), []);
    rig.now -= DELIVERY;
    rig.queue.give_back(77, Ok(sealed));
    assert_eq!((rig.send().1.sequence, rig.send().1.sequence), (2, 3));

    let mut batch = Batch::new(BatchWriter::new(256).finish(), 3, rig.now + DELIVERY);
    batch.lend(78);
    let mut rig = Rig::new();
    rig.queue.push(batch);
    rig.queue.give_back(78, Err(Reason::Compression("no".into())));
    assert_eq!(rig.settled(), Some((3, Err(false))));
}

/// One whose earlier attempt is open is split as well: brokers look at the size first, so that one was refused too. If it was
/// not, since the limit was lowered meanwhile, the parts' sequences are spent, and nobody can tell what became of them.
#[test]
fn a_batch_with_an_open_outcome_is_split_and_its_parts_stay_open() {
    for is_in_log in [false, true] {
        let mut rig = Rig::proven();
        rig.push(1, 4);
        rig.attempt(OPEN);
        let (token, whole) = rig.send();
        assert_eq!(rig.refuse(token, ErrorCode::MESSAGE_TOO_LARGE), None);
        let (first, front) = rig.send();
        assert_eq!((whole.sequence, whole.count, front.sequence, front.count), (2, 4, 2, 2));
        assert_eq!(rig.queue.upcoming(rig.now, rig.identity), None, "more than one only behind a success");
        if is_in_log {
            assert_eq!(rig.refuse(first, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), Some((1, Err(true))));
            let (second, back) = rig.send();
            assert_eq!((back.sequence, back.count), (4, 2));
            assert_eq!(rig.refuse(second, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), Some((1, Err(true))));
            rig.expect_new_epoch(2);
        } else {
            assert_eq!(rig.acknowledge(first, 1), Some((1, Ok(Some(1)))));
            let (second, back) = rig.send();
            assert_eq!((back.sequence, back.count), (4, 2));
            assert_eq!(rig.acknowledge(second, 3), Some((1, Ok(Some(3)))));
            rig.expect_sequence(2, 6);
        }
    }
}

/// Rule 6: what a leader acknowledged under one producer id says nothing of the next, of which it takes any first sequence.
/// (Seed 2131 of the simulation.)
#[test]
fn a_new_producer_id_has_one_in_flight_until_it_is_acknowledged() {
    let mut rig = Rig::proven();
    rig.identity = Some(Identity { id: 8, epoch: 0, former_ids: 1 });
    rig.push(1, 1);
    rig.push(2, 1);
    let (token, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (0, 0));
    assert!(!rig.can_start());
    assert_eq!(rig.acknowledge(token, 1), Some((1, Ok(Some(1)))));
    assert_eq!(rig.send().1.sequence, 1);
}
