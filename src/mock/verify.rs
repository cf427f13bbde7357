//! The judgement of what has happened: whether clients and brokers have kept the rules of the protocol.
//!
//! What a connection alone can tell is noticed as it happens. The rest is judged afterwards, from the batches that
//! clients have sent with what they were told, and from the logs as they are.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::MockCluster;
use super::history::{Recorded, SeenBatch, SeenCommit, SeenRequest, Sent};
use super::topic::TopicId;
use super::view::StoredBatch;

/// A rule that a client or the mock itself has broken, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which rule.
    pub kind: ViolationKind,
    /// What was wrong, in words.
    pub message: String,
    /// What shows it, in the order in which it happened.
    pub events: Vec<Event>,
}

/// Where it happened, and what was wrong.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.events.last() {
            Some(event) => write!(f, "{event}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ViolationKind {
    /// A client sent a frame or a request that cannot be decoded. The connection was closed, as by a real broker.
    Undecodable,
    /// A client sent an API, or a version of it, that the brokers do not offer. The connection was closed, as by a real
    /// broker.
    NotOffered,
    /// A client sent bytes too many after a request. It was served, as by a real broker.
    TrailingBytes,
    /// A request before the client has authenticated, or behind the end of its session.
    Unauthenticated,
    /// A client had more than five batches of an idempotent producer in flight to a partition: brokers remember five.
    TooManyInFlight,
    /// A client left out sequence numbers of an idempotent producer, or began with another than 0.
    SequenceGap,
    /// A group committed an offset beyond the end of the log.
    CommitBeyondEnd,
    /// The offsets of a log have a gap, though nothing was compacted.
    OffsetGap,
    /// Two batches of a log have offsets in common.
    OffsetOverlap,
    /// A log has a batch of an idempotent producer twice. Once a test has made brokers forget producers, or in Kafka
    /// itself after a week of silence, a client can cause that by a retry.
    DuplicateAppend,
    /// A batch that was acknowledged, with `acks=1` or `acks=all`, is not in the log at its offset, though no replica
    /// that lagged behind became the leader and no test has truncated the log.
    LostWrite,
    /// A request was answered twice: a bug of the mock.
    AnsweredTwice,
    /// A task of the mock has panicked: a bug of the mock.
    Panicked,
}

/// What shows a [`Violation`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Something on a connection that is not a whole request.
    #[non_exhaustive]
    Connection {
        /// Time since the cluster started.
        at: Duration,
        /// The broker.
        broker: i32,
        /// The connection.
        connection: u64,
    },
    /// A request that a broker has read.
    Request(SeenRequest),
    /// A batch that a client has sent.
    Batch(SeenBatch),
    /// An offset that a group has committed.
    Commit(SeenCommit),
    /// A batch as it is in a log.
    #[non_exhaustive]
    Stored {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The batch.
        batch: StoredBatch,
    },
}

/// Where it happened.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection { broker, connection, .. }
            | Self::Request(SeenRequest { broker, connection, .. })
            | Self::Batch(SeenBatch { broker, connection, .. })
            | Self::Commit(SeenCommit { broker, connection, .. }) => {
                write!(f, "broker {broker}, connection {connection}")
            }
            Self::Stored { topic, partition, batch } => write!(f, "{topic}-{partition}@{}", batch.base_offset),
        }
    }
}

impl MockCluster {
    /// Judges what has happened since the cluster started: whether clients and brokers have kept the rules that
    /// [`ViolationKind`] lists. A list that is empty is the good end of a test:
    ///
    /// ```
    /// # use milena::mock::MockCluster;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::start().await;
    /// // … run the code under test, with or without faults …
    /// let violations = cluster.verify();
    /// assert!(violations.is_empty(), "{violations:#?}");
    /// # cluster.close().await;
    /// # }
    /// ```
    ///
    /// It looks at the logs as they are, and at the last 100,000 batches and 100,000 commits: in longer runs, older ones
    /// are not judged, so that memory is bounded. It takes time in proportion to what is in the logs.
    pub fn verify(&self) -> Vec<Violation> {
        let mut violations = check(&self.shared.history.recorded(), &self.logs());
        if let Some(message) = self.shared.panic_message() {
            let message = format!("a task of the mock cluster panicked: {message}");
            violations.push(Violation { kind: ViolationKind::Panicked, message, events: Vec::new() });
        }
        violations
    }
}

