//! One partition: its log, its replicas, how far each of them has come, and what all have.
//!
//! There is one copy of the records. A replica has them all, or up to where its own log ends: because its broker is
//! stopped, or because a test holds it back.
//!
//! ```text
//!    leader           ├──────────────────────────────────┤ log end
//!    in sync, held    ├──────────────────────┤
//!    not in sync      ├──────────┤           │
//!                                            └ high watermark: the least end of those in sync, and it never goes back
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use super::batch::{Batch, Marker, Rejection};
use super::log::{Log, Placed};

/// One partition.
#[derive(Debug)]
pub(super) struct Partition {
    /// Brokers that hold it, the preferred leader first.
    pub(super) replicas: Vec<i32>,
    /// `None` while there is none that may lead.
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    pub(super) log: Log,
    /// In the order of `replicas`.
    in_sync: Vec<i32>,
    /// Where the logs of those replicas end that have not everything.
    behind: BTreeMap<i32, i64>,
    /// Followers that a test holds back.
    held: BTreeSet<i32>,
    high_watermark: i64,
    high_watermark_held: bool,
    /// With fewer in sync than this, newer brokers leave the high watermark where it is (KIP-966).
    pub(super) needed_in_sync: usize,
    /// Leader epochs that began without everything, and where they cut the log.
    cuts: Vec<(i32, i64)>,
    waiting: Vec<Weak<Notify>>,
}

