//! Our tables against the `kafka-protocol` crate, which Kafka's schemas were turned into by other people's code: random
//! legal values of every API in every version, requests and responses, must be the same bytes for both.
//!
//! Only what we encoded is fed to it: it reserves memory from any count that it reads.
//! `MILENA_CASES=5000` asks for more values per message and version than the usual 50.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey as TheirKey, RequestHeader as TheirHeader, RequestKind, ResponseHeader};
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, ResponseKind, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use milena::fuzzing::{Visit, each_request, entropy, same};
use milena::wire::api::ApiKey;
use milena::wire::frame::{self, RequestHeader, decode_body, encode_body};
use milena::wire::message::{Context, Embedded, Kind, Request, Versions, Wire};

/// Where the two differ, and why that is right. Each line must be needed: one that no value hits any more is an error.
const EXCEPTIONS: &[Exception] = &[
    newer(ApiKey::API_VERSIONS, 5, 5),
    Exception {
        api: ApiKey::LIST_OFFSETS,
        versions: Versions { first: 11, last: 11 },
        sides: &[Side::Request, Side::Response],
        differs: Differs::Lacks,
        reason: "v11 was unstable in Kafka 4.1, which kafka-protocol leaves out",
    },
    Exception {
        api: ApiKey::OFFSET_COMMIT,
        versions: Versions { first: 10, last: 10 },
        sides: &[Side::Request],
        differs: Differs::Lacks,
        reason: "its ApiKey and response know v10 (topic ids), its request ends at v9",
    },
    Exception {
        api: ApiKey::OFFSET_FETCH,
        versions: Versions { first: 10, last: 10 },
        sides: &[Side::Request],
        differs: Differs::Lacks,
        reason: "its ApiKey and response know v10 (topic ids), its request ends at v9",
    },
    newer(ApiKey::WRITE_TXN_MARKERS, 2, 2),
    newer(ApiKey::TXN_OFFSET_COMMIT, 6, 6),
    newer(ApiKey::DESCRIBE_LOG_DIRS, 5, 5),
    newer(ApiKey::DELETE_GROUPS, 3, 3),
    newer(ApiKey::SHARE_FETCH, 2, 2),
    newer(ApiKey::SHARE_ACKNOWLEDGE, 2, 2),
    newer(ApiKey::ADD_RAFT_VOTER, 1, 1),
    newer(ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS, 1, 1),
    newer(ApiKey::STREAMS_GROUP_HEARTBEAT, 0, 1),
    newer(ApiKey::STREAMS_GROUP_DESCRIBE, 0, 1),
    newer(ApiKey::STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, 0, 0),
    newer(ApiKey::UNREGISTER_CONTROLLER, 0, 0),
];

/// Versions that Kafka 4.1 lacks or calls unstable: from its schemas kafka-protocol 0.18 is generated.
const fn newer(api: ApiKey, first: i16, last: i16) -> Exception {
    Exception {
        api,
        versions: Versions { first, last },
        sides: &[Side::Request, Side::Response],
        differs: Differs::Lacks,
        reason: "newer than Kafka 4.1, or unstable in it",
    }
}

