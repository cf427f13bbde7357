//! OffsetFetch. v8 asks for several groups at once (KIP-709), v9 knows member epochs, v10 topic ids.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api OFFSET_FETCH = 9 [1-10] flexible [6+]: OffsetFetchRequest => OffsetFetchResponse;

    struct OffsetFetchRequest {
        group_id: Arc<str> [0-7];
        topics: Option<Vec<OffsetFetchRequestTopic>> [0-7, null 2-7] = Some(Vec::new());
        groups: Vec<OffsetFetchRequestGroup> [8+];
        require_stable: bool [7+];
    }

    struct OffsetFetchRequestTopic {
        name: Arc<str> [0-7];
        partition_indexes: Vec<i32> [0-7];
    }

    struct OffsetFetchRequestGroup {
        group_id: Arc<str> [8+];
        member_id: Option<Arc<str>> [9+, null 9+, ignorable];
        member_epoch: i32 [9+, ignorable] = -1;
        topics: Option<Vec<OffsetFetchRequestTopics>> [8+, null 8+] = Some(Vec::new());
    }

    struct OffsetFetchRequestTopics {
        name: Arc<str> [8-9, ignorable];
        topic_id: Uuid [10+, ignorable];
        partition_indexes: Vec<i32> [8+];
    }

    struct OffsetFetchResponse {
        throttle_time_ms: i32 [3+, ignorable];
        topics: Vec<OffsetFetchResponseTopic> [0-7];
        error_code: ErrorCode [2-7, ignorable];
        groups: Vec<OffsetFetchResponseGroup> [8+];
    }

    struct OffsetFetchResponseTopic {
        name: Arc<str> [0-7];
        partitions: Vec<OffsetFetchResponsePartition> [0-7];
    }

    struct OffsetFetchResponsePartition {
        partition_index: i32 [0-7];
        committed_offset: i64 [0-7];
        committed_leader_epoch: i32 [5-7, ignorable] = -1;
        metadata: Option<Arc<str>> [0-7, null 0-7] = Some(Arc::default());
        error_code: ErrorCode [0-7];
    }

    struct OffsetFetchResponseGroup {
        group_id: Arc<str> [8+];
        topics: Vec<OffsetFetchResponseTopics> [8+];
        error_code: ErrorCode [8+];
    }

    struct OffsetFetchResponseTopics {
        name: Arc<str> [8-9, ignorable];
        topic_id: Uuid [10+, ignorable];
        partitions: Vec<OffsetFetchResponsePartitions> [8+];
    }

    struct OffsetFetchResponsePartitions {
        partition_index: i32 [8+];
        committed_offset: i64 [8+];
        committed_leader_epoch: i32 [8+, ignorable] = -1;
        metadata: Option<Arc<str>> [8+, null 8+] = Some(Arc::default());
        error_code: ErrorCode [8+];
    }
}
