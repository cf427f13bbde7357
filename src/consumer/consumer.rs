//! The consumer as a user holds it: what hands out records.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_core::Stream;
use tokio::sync::oneshot;

use super::batch::Batch;
use super::current::Current;
use super::handle::ConsumerHandle;
use super::manager::Command;
use super::pull::{Pull, Pulled};
use super::record::ConsumerRecord;
use super::shared::Inbox;
use super::unpack::Unpacker;
use crate::error::{Error, ErrorKind};
use crate::net::Timer;

/// Reads partitions of topics, record by record.
///
/// Made by [`Client::consumer`](crate::Client::consumer). Fetches run in the background, one connection per leader
/// (a second one when it is needed), and go on while the caller works, up to the
/// [`fetch_buffer`](super::ConsumerBuilder::fetch_buffer); what is fetched is decoded when it is asked for. Records of
/// a partition come in order, each once; partitions take turns.
///
/// Assigning, seeking, pausing and committing are the methods of [`ConsumerHandle`], to which a consumer derefs; a
/// [`handle`](Self::handle) of its own works while a batch is lent.
///
/// Errors come through [`recv`](Self::recv) and its kin, and do not end the consumer: what is retriable is retried in the
/// background and only reported if it lasts, and what concerns one partition leaves the others alone. Each error is
/// reported once, not again and again while it lasts.
///
/// Works from any runtime or executor; its tasks live on the client's. Dropping it ends its tasks and closes its
/// connections.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 2);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # let producer = client.producer().build()?;
/// # for n in 0..10 { producer.send(milena::Record::to("orders").partition(n % 2).value("x")).await?; }
/// use milena::OffsetReset;
///
/// let mut consumer = client.consumer().group("billing").auto_offset_reset(OffsetReset::Earliest).build()?;
/// consumer.assign([("orders", 0), ("orders", 1)])?;
/// for _ in 0..10 {
///     let record = consumer.recv().await?;
///     println!("{}@{}: {:?}", record.topic_partition(), record.offset(), record.value());
/// }
/// // What was read has been dealt with: the next one begins behind it.
/// let positions = consumer.assignment().into_iter().filter_map(|tp| {
///     let position = consumer.position(&tp)?;
///     Some((tp, position))
/// });
/// consumer.commit_offsets(positions).await?;
/// consumer.close().await?;
/// # Ok(()) }
/// ```
pub struct Consumer {
    handle: ConsumerHandle,
    pull: Pull,
    timeout: Option<Duration>,
    /// Since when the caller has waited in vain.
    waiting: Option<Instant>,
    timer: Timer,
}

/// What becomes of the membership of a consumer that is [closed](Consumer::close_with).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupMembership {
    /// A static member stays, for as long as a session lasts; another one leaves.
    #[default]
    Default,
    /// It leaves: others get its partitions at once.
    Leave,
    /// It stays: whoever comes back within a session finds its partitions again.
    Remain,
}

/// A call of the caller: dropped before it is done, the caller waits no more.
struct Turn<'a, F> {
    consumer: &'a mut Consumer,
    poll: F,
    is_waiting: bool,
}

impl<T, F: FnMut(&mut Consumer, &mut Context<'_>) -> Poll<T> + Unpin> Future for Turn<'_, F> {
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        let outcome = (this.poll)(this.consumer, cx);
        this.is_waiting = outcome.is_pending();
        outcome
    }
}

impl<F> Drop for Turn<'_, F> {
    #[inline]
    fn drop(&mut self) {
        if self.is_waiting {
            self.consumer.handle.shared.step_away();
        }
    }
}

/// What a caller who asked gets.
enum Found {
    /// The current batch has a record.
    Record,
    /// Nothing comes: all was read up to where it should, or for too long there was nothing.
    Nothing(&'static str),
}

impl Consumer {
    pub(super) fn new(handle: ConsumerHandle, unpacker: Arc<Unpacker>, timeout: Option<Duration>) -> Self {
        let timer = Timer::new(&handle.core.network.runtime);
        Self { handle, pull: Pull::new(unpacker), timeout, waiting: None, timer }
    }

    /// What was being read; it is not this consumer's to go on with any more.
    pub(super) fn put_down(&mut self) -> Option<Box<Current>> {
        self.pull.put_down()
    }

    pub(super) fn unpacker(&self) -> &Arc<Unpacker> {
        self.pull.unpacker()
    }

