//! Requests and responses as they travel: a size, a header, the message.
//!
//! ```text
//!  request   | size i32 | key i16 | version i16 | correlation i32 | client id string16 | tags? | message |
//!  response  | size i32 | correlation i32 | tags? | message |
//! ```
//! The tags are there in flexible versions (KIP-482), with two exceptions that keep negotiation possible: the client
//! id never became compact, and an ApiVersions response never has header tags, since a broker that does not know the
//! requested version answers in v0.

use bytes::Bytes;

use super::api::ApiKey;
use super::cluster::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use super::cursor::{DecodeError, EncodeError, Frame, Reader, Writer};
use super::error_code::ErrorCode;
use super::message::{Context, Request, UnknownTags, Wire, read_tags};

/// What the header of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    pub version: i16,
    pub correlation: i32,
    pub client_id: Option<&'a str>,
}

/// Holds what most requests write, the small batch of a single record included.
const SMALL_FRAME: usize = 512;

/// The whole frame of a request, ready for the socket.
pub fn encode_request<R: Request>(request: &R, header: RequestHeader<'_>) -> Result<Frame, EncodeError> {
    let cx = context::<R>(header.version);
    let mut writer = Writer::with_capacity(SMALL_FRAME);
    writer.i32(0); // the size, patched by `into_frame`
    writer.i16(R::API.0);
    writer.i16(header.version);
    writer.i32(header.correlation);
    writer.length(header.client_id.map(str::len), false, true)?;
    writer.slice(header.client_id.unwrap_or_default().as_bytes());
    if cx.flexible {
        writer.uvarint(0);
    }
    request.encode(&mut writer, cx)?;
    writer.into_frame()
}

/// The correlation id at the front of a response frame (without its size), which is how it finds its request.
pub fn peek_correlation(frame: &Bytes) -> Result<i32, DecodeError> {
    Reader::new(frame).i32()
}

/// Decodes the response to a request of type `R` that was sent in `version`.
pub fn decode_response<R: Request>(frame: &Bytes, version: i16) -> Result<R::Response, DecodeError> {
    let mut reader = Reader::new(frame);
    reader.i32()?;
    let cx = context::<R>(version);
    if cx.flexible && R::API != ApiKey::API_VERSIONS {
        read_tags(&mut reader, &mut UnknownTags::default(), |_, _| Ok(false))?;
    }
    let response = R::Response::decode(&mut reader, cx)?;
    reader.finish()?;
    Ok(response)
}

/// [`decode_response`] for ApiVersions: a broker older than `version` answers in the v0 layout, with error 35.
pub fn decode_api_versions(frame: &Bytes, version: i16) -> Result<ApiVersionsResponse, DecodeError> {
    let mut reader = Reader::new(frame);
    reader.i32()?;
    if version > 0 && reader.clone().i16()? == ErrorCode::UNSUPPORTED_VERSION.0 {
        return decode_response::<ApiVersionsRequest>(frame, 0);
    }
    decode_response::<ApiVersionsRequest>(frame, version)
}

fn context<R: Request>(version: i16) -> Context {
    Context { version, flexible: R::FLEXIBLE.contains(version), nullable: false }
}

/// Encodes a message alone, without a frame: for tests, fuzzing and benches.
pub fn encode_body<T: Wire>(message: &T, version: i16, flexible: bool) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    message.encode(&mut writer, Context { version, flexible, nullable: false })?;
    Ok(Frame { segments: writer.into_segments() }.to_bytes())
}

/// Decodes a message alone; bytes behind it are an error.
pub fn decode_body<T: Wire>(body: &Bytes, version: i16, flexible: bool) -> Result<T, DecodeError> {
    let mut reader = Reader::new(body);
    let message = T::decode(&mut reader, Context { version, flexible, nullable: false })?;
    reader.finish()?;
    Ok(message)
}
