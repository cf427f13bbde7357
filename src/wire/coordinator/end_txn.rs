//! EndTxn: commit or abort; the answer of v5 has the next epoch (KIP-890).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api END_TXN = 26 [0-5] flexible [3+]: EndTxnRequest => EndTxnResponse;

    struct EndTxnRequest {
        transactional_id: Arc<str> [0+];
        producer_id: i64 [0+];
        producer_epoch: i16 [0+];
        committed: bool [0+];
    }

    struct EndTxnResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        producer_id: i64 [5+, ignorable] = -1;
        producer_epoch: i16 [5+, ignorable] = -1;
    }
}
