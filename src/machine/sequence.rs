//! One partition's way to the log: sealed batches in order, stamped with producer id, epoch and sequence.
//!
//! ```text
//!   in flight ──────────────────╮ ╭─ sealed, not stamped ─╮
//!   | seq 0 | seq 3 | seq 7 | … | | batch | batch | batch |◀─ push
//!    ▲ head: the first whose end is not known
//! ```
//! Up to five batches are in flight, more than one only after this leader has acknowledged one (rule 6). What is sent
//! stays what it is: a retry carries the same bytes under the same sequence, so the broker can tell that it has them
//! (rule 2). An acknowledgement counts wherever it comes, but batches are settled in the order in which they were sent,
//! and a refusal means something at the head alone: whatever is behind a gap is refused for that (rule 1).
//!
//! **What ends without an acknowledgement.** If it is surely absent, its place is free for what comes next, unless
//! something was sent behind it: that must be stamped anew then, and late copies of it kept out, by the next epoch. If
//! it may be in the log (rule 3), nothing new goes out under this epoch, and its deadline ends it as unknown; but while
//! anything sent behind it is open, it keeps its place and is tried on, without receipts: only behind it can a broker
//! tell what it has of those, and under another epoch it would take them a second time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backoff::Backoff;
use super::connection::{CallError, Token};
use super::planted::bug;
use crate::record::{self, SealedBatch};
use crate::wire::api::ApiKey;
use crate::wire::error_code::Action;

mod batch;

pub use batch::{Attempt, Batch, Failure, Identity, Outcome, Placed, Reason, Receipts, Settled};
use batch::{Stamp, State};

/// Batches of a partition by which a broker knows what it has; so many may be in flight with idempotence.
pub const WINDOW: usize = 5;

#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub is_idempotent: bool,
    /// Batches without an answer: at most [`WINDOW`] with idempotence; without, more than one may change their order.
    pub window: usize,
    /// For how long after an acknowledgement this leader surely remembers the producer. Well below the time after which
    /// brokers forget one that is idle, a day by default (`producer.id.expiration.ms`).
    pub remembered: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

