//! A stream for each partition: order, what is committed when, rebalances, ends, errors, and bytes; in virtual time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use milena::assignor::{self, Assignor, CooperativeSticky};
use milena::mock::MockCluster;
use milena::{
    Client, ConsumerBuilder, ErrorKind, GroupProtocol, OffsetReset, PartitionStream, PartitionStreams, PendingRecord,
    Position, Record,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::rig::{SECOND, all, client, cluster, fill, filled, tp, value, within};

const MS: Duration = Duration::from_millis(1);

fn builder(client: &Client) -> ConsumerBuilder {
    client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest)
}

/// By hand, all of topic `t`.
async fn by_hand(cluster: &MockCluster) -> PartitionStreams {
    let consumer = builder(&client(cluster).await).build().unwrap();
    consumer.assign(all(cluster.partitions("t").unwrap() as i32)).unwrap();
    consumer.split()
}

fn member(client: &Client) -> ConsumerBuilder {
    let strategy = [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
    builder(client).subscribe(["t"]).partition_assignment_strategy(strategy)
}

async fn stream(streams: &mut PartitionStreams) -> PartitionStream {
    within(60 * SECOND, streams.try_next()).await.unwrap().expect("a stream is due")
}

/// So many streams, by partition.
async fn streams(from: &mut PartitionStreams, count: usize) -> BTreeMap<i32, PartitionStream> {
    let mut streams = BTreeMap::new();
    while streams.len() < count {
        let stream = stream(from).await;
        streams.insert(stream.topic_partition().partition, stream);
    }
    streams
}

async fn next(stream: &mut PartitionStream) -> PendingRecord {
    within(60 * SECOND, stream.try_next()).await.unwrap().expect("a record is due")
}

/// Takes these offsets, and acknowledges each.
async fn all_of(stream: &mut PartitionStream, offsets: Range<i64>) {
    for offset in offsets {
        let record = next(stream).await;
        assert_eq!(record.offset(), offset);
        record.ack();
    }
}

async fn ended(stream: &mut PartitionStream) {
    let next = within(60 * SECOND, stream.try_next()).await.unwrap();
    assert!(next.is_none(), "{next:?}");
}

fn committed(cluster: &MockCluster, partitions: i32) -> Vec<Option<i64>> {
    (0..partitions).map(|partition| cluster.committed("g", "t", partition)).collect()
}

#[tokio::test(start_paused = true)]
async fn each_partition_has_a_stream_of_its_own_in_order() {
    let cluster = filled(3, 4, 4_000).await;
    let mut partitions = by_hand(&cluster).await;
    let mut tasks = JoinSet::new();
    for (partition, mut stream) in streams(&mut partitions, 4).await {
        tasks.spawn(async move {
            for offset in 0..1_000 {
                let record = next(&mut stream).await;
                assert_eq!((record.partition(), record.offset()), (partition, offset));
                assert_eq!(value(&record), offset.to_string());
                record.ack();
            }
            stream
        });
    }
    let mut streams = tasks.join_all().await;
    assert!(timeout(SECOND, partitions.try_next()).await.is_err(), "each has one");
    partitions.close().await.unwrap();
    assert_eq!(committed(&cluster, 4), [Some(1_000); 4]);
    for stream in &mut streams {
        ended(stream).await;
    }
    assert!(cluster.violations().is_empty());
}

/// What a consumer has handed out before it is split is dealt with, and the rest of the batch in hand comes.
#[tokio::test(start_paused = true)]
async fn a_consumer_is_split_in_the_middle_of_a_batch() {
    let cluster = filled(1, 1, 10).await;
    let mut consumer = builder(&client(&cluster).await).build().unwrap();
    consumer.assign(all(1)).unwrap();
    for offset in 0..3 {
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), offset);
    }
    let mut partitions = consumer.split();
    partitions.commit().await.unwrap();
    assert_eq!(committed(&cluster, 1), [Some(3)]);
    let mut stream = stream(&mut partitions).await;
    assert_eq!(next(&mut stream).await.offset(), 3);
}

