//! CreateAcls.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api CREATE_ACLS = 30 [1-3] flexible [2+]: CreateAclsRequest => CreateAclsResponse;

    struct CreateAclsRequest {
        creations: Vec<AclCreation> [0+];
    }

    struct AclCreation {
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        resource_pattern_type: i8 [1+] = 3;
        principal: Arc<str> [0+];
        host: Arc<str> [0+];
        operation: i8 [0+];
        permission_type: i8 [0+];
    }

    struct CreateAclsResponse {
        throttle_time_ms: i32 [0+];
        results: Vec<AclCreationResult> [0+];
    }

    struct AclCreationResult {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
