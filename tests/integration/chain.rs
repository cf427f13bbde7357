//! A chain of groups: keyed records go through three topics, read by a group each, whose members join and quit all the while.
//!
//! ```text
//!   writer ─▶ topic 0 ─▶ group 0 ─▶ topic 1 ─▶ group 1 ─▶ topic 2 ─▶ group 2 ─▶ the judge
//!                        ▲ joins, quits         ▲ …                  ▲ …
//! ```
//! What a member has read counts as dealt with when the next topic has it. All members leave in order, so in the end each
//! record is there once, and those of a key in the order in which they were written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use milena::assignor::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use milena::{
    Client, Consumer, ConsumerBuilder, ConsumerHandle, GroupProtocol, OffsetReset, PendingRecord, Producer, Record,
};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::{Cluster, eventually, fresh};
use crate::groups::has_broker_side_groups;

const SECOND: Duration = Duration::from_secs(1);
const PARTITIONS: i32 = 6;
const KEYS: usize = 500;
const STAGES: usize = 3;

/// How the members of a chain agree.
#[derive(Clone)]
struct Variant {
    name: &'static str,
    /// None: by KIP-848.
    strategy: Option<Arc<dyn Assignor>>,
    /// Members quit without leaving, and come back under the same name.
    is_static: bool,
}

fn variants(cluster: &Cluster) -> Vec<Variant> {
    let variant = |name, strategy, is_static| Variant { name, strategy, is_static };
    let mut variants = vec![
        variant("range", Some(Arc::new(Range) as Arc<dyn Assignor>), false),
        variant("roundrobin", Some(Arc::new(RoundRobin)), false),
        variant("sticky", Some(Arc::new(Sticky)), false),
        variant("cooperative-sticky", Some(Arc::new(CooperativeSticky)), false),
        variant("cooperative-sticky, static", Some(Arc::new(CooperativeSticky)), true),
    ];
    if has_broker_side_groups(cluster) {
        variants.extend([variant("KIP-848", None, false), variant("KIP-848, static", None, true)]);
    }
    variants
}

/// Three variants at a time, a few records each; all of them on the mock and on one broker of the newest Kafka, and elsewhere
/// those that move the fewest partitions. `MILENA_CHAIN_RECORDS`: one after the other, with so many each, and
/// `MILENA_CHAIN_ROUNDS` times a member of each group joins and one quits; scripts/long/chain.
pub async fn records_flow_through_three_groups(cluster: Cluster) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<usize>().expect(name));
    let rounds = number("MILENA_CHAIN_ROUNDS").unwrap_or(2);
    match number("MILENA_CHAIN_RECORDS") {
        Some(records) => {
            for variant in variants(&cluster) {
                println!("{}", run(&cluster, variant, records, rounds).await);
            }
        }
        None => {
            let takes_all = cluster.real.is_none() || cluster.brokers == 1 && has_broker_side_groups(&cluster);
            let is_frugal = |variant: &Variant| !["range", "roundrobin", "sticky"].contains(&variant.name);
            let variants = variants(&cluster).into_iter().filter(|variant| takes_all || is_frugal(variant));
            let runs = variants.map(|variant| run(&cluster, variant, 3_000, rounds));
            // A session must not end for want of a processor.
            futures_util::stream::iter(runs).buffer_unordered(3).collect::<Vec<_>>().await;
        }
    }
}

async fn run(cluster: &Cluster, variant: Variant, records: usize, rounds: usize) -> String {
    let client = cluster.client().await;
    let mut topics = Vec::new();
    for _ in 0..STAGES {
        topics.push(cluster.topic(&client, PARTITIONS).await);
    }
    let read: Arc<Mutex<Vec<(u32, u32)>>> = Arc::default();
    let mut stages: Vec<_> = (0..STAGES)
        .map(|n| {
            let target = match topics.get(n + 1) {
                Some(next) => Target::Topic(client.producer().build().unwrap(), next.as_str().into()),
                None => Target::Judge(Arc::clone(&read)),
            };
            let (client, variant, topic) = (client.clone(), variant.clone(), topics[n].clone());
            Stage { client, variant, group: fresh("chain"), topic, target, members: VecDeque::new(), joined: 0 }
        })
        .collect();
    let start = Instant::now();
    for stage in &mut stages {
        stage.join().await;
        stage.join().await;
    }
    let producer = client.producer().build().unwrap();
    for round in 0..rounds {
        let written = round * records / rounds..(round + 1) * records / rounds;
        let churns = futures_util::future::join_all(stages.iter_mut().map(Stage::churn));
        tokio::join!(write(&producer, &topics[0], written), churns);
    }
    let mut last = (Instant::now(), 0);
    while read.lock().unwrap().len() < records {
        let count = read.lock().unwrap().len();
        if count > last.1 {
            last = (Instant::now(), count);
        }
        assert!(last.0.elapsed() < 90 * SECOND, "{}: stuck at {count} of {records}", variant.name);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    for stage in &mut stages {
        stage.end().await;
    }
    judge(variant.name, &read.lock().unwrap(), records);
    for stage in &stages {
        let observer = client.consumer().group(stage.group.as_str()).build().unwrap();
        let committed = observer.committed((0..PARTITIONS).map(|p| (stage.topic.as_str(), p))).await.unwrap();
        let sum: i64 = committed.values().map(|committed| committed.offset).sum();
        assert_eq!(sum, records as i64, "{}: committed {committed:?}", variant.name);
    }
    let joined: usize = stages.iter().map(|stage| stage.joined).sum();
    let rate = records as f64 / took.as_secs_f64();
    format!(
        "chain, {}: {records} records through {STAGES} groups in {:.1} s ({rate:.0} records/s), {joined} joins and as many \
         quits; none twice, none missing, each key in order",
        variant.name,
        took.as_secs_f64()
    )
}

async fn write(producer: &Producer, topic: &str, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let (key, value) = (((n % KEYS) as u32).to_be_bytes(), ((n / KEYS) as u32).to_be_bytes());
        drop(producer.enqueue(Record::to(topic).key(&key).value(&value)).await.unwrap());
    }
    producer.flush().await;
}

