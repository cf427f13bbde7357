//! What a simulation has seen, for the judge of all groups: that of runs on real clusters, too (`tests/judge/groups.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::judge::{Committed, Event, History, Moment, Verdict, What, judge};
use crate::error::TopicPartition;

#[derive(Default)]
pub struct Notes {
    history: History,
    /// What each member had, as of the last step.
    held: BTreeMap<usize, BTreeSet<i32>>,
    /// Members that do not count.
    away: BTreeSet<usize>,
    /// Of this step.
    begun: BTreeSet<(usize, i32)>,
    dealt_with: Vec<(usize, i32, i64)>,
}

/// The judge numbers partitions: `t-3` is 11603, as `t` is 116.
fn number(partition: &TopicPartition) -> i32 {
    let topic = partition.topic.bytes().fold(0, |number, byte| number * 256 + i32::from(byte));
    topic * 100 + partition.partition
}

impl Notes {
    /// It reads from where the group stands: also what it had before.
    pub fn begin(&mut self, member: usize, partition: &TopicPartition) {
        self.begun.insert((member, number(partition)));
    }

    pub fn dealt_with(&mut self, member: usize, partition: &TopicPartition, offset: i64) {
        self.dealt_with.push((member, number(partition), offset));
    }

    pub fn committed(&mut self, at: Moment, partition: &TopicPartition, offset: i64) {
        let partition = number(partition);
        self.history.commits.push(Committed { at, partition, offset });
    }

    /// After a step: what each member has, and whether it counts. Who is stopped, or was given up by the group and has not
    /// heard of it, does not: what it has meanwhile, others may have.
    pub fn step(&mut self, at: Moment, members: impl Iterator<Item = (usize, bool, BTreeSet<TopicPartition>)>) {
        let mut before = std::mem::take(&mut self.held);
        let dealt_with = std::mem::take(&mut self.dealt_with);
        let begun = std::mem::take(&mut self.begun);
        let (mut revoked, mut assigned, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for (member, counts, has) in members {
            let had = before.remove(&member).unwrap_or_default();
            let has: BTreeSet<_> = has.iter().map(number).collect();
            let is_back = counts && self.away.remove(&member);
            if is_back {
                revoked.push((member, What::Resumed));
            } else if !counts && self.away.insert(member) {
                revoked.push((member, What::Stopped));
            }
            // Who is back says all that it has.
            let is_anew = |partition: &i32| is_back || begun.contains(&(member, *partition));
            let is_dealt_with =
                |partition: &i32| dealt_with.iter().any(|(by, of, _)| (*by, *of) == (member, *partition));
            let gone = had.iter().copied().filter(|partition| !has.contains(partition) || is_anew(partition));
            // It is dealt with, and then given back, in one step.
            let (last, gone): (Vec<_>, Vec<_>) =
                gone.partition(|partition| !has.contains(partition) && is_dealt_with(partition));
            revoked.push((member, What::Revoked(gone)));
            late.push((member, What::Revoked(last)));
            let added = has.iter().copied().filter(|partition| !had.contains(partition) || is_anew(partition));
            assigned.push((member, What::Assigned(added.collect())));
            self.held.insert(member, has);
        }
        let gone = before.into_keys().map(|member| (member, What::Left));
        let records = dealt_with.into_iter();
        let records = records.map(|(member, partition, offset)| (member, What::Record { partition, offset }));
        let happened = gone.chain(revoked).chain(assigned).chain(records).chain(late);
        let is_nothing = |what: &What| matches!(what, What::Revoked(none) | What::Assigned(none) if none.is_empty());
        let events = happened.filter(|(_, what)| !is_nothing(what));
        self.history.events.extend(events.map(|(member, what)| Event { at, member, what }));
    }

    pub fn len(&self) -> usize {
        self.history.events.len()
    }

    /// No record was dealt with twice, from this event on.
    pub fn assert_once_since(&self, event: usize) {
        let mut dealt_with = BTreeSet::new();
        let is_again = |event: &&Event| match event.what {
            What::Record { partition, offset } => !dealt_with.insert((partition, offset)),
            _ => false,
        };
        let again = self.history.events.get(event..).into_iter().flatten().find(is_again);
        assert_eq!(again, None, "dealt with twice after all faults");
    }

    /// Every promise was kept.
    pub fn clean_verdict(mut self) -> Verdict {
        self.history.tells_ownership = true;
        let verdict = judge(&self.history);
        assert!(verdict.is_clean(), "{}", verdict.problems.join("\n"));
        verdict
    }
}
