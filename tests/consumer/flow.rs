//! While members come and go, partitions that do not move flow on, beside a commit every 100 ms that is waited for. In virtual
//! time, on a network with latency; the judge is that of runs on real clusters (`scripts/chaos members`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::assignor::{Assignor, CooperativeSticky};
use milena::mock::{Link, MockCluster};
use milena::{
    Client, ConsumerBuilder, ConsumerHandle, ErrorKind, GroupProtocol, OffsetReset, RebalanceListener, Rebalancing,
    Record, TopicPartition,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::judge::{Arrivals, Committed, Event, History, Moment, What, gaps, judge};
use crate::rig::{SECOND, client};

const MS: Duration = Duration::from_millis(1);
const PARTITIONS: i32 = 12;
/// Each partition gets a record that often.
const PACE: Duration = Duration::from_millis(24);
/// How long everything is under way between clients and brokers. A record that just misses an answer comes with the next one:
/// that one's way, and the next request's and answer's. Its member may have sent a commit by then: there and back. Whoever
/// comes or leaves adds nothing to that.
const WAY: Duration = Duration::from_millis(2);
const COMERS: usize = 2;

/// What happens, in its order.
#[derive(Clone)]
struct Diary {
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
    /// How many partitions each member has.
    shares: Arc<Mutex<BTreeMap<usize, usize>>>,
}

impl Diary {
    fn now(&self) -> Moment {
        self.began.elapsed()
    }

    fn tell(&self, member: usize, what: What) {
        let mut shares = self.shares.lock().unwrap();
        let own = shares.entry(member).or_default();
        match &what {
            What::Assigned(added) => *own += added.len(),
            What::Revoked(gone) | What::Lost(gone) => *own -= gone.len(),
            What::Left => drop(shares.remove(&member)),
            _ => {}
        }
        self.events.lock().unwrap().push(Event { at: self.now(), member, what });
    }

    async fn settle(&self, members: usize) {
        let share = PARTITIONS as usize / members;
        let is_fair = || {
            let shares = self.shares.lock().unwrap();
            shares.len() == members && shares.values().all(|own| *own == share)
        };
        while !is_fair() {
            assert!(self.now() < 600 * SECOND, "{:?}", self.shares.lock().unwrap());
            sleep(10 * MS).await;
        }
    }
}

struct Teller(Diary, usize);

impl RebalanceListener for Teller {
    fn assigned<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        self.tell(What::Assigned, partitions)
    }

    fn revoked<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        self.tell(What::Revoked, partitions)
    }

    fn lost<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        self.tell(What::Lost, partitions)
    }
}

impl Teller {
    fn tell(&self, what: impl Fn(Vec<i32>) -> What, partitions: &[TopicPartition]) -> Rebalancing<'static> {
        self.0.tell(self.1, what(partitions.iter().map(|tp| tp.partition).collect()));
        Box::pin(std::future::ready(()))
    }
}

