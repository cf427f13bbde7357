//! ApiVersions: what a broker can do.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::api::{Api, Versions};
use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::frame::Body;

/// Whether groups under KIP-848 are on.
const GROUP_VERSION: &str = "group.version";
/// The first version of ApiVersions that says it, and its sign for not knowing.
const FEATURES: i16 = 3;
const NO_EPOCH: i64 = -1;
/// The first version whose supported features may be those that can be off (KAFKA-17011).
const FEATURES_FROM_0: i16 = 4;

impl Handle for ApiVersionsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let named = is_software(&self.client_software_name) && is_software(&self.client_software_version);
        let invalid = (call.version >= 3 && !named).then(|| ResponseError::InvalidRequest.code());
        let error = call.effects.error().or(invalid).unwrap_or_default();
        let response = ApiVersionsResponse::default().with_throttle_time_ms(call.throttle_ms());
        if error != 0 {
            return call.answer(&response.with_error_code(error));
        }
        let response = response.with_api_keys(call.shared.versions.advertised().map(entry).collect());
        // The one feature (KIP-584) by which clients decide anything here: whether groups under KIP-848 are on.
        let finalized = FinalizedFeatureKey::default().with_name(GROUP_VERSION.into());
        let finalized = finalized.with_min_version_level(1).with_max_version_level(1);
        let supported = SupportedFeatureKey::default().with_name(GROUP_VERSION.into()).with_max_version(1);
        let knows = call.version >= FEATURES && call.shared.release.has_consumer_groups();
        let is_on = knows && call.shared.consumer_groups.is_some();
        let lists = knows && call.version >= FEATURES_FROM_0;
        let response = if lists { response.with_supported_features(vec![supported]) } else { response };
        let epoch = if knows { 0 } else { NO_EPOCH };
        let response = response.with_finalized_features_epoch(epoch);
        call.answer(&if is_on { response.with_finalized_features(vec![finalized]) } else { response })
    }
}

/// The answer to a version that the broker does not know: in the layout of version 0, with the range of this API
/// (KIP-511).
pub(super) fn unsupported(versions: &Versions) -> Body {
    let own = versions.advertised().filter(|(api, _)| *api == Api::ApiVersions).map(entry).collect();
    let error = ResponseError::UnsupportedVersion.code();
    Body::encode(&ApiVersionsResponse::default().with_error_code(error).with_api_keys(own), 0)
}

fn entry((api, range): (Api, kafka_protocol::protocol::VersionRange)) -> ApiVersion {
    ApiVersion::default().with_api_key(api.key()).with_min_version(range.min).with_max_version(range.max)
}

/// Kafka's pattern for names and versions of client software: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(b))
}
