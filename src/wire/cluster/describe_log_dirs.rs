//! DescribeLogDirs: one broker's disks and what lies on them (KIP-113, KIP-827).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_LOG_DIRS = 35 [1-5] flexible [2+]: DescribeLogDirsRequest => DescribeLogDirsResponse;

    struct DescribeLogDirsRequest {
        /// `None`: all topics.
        topics: Option<Vec<DescribableLogDirTopic>> [0+, null 0+] = Some(Vec::new());
    }

    struct DescribableLogDirTopic {
        topic: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct DescribeLogDirsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [3+, ignorable];
        results: Vec<DescribeLogDirsResult> [0+];
    }

    struct DescribeLogDirsResult {
        error_code: ErrorCode [0+];
        log_dir: Arc<str> [0+];
        topics: Vec<DescribeLogDirsTopic> [0+];
        total_bytes: i64 [4+, ignorable] = -1;
        usable_bytes: i64 [4+, ignorable] = -1;
        is_cordoned: bool [5+, ignorable];
    }

    struct DescribeLogDirsTopic {
        name: Arc<str> [0+];
        partitions: Vec<DescribeLogDirsPartition> [0+];
    }

    struct DescribeLogDirsPartition {
        partition_index: i32 [0+];
        partition_size: i64 [0+];
        offset_lag: i64 [0+];
        is_future_key: bool [0+];
    }
}
