//! ApiVersions: the first request on every connection (KIP-35, KIP-511, KIP-1242).
//!
//! The response header stays at v0 in every version, because a broker answers a version that it does not know with
//! the v0 layout and error 35: see [`crate::wire::frame`].

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api API_VERSIONS = 18 [0-5] flexible [3+]: ApiVersionsRequest => ApiVersionsResponse;

    struct ApiVersionsRequest {
        client_software_name: Arc<str> [3+, ignorable];
        client_software_version: Arc<str> [3+, ignorable];
        cluster_id: Option<Arc<str>> [5+, null 5+, ignorable];
        node_id: i32 [5+, ignorable] = -1;
    }

    struct ApiVersionsResponse {
        error_code: ErrorCode [0+];
        api_keys: Vec<ApiVersion> [0+];
        throttle_time_ms: i32 [1+, ignorable];
        supported_features: Vec<SupportedFeatureKey> [3+, tag 0, ignorable];
        finalized_features_epoch: i64 [3+, tag 1, ignorable] = -1;
        finalized_features: Vec<FinalizedFeatureKey> [3+, tag 2, ignorable];
        zk_migration_ready: bool [3+, tag 3, ignorable];
    }

    struct ApiVersion {
        api_key: i16 [0+];
        min_version: i16 [0+];
        max_version: i16 [0+];
    }

    struct SupportedFeatureKey {
        name: Arc<str> [3+];
        min_version: i16 [3+];
        max_version: i16 [3+];
    }

    struct FinalizedFeatureKey {
        name: Arc<str> [3+];
        max_version_level: i16 [3+];
        min_version_level: i16 [3+];
    }
}
