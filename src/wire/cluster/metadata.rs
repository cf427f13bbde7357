//! Metadata: brokers, topics, partitions and who leads them.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api METADATA = 3 [0-13] flexible [9+]: MetadataRequest => MetadataResponse;

    struct MetadataRequest {
        /// `None` asks for all topics, an empty list for none. (In v0 empty meant all: [`MetadataRequest`] is never
        /// sent at v0.)
        topics: Option<Vec<MetadataRequestTopic>> [0+, null 1+] = Some(Vec::new());
        allow_auto_topic_creation: bool [4+] = true;
        include_cluster_authorized_operations: bool [8-10];
        include_topic_authorized_operations: bool [8+];
    }

    struct MetadataRequestTopic {
        topic_id: Uuid [10+, ignorable];
        name: Option<Arc<str>> [0+, null 10+] = Some(Arc::default());
    }

    struct MetadataResponse {
        throttle_time_ms: i32 [3+, ignorable];
        brokers: Vec<MetadataResponseBroker> [0+];
        cluster_id: Option<Arc<str>> [2+, null 2+, ignorable];
        controller_id: i32 [1+, ignorable] = -1;
        topics: Vec<MetadataResponseTopic> [0+];
        cluster_authorized_operations: i32 [8-10] = -2147483648;
        error_code: ErrorCode [13+, ignorable];
    }

    struct MetadataResponseBroker {
        node_id: i32 [0+];
        host: Arc<str> [0+];
        port: i32 [0+];
        rack: Option<Arc<str>> [1+, null 1+, ignorable];
    }

    struct MetadataResponseTopic {
        error_code: ErrorCode [0+];
        name: Option<Arc<str>> [0+, null 12+] = Some(Arc::default());
        topic_id: Uuid [10+, ignorable];
        is_internal: bool [1+, ignorable];
        partitions: Vec<MetadataResponsePartition> [0+];
        topic_authorized_operations: i32 [8+] = -2147483648;
    }

    struct MetadataResponsePartition {
        error_code: ErrorCode [0+];
        partition_index: i32 [0+];
        leader_id: i32 [0+];
        leader_epoch: i32 [7+, ignorable] = -1;
        replica_nodes: Vec<i32> [0+];
        isr_nodes: Vec<i32> [0+];
        offline_replicas: Vec<i32> [5+, ignorable];
    }
}
