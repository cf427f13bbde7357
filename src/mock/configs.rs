//! What can be configured, with Kafka's names and defaults, and what the mock makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::KafkaRelease;
use super::batch::{Rules, StoredAs};
use super::codec::Codec;

/// A topic setting, as Kafka knows it.
struct Setting {
    name: &'static str,
    default: &'static str,
    kind: Kind,
    /// The broker setting that is its default; empty if there is none.
    broker: &'static str,
    /// The first release that has it, and the first that has it no more.
    since: KafkaRelease,
    until: Option<KafkaRelease>,
}

/// What a value has to be.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    /// From one to the other.
    Int(i32, i32),
    /// From here on.
    Long(i64),
    /// From 0 to 1.
    Ratio,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Any number of these.
    Set(&'static [&'static str]),
    /// Anything, separated by commas.
    List,
    /// Anything.
    Text,
}

impl Kind {
    /// As DescribeConfigs says it.
    fn code(self) -> i8 {
        match self {
            Self::Bool => 1,
            Self::Choice(_) | Self::Text => 2,
            Self::Int(..) => 3,
            Self::Long(_) => 5,
            Self::Ratio => 6,
            Self::Set(_) | Self::List => 7,
        }
    }

    fn allows(self, value: &str) -> bool {
        let value = value.trim();
        match self {
            Self::Bool => matches!(value.to_ascii_lowercase().as_str(), "true" | "false"),
            Self::Int(from, to) => value.parse().is_ok_and(|number| (from..=to).contains(&number)),
            Self::Long(from) => value.parse::<i64>().is_ok_and(|number| number >= from),
            Self::Ratio => value.parse().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
            Self::Choice(choices) => choices.contains(&value),
            Self::Set(choices) => value.split(',').all(|one| choices.contains(&one.trim())),
            Self::List | Self::Text => true,
        }
    }
}

const COMPRESSION: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const MAX: i32 = i32::MAX;
const NO_LIMIT: &str = "9223372036854775807";
const MIN_INSYNC: &str = "min.insync.replicas";
const FORMAT_VERSION: &str = "message.format.version";
const TIMESTAMP_AFTER_MAX: &str = "message.timestamp.after.max.ms";
const TIMESTAMP_BEFORE_MAX: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_DIFFERENCE_MAX: &str = "message.timestamp.difference.max.ms";

const fn since(
    since: KafkaRelease,
    name: &'static str,
    default: &'static str,
    kind: Kind,
    broker: &'static str,
) -> Setting {
    Setting { name, default, kind, broker, since, until: None }
}

const fn always(name: &'static str, default: &'static str, kind: Kind, broker: &'static str) -> Setting {
    since(KafkaRelease::V2_1, name, default, kind, broker)
}

const fn until_4(name: &'static str, default: &'static str, kind: Kind, broker: &'static str) -> Setting {
    Setting { until: Some(KafkaRelease::V4_0), ..always(name, default, kind, broker) }
}

