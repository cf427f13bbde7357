//! What comes out, when nothing goes wrong.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures_executor::block_on;
use futures_util::{FutureExt, StreamExt};
use milena::mock::{Api, KafkaRelease, MockCluster};
use milena::{Client, ErrorKind, OffsetReset, Position, Record, TimestampType};

use crate::harness::Batch;
use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn records_of_many_partitions_and_brokers_come_complete_and_in_order() {
    let cluster = filled(3, 6, 12_000).await;
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 12_000).await;
    assert_eq!(checker.next, (0..6).map(|p| (p, 2_000)).collect());
    all(6).for_each(|tp| assert_eq!(consumer.position(&tp), Some(2_000)));
    silent(SECOND, &mut consumer).await;
    // And so does what is written from then on.
    fill(&cluster, 600).await;
    checker.read(&mut consumer, 600).await;
    assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
    consumer.close().await.unwrap();
    cluster.close().await;
}

#[tokio::test]
async fn over_tcp_and_from_every_release() {
    for release in [KafkaRelease::V2_8, KafkaRelease::V3_9, KafkaRelease::V4_1] {
        let cluster = MockCluster::builder().brokers(2).release(release).start().await;
        cluster.create_topic("t", 4);
        fill(&cluster, 4_000).await;
        let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).group("g").build().unwrap();
        consumer.assign(all(4)).unwrap();
        Checker::default().read(&mut consumer, 4_000).await;
        consumer.commit_offsets(all(4).map(|tp| (tp, 1_000))).await.unwrap();
        assert_eq!(consumer.committed(all(4)).await.unwrap().len(), 4);
        assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
        consumer.close().await.unwrap();
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_whole() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().unwrap();
    let record = Record::to("t").key("k").value("v").timestamp(1_234).header("a", "1").null_header("a").header("b", "");
    producer.send(record).await.unwrap();
    producer.send(Record::to("t").key("")).await.unwrap();
    let mut consumer = reader(&cluster).await;
    let record = consumer.recv().await.unwrap();
    assert_eq!((record.topic(), record.partition(), record.offset()), ("t", 0, 0));
    assert_eq!((record.timestamp(), record.timestamp_type()), (1_234, TimestampType::Create));
    assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!((record.key_bytes().unwrap(), record.value_bytes().unwrap()), ("k".into(), "v".into()));
    let headers: Vec<_> = record.headers().map(|header| (header.name().unwrap(), header.value)).collect();
    assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None), ("b", Some(&b""[..]))]);
    assert_eq!((record.leader_epoch(), record.topic_partition()), (Some(0), tp(0)));
    let tombstone = consumer.recv().await.unwrap();
    assert_eq!((tombstone.key(), tombstone.value()), (Some(&b""[..]), None));
    assert_eq!(tombstone.headers().len(), 0);
    let text = format!("{record:?}");
    assert!(text.contains("value_len: Some(1)") && !text.contains("118"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn the_log_may_stamp_the_time() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    cluster.set_topic_config("t", "message.timestamp.type", "LogAppendTime");
    fill(&cluster, 1).await;
    let record = reader(&cluster).await.recv().await.unwrap();
    assert_eq!(record.timestamp_type(), TimestampType::LogAppend);
    assert_eq!(record.timestamp(), cluster.log("t", 0)[0].timestamp);
}

#[tokio::test(start_paused = true)]
async fn a_seek_while_everything_is_under_way_yields_nothing_stale() {
    let cluster = filled(2, 2, 10_000).await;
    let mut consumer = reader(&cluster).await;
    let mut state = 7u64;
    let mut random = move |below: i64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((state >> 33) as i64) % below
    };
    let mut next = [0; 2];
    for _ in 0..300 {
        let partition = random(2) as i32;
        let offset = random(5_000);
        consumer.seek(&tp(partition), offset).unwrap();
        assert_eq!(consumer.position(&tp(partition)), Some(offset));
        next[partition as usize] = offset;
        // In the middle of a batch, of a buffer, of a fetch.
        for _ in 0..random(300) {
            if next == [5_000; 2] {
                break;
            }
            let record = within(SECOND, consumer.recv()).await.unwrap();
            let next = &mut next[record.partition() as usize];
            assert_eq!((record.offset(), value(&record)), (*next, &*next.to_string()));
            *next += 1;
            assert_eq!(consumer.position(&record.topic_partition()), Some(*next));
        }
        if random(3) == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(cluster.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn seeks_to_the_ends_are_looked_up() {
    let cluster = filled(1, 1, 100).await;
    cluster.delete_records("t", 0, 10);
    let mut consumer = reader(&cluster).await;
    assert_eq!(consumer.recv().await.unwrap().offset(), 10);
    consumer.seek(&tp(0), Position::End).unwrap();
    assert_eq!(consumer.position(&tp(0)), None);
    silent(SECOND, &mut consumer).await;
    assert_eq!(consumer.position(&tp(0)), Some(100));
    fill(&cluster, 1).await;
    assert_eq!(consumer.recv().await.unwrap().offset(), 100);
    consumer.seek(&tp(0), Position::Beginning).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset(), 10);
    // The last of several counts, whatever the answers do meanwhile.
    for position in [Position::End, Position::Beginning, Position::Offset(50), Position::End, Position::Offset(33)] {
        consumer.seek(&tp(0), position).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(consumer.recv().await.unwrap().offset(), 33);
    assert_eq!(consumer.seek(&tp(1), 0).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(consumer.seek(&tp(0), -1).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn an_assignment_replaces_the_one_before() {
    let cluster = filled(2, 3, 3_000).await;
    let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    let nothing = consumer.recv().await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Config);
    assert!(consumer.assign([("", 0)]).is_err() && consumer.assign([("t", -1)]).is_err());
    consumer.assign([("t", 0), ("t", 1), ("t", 0)]).unwrap();
    assert_eq!(consumer.assignment(), [tp(0), tp(1)]);
    let mut checker = Checker::default();
    checker.read(&mut consumer, 700).await;
    // Partition 1 stays where it is; 0 goes, with what is buffered; 2 begins.
    consumer.assign([("t", 1), ("t", 2)]).unwrap();
    assert_eq!(consumer.position(&tp(0)), None);
    assert_eq!(consumer.position(&tp(1)).unwrap_or(0), checker.next.get(&1).copied().unwrap_or(0));
    checker.next.remove(&0);
    while checker.next.values().sum::<i64>() < 2_000 {
        checker.read(&mut consumer, 1).await;
        assert!(!checker.next.contains_key(&0));
    }
    // What comes back begins anew.
    consumer.assign([("t", 0)]).unwrap();
    checker.read(&mut consumer, 1_000).await;
    silent(SECOND, &mut consumer).await;
    consumer.assign::<(&str, i32)>([]).unwrap();
    assert!(consumer.recv().await.is_err() && consumer.assignment().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dropping_recv_anywhere_loses_nothing() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 3);
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    // Each round polls a few times more before it drops the future, while records come in.
    for round in 0..200 {
        if round % 20 == 0 {
            fill(&cluster, 900).await;
        }
        for _ in 0..round % 7 {
            if let Some(record) = consumer.recv().now_or_never() {
                checker.check(&record.unwrap());
            }
        }
        if let Ok(record) = tokio::time::timeout(SECOND / 1000, consumer.recv()).await {
            checker.check(&record.unwrap());
        }
    }
    let seen = checker.count;
    assert!(seen > 200, "{seen}");
    checker.read(&mut consumer, 9_000 - seen).await;
    silent(SECOND, &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn the_stream_yields_errors_and_goes_on() {
    let cluster = filled(1, 1, 10).await;
    let mut consumer = reader(&cluster).await;
    consumer.assign([("t", 0), ("missing", 0)]).unwrap();
    let mut records = 0;
    loop {
        match within(60 * SECOND, consumer.next()).await.unwrap() {
            Ok(_) => records += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnknownTopic);
                break;
            }
        }
    }
    assert_eq!(records, 10);
    fill(&cluster, 1).await;
    assert!(consumer.next().await.unwrap().is_ok());
}

#[test]
fn a_loop_that_always_has_records_lets_others_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let cluster = filled(1, 1, 20_000).await;
        let mut consumer = reader(&cluster).await;
        consumer.recv().await.unwrap();
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let neighbour = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        });
        let (mut last, mut worst, mut at) = (0, 0, 1);
        for n in 2..=20_000 {
            consumer.recv().await.unwrap();
            let now = turns.load(Ordering::SeqCst);
            if now != last {
                worst = worst.max(n - at);
                (last, at) = (now, n);
            }
        }
        assert!(worst <= 130, "{worst} records without a turn for the neighbour");
        neighbour.abort();
    });
}

