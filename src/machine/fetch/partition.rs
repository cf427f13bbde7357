//! One partition at a leader: what it wants, and what it makes of the bytes that come for it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::PROBE;
use super::output::{Config, Fetched, Route, Seen, Why};
use crate::machine::aborted::Aborted;
use crate::machine::backoff::Backoff;
use crate::machine::planted::bug;
use crate::record::{self, Batches, RecordError};
use crate::wire::leader::fetch::PartitionData;
use crate::wire::message::Records;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) route: Route,
    /// When it came, in counts: an answer to what was asked before is not for it.
    pub(super) stamp: u64,
    /// There may be data: not known to be at the end of the log.
    pub(super) fresh: bool,
    /// The log goes on behind what came: there is data for certain.
    pub(super) is_behind: bool,
    /// What the last answer brought for the caller, in bytes.
    pub(super) fetched: usize,
    /// The last answer brought nothing although the log goes on: the broker had no room for its first batch. Once is
    /// normal, and the partition comes first next time; twice in a row is as good as an end, but that it is asked for as
    /// much as if it had data: its share alone may be smaller than the batch.
    pub(super) left_out: bool,
    /// It was at its end: when the immediate lane looks again.
    pub(super) probe_at: Option<Instant>,
    pub(super) not_before: Option<Instant>,
    pub(super) backoff: Backoff,
    /// When it was last given data, in counts: whoever waits longest comes first.
    pub(super) served: u64,
    /// What was no record batch here will be reported when it is none again.
    pub(super) suspect: Option<i64>,
    /// A batch in front of it is larger than a fetch was.
    pub(super) needs: usize,
    /// Answers in a row that had bytes and led nowhere.
    pub(super) stalls: u32,
    /// The largest batch of the last answer that had any.
    pub(super) largest: usize,
    pub(super) seen: Seen,
}

/// Answers in a row that had bytes and led nowhere, before that is an error.
const MAX_STALLS: u32 = 3;
impl Partition {
    /// There is nothing more for now.
    pub(super) fn at_end(&mut self, now: Instant) {
        self.probe_at = Some(now + PROBE);
        self.fresh = false;
        self.is_behind = false;
        self.left_out = false;
        self.backoff.reset();
    }

    /// It is not to be asked for now, even if no lane has it.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.route.is_paused || self.not_before.is_some_and(|at| now < at)
    }

    /// There is more of it, and of what is `used` nothing was left when its last fetch came: whoever reads it waits.
    pub(super) fn is_dry(&self, used: usize) -> bool {
        self.is_behind && used <= self.fetched
    }

    /// How much to ask for: as many batches as go into the limit, by the size of the last ones. The broker cuts where the
    /// limit is, and a batch that it cuts comes twice.
    pub(super) fn wants(&self, limit: usize) -> usize {
        let slack = self.largest / 64;
        match limit.checked_div(self.largest) {
            _ if self.needs > 0 => limit.max(self.needs),
            None | Some(0) => limit,
            Some(count) => (count * self.largest).saturating_add(slack).min(limit),
        }
    }

    /// Takes the whole batches, as far as they are sound and lie ahead.
    pub(super) fn handle_records(
        &mut self,
        now: Instant,
        data: PartitionData,
        config: &Config,
        served: u64,
        random: u64,
    ) -> (Option<Fetched>, Option<Why>) {
        let end = end_of(&data, config);
        let Records(records) = data.records.unwrap_or_default();
        if records.is_empty() {
            // A batch larger than what the answer had left for it is not sent at all, unless it is the first.
            let was_left_out = self.left_out;
            self.at_end(now);
            self.left_out = end > self.route.offset;
            self.fresh = self.left_out && !was_left_out;
            return (None, None);
        }
        self.left_out = false;
        let from = self.route.offset;
        // Without the isolation the list means nothing, whatever a broker sends (rule 39).
        let aborted = data.aborted_transactions.filter(|_| config.read_committed).unwrap_or_default();
        let Walk { fetched, next, fault, needs, largest, seen } =
            walk(records, from, config.check_crcs && !bug("checksums_do_not_matter"), Aborted::new(aborted));
        self.route.offset = next;
        if next > from {
            (self.largest, self.seen) = (largest, seen);
        }
        self.fresh = true;
        self.is_behind = next > from && end > next;
        self.fetched = fetched.bytes;
        if next > from {
            self.served = served;
            self.needs = 0;
            self.stalls = 0;
            self.backoff.reset();
        }
        let fetched = (next > from).then_some(fetched);
        match fault {
            // The same place for the second time: it is not the way here that damaged it.
            Some((error, end)) if self.suspect == Some(next) || matches!(error, RecordError::UnsupportedMagic(_)) => {
                return (fetched, Some(Why::Unreadable { end, error }));
            }
            Some(_) => self.suspect = Some(next),
            None if next == from => {
                self.needs = needs.unwrap_or(0);
                self.stalls += 1;
                if self.stalls >= MAX_STALLS {
                    return (None, Some(Why::NoProgress));
                }
                self.not_before = Some(now + self.backoff.next_delay(random));
            }
            None => self.suspect = None,
        }
        (fetched, None)
    }
}

/// Behind the last record that may be read. Before the last stable offset was known to them, brokers sent -1.
pub(super) fn end_of(data: &PartitionData, config: &Config) -> i64 {
    if config.read_committed && data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark }
}

struct Walk {
    fetched: Fetched,
    next: i64,
    /// What is no batch, and the offset behind it as far as its header can be believed.
    fault: Option<(RecordError, Option<i64>)>,
    needs: Option<usize>,
    largest: usize,
    seen: Seen,
}

/// The batches from `from` on, until the bytes end or are none.
fn walk(records: Bytes, from: i64, check_crcs: bool, mut aborted: Aborted) -> Walk {
    let mut fetched = Fetched { batches: VecDeque::new(), from, next: from, bytes: 0 };
    let (mut next, mut fault, mut walked, mut largest, mut seen) = (from, None, 0, 0, Seen::NOTHING);
    let mut batches = Batches::new(records.clone(), check_crcs);
    for batch in &mut batches {
        match batch {
            Ok(batch) => {
                let size = batch.bytes().len();
                walked += size;
                largest = largest.max(size);
                // Whatever lies below was seen before, but a marker there still ends its transaction.
                let is_hidden = aborted.hides(batch.header()) && !bug("shows_what_was_aborted");
                if batch.header().next_offset() > next {
                    next = batch.header().next_offset();
                    let header = batch.header();
                    seen = Seen { epoch: header.partition_leader_epoch, timestamp: header.max_timestamp };
                    if !is_hidden {
                        fetched.bytes += size;
                        fetched.batches.push_back(batch);
                    }
                }
            }
            Err(error) => {
                let end = records.get(walked..).and_then(record::next_offset);
                fault = Some((error, end.filter(|end| *end > next)));
            }
        }
    }
    fetched.next = next;
    Walk { fetched, next, fault, needs: batches.needs(), largest, seen }
}
