//! DeleteGroups: groups without members, with their offsets (KIP-229).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DELETE_GROUPS = 42 [0-3] flexible [2+]: DeleteGroupsRequest => DeleteGroupsResponse;

    struct DeleteGroupsRequest {
        groups_names: Vec<Arc<str>> [0+];
    }

    struct DeleteGroupsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<DeletableGroupResult> [0+];
    }

    struct DeletableGroupResult {
        group_id: Arc<str> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [3+, null 3+, ignorable];
    }
}
