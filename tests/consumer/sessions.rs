//! Fetch sessions (KIP-227): what nothing happens to costs nothing, and what the broker forgets is told again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, MockConnector, SeenRequest, When};
use milena::{Address, Client, Connecting, Connector, GroupProtocol, OffsetReset, Record};

use crate::rig::*;
use crate::tap::tap;

/// Connects to a mock cluster, and counts per connection how often its task woke up to read, and how often it tried to.
#[derive(Clone)]
struct Counting {
    to: MockConnector,
    connections: Arc<Mutex<Vec<Arc<Reads>>>>,
}

#[derive(Default)]
struct Reads {
    wake_ups: AtomicUsize,
    all: AtomicUsize,
}

impl Counting {
    fn new(cluster: &MockCluster) -> Self {
        Self { to: cluster.connector(), connections: Arc::default() }
    }

    fn wake_ups(&self) -> Vec<usize> {
        self.connections.lock().unwrap().iter().map(|reads| reads.wake_ups.load(Ordering::SeqCst)).collect()
    }

    fn reads(&self) -> Vec<usize> {
        self.connections.lock().unwrap().iter().map(|reads| reads.all.load(Ordering::SeqCst)).collect()
    }
}

impl Connector for Counting {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async {
            let inner = self.to.connect(broker).await?;
            let reads = Arc::<Reads>::default();
            self.connections.lock().unwrap().push(Arc::clone(&reads));
            let mut is_asleep = true;
            Ok(tap(inner, move |heard| {
                reads.all.fetch_add(1, Ordering::SeqCst);
                if std::mem::replace(&mut is_asleep, heard.is_pending()) {
                    reads.wake_ups.fetch_add(1, Ordering::SeqCst);
                }
            }))
        })
    }
}

fn fetches(cluster: &MockCluster) -> Vec<SeenRequest> {
    cluster.requests().into_iter().filter(|request| request.api == Api::Fetch).collect()
}

/// Whoever is not in the first request waits a round trip longer for its first record.
#[tokio::test(start_paused = true)]
async fn the_first_request_names_all_that_was_assigned() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 20);
    let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(all(20)).unwrap();
    silent(SECOND, &mut consumer).await;
    let sizes: Vec<_> = fetches(&cluster).iter().map(|request| request.size).collect();
    assert!(sizes[0] > 20 * 20 && sizes[1..].iter().all(|size| *size < 100), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_idle_partitions_cost_two_wake_ups_a_second() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1_000);
    let connector = Counting::new(&cluster);
    let client = Client::builder(cluster.bootstrap()).connector(connector.clone()).connect().await.unwrap();
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(all(1_000)).unwrap();
    silent(5 * SECOND, &mut consumer).await;
    let named_all = fetches(&cluster).iter().map(|request| request.size).max().unwrap();
    assert!(named_all > 1_000 * 20, "{named_all} bytes");
    cluster.clear_requests();
    let before = connector.wake_ups();
    silent(100 * SECOND, &mut consumer).await;
    let fetches = fetches(&cluster);
    let largest = fetches.iter().map(|request| request.size).max().unwrap();
    assert!(largest < 100, "{largest} bytes: nothing is named again");
    assert!((195..=200).contains(&fetches.len()), "{}", fetches.len());
    assert_eq!(cluster.requests().len(), fetches.len(), "nothing else is asked");
    for (before, after) in before.into_iter().zip(connector.wake_ups()) {
        // An answer every half second, and a timer that moves on every half minute.
        assert!(after - before <= 204, "{} wake-ups in 100 s", after - before);
    }
    // And the first record comes at once.
    let started = tokio::time::Instant::now();
    client.producer().build().unwrap().send(Record::to("t").partition(700).value("0")).await.unwrap();
    assert_eq!(within(SECOND / 100, consumer.recv()).await.unwrap().partition(), 700);
    assert!(started.elapsed() < SECOND / 100);
}

