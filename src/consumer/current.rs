//! The record set that the caller is reading: decoded batch by batch, record by record, as it asks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use super::cursor::Cursor;
use super::record::Source;
use super::trace::BatchSpan;
use super::unpack::{Ahead, Charge, Opened, Unpacker};
use super::watch::Watch;
use crate::machine::fetch::Fetched;
use crate::record::{OwnedRecords, RawBatch, RecordAt, RecordError};

pub struct Current {
    cursor: Arc<Cursor>,
    watch: Arc<Watch>,
    /// The next offset that is wanted: what lies below was handed out, or never asked for.
    next: i64,
    /// Behind all of it.
    end: i64,
    batches: VecDeque<RawBatch>,
    /// The first of them, as far as they are being opened elsewhere.
    ahead: VecDeque<Ahead>,
    open: Option<Open>,
    bytes: usize,
    is_done: bool,
}

/// The batch that is being read.
struct Open {
    reader: Reader,
    source: Arc<Source>,
    _charge: Charge,
    watch: Arc<Watch>,
    span: BatchSpan,
    /// As it was fetched.
    bytes: usize,
    /// What its header says.
    count: usize,
}

struct Reader {
    records: OwnedRecords,
    /// Records below what was asked for.
    skipped: usize,
    /// A record that was found, and not handed out.
    pending: Option<RecordAt>,
    /// What comes behind the last record that can be read.
    error: Option<RecordError>,
    is_over: bool,
}

pub enum Step {
    /// There is a record: [`Current::reading`] hands it out.
    Record,
    /// A batch ended, or was passed over.
    Batch,
    /// A batch that cannot be read. `end` is the offset behind it.
    Bad { offset: i64, end: i64, error: RecordError },
    /// The next batch is being opened elsewhere: the waker is registered.
    Waiting,
    /// All was handed out, or nothing may be for now.
    Done,
}

/// So many batches are opened ahead of the one that is read, which takes a tenth of the time. With one, a worker and the
/// caller would take turns: they wake each other for each batch, and switch contexts twice as often.
const DEPTH: usize = 4;

/// What hands out the records of the open batch.
pub struct Reading<'a> {
    reader: &'a mut Reader,
    pub source: &'a Arc<Source>,
    cursor: &'a Cursor,
    next: &'a mut i64,
}

impl Current {
    pub fn new(cursor: Arc<Cursor>, watch: Arc<Watch>, fetched: Fetched, ahead: Option<Ahead>) -> Self {
        let Fetched { batches, from, next: end, bytes } = fetched;
        // A message set of before Kafka 0.11 may have gone on behind the offset that it was said to end at.
        let next = cursor.position().map_or(from, |position| position.max(from));
        let ahead = ahead.into_iter().collect();
        Self { cursor, watch, next, end, batches, ahead, open: None, bytes, is_done: false }
    }

    pub fn cursor(&self) -> &Arc<Cursor> {
        &self.cursor
    }