/// A partition's log, as it is judged.
#[derive(Clone, Debug, Default)]
pub(super) struct LogView {
    pub(super) topic: String,
    pub(super) topic_id: TopicId,
    pub(super) partition: i32,
    /// Offsets may be missing.
    pub(super) compacted: bool,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Leader epochs whose leaders had not everything, with the offset that they cut the log to.
    pub(super) cuts: Vec<(i32, i64)>,
    /// With the CRC-32C of what follows their headers.
    pub(super) batches: Vec<(StoredBatch, u32)>,
}

impl LogView {
    fn stored(&self, index: usize) -> Event {
        let (topic, partition) = (self.topic.clone(), self.partition);
        Event::Stored { topic, partition, batch: self.batches[index].0.clone() }
    }

    fn violation(&self, kind: ViolationKind, message: String, batches: &[usize]) -> Violation {
        Violation { kind, message, events: batches.iter().map(|index| self.stored(*index)).collect() }
    }
}

pub(super) fn check(recorded: &Recorded, logs: &[LogView]) -> Vec<Violation> {
    let mut violations = recorded.violations.clone();
    for log in logs {
        check_offsets(log, &mut violations);
        check_appended_once(log, &mut violations);
    }
    check_sequences(recorded, &mut violations);
    check_acknowledged(recorded, logs, &mut violations);
    for commit in recorded.commits.iter().filter(|commit| commit.offset > commit.log_end) {
        let SeenCommit { group, topic, partition, offset, log_end, .. } = commit;
        let message = format!("{group} committed {offset} for {topic}-{partition}, whose log ended at {log_end}");
        let events = vec![Event::Commit(commit.clone())];
        violations.push(Violation { kind: ViolationKind::CommitBeyondEnd, message, events });
    }
    violations
}

/// Each batch begins where the one before it ended, and the last one ends where the log does.
fn check_offsets(log: &LogView, violations: &mut Vec<Violation>) {
    let mut expected: Option<i64> = None;
    for (index, (batch, _)) in log.batches.iter().enumerate() {
        let before = index.checked_sub(1);
        let shown: Vec<usize> = before.into_iter().chain([index]).collect();
        // The first batch may begin before the log: what is deleted is not cut out of it.
        let expected_here = expected.unwrap_or_else(|| batch.base_offset.min(log.start));
        if batch.base_offset < expected_here {
            let message = format!("a batch from {} on, after one up to {}", batch.base_offset, expected_here - 1);
            violations.push(log.violation(ViolationKind::OffsetOverlap, message, &shown));
        } else if batch.base_offset > expected_here && !log.compacted {
            let message = format!("no batch has the offsets {expected_here} to {}", batch.base_offset - 1);
            violations.push(log.violation(ViolationKind::OffsetGap, message, &shown));
        }
        expected = Some(expected_here.max(batch.last_offset + 1));
    }
    let last = expected.unwrap_or(log.start);
    if last != log.end && !(log.compacted && last < log.end) {
        let message = format!("{}-{} ends at {}, its batches at {last}", log.topic, log.partition, log.end);
        let kind = if last < log.end { ViolationKind::OffsetGap } else { ViolationKind::OffsetOverlap };
        let shown: Vec<usize> = log.batches.len().checked_sub(1).into_iter().collect();
        violations.push(log.violation(kind, message, &shown));
    }
}

