//! What was promised, and whether a history kept it: what callers were told beside what the logs hold.
//!
//! It knows nothing of clients or clusters: a history is plain data, wherever it was recorded. The machines alone
//! (`src/machine/simulation`), the whole client on the mock (`tests/stack`, `tests/exhaustive`) and runs on real clusters
//! (`tests/chaos`) all go before this one. P1 to P6 are the promises of `tests/faults.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Since the run began.
pub type Moment = Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged { partition: i32, offset: Option<i64> },
    NotWritten(String),
    Unknown(String),
}

/// One record of the one task that enqueues: its number is its place here, and its value in the log.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub enqueued: Moment,
    /// Everything that its receipt ever said.
    pub ends: Vec<(Moment, Outcome)>,
}

impl Sent {
    fn is_acknowledged(&self) -> bool {
        matches!(self.ends.first(), Some((_, Outcome::Acknowledged { .. })))
    }
}

/// In which order records stand in their partition's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// In which they were enqueued.
    #[default]
    All,
    /// So are those that were acknowledged. Others may come late: a producer's new id cannot fence copies of its former one.
    Acknowledged,
    /// In any.
    Any,
}

/// What was promised, beyond that nothing is lost.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// How long after its enqueueing a record may be without an end.
    pub limit: Duration,
    /// From when to when the client stood still: what was due meanwhile is done when that ends,
    pub stalls: Vec<(Moment, Moment)>,
    /// or so long after it was due.
    pub grace: Duration,
    pub order: Order,
    /// Sent again without idempotence, when nobody could know what had become of them.
    pub may_repeat: BTreeSet<usize>,
}

impl Terms {
    pub fn within(limit: Duration) -> Self {
        Self { limit, ..Self::default() }
    }

    /// When a record that was enqueued then has ended.
    fn due(&self, enqueued: Moment) -> Moment {
        // Between two of them it may have had less time than it takes.
        let awake = |at, (from, to): &(Moment, Moment)| {
            if (*from..*to + self.grace).contains(&(at + self.grace)) { *to } else { at }
        };
        self.stalls.iter().fold(enqueued + self.limit, awake) + self.grace
    }
}

/// What a reader saw, in the order in which it saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Record {
        partition: i32,
        offset: i64,
        number: usize,
    },
    /// An error that it reported of this partition, or of all.
    Event {
        partition: Option<i32>,
        what: String,
    },
}

/// A partition's log, from offset 0: numbers of records.
pub type Logs = BTreeMap<i32, Vec<usize>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub acknowledged: usize,
    pub not_written: usize,
    pub unknown: usize,
    /// Of those, in the log all the same, as they may be.
    pub unknown_in_log: usize,
    pub lost: usize,
    pub duplicated: usize,
    pub reordered: usize,
    /// Said to be absent, and there.
    pub falsely_absent: usize,
    /// Never ended, ended twice, or too late.
    pub unresolved: usize,
    pub resolved_twice: usize,
    pub late: usize,
    /// In the log, and of nobody.
    pub strange: usize,
    /// By those who read along: left out, and seen twice or out of order, without an event that says so.
    pub skipped: usize,
    pub seen_again: usize,
    pub events: usize,
    /// In words, the first ones.
    pub problems: Vec<String>,
}

const MOST_WORDS: usize = 20;

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn count(&mut self, counter: impl Fn(&mut Self) -> &mut usize, problem: String) {
        *counter(self) += 1;
        tell(&mut self.problems, problem);
    }
}

/// The first ones.
pub fn tell(problems: &mut Vec<String>, problem: String) {
    if problems.len() < MOST_WORDS {
        problems.push(problem);
    }
}

/// P1 to P5.
pub fn judge(sent: &[Sent], logs: &Logs, terms: &Terms) -> Verdict {
    let mut verdict = Verdict::default();
    let mut places: Vec<Vec<(i32, i64)>> = vec![Vec::new(); sent.len()];
    for (partition, log) in logs {
        let mut newest = None;
        for (offset, number) in (0..).zip(log) {
            let about = || format!("record {number} at {partition}@{offset}");
            let Some(own) = places.get_mut(*number) else {
                verdict.count(|v| &mut v.strange, format!("strange: {}", about()));
                continue;
            };
            own.push((*partition, offset));
            // The first copy has the place; one task enqueues, so all of a partition keep its order, whatever their keys.
            let has_place = match terms.order {
                Order::All => own.len() == 1,
                Order::Acknowledged => own.len() == 1 && sent[*number].is_acknowledged(),
                Order::Any => false,
            };
            if has_place {
                if newest > Some(*number) {
                    verdict.count(|v| &mut v.reordered, format!("P3 reordered: {} behind {newest:?}", about()));
                }
                newest = newest.max(Some(*number));
            }
        }
    }
    for (number, (Sent { enqueued, ends }, places)) in sent.iter().zip(&places).enumerate() {
        let about = || format!("record {number}, enqueued at {enqueued:?}, told {ends:?}, in the logs at {places:?}");
        if places.len() > 1 && !terms.may_repeat.contains(&number) {
            verdict.count(|v| &mut v.duplicated, format!("P2 duplicated: {}", about()));
        }
        let Some((at, outcome)) = ends.first() else {
            verdict.count(|v| &mut v.unresolved, format!("P4 unresolved: {}", about()));
            continue;
        };
        if ends.len() > 1 {
            verdict.count(|v| &mut v.resolved_twice, format!("P4 resolved twice: {}", about()));
        }
        if *at > terms.due(*enqueued) {
            verdict.count(|v| &mut v.late, format!("P4 later than {:?}: {}", terms.limit, about()));
        }
        match outcome {
            Outcome::Acknowledged { partition, offset } => {
                verdict.acknowledged += 1;
                let is_there = places.iter().any(|(p, o)| p == partition && offset.is_none_or(|offset| offset == *o));
                if !is_there {
                    verdict.count(|v| &mut v.lost, format!("P1 lost: {}", about()));
                }
            }
            Outcome::NotWritten(_) => {
                verdict.not_written += 1;
                if !places.is_empty() {
                    verdict.count(|v| &mut v.falsely_absent, format!("P5 not absent: {}", about()));
                }
            }
            Outcome::Unknown(_) => {
                verdict.unknown += 1;
                verdict.unknown_in_log += usize::from(!places.is_empty());
            }
        }
    }
    verdict
}

