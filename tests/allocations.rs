//! Allocations, counted: the client's tasks and its caller on one thread, the mock cluster on another.

use std::time::Duration;

use allocation_counter::AllocationInfo;
use milena::mock::MockCluster;
use milena::{Client, OffsetReset, Record, TopicPartition};

const RECORDS: usize = 100_000;

/// A mock cluster on a runtime and a thread of its own, with the topic `t` of two partitions.
fn elsewhere() -> (tokio::runtime::Runtime, MockCluster) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let cluster = runtime.block_on(MockCluster::start());
    cluster.create_topic("t", 2);
    (runtime, cluster)
}

fn here() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn enqueue_allocates_per_batch_not_per_record() {
    let (_elsewhere, cluster) = elsewhere();
    let here = here();
    let producer = here.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        for n in 0..20_000 {
            producer.enqueue(Record::to("t").partition(n % 2).value(&[0; 100])).await.unwrap();
        }
        producer.flush().await;
        producer
    });
    let mut receipts = Vec::with_capacity(RECORDS);
    let before = cluster.batches("t", 0).len() + cluster.batches("t", 1).len();
    let counted: AllocationInfo = allocation_counter::measure(|| {
        here.block_on(async {
            for n in 0..RECORDS {
                let record = Record::to("t").partition((n / 1_000 % 2) as i32).key("key").value(&[7; 100]);
                receipts.push(producer.enqueue(record).await.unwrap());
            }
            for receipt in receipts.drain(..) {
                receipt.await.unwrap();
            }
        });
    });
    let batches = cluster.batches("t", 0).len() + cluster.batches("t", 1).len() - before;
    let per_batch = counted.count_total as f64 / batches as f64;
    // A batch is about a thousand records; requests, answers and receipts cost some per batch.
    assert!(
        counted.count_total < RECORDS as u64 / 20,
        "{} allocations for {RECORDS} records, {batches} batches: {per_batch:.1} per batch",
        counted.count_total
    );
    assert!(per_batch < 60.0, "{per_batch:.1} allocations per batch");
    here.block_on(producer.close(Duration::from_secs(10))).unwrap();
}

#[test]
fn poll_allocates_per_batch_not_per_record() {
    let (elsewhere, cluster) = elsewhere();
    let here = here();
    let mut consumer = filled_consumer(&elsewhere, &cluster, &here);
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            let mut count = 0;
            while count < RECORDS {
                for record in consumer.poll().await.unwrap().unwrap() {
                    assert_eq!(record.value().map(<[u8]>::len), Some(100));
                    count += 1;
                }
            }
        });
    });
    // A batch is about a thousand records: fetching and opening it costs some.
    assert!(counted.count_total <= RECORDS as u64 / 50, "{} allocations for {RECORDS} records", counted.count_total);
}

/// A consumer of twice as many records as are measured, which has read some.
fn filled_consumer(
    elsewhere: &tokio::runtime::Runtime,
    cluster: &MockCluster,
    here: &tokio::runtime::Runtime,
) -> milena::Consumer {
    elsewhere.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        for n in 0..2 * RECORDS {
            producer.enqueue(Record::to("t").partition(n as i32 % 2).key("key").value(&[7; 100])).await.unwrap();
        }
        producer.close(Duration::from_secs(30)).await.unwrap();
    });
    here.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign([0, 1].map(|partition| TopicPartition::new("t", partition))).unwrap();
        for _ in 0..RECORDS / 2 {
            consumer.recv().await.unwrap();
        }
        consumer
    })
}

#[test]
fn recv_allocates_less_than_once_per_record() {
    let (elsewhere, cluster) = elsewhere();
    let here = here();
    let mut consumer = filled_consumer(&elsewhere, &cluster, &here);
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            for _ in 0..RECORDS {
                let record = consumer.recv().await.unwrap();
                assert_eq!(record.value().map(<[u8]>::len), Some(100));
            }
        });
    });
    assert!(counted.count_total <= RECORDS as u64 / 20, "{} allocations for {RECORDS} records", counted.count_total);
}
