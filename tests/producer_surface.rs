//! What a user of the producer sees beside the promises of `producer.rs`: who chooses partitions, the ways to send, what
//! is told. On the mock cluster in memory, on paused time.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::partitioner::{Candidate, Consistent, ConsistentRandom, Partitioner, RoundRobin};
use milena::{
    Acks, Client, DeliveryError, ErrorKind, Fate, Interceptor, NewTopic, Producer, ProducerBuilder, Record,
    RecordMetadata,
};

const SECOND: Duration = Duration::from_secs(1);

async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}

async fn client(cluster: &MockCluster) -> Client {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap()
}

/// A topic `t` whose partition n has its only replica at broker n + 1.
async fn spread(cluster: &MockCluster, client: &Client, partitions: i32) {
    let brokers = cluster.bootstrap().len() as i32;
    let placed = NewTopic::named("t").assignments((0..partitions).map(|n| [n % brokers + 1]));
    client.admin().create_topics([placed]).await.unwrap();
}

fn counts(cluster: &MockCluster, partitions: i32) -> Vec<usize> {
    (0..partitions).map(|partition| cluster.log("t", partition).len()).collect()
}

/// A producer on a topic `t` of so many partitions.
async fn producer(partitions: usize, with: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> (MockCluster, Producer) {
    let cluster = cluster(1).await;
    cluster.create_topic("t", partitions);
    let producer = with(client(&cluster).await.producer()).build().unwrap();
    (cluster, producer)
}

async fn place(producer: &Producer, key: &str) -> i32 {
    producer.send(Record::to("t").key(key).value("v")).await.unwrap().partition
}

#[tokio::test(start_paused = true)]
async fn keys_go_where_other_clients_put_them() {
    // kafka-clients 4.3.1, and librdkafka 2.16 with `consistent_random` and `consistent`.
    let (_cluster, java) = producer(6, |builder| builder).await;
    let (_cluster, librdkafka) = producer(4, |builder| builder.partitioner(ConsistentRandom)).await;
    let (_cluster, consistent) = producer(4, |builder| builder.partitioner(Consistent)).await;
    for (key, murmur2_of_6, crc32_of_4) in [("21", 0, 0), ("abc", 3, 2), ("1", 3, 3), ("user-2", 2, 2), ("42", 4, 0)] {
        assert_eq!(place(&java, key).await, murmur2_of_6, "{key}");
        assert_eq!(place(&librdkafka, key).await, crc32_of_4, "{key}");
        assert_eq!(place(&consistent, key).await, crc32_of_4, "{key}");
    }
    assert_eq!(consistent.send(Record::to("t").value("v")).await.unwrap().partition, 0);
    // A record that names its partition goes there.
    for producer in [java, librdkafka] {
        let sent = producer.send(Record::to("t").key("abc").partition(1).value("v")).await.unwrap();
        assert_eq!(sent.partition, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn one_run_of_keyless_records_fills_one_batch() {
    let (cluster, producer) = producer(4, |builder| builder.linger(SECOND)).await;
    for _ in 0..80_000 {
        producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap();
    }
    producer.flush().await;
    let batches: Vec<_> = (0..4).flat_map(|partition| cluster.batches("t", partition)).collect();
    let sizes: Vec<_> = batches.iter().map(|batch| batch.last_offset - batch.base_offset + 1).collect();
    // 128 KiB of 110 to 111 bytes each; the last batch is what was left.
    assert_eq!(sizes.iter().sum::<i64>(), 80_000);
    assert_eq!(sizes.iter().filter(|size| !(1_170..=1_192).contains(*size)).count(), 1, "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_can_be_ignored() {
    let (cluster, producer) = producer(4, |builder| builder.partitioner_ignore_keys(true).batch_size(1_000)).await;
    for _ in 0..4_000 {
        producer.enqueue(Record::to("t").key("the same").value(&[0; 100])).await.unwrap();
    }
    producer.flush().await;
    for count in counts(&cluster, 4) {
        assert!(count.abs_diff(1_000) < 300, "{count}");
    }
}

#[tokio::test(start_paused = true)]
async fn round_robin_takes_turns_and_counts_each_record_once() {
    // Of memory for a few records: most of them wait for it, and are still asked about once.
    let (cluster, producer) = producer(3, |builder| builder.partitioner(RoundRobin).buffer_memory(4_096)).await;
    for n in 0..300 {
        let record = Record::to("t").key("the same").value(n.to_string()).header("pad", vec![0; 500]);
        producer.enqueue(record).await.unwrap();
    }
    producer.flush().await;
    for partition in 0..3 {
        let values: Vec<_> = cluster.log("t", partition).iter().map(|record| record.value.clone().unwrap()).collect();
        let expected: Vec<_> = (0..100).map(|n| (n * 3 + partition).to_string()).collect();
        assert_eq!(values, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn keyless_records_avoid_what_has_no_leader_and_keyed_ones_wait_for_it() {
    let cluster = cluster(3).await;
    let client = client(&cluster).await;
    spread(&cluster, &client, 3).await;
    for partitioner in ["sticky", "round robin"] {
        let builder = client.producer().batch_size(500);
        let producer = match partitioner {
            "sticky" => builder.build().unwrap(),
            _ => builder.partitioner(RoundRobin).build().unwrap(),
        };
        producer.send(Record::to("t").value("known")).await.unwrap();
        cluster.stop_broker(2).await;
        // A record finds that out.
        let sent = producer.send(Record::to("t").partition(1).value("v"));
        tokio::time::timeout(2 * SECOND, sent).await.unwrap_err();
        let before = counts(&cluster, 3);
        let mut receipts = Vec::new();
        for _ in 0..600 {
            receipts.push(producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap());
        }
        let start = tokio::time::Instant::now();
        for receipt in receipts {
            receipt.await.unwrap();
        }
        assert!(start.elapsed() < SECOND, "{partitioner}: {:?}", start.elapsed());
        let after = counts(&cluster, 3);
        assert_eq!(after[1], before[1], "{partitioner}");
        assert!(after[0] > before[0] + 150 && after[2] > before[2] + 150, "{partitioner}: {after:?}");
        if partitioner == "sticky" {
            // Java's partition 1 of 3 for this key, whoever leads.
            let keyed = producer.enqueue(Record::to("t").key("ünïcödé").value("v")).await.unwrap();
            assert_eq!(keyed.topic_partition().partition, 1);
            cluster.start_broker(2).await;
            assert_eq!(keyed.await.unwrap().partition, 1);
        }
        cluster.start_broker(2).await;
        producer.close(60 * SECOND).await.unwrap();
    }
}

/// Rule 15: with no leader at all every partition is used, and nothing is refused.
#[tokio::test(start_paused = true)]
async fn without_any_leader_all_partitions_are_used() {
    let cluster = cluster(3).await;
    let client = client(&cluster).await;
    let placed = NewTopic::named("t").assignments((0..2).map(|n| [n + 2]));
    client.admin().create_topics([placed]).await.unwrap();
    let producer = client.producer().batch_size(500).build().unwrap();
    producer.send(Record::to("t").value("known")).await.unwrap();
    cluster.stop_broker(2).await;
    cluster.stop_broker(3).await;
    tokio::time::sleep(2 * SECOND).await;
    let mut receipts = Vec::new();
    for _ in 0..200 {
        receipts.push(producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap());
    }
    tokio::time::sleep(2 * SECOND).await;
    cluster.start_broker(2).await;
    cluster.start_broker(3).await;
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let counts = counts(&cluster, 2);
    assert_eq!(counts.iter().sum::<usize>(), 201);
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
}

/// KIP-794: what a slow broker gets follows its speed; without adaptation it gets as much as the others.
#[tokio::test(start_paused = true)]
async fn a_slow_broker_gets_less() {
    for (adaptive, share) in [(true, 0.0..0.15), (false, 0.28..0.39)] {
        let cluster = cluster(3).await;
        let client = client(&cluster).await;
        spread(&cluster, &client, 3).await;
        let producer = client.producer().batch_size(2_000).linger(Duration::ZERO).adaptive_partitioning(adaptive);
        let producer = producer.build().unwrap();
        cluster.inject(When::api(Api::Produce).broker(2), Fault::delay(SECOND / 5));
        for n in 0..20_000 {
            producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap();
            if n % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        producer.flush().await;
        let counts = counts(&cluster, 3);
        assert_eq!(counts.iter().sum::<usize>(), 20_000);
        let slow = counts[1] as f64 / 20_000.0;
        assert!(share.contains(&slow), "adaptive {adaptive}: {counts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_leader_takes_nothing_is_passed_over() {
    let cluster = cluster(3).await;
    let client = client(&cluster).await;
    spread(&cluster, &client, 3).await;
    let producer = client.producer().batch_size(500).partition_availability_timeout(SECOND / 2).build().unwrap();
    producer.send(Record::to("t").partition(1).value("known")).await.unwrap();
    cluster.inject(When::api(Api::Produce).partition("t", 1), Fault::error(19));
    let stuck = producer.enqueue(Record::to("t").partition(1).value("stuck")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    for _ in 0..1_000 {
        let sent = producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap();
        assert_ne!(sent.topic_partition().partition, 1);
    }
    cluster.clear_faults();
    assert_eq!(stuck.await.unwrap().offset, Some(1));
}

/// Rule 24: it runs under no lock of the client, so it may use the producer that asks it.
#[tokio::test(start_paused = true)]
async fn a_partitioner_may_use_its_producer() {
    #[derive(Clone, Default)]
    struct Copying(Arc<OnceLock<Producer>>);

    impl Partitioner for Copying {
        fn partition(&self, record: &Candidate<'_>) -> Option<i32> {
            assert_eq!((record.topic, record.partitions, record.available), ("t", 3, &[0, 1, 2][..]));
            let producer = self.0.get().unwrap();
            producer.try_enqueue(Record::to("t").partition(2).value("copy")).unwrap();
            match record.key {
                Some(b"nowhere") => Some(3),
                Some(b"negative") => Some(-1),
                _ => Some((record.nth % 2) as i32),
            }
        }
    }

    let copying = Copying::default();
    let (cluster, producer) = producer(3, |builder| builder.partitioner(copying.clone())).await;
    copying.0.set(producer.clone()).unwrap();
    for n in 0..4 {
        assert_eq!(producer.send(Record::to("t").value("v")).await.unwrap().partition, n % 2);
    }
    for (key, index) in [("nowhere", 3), ("negative", -1)] {
        let error = producer.send(Record::to("t").key(key)).await.unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::UnknownPartition, "{error}");
        assert!(error.to_string().contains(&format!("no partition {index}")), "{error}");
    }
    producer.flush().await;
    assert_eq!(counts(&cluster, 3)[..2], [2, 2]);
    assert!(counts(&cluster, 3)[2] >= 6);
}

#[tokio::test(start_paused = true)]
async fn settings_that_do_not_go_together_are_named() {
    let cluster = cluster(1).await;
    let client = client(&cluster).await;
    for (builder, names) in [
        (
            client.producer().partitioner(RoundRobin).partitioner_ignore_keys(true),
            ["partitioner_ignore_keys", "partitioner("],
        ),
        (
            client.producer().adaptive_partitioning(false).partition_availability_timeout(SECOND),
            ["adaptive_partitioning", "partition_availability_timeout"],
        ),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(names.iter().all(|name| error.to_string().contains(name)), "{error}");
    }
}

/// Case for case what `ProducerConfig` of kafka-clients 4.3.1 makes of `acks` and `enable.idempotence`.
#[tokio::test(start_paused = true)]
async fn acks_and_idempotence_combine_as_in_java() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let all = Some(Acks::All);
    for (acks, idempotence, expected) in [
        (None, None, Some(true)),
        (None, Some(true), Some(true)),
        (None, Some(false), Some(false)),
        (all, None, Some(true)),
        (all, Some(true), Some(true)),
        (all, Some(false), Some(false)),
        (Some(Acks::Leader), None, Some(false)),
        (Some(Acks::Leader), Some(true), None),
        (Some(Acks::Leader), Some(false), Some(false)),
        (Some(Acks::None), None, Some(false)),
        (Some(Acks::None), Some(true), None),
        (Some(Acks::None), Some(false), Some(false)),
    ] {
        let mut builder = client.producer();
        if let Some(acks) = acks {
            builder = builder.acks(acks);
        }
        if let Some(on) = idempotence {
            builder = builder.idempotence(on);
        }
        match (builder.build(), expected) {
            (Ok(producer), Some(is_idempotent)) => {
                producer.send(Record::to("t").value("v")).await.unwrap();
                producer.close(SECOND).await.unwrap();
                let sequence = cluster.batches("t", 0).last().unwrap().base_sequence;
                assert_eq!(sequence, if is_idempotent { 0 } else { -1 }, "{acks:?} {idempotence:?}");
            }
            (Err(error), None) => {
                let text = error.to_string();
                assert!(text.contains("idempotence(true)") && text.contains("acks(Acks::All)"), "{text}");
                assert!(text.contains(&format!("acks is {:?}", acks.unwrap())), "{text}");
            }
            (built, _) => panic!("{acks:?} {idempotence:?}: {built:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_handle_leads_where_its_name_does() {
    let (cluster, producer) = producer(4, |builder| builder.partitioner(RoundRobin)).await;
    let handle = producer.topic("t");
    assert_eq!((handle.name(), format!("{handle:?}")), ("t", "ProducerTopic(\"t\")".into()));
    for n in 0..4 {
        let record = if n % 2 == 0 { Record::to(&handle) } else { Record::to("t") };
        assert_eq!(producer.send(record.value("v")).await.unwrap().partition, n);
    }
    // Another producer's: it works, and that one's turns are not touched.
    let other = client(&cluster).await.producer().partitioner(RoundRobin).build().unwrap();
    assert_eq!(other.send(Record::to(&handle).value("v")).await.unwrap().partition, 0);
    assert_eq!(producer.send(Record::to(&handle).value("v")).await.unwrap().partition, 0);
    let missing = producer.topic("no such topic!");
    let error = producer.try_enqueue(Record::to(&missing).value("v")).unwrap_err();
    assert!(error.error.is_retriable(), "{error}");
    let error = producer.send(Record::to(&missing).value("v")).await.unwrap_err();
    assert_eq!(error.fate, Fate::NotWritten);
    assert!(error.to_string().contains("no such topic!"), "{error}");
    producer.close(SECOND).await.unwrap();
    let error = producer.send(Record::to(&handle).value("v")).await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn many_records_by_one_call() {
    let (cluster, producer) = producer(1, |builder| builder.buffer_memory(40_000)).await;
    cluster.create_topic("u", 1);
    let values: Vec<_> = (0..2_000).map(|n| n.to_string()).collect();
    // Of two topics in turn, and more than there is memory for at once.
    let record = |(n, value): (usize, &'_ String)| Record::to(if n % 3 == 0 { "u" } else { "t" }).value(value.clone());
    let receipts = producer.enqueue_all(values.iter().enumerate().map(record)).await.unwrap();
    assert_eq!(receipts.len(), 2_000);
    for (n, receipt) in receipts.into_iter().enumerate() {
        let sent = receipt.await.unwrap();
        let offset = if n % 3 == 0 { n / 3 } else { n - n / 3 - 1 };
        assert_eq!((&*sent.topic, sent.offset), (if n % 3 == 0 { "u" } else { "t" }, Some(offset as i64)));
    }
    // A slice, sent and waited for; it is still there.
    let slice = [Record::to("t").value("a"), Record::to("t").value("b")];
    let results = producer.send_all(&slice).await;
    let offsets: Vec<_> = results.into_iter().map(|result| result.unwrap().offset.unwrap()).collect();
    assert_eq!(offsets, [1_333, 1_334]);
    assert!(producer.send_all(Vec::<Record<'_>>::new()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_refused_ends_the_call_in_order() {
    let (cluster, producer) = producer(1, |builder| builder.max_request_size(10_000)).await;
    let sizes = [10, 20, 20_000, 30];
    let records = || sizes.map(|size| Record::to("t").value(vec![0; size]));
    let results = producer.send_all(records()).await;
    let kinds: Vec<_> =
        results.iter().map(|result| result.as_ref().map_err(|e| (e.fate, e.error.kind())).err()).collect();
    let refused = Some((Fate::NotWritten, ErrorKind::RecordTooLarge));
    assert_eq!(kinds, [None, None, refused, refused]);
    let error = producer.enqueue_all(records()).await.unwrap_err();
    assert_eq!((error.receipts.len(), error.error.kind()), (2, ErrorKind::RecordTooLarge));
    assert!(error.to_string().starts_with("record 2 of the call was not enqueued"), "{error}");
    for receipt in error.receipts {
        receipt.await.unwrap();
    }
    assert_eq!(counts(&cluster, 1), [4]);
}

/// On a current-thread runtime others get their turn, however long the slice.
#[tokio::test(start_paused = true)]
async fn a_long_slice_starves_nobody() {
    let (_cluster, producer) = producer(1, |builder| builder).await;
    producer.send(Record::to("t").value("known")).await.unwrap();
    let turns = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    producer.enqueue_all((0..10_000).map(|_| Record::to("t").value("v"))).await.unwrap();
    assert!(turns.load(Ordering::Relaxed) >= 78, "{turns:?}");
    other.abort();
}

/// Rule 24: callbacks run once, in order, outside every lock: they may send, to the same partition too.
#[tokio::test(start_paused = true)]
async fn callbacks_tell_each_record_once_and_may_send() {
    let (cluster, producer) = producer(1, |builder| builder).await;
    producer.send(Record::to("t").value("known")).await.unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    for n in 0..100 {
        let (told, again) = (Arc::clone(&told), producer.clone());
        producer.enqueue(Record::to("t").value("v")).await.unwrap().on_delivery(move |result| {
            told.lock().unwrap().push((n, result.unwrap().offset.unwrap()));
            again.try_enqueue(Record::to("t").value("again")).unwrap();
        });
    }
    producer.flush().await;
    assert_eq!(*told.lock().unwrap(), (0..100).map(|n| (n, n + 1)).collect::<Vec<_>>());
    producer.flush().await;
    assert_eq!(counts(&cluster, 1), [201]);

    // One that panics harms nobody: not those of its batch, not the partition.
    let told = Arc::new(AtomicUsize::new(0));
    for n in 0..10 {
        let told = Arc::clone(&told);
        producer.enqueue(Record::to("t").value("v")).await.unwrap().on_delivery(move |result| {
            assert!(n != 5, "a user's mistake");
            result.unwrap();
            told.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(producer.send(Record::to("t").value("v")).await.unwrap().offset, Some(211));
    assert_eq!(told.load(Ordering::Relaxed), 9);

    // What is known already is told at once, and failures are told too.
    let late = producer.enqueue(Record::to("t").value("v")).await.unwrap();
    producer.flush().await;
    let (done, result) = std::sync::mpsc::channel();
    let other = done.clone();
    late.on_delivery(move |result| done.send(result).unwrap());
    assert_eq!(result.try_recv().unwrap().unwrap().offset, Some(212));
    cluster.inject(When::api(Api::Produce), Fault::stall());
    let receipt = producer.enqueue(Record::to("t").value("v")).await.unwrap();
    receipt.on_delivery(move |result| other.send(result).unwrap());
    tokio::time::sleep(SECOND).await;
    producer.close(SECOND).await.unwrap_err();
    let error = result.try_recv().unwrap().unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::Unknown, ErrorKind::Closed));
}

#[derive(Clone, Default)]
struct Recorder {
    sent: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<Result<i64, ErrorKind>>>>,
    producer: Arc<OnceLock<Producer>>,
}

impl Interceptor for Recorder {
    fn on_send<'a>(&self, record: Record<'a>) -> Record<'a> {
        let n = self.sent.fetch_add(1, Ordering::Relaxed);
        record.header("n", n.to_string())
    }

    fn on_acknowledgement(&self, result: Result<&RecordMetadata, &DeliveryError>) {
        let told = result.map(|sent| sent.offset.unwrap()).map_err(|error| error.error.kind());
        self.told.lock().unwrap().push(told);
        // Under no lock either: one more record for the first.
        if told == Ok(0) {
            let producer = self.producer.get().unwrap();
            producer.try_enqueue(Record::to("t").value("from the interceptor")).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_every_record_and_every_outcome() {
    let recorder = Recorder::default();
    let (cluster, producer) = producer(1, |builder| builder.interceptor(recorder.clone()).interceptor(Second)).await;
    recorder.producer.set(producer.clone()).unwrap();
    producer.send(Record::to("t").value("v")).await.unwrap();
    let slice = [Record::to("t").value("a"), Record::to("t").value("b")];
    for result in producer.send_all(&slice).await {
        result.unwrap();
    }
    producer.try_enqueue(Record::to("t").value("c")).unwrap().await.unwrap();
    producer.send(Record::to("t").partition(7).value("v")).await.unwrap_err();
    let refused = producer.try_enqueue(Record::to("t").value(vec![0; 2 << 20]).header("own", "h")).unwrap_err();
    assert_eq!(refused.record, Record::to("t").value(vec![0; 2 << 20]).header("own", "h"), "as it was");
    producer.flush().await;
    let told = recorder.told.lock().unwrap().clone();
    let expected =
        [Ok(0), Ok(1), Ok(2), Ok(3), Ok(4), Err(ErrorKind::UnknownPartition), Err(ErrorKind::RecordTooLarge)];
    assert_eq!(told, expected);
    assert_eq!(recorder.sent.load(Ordering::Relaxed), 7);
    for record in cluster.log("t", 0) {
        let names: Vec<_> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["n", "second"]);
    }
}

/// Behind the first one, and with nothing to say about outcomes.
struct Second;

impl Interceptor for Second {
    fn on_send<'a>(&self, record: Record<'a>) -> Record<'a> {
        record.null_header("second")
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_for_tells_of_a_topic() {
    let cluster = cluster(3).await;
    let client = client(&cluster).await;
    spread(&cluster, &client, 3).await;
    let producer = client.producer().max_block(SECOND).build().unwrap();
    let partitions = producer.partitions_for("t").await.unwrap();
    let seen: Vec<_> = partitions.iter().map(|p| (p.index, p.leader, &p.replicas[..], &p.in_sync[..])).collect();
    assert_eq!(seen, [(0, Some(1), &[1][..], &[1][..]), (1, Some(2), &[2], &[2]), (2, Some(3), &[3], &[3])]);
    let error = producer.partitions_for("no such topic!").await.unwrap_err();
    assert!(error.to_string().contains("no such topic!"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn values_as_json() {
    let (cluster, producer) = producer(1, |builder| builder).await;
    let record = Record::to("t").json_key(&42).unwrap().json(&serde_json::json!({"a": [1, null]})).unwrap();
    producer.send(record).await.unwrap();
    let log = cluster.log("t", 0);
    assert_eq!((log[0].key.as_deref(), log[0].value.as_deref()), (Some(&b"42"[..]), Some(&b"{\"a\":[1,null]}"[..])));
    let map = std::collections::BTreeMap::from([((1, 2), "a pair is no key")]);
    let error = Record::to("t").json(&map).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Serialization);
    assert!(!error.is_retriable());
    let text = error.to_string();
    assert!(text.contains("value of a record for topic `t`") && text.contains("key must be a string"), "{text}");
    assert!(Record::to("t").json_key(&map).unwrap_err().to_string().contains("the key of a record"));
}

/// What was sent is unknown, what was not is not written, and what comes after arrives.
#[tokio::test(start_paused = true)]
async fn a_purge_gives_up_what_waits_and_the_producer_goes_on() {
    for leaderless in [false, true] {
        let (cluster, producer) = producer(1, |builder| builder.max_in_flight(1).linger(Duration::ZERO)).await;
        producer.send(Record::to("t").value("known")).await.unwrap();
        if leaderless {
            cluster.stop_broker(1).await;
        } else {
            cluster.hang_broker(1);
        }
        let first = producer.enqueue(Record::to("t").value("first")).await.unwrap();
        tokio::time::sleep(SECOND / 10).await;
        let second = producer.enqueue(Record::to("t").value("second")).await.unwrap();
        producer.purge();
        let after = producer.enqueue(Record::to("t").value("after")).await.unwrap();
        let start = tokio::time::Instant::now();
        let (first, second) = (first.await.unwrap_err(), second.await.unwrap_err());
        assert!(start.elapsed() < SECOND / 10, "{:?}", start.elapsed());
        assert_eq!((first.error.kind(), second.error.kind()), (ErrorKind::Purged, ErrorKind::Purged));
        let fate = if leaderless { Fate::NotWritten } else { Fate::Unknown };
        assert_eq!((first.fate, second.fate), (fate, Fate::NotWritten), "leaderless {leaderless}");
        if leaderless {
            cluster.start_broker(1).await;
        } else {
            cluster.resume_broker(1);
        }
        after.await.unwrap();
        let values: Vec<_> = cluster.log("t", 0).iter().map(|record| record.value.clone().unwrap()).collect();
        assert!(
            values.first().is_some_and(|value| *value == "known")
                && values.last().is_some_and(|value| *value == "after")
        );
        assert!(!values.iter().any(|value| *value == "second"), "{values:?}");
        assert_eq!(producer.metrics().buffer_used, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_count_batches_and_requests() {
    let (cluster, producer) = producer(2, |builder| builder.max_request_size(5_000).batch_size(1_000)).await;
    producer.send(Record::to("t").partition(0).value("v")).await.unwrap();
    let first = producer.metrics();
    assert_eq!((first.records, first.records_acknowledged, first.records_failed, first.batches), (1, 1, 0, 1));
    // 61 bytes of header, 8 of the record.
    assert_eq!((first.batch_bytes, first.requests, first.retries), (69, 1, 0));
    assert_eq!((first.queue_time.count, first.request_latency.count), (1, 1));
    assert_eq!(first.queue_time.max.as_millis(), 5, "its linger");
    assert_eq!((first.buffer_used, first.buffer_total, first.compression_ratio()), (0, 32 << 20, 1.0));

    // Two attempts that are refused, then one that is slow; and while it is on its way its memory is in use.
    cluster.inject(When::api(Api::Produce).times(2), Fault::error(7));
    cluster.inject(When::api(Api::Produce), Fault::delay_answer(SECOND / 50));
    let receipts = producer.enqueue_all((0..8).map(|_| Record::to("t").partition(1).value(&[0; 100]))).await.unwrap();
    tokio::time::sleep(SECOND / 100).await;
    assert_eq!(producer.metrics().buffer_used, 61 + 8 * 109);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let second = producer.metrics();
    assert_eq!((second.records, second.records_acknowledged, second.batches), (9, 9, 2));
    assert_eq!((second.requests, second.retries, second.requests_failed), (4, 2, 0));
    assert_eq!(second.request_latency.max.as_millis(), 20);
    assert_eq!(second.buffer_used, 0);
    cluster.clear_faults();

    // Refused for good, and a request that nobody answers.
    cluster.inject(When::api(Api::Produce).times(1), Fault::error(29));
    producer.send(Record::to("t").partition(0).value("v")).await.unwrap_err();
    cluster.inject(When::api(Api::Produce).times(1), Fault::close());
    producer.send(Record::to("t").partition(0).value("v")).await.unwrap();
    let third = producer.metrics();
    assert_eq!((third.records_failed, third.records_acknowledged), (1, 10));
    assert_eq!((third.requests_failed, third.retries), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_how_well_batches_compress() {
    let (_cluster, producer) = producer(1, |builder| builder.compression(milena::Compression::Lz4)).await;
    producer.send_all((0..1_000).map(|_| Record::to("t").value(&[b'a'; 100]))).await;
    let metrics = producer.metrics();
    assert_eq!((metrics.codec_input_bytes, metrics.records_acknowledged), (metrics.batch_bytes, 1_000));
    assert!(metrics.compression_ratio() < 0.1, "{metrics:?}");
}

/// The same counts, for whatever recorder is installed when the producer is built.
#[tokio::test(start_paused = true)]
async fn metrics_go_to_the_recorder() {
    let recorder = Recorded::default();
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let producer = metrics::with_local_recorder(&recorder, || client.producer().build().unwrap());
    producer.send_all((0..10).map(|_| Record::to("t").value("v"))).await;
    let counted = recorder.counters.lock().unwrap();
    let count =
        |name: &str| counted.iter().find(|(key, _)| key == name).map(|(_, value)| value.load(Ordering::Relaxed));
    assert_eq!(count("milena_producer_records_acknowledged{client_id=milena}"), Some(10));
    assert_eq!(count("milena_producer_requests{client_id=milena}"), Some(producer.metrics().requests));
}

#[derive(Default)]
struct Recorded {
    counters: Mutex<Vec<(String, Arc<std::sync::atomic::AtomicU64>)>>,
}

impl metrics::Recorder for Recorded {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let value = Arc::default();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        self.counters.lock().unwrap().push((name, Arc::clone(&value)));
        metrics::Counter::from_arc(value)
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}
