//! Message sets, the formats of before Kafka 0.11, as a broker that still writes them stored them.

use std::time::Duration;

use milena::{Client, ErrorKind, OffsetReset, Producer, Record, TimestampType, TopicPartition};

use crate::cluster::{Cluster, from_the_beginning, read, text};

const COUNT: usize = 500;
const BASE_TIME: i64 = 1_500_000_000_000;

/// Brokers convert what comes into the format of the topic, but for the batches of idempotent producers.
fn producer(client: &Client) -> Producer {
    client.producer().idempotence(false).linger(Duration::from_millis(20)).build().unwrap()
}

fn key(n: usize) -> Option<String> {
    (!n.is_multiple_of(3)).then(|| format!("key {n}"))
}

fn value(n: usize) -> Option<String> {
    (n % 7 != 1).then(|| format!("the same again and again, number {n}"))
}

async fn fill(client: &Client, topic: &str, numbers: std::ops::Range<usize>) {
    let producer = producer(client);
    let mut receipts = Vec::new();
    for n in numbers {
        let mut record = Record::to(topic).partition(0).timestamp(BASE_TIME - n as i64);
        if let Some(key) = key(n) {
            record = record.key(key);
        }
        if let Some(value) = value(n) {
            record = record.value(value);
        }
        receipts.push((n, producer.enqueue(record).await.unwrap()));
    }
    for (n, receipt) in receipts {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

pub async fn every_format_and_codec(cluster: Cluster) {
    let client = cluster.client().await;
    for (format, version) in [(0, "0.9.0"), (1, "0.10.0")] {
        for codec in ["uncompressed", "gzip", "snappy", "lz4"] {
            for time in ["CreateTime", "LogAppendTime"] {
                let configs = [
                    ("message.format.version", version),
                    ("compression.type", codec),
                    ("message.timestamp.type", time),
                ];
                let topic = cluster.topic_with(&client, 1, &configs).await;
                fill(&client, &topic, 0..COUNT).await;

                let what = format!("format {format}, {codec}, {time}");
                let mut consumer = from_the_beginning(&client, &topic, [0]);
                let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
                let records = read(&mut consumer, COUNT).await;
                for (n, record) in records.iter().enumerate() {
                    assert_eq!(record.offset(), n as i64, "{what}");
                    assert_eq!(text(record.key()), key(n).as_deref(), "{what}");
                    assert_eq!(text(record.value()), value(n).as_deref(), "{what}");
                    assert_eq!(record.headers().len(), 0, "{what}");
                    // A batch would have one: this is what the test is about.
                    assert_eq!(record.leader_epoch(), None, "{what}");
                    match (format, time) {
                        (0, _) => assert_eq!(record.timestamp(), -1, "{what}"),
                        (_, "CreateTime") => assert_eq!(record.timestamp(), BASE_TIME - n as i64, "{what}"),
                        _ => assert!((now - 60_000..now + 60_000).contains(&record.timestamp()), "{what}"),
                    }
                    let is_append = format == 1 && time == "LogAppendTime";
                    assert_eq!(record.timestamp_type() == TimestampType::LogAppend, is_append, "{what}");
                }
                // A set begins below the offset that is asked for.
                let tp = TopicPartition::new(topic.as_str(), 0);
                for n in [COUNT - 1, 123] {
                    consumer.seek(&tp, n as i64).unwrap();
                    assert_eq!(text(consumer.recv().await.unwrap().value()), value(n).as_deref(), "{what}");
                    assert_eq!(consumer.position(&tp), Some(n as i64 + 1));
                }
            }
        }
    }
}

pub async fn one_log_of_three_formats(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic_with(&client, 1, &[("compression.type", "gzip")]).await;
    let bootstrap = cluster.bootstrap.join(",");
    for (n, version) in ["0.9.0", "0.10.0", "2.8"].into_iter().enumerate() {
        let config = format!("message.format.version={version}");
        let arguments = ["tool", "configs", "--bootstrap-server", &bootstrap, "--alter", "--entity-type", "topics"];
        cluster.script(&[&arguments[..], &["--entity-name", &topic, "--add-config", &config]].concat(), "");
        fill(&client, &topic, n * 100..n * 100 + 100).await;
    }
    let records = read(&mut from_the_beginning(&client, &topic, [0]), 300).await;
    for (n, record) in records.iter().enumerate() {
        assert_eq!((record.offset(), text(record.value())), (n as i64, value(n).as_deref()));
        assert_eq!(record.timestamp(), if n < 100 { -1 } else { BASE_TIME - n as i64 });
        assert_eq!(record.leader_epoch().is_some(), n >= 200, "{n}");
    }
}

pub async fn a_set_beyond_the_limit_is_skipped(cluster: Cluster) {
    let client = cluster.client().await;
    let configs = [("message.format.version", "0.10.0"), ("compression.type", "gzip")];
    let topic = cluster.topic_with(&client, 1, &configs).await;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let producer = producer(&client);
    for value in ["before".to_owned(), "x".repeat(100_000), "behind".to_owned()] {
        producer.send(Record::to(&topic).value(value)).await.unwrap();
    }
    let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).max_decompressed_batch(50_000);
    let mut consumer = consumer.build().unwrap();
    consumer.assign([tp.clone()]).unwrap();
    assert_eq!(text(consumer.recv().await.unwrap().value()), Some("before"));
    let error = consumer.recv().await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::BatchTooLarge, Some(&tp)), "{error}");
    assert!(error.to_string().contains("max_decompressed_batch is 50000"), "{error}");
    assert!(error.to_string().contains("seek to 2 "), "{error}");
    assert_eq!(consumer.position(&tp), Some(1));
    consumer.seek(&tp, 2).unwrap();
    assert_eq!(text(consumer.recv().await.unwrap().value()), Some("behind"));
}
