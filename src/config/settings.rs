//! Every name, and what it sets.

use std::sync::Arc;
use std::time::Duration;

use super::input::Input;
use crate::client::ClientBuilder;
use crate::{ConsumerBuilder, ProducerBuilder, partitioner};

/// One setting of a builder.
pub(super) type Change<B> = Arc<dyn Fn(B) -> B + Send + Sync>;

/// What properties say to the builders.
#[derive(Clone, Default)]
pub(crate) struct Changes {
    pub(super) client: Vec<Change<ClientBuilder>>,
    pub(super) producer: Vec<Change<ProducerBuilder>>,
    pub(super) consumer: Vec<Change<ConsumerBuilder>>,
    /// Settings of which Java has two and a builder one.
    pub(super) setup: Span,
    pub(super) reconnect: Span,
    pub(super) retry: Span,
}

impl Changes {
    pub(crate) fn producer(&self, builder: ProducerBuilder) -> ProducerBuilder {
        self.producer.iter().fold(builder, |builder, change| change(builder))
    }

    pub(crate) fn consumer(&self, builder: ConsumerBuilder) -> ConsumerBuilder {
        self.consumer.iter().fold(builder, |builder, change| change(builder))
    }
}

/// From a first pause or limit to the longest.
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    pub first: Option<Duration>,
    pub max: Option<Duration>,
}

impl Span {
    /// As Java does: a first that is given alone and above the default of the longest is the longest.
    pub(super) fn or(self, first: u64, max: u64) -> Option<(Duration, Duration)> {
        (self.first.is_some() || self.max.is_some()).then(|| {
            let first = self.first.unwrap_or_else(|| Duration::from_millis(first));
            (first, self.max.unwrap_or_else(|| Duration::from_millis(max).max(first)))
        })
    }
}

/// A setting: its names, Java's first, the builder's method, and how a value gets there.
pub(super) struct Setting {
    pub names: &'static [&'static str],
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares them with the builders"))]
    pub setter: &'static str,
    pub apply: fn(&Input<'_>, &mut Changes) -> Result<(), String>,
}

/// Every setting but those of security.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(SPANS).chain(std::iter::once(&PARTITIONER))
}

macro_rules! settings {
    ($($builder:ident.$setter:ident [$($name:literal),+] $kind:ident;)*) => {
        &[$(Setting {
            names: &[$($name),+],
            setter: concat!(stringify!($builder), ".", stringify!($setter)),
            apply: |input, changes| {
                let value = input.$kind()?;
                changes.$builder.push(Arc::new(move |builder| builder.$setter(value.clone())));
                Ok(())
            },
        }),*]
    };
}

macro_rules! spans {
    ($($setter:ident $span:ident.$end:ident [$name:literal];)*) => {
        &[$(Setting {
            names: &[$name],
            setter: concat!("client.", stringify!($setter)),
            apply: |input, changes| {
                changes.$span.$end = Some(input.ms()?);
                Ok(())
            },
        }),*]
    };
}

