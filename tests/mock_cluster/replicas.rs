//! Followers that are held back, the high watermark, and what a change of leader loses.

use std::time::Duration;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use milena::mock::MockCluster;
use tokio::time::{Instant, timeout};

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request, topic_name, values};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const LEADER_NOT_AVAILABLE: i16 = 5;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
const OFFSET_NOT_AVAILABLE: i16 = 78;

/// Two brokers, one partition that broker 1 leads and broker 2 follows, and one record in it.
async fn pair() -> (MockCluster, Peer) {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(peer.produce("t", 0, Batch::of(&["a"])).await.error_code, 0);
    (cluster, peer)
}

async fn produce(peer: &mut Peer, value: &str, acks: i16, timeout_ms: i32) -> (i16, i64) {
    let request = produce_request("t", 0, Batch::of(&[value])).with_acks(acks).with_timeout_ms(timeout_ms);
    let answer = peer.ask(9, &request).await;
    let said = &answer.responses[0].partition_responses[0];
    (said.error_code, said.base_offset)
}

pub async fn offset_at(peer: &mut Peer, topic: &str, time: i64, isolation: i8, version: i16) -> (i16, i64) {
    let asked = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(time);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic));
    let topic = topic.with_partitions(vec![asked.with_current_leader_epoch(-1)]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let answer = peer.ask(version, &request.with_isolation_level(isolation)).await;
    (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].offset)
}

/// Error, high watermark, and bytes.
async fn read(peer: &mut Peer, offset: i64) -> (i16, i64, usize) {
    let answer = peer.ask(12, &fetch("t", vec![partition(0, offset)]).with_max_wait_ms(0)).await;
    let data = &answer.responses[0].partitions[0];
    (data.error_code, data.high_watermark, data.records.as_ref().map_or(0, |records| records.len()))
}

