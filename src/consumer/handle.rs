//! What steers a consumer: its assignment, positions and commits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::commit::OffsetAndMetadata;
use super::cursor::Cursor;
use super::group::Group;
use super::lookup::{self, OffsetAndTimestamp};
use super::manager::{Assigned, Command};
use super::metrics::ConsumerMetrics;
use super::record::BorrowedRecord;
use super::shared::Shared;
use super::watch::Watch;
use crate::error::{Error, TopicPartition};
use crate::machine::offsets::Start;
use crate::net::Core;
use crate::wire::leader::list_offsets::{EARLIEST, LATEST};

/// Where to read: see [`ConsumerHandle::seek`]. An `i64` is an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Position {
    /// At this offset.
    Offset(i64),
    /// At the first record that the log has when the seek is carried out.
    Beginning,
    /// Behind the last record that the log has when the seek is carried out.
    End,
    /// At the first record with this timestamp or a later one, in milliseconds since 1970; at the end if there is none.
    Timestamp(i64),
    /// What the group has committed; without a commit, where
    /// [`auto_offset_reset`](super::ConsumerBuilder::auto_offset_reset) says.
    Committed,
}

impl From<i64> for Position {
    fn from(offset: i64) -> Self {
        Self::Offset(offset)
    }
}

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// The first offset that the log still has.
    pub low: i64,
    /// Behind the last record that can be read, at the consumer's isolation level.
    pub high: i64,
}

/// What steers a [`Consumer`](super::Consumer) while somebody else reads from it: assigning, seeking, pausing, marking,
/// committing.
///
/// Made by [`Consumer::handle`](super::Consumer::handle); a consumer has the same methods itself. Cloning is cheap, and
/// clones may be used from any thread, also while a [`Batch`](super::Batch) is lent. When the consumer is gone, it has no
/// partitions, and commits fail with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 1);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # let producer = client.producer().build()?;
/// # for n in 0..10 { producer.send(milena::Record::to("orders").value("x")).await?; }
/// # let mut shutdown = std::pin::pin!(tokio::time::sleep(std::time::Duration::from_millis(300)));
/// use milena::OffsetReset;
///
/// let mut consumer = client.consumer().group("billing").auto_offset_reset(OffsetReset::Earliest).build()?;
/// consumer.assign([("orders", 0)])?;
/// let handle = consumer.handle();
/// loop {
///     tokio::select! {
///         batch = consumer.poll() => {
///             let Some(batch) = batch? else { break };
///             for record in batch {
///                 println!("{}: {:?}", record.offset(), record.value());
///                 handle.mark(record);
///             }
///         }
///         () = &mut shutdown => break,
///     }
///     handle.commit_marked().await?;
/// }
/// assert_eq!(handle.committed([("orders", 0)]).await?[&("orders", 0).into()].offset, 10);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConsumerHandle {
    pub(super) core: Arc<Core>,
    pub(super) shared: Arc<Shared>,
    pub(super) group: Option<Arc<Group>>,
    pub(super) watch: Arc<Watch>,
    pub(super) auto_create: bool,
    pub(super) read_committed: bool,
}

