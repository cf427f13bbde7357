//! RemoveRaftVoter (KIP-853).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api REMOVE_RAFT_VOTER = 81 [0] flexible [0+]: RemoveRaftVoterRequest => RemoveRaftVoterResponse;

    struct RemoveRaftVoterRequest {
        cluster_id: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        voter_id: i32 [0+];
        voter_directory_id: Uuid [0+];
    }

    struct RemoveRaftVoterResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+, ignorable] = Some(Arc::default());
    }
}
