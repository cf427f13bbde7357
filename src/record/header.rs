//! The 61 bytes before the records of a batch.
//!
//! ```text
//!    0        8       12    16 17    21   23     27        35        43        51  53     57     61
//!    | base   | length| lead| m| crc | att| last | base    | max     | producer|ep-| base | count| records ...
//!    | offset |       | er  | a|     | ri | off- | time-   | time-   | id      |och| seq- |      |
//!    |        |       | ep. | g|     | b. | set Δ| stamp   | stamp   |         |   | uence|      |
//!                     '---------------------------- length counts these -------------------------...-'
//!                                    '------------- the CRC covers these ------------------------...-'
//! ```
//! The broker rewrites what the CRC leaves out (base offset, leader epoch) in every batch that it appends, without
//! reading the rest. Producer id, epoch and sequence are inside: who changes them computes the CRC again.
//! `magic` lies at byte 16 in every format there ever was, so it can be asked before anything else is understood.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut};

use super::error::RecordError;

/// Bytes before the first record.
pub const HEADER_SIZE: usize = 61;
/// Base offset and length: what `length` does not count.
pub const PREFIX_SIZE: usize = 12;
/// The first byte that the CRC covers: the attributes.
pub const CRC_COVERS_FROM: usize = 21;
/// Where the CRC itself is.
pub const CRC_AT: usize = 17;
/// The format since Kafka 0.11, and the only one that is written. Those before it: [`super::legacy`].
pub const MAGIC: i8 = 2;
/// `length` of a batch without records.
const MIN_LENGTH: i32 = 49;
/// Base offset, length, leader epoch (or legacy CRC), magic.
pub(super) const MAGIC_END: usize = 17;

/// A batch's header, every field as it was sent.
///
/// What [`Self::peek`] returns keeps: `length` is at least that of an empty batch, the count and both offset fields
/// are not negative, and the offset after the last one is an `i64`. Everything else may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record. Zero when produced; the broker sets it.
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub length: i32,
    /// Epoch of the leader that appended the batch: for truncation detection (KIP-320).
    pub partition_leader_epoch: i32,
    /// The format: 2; 0 or 1 if the header was made up for a message set, which has none ([`super::legacy`]).
    pub magic: i8,
    /// CRC-32C of all that follows it; zero for a message set, whose messages each have their own.
    pub crc: u32,
    /// Codec, kind of timestamps, transactional, control.
    pub attributes: Attributes,
    /// Distance from the first offset to the last. Survives compaction, even of the last record itself.
    pub last_offset_delta: i32,
    /// What the records' timestamps are relative to (with [`Attributes::has_delete_horizon`]: that horizon).
    pub base_timestamp: i64,
    /// The greatest timestamp; of every record, if the broker stamps them ([`TimestampType::LogAppend`]).
    pub max_timestamp: i64,
    /// Who produced it; -1 without idempotence.
    pub producer_id: i64,
    /// The producer's epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Records that are really there: compaction leaves fewer than offsets.
    pub count: i32,
}

impl BatchHeader {
    /// Reads a header without looking at the records, so that their CRC is not checked either.
    pub fn peek(bytes: &[u8]) -> Result<Self, RecordError> {
        let Some(mut rest) = bytes.get(..HEADER_SIZE) else {
            return Err(RecordError::Truncated { needed: HEADER_SIZE, remaining: bytes.len() });
        };
        // `get_*` panics at the end of the slice: the fields are the 61 bytes that were just made sure of.
        let header = Self {
            base_offset: rest.get_i64(),
            length: rest.get_i32(),
            partition_leader_epoch: rest.get_i32(),
            magic: rest.get_i8(),
            crc: rest.get_u32(),
            attributes: Attributes(rest.get_i16()),
            last_offset_delta: rest.get_i32(),
            base_timestamp: rest.get_i64(),
            max_timestamp: rest.get_i64(),
            producer_id: rest.get_i64(),
            producer_epoch: rest.get_i16(),
            base_sequence: rest.get_i32(),
            count: rest.get_i32(),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), RecordError> {
        // First of all, since the other fields are elsewhere in another format.
        if self.magic != MAGIC {
            return Err(RecordError::UnsupportedMagic(self.magic));
        }
        if self.length < MIN_LENGTH {
            return Err(RecordError::BadLength(self.length));
        }
        if self.count < 0 {
            return Err(RecordError::BadCount(self.count));
        }
        self.check_offsets()
    }

    pub(super) fn check_offsets(&self) -> Result<(), RecordError> {
        let Self { base_offset, last_offset_delta, .. } = *self;
        let next_offset = base_offset.checked_add(i64::from(last_offset_delta)).and_then(|last| last.checked_add(1));
        if base_offset < 0 || last_offset_delta < 0 || next_offset.is_none() {
            return Err(RecordError::BadOffsets { base_offset, last_offset_delta });
        }
        Ok(())
    }

    /// The bytes of a header, as drawn above.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        let mut rest = bytes.as_mut_slice();
        rest.put_i64(self.base_offset);
        rest.put_i32(self.length);
        rest.put_i32(self.partition_leader_epoch);
        rest.put_i8(self.magic);
        rest.put_u32(self.crc);
        rest.put_i16(self.attributes.0);
        rest.put_i32(self.last_offset_delta);
        rest.put_i64(self.base_timestamp);
        rest.put_i64(self.max_timestamp);
        rest.put_i64(self.producer_id);
        rest.put_i16(self.producer_epoch);
        rest.put_i32(self.base_sequence);
        rest.put_i32(self.count);
        bytes
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0).saturating_add(PREFIX_SIZE)
    }

    /// Offset of the last record that was in the batch when it was written.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Where to go on after this batch, however many of its records compaction has left.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Records in the batch, as claimed.
    pub fn record_count(&self) -> u32 {
        u32::try_from(self.count).unwrap_or(0)
    }

    /// Whether the records are behind a codec. An unknown codec counts.
    pub fn is_compressed(&self) -> bool {
        self.attributes.codec() != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Holds a marker, which is never shown to a user.
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// Who wrote the batch, with which sequence.
    pub fn identity(&self) -> Identity {
        Identity {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            transactional: self.is_transactional(),
        }
    }

    /// The timestamp that every record has, if the broker set it at append.
    pub fn log_append_time(&self) -> Option<i64> {
        (self.attributes.timestamp_type() == TimestampType::LogAppend).then_some(self.max_timestamp)
    }
}

