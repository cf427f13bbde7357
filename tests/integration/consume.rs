//! Where reading begins, and where it goes on.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use milena::{Client, Consumer, ErrorKind, OffsetReset, Position, Record, TopicPartition};

use crate::cluster::{Cluster, fresh, from_the_beginning, read, text};

/// A topic of one partition with the values 0 to n-1.
async fn filled(cluster: &Cluster, client: &Client, count: usize) -> (String, TopicPartition) {
    let topic = cluster.topic(client, 1).await;
    let producer = client.producer().build().unwrap();
    for n in 0..count {
        producer.enqueue(Record::to(&topic).value(n.to_string())).await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
    let partition = TopicPartition::new(topic.as_str(), 0);
    (topic, partition)
}

async fn next(consumer: &mut Consumer) -> String {
    text(consumer.recv().await.unwrap().value()).unwrap().to_owned()
}

pub async fn seek_and_position(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, partition) = filled(&cluster, &client, 1_000).await;
    let mut consumer = from_the_beginning(&client, &topic, [0]);
    assert_eq!(next(&mut consumer).await, "0");
    assert_eq!(consumer.position(&partition), Some(1));
    consumer.seek(&partition, 500).unwrap();
    assert_eq!(consumer.position(&partition), Some(500));
    assert_eq!(next(&mut consumer).await, "500");
    consumer.seek(&partition, Position::Beginning).unwrap();
    assert_eq!(next(&mut consumer).await, "0");
    consumer.seek(&partition, 999).unwrap();
    assert_eq!(next(&mut consumer).await, "999");
    assert_eq!(consumer.position(&partition), Some(1_000));
    consumer.seek(&partition, Position::End).unwrap();
    let producer = client.producer().build().unwrap();
    // The end is looked up in the background: a record sent before that is behind it.
    let mut sent = 1_000;
    let record = loop {
        producer.send(Record::to(&topic).value(sent.to_string())).await.unwrap();
        sent += 1;
        if let Ok(record) = tokio::time::timeout(Duration::from_millis(300), consumer.recv()).await {
            break record.unwrap();
        }
    };
    assert!((1_000..sent).contains(&record.offset()));
    consumer.seek(&partition, 10).unwrap();
    for expected in 10..1_000 {
        assert_eq!(next(&mut consumer).await, expected.to_string());
    }
    consumer.close().await.unwrap();
}

/// Everything that is there is lent, up to the end as it was when it was asked for.
pub async fn batches_are_lent_up_to_the_end(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 3).await;
    let producer = client.producer().build().unwrap();
    let write = async |from: usize, to: usize| {
        for n in from..to {
            producer.enqueue(Record::to(&topic).partition(n as i32 % 3).value(n.to_string())).await.unwrap();
        }
        producer.flush().await;
    };
    write(0, 3_000).await;
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(consumer.partitions_for(&topic).await.unwrap()).unwrap();
    consumer.stop_at_end().await.unwrap();
    write(3_000, 3_300).await;
    let handle = consumer.handle();
    let mut next = [0; 3];
    while let Some(batch) = consumer.poll_max(100).await.unwrap() {
        let mut count = 0;
        for record in batch {
            let next = &mut next[record.partition() as usize];
            assert_eq!(record.offset(), *next);
            assert_eq!(text(record.value()), Some(&*(*next * 3 + i64::from(record.partition())).to_string()));
            *next += 1;
            count += 1;
        }
        assert!((1..=100).contains(&count), "{count}");
    }
    assert_eq!(next, [1_000; 3]);
    for tp in handle.assignment() {
        assert_eq!(handle.position(&tp), Some(1_000));
        let ends = handle.watermarks(&tp).await.unwrap();
        assert_eq!((ends.low, ends.high), (0, 1_100));
    }
    consumer.keep_reading();
    for _ in 0..300 {
        consumer.recv().await.unwrap();
    }
    consumer.close().await.unwrap();
}

/// Idle partitions in a session, one that gets a record, a pause, a seek by time.
pub async fn partitions_are_added_paused_and_sought_by_time(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 50).await;
    let tp = |partition| TopicPartition::new(topic.as_str(), partition);
    let producer = client.producer().build().unwrap();
    let mut consumer = client.consumer().build().unwrap();
    consumer.incremental_assign((0..50).map(|partition| (tp(partition), Position::Beginning))).unwrap();
    for partition in [7, 8, 7] {
        let record = Record::to(&topic).partition(partition).timestamp(1_000).value(partition.to_string());
        producer.send(record).await.unwrap();
        assert_eq!(next(&mut consumer).await, partition.to_string());
    }
    consumer.pause([tp(7)]);
    producer.send(Record::to(&topic).partition(7).timestamp(2_000).value("later")).await.unwrap();
    producer.send(Record::to(&topic).partition(9).value("other")).await.unwrap();
    assert_eq!(next(&mut consumer).await, "other");
    assert_eq!(consumer.position(&tp(7)), Some(2));
    consumer.resume([tp(7)]);
    assert_eq!(next(&mut consumer).await, "later");
    assert_eq!(consumer.lag(&tp(7)), Some(0));
    consumer.seek_to_time([tp(7)], 1_500).unwrap();
    assert_eq!(next(&mut consumer).await, "later");
    let found = consumer.offsets_for_times([(tp(7), 2_000), (tp(8), 2_000)]).await.unwrap();
    assert_eq!((found[&tp(7)].map(|found| found.offset), found[&tp(8)]), (Some(2), None));
    consumer.incremental_unassign((0..49).map(tp)).unwrap();
    assert_eq!(consumer.assignment(), [tp(49)]);
    consumer.close().await.unwrap();
}

