//! OffsetDelete: committed offsets of topics that a group no longer reads (KIP-496).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api OFFSET_DELETE = 47 [0] flexible []: OffsetDeleteRequest => OffsetDeleteResponse;

    struct OffsetDeleteRequest {
        group_id: Arc<str> [0+];
        topics: Vec<OffsetDeleteRequestTopic> [0+];
    }

    struct OffsetDeleteRequestTopic {
        name: Arc<str> [0+];
        partitions: Vec<OffsetDeleteRequestPartition> [0+];
    }

    struct OffsetDeleteRequestPartition {
        partition_index: i32 [0+];
    }

    struct OffsetDeleteResponse {
        error_code: ErrorCode [0+];
        throttle_time_ms: i32 [0+, ignorable];
        topics: Vec<OffsetDeleteResponseTopic> [0+];
    }

    struct OffsetDeleteResponseTopic {
        name: Arc<str> [0+];
        partitions: Vec<OffsetDeleteResponsePartition> [0+];
    }

    struct OffsetDeleteResponsePartition {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
