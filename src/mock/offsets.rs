//! FindCoordinator, OffsetCommit and OffsetFetch: where groups keep their offsets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::api::{Api, KafkaRelease};
use super::broker::{Call, Handle, Handled};
use super::by_topic_id::{answer, id_of_name, is_by_topic_id, name_of_id};
use super::fault::Target;
use super::group::{Caller, Classic, Consumer, Partition};
use super::state::State;
use super::topic::TopicId;

/// A broker's `offset.metadata.max.bytes`.
const LARGEST_METADATA: usize = 4096;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version of FindCoordinator that asks for many keys at once, and of OffsetFetch for many groups.
const BATCHED_COORDINATORS: i16 = 4;
const BATCHED_FETCHES: i16 = 8;

/// A group: its members, and what it has committed, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) classic: Classic,
    /// The members under KIP-848, if that is the group's protocol.
    pub(super) consumer: Option<Consumer>,
    /// The broker that coordinates it; none if all that could are down.
    pub(super) home: Option<i32>,
    /// Wakes the requests that wait for other members.
    pub(super) changed: Arc<Notify>,
    pub(super) offsets: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// What open transactions are going to commit, by producer id.
    pub(super) pending: BTreeMap<i64, Vec<(String, i32, Committed)>>,
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Committed {
    pub(super) offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
}

impl Group {
    /// A group that nobody ever joined is there as long as it has offsets.
    pub(super) fn exists(&self) -> bool {
        let has_offsets = !self.offsets.is_empty() || !self.pending.is_empty();
        has_offsets || self.consumer.is_some() || !self.classic.protocol_type().is_empty()
    }

    /// Nothing of it is left.
    pub(super) fn forget(&mut self) {
        self.classic.forget();
        self.consumer = None;
        self.offsets.clear();
        self.pending.clear();
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        self.state() == "Empty"
    }

    /// Kafka's name of the state.
    pub(super) fn state(&self) -> &'static str {
        self.consumer.as_ref().map_or_else(|| self.classic.state(), Consumer::state)
    }

    /// Whether a member subscribes to a topic.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.consumer.as_ref().map_or_else(|| self.classic.is_subscribed(topic), |members| members.is_subscribed(topic))
    }

    /// What was due by now happens.
    pub(super) fn pass_time(&mut self, now: Duration) {
        if let Some(consumer) = &mut self.consumer {
            consumer.pass_time(now);
        }
        self.classic.pass_time(now);
        self.changed.notify_waiters();
    }

    /// Another broker is its coordinator now, or the same one anew.
    pub(super) fn move_coordinator(&mut self) {
        self.classic.move_coordinator();
        if let Some(consumer) = &mut self.consumer {
            consumer.move_coordinator();
        }
        self.changed.notify_waiters();
    }

    pub(super) fn forget_topic(&mut self, topic: &str) {
        self.offsets.remove(topic);
        self.pending.values_mut().for_each(|pending| pending.retain(|(name, ..)| name != topic));
    }

    pub(super) fn forget_offset(&mut self, topic: &str, index: i32) {
        if let Some(offsets) = self.offsets.get_mut(topic) {
            offsets.remove(&index);
            if offsets.is_empty() {
                self.offsets.remove(topic);
            }
        }
        let is_it = |(name, partition, _): &(String, i32, Committed)| name == topic && *partition == index;
        self.pending.values_mut().for_each(|pending| pending.retain(|offset| !is_it(offset)));
    }

    /// The transaction of a producer has ended: its offsets count, or are forgotten.
    pub(super) fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        for (topic, index, offset) in pending.into_iter().filter(|_| commit) {
            self.offsets.entry(topic).or_default().insert(index, offset);
        }
    }

    /// Whether an open transaction is going to commit an offset for this partition.
    fn is_unstable(&self, topic: &str, index: i32) -> bool {
        self.pending.values().flatten().any(|(name, partition, _)| name == topic && *partition == index)
    }
}

