//! Records to the bytes of a batch, each encoded once, behind room that is kept for the header.
//!
//! ```text
//!   BatchWriter   | 61 bytes of room | record | record | record ->
//!   SealedBatch   | header, no CRC   | record | record | record |          counts, times and length are known
//!   stamp         | header, CRC      | record | record | record |          producer id, epoch, sequence, and then the CRC
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::error::RecordError;
use super::header::{self, Attributes, BatchHeader, CRC_AT, HEADER_SIZE, Identity, MAGIC, PREFIX_SIZE};

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

        self.buffer.reserve(size.saturating_add(Scratch::SIZE));
        let mut head = Scratch::new();
        head.length(Some(layout.body));
        head.byte(0); // attributes: none are defined
        head.varint(zigzag(delta));
        head.varint(zigzag(index.into()));
        if let Some(key) = key {
            head.length(Some(key.len()));
            head.put(&mut self.buffer);
            self.buffer.extend_from_slice(key);
            head = Scratch::new();
        } else {
            head.length(None);
        }
        head.length(value.map(<[u8]>::len));
        head.put(&mut self.buffer);
        if let Some(value) = value {
            self.buffer.extend_from_slice(value);
        }
        if layout.headers == 0 {
            self.buffer.put_u8(0);
        } else {
            self.put_headers(layout.headers, headers);
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
        SealedBatch { header, bytes: Batch::Unstamped(self.buffer) }
    }

    /// Wraps, since a timestamp is whatever a user says; the reader's addition wraps back.
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
    }

    #[inline(never)]
    fn put_headers<'h, H, K>(&mut self, count: usize, headers: H)
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
        K: AsRef<[u8]>,
    {
        let mut head = Scratch::new();
        head.length(Some(count));
        for (key, value) in headers {
            let key = key.as_ref();
            head.length(Some(key.len()));
            head.put(&mut self.buffer);
            self.buffer.extend_from_slice(key);
            head = Scratch::new();
            head.length(value.map(<[u8]>::len));
            head.put(&mut self.buffer);
            head = Scratch::new();
            if let Some(value) = value {
                self.buffer.extend_from_slice(value);
            }
        }
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

/// A full batch that waits for its turn, then for its acknowledgement.
///
/// **Stamped late, copied never** (but once in a rare case). The batch is one contiguous buffer, mutable until it is
/// first sent, and shared read-only from then on: a request holds a clone, and a retry sends the same bytes. Only a
/// new epoch asks for other bytes, and nearly always after the last clone is gone (answered, or its connection
/// closed); then the buffer is taken back and patched in place. If a clone still lies in a socket's queue, those bytes
/// must not change under it: the batch is copied. Header and records as two segments would save this copy, and cost a
/// second `writev` segment and reference count in each of the millions of sends that need none.
#[derive(Debug)]
pub struct SealedBatch {
    header: BatchHeader,
    bytes: Batch,
}

#[derive(Debug)]
enum Batch {
    /// The header's place is still empty.
    Unstamped(BytesMut),
    /// As `header` says.
    Stamped(Bytes),
}

impl SealedBatch {
    /// The header; its CRC and identity are those of the last stamp.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Records in the batch.
    pub fn len(&self) -> usize {
        self.header.record_count() as usize
    }

    /// Nothing was appended: a broker refuses such a batch.
    pub fn is_empty(&self) -> bool {
        self.header.count == 0
    }

    /// Bytes, header included.
    pub fn size(&self) -> usize {
        self.header.size()
    }

    /// The greatest timestamp.
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Writes who sends it and the CRC, and hands out the bytes to send. Under the same identity as before these are
    /// the identical bytes, and nothing is computed again.
    pub fn stamp(&mut self, identity: Identity) -> Bytes {
        let taken = std::mem::replace(&mut self.bytes, Batch::Stamped(Bytes::new()));
        let buffer = match taken {
            Batch::Stamped(bytes) if self.header.identity() == identity => {
                self.bytes = Batch::Stamped(bytes.clone());
                return bytes;
            }
            Batch::Stamped(bytes) => bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])),
            Batch::Unstamped(buffer) => buffer,
        };
        let bytes = self.write_header(buffer, identity).freeze();
        self.bytes = Batch::Stamped(bytes.clone());
        bytes
    }

    /// The bytes of the last stamp: what was sent, and what a retry sends.
    pub fn bytes(&self) -> Option<Bytes> {
        match &self.bytes {
            Batch::Unstamped(_) => None,
            Batch::Stamped(bytes) => Some(bytes.clone()),
        }
    }

    /// The buffer for another [`BatchWriter`], unless a request still holds the bytes.
    pub fn recycle(self) -> Option<BytesMut> {
        match self.bytes {
            Batch::Unstamped(buffer) => Some(buffer),
            Batch::Stamped(bytes) => bytes.try_into_mut().ok(),
        }
    }

    fn write_header(&mut self, mut buffer: BytesMut, identity: Identity) -> BytesMut {
        self.header.producer_id = identity.producer_id;
        self.header.producer_epoch = identity.producer_epoch;
        self.header.base_sequence = identity.base_sequence;
        self.header.attributes = self.header.attributes.with_transactional(identity.transactional);
        if let Some(room) = buffer.first_chunk_mut::<HEADER_SIZE>() {
            *room = self.header.encode();
        }
        self.header.crc = header::checksum(&buffer);
        if let Some(room) = buffer.get_mut(CRC_AT..).and_then(<[u8]>::first_chunk_mut) {
            *room = self.header.crc.to_be_bytes();
        }
        buffer
    }
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

/// The few bytes before a field, put together on the stack.
///
/// They are copied into the buffer whole, and what is too much is cut off again: a copy of constant size is two moves
/// of a register, where one of seven bytes is a call.
struct Scratch {
    bytes: [u8; Self::SIZE],
    used: usize,
}

impl Scratch {
    /// More than the longest head: length 5, attributes 1, timestamp 10, offset 5, key length 5 (or 1 and value length 5).
    const SIZE: usize = 32;

    fn new() -> Self {
        Self { bytes: [0; Self::SIZE], used: 0 }
    }

    #[inline(always)]
    fn byte(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.used) {
            *slot = byte;
        }
        self.used = self.used.wrapping_add(1);
    }

    /// An unsigned LEB128.
    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// A length, or -1 for null.
    #[inline(always)]
    fn length(&mut self, length: Option<usize>) {
        match length {
            // At most a batch's size, so nothing is shifted out.
            Some(length) => self.varint((length as u64) << 1),
            None => self.byte(0x01),
        }
    }

    #[inline(always)]
    fn put(&self, buffer: &mut BytesMut) {
        let end = buffer.len().saturating_add(self.used);
        buffer.extend_from_slice(&self.bytes);
        buffer.truncate(end);
    }
}

/// Small numbers of either sign to small unsigned ones: 0, -1, 1, -2, ...
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Bytes of an unsigned LEB128: one for each seven bits begun.
fn varint_size(value: u64) -> usize {
    let bits = 64u32.saturating_sub((value | 1).leading_zeros());
    bits.div_ceil(7) as usize
}

fn length_size(length: usize) -> usize {
    varint_size((length as u64) << 1)
}

/// Bytes of a nullable byte field, its length included.
fn bytes_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| length_size(bytes.len()).saturating_add(bytes.len()))
}
