//! What was promised, checked on one history: what callers were told, what was on the wire, what is in the logs.

use bytes::Bytes;

use super::broker::{Partition, Stamp};
use super::{Micros, Plan, Summary};

/// How a record ended for its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Acknowledged(Option<i64>),
    NotWritten,
    Unknown,
}

struct Record {
    partition: usize,
    /// When the first record of its batch came, which starts the clock.
    since: Micros,
    outcome: Option<(Micros, Outcome)>,
    attempts: u32,
    /// An attempt ended so that nobody can know whether it was appended.
    is_open: bool,
    /// Appended after everything has healed, so it must arrive.
    must_arrive: bool,
}

/// What a partition last sent.
struct Sent {
    stamp: Stamp,
    records: Vec<u32>,
    bytes: Bytes,
}

pub(super) struct Ledger {
    records: Vec<Record>,
    sent: Vec<Option<Sent>>,
    is_idempotent: bool,
    first_sequence: i32,
    is_closed: bool,
    pub(super) pending: usize,
    pub(super) problems: Vec<String>,
    pub(super) summary: Summary,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            records: Vec::new(),
            sent: (0..plan.partitions).map(|_| None).collect(),
            is_idempotent: plan.is_idempotent,
            first_sequence: plan.first_sequence,
            is_closed: false,
            pending: 0,
            problems: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// A caller's record, in the batch that was begun at `since`.
    pub(super) fn enqueue(&mut self, partition: usize, since: Micros, must_arrive: bool) -> u32 {
        self.pending += 1;
        let record = Record { partition, since, outcome: None, attempts: 0, is_open: false, must_arrive };
        self.records.push(record);
        self.records.len() as u32 - 1
    }

    /// The producer is closed: nothing may be sent any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// P11, rules 2, 3 and 11: a batch goes on the wire.
    pub(super) fn send(&mut self, partition: usize, stamp: Stamp, records: &[u32], bytes: Bytes) {
        let Stamp { id, epoch, sequence } = stamp;
        self.summary.mix(u64::from(sequence.cast_unsigned()) << 20 ^ u64::from(records[0]));
        self.claim(!self.is_closed, || "P11: sent after close".into());
        let before = self.sent[partition].take();
        for record in records {
            let Record { partition: home, outcome, .. } = self.records[*record as usize];
            self.claim(home == partition, || format!("P11: record {record} of partition {home} sent to {partition}"));
            self.claim(outcome.is_none(), || format!("P4: record {record} sent again after {outcome:?}"));
            self.records[*record as usize].attempts += 1;
        }
        let what = format!("partition {partition}, records {records:?} as {stamp:?}");
        if !self.is_idempotent {
            self.claim((id, epoch, sequence) == (-1, -1, -1), || format!("P11: {what} without idempotence"));
        } else if let Some(before) = before {
            let is_same = (before.stamp.id, before.stamp.epoch) == (id, epoch);
            let is_newer = (before.stamp.id, before.stamp.epoch) < (id, epoch);
            let head = &self.records[before.records[0] as usize];
            let (ended, was_open) = (head.outcome.map(|(_, outcome)| outcome), head.is_open);
            let count = before.records.len() as i64;
            let next = ((i64::from(before.stamp.sequence) + count) % (1 << 31)) as i32;
            let what = || format!("{what}, behind {:?} as {:?} ({ended:?})", before.records, before.stamp);
            self.claim(is_same || is_newer, || format!("P11: an older identity: {}", what()));
            self.claim(!is_newer || sequence == 0, || format!("P11: a new epoch starts at 0: {}", what()));
            if before.records == records {
                self.claim(is_same || !was_open, || format!("rule 3: open, and a new epoch: {}", what()));
                self.claim(!is_same || before.bytes == bytes, || format!("rule 2: other bytes: {}", what()));
            } else {
                self.claim(before.records[0] < records[0], || format!("P3: an older batch: {}", what()));
                self.claim(ended.is_some(), || format!("rule 1: sent before the head ended: {}", what()));
                let expected = match ended {
                    Some(Outcome::NotWritten) => before.stamp.sequence,
                    _ => next,
                };
                self.claim(!is_same || sequence == expected, || format!("P11: not {expected}: {}", what()));
                let is_spent = ended == Some(Outcome::Unknown);
                self.claim(is_newer || !is_spent, || format!("rule 3: behind an open outcome: {}", what()));
            }
        } else {
            let first = if self.first_sequence != 0 && epoch == 0 { self.first_sequence } else { sequence };
            self.claim(sequence == first || sequence == 0, || format!("P11: a first sequence: {what}"));
        }
        self.sent[partition] = Some(Sent { stamp, records: records.to_vec(), bytes });
    }

