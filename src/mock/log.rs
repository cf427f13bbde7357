//! The log of one partition: batches as they came, offsets, leader epochs, and who produced what.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::batch::{Batch, Header, NO_TIMESTAMP, Rejection, walk};
use super::producers::{Producers, Verdict};

/// A batch in the log. Header and records stay apart, so that the records remain a slice of the frame they came in.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) header: Header,
    raw: Bytes,
    pub(super) records: Bytes,
}

impl Stored {
    pub(super) fn size(&self) -> usize {
        self.raw.len() + self.records.len()
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) base_offset: i64,
    /// When the broker appended it, if that is what the topic's timestamps are; -1 otherwise.
    pub(super) log_append_time: i64,
    /// It was in the log before.
    pub(super) duplicate: bool,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: VecDeque<Stored>,
    /// Bytes of all batches.
    bytes: u64,
    start: i64,
    end: i64,
    /// First offset of each leader epoch.
    epochs: BTreeMap<i32, i64>,
    producers: Producers,
}

impl Log {
    /// The first offset that can be read.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record gets. There is one copy of the log, so it is the high watermark too.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn batches(&self) -> impl Iterator<Item = &Stored> {
        self.batches.iter()
    }

    /// A leader begins its epoch here.
    pub(super) fn begin_epoch(&mut self, epoch: i32) {
        // An epoch in which nothing was appended leaves no trace, as in Kafka.
        self.epochs.retain(|_, start| *start < self.end);
        self.epochs.insert(epoch, self.end);
    }

    pub(super) fn append(&mut self, mut batch: Batch, epoch: i32, log_append_time: bool) -> Result<Placed, Rejection> {
        if batch.header.has_producer()
            && let Verdict::Duplicate { first_offset, max_timestamp } = self.producers.check(&batch.header)?
        {
            // A real broker puts the batch's timestamp there, whatever the timestamp type.
            return Ok(Placed { base_offset: first_offset, log_append_time: max_timestamp, duplicate: true });
        }
        batch.place(self.end, epoch);
        let (header, raw, records) = batch.into_parts();
        if header.has_producer() {
            self.producers.appended(&header);
        }
        let time = if log_append_time { header.max_timestamp } else { NO_TIMESTAMP };
        let placed = Placed { base_offset: self.end, log_append_time: time, duplicate: false };
        self.end = header.last_offset() + 1;
        let stored = Stored { header, raw, records };
        self.bytes += stored.size() as u64;
        self.batches.push_back(stored);
        Ok(placed)
    }

    /// Index of the batch that holds `offset`, or of the first after it.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.header.last_offset() < offset)
    }

    /// Reads from `offset` on, as many bytes as allowed, so the last batch may be cut short. A first batch that is
    /// larger than `max_bytes` is given whole with `at_least_one`, and not at all otherwise.
    pub(super) fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Vec<Bytes> {
        let mut batches = self.batches.range(self.index_of(offset)..);
        let Some(first) = batches.next() else { return Vec::new() };
        if first.size() > max_bytes && !at_least_one {
            return Vec::new();
        }
        let mut segments = vec![first.raw.clone(), first.records.clone()];
        let mut left = max_bytes.saturating_sub(first.size());
        for segment in batches.flat_map(|batch| [&batch.raw, &batch.records]) {
            if left == 0 {
                break;
            }
            let taken = segment.len().min(left);
            segments.push(segment.slice(..taken));
            left -= taken;
        }
        segments
    }

    /// The first record at `timestamp` or later: its timestamp, offset and leader epoch.
    pub(super) fn find_time(&self, timestamp: i64) -> Option<(i64, i64, i32)> {
        let mut found = None;
        for batch in self.batches().filter(|batch| batch.header.max_timestamp >= timestamp) {
            each_time(batch, |time, offset| {
                if found.is_none() && time >= timestamp && offset >= self.start {
                    found = Some((time, offset, batch.header.leader_epoch));
                }
            });
            if found.is_some() {
                break;
            }
        }
        found
    }

    /// The record with the largest timestamp, the first of them if there are several.
    pub(super) fn latest_time(&self) -> Option<(i64, i64, i32)> {
        let latest = self.batches().map(|batch| batch.header.max_timestamp).max()?;
        self.find_time(latest)
    }

    /// The epoch of the first record, or of the leader that would append it.
    pub(super) fn epoch_at_start(&self) -> Option<i32> {
        self.epochs.iter().rfind(|(_, start)| **start <= self.start).map(|(epoch, _)| *epoch)
    }

    /// Where `epoch` ended: the largest epoch that is not above it, and the offset at which the next one began. `None`
    /// for an epoch above the latest, and for "no epoch" (-1).
    pub(super) fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let latest = *self.epochs.last_key_value()?.0;
        if epoch < 0 || epoch > latest {
            return None;
        }
        if epoch == latest {
            return Some((epoch, self.end));
        }
        let next = *self.epochs.range(epoch + 1..).next()?.1;
        let at_or_below = self.epochs.range(..=epoch).next_back().map_or(epoch, |(epoch, _)| *epoch);
        Some((at_or_below, next))
    }

    /// Drops what is at `offset` and above, whole batches only: where a follower that lags behind takes over.
    pub(super) fn truncate(&mut self, offset: i64) {
        while self.batches.back().is_some_and(|batch| batch.header.last_offset() >= offset) {
            let dropped = self.batches.pop_back();
            self.bytes -= dropped.map_or(0, |batch| batch.size() as u64);
        }
        let kept = self.batches.back().map_or(self.start, |batch| batch.header.last_offset() + 1);
        self.end = kept.max(self.start);
        self.epochs.retain(|_, start| *start < self.end);
        self.producers = Producers::default();
        for batch in self.batches.iter().filter(|batch| batch.header.has_producer()) {
            self.producers.appended(&batch.header);
        }
    }

    /// Drops what is below `offset`, as retention and DeleteRecords do. Records before it may stay in the first batch.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        while self.batches.front().is_some_and(|batch| batch.header.last_offset() < self.start) {
            let dropped = self.batches.pop_front();
            self.bytes -= dropped.map_or(0, |batch| batch.size() as u64);
        }
    }

    /// Keeps about this many bytes: drops first batches while what is left is still as much.
    pub(super) fn retain_bytes(&mut self, bytes: u64) {
        while let Some(first) = self.batches.front()
            && self.bytes - first.size() as u64 >= bytes
            && self.batches.len() > 1
        {
            self.delete_before(first.header.last_offset() + 1);
        }
    }

    pub(super) fn forget_producers(&mut self) {
        self.producers = Producers::default();
    }
}

/// Timestamps and offsets of a batch's records. A compressed batch counts as one record with its largest timestamp.
fn each_time(batch: &Stored, mut visit: impl FnMut(i64, i64)) {
    let header = &batch.header;
    if header.codec() != Ok(None) {
        return visit(header.max_timestamp, header.base_offset);
    }
    let walked = walk(header, &batch.records, |record| {
        visit(record.timestamp, header.base_offset + i64::from(record.offset_delta));
        Ok(())
    });
    debug_assert!(walked.is_ok(), "what is in the log has been checked");
}
