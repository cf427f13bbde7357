//! UpdateFeatures: raises or lowers feature levels (KIP-584).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::message;

message! {
    api UPDATE_FEATURES = 57 [0-2] flexible [0+]: UpdateFeaturesRequest => UpdateFeaturesResponse;

    struct UpdateFeaturesRequest {
        timeout_ms: i32 [0+] = 60000;
        feature_updates: Vec<FeatureUpdateKey> [0+];
        validate_only: bool [1+];
    }

    struct FeatureUpdateKey {
        feature: Arc<str> [0+];
        max_version_level: i16 [0+];
        allow_downgrade: bool [0];
        /// 1 raises, 2 lowers when nothing is lost by it, 3 lowers.
        upgrade_type: i8 [1+] = 1;
    }

    struct UpdateFeaturesResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
        results: Vec<UpdatableFeatureResult> [0-1, ignorable];
    }

    struct UpdatableFeatureResult {
        feature: Arc<str> [0+];
        error_code: ErrorCode [0+];
        error_message: Option<Arc<str>> [0+, null 0+] = Some(Arc::default());
    }
}
