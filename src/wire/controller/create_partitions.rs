//! CreatePartitions: more partitions for a topic (KIP-195).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api CREATE_PARTITIONS = 37 [0-3] flexible [2+]: CreatePartitionsRequest => CreatePartitionsResponse;

    struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic> [0+];
        timeout_ms: i32 [0+];
        validate_only: bool [0+];
    }

    struct CreatePartitionsTopic {
        name: Arc<str> [0+];
        /// The new total, not how many to add.
        count: i32 [0+];
        assignments: Option<Vec<CreatePartitionsAssignment>> [0+, null 0+] = Some(Vec::new());
    }

    struct CreatePartitionsAssignment {
        broker_ids: Vec<i32> [0+];
    }

    struct CreatePartitionsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<CreatePartitionsTopicResult> [0+];
    }

    struct CreatePartitionsTopicResult {
        name: Arc<str> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }
}
