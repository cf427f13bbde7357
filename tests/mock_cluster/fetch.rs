//! What a fetch gives, when, and what a session remembers.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use kafka_protocol::protocol::Message;
use milena::mock::MockCluster;
use tokio::time::Instant;

use crate::harness::{Batch, Peer, in_memory, topic_name};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNKNOWN_TOPIC_ID: i16 = 100;

pub fn partition(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(index)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
}

pub fn fetch(topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(partitions);
    FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_max_bytes(50 << 20).with_topics(vec![topic])
}

async fn one(peer: &mut Peer, request: &FetchRequest) -> PartitionData {
    peer.ask(12, request).await.responses[0].partitions[0].clone()
}

pub async fn fetch_bytes(peer: &mut Peer, topic: &str, index: i32, offset: i64) -> Bytes {
    one(peer, &fetch(topic, vec![partition(index, offset)])).await.records.unwrap()
}

async fn filled(values: &[&str]) -> (MockCluster, Peer) {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    for value in values {
        assert_eq!(peer.produce("t", 0, Batch::of(&[value])).await.error_code, 0);
    }
    (cluster, peer)
}

#[tokio::test(start_paused = true)]
async fn every_version_of_fetch_is_served() {
    let (cluster, mut peer) = filled(&["a", "b"]).await;
    let id = peer.metadata(&["t"]).await.topics[0].topic_id;
    let all = fetch_bytes(&mut peer, "t", 0, 0).await;
    for version in FetchRequest::VERSIONS.min..=FetchRequest::VERSIONS.max {
        for isolation_level in [0, 1] {
            let mut request = fetch("t", vec![partition(0, 0)]).with_isolation_level(isolation_level);
            if version >= 13 {
                request.topics[0].topic_id = id;
                request.topics[0].topic = Default::default();
            }
            if version >= 15 {
                request.replica_id = (-1).into();
            }
            let answer = peer.ask(version, &request).await;
            let data = &answer.responses[0].partitions[0];
            assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 2, 2), "version {version}");
            assert_eq!(data.records.as_ref(), Some(&all), "version {version}");
            let aborted = data.aborted_transactions.as_ref().map(Vec::len);
            assert_eq!(aborted, (isolation_level == 1).then_some(0), "version {version}");
        }
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_data_waits() {
    let (cluster, mut peer) = filled(&["a"]).await;
    let started = Instant::now();
    let data = one(&mut peer, &fetch("t", vec![partition(0, 1)])).await;
    assert_eq!((data.error_code, data.records.unwrap().len()), (0, 0));
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    // With data, or without being told to wait, it does not.
    let started = Instant::now();
    one(&mut peer, &fetch("t", vec![partition(0, 0)])).await;
    one(&mut peer, &fetch("t", vec![partition(0, 1)]).with_max_wait_ms(0)).await;
    one(&mut peer, &fetch("t", vec![partition(0, 1)]).with_min_bytes(0)).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn new_data_ends_the_wait() {
    let (cluster, mut peer) = filled(&[]).await;
    let mut producer = Peer::connect(&cluster, 1).await;
    let one_batch = Batch::of(&["a"]).bytes().len() as i32;
    let started = Instant::now();
    peer.send(12, &fetch("t", vec![partition(0, 0), partition(1, 0)]).with_min_bytes(2 * one_batch)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    producer.produce("t", 1, Batch::of(&["a"])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    producer.produce("t", 0, Batch::of(&["b"])).await;
    let answer = peer.receive::<FetchRequest>(12).await;
    assert_eq!(started.elapsed(), Duration::from_millis(200), "one batch was not enough, two are");
    assert!(answer.responses[0].partitions.iter().all(|data| !data.records.as_ref().unwrap().is_empty()));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_holds_what_comes_after_it() {
    let (cluster, mut peer) = filled(&[]).await;
    let started = Instant::now();
    peer.send(12, &fetch("t", vec![partition(0, 0)])).await;
    assert_eq!(peer.answered, 0);
    peer.send(12, &fetch("t", vec![partition(0, 0)]).with_max_wait_ms(0)).await;
    peer.receive::<FetchRequest>(12).await;
    peer.receive::<FetchRequest>(12).await;
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_partition_end_the_wait() {
    let cluster = in_memory(2).await;
    for topic in ["moved", "deleted"] {
        cluster.create_topic(topic, 1);
        cluster.move_leader(topic, 0, 1);
    }
    for (topic, expected) in [("moved", FENCED_LEADER_EPOCH), ("deleted", UNKNOWN_TOPIC_OR_PARTITION)] {
        let mut peer = Peer::connect(&cluster, 1).await;
        let epoch = peer.metadata(&[topic]).await.topics[0].partitions[0].leader_epoch;
        peer.send(12, &fetch(topic, vec![partition(0, 0).with_current_leader_epoch(epoch)])).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        match topic {
            "moved" => cluster.move_leader(topic, 0, 2),
            _ => cluster.delete_topic(topic),
        }
        let started = Instant::now();
        let answer = peer.receive::<FetchRequest>(12).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, expected);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn limits_cut_batches_but_never_the_first() {
    let (cluster, mut peer) = filled(&["aaaa", "bbbb", "cccc"]).await;
    let size = Batch::of(&["aaaa"]).bytes().len();
    let limited = |max: usize| fetch("t", vec![partition(0, 0).with_partition_max_bytes(max as i32)]);
    for (max, expected) in
        [(0, size), (1, size), (size, size), (size + 5, size + 5), (3 * size, 3 * size), (9 * size, 3 * size)]
    {
        assert_eq!(one(&mut peer, &limited(max)).await.records.unwrap().len(), expected, "limit {max}");
    }
    // The whole response's limit: the first partition with data takes at least a batch, the next only what is left.
    for value in ["dddd", "eeee"] {
        peer.produce("t", 1, Batch::of(&[value])).await;
    }
    for (max, expected) in [(1, (size, 0)), (3 * size + 5, (3 * size, 0)), (4 * size + 5, (3 * size, size + 5))] {
        let request = fetch("t", vec![partition(0, 0), partition(1, 0)]).with_max_bytes(max as i32);
        let answer = peer.ask(12, &request).await;
        let sizes: Vec<_> = answer.responses[0].partitions.iter().map(|p| p.records.as_ref().unwrap().len()).collect();
        assert_eq!((sizes[0], sizes[1]), expected, "limit {max}");
    }
    // An empty partition before it does not use up the exception.
    let request = fetch("t", vec![partition(0, 3), partition(1, 0)]).with_max_bytes(1);
    assert_eq!(peer.ask(12, &request).await.responses[0].partitions[1].records.as_ref().unwrap().len(), size);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_from_within_a_batch_gives_the_whole_batch() {
    let (cluster, mut peer) = filled(&[]).await;
    peer.produce("t", 0, Batch::of(&["a", "b", "c"])).await;
    peer.produce("t", 0, Batch::of(&["d"])).await;
    let whole = fetch_bytes(&mut peer, "t", 0, 0).await;
    assert_eq!(fetch_bytes(&mut peer, "t", 0, 2).await, whole);
    assert_eq!(fetch_bytes(&mut peer, "t", 0, 3).await, whole.slice(whole.len() - Batch::of(&["d"]).bytes().len()..));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn errors_come_at_once() {
    let cluster = in_memory(3).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 2);
    cluster.move_leader("t", 0, 1); // epoch 1 or 2
    let mut peer = Peer::connect(&cluster, 1).await;
    let epoch = peer.metadata(&["t"]).await.topics[0].partitions[0].leader_epoch;
    peer.produce("t", 0, Batch::of(&["a", "b", "c"])).await;
    cluster.delete_records("t", 0, 1);
    let started = Instant::now();
    for (request, error) in [
        (fetch("nowhere", vec![partition(0, 0)]), UNKNOWN_TOPIC_OR_PARTITION),
        (fetch("t", vec![partition(1, 0)]), UNKNOWN_TOPIC_OR_PARTITION),
        (fetch("t", vec![partition(0, 4)]), OFFSET_OUT_OF_RANGE),
        (fetch("t", vec![partition(0, 0)]), OFFSET_OUT_OF_RANGE),
        (fetch("t", vec![partition(0, -1)]), OFFSET_OUT_OF_RANGE),
        (fetch("t", vec![partition(0, 3).with_current_leader_epoch(epoch - 1)]), FENCED_LEADER_EPOCH),
        (fetch("t", vec![partition(0, 3).with_current_leader_epoch(epoch + 1)]), UNKNOWN_LEADER_EPOCH),
    ] {
        let data = one(&mut peer, &request).await;
        assert_eq!((data.error_code, data.high_watermark), (error, -1));
    }
    assert_eq!(one(&mut peer, &fetch("t", vec![partition(0, 1)])).await.error_code, 0);
    assert_eq!(started.elapsed(), Duration::ZERO);
    // By id: unknown, and the one of a topic that was deleted and created again.
    let id = peer.metadata(&["t"]).await.topics[0].topic_id;
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    let mut request = fetch("", vec![partition(0, 0)]);
    request.topics[0].topic_id = id;
    assert_eq!(peer.ask(13, &request).await.responses[0].partitions[0].error_code, UNKNOWN_TOPIC_ID);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn followers_answer_from_version_11_on() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    Peer::connect(&cluster, 1).await.produce("t", 0, Batch::of(&["a"])).await;
    let mut follower = Peer::connect(&cluster, 2).await;
    let request = fetch("t", vec![partition(0, 0)]);
    let answer = follower.ask(10, &request).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, NOT_LEADER_OR_FOLLOWER);
    let answer = follower.ask(11, &request).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert!(!answer.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn answers_name_the_new_leader() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let before = peer.metadata(&["t"]).await;
    cluster.move_leader("t", 0, 2);
    let epoch = before.topics[0].partitions[0].leader_epoch;
    let mut request = fetch("", vec![partition(0, 0).with_current_leader_epoch(epoch)]);
    request.topics[0].topic_id = before.topics[0].topic_id;
    let answer = peer.ask(16, &request.with_replica_id((-1).into())).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(data.error_code, FENCED_LEADER_EPOCH);
    assert_eq!((data.current_leader.leader_id.0, data.current_leader.leader_epoch), (2, epoch + 1));
    assert_eq!(answer.node_endpoints[0].node_id.0, 2);
    let address = format!("{}:{}", answer.node_endpoints[0].host, answer.node_endpoints[0].port);
    assert_eq!(address, cluster.bootstrap()[1]);
    let answer = peer.ask(10, &crate::harness::produce_request("t", 0, Batch::of(&["x"]))).await;
    let data = &answer.responses[0].partition_responses[0];
    assert_eq!((data.error_code, data.current_leader.leader_id.0), (NOT_LEADER_OR_FOLLOWER, 2));
    assert_eq!(answer.node_endpoints[0].node_id.0, 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn divergence_is_told_by_epochs() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let first = peer.metadata(&["t"]).await.topics[0].partitions[0].leader_epoch;
    for value in ["a", "b", "c"] {
        peer.produce("t", 0, Batch::of(&[value])).await;
    }
    cluster.truncate("t", 0, 1);
    peer.produce("t", 0, Batch::of(&["B"])).await;
    peer.produce("t", 0, Batch::of(&["C"])).await;
    // A consumer that has read the old b and c:
    let data = one(&mut peer, &fetch("t", vec![partition(0, 3).with_last_fetched_epoch(first)])).await;
    assert_eq!((data.error_code, data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, first, 1));
    assert!(data.records.unwrap().is_empty());
    // One that has not:
    let data = one(&mut peer, &fetch("t", vec![partition(0, 1).with_last_fetched_epoch(first)])).await;
    assert_eq!((data.diverging_epoch.epoch, data.records.unwrap().is_empty()), (-1, false));

    let mut ends = Vec::new();
    for epoch in [first, first + 1, first + 2, -1] {
        let asked = OffsetForLeaderPartition::default()
            .with_partition(0)
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t")).with_partitions(vec![asked]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        for version in OffsetForLeaderEpochRequest::VERSIONS.min..=OffsetForLeaderEpochRequest::VERSIONS.max {
            let answer = peer.ask(version, &request).await;
            let end = &answer.topics[0].partitions[0];
            ends.push((end.error_code, end.leader_epoch, end.end_offset));
        }
    }
    ends.dedup();
    assert_eq!(ends, [(0, first, 1), (0, first + 1, 3), (0, -1, -1)]);
    cluster.close().await;
}

fn in_session(request: FetchRequest, id: i32, epoch: i32) -> FetchRequest {
    request.with_session_id(id).with_session_epoch(epoch).with_max_wait_ms(0)
}

#[tokio::test(start_paused = true)]
async fn a_session_says_only_what_changed() {
    let (cluster, mut peer) = filled(&["a"]).await;
    let nothing = || FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20);
    let first = in_session(fetch("t", vec![partition(0, 0), partition(1, 0)]), 0, 0);
    let answer = peer.ask(12, &first).await;
    let id = answer.session_id;
    assert_ne!(id, 0);
    assert_eq!(answer.responses[0].partitions.len(), 2);

    let moved = fetch("t", vec![partition(0, 1)]);
    let answer = peer.ask(12, &in_session(moved, id, 1)).await;
    assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (0, id, 0), "nothing is new");
    peer.produce("t", 1, Batch::of(&["b"])).await;
    let answer = peer.ask(12, &in_session(nothing(), id, 2)).await;
    assert_eq!(answer.responses[0].partitions.len(), 1);
    assert_eq!(answer.responses[0].partitions[0].partition_index, 1);
    // The position of partition 1 has not moved, so its data comes again; forgotten, it does not.
    let answer = peer.ask(12, &in_session(nothing(), id, 3)).await;
    assert_eq!(answer.responses.len(), 1);
    let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![1]);
    let answer = peer.ask(12, &in_session(nothing(), id, 4).with_forgotten_topics_data(vec![forgotten])).await;
    assert_eq!(answer.responses.len(), 0);

    // Wrong epochs and ids say so, and leave the session alone.
    for (request, error) in [
        (in_session(nothing(), id, 4), INVALID_FETCH_SESSION_EPOCH),
        (in_session(nothing(), id, 6), INVALID_FETCH_SESSION_EPOCH),
        (in_session(nothing(), id.wrapping_add(1).max(1), 5), FETCH_SESSION_ID_NOT_FOUND),
    ] {
        let answer = peer.ask(12, &request).await;
        assert_eq!((answer.error_code, answer.responses.len()), (error, 0));
    }
    let answer = peer.ask(12, &in_session(nothing(), id, 5)).await;
    assert_eq!(answer.error_code, 0);
    // An error is told every time; when it ends, the partition is mentioned once more.
    let answer = peer.ask(12, &in_session(fetch("t", vec![partition(0, 9)]), id, 6)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, OFFSET_OUT_OF_RANGE);
    let answer = peer.ask(12, &in_session(fetch("t", vec![partition(0, 1)]), id, 7)).await;
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    cluster.evict_fetch_sessions();
    let answer = peer.ask(12, &in_session(nothing(), id, 8)).await;
    assert_eq!(answer.error_code, FETCH_SESSION_ID_NOT_FOUND);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_had_data_is_read_last() {
    let (cluster, mut peer) = filled(&["a"]).await;
    peer.produce("t", 1, Batch::of(&["b"])).await;
    let first = in_session(fetch("t", vec![partition(0, 0), partition(1, 0)]).with_max_bytes(1), 0, 0);
    let id = peer.ask(12, &first).await.session_id;
    let again = || FetchRequest::default().with_min_bytes(1).with_max_bytes(1);
    let mut served = Vec::new();
    for epoch in 1..5 {
        let answer = peer.ask(12, &in_session(again(), id, epoch)).await;
        served.push(answer.responses[0].partitions[0].partition_index);
    }
    assert_eq!(served, [0, 1, 0, 1]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn sessions_have_a_limit() {
    let cluster = MockCluster::builder().in_memory().fetch_sessions(1).start().await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let first = || in_session(fetch("t", vec![partition(0, 0)]), 0, 0);
    let id = peer.ask(12, &first()).await.session_id;
    assert_ne!(id, 0);
    assert_eq!(peer.ask(12, &first()).await.session_id, 0);
    // Closing a session makes room; so does starting over with its id.
    peer.ask(12, &in_session(fetch("t", vec![]), id, -1)).await;
    let id = peer.ask(12, &first()).await.session_id;
    assert_ne!(id, 0);
    assert_ne!(peer.ask(12, &in_session(fetch("t", vec![partition(0, 0)]), id, 0)).await.session_id, 0);
    cluster.close().await;
}

async fn list(peer: &mut Peer, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t"));
    let topic = topic.with_partitions(vec![partition.with_current_leader_epoch(-1)]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let answer = peer.ask(version, &request).await;
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.timestamp, found.offset)
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_time() {
    let (cluster, mut peer) = filled(&[]).await;
    for version in ListOffsetsRequest::VERSIONS.min..=ListOffsetsRequest::VERSIONS.max {
        assert_eq!(list(&mut peer, version, -1).await, (0, -1, 0));
        assert_eq!(list(&mut peer, version, -2).await, (0, -1, 0));
        assert_eq!(list(&mut peer, version, 0).await, (0, -1, -1), "nothing is that late");
    }
    assert_eq!(list(&mut peer, 7, -3).await, (0, -1, -1));
    peer.produce("t", 0, Batch::of(&["100", "101", "102"]).at(100)).await;
    peer.produce("t", 0, Batch::of(&["50"]).at(50)).await;
    peer.produce("t", 0, Batch::of(&["200", "201"]).at(200)).await;
    for (timestamp, found) in [
        (0, (0, 100, 0)),
        (100, (0, 100, 0)),
        (102, (0, 102, 2)),
        (103, (0, 200, 4)),
        (201, (0, 201, 5)),
        (202, (0, -1, -1)),
        (-1, (0, -1, 6)),
        (-2, (0, -1, 0)),
        (-3, (0, 201, 5)),
        (-4, (0, -1, 0)),
        (-5, (0, -1, -1)),
        (-6, (35, -1, -1)),
    ] {
        assert_eq!(list(&mut peer, 9, timestamp).await, found, "timestamp {timestamp}");
    }
    assert_eq!(list(&mut peer, 6, -3).await, (35, -1, -1), "version 7 brought the largest timestamp");
    cluster.delete_records("t", 0, 2);
    assert_eq!(list(&mut peer, 9, -2).await, (0, -1, 2));
    assert_eq!(list(&mut peer, 9, 0).await, (0, 102, 2));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn list_offsets_asks_the_leader() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut follower = Peer::connect(&cluster, 2).await;
    assert_eq!(list(&mut follower, 9, -1).await.0, NOT_LEADER_OR_FOLLOWER);
    let mut leader = Peer::connect(&cluster, 1).await;
    let partition = |epoch: i32| {
        ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1).with_current_leader_epoch(epoch)
    };
    let epoch = leader.metadata(&["t"]).await.topics[0].partitions[0].leader_epoch;
    for (given, error) in [(epoch, 0), (epoch + 1, UNKNOWN_LEADER_EPOCH), (epoch - 1, FENCED_LEADER_EPOCH)] {
        if given < 0 {
            continue; // the first epoch has none before it
        }
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition(given)]);
        let answer = leader.ask(9, &ListOffsetsRequest::default().with_topics(vec![topic])).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, error, "epoch {given}");
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn retention_drops_what_is_oldest() {
    let (cluster, mut peer) = filled(&[]).await;
    let size = Batch::of(&["a"]).bytes().len();
    cluster.set_topic_config("t", "retention.bytes", &(2 * size).to_string());
    for value in ["a", "b", "c", "d", "e"] {
        peer.produce("t", 0, Batch::of(&[value])).await;
    }
    assert_eq!(cluster.offsets("t", 0), (3, 5));
    assert_eq!(crate::harness::values(&cluster, "t", 0), ["d", "e"]);
    cluster.close().await;
}
