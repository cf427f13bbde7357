//! What a user of the producer sees beside the promises of `producer.rs`: who chooses partitions, the ways to send, what
//! is told. On the mock cluster in memory, on paused time.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::partitioner::{Candidate, Consistent, ConsistentRandom, Partitioner, RoundRobin};
use milena::{Acks, Client, ErrorKind, NewTopic, Producer, ProducerBuilder, Record};

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
        // The first records may find that out.
        for _ in 0..20 {
            let _ = tokio::time::timeout(SECOND, producer.send(Record::to("t").value("v"))).await;
        }
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
