//! ShareGroupHeartbeat: the whole membership of a share group (KIP-932).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api SHARE_GROUP_HEARTBEAT = 76 [1] flexible [0+]: ShareGroupHeartbeatRequest => ShareGroupHeartbeatResponse;

    struct ShareGroupHeartbeatRequest {
        group_id: Arc<str> [0+];
        member_id: Arc<str> [0+];
        /// 0 joins, -1 leaves.
        member_epoch: i32 [0+];
        rack_id: Option<Arc<str>> [0+, null 0+];
        subscribed_topic_names: Option<Vec<Arc<str>>> [0+, null 0+];
    }

    struct ShareGroupHeartbeatResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        member_id: Option<Arc<str>> [0+, null 0+];
        member_epoch: i32 [0+];
        heartbeat_interval_ms: i32 [0+];
        assignment: Option<Assignment> [0+, null 0+];
    }

    struct Assignment {
        topic_partitions: Vec<TopicPartitions> [0+];
    }

    struct TopicPartitions {
        topic_id: Uuid [0+];
        partitions: Vec<i32> [0+];
    }
}
