//! One worker: takes records from its queue, in order, and has the handler deal with them. When that is empty it takes what
//! has no order, and waits for whoever is free.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{Mutex, mpsc};

use super::budget::Budget;
use super::failure::{Cause, FailurePolicy, Panicked};
use super::ledger::Ticket;
use super::track::Track;
use crate::consumer::record::ConsumerRecord;
use crate::error::Error;
use crate::machine::backoff::Backoff;
use crate::net::Core;

/// A record on its way through the pool.
pub struct Job {
    pub record: ConsumerRecord,
    pub track: Arc<Track>,
    pub ticket: Ticket,
    pub bytes: usize,
}

pub struct Worker<F> {
    pub core: Arc<Core>,
    pub handler: Arc<F>,
    pub policy: Arc<FailurePolicy>,
    pub budget: Arc<Budget>,
    /// What has no order.
    pub shared: Arc<Mutex<mpsc::UnboundedReceiver<Job>>>,
    pub reports: mpsc::UnboundedSender<Error>,
}

impl<F, Fut, E> Worker<F>
where
    F: Fn(ConsumerRecord) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Until the queues' other ends are dropped, and both are empty.
    pub async fn run(self, mut queue: mpsc::UnboundedReceiver<Job>) {
        loop {
            let job = tokio::select! {
                biased;
                Some(job) = queue.recv() => job,
                // Whoever has the lock waits for all; its own work makes it let go.
                Some(job) = async { self.shared.lock().await.recv().await } => job,
                else => break,
            };
            let offset = job.record.offset();
            // Whether it is this consumer's still, and wanted.
            if job.track.start(offset, job.ticket) {
                match self.work(&job).await {
                    Ok(true) => job.track.done(offset, job.ticket),
                    Ok(false) => job.track.fail(),
                    Err(error) => {
                        // Before anybody hears of it: nothing behind it begins.
                        job.track.fail();
                        // The pool may be gone.
                        let _ = self.reports.send(error);
                    }
                }
            }
            let bytes = job.bytes;
            // What it holds is free before others may take its place.
            drop(job);
            self.budget.give_back(bytes);
        }
    }

    /// Whether the record is dealt with; not, if nobody wants it any more.
    async fn work(&self, job: &Job) -> Result<bool, Error> {
        let mut backoff = Backoff::new(self.policy.backoff, self.policy.backoff_max);
        let runtime = &self.core.network.runtime;
        let mut attempt = 1;
        loop {
            let Err(cause) = self.attempt(job.record.clone()).await else { return Ok(true) };
            if attempt == self.policy.attempts {
                return self.policy.conclude(&job.record, attempt, cause).await.map(|()| true);
            }
            // Whoever has the partition next tries again.
            if job.track.is_closed() {
                return Ok(false);
            }
            attempt += 1;
            let again = self.core.now() + backoff.next_delay(runtime.random());
            tokio::select! {
                biased;
                // Others wait for it: once more at once, for what lies behind it may be done already.
                () = job.track.closed() => {}
                () = runtime.sleep_until(again) => {}
            }
            if job.track.lock().is_shut() {
                return Ok(false);
            }
        }
    }

    /// A panic is a failure, whether it comes from making the future, polling it or dropping it.
    async fn attempt(&self, record: ConsumerRecord) -> Result<(), Cause> {
        let future = catch_unwind(AssertUnwindSafe(|| (self.handler)(record))).map_err(panicked)?;
        let mut future = pin!(Some(future));
        let outcome = poll_fn(|cx| poll_caught(future.as_mut(), cx)).await;
        catch_unwind(AssertUnwindSafe(|| future.set(None))).map_err(panicked)?;
        outcome?.map_err(|error| Cause::from(error.into()))
    }
}

fn poll_caught<T: Future>(future: Pin<&mut Option<T>>, cx: &mut Context<'_>) -> Poll<Result<T::Output, Cause>> {
    let Some(future) = future.as_pin_mut() else { return Poll::Pending };
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(payload) => Poll::Ready(Err(panicked(payload))),
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> Cause {
    let words = match payload.downcast::<&'static str>() {
        Ok(words) => (*words).into(),
        Err(payload) => payload.downcast::<String>().map_or_else(|_| "without a word".into(), |words| (*words).into()),
    };
    Arc::new(Panicked(words))
}
