//! RenewDelegationToken (KIP-48).

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api RENEW_DELEGATION_TOKEN = 39 [1-2] flexible [2+]: RenewDelegationTokenRequest => RenewDelegationTokenResponse;

    struct RenewDelegationTokenRequest {
        hmac: Bytes [0+];
        renew_period_ms: i64 [0+];
    }

    struct RenewDelegationTokenResponse {
        error_code: ErrorCode [0+];
        expiry_timestamp_ms: i64 [0+];
        throttle_time_ms: i32 [0+];
    }
}
