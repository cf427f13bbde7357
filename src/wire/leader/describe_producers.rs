//! DescribeProducers: the producers that a partition remembers, with their open transactions (KIP-664).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_PRODUCERS = 61 [0] flexible [0+]: DescribeProducersRequest => DescribeProducersResponse;

    struct DescribeProducersRequest {
        topics: Vec<TopicRequest> [0+];
    }

    struct TopicRequest {
        name: Arc<str> [0+];
        partition_indexes: Vec<i32> [0+];
    }

    struct DescribeProducersResponse {
        throttle_time_ms: i32 [0+];
        topics: Vec<TopicResponse> [0+];
    }

    struct TopicResponse {
        name: Arc<str> [0+];
        partitions: Vec<PartitionResponse> [0+];
    }

    struct PartitionResponse {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        active_producers: Vec<ProducerState> [0+];
    }

    struct ProducerState {
        producer_id: i64 [0+];
        producer_epoch: i32 [0+];
        last_sequence: i32 [0+] = -1;
        last_timestamp: i64 [0+] = -1;
        coordinator_epoch: i32 [0+];
        current_txn_start_offset: i64 [0+] = -1;
    }
}
