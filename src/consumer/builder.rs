//! The settings of a consumer.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumer;
use super::group::{Group, GroupProtocol, RebalanceListener, Settings, Subscription};
use super::handle::ConsumerHandle;
use super::interceptor::ConsumerInterceptor;
use super::manager::Manager;
use super::shared::Shared;
use super::unpack::Unpacker;
use super::watch::Watch;
use crate::error::Error;
use crate::machine::assignor::Assignor;
use crate::machine::credit::Credit;
use crate::machine::fetch;
use crate::machine::offsets::{self, Reset};
use crate::net::Core;
use crate::record::Limits;

/// Where to begin reading a partition when there is no committed offset, or none that the log still has.
/// (Java: `auto.offset.reset`.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OffsetReset {
    /// At the first record that the log has (`earliest`).
    Earliest,
    /// At its end: only what is written from then on (`latest`). The default, as in Java.
    #[default]
    Latest,
    /// At the first record that is no older than this (`by_duration`, KIP-1106), by its timestamp; at the end if there is
    /// none.
    ByDuration(Duration),
    /// Nowhere (`none`): [`recv`](Consumer::recv) reports it as
    /// [`ErrorKind::OffsetOutOfRange`](crate::ErrorKind::OffsetOutOfRange), and the partition waits for a
    /// [`seek`](ConsumerHandle::seek).
    None,
}

/// Which records a consumer sees of transactions. (Java: `isolation.level`.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All of them, as soon as they are in the log, whatever becomes of their transaction. The default, as in Java.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, and those of none; up to the first transaction that is still open.
    ReadCommitted,
}

/// Makes a [`Consumer`]; from [`Client::consumer`](crate::Client::consumer). Each setting names its default and its
/// name in Java's client.
#[must_use = "a builder does nothing until `build`"]
pub struct ConsumerBuilder {
    core: Arc<Core>,
    group: Option<Arc<str>>,
    reset: OffsetReset,
    min_bytes: usize,
    max_wait: Duration,
    max_bytes: usize,
    partition_max_bytes: Option<usize>,
    buffer: usize,
    check_crcs: bool,
    max_decompressed: usize,
    auto_create: bool,
    isolation: IsolationLevel,
    rack: Arc<str>,
    timeout: Option<Duration>,
    interceptors: Vec<Box<dyn ConsumerInterceptor>>,
    subscription: Option<Asked>,
    member: Settings,
    session_timeout: Option<Duration>,
    heartbeat_interval: Option<Duration>,
    auto_commit: Option<bool>,
    auto_commit_interval: Duration,
}

/// What `build` is to subscribe to.
enum Asked {
    Topics(BTreeSet<Arc<str>>),
    Pattern(String),
}