/// # Assignment
impl ConsumerHandle {
    /// Reads exactly these partitions from now on.
    ///
    /// A partition that was assigned before stays where it is, with what is buffered of it. A new one starts at the
    /// offset that the [`group`](super::ConsumerBuilder::group) committed, if there is a group and it did, else where
    /// [`auto_offset_reset`](super::ConsumerBuilder::auto_offset_reset) says; a [`seek`](Self::seek) right after
    /// overrides both. An empty list unassigns all. (Java: `assign`.)
    ///
    /// Returns at once: that a topic or partition does not exist is reported by [`recv`](super::Consumer::recv), within
    /// seconds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an empty topic name or a negative partition, and for a consumer
    /// that [subscribes](Self::subscribe): its group assigns. Nothing has changed then.
    pub fn assign<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let wanted: BTreeSet<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        let start = if self.group.is_some() { Start::Committed } else { Start::Reset };
        let gone: Vec<_> = {
            let inbox = self.shared.lock();
            inbox.assignment().filter(|tp| !wanted.contains(*tp)).cloned().collect()
        };
        self.reassign(wanted.into_iter().map(|tp| (tp, start)).collect(), &gone)
    }

    /// Reads these partitions too, each from the given [`Position`] on. One that is assigned already goes on there.
    /// (librdkafka: `incremental_assign`.)
    ///
    /// # Errors
    /// As for [`assign`](Self::assign) and [`seek`](Self::seek). Nothing has changed then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).build()?;
    /// use milena::Position;
    ///
    /// let consumer = client.consumer().build()?;
    /// consumer.incremental_assign([(("orders", 0), Position::Beginning), (("orders", 1), Position::End)])?;
    /// consumer.incremental_assign([(("orders", 2), 42)])?;
    /// consumer.incremental_unassign([("orders", 0)])?;
    /// assert_eq!(consumer.assignment(), [("orders", 1).into(), ("orders", 2).into()]);
    /// # Ok(()) }
    /// ```
    pub fn incremental_assign<T, P>(&self, partitions: impl IntoIterator<Item = (T, P)>) -> Result<(), Error>
    where
        T: Into<TopicPartition>,
        P: Into<Position>,
    {
        let partitions = partitions.into_iter().map(|(tp, position)| (tp.into(), position.into()));
        let partitions: BTreeMap<TopicPartition, Position> = partitions.collect();
        for (tp, position) in &partitions {
            self.check(tp, *position)?;
        }
        let known: BTreeSet<TopicPartition> = self.shared.lock().assignment().cloned().collect();
        let added = partitions.iter().map(|(tp, position)| (tp.clone(), start(*position))).collect();
        self.reassign(added, &[])?;
        for (tp, position) in partitions.into_iter().filter(|(tp, _)| known.contains(tp)) {
            self.seek(&tp, position)?;
        }
        Ok(())
    }

    /// Reads these partitions no more; what is buffered of them is dropped. Those that are not assigned are ignored.
    /// (librdkafka: `incremental_unassign`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for a consumer that [subscribes](Self::subscribe): its group assigns.
    /// Nothing has changed then.
    pub fn incremental_unassign<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        let gone: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.reassign(Vec::new(), &gone)
    }

    /// The partitions that are read. (Java: `assignment`.)
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().assignment().cloned().collect()
    }

    /// The partitions that a topic has: what [`assign`](Self::assign) takes. What else there is to know of them, the
    /// [admin](crate::admin::Admin::describe_topics) tells. (Java: `partitionsFor`.)
    ///
    /// # Errors
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) if it is not there within `default_api_timeout`,
    /// [`Timeout`](crate::ErrorKind::Timeout) if nobody answered, [`Broker`](crate::ErrorKind::Broker) if it is refused.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>, Error> {
        let name: Arc<str> = topic.into();
        let deadline = self.core.now() + self.core.api_timeout;
        let metadata = &self.core.metadata;
        let found =
            metadata.topic(&self.core.network, &name, self.auto_create, deadline, "default_api_timeout").await?;
        Ok((0..).zip(&found.partitions).map(|(index, _)| TopicPartition::new(Arc::clone(&name), index)).collect())
    }

    /// Holds these partitions back from now on: nothing of them is handed out or fetched. What is fetched already stays,
    /// and so do their positions. Those that are not assigned are ignored; so is the pause when a partition is
    /// unassigned and assigned anew. (Java: `pause`.)
    pub fn pause<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) {
        self.set_paused(partitions, true);
    }

    /// Reads these partitions again, from where they were paused. (Java: `resume`.)
    pub fn resume<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) {
        self.set_paused(partitions, false);
    }

    /// The partitions that are paused. (Java: `paused`.)
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.lock().paused().cloned().collect()
    }
}

