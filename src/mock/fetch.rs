//! Fetch: how records get out of the log, now or when there are enough of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use kafka_protocol::protocol::StrBytes;

use super::api::KafkaRelease;
use super::assembly::assemble;
use super::broker::{Call, Handle, Handled};
use super::fault::Target;
use super::log::Aborted;
use super::partition::Partition;
use super::quotas::Measured;
use super::session::{Ask, Found, Relation, TopicKey, Wanted};
use super::state::State;
use super::topic::TopicId;

/// The first version that names topics by id.
const BY_TOPIC_ID: i16 = 13;
/// The first version in which followers may answer (KIP-392).
const FROM_FOLLOWERS: i16 = 11;
/// The first version with sessions.
const SESSIONS: i16 = 7;
/// The first version whose answers name the new leader (KIP-951).
const LEADER_HINTS: i16 = 16;
const READ_COMMITTED: i8 = 1;
/// Errors that are about a session, and so about the whole fetch.
const SESSION_ERRORS: [i16; 3] = [
    ResponseError::FetchSessionIdNotFound.code(),
    ResponseError::InvalidFetchSessionEpoch.code(),
    ResponseError::FetchSessionTopicIdError.code(),
];
/// A broker's own limit, `fetch.max.bytes`.
const LARGEST_FETCH: usize = 55 << 20;

impl Handle for FetchRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let state = call.state();
        let remembered = state.sessions.get(&call.broker).into_iter().flat_map(|all| all.wanted(self.session_id));
        let remembered = remembered.map(|(topic, partition)| (topic.clone(), partition));
        let asked = self.topics.iter().flat_map(|topic| {
            let key = topic_key(call.version, &topic.topic, topic.topic_id);
            topic.partitions.iter().map(move |partition| (key.clone(), partition.partition))
        });
        let named = remembered.chain(asked).filter_map(|(topic, partition)| {
            Some(Target { topic: state.name_of_key(&topic)?.to_owned(), partition: Some(partition) })
        });
        named.collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let limits = Limits {
            min_bytes: usize::try_from(self.min_bytes).unwrap_or(0),
            max_bytes: usize::try_from(self.max_bytes).unwrap_or(0).min(LARGEST_FETCH),
            read_committed: self.isolation_level == READ_COMMITTED,
            rack: self.rack_id.to_string(),
        };
        let ask = Ask { id: self.session_id, epoch: self.session_epoch, by_topic_id: call.version >= BY_TOPIC_ID };
        let max_wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let injected = call.effects.error().filter(|code| SESSION_ERRORS.contains(code) && call.version >= SESSIONS);
        let opened = match injected {
            Some(error) => Err(error),
            None => open(call, ask, self).map_err(|error| error.code()),
        };
        let (relation, wanted) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let response = FetchResponse::default()
                    .with_throttle_time_ms(call.throttle_ms())
                    .with_error_code(error)
                    .with_session_id(0);
                return call.answer(&response);
            }
        };
        if call.throttle(Measured::Fetched) {
            let session = if let Relation::Incremental { id } = relation { id } else { 0 };
            let response = FetchResponse::default().with_session_id(session);
            return call.answer(&response.with_throttle_time_ms(call.throttle_ms()));
        }
        let runtime = &call.shared.runtime;
        let deadline = runtime.elapsed().saturating_add(max_wait);
        let reads = loop {
            let (reads, enough) = read_all(call, &wanted, &limits);
            let left = deadline.saturating_sub(runtime.elapsed());
            if enough || left.is_zero() {
                break reads;
            }
            runtime.wait_until(deadline, call.waker.notified()).await;
        };
        call.charge(Measured::Fetched, reads.iter().map(|read| read.size).sum());
        respond(call, relation, ask, limits.read_committed, wanted, reads)
    }
}

struct Limits {
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    /// Where the consumer is; empty: nowhere.
    rack: String,
}

fn topic_key(version: i16, name: &str, id: impl AsRef<[u8]>) -> TopicKey {
    if version >= BY_TOPIC_ID { TopicKey::Id(TopicId::from_wire(id)) } else { TopicKey::Name(Arc::from(name)) }
}

