//! DescribeDelegationToken (KIP-48).

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_DELEGATION_TOKEN = 41 [1-3] flexible [2+]:
        DescribeDelegationTokenRequest => DescribeDelegationTokenResponse;

    struct DescribeDelegationTokenRequest {
        /// `None`: all owners.
        owners: Option<Vec<DescribeDelegationTokenOwner>> [0+, null 0+] = Some(Vec::new());
    }

    struct DescribeDelegationTokenOwner {
        principal_type: Arc<str> [0+];
        principal_name: Arc<str> [0+];
    }

    struct DescribeDelegationTokenResponse {
        error_code: ErrorCode [0+];
        tokens: Vec<DescribedDelegationToken> [0+];
        throttle_time_ms: i32 [0+];
    }

    struct DescribedDelegationToken {
        principal_type: Arc<str> [0+];
        principal_name: Arc<str> [0+];
        token_requester_principal_type: Arc<str> [3+];
        token_requester_principal_name: Arc<str> [3+];
        issue_timestamp: i64 [0+];
        expiry_timestamp: i64 [0+];
        max_timestamp: i64 [0+];
        token_id: Arc<str> [0+];
        hmac: Bytes [0+];
        renewers: Vec<DescribedDelegationTokenRenewer> [0+];
    }

    struct DescribedDelegationTokenRenewer {
        principal_type: Arc<str> [0+];
        principal_name: Arc<str> [0+];
    }
}
