//! The log of one partition: batches as they came, offsets, leader epochs, and who produced what.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::batch::{Batch, Header, Marker, NO_TIMESTAMP, Rejection, put_zigzag};
use super::producers::{Producers, Verdict};
use super::records::{RawRecord, walk};

/// Bytes between two entries of a real broker's offset index, `index.interval.bytes`.
const INDEX_INTERVAL: usize = 4096;

/// A batch in the log. Header and records stay apart, so that the records remain a slice of the frame they came in.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) header: Header,
    raw: Bytes,
    pub(super) records: Bytes,
}

impl Stored {
    pub(super) fn size(&self) -> usize {
        self.raw.len() + self.records.len()
    }

    /// The records, out of their codec.
    pub(super) fn plain(&self) -> Bytes {
        match self.header.codec() {
            // What compaction has emptied is not even an empty stream.
            Ok(Some(codec)) if !self.records.is_empty() => {
                codec.decompress(&self.records).map(Bytes::from).unwrap_or_default()
            }
            _ => self.records.clone(),
        }
    }

    /// The batch with these records alone, at the offsets that they had.
    pub(super) fn retain(&self, mut keep: impl FnMut(&RawRecord<'_>) -> bool) -> Self {
        let (mut kept, mut count, mut max_timestamp) = (Vec::new(), 0, NO_TIMESTAMP);
        self.each(|record| {
            if keep(record) {
                kept.extend_from_slice(record.bytes);
                count += 1;
                max_timestamp = max_timestamp.max(self.header.timestamp(record.timestamp_delta));
            }
        });
        if count == self.header.count {
            return self.clone();
        }
        let max_timestamp = if count == 0 { self.header.max_timestamp } else { max_timestamp };
        self.rebuilt(Header { count, max_timestamp, ..self.header.clone() }, kept)
    }

    /// The batch with a time from which on its tombstones may go. It stands where the base timestamp was (KIP-534).
    pub(super) fn with_delete_horizon(&self, horizon: i64) -> Self {
        let mut records = Vec::new();
        self.each(|record| {
            let mut body = vec![0]; // attributes
            let timestamp = self.header.own_timestamp(record.timestamp_delta);
            put_zigzag(&mut body, timestamp.wrapping_sub(horizon));
            body.extend_from_slice(record.after_timestamp);
            put_zigzag(&mut records, i64::try_from(body.len()).unwrap_or(i64::MAX));
            records.extend(body);
        });
        self.rebuilt(self.header.with_delete_horizon(horizon), records)
    }

    fn rebuilt(&self, header: Header, plain: Vec<u8>) -> Self {
        let records = match header.codec() {
            Ok(Some(codec)) if header.count > 0 => codec.compress(&plain),
            _ => plain,
        };
        let (header, raw, records) = Batch::of_records(header, records.into()).into_parts();
        Self { header, raw, records }
    }

    /// Whether it ends a transaction with a commit, and the epoch of the coordinator that says so.
    pub(super) fn marker(&self) -> Option<(bool, i32)> {
        let mut found = None;
        if self.header.is_control() {
            self.each(|record| found = record.key.zip(record.value).and_then(|(key, value)| Marker::read(key, value)));
        }
        found
    }

    /// Visits the records, in order.
    pub(super) fn each(&self, mut visit: impl FnMut(&RawRecord<'_>)) {
        let plain = self.plain();
        let walked = walk(&plain, self.header.count, |record| {
            visit(&record);
            Ok(())
        });
        debug_assert!(walked.is_ok(), "what is in the log has been checked");
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) base_offset: i64,
    /// When the broker appended it, if that is what the topic's timestamps are; -1 otherwise.
    pub(super) log_append_time: i64,
    /// The offset after its last record: what every replica in sync has to reach for `acks=all`.
    pub(super) end: i64,
    /// It was in the log before.
    pub(super) duplicate: bool,
}

/// A transaction that was aborted: who reads its records must leave them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: i64,
    pub(super) first_offset: i64,
    /// Of its marker.
    last_offset: i64,
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
    aborted: Vec<Aborted>,
    /// Transactions that have ended, first offset and that of the marker, until all replicas know.
    ended: Vec<(i64, i64)>,
}

impl Log {
    /// The first offset that can be read.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record gets.
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
            && let Verdict::Duplicate { first_offset, last_offset, max_timestamp } =
                self.producers.check(&batch.header)?
        {
            // A real broker puts the batch's timestamp there, whatever the timestamp type.
            let log_append_time = max_timestamp;
            return Ok(Placed { base_offset: first_offset, log_append_time, end: last_offset + 1, duplicate: true });
        }
        batch.place(self.end, epoch);
        if batch.header.has_producer() {
            self.producers.appended(&batch.header);
        }
        let log_append_time = if log_append_time { batch.header.max_timestamp } else { NO_TIMESTAMP };
        let base_offset = self.end;
        self.push(batch);
        Ok(Placed { base_offset, log_append_time, end: self.end, duplicate: false })
    }

    /// Appends the end of a transaction.
    pub(super) fn append_marker(&mut self, marker: &Marker, epoch: i32, log_append_time: bool) {
        let mut batch = marker.batch(log_append_time);
        batch.place(self.end, epoch);
        self.transaction_ended(&batch.header, marker.commit, marker.coordinator_epoch);
        self.push(batch);
    }

    fn transaction_ended(&mut self, header: &Header, commit: bool, coordinator_epoch: i32) {
        let Some(first_offset) = self.producers.ended(header, coordinator_epoch) else { return };
        let (producer_id, last_offset) = (header.producer_id, header.base_offset);
        self.ended.push((first_offset, last_offset));
        if !commit {
            self.aborted.push(Aborted { producer_id, first_offset, last_offset });
        }
    }

