//! The producer's handle.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use super::append::{Inner, Missing, Run};
use super::delivery::{Delivery, DeliveryError, RecordMetadata};
use super::metrics::ProducerMetrics;
use super::record::Record;
use super::router::Request;
use super::topic::ProducerTopic;
use crate::PartitionDescription;
use crate::error::{Error, ErrorKind};
use crate::machine::metadata;
use crate::net::Yield;

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
    pub(super) inner: Arc<Inner>,
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
    pub(super) fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
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
    #[expect(clippy::manual_async_fn, reason = "an `async fn` would move the record, which is large, once more")]
    pub fn enqueue(&self, record: Record<'_>) -> impl Future<Output = Result<Delivery, Error>> + Send {
        async move {
            if is_time_to_yield() {
                Yield::default().await;
            }
            let intercepted = self.inner.intercepted(&record);
            let record = intercepted.as_deref().unwrap_or(&record);
            match self.inner.try_append(record, &mut Run::default(), true) {
                Ok(delivery) => Ok(delivery),
                Err(Missing::Turn(partition)) => {
                    // Once a batch, so without the box that all other waiting is worth.
                    Yield::default().await;
                    match self.inner.append_again(&partition, record) {
                        Ok(delivery) => Ok(delivery),
                        Err(missing) => Box::pin(self.inner.append_slowly(record, missing)).await,
                    }
                }
                Err(missing) => Box::pin(self.inner.append_slowly(record, missing)).await,
            }
        }
    }

    /// Takes a record into the buffer if that needs no waiting.
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue), at once, with the record. While a topic is used for the first time, and
    /// while the buffer is full, [`Error::is_retriable`] is true.
    pub fn try_enqueue<'a>(&self, record: Record<'a>) -> Result<Delivery, TryEnqueueError<'a>> {
        // What comes back is what came, whatever interceptors make of it.
        let intercepted = self.inner.intercepted(&record);
        let sending = intercepted.as_deref().unwrap_or(&record);
        match self.inner.try_append(sending, &mut Run::default(), false) {
            Ok(delivery) => Ok(delivery),
            Err(missing) => match self.inner.append_without_waiting(sending, missing) {
                Ok(delivery) => Ok(delivery),
                Err(error) => Err(TryEnqueueError { error, record }),
            },
        }
    }

    /// A handle to a topic, for records that are sent there often: `Record::to(&topic)` needs no look-up. Whether there is
    /// such a topic, its first record finds out.
    pub fn topic(&self, name: impl Into<Arc<str>>) -> ProducerTopic {
        self.inner.topic(name.into())
    }

    /// The partitions of a topic, as the client knows them now: asks a broker only for a topic that is not known yet, for
    /// up to [`max_block`](super::ProducerBuilder::max_block), and lets it create the topic if the producer's records may.
    /// (Java: `partitionsFor`.)
    ///
    /// # Errors
    /// [`UnknownTopic`](ErrorKind::UnknownTopic), [`Timeout`](ErrorKind::Timeout), and by [`Error::code`]
    /// `TOPIC_AUTHORIZATION_FAILED`, `INVALID_TOPIC_EXCEPTION`.
    ///
    /// # Cancel safety
    /// It changes nothing, so it may be dropped at any time.
    pub async fn partitions_for(&self, topic: impl Into<Arc<str>>) -> Result<Vec<PartitionDescription>, Error> {
        let topic = self.inner.look_up(&topic.into()).await?;
        let describe = |(index, partition): (usize, &metadata::Partition)| PartitionDescription {
            index: index as i32,
            leader: partition.leader,
            leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
            replicas: partition.replicas.clone(),
            in_sync: partition.isr.clone(),
            offline: partition.offline.clone(),
        };
        Ok(topic.partitions.iter().enumerate().map(describe).collect())
    }

    /// What was counted since the producer was built. Costs a few loads.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena::{Client, Record};
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// producer.send(Record::to("orders").value("created")).await?;
    /// let metrics = producer.metrics();
    /// assert_eq!((metrics.records_acknowledged, metrics.requests), (1, 1));
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> ProducerMetrics {
        let (inner, budget) = (&*self.inner, &self.inner.limits.budget);
        inner.watch.counts.snapshot(budget.total().saturating_sub(budget.free()), budget.total())
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

    /// Gives up every record that was enqueued before the call and is not acknowledged: their receipts fail with
    /// [`ErrorKind::Purged`], their memory is free again, and the producer goes on. What was sent already has the fate
    /// `Unknown`, the rest `NotWritten`. Records of a partition that is between two leaders at that moment may be spared.
    /// (librdkafka: `rd_kafka_purge` of queue and in-flight.)
    ///
    /// Returns at once; the receipts tell when it is done.
    pub fn purge(&self) {
        for partition in self.inner.table.all() {
            partition.flush(&self.inner.limits);
        }
        let _ = self.inner.router.send(Request::Purge);
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
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("bootstrap", &self.inner.core.seeds).finish_non_exhaustive()
    }
}

const MAX_CLOSE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Every so many calls on a thread, and after each sealed batch, others get their turn, or a loop that only enqueues
/// would starve a current-thread runtime for good.
pub(super) const YIELD_EVERY: u32 = 128;

/// Counted per thread: one counter for all would be fought over.
#[inline]
pub(super) fn is_time_to_yield() -> bool {
    thread_local! {
        static CALLS: Cell<u32> = const { Cell::new(0) };
    }
    let calls = CALLS.get().wrapping_add(1);
    CALLS.set(calls);
    calls.is_multiple_of(YIELD_EVERY)
}
