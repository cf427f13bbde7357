//! How many bytes may still be fetched: one budget for all partitions of a consumer.
//!
//! ```text
//!   total   | share | share | share |               pool               |
//!             of p0   of p1   of p2    whoever reads further ahead
//! ```
//! Every partition has a share of its own, at most one full fetch, and the shares together are at most half of the
//! total; the rest is for whoever asks first. So a partition with nothing buffered always has credit for one fetch,
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
    /// In flight (as asked for) and buffered (as it is).
    used: BTreeMap<PartitionId, usize>,
}

impl Credit {
    pub fn new(total: usize, per_fetch: usize) -> Self {
        Self { total, per_fetch, share: 0, pool_used: 0, used: BTreeMap::new() }
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
        let pool = self.total.saturating_sub(self.share.saturating_mul(self.used.len()));
        let free = pool.saturating_sub(self.pool_used).saturating_add(self.share.saturating_sub(used));
        match used {
            0 => Some(wanted.min(free.max(self.share))),
            _ => (free >= wanted).then_some(wanted),
        }
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
