//! What the client knows of the cluster, when to ask again, and whom.
//!
//! Answers are merged, never believed blindly: leader epochs do not go back (rule 43), a partition that one answer
//! misses is kept (rule 14), an answer without brokers is none (rule 79). A question that stays open too long is put
//! to another broker as well, so that one hung broker never keeps the client ignorant; when every known broker failed,
//! the seeds are asked again (KIP-899).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::wire::cluster::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Uuid;

/// An immutable picture of the cluster. Readers share it; the next answer makes a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub id: Option<Arc<str>>,
    pub controller: Option<i32>,
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// How many answers have been merged into this picture.
    pub answers: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub host: Arc<str>,
    pub port: u16,
    pub rack: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: Arc<str>,
    /// Zero when the broker is too old to say.
    pub id: Uuid,
    pub is_internal: bool,
    /// Of the last answer; the partitions are those of the last answer without one.
    pub error: ErrorCode,
    /// By index, without gaps.
    pub partitions: Vec<Partition>,
    /// Refused in a row because a leader epoch went back.
    backward: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub leader: Option<i32>,
    /// -1 when the broker is too old to say.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
    pub error: ErrorCode,
}

impl Cluster {
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(&Broker, i32)> {
        let partition = self.topics.get(topic)?.partition(partition)?;
        Some((self.brokers.get(&partition.leader?)?, partition.leader_epoch))
    }
}

impl Topic {
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// Asked again at this age even when nothing seems wrong (metadata.max.age.ms).
    pub max_age: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// A question that is open for so long is put to another broker too.
    pub hedge_after: Duration,
    pub seeds: usize,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Broker(i32),
    /// An index into the bootstrap list.
    Seed(usize),
}

/// One question to one broker.
#[derive(Debug)]
pub struct Query {
    pub id: u64,
    pub target: Target,
    pub request: MetadataRequest,
}

#[derive(Debug)]
struct Open {
    id: u64,
    asked: Instant,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Metadata {
    config: Config,
    cluster: Arc<Cluster>,
    /// Topics that somebody uses, and whether the broker may create them.
    wanted: BTreeMap<Arc<str>, bool>,
    open: Vec<Open>,
    due: Instant,
    last_asked: Option<Instant>,
    next_id: u64,
    /// Counts questions, so that they go around.
    rotation: usize,
    /// Failures since the last answer; a whole round of them wakes the seeds.
    failures: usize,
    backoff: Backoff,
}

impl Metadata {
    /// `rotation` is random, so that many clients do not all ask the same broker first.
    pub fn new(now: Instant, config: Config, rotation: usize) -> Self {
        Self {
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            config,
            cluster: Arc::default(),
            wanted: BTreeMap::new(),
            open: Vec::new(),
            due: now,
            last_asked: None,
            next_id: 0,
            rotation: rotation % (usize::MAX / 2),
            failures: 0,
        }
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Keeps `topic` in the picture from now on, and asks for it at once if it is new or in trouble.
    pub fn want(&mut self, now: Instant, topic: &Arc<str>, auto_create: bool) {
        let is_new = match self.wanted.get_mut(topic) {
            Some(create) => {
                *create |= auto_create;
                false
            }
            None => {
                self.wanted.insert(Arc::clone(topic), auto_create);
                true
            }
        };
        if is_new {
            // An open question does not name the topic: its answer must not count as ours.
            self.open.clear();
            self.due = now;
        } else if !self.cluster.topics.get(topic).is_some_and(|topic| topic.error.is_ok()) {
            self.refresh(now);
        }
    }

    /// Something is stale: asks as soon as the last question is a back-off ago.
    pub fn refresh(&mut self, now: Instant) {
        let earliest = self.last_asked.map_or(now, |asked| asked + self.config.retry_backoff);
        self.due = self.due.min(earliest.max(now));
    }

    pub fn handle_answer(&mut self, now: Instant, id: u64, response: &MetadataResponse, random: u64) {
        // An answer to a question that named fewer topics is still news of those, but ends nothing.
        let was_open = self.open.iter().any(|open| open.id == id);
        if response.brokers.is_empty() || !response.error_code.is_ok() {
            return self.handle_failure(now, id, random);
        }
        self.merge(response);
        self.failures = 0;
        if !was_open {
            return;
        }
        self.open.clear();
        self.due = if self.is_troubled() {
            now + self.backoff.next_delay(random)
        } else {
            self.backoff.reset();
            now + self.config.max_age
        };
    }

    pub fn handle_failure(&mut self, now: Instant, id: u64, random: u64) {
        let open = self.open.len();
        self.open.retain(|open| open.id != id);
        if open == self.open.len() {
            return;
        }
        self.failures += 1;
        if self.open.is_empty() {
            // The rest of the round follows at once; a whole round of failures is followed by a pause.
            let round = self.candidates().len().max(1);
            self.due = match self.failures % round {
                0 => now + self.backoff.next_delay(random),
                _ => now,
            };
        }
    }

    /// The next question to ask, if one is due.
    pub fn poll_query(&mut self, now: Instant) -> Option<Query> {
        let candidates = self.candidates();
        let is_due = match self.open.as_slice() {
            [] => self.due <= now,
            [.., last] => last.asked + self.config.hedge_after <= now && self.open.len() < candidates.len().min(3),
        };
        if !is_due {
            return None;
        }
        let target = *candidates.get(self.rotation % candidates.len().max(1))?;
        self.rotation += 1;
        let id = self.next_id;
        self.next_id += 1;
        self.last_asked = Some(now);
        self.open.push(Open { id, asked: now });
        Some(Query { id, target, request: self.request() })
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.open.as_slice() {
            [] => Some(self.due),
            [.., last] if self.open.len() < self.candidates().len().min(3) => {
                Some(last.asked + self.config.hedge_after)
            }
            _ => None,
        }
    }

    /// Whether every broker that could be asked has failed since the last answer.
    pub fn is_lost(&self) -> bool {
        self.failures >= self.candidates().len().max(1)
    }

    /// Known brokers; all seeds while none is known, and again once a whole round of brokers failed.
    fn candidates(&self) -> Vec<Target> {
        let brokers = self.cluster.brokers.len();
        let mut candidates: Vec<_> = self.cluster.brokers.keys().map(|&id| Target::Broker(id)).collect();
        if self.failures >= brokers {
            candidates.extend((0..self.config.seeds).map(Target::Seed));
        }
        candidates
    }

    /// All wanted topics. The permission to create is the whole request's, so while one missing topic has it and another
    /// has not, they take turns.
    fn request(&self) -> MetadataRequest {
        let missing =
            |may_create| self.wanted.iter().any(|(name, create)| *create == may_create && !self.is_known(name));
        let create = missing(true) && (!missing(false) || self.next_id % 2 == 0);
        let named = self.wanted.iter().filter(|(name, may_create)| !create || **may_create || self.is_known(name));
        let topics = named.map(|(name, _)| MetadataRequestTopic { name: Some(Arc::clone(name)), ..Default::default() });
        MetadataRequest { topics: Some(topics.collect()), allow_auto_topic_creation: create, ..Default::default() }
    }

    fn is_known(&self, topic: &str) -> bool {
        self.cluster.topics.get(topic).is_some_and(|topic| !topic.partitions.is_empty())
    }

    /// Whether a wanted topic is missing, in error or without a leader: worth asking again soon.
    fn is_troubled(&self) -> bool {
        self.wanted.keys().any(|name| {
            self.cluster.topics.get(name).is_none_or(|topic| {
                topic.backward > 0
                    || (!topic.error.is_ok() && topic.error != ErrorCode::INVALID_TOPIC_EXCEPTION)
                    || topic.partitions.iter().any(|partition| partition.leader.is_none())
            })
        })
    }

    fn merge(&mut self, response: &MetadataResponse) {
        let old = &self.cluster;
        let brokers = response.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            let (id, host, rack) = (broker.node_id, Arc::clone(&broker.host), broker.rack.clone());
            Some((id, Broker { id, host, port, rack }))
        });
        let mut topics = old.topics.clone();
        for answer in &response.topics {
            let Some(name) = &answer.name else { continue };
            let topic = merge_topic(old.topics.get(name).map(Arc::as_ref), Arc::clone(name), answer);
            topics.insert(Arc::clone(name), Arc::new(topic));
        }
        self.cluster = Arc::new(Cluster {
            id: response.cluster_id.clone().or_else(|| old.id.clone()),
            controller: (response.controller_id >= 0).then_some(response.controller_id),
            brokers: brokers.collect(),
            topics,
            answers: old.answers + 1,
        });
    }
}

