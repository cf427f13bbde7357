//! DeleteGroups and OffsetDelete: what administrators take away from groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse};

use super::classic::CONSUMER;
use crate::mock::api::KafkaRelease;
use crate::mock::broker::{Call, Handle, Handled};
use crate::mock::fault::Target;
use crate::mock::offsets::check_coordinator;

impl Handle for DeleteGroupsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let results = self.groups_names.into_iter().map(|id| {
            let injected = call.effects.error().map_or(Ok(()), Err);
            let deleted = injected.and_then(|()| delete(call, &id));
            DeletableGroupResult::default().with_group_id(id).with_error_code(deleted.err().unwrap_or_default())
        });
        let response = DeleteGroupsResponse::default().with_results(results.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn delete(call: &Call<'_>, id: &str) -> Result<(), i16> {
    check_coordinator(call, id)?;
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let group = state.known_group(id).ok_or_else(|| ResponseError::GroupIdNotFound.code())?;
    group.pass_time(now);
    if !group.is_empty() {
        return Err(ResponseError::NonEmptyGroup.code());
    }
    group.forget();
    Ok(())
}

impl Handle for OffsetDeleteRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let partitions = self.topics.iter().flat_map(|topic| {
            let target = |index| Target { topic: topic.name.to_string(), partition: Some(index) };
            topic.partitions.iter().map(move |partition| target(partition.partition_index))
        });
        partitions.collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = OffsetDeleteResponse::default().with_throttle_time_ms(call.throttle_ms());
        let allowed = call.effects.error().map_or(Ok(()), Err).and_then(|()| may_delete(call, &self.group_id));
        if let Err(error) = allowed {
            return call.answer(&response.with_error_code(error));
        }
        let topics = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let injected = call.effects.error_for(&topic.name, Some(index)).map_or(Ok(()), Err);
                let deleted = injected.and_then(|()| delete_offset(call, &self.group_id, &topic.name, index));
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(deleted.err().unwrap_or_default())
            });
            let partitions = partitions.collect();
            OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = response.with_topics(topics.collect());
        if call.shared.release < KafkaRelease::V4_0 {
            forget_if_bare(call, &self.group_id);
        }
        call.answer(&response)
    }
}

/// The coordinators before 4.0 forget a group that has neither members nor offsets any more.
fn forget_if_bare(call: &Call<'_>, id: &str) {
    let mut state = call.state();
    if let Some(group) = state.known_group(id).filter(|group| group.is_empty() && group.offsets.is_empty()) {
        group.forget();
    }
}

fn may_delete(call: &Call<'_>, id: &str) -> Result<(), i16> {
    if id.is_empty() {
        return Err(ResponseError::InvalidGroupId.code());
    }
    check_coordinator(call, id)?;
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let group = state.known_group(id).ok_or_else(|| ResponseError::GroupIdNotFound.code())?;
    group.pass_time(now);
    // What the members of another type are about, the coordinator cannot tell.
    let is_readable = group.consumer.is_some() || group.is_empty() || group.classic.protocol_type() == CONSUMER;
    if is_readable { Ok(()) } else { Err(ResponseError::NonEmptyGroup.code()) }
}

fn delete_offset(call: &Call<'_>, id: &str, topic: &str, index: i32) -> Result<(), i16> {
    let mut state = call.state();
    if state.partition(topic, index).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition.code());
    }
    let Some(group) = state.known_group(id) else { return Ok(()) };
    if group.is_subscribed(topic) {
        return Err(ResponseError::GroupSubscribedToTopic.code());
    }
    group.forget_offset(topic, index);
    Ok(())
}
