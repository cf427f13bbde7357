//! The producer's handle.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::delivery::{Delivery, DeliveryError, RecordMetadata};
use super::open_batch::{Append, Limits, Partition};
use super::record::Record;
use super::router::{Request, Table};
use super::topic::{Choice, Topic};
use crate::error::{Error, ErrorKind};
use crate::machine::metadata;
use crate::net::{Core, wall_clock_ms};

/// Sends records. Idempotent by default: what it acknowledges is in the log once, in the order of enqueueing.
///
/// Cheap to clone; all clones are one producer. Records of one partition keep the order in which `enqueue` or `send`
/// returned the first time they were polled to the end; who needs an order among tasks has to make it.
///
/// When the last clone is dropped, what was enqueued is still sent in the background, best effort, as long as the
/// runtime lives: [`flush`](Self::flush) or [`close`](Self::close) to be sure.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::{Client, NewTopic, Record};
/// # let cluster = milena::mock::MockCluster::start().await;
/// # let bootstrap = cluster.bootstrap();
/// let client = Client::builder(bootstrap).connect().await?;
/// # client.admin().create_topics([NewTopic::new("orders", 3, 1)]).await?;
/// let producer = client.producer().build()?;
///
/// // One record, acknowledged.
/// let sent = producer.send(Record::to("orders").key("42").value("created")).await?;
/// assert_eq!(sent.offset, Some(0));
///
/// // Many: enqueue waits for buffer space alone; each receipt tells what became of its record.
/// let mut receipts = Vec::new();
/// for n in 0..1000 {
///     receipts.push(producer.enqueue(Record::to("orders").value(format!("event {n}"))).await?);
/// }
/// for receipt in receipts {
///     receipt.await?;
/// }
/// producer.close(std::time::Duration::from_secs(10)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    limits: Arc<Limits>,
    table: Arc<Table>,
    topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    router: mpsc::UnboundedSender<Request>,
    choice: Choice,
    max_block: Duration,
    auto_create: bool,
    is_closed: AtomicBool,
}

/// A record that [`Producer::try_enqueue`] could not take, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct TryEnqueueError<'a> {
    /// Why not now.
    pub error: Error,
    /// The record, as it was.
    pub record: Record<'a>,
}

impl fmt::Display for TryEnqueueError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for TryEnqueueError<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Producer {
    pub(super) fn new(
        core: Arc<Core>,
        limits: Arc<Limits>,
        table: Arc<Table>,
        router: mpsc::UnboundedSender<Request>,
        choice: Choice,
        max_block: Duration,
        auto_create: bool,
    ) -> Self {
        let (topics, is_closed) = Default::default();
        Self {
            inner: Arc::new(Inner { core, limits, table, topics, router, choice, max_block, auto_create, is_closed }),
        }
    }

    /// Sends a record and waits until it is acknowledged.
    ///
    /// Waits for a whole round trip, after `linger`: many calls at once share batches, calls one after the other do not.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue), and what the receipt resolves to; [`DeliveryError::fate`] says whether the
    /// record may be in the log all the same.
    ///
    /// # Cancel safety
    /// Dropped before the record is enqueued, it is not sent. Dropped later, it is sent and only the receipt is gone.
    pub async fn send(&self, record: Record<'_>) -> Result<RecordMetadata, DeliveryError> {
        self.enqueue(record).await?.await
    }

    /// Takes a record into the buffer, and returns its receipt. Waits for buffer space only, and for the first record
    /// of a topic until a broker has told of it.
    ///
    /// # Errors
    /// [`UnknownTopic`](ErrorKind::UnknownTopic), [`UnknownPartition`](ErrorKind::UnknownPartition),
    /// [`RecordTooLarge`](ErrorKind::RecordTooLarge), [`BufferFull`](ErrorKind::BufferFull) after
    /// [`max_block`](super::ProducerBuilder::max_block), [`Timeout`](ErrorKind::Timeout) when no broker answers, and
    /// [`Closed`](ErrorKind::Closed). The record was not enqueued then and will not be sent.
    ///
    /// # Cancel safety
    /// Cancel-safe: a future that is dropped before it is ready has not enqueued its record. A loop that only enqueues
    /// still lets other tasks run: once in a while the future yields though it could go on.
    pub async fn enqueue(&self, record: Record<'_>) -> Result<Delivery, Error> {
        if is_time_to_yield() {
            Yield::default().await;
        }
        let partition = match self.locate(&record) {
            Ok(partition) => partition,
            Err(missing) => return Box::pin(self.enqueue_slowly(&record, None, missing)).await,
        };
        match self.append(&partition, &record, &mut 0, true) {
            Ok(delivery) => return Ok(delivery),
            Err(Missing::Turn) => Yield::default().await,
            Err(missing) => return Box::pin(self.enqueue_slowly(&record, Some(partition), missing)).await,
        }
        match self.append(&partition, &record, &mut 0, false) {
            Ok(delivery) => Ok(delivery),
            Err(missing) => Box::pin(self.enqueue_slowly(&record, Some(partition), missing)).await,
        }
    }

