//! What a partition remembers of each producer id, to append every batch once and in order.
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

#[derive(Debug)]
struct Producer {
    epoch: i16,
    /// The last batches of this epoch, oldest first; never empty.
    batches: VecDeque<Appended>,
}

#[derive(Clone, Copy, Debug)]
struct Appended {
    first_sequence: i32,
    last_sequence: i32,
    first_offset: i64,
    max_timestamp: i64,
}

/// What to do with a batch that has a producer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it.
    New,
    /// It is in the log already: answer with where.
    Duplicate { first_offset: i64, max_timestamp: i64 },
}

impl Producers {
    /// Whether a batch is new, a repetition, or out of place.
    pub(super) fn check(&self, header: &Header) -> Result<Verdict, Rejection> {
        // Nothing is known of the producer: any sequence may be the first, since what was known may have expired.
        let Some(producer) = self.0.get(&header.producer_id) else { return Ok(Verdict::New) };
        let (first, last) = sequences(header);
        let found = producer.batches.iter().find(|batch| (batch.first_sequence, batch.last_sequence) == (first, last));
        if let Some(batch) = found.filter(|_| producer.epoch == header.producer_epoch) {
            return Ok(Verdict::Duplicate { first_offset: batch.first_offset, max_timestamp: batch.max_timestamp });
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
        Ok(Verdict::New)
    }

    /// Remembers a batch that was appended.
    pub(super) fn appended(&mut self, header: &Header) {
        let (first_sequence, last_sequence) = sequences(header);
        let (first_offset, max_timestamp) = (header.base_offset, header.max_timestamp);
        let fresh = || Producer { epoch: header.producer_epoch, batches: VecDeque::with_capacity(REMEMBERED) };
        let producer = self.0.entry(header.producer_id).or_insert_with(fresh);
        if producer.epoch != header.producer_epoch {
            *producer = fresh();
        }
        if producer.batches.len() == REMEMBERED {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Appended { first_sequence, last_sequence, first_offset, max_timestamp });
    }
}

fn sequences(header: &Header) -> (i32, i32) {
    (header.base_sequence, add(header.base_sequence, header.last_offset_delta))
}

/// Sequence numbers go on from 0 after the largest `i32`.
fn add(sequence: i32, increment: i32) -> i32 {
    sequence.wrapping_add(increment) & i32::MAX
}
