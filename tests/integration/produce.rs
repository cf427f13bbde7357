//! What is sent is what is read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use milena::{Acks, Client, Compression, Delivery, ErrorKind, Fate, Record, TopicPartition};

use crate::cluster::{Cluster, fresh, from_the_beginning, read, text};

pub async fn every_shape_of_record_comes_back(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let producer = client.producer().build().unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let shapes = [
        Record::to(&topic).key("key").value("value").timestamp(1_600_000_000_123),
        Record::to(&topic).value("no key").timestamp(0),
        Record::to(&topic).key("tombstone"),
        Record::to(&topic).key("").value(""),
        Record::to(&topic).timestamp(now - 1_000),
        Record::to(&topic).value("headers").header("a", "1").header("a", "2").null_header("n").header("", ""),
        Record::to(&topic).value(vec![0u8, 255, 128, 7]).key(&[0u8; 300]),
        Record::to(&topic).value("ünïcödé ☃").header("schlüssel", "wért"),
    ];
    let mut receipts = Vec::new();
    for shape in &shapes {
        receipts.push(producer.enqueue(shape.clone()).await.unwrap());
    }
    for (offset, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(offset as i64));
    }
    let records = read(&mut from_the_beginning(&client, &topic, [0]), shapes.len()).await;
    let keys: Vec<_> = records.iter().map(|record| record.key()).collect();
    let long = [0u8; 300];
    assert_eq!(keys, [Some(&b"key"[..]), None, Some(b"tombstone"), Some(b""), None, None, Some(&long[..]), None]);
    let values: Vec<_> = records.iter().map(|record| record.value()).collect();
    assert_eq!(
        values,
        [
            Some(&b"value"[..]),
            Some(b"no key"),
            None,
            Some(b""),
            None,
            Some(b"headers"),
            Some(&[0, 255, 128, 7]),
            Some("ünïcödé ☃".as_bytes())
        ]
    );
    assert_eq!([0, 1, 4].map(|n: usize| records[n].timestamp()), [1_600_000_000_123, 0, now - 1_000]);
    assert!((now..now + 600_000).contains(&records[2].timestamp()), "stamped when it was enqueued");
    let headers: Vec<_> = records[5].headers().map(|header| (header.key, text(header.value))).collect();
    assert_eq!(headers, [(&b"a"[..], Some("1")), (b"a", Some("2")), (b"n", None), (b"", Some(""))]);
    let header = records[7].headers().next().unwrap();
    assert_eq!((text(Some(header.key)), text(header.value)), (Some("schlüssel"), Some("wért")));
}

pub async fn receipts_tell_where_records_are(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 4).await;
    let producer = client.producer().build().unwrap();
    let mut sent = BTreeMap::new();
    let mut receipts: Vec<(String, Delivery)> = Vec::new();
    for n in 0..2_000 {
        let value = format!("record {n}");
        receipts.push((value.clone(), producer.enqueue(Record::to(&topic).value(value)).await.unwrap()));
    }
    for (value, receipt) in receipts {
        let place = receipt.await.unwrap();
        assert!(sent.insert((place.partition, place.offset.unwrap()), value).is_none());
    }
    for record in read(&mut from_the_beginning(&client, &topic, 0..4), 2_000).await {
        let value = sent.remove(&(record.partition(), record.offset())).unwrap();
        assert_eq!(text(record.value()), Some(&*value));
    }
    assert!(sent.is_empty());
}

pub async fn every_kind_of_acks(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    for (n, acks) in [Acks::All, Acks::Leader, Acks::None].into_iter().enumerate() {
        let producer = client.producer().acks(acks).build().unwrap();
        for m in 0..100 {
            let sent = producer.send(Record::to(&topic).value(format!("{n}/{m}"))).await.unwrap();
            assert_eq!(sent.offset, (acks != Acks::None).then_some(n as i64 * 100 + m));
        }
        producer.close(Duration::from_secs(60)).await.unwrap();
    }
    let records = read(&mut from_the_beginning(&client, &topic, [0]), 300).await;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(text(record.value()), Some(&*format!("{}/{}", index / 100, index % 100)));
    }
}

