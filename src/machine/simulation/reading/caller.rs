//! The caller: what it knows of its partitions, what it is told, and whether that is true.

use std::collections::VecDeque;

use super::Plan;
use super::broker::Log;
use super::judge::{Logs, Seen, Verdict, judge_reader};
use super::world::World;
use crate::machine::credit::PartitionId;
use crate::machine::fetch::Fetched;
use crate::machine::offsets::{Problem, Reset, Start};
use crate::wire::leader::list_offsets::{EARLIEST, LATEST};

/// What the caller knows of one partition.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) generation: u64,
    /// Where it goes on; `None`: not known yet.
    pub(super) position: Option<i64>,
    /// What comes next must begin here.
    pub(super) expected: Option<i64>,
    /// The last record that it read, since it was somewhere by a report or by its own wish.
    last: Option<usize>,
    /// The last record that was fetched since then, at its offset.
    newest: Option<(i64, usize)>,
    has_fetched: bool,
    buffered: VecDeque<Fetched>,
    pub(super) is_paused: bool,
    is_halted: bool,
    /// It was told that records are missing, and that it goes on there.
    excused: Option<i64>,
    /// Until it has landed where it began or sought.
    pub(super) landing: Option<Landing>,
    /// What a group would have of it: an offset and the epoch of the record before that.
    pub(super) committed: Option<(i64, i32)>,
}

impl Caller {
    /// The last record that was fetched is in the log.
    pub(super) fn has_what_is_in(&self, log: &Log) -> bool {
        self.newest.is_none_or(|(offset, number)| log.number_at(offset) == Some(number))
    }
}

/// Where a caller that began or sought may find itself.
pub(super) struct Landing {
    start: Start,
    /// The lowest and the highest that its log has said since.
    range: Option<(i64, i64)>,
    /// Nothing was as young, for a while: then it is the end, by a question of its own.
    is_beyond: bool,
    /// It was told that its offset is not in the log.
    pub(super) is_out: bool,
}

impl Landing {
    pub(super) fn new(start: Start) -> Self {
        Self { start, range: None, is_beyond: false, is_out: false }
    }

    fn include(&mut self, offset: i64) {
        let (low, high) = self.range.unwrap_or((offset, offset));
        self.range = Some((low.min(offset), high.max(offset)));
    }

    fn may_be(&self, offset: i64) -> bool {
        let may_differ = self.is_out || !matches!(self.start, Start::At(_));
        may_differ && self.range.is_some_and(|(low, high)| (low..=high).contains(&offset))
    }
}

impl World {
    /// Where somebody who has not landed yet would do so now.
    pub(super) fn watch(&mut self, index: usize) {
        let caller = &mut self.callers[index];
        let Some(landing) = &mut caller.landing else { return };
        let (log, is_committed) = (&self.logs[index], self.plan.is_committed);
        let time = match (landing.start, caller.committed, self.plan.reset) {
            (Start::Committed, Some((offset, _)), _) => return landing.include(offset),
            (Start::Time(time), ..) => time,
            (Start::Earliest, ..) => EARLIEST,
            (Start::Latest, ..) => LATEST,
            // By policy.
            (_, _, Reset::Earliest) => EARLIEST,
            (_, _, Reset::Latest) => LATEST,
            (_, _, Reset::Ago(_) | Reset::None) => return,
        };
        let offset = log.offset_of(time, is_committed);
        if offset >= 0 {
            landing.include(offset);
        }
        landing.is_beyond |= offset < 0;
        if landing.is_beyond {
            landing.include(log.offset_of(LATEST, is_committed));
        }
    }

    pub(super) fn diverged(&mut self, index: usize, generation: u64, end: i64) {
        let caller = &self.callers[index];
        if caller.generation != generation {
            return;
        }
        self.summary.diverged += 1;
        let newest = caller.newest.filter(|(offset, number)| self.logs[index].number_at(*offset) == Some(*number));
        if let Some((offset, number)) = newest.filter(|(offset, _)| *offset >= end) {
            return self.problem(format!(
                "P6: partition {index} is said to be cut at {end}, and record {number} is still at {offset}"
            ));
        }
        let position = caller.position.unwrap_or(end);
        // What it read above is no more, and it is told so; what lies below is what it read.
        let last = caller.last.filter(|_| position <= end);
        self.seek(index, Start::At(position.min(end)));
        // It is no beginning: from there, too, nothing moves without a word.
        (self.callers[index].last, self.callers[index].has_fetched) = (last, true);
    }

