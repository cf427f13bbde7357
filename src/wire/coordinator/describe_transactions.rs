//! DescribeTransactions: state and partitions of transactions (KIP-664).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_TRANSACTIONS = 65 [0] flexible [0+]: DescribeTransactionsRequest => DescribeTransactionsResponse;

    struct DescribeTransactionsRequest {
        transactional_ids: Vec<Arc<str>> [0+];
    }

    struct DescribeTransactionsResponse {
        throttle_time_ms: i32 [0+];
        transaction_states: Vec<TransactionState> [0+];
    }

    struct TransactionState {
        error_code: ErrorCode [0+];
        transactional_id: Arc<str> [0+];
        transaction_state: Arc<str> [0+];
        transaction_timeout_ms: i32 [0+];
        transaction_start_time_ms: i64 [0+];
        producer_id: i64 [0+];
        producer_epoch: i16 [0+];
        topics: Vec<TopicData> [0+];
    }

    struct TopicData {
        topic: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }
}