    /// Takes a record into the buffer if that needs no waiting.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue), at once, with the record. While a topic is used for the first time, and
    /// while the buffer is full, [`Error::is_retriable`] is true.
    #[expect(clippy::result_large_err, reason = "the record comes back by value, without an allocation")]
    pub fn try_enqueue<'a>(&self, record: Record<'a>) -> Result<Delivery, TryEnqueueError<'a>> {
        let appended = self.locate(&record).and_then(|partition| self.append(&partition, &record, &mut 0, false));
        let error = match appended {
            Ok(delivery) => return Ok(delivery),
            Err(Missing::Refused(error)) => error,
            Err(Missing::Memory(_) | Missing::Turn) => {
                self.hurry();
                self.buffer_full(record.topic.as_str())
            }
            Err(Missing::Topic) => {
                let name: Arc<str> = record.topic.as_str().into();
                self.inner.core.metadata.look_for(&name, self.inner.auto_create, None);
                let cluster = self.inner.core.metadata.cluster();
                if let Some(topic) = cluster.topics.get(&name).filter(|topic| !topic.partitions.is_empty()) {
                    self.register(topic);
                    return self.try_enqueue(record);
                }
                Error::new(
                    ErrorKind::Timeout,
                    format!("no broker has told of topic `{name}` yet: try again, or await enqueue"),
                )
            }
            Err(Missing::Partition(error)) => error,
        };
        Err(TryEnqueueError { error, record })
    }

    /// Waits until every record that was enqueued before the call is acknowledged or failed, without lingering.
    ///
    /// Which of them failed, their receipts say.
    ///
    /// # Cancel safety
    /// Cancel-safe: nothing is undone.
    pub async fn flush(&self) {
        let inner = &self.inner;
        // All are sealed before the first is waited for.
        let receipts: Vec<_> =
            inner.table.all().iter().filter_map(|partition| partition.flush(&inner.limits)).collect();
        for receipts in receipts {
            let _ = receipts.receipt(0).await;
        }
    }

    /// Takes no more records, flushes, and ends the producer's tasks. What is not acknowledged `within` that time fails
    /// with [`ErrorKind::Closed`], its fate told truthfully. All clones are closed.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when some records were not acknowledged in time. A second call returns at once.
    ///
    /// # Cancel safety
    /// Dropped early, the producer takes no more records, and goes on sending what it has in the background.
    pub async fn close(&self, within: Duration) -> Result<(), Error> {
        let inner = &self.inner;
        if inner.is_closed.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        let runtime = &inner.core.network.runtime;
        let flushed = runtime.until(runtime.now() + within.min(MAX_CLOSE), self.flush()).await;
        let (done, stopped) = oneshot::channel();
        if inner.router.send(Request::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
        match flushed {
            Some(()) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Timeout,
                format!("closed with records that were not acknowledged within {within:?}: their receipts say which"),
            )),
        }
    }

    /// The partition that a record goes to. Asked once for each record, since some partitioners count.
    fn locate(&self, record: &Record<'_>) -> Result<Arc<Partition>, Missing> {
        let inner = &*self.inner;
        if inner.is_closed.load(Ordering::Relaxed) {
            return Err(Missing::Refused(Error::closed("producer")));
        }
        let topics = inner.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = Arc::clone(topics.get(record.topic.as_str()).ok_or(Missing::Topic)?);
        drop(topics);
        match topic.partition_of(&inner.limits, record) {
            Ok(partition) => partition.ok_or(Missing::Topic),
            Err(error) => Err(Missing::Partition(error)),
        }
    }

    fn append(
        &self,
        partition: &Partition,
        record: &Record<'_>,
        permit: &mut usize,
        may_yield: bool,
    ) -> Result<Delivery, Missing> {
        let inner = &*self.inner;
        if inner.is_closed.load(Ordering::Relaxed) {
            return Err(Missing::Refused(Error::closed("producer")));
        }
        let timestamp = record.timestamp.unwrap_or_else(wall_clock_ms);
        match partition.append(&inner.limits, record, timestamp, permit, may_yield) {
            Append::Done(delivery) => Ok(delivery),
            Append::Yield => Err(Missing::Turn),
            Append::NoMemory(bytes) => Err(Missing::Memory(bytes)),
            Append::Refused(error) => Err(Missing::Refused(error)),
        }
    }

    /// Waits for what is missing, and again. `chosen` is the partition, once one was chosen.
    async fn enqueue_slowly(
        &self,
        record: &Record<'_>,
        mut chosen: Option<Arc<Partition>>,
        first: Missing,
    ) -> Result<Delivery, Error> {
        let inner = &*self.inner;
        let runtime = &inner.core.network.runtime;
        let deadline = runtime.now() + inner.max_block;
        let mut missing = first;
        let mut asked = 0;
        loop {
            let mut permit = 0;
            match missing {
                Missing::Refused(error) => return Err(error),
                Missing::Turn => {}
                Missing::Topic => {
                    let name = Arc::from(record.topic.as_str());
                    let limit = format!("max_block ({:?})", inner.max_block);
                    let topic =
                        inner.core.metadata.topic(&inner.core.network, &name, inner.auto_create, deadline, &limit);
                    self.register(&*topic.await?);
                }
                // Partitions may have been added since: a fresh answer decides. The first may have been under way before.
                Missing::Partition(error) if asked == 2 => return Err(error),
                Missing::Partition(error) => {
                    asked += 1;
                    let Some(cluster) = runtime.until(deadline, inner.core.metadata.fresh()).await else {
                        return Err(error);
                    };
                    let name = Arc::from(record.topic.as_str());
                    if let Some(topic) = cluster?.topics.get(&name) {
                        self.register(topic);
                    }
                }
                Missing::Memory(bytes) => {
                    if bytes > inner.limits.budget.total() {
                        return Err(Error::new(
                            ErrorKind::RecordTooLarge,
                            format!(
                                "a record for topic `{}` needs {bytes} bytes, more than buffer_memory ({})",
                                record.topic.as_str(),
                                inner.limits.budget.total()
                            ),
                        ));
                    }
                    // Counted first: what is opened from now on does not linger, and `hurry` finds what is open already.
                    let _waiting = inner.limits.budget.queue();
                    self.hurry();
                    match runtime.until(deadline, inner.limits.budget.wait(bytes)).await {
                        Some(Some(granted)) => {
                            granted.forget();
                            permit = bytes;
                        }
                        Some(None) => return Err(Error::closed("producer")),
                        None => return Err(self.buffer_full(record.topic.as_str())),
                    }
                }
            }
            let attempt = match chosen.take().map_or_else(|| self.locate(record), Ok) {
                Ok(partition) => self.append(chosen.insert(partition), record, &mut permit, false),
                Err(missing) => Err(missing),
            };
            inner.limits.budget.release(permit);
            match attempt {
                Ok(done) => return Ok(done),
                Err(next) => missing = next,
            }
        }
    }

    /// Makes a topic known to this producer, as a broker told of it.
    fn register(&self, told: &metadata::Topic) {
        let inner = &*self.inner;
        let mut topics = inner.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(Arc::clone(&told.name)).or_insert_with(|| {
            Arc::new(Topic::new(Arc::clone(&told.name), inner.choice.clone(), inner.limits.batch_size))
        });
        let partitions = topic.update(&inner.table, told);
        if !partitions.is_empty() {
            inner.core.metadata.want(&told.name, inner.auto_create);
            let _ = inner.router.send(Request::Register { topic: Arc::clone(topic), partitions });
        }
    }

    fn hurry(&self) {
        let _ = self.inner.router.send(Request::Hurry);
    }

    fn buffer_full(&self, topic: &str) -> Error {
        let (total, block) = (self.inner.limits.budget.total(), self.inner.max_block);
        Error::new(
            ErrorKind::BufferFull,
            format!(
                "no room for a record to topic `{topic}`: buffer_memory ({total} bytes) is full of records that are \
                 not acknowledged yet (enqueue waits for max_block, {block:?})"
            ),
        )
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("bootstrap", &self.inner.core.seeds).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.router.send(Request::Drain);
    }
}

/// What an append lacks.
enum Missing {
    /// Nothing: others should run first.
    Turn,
    Topic,
    Partition(Error),
    Memory(usize),
    Refused(Error),
}

const MAX_CLOSE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Every so many calls on a thread, and after each sealed batch, others get their turn, or a loop that only enqueues
/// would starve a current-thread runtime for good.
const YIELD_EVERY: u32 = 128;

/// Counted per thread: one counter for all would be fought over.
fn is_time_to_yield() -> bool {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let calls = CALLS.get().wrapping_add(1);
    CALLS.set(calls);
    calls.is_multiple_of(YIELD_EVERY)
}

/// Pending once.
#[derive(Default)]
struct Yield(bool);

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
