//! The partitions of a topic by index, read without a lock by every record: they are only ever added to.

use std::sync::{Arc, OnceLock};

use super::open_batch::Partition;

/// ```text
///   segment 0: | 0 |
///   segment 1: | 1 | 2 |
///   segment 2: | 3 | 4 | 5 | 6 |        each twice as long as the one before, made when it is needed, and never moved
/// ```
#[derive(Default)]
pub(super) struct Partitions {
    segments: [OnceLock<Segment>; 32],
}

type Segment = Box<[OnceLock<Arc<Partition>>]>;

impl Partitions {
    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Arc<Partition>> {
        let (segment, at) = place(index)?;
        self.segments.get(segment)?.get()?.get(at)?.get()
    }

    /// The partition at an index is set once: whoever comes second changes nothing.
    pub(super) fn set(&self, index: usize, partition: Arc<Partition>) {
        let Some((segment, at)) = place(index) else { return };
        let Some(segment_lock) = self.segments.get(segment) else { return };
        let slots = segment_lock.get_or_init(|| (0..1usize << segment).map(|_| OnceLock::new()).collect());
        if let Some(slot) = slots.get(at) {
            let _ = slot.set(partition);
        }
    }
}

/// Which segment, and where in it.
#[inline]
fn place(index: usize) -> Option<(usize, usize)> {
    let number = index.checked_add(1)?;
    let segment = number.ilog2();
    Some((segment as usize, number - (1 << segment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let places: Vec<_> = (0..7).map(|index| place(index).unwrap()).collect();
        assert_eq!(places, [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3)]);
        assert_eq!(place(usize::MAX), None);
        assert_eq!(place(i32::MAX as usize), Some((31, 0)));
    }
}
