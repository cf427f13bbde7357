//! Transactions: what readers see of them, who is fenced, and what ends them.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    InitProducerIdRequest, OffsetFetchRequest, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::RecordBatchDecoder;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request, topic_name, values};
use crate::replicas::offset_at;

const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const OPERATION_NOT_ATTEMPTED: i16 = 55;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTION_ABORTABLE: i16 = 120;

pub fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

pub fn init(name: &str) -> InitProducerIdRequest {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(text(name).into()));
    request.with_transaction_timeout_ms(60_000).with_producer_id((-1).into()).with_producer_epoch(-1)
}

pub fn add(name: &str, (id, epoch): (i64, i16), topic: &str, partitions: &[i32]) -> AddPartitionsToTxnRequest {
    let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(partitions.to_vec());
    AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(text(name).into())
        .with_v3_and_below_producer_id(id.into())
        .with_v3_and_below_producer_epoch(epoch)
        .with_v3_and_below_topics(vec![topic])
}

pub fn end(name: &str, (id, epoch): (i64, i16), committed: bool) -> EndTxnRequest {
    let request = EndTxnRequest::default().with_transactional_id(text(name).into()).with_producer_id(id.into());
    request.with_producer_epoch(epoch).with_committed(committed)
}

pub fn transactional(
    name: &str,
    topic: &str,
    (id, epoch): (i64, i16),
    sequence: i32,
    value: &str,
) -> kafka_protocol::messages::ProduceRequest {
    let batch = Batch { attributes: 0x10, ..Batch::of(&[value]).by(id, epoch, sequence) };
    produce_request(topic, 0, batch).with_transactional_id(Some(text(name).into()))
}

/// Producer id, offset: of the aborted transactions.
pub fn aborted(data: &PartitionData) -> Option<Vec<(i64, i64)>> {
    let aborted = data.aborted_transactions.as_ref()?;
    Some(aborted.iter().map(|aborted| (aborted.producer_id.0, aborted.first_offset)).collect())
}

async fn identity(peer: &mut Peer, name: &str) -> (i64, i16) {
    let answer = peer.ask(4, &init(name)).await;
    assert_eq!(answer.error_code, 0);
    (answer.producer_id.0, answer.producer_epoch)
}

async fn write(peer: &mut Peer, name: &str, producer: (i64, i16), sequence: i32, value: &str) -> (i16, i64) {
    let answer = peer.ask(9, &transactional(name, "t", producer, sequence, value)).await;
    let said = &answer.responses[0].partition_responses[0];
    (said.error_code, said.base_offset)
}

