//! Members of Java's consumer and of librdkafka's in one group with ours: each record is read once, whoever comes and goes.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::assignor::{Assignor, CooperativeSticky, Range};
use milena::{Client, ConsumerBuilder, TopicPartition};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, eventually, fresh};
use crate::groups::{Reader, Seen, Way, has_broker_side_groups, member, write};

const RANGE: &str = "org.apache.kafka.clients.consumer.RangeAssignor";
const COOPERATIVE: &str = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

/// How often a member of ours goes and another one comes.
const ROUNDS: usize = 3;

/// Of every program.
const SETTINGS: [&str; 2] = ["auto.offset.reset=earliest", "auto.commit.interval.ms=500"];
/// Of those that go by the classic protocol, beside their strategy. All leave cleanly: what ends a session here is a machine that
/// has no processor for it, and then others read again what was not committed.
const CLASSIC: [&str; 2] = ["heartbeat.interval.ms=200", "session.timeout.ms=30000"];

/// The same for a member of ours.
fn patient(builder: ConsumerBuilder, way: &Way) -> ConsumerBuilder {
    match way {
        Way::Classic(_) => builder.session_timeout(Duration::from_secs(30)),
        Way::Broker(_) => builder,
    }
}

/// A program that is a member, until it is told to leave.
struct Program {
    child: Child,
    reading: JoinHandle<()>,
    seen: Seen,
}

impl Program {
    /// It prints `PARTITION OFFSET` or `Partition:PARTITION\tOffset:OFFSET` for each record.
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        let seen = Seen::default();
        let (mut output, lines) = (BufReader::new(child.stdout.take().unwrap()).lines(), Arc::clone(&seen));
        let reading = tokio::spawn(async move {
            while let Some(line) = output.next_line().await.unwrap() {
                let line = line.replace("Partition:", "").replace("Offset:", "");
                let (partition, offset) = line.split_once([' ', '\t']).unwrap_or_else(|| panic!("{line}"));
                let (partition, offset) = (partition.parse().unwrap(), offset.trim().parse().unwrap());
                lines.lock().unwrap().push((partition, offset, Instant::now()));
            }
        });
        Self { child, reading, seen }
    }

    fn kcat(cluster: &Cluster, group: &str, topic: &str, strategy: &str) -> Self {
        let mut command = Command::new("kcat");
        command.args(["-b", &cluster.bootstrap.join(","), "-G", group, "-u", "-q", "-f", "%p %o\n"]);
        for setting in
            SETTINGS.into_iter().chain(CLASSIC).chain([&*format!("partition.assignment.strategy={strategy}")])
        {
            command.args(["-X", setting]);
        }
        command.arg(topic);
        Self::start(command)
    }

    /// `strategy`: names of classes; `None`: by KIP-848.
    fn java(cluster: &Cluster, group: &str, topic: &str, strategy: Option<&str>) -> Self {
        let real = cluster.real.as_ref().expect("a real cluster");
        let mut command = Command::new(&real.script);
        command.args(["tool", "console-consumer", "--bootstrap-server", &cluster.bootstrap.join(",")]);
        command.args(["--topic", topic, "--group", group]);
        let (classic, protocol) = match strategy {
            Some(strategy) => (&CLASSIC[..], format!("partition.assignment.strategy={strategy}")),
            None => (&[][..], "group.protocol=consumer".into()),
        };
        for setting in SETTINGS.iter().chain(classic).copied().chain([&*protocol]) {
            command.args(["--command-property", setting]);
        }
        for property in ["print.partition=true", "print.offset=true", "print.value=false"] {
            command.args(["--formatter-property", property]);
        }
        Self::start(command)
    }

    async fn leave(mut self) -> Seen {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").arg(id).status().unwrap().success());
        self.child.wait().await.unwrap();
        self.reading.await.unwrap();
        self.seen
    }
}

/// Waits until a member has read something: a virtual machine takes its time.
async fn has_read(seen: &Seen) {
    eventually("a member reads", async || (!seen.lock().unwrap().is_empty()).then_some(())).await;
}

/// Where Java's console consumer takes what it is told here.
fn has_java(cluster: &Cluster) -> bool {
    cluster.real.is_some() && cluster.brokers == 1 && has_broker_side_groups(cluster)
}

/// Who has read what.
struct Account {
    who: &'static str,
    seen: Seen,
    /// Java's consumer commits before it joins, and under a cooperative strategy reads on until it has synced: what it read
    /// in between of partitions that go to others it does not commit (`ConsumerCoordinator.onJoinPrepare` and
    /// `onJoinComplete`), and whoever gets them reads that again, be it itself.
    gives_late: bool,
}

