//! UnregisterController: forgets a controller that is gone; since Kafka 4.4.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api UNREGISTER_CONTROLLER = 94 [0] flexible [0+]: UnregisterControllerRequest => UnregisterControllerResponse;

    struct UnregisterControllerRequest {
        controller_id: i32 [0+];
    }

    struct UnregisterControllerResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