/// The task of a leader has two connections for a consumer, and up to four for a producer. What happens on one of them is
/// no reason to look at the others: at a thousand records a second that was a tenth of what each took.
#[tokio::test(start_paused = true)]
async fn a_connection_is_read_only_when_something_happens_on_it() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let connector = Counting::new(&cluster);
    let client = Client::builder(cluster.bootstrap()).connector(connector.clone()).connect().await.unwrap();
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(all(2)).unwrap();
    silent(SECOND, &mut consumer).await;
    // While the fetch of the other one waits.
    consumer.seek(&tp(1), 0).unwrap();
    silent(SECOND, &mut consumer).await;
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    producer.send(Record::to("t").partition(0).value("")).await.unwrap();
    consumer.recv().await.unwrap();
    silent(SECOND, &mut consumer).await;
    // The first of all, one for everything, two to fetch, and one to produce.
    let before = connector.reads();
    assert_eq!(before.len(), 5);
    for _ in 0..1_000 {
        producer.send(Record::to("t").partition(0).value("")).await.unwrap();
        consumer.recv().await.unwrap();
    }
    let mut reads: Vec<_> = before.into_iter().zip(connector.reads()).map(|(before, after)| after - before).collect();
    reads.sort_unstable();
    // The answer, that there is nothing more, and once more behind what is sent because of it.
    assert_eq!(reads[..3], [0; 3], "{reads:?}");
    assert!(reads[3..].iter().all(|reads| (2_000..=3_100).contains(reads)), "{reads:?}");
}

/// Beside the fetches there are heartbeats, by either protocol, and nothing else: nothing to commit is no commit.
#[tokio::test(start_paused = true)]
async fn a_member_with_a_thousand_idle_partitions_sleeps_between_heartbeats() {
    for (protocol, api) in
        [(GroupProtocol::Classic, Api::Heartbeat), (GroupProtocol::Consumer, Api::ConsumerGroupHeartbeat)]
    {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1_000);
        let connector = Counting::new(&cluster);
        let client = Client::builder(cluster.bootstrap()).connector(connector.clone()).connect().await.unwrap();
        let builder = client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = builder.group_protocol(protocol).build().unwrap();
        until_it_has(&mut consumer, 1_000).await;
        silent(10 * SECOND, &mut consumer).await;
        cluster.clear_requests();
        let parks = || tokio::runtime::Handle::current().metrics().worker_park_count(0);
        let (before, slept) = (connector.wake_ups(), parks());
        silent(100 * SECOND, &mut consumer).await;
        let (slept, after) = (parks() - slept, connector.wake_ups());
        let of = |api| cluster.requests().iter().filter(|request| request.api == api).count();
        let (fetches, beats) = (of(Api::Fetch), of(api));
        assert!((195..=200).contains(&fetches), "{fetches}");
        assert!((19..=34).contains(&beats), "{beats}");
        assert_eq!(cluster.requests().len(), fetches + beats, "{protocol:?}: nothing else is asked");
        // Two connections fetch, each answer half a second after the one before; on one the driver of the group listens for
        // what joins are told, whatever it wakes for, and one beats: a request, its answer, and what times them.
        let mut woken: Vec<_> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        woken.sort_unstable();
        let (fetching, others) = woken.split_last_chunk::<2>().map(|(others, fetching)| (fetching, others)).unwrap();
        assert!(before.len() == after.len() && fetching.iter().all(|woken| *woken <= 204), "{protocol:?}: {woken:?}");
        assert!(others.iter().all(|woken| *woken <= 4 * beats), "{protocol:?}: {woken:?}");
        // All of them together, the mock, which holds fetches back, and what drives the test among them.
        assert!(slept <= (3 * fetches + 4 * beats) as u64, "{protocol:?}: {slept}");
        assert!(cluster.violations().is_empty());
    }
}

