//! What goes into the machines of groups, and what comes out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::error::TopicPartition;
use crate::wire::api::ApiKey;
use crate::wire::coordinator::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use crate::wire::coordinator::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::wire::coordinator::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::wire::coordinator::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::wire::coordinator::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Uuid;

/// Of a member.
#[derive(Clone, Debug)]
pub struct Config {
    pub group: Arc<str>,
    /// Of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// Where it runs (KIP-881).
    pub rack: Option<Arc<str>>,
    /// After so long without a heartbeat the coordinator gives the member up.
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    /// After so long without a poll the member gives itself up. Others wait for it as long when they rebalance.
    pub max_poll_interval: Duration,
    pub request_timeout: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

/// What is to be done; see the module.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask who coordinates the group. Whoever was thought to is so no more.
    FindCoordinator,
    Send(Send),
    /// The partitions of these topics are asked for, and to be watched.
    Describe(BTreeSet<Arc<str>>),
    Changed(Change),
    /// The names of these topics are asked for; said again as long as one is missing.
    Resolve(BTreeSet<Uuid>),
    /// `set_member_id` with another one, before the next output.
    NeedMemberId,
    /// Something keeps the member from the group, and is tried again.
    Report(Problem),
    /// The membership has ended, and is not tried again until `restart`.
    Failed(Problem),
    /// The membership has ended as it was told to.
    Closed,
}

/// A request to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    pub token: u64,
    pub call: Call,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    /// In the form since v3, and in that up to v2.
    Leave(LeaveGroupRequest, LeaveGroupRequest),
    Group(ConsumerGroupHeartbeatRequest),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Group(ConsumerGroupHeartbeatResponse),
    /// There is none.
    Lost,
    /// The broker does not know the request, or not what it says: static members need Kafka 2.3.
    Unsupported,
}

/// What has become of the partitions that the member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Given to it, on top of what it has. Ends every rebalance: there may be none.
    Assigned(Vec<TopicPartition>),
    /// To be given back once this is acknowledged.
    Revoked(Vec<TopicPartition>),
    /// Gone already: others may have them.
    Lost(Vec<TopicPartition>),
}

/// Why a member is not in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An API was answered with a code.
    Refused { api: ApiKey, code: ErrorCode },
    /// The broker does not know the request.
    Unsupported { api: ApiKey },
    /// The group goes by a strategy that was not offered.
    UnknownProtocol(Arc<str>),
    /// What the leader gave to this member is no assignment.
    Malformed,
    /// No poll for longer than `max_poll_interval`.
    PollInterval,
    /// No heartbeat came through for longer than the session lasts.
    SessionExpired,
    /// A rebalance began, and what others wait for was not given back within `max_poll_interval`.
    LateRejoin,
}

/// Who a member is to its coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub member_id: Arc<str>,
    pub instance_id: Option<Arc<str>>,
    /// Or the member's epoch. -1: of no group.
    pub generation: i32,
}

/// Whether commits can be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As this member.
    Member(Identity),
    /// Not between the answer to a join and that to the sync: the coordinator would refuse them (rule 54).
    Between,
    /// There is no membership.
    Out,
}
