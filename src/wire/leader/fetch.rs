//! Fetch. v7 brought sessions (KIP-227), v9 leader epochs (KIP-320), v11 followers (KIP-392), v13 topic ids (KIP-516).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{InPlace, Records, Uuid, message};

message! {
    api FETCH = 1 [4-18] flexible [12+]: FetchRequest => FetchResponse;

    struct FetchRequest {
        cluster_id: Option<Arc<str>> [12+, null 12+, tag 0, ignorable];
        replica_id: i32 [0-14] = -1;
        replica_state: ReplicaState [15+, tag 1];
        max_wait_ms: i32 [0+];
        min_bytes: i32 [0+];
        max_bytes: i32 [3+, ignorable] = 0x7fffffff;
        isolation_level: i8 [4+, ignorable];
        session_id: i32 [7+, ignorable];
        session_epoch: i32 [7+, ignorable] = -1;
        topics: Vec<FetchTopic> [0+];
        forgotten_topics_data: Vec<ForgottenTopic> [7+];
        rack_id: Arc<str> [11+, ignorable];
    }

    struct ReplicaState {
        replica_id: i32 [15+] = -1;
        replica_epoch: i64 [15+] = -1;
    }

    struct FetchTopic {
        topic: Arc<str> [0-12, ignorable];
        topic_id: Uuid [13+, ignorable];
        partitions: Vec<FetchPartition> [0+];
    }

    struct FetchPartition {
        partition: i32 [0+];
        current_leader_epoch: i32 [9+, ignorable] = -1;
        fetch_offset: i64 [0+];
        last_fetched_epoch: i32 [12+] = -1;
        log_start_offset: i64 [5+, ignorable] = -1;
        partition_max_bytes: i32 [0+];
        replica_directory_id: Uuid [17+, tag 0, ignorable];
        high_watermark: i64 [18+, tag 1, ignorable] = 9223372036854775807;
    }

    struct ForgottenTopic {
        topic: Arc<str> [7-12, ignorable];
        topic_id: Uuid [13+, ignorable];
        partitions: Vec<i32> [7+];
    }

    struct FetchResponse {
        throttle_time_ms: i32 [1+, ignorable];
        error_code: ErrorCode [7+, ignorable];
        session_id: i32 [7+];
        responses: InPlace<FetchableTopicResponse> [0+];
        node_endpoints: InPlace<NodeEndpoint> [16+, tag 0];
    }

    struct FetchableTopicResponse {
        topic: Arc<str> [0-12, ignorable];
        topic_id: Uuid [13+, ignorable];
        partitions: InPlace<PartitionData> [0+];
    }

    struct PartitionData {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
        high_watermark: i64 [0+];
        last_stable_offset: i64 [4+, ignorable] = -1;
        log_start_offset: i64 [5+, ignorable] = -1;
        diverging_epoch: EpochEndOffset [12+, tag 0];
        current_leader: LeaderIdAndEpoch [12+, tag 1];
        snapshot_id: SnapshotId [12+, tag 2];
        aborted_transactions: Option<Vec<AbortedTransaction>> [4+, null 4+, ignorable] = Some(Vec::new());
        preferred_read_replica: i32 [11+] = -1;
        records: Option<Records> [0+, null 0+] = Some(Records::default());
    }

    struct EpochEndOffset {
        epoch: i32 [12+] = -1;
        end_offset: i64 [12+] = -1;
    }

    struct LeaderIdAndEpoch {
        leader_id: i32 [12+] = -1;
        leader_epoch: i32 [12+] = -1;
    }

    struct SnapshotId {
        end_offset: i64 [0+] = -1;
        epoch: i32 [0+] = -1;
    }

    struct AbortedTransaction {
        producer_id: i64 [4+];
        first_offset: i64 [4+];
    }

    struct NodeEndpoint {
        node_id: i32 [16+];
        host: Arc<str> [16+];
        port: i32 [16+];
        rack: Option<Arc<str>> [16+, null 16+];
    }
}
