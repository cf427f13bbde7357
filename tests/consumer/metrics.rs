//! What a consumer counts, and what it holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use milena::mock::{Api, Fault, When};
use milena::{OffsetReset, Record};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn metrics_count_fetches_and_batches() {
    let cluster = filled(1, 2, 200).await;
    let sizes: Vec<u64> = (0..2).map(|p| cluster.batches("t", p).iter().map(|batch| batch.size as u64).sum()).collect();
    let mut consumer = reader(&cluster).await;
    let nothing = consumer.metrics();
    assert_eq!((nothing.records, nothing.batches, nothing.bytes, nothing.max_lag()), (0, 0, 0, None));
    assert_eq!(nothing.partitions.keys().cloned().collect::<Vec<_>>(), [tp(0), tp(1)]);
    // One batch for each partition, 100 records in it.
    let record = within(SECOND, consumer.recv()).await.unwrap();
    let (first, other) = (record.partition(), 1 - record.partition());
    let begun = consumer.metrics();
    assert_eq!((begun.records, begun.batches, begun.fetched_bytes), (0, 0, sizes[0] + sizes[1]));
    assert_eq!((begun.partitions[&tp(first)].lag, begun.partitions[&tp(other)].lag), (Some(99), Some(100)));
    assert_eq!(begun.partitions[&tp(first)].position, Some(1));
    assert!(begun.partitions[&tp(other)].buffer_used >= sizes[other as usize]);
    assert_eq!((begun.max_lag(), begun.buffer_total), (Some(100), 64 << 20));
    assert!((1..=2).contains(&begun.frames), "{}", begun.frames);
    for _ in 1..100 {
        within(SECOND, consumer.recv()).await.unwrap();
    }
    // The next batch is begun, so that the first one is done with.
    assert_eq!(within(SECOND, consumer.recv()).await.unwrap().partition(), other);
    let half = consumer.metrics();
    assert_eq!((half.records, half.batches, half.bytes), (100, 1, sizes[first as usize]));
    // What is left behind counts as far as it was handed out.
    consumer.seek(&tp(other), 100).unwrap();
    silent(2 * SECOND, &mut consumer).await;
    let whole = consumer.metrics();
    assert_eq!((whole.records, whole.batches, whole.bytes), (101, 2, sizes[first as usize]));
    assert_eq!((whole.max_lag(), whole.decompressed), (Some(0), 0));
    let under_way = whole.fetches - whole.fetch_latency.count;
    assert!(whole.fetches >= 4 && (1..=2).contains(&under_way) && whole.fetches_failed == 0, "{whole:?}");
    assert!(whole.fetch_latency.max >= SECOND / 2 && whole.fetch_latency.max < SECOND, "the broker waits");
    // One record that is kept keeps all that it came with; a copy does not.
    assert_eq!(whole.frames, 1);
    assert!(whole.frame_bytes > sizes[first as usize]);
    let copy = record.detach();
    drop(record);
    assert_eq!((consumer.metrics().frames, consumer.metrics().frame_bytes), (0, 0));
    assert_eq!((copy.offset(), value(&copy), copy.partition()), (0, "0", first));
    // A request that nobody answers, and one that is throttled.
    cluster.inject(When::api(Api::Fetch).times(1), Fault::close());
    silent(2 * SECOND, &mut consumer).await;
    assert_eq!(consumer.metrics().fetches_failed, 1);
    assert_eq!(consumer.metrics().throttle_time.count, 0);
    cluster.inject(When::api(Api::Fetch).times(1), Fault::throttle(SECOND / 4));
    silent(2 * SECOND, &mut consumer).await;
    let throttle = consumer.metrics().throttle_time;
    assert_eq!((throttle.count, throttle.max), (1, SECOND / 4));
}

/// The same counts, and the lag of each partition, for whatever recorder is installed.
#[tokio::test(start_paused = true)]
async fn metrics_go_to_the_recorder() {
    let recorder = Recorded::default();
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = client(&cluster).await.producer().build().unwrap();
    for n in 0..20 {
        producer.send(Record::to("t").partition(n % 2).value("v")).await.unwrap();
    }
    let client = client(&cluster).await;
    let mut consumer = metrics::with_local_recorder(&recorder, || {
        let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign(all(2)).unwrap();
        consumer
    });
    let lag = |partition: i32| {
        let name = format!("milena_consumer_lag{{client_id=milena,topic=t,partition={partition}}}");
        recorder.get(&name).map(f64::from_bits)
    };
    assert_eq!((lag(0), lag(1)), (Some(0.0), Some(0.0)), "nothing is known yet");
    // With the answer.
    tokio::time::sleep(SECOND / 4).await;
    assert_eq!((lag(0), lag(1)), (Some(10.0), Some(10.0)));
    consumer.pause([tp(1)]);
    for _ in 0..10 {
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().partition(), 0);
    }
    silent(SECOND, &mut consumer).await;
    assert_eq!((lag(0), lag(1)), (Some(0.0), Some(10.0)));
    let metrics = consumer.metrics();
    assert_eq!(recorder.get("milena_consumer_records{client_id=milena}"), Some(10));
    assert_eq!(recorder.get("milena_consumer_fetched_bytes{client_id=milena}"), Some(metrics.fetched_bytes));
    assert_eq!(recorder.get("milena_consumer_fetches{client_id=milena}"), Some(metrics.fetches));
    consumer.incremental_unassign([tp(1)]).unwrap();
    assert_eq!(lag(1), Some(0.0), "it is nobody's any more");
}

#[derive(Default)]
struct Recorded(Mutex<Vec<(String, Arc<AtomicU64>)>>);

impl Recorded {
    fn get(&self, name: &str) -> Option<u64> {
        self.0.lock().unwrap().iter().find(|(known, _)| known == name).map(|(_, value)| value.load(Ordering::Relaxed))
    }

    fn register(&self, key: &metrics::Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = Arc::default();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.0.lock().unwrap().push((name, Arc::clone(&value)));
        value
    }
}

impl metrics::Recorder for Recorded {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.register(key))
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.register(key))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