impl Handle for FindCoordinatorRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = FindCoordinatorResponse::default().with_throttle_time_ms(call.throttle_ms());
        let find = |group: &StrBytes| {
            // Share groups have no coordinator yet.
            let known = if matches!(self.key_type, GROUP | TRANSACTION) {
                Ok(())
            } else {
                Err(ResponseError::InvalidRequest.code())
            };
            let injected = call.effects.error().map_or(Ok(()), Err);
            let found = injected.and(known).and_then(|()| {
                call.state().coordinator(group).ok_or_else(|| ResponseError::CoordinatorNotAvailable.code())
            });
            match found {
                Ok(id) => (0, id, call.address(id)),
                Err(error) => (error, -1, (StrBytes::default(), -1)),
            }
        };
        if call.version < BATCHED_COORDINATORS {
            let (error, id, (host, port)) = find(&self.key);
            return call.answer(
                &response
                    .with_error_code(error)
                    .with_error_message(None)
                    .with_node_id(id.into())
                    .with_host(host)
                    .with_port(port),
            );
        }
        let coordinators = self.coordinator_keys.iter().map(|key| {
            let (error, id, (host, port)) = find(key);
            Coordinator::default()
                .with_key(key.clone())
                .with_error_code(error)
                .with_error_message(None)
                .with_node_id(id.into())
                .with_host(host)
                .with_port(port)
        });
        call.answer(&response.with_coordinators(coordinators.collect()))
    }
}

/// Whether this broker coordinates the group, or the transactional id.
pub(super) fn check_coordinator(call: &Call<'_>, group: &str) -> Result<(), i16> {
    let coordinator = call.state().coordinator(group);
    if coordinator == Some(call.broker) { Ok(()) } else { Err(ResponseError::NotCoordinator.code()) }
}

impl Handle for OffsetCommitRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let topics = self.topics.iter().filter_map(|topic| Some((meant(call, Api::OffsetCommit, &topic.name)?, topic)));
        let partitions = topics.flat_map(|(name, topic)| {
            topic.partitions.iter().map(move |partition| (name.clone(), partition.partition_index))
        });
        partitions.map(|(topic, index)| Target { topic, partition: Some(index) }).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let group_id = self.group_id.to_string();
        let allowed = check_coordinator(call, &group_id).and_then(|()| {
            let caller = Caller {
                member_id: &self.member_id,
                instance: self.group_instance_id.as_deref(),
                generation: self.generation_id_or_member_epoch,
            };
            let partitions = self.topics.iter().filter_map(|topic| {
                let name = meant(call, Api::OffsetCommit, &topic.name)?;
                Some((name, topic.partitions.iter().map(|partition| partition.partition_index).collect()))
            });
            may_commit(call, &group_id, caller, partitions.collect(), false)
        });
        let topics = self.topics.into_iter().map(|topic| {
            let name = meant(call, Api::OffsetCommit, &topic.name);
            let partitions = topic.partitions.into_iter().map(|partition| {
                let index = partition.partition_index;
                let injected = call.effects.error_for(name.as_deref().unwrap_or_default(), Some(index));
                let injected = injected.map_or(Ok(()), Err);
                let stored = injected.and_then(|()| {
                    let name = name.as_ref().ok_or_else(|| ResponseError::UnknownTopicId.code())?;
                    // What is not there is left out before the group is asked.
                    if call.state().partition(name, index).is_none() {
                        return Err(ResponseError::UnknownTopicOrPartition.code());
                    }
                    allowed.and_then(|()| store(call, &group_id, name, partition))
                });
                OffsetCommitResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(stored.err().unwrap_or_default())
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        let response = OffsetCommitResponse::default().with_topics(topics.collect());
        answer(call, Api::OffsetCommit, &response.with_throttle_time_ms(call.throttle_ms()))
    }
}

/// The first version of OffsetCommit, and of OffsetFetch, that members under KIP-848 may use.
const CONSUMER_COMMITS: i16 = 9;
const CONSUMER_FETCHES: i16 = 9;

/// Whether this caller may commit offsets of these partitions for the group now.
pub(super) fn may_commit(
    call: &Call<'_>,
    group: &str,
    caller: Caller<'_>,
    partitions: Vec<(String, Vec<i32>)>,
    in_transaction: bool,
) -> Result<(), i16> {
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let ids = |(name, indexes): &(String, Vec<i32>)| {
        let topic = state.topic(name)?;
        let known = indexes.iter().filter(|index| topic.partition(**index).is_some());
        Some(known.map(|index| (topic.id, *index)).collect::<Vec<Partition>>())
    };
    let ids: Vec<Partition> = partitions.iter().filter_map(ids).flatten().collect();
    let Some(group) = state.known_group(group) else {
        // Whoever has no generation commits for itself.
        let says_so = call.version >= CONSUMER_COMMITS && call.shared.release >= KafkaRelease::V4_0;
        return match caller.generation {
            ..0 => Ok(()),
            _ if says_so && !in_transaction => Err(ResponseError::GroupIdNotFound.code()),
            _ => Err(ResponseError::IllegalGeneration.code()),
        };
    };
    let Some(consumer) = &mut group.consumer else {
        let allowed = group.classic.may_commit(now, caller, in_transaction);
        group.changed.notify_waiters();
        return allowed.map_err(|error| error.code());
    };
    if !in_transaction && call.version < CONSUMER_COMMITS && consumer.has(now, caller.member_id) {
        return Err(ResponseError::UnsupportedVersion.code());
    }
    consumer.may_commit(now, caller, in_transaction, ids.into_iter()).map_err(|error| error.code())
}

/// Whether this caller may read the offsets of the group now. Of the classic protocol everybody may.
fn may_fetch(call: &Call<'_>, group: &str, member_id: Option<&str>, epoch: i32) -> Result<(), i16> {
    let now = call.shared.runtime.elapsed();
    let mut state = call.state();
    let consumer = state.known_group(group).and_then(|group| group.consumer.as_mut());
    let allowed = consumer.map_or(Ok(()), |consumer| consumer.may_fetch(now, member_id, epoch));
    allowed.map_err(|error| error.code())
}

/// The topic that a request means: by its name, or by its id, which may be none that is known.
fn meant(call: &Call<'_>, api: Api, name: &str) -> Option<String> {
    if !is_by_topic_id(api, call.version) {
        return Some(name.to_owned());
    }
    call.state().name_of(id_of_name(name)).map(str::to_owned)
}

fn store(call: &Call<'_>, group: &str, topic: &str, commit: OffsetCommitRequestPartition) -> Result<(), i16> {
    let mut state = call.state();
    let OffsetCommitRequestPartition { partition_index: index, committed_metadata: metadata, .. } = commit;
    let committed = committed(&state, topic, index, commit.committed_offset, commit.committed_leader_epoch, metadata)?;
    let offsets = &mut state.group(group).offsets;
    offsets.entry(topic.to_owned()).or_default().insert(index, committed);
    Ok(())
}

/// An offset that may be committed.
pub(super) fn committed(
    state: &State,
    topic: &str,
    index: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<StrBytes>,
) -> Result<Committed, i16> {
    if state.partition(topic, index).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition.code());
    }
    let metadata = metadata.unwrap_or_default();
    if metadata.len() > LARGEST_METADATA {
        return Err(ResponseError::OffsetMetadataTooLarge.code());
    }
    Ok(Committed { offset, leader_epoch, metadata })
}

