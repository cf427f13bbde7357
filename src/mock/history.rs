//! What the brokers were asked and what they answered: kept in memory, the last of each sort, for tests to look at and
//! for [`verify`](super::MockCluster::verify) to judge.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::api::Api;
use super::topic::TopicId;
use super::verify::{Event, Violation, ViolationKind};

/// Requests, batches and commits that are kept, of each; older ones are dropped. At most 40 MB in all.
pub(super) const KEPT: usize = 100_000;
/// Violations that are kept: a client that does one thing wrong does it again and again.
const VIOLATIONS: usize = 10_000;

/// A request that a broker has read, in the order of reading.
///
/// It is noted before it is handled, so requests that a [`Fault`](super::Fault) swallows are there too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// What was asked.
    pub api: Api,
    /// The version it was encoded in.
    pub version: i16,
    /// The broker that read it.
    pub broker: i32,
    /// The connection it came by. Connections are numbered through the whole cluster, from 1.
    pub connection: u64,
    /// Its correlation id.
    pub correlation_id: i32,
    /// The client id in its header.
    pub client_id: Option<String>,
    /// Bytes of its frame, without the four of the length.
    pub size: usize,
    /// Time since the cluster started, on tokio's clock.
    pub at: Duration,
}

/// A batch that a client has sent to a broker, whatever came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenBatch {
    /// When its request was read: time since the cluster started.
    pub at: Duration,
    /// The broker that read it.
    pub broker: i32,
    /// The connection it came by.
    pub connection: u64,
    /// The topic it is for.
    pub topic: String,
    /// The partition it is for.
    pub partition: i32,
    /// The id of an idempotent producer, or -1.
    pub producer_id: i64,
    /// The epoch of the producer id, or -1.
    pub producer_epoch: i16,
    /// The sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records it says it has.
    pub records: i32,
    /// 0, 1, or -1 for all replicas in sync.
    pub acks: i16,
    /// What the client was told: the offset of the first record, or an error code. `None` if nothing was said, or a fault
    /// has kept the answer from the client.
    pub answer: Option<Result<i64, i16>>,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenCommit {
    /// When it was stored: time since the cluster started.
    pub at: Duration,
    /// The broker that stored it.
    pub broker: i32,
    /// The connection it came by.
    pub connection: u64,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that was committed.
    pub offset: i64,
    /// Where the log of the partition ended then.
    pub log_end: i64,
}

/// A batch with what only the checks need.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) batch: SeenBatch,
    /// Tells a topic from one of the same name that was there before it; zero if there was none.
    pub(super) topic_id: TopicId,
    /// Of the partition, when the request was read.
    pub(super) leader_epoch: i32,
    /// CRC-32C of what follows the header.
    pub(super) records_crc: u32,
}

/// The notes of the whole cluster.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    requests: VecDeque<SeenRequest>,
    /// In the order in which they were read.
    batches: VecDeque<Sent>,
    /// How many older ones are not there any more: the number of the first that is.
    batches_dropped: u64,
    commits: VecDeque<SeenCommit>,
    violations: Vec<Violation>,
    /// What each connection waits for, by its correlation id.
    unanswered: HashMap<u64, i32>,
}

/// What [`verify`](super::MockCluster::verify) judges.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    pub(super) batches: Vec<Sent>,
    /// Older batches are not there any more.
    pub(super) batches_dropped: bool,
    pub(super) commits: Vec<SeenCommit>,
    pub(super) violations: Vec<Violation>,
}

fn push<T>(kept: &mut VecDeque<T>, entry: T) -> bool {
    let full = kept.len() == KEPT;
    if full {
        kept.pop_front();
    }
    kept.push_back(entry);
    full
}

