//! A record that somebody has in hand.

use std::fmt;
use std::ops::Deref;

use crate::consumer::record::ConsumerRecord;

/// A record of a [`PartitionStream`](super::PartitionStream), until it is [acknowledged](Self::ack).
///
/// Records may be acknowledged in any order: commits take what is acknowledged without a gap. A rebalance that takes the
/// partition away waits for those of it that are in hand, and so does [`PartitionStreams::close`](super::PartitionStreams::close).
///
/// One that is dropped without it was not dealt with: neither it nor anything behind it in its partition counts as such any
/// more, until the stream is dropped too, and another one begins there. So an early return of an error leaves the record to
/// whoever comes next; and who forgets to acknowledge commits nothing.
///
/// It derefs to the [`ConsumerRecord`]. A clone of that lives on behind the acknowledgement.
#[must_use = "a record that is dropped without `ack` counts as not dealt with"]
pub struct PendingRecord {
    record: ConsumerRecord,
    ticket: u64,
    is_acked: bool,
}

impl PendingRecord {
    pub(super) fn new(record: ConsumerRecord, ticket: u64) -> Self {
        Self { record, ticket, is_acked: false }
    }

    /// It has been dealt with. Takes effect at once, and is committed when the consumer commits: by
    /// [`auto_commit`](crate::ConsumerBuilder::auto_commit), [`commit`](crate::ConsumerHandle::commit), a rebalance or `close`.
    ///
    /// Of no effect when the partition was lost meanwhile, or [sought](crate::ConsumerHandle::seek) in, or its stream was
    /// dropped: the record comes again then, here or elsewhere.
    pub fn ack(mut self) {
        self.is_acked = true;
        self.record.borrow().cursor().track().done(self.record.offset(), self.ticket);
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        if !self.is_acked {
            self.record.borrow().cursor().track().abandon(self.record.offset(), self.ticket);
        }
    }
}

impl Deref for PendingRecord {
    type Target = ConsumerRecord;

    fn deref(&self) -> &ConsumerRecord {
        &self.record
    }
}

impl fmt::Debug for PendingRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingRecord").field(&self.record).finish()
    }
}
