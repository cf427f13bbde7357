//! Kafka's own console tools read what we write, and write what we read.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use milena::record::{BatchWriter, Compression, Compressor, Identity, NO_HEADERS};
use milena::wire::error_code::ErrorCode;
use milena::wire::frame::{RequestHeader, decode_response, encode_request};
use milena::wire::leader::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use milena::wire::message::Records;
use milena::{ErrorKind, OffsetReset, Record, TopicPartition};

use crate::cluster::{Cluster, from_the_beginning, read, text};

/// Headers, key and value apart, and a word for null (KIP-798, KIP-810).
const PRODUCE: [&str; 8] = [
    "--reader-property",
    "parse.key=true",
    "--reader-property",
    "parse.headers=true",
    "--reader-property",
    "null.marker=NULL",
    "--reader-property",
    "headers.delimiter=|",
];

pub async fn console_producer_to_ours(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let bootstrap = cluster.bootstrap.join(",");
    let input = "a:1,b:2|key-0\tvalue-0\nNULL|key-1\tvalue-1\nNULL|key-2\tNULL\nx:y|NULL\tvalue-3\n";
    let mut arguments = vec!["tool", "console-producer", "--bootstrap-server", &bootstrap, "--topic", &topic];
    arguments.extend(PRODUCE);
    cluster.script(&arguments, input);
    let records = read(&mut from_the_beginning(&client, &topic, [0]), 4).await;
    let seen: Vec<_> = records
        .iter()
        .map(|record| {
            let headers: Vec<_> =
                record.headers().map(|header| (text(Some(header.key)).unwrap(), text(header.value).unwrap())).collect();
            (headers, text(record.key()), text(record.value()))
        })
        .collect();
    assert_eq!(
        seen,
        [
            (vec![("a", "1"), ("b", "2")], Some("key-0"), Some("value-0")),
            (vec![], Some("key-1"), Some("value-1")),
            (vec![], Some("key-2"), None),
            (vec![("x", "y")], None, Some("value-3")),
        ]
    );
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    assert!(records.iter().all(|record| (now - 600_000..=now).contains(&record.timestamp())));
}

pub async fn ours_to_console_consumer(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let producer = client.producer().build().unwrap();
    for record in [
        Record::to(&topic).key("key-0").value("value-0").timestamp(1_600_000_000_000).header("a", "1").header("b", "2"),
        Record::to(&topic).key("key-1").timestamp(1_600_000_000_001),
        Record::to(&topic).value("value-2").timestamp(1_600_000_000_002).null_header("n"),
    ] {
        producer.send(record).await.unwrap();
    }
    let bootstrap = cluster.bootstrap.join(",");
    let mut arguments = vec!["tool", "console-consumer", "--bootstrap-server", &bootstrap, "--topic", &topic];
    arguments.extend(["--from-beginning", "--max-messages", "3", "--timeout-ms", "60000"]);
    for property in ["print.key", "print.headers", "print.timestamp", "print.partition", "print.offset"] {
        arguments.extend(["--formatter-property", Box::leak(format!("{property}=true").into_boxed_str())]);
    }
    let output = cluster.script(&arguments, "");
    let lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "CreateTime:1600000000000\tPartition:0\tOffset:0\ta:1,b:2\tkey-0\tvalue-0",
            "CreateTime:1600000000001\tPartition:0\tOffset:1\tNO_HEADERS\tkey-1\tnull",
            "CreateTime:1600000000002\tPartition:0\tOffset:2\tn:null\tnull\tvalue-2",
        ]
    );
}

pub async fn every_codec_of_the_console_producer(cluster: Cluster) {
    let client = cluster.client().await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = cluster.topic(&client, 1).await;
        let lines: Vec<_> = (0..5_000).map(|n| format!("{codec} {n}, the same again and again")).collect();
        console_producer(&cluster, &topic, codec, &(lines.join("\n") + "\n"));
        let records = read(&mut from_the_beginning(&client, &topic, [0]), lines.len()).await;
        let values: Vec<_> = records.iter().map(|record| text(record.value()).unwrap()).collect();
        assert_eq!(values, lines);
        let offsets: Vec<_> = records.iter().map(|record| record.offset()).collect();
        assert_eq!(offsets, (0..5_000).collect::<Vec<_>>());
    }
}

