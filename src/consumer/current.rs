//! The record set that the caller is reading: decoded batch by batch, record by record, as it asks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{ConsumerRecord, Source};
use super::shared::Cursor;
use crate::machine::credit::PartitionId;
use crate::machine::fetch::Fetched;
use crate::record::{Decompressor, Limits, OwnedRecords, RawBatch, RecordError};

pub struct Current {
    cursor: Arc<Cursor>,
    generation: u64,
    /// The next offset that is wanted: what lies below was handed out, or never asked for.
    next: i64,
    batches: VecDeque<RawBatch>,
    open: Option<Open>,
    bytes: usize,
}

struct Open {
    records: OwnedRecords,
    source: Arc<Source>,
}

/// What decompresses the batches of a consumer, one after the other.
pub struct Unpacker {
    pub decompressor: Decompressor,
    pub limits: Limits,
}

pub enum Step {
    Record(ConsumerRecord),
    /// A batch ended, or was passed over.
    Batch,
    /// A batch that cannot be read. `end` is the offset behind it.
    Bad {
        cursor: Arc<Cursor>,
        offset: i64,
        end: i64,
        error: RecordError,
    },
    /// All was handed out, or is stale.
    Done,
}

impl Current {
    pub fn new(cursor: Arc<Cursor>, generation: u64, fetched: Fetched) -> Self {
        let Fetched { batches, from, bytes } = fetched;
        // A message set of before Kafka 0.11 may have gone on behind the offset that it was said to end at.
        let next = cursor.position().map_or(from, |position| position.max(from));
        Self { cursor, generation, next, batches, open: None, bytes }
    }

    /// What the partition gets back for it.
    pub fn credit(&self) -> (PartitionId, usize) {
        (self.cursor.id, self.bytes)
    }

    pub fn step(&mut self, unpacker: &mut Unpacker) -> Step {
        if self.cursor.generation() != self.generation {
            return Step::Done;
        }
        let Some(open) = &mut self.open else {
            return self.open_next(unpacker);
        };
        loop {
            match open.records.next_at() {
                // The first batch may begin below the offset that was asked for (rule 36).
                Some(Ok(at)) if at.offset() < self.next => {}
                Some(Ok(at)) => {
                    self.next = at.offset().saturating_add(1);
                    self.cursor.advance(self.next);
                    return Step::Record(ConsumerRecord::new(&open.source, at));
                }
                Some(Err(error)) => {
                    let end = open.records.header().next_offset();
                    return self.bad(end, error);
                }
                None => {
                    // Compaction may have taken the last records: their offsets are passed all the same (rule 35).
                    let end = open.records.header().next_offset();
                    return self.pass(end);
                }
            }
        }
    }

    fn open_next(&mut self, unpacker: &mut Unpacker) -> Step {
        let Some(batch) = self.batches.pop_front() else { return Step::Done };
        let header = *batch.header();
        // Markers take offsets, and nobody sees them.
        if header.is_control() {
            return self.pass(header.next_offset());
        }
        let opened = batch.decompress(&mut unpacker.decompressor, unpacker.limits).and_then(|batch| {
            let source = Source {
                topic: Arc::clone(&self.cursor.topic_partition.topic),
                partition: self.cursor.topic_partition.partition,
                leader_epoch: header.partition_leader_epoch,
                timestamp_type: header.attributes.timestamp_type(),
                bytes: batch.bytes().clone(),
            };
            Ok(Open { records: batch.into_records()?, source: Arc::new(source) })
        });
        match opened {
            Ok(open) => {
                self.open = Some(open);
                self.step(unpacker)
            }
            Err(error) => self.bad(header.next_offset(), error),
        }
    }

    fn pass(&mut self, end: i64) -> Step {
        self.open = None;
        self.next = self.next.max(end);
        self.cursor.advance(self.next);
        Step::Batch
    }

    fn bad(&mut self, end: i64, error: RecordError) -> Step {
        Step::Bad { cursor: Arc::clone(&self.cursor), offset: self.next, end, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::TopicPartition;
    use crate::record::writer::{BatchWriter, NO_HEADERS};
    use crate::record::{Batches, Compression, Compressor, Identity};

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
        let batches = Batches::new(batches.concat().into(), false).collect::<Result<_, _>>().unwrap();
        Current::new(Arc::clone(cursor), cursor.generation(), Fetched { batches, from, bytes: 0 })
    }

    fn unpacker(max_output: usize) -> Unpacker {
        Unpacker { decompressor: Decompressor::new(), limits: Limits { max_output, ..Limits::default() } }
    }

    /// The offsets, `|` where a batch ends, and what came last; with the position after each.
    fn steps(current: &mut Current, cursor: &Cursor) -> Vec<(String, i64)> {
        let mut steps = Vec::new();
        loop {
            let (step, is_last) = match current.step(&mut unpacker(10_000)) {
                Step::Record(record) => (record.offset().to_string(), false),
                Step::Batch => ("|".into(), false),
                Step::Bad { offset, end, .. } => (format!("bad {offset}..{end}"), true),
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

    #[test]
    fn after_a_seek_nothing_more_comes_of_it() {
        use super::super::shared::Shared;
        use crate::machine::credit::Credit;
        let (cursor, shared) = (cursor(), Shared::new(Credit::new(1, 1)));
        let mut current = current(&cursor, 0, &[batch(0, 3, 3, 0)]);
        assert!(matches!(current.step(&mut unpacker(0)), Step::Record(_)));
        shared.seek(&cursor, Some(77));
        assert_eq!(as_text(steps(&mut current, &cursor)), "done@77 ");
    }
}
