//! The one door of the mock to clocks and tasks: everything else is driven by what passes through here.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The runtime that started the cluster, and the cluster's clock.
///
/// The clock is tokio's, so that a paused one stands still and jumps. Wall-clock time is the one at the start plus what
/// the clock has moved since: in a test on paused time, brokers that append "an hour later" stamp an hour more.
pub(super) struct Runtime {
    handle: Handle,
    started: Instant,
    /// Milliseconds since 1970, when the cluster started.
    wall_start_ms: i64,
}

impl Runtime {
    /// The current runtime; panics outside of one, as tokio does.
    #[expect(clippy::disallowed_methods, reason = "the mock has its own clock: this file is its only door to it")]
    pub(super) fn current() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            handle: Handle::current(),
            started: Instant::now(),
            wall_start_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Time since the cluster started.
    #[expect(clippy::disallowed_methods, reason = "the mock has its own clock: this file is its only door to it")]
    pub(super) fn elapsed(&self) -> Duration {
        let _entered = self.handle.enter(); // a paused clock belongs to its runtime, and callers may be elsewhere
        Instant::now().duration_since(self.started)
    }

    /// Milliseconds since 1970, as this cluster sees them.
    pub(super) fn wall_ms(&self) -> i64 {
        self.wall_start_ms.saturating_add(i64::try_from(self.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// Waits until the cluster is this old.
    #[expect(clippy::disallowed_methods, reason = "the mock has its own clock: this file is its only door to it")]
    pub(super) async fn sleep_until(&self, age: Duration) {
        match self.started.checked_add(age) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            None => std::future::pending().await,
        }
    }

    /// Waits for `event`, or until the cluster is this old.
    pub(super) async fn wait_until(&self, age: Duration, event: impl Future<Output = ()>) {
        match self.started.checked_add(age) {
            Some(deadline) => tokio::time::timeout_at(deadline, event).await.unwrap_or_default(),
            None => event.await,
        }
    }

    /// Waits for `event`, but no longer than this.
    pub(super) async fn wait_at_most(&self, longest: Duration, event: impl Future<Output = ()>) {
        self.wait_until(self.elapsed().saturating_add(longest), event).await;
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.elapsed().saturating_add(duration)).await;
    }

    /// Runs `task` on the cluster's runtime, whatever runtime the caller is on. A panic in it goes to `on_panic`.
    pub(super) fn spawn<F, P>(&self, task: F, on_panic: P) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
        P: Fn(&str) + Send + Unpin + 'static,
    {
        self.handle.spawn(CatchPanic { task: Box::pin(task), on_panic })
    }
}

struct CatchPanic<F, P> {
    task: Pin<Box<F>>,
    on_panic: P,
}

impl<F: Future<Output = ()>, P: Fn(&str) + Unpin> Future for CatchPanic<F, P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Unwind safety: the task is never polled again, and the cluster is reported as broken.
        catch_unwind(AssertUnwindSafe(|| self.task.as_mut().poll(context))).unwrap_or_else(|payload| {
            (self.on_panic)(message(&*payload));
            Poll::Ready(())
        })
    }
}

fn message(payload: &(dyn Any + Send)) -> &str {
    match payload.downcast_ref::<&str>() {
        Some(text) => text,
        None => payload.downcast_ref::<String>().map_or("a panic without a message", String::as_str),
    }
}
