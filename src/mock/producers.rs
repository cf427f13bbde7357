//! What a partition remembers of each producer id: to append every batch once and in order, and to know which
//! transactions are open.
//!
//! The rules are those of Kafka's `ProducerAppendInfo` and `ProducerStateEntry`.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::error::ResponseError;

use super::batch::{Header, Rejection};

/// A producer may have this many batches in flight, so a broker remembers as many to recognise a repetition.
const REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default)]
pub(super) struct Producers(HashMap<i64, Producer>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Producer {
    pub(super) epoch: i16,
    /// The last batches of this epoch, oldest first. Empty when the epoch began with the end of a transaction.
    batches: VecDeque<Appended>,
    /// The first offset of its open transaction.
    pub(super) open: Option<i64>,
    /// When it was last heard of, by its own clock.
    pub(super) last_timestamp: i64,
    /// Of the coordinator that has ended its last transaction; -1 if there was none.
    pub(super) coordinator_epoch: i32,
}

#[derive(Clone, Copy, Debug)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    first_offset: i64,
    last_offset: i64,
    max_timestamp: i64,
}

/// What to do with a batch that has a producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    New,
    /// It is in the log already: answer with where.
    Duplicate { first_offset: i64, last_offset: i64, max_timestamp: i64 },
}

impl Producer {
    fn of_epoch(epoch: i16) -> Self {
        let batches = VecDeque::with_capacity(REMEMBERED);
        Self { epoch, batches, open: None, last_timestamp: -1, coordinator_epoch: -1 }
    }

    /// The sequence number of its last record; -1 if there is none of this epoch.
    pub(super) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }

    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.batches.clear();
        }
    }
}

impl Producers {
    pub(super) fn get(&self, id: i64) -> Option<&Producer> {
        self.0.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.0.iter().map(|(id, producer)| (*id, producer))
    }

    /// Whether a batch is new, a repetition, or out of place.
    pub(super) fn check(&self, header: &Header) -> Result<Verdict, Rejection> {
        // Nothing is known of the producer: any sequence may be the first, since what was known may have expired.
        let Some(producer) = self.0.get(&header.producer_id) else { return Ok(Verdict::New) };
        let (first, last) = sequences(header);
        let found = producer.batches.iter().find(|batch| (batch.first_sequence, batch.last_sequence) == (first, last));
        if let Some(&Appended { first_offset, last_offset, max_timestamp, .. }) =
            found.filter(|_| producer.epoch == header.producer_epoch)
        {
            return Ok(Verdict::Duplicate { first_offset, last_offset, max_timestamp });
        }
        if header.producer_epoch < producer.epoch {
            let message = format!("the producer epoch {} is below {}", header.producer_epoch, producer.epoch);
            return Err(Rejection::by_log(ResponseError::InvalidProducerEpoch, message));
        }
        let expected = if header.producer_epoch == producer.epoch {
            producer.batches.back().map_or(0, |batch| add(batch.last_sequence, 1))
        } else {
            0
        };
        if first != expected {
            let message = format!("the sequence number is {first}, expected was {expected}");
            return Err(Rejection::by_log(ResponseError::OutOfOrderSequenceNumber, message));
        }
        if producer.open.is_some() && !header.is_transactional() {
            let message = "the producer has a transaction open, and the batch is not part of it";
            return Err(Rejection::by_log(ResponseError::InvalidTxnState, message));
        }
        Ok(Verdict::New)
    }

    /// Remembers a batch that was appended.
    pub(super) fn appended(&mut self, header: &Header) {
        let (first_sequence, last_sequence) = sequences(header);
        let (first_offset, last_offset, max_timestamp) =
            (header.base_offset, header.last_offset(), header.max_timestamp);
        let producer = self.0.entry(header.producer_id).or_insert_with(|| Producer::of_epoch(header.producer_epoch));
        producer.enter(header.producer_epoch);
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        let appended = Appended { first_sequence, last_sequence, first_offset, last_offset, max_timestamp };
        producer.batches.push_back(appended);
        producer.last_timestamp = max_timestamp;
        if header.is_transactional() {
            producer.open.get_or_insert(first_offset);
        }
    }

    /// Remembers the end of a transaction; gives its first offset, if it wrote anything here.
    pub(super) fn ended(&mut self, header: &Header, coordinator_epoch: i32) -> Option<i64> {
        let producer = self.0.entry(header.producer_id).or_insert_with(|| Producer::of_epoch(header.producer_epoch));
        producer.enter(header.producer_epoch);
        producer.last_timestamp = header.max_timestamp;
        producer.coordinator_epoch = coordinator_epoch;
        producer.open.take()
    }

    /// Forgets all but those with an open transaction, as brokers do with producers that were idle for long.
    pub(super) fn expire(&mut self) {
        self.0.retain(|_, producer| producer.open.is_some());
    }

    /// The first offset of any open transaction.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.0.values().filter_map(|producer| producer.open).min()
    }
}

fn sequences(header: &Header) -> (i32, i32) {
    (header.base_sequence, add(header.base_sequence, header.last_offset_delta))
}

/// Sequence numbers go on from 0 after the largest `i32`.
fn add(sequence: i32, increment: i32) -> i32 {
    sequence.wrapping_add(increment) & i32::MAX
}
