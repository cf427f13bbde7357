//! The producer's promises, on the mock cluster.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

use std::time::Duration;

use futures_util::FutureExt;
use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Acks, Client, ErrorCode, ErrorKind, Fate, Producer, Record};

const SECOND: Duration = Duration::from_secs(1);

async fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}

async fn client(cluster: &MockCluster) -> Client {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap()
}

/// A client that gives up a request after a second.
async fn hasty_client(cluster: &MockCluster) -> Client {
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector());
    builder.request_timeout(SECOND).connect().await.unwrap()
}

/// A producer on a topic `t` of so many partitions, everything in memory, on paused time.
async fn producer(brokers: i32, partitions: usize) -> (MockCluster, Producer) {
    let cluster = cluster(brokers).await;
    cluster.create_topic("t", partitions);
    let producer = client(&cluster).await.producer().build().unwrap();
    (cluster, producer)
}

fn values(cluster: &MockCluster, partition: i32) -> Vec<String> {
    let log = cluster.log("t", partition);
    log.iter().map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_record_arrives_whole() {
    let (cluster, producer) = producer(1, 1).await;
    let record = Record::to("t").key("k").value("v").timestamp(1_234).header("a", "1").null_header("a").header("b", "");
    let sent = producer.send(record).await.unwrap();
    assert_eq!((sent.partition, sent.offset, sent.log_append_time), (0, Some(0), None));
    let tombstone = producer.send(Record::to("t").key("k")).await.unwrap();
    assert_eq!(tombstone.offset, Some(1));
    let log = cluster.log("t", 0);
    assert_eq!(log[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(log[0].value.as_deref(), Some(&b"v"[..]));
    assert_eq!(log[0].timestamp, 1_234);
    let headers: Vec<_> = log[0].headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&b""[..]))]);
    assert_eq!(log[1].value, None);
    assert!(cluster.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn records_share_batches_and_receipts_tell_their_offsets() {
    let (cluster, producer) = producer(1, 1).await;
    let mut receipts = Vec::new();
    for n in 0..10_000 {
        receipts.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
    assert_eq!(values(&cluster, 0), numbers(10_000));
    let batches = cluster.batches("t", 0);
    assert!(batches.len() <= 4, "{} batches", batches.len());
    // Idempotent, one epoch, sequences without a gap.
    let mut next = 0;
    for batch in batches {
        assert_eq!((batch.producer_epoch, batch.base_sequence), (0, next));
        next += (batch.last_offset - batch.base_offset + 1) as i32;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_choose_partitions_as_java_does() {
    let (_cluster, producer) = producer(3, 6).await;
    for (key, hash) in [("21", -973932308i32), ("foobar", -790332482), ("abc", 479470107)] {
        let sent = producer.send(Record::to("t").key(key).value("v")).await.unwrap();
        assert_eq!(sent.partition, (hash & i32::MAX) % 6, "{key}");
    }
    let sent = producer.send(Record::to("t").key("abc").partition(5).value("v")).await.unwrap();
    assert_eq!(sent.partition, 5);
}

#[tokio::test(start_paused = true)]
async fn keyless_records_reach_every_partition_in_runs() {
    let (cluster, producer) = producer(1, 4).await;
    for _ in 0..80_000 {
        producer.enqueue(Record::to("t").value(&[0; 100])).await.unwrap();
    }
    producer.flush().await;
    let counts: Vec<_> = (0..4).map(|p| cluster.log("t", p).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 80_000);
    assert!(counts.iter().all(|&count| count > 1_000), "{counts:?}");
    let batches: usize = (0..4).map(|p| cluster.batches("t", p).len()).sum();
    assert!(batches < 160, "{batches} batches for 8.8 MB");
}

#[tokio::test(start_paused = true)]
async fn lingering_waits_for_company_and_zero_does_not() {
    let (cluster, producer) = producer(1, 1).await;
    producer.send(Record::to("t").value("warm")).await.unwrap();
    let start = tokio::time::Instant::now();
    producer.send(Record::to("t").value("v")).await.unwrap();
    assert!((5..7).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let eager = client(&cluster).await.producer().linger(Duration::ZERO).build().unwrap();
    eager.send(Record::to("t").value("warm")).await.unwrap();
    let start = tokio::time::Instant::now();
    eager.send(Record::to("t").value("v")).await.unwrap();
    assert!(start.elapsed().as_millis() < 2, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_lingering() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let patient = client(&cluster).await.producer().linger(60 * SECOND).delivery_timeout(120 * SECOND).build().unwrap();
    let start = tokio::time::Instant::now();
    let a = patient.enqueue(Record::to("t").partition(0).value("v")).await.unwrap();
    let b = patient.enqueue(Record::to("t").partition(1).value("v")).await.unwrap();
    patient.flush().await;
    assert!(a.now_or_never().unwrap().is_ok() && b.now_or_never().unwrap().is_ok());
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Rule 17: a long linger, and a caller that waits for memory.
#[tokio::test(start_paused = true)]
async fn a_full_buffer_ends_lingering() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let patient = client(&cluster).await.producer().linger(60 * SECOND).delivery_timeout(120 * SECOND);
    let patient = patient.buffer_memory(64 << 10).build().unwrap();
    let start = tokio::time::Instant::now();
    for n in 0..1000 {
        patient.enqueue(Record::to("t").partition(n % 4).value(&[0; 1000])).await.unwrap();
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Row 2: the log has it, the answer was lost. The same bytes again are recognised.
#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_makes_no_duplicate() {
    for every in 1..=5 {
        let (cluster, producer) = producer(1, 2).await;
        cluster.inject(When::api(Api::Produce).every(every + 1), Fault::lose_answer());
        let mut offsets = Vec::new();
        for n in 0..50 {
            let record = Record::to("t").partition(0).value(n.to_string());
            offsets.push(producer.send(record).await.unwrap().offset.unwrap());
        }
        assert_eq!(offsets, (0..50).collect::<Vec<_>>(), "the original offset, every {every}");
        assert_eq!(values(&cluster, 0), numbers(50));
    }
}

#[tokio::test(start_paused = true)]
async fn order_survives_a_storm_of_retriable_errors() {
    for (seed, code) in [(1, 6), (2, 7), (3, 19), (4, 20), (5, 3), (6, 56), (7, 2)] {
        let cluster = MockCluster::builder().brokers(3).in_memory().seed(seed).start().await;
        cluster.create_topic("t", 3);
        let producer = client(&cluster).await.producer().linger(Duration::ZERO).build().unwrap();
        cluster.inject(When::api(Api::Produce).probability(0.3), Fault::error(code));
        cluster.inject(When::api(Api::Produce).probability(0.1), Fault::lose_answer());
        cluster.inject(When::api(Api::Produce).probability(0.1), Fault::close());
        let mut receipts = Vec::new();
        for n in 0..300 {
            let record = Record::to("t").partition(n % 3).value((n / 3).to_string());
            receipts.push(producer.enqueue(record).await.unwrap());
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        for receipt in receipts {
            receipt.await.unwrap_or_else(|error| panic!("code {code}: {error}"));
        }
        for partition in 0..3 {
            assert_eq!(values(&cluster, partition), numbers(100), "code {code}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leaders_move_and_brokers_stop_without_loss() {
    let (cluster, producer) = producer(3, 3).await;
    let mut receipts = Vec::new();
    for n in 0..600 {
        receipts.push(producer.enqueue(Record::to("t").partition(n % 3).value((n / 3).to_string())).await.unwrap());
        let live = cluster.live_brokers();
        match n {
            100 => {
                let old = cluster.leader("t", 0).unwrap();
                let new = live.iter().copied().find(|&broker| broker != old).unwrap();
                cluster.move_leader("t", 0, new);
            }
            200 => cluster.stop_broker(cluster.leader("t", 1).unwrap()).await,
            400 => {
                let gone = (0..=3).find(|broker| !live.contains(broker) && *broker >= live[0].min(1)).unwrap();
                cluster.start_broker(gone).await;
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for receipt in receipts {
        receipt.await.unwrap();
    }
    for partition in 0..3 {
        assert_eq!(values(&cluster, partition), numbers(200));
    }
}

/// A hung leader whose partition has moved: once the picture says so, the batch goes to the new leader at once.
#[tokio::test(start_paused = true)]
async fn a_batch_does_not_wait_for_a_hung_leader_that_lost_its_partition() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 1);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).metadata_max_age(SECOND);
    let producer = client.connect().await.unwrap().producer().build().unwrap();
    producer.send(Record::to("t").value("0")).await.unwrap();
    let old = cluster.leader("t", 0).unwrap();
    cluster.hang_broker(old);
    let receipt = producer.enqueue(Record::to("t").value("1")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let new = cluster.live_brokers().into_iter().find(|&broker| broker != old).unwrap();
    cluster.move_leader("t", 0, new);
    let start = tokio::time::Instant::now();
    receipt.await.unwrap();
    assert!(start.elapsed() < 3 * SECOND, "{:?}: not after the request's 30 s", start.elapsed());
    cluster.resume_broker(old);
    producer.send(Record::to("t").value("2")).await.unwrap();
    assert_eq!(values(&cluster, 0), numbers(3));
}

#[tokio::test(start_paused = true)]
async fn a_definite_rejection_fails_its_batch_alone() {
    let (cluster, producer) = producer(1, 2).await;
    producer.send(Record::to("t").partition(0).value("0")).await.unwrap();
    // INVALID_RECORD: never written.
    cluster.inject(When::api(Api::Produce).partition("t", 0).times(1), Fault::error(87));
    let error = producer.send(Record::to("t").partition(0).value("bad")).await.unwrap_err();
    assert_eq!(error.fate, Fate::NotWritten);
    assert_eq!(error.error.code().unwrap().0, 87);
    assert_eq!(error.error.topic_partition().unwrap().to_string(), "t-0");
    for n in 1..4 {
        producer.send(Record::to("t").partition(0).value(n.to_string())).await.unwrap();
    }
    assert_eq!(values(&cluster, 0), numbers(4));
    // The sequence of what was refused is used again: no gap, no new epoch.
    let sequences: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.producer_epoch, b.base_sequence)).collect();
    assert_eq!(sequences, [(0, 0), (0, 1), (0, 2), (0, 3)]);
}

/// Rule 3: at its deadline an open outcome is `Unknown`, and what comes next goes out under a new epoch.
#[tokio::test(start_paused = true)]
async fn an_open_outcome_is_unknown_and_the_partition_goes_on() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = hasty_client(&cluster).await.producer().delivery_timeout(2 * SECOND).build().unwrap();
    producer.send(Record::to("t").partition(0).value("0")).await.unwrap();
    // Written, never acknowledged.
    let lost = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::swallow_answer());
    let start = tokio::time::Instant::now();
    let error = producer.send(Record::to("t").partition(0).value("1")).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::Unknown, ErrorKind::Timeout));
    assert!(error.error.to_string().contains("delivery_timeout"), "{error}");
    assert!(start.elapsed() <= 3 * SECOND + SECOND / 10, "{:?}", start.elapsed());
    lost.remove();
    for n in 2..5 {
        producer.send(Record::to("t").partition(0).value(n.to_string())).await.unwrap();
    }
    assert_eq!(values(&cluster, 0), numbers(5), "the unknown one was written, once");
    let stamps: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.producer_epoch, b.base_sequence)).collect();
    assert_eq!(stamps, [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]);
    // The other partition adopts the epoch when it next sends, from sequence 0.
    producer.send(Record::to("t").partition(1).value("x")).await.unwrap();
    let other = &cluster.batches("t", 1)[0];
    assert_eq!((other.producer_epoch, other.base_sequence), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_not_written() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 2);
    let producer = hasty_client(&cluster).await.producer().delivery_timeout(2 * SECOND).build().unwrap();
    for partition in 0..2 {
        producer.send(Record::to("t").partition(partition).value("0")).await.unwrap();
    }
    let brokers = cluster.live_brokers();
    for &broker in &brokers {
        cluster.stop_broker(broker).await;
    }
    let error = producer.send(Record::to("t").partition(0).value("1")).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::Timeout), "{error}");
    for &broker in &brokers {
        cluster.start_broker(broker).await;
    }
    producer.send(Record::to("t").partition(0).value("2")).await.unwrap();
    assert_eq!(values(&cluster, 0), ["0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_without_producer_ids_is_told_apart() {
    let cluster = MockCluster::builder().in_memory().without(Api::InitProducerId).start().await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let producer = client.producer().build().unwrap();
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::Unsupported));
    assert!(error.error.to_string().contains("idempotence(false)"), "{error}");
    assert!(error.error.to_string().contains("InitProducerId"), "{error}");
    // And again: never a silent fallback.
    assert!(producer.send(Record::to("t").value("v")).await.is_err());
    let plain = client.producer().idempotence(false).build().unwrap();
    plain.send(Record::to("t").value("v")).await.unwrap();
    assert_eq!(cluster.batches("t", 0)[0].producer_id, -1);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_acks_works() {
    let (cluster, _) = producer(1, 1).await;
    let client = client(&cluster).await;
    let none = client.producer().acks(Acks::None).build().unwrap();
    let sent = none.send(Record::to("t").value("0")).await.unwrap();
    assert_eq!(sent.offset, None);
    none.close(SECOND).await.unwrap();
    tokio::time::sleep(SECOND).await;
    let leader = client.producer().acks(Acks::Leader).build().unwrap();
    assert_eq!(leader.send(Record::to("t").value("1")).await.unwrap().offset, Some(1));
    assert_eq!(values(&cluster, 0), numbers(2));
    assert!(cluster.batches("t", 0).iter().all(|batch| batch.producer_id == -1));
    let error = client.producer().acks(Acks::Leader).idempotence(true).build().unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("acks"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_named() {
    let (cluster, producer) = producer(1, 2).await;
    let client = client(&cluster).await;

    let error = producer.enqueue(Record::to("t").partition(2).value("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPartition);
    assert!(error.to_string().contains("2 partitions, and no partition 2"), "{error}");
    assert_eq!(error.topic_partition().unwrap().to_string(), "t-2");

    let hasty = client.producer().max_block(SECOND).build().unwrap();
    let start = tokio::time::Instant::now();
    let error = hasty.enqueue(Record::to("missing").value("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    assert!(error.to_string().contains("`missing`") && error.to_string().contains("max_block"), "{error}");
    assert!(start.elapsed() < SECOND + SECOND / 10);

    let error = producer.enqueue(Record::to("no such/name").value("v")).await.unwrap_err();
    assert!(error.code().is_some_and(|code| code.0 == 17), "{error}");

    let large = vec![0; 1 << 20];
    let error = producer.enqueue(Record::to("t").value(&large)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RecordTooLarge);
    assert!(error.to_string().contains("max_request_size (1048576)"), "{error}");
    producer.send(Record::to("t").value(&large[..(1 << 20) - 100])).await.unwrap();

    // The broker's own limit, 1 MiB + 12 bytes.
    let generous = client.producer().max_request_size(4 << 20).build().unwrap();
    let error = generous.send(Record::to("t").value(vec![0; 2 << 20])).await.unwrap_err();
    assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::RecordTooLarge), "{error}");

    let small = client.producer().buffer_memory(4096).build().unwrap();
    let error = small.enqueue(Record::to("t").value(&large[..8192])).await.unwrap_err();
    assert!(error.kind() == ErrorKind::RecordTooLarge && error.to_string().contains("buffer_memory"), "{error}");

    for (builder, setting) in [
        (client.producer().delivery_timeout(SECOND), "delivery_timeout"),
        (client.producer().buffer_memory(1), "buffer_memory"),
        (client.producer().max_request_size(1), "max_request_size"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(setting), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_on_first_use_where_brokers_allow_it() {
    let cluster = MockCluster::builder().in_memory().auto_create_topics(true).start().await;
    let client = client(&cluster).await;
    let never = client.producer().allow_auto_create_topics(false).max_block(SECOND).build().unwrap();
    assert_eq!(never.send(Record::to("new").value("v")).await.unwrap_err().error.kind(), ErrorKind::UnknownTopic);
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("new").value("v")).await.unwrap();
    let written: usize = (0..cluster.partitions("new").unwrap()).map(|p| cluster.log("new", p as i32).len()).sum();
    assert_eq!(written, 1);
}

#[tokio::test(start_paused = true)]
async fn new_partitions_are_found_on_demand() {
    let (cluster, producer) = producer(1, 1).await;
    producer.send(Record::to("t").value("v")).await.unwrap();
    cluster.grow_topic("t", 3);
    let sent = producer.send(Record::to("t").partition(2).value("v")).await.unwrap();
    assert_eq!((sent.partition, sent.offset), (2, Some(0)));
}

/// What is in flight when the topic grows stays where its key had sent it, in its order; what comes later goes where the
/// key belongs by then, and waits for nobody.
#[tokio::test(start_paused = true)]
async fn keys_in_flight_keep_their_order_when_the_topic_grows() {
    const KEYS: usize = 20;
    let cluster = cluster(3).await;
    cluster.create_topic("t", 2);
    // A record or two fill a batch: there are several of a partition in flight.
    let producer = client(&cluster).await.producer().batch_size(100).linger(Duration::ZERO).build().unwrap();
    producer.send(Record::to("t").partition(0).value("warm")).await.unwrap();
    producer.send(Record::to("t").partition(1).value("warm")).await.unwrap();
    let slow = cluster.inject(When::api(Api::Produce), Fault::delay_answer(SECOND));
    let mut receipts = Vec::new();
    let mut enqueue = async |of: std::ops::Range<usize>| {
        for n in of {
            for key in 0..KEYS {
                let record = Record::to("t").key(key.to_string()).value(n.to_string());
                receipts.push((key, n, producer.enqueue(record).await.unwrap()));
            }
        }
    };
    enqueue(0..10).await;
    tokio::time::sleep(SECOND / 10).await;
    cluster.grow_topic("t", 6);
    // Who asks for one of the new ones learns of them.
    let found = producer.send(Record::to("t").partition(5).value("new")).await.unwrap();
    assert_eq!((found.partition, found.offset), (5, Some(0)));
    enqueue(10..20).await;
    slow.remove();
    let mut placed = vec![Vec::new(); KEYS];
    for (key, n, receipt) in receipts {
        let sent = receipt.await.unwrap();
        placed[key].push((n, sent.partition, sent.offset.unwrap()));
    }
    let mut moved = 0;
    for (key, placed) in placed.iter().enumerate() {
        let (before, after) = placed.split_at(10);
        for (half, partitions) in [(before, 0..2), (after, 0..6)] {
            let home = half[0].1;
            assert!(partitions.contains(&home) && half.iter().all(|(_, at, _)| *at == home), "{key}: {placed:?}");
            assert!(half.is_sorted_by(|a, b| a.0 < b.0 && a.2 < b.2), "{key}: {placed:?}");
        }
        // Where the key stays, all twenty are in order.
        let stays = before[0].1 == after[0].1;
        assert!(!stays || before[9].2 < after[0].2, "{key}: {placed:?}");
        moved += usize::from(!stays);
    }
    assert!((1..KEYS).contains(&moved), "{moved} keys of {KEYS} have moved");
    let count: usize = (0..6).map(|partition| cluster.log("t", partition).len()).sum();
    assert_eq!(count, 20 * KEYS + 3);
    assert!(cluster.violations().is_empty());
}

/// Row 13: the wall clock is on records alone. Nothing waits longer or expires for what they say of it; of what is far ahead
/// of its own clock the broker says so at once, and of nothing else.
#[tokio::test(start_paused = true)]
async fn records_of_1970_and_of_2100_wait_for_nothing() {
    const YEAR_2100: i64 = 4_102_444_800_000;
    let (cluster, producer) = producer(1, 1).await;
    let start = tokio::time::Instant::now();
    for (offset, time) in [(0, 0), (1, 1), (2, 0)] {
        let sent = producer.send(Record::to("t").value("v").timestamp(time)).await.unwrap();
        assert_eq!(sent.offset, Some(offset));
        let error = producer.send(Record::to("t").value("v").timestamp(YEAR_2100 + time)).await.unwrap_err();
        assert_eq!((error.error.code(), error.fate), (Some(ErrorCode::INVALID_TIMESTAMP), Fate::NotWritten));
    }
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    let log = cluster.log("t", 0);
    assert_eq!(log.iter().map(|record| record.timestamp).collect::<Vec<_>>(), [0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_waits_or_gives_the_record_back() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let producer = client.producer().buffer_memory(64 << 10).max_block(SECOND).build().unwrap();
    producer.send(Record::to("t").value("warm")).await.unwrap();
    let stall = cluster.inject(When::api(Api::Produce), Fault::stall());
    let value = vec![7; 1000];
    let mut receipts = Vec::new();
    let refused = loop {
        match producer.try_enqueue(Record::to("t").key("k").value(&value)) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused,
        }
        tokio::task::yield_now().await;
    };
    assert!((55..66).contains(&receipts.len()), "{} records of 1 kB in 64 KiB", receipts.len());
    assert_eq!(refused.error.kind(), ErrorKind::BufferFull);
    assert!(refused.error.is_retriable() && refused.error.to_string().contains("buffer_memory"), "{}", refused.error);
    let start = tokio::time::Instant::now();
    let error = producer.enqueue(refused.record).await.unwrap_err();
    assert!(error.kind() == ErrorKind::BufferFull && error.to_string().contains("max_block"), "{error}");
    assert_eq!(start.elapsed().as_millis() / 100, 10);

    // Space comes back: whoever waits goes on. Callers that gave up have left nothing behind.
    let waiting = tokio::spawn({
        let (producer, value) = (producer.clone(), value.clone());
        async move { producer.enqueue(Record::to("t").key("k").value(value)).await.unwrap().await.unwrap() }
    });
    tokio::time::sleep(SECOND / 10).await;
    stall.remove();
    waiting.await.unwrap();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    producer.flush().await;
    for _ in 0..200 {
        producer.enqueue(Record::to("t").key("k").value(&value)).await.unwrap().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn close_waits_and_then_tells_the_truth() {
    let (cluster, producer) = producer(1, 1).await;
    let receipt = producer.enqueue(Record::to("t").value("0")).await.unwrap();
    producer.close(10 * SECOND).await.unwrap();
    assert_eq!(receipt.now_or_never().unwrap().unwrap().offset, Some(0));
    let error = producer.enqueue(Record::to("t").value("1")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.is_fatal(), "{error}");
    producer.close(SECOND).await.unwrap();

    let producer = client(&cluster).await.producer().build().unwrap();
    producer.send(Record::to("t").value("1")).await.unwrap();
    cluster.inject(When::api(Api::Produce), Fault::stall());
    // As many as may be in flight.
    let mut sent = Vec::new();
    for n in 2..7 {
        sent.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
        tokio::time::sleep(SECOND / 150).await;
    }
    let queued = producer.enqueue(Record::to("t").value("7")).await.unwrap();
    let error = producer.close(SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    for sent in sent {
        let sent = sent.now_or_never().unwrap().unwrap_err();
        assert_eq!((sent.fate, sent.error.kind()), (Fate::Unknown, ErrorKind::Closed));
    }
    let queued = queued.now_or_never().unwrap().unwrap_err();
    assert_eq!((queued.fate, queued.error.kind()), (Fate::NotWritten, ErrorKind::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_producer_still_sends_and_then_leaves_nothing_behind() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let client = client(&cluster).await;
    let producer = client.producer().linger(20 * SECOND).build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..100 {
        receipts.push(producer.enqueue(Record::to("t").partition(n % 3).value((n / 3).to_string())).await.unwrap());
    }
    drop((producer, client));
    for receipt in receipts {
        receipt.await.unwrap();
    }
    let total: usize = (0..3).map(|p| values(&cluster, p).len()).sum();
    assert_eq!(total, 100);
    tokio::time::sleep(SECOND).await;
    // The mock's own tasks for our connections end with them.
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_only_enqueues_lets_others_run() {
    let (_cluster, producer) = producer(1, 1).await;
    producer.send(Record::to("t").value("warm")).await.unwrap();
    let ticks = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counter = std::sync::Arc::clone(&ticks);
    let ticker = tokio::spawn(async move {
        loop {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..1280 {
        producer.enqueue(Record::to("t").value("v")).await.unwrap();
    }
    assert!(ticks.load(std::sync::atomic::Ordering::Relaxed) >= 9);
    ticker.abort();
}

/// Row 30: at whatever point a caller drops `send`, the producer goes on, and a record is in the log at most once.
#[tokio::test(start_paused = true)]
async fn send_may_be_dropped_at_every_await() {
    let (cluster, producer) = producer(1, 1).await;
    for polls in 0..20 {
        let mut send = Box::pin(producer.send(Record::to("t").value(format!("dropped {polls}"))));
        for _ in 0..polls {
            if futures_util::poll!(&mut send).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(send);
        producer.send(Record::to("t").value(format!("kept {polls}"))).await.unwrap();
    }
    let log = values(&cluster, 0);
    let kept: Vec<_> = log.iter().filter(|value| value.starts_with("kept")).collect();
    assert_eq!(kept.len(), 20);
    let mut unique = log.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), log.len());
}

/// Receipts resolve even when the client's runtime ends under them.
#[test]
fn the_runtimes_end_resolves_every_receipt() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (cluster, producer, receipts) = runtime.block_on(async {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let patient = client(&cluster).await.producer().linger(3600 * SECOND).delivery_timeout(7200 * SECOND);
        let producer = patient.build().unwrap();
        let mut receipts = Vec::new();
        for n in 0..10 {
            receipts.push(producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap());
        }
        (cluster, producer, receipts)
    });
    drop(runtime);
    for receipt in receipts {
        let error = receipt.now_or_never().expect("resolved").unwrap_err();
        assert_eq!(error.error.kind(), ErrorKind::Closed);
    }
    let error = producer.enqueue(Record::to("t").value("late")).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(cluster);
}

/// Handles work from any runtime, and from none.
#[test]
fn a_producer_works_from_another_runtime() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cluster, producer) = home.block_on(async {
        let cluster = MockCluster::start().await;
        cluster.create_topic("t", 1);
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        (cluster, client.producer().build().unwrap())
    });
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let sent = other.block_on(producer.send(Record::to("t").value("v"))).unwrap();
    assert_eq!(sent.offset, Some(0));
    home.block_on(async {
        producer.close(SECOND).await.unwrap();
        cluster.close().await;
    });
}
