//! Topics and metadata.

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, MetadataRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::topic_name;
use crate::topics::growth;

use super::{Interview, topic_id};

impl Interview {
    pub(super) async fn topics(&mut self) {
        self.create("first.topic", 2, &[]).await;
        let newest = self.newest::<CreateTopicsRequest>();
        let me = self.peer.ask(1, &MetadataRequest::default()).await.brokers[0].node_id;
        let creatable = |name: &str, partitions: i32, replication: i16| {
            let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions);
            topic.with_replication_factor(replication)
        };
        let assigned =
            |index: i32| CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(vec![me]);
        let config = |name: &str, value: &str| {
            let name = StrBytes::from(name.to_owned());
            let config = CreatableTopicConfig::default().with_name(name);
            creatable("t", 1, 1).with_configs(vec![config.with_value(Some(StrBytes::from(value.to_owned())))])
        };
        for (what, topics) in [
            ("empty name", vec![creatable("", 1, 1)]),
            ("dots", vec![creatable("..", 1, 1)]),
            ("a space", vec![creatable("a b", 1, 1)]),
            ("long", vec![creatable(&"x".repeat(250), 1, 1)]),
            ("longest", vec![creatable(&"x".repeat(249), 1, 1)]),
            ("exists", vec![creatable("first.topic", 1, 1)]),
            ("collides", vec![creatable("first_topic", 1, 1)]),
            ("no partitions", vec![creatable("t", 0, 1)]),
            ("-2 partitions", vec![creatable("t", -2, 1)]),
            ("no replicas", vec![creatable("t", 1, 0)]),
            ("-2 replicas", vec![creatable("t", 1, -2)]),
            ("9 replicas", vec![creatable("t", 1, 9)]),
            ("twice", vec![creatable("t", 1, 1), creatable("t", 2, 1), creatable("other", 1, 1)]),
            ("gap", vec![creatable("t", -1, -1).with_assignments(vec![assigned(1)])]),
            ("assigned and counted", vec![creatable("t", 1, 1).with_assignments(vec![assigned(0)])]),
            ("assigned", vec![creatable("t", -1, -1).with_assignments(vec![assigned(1), assigned(0)])]),
            ("unknown config", vec![config("no.such.thing", "1")]),
            ("bad number", vec![config("max.message.bytes", "many")]),
            ("bad choice", vec![config("message.timestamp.type", "createTime")]),
            ("bad policy", vec![config("cleanup.policy", "compact,keep")]),
            ("good config", vec![config("retention.ms", "5000")]),
        ] {
            let request =
                CreateTopicsRequest::default().with_topics(topics).with_validate_only(true).with_timeout_ms(10_000);
            let answer = self.peer.ask(newest, &request).await;
            let said = answer.topics.iter().map(|topic| {
                let size = (newest >= 5).then_some((topic.num_partitions, topic.replication_factor));
                (topic.name.to_string(), topic.error_code, size)
            });
            let mut said: Vec<_> = said.collect();
            said.sort();
            self.say(("create", what), said);
        }
        for version in self.versions::<CreateTopicsRequest>() {
            let name = format!("created-by-v{version}");
            let request =
                CreateTopicsRequest::default().with_topics(vec![creatable(&name, 2, 1)]).with_timeout_ms(10_000);
            for round in 0..2 {
                let answer = self.peer.ask(version, &request).await;
                let topic = &answer.topics[0];
                let size = (version >= 5).then_some((topic.num_partitions, topic.replication_factor));
                let id = version >= 7 && !topic.topic_id.is_nil();
                let configs = topic.configs.as_ref().map(|configs| configs.is_empty());
                self.say(("create", version, round), (topic.error_code, size, id, (version >= 5).then_some(configs)));
            }
        }
        self.until_led("created-by-v2").await;
        let version = self.newest::<CreatePartitionsRequest>();
        for (topic, count) in
            [("nowhere", 3), ("created-by-v2", 2), ("created-by-v2", 1), ("created-by-v2", -1), ("created-by-v2", 3)]
        {
            for validate_only in [true, false] {
                let request = CreatePartitionsRequest::default().with_topics(vec![growth(topic, count)]);
                let answer =
                    self.peer.ask(version, &request.with_timeout_ms(10_000).with_validate_only(validate_only)).await;
                self.say(("grow", topic, count, validate_only), answer.results[0].error_code);
            }
        }
        for version in self.versions::<DeleteTopicsRequest>() {
            let names = [format!("created-by-v{}", (version + 1).max(2)), "nowhere".to_owned()];
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
            let request = if version >= 6 {
                let by_name = names.iter().map(|name| DeleteTopicState::default().with_name(Some(topic_name(name))));
                request.with_topics(by_name.collect())
            } else {
                request.with_topic_names(names.iter().map(|name| topic_name(name)).collect())
            };
            let answer = self.peer.ask(version, &request).await;
            let mut said: Vec<_> = answer
                .responses
                .iter()
                .map(|r| (r.name.as_ref().map(|name| name.to_string()), r.error_code, !r.topic_id.is_nil()))
                .collect();
            said.sort();
            self.say(("delete", version), said);
        }
        if self.newest::<DeleteTopicsRequest>() >= 6 {
            let unknown = DeleteTopicState::default().with_name(None).with_topic_id(topic_id(7));
            let answer = self
                .peer
                .ask(6, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![unknown]))
                .await;
            self.say("delete an unknown id", (answer.responses[0].error_code, answer.responses[0].name.is_none()));
        }
        if self.newest::<DescribeClusterRequest>() >= 0 {
            for version in self.versions::<DescribeClusterRequest>() {
                let answer = self.peer.ask(version, &DescribeClusterRequest::default()).await;
                self.say(
                    ("cluster", version),
                    (answer.error_code, answer.brokers.len(), answer.cluster_authorized_operations),
                );
                let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
                let answer = self.peer.ask(version, &request).await;
                self.say(("cluster operations", version), answer.cluster_authorized_operations);
            }
        }
    }

    pub(super) async fn metadata(&mut self) {
        for version in self.versions::<MetadataRequest>() {
            let mut names = vec!["fetched", "nowhere", "no where", "", ".."];
            if version < 1 {
                names.truncate(2); // in this version real brokers take odd names for anything
            }
            for name in names {
                let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
                let request =
                    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
                let answer = self.peer.ask(version, &request).await;
                let said: Vec<_> = answer
                    .topics
                    .iter()
                    .map(|topic| {
                        let id = version >= 10 && !topic.topic_id.is_nil();
                        let partitions: Vec<_> = topic
                            .partitions
                            .iter()
                            .map(|p| {
                                (
                                    p.partition_index,
                                    p.error_code,
                                    p.leader_epoch,
                                    p.replica_nodes.len(),
                                    p.isr_nodes.len(),
                                )
                            })
                            .collect();
                        (topic.error_code, topic.name.as_ref().map(|name| name.to_string()), id, partitions)
                    })
                    .map(|mut said| {
                        said.3.sort();
                        said
                    })
                    .collect();
                self.say(("metadata", version, name), (answer.brokers.len(), answer.error_code, said));
            }
        }
        if self.newest::<MetadataRequest>() >= 12 {
            let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(topic_id(5));
            let answer = self.peer.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).await;
            let topic = &answer.topics[0];
            self.say(
                "metadata of an unknown id",
                (topic.error_code, topic.name.is_none(), topic.topic_id.as_bytes() == &[5; 16]),
            );
        }
        if self.newest::<MetadataRequest>() >= 10 {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name("fetched")));
            let request = MetadataRequest::default()
                .with_topics(Some(vec![topic]))
                .with_include_topic_authorized_operations(true);
            let answer = self.peer.ask(10, &request.with_include_cluster_authorized_operations(true)).await;
            self.say(
                "operations",
                (answer.cluster_authorized_operations, answer.topics[0].topic_authorized_operations),
            );
        }
    }
}
