//! A cluster with records, and a consumer that reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use milena::mock::{MockCluster, MockConnector};
use milena::{Address, Client, Connecting, Connector, Consumer, Error, OffsetReset, Record, TopicPartition};

use crate::tap::tap;

pub const SECOND: Duration = Duration::from_secs(1);

pub async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
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
