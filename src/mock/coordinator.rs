//! The transaction coordinator's book: which producer a transactional id stands for, and what its transaction has
//! touched.
//!
//! ```text
//!            InitProducerId              AddPartitions, AddOffsets, Produce from v12        EndTxn, a new InitProducerId,
//!  (nothing) ──────────────▶ no transaction ─────────────────────────────────▶ open ──────▶ or time: markers are written
//!                                 ▲                                                              │
//!                                 └──────────────────────────────────────────────────────────────┘
//! ```
//! The rules are those of Kafka's `TransactionCoordinator`. There is no state between "open" and "ended": the markers are
//! in all logs when the coordinator answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;

use super::batch::Marker;
use super::offsets::Committed;
use super::state::State;

/// Epochs go up to here, and then a transactional id gets another producer id.
const LAST_EPOCH: i16 = i16::MAX - 1;
/// The coordinator's epoch in markers: it never moves to another log.
const COORDINATOR_EPOCH: i32 = 0;

/// What a producer writes its batches with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// What the coordinator knows of one transactional id.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) identity: Identity,
    /// Before the last time that its producer asked for another.
    last_epoch: Option<i16>,
    timeout: Duration,
    pub(super) status: Status,
}

#[derive(Debug)]
pub(super) enum Status {
    Empty,
    Open(Open),
    /// Committed, or aborted.
    Ended(bool),
}

/// What an open transaction has touched.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// By the cluster's clock.
    pub(super) since: Duration,
    pub(super) partitions: BTreeSet<(String, i32)>,
    groups: BTreeSet<String>,
}

/// What EndTxn comes to.
pub(super) enum End {
    /// A repetition: it has ended so already.
    Done,
    Now,
}

impl State {
    /// Gives a transactional id its producer id, with a new epoch that fences all before it. If a transaction is open it
    /// is aborted, and the answer is to try again.
    pub(super) fn init_transactions(
        &mut self,
        name: &str,
        timeout: Duration,
        expected: Option<Identity>,
        now_ms: i64,
    ) -> Result<Identity, ResponseError> {
        let fresh = Identity { id: self.next_producer_id(), epoch: 0 };
        let Some(known) = self.transactions.get_mut(name) else {
            let transaction = Transaction { identity: fresh, last_epoch: None, timeout, status: Status::Empty };
            self.transactions.insert(name.to_owned(), transaction);
            return Ok(fresh);
        };
        if expected.is_some_and(|expected| expected.id != known.identity.id) {
            return Err(ResponseError::ProducerFenced);
        }
        if matches!(known.status, Status::Open(_)) {
            self.end_transaction(name, false, true, now_ms);
            return Err(ResponseError::ConcurrentTransactions);
        }
        known.timeout = timeout;
        match expected {
            Some(expected) if Some(expected.epoch) == known.last_epoch => return Ok(known.identity), // a repetition
            Some(expected) if expected.epoch != known.identity.epoch => return Err(ResponseError::ProducerFenced),
            _ => {}
        }
        known.last_epoch = expected.map(|expected| expected.epoch);
        known.status = Status::Empty;
        known.bump(fresh);
        Ok(known.identity)
    }

    /// The transaction of a producer, which nobody has fenced.
    pub(super) fn transaction_of(&mut self, name: &str, identity: Identity) -> Result<&mut Transaction, ResponseError> {
        if name.is_empty() {
            return Err(ResponseError::InvalidRequest);
        }
        let known = self.transactions.get_mut(name).filter(|known| known.identity.id == identity.id);
        let known = known.ok_or(ResponseError::InvalidProducerIdMapping)?;
        if known.identity.epoch == identity.epoch { Ok(known) } else { Err(ResponseError::ProducerFenced) }
    }

