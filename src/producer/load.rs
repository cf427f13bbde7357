//! How much waits for a partition's leader: what the choice of a sticky partition looks at.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::net::Runtime;

/// One partition's batches that are sealed and not settled. Changes with batches, never with records.
pub(super) struct Load {
    runtime: Runtime,
    state: Mutex<State>,
}

struct State {
    batches: u32,
    /// When the first of them was sealed, or a batch before it settled, whatever came last.
    waiting_since: Instant,
}

impl Load {
    pub(super) fn new(runtime: &Runtime) -> Self {
        let state = State { batches: 0, waiting_since: runtime.now() };
        Self { runtime: runtime.clone(), state: Mutex::new(state) }
    }

    /// A batch was sealed.
    #[inline]
    pub(super) fn add(&self) {
        let now = self.runtime.now();
        let mut state = self.lock();
        if state.batches == 0 {
            state.waiting_since = now;
        }
        state.batches = state.batches.saturating_add(1);
    }

    /// A sealed batch was settled, well or not.
    #[inline]
    pub(super) fn remove(&self) {
        let now = self.runtime.now();
        let mut state = self.lock();
        state.batches = state.batches.saturating_sub(1);
        state.waiting_since = now;
    }

    pub(super) fn batches(&self) -> u32 {
        self.lock().batches
    }

    /// Whether batches wait, and none was settled for longer than `limit`.
    pub(super) fn is_stuck(&self, now: Instant, limit: Duration) -> bool {
        let state = self.lock();
        state.batches > 0 && now.saturating_duration_since(state.waiting_since) > limit
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
