//! AlterUserScramCredentials: salted here, so that no password travels (KIP-554).

use std::sync::Arc;

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ALTER_USER_SCRAM_CREDENTIALS = 51 [0] flexible [0+]:
        AlterUserScramCredentialsRequest => AlterUserScramCredentialsResponse;

    struct AlterUserScramCredentialsRequest {
        deletions: Vec<ScramCredentialDeletion> [0+];
        upsertions: Vec<ScramCredentialUpsertion> [0+];
    }

    struct ScramCredentialDeletion {
        name: Arc<str> [0+];
        /// 1: SCRAM-SHA-256, 2: SCRAM-SHA-512.
        mechanism: i8 [0+];
    }

    struct ScramCredentialUpsertion {
        name: Arc<str> [0+];
        mechanism: i8 [0+];
        iterations: i32 [0+];
        salt: Bytes [0+];
        salted_password: Bytes [0+];
    }

    struct AlterUserScramCredentialsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<AlterUserScramCredentialsResult> [0+];
    }

    struct AlterUserScramCredentialsResult {
        user: Arc<str> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
