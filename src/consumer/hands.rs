//! What the caller has in hand: a rebalance waits until that was dealt with.
//!
//! ```text
//!   Away ──recv, poll──▶ Waiting ──▶ Holding a record or a batch ──recv, poll──▶ dealt with: Waiting, or Holding the next
//! ```
//! A record costs it one counter, which the group's task looks at when it wakes anyway. What takes the lock is the call that
//! somebody waits for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::machine::credit::PartitionId;

/// Where the caller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// Somewhere else, with empty hands.
    #[default]
    Away,
    /// In a call, which has nothing for it yet.
    Waiting,
    /// At work on what it was given.
    Holding,
}

/// The calls of the caller: on a line of their own, for it writes to them at each.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Calls {
    count: AtomicU64,
    is_called: AtomicBool,
}

impl Calls {
    /// By the caller, of whom there is one. Whether somebody waits for this.
    #[inline]
    pub fn begin(&self) -> bool {
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.is_called.load(Ordering::Acquire)
    }

    /// The same, by one of many.
    pub fn begin_of_many(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.is_called.load(Ordering::Acquire)
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// The next call is waited for.
    pub fn call(&self) {
        self.is_called.store(true, Ordering::Release);
    }

    pub fn answer(&self) {
        self.is_called.store(false, Ordering::Release);
    }
}

/// Under the lock of the inbox.
#[derive(Debug, Default)]
pub struct Hands {
    caller: Caller,
    /// Workers have what was handed out: they say when it is done, not the caller.
    is_working: bool,
    /// Guards of the user that keep a rebalance away.
    guards: usize,
    /// To be given back.
    revoking: BTreeSet<PartitionId>,
    /// Since it was asked for these, the caller has dealt with what it had of them.
    is_back: bool,
    /// Rings when that may have changed.
    bell: Arc<Notify>,
}

impl Hands {
    pub fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    pub fn caller(&self) -> Caller {
        self.caller
    }

    pub fn took(&mut self, caller: Caller) {
        self.caller = caller;
    }

    pub fn step_away(&mut self) {
        if self.caller == Caller::Waiting {
            self.caller = Caller::Away;
        }
    }

    /// Asks for these back. Whether there is nothing of them in the caller's hands.
    pub fn call_back(&mut self, revoking: BTreeSet<PartitionId>) -> bool {
        self.revoking = revoking;
        self.is_back = self.is_working || self.caller != Caller::Holding;
        self.is_back
    }

    pub fn come_back(&mut self) {
        self.caller = Caller::Waiting;
        self.is_back = true;
        self.bell.notify_one();
    }

    /// What the caller had, it has dealt with: it says so, or is gone.
    pub fn put_down(&mut self) {
        self.come_back();
        self.caller = Caller::Away;
    }

    /// Workers begin, or have ended.
    pub fn work(&mut self, is_working: bool) {
        self.is_working = is_working;
    }

    pub fn is_working(&self) -> bool {
        self.is_working
    }

    pub fn revoking(&self) -> BTreeSet<PartitionId> {
        self.revoking.clone()
    }

    /// Whether what was asked for can be taken.
    pub fn are_free(&self) -> bool {
        self.is_back && self.guards == 0
    }

    pub fn revoked(&mut self) {
        self.revoking.clear();
    }

    pub fn guard(&mut self) {
        self.guards += 1;
    }

    pub fn unguard(&mut self) {
        self.guards = self.guards.saturating_sub(1);
        if self.guards == 0 {
            self.bell.notify_one();
        }
    }
}
