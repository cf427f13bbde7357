//! Who has what, as far as members can be believed: a partition has one owner or none.

use super::Claim;
use super::table::Table;
use crate::machine::assignor::types::Subscription;

/// See the module.
pub struct Claims {
    /// By member.
    pub owned: Vec<Vec<usize>>,
    /// By partition: two members of one generation say that they have it. Neither is believed.
    pub is_disputed: Vec<bool>,
    /// By partition: a member that had it in an earlier generation, and that generation.
    pub before: Vec<Option<(usize, i32)>>,
}

impl Claims {
    pub fn new(table: &Table<'_>, claim: fn(&Subscription) -> Claim) -> Self {
        let claimed: Vec<_> = table.members.iter().map(|row| claim(&row.member.subscription)).collect();
        let mut claims = Self {
            owned: vec![Vec::new(); table.members.len()],
            is_disputed: vec![false; table.partitions()],
            before: vec![None; table.partitions()],
        };
        let mut owners: Vec<Option<usize>> = vec![None; table.partitions()];
        for &member in &table.walk {
            let generation = claimed[member].generation.unwrap_or(-1);
            for partition in claimed[member].owned.iter().filter_map(|owned| table.find(owned)) {
                let Some(other) = owners[partition] else {
                    owners[partition] = Some(member);
                    claims.owned[member].push(partition);
                    continue;
                };
                // Not the other's claim, but its subscription: what Java asks here.
                let others = table.members[other].member.subscription.generation;
                if generation < others {
                    continue;
                }
                claims.owned[other].retain(|&owned| owned != partition);
                owners[partition] = Some(member);
                if generation == others {
                    claims.is_disputed[partition] = true;
                } else {
                    claims.owned[member].push(partition);
                }
            }
        }
        claims.remember(table, &claimed);
        claims
    }

    /// Of those that do not speak of the newest generation, each partition's latest owner.
    fn remember(&mut self, table: &Table<'_>, claimed: &[Claim]) {
        let newest = claimed.iter().filter_map(|claim| claim.generation).max().unwrap_or(-1).max(-1);
        for &member in &table.walk {
            let claim = &claimed[member];
            let generation = match claim.generation {
                Some(generation) if generation < newest => generation,
                None if newest > -1 => -1,
                _ => continue,
            };
            for partition in claim.owned.iter().filter_map(|owned| table.find(owned)) {
                let before = &mut self.before[partition];
                if before.is_none_or(|(_, other)| generation > other) {
                    *before = Some((member, generation));
                }
            }
        }
    }
}