    fn push(&mut self, batch: Batch) {
        let (header, raw, records) = batch.into_parts();
        self.end = header.last_offset() + 1;
        let stored = Stored { header, raw, records };
        self.bytes += stored.size() as u64;
        self.batches.push_back(stored);
    }

    /// Whether the batch belongs to a transaction that was aborted.
    pub(super) fn is_aborted(&self, header: &Header) -> bool {
        let within = |aborted: &Aborted| (aborted.first_offset..aborted.last_offset).contains(&header.base_offset);
        let own = |aborted: &Aborted| aborted.producer_id == header.producer_id;
        header.is_transactional() && self.aborted.iter().any(|aborted| own(aborted) && within(aborted))
    }

    /// Puts other batches in the place of as many at the front; `None` for one that goes.
    pub(super) fn replace_first(&mut self, batches: Vec<Option<Stored>>) {
        let rest = self.batches.split_off(batches.len());
        self.batches = batches.into_iter().flatten().chain(rest).collect();
        self.bytes = self.batches.iter().map(|batch| batch.size() as u64).sum();
    }

    pub(super) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The first offset whose transaction is open, or has ended beyond the high watermark.
    pub(super) fn first_unstable(&self, high_watermark: i64) -> Option<i64> {
        let unseen = self.ended.iter().filter(|(_, last)| *last >= high_watermark).map(|(first, _)| *first);
        unseen.chain(self.producers.first_open()).min()
    }

    /// All replicas have what lies below the high watermark.
    pub(super) fn replicated(&mut self, high_watermark: i64) {
        self.ended.retain(|(_, last)| *last >= high_watermark);
    }

    /// The aborted transactions that a reader of `offset` to `to` has to know: as a real broker, which looks them up by
    /// its sparse index, some more.
    pub(super) fn aborted(&self, offset: i64, to: i64) -> Vec<Aborted> {
        let mut beyond = 0;
        let after = self.batches.range(self.index_of(to)..).find(|batch| {
            beyond += batch.size();
            beyond > INDEX_INTERVAL
        });
        let upper = after.map_or(self.end, |batch| batch.header.base_offset);
        let overlaps = |aborted: &&Aborted| aborted.last_offset >= offset && aborted.first_offset < upper;
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    /// Index of the batch that holds `offset`, or of the first after it.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.header.last_offset() < offset)
    }

    /// Reads from `offset` on, as many bytes as allowed, so the last batch may be cut short. A first batch that is
    /// larger than `max_bytes` is given whole with `at_least_one`, and not at all otherwise. What is at `end` and beyond
    /// is not there for this reader.
    pub(super) fn read(&self, offset: i64, end: i64, max_bytes: usize, at_least_one: bool) -> Vec<Bytes> {
        let batches = self.batches.range(self.index_of(offset)..);
        let mut batches = batches.take_while(|batch| batch.header.base_offset < end);
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

    /// The offset after the last batch of which a read of `size` bytes has given something.
    pub(super) fn end_of_read(&self, offset: i64, end: i64, size: usize) -> i64 {
        let mut read = 0;
        let batches = self.batches.range(self.index_of(offset)..).take_while(|batch| batch.header.base_offset < end);
        let last = batches.take_while(|batch| {
            let begun = read < size;
            read += batch.size();
            begun
        });
        last.last().map_or(offset, |batch| batch.header.last_offset() + 1)
    }

    /// The first record at `timestamp` or later: its timestamp, offset and leader epoch.
    pub(super) fn find_time(&self, timestamp: i64) -> Option<(i64, i64, i32)> {
        let mut found = None;
        for batch in self.batches().filter(|batch| batch.header.max_timestamp >= timestamp) {
            batch.each(|record| {
                let time = batch.header.timestamp(record.timestamp_delta);
                let offset = batch.header.base_offset + i64::from(record.offset_delta);
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

    /// Where a leader epoch began, if it is known.
    pub(super) fn epoch_start(&self, epoch: i32) -> Option<i64> {
        self.epochs.get(&epoch).copied()
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
        self.replay();
    }

    /// Learns from the batches alone who produced what.
    fn replay(&mut self) {
        (self.producers, self.aborted, self.ended) = Default::default();
        let batches = std::mem::take(&mut self.batches);
        for batch in batches.iter().filter(|batch| batch.header.has_producer()) {
            match batch.marker() {
                Some((commit, coordinator_epoch)) => self.transaction_ended(&batch.header, commit, coordinator_epoch),
                None => self.producers.appended(&batch.header),
            }
        }
        self.batches = batches;
    }

    /// Drops what is below `offset`, as retention and DeleteRecords do. Records before it may stay in the first batch.
    pub(super) fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        while self.batches.front().is_some_and(|batch| batch.header.last_offset() < self.start) {
            let dropped = self.batches.pop_front();
            self.bytes -= dropped.map_or(0, |batch| batch.size() as u64);
        }
        self.aborted.retain(|aborted| aborted.last_offset >= self.start);
    }

    /// Where the log has to start to keep about this many bytes: the first batches go while what is left is still as
    /// much. The last stays.
    pub(super) fn start_for_bytes(&self, bytes: u64) -> i64 {
        let mut left = self.bytes;
        let goes = |batch: &&Stored| {
            left -= batch.size() as u64;
            left >= bytes
        };
        let gone = self.batches.range(..self.batches.len().saturating_sub(1)).take_while(goes).last();
        gone.map_or(self.start, |batch| batch.header.last_offset() + 1)
    }

    pub(super) fn forget_producers(&mut self) {
        self.producers.expire();
    }
}
