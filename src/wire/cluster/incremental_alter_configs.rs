//! IncrementalAlterConfigs: single keys; since Kafka 2.3 (KIP-339). One broker's are asked of that broker.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api INCREMENTAL_ALTER_CONFIGS = 44 [0-1] flexible [1+]:
        IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse;

    struct IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource> [0+];
        validate_only: bool [0+];
    }

    struct AlterConfigsResource {
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        configs: Vec<AlterableConfig> [0+];
    }

    struct AlterableConfig {
        name: Arc<str> [0+];
        /// 0 sets, 1 deletes, 2 appends, 3 subtracts.
        config_operation: i8 [0+];
        value: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct IncrementalAlterConfigsResponse {
        throttle_time_ms: i32 [0+];
        responses: Vec<AlterConfigsResourceResponse> [0+];
    }

    struct AlterConfigsResourceResponse {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
    }
}