    /// What steers this consumer from elsewhere, also while a batch of it is lent.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// The next record.
    ///
    /// Waits until there is one. Records that were fetched are handed out at once, except that every 128 records, or
    /// after a batch, the runtime gets its turn first.
    ///
    /// # Errors
    /// They do not end the consumer; call again to go on. Each names what it is about, and the remedy:
    /// * [`UnknownTopic`](crate::ErrorKind::UnknownTopic), [`UnknownPartition`](crate::ErrorKind::UnknownPartition):
    ///   not there for 5 s. It is read as soon as it is.
    /// * [`OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange): no offset to start from, or one that the log has
    ///   not, and `auto_offset_reset` is `None`. The partition waits for a seek.
    /// * [`Corrupt`](crate::ErrorKind::Corrupt), [`Unsupported`](crate::ErrorKind::Unsupported): a batch that cannot
    ///   be read, after a second attempt to fetch it. The partition waits for a seek past it.
    /// * [`BatchTooLarge`](crate::ErrorKind::BatchTooLarge): a compressed batch that becomes larger than
    ///   [`max_decompressed_batch`](super::ConsumerBuilder::max_decompressed_batch). The same.
    /// * [`Broker`](crate::ErrorKind::Broker): the broker refuses, as with a missing authorization. Retried.
    /// * [`Connection`](crate::ErrorKind::Connection), [`Timeout`](crate::ErrorKind::Timeout) and the like: no broker
    ///   was ever reached, or one has not been for `default_api_timeout`. Retried.
    /// * [`Config`](crate::ErrorKind::Config): nothing is assigned.
    /// * [`DataLoss`](crate::ErrorKind::DataLoss): what should have come next is not in the log any more, and reading goes
    ///   on behind the gap, or where the log was cut: [`Error::data_loss`] says from where to where.
    /// * [`TopicRecreated`](crate::ErrorKind::TopicRecreated): the topic was deleted and made again; reading goes on at
    ///   the beginning of the new one.
    /// * [`NoMoreRecords`](crate::ErrorKind::NoMoreRecords): all was read up to where it should
    ///   ([`stop_at_end`](ConsumerHandle::stop_at_end)), or nothing came for the
    ///   [`consumer_timeout`](super::ConsumerBuilder::consumer_timeout). [`try_next`](Self::try_next) returns none then.
    /// * [`Closed`](crate::ErrorKind::Closed): the client's runtime is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses no record and aborts no fetch: it may stand in a `select!`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).build()?;
    /// # let mut consumer = client.consumer().build()?;
    /// use milena::Position;
    /// use std::time::Duration;
    ///
    /// consumer.assign([("orders", 0)])?;
    /// consumer.seek(&("orders", 0).into(), Position::Beginning)?;
    /// tokio::select! {
    ///     record = consumer.recv() => println!("{:?}", record?),
    ///     () = tokio::time::sleep(Duration::from_millis(50)) => println!("nothing yet"),
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn recv(&mut self) -> Result<ConsumerRecord, Error> {
        Turn { consumer: self, poll: Self::poll_recv, is_waiting: false }.await
    }

    /// The next record, or none when nothing comes any more: [`recv`](Self::recv) for a loop that ends.
    ///
    /// None comes when all was read up to where it should ([`stop_at_end`](ConsumerHandle::stop_at_end)), and when
    /// nothing came for the [`consumer_timeout`](super::ConsumerBuilder::consumer_timeout), if there is one. Without
    /// either it never does.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Dropping the future loses no record and aborts no fetch.
    pub async fn try_next(&mut self) -> Result<Option<ConsumerRecord>, Error> {
        match self.recv().await {
            Err(error) if error.kind() == ErrorKind::NoMoreRecords => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Lends the next records of one partition: as many as its next fetched batch has. See [`poll_max`](Self::poll_max).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Dropping the future loses no record and aborts no fetch.
    pub async fn poll(&mut self) -> Result<Option<Batch<'_>>, Error> {
        self.poll_max(usize::MAX).await
    }

    /// Lends up to `max` of the next records of one partition; waits until there is one. Partitions take turns.
    ///
    /// The fastest way to read: no record costs an allocation or a reference count. A record counts as handed out when the
    /// batch yields it: whatever is not yielded comes first with the next poll. None comes where
    /// [`try_next`](Self::try_next) returns none.
    ///
    /// # Errors
    /// As for [`recv`](Self::recv).
    ///
    /// # Cancel safety
    /// Dropping the future, or the batch, loses no record and aborts no fetch.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.enqueue(milena::Record::to("orders").value(n.to_string())).await?; }
    /// # producer.flush().await;
    /// # let mut consumer = client.consumer().auto_offset_reset(milena::OffsetReset::Earliest).build()?;
    /// # consumer.assign([("orders", 0)])?;
    /// let mut bytes = 0;
    /// let mut next = 0;
    /// while next < 10 {
    ///     let Some(batch) = consumer.poll_max(3).await? else { break };
    ///     for record in batch {
    ///         assert_eq!(record.offset(), next);
    ///         next += 1;
    ///         bytes += record.value().map_or(0, <[u8]>::len);
    ///     }
    /// }
    /// assert_eq!(bytes, 10);
    /// # Ok(()) }
    /// ```
    pub async fn poll_max(&mut self, max: usize) -> Result<Option<Batch<'_>>, Error> {
        let turn = Turn { consumer: &mut *self, poll: Self::poll_batch, is_waiting: false };
        match turn.await? {
            Found::Nothing(_) => Ok(None),
            Found::Record => {
                // There is one: `poll_found` says so.
                let interceptors = &*self.handle.watch.interceptors;
                Ok(self.pull.lend().map(|reading| Batch::new(reading, interceptors, max)))
            }
        }
    }

