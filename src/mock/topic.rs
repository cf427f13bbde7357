//! Topics and partitions as the whole cluster knows them: names, ids, configuration, replicas and leaders.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use super::api::KafkaRelease;
use super::batch::Rules;
use super::log::Log;

/// A topic id. (`kafka-protocol` does not export its `Uuid`, so this is what the mock stores.)
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId([u8; 16]);

impl TopicId {
    /// A random (version 4) id.
    pub(super) fn random(rng: &mut fastrand::Rng) -> Self {
        let mut id = rng.u128(..).to_be_bytes();
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        Self(id)
    }

    pub(super) fn from_wire(id: impl AsRef<[u8]>) -> Self {
        Self(id.as_ref().try_into().unwrap_or_default())
    }

    pub(super) fn to_wire<U: TryFrom<Vec<u8>> + Default>(self) -> U {
        U::try_from(self.0.to_vec()).unwrap_or_default()
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) config: TopicConfig,
    pub(super) partitions: Vec<Partition>,
}

impl Topic {
    pub(super) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Brokers that hold it, the preferred leader first.
    pub(super) replicas: Vec<i32>,
    /// `None` while every replica is down.
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    pub(super) log: Log,
    waiting: Vec<Weak<Notify>>,
}

impl Partition {
    pub(super) fn new(replicas: Vec<i32>) -> Self {
        let mut log = Log::default();
        log.begin_epoch(0);
        Self { leader: replicas.first().copied(), replicas, log, ..Self::default() }
    }

    /// Another leader, or none; every change is a new epoch.
    pub(super) fn elect(&mut self, leader: Option<i32>) {
        self.leader = leader;
        self.leader_epoch += 1;
        if leader.is_some() {
            self.log.begin_epoch(self.leader_epoch);
        }
        self.wake();
    }

