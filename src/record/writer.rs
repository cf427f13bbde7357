//! Records to the bytes of a batch, each encoded once, behind room that is kept for the header.
//!
//! ```text
//!   BatchWriter   | 61 bytes of room | record | record | record ->
//!   SealedBatch   | 61 bytes of room | record | record | record |       counts, times and length are known
//!   stamp         | header           | record | record | record |       producer id, epoch, sequence, then the CRC
//! ```

use bytes::{BufMut, BytesMut};

use super::error::RecordError;
use super::header::{Attributes, BatchHeader, HEADER_SIZE, Identity, MAGIC, PREFIX_SIZE};
use super::sealed::SealedBatch;

/// For records without headers: an empty list that knows its type.
pub const NO_HEADERS: [(&str, Option<&[u8]>); 0] = [];

/// A batch that still takes records.
#[derive(Debug)]
pub struct BatchWriter {
    /// Invariant: begins with `HEADER_SIZE` bytes of room, then whole records only.
    buffer: BytesMut,
    count: u32,
    /// The first record's: timestamps are written relative to it.
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchWriter {
    /// What an open batch starts with, unless its owner knows better. It doubles whenever it is full, so ten thousand
    /// idle partitions take 10 MB, and a full batch of 128 KiB was moved seven times at most.
    pub const INITIAL_CAPACITY: usize = 1024;

    /// Reserves `capacity_hint` bytes at once, header included.
    pub fn new(capacity_hint: usize) -> Self {
        Self::with_buffer(BytesMut::with_capacity(capacity_hint.max(HEADER_SIZE)))
    }

    /// Writes into a used buffer, whatever it holds: see [`SealedBatch::recycle`].
    pub fn with_buffer(mut buffer: BytesMut) -> Self {
        buffer.clear();
        buffer.put_bytes(0, HEADER_SIZE);
        Self { buffer, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Records so far: the index that the next one gets.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// No record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far, header included: what the batch adds to a request.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that are reserved.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The greatest timestamp so far.
    pub fn max_timestamp(&self) -> Option<i64> {
        (self.count > 0).then_some(self.max_timestamp)
    }

    /// The bytes by which [`Self::size`] will grow if this record is appended next: exact.
    pub fn record_size<'h, H, K>(&self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: H) -> usize
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
        K: AsRef<[u8]>,
    {
        let delta = self.timestamp_delta(timestamp);
        Layout::of(delta, self.count, key, value, headers).size()
    }

    /// Encodes a record behind the others, and returns its index. Allocates only when the buffer must grow.
    ///
    /// Whether the record still fits is the caller's decision ([`Self::record_size`]). This refuses only what the
    /// format cannot say: a batch of 2 GiB.
    pub fn append<'h, H, K>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, RecordError>
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)> + Clone,
        K: AsRef<[u8]>,
    {
        let appended = self.append_within(i32::MAX as usize, timestamp, key, value, headers);
        appended.map_err(|size| RecordError::TooLarge(self.size().saturating_add(size)))
    }

    /// [`Self::append`], unless the batch would grow beyond `limit` bytes: then nothing is written, and the error is
    /// the size that the record would have here. Asks and writes in one go, so the size is computed once.
    pub fn append_within<'h, H, K>(
        &mut self,
        limit: usize,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, usize>
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)> + Clone,
        K: AsRef<[u8]>,
    {
        let index = self.count;
        let delta = self.timestamp_delta(timestamp);
        let layout = Layout::of(delta, index, key, value, headers.clone());
        let size = layout.size();
        // Below this limit every length in the batch fits an i32, and so does the count.
        let total = self.buffer.len().saturating_add(size);
        if total > limit.min(i32::MAX as usize) {
            return Err(size);
        }

        let buffer = &mut self.buffer;
        buffer.reserve(size.saturating_add(Few::ROOM));
        Few::length(Some(layout.body)).then_zero().put(buffer); // attributes: none are defined
        put_varlong(buffer, zigzag(delta));
        Few::varint(zigzag(index.into())).put(buffer);
        put_field(buffer, key);
        put_field(buffer, value);
        Few::length(Some(layout.headers)).put(buffer);
        if layout.headers > 0 {
            put_headers(buffer, headers);
        }
        debug_assert_eq!(self.buffer.len(), total, "a record is as large as was computed");

        if index == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count = index.saturating_add(1);
        Ok(index)
    }

    /// Ends the batch: all of the header is known but who sends it.
    pub fn finish(self) -> SealedBatch {
        let count = i32::try_from(self.count).unwrap_or(i32::MAX);
        let header = BatchHeader {
            base_offset: 0,
            length: i32::try_from(self.buffer.len().saturating_sub(PREFIX_SIZE)).unwrap_or(i32::MAX),
            partition_leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: count.saturating_sub(1).max(0),
            base_timestamp: self.base_timestamp,
            max_timestamp: if self.count == 0 { -1 } else { self.max_timestamp },
            producer_id: Identity::NONE.producer_id,
            producer_epoch: Identity::NONE.producer_epoch,
            base_sequence: Identity::NONE.base_sequence,
            count,
        };
        SealedBatch::new(header, self.buffer)
    }

    /// Wraps, since a timestamp is whatever a user says; the reader's addition wraps back.
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
    }
}

