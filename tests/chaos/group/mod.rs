//! Members of a group while members and brokers are killed, stopped and restarted, and come and go: `scripts/chaos members`.
//!
//! ```text
//!   writer ──▶ topic ──▶ members: each a program, reads, says so, commits every 100 ms ──▶ lines ──▶ judge
//!                          ▲ SIGKILL, SIGSTOP, SIGTERM     ▲ brokers: SIGKILL, restarts
//! ```

#[path = "../../judge/groups.rs"]
pub mod judge;
pub mod judge_tests;
pub mod member;
mod offsets;
mod team;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::{Client, NewTopic, OffsetReset, Record, TopicPartition};

use crate::cluster::Cluster;
use judge::{Arrivals, Event, History, Moment, Verdict, What, gaps, judge, takeovers};
use member::{Membership, Way, now};
use team::Team;

pub use team::Program;

const PARTITIONS: i32 = 12;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
/// A JVM that has just started compiles what it runs: for so long before anything is measured.
const WARM: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// None: members come, one after the other, and leave.
    Churn,
    /// A member is killed.
    Kill,
    /// A static one, which is started again.
    Static,
    /// A member is stopped for longer than its session.
    Stop,
    /// The coordinator's broker is killed, and restarted.
    Coordinator,
    /// The brokers are shut down and started again, one after the other.
    Rolling,
}

impl Fault {
    pub const ALL: [Self; 6] = [Self::Churn, Self::Kill, Self::Static, Self::Stop, Self::Coordinator, Self::Rolling];

    pub fn name(self) -> &'static str {
        match self {
            Self::Churn => "churn",
            Self::Kill => "kill",
            Self::Static => "static",
            Self::Stop => "stop",
            Self::Coordinator => "coordinator",
            Self::Rolling => "rolling",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub fault: Fault,
    pub way: Way,
    pub program: Program,
    /// A broker's configuration says the same for KIP-848.
    pub session: Duration,
    pub heartbeat: Duration,
    /// How many come and leave.
    pub comers: usize,
    /// Each partition gets a record that often.
    pub pace: Duration,
    /// Where to write down everything that happened.
    pub history: Option<String>,
}

impl Plan {
    pub fn new(fault: Fault, way: Way) -> Self {
        let (session, heartbeat, pace) = (6 * SECOND, SECOND, 10 * MS);
        Self { fault, way, program: Program::Ours, session, heartbeat, comers: 12, pace, history: None }
    }
}

/// What there is to tell of times.
#[derive(Clone, Debug, Default)]
struct Times {
    /// From the fault to the first record by another member; `None`: never.
    takeovers: Vec<Option<Duration>>,
    /// The longest ones of partitions that stay, in each window; of those led by a broker that was killed, apart.
    gaps: Vec<Duration>,
    gaps_led_there: Vec<Duration>,
    /// The same before anything happened, and after it: what a busy machine makes of it.
    in_peace: [Vec<Duration>; 2],
    /// How long members waited for each commit while something happened.
    commits: Vec<Duration>,
}

pub struct Report {
    pub verdict: Verdict,
    pub text: String,
}

struct Run {
    cluster: Arc<Cluster>,
    client: Client,
    topic: String,
    team: Team,
    /// Something happened in each, and was over by its end.
    windows: Vec<(Moment, Moment)>,
    /// Nothing happened: before, and after.
    peace: [(Moment, Moment); 2],
    /// Whose partitions others had to take, and since when.
    victim: Option<(usize, Moment)>,
    /// What a broker led that was killed.
    led_there: Vec<i32>,
}

pub async fn run(cluster: Arc<Cluster>, plan: &Plan) -> Report {
    let client = Client::builder(cluster.bootstrap()).client_id("chaos").connect().await.expect("a cluster");
    let name = format!("{}-{}-{}-{}", plan.program.name(), plan.way.name(), plan.fault.name(), now().as_millis());
    let (topic, group) = (format!("t-{name}"), format!("g-{name}"));
    // So that the log says when a record came, whenever its producer had made it.
    let new = NewTopic::named(&*topic).partitions(PARTITIONS).config("message.timestamp.type", "LogAppendTime");
    cluster.create_topic(&client, new).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let is_written = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write(client.clone(), topic.clone(), plan.pace, Arc::clone(&is_written)));
    let watching = offsets::watch(&cluster, &group, &topic, PARTITIONS, &is_over);
    let membership = Membership {
        bootstrap: cluster.bootstrap().join(","),
        group: group.clone(),
        topic: topic.clone(),
        way: plan.way,
        session: plan.session,
        heartbeat: plan.heartbeat,
        instance: String::new(),
    };
    let team = Team::new(plan.program.clone(), membership, PARTITIONS as usize);
    let (windows, led_there) = (Vec::new(), Vec::new());
    let mut run = Run { cluster, client, topic, team, windows, peace: Default::default(), victim: None, led_there };
    // What goes on after it has gone wrong says nothing.
    let mut problems: Vec<_> = run.happen(plan, &group).await.err().into_iter().collect();

