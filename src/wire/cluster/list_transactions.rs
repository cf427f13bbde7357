//! ListTransactions: the transactions that one broker coordinates (KIP-664).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LIST_TRANSACTIONS = 66 [0-2] flexible [0+]: ListTransactionsRequest => ListTransactionsResponse;

    struct ListTransactionsRequest {
        state_filters: Vec<Arc<str>> [0+];
        producer_id_filters: Vec<i64> [0+];
        duration_filter: i64 [1+] = -1;
        transactional_id_pattern: Option<Arc<str>> [2+, null 2+];
    }

    struct ListTransactionsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        unknown_state_filters: Vec<Arc<str>> [0+];
        transaction_states: Vec<TransactionState> [0+];
    }

    struct TransactionState {
        transactional_id: Arc<str> [0+];
        producer_id: i64 [0+];
        transaction_state: Arc<str> [0+];
    }
}