/// Everything the request wants, with what its session remembers.
fn open(call: &Call<'_>, ask: Ask, request: FetchRequest) -> Result<(Relation, Vec<Wanted>), ResponseError> {
    let version = call.version;
    let mut wanted = Vec::new();
    for topic in request.topics {
        let key = topic_key(version, &topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.into_iter().map(|partition| Wanted {
            topic: key.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(|topic| {
        let key = topic_key(version, &topic.topic, topic.topic_id);
        topic.partitions.into_iter().map(move |partition| (key.clone(), partition))
    });
    let mut state = call.state();
    match state.sessions.get_mut(&call.broker) {
        Some(sessions) => sessions.open(ask, wanted, forgotten.collect()),
        None => Ok((Relation::Sessionless, wanted)),
    }
}

/// What a read of one partition gave.
#[derive(Default)]
struct Read {
    error: i16,
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    /// Transactions to leave out, for readers of committed records.
    aborted: Option<Vec<Aborted>>,
    diverging: Option<(i32, i64)>,
    /// There is no such partition.
    unknown: bool,
    /// The replica that the consumer should ask instead.
    preferred: Option<i32>,
    /// Leader and epoch, for a client that asked the wrong broker.
    leader: Option<(i32, i32)>,
    segments: Vec<Bytes>,
    size: usize,
}

impl Read {
    fn failed(error: i16) -> Self {
        Self { error, high_watermark: -1, last_stable: -1, log_start: -1, ..Self::default() }
    }

    fn found(&self) -> Found {
        Found {
            high_watermark: self.high_watermark,
            log_start: self.log_start,
            has_records: self.size > 0,
            failed: self.error != 0,
            diverged: self.diverging.is_some() || self.preferred.is_some(),
        }
    }
}

/// Reads every partition. If that is not enough to answer, the connection is woken by the next change.
fn read_all(call: &Call<'_>, wanted: &[Wanted], limits: &Limits) -> (Vec<Read>, bool) {
    let mut state = call.state();
    state.expire_transactions(call.shared.runtime.elapsed(), call.shared.runtime.wall_ms());
    let mut left = limits.max_bytes;
    let mut bytes = 0;
    let mut reads = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let read = read(call, &state, wanted, limits, left, bytes == 0);
        left = left.saturating_sub(read.size);
        bytes += read.size;
        reads.push(read);
    }
    let urgent = reads.iter().any(|read| read.error != 0 || read.diverging.is_some() || read.preferred.is_some());
    let enough = urgent || wanted.is_empty() || bytes >= limits.min_bytes.min(limits.max_bytes);
    if !enough {
        for wanted in wanted {
            if let Some(partition) = state.partition_of_key(&wanted.topic, wanted.partition) {
                partition.wait(call.waker);
            }
        }
    }
    (reads, enough)
}

fn read(call: &Call<'_>, state: &State, wanted: &Wanted, limits: &Limits, left: usize, first: bool) -> Read {
    let Some(topic) = state.name_of_key(&wanted.topic) else {
        return Read { unknown: true, ..Read::failed(ResponseError::UnknownTopicId.code()) };
    };
    if let Some(error) = call.effects.error_for(topic, Some(wanted.partition)) {
        return Read::failed(error);
    }
    let Some(partition) = state.partition(topic, wanted.partition) else {
        return Read { unknown: true, ..Read::failed(ResponseError::UnknownTopicOrPartition.code()) };
    };
    let may_follow = call.version >= FROM_FOLLOWERS && partition.replicas.contains(&call.broker);
    let allowed = if may_follow && partition.leader.is_some() {
        partition.check_epoch(wanted.leader_epoch)
    } else {
        partition.check_leader(call.broker, wanted.leader_epoch)
    };
    if let Err(error) = allowed {
        let leader = partition.leader.map(|leader| (leader, partition.leader_epoch));
        return Read { leader, ..Read::failed(error.code()) };
    }
    let log = &partition.log;
    if let Some(preferred) = nearer(call, state, partition, wanted.offset, &limits.rack) {
        let (high_watermark, last_stable) = (partition.high_watermark(), partition.last_stable_offset());
        let preferred = Some(preferred);
        return Read { high_watermark, last_stable, log_start: log.start(), preferred, ..Read::default() };
    }
    // A follower that lags behind knows of no more than it has.
    let own_end = partition.end_at(call.broker);
    let high_watermark = partition.high_watermark().min(own_end);
    let last_stable = partition.last_stable_offset().min(own_end);
    if wanted.last_fetched_epoch >= 0 {
        match log.end_of_epoch(wanted.last_fetched_epoch) {
            None => return Read::failed(ResponseError::OffsetOutOfRange.code()),
            Some((epoch, end)) if epoch < wanted.last_fetched_epoch || end < wanted.offset => {
                let diverging = Some((epoch, end));
                return Read { high_watermark, last_stable, log_start: log.start(), diverging, ..Read::default() };
            }
            Some(_) => {}
        }
    }
    if !(log.start()..=own_end).contains(&wanted.offset) {
        return Read::failed(ResponseError::OffsetOutOfRange.code());
    }
    let end = if limits.read_committed { last_stable } else { high_watermark };
    let segments = log.read(wanted.offset, end, wanted.max_bytes.min(left), first);
    let size = segments.iter().map(Bytes::len).sum();
    let aborted = limits.read_committed.then(|| log.aborted(wanted.offset, log.end_of_read(wanted.offset, end, size)));
    Read { high_watermark, last_stable, log_start: log.start(), segments, size, aborted, ..Read::default() }
}

/// Which replica in its own rack a consumer should ask, if it asks a leader that is elsewhere (KIP-392, Kafka's
/// `RackAwareReplicaSelector`): one that lives and has the offset, of several the one that has most.
fn nearer(call: &Call<'_>, state: &State, partition: &Partition, offset: i64, rack: &str) -> Option<i32> {
    let is_near = |broker: &i32| call.shared.rack(*broker) == Some(rack);
    if call.version < FROM_FOLLOWERS || partition.leader != Some(call.broker) || is_near(&call.broker) {
        return None;
    }
    let live: BTreeSet<i32> = state.live().collect();
    let replicas = partition.replicas.iter().copied().filter(|broker| live.contains(broker) && is_near(broker));
    let able = replicas.filter(|broker| (partition.log.start()..=partition.end_at(*broker)).contains(&offset));
    able.max_by_key(|broker| (partition.end_at(*broker), std::cmp::Reverse(*broker)))
}

/// Puts the answer together: everything, or for an incremental fetch what changed.
fn respond(
    call: &Call<'_>,
    relation: Relation,
    ask: Ask,
    read_committed: bool,
    wanted: Vec<Wanted>,
    reads: Vec<Read>,
) -> Handled {
    let (session_id, answered) = settle(call, relation, ask, wanted, reads);
    let with_hints = call.version >= LEADER_HINTS;
    // Newer brokers then give a list of no aborted transactions, whatever the isolation.
    let lists_for_unknown = call.shared.release >= KafkaRelease::V3_9;
    let (mut topics, mut records) = (Vec::<(TopicKey, FetchableTopicResponse)>::new(), Vec::new());
    let mut new_leaders = BTreeSet::new();
    for (wanted, read) in answered {
        let none_needed = read.unknown && lists_for_unknown || read_committed && read.error == 0;
        let aborted = read.aborted.map(|aborted| aborted.into_iter().map(aborted_transaction).collect());
        let mut data = PartitionData::default()
            .with_partition_index(wanted.partition)
            .with_error_code(read.error)
            .with_high_watermark(read.high_watermark)
            .with_last_stable_offset(read.last_stable)
            .with_log_start_offset(read.log_start)
            .with_aborted_transactions(aborted.or_else(|| none_needed.then(Vec::new)));
        if let Some((epoch, end_offset)) = read.diverging {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
        }
        if let Some(preferred) = read.preferred {
            data.preferred_read_replica = preferred.into();
        }
        if let Some((leader, epoch)) = read.leader.filter(|_| with_hints) {
            new_leaders.insert(leader);
            data.current_leader = LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(epoch);
        }
        if topics.last().is_none_or(|(topic, _)| *topic != wanted.topic) {
            let mut topic = FetchableTopicResponse::default();
            match &wanted.topic {
                TopicKey::Name(name) => topic.topic = StrBytes::from(name.to_string()).into(),
                TopicKey::Id(id) => topic.topic_id = id.to_wire(),
            }
            topics.push((wanted.topic, topic));
        }
        if let Some((_, topic)) = topics.last_mut() {
            topic.partitions.push(data);
            records.push(read.segments);
        }
    }
    let node_endpoints = new_leaders.into_iter().map(|id: i32| {
        let (host, port) = call.address(id);
        NodeEndpoint::default().with_node_id(id.into()).with_host(host).with_port(port).with_rack(call.rack(id))
    });
    let response = FetchResponse::default()
        .with_throttle_time_ms(call.throttle_ms())
        .with_session_id(session_id)
        .with_responses(topics.into_iter().map(|(_, topic)| topic).collect())
        .with_node_endpoints(node_endpoints.collect());
    Handled::Answer(assemble(response, records, call.version))
}

fn aborted_transaction(aborted: Aborted) -> AbortedTransaction {
    AbortedTransaction::default().with_producer_id(aborted.producer_id.into()).with_first_offset(aborted.first_offset)
}

/// Tells the session what was found. Gives its id, and what the answer mentions.
fn settle(
    call: &Call<'_>,
    relation: Relation,
    ask: Ask,
    wanted: Vec<Wanted>,
    reads: Vec<Read>,
) -> (i32, Vec<(Wanted, Read)>) {
    let mut answered: Vec<_> = wanted.into_iter().zip(reads).collect();
    let mut state = call.state();
    let sessions = state.sessions.get_mut(&call.broker);
    let (Some(sessions), true) = (sessions, call.version >= SESSIONS) else { return (0, answered) };
    match relation {
        Relation::Sessionless => (0, answered),
        Relation::First => {
            let found = answered.iter().map(|(wanted, read)| (wanted.clone(), read.found())).collect();
            (sessions.begin(ask.by_topic_id, found), answered)
        }
        Relation::Incremental { id } => {
            answered.retain(|(wanted, read)| sessions.answer(id, wanted, read.found()));
            (id, answered)
        }
    }
}
