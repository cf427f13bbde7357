//! ShareAcknowledge: accepts, releases, rejects or renews what ShareFetch locked (KIP-932, KIP-1222).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api SHARE_ACKNOWLEDGE = 79 [1-2] flexible [0+]: ShareAcknowledgeRequest => ShareAcknowledgeResponse;

    struct ShareAcknowledgeRequest {
        group_id: Option<Arc<str>> [0+, null 0+];
        member_id: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        share_session_epoch: i32 [0+];
        is_renew_ack: bool [2+];
        topics: Vec<AcknowledgeTopic> [0+];
    }

    struct AcknowledgeTopic {
        topic_id: Uuid [0+];
        partitions: Vec<AcknowledgePartition> [0+];
    }

    struct AcknowledgePartition {
        partition_index: i32 [0+];
        acknowledgement_batches: Vec<AcknowledgementBatch> [0+];
    }

    struct AcknowledgementBatch {
        first_offset: i64 [0+];
        last_offset: i64 [0+];
        /// One for all, or one each: 0 gap, 1 accept, 2 release, 3 reject, 4 renew.
        acknowledge_types: Vec<i8> [0+];
    }

    struct ShareAcknowledgeResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        acquisition_lock_timeout_ms: i32 [2+, ignorable];
        responses: Vec<ShareAcknowledgeTopicResponse> [0+];
        node_endpoints: Vec<NodeEndpoint> [0+];
    }

    struct ShareAcknowledgeTopicResponse {
        topic_id: Uuid [0+];
        partitions: Vec<PartitionData> [0+];
    }

    struct PartitionData {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        current_leader: LeaderIdAndEpoch [0+];
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 [0+];
        leader_epoch: i32 [0+];
    }

    struct NodeEndpoint {
        node_id: i32 [0+];
        host: Arc<str> [0+];
        port: i32 [0+];
        rack: Option<Arc<str>> [0+, null 0+];
    }
}
