//! ListPartitionReassignments: what is on the move (KIP-455).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LIST_PARTITION_REASSIGNMENTS = 46 [0] flexible [0+]:
        ListPartitionReassignmentsRequest => ListPartitionReassignmentsResponse;

    struct ListPartitionReassignmentsRequest {
        timeout_ms: i32 [0+] = 60000;
        /// `None`: all topics.
        topics: Option<Vec<ListPartitionReassignmentsTopics>> [0+, null 0+];
    }

    struct ListPartitionReassignmentsTopics {
        name: Arc<str> [0+];
        partition_indexes: Vec<i32> [0+];
    }

    struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        topics: Vec<OngoingTopicReassignment> [0+];
    }

    struct OngoingTopicReassignment {
        name: Arc<str> [0+];
        partitions: Vec<OngoingPartitionReassignment> [0+];
    }

    struct OngoingPartitionReassignment {
        partition_index: i32 [0+];
        replicas: Vec<i32> [0+];
        adding_replicas: Vec<i32> [0+];
        removing_replicas: Vec<i32> [0+];
    }
}