impl Partition {
    /// A new one, whose replicas all live.
    pub(super) fn new(replicas: Vec<i32>) -> Self {
        let mut log = Log::default();
        log.begin_epoch(0);
        Self {
            leader: replicas.first().copied(),
            in_sync: replicas.clone(),
            replicas,
            leader_epoch: 0,
            log,
            behind: BTreeMap::new(),
            held: BTreeSet::new(),
            high_watermark: 0,
            high_watermark_held: false,
            needed_in_sync: 0,
            cuts: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Who has it and who leads, without its records.
    pub(super) fn sketch(&self) -> Self {
        Self {
            leader: self.leader,
            leader_epoch: self.leader_epoch,
            in_sync: self.in_sync.clone(),
            ..Self::new(self.replicas.clone())
        }
    }

    pub(super) fn in_sync(&self) -> &[i32] {
        &self.in_sync
    }

    pub(super) fn cuts(&self) -> &[(i32, i64)] {
        &self.cuts
    }

    /// What consumers may read: everything before it.
    pub(super) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// What consumers may read that want committed records alone: before the first record whose transaction is open.
    pub(super) fn last_stable_offset(&self) -> i64 {
        self.log.first_unstable(self.high_watermark).map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// Where the log of a replica ends.
    pub(super) fn end_at(&self, broker: i32) -> i64 {
        self.behind.get(&broker).copied().unwrap_or_else(|| self.log.end())
    }

    /// Appends to the leader's log. Followers that keep up have it at once.
    pub(super) fn append(&mut self, batch: Batch, log_append_time: bool) -> Result<Placed, Rejection> {
        let placed = self.log.append(batch, self.leader_epoch, log_append_time)?;
        if !placed.duplicate {
            self.advance();
            self.wake();
        }
        Ok(placed)
    }

    /// Appends the end of a transaction.
    pub(super) fn append_marker(&mut self, marker: &Marker, log_append_time: bool) {
        self.log.append_marker(marker, self.leader_epoch, log_append_time);
        self.advance();
        self.wake();
    }

    /// Moves the high watermark up to what all have that are in sync.
    fn advance(&mut self) {
        if self.high_watermark_held || self.leader.is_none() || self.in_sync.len() < self.needed_in_sync {
            return;
        }
        let least = self.in_sync.iter().map(|broker| self.end_at(*broker)).min();
        if let Some(least) = least.filter(|least| *least > self.high_watermark) {
            self.high_watermark = least;
            self.log.replicated(least);
            self.wake();
        }
    }

    /// Another number of replicas has to be in sync.
    pub(super) fn need_in_sync(&mut self, count: usize) {
        self.needed_in_sync = count;
        self.advance();
    }

    /// Another leader, in a new leader epoch. What it does not have is gone; if it was not in sync, it is the only one
    /// that is.
    pub(super) fn elect(&mut self, leader: i32) {
        let end = self.end_at(leader);
        self.leader = Some(leader);
        self.held.remove(&leader);
        self.behind.remove(&leader);
        self.cut(end);
        if !self.in_sync.contains(&leader) {
            self.in_sync = vec![leader];
        }
        self.begin_epoch();
    }

    /// Nobody leads.
    fn depose(&mut self) {
        self.leader = None;
        self.leader_epoch += 1;
        self.wake();
    }

    fn begin_epoch(&mut self) {
        self.leader_epoch += 1;
        self.log.begin_epoch(self.leader_epoch);
        self.advance();
        self.wake();
    }

    /// Drops what is at `offset` and above, in whole batches, on every replica.
    fn cut(&mut self, offset: i64) {
        if offset < self.log.end() {
            self.log.truncate(offset);
            // The epoch that is about to begin.
            self.cuts.push((self.leader_epoch + 1, self.log.end()));
        }
        let end = self.log.end();
        self.behind.values_mut().for_each(|behind| *behind = end.min(*behind));
        self.high_watermark = self.high_watermark.min(end);
    }

    /// As a leader that lags behind would cause it: the records from `offset` on are gone, under a new leader epoch.
    pub(super) fn truncate(&mut self, offset: i64) {
        self.cut(offset);
        match self.leader {
            Some(_) => self.begin_epoch(),
            None => self.depose(),
        }
    }

    /// Drops what is below `offset`, but nothing that consumers may not read yet.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.log.delete_before(offset.min(self.high_watermark));
        self.wake();
    }

    /// A broker is gone. Of those in sync that live another becomes the leader, or with `unclean` any that lives.
    pub(super) fn lost(&mut self, broker: i32, live: &BTreeSet<i32>, unclean: bool) {
        if !self.replicas.contains(&broker) {
            return;
        }
        let end = self.end_at(broker);
        self.behind.insert(broker, end);
        let others = self.in_sync.iter().any(|other| *other != broker);
        if others {
            self.in_sync.retain(|other| *other != broker); // the last one stays: it is where the records are
        }
        if self.leader == Some(broker) {
            match self.candidate(live, unclean) {
                Some(leader) => self.elect(leader),
                None => self.depose(),
            }
        }
        self.catch_up(live);
    }

    /// A broker is back: it catches up, or leads if nobody did and it may.
    pub(super) fn found(&mut self, live: &BTreeSet<i32>, unclean: bool) {
        if self.leader.is_none()
            && let Some(leader) = self.candidate(live, unclean)
        {
            self.elect(leader);
        }
        self.catch_up(live);
    }

    /// Who may lead: the first replica that lives and is in sync, or else, with `unclean`, that lives.
    fn candidate(&self, live: &BTreeSet<i32>, unclean: bool) -> Option<i32> {
        let living = || self.replicas.iter().filter(|replica| live.contains(replica));
        let clean = living().find(|replica| self.in_sync.contains(replica));
        clean.or_else(|| living().next().filter(|_| unclean)).copied()
    }

    /// Followers that live and are not held back have everything, and are in sync.
    pub(super) fn catch_up(&mut self, live: &BTreeSet<i32>) {
        if self.leader.is_none() {
            return;
        }
        let was = self.in_sync.len();
        let keeps_up = |broker: &i32| live.contains(broker) && !self.held.contains(broker);
        let able: Vec<i32> = self.replicas.iter().copied().filter(keeps_up).collect();
        able.iter().for_each(|broker| _ = self.behind.remove(broker));
        let (in_sync, replicas) = (&self.in_sync, &self.replicas);
        let together = replicas.iter().filter(|broker| in_sync.contains(broker) || able.contains(broker));
        self.in_sync = together.copied().collect();
        self.advance();
        if self.in_sync.len() != was {
            self.wake();
        }
    }

    /// A follower copies nothing any more. It stays in sync: leaders are patient.
    pub(super) fn hold(&mut self, follower: i32) {
        let end = self.end_at(follower);
        self.behind.insert(follower, end);
        self.held.insert(follower);
    }

    /// The leader's patience with a follower ends.
    pub(super) fn drop_from_in_sync(&mut self, follower: i32) {
        self.hold(follower);
        self.in_sync.retain(|broker| *broker != follower);
        self.advance();
        self.wake();
    }

    /// A follower goes on.
    pub(super) fn release(&mut self, follower: i32, live: &BTreeSet<i32>) {
        self.held.remove(&follower);
        self.catch_up(live);
        self.wake();
    }

    pub(super) fn hold_high_watermark(&mut self, held: bool) {
        self.high_watermark_held = held;
        self.advance();
    }

    /// Adds a replica that has everything.
    pub(super) fn add_replica(&mut self, broker: i32) {
        if !self.replicas.contains(&broker) {
            self.replicas.push(broker);
            self.in_sync.push(broker);
        }
    }

    /// Whether a request with this leader epoch (-1: any) may be served.
    pub(super) fn check_epoch(&self, epoch: i32) -> Result<(), ResponseError> {
        if epoch >= 0 && epoch < self.leader_epoch {
            return Err(ResponseError::FencedLeaderEpoch);
        }
        if epoch > self.leader_epoch {
            return Err(ResponseError::UnknownLeaderEpoch);
        }
        Ok(())
    }

    /// As [`check_epoch`](Self::check_epoch), for a request that only the leader answers.
    pub(super) fn check_leader(&self, broker: i32, epoch: i32) -> Result<(), ResponseError> {
        if !self.replicas.contains(&broker) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        self.check_epoch(epoch)?;
        if self.leader == Some(broker) { Ok(()) } else { Err(ResponseError::NotLeaderOrFollower) }
    }

    /// A request that cannot be answered yet waits for the next change.
    pub(super) fn wait(&mut self, request: &Arc<Notify>) {
        let request = Arc::downgrade(request);
        self.waiting.retain(|waiting| waiting.strong_count() > 0 && !waiting.ptr_eq(&request));
        self.waiting.push(request);
    }

    /// Something changed: data, leader, the high watermark, or the partition is gone.
    pub(super) fn wake(&mut self) {
        for waiting in self.waiting.drain(..).filter_map(|waiting| waiting.upgrade()) {
            waiting.notify_one();
        }
    }
}
