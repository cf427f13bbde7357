//! A consumer whose partitions have streams of their own.

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::stream::PartitionStream;
use crate::consumer::consumer::{Consumer, GroupMembership, unassigned};
use crate::consumer::handle::ConsumerHandle;
use crate::consumer::shared::Offered;
use crate::error::{Error, ErrorKind};
use crate::net::Timer;

/// A consumer that gives each of its partitions to a stream of its own: made by [`Consumer::split`].
///
/// [`try_next`](Self::try_next) returns a [`PartitionStream`] for each partition as it is assigned, by the group or
/// [by hand](ConsumerHandle::assign). Each goes at its own pace, in whatever task it is in, and none has to wait for another,
/// nor for this: once a stream is there, its records do not pass through here. What is fetched and not asked for is bounded
/// in bytes, all together, by [`fetch_buffer`](crate::ConsumerBuilder::fetch_buffer).
///
/// Each record is [acknowledged](super::PendingRecord::ack) when it has been dealt with, in any order. Commits take what is
/// acknowledged without a gap, and a crash repeats the rest:
///
/// ```text
///   offset     3      4      5      6      7
///             ack   in hand  ack   ack     ·       · not handed out
///                   ▲
///                   committed: 4
/// ```
///
/// When the partition goes to another member, its stream ends, and the rebalance waits until what is in hand of it is
/// acknowledged or dropped, for up to [`max_poll_interval`](crate::ConsumerBuilder::max_poll_interval); then it commits that.
/// Streams of other partitions flow on where the strategy lets them. A partition that comes back later has another stream,
/// from the committed offset on. One that was lost ends at once. A member counts as polling while nothing is in hand, and
/// whenever any of its streams is asked for a record.
///
/// It derefs to [`ConsumerHandle`], to commit, pause and seek with. [`consumer_timeout`](crate::ConsumerBuilder::consumer_timeout)
/// does not apply: streams wait for as long as their tasks do. Dropping it ends all streams, and closes the consumer as
/// dropping a [`Consumer`] does; what is acknowledged by then is committed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 3);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # let producer = client.producer().build()?;
/// # for n in 0..30 { producer.send(milena::Record::to("orders").partition(n % 3).value("x")).await?; }
/// # let shutdown = tokio::time::sleep(std::time::Duration::from_secs(1));
/// use milena::{Error, OffsetReset};
///
/// let builder = client.consumer().group("billing").subscribe(["orders"]).auto_offset_reset(OffsetReset::Earliest);
/// let mut partitions = builder.build()?.split();
/// # let mut shutdown = std::pin::pin!(shutdown);
/// loop {
///     tokio::select! {
///         partition = partitions.try_next() => {
///             let Some(mut partition) = partition? else { break };
///             tokio::spawn(async move {
///                 while let Some(record) = partition.try_next().await? {
///                     println!("{}: {:?}", partition.topic_partition(), record.value());
///                     record.ack();
///                 }
///                 Ok::<_, Error>(())
///             });
///         }
///         () = &mut shutdown => break,
///     }
/// }
/// partitions.close().await?;              // streams end, what is in hand is waited for, and what was acknowledged committed
/// # let committed: i64 = (0..3).filter_map(|p| cluster.committed("billing", "orders", p)).sum();
/// # assert_eq!(committed, 30);
/// # Ok(()) }
/// ```
#[must_use = "it ends its streams when it is dropped"]
pub struct PartitionStreams {
    consumer: Consumer,
    /// It has said something that it says each time, and the runtime had its turn since.
    has_yielded: bool,
}

impl Consumer {
    /// Gives each partition to a stream of its own: see [`PartitionStreams`].
    ///
    /// What was handed out before counts as dealt with.
    pub fn split(mut self) -> PartitionStreams {
        let current = self.put_down();
        self.shared.deliver(|inbox| inbox.begin_split(current));
        PartitionStreams { consumer: self, has_yielded: false }
    }
}

