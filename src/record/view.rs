//! One record: where its fields lie in the batch, and the ways to look at them.
//!
//! ```text
//!   | length | attributes | timestamp Δ | offset Δ | key length | key | value length | value | headers | header ...
//!   | varint |     i8     |   varlong   |  varint  |   varint   |     |    varint    |       | varint  |
//!
//!   header:  | key length | key | value length | value |        a length of -1 is null; a header's key is never null
//! ```
//! [`RecordAt`] is that, decoded and checked once: 40 bytes of offsets, no pointer, so it can lie beside its batch in
//! one struct. [`RecordView`] borrows the batch, [`RecordSlice`] owns a share of it; both are a `RecordAt` and bytes.

use bytes::Bytes;

use super::error::RecordError;
use super::header::BatchHeader;
use crate::wire::cursor::{DecodeError, Reader};

/// The smallest record: one byte for each of its seven fields.
pub const MIN_RECORD_SIZE: usize = 7;
/// The smallest header of a record: two lengths.
const MIN_HEADER_SIZE: usize = 2;

/// Where a record lies in its batch's bytes.
///
/// Invariant: made by `decode` alone, so with the same bytes no accessor finds anything missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAt {
    offset: i64,
    timestamp: i64,
    key: Span,
    value: Span,
    headers_at: u32,
    header_count: u32,
}

impl RecordAt {
    /// Decodes the record at `at`, and says where the next one begins.
    pub(super) fn decode(batch: &Bytes, at: usize, header: &BatchHeader) -> Result<(Self, usize), RecordError> {
        let mut reader = Reader::new(batch);
        reader.take(at)?;
        let length = varint(&mut reader)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::NegativeLength(length.into()))?;
        let mut record = reader.sub(length)?;
        let end = batch.len().saturating_sub(reader.remaining());

        record.take(1)?; // attributes: none are defined
        let timestamp_delta = varlong(&mut record)?;
        let delta = varint(&mut record)?;
        if delta < 0 || delta > header.last_offset_delta {
            return Err(RecordError::BadOffsetDelta { delta, last: header.last_offset_delta });
        }
        let key = Span::decode(&mut record, end)?;
        let value = Span::decode(&mut record, end)?;
        let header_count = varint(&mut record)?;
        let header_count = u32::try_from(header_count).map_err(|_| DecodeError::NegativeLength(header_count.into()))?;
        let headers_at = position(&record, end);
        if header_count > 0 {
            record = check_headers(record, header_count)?;
        }
        record.finish()?;

        let record = Self {
            // Neither overflows: `BatchHeader::check` saw that the last offset is one. Timestamps may be anything,
            // and what a wrapping subtraction wrote a wrapping addition restores.
            offset: header.base_offset.saturating_add(delta.into()),
            timestamp: match header.log_append_time() {
                Some(time) => time,
                None => header.base_timestamp.wrapping_add(timestamp_delta),
            },
            key,
            value,
            headers_at,
            header_count,
        };
        Ok((record, end))
    }

    /// Where the record stands in its partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970: the producer's, or the broker's if the topic says so.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The record's own bytes, copied out of those that it was decoded from, and where its fields lie in them.
    pub fn detach(&self, batch: &Bytes) -> (Bytes, Self) {
        let mut headers = self.view(batch).headers();
        headers.by_ref().for_each(drop);
        let start = self.key.at;
        let end = batch.len().saturating_sub(headers.reader.remaining());
        let own = Bytes::copy_from_slice(batch.get(start as usize..end).unwrap_or_default());
        // Fields come in this order, so none lies before the key.
        let shift = |span: Span| Span { at: span.at.saturating_sub(start), ..span };
        let (key, value) = (shift(self.key), shift(self.value));
        (own, Self { key, value, headers_at: self.headers_at.saturating_sub(start), ..*self })
    }

    /// The record in the bytes that it was decoded from.
    pub fn view<'a>(&self, batch: &'a Bytes) -> RecordView<'a> {
        RecordView { batch, at: *self }
    }
}

/// A record lent from its batch: 48 bytes, copied freely, no reference counted.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    batch: &'a Bytes,
    at: RecordAt,
}

impl<'a> RecordView<'a> {
    /// Where the record stands in its partition.
    pub fn offset(&self) -> i64 {
        self.at.offset
    }

    /// Milliseconds since 1970: the producer's, or the broker's if the topic says so.
    pub fn timestamp(&self) -> i64 {
        self.at.timestamp
    }

    /// What the record was partitioned by. Empty and null are different keys.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.at.key.of(self.batch)
    }

    /// The payload; null is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.at.value.of(self.batch)
    }

    /// The headers, in the order in which they were written; a key may come twice.
    pub fn headers(&self) -> Headers<'a> {
        let mut reader = Reader::new(self.batch);
        match reader.take(self.at.headers_at as usize) {
            Ok(_) => Headers { reader, left: self.at.header_count },
            Err(_) => Headers { reader, left: 0 },
        }
    }

    /// The record as a share of its batch: one reference count.
    pub fn to_slice(self) -> RecordSlice {
        RecordSlice { batch: self.batch.clone(), at: self.at }
    }

    pub(super) fn key_reader(&self) -> Option<Reader<'a>> {
        let length = usize::try_from(self.at.key.length).ok()?;
        let mut reader = Reader::new(self.batch);
        reader.take(self.at.key.at as usize).ok()?;
        reader.sub(length).ok()
    }
}

