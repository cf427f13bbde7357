//! One partition's way to the log: sealed batches in order, stamped with producer id, epoch and sequence.
//!
//! What is sent stays what it is: a retry carries the same bytes under the same sequence, so the broker can tell
//! that it has them (rule 2). A batch is resolved only at the head (rule 1). An outcome that is open stays open, even
//! if the next attempt is refused for sure (rule 3): at its deadline such a batch resolves as unknown, and the partition
//! goes on under a new epoch from sequence 0, so that no later record can be taken for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::backoff::Backoff;
use super::connection::{CallError, Token};
use crate::record::{self, SealedBatch};
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};

/// Who writes, as the broker knows it (KIP-98). The epoch belongs to the id; each partition adopts a new one when it
/// has nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
}

/// A sealed batch with the receipts of its records.
pub struct Batch<R> {
    pub sealed: SealedBatch,
    pub receipts: R,
    /// When it stops being tried (delivery_timeout after its first record).
    pub deadline: Instant,
    stamp: Option<Stamp>,
    /// Bytes may have reached a broker, and no answer proved that it did not append them.
    maybe_written: bool,
    /// What the last attempt died of, for the error at the deadline.
    last: Option<Attempt>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    identity: Option<Identity>,
    sequence: i32,
}

impl Stamp {
    fn header(self) -> record::Identity {
        match self.identity {
            None => record::Identity::NONE,
            Some(Identity { id, epoch }) => record::Identity {
                producer_id: id,
                producer_epoch: epoch,
                base_sequence: self.sequence,
                transactional: false,
            },
        }
    }
}

impl<R> Batch<R> {
    pub fn new(sealed: SealedBatch, receipts: R, deadline: Instant) -> Self {
        Self { sealed, receipts, deadline, stamp: None, maybe_written: false, last: None }
    }
}

/// How an attempt ended without an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Refused {
        code: ErrorCode,
        message: Option<Arc<str>>,
    },
    Failed(CallError),
    /// The answer did not mention the partition (rule 21).
    Unmentioned,
}

/// Where the broker put a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// `None`: it is in the log, the broker does not say where (a duplicate, or acks=0).
    pub base_offset: Option<i64>,
    /// Set on topics with LogAppendTime.
    pub log_append_time: Option<i64>,
}

/// Why a batch will not be acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// Whether it may be in the log all the same.
    pub maybe_written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A broker refused it for good, or it could not even be sent.
    Rejected(Attempt),
    /// Its deadline came; with what the last attempt died of, if there was one.
    Expired {
        last: Option<Attempt>,
    },
    /// No producer id could be had.
    NoIdentity(CallError),
    IdentityRefused(ErrorCode),
    Closed,
}

/// The answer to one attempt.
#[derive(Debug)]
pub enum Outcome {
    Acknowledged(Placed),
    Ended(Attempt),
}

/// What follows from an outcome or from the passing of time.
pub struct Resolution<R> {
    pub settled: Option<(Batch<R>, Result<Placed, Failure>)>,
    /// The leader is another one, or not known.
    pub refresh: bool,
}

/// Everything of one partition that is sealed. It belongs to one task at a time, and moves with its leader.
pub struct PartitionQueue<R> {
    is_idempotent: bool,
    /// In order. Only the head can carry a stamp, and only while nothing is in flight.
    queue: VecDeque<Batch<R>>,
    in_flight: Option<(Token, Batch<R>)>,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Ids from before `identity`'s, which ran out of epochs: whoever still offers one has not heard of it yet.
    former_ids: Vec<i64>,
    /// The epoch under which an outcome stayed open: what comes next needs a newer one.
    spent: Option<Identity>,
    retry_at: Option<Instant>,
    backoff: Backoff,
}

impl<R> PartitionQueue<R> {
    pub fn new(is_idempotent: bool, retry_backoff: Duration, retry_backoff_max: Duration) -> Self {
        Self {
            is_idempotent,
            queue: VecDeque::new(),
            in_flight: None,
            identity: None,
            next_sequence: 0,
            former_ids: Vec::new(),
            spent: None,
            retry_at: None,
            backoff: Backoff::new(retry_backoff, retry_backoff_max),
        }
    }

    /// As after a long life under `identity`.
    #[cfg(test)]
    pub fn resume(&mut self, identity: Identity, next_sequence: i32) {
        (self.identity, self.next_sequence) = (Some(identity), next_sequence);
    }

    pub fn push(&mut self, batch: Batch<R>) {
        self.queue.push_back(batch);
    }

