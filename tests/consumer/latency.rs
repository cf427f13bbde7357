//! How long a partition waits for its next data beside a hundred idle ones, in round trips of 20 ms.

use std::time::Duration;

use milena::mock::{Link, MockCluster};
use milena::{Consumer, OffsetReset, Position, Record};
use tokio::time::Instant;

use crate::rig::*;

const TRIP: Duration = Duration::from_millis(20);
/// Two of them, and what timers round up.
const LIMIT: Duration = Duration::from_millis(42);

/// 101 partitions of one leader far away, the first one of them not read yet; the consumer at the ends of the others.
async fn beside_idle_ones(first: usize) -> (MockCluster, milena::Producer, Consumer) {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 101);
    let producer = client(&cluster).await.producer().build().unwrap();
    for n in 0..first {
        producer.enqueue(Record::to("t").partition(0).value(n.to_string())).await.unwrap();
    }
    producer.flush().await;
    cluster.set_link(1, Link::new().latency(TRIP / 2));
    let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign((1..101).map(tp)).unwrap();
    // Both connections are made.
    silent(3 * SECOND, &mut consumer).await;
    consumer.seek(&tp(1), 0).unwrap();
    silent(SECOND + SECOND / 4, &mut consumer).await;
    (cluster, producer, consumer)
}

async fn next_of(consumer: &mut Consumer, partition: i32) -> i64 {
    let record = within(SECOND, consumer.recv()).await.unwrap();
    assert_eq!(record.partition(), partition);
    record.offset()
}

#[tokio::test(start_paused = true)]
async fn a_seek_or_a_new_assignment_gets_data_within_two_round_trips() {
    let (_cluster, _, mut consumer) = beside_idle_ones(1_000).await;
    let started = Instant::now();
    consumer.incremental_assign([(tp(0), 10)]).unwrap();
    assert_eq!(next_of(&mut consumer, 0).await, 10);
    assert!(started.elapsed() <= LIMIT, "a new assignment: {:?}", started.elapsed());
    let places = [Position::Offset(500), Position::Beginning, Position::Timestamp(0), Position::Offset(7)];
    for (place, expected) in places.into_iter().zip([500, 0, 0, 7]) {
        for pause in [0, 130, 370] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let started = Instant::now();
            consumer.seek(&tp(0), place).unwrap();
            assert_eq!(next_of(&mut consumer, 0).await, expected);
            assert!(started.elapsed() <= LIMIT, "{place:?} after {pause} ms: {:?}", started.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_gets_data_within_two_round_trips() {
    let (_cluster, producer, mut consumer) = beside_idle_ones(0).await;
    consumer.incremental_assign([(tp(0), 0)]).unwrap();
    for round in 0..10 {
        consumer.pause([tp(0)]);
        tokio::time::sleep(Duration::from_millis(730)).await;
        producer.send(Record::to("t").partition(0).value("x")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(730)).await;
        let started = Instant::now();
        consumer.resume([tp(0)]);
        assert_eq!(next_of(&mut consumer, 0).await, round);
        assert!(started.elapsed() <= LIMIT, "{:?}", started.elapsed());
    }
}

/// A buffer that holds one fetch at a time: each time that it is empty, the next one comes.
#[tokio::test(start_paused = true)]
async fn a_drained_partition_gets_data_within_two_round_trips() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 101);
    let producer = client(&cluster).await.producer().batch_size(2_000).build().unwrap();
    for _ in 0..400 {
        producer.enqueue(Record::to("t").partition(0).value(&[0; 100])).await.unwrap();
    }
    producer.flush().await;
    cluster.set_link(1, Link::new().latency(TRIP / 2));
    let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).fetch_buffer(5_000);
    let mut consumer = builder.max_partition_fetch_bytes(2_500).build().unwrap();
    consumer.assign(all(101)).unwrap();
    let first = next_of(&mut consumer, 0).await;
    tokio::time::sleep(SECOND / 3).await;
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for expected in first + 1..400 {
        assert_eq!(next_of(&mut consumer, 0).await, expected);
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    assert!(longest > TRIP / 2, "it never ran dry, so nothing was measured: {longest:?}");
    assert!(longest <= LIMIT, "{longest:?}");
}

/// One partition without records, and a consumer whose fetch waits there.
async fn at_the_end() -> (MockCluster, milena::Producer, Consumer) {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().unwrap();
    let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([tp(0)]).unwrap();
    silent(SECOND / 4, &mut consumer).await;
    (cluster, producer, consumer)
}

/// Who comes first when an answer is all that there was: its reader, if it is a task; behind a large answer, the next fetch.
#[tokio::test(start_paused = true)]
async fn a_small_answer_is_handed_out_before_the_next_fetch_is_planned() {
    let (_cluster, producer, mut consumer) = at_the_end().await;
    for (offset, (size, planned)) in (0..).zip([(100, 0), (8_000, 0), (20_000, 1), (100, 0)]) {
        let before = consumer.metrics().fetches;
        let reader = tokio::spawn(async move {
            assert_eq!(consumer.recv().await.unwrap().offset(), offset);
            (consumer.metrics().fetches - before, consumer)
        });
        producer.send(Record::to("t").value(vec![7; size])).await.unwrap();
        let fetches;
        (fetches, consumer) = within(SECOND, reader).await.unwrap();
        assert_eq!(fetches, planned, "{size} bytes");
        // That it asks for more is what the fetch waits for, and not that its patience ends.
        silent(Duration::from_millis(5), &mut consumer).await;
        assert_eq!(consumer.metrics().fetches - before, 1, "{size} bytes");
    }
}

/// But not for one that does not come back at once: twice for some milliseconds, and then no more until it was tried again.
#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_its_time_keeps_the_next_fetch_for_milliseconds_and_twice() {
    let (_cluster, producer, mut consumer) = at_the_end().await;
    let mut waits = Vec::new();
    for offset in 0..110 {
        let before = consumer.metrics().fetches;
        let (record, sent) = tokio::join!(within(SECOND, consumer.recv()), producer.send(Record::to("t").value("x")));
        assert_eq!((record.unwrap().offset(), sent.unwrap().offset), (offset, Some(offset)));
        let handed_out = Instant::now();
        while consumer.metrics().fetches == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waits.push(handed_out.elapsed().as_millis());
        tokio::time::sleep(SECOND / 10).await;
    }
    let slow: Vec<_> = (0..waits.len()).filter(|at| waits[*at] > 0).collect();
    assert_eq!(slow, [0, 1, 102, 103], "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 12), "{waits:?}");
}
