//! What a test sees of a cluster: who leads, what is in the logs, what was asked.

use bytes::Bytes;

use super::MockCluster;
use super::codec::Codec;
use super::history::SeenRequest;
use super::log::Stored;
use super::records::walk;
use super::verify::{LogView, Violation};

/// A record as it is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970, or -1 if its producer gave none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers in order, duplicates included. A name that is no UTF-8 has replacement characters in it.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// A batch as it is in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredBatch {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Its size in bytes, header included.
    pub size: usize,
    /// The leader epoch in which it was appended.
    pub leader_epoch: i32,
    /// `gzip`, `snappy`, `lz4` or `zstd`, if it is compressed.
    pub codec: Option<&'static str>,
    /// The id of an idempotent producer, or -1.
    pub producer_id: i64,
    /// It is part of a transaction.
    pub is_transactional: bool,
    /// It ends a transaction: its one record is for brokers and clients alone.
    pub is_control: bool,
    /// The epoch of the producer id, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// The largest timestamp of its records, or when it was appended if that is what the topic's timestamps are.
    pub max_timestamp: i64,
}

impl MockCluster {
    /// The ids of the brokers that run.
    pub fn live_brokers(&self) -> Vec<i32> {
        self.shared.state().live().collect()
    }

    /// The leader of a partition; `None` while every replica is stopped.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.with_partition(topic, partition, |partition| partition.leader)
    }

    /// The coordinator of a group; `None` while every broker is stopped.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shared.state().coordinator(group)
    }

    /// The controller.
    pub fn controller(&self) -> i32 {
        self.shared.state().controller
    }

    /// The number of partitions of a topic; `None` if there is no such topic.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        Some(self.shared.state().topic(topic)?.partitions.len())
    }

    /// The first and the next offset of a partition: its records are from the one up to, not including, the other. Those
    /// from the [high watermark](Self::high_watermark) on are not visible to consumers yet.
    pub fn offsets(&self, topic: &str, partition: i32) -> (i64, i64) {
        self.with_partition(topic, partition, |partition| (partition.log.start(), partition.log.end()))
    }

    /// The offset up to which every replica in sync has the records of a partition, and consumers may read them.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> i64 {
        self.with_partition(topic, partition, |partition| partition.high_watermark())
    }

    /// The offset up to which consumers may read that want committed records alone: the high watermark, or the first
    /// record of a transaction that is open.
    pub fn last_stable_offset(&self, topic: &str, partition: i32) -> i64 {
        self.with_partition(topic, partition, |partition| partition.last_stable_offset())
    }

    /// The replicas of a partition that are in sync, the leader among them.
    pub fn in_sync_replicas(&self, topic: &str, partition: i32) -> Vec<i32> {
        self.with_partition(topic, partition, |partition| partition.in_sync().to_vec())
    }

    /// How many fetch sessions a broker remembers (KIP-227).
    pub fn fetch_sessions(&self, broker: i32) -> usize {
        self.shared.state().sessions.get(&broker).map_or(0, |sessions| sessions.len())
    }

    /// The offset that a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        Some(self.shared.state().groups.get(group)?.offsets.get(topic)?.get(&partition)?.offset)
    }

    /// The records of a partition, in order: what is really in the log, whatever clients were told. Compressed batches
    /// are decompressed for it; records of transactions that are open or aborted are there, markers are not.
    ///
    /// ```
    /// # use milena::mock::MockCluster;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let cluster = MockCluster::start().await;
    /// cluster.create_topic("orders", 1);
    /// assert!(cluster.log("orders", 0).is_empty());
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn log(&self, topic: &str, partition: i32) -> Vec<StoredRecord> {
        self.with_partition(topic, partition, |partition| {
            let start = partition.log.start();
            let mut records = Vec::new();
            let batches = partition.log.batches().filter(|batch| !batch.header.is_control());
            batches.for_each(|batch| read_batch(batch, &mut records));
            records.retain(|record| record.offset >= start);
            records
        })
    }

    /// The batches of a partition, in order, compressed or not.
    pub fn batches(&self, topic: &str, partition: i32) -> Vec<StoredBatch> {
        self.with_partition(topic, partition, |partition| partition.log.batches().map(describe).collect())
    }

    /// The requests that the brokers have read, oldest first: the last 100,000, or since
    /// [`clear_requests`](Self::clear_requests).
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.history.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.history.clear_requests();
    }

    /// What clients have sent that is wrong: frames that cannot be decoded, APIs and versions that are not offered (the
    /// connection was closed), and requests with bytes too many (which were served). A client that is tested should
    /// leave none of them.
    /// [`verify`](Self::verify) knows more rules.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.history.violations()
    }

    /// Every log, to be judged.
    pub(super) fn logs(&self) -> Vec<LogView> {
        let state = self.shared.state();
        let partitions = state.topics().flat_map(|(name, topic)| {
            topic.partitions.iter().zip(0..).map(move |(partition, index)| LogView {
                topic: name.to_owned(),
                topic_id: topic.id,
                partition: index,
                compacted: topic.config.rules().compacted,
                start: partition.log.start(),
                end: partition.log.end(),
                cuts: partition.cuts().to_vec(),
                batches: partition
                    .log
                    .batches()
                    .map(|batch| (describe(batch), crc32c::crc32c(&batch.records)))
                    .collect(),
            })
        });
        partitions.collect()
    }
}

fn read_batch(batch: &Stored, records: &mut Vec<StoredRecord>) {
    let plain = batch.plain();
    let own = |bytes: &[u8]| plain.slice_ref(bytes);
    let walked = walk(&plain, batch.header.count, |record| {
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        records.push(StoredRecord {
            offset: batch.header.base_offset + i64::from(record.offset_delta),
            timestamp: batch.header.timestamp(record.timestamp_delta),
            key: record.key.map(own),
            value: record.value.map(own),
            headers: record.headers().map(|(key, value)| (name(key), value.map(own))).collect(),
        });
        Ok(())
    });
    debug_assert!(walked.is_ok(), "what is in the log has been checked");
}

fn describe(batch: &Stored) -> StoredBatch {
    let header = &batch.header;
    StoredBatch {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        size: batch.size(),
        leader_epoch: header.leader_epoch,
        codec: header.codec().ok().flatten().map(Codec::name),
        producer_id: header.producer_id,
        is_transactional: header.is_transactional(),
        is_control: header.is_control(),
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        max_timestamp: header.max_timestamp,
    }
}
