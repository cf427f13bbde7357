//! ApiVersions: what a broker can do.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::api::{Api, Versions};
use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::frame::Body;

impl Handle for ApiVersionsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let named = is_software(&self.client_software_name) && is_software(&self.client_software_version);
        let invalid = (call.version >= 3 && !named).then(|| ResponseError::InvalidRequest.code());
        let error = call.effects.error().or(invalid).unwrap_or_default();
        let api_keys = if error == 0 { call.shared.versions.advertised().map(entry).collect() } else { Vec::new() };
        call.answer(
            &ApiVersionsResponse::default()
                .with_error_code(error)
                .with_api_keys(api_keys)
                .with_throttle_time_ms(call.throttle_ms()),
        )
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
