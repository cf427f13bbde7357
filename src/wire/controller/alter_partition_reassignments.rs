//! AlterPartitionReassignments: moves replicas between brokers (KIP-455).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ALTER_PARTITION_REASSIGNMENTS = 45 [0-1] flexible [0+]:
        AlterPartitionReassignmentsRequest => AlterPartitionReassignmentsResponse;

    struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32 [0+] = 60000;
        allow_replication_factor_change: bool [1+] = true;
        topics: Vec<ReassignableTopic> [0+];
    }

    struct ReassignableTopic {
        name: Arc<str> [0+];
        partitions: Vec<ReassignablePartition> [0+];
    }

    struct ReassignablePartition {
        partition_index: i32 [0+];
        /// `None` cancels what is under way.
        replicas: Option<Vec<i32>> [0+, null 0+];
    }

    struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0+];
        allow_replication_factor_change: bool [1+, ignorable] = true;
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        responses: Vec<ReassignableTopicResponse> [0+];
    }

    struct ReassignableTopicResponse {
        name: Arc<str> [0+];
        partitions: Vec<ReassignablePartitionResponse> [0+];
    }

    struct ReassignablePartitionResponse {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
