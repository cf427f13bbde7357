//! How many bytes may still be fetched: one budget for all partitions of a consumer.
//!
//! ```text
//!   total   | share | share | share |               pool               |
//!             of p0   of p1   of p2    whoever reads further ahead
//! ```
//! Every partition has a share of its own, at most one full fetch, and the shares together are at most half of the
//! total; the rest is for whoever asks first, as long as it leaves at least as much free as it holds of it: so one that is
//! not read, or paused, never has more than half of what would be free without it. A partition with nothing buffered always has credit for one fetch,
//! however full the others are, and what is buffered and in flight stays within the total (but for single batches
//! larger than what was asked for: those arrive whole).

use std::collections::BTreeMap;

/// A partition of an assignment; never used again for another.
pub type PartitionId = u64;

#[derive(Debug)]
pub struct Credit {
    total: usize,
    /// The most that one fetch of one partition asks for.
    per_fetch: usize,
    share: usize,
    /// What partitions use beyond their shares.
    pool_used: usize,
    /// Of the pool, and used for something else.
    aside: usize,
    /// In flight (as asked for) and buffered (as it is).
    used: BTreeMap<PartitionId, usize>,
}

impl Credit {
    pub fn new(total: usize, per_fetch: usize) -> Self {
        Self { total, per_fetch, share: 0, pool_used: 0, aside: 0, used: BTreeMap::new() }
    }

    /// The partitions from now on. Those that stay keep what they use.
    pub fn assign(&mut self, ids: impl IntoIterator<Item = PartitionId>) {
        self.used = ids.into_iter().map(|id| (id, self.used.get(&id).copied().unwrap_or(0))).collect();
        self.share = (self.total / 2 / self.used.len().max(1)).clamp(1, self.per_fetch.max(1));
        self.pool_used = self.used.values().map(|used| used.saturating_sub(self.share)).sum();
    }

    /// How much a fetch of up to `wanted` bytes may ask for; `None`: the partition must wait until something of it is
    /// consumed. Next to buffered data only the whole of it is worth a fetch.
    pub fn offer(&self, id: PartitionId, wanted: usize) -> Option<usize> {
        let used = *self.used.get(&id)?;
        let free = self.free();
        // What it may hold of the pool in the end. Alone, it leaves nothing for others.
        let held = used.saturating_sub(self.share);
        let limit = if self.used.len() == 1 { held + free } else { held.max((held + free) / 2) };
        let room = self.share.saturating_add(limit).saturating_sub(used);
        match used {
            0 => Some(wanted.min(room.max(1))),
            _ => (room >= wanted).then_some(wanted),
        }
    }

    /// What this one and its likes, so many of them, may each ask for, so that the last of them is offered it too. They had
    /// `free` before the first.
    pub fn even(&self, id: PartitionId, free: usize, count: usize) -> usize {
        let held = self.used_by(id).saturating_sub(self.share);
        if self.used.len() == 1 { free } else { free.saturating_sub(held) / count.saturating_add(1) }
    }

    /// What is left of the pool.
    pub fn free(&self) -> usize {
        let pool = self.total.saturating_sub(self.share.saturating_mul(self.used.len()));
        pool.saturating_sub(self.aside).saturating_sub(self.pool_used)
    }

    /// What one partition uses.
    pub fn used_by(&self, id: PartitionId) -> usize {
        self.used.get(&id).copied().unwrap_or(0)
    }

    pub fn total(&self) -> usize {
        self.total
    }

    /// So many bytes are used for something else than fetching, now.
    pub fn set_aside(&mut self, bytes: usize) {
        self.aside = bytes;
    }

    /// What a fetch of a partition without news should ask for at most: it keeps nothing from those that have some.
    pub fn share(&self) -> usize {
        self.share
    }

    pub fn take(&mut self, id: PartitionId, bytes: usize) {
        self.change(id, |used| used.saturating_add(bytes));
    }

    pub fn give_back(&mut self, id: PartitionId, bytes: usize) {
        self.change(id, |used| used.saturating_sub(bytes));
    }

    /// What all partitions use.
    pub fn used(&self) -> usize {
        self.used.values().sum()
    }

