//! OffsetCommit. v9 knows KIP-848 member epochs, v10 topic ids.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api OFFSET_COMMIT = 8 [2-10] flexible [8+]: OffsetCommitRequest => OffsetCommitResponse;

    struct OffsetCommitRequest {
        group_id: Arc<str> [0+];
        generation_id_or_member_epoch: i32 [1+, ignorable] = -1;
        member_id: Arc<str> [1+, ignorable];
        group_instance_id: Option<Arc<str>> [7+, null 7+];
        retention_time_ms: i64 [2-4, ignorable] = -1;
        topics: Vec<OffsetCommitRequestTopic> [0+];
    }

    struct OffsetCommitRequestTopic {
        name: Arc<str> [0-9, ignorable];
        topic_id: Uuid [10+, ignorable];
        partitions: Vec<OffsetCommitRequestPartition> [0+];
    }

    struct OffsetCommitRequestPartition {
        partition_index: i32 [0+];
        committed_offset: i64 [0+];
        committed_leader_epoch: i32 [6+, ignorable] = -1;
        committed_metadata: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct OffsetCommitResponse {
        throttle_time_ms: i32 [3+, ignorable];
        topics: Vec<OffsetCommitResponseTopic> [0+];
    }

    struct OffsetCommitResponseTopic {
        name: Arc<str> [0-9, ignorable];
        topic_id: Uuid [10+, ignorable];
        partitions: Vec<OffsetCommitResponsePartition> [0+];
    }

    struct OffsetCommitResponsePartition {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
