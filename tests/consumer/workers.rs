//! Pools of workers: order, what is committed when, rebalances, failures, and bytes; in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::assignor::{Assignor, CooperativeSticky, Range};
use milena::mock::MockCluster;
use milena::{
    Client, Consumer, ConsumerRecord, ErrorAction, ErrorKind, FailurePolicy, GroupProtocol, OffsetReset, Record,
    WorkOrder,
};
use tokio::time::{Instant, sleep, timeout};

use crate::rig::{MARKER, SECOND, Wire, all, client, cluster, fill, tp, value, within};

const MS: Duration = Duration::from_millis(1);

/// Appends records with one of these many keys; each one's value is its number within its key.
async fn fill_keyed(client: &Client, count: usize, keys: usize, pace: Duration) {
    let producer = client.producer().build().unwrap();
    for n in 0..count {
        let record = Record::to("t").key(format!("key {}", n % keys)).value((n / keys).to_string());
        producer.enqueue(record).await.unwrap();
        if !pace.is_zero() {
            sleep(pace).await;
        }
    }
    producer.close(60 * SECOND).await.unwrap();
}

fn reader_of(client: &Client, partitions: i32) -> Consumer {
    let builder = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let consumer = builder.build().unwrap();
    consumer.assign(all(partitions)).unwrap();
    consumer
}

/// Between 0 and 39 ms, in no order.
fn delay(record: &ConsumerRecord) -> Duration {
    MS * ((record.offset() * 7_919 + i64::from(record.partition()) * 104_729) % 40) as u32
}

/// What handlers have done.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(i32, i64)>>>);

impl Log {
    fn push(&self, record: &ConsumerRecord) {
        self.0.lock().unwrap().push((record.partition(), record.offset()));
    }

    fn take(&self) -> Vec<(i32, i64)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn of(&self, partition: i32) -> BTreeSet<i64> {
        self.0.lock().unwrap().iter().filter(|(p, _)| *p == partition).map(|(_, offset)| *offset).collect()
    }

