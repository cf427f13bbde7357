//! What was promised, checked on one history: what was on the wire, here; what callers were told beside what is in the
//! logs, by the judge of all histories. What the judge cannot know is added to its verdict: whether a record had any time
//! left when it was given up, and whether anything was left open of one that ended as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::broker::{Partition, Stamp};
use super::judge::{self, Logs, Order, Terms, judge};
use super::{Faults, Micros, Plan, Summary};
use crate::machine::connection::Token;

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
    /// Everything that its caller was told.
    ends: Vec<(Micros, Outcome)>,
    attempts: u32,
    was_written: bool,
    /// An attempt ended so that nobody can know whether it was appended.
    is_open: bool,
    /// Appended after everything has healed, so it must arrive.
    must_arrive: bool,
}

impl Record {
    fn outcome(&self) -> Option<Outcome> {
        self.ends.last().map(|(_, outcome)| *outcome)
    }

    /// For the judge.
    fn sent(&self) -> judge::Sent {
        let end = |(at, outcome): &(Micros, Outcome)| {
            let outcome = match *outcome {
                Outcome::Acknowledged(offset) => {
                    judge::Outcome::Acknowledged { partition: self.partition as i32, offset }
                }
                Outcome::NotWritten => judge::Outcome::NotWritten(String::new()),
                Outcome::Unknown => judge::Outcome::Unknown(String::new()),
            };
            (Duration::from_micros(*at), outcome)
        };
        judge::Sent { enqueued: Duration::from_micros(self.since), ends: self.ends.iter().map(end).collect() }
    }
}

/// What a partition has sent.
#[derive(Clone)]
struct Sent {
    stamp: Stamp,
    records: Vec<u32>,
    bytes: Bytes,
}

impl Sent {
    fn end(&self) -> i32 {
        ((i64::from(self.stamp.sequence) + self.records.len() as i64) % (1 << 31)) as i32
    }
}

/// One partition, as the wire shows it.
#[derive(Default)]
struct Wire {
    /// Under the newest identity, in order.
    chain: Vec<Sent>,
    /// The first record of each batch that waits for an answer, by (connection, token).
    in_flight: BTreeMap<(usize, Token), u32>,
    /// Those of them whose first record has ended as unknown.
    told: BTreeSet<(usize, Token)>,
    /// The leader's last word was an acknowledgement (rule 6).
    is_proven: bool,
    last_settled: Option<u32>,
    /// Where its last request went.
    line: usize,
}