#[test]
fn the_handle_works_without_any_runtime_around_it() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cluster, client) = tokio.block_on(async {
        let cluster = filled(2, 2, 1_000).await;
        let client = client(&cluster).await;
        (cluster, client)
    });
    block_on(async {
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).group("g").build().unwrap();
        consumer.assign(all(2)).unwrap();
        let mut checker = Checker::default();
        for _ in 0..1_000 {
            checker.check(&consumer.recv().await.unwrap());
        }
        consumer.commit_offsets([(tp(0), 500)]).await.unwrap();
        assert_eq!(consumer.committed([tp(0)]).await.unwrap()[&tp(0)].offset, 500);
        consumer.close().await.unwrap();
    });
    tokio.block_on(cluster.close());
}

#[test]
fn a_runtime_that_goes_away_closes_the_consumer() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (cluster, mut consumer) = tokio.block_on(async {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let mut consumer = reader(&cluster).await;
        silent(SECOND / 10, &mut consumer).await;
        (cluster, consumer)
    });
    drop(cluster);
    drop(tokio);
    let error = block_on(consumer.recv()).unwrap_err();
    assert!(error.kind() == ErrorKind::Closed && error.is_fatal(), "{error}");
    block_on(consumer.close()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_asks_for_nothing_more() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 2);
    for is_closed in [true, false] {
        let mut consumer = reader(&cluster).await;
        silent(2 * SECOND, &mut consumer).await;
        match is_closed {
            true => consumer.close().await.unwrap(),
            false => drop(consumer),
        }
        tokio::time::sleep(SECOND).await;
        cluster.clear_requests();
        tokio::time::sleep(10 * SECOND).await;
        let fetches = cluster.requests().into_iter().filter(|request| request.api == Api::Fetch).count();
        assert_eq!(fetches, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn idle_partitions_cost_two_requests_a_second() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 100);
    let mut consumer = reader(&cluster).await;
    silent(5 * SECOND, &mut consumer).await;
    cluster.clear_requests();
    silent(10 * SECOND, &mut consumer).await;
    let requests = cluster.requests().len();
    assert!((19..=21).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn what_a_fetch_leaves_out_does_not_wait_for_it() {
    let cluster = filled(1, 100, 1_000).await;
    // Everybody else is idle, and the broker waits for them.
    let mut consumer = client(&cluster).await.consumer().build().unwrap();
    consumer.assign((1..100).map(tp)).unwrap();
    silent(5 * SECOND + SECOND / 10, &mut consumer).await;
    let started = tokio::time::Instant::now();
    consumer.seek(&tp(1), 0).unwrap();
    let record = consumer.recv().await.unwrap();
    assert_eq!((record.partition(), record.offset()), (1, 0));
    consumer.assign((0..100).map(tp)).unwrap();
    consumer.seek(&tp(0), 0).unwrap();
    loop {
        if consumer.recv().await.unwrap().partition() == 0 {
            break;
        }
    }
    assert!(started.elapsed() < SECOND / 20, "{:?}", started.elapsed());
    // And what reaches its end there is not forgotten until the others are back.
    for _ in 1..10 {
        assert_eq!(consumer.recv().await.unwrap().partition(), 0);
    }
    let producer = client(&cluster).await.producer().build().unwrap();
    for _ in 0..20 {
        tokio::time::sleep(SECOND / 30).await;
        producer.send(Record::to("t").partition(0).value("x")).await.unwrap();
        let started = tokio::time::Instant::now();
        while consumer.recv().await.unwrap().partition() != 0 {}
        assert!(started.elapsed() < SECOND / 20, "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_decompress_is_reported_with_the_way_past_it() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    for batch in [Batch::of(&["0", "1"]), Batch { attributes: 3, ..Batch::of(&["2", "3", "4"]) }, Batch::of(&["5"])] {
        cluster.append_unchecked("t", 0, &batch.bytes());
    }
    cluster.append_unchecked("t", 1, &Batch::of(&["0"]).bytes());
    let mut consumer = reader(&cluster).await;
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        match within(SECOND, consumer.recv()).await {
            Ok(record) => values.push((record.partition(), record.offset())),
            Err(error) => errors.push(error),
        }
    }
    values.sort();
    assert_eq!(values, [(0, 0), (0, 1), (1, 0)]);
    let [error] = errors.as_slice() else { panic!("{errors:?}") };
    // It says lz4, and holds plain records.
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Corrupt, Some(&tp(0))));
    let text = error.to_string();
    assert!(text.contains("lz4") && text.contains("offset 2") && text.contains("seek to 5"), "{text}");
    silent(10 * SECOND, &mut consumer).await;
    assert_eq!(consumer.position(&tp(0)), Some(2));
    consumer.seek(&tp(0), 5).unwrap();
    assert_eq!(value(&consumer.recv().await.unwrap()), "5");
}