/// # Positions
impl ConsumerHandle {
    /// Goes on elsewhere. What was fetched of the partition is dropped; no record from before comes any more. Auto-commit
    /// follows, as in Java, also back: whoever takes over goes on where this consumer has come to.
    ///
    /// `position` is an offset or a [`Position`], which is looked up in the background. An offset that the log does not
    /// have is found out by the next fetch, and treated as
    /// [`auto_offset_reset`](super::ConsumerBuilder::auto_offset_reset) says. (Java: `seek`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the partition is not assigned, the offset or timestamp negative,
    /// or [`Position::Committed`] is asked for without a group.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.send(milena::Record::to("orders").timestamp(1_000 + n).value("x")).await?; }
    /// use milena::{Position, TopicPartition};
    ///
    /// let orders = TopicPartition::new("orders", 0);
    /// let mut consumer = client.consumer().build()?;
    /// consumer.assign([orders.clone()])?;
    /// consumer.seek(&orders, 7)?;
    /// assert_eq!(consumer.recv().await?.offset(), 7);
    /// consumer.seek(&orders, Position::Beginning)?;
    /// assert_eq!(consumer.recv().await?.offset(), 0);
    /// consumer.seek(&orders, Position::Timestamp(1_003))?;
    /// assert_eq!(consumer.recv().await?.offset(), 3);
    /// # Ok(()) }
    /// ```
    pub fn seek(&self, partition: &TopicPartition, position: impl Into<Position>) -> Result<(), Error> {
        let position = position.into();
        self.check(partition, position)?;
        let known = match position {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        let mut inbox = self.shared.lock();
        let id = inbox.cursor(partition).map(|cursor| cursor.id);
        let Some(cursor) = id.and_then(|id| inbox.renew(id, known)) else {
            let message = format!("{partition} is not assigned, so there is no seeking in it");
            return Err(Error::config(message).with_partition(partition.clone()));
        };
        inbox.seek(&cursor, start(position));
        self.moved([partition.clone()].into());
        Ok(())
    }

    /// Goes on at the first record that the logs have; in all assigned partitions, if none is named.
    /// (Java: `seekToBeginning`.)
    ///
    /// # Errors
    /// As for [`seek`](Self::seek). Partitions before the one that failed have been sought.
    pub fn seek_to_beginning<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<(), Error> {
        self.seek_all(partitions, Position::Beginning)
    }

    /// Goes on behind the last record that the logs have now; in all assigned partitions, if none is named.
    /// (Java: `seekToEnd`.)
    ///
    /// # Errors
    /// As for [`seek_to_beginning`](Self::seek_to_beginning).
    pub fn seek_to_end<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.seek_all(partitions, Position::End)
    }