/// Each codec at several levels, as one batch of 300 KB: more than a block, and less than a topic takes.
pub async fn every_codec_to_the_console_consumer(cluster: Cluster) {
    const COUNT: usize = 3_000;
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let mut compressor = Compressor::new();
    let mut expected = Vec::new();
    for (codec, level) in [
        (Compression::None, None),
        (Compression::Gzip, Some(1)),
        (Compression::Gzip, None),
        (Compression::Gzip, Some(9)),
        (Compression::Snappy, None),
        (Compression::Lz4, None),
        (Compression::Zstd, Some(1)),
        (Compression::Zstd, None),
        (Compression::Zstd, Some(19)),
    ] {
        let first = expected.len();
        let mut writer = BatchWriter::new(400 << 10);
        for n in first..first + COUNT {
            // A part that repeats, and one that does not.
            let noise = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (key, value) =
                (format!("{codec} {n}"), format!("{{\"level\":\"INFO\",\"trace\":\"{noise:016x}\",\"n\":{n}}}"));
            writer.append(1_600_000_000_000, Some(key.as_bytes()), Some(value.as_bytes()), NO_HEADERS).unwrap();
            expected.push((key, value));
        }
        let mut batch = writer.finish();
        let is_smaller = batch.compress(codec, level, &mut compressor).unwrap();
        assert_eq!(is_smaller, codec != Compression::None);
        // The broker decompresses it, and looks at every record, before it takes it.
        assert_eq!(produce(&cluster, &topic, batch.stamp(Identity::NONE)), first as i64, "{codec}, {level:?}");
    }

    let bootstrap = cluster.bootstrap.join(",");
    let count = expected.len().to_string();
    let mut arguments = vec!["tool", "console-consumer", "--bootstrap-server", &bootstrap, "--topic", &topic];
    arguments.extend(["--from-beginning", "--max-messages", &count, "--timeout-ms", "60000"]);
    arguments.extend(["--formatter-property", "print.key=true", "--formatter-property", "print.offset=true"]);
    let output = cluster.script(&arguments, "");
    let lines = expected.iter().enumerate().map(|(offset, (key, value))| format!("Offset:{offset}\t{key}\t{value}\n"));
    let lines: String = lines.collect();
    assert!(output.stdout == lines.as_bytes(), "{}", first_difference(&output.stdout, lines.as_bytes()));

    for (record, (key, value)) in
        read(&mut from_the_beginning(&client, &topic, [0]), expected.len()).await.iter().zip(&expected)
    {
        assert_eq!((text(record.key()), text(record.value())), (Some(&**key), Some(&**value)));
    }
}

fn first_difference(found: &[u8], expected: &[u8]) -> String {
    let (found, expected) = (String::from_utf8_lossy(found), String::from_utf8_lossy(expected));
    let (lines, of) = (found.lines().count(), expected.lines().count());
    let difference = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    format!("{lines} lines of {of}, and the first that differs: {difference:?}")
}

/// Sends one batch as it is, over a connection of its own, and returns the offset that it got.
fn produce(cluster: &Cluster, topic: &str, batch: Bytes) -> i64 {
    // In all versions of brokers here; zstd needs 7, and 13 topic ids.
    const VERSION: i16 = 9;
    let records = Some(Records(batch));
    let partition_data = vec![PartitionProduceData { index: 0, records, ..Default::default() }];
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data, ..Default::default() }],
        ..Default::default()
    };
    let header = RequestHeader { version: VERSION, correlation: 1, client_id: Some("suite") };
    let frame = encode_request(&request, header).unwrap().to_bytes();
    for broker in &cluster.bootstrap {
        let mut stream = TcpStream::connect(broker).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(&frame).unwrap();
        let mut size = [0; 4];
        stream.read_exact(&mut size).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        stream.read_exact(&mut answer).unwrap();
        let response: ProduceResponse = decode_response::<ProduceRequest>(&answer.into(), VERSION).unwrap();
        let answer = response.responses.iter().next().unwrap().partition_responses.iter().next().unwrap();
        match answer.error_code {
            ErrorCode::NOT_LEADER_OR_FOLLOWER => {}
            code => {
                assert!(code.is_ok(), "{code}: {:?}", answer.error_message);
                return answer.base_offset;
            }
        }
    }
    panic!("no broker leads {topic}");
}

pub async fn a_batch_beyond_the_limit_is_skipped(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let tp = TopicPartition::new(topic.as_str(), 0);
    let producer = client.producer().build().unwrap();
    producer.send(Record::to(&topic).value("before")).await.unwrap();
    console_producer(&cluster, &topic, "zstd", &format!("{}\n", "x".repeat(100_000)));
    producer.send(Record::to(&topic).value("behind")).await.unwrap();

    let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).max_decompressed_batch(50_000);
    let mut consumer = consumer.build().unwrap();
    consumer.assign([tp.clone()]).unwrap();
    assert_eq!(text(consumer.recv().await.unwrap().value()), Some("before"));
    let error = consumer.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BatchTooLarge, "{error}");
    assert_eq!(error.topic_partition(), Some(&tp));
    assert!(error.to_string().contains("offset 1: ") && error.to_string().contains("max_decompressed_batch is 50000"));
    assert!(error.to_string().contains("seek to 2 "), "{error}");
    assert_eq!(consumer.position(&tp), Some(1));
    consumer.seek(&tp, 2).unwrap();
    assert_eq!(text(consumer.recv().await.unwrap().value()), Some("behind"));
}

fn console_producer(cluster: &Cluster, topic: &str, codec: &str, input: &str) {
    let bootstrap = cluster.bootstrap.join(",");
    let arguments = ["tool", "console-producer", "--bootstrap-server", &bootstrap, "--topic", topic];
    cluster.script(&[&arguments[..], &["--compression-codec", codec]].concat(), input);
}
