//! What members of a classic group tell each other: the bytes inside JoinGroup and SyncGroup (`ConsumerProtocol`).
//!
//! ```text
//!   | version: i16 | ConsumerProtocolSubscription or ConsumerProtocolAssignment of that version |
//!
//!   user data of `sticky`               v0: | topics: [topic, [partition]] |       v1: the same, then | generation: i32 |
//!   user data of `cooperative-sticky`   v0: | generation: i32 |
//! ```
//! Bytes are Java's, orders included: topics and owned partitions sorted, an assignment as the assignor made it, and the
//! topics of sticky user data as a hash map walks them. A later version than ours only appends, and is read as ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::java_order::{compare, walk_computed};
use super::types::{Assigned, Subscription};
use crate::error::TopicPartition;
use crate::wire::coordinator::consumer_protocol_assignment as assignment;
use crate::wire::coordinator::consumer_protocol_subscription as subscription;
use crate::wire::cursor::{DecodeError, EncodeError, Frame, Reader, Writer};
use crate::wire::message::{Context, Embedded, Wire};

/// The version that is written, as by Java.
pub const NEWEST: i16 = 3;

/// In a version from 0 to [`NEWEST`]; older ones leave out what they do not know.
pub fn encode(from: &Subscription, version: i16) -> Result<Bytes, EncodeError> {
    let mut topics = from.topics.clone();
    topics.sort_by(|a, b| compare(a, b));
    let mut owned = from.owned.clone();
    owned.sort_by(|a, b| compare(&a.topic, &b.topic).then(a.partition.cmp(&b.partition)));
    let owned_partitions = grouped(&owned).into_iter();
    let owned_partitions = owned_partitions.map(|(topic, partitions)| subscription::TopicPartition {
        topic,
        partitions,
        ..Default::default()
    });
    let message = subscription::ConsumerProtocolSubscription {
        topics,
        user_data: from.user_data.clone(),
        owned_partitions: owned_partitions.collect(),
        generation_id: from.generation,
        rack_id: from.rack.clone(),
        ..Default::default()
    };
    write(&message, version)
}

pub fn decode(bytes: &Bytes) -> Result<Subscription, DecodeError> {
    let read: subscription::ConsumerProtocolSubscription = read(bytes)?;
    let owned = read.owned_partitions.into_iter();
    Ok(Subscription {
        topics: read.topics,
        owned: flat(owned.map(|owned| (owned.topic, owned.partitions))),
        generation: read.generation_id.max(-1),
        rack: read.rack_id.filter(|rack| !rack.is_empty()),
        user_data: read.user_data,
    })
}

pub fn encode_assignment(partitions: &[TopicPartition], version: i16) -> Result<Bytes, EncodeError> {
    let assigned = grouped(partitions).into_iter();
    let assigned =
        assigned.map(|(topic, partitions)| assignment::TopicPartition { topic, partitions, ..Default::default() });
    let message =
        assignment::ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), ..Default::default() };
    write(&message, version)
}

/// What the leader gave to this member. Nothing at all: nothing, as brokers say it for who has no assignment.
pub fn decode_assignment(bytes: &Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let read: assignment::ConsumerProtocolAssignment = read(bytes)?;
    Ok(flat(read.assigned_partitions.into_iter().map(|assigned| (assigned.topic, assigned.partitions))))
}

/// User data of `sticky`, v1.
pub fn encode_sticky(last: Assigned<'_>) -> Result<Bytes, EncodeError> {
    let topics = grouped(last.partitions);
    let mut writer = Writer::new();
    writer.length(Some(topics.len()), false, false)?;
    for at in walk_computed(topics.iter().map(|(topic, _)| &**topic)) {
        let (topic, partitions) = &topics[at];
        writer.length(Some(topic.len()), false, true)?;
        writer.slice(topic.as_bytes());
        writer.length(Some(partitions.len()), false, false)?;
        partitions.iter().for_each(|partition| writer.i32(*partition));
    }
    writer.i32(last.generation);
    Ok(finish(writer))
}

/// What a member says in user data of `sticky`, and in which generation it got it if it is v1.
pub fn decode_sticky(bytes: &Bytes) -> Result<(Vec<TopicPartition>, Option<i32>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let topics = count(&mut reader, 6)?;
    let mut owned = Vec::new();
    for _ in 0..topics {
        let len = reader.length(false, true)?.ok_or(DecodeError::UnexpectedNull)?;
        let topic = std::str::from_utf8(reader.take(len)?).map_err(|_| DecodeError::NotUtf8)?;
        let topic: Arc<str> = topic.into();
        for _ in 0..count(&mut reader, 4)? {
            owned.push(TopicPartition { topic: Arc::clone(&topic), partition: reader.i32()? });
        }
    }
    Ok((owned, reader.i32().ok()))
}

/// User data of `cooperative-sticky`, for leaders that do not read the generation in the subscription yet.
pub fn encode_cooperative(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

pub fn decode_cooperative(bytes: &Bytes) -> Result<i32, DecodeError> {
    Reader::new(bytes).i32()
}

/// A list's count, held against what is left of the bytes.
fn count(reader: &mut Reader<'_>, min_size: usize) -> Result<usize, DecodeError> {
    let count = reader.length(false, false)?.ok_or(DecodeError::UnexpectedNull)?;
    reader.check_count(count, min_size)?;
    Ok(count)
}

fn write<E: Embedded>(message: &E, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, Context { version, flexible: false, nullable: false })?;
    Ok(finish(writer))
}

fn finish(writer: Writer) -> Bytes {
    Frame { segments: writer.into_segments() }.to_bytes()
}

fn read<E: Embedded + Wire>(bytes: &Bytes) -> Result<E, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if version < 0 {
        return Err(DecodeError::NegativeLength(version.into()));
    }
    E::decode(&mut reader, Context { version: version.min(NEWEST), flexible: false, nullable: false })
}

/// By topic, in the order in which topics show up.
fn grouped(partitions: &[TopicPartition]) -> Vec<(Arc<str>, Vec<i32>)> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
    for TopicPartition { topic, partition } in partitions {
        let place = *places.entry(topic).or_insert(groups.len());
        if place == groups.len() {
            groups.push((Arc::clone(topic), Vec::new()));
        }
        groups[place].1.push(*partition);
    }
    groups
}

fn flat(groups: impl Iterator<Item = (Arc<str>, Vec<i32>)>) -> Vec<TopicPartition> {
    let each = groups.flat_map(|(topic, partitions)| {
        partitions.into_iter().map(move |partition| TopicPartition { topic: Arc::clone(&topic), partition })
    });
    each.collect()
}
