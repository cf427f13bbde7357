//! GetTelemetrySubscriptions: which metrics the cluster wants, how often (KIP-714).

use std::sync::Arc;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api GET_TELEMETRY_SUBSCRIPTIONS = 71 [0] flexible [0+]:
        GetTelemetrySubscriptionsRequest => GetTelemetrySubscriptionsResponse;

    struct GetTelemetrySubscriptionsRequest {
        /// Zero: the answer brings one.
        client_instance_id: Uuid [0+];
    }

    struct GetTelemetrySubscriptionsResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
        client_instance_id: Uuid [0+];
        subscription_id: i32 [0+];
        accepted_compression_types: Vec<i8> [0+];
        push_interval_ms: i32 [0+];
        telemetry_max_bytes: i32 [0+];
        delta_temporality: bool [0+];
        requested_metrics: Vec<Arc<str>> [0+];
    }
}
