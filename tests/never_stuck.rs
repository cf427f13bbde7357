//! Nobody waits for anybody else: what is slow, hung, throttled or dead delays itself alone, and leaves nothing behind.
//! On the mock cluster in memory, on paused time, so that every figure is exact.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]
#![allow(clippy::print_stdout, reason = "figures of an outage are worth reading")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, MockConnector, When};
use milena::{
    Address, Client, ClientBuilder, Connecting, Connector, ErrorKind, Fate, NewTopic, Producer, Record, TopicPartition,
};
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}

fn builder(cluster: &MockCluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap()).connector(cluster.connector())
}

/// A topic `t` whose partition n has its only replica at broker n + 1.
async fn spread(cluster: &MockCluster, client: &Client, partitions: i32) {
    let brokers = cluster.bootstrap().len() as i32;
    let placed = NewTopic::named("t").assignments((0..partitions).map(|n| [n % brokers + 1]));
    client.admin().create_topics([placed]).await.unwrap();
}

/// What one send to a partition takes.
async fn latency(producer: &Producer, partition: i32) -> Duration {
    let start = Instant::now();
    producer.send(Record::to("t").partition(partition).value("v")).await.unwrap();
    start.elapsed()
}

/// The longest of so many sends, one every 7 ms.
async fn worst_of(count: usize, producer: &Producer, partition: i32) -> Duration {
    let mut worst = Duration::ZERO;
    for _ in 0..count {
        worst = worst.max(latency(producer, partition).await);
        tokio::time::sleep(7 * MS).await;
    }
    worst
}

/// NOT_ENOUGH_REPLICAS for ever: its neighbour at the same leader, on the same connection, does not notice.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_refused_for_ever_does_not_delay_its_neighbour() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = builder(&cluster).connect().await.unwrap().producer().build().unwrap();
    latency(&producer, 0).await;
    let normal = worst_of(20, &producer, 1).await;
    let refused = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::error(19));
    let mut stuck = Vec::new();
    for n in 0..100 {
        stuck.push(producer.enqueue(Record::to("t").partition(0).value(n.to_string())).await.unwrap());
    }
    let worst = worst_of(2_000, &producer, 1).await;
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} without the stuck partition");
    // It retries with a back-off, not in a loop.
    assert!((10..60).contains(&refused.struck()), "{} attempts in 24 s", refused.struck());
    refused.remove();
    for receipt in stuck {
        receipt.await.unwrap();
    }
    assert_eq!(cluster.log("t", 0).len(), 101);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_or_hung_broker_does_not_delay_partitions_of_others() {
    for is_hung in [false, true] {
        let cluster = cluster(3).await;
        let client = builder(&cluster).request_timeout(3 * SECOND).connect().await.unwrap();
        spread(&cluster, &client, 3).await;
        let producer = client.producer().delivery_timeout(300 * SECOND).build().unwrap();
        for partition in 0..3 {
            latency(&producer, partition).await;
        }
        let normal = worst_of(20, &producer, 1).await.max(worst_of(20, &producer, 2).await);
        if is_hung {
            cluster.hang_broker(1)
        } else {
            cluster.stop_broker(1).await
        }
        let held = producer.enqueue(Record::to("t").partition(0).value("held")).await.unwrap();
        // Longer than a request's time limit, so that the end of the connection is seen too.
        let (one, two) = tokio::join!(worst_of(800, &producer, 1), worst_of(800, &producer, 2));
        let worst = one.max(two);
        assert!(worst <= normal + 10 * MS, "hung: {is_hung}; {worst:?}, and {normal:?} before");
        if is_hung {
            cluster.resume_broker(1)
        } else {
            cluster.start_broker(1).await
        }
        held.await.unwrap();
    }
}