struct Member {
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Member {
    /// One record after the other, and a commit every 100 ms, which is waited for.
    fn join(diary: &Diary, id: usize, builder: ConsumerBuilder) -> Self {
        let (leave, mut left) = oneshot::channel();
        let mut consumer = builder.rebalance_listener(Teller(diary.clone(), id)).build().unwrap();
        let diary = diary.clone();
        let task = tokio::spawn(async move {
            let mut commits = interval(100 * MS);
            commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    _ = &mut left => break,
                    _ = commits.tick() => match consumer.commit().await {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::NotOwned => {}
                        Err(error) => panic!("{error}"),
                    },
                    record = consumer.recv() => {
                        let record = record.unwrap();
                        let (partition, offset) = (record.partition(), record.offset());
                        diary.tell(id, What::Record { partition, offset });
                    }
                }
            }
            consumer.close().await.unwrap();
            diary.tell(id, What::Left);
        });
        Self { leave, task }
    }

    async fn leave(self) {
        self.leave.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// To each partition, until it is told to stop: when each record came to the log.
fn write(diary: &Diary, client: &Client, mut stopped: oneshot::Receiver<()>) -> JoinHandle<Arrivals> {
    let (producer, diary) = (client.producer().linger(Duration::ZERO).build().unwrap(), diary.clone());
    tokio::spawn(async move {
        let arrivals = Arc::new(Mutex::new(Arrivals::new()));
        // One after the other, so that some answers are of a partition that is given back, and of no other.
        let mut ticks = interval(PACE / PARTITIONS as u32);
        while stopped.try_recv().is_err() {
            for partition in 0..PARTITIONS {
                ticks.tick().await;
                let receipt = producer.enqueue(Record::to("t").partition(partition).value("x")).await.unwrap();
                let (arrivals, diary) = (Arc::clone(&arrivals), diary.clone());
                receipt.on_delivery(move |result| {
                    let written = result.unwrap();
                    let place = (written.partition, written.offset.unwrap());
                    arrivals.lock().unwrap().insert(place, diary.now() - WAY);
                });
            }
        }
        producer.close(60 * SECOND).await.unwrap();
        std::mem::take(&mut *arrivals.lock().unwrap())
    })
}

async fn the_longest_gap(configure: impl Fn(ConsumerBuilder) -> ConsumerBuilder) -> Duration {
    let builder = MockCluster::builder().brokers(3).consumer_heartbeat_interval(SECOND);
    let cluster = builder.in_memory().start().await;
    cluster.create_topic("t", PARTITIONS as usize);
    (1..=3).for_each(|broker| cluster.set_link(broker, Link::new().latency(WAY)));
    let diary = Diary { began: Instant::now(), events: Arc::default(), shares: Arc::default() };
    let client = client(&cluster).await;
    let (stop, stopped) = oneshot::channel();
    let writing = write(&diary, &client, stopped);
    let build = || configure(client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest));
    let mut commits: Vec<Committed> = Vec::new();
    let mut windows = Vec::new();
    let coming_and_going = async {
        let stay: Vec<_> = (0..3).map(|id| Member::join(&diary, id, build())).collect();
        diary.settle(3).await;
        for id in 3..3 + COMERS {
            let from = diary.now();
            let comer = Member::join(&diary, id, build());
            diary.settle(4).await;
            sleep(SECOND / 2).await;
            windows.push((from, diary.now()));
            let from = diary.now();
            comer.leave().await;
            diary.settle(3).await;
            sleep(SECOND / 2).await;
            windows.push((from, diary.now()));
        }
        stop.send(()).unwrap();
        let arrivals = writing.await.unwrap();
        sleep(5 * SECOND).await;
        for member in stay {
            member.leave().await;
        }
        arrivals
    };
    let watching = async {
        let mut last = vec![None; PARTITIONS as usize];
        loop {
            for (partition, last) in (0..).zip(&mut last) {
                let committed = cluster.committed("g", "t", partition);
                if let (Some(offset), true) = (committed, committed != *last) {
                    commits.push(Committed { at: diary.now(), partition, offset });
                }
                *last = committed;
            }
            sleep(MS).await;
        }
    };
    let arrivals = tokio::select! {
        arrivals = coming_and_going => arrivals,
        never = watching => never,
    };
    let events = std::mem::take(&mut *diary.events.lock().unwrap());
    let ends =
        (0..PARTITIONS).map(|partition| (partition, arrivals.keys().filter(|(p, _)| *p == partition).count() as i64));
    let history =
        History { events, commits, ends: ends.collect(), tells_ownership: true, is_clean: true, blur: Duration::ZERO };
    let verdict = judge(&history);
    assert!(verdict.is_clean() && verdict.commits > 500, "{verdict:#?}");
    let gaps: Vec<_> =
        windows.iter().flat_map(|(from, to)| gaps(&history.events, &arrivals, *from, *to).into_values()).collect();
    // Six to nine of twelve stay.
    assert!(gaps.len() >= 2 * COMERS * 6, "{}", gaps.len());
    assert!(cluster.violations().is_empty());
    gaps.into_iter().max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn partitions_that_stay_flow_on_by_cooperative_sticky() {
    let strategy = [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
    let longest =
        the_longest_gap(|builder| builder.heartbeat_interval(SECOND).partition_assignment_strategy(strategy.clone()))
            .await;
    assert_eq!(longest, WAY * 5);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_stay_flow_on_by_the_brokers_protocol() {
    let longest = the_longest_gap(|builder| builder.group_protocol(GroupProtocol::Consumer)).await;
    assert_eq!(longest, WAY * 5);
}
