//! SyncGroup: the leader of a classic group hands out assignments, members fetch theirs.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api SYNC_GROUP = 14 [0-5] flexible [4+]: SyncGroupRequest => SyncGroupResponse;

    struct SyncGroupRequest {
        group_id: Arc<str> [0+];
        generation_id: i32 [0+];
        member_id: Arc<str> [0+];
        group_instance_id: Option<Arc<str>> [3+, null 3+];
        protocol_type: Option<Arc<str>> [5+, null 5+, ignorable];
        protocol_name: Option<Arc<str>> [5+, null 5+, ignorable];
        assignments: Vec<SyncGroupRequestAssignment> [0+];
    }

    struct SyncGroupRequestAssignment {
        member_id: Arc<str> [0+];
        assignment: Bytes [0+];
    }

    struct SyncGroupResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [0+];
        protocol_type: Option<Arc<str>> [5+, null 5+, ignorable];
        protocol_name: Option<Arc<str>> [5+, null 5+, ignorable];
        assignment: Bytes [0+];
    }
}