    /// By the caller, or in its name.
    pub(super) fn seek(&mut self, index: usize, start: Start) {
        self.drop_buffered(index);
        let caller = &mut self.callers[index];
        let position = if let Start::At(offset) = start { Some(offset) } else { None };
        let (generation, is_paused) = (caller.generation + 1, caller.is_paused);
        let committed = caller.committed;
        let landing = Some(Landing::new(start));
        *caller =
            Caller { generation, is_paused, position, expected: position, landing, committed, ..Caller::default() };
        self.watch(index);
        self.offsets.seek(index as PartitionId, generation, start);
    }

    /// The machine has found where a partition goes on.
    pub(super) fn place(&mut self, index: usize, generation: u64, offset: i64) {
        let caller = &mut self.callers[index];
        if caller.generation != generation {
            return;
        }
        // Where it begins, the log says; or the policy, if it is not to be had. Later on, nothing moves without a word.
        let is_told = caller.excused.take() == Some(offset);
        let landing =
            caller.landing.take().filter(|landing| !caller.has_fetched && !is_told && !landing.may_be(offset));
        if let Some(Landing { start, range, .. }) = landing {
            return self.problem(format!(
                "P6: partition {index} begins at {start:?}, and lands at {offset}; the log has said {range:?} since"
            ));
        }
        if caller.has_fetched && caller.expected != Some(offset) && !is_told {
            let expected = caller.expected;
            self.problem(format!("P6: partition {index} goes on at {offset} without a word, not at {expected:?}"));
            return;
        }
        if caller.expected != Some(offset) {
            caller.expected = Some(offset);
            if caller.buffered.is_empty() {
                (caller.position, caller.last) = (Some(offset), None);
            }
        }
    }

    pub(super) fn report(&mut self, index: usize, generation: u64, problem: &Problem) {
        if self.callers[index].generation != generation {
            return;
        }
        match problem {
            Problem::Lost { expected, next } => {
                self.summary.lost += 1;
                let known = self.callers[index].expected;
                if known != Some(*expected) {
                    self.problem(format!(
                        "P6: {expected} is said to be lost of partition {index}, which was at {known:?}"
                    ));
                }
                let caller = &mut self.callers[index];
                caller.excused = Some(*next);
                let newest = caller.newest.take().filter(|(offset, _)| offset + 1 == *expected);
                let log = &self.logs[index];
                let is_there = *expected >= log.start
                    && newest.is_some_and(|(offset, number)| log.number_at(offset) == Some(number));
                // Its beginning may have moved since it was asked for, and never goes back.
                let is_beyond = *expected < log.start && *next > log.start && self.plan.reset != Reset::Latest;
                if is_there || is_beyond {
                    let start = log.start;
                    self.problem(format!(
                        "P6: {expected} is said to be lost of partition {index}, and {next} to be next; it begins at {start}"
                    ));
                }
            }
            Problem::OutOfRange(_) | Problem::Unreadable { .. } | Problem::NoPosition => {
                self.summary.halted += 1;
                self.callers[index].is_halted = true;
            }
            _ => {}
        }
    }

    pub(super) fn deliver(&mut self, id: PartitionId, generation: u64, fetched: Fetched) {
        let caller = &mut self.callers[id as usize];
        if caller.generation != generation {
            return;
        }
        if caller.expected != Some(fetched.from) {
            let (expected, from) = (caller.expected, fetched.from);
            return self.problem(format!("P6: partition {id} goes on at {from}, and {expected:?} was next"));
        }
        caller.expected = Some(fetched.next);
        (caller.has_fetched, caller.landing) = (true, None);
        let newest = fetched.batches.iter().rev().find(|batch| !batch.header().is_control());
        if let Some(records) = newest.and_then(|batch| batch.clone().into_records().ok()) {
            caller.newest = records.flatten().last().map(|record| (record.offset(), number_of(record.value())));
        }
        self.credit.take(id, fetched.bytes);
        caller.buffered.push_back(fetched);
        let most = self.plan.buffer + self.plan.partitions * self.plan.per_fetch;
        if self.credit.used() > most {
            let used = self.credit.used();
            self.problem(format!(
                "P12: {used} bytes are in use, of {} and a fetch for each partition",
                self.plan.buffer
            ));
        }
    }

