//! What every table must keep, and the cursor's edges.

use std::sync::Arc;

use bytes::Bytes;

use super::api::ApiKey;
use super::cluster::api_versions::{ApiVersion, ApiVersionsRequest};
use super::cluster::metadata::{MetadataRequest, MetadataResponse};
use super::cursor::{DecodeError, EncodeError, Frame, Reader, Writer};
use super::error_code::ErrorCode;
use super::frame::{self, RequestHeader};
use super::leader::fetch::FetchResponse;
use super::leader::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use super::message::{Records, UnknownTags};

#[test]
fn varints_keep_their_edges() {
    // Java's ByteUtilsTest: zigzag 63 is 7e, 64 is 80 01, 8192 is 80 80 01.
    for (value, hex) in [
        (0i32, &[0x00u8][..]),
        (-1, &[0x01]),
        (63, &[0x7e]),
        (-64, &[0x7f]),
        (64, &[0x80, 0x01]),
        (8192, &[0x80, 0x80, 0x01]),
        (i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let bytes = Bytes::copy_from_slice(hex);
        assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        assert_eq!(Reader::new(&bytes).varlong(), Ok(i64::from(value)));
    }
    let longest = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert_eq!(Reader::new(&longest).varlong(), Ok(i64::MIN));
    assert_eq!(Reader::new(&longest).varint(), Err(DecodeError::VarintTooLong));
    let five = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x10]);
    assert_eq!(Reader::new(&five).uvarint(), Err(DecodeError::VarintTooLong));
    let ten = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]);
    assert_eq!(Reader::new(&ten).uvarlong(), Err(DecodeError::VarintTooLong));
}

/// The four bytes that make other decoders ask for 206 GB.
#[test]
fn a_claimed_count_reserves_nothing() {
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]);
    let allocated = allocation_counter::measure(|| {
        let error = frame::decode_body::<MetadataResponse>(&body, 1, false).unwrap_err();
        assert!(matches!(error, DecodeError::CountTooLarge { .. }), "{error}");
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn a_large_payload_is_shared_not_copied() {
    let batch = Bytes::from(vec![7u8; 100_000]);
    let request = ProduceRequest {
        acks: -1,
        topic_data: vec![TopicProduceData {
            name: Arc::from("t"),
            partition_data: vec![PartitionProduceData {
                index: 3,
                records: Some(Records(batch.clone())),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    for version in 3..=12 {
        let header = RequestHeader { version, correlation: 9, client_id: Some("me") };
        let frame = frame::encode_request(&request, header).unwrap();
        assert!(frame.segments.iter().any(|s| s.as_ptr() == batch.as_ptr()), "v{version} copied the batch");
        let bytes = frame.to_bytes();
        assert_eq!(bytes.len(), frame.size());
        assert_eq!(i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
    }
}

#[test]
fn golden_request_header() {
    let request = MetadataRequest { topics: None, ..Default::default() };
    let header = RequestHeader { version: 1, correlation: 5, client_id: Some("ab") };
    let bytes = frame::encode_request(&request, header).unwrap().to_bytes();
    // size 16 | key 3 | version 1 | correlation 5 | "ab" | null list
    assert_eq!(&bytes[..], [0, 0, 0, 16, 0, 3, 0, 1, 0, 0, 0, 5, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff]);
    let header = RequestHeader { version: 12, correlation: 5, client_id: None };
    let bytes = frame::encode_request(&request, header).unwrap().to_bytes();
    // ... null client id | header tags | null list (compact) | auto-create | topic operations | tags
    assert_eq!(&bytes[..], [0, 0, 0, 15, 0, 3, 0, 12, 0, 0, 0, 5, 0xff, 0xff, 0, 0, 1, 0, 0]);
}

#[test]
fn a_field_that_the_version_lacks_is_an_error_unless_ignorable() {
    let request = MetadataRequest { include_topic_authorized_operations: true, ..Default::default() };
    let error = frame::encode_body(&request, 7, false).unwrap_err();
    assert_eq!(error, EncodeError::NotInVersion { field: "include_topic_authorized_operations", version: 7 });
    let everything = MetadataRequest { topics: None, ..Default::default() };
    let error = frame::encode_body(&everything, 0, false).unwrap_err();
    assert_eq!(error, EncodeError::NullInVersion { field: "topics", version: 0 });
    let named = ApiVersionsRequest { client_software_name: Arc::from("milena"), ..Default::default() };
    assert_eq!(frame::encode_body(&named, 0, false).unwrap().len(), 0);
}

#[test]
fn unknown_tags_survive() {
    let mut unknown = UnknownTags::default();
    unknown.push(200, Bytes::from_static(b"later"));
    let response = FetchResponse { session_id: 4, unknown, ..Default::default() };
    let bytes = frame::encode_body(&response, 16, true).unwrap();
    assert_eq!(frame::decode_body::<FetchResponse>(&bytes, 16, true).unwrap(), response);
}

#[test]
fn tags_must_ascend_and_fill_their_size() {
    for (tags, error) in [
        (&[2u8, 9, 0, 9, 0][..], DecodeError::TagOrder),
        (&[2, 9, 0, 3, 0], DecodeError::TagOrder),
        (&[1, 9, 5, 0], DecodeError::UnexpectedEnd { needed: 5, remaining: 1 }),
        // tag 1 is the features' epoch, an i64, in nine bytes
        (&[1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0], DecodeError::TrailingBytes(1)),
    ] {
        let mut body = vec![0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]; // correlation, no error, no APIs, throttle
        body.extend_from_slice(tags);
        assert_eq!(frame::decode_api_versions(&Bytes::from(body), 3).unwrap_err(), error, "{tags:?}");
    }
}

/// An older broker answers a version that it does not know in the v0 layout (KIP-511).
#[test]
fn error_35_is_read_in_the_v0_layout() {
    let body = Bytes::from_static(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
    let response = frame::decode_api_versions(&body, 5).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let only = ApiVersion { api_key: ApiKey::API_VERSIONS.0, min_version: 0, max_version: 2, ..Default::default() };
    assert_eq!(response.api_keys, [only]);
}

#[test]
fn segments_join_to_what_was_written() {
    let large = Bytes::from(vec![1u8; 2000]);
    let mut writer = Writer::new();
    writer.i32(0);
    writer.bytes(&large);
    writer.bytes(&large);
    writer.slice(b"end");
    let mut outer = Writer::new();
    outer.u8(9);
    outer.append(writer);
    let frame = Frame { segments: outer.into_segments() };
    assert_eq!(frame.segments.len(), 4);
    assert_eq!(frame.to_bytes(), [&[9, 0, 0, 0, 0], &large[..], &large[..], b"end"].concat());
}
