//! AddRaftVoter (KIP-853).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api ADD_RAFT_VOTER = 80 [0-1] flexible [0+]: AddRaftVoterRequest => AddRaftVoterResponse;

    struct AddRaftVoterRequest {
        cluster_id: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        timeout_ms: i32 [0+];
        voter_id: i32 [0+];
        voter_directory_id: Uuid [0+];
        listeners: Vec<Listener> [0+];
        ack_when_committed: bool [1+] = true;
    }

    struct Listener {
        name: Arc<str> [0+];
        host: Arc<str> [0+];
        port: u16 [0+];
    }

    struct AddRaftVoterResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+, ignorable] = Some(Arc::default());
    }
}
