//! The consumer as a user holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::{mpsc, oneshot};

use super::commit::{Group, OffsetAndMetadata};
use super::current::{Current, Step, Unpacker};
use super::manager::{Assigned, Command};
use super::problem::unreadable;
use super::record::ConsumerRecord;
use super::shared::{Cursor, Shared, Taken};
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::credit::PartitionId;
use crate::machine::offsets::Start;
use crate::net::Core;
use crate::record::{Decompressor, Limits};

/// Where to go on reading: see [`Consumer::seek`]. An `i64` is an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Position {
    /// At this offset.
    Offset(i64),
    /// At the first record that the log has when the seek is carried out.
    Beginning,
    /// Behind the last record that the log has when the seek is carried out.
    End,
}

impl From<i64> for Position {
    fn from(offset: i64) -> Self {
        Self::Offset(offset)
    }
}

/// Reads partitions of topics, record by record.
///
/// Made by [`Client::consumer`](crate::Client::consumer). Fetches run in the background, one connection per leader
/// (a second one when it is needed), and go on while the caller works, up to the
/// [`fetch_buffer`](super::ConsumerBuilder::fetch_buffer); what is fetched is decoded when it is asked for. Records of
/// a partition come in order, each once; partitions take turns.
///
/// Errors come through [`recv`](Self::recv) and do not end the consumer: what is retriable is retried in the
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
    core: Arc<Core>,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    group: Option<Arc<Group>>,
    auto_create: bool,
    assigned: BTreeMap<TopicPartition, Arc<Cursor>>,
    next_id: PartitionId,
    current: Option<Current>,
    unpacker: Unpacker,
    /// Records handed out since the last time the runtime got its turn.
    streak: u32,
}

/// So many records, and the runtime gets its turn: a future that is always ready would starve its neighbours.
const MAX_STREAK: u32 = 128;
/// A finished batch is a good moment, unless batches are tiny.
const MIN_STREAK: u32 = 32;

impl Consumer {
    pub(super) fn new(
        core: Arc<Core>,
        shared: Arc<Shared>,
        commands: mpsc::UnboundedSender<Command>,
        group: Option<Arc<Group>>,
        auto_create: bool,
        limits: Limits,
    ) -> Self {
        Self {
            core,
            shared,
            commands,
            group,
            auto_create,
            assigned: BTreeMap::new(),
            next_id: 0,
            current: None,
            unpacker: Unpacker { decompressor: Decompressor::new(), limits },
            streak: 0,
        }
    }

    /// Reads exactly these partitions from now on.
    ///
    /// A partition that was assigned before stays where it is, with what is buffered of it. A new one starts at the
    /// offset that the [`group`](super::ConsumerBuilder::group) committed, if there is a group and it did, else where
    /// [`auto_offset_reset`](super::ConsumerBuilder::auto_offset_reset) says; a [`seek`](Self::seek) right after
    /// overrides both. An empty list unassigns all. (Java: `assign`.)
    ///
    /// Returns at once: that a topic or partition does not exist is reported by [`recv`](Self::recv), within seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an empty topic name or a negative partition. Nothing has
    /// changed then.
    pub fn assign<T: Into<TopicPartition>>(&mut self, partitions: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        if let Some(wrong) = wanted.iter().find(|tp| tp.topic.is_empty() || tp.partition < 0) {
            let message = format!("`{wrong}` cannot be assigned: a topic has a name, and partitions count from 0");
            return Err(Error::config(message).with_partition(wrong.clone()));
        }
        let mut old = std::mem::take(&mut self.assigned);
        let start = if self.group.is_some() { Start::Committed } else { Start::Reset };
        let mut added = Vec::new();
        for tp in wanted {
            let cursor = old.remove(&tp).unwrap_or_else(|| {
                let cursor = Arc::new(Cursor::new(self.next_id, tp.clone()));
                self.next_id += 1;
                let (id, generation) = (cursor.id, cursor.generation());
                added.push(Assigned { id, topic_partition: tp.clone(), generation, start });
                cursor
            });
            self.assigned.insert(tp, cursor);
        }
        self.shared.assign(self.assigned.values());
        let topics: BTreeSet<_> = added.iter().map(|added| &added.topic_partition.topic).collect();
        topics.into_iter().for_each(|topic| self.core.metadata.want(topic, self.auto_create));
        let removed = old.values().map(|cursor| cursor.id).collect();
        self.tell(Command::Assign { added, removed });
        Ok(())
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.assigned.keys().cloned().collect()
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
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Goes on elsewhere. What was fetched of the partition is dropped; no record from before comes any more.
    ///
    /// `position` is an offset, [`Position::Beginning`] or [`Position::End`]; the ends are looked up in the
    /// background. An offset that the log does not have is found out by the next fetch, and treated as
    /// [`auto_offset_reset`](super::ConsumerBuilder::auto_offset_reset) says.
    /// (Java: `seek`, `seekToBeginning`, `seekToEnd`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the partition is not assigned, or the offset negative.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.send(milena::Record::to("orders").value("x")).await?; }
    /// use milena::{Position, TopicPartition};
    ///
    /// let orders = TopicPartition::new("orders", 0);
    /// let mut consumer = client.consumer().build()?;
    /// consumer.assign([orders.clone()])?;
    /// consumer.seek(&orders, 7)?;
    /// assert_eq!(consumer.recv().await?.offset(), 7);
    /// consumer.seek(&orders, Position::Beginning)?;
    /// assert_eq!(consumer.recv().await?.offset(), 0);
    /// # Ok(()) }
    /// ```
    pub fn seek(&self, partition: &TopicPartition, position: impl Into<Position>) -> Result<(), Error> {
        let Some(cursor) = self.assigned.get(partition) else {
            let message = format!("{partition} is not assigned, so there is no seeking in it");
            return Err(Error::config(message).with_partition(partition.clone()));
        };
        let (start, known) = match position.into() {
            Position::Offset(offset) if offset < 0 => {
                let message =
                    format!("offset {offset} is negative: for the ends there are Position::Beginning and End");
                return Err(Error::config(message).with_partition(partition.clone()));
            }
            Position::Offset(offset) => (Start::At(offset), Some(offset)),
            Position::Beginning => (Start::Earliest, None),
            Position::End => (Start::Latest, None),
        };
        let generation = self.shared.seek(cursor, known);
        self.tell(Command::Seek { id: cursor.id, generation, start });
        Ok(())
    }

    /// The offset of the next record that [`recv`](Self::recv) will return of the partition, as far as that is known:
    /// none if it is not assigned, or its position has not been found yet. (Java: `position`, which waits.)
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned.get(partition)?.position()
    }

