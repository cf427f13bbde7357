//! PushTelemetry: the metrics, as OTLP (KIP-714).

use bytes::Bytes;

use crate::wire::error_code::ErrorCode;
use crate::wire::message::{Uuid, message};

message! {
    api PUSH_TELEMETRY = 72 [0] flexible [0+]: PushTelemetryRequest => PushTelemetryResponse;

    struct PushTelemetryRequest {
        client_instance_id: Uuid [0+];
        subscription_id: i32 [0+];
        terminating: bool [0+];
        compression_type: i8 [0+];
        metrics: Bytes [0+];
    }

    struct PushTelemetryResponse {
        throttle_time_ms: i32 [0+];
        error_code: ErrorCode [0+];
    }
}