    /// Whether a request with this leader epoch (-1: any) may be served.
    pub(super) fn check_epoch(&self, epoch: i32) -> Result<(), ResponseError> {
        if epoch >= 0 && epoch < self.leader_epoch {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if epoch > self.leader_epoch {
            return Err(ResponseError::UnknownLeaderEpoch);
        }
        Ok(())
    }

    /// As [`check_epoch`](Self::check_epoch), for a request that only the leader answers.
    pub(super) fn check_leader(&self, broker: i32, epoch: i32) -> Result<(), ResponseError> {
        if !self.replicas.contains(&broker) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        self.check_epoch(epoch)?;
        if self.leader == Some(broker) { Ok(()) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// A fetch that found too little waits for the next change.
    pub(super) fn wait(&mut self, fetch: &Arc<Notify>) {
        let fetch = Arc::downgrade(fetch);
        self.waiting.retain(|waiting| waiting.strong_count() > 0 && !waiting.ptr_eq(&fetch));
        self.waiting.push(fetch);
    }

    /// Something changed: data, leader, or the partition is gone.
    pub(super) fn wake(&mut self) {
        for waiting in self.waiting.drain(..).filter_map(|waiting| waiting.upgrade()) {
            waiting.notify_one();
        }
    }
}

/// What a test or a client has set on a topic, over Kafka's defaults.
#[derive(Clone, Debug)]
pub(super) struct TopicConfig {
    release: KafkaRelease,
    own: BTreeMap<String, String>,
}

const TIMESTAMP_AFTER_MAX: &str = "message.timestamp.after.max.ms";
const NO_LIMIT: &str = "9223372036854775807";

/// Kafka's topic settings, with their defaults in 4.x.
const SETTINGS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("compression.type", "producer"),
    ("compression.zstd.level", "3"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("follower.replication.throttled.replicas", ""),
    ("index.interval.bytes", "4096"),
    ("leader.replication.throttled.replicas", ""),
    ("local.retention.bytes", "-2"),
    ("local.retention.ms", "-2"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    (TIMESTAMP_AFTER_MAX, "3600000"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("remote.storage.enable", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];

impl TopicConfig {
    pub(super) fn new(release: KafkaRelease) -> Self {
        Self { release, own: BTreeMap::new() }
    }

    /// Sets one value; the error says why it is not possible.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some((_, default)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
            return Err(format!("Unknown topic config name: {name}"));
        };
        let valid = match name {
            "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
            "cleanup.policy" => value.split(',').all(|policy| matches!(policy.trim(), "compact" | "delete")),
            "compression.type" => {
                matches!(value, "uncompressed" | "zstd" | "lz4" | "snappy" | "gzip" | "producer")
            }
            "min.insync.replicas" => value.parse::<i32>().is_ok_and(|replicas| replicas >= 1),
            _ if default.parse::<i64>().is_ok() => value.parse::<i64>().is_ok(),
            _ if default.parse::<bool>().is_ok() => value.parse::<bool>().is_ok(),
            _ => true,
        };
        if !valid {
            return Err(format!("Invalid value {value} for configuration {name}"));
        }
        self.own.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Every setting: name, value, and whether it was set on the topic.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        SETTINGS.iter().map(|&(name, default)| match self.own.get(name) {
            Some(value) => (name, value.as_str(), true),
            // KIP-1030 has set the limit of an hour.
            None if name == TIMESTAMP_AFTER_MAX && self.release < KafkaRelease::V4_0 => (name, NO_LIMIT, false),
            None => (name, default, false),
        })
    }

    fn get(&self, name: &str) -> &str {
        self.all().find(|(known, ..)| *known == name).map_or("", |(_, value, _)| value)
    }

    fn number(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or_default()
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            max_bytes: usize::try_from(self.number("max.message.bytes")).unwrap_or_default(),
            log_append_time: self.get("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max: self.number("message.timestamp.before.max.ms"),
            timestamp_after_max: self.number(TIMESTAMP_AFTER_MAX),
            compacted: self.get("cleanup.policy").contains("compact"),
        }
    }

    /// `retention.bytes`, unless there is no limit.
    pub(super) fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.number("retention.bytes")).ok()
    }

    pub(super) fn min_insync_replicas(&self) -> usize {
        usize::try_from(self.number("min.insync.replicas")).unwrap_or(1)
    }
}

/// Whether Kafka allows a topic of this name; the error says why not.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err("Topic name is invalid: '.' or '..' is not allowed".to_owned());
    }
    if name.len() > 249 {
        return Err(format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        let allowed = "ASCII alphanumerics, '.', '_' and '-'";
        return Err(format!("Topic name is invalid: '{name}' contains one or more characters other than {allowed}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_allows() {
        for name in ["a", "A.b_c-9", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn settings_are_checked() {
        let mut config = TopicConfig::new(KafkaRelease::default());
        assert_eq!(config.rules().max_bytes, 1_048_588);
        config.set("max.message.bytes", "100").unwrap();
        config.set("message.timestamp.type", "LogAppendTime").unwrap();
        config.set("cleanup.policy", "compact, delete").unwrap();
        assert!(config.rules().log_append_time && config.rules().compacted && config.rules().max_bytes == 100);
        assert_eq!(config.retention_bytes(), None);
        assert_eq!(config.rules().timestamp_after_max, 3_600_000);
        assert_eq!(TopicConfig::new(KafkaRelease::V3_9).rules().timestamp_after_max, i64::MAX);
        for (name, value) in [
            ("no.such.setting", "1"),
            ("max.message.bytes", "many"),
            ("message.timestamp.type", "createTime"),
            ("min.insync.replicas", "0"),
            ("preallocate", "perhaps"),
        ] {
            assert!(config.set(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn topic_ids_pass_through_the_wire_type() {
        let id = TopicId::random(&mut fastrand::Rng::with_seed(1));
        let topic = kafka_protocol::messages::fetch_request::FetchTopic::default().with_topic_id(id.to_wire());
        assert_eq!(TopicId::from_wire(topic.topic_id), id);
        assert!(TopicId::default().is_zero() && !id.is_zero());
    }
}
