//! One partition's history, attempt by attempt, on a clock that the test moves. Batches are known by a number.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::machine::connection::Cause;
use crate::record::{BatchHeader, BatchWriter, NO_HEADERS};
use crate::wire::api::UnsupportedApi;
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Versions;

mod several;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const DELIVERY: Duration = ms(10_000);
const BACKOFF: Duration = ms(100);
/// No jitter.
const MIDDLE: u64 = 1 << 63;
const FIRST: Identity = Identity { id: 7, epoch: 0, former_ids: 0 };
const SECOND: Identity = Identity { id: 7, epoch: 1, former_ids: 0 };

/// Appended or not: the broker does not say.
const OPEN: ErrorCode = ErrorCode::REQUEST_TIMED_OUT;
/// Not appended, and it may help to try again.
const NOT_YET: ErrorCode = ErrorCode::NOT_ENOUGH_REPLICAS;
/// Not appended, and it never will be.
const NEVER: ErrorCode = ErrorCode::INVALID_RECORD;

/// A queue, and who drives it.
struct Rig {
    queue: PartitionQueue<u32>,
    now: Instant,
    identity: Option<Identity>,
    next_token: Token,
}

fn queue(is_idempotent: bool, window: usize) -> PartitionQueue<u32> {
    let (remembered, retry_backoff, retry_backoff_max) = (ms(60_000), BACKOFF, ms(1000));
    PartitionQueue::new(Config { is_idempotent, window, remembered, retry_backoff, retry_backoff_max })
}

/// What went out, as the broker reads it.
#[derive(Clone, Debug, PartialEq)]
struct Attempted {
    bytes: Bytes,
    epoch: i16,
    sequence: i32,
    count: i32,
}

/// (batch, how it ended); `maybe_written` for a failure.
type Settled = Option<(u32, Result<Option<i64>, bool>)>;

impl Rig {
    fn new() -> Self {
        Self { queue: queue(true, WINDOW), now: Instant::now(), identity: Some(FIRST), next_token: 0 }
    }

    /// One batch was acknowledged, as 0, 0 and 1, so that the next five may go out together.
    fn proven() -> Self {
        let mut rig = Self::new();
        rig.expect_sequence(0, 0);
        rig
    }