    /// Goes on at the first record with this timestamp or a later one, in milliseconds since 1970, or at the end if there
    /// is none; in all assigned partitions, if none is named. (Java: `offsetsForTimes` and `seek`.)
    ///
    /// # Errors
    /// As for [`seek_to_beginning`](Self::seek_to_beginning).
    pub fn seek_to_time<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
        timestamp: i64,
    ) -> Result<(), Error> {
        self.seek_all(partitions, Position::Timestamp(timestamp))
    }

    /// The offset of the next record that will be handed out of the partition, as far as that is known: none if it is not
    /// assigned, or its position has not been found yet. (Java: `position`, which waits.)
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.lock().cursor(partition)?.position()
    }

    /// How many offsets the position is behind the end of the log, as the last answer of a broker knew it; none before
    /// there was one. Markers and what compaction took count too. (Java: `currentLag`.)
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.lock().lag(partition)
    }

    /// The ends of a log, asked now. The partition need not be assigned. (Java: `beginningOffsets` and `endOffsets`;
    /// librdkafka: `query_watermark_offsets`.)
    ///
    /// # Errors
    /// As for [`offsets_for_times`](Self::offsets_for_times).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        let ask = |at| lookup::list(&self.core, [(partition.clone(), at)].into(), self.read_committed);
        let (low, high) = (ask(EARLIEST).await?, ask(LATEST).await?);
        let offset = |found: &BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>| {
            found.get(partition).copied().flatten().map_or(0, |found| found.offset)
        };
        Ok(Watermarks { low: offset(&low), high: offset(&high) })
    }

    /// For each partition the first record with that timestamp, in milliseconds since 1970, or a later one; none if there
    /// is none. The partitions need not be assigned. (Java: `offsetsForTimes`.)
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for a negative timestamp;
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic), [`UnknownPartition`](crate::ErrorKind::UnknownPartition) and
    /// [`Timeout`](crate::ErrorKind::Timeout) if there is no answer within `default_api_timeout`;
    /// [`Broker`](crate::ErrorKind::Broker) if a broker refuses.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.send(milena::Record::to("orders").timestamp(1_000 + n).value("x")).await?; }
    /// let consumer = client.consumer().build()?;
    /// let found = consumer.offsets_for_times([(("orders", 0), 1_003)]).await?;
    /// assert_eq!(found[&("orders", 0).into()].map(|found| found.offset), Some(3));
    /// let ends = consumer.watermarks(&("orders", 0).into()).await?;
    /// assert_eq!((ends.low, ends.high), (0, 10));
    /// # Ok(()) }
    /// ```
    pub async fn offsets_for_times<T: Into<TopicPartition>>(
        &self,
        times: impl IntoIterator<Item = (T, i64)>,
    ) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>, Error> {
        let times: BTreeMap<TopicPartition, i64> = times.into_iter().map(|(tp, time)| (tp.into(), time)).collect();
        for (tp, time) in &times {
            self.check(tp, Position::Timestamp(*time))?;
        }
        lookup::list(&self.core, times, self.read_committed).await
    }

    /// Ends reading at the end that each assigned log has now: what is written later is not read. When everything up to
    /// there was handed out, [`try_next`](super::Consumer::try_next) and [`poll`](super::Consumer::poll) return `None`
    /// and the stream ends. Partitions that are assigned later have no end.
    ///
    /// # Errors
    /// As for [`offsets_for_times`](Self::offsets_for_times). No partition has an end then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves everything as it was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.send(milena::Record::to("orders").partition(n % 3).value("x")).await?; }
    /// use milena::OffsetReset;
    ///
    /// let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build()?;
    /// consumer.assign(consumer.partitions_for("orders").await?)?;
    /// consumer.stop_at_end().await?;
    /// let mut count = 0;
    /// while let Some(batch) = consumer.poll().await? {
    ///     count += batch.count();
    /// }
    /// assert_eq!(count, 10);
    /// # Ok(()) }
    /// ```
    pub async fn stop_at_end(&self) -> Result<(), Error> {
        let asked = self.assignment().into_iter().map(|tp| (tp, LATEST)).collect();
        let ends = lookup::list(&self.core, asked, self.read_committed).await?;
        self.shared.deliver(|inbox| {
            for (tp, end) in ends {
                if let (Some(id), Some(end)) = (inbox.cursor(&tp).map(|cursor| cursor.id), end) {
                    inbox.set_end(id, Some(end.offset));
                }
            }
        });
        Ok(())
    }

    /// Takes back [`stop_at_end`](Self::stop_at_end): reading goes on with what was written since.
    pub fn keep_reading(&self) {
        self.shared.deliver(|inbox| {
            let ids: Vec<_> = inbox.cursors().map(|cursor| cursor.id).collect();
            ids.into_iter().for_each(|id| inbox.set_end(id, None));
        });
    }
}