    pub(super) fn drop_buffered(&mut self, index: usize) {
        let buffered = std::mem::take(&mut self.callers[index].buffered);
        buffered.iter().for_each(|fetched| self.credit.give_back(index as PartitionId, fetched.bytes));
    }

    /// The caller takes everything that is there.
    pub(super) fn read(&mut self, index: usize) {
        if self.callers[index].is_paused {
            return;
        }
        while let Some(fetched) = self.callers[index].buffered.pop_front() {
            self.credit.give_back(index as PartitionId, fetched.bytes);
            let caller = &mut self.callers[index];
            if caller.position != Some(fetched.from) {
                // It was told of a loss, behind what it has read by now.
                (caller.position, caller.last) = (Some(fetched.from), None);
            }
            for batch in fetched.batches {
                if batch.header().is_control() {
                    continue;
                }
                let epoch = batch.header().partition_leader_epoch;
                let Ok(records) = batch.into_records() else { return self.problem("unreadable records".into()) };
                for record in records.flatten().filter(|record| record.offset() >= fetched.from) {
                    self.see(index, record.offset(), number_of(record.value()));
                }
                if self.random.chance(200) {
                    self.callers[index].committed = Some((fetched.next, epoch));
                }
            }
            let caller = &mut self.callers[index];
            caller.position = Some(fetched.next);
        }
        let caller = &mut self.callers[index];
        // Lost, and what came before that was read.
        if caller.position != caller.expected {
            (caller.position, caller.last) = (caller.expected, None);
        }
        if std::mem::take(&mut caller.is_halted) {
            self.seek(index, Start::Earliest);
        }
    }

    /// P6 once more, by the judge of all histories: where nothing was reported, sought or hidden, what was seen is the log.
    pub(super) fn judged(&mut self) -> Result<(), String> {
        let Plan { faults, reset, begins_where_committed, .. } = &self.drawn;
        let is_moved =
            [faults.transactions, faults.retention, faults.seeks, faults.recreations].iter().any(|rate| *rate > 0);
        let is_reported = self.summary.lost + self.summary.diverged + self.summary.halted > 0;
        if is_moved || is_reported || *begins_where_committed || *reset == Reset::Latest {
            return Ok(());
        }
        self.summary.judged += 1;
        let logs: Logs = (0..).zip(self.logs.iter().map(|log| log.numbers.clone())).collect();
        let mut verdict = Verdict::default();
        judge_reader(&mut verdict, &self.seen, &logs);
        if verdict.is_clean() { Ok(()) } else { Err(verdict.problems.join("\n")) }
    }

    /// P6 and P8: in some version of the log this followed what the caller had read.
    fn see(&mut self, index: usize, offset: i64, number: usize) {
        self.summary.read += 1;
        self.summary.mix(self.now ^ (number as u64) << 32);
        self.seen.push(Seen::Record { partition: index as i32, offset, number });
        let Some(entry) = self.truth.entries.get(number) else {
            return self.problem(format!("P15: partition {index} has a record that nobody wrote, at {offset}"));
        };
        let about = format!("record {number} at {index}@{offset}");
        if (entry.partition, entry.offset) != (index, offset) {
            let (partition, at) = (entry.partition, entry.offset);
            return self.problem(format!("P6: {about} is that of {partition}@{at}"));
        }
        if !self.truth.is_visible(number, self.plan.is_committed) {
            return self.problem(format!("P8: {about} was aborted, or ends a transaction"));
        }
        let before = self.truth.before(number, self.plan.is_committed);
        let caller = &mut self.callers[index];
        let follows = match (caller.last.replace(number), caller.position) {
            (Some(last), _) => before == Some(last),
            (None, Some(from)) => {
                let is_first = before.is_none_or(|before| self.truth.entries[before].offset < from);
                offset >= from && is_first
            }
            (None, None) => false,
        };
        if !follows {
            let from = caller.position;
            self.problem(format!("P6: {about} does not follow what was read, from {from:?}; {before:?} is before it"));
        }
    }
}

/// Which one of all that were ever appended.
fn number_of(value: Option<&[u8]>) -> usize {
    value.and_then(|value| value.first_chunk().copied()).map_or(usize::MAX, |bytes| u32::from_be_bytes(bytes) as usize)
}
