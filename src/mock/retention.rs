//! What brokers throw away in time: old records, and in compacted topics those that a later one of the same key replaces.
//!
//! It happens when a test says so. Compaction leaves a batch in its place, with the offsets that it had:
//!
//! ```text
//!  before   │ 0 a=1 ┊ 1 b=1 ┊ 2 a=2 │ 3 c=1 │ 4 c=null ┊ 5 a=3 │
//!  after    │       ┊ 1 b=1 ┊       │       │ 4 c=null ┊ 5 a=3 │     the first batch still covers 0 to 2
//!  later    │       ┊ 1 b=1 ┊       │       │          ┊ 5 a=3 │     a tombstone goes delete.retention.ms after it came
//! ```

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::MockCluster;
use super::batch::Header;
use super::configs::TopicConfig;
use super::log::{Log, Stored};
use super::partition::Partition;

/// Times that decide what compaction may remove.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compaction {
    pub(super) now_ms: i64,
    /// `min.compaction.lag.ms`: what is younger stays.
    pub(super) min_lag_ms: i64,
    /// `delete.retention.ms`: tombstones stay for so long after they were first compacted.
    pub(super) keep_tombstones_ms: i64,
    /// Nothing at this offset and above is touched.
    pub(super) before: i64,
}

impl Log {
    /// Keeps the last record of each key, and drops the records of aborted transactions.
    pub(super) fn compact(&mut self, compaction: Compaction) {
        let Compaction { now_ms, min_lag_ms, before, .. } = compaction;
        let old = |header: &Header| header.max_timestamp <= now_ms.saturating_sub(min_lag_ms);
        let may_go = |batch: &&Stored| batch.header.last_offset() < before && (min_lag_ms == 0 || old(&batch.header));
        let count = self.batches().take_while(may_go).count();
        let mut last: HashMap<Bytes, i64> = HashMap::new();
        for batch in self.batches().take(count).filter(|batch| !self.is_aborted(&batch.header)) {
            if !batch.header.is_control() {
                batch.each(|record| {
                    if let Some(key) = record.key {
                        last.insert(Bytes::copy_from_slice(key), batch.header.offset_of(record.offset_delta));
                    }
                });
            }
        }
        // The last batch of a producer stays, even if it is empty: it says which sequence number comes next.
        let mut seen = HashSet::new();
        let all: Vec<_> = self.batches().map(|batch| &batch.header).collect();
        let newest = all.iter().rev().filter(|header| header.has_producer() && !header.is_control());
        let newest: HashSet<i64> =
            newest.filter(|header| seen.insert(header.producer_id)).map(|header| header.base_offset).collect();
        let kept: Vec<_> = self.batches().take(count).map(|batch| self.compacted(batch, &last, compaction)).collect();
        let kept = kept.into_iter().zip(all).map(|(batch, header)| {
            let is_last = header.last_offset() + 1 == self.end(); // as in the segment that real brokers leave alone
            batch.filter(|kept| kept.header.count > 0 || is_last || newest.contains(&header.base_offset))
        });
        let kept: Vec<_> = kept.collect();
        self.replace_first(kept);
    }

    /// What is left of a batch; `None` if it goes with its offsets.
    fn compacted(&self, batch: &Stored, last: &HashMap<Bytes, i64>, compaction: Compaction) -> Option<Stored> {
        if batch.header.is_control() {
            return Some(batch.clone());
        }
        let aborted = self.is_aborted(&batch.header);
        let horizon = batch.header.delete_horizon();
        let mut tombstones = false;
        let stored = batch.retain(|record| {
            let Some(key) = record.key.filter(|_| !aborted) else { return false };
            let newest = last.get(key) == Some(&batch.header.offset_of(record.offset_delta));
            let tombstone = record.value.is_none();
            let over = tombstone && horizon.is_some_and(|horizon| horizon <= compaction.now_ms);
            let stays = newest && !over;
            tombstones |= stays && tombstone;
            stays
        });
        let from_now = compaction.now_ms.saturating_add(compaction.keep_tombstones_ms);
        Some(if tombstones && horizon.is_none() { stored.with_delete_horizon(from_now) } else { stored })
    }

    /// Where the log has to start to keep what is not older than `oldest`: it ends before the first batch that is not.
    pub(super) fn start_for_time(&self, oldest: i64) -> i64 {
        let old = self.batches().take_while(|batch| batch.header.max_timestamp < oldest);
        old.last().map_or_else(|| self.start(), |batch| batch.header.last_offset() + 1)
    }
}

impl Partition {
    /// Deletes what is too old or too much, by `retention.ms` and `retention.bytes`.
    pub(super) fn apply_retention(&mut self, config: &TopicConfig, now_ms: i64) {
        let by_time = config.retention_ms().map(|age| self.log.start_for_time(now_ms.saturating_sub(age)));
        let by_size = config.retention_bytes().map(|bytes| self.log.start_for_bytes(bytes));
        if let Some(start) = by_time.max(by_size) {
            self.delete_before(start);
        }
    }
}

/// What brokers throw away.
impl MockCluster {
    /// Deletes records of a topic as its brokers do from time to time, by `retention.ms` and `retention.bytes`: in whole
    /// batches, from the front, and none that consumers may not read yet. Nothing, unless `cleanup.policy` has `delete`.
    ///
    /// (With `retention.bytes`, it happens at each produce too.)
    pub fn apply_retention(&self, topic: &str) {
        let now_ms = self.shared.runtime.wall_ms();
        self.with_topic(topic, |topic| {
            let config = topic.config.clone();
            if config.deletes() {
                topic.partitions.iter_mut().for_each(|partition| partition.apply_retention(&config, now_ms));
            }
        });
    }

    /// Compacts a topic, up to the last stable offset: of the records of a key the last one stays, and records without a
    /// key and those of aborted transactions go. Offsets stay, so consumers see gaps; a batch that lost its last record
    /// still says how far it went; the last batch of an idempotent producer stays even when it is empty, and so do the
    /// markers of transactions.
    ///
    /// A tombstone stays for `delete.retention.ms` after the first compaction that saw it, and what is younger than
    /// `min.compaction.lag.ms` is not touched. A real broker keeps its last segment as it is; this one compacts all.
    ///
    /// # Panics
    /// If `cleanup.policy` of the topic has no `compact`.
    ///
    /// ```
    /// # use milena::mock::MockCluster;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let cluster = MockCluster::start().await;
    /// cluster.create_topic("prices", 1);
    /// cluster.set_topic_config("prices", "cleanup.policy", "compact");
    /// // … produce …
    /// cluster.compact("prices");
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn compact(&self, topic: &str) {
        let now_ms = self.shared.runtime.wall_ms();
        let compacted = self.with_topic(topic, |topic| {
            let (min_lag_ms, keep_tombstones_ms) = topic.config.compaction();
            if !topic.config.rules().compacted {
                return false;
            }
            for partition in &mut topic.partitions {
                let before = partition.last_stable_offset();
                partition.log.compact(Compaction { now_ms, min_lag_ms, keep_tombstones_ms, before });
                partition.wake();
            }
            true
        });
        assert!(compacted, "the topic {topic} is not compacted: set its cleanup.policy");
    }
}
