//! Brokers that are away, and connections that do not last.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, MockConnector, When};
use milena::{Address, Client, Connecting, Connector, Fate, OffsetReset, Record};
use tokio::time::Instant;

use crate::rig::{MS, SECOND, builder, cluster, latency, spread};

/// Counts the streams that are asked for.
struct Counting {
    inner: MockConnector,
    connects: Arc<AtomicU64>,
}

impl Connector for Counting {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.inner.connect(broker)
    }
}

/// Row 27, P14: ten minutes without any broker, with a producer that has records and a consumer that wants some.
#[tokio::test(start_paused = true)]
async fn an_outage_is_no_storm() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 30);
    let connects = Arc::new(AtomicU64::new(0));
    let counting = Counting { inner: cluster.connector(), connects: Arc::clone(&connects) };
    let client = Client::builder(cluster.bootstrap()).connector(counting).connect().await.unwrap();
    let producer = client.producer().delivery_timeout(3_600 * SECOND).build().unwrap();
    for partition in 0..30 {
        latency(&producer, partition).await;
    }
    for broker in 1..=3 {
        cluster.stop_broker(broker).await;
    }
    let mut receipts = Vec::new();
    for partition in 0..30 {
        receipts.push(producer.enqueue(Record::to("t").partition(partition).value("v")).await.unwrap());
    }
    tokio::time::sleep(10 * SECOND).await;
    connects.store(0, Ordering::Relaxed);
    cluster.clear_requests();
    tokio::time::sleep(600 * SECOND).await;
    let per_broker_minute = connects.load(Ordering::Relaxed) as f64 / 30.0;
    println!("{per_broker_minute} connects per broker and minute in an outage");
    assert!(per_broker_minute <= 60.0, "{per_broker_minute}");
    assert!(cluster.requests().is_empty());
    for broker in 1..=3 {
        cluster.start_broker(broker).await;
    }
    let start = Instant::now();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert!(start.elapsed() < 4 * SECOND, "recovered {:?} after the brokers", start.elapsed());
}

/// One broker of three is away for ten minutes, and with it the only copy of its partitions: the others are not asked
/// about it all the time.
#[tokio::test(start_paused = true)]
async fn partitions_without_a_leader_are_asked_for_with_patience() {
    let cluster = cluster(3).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 60).await;
    let producer = client.producer().delivery_timeout(3_600 * SECOND).build().unwrap();
    for partition in 0..60 {
        latency(&producer, partition).await;
    }
    cluster.stop_broker(1).await;
    let mut receipts = Vec::new();
    for partition in (0..60).step_by(3) {
        receipts.push(producer.enqueue(Record::to("t").partition(partition).value("v")).await.unwrap());
    }
    tokio::time::sleep(10 * SECOND).await;
    cluster.clear_requests();
    tokio::time::sleep(600 * SECOND).await;
    let asked = cluster.requests().iter().filter(|request| request.api == Api::Metadata).count();
    println!("{} metadata requests per minute while a broker is away", asked as f64 / 10.0);
    cluster.start_broker(1).await;
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert!(asked <= 1_500, "{asked} metadata requests in ten minutes");
}

