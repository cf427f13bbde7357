//! What a consumer counts: with fetches and batches, never with records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::watch::Watch;
use crate::count::{Count, Times, Timing};
use crate::error::TopicPartition;

/// A consumer's counts since it was built, and what it holds now: from
/// [`ConsumerHandle::metrics`](super::ConsumerHandle::metrics).
///
/// A batch is counted when the caller is done with it, so records of the one that is being read are not in it yet. With the
/// feature `metrics` the counts go to the recorder of the `metrics` crate that is installed when the consumer is built,
/// labelled `client_id`: the names stand with the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerMetrics {
    /// Records that were handed out. (`milena_consumer_records`; Java: `records-consumed-total`.)
    pub records: u64,
    /// Batches with records that the caller is done with: read to their ends, sought away from, or unassigned.
    /// (`milena_consumer_batches`.)
    pub batches: u64,
    /// Bytes of the batches that were read to their ends, as they were fetched. (`milena_consumer_bytes`.)
    pub bytes: u64,
    /// Bytes of records that brokers sent, whatever became of them; what they exceed [`bytes`](Self::bytes) by in the long
    /// run was fetched in vain. (`milena_consumer_fetched_bytes`; Java: `bytes-consumed-total`.)
    pub fetched_bytes: u64,
    /// Fetch requests. (`milena_consumer_fetches`; Java: `fetch-total`.)
    pub fetches: u64,
    /// Fetch requests that got no answer. (`milena_consumer_fetches_failed`.)
    pub fetches_failed: u64,
    /// From each fetch request to its answer, also where the broker waited for data, or it stood in line behind others.
    /// (`milena_consumer_fetch_seconds`; Java: `fetch-latency-avg` and `-max`.)
    pub fetch_latency: Timing,
    /// How long brokers asked for a pause, for reasons of quota: each answer that did.
    /// (`milena_consumer_throttle_seconds`; Java: `fetch-throttle-time-avg` and `-max`.)
    pub throttle_time: Timing,
    /// Rebalances of the group that this consumer came out of with an assignment.
    /// (`milena_consumer_rebalances`; Java: `rebalance-total`.)
    pub rebalances: u64,
    /// Times that the membership was lost, and with it partitions. (`milena_consumer_memberships_lost`; Java:
    /// `failed-rebalance-total`.)
    pub memberships_lost: u64,
    /// From when a rebalance first concerned this consumer, as it began to join or was asked to give something back, until its
    /// listener had returned at the end. (`milena_consumer_rebalance_seconds`; Java: `rebalance-latency-avg` and `-max`.)
    pub rebalance_latency: Timing,
    /// How long ago the last one ended; none if there was none yet. (Java: `last-rebalance-seconds-ago`.)
    pub last_rebalance: Option<Duration>,
    /// Bytes of [`fetch_buffer`](super::ConsumerBuilder::fetch_buffer) in use now: asked for, buffered, being read, and
    /// decompressed.
    pub buffer_used: u64,
    /// Of these, what large compressed batches became.
    pub decompressed: u64,
    /// `fetch_buffer`.
    pub buffer_total: u64,
    /// Answers of brokers that are in memory now: with something that is buffered, being read, or in a record that the
    /// caller has kept.
    pub frames: u64,
    /// Their bytes. Far above `buffer_used`, records that were kept hold them: see
    /// [`ConsumerRecord::detach`](super::ConsumerRecord::detach).
    pub frame_bytes: u64,
    /// Each assigned partition.
    pub partitions: BTreeMap<TopicPartition, PartitionMetrics>,
}

/// How far a consumer is with one partition: part of [`ConsumerMetrics`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// The next offset, once it is known.
    pub position: Option<i64>,
    /// How many offsets that is behind the end of the log, once a broker has said where that is. With the feature
    /// `metrics`: the gauge `milena_consumer_lag`, labelled `client_id`, `topic` and `partition`, set with each answer and
    /// each batch. (Java: `records-lag`.)
    pub lag: Option<i64>,
    /// Bytes asked for, buffered, and being read.
    pub buffer_used: u64,
}

impl ConsumerMetrics {
    /// The largest lag of a partition. (Java: `records-lag-max`.)
    pub fn max_lag(&self) -> Option<i64> {
        self.partitions.values().filter_map(|partition| partition.lag).max()
    }
}