/// A producer's first record needs an id from any broker; one that is hung must not be waited for.
#[tokio::test(start_paused = true)]
async fn a_hung_broker_does_not_keep_a_new_producer_from_its_id() {
    for round in 0..20 {
        let cluster = cluster(3).await;
        let client = builder(&cluster).connect().await.unwrap();
        spread(&cluster, &client, 3).await;
        let known = client.producer().build().unwrap();
        for partition in 0..3 {
            latency(&known, partition).await;
        }
        cluster.hang_broker(round % 3 + 1);
        let producer = client.producer().build().unwrap();
        let took = latency(&producer, (round + 1) % 3).await;
        assert!(took < 3 * SECOND, "round {round}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_consumer_does_not_delay_sends() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    cluster.create_topic("idle", 1);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    latency(&producer, 0).await;
    let normal = worst_of(20, &producer, 0).await;
    let mut consumer = client.consumer().fetch_max_wait(60 * SECOND).build().unwrap();
    consumer.assign([TopicPartition::new("idle", 0)]).unwrap();
    let reading = tokio::spawn(async move { consumer.recv().await });
    tokio::time::sleep(SECOND).await;
    let worst = worst_of(500, &producer, 0).await;
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} without the consumer");
    reading.abort();
}

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

/// Row 12 (KIP-219): the connection is silent for exactly as long, and only that connection.
#[tokio::test(start_paused = true)]
async fn a_throttle_mutes_its_connection_and_no_other() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    for partition in 0..2 {
        latency(&producer, partition).await;
    }
    for throttle in [1_234, 5_000, 20_000] {
        let throttle = throttle * MS;
        let fault = cluster.inject(When::api(Api::Produce).partition("t", 0).times(1), Fault::throttle(throttle));
        let start = Instant::now();
        // Answered at once: throttling is no failure.
        assert!(latency(&producer, 0).await < 5 * MS);
        fault.wait_struck(1).await;
        let muted = producer.enqueue(Record::to("t").partition(0).value("muted")).await.unwrap();
        let worst = worst_of(20, &producer, 1).await;
        assert!(worst < 5 * MS, "the other broker: {worst:?}");
        muted.await.unwrap();
        let waited = start.elapsed();
        assert!(waited >= throttle && waited <= throttle + 5 * MS, "{waited:?} for {throttle:?}");
    }
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
        assert!(worst < 1_500 * MS, "seed {seed}: {worst:?} at worst, {cut} cuts");
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

/// How many records of 1 kB go in before the buffer is full.
fn fill(producer: &Producer, value: &[u8]) -> Vec<milena::Delivery> {
    let mut receipts = Vec::new();
    loop {
        match producer.try_enqueue(Record::to("t").partition((receipts.len() % 4) as i32).value(value)) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::BufferFull, "{refused}");
                return receipts;
            }
        }
    }
}

/// One partition cannot eat the buffer: who sends to a stuck one, for ten minutes, waits alone, or is told so by name.
#[tokio::test(start_paused = true)]
async fn a_stuck_partition_keeps_its_own_callers_waiting_and_nobody_else() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    let producer = client.producer().buffer_memory(1 << 20).batch_size(16 << 10).delivery_timeout(3_600 * SECOND);
    let producer = producer.max_block(20 * SECOND).build().unwrap();
    for partition in 0..2 {
        latency(&producer, partition).await;
    }
    let normal = worst_of(20, &producer, 1).await;
    let stuck = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::stall());
    let value = [7; 1_000];
    let mut receipts = Vec::new();
    let refused = loop {
        match producer.try_enqueue(Record::to("t").partition(0).value(&value)) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused.error,
        }
    };
    assert_eq!((refused.kind(), refused.is_retriable()), (ErrorKind::BufferFull, true));
    assert_eq!(refused.topic_partition().unwrap().to_string(), "t-0");
    assert!(refused.to_string().contains("buffer_memory (1048576 bytes)"), "{refused}");
    // Half of the buffer, but for a batch.
    assert!((490..520).contains(&receipts.len()), "{} records of 1 kB", receipts.len());
    let stubborn: Vec<_> = (0..3)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let mut given_up = 0;
                while given_up < 30 {
                    let start = Instant::now();
                    let error = producer.enqueue(Record::to("t").partition(0).value(&[7; 1_000])).await.unwrap_err();
                    assert_eq!(error.topic_partition().unwrap().to_string(), "t-0");
                    assert_eq!(start.elapsed().as_millis() / 100, 200, "max_block");
                    given_up += 1;
                }
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    for _ in 0..4_000 {
        worst = worst.max(latency(&producer, 1).await);
        tokio::time::sleep(151 * MS).await;
    }
    for stubborn in stubborn {
        stubborn.await.unwrap();
    }
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} before");
    // Those who wait go on, one after the other, once it moves.
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(
                async move { (producer.enqueue(Record::to("t").partition(0).value(&[8; 1_000])).await.unwrap(),) },
            )
        })
        .collect();
    tokio::time::sleep(SECOND).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    stuck.remove();
    for waiting in waiting {
        let (receipt,) = waiting.await.unwrap();
        receipt.await.unwrap();
    }
    for receipt in receipts.drain(..) {
        receipt.await.unwrap();
    }
}