/// A topic in an answer to OffsetFetch, whichever of the two layouts it has.
struct FetchedTopic {
    name: String,
    partitions: Vec<Fetched>,
}

/// A partition in an answer to OffsetFetch.
struct Fetched {
    index: i32,
    /// -1 if none was committed.
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    error: i16,
}

impl Fetched {
    fn new(index: i32, found: Result<Option<&Committed>, i16>) -> Self {
        let nothing = Self { index, offset: -1, leader_epoch: -1, metadata: StrBytes::default(), error: 0 };
        match found {
            Ok(Some(Committed { offset, leader_epoch, metadata })) => {
                Self { offset: *offset, leader_epoch: *leader_epoch, metadata: metadata.clone(), ..nothing }
            }
            Ok(None) => nothing,
            Err(error) => Self { error, ..nothing },
        }
    }
}

/// Topics and partitions as an OffsetFetch names them; `None` is all that have an offset.
type Asked = Option<Vec<(String, Vec<i32>)>>;

/// The offsets of a group.
fn load(call: &Call<'_>, group: &str, asked: Asked, require_stable: bool) -> Result<Vec<FetchedTopic>, i16> {
    if let Some(error) = call.effects.error() {
        return Err(error);
    }
    check_coordinator(call, group)?;
    let state = call.state();
    let by_id = is_by_topic_id(Api::OffsetFetch, call.version);
    let group = state.groups.get(group);
    let stored = group.map(|group| &group.offsets);
    let asked = asked.unwrap_or_else(|| {
        let topics = stored.into_iter().flatten();
        let wire = |topic: &String| {
            if by_id {
                name_of_id(state.topic(topic).map_or_else(TopicId::default, |topic| topic.id))
            } else {
                topic.clone()
            }
        };
        topics.map(|(topic, partitions)| (wire(topic), partitions.keys().copied().collect())).collect()
    });
    let topics = asked.into_iter().map(|(name, indexes)| {
        let known = if by_id { state.name_of(id_of_name(&name)).map(str::to_owned) } else { Some(name.clone()) };
        let stored = known.as_ref().and_then(|known| stored?.get(known));
        let partitions = indexes.into_iter().map(|index| {
            let Some(name) = &known else { return Fetched::new(index, Err(ResponseError::UnknownTopicId.code())) };
            let injected = call.effects.error_for(name, Some(index)).map_or(Ok(()), Err);
            let unstable = require_stable && group.is_some_and(|group| group.is_unstable(name, index));
            let stable = if unstable { Err(ResponseError::UnstableOffsetCommit.code()) } else { Ok(()) };
            Fetched::new(index, injected.and(stable).map(|()| stored.and_then(|stored| stored.get(&index))))
        });
        let partitions = partitions.collect();
        FetchedTopic { name, partitions }
    });
    Ok(topics.collect())
}

