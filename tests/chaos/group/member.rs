//! A member of a group as a program of its own, so that it can be stopped and killed: prints what happens to it, a line
//! each, `<microseconds since 1970> <word> <numbers>`. SIGTERM, or the end of its input, makes it leave.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use milena::assignor::{Assignor, CooperativeSticky, Range};
use milena::{
    Client, ConsumerBuilder, ConsumerHandle, ErrorKind, GroupProtocol, OffsetReset, RebalanceListener, Rebalancing,
    TopicPartition,
};
use tokio::signal::unix::{SignalKind, signal};

use super::judge::{Moment, What};

/// How members agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Range,
    Cooperative,
    /// By KIP-848, with the coordinator's `uniform`.
    Broker,
}

impl Way {
    pub const ALL: [Self; 3] = [Self::Range, Self::Cooperative, Self::Broker];

    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Cooperative => "cooperative",
            Self::Broker => "848",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// What the program is told, in this order.
#[derive(Clone, Debug)]
pub struct Membership {
    pub bootstrap: String,
    pub group: String,
    pub topic: String,
    pub way: Way,
    pub session: Duration,
    pub heartbeat: Duration,
    /// Empty: of no static member.
    pub instance: String,
}

impl Membership {
    pub fn arguments(&self) -> Vec<String> {
        let Self { bootstrap, group, topic, way, session, heartbeat, instance } = self.clone();
        let (session, heartbeat) = (session.as_millis().to_string(), heartbeat.as_millis().to_string());
        vec![bootstrap, group, topic, way.name().into(), session, heartbeat, instance]
    }

    fn parse(arguments: &[String]) -> Option<Self> {
        let [bootstrap, group, topic, way, session, heartbeat, instance] = arguments else { return None };
        let millis = |text: &String| text.parse().ok().map(Duration::from_millis);
        let (bootstrap, group, topic, instance) = (bootstrap.clone(), group.clone(), topic.clone(), instance.clone());
        let (way, session, heartbeat) = (Way::named(way)?, millis(session)?, millis(heartbeat)?);
        Some(Self { bootstrap, group, topic, way, session, heartbeat, instance })
    }

    fn builder(&self, client: &Client) -> ConsumerBuilder {
        let builder = client.consumer().group(&*self.group).subscribe([&*self.topic]);
        let builder = builder.auto_offset_reset(OffsetReset::Earliest).rebalance_listener(Teller);
        let builder = match &*self.instance {
            "" => builder,
            id => builder.group_instance_id(id),
        };
        let by = |assignor: Arc<dyn Assignor>| [assignor];
        let strategy = match self.way {
            Way::Broker => {
                return builder.group_protocol(GroupProtocol::Consumer).group_remote_assignor("uniform");
            }
            Way::Range => by(Arc::new(Range)),
            Way::Cooperative => by(Arc::new(CooperativeSticky)),
        };
        let builder = builder.session_timeout(self.session).heartbeat_interval(self.heartbeat);
        builder.partition_assignment_strategy(strategy)
    }
}

/// Of all processes on this machine.
pub fn now() -> Moment {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Lines come in the order of their moments, and whole: a killed member has said what it has done.
fn say(word: &str, rest: &str) {
    let mut out = std::io::stdout().lock();
    let line = format!("{} {word} {rest}\n", now().as_micros());
    // Nobody listens any more.
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The other way round.
pub fn heard(line: &str) -> Option<(Moment, What)> {
    let mut words = line.splitn(3, ' ');
    let at = Duration::from_micros(words.next()?.parse().ok()?);
    let (word, rest) = (words.next()?, words.next().unwrap_or_default());
    let numbers = || rest.split_whitespace().map(|number| number.parse().ok()).collect::<Option<Vec<i32>>>();
    let what = match word {
        "assigned" => What::Assigned(numbers()?),
        "revoked" => What::Revoked(numbers()?),
        "lost" => What::Lost(numbers()?),
        "record" => {
            let (partition, offset) = rest.split_once(' ')?;
            What::Record { partition: partition.parse().ok()?, offset: offset.parse().ok()? }
        }
        "waited" => What::Waited(Duration::from_micros(rest.parse().ok()?)),
        "error" => What::Error(rest.into()),
        "left" => What::Left,
        _ => return None,
    };
    Some((at, what))
}

struct Teller;

impl Teller {
    fn tell<'a>(word: &str, partitions: &[TopicPartition]) -> Rebalancing<'a> {
        let numbers: Vec<_> = partitions.iter().map(|tp| tp.partition.to_string()).collect();
        say(word, &numbers.join(" "));
        Box::pin(std::future::ready(()))
    }
}

impl RebalanceListener for Teller {
    fn assigned<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Self::tell("assigned", partitions)
    }

    fn revoked<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Self::tell("revoked", partitions)
    }

    fn lost<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Self::tell("lost", partitions)
    }
}

pub fn main(arguments: &[String]) -> ExitCode {
    let Some(membership) = Membership::parse(arguments) else { return ExitCode::from(2) };
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Whoever started it is gone, or asks it to go.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(ended);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(take_part(membership, end));
    ExitCode::SUCCESS
}

/// One record after the other, and a commit every 100 ms, which is waited for.
async fn take_part(membership: Membership, mut end: tokio::sync::oneshot::Receiver<()>) {
    const BETWEEN_COMMITS: Duration = Duration::from_millis(100);
    let client =
        Client::builder(membership.bootstrap.split(',')).client_id("member").connect().await.expect("a cluster");
    let mut consumer = membership.builder(&client).build().expect("a consumer");
    let mut terminated = signal(SignalKind::terminate()).expect("a signal's handler");
    let mut commits = tokio::time::interval(BETWEEN_COMMITS);
    commits.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = terminated.recv() => break,
            _ = &mut end => break,
            _ = commits.tick() => {
                let since = Instant::now();
                let committed = consumer.commit().await;
                say("waited", &since.elapsed().as_micros().to_string());
                match committed {
                    Ok(()) => {}
                    // It is another's by now, which the listener says too.
                    Err(error) if error.kind() == ErrorKind::NotOwned => {}
                    Err(error) => say("error", &format!("commit: {error}")),
                }
            }
            record = consumer.recv() => match record {
                Ok(record) => say("record", &format!("{} {}", record.partition(), record.offset())),
                Err(error) => say("error", &error.to_string()),
            },
        }
    }
    match consumer.close().await {
        Ok(()) => say("left", ""),
        Err(error) => say("error", &format!("close: {error}")),
    }
}