    /// The first offset of the partition that is not done.
    fn prefix(&self, partition: i32) -> i64 {
        let done = self.of(partition);
        (0..).find(|offset| !done.contains(offset)).unwrap()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Checks that records of a key come one after the other.
#[derive(Clone, Default)]
struct Keys(Arc<Mutex<BTreeMap<Vec<u8>, Turn>>>);

/// The number that comes next, and whether the one before is being dealt with.
type Turn = (usize, bool);

impl Keys {
    fn begin(&self, record: &ConsumerRecord) {
        let mut keys = self.0.lock().unwrap();
        let (next, is_busy) = keys.entry(record.key().unwrap().to_vec()).or_default();
        assert_eq!((value(record), *is_busy), (&*next.to_string(), false), "{record:?}");
        (*next, *is_busy) = (*next + 1, true);
    }

    fn end(&self, record: &ConsumerRecord) {
        self.0.lock().unwrap().get_mut(record.key().unwrap()).unwrap().1 = false;
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_a_key_are_dealt_with_in_order_by_eight_workers() {
    for order in [WorkOrder::Key, WorkOrder::Partition] {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 4);
        let client = client(&cluster).await;
        fill_keyed(&client, 2_000, 200, Duration::ZERO).await;
        let mut consumer = reader_of(&client, 4);
        consumer.stop_at_end().await.unwrap();
        let (keys, log, busy, most) = (Keys::default(), Log::default(), Arc::default(), Arc::default());
        let (known, seen, now, max): (_, _, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            (keys.clone(), log.clone(), Arc::clone(&busy), Arc::clone(&most));
        let handler = move |record: ConsumerRecord| {
            let (keys, log, busy, most) = (known.clone(), seen.clone(), Arc::clone(&now), Arc::clone(&max));
            async move {
                keys.begin(&record);
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(delay(&record)).await;
                busy.fetch_sub(1, Ordering::SeqCst);
                keys.end(&record);
                log.push(&record);
                Ok::<_, Infallible>(())
            }
        };
        within(600 * SECOND, consumer.workers(8).order(order).run(handler)).await.unwrap();
        // As many at a time as there can be: partitions may share a worker.
        let most = most.load(Ordering::SeqCst);
        assert!(if order == WorkOrder::Key { most == 8 } else { (1..=4).contains(&most) }, "{order:?}: {most}");
        let ends: Vec<_> = (0..4).map(|p| cluster.offsets("t", p).1).collect();
        assert_eq!((0..4).map(|p| log.prefix(p)).collect::<Vec<_>>(), ends);
        assert_eq!(log.len(), 2_000);
        consumer.close().await.unwrap();
        assert_eq!(
            (0..4).map(|p| cluster.committed("g", "t", p)).collect::<Vec<_>>(),
            ends.into_iter().map(Some).collect::<Vec<_>>()
        );
    }
}

/// Dropped at any moment, as in a crash: what is committed is up to the first record that was not done, and from there on
/// records come again, from the same consumer and for the next one.
#[tokio::test(start_paused = true)]
async fn what_is_committed_after_a_drop_is_what_was_done_without_a_gap() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let client = client(&cluster).await;
    fill_keyed(&client, 400, 23, Duration::ZERO).await;
    let mut gaps = 0;
    for (n, after) in [1, 20, 57, 133, 250, 391, 420, 555, 700, 901].into_iter().enumerate() {
        for closes in [true, false] {
            let group = format!("g{n}{closes}");
            let builder = client.consumer().group(group.as_str()).auto_offset_reset(OffsetReset::Earliest);
            let mut consumer = if n % 2 == 0 { builder.subscribe(["t"]) } else { builder }.build().unwrap();
            if n % 2 == 1 {
                consumer.assign(all(2)).unwrap();
            }
            let log = Log::default();
            let seen = log.clone();
            let started = Arc::new(tokio::sync::Notify::new());
            let begin = Arc::clone(&started);
            let handler = move |record: ConsumerRecord| {
                let (log, begin) = (seen.clone(), Arc::clone(&begin));
                async move {
                    begin.notify_one();
                    sleep(delay(&record)).await;
                    log.push(&record);
                    Ok::<_, Infallible>(())
                }
            };
            {
                let run = consumer.workers(4).run(handler);
                tokio::pin!(run);
                tokio::select! {
                    outcome = &mut run => panic!("{outcome:?}"),
                    () = started.notified() => {}
                }
                assert!(timeout(MS * after, &mut run).await.is_err());
            }
            let prefixes = [log.prefix(0), log.prefix(1)];
            gaps += usize::from((0..2).any(|p| log.of(p).len() as i64 > log.prefix(p)));
            if closes {
                consumer.close().await.unwrap();
            } else {
                // From here on as if there had been no workers.
                let mut first = BTreeMap::new();
                while first.len() < 2 && consumer.position(&tp(0)).is_some() {
                    let Ok(record) = timeout(SECOND, consumer.recv()).await else { break };
                    let record = record.unwrap();
                    first.entry(record.partition()).or_insert_with(|| record.offset());
                }
                for (partition, offset) in first {
                    assert_eq!(offset, prefixes[partition as usize], "after {after} ms");
                }
                continue;
            }
            for (partition, prefix) in (0..).zip(prefixes) {
                assert_eq!(cluster.committed(&group, "t", partition), Some(prefix), "after {after} ms");
            }
        }
    }
    assert!(gaps >= 8, "the test shows nothing if all is done in order: {gaps}");
    assert!(cluster.violations().is_empty());
}

/// The same while it runs: what auto-commit and a commit that is asked for take.
#[tokio::test(start_paused = true)]
async fn commits_take_what_is_done_without_a_gap_while_workers_run() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 40).await;
    let mut consumer = reader_of(&client(&cluster).await, 1);
    let handle = consumer.handle();
    let log = Log::default();
    let seen = log.clone();
    let handler = move |record: ConsumerRecord| {
        let log = seen.clone();
        async move {
            sleep(if record.offset() == 7 { 12 * SECOND } else { MS * 10 }).await;
            log.push(&record);
            Ok::<_, Infallible>(())
        }
    };
    let watching = async {
        sleep(2 * SECOND).await;
        assert_eq!((log.len(), handle.position(&tp(0))), (39, Some(40)));
        assert_eq!(cluster.committed("g", "t", 0), None);
        handle.commit().await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0), Some(7));
        sleep(6 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(7));
        sleep(10 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(40));
    };
    consumer.workers(4).run_until(watching, handler).await.unwrap();
    assert_eq!(log.len(), 40);
}

