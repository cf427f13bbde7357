//! DeleteTopics: by name, or by id from v6 (KIP-516).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api DELETE_TOPICS = 20 [1-6] flexible [4+]: DeleteTopicsRequest => DeleteTopicsResponse;

    struct DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6+];
        topic_names: Vec<Arc<str>> [0-5, ignorable];
        timeout_ms: i32 [0+];
    }

    struct DeleteTopicState {
        name: Option<Arc<str>> [6+, null 6+];
        topic_id: Uuid [6+];
    }

    struct DeleteTopicsResponse {
        throttle_time_ms: i32 [1+, ignorable];
        responses: Vec<DeletableTopicResult> [0+];
    }

    struct DeletableTopicResult {
        name: Option<Arc<str>> [0+, null 6+] = Some(Arc::default());
        topic_id: Uuid [6+, ignorable];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [5+, null 5+, ignorable];
    }
}
