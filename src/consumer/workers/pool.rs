//! What hands records to workers, and ends when it should.

use std::fmt;
use std::future::{Future, pending};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Mutex, mpsc};

use super::budget::Budget;
use super::failure::FailurePolicy;
use super::worker::{Job, Worker};
use crate::consumer::consumer::Consumer;
use crate::consumer::record::ConsumerRecord;
use crate::error::{Error, ErrorKind};

/// Which records wait for each other: for [`Workers::order`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WorkOrder {
    /// Those of a partition that have the same key. Records without a key have no order, and go to whoever is free.
    #[default]
    Key,
    /// Those of the same partition: so there is work for no more workers than partitions.
    Partition,
}

/// What an error of the consumer does to a pool: from the callback of [`Workers::on_error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorAction {
    /// It goes on, as the consumer does.
    Continue,
    /// [`Workers::run`] returns it, when what is under way is done.
    Stop,
}

/// Has many handlers at work on the records of one consumer: made by [`Consumer::workers`].
///
/// Each worker is a task on the client's runtime with a queue of its own. Records that have an [`order`](Self::order) go to the
/// same worker, one after the other; the rest is done in any order. So a record counts as dealt with when it and everything
/// before it in its partition are done: that is what auto-commit and [`commit`](super::super::ConsumerHandle::commit) take
/// while this runs, and what a rebalance leaves to the next owner.
///
/// A rebalance that takes partitions away waits for what is under way in them; what waits in queues is not begun, unless a
/// record behind it in its partition was, so that no record is done twice. Other partitions flow on. What was lost to others
/// is dropped, and not begun. Records that are held up by a [`budget`](Self::max_buffered) that is full count as work of the
/// caller: for longer than [`max_poll_interval`](super::super::ConsumerBuilder::max_poll_interval), and the membership is lost.
/// A handler that never returns while others keep up does not fill the budget: give handlers a time limit of their own.
///
/// When [`run`](Self::run) has returned, records that were taken from the consumer and are not dealt with come again from it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 3);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # let producer = client.producer().build()?;
/// # for n in 0..30 { producer.send(milena::Record::to("orders").key((n % 7).to_string()).value("x")).await?; }
/// use milena::{FailurePolicy, OffsetReset, WorkOrder};
/// use std::time::Duration;
///
/// let mut consumer = client.consumer().group("billing").auto_offset_reset(OffsetReset::Earliest).build()?;
/// consumer.assign(consumer.partitions_for("orders").await?)?;
/// consumer.stop_at_end().await?;
/// let workers = consumer.workers(8).order(WorkOrder::Key).max_buffered(4 << 20);
/// let policy = FailurePolicy::stop().attempts(5).backoff(Duration::from_millis(100), Duration::from_secs(5));
/// workers.on_failure(policy).run(|record| async move {
///     println!("{}@{}", record.topic_partition(), record.offset());
///     Ok::<_, std::io::Error>(())
/// }).await?;
/// consumer.close().await?;
/// # let committed: i64 = (0..3).filter_map(|p| cluster.committed("billing", "orders", p)).sum();
/// # assert_eq!(committed, 30);
/// # Ok(()) }
/// ```
#[must_use = "nothing is read until it runs"]
pub struct Workers<'a> {
    consumer: &'a mut Consumer,
    count: usize,
    order: WorkOrder,
    max_buffered: usize,
    policy: FailurePolicy,
    on_error: Box<dyn FnMut(&Error) -> ErrorAction + Send + 'a>,
}

const MAX_BUFFERED: usize = 16 << 20;
/// What a record costs beside its bytes: its places in a queue and in the ledger.
const RECORD_OVERHEAD: usize = 64;

impl Consumer {
    /// Deals with records by so many handlers at a time, in order by key or partition: see [`Workers`].
    pub fn workers(&mut self, count: usize) -> Workers<'_> {
        Workers {
            consumer: self,
            count,
            order: WorkOrder::default(),
            max_buffered: MAX_BUFFERED,
            policy: FailurePolicy::stop(),
            on_error: Box::new(by_default),
        }
    }
}

/// What is tried again by itself goes on.
fn by_default(error: &Error) -> ErrorAction {
    if error.is_retriable() { ErrorAction::Continue } else { ErrorAction::Stop }
}

