//! Assigning, pausing, seeking, asking: what steers a consumer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use milena::mock::Api;
use milena::{ErrorKind, OffsetReset, Position, Record};

use crate::rig::*;

fn wall_clock_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Topic `t` of one partition, with a record for each timestamp, in batches of one.
async fn at_times(cluster: &milena::mock::MockCluster, times: &[i64]) {
    let producer = client(cluster).await.producer().build().unwrap();
    for time in times {
        producer.send(Record::to("t").timestamp(*time).value("v")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_are_added_each_at_its_place_and_taken_away() {
    let cluster = filled(2, 6, 600).await;
    let mut consumer = client(&cluster).await.consumer().group("g").build().unwrap();
    consumer.commit_offsets([(tp(3), 33)]).await.unwrap();
    let places = [Position::Beginning, Position::End, Position::Offset(77), Position::Committed];
    consumer.incremental_assign((0..4).map(|p| (tp(p), places[p as usize]))).unwrap();
    silent_after(&mut consumer, &[(0, 0..100), (2, 77..100), (3, 33..100)]).await;
    assert_eq!(consumer.position(&tp(1)), Some(100));
    // Two more; the one that is there goes elsewhere; those that are not named stay.
    consumer.incremental_assign([(tp(4), 90), (tp(0), 95)]).unwrap();
    silent_after(&mut consumer, &[(0, 95..100), (4, 90..100)]).await;
    consumer.incremental_unassign([tp(0), tp(1), tp(5)]).unwrap();
    assert_eq!(consumer.assignment(), [tp(2), tp(3), tp(4)]);
    fill(&cluster, 600).await;
    silent_after(&mut consumer, &[(2, 100..200), (3, 100..200), (4, 100..200)]).await;
    // Nothing changes when something is wrong.
    for wrong in [(tp(5), Position::Offset(-1)), (tp(-1), Position::End), (tp(5), Position::Timestamp(-5))] {
        let error = consumer.incremental_assign([(tp(1), Position::End), wrong]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    }
    assert_eq!(consumer.assignment(), [tp(2), tp(3), tp(4)]);
    let groupless = client(&cluster).await.consumer().build().unwrap();
    let error = groupless.incremental_assign([(tp(0), Position::Committed)]).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("group"), "{error}");
}

/// Exactly these records come, and then nothing.
async fn silent_after(consumer: &mut milena::Consumer, expected: &[(i32, std::ops::Range<i64>)]) {
    let mut left: std::collections::BTreeMap<_, _> = expected.iter().cloned().collect();
    let count: usize = expected.iter().map(|(_, range)| range.clone().count()).sum();
    for _ in 0..count {
        let record = within(SECOND, consumer.recv()).await.unwrap();
        let next = left.get_mut(&record.partition()).and_then(Iterator::next);
        assert_eq!(Some(record.offset()), next, "partition {}", record.partition());
    }
    silent(SECOND, consumer).await;
}

/// Rule 52: a pause holds back what is fetched, and moves nothing.
#[tokio::test(start_paused = true)]
async fn what_is_paused_is_held_back_and_goes_on_where_it_was() {
    let cluster = filled(1, 3, 3_000).await;
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 10).await;
    let first = *checker.next.iter().find(|(_, next)| **next > 0).unwrap().0;
    consumer.pause([tp(first), tp(17)]);
    assert_eq!(consumer.paused(), [tp(first)]);
    // Everything of the others comes, and nothing of this one.
    checker.read(&mut consumer, 2_000).await;
    silent(10 * SECOND, &mut consumer).await;
    assert_eq!(consumer.position(&tp(first)), Some(10));
    // It is not asked for either: nobody waits for data that is there.
    cluster.clear_requests();
    silent(10 * SECOND, &mut consumer).await;
    assert!(cluster.requests().len() <= 21, "{}", cluster.requests().len());
    consumer.resume([tp(first)]);
    let started = tokio::time::Instant::now();
    checker.read(&mut consumer, 990).await;
    assert!(started.elapsed() < SECOND / 50, "{:?}", started.elapsed());
    assert_eq!(checker.next, (0..3).map(|p| (p, 1_000)).collect());
    // Through a leader that moves, a seek, and what is written meanwhile; and it is the assignment's, not the name's.
    consumer.pause([tp(0)]);
    consumer.seek(&tp(0), 990).unwrap();
    fill(&cluster, 30).await;
    checker.read(&mut consumer, 20).await;
    silent(2 * SECOND, &mut consumer).await;
    consumer.resume([tp(0)]);
    checker.next.insert(0, 990);
    checker.read(&mut consumer, 20).await;
    consumer.pause([tp(0)]);
    consumer.incremental_unassign([tp(0)]).unwrap();
    consumer.incremental_assign([(tp(0), 1_000)]).unwrap();
    assert!(consumer.paused().is_empty());
    silent_after(&mut consumer, &[(0, 1_000..1_010)]).await;
}

/// A resume gets its next data at once, also when nothing is buffered of it and all others wait at the broker.
#[tokio::test(start_paused = true)]
async fn a_resume_does_not_wait_for_idle_partitions() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 101);
    let mut consumer = reader(&cluster).await;
    silent(3 * SECOND, &mut consumer).await;
    let producer = client(&cluster).await.producer().build().unwrap();
    for round in 0..10 {
        consumer.pause([tp(7)]);
        tokio::time::sleep(Duration::from_millis(730)).await;
        producer.send(Record::to("t").partition(7).value(round.to_string())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(730)).await;
        let started = tokio::time::Instant::now();
        consumer.resume([tp(7)]);
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), round);
        assert!(started.elapsed() < Duration::from_millis(5), "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn seeks_by_time_and_to_the_ends() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    at_times(&cluster, &[1_000, 2_000, 3_000, 3_000, 4_000]).await;
    let mut consumer = client(&cluster).await.consumer().build().unwrap();
    consumer.assign(all(1)).unwrap();
    for (time, expected) in [(0, 0), (1_000, 0), (1_001, 1), (3_000, 2), (3_500, 4)] {
        consumer.seek_to_time([tp(0)], time).unwrap();
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), expected, "{time}");
        consumer.seek_to_beginning([tp(0)]).unwrap();
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), 0);
    }
    // Younger than all: the end. And without names, all of them.
    for end in [true, false] {
        match end {
            true => consumer.seek_to_end::<(&str, i32)>([]).unwrap(),
            false => consumer.seek_to_time::<(&str, i32)>([], 4_001).unwrap(),
        }
        silent(SECOND, &mut consumer).await;
        assert_eq!(consumer.position(&tp(0)), Some(5));
        consumer.seek(&tp(0), Position::Beginning).unwrap();
    }
    assert!(consumer.seek_to_beginning([tp(0), tp(1)]).is_err());
    let found = consumer.offsets_for_times([(tp(0), 2_500)]).await.unwrap();
    assert_eq!(found[&tp(0)].map(|found| (found.offset, found.timestamp)), Some((2, 3_000)));
    assert_eq!(consumer.offsets_for_times([(tp(0), 4_001)]).await.unwrap()[&tp(0)], None);
    assert_eq!(consumer.offsets_for_times([(tp(0), -1)]).await.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn lag_and_watermarks_are_told() {
    let cluster = filled(2, 2, 200).await;
    cluster.delete_records("t", 1, 30);
    let mut consumer = reader(&cluster).await;
    assert_eq!(consumer.lag(&tp(0)), None, "nobody has said yet");
    for partition in 0..2 {
        let ends = consumer.watermarks(&tp(partition)).await.unwrap();
        assert_eq!((ends.low, ends.high), (if partition == 1 { 30 } else { 0 }, 100));
    }
    for _ in 0..170 {
        let record = within(SECOND, consumer.recv()).await.unwrap();
        assert_eq!(consumer.lag(&record.topic_partition()), Some(99 - record.offset()));
    }
    fill(&cluster, 20).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(consumer.lag(&tp(0)), Some(10), "also of what is only fetched");
    assert_eq!(consumer.partitions_for("t").await.unwrap(), [tp(0), tp(1)]);
    for (error, kind) in [
        (consumer.watermarks(&tp(9)).await.unwrap_err(), ErrorKind::UnknownPartition),
        (consumer.watermarks(&("nowhere", 0).into()).await.unwrap_err(), ErrorKind::UnknownTopic),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn reading_up_to_the_end_as_it_is_now() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 4);
    let producer = client(&cluster).await.producer().build().unwrap();
    // Partition 3 stays empty, and of 2 everything was deleted.
    for n in 0..300 {
        producer.send(Record::to("t").partition(n % 3).value((n / 3).to_string())).await.unwrap();
    }
    cluster.delete_records("t", 2, 100);
    let mut consumer = reader(&cluster).await;
    consumer.stop_at_end().await.unwrap();
    for n in 0..30 {
        producer.send(Record::to("t").partition(n % 3).value((100 + n / 3).to_string())).await.unwrap();
    }
    let mut checker = Checker::default();
    checker.read(&mut consumer, 200).await;
    assert_eq!(checker.next, [(0, 100), (1, 100)].into());
    for _ in 0..3 {
        assert!(within(SECOND, consumer.poll()).await.unwrap().is_none());
        assert!(consumer.try_next().await.unwrap().is_none() && consumer.next().await.is_none());
        assert_eq!(consumer.recv().await.unwrap_err().kind(), ErrorKind::NoMoreRecords);
    }
    assert_eq!(consumer.position(&tp(0)), Some(100));
    // Half a batch back, and it ends there again.
    consumer.seek(&tp(0), 95).unwrap();
    for offset in 95..100 {
        assert_eq!(consumer.recv().await.unwrap().offset(), offset);
    }
    assert!(within(SECOND, consumer.try_next()).await.unwrap().is_none());
    consumer.keep_reading();
    checker.next.insert(2, 100);
    checker.read(&mut consumer, 30).await;
    silent(SECOND, &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_with_a_timeout_stops_waiting() {
    let cluster = filled(1, 1, 100).await;
    let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.consumer_timeout(3 * SECOND).build().unwrap();
    consumer.assign(all(1)).unwrap();
    let mut count = 0;
    let started = tokio::time::Instant::now();
    while let Some(record) = consumer.try_next().await.unwrap() {
        assert_eq!(record.offset(), count);
        count += 1;
    }
    assert_eq!(count, 100);
    assert!((3 * SECOND..4 * SECOND).contains(&started.elapsed()), "{:?}", started.elapsed());
    // Asked again, it waits again; in small portions as well.
    let started = tokio::time::Instant::now();
    while tokio::time::timeout(SECOND / 10, consumer.poll()).await.is_err() {}
    assert!((2 * SECOND..4 * SECOND).contains(&started.elapsed()), "{:?}", started.elapsed());
    fill(&cluster, 1).await;
    assert_eq!(consumer.next().await.unwrap().unwrap().offset(), 100);
    let error = client(&cluster).await.consumer().consumer_timeout(Duration::MAX).build().unwrap_err();
    assert!(error.to_string().contains("consumer_timeout"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_any_more_is_not_asked_for() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let mut consumer = client(&cluster).await.consumer().allow_auto_create_topics(false).build().unwrap();
    consumer.assign([("missing", 0), ("t", 0)]).unwrap();
    assert_eq!(error(10 * SECOND, &mut consumer).await.kind(), ErrorKind::UnknownTopic);
    consumer.incremental_unassign([("missing", 0)]).unwrap();
    tokio::time::sleep(5 * SECOND).await;
    cluster.clear_requests();
    silent(60 * SECOND, &mut consumer).await;
    let metadata = |cluster: &milena::mock::MockCluster| {
        cluster.requests().iter().filter(|request| request.api == Api::Metadata).count()
    };
    assert_eq!(metadata(&cluster), 0);
    // Nor what a consumer left behind that is gone.
    consumer.assign([("missing", 0), ("missing", 1)]).unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert!(metadata(&cluster) > 0);
    drop(consumer);
    tokio::time::sleep(5 * SECOND).await;
    cluster.clear_requests();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(metadata(&cluster), 0);
}

/// KIP-1106.
#[tokio::test(start_paused = true)]
async fn the_policy_may_be_an_age() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let now = wall_clock_ms();
    at_times(&cluster, &[now - 7_200_000, now - 3_500_000, now]).await;
    for (age, expected) in [(Duration::from_secs(86_400), 0), (3_600 * SECOND, 1), (1_800 * SECOND, 2)] {
        let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::ByDuration(age));
        let mut consumer = builder.build().unwrap();
        consumer.assign(all(1)).unwrap();
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), expected, "{age:?}");
    }
}
