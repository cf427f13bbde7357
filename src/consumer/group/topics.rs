//! The topics that a member subscribes to, and what metadata says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use regex_lite::Regex;

use crate::error::Error;
use crate::machine::assignor::Topics;
use crate::machine::connection::Call;
use crate::machine::metadata::Cluster;
use crate::net::{Class, Core, Route};
use crate::wire::cluster::metadata::{MetadataRequest, MetadataResponse};
use crate::wire::message::Uuid;

/// What a consumer subscribes to.
#[derive(Clone, Debug)]
pub enum Subscription {
    Topics(BTreeSet<Arc<str>>),
    Pattern(Pattern),
}

/// Of topics' whole names.
#[derive(Clone)]
pub struct Pattern {
    pub text: Arc<str>,
    regex: Regex,
}

impl Subscription {
    pub fn topics(topics: BTreeSet<Arc<str>>) -> Result<Self, Error> {
        if topics.iter().any(|topic| topic.is_empty()) {
            return Err(Error::config("subscribe names a topic without a name: leave it out"));
        }
        Ok(Self::Topics(topics))
    }

    pub fn pattern(pattern: &str) -> Result<Self, Error> {
        if pattern.is_empty() {
            return Err(Error::config("subscribe_pattern is empty: `.*` is every topic"));
        }
        let regex = Regex::new(&format!("^(?:{pattern})$"));
        let regex = regex.map_err(|error| Error::config(format!("subscribe_pattern is no pattern: {error}")))?;
        Ok(Self::Pattern(Pattern { text: pattern.into(), regex }))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text, f)
    }
}

/// A topic of the cluster.
#[derive(Debug)]
pub struct Listed {
    pub name: Arc<str>,
    pub id: Uuid,
    pub is_internal: bool,
}

impl Pattern {
    /// Internal topics match no pattern: Java's `exclude.internal.topics`, which is on by default.
    pub fn matching(&self, topics: &[Listed]) -> BTreeSet<Arc<str>> {
        let matching = topics.iter().filter(|topic| !topic.is_internal && self.regex.is_match(&topic.name));
        matching.map(|topic| Arc::clone(&topic.name)).collect()
    }
}

/// All topics of the cluster. None: nobody answered.
pub async fn list(core: &Core) -> Option<Vec<Listed>> {
    let deadline = core.now() + core.network.request_timeout;
    let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let response: MetadataResponse =
        core.try_call(Route::Any, Class::General, Call::new(request), deadline).await.ok()?;
    if response.brokers.is_empty() || !response.error_code.is_ok() {
        return None;
    }
    let topics = response.topics.into_iter().filter(|topic| topic.error_code.is_ok());
    let listed = |topic: crate::wire::cluster::metadata::MetadataResponseTopic| {
        Some(Listed { name: topic.name?, id: topic.topic_id, is_internal: topic.is_internal })
    };
    Some(topics.filter_map(listed).collect())
}

/// What an assignor is told of these topics, once metadata has something to say of each.
pub fn describe(cluster: &Cluster, topics: &BTreeSet<Arc<str>>) -> Option<Topics> {
    let mut described = Topics::new();
    for name in topics {
        let topic = cluster.topics.get(name)?;
        let racks = |replicas: &Vec<i32>| {
            let brokers = replicas.iter().filter_map(|replica| cluster.brokers.get(replica));
            brokers.filter_map(|broker| broker.rack.clone()).collect()
        };
        if !topic.partitions.is_empty() {
            let partitions = topic.partitions.iter().map(|partition| racks(&partition.replicas)).collect();
            described.insert(Arc::clone(name), partitions);
        }
    }
    Some(described)
}

/// Keeps topics in the picture for as long as somebody of the group wants them.
#[derive(Debug, Default)]
pub struct Holds(BTreeSet<Arc<str>>);

impl Holds {
    /// `created`: those that brokers may create.
    pub fn set(&mut self, core: &Core, wanted: BTreeSet<Arc<str>>, created: &BTreeSet<Arc<str>>) {
        for topic in wanted.difference(&self.0) {
            core.metadata.hold(topic, created.contains(topic));
        }
        for topic in self.0.difference(&wanted) {
            core.metadata.release(topic);
        }
        self.0 = wanted;
    }
}

/// Names by id, as far as these topics show them.
pub fn names<'a>(topics: impl IntoIterator<Item = (&'a Arc<str>, Uuid)>) -> BTreeMap<Uuid, Arc<str>> {
    topics.into_iter().filter(|(_, id)| !id.is_zero()).map(|(name, id)| (id, Arc::clone(name))).collect()
}
