//! A poll that costs nothing while there is no reason for it.
//!
//! A task with several connections is woken by one of them, and polls them all. What was not woken itself, and not
//! touched by its owner since it was last pending, is pending still:
//!
//! ```text
//!   socket, timer ──wake──▶ gate: open ──wake──▶ the task ──poll──▶ gate: open?  yes ──▶ poll, with the gate's waker
//!   owner: send, mute ────▶ gate: open                                           no ──▶ Pending
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

pub struct Gate {
    shared: Arc<Shared>,
    /// Wakes `shared`: made once, so that who keeps it never has to replace it.
    waker: Waker,
    /// Who polled last, as `shared` knows.
    task: Option<Waker>,
}

struct Shared {
    is_open: AtomicBool,
    /// It stays when it is woken, so that a task tells its waker once, however often it polls.
    task: Mutex<Option<Waker>>,
}

impl Gate {
    /// Open, so that what is behind it is polled a first time.
    pub fn new() -> Self {
        let shared = Arc::new(Shared { is_open: AtomicBool::new(true), task: Mutex::new(None) });
        Self { waker: Waker::from(Arc::clone(&shared)), shared, task: None }
    }

    /// There is a reason to poll. The owner is polling, or will: nobody is woken.
    pub fn open(&self) {
        self.shared.is_open.store(true, Ordering::Release);
    }

    /// The waker to poll with, and the gate is closed again; or `None`, and the task is woken when it opens.
    #[inline]
    pub fn enter(&mut self, cx: &Context<'_>) -> Option<Waker> {
        // First: a wake between the two is seen by one of them.
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            *self.shared.task.lock().unwrap_or_else(PoisonError::into_inner) = self.task.clone();
        }
        // As nearly always it is closed, which a load tells.
        let is_open = self.shared.is_open.load(Ordering::Acquire) && self.shared.is_open.swap(false, Ordering::AcqRel);
        is_open.then(|| self.waker.clone())
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_open.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn it_opens_by_its_waker_and_by_its_owner_and_only_the_first_wakes_the_task() {
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut gate = Gate::new();
        let inner = gate.enter(&cx).expect("polled a first time");
        assert!(gate.enter(&cx).is_none());
        gate.open();
        assert_eq!(woken(), 0);
        assert!(gate.enter(&cx).is_some());
        assert!(gate.enter(&cx).is_none());
        inner.wake_by_ref();
        assert_eq!(woken(), 1);
        assert!(gate.enter(&cx).is_some_and(|again| again.will_wake(&inner)));
        assert!(gate.enter(&cx).is_none());
    }

    #[test]
    fn a_wake_while_what_is_behind_is_polled_is_not_lost() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let mut gate = Gate::new();
        let inner = gate.enter(&cx).unwrap();
        inner.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(gate.enter(&cx).is_some());
    }

    #[test]
    fn the_task_that_polled_last_is_woken() {
        let (first, second) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let mut gate = Gate::new();
        let inner = gate.enter(&Context::from_waker(&Waker::from(Arc::clone(&first)))).unwrap();
        assert!(gate.enter(&Context::from_waker(&Waker::from(Arc::clone(&second)))).is_none());
        inner.wake();
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
    }
}
