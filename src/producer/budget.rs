//! `buffer_memory`: how many bytes may wait to be acknowledged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use tokio::sync::{Semaphore, SemaphorePermit};

/// A budget in bytes. Batches take from it in steps, never per record, and give all back when they are settled.
pub(super) struct Budget {
    free: Semaphore,
    total: usize,
    /// Callers that wait for memory now.
    waiting: AtomicUsize,
}

/// The least that a growing batch takes at once: a per-record atomic costs 30 to 40 ns with two threads.
pub(super) const STEP: usize = 16 * 1024;

impl Budget {
    pub(super) fn new(total: usize) -> Self {
        Self { free: Semaphore::new(total), total, waiting: AtomicUsize::new(0) }
    }

    pub(super) fn total(&self) -> usize {
        self.total
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

    /// Wakes everybody who waits: the producer is closed.
    pub(super) fn close(&self) {
        self.free.close();
    }
}

/// A caller that waits for memory.
pub(super) struct Waiting<'a>(&'a Budget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Buffers of settled batches, for the next ones: a fresh one of 128 KiB costs its page faults every time.
pub(super) struct Pool {
    free: Mutex<Vec<BytesMut>>,
}

impl Pool {
    /// More than what a few partitions have under way is seldom needed again.
    const MAX: usize = 32;

    pub(super) fn new() -> Self {
        Self { free: Mutex::default() }
    }

    pub(super) fn take(&self) -> Option<BytesMut> {
        self.lock().pop()
    }

    /// Buffers that are small are not worth the lock.
    pub(super) fn put(&self, buffer: BytesMut) {
        if buffer.capacity() >= STEP {
            let mut free = self.lock();
            if free.len() < Self::MAX {
                free.push(buffer);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BytesMut>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
