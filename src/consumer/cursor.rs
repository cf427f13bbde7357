//! How far one assigned partition was read, between two seeks.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, Ordering};

use super::commit::OffsetAndMetadata;
use crate::error::TopicPartition;
use crate::machine::credit::PartitionId;

/// A seek makes a new one and leaves the old one stale, so that whoever still reads under the old one can neither hand
/// out a record more nor move the new position.
#[derive(Debug)]
pub struct Cursor {
    pub id: PartitionId,
    pub topic_partition: TopicPartition,
    /// Goes up with every seek: what was fetched under another is stale.
    pub generation: u64,
    /// The next offset to hand out; below zero while it is not known.
    position: AtomicI64,
    /// Of the leader that appended the record before it.
    epoch: AtomicI32,
    /// The same two when the caller last asked for a record: what came before was dealt with.
    settled: AtomicI64,
    settled_epoch: AtomicI32,
    /// Where reading ends; `i64::MAX`: nowhere.
    end: AtomicI64,
    /// Up to where the caller has dealt with records; below zero: nothing.
    mark: AtomicI64,
    state: AtomicU8,
}

const LIVE: u8 = 0;
const HELD: u8 = 1;
const STALE: u8 = 2;

impl Cursor {
    pub fn new(id: PartitionId, topic_partition: TopicPartition) -> Self {
        Self::at(id, topic_partition, 0, None)
    }

    fn at(id: PartitionId, topic_partition: TopicPartition, generation: u64, position: Option<i64>) -> Self {
        Self {
            id,
            topic_partition,
            generation,
            position: AtomicI64::new(position.unwrap_or(-1)),
            epoch: AtomicI32::new(-1),
            settled: AtomicI64::new(position.unwrap_or(-1)),
            settled_epoch: AtomicI32::new(-1),
            end: AtomicI64::new(i64::MAX),
            mark: AtomicI64::new(-1),
            state: AtomicU8::new(LIVE),
        }
    }

    /// The one that takes over. From here on this one is stale.
    pub fn renew(&self, position: Option<i64>) -> Arc<Self> {
        let new = Self::at(self.id, self.topic_partition.clone(), self.generation + 1, position);
        new.end.store(self.end(), Ordering::Relaxed);
        new.state.store(if self.is_live() { LIVE } else { HELD }, Ordering::Relaxed);
        self.retire();
        Arc::new(new)
    }

    /// Nothing more is handed out under this one.
    pub fn retire(&self) {
        self.state.store(STALE, Ordering::Release);
    }

    /// Paused, or at its end: nothing is handed out for now. Only under the lock of the inbox.
    pub fn hold(&self, is_held: bool) {
        if !self.is_stale() {
            self.state.store(if is_held { HELD } else { LIVE }, Ordering::Release);
        }
    }

    /// Whether records may be handed out.
    #[inline]
    pub fn is_live(&self) -> bool {
        self.state.load(Ordering::Acquire) == LIVE
    }

    pub fn is_stale(&self) -> bool {
        self.state.load(Ordering::Acquire) == STALE
    }

    pub fn position(&self) -> Option<i64> {
        Some(self.position.load(Ordering::Acquire)).filter(|position| *position >= 0)
    }

    /// By whoever hands out, for each record.
    #[inline]
    pub fn advance(&self, next: i64) {
        self.position.store(next, Ordering::Release);
    }

    /// By the caller when it asks for more, and by whoever moves the position while the caller has nothing in hand.
    #[inline]
    pub fn settle(&self) {
        let position = self.position.load(Ordering::Acquire);
        if self.settled.load(Ordering::Relaxed) != position {
            self.settled_epoch.store(self.epoch.load(Ordering::Acquire), Ordering::Relaxed);
            self.settled.store(position, Ordering::Release);
        }
    }

    /// By whoever hands out, for each batch, before its first record.
    pub fn enter(&self, epoch: i32) {
        self.epoch.store(epoch, Ordering::Release);
    }

    #[inline]
    pub fn end(&self) -> i64 {
        self.end.load(Ordering::Relaxed)
    }

    pub fn set_end(&self, end: Option<i64>) {
        self.end.store(end.unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub fn is_at_end(&self) -> bool {
        self.position().is_some_and(|position| position >= self.end())
    }

    /// Never goes back.
    pub fn mark(&self, next: i64) {
        self.mark.fetch_max(next, Ordering::AcqRel);
    }

    pub fn marked(&self) -> Option<OffsetAndMetadata> {
        committable(self.mark.load(Ordering::Acquire), &self.epoch)
    }

    pub fn reached(&self) -> Option<OffsetAndMetadata> {
        committable(self.position.load(Ordering::Acquire), &self.epoch)
    }

    /// Without what the caller still has in hand.
    pub fn settled(&self) -> Option<OffsetAndMetadata> {
        committable(self.settled.load(Ordering::Acquire), &self.settled_epoch)
    }
}

fn committable(offset: i64, epoch: &AtomicI32) -> Option<OffsetAndMetadata> {
    (offset >= 0).then(|| OffsetAndMetadata::new(offset).leader_epoch(epoch.load(Ordering::Acquire)))
}
