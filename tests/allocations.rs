//! Allocations, counted: the client's tasks and its caller on one thread, the mock cluster on another.

#![allow(clippy::disallowed_methods, reason = "tests use tokio's timers")]

use std::time::Duration;

use allocation_counter::AllocationInfo;
use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, OffsetReset, Producer, Record, TopicPartition};

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

/// At ten thousand partitions, where a batch is a record or a few, three are what a batch may cost, its share of
/// requests, answers and timers included.
#[test]
fn batches_of_many_partitions_allocate_little() {
    const PARTITIONS: u64 = 10_000;
    const RECORDS: u64 = 30_000;
    let (_elsewhere, cluster) = elsewhere();
    cluster.create_topic("many", PARTITIONS as usize);
    let here = here();
    let client = here.block_on(Client::builder(cluster.bootstrap()).connect()).unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("many");
    let send = async |numbers: std::ops::Range<u64>| {
        for n in numbers {
            // splitmix64, or nearly: any partition may be next.
            let random = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let partition = (random >> 33) % PARTITIONS;
            drop(producer.enqueue(Record::to(&topic).partition(partition as i32).value(&[7; 100])).await.unwrap());
            // What the mock can answer at once.
            if n % 1_000 == 999 {
                producer.flush().await;
            }
        }
    };
    here.block_on(send(0..3 * RECORDS));
    let before = producer.metrics();
    let counted = allocation_counter::measure(|| here.block_on(send(3 * RECORDS..4 * RECORDS)));
    let after = producer.metrics();
    let (batches, requests) = (after.batches - before.batches, after.requests - before.requests);
    assert!(batches > RECORDS / 10 && requests < batches / 10, "{batches} batches, {requests} requests");
    assert_eq!(after.records_acknowledged, 4 * RECORDS);
    let per_batch = counted.count_total as f64 / batches as f64;
    assert!(per_batch <= 3.0, "{per_batch:.2} allocations for each of {batches} batches, {requests} requests");
    here.block_on(producer.close(Duration::from_secs(10))).unwrap();
}

/// By a topic's handle, of a slice, and with a callback that captures nothing in place of a receipt.
#[test]
fn no_way_to_enqueue_allocates_per_record() {
    let (_elsewhere, cluster) = elsewhere();
    let here = here();
    let client = here.block_on(Client::builder(cluster.bootstrap()).connect()).unwrap();
    let producer = here.block_on(async { client.producer().build().unwrap() });
    let topic = producer.topic("t");
    let value = [7; 100];
    let warm = async || {
        for _ in 0..20_000 {
            producer.enqueue(Record::to(&topic).value(&value)).await.unwrap();
        }
        producer.flush().await;
    };
    let by_handle = async || {
        for n in 0..RECORDS as u64 {
            let key = n.to_le_bytes();
            producer.enqueue(Record::to(&topic).key(&key).value(&value)).await.unwrap();
        }
        producer.flush().await;
    };
    let by_slice = async || {
        let record = |_| Record::to("t").value(&value);
        producer.enqueue_all((0..RECORDS).map(record)).await.unwrap();
        producer.flush().await;
    };
    let by_callback = async || {
        for _ in 0..RECORDS {
            producer.enqueue(Record::to(&topic).value(&value)).await.unwrap().on_delivery(|result| {
                result.unwrap();
            });
        }
        producer.flush().await;
    };
    here.block_on(warm());
    let counted = |f: &dyn Fn()| allocation_counter::measure(f).count_total;
    for (what, allocations) in [
        ("a topic's handle, keyed", counted(&|| here.block_on(by_handle()))),
        ("a slice", counted(&|| here.block_on(by_slice()))),
        ("a callback", counted(&|| here.block_on(by_callback()))),
    ] {
        assert!(allocations < RECORDS as u64 / 20, "{what}: {allocations} allocations for {RECORDS} records");
    }
    here.block_on(producer.close(Duration::from_secs(10))).unwrap();
}