async fn added(peer: &mut Peer, name: &str, producer: (i64, i16)) -> i16 {
    let answer = peer.ask(3, &add(name, producer, "t", &[0])).await;
    answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

async fn read(peer: &mut Peer, offset: i64, isolation: i8) -> PartitionData {
    let request = fetch("t", vec![partition(0, offset)]).with_max_wait_ms(0).with_isolation_level(isolation);
    peer.ask(12, &request).await.responses[0].partitions[0].clone()
}

#[tokio::test(start_paused = true)]
async fn readers_of_committed_records_stop_at_what_is_open() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.produce("t", 0, Batch::of(&["plain"])).await;
    let (first, second) = (identity(&mut peer, "first").await, identity(&mut peer, "second").await);
    assert_eq!((added(&mut peer, "first", first).await, added(&mut peer, "second", second).await), (0, 0));
    assert_eq!(write(&mut peer, "first", first, 0, "a").await, (0, 1));
    assert_eq!(write(&mut peer, "second", second, 0, "b").await, (0, 2));
    assert_eq!(write(&mut peer, "first", first, 1, "c").await, (0, 3));
    let one = Batch::of(&["plain"]).bytes().len();
    for (isolation, records, list) in [(0, one + 3 * Batch::of(&["a"]).bytes().len(), None), (1, one, Some(vec![]))] {
        let data = read(&mut peer, 0, isolation).await;
        assert_eq!((data.high_watermark, data.last_stable_offset), (4, 1));
        assert_eq!((data.records.as_ref().unwrap().len(), aborted(&data)), (records, list));
    }
    assert_eq!(
        (offset_at(&mut peer, "t", -1, 0, 6).await, offset_at(&mut peer, "t", -1, 1, 6).await),
        ((0, 4), (0, 1))
    );
    assert_eq!(offset_at(&mut peer, "t", 1, 1, 6).await, (0, 0));

    // The second aborts, and is after what is open still.
    assert_eq!(peer.ask(3, &end("second", second, false)).await.error_code, 0);
    assert_eq!((cluster.last_stable_offset("t", 0), cluster.high_watermark("t", 0)), (1, 5));
    assert_eq!(peer.ask(3, &end("first", first, true)).await.error_code, 0);
    assert_eq!((cluster.last_stable_offset("t", 0), cluster.high_watermark("t", 0)), (6, 6));
    let data = read(&mut peer, 0, 1).await;
    assert_eq!(aborted(&data), Some(vec![(second.0, 2)]));
    assert_eq!(aborted(&read(&mut peer, 4, 1).await), Some(vec![(second.0, 2)]), "its marker is at 4");
    assert_eq!(aborted(&read(&mut peer, 5, 1).await), Some(vec![]));
    assert_eq!(values(&cluster, "t", 0), ["plain", "a", "b", "c"]);

    // Markers are control batches that others can read.
    let decoded = RecordBatchDecoder::decode_all(&mut data.records.unwrap()).unwrap();
    let markers: Vec<_> = decoded.iter().flat_map(|set| &set.records).filter(|record| record.control).collect();
    let said: Vec<_> = markers
        .iter()
        .map(|m| (m.offset, m.producer_id, m.transactional, m.key.as_deref().unwrap(), m.value.as_deref().unwrap()))
        .collect();
    let (abort, commit, value) = (&[0, 0, 0, 0][..], &[0, 0, 0, 1][..], &[0; 6][..]);
    assert_eq!(said, [(4, second.0, true, abort, value), (5, first.0, true, commit, value)]);
    let control: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.is_control, b.is_transactional)).collect();
    assert_eq!(control[..2], [(false, false), (false, true)]);
    assert_eq!(control[4..], [(true, true), (true, true)]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_marker_counts_when_all_replicas_have_it() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.write_transactional("t", 0, 7, ["a"]);
    let leader = cluster.leader("t", 0).unwrap();
    cluster.hold_follower("t", 0, 3 - leader);
    cluster.write_marker("t", 0, 7, true);
    assert_eq!((cluster.last_stable_offset("t", 0), cluster.high_watermark("t", 0)), (0, 1));
    cluster.release_follower("t", 0, 3 - leader);
    assert_eq!((cluster.last_stable_offset("t", 0), cluster.high_watermark("t", 0)), (2, 2));
    // What is truncated opens again.
    cluster.truncate("t", 0, 1);
    assert_eq!((cluster.last_stable_offset("t", 0), cluster.high_watermark("t", 0)), (0, 1));
    cluster.write_marker("t", 0, 7, false);
    assert_eq!(cluster.last_stable_offset("t", 0), 2);
    assert_eq!(cluster.write_transactional("t", 0, 7, ["b", "c"]), 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_producer_fences_the_older() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let old = identity(&mut peer, "x").await;
    assert_eq!(added(&mut peer, "x", old).await, 0);
    assert_eq!(write(&mut peer, "x", old, 0, "a").await, (0, 0));
    assert_eq!(cluster.open_transaction("x"), Some(vec![("t".to_owned(), 0)]));
    assert_eq!(peer.ask(4, &init("x")).await.error_code, CONCURRENT_TRANSACTIONS);
    assert_eq!((cluster.open_transaction("x"), cluster.last_stable_offset("t", 0)), (None, 2), "aborted");
    let new = identity(&mut peer, "x").await;
    assert_eq!(new, (old.0, 2));
    assert_eq!(write(&mut peer, "x", old, 1, "b").await, (INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(added(&mut peer, "x", old).await, PRODUCER_FENCED);
    assert_eq!(peer.ask(3, &end("x", old, true)).await.error_code, PRODUCER_FENCED);
    assert_eq!(peer.ask(1, &end("x", old, true)).await.error_code, INVALID_PRODUCER_EPOCH);
    let expecting = init("x").with_producer_id(old.0.into()).with_producer_epoch(old.1);
    assert_eq!(peer.ask(4, &expecting).await.error_code, PRODUCER_FENCED);
    assert_eq!(peer.ask(3, &expecting).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(added(&mut peer, "x", (old.0 + 100, 0)).await, INVALID_PRODUCER_ID_MAPPING);
    assert_eq!(added(&mut peer, "nobody", new).await, INVALID_PRODUCER_ID_MAPPING);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_must_be_part_of_the_transaction() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let producer = identity(&mut peer, "x").await;
    assert_eq!(write(&mut peer, "x", producer, 0, "a").await, (INVALID_TXN_STATE, -1));
    let answer = peer.ask(11, &transactional("x", "t", producer, 0, "a")).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, TRANSACTION_ABORTABLE);
    let answer = peer.ask(3, &add("x", producer, "t", &[0, 5])).await;
    let results = &answer.results_by_topic_v3_and_below[0].results_by_partition;
    assert_eq!([results[0].partition_error_code, results[1].partition_error_code], [OPERATION_NOT_ATTEMPTED, 3]);
    // From version 12 on, a produce adds its partition itself.
    let answer = peer.ask(12, &transactional("x", "t", producer, 0, "a")).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    // Nothing else may be written meanwhile.
    let plain = Batch::of(&["plain"]).by(producer.0, producer.1, 1);
    assert_eq!(peer.produce("t", 0, plain).await.error_code, INVALID_TXN_STATE);
    let EndTxnResponse { error_code, producer_id, producer_epoch, .. } = peer.ask(5, &end("x", producer, true)).await;
    assert_eq!((error_code, producer_id.0, producer_epoch), (0, producer.0, producer.1 + 1));
    let again = peer.ask(5, &end("x", producer, true)).await;
    assert_eq!((again.error_code, again.producer_epoch), (0, producer.1 + 1), "a repetition");
    assert_eq!(peer.ask(5, &end("x", producer, false)).await.error_code, INVALID_TXN_STATE);
    assert_eq!(cluster.batches("t", 0)[1].producer_epoch, producer.1 + 1);
    assert_eq!(write(&mut peer, "x", producer, 1, "b").await, (INVALID_PRODUCER_EPOCH, -1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_when_its_time_is_over() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(
        peer.ask(4, &init("x").with_transaction_timeout_ms(900_001)).await.error_code,
        INVALID_TRANSACTION_TIMEOUT
    );
    let producer = identity(&mut peer, "x").await;
    assert_eq!(added(&mut peer, "x", producer).await, 0);
    assert_eq!(write(&mut peer, "x", producer, 0, "a").await, (0, 0));
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(read(&mut peer, 0, 1).await.last_stable_offset, 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let data = read(&mut peer, 0, 1).await;
    assert_eq!((data.last_stable_offset, aborted(&data)), (2, Some(vec![(producer.0, 0)])));
    assert_eq!(peer.ask(3, &end("x", producer, true)).await.error_code, PRODUCER_FENCED);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_with_their_transaction() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let found = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec!["x".into()]);
    assert_eq!(peer.ask(4, &found).await.coordinators[0].error_code, 0);
    let producer = identity(&mut peer, "x").await;
    for (round, committed) in [true, false].into_iter().enumerate() {
        let add = AddOffsetsToTxnRequest::default()
            .with_transactional_id(text("x").into())
            .with_producer_id(producer.0.into())
            .with_producer_epoch(producer.1)
            .with_group_id(text("g").into());
        assert_eq!(peer.ask(3, &add).await.error_code, 0);
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(round as i64 * 10 + 5);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let commit = TxnOffsetCommitRequest::default()
            .with_transactional_id(text("x").into())
            .with_producer_id(producer.0.into())
            .with_producer_epoch(producer.1)
            .with_group_id(text("g").into())
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        assert_eq!(peer.ask(3, &commit).await.topics[0].partitions[0].error_code, 0);
        let before = (round == 1).then_some(5);
        assert_eq!(cluster.committed("g", "t", 0), before);
        let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_group_id(text("g").into()).with_topics(Some(vec![topic]));
        let stable = peer.ask(7, &request.clone().with_require_stable(true)).await;
        assert_eq!(stable.topics[0].partitions[0].error_code, UNSTABLE_OFFSET_COMMIT);
        assert_eq!(peer.ask(7, &request).await.topics[0].partitions[0].committed_offset, before.unwrap_or(-1));
        assert_eq!(peer.ask(3, &end("x", producer, committed)).await.error_code, 0);
        assert_eq!(cluster.committed("g", "t", 0), Some(5));
    }
    cluster.close().await;
}
