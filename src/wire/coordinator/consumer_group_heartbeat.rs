//! ConsumerGroupHeartbeat: the whole membership of a KIP-848 group; the member draws its own id since v1 (KIP-1082).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api CONSUMER_GROUP_HEARTBEAT = 68 [0-1] flexible [0+]:
        ConsumerGroupHeartbeatRequest => ConsumerGroupHeartbeatResponse;

    struct ConsumerGroupHeartbeatRequest {
        group_id: Arc<str> [0+];
        member_id: Arc<str> [0+];
        /// 0 joins, -1 leaves, -2 leaves and comes back (a static member).
        member_epoch: i32 [0+];
        instance_id: Option<Arc<str>> [0+, null 0+];
        rack_id: Option<Arc<str>> [0+, null 0+];
        /// -1, as null below: unchanged since the last heartbeat.
        rebalance_timeout_ms: i32 [0+] = -1;
        subscribed_topic_names: Option<Vec<Arc<str>>> [0+, null 0+];
        subscribed_topic_regex: Option<Arc<str>> [1+, null 1+];
        server_assignor: Option<Arc<str>> [0+, null 0+];
        topic_partitions: Option<Vec<TopicPartitions>> [0+, null 0+];
    }

    struct TopicPartitions {
        topic_id: Uuid [0+];
        partitions: Vec<i32> [0+];
    }

    struct ConsumerGroupHeartbeatResponse {
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
}
