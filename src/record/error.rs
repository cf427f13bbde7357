//! What can be wrong with a record batch.

use super::header::Compression;
use crate::wire::cursor::DecodeError;

/// Why a batch cannot be read, or not written. A closed vocabulary; copied freely, since one bad batch may have to
/// fail many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not the ones that were checksummed: damaged on a disk or on the way.
    #[error("the batch's checksum is {found:08x} where its header says {expected:08x}")]
    CorruptCrc {
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Fewer bytes than the batch, or its header, is long.
    #[error("a batch of at least {needed} bytes in {remaining} bytes")]
    Truncated {
        /// How many bytes it takes.
        needed: usize,
        /// How many there are.
        remaining: usize,
    },
    /// A length that no batch can have: negative, or below the header's own size.
    #[error("a batch length of {0}")]
    BadLength(i32),
    /// A record count below zero.
    #[error("a record count of {0}")]
    BadCount(i32),
    /// Offsets that are negative, or run over the end of 64 bits.
    #[error("a batch from offset {base_offset}, {last_offset_delta} long")]
    BadOffsets {
        /// The first offset of the batch.
        base_offset: i64,
        /// The distance to its last one.
        last_offset_delta: i32,
    },
    /// A record lies outside the offsets that its batch's header claims.
    #[error("a record at offset delta {delta} in a batch that ends at {last}")]
    BadOffsetDelta {
        /// The record's distance from the first offset.
        delta: i32,
        /// The last distance there is.
        last: i32,
    },
    /// The batch ends before the records do that its header claims.
    #[error("{missing} of {claimed} records are missing from the batch")]
    MissingRecords {
        /// The count in the header.
        claimed: u32,
        /// How many were not there.
        missing: u32,
    },
    /// A control record whose key is no control key.
    #[error("a control record with a key of version {0}")]
    BadControlKey(i16),
    /// A format that does not exist yet.
    #[error("this version of milena does not read record format {0}")]
    UnsupportedMagic(i8),
    /// A message set, the format of before Kafka 0.11, that no broker would have taken.
    #[error("a message set {0}")]
    MessageSet(&'static str),
    /// A message set, which is read only once it was rewritten ([`RawBatch::decompress`](super::RawBatch::decompress)).
    #[error("messages of format {0} are not rewritten as records yet")]
    NotRewritten(i8),
    /// The records are compressed, and nobody decompressed them.
    #[error("the batch's records are still compressed with {0}")]
    Compressed(Compression),
    /// The records are compressed, and the codec was left out of this build.
    #[error("reading or writing batches compressed with {0} takes milena's feature `{0}`, which this build is without")]
    CodecMissing(Compression),
    /// What was compressed does not decompress, or the other way round.
    #[error("the batch's records are broken {codec}: {problem}")]
    Codec {
        /// What the header says that they are.
        codec: Compression,
        /// What is wrong.
        problem: &'static str,
    },
    /// The records became more than was allowed, and were given up there.
    #[error("the batch's records are more than {limit} bytes when decompressed")]
    TooLargeDecompressed {
        /// What was allowed.
        limit: usize,
    },
    /// The records became so much more than they were that it must be an attack, and were given up there.
    #[error("the batch's {compressed} bytes of records are more than {ratio} times as many when decompressed")]
    Ratio {
        /// Bytes before.
        compressed: usize,
        /// What was allowed.
        ratio: usize,
    },
    /// A codec that Kafka does not define.
    #[error("compression codec {0} is unknown")]
    UnknownCodec(u8),
    /// A batch that its own length fields could not describe.
    #[error("a batch of {0} bytes or records is more than the format can say")]
    TooLarge(usize),
    /// A field runs over its end, or something is left behind the last one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
