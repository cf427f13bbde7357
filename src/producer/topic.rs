//! A topic as a producer sees it: its partitions, and who chooses among them.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::open_batch::{Limits, Partition};
use super::partitioner::{Candidate, Partitioner, for_key};
use super::partitions::Partitions;
use super::record::Record;
use super::router::Table;
use super::sticky::{Next, Preference, Standing, Sticky, draw};
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::metadata;

/// A topic of one producer, for records that are sent to it often: from [`Producer::topic`](crate::Producer::topic).
///
/// A record made by `Record::to(&topic)` finds its way without a look-up by name, and without a copy of it. With another
/// producer it works as its name does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use milena::Record;
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 3);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// let producer = client.producer().build()?;
/// let orders = producer.topic("orders");
/// for n in 0..1000 {
///     producer.enqueue(Record::to(&orders).value(&n.to_string())).await?;
/// }
/// producer.flush().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProducerTopic(pub(super) Arc<Topic>);

impl ProducerTopic {
    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Debug for ProducerTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProducerTopic").field(&self.name()).finish()
    }
}

/// How a producer chooses partitions.
#[derive(Clone)]
pub(super) struct Choice {
    /// In place of Java's murmur2.
    pub(super) partitioner: Option<Arc<dyn Partitioner>>,
    /// Keys do not matter (partitioner.ignore.keys).
    pub(super) ignores_keys: bool,
    pub(super) preference: Preference,
}

/// Shared by all handles of a producer; grows when the topic does.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    /// The producer's: a topic of another one has another.
    table: Arc<Table>,
    partitions: Partitions,
    count: AtomicUsize,
    /// The indices of those with a leader, ascending. Replaced, never changed.
    available: RwLock<Arc<[i32]>>,
    /// Held by whoever takes over what a broker told.
    updating: Mutex<()>,
    choice: Choice,
    sticky: Sticky,
    /// Records that a partitioner of the user's was asked about.
    asked: AtomicU64,
}

impl Topic {
    /// Without partitions yet: see [`Self::update`].
    pub(super) fn new(name: Arc<str>, table: &Arc<Table>, choice: Choice, batch_size: usize) -> Self {
        let (partitions, count, available, updating, asked) = Default::default();
        let (table, sticky) = (Arc::clone(table), Sticky::new(batch_size));
        Self { name, table, partitions, count, available, updating, choice, sticky, asked }
    }

    /// Whether it is one of the producer with this table.
    #[inline]
    pub(super) fn is_of(&self, table: &Arc<Table>) -> bool {
        Arc::ptr_eq(&self.table, table)
    }

    /// Whether choosing a partition runs the user's code, which must hold no lock then.
    pub(super) fn asks(&self) -> bool {
        self.choice.partitioner.is_some()
    }

    /// The partition of a record: its own choice, the partitioner's, its key's, or the sticky one. `None` while no
    /// partition is known at all.
    #[inline]
    pub(super) fn partition_of(&self, limits: &Limits, record: &Record<'_>) -> Result<Option<&Arc<Partition>>, Error> {
        let count = self.count.load(Ordering::Acquire);
        if count == 0 {
            return Ok(None);
        }
        let index = match (record.chosen_partition(), record.key_bytes()) {
            (Some(chosen), _) => chosen,
            (None, _) if self.asks() => self.ask(count, record).unwrap_or_else(|| self.stay(limits, count, record)),
            (None, Some(key)) if !self.choice.ignores_keys => for_key(key, count) as i32,
            (None, _) => self.stay(limits, count, record),
        };
        match usize::try_from(index).ok().and_then(|index| self.partitions.get(index)) {
            Some(partition) => Ok(Some(partition)),
            None => Err(self.missing(count, index)),
        }
    }

    /// Takes over what a broker told of the topic, and says which partitions were not known before. Never shrinks.
    pub(super) fn update(&self, topic: &metadata::Topic) -> Vec<Arc<Partition>> {
        let _updating = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, told) = (self.count.load(Ordering::Acquire), topic.partitions.len());
        let added = self.table.add(&self.name, known, told);
        for (index, partition) in (known..).zip(&added) {
            self.partitions.set(index, Arc::clone(partition));
        }
        self.count.store(known.max(told), Ordering::Release);
        let leads = |(index, partition): (usize, &metadata::Partition)| partition.leader.map(|_| index as i32);
        let available: Arc<[i32]> = topic.partitions.iter().enumerate().filter_map(leads).collect();
        if available != self.available() {
            let leads = |index: usize| available.binary_search(&(index as i32)).is_ok();
            // A run does not go on where nobody leads, as long as somebody does elsewhere.
            if self.sticky.current().is_some_and(|current| !leads(current)) && !available.is_empty() {
                self.sticky.leave();
            }
            *self.available.write().unwrap_or_else(PoisonError::into_inner) = available;
        }
        added
    }

    fn available(&self) -> Arc<[i32]> {
        Arc::clone(&self.available.read().unwrap_or_else(PoisonError::into_inner))
    }

    #[cold]
    fn missing(&self, count: usize, index: i32) -> Error {
        let message = format!("topic `{}` has {count} partitions, and no partition {index}", self.name);
        Error::new(ErrorKind::UnknownPartition, message)
            .with_partition(TopicPartition::new(Arc::clone(&self.name), index))
    }

    fn ask(&self, count: usize, record: &Record<'_>) -> Option<i32> {
        let partitioner = self.choice.partitioner.as_ref()?;
        partitioner.partition(&Candidate {
            topic: &self.name,
            key: record.key_bytes(),
            value: record.value_bytes(),
            partitions: count as i32,
            available: &self.available(),
            nth: self.asked.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The sticky partition, which may be another than that of the record before.
    fn stay(&self, limits: &Limits, count: usize, record: &Record<'_>) -> i32 {
        match self.sticky.next(record.size_estimate(), || self.draw(limits, count)) {
            Next::Same(index) => index as i32,
            Next::Moved { to, from } => {
                if let Some(left) = from.and_then(|index| self.partitions.get(index)) {
                    left.end_run(limits);
                }
                to as i32
            }
        }
    }

    /// Among those that have a leader; among all while none has (rule 15).
    #[cold]
    fn draw(&self, limits: &Limits, count: usize) -> usize {
        let available = self.available();
        let index = |n: usize| available.get(n).map_or(n, |index| *index as usize);
        let count = if available.is_empty() { count } else { available.len() };
        let now = limits.runtime.now();
        let limit = self.choice.preference.availability_timeout;
        let standing = |n: usize| match self.partitions.get(index(n)) {
            Some(partition) if !limit.is_zero() && partition.account.load.is_stuck(now, limit) => Standing::Stuck,
            Some(partition) => Standing::Waiting(partition.account.load.batches()),
            None => Standing::Stuck,
        };
        index(draw(count, self.choice.preference, || limits.runtime.random(), standing))
    }
}