/// Row 13, P4: the clock jumps, as for a machine that was suspended, while one batch is with the broker and others wait.
#[tokio::test(start_paused = true)]
async fn a_client_that_stood_still_for_ten_minutes_tells_the_truth_and_goes_on() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).delivery_timeout(60 * SECOND).build().unwrap();
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([("t", 0)]).unwrap();
    for held in [Fault::delay(SECOND), Fault::delay_answer(SECOND), Fault::lose_answer(), Fault::stall()] {
        producer.send(Record::to("t").value("warm")).await.unwrap();
        let before = cluster.log("t", 0).len();
        let fault = cluster.inject(When::api(Api::Produce), held.clone());
        let mut receipts = Vec::new();
        for n in 0..3 {
            receipts.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
            tokio::time::sleep(MS).await;
        }
        tokio::time::advance(600 * SECOND).await;
        let mut told = Vec::new();
        for receipt in receipts {
            told.push(tokio::time::timeout(SECOND * 31, receipt).await.expect("its time was over long ago"));
        }
        fault.remove();
        producer.send(Record::to("t").value("behind")).await.unwrap();
        let log: Vec<_> = cluster.log("t", 0)[before..].iter().map(|record| record.value.clone().unwrap()).collect();
        assert!(log.is_sorted() && log.iter().collect::<BTreeSet<_>>().len() == log.len(), "{held:?}: {log:?}");
        for (n, told) in told.into_iter().enumerate() {
            let place = log.iter().position(|value| *value == n.to_string().as_bytes());
            match told {
                Ok(placed) => assert_eq!(placed.offset, place.map(|at| (before + at) as i64), "{held:?}"),
                Err(error) if error.fate == Fate::NotWritten => assert_eq!(place, None, "{held:?}: {n}: {error}"),
                Err(_) => {}
            }
        }
    }
    for offset in 0..cluster.log("t", 0).len() as i64 {
        let record = tokio::time::timeout(10 * SECOND, consumer.recv()).await.unwrap().unwrap();
        assert_eq!(record.offset(), offset);
    }
    assert!(cluster.verify().is_empty(), "{:?}", cluster.verify());
}

/// Row 1: connections that are cut all the time cost a reconnect each time, and no record.
#[tokio::test(start_paused = true)]
async fn connections_cut_all_the_time_delay_sends_by_little() {
    for seed in 0..4 {
        let cluster = MockCluster::builder().brokers(3).in_memory().seed(seed).start().await;
        cluster.create_topic("t", 3);
        let cuts = Arc::new(Cuts::default());
        let connector = Cutting { inner: cluster.connector(), cuts: Arc::clone(&cuts), seed: AtomicU64::new(seed) };
        let client = Client::builder(cluster.bootstrap()).connector(connector).connect().await.unwrap();
        let producer = client.producer().build().unwrap();
        let mut sent = 0;
        let mut worst = Duration::ZERO;
        let start = Instant::now();
        while start.elapsed() < 100 * SECOND {
            let began = Instant::now();
            let sends = (0..3).map(|p| producer.send(Record::to("t").partition(p).value(sent.to_string())));
            for done in futures_util::future::join_all(sends).await {
                done.unwrap();
            }
            worst = worst.max(began.elapsed());
            tokio::time::sleep(13 * MS).await;
            sent += 1;
        }
        let cut = cuts.0.load(Ordering::Relaxed);
        assert!(cut > 200, "{cut} cuts");
        assert!(worst <= SECOND, "seed {seed}: {worst:?} at worst, {cut} cuts");
        for partition in 0..3 {
            let log = cluster.log("t", partition);
            assert_eq!(log.len(), sent);
            for (n, record) in log.iter().enumerate() {
                assert_eq!(record.value.as_deref(), Some(n.to_string().as_bytes()), "seed {seed}");
            }
        }
    }
}

#[derive(Default)]
struct Cuts(AtomicU64);

/// Cuts each stream after 0.2 to 2 s.
struct Cutting {
    inner: MockConnector,
    cuts: Arc<Cuts>,
    seed: AtomicU64,
}

impl Connector for Cutting {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        let random = self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0x2545_f491_4f6c_dd1d);
        let life = MS * (200 + (random >> 33) as u32 % 1_800);
        let cuts = Arc::clone(&self.cuts);
        Box::pin(async move {
            let mut outer = self.inner.connect(broker).await?;
            let (client, mut middle) = tokio::io::duplex(4 << 10);
            tokio::spawn(async move {
                let copying = tokio::io::copy_bidirectional(&mut middle, &mut outer);
                if tokio::time::timeout(life, copying).await.is_err() {
                    cuts.0.fetch_add(1, Ordering::Relaxed);
                }
            });
            Ok(Box::new(client) as Box<dyn milena::Transport>)
        })
    }
}