pub async fn keyed_records_keep_their_order(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 6).await;
    let producer = client.producer().linger(Duration::from_millis(1)).build().unwrap();
    for n in 0..10_000 {
        let key = format!("key-{}", n % 97);
        producer.enqueue(Record::to(&topic).key(&key).value(n.to_string())).await.unwrap();
    }
    producer.flush().await;
    let records = read(&mut from_the_beginning(&client, &topic, 0..6), 10_000).await;
    let mut places = BTreeMap::new();
    let mut last = BTreeMap::new();
    for record in records {
        let (key, partition) = (record.key().unwrap().to_vec(), record.partition());
        assert_eq!(*places.entry(key.clone()).or_insert(partition), partition);
        let n: i64 = text(record.value()).unwrap().parse().unwrap();
        assert!(last.insert(key, n).is_none_or(|before| before < n));
    }
    assert_eq!(places.len(), 97);
}

pub async fn records_of_many_sizes(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 2).await;
    let producer = client.producer().build().unwrap();
    let sizes: Vec<usize> = (0..20).map(|n| 1 << n).map(|size| size - 1).chain([1_000_000, 131_072, 131_011]).collect();
    for (n, size) in sizes.iter().enumerate() {
        let value = vec![n as u8; *size];
        producer.enqueue(Record::to(&topic).partition(n as i32 % 2).value(value)).await.unwrap();
    }
    producer.flush().await;
    // Fetches smaller than the largest batches make progress all the same.
    let mut consumer = client
        .consumer()
        .auto_offset_reset(milena::OffsetReset::Earliest)
        .max_partition_fetch_bytes(10_000)
        .fetch_max_bytes(50_000)
        .build()
        .unwrap();
    consumer.assign([0, 1].map(|partition| TopicPartition::new(topic.as_str(), partition))).unwrap();
    let mut seen = vec![None; sizes.len()];
    for record in read(&mut consumer, sizes.len()).await {
        let n = record.partition() as usize + 2 * record.offset() as usize;
        seen[n] = Some(record.value().unwrap().len());
        assert!(record.value().unwrap().iter().all(|byte| *byte == n as u8));
    }
    assert_eq!(seen.into_iter().map(Option::unwrap).collect::<Vec<_>>(), sizes);
}

pub async fn sixteen_tasks_share_a_producer(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 3).await;
    let producer = client.producer().build().unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (producer, topic) = (producer.clone(), topic.clone());
            tokio::spawn(async move {
                for n in 0..500 {
                    let key = task.to_string();
                    producer.enqueue(Record::to(&topic).key(key).value(n.to_string())).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
    let mut next = BTreeMap::new();
    for record in read(&mut from_the_beginning(&client, &topic, 0..3), 8_000).await {
        let expected = next.entry(record.key().unwrap().to_vec()).or_insert(0);
        assert_eq!(text(record.value()), Some(&*expected.to_string()));
        *expected += 1;
    }
    assert!(next.len() == 16 && next.values().all(|next| *next == 500));
}

pub async fn log_append_time(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic_with(&client, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let producer = client.producer().build().unwrap();
    let sent = producer.send(Record::to(&topic).value("v").timestamp(1)).await.unwrap();
    let appended = sent.log_append_time.unwrap();
    assert!(appended > 1_600_000_000_000, "{appended}");
    let record = read(&mut from_the_beginning(&client, &topic, [0]), 1).await.remove(0);
    assert_eq!(record.timestamp(), appended);
}

pub async fn bad_input(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 2).await;
    let producer = client.producer().max_block(Duration::from_secs(2)).max_request_size(4 << 20).build().unwrap();

    let missing = fresh("missing");
    let start = Instant::now();
    let error = producer.send(Record::to(&missing).value("v")).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::UnknownTopic), "{error}");
    assert!(error.to_string().contains(&missing), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    let error = producer.send(Record::to(&topic).partition(9).value("v")).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::UnknownPartition, "{error}");

    let error = producer.send(Record::to(&topic).value(vec![0; 5 << 20])).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::RecordTooLarge, "{error}");
    assert!(error.to_string().contains("max_request_size"), "{error}");
    let error = producer.send(Record::to(&topic).partition(0).value(vec![0; 3 << 20])).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::RecordTooLarge), "{error}");
    // The partition goes on behind a refusal, without a gap.
    assert_eq!(producer.send(Record::to(&topic).partition(0).value("v")).await.unwrap().offset, Some(0));

    producer.close(Duration::from_secs(10)).await.unwrap();
    let error = producer.send(Record::to(&topic).value("v")).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Closed, "{error}");
}

