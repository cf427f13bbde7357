//! AddOffsetsToTxn: before offsets are committed in a transaction; KIP-890 makes it superfluous.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ADD_OFFSETS_TO_TXN = 25 [0-4] flexible [3+]: AddOffsetsToTxnRequest => AddOffsetsToTxnResponse;

    struct AddOffsetsToTxnRequest {
        transactional_id: Arc<str> [0+];
        producer_id: i64 [0+];
        producer_epoch: i16 [0+];
        group_id: Arc<str> [0+];
    }

    struct AddOffsetsToTxnResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
