//! AlterReplicaLogDirs: moves replicas between one broker's disks (KIP-113).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ALTER_REPLICA_LOG_DIRS = 34 [1-2] flexible [2+]: AlterReplicaLogDirsRequest => AlterReplicaLogDirsResponse;

    struct AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir> [0+];
    }

    struct AlterReplicaLogDir {
        path: Arc<str> [0+];
        topics: Vec<AlterReplicaLogDirTopic> [0+];
    }

    struct AlterReplicaLogDirTopic {
        name: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct AlterReplicaLogDirsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<AlterReplicaLogDirTopicResult> [0+];
    }

    struct AlterReplicaLogDirTopicResult {
        topic_name: Arc<str> [0+];
        partitions: Vec<AlterReplicaLogDirPartitionResult> [0+];
    }

    struct AlterReplicaLogDirPartitionResult {
        partition_index: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