    fn without_idempotence() -> Self {
        Self { queue: queue(false, 1), identity: None, ..Self::new() }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn push(&mut self, batch: u32, records: usize) {
        let mut writer = BatchWriter::new(256);
        for _ in 0..records {
            writer.append(0, None, Some(&batch.to_be_bytes()), NO_HEADERS).unwrap();
        }
        self.queue.push(Batch::new(writer.finish(), batch, self.now + DELIVERY));
    }

    fn can_start(&self) -> bool {
        self.queue.startable(self.now, self.identity).is_some()
    }

    /// Sends the head; it must be possible.
    fn send(&mut self) -> (Token, Attempted) {
        let size = self.queue.startable(self.now, self.identity).expect("something to send");
        let token = self.next_token;
        self.next_token += 1;
        let bytes = self.queue.start(self.now, token, self.identity).expect("the head");
        assert_eq!(bytes.len(), size);
        let header = BatchHeader::peek(&bytes).unwrap();
        let sent = Attempted {
            bytes,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
            count: header.record_count() as i32,
        };
        (token, sent)
    }

    fn end(&mut self, token: Token, outcome: Outcome) -> Settled {
        self.queue.handle_outcome(self.now, token, outcome, MIDDLE);
        self.settled()
    }

    /// The next batch that ended.
    fn settled(&mut self) -> Settled {
        self.queue.poll_settled(self.now).map(|settled| (settled.receipts, result_of(settled.result)))
    }

    fn acknowledge(&mut self, token: Token, offset: i64) -> Settled {
        self.end(token, Outcome::Acknowledged(Placed { base_offset: Some(offset), log_append_time: None }))
    }

    fn refuse(&mut self, token: Token, code: ErrorCode) -> Settled {
        self.end(token, Outcome::Ended(Attempt::refused(code, -1, None)))
    }

    fn lose(&mut self, token: Token, sent: bool) -> Settled {
        self.end(token, Outcome::Ended(Attempt::Failed(CallError::Lost { cause: Cause::Eof, sent })))
    }

    /// Sends the head and has it refused, then waits until it may be sent again.
    fn attempt(&mut self, code: ErrorCode) -> Attempted {
        let (token, sent) = self.send();
        assert_eq!(self.refuse(token, code), None, "{code} is tried again");
        self.pass(ms(1200));
        sent
    }

    fn expire(&mut self) -> Vec<(u32, bool)> {
        std::iter::from_fn(|| self.settled()).map(|(batch, result)| (batch, result.unwrap_err())).collect()
    }

    /// The next batch starts the next epoch, and does not go out under this one.
    fn expect_new_epoch(&mut self, batch: u32) {
        self.push(batch, 2);
        self.pass(ms(1200));
        assert!(!self.can_start(), "the epoch is spent");
        assert_eq!(self.queue.needs_newer_than(), Some(FIRST));
        self.identity = Some(SECOND);
        let (token, sent) = self.send();
        assert_eq!((sent.epoch, sent.sequence), (1, 0));
        assert_eq!(self.acknowledge(token, 50), Some((batch, Ok(Some(50)))));
        assert_eq!(self.queue.needs_newer_than(), None);
    }

    /// The next batch goes out under the first epoch with this sequence.
    fn expect_sequence(&mut self, batch: u32, sequence: i32) {
        self.push(batch, 2);
        self.pass(ms(1200));
        assert_eq!(self.queue.needs_newer_than(), None);
        let (token, sent) = self.send();
        assert_eq!((sent.epoch, sent.sequence), (0, sequence));
        assert_eq!(self.acknowledge(token, 50), Some((batch, Ok(Some(50)))));
    }
}

fn result_of(result: Result<Placed, Failure>) -> Result<Option<i64>, bool> {
    result.map(|placed| placed.base_offset).map_err(|failure| failure.maybe_written)
}

/// Rule 11.
#[test]
fn sequences_wrap_and_are_never_negative() {
    assert_eq!(advance(0, 3), 3);
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 1, 5), 3);

    let mut rig = Rig::new();
    (rig.queue.identity, rig.queue.next_sequence) = (Some(FIRST), i32::MAX - 1);
    for (batch, sequence) in [(1, i32::MAX - 1), (2, 1), (3, 4)] {
        rig.push(batch, 3);
        let (token, sent) = rig.send();
        assert_eq!((sent.epoch, sent.sequence), (0, sequence));
        rig.acknowledge(token, 0);
    }
}

/// Rule 2, rows 1 and 2: whatever ended the attempt.
#[test]
fn a_retry_carries_the_identical_bytes() {
    let mut rig = Rig::new();
    rig.push(1, 3);
    let (token, first) = rig.send();
    assert_eq!((first.sequence, first.count), (0, 3));
    assert_eq!(rig.lose(token, true), None);
    rig.pass(ms(1200));
    // What is queued behind it changes nothing; nor does an epoch that others have gone on to.
    rig.push(2, 2);
    rig.identity = Some(SECOND);
    for code in [NOT_YET, OPEN, ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::CORRUPT_MESSAGE] {
        assert_eq!(rig.attempt(code), first);
    }
    let (token, again) = rig.send();
    assert_eq!(again, first);
    assert_eq!(rig.end(token, Outcome::Ended(Attempt::Unmentioned)), None);
    rig.pass(ms(1200));
    rig.queue.recall();
    let (token, again) = rig.send();
    assert_eq!(again, first);
    assert_eq!(rig.acknowledge(token, 9), Some((1, Ok(Some(9)))));
    // The new epoch begins behind it, at 0.
    let (_, next) = rig.send();
    assert_eq!((next.epoch, next.sequence), (1, 0));
}

