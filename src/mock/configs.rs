//! What can be configured, with Kafka's names and defaults, and what the mock makes of it.

use std::collections::BTreeMap;

use super::api::KafkaRelease;
use super::batch::{Rules, StoredAs};
use super::codec::Codec;

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
            segment_bytes: usize::try_from(self.number("segment.bytes")).unwrap_or_default(),
            stored_as: match self.get("compression.type") {
                "producer" => StoredAs::Sent,
                codec => StoredAs::With(Codec::of_name(codec)),
            },
            compacted: self.get("cleanup.policy").contains("compact"),
        }
    }

    /// `retention.bytes`, unless there is no limit.
    pub(super) fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.number("retention.bytes")).ok()
    }

    /// How many replicas must be in sync for a write with `acks=all`, of so many that there are. Newer brokers do not
    /// ask for more than there are.
    pub(super) fn min_insync_replicas(&self, replicas: usize) -> usize {
        let configured = usize::try_from(self.number("min.insync.replicas")).unwrap_or(1);
        if self.release >= KafkaRelease::V3_9 { configured.min(replicas) } else { configured }
    }

    /// How many must be in sync for the high watermark to move (KIP-966).
    pub(super) fn high_watermark_needs(&self, replicas: usize) -> usize {
        if self.release >= KafkaRelease::V3_9 { self.min_insync_replicas(replicas) } else { 0 }
    }

    pub(super) fn unclean_leader_election(&self) -> bool {
        self.get("unclean.leader.election.enable") == "true"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