struct Exception {
    api: ApiKey,
    versions: Versions,
    sides: &'static [Side],
    differs: Differs,
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Request,
    Response,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Differs {
    /// kafka-protocol has no such version.
    Lacks,
    /// It does not decode what we encode.
    Refuses,
    /// It decodes, but encodes other bytes.
    Rewrites,
    /// It does not know a tag of ours.
    Tags,
}

/// What it says when it lacks a version.
const LACKS: &str = "specified version not supported";

#[test]
fn every_message_is_the_same_bytes_for_both() {
    struct Compare {
        cases: u64,
        compared: u64,
        /// What differs, how often, and one example of each.
        found: BTreeMap<(ApiKey, Side, i16, u8), (u64, String)>,
    }
    impl Compare {
        fn message<T: Wire + Debug + PartialEq>(&mut self, api: ApiKey, side: Side, version: i16, flexible: bool) {
            let seed = (api.0 as u64) << 32 | (version as u64) << 8 | side as u64;
            let mut rng = fastrand::Rng::with_seed(seed);
            for _ in 0..self.cases {
                // Little entropy makes small messages, much makes long ones.
                let len = 1 << rng.u32(4..15);
                let bytes = entropy(&mut rng, len);
                let cx = Context { version, flexible, nullable: false };
                let value = T::arbitrary(&mut Unstructured::new(&bytes), cx).unwrap();
                let ours = encode_body(&value, version, flexible)
                    .unwrap_or_else(|error| panic!("{api} {side:?} v{version}: {error}\n{value:?}"));
                let back = decode_body::<T>(&ours, version, flexible)
                    .unwrap_or_else(|error| panic!("{api} {side:?} v{version}: {error}\n{value:?}"));
                assert!(same(&back, &value), "{api} {side:?} v{version}\n{value:?}\n{back:?}");
                self.compared += 1;
                let (differs, example) = match theirs(api, side, version, &ours) {
                    Ok(theirs) if theirs.unknown_tags() => (Differs::Tags, theirs.debug),
                    Ok(theirs) if theirs.bytes == ours => continue,
                    Ok(theirs) => {
                        let theirs = theirs.bytes;
                        (Differs::Rewrites, format!("ours   {ours:02x?}\ntheirs {theirs:02x?}\n{value:?}"))
                    }
                    Err(error) if error.contains(LACKS) => (Differs::Lacks, error),
                    Err(error) => (Differs::Refuses, format!("{error}\n{ours:02x?}\n{value:?}")),
                };
                let entry = self.found.entry((api, side, version, differs as u8));
                entry.or_insert_with(|| (0, format!("{differs:?}: {example}"))).0 += 1;
            }
        }
    }
    impl Visit for Compare {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            for version in R::VERSIONS.first..=R::VERSIONS.last {
                let flexible = R::FLEXIBLE.contains(version);
                self.message::<R>(R::API, Side::Request, version, flexible);
                self.message::<R::Response>(R::API, Side::Response, version, flexible);
            }
        }
    }

    let cases = std::env::var("MILENA_CASES").map_or(50, |cases| cases.parse().expect("MILENA_CASES is a number"));
    let mut compare = Compare { cases, compared: 0, found: BTreeMap::new() };
    each_request(&mut compare);
    assert!(compare.compared > 100 * cases, "{} values only", compare.compared);

