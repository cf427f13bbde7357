//! CreateDelegationToken (KIP-48).

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api CREATE_DELEGATION_TOKEN = 38 [1-3] flexible [2+]: CreateDelegationTokenRequest => CreateDelegationTokenResponse;

    struct CreateDelegationTokenRequest {
        owner_principal_type: Option<Arc<str>> [3+, null 3+] = Some(Arc::default());
        owner_principal_name: Option<Arc<str>> [3+, null 3+] = Some(Arc::default());
        renewers: Vec<CreatableRenewers> [0+];
        max_lifetime_ms: i64 [0+];
    }

    struct CreatableRenewers {
        principal_type: Arc<str> [0+];
        principal_name: Arc<str> [0+];
    }

    struct CreateDelegationTokenResponse {
        error_code: ErrorCode [0+];
        principal_type: Arc<str> [0+];
        principal_name: Arc<str> [0+];
        token_requester_principal_type: Arc<str> [3+];
        token_requester_principal_name: Arc<str> [3+];
        issue_timestamp_ms: i64 [0+];
        expiry_timestamp_ms: i64 [0+];
        max_timestamp_ms: i64 [0+];
        token_id: Arc<str> [0+];
        hmac: Bytes [0+];
        throttle_time_ms: i32 [0+];
    }
}
