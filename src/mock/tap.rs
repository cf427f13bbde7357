//! Listens to Produce and OffsetCommit: what clients have sent, and what they were told. It decodes both by itself, so
//! that what is judged is what was on the wire, not what a handler meant.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::{OffsetCommitRequest, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::Decodable;

use super::api::Api;
use super::batch::HEADER;
use super::broker::Shared;
use super::frame::{self, Received};
use super::history::{SeenBatch, SeenCommit, Sent};
use super::topic::TopicId;
use super::verify::{Event, Violation, ViolationKind};

/// The first version of Produce that names topics by id.
const BY_TOPIC_ID: i16 = 13;
/// As many batches of a producer's partition a broker remembers.
const IN_FLIGHT: usize = 5;

/// A request that is listened to.
pub(super) enum Tap {
    /// The batches, and the number of the first in the history.
    Produce(Vec<Sent>, u64),
    Commit(Vec<SeenCommit>),
}

/// Where and when a request was read.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) at: Duration,
    pub(super) broker: i32,
    pub(super) connection: u64,
}

impl Tap {
    /// `None` if the request is none of those, or cannot be decoded.
    pub(super) fn of(shared: &Shared, place: Place, received: &Received) -> Option<Self> {
        let mut body = received.body.clone();
        match received.api {
            Api::Produce => {
                let request = ProduceRequest::decode(&mut body, received.version).ok()?;
                let sent = batches(shared, place, received.version, request);
                let first = shared.history.note_batches(&sent);
                Some(Self::Produce(sent, first))
            }
            Api::OffsetCommit => {
                let request = OffsetCommitRequest::decode(&mut body, received.version).ok()?;
                let group = request.group_id.to_string();
                let commits = request.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|partition| SeenCommit {
                        at: place.at,
                        broker: place.broker,
                        connection: place.connection,
                        group: group.clone(),
                        topic: topic.name.to_string(),
                        partition: partition.partition_index,
                        offset: partition.committed_offset,
                        log_end: -1,
                    })
                });
                Some(Self::Commit(commits.collect()))
            }
            _ => None,
        }
    }

    /// The request is done; `answer` is what the client will read, if it will.
    pub(super) fn done(self, shared: &Shared, version: i16, answer: Option<Bytes>) {
        match self {
            Self::Produce(sent, first) => {
                let answer = answer.and_then(|mut body| ProduceResponse::decode(&mut body, version).ok());
                let partitions = answer.iter().flat_map(|answer| &answer.responses).flat_map(|topic| {
                    topic.partition_responses.iter().map(|answer| {
                        (
                            answer.index,
                            if answer.error_code == 0 { Ok(answer.base_offset) } else { Err(answer.error_code) },
                        )
                    })
                });
                // In the order of the request.
                let answers = sent.iter().zip(partitions);
                let answers = answers.map(|(sent, (index, told))| (sent.batch.partition == index).then_some(told));
                shared.history.note_answers(first, answers.collect());
            }
            // Whether or not the client hears of it, it was stored.
            Self::Commit(commits) => {
                for commit in commits {
                    let state = shared.state();
                    let stored = state.groups.get(&commit.group).and_then(|group| {
                        group.offsets.get(&commit.topic)?.get(&commit.partition).map(|stored| stored.offset)
                    });
                    let end = state.partition(&commit.topic, commit.partition).map(|partition| partition.log.end());
                    drop(state);
                    if let (Some(log_end), true) = (end, stored == Some(commit.offset)) {
                        shared.history.note_commit(SeenCommit { log_end, ..commit });
                    }
                }
            }
        }
    }

    /// Notes whether more batches of a producer's partition are on the way, this one included, than a broker remembers:
    /// `ahead` is what the client has sent after this request.
    pub(super) fn check_in_flight(&self, shared: &Shared, place: Place, ahead: &[u8]) -> bool {
        let Self::Produce(sent, _) = self else { return false };
        let waiting = frame::whole_frames(ahead).filter_map(|body| {
            let mut received = Received::parse(Bytes::copy_from_slice(body)).ok()?;
            let request = (received.api == Api::Produce).then(|| received.decode::<ProduceRequest>().ok())??;
            Some(batches(shared, place, received.version, request))
        });
        let mut in_flight: HashMap<_, Vec<SeenBatch>> = HashMap::new();
        for sent in sent.iter().cloned().chain(waiting.flatten()).filter(|sent| sent.batch.producer_id >= 0) {
            let key = (sent.batch.topic.clone(), sent.batch.partition, sent.batch.producer_id);
            in_flight.entry(key).or_default().push(sent.batch);
        }
        let mut found = false;
        for ((topic, partition, producer_id), batches) in in_flight {
            if batches.len() > IN_FLIGHT {
                found = true;
                let count = batches.len();
                let message = format!("producer {producer_id} has {count} batches in flight to {topic}-{partition}");
                let events = batches.into_iter().map(Event::Batch).collect();
                shared.history.note_violation(Violation { kind: ViolationKind::TooManyInFlight, message, events });
            }
        }
        found
    }
}

fn batches(shared: &Shared, place: Place, version: i16, request: ProduceRequest) -> Vec<Sent> {
    let acks = request.acks;
    let mut sent = Vec::new();
    for topic in request.topic_data {
        let state = shared.state();
        let by_id = TopicId::from_wire(topic.topic_id);
        let name =
            if version >= BY_TOPIC_ID { state.name_of(by_id).unwrap_or_default() } else { &topic.name }.to_owned();
        let known = state.topic(&name);
        let topic_id = known.map_or(by_id, |topic| topic.id);
        let epoch = |index| known.and_then(|topic| Some(topic.partition(index)?.leader_epoch)).unwrap_or(-1);
        let partitions: Vec<_> =
            topic.partition_data.into_iter().map(|data| (data.index, epoch(data.index), data.records)).collect();
        drop(state);
        sent.extend(partitions.into_iter().map(|(partition, leader_epoch, records)| {
            let records = records.unwrap_or_default();
            let header = Header::parse(&records).unwrap_or_default();
            Sent {
                topic_id,
                leader_epoch,
                records_crc: records.get(HEADER..).map_or(0, crc32c::crc32c),
                batch: SeenBatch {
                    at: place.at,
                    broker: place.broker,
                    connection: place.connection,
                    topic: name.clone(),
                    partition,
                    producer_id: header.producer_id,
                    producer_epoch: header.producer_epoch,
                    base_sequence: header.base_sequence,
                    records: header.count,
                    acks,
                    answer: None,
                },
            }
        }));
    }
    sent
}

/// What the checks want to know of a batch, whether or not a broker would take it.
struct Header {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
}

impl Default for Header {
    fn default() -> Self {
        Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, count: 0 }
    }
}

impl Header {
    /// The last 18 bytes of a batch's header; see `batch.rs`.
    fn parse(batch: &[u8]) -> Option<Self> {
        let mut fields = batch.get(HEADER - 18..HEADER)?;
        Some(Self {
            producer_id: fields.get_i64(),
            producer_epoch: fields.get_i16(),
            base_sequence: fields.get_i32(),
            count: fields.get_i32(),
        })
    }
}
