//! What is left behind by producers, runtimes and receipts.

use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, ErrorKind, Record};
use tokio::time::Instant;

use crate::rig::{MS, SECOND, builder, cluster, latency, start};

#[tokio::test(start_paused = true)]
async fn a_hundred_producers_leave_no_task_behind() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let client = builder(&cluster).connect().await.unwrap();
    client.producer().build().unwrap().send(Record::to("t").value("warm")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let before = tasks();
    for n in 0..100 {
        let producer = client.producer().build().unwrap();
        match n % 4 {
            // Never used, closed, dropped with a receipt kept, dropped right after the record went in.
            0 => {}
            1 => {
                producer.send(Record::to("t").partition(n % 3).value("v")).await.unwrap();
                producer.close(SECOND).await.unwrap();
            }
            2 => {
                let receipt = producer.enqueue(Record::to("t").partition(n % 3).value("v")).await.unwrap();
                drop(producer);
                receipt.await.unwrap();
            }
            _ => drop(producer.enqueue(Record::to("t").partition(n % 3).value("v")).await.unwrap()),
        }
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(tasks(), before);
    assert_eq!((0..3).map(|p| cluster.log("t", p).len()).sum::<usize>(), 76, "one of them warmed up");
    drop(client);
    tokio::time::sleep(SECOND).await;
    assert!(tasks() < before);
}

/// Row 30: an `enqueue` that is dropped before it is ready has enqueued nothing, also where it yields to others.
#[tokio::test(start_paused = true)]
async fn a_dropped_enqueue_has_enqueued_nothing() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let producer = builder(&cluster).connect().await.unwrap().producer().build().unwrap();
    latency(&producer, 0).await;
    let (mut kept, mut dropped) = (1, 0);
    for n in 0..2_000 {
        let mut enqueue = Box::pin(producer.enqueue(Record::to("t").value(format!("{n}"))));
        match futures_util::poll!(&mut enqueue) {
            std::task::Poll::Ready(receipt) => {
                kept += 1;
                drop(receipt.unwrap());
            }
            std::task::Poll::Pending => dropped += 1,
        }
    }
    producer.flush().await;
    assert!(dropped >= 10, "{dropped} of them yielded");
    assert_eq!(cluster.log("t", 0).len(), kept);
}

/// Row 30: whoever still holds handles when the client's runtime has ended gets errors, at once.
#[test]
fn handles_outlive_their_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cluster, client, producer) = runtime.block_on(async {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let client = builder(&cluster).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        latency(&producer, 0).await;
        (cluster, client, producer)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        assert_eq!(client.admin().list_topics().await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(client.admin().delete_topics(["t"]).await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(producer.send(Record::to("t").value("v")).await.unwrap_err().error.kind(), ErrorKind::Closed);
        assert_eq!(producer.send(Record::to("new").value("v")).await.unwrap_err().error.kind(), ErrorKind::Closed);
        let late = client.producer().build().unwrap();
        assert_eq!(late.send(Record::to("t").value("v")).await.unwrap_err().error.kind(), ErrorKind::Closed);
        late.flush().await;
        producer.close(SECOND).await.unwrap();
    });
    drop(cluster);
}

/// An idle producer sleeps: nothing of the client, and nothing of the idle mock beside it, wakes more than twice a second
/// for each of its connections.
#[tokio::test(start_paused = true)]
async fn an_idle_producer_wakes_less_than_twice_a_second_per_connection() {
    let (_cluster, producer) = start(2, 4).await;
    let wakes = || tokio::runtime::Handle::current().metrics().worker_park_count(0);
    // Two leaders' connections, and those that metadata came over.
    let connections = 4;
    let before = wakes();
    tokio::time::sleep(100 * SECOND).await;
    let per_second = (wakes() - before) as f64 / 100.0;
    println!("{per_second} wakes a second on an idle runtime");
    assert!(per_second <= 2.0 * f64::from(connections), "{per_second}");
    drop(producer);
}

/// A loop that only enqueues, on one thread, beside a timer that should fire every 10 ms of real time.
#[test]
fn a_loop_that_only_enqueues_lets_timers_fire() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = MockCluster::start().await;
        cluster.create_topic("t", 1);
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        producer.send(Record::to("t").value("v")).await.unwrap();
        let ticks = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let ticking = std::sync::Arc::clone(&ticks);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(10 * MS).await;
                ticking.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let start = Instant::now();
        while start.elapsed() < 500 * MS {
            producer.enqueue(Record::to("t").value(&[0; 10])).await.unwrap();
        }
        let ticks = ticks.load(std::sync::atomic::Ordering::Relaxed);
        assert!(ticks >= 5, "{ticks} ticks of 10 ms in half a second");
    });
}

/// P4: when its topic is deleted, every receipt resolves, and in time.
#[tokio::test(start_paused = true)]
async fn every_receipt_resolves_when_the_topic_is_deleted() {
    let cluster = MockCluster::builder().brokers(2).in_memory().start().await;
    cluster.create_topic("t", 2);
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector()).request_timeout(SECOND);
    let client = builder.connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).delivery_timeout(3 * SECOND).build().unwrap();
    let mut receipts = Vec::new();
    let start = Instant::now();
    for n in 0..200 {
        if n == 100 {
            client.admin().delete_topics(["t"]).await.unwrap();
        }
        let record = Record::to("t").partition(n % 2).value("v");
        receipts.push((Instant::now(), producer.enqueue(record).await.unwrap()));
        tokio::time::sleep(MS).await;
    }
    let mut acknowledged = 0;
    for (since, receipt) in receipts {
        acknowledged += usize::from(receipt.await.is_ok());
        assert!(since.elapsed() <= 4 * SECOND + 200 * MS, "{:?}", since.elapsed());
    }
    assert!((100..200).contains(&acknowledged), "{acknowledged}");
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
}

/// P4: when the runtime ends, whoever holds a receipt on another one is told at once.
#[test]
fn every_receipt_resolves_when_the_runtime_ends() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cluster, receipts) = runtime.block_on(async {
        let cluster = MockCluster::builder().in_memory().start().await;
        cluster.create_topic("t", 1);
        let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
        let producer = client.producer().compression(milena::Compression::Zstd).build().unwrap();
        producer.send(Record::to("t").value("v")).await.unwrap();
        cluster.inject(When::api(Api::Produce), Fault::stall());
        let mut receipts = Vec::new();
        for n in 0..3_000 {
            receipts.push(producer.enqueue(Record::to("t").value(format!("{n:0500}"))).await.unwrap());
        }
        (cluster, receipts)
    });
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async {
        for receipt in receipts {
            let error = tokio::time::timeout(5 * SECOND, receipt).await.expect("it is told").unwrap_err();
            assert_eq!(error.error.kind(), milena::ErrorKind::Closed);
        }
    });
    drop(cluster);
}
