//! A sealed batch on its way: what it is stamped with, what its attempts came to, and how it may end.

use std::sync::Arc;
use std::time::Instant;

use crate::machine::connection::{CallError, Token};
use crate::machine::planted::bug;
use crate::record::{self, SealedBatch};
use crate::wire::error_code::ErrorCode;

/// Who writes, as the broker knows it (KIP-98). The epoch belongs to the id; each partition adopts a new one when it
/// has nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: i64,
    pub epoch: i16,
    /// The ids that the producer had before this one: they themselves have no order.
    pub former_ids: u32,
}

/// What a batch carries for whoever waits for it.
pub trait Receipts: Sized {
    /// Those of the records from `index` on leave, for a batch of their own.
    fn split_off(&mut self, index: usize) -> Self;
    /// Those who wait leave, to be told; what remains stands for the memory of the batch alone.
    fn take(&mut self) -> Self;
}

/// A sealed batch with the receipts of its records.
pub struct Batch<R> {
    /// `None` while it is lent to be compressed.
    pub(super) sealed: Option<SealedBatch>,
    pub(super) receipts: R,
    /// When it stops being tried (delivery_timeout after its first record).
    pub(super) deadline: Instant,
    pub(super) stamp: Option<Stamp>,
    /// Bytes may have reached a broker, and no answer proved that it did not append them.
    pub(super) maybe_written: bool,
    /// What the last attempt died of, for the error at the deadline.
    pub(super) last: Option<Attempt>,
    pub(super) state: State,
    /// It went through a codec, whether or not that made it smaller.
    pub(super) is_packed: bool,
    /// Its receipts know how it ended, and only its sequence is still of use.
    pub(super) is_told: bool,
}

pub(super) enum State {
    /// Lent to be compressed, under this number.
    Lent(u64),
    /// To be sent, or to be sent again if it has a stamp.
    Queued,
    InFlight(Token),
    Ended(Result<Placed, Failure>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) identity: Option<Identity>,
    pub(super) sequence: i32,
}

impl Stamp {
    pub(super) fn header(self) -> record::Identity {
        match self.identity {
            None => record::Identity::NONE,
            Some(Identity { id, epoch, .. }) => record::Identity {
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
        let (stamp, last) = (None, None);
        let (maybe_written, is_packed, is_told) = (false, false, false);
        let (sealed, state) = (Some(sealed), State::Queued);
        Self { sealed, receipts, deadline, stamp, maybe_written, last, state, is_packed, is_told }
    }

    /// Lends the sealed batch to be compressed elsewhere. This one keeps its place until it is
    /// [given back](super::PartitionQueue::give_back) under the same number.
    pub fn lend(&mut self, number: u64) -> Option<SealedBatch> {
        let sealed = self.sealed.take()?;
        self.state = State::Lent(number);
        self.is_packed = true;
        Some(sealed)
    }

    /// Bytes, header included; of one that is lent nothing is known.
    pub fn size(&self) -> usize {
        self.sealed.as_ref().map_or(0, SealedBatch::size)
    }

    /// Ends it before it was queued.
    pub fn fail(self, failure: Failure) -> Settled<R> {
        self.settled(Err(failure))
    }

    pub(super) fn len(&self) -> usize {
        self.sealed.as_ref().map_or(0, SealedBatch::len)
    }

    pub(super) fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// It has a place in the sequence, and nobody knows yet what became of it.
    pub(super) fn is_open(&self) -> bool {
        self.stamp.is_some() && !self.is_ended() && !self.is_told
    }

    #[inline]
    pub(super) fn settled(self, result: Result<Placed, Failure>) -> Settled<R> {
        Settled { receipts: self.receipts, sealed: self.sealed, result }
    }
}

/// A batch that ended, for its receipts to be told.
pub struct Settled<R> {
    pub receipts: R,
    /// For its buffer. `None` if the batch stays where it is, without receipts.
    pub sealed: Option<SealedBatch>,
    pub result: Result<Placed, Failure>,
}

/// How an attempt ended without an acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    Refused {
        code: ErrorCode,
        message: Option<Arc<str>>,
        /// The answer proves that the batch was not appended.
        is_absent: bool,
    },
    Failed(CallError),
    /// The answer did not mention the partition (rule 21).
    Unmentioned,
}

impl Attempt {
    /// `base_offset`: what the answer says beside the code.
    pub fn refused(code: ErrorCode, base_offset: i64, message: Option<Arc<str>>) -> Self {
        let is_absent =
            code.proves_not_appended(base_offset) || bug("refused_is_absent") && code.proves_not_appended(-1);
        Self::Refused { code, message, is_absent }
    }
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
    /// A batch before it is not in the log, and whether this one is, nobody can tell.
    BehindGap {
        last: Option<Attempt>,
    },
    /// Its deadline came; with what the last attempt died of, if there was one.
    Expired {
        last: Option<Attempt>,
    },
    /// It could not be compressed.
    Compression(Arc<str>),
    /// No producer id could be had.
    NoIdentity(CallError),
    IdentityRefused(ErrorCode),
    /// The user gave up what waited.
    Purged,
    Closed,
}

/// The answer to one attempt.
#[derive(Debug)]
pub enum Outcome {
    Acknowledged(Placed),
    Ended(Attempt),
}
