//! Several batches of a partition in flight: how fast that is, and that nothing is lost, doubled or out of order for it.
//! On the mock cluster in memory, on paused time, over a network that takes its time.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]
#![allow(clippy::print_stdout, reason = "a figure is worth reading")]

use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, MockConnector, When};
use milena::{Address, Client, Connecting, Connector, ErrorKind, Fate, Producer, ProducerBuilder, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A network with so much latency each way, and all the bandwidth in the world.
struct Far {
    inner: MockConnector,
    one_way: Duration,
}

impl Connector for Far {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let outer = self.inner.connect(broker).await?;
            let (client, middle) = tokio::io::duplex(1 << 22);
            let (from_client, to_client) = tokio::io::split(middle);
            let (from_broker, to_broker) = tokio::io::split(outer);
            tokio::spawn(carry(from_client, to_broker, self.one_way));
            tokio::spawn(carry(from_broker, to_client, self.one_way));
            Ok(Box::new(client) as Box<dyn milena::Transport>)
        })
    }
}

async fn carry<A, B>(mut from: ReadHalf<A>, mut to: WriteHalf<B>, delay: Duration)
where
    A: tokio::io::AsyncRead + Send + 'static,
    B: tokio::io::AsyncWrite + Send + 'static,
{
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let writing = async move {
        while let Some((at, bytes)) = receiver.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    let reading = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            let _ = sender.send((Instant::now() + delay, buffer[..read].to_vec()));
        }
    };
    tokio::join!(reading, writing);
}

async fn far_client(cluster: &MockCluster, one_way: Duration) -> Client {
    let connector = Far { inner: cluster.connector(), one_way };
    Client::builder(cluster.bootstrap()).connector(connector).connect().await.unwrap()
}

async fn cluster(brokers: i32, partitions: usize) -> MockCluster {
    let cluster = MockCluster::builder().brokers(brokers).in_memory().start().await;
    cluster.create_topic("t", partitions);
    cluster
}