    /// Nothing sealed is waiting: the open batch may be taken.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_none()
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The size of what [`Self::start`] would send now, if it may send at all.
    pub fn startable(&self, now: Instant, identity: Option<Identity>) -> Option<usize> {
        let head = self.queue.front()?;
        // Past its deadline it only waits to be told so, or it would take another request's time.
        let is_due =
            (head.deadline > now || cfg!(milena_bug = "send_expired")) && self.retry_at.is_none_or(|at| at <= now);
        let is_free = self.in_flight.is_none() && is_due;
        let has_identity =
            !self.is_idempotent || head.stamp.is_some() || identity.is_some_and(|identity| self.can_use(identity));
        (is_free && has_identity).then(|| head.sealed.size())
    }

    /// The epoch that this partition cannot go on with, while something waits for a newer one.
    pub fn needs_newer_than(&self) -> Option<Identity> {
        self.spent.filter(|_| self.queue.front().is_some_and(|head| head.stamp.is_none()))
    }

    /// Sends the head. Call it only when [`Self::startable`] says so, with the same arguments.
    pub fn start(&mut self, token: Token, identity: Option<Identity>) -> Option<Bytes> {
        let mut batch = self.queue.pop_front()?;
        if batch.stamp.is_none() || cfg!(milena_bug = "stamp_retry_again") {
            let sequence = match identity.filter(|_| self.is_idempotent) {
                Some(identity) => {
                    self.adopt(identity);
                    let sequence = self.next_sequence;
                    self.next_sequence = advance(sequence, batch.sealed.len());
                    sequence
                }
                None => record::Identity::NONE.base_sequence,
            };
            batch.stamp = Some(Stamp { identity: self.identity.filter(|_| self.is_idempotent), sequence });
        }
        // The same stamp again yields the identical bytes.
        let bytes = batch.sealed.stamp(batch.stamp.map_or(record::Identity::NONE, Stamp::header));
        self.retry_at = None;
        self.in_flight = Some((token, batch));
        Some(bytes)
    }

    /// The attempt `token` ended. Late answers of attempts that were taken back are ignored.
    pub fn handle_outcome(&mut self, now: Instant, token: Token, outcome: Outcome, random: u64) -> Resolution<R> {
        let nothing = Resolution { settled: None, refresh: false };
        let Some((_, mut batch)) =
            self.in_flight.take_if(|(in_flight, _)| *in_flight == token || cfg!(milena_bug = "any_token"))
        else {
            return nothing;
        };
        let attempt = match outcome {
            Outcome::Acknowledged(placed) => {
                self.backoff.reset();
                return Resolution { settled: Some((batch, Ok(placed))), refresh: false };
            }
            Outcome::Ended(attempt) => attempt,
        };
        let (action, is_absent) = match &attempt {
            Attempt::Refused { code, .. } => (code.action(ApiKey::PRODUCE), code.proves_not_appended()),
            Attempt::Failed(error @ (CallError::Unsupported(_) | CallError::Encode { .. })) => {
                (Action::Fail, !error.maybe_sent())
            }
            // A password that is wrong stays wrong, however often it is tried.
            Attempt::Failed(error) if error.is_denied() => (Action::Fail, !error.maybe_sent()),
            Attempt::Failed(error) => (Action::Refresh, !error.maybe_sent()),
            Attempt::Unmentioned => (Action::Retry, false),
        };
        batch.maybe_written |= !is_absent;
        if is_absent && cfg!(milena_bug = "forget_open") {
            batch.maybe_written = false;
        }
        match action {
            Action::Done | Action::Duplicate => {
                self.backoff.reset();
                let placed = Placed { base_offset: None, log_append_time: None };
                Resolution { settled: Some((batch, Ok(placed))), refresh: false }
            }
            Action::NewEpoch
                if self.is_idempotent && (!batch.maybe_written || cfg!(milena_bug = "open_under_new_epoch")) =>
            {
                // Never appended, so it may go out again under the next epoch, as sequence 0.
                self.spent = self.identity;
                batch.stamp = None;
                batch.last = Some(attempt);
                self.queue.push_front(batch);
                self.retry_at = Some(now + self.backoff.next_delay(random));
                nothing
            }
            Action::Retry if cfg!(milena_bug = "never_settled") && attempt == Attempt::Unmentioned => nothing,
            Action::Retry | Action::Refresh | Action::FindCoordinator => {
                batch.last = Some(attempt);
                self.queue.push_front(batch);
                self.retry_at = Some(now + self.backoff.next_delay(random));
                Resolution { settled: None, refresh: action != Action::Retry }
            }
            _ => {
                let failure = Failure { reason: Reason::Rejected(attempt), maybe_written: batch.maybe_written };
                self.give_up(&batch);
                Resolution { settled: Some((batch, Err(failure))), refresh: false }
            }
        }
    }

