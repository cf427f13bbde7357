//! The members of a group, as programs, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::judge::{Event, Moment, What};
use super::member::{Membership, Way, heard, now};

/// Whose consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Ours,
    /// librdkafka's: it says what it reads, and commits every 100 ms in the background.
    Kcat,
    /// `benches/peers/franz-peer`, the same.
    FranzGo(PathBuf),
}

impl Program {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ours => "milena",
            Self::Kcat => "kcat",
            Self::FranzGo(_) => "franz-go",
        }
    }

    fn command(&self, membership: &Membership) -> Command {
        let Membership { bootstrap, group, topic, way, session, heartbeat, .. } = membership;
        let (session, heartbeat) = (session.as_millis(), heartbeat.as_millis());
        match self {
            Self::Ours => {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.arg("member").args(membership.arguments());
                command
            }
            Self::Kcat => {
                let strategy = if *way == Way::Range { "range" } else { "cooperative-sticky" };
                let mut command = Command::new("kcat");
                command.args(["-q", "-u", "-b", bootstrap, "-f", "record %p %o\n", "-G", group]);
                for setting in [
                    format!("session.timeout.ms={session}"),
                    format!("heartbeat.interval.ms={heartbeat}"),
                    format!("partition.assignment.strategy={strategy}"),
                    "auto.commit.interval.ms=100".into(),
                    "auto.offset.reset=earliest".into(),
                ] {
                    command.args(["-X", &setting]);
                }
                command.arg(topic);
                command
            }
            Self::FranzGo(path) => {
                let strategy = if *way == Way::Range { "range" } else { "cooperative-sticky" };
                let mut command = Command::new(path);
                command.args(["member", "--bootstrap", bootstrap, "--topic", topic, "--group", group]);
                command.args(["--session-ms", &session.to_string(), "--heartbeat-ms", &heartbeat.to_string()]);
                command.args(["--strategy", strategy]);
                command
            }
        }
    }
}

struct Running {
    child: Child,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    events: Vec<Event>,
    /// By partition: who read of it last, and when.
    last: BTreeMap<i32, (usize, Moment)>,
    /// So that all that was written can be waited for.
    read: BTreeMap<i32, BTreeSet<i64>>,
}

impl Heard {
    fn push(&mut self, member: usize, at: Moment, what: What) {
        if let What::Record { partition, offset } = what {
            let last = self.last.entry(partition).or_insert((member, at));
            if last.1 <= at {
                *last = (member, at);
            }
            self.read.entry(partition).or_default().insert(offset);
        }
        self.events.push(Event { at, member, what });
    }
}

pub struct Team {
    pub program: Program,
    pub membership: Membership,
    partitions: usize,
    running: BTreeMap<usize, Running>,
    /// Of those, the stopped ones, of which nobody expects anything.
    stopped: BTreeSet<usize>,
    next: usize,
    heard: Arc<Mutex<Heard>>,
}

const MS: Duration = Duration::from_millis(1);

impl Team {
    pub fn new(program: Program, membership: Membership, partitions: usize) -> Self {
        let (running, stopped) = (BTreeMap::new(), BTreeSet::new());
        Self { program, membership, partitions, running, stopped, next: 0, heard: Arc::default() }
    }

    /// `instance`: of a static member, else empty.
    pub fn join(&mut self, instance: &str) -> usize {
        let id = self.next;
        self.next += 1;
        let membership = Membership { instance: instance.into(), ..self.membership.clone() };
        let mut command = self.program.command(&membership);
        // Its input stays open for as long as this program lives.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("a member can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let all = Arc::clone(&self.heard);
        let reading = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let told = heard(&line).or_else(|| {
                    // Another's member has no clock: when it is heard is later than when it was said.
                    let (partition, offset) = line.strip_prefix("record ")?.split_once(' ')?;
                    Some((now(), What::Record { partition: partition.parse().ok()?, offset: offset.parse().ok()? }))
                });
                // Half a line is what a killed member has left.
                let Some((at, what)) = told else { continue };
                all.lock().unwrap().push(id, at, what);
            }
        });
        self.running.insert(id, Running { child, reading });
        id
    }

    fn tell(&self, member: usize, what: What) {
        self.heard.lock().unwrap().push(member, now(), what);
    }

    async fn signal(&self, member: usize, signal: &str) {
        let pid = self.running[&member].child.id().expect("it runs");
        let status = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().await;
        assert!(status.expect("kill can be run").success(), "member {member}, SIG{signal}");
    }

    /// Waits until it is gone, and everything that it has said is heard.
    async fn gone(&mut self, member: usize) {
        let Running { mut child, reading } = self.running.remove(&member).expect("a member");
        let _ = child.wait().await;
        let _ = reading.await;
    }

    /// Cleanly. How it went.
    pub async fn leave(&mut self, member: usize) -> Result<(), String> {
        self.signal(member, "TERM").await;
        if tokio::time::timeout(60_000 * MS, self.gone(member)).await.is_err() {
            return Err(format!("member {member} does not leave within a minute"));
        }
        if self.program != Program::Ours {
            self.tell(member, What::Left);
        }
        Ok(())
    }

    pub async fn kill(&mut self, member: usize) {
        self.signal(member, "KILL").await;
        self.gone(member).await;
        self.tell(member, What::Killed);
    }

    pub async fn stop(&mut self, member: usize) {
        self.signal(member, "STOP").await;
        self.stopped.insert(member);
        self.tell(member, What::Stopped);
    }

    pub async fn resume(&mut self, member: usize) {
        self.tell(member, What::Resumed);
        self.signal(member, "CONT").await;
        self.stopped.remove(&member);
    }

    pub fn members(&self) -> Vec<usize> {
        self.running.keys().copied().collect()
    }

    /// One that has something.
    pub fn owner(&self, partition: i32) -> usize {
        self.heard.lock().unwrap().last[&partition].0
    }

    /// Waits until every partition was read again by somebody who is there, and everybody has a fair share.
    pub async fn settle(&self, limit: Duration) -> Result<(), String> {
        let (since, partitions) = (now(), self.partitions);
        let awake: BTreeSet<_> = self.members().into_iter().filter(|id| !self.stopped.contains(id)).collect();
        let share = partitions / awake.len().max(1);
        loop {
            let mut shares: BTreeMap<usize, usize> = awake.iter().map(|member| (*member, 0)).collect();
            for (member, _) in self.heard.lock().unwrap().last.values().filter(|(_, at)| *at > since) {
                if let Some(own) = shares.get_mut(member) {
                    *own += 1;
                }
            }
            if shares.values().all(|own| *own >= share) && shares.values().sum::<usize>() == partitions {
                return Ok(());
            }
            if now() > since + limit {
                return Err(format!("not settled within {limit:?}: {shares:?} of {partitions} partitions"));
            }
            tokio::time::sleep(10 * MS).await;
        }
    }

    /// Whether all of this is read at last.
    pub async fn until_read(&self, ends: &BTreeMap<i32, i64>, limit: Duration) -> bool {
        let by = now() + limit;
        loop {
            let is_read = |(partition, end): (&i32, &i64)| {
                self.heard.lock().unwrap().read.get(partition).is_some_and(|read| read.len() as i64 >= *end)
            };
            if ends.iter().all(is_read) {
                return true;
            }
            if now() > by {
                return false;
            }
            tokio::time::sleep(20 * MS).await;
        }
    }

    /// In the order of their moments.
    pub fn events(&self) -> Vec<Event> {
        let mut events = self.heard.lock().unwrap().events.clone();
        events.sort_by_key(|event| event.at);
        events
    }
}