/// A producer's batch is in a log once.
fn check_appended_once(log: &LogView, violations: &mut Vec<Violation>) {
    let mut seen = HashMap::new();
    for (index, (batch, _)) in log.batches.iter().enumerate().filter(|(_, (batch, _))| batch.base_sequence >= 0) {
        let StoredBatch { producer_id, producer_epoch, base_sequence, .. } = *batch;
        if let Some(first) = seen.insert((producer_id, producer_epoch, base_sequence), index) {
            let who = format!("producer {producer_id}, epoch {producer_epoch}");
            let message = format!("the batch with sequence {base_sequence} of {who} is there twice");
            violations.push(log.violation(ViolationKind::DuplicateAppend, message, &[first, index]));
        }
    }
}

/// For each producer id, epoch and partition, clients number on where they stopped, or repeat.
fn check_sequences(recorded: &Recorded, violations: &mut Vec<Violation>) {
    let mut last: HashMap<_, (i32, &Sent)> = HashMap::new();
    for sent in recorded.batches.iter().filter(|sent| sent.batch.producer_id >= 0) {
        let SeenBatch { partition, producer_id, producer_epoch, base_sequence, records, .. } = sent.batch;
        let key = (&sent.batch.topic, sent.topic_id, partition, producer_id, producer_epoch);
        let next = base_sequence.wrapping_add(records.max(0)) & i32::MAX;
        let Some((expected, before)) = last.get_mut(&key) else {
            if base_sequence != 0 && !recorded.batches_dropped {
                let message = format!("producer {producer_id}, epoch {producer_epoch} began with {base_sequence}");
                let events = vec![Event::Batch(sent.batch.clone())];
                violations.push(Violation { kind: ViolationKind::SequenceGap, message, events });
            }
            last.insert(key, (next, sent));
            continue;
        };
        // Sequence numbers go on from 0 after the largest: ahead is what is less than half of them away.
        let ahead = base_sequence.wrapping_sub(*expected) & i32::MAX;
        if ahead > 0 && ahead < i32::MAX / 2 {
            let who = format!("producer {producer_id}, epoch {producer_epoch}");
            let message = format!("{who} went on with {base_sequence}, expected was {expected}");
            let events = vec![Event::Batch(before.batch.clone()), Event::Batch(sent.batch.clone())];
            violations.push(Violation { kind: ViolationKind::SequenceGap, message, events });
        }
        let further = next.wrapping_sub(*expected) & i32::MAX;
        if further > 0 && further < i32::MAX / 2 {
            (*expected, *before) = (next, sent);
        }
    }
}

/// What was acknowledged is where the client was told.
fn check_acknowledged(recorded: &Recorded, logs: &[LogView], violations: &mut Vec<Violation>) {
    let by_partition: HashMap<_, _> = logs.iter().map(|log| ((log.topic_id, log.partition), log)).collect();
    for sent in recorded.batches.iter().filter(|sent| sent.batch.acks != 0) {
        let Some(Ok(offset)) = sent.batch.answer else { continue };
        // The topic may have been deleted since.
        let Some(log) = by_partition.get(&(sent.topic_id, sent.batch.partition)) else { continue };
        let last = offset + i64::from(sent.batch.records) - 1;
        let cut = log.cuts.iter().any(|(epoch, end)| *epoch > sent.leader_epoch && *end <= last);
        // An idempotent producer may be told that a batch is there without being told where.
        if offset < 0 || last < log.start || cut || log.compacted {
            continue;
        }
        let index = log.batches.partition_point(|(batch, _)| batch.base_offset < offset);
        let found = log.batches.get(index).filter(|(batch, crc)| {
            let there = (batch.base_offset, batch.last_offset, batch.producer_id, batch.base_sequence);
            there == (offset, last, sent.batch.producer_id, sent.batch.base_sequence) && *crc == sent.records_crc
        });
        if found.is_none() {
            let place = format!("{}-{}@{offset}", sent.batch.topic, sent.batch.partition);
            let message = format!("{} records were acknowledged at {place}, and are not there", sent.batch.records);
            let mut events = vec![Event::Batch(sent.batch.clone())];
            events.extend((index < log.batches.len()).then(|| log.stored(index)));
            violations.push(Violation { kind: ViolationKind::LostWrite, message, events });
        }
    }
}

#[cfg(test)]
mod tests;