impl Handle for OffsetFetchRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let single = self.topics.iter().flatten().map(|topic| (topic.name.to_string(), &topic.partition_indexes));
        let grouped = self.groups.iter().flat_map(|group| group.topics.iter().flatten());
        let grouped =
            grouped.filter_map(|topic| Some((meant(call, Api::OffsetFetch, &topic.name)?, &topic.partition_indexes)));
        let partitions = single.chain(grouped).flat_map(|(topic, indexes)| {
            indexes.iter().map(move |index| Target { topic: topic.clone(), partition: Some(*index) })
        });
        partitions.collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let response = OffsetFetchResponse::default().with_throttle_time_ms(call.throttle_ms());
        if call.version >= BATCHED_FETCHES {
            let groups = self.groups.into_iter().map(|group| {
                let asked = group.topics.map(|topics| {
                    topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect()
                });
                let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                let newest = call.version >= CONSUMER_FETCHES;
                let (member_id, epoch) = (group.member_id.as_deref().filter(|_| newest), group.member_epoch);
                let allowed = may_fetch(call, &group.group_id, member_id, if newest { epoch } else { -1 });
                match allowed.and_then(|()| load(call, &group.group_id, asked, self.require_stable)) {
                    Ok(topics) => answer.with_topics(topics.into_iter().map(grouped_topic).collect()),
                    Err(error) => answer.with_error_code(error),
                }
            });
            return answer(call, Api::OffsetFetch, &response.with_groups(groups.collect()));
        }
        let asked: Asked = self
            .topics
            .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect());
        // Before version 2 an error has no place of its own, so it is said of every partition.
        let (error, topics) = match load(call, &self.group_id, asked.clone(), self.require_stable) {
            Ok(topics) => (0, topics),
            Err(error) if call.version >= 2 => (error, Vec::new()),
            Err(error) => {
                let failed = |(name, indexes): (String, Vec<i32>)| {
                    let partitions = indexes.into_iter().map(|index| Fetched::new(index, Err(error)));
                    FetchedTopic { name, partitions: partitions.collect() }
                };
                (0, asked.unwrap_or_default().into_iter().map(failed).collect())
            }
        };
        let topics = topics.into_iter().map(|topic| single_topic(topic, call.version)).collect();
        call.answer(&response.with_error_code(error).with_topics(topics))
    }
}

fn grouped_topic(topic: FetchedTopic) -> OffsetFetchResponseTopics {
    let partitions = topic.partitions.into_iter().map(|fetched| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(fetched.index)
            .with_committed_offset(fetched.offset)
            .with_committed_leader_epoch(fetched.leader_epoch)
            .with_metadata(Some(fetched.metadata))
            .with_error_code(fetched.error)
    });
    OffsetFetchResponseTopics::default()
        .with_name(StrBytes::from(topic.name).into())
        .with_partitions(partitions.collect())
}

fn single_topic(topic: FetchedTopic, version: i16) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|fetched| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(fetched.index)
            .with_committed_offset(fetched.offset)
            .with_committed_leader_epoch(if version >= 5 { fetched.leader_epoch } else { -1 })
            .with_metadata(Some(fetched.metadata))
            .with_error_code(fetched.error)
    });
    OffsetFetchResponseTopic::default()
        .with_name(StrBytes::from(topic.name).into())
        .with_partitions(partitions.collect())
}
