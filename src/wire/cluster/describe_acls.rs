//! DescribeAcls.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DESCRIBE_ACLS = 29 [1-3] flexible [2+]: DescribeAclsRequest => DescribeAclsResponse;

    struct DescribeAclsRequest {
        resource_type_filter: i8 [0+];
        /// `None`, here and below: any.
        resource_name_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        pattern_type_filter: i8 [1+] = 3;
        principal_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        host_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        operation: i8 [0+];
        permission_type: i8 [0+];
    }

    struct DescribeAclsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        resources: Vec<DescribeAclsResource> [0+];
    }

    struct DescribeAclsResource {
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        pattern_type: i8 [1+] = 3;
        acls: Vec<AclDescription> [0+];
    }

    struct AclDescription {
        principal: Arc<str> [0+];
        host: Arc<str> [0+];
        operation: i8 [0+];
        permission_type: i8 [0+];
    }
}
