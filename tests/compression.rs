//! Compression by the producer, read back by the consumer, on the mock cluster.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, Compression, Consumer, ErrorKind, OffsetReset, Record, TopicPartition};

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

async fn cluster() -> (MockCluster, Client) {
    let cluster = MockCluster::builder().in_memory().start().await;
    cluster.create_topic("t", 1);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    (cluster, client)
}

fn reader(client: &Client) -> Consumer {
    let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([TopicPartition::new("t", 0)]).unwrap();
    consumer
}

/// Text that shrinks, of so many bytes.
fn text(n: usize, size: usize) -> Vec<u8> {
    let line = format!("the quick brown fox {n} jumps over the lazy dog {}; ", n % 7);
    line.bytes().cycle().take(size).collect()
}

/// Small batches, compressed at once, and large ones, compressed elsewhere, in turns and in flight together.
#[tokio::test(start_paused = true)]
async fn every_codec_keeps_every_record_in_order() {
    for codec in CODECS {
        let (cluster, client) = cluster().await;
        let producer = client.producer().compression(codec).build().unwrap();
        let size = |n: usize| if (n / 50).is_multiple_of(2) { 40 } else { 9_000 };
        let mut receipts = Vec::new();
        for n in 0..1_000 {
            receipts.push(producer.enqueue(Record::to("t").key(format!("{n}")).value(text(n, size(n)))).await.unwrap());
            if n % 50 == 49 {
                tokio::time::sleep(Duration::from_millis(6)).await;
            }
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap().offset, Some(n as i64), "{codec}");
        }
        let mut consumer = reader(&client);
        for n in 0..1_000 {
            let record = consumer.recv().await.unwrap();
            assert_eq!(record.key(), Some(n.to_string().as_bytes()), "{codec}");
            assert_eq!(record.value(), Some(&text(n, size(n))[..]), "{codec}");
        }
        let stored: usize = cluster.batches("t", 0).iter().map(|batch| batch.size).sum();
        assert!(stored < 1_000_000, "{codec}: {stored} bytes of 4.5 MB");
        assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
    }
}

/// What does not shrink goes out as it is.
#[tokio::test(start_paused = true)]
async fn noise_is_not_compressed() {
    let (cluster, client) = cluster().await;
    let producer = client.producer().compression(Compression::Zstd).compression_level(1).build().unwrap();
    let mut state = 1_u64;
    let mut noise = |size: usize| -> Vec<u8> {
        (0..size)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect()
    };
    let values = [noise(200), noise(100_000)];
    for value in &values {
        producer.send(Record::to("t").value(value)).await.unwrap();
    }
    let sizes: Vec<_> = cluster.batches("t", 0).iter().map(|batch| batch.size).collect();
    assert_eq!(sizes, [200 + 61 + 9, 100_000 + 61 + 11]);
    let mut consumer = reader(&client);
    for value in &values {
        assert_eq!(consumer.recv().await.unwrap().value(), Some(&value[..]));
    }
}

/// A batch that is too large even when it is compressed: its halves are compressed again.
#[tokio::test(start_paused = true)]
async fn a_compressed_batch_is_split_too() {
    let cluster = MockCluster::builder().in_memory().start().await;
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let topic = milena::NewTopic::new("t", 1, 1).config("max.message.bytes", "2000");
    client.admin().create_topics([topic]).await.unwrap();
    let producer = client.producer().compression(Compression::Lz4).build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..500 {
        receipts.push(producer.enqueue(Record::to("t").value(text(n, 200))).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    assert!(cluster.batches("t", 0).iter().all(|batch| batch.size <= 2_000));
    let mut consumer = reader(&client);
    for n in 0..500 {
        assert_eq!(consumer.recv().await.unwrap().value(), Some(&text(n, 200)[..]));
    }
}

/// While its leader moves and its batches are being compressed, nothing is lost.
#[tokio::test(start_paused = true)]
async fn a_partition_may_move_while_its_batches_are_compressed() {
    let cluster = MockCluster::builder().brokers(3).in_memory().start().await;
    cluster.create_topic("t", 1);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let producer = client.producer().compression(Compression::Gzip).compression_level(9).build().unwrap();
    cluster.inject(When::api(Api::Produce).every(5), Fault::close());
    let mut receipts = Vec::new();
    for n in 0..2_000 {
        if n % 200 == 0 {
            let old = cluster.leader("t", 0).unwrap();
            let new = cluster.live_brokers().into_iter().find(|&broker| broker != old).unwrap();
            cluster.move_leader("t", 0, new);
        }
        receipts.push(producer.enqueue(Record::to("t").value(text(n, 1_000))).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    producer.close(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn levels_that_a_codec_does_not_have_are_named() {
    let (_cluster, client) = cluster().await;
    for (codec, level, text) in [
        (Compression::Zstd, 23, "for zstd it must be 1 to 22"),
        (Compression::Gzip, 0, "for gzip it must be 1 to 9"),
        (Compression::Lz4, 3, "lz4 has no levels"),
        (Compression::None, 1, "none has no levels"),
    ] {
        let error = client.producer().compression(codec).compression_level(level).build().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(text), "{error}");
    }
}
