//! TxnOffsetCommit: offsets that count once the transaction commits; v3 checks the member (KIP-447), v6 has topic ids.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api TXN_OFFSET_COMMIT = 28 [0-6] flexible [3+]: TxnOffsetCommitRequest => TxnOffsetCommitResponse;

    struct TxnOffsetCommitRequest {
        transactional_id: Arc<str> [0+];
        group_id: Arc<str> [0+];
        producer_id: i64 [0+];
        producer_epoch: i16 [0+];
        generation_id_or_member_epoch: i32 [3+] = -1;
        member_id: Arc<str> [3+];
        group_instance_id: Option<Arc<str>> [3+, null 3+];
        topics: Vec<TxnOffsetCommitRequestTopic> [0+];
    }

    struct TxnOffsetCommitRequestTopic {
        name: Arc<str> [0-5, ignorable];
        topic_id: Uuid [6+, ignorable];
        partitions: Vec<TxnOffsetCommitRequestPartition> [0+];
    }

    struct TxnOffsetCommitRequestPartition {
        partition_index: i32 [0+];
        committed_offset: i64 [0+];
        committed_leader_epoch: i32 [2+, ignorable] = -1;
        committed_metadata: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct TxnOffsetCommitResponse {
        throttle_time_ms: i32 [0+];
        topics: Vec<TxnOffsetCommitResponseTopic> [0+];
    }

    struct TxnOffsetCommitResponseTopic {
        name: Arc<str> [0-5, ignorable];
        topic_id: Uuid [6+, ignorable];
        partitions: Vec<TxnOffsetCommitResponsePartition> [0+];
    }

    struct TxnOffsetCommitResponsePartition {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
