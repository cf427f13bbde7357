//! `range`: of each topic a run of neighbours for each member, the first members one more if it does not come out even.
//!
//! Where racks are known and not every partition is in all of them, members get partitions near them as far as the
//! counts stay the same (KIP-881). Topics with as many partitions and the same subscribers stay co-partitioned: their
//! partitions of one index go together, and near their member only if all of them are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::java_order::{compare, walk};
use super::types::{Assignments, Assignor, Member, Racks, Topics, needs_racks};
use crate::error::TopicPartition;

/// As `org.apache.kafka.clients.consumer.RangeAssignor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(&self, members: &[Member], topics: &Topics) -> Assignments {
        let mut states: Vec<_> = walk_of_topics(members, topics)
            .into_iter()
            .map(|(topic, partitions)| State::new(topic, partitions, members))
            .collect();
        let mut assignments = vec![Vec::new(); members.len()];
        let has_racks = states.iter().any(|state| state.needs_racks);
        if has_racks {
            assign_near(&mut states, &mut assignments);
        }
        for state in &mut states {
            state.assign_ranges(false, &mut assignments);
        }
        if has_racks {
            for assignment in &mut assignments {
                assignment.sort_by(|a, b| compare(&a.topic, &b.topic).then(a.partition.cmp(&b.partition)));
            }
        }
        assignments
    }
}

/// What is subscribed to and exists, in Java's order.
fn walk_of_topics<'a>(members: &'a [Member], topics: &'a Topics) -> Vec<(&'a Arc<str>, &'a [Racks])> {
    let ids = walk(members.iter().map(|member| &*member.id));
    let subscribed: Vec<_> = ids.iter().flat_map(|&id| &members[id].subscription.topics).collect();
    let wanted = walk(subscribed.iter().map(|topic| &***topic));
    let wanted: Vec<_> = wanted.into_iter().map(|index| subscribed[index]).collect();
    let known: Vec<_> = wanted.into_iter().filter(|topic| topics.get(*topic).is_some_and(|p| !p.is_empty())).collect();
    walk(known.iter().map(|topic| &***topic)).into_iter().map(|at| (known[at], &*topics[known[at]])).collect()
}

/// How far a topic has been handed out.
struct State<'a> {
    topic: &'a Arc<str>,
    partitions: &'a [Racks],
    /// Its subscribers by identity, each with its rack and how many it got.
    takers: Vec<Taker<'a>>,
    needs_racks: bool,
    /// No subscriber says where it is: then the racks of partitions do not matter either.
    has_takers_racks: bool,
    unassigned: BTreeSet<usize>,
    each: usize,
    /// How many may get one more.
    extras: usize,
}

#[derive(Clone, Copy, Debug)]
struct Taker<'a> {
    member: usize,
    rack: Option<&'a str>,
    count: usize,
}

impl<'a> State<'a> {
    fn new(topic: &'a Arc<str>, partitions: &'a [Racks], members: &'a [Member]) -> Self {
        // Of two members under one id the coordinator could not tell which is which: the last one counts.
        let last: BTreeMap<_, _> = members.iter().enumerate().map(|(index, member)| (&member.id, index)).collect();
        let mut takers: Vec<_> = last.into_values().filter(|&index| members[index].subscribes(topic)).collect();
        takers.sort_by(|&a, &b| members[a].by_identity(&members[b]));
        let takers: Vec<_> =
            takers.into_iter().map(|member| Taker { member, rack: members[member].rack(), count: 0 }).collect();
        let racks: BTreeSet<_> = takers.iter().filter_map(|taker| taker.rack).collect();
        Self {
            topic,
            partitions,
            needs_racks: needs_racks(&racks, partitions.iter()),
            has_takers_racks: !racks.is_empty(),
            unassigned: (0..partitions.len()).collect(),
            each: partitions.len() / takers.len().max(1),
            extras: partitions.len() % takers.len().max(1),
            takers,
        }
    }

    fn is_near(&self, taker: usize, partition: usize) -> bool {
        self.takers[taker].rack.is_none_or(|rack| self.partitions[partition].iter().any(|other| &**other == rack))
    }

    fn room(&self, taker: usize) -> usize {
        (self.each + usize::from(self.extras > 0)).saturating_sub(self.takers[taker].count)
    }

    fn assign_ranges(&mut self, only_near: bool, assignments: &mut Assignments) {
        for taker in 0..self.takers.len() {
            let free = self.unassigned.iter().copied().filter(|&p| !only_near || self.is_near(taker, p));
            let taken: Vec<_> = free.take(self.room(taker)).collect();
            self.assign(taker, &taken, assignments);
        }
    }

    fn assign(&mut self, taker: usize, partitions: &[usize], assignments: &mut Assignments) {
        let Taker { member, count, .. } = &mut self.takers[taker];
        *count += partitions.len();
        if !partitions.is_empty() && *count > self.each {
            self.extras = self.extras.saturating_sub(1);
        }
        for partition in partitions {
            self.unassigned.remove(partition);
            let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
            assignments[*member].push(TopicPartition { topic: Arc::clone(self.topic), partition });
        }
    }
}

/// Subscribers with their racks, and how many partitions: topics of one likeness are co-partitioned.
type Likeness<'a> = (Vec<(usize, Option<&'a str>)>, usize);

fn assign_near(states: &mut [State<'_>], assignments: &mut Assignments) {
    let mut alike: BTreeMap<Likeness<'_>, Vec<usize>> = BTreeMap::new();
    for (index, state) in states.iter().enumerate() {
        let takers = state.takers.iter().map(|taker| (taker.member, taker.rack)).collect();
        let count = if state.has_takers_racks { state.partitions.len() } else { 0 };
        alike.entry((takers, count)).or_default().push(index);
    }
    for ((takers, count), group) in alike {
        match *group {
            [only] if states[only].needs_racks => states[only].assign_ranges(true, assignments),
            [_] => {}
            _ => assign_together(takers.len(), count, &group, states, assignments),
        }
    }
}

/// The partitions of one index to the first member that is near all of them and has room for them.
fn assign_together(
    takers: usize,
    count: usize,
    group: &[usize],
    states: &mut [State<'_>],
    assignments: &mut Assignments,
) {
    let mut remaining: Vec<_> = (0..takers).collect();
    for partition in 0..count {
        let suits =
            |&taker: &usize| group.iter().all(|&at| states[at].is_near(taker, partition) && states[at].room(taker) > 0);
        let Some(taker) = remaining.iter().copied().find(suits) else { continue };
        for &at in group {
            states[at].assign(taker, &[partition], assignments);
        }
        if group.iter().all(|&at| states[at].room(taker) == 0) {
            remaining.retain(|&other| other != taker);
        }
    }
}