pub(super) struct Ledger {
    records: Vec<Record>,
    wires: Vec<Wire>,
    is_idempotent: bool,
    window: usize,
    first_sequence: i32,
    first_epoch: i16,
    is_closed: bool,
    /// Nothing is refused for good, and no leader loses track of a producer: a batch is tried until its deadline.
    is_patient: bool,
    delivery_timeout: Micros,
    pub(super) pending: usize,
    pub(super) problems: Vec<String>,
    pub(super) summary: Summary,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        let Faults { refuse_for_good, lose_track, leave_open, expiries, .. } = plan.faults;
        // An old broker takes no first sequence but 0.
        let is_unknown = plan.is_old_broker && plan.first_sequence != 0;
        let is_refused = is_unknown || refuse_for_good + lose_track + leave_open + expiries > 0;
        Self {
            records: Vec::new(),
            wires: (0..plan.partitions).map(|_| Wire::default()).collect(),
            is_idempotent: plan.is_idempotent,
            window: plan.window,
            first_sequence: plan.first_sequence,
            first_epoch: plan.first_epoch,
            is_closed: false,
            is_patient: plan.is_idempotent && !is_refused,
            delivery_timeout: plan.delivery_timeout,
            pending: 0,
            problems: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// A caller's record, in the batch that was begun at `since`.
    pub(super) fn enqueue(&mut self, partition: usize, since: Micros, must_arrive: bool) -> u32 {
        self.pending += 1;
        let record =
            Record { partition, since, ends: Vec::new(), attempts: 0, was_written: false, is_open: false, must_arrive };
        self.records.push(record);
        self.records.len() as u32 - 1
    }

    /// The producer is closed: nothing may be sent any more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// P11, rules 1, 2, 3, 6 and 11: a batch goes on the wire.
    pub(super) fn send(
        &mut self,
        now: Micros,
        via: (usize, Token),
        partition: usize,
        stamp: Stamp,
        records: &[u32],
        bytes: Bytes,
    ) {
        let Stamp { id, epoch, sequence } = stamp;
        self.summary.mix(u64::from(sequence.cast_unsigned()) << 20 ^ u64::from(records[0]));
        self.claim(!self.is_closed, || "P11: sent after close".into());
        let wire = std::mem::take(&mut self.wires[partition]);
        let what = format!("partition {partition}, records {records:?} as {stamp:?}");
        // A batch that ended as unknown keeps its place while what was sent behind it is open.
        let is_followed = wire.chain.iter().any(|sent| sent.records[0] > records[0] && self.is_unended(&sent.records));
        for record in records {
            let (home, outcome) = (self.records[*record as usize].partition, self.records[*record as usize].outcome());
            self.claim(home == partition, || format!("P11: record {record} of partition {home} sent to {partition}"));
            let is_over = match outcome {
                None => false,
                Some(Outcome::Unknown) => !is_followed,
                Some(_) => true,
            };
            self.claim(!is_over, || format!("P4: record {record} sent again after {outcome:?}"));
            self.records[*record as usize].attempts += 1;
        }
        // Whoever waits for it is told at its deadline; from then on it is sent for those behind it, or not at all.
        let deadline = self.records[records[0] as usize].since + self.delivery_timeout;
        let is_late = deadline <= now && self.is_unended(records);
        self.claim(!is_late, || format!("P4: its time was up at {deadline} us, and it is sent at {now}: {what}"));
        // One that ended as unknown is left behind in flight: whatever comes of it, the next epoch does not mind.
        let mut wire = wire;
        let is_told = |first: &u32| self.records[*first as usize].outcome().is_some();
        let told: Vec<_> = wire.in_flight.iter().filter(|(_, first)| is_told(first)).map(|(via, _)| *via).collect();
        wire.in_flight.retain(|_, first| !is_told(first));
        wire.told.extend(told);
        let ahead = wire.in_flight.values().filter(|first| **first < records[0]).count();
        self.claim(!wire.in_flight.values().any(|first| records.contains(first)), || format!("P11: twice: {what}"));
        let window = self.window;
        self.claim(wire.in_flight.len() < window, || format!("P11: more than {window} in flight: {what}"));
        let is_proven = ahead == 0 || wire.is_proven || !self.is_idempotent;
        self.claim(is_proven, || format!("rule 6: behind what this leader has not taken: {what}"));
        let is_alone = !self.is_idempotent || wire.in_flight.keys().all(|(line, _)| *line == via.0);
        self.claim(is_alone, || format!("P3: on two connections at once: {what}"));
        wire.line = via.0;
        // Of a new producer id a leader takes any first sequence.
        wire.is_proven &= wire.chain.last().is_none_or(|newest| newest.stamp.id == id);
        let sent = Sent { stamp, records: records.to_vec(), bytes };
        if self.is_idempotent {
            wire.chain = self.link(wire.chain, sent, wire.in_flight.len(), &what);
            let open = wire.chain.iter().skip_while(|sent| !self.is_unended(&sent.records));
            let count = open.take_while(|sent| sent.records[0] <= records[0]).count();
            self.claim(count <= window, || format!("rule 2: the broker has forgotten the {count}th before: {what}"));
        } else {
            self.claim((id, epoch, sequence) == (-1, -1, -1), || format!("P11: {what} without idempotence"));
        }
        wire.in_flight.insert(via, records[0]);
        self.wires[partition] = wire;
    }

    /// The bytes of a batch leave. What expired before any of its own did leaves no gap in front of it.
    pub(super) fn write(&mut self, partition: usize, records: &[u32]) {
        let gap = self.wires[partition].chain.iter().take_while(|sent| sent.records[0] < records[0]).find(|sent| {
            let first = &self.records[sent.records[0] as usize];
            !first.was_written && !first.ends.is_empty()
        });
        let gap = gap.map(|gap| format!("P11: {:?}, never written, is a gap before {records:?}", gap.records));
        self.problems.extend(gap);
        records.iter().for_each(|record| self.records[*record as usize].was_written = true);
    }

    /// The chain of sequences, with what is sent now.
    fn link(&mut self, mut chain: Vec<Sent>, sent: Sent, in_flight: usize, what: &str) -> Vec<Sent> {
        let Stamp { id, epoch, sequence } = sent.stamp;
        let Some(newest) = chain.last().map(|newest| newest.stamp) else {
            let first = if epoch == self.first_epoch && id == 1 { self.first_sequence } else { 0 };
            self.claim(sequence == first, || format!("P11: a first sequence: {what}"));
            return vec![sent];
        };
        if (newest.id, newest.epoch) != (id, epoch) {
            self.claim((newest.id, newest.epoch) < (id, epoch), || format!("P11: older than {newest:?}: {what}"));
            self.claim(sequence == 0, || format!("P11: a new epoch starts at 0: {what}"));
            self.claim(in_flight == 0, || format!("rule 9: a new epoch with {in_flight} in flight: {what}"));
            let is_open = sent.records.iter().any(|record| self.records[*record as usize].is_open);
            self.claim(!is_open, || format!("rule 3: open, and a new epoch: {what}"));
            return vec![sent];
        }
        let holds = |known: &Sent| known.records.iter().any(|record| sent.records.contains(record));
        if let Some(at) = chain.iter().position(holds) {
            let known = chain[at].clone();
            if known.records == sent.records {
                self.claim(known.stamp == sent.stamp, || format!("rule 2: before it was {:?}: {what}", known.stamp));
                let is_same = known.bytes == sent.bytes || known.bytes.is_empty();
                self.claim(is_same, || format!("rule 2: other bytes: {what}"));
                chain[at].bytes = sent.bytes;
                return chain;
            }
            // A part of one that was too large.
            self.summary.splits += 1;
            let offset = known.records.iter().position(|record| *record == sent.records[0]).unwrap_or_default();
            let expected = ((i64::from(known.stamp.sequence) + offset as i64) % (1 << 31)) as i32;
            self.claim(sequence == expected, || format!("P11: a part, not {expected}: {what}"));
            let (before, rest) = known.records.split_at(offset);
            let after = rest[sent.records.len()..].to_vec();
            let after_stamp = Stamp { sequence: sent.end(), ..sent.stamp };
            // Of the other parts the bytes are not known before they are sent.
            let bytes = Bytes::new();
            let parts = [
                Sent { stamp: known.stamp, records: before.to_vec(), bytes: bytes.clone() },
                sent,
                Sent { stamp: after_stamp, records: after, bytes },
            ];
            chain.splice(at..=at, parts.into_iter().filter(|part| !part.records.is_empty()));
            return chain;
        }
        // Never sent under this identity.
        self.claim(chain.iter().all(|known| known.records[0] < sent.records[0]), || {
            format!("P3: an older one: {what}")
        });
        let outcome = |known: &Sent| self.records[known.records[0] as usize].outcome();
        let is_spent = chain.iter().any(|known| outcome(known) == Some(Outcome::Unknown));
        let mut expected = chain[0].stamp.sequence;
        while let Some(last) = chain.last() {
            if outcome(last) != Some(Outcome::NotWritten) {
                expected = last.end();
                break;
            }
            expected = last.stamp.sequence;
            chain.pop();
        }
        self.claim(!is_spent, || format!("rule 3: behind an open outcome: {what}"));
        self.claim(sequence == expected, || format!("P11: not {expected}: {what}"));
        chain.push(sent);
        chain
    }

    fn is_unended(&self, records: &[u32]) -> bool {
        records.iter().any(|record| self.records[*record as usize].ends.is_empty())
    }

    /// An attempt of this partition was answered, or never will be.
    pub(super) fn end_attempt(&mut self, via: (usize, Token), partition: usize, is_acknowledged: bool) {
        let wire = &mut self.wires[partition];
        if let Some(first) = wire.in_flight.remove(&via) {
            // One that has ended as unknown may have been left behind: its refusal tells nobody anything.
            let is_left = !self.records[first as usize].ends.is_empty();
            wire.is_proven = is_acknowledged || is_left && wire.is_proven;
        } else if wire.told.remove(&via) {
            // Or it keeps its place for those behind it, and its acknowledgement counts for them.
            wire.is_proven |= is_acknowledged;
        }
    }

    /// All attempts of this partition at a leader were taken back.
    pub(super) fn recall(&mut self, partition: usize) {
        self.wires[partition].in_flight.clear();
        self.wires[partition].told.clear();
        self.wires[partition].is_proven = false;
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
            let home = self.records[*record as usize].partition;
            let last = self.wires[home].last_settled.replace(*record);
            let is_in_order = !self.is_idempotent || last < Some(*record);
            self.claim(is_in_order, || format!("rule 1: record {record} is settled behind {last:?}"));
            self.records[*record as usize].ends.push((now, outcome));
            self.pending = self.pending.saturating_sub(1);
        }
    }