    let mut problems = String::new();
    for (&(api, side, version, differs), (times, example)) in &compare.found {
        let listed = EXCEPTIONS.iter().any(|e| {
            e.api == api && e.versions.contains(version) && e.sides.contains(&side) && e.differs as u8 == differs
        });
        if !listed {
            writeln!(problems, "{api} {side:?} v{version}, {times} of {cases}: {example}\n").unwrap();
        }
    }
    for exception in EXCEPTIONS {
        for version in exception.versions.first..=exception.versions.last {
            for side in exception.sides {
                if !compare.found.contains_key(&(exception.api, *side, version, exception.differs as u8)) {
                    let Exception { api, differs, reason, .. } = exception;
                    writeln!(problems, "{api} {side:?} v{version}: not {differs:?} any more, drop \"{reason}\"")
                        .unwrap();
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

/// What members of a group tell each other.
#[test]
fn embedded_messages_are_the_same_bytes_for_both() {
    struct Compare(u32);
    impl Visit for Compare {
        fn request<R: Request>(&mut self) {}

        fn embedded<E: Embedded + Debug + PartialEq>(&mut self) {
            let Kind::Struct(name, _) = E::KIND else { unreachable!() };
            for version in E::VERSIONS.first..=E::VERSIONS.last {
                let mut rng = fastrand::Rng::with_seed(version as u64);
                for _ in 0..50 {
                    let noise = entropy(&mut rng, 500);
                    let cx = Context { version, flexible: false, nullable: false };
                    let value = E::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
                    let ours = encode_body(&value, version, false).unwrap();
                    assert_eq!(decode_body::<E>(&ours, version, false).as_ref(), Ok(&value), "{name} v{version}");
                    let theirs = match name {
                        "ConsumerProtocolSubscription" => again::<ConsumerProtocolSubscription>(ours.clone(), version),
                        "ConsumerProtocolAssignment" => again::<ConsumerProtocolAssignment>(ours.clone(), version),
                        _ => panic!("which type of kafka-protocol is {name}?"),
                    };
                    assert_eq!(theirs, ours, "{name} v{version}: {value:?}");
                    self.0 += 1;
                }
            }
        }
    }
    fn again<T: Decodable + Encodable>(mut ours: Bytes, version: i16) -> Bytes {
        let mut bytes = BytesMut::new();
        T::decode(&mut ours, version).unwrap().encode(&mut bytes, version).unwrap();
        assert!(ours.is_empty());
        bytes.freeze()
    }
    let mut compare = Compare(0);
    each_request(&mut compare);
    assert!(compare.0 >= 400, "{} values only", compare.0);
}

/// What kafka-protocol makes of our bytes: decoded, and encoded again.
fn theirs(api: ApiKey, side: Side, version: i16, ours: &Bytes) -> Result<Theirs, String> {
    let key = TheirKey::try_from(api.0).map_err(|()| LACKS.to_owned())?;
    let mut rest = ours.clone();
    let mut bytes = BytesMut::new();
    let words = |error| format!("{error:#}");
    let debug = match side {
        Side::Request => {
            let message = RequestKind::decode(key, &mut rest, version).map_err(words)?;
            message.encode(&mut bytes, version).map_err(words)?;
            format!("{message:?}")
        }
        Side::Response => {
            let message = ResponseKind::decode(key, &mut rest, version).map_err(words)?;
            message.encode(&mut bytes, version).map_err(words)?;
            format!("{message:?}")
        }
    };
    if rest.is_empty() {
        Ok(Theirs { bytes: bytes.freeze(), debug })
    } else {
        Err(format!("{} bytes left", rest.len()))
    }
}

struct Theirs {
    bytes: Bytes,
    debug: String,
}

impl Theirs {
    /// Whether it met a tag that it does not know, which it keeps and writes back: a wrong number of ours would pass.
    fn unknown_tags(&self) -> bool {
        self.debug.matches("unknown_tagged_fields: {").count()
            != self.debug.matches("unknown_tagged_fields: {}").count()
    }
}

#[test]
fn headers_are_the_same_for_both() {
    struct Headers;
    impl Visit for Headers {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            for version in R::VERSIONS.first..=R::VERSIONS.last {
                if EXCEPTIONS.iter().any(|e| e.api == R::API && e.versions.contains(version)) {
                    continue;
                }
                request_header::<R>(version);
                response_header::<R>(version);
            }
        }
    }
    each_request(&mut Headers);
}

fn request_header<R: Request>(version: i16) {
    let key = TheirKey::try_from(R::API.0).unwrap();
    let flexible = R::FLEXIBLE.contains(version);
    let cx = Context { version, flexible, nullable: false };
    let value = R::arbitrary(&mut Unstructured::new(&entropy(&mut fastrand::Rng::with_seed(1), 500)), cx).unwrap();
    let long = "é".repeat(200);
    for client_id in [None, Some(""), Some("milena"), Some(&long)] {
        let header = RequestHeader { version, correlation: -7, client_id };
        let mut frame = frame::encode_request(&value, header).unwrap().to_bytes();
        let size = frame.split_to(4);
        assert_eq!(i32::from_be_bytes(size[..].try_into().unwrap()) as usize, frame.len());
        let theirs = TheirHeader::decode(&mut frame, key.request_header_version(version)).unwrap();
        let expected = TheirHeader::default()
            .with_request_api_key(R::API.0)
            .with_request_api_version(version)
            .with_correlation_id(-7)
            .with_client_id(client_id.map(|id| StrBytes::from_string(id.into())));
        assert_eq!(theirs, expected, "{} v{version}", R::API);
        assert_eq!(frame, encode_body(&value, version, flexible).unwrap(), "{} v{version}", R::API);
    }
}

fn response_header<R: Request>(version: i16)
where
    R::Response: Debug + PartialEq,
{
    let key = TheirKey::try_from(R::API.0).unwrap();
    let flexible = R::FLEXIBLE.contains(version);
    let cx = Context { version, flexible, nullable: false };
    let noise = entropy(&mut fastrand::Rng::with_seed(2), 500);
    let value = R::Response::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
    let header_version = key.response_header_version(version);
    for tag in [None, Some(0), Some(70_000)] {
        if header_version == 0 && tag.is_some() {
            continue;
        }
        let mut header = ResponseHeader::default().with_correlation_id(i32::MIN);
        header.unknown_tagged_fields.extend(tag.map(|tag| (tag, Bytes::from_static(b"later"))));
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, header_version).unwrap();
        bytes.extend_from_slice(&encode_body(&value, version, flexible).unwrap());
        let bytes = bytes.freeze();
        assert_eq!(frame::peek_correlation(&bytes), Ok(i32::MIN));
        let decoded = frame::decode_response::<R>(&bytes, version);
        assert!(decoded.as_ref().is_ok_and(|it| same(it, &value)), "{} v{version}: {decoded:?}\n{value:?}", R::API);
    }
}

/// Tagged fields of later versions, in a message of today: both keep them.
#[test]
fn unknown_tags_are_kept_by_both() {
    struct Tags(u32);
    impl Tags {
        fn message<T: Wire + Debug + PartialEq>(&mut self, api: ApiKey, side: Side, version: i16) {
            let tagged = |kind: &Kind| match kind {
                Kind::Struct(_, fields) => fields.iter().any(|f| f.spec.tag.is_some()),
                _ => false,
            };
            // Without tagged fields of its own, the message ends with a count of 0 for them.
            if tagged(&T::KIND) || theirs(api, side, version, &Bytes::new()).is_err_and(|e| e.contains(LACKS)) {
                return;
            }
            let cx = Context { version, flexible: true, nullable: false };
            let noise = entropy(&mut fastrand::Rng::with_seed(3), 300);
            let value = T::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
            let plain = encode_body(&value, version, true).unwrap();
            let (count, before) = plain.split_last().unwrap();
            assert_eq!(*count, 0);
            let tags = |last: &[u8]| Bytes::from([before, &[2, 90, 3, 1, 2, 3], last, &[0]].concat());

            let bytes = tags(&[0xff, 0xff, 0xff, 0xff, 0x07]);
            let ours = decode_body::<T>(&bytes, version, true).unwrap();
            assert_eq!(encode_body(&ours, version, true).unwrap(), bytes, "{api} {side:?} v{version}");
            assert_eq!(theirs(api, side, version, &bytes).unwrap().bytes, bytes, "{api} {side:?} v{version}");

            // From 2^31 on it takes them for negative and writes them before the smaller ones: out of order.
            let bytes = tags(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
            let ours = decode_body::<T>(&bytes, version, true).unwrap();
            assert_eq!(encode_body(&ours, version, true).unwrap(), bytes, "{api} {side:?} v{version}");
            let theirs = theirs(api, side, version, &bytes);
            assert!(theirs.is_ok_and(|it| it.bytes != bytes), "it has learnt large tags: compare them");
            self.0 += 1;
        }
    }
    impl Visit for Tags {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            for version in (R::VERSIONS.first..=R::VERSIONS.last).filter(|v| R::FLEXIBLE.contains(*v)) {
                self.message::<R>(R::API, Side::Request, version);
                self.message::<R::Response>(R::API, Side::Response, version);
            }
        }
    }
    let mut tags = Tags(0);
    each_request(&mut tags);
    assert!(tags.0 > 50, "{} messages only", tags.0);
}

/// Reads a field by the other side's name, so that two fields of one type cannot have changed places in both
/// directions of ours.
#[test]
fn fields_mean_the_same() {
    use milena::wire::leader::fetch::{FetchPartition, FetchRequest, FetchTopic};

    let partition = FetchPartition { partition: 3, fetch_offset: 77, partition_max_bytes: 9, ..Default::default() };
    let topic = FetchTopic { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    let request = FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() };
    let mut bytes = encode_body(&request, 12, true).unwrap();
    let theirs = kafka_protocol::messages::FetchRequest::decode(&mut bytes, 12).unwrap();
    assert_eq!((theirs.max_wait_ms, theirs.min_bytes, theirs.max_bytes), (500, 1, i32::MAX));
    assert_eq!(theirs.topics[0].topic, TopicName(StrBytes::from_static_str("orders")));
    let partition = &theirs.topics[0].partitions[0];
    assert_eq!((partition.partition, partition.fetch_offset, partition.partition_max_bytes), (3, 77, 9));
}
