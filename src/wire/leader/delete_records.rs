//! DeleteRecords: moves the start of the log (KIP-107).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DELETE_RECORDS = 21 [0-2] flexible [2+]: DeleteRecordsRequest => DeleteRecordsResponse;

    struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic> [0+];
        timeout_ms: i32 [0+];
    }

    struct DeleteRecordsTopic {
        name: Arc<str> [0+];
        partitions: Vec<DeleteRecordsPartition> [0+];
    }

    struct DeleteRecordsPartition {
        partition_index: i32 [0+];
        /// -1: all there is, up to the high watermark.
        offset: i64 [0+];
    }

    struct DeleteRecordsResponse {
        throttle_time_ms: i32 [0+];
        topics: Vec<DeleteRecordsTopicResult> [0+];
    }

    struct DeleteRecordsTopicResult {
        name: Arc<str> [0+];
        partitions: Vec<DeleteRecordsPartitionResult> [0+];
    }

    struct DeleteRecordsPartitionResult {
        partition_index: i32 [0+];
        low_watermark: i64 [0+];
        error_code: ErrorCode [0+];
    }
}
