//! What one partition or broker does to the others.

use std::time::Duration;

use milena::mock::{Api, Fault, When};
use milena::{Fate, Record, TopicPartition};
use tokio::time::Instant;

use crate::rig::{MS, SECOND, builder, cluster, latency, spread, start, worst_of};

/// NOT_ENOUGH_REPLICAS for ever: its neighbour at the same leader, on the same connection, does not notice.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_refused_for_ever_does_not_delay_its_neighbour() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = builder(&cluster).connect().await.unwrap().producer().build().unwrap();
    latency(&producer, 0).await;
    let normal = worst_of(20, &producer, 1).await;
    let refused = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::error(19));
    let mut stuck = Vec::new();
    for n in 0..100 {
        stuck.push(producer.enqueue(Record::to("t").partition(0).value(n.to_string())).await.unwrap());
    }
    let worst = worst_of(2_000, &producer, 1).await;
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} without the stuck partition");
    // It retries with a back-off, not in a loop.
    assert!((10..60).contains(&refused.struck()), "{} attempts in 24 s", refused.struck());
    refused.remove();
    for receipt in stuck {
        receipt.await.unwrap();
    }
    assert_eq!(cluster.log("t", 0).len(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_or_hung_broker_does_not_delay_partitions_of_others() {
    for is_hung in [false, true] {
        let cluster = cluster(3).await;
        let client = builder(&cluster).request_timeout(3 * SECOND).connect().await.unwrap();
        spread(&cluster, &client, 3).await;
        let producer = client.producer().delivery_timeout(300 * SECOND).build().unwrap();
        for partition in 0..3 {
            latency(&producer, partition).await;
        }
        let normal = worst_of(20, &producer, 1).await.max(worst_of(20, &producer, 2).await);
        if is_hung {
            cluster.hang_broker(1)
        } else {
            cluster.stop_broker(1).await
        }
        let held = producer.enqueue(Record::to("t").partition(0).value("held")).await.unwrap();
        // Longer than a request's time limit, so that the end of the connection is seen too.
        let (one, two) = tokio::join!(worst_of(800, &producer, 1), worst_of(800, &producer, 2));
        let worst = one.max(two);
        assert!(worst < normal + MS, "hung: {is_hung}; {worst:?}, and {normal:?} before");
        if is_hung {
            cluster.resume_broker(1)
        } else {
            cluster.start_broker(1).await
        }
        held.await.unwrap();
    }
}

/// A producer's first record needs an id from any broker; one that is hung must not be waited for.
#[tokio::test(start_paused = true)]
async fn a_hung_broker_does_not_keep_a_new_producer_from_its_id() {
    for round in 0..20 {
        let cluster = cluster(3).await;
        let client = builder(&cluster).connect().await.unwrap();
        spread(&cluster, &client, 3).await;
        let known = client.producer().build().unwrap();
        for partition in 0..3 {
            latency(&known, partition).await;
        }
        cluster.hang_broker(round % 3 + 1);
        let producer = client.producer().build().unwrap();
        let took = latency(&producer, (round + 1) % 3).await;
        assert!(took < 3 * SECOND, "round {round}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_consumer_does_not_delay_sends() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    cluster.create_topic("idle", 1);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    latency(&producer, 0).await;
    let normal = worst_of(20, &producer, 0).await;
    let mut consumer = client.consumer().fetch_max_wait(60 * SECOND).build().unwrap();
    consumer.assign([TopicPartition::new("idle", 0)]).unwrap();
    let reading = tokio::spawn(async move { consumer.recv().await });
    tokio::time::sleep(SECOND).await;
    let worst = worst_of(500, &producer, 0).await;
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} without the consumer");
    reading.abort();
}

/// Row 12 (KIP-219): the connection is silent for exactly as long, and only that connection.
#[tokio::test(start_paused = true)]
async fn a_throttle_mutes_its_connection_and_no_other() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    for partition in 0..2 {
        latency(&producer, partition).await;
    }
    let normal = worst_of(20, &producer, 1).await;
    for throttle in [1_234, 5_000, 20_000] {
        let throttle = throttle * MS;
        let fault = cluster.inject(When::api(Api::Produce).partition("t", 0).times(1), Fault::throttle(throttle));
        let start = Instant::now();
        // Answered at once: throttling is no failure.
        assert!(latency(&producer, 0).await < 5 * MS);
        fault.wait_struck(1).await;
        let muted = producer.enqueue(Record::to("t").partition(0).value("muted")).await.unwrap();
        let worst = worst_of(20, &producer, 1).await;
        assert!(worst < normal + MS, "the other broker: {worst:?}, and {normal:?} before");
        muted.await.unwrap();
        let waited = start.elapsed();
        assert!(waited >= throttle && waited <= throttle + 5 * MS, "{waited:?} for {throttle:?}");
    }
}

/// Records that are refused for good, one after the other, beside a partition that is refused for now: who sends to another
/// partition of that leader notices neither. (A client that lets all wait for a new epoch stands still for as long as the
/// stuck one does.)
#[tokio::test(start_paused = true)]
async fn a_rejected_record_does_not_delay_other_partitions() {
    let (cluster, producer) = start(1, 3).await;
    let normal = worst_of(20, &producer, 2).await;
    let stuck = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::error(19));
    let held = producer.enqueue(Record::to("t").partition(0).value("held")).await.unwrap();
    // INVALID_RECORD
    let rejecting = cluster.inject(When::api(Api::Produce).partition("t", 1), Fault::error(87));
    let mut worst = Duration::ZERO;
    for n in 0..200 {
        let bad = producer.enqueue(Record::to("t").partition(1).value(n.to_string())).await.unwrap();
        worst = worst.max(worst_of(5, &producer, 2).await);
        let error = bad.await.unwrap_err();
        assert_eq!((error.fate, error.error.code().unwrap().0), (Fate::NotWritten, 87));
    }
    assert!(worst < normal + MS, "{worst:?}, and {normal:?} before");
    rejecting.remove();
    latency(&producer, 1).await;
    stuck.remove();
    held.await.unwrap();
    let lengths: Vec<_> = (0..3).map(|partition| cluster.log("t", partition).len()).collect();
    assert_eq!(lengths, [2, 2, 1_021]);
}

/// Row 15: what was in the buffer for a topic that is deleted waits for its deadline, and nobody waits with it.
#[tokio::test(start_paused = true)]
async fn a_deleted_topic_does_not_delay_other_topics() {
    let (cluster, producer) = start(1, 1).await;
    cluster.create_topic("doomed", 2);
    for partition in 0..2 {
        producer.send(Record::to("doomed").partition(partition).value("v")).await.unwrap();
    }
    let normal = worst_of(20, &producer, 0).await;
    let client = builder(&cluster).connect().await.unwrap();
    client.admin().delete_topics(["doomed"]).await.unwrap();
    let mut held = Vec::new();
    let mut worst = Duration::ZERO;
    for n in 0..200 {
        held.push(producer.enqueue(Record::to("doomed").partition(n % 2).value("lost")).await.unwrap());
        worst = worst.max(worst_of(10, &producer, 0).await);
    }
    assert!(worst < normal + MS, "{worst:?}, and {normal:?} before");
    producer.purge();
    for receipt in held {
        assert_eq!(receipt.await.unwrap_err().fate, Fate::NotWritten);
    }
}
