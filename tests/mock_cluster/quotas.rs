//! Clients that move too much are throttled, and their connections muted (KIP-219).

use kafka_protocol::messages::MetadataRequest;
use tokio::time::Instant;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request};

#[tokio::test(start_paused = true)]
async fn a_producer_is_throttled() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_produce_quota("harness", Some(1000));
    cluster.set_produce_quota("somebody", Some(1));
    let mut peer = Peer::connect(&cluster, 1).await;
    let request = produce_request("t", 0, Batch::of(&[&"x".repeat(2500)]));
    let started = Instant::now();
    let answer = peer.ask(9, &request).await;
    let throttled = answer.throttle_time_ms;
    // So many bytes are so many milliseconds' worth, a thousand of which may be owed.
    let large = Batch::of(&[&"x".repeat(2500)]).bytes().len() as i32;
    assert_eq!(throttled, large - 1000);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "it is in the log all the same");
    assert_eq!(started.elapsed().as_millis(), 0, "the answer comes at once");
    peer.ask(12, &MetadataRequest::default()).await;
    let waited = started.elapsed().as_millis() as i32;
    assert!((throttled..throttled + 5).contains(&waited), "and the broker reads again after {waited} ms");
    // A small one finds a second's worth owed, and is throttled for what it costs.
    let small = peer.ask(9, &produce_request("t", 0, Batch::of(&["x"]))).await.throttle_time_ms;
    assert_eq!(small, Batch::of(&["x"]).bytes().len() as i32 - (waited - throttled));
    cluster.set_produce_quota("harness", None);
    assert_eq!(peer.ask(9, &request).await.throttle_time_ms, 0);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_is_throttled_without_records() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    for _ in 0..3 {
        peer.produce("t", 0, Batch::of(&[&"x".repeat(2900)])).await;
    }
    cluster.set_fetch_quota("harness", Some(1000));
    let request = fetch("t", vec![partition(0, 0).with_partition_max_bytes(100)]);
    let started = Instant::now();
    let first = peer.ask(12, &request).await;
    assert_eq!((first.throttle_time_ms, first.responses[0].partitions[0].records.as_ref().unwrap().len()), (0, 2970));
    let second = peer.ask(12, &request).await;
    assert_eq!((second.throttle_time_ms, second.responses.len(), second.error_code), (1970, 0, 0));
    let third = peer.ask(12, &request).await;
    assert_eq!((third.throttle_time_ms, third.responses.len()), (0, 1));
    assert_eq!(started.elapsed().as_millis(), 1970);
    cluster.close().await;
}