impl<'a> Workers<'a> {
    /// Which records wait for each other. Default: those of a partition with the same key.
    pub fn order(self, order: WorkOrder) -> Self {
        Self { order, ..self }
    }

    /// The bytes that records may have which were taken from the consumer and are not done: keys, values and headers, and 64
    /// for each record. When they are taken, no further record is given to a worker until one is done; a record that is larger goes alone.
    /// What they were fetched with stays in memory as long: up to a batch for each. Default: 16 MiB.
    pub fn max_buffered(self, bytes: usize) -> Self {
        Self { max_buffered: bytes, ..self }
    }

    /// What becomes of a record whose handler fails. Default: [`FailurePolicy::stop`].
    pub fn on_failure(self, policy: FailurePolicy) -> Self {
        Self { policy, ..self }
    }

    /// What an error of the consumer does, as [`recv`](Consumer::recv) returns it. By default those that are tried again by
    /// themselves ([`Error::is_retriable`]) go on unseen, and others stop: loss of data, a topic made again, a batch that
    /// cannot be read. [`Config`](ErrorKind::Config) and [`Closed`](ErrorKind::Closed) stop in any case.
    pub fn on_error(self, decide: impl FnMut(&Error) -> ErrorAction + Send + 'a) -> Self {
        Self { on_error: Box::new(decide), ..self }
    }

    /// Runs until the consumer ends ([`stop_at_end`](super::super::ConsumerHandle::stop_at_end),
    /// [`consumer_timeout`](super::super::ConsumerBuilder::consumer_timeout)) and all is done, or until something fails.
    ///
    /// # Errors
    /// * [`Handler`](ErrorKind::Handler): a handler failed, and the [policy](Self::on_failure) is to stop, or its dead letter
    ///   was not written. [`Error::handler_failure`] has the offset and the handler's error. Nothing at or behind the record
    ///   counts as dealt with.
    /// * An error of the consumer that [`on_error`](Self::on_error) stops at.
    /// * [`Config`](ErrorKind::Config): no workers, or `max_buffered` is 0.
    ///
    /// What was under way is done in each case.
    ///
    /// # Cancel safety
    /// Dropping the future loses no record. Handlers that have begun go on to their end on the runtime, and what waits is
    /// not begun; what is not done by then comes again from this consumer, those that are under way too. To end without doing
    /// anything twice there is [`run_until`](Self::run_until).
    pub async fn run<F, Fut, E>(self, handler: F) -> Result<(), Error>
    where
        F: Fn(ConsumerRecord) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.run_until(pending::<()>(), handler).await
    }

    /// The same, and it ends in good order when `stop` is ready: what is under way is done, and so is what waits before it in
    /// its partition; what else waits comes again from this consumer.
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let mut consumer = client.consumer().build()?;
    /// # consumer.assign([("orders", 0)])?;
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// # stop.send(()).unwrap();
    /// let stopped = async { let _ = stopped.await; };
    /// consumer.workers(8).run_until(stopped, |_| async { Ok::<_, std::io::Error>(()) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run_until<S, F, Fut, E>(mut self, stop: S, handler: F) -> Result<(), Error>
    where
        S: Future<Output = ()>,
        F: Fn(ConsumerRecord) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        if self.count == 0 || self.max_buffered == 0 {
            let setting = if self.count == 0 { "workers(0)" } else { "max_buffered(0)" };
            return Err(Error::config(format!("{setting}: no record could ever be dealt with; give at least 1")));
        }
        let mut stop = pin!(stop);
        let shift = Shift::begin(self.consumer);
        let budget = Arc::new(Budget::new(self.max_buffered));
        let (reports, mut reported) = mpsc::unbounded_channel();
        let (handler, policy) = (Arc::new(handler), Arc::new(self.policy));
        let core = Arc::clone(&shift.consumer.core);
        let (for_all, unordered) = mpsc::unbounded_channel();
        let unordered = Arc::new(Mutex::new(unordered));
        let seed = core.network.runtime.random();
        let mut crew = Crew { order: self.order, seed, queues: Vec::new(), shared: for_all };
        for _ in 0..self.count {
            let (queue, jobs) = mpsc::unbounded_channel();
            crew.queues.push(queue);
            let worker = Worker {
                core: Arc::clone(&core),
                handler: Arc::clone(&handler),
                policy: Arc::clone(&policy),
                budget: Arc::clone(&budget),
                shared: Arc::clone(&unordered),
                reports: reports.clone(),
            };
            core.network.runtime.spawn(worker.run(jobs));
        }
        // What is left of them says when the last worker has gone.
        drop(reports);

        let mut held: Option<Job> = None;
        // Whether what waits is to be dropped, and what is returned.
        let (drops, mut outcome) = loop {
            let bytes = held.as_ref().map(|job| job.bytes);
            tokio::select! {
                biased;
                () = &mut stop => break (true, Ok(())),
                Some(failure) = reported.recv() => break (true, Err(failure)),
                () = budget.take(bytes.unwrap_or(0)), if bytes.is_some() => {
                    if let Some(job) = held.take() && !crew.give(job) {
                        break (true, Err(Error::closed("client")));
                    }
                }
                next = shift.consumer.recv(), if bytes.is_none() => match next {
                    Ok(record) => {
                        let Some(job) = job(record) else { continue };
                        if !budget.try_take(job.bytes) {
                            held = Some(job);
                        } else if !crew.give(job) {
                            break (true, Err(Error::closed("client")));
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::NoMoreRecords => break (false, Ok(())),
                    Err(error) => {
                        let must = matches!(error.kind(), ErrorKind::Config | ErrorKind::Closed);
                        if must || (self.on_error)(&error) == ErrorAction::Stop {
                            break (true, Err(error));
                        }
                    }
                }
            }
        };
        drop(held);
        drop(crew);
        let mut is_dropping = drops;
        if is_dropping {
            shift.close();
        }
        loop {
            tokio::select! {
                biased;
                () = &mut stop, if !is_dropping => {}
                failure = reported.recv() => match failure {
                    None => break,
                    Some(failure) => outcome = outcome.and(Err(failure)),
                }
            }
            is_dropping = true;
            shift.close();
        }
        outcome
    }
}

