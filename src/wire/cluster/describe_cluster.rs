//! DescribeCluster: brokers or controllers (KIP-700, KIP-919).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_CLUSTER = 60 [0-2] flexible [0+]: DescribeClusterRequest => DescribeClusterResponse;

    struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool [0+];
        /// 1: brokers, 2: controllers.
        endpoint_type: i8 [1+] = 1;
        include_fenced_brokers: bool [2+];
    }

    struct DescribeClusterResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+];
        endpoint_type: i8 [1+] = 1;
        cluster_id: Arc<str> [0+];
        controller_id: i32 [0+] = -1;
        brokers: Vec<DescribeClusterBroker> [0+];
        cluster_authorized_operations: i32 [0+] = -2147483648;
    }

    struct DescribeClusterBroker {
        broker_id: i32 [0+];
        host: Arc<str> [0+];
        port: i32 [0+];
        rack: Option<Arc<str>> [0+, null 0+];
        is_fenced: bool [2+];
    }
}