/// Members with workers come and go: each record is done once, and those of a key in order, across members too.
#[tokio::test(start_paused = true)]
async fn members_with_workers_come_and_go_and_nothing_is_done_twice() {
    // None: by KIP-848, where the broker assigns.
    let strategies: [Option<Arc<dyn Assignor>>; 3] = [Some(Arc::new(Range)), Some(Arc::new(CooperativeSticky)), None];
    for strategy in strategies {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 6);
        let client = client(&cluster).await;
        let (keys, log) = (Keys::default(), Log::default());
        let writing = tokio::spawn({
            let client = client.clone();
            async move { fill_keyed(&client, 6_000, 60, MS * 5).await }
        });
        let working = |start: u64, end: u64| {
            let (client, keys, log, strategy) = (client.clone(), keys.clone(), log.clone(), strategy.clone());
            tokio::spawn(async move {
                sleep(SECOND * start as u32).await;
                let builder = client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest);
                let builder = match strategy {
                    Some(strategy) => builder.partition_assignment_strategy([strategy]),
                    None => builder.group_protocol(GroupProtocol::Consumer),
                };
                let mut consumer = builder.build().unwrap();
                let handler = move |record: ConsumerRecord| {
                    let (keys, log) = (keys.clone(), log.clone());
                    async move {
                        keys.begin(&record);
                        sleep(delay(&record)).await;
                        keys.end(&record);
                        log.push(&record);
                        Ok::<_, Infallible>(())
                    }
                };
                let stop = sleep(SECOND * (end - start) as u32);
                consumer.workers(6).run_until(stop, handler).await.unwrap();
                consumer.close().await.unwrap();
            })
        };
        for member in [working(0, 40), working(3, 12), working(6, 25), working(14, 90)] {
            member.await.unwrap();
        }
        writing.await.unwrap();
        let mut done = log.take();
        done.sort_unstable();
        let expected: Vec<_> =
            (0..6).flat_map(|p| (0..cluster.offsets("t", p).1).map(move |offset| (p, offset))).collect();
        assert_eq!(done.len(), 6_000);
        assert_eq!(done, expected);
        let ends: Vec<_> = (0..6).map(|p| cluster.offsets("t", p).1).collect();
        assert_eq!(
            (0..6).map(|p| cluster.committed("g", "t", p)).collect::<Vec<_>>(),
            ends.into_iter().map(Some).collect::<Vec<_>>()
        );
        assert!(cluster.violations().is_empty());
    }
}

