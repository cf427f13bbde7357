//! UnregisterBroker: forgets a broker that is gone.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api UNREGISTER_BROKER = 64 [0] flexible [0+]: UnregisterBrokerRequest => UnregisterBrokerResponse;

    struct UnregisterBrokerRequest {
        broker_id: i32 [0+];
    }

    struct UnregisterBrokerResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