/// As a `Stream`, with combinators that deal with many at a time.
#[tokio::test(start_paused = true)]
async fn records_are_dealt_with_in_any_order() {
    let cluster = filled(1, 2, 400).await;
    let mut partitions = by_hand(&cluster).await;
    partitions.stop_at_end().await.unwrap();
    let done = Mutex::new(Vec::new());
    let work = (&mut partitions).try_for_each_concurrent(None, |stream| {
        let done = &done;
        stream.try_for_each_concurrent(8, async move |record| {
            sleep(MS * ((record.offset() * 7_919) % 40) as u32).await;
            done.lock().unwrap().push((record.partition(), record.offset()));
            record.ack();
            Ok(())
        })
    });
    within(60 * SECOND, work).await.unwrap();
    let mut done = done.into_inner().unwrap();
    assert_eq!(done.len(), 400);
    assert!(!done.iter().filter(|(partition, _)| *partition == 0).is_sorted());
    done.sort_unstable();
    assert_eq!(done, (0..2).flat_map(|p| (0..200).map(move |offset| (p, offset))).collect::<Vec<_>>());
    partitions.close().await.unwrap();
    assert_eq!(committed(&cluster, 2), [Some(200); 2]);
}

#[tokio::test(start_paused = true)]
async fn commits_take_what_is_acknowledged_without_a_gap() {
    let cluster = filled(1, 1, 20).await;
    let mut partitions = by_hand(&cluster).await;
    let mut stream = stream(&mut partitions).await;
    let mut records = Vec::new();
    for _ in 0..8 {
        records.push(next(&mut stream).await);
    }
    let mut ack = |offset: i64| {
        let at = records.iter().position(|record| record.offset() == offset).unwrap();
        records.remove(at).ack();
    };
    let mut seen = Vec::new();
    for offset in [1, 3, 0, 4, 2] {
        ack(offset);
        partitions.commit().await.unwrap();
        seen.push(cluster.committed("g", "t", 0).unwrap());
    }
    assert_eq!(seen, [0, 0, 2, 2, 5]);
    ack(6);
    // By itself, too.
    sleep(6 * SECOND).await;
    assert_eq!(committed(&cluster, 1), [Some(5)]);
    // 5 is never dealt with.
    drop(records);
    all_of(&mut stream, 8..20).await;
    sleep(6 * SECOND).await;
    assert_eq!(committed(&cluster, 1), [Some(5)]);
    partitions.close().await.unwrap();
    assert_eq!(committed(&cluster, 1), [Some(5)]);
}

/// The next fetch, which is for all of them, goes out while one is at work on what it got.
#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_its_time_keeps_no_fetch_from_another() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = client(&cluster).await.producer().linger(Duration::ZERO).build().unwrap();
    let mut partitions = by_hand(&cluster).await;
    let mut streams = streams(&mut partitions, 2).await;
    for n in 0..10 {
        // Both wait, at the ends of their logs.
        for (partition, stream) in &mut streams {
            assert!(timeout(SECOND / 4, stream.try_next()).await.is_err(), "{partition}");
        }
        let began = Instant::now();
        for (partition, stream) in &mut streams {
            let (record, sent) =
                tokio::join!(next(stream), producer.send(Record::to("t").partition(*partition).value("x")));
            assert_eq!((record.offset(), sent.unwrap().offset), (n, Some(n)));
        }
        assert!(began.elapsed() < 5 * MS, "{n}: {:?}", began.elapsed());
    }
}

/// One that nobody reads: what is fetched of it is bounded, and all others are read to their ends.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_delays_no_other() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 4);
    let client = client(&cluster).await;
    let producer = client.producer().build().unwrap();
    for n in 0..8_000 {
        producer.enqueue(Record::to("t").partition(n % 4).value(format!("{:0>1000}", n / 4))).await.unwrap();
    }
    producer.close(60 * SECOND).await.unwrap();
    const BUFFER: usize = 256 << 10;
    let consumer = builder(&client).fetch_buffer(BUFFER).max_partition_fetch_bytes(32 << 10).build().unwrap();
    consumer.assign(all(4)).unwrap();
    let mut partitions = consumer.split();
    let mut streams = streams(&mut partitions, 4).await;
    let mut slow = streams.remove(&2).unwrap();
    let in_hand = next(&mut slow).await;
    let mut tasks = JoinSet::new();
    for (_, mut stream) in streams {
        tasks.spawn(async move {
            all_of(&mut stream, 0..2_000).await;
        });
    }
    let began = Instant::now();
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
        assert!(partitions.metrics().buffer_used <= BUFFER as u64 + (64 << 10), "{:?}", partitions.metrics());
    }
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    in_hand.ack();
    all_of(&mut slow, 1..2_000).await;
    partitions.close().await.unwrap();
    assert_eq!(committed(&cluster, 4), [Some(2_000); 4]);
}

