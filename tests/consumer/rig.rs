//! A cluster with records, and a consumer that reads them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use milena::mock::{MockCluster, MockConnector};
use milena::{
    Address, Client, Connecting, Connector, Consumer, ConsumerBuilder, Error, OffsetReset, Record, TopicPartition,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::tap::tap;

pub const SECOND: Duration = Duration::from_secs(1);

pub async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}

/// With `count` records in the partitions of topic `t`.
pub async fn filled(brokers: i32, partitions: usize, count: usize) -> MockCluster {
    let cluster = cluster(brokers).await;
    cluster.create_topic("t", partitions);
    fill(&cluster, count).await;
    cluster
}

pub async fn client(cluster: &MockCluster) -> Client {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap()
}

/// A consumer of all of topic `t`, from the beginning.
pub async fn reader(cluster: &MockCluster) -> Consumer {
    let partitions = cluster.partitions("t").unwrap() as i32;
    let builder = client(cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
    let consumer = builder.build().unwrap();
    consumer.assign(all(partitions)).unwrap();
    consumer
}

pub fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

pub fn all(partitions: i32) -> impl Iterator<Item = TopicPartition> {
    (0..partitions).map(tp)
}

/// Appends `count` records, going round the partitions of topic `t`; each one's value is its offset.
pub async fn fill(cluster: &MockCluster, count: usize) {
    let partitions = cluster.partitions("t").unwrap();
    let starts: Vec<_> = (0..partitions).map(|p| cluster.offsets("t", p as i32).1).collect();
    let producer = client(cluster).await.producer().build().unwrap();
    for n in 0..count {
        let (partition, offset) = (n % partitions, starts[n % partitions] + (n / partitions) as i64);
        producer.enqueue(Record::to("t").partition(partition as i32).value(offset.to_string())).await.unwrap();
        if n % 1000 == 999 {
            // Several batches.
            producer.flush().await;
        }
    }
    producer.close(60 * SECOND).await.unwrap();
}

/// Polls until it has so many partitions.
pub async fn until_it_has(consumer: &mut Consumer, count: usize) {
    let polling = async {
        while consumer.assignment().len() != count {
            if let Ok(record) = timeout(SECOND / 10, consumer.recv()).await {
                record.unwrap();
            }
        }
    };
    timeout(120 * SECOND, polling).await.unwrap_or_else(|_| panic!("{consumer:?} never has {count} partitions"));
}

/// Members of a group that read the six partitions of topic `t`, each from one second to another, and leave, while `count`
/// records are written at a pace and something else happens `meanwhile`: each is read once, in order.
pub async fn come_and_go(
    cluster: &MockCluster,
    member: impl Fn(&Client) -> ConsumerBuilder,
    count: i32,
    pace: Duration,
    stays: &[(u32, u32)],
    meanwhile: impl Future<Output = ()>,
) {
    let client = client(cluster).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let producer = client.producer().build().unwrap();
    let writing = tokio::spawn(async move {
        for n in 0..count {
            producer.send(Record::to("t").partition(n % 6).value((n / 6).to_string())).await.unwrap();
            sleep(pace).await;
        }
    });
    let reading = |(start, end): &(u32, u32)| {
        let (seen, builder, start, time) =
            (Arc::clone(&seen), member(&client), SECOND * *start, SECOND * (end - start));
        tokio::spawn(async move {
            sleep(start).await;
            let mut consumer = builder.build().unwrap();
            let until = Instant::now() + time;
            while let Ok(record) = timeout_at(until, consumer.recv()).await {
                let record = record.unwrap();
                seen.lock().unwrap().push((record.partition(), record.offset()));
            }
            consumer.close().await.unwrap();
        })
    };
    let members: Vec<_> = stays.iter().map(reading).collect();
    meanwhile.await;
    for member in members {
        member.await.unwrap();
    }
    writing.await.unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    for partition in 0..6 {
        let offsets: Vec<i64> = seen.iter().filter(|(p, _)| *p == partition).map(|(_, offset)| *offset).collect();
        assert!(offsets.is_sorted(), "partition {partition} was not read in order");
    }
    seen.sort_unstable();
    let written = (0..6).flat_map(|p| (0..i64::from(count / 6)).map(move |offset| (p, offset)));
    assert_eq!(seen, written.collect::<Vec<_>>());
    assert!(cluster.violations().is_empty());
}

/// Checks that records come in order, each once, with the value that belongs to the offset.
#[derive(Default)]
pub struct Checker {
    pub next: BTreeMap<i32, i64>,
    pub count: usize,
}

impl Checker {
    pub fn check(&mut self, record: &milena::ConsumerRecord) {
        let next = self.next.entry(record.partition()).or_insert(0);
        assert_eq!(record.offset(), *next, "partition {}", record.partition());
        assert_eq!(value(record), record.offset().to_string());
        *next += 1;
        self.count += 1;
    }

    pub async fn read(&mut self, consumer: &mut Consumer, count: usize) {
        for _ in 0..count {
            let record = within(60 * SECOND, consumer.recv()).await.unwrap();
            self.check(&record);
        }
    }
}

pub fn value(record: &milena::ConsumerRecord) -> &str {
    std::str::from_utf8(record.value().unwrap()).unwrap()
}

pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("not within {limit:?}"))
}

/// Nothing comes, for so long.
pub async fn silent(limit: Duration, consumer: &mut Consumer) {
    if let Ok(outcome) = tokio::time::timeout(limit, consumer.recv()).await {
        panic!("{outcome:?}");
    }
}

/// The next thing that comes is an error.
pub async fn error(limit: Duration, consumer: &mut Consumer) -> Error {
    within(limit, consumer.recv()).await.expect_err("an error is due")
}

/// Connects to a mock cluster through a wire that counts, and that flips a bit wherever [`MARKER`] comes by, for the
/// first `damages` times.
#[derive(Clone)]
pub struct Wire {
    to: MockConnector,
    pub read: Arc<AtomicUsize>,
    pub damages: Arc<AtomicUsize>,
}

pub const MARKER: &[u8] = b"--damage me--";

impl Wire {
    pub fn new(cluster: &MockCluster, damages: usize) -> Self {
        let damages = Arc::new(AtomicUsize::new(damages));
        Self { to: cluster.connector(), read: Arc::default(), damages }
    }
}

impl Connector for Wire {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async {
            let inner = self.to.connect(broker).await?;
            let (read, damages) = (Arc::clone(&self.read), Arc::clone(&self.damages));
            let mut matched = 0;
            Ok(tap(inner, move |heard| {
                let Poll::Ready(bytes) = heard else { return };
                read.fetch_add(bytes.len(), Ordering::SeqCst);
                for byte in bytes {
                    // The marker's first byte comes twice in its beginning, and nowhere else.
                    matched = match () {
                        () if *byte == MARKER[matched] => matched + 1,
                        () if *byte == MARKER[0] => 1,
                        () => 0,
                    };
                    if matched == MARKER.len() {
                        matched = 0;
                        let left = damages.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
                        if left.is_ok() {
                            *byte ^= 1;
                        }
                    }
                }
            }))
        })
    }
}
