//! The one place that reads and writes raw bytes of the protocol.
//!
//! Everything that a broker sends is hostile until it passed through [`Reader`]: slices are checked, a list count is
//! refused when the bytes that remain cannot hold so many items, and nothing is reserved from a length that was only
//! claimed. Nothing here panics, whatever the bytes are.

use bytes::{Bytes, BytesMut};

/// Why bytes are not the message that they should be. A closed vocabulary: the connection that sent them is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends before the field does.
    #[error("{needed} bytes expected where {remaining} remain")]
    UnexpectedEnd { needed: usize, remaining: usize },
    /// A variable-length integer goes on after its last possible byte.
    #[error("a variable-length integer is longer than its type")]
    VarintTooLong,
    /// A length below zero where null is no choice.
    #[error("a length of {0}")]
    NegativeLength(i64),
    /// A list claims more items than the bytes that remain could hold.
    #[error("a list of {count} items of at least {min_size} bytes in {remaining} bytes")]
    CountTooLarge { count: usize, min_size: usize, remaining: usize },
    /// Text that is not UTF-8.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// Null in a field that has no null in this version.
    #[error("null in a field that cannot be null in this version")]
    UnexpectedNull,
    /// Bytes are left after the last field.
    #[error("{0} bytes after the last field")]
    TrailingBytes(usize),
    /// Tagged fields must come in ascending order, once each (KIP-482).
    #[error("tagged fields out of order")]
    TagOrder,
}

/// Why a message cannot be written in the version that was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The field is set, and dropping it silently would change what the request means.
    #[error("`{field}` is not part of version {version} of the request")]
    NotInVersion { field: &'static str, version: i16 },
    /// The field is null, and this version cannot say so.
    #[error("version {version} of the request has no null for `{field}`")]
    NullInVersion { field: &'static str, version: i16 },
    /// A string, a list or the whole frame is longer than its length field can say.
    #[error("{0} bytes or items are more than the protocol's length field can say")]
    TooLong(usize),
}

/// Reads one frame, front to back.
///
/// ```text
///   frame: |........................................|
///          '- consumed -'------- rest --------------'
/// ```
/// Invariant: `rest` is a sub-slice of `frame`, so byte fields are handed out as slices of it, without a copy.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Ends the message: bytes that no field claimed are an error.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(DecodeError::TrailingBytes(n)),
        }
    }

    /// The next `n` bytes as a reader of their own, so that what they hold cannot run over its end.
    pub fn sub(&mut self, n: usize) -> Result<Self, DecodeError> {
        Ok(Self { frame: self.frame, rest: self.take(n)? })
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(DecodeError::UnexpectedEnd { needed: n, remaining: self.rest.len() }),
        }
    }

    /// The next `n` bytes as a slice of the frame: a reference count, no copy.
    pub fn bytes(&mut self, n: usize) -> Result<Bytes, DecodeError> {
        let taken = self.take(n)?;
        Ok(self.frame.slice_ref(taken))
    }

    /// All that is left, as a slice of the frame.
    pub fn rest(&mut self) -> Bytes {
        let taken = std::mem::take(&mut self.rest);
        self.frame.slice_ref(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(DecodeError::UnexpectedEnd { needed: N, remaining: self.rest.len() }),
        }
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// Takes the next byte if it is zero.
    #[inline]
    pub fn take_zero(&mut self) -> bool {
        let [0, rest @ ..] = self.rest else { return false };
        self.rest = rest;
        true
    }

    /// An unsigned LEB128 of at most 32 bits: five bytes, the last one below 16.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32, DecodeError> {
        // Nearly all of them.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u32::from(*byte));
        }
        self.long_uvarint()
    }

    fn long_uvarint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0u32, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    pub fn uvarlong(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in [0u32, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let [byte] = self.array()?;
            if shift == 63 && byte > 0x01 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A zigzag varint of 32 bits, as records use them.
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let raw = self.uvarint()?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// A zigzag varint of 64 bits.
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let raw = self.uvarlong()?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// The length before a string, byte field or list: `None` is null.
    ///
    /// Flexible versions (KIP-482) write `length + 1` as an unsigned varint, older ones a fixed `i16` or `i32`.
    pub fn length(&mut self, flexible: bool, short: bool) -> Result<Option<usize>, DecodeError> {
        let length = match (flexible, short) {
            (true, _) => i64::from(self.uvarint()?).wrapping_sub(1),
            (false, true) => i64::from(self.i16()?),
            (false, false) => i64::from(self.i32()?),
        };
        match length {
            -1 => Ok(None),
            // A length is at most 32 bits, and so fits.
            0.. => Ok(Some(usize::try_from(length).unwrap_or(usize::MAX))),
            _ => Err(DecodeError::NegativeLength(length)),
        }
    }

    /// Refuses a list count that the remaining bytes cannot hold, before anything is reserved for it.
    pub fn check_count(&self, count: usize, min_size: usize) -> Result<(), DecodeError> {
        let remaining = self.rest.len();
        match count.checked_mul(min_size.max(1)) {
            Some(needed) if needed <= remaining => Ok(()),
            _ => Err(DecodeError::CountTooLarge { count, min_size, remaining }),
        }
    }
}

/// A frame ready for the socket: pieces that are written one behind the other (`writev`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub segments: Vec<Bytes>,
}