/// A stream ends at once when its partition is to go, with records behind it that were fetched; what is in hand is waited for,
/// the other partition flows on meanwhile, and the next owner begins behind what was acknowledged.
#[tokio::test(start_paused = true)]
async fn after_a_revocation_not_one_record_more_comes() {
    let cluster = filled(1, 2, 2_000).await;
    let client = client(&cluster).await;
    let mut first = member(&client).build().unwrap().split();
    let mut mine = streams(&mut first, 2).await;
    let mut in_hand = Vec::new();
    for stream in mine.values_mut() {
        for _ in 0..5 {
            next(stream).await.ack();
        }
        in_hand.push(next(stream).await);
    }
    let mut second = member(&client).build().unwrap().split();
    let taken = tokio::spawn(async move { (stream(&mut second).await, second, Instant::now()) });
    sleep(10 * SECOND).await;
    // Which of the two goes is the strategy's.
    let mut over = Vec::new();
    for (partition, stream) in &mut mine {
        match within(SECOND, stream.try_next()).await.unwrap() {
            None => over.push(*partition),
            Some(record) => {
                assert_eq!(record.offset(), 6);
                record.ack();
            }
        }
    }
    let [gone] = over[..] else { panic!("{over:?}") };
    assert!(!taken.is_finished(), "5 is in hand");
    let acked = Instant::now();
    in_hand.drain(..).for_each(PendingRecord::ack);
    let (mut theirs, second, at) = within(60 * SECOND, taken).await.unwrap();
    assert!(at - acked < 5 * SECOND, "{:?}", at - acked);
    assert_eq!(theirs.topic_partition(), &tp(gone));
    ended(mine.get_mut(&gone).unwrap()).await;
    assert_eq!(next(&mut theirs).await.offset(), 6);
    let stays = mine.get_mut(&(1 - gone)).unwrap();
    assert_eq!(next(stays).await.offset(), 7);
    // What was dropped and not acknowledged comes again, for whoever has it next.
    drop(theirs);
    second.close().await.unwrap();
    let mut back = stream(&mut first).await;
    assert_eq!(back.topic_partition(), &tp(gone));
    let record = next(&mut back).await;
    assert_eq!(record.offset(), 6, "a stream of its own, from the committed offset on");
    record.ack();
    ended(mine.get_mut(&gone).unwrap()).await;
    first.close().await.unwrap();
    let mut expected = [Some(7); 2];
    expected[1 - gone as usize] = Some(7);
    assert_eq!(committed(&cluster, 2), expected);
    assert!(cluster.violations().is_empty());
}

/// Members with streams come and go: each record is dealt with once, and those of a partition in order, across members too.
#[tokio::test(start_paused = true)]
async fn members_with_streams_come_and_go_and_nothing_is_done_twice() {
    // None: by KIP-848, where the broker assigns.
    let strategies: [Option<Arc<dyn Assignor>>; 3] =
        [Some(Arc::new(assignor::Range)), Some(Arc::new(CooperativeSticky)), None];
    for strategy in strategies {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 6);
        let client = client(&cluster).await;
        let done: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
        let producer = client.producer().build().unwrap();
        let writing = tokio::spawn(async move {
            for n in 0..6_000 {
                producer.send(Record::to("t").partition(n % 6).value("x")).await.unwrap();
                sleep(MS * 5).await;
            }
        });
        let working = |start: u32, end: u32| {
            let (client, done, strategy) = (client.clone(), Arc::clone(&done), strategy.clone());
            tokio::spawn(async move {
                sleep(SECOND * start).await;
                let builder = builder(&client).subscribe(["t"]);
                let builder = match strategy {
                    Some(strategy) => builder.partition_assignment_strategy([strategy]),
                    None => builder.group_protocol(GroupProtocol::Consumer),
                };
                let mut partitions = builder.build().unwrap().split();
                let mut tasks = JoinSet::new();
                let running = async {
                    while let Some(mut stream) = partitions.try_next().await.unwrap() {
                        let done = Arc::clone(&done);
                        tasks.spawn(async move {
                            while let Some(record) = stream.try_next().await.unwrap() {
                                sleep(MS * ((record.offset() * 7_919) % 20) as u32).await;
                                done.lock().unwrap().push((record.partition(), record.offset()));
                                record.ack();
                            }
                        });
                    }
                };
                assert!(timeout(SECOND * (end - start), running).await.is_err());
                partitions.close().await.unwrap();
                tasks.join_all().await;
            })
        };
        for member in [working(0, 40), working(3, 12), working(6, 25), working(14, 90)] {
            member.await.unwrap();
        }
        writing.await.unwrap();
        let mut done = std::mem::take(&mut *done.lock().unwrap());
        for partition in 0..6 {
            assert!(done.iter().filter(|(p, _)| *p == partition).is_sorted(), "partition {partition}");
        }
        done.sort_unstable();
        assert_eq!(done, (0..6).flat_map(|p| (0..1_000).map(move |offset| (p, offset))).collect::<Vec<_>>());
        assert_eq!(committed(&cluster, 6), [Some(1_000); 6]);
        assert!(cluster.violations().is_empty());
    }
}

