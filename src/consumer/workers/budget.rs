//! The bytes that a pool's records may hold: taken by the one who hands out, given back by workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Debug)]
pub struct Budget {
    total: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Budget {
    pub fn new(total: usize) -> Self {
        Self { total, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Takes them if they are there, or if nothing is taken at all: a record that is larger than everything goes alone.
    pub fn try_take(&self, bytes: usize) -> bool {
        let used = self.used.load(Ordering::Acquire);
        let may = used == 0 || used.saturating_add(bytes) <= self.total;
        if may {
            // There is one who takes: it can only have become less meanwhile.
            self.used.fetch_add(bytes, Ordering::AcqRel);
        }
        may
    }

    pub async fn take(&self, bytes: usize) {
        while !self.try_take(bytes) {
            // Keeps a ring that came since.
            self.freed.notified().await;
        }
    }

    pub fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::AcqRel);
        self.freed.notify_one();
    }
}
