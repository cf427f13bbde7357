//! ElectLeaders: preferred ones, or since v1 unclean ones (KIP-460).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ELECT_LEADERS = 43 [0-2] flexible [2+]: ElectLeadersRequest => ElectLeadersResponse;

    struct ElectLeadersRequest {
        /// 0: the preferred replica, 1: any live one, where none is in sync.
        election_type: i8 [1+];
        /// `None`: all partitions.
        topic_partitions: Option<Vec<TopicPartitions>> [0+, null 0+] = Some(Vec::new());
        timeout_ms: i32 [0+] = 60000;
    }

    struct TopicPartitions {
        topic: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct ElectLeadersResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [1+];
        replica_election_results: Vec<ReplicaElectionResult> [0+];
    }

    struct ReplicaElectionResult {
        topic: Arc<str> [0+];
        partition_result: Vec<PartitionResult> [0+];
    }

    struct PartitionResult {
        partition_id: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
