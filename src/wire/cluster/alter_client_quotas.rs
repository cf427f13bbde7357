//! AlterClientQuotas (KIP-546).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ALTER_CLIENT_QUOTAS = 49 [0-1] flexible [1+]: AlterClientQuotasRequest => AlterClientQuotasResponse;

    struct AlterClientQuotasRequest {
        entries: Vec<EntryData> [0+];
        validate_only: bool [0+];
    }

    struct EntryData {
        entity: Vec<EntityData> [0+];
        ops: Vec<OpData> [0+];
    }

    struct EntityData {
        entity_type: Arc<str> [0+];
        /// `None`: the default entity.
        entity_name: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct OpData {
        key: Arc<str> [0+];
        value: f64 [0+];
        remove: bool [0+];
    }

    struct AlterClientQuotasResponse {
        throttle_time_ms: i32 [0+];
        entries: Vec<EntryResult> [0+];
    }

    struct EntryResult {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        entity: Vec<EntityData> [0+];
    }
}
