//! Reading from a replica in the same rack (KIP-392): broker N is in rack "rack-N".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use milena::{Address, Client, Connecting, Connector, Consumer, OffsetReset, Record, Tcp, TopicPartition};

use crate::cluster::{Cluster, read};
use crate::tap::tap;

/// Connects by TCP, and counts the bytes that come from each address.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<BTreeMap<u16, usize>>>);

impl Counting {
    /// What came from this port since the last time, and from all.
    fn take(&self, port: u16) -> (usize, usize) {
        let counts = std::mem::take(&mut *self.0.lock().unwrap());
        (counts.get(&port).copied().unwrap_or(0), counts.values().sum())
    }
}

impl Connector for Counting {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async {
            let (counts, port) = (self.clone(), broker.port());
            Ok(tap(Tcp.connect(broker).await?, move |heard| {
                if let Poll::Ready(bytes) = heard {
                    *counts.0.lock().unwrap().entry(port).or_insert(0) += bytes.len();
                }
            }))
        })
    }
}

/// So many records of 1 KiB, going round three partitions.
async fn fill(client: &Client, topic: &str, count: i32) {
    let producer = client.producer().build().unwrap();
    for n in 0..count {
        producer.enqueue(Record::to(topic).partition(n % 3).value(&[7; 1024])).await.unwrap();
    }
    producer.close(Duration::from_secs(60)).await.unwrap();
}

async fn in_rack(cluster: &Cluster, topic: &str, broker: i32, counting: &Counting) -> (Client, Consumer) {
    let builder = Client::builder(&cluster.bootstrap).connector(counting.clone());
    let client = builder.request_timeout(Duration::from_secs(5)).connect().await.unwrap();
    let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).rack(format!("rack-{broker}"));
    let consumer = builder.build().unwrap();
    consumer.assign((0..3).map(|partition| TopicPartition::new(topic, partition))).unwrap();
    (client, consumer)
}

/// Nearly all bytes come from the broker in the consumer's rack, whoever leads.
pub async fn the_replica_in_the_same_rack_is_read_from(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 3).await;
    fill(&client, &topic, 3_000).await;
    for broker in client.admin().describe_cluster().await.unwrap().brokers {
        assert_eq!(broker.rack.as_deref(), Some(&*format!("rack-{}", broker.id)));
        let counting = Counting::default();
        let (_client, mut consumer) = in_rack(&cluster, &topic, broker.id, &counting).await;
        read(&mut consumer, 3_000).await;
        let (near, all) = counting.take(broker.port as u16);
        assert!(near > 3_000 * 1024 && near * 10 > all * 9, "{near} of {all} bytes from broker {}", broker.id);
        consumer.close().await.unwrap();
    }
}

/// It dies in the middle of a stream: the leaders will do, until it is back.
pub async fn a_killed_replica_nearby_is_left_for_the_leader(cluster: Cluster) {
    if cluster.brokers < 3 {
        return;
    }
    let client = cluster.client().await;
    let name = cluster.real.as_ref().unwrap().name.clone();
    let topic = cluster.topic(&client, 3).await;
    let counting = Counting::default();
    let near = client.admin().describe_cluster().await.unwrap().brokers.into_iter().find(|b| b.id == 2).unwrap();
    let (_client, mut consumer) = in_rack(&cluster, &topic, near.id, &counting).await;
    fill(&client, &topic, 3_000).await;
    let records = read(&mut consumer, 3_000).await;
    let mut next: BTreeMap<i32, i64> = records.iter().map(|record| (record.partition(), record.offset() + 1)).collect();
    cluster.script(&["kill", &name, "2"], "");
    let started = Instant::now();
    let writing = tokio::spawn({
        let topic = topic.clone();
        async move { fill(&client, &topic, 3_000).await }
    });
    for _ in 0..3_000 {
        let record = consumer.recv().await.unwrap();
        let next = next.get_mut(&record.partition()).unwrap();
        assert_eq!(record.offset(), *next, "partition {}", record.partition());
        *next += 1;
    }
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    writing.await.unwrap();
    assert_eq!(next.into_values().collect::<Vec<_>>(), [2_000; 3]);
    cluster.script(&["restart", &name, "2"], "");
}
