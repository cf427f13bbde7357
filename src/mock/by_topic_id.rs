//! OffsetCommit and OffsetFetch v10, which name topics by id. `kafka-protocol` ends at v9, which is the same but for that:
//! so requests are rewritten to v9, with the id in hexadecimal for a name, and answers back.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, VersionRange};

use super::api::Api;
use super::broker::{Call, Handled};
use super::frame::Body;
use super::topic::TopicId;

/// The first version that names topics by id.
const BY_TOPIC_ID: i16 = 10;

/// A part of a message in the flexible encoding: strings and lists begin with a varint that is one more than their
/// length, 0 for null.
enum Part {
    Bytes(usize),
    Text,
    List(&'static [Self]),
    /// Its name in v9, its id in v10.
    Topic,
    Tags,
}

use Part::{List, Tags, Text, Topic};

/// Group, epoch, member, instance; topics: partitions: index, offset, leader epoch, metadata.
const COMMIT: &[Part] =
    &[Text, Part::Bytes(4), Text, Text, List(&[Topic, List(&[Part::Bytes(4 + 8 + 4), Text, Tags]), Tags]), Tags];
/// Throttle time; topics: partitions: index, error.
const COMMITTED: &[Part] = &[Part::Bytes(4), List(&[Topic, List(&[Part::Bytes(4 + 2), Tags]), Tags]), Tags];
/// Groups: group, member, epoch; topics: indexes. Whether offsets must be stable.
const FETCH: &[Part] =
    &[List(&[Text, Text, Part::Bytes(4), List(&[Topic, List(&[Part::Bytes(4)]), Tags]), Tags]), Part::Bytes(1), Tags];
/// Throttle time; groups: group; topics: partitions: index, offset, leader epoch, metadata, error; error.
const FETCHED: &[Part] = &[
    Part::Bytes(4),
    List(&[
        Text,
        List(&[Topic, List(&[Part::Bytes(4 + 8 + 4), Text, Part::Bytes(2), Tags]), Tags]),
        Part::Bytes(2),
        Tags,
    ]),
    Tags,
];

/// Whether a version of a request has ids that stand for names.
pub(super) fn is_by_topic_id(api: Api, version: i16) -> bool {
    matches!(api, Api::OffsetCommit | Api::OffsetFetch) && version >= BY_TOPIC_ID
}

/// What can be decoded, with the versions of this file.
pub(super) fn extend(api: Api, range: VersionRange) -> VersionRange {
    if is_by_topic_id(api, BY_TOPIC_ID) { VersionRange { max: BY_TOPIC_ID, ..range } } else { range }
}

/// A request body as `kafka-protocol` knows it, and the version that it then has. A body that is broken stays as it is:
/// that version cannot decode it either.
pub(super) fn named(api: Api, version: i16, body: Bytes) -> (Bytes, i16) {
    if !is_by_topic_id(api, version) {
        return (body, version);
    }
    let parts = if api == Api::OffsetCommit { COMMIT } else { FETCH };
    let (mut rest, mut out) = (&body[..], BytesMut::new());
    let rewritten = copy(parts, &mut rest, &mut out, true);
    out.extend_from_slice(rest);
    (rewritten.map_or(Bytes::new(), |()| out.freeze()), BY_TOPIC_ID - 1)
}

/// The answer to a request, whose topics are named as the request named them.
pub(super) fn answer<M: Encodable>(call: &Call<'_>, api: Api, message: &M) -> Handled {
    if !is_by_topic_id(api, call.version) {
        return call.answer(message);
    }
    let parts = if api == Api::OffsetCommit { COMMITTED } else { FETCHED };
    let encoded = Body::encode(message, BY_TOPIC_ID - 1).0.concat();
    let (mut rest, mut out) = (&encoded[..], BytesMut::new());
    let rewritten = copy(parts, &mut rest, &mut out, false);
    assert!(rewritten.is_some() && rest.is_empty(), "an answer is not laid out as this file says");
    Handled::Answer(Body(vec![out.freeze()]))
}

/// The name by which a topic goes here.
pub(super) fn name_of_id(id: TopicId) -> String {
    format!("{id:?}")
}

/// The id for which a name stands.
pub(super) fn id_of_name(name: &str) -> TopicId {
    let number = u128::from_str_radix(name, 16).unwrap_or_default();
    TopicId::from_wire(number.to_be_bytes())
}

/// Copies `parts` from `rest`; `None` if it ends early.
fn copy(parts: &[Part], rest: &mut &[u8], out: &mut BytesMut, to_names: bool) -> Option<()> {
    for part in parts {
        match part {
            Part::Bytes(count) => out.put_slice(rest.split_off(..*count)?),
            Text => {
                let length = varint(rest, out)?;
                out.put_slice(rest.split_off(..length.saturating_sub(1))?);
            }
            List(parts) => {
                for _ in 1..varint(rest, out)? {
                    copy(parts, rest, out, to_names)?;
                }
            }
            Topic if to_names => {
                let name = name_of_id(TopicId::from_wire(rest.split_off(..16)?));
                out.put_u8(u8::try_from(name.len() + 1).ok()?);
                out.put_slice(name.as_bytes());
            }
            Topic => {
                let name = rest.split_off(..33)?.get(1..)?;
                let id: Vec<u8> = id_of_name(std::str::from_utf8(name).ok()?).to_wire();
                out.put_slice(&id);
            }
            Tags => {
                for _ in 0..varint(rest, out)? {
                    varint(rest, out)?;
                    let length = varint(rest, out)?;
                    out.put_slice(rest.split_off(..length)?);
                }
            }
        }
    }
    Some(())
}

fn varint(rest: &mut &[u8], out: &mut BytesMut) -> Option<usize> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let &byte = rest.split_off_first()?;
        out.put_u8(byte);
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
