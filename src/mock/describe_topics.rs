//! DescribeTopicPartitions: topics and their partitions, page by page (KIP-966). It is what the tools of 4.x ask first.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor as AskedCursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::metadata::{ALL_TOPIC_OPERATIONS, describe};
use super::topic::check_name;

/// A broker's `max.request.partition.size.limit`.
const LARGEST_PAGE: i32 = 2000;

impl Handle for DescribeTopicPartitionsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        self.topics.iter().map(|topic| Target { topic: topic.name.to_string(), partition: None }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let answer = DescribeTopicPartitionsResponse::default().with_throttle_time_ms(call.throttle_ms());
        let lost = |cursor: &AskedCursor| {
            let named = self.topics.is_empty() || self.topics.iter().any(|topic| topic.name == cursor.topic_name);
            !named || cursor.partition_index < 0
        };
        if self.cursor.as_ref().is_some_and(lost) {
            let refused = self.topics.into_iter().map(|topic| {
                let error = ResponseError::InvalidRequest.code();
                DescribeTopicPartitionsResponseTopic::default().with_name(Some(topic.name)).with_error_code(error)
            });
            return call.answer(&answer.with_topics(refused.collect()));
        }
        let state = call.known_state();
        let live: BTreeSet<i32> = state.live().collect();
        let (from, first) = self.cursor.map_or((String::new(), 0), |cursor| {
            (cursor.topic_name.to_string(), usize::try_from(cursor.partition_index).unwrap_or(0))
        });
        // In the order of their names, whatever the order of the request.
        let mut names: BTreeSet<String> = self.topics.iter().map(|topic| topic.name.to_string()).collect();
        if names.is_empty() {
            names = state.topics().map(|(name, _)| name.to_owned()).collect();
        }
        let mut left = usize::try_from(self.response_partition_limit.clamp(1, LARGEST_PAGE)).unwrap_or(1);
        let (mut topics, mut next) = (Vec::new(), None);
        for name in names.into_iter().filter(|name| *name >= from) {
            let wire = TopicName::from(StrBytes::from(name.clone()));
            if left == 0 {
                next = Some(Cursor::default().with_topic_name(wire).with_partition_index(0));
                break;
            }
            // What may be done with a topic is told even of one that is not there.
            let described = DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(wire.clone()))
                .with_topic_authorized_operations(ALL_TOPIC_OPERATIONS);
            let error = call.effects.error_for(&name, None);
            let Some(topic) = state.topic(&name).filter(|_| error.is_none()) else {
                let invalid = check_name(&name).is_err();
                let unknown = ResponseError::UnknownTopicOrPartition;
                let unknown = if invalid { ResponseError::InvalidTopicException } else { unknown };
                topics.push(described.with_error_code(error.unwrap_or_else(|| unknown.code())));
                continue;
            };
            let skipped = if name == from { first } else { 0 };
            let rest = topic.partitions.iter().zip(0..).skip(skipped);
            let partitions: Vec<_> = rest
                .take(left)
                .map(|(partition, index)| {
                    let known = describe(&live, partition, index);
                    DescribeTopicPartitionsResponsePartition::default()
                        .with_error_code(known.error_code)
                        .with_partition_index(index)
                        .with_leader_id(known.leader_id)
                        .with_leader_epoch(known.leader_epoch)
                        .with_replica_nodes(known.replica_nodes)
                        .with_isr_nodes(known.isr_nodes)
                        .with_eligible_leader_replicas(Some(Vec::new()))
                        .with_last_known_elr(Some(Vec::new()))
                        .with_offline_replicas(known.offline_replicas)
                })
                .collect();
            left -= partitions.len();
            let told = skipped + partitions.len();
            topics
                .push(described.with_topic_id(topic.id.to_wire()).with_is_internal(false).with_partitions(partitions));
            if told < topic.partitions.len() {
                let index = i32::try_from(told).unwrap_or(i32::MAX);
                next = Some(Cursor::default().with_topic_name(wire).with_partition_index(index));
                break;
            }
        }
        call.answer(&answer.with_topics(topics).with_next_cursor(next))
    }
}
