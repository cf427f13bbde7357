//! ListGroups, DescribeGroups and ConsumerGroupDescribe: what administrators ask of groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as DescribedConsumerGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::classic::CONSUMER;
use super::consumer::{DescribedConsumer, Partition};
use super::heartbeat::by_topic;
use crate::mock::api::KafkaRelease;
use crate::mock::broker::{Call, Handle, Handled};
use crate::mock::fault::Target;
use crate::mock::offsets::{Group, check_coordinator};
use crate::mock::state::State;

/// The state of a group that is not there.
const DEAD: &str = "Dead";
/// Where members are, as Java writes addresses: the mock does not listen elsewhere.
const HOST: &str = "/127.0.0.1";
const CLASSIC: &str = "classic";
/// A member under KIP-848, as ConsumerGroupDescribe says it (KIP-1099).
const CONSUMER_MEMBER: i8 = 1;
const NOT_ASKED: i32 = i32::MIN;
/// The first version of DescribeGroups that calls a group unknown (KIP-1043); before, it is dead.
const UNKNOWN_GROUPS: i16 = 6;

/// Everything that an authorizer could allow, since there is none: bits by Kafka's `AclOperation`. Later releases know
/// more operations on groups (KIP-848).
fn all_operations(release: KafkaRelease) -> i32 {
    if release >= KafkaRelease::V4_0 { 0b1101_0100_1000 } else { 0b1_0100_1000 }
}

/// An empty filter lets everything through.
fn passes(call: &Call<'_>, filter: &[StrBytes], value: &str) -> bool {
    let any_case = call.shared.release >= KafkaRelease::V3_9;
    let same = |wanted: &StrBytes| if any_case { wanted.eq_ignore_ascii_case(value) } else { **wanted == *value };
    filter.is_empty() || filter.iter().any(same)
}

/// Administrators see groups as they are now.
fn pass_time(call: &Call<'_>, state: &mut State) {
    let now = call.shared.runtime.elapsed();
    state.groups.values_mut().for_each(|group| group.pass_time(now));
}

/// KIP-848's type has the name of the protocol that consumers speak in classic groups.
fn kind(group: &Group) -> &'static str {
    if group.consumer.is_some() { CONSUMER } else { CLASSIC }
}

fn protocol_type(group: &Group) -> &str {
    if group.consumer.is_some() { CONSUMER } else { group.classic.protocol_type() }
}

impl Handle for ListGroupsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = ListGroupsResponse::default().with_throttle_time_ms(call.throttle_ms());
        if let Some(error) = call.effects.error() {
            return call.answer(&response.with_error_code(error));
        }
        let mut state = call.state();
        pass_time(call, &mut state);
        let groups = state.groups.iter().filter(|(_, group)| {
            let is_wanted = passes(call, &self.states_filter, group.state());
            let kind = kind(group);
            is_wanted && passes(call, &self.types_filter, kind) && group.exists() && group.home == Some(call.broker)
        });
        let groups = groups.map(|(id, group)| {
            let listed = ListedGroup::default()
                .with_group_id(StrBytes::from(id.clone()).into())
                .with_protocol_type(StrBytes::from(protocol_type(group).to_owned()));
            // What a version does not have is left at its default.
            let listed = if call.version >= 4 { listed.with_group_state(group.state().into()) } else { listed };
            if call.version >= 5 { listed.with_group_type(kind(group).into()) } else { listed }
        });
        call.answer(&response.with_groups(groups.collect()))
    }
}

