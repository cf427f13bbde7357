//! AlterConfigs: replaces all keys of a resource; what Kafka 2.1 and 2.2 have for IncrementalAlterConfigs.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api ALTER_CONFIGS = 33 [0-2] flexible [2+]: AlterConfigsRequest => AlterConfigsResponse;

    struct AlterConfigsRequest {
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
        value: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }

    struct AlterConfigsResponse {
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
