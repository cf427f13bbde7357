//! Metadata and DescribeCluster: brokers, topics, leaders.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeClusterResponse, MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::partition::Partition;
use super::state::State;
use super::topic::{Topic, TopicId, check_name};

/// Everything that an authorizer could allow, since there is none: bits by Kafka's `AclOperation`.
pub(super) const ALL_TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
const ALL_CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
const NOT_ASKED: i32 = i32::MIN;
const BROKER_ENDPOINTS: i8 = 1;

impl Handle for MetadataRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let state = call.state();
        let names: Vec<String> = match &self.topics {
            None => state.topics().map(|(name, _)| name.to_owned()).collect(),
            Some(topics) => topics.iter().filter_map(|topic| name_of(&state, topic)).collect(),
        };
        names.into_iter().map(|topic| Target { topic, partition: None }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let rebootstrap = ResponseError::RebootstrapRequired.code();
        if call.version >= 13 && call.effects.error() == Some(rebootstrap) {
            return call.answer(&MetadataResponse::default().with_error_code(rebootstrap));
        }
        let mut state = call.known_state();
        // Version 0 has no null, and asks for all topics with an empty list.
        let asked = self.topics.filter(|topics| call.version > 0 || !topics.is_empty());
        let may_create = call.shared.auto_create_topics
            && !call.effects.is_stale()
            && (call.version < 4 || self.allow_auto_topic_creation);
        let mut topics: Vec<_> = match asked {
            None => state.topics().map(|(name, topic)| found(&state, name, topic)).collect(),
            Some(asked) => asked.iter().map(|topic| one(call, &mut state, topic, may_create)).collect(),
        };
        for topic in &mut topics {
            if let Some(error) = call.effects.error_for(topic.name.as_ref().map_or("", |name| name), None) {
                let name = topic.name.take();
                *topic = MetadataResponseTopic::default().with_error_code(error).with_name(name);
            }
            let asked = call.version >= 8 && self.include_topic_authorized_operations && topic.error_code == 0;
            topic.topic_authorized_operations = if asked { ALL_TOPIC_OPERATIONS } else { NOT_ASKED };
        }
        let brokers = state.live().map(|id| {
            let (host, port) = call.address(id);
            MetadataResponseBroker::default()
                .with_node_id(id.into())
                .with_host(host)
                .with_port(port)
                .with_rack(call.rack(id))
        });
        let asked = (8..=10).contains(&call.version) && self.include_cluster_authorized_operations;
        call.answer(
            &MetadataResponse::default()
                .with_throttle_time_ms(call.throttle_ms())
                .with_brokers(brokers.collect())
                .with_cluster_id(Some(call.shared.cluster_id.clone().into()))
                .with_controller_id(state.controller.into())
                .with_topics(topics)
                .with_cluster_authorized_operations(if asked { ALL_CLUSTER_OPERATIONS } else { NOT_ASKED }),
        )
    }
}

/// The name a request means, by itself or through an id that is known.
fn name_of(state: &State, topic: &MetadataRequestTopic) -> Option<String> {
    let known = |id| state.name_of(TopicId::from_wire(id)).map(str::to_owned);
    topic.name.as_ref().map_or_else(|| known(topic.topic_id), |name| Some(name.to_string()))
}

fn one(call: &Call<'_>, state: &mut State, asked: &MetadataRequestTopic, may_create: bool) -> MetadataResponseTopic {
    let failed = |error: ResponseError, name: Option<TopicName>| {
        let id = asked.topic_id;
        MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_topic_id(id)
    };
    let Some(name) = name_of(state, asked) else {
        return failed(ResponseError::UnknownTopicId, (call.version < 12).then(TopicName::default));
    };
    if let Some(topic) = state.topic(&name) {
        return found(state, &name, topic);
    }
    let error = if check_name(&name).is_err() {
        ResponseError::InvalidTopicException
    } else if may_create && state.check_new(&name).is_ok() {
        let replicas = state.spread_new(call.shared.default_partitions, state.replication_default());
        let config = state.new_config();
        state.create(&name, replicas, config);
        // As a real broker: the topic is there the next time one asks.
        if call.shared.release.forwards_to_controller() {
            ResponseError::UnknownTopicOrPartition
        } else {
            ResponseError::LeaderNotAvailable
        }
    } else {
        ResponseError::UnknownTopicOrPartition
    };
    failed(error, Some(StrBytes::from(name).into()))
}

fn found(state: &State, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let live: BTreeSet<i32> = state.live().collect();
    let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| describe(&live, partition, index));
    MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from(name.to_owned()).into()))
        .with_topic_id(topic.id.to_wire())
        .with_is_internal(false)
        .with_partitions(partitions.collect())
}

pub(super) fn describe(live: &BTreeSet<i32>, partition: &Partition, index: i32) -> MetadataResponsePartition {
    let offline = partition.replicas.iter().filter(|broker| !live.contains(broker));
    let ids = |brokers: &[i32]| brokers.iter().map(|broker| (*broker).into()).collect();
    let error = partition.leader.map_or_else(|| ResponseError::LeaderNotAvailable.code(), |_| 0);
    MetadataResponsePartition::default()
        .with_error_code(error)
        .with_partition_index(index)
        .with_leader_id(partition.leader.unwrap_or(-1).into())
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(partition.in_sync()))
        .with_offline_replicas(offline.map(|broker| (*broker).into()).collect())
}

impl Handle for DescribeClusterRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = DescribeClusterResponse::default()
            .with_throttle_time_ms(call.throttle_ms())
            .with_error_message(None)
            .with_endpoint_type(BROKER_ENDPOINTS);
        if let Some(error) = call.effects.error() {
            return call.answer(&response.with_error_code(error));
        }
        if call.version >= 1 && self.endpoint_type != BROKER_ENDPOINTS {
            let error = ResponseError::MismatchedEndpointType.code();
            return call.answer(&response.with_error_code(error));
        }
        let state = call.known_state();
        let brokers = state.live().map(|id| {
            let (host, port) = call.address(id);
            DescribeClusterBroker::default()
                .with_broker_id(id.into())
                .with_host(host)
                .with_port(port)
                .with_rack(call.rack(id))
        });
        let asked = self.include_cluster_authorized_operations;
        call.answer(
            &response
                .with_cluster_id(call.shared.cluster_id.clone().into())
                .with_controller_id(state.controller.into())
                .with_brokers(brokers.collect())
                .with_cluster_authorized_operations(if asked { ALL_CLUSTER_OPERATIONS } else { NOT_ASKED }),
        )
    }
}
