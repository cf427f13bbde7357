//! DeleteShareGroupOffsets: topics that a share group no longer reads (KIP-932).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api DELETE_SHARE_GROUP_OFFSETS = 92 [0] flexible [0+]:
        DeleteShareGroupOffsetsRequest => DeleteShareGroupOffsetsResponse;

    struct DeleteShareGroupOffsetsRequest {
        group_id: Arc<str> [0+];
        topics: Vec<DeleteShareGroupOffsetsRequestTopic> [0+];
    }

    struct DeleteShareGroupOffsetsRequestTopic {
        topic_name: Arc<str> [0+];
    }

    struct DeleteShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        responses: Vec<DeleteShareGroupOffsetsResponseTopic> [0+];
    }

    struct DeleteShareGroupOffsetsResponseTopic {
        topic_name: Arc<str> [0+];
        topic_id: Uuid [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }
}
