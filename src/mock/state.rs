//! What the cluster knows, behind one lock: which brokers live, topics, group offsets, fetch sessions, producer ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;

use super::api::KafkaRelease;
use super::configs::{BrokerDefaults, TopicConfig};
use super::coordinator::Transactions;
use super::group::{Classic, Topics};
use super::offsets::Group;
use super::partition::Partition;
use super::quotas::Quotas;
use super::session::{Sessions, TopicKey};
use super::topic::{Topic, TopicId, check_name};

/// The cluster's state. Brokers share it: what a controller decides is known to all at once.
#[derive(Debug)]
pub(super) struct State {
    /// Every broker, and whether it runs.
    brokers: BTreeMap<i32, bool>,
    pub(super) controller: i32,
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<TopicId, String>,
    pub(super) groups: BTreeMap<String, Group>,
    /// Groups that a test has given to a broker.
    pub(super) coordinators: BTreeMap<String, i32>,
    /// Each broker's own, gone when it stops.
    pub(super) sessions: BTreeMap<i32, Sessions>,
    pub(super) quotas: Quotas,
    /// By transactional id.
    pub(super) transactions: Transactions,
    release: KafkaRelease,
    /// What was set on all brokers, for topics that do not say otherwise.
    pub(super) broker_defaults: BrokerDefaults,
    next_producer_id: i64,
    topics_created: usize,
    fetch_sessions: usize,
    rng: fastrand::Rng,
}

/// Why a topic or partition cannot be made: an error code and Kafka's words for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: ResponseError,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