/// The most bytes that a record can take in any batch, at any place: for a check before a batch is chosen.
pub fn record_size_upper_bound<'h, H, K>(key: Option<&[u8]>, value: Option<&[u8]>, headers: H) -> usize
where
    H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
    K: AsRef<[u8]>,
{
    // Zigzag makes the largest number of bytes from the smallest number.
    Layout::of(i64::MIN, i32::MAX.unsigned_abs(), key, value, headers).size()
}

/// Sizes of a record to be: they come before its bytes.
struct Layout {
    /// All but the length in front.
    body: usize,
    headers: usize,
}

impl Layout {
    #[inline]
    fn of<'h, H, K>(delta: i64, index: u32, key: Option<&[u8]>, value: Option<&[u8]>, headers: H) -> Self
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
        K: AsRef<[u8]>,
    {
        let mut layout = Self { body: 1, headers: 0 };
        layout.add(varint_size(zigzag(delta)));
        layout.add(varint_size(zigzag(index.into())));
        layout.add(bytes_size(key));
        layout.add(bytes_size(value));
        for (key, value) in headers {
            layout.add(bytes_size(Some(key.as_ref())));
            layout.add(bytes_size(value));
            layout.headers = layout.headers.saturating_add(1);
        }
        layout.add(length_size(layout.headers));
        layout
    }

    fn add(&mut self, bytes: usize) {
        self.body = self.body.saturating_add(bytes);
    }

    fn size(&self) -> usize {
        self.body.saturating_add(length_size(self.body))
    }
}

fn put_headers<'h, H, K>(buffer: &mut BytesMut, headers: H)
where
    H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
    K: AsRef<[u8]>,
{
    for (key, value) in headers {
        put_field(buffer, Some(key.as_ref()));
        put_field(buffer, value);
    }
}

/// A nullable byte field with its length.
#[inline(always)]
fn put_field(buffer: &mut BytesMut, bytes: Option<&[u8]>) {
    Few::length(bytes.map(<[u8]>::len)).put(buffer);
    if let Some(bytes) = bytes {
        buffer.extend_from_slice(bytes);
    }
}

/// At most ten bytes, but two unless the timestamps of a batch are far apart.
#[inline(always)]
fn put_varlong(buffer: &mut BytesMut, mut value: u64) {
    while value > Few::MAX {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    Few::varint(value).put(buffer);
}

/// Up to eight bytes in a register, the first one lowest.
///
/// They go into the buffer as one store of eight, and what is too much is cut off again: put together byte by byte in
/// memory and copied from there, they would have to wait for each other.
#[derive(Clone, Copy)]
struct Few {
    bytes: u64,
    count: usize,
}

impl Few {
    /// What a store of eight bytes may touch behind a record.
    const ROOM: usize = 8;
    /// Seven bytes of seven bits.
    const MAX: u64 = (1 << 49) - 1;

    /// An unsigned LEB128 of a number up to [`Self::MAX`].
    #[inline(always)]
    fn varint(value: u64) -> Self {
        match value {
            0..0x80 => Self { bytes: value, count: 1 },
            0x80..0x4000 => Self { bytes: (value & 0x7f) | 0x80 | (value >> 7) << 8, count: 2 },
            _ => Self::long_varint(value),
        }
    }

    #[inline(never)]
    fn long_varint(value: u64) -> Self {
        let mut bytes = [0; 8];
        let mut rest = value;
        let mut count = 0usize;
        for byte in &mut bytes {
            *byte = (rest & 0x7f) as u8;
            rest >>= 7;
            count = count.saturating_add(1);
            if rest == 0 {
                break;
            }
            *byte |= 0x80;
        }
        Self { bytes: u64::from_le_bytes(bytes), count }
    }

    /// A length, or -1 for null. At most a batch's size, so five bytes.
    #[inline(always)]
    fn length(length: Option<usize>) -> Self {
        length.map_or(Self { bytes: 1, count: 1 }, |length| Self::varint((length as u64) << 1))
    }

    /// One more byte: zero, which the unused ones are already.
    #[inline(always)]
    fn then_zero(self) -> Self {
        Self { count: self.count.saturating_add(1), ..self }
    }

    #[inline(always)]
    fn put(self, buffer: &mut BytesMut) {
        let end = buffer.len().saturating_add(self.count);
        buffer.extend_from_slice(&self.bytes.to_le_bytes());
        buffer.truncate(end);
    }
}

/// Small numbers of either sign to small unsigned ones: 0, -1, 1, -2, ...
#[inline(always)]
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes of an unsigned LEB128: one for each seven bits begun.
#[inline(always)]
pub(super) fn varint_size(value: u64) -> usize {
    let bits = 64u32.saturating_sub((value | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

#[inline(always)]
fn length_size(length: usize) -> usize {
    varint_size((length as u64) << 1)
}

/// Bytes of a nullable byte field, its length included.
#[inline(always)]
fn bytes_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| length_size(bytes.len()).saturating_add(bytes.len()))
}