/// Rule 3 (franz-go #1217): the definite error is about this attempt, and an earlier one may have been appended.
#[test]
fn an_open_outcome_stays_open_whatever_comes_next() {
    for (definite, records) in
        [(NEVER, 3), (ErrorCode::TOPIC_AUTHORIZATION_FAILED, 3), (ErrorCode::MESSAGE_TOO_LARGE, 1)]
    {
        let mut rig = Rig::new();
        rig.push(1, records);
        rig.attempt(OPEN);
        rig.attempt(NOT_YET);
        let (token, _) = rig.send();
        assert_eq!(rig.refuse(token, definite), Some((1, Err(true))), "{definite}");
        rig.expect_new_epoch(2);
    }
    // Nor does a request that certainly did not leave.
    let mut rig = Rig::new();
    rig.push(1, 3);
    rig.attempt(OPEN);
    let (token, _) = rig.send();
    assert_eq!(rig.lose(token, false), None);
    rig.pass(DELIVERY);
    assert_eq!(rig.expire(), [(1, true)]);
    rig.expect_new_epoch(2);
}

/// What a broker may have appended before it said no, and what only sounds like it.
#[test]
fn an_open_refusal_for_good_is_unknown() {
    for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode(999), ErrorCode::LOG_DIR_NOT_FOUND] {
        let mut rig = Rig::new();
        rig.push(1, 3);
        let (token, _) = rig.send();
        assert_eq!(rig.refuse(token, code), Some((1, Err(true))), "{code}");
        rig.expect_new_epoch(2);
    }
}

/// Promise over rule 5: it fails alone, and what is queued goes on under its sequence.
#[test]
fn a_definite_rejection_frees_the_sequence() {
    let mut rig = Rig::new();
    rig.push(1, 3);
    let (token, _) = rig.send();
    rig.acknowledge(token, 0);
    rig.push(2, 4);
    rig.attempt(NOT_YET);
    let (token, sent) = rig.send();
    assert_eq!(sent.sequence, 3);
    assert_eq!(rig.refuse(token, NEVER), Some((2, Err(false))));
    rig.expect_sequence(3, 3);
    rig.expect_sequence(4, 5);
    // A request that could not even be encoded.
    rig.push(5, 1);
    let (token, _) = rig.send();
    let unsupported = UnsupportedApi { api: ApiKey::PRODUCE, ours: Versions { first: 3, last: 13 }, broker: None };
    let settled = rig.end(token, Outcome::Ended(Attempt::Failed(CallError::Unsupported(unsupported))));
    assert_eq!(settled, Some((5, Err(false))));
    rig.expect_sequence(6, 7);
}

/// P5: at the deadline, in every state.
#[test]
fn expiry_tells_the_truth() {
    // Never sent: the sequence was never taken.
    let mut rig = Rig::new();
    rig.push(1, 3);
    rig.pass(DELIVERY - ms(1));
    assert_eq!(rig.expire(), []);
    rig.pass(ms(1));
    assert_eq!(rig.expire(), [(1, false)]);
    rig.expect_sequence(2, 0);

    // Sent, and surely refused or not written to a socket: the sequence is free again.
    let mut rig = Rig::new();
    rig.expect_sequence(0, 0);
    rig.push(1, 3);
    rig.attempt(NOT_YET);
    let (token, _) = rig.send();
    rig.lose(token, false);
    rig.pass(DELIVERY);
    assert_eq!(rig.expire(), [(1, false)]);
    rig.expect_sequence(2, 2);

    // Sent, and the outcome is open: unknown, and the epoch is spent. What was never sent does not suffer.
    let mut rig = Rig::new();
    rig.expect_sequence(0, 0);
    rig.push(1, 3);
    rig.push(2, 1);
    rig.attempt(OPEN);
    rig.pass(DELIVERY);
    assert_eq!(rig.expire(), [(1, true), (2, false)]);
    rig.expect_new_epoch(3);
}

/// P4: what is in flight is answered, or lost, within a request timeout; only then is it over.
#[test]
fn what_is_in_flight_does_not_expire() {
    let mut rig = Rig::new();
    rig.push(1, 1);
    rig.push(2, 1);
    let (token, _) = rig.send();
    rig.pass(DELIVERY * 2);
    assert_eq!(rig.expire(), []);
    assert_eq!(rig.queue.poll_timeout(rig.now), None);
    assert_eq!(rig.acknowledge(token, 3), Some((1, Ok(Some(3)))));
    assert_eq!(rig.expire(), [(2, false)]);
    assert!(rig.queue.is_empty());
}