/// A handler takes long over a record of a partition that goes to another member: it is waited for, what waits behind it goes
/// to the other one, and the partition that stays flows on meanwhile.
#[tokio::test(start_paused = true)]
async fn a_slow_handler_of_a_revoked_partition_delays_no_other() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let client = client(&cluster).await;
    let producer = client.producer().build().unwrap();
    for n in 0..7_000 {
        producer.enqueue(Record::to("t").partition(n % 2).value("x")).await.unwrap();
        if n % 40 == 39 {
            // Small batches, so that both partitions have their turns.
            producer.flush().await;
        }
    }
    let build = || {
        let strategy = [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
        let builder = client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest);
        builder.partition_assignment_strategy(strategy).max_partition_fetch_bytes(1).build().unwrap()
    };
    let began = Instant::now();
    // When each was done, in milliseconds.
    let times: Arc<Mutex<Vec<(i32, i64, u128)>>> = Arc::default();
    let seen = Arc::clone(&times);
    let handler = move |record: ConsumerRecord| {
        let times = Arc::clone(&seen);
        async move {
            let is_slow = record.partition() == 1 && record.offset() == 5;
            sleep(if is_slow { 40 * SECOND } else { MS * 50 }).await;
            times.lock().unwrap().push((record.partition(), record.offset(), began.elapsed().as_millis()));
            Ok::<_, Infallible>(())
        }
    };
    let mut first = build();
    let working = tokio::spawn(async move {
        // By key, and there is none: records go to whoever is free.
        first.workers(4).max_buffered(1_000).run_until(sleep(60 * SECOND), handler).await.unwrap();
        first.close().await.unwrap();
    });
    sleep(5 * SECOND).await;
    let mut second = build();
    let record = within(120 * SECOND, second.recv()).await.unwrap();
    let at = began.elapsed();
    let times = std::mem::take(&mut *times.lock().unwrap());
    // Everything that had begun when it was taken away was done, and the next member goes on right behind that.
    let of_revoked: BTreeSet<_> = times.iter().filter(|(p, ..)| *p == 1).map(|(_, offset, _)| *offset).collect();
    assert_eq!(of_revoked, (0..record.offset()).collect());
    assert_eq!((record.partition(), cluster.committed("g", "t", 1)), (1, Some(record.offset())));
    assert!((Duration::from_secs(40)..Duration::from_secs(45)).contains(&at), "{at:?}");
    // From when the other one was dropped until it was given away.
    let stays = times.iter().filter(|(p, _, at)| *p == 0 && (10_000..40_000).contains(at));
    let stays: Vec<_> = stays.map(|(.., at)| *at).collect();
    let gap = stays.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(stays.len() > 1_700 && gap <= 60, "{} records, {gap} ms", stays.len());
    working.await.unwrap();
}

/// A record whose handler fails waits before the next attempt. A rebalance that wants its partition does not wait with it: the
/// handler gets it once more at once, and then the next owner does.
#[tokio::test(start_paused = true)]
async fn a_rebalance_does_not_wait_for_the_next_attempt() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let build = || {
        let strategy = [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
        let builder = client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest);
        builder.partition_assignment_strategy(strategy).build().unwrap()
    };
    let began = Instant::now();
    let attempts: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let seen = Arc::clone(&attempts);
    let handler = move |record: ConsumerRecord| {
        let attempts = Arc::clone(&seen);
        async move {
            if record.partition() == 1 && record.offset() == 5 {
                attempts.lock().unwrap().push(began.elapsed());
                return Err(std::io::Error::other("not yet"));
            }
            Ok(())
        }
    };
    let mut first = build();
    let working = tokio::spawn(async move {
        let policy = FailurePolicy::stop().attempts(5).backoff(60 * SECOND, 60 * SECOND);
        let workers = first.workers(4).order(WorkOrder::Partition).on_failure(policy);
        workers.run_until(sleep(40 * SECOND), handler).await.unwrap();
        first.close().await.unwrap();
    });
    sleep(5 * SECOND).await;
    let mut second = build();
    let record = within(60 * SECOND, second.recv()).await.unwrap();
    let at = began.elapsed();
    assert_eq!((record.partition(), record.offset(), cluster.committed("g", "t", 1)), (1, 5, Some(5)));
    let attempts = attempts.lock().unwrap().clone();
    assert!(attempts.len() == 2 && attempts[0] < SECOND && attempts[1] > 5 * SECOND, "{attempts:?}");
    // A heartbeat later it was called back, and another one later both had joined again.
    assert!(at - attempts[1] < 4 * SECOND, "{at:?}, {attempts:?}");
    drop(second);
    working.await.unwrap();
    assert!(cluster.violations().is_empty());
}