/// Its task is gone, by an error or a panic: the partition is offered again, from the first record that is not acknowledged.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_dropped_is_made_anew() {
    let cluster = filled(1, 2, 4_000).await;
    let mut partitions = by_hand(&cluster).await;
    let mut streams = streams(&mut partitions, 2).await;
    let mut stream_of_0 = streams.remove(&0).unwrap();
    let mut records = Vec::new();
    for _ in 0..5 {
        records.push(next(&mut stream_of_0).await);
    }
    let late = records.remove(2);
    records.into_iter().for_each(PendingRecord::ack);
    drop(stream_of_0);
    late.ack();
    let mut again = stream(&mut partitions).await;
    assert_eq!(again.topic_partition(), &tp(0));
    // The acknowledgement came too late.
    all_of(&mut again, 2..2_000).await;
    // With nothing in hand, and before anything was asked for.
    drop(again);
    let again = stream(&mut partitions).await;
    drop(again);
    drop(streams);
    let mut seen = BTreeMap::new();
    for _ in 0..2 {
        let mut stream = stream(&mut partitions).await;
        let next = timeout(SECOND, stream.try_next()).await.ok().map(|record| record.unwrap().unwrap().offset());
        seen.insert(stream.topic_partition().partition, next);
        std::mem::forget(stream);
    }
    assert_eq!(seen, [(0, None), (1, Some(0))].into());
    partitions.commit().await.unwrap();
    assert_eq!(committed(&cluster, 2), [Some(2_000), Some(0)]);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_in_hand_and_not_for_ever() {
    for (takes, expected) in [(10, 2), (100, 1)] {
        let cluster = filled(1, 1, 10).await;
        let mut partitions = member(&client(&cluster).await).build().unwrap().split();
        let mut stream = stream(&mut partitions).await;
        next(&mut stream).await.ack();
        let in_hand = next(&mut stream).await;
        let working = tokio::spawn(async move {
            let ended = stream.try_next().await.unwrap().is_none();
            sleep(takes * SECOND).await;
            in_hand.ack();
            ended
        });
        let began = Instant::now();
        partitions.close().await.unwrap();
        let took = began.elapsed();
        // request_timeout is 30 s.
        let limit = if takes < 30 { takes * SECOND } else { 30 * SECOND };
        assert!(took >= limit && took < limit + 2 * SECOND, "{took:?}");
        assert_eq!(committed(&cluster, 1), [Some(expected)]);
        assert!(working.await.unwrap(), "the stream ended at once");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_what_made_them_is_dropped() {
    let cluster = filled(1, 2, 20).await;
    let mut partitions = member(&client(&cluster).await).build().unwrap().split();
    let mut streams = streams(&mut partitions, 2).await;
    let mut waiting = streams.remove(&1).unwrap();
    let mut other = streams.remove(&0).unwrap();
    let waiting = tokio::spawn(async move {
        for _ in 0..10 {
            next(&mut waiting).await.ack();
        }
        waiting.try_next().await.unwrap().is_none()
    });
    let in_hand = next(&mut other).await;
    sleep(SECOND).await;
    drop(partitions);
    assert!(within(SECOND, waiting).await.unwrap());
    ended(&mut other).await;
    in_hand.ack();
    drop(other);
    sleep(5 * SECOND).await;
    assert_eq!(committed(&cluster, 2), [Some(0), Some(10)]);
}

/// What concerns one partition goes to its stream, and what concerns none to whoever has them all.
#[tokio::test(start_paused = true)]
async fn errors_come_where_they_belong() {
    let cluster = filled(1, 2, 20).await;
    let client = client(&cluster).await;
    let mut nothing = client.consumer().build().unwrap().split();
    let error = within(SECOND, nothing.try_next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("nothing is assigned"), "{error}");
    let mut partitions = client.consumer().auto_offset_reset(OffsetReset::None).build().unwrap().split();
    partitions.incremental_assign([(tp(0), Position::Offset(99)), (tp(1), Position::Offset(0))]).unwrap();
    let mut streams = streams(&mut partitions, 2).await;
    let error = within(5 * SECOND, streams.get_mut(&0).unwrap().try_next()).await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::OffsetOutOfRange, Some(&tp(0))));
    let other = streams.get_mut(&1).unwrap();
    all_of(other, 0..10).await;
    partitions.seek(&tp(0), 7).unwrap();
    let stream = streams.get_mut(&0).unwrap();
    assert_eq!(next(stream).await.offset(), 7, "it goes on behind an error");
    // What is asked for from elsewhere.
    partitions.seek(&tp(1), 4).unwrap();
    partitions.pause([tp(1)]);
    let other = streams.get_mut(&1).unwrap();
    assert!(timeout(SECOND, other.try_next()).await.is_err());
    partitions.resume([tp(1)]);
    assert_eq!(next(other).await.offset(), 4);
    partitions.incremental_unassign([tp(1)]).unwrap();
    ended(other).await;
}

