//! LeaveGroup: out of a classic group; several at once since v3 (KIP-345), with a reason since v5 (KIP-800).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LEAVE_GROUP = 13 [0-5] flexible [4+]: LeaveGroupRequest => LeaveGroupResponse;

    struct LeaveGroupRequest {
        group_id: Arc<str> [0+];
        member_id: Arc<str> [0-2];
        members: Vec<MemberIdentity> [3+];
    }

    struct MemberIdentity {
        member_id: Arc<str> [3+];
        group_instance_id: Option<Arc<str>> [3+, null 3+];
        reason: Option<Arc<str>> [5+, null 5+, ignorable];
    }

    struct LeaveGroupResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [0+];
        members: Vec<MemberResponse> [3+];
    }

    struct MemberResponse {
        member_id: Arc<str> [3+];
        group_instance_id: Option<Arc<str>> [3+, null 3+] = Some(Arc::default());
        error_code: ErrorCode [3+];
    }
}