#[allow(clippy::clone_on_copy, reason = "some values are texts")]
const SETTINGS: &[Setting] = settings! {
    client.client_id ["client.id"] text;
    client.request_timeout ["request.timeout.ms", "socket.timeout.ms"] ms;
    client.default_api_timeout ["default.api.timeout.ms"] ms;
    client.metadata_max_age ["metadata.max.age.ms", "topic.metadata.refresh.interval.ms"] ms;
    client.connections_max_idle ["connections.max.idle.ms"] ms;
    client.max_response_size ["receive.message.max.bytes"] bytes;
    producer.acks ["acks", "request.required.acks"] acks;
    producer.idempotence ["enable.idempotence"] flag;
    producer.linger ["linger.ms", "queue.buffering.max.ms"] ms;
    producer.max_in_flight ["max.in.flight.requests.per.connection", "max.in.flight"] bytes;
    producer.allow_reordering ["milena.allow.reordering"] flag;
    producer.compression ["compression.type", "compression.codec"] codec;
    producer.compression_level ["compression.level"] level;
    producer.compression_level ["compression.gzip.level"] level;
    producer.compression_level ["compression.zstd.level"] level;
    producer.partitioner_ignore_keys ["partitioner.ignore.keys"] flag;
    producer.adaptive_partitioning ["partitioner.adaptive.partitioning.enable"] flag;
    producer.partition_availability_timeout ["partitioner.availability.timeout.ms"] ms;
    producer.batch_size ["batch.size"] bytes;
    producer.buffer_memory ["buffer.memory"] bytes;
    producer.buffer_memory ["queue.buffering.max.kbytes"] kilobytes;
    producer.max_request_size ["max.request.size", "message.max.bytes"] bytes;
    producer.max_block ["max.block.ms"] ms;
    producer.delivery_timeout ["delivery.timeout.ms", "message.timeout.ms"] ms;
    producer.allow_auto_create_topics ["milena.producer.allow.auto.create.topics"] flag;
    consumer.group ["group.id"] text;
    consumer.group_instance_id ["group.instance.id"] text;
    consumer.group_protocol ["group.protocol"] protocol;
    consumer.group_remote_assignor ["group.remote.assignor"] text;
    consumer.session_timeout ["session.timeout.ms"] ms;
    consumer.heartbeat_interval ["heartbeat.interval.ms"] ms;
    consumer.max_poll_interval ["max.poll.interval.ms"] ms;
    consumer.partition_assignment_strategy ["partition.assignment.strategy"] assignors;
    consumer.auto_commit ["enable.auto.commit"] flag;
    consumer.auto_commit_interval ["auto.commit.interval.ms"] ms;
    consumer.auto_offset_reset ["auto.offset.reset"] reset;
    consumer.isolation_level ["isolation.level"] isolation;
    consumer.rack ["client.rack"] text;
    consumer.consumer_timeout ["milena.consumer.timeout.ms"] ms;
    consumer.fetch_min_bytes ["fetch.min.bytes"] bytes;
    consumer.fetch_max_wait ["fetch.max.wait.ms", "fetch.wait.max.ms"] ms;
    consumer.fetch_max_bytes ["fetch.max.bytes"] bytes;
    consumer.max_partition_fetch_bytes ["max.partition.fetch.bytes", "fetch.message.max.bytes"] bytes;
    consumer.fetch_buffer ["milena.fetch.buffer.bytes"] bytes;
    consumer.fetch_buffer ["queued.max.messages.kbytes"] kilobytes;
    consumer.check_crcs ["check.crcs"] flag;
    consumer.max_decompressed_batch ["milena.max.decompressed.batch.bytes"] bytes;
    consumer.allow_auto_create_topics ["allow.auto.create.topics"] flag;
};

const SPANS: &[Setting] = spans! {
    connection_setup_timeout setup.first ["socket.connection.setup.timeout.ms"];
    connection_setup_timeout setup.max ["socket.connection.setup.timeout.max.ms"];
    reconnect_backoff reconnect.first ["reconnect.backoff.ms"];
    reconnect_backoff reconnect.max ["reconnect.backoff.max.ms"];
    retry_backoff retry.first ["retry.backoff.ms"];
    retry_backoff retry.max ["retry.backoff.max.ms"];
};

/// What a name stands for is of a type of its own.
static PARTITIONER: Setting = Setting {
    names: &["partitioner.class", "partitioner"],
    setter: "producer.partitioner",
    apply: |input, changes| {
        let change: Change<ProducerBuilder> = match input.0.rsplit('.').next().unwrap_or_default() {
            "consistent_random" => Arc::new(|builder| builder.partitioner(partitioner::ConsistentRandom)),
            "consistent" => Arc::new(|builder| builder.partitioner(partitioner::Consistent)),
            "RoundRobinPartitioner" => Arc::new(|builder| builder.partitioner(partitioner::RoundRobin)),
            "murmur2_random" => Arc::new(|builder| builder),
            _ => {
                return Err(
                    "is none of consistent_random, consistent, murmur2_random and RoundRobinPartitioner: give \
                            your own to ProducerBuilder::partitioner"
                        .to_owned(),
                );
            }
        };
        changes.producer.push(change);
        Ok(())
    },
};

