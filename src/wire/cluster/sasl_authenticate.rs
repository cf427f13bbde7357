//! SaslAuthenticate: one token each way; v1 says when to do it again (KIP-368).

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api SASL_AUTHENTICATE = 36 [0-2] flexible [2+]: SaslAuthenticateRequest => SaslAuthenticateResponse;

    struct SaslAuthenticateRequest {
        auth_bytes: Bytes [0+];
    }

    struct SaslAuthenticateResponse {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        auth_bytes: Bytes [0+];
        session_lifetime_ms: i64 [1+, ignorable];
    }
}
