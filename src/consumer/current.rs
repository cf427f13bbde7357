//! The record set that the caller is reading: decoded batch by batch, record by record, as it asks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::{ConsumerRecord, Source};
use super::shared::Cursor;
use crate::machine::credit::PartitionId;
use crate::machine::fetch::Fetched;
use crate::record::{OwnedRecords, RawBatch, RecordError};

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
        Self { cursor, generation, next: from, batches, open: None, bytes }
    }

    /// What the partition gets back for it.
    pub fn credit(&self) -> (PartitionId, usize) {
        (self.cursor.id, self.bytes)
    }

    pub fn step(&mut self) -> Step {
        if self.cursor.generation() != self.generation {
            return Step::Done;
        }
        let Some(open) = &mut self.open else {
            return self.open_next();
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

    fn open_next(&mut self) -> Step {
        let Some(batch) = self.batches.pop_front() else { return Step::Done };
        let header = *batch.header();
        // Markers take offsets, and nobody sees them.
        if header.is_control() {
            return self.pass(header.next_offset());
        }
        let source = Source {
            topic: Arc::clone(&self.cursor.topic_partition.topic),
            partition: self.cursor.topic_partition.partition,
            leader_epoch: header.partition_leader_epoch,
            timestamp_type: header.attributes.timestamp_type(),
            bytes: batch.bytes().clone(),
        };
        match batch.into_records() {
            Ok(records) => {
                self.open = Some(Open { records, source: Arc::new(source) });
                self.step()
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
