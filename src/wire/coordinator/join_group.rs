//! JoinGroup: enters a classic group; v4 wants a member id first (KIP-394), v5 knows static members (KIP-345).

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api JOIN_GROUP = 11 [0-9] flexible [6+]: JoinGroupRequest => JoinGroupResponse;

    struct JoinGroupRequest {
        group_id: Arc<str> [0+];
        session_timeout_ms: i32 [0+];
        rebalance_timeout_ms: i32 [1+, ignorable] = -1;
        member_id: Arc<str> [0+];
        group_instance_id: Option<Arc<str>> [5+, null 5+];
        protocol_type: Arc<str> [0+];
        protocols: Vec<JoinGroupRequestProtocol> [0+];
        /// Shown by brokers in their logs (KIP-800).
        reason: Option<Arc<str>> [8+, null 8+, ignorable];
    }

    struct JoinGroupRequestProtocol {
        name: Arc<str> [0+];
        metadata: Bytes [0+];
    }

    struct JoinGroupResponse {
        throttle_time_ms: i32 [2+, ignorable];
        error_code: ErrorCode [0+];
        generation_id: i32 [0+] = -1;
        protocol_type: Option<Arc<str>> [7+, null 7+, ignorable];
        protocol_name: Option<Arc<str>> [0+, null 7+] = Some(Arc::default());
        leader: Arc<str> [0+];
        /// The leader keeps the assignment that there is (KIP-814).
        skip_assignment: bool [9+];
        member_id: Arc<str> [0+];
        members: Vec<JoinGroupResponseMember> [0+];
    }

    struct JoinGroupResponseMember {
        member_id: Arc<str> [0+];
        group_instance_id: Option<Arc<str>> [5+, null 5+, ignorable];
        metadata: Bytes [0+];
    }
}
