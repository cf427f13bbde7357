//! DescribeQuorum: the controllers' own log, voters and observers (KIP-595).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api DESCRIBE_QUORUM = 55 [0-2] flexible [0+]: DescribeQuorumRequest => DescribeQuorumResponse;

    struct DescribeQuorumRequest {
        topics: Vec<TopicData> [0+];
    }

    struct TopicData {
        topic_name: Arc<str> [0+];
        partitions: Vec<PartitionData> [0+];
    }

    struct PartitionData {
        partition_index: i32 [0+];
    }

    struct DescribeQuorumResponse {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [2+, null 2+, ignorable] = Some(Arc::default());
        topics: Vec<TopicResult> [0+];
        nodes: Vec<Node> [2+];
    }

    struct TopicResult {
        topic_name: Arc<str> [0+];
        partitions: Vec<PartitionResult> [0+];
    }

    struct PartitionResult {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [2+, null 2+, ignorable] = Some(Arc::default());
        leader_id: i32 [0+];
        leader_epoch: i32 [0+];
        high_watermark: i64 [0+];
        current_voters: Vec<ReplicaState> [0+];
        observers: Vec<ReplicaState> [0+];
    }

    struct ReplicaState {
        replica_id: i32 [0+];
        replica_directory_id: Uuid [2+];
        log_end_offset: i64 [0+];
        last_fetch_timestamp: i64 [1+, ignorable] = -1;
        last_caught_up_timestamp: i64 [1+, ignorable] = -1;
    }

    struct Node {
        node_id: i32 [2+];
        listeners: Vec<Listener> [2+];
    }

    struct Listener {
        name: Arc<str> [2+];
        host: Arc<str> [2+];
        port: u16 [2+];
    }
}