/// A record that owns a share of its batch, and so keeps all of it in memory until dropped or [detached](Self::detach).
#[derive(Clone, Debug)]
pub struct RecordSlice {
    batch: Bytes,
    at: RecordAt,
}

impl RecordSlice {
    pub(super) fn new(batch: Bytes, at: RecordAt) -> Self {
        Self { batch, at }
    }

    /// The same record, lent.
    pub fn view(&self) -> RecordView<'_> {
        self.at.view(&self.batch)
    }

    /// Where the record stands in its partition.
    pub fn offset(&self) -> i64 {
        self.at.offset
    }

    /// Milliseconds since 1970: the producer's, or the broker's if the topic says so.
    pub fn timestamp(&self) -> i64 {
        self.at.timestamp
    }

    /// What the record was partitioned by.
    pub fn key(&self) -> Option<&[u8]> {
        self.view().key()
    }

    /// The payload; null is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.view().value()
    }

    /// The headers, in the order in which they were written.
    pub fn headers(&self) -> Headers<'_> {
        self.view().headers()
    }

    /// The key as a share of the batch: one more reference count.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.batch.slice_ref(key))
    }

    /// The value as a share of the batch: one more reference count.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.batch.slice_ref(value))
    }

    /// Bytes that this record keeps in memory: those of the whole batch, and of whatever else it was fetched with.
    pub fn pinned(&self) -> usize {
        self.batch.len()
    }

    /// The record with its own bytes, copied out, so that a small record kept for long frees the large batch.
    #[must_use]
    pub fn detach(&self) -> Self {
        let (batch, at) = self.at.detach(&self.batch);
        Self { batch, at }
    }
}

/// A record's headers, decoded while they are asked for.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Cannot fail: `RecordAt::decode` went this way.
        header(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// One header. Nothing makes a producer write UTF-8, and a foreign key must not cost the record: so keys are bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name.
    pub key: &'a [u8],
    /// Null is not empty.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// The name, if it is text.
    pub fn name(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

/// A field in a batch: 8 bytes where a slice takes 16. A batch's length is an `i32`, so both parts fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    at: u32,
    /// -1 is null.
    length: i32,
}

impl Span {
    #[inline(always)]
    fn decode(record: &mut Reader<'_>, end: usize) -> Result<Self, DecodeError> {
        let length = varint(record)?;
        let at = position(record, end);
        match usize::try_from(length) {
            Ok(length) => {
                record.take(length)?;
            }
            Err(_) if length == -1 => {}
            Err(_) => return Err(DecodeError::NegativeLength(length.into())),
        }
        Ok(Self { at, length })
    }

    fn of(self, batch: &[u8]) -> Option<&[u8]> {
        let length = usize::try_from(self.length).ok()?;
        batch.get(self.at as usize..)?.get(..length)
    }
}

/// How far a record's sub-reader, which ends at `end`, has come. `end` fits, as `RecordCursor::new` makes sure.
#[inline(always)]
fn position(record: &Reader<'_>, end: usize) -> u32 {
    end.wrapping_sub(record.remaining()) as u32
}

/// Headers are read again when somebody asks for them; here they are only proven to be whole.
#[inline(never)]
fn check_headers(mut record: Reader<'_>, count: u32) -> Result<Reader<'_>, DecodeError> {
    record.check_count(count as usize, MIN_HEADER_SIZE)?;
    for _ in 0..count {
        header(&mut record)?;
    }
    Ok(record)
}

/// [`Reader::varint`] with its first two bytes in line: lengths, offset deltas and counts hardly ever take more, and
/// a record has five of them.
#[inline(always)]
fn varint(reader: &mut Reader<'_>) -> Result<i32, DecodeError> {
    match short_varint(reader) {
        Some(value) => Ok(value),
        None => {
            // A copy goes out of line, so that the reader itself can stay in registers.
            let mut long = reader.clone();
            let value = long.varint();
            *reader = long;
            value
        }
    }
}

#[inline(always)]
fn varlong(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    match short_varint(reader) {
        Some(value) => Ok(value.into()),
        None => {
            let mut long = reader.clone();
            let value = long.varlong();
            *reader = long;
            value
        }
    }
}

/// A zigzag varint of one or two bytes. Whatever else there is, or is wrong, is left to the cursor.
#[inline(always)]
fn short_varint(reader: &mut Reader<'_>) -> Option<i32> {
    let mut ahead = reader.clone();
    let [low] = ahead.array().ok()?;
    let mut raw = i32::from(low);
    if low >= 0x80 {
        let [high] = ahead.array().ok()?;
        if high >= 0x80 {
            return None;
        }
        raw = i32::from(low & 0x7f) | i32::from(high) << 7;
    }
    *reader = ahead;
    Some((raw >> 1) ^ (raw & 1).wrapping_neg())
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, DecodeError> {
    let key = nullable(reader)?.ok_or(DecodeError::NegativeLength(-1))?;
    Ok(Header { key, value: nullable(reader)? })
}

fn nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    match varint(reader)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| DecodeError::NegativeLength(length.into()))?;
            reader.take(length).map(Some)
        }
    }
}
