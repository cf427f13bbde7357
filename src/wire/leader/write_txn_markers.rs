//! WriteTxnMarkers: between brokers, and how an operator aborts a transaction that hangs (KIP-664).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api WRITE_TXN_MARKERS = 27 [1-2] flexible [1+]: WriteTxnMarkersRequest => WriteTxnMarkersResponse;

    struct WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker> [0+];
    }

    struct WritableTxnMarker {
        producer_id: i64 [0+];
        producer_epoch: i16 [0+];
        transaction_result: bool [0+];
        topics: Vec<WritableTxnMarkerTopic> [0+];
        coordinator_epoch: i32 [0+];
        transaction_version: i8 [2+, ignorable];
    }

    struct WritableTxnMarkerTopic {
        name: Arc<str> [0+];
        partition_indexes: Vec<i32> [0+];
    }

    struct WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult> [0+];
    }

    struct WritableTxnMarkerResult {
        producer_id: i64 [0+];
        topics: Vec<WritableTxnMarkerTopicResult> [0+];
    }

    struct WritableTxnMarkerTopicResult {
        name: Arc<str> [0+];
        partitions: Vec<WritableTxnMarkerPartitionResult> [0+];
    }

    struct WritableTxnMarkerPartitionResult {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
