//! AlterShareGroupOffsets: moves where an empty share group starts (KIP-932).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api ALTER_SHARE_GROUP_OFFSETS = 91 [0] flexible [0+]:
        AlterShareGroupOffsetsRequest => AlterShareGroupOffsetsResponse;

    struct AlterShareGroupOffsetsRequest {
        group_id: Arc<str> [0+];
        topics: Vec<AlterShareGroupOffsetsRequestTopic> [0+];
    }

    struct AlterShareGroupOffsetsRequestTopic {
        topic_name: Arc<str> [0+];
        partitions: Vec<AlterShareGroupOffsetsRequestPartition> [0+];
    }

    struct AlterShareGroupOffsetsRequestPartition {
        partition_index: i32 [0+];
        start_offset: i64 [0+];
    }

    struct AlterShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        responses: Vec<AlterShareGroupOffsetsResponseTopic> [0+];
    }

    struct AlterShareGroupOffsetsResponseTopic {
        topic_name: Arc<str> [0+];
        topic_id: Uuid [0+];
        partitions: Vec<AlterShareGroupOffsetsResponsePartition> [0+];
    }

    struct AlterShareGroupOffsetsResponsePartition {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }
}