    /// An attempt at these records ended, and they may be in the log.
    pub(super) fn leave_open(&mut self, records: &[u32]) {
        for record in records {
            self.records[*record as usize].is_open = true;
        }
    }

    pub(super) fn settle(&mut self, now: Micros, records: &[u32], outcome: Outcome) {
        for (index, record) in (0..).zip(records) {
            let outcome = match outcome {
                Outcome::Acknowledged(base) => Outcome::Acknowledged(base.map(|base| base + index)),
                failure => failure,
            };
            self.summary.mix(now ^ u64::from(*record) << 40);
            let before = self.records[*record as usize].outcome.replace((now, outcome));
            self.claim(before.is_none(), || format!("P4: record {record} ends as {outcome:?}, before as {before:?}"));
            self.pending = self.pending.saturating_sub(1);
        }
    }

    /// Every record of the partition that was ever sent has ended.
    pub(super) fn is_quiet(&self, partition: usize) -> bool {
        let mut own = self.records.iter().filter(|record| record.partition == partition);
        own.all(|record| record.outcome.is_some() || record.attempts == 0)
    }

    /// The end of the history. `late`: how much later than promised the driver may be at a moment, by its own doing.
    pub(super) fn finish(
        mut self,
        plan: &Plan,
        logs: &[Partition],
        late: impl Fn(Micros) -> Micros,
    ) -> Result<Summary, String> {
        for (id, record) in (0..).zip(&self.records) {
            let Record { partition, since, attempts, is_open, must_arrive, .. } = *record;
            let log = &logs[partition].log;
            let places = || log.iter().zip(0_i64..).filter(|(logged, _)| **logged == id).map(|(_, offset)| offset);
            let count = places().count();
            let about = format!("record {id} of partition {partition}, {count} times in the log, {attempts} attempts");
            let mut claim = |holds: bool, what: &str| {
                if !holds {
                    self.problems.push(format!("{what}: {about}, {:?}", record.outcome));
                }
            };
            let Some((at, outcome)) = record.outcome else {
                claim(false, "P4, P13: never ended");
                continue;
            };
            let limit = since + plan.delivery_timeout + plan.request_timeout;
            claim(at <= late(limit), "P4: too late");
            claim(count <= 1 || (!plan.is_idempotent && attempts > 1 && is_open), "P2: a duplicate");
            match outcome {
                Outcome::Acknowledged(Some(offset)) => claim(places().any(|place| place == offset), "P1: not there"),
                Outcome::Acknowledged(None) => claim(count > 0, "P1: lost"),
                Outcome::NotWritten => claim(count == 0, "P5: it was written"),
                Outcome::Unknown => claim(is_open, "P5: it is known"),
            }
            claim(!must_arrive || matches!(outcome, Outcome::Acknowledged(_)), "P13: all has healed");
            match outcome {
                Outcome::Acknowledged(_) => self.summary.acknowledged += 1,
                Outcome::NotWritten => self.summary.not_written += 1,
                Outcome::Unknown => self.summary.unknown += 1,
            }
        }
        // Another producer id cannot fence late copies of an earlier one, so what ended as unknown may come late; and
        // without idempotence any copy may.
        let is_fenced = plan.is_idempotent && plan.first_epoch == 0;
        for (partition, log) in logs.iter().enumerate() {
            let mut seen = vec![false; self.records.len()];
            let mut newest = None;
            for record in &log.log {
                let is_first = !std::mem::replace(&mut seen[*record as usize], true);
                let outcome = self.records[*record as usize].outcome.map(|(_, outcome)| outcome);
                if is_first && (is_fenced || matches!(outcome, Some(Outcome::Acknowledged(_)))) {
                    if newest > Some(*record) {
                        self.problems.push(format!("P3: partition {partition}: record {record} behind {newest:?}"));
                    }
                    newest = newest.max(Some(*record));
                }
            }
        }
        self.summary.records = self.records.len() as u64;
        if self.problems.is_empty() { Ok(self.summary) } else { Err(self.problems.join("\n")) }
    }

    fn claim(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(what());
        }
    }
}
