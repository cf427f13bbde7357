//! ExpireDelegationToken (KIP-48).

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api EXPIRE_DELEGATION_TOKEN = 40 [1-2] flexible [2+]: ExpireDelegationTokenRequest => ExpireDelegationTokenResponse;

    struct ExpireDelegationTokenRequest {
        hmac: Bytes [0+];
        expiry_time_period_ms: i64 [0+];
    }

    struct ExpireDelegationTokenResponse {
        error_code: ErrorCode [0+];
        expiry_timestamp_ms: i64 [0+];
        throttle_time_ms: i32 [0+];
    }
}
