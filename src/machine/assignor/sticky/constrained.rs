//! Where all subscribe alike, everybody gets as many as everybody else, and the first few one more.
//!
//! ```text
//!   1. each keeps what it has, up to its share; not what is disputed, nor what is far from it
//!   2. what is left goes in turn to members that are near and below their share
//!   3. what is left then goes in turn to members below their share
//! ```

use std::collections::VecDeque;

use super::claims::Claims;
use super::table::Table;

struct Shares<'a> {
    table: &'a Table<'a>,
    claims: &'a Claims,
    assigned: Vec<Vec<usize>>,
    least: usize,
    most: usize,
    /// How many members get one more than `least`, and how many of those did.
    extras: usize,
    given: usize,
    /// Below `least`, and at it with hope for one more.
    below: Vec<usize>,
    at_least: VecDeque<usize>,
    /// By partition: who had it, and does not keep it.
    revoked_from: Vec<Option<usize>>,
    moving: Vec<usize>,
}

/// By member; and the partitions that went to another one than had them.
pub fn assign(table: &Table<'_>, claims: &Claims) -> (Vec<Vec<usize>>, Vec<usize>) {
    let (partitions, members) = (table.partitions(), table.members.len());
    let mut shares = Shares {
        table,
        claims,
        assigned: vec![Vec::new(); members],
        least: partitions / members,
        most: partitions.div_ceil(members),
        extras: partitions % members,
        given: 0,
        below: Vec::new(),
        at_least: VecDeque::new(),
        revoked_from: vec![None; partitions],
        moving: Vec::new(),
    };
    let mut is_free = vec![true; partitions];
    for &member in &table.walk {
        for kept in shares.keep(member) {
            is_free[kept] = false;
        }
    }
    shares.below.sort_unstable();
    shares.at_least.make_contiguous().sort_unstable();
    let mut free: Vec<_> = (0..partitions).filter(|&partition| is_free[partition]).collect();
    let in_rack = table.members_by_rack();
    free.sort_by_cached_key(|&partition| table.neighbours(partition, &in_rack));
    if table.minds_racks {
        free = shares.fill_near(free);
    }
    shares.fill(free);
    (shares.assigned, shares.moving)
}

impl Shares<'_> {
    fn keep(&mut self, member: usize) -> Vec<usize> {
        let (table, claims) = (self.table, self.claims);
        let (far, mut owned): (Vec<usize>, Vec<usize>) =
            claims.owned[member].iter().partition(|&&p| table.is_far(member, p));
        owned.retain(|&partition| !claims.is_disputed[partition]);
        far.into_iter().for_each(|partition| self.revoked_from[partition] = Some(member));
        owned.sort_by_key(|&partition| (table.index_of(partition), partition));
        if owned.len() < self.least {
            self.below.push(member);
        } else {
            let gets_more = owned.len() >= self.most && self.given < self.extras;
            let gone = owned.split_off(if gets_more { self.most } else { self.least });
            gone.into_iter().for_each(|partition| self.revoked_from[partition] = Some(member));
            if gets_more {
                self.count_extra();
            } else if self.given < self.extras {
                self.at_least.push_back(member);
            }
        }
        self.assigned[member].extend(&owned);
        owned
    }

    fn count_extra(&mut self) {
        self.given += 1;
        if self.given == self.extras {
            self.at_least.clear();
        }
    }

    /// What nobody near has room for comes back.
    fn fill_near(&mut self, free: Vec<usize>) -> Vec<usize> {
        let mut turn = 0;
        let mut left = Vec::new();
        for partition in free {
            let count = self.below.len();
            let mut round = (0..count).map(|step| (turn + step) % count);
            let near = round.find(|&at| self.table.is_near(self.below[at], partition));
            let member = if let Some(mut at) = near {
                let member = self.below[at];
                let reached = self.assigned[member].len() + 1;
                if reached >= self.least {
                    self.below.remove(at);
                    if reached < self.most && self.given < self.extras {
                        self.at_least.push_back(member);
                    }
                } else {
                    at += 1;
                }
                turn = if self.below.is_empty() { 0 } else { at % self.below.len() };
                member
            } else if let Some(at) = self.at_least.iter().position(|&member| self.table.is_near(member, partition)) {
                let member = self.at_least[at];
                if self.assigned[member].len() + 1 == self.most {
                    self.at_least.remove(at);
                    self.count_extra();
                }
                member
            } else {
                left.push(partition);
                continue;
            };
            self.give(partition, member);
        }
        left
    }

    fn fill(&mut self, free: Vec<usize>) {
        let mut at = 0;
        for partition in free {
            if at >= self.below.len() {
                at = 0;
            }
            let Some(&member) = self.below.get(at) else {
                // The counts were worked out so that there is always one.
                let Some(member) = self.at_least.pop_front() else { return };
                self.give(partition, member);
                continue;
            };
            self.give(partition, member);
            if self.assigned[member].len() == self.least {
                self.below.remove(at);
                self.at_least.push_back(member);
            } else {
                at += 1;
            }
        }
    }

    fn give(&mut self, partition: usize, member: usize) {
        self.assigned[member].push(partition);
        if self.revoked_from[partition].is_some_and(|owner| owner != member) || self.claims.is_disputed[partition] {
            self.moving.push(partition);
        }
    }
}