/// In hand for too long, with nobody asking for anything: the membership is lost, the stream ends, and the next one goes on at
/// what was not acknowledged. Who has nothing in hand may wait for as long as it likes.
#[tokio::test(start_paused = true)]
async fn a_record_in_hand_for_too_long_loses_the_membership() {
    let cluster = filled(1, 1, 3).await;
    let client = client(&cluster).await;
    let mut partitions = member(&client).max_poll_interval(20 * SECOND).build().unwrap().split();
    let mut stream = stream(&mut partitions).await;
    next(&mut stream).await.ack();
    let in_hand = next(&mut stream).await;
    let error = within(40 * SECOND, partitions.try_next()).await.unwrap_err();
    assert!(error.to_string().contains("max_poll_interval"), "{error}");
    ended(&mut stream).await;
    in_hand.ack();
    let mut stream = self::stream(&mut partitions).await;
    // The acknowledgement came too late.
    all_of(&mut stream, 1..3).await;
    let waiting = tokio::spawn(async move { stream.try_next().await.unwrap().unwrap().offset() });
    assert!(timeout(200 * SECOND, partitions.try_next()).await.is_err(), "nothing was lost");
    fill(&cluster, 1).await;
    assert_eq!(within(SECOND, waiting).await.unwrap(), 3);
}

/// At the end that was asked for streams end, and dropping them changes nothing; what is written later has another stream.
#[tokio::test(start_paused = true)]
async fn streams_end_where_reading_should() {
    let cluster = filled(1, 2, 10).await;
    let mut partitions = by_hand(&cluster).await;
    partitions.stop_at_end().await.unwrap();
    let mut in_hand = Vec::new();
    for (_, mut stream) in streams(&mut partitions, 2).await {
        for _ in 0..5 {
            in_hand.push(next(&mut stream).await);
        }
        ended(&mut stream).await;
    }
    assert!(within(SECOND, partitions.try_next()).await.unwrap().is_none());
    in_hand.into_iter().for_each(PendingRecord::ack);
    partitions.commit().await.unwrap();
    assert_eq!(committed(&cluster, 2), [Some(5); 2]);
    partitions.keep_reading();
    fill(&cluster, 2).await;
    for (_, mut stream) in streams(&mut partitions, 2).await {
        assert_eq!(next(&mut stream).await.offset(), 5);
        std::mem::forget(stream);
    }
}
