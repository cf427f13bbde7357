//! A topic as a producer sees it: its partitions, and who chooses among them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::open_batch::{Limits, Partition};
use super::partitioner::{Candidate, Partitioner, for_key};
use super::record::Record;
use super::router::Table;
use super::sticky::{Next, Preference, Standing, Sticky, draw};
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::metadata;

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
    known: RwLock<Arc<Known>>,
    choice: Choice,
    sticky: Sticky,
    /// Records that a partitioner of the user's was asked about.
    asked: AtomicU64,
}

/// What is known of the partitions: replaced, never changed.
#[derive(Default)]
struct Known {
    partitions: Vec<Arc<Partition>>,
    /// The indices of those with a leader, ascending.
    available: Vec<i32>,
}

impl Topic {
    /// Without partitions yet: see [`Self::update`].
    pub(super) fn new(name: Arc<str>, choice: Choice, batch_size: usize) -> Self {
        let (known, asked) = Default::default();
        Self { name, known, choice, sticky: Sticky::new(batch_size), asked }
    }

    /// The partition of a record: its own choice, the partitioner's, its key's, or the sticky one. `None` while no
    /// partition is known at all.
    pub(super) fn partition_of(&self, limits: &Limits, record: &Record<'_>) -> Result<Option<Arc<Partition>>, Error> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let count = known.partitions.len();
        if count == 0 {
            return Ok(None);
        }
        let index = match (record.partition, &record.key) {
            (Some(chosen), _) => chosen,
            (None, _) if self.choice.partitioner.is_some() => {
                let known = {
                    let shared = Arc::clone(&known);
                    // A partitioner may use the producer, so it is asked under no lock.
                    drop(known);
                    shared
                };
                let index = self.ask(&known, record).unwrap_or_else(|| self.stay(limits, &known, record));
                return self.at(&known, index).map(Some);
            }
            (None, Some(key)) if !self.choice.ignores_keys => for_key(key.as_slice(), count) as i32,
            (None, _) => self.stay(limits, &known, record),
        };
        self.at(&known, index).map(Some)
    }

    /// Takes over what a broker told of the topic, and says which partitions were not known before. Never shrinks.
    pub(super) fn update(&self, table: &Table, topic: &metadata::Topic) -> Vec<Arc<Partition>> {
        let leads = |(index, partition): (usize, &metadata::Partition)| partition.leader.map(|_| index as i32);
        let available: Vec<i32> = topic.partitions.iter().enumerate().filter_map(leads).collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let count = known.partitions.len();
        if topic.partitions.len() <= count && available == known.available {
            return Vec::new();
        }
        let added = table.add(&self.name, count, topic.partitions.len());
        let partitions = known.partitions.iter().chain(&added).map(Arc::clone).collect();
        // A run does not go on where nobody leads, as long as somebody does elsewhere.
        if let Some(current) = self.sticky.current()
            && available.binary_search(&(current as i32)).is_err()
            && !available.is_empty()
        {
            self.sticky.leave();
        }
        *known = Arc::new(Known { partitions, available });
        added
    }

    fn at(&self, known: &Known, index: i32) -> Result<Arc<Partition>, Error> {
        let partition = usize::try_from(index).ok().and_then(|index| known.partitions.get(index));
        partition.map(Arc::clone).ok_or_else(|| {
            let count = known.partitions.len();
            let message = format!("topic `{}` has {count} partitions, and no partition {index}", self.name);
            Error::new(ErrorKind::UnknownPartition, message)
                .with_partition(TopicPartition::new(Arc::clone(&self.name), index))
        })
    }

    fn ask(&self, known: &Known, record: &Record<'_>) -> Option<i32> {
        let partitioner = self.choice.partitioner.as_ref()?;
        partitioner.partition(&Candidate {
            topic: &self.name,
            key: record.key.as_ref().map(|key| key.as_slice()),
            value: record.value.as_ref().map(|value| value.as_slice()),
            partitions: known.partitions.len() as i32,
            available: &known.available,
            nth: self.asked.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The sticky partition, which may be another than that of the record before.
    fn stay(&self, limits: &Limits, known: &Known, record: &Record<'_>) -> i32 {
        let next = self.sticky.next(record.size_estimate(), || self.draw(limits, known));
        match next {
            Next::Same(index) => index as i32,
            Next::Moved { to, from } => {
                // Nothing more goes there for now: what it has is about a batch, and need not linger.
                if let Some(left) = from.and_then(|index| known.partitions.get(index)) {
                    left.flush(limits);
                }
                to as i32
            }
        }
    }

    /// Among those that have a leader; among all while none has (rule 15).
    fn draw(&self, limits: &Limits, known: &Known) -> usize {
        let Known { partitions, available } = known;
        let index = |n: usize| available.get(n).map_or(n, |index| *index as usize);
        let count = if available.is_empty() { partitions.len() } else { available.len() };
        let now = limits.runtime.now();
        let limit = self.choice.preference.availability_timeout;
        let standing = |n: usize| match partitions.get(index(n)) {
            Some(partition) if !limit.is_zero() && partition.load.is_stuck(now, limit) => Standing::Stuck,
            Some(partition) => Standing::Waiting(partition.load.batches()),
            None => Standing::Stuck,
        };
        index(draw(count, self.choice.preference, || limits.runtime.random(), standing))
    }
}
