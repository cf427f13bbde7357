//! What an assignor is told, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::java_order::compare;
use crate::error::TopicPartition;

/// The racks of a partition's replicas, those that are known.
pub type Racks = Vec<Arc<str>>;

/// The partitions of each topic, by index.
pub type Topics = BTreeMap<Arc<str>, Vec<Racks>>;

/// What each member gets, in the order of the members.
pub type Assignments = Vec<Vec<TopicPartition>>;

/// A member of the group, as the coordinator showed it to the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: Arc<str>,
    /// Of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    pub subscription: Subscription,
}

/// What a member wants, and what it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: Vec<Arc<str>>,
    /// What it still holds, if it rebalances cooperatively (KIP-429).
    pub owned: Vec<TopicPartition>,
    /// In which generation it got that (KIP-792); -1: it does not say.
    pub generation: i32,
    /// Where it runs (KIP-881).
    pub rack: Option<Arc<str>>,
    /// What its assignor of this name wrote for ours.
    pub user_data: Option<Bytes>,
}

/// How a member hands partitions over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// All are given back before the group is joined again.
    Eager,
    /// Only what moves is given back, and the group joined once more for it (KIP-429).
    Cooperative,
}

/// What a member was assigned last: from it the next subscription's user data is made.
#[derive(Clone, Copy, Debug)]
pub struct Assigned<'a> {
    pub partitions: &'a [TopicPartition],
    pub generation: i32,
}

/// A strategy (`ConsumerPartitionAssignor`). All members of a group must know one in common, by its name.
///
/// It keeps nothing between calls: what it should remember travels in the members' subscriptions.
pub trait Assignor: Send + Sync {
    /// Under which it is offered to the group.
    fn name(&self) -> &str;

    /// How the members of a group that uses it hand partitions over. [`Protocol::Cooperative`] is a promise of
    /// [`Assignor::assign`]: a partition that a member still owns is given to no other one.
    fn protocol(&self) -> Protocol {
        Protocol::Eager
    }

    /// What the member puts into its subscription for the leader's assignor of the same name. `last`: what it was
    /// assigned last, if anything ever.
    fn user_data(&self, last: Option<Assigned<'_>>) -> Option<Bytes> {
        let _ = last;
        None
    }

    /// Every partition of a topic that is subscribed to goes to exactly one of its subscribers; what cannot is left
    /// out. `members` are in the order of the coordinator's answer, and so is what comes back.
    fn assign(&self, members: &[Member], topics: &Topics) -> Assignments;
}

impl Member {
    pub(super) fn subscribes(&self, topic: &str) -> bool {
        self.subscription.topics.iter().any(|known| &**known == topic)
    }

    /// The rack, unless it is empty, which is none.
    pub(super) fn rack(&self) -> Option<&str> {
        self.subscription.rack.as_deref().filter(|rack| !rack.is_empty())
    }

    /// Static members first, by instance id: they keep their places when they come back under another member id.
    pub(super) fn by_identity(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.instance_id, &other.instance_id) {
            (Some(this), Some(that)) => compare(this, that),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => compare(&self.id, &other.id),
        }
    }
}

/// Whether it matters where partitions are: some are near some members, and not all are where all are.
pub(super) fn needs_racks<'a>(
    of_members: &BTreeSet<&str>,
    partitions: impl Iterator<Item = &'a Racks> + Clone,
) -> bool {
    let all: BTreeSet<&str> = partitions.clone().flatten().map(|rack| &**rack).collect();
    let mut partitions = partitions.map(|racks| racks.iter().map(|rack| &**rack).collect::<BTreeSet<_>>());
    !of_members.is_disjoint(&all) && !partitions.all(|racks| racks == all)
}