/// CRC-32C over what the header's `crc` covers.
pub fn checksum(batch: &[u8]) -> u32 {
    // Kafka's CRC-32C goes by the name of iSCSI's among others.
    crc_fast::crc32_iscsi(batch.get(CRC_COVERS_FROM..).unwrap_or_default())
}

/// Who produced a batch, and where it stands among this producer's records of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Given out by InitProducerId.
    pub producer_id: i64,
    /// Goes up when an earlier instance is fenced off, or after a gap.
    pub producer_epoch: i16,
    /// Sequence of the first record; the others count up from it, from `i32::MAX` on to 0.
    pub base_sequence: i32,
    /// Invisible to read_committed consumers until its transaction commits.
    pub transactional: bool,
}

impl Identity {
    /// A producer without idempotence.
    pub const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false };
}

/// ```text
///   bit  15 ......... 7 |       6        |    5    |       4       |       3        | 2 1 0
///          unused       | delete horizon | control | transactional | log append time| codec
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const CODEC: i16 = 0x07;
    pub(super) const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// What the records are compressed with.
    pub fn compression(self) -> Result<Compression, RecordError> {
        Ok(match self.codec() {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            unknown => return Err(RecordError::UnknownCodec(unknown)),
        })
    }

    /// The same with this codec.
    #[must_use]
    pub fn with_compression(self, codec: Compression) -> Self {
        let bits = match codec {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        };
        Self(self.0 & !Self::CODEC | bits)
    }

    fn codec(self) -> u8 {
        // Three bits.
        (self.0 & Self::CODEC) as u8
    }

    /// Who set the timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        if self.is_log_append_time() { TimestampType::LogAppend } else { TimestampType::Create }
    }

    pub(super) fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Holds a marker.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp says when compaction may drop the batch's tombstones (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same with the transactional bit set or cleared.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Self {
        if transactional { Self(self.0 | Self::TRANSACTIONAL) } else { Self(self.0 & !Self::TRANSACTIONAL) }
    }
}

/// The codecs that Kafka defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Records as they are.
    None,
    /// `gzip`
    Gzip,
    /// `snappy`
    Snappy,
    /// `lz4`
    Lz4,
    /// `zstd`
    Zstd,
}

impl Compression {
    /// The levels that there are, from the fastest to the smallest. `None`: the codec knows one way only. That is so for
    /// snappy, and for lz4 in pure Rust; what Kafka calls lz4's levels are searches that only the C library has.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::None | Self::Snappy | Self::Lz4 => None,
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(1..=22),
        }
    }

    /// The level that `wish` means: the nearest there is, or the one that Java's client defaults to.
    pub(super) fn level(self, wish: Option<i32>) -> i32 {
        let default = match self {
            Self::None | Self::Snappy | Self::Lz4 => 0,
            Self::Gzip => 6,
            Self::Zstd => 3,
        };
        match (wish, self.levels()) {
            (Some(wish), Some(levels)) => wish.clamp(*levels.start(), *levels.end()),
            _ => default,
        }
    }

    /// Whether this build has the codec.
    pub fn is_available(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Who set the timestamps of a batch (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, record by record.
    Create,
    /// The broker, when it appended the batch.
    LogAppend,
}
