//! Latency and bandwidth between clients and brokers.

use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use milena::mock::{Link, MockCluster};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request};

const REQUEST: Duration = Duration::from_millis(30);
const ANSWER: Duration = Duration::from_millis(50);
const BOTH: Duration = Duration::from_millis(80);

fn far() -> Link {
    Link::new().request_latency(REQUEST).answer_latency(ANSWER)
}

async fn round_trip(peer: &mut Peer) -> Duration {
    let started = Instant::now();
    peer.metadata(&[]).await;
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn latency_is_added_in_each_direction() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    cluster.set_link(1, far());
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(round_trip(&mut peer).await, BOTH);
    assert_eq!(round_trip(&mut Peer::connect(&cluster, 2).await).await, Duration::ZERO, "the other is near");
    // The broker has it after one way, the client the answer after the other.
    let started = Instant::now();
    for _ in 0..5 {
        peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    }
    tokio::time::sleep(REQUEST - Duration::from_millis(1)).await;
    assert_eq!(cluster.offsets("t", 0).1, 0);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(cluster.offsets("t", 0).1, 5);
    for _ in 0..5 {
        peer.receive::<ProduceRequest>(9).await;
        assert_eq!(started.elapsed(), BOTH, "requests on the way do not wait for each other");
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn bandwidth_makes_bytes_wait_for_each_other() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    // A byte each millisecond.
    cluster.set_link(1, Link::new().request_bandwidth(1000).request_latency(REQUEST));
    let mut peer = Peer::connect(&cluster, 1).await;
    let started = Instant::now();
    peer.send(9, &produce_request("t", 0, Batch::of(&["first"]))).await;
    peer.receive::<ProduceRequest>(9).await;
    // How long the last requests keep the way busy.
    let busy = |requests: usize| {
        let bytes: usize = cluster.requests().iter().rev().take(requests).map(|request| request.size + 4).sum();
        Duration::from_millis(1) * bytes as u32
    };
    assert_eq!(started.elapsed(), busy(1) + REQUEST);
    let started = Instant::now();
    peer.send(9, &produce_request("t", 0, Batch::of(&["a"]))).await;
    peer.send(9, &produce_request("t", 0, Batch::of(&["bcdefgh"]))).await;
    peer.receive::<ProduceRequest>(9).await;
    peer.receive::<ProduceRequest>(9).await;
    // In memory both are there at once, and the link takes them as one piece.
    assert_eq!(started.elapsed(), busy(2) + REQUEST);
    // Answers have their own limit.
    cluster.set_link(1, Link::new().answer_bandwidth(1000));
    let started = Instant::now();
    peer.send(12, &fetch("t", vec![partition(0, 0)])).await;
    let frame = peer.frame().await.unwrap();
    assert_eq!(started.elapsed(), Duration::from_millis(1) * (frame.len() as u32 + 4));
    cluster.set_link(1, Link::new());
    let started = Instant::now();
    peer.send(12, &fetch("t", vec![partition(0, 0)])).await;
    peer.frame().await.unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO, "near again");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn links_of_one_client() {
    let cluster = in_memory(2).await;
    cluster.set_client_link("somebody", 1, Link::new().latency(Duration::from_secs(9)));
    assert_eq!(round_trip(&mut Peer::connect(&cluster, 1).await).await, Duration::ZERO);
    cluster.set_client_link("harness", 1, far());
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(round_trip(&mut peer).await, BOTH, "the client is known from its first request on");
    assert_eq!(round_trip(&mut peer).await, BOTH);
    assert_eq!(round_trip(&mut Peer::connect(&cluster, 2).await).await, Duration::ZERO);
    // It goes before what is set for all.
    cluster.set_link(1, Link::new().latency(Duration::from_secs(1)));
    assert_eq!(round_trip(&mut peer).await, BOTH);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_changes_under_an_open_connection() {
    let cluster = in_memory(1).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(round_trip(&mut peer).await, Duration::ZERO);
    cluster.set_link(1, far());
    tokio::task::yield_now().await;
    assert_eq!(round_trip(&mut peer).await, BOTH);
    cluster.set_link(1, Link::new().request_latency(Duration::from_secs(1)));
    assert_eq!(round_trip(&mut peer).await, Duration::from_secs(1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_and_a_large_answer_come_by_a_link() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_link(1, Link::new().latency(Duration::from_millis(10)).answer_bandwidth(1_000_000));
    let mut peer = Peer::connect(&cluster, 1).await;
    let large = "x".repeat(900_000);
    assert_eq!(peer.produce("t", 0, Batch::of(&[&large])).await.error_code, 0);
    let started = Instant::now();
    let answer = peer.ask(12, &fetch("t", vec![partition(0, 0)])).await;
    assert_eq!(answer.responses[0].partitions[0].records.as_ref().unwrap().len(), Batch::of(&[&large]).bytes().len());
    let elapsed = started.elapsed();
    assert!((Duration::from_millis(920)..Duration::from_millis(930)).contains(&elapsed), "{elapsed:?}");
    peer.send(12, &fetch("t", vec![partition(0, 1)])).await;
    let started = Instant::now();
    peer.receive::<FetchRequest>(12).await;
    assert_eq!(
        started.elapsed(),
        Duration::from_millis(500 + 20 + 1),
        "the wait, the latencies, and less than a millisecond of bytes"
    );
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_when_either_side_goes() {
    let cluster = in_memory(1).await;
    cluster.set_link(1, far());
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let mut peer = Peer::connect(&cluster, 1).await;
    round_trip(&mut peer).await;
    assert_eq!(metrics.num_alive_tasks() - before, 2, "the connection and its link");
    drop(peer);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(metrics.num_alive_tasks(), before);
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(12, &MetadataRequest::default()).await;
    cluster.stop_broker(1).await;
    assert!(peer.frame().await.is_none());
    assert_eq!(metrics.num_alive_tasks(), before);
    cluster.close().await;
}

#[tokio::test]
async fn links_work_over_tcp() {
    let cluster = MockCluster::start().await;
    cluster.set_link(1, Link::new().latency(Duration::from_millis(25)));
    let stream = TcpStream::connect(&cluster.bootstrap()[0]).await.unwrap();
    let mut peer = Peer::over(Box::new(stream));
    for _ in 0..2 {
        let elapsed = round_trip(&mut peer).await;
        assert!(elapsed >= Duration::from_millis(50), "{elapsed:?}");
    }
    cluster.close().await;
}
