//! What the leader of a classic group does: it works out who gets what, and watches the topics of all.
//!
//! What members say is not trusted (rule 70): who cannot be understood gets nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::TopicPartition;
use crate::machine::assignor::subscription::{NEWEST, decode, encode_assignment};
use crate::machine::assignor::{Assignor, Member, Topics};
use crate::wire::coordinator::join_group::JoinGroupResponseMember;
use crate::wire::coordinator::sync_group::SyncGroupRequestAssignment;

/// See the module.
pub struct Leader {
    members: Vec<Member>,
    topics: BTreeSet<Arc<str>>,
    /// By which the assignment was made.
    snapshot: Topics,
    assignments: Vec<SyncGroupRequestAssignment>,
    /// The coordinator keeps the assignment that there is (KIP-814).
    is_skipped: bool,
    is_outdated: bool,
}

impl Leader {
    pub fn new(members: Vec<JoinGroupResponseMember>, is_skipped: bool) -> Self {
        let member = |member: JoinGroupResponseMember| {
            let subscription = decode(&member.metadata).unwrap_or_default();
            Member { id: member.member_id, instance_id: member.group_instance_id, subscription }
        };
        let members: Vec<_> = members.into_iter().map(member).collect();
        let topics = members.iter().flat_map(|member| &member.subscription.topics).cloned().collect();
        Self { members, topics, snapshot: Topics::new(), assignments: Vec::new(), is_skipped, is_outdated: false }
    }

    /// Of all members.
    pub fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    pub fn assign(&mut self, assignor: &dyn Assignor, topics: &Topics) {
        (self.snapshot, self.is_outdated) = (self.of_members(topics), false);
        if !self.is_skipped {
            let assigned = assignor.assign(&self.members, &self.snapshot);
            let mut assigned = assigned.into_iter();
            let assignments = self.members.iter().map(|member| {
                let partitions = assigned.next().unwrap_or_default();
                // As long as the metadata that it comes from: it fits.
                let assignment = encode_assignment(&partitions, NEWEST).unwrap_or_default();
                SyncGroupRequestAssignment { member_id: Arc::clone(&member.id), assignment, ..Default::default() }
            });
            self.assignments = assignments.collect();
        }
    }

    pub fn take_assignments(&mut self) -> Vec<SyncGroupRequestAssignment> {
        std::mem::take(&mut self.assignments)
    }

    /// As they are now, after the assignment was made.
    pub fn compare(&mut self, topics: &Topics) {
        self.is_outdated = self.of_members(topics) != self.snapshot;
    }

    /// Whether partitions came or went, or moved to other racks, since the assignment was made.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Whether an assignment that was kept is not for these topics. Asked once; a member may well have no partition of a
    /// topic, and joins once in vain then.
    pub fn must_compare(&mut self, joined: &BTreeSet<Arc<str>>, assigned: &BTreeSet<TopicPartition>) -> bool {
        let had: BTreeSet<_> = assigned.iter().map(|partition| &partition.topic).collect();
        let wants = joined.iter().filter(|topic| self.snapshot.get(*topic).is_some_and(|p| !p.is_empty()));
        std::mem::take(&mut self.is_skipped) && !wants.eq(had)
    }

    fn of_members(&self, topics: &Topics) -> Topics {
        let known = self.topics.iter().filter_map(|topic| topics.get_key_value(topic));
        known.map(|(topic, partitions)| (Arc::clone(topic), partitions.clone())).collect()
    }
}
