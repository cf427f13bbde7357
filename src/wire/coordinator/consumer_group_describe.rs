//! ConsumerGroupDescribe: state, members and assignments of KIP-848 groups.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api CONSUMER_GROUP_DESCRIBE = 69 [0-1] flexible [0+]: ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;

    struct ConsumerGroupDescribeRequest {
        group_ids: Vec<Arc<str>> [0+];
        include_authorized_operations: bool [0+];
    }

    struct ConsumerGroupDescribeResponse {
        throttle_time_ms: i32 [0+];
        groups: Vec<DescribedGroup> [0+];
    }

    struct DescribedGroup {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        group_id: Arc<str> [0+];
        group_state: Arc<str> [0+];
        group_epoch: i32 [0+];
        assignment_epoch: i32 [0+];
        assignor_name: Arc<str> [0+];
        members: Vec<Member> [0+];
        authorized_operations: i32 [0+] = -2147483648;
    }

    struct Member {
        member_id: Arc<str> [0+];
        instance_id: Option<Arc<str>> [0+, null 0+];
        rack_id: Option<Arc<str>> [0+, null 0+];
        member_epoch: i32 [0+];
        client_id: Arc<str> [0+];
        client_host: Arc<str> [0+];
        subscribed_topic_names: Vec<Arc<str>> [0+];
        subscribed_topic_regex: Option<Arc<str>> [0+, null 0+];
        assignment: Assignment [0+];
        target_assignment: Assignment [0+];
        member_type: i8 [1+, ignorable] = -1;
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions> [0+];
    }

    struct TopicPartitions {
        topic_id: Uuid [0+];
        topic_name: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }
}