    /// The connection that its last request was for.
    pub(super) fn line(&self, partition: usize) -> usize {
        self.wires[partition].line
    }

    /// Whoever waited for them has been told.
    pub(super) fn is_told(&self, records: &[u32]) -> bool {
        !self.is_unended(records)
    }

    /// Every record of the partition that was ever sent has ended, `since` then.
    pub(super) fn is_quiet(&self, partition: usize, since: Micros) -> bool {
        let mut own = self.records.iter().filter(|record| record.partition == partition);
        own.all(|record| record.ends.last().is_some_and(|(at, _)| *at <= since) || record.attempts == 0)
    }

    /// The end of the history. The driver stands still now and then, and may be late by `grace` at all times.
    pub(super) fn finish(
        mut self,
        plan: &Plan,
        logs: &[Partition],
        stalls: &[(Micros, Micros)],
        grace: Micros,
    ) -> Result<Summary, String> {
        let micros = Duration::from_micros;
        let sent: Vec<_> = self.records.iter().map(Record::sent).collect();
        let numbers = |log: &Partition| log.log.iter().map(|record| *record as usize).collect();
        let logs: Logs = (0..).zip(logs.iter().map(numbers)).collect();
        let may_repeat = |record: &Record| !plan.is_idempotent && record.attempts > 1 && record.is_open;
        let repeated = (0..).zip(&self.records).filter(|(_, record)| may_repeat(record)).map(|(number, _)| number);
        let verdict = judge(
            &sent,
            &logs,
            &Terms {
                limit: micros(plan.delivery_timeout + plan.request_timeout),
                stalls: stalls.iter().map(|(from, to)| (micros(*from), micros(*to))).collect(),
                grace: micros(grace),
                // Another producer id cannot fence late copies of an earlier one, so what ended as unknown may come late;
                // and without idempotence any copy may.
                order: match (plan.is_idempotent, plan.window) {
                    (true, _) if plan.first_epoch == 0 => Order::All,
                    (true, _) | (false, 1) => Order::Acknowledged,
                    (false, _) => Order::Any,
                },
                may_repeat: repeated.collect(),
            },
        );
        let is_patient = self.is_patient && !self.is_closed;
        // Unless one before it that surely is not there has left it behind a gap.
        let mut has_gap = vec![false; logs.len()];
        for (id, record) in (0..).zip(&self.records) {
            let Record { partition, since, is_open, must_arrive, .. } = *record;
            let Some((at, outcome)) = record.ends.first().copied() else { continue };
            let mut claim = |holds: bool, what: &str| {
                if !holds {
                    let attempts = record.attempts;
                    self.problems.push(format!(
                        "{what}: record {id} of partition {partition}, {attempts} attempts, {outcome:?}"
                    ));
                }
            };
            let is_acknowledged = matches!(outcome, Outcome::Acknowledged(_));
            let is_early = at < since + plan.delivery_timeout && !is_acknowledged;
            claim(!is_early || !is_patient || has_gap[partition], "P4: given up before its time");
            has_gap[partition] |= outcome == Outcome::NotWritten;
            claim(outcome != Outcome::Unknown || is_open, "P5: it is known");
            claim(!must_arrive || is_acknowledged, "P13: all has healed");
        }
        self.problems.extend(verdict.problems);
        self.summary.records = self.records.len() as u64;
        self.summary.acknowledged = verdict.acknowledged as u64;
        self.summary.not_written = verdict.not_written as u64;
        self.summary.unknown = verdict.unknown as u64;
        if self.problems.is_empty() { Ok(self.summary) } else { Err(self.problems.join("\n")) }
    }

    fn claim(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(what());
        }
    }
}
