//! Bytes ahead of the caller.

use std::sync::atomic::Ordering;

use milena::mock::MockCluster;
use milena::{Client, OffsetReset, Record};

use crate::harness::{Batch, Peer};
use crate::rig::*;

/// Records of 1 KiB, so many KiB in each partition.
async fn fill_kib(cluster: &MockCluster, partitions: i32, kib: usize) {
    let producer = client(cluster).await.producer().build().unwrap();
    for n in 0..kib * partitions as usize {
        let record = Record::to("t").partition(n as i32 % partitions).value(vec![n as u8; 1000]);
        producer.enqueue(record).await.unwrap();
    }
    producer.close(60 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_does_not_read_is_fetched_for_up_to_the_budget() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 4);
    fill_kib(&cluster, 4, 4_000).await;
    let wire = Wire::new(&cluster, 0);
    let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).connect().await.unwrap();
    let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).fetch_buffer(2 << 20);
    let mut consumer = builder.max_partition_fetch_bytes(256 << 10).build().unwrap();
    consumer.assign(all(4)).unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let ahead = wire.read.load(Ordering::SeqCst);
    assert!((1 << 20..(2 << 20) + (64 << 10)).contains(&ahead), "{ahead}");
    // Full of data for everybody, it asks for nothing at all.
    cluster.clear_requests();
    tokio::time::sleep(60 * SECOND).await;
    assert!(cluster.requests().len() <= 1, "{:?}", cluster.requests());
    let mut next = [0i64; 4];
    for _ in 0..16_000 {
        let record = within(SECOND, consumer.recv()).await.unwrap();
        let next = &mut next[record.partition() as usize];
        assert_eq!(record.offset(), *next);
        *next += 1;
    }
    // Nothing was fetched twice.
    let whole: usize = (0..4).flat_map(|p| cluster.batches("t", p)).map(|batch| batch.size).sum();
    let read = wire.read.load(Ordering::SeqCst);
    assert!(read < whole * 21 / 20, "{read} bytes read for {whole} of batches");
}

/// Each of them alone could be given all that is free, before anything has come.
#[tokio::test(start_paused = true)]
async fn many_partitions_do_not_multiply_the_budget() {
    const PARTITIONS: i32 = 400;
    let cluster = cluster(2).await;
    cluster.create_topic("t", PARTITIONS as usize);
    let producer = client(&cluster).await.producer().batch_size(4 << 10).build().unwrap();
    for n in 0..64 * PARTITIONS {
        let record = Record::to("t").partition(n % PARTITIONS).value(vec![n as u8; 1000]);
        producer.enqueue(record).await.unwrap();
    }
    producer.close(60 * SECOND).await.unwrap();
    let wire = Wire::new(&cluster, 0);
    let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).connect().await.unwrap();
    let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).fetch_buffer(4 << 20);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(PARTITIONS)).unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let ahead = wire.read.load(Ordering::SeqCst);
    assert!((2 << 20..(4 << 20) + (256 << 10)).contains(&ahead), "{ahead}");
    for _ in 0..64 * PARTITIONS {
        within(SECOND, consumer.recv()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_partition_leaves_room_for_the_others() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 3);
    let producer = client(&cluster).await.producer().build().unwrap();
    for _ in 0..4_000 {
        producer.enqueue(Record::to("t").partition(0).value(vec![0; 1000])).await.unwrap();
    }
    producer.flush().await;
    let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).fetch_buffer(1 << 20);
    let mut consumer = builder.max_partition_fetch_bytes(128 << 10).build().unwrap();
    consumer.assign(all(3)).unwrap();
    tokio::time::sleep(30 * SECOND).await;
    producer.send(Record::to("t").partition(1).value("here")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    // It is its turn after one fetch of the full one, not after all of them.
    let mut before = 0;
    while consumer.recv().await.unwrap().partition() != 1 {
        before += 1;
    }
    assert!(before <= 130, "{before} records of the full partition came first");
    // The caller goes on with the full one alone, and the idle ones delay nothing.
    let started = tokio::time::Instant::now();
    for _ in before..4_000 {
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().partition(), 0);
    }
    assert!(started.elapsed() < SECOND, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_batch_beyond_every_limit_still_arrives() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = client(&cluster).await.producer().build().unwrap();
    for partition in [0, 1, 0, 1] {
        producer.send(Record::to("t").partition(partition).value(vec![7; 700_000])).await.unwrap();
    }
    let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
    let builder = builder.fetch_buffer(10_000).max_partition_fetch_bytes(1_000).fetch_max_bytes(5_000);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(2)).unwrap();
    let mut count = 0;
    for _ in 0..4 {
        count += within(10 * SECOND, consumer.recv()).await.unwrap().value().unwrap().len();
    }
    assert_eq!(count, 2_800_000);
}

/// What is fetched is handed out: the broker cuts its answer at the limit, and what it cuts would come twice.
#[tokio::test(start_paused = true)]
async fn hardly_a_byte_is_fetched_twice() {
    for (kib, count) in [(16, 300), (128, 48), (900, 12)] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 2);
        cluster.set_topic_config("t", "max.message.bytes", "2000000");
        let mut peer = Peer::connect(&cluster, 1).await;
        let value = "x".repeat(kib << 10);
        for n in 0..count {
            assert_eq!(peer.produce("t", n % 2, Batch::of(&[&value])).await.error_code, 0);
        }
        for max in [1, usize::MAX] {
            let wire = Wire::new(&cluster, 0);
            let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).connect().await.unwrap();
            let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
            consumer.assign(all(2)).unwrap();
            let mut read = 0;
            while read < count {
                read += within(SECOND, consumer.poll_max(max)).await.unwrap().unwrap().count() as i32;
            }
            let batches: usize = (0..2).flat_map(|p| cluster.batches("t", p)).map(|batch| batch.size).sum();
            let ratio = wire.read.load(Ordering::SeqCst) as f64 / batches as f64;
            assert!((1.0..=1.05).contains(&ratio), "{ratio:.3} with batches of {kib} KiB");
        }
    }
}