#[tokio::test(start_paused = true)]
async fn consumers_read_up_to_the_high_watermark() {
    let (cluster, mut peer) = pair().await;
    cluster.hold_follower("t", 0, 2);
    assert_eq!(produce(&mut peer, "b", 1, 100).await, (0, 1));
    assert_eq!((cluster.offsets("t", 0), cluster.high_watermark("t", 0)), ((0, 2), 1));
    let one = Batch::of(&["a"]).bytes().len();
    assert_eq!(read(&mut peer, 0).await, (0, 1, one));
    assert_eq!(read(&mut peer, 1).await, (0, 1, 0));
    assert_eq!(read(&mut peer, 2).await, (0, 1, 0), "the end of the log, beyond the high watermark");
    assert_eq!(read(&mut peer, 3).await, (OFFSET_OUT_OF_RANGE, -1, 0));
    assert_eq!(offset_at(&mut peer, "t", -1, 0, 6).await, (0, 1));
    // The fetch that waits gets it as soon as the follower has it.
    let started = Instant::now();
    peer.send(12, &fetch("t", vec![partition(0, 1)]).with_max_wait_ms(60_000)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.release_follower("t", 0, 2);
    let answer = peer.receive::<FetchRequest>(12).await;
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 2);
    assert_eq!(started.elapsed().as_secs(), 3);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_produce_that_waits_holds_what_comes_after_it() {
    let (cluster, mut peer) = pair().await;
    cluster.hold_follower("t", 0, 2);
    let started = Instant::now();
    peer.send(9, &produce_request("t", 0, Batch::of(&["b"])).with_timeout_ms(60_000)).await;
    peer.send(12, &MetadataRequest::default()).await;
    assert!(timeout(Duration::from_secs(20), peer.frame()).await.is_err());
    assert_eq!(values(&cluster, "t", 0), ["a", "b"], "the leader has it");
    cluster.release_follower("t", 0, 2);
    let answer = peer.receive::<ProduceRequest>(9).await;
    let said = &answer.responses[0].partition_responses[0];
    assert_eq!((said.error_code, said.base_offset), (0, 1));
    peer.receive::<MetadataRequest>(12).await;
    assert_eq!(started.elapsed().as_secs(), 20);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn acks_all_waits_for_those_in_sync() {
    let (cluster, mut peer) = pair().await;
    cluster.hold_follower("t", 0, 2);
    let started = Instant::now();
    assert_eq!(produce(&mut peer, "b", -1, 5_000).await, (REQUEST_TIMED_OUT, 1));
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(produce(&mut peer, "c", 1, 5_000).await, (0, 2));
    assert_eq!(values(&cluster, "t", 0), ["a", "b", "c"], "late is not refused");
    // The leader gives up on the follower, and all waiting ends.
    peer.send(9, &produce_request("t", 0, Batch::of(&["d"])).with_timeout_ms(60_000)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.drop_from_isr("t", 0, 2);
    assert_eq!(peer.receive::<ProduceRequest>(9).await.responses[0].partition_responses[0].error_code, 0);
    assert_eq!((cluster.in_sync_replicas("t", 0), cluster.high_watermark("t", 0)), (vec![1], 4));
    assert_eq!(produce(&mut peer, "e", -1, 5_000).await, (0, 4));
    cluster.release_follower("t", 0, 2);
    assert_eq!(cluster.in_sync_replicas("t", 0).len(), 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_repetition_waits_as_the_first_did() {
    let (cluster, mut peer) = pair().await;
    cluster.hold_follower("t", 0, 2);
    let batch = || produce_request("t", 0, Batch::of(&["b"]).by(7, 0, 0));
    for _ in 0..2 {
        let answer = peer.ask(9, &batch().with_timeout_ms(100)).await;
        let said = &answer.responses[0].partition_responses[0];
        assert_eq!((said.error_code, said.base_offset), (REQUEST_TIMED_OUT, 1));
    }
    cluster.release_follower("t", 0, 2);
    assert_eq!(peer.ask(9, &batch()).await.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(values(&cluster, "t", 0), ["a", "b"]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn too_few_in_sync_are_refused() {
    let (cluster, mut peer) = pair().await;
    cluster.set_topic_config("t", "min.insync.replicas", "2");
    assert_eq!(produce(&mut peer, "b", -1, 100).await, (0, 1));
    cluster.drop_from_isr("t", 0, 2);
    assert_eq!(produce(&mut peer, "c", -1, 100).await, (NOT_ENOUGH_REPLICAS, -1));
    assert_eq!(produce(&mut peer, "c", 1, 100).await, (0, 2));
    assert_eq!(cluster.high_watermark("t", 0), 2, "newer brokers leave it while too few are in sync");
    cluster.set_topic_config("t", "min.insync.replicas", "1");
    assert_eq!(cluster.high_watermark("t", 0), 3);
    cluster.close().await;
}

/// Brokers before KIP-966 let the high watermark pass when too few are in sync, and say so to who waits for it.
#[tokio::test(start_paused = true)]
async fn too_few_in_sync_after_the_append() {
    let cluster = MockCluster::builder().brokers(2).in_memory().release(milena::mock::KafkaRelease::V2_8).start().await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    cluster.set_topic_config("t", "min.insync.replicas", "2");
    cluster.hold_follower("t", 0, 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(9, &produce_request("t", 0, Batch::of(&["a"])).with_timeout_ms(60_000)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.drop_from_isr("t", 0, 2);
    let answer = peer.receive::<ProduceRequest>(9).await;
    let said = &answer.responses[0].partition_responses[0];
    assert_eq!((said.error_code, said.base_offset), (NOT_ENOUGH_REPLICAS_AFTER_APPEND, 0));
    assert_eq!(cluster.high_watermark("t", 0), 1);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_has_what_it_has() {
    let (cluster, mut peer) = pair().await;
    cluster.hold_follower("t", 0, 2);
    peer.send(9, &produce_request("t", 0, Batch::of(&["lost"])).with_timeout_ms(60_000)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.move_leader("t", 0, 2);
    let answer = peer.receive::<ProduceRequest>(9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, NOT_LEADER_OR_FOLLOWER);
    assert_eq!((values(&cluster, "t", 0), cluster.high_watermark("t", 0)), (vec!["a".to_owned()], 1));
    assert_eq!(cluster.in_sync_replicas("t", 0).len(), 2, "the old leader follows, and has forgotten it too");
    let mut other = Peer::connect(&cluster, 2).await;
    assert_eq!(produce(&mut other, "b", -1, 100).await, (0, 1));
    // Who has read what was lost learns where that ended.
    let asked = OffsetForLeaderPartition::default().with_partition(0).with_current_leader_epoch(1).with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
    let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let end = other.ask(4, &request).await.topics[0].partitions[0].clone();
    assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 0, 1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn only_who_is_in_sync_leads() {
    let (cluster, mut peer) = pair().await;
    cluster.drop_from_isr("t", 0, 2);
    assert_eq!(produce(&mut peer, "b", -1, 100).await, (0, 1));
    cluster.stop_broker(1).await;
    assert_eq!((cluster.leader("t", 0), cluster.in_sync_replicas("t", 0)), (None, vec![1]));
    cluster.start_broker(1).await;
    assert_eq!(cluster.leader("t", 0), Some(1));
    assert_eq!(values(&cluster, "t", 0), ["a", "b"]);
    // Unless the topic would rather lose records than wait.
    cluster.stop_broker(1).await;
    cluster.set_topic_config("t", "unclean.leader.election.enable", "true");
    assert_eq!((cluster.leader("t", 0), cluster.in_sync_replicas("t", 0)), (Some(2), vec![2]));
    assert_eq!((values(&cluster, "t", 0), cluster.high_watermark("t", 0)), (vec!["a".to_owned()], 1));
    cluster.start_broker(1).await;
    assert_eq!(cluster.in_sync_replicas("t", 0).len(), 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_high_watermark_can_be_held() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    cluster.hold_high_watermark("t", 0);
    assert_eq!(produce(&mut peer, "a", -1, 100).await, (REQUEST_TIMED_OUT, 0));
    assert_eq!(read(&mut peer, 0).await, (0, 0, 0));
    // In a new epoch the leader does not know the end before its high watermark has reached it.
    assert_eq!(offset_at(&mut peer, "t", -1, 0, 6).await, (0, 0));
    cluster.truncate("t", 0, 1);
    assert_eq!(offset_at(&mut peer, "t", -1, 0, 6).await, (OFFSET_NOT_AVAILABLE, -1));
    assert_eq!(offset_at(&mut peer, "t", 0, 0, 4).await, (LEADER_NOT_AVAILABLE, -1));
    assert_eq!(offset_at(&mut peer, "t", -2, 0, 6).await, (0, 0));
    cluster.release_high_watermark("t", 0);
    assert_eq!(offset_at(&mut peer, "t", -1, 0, 6).await, (0, 1));
    assert_eq!(cluster.high_watermark("t", 0), 1);
    cluster.close().await;
}
