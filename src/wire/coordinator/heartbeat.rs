//! Heartbeat: a member of a classic group is alive.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api HEARTBEAT = 12 [0-4] flexible [4+]: HeartbeatRequest => HeartbeatResponse;

    struct HeartbeatRequest {
        group_id: Arc<str> [0+];
        generation_id: i32 [0+];
        member_id: Arc<str> [0+];
        group_instance_id: Option<Arc<str>> [3+, null 3+];
    }

    struct HeartbeatResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [0+];
    }
}