/// # Commits
impl ConsumerHandle {
    /// Remembers that the record, and all before it in its partition, have been dealt with:
    /// [`commit_marked`](Self::commit_marked) commits that. A mark never goes back; what a [`seek`](Self::seek) or another
    /// assignment left behind cannot be marked any more. Costs one atomic operation. (librdkafka: `store_offset`.)
    pub fn mark<'a>(&self, record: impl Into<BorrowedRecord<'a>>) {
        let record = record.into();
        record.cursor().mark(record.offset().saturating_add(1));
    }

    /// Commits, for the [`group`](super::ConsumerBuilder::group), the position of every assigned partition: that all
    /// records which were handed out have been dealt with; while [workers](super::Consumer::workers) run, what they have done
    /// without a gap. (Java: `commitSync()`.)
    ///
    /// # Errors
    /// As for [`commit_offsets`](Self::commit_offsets).
    ///
    /// # Cancel safety
    /// As for [`commit_offsets`](Self::commit_offsets).
    pub async fn commit(&self) -> Result<(), Error> {
        let reached = self.committable(Cursor::reached);
        self.group()?.commit(self, reached).await
    }

    /// Commits, for the [`group`](super::ConsumerBuilder::group), what was [marked](Self::mark). Partitions without a mark
    /// are left alone. (librdkafka: `commit` with `enable.auto.offset.store` off.)
    ///
    /// # Errors
    /// As for [`commit_offsets`](Self::commit_offsets).
    ///
    /// # Cancel safety
    /// As for [`commit_offsets`](Self::commit_offsets).
    pub async fn commit_marked(&self) -> Result<(), Error> {
        let marked = self.committable(Cursor::marked);
        self.group()?.commit(self, marked).await
    }

    /// Commits offsets for the [`group`](super::ConsumerBuilder::group): where to go on reading, so one more than the
    /// last record that was dealt with. Partitions need not be assigned. (Java: `commitSync(offsets)`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group or for a negative offset;
    /// [`Timeout`](crate::ErrorKind::Timeout) after `default_api_timeout`;
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic) when the coordinator has said five times that there is none;
    /// [`Broker`](crate::ErrorKind::Broker) with the code and the partition, if a broker refuses. The other partitions
    /// of the call may have been committed then.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the commit back. Commits of a consumer are made one after the other, in the order
    /// of the calls, whoever waits for them.
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
        let offsets = to_commit(offsets)?;
        self.group()?.commit(self, offsets).await
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

    /// Commits what [`commit`](Self::commit) commits, without waiting: in its turn, in the background. That it failed is
    /// reported by [`recv`](super::Consumer::recv). (Java: `commitAsync`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group, [`ErrorKind::Closed`](crate::ErrorKind::Closed)
    /// when the consumer is gone.
    pub fn commit_async(&self) -> Result<(), Error> {
        let reached = self.committable(Cursor::reached);
        self.group()?.commit_later(self, reached);
        Ok(())
    }

    /// Commits these offsets as [`commit_offsets`](Self::commit_offsets) does, without waiting: in its turn, in the
    /// background. That it failed is reported by [`recv`](super::Consumer::recv), and what became of it either way to the
    /// [interceptors](super::ConsumerBuilder::interceptor). (Java: `commitAsync(offsets, callback)`.)
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group or for a negative offset,
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the consumer is gone.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).build()?;
    /// use milena::OffsetAndMetadata;
    ///
    /// let consumer = client.consumer().group("billing").build()?;
    /// consumer.commit_offsets_async([(("orders", 0), OffsetAndMetadata::new(42).metadata("by the night run"))])?;
    /// consumer.commit_offsets([(("orders", 0), 43)]).await?;                // goes behind it, whoever waits
    /// # assert_eq!(cluster.committed("billing", "orders", 0), Some(43));
    /// # Ok(()) }
    /// ```
    pub fn commit_offsets_async<T, O>(&self, offsets: impl IntoIterator<Item = (T, O)>) -> Result<(), Error>
    where
        T: Into<TopicPartition>,
        O: Into<OffsetAndMetadata>,
    {
        let offsets = to_commit(offsets)?;
        self.group()?.commit_later(self, offsets);
        Ok(())
    }

    fn committable(
        &self,
        offset: impl Fn(&Cursor) -> Option<OffsetAndMetadata>,
    ) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let inbox = self.shared.lock();
        let offsets = inbox.cursors().filter_map(|cursor| Some((cursor.topic_partition.clone(), offset(cursor)?)));
        offsets.collect()
    }

    pub(super) fn group(&self) -> Result<&Arc<Group>, Error> {
        if self.shared.lock().is_closed() {
            return Err(Error::closed("consumer"));
        }
        self.group.as_ref().ok_or_else(|| {
            Error::config("the consumer has no group to commit for: name one with ConsumerBuilder::group(..)")
        })
    }

    fn check(&self, tp: &TopicPartition, position: Position) -> Result<(), Error> {
        let message = match position {
            _ if tp.topic.is_empty() || tp.partition < 0 => {
                format!("`{tp}` cannot be assigned: a topic has a name, and partitions count from 0")
            }
            Position::Offset(offset) if offset < 0 => {
                format!("offset {offset} is negative: for the ends there are Position::Beginning and End")
            }
            Position::Timestamp(time) if time < 0 => {
                format!("timestamp {time} is negative: for the ends there are Position::Beginning and End")
            }
            Position::Committed if self.group.is_none() => {
                return self.group().map(|_| ()).map_err(|error| error.with_partition(tp.clone()));
            }
            _ => return Ok(()),
        };
        Err(Error::config(message).with_partition(tp.clone()))
    }

    /// Adds those that are not assigned yet, and takes away others.
    pub(super) fn reassign(&self, wanted: Vec<(TopicPartition, Start)>, gone: &[TopicPartition]) -> Result<(), Error> {
        for (tp, _) in &wanted {
            self.check(tp, Position::Beginning)?;
        }
        let metadata = &self.core.metadata;
        self.shared.deliver(|inbox| {
            if inbox.is_closed() {
                return Ok(());
            }
            if inbox.is_subscribed {
                let message = "the consumer subscribes to topics, so its group assigns partitions: unsubscribe first";
                return Err(Error::config(message));
            }
            let removed: Vec<_> = gone.iter().filter_map(|tp| Some((tp, inbox.remove(tp)?))).collect();
            let wanted = wanted.into_iter().filter(|(tp, _)| inbox.cursor(tp).is_none()).collect::<Vec<_>>();
            let added = wanted.into_iter().map(|(tp, start)| {
                let cursor = inbox.add(tp.clone());
                metadata.hold(&tp.topic, self.auto_create);
                Assigned { id: cursor.id, topic_partition: tp, generation: cursor.generation, start }
            });
            let added: Vec<_> = added.collect();
            self.moved(added.iter().map(|new| new.topic_partition.clone()).collect());
            inbox.reassigned();
            removed.iter().for_each(|(tp, _)| metadata.release(&tp.topic));
            let removed = removed.into_iter().map(|(_, id)| id).collect();
            inbox.tell(Command::Assign { added, removed });
            Ok(())
        })
    }

    /// Under the lock of the inbox: reading goes on elsewhere, perhaps further back, and auto-commit is to follow.
    pub(super) fn moved(&self, partitions: BTreeSet<TopicPartition>) {
        if let Some(group) = self.group.as_ref().filter(|_| !partitions.is_empty()) {
            group.moved(partitions);
        }
    }

    fn seek_all<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
        position: Position,
    ) -> Result<(), Error> {
        let mut partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        if partitions.is_empty() {
            partitions = self.assignment();
        }
        partitions.iter().try_for_each(|tp| self.seek(tp, position))
    }

    fn set_paused<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>, is_paused: bool) {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        self.shared.deliver(|inbox| {
            for tp in &partitions {
                if let Some(id) = inbox.cursor(tp).map(|cursor| cursor.id) {
                    inbox.pause(id, is_paused);
                }
            }
        });
    }
}