impl Account {
    fn new(who: &'static str, seen: &Seen) -> Self {
        Self { who, seen: Arc::clone(seen), gives_late: false }
    }
}

/// Together each of the six partitions' records once, and each member's in order. Returns how many were read again since their
/// first reader gives late.
fn check(accounts: &[Account], commits: &Seen, count: i64) -> usize {
    let mut readers: BTreeMap<(i32, i64), Vec<(Instant, &Account)>> = BTreeMap::new();
    for account in accounts {
        let seen = account.seen.lock().unwrap();
        for partition in 0..6 {
            let offsets: Vec<_> = seen.iter().filter(|(p, ..)| *p == partition).map(|(_, offset, _)| *offset).collect();
            let back = offsets.windows(2).find(|pair| pair[0] >= pair[1]).filter(|_| !account.gives_late);
            assert_eq!(back, None, "{}: partition {partition} in order", account.who);
        }
        for (partition, offset, at) in seen.iter() {
            readers.entry((*partition, *offset)).or_default().push((*at, account));
        }
    }
    let missing: Vec<_> =
        (0..6).flat_map(|p| (0..count).map(move |o| (p, o))).filter(|at| !readers.contains_key(at)).collect();
    assert!(missing.is_empty() && readers.len() as i64 == 6 * count, "not read: {missing:?}");
    let start = readers.values().flatten().map(|(at, _)| *at).min().unwrap();
    let (mut late, mut again) = (0, Vec::new());
    for ((partition, offset), readers) in &mut readers {
        readers.sort_by_key(|(at, _)| *at);
        match &readers[..] {
            [_] => {}
            [(_, giver), ..] if giver.gives_late => late += 1,
            _ => {
                let readers: Vec<_> = readers.iter().map(|(at, account)| (account.who, *at - start)).collect();
                let seen = commits.lock().unwrap();
                let near = seen.iter().filter(|(p, to, _)| p == partition && (*to - *offset).abs() <= 100);
                let near: Vec<_> = near.map(|(_, to, at)| (*to, at.saturating_duration_since(start))).collect();
                again.push(format!("{partition}@{offset} by {readers:?}, committed {near:?}"));
            }
        }
    }
    assert!(again.is_empty(), "read twice: {again:#?}");
    late
}