    /// A partition that is no longer assigned has nothing to account for.
    fn change(&mut self, id: PartitionId, change: impl FnOnce(usize) -> usize) {
        let Some(used) = self.used.get_mut(&id) else { return };
        let before = used.saturating_sub(self.share);
        *used = change(*used);
        self.pool_used = self.pool_used - before + used.saturating_sub(self.share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_the_rest_is_for_whoever_comes_first() {
        let mut credit = Credit::new(10_000, 1_000);
        credit.assign([1, 2, 3]);
        assert_eq!(credit.offer(1, 1_000), Some(1_000));
        let mut taken = 0;
        while let Some(bytes) = credit.offer(1, 1_000) {
            credit.take(1, bytes);
            taken += bytes;
        }
        assert_eq!(taken, 4_000, "its own share, and as much of the pool as goes into the half of it");
        for (id, expected) in [(2, 3_000), (3, 2_000)] {
            let mut taken = 0;
            while let Some(bytes) = credit.offer(id, 1_000) {
                credit.take(id, bytes);
                taken += bytes;
            }
            assert_eq!(taken, expected, "{id}: the half of what the others left");
        }
        assert_eq!(credit.used(), 9_000);
        assert_eq!((1..4).map(|id| credit.offer(id, 1_000)).collect::<Vec<_>>(), [None; 3]);
        // Whoever has least of it comes first when some of it is free again.
        credit.give_back(1, 2_000);
        assert_eq!((1..4).map(|id| credit.offer(id, 1_000)).collect::<Vec<_>>(), [Some(1_000), None, Some(1_000)]);
    }

    #[test]
    fn what_is_even_for_all_is_offered_to_the_last() {
        for (held, count) in [(0, 3), (100_000, 3), (100_000, 5)] {
            let mut credit = Credit::new(1_000_000, 10_000);
            credit.assign(0..6);
            (0..count).for_each(|id| credit.take(id, 10_000 + held));
            let free = credit.free();
            let even = credit.even(0, free, count as usize);
            for id in 0..count {
                assert_eq!(credit.even(id, free, count as usize), even);
                assert_eq!(credit.offer(id, even), Some(even), "{held}, {count}: {id}");
                let most = credit.offer(id, even + 10);
                assert_eq!(most.is_none(), id == count - 1, "{held}, {count}: {id} could be offered more");
                credit.take(id, even);
            }
        }
    }

    #[test]
    fn a_partition_without_neighbours_has_all_of_it() {
        let mut credit = Credit::new(10_000, 1_000);
        credit.assign([1]);
        let mut taken = 0;
        while let Some(bytes) = credit.offer(1, 1_000) {
            credit.take(1, bytes);
            taken += bytes;
        }
        assert_eq!(taken, 10_000);
    }

    /// One that nobody reads, at any number of neighbours: what it holds is never more than what is left for them.
    #[test]
    fn who_is_not_read_leaves_at_least_as_much_as_it_holds() {
        for count in [2, 3, 10, 100] {
            let mut credit = Credit::new(1 << 20, 16 << 10);
            credit.assign(0..count);
            while let Some(bytes) = credit.offer(0, 16 << 10) {
                credit.take(0, bytes);
            }
            let (held, total) = (credit.used_by(0), 1 << 20);
            assert!(held <= total / 2 && held >= total / 5, "{count}: {held}");
            for id in 1..count {
                assert_eq!(credit.offer(id, 1 << 10), Some(1 << 10), "{count}: a fetch for {id}");
                credit.take(id, 1 << 10);
            }
        }
    }

    #[test]
    fn a_thousand_partitions_have_small_shares_and_stay_within_the_total() {
        let mut credit = Credit::new(1_000_000, 100_000);
        credit.assign(0..1_000);
        let offers: Vec<_> = (0..1_000)
            .map(|id| {
                let offer = credit.offer(id, 100_000).unwrap();
                credit.take(id, offer);
                offer
            })
            .collect();
        assert!(offers[0] == 100_000 && offers[999] == 500, "{offers:?}");
        assert!(credit.used() <= 1_000_000, "{}", credit.used());
    }

    #[test]
    fn what_is_set_aside_leaves_the_shares() {
        let mut credit = Credit::new(10_000, 1_000);
        credit.assign([1, 2]);
        credit.set_aside(7_500);
        credit.take(1, 1_000);
        assert_eq!((credit.offer(1, 251), credit.offer(1, 250)), (None, Some(250)));
        credit.set_aside(100_000);
        assert_eq!((credit.offer(1, 1), credit.offer(2, 1_000)), (None, Some(1_000)));
        credit.set_aside(0);
        assert_eq!(credit.offer(1, 1_000), Some(1_000));
    }

    #[test]
    fn a_budget_below_one_fetch_still_gives_something() {
        let mut credit = Credit::new(10, 1_000);
        credit.assign([1]);
        assert_eq!(credit.offer(1, 1_000), Some(10));
        credit.assign(0..100);
        assert_eq!(credit.offer(50, 1_000), Some(1));
    }

    #[test]
    fn a_new_assignment_keeps_the_account_of_those_that_stay() {
        let mut credit = Credit::new(10_000, 1_000);
        credit.assign([1, 2]);
        credit.take(1, 3_000);
        credit.take(2, 500);
        credit.assign([1, 3]);
        assert_eq!(credit.used(), 3_000);
        // What the other one still had comes back to nobody.
        credit.give_back(2, 500);
        credit.give_back(1, 3_000);
        assert_eq!((credit.used(), credit.pool_used), (0, 0));
    }
}