/// Row 26: brokers that lose sessions, have one slot, or none.
#[tokio::test(start_paused = true)]
async fn sessions_that_are_lost_or_refused_starve_nobody() {
    for slots in [0, 1, 1_000] {
        let cluster = MockCluster::builder().brokers(2).fetch_sessions(slots).in_memory().start().await;
        cluster.create_topic("t", 8);
        let mut consumer = reader(&cluster).await;
        let mut checker = Checker::default();
        for round in 0..60 {
            if round % 3 == 0 {
                cluster.evict_fetch_sessions();
            }
            fill(&cluster, 80).await;
            checker.read(&mut consumer, 80).await;
        }
        silent(2 * SECOND, &mut consumer).await;
        assert_eq!(checker.next, (0..8).map(|p| (p, 600)).collect());
        assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
    }
}

/// Row 26, rules 40 and 51: each error of a whole fetch, at any time.
#[tokio::test(start_paused = true)]
async fn errors_of_sessions_are_nobodys_business() {
    for code in [70, 71, 106, 6] {
        let cluster = cluster(2).await;
        cluster.create_topic("t", 4);
        let mut consumer = reader(&cluster).await;
        let mut checker = Checker::default();
        cluster.inject(When::api(Api::Fetch).probability(0.3), Fault::error(code));
        for _ in 0..50 {
            fill(&cluster, 40).await;
            checker.read(&mut consumer, 40).await;
        }
        cluster.clear_faults();
        silent(2 * SECOND, &mut consumer).await;
        assert_eq!(checker.next, (0..4).map(|p| (p, 500)).collect(), "{code}");
    }
}

/// A session that was lost costs one more round trip, also beside many idle partitions.
#[tokio::test(start_paused = true)]
async fn a_lost_session_costs_one_round_trip() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 100);
    let mut consumer = reader(&cluster).await;
    silent(3 * SECOND, &mut consumer).await;
    cluster.evict_fetch_sessions();
    let producer = client(&cluster).await.producer().build().unwrap();
    tokio::time::sleep(SECOND).await;
    cluster.clear_requests();
    let started = tokio::time::Instant::now();
    producer.send(Record::to("t").partition(3).value("0")).await.unwrap();
    within(SECOND / 10, consumer.recv()).await.unwrap();
    assert!(started.elapsed() < SECOND / 100, "{:?}", started.elapsed());
}

/// A broker remembers a thousand sessions for all its clients: who goes gives its own back.
#[tokio::test(start_paused = true)]
async fn who_reads_nothing_any_more_leaves_no_session_behind() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 8);
    let sessions = || (1..3).map(|broker| cluster.fetch_sessions(broker)).collect::<Vec<_>>();
    for way in ["close", "drop", "unassign"] {
        fill(&cluster, 80).await;
        let mut consumer = reader(&cluster).await;
        let mut checker = Checker::default();
        let all_there = cluster.offsets("t", 0).1 as usize * 8;
        checker.read(&mut consumer, all_there).await;
        silent(3 * SECOND, &mut consumer).await;
        assert!(sessions().iter().all(|count| (1..=2).contains(count)), "{:?}", sessions());
        match way {
            "close" => {
                let started = tokio::time::Instant::now();
                consumer.close().await.unwrap();
                assert!(started.elapsed() < SECOND / 10, "{:?}", started.elapsed());
                assert_eq!(sessions(), [0, 0]);
            }
            "drop" => {
                drop(consumer);
                tokio::time::sleep(SECOND).await;
                assert_eq!(sessions(), [0, 0]);
            }
            _ => {
                consumer.assign::<(&str, i32)>([]).unwrap();
                tokio::time::sleep(3 * SECOND).await;
                assert_eq!(sessions(), [0, 0]);
                // And another one begins when there is something to read.
                consumer.incremental_assign(all(8).map(|tp| (tp, 0))).unwrap();
                Checker::default().read(&mut consumer, all_there).await;
                silent(SECOND, &mut consumer).await;
                assert!(sessions().iter().all(|count| *count >= 1), "{:?}", sessions());
            }
        }
    }
    assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
}

/// A broker that hangs holds up closing for a second.
#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_broker_that_hangs() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let mut consumer = reader(&cluster).await;
    silent(2 * SECOND, &mut consumer).await;
    cluster.hang_broker(1);
    within(2 * SECOND + SECOND / 10, consumer.close()).await.unwrap();
}
