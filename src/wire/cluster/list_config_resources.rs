//! ListConfigResources: what has a configuration; v0 knows telemetry subscriptions alone (KIP-714, KIP-1142).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api LIST_CONFIG_RESOURCES = 74 [0-1] flexible [0+]: ListConfigResourcesRequest => ListConfigResourcesResponse;

    struct ListConfigResourcesRequest {
        resource_types: Vec<i8> [1+];
    }

    struct ListConfigResourcesResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        config_resources: Vec<ConfigResource> [0+];
    }

    struct ConfigResource {
        resource_name: Arc<str> [0+];
        resource_type: i8 [1+, ignorable] = 16;
    }
}