/// Everything of one partition that is sealed. It belongs to one task at a time, and moves with its leader.
pub struct PartitionQueue<R> {
    is_idempotent: bool,
    window: usize,
    /// In order; the stamped ones first.
    batches: VecDeque<Batch<R>>,
    in_flight: usize,
    identity: Option<Identity>,
    next_sequence: i32,
    /// The epoch under which nothing new may be sent: what is not stamped needs a newer one.
    spent: Option<Identity>,
    /// Something is missing before what is stamped: once nothing is in flight, the rest gets new stamps.
    is_broken: bool,
    /// This leader has acknowledged a batch not long before, and has refused or lost none since (rule 6).
    proven_until: Option<Instant>,
    remembered: Duration,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl<R: Receipts> PartitionQueue<R> {
    pub fn new(config: Config) -> Self {
        Self {
            is_idempotent: config.is_idempotent,
            window: config.window,
            batches: VecDeque::new(),
            in_flight: 0,
            identity: None,
            next_sequence: 0,
            spent: None,
            is_broken: false,
            proven_until: None,
            remembered: config.remembered,
            retry_at: None,
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
        }
    }

    /// As after a long life under `identity`.
    #[cfg(test)]
    pub fn resume(&mut self, identity: Identity, next_sequence: i32) {
        (self.identity, self.next_sequence) = (Some(identity), next_sequence);
    }

    pub fn push(&mut self, batch: Batch<R>) {
        self.batches.push_back(batch);
    }

    /// A batch that was [lent](Batch::lend) comes back; with a reason, it cannot be sent.
    pub fn give_back(&mut self, number: u64, sealed: Result<SealedBatch, Reason>) {
        let lent = |batch: &&mut Batch<R>| matches!(batch.state, State::Lent(lent) if lent == number);
        let Some(batch) = self.batches.iter_mut().find(lent) else { return };
        batch.state = match sealed {
            Ok(sealed) => {
                batch.sealed = Some(sealed);
                State::Queued
            }
            Err(reason) => State::Ended(Err(Failure { reason, maybe_written: false })),
        };
    }

    /// Lends what was never sent and never compressed, under numbers from `number` on.
    pub fn lend_all(&mut self, number: &mut u64) -> Vec<(u64, SealedBatch)> {
        let fresh = |batch: &&mut Batch<R>| matches!(batch.state, State::Queued) && batch.stamp.is_none();
        let plain = self.batches.iter_mut().filter(fresh).filter(|batch| !batch.is_packed);
        let lent = plain.filter_map(|batch| {
            *number += 1;
            Some((*number, batch.lend(*number)?))
        });
        lent.collect()
    }

    /// Nothing sealed is waiting, and one more batch could be sent: the open batch may be taken.
    pub fn has_room(&self, now: Instant) -> bool {
        match self.batches.back().map(|last| &last.state) {
            None | Some(State::Ended(_)) => true,
            Some(State::InFlight(_)) => {
                self.batches.len() < self.window
                    && self.in_flight == self.batches.len()
                    && (self.is_proven(now) && self.spent.is_none() || !self.is_idempotent)
            }
            Some(State::Queued | State::Lent(_)) => false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Whether this attempt is under way, and was not taken back.
    pub fn is_waiting_for(&self, token: Token) -> bool {
        self.batches.iter().any(|batch| matches!(batch.state, State::InFlight(its) if its == token))
    }

    /// It can go to another task: nothing waits for an answer, and nothing is lent.
    pub fn can_leave(&self) -> bool {
        self.in_flight == 0 && !self.batches.iter().any(|batch| matches!(batch.state, State::Lent(_)))
    }

    /// The size of what [`Self::start`] would send now, if it may send at all.
    pub fn startable(&self, now: Instant, identity: Option<Identity>) -> Option<usize> {
        let batch = self.batches.get(self.next(now, identity)?)?;
        batch.sealed.as_ref().map(SealedBatch::size)
    }

    /// The place of the next batch to send.
    fn next(&self, now: Instant, identity: Option<Identity>) -> Option<usize> {
        if self.is_broken || self.in_flight >= self.window + usize::from(bug("one_too_many")) {
            return None;
        }
        if self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let waits = |batch: &Batch<R>| matches!(batch.state, State::Queued | State::Lent(_));
        let index = self.batches.iter().position(waits)?;
        let batch = self.batches.get(index).filter(|batch| matches!(batch.state, State::Queued))?;
        // Past its deadline it only waits to be told so, or it would take another request's time; unless it keeps its place
        // for one behind it, whose time is not up.
        let needs = |behind: &Batch<R>| {
            behind.is_open() && (behind.deadline > now || matches!(behind.state, State::InFlight(_)))
        };
        let is_needed = batch.is_told && self.batches.iter().skip(index + 1).any(needs);
        if batch.deadline <= now && !is_needed && !bug("send_expired") {
            return None;
        }
        // Each is in flight, or was acknowledged behind one that is: a broker has forgotten that one by the sixth.
        let ahead = self.batches.iter().take(index).skip_while(|batch| batch.is_ended());
        let ahead = match self.is_idempotent && !bug("more_than_brokers_remember") {
            _ if index == 0 => 0,
            true => ahead.count(),
            false => ahead.filter(|batch| !batch.is_ended()).count(),
        };
        if ahead > 0 && self.is_idempotent && !self.is_proven(now) && !bug("pipelined_unproven") {
            return None;
        }
        let has_identity = !self.is_idempotent
            || batch.stamp.is_some()
            || if ahead > 0 { self.spent.is_none() } else { identity.is_some_and(|identity| self.can_use(identity)) };
        (ahead < self.window + usize::from(bug("one_too_many")) && has_identity).then_some(index)
    }

    /// A broker that remembers nothing of a producer takes any first sequence, and so the second batch without the
    /// first.
    fn is_proven(&self, now: Instant) -> bool {
        self.proven_until.is_some_and(|until| now < until)
    }

    /// The epoch that this partition cannot go on with, while something waits for a newer one.
    pub fn needs_newer_than(&self) -> Option<Identity> {
        self.spent.filter(|_| self.is_broken || self.batches.iter().any(|batch| batch.stamp.is_none()))
    }

    /// Of the batch that [`Self::start`] would send: whether it was sent before, and its deadline.
    pub fn upcoming(&self, now: Instant, identity: Option<Identity>) -> Option<(bool, Instant)> {
        let batch = self.batches.get(self.next(now, identity)?)?;
        Some((batch.stamp.is_some(), batch.deadline))
    }

    /// Sends the next batch. Call it only when [`Self::startable`] says so, with the same arguments.
    pub fn start(&mut self, now: Instant, token: Token, identity: Option<Identity>) -> Option<Bytes> {
        let index = self.next(now, identity)?;
        let is_first = self.batches.iter().take(index).all(Batch::is_ended);
        let is_fresh = self.batches.get(index)?.stamp.is_none();
        if is_fresh && is_first && self.is_idempotent {
            self.adopt(identity?);
        }
        let batch = self.batches.get_mut(index)?;
        if is_fresh || bug("stamp_retry_again") {
            let sequence = match self.is_idempotent {
                true => {
                    let sequence = self.next_sequence;
                    self.next_sequence = advance(sequence, batch.len());
                    sequence
                }
                false => record::Identity::NONE.base_sequence,
            };
            batch.stamp = Some(Stamp { identity: self.identity.filter(|_| self.is_idempotent), sequence });
        }
        // The same stamp again yields the identical bytes.
        let bytes = batch.sealed.as_mut()?.stamp(batch.stamp.map_or(record::Identity::NONE, Stamp::header));
        batch.state = State::InFlight(token);
        self.in_flight += 1;
        self.retry_at = None;
        Some(bytes)
    }

    /// The attempt `token` ended. Late answers of attempts that were taken back are ignored. Whether the leader is
    /// another one, or not known.
    pub fn handle_outcome(&mut self, now: Instant, token: Token, outcome: Outcome, random: u64) -> bool {
        let is_it = |batch: &Batch<R>| matches!(batch.state, State::InFlight(its) if its == token || bug("any_token"));
        let Some(index) = self.batches.iter().position(is_it) else { return false };
        self.in_flight -= 1;
        let refresh = match outcome {
            Outcome::Acknowledged(placed) => {
                self.acknowledge(now, index, placed);
                false
            }
            Outcome::Ended(attempt) => self.end_attempt(now, index, attempt, random),
        };
        self.tidy();
        refresh
    }

    fn acknowledge(&mut self, now: Instant, index: usize, placed: Placed) {
        self.backoff.reset();
        self.retry_at = None;
        self.proven_until = Some(now + self.remembered);
        if let Some(batch) = self.batches.get_mut(index) {
            batch.state = State::Ended(Ok(placed));
        }
    }

    fn end_attempt(&mut self, now: Instant, index: usize, attempt: Attempt, random: u64) -> bool {
        let (action, is_absent) = match &attempt {
            Attempt::Refused { code, is_absent, .. } => (code.action(ApiKey::PRODUCE), *is_absent),
            Attempt::Failed(error @ (CallError::Unsupported(_) | CallError::Encode { .. })) => {
                (Action::Fail, !error.maybe_sent())
            }
            // A password that is wrong stays wrong, however often it is tried.
            Attempt::Failed(error) if error.is_denied() => (Action::Fail, !error.maybe_sent()),
            Attempt::Failed(error) => (Action::Refresh, !error.maybe_sent()),
            Attempt::Unmentioned => (Action::Retry, false),
        };
        if matches!(action, Action::Done | Action::Duplicate) {
            self.acknowledge(now, index, Placed { base_offset: None, log_append_time: None });
            return false;
        }
        // Without a sequence every batch stands for itself.
        let is_head = !self.is_idempotent || self.batches.iter().take(index).all(Batch::is_ended);
        let Some(batch) = self.batches.get_mut(index) else { return false };
        batch.maybe_written |= !is_absent;
        if is_absent && bug("forget_open") {
            batch.maybe_written = false;
        }
        self.proven_until = None;
        let is_surely_absent = !batch.maybe_written || bug("open_under_new_epoch");
        match action {
            Action::Split if is_head && self.split(index) => false,
            // Never appended, so it may go out again under the next epoch, and so may what is refused behind it.
            Action::NewEpoch if is_head && self.is_idempotent && is_surely_absent => {
                self.spent = self.identity;
                // The first of them tells; it takes the others with it.
                let is_first = !std::mem::replace(&mut self.is_broken, true);
                self.wait(now, index, attempt, is_first.then_some(random));
                false
            }
            Action::Retry if bug("never_settled") && attempt == Attempt::Unmentioned => {
                self.in_flight += 1;
                false
            }
            Action::Retry | Action::Refresh | Action::FindCoordinator => {
                // One back-off for all that a lost connection or one refusal takes with it.
                let is_counted = is_head && self.is_idempotent || self.retry_at.is_none();
                self.wait(now, index, attempt, is_counted.then_some(random));
                action != Action::Retry
            }
            // It means nothing before what was sent before it has ended (rule 1): it will be tried again, and refused
            // again if it is to be.
            _ if !is_head && !bug("refused_behind_a_gap") => {
                self.wait(now, index, attempt, None);
                false
            }
            _ => {
                self.reject(index, attempt);
                false
            }
        }
    }

    /// The batch is to be sent again, after a back-off if there is `random` for its jitter.
    fn wait(&mut self, now: Instant, index: usize, attempt: Attempt, random: Option<u64>) {
        if let Some(batch) = self.batches.get_mut(index) {
            batch.last = Some(attempt);
            batch.state = State::Queued;
        }
        if let Some(random) = random {
            self.retry_at = Some(now + self.backoff.next_delay(random));
        }
    }

    /// The batch ends here, for good.
    fn reject(&mut self, index: usize, attempt: Attempt) {
        self.give_up(index);
        let Some(batch) = self.batches.get_mut(index) else { return };
        if batch.is_told {
            self.batches.remove(index);
        } else {
            let failure = Failure { reason: Reason::Rejected(attempt), maybe_written: batch.maybe_written };
            batch.state = State::Ended(Err(failure));
        }
    }

    /// In two, of about as many bytes each. They share the sequences that the batch had, so what was sent behind it
    /// keeps its own. A single record, or one that cannot be read, stays what it is.
    ///
    /// Also if an earlier attempt is open: cut, or not answered. Brokers look at the size first, so the same bytes were
    /// refused then as well, unless `max.message.bytes` has been lowered meanwhile. Against that the parts stay open: where
    /// the whole is in the log its sequences are spent, and a part is neither its duplicate nor next, so it is refused
    /// (OUT_OF_ORDER_SEQUENCE_NUMBER) and ends as unknown. A late copy of the whole meets the same behind a part.
    fn split(&mut self, index: usize) -> bool {
        let Some(batch) = self.batches.get_mut(index).filter(|batch| !batch.is_told) else { return false };
        let Some((front, back)) = batch.sealed.as_ref().and_then(|sealed| sealed.split().ok().flatten()) else {
            return false;
        };
        let count = front.len();
        let rest = Batch {
            sealed: Some(back),
            receipts: batch.receipts.split_off(count),
            deadline: batch.deadline,
            stamp: batch.stamp.map(|stamp| match stamp.identity {
                Some(_) if !bug("split_keeps_sequence") => Stamp { sequence: advance(stamp.sequence, count), ..stamp },
                _ => stamp,
            }),
            maybe_written: batch.maybe_written && !bug("split_forgets_open"),
            last: batch.last.clone(),
            state: State::Queued,
            is_packed: true,
            is_told: false,
        };
        batch.sealed = Some(front);
        batch.state = State::Queued;
        let place = if bug("split_behind_others") { self.batches.len() } else { index + 1 };
        self.batches.insert(place, rest);
        true
    }

    /// The leader has changed for certain, or its connection was cut by us. Idempotent batches that are in flight go
    /// out again at once: whichever answer comes late is ignored, and a log that has them says so. Without
    /// idempotence they would be doubled, and wait.
    pub fn recall(&mut self) {
        if self.is_idempotent {
            for batch in self.batches.iter_mut().filter(|batch| matches!(batch.state, State::InFlight(_))) {
                batch.maybe_written = !bug("recall_is_absence");
                batch.state = State::Queued;
            }
            self.in_flight = 0;
            self.proven_until = self.proven_until.filter(|_| bug("recall_stays_proven"));
            self.tidy();
        }
        if self.in_flight == 0 {
            self.retry_at = None;
        }
    }

    /// The same for one attempt alone, if it is under way: whether it was.
    pub fn take_back(&mut self, token: Token) -> bool {
        let is_it = |batch: &&mut Batch<R>| matches!(batch.state, State::InFlight(its) if its == token);
        let Some(batch) = self.batches.iter_mut().find(is_it).filter(|_| self.is_idempotent) else { return false };
        batch.maybe_written = !bug("cut_is_absence");
        batch.state = State::Queued;
        if bug("cut_restamps") {
            batch.stamp = None;
        }
        self.in_flight -= 1;
        self.proven_until = None;
        self.retry_at = None;
        self.tidy();
        true
    }

    /// Whether the last attempt that ended was followed by a back-off.
    pub fn is_backing_off(&self) -> bool {
        self.backoff.failures() > 0
    }

    /// What kept its batches back is over, for all that is known.
    pub fn retry_now(&mut self) {
        self.retry_at = None;
        self.backoff.reset();
    }

    /// Nothing is sent for a while: what is in flight was taken back because nobody answered.
    pub fn back_off(&mut self, now: Instant, random: u64) {
        self.retry_at = Some(now + self.backoff.next_delay(random));
    }

    /// The next batch that has ended, or whose deadline has passed. In order, with idempotence. What is in flight is
    /// answered or lost before it can expire.
    pub fn poll_settled(&mut self, now: Instant) -> Option<Settled<R>> {
        let index = match self.is_idempotent && !bug("settled_as_they_come") {
            true => self.batches.iter().position(|batch| !batch.is_told)?,
            false => self.batches.iter().position(|batch| match batch.state {
                State::Ended(_) => true,
                State::Queued => batch.deadline <= now && !batch.is_told,
                State::InFlight(_) | State::Lent(_) => false,
            })?,
        };
        let batch = self.batches.get_mut(index)?;
        match &mut batch.state {
            State::Ended(_) => {}
            State::Queued if batch.deadline <= now => {
                let reason = Reason::Expired { last: batch.last.take() };
                let maybe_written = batch.maybe_written;
                let failure = Failure { reason, maybe_written };
                let is_followed = self.batches.iter().skip(index + 1).any(Batch::is_open);
                self.give_up(index);
                let batch = self.batches.get_mut(index)?;
                if maybe_written && is_followed && self.is_idempotent && !bug("unknown_leaves") {
                    batch.is_told = true;
                    return Some(Settled { receipts: batch.receipts.take(), sealed: None, result: Err(failure) });
                }
                batch.state = State::Ended(Err(failure));
            }
            State::Queued | State::InFlight(_) | State::Lent(_) => return None,
        }
        let mut batch = if index == 0 { self.batches.pop_front()? } else { self.batches.remove(index)? };
        self.tidy();
        match std::mem::replace(&mut batch.state, State::Queued) {
            State::Ended(result) => Some(batch.settled(result)),
            _ => None,
        }
    }

    /// Gives up everything, for `reason`.
    pub fn fail_all(&mut self, reason: &Reason) -> Vec<Settled<R>> {
        for index in (0..self.batches.len()).rev() {
            let Some(batch) = self.batches.get_mut(index) else { continue };
            if matches!(batch.state, State::InFlight(_)) {
                batch.maybe_written = true;
            }
            if !batch.is_ended() {
                let failure = Failure { reason: reason.clone(), maybe_written: batch.maybe_written };
                batch.state = State::Ended(Err(failure));
                self.give_up(index);
            }
        }
        (self.in_flight, self.is_broken, self.proven_until) = (0, false, None);
        let all = std::mem::take(&mut self.batches).into_iter().filter(|batch| !batch.is_told);
        all.filter_map(|mut batch| match std::mem::replace(&mut batch.state, State::Queued) {
            State::Ended(result) => Some(batch.settled(result)),
            _ => None,
        })
        .collect()
    }

    /// When something changes by itself: a back-off ends, or a batch expires.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let waits = |batch: &&Batch<R>| matches!(batch.state, State::Queued);
        let retry = self.retry_at.filter(|at| *at > now && !bug("back_off_without_timer"));
        let retry = retry.filter(|_| self.batches.iter().any(|batch| waits(&batch)));
        let expires = match self.is_idempotent {
            true => self.batches.iter().find(|batch| !batch.is_told).filter(waits),
            false => self.batches.iter().find(waits),
        };
        let expires = expires.map(|batch| batch.deadline);
        match (retry, expires) {
            (Some(retry), Some(expires)) => Some(retry.min(expires)),
            (retry, expires) => retry.or(expires),
        }
    }

    /// Whether a new batch may be stamped with `identity`. It must not be older than what was used before:
    ///
    /// 1. This partition goes on under epoch 1, from sequence 0, at the task of one leader.
    /// 2. It moves to another leader, whose task has not heard of epoch 1, and offers epoch 0.
    /// 3. Under epoch 0 it would be refused, and come back to epoch 1 with sequence 0: which the broker has, from
    ///    step 1, so that it would take the batch for a duplicate and acknowledge what it never wrote.
    #[inline]
    fn can_use(&self, identity: Identity) -> bool {
        match self.identity {
            None => true,
            Some(own) if own == identity => self.spent != Some(own),
            Some(own) if own.id == identity.id && bug("older_identity") => true,
            // An id may be older that this partition never used, so a list of its own would not do.
            Some(own) => (own.former_ids, own.epoch) < (identity.former_ids, identity.epoch),
        }
    }

    fn adopt(&mut self, identity: Identity) {
        let former = self.identity.replace(identity);
        if former == Some(identity) {
            return;
        }
        if former.is_none_or(|former| former.id != identity.id) && !bug("new_id_is_proven") {
            // What this leader acknowledged was another producer's.
            self.proven_until = None;
        }
        if !bug("epoch_keeps_sequence") {
            self.next_sequence = 0;
        }
        self.spent = None;
    }

    /// The stamped batch at `index` leaves without an acknowledgement: what becomes of its sequence.
    fn give_up(&mut self, index: usize) {
        let Some(batch) = self.batches.get(index) else { return };
        let Some(Stamp { identity: Some(identity), sequence }) = batch.stamp else { return };
        if self.identity != Some(identity) {
            return;
        }
        if batch.maybe_written && !bug("reuse_open_sequence") {
            self.spent = Some(identity);
        } else if self.next_sequence == advance(sequence, batch.len()) {
            // Nothing was ever sent behind it.
            if !bug("gap_after_rejection") {
                self.next_sequence = sequence;
            }
        } else if self.batches.iter().skip(index + 1).any(Batch::is_open) {
            self.spent = Some(identity);
            self.is_broken = true;
        }
    }

    /// What follows from a change by itself.
    fn tidy(&mut self) {
        // Those that only kept a place for what was sent behind them. First, since what breaks may have waited for them.
        while let Some(front) = self.batches.front().filter(|front| front.is_told)
            && (front.is_ended() || !self.batches.iter().any(Batch::is_open))
        {
            self.in_flight -= usize::from(matches!(front.state, State::InFlight(_)));
            self.batches.pop_front();
        }
        if self.is_broken && self.in_flight == 0 {
            self.is_broken = false;
            self.batches.retain(|batch| !batch.is_told);
            for batch in self.batches.iter_mut().filter(|batch| batch.is_open()) {
                if batch.maybe_written && !bug("open_gets_new_stamp") && !bug("open_under_new_epoch") {
                    let reason = Reason::BehindGap { last: batch.last.take() };
                    batch.state = State::Ended(Err(Failure { reason, maybe_written: true }));
                } else {
                    batch.stamp = None;
                }
            }
        }
    }
}

/// Sequences wrap to 0 behind 2³¹−1 (rule 11).
fn advance(sequence: i32, count: usize) -> i32 {
    let next = (u64::from(sequence.cast_unsigned()) + count as u64)
        % (1 << if bug("sequence_does_not_wrap") { 32 } else { 31 });
    next as i32
}

#[cfg(test)]
impl Receipts for u32 {
    fn split_off(&mut self, _: usize) -> Self {
        *self
    }

    fn take(&mut self) -> Self {
        *self
    }
}

#[cfg(test)]
mod tests;