/// P4, row 13: after a long pause a driver may come to send before it comes to its timers.
#[test]
fn an_expired_batch_is_not_sent_any_more() {
    let mut rig = Rig::new();
    rig.push(1, 1);
    rig.push(2, 1);
    let first = rig.attempt(OPEN);
    rig.pass(DELIVERY - ms(1201));
    assert_eq!(rig.send().1, first);
    rig.queue.recall();
    rig.pass(ms(1));
    assert!(!rig.can_start());
    assert_eq!(rig.expire(), [(1, true), (2, false)]);
}

/// Row 20: the broker's memory of this producer is gone or another one, and this batch is in nobody's log.
#[test]
fn a_broker_that_lost_track_gets_the_batch_under_a_new_epoch() {
    for code in
        [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH]
    {
        let mut rig = Rig::new();
        rig.expect_sequence(0, 0);
        rig.push(1, 3);
        let refused = rig.attempt(code);
        assert_eq!(refused.sequence, 2);
        assert!(!rig.can_start());
        assert_eq!(rig.queue.needs_newer_than(), Some(FIRST));
        rig.identity = Some(SECOND);
        let (token, sent) = rig.send();
        assert_eq!((sent.epoch, sent.sequence, sent.count), (1, 0, 3));
        assert_ne!(sent.bytes, refused.bytes);
        assert_eq!(rig.acknowledge(token, 8), Some((1, Ok(Some(8)))));
        rig.push(2, 1);
        assert_eq!(rig.send().1.sequence, 3);
    }
}

/// Rules 3 and 8: under a new epoch the broker could not tell that it has them.
#[test]
fn a_new_epoch_does_not_carry_what_may_be_in_the_log() {
    for code in
        [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH]
    {
        let mut rig = Rig::new();
        rig.push(1, 3);
        rig.attempt(OPEN);
        let (token, _) = rig.send();
        assert_eq!(rig.refuse(token, code), Some((1, Err(true))), "{code}");
        rig.expect_new_epoch(2);
    }
    // A recalled attempt counts as one that may have been appended.
    let mut rig = Rig::new();
    rig.push(1, 3);
    rig.send();
    rig.queue.recall();
    let (token, _) = rig.send();
    assert_eq!(rig.refuse(token, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER), Some((1, Err(true))));
    rig.expect_new_epoch(2);
}

/// Without idempotence there is no epoch to go on to.
#[test]
fn sequence_errors_without_idempotence_are_final() {
    let mut rig = Rig::without_idempotence();
    rig.push(1, 1);
    let (token, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (-1, -1));
    assert_eq!(rig.refuse(token, ErrorCode::UNKNOWN_PRODUCER_ID), Some((1, Err(false))));
}

/// Rule 12.
#[test]
fn a_duplicate_is_an_acknowledgement_without_an_offset() {
    let mut rig = Rig::new();
    rig.push(1, 3);
    let (token, _) = rig.send();
    rig.lose(token, true);
    rig.pass(BACKOFF);
    let (token, _) = rig.send();
    assert_eq!(rig.refuse(token, ErrorCode::DUPLICATE_SEQUENCE_NUMBER), Some((1, Ok(None))));
    rig.expect_sequence(2, 3);
}

/// Promise over rule 7, row 4: the leader moved while a batch was in flight.
#[test]
fn a_recalled_batch_goes_out_at_once_and_its_late_answers_are_ignored() {
    let mut rig = Rig::new();
    rig.push(1, 2);
    let (old, first) = rig.send();
    rig.queue.recall();
    assert!(!rig.queue.is_in_flight() && rig.can_start());
    // Nothing is in flight: an answer of the old attempt falls through.
    assert_eq!(rig.acknowledge(old, 1), None);
    let (new, again) = rig.send();
    assert_eq!(again, first);
    // Another attempt is in flight.
    assert_eq!(rig.acknowledge(old, 1), None);
    assert_eq!(rig.refuse(old, NEVER), None);
    assert_eq!(rig.lose(old, true), None);
    assert!(rig.queue.is_in_flight());
    assert_eq!(rig.acknowledge(new, 2), Some((1, Ok(Some(2)))));
}

