//! DescribeTopicPartitions: topics page by page, with eligible leader replicas (KIP-966).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api DESCRIBE_TOPIC_PARTITIONS = 75 [0] flexible [0+]:
        DescribeTopicPartitionsRequest => DescribeTopicPartitionsResponse;

    struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest> [0+];
        response_partition_limit: i32 [0+] = 2000;
        cursor: Option<Cursor> [0+, null 0+];
    }

    struct TopicRequest {
        name: Arc<str> [0+];
    }

    struct Cursor {
        topic_name: Arc<str> [0+];
        partition_index: i32 [0+];
    }

    struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32 [0+, ignorable];
        topics: Vec<DescribeTopicPartitionsResponseTopic> [0+];
        next_cursor: Option<Cursor> [0+, null 0+];
    }

    struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode [0+];
        name: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        topic_id: Uuid [0+, ignorable];
        is_internal: bool [0+, ignorable];
        partitions: Vec<DescribeTopicPartitionsResponsePartition> [0+];
        topic_authorized_operations: i32 [0+] = -2147483648;
    }

    struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode [0+];
        partition_index: i32 [0+];
        leader_id: i32 [0+];
        leader_epoch: i32 [0+, ignorable] = -1;
        replica_nodes: Vec<i32> [0+];
        isr_nodes: Vec<i32> [0+];
        eligible_leader_replicas: Option<Vec<i32>> [0+, null 0+];
        last_known_elr: Option<Vec<i32>> [0+, null 0+];
        offline_replicas: Vec<i32> [0+, ignorable];
    }
}
