//! Which partition a record goes to, when it does not say so itself.
//!
//! A producer without any of these does as Java's: records with a key by murmur2, the others to a partition that changes
//! with every batch. [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner) puts another in its place.
//!
//! | | records with a key | records without |
//! |---|---|---|
//! | default | murmur2 of the key, as Java's clients, kafka-python and librdkafka's `murmur2_random` | sticky |
//! | [`ConsistentRandom`] | CRC-32 of the key, as librdkafka's default | sticky |
//! | [`Consistent`] | CRC-32 of the key | all in one partition |
//! | [`RoundRobin`] | the next partition in turn | the next partition in turn |
//!
//! *Sticky* (KIP-480, KIP-794): a batch's worth of bytes goes to one partition, then another is drawn among those that
//! have a leader; the longer the queue of a partition, the less often. Records that name their
//! [partition](crate::Record::partition) are asked nobody about.

/// Chooses the partitions of records.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use milena::partitioner::{Candidate, Partitioner};
/// use milena::Record;
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 3);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
///
/// /// Records with the key `vip` have the last partition to themselves.
/// struct Vip;
///
/// impl Partitioner for Vip {
///     fn partition(&self, record: &Candidate<'_>) -> Option<i32> {
///         match record.key {
///             Some(b"vip") => Some(record.partitions - 1),
///             Some(key) => Some(i32::from(key[0]) % (record.partitions - 1)),
///             None => None,
///         }
///     }
/// }
///
/// let producer = client.producer().partitioner(Vip).build()?;
/// assert_eq!(producer.send(Record::to("orders").key("vip").value("v")).await?.partition, 2);
/// assert_ne!(producer.send(Record::to("orders").key("other").value("v")).await?.partition, 2);
/// # Ok(()) }
/// ```
pub trait Partitioner: Send + Sync + 'static {
    /// The partition of a record: below [`Candidate::partitions`], or the record is refused with
    /// [`UnknownPartition`](crate::ErrorKind::UnknownPartition). `None` leaves it to the sticky partition.
    ///
    /// Called once for each record that names no partition, on the thread that enqueues it, under no lock of the client:
    /// it may use the producer. A panic goes to whoever enqueues.
    fn partition(&self, record: &Candidate<'_>) -> Option<i32>;
}

/// A record in search of a partition.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, unless it is a tombstone.
    pub value: Option<&'a [u8]>,
    /// How many partitions the topic has, as far as is known now: 1 or more. May grow at any time, never shrinks.
    pub partitions: i32,
    /// Those that have a leader now, ascending. A record for another waits until that has one again. Empty when none has.
    pub available: &'a [i32],
    /// How many records of this producer for this topic a partitioner was asked about before.
    pub nth: u64,
}

/// By the CRC-32 of the key; sticky without a key, and with an empty one. Keys go where librdkafka puts them by default:
/// for who shares topics with its users. (librdkafka: `partitioner=consistent_random`.)
#[derive(Clone, Copy, Debug, Default)]
pub struct ConsistentRandom;

impl Partitioner for ConsistentRandom {
    fn partition(&self, record: &Candidate<'_>) -> Option<i32> {
        let key = record.key.filter(|key| !key.is_empty())?;
        Some(by_crc32(key, record.partitions))
    }
}

/// By the CRC-32 of the key; partition 0 without a key. (librdkafka: `partitioner=consistent`.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Consistent;

impl Partitioner for Consistent {
    fn partition(&self, record: &Candidate<'_>) -> Option<i32> {
        Some(by_crc32(record.key.unwrap_or_default(), record.partitions))
    }
}

/// Each record of a topic to the next partition that has a leader, whatever its key. Many small batches: it costs more
/// than the sticky default, which is as even over time. (Java: `RoundRobinPartitioner`.)
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Partitioner for RoundRobin {
    fn partition(&self, record: &Candidate<'_>) -> Option<i32> {
        match u64::try_from(record.available.len()) {
            Ok(count @ 1..) => record.available.get((record.nth % count) as usize).copied(),
            _ => Some((record.nth % u64::from(record.partitions.unsigned_abs().max(1))) as i32),
        }
    }
}

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

fn by_crc32(key: &[u8], partitions: i32) -> i32 {
    // Below the count, which is an i32.
    (crc32(key) % partitions.unsigned_abs().max(1)) as i32
}