/// P5: a leader that went while followers were waited for says NOT_LEADER_OR_FOLLOWER of what it appended, and where.
#[test]
fn what_a_deposed_leader_appended_is_not_absent() {
    for (base_offset, maybe_written) in [(-1, false), (7, true)] {
        let mut rig = Rig::new();
        rig.push(1, 2);
        let (token, _) = rig.send();
        let attempt = Attempt::refused(ErrorCode::NOT_LEADER_OR_FOLLOWER, base_offset, None);
        assert_eq!(rig.end(token, Outcome::Ended(attempt)), None);
        rig.pass(DELIVERY);
        assert_eq!(rig.settled(), Some((1, Err(maybe_written))), "at {base_offset}");
    }
}

/// A recall also ends a back-off: it was for the old leader.
#[test]
fn a_recall_ends_the_wait_for_the_old_leader() {
    let mut rig = Rig::new();
    rig.push(1, 2);
    let (token, _) = rig.send();
    rig.refuse(token, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert!(!rig.can_start());
    rig.queue.recall();
    assert!(rig.can_start());
}

/// Rule 7 as it stands: a second copy would be a second record.
#[test]
fn without_idempotence_a_recall_waits_for_the_answer() {
    let mut rig = Rig::without_idempotence();
    rig.push(1, 2);
    let (token, _) = rig.send();
    rig.queue.recall();
    assert!(rig.queue.is_in_flight() && !rig.can_start());
    assert_eq!(rig.acknowledge(token, 2), Some((1, Ok(Some(2)))));
}

/// Rule 9: lazily, at the first batch, and only between batches.
#[test]
fn an_epoch_that_others_bumped_is_adopted_between_batches() {
    let mut rig = Rig::new();
    rig.expect_sequence(1, 0);
    rig.push(2, 2);
    let (token, sent) = rig.send();
    assert_eq!((sent.epoch, sent.sequence), (0, 2));
    rig.identity = Some(SECOND);
    rig.refuse(token, NOT_YET);
    rig.pass(BACKOFF);
    let (token, again) = rig.send();
    assert_eq!(again, sent, "a batch keeps its stamp");
    rig.acknowledge(token, 4);
    rig.push(3, 2);
    let (_, next) = rig.send();
    assert_eq!((next.epoch, next.sequence), (1, 0));
}

/// Rows 4 and 20: the partition moved to a task that has not heard of the epoch, or of the id, which it uses already.
/// Going back would make the broker take a new batch for one that it has.
#[test]
fn an_older_identity_is_never_gone_back_to() {
    let third = Identity { id: 3, epoch: 0, former_ids: 1 };
    let mut rig = Rig::new();
    rig.expect_sequence(1, 0);
    for (newest, older) in [(SECOND, [FIRST, FIRST]), (third, [FIRST, SECOND])] {
        rig.identity = Some(newest);
        rig.push(2, 2);
        let (token, sent) = rig.send();
        assert_eq!((sent.epoch, sent.sequence), (newest.epoch, 0));
        rig.acknowledge(token, 4);
        rig.push(3, 1);
        for older in older {
            rig.identity = Some(older);
            assert!(!rig.can_start(), "{older:?} behind {newest:?}");
        }
        rig.identity = Some(newest);
        let (token, sent) = rig.send();
        assert_eq!((sent.epoch, sent.sequence), (newest.epoch, 2));
        rig.acknowledge(token, 6);
    }
}

/// The same where the older id is none that this partition ever used. (Seed 169590 of the simulation.)
#[test]
fn an_id_that_was_never_used_here_is_older_all_the_same() {
    let next = Identity { id: 3, epoch: 0, former_ids: 1 };
    let mut rig = Rig { identity: Some(next), ..Rig::new() };
    rig.expect_sequence(1, 0);
    rig.push(2, 1);
    rig.identity = Some(FIRST);
    assert!(!rig.can_start());
    rig.identity = Some(next);
    assert_eq!(rig.send().1.sequence, 2);
}

/// No id yet, or none at the moment: only what is stamped can go.
#[test]
fn without_an_identity_nothing_new_is_sent() {
    let mut rig = Rig::new();
    rig.identity = None;
    rig.push(1, 1);
    assert!(!rig.can_start() && rig.queue.needs_newer_than().is_none());
    rig.identity = Some(FIRST);
    let first = rig.attempt(NOT_YET);
    rig.identity = None;
    assert_eq!(rig.send().1, first);
}

/// P5: for everything at once.
#[test]
fn giving_up_everything_tells_the_truth() {
    let closed = |rig: &mut Rig| -> Vec<_> {
        let failed = rig.queue.fail_all(&Reason::Closed);
        assert!(rig.queue.is_empty());
        failed.into_iter().map(|settled| (settled.receipts, settled.result.unwrap_err().maybe_written)).collect()
    };
    // In flight: nobody knows. Behind it: nothing was written.
    let mut rig = Rig::new();
    rig.push(1, 1);
    rig.push(2, 1);
    let (token, _) = rig.send();
    assert_eq!(closed(&mut rig), [(1, true), (2, false)]);
    assert_eq!(rig.acknowledge(token, 0), None, "it was settled");
    rig.expect_new_epoch(3);

    // Sent, and surely refused.
    let mut rig = Rig::new();
    rig.push(1, 1);
    rig.push(2, 1);
    rig.attempt(NOT_YET);
    assert_eq!(closed(&mut rig), [(1, false), (2, false)]);
    rig.expect_sequence(3, 0);

    // Sent once with an open end, then refused.
    let mut rig = Rig::new();
    rig.push(1, 1);
    rig.attempt(OPEN);
    rig.attempt(NOT_YET);
    assert_eq!(closed(&mut rig), [(1, true)]);
    rig.expect_new_epoch(3);
}

/// Refused attempts wait longer and longer, a success ends that, and the queue says when it wants to be called.
#[test]
fn back_off_grows_and_shows_in_the_timeout() {
    let mut rig = Rig::new();
    rig.push(1, 1);
    let deadline = rig.now + DELIVERY;
    assert_eq!(rig.queue.poll_timeout(rig.now), Some(deadline));
    for wait in [ms(100), ms(200), ms(400), ms(800), ms(1000), ms(1000)] {
        let (token, _) = rig.send();
        assert_eq!(rig.queue.poll_timeout(rig.now), None);
        rig.refuse(token, NOT_YET);
        assert_eq!(rig.queue.poll_timeout(rig.now), Some(rig.now + wait));
        rig.pass(wait - ms(1));
        assert!(!rig.can_start());
        rig.pass(ms(1));
        assert!(rig.can_start());
        assert_eq!(rig.queue.poll_timeout(rig.now), Some(deadline));
    }
    let (token, _) = rig.send();
    rig.acknowledge(token, 0);
    assert_eq!(rig.queue.poll_timeout(rig.now), None);
    rig.push(2, 1);
    let (token, _) = rig.send();
    rig.refuse(token, NOT_YET);
    assert_eq!(rig.queue.poll_timeout(rig.now), Some(rig.now + BACKOFF));
    // The deadline comes first.
    rig.pass(DELIVERY - ms(50));
    let (token, _) = rig.send();
    rig.refuse(token, NOT_YET);
    assert_eq!(rig.queue.poll_timeout(rig.now), Some(rig.now + ms(50)));
}

/// Which endings ask for other leaders.
#[test]
fn metadata_is_refreshed_when_the_leader_may_be_another() {
    let attempt = |outcome: Attempt| {
        let mut rig = Rig::new();
        rig.push(1, 1);
        let (token, _) = rig.send();
        rig.queue.handle_outcome(rig.now, token, Outcome::Ended(outcome), MIDDLE)
    };
    let refused = |code| Attempt::refused(code, -1, None);
    assert!(attempt(refused(ErrorCode::NOT_LEADER_OR_FOLLOWER)));
    assert!(attempt(refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)));
    assert!(attempt(Attempt::Failed(CallError::Lost { cause: Cause::Eof, sent: true })));
    assert!(!attempt(refused(NOT_YET)));
    assert!(!attempt(refused(NEVER)));
    assert!(!attempt(Attempt::Unmentioned));
}