/// A topic that is deleted and made again under a consumer.
pub async fn a_topic_made_again_is_reported(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, partition) = filled(&cluster, &client, 100).await;
    let mut consumer = from_the_beginning(&client, &topic, [0]);
    for expected in 0..100 {
        assert_eq!(next(&mut consumer).await, expected.to_string());
    }
    let admin = client.admin();
    admin.delete_topics([topic.as_str()]).await.unwrap();
    // Deletion takes its time.
    crate::cluster::eventually("the topic is made again", async || {
        let new = milena::NewTopic::new(topic.as_str(), 1, cluster.replicas());
        admin.create_topics([new]).await.ok()
    })
    .await;
    let producer = client.producer().build().unwrap();
    producer.send(Record::to(&topic).value("new")).await.unwrap();
    let mut is_reported = false;
    loop {
        match consumer.recv().await {
            Ok(record) => {
                assert_eq!((record.offset(), text(record.value())), (0, Some("new")));
                break;
            }
            Err(error) => {
                assert_eq!(error.topic_partition(), Some(&partition), "{error}");
                is_reported |= error.kind() == ErrorKind::TopicRecreated;
            }
        }
    }
    assert!(is_reported);
}

pub async fn reset_policies(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, partition) = filled(&cluster, &client, 10).await;

    let mut earliest = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    earliest.assign([partition.clone()]).unwrap();
    assert_eq!(next(&mut earliest).await, "0");
    // Out of the log: the policy again.
    earliest.seek(&partition, 1_000_000).unwrap();
    assert_eq!(next(&mut earliest).await, "0");

    let mut latest = client.consumer().build().unwrap();
    latest.assign([partition.clone()]).unwrap();
    let producer = client.producer().build().unwrap();
    let record = loop {
        producer.send(Record::to(&topic).value("new")).await.unwrap();
        if let Ok(record) = tokio::time::timeout(Duration::from_millis(300), latest.recv()).await {
            break record.unwrap();
        }
    };
    assert_eq!(text(record.value()), Some("new"));

    let mut none = client.consumer().auto_offset_reset(OffsetReset::None).build().unwrap();
    none.assign([partition.clone()]).unwrap();
    let error = none.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
    assert!(error.to_string().contains("auto_offset_reset"), "{error}");
    assert_eq!(error.topic_partition(), Some(&partition));
    none.seek(&partition, 3).unwrap();
    assert_eq!(next(&mut none).await, "3");
    none.seek(&partition, 1_000_000).unwrap();
    let error = none.recv().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
}

pub async fn offsets_are_committed_and_found_again(cluster: Cluster) {
    let client = cluster.client().await;
    let (_, partition) = filled(&cluster, &client, 100).await;
    let group = fresh("group");
    let build = || client.consumer().group(group.as_str()).auto_offset_reset(OffsetReset::Earliest).build().unwrap();

    let mut first = build();
    first.assign([partition.clone()]).unwrap();
    assert_eq!(first.committed([partition.clone()]).await.unwrap().get(&partition), None);
    for expected in 0..40 {
        assert_eq!(next(&mut first).await, expected.to_string());
    }
    first.commit_offsets([(partition.clone(), 40)]).await.unwrap();
    let committed = first.committed([partition.clone()]).await.unwrap();
    assert_eq!(committed[&partition].offset, 40);
    first.close().await.unwrap();

    let mut second = build();
    second.assign([partition.clone()]).unwrap();
    assert_eq!(next(&mut second).await, "40");
    let with_metadata = milena::OffsetAndMetadata::new(7).metadata("seven");
    second.commit_offsets([(partition.clone(), with_metadata)]).await.unwrap();
    let committed = &second.committed([partition.clone()]).await.unwrap()[&partition];
    assert_eq!((committed.offset, &*committed.metadata), (7, "seven"));
}

pub async fn a_stream_waits_for_what_comes(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 3).await;
    let mut consumer = from_the_beginning(&client, &topic, 0..3);
    let producer = client.producer().build().unwrap();
    let sender = tokio::spawn(async move {
        for n in 0..30 {
            producer.send(Record::to(&topic).partition(n % 3).value(n.to_string())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 30 {
        let record = consumer.next().await.unwrap().unwrap();
        seen.push(text(record.value()).unwrap().parse::<i32>().unwrap());
    }
    sender.await.unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

pub async fn bad_input(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 1).await;
    let missing = fresh("missing");
    for (partition, kind) in [
        (TopicPartition::new(missing.as_str(), 0), ErrorKind::UnknownTopic),
        (TopicPartition::new(topic.as_str(), 5), ErrorKind::UnknownPartition),
    ] {
        let mut consumer = client.consumer().build().unwrap();
        consumer.assign([partition.clone()]).unwrap();
        let start = Instant::now();
        let error = consumer.recv().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.topic_partition(), Some(&partition));
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        let unassigned = consumer.seek(&TopicPartition::new("other", 0), 0).unwrap_err();
        assert!(unassigned.kind() == ErrorKind::Config && unassigned.to_string().contains("other"), "{unassigned}");
    }
    let consumer = client.consumer().build().unwrap();
    let error = consumer.commit_offsets([(TopicPartition::new(topic.as_str(), 0), 1)]).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("group"), "{error}");
    // Partitions that do exist are read beside one that does not.
    let mut consumer = from_the_beginning(&client, &topic, [0, 5]);
    client.producer().build().unwrap().send(Record::to(&topic).value("v")).await.unwrap();
    let record = loop {
        match consumer.recv().await {
            Ok(record) => break record,
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownPartition),
        }
    };
    assert_eq!(text(record.value()), Some("v"));
    drop(read(&mut from_the_beginning(&client, &topic, [0]), 1).await);
}
