//! What is configured, and what is deleted.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig as LegacyConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DeleteRecordsRequest, DescribeConfigsRequest, DescribeProducersRequest,
    IncrementalAlterConfigsRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::{Batch, produce_request, topic_name};

use super::Interview;

/// What the test clusters are configured with themselves, or what their way of electing leaders sets.
const OWN: [&str; 4] = ["retention.ms", "retention.bytes", "unclean.leader.election.enable", "min.insync.replicas"];

fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

/// Name, operation, value.
pub type Change<'a> = (&'a str, i8, Option<&'a str>);

pub fn incremental(kind: i8, name: &str, changes: &[Change<'_>]) -> IncrementalAlterConfigsRequest {
    let configs = changes.iter().map(|(name, operation, value)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(*operation).with_value(value.map(text))
    });
    let resource = IncrementalResource::default().with_resource_type(kind).with_resource_name(text(name));
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(configs.collect())])
}

pub fn describe(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
    let resource = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(name));
    DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(keys)])
}

pub fn delete_records(topic: &str, index: i32, offset: i64) -> DeleteRecordsRequest {
    let partition = DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000)
}

impl Interview {
    /// Settings of a topic: name, value, source, type, synonyms.
    async fn described(&mut self, what: &str, topic: &str, keys: Option<&[&str]>, version: i16) {
        let request = describe(2, topic, keys).with_include_synonyms(true);
        let answer = self.peer.ask(version, &request).await;
        let mut said = Vec::new();
        for config in &answer.results[0].configs {
            let synonyms = config.synonyms.iter();
            let synonyms: Vec<_> =
                synonyms.map(|one| format!("{:?}={:?} {}", one.name, one.value, one.source)).collect();
            let name = config.name.to_string();
            if !OWN.contains(&name.as_str()) || config.config_source == 1 {
                let synonyms = if OWN.contains(&name.as_str()) { Vec::new() } else { synonyms };
                let (value, flags) = (config.value.clone(), (config.read_only, config.is_sensitive));
                said.push((name, value, config.config_source, config.config_type, flags, synonyms));
            }
        }
        said.sort();
        self.say(("described", what, version), answer.results[0].error_code);
        for config in said {
            self.say(("described", what, version), config);
        }
    }

    /// Alters, once the controller's decision is known to the broker that is asked next.
    async fn altered(&mut self, what: &str, request: IncrementalAlterConfigsRequest) -> i16 {
        let answer = self.peer.ask(self.newest::<IncrementalAlterConfigsRequest>(), &request).await;
        let error = answer.responses[0].error_code;
        self.say(("altered", what), error);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        error
    }