    is_written.store(true, Ordering::Relaxed);
    let ends = writing.await.expect("everything is written");
    run.team.until_read(&ends, 60 * SECOND).await;
    for member in run.team.members() {
        problems.extend(run.team.leave(member).await.err());
    }
    is_over.store(true, Ordering::Relaxed);
    let watched = watching.await.expect("commits are watched");
    let commits = match &*run.cluster {
        Cluster::Mock(_) => watched,
        Cluster::Real { .. } => offsets::read(&run.client, &group, &run.topic).await,
    };
    let history = History {
        events: run.team.events(),
        commits,
        ends,
        tells_ownership: plan.program == Program::Ours,
        is_clean: plan.fault == Fault::Churn,
        // The log's timestamps are of whole milliseconds.
        blur: 5 * MS,
    };
    let mut verdict = judge(&history);
    // What others do is theirs: their times are what is asked for.
    if plan.program == Program::Ours {
        verdict.problems.append(&mut problems);
    }
    let arrivals = arrivals(&run.client, &run.topic, &history.ends).await;
    let times = run.times(&history.events, &arrivals);
    let text = report(plan, &verdict, &times, &history.events, &problems);
    if let Some(path) = &plan.history {
        std::fs::write(path, written(&history, &arrivals)).expect("a file for the history");
    }
    Report { verdict, text }
}

/// From the logs, of as many records as each has.
async fn arrivals(client: &Client, topic: &str, ends: &BTreeMap<i32, i64>) -> Arrivals {
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().expect("a consumer");
    consumer.assign(ends.keys().map(|partition| TopicPartition::new(topic, *partition))).expect("the topic");
    consumer.stop_at_end().await.expect("ends");
    let mut arrivals = Arrivals::new();
    while let Some(batch) = consumer.poll().await.expect("a log that can be read") {
        for record in batch {
            let at = Duration::from_millis(u64::try_from(record.timestamp()).expect("a time"));
            arrivals.insert((record.partition(), record.offset()), at);
        }
    }
    assert_eq!(arrivals.len() as i64, ends.values().sum::<i64>(), "records in the log");
    arrivals
}

/// In the order of their moments, a line each.
fn written(history: &History, arrivals: &Arrivals) -> String {
    let events = history.events.iter().map(|event| (event.at, format!("{} {:?}", event.member, event.what)));
    let commits = history.commits.iter().map(|c| (c.at, format!("log committed {} {}", c.partition, c.offset)));
    let arrivals = arrivals.iter().map(|((partition, offset), at)| (*at, format!("log record {partition} {offset}")));
    let mut lines: Vec<_> = events.chain(commits).chain(arrivals).collect();
    lines.sort();
    lines.into_iter().map(|(at, line)| format!("{} {line}\n", at.as_micros())).collect()
}

/// A record to each partition at every tick, until it is told to stop. How many each has.
async fn write(client: Client, topic: String, pace: Duration, is_over: Arc<AtomicBool>) -> BTreeMap<i32, i64> {
    let producer = client.producer().build().expect("a producer");
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        for partition in 0..PARTITIONS {
            let record = Record::to(&*topic).partition(partition).value("x");
            let receipt = producer.enqueue(record).await.expect("room");
            receipt.on_delivery(|result| drop(result.expect("everything is written")));
        }
        count += 1;
    }
    producer.close(60 * SECOND).await.expect("everything is written");
    (0..PARTITIONS).map(|partition| (partition, count)).collect()
}

async fn peace() -> (Moment, Moment) {
    let from = now();
    tokio::time::sleep(2 * SECOND).await;
    (from, now())
}

impl Run {
    async fn happen(&mut self, plan: &Plan, group: &str) -> Result<(), String> {
        let is_static = plan.fault == Fault::Static;
        for name in ["one", "two", "three"] {
            self.team.join(if is_static { name } else { "" });
        }
        self.team.settle(60 * SECOND).await?;
        if let Cluster::Real { .. } = &*self.cluster {
            tokio::time::sleep(WARM).await;
        }
        self.peace[0] = peace().await;
        match plan.fault {
            Fault::Churn => {
                for _ in 0..plan.comers {
                    let from = now();
                    let member = self.team.join("");
                    self.end_window(from, 60 * SECOND).await?;
                    let from = now();
                    self.team.leave(member).await?;
                    self.end_window(from, 60 * SECOND).await?;
                }
            }
            Fault::Kill | Fault::Static => {
                let (victim, from) = (self.team.owner(0), now());
                self.victim = Some((victim, from));
                self.team.kill(victim).await;
                if is_static {
                    tokio::time::sleep(SECOND).await;
                    // Members were started in this order.
                    self.team.join(["one", "two", "three"][victim]);
                }
                self.end_window(from, plan.session + 60 * SECOND).await?;
            }
            Fault::Stop => {
                let (victim, from) = (self.team.owner(0), now());
                self.victim = Some((victim, from));
                self.team.stop(victim).await;
                self.end_window(from, plan.session + 60 * SECOND).await?;
                tokio::time::sleep(2 * SECOND).await;
                self.team.resume(victim).await;
                self.team.settle(60 * SECOND).await?;
            }
            Fault::Coordinator => {
                let broker = offsets::coordinator(&self.cluster, &self.client, group).await;
                self.led_there = self.led_by(broker).await;
                let from = now();
                self.cluster.kill(broker).await;
                self.end_window(from, 60 * SECOND).await?;
                self.cluster.restart(broker).await;
                self.cluster.heal(&self.client, &self.topic, 60 * SECOND).await;
                // Whoever coordinates now has everything that is needed.
                self.team.join("");
                self.team.settle(60 * SECOND).await?;
            }
            Fault::Rolling => {
                for broker in 1..=3 {
                    let from = now();
                    self.cluster.shut_down(broker).await;
                    self.cluster.restart(broker).await;
                    self.cluster.heal(&self.client, &self.topic, 60 * SECOND).await;
                    self.end_window(from, 60 * SECOND).await?;
                }
            }
        }
        self.peace[1] = peace().await;
        Ok(())
    }