    /// Commits offsets for the [`group`](super::ConsumerBuilder::group): where to go on reading, so one more than the
    /// last record that was dealt with. Partitions need not be assigned. (Java: `commitSync(offsets)`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group or for a negative offset;
    /// [`Timeout`](crate::ErrorKind::Timeout) after `default_api_timeout`;
    /// [`Broker`](crate::ErrorKind::Broker) with the code and the partition, if a broker refuses. The other partitions
    /// of the call may have been committed then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves open whether the offsets are committed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).build()?;
    /// let consumer = client.consumer().group("billing").build()?;
    /// consumer.commit_offsets([(("orders", 0), 42)]).await?;
    /// let committed = consumer.committed([("orders", 0)]).await?;
    /// assert_eq!(committed[&("orders", 0).into()].offset, 42);
    /// # Ok(()) }
    /// ```
    pub async fn commit_offsets<T, O>(&self, offsets: impl IntoIterator<Item = (T, O)>) -> Result<(), Error>
    where
        T: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        let offsets = offsets.into_iter().map(|(tp, offset)| (tp.into(), offset.into()));
        let offsets: BTreeMap<TopicPartition, OffsetAndMetadata> = offsets.collect();
        if let Some((tp, wrong)) = offsets.iter().find(|(_, committed)| committed.offset < 0) {
            let message = format!("offset {} of {tp} is negative and cannot be committed", wrong.offset);
            return Err(Error::config(message).with_partition(tp.clone()));
        }
        self.group()?.commit(&self.core, offsets).await
    }

    /// What the [`group`](super::ConsumerBuilder::group) has committed for these partitions; those without a commit
    /// are missing in the answer. (Java: `committed`.)
    ///
    /// # Errors
    /// As for [`commit_offsets`](Self::commit_offsets).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn committed<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        let partitions: BTreeSet<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.group()?.committed(&self.core, partitions.into_iter().collect()).await
    }

    /// Ends the consumer's tasks and waits until they are gone. What was not handed out is dropped; nothing is
    /// committed. Dropping the consumer does the same without waiting.
    ///
    /// # Errors
    /// None so far.
    ///
    /// # Cancel safety
    /// Dropping the future closes without waiting.
    pub async fn close(self) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        self.tell(Command::Close(done));
        // The manager drops its end if it is gone already.
        let _ = closed.await;
        Ok(())
    }

    fn group(&self) -> Result<&Group, Error> {
        self.group.as_deref().ok_or_else(|| {
            Error::config("the consumer has no group to commit for: name one with ConsumerBuilder::group(..)")
        })
    }

    fn tell(&self, command: Command) {
        // The manager goes first only with its runtime, which `recv` then reports.
        let _ = self.commands.send(command);
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumerRecord, Error>> {
        let mut limit = MAX_STREAK;
        loop {
            if self.streak >= limit {
                self.streak = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let done = match &mut self.current {
                None => None,
                Some(current) => match current.step(&mut self.unpacker) {
                    Step::Record(record) => {
                        self.streak += 1;
                        return Poll::Ready(Ok(record));
                    }
                    Step::Batch => {
                        self.streak += 1;
                        limit = MIN_STREAK;
                        continue;
                    }
                    Step::Bad { cursor, offset, end, error } => {
                        let generation = self.shared.seek(&cursor, Some(offset));
                        self.tell(Command::Seek { id: cursor.id, generation, start: Start::Halted });
                        return Poll::Ready(Err(unreadable(&cursor.topic_partition, offset, Some(end), error)));
                    }
                    Step::Done => Some(current.credit()),
                },
            };
            self.current = None;
            match self.shared.take(cx, done) {
                Taken::Fetched { cursor, generation, fetched } => {
                    self.current = Some(Current::new(cursor, generation, fetched));
                }
                Taken::Error(error) => return Poll::Ready(Err(error)),
                Taken::Nothing => {
                    self.streak = 0;
                    return Poll::Pending;
                }
                // Ready at once, every time: a loop that goes on after errors must not starve its neighbours.
                Taken::Unassigned if self.streak == 0 => {
                    self.streak = 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Taken::Unassigned => {
                    self.streak = 0;
                    return Poll::Ready(Err(Error::config("nothing is assigned: name partitions with `assign` first")));
                }
                Taken::Closed => return Poll::Ready(Err(Error::closed("consumer"))),
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumerRecord, Error>;

    /// As [`Consumer::recv`]. Yields errors and goes on; ends when the client's runtime has ended, since nothing can come
    /// any more.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_recv(cx).map(|next| match next {
            Err(error) if error.kind() == ErrorKind::Closed => None,
            next => Some(next),
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("assigned", &self.assigned.keys()).finish_non_exhaustive()
    }
}
