//! What stands beside reading: JSON, interceptors, records that are kept, commits in the background.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use milena::mock::{Api, Fault, When};
use milena::{
    BorrowedRecord, ConsumerInterceptor, Error, ErrorKind, OffsetAndMetadata, OffsetReset, Position, Record,
    TopicPartition,
};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn keys_and_values_are_read_as_json() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().unwrap();
    let state = serde_json::json!({ "state": "paid", "items": [7, 9] });
    producer.send(Record::to("t").json_key(&42).unwrap().json(&state).unwrap()).await.unwrap();
    producer.send(Record::to("t").key("k")).await.unwrap();
    producer.send(Record::to("t").value("{\"state\": ")).await.unwrap();
    let mut consumer = reader(&cluster).await;
    let paid = within(SECOND, consumer.recv()).await.unwrap();
    assert_eq!((paid.json_key::<u32>().unwrap(), paid.json::<serde_json::Value>().unwrap()), (42, state));
    // Without a copy of what is text.
    let lent: BTreeMap<&str, serde_json::Value> = paid.borrow().json().unwrap();
    assert_eq!(lent["state"], "paid");
    let tombstone = within(SECOND, consumer.recv()).await.unwrap();
    assert_eq!(tombstone.json::<Option<u32>>().unwrap(), None);
    assert_eq!(tombstone.json::<u32>().unwrap_err().kind(), ErrorKind::Serialization);
    let error = within(SECOND, consumer.recv()).await.unwrap().json::<serde_json::Value>().unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Serialization, Some(&tp(0))));
    assert!(error.to_string().contains("the value of the record at offset 2 of t-0"), "{error}");
    assert!(tombstone.json_key::<u32>().unwrap_err().to_string().contains("the key of the record at offset 1"));
}

/// Offset, metadata, and what went wrong.
type SeenCommit = (i64, String, Option<ErrorKind>);

#[derive(Clone, Default)]
struct Seen {
    offsets: Arc<Mutex<Vec<i64>>>,
    commits: Arc<Mutex<Vec<SeenCommit>>>,
}

impl ConsumerInterceptor for Seen {
    fn on_consume(&self, record: BorrowedRecord<'_>) {
        self.offsets.lock().unwrap().push(record.offset());
    }

    fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>, outcome: Result<(), &Error>) {
        let committed = &offsets[&tp(0)];
        let seen = (committed.offset, committed.metadata.to_string(), outcome.err().map(Error::kind));
        self.commits.lock().unwrap().push(seen);
        assert_ne!(committed.offset, 13, "an interceptor that panics");
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_every_record_that_is_handed_out_and_every_commit() {
    let cluster = filled(1, 1, 100).await;
    let seen = Seen::default();
    let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.interceptor(seen.clone()).interceptor(Seen::default()).build().unwrap();
    consumer.assign(all(1)).unwrap();
    for _ in 0..10 {
        within(SECOND, consumer.recv()).await.unwrap();
    }
    // What is not yielded is not seen.
    assert_eq!(consumer.poll_max(20).await.unwrap().unwrap().take(5).count(), 5);
    assert_eq!(*seen.offsets.lock().unwrap(), (0..15).collect::<Vec<_>>());
    assert_eq!(consumer.poll().await.unwrap().unwrap().count(), 85);
    assert_eq!(*seen.offsets.lock().unwrap(), (0..100).collect::<Vec<_>>());
    consumer.commit().await.unwrap();
    consumer.commit_offsets_async([(tp(0), OffsetAndMetadata::new(13).metadata("unlucky"))]).unwrap();
    cluster.inject(When::api(Api::OffsetCommit).nth(2), Fault::error(30));
    consumer.commit_offsets([(tp(0), 50)]).await.unwrap_err();
    consumer.commit_offsets([(tp(0), 51)]).await.unwrap();
    let expected = [
        (100, String::new(), None),
        (13, "unlucky".into(), None),
        (50, String::new(), Some(ErrorKind::Authorization)),
        (51, String::new(), None),
    ];
    assert_eq!(*seen.commits.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn commits_in_the_background_keep_their_places() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let consumer = client(&cluster).await.consumer().group("g").build().unwrap();
    for offset in 0..20 {
        let with_metadata = OffsetAndMetadata::new(offset).metadata(format!("m{offset}"));
        consumer.commit_offsets_async([(tp(0), with_metadata)]).unwrap();
    }
    consumer.commit_offsets([(tp(1), 7)]).await.unwrap();
    let committed = consumer.committed(all(2)).await.unwrap();
    assert_eq!((committed[&tp(0)].offset, &*committed[&tp(0)].metadata), (19, "m19"));
    assert_eq!(committed[&tp(1)].offset, 7);
    let error = consumer.commit_offsets_async([(tp(0), -1)]).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("-1"), "{error}");
    let groupless = client(&cluster).await.consumer().build().unwrap();
    assert_eq!(groupless.commit_offsets_async([(tp(0), 1)]).unwrap_err().kind(), ErrorKind::Config);
}

/// With headers, keys and none, from compressed batches and plain ones.
#[tokio::test(start_paused = true)]
async fn a_detached_record_is_the_same_and_holds_nothing_else() {
    for codec in [milena::Compression::None, milena::Compression::Lz4] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let producer = client(&cluster).await.producer().compression(codec).build().unwrap();
        producer.enqueue(Record::to("t").timestamp(1).value(vec![7; 10_000])).await.unwrap();
        let record = Record::to("t").timestamp(2).key("k").value("v").header("a", "1").header("a", "");
        producer.enqueue(record).await.unwrap();
        producer.enqueue(Record::to("t").timestamp(3).header("only", "this")).await.unwrap();
        producer.flush().await;
        let mut consumer = reader(&cluster).await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            kept.push(within(SECOND, consumer.recv()).await.unwrap());
        }
        let copies: Vec<_> = kept.iter().map(milena::ConsumerRecord::detach).collect();
        for (record, copy) in kept.iter().zip(&copies) {
            assert_eq!((record.offset(), record.timestamp()), (copy.offset(), copy.timestamp()));
            assert_eq!((record.key(), record.value()), (copy.key(), copy.value()));
            assert!(record.headers().eq(copy.headers()));
            assert_eq!(record.topic_partition(), copy.topic_partition());
            assert_eq!((record.leader_epoch(), record.timestamp_type()), (copy.leader_epoch(), copy.timestamp_type()));
        }
        assert_eq!(copies[1].headers().count(), 2);
        let weight = |record: &milena::ConsumerRecord| record.value_bytes().map_or(0, |value| value.len());
        assert_eq!(copies.iter().map(weight).sum::<usize>(), 10_001);
        drop(kept);
        silent(SECOND, &mut consumer).await;
        assert_eq!(consumer.metrics().frames, 0, "{codec:?}");
        assert_eq!(copies[0].value(), Some(&[7; 10_000][..]));
    }
}

/// Each way to say where a partition begins, when it is added.
#[tokio::test(start_paused = true)]
async fn a_partition_is_added_at_a_time() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 3);
    let producer = client(&cluster).await.producer().build().unwrap();
    for n in 0..30 {
        producer.send(Record::to("t").partition(n % 3).timestamp(1_000 + i64::from(n / 3)).value("v")).await.unwrap();
    }
    let mut consumer = client(&cluster).await.consumer().build().unwrap();
    let times =
        [(tp(0), Position::Timestamp(1_007)), (tp(1), Position::Timestamp(0)), (tp(2), Position::Timestamp(9_999))];
    consumer.incremental_assign(times).unwrap();
    let mut count = [0; 3];
    for _ in 0..13 {
        count[within(SECOND, consumer.recv()).await.unwrap().partition() as usize] += 1;
    }
    silent(SECOND, &mut consumer).await;
    assert_eq!((count, consumer.position(&tp(2))), ([3, 10, 0], Some(10)));
}