/// What there is one of: these values say what is done anyway, others are errors.
pub(super) const FIXED: &[(&str, &[&str], &str)] = &[
    ("client.dns.lookup", &["use_all_dns_ips"], "all addresses of a name are tried"),
    ("retries", &["2147483647"], "delivery.timeout.ms and default.api.timeout.ms bound retries"),
    ("message.send.max.retries", &["2147483647"], "delivery.timeout.ms bounds retries"),
    ("enable.metrics.push", &["false"], "metrics are not pushed"),
    (
        "metadata.recovery.strategy",
        &["rebootstrap"],
        "the bootstrap addresses are tried again when all brokers are gone",
    ),
    ("send.buffer.bytes", &["-1"], "the system chooses the socket's buffers"),
    ("receive.buffer.bytes", &["-1"], "the system chooses the socket's buffers"),
    ("socket.nagle.disable", &["true"], "TCP_NODELAY is on"),
];

/// Names that are accepted and do nothing, because what they choose between does not exist here: classes that turn
/// objects into bytes, Java's metrics and its security providers.
pub(super) const WITHOUT_EFFECT: &[&str] = &[
    "auto.include.jmx.reporter",
    "key.deserializer",
    "key.serializer",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "security.providers",
    "ssl.keymanager.algorithm",
    "ssl.protocol",
    "ssl.provider",
    "ssl.secure.random.implementation",
    "ssl.trustmanager.algorithm",
    "value.deserializer",
    "value.serializer",
];

/// Names of Java's client and librdkafka for what this client does not have (yet): to ignore one would be to do something
/// else than asked.
pub(super) const MISSING: &[&str] = &[
    "bootstrap.controllers",
    "broker.address.family",
    "broker.address.ttl",
    "compression.lz4.level",
    "config.providers",
    "debug",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "exclude.internal.topics",
    "group.protocol.type",
    "interceptor.classes",
    "max.poll.records",
    "metadata.max.idle.ms",
    "metadata.recovery.rebootstrap.trigger.ms",
    "queue.buffering.max.messages",
    "queued.min.messages",
    "share.acknowledgement.mode",
    "socket.keepalive.enable",
    "ssl.cipher.suites",
    "ssl.crl.location",
    "ssl.curves.list",
    "ssl.engine.factory.class",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "sticky.partitioning.linger.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `pub fn NAME(mut self` of a builder.
    fn setters(builder: &str, source: &str) -> BTreeSet<String> {
        let named = |line: &str| {
            let (name, rest) = line.trim().strip_prefix("pub fn ")?.split_once('(')?;
            let name = name.split('<').next()?;
            rest.starts_with("mut self").then(|| format!("{builder}.{name}"))
        };
        source.lines().filter_map(named).collect()
    }

    /// A setting that is new on a builder needs its line above.
    #[test]
    fn every_setting_of_a_builder_has_a_name() {
        let mut expected = setters("client", include_str!("../client.rs"));
        expected.extend(setters("producer", include_str!("../producer/builder.rs")));
        expected.extend(setters("consumer", include_str!("../consumer/builder.rs")));
        assert!(expected.len() > 25, "{expected:?}");
        // Code, not text; and what `security.rs` makes.
        for not_text in ["connector", "address_map", "runtime", "tls", "sasl"] {
            assert!(expected.remove(&format!("client.{not_text}")), "{not_text}");
        }
        for not_text in ["producer.interceptor", "consumer.interceptor", "consumer.rebalance_listener"] {
            assert!(expected.remove(not_text), "{not_text}");
        }
        // What to read is said in code, as in Java.
        assert!(expected.remove("consumer.subscribe") && expected.remove("consumer.subscribe_pattern"));
        let found: BTreeSet<String> = all().map(|setting| setting.setter.to_owned()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn no_name_is_there_twice() {
        let own = all().flat_map(|setting| setting.names).copied();
        let fixed = FIXED.iter().map(|(name, ..)| *name);
        let others = WITHOUT_EFFECT.iter().chain(MISSING).copied();
        let mut seen = BTreeSet::new();
        for name in own.chain(fixed).chain(others).chain(super::super::security::NAMES.iter().map(|(name, _)| *name)) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