    pub(super) async fn configs(&mut self) {
        self.create("configured", 1, &[("retention.ms", "5000"), ("cleanup.policy", "compact")]).await;
        for version in self.versions::<DescribeConfigsRequest>() {
            self.described("a topic", "configured", None, version).await;
        }
        let newest = self.newest::<DescribeConfigsRequest>();
        let keys = ["retention.ms", "max.message.bytes", "no.such.thing"];
        self.described("some", "configured", Some(&keys), newest).await;
        self.described("none", "configured", Some(&[]), newest).await;
        for (kind, name) in [(2, "nowhere"), (2, ""), (2, "a b"), (4, "77"), (4, "x"), (3, "configured"), (0, "")] {
            let answer = self.peer.ask(newest, &describe(kind, name, None)).await;
            self.say(("describe", kind, name), (answer.results[0].error_code, answer.results[0].configs.len()));
        }
        let set = |name: &'static str, value: &'static str| [(name, 0, Some(value))];
        for (what, request) in [
            ("set", incremental(2, "configured", &set("max.message.bytes", "123456"))),
            ("append", incremental(2, "configured", &[("cleanup.policy", 2, Some("delete"))])),
            ("append again", incremental(2, "configured", &[("cleanup.policy", 2, Some("delete"))])),
            ("subtract", incremental(2, "configured", &[("cleanup.policy", 3, Some("compact"))])),
            ("append to a number", incremental(2, "configured", &[("retention.ms", 2, Some("1"))])),
            ("unset", incremental(2, "configured", &[("retention.ms", 1, None)])),
            ("unset again", incremental(2, "configured", &[("retention.ms", 1, None)])),
            ("null", incremental(2, "configured", &[("retention.ms", 0, None)])),
            ("unknown operation", incremental(2, "configured", &[("retention.ms", 9, Some("1"))])),
            ("unknown name", incremental(2, "configured", &set("no.such.thing", "1"))),
            ("unset unknown name", incremental(2, "configured", &[("no.such.thing", 1, None)])),
            ("twice", incremental(2, "configured", &[("flush.ms", 0, Some("1")), ("flush.ms", 0, Some("2"))])),
            ("no topic", incremental(2, "nowhere", &set("retention.ms", "1"))),
            ("one of two", incremental(2, "configured", &[("flush.ms", 0, Some("7")), ("segment.ms", 0, Some("x"))])),
            ("validated", incremental(2, "configured", &set("flush.ms", "9")).with_validate_only(true)),
            ("a topic without a name", incremental(2, "", &set("retention.ms", "1"))),
            ("another resource", incremental(3, "configured", &set("retention.ms", "1"))),
        ] {
            self.altered(what, request).await;
        }
        self.described("altered", "configured", None, newest).await;
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", " 7 "),
            ("retention.bytes", "-5"),
            ("segment.bytes", "13"),
            ("segment.bytes", "1000000"),
            ("segment.bytes", "1048576"),
            ("segment.ms", "0"),
            ("segment.jitter.ms", "-1"),
            ("segment.index.bytes", "3"),
            ("index.interval.bytes", "-1"),
            ("max.message.bytes", "-1"),
            ("max.message.bytes", "3000000000"),
            ("min.insync.replicas", "0"),
            ("min.insync.replicas", "9"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("max.compaction.lag.ms", "0"),
            ("min.compaction.lag.ms", "-1"),
            ("delete.retention.ms", "-1"),
            ("compression.type", "gzip "),
            ("compression.type", "none"),
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete,compact"),
            ("cleanup.policy", "delete, compact"),
            ("preallocate", "TRUE"),
            ("preallocate", "yes"),
            ("unclean.leader.election.enable", "false"),
        ] {
            let request = incremental(2, "configured", &[(name, 0, Some(value))]).with_validate_only(true);
            let answer = self.peer.ask(self.newest::<IncrementalAlterConfigsRequest>(), &request).await;
            self.say(("valid", name, value), answer.responses[0].error_code);
        }
        for version in self.versions::<AlterConfigsRequest>() {
            for (what, name, value) in [
                ("one", "flush.ms", Some("8")),
                ("null", "flush.ms", None),
                ("unknown", "no.such", Some("1")),
                ("bad", "flush.ms", Some("x")),
            ] {
                let config = LegacyConfig::default().with_name(text(name)).with_value(value.map(text));
                let resource =
                    AlterConfigsResource::default().with_resource_type(2).with_resource_name(text("configured"));
                let request = AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
                let answer = self.peer.ask(version, &request).await;
                self.say(("replaced", version, what), answer.responses[0].error_code);
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        self.described("replaced", "configured", Some(&["flush.ms", "max.message.bytes", "cleanup.policy"]), newest)
            .await;
    }

    pub(super) async fn deleted_records(&mut self) {
        self.create("deleted", 1, &[]).await;
        self.create("kept", 1, &[("cleanup.policy", "compact")]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        for value in ["a", "b", "c"] {
            let batch = Batch::of(&[value, value]).by(1_000_077, 3, 0).at(1_700_000_000_000);
            let sequence = ["a", "b", "c"].iter().position(|known| *known == value).unwrap() as i32 * 2;
            let batch = Batch { base_sequence: sequence, ..batch };
            self.peer.ask(produce, &produce_request("deleted", 0, batch)).await;
        }
        for version in self.versions::<DeleteRecordsRequest>() {
            for (topic, index, offset) in [
                ("deleted", 0, 1),
                ("deleted", 0, 0),
                ("deleted", 0, 7),
                ("deleted", 0, -2),
                ("deleted", 4, 0),
                ("nowhere", 0, 0),
                ("kept", 0, 0),
            ] {
                let answer = self.peer.ask(version, &delete_records(topic, index, offset)).await;
                let said = &answer.topics[0].partitions[0];
                self.say(("deleted", version, topic, index, offset), (said.error_code, said.low_watermark));
            }
        }
        let seen = async |interview: &mut Self, what: &str| {
            for time in [-2, -1, 0] {
                let found = crate::replicas::offset_at(&mut interview.peer, "deleted", time, 0, 2).await;
                interview.say((what, time), found);
            }
        };
        seen(self, "after some were deleted").await;
        if self.newest::<DescribeProducersRequest>() >= 0 {
            let of = |topic: &str, index: i32| {
                let topic = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(vec![index]);
                DescribeProducersRequest::default().with_topics(vec![topic])
            };
            for (topic, index) in [("deleted", 0), ("deleted", 9), ("nowhere", 0), ("transactions", 0)] {
                let answer = self.peer.ask(0, &of(topic, index)).await;
                let said = &answer.topics[0].partitions[0];
                let producers = said.active_producers.iter().map(|one| {
                    let time = if topic == "deleted" { one.last_timestamp } else { 0 };
                    let open = one.current_txn_start_offset;
                    (one.producer_epoch, one.last_sequence, time, one.coordinator_epoch, open)
                });
                let mut producers: Vec<_> = producers.collect();
                producers.sort();
                self.say(("producers", topic, index), (said.error_code, producers));
            }
        }
        self.peer.ask(1, &delete_records("deleted", 0, -1)).await;
        seen(self, "after all were deleted").await;
    }
}