/// None: the log was cut before it meanwhile.
fn job(record: ConsumerRecord) -> Option<Job> {
    let cursor = record.borrow().cursor();
    let ticket = cursor.register(record.offset(), record.leader_epoch().unwrap_or(-1))?;
    let track = Arc::clone(cursor.track());
    let headers = record.headers().map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len));
    let own = record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
    let bytes = RECORD_OVERHEAD + own + headers.sum::<usize>();
    Some(Job { record, track, ticket, bytes })
}

/// The workers' queues, and the one of all.
struct Crew {
    order: WorkOrder,
    seed: u64,
    queues: Vec<mpsc::UnboundedSender<Job>>,
    shared: mpsc::UnboundedSender<Job>,
}

impl Crew {
    /// Whether there is somebody to take it.
    fn give(&self, job: Job) -> bool {
        let record = job.record.borrow();
        let key = match self.order {
            WorkOrder::Partition => None,
            WorkOrder::Key => match record.key() {
                None => return self.shared.send(job).is_ok(),
                key => key,
            },
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, record.topic_partition(), key).hash(&mut hasher);
        let index = hasher.finish() % self.queues.len() as u64;
        self.queues[index as usize].send(job).is_ok()
    }
}

/// While it lives, workers say what is dealt with. Then what they have not done comes again.
struct Shift<'a> {
    consumer: &'a mut Consumer,
}

impl<'a> Shift<'a> {
    fn begin(consumer: &'a mut Consumer) -> Self {
        consumer.shared.deliver(|inbox| inbox.begin_work());
        Self { consumer }
    }

    /// Nothing is begun any more but what lies before something that was.
    fn close(&self) {
        self.consumer.shared.lock().close_work();
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        self.consumer.shared.deliver(|inbox| inbox.end_work());
    }
}

impl fmt::Debug for Workers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, order, max_buffered, policy, .. } = self;
        let mut debug = f.debug_struct("Workers");
        debug.field("count", count).field("order", order).field("max_buffered", max_buffered).field("policy", policy);
        debug.finish_non_exhaustive()
    }
}
