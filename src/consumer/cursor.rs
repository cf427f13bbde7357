//! How far one assigned partition was read, between two seeks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, Ordering};

use tokio::sync::Notify;

use super::commit::OffsetAndMetadata;
use super::workers::Track;
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
    /// Workers say what is dealt with, in whatever order they do it: what is settled is up to `track`.
    is_tracked: AtomicBool,
    track: Arc<Track>,
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
            is_tracked: AtomicBool::new(false),
            track: Arc::new(Track::new(generation, position)),
        }
    }

    /// The one that takes over. From here on this one is stale.
    pub fn renew(&self, position: Option<i64>) -> Arc<Self> {
        let new = self.successor(position);
        self.retire();
        Arc::new(new)
    }

    /// The same, where what was handed out before `position` still counts: workers may be at it.
    pub fn resume(&self, position: i64) -> Arc<Self> {
        if !self.is_tracked() {
            return self.renew(Some(position));
        }
        let mut new = self.successor(Some(position));
        new.track = Arc::clone(&self.track);
        new.is_tracked = AtomicBool::new(true);
        new.track.lock().cut(new.generation, position);
        self.state.store(STALE, Ordering::Release);
        Arc::new(new)
    }

    fn successor(&self, position: Option<i64>) -> Self {
        let new = Self::at(self.id, self.topic_partition.clone(), self.generation + 1, position);
        new.end.store(self.end(), Ordering::Relaxed);
        new.state.store(if self.is_live() { LIVE } else { HELD }, Ordering::Relaxed);
        new
    }

    /// Nothing more is handed out under this one.
    pub fn retire(&self) {
        self.state.store(STALE, Ordering::Release);
        if self.is_tracked() {
            self.track.shut();
        }
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
        if self.is_tracked() {
            if position >= 0 {
                self.track.lock().reach(self.generation, position, self.epoch.load(Ordering::Acquire));
            }
            return;
        }
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

    /// What was handed out; while workers are at it, what they have done.
    pub fn reached(&self) -> Option<OffsetAndMetadata> {
        if self.is_tracked() {
            return self.settled();
        }
        committable(self.position.load(Ordering::Acquire), &self.epoch)
    }

    /// Without what the caller still has in hand.
    pub fn settled(&self) -> Option<OffsetAndMetadata> {
        if self.is_tracked() {
            let (offset, epoch) = self.track.lock().prefix()?;
            return Some(OffsetAndMetadata::new(offset).leader_epoch(epoch));
        }
        committable(self.settled.load(Ordering::Acquire), &self.settled_epoch)
    }
}

/// # While workers run
impl Cursor {
    /// Workers begin, behind what was handed out before. `bell` rings when a rebalance need not wait for them any longer.
    pub fn begin_work(&self, bell: Arc<Notify>) {
        self.settle();
        self.track.begin(self.generation, self.position(), self.epoch.load(Ordering::Acquire), bell);
        self.is_tracked.store(true, Ordering::Release);
    }

    /// What is not done is begun no more. Where to go on, if anything is left, and the epoch of the record before that.
    pub fn end_work(&self) -> Option<(i64, i32)> {
        if !self.is_tracked() {
            return None;
        }
        self.track.shut();
        self.is_tracked.store(false, Ordering::Release);
        let ledger = self.track.lock();
        if ledger.is_clear() {
            self.settle();
            return None;
        }
        ledger.prefix()
    }

    /// The record before it was of this epoch.
    pub fn settle_epoch(&self, epoch: i32) {
        self.epoch.store(epoch, Ordering::Release);
        self.settled_epoch.store(epoch, Ordering::Release);
    }

    #[inline]
    pub fn is_tracked(&self) -> bool {
        self.is_tracked.load(Ordering::Acquire)
    }

    pub fn track(&self) -> &Arc<Track> {
        &self.track
    }

    /// A record was handed out, for a worker. None: it is void.
    pub fn register(&self, offset: i64, epoch: i32) -> Option<u64> {
        self.track.lock().register(self.generation, offset, epoch)
    }

    /// The same, and whoever it was handed to is at it now. None: nobody gets it, for the partition goes, or reading goes on
    /// elsewhere.
    pub fn hand_over(&self, offset: i64, epoch: i32) -> Option<u64> {
        self.track.lock().hand_over(self.generation, offset, epoch)
    }

    /// Whether a rebalance that wants it has to wait for workers.
    pub fn is_busy(&self) -> bool {
        self.is_tracked() && self.track.lock().is_busy()
    }
}

fn committable(offset: i64, epoch: &AtomicI32) -> Option<OffsetAndMetadata> {
    (offset >= 0).then(|| OffsetAndMetadata::new(offset).leader_epoch(epoch.load(Ordering::Acquire)))
}
