//! ListGroups: the groups that one broker coordinates; by state (KIP-518), by type (KIP-848).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LIST_GROUPS = 16 [0-5] flexible [3+]: ListGroupsRequest => ListGroupsResponse;

    struct ListGroupsRequest {
        states_filter: Vec<Arc<str>> [4+];
        types_filter: Vec<Arc<str>> [5+];
    }

    struct ListGroupsResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [0+];
        groups: Vec<ListedGroup> [0+];
    }

    struct ListedGroup {
        group_id: Arc<str> [0+];
        protocol_type: Arc<str> [0+];
        group_state: Arc<str> [4+, ignorable];
        group_type: Arc<str> [5+, ignorable];
    }
}
