//! ConsumerGroupHeartbeat: all that members say under KIP-848.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::consumer::{Assignor, Beat, Consumer, LEAVES, LEAVES_FOR_NOW, Partition, Told};
use crate::mock::broker::{Call, Handle, Handled};
use crate::mock::fault::Target;
use crate::mock::offsets::check_coordinator;
use crate::mock::state::Refusal;
use crate::mock::topic::TopicId;

/// The first version whose members choose their ids (KIP-1082).
const OWN_IDS: i16 = 1;

impl Handle for ConsumerGroupHeartbeatRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = ConsumerGroupHeartbeatResponse::default().with_throttle_time_ms(call.throttle_ms());
        let response = response.with_error_message(None).with_member_id(None).with_assignment(None);
        if let Some(error) = call.effects.error() {
            return call.answer(&response.with_error_code(error));
        }
        match heartbeat(self, call) {
            Err(Refusal { error, message }) => {
                let message = (!message.is_empty()).then(|| message.into());
                call.answer(&response.with_error_code(error.code()).with_error_message(message))
            }
            Ok((member_id, told)) => {
                let interval = i32::try_from(told.heartbeat.as_millis()).unwrap_or(i32::MAX);
                let assigned = told.assigned.map(|assigned| {
                    let topics = by_topic(assigned).map(|(topic, partitions)| {
                        TopicPartitions::default().with_topic_id(topic.to_wire()).with_partitions(partitions)
                    });
                    Assignment::default().with_topic_partitions(topics.collect())
                });
                call.answer(
                    &response
                        .with_member_id(Some(member_id.into()))
                        .with_member_epoch(told.epoch)
                        .with_heartbeat_interval_ms(interval)
                        .with_assignment(assigned),
                )
            }
        }
    }
}

/// Partitions that are in order, topic by topic.
pub(super) fn by_topic(partitions: impl IntoIterator<Item = Partition>) -> impl Iterator<Item = (TopicId, Vec<i32>)> {
    let mut topics: Vec<(TopicId, Vec<i32>)> = Vec::new();
    for (topic, index) in partitions {
        match topics.last_mut() {
            Some((last, indexes)) if *last == topic => indexes.push(index),
            _ => topics.push((topic, vec![index])),
        }
    }
    topics.into_iter()
}

/// What the member is told, and its id, which the coordinator may have given it.
fn heartbeat(request: ConsumerGroupHeartbeatRequest, call: &Call<'_>) -> Result<(String, Told), Refusal> {
    let Some(timing) = call.shared.consumer_groups else {
        return Err(Refusal::new(ResponseError::UnsupportedVersion, ""));
    };
    let id = request.group_id.to_string();
    let mut beat = check(request, call.version)?;
    check_coordinator(call, &id).map_err(|_| Refusal::new(ResponseError::NotCoordinator, ""))?;
    let now = call.shared.runtime.elapsed();
    let release = call.shared.release;
    let mut state = call.state();
    if beat.member_id.is_empty() {
        beat.member_id = format!("{:016x}{:016x}", state.random(), state.random());
    }
    beat.client_id = call.client_id.unwrap_or_default().to_owned();
    let (group, topics) = state.group_and_topics(&id);
    group.pass_time(now);
    let not_found = |message: String| Err(Refusal::new(ResponseError::GroupIdNotFound, message));
    let (exists, is_empty) = (group.exists(), group.is_empty());
    let member_id = beat.member_id.clone();
    if let Some(consumer) = &mut group.consumer {
        return consumer.heartbeat(now, beat, topics).map(|told| (member_id, told));
    }
    match beat.epoch {
        // Groups do not change their protocol while they have members (`group.consumer.migration.policy=disabled`).
        0 if !is_empty => {
            let reason = "because online upgrade is disabled";
            return not_found(format!("Cannot upgrade classic group {id} to consumer group {reason}."));
        }
        0 => {}
        _ if exists => return not_found(format!("Group {id} is not a consumer group.")),
        ..0 => return not_found(format!("Group {id} not found.")),
        _ => return not_found(format!("Consumer group {id} not found.")),
    }
    let mut consumer = Consumer::new(&id, release, timing);
    let told = consumer.heartbeat(now, beat, topics)?;
    group.classic.forget();
    group.consumer = Some(consumer);
    Ok((member_id, told))
}

/// A request that makes sense.
fn check(request: ConsumerGroupHeartbeatRequest, version: i16) -> Result<Beat, Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ResponseError::InvalidRequest, message));
    let is_blank = |text: &str| text.trim().is_empty();
    let epoch = request.member_epoch;
    if (version >= OWN_IDS || epoch > 0 || epoch == LEAVES) && is_blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.as_ref().is_some_and(|id| is_blank(id)) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| is_blank(rack)) {
        return invalid("RackId can't be empty.");
    }
    match epoch {
        0 if request.rebalance_timeout_ms == -1 => {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        0 if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        0 if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() => {
            return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
        }
        LEAVES_FOR_NOW if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        ..LEAVES_FOR_NOW => return invalid("MemberEpoch is invalid."),
        _ => {}
    }
    let assignor = request.server_assignor.as_ref().map(|name| {
        let supported = Assignor::ALL.map(Assignor::name).join(", ");
        Assignor::of(name).ok_or_else(|| {
            let message = format!("ServerAssignor {name} is not supported. Supported assignors: {supported}.");
            Refusal::new(ResponseError::UnsupportedAssignor, message)
        })
    });
    let owned = |topics: Vec<kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions>| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let id = TopicId::from_wire(topic.topic_id);
            topic.partitions.into_iter().map(move |index| (id, index))
        });
        partitions.collect()
    };
    let rebalance = u64::try_from(request.rebalance_timeout_ms).ok().map(Duration::from_millis);
    Ok(Beat {
        member_id: request.member_id.to_string(),
        epoch,
        instance: request.instance_id.map(|id| id.to_string()),
        rack: request.rack_id.map(|rack| rack.to_string()),
        client_id: String::new(),
        rebalance,
        names: request.subscribed_topic_names.map(|names| names.iter().map(|name| name.to_string()).collect()),
        regex: request.subscribed_topic_regex.map(|regex| regex.to_string()),
        assignor: assignor.transpose()?,
        owned: request.topic_partitions.map(owned),
    })
}