/// P6: whoever read along from the beginning saw each record of each log once and in order, or said where not.
pub fn judge_reader(verdict: &mut Verdict, seen: &[Seen], logs: &Logs) {
    let mut next: BTreeMap<i32, i64> = logs.keys().map(|partition| (*partition, 0)).collect();
    let mut excused: BTreeMap<i32, bool> = BTreeMap::new();
    for seen in seen {
        match seen {
            Seen::Event { partition, what } => {
                verdict.events += 1;
                // Only what says that something is missing excuses that something is.
                if what.contains("DataLoss") {
                    let of: Vec<_> = partition.map_or_else(|| logs.keys().copied().collect(), |own| vec![own]);
                    excused.extend(of.into_iter().map(|partition| (partition, true)));
                }
            }
            Seen::Record { partition, offset, number } => {
                let expected = next.insert(*partition, offset + 1).unwrap_or(-1);
                let is_excused = excused.insert(*partition, false) == Some(true);
                let about = format!("record {number} at {partition}@{offset}, and {expected} was next");
                if *offset > expected && !is_excused {
                    verdict.count(|v| &mut v.skipped, format!("a reader skipped: {about}"));
                }
                if *offset < expected && !is_excused {
                    verdict.count(|v| &mut v.seen_again, format!("a reader went back: {about}"));
                }
                let log = logs.get(partition).and_then(|log| log.get(usize::try_from(*offset).ok()?));
                if log != Some(number) {
                    verdict.count(|v| &mut v.strange, format!("a reader saw what is not there ({log:?}): {about}"));
                }
            }
        }
    }
    for (partition, log) in logs {
        let reached = next.get(partition).copied().unwrap_or_default();
        if reached != log.len() as i64 {
            let problem = format!("a reader stopped at {partition}@{reached} of {}", log.len());
            verdict.count(|v| &mut v.skipped, problem);
        }
    }
}

/// What another client read must be what ours did.
pub fn judge_other(verdict: &mut Verdict, name: &str, other: &Logs, logs: &Logs) {
    for (partition, log) in logs {
        let seen = other.get(partition).map_or(&[][..], Vec::as_slice);
        if seen != log {
            let at = seen.iter().zip(log).position(|(a, b)| a != b).unwrap_or_else(|| seen.len().min(log.len()));
            let lengths = format!("{} and {} records", seen.len(), log.len());
            verdict.count(|v| &mut v.strange, format!("{name} reads {partition}@{at} differently: {lengths}"));
        }
    }
}

/// From a new leader's election to the first acknowledgement that it gave.
#[derive(Clone, Debug)]
pub struct Election {
    pub partition: i32,
    pub epoch: i32,
    /// When somebody was still told of the old leader, and when first of the new one.
    pub after: Moment,
    pub seen: Moment,
    /// When the producer's client had heard of it.
    pub learned: Option<Moment>,
}

/// For each election how long the first acknowledgement took, counted from when the old leader was last seen: at least as
/// long as it was. None of a partition that had nothing to send.
pub fn recoveries<'a>(sent: &'a [Sent], elections: &'a [Election]) -> Vec<(Election, Duration)> {
    let mut acknowledged: BTreeMap<i32, Vec<Moment>> = BTreeMap::new();
    for (at, outcome) in sent.iter().filter_map(|sent| sent.ends.first()) {
        if let Outcome::Acknowledged { partition, .. } = outcome {
            acknowledged.entry(*partition).or_default().push(*at);
        }
    }
    acknowledged.values_mut().for_each(|times| times.sort_unstable());
    let first = |election: &Election| {
        let times = acknowledged.get(&election.partition)?;
        let at = times.get(times.partition_point(|at| *at < election.after))?;
        Some((election.clone(), *at - election.after))
    };
    elections.iter().filter_map(first).collect()
}