/// Of a partition that was lost nothing more is begun, and what was under way counts for nothing.
#[tokio::test(start_paused = true)]
async fn a_pool_that_is_stuck_loses_its_partitions_and_comes_back() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 40).await;
    let builder = client(&cluster).await.consumer().group("g").subscribe(["t"]).max_poll_interval(30 * SECOND);
    let builder = builder.session_timeout(10 * SECOND).auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.build().unwrap();
    let mut events = consumer.rebalance_events().unwrap();
    let log = Log::default();
    let (seen, count) = (log.clone(), Arc::new(AtomicUsize::new(0)));
    let handler = move |record: ConsumerRecord| {
        let (log, count) = (seen.clone(), Arc::clone(&count));
        async move {
            if record.offset() == 3 && count.fetch_add(1, Ordering::SeqCst) == 0 {
                sleep(50 * SECOND).await;
            }
            log.push(&record);
            Ok::<_, Infallible>(())
        }
    };
    // Five records of it at most wait.
    let workers = consumer.workers(1).max_buffered(5 * 66);
    workers.run_until(sleep(100 * SECOND), handler).await.unwrap();
    let told: Vec<_> = std::iter::from_fn(|| {
        use futures_util::{FutureExt, StreamExt};
        events.by_ref().next().now_or_never().flatten()
    })
    .collect();
    let own = vec![tp(0)];
    use milena::RebalanceEvent::{Assigned, Lost};
    assert_eq!(told, [Assigned(own.clone()), Lost(own.clone()), Assigned(own)]);
    // It was done when that counted for nothing any more, so it comes again; what waited behind it was not begun.
    let expected: Vec<_> = (0..4).chain(3..40).map(|offset| (0, offset)).collect();
    assert_eq!(log.take(), expected);
    consumer.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(40));
}

fn parse(record: &ConsumerRecord) -> Result<i64, std::num::ParseIntError> {
    value(record).parse()
}