/// Where it is counted.
pub(super) struct Counts {
    records: Count,
    batches: Count,
    bytes: Count,
    fetched_bytes: Count,
    fetches: Count,
    fetches_failed: Count,
    fetch_latency: Times,
    throttle_time: Times,
    rebalances: Count,
    memberships_lost: Count,
    rebalance_latency: Times,
    frames: AtomicU64,
    frame_bytes: AtomicU64,
}

impl Counts {
    pub(super) fn new(client_id: &str) -> Self {
        let count = |name| Count::new(name, client_id);
        let times = |name| Times::new(name, client_id);
        Self {
            records: count("milena_consumer_records"),
            batches: count("milena_consumer_batches"),
            bytes: count("milena_consumer_bytes"),
            fetched_bytes: count("milena_consumer_fetched_bytes"),
            fetches: count("milena_consumer_fetches"),
            fetches_failed: count("milena_consumer_fetches_failed"),
            fetch_latency: times("milena_consumer_fetch_seconds"),
            throttle_time: times("milena_consumer_throttle_seconds"),
            rebalances: count("milena_consumer_rebalances"),
            memberships_lost: count("milena_consumer_memberships_lost"),
            rebalance_latency: times("milena_consumer_rebalance_seconds"),
            frames: AtomicU64::new(0),
            frame_bytes: AtomicU64::new(0),
        }
    }

    /// The caller is done with a batch: so many records of it were handed out, of so many bytes if that is all of it.
    pub(super) fn done(&self, records: usize, bytes: usize) {
        self.records.add(records as u64);
        self.batches.add(1);
        self.bytes.add(bytes as u64);
    }

    pub(super) fn asked(&self) {
        self.fetches.add(1);
    }

    pub(super) fn answered(&self, after: Duration, throttle: Option<Duration>) {
        self.fetch_latency.add(after);
        if let Some(throttle) = throttle {
            self.throttle_time.add(throttle);
        }
    }

    pub(super) fn rebalanced(&self, after: Duration) {
        self.rebalances.add(1);
        self.rebalance_latency.add(after);
    }

    pub(super) fn lost(&self) {
        self.memberships_lost.add(1);
    }

    pub(super) fn unanswered(&self) {
        self.fetches_failed.add(1);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.fetched_bytes.add(bytes as u64);
    }

    /// All but what the caller of this knows.
    pub(super) fn snapshot(&self) -> ConsumerMetrics {
        ConsumerMetrics {
            records: self.records.get(),
            batches: self.batches.get(),
            bytes: self.bytes.get(),
            fetched_bytes: self.fetched_bytes.get(),
            fetches: self.fetches.get(),
            fetches_failed: self.fetches_failed.get(),
            fetch_latency: self.fetch_latency.get(),
            throttle_time: self.throttle_time.get(),
            rebalances: self.rebalances.get(),
            memberships_lost: self.memberships_lost.get(),
            rebalance_latency: self.rebalance_latency.get(),
            frames: self.frames.load(Ordering::Relaxed),
            frame_bytes: self.frame_bytes.load(Ordering::Relaxed),
            ..ConsumerMetrics::default()
        }
    }
}

/// An answer, counted for as long as anything holds a part of it.
pub(super) struct Frame {
    bytes: Bytes,
    watch: Arc<Watch>,
}

impl Frame {
    pub(super) fn hold(bytes: Bytes, watch: &Arc<Watch>) -> Bytes {
        let counts = &watch.counts;
        counts.frames.fetch_add(1, Ordering::Relaxed);
        counts.frame_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Self { bytes, watch: Arc::clone(watch) })
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let counts = &self.watch.counts;
        counts.frames.fetch_sub(1, Ordering::Relaxed);
        counts.frame_bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// The lag of one partition, for whoever installed a recorder.
pub(super) struct LagGauge {
    #[cfg(feature = "metrics")]
    facade: metrics::Gauge,
}

impl LagGauge {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nobody is told"))]
    pub(super) fn new(client_id: &str, tp: &TopicPartition) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            facade: metrics::gauge!(
                "milena_consumer_lag",
                "client_id" => client_id.to_owned(),
                "topic" => tp.topic.to_string(),
                "partition" => tp.partition.to_string()
            ),
        }
    }

    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nobody is told"))]
    pub(super) fn set(&self, lag: i64) {
        #[cfg(feature = "metrics")]
        self.facade.set(lag as f64);
    }
}

impl std::fmt::Debug for LagGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LagGauge")
    }
}