impl Handle for DescribeGroupsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let groups = self.groups.into_iter().map(|id| {
            let described = DescribedGroup::default()
                .with_group_id(id.clone())
                .with_error_message(None)
                .with_authorized_operations(NOT_ASKED);
            let allowed = call.effects.error().map_or(Ok(()), Err).and_then(|()| check_coordinator(call, &id));
            if let Err(error) = allowed {
                return described.with_error_code(error);
            }
            let operations =
                if self.include_authorized_operations { all_operations(call.shared.release) } else { NOT_ASKED };
            let mut state = call.state();
            pass_time(call, &mut state);
            let known = state.groups.get(id.as_str()).filter(|group| group.exists());
            let is_other = known.is_some_and(|group| group.consumer.is_some());
            if let Some(group) = known.filter(|_| !is_other) {
                let (protocol, members) = group.classic.described();
                let members = members.into_iter().map(|member| {
                    let instance = member.instance.filter(|_| call.version >= 4);
                    DescribedGroupMember::default()
                        .with_member_id(member.member_id.into())
                        .with_group_instance_id(instance.map(StrBytes::from))
                        .with_client_id(member.client_id.into())
                        .with_client_host(HOST.into())
                        .with_member_metadata(member.metadata)
                        .with_member_assignment(member.assignment)
                });
                return described
                    .with_group_state(group.classic.state().into())
                    .with_protocol_type(StrBytes::from(group.classic.protocol_type().to_owned()))
                    .with_protocol_data(StrBytes::from(protocol.to_owned()))
                    .with_members(members.collect())
                    .with_authorized_operations(operations);
            }
            drop(state);
            let dead = described.with_group_state(DEAD.into());
            if call.version < UNKNOWN_GROUPS {
                return dead.with_authorized_operations(operations);
            }
            let why = if is_other { "is not a classic group" } else { "not found" };
            let message = StrBytes::from(format!("Group {} {why}.", &*id));
            dead.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(message))
        });
        let response = DescribeGroupsResponse::default().with_groups(groups.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

impl Handle for ConsumerGroupDescribeRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let operations =
            if self.include_authorized_operations { all_operations(call.shared.release) } else { NOT_ASKED };
        let groups = self.group_ids.into_iter().map(|id| {
            let described = DescribedConsumerGroup::default()
                .with_group_id(id.clone())
                .with_error_message(None)
                .with_authorized_operations(NOT_ASKED);
            match describe(call, &id) {
                Ok(described) => described.with_group_id(id).with_authorized_operations(operations),
                Err((error, message)) => {
                    described.with_error_code(error).with_error_message(message.map(StrBytes::from))
                }
            }
        });
        let response = ConsumerGroupDescribeResponse::default().with_groups(groups.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn describe(call: &Call<'_>, id: &str) -> Result<DescribedConsumerGroup, (i16, Option<String>)> {
    let silent = |error: i16| (error, None);
    call.effects.error().map_or(Ok(()), Err).map_err(silent)?;
    if call.shared.consumer_groups.is_none() {
        return Err(silent(ResponseError::UnsupportedVersion.code()));
    }
    if id.is_empty() {
        return Err(silent(ResponseError::InvalidGroupId.code()));
    }
    check_coordinator(call, id).map_err(silent)?;
    let mut state = call.state();
    pass_time(call, &mut state);
    let not_found = |why: &str| (ResponseError::GroupIdNotFound.code(), Some(format!("Group {id} {why}.")));
    let group = state.groups.get(id).filter(|group| group.exists()).ok_or_else(|| not_found("not found"))?;
    let consumer = group.consumer.as_ref().ok_or_else(|| not_found("is not a consumer group"))?;
    let assignment = |partitions: std::collections::BTreeSet<Partition>| {
        let topics = by_topic(partitions).filter_map(|(topic, partitions)| {
            let name = state.name_of(topic)?.to_owned();
            let described = TopicPartitions::default().with_topic_id(topic.to_wire());
            Some(described.with_topic_name(StrBytes::from(name).into()).with_partitions(partitions))
        });
        Assignment::default().with_topic_partitions(topics.collect())
    };
    let member = |member: DescribedConsumer| {
        let names = member.names.into_iter().map(|name| StrBytes::from(name).into());
        let described = Member::default()
            .with_member_id(member.member_id.into())
            .with_instance_id(member.instance.map(StrBytes::from))
            .with_rack_id(member.rack.map(StrBytes::from))
            .with_member_epoch(member.epoch)
            .with_client_id(member.client_id.into())
            .with_client_host(HOST.into())
            .with_subscribed_topic_names(names.collect())
            .with_subscribed_topic_regex(Some(member.regex.into()))
            .with_assignment(assignment(member.assigned))
            .with_target_assignment(assignment(member.target));
        if call.version >= 1 { described.with_member_type(CONSUMER_MEMBER) } else { described }
    };
    let members = consumer.described();
    Ok(DescribedConsumerGroup::default()
        .with_error_message(None)
        .with_group_state(consumer.state().into())
        .with_group_epoch(members.epoch)
        .with_assignment_epoch(members.target_epoch)
        .with_assignor_name(members.assignor.name().into())
        .with_members(members.members.into_iter().map(member).collect()))
}