    /// Whether a transaction may end so now. With `bumping` (KIP-890), every end is a new epoch.
    pub(super) fn check_end(
        &mut self,
        name: &str,
        identity: Identity,
        commit: bool,
        bumping: bool,
    ) -> Result<End, ResponseError> {
        if bumping
            && let Some(known) = self.transactions.get(name)
            && known.identity.id == identity.id
            && known.identity.epoch == identity.epoch.saturating_add(1)
            && let Status::Ended(committed) = known.status
        {
            return if committed == commit { Ok(End::Done) } else { Err(ResponseError::InvalidTxnState) };
        }
        match self.transaction_of(name, identity)?.status {
            Status::Open(_) => Ok(End::Now),
            // Whoever is not sure whether anything was begun may abort, for a new epoch.
            Status::Empty | Status::Ended(_) if bumping && !commit => Ok(End::Now),
            Status::Ended(committed) if committed == commit && !bumping => Ok(End::Done),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Writes the markers of a transaction, and makes its offsets those of their groups, or forgets them. With `bump`,
    /// the markers have the next epoch already, which fences the one before.
    pub(super) fn end_transaction(&mut self, name: &str, commit: bool, bump: bool, now_ms: i64) {
        let fresh = Identity { id: self.next_producer_id(), epoch: 0 };
        let Some(known) = self.transactions.get_mut(name) else { return };
        let Identity { id: producer_id, epoch } = known.identity;
        let producer_epoch = if bump { epoch.saturating_add(1) } else { epoch };
        if bump {
            known.bump(fresh);
        }
        let Status::Open(open) = std::mem::replace(&mut known.status, Status::Ended(commit)) else { return };
        let marker = Marker { producer_id, producer_epoch, commit, coordinator_epoch: COORDINATOR_EPOCH, now_ms };
        for (topic, index) in open.partitions {
            self.write_marker(&topic, index, &marker);
        }
        for group in open.groups {
            if let Some(group) = self.groups.get_mut(&group) {
                group.end_transaction(producer_id, commit);
            }
        }
    }

    /// Writes the end of a transaction to one partition.
    pub(super) fn write_marker(&mut self, topic: &str, index: i32, marker: &Marker) {
        let Some(topic) = self.topic_mut(topic) else { return };
        let log_append_time = topic.config.rules().log_append_time;
        if let Some(partition) = topic.partition_mut(index) {
            partition.append_marker(marker, log_append_time);
        }
    }

    /// Aborts the transactions that are open for longer than their producers have said, and fences them.
    pub(super) fn expire_transactions(&mut self, now: Duration, now_ms: i64) {
        let late = |transaction: &Transaction| match &transaction.status {
            Status::Open(open) => now.saturating_sub(open.since) > transaction.timeout,
            _ => false,
        };
        let late: Vec<_> =
            self.transactions.iter().filter(|(_, one)| late(one)).map(|(name, _)| name.clone()).collect();
        for name in late {
            self.end_transaction(&name, false, true, now_ms);
        }
    }

    /// Keeps an offset until its transaction ends.
    pub(super) fn hold_offset(&mut self, group: &str, producer_id: i64, topic: &str, index: i32, offset: Committed) {
        let group = self.group(group);
        group.pending.entry(producer_id).or_default().push((topic.to_owned(), index, offset));
    }
}

impl Transaction {
    fn bump(&mut self, fresh: Identity) {
        if self.identity.epoch >= LAST_EPOCH {
            self.identity = fresh;
        } else {
            self.identity.epoch += 1;
        }
    }

    /// What the open transaction has touched; it begins now, if none was open.
    fn open(&mut self, now: Duration) -> &mut Open {
        if !matches!(self.status, Status::Open(_)) {
            self.status = Status::Open(Open { since: now, ..Open::default() });
        }
        match &mut self.status {
            Status::Open(open) => open,
            _ => unreachable!("it was opened above"),
        }
    }

    pub(super) fn add_partition(&mut self, topic: &str, index: i32, now: Duration) {
        self.open(now).partitions.insert((topic.to_owned(), index));
    }

    pub(super) fn add_group(&mut self, group: &str, now: Duration) {
        self.open(now).groups.insert(group.to_owned());
    }

    pub(super) fn has_partition(&self, topic: &str, index: i32) -> bool {
        let Status::Open(open) = &self.status else { return false };
        open.partitions.iter().any(|(name, partition)| name == topic && *partition == index)
    }

    pub(super) fn has_group(&self, group: &str) -> bool {
        matches!(&self.status, Status::Open(open) if open.groups.contains(group))
    }
}

/// The transactional ids of a cluster.
pub(super) type Transactions = BTreeMap<String, Transaction>;