impl PartitionStreams {
    /// The stream of a partition that has none: as it is assigned, and again when its stream was dropped. None when nothing
    /// comes any more: all was read up to where it should ([`stop_at_end`](ConsumerHandle::stop_at_end)).
    ///
    /// # Errors
    /// Those of [`Consumer::recv`] that concern no partition, or all of them. They do not end anything: call again to go on.
    /// [`Config`](ErrorKind::Config) when nothing is assigned, and [`Closed`](ErrorKind::Closed) when the client's runtime is
    /// gone, come each time.
    ///
    /// # Cancel safety
    /// Dropping the future loses no stream.
    pub async fn try_next(&mut self) -> Result<Option<PartitionStream>, Error> {
        poll_fn(|cx| self.poll_stream(cx)).await.transpose()
    }

    /// Ends all streams, waits until what is in hand is acknowledged or dropped, for `request_timeout` at most, and closes the
    /// consumer as [`Consumer::close`] does: what was acknowledged without a gap is committed if
    /// [`auto_commit`](crate::ConsumerBuilder::auto_commit) is on. So whoever calls this must have nothing in hand itself.
    ///
    /// # Errors
    /// As for [`Consumer::close`].
    ///
    /// # Cancel safety
    /// Dropping the future closes without waiting.
    pub async fn close(self) -> Result<(), Error> {
        self.close_with(GroupMembership::Default).await
    }

    /// [`close`](Self::close), and what becomes of the membership: as [`Consumer::close_with`].
    ///
    /// # Errors
    /// As for `close`.
    ///
    /// # Cancel safety
    /// As for `close`.
    pub async fn close_with(self, membership: GroupMembership) -> Result<(), Error> {
        let Self { consumer, .. } = self;
        consumer.shared.deliver(|inbox| inbox.end_split());
        let deadline = consumer.core.now() + consumer.core.network.request_timeout;
        let mut timer = Timer::new(&consumer.core.network.runtime);
        poll_fn(|cx| {
            if consumer.shared.lock().poll_quiet(cx) {
                return Poll::Ready(());
            }
            timer.poll(cx, Some(deadline))
        })
        .await;
        consumer.close_with(membership).await
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<PartitionStream, Error>>> {
        let handle: &ConsumerHandle = &self.consumer;
        if handle.shared.calls().begin_of_many() {
            handle.shared.come_back();
        }
        let offered = match handle.shared.take_stream(cx) {
            Offered::Partition(cursor) => {
                let (shared, watch) = (Arc::clone(&handle.shared), Arc::clone(&handle.watch));
                let (tp, unpacker) = (cursor.topic_partition.clone(), Arc::clone(self.consumer.unpacker()));
                return Poll::Ready(Some(Ok(PartitionStream::new(shared, watch, tp, cursor.id, unpacker))));
            }
            Offered::Error(error) => return Poll::Ready(Some(Err(error))),
            Offered::Nothing => return Poll::Pending,
            Offered::Unassigned => Some(Err(unassigned())),
            Offered::Ended => None,
            Offered::Closed => Some(Err(Error::closed("consumer"))),
        };
        // Ready at once, every time: a loop that goes on after these must not starve its neighbours.
        self.has_yielded = !self.has_yielded;
        if self.has_yielded {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(offered)
    }
}

impl Deref for PartitionStreams {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.consumer
    }
}

impl Stream for PartitionStreams {
    type Item = Result<PartitionStream, Error>;

    /// As [`PartitionStreams::try_next`]. Yields errors and goes on; ends also when the client's runtime has ended.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_stream(cx).map(|next| match next {
            Some(Err(error)) if error.kind() == ErrorKind::Closed => None,
            next => next,
        })
    }
}

impl fmt::Debug for PartitionStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionStreams").field("assigned", &self.assignment()).finish_non_exhaustive()
    }
}
