//! OffsetForLeaderEpoch: where an epoch ended, to find out whether the log was truncated (KIP-320).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api OFFSET_FOR_LEADER_EPOCH = 23 [2-4] flexible [4+]: OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse;

    struct OffsetForLeaderEpochRequest {
        /// -1: a consumer; -2, the default, is for debugging.
        replica_id: i32 [3+, ignorable] = -2;
        topics: Vec<OffsetForLeaderTopic> [0+];
    }

    struct OffsetForLeaderTopic {
        topic: Arc<str> [0+];
        partitions: Vec<OffsetForLeaderPartition> [0+];
    }

    struct OffsetForLeaderPartition {
        partition: i32 [0+];
        current_leader_epoch: i32 [2+, ignorable] = -1;
        leader_epoch: i32 [0+];
    }

    struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2+, ignorable];
        topics: Vec<OffsetForLeaderTopicResult> [0+];
    }

    struct OffsetForLeaderTopicResult {
        topic: Arc<str> [0+];
        partitions: Vec<EpochEndOffset> [0+];
    }

    struct EpochEndOffset {
        error_code: ErrorCode [0+];
        partition: i32 [0+];
        leader_epoch: i32 [1+, ignorable] = -1;
        end_offset: i64 [0+] = -1;
    }
}
