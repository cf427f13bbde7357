//! A member under KIP-848, on its way from what it has to what the target says.
//!
//! ```text
//!            a new target takes something away                 its heartbeat no longer names it
//!   Stable ─────────────────────────────────────▶ Unrevoked ───────────────────────────────────┐
//!     ▲  │                                                                                     │
//!     │  └─ some of it still belongs to others ─▶ Unreleased ◀─────────────────────────────────┤
//!     │                                              │ they have given it up                   │
//!     └──────────────────────────────────────────────┴─────────────────────────────────────────┘
//! ```
//! A partition belongs to one member at a time: to who has it, and to who was told to give it back and has not said yet
//! that it did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::mock::topic::TopicId;

pub(in crate::mock) type Partition = (TopicId, i32);
/// Partitions, and the epoch in which each was given to its member.
pub(super) type Since = BTreeMap<Partition, i32>;

/// The epochs in which a member says that it leaves: for good, or to come back (static members).
pub(in crate::mock) const LEAVES: i32 = -1;
pub(in crate::mock) const LEAVES_FOR_NOW: i32 = -2;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) rack: Option<String>,
    pub(super) client_id: String,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) phase: Phase,
    pub(super) rebalance: Duration,
    pub(super) names: BTreeSet<String>,
    /// Empty: none.
    pub(super) regex: String,
    pub(super) assignor: Option<super::Assignor>,
    pub(super) assigned: Since,
    /// What it has to give back, and may still have.
    pub(super) revoking: Since,
    /// When its session ends.
    pub(super) until: Duration,
    /// When it is out, unless it has left this epoch by then, because it did not give back what it had to.
    pub(super) revokes_until: Option<(Duration, i32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    Stable,
    Unrevoked,
    Unreleased,
}

/// Where a member has to get.
pub(super) struct Goal<'a> {
    pub(super) epoch: i32,
    pub(super) target: &'a BTreeSet<Partition>,
    /// The topics that it subscribes to.
    pub(super) subscribed: &'a BTreeSet<TopicId>,
    pub(super) resubscribed: bool,
    /// What it says it has; `None`: it does not say.
    pub(super) owned: Option<&'a BTreeSet<Partition>>,
    /// What others have.
    pub(super) taken: &'a BTreeSet<Partition>,
}

impl Goal<'_> {
    /// Whether a member may still have any of these.
    fn may_have(&self, partitions: &Since) -> bool {
        self.owned.is_none_or(|owned| owned.iter().any(|partition| partitions.contains_key(partition)))
    }
}

impl Member {
    pub(super) fn is_at(&self, epoch: i32) -> bool {
        self.phase == Phase::Stable && self.epoch == epoch
    }

    /// One step towards the goal.
    pub(super) fn reconcile(&mut self, goal: &Goal<'_>) {
        if !goal.resubscribed && self.is_at(goal.epoch) {
            return;
        }
        let stays = match self.phase {
            Phase::Stable => self.epoch == goal.epoch,
            Phase::Unrevoked => goal.may_have(&self.revoking),
            Phase::Unreleased => false,
        };
        if !stays {
            self.advance(goal);
        } else if goal.resubscribed {
            self.drop_unsubscribed(goal);
        }
    }

    fn advance(&mut self, goal: &Goal<'_>) {
        let target: BTreeSet<Partition> =
            goal.target.iter().filter(|(topic, _)| goal.subscribed.contains(topic)).copied().collect();
        let (mut keeps, revokes): (Since, Since) = self
            .assigned
            .iter()
            .map(|(partition, since)| (*partition, *since))
            .partition(|(partition, _)| target.contains(partition));
        let wanted = target.iter().filter(|partition| !keeps.contains_key(partition));
        let is_free = |partition: &&Partition| !goal.taken.contains(partition);
        let (free, unreleased): (Vec<Partition>, Vec<Partition>) =
            wanted.copied().partition(|partition| is_free(&partition));
        self.previous_epoch = self.epoch;
        if !revokes.is_empty() && goal.may_have(&revokes) {
            (self.phase, self.assigned, self.revoking) = (Phase::Unrevoked, keeps, revokes);
            return;
        }
        keeps.extend(free.into_iter().map(|partition| (partition, goal.epoch)));
        self.epoch = goal.epoch;
        (self.assigned, self.revoking) = (keeps, Since::new());
        self.phase = if unreleased.is_empty() { Phase::Stable } else { Phase::Unreleased };
    }

    /// There is no new target yet, but the member has told which topics it wants no more.
    fn drop_unsubscribed(&mut self, goal: &Goal<'_>) {
        let (keeps, drops): (Since, Since) =
            std::mem::take(&mut self.assigned).into_iter().partition(|((topic, _), _)| goal.subscribed.contains(topic));
        self.assigned = keeps;
        if drops.is_empty() {
            return;
        }
        self.previous_epoch = self.epoch;
        let mut revoking = self.revoking.clone();
        revoking.extend(drops);
        if goal.may_have(&revoking) {
            (self.phase, self.revoking) = (Phase::Unrevoked, revoking);
        }
    }

    /// A static member goes, and will be back: what it has stays its own, whoever it is then.
    pub(super) fn leave_for_now(&mut self) {
        self.epoch = LEAVES_FOR_NOW;
        self.revoking.clear();
        self.assigned.values_mut().for_each(|since| *since = 0);
    }

    /// Since which epoch a partition is its own.
    pub(super) fn has_since(&self, partition: &Partition) -> Option<i32> {
        self.assigned.get(partition).or_else(|| self.revoking.get(partition)).copied()
    }
}