impl State {
    pub(super) fn new(brokers: i32, release: KafkaRelease, fetch_sessions: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            brokers: (1..=brokers).map(|broker| (broker, true)).collect(),
            controller: 1,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            groups: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            sessions: (1..=brokers).map(|broker| (broker, Sessions::new(fetch_sessions, rng.fork()))).collect(),
            quotas: Quotas::default(),
            transactions: Transactions::new(),
            release,
            broker_defaults: BrokerDefaults::default(),
            next_producer_id: 0,
            topics_created: 0,
            fetch_sessions,
            rng,
        }
    }

    /// For what only has to differ.
    pub(super) fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }

    /// The brokers that run, in order.
    pub(super) fn live(&self) -> impl Iterator<Item = i32> {
        self.brokers.iter().filter(|(_, live)| **live).map(|(broker, _)| *broker)
    }

    pub(super) fn is_live(&self, broker: i32) -> bool {
        self.brokers.get(&broker).copied().unwrap_or(false)
    }

    /// What metadata says of it now, to be said later: everything but records, groups and sessions.
    pub(super) fn sketch(&self) -> Self {
        let topic = |topic: &Topic| Topic {
            id: topic.id,
            config: topic.config.clone(),
            partitions: topic.partitions.iter().map(Partition::sketch).collect(),
        };
        Self {
            brokers: self.brokers.clone(),
            controller: self.controller,
            topics: self.topics.iter().map(|(name, known)| (name.clone(), topic(known))).collect(),
            names: self.names.clone(),
            ..Self::new(0, self.release, self.fetch_sessions, 0)
        }
    }

    /// A broker that was not there before, and runs.
    pub(super) fn add_broker(&mut self, broker: i32) {
        let sessions = Sessions::new(self.fetch_sessions, self.rng.fork());
        self.sessions.insert(broker, sessions);
        self.brokers.insert(broker, true);
        self.settle_groups();
    }

    /// A broker goes away or comes back; leaders and controller move to who lives. Says whether anything changed.
    pub(super) fn set_live(&mut self, broker: i32, live: bool) -> bool {
        match self.brokers.get_mut(&broker) {
            Some(state) if *state != live => *state = live,
            _ => return false,
        }
        if let Some(sessions) = self.sessions.get_mut(&broker) {
            sessions.clear();
        }
        let lives: BTreeSet<i32> = self.live().collect();
        self.settle_groups();
        if !lives.contains(&self.controller) {
            self.controller = lives.first().copied().unwrap_or(self.controller);
        }
        for topic in self.topics.values_mut() {
            let unclean = topic.config.unclean_leader_election();
            for partition in &mut topic.partitions {
                if live {
                    partition.found(&lives, unclean);
                } else {
                    partition.lost(broker, &lives, unclean);
                }
            }
        }
        true
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    pub(super) fn topic_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.topics.get_mut(name)
    }

    pub(super) fn name_of(&self, id: TopicId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The name by which a fetch means a topic, which exists if it was named by id.
    pub(super) fn name_of_key<'a>(&'a self, topic: &'a TopicKey) -> Option<&'a str> {
        match topic {
            TopicKey::Name(name) => Some(name),
            TopicKey::Id(id) => self.name_of(*id),
        }
    }

    pub(super) fn partition_of_key(&mut self, topic: &TopicKey, partition: i32) -> Option<&mut Partition> {
        let topic = match topic {
            TopicKey::Name(name) => self.topics.get_mut(&**name),
            TopicKey::Id(id) => self.topics.get_mut(self.names.get(id)?),
        };
        topic?.partition_mut(partition)
    }

    pub(super) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partition(partition)
    }

    pub(super) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partition_mut(partition)
    }

    /// How many replicas of a partition must be in sync for a write with `acks=all`.
    pub(super) fn min_insync_replicas(&self, topic: &str, partition: i32) -> usize {
        let replicas = self.partition(topic, partition).map_or(0, |partition| partition.replicas.len());
        self.topics.get(topic).map_or(1, |topic| topic.config.min_insync_replicas(replicas))
    }

    pub(super) fn each_partition(&mut self, act: impl FnMut(&mut Partition)) {
        self.topics.values_mut().flat_map(|topic| &mut topic.partitions).for_each(act);
    }

    /// Whether a topic of this name may be made now.
    pub(super) fn check_new(&self, name: &str) -> Result<(), Refusal> {
        check_name(name).map_err(|message| Refusal::new(ResponseError::InvalidTopicException, message))?;
        if self.topics.contains_key(name) {
            return Err(Refusal::new(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
        }
        // Metrics write both as '_', so Kafka keeps them apart.
        let collides = |other: &&String| other.replace('.', "_") == name.replace('.', "_");
        match self.topics.keys().find(collides) {
            None => Ok(()),
            Some(other) => Err(Refusal::new(
                ResponseError::InvalidTopicException,
                format!("Topic '{name}' collides with existing topics: {other}"),
            )),
        }
    }

    /// Replicas for `count` partitions, the first of which has this index: leaders go round the live brokers.
    pub(super) fn spread(&self, first: usize, count: usize, replication: usize, shift: usize) -> Vec<Vec<i32>> {
        let live: Vec<i32> = self.live().collect();
        let broker = |partition: usize, replica: usize| live[(shift + partition + replica) % live.len()];
        (first..first + count)
            .map(|partition| (0..replication).map(|replica| broker(partition, replica)).collect())
            .collect()
    }

    /// Replicas of a topic that is made now, each broker's share in turn.
    pub(super) fn spread_new(&self, partitions: usize, replication: usize) -> Vec<Vec<i32>> {
        self.spread(0, partitions, replication, self.topics_created)
    }

    /// Makes a topic that has passed [`check_new`](Self::check_new).
    pub(super) fn create(&mut self, name: &str, replicas: Vec<Vec<i32>>, config: TopicConfig) -> TopicId {
        let id = TopicId::random(&mut self.rng);
        self.topics_created += 1;
        self.names.insert(id, name.to_owned());
        let mut topic = Topic { id, config, partitions: Vec::new() };
        topic.grow(replicas);
        self.topics.insert(name.to_owned(), topic);
        id
    }

    /// The configuration of a topic for which nothing was set yet.
    pub(super) fn new_config(&self) -> TopicConfig {
        TopicConfig::new(self.release, self.broker_defaults.clone())
    }

    /// Sets on all brokers what topics have by default, or takes it back.
    pub(super) fn set_broker_default(&mut self, name: &'static str, value: Option<&str>) {
        let defaults = Arc::make_mut(&mut self.broker_defaults);
        match value {
            Some(value) => _ = defaults.insert(name, value.trim().to_owned()),
            None => _ = defaults.remove(name),
        }
        for topic in self.topics.values_mut() {
            topic.config.inherit(self.broker_defaults.clone());
        }
        for name in self.topics.keys().cloned().collect::<Vec<_>>() {
            self.configured(&name);
        }
    }

    /// The configuration of a topic has changed.
    pub(super) fn configured(&mut self, name: &str) {
        let live: BTreeSet<i32> = self.live().collect();
        let Some(topic) = self.topics.get_mut(name) else { return };
        topic.configured();
        let unclean = topic.config.unclean_leader_election();
        topic.partitions.iter_mut().for_each(|partition| partition.found(&live, unclean));
    }

    /// Deletes a topic with its data and the offsets that groups have stored for it.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        let Some(mut topic) = self.topics.remove(name) else { return false };
        self.names.remove(&topic.id);
        for group in self.groups.values_mut() {
            group.forget_topic(name);
        }
        topic.partitions.iter_mut().for_each(Partition::wake);
        true
    }

    pub(super) fn next_producer_id(&mut self) -> i64 {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        id
    }

    /// The broker that coordinates a group: by the hash of its name, or where a test has put it.
    pub(super) fn coordinator(&self, group: &str) -> Option<i32> {
        let chosen = self.coordinators.get(group).copied().filter(|broker| self.is_live(*broker));
        let brokers: Vec<i32> = self.brokers.keys().copied().collect();
        // Java's `String::hashCode`, as Kafka picks a partition of `__consumer_offsets`.
        let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let first = hash.unsigned_abs() as usize % brokers.len().max(1);
        chosen.or_else(|| brokers.iter().cycle().skip(first).take(brokers.len()).copied().find(|id| self.is_live(*id)))
    }

    /// The group, from now on if it was not known.
    pub(super) fn group(&mut self, id: &str) -> &mut Group {
        if !self.groups.contains_key(id) {
            let group = Group { classic: Classic::of(self.release), home: self.coordinator(id), ..Group::default() };
            self.groups.insert(id.to_owned(), group);
        }
        self.groups.entry(id.to_owned()).or_default()
    }

    /// The group, and all topics.
    pub(super) fn group_and_topics(&mut self, id: &str) -> (&mut Group, Topics<'_>) {
        self.group(id);
        let topics = Topics { by_name: &self.topics, created: self.topics_created };
        (self.groups.entry(id.to_owned()).or_default(), topics)
    }

    /// A group that is there, for one reason or another.
    pub(super) fn known_group(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.get_mut(id).filter(|group| group.exists())
    }

    /// Groups whose coordinator is no longer where it was are read from the log by another.
    pub(super) fn settle_groups(&mut self) {
        let homes: Vec<_> = self.groups.keys().map(|id| self.coordinator(id)).collect();
        for (group, home) in self.groups.values_mut().zip(homes) {
            if group.home != home {
                group.home = home;
                group.move_coordinator();
            }
        }
    }

    pub(super) fn replication_default(&self) -> usize {
        self.live().count().min(3)
    }
}
