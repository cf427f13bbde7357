//! CreateTopics.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api CREATE_TOPICS = 19 [2-7] flexible [5+]: CreateTopicsRequest => CreateTopicsResponse;

    struct CreateTopicsRequest {
        topics: Vec<CreatableTopic> [0+];
        timeout_ms: i32 [0+] = 60000;
        validate_only: bool [1+];
    }

    struct CreatableTopic {
        name: Arc<str> [0+];
        /// -1: the broker's default (KIP-464, from v4), or as many as `assignments` lists.
        num_partitions: i32 [0+];
        replication_factor: i16 [0+];
        assignments: Vec<CreatableReplicaAssignment> [0+];
        configs: Vec<CreatableTopicConfig> [0+];
    }

    struct CreatableReplicaAssignment {
        partition_index: i32 [0+];
        broker_ids: Vec<i32> [0+];
    }

    struct CreatableTopicConfig {
        name: Arc<str> [0+];
        value: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct CreateTopicsResponse {
        throttle_time_ms: i32 [2+, ignorable];
        topics: Vec<CreatableTopicResult> [0+];
    }

    struct CreatableTopicResult {
        name: Arc<str> [0+];
        topic_id: Uuid [7+, ignorable];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [1+, null 0+, ignorable] = Some(Arc::default());
        topic_config_error_code: ErrorCode [5+, tag 0, ignorable];
        num_partitions: i32 [5+, ignorable] = -1;
        replication_factor: i16 [5+, ignorable] = -1;
        configs: Option<Vec<CreatableTopicConfigs>> [5+, null 5+, ignorable] = Some(Vec::new());
    }

    struct CreatableTopicConfigs {
        name: Arc<str> [5+];
        value: Option<Arc<str>> [5+, null 5+] = Some(Arc::default());
        read_only: bool [5+];
        config_source: i8 [5+, ignorable] = -1;
        is_sensitive: bool [5+];
    }
}
