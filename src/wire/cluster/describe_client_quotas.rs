//! DescribeClientQuotas (KIP-546).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_CLIENT_QUOTAS = 48 [0-1] flexible [1+]: DescribeClientQuotasRequest => DescribeClientQuotasResponse;

    struct DescribeClientQuotasRequest {
        components: Vec<ComponentData> [0+];
        strict: bool [0+];
    }

    struct ComponentData {
        entity_type: Arc<str> [0+];
        /// 0: exactly `match`, 1: the default entity, 2: any that is named.
        match_type: i8 [0+];
        r#match: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct DescribeClientQuotasResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        entries: Option<Vec<EntryData>> [0+, null 0+] = Some(Vec::new());
    }

    struct EntryData {
        entity: Vec<EntityData> [0+];
        values: Vec<ValueData> [0+];
    }

    struct EntityData {
        entity_type: Arc<str> [0+];
        entity_name: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct ValueData {
        key: Arc<str> [0+];
        value: f64 [0+];
    }
}
