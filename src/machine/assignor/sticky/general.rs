//! Where subscriptions differ: what has an owner stays, what is free goes to whoever has least, and then partitions
//! move one by one while that makes it more even.

use std::collections::BTreeSet;

use super::claims::Claims;
use super::movements::Movements;
use super::table::Table;

struct Balance<'a> {
    table: &'a Table<'a>,
    /// By member.
    assigned: Vec<Vec<usize>>,
    /// By partition.
    owner: Vec<Option<usize>>,
    before: Vec<Option<(usize, i32)>>,
    /// Members that something can be moved to or from, by how many they have.
    by_load: BTreeSet<(usize, usize)>,
    movements: Movements,
}

/// By member.
pub fn assign(table: &Table<'_>, claims: Claims) -> Vec<Vec<usize>> {
    let mut balance = Balance {
        table,
        assigned: claims.owned,
        owner: vec![None; table.partitions()],
        before: claims.before,
        by_load: BTreeSet::new(),
        movements: Movements::default(),
    };
    let mut must_revoke = false;
    for (member, assigned) in balance.assigned.iter_mut().enumerate() {
        assigned.retain(|&partition| {
            let stays = table.wants(member, partition) && !table.is_far(member, partition);
            must_revoke |= !stays;
            if stays {
                balance.owner[partition] = Some(member);
            }
            stays
        });
        balance.by_load.insert((assigned.len(), member));
    }
    let mut topics: Vec<_> = (0..table.topics.len()).collect();
    topics.sort_by_key(|&topic| (table.topics[topic].takers.len(), topic));
    let of_topic = |&topic: &usize| table.topics[topic].first..table.topics[topic].first + table.topics[topic].count;
    let mut all: Vec<_> = topics.iter().flat_map(of_topic).collect();
    let mut free: Vec<_> = all.iter().copied().filter(|&partition| balance.owner[partition].is_none()).collect();
    let is_first = balance.assigned.iter().all(Vec::is_empty);
    balance.hand_out(&free);

    // What only one member wants stays where it is, and so does who has nothing that another one wants.
    let can_move = |partition: &usize| table.topics[table.topic_of(*partition)].takers.len() >= 2;
    all.retain(can_move);
    free.retain(can_move);
    for member in 0..table.members.len() {
        if !balance.takes_part(member) {
            balance.by_load.remove(&(balance.assigned[member].len(), member));
        }
    }
    let (assigned, score) = (balance.assigned.clone(), balance.score());
    if !must_revoke {
        balance.level(&free);
    }
    let has_moved = balance.level(&all);
    // Moving must have been worth it.
    if !is_first && has_moved && balance.score() >= score { assigned } else { balance.assigned }
}

impl Balance<'_> {
    /// To whoever has least: first among those that are near.
    fn hand_out(&mut self, free: &[usize]) {
        let mut left = free.to_vec();
        if self.table.minds_racks {
            left.retain(|&partition| !self.hand_out_one(partition, true));
        }
        for partition in left {
            self.hand_out_one(partition, false);
        }
    }

    fn hand_out_one(&mut self, partition: usize, only_near: bool) -> bool {
        let table = self.table;
        let suits = |&&(_, member): &&(usize, usize)| {
            table.wants(member, partition) && !(only_near && table.is_far(member, partition))
        };
        let Some(&(load, member)) = self.by_load.iter().find(suits) else { return false };
        self.by_load.remove(&(load, member));
        self.assigned[member].push(partition);
        self.owner[partition] = Some(member);
        self.by_load.insert((load + 1, member));
        true
    }

    fn takes_part(&self, member: usize) -> bool {
        let assigned = &self.assigned[member];
        assigned.len() < self.limit(member)
            || assigned.iter().any(|&partition| self.table.topics[self.table.topic_of(partition)].takers.len() >= 2)
    }

    /// All that it could have.
    fn limit(&self, member: usize) -> usize {
        self.table.members[member].topics.iter().map(|&topic| self.table.topics[topic].count).sum()
    }

    /// Moves what makes it more even, until nothing does. Whether anything did.
    fn level(&mut self, partitions: &[usize]) -> bool {
        let mut has_moved = false;
        loop {
            let mut has_changed = false;
            for &partition in partitions {
                if self.is_balanced() {
                    break;
                }
                if let Some(to) = self.better_owner(partition) {
                    self.shift(partition, to);
                    (has_moved, has_changed) = (true, true);
                }
            }
            if !has_changed {
                return has_moved;
            }
        }
    }

    fn better_owner(&self, partition: usize) -> Option<usize> {
        let load = self.assigned[self.owner[partition]?].len();
        // Back to whom it was with before, rather than to somebody else. (Java's may send it to a member that does not
        // want it any more, or fail over one that takes no part.)
        let before = self.before[partition].map(|(member, _)| member);
        let before = before.filter(|&member| {
            let others = self.assigned[member].len();
            load > others + 1 && self.table.wants(member, partition) && self.by_load.contains(&(others, member))
        });
        let least = || self.by_load.iter().find(|(_, member)| self.table.wants(*member, partition));
        before.or_else(|| least().filter(|(others, _)| load > others + 1).map(|(_, member)| *member))
    }

    fn shift(&mut self, partition: usize, to: usize) {
        let Some(from) = self.owner[partition] else { return };
        let partition = self.movements.instead(self.table, partition, from, to);
        let Some(from) = self.owner[partition].filter(|&from| from != to) else { return };
        self.by_load.remove(&(self.assigned[from].len(), from));
        self.by_load.remove(&(self.assigned[to].len(), to));
        self.movements.record(self.table, partition, from, to);
        if let Some(at) = self.assigned[from].iter().position(|&other| other == partition) {
            self.assigned[from].remove(at);
        }
        self.assigned[to].push(partition);
        self.owner[partition] = Some(to);
        self.by_load.insert((self.assigned[to].len(), to));
        self.by_load.insert((self.assigned[from].len(), from));
    }

    /// Whether nobody has two more than somebody who could have one of them.
    fn is_balanced(&self) -> bool {
        let (Some(&(least, _)), Some(&(most, _))) = (self.by_load.first(), self.by_load.last()) else { return true };
        if least + 1 >= most {
            return true;
        }
        self.by_load.iter().all(|&(load, member)| {
            // Nobody from here on has two more than this one.
            if load + 1 >= most || load == self.limit(member) {
                return true;
            }
            let topics = self.table.members[member].topics.iter().map(|&topic| &self.table.topics[topic]);
            topics.flat_map(|topic| topic.first..topic.first + topic.count).all(|partition| {
                self.owner[partition].is_none_or(|other| other == member || self.assigned[other].len() <= load + 1)
            })
        })
    }

    /// How uneven it is: the sum of all differences between two members that take part.
    fn score(&self) -> usize {
        let loads: Vec<_> = self.by_load.iter().map(|(load, _)| *load).collect();
        let others = |at: usize| loads[at + 1..].iter().map(|other| other - loads[at]).sum::<usize>();
        (0..loads.len()).map(others).sum()
    }
}
