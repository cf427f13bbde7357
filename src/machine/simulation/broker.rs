//! A partition's log, and what its leader remembers of producers: Kafka's `ProducerStateManager`, written anew.

use std::collections::{BTreeMap, VecDeque};

use crate::wire::error_code::ErrorCode;

/// Batches per producer by which a broker knows a duplicate.
const REMEMBERED: usize = 5;

pub(super) struct Partition {
    pub(super) leader: Option<usize>,
    pub(super) leader_epoch: u32,
    /// A follower that is in sync copies nothing until then.
    pub(super) held_until: super::Micros,
    /// Records, by the number that each one is.
    pub(super) log: Vec<u32>,
    producers: BTreeMap<i64, Producer>,
    is_old: bool,
}

struct Producer {
    epoch: i16,
    /// The newest ones under this epoch.
    batches: VecDeque<Appended>,
}

struct Appended {
    first: i32,
    last: i32,
    base_offset: i64,
}

/// What a producer says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Appended(i64),
    Duplicate(i64),
    Refused(ErrorCode),
}

impl Partition {
    pub(super) fn new(leader: usize, is_old: bool) -> Self {
        Self {
            leader: Some(leader),
            leader_epoch: 0,
            held_until: 0,
            log: Vec::new(),
            producers: BTreeMap::new(),
            is_old,
        }
    }

    pub(super) fn append(&mut self, stamp: Stamp, records: &[u32]) -> Verdict {
        let Stamp { id, epoch, sequence } = stamp;
        if id < 0 {
            return Verdict::Appended(self.write(records));
        }
        let last = (i64::from(sequence) + records.len() as i64 - 1) % (1 << 31);
        let appended = |base_offset| Appended { first: sequence, last: last as i32, base_offset };
        match self.producers.get(&id) {
            None if self.is_old && sequence != 0 => return Verdict::Refused(ErrorCode::UNKNOWN_PRODUCER_ID),
            None => {}
            Some(producer) if epoch < producer.epoch => return Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH),
            Some(producer) if epoch > producer.epoch && sequence != 0 => {
                return Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            Some(producer) if epoch > producer.epoch => {}
            Some(producer) => {
                let mut known = producer.batches.iter();
                if let Some(twin) = known.find(|known| known.first == sequence && i64::from(known.last) == last) {
                    return Verdict::Duplicate(twin.base_offset);
                }
                let newest = producer.batches.back().map_or(-1, |newest| i64::from(newest.last));
                if i64::from(sequence) != (newest + 1) % (1 << 31) {
                    return Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            }
        }
        let base_offset = self.write(records);
        let producer = self.producers.entry(id).or_insert(Producer { epoch, batches: VecDeque::new() });
        if producer.epoch != epoch {
            *producer = Producer { epoch, batches: VecDeque::new() };
        }
        producer.batches.push_back(appended(base_offset));
        if producer.batches.len() > REMEMBERED {
            producer.batches.pop_front();
        }
        Verdict::Appended(base_offset)
    }

    /// producer.id.expiration.ms has passed for everybody.
    pub(super) fn forget_producers(&mut self) {
        self.producers.clear();
    }

    fn write(&mut self, records: &[u32]) -> i64 {
        let base_offset = self.log.len() as i64;
        self.log.extend(records);
        base_offset
    }
}