/// `buffer_memory` is what a producer takes, and 16 MiB for all the rest: with a broker that takes nothing, while every
/// second batch is sealed long before it is full; and with one that takes all it can.
#[test]
fn a_producer_stays_within_its_buffer_memory() {
    const BUFFER: u64 = 32 << 20;
    const PARTITIONS: i32 = 64;
    let (_elsewhere, cluster) = elsewhere();
    cluster.create_topic("wide", PARTITIONS as usize);
    let here = here();
    let producer = here.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().buffer_memory(BUFFER as usize).build().unwrap();
        producer.send(Record::to("wide").value("first")).await.unwrap();
        producer
    });
    let stall = cluster.inject(When::api(Api::Produce), Fault::stall());
    let mut taken = 0;
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            // Two go into a batch of 128 KiB, and the third has the next one for itself.
            while let Some(more) = fill_thrice(&producer, PARTITIONS) {
                taken += more;
                let _ = tokio::time::timeout(Duration::from_millis(1), producer.flush()).await;
            }
        });
    });
    assert!(taken * 45_000 > BUFFER / 2, "{taken} records");
    assert!(counted.bytes_max <= BUFFER + (16 << 20), "{counted:?}");
    stall.remove();
    here.block_on(producer.flush());

    let topic = producer.topic("wide");
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            for n in 0..30_000u64 {
                // All sizes up to 3 KiB, some partitions with much and some with little.
                let size = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize * 3 / 4;
                let partition = (n % 7 * (n / 1000) % PARTITIONS as u64) as i32;
                let record = Record::to(&topic).partition(partition).value(&[7; 3072][..size]);
                drop(producer.enqueue(record).await.unwrap());
            }
            producer.flush().await;
        });
    });
    // What was kept from before is not counted here, and is no more than the buffer's.
    assert!(counted.bytes_max <= BUFFER + (16 << 20), "{counted:?}");
    here.block_on(producer.close(Duration::from_secs(30))).unwrap();
}

/// Three records of 45,000 bytes to every partition; how many were taken, or `None` if none was.
fn fill_thrice(producer: &Producer, partitions: i32) -> Option<u64> {
    let value = [7; 45_000];
    let record = |n: i32| Record::to("wide").partition(n / 3).value(&value);
    let taken = (0..3 * partitions).filter(|n| producer.try_enqueue(record(*n)).is_ok()).count();
    (taken > 0).then_some(taken as u64)
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

/// Nearly 1 MiB, the largest record that a broker takes unless told otherwise.
const LARGE: usize = (1 << 20) - 200;
/// What a request, its answer and the tasks in between may take besides.
const SMALL: u64 = 64 << 10;

#[test]
fn a_sealed_batch_is_never_copied() {
    let (_elsewhere, cluster) = elsewhere();
    let here = here();
    let producer = here.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().linger(Duration::from_secs(60)).build().unwrap();
        // Connections and buffers of their own.
        producer.enqueue(Record::to("t").partition(0).value("first")).await.unwrap();
        producer.flush().await;
        producer
    });
    let value = vec![7u8; LARGE];
    let mut receipt = None;
    let counted = allocation_counter::measure(|| {
        receipt = Some(here.block_on(producer.enqueue(Record::to("t").partition(0).value(&value))).unwrap());
    });
    assert!(counted.bytes_total < LARGE as u64 + SMALL, "copied once, into the batch: {counted:?}");
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            producer.flush().await;
            receipt.take().unwrap().await.unwrap();
        });
    });
    assert!(counted.bytes_total < SMALL, "sealed, stamped and written: {counted:?}");
    assert_eq!(cluster.log("t", 0).last().unwrap().value.as_deref(), Some(&value[..]));
}

#[test]
fn what_was_fetched_is_a_slice_of_the_frame() {
    let (elsewhere, cluster) = elsewhere();
    let value = vec![7u8; LARGE];
    elsewhere.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        for value in [&b"first"[..], &value] {
            producer.send(Record::to("t").partition(0).value(value)).await.unwrap();
        }
    });
    let here = here();
    let mut consumer = here.block_on(async {
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        consumer
    });
    let counted = allocation_counter::measure(|| {
        here.block_on(async {
            assert_eq!(consumer.recv().await.unwrap().value(), Some(&b"first"[..]));
            assert_eq!(consumer.recv().await.unwrap().value(), Some(&value[..]));
        });
    });
    // One frame holds both, or else one each: what the second record is in was allocated once.
    assert!(counted.bytes_total < LARGE as u64 + 4 * SMALL, "{counted:?}");
}