/// CRC-32 as zip and librdkafka (`rd_crc32`) have it: reflected polynomial 0xedb88320. Keys are short: one table will do.
fn crc32(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !data.iter().fold(!0, |crc, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `Utils.murmur2` and `BuiltInPartitioner.partitionForKey` of kafka-clients 4.3.1, for 6 and for 17 partitions.
    /// Negative hashes lose their sign bit, not their sign.
    #[test]
    fn keys_go_where_java_puts_them() {
        for (key, hash, of_6, of_17) in [
            ("", 275646681, 3, 11),
            ("0", 971027396, 2, 10),
            ("1", -1993445489, 3, 3),
            ("a", -1563381124, 4, 0),
            ("ab", 316155434, 2, 8),
            ("abc", 479470107, 3, 16),
            ("abcd", -1323649548, 2, 7),
            ("abcde", 461995741, 1, 1),
            ("21", -973932308, 0, 13),
            ("foobar", -790332482, 0, 9),
            ("42", 417700972, 4, 7),
            ("key", -1079937367, 1, 1),
            ("user-1", 1404122828, 2, 8),
            ("user-2", -324981792, 2, 9),
            ("order-99", -2086474694, 0, 0),
            ("ünïcödé", 201421315, 1, 11),
            ("this is another string with more length to it perhaps", -814283814, 2, 11),
            ("hejsan", 1589744533, 1, 5),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key:?}");
            assert_eq!((for_key(key.as_bytes(), 6), for_key(key.as_bytes(), 17)), (of_6, of_17), "{key:?}");
        }
        let bytes = [0xff, 0x80, 0, 1, 0xfe];
        assert_eq!((murmur2(&bytes).cast_signed(), for_key(&bytes, 6)), (-173560464, 2));
    }

    /// Java's UtilsTest.testMurmur2 and librdkafka's rdmurmur2.c.
    #[test]
    fn murmur2_is_javas() {
        for (key, hash) in [
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("kafka", 0xd067_cf64_u32.cast_signed()),
            ("giberish123456789", 0x8f55_2b0c_u32.cast_signed()),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key:?}");
        }
    }

    /// Where librdkafka 2.16 (the Python wheel, on its own mock cluster of 4 partitions) put these keys, both by
    /// `consistent` and by `consistent_random`; the hashes are zlib's.
    #[test]
    fn keys_go_where_librdkafka_puts_them() {
        for (key, hash, partition) in [
            ("0", 4108050209, 1),
            ("1", 2212294583, 3),
            ("a", 3904355907, 3),
            ("ab", 2659403885, 1),
            ("abc", 891568578, 2),
            ("abcd", 3984772369, 1),
            ("21", 4252452532, 0),
            ("foobar", 2666930069, 1),
            ("42", 841265288, 0),
            ("key", 2324736937, 1),
            ("user-1", 2116437524, 0),
            ("user-2", 3878623150, 2),
            ("order-99", 1972085019, 3),
            ("ünïcödé", 245509067, 3),
            ("this is another string with more length to it perhaps", 2954169847, 3),
            ("hejsan", 3497460606, 2),
        ] {
            assert_eq!(crc32(key.as_bytes()), hash, "{key:?}");
            let candidate = candidate(Some(key), 4, &[0, 1, 2, 3], 0);
            assert_eq!(ConsistentRandom.partition(&candidate), Some(partition), "{key:?}");
            assert_eq!(Consistent.partition(&candidate), Some(partition), "{key:?}");
        }
        for empty in [None, Some("")] {
            assert_eq!(ConsistentRandom.partition(&candidate(empty, 4, &[0, 1, 2, 3], 7)), None);
            assert_eq!(Consistent.partition(&candidate(empty, 4, &[1, 2, 3], 7)), Some(0));
        }
    }

    #[test]
    fn round_robin_passes_over_what_has_no_leader_unless_nothing_has() {
        let turn = |available: &[i32]| {
            (0..6)
                .map(|nth| RoundRobin.partition(&candidate(Some("k"), 4, available, nth)).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(turn(&[0, 1, 2, 3]), [0, 1, 2, 3, 0, 1]);
        assert_eq!(turn(&[1, 3]), [1, 3, 1, 3, 1, 3]);
        assert_eq!(turn(&[]), [0, 1, 2, 3, 0, 1]);
    }

    fn candidate<'a>(key: Option<&'a str>, partitions: i32, available: &'a [i32], nth: u64) -> Candidate<'a> {
        Candidate { topic: "t", key: key.map(str::as_bytes), value: None, partitions, available, nth }
    }
}