/// What is committed, whenever that has changed.
fn watch(client: &Client, group: &str, topic: &str) -> (Seen, JoinHandle<()>) {
    let commits = Seen::default();
    let (observer, topic) = (client.consumer().group(group).build().unwrap(), topic.to_owned());
    let seen = Arc::clone(&commits);
    let watching = tokio::spawn(async move {
        let mut last = BTreeMap::new();
        loop {
            let asked = (0..6).map(|p| TopicPartition::new(topic.as_str(), p));
            for (tp, committed) in observer.committed(asked).await.unwrap() {
                if last.insert(tp.partition, committed.offset) != Some(committed.offset) {
                    seen.lock().unwrap().push((tp.partition, committed.offset, Instant::now()));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    (commits, watching)
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

pub async fn members_of_other_clients_share_a_group(cluster: Cluster) {
    let kcat = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(kcat.is_ok(), "kcat is missing: install it (Debian: apt-get install kcat)");
    tokio::join!(
        share_a_group(&cluster, "range", Some(RANGE), Way::Classic(vec![Arc::new(Range)])),
        share_a_group(
            &cluster,
            "cooperative-sticky",
            Some(COOPERATIVE),
            Way::Classic(vec![Arc::new(CooperativeSticky)])
        ),
        async {
            if has_java(&cluster) {
                share_a_group(&cluster, "KIP-848", None, Way::Broker("uniform")).await;
            }
        },
    );
}

/// `class`: as Java has it; `None`: by KIP-848, which this kcat does not know.
async fn share_a_group(cluster: &Cluster, name: &str, class: Option<&str>, way: Way) {
    let started = Instant::now();
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 6).await, fresh("g"));
    let join = || {
        let seen = Seen::default();
        let builder = patient(member(&client, &group, &topic, &way), &way);
        let builder = builder.auto_commit_interval(Duration::from_millis(500));
        (Reader::start(builder.build().unwrap(), &seen), seen)
    };
    let (commits, watching) = watch(&client, &group, &topic);
    let (stop, writing) = write(&client, &topic);
    let (mut ours, seen) = join();
    let mut accounts = vec![Account::new("ours", &seen)];
    ours.has(6).await;
    has_read(&seen).await;
    let mut share = 6;
    let kcat = class.map(|_| Program::kcat(cluster, &group, &topic, name));
    if let Some(kcat) = &kcat {
        accounts.push(Account::new("kcat", &kcat.seen));
        share = 3;
        ours.has(share).await;
    }
    let java = has_java(cluster).then(|| Program::java(cluster, &group, &topic, class));
    if let Some(java) = &java {
        let gives_late = class == Some(COOPERATIVE);
        accounts.push(Account { gives_late, ..Account::new("Java", &java.seen) });
        share = if kcat.is_some() { 2 } else { 3 };
        ours.has(share).await;
        has_read(&java.seen).await;
    }
    if let Some(kcat) = &kcat {
        has_read(&kcat.seen).await;
    }
    // The leader goes at first, and one of the others becomes it.
    for _ in 0..ROUNDS {
        ours.leave().await;
        let (next, seen) = join();
        accounts.push(Account::new("ours", &seen));
        ours = next;
        ours.has(share).await;
        has_read(&seen).await;
    }
    // A program that is told to end has nothing in hand then, which it might commit and not print.
    stop.send(()).unwrap();
    let mut count = writing.await.unwrap();
    until_all_is_read(&client, &group, &topic, count).await;
    for program in [kcat, java].into_iter().flatten() {
        program.leave().await;
    }
    ours.has(6).await;
    let (stop, writing) = write(&client, &topic);
    stop.send(()).unwrap();
    count += writing.await.unwrap();
    until_all_is_read(&client, &group, &topic, count).await;
    ours.leave().await;
    watching.abort();
    let late = check(&accounts, &commits, count);
    let shares: Vec<_> = accounts.iter().map(|account| (account.who, account.seen.lock().unwrap().len())).collect();
    println!("{name}: of {} records {shares:?}; {late} again, in {:.1?}", 6 * count, started.elapsed());
    assert!(shares.iter().all(|(_, share)| *share > 0));
}

/// As KIP-429 has it: each member is restarted with both strategies, and then again with the new one alone. A member of Java's
/// is among them on a real broker of the newest Kafka.
pub async fn a_rolling_upgrade_from_eager_to_cooperative(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 6).await, fresh("g"));
    let both = format!("{COOPERATIVE},{RANGE}");
    let ways: [(Vec<Arc<dyn Assignor>>, &str); 3] = [
        (vec![Arc::new(Range)], RANGE),
        (vec![Arc::new(CooperativeSticky), Arc::new(Range)], &both),
        (vec![Arc::new(CooperativeSticky)], COOPERATIVE),
    ];
    let mut accounts = Vec::new();
    let join = |round: usize, accounts: &mut Vec<Account>| {
        let seen = Seen::default();
        accounts.push(Account::new("ours", &seen));
        let way = Way::Classic(ways[round].0.clone());
        Reader::start(patient(member(&client, &group, &topic, &way), &way).build().unwrap(), &seen)
    };
    let join_java = |round: usize, accounts: &mut Vec<Account>| {
        let java = has_java(&cluster).then(|| Program::java(&cluster, &group, &topic, Some(ways[round].1)))?;
        let gives_late = ways[round].1 == COOPERATIVE;
        accounts.push(Account { gives_late, ..Account::new("Java", &java.seen) });
        Some(java)
    };
    let (commits, watching) = watch(&client, &group, &topic);
    let (stop, writing) = write(&client, &topic);
    let (mut one, mut two) = (join(0, &mut accounts), join(0, &mut accounts));
    let mut java = join_java(0, &mut accounts);
    let share = if java.is_some() { 2 } else { 3 };
    for round in 0..3 {
        if round > 0 {
            one.leave().await;
            one = join(round, &mut accounts);
            one.has(share).await;
            two.leave().await;
            two = join(round, &mut accounts);
            two.has(share).await;
            if let Some(program) = java {
                program.leave().await;
                one.has(3).await;
                java = join_java(round, &mut accounts);
            }
        }
        one.has(share).await;
        two.has(share).await;
        if let Some(program) = &java {
            has_read(&program.seen).await;
        }
    }
    if let Some(program) = java {
        program.leave().await;
    }
    one.has(3).await;
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    until_all_is_read(&client, &group, &topic, count).await;
    one.leave().await;
    two.leave().await;
    watching.abort();
    check(&accounts, &commits, count);
}
