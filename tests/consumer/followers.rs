//! Reading from a replica in the same rack (KIP-392), and hearing from a broker who leads (KIP-951).

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, Consumer, OffsetReset};

use crate::harness::{Batch, Peer};
use crate::rig::*;

/// Three brokers in racks a, b and c.
async fn racks() -> MockCluster {
    MockCluster::builder().brokers(3).racks(["a", "b", "c"]).in_memory().start().await
}

async fn in_rack(cluster: &MockCluster, rack: &str) -> Consumer {
    let partitions = cluster.partitions("t").unwrap() as i32;
    let builder = client(cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).rack(rack);
    let consumer = builder.build().unwrap();
    consumer.assign(all(partitions)).unwrap();
    consumer
}

/// Who was asked for records, since the last time.
fn asked(cluster: &MockCluster) -> Vec<i32> {
    let fetches = cluster.requests().into_iter().filter(|request| request.api == Api::Fetch);
    let mut brokers: Vec<_> = fetches.map(|request| request.broker).collect();
    brokers.sort_unstable();
    brokers.dedup();
    cluster.clear_requests();
    brokers
}

#[tokio::test(start_paused = true)]
async fn the_replica_in_the_same_rack_is_read_from() {
    let cluster = racks().await;
    cluster.create_topic("t", 3);
    for (rack, broker) in [("a", 1), ("b", 2), ("c", 3)] {
        let mut consumer = in_rack(&cluster, rack).await;
        let mut checker = Checker::default();
        let before = cluster.offsets("t", 0).1 as usize * 3;
        fill(&cluster, 300).await;
        checker.read(&mut consumer, before + 300).await;
        // Each leader names it, and the sessions with the leaders end.
        silent(3 * SECOND, &mut consumer).await;
        asked(&cluster);
        fill(&cluster, 300).await;
        checker.read(&mut consumer, 300).await;
        silent(10 * SECOND, &mut consumer).await;
        assert_eq!(asked(&cluster), [broker]);
        consumer.close().await.unwrap();
    }
    // In a rack without brokers, and in none, leaders are read from.
    for rack in ["d", ""] {
        let mut consumer = in_rack(&cluster, rack).await;
        Checker::default().read(&mut consumer, 1_800).await;
        assert_eq!(asked(&cluster), [1, 2, 3]);
    }
    assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
}

/// After five minutes the leader is asked again: another replica may be the better one by then.
#[tokio::test(start_paused = true)]
async fn the_leader_is_asked_again_from_time_to_time() {
    let cluster = racks().await;
    cluster.create_topic("t", 1);
    let leader = cluster.leader("t", 0).unwrap();
    let rack = ["a", "b", "c"][leader as usize % 3];
    let mut consumer = in_rack(&cluster, rack).await;
    silent(3 * SECOND, &mut consumer).await;
    asked(&cluster);
    silent(290 * SECOND, &mut consumer).await;
    assert_eq!(asked(&cluster), [leader % 3 + 1]);
    silent(20 * SECOND, &mut consumer).await;
    assert!(asked(&cluster).contains(&leader));
}

#[tokio::test(start_paused = true)]
async fn the_leader_will_do_when_the_replica_is_down() {
    let cluster = racks().await;
    cluster.create_topic("t", 3);
    let mut consumer = in_rack(&cluster, "b").await;
    let mut checker = Checker::default();
    fill(&cluster, 300).await;
    checker.read(&mut consumer, 300).await;
    for round in 0..3 {
        cluster.stop_broker(2).await;
        fill(&cluster, 300).await;
        let started = tokio::time::Instant::now();
        checker.read(&mut consumer, 300).await;
        assert!(started.elapsed() < 2 * SECOND, "{round}: {:?}", started.elapsed());
        cluster.start_broker(2).await;
        tokio::time::sleep(40 * SECOND).await;
        // It is back, and so is the consumer.
        fill(&cluster, 300).await;
        checker.read(&mut consumer, 300).await;
        silent(3 * SECOND, &mut consumer).await;
        asked(&cluster);
        silent(3 * SECOND, &mut consumer).await;
        assert!(asked(&cluster).contains(&2));
    }
}

/// The cluster holds it for alive, and it never answers: the leader would name it again and again.
#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_costs_one_request_timeout() {
    let cluster = racks().await;
    cluster.create_topic("t", 1);
    let leader = cluster.leader("t", 0).unwrap();
    let near = leader % 3 + 1;
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).request_timeout(5 * SECOND);
    let client = builder.connect().await.unwrap();
    let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).rack(["a", "b", "c"][near as usize - 1]);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(1)).unwrap();
    let mut checker = Checker::default();
    fill(&cluster, 100).await;
    checker.read(&mut consumer, 100).await;
    cluster.hang_broker(near);
    let mut peer = Peer::connect(&cluster, leader).await;
    assert_eq!(peer.produce("t", 0, Batch::of(&["100", "101"])).await.error_code, 0);
    let started = tokio::time::Instant::now();
    checker.read(&mut consumer, 2).await;
    assert!(started.elapsed() < 7 * SECOND, "{:?}", started.elapsed());
    // From then on the leader, without another look at the one that hangs.
    for n in 102..120 {
        assert_eq!(peer.produce("t", 0, Batch::of(&[&n.to_string()])).await.error_code, 0);
        let started = tokio::time::Instant::now();
        checker.read(&mut consumer, 1).await;
        assert!(started.elapsed() < SECOND, "{n}: {:?}", started.elapsed());
        tokio::time::sleep(SECOND).await;
    }
}

/// Row 18, rule 46: a follower that has less than the leader, or more, is no reason to go by the policy.
#[tokio::test(start_paused = true)]
async fn out_of_range_at_a_follower_moves_nothing() {
    let cluster = racks().await;
    cluster.create_topic("t", 3);
    let builder = client(&cluster).await.consumer().rack("b");
    let mut consumer = builder.build().unwrap();
    consumer.incremental_assign(all(3).map(|tp| (tp, 0))).unwrap();
    let mut checker = Checker::default();
    fill(&cluster, 300).await;
    checker.read(&mut consumer, 300).await;
    for _ in 0..5 {
        let struck = cluster.inject(When::api(Api::Fetch).broker(2).times(2), Fault::error(1));
        fill(&cluster, 300).await;
        checker.read(&mut consumer, 300).await;
        silent(3 * SECOND, &mut consumer).await;
        assert_eq!(struck.struck(), 2);
    }
}

/// A leader moves, and every broker's metadata is of the time before: the old leader's word is enough.
#[tokio::test(start_paused = true)]
async fn the_old_leader_says_who_leads_now() {
    let cluster = filled(3, 1, 10).await;
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 10).await;
    cluster.inject(When::api(Api::Metadata), Fault::stale_metadata());
    let to = cluster.leader("t", 0).unwrap() % 3 + 1;
    cluster.move_leader("t", 0, to);
    let mut peer = Peer::connect(&cluster, to).await;
    assert_eq!(peer.produce("t", 0, Batch::of(&["10"])).await.error_code, 0);
    within(2 * SECOND, checker.read(&mut consumer, 1)).await;
}
