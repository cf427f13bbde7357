//! Which partition a record goes to.

use std::sync::atomic::{AtomicU64, Ordering};

/// The partition of a key, as Java's default partitioner chooses it: murmur2, sign bit off, modulo.
pub(super) fn for_key(key: &[u8], partitions: usize) -> usize {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
    ((murmur2(key) & 0x7fff_ffff) % partitions) as usize
}

/// Kafka's variant of murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`): 32 bits, little-endian, its own seed.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Records without a key stay with one partition until a batch's worth of bytes went there, then move on to a random
/// one (KIP-480, KIP-794): full batches instead of one record in each partition's.
#[derive(Debug)]
pub(super) struct Sticky {
    /// ```text
    ///   | partition: 32 bits | bytes sent there: 32 bits |
    /// ```
    state: AtomicU64,
    batch_size: u32,
}

impl Sticky {
    pub(super) fn new(batch_size: usize, random: u64) -> Self {
        let batch_size = u32::try_from(batch_size).unwrap_or(u32::MAX).max(1);
        Self { state: AtomicU64::new(random << 32), batch_size }
    }

    /// The partition for a record of `bytes`; `random` is drawn only when it is time to move on.
    pub(super) fn next(&self, bytes: usize, partitions: usize, random: impl FnOnce() -> u64) -> usize {
        let partitions = u64::try_from(partitions).unwrap_or(u64::MAX).max(1);
        // Two threads may lose each other's bytes here: the run gets a record longer, which harms nobody.
        let state = self.state.load(Ordering::Relaxed);
        let (partition, sent) = (state >> 32, state & u64::from(u32::MAX));
        let sent = sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)).min(u64::from(u32::MAX));
        let next = if sent >= u64::from(self.batch_size) { random() << 32 } else { partition << 32 | sent };
        self.state.store(next, Ordering::Relaxed);
        // 32 random bits, scaled: every partition is equally likely however many there are.
        ((partition * partitions) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Java's UtilsTest.testMurmur2 and librdkafka's rdmurmur2.c.
    #[test]
    fn murmur2_is_javas() {
        for (key, hash) in [
            ("21", -973932308i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
            ("kafka", 0xd067_cf64_u32 as i32),
            ("giberish123456789", 0x8f55_2b0c_u32 as i32),
            ("", 0x106e_08d9),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key:?}");
        }
        assert_eq!(for_key(b"abc", 6), 479470107 % 6);
        assert_eq!(for_key(b"21", 6), ((-973932308i32 as u32 & 0x7fff_ffff) % 6) as usize);
    }

    #[test]
    fn sticky_fills_a_batch_before_it_moves() {
        let sticky = Sticky::new(1000, 0);
        let mut drawn = 0;
        let picks: Vec<_> = (0..30)
            .map(|_| {
                sticky.next(100, 4, || {
                    drawn += 1;
                    u64::from(u32::MAX / 4 * drawn + 9)
                })
            })
            .collect();
        assert_eq!(drawn, 3);
        assert_eq!(picks[..10], [0; 10]);
        assert_eq!(picks[10..20], [1; 10]);
        assert_eq!(picks[20..], [2; 10]);
    }
}
