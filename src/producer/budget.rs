//! `buffer_memory`: how many bytes may wait to be acknowledged, and how many of them of one partition.
//!
//! A partition may take half of what is free to it, what it holds already included, and one batch in any case. So one
//! whose leader does not answer comes to half of the buffer, the next one to a quarter, and there is always room for
//! those that move. Whoever sends to a partition that has its share waits in a queue of that partition, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// A budget in bytes. Batches take from it in steps, never per record, and give all back when they are settled.
pub(super) struct Budget {
    free: Semaphore,
    total: usize,
    /// Callers that wait for memory now.
    waiting: AtomicUsize,
    /// Bytes that batches' buffers have beyond what is reserved for them.
    slack: AtomicUsize,
}

/// The least that a growing batch takes at once: a per-record atomic costs 30 to 40 ns with two threads.
pub(super) const STEP: usize = 16 * 1024;

/// The most that all buffers together may be larger than what is reserved for them. Three dozen partitions can begin their
/// batches in a buffer of 128 KiB each; others begin smaller ones, which grow.
const MOST_SLACK: usize = 4 << 20;

impl Budget {
    pub(super) fn new(total: usize) -> Self {
        Self { free: Semaphore::new(total), total, waiting: AtomicUsize::new(0), slack: AtomicUsize::new(0) }
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Takes `bytes` if they are free now.
    pub(super) fn try_reserve(&self, bytes: usize) -> bool {
        match u32::try_from(bytes).map(|bytes| self.free.try_acquire_many(bytes)) {
            Ok(Ok(permit)) => {
                permit.forget();
                true
            }
            _ => false,
        }
    }

    /// Whether somebody waits for memory: then no batch should linger.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Counts a caller that is going to wait, until it is dropped.
    pub(super) fn queue(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self)
    }

    /// Waits for `bytes`, in the order of asking. Dropping the permit, or the future, gives them back.
    pub(super) async fn wait(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.free.acquire_many(u32::try_from(bytes).ok()?).await.ok()
    }

    pub(super) fn release(&self, bytes: usize) {
        self.free.add_permits(bytes);
    }

    /// Changes the slack of one buffer, unless it grows and there is no more.
    pub(super) fn try_slack(&self, from: usize, to: usize) -> bool {
        if to <= from {
            self.slack.fetch_sub(from - to, Ordering::Relaxed);
            return true;
        }
        let more = |slack: usize| slack.checked_add(to - from).filter(|slack| *slack <= MOST_SLACK);
        self.slack.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Wakes everybody who waits: the producer is closed.
    pub(super) fn close(&self) {
        self.free.close();
    }
}

/// What one partition holds of the budget.
pub(super) struct Share {
    budget: Arc<Budget>,
    /// Bytes of batches that are not settled.
    held: AtomicUsize,
    /// Callers that wait for this partition's batches to be settled, in the order of asking: the first has the turn.
    turn: Semaphore,
    freed: Notify,
}

/// Whose memory is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Short {
    Partition,
    Everybody,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        let (turn, freed) = (Semaphore::new(1), Notify::new());
        Self { budget: Arc::clone(budget), held: AtomicUsize::new(0), turn, freed }
    }

    /// See [`Budget::try_slack`].
    pub(super) fn try_slack(&self, from: usize, to: usize) -> bool {
        self.budget.try_slack(from, to)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes `bytes` more for the open batch, which has `own` already, if they are free and within the share.
    pub(super) fn try_reserve(&self, bytes: usize, own: usize) -> Result<(), Short> {
        let held = self.held();
        if held > own && held + bytes > (self.budget.free() + held) / 2 {
            return Err(Short::Partition);
        }
        if !self.budget.try_reserve(bytes) {
            return Err(Short::Everybody);
        }
        self.add(bytes);
        Ok(())
    }

    /// The partition holds so many bytes more, already taken from the budget.
    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.held.fetch_sub(bytes, Ordering::Relaxed);
            self.budget.release(bytes);
            self.freed.notify_one();
        }
    }

    /// Waits for this caller's turn, which lasts until it is dropped. `None`: the producer is closed.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turn.acquire().await.ok()
    }

    /// Waits until some of the partition's memory has come back since this was last waited for. Only in one's turn.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Wakes everybody who waits: the producer is closed.
    pub(super) fn close(&self) {
        self.turn.close();
        self.freed.notify_one();
    }
}

/// A caller that waits for memory.
pub(super) struct Waiting<'a>(&'a Budget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