impl History {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, request: SeenRequest) {
        let mut notes = self.notes();
        notes.unanswered.insert(request.connection, request.correlation_id);
        push(&mut notes.requests, request);
    }

    /// An answer goes out, with this correlation id.
    pub(super) fn answered(&self, broker: i32, connection: u64, correlation_id: i32, at: Duration) {
        let mut notes = self.notes();
        if notes.unanswered.remove(&connection) != Some(correlation_id) {
            let message = format!("an answer to request {correlation_id}, which was answered before or never made");
            let events = vec![Event::Connection { at, broker, connection }];
            notes.violate(Violation { kind: ViolationKind::AnsweredTwice, message, events });
        }
    }

    /// A connection is gone, and waits for nothing any more.
    pub(super) fn closed(&self, connection: u64) {
        self.notes().unanswered.remove(&connection);
    }

    /// Gives the number of the first.
    pub(super) fn note_batches(&self, sent: &[Sent]) -> u64 {
        let mut notes = self.notes();
        let first = notes.batches_dropped + notes.batches.len() as u64;
        for sent in sent {
            notes.batches_dropped += u64::from(push(&mut notes.batches, sent.clone()));
        }
        first
    }

    /// What the client was told of the batches from this number on.
    pub(super) fn note_answers(&self, first: u64, answers: Vec<Option<Result<i64, i16>>>) {
        let mut notes = self.notes();
        for (number, answer) in (first..).zip(answers) {
            let index = number.checked_sub(notes.batches_dropped).and_then(|index| usize::try_from(index).ok());
            if let Some(sent) = index.and_then(|index| notes.batches.get_mut(index)) {
                sent.batch.answer = answer;
            }
        }
    }

    pub(super) fn note_commit(&self, commit: SeenCommit) {
        push(&mut self.notes().commits, commit);
    }

    pub(super) fn note_violation(&self, violation: Violation) {
        self.notes().violate(violation);
    }

    pub(super) fn requests(&self) -> Vec<SeenRequest> {
        self.notes().requests.iter().cloned().collect()
    }

    pub(super) fn clear_requests(&self) {
        self.notes().requests.clear();
    }

    /// Those that were noticed as they happened.
    pub(super) fn violations(&self) -> Vec<Violation> {
        self.notes().violations.clone()
    }

    pub(super) fn recorded(&self) -> Recorded {
        let notes = self.notes();
        Recorded {
            batches: notes.batches.iter().cloned().collect(),
            batches_dropped: notes.batches_dropped > 0,
            commits: notes.commits.iter().cloned().collect(),
            violations: notes.violations.clone(),
        }
    }
}

impl Notes {
    fn violate(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS {
            self.violations.push(violation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_with_requests() {
        let history = History::default();
        let request = |connection, correlation_id| SeenRequest {
            api: Api::Metadata,
            version: 9,
            broker: 1,
            connection,
            correlation_id,
            client_id: None,
            size: 20,
            at: Duration::ZERO,
        };
        history.note(request(1, 7));
        history.note(request(2, 7));
        history.answered(1, 1, 7, Duration::ZERO);
        history.answered(1, 2, 7, Duration::ZERO);
        assert!(history.violations().is_empty());
        history.answered(1, 2, 7, Duration::ZERO);
        history.note(request(2, 8));
        history.answered(1, 2, 9, Duration::ZERO);
        let found = history.violations();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|violation| violation.kind == ViolationKind::AnsweredTwice), "{found:?}");
        assert_eq!(
            found[0].to_string(),
            "broker 1, connection 2: an answer to request 7, which was answered before or never made"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let history = History::default();
        let commit = |offset| SeenCommit {
            at: Duration::ZERO,
            broker: 1,
            connection: 1,
            group: String::new(),
            topic: String::new(),
            partition: 0,
            offset,
            log_end: 0,
        };
        (0..KEPT as i64 + 5).for_each(|offset| history.note_commit(commit(offset)));
        let kept = history.recorded().commits;
        assert_eq!((kept.len(), kept[0].offset), (KEPT, 5));
        let violation = || Violation { kind: ViolationKind::TrailingBytes, message: String::new(), events: Vec::new() };
        (0..VIOLATIONS + 5).for_each(|_| history.note_violation(violation()));
        assert_eq!(history.violations().len(), VIOLATIONS);
    }
}
