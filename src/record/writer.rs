//! Records to the bytes of a batch, each encoded once, behind room that is kept for the header.
//!
//! ```text
//!   BatchWriter   | 61 bytes of room | record | record | record ->
//!   SealedBatch   | 61 bytes of room | record | record | record |       counts, times and length are known
//!   stamp         | header           | record | record | record |       producer id, epoch, sequence, then the CRC
//! ```

use bytes::BytesMut;

use super::error::RecordError;
use super::header::{Attributes, BatchHeader, HEADER_SIZE, Identity, MAGIC, PREFIX_SIZE};
use super::sealed::SealedBatch;

/// For records without headers: an empty list that knows its type.
pub const NO_HEADERS: [(&str, Option<&[u8]>); 0] = [];

/// A batch that still takes records.
#[derive(Debug)]
pub struct BatchWriter {
    /// Invariant: begins with `HEADER_SIZE` bytes of room, then whole records up to `end`. What is behind that is of no
    /// meaning: bytes of a batch before, or zeros.
    buffer: BytesMut,
    end: usize,
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
        if buffer.len() < HEADER_SIZE {
            buffer.resize(HEADER_SIZE, 0);
        }
        Self { buffer, end: HEADER_SIZE, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Moves what is written into another buffer, which becomes as large as that if it is smaller. Returns the one that
    /// it was in.
    pub fn move_to(&mut self, mut buffer: BytesMut) -> BytesMut {
        let written = self.buffer.get(..self.end).unwrap_or_default();
        match buffer.get_mut(..self.end) {
            Some(place) => place.copy_from_slice(written),
            None => {
                buffer.clear();
                buffer.extend_from_slice(written);
            }
        }
        std::mem::replace(&mut self.buffer, buffer)
    }

    /// The buffer for another one, without what was written.
    pub fn into_buffer(self) -> BytesMut {
        self.buffer
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
        self.end
    }

    /// What [`Self::size`] can become before the buffer must grow: [`Self::SPARE`] bytes less than it has.
    pub fn room(&self) -> usize {
        self.buffer.capacity().saturating_sub(Self::SPARE)
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
        let [time, far] = Few::varlong(zigzag(self.timestamp_delta(timestamp)));
        let number = Few::varint(zigzag(index.into()));
        let (key_length, value_length) = (Few::length(key.map(<[u8]>::len)), Few::length(value.map(<[u8]>::len)));
        let (mut header_count, mut header_size) = (0usize, 0usize);
        for (key, value) in headers.clone() {
            header_size = header_size.saturating_add(bytes_size(Some(key.as_ref()))).saturating_add(bytes_size(value));
            header_count = header_count.saturating_add(1);
        }
        let header_length = Few::length(Some(header_count));
        // Slices are shorter than half of what a usize counts, and the rest is a few dozen bytes.
        let fields = key.map_or(0, <[u8]>::len).wrapping_add(value.map_or(0, <[u8]>::len)).saturating_add(header_size);
        let lengths = key_length.count.wrapping_add(value_length.count).wrapping_add(header_length.count);
        let numbers = time.count.wrapping_add(far.count).wrapping_add(number.count);
        let body = fields.saturating_add(lengths.wrapping_add(numbers).wrapping_add(1));
        let length = Few::length(Some(body));
        let size = body.saturating_add(length.count);
        // Below this limit every length in the batch fits an i32, and so does the count.
        let total = self.end.saturating_add(size);
        if total > limit.min(i32::MAX as usize) {
            return Err(size);
        }
        let room = total.saturating_add(Self::SPARE);
        if room > self.buffer.len() {
            self.make_room(room);
        }
        let Some(place) = self.buffer.get_mut(self.end..room) else { return Err(size) };

        let mut place = Place { bytes: place, at: 0 };
        // After the length the attributes, of which none are defined.
        match length.then_zero().joined(time).joined(number) {
            front if front.count <= 8 && far.count == 0 => place.put(front),
            _ => [length.then_zero(), time, far, number].into_iter().for_each(|few| place.put(few)),
        }
        match key {
            None => place.put(key_length.joined(value_length)),
            Some(key) => {
                place.put(key_length);
                place.put_bytes(key);
                place.put(value_length);
            }
        }
        if let Some(value) = value {
            place.put_bytes(value);
        }
        place.put(header_length);
        if header_count > 0 {
            place.put_headers(headers);
        }
        debug_assert_eq!(place.at, size, "a record is as large as was computed");
        self.end = total;

        if index == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count = index.saturating_add(1);
        Ok(index)
    }

    /// So that a batch's last bytes, too, can be written eight at a time.
    pub const SPARE: usize = 8;

    /// Zeros behind what is written, some more than are needed now: a used buffer has been written to before, and needs
    /// none, while a new one costs memory only as it fills.
    #[cold]
    fn make_room(&mut self, room: usize) {
        const STEP: usize = 4096;
        let capacity = self.buffer.capacity();
        if room > capacity {
            self.buffer.reserve(room.saturating_sub(self.buffer.len()));
        }
        let ahead = room.saturating_add(STEP).min(self.buffer.capacity());
        self.buffer.resize(ahead, 0);
    }

    /// Ends the batch: all of the header is known but who sends it.
    pub fn finish(mut self) -> SealedBatch {
        self.buffer.truncate(self.end);
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

/// Where a record goes: as many bytes as it takes, and [`BatchWriter::SPARE`] more.
struct Place<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Place<'_> {
    /// One store of eight bytes: what is too much, the next one overwrites.
    #[inline(always)]
    fn put(&mut self, few: Few) {
        if let Some(place) = self.bytes.get_mut(self.at..).and_then(<[u8]>::first_chunk_mut) {
            *place = few.bytes.to_le_bytes();
        }
        self.at = self.at.saturating_add(few.count);
    }

    #[inline(always)]
    fn put_bytes(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn put_headers<'h, H, K>(&mut self, headers: H)
    where
        H: IntoIterator<Item = (K, Option<&'h [u8]>)>,
        K: AsRef<[u8]>,
    {
        for (key, value) in headers {
            for field in [Some(key.as_ref()), value] {
                self.put(Few::length(field.map(<[u8]>::len)));
                self.put_bytes(field.unwrap_or_default());
            }
        }
    }
}

/// Up to eight bytes in a register, the first one lowest.
///
/// They go into the buffer as one store of eight: put together byte by byte in memory and copied from there, they would
/// have to wait for each other.
#[derive(Clone, Copy)]
struct Few {
    bytes: u64,
    count: usize,
}

impl Few {
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

    /// At most ten bytes, but two, in the first half, unless the timestamps of a batch are far apart.
    #[inline(always)]
    fn varlong(value: u64) -> [Self; 2] {
        match value {
            0..=Self::MAX => [Self::varint(value), Self { bytes: 0, count: 0 }],
            _ => Self::far(value),
        }
    }

    #[cold]
    fn far(value: u64) -> [Self; 2] {
        let (low, high) = (value & Self::MAX, value >> 49);
        // All of the seven bytes say that more follow.
        let septet = |n: u32| (low >> n.wrapping_mul(7) & 0x7f | 0x80) << n.wrapping_mul(8);
        [Self { bytes: (0..7).map(septet).fold(0, |bytes, byte| bytes | byte), count: 7 }, Self::varint(high)]
    }

    /// A length, or -1 for null. At most a batch's size, so five bytes.
    #[inline(always)]
    fn length(length: Option<usize>) -> Self {
        length.map_or(Self { bytes: 1, count: 1 }, |length| Self::varint((length as u64) << 1))
    }

    /// Both, one behind the other. Of more than eight bytes only the count is right.
    #[inline(always)]
    fn joined(self, next: Self) -> Self {
        let count = self.count.saturating_add(next.count);
        let shift = (self.count as u32).wrapping_mul(8);
        Self { bytes: self.bytes | next.bytes.wrapping_shl(shift), count }
    }

    /// One more byte: zero, which the unused ones are already.
    #[inline(always)]
    fn then_zero(self) -> Self {
        Self { count: self.count.saturating_add(1), ..self }
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
