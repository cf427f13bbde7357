//! The one door to the clock, to randomness and to new tasks.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::error::Error;

/// The runtime on which a client's tasks live. Handles may be used from any other: what needs a timer enters this one.
#[derive(Clone, Debug)]
pub struct Runtime(Handle);

impl Runtime {
    /// The runtime that the caller is on.
    pub fn current() -> Result<Self, Error> {
        Handle::try_current().map(Self).map_err(|_| {
            Error::config(
                "a client needs a tokio runtime for its tasks: build it inside one, or give a handle to \
                 ClientBuilder::runtime",
            )
        })
    }

    pub fn from_handle(handle: Handle) -> Self {
        Self(handle)
    }

    /// Starts a task. It ends by itself when the handles that it serves are gone.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }

    /// Runs what takes long, or blocks, beside the tasks. `None` if the runtime has ended.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.0.spawn_blocking(work).await.ok()
    }

    /// Runs what computes for long on a thread where nobody waits for it. Paused clocks stand still meanwhile, so that
    /// it takes no time there.
    pub fn spawn_blocking(&self, work: impl FnOnce() + Send + 'static) {
        drop(self.0.spawn_blocking(work));
    }

    /// How many threads can compute at a time.
    pub fn parallelism(&self) -> usize {
        // On Linux it reads the files of control groups, which takes as long as to decompress a batch of 16 KiB.
        static PARALLELISM: OnceLock<usize> = OnceLock::new();
        *PARALLELISM.get_or_init(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
    }

    /// The monotonic clock, which tests may pause.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// A timer that works on whatever runtime it is polled.
    #[expect(clippy::disallowed_methods, reason = "the one place that makes timers")]
    pub fn sleep_until(&self, at: Instant) -> Sleep {
        let _entered = self.0.enter();
        tokio::time::sleep_until(at.into())
    }

    /// `future`, or `None` once `deadline` has passed.
    pub async fn until<T>(&self, deadline: Instant, future: impl Future<Output = T>) -> Option<T> {
        let mut sleep = std::pin::pin!(self.sleep_until(deadline));
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// 64 random bits: for jitter and rotation, not for secrets.
    #[expect(clippy::disallowed_methods, reason = "the one place that draws randomness")]
    pub fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// A runtime for tests of what is above this folder. It ends when it is dropped.
#[cfg(test)]
pub struct TestRuntime(tokio::runtime::Runtime);

#[cfg(test)]
impl TestRuntime {
    pub fn new() -> Self {
        Self(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
    }

    pub fn runtime(&self) -> Runtime {
        Runtime::from_handle(self.0.handle().clone())
    }
}

/// Milliseconds since 1970, as records are stamped with.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Pending once: the task goes behind those that are ready on its thread, unless another thread has nothing to do. Tokio's own
/// `yield_now` would keep it on this one until nobody is ready there, however long the others compute.
#[derive(Default)]
pub struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A timer that is re-armed often and rings seldom: moving it later costs nothing until it rings.
pub struct Timer {
    runtime: Runtime,
    sleep: Pin<Box<Sleep>>,
    /// What `sleep` is set to; may be earlier than what is wanted, never later.
    armed: Option<Instant>,
    /// Whom it wakes.
    waker: Option<Waker>,
}

impl Timer {
    pub fn new(runtime: &Runtime) -> Self {
        let now = runtime.now();
        Self { runtime: runtime.clone(), sleep: Box::pin(runtime.sleep_until(now)), armed: None, waker: None }
    }

    /// Ready once `deadline` has passed; registers a wake-up otherwise. `None` never is.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let Some(deadline) = deadline else { return Poll::Pending };
        // As nearly always: it is set, has not rung, and knows who asks.
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && self.armed.is_some_and(|armed| armed <= deadline) && !self.sleep.is_elapsed() {
            return Poll::Pending;
        }
        loop {
            if self.armed.is_none_or(|armed| armed > deadline) {
                self.sleep.as_mut().reset(deadline.into());
                self.armed = Some(deadline);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                if !is_known {
                    self.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
            self.armed = None;
            if self.runtime.now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_rings_once_at_its_latest_deadline() {
        let runtime = Runtime::current().unwrap();
        let start = runtime.now();
        let mut timer = Timer::new(&runtime);
        let early = Some(start + Duration::from_secs(1));
        let late = start + Duration::from_secs(5);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx, early))).await.is_pending());
        poll_fn(|cx| timer.poll(cx, Some(late))).await;
        assert_eq!(runtime.now() - start, Duration::from_secs(5));
    }

    #[test]
    fn timers_work_without_a_runtime_around_them() {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runtime = Runtime::from_handle(tokio.handle().clone());
        let late = runtime.now() + Duration::from_millis(10);
        let outcome = futures_executor::block_on(runtime.until(late, std::future::pending::<()>()));
        assert_eq!(outcome, None);
    }
}
