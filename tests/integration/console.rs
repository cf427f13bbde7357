//! Kafka's own console tools read what we write, and write what we read.

use std::time::Duration;

use milena::{ErrorKind, Record};

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
            let headers: Vec<_> = record
                .headers()
                .map(|header| (text(Some(header.key)).unwrap(), text(header.value).unwrap()))
                .collect();
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

pub async fn compressed_batches_say_so(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 2).await;
    let bootstrap = cluster.bootstrap.join(",");
    let partition_0 = ["--compression-codec", "lz4"];
    let mut arguments = vec!["tool", "console-producer", "--bootstrap-server", &bootstrap, "--topic", &topic];
    arguments.extend(partition_0);
    cluster.script(&arguments, &"the same again and again\n".repeat(50));
    let mut consumer = from_the_beginning(&client, &topic, 0..2);
    let error = consumer.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("lz4"), "{error}");
    // The other partition goes on.
    let other = 1 - error.topic_partition().unwrap().partition;
    let producer = client.producer().build().unwrap();
    producer.send(Record::to(&topic).partition(other).value("plain")).await.unwrap();
    loop {
        match tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await.unwrap() {
            Ok(record) => {
                assert_eq!(text(record.value()), Some("plain"));
                return;
            }
            // The console's batches may have gone to both.
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
}