    /// What the partition gets back for it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing left in it.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// The open batch.
    #[inline]
    pub fn reading(&mut self) -> Option<Reading<'_>> {
        let Self { open, cursor, next, .. } = self;
        let Open { reader, source, .. } = open.as_mut()?;
        Some(Reading { reader, source, cursor, next })
    }

    /// Goes on to the next record. Nothing is handed out, and the position only passes what nobody will see.
    pub fn step(&mut self, unpacker: &Arc<Unpacker>, waker: &Waker) -> Step {
        if !self.cursor.is_live() {
            return Step::Done;
        }
        let Some(mut reading) = self.reading() else {
            return self.open_next(unpacker, waker);
        };
        if reading.find() {
            return Step::Record;
        }
        let Reader { records, error, is_over, .. } = reading.reader;
        // Compaction may have taken the last records: their offsets are passed all the same (rule 35).
        let end = records.header().next_offset();
        match error.take() {
            Some(error) => {
                if let Some(open) = &self.open {
                    open.span.fail(&error);
                }
                Step::Bad { offset: self.next, end, error }
            }
            None if *is_over => self.pass(end),
            // What follows lies behind the end of reading.
            None => {
                self.cursor.advance(self.cursor.end());
                Step::Done
            }
        }
    }

    fn open_next(&mut self, unpacker: &Arc<Unpacker>, waker: &Waker) -> Step {
        let opened = match self.ahead.front() {
            None => None,
            Some(ahead) => match ahead.poll(waker) {
                Some(opened) => opened,
                None => return Step::Waiting,
            },
        };
        self.ahead.pop_front();
        let Some(batch) = self.batches.pop_front() else {
            self.is_done = true;
            self.pass(self.end);
            return Step::Done;
        };
        let header = *batch.header();
        // Markers take offsets, and nobody sees them.
        if header.is_control() {
            return self.pass(header.next_offset());
        }
        let fetched = batch.bytes().len();
        let span = BatchSpan::begin(&self.watch, &self.cursor.topic_partition, header.base_offset, fetched);
        let opened = opened.unwrap_or_else(|| unpacker.open(batch));
        // While this one is read, the next ones are opened.
        while let Some(next) = self.batches.get(self.ahead.len()).filter(|_| self.ahead.len() < DEPTH) {
            let Some(ahead) = unpacker.ahead(next) else { break };
            self.ahead.push_back(ahead);
        }
        let opened = opened.and_then(|Opened { batch, charge }| {
            let source = Source {
                cursor: Arc::clone(&self.cursor),
                leader_epoch: header.partition_leader_epoch,
                timestamp_type: header.attributes.timestamp_type(),
                bytes: batch.bytes().clone(),
            };
            let records = batch.into_records()?;
            let count = records.left() as usize;
            let reader = Reader { records, skipped: 0, pending: None, error: None, is_over: false };
            Ok((reader, Arc::new(source), charge, count))
        });
        match opened {
            Ok((reader, source, charge, count)) => {
                self.cursor.enter(header.partition_leader_epoch);
                let watch = Arc::clone(&self.watch);
                self.open = Some(Open { reader, source, _charge: charge, watch, span, bytes: fetched, count });
                self.step(unpacker, waker)
            }
            Err(error) => {
                span.fail(&error);
                Step::Bad { offset: self.next, end: header.next_offset(), error }
            }
        }
    }

    fn pass(&mut self, end: i64) -> Step {
        self.open = None;
        self.next = self.next.max(end);
        self.cursor.advance(self.next);
        if self.cursor.is_at_end() { Step::Done } else { Step::Batch }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Reader { records, skipped, pending, is_over, .. } = &self.reader;
        let left = records.left() as usize + usize::from(pending.is_some());
        let handed_out = self.count.saturating_sub(left).saturating_sub(*skipped);
        self.watch.counts.done(handed_out, if *is_over { self.bytes } else { 0 });
        self.span.handed_out(handed_out);
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("cursor", &self.cursor).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Reading<'_> {
    /// The next record, and the position moves behind it. None at the batch's end, at what cannot be read, where reading
    /// should end, and when the partition is paused or sought: [`Current::step`] knows which.
    #[inline]
    pub fn next(&mut self) -> Option<RecordAt> {
        if !self.cursor.is_live() {
            return None;
        }
        let at = match self.reader.pending.take() {
            Some(at) => at,
            None => self.reader.read(*self.next)?,
        };
        if at.offset() >= self.cursor.end() {
            self.reader.pending = Some(at);
            return None;
        }
        *self.next = at.offset().saturating_add(1);
        self.cursor.advance(*self.next);
        Some(at)
    }

    /// Whether there is a record to hand out.
    fn find(&mut self) -> bool {
        if self.reader.pending.is_none() {
            self.reader.pending = self.reader.read(*self.next);
        }
        self.reader.pending.is_some_and(|at| at.offset() < self.cursor.end())
    }

    /// Records that are still to come, at most.
    pub fn left(&self) -> usize {
        self.reader.records.left() as usize + usize::from(self.reader.pending.is_some())
    }

    /// At the batch's end the position passes what compaction took there.
    pub fn finish(&mut self) {
        if self.reader.is_over && self.cursor.is_live() {
            *self.next = (*self.next).max(self.reader.records.header().next_offset());
            self.cursor.advance(*self.next);
        }
    }
}

