//! DescribeUserScramCredentials: mechanisms and iterations, never secrets (KIP-554).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_USER_SCRAM_CREDENTIALS = 50 [0] flexible [0+]:
        DescribeUserScramCredentialsRequest => DescribeUserScramCredentialsResponse;

    struct DescribeUserScramCredentialsRequest {
        /// `None` or empty: all users.
        users: Option<Vec<UserName>> [0+, null 0+] = Some(Vec::new());
    }

    struct UserName {
        name: Arc<str> [0+];
    }

    struct DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        results: Vec<DescribeUserScramCredentialsResult> [0+];
    }

    struct DescribeUserScramCredentialsResult {
        user: Arc<str> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        credential_infos: Vec<CredentialInfo> [0+];
    }

    struct CredentialInfo {
        mechanism: i8 [0+];
        iterations: i32 [0+];
    }
}
