//! ShareFetch: records with a lock on them, and acknowledgements of earlier ones (KIP-932); v2 renews locks (KIP-1222).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Records, Uuid, message};

message! {
    api SHARE_FETCH = 78 [1-2] flexible [0+]: ShareFetchRequest => ShareFetchResponse;

    struct ShareFetchRequest {
        group_id: Option<Arc<str>> [0+, null 0+];
        member_id: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        share_session_epoch: i32 [0+];
        max_wait_ms: i32 [0+];
        min_bytes: i32 [0+];
        max_bytes: i32 [0+] = 0x7fffffff;
        max_records: i32 [1+];
        batch_size: i32 [1+];
        /// 0: whole batches, 1: as many records as asked for (KIP-1206).
        share_acquire_mode: i8 [2+, ignorable];
        is_renew_ack: bool [2+];
        topics: Vec<FetchTopic> [0+];
        forgotten_topics_data: Vec<ForgottenTopic> [0+];
    }

    struct FetchTopic {
        topic_id: Uuid [0+];
        partitions: Vec<FetchPartition> [0+];
    }

    struct FetchPartition {
        partition_index: i32 [0+];
        acknowledgement_batches: Vec<AcknowledgementBatch> [0+];
    }

    struct AcknowledgementBatch {
        first_offset: i64 [0+];
        last_offset: i64 [0+];
        /// One for all, or one each: 0 gap, 1 accept, 2 release, 3 reject, 4 renew.
        acknowledge_types: Vec<i8> [0+];
    }

    struct ForgottenTopic {
        topic_id: Uuid [0+];
        partitions: Vec<i32> [0+];
    }

    struct ShareFetchResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        acquisition_lock_timeout_ms: i32 [1+];
        responses: Vec<ShareFetchableTopicResponse> [0+];
        node_endpoints: Vec<NodeEndpoint> [0+];
    }

    struct ShareFetchableTopicResponse {
        topic_id: Uuid [0+];
        partitions: Vec<PartitionData> [0+];
    }

    struct PartitionData {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        acknowledge_error_code: ErrorCode [0+];
        acknowledge_error_message: Option<Arc<str>> [0+, null 0+];
        current_leader: LeaderIdAndEpoch [0+];
        records: Option<Records> [0+, null 0] = Some(Records::default());
        acquired_records: Vec<AcquiredRecords> [0+];
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 [0+];
        leader_epoch: i32 [0+];
    }

    struct AcquiredRecords {
        first_offset: i64 [0+];
        last_offset: i64 [0+];
        delivery_count: i16 [0+];
    }

    struct NodeEndpoint {
        node_id: i32 [0+];
        host: Arc<str> [0+];
        port: i32 [0+];
        rack: Option<Arc<str>> [0+, null 0+];
    }
}
