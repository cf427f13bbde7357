//! Where records without a key go: a batch's worth of bytes to one partition, then to another (KIP-480, KIP-794).
//!
//! Runs are counted in bytes and not in batches, so that a partition whose batches are cut short by their linger gets no
//! more and no fewer bytes than the others. The next partition is drawn at random among those with a leader, and drawn
//! again the more likely the more batches wait for its leader: a broker that is slow gets less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::record::header::HEADER_SIZE;

/// How the next partition is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Preference {
    /// Whether queues matter at all (partitioner.adaptive.partitioning.enable).
    pub(super) is_adaptive: bool,
    /// A partition whose leader settles nothing for so long while batches wait is passed over
    /// (partitioner.availability.timeout.ms). Zero: never.
    pub(super) availability_timeout: Duration,
}

/// What a draw is told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its leader takes nothing.
    Stuck,
    /// So many batches wait for its leader.
    Waiting(u32),
}

#[derive(Debug)]
pub(super) struct Sticky {
    /// ```text
    ///   | partition: 32 bits | bytes of its run: 32 bits |
    /// ```
    state: AtomicU64,
    run: u64,
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It belongs to the run of this partition.
    Same(usize),
    /// It begins a run. The partition of the run before, if there was one, gets nothing more for now.
    Moved { to: usize, from: Option<usize> },
}

/// In place of a partition, before the first record.
const NOWHERE: u64 = u32::MAX as u64;

/// A run counts in 32 bits, to which any number of threads may add a record before one of them moves on.
const MOST: usize = 1 << 24;

/// No partition yet, and the next record moves on.
const AT_AN_END: u64 = NOWHERE << 32 | MOST as u64;

impl Sticky {
    /// With runs of as many bytes as go into a batch beside its header.
    pub(super) fn new(batch_size: usize) -> Self {
        let run = batch_size.saturating_sub(HEADER_SIZE).clamp(1, MOST);
        Self { state: AtomicU64::new(AT_AN_END), run: run as u64 }
    }

    /// The partition of the run that is under way.
    pub(super) fn current(&self) -> Option<usize> {
        let partition = self.state.load(Ordering::Relaxed) >> 32;
        (partition != NOWHERE).then_some(partition as usize)
    }

    /// Ends the run: the next record begins another.
    pub(super) fn leave(&self) {
        self.state.store(AT_AN_END, Ordering::Relaxed);
    }

    /// The partition for a record of at most `bytes`. `draw` chooses a partition, and is asked only to move on.
    pub(super) fn next(&self, bytes: usize, draw: impl FnOnce() -> usize) -> Next {
        let bytes = bytes.min(MOST) as u64;
        let state = self.state.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (partition, sent) = (state >> 32, state & NOWHERE);
        if sent <= self.run {
            return Next::Same(partition as usize);
        }
        let to = draw();
        // Of threads that come here at once each draws, and the last one's partition gets the run.
        self.state.store((to as u64) << 32 | bytes, Ordering::Relaxed);
        Next::Moved { to, from: (partition != NOWHERE).then_some(partition as usize) }
    }
}

/// Draws one of `count` partitions: in a time that does not depend on their number, unless most of them are stuck.
/// `standing` is asked of what is drawn, if the preference needs it.
pub(super) fn draw(
    count: usize,
    preference: Preference,
    mut random: impl FnMut() -> u64,
    standing: impl Fn(usize) -> Standing,
) -> usize {
    /// Draws until the least loaded of those drawn will do.
    const TRIES: usize = 16;
    if !preference.is_adaptive {
        return scale(random(), count);
    }
    let mut best: Option<(u32, usize)> = None;
    for _ in 0..TRIES {
        let candidate = scale(random(), count);
        let Standing::Waiting(batches) = standing(candidate) else { continue };
        if best.is_none_or(|(least, _)| batches < least) {
            best = Some((batches, candidate));
        }
        // One in (1 + batches): where all queues are alike, all partitions are.
        if scale(random(), batches as usize + 1) == 0 {
            return candidate;
        }
    }
    let start = scale(random(), count);
    let any = || (start..count).chain(0..start).find(|candidate| standing(*candidate) != Standing::Stuck);
    best.map(|(_, candidate)| candidate).or_else(any).unwrap_or(start)
}