    /// Ends the consumer and waits until its tasks are gone.
    ///
    /// What was handed out counts as dealt with, and is committed if [`auto_commit`](super::ConsumerBuilder::auto_commit) is
    /// on; what was not is dropped. A member gives its partitions back, with all that belongs to a revocation, and leaves its
    /// group, unless it is static: the group then keeps its place for as long as a session lasts. All that takes
    /// `request_timeout` at most. Brokers are told that the fetch sessions are over, and waited for a second at most.
    ///
    /// Dropping the consumer does the same without waiting, and for a second at most, except that only what was handed out
    /// before the last call is committed, and the listener is told that the partitions are lost. (Java: `close`.)
    ///
    /// # Errors
    /// What was to be committed and was not, of these partitions, and why each: [`Error::not_committed`]. The consumer is
    /// closed all the same, and whoever has the partitions next goes on from the commit before. [`ErrorKind::Timeout`] if it
    /// took longer than `request_timeout`: it may still be committed. [`ErrorKind::NotOwned`] if the membership was lost
    /// meanwhile. The same for what [`commit_async`](super::ConsumerHandle::commit_async) began and was not done by then.
    /// Without a group or without auto-commit nothing else is committed, and this does not fail for it.
    /// [`ErrorKind::Closed`] for a group's consumer when the client's runtime is gone.
    ///
    /// # Cancel safety
    /// Dropping the future closes without waiting.
    pub async fn close(self) -> Result<(), Error> {
        self.close_with(GroupMembership::Default).await
    }

    /// [`close`](Self::close), and what becomes of the membership. (Java: `close(CloseOptions)`, KIP-1092.)
    ///
    /// # Errors
    /// As for `close`.
    ///
    /// # Cancel safety
    /// As for `close`.
    pub async fn close_with(self, membership: GroupMembership) -> Result<(), Error> {
        let mut outcome = Ok(());
        if let Some(group) = self.handle.group.clone() {
            let leaves = match membership {
                GroupMembership::Default => None,
                GroupMembership::Leave => Some(true),
                GroupMembership::Remain => Some(false),
            };
            outcome = group.close(leaves).await;
        }
        let (done, closed) = oneshot::channel();
        self.shared.lock().tell(Command::Close(done));
        // The manager drops its end if it is gone already.
        let _ = closed.await;
        outcome
    }

    /// The caller asks for more: what it was given it has dealt with.
    #[inline]
    fn begin(&mut self) {
        if let Some(cursor) = self.pull.cursor() {
            cursor.settle();
        }
        if self.handle.shared.calls().begin() {
            self.handle.shared.come_back();
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Error>> {
        self.begin();
        self.poll_found(cx)
    }

    #[inline]
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumerRecord, Error>> {
        self.begin();
        loop {
            if let Some((source, at)) = self.pull.next() {
                let record = ConsumerRecord::new(source, at);
                self.handle.watch.interceptors.iter().for_each(|interceptor| interceptor.on_consume(record.borrow()));
                return Poll::Ready(Ok(record));
            }
            match self.poll_found(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(Found::Nothing(why))) => {
                    return Poll::Ready(Err(Error::new(ErrorKind::NoMoreRecords, why)));
                }
                Poll::Ready(Ok(Found::Record)) => {}
            }
        }
    }

    fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Error>> {
        let shared = &self.handle.shared;
        match ready!(self.pull.poll(cx, shared, |cx, done| shared.take(cx, done))) {
            Pulled::Record => {
                self.waiting = None;
                Poll::Ready(Ok(Found::Record))
            }
            Pulled::Error(error) => Poll::Ready(Err(error)),
            Pulled::Nothing => self.poll_timeout(cx),
            Pulled::Unassigned => Poll::Ready(Err(unassigned())),
            Pulled::Ended => Poll::Ready(Ok(Found::Nothing("everything was read up to the end that was asked for"))),
            Pulled::Closed => Poll::Ready(Err(Error::closed("consumer"))),
        }
    }

    /// Nothing is there: for how long that may be.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<Result<Found, Error>> {
        let Some(timeout) = self.timeout else { return Poll::Pending };
        let now = self.handle.core.now();
        let since = *self.waiting.get_or_insert(now);
        if self.timer.poll(cx, Some(since + timeout)).is_pending() {
            return Poll::Pending;
        }
        self.waiting = None;
        Poll::Ready(Ok(Found::Nothing("no record came for consumer_timeout")))
    }
}

/// Of a consumer that nobody has told what to read.
pub(super) fn unassigned() -> Error {
    Error::config("nothing is assigned: name topics with `subscribe`, or partitions with `assign`, first")
}

impl Deref for Consumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(group) = &self.handle.group {
            group.abandon(self.shared.lock().settled());
        }
        // At once: the group's task may be about to change the assignment.
        let left = self.shared.deliver(Inbox::leave);
        left.iter().for_each(|tp| self.core.metadata.release(&tp.topic));
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, Error>;

    /// As [`Consumer::recv`]. Yields errors and goes on; ends where [`Consumer::try_next`] returns none, and when the
    /// client's runtime has ended, since nothing can come any more.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(|next| match next {
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NoMoreRecords) => None,
            next => Some(next),
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("assigned", &self.assignment()).finish_non_exhaustive()
    }
}