fn values(cluster: &MockCluster, partition: i32) -> Vec<String> {
    let log = cluster.log("t", partition);
    log.iter().map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

/// What ten thousand records of 1 kB to one partition take at a round trip of 20 ms.
async fn ten_megabytes(builder: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Duration {
    let cluster = cluster(1, 1).await;
    let client = far_client(&cluster, 10 * MS).await;
    let producer = builder(client.producer()).build().unwrap();
    producer.send(Record::to("t").value("first")).await.unwrap();
    let start = Instant::now();
    let value = [7; 1_000];
    for _ in 0..10_000 {
        producer.enqueue(Record::to("t").value(&value)).await.unwrap();
    }
    producer.flush().await;
    assert_eq!(cluster.log("t", 0).len(), 10_001);
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn five_in_flight_are_four_and_a_half_times_as_fast_as_one() {
    let five = ten_megabytes(|builder| builder.batch_size(128 << 10)).await;
    let one = ten_megabytes(|builder| builder.batch_size(128 << 10).max_in_flight(1)).await;
    let ratio = one.as_secs_f64() / five.as_secs_f64();
    println!("10 MB at a round trip of 20 ms: {five:?} with five in flight, {one:?} with one: {ratio:.2} times");
    assert!(ratio >= 4.5, "{ratio}");
}

/// Sends 10 MB of 1 kB records to a partition 20 ms away, and says how large its batches in the log are.
async fn sizes(cluster: &MockCluster, builder: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Vec<usize> {
    let producer = builder(far_client(cluster, 10 * MS).await.producer()).build().unwrap();
    let values: Vec<_> = (0..10_000).map(|n| format!("{n:01000}")).collect();
    let mut receipts = Vec::new();
    for value in &values {
        receipts.push(producer.enqueue(Record::to("t").value(value)).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    cluster.batches("t", 0).iter().map(|batch| batch.size).collect()
}

/// While five are under way, the default batch grows beyond what is full otherwise; one of a size that was set does not.
#[tokio::test(start_paused = true)]
async fn what_could_not_leave_yet_goes_in_larger_batches() {
    let sizes_of = async |builder: fn(ProducerBuilder) -> ProducerBuilder| sizes(&cluster(1, 1).await, builder).await;
    let default = sizes_of(|builder| builder).await;
    assert!(default.iter().all(|size| *size <= 1 << 20), "{default:?}");
    assert!(default.iter().filter(|size| **size > 1_000_000).count() >= 5, "{default:?}");
    assert!(default[0] <= 128 << 10, "{default:?}");

    let set = sizes_of(|builder| builder.batch_size(128 << 10)).await;
    assert!(set.iter().all(|size| *size <= 128 << 10), "{set:?}");
    let request = sizes_of(|builder| builder.max_request_size(200_000)).await;
    assert!(request.iter().all(|size| *size <= 200_000), "{request:?}");

    let grown = ten_megabytes(|builder| builder).await;
    let five = ten_megabytes(|builder| builder.batch_size(128 << 10)).await;
    assert!(grown * 2 < five, "{grown:?}, {five:?}");
}

/// Once the broker has refused such a batch for its size, that partition gets usual ones.
#[tokio::test(start_paused = true)]
async fn batches_do_not_grow_beyond_what_the_topic_takes() {
    let cluster = MockCluster::builder().in_memory().start().await;
    let client = far_client(&cluster, 10 * MS).await;
    let topic = milena::NewTopic::new("t", 1, 1).config("max.message.bytes", "200000");
    client.admin().create_topics([topic]).await.unwrap();
    let producer = client.producer().build().unwrap();
    let values: Vec<_> = (0..2_000).map(|n| format!("{n:01000}")).collect();
    let mut retries = Vec::new();
    for _ in 0..2 {
        let results = producer.send_all(values.iter().map(|value| Record::to("t").value(value))).await;
        assert_eq!(results.into_iter().filter(Result::is_ok).count(), 2_000);
        retries.push(producer.metrics().retries);
    }
    assert!(retries[0] > 0, "a batch had grown");
    assert_eq!(retries[1], retries[0]);
    let log = cluster.log("t", 0);
    let expected = values.iter().chain(&values).map(String::as_bytes);
    assert!(log.iter().map(|record| record.value.as_deref().unwrap()).eq(expected));
}

/// Row 2, with five in flight: the log has them, and the answers are lost.
#[tokio::test(start_paused = true)]
async fn lost_acknowledgements_of_several_make_no_duplicate_and_keep_the_order() {
    for (every, fault) in (2..9).flat_map(|every| [(every, Fault::lose_answer()), (every, Fault::close())]) {
        let cluster = cluster(2, 2).await;
        let client = far_client(&cluster, 5 * MS).await;
        let producer = client.producer().linger(Duration::ZERO).build().unwrap();
        cluster.inject(When::api(Api::Produce).every(every), fault);
        let mut receipts = Vec::new();
        for n in 0..200 {
            receipts.push(producer.enqueue(Record::to("t").partition(0).value(n.to_string())).await.unwrap());
            tokio::time::sleep(MS).await;
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap().offset, Some(n as i64), "every {every}");
        }
        assert_eq!(values(&cluster, 0), numbers(200));
        assert!(cluster.batches("t", 0).iter().all(|batch| batch.producer_epoch == 0));
    }
}

/// A definite rejection with four batches behind it in flight: it fails alone, and they arrive in order.
#[tokio::test(start_paused = true)]
async fn a_rejection_among_several_fails_alone() {
    let cluster = cluster(1, 2).await;
    let client = far_client(&cluster, 10 * MS).await;
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    producer.send(Record::to("t").partition(0).value("0")).await.unwrap();
    producer.send(Record::to("t").partition(1).value("0")).await.unwrap();
    // INVALID_RECORD: never written.
    cluster.inject(When::api(Api::Produce).partition("t", 0).times(1), Fault::error(87));
    let bad = producer.enqueue(Record::to("t").partition(0).value("bad")).await.unwrap();
    let mut good = Vec::new();
    for n in 1..5 {
        tokio::time::sleep(MS).await;
        good.push(producer.enqueue(Record::to("t").partition(0).value(n.to_string())).await.unwrap());
    }
    let bad = bad.await.unwrap_err();
    assert_eq!((bad.fate, bad.error.code().unwrap().0), (Fate::NotWritten, 87));
    for receipt in good {
        receipt.await.unwrap();
    }
    assert_eq!(values(&cluster, 0), numbers(5));
    let stamps: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.producer_epoch, b.base_sequence)).collect();
    assert_eq!(stamps, [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]);
}

/// Row 4, KIP-951: the old leader says who the new one is, and no metadata is needed to go there.
#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_without_asking_for_metadata() {
    let cluster = cluster(3, 1).await;
    let client = far_client(&cluster, 5 * MS).await;
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    producer.send(Record::to("t").value("0")).await.unwrap();
    let old = cluster.leader("t", 0).unwrap();
    let new = cluster.live_brokers().into_iter().find(|broker| *broker != old).unwrap();
    cluster.move_leader("t", 0, new);
    let silent = cluster.inject(When::api(Api::Metadata), Fault::stall());
    let start = Instant::now();
    producer.send(Record::to("t").value("1")).await.unwrap();
    // One round trip to the old leader; a connection, its versions and the batch to the new one.
    assert!(start.elapsed() < 50 * MS, "{:?}", start.elapsed());
    silent.remove();
    assert_eq!(values(&cluster, 0), numbers(2));
}

/// MESSAGE_TOO_LARGE: in two, and again, while others are in flight behind; receipts keep their places.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_for_the_broker_is_split() {
    let cluster = MockCluster::builder().in_memory().start().await;
    let client = far_client(&cluster, 5 * MS).await;
    let topic = milena::NewTopic::new("t", 1, 1).config("max.message.bytes", "20000");
    client.admin().create_topics([topic]).await.unwrap();
    let producer = client.producer().build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..1_000 {
        receipts.push(producer.enqueue(Record::to("t").value(format!("{n:01000}"))).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    assert_eq!(values(&cluster, 0), (0..1_000).map(|n| format!("{n:01000}")).collect::<Vec<_>>());
    assert!(cluster.batches("t", 0).iter().all(|batch| batch.size <= 20_000));

    // A single record that is too large fails alone, and what comes behind it arrives.
    let large = producer.enqueue(Record::to("t").value(vec![b'x'; 30_000])).await.unwrap();
    let small = producer.enqueue(Record::to("t").value("small")).await.unwrap();
    let error = large.await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::RecordTooLarge));
    let text = error.error.to_string();
    assert!(text.contains("max.request.size") && text.contains("max.message.bytes"), "{text}");
    assert_eq!(small.await.unwrap().offset, Some(1_000));
}

#[tokio::test(start_paused = true)]
async fn in_flight_settings_that_do_not_go_together_are_named() {
    let cluster = cluster(1, 1).await;
    let client = far_client(&cluster, MS).await;
    let plain = || client.producer().idempotence(false);
    for (builder, setting) in [
        (client.producer().max_in_flight(6), "max_in_flight is 6: it must be 1 to 5 with idempotence"),
        (client.producer().max_in_flight(0), "max_in_flight is 0"),
        (plain().max_in_flight(0), "max_in_flight is 0"),
        (client.producer().allow_reordering(true), "allow_reordering"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(setting), "{error}");
    }
    plain().max_in_flight(20).allow_reordering(true).build().unwrap();
}

/// Without idempotence a partition has one batch under way, and so keeps its order; by permission it has more.
#[tokio::test(start_paused = true)]
async fn without_idempotence_order_is_given_up_by_name_alone() {
    async fn after_a_refusal(producer: Producer, cluster: &MockCluster) -> Vec<String> {
        producer.send(Record::to("t").value("first")).await.unwrap();
        cluster.inject(When::api(Api::Produce).times(1), Fault::error(19));
        let mut receipts = Vec::new();
        for n in 0..4 {
            receipts.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
            tokio::time::sleep(MS).await;
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
        values(cluster, 0).split_off(1)
    }
    for (allowed, order) in [(false, ["0", "1", "2", "3"]), (true, ["1", "2", "3", "0"])] {
        let cluster = cluster(1, 1).await;
        let client = far_client(&cluster, 10 * MS).await;
        let builder = client.producer().idempotence(false).allow_reordering(allowed).linger(Duration::ZERO);
        let order_seen = after_a_refusal(builder.build().unwrap(), &cluster).await;
        assert_eq!(order_seen, order, "allowed: {allowed}");
    }
}

/// Exception 3: at their deadline the outcomes of several are open. Whatever each is told is true, nothing is doubled, and
/// what comes later arrives behind them.
#[tokio::test(start_paused = true)]
async fn open_outcomes_of_several_are_told_truthfully() {
    for gap in [2 * MS, 500 * MS] {
        let cluster = cluster(1, 1).await;
        let connector = Far { inner: cluster.connector(), one_way: 5 * MS };
        let client = Client::builder(cluster.bootstrap()).connector(connector).request_timeout(SECOND);
        let client = client.connect().await.unwrap();
        let producer = client.producer().linger(Duration::ZERO).delivery_timeout(3 * SECOND).build().unwrap();
        producer.send(Record::to("t").value("0")).await.unwrap();
        let lost = cluster.inject(When::api(Api::Produce), Fault::swallow_answer());
        let mut receipts = Vec::new();
        for n in 1..6 {
            receipts.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
            tokio::time::sleep(gap).await;
        }
        let mut fates = Vec::new();
        for receipt in receipts {
            fates.push(receipt.await.map(|sent| sent.offset.unwrap()).map_err(|error| error.fate));
            lost.remove();
        }
        assert_eq!(fates[0], Err(Fate::Unknown));
        for n in 6..9 {
            producer.send(Record::to("t").value(n.to_string())).await.unwrap();
        }
        let log: Vec<usize> = values(&cluster, 0).iter().map(|value| value.parse().unwrap()).collect();
        assert!(log.is_sorted_by(|a, b| a < b), "once, and in order: {log:?}");
        assert!(log.ends_with(&[6, 7, 8]), "{log:?}");
        for (n, fate) in (1..).zip(fates) {
            match fate {
                Ok(offset) => assert_eq!(log[offset as usize], n),
                Err(Fate::NotWritten) => assert!(!log.contains(&n), "{n} of {log:?}"),
                Err(Fate::Unknown) => {}
            }
        }
    }
}