/// One partition of ten records, of which the fifth and the seventh are no numbers.
async fn with_bad_ones(has_keys: bool) -> (MockCluster, Client) {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    cluster.create_topic("dead", 1);
    let client = client(&cluster).await;
    let producer = client.producer().build().unwrap();
    for n in 0..10 {
        let value = if [5, 7].contains(&n) { format!("no {n}") } else { n.to_string() };
        let record = Record::to("t").value(value).header("h", "v").null_header("n");
        producer.send(if has_keys { record.key(format!("k{n}")) } else { record }).await.unwrap();
    }
    (cluster, client)
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_stops_the_pool_and_nothing_behind_it_counts() {
    let (cluster, client) = with_bad_ones(false).await;
    let mut consumer = reader_of(&client, 1);
    let log = Log::default();
    let seen = log.clone();
    let began = Instant::now();
    let policy = FailurePolicy::stop().attempts(3).backoff(SECOND, 60 * SECOND);
    // One for each record.
    let workers = consumer.workers(10).on_failure(policy);
    let handler = move |record: ConsumerRecord| {
        let log = seen.clone();
        async move {
            // Under way when another fails.
            sleep(if record.offset() == 9 { 5 * SECOND } else { MS }).await;
            parse(&record)?;
            log.push(&record);
            Ok::<_, std::num::ParseIntError>(())
        }
    };
    let failed = within(60 * SECOND, workers.run(handler)).await.unwrap_err();
    // One second and two for two attempts more, and meanwhile what was under way.
    let took = began.elapsed();
    assert!(took >= 5 * SECOND && took < Duration::from_millis(5_500), "{took:?}");
    let failure = failed.handler_failure().unwrap();
    assert!([5, 7].contains(&failure.offset), "{failed}");
    assert_eq!((failed.kind(), failed.topic_partition(), failure.attempts), (ErrorKind::Handler, Some(&tp(0)), 3));
    assert!(failure.error.downcast_ref::<std::num::ParseIntError>().is_some());
    let text = format!("the handler failed at t-0, offset {}, 3 times: invalid digit", failure.offset);
    assert!(failed.to_string().starts_with(&text), "{failed}");
    assert_eq!(log.of(0), [0, 1, 2, 3, 4, 6, 8, 9].into());
    // It comes again, and so does what was done behind it.
    assert_eq!(consumer.position(&tp(0)), Some(5));
    consumer.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_fails_twice_and_then_not_has_done_it() {
    let (cluster, client) = with_bad_ones(true).await;
    let mut consumer = reader_of(&client, 1);
    consumer.stop_at_end().await.unwrap();
    let attempts: Arc<Mutex<Vec<i64>>> = Arc::default();
    let seen = Arc::clone(&attempts);
    let handler = move |record: ConsumerRecord| {
        let attempts = Arc::clone(&seen);
        async move {
            let before = {
                let mut attempts = attempts.lock().unwrap();
                attempts.push(record.offset());
                attempts.iter().filter(|offset| **offset == record.offset()).count()
            };
            match before {
                1 => Err("not yet"),
                2 => panic!("at the disco"),
                _ => Ok(()),
            }
        }
    };
    let policy = FailurePolicy::stop().attempts(3);
    consumer.workers(1).on_failure(policy).run(handler).await.unwrap();
    assert_eq!(*attempts.lock().unwrap(), (0..10).flat_map(|n| [n; 3]).collect::<Vec<_>>());
    consumer.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_that_names_the_record() {
    let (cluster, client) = with_bad_ones(true).await;
    let mut consumer = reader_of(&client, 1);
    let handler = |record: ConsumerRecord| {
        // Before there is a future, and in it.
        assert_ne!(record.offset(), 2, "of all");
        async move { Ok::<_, Infallible>(()) }
    };
    let failed = within(60 * SECOND, consumer.workers(2).run(handler)).await.unwrap_err();
    assert!(
        failed.to_string().contains("t-0, offset 2: the handler panicked: ") && failed.to_string().contains("of all")
    );
    let inside = |record: ConsumerRecord| async move {
        if record.offset() == 4 {
            panic!("inside");
        }
        Ok::<_, Infallible>(())
    };
    let failed = within(60 * SECOND, consumer.workers(1).run(inside)).await.unwrap_err();
    assert_eq!(failed.to_string(), "the handler failed at t-0, offset 4: the handler panicked: inside");
    consumer.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(4));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_skipped_or_goes_elsewhere() {
    let (cluster, client) = with_bad_ones(true).await;
    let producer = client.producer().build().unwrap();
    let handler = |record: ConsumerRecord| async move { parse(&record).map(|_| ()) };
    let mut consumer = reader_of(&client, 1);
    consumer.stop_at_end().await.unwrap();
    consumer.workers(4).on_failure(FailurePolicy::skip()).run(handler).await.unwrap();
    assert_eq!((consumer.position(&tp(0)), cluster.offsets("dead", 0)), (Some(10), (0, 0)));
    consumer.seek_to_beginning([tp(0)]).unwrap();
    let policy = FailurePolicy::dead_letter(producer.clone(), "dead").attempts(2);
    consumer.workers(4).on_failure(policy.clone()).run(handler).await.unwrap();
    consumer.commit().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(10));
    let mut dead = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    dead.assign([("dead", 0)]).unwrap();
    let mut offsets = BTreeSet::new();
    for _ in 0..2 {
        let letter = within(SECOND, dead.recv()).await.unwrap();
        let header = |name: &str| {
            let found = letter.headers().find(|header| header.key == name.as_bytes()).unwrap();
            found.value.map(|value| String::from_utf8(value.to_vec()).unwrap())
        };
        let offset = header("milena.errors.offset").unwrap();
        assert_eq!(letter.key(), Some(format!("k{offset}").as_bytes()));
        assert_eq!(value(&letter), format!("no {offset}"));
        assert_eq!((header("h").as_deref(), header("n")), (Some("v"), None));
        let told =
            ["topic", "partition", "attempts", "message"].map(|n| header(&format!("milena.errors.{n}")).unwrap());
        assert_eq!(told, ["t", "0", "2", "invalid digit found in string"]);
        offsets.insert(offset);
    }
    assert_eq!(offsets, ["5".to_string(), "7".to_string()].into());
    // Nobody takes the letter: then it is not done.
    producer.close(SECOND).await.unwrap();
    consumer.seek_to_beginning([tp(0)]).unwrap();
    let failed = consumer.workers(1).on_failure(policy).run(handler).await.unwrap_err();
    assert_eq!(failed.handler_failure().unwrap().offset, 5);
    assert!(failed.to_string().contains("its dead letter to `dead` was not written: "), "{failed}");
    assert_eq!(consumer.position(&tp(0)), Some(5));
}

/// Each record is 100 bytes here: its value of 36, and 64 for itself.
#[tokio::test(start_paused = true)]
async fn records_that_are_not_done_have_so_many_bytes_and_no_more() {
    for (limit, expected) in [(1_000, 10), (1_099, 10), (999, 9), (100, 1), (1, 1)] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let client = client(&cluster).await;
        let producer = client.producer().build().unwrap();
        for _ in 0..50 {
            producer.enqueue(Record::to("t").value("x".repeat(36))).await.unwrap();
        }
        producer.flush().await;
        let mut consumer = reader_of(&client, 1);
        consumer.stop_at_end().await.unwrap();
        let handle = consumer.handle();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let begun = Arc::new(AtomicUsize::new(0));
        let (opened, count) = (Arc::clone(&gate), Arc::clone(&begun));
        let handler = move |_| {
            let (gate, count) = (Arc::clone(&opened), Arc::clone(&count));
            async move {
                count.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                Ok::<_, Infallible>(())
            }
        };
        let watching = async {
            sleep(SECOND).await;
            // And one that waits for its place.
            assert_eq!(begun.load(Ordering::SeqCst), expected);
            assert_eq!(handle.position(&tp(0)), Some(expected as i64 + 1));
            gate.add_permits(3);
            sleep(SECOND).await;
            assert_eq!(begun.load(Ordering::SeqCst), expected + 3);
            gate.add_permits(1_000);
            pending::<()>().await;
        };
        let workers = consumer.workers(20).max_buffered(limit);
        tokio::select! {
            () = watching => unreachable!(),
            outcome = workers.run(handler) => outcome.unwrap(),
        }
        assert_eq!(begun.load(Ordering::SeqCst), 50);
    }
}

/// Without a group too: what was not done comes again from the same consumer.
#[tokio::test(start_paused = true)]
async fn what_a_dropped_or_stopped_pool_has_not_done_comes_again() {
    for drops in [true, false] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        fill(&cluster, 100).await;
        let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign(all(1)).unwrap();
        let log = Log::default();
        let (seen, begun) = (log.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let handler = move |record: ConsumerRecord| {
            let log = seen.clone();
            count.fetch_add(1, Ordering::SeqCst);
            async move {
                sleep(if record.offset() == 10 { 3 * SECOND } else { MS * 100 }).await;
                log.push(&record);
                Ok::<_, Infallible>(())
            }
        };
        let began = Instant::now();
        if drops {
            assert!(timeout(2 * SECOND, consumer.workers(2).run(handler)).await.is_err());
            assert_eq!(began.elapsed(), 2 * SECOND);
            assert_eq!((log.prefix(0), consumer.position(&tp(0))), (10, Some(10)));
            let begun_then = begun.load(Ordering::SeqCst);
            assert_eq!(log.len(), begun_then - 2, "both workers are at something");
            sleep(10 * SECOND).await;
            // They went on to its end, and began nothing else.
            assert_eq!((log.len(), begun.load(Ordering::SeqCst)), (begun_then, begun_then));
            assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), 10);
        } else {
            consumer.workers(2).run_until(sleep(2 * SECOND), handler).await.unwrap();
            let took = began.elapsed();
            assert!(took > 3 * SECOND, "{took:?}");
            // Everything before a record that had begun is done, so that nothing is done twice.
            assert_eq!(log.prefix(0), log.len() as i64);
            assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), log.len() as i64);
        }
    }
}

