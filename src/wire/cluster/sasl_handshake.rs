//! SaslHandshake: picks the mechanism; v0 is followed by bare tokens, v1 by SaslAuthenticate (KIP-152).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api SASL_HANDSHAKE = 17 [0-1] flexible []: SaslHandshakeRequest => SaslHandshakeResponse;

    struct SaslHandshakeRequest {
        mechanism: Arc<str> [0+];
    }

    struct SaslHandshakeResponse {
        error_code: ErrorCode [0+];
        mechanisms: Vec<Arc<str>> [0+];
    }
}