/// 32 of the random bits as a number below `count`: every one is equally likely.
fn scale(random: u64, count: usize) -> usize {
    (((random >> 32) * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVEN: Preference = Preference { is_adaptive: true, availability_timeout: Duration::ZERO };

    /// splitmix64.
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    #[test]
    fn a_run_is_a_batch_of_bytes() {
        let sticky = Sticky::new(1061);
        let next = |bytes, to| sticky.next(bytes, || to);
        assert_eq!(next(100, 3), Next::Moved { to: 3, from: None });
        for _ in 1..10 {
            assert_eq!(next(100, 9), Next::Same(3));
        }
        // What would not fit begins the next run, and counts there.
        assert_eq!(next(100, 1), Next::Moved { to: 1, from: Some(3) });
        assert_eq!(next(900, 9), Next::Same(1));
        assert_eq!(next(5000, 2), Next::Moved { to: 2, from: Some(1) });
        assert_eq!(next(1, 0), Next::Moved { to: 0, from: Some(2) });
        // As large as can be, for ever: the count never reaches the partition's bits.
        let mut from = Some(0);
        for to in [4, 5, 6].repeat(300) {
            assert_eq!(next(usize::MAX, to), Next::Moved { to, from });
            from = Some(to);
        }
    }

    /// KIP-794's uniformity: records of unequal size, batches cut at any time, and every partition gets as many bytes.
    #[test]
    fn bytes_are_even_whatever_the_sizes() {
        const PARTITIONS: usize = 6;
        let (mut choice, mut sizes) = (numbers(1), numbers(2));
        let sticky = Sticky::new(16 << 10);
        let mut bytes = [0u64; PARTITIONS];
        for n in 0..2_000_000u64 {
            // Mostly small, one in fifty large: the large ones must not follow the small ones' partition.
            let size = if n % 50 == 0 { 4_000 + sizes() % 10_000 } else { 10 + sizes() % 200 };
            let draw = || draw(PARTITIONS, EVEN, &mut choice, |_| Standing::Waiting(0));
            let (Next::Same(partition) | Next::Moved { to: partition, .. }) = sticky.next(size as usize, draw);
            bytes[partition] += size;
        }
        let mean = bytes.iter().sum::<u64>() / PARTITIONS as u64;
        // About 5,000 runs for each: a standard deviation of 1.3 %.
        for (partition, bytes) in bytes.iter().enumerate() {
            assert!(bytes.abs_diff(mean) * 100 < mean * 5, "partition {partition}: {bytes} of {mean}");
        }
    }

    #[test]
    fn equal_queues_are_drawn_alike_and_longer_ones_less() {
        let draws = |queues: [u32; 4]| {
            let mut random = numbers(3);
            let mut drawn = [0u32; 4];
            for _ in 0..100_000 {
                drawn[draw(4, EVEN, &mut random, |n| Standing::Waiting(queues[n]))] += 1;
            }
            drawn
        };
        for queues in [[0; 4], [7; 4], [1000; 4]] {
            for drawn in draws(queues) {
                assert!(drawn.abs_diff(25_000) < 600, "{queues:?}: {drawn}");
            }
        }
        // 1/(1 + n): shares of 1, 1, 1/2 and 1/4 to 2.75.
        let expected = [36_364, 36_364, 18_182, 9_091];
        for (drawn, expected) in draws([0, 0, 1, 3]).into_iter().zip(expected) {
            assert!(u32::abs_diff(drawn, expected) < 600, "{drawn}, not {expected}");
        }
        let [a, b, c, slow] = draws([2, 2, 2, 500]);
        assert!(slow < 300 && [a, b, c].iter().all(|drawn| *drawn > 32_000), "{slow} to the slow one");
    }

    #[test]
    fn stuck_partitions_are_passed_over_unless_all_are() {
        let mut random = numbers(4);
        let standing = |n| if n == 77 { Standing::Waiting(9) } else { Standing::Stuck };
        for _ in 0..1_000 {
            assert_eq!(draw(100, EVEN, &mut random, standing), 77);
        }
        let mut drawn = [false; 3];
        for _ in 0..100 {
            drawn[draw(3, EVEN, &mut random, |_| Standing::Stuck)] = true;
        }
        assert_eq!(drawn, [true; 3]);
    }

    #[test]
    fn without_adaptation_queues_do_not_matter() {
        let mut random = numbers(5);
        let plain = Preference { is_adaptive: false, ..EVEN };
        let mut drawn = [0u32; 2];
        for _ in 0..10_000 {
            drawn[draw(2, plain, &mut random, |_| panic!("nobody asks"))] += 1;
        }
        assert!(drawn[0].abs_diff(5_000) < 300, "{drawn:?}");
    }
}
