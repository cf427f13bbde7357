//! Each fault, and each condition.

use std::time::Duration;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    MetadataRequest, OffsetFetchRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;
use milena::mock::{Api, Fault, MockCluster, When};
use tokio::time::Instant;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request, values};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const STORAGE_ERROR: i16 = 56;

async fn cluster_and_peer() -> (MockCluster, Peer) {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let peer = Peer::connect(&cluster, 1).await;
    (cluster, peer)
}

#[tokio::test(start_paused = true)]
async fn errors_are_answered_and_nothing_is_done() {
    let (cluster, mut peer) = cluster_and_peer().await;
    let fault = cluster.inject(When::api(Api::Produce).times(2), Fault::error(NOT_LEADER_OR_FOLLOWER));
    for struck in 1..=2 {
        assert_eq!(peer.produce("t", 0, Batch::of(&["x"])).await.error_code, NOT_LEADER_OR_FOLLOWER);
        assert_eq!(fault.struck(), struck);
    }
    assert_eq!(peer.produce("t", 0, Batch::of(&["x"])).await.error_code, 0);
    assert_eq!(values(&cluster, "t", 0), ["x"]);
    // For requests without parts, and in every place where a response says it.
    cluster.inject(When::any(), Fault::error(STORAGE_ERROR));
    assert_eq!(
        peer.ask(3, &InitProducerIdRequest::default().with_transactional_id(None)).await.error_code,
        STORAGE_ERROR
    );
    assert_eq!(peer.ask(0, &ApiVersionsRequest::default()).await.error_code, STORAGE_ERROR);
    assert_eq!(peer.ask(0, &FindCoordinatorRequest::default()).await.error_code, STORAGE_ERROR);
    assert_eq!(peer.metadata(&["t"]).await.topics[0].error_code, STORAGE_ERROR);
    let topics = vec![Default::default()];
    assert_eq!(
        peer.ask(7, &CreateTopicsRequest::default().with_topics(topics)).await.topics[0].error_code,
        STORAGE_ERROR
    );
    cluster.clear_faults();
    assert_eq!(peer.metadata(&["t"]).await.topics[0].error_code, 0);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn some_errors_concern_the_whole_answer() {
    let (cluster, mut peer) = cluster_and_peer().await;
    let strike = |api: Api, code: i16| cluster.inject(When::api(api).times(1), Fault::error(code));
    strike(Api::Fetch, 71);
    let answer = peer.ask(12, &fetch("t", vec![partition(0, 0)])).await;
    assert_eq!((answer.error_code, answer.responses.len()), (71, 0));
    strike(Api::Metadata, 129);
    let answer = peer.ask(13, &MetadataRequest::default()).await;
    assert_eq!((answer.error_code, answer.topics.len()), (129, 0));
    strike(Api::OffsetFetch, 14);
    let group = OffsetFetchRequestGroup::default().with_group_id(StrBytes::from("g").into()).with_topics(None);
    let answer = peer.ask(9, &OffsetFetchRequest::default().with_groups(vec![group])).await;
    assert_eq!(answer.groups[0].error_code, 14);
    // An injected NOT_LEADER_OR_FOLLOWER comes from the leader, and names nobody else.
    strike(Api::Produce, NOT_LEADER_OR_FOLLOWER);
    let answer = peer.ask(10, &produce_request("t", 0, Batch::of(&["x"]))).await;
    let data = &answer.responses[0].partition_responses[0];
    assert_eq!((data.error_code, data.current_leader.leader_id.0), (NOT_LEADER_OR_FOLLOWER, -1));
    assert!(answer.node_endpoints.is_empty());
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_one_partition_leave_the_others_alone() {
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.inject(When::api(Api::Produce).partition("t", 1), Fault::error(STORAGE_ERROR));
    cluster.inject(When::api(Api::Fetch).partition("t", 1), Fault::error(NOT_LEADER_OR_FOLLOWER));
    let mut request = produce_request("t", 0, Batch::of(&["x"]));
    let other = produce_request("t", 1, Batch::of(&["x"])).topic_data[0].partition_data[0].clone();
    request.topic_data[0].partition_data.push(other);
    let answer = peer.ask(9, &request).await;
    let errors: Vec<_> = answer.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, STORAGE_ERROR]);
    assert_eq!((values(&cluster, "t", 0).len(), values(&cluster, "t", 1).len()), (1, 0));
    let both = fetch("t", vec![partition(0, 0), partition(1, 0)]);
    let answer = peer.ask(12, &both.with_session_epoch(0)).await;
    let errors: Vec<_> = answer.responses[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, NOT_LEADER_OR_FOLLOWER]);
    // Within a session, a request that does not name the partition is still about it.
    let next = FetchRequest::default().with_session_id(answer.session_id).with_session_epoch(1).with_max_bytes(1000);
    let answer = peer.ask(12, &next).await;
    let mut errors = answer.responses.iter().flat_map(|t| &t.partitions).map(|p| (p.partition_index, p.error_code));
    assert!(errors.any(|error| error == (1, NOT_LEADER_OR_FOLLOWER)));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn conditions_choose_requests() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    let struck_by = async |when: When| {
        cluster.clear_faults();
        cluster.inject(when, Fault::error(STORAGE_ERROR));
        let mut struck = Vec::<i32>::new();
        for round in 1..=8 {
            let broker = if round % 2 == 0 { 2 } else { 1 };
            if Peer::connect(&cluster, broker).await.metadata(&["t"]).await.topics[0].error_code != 0 {
                struck.push(round);
            }
        }
        struck
    };
    assert_eq!(struck_by(When::any()).await, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(struck_by(When::api(Api::Fetch)).await, [0; 0]);
    assert_eq!(struck_by(When::any().broker(2)).await, [2, 4, 6, 8]);
    assert_eq!(struck_by(When::any().nth(3)).await, [3]);
    assert_eq!(struck_by(When::any().nth(3).times(2)).await, [3, 4]);
    assert_eq!(struck_by(When::any().times(2)).await, [1, 2]);
    assert_eq!(struck_by(When::any().every(3)).await, [3, 6]);
    assert_eq!(struck_by(When::any().broker(2).nth(2)).await, [4]);
    assert_eq!(struck_by(When::any().topic("t").times(1)).await, [1]);
    assert_eq!(struck_by(When::any().topic("u")).await, [0; 0]);
    assert_eq!(struck_by(When::any().probability(0.0)).await, [0; 0]);
    assert_eq!(struck_by(When::any().probability(1.0)).await.len(), 8);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn probabilities_come_from_the_seed() {
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let cluster = MockCluster::builder().in_memory().seed(seed).start().await;
        cluster.inject(When::any().probability(0.5), Fault::error(STORAGE_ERROR));
        let mut peer = Peer::connect(&cluster, 1).await;
        let mut errors = Vec::new();
        for _ in 0..32 {
            errors.push(peer.ask(0, &ApiVersionsRequest::default()).await.error_code);
        }
        let struck = errors.iter().filter(|error| **error != 0).count();
        assert!((8..=24).contains(&struck), "{struck} of 32");
        runs.push(errors);
        cluster.close().await;
    }
    assert!(runs[0] == runs[1] && runs[1] != runs[2]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_holds_the_connection() {
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.inject(When::api(Api::Produce).nth(1), Fault::delay(Duration::from_secs(8)));
    cluster.inject(When::api(Api::Produce).nth(2), Fault::delay_answer(Duration::from_secs(2)));
    let started = Instant::now();
    peer.send(9, &produce_request("t", 0, Batch::of(&["a"]))).await;
    peer.send(9, &produce_request("t", 1, Batch::of(&["b"]))).await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!((cluster.offsets("t", 0).1, cluster.offsets("t", 1).1), (0, 0), "neither is handled");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((cluster.offsets("t", 0).1, cluster.offsets("t", 1).1), (1, 1), "both are");
    peer.receive::<ProduceRequest>(9).await;
    peer.receive::<ProduceRequest>(9).await;
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn connections_close_before_or_after_the_work() {
    for (fault, kept) in [(Fault::close(), 0), (Fault::lose_answer(), 1)] {
        let (cluster, mut peer) = cluster_and_peer().await;
        cluster.inject(When::api(Api::Produce), fault.clone());
        peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
        peer.send(9, &produce_request("t", 1, Batch::of(&["x"]))).await;
        assert!(peer.frame().await.is_none(), "{fault:?}");
        assert_eq!((cluster.offsets("t", 0).1, cluster.offsets("t", 1).1), (kept, 0), "{fault:?}");
        assert!(cluster.violations().is_empty());
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_swallowed_answer_silences_the_connection() {
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.inject(When::api(Api::Produce).nth(2), Fault::swallow_answer());
    for value in ["a", "b", "c"] {
        peer.send(9, &produce_request("t", 0, Batch::of(&[value]))).await;
    }
    peer.receive::<ProduceRequest>(9).await;
    let silence = tokio::time::timeout(Duration::from_secs(3600), peer.frame()).await;
    assert!(silence.is_err(), "neither an answer nor an end");
    assert_eq!(values(&cluster, "t", 0), ["a", "b", "c"], "and yet all was done");
    assert_eq!(Peer::connect(&cluster, 1).await.produce("t", 0, Batch::of(&["d"])).await.error_code, 0);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_ends_when_the_fault_is_removed() {
    let (cluster, mut peer) = cluster_and_peer().await;
    let stall = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::stall());
    peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    stall.wait_struck(1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(cluster.offsets("t", 0).1, 0);
    let other = Peer::connect(&cluster, 1).await.produce("t", 1, Batch::of(&["y"])).await;
    assert_eq!(other.error_code, 0, "another connection goes on");
    stall.remove();
    let answer = peer.receive::<ProduceRequest>(9).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(peer.produce("t", 0, Batch::of(&["z"])).await.base_offset, 1);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_cut_at_every_byte() {
    let (cluster, mut peer) = cluster_and_peer().await;
    peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    let whole = peer.frame().await.unwrap().len() + 4;
    for bytes in 0..whole {
        let mut peer = Peer::connect(&cluster, 1).await;
        cluster.inject(When::api(Api::Produce).times(1), Fault::cut(bytes));
        peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
        assert!(peer.frame().await.is_none());
        assert_eq!(peer.leftover(), bytes);
    }
    assert_eq!(values(&cluster, "t", 0).len(), whole + 1, "the work was done each time");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn answers_are_falsified() {
    let (cluster, mut peer) = cluster_and_peer().await;
    let mut ask = async || {
        peer.send(12, &MetadataRequest::default()).await;
        peer.frame().await.unwrap()
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(first[4..], second[4..]);
    assert_eq!(second[..4], [0, 0, 0, 2]);
    cluster.inject(When::any().nth(1), Fault::wrong_correlation_id());
    let third = ask().await;
    assert_eq!(third[..4], [0, 0, 0, 4]);
    assert_eq!(third[4..], first[4..]);
    cluster.inject(When::any(), Fault::corrupt());
    let mut seen = std::collections::BTreeSet::new();
    for id in 4..20 {
        let corrupted = ask().await;
        assert_eq!(corrupted[..4], [0, 0, 0, id]);
        let differing: u32 = corrupted.iter().zip(&first).skip(4).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((corrupted.len(), differing), (first.len(), 1));
        seen.insert(corrupted.slice(4..));
    }
    assert!(seen.len() > 8, "not always the same bit");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_throttled_connection_is_not_read() {
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.inject(When::api(Api::Produce).nth(1), Fault::throttle(Duration::from_millis(1500)));
    let started = Instant::now();
    let answer = peer.ask(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    assert_eq!((answer.throttle_time_ms, started.elapsed()), (1500, Duration::ZERO));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    let answer = peer.ask(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    assert_eq!((answer.throttle_time_ms, started.elapsed()), (0, Duration::from_millis(1500)));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn faults_add_up() {
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.inject(When::any(), Fault::delay(Duration::from_secs(1)));
    cluster.inject(When::any(), Fault::delay_answer(Duration::from_secs(2)));
    cluster.inject(When::any(), Fault::error(STORAGE_ERROR));
    let started = Instant::now();
    assert_eq!(peer.produce("t", 0, Batch::of(&["x"])).await.error_code, STORAGE_ERROR);
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    cluster.close().await;
}
