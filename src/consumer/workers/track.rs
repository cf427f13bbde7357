//! The ledger of a partition, as the consumer, its group and the workers share it.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;

use tokio::sync::Notify;

use super::ledger::{Ledger, Ticket};

/// Its lock is taken under that of the inbox, and never the other way round.
#[derive(Debug)]
pub struct Track {
    ledger: Mutex<Ledger>,
    /// Rings when the group need not wait for it any longer.
    bell: OnceLock<Arc<Notify>>,
    /// Tells those who wait before they try again that nothing new is begun.
    closed: Notify,
}

impl Track {
    pub fn new(generation: u64, position: Option<i64>) -> Self {
        let ledger = Mutex::new(Ledger::new(generation, position, -1));
        Self { ledger, bell: OnceLock::new(), closed: Notify::new() }
    }

    /// Workers begin, behind what was handed out before.
    pub fn begin(&self, generation: u64, position: Option<i64>, epoch: i32, bell: Arc<Notify>) {
        *self.lock() = Ledger::new(generation, position, epoch);
        self.bell.get_or_init(|| bell);
    }

    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn start(&self, offset: i64, ticket: Ticket) -> bool {
        self.lock().start(offset, ticket)
    }

    pub fn done(&self, offset: i64, ticket: Ticket) {
        self.change(|ledger| ledger.done(offset, ticket));
    }

    /// What was handed over was put away, and not done.
    pub fn abandon(&self, offset: i64, ticket: Ticket) {
        self.change(|ledger| ledger.abandon(offset, ticket));
    }

    /// Whether nobody is at anything of it; if not, the waker hears of it.
    pub fn poll_quiet(&self, cx: &Context<'_>) -> bool {
        self.lock().poll_quiet(cx)
    }

    pub fn fail(&self) {
        self.change(Ledger::fail);
    }

    pub fn shut(&self) {
        self.change(Ledger::shut);
    }

    pub fn close(&self) {
        self.change(Ledger::close);
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Until nothing new is begun: others wait for what is under way.
    pub async fn closed(&self) {
        let mut closed = pin!(self.closed.notified());
        // From here on it is heard.
        closed.as_mut().enable();
        if !self.is_closed() {
            closed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.lock();
        change(&mut ledger);
        let is_closed = ledger.is_closed();
        let is_free = is_closed && !ledger.is_busy();
        let waker = if is_free { ledger.take_waker() } else { None };
        drop(ledger);
        if is_closed {
            self.closed.notify_waiters();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        if let (true, Some(bell)) = (is_free, self.bell.get()) {
            bell.notify_one();
        }
    }
}
