//! A mock cluster in memory, and what a send takes on it.

use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, ClientBuilder, NewTopic, Producer, Record};
use tokio::time::Instant;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

pub async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}

pub fn builder(cluster: &MockCluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap()).connector(cluster.connector())
}

/// A topic `t` whose partition n has its only replica at broker n + 1.
pub async fn spread(cluster: &MockCluster, client: &Client, partitions: i32) {
    let brokers = cluster.bootstrap().len() as i32;
    let placed = NewTopic::named("t").assignments((0..partitions).map(|n| [n % brokers + 1]));
    client.admin().create_topics([placed]).await.unwrap();
}

/// What one send to a partition takes.
pub async fn latency(producer: &Producer, partition: i32) -> Duration {
    let start = Instant::now();
    producer.send(Record::to("t").partition(partition).value("v")).await.unwrap();
    start.elapsed()
}

/// The longest of so many sends, one every 7 ms.
pub async fn worst_of(count: usize, producer: &Producer, partition: i32) -> Duration {
    let mut worst = Duration::ZERO;
    for _ in 0..count {
        worst = worst.max(latency(producer, partition).await);
        tokio::time::sleep(7 * MS).await;
    }
    worst
}

/// A topic `t`, and a producer without linger that has sent to each partition.
pub async fn start(brokers: i32, partitions: usize) -> (MockCluster, Producer) {
    let cluster = MockCluster::builder().brokers(brokers).in_memory().start().await;
    cluster.create_topic("t", partitions);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).delivery_timeout(600 * SECOND).build().unwrap();
    for partition in 0..partitions as i32 {
        latency(&producer, partition).await;
    }
    (cluster, producer)
}
