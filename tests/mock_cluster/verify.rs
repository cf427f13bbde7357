//! The rules that clients can break, broken by one.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{MetadataRequest, OffsetCommitRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use milena::mock::{Api, Event, Fault, MockCluster, ViolationKind, When};
use milena::{Client, OffsetReset, Record, TopicPartition};

use crate::harness::{Batch, Peer, in_memory, produce_request, topic_name, values};

fn kinds(cluster: &MockCluster) -> Vec<ViolationKind> {
    cluster.verify().into_iter().map(|violation| violation.kind).collect()
}

async fn cluster_and_peer() -> (MockCluster, Peer) {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let peer = Peer::connect(&cluster, 1).await;
    (cluster, peer)
}

#[tokio::test(start_paused = true)]
async fn our_own_client_breaks_no_rule() {
    let cluster = MockCluster::builder().brokers(3).in_memory().seed(3).start().await;
    cluster.create_topic("t", 4);
    cluster.inject(When::api(Api::Produce).probability(0.1), Fault::lose_answer());
    cluster.inject(When::api(Api::Produce).probability(0.1), Fault::close());
    cluster.inject(When::any().probability(0.1), Fault::delay(Duration::from_millis(300)));
    let connector = cluster.connector();
    let client = Client::builder(cluster.bootstrap()).connector(connector).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..500 {
        let record = Record::to("t").key(format!("{}", n % 50)).value(format!("{n}"));
        receipts.push(producer.enqueue(record).await.unwrap());
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cluster.move_leader("t", n / 20 % 4, n % 3 + 1);
        }
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert_eq!((0..4).map(|index| values(&cluster, "t", index).len()).sum::<usize>(), 500);
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign((0..4).map(|index| TopicPartition::new("t", index))).unwrap();
    for _ in 0..500 {
        consumer.recv().await.unwrap();
    }
    let violations = cluster.verify();
    assert!(violations.is_empty(), "{violations:#?}");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn sequences_are_watched() {
    let (cluster, mut peer) = cluster_and_peer().await;
    assert_eq!(peer.produce("t", 0, Batch::of(&["a", "b"]).by(7, 0, 0)).await.error_code, 0);
    assert_eq!(kinds(&cluster), []);
    assert_eq!(peer.produce("t", 0, Batch::of(&["c"]).by(7, 0, 3)).await.error_code, 45, "as a real broker");
    let violations = cluster.verify();
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].kind, ViolationKind::SequenceGap);
    assert_eq!(violations[0].to_string(), "broker 1, connection 1: producer 7, epoch 0 went on with 3, expected was 2");
    let Event::Batch(gap) = &violations[0].events[1] else { panic!("{violations:?}") };
    assert_eq!((gap.base_sequence, gap.records, gap.answer), (3, 1, Some(Err(45))));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn duplicates_are_seen_that_brokers_cannot_see() {
    let (cluster, mut peer) = cluster_and_peer().await;
    let batch = || Batch::of(&["a"]).by(7, 0, 0);
    peer.produce("t", 0, batch()).await;
    peer.produce("t", 0, batch()).await;
    assert_eq!((values(&cluster, "t", 0).len(), kinds(&cluster)), (1, vec![]));
    cluster.expire_producers();
    peer.produce("t", 0, batch()).await;
    assert_eq!(kinds(&cluster), [ViolationKind::DuplicateAppend]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_test_truncates_is_not_lost() {
    let (cluster, mut peer) = cluster_and_peer().await;
    for value in ["a", "b", "c"] {
        assert_eq!(peer.produce("t", 0, Batch::of(&[value])).await.error_code, 0);
    }
    cluster.truncate("t", 0, 1);
    assert_eq!(kinds(&cluster), []);
    peer.produce("t", 0, Batch::of(&["d"])).await;
    cluster.delete_records("t", 0, 1);
    assert_eq!(kinds(&cluster), []);
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    assert_eq!(kinds(&cluster), [], "another topic of the same name");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn six_in_flight_are_too_many() {
    for (count, found) in [(5, vec![]), (6, vec![ViolationKind::TooManyInFlight])] {
        let (cluster, mut peer) = cluster_and_peer().await;
        let stall = cluster.inject(When::api(Api::Produce).nth(1), Fault::stall());
        for sequence in 0..count {
            peer.send(9, &produce_request("t", 0, Batch::of(&["x"]).by(7, 0, sequence))).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stall.remove();
        for _ in 0..count {
            peer.receive::<ProduceRequest>(9).await;
        }
        assert_eq!(kinds(&cluster), found);
        if let Some(violation) = cluster.verify().first() {
            assert_eq!(violation.message, "producer 7 has 6 batches in flight to t-0");
            assert_eq!(violation.events.len(), 6);
        }
        cluster.close().await;
    }
    // Those without sequence numbers are as many as they like, and so are those of several partitions.
    let (cluster, mut peer) = cluster_and_peer().await;
    cluster.grow_topic("t", 2);
    let stall = cluster.inject(When::api(Api::Produce).nth(1), Fault::stall());
    for sequence in 0..10 {
        let batch = Batch::of(&["x"]);
        let batch = if sequence < 5 { batch } else { batch.by(7, 0, sequence - 5) };
        peer.send(9, &produce_request("t", i32::from(sequence >= 5), batch)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stall.remove();
    peer.receive::<ProduceRequest>(9).await;
    assert_eq!(kinds(&cluster), []);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn commits_are_compared_with_the_log() {
    let (cluster, mut peer) = cluster_and_peer().await;
    peer.produce("t", 0, Batch::of(&["a", "b"])).await;
    for (offset, found) in [(2, vec![]), (3, vec![ViolationKind::CommitBeyondEnd])] {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default().with_group_id(StrBytes::from("g").into());
        let request = request.with_generation_id_or_member_epoch(-1).with_topics(vec![topic]);
        assert_eq!(peer.ask(8, &request).await.topics[0].partitions[0].error_code, 0, "brokers take it");
        assert_eq!(kinds(&cluster), found);
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn versions_that_are_not_offered() {
    let cluster = MockCluster::builder().in_memory().max_version(Api::Metadata, 9).start().await;
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(12, &MetadataRequest::default()).await;
    assert!(peer.frame().await.is_none());
    assert_eq!(kinds(&cluster), [ViolationKind::NotOffered]);
    assert_eq!(cluster.verify()[0].to_string(), "broker 1, connection 1: Metadata v12 is not offered, but 0-9");
    cluster.close().await;
}

/// What a client was not told, or could not read, it was not promised.
#[tokio::test(start_paused = true)]
async fn answers_count_that_arrive() {
    for fault in [Fault::cut(20), Fault::corrupt(), Fault::wrong_correlation_id(), Fault::swallow_answer()] {
        let (cluster, mut peer) = cluster_and_peer().await;
        cluster.inject(When::api(Api::Produce), fault);
        peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.offsets("t", 0).1, 1);
        assert_eq!(kinds(&cluster), []);
        cluster.close().await;
    }
}
