//! What was moved while an assignment was balanced: so that of two partitions of a topic that would change places, one
//! goes back instead.

use std::collections::BTreeMap;

use super::table::Table;
use crate::machine::assignor::java_order::{JavaSet, partition_hash};

/// See the module. Members as numbers, from and to.
#[derive(Default)]
pub struct Movements {
    by_pair: BTreeMap<(usize, usize, usize), JavaSet<usize>>,
    by_partition: BTreeMap<usize, (usize, usize)>,
}

impl Movements {
    pub fn record(&mut self, table: &Table<'_>, partition: usize, from: usize, to: usize) {
        let topic = table.topic_of(partition);
        let hash = partition_hash(table.topics[topic].hash, u32::try_from(table.index_of(partition)).unwrap_or(0));
        let source = match self.by_partition.remove(&partition) {
            None => from,
            Some((source, old)) => {
                let pair = (topic, source, old);
                if let Some(set) = self.by_pair.get_mut(&pair) {
                    set.remove(hash, &partition);
                    if set.is_empty() {
                        self.by_pair.remove(&pair);
                    }
                }
                source
            }
        };
        if source != to {
            self.by_partition.insert(partition, (source, to));
            self.by_pair.entry((topic, source, to)).or_default().insert(hash, partition);
        }
    }

    /// If one of the same topic went the other way, that one.
    pub fn instead(&self, table: &Table<'_>, partition: usize, from: usize, to: usize) -> usize {
        let from = self.by_partition.get(&partition).map_or(from, |(source, _)| *source);
        let back = self.by_pair.get(&(table.topic_of(partition), to, from));
        back.and_then(|set| set.iter().next().copied()).unwrap_or(partition)
    }
}
