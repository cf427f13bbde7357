//! DescribeGroups: state, members and assignments of classic groups.

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_GROUPS = 15 [0-6] flexible [5+]: DescribeGroupsRequest => DescribeGroupsResponse;

    struct DescribeGroupsRequest {
        groups: Vec<Arc<str>> [0+];
        include_authorized_operations: bool [3+];
    }

    struct DescribeGroupsResponse {
        throttle_time_ms: i32 [1+, ignorable];
        groups: Vec<DescribedGroup> [0+];
    }

    struct DescribedGroup {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [6+, null 6+];
        group_id: Arc<str> [0+];
        group_state: Arc<str> [0+];
        protocol_type: Arc<str> [0+];
        protocol_data: Arc<str> [0+];
        members: Vec<DescribedGroupMember> [0+];
        authorized_operations: i32 [3+] = -2147483648;
    }

    struct DescribedGroupMember {
        member_id: Arc<str> [0+];
        group_instance_id: Option<Arc<str>> [4+, null 4+, ignorable];
        client_id: Arc<str> [0+];
        client_host: Arc<str> [0+];
        member_metadata: Bytes [0+];
        member_assignment: Bytes [0+];
    }
}
