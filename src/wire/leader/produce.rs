//! Produce. v10 brought leader hints (KIP-951), v13 topic ids instead of names (KIP-516).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{InPlace, Records, Uuid, message};

message! {
    api PRODUCE = 0 [3-13] flexible [9+]: ProduceRequest => ProduceResponse;

    struct ProduceRequest {
        transactional_id: Option<Arc<str>> [3+, null 3+];
        acks: i16 [0+];
        timeout_ms: i32 [0+];
        topic_data: Vec<TopicProduceData> [0+];
    }

    struct TopicProduceData {
        name: Arc<str> [0-12, ignorable];
        topic_id: Uuid [13+, ignorable];
        partition_data: Vec<PartitionProduceData> [0+];
    }

    struct PartitionProduceData {
        index: i32 [0+];
        records: Option<Records> [0+, null 0+] = Some(Records::default());
    }

    struct ProduceResponse {
        responses: InPlace<TopicProduceResponse> [0+];
        throttle_time_ms: i32 [1+, ignorable];
        node_endpoints: InPlace<NodeEndpoint> [10+, tag 0];
    }

    struct TopicProduceResponse {
        name: Arc<str> [0-12, ignorable];
        topic_id: Uuid [13+, ignorable];
        partition_responses: InPlace<PartitionProduceResponse> [0+];
    }

    struct PartitionProduceResponse {
        index: i32 [0+];
        error_code: ErrorCode [0+];
        base_offset: i64 [0+];
        log_append_time_ms: i64 [2+, ignorable] = -1;
        log_start_offset: i64 [5+, ignorable] = -1;
        record_errors: InPlace<BatchIndexAndErrorMessage> [8+, ignorable];
        error_message: Option<Arc<str>> [8+, null 8+, ignorable];
        current_leader: LeaderIdAndEpoch [10+, tag 0];
    }

    struct BatchIndexAndErrorMessage {
        batch_index: i32 [8+];
        batch_index_error_message: Option<Arc<str>> [8+, null 8+];
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 [10+] = -1;
        leader_epoch: i32 [10+] = -1;
    }

    struct NodeEndpoint {
        node_id: i32 [10+];
        host: Arc<str> [10+];
        port: i32 [10+];
        rack: Option<Arc<str>> [10+, null 10+];
    }
}
