//! ListOffsets: the offset of a timestamp, or of the ends of the log.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LIST_OFFSETS = 2 [1-11] flexible [6+]: ListOffsetsRequest => ListOffsetsResponse;

    struct ListOffsetsRequest {
        /// -1: a consumer.
        replica_id: i32 [0+];
        isolation_level: i8 [2+];
        topics: Vec<ListOffsetsTopic> [0+];
        timeout_ms: i32 [10+, ignorable];
    }

    struct ListOffsetsTopic {
        name: Arc<str> [0+];
        partitions: Vec<ListOffsetsPartition> [0+];
    }

    struct ListOffsetsPartition {
        partition_index: i32 [0+];
        current_leader_epoch: i32 [4+, ignorable] = -1;
        timestamp: i64 [0+];
    }

    struct ListOffsetsResponse {
        throttle_time_ms: i32 [2+, ignorable];
        topics: Vec<ListOffsetsTopicResponse> [0+];
    }

    struct ListOffsetsTopicResponse {
        name: Arc<str> [0+];
        partitions: Vec<ListOffsetsPartitionResponse> [0+];
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        timestamp: i64 [1+] = -1;
        offset: i64 [1+] = -1;
        leader_epoch: i32 [4+] = -1;
    }
}

/// The timestamps with a meaning of their own.
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;