/// Kafka's topic settings, with their defaults in 4.x.
const SETTINGS: &[Setting] = &[
    always("cleanup.policy", "delete", Kind::Set(&["compact", "delete"]), "log.cleanup.policy"),
    since(KafkaRelease::V3_9, "compression.gzip.level", "-1", Kind::Int(-1, 9), "compression.gzip.level"),
    since(KafkaRelease::V3_9, "compression.lz4.level", "9", Kind::Int(1, 17), "compression.lz4.level"),
    always("compression.type", "producer", Kind::Choice(COMPRESSION), "compression.type"),
    since(KafkaRelease::V3_9, "compression.zstd.level", "3", Kind::Int(-131_072, 22), "compression.zstd.level"),
    always("delete.retention.ms", "86400000", Kind::Long(0), "log.cleaner.delete.retention.ms"),
    always("file.delete.delay.ms", "60000", Kind::Long(0), "log.segment.delete.delay.ms"),
    always("flush.messages", NO_LIMIT, Kind::Long(1), "log.flush.interval.messages"),
    always("flush.ms", NO_LIMIT, Kind::Long(0), ""),
    always("follower.replication.throttled.replicas", "", Kind::List, ""),
    always("index.interval.bytes", "4096", Kind::Int(0, MAX), "log.index.interval.bytes"),
    always("leader.replication.throttled.replicas", "", Kind::List, ""),
    since(KafkaRelease::V3_9, "local.retention.bytes", "-2", Kind::Long(-2), "log.local.retention.bytes"),
    since(KafkaRelease::V3_9, "local.retention.ms", "-2", Kind::Long(-2), "log.local.retention.ms"),
    always("max.compaction.lag.ms", NO_LIMIT, Kind::Long(1), "log.cleaner.max.compaction.lag.ms"),
    always("max.message.bytes", "1048588", Kind::Int(0, MAX), "message.max.bytes"),
    until_4("message.downconversion.enable", "true", Kind::Bool, "log.message.downconversion.enable"),
    since(KafkaRelease::V3_9, TIMESTAMP_AFTER_MAX, "3600000", Kind::Long(0), "log.message.timestamp.after.max.ms"),
    since(KafkaRelease::V3_9, TIMESTAMP_BEFORE_MAX, NO_LIMIT, Kind::Long(0), "log.message.timestamp.before.max.ms"),
    until_4(FORMAT_VERSION, "3.0-IV1", Kind::Text, "log.message.format.version"),
    until_4(TIMESTAMP_DIFFERENCE_MAX, NO_LIMIT, Kind::Long(0), "log.message.timestamp.difference.max.ms"),
    always(
        "message.timestamp.type",
        "CreateTime",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "log.message.timestamp.type",
    ),
    always("min.cleanable.dirty.ratio", "0.5", Kind::Ratio, "log.cleaner.min.cleanable.ratio"),
    always("min.compaction.lag.ms", "0", Kind::Long(0), "log.cleaner.min.compaction.lag.ms"),
    always(MIN_INSYNC, "1", Kind::Int(1, MAX), MIN_INSYNC),
    always("preallocate", "false", Kind::Bool, "log.preallocate"),
    since(KafkaRelease::V3_9, "remote.log.copy.disable", "false", Kind::Bool, ""),
    since(KafkaRelease::V3_9, "remote.log.delete.on.disable", "false", Kind::Bool, ""),
    since(KafkaRelease::V3_9, "remote.storage.enable", "false", Kind::Bool, ""),
    always("retention.bytes", "-1", Kind::Long(i64::MIN), "log.retention.bytes"),
    always("retention.ms", "604800000", Kind::Long(-1), "log.retention.ms"),
    always("segment.bytes", "1073741824", Kind::Int(14, MAX), "log.segment.bytes"),
    always("segment.index.bytes", "10485760", Kind::Int(4, MAX), "log.index.size.max.bytes"),
    always("segment.jitter.ms", "0", Kind::Long(0), ""),
    always("segment.ms", "604800000", Kind::Long(1), ""),
    always("unclean.leader.election.enable", "false", Kind::Bool, "unclean.leader.election.enable"),
];

/// Where a value comes from, as answers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Topic = 1,
    /// Set on all brokers while they run.
    AllBrokers = 3,
    Default = 5,
}

/// A setting with its value.
pub(super) struct Entry<'a> {
    pub(super) name: &'static str,
    pub(super) value: &'a str,
    pub(super) source: Source,
    /// Its type, as DescribeConfigs numbers them.
    pub(super) kind: i8,
    /// Every value that it could have: name, value and source, the one that counts first.
    pub(super) synonyms: Vec<(&'static str, &'a str, Source)>,
}

/// What was set on all brokers, by the names of topic settings.
pub(super) type BrokerDefaults = Arc<BTreeMap<&'static str, String>>;

/// What a test or a client has set on a topic, over its brokers' defaults and Kafka's.
#[derive(Clone, Debug)]
pub(super) struct TopicConfig {
    release: KafkaRelease,
    own: BTreeMap<&'static str, String>,
    inherited: BrokerDefaults,
}

impl Setting {
    fn is_in(&self, release: KafkaRelease) -> bool {
        release >= self.since && self.until.is_none_or(|until| release < until)
    }

    fn default(&self, release: KafkaRelease) -> &'static str {
        match (self.name, release) {
            // KIP-1030 has set the limit of an hour.
            (TIMESTAMP_AFTER_MAX, KafkaRelease::V3_9) => NO_LIMIT,
            (FORMAT_VERSION, KafkaRelease::V2_1) => "2.1-IV2",
            (FORMAT_VERSION, KafkaRelease::V2_8) => "2.8-IV1",
            _ => self.default,
        }
    }

    fn check(&self, value: &str, release: KafkaRelease) -> Result<(), Unfit> {
        // KIP-1030: smaller segments are a mistake.
        let too_small = self.name == "segment.bytes"
            && release >= KafkaRelease::V4_0
            && value.trim().parse::<i32>().is_ok_and(|bytes| bytes < 1 << 20);
        // Old brokers did not check this one.
        let unchecked = self.name == "segment.index.bytes" && release <= KafkaRelease::V2_8;
        if too_small || !(self.kind.allows(value) || unchecked && value.parse::<i32>().is_ok()) {
            let message = format!("Invalid value {value} for configuration {}", self.name);
            return Err(Unfit { unknown: false, message });
        }
        Ok(())
    }
}

