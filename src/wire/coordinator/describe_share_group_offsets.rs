//! DescribeShareGroupOffsets: where share groups start (KIP-932).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api DESCRIBE_SHARE_GROUP_OFFSETS = 90 [0-1] flexible [0+]:
        DescribeShareGroupOffsetsRequest => DescribeShareGroupOffsetsResponse;

    struct DescribeShareGroupOffsetsRequest {
        groups: Vec<DescribeShareGroupOffsetsRequestGroup> [0+];
    }

    struct DescribeShareGroupOffsetsRequestGroup {
        group_id: Arc<str> [0+];
        topics: Option<Vec<DescribeShareGroupOffsetsRequestTopic>> [0+, null 0+] = Some(Vec::new());
    }

    struct DescribeShareGroupOffsetsRequestTopic {
        topic_name: Arc<str> [0+];
        partitions: Vec<i32> [0+];
    }

    struct DescribeShareGroupOffsetsResponse {
        throttle_time_ms: i32 [0+];
        groups: Vec<DescribeShareGroupOffsetsResponseGroup> [0+];
    }

    struct DescribeShareGroupOffsetsResponseGroup {
        group_id: Arc<str> [0+];
        topics: Vec<DescribeShareGroupOffsetsResponseTopic> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }

    struct DescribeShareGroupOffsetsResponseTopic {
        topic_name: Arc<str> [0+];
        topic_id: Uuid [0+];
        partitions: Vec<DescribeShareGroupOffsetsResponsePartition> [0+];
    }

    struct DescribeShareGroupOffsetsResponsePartition {
        partition_index: i32 [0+];
        start_offset: i64 [0+];
        leader_epoch: i32 [0+];
        lag: i64 [1+, ignorable] = -1;
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
    }
}
