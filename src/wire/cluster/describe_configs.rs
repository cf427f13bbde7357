//! DescribeConfigs: of topics, brokers, groups, telemetry; what is one broker's is asked of that broker.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_CONFIGS = 32 [1-4] flexible [4+]: DescribeConfigsRequest => DescribeConfigsResponse;

    struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource> [0+];
        include_synonyms: bool [1+];
        include_documentation: bool [3+];
    }

    struct DescribeConfigsResource {
        /// 2 topic, 4 broker, 8 its loggers, 16 telemetry subscription, 32 group.
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        /// `None`: all keys.
        configuration_keys: Option<Vec<Arc<str>>> [0+, null 0+] = Some(Vec::new());
    }

    struct DescribeConfigsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<DescribeConfigsResult> [0+];
    }

    struct DescribeConfigsResult {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        configs: Vec<DescribeConfigsResourceResult> [0+];
    }

    struct DescribeConfigsResourceResult {
        name: Arc<str> [0+];
        value: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        read_only: bool [0+];
        config_source: i8 [1+, ignorable] = -1;
        is_sensitive: bool [0+];
        synonyms: Vec<DescribeConfigsSynonym> [1+, ignorable];
        config_type: i8 [3+, ignorable];
        documentation: Option<Arc<str>> [3+, null 0+, ignorable] = Some(Arc::default());
    }

    struct DescribeConfigsSynonym {
        name: Arc<str> [1+];
        value: Option<Arc<str>> [1+, null 0+] = Some(Arc::default());
        source: i8 [1+];
    }
}