    async fn end_window(&mut self, from: Moment, limit: Duration) -> Result<(), String> {
        self.team.settle(limit).await?;
        tokio::time::sleep(SECOND / 2).await;
        self.windows.push((from, now()));
        Ok(())
    }

    async fn led_by(&self, broker: i32) -> Vec<i32> {
        let topics = self.client.admin().describe_topics([&*self.topic]).await.expect("the topic");
        let partitions = topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.leader == Some(broker)).map(|partition| partition.index).collect()
    }

    fn times(&self, events: &[Event], arrivals: &Arrivals) -> Times {
        let mut times = Times::default();
        if let Some((victim, at)) = self.victim {
            times.takeovers.extend(takeovers(events, victim, at).into_values());
        }
        times.in_peace = self.peace.map(|(from, to)| gaps(events, arrivals, from, to).into_values().collect());
        for (from, to) in &self.windows {
            let within = events.iter().filter(|event| event.at >= *from && event.at < *to);
            times.commits.extend(within.filter_map(|event| match event.what {
                What::Waited(took) => Some(took),
                _ => None,
            }));
            for (partition, gap) in gaps(events, arrivals, *from, *to) {
                match self.led_there.contains(&partition) {
                    true => times.gaps_led_there.push(gap),
                    false => times.gaps.push(gap),
                }
            }
        }
        times
    }
}

fn report(plan: &Plan, verdict: &Verdict, times: &Times, events: &[Event], problems: &[String]) -> String {
    let mut text = format!("{} {} {}\n", plan.program.name(), plan.way.name(), plan.fault.name());
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<34} {value}").unwrap();
    line("records, commits, errors", format!("{}, {}, {}", verdict.records, verdict.commits, verdict.errors));
    let Verdict { unread, again, after_waking, .. } = verdict;
    line("unread / again / of these on waking", format!("{unread} / {again} / {after_waking}"));
    let Verdict { two_owners, not_owned, out_of_order, commits_back, commits_ahead, .. } = verdict;
    if plan.program == Program::Ours {
        line("two owners / not owned / disorder", format!("{two_owners} / {not_owned} / {out_of_order}"));
    }
    line("commits that went back / ahead", format!("{commits_back} / {commits_ahead}"));
    if !times.takeovers.is_empty() {
        let never = times.takeovers.iter().filter(|took| took.is_none()).count();
        let took = spread(times.takeovers.iter().flatten().copied().collect());
        line("taken over: median, worst, never", format!("{took}, {never} of {}", times.takeovers.len()));
    }
    let kinds = [
        ("gaps in peace, before", &times.in_peace[0]),
        ("gaps in peace, after", &times.in_peace[1]),
        ("gaps where nothing moves", &times.gaps),
        ("of the killed broker's", &times.gaps_led_there),
    ];
    for (name, gaps) in kinds {
        if !gaps.is_empty() {
            let mean = gaps.iter().sum::<Duration>() / gaps.len() as u32;
            let worst = gaps.iter().max().copied().unwrap_or_default();
            line(name, format!("mean {mean:.0?}, worst {worst:.0?}, of {}", gaps.len()));
        }
    }
    if !times.commits.is_empty() {
        line("a commit took: median, worst", spread(times.commits.clone()));
    }
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        if let judge::What::Error(error) = &event.what {
            *errors.entry(error).or_default() += 1;
        }
    }
    for (error, count) in errors.iter().take(5) {
        line("an error", format!("{count} x {error}"));
    }
    for problem in verdict.problems.iter().chain(problems) {
        line("PROBLEM", problem.clone());
    }
    text
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let of = |at: usize| times.get(at).copied().unwrap_or_default();
    format!("{:.1?}, {:.1?}", of(times.len() / 2), of(times.len().saturating_sub(1)))
}
