//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup: how a group comes by its members, under the classic protocol.
//!
//! Joining and syncing wait for others, as at a real broker: what comes behind them on the same connection waits, too.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
    SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::classic::{Caller, Classic, Join, Joined, Step, Ticket};
use crate::mock::broker::{Call, Handle, Handled};
use crate::mock::fault::Target;
use crate::mock::offsets::check_coordinator;
use crate::mock::state::State;

/// A broker's `group.min.session.timeout.ms` and `group.max.session.timeout.ms`.
const SESSIONS: std::ops::RangeInclusive<i32> = 6_000..=1_800_000;
/// The first version of JoinGroup whose new members come again with their id (KIP-394).
const COMES_AGAIN: i16 = 4;
/// The first version of JoinGroup whose leader may be told not to assign (KIP-814).
const MAY_SKIP: i16 = 9;
/// The first version of JoinGroup, and of SyncGroup, that names the protocol's type; and of LeaveGroup for many members.
const TYPED_JOIN: i16 = 7;
const TYPED_SYNC: i16 = 5;
const BATCHED_LEAVE: i16 = 3;

/// Whether this broker has to do with the group.
fn check(call: &Call<'_>, group: &str) -> Result<(), ResponseError> {
    if group.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    check_coordinator(call, group).map_err(|_| ResponseError::NotCoordinator)
}

/// What a group says, once `look` finds it said. NOT_COORDINATOR when the group has moved meanwhile.
async fn wait<T>(
    call: &Call<'_>,
    group: &str,
    ticket: Ticket,
    mut take: impl FnMut(&mut Classic, Ticket) -> Option<Result<T, ResponseError>>,
) -> Result<T, ResponseError> {
    loop {
        let changed: Arc<Notify> = call.state().group(group).changed.clone();
        let mut changed = pin!(changed.notified());
        changed.as_mut().enable(); // what happens from here on is noticed
        check(call, group)?;
        let due = {
            let now = call.shared.runtime.elapsed();
            let mut state = call.state();
            let group = state.group(group);
            group.classic.pass_time(now);
            if let Some(said) = take(&mut group.classic, ticket) {
                group.changed.notify_waiters(); // time may have passed for others, too
                return said;
            }
            group.classic.next_due().unwrap_or(Duration::MAX)
        };
        call.shared.runtime.wait_until(due, changed).await;
    }
}

/// Does something with a group, and lets those know who wait for it.
fn act<T>(call: &Call<'_>, group: &str, act: impl FnOnce(&mut Classic, Duration) -> T) -> T {
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let group = state.group(group);
    let done = act(&mut group.classic, now);
    group.changed.notify_waiters();
    done
}

/// What members of the classic protocol hear of a group that has members under KIP-848: the two do not mix
/// (`group.consumer.migration.policy=disabled`).
fn refuse(call: &Call<'_>, group: &str, instance: Option<&str>, member_id: &str) -> Result<(), ResponseError> {
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let Some(consumer) = state.known_group(group).and_then(|group| group.consumer.as_mut()) else { return Ok(()) };
    consumer.pass_time(now);
    Err(consumer.refuse_classic(instance, member_id))
}

/// A group that has no members under KIP-848 any more is one of the classic protocol with who joins it.
fn convert(call: &Call<'_>, group: &str) -> Result<(), ResponseError> {
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let group = state.group(group);
    group.pass_time(now);
    if group.consumer.is_some() && !group.is_empty() {
        return Err(ResponseError::InconsistentGroupProtocol);
    }
    group.consumer = None;
    Ok(())
}

fn optional(text: &Option<StrBytes>) -> Option<String> {
    text.as_ref().map(ToString::to_string)
}

fn to_wire(text: Option<String>) -> Option<StrBytes> {
    text.map(StrBytes::from)
}

fn millis(ms: i32) -> Duration {
    Duration::from_millis(ms.max(1).unsigned_abs().into())
}

impl Handle for JoinGroupRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = JoinGroupResponse::default().with_throttle_time_ms(call.throttle_ms());
        match join(self, call).await {
            Err((error, member_id)) => {
                // Older clients expect a name, if an empty one.
                let protocol = (call.version < TYPED_JOIN).then(StrBytes::default);
                call.answer(
                    &response.with_error_code(error).with_member_id(member_id.into()).with_protocol_name(protocol),
                )
            }
            Ok(joined) => {
                let members = joined.members.into_iter().map(|(id, instance, metadata)| {
                    let member = JoinGroupResponseMember::default().with_member_id(id.into()).with_metadata(metadata);
                    member.with_group_instance_id(to_wire(instance).filter(|_| call.version >= 5))
                });
                let protocol_type = joined.protocol_type.filter(|_| call.version >= TYPED_JOIN);
                call.answer(
                    &response
                        .with_generation_id(joined.generation)
                        .with_protocol_type(to_wire(protocol_type))
                        .with_protocol_name(to_wire(joined.protocol))
                        .with_leader(joined.leader.into())
                        .with_skip_assignment(joined.skip_assignment)
                        .with_member_id(joined.member_id.into())
                        .with_members(members.collect()),
                )
            }
        }
    }
}