impl Frame {
    pub fn size(&self) -> usize {
        self.segments.iter().map(Bytes::len).fold(0, usize::saturating_add)
    }

    /// One contiguous copy: for tests and small frames.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.size());
        for segment in &self.segments {
            all.extend_from_slice(segment);
        }
        all.freeze()
    }
}

/// Writes one frame.
///
/// Small fields go into one buffer; a large byte field (a record batch) is only noted with the place where it
/// belongs, so a sealed batch is never copied again:
/// ```text
///   buffer:   | size | header, topic, partition | tail |
///   shared:                                     ^ batch of 128 KiB
///   frame:    [ size, header, topic, partition ] [ batch ] [ tail ]
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    /// Ascending places in `buffer`, each with the bytes to insert there.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
}

impl Writer {
    /// Below this, copying beats one more segment in the vectored write.
    const SHARE_FROM: usize = 1024;

    pub fn new() -> Self {
        Self::default()
    }

    /// With room for so many bytes of small fields: a buffer that grows byte by byte is moved seven times on its way
    /// to 512.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub fn size(&self) -> usize {
        self.buffer.len().saturating_add(self.shared_len)
    }

    /// Drops what was written; the allocation stays.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.shared.clear();
        self.shared_len = 0;
    }

    pub fn u8(&mut self, value: u8) {
        self.buffer.push(value);
    }

    pub fn i16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Byte fields: shared when large, copied when small.
    pub fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < Self::SHARE_FROM {
            self.slice(bytes);
        } else {
            self.shared.push((self.buffer.len(), bytes.clone()));
            self.shared_len = self.shared_len.saturating_add(bytes.len());
        }
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// The counterpart of [`Reader::length`].
    pub fn length(&mut self, length: Option<usize>, flexible: bool, short: bool) -> Result<(), EncodeError> {
        let too_long = || EncodeError::TooLong(length.unwrap_or_default());
        match (flexible, short) {
            (true, _) => {
                let plus_one = length.map_or(Some(0), |n| n.checked_add(1));
                self.uvarint(plus_one.and_then(|n| u32::try_from(n).ok()).ok_or_else(too_long)?);
            }
            (false, true) => self.i16(length.map_or(Ok(-1), i16::try_from).map_err(|_| too_long())?),
            (false, false) => self.i32(length.map_or(Ok(-1), i32::try_from).map_err(|_| too_long())?),
        }
        Ok(())
    }

    /// Appends what another writer holds: a tagged field, whose size comes before it.
    pub fn append(&mut self, other: Self) {
        let base = self.buffer.len();
        self.buffer.extend_from_slice(&other.buffer);
        for (at, bytes) in other.shared {
            self.shared.push((base.saturating_add(at), bytes));
        }
        self.shared_len = self.shared_len.saturating_add(other.shared_len);
    }

    /// Puts the size of all that follows it into the first four bytes, and hands the frame over.
    pub fn into_frame(mut self) -> Result<Frame, EncodeError> {
        let size = self.size().saturating_sub(4);
        let size = i32::try_from(size).map_err(|_| EncodeError::TooLong(size))?;
        if let Some(prefix) = self.buffer.first_chunk_mut::<4>() {
            *prefix = size.to_be_bytes();
        }
        Ok(Frame { segments: self.into_segments() })
    }

    /// What was written, without a frame around it.
    pub fn into_segments(self) -> Vec<Bytes> {
        let mut rest = Bytes::from(self.buffer);
        if self.shared.is_empty() && !rest.is_empty() {
            return vec![rest];
        }
        let mut segments = Vec::with_capacity(self.shared.len().saturating_mul(2).saturating_add(1));
        let mut cut = 0usize;
        for (at, bytes) in self.shared {
            // Places ascend and lie inside the buffer, so neither subtraction nor split can fail.
            let head = rest.split_to(at.saturating_sub(cut).min(rest.len()));
            cut = at;
            if !head.is_empty() {
                segments.push(head);
            }
            segments.push(bytes);
        }
        if !rest.is_empty() {
            segments.push(rest);
        }
        segments
    }
}
