//! A topic as a producer sees it: its partitions, and where keyless records go.

use std::sync::{Arc, PoisonError, RwLock};

use super::budget::Budget;
use super::open_batch::Partition;
use super::partitioner::{Sticky, for_key};
use super::record::Record;
use super::router::Table;
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::net::Runtime;

/// Shared by all handles of a producer; grows when the topic does.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    partitions: RwLock<Vec<Arc<Partition>>>,
    sticky: Sticky,
}

impl Topic {
    /// Without partitions yet: see [`Self::grow`].
    pub(super) fn new(name: Arc<str>, sticky: Sticky) -> Self {
        Self { name, partitions: RwLock::default(), sticky }
    }

    /// The partition of a record: its own choice, its key's, or the sticky one.
    pub(super) fn partition_of(&self, record: &Record<'_>, runtime: &Runtime) -> Result<Arc<Partition>, Error> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let count = partitions.len();
        let index = match (record.partition, &record.key) {
            (Some(chosen), _) => usize::try_from(chosen).unwrap_or(usize::MAX),
            (None, Some(key)) => for_key(key.as_slice(), count),
            (None, None) => {
                let bytes = record.value.as_ref().map_or(0, |value| value.as_slice().len());
                self.sticky.next(bytes + RECORD_OVERHEAD, count, || runtime.random())
            }
        };
        partitions.get(index).map(Arc::clone).ok_or_else(|| {
            let index = record.partition.unwrap_or(-1);
            let message = format!("topic `{}` has {count} partitions, and no partition {index}", self.name);
            Error::new(ErrorKind::UnknownPartition, message)
                .with_partition(TopicPartition::new(Arc::clone(&self.name), index))
        })
    }

    /// Adds what `count` partitions are more than before, and says which those are. Never shrinks.
    pub(super) fn grow(&self, table: &Table, budget: &Arc<Budget>, count: usize) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        if count <= partitions.len() {
            return Vec::new();
        }
        let added = table.add(&self.name, partitions.len(), count, budget);
        partitions.extend(added.iter().map(Arc::clone));
        added
    }
}

/// What a record without key and headers takes beside its value, about.
const RECORD_OVERHEAD: usize = 10;
