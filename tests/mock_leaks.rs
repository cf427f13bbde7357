//! What the mock leaves behind, which is nothing, and how much time it takes, which is little. A program of its own, so
//! that descriptors are counted without other tests in between.

#![allow(clippy::disallowed_methods, reason = "tests have clocks")]

use std::net::TcpStream;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use milena::mock::{Api, Fault, Link, MockCluster, When};
use milena::{Client, OffsetReset, Record, TopicPartition};

/// Open descriptors of this process: files, sockets, ports.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A client with a producer, a consumer and all their connections.
async fn use_it(cluster: &MockCluster, in_memory: bool) {
    let builder = Client::builder(cluster.bootstrap());
    let builder = if in_memory { builder.connector(cluster.connector()) } else { builder };
    let client = builder.connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    for n in 0..20 {
        producer.send(Record::to("t").key(format!("{n}")).value("x")).await.unwrap();
    }
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign((0..6).map(|index| TopicPartition::new("t", index))).unwrap();
    for _ in 0..20 {
        consumer.recv().await.unwrap();
    }
}

/// One test: descriptors belong to the whole process.
#[test]
fn nothing_is_left_of_a_cluster() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async { use_it(&filled(true).await, true).await }); // what is opened once is open now
    let before = descriptors();
    for (in_memory, close) in [(false, true), (false, false), (true, true), (true, false)] {
        let runtime = runtime();
        let (tasks, ports) = runtime.block_on(async {
            let cluster = filled(in_memory).await;
            cluster.set_link(2, Link::new().latency(Duration::from_millis(1)));
            use_it(&cluster, in_memory).await;
            cluster.stop_broker(1).await;
            cluster.start_broker(1).await;
            cluster.add_broker().await;
            // Requests that hang in the middle of things.
            let stall = cluster.inject(When::api(Api::Metadata), Fault::stall());
            let builder = Client::builder(cluster.bootstrap());
            let builder = if in_memory { builder.connector(cluster.connector()) } else { builder };
            let stuck = tokio::spawn(async move { drop(builder.connect().await) });
            stall.wait_struck(1).await;
            stuck.abort();
            let ports = if in_memory { Vec::new() } else { cluster.bootstrap() };
            if close {
                cluster.close().await;
            } else {
                drop(cluster);
            }
            drop(stuck.await);
            // Clients notice, and go too: at the latest when a consumer has tried for a second to end its fetch sessions,
            // of which it has two with each broker.
            let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
            let start = Instant::now();
            while alive() > 0 && start.elapsed() < Duration::from_secs(3) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (alive(), ports)
        });
        assert_eq!(tasks, 0, "tasks: in memory {in_memory}, closed {close}");
        for port in ports {
            assert!(TcpStream::connect(&port).is_err(), "{port} is open: closed {close}");
        }
        drop(runtime);
        assert_eq!(descriptors(), before, "descriptors: in memory {in_memory}, closed {close}");
    }
    an_idle_hour_takes_milliseconds();
    an_hour_of_virtual_time_takes_no_time();
    ten_brokers_start_at_once();
}

async fn filled(in_memory: bool) -> MockCluster {
    let builder = MockCluster::builder().brokers(3);
    let cluster = if in_memory { builder.in_memory() } else { builder }.start().await;
    cluster.create_topic("t", 6);
    cluster
}

/// A client that waits an hour, with its connections open.
fn an_idle_hour_takes_milliseconds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let cluster = filled(true).await;
        let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
        client.admin().list_topics().await.unwrap();
        let started = ProcessTime::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let spent = started.elapsed();
        assert!(spent < Duration::from_millis(100), "{spent:?}");
        cluster.close().await;
    });
}

/// A consumer that waits an hour for a record, with all its polls, beside brokers that come and go.
fn an_hour_of_virtual_time_takes_no_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let started = ProcessTime::now(); // not the clock: the machine may be busy with other things
    runtime.block_on(async {
        let cluster = filled(true).await;
        cluster.set_link(1, Link::new().latency(Duration::from_millis(40)));
        let virtual_start = tokio::time::Instant::now();
        let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector());
        let client = builder.connect().await.unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign([TopicPartition::new("t", 0)]).unwrap();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, consumer.recv()).await.is_err());
        assert!(virtual_start.elapsed() >= hour);
        assert!(cluster.requests().len() > 1000, "{} requests", cluster.requests().len());
        cluster.close().await;
    });
    // 7200 polls at the least: far below a millisecond each, also in a build that is not optimised.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

fn ten_brokers_start_at_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = || {
        runtime.block_on(async {
            let started = Instant::now();
            let cluster = MockCluster::builder().brokers(10).start().await;
            let elapsed = started.elapsed();
            cluster.close().await;
            elapsed
        })
    };
    // The best of many: the rest is what else the machine does.
    let best = (0..30).map(|_| start()).min().unwrap();
    assert!(best < Duration::from_millis(10), "{best:?}");
}