impl Reader {
    #[inline]
    fn read(&mut self, next: i64) -> Option<RecordAt> {
        loop {
            match self.records.next_at() {
                // The first batch may begin below the offset that was asked for (rule 36).
                Some(Ok(at)) if at.offset() < next => self.skipped += 1,
                Some(Ok(at)) => return Some(at),
                Some(Err(error)) => {
                    self.error = Some(error);
                    return None;
                }
                None => {
                    self.is_over = self.error.is_none();
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TopicPartition;
    use crate::record::writer::{BatchWriter, NO_HEADERS};
    use crate::record::{Batches, Compression, Compressor, Identity, Limits};

    const CONTROL: u8 = 0x20;

    /// A batch of `count` records from `base` on, whose header claims `end` as the next offset.
    fn batch(base: i64, count: usize, end: i64, attributes: u8) -> Vec<u8> {
        let mut writer = BatchWriter::new(1024);
        for n in 0..count {
            writer.append(n as i64, None, Some(b"v"), NO_HEADERS).unwrap();
        }
        let mut bytes = writer.finish().stamp(Identity::NONE).to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[22] |= attributes;
        bytes[23..27].copy_from_slice(&((end - base - 1) as i32).to_be_bytes());
        bytes
    }

    fn current(cursor: &Arc<Cursor>, from: i64, batches: &[Vec<u8>]) -> Current {
        let batches: VecDeque<RawBatch> =
            Batches::new(batches.concat().into(), false).collect::<Result<_, _>>().unwrap();
        let next = batches.iter().map(|batch| batch.header().next_offset()).max().unwrap_or(from);
        Current::new(
            Arc::clone(cursor),
            Watch::new(&"c".into(), Vec::new()),
            Fetched { batches, from, next, bytes: 0 },
            None,
        )
    }

    fn unpacker(max_output: usize) -> Arc<Unpacker> {
        // Its threads are never asked: there is no budget for them.
        let runtime = crate::net::TestRuntime::new().runtime();
        Arc::new(Unpacker::new(runtime, Limits { max_output, ..Limits::default() }, 0))
    }

    /// The offsets, `|` where a batch ends, and what came last; with the position after each.
    fn steps(current: &mut Current, cursor: &Cursor) -> Vec<(String, i64)> {
        let mut steps = Vec::new();
        loop {
            let (step, is_last) = match current.step(&unpacker(10_000), Waker::noop()) {
                Step::Record => (current.reading().unwrap().next().unwrap().offset().to_string(), false),
                Step::Batch => ("|".into(), false),
                Step::Bad { offset, end, .. } => (format!("bad {offset}..{end}"), true),
                Step::Waiting => unreachable!("nothing is opened elsewhere"),
                Step::Done => ("done".into(), true),
            };
            steps.push((step, cursor.position().unwrap_or(-1)));
            if is_last {
                return steps;
            }
        }
    }

    fn cursor() -> Arc<Cursor> {
        Arc::new(Cursor::new(0, TopicPartition::new("t", 0)))
    }

    fn as_text(steps: Vec<(String, i64)>) -> String {
        steps.into_iter().map(|(step, position)| format!("{step}@{position} ")).collect()
    }

    #[test]
    fn what_lies_below_is_trimmed_and_what_is_not_shown_is_passed() {
        let cursor = cursor();
        // Compaction took the last three of the first batch; then a marker, a batch that compaction emptied, a gap.
        let batches = [batch(10, 3, 16, 0), batch(16, 1, 17, CONTROL), batch(17, 0, 20, 0), batch(30, 2, 32, 0)];
        let mut current = current(&cursor, 11, &batches);
        assert_eq!(as_text(steps(&mut current, &cursor)), "11@12 12@13 |@16 |@17 |@20 30@31 31@32 |@32 done@32 ");
    }

    #[test]
    fn batches_that_overlap_hand_out_nothing_twice() {
        let cursor = cursor();
        let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0), batch(1, 4, 5, 0)]);
        assert_eq!(as_text(steps(&mut current, &cursor)), "0@1 1@2 2@3 |@3 3@4 4@5 |@5 done@5 ");
    }

    #[test]
    fn a_bad_batch_ends_it_where_it_is_bad() {
        let cursor = cursor();
        let mut cut = batch(3, 3, 6, 0);
        // The last record claims to be longer than what is left.
        let last = cut.len() - 8;
        cut[last] = 0x7e;
        let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0), cut]);
        assert_eq!(as_text(steps(&mut current, &cursor)), "0@1 1@2 2@3 |@3 3@4 4@5 bad 5..6@5 ");
    }

    #[test]
    fn compressed_batches_are_opened_within_the_limit() {
        let cursor = cursor();
        let compressed = |base: i64, size: usize| {
            let mut writer = BatchWriter::new(1024);
            for _ in 0..2 {
                writer.append(0, None, Some(&vec![b'x'; size]), NO_HEADERS).unwrap();
            }
            let mut batch = writer.finish();
            assert_eq!(batch.compress(Compression::Zstd, None, &mut Compressor::new()), Ok(true));
            let mut bytes = batch.stamp(Identity::NONE).to_vec();
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            bytes
        };
        let batches = [compressed(0, 1_000), batch(2, 1, 3, 0), compressed(3, 6_000), batch(5, 1, 6, 0)];
        let mut current = current(&cursor, 1, &batches);
        assert_eq!(as_text(steps(&mut current, &cursor)), "1@2 |@2 2@3 |@3 bad 3..5@3 ");
    }

    /// A message of format 0 or 1, with this attributes and value, as a broker before Kafka 0.11 stored it.
    fn message(magic: u8, attributes: u8, offset: i64, value: &[u8]) -> Vec<u8> {
        let mut body = vec![magic, attributes];
        body.extend([0; 8].into_iter().filter(|_| magic == 1));
        body.extend((-1i32).to_be_bytes());
        body.extend((value.len() as i32).to_be_bytes());
        body.extend(value);
        let mut message = offset.to_be_bytes().to_vec();
        message.extend((body.len() as i32 + 4).to_be_bytes());
        message.extend([0; 4]); // no CRC, which is not looked at here
        message.extend(body);
        message
    }

    fn wrapper(magic: u8, offset: i64, inside: &[i64]) -> Vec<u8> {
        let set: Vec<_> = inside.iter().flat_map(|offset| message(magic, 0, *offset, b"v")).collect();
        message(magic, 1, offset, Compressor::new().compress(Compression::Gzip, None, &set).unwrap())
    }

    #[test]
    fn message_sets_are_read_like_batches() {
        let cursor = cursor();
        let plain = [message(0, 0, 3, b"v"), message(0, 0, 5, b"v"), message(1, 0, 6, b"v")].concat();
        let twice =
            message(1, 1, 14, Compressor::new().compress(Compression::Gzip, None, &wrapper(1, 0, &[0])).unwrap());
        let batches = [plain, wrapper(1, 9, &[0, 1, 2]), batch(10, 2, 12, 0), wrapper(0, 13, &[12, 13]), twice];
        let mut current = current(&cursor, 5, &batches);
        let expected = "5@6 |@6 6@7 |@7 7@8 8@9 9@10 |@10 10@11 11@12 |@12 12@13 13@14 |@14 bad 14..15@14 ";
        assert_eq!(as_text(steps(&mut current, &cursor)), expected);
    }

    #[test]
    fn what_went_on_behind_its_own_end_is_not_handed_out_again() {
        let cursor = cursor();
        cursor.advance(0);
        // As it is taken for a wrapper that some producers left at 0: its end is known too late to fetch from there.
        let mut first = current(&cursor, 0, &[wrapper(1, 0, &[0, 1, 2])]);
        assert_eq!(as_text(steps(&mut first, &cursor)), "0@1 1@2 2@3 |@3 done@3 ");
        let mut second = current(&cursor, 1, &[batch(1, 3, 4, 0)]);
        assert_eq!(as_text(steps(&mut second, &cursor)), "3@4 |@4 done@4 ");
    }

    /// Some at a time, up to the next one that is not worth it; in order all the same.
    #[test]
    fn large_batches_are_opened_ahead() {
        let large = |base: i64| {
            let mut noise = fastrand::Rng::with_seed(base as u64);
            let value: Vec<u8> = std::iter::repeat_with(|| noise.u8(..16)).take(200_000).collect();
            let mut writer = BatchWriter::new(1024);
            writer.append(0, None, Some(&value), NO_HEADERS).unwrap();
            let mut batch = writer.finish();
            assert_eq!(batch.compress(Compression::Zstd, None, &mut Compressor::new()), Ok(true));
            let mut bytes = batch.stamp(Identity::NONE).to_vec();
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            bytes
        };
        let runtime = crate::net::TestRuntime::new();
        let unpacker = Arc::new(Unpacker::new(runtime.runtime(), Limits::default(), 100 << 20));
        let batches: Vec<_> = (0..10).map(|n| if n == 7 { batch(7, 1, 8, 0) } else { large(n) }).collect();
        let cursor = cursor();
        let mut current = current(&cursor, 0, &batches);
        let (mut offsets, mut ahead) = (Vec::new(), Vec::new());
        loop {
            match current.step(&unpacker, Waker::noop()) {
                Step::Record => {
                    ahead.push(current.ahead.len());
                    offsets.push(current.reading().unwrap().next().unwrap().offset());
                }
                Step::Batch => {}
                Step::Waiting => std::thread::yield_now(),
                Step::Bad { error, .. } => panic!("{error}"),
                Step::Done => break,
            }
        }
        assert_eq!(offsets, (0..10).collect::<Vec<_>>());
        assert_eq!(ahead, [DEPTH, DEPTH, DEPTH, 3, 2, 1, 0, 2, 1, 0]);
    }

    #[test]
    fn after_a_seek_nothing_more_comes_of_it() {
        let cursor = cursor();
        let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0)]);
        assert!(matches!(current.step(&unpacker(0), Waker::noop()), Step::Record));
        let new = cursor.renew(Some(77));
        assert!(current.reading().unwrap().next().is_none());
        assert_eq!(as_text(steps(&mut current, &new)), "done@77 ");
        assert_eq!(new.position(), Some(77));
    }

    #[test]
    fn what_is_held_stays_where_it_is_and_goes_on_from_there() {
        let cursor = cursor();
        let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0)]);
        assert!(matches!(current.step(&unpacker(0), Waker::noop()), Step::Record));
        cursor.hold(true);
        assert!(current.reading().unwrap().next().is_none());
        assert!(matches!(current.step(&unpacker(0), Waker::noop()), Step::Done) && !current.is_done());
        assert_eq!(cursor.position(), None, "nothing was handed out");
        cursor.hold(false);
        assert_eq!(as_text(steps(&mut current, &cursor)), "0@1 1@2 2@3 |@3 done@3 ");
        assert!(current.is_done());
    }

    #[test]
    fn reading_ends_where_it_should() {
        for (end, expected) in [
            (2, "0@1 1@2 done@2 "),
            (3, "0@1 1@2 2@3 done@3 "),
            // In a hole that compaction left, and at the very end.
            (5, "0@1 1@2 2@3 |@3 done@5 "),
            (8, "0@1 1@2 2@3 |@3 7@8 done@8 "),
            (9, "0@1 1@2 2@3 |@3 7@8 8@9 done@9 "),
        ] {
            let cursor = cursor();
            let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0), batch(7, 2, 9, 0)]);
            cursor.set_end(Some(end));
            assert_eq!(as_text(steps(&mut current, &cursor)), expected, "{end}");
        }
    }
}