/// Errors of the consumer stop it, unless they pass by themselves or it is told otherwise.
#[tokio::test(start_paused = true)]
async fn errors_of_the_consumer_stop_the_pool_or_do_not() {
    for goes_on in [false, true] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        let client = client(&cluster).await;
        let producer = client.producer().build().unwrap();
        for n in 0..10 {
            producer.send(Record::to("t").value(n.to_string())).await.unwrap();
        }
        let builder = client.consumer().fetch_buffer(1).max_partition_fetch_bytes(1).consumer_timeout(10 * SECOND);
        let mut consumer = builder.build().unwrap();
        consumer.incremental_assign([(tp(0), 0)]).unwrap();
        assert_eq!(consumer.recv().await.unwrap().offset(), 0);
        cluster.delete_records("t", 0, 7);
        let log = Log::default();
        let seen = log.clone();
        let handler = move |record: ConsumerRecord| {
            seen.push(&record);
            std::future::ready(Ok::<_, Infallible>(()))
        };
        let mut told = Vec::new();
        let workers = consumer.workers(2);
        let outcome = if goes_on {
            let decide = |error: &milena::Error| {
                told.push(error.kind());
                ErrorAction::Continue
            };
            workers.on_error(decide).run(handler.clone()).await
        } else {
            workers.run(handler.clone()).await
        };
        if goes_on {
            outcome.unwrap();
            assert_eq!(told, [ErrorKind::DataLoss]);
        } else {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::DataLoss);
            // The next one goes on behind the gap.
            consumer.workers(2).run(handler).await.unwrap();
        }
        assert!(log.of(0).is_superset(&[7, 8, 9].into()) && log.len() == log.of(0).len(), "{:?}", log.of(0));
    }
    let client = client(&cluster(1).await).await;
    let mut consumer = client.consumer().build().unwrap();
    let nothing = |_| std::future::ready(Ok::<_, Infallible>(()));
    let go_on = |_: &milena::Error| ErrorAction::Continue;
    let unassigned = within(SECOND, consumer.workers(1).on_error(go_on).run(nothing)).await.unwrap_err();
    assert_eq!(unassigned.kind(), ErrorKind::Config);
    for (workers, setting) in [(0, "workers(0)"), (1, "max_buffered(0)")] {
        let refused = consumer.workers(workers).max_buffered(0).run(nothing).await.unwrap_err();
        assert!(refused.kind() == ErrorKind::Config && refused.to_string().starts_with(setting), "{refused}");
    }
}