/// Why a setting cannot be set.
#[derive(Debug)]
pub(super) struct Unfit {
    /// There is no such setting; otherwise it is the value.
    pub(super) unknown: bool,
    pub(super) message: String,
}

/// The settings of a release.
fn settings(release: KafkaRelease) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.is_in(release))
}

/// The topic setting for which a broker setting is the default, and whether the value may be; the error says why not.
pub(super) fn check_broker_default(
    release: KafkaRelease,
    name: &str,
    value: Option<&str>,
) -> Result<&'static str, Unfit> {
    let setting = settings(release).find(|setting| setting.broker == name);
    let setting = setting
        .ok_or_else(|| Unfit { unknown: true, message: format!("The mock cannot change {name} while it runs") })?;
    value.map_or(Ok(()), |value| setting.check(value, release))?;
    Ok(setting.name)
}

/// What brokers say of the defaults of topics: name, value, source, type.
pub(super) fn broker_entries(release: KafkaRelease, defaults: &BrokerDefaults) -> impl Iterator<Item = Entry<'_>> {
    settings(release).filter(|setting| !setting.broker.is_empty()).map(move |setting| {
        let set = defaults.get(setting.name).map(|value| (setting.broker, value.as_str(), Source::AllBrokers));
        let default = (setting.broker, setting.default(release), Source::Default);
        let synonyms: Vec<_> = set.into_iter().chain([default]).collect();
        let (name, value, source) = synonyms[0];
        Entry { name, value, source, kind: setting.kind.code(), synonyms }
    })
}

impl TopicConfig {
    pub(super) fn new(release: KafkaRelease, inherited: BrokerDefaults) -> Self {
        Self { release, own: BTreeMap::new(), inherited }
    }

    pub(super) fn inherit(&mut self, defaults: BrokerDefaults) {
        self.inherited = defaults;
    }