pub async fn a_topic_deleted_under_way(cluster: Cluster) {
    let client = Client::builder(&cluster.bootstrap).request_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let topic = cluster.topic(&client, 1).await;
    let producer = client.producer().delivery_timeout(Duration::from_secs(4)).build().unwrap();
    producer.send(Record::to(&topic).value("v")).await.unwrap();
    client.admin().delete_topics([topic.as_str()]).await.unwrap();
    let start = Instant::now();
    let error = loop {
        match producer.send(Record::to(&topic).value("v")).await {
            // The broker may take a moment to notice.
            Ok(_) => assert!(start.elapsed() < Duration::from_secs(30), "the topic is deleted"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.error.kind(), ErrorKind::Timeout | ErrorKind::UnknownTopic), "{error}");
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

pub async fn partitions_added_under_way(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let producer = client.producer().build().unwrap();
    producer.send(Record::to(&topic).value("0")).await.unwrap();
    client.admin().create_partitions(topic.as_str(), 3).await.unwrap();
    crate::cluster::eventually("the new partition is used", async || {
        let sent = producer.send(Record::to(&topic).partition(2).value("2")).await;
        sent.ok().filter(|sent| sent.partition == 2)
    })
    .await;
    let records = read(&mut from_the_beginning(&client, &topic, [2]), 1).await;
    assert_eq!(text(records[0].value()), Some("2"));
}

/// Every codec, in batches small enough to be compressed at once and large enough to be compressed elsewhere.
pub async fn every_codec_of_ours(cluster: Cluster) {
    let client = cluster.client().await;
    let codecs = [
        (Compression::Gzip, Some(1)),
        (Compression::Gzip, None),
        (Compression::Snappy, None),
        (Compression::Lz4, None),
        (Compression::Zstd, None),
        (Compression::Zstd, Some(9)),
    ];
    for (codec, level) in codecs {
        let topic = cluster.topic(&client, 1).await;
        let mut builder = client.producer().compression(codec);
        if let Some(level) = level {
            builder = builder.compression_level(level);
        }
        let producer = builder.build().unwrap();
        let value = |n: usize| format!("record {n} of {topic} ").repeat(if n < 1_000 { 2 } else { 40 });
        let mut receipts = Vec::new();
        for n in 0..2_000 {
            receipts.push(producer.enqueue(Record::to(&topic).value(value(n))).await.unwrap());
            if n < 1_000 && n % 100 == 99 {
                producer.flush().await;
            }
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap().offset, Some(n as i64), "{codec}");
        }
        let records = read(&mut from_the_beginning(&client, &topic, [0]), 2_000).await;
        for (n, record) in records.iter().enumerate() {
            assert_eq!(text(record.value()), Some(&value(n)[..]), "{codec}");
        }
    }
}

/// The topic takes less than a full batch: it is split, and what is too large alone is named.
pub async fn batches_too_large_for_the_topic_are_split(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic_with(&client, 1, &[("max.message.bytes", "20000")]).await;
    let producer = client.producer().build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..1_000 {
        receipts.push(producer.enqueue(Record::to(&topic).value(format!("{n:0500}"))).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    // Behind the others it could be cut off with them, which leaves its outcome open.
    let large = producer.enqueue(Record::to(&topic).value(vec![b'x'; 30_000])).await.unwrap();
    let last = producer.enqueue(Record::to(&topic).value("last")).await.unwrap();
    let error = large.await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::RecordTooLarge), "{error}");
    assert_eq!(last.await.unwrap().offset, Some(1_000));
    let records = read(&mut from_the_beginning(&client, &topic, [0]), 1_001).await;
    assert!(records[..1_000].iter().enumerate().all(|(n, record)| text(record.value()) == Some(&format!("{n:0500}"))));
}
