//! What readers see of transactions, and what of it costs nothing.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest};
use kafka_protocol::protocol::StrBytes;
use milena::mock::MockCluster;
use milena::{IsolationLevel, OffsetReset};

use crate::harness::{Batch, Peer, produce_request, topic_name};
use crate::rig::*;

/// A transactional producer that speaks for itself.
struct Writer {
    peer: Peer,
    name: StrBytes,
    id: i64,
    epoch: i16,
    sequence: i32,
}

impl Writer {
    async fn new(cluster: &MockCluster, name: &str) -> Self {
        let mut peer = Peer::connect(cluster, 1).await;
        let name = StrBytes::from(name.to_owned());
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(name.clone().into()))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = peer.ask(4, &request).await;
        assert_eq!(answer.error_code, 0);
        Self { peer, name, id: answer.producer_id.0, epoch: answer.producer_epoch, sequence: 0 }
    }

    async fn begin(&mut self) {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.name.clone().into())
            .with_v3_and_below_producer_id(self.id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let answer = self.peer.ask(3, &request).await;
        assert_eq!(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    }

    async fn write(&mut self, value: &str) {
        let batch = Batch { attributes: 0x10, ..Batch::of(&[value]).by(self.id, self.epoch, self.sequence) };
        let request = produce_request("t", 0, batch).with_transactional_id(Some(self.name.clone().into()));
        let answer = self.peer.ask(9, &request).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        self.sequence += 1;
    }

    async fn end(&mut self, committed: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.name.clone().into())
            .with_producer_id(self.id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        assert_eq!(self.peer.ask(3, &request).await.error_code, 0);
    }
}

async fn consumer(cluster: &MockCluster, level: IsolationLevel) -> milena::Consumer {
    let builder = client(cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
    let consumer = builder.isolation_level(level).build().unwrap();
    consumer.assign(all(1)).unwrap();
    consumer
}

/// All that comes within a second.
async fn values(consumer: &mut milena::Consumer) -> Vec<String> {
    let mut values = Vec::new();
    while let Ok(record) = tokio::time::timeout(SECOND, consumer.recv()).await {
        values.push(value(&record.unwrap()).to_owned());
    }
    values
}

/// P8, rules 35 and 39: open and aborted records are not seen, markers never, and the position passes all of it.
#[tokio::test(start_paused = true)]
async fn only_what_was_committed_is_read_and_everything_is_passed() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let (mut one, mut two) = (Writer::new(&cluster, "one").await, Writer::new(&cluster, "two").await);
    let mut committed = consumer(&cluster, IsolationLevel::ReadCommitted).await;
    let mut uncommitted = consumer(&cluster, IsolationLevel::ReadUncommitted).await;
    one.begin().await;
    two.begin().await;
    for (writer, value) in [(&mut one, "a"), (&mut two, "b")] {
        writer.write(value).await;
    }
    one.write("c").await;
    assert_eq!(values(&mut uncommitted).await, ["a", "b", "c"]);
    assert!(values(&mut committed).await.is_empty(), "both are open");
    assert_eq!(committed.watermarks(&tp(0)).await.unwrap().high, 0, "the last stable offset");
    two.end(false).await;
    assert!(values(&mut committed).await.is_empty());
    one.end(true).await;
    assert_eq!(values(&mut committed).await, ["a", "c"]);
    // Offsets 3 and 4 are markers.
    assert_eq!(committed.position(&tp(0)), Some(5));
    assert_eq!((committed.lag(&tp(0)), uncommitted.lag(&tp(0))), (Some(0), Some(2)), "markers count too");
    assert!(values(&mut uncommitted).await.is_empty());
    assert_eq!((uncommitted.position(&tp(0)), uncommitted.lag(&tp(0))), (Some(5), Some(0)));
}

/// Whatever place a reader begins at, between transactions that take turns, it sees the committed ones behind it.
#[tokio::test(start_paused = true)]
async fn many_transactions_of_two_producers_are_told_apart_from_any_offset() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let mut writers = [Writer::new(&cluster, "one").await, Writer::new(&cluster, "two").await];
    // By offset, what is seen there.
    let mut log: Vec<Option<String>> = Vec::new();
    let mut state = 5u64;
    for round in 0..40 {
        let mut written: [Vec<usize>; 2] = Default::default();
        for writer in &mut writers {
            writer.begin().await;
        }
        for n in 0..6 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let who = (state >> 40) as usize % 2;
            written[who].push(log.len());
            let value = format!("{round}.{n}");
            writers[who].write(&value).await;
            log.push(Some(value));
        }
        for (who, writer) in writers.iter_mut().enumerate() {
            if written[who].is_empty() {
                // An empty transaction leaves no marker.
                writer.write("x").await;
                written[who].push(log.len());
                log.push(Some("x".into()));
            }
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let is_committed = (state >> 40).is_multiple_of(2);
            writer.end(is_committed).await;
            log.push(None);
            if !is_committed {
                written[who].iter().for_each(|at| log[*at] = None);
            }
        }
    }
    let mut committed = consumer(&cluster, IsolationLevel::ReadCommitted).await;
    for start in [0, 1, 7, 33, 100, 211, log.len() - 1] {
        committed.seek(&tp(0), start as i64).unwrap();
        let expected: Vec<_> = log[start..].iter().flatten().cloned().collect();
        assert_eq!(values(&mut committed).await, expected, "from {start}");
        assert_eq!(committed.position(&tp(0)), Some(log.len() as i64));
    }
}