#[tokio::test(start_paused = true)]
async fn handles_may_go_between_threads() {
    fn is_send_sync<T: Send + Sync>(_: &T) {}
    let cluster = filled(1, 1, 1).await;
    let mut consumer = reader(&cluster).await;
    is_send_sync(&consumer);
    // A record is known to the task that asked last, whoever asked before.
    assert!(poll_fn(|cx| Poll::Ready(consumer.recv().boxed().poll_unpin(cx))).await.is_pending());
    let (record, _consumer) = tokio::spawn(async move { (consumer.recv().await, consumer) }).await.unwrap();
    is_send_sync(&record);
    assert_eq!(record.unwrap().offset(), 0);
}

/// A loop that goes on after errors ends with the runtime instead of turning for ever, and lets others run meanwhile.
#[test]
fn a_stream_ends_with_its_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut consumer, _cluster) = runtime.block_on(async {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let mut consumer = reader(&cluster).await;
        assert!(consumer.next().now_or_never().is_none(), "nothing to read yet");
        (consumer, cluster)
    });
    drop(runtime);
    while let Some(next) = consumer.next().now_or_never().expect("ready") {
        assert!(next.is_err());
    }
    assert_eq!(consumer.recv().now_or_never().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

/// On real time: the paused clock would wait for a loop that never rests.
#[tokio::test]
async fn asking_without_an_assignment_is_an_error_that_lets_others_run() {
    let cluster = cluster(1).await;
    let mut consumer = client(&cluster).await.consumer().build().unwrap();
    for _ in 0..3 {
        let error = consumer.recv().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("assign"), "{error}");
    }
    let turning = async { while consumer.next().await.unwrap().is_err() {} };
    assert!(tokio::time::timeout(SECOND / 20, turning).await.is_err(), "the timer gets its turn");
}
