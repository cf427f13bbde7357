//! InitProducerId: the identity of an idempotent or transactional producer (KIP-98, KIP-360).
//!
//! v6 (KIP-939, two-phase commit) is still marked unstable in Kafka 4.4, so it is never negotiated.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api INIT_PRODUCER_ID = 22 [0-5] flexible [2+]: InitProducerIdRequest => InitProducerIdResponse;

    struct InitProducerIdRequest {
        transactional_id: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        transaction_timeout_ms: i32 [0+];
        producer_id: i64 [3+] = -1;
        producer_epoch: i16 [3+] = -1;
        enable2_pc: bool [6+];
        keep_prepared_txn: bool [6+];
    }

    struct InitProducerIdResponse {
        throttle_time_ms: i32 [0+, ignorable];
        error_code: ErrorCode [0+];
        producer_id: i64 [0+] = -1;
        producer_epoch: i16 [0+];
        ongoing_txn_producer_id: i64 [6+] = -1;
        ongoing_txn_producer_epoch: i16 [6+] = -1;
    }
}
