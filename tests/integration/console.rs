//! Kafka's own console tools read what we write, and write what we read.

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
