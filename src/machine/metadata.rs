//! What the client knows of the cluster, when to ask again, and whom.
//!
//! Answers are merged, never believed blindly: leader epochs do not go back (rule 43), a partition that one answer
//! misses is kept (rule 14), an answer without brokers is none (rule 79). A question that stays open too long is put
//! to another broker as well, so that one hung broker never keeps the client ignorant; when every known broker failed,
//! the seeds are asked again (KIP-899).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accumulator::Hint;
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
    /// Whether it names all that is wanted: the answer to another one is news, but ends nothing.
    is_whole: bool,
}

#[derive(Debug)]
struct Wanted {
    /// Whether the broker may create it.
    may_create: bool,
    /// Forgotten then, unless it is in use by that time.
    until: Option<Instant>,
    /// Those who use it until they say otherwise.
    holders: usize,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Metadata {
    config: Config,
    cluster: Arc<Cluster>,
    /// Topics that somebody uses or looks for.
    wanted: BTreeMap<Arc<str>, Wanted>,
    open: Vec<Open>,
    due: Instant,
    /// A topic became wanted that no open question names.
    is_urgent: bool,
    /// A broker that is asked last, until an answer comes.
    avoided: Option<i32>,
    last_asked: Option<Instant>,
    /// The end of the pause after a whole round of failures; nothing is asked before.
    paused_until: Option<Instant>,
    next_id: u64,
    /// Whether the last question was one that permits the broker to create topics.
    was_creating: bool,
    /// Where a round begins; goes on with each answer.
    rotation: usize,
    /// Questions since the last answer or pause.
    asked: usize,
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
            is_urgent: false,
            avoided: None,
            last_asked: None,
            paused_until: None,
            next_id: 0,
            was_creating: false,
            rotation: rotation % (usize::MAX / 2),
            asked: 0,
            failures: 0,
        }
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Keeps `topic` in the picture from now on, and asks for it at once if it is new or in trouble.
    pub fn want(&mut self, now: Instant, topic: &Arc<str>, auto_create: bool) {
        self.want_until(now, topic, auto_create, None);
    }

    /// The same for whoever only looks whether it is there: a misspelt name is not asked for ever after. The topic is
    /// forgotten [`LOOKED_FOR`] later, or at `deadline` if that is later still, unless somebody wants it again.
    pub fn look_for(&mut self, now: Instant, topic: &Arc<str>, auto_create: bool, deadline: Option<Instant>) {
        let until = deadline.unwrap_or(now).max(now + LOOKED_FOR);
        self.want_until(now, topic, auto_create, Some(until));
    }

    /// Keeps `topic` in the picture until it was [released](Self::release) as often as it was held.
    pub fn hold(&mut self, now: Instant, topic: &Arc<str>, may_create: bool) {
        self.want_until(now, topic, may_create, Some(now));
        if let Some(wanted) = self.wanted.get_mut(topic) {
            wanted.holders += 1;
        }
    }

    pub fn release(&mut self, topic: &str) {
        if let Some(wanted) = self.wanted.get_mut(topic) {
            wanted.holders = wanted.holders.saturating_sub(1);
        }
    }

    fn want_until(&mut self, now: Instant, topic: &Arc<str>, may_create: bool, until: Option<Instant>) {
        let is_new = match self.wanted.get_mut(topic) {
            Some(wanted) => {
                wanted.may_create |= may_create;
                wanted.until = wanted.until.zip(until).map(|(one, other)| one.max(other));
                false
            }
            None => {
                self.wanted.insert(Arc::clone(topic), Wanted { may_create, until, holders: 0 });
                true
            }
        };
        if is_new {
            self.open.iter_mut().for_each(|open| open.is_whole = false);
            self.is_urgent = true;
            self.due = self.not_paused(now);
        } else if !self.cluster.topics.get(topic).is_some_and(|topic| topic.error.is_ok()) {
            self.refresh(now);
        }
    }

    /// Something is stale: asks as soon as the last question is a back-off ago, and no pause in an outage is under way.
    pub fn refresh(&mut self, now: Instant) {
        self.due = self.due.min(self.earliest(now, self.config.retry_backoff));
    }

    /// The same in half the time, and at another broker than this one: it may hang, and a question that is open there with
    /// it. Whoever says so paces itself, and waits for a leader that is elected at any moment.
    pub fn refresh_elsewhere(&mut self, now: Instant, than: i32) {
        self.avoided = Some(than);
        let earliest = self.earliest(now, self.config.retry_backoff / 2);
        self.due = self.due.min(earliest);
        if !self.open.is_empty() {
            self.due = earliest;
            self.is_urgent = true;
        }
    }

    /// When the last question is so old, and no pause in an outage is under way.
    fn earliest(&self, now: Instant, gap: Duration) -> Instant {
        self.not_paused(self.last_asked.map_or(now, |asked| (asked + gap).max(now)))
    }

