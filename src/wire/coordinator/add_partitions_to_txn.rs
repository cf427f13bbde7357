//! AddPartitionsToTxn: before the first batch to a partition in a transaction; superfluous since KIP-890.
//!
//! v4 and v5 are for brokers: they batch transactions, and ask for the right to act as the cluster.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ADD_PARTITIONS_TO_TXN = 24 [0-3] flexible [3+]: AddPartitionsToTxnRequest => AddPartitionsToTxnResponse;

    struct AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: Arc<str> [0-3];
        v3_and_below_producer_id: i64 [0-3];
        v3_and_below_producer_epoch: i16 [0-3];
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic> [0-3];
    }

    struct AddPartitionsToTxnTopic {
        name: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct AddPartitionsToTxnResponse {
        throttle_time_ms: i32 [0+];
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult> [0-3];
    }

    struct AddPartitionsToTxnTopicResult {
        name: Arc<str> [0+];
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult> [0+];
    }

    struct AddPartitionsToTxnPartitionResult {
        partition_index: i32 [0+];
        partition_error_code: ErrorCode [0+];
    }
}
