//! ListGroups and DescribeGroups: what administrators ask of groups.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::mock::api::KafkaRelease;
use crate::mock::broker::{Call, Handle, Handled};
use crate::mock::fault::Target;
use crate::mock::offsets::check_coordinator;
use crate::mock::state::State;

/// The state of a group that is not there.
const DEAD: &str = "Dead";
/// Where members are, as Java writes addresses: the mock does not listen elsewhere.
const HOST: &str = "/127.0.0.1";
const CLASSIC: &str = "classic";
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
    for group in state.groups.values_mut() {
        group.classic.pass_time(now);
        group.changed.notify_waiters();
    }
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
            let is_wanted = passes(call, &self.states_filter, group.classic.state());
            is_wanted && passes(call, &self.types_filter, CLASSIC) && group.exists() && group.home == Some(call.broker)
        });
        let groups = groups.map(|(id, group)| {
            let listed = ListedGroup::default()
                .with_group_id(StrBytes::from(id.clone()).into())
                .with_protocol_type(StrBytes::from(group.classic.protocol_type().to_owned()));
            // What a version does not have is left at its default.
            let listed = if call.version >= 4 { listed.with_group_state(group.classic.state().into()) } else { listed };
            if call.version >= 5 { listed.with_group_type(CLASSIC.into()) } else { listed }
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
            if let Some(group) = state.groups.get(id.as_str()).filter(|group| group.exists()) {
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
            let message = StrBytes::from(format!("Group {} not found.", &*id));
            dead.with_error_code(ResponseError::GroupIdNotFound.code()).with_error_message(Some(message))
        });
        let response = DescribeGroupsResponse::default().with_groups(groups.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}