/// The error comes with the member id that is said along with it.
async fn join(request: JoinGroupRequest, call: &Call<'_>) -> Result<Joined, (i16, String)> {
    let member_id = request.member_id.to_string();
    let refused = |error: i16| (error, member_id.clone());
    if let Some(error) = call.effects.error() {
        return Err(refused(error));
    }
    let group = request.group_id.to_string();
    check(call, &group).map_err(|error| refused(error.code()))?;
    if !SESSIONS.contains(&request.session_timeout_ms) {
        return Err(refused(ResponseError::InvalidSessionTimeout.code()));
    }
    convert(call, &group).map_err(|error| (error.code(), String::new()))?;
    let instance = optional(&request.group_instance_id);
    let client_id = call.client_id.unwrap_or_default().to_owned();
    // Kafka's way: after the instance, or the client.
    let new_id = {
        let (high, low) = {
            let mut state = call.state();
            (state.random(), state.random())
        };
        format!("{}-{high:016x}{low:016x}", instance.as_deref().unwrap_or(&client_id))
    };
    let rebalance = if call.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocols = request.protocols.into_iter().map(|protocol| (protocol.name.to_string(), protocol.metadata));
    let join = Join {
        member_id: member_id.clone(),
        instance,
        client_id,
        session: millis(request.session_timeout_ms),
        rebalance: millis(rebalance),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        new_id,
        come_again: call.version >= COMES_AGAIN,
        may_skip: call.version >= MAY_SKIP,
    };
    let step = act(call, &group, |members, now| members.join(now, join));
    match step.map_err(|(error, member_id)| (error.code(), member_id))? {
        Step::Done(joined) => Ok(joined),
        Step::Wait(ticket) => {
            let joined = wait(call, &group, ticket, Classic::take_joined).await;
            joined.map_err(|error| refused(error.code()))
        }
    }
}

impl Handle for SyncGroupRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = SyncGroupResponse::default().with_throttle_time_ms(call.throttle_ms());
        let synced = async {
            if let Some(error) = call.effects.error() {
                return Err(error);
            }
            let group = self.group_id.to_string();
            check(call, &group).map_err(|error| error.code())?;
            let assignments = self.assignments.into_iter().map(|one| (one.member_id.to_string(), one.assignment));
            let caller = Caller {
                member_id: &self.member_id,
                instance: self.group_instance_id.as_deref(),
                generation: self.generation_id,
            };
            let protocol = (self.protocol_type.as_deref(), self.protocol_name.as_deref());
            if call.version >= TYPED_SYNC && (protocol.0.is_none() || protocol.1.is_none()) {
                return Err(ResponseError::InconsistentGroupProtocol.code());
            }
            refuse(call, &group, caller.instance, caller.member_id).map_err(|error| error.code())?;
            let step = act(call, &group, |members, now| members.sync(now, caller, protocol, assignments));
            match step.map_err(|error| error.code())? {
                Step::Done(synced) => Ok(synced),
                Step::Wait(ticket) => {
                    wait(call, &group, ticket, Classic::take_synced).await.map_err(|error| error.code())
                }
            }
        };
        match synced.await {
            Err(error) => call.answer(&response.with_error_code(error)),
            Ok(synced) => {
                let typed = call.version >= TYPED_SYNC;
                call.answer(
                    &response
                        .with_protocol_type(to_wire(synced.protocol_type).filter(|_| typed))
                        .with_protocol_name(to_wire(synced.protocol).filter(|_| typed))
                        .with_assignment(synced.assignment),
                )
            }
        }
    }
}

impl Handle for HeartbeatRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let caller = Caller {
            member_id: &self.member_id,
            instance: self.group_instance_id.as_deref(),
            generation: self.generation_id,
        };
        let alive = check(call, &self.group_id)
            .and_then(|()| refuse(call, &self.group_id, caller.instance, caller.member_id))
            .and_then(|()| act(call, &self.group_id, |members, now| members.heartbeat(now, caller)));
        let error = call.effects.error().unwrap_or_else(|| alive.err().map_or(0, |error| error.code()));
        call.answer(&HeartbeatResponse::default().with_throttle_time_ms(call.throttle_ms()).with_error_code(error))
    }
}

/// Whatever the protocol of the group is.
fn leave(call: &Call<'_>, group: &str, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
    let now = call.shared.runtime.elapsed();
    let consumer = |state: &mut State| {
        let consumer = state.known_group(group)?.consumer.as_mut()?;
        Some(consumer.leave_group(now, member_id, instance))
    };
    let left = consumer(&mut call.state());
    left.unwrap_or_else(|| act(call, group, |members, now| members.leave(now, member_id, instance)))
}

impl Handle for LeaveGroupRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = LeaveGroupResponse::default().with_throttle_time_ms(call.throttle_ms());
        let allowed = call.effects.error().map_or(Ok(()), Err);
        let allowed = allowed.and_then(|()| check(call, &self.group_id).map_err(|error| error.code()));
        if let Err(error) = allowed {
            return call.answer(&response.with_error_code(error));
        }
        let leave = |member_id: &str, instance: Option<&str>| {
            let left = leave(call, &self.group_id, member_id, instance);
            left.err().map_or(0, |error| error.code())
        };
        if call.version < BATCHED_LEAVE {
            return call.answer(&response.with_error_code(leave(&self.member_id, None)));
        }
        let members = self.members.iter().map(|member| {
            let error = leave(&member.member_id, member.group_instance_id.as_deref());
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(error)
        });
        call.answer(&response.with_members(members.collect()))
    }
}
