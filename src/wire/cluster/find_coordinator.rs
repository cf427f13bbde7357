//! FindCoordinator: which broker looks after a group or a transactional id; in batches since v4 (KIP-699).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api FIND_COORDINATOR = 10 [0-6] flexible [3+]: FindCoordinatorRequest => FindCoordinatorResponse;

    struct FindCoordinatorRequest {
        key: Arc<str> [0-3];
        /// 0 is a group, 1 a transactional id, 2 a share group.
        key_type: i8 [1+];
        coordinator_keys: Vec<Arc<str>> [4+];
    }

    struct FindCoordinatorResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [0-3];
        error_message: Option<Arc<str>> [1-3, null 1-3, ignorable] = Some(Arc::default());
        node_id: i32 [0-3];
        host: Arc<str> [0-3];
        port: i32 [0-3];
        coordinators: Vec<Coordinator> [4+];
    }

    struct Coordinator {
        key: Arc<str> [4+];
        node_id: i32 [4+];
        host: Arc<str> [4+];
        port: i32 [4+];
        error_code: ErrorCode [4+];
        error_message: Option<Arc<str>> [4+, null 4+, ignorable] = Some(Arc::default());
    }
}
