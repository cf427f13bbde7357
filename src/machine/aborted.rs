//! Which batches of a fetched record set nobody should see who reads only what was committed.
//!
//! ```text
//!   producer 7:  | data | data | abort | data | commit |      aborted: (7, first offset of the first data)
//!                '--- hidden --'-------'      '---------- hidden: markers always are
//! ```

use std::collections::{BTreeMap, VecDeque};

use crate::record::BatchHeader;
use crate::wire::leader::fetch::AbortedTransaction;

/// Transactions that were aborted, by producer: where they began, in order (rule 39).
#[derive(Debug)]
pub struct Aborted(BTreeMap<i64, VecDeque<i64>>);

impl Aborted {
    /// Brokers send them in any order.
    pub fn new(mut list: Vec<AbortedTransaction>) -> Self {
        list.sort_unstable_by_key(|aborted| (aborted.producer_id, aborted.first_offset));
        let mut by_producer: BTreeMap<i64, VecDeque<i64>> = BTreeMap::new();
        for AbortedTransaction { producer_id, first_offset, .. } in list {
            let starts = by_producer.entry(producer_id).or_default();
            if starts.back() != Some(&first_offset) {
                starts.push_back(first_offset);
            }
        }
        Self(by_producer)
    }

    /// Whether nobody should see the batch: a marker, or what was aborted. Asked for every batch, in order.
    pub fn hides(&mut self, header: &BatchHeader) -> bool {
        let starts = self.0.get_mut(&header.producer_id);
        let starts = starts.filter(|starts| starts.front().is_some_and(|first| *first <= header.base_offset));
        if header.is_control() {
            // It ends what is open; a second marker ends nothing, since the next transaction begins behind it.
            if let Some(starts) = starts {
                starts.pop_front();
            }
            return true;
        }
        header.is_transactional() && starts.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x30;

    fn aborted(list: &[(i64, i64)]) -> Aborted {
        let transaction = |&(producer_id, first_offset): &(i64, i64)| AbortedTransaction {
            producer_id,
            first_offset,
            ..Default::default()
        };
        Aborted::new(list.iter().map(transaction).collect())
    }

    /// The base offsets of the batches that are seen, of those given as (base offset, producer, attributes).
    fn seen(list: &[(i64, i64)], batches: &[(i64, i64, i16)]) -> Vec<i64> {
        let mut aborted = aborted(list);
        let shown = batches.iter().filter(|&&(base, producer, attributes)| {
            let mut bytes = vec![0; 61];
            bytes[..8].copy_from_slice(&base.to_be_bytes());
            bytes[8..12].copy_from_slice(&49i32.to_be_bytes());
            bytes[16] = 2;
            bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
            bytes[43..51].copy_from_slice(&producer.to_be_bytes());
            !aborted.hides(&BatchHeader::peek(&bytes).unwrap())
        });
        shown.map(|(base, ..)| *base).collect()
    }

    /// Rule 39: per producer, in order, one transaction for each marker.
    #[test]
    fn aborted_transactions_of_several_producers_are_hidden_and_nothing_else() {
        let batches = [
            (0, 7, TRANSACTIONAL),
            (1, 8, TRANSACTIONAL),
            (2, -1, 0),
            (3, 7, TRANSACTIONAL),
            (4, 7, CONTROL),
            (5, 7, TRANSACTIONAL),
            (6, 8, CONTROL),
            (7, 7, CONTROL),
            (8, 7, TRANSACTIONAL),
            (9, 7, CONTROL),
        ];
        assert_eq!(seen(&[], &batches), [0, 1, 2, 3, 5, 8]);
        assert_eq!(seen(&[(7, 0)], &batches), [1, 2, 5, 8]);
        assert_eq!(seen(&[(7, 8), (8, 1), (7, 0)], &batches), [2, 5], "in whatever order they are listed");
    }

    #[test]
    fn doubled_markers_and_doubled_entries_end_nothing_twice() {
        let batches = [
            (0, 7, TRANSACTIONAL),
            (1, 7, CONTROL),
            (2, 7, CONTROL),
            (3, 7, TRANSACTIONAL),
            (4, 7, CONTROL),
            (5, 7, TRANSACTIONAL),
        ];
        assert_eq!(seen(&[(7, 3), (7, 0), (7, 3)], &batches), [5]);
    }

    #[test]
    fn what_is_no_part_of_a_transaction_is_seen_whoever_wrote_it() {
        assert_eq!(seen(&[(7, 0)], &[(0, 7, 0), (1, 7, TRANSACTIONAL), (2, 7, CONTROL)]), [0]);
    }
}