/// A batch that cannot be read stands behind records that are under way: these count when they are done, and not before.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_before_a_batch_that_cannot_be_read_is_not_forgotten() {
    // Damage is found where it is fetched, a batch that becomes too large where it is opened.
    for kind in [ErrorKind::Corrupt, ErrorKind::BatchTooLarge] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        fill(&cluster, 5).await;
        let producer = client(&cluster).await.producer().compression(milena::Compression::Gzip).build().unwrap();
        let last = if kind == ErrorKind::Corrupt { MARKER.to_vec() } else { vec![b'x'; 100_000] };
        producer.send(Record::to("t").value(&last)).await.unwrap();
        let wire = Wire::new(&cluster, usize::MAX);
        let client = Client::builder(cluster.bootstrap()).connector(wire).connect().await.unwrap();
        let builder = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = builder.max_decompressed_batch(50_000).build().unwrap();
        consumer.assign(all(1)).unwrap();
        let log = Log::default();
        let seen = log.clone();
        let handler = move |record: ConsumerRecord| {
            let log = seen.clone();
            async move {
                sleep(if record.offset() == 2 { 8 * SECOND } else { MS }).await;
                log.push(&record);
                Ok::<_, Infallible>(())
            }
        };
        let told: Arc<Mutex<Vec<ErrorKind>>> = Arc::default();
        let errors = Arc::clone(&told);
        let decide = move |error: &milena::Error| {
            errors.lock().unwrap().push(error.kind());
            ErrorAction::Continue
        };
        let watching = async {
            sleep(6 * SECOND).await;
            assert_eq!((&*told.lock().unwrap(), log.len()), (&vec![kind], 4));
            assert_eq!(cluster.committed("g", "t", 0), Some(2));
            sleep(6 * SECOND).await;
            assert_eq!(cluster.committed("g", "t", 0), Some(5));
        };
        consumer.workers(3).on_error(decide).run_until(watching, handler).await.unwrap();
        assert_eq!(log.len(), 5);
    }
}