    /// Sets one value; the error says why it is not possible.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Unfit> {
        let setting = self.known(name)?;
        setting.check(value, self.release)?;
        self.own.insert(setting.name, value.trim().to_owned());
        Ok(())
    }

    /// Takes one value back. What is not known was not set.
    pub(super) fn unset(&mut self, name: &str) {
        self.own.remove(name);
    }

    /// Takes all values back.
    pub(super) fn clear(&mut self) {
        self.own.clear();
    }

    /// Adds to a list, or takes from it.
    pub(super) fn edit(&mut self, name: &str, values: &str, add: bool) -> Result<(), Unfit> {
        let setting = self.known(name)?;
        if !matches!(setting.kind, Kind::Set(_) | Kind::List) {
            return Err(Unfit { unknown: false, message: format!("{name} is no list") });
        }
        let mut list: Vec<_> = self.get(name).split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        for value in values.split(',') {
            list.retain(|one| add || one != value);
            // Old brokers did not look what is there already.
            if add && (self.release <= KafkaRelease::V2_8 || !list.iter().any(|one| one == value)) {
                list.push(value.to_owned());
            }
        }
        self.set(name, &list.join(","))
    }

    fn known(&self, name: &str) -> Result<&'static Setting, Unfit> {
        let setting = settings(self.release).find(|setting| setting.name == name);
        setting.ok_or_else(|| Unfit { unknown: true, message: format!("Unknown topic config name: {name}") })
    }

    /// Every setting of this release.
    pub(super) fn all(&self) -> impl Iterator<Item = Entry<'_>> {
        settings(self.release).map(|setting| {
            let own = self.own.get(setting.name).map(|value| (setting.name, value.as_str(), Source::Topic));
            let inherited = self.inherited.get(setting.name);
            let inherited = inherited.map(|value| (setting.broker, value.as_str(), Source::AllBrokers));
            let default = setting.default(self.release);
            let from_broker = (!setting.broker.is_empty()).then_some((setting.broker, default, Source::Default));
            let synonyms: Vec<_> = own.into_iter().chain(inherited).chain(from_broker).collect();
            let (_, value, source) = synonyms.first().copied().unwrap_or((setting.name, default, Source::Default));
            Entry { name: setting.name, value, source, kind: setting.kind.code(), synonyms }
        })
    }

    fn get(&self, name: &str) -> &str {
        let set = self.own.get(name).or_else(|| self.inherited.get(name));
        let default = || settings(self.release).find(|setting| setting.name == name);
        set.map_or_else(|| default().map_or("", |setting| setting.default(self.release)), String::as_str)
    }

    fn number(&self, name: &str) -> i64 {
        self.get(name).parse().unwrap_or_default()
    }

    /// How far timestamps may be off: before now, and after. Older brokers had one limit for both.
    fn timestamp_limits(&self) -> (i64, i64) {
        let both = self.number(TIMESTAMP_DIFFERENCE_MAX);
        match self.release {
            release if release < KafkaRelease::V3_9 => (both, both),
            release if release < KafkaRelease::V4_0 => {
                let limit = |name: &str| if self.get(name) == NO_LIMIT { both } else { self.number(name) };
                (limit(TIMESTAMP_BEFORE_MAX), limit(TIMESTAMP_AFTER_MAX))
            }
            _ => (self.number(TIMESTAMP_BEFORE_MAX), self.number(TIMESTAMP_AFTER_MAX)),
        }
    }

    pub(super) fn rules(&self) -> Rules {
        let (timestamp_before_max, timestamp_after_max) = self.timestamp_limits();
        Rules {
            max_bytes: usize::try_from(self.number("max.message.bytes")).unwrap_or_default(),
            log_append_time: self.get("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max,
            timestamp_after_max,
            segment_bytes: usize::try_from(self.number("segment.bytes")).unwrap_or_default(),
            stored_as: match self.get("compression.type") {
                "producer" => StoredAs::Sent,
                codec => StoredAs::With(Codec::of_name(codec)),
            },
            compacted: self.get("cleanup.policy").contains("compact"),
        }
    }

    /// `cleanup.policy` contains `delete`.
    pub(super) fn deletes(&self) -> bool {
        self.get("cleanup.policy").contains("delete")
    }

    /// `min.compaction.lag.ms` and `delete.retention.ms`.
    pub(super) fn compaction(&self) -> (i64, i64) {
        (self.number("min.compaction.lag.ms"), self.number("delete.retention.ms"))
    }

    /// `retention.ms`, unless there is no limit.
    pub(super) fn retention_ms(&self) -> Option<i64> {
        Some(self.number("retention.ms")).filter(|age| *age >= 0)
    }

    /// `retention.bytes`, unless there is no limit.
    pub(super) fn retention_bytes(&self) -> Option<u64> {
        u64::try_from(self.number("retention.bytes")).ok()
    }

    /// How many replicas must be in sync for a write with `acks=all`, of so many that there are. Newer brokers do not
    /// ask for more than there are.
    pub(super) fn min_insync_replicas(&self, replicas: usize) -> usize {
        let configured = usize::try_from(self.number(MIN_INSYNC)).unwrap_or(1);
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
        let mut config = TopicConfig::new(KafkaRelease::default(), BrokerDefaults::default());
        assert_eq!(config.rules().max_bytes, 1_048_588);
        config.set("max.message.bytes", "100").unwrap();
        config.set("message.timestamp.type", "LogAppendTime").unwrap();
        config.set("cleanup.policy", "compact, delete").unwrap();
        assert!(config.rules().log_append_time && config.rules().compacted && config.rules().max_bytes == 100);
        assert_eq!(config.retention_bytes(), None);
        assert_eq!(config.rules().timestamp_after_max, 3_600_000);
        assert_eq!(
            TopicConfig::new(KafkaRelease::V3_9, BrokerDefaults::default()).rules().timestamp_after_max,
            i64::MAX
        );
        for (name, value) in [
            ("no.such.setting", "1"),
            ("max.message.bytes", "many"),
            ("message.timestamp.type", "createTime"),
            ("min.insync.replicas", "0"),
            ("preallocate", "perhaps"),
            ("segment.bytes", "1000000"),
            ("message.timestamp.difference.max.ms", "1"),
        ] {
            assert!(config.set(name, value).is_err(), "{name}={value}");
        }
    }
}