    pub fn handle_answer(&mut self, now: Instant, id: u64, response: &MetadataResponse, random: u64) {
        let open = self.open.iter().position(|open| open.id == id);
        if response.brokers.is_empty() || !response.error_code.is_ok() {
            return self.handle_failure(now, id, random);
        }
        self.wanted.retain(|_, wanted| wanted.holders > 0 || wanted.until.is_none_or(|until| until > now));
        self.merge(response);
        (self.failures, self.asked, self.paused_until, self.avoided) = (0, 0, None, None);
        self.rotation += 1;
        let Some(open) = open else { return };
        if !self.open[open].is_whole {
            self.open.remove(open);
            self.due = now;
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

    /// A leader that another broker named, with where it is: adds or replaces that broker and that leader alone
    /// (rule 78). Whether it was news.
    pub fn handle_hint(&mut self, hint: &Hint) -> bool {
        let Hint { topic, topic_id, partition, leader, leader_epoch, endpoint } = hint;
        let Some(known) = self.cluster.topics.get(topic) else { return false };
        let Some(now) = known.partition(*partition) else { return false };
        let is_same_topic = topic_id.is_zero() || known.id.is_zero() || *topic_id == known.id;
        if !is_same_topic || *leader_epoch <= now.leader_epoch {
            return false;
        }
        let named = endpoint.as_ref().and_then(|endpoint| {
            let (host, port) = (Arc::clone(&endpoint.host), u16::try_from(endpoint.port).ok()?);
            Some(Broker { id: endpoint.node_id, host, port, rack: endpoint.rack.clone() })
        });
        let mut cluster = Cluster::clone(&self.cluster);
        if let Some(broker) = named.filter(|broker| !broker.host.is_empty()) {
            cluster.brokers.insert(broker.id, broker);
        }
        if !cluster.brokers.contains_key(leader) {
            return false;
        }
        if let Some(topic) = cluster.topics.get_mut(topic)
            && let Some(partition) =
                usize::try_from(*partition).ok().and_then(|at| Arc::make_mut(topic).partitions.get_mut(at))
        {
            (partition.leader, partition.leader_epoch) = (Some(*leader), *leader_epoch);
        }
        self.cluster = Arc::new(cluster);
        true
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
            self.due = now;
            if self.asked >= round {
                self.asked = 0;
                self.due += self.backoff.next_delay(random);
                self.paused_until = Some(self.due);
            }
        }
    }

    /// The next question to ask, if one is due.
    pub fn poll_query(&mut self, now: Instant) -> Option<Query> {
        if self.next_question()? > now {
            return None;
        }
        let candidates = self.candidates();
        let target = *candidates.get(self.asked % candidates.len().max(1))?;
        let (request, is_whole) = self.request();
        let id = self.next_id;
        self.next_id += 1;
        self.asked += 1;
        self.is_urgent = false;
        self.was_creating = request.allow_auto_topic_creation;
        self.last_asked = Some(now);
        self.open.push(Open { id, asked: now, is_whole });
        Some(Query { id, target, request })
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_question()
    }

    /// When to ask next: when it is due, or while a question is open, when that took too long or names too little.
    fn next_question(&self) -> Option<Instant> {
        let Some(last) = self.open.last() else { return Some(self.due) };
        let may_compete = self.open.len() < self.candidates().len().min(MAX_OPEN);
        may_compete.then(|| if self.is_urgent { self.due } else { last.asked + self.config.hedge_after })
    }

    fn not_paused(&self, at: Instant) -> Instant {
        self.paused_until.map_or(at, |until| until.max(at))
    }

    /// Whether every broker that could be asked has failed since the last answer.
    pub fn is_lost(&self) -> bool {
        self.failures >= self.candidates().len().max(1)
    }

    /// Whom to ask, in this round's order: known brokers, then the seeds while no broker is known or once all failed.
    fn candidates(&self) -> Vec<Target> {
        let rotated = |count: usize| (0..count).map(move |at| (self.rotation + at) % count);
        let brokers: Vec<_> = self.cluster.brokers.keys().map(|&id| Target::Broker(id)).collect();
        let mut candidates: Vec<_> = rotated(brokers.len()).map(|at| brokers[at]).collect();
        // The order of the others stays.
        candidates.sort_by_key(|target| self.avoided.is_some_and(|avoided| *target == Target::Broker(avoided)));
        if self.failures >= brokers.len() {
            candidates.extend(rotated(self.config.seeds).map(Target::Seed));
        }
        candidates
    }

    /// All wanted topics, and whether these are all. The permission to create is the whole request's, so a request that
    /// has it names nothing that must not be created, also when that was there before: it may have been deleted. Both
    /// kinds take turns.
    fn request(&self) -> (MetadataRequest, bool) {
        let missing = self.wanted.iter().any(|(name, wanted)| wanted.may_create && !self.is_known(name));
        let for_all = self.wanted.values().all(|wanted| wanted.may_create);
        let create = missing && (for_all || !self.was_creating);
        let named = self.wanted.iter().filter(|(_, wanted)| !create || wanted.may_create);
        let topics = named.map(|(name, _)| MetadataRequestTopic { name: Some(Arc::clone(name)), ..Default::default() });
        let topics = Some(topics.collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: create, ..Default::default() };
        (request, !create || for_all)
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
        topics.retain(|name, _| self.wanted.contains_key(name));
        for answer in &response.topics {
            // Nothing is kept that nobody asked for, whatever a broker sends.
            let Some(name) = answer.name.as_ref().filter(|name| self.wanted.contains_key(*name)) else { continue };
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

/// How long a topic that is only looked for stays in the picture (metadata.max.idle.ms).
const LOOKED_FOR: Duration = Duration::from_secs(300);

/// Questions at a time.
const MAX_OPEN: usize = 3;

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
        for (new, old_partition) in partitions.iter_mut().zip(&old.partitions) {
            if new.leader_epoch >= old_partition.leader_epoch {
                continue;
            }
            // "Unknown" is never news: without an epoch, a truncation would go unseen.
            let is_unknown = new.leader_epoch < 0;
            backward = backward.max(if is_unknown { 1 } else { old.backward + 1 });
            if is_unknown || old.backward + 1 < BACKWARD_LIMIT {
                new.clone_from(old_partition);
            }
        }
        if backward == BACKWARD_LIMIT {
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

#[cfg(test)]
mod tests;