impl ConsumerBuilder {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            group: None,
            reset: OffsetReset::default(),
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            max_bytes: 50 << 20,
            partition_max_bytes: None,
            buffer: 64 << 20,
            check_crcs: true,
            max_decompressed: Limits::default().max_output,
            auto_create: true,
            isolation: IsolationLevel::default(),
            rack: Arc::from(""),
            timeout: None,
            interceptors: Vec::new(),
            subscription: None,
            member: Settings::default(),
            session_timeout: None,
            heartbeat_interval: None,
            auto_commit: None,
            auto_commit_interval: Duration::from_secs(5),
        }
    }

    /// The group whose committed offsets this consumer starts from, and commits to. With a
    /// [subscription](Self::subscribe) it becomes a member of it, and shares topics with the others. With partitions that are
    /// assigned by hand it does not, and nothing keeps two consumers from committing for the same one. Default: no group.
    /// (Java: `group.id`.)
    pub fn group(mut self, id: impl Into<Arc<str>>) -> Self {
        self.group = Some(id.into());
        self
    }

    /// The topics to read a share of, as a member of the [`group`](Self::group). Default: none; partitions are
    /// [assigned](ConsumerHandle::assign) by hand then, or topics subscribed to [later](ConsumerHandle::subscribe).
    /// (Java: `subscribe`.)
    pub fn subscribe<T: Into<Arc<str>>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.subscription = Some(Asked::Topics(topics.into_iter().map(Into::into).collect()));
        self
    }

    /// The same for all topics whose whole name matches a regular expression, also those that are made later: see
    /// [`ConsumerHandle::subscribe_pattern`]. (Java: `subscribe(Pattern)`.)
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.subscription = Some(Asked::Pattern(pattern.into()));
        self
    }

    /// Makes a static member of this consumer (KIP-345), under a name that no other member of the group has at the same time:
    /// it does not leave when it is closed, and finds its partitions again if it is back within a session, without a
    /// rebalance. Default: none. (Java: `group.instance.id`.)
    pub fn group_instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.member.instance_id = Some(id.into());
        self
    }

    /// After so long without a heartbeat the group gives this member up, and others get its partitions. Default 45 s; brokers
    /// take 6 s to 30 minutes unless they are configured otherwise. By [`GroupProtocol::Consumer`] the broker says, and
    /// setting it is an error. (Java: `session.timeout.ms`.)
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = Some(timeout);
        self
    }

    /// How often a heartbeat is sent: on a connection and by a task of their own, whatever the caller does. It is also how
    /// soon a member hears of a rebalance. Default 3 s; below the [`session_timeout`](Self::session_timeout), and best no more
    /// than a third of it. By [`GroupProtocol::Consumer`] the broker says, and setting it is an error.
    /// (Java: `heartbeat.interval.ms`.)
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// How long the caller may work on what it was given before it asks for more. After that this consumer leaves its group,
    /// which [`recv`](Consumer::recv) reports, its partitions are lost, and it joins again when it is polled again. It is also
    /// how long a rebalance waits for the caller, and for a [listener](Self::rebalance_listener). Default 5 minutes; it is
    /// noticed up to a heartbeat late. (Java: `max.poll.interval.ms`.)
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.member.max_poll_interval = interval;
        self
    }

    /// How partitions are shared out, the preferred strategy first: the members of a group must have one in common. Default
    /// [`Range`](crate::assignor::Range), then [`CooperativeSticky`](crate::assignor::CooperativeSticky), as in Java.
    /// Rebalances are cooperative, so that partitions which stay are read on, if all of these are: `CooperativeSticky` alone.
    /// By [`GroupProtocol::Consumer`] the broker does it. (Java: `partition.assignment.strategy`.)
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).build()?;
    /// use milena::assignor::CooperativeSticky;
    /// use std::sync::Arc;
    ///
    /// let builder = client.consumer().group("billing").subscribe(["orders"]);
    /// let consumer = builder.partition_assignment_strategy([Arc::new(CooperativeSticky) as _]).build()?;
    /// # Ok(()) }
    /// ```
    pub fn partition_assignment_strategy(mut self, assignors: impl IntoIterator<Item = Arc<dyn Assignor>>) -> Self {
        self.member.assignors = assignors.into_iter().collect();
        self
    }

    /// How the members of the group agree on who reads what. Default [`GroupProtocol::Classic`], as in Java.
    /// (Java: `group.protocol`.)
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.member.protocol = protocol;
        self
    }

    /// The broker's strategy, `uniform` or `range` unless it is configured otherwise; only by [`GroupProtocol::Consumer`].
    /// Default: as the broker is configured. (Java: `group.remote.assignor`.)
    pub fn group_remote_assignor(mut self, name: impl Into<Arc<str>>) -> Self {
        self.member.remote_assignor = Some(name.into());
        self
    }

    /// Is told when partitions come and go. Default: nobody. (Java: the argument of `subscribe`.)
    pub fn rebalance_listener(mut self, listener: impl RebalanceListener) -> Self {
        self.member.listener = Some(Arc::new(listener));
        self
    }

    /// Whether what the caller has dealt with is committed without being asked for: every
    /// [`auto_commit_interval`](Self::auto_commit_interval), before partitions are given back, and on
    /// [`close`](Consumer::close). Dealt with is what was handed out before the last call of [`recv`](Consumer::recv) or
    /// [`poll`](Consumer::poll); so a crash never skips a record that was still in hand. Such a commit never takes back what
    /// was committed by a call, unless reading has gone elsewhere since: it follows a [`seek`](super::ConsumerHandle::seek), also
    /// back, as Java's does. Default: on if there is a [`group`](Self::group), as in Java. (Java: `enable.auto.commit`.)
    pub fn auto_commit(mut self, is_on: bool) -> Self {
        self.auto_commit = Some(is_on);
        self
    }

    /// How often [`auto_commit`](Self::auto_commit) commits. Default 5 s. (Java: `auto.commit.interval.ms`.)
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.auto_commit_interval = interval;
        self
    }

    /// Where to begin without a committed offset, or when the log no longer has the offset. Default
    /// [`OffsetReset::Latest`]. (Java: `auto.offset.reset`.)
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.reset = reset;
        self
    }

    /// Which records of transactions are seen. Default [`IsolationLevel::ReadUncommitted`].
    /// (Java: `isolation.level`.)
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.isolation = level;
        self
    }

    /// Where this consumer is, in the words of the brokers' `broker.rack`. A leader whose brokers have a
    /// `replica.selector.class` then names a replica in the same rack, and records are fetched from there (KIP-392).
    /// Default: nowhere, so that leaders are fetched from. (Java: `client.rack`.)
    pub fn rack(mut self, rack: impl Into<Arc<str>>) -> Self {
        self.rack = rack.into();
        self
    }

    /// After so long without a record, [`try_next`](Consumer::try_next) and [`poll`](Consumer::poll) return `None`, and
    /// the stream ends; asked again, they wait again. Default: they wait for ever. (kafka-python:
    /// `consumer_timeout_ms`.)
    pub fn consumer_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// How many bytes a broker should have before it answers, unless [`fetch_max_wait`](Self::fetch_max_wait) is over.
    /// Default 1: it answers as soon as there is anything. More saves requests and costs latency.
    /// (Java: `fetch.min.bytes`.)
    pub fn fetch_min_bytes(mut self, bytes: usize) -> Self {
        self.min_bytes = bytes;
        self
    }

    /// How long a broker may wait for [`fetch_min_bytes`](Self::fetch_min_bytes). Default 500 ms. It delays no other
    /// partition: what becomes ready to fetch meanwhile goes out on a second connection. (Java: `fetch.max.wait.ms`.)
    pub fn fetch_max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// How many bytes one answer may hold; a single larger batch comes all the same, unless it exceeds this by more than
    /// the client's [`max_response_size`](crate::ClientBuilder::max_response_size). Default 50 MiB.
    /// (Java: `fetch.max.bytes`.)
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many bytes of one partition one answer may hold; a single larger batch comes all the same. Default 1 MiB, and
    /// up to 8 MiB while the caller has read all that came, there is more, and nothing is on its way for part of the time
    /// because the broker is far away. What is set here is never exceeded. (Java: `max.partition.fetch.bytes`.)
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.partition_max_bytes = Some(bytes);
        self
    }

    /// How many bytes may be fetched ahead of the caller, over all partitions: in flight, buffered, and what large
    /// compressed batches became that were decompressed before they are asked for.
    /// Default 64 MiB. All requests together ask for no more than what is free of it.
    ///
    /// Half of it is shared evenly, so that every partition always has room for one fetch, if a small one, however full the
    /// others are; of the other half, one that is not read holds no more than it leaves free. A single batch that is
    /// larger than its partition's share comes all the same: so what is beyond the budget is at most one batch of each
    /// partition, and nothing where batches are smaller than `fetch_buffer` / 2 / partitions and than
    /// [`max_partition_fetch_bytes`](Self::max_partition_fetch_bytes).
    ///
    /// What the system's allocator keeps for later comes on top: for a caller that reads small records at full speed, glibc's
    /// has been seen to keep 20 to 50 MiB. With `MALLOC_MMAP_THRESHOLD_=1048576` in the environment it gives large answers
    /// back as soon as they are read, at a third to a half more CPU for each record
    /// (`benches/peers/run --rows consume-rtt --clients milena --scale 8`, with it and without).
    ///
    /// Throughput does not depend on the distance to the brokers while this exceeds bandwidth times round trip. (Java has
    /// no such setting; librdkafka: `queued.max.messages.kbytes`.)
    pub fn fetch_buffer(mut self, bytes: usize) -> Self {
        self.buffer = bytes;
        self
    }

    /// Whether the checksum of every batch is verified before anything of it is handed out. Default true; it costs a
    /// fraction of a nanosecond per byte. (Java: `check.crcs`.)
    pub fn check_crcs(mut self, check: bool) -> Self {
        self.check_crcs = check;
        self
    }

    /// How many bytes the records of one batch may become when they are decompressed: what keeps a few hundred kilobytes
    /// from filling the memory. A batch beyond it is an error, [`ErrorKind::BatchTooLarge`], and nothing of it is handed
    /// out; its partition waits for a [`seek`](ConsumerHandle::seek) past it. So is a batch that becomes more than 8 MiB and
    /// 1,100 times its size, whatever is set here. Default 32 MiB. (Java has no such limit.)
    ///
    /// [`ErrorKind::BatchTooLarge`]: crate::ErrorKind::BatchTooLarge
    pub fn max_decompressed_batch(mut self, bytes: usize) -> Self {
        self.max_decompressed = bytes;
        self
    }

    /// Whether assigning a topic that does not exist may create it, if the brokers allow that
    /// (`auto.create.topics.enable`). Default true, as in Java. (Java: `allow.auto.create.topics`.)
    pub fn allow_auto_create_topics(mut self, allow: bool) -> Self {
        self.auto_create = allow;
        self
    }

    /// Adds one that sees every record that is handed out, and every commit. Several are called in the order in which they
    /// were added. Default: none. (Java: `interceptor.classes`.)
    pub fn interceptor(mut self, interceptor: impl ConsumerInterceptor) -> Self {
        self.interceptors.push(Box::new(interceptor));
        self
    }

    /// Makes the consumer. With a [subscription](Self::subscribe) it begins to join its group; without, nothing is assigned
    /// yet: see [`ConsumerHandle::assign`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the setting.
    pub fn build(self) -> Result<Consumer, Error> {
        let core = self.core;
        let partition_max_bytes = self.partition_max_bytes.unwrap_or(PARTITION_BYTES);
        if self.group.as_ref().is_some_and(|group| group.is_empty()) {
            return Err(Error::config("group is empty: leave it out to consume without one"));
        }
        for (setting, bytes) in [
            ("fetch_max_bytes", self.max_bytes),
            ("max_partition_fetch_bytes", partition_max_bytes),
            ("fetch_buffer", self.buffer),
            ("max_decompressed_batch", self.max_decompressed),
        ] {
            if bytes == 0 {
                return Err(Error::config(format!("{setting} is 0: it must be at least 1 byte")));
            }
        }
        for (setting, bytes) in [
            ("fetch_min_bytes", self.min_bytes),
            ("fetch_max_bytes", self.max_bytes),
            ("max_partition_fetch_bytes", partition_max_bytes),
        ] {
            if i32::try_from(bytes).is_err() {
                return Err(Error::config(format!("{setting} is {bytes}: it must be below 2 GiB")));
            }
        }
        if self.timeout.is_some_and(|timeout| timeout > MAX_WAIT) {
            return Err(Error::config("consumer_timeout is above a day: leave it out to wait for ever"));
        }
        let subscription = match self.subscription {
            None => None,
            Some(Asked::Topics(topics)) if topics.is_empty() => {
                return Err(Error::config("subscribe names no topic: leave it out to assign partitions by hand"));
            }
            Some(Asked::Topics(topics)) => Some(Subscription::topics(topics)?),
            Some(Asked::Pattern(pattern)) => Some(Subscription::pattern(&pattern)?),
        };
        let mut member = self.member;
        if self.group.is_none() {
            for (setting, is_set) in [
                ("subscribe", subscription.is_some()),
                ("auto_commit", self.auto_commit == Some(true)),
                ("group_instance_id", member.instance_id.is_some()),
            ] {
                if is_set {
                    return Err(Error::config(format!(
                        "{setting} needs a group: name one with ConsumerBuilder::group(..)"
                    )));
                }
            }
        }
        if member.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
            return Err(Error::config("group_instance_id is empty: leave it out for a member that is not static"));
        }
        match member.protocol {
            GroupProtocol::Consumer => {
                for (setting, is_set) in [
                    ("session_timeout", self.session_timeout.is_some()),
                    ("heartbeat_interval", self.heartbeat_interval.is_some()),
                ] {
                    if is_set {
                        let message = format!(
                            "{setting} is the broker's to say with GroupProtocol::Consumer (its \
                             group.consumer.{setting}.ms): leave it out"
                        );
                        return Err(Error::config(message));
                    }
                }
            }
            GroupProtocol::Classic if member.remote_assignor.is_some() => {
                return Err(Error::config(
                    "group_remote_assignor is for GroupProtocol::Consumer: partition_assignment_strategy is what the \
                     classic protocol has",
                ));
            }
            GroupProtocol::Classic | GroupProtocol::Auto => {}
        }
        member.session_timeout = self.session_timeout.unwrap_or(member.session_timeout);
        member.heartbeat_interval = self.heartbeat_interval.unwrap_or(member.heartbeat_interval);
        for (setting, time) in [
            ("session_timeout", member.session_timeout),
            ("heartbeat_interval", member.heartbeat_interval),
            ("max_poll_interval", member.max_poll_interval),
            ("auto_commit_interval", self.auto_commit_interval),
        ] {
            if time.is_zero() || time > MAX_WAIT {
                return Err(Error::config(format!("{setting} is {time:?}: it must be above zero and at most a day")));
            }
        }
        if member.heartbeat_interval >= member.session_timeout {
            return Err(Error::config(format!(
                "heartbeat_interval is {:?}: it must be below session_timeout ({:?}), best a third of it",
                member.heartbeat_interval, member.session_timeout
            )));
        }
        if member.assignors.is_empty() {
            return Err(Error::config("partition_assignment_strategy is empty: leave it out for the defaults"));
        }
        let is_auto = self.auto_commit.unwrap_or_else(|| self.group.is_some());
        member.auto_commit = is_auto.then_some(self.auto_commit_interval);
        member.rack = Some(Arc::clone(&self.rack)).filter(|rack| !rack.is_empty());
        if self.max_wait > MAX_WAIT {
            return Err(Error::config(format!("fetch_max_wait is {:?}: it must be at most a day", self.max_wait)));
        }
        let fetch = fetch::Config {
            max_wait: self.max_wait,
            min_bytes: i32::try_from(self.min_bytes).unwrap_or(i32::MAX),
            max_bytes: self.max_bytes,
            partition_max_bytes,
            // What was set is a promise.
            partition_most_bytes: self.partition_max_bytes.unwrap_or(PARTITION_BYTES_FAR),
            check_crcs: self.check_crcs,
            read_committed: self.isolation == IsolationLevel::ReadCommitted,
            rack: self.rack,
            retry_backoff: core.retry_backoff,
            retry_backoff_max: core.retry_backoff_max,
        };
        let offsets = offsets::Config {
            reset: match self.reset {
                OffsetReset::Earliest => Reset::Earliest,
                OffsetReset::Latest => Reset::Latest,
                OffsetReset::ByDuration(age) => Reset::Ago(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
                OffsetReset::None => Reset::None,
            },
            retry_backoff: core.retry_backoff,
            retry_backoff_max: core.retry_backoff_max,
            patience: core.api_timeout,
            unknown_patience: UNKNOWN_PATIENCE,
            follow_for: FOLLOW_FOR,
        };
        let read_committed = fetch.read_committed;
        let limits = Limits { max_output: self.max_decompressed, ..Limits::default() };
        let unpacker = Arc::new(Unpacker::new(core.network.runtime.clone(), limits, self.buffer / AHEAD));
        let credit = Credit::new(self.buffer, partition_max_bytes);
        let watch = Watch::new(&core.network.client_id, self.interceptors);
        let shared = Arc::new(Shared::new(credit, Arc::clone(&unpacker), Arc::clone(&watch)));
        let group = self.group.map(|id| Arc::new(Group::new(id, member)));
        let commands = Manager::start(&core, &shared, &watch, group.clone(), fetch, offsets);
        shared.lock().attend(commands);
        let handle = ConsumerHandle { core, shared, group, watch, auto_create: self.auto_create, read_committed };
        if let Some(group) = handle.group.as_ref().filter(|_| is_auto) {
            group.start(&handle);
        }
        if let Some(subscription) = subscription {
            handle.set_subscription(subscription)?;
        }
        Ok(Consumer::new(handle, unpacker, self.timeout))
    }
}

/// The part of the buffer that is for what was decompressed ahead of the caller, as soon as anything is compressed.
const AHEAD: usize = 4;
/// How much of one partition is asked for at once; and at most, by a caller who waits for a broker far away.
const PARTITION_BYTES: usize = 1 << 20;
const PARTITION_BYTES_FAR: usize = 8 << 20;
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Brokers learn of a new topic one by one: so long it may be unknown before that is an error.
const UNKNOWN_PATIENCE: Duration = Duration::from_secs(5);
/// As Java, with its default `metadata.max.age.ms`.
const FOLLOW_FOR: Duration = Duration::from_secs(300);

impl fmt::Debug for ConsumerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, reset, min_bytes, session_timeout, auto_commit, .. } = self;
        let assignors: Vec<&str> = self.member.assignors.iter().map(|assignor| assignor.name()).collect();
        f.debug_struct("ConsumerBuilder")
            .field("group", group)
            .field("reset", reset)
            .field("min_bytes", min_bytes)
            .field("session_timeout", session_timeout)
            .field("auto_commit", auto_commit)
            .field("assignors", &assignors)
            .finish_non_exhaustive()
    }
}
