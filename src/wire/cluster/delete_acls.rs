//! DeleteAcls.

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api DELETE_ACLS = 31 [1-3] flexible [2+]: DeleteAclsRequest => DeleteAclsResponse;

    struct DeleteAclsRequest {
        filters: Vec<DeleteAclsFilter> [0+];
    }

    struct DeleteAclsFilter {
        resource_type_filter: i8 [0+];
        /// `None`, here and below: any.
        resource_name_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        pattern_type_filter: i8 [1+] = 3;
        principal_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        host_filter: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        operation: i8 [0+];
        permission_type: i8 [0+];
    }

    struct DeleteAclsResponse {
        throttle_time_ms: i32 [0+];
        filter_results: Vec<DeleteAclsFilterResult> [0+];
    }

    struct DeleteAclsFilterResult {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        matching_acls: Vec<DeleteAclsMatchingAcl> [0+];
    }

    struct DeleteAclsMatchingAcl {
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        resource_type: i8 [0+];
        resource_name: Arc<str> [0+];
        pattern_type: i8 [1+] = 3;
        principal: Arc<str> [0+];
        host: Arc<str> [0+];
        operation: i8 [0+];
        permission_type: i8 [0+];
    }
}