/// P12, row 30: whatever callers do, the whole buffer is there again afterwards.
#[tokio::test(start_paused = true)]
async fn no_caller_can_leak_buffer_memory() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().buffer_memory(256 << 10).max_block(SECOND).build().unwrap();
    let value = [7; 1000];
    for partition in 0..4 {
        latency(&producer, partition).await;
    }
    producer.flush().await;
    let mut sent = 4;
    let mut first = None;
    for round in 0..30 {
        let stall = cluster.inject(When::api(Api::Produce), Fault::stall());
        let receipts = fill(&producer, &value);
        sent += receipts.len();
        let full = *first.get_or_insert(receipts.len());
        assert_eq!(receipts.len(), full, "round {round}");
        // Callers that wait for memory: some give up by themselves, some are dropped after some polls, of many sizes.
        let mut waiting = Vec::new();
        for n in 0..20 {
            let large = vec![1; 1 + n * 9_000];
            let producer = producer.clone();
            waiting.push(tokio::spawn(async move {
                producer.enqueue(Record::to("t").partition(n as i32 % 4).value(large)).await.map(drop)
            }));
        }
        tokio::time::sleep(100 * MS).await;
        for (n, waiting) in waiting.iter().enumerate() {
            if n % 2 == round % 2 {
                waiting.abort();
            }
        }
        if round % 3 == 0 {
            tokio::time::sleep(2 * SECOND).await;
        }
        match round % 2 {
            0 => drop(receipts),
            _ => drop(tokio::spawn(futures_util::future::join_all(receipts))),
        }
        stall.remove();
        for waiting in waiting {
            if let Ok(Ok(())) = waiting.await {
                sent += 1;
            }
        }
        producer.flush().await;
    }
    let written: usize = (0..4).map(|p| cluster.log("t", p).len()).sum();
    assert_eq!(written, sent);
}

/// Rule 17: what a caller opens after another one began to wait for memory does not linger either.
#[tokio::test(start_paused = true)]
async fn nothing_lingers_while_somebody_waits_for_memory() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = builder(&cluster).connect().await.unwrap();
    let patient = client.producer().linger(50 * SECOND).buffer_memory(64 << 10).build().unwrap();
    let start = Instant::now();
    let tasks = (0..40).map(|n: usize| {
        let producer = patient.clone();
        async move {
            let value = vec![0; if n.is_multiple_of(3) { 50_000 } else { 9_000 }];
            producer.enqueue(Record::to("t").partition(n as i32 % 4).value(value)).await.unwrap();
        }
    });
    futures_util::future::join_all(tasks).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Rule 18: a flush waits for what was there when it was called, however much comes after.
#[tokio::test(start_paused = true)]
async fn a_flush_ends_while_others_keep_enqueueing() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().buffer_memory(1 << 20).build().unwrap();
    latency(&producer, 0).await;
    cluster.inject(When::api(Api::Produce), Fault::delay_answer(5 * MS));
    let others: Vec<_> = (0..4)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                loop {
                    producer.enqueue(Record::to("t").value(&[0; 1000])).await.unwrap();
                }
            })
        })
        .collect();
    tokio::time::sleep(100 * MS).await;
    for _ in 0..20 {
        let start = Instant::now();
        producer.flush().await;
        assert!(start.elapsed() < 200 * MS, "{:?}", start.elapsed());
    }
    // And behind failures: every batch is refused, and flushes end all the same.
    cluster.inject(When::api(Api::Produce), Fault::error(87));
    for _ in 0..20 {
        let start = Instant::now();
        producer.flush().await;
        assert!(start.elapsed() < 200 * MS, "{:?}", start.elapsed());
    }
    others.iter().for_each(tokio::task::JoinHandle::abort);
}

/// P4: a partition without any leader keeps its deadlines, however often its producer is asked for something else. Here
/// its records fill the buffer, and somebody asks for room all the time.
#[tokio::test(start_paused = true)]
async fn records_for_a_leaderless_partition_expire_in_time_while_callers_ask_for_room() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    // Without a leader from the start: the partition never had a task.
    cluster.stop_broker(1).await;
    let client = Client::builder([&cluster.bootstrap()[1]]).connector(cluster.connector()).request_timeout(SECOND);
    let client = client.connect().await.unwrap();
    let producer = client.producer().delivery_timeout(5 * SECOND).buffer_memory(64 << 10).build().unwrap();
    latency(&producer, 1).await;
    let start = Instant::now();
    let mut stuck = Vec::new();
    while let Ok(receipt) = producer.try_enqueue(Record::to("t").partition(0).value(&[0; 1000])) {
        stuck.push(receipt);
    }
    assert!(stuck.len() > 50);
    while producer.try_enqueue(Record::to("t").partition(1).value(&[0; 1000])).is_err() {
        tokio::time::sleep(20 * MS).await;
        assert!(start.elapsed() <= 6 * SECOND, "{:?}", start.elapsed());
    }
    for receipt in stuck {
        let error = receipt.await.unwrap_err();
        assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::Timeout), "{error}");
    }
    assert!(start.elapsed() <= 6 * SECOND, "{:?}", start.elapsed());
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