/// # Figures
impl ConsumerHandle {
    /// What was counted so far, and what is held now. Costs a short lock and some allocations.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// # for n in 0..10 { producer.send(milena::Record::to("orders").value("x")).await?; }
    /// # let mut consumer = client.consumer().auto_offset_reset(milena::OffsetReset::Earliest).build()?;
    /// # consumer.assign([("orders", 0)])?;
    /// for _ in 0..4 {
    ///     consumer.recv().await?;
    /// }
    /// assert_eq!(consumer.metrics().max_lag(), Some(6));
    /// # Ok(()) }
    /// ```
    pub fn metrics(&self) -> ConsumerMetrics {
        let last_rebalance = self.group.as_ref().and_then(|group| group.last_rebalance());
        let last_rebalance = last_rebalance.map(|at| self.core.now().saturating_duration_since(at));
        ConsumerMetrics { last_rebalance, ..self.shared.lock().metrics() }
    }
}

fn to_commit<T, O>(
    offsets: impl IntoIterator<Item = (T, O)>,
) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error>
where
    T: Into<TopicPartition>,
    O: Into<OffsetAndMetadata>,
{
    let offsets = offsets.into_iter().map(|(tp, offset)| (tp.into(), offset.into()));
    let offsets: BTreeMap<TopicPartition, OffsetAndMetadata> = offsets.collect();
    match offsets.iter().find(|(_, committed)| committed.offset < 0) {
        None => Ok(offsets),
        Some((tp, wrong)) => {
            let message = format!("offset {} of {tp} is negative and cannot be committed", wrong.offset);
            Err(Error::config(message).with_partition(tp.clone()))
        }
    }
}

fn start(position: Position) -> Start {
    match position {
        Position::Offset(offset) => Start::At(offset),
        Position::Beginning => Start::Earliest,
        Position::End => Start::Latest,
        Position::Timestamp(time) => Start::Time(time),
        Position::Committed => Start::Committed,
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("assigned", &self.assignment()).finish_non_exhaustive()
    }
}