/// Each number of each key, once and in order.
fn judge(name: &str, read: &[(u32, u32)], records: usize) {
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut again, mut ahead) = (Vec::new(), Vec::new());
    for (key, number) in read {
        let expected = next.entry(*key).or_default();
        if number < expected {
            again.push((*key, *number));
        } else if number > expected {
            ahead.push((*key, *expected, *number));
        }
        *expected = (*expected).max(number + 1);
    }
    let (first_again, first_ahead) = (again.first(), ahead.first());
    assert!(
        again.is_empty() && ahead.is_empty() && read.len() == records,
        "{name}: {} records of {records}; {} came again or too late, the first {first_again:?}; {} too early, the first \
         {first_ahead:?} (key, expected, came)",
        read.len(),
        again.len(),
        ahead.len(),
    );
    let ends: Vec<_> = (0..KEYS as u32).map(|key| next.get(&key).copied().unwrap_or_default() as usize).collect();
    assert_eq!(ends, (0..KEYS).map(|key| (records + KEYS - 1 - key) / KEYS).collect::<Vec<_>>(), "{name}");
}

/// Where a group's records go.
#[derive(Clone)]
enum Target {
    Topic(Producer, Arc<str>),
    Judge(Arc<Mutex<Vec<(u32, u32)>>>),
}

impl Target {
    /// Returns when they are there.
    async fn take<'a>(&self, records: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
        match self {
            Self::Topic(producer, topic) => {
                let mut receipts = Vec::new();
                for (key, value) in records {
                    let record = Record::to(Arc::clone(topic)).key(key).value(value);
                    receipts.push(producer.enqueue(record).await.unwrap());
                }
                for receipt in receipts {
                    receipt.await.unwrap();
                }
            }
            Self::Judge(read) => {
                let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
                read.lock().unwrap().extend(records.map(|(key, value)| (number(key), number(value))));
            }
        }
    }
}

/// A group, and where it reads and writes.
struct Stage {
    client: Client,
    variant: Variant,
    group: String,
    topic: String,
    target: Target,
    members: VecDeque<Member>,
    joined: usize,
}

struct Member {
    name: usize,
    handle: ConsumerHandle,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Stage {
    async fn join(&mut self) {
        let name = self.joined;
        self.join_as(name).await;
    }

    /// Returns when it has a share. Every other one reads by streams of partitions.
    async fn join_as(&mut self, name: usize) {
        let consumer = self.builder(name).build().unwrap();
        let (handle, target, is_split) = (consumer.handle(), self.target.clone(), self.joined % 2 == 1);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            match is_split {
                false => by_poll(consumer, target, stopped).await,
                true => by_stream(consumer, target, stopped).await,
            }
        });
        let share = || (!handle.assignment().is_empty()).then_some(());
        eventually("a share for who has joined", async || share()).await;
        self.members.push_back(Member { name, handle, stop, task });
        self.joined += 1;
    }

    fn builder(&self, name: usize) -> ConsumerBuilder {
        let builder = self.client.consumer().group(self.group.as_str()).subscribe([self.topic.as_str()]);
        let builder = builder.auto_offset_reset(OffsetReset::Earliest);
        let builder = match &self.variant.strategy {
            Some(strategy) => builder
                .heartbeat_interval(SECOND / 5)
                .session_timeout(30 * SECOND)
                .partition_assignment_strategy([Arc::clone(strategy)]),
            None => builder.group_protocol(GroupProtocol::Consumer),
        };
        match self.variant.is_static {
            true => builder.group_instance_id(format!("member-{name}")),
            false => builder,
        }
    }

    /// One joins, and the eldest quits; a static member comes back, under its name.
    async fn churn(&mut self) {
        let eldest = self.members.pop_front().expect("there are two");
        match self.variant.is_static {
            true => {
                let name = eldest.name;
                eldest.quit().await;
                self.join_as(name).await;
            }
            false => {
                self.join().await;
                eldest.quit().await;
            }
        }
    }

    async fn end(&mut self) {
        for member in self.members.drain(..) {
            member.quit().await;
        }
    }
}

impl Member {
    async fn quit(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap();
        assert!(self.handle.assignment().is_empty());
    }
}

async fn by_poll(mut consumer: Consumer, target: Target, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            batch = consumer.poll() => {
                let batch = batch.unwrap().expect("it has no end");
                target.take(batch.map(|record| (record.key().unwrap(), record.value().unwrap()))).await;
            }
        }
    }
    consumer.close().await.unwrap();
}

async fn by_stream(consumer: Consumer, target: Target, mut stopped: oneshot::Receiver<()>) {
    let mut partitions = consumer.split();
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            stream = partitions.try_next() => {
                let (mut stream, target) = (stream.unwrap().expect("it has no end"), target.clone());
                tasks.spawn(async move {
                    while let Some(first) = stream.try_next().await.unwrap() {
                        let mut records = vec![first];
                        // What is there already.
                        while records.len() < 1_000
                            && let Some(Some(next)) = stream.try_next().now_or_never().transpose().unwrap()
                        {
                            records.push(next);
                        }
                        target.take(records.iter().map(|record| (record.key().unwrap(), record.value().unwrap()))).await;
                        records.into_iter().for_each(PendingRecord::ack);
                    }
                });
            }
        }
    }
    partitions.close().await.unwrap();
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
}
