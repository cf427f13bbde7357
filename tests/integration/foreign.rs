//! A member of Java's consumer in one group with ours: each record is read once, whoever comes and goes.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use milena::assignor::{Assignor, CooperativeSticky, Range};
use milena::{Client, TopicPartition};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, eventually, fresh};
use crate::groups::{Reader, Seen, Way, has_broker_side_groups, member, write};

/// Of every program, beside its strategy.
const SETTINGS: [&str; 4] = [
    "auto.offset.reset=earliest",
    "heartbeat.interval.ms=200",
    "session.timeout.ms=10000",
    "auto.commit.interval.ms=500",
];

/// Partitions and offsets that a member has read, in its order.
type Lines = Arc<Mutex<Vec<(i32, i64)>>>;

/// A program that is a member, until it is told to leave.
struct Program {
    child: Child,
    reading: JoinHandle<()>,
    lines: Lines,
}

impl Program {
    /// It prints `Partition:PARTITION\tOffset:OFFSET` for each record.
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let lines = Lines::default();
        let (mut output, seen) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&lines));
        let reading = tokio::spawn(async move {
            while let Some(line) = output.next_line().await.unwrap() {
                let line = line.replace("Partition:", "").replace("Offset:", "");
                let (partition, offset) = line.split_once('\t').unwrap_or_else(|| panic!("{line}"));
                seen.lock().unwrap().push((partition.parse().unwrap(), offset.trim().parse().unwrap()));
            }
        });
        Self { child, reading, lines }
    }

    /// `strategy`: names of classes.
    fn java(cluster: &Cluster, group: &str, topic: &str, strategy: &str) -> Self {
        let real = cluster.real.as_ref().expect("a real cluster");
        let mut command = Command::new(&real.script);
        command.args(["tool", "console-consumer", "--bootstrap-server", &cluster.bootstrap.join(",")]);
        command.args(["--topic", topic, "--group", group]);
        for setting in SETTINGS.into_iter().chain([&*format!("partition.assignment.strategy={strategy}")]) {
            command.args(["--command-property", setting]);
        }
        for property in ["print.partition=true", "print.offset=true", "print.value=false"] {
            command.args(["--formatter-property", property]);
        }
        Self::start(command)
    }

    /// Waits until it has read something: a virtual machine takes its time.
    async fn has_read(&self) {
        eventually("a program reads", async || (!self.lines.lock().unwrap().is_empty()).then_some(())).await;
    }

    async fn leave(mut self) -> Lines {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.child.wait().await.unwrap();
        self.reading.await.unwrap();
        self.lines
    }
}

/// Together each of the six partitions' records once, and each member's in order.
fn check(members: &[Vec<(i32, i64)>], count: i64) {
    for read in members {
        for partition in 0..6 {
            assert!(read.iter().filter(|(p, _)| *p == partition).is_sorted(), "partition {partition} in order");
        }
    }
    let mut all = members.concat();
    all.sort_unstable();
    let again: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(again.is_empty(), "read twice: {again:?}");
    assert_eq!(all, (0..6).flat_map(|p| (0..count).map(move |offset| (p, offset))).collect::<Vec<_>>());
}

fn of(seen: &Seen) -> Vec<(i32, i64)> {
    seen.lock().unwrap().iter().map(|(partition, offset, _)| (*partition, *offset)).collect()
}

/// Waits until all of it is committed, so that who leaves next has read everything.
async fn until_all_is_read(client: &Client, group: &str, topic: &str, count: i64) {
    let observer = client.consumer().group(group).build().unwrap();
    eventually("everything is read and committed", async || {
        let committed = observer.committed((0..6).map(|p| TopicPartition::new(topic, p))).await.ok()?;
        (committed.len() == 6 && committed.values().all(|at| at.offset == count)).then_some(())
    })
    .await;
}

/// As KIP-429 has it: each member is restarted with both strategies, and then again with the new one alone. A member of Java's
/// is among them on a real broker of the newest Kafka.
pub async fn a_rolling_upgrade_from_eager_to_cooperative(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 6).await, fresh("g"));
    let range = "org.apache.kafka.clients.consumer.RangeAssignor";
    let cooperative = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    let both = format!("{cooperative},{range}");
    let ways: [(Vec<Arc<dyn Assignor>>, &str); 3] = [
        (vec![Arc::new(Range)], range),
        (vec![Arc::new(CooperativeSticky), Arc::new(Range)], &both),
        (vec![Arc::new(CooperativeSticky)], cooperative),
    ];
    let join = |round: usize| {
        let seen = Seen::default();
        let way = Way::Classic(ways[round].0.clone());
        (Reader::start(member(&client, &group, &topic, &way).build().unwrap(), &seen), seen)
    };
    let has_java = cluster.real.is_some() && cluster.brokers == 1 && has_broker_side_groups(&cluster);
    let join_java = |round: usize| has_java.then(|| Program::java(&cluster, &group, &topic, ways[round].1));
    let (stop, writing) = write(&client, &topic);
    let (mut read, mut javas) = (Vec::new(), Vec::new());
    let (mut one, mut two) = (join(0), join(0));
    let mut java = join_java(0);
    let share = if java.is_some() { 2 } else { 3 };
    for round in 0..3 {
        if round > 0 {
            one.0.leave().await;
            read.push(one.1);
            one = join(round);
            one.0.has(share).await;
            two.0.leave().await;
            read.push(two.1);
            two = join(round);
            two.0.has(share).await;
            if let Some(program) = java {
                javas.push(program.leave().await);
                one.0.has(3).await;
                java = join_java(round);
            }
        }
        one.0.has(share).await;
        two.0.has(share).await;
        if let Some(program) = &java {
            program.has_read().await;
        }
    }
    if let Some(program) = java {
        javas.push(program.leave().await);
    }
    one.0.has(3).await;
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    until_all_is_read(&client, &group, &topic, count).await;
    one.0.leave().await;
    two.0.leave().await;
    read.extend([one.1, two.1]);
    let javas = javas.iter().map(|lines| lines.lock().unwrap().clone());
    check(&read.iter().map(of).chain(javas).collect::<Vec<_>>(), count);
}