/// Accepted after so many repeats: a topic that was re-created on brokers too old for topic ids.
const BACKWARD_LIMIT: u8 = 5;

fn merge_topic(old: Option<&Topic>, name: Arc<str>, answer: &MetadataResponseTopic) -> Topic {
    let id = answer.topic_id;
    // A new incarnation starts from nothing: its epochs have no relation to the old ones.
    let old = old.filter(|old| id.is_zero() || old.id.is_zero() || old.id == id);
    let kept = |error, backward| Topic {
        name: Arc::clone(&name),
        id: old.map_or(id, |old| old.id),
        is_internal: answer.is_internal,
        error,
        partitions: old.map(|old| old.partitions.clone()).unwrap_or_default(),
        backward,
    };
    if !answer.error_code.is_ok() {
        return kept(answer.error_code, 0);
    }
    let Some(mut partitions) = in_order(&answer.partitions) else {
        return kept(ErrorCode::LEADER_NOT_AVAILABLE, 0);
    };
    let mut backward = 0;
    if let Some(old) = old {
        let goes_back = |(new, old): (&Partition, &Partition)| new.leader_epoch < old.leader_epoch;
        if partitions.iter().zip(&old.partitions).any(goes_back) {
            backward = old.backward + 1;
        }
        if backward < BACKWARD_LIMIT {
            for (new, old) in partitions.iter_mut().zip(&old.partitions) {
                if new.leader_epoch < old.leader_epoch {
                    new.clone_from(old);
                }
            }
        } else {
            backward = 0;
        }
        // Partitions are never removed from a topic: an answer with fewer is a lagging broker's.
        partitions.extend(old.partitions.iter().skip(partitions.len()).cloned());
    }
    Topic { name, id, is_internal: answer.is_internal, error: ErrorCode::NONE, partitions, backward }
}

/// Partitions by index, if the indexes are 0 to n-1, once each; anything else is no picture of a topic.
fn in_order(answer: &[MetadataResponsePartition]) -> Option<Vec<Partition>> {
    let mut sorted: Vec<_> = answer.iter().collect();
    sorted.sort_by_key(|partition| partition.partition_index);
    let is_whole = (0..).zip(&sorted).all(|(index, partition)| partition.partition_index == index);
    (is_whole && !sorted.is_empty()).then(|| {
        let partition = |p: &&MetadataResponsePartition| Partition {
            leader: (p.leader_id >= 0).then_some(p.leader_id),
            leader_epoch: p.leader_epoch,
            replicas: p.replica_nodes.clone(),
            isr: p.isr_nodes.clone(),
            offline: p.offline_replicas.clone(),
            error: p.error_code,
        };
        sorted.iter().map(partition).collect()
    })
}