    /// The leader has changed for certain. An idempotent batch that is in flight goes to the new one at once: whichever
    /// answer comes late is ignored, and a log that has it says so. Without idempotence it would be doubled, and waits.
    pub fn recall(&mut self) {
        if self.is_idempotent
            && let Some((_, mut batch)) = self.in_flight.take()
        {
            batch.maybe_written = !cfg!(milena_bug = "recall_is_absence");
            self.queue.push_front(batch);
        }
        if self.in_flight.is_none() {
            self.retry_at = None;
        }
    }

    /// The next batch whose deadline has passed, head first. What is in flight is answered or lost before it can expire.
    pub fn poll_expired(&mut self, now: Instant) -> Option<(Batch<R>, Failure)> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.queue.front()?.deadline > now {
            return None;
        }
        let mut batch = self.queue.pop_front()?;
        self.give_up(&batch);
        let reason = Reason::Expired { last: batch.last.take() };
        let maybe_written = batch.maybe_written;
        Some((batch, Failure { reason, maybe_written }))
    }

    /// Gives up everything, for `reason`.
    pub fn fail_all(&mut self, reason: &Reason) -> Vec<(Batch<R>, Failure)> {
        let in_flight = self.in_flight.take().map(|(_, mut batch)| {
            batch.maybe_written = true;
            batch
        });
        let all = in_flight.into_iter().chain(std::mem::take(&mut self.queue));
        let failed: Vec<_> = all
            .map(|batch| {
                let failure = Failure { reason: reason.clone(), maybe_written: batch.maybe_written };
                (batch, failure)
            })
            .collect();
        for (batch, _) in failed.iter().rev() {
            self.give_up(batch);
        }
        failed
    }

    /// When something changes by itself: a back-off ends, or the head expires.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        let head = self.queue.front()?;
        let is_to_come = |at: &Instant| *at > now && !cfg!(milena_bug = "back_off_without_timer");
        Some(self.retry_at.filter(is_to_come).map_or(head.deadline, |at| at.min(head.deadline)))
    }

    /// Whether a new batch may be stamped with `identity`. It must not be older than what was used before:
    ///
    /// 1. This partition goes on under epoch 1, from sequence 0, at the task of one leader.
    /// 2. It moves to another leader, whose task has not heard of epoch 1, and offers epoch 0.
    /// 3. Under epoch 0 it would be refused, and come back to epoch 1 with sequence 0: which the broker has, from
    ///    step 1, so that it would take the batch for a duplicate and acknowledge what it never wrote.
    fn can_use(&self, identity: Identity) -> bool {
        match self.identity {
            None => true,
            Some(own) if own == identity => self.spent != Some(own),
            Some(own) if own.id == identity.id => own.epoch < identity.epoch || cfg!(milena_bug = "older_identity"),
            Some(_) => !self.former_ids.contains(&identity.id),
        }
    }

    fn adopt(&mut self, identity: Identity) {
        let former = self.identity.replace(identity);
        if former == Some(identity) {
            return;
        }
        self.former_ids.extend(former.map(|former| former.id).filter(|id| *id != identity.id));
        if !cfg!(milena_bug = "epoch_keeps_sequence") {
            self.next_sequence = 0;
        }
        self.spent = None;
    }

    /// A stamped batch leaves without an acknowledgement. If it is surely absent, its sequence is free for the next
    /// one; if not, no batch may follow it under this epoch.
    fn give_up(&mut self, batch: &Batch<R>) {
        let Some(Stamp { identity: Some(identity), sequence }) = batch.stamp else { return };
        if self.identity != Some(identity) {
            return;
        }
        if batch.maybe_written && !cfg!(milena_bug = "reuse_open_sequence") {
            self.spent = Some(identity);
        } else if !cfg!(milena_bug = "gap_after_rejection") {
            self.next_sequence = sequence;
        }
    }
}

/// Sequences wrap to 0 behind 2³¹−1 (rule 11).
fn advance(sequence: i32, count: usize) -> i32 {
    let next = (u64::from(sequence.cast_unsigned()) + count as u64)
        % (1 << if cfg!(milena_bug = "sequence_does_not_wrap") { 32 } else { 31 });
    next as i32
}

#[cfg(test)]
mod tests;
