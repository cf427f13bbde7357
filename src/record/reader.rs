//! Fetched bytes to batches to records, each step only as far as somebody asks.

use bytes::Bytes;

use super::codec::{Decompressor, Limits};
use super::error::RecordError;
use super::header::{self, BatchHeader, Compression, HEADER_SIZE, MAGIC, MAGIC_END, PREFIX_SIZE};
use super::legacy;
use super::view::{MIN_RECORD_SIZE, RecordAt, RecordSlice, RecordView};
use crate::wire::cursor::Reader;

/// The batches of a fetched record set, one behind the other.
///
/// ```text
///   | batch | batch | batch | bat        the broker cuts where the byte limit is: a partial last batch is normal
///                           '- rest -'
/// ```
/// Nothing of a batch is handed out before its CRC holds (unless told not to check). An error ends the iterator: the
/// length field lies outside the CRC, so behind a bad batch there is no telling where the next one begins.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
    check_crc: bool,
    failed: bool,
}

impl Batches {
    /// `check_crc`: Java's `check.crcs`.
    pub fn new(records: Bytes, check_crc: bool) -> Self {
        Self { rest: records, check_crc, failed: false }
    }

    /// What no batch was made of yet; after the last one, the partial batch.
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// The size that the batch in front would have if it were whole. A consumer whose fetch brought nothing but a
    /// partial batch must ask for this much, or it would ask for the same bytes for ever.
    pub fn needs(&self) -> Option<usize> {
        let length = i32::from_be_bytes(*self.rest.get(8..)?.first_chunk()?);
        Some(usize::try_from(length).ok()?.saturating_add(PREFIX_SIZE))
    }

    fn step(&mut self) -> Result<Option<RawBatch>, RecordError> {
        let mut reader = Reader::new(&self.rest);
        if reader.remaining() < PREFIX_SIZE {
            return Ok(None);
        }
        reader.i64()?;
        let length = reader.i32()?;
        // The smallest of any format.
        if length < legacy::MIN_SIZE {
            return Err(RecordError::BadLength(length));
        }
        if self.rest.len() < MAGIC_END {
            return Ok(None);
        }
        reader.i32()?;
        let magic = reader.i8()?;
        // Not the version of the request says what was stored, and one answer may hold all formats (rule 38).
        if legacy::is_message(magic) {
            return legacy::next(&mut self.rest, self.check_crc);
        }
        if magic != MAGIC {
            return Err(RecordError::UnsupportedMagic(magic));
        }
        if self.rest.len() < HEADER_SIZE {
            return Ok(None);
        }
        let header = BatchHeader::peek(&self.rest)?;
        if self.rest.len() < header.size() {
            return Ok(None);
        }
        let batch = RawBatch { header, bytes: self.rest.split_to(header.size()), is_checked: self.check_crc };
        if self.check_crc {
            batch.check_crc()?;
        }
        Ok(Some(batch))
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

/// Where to go on behind the batch or message in front, as far as its header can be believed: nothing of it is checked.
pub fn next_offset(set: &[u8]) -> Option<i64> {
    BatchHeader::peek(set).ok().map(|header| header.next_offset()).or_else(|| legacy::next_offset(set))
}

/// A batch as it was fetched: its header, and a slice of the frame that holds all of it. Or some messages of before
/// Kafka 0.11, with a header that says the same of them.
#[derive(Clone, Debug)]
pub struct RawBatch {
    pub(super) header: BatchHeader,
    pub(super) bytes: Bytes,
    /// Its CRC was verified. If messages inside have their own, those will be, too.
    pub(super) is_checked: bool,
}

impl RawBatch {
    /// The header, as sent; made up for a message set.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All of the batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether the bytes are the ones that were written.
    pub fn check_crc(&self) -> Result<(), RecordError> {
        if legacy::is_message(self.header.magic) {
            return legacy::check_crc(&self.bytes);
        }
        match header::checksum(&self.bytes) {
            found if found == self.header.crc => Ok(()),
            found => Err(RecordError::CorruptCrc { expected: self.header.crc, found }),
        }
    }

    /// The records, decoded while they are asked for, lent from this batch; not if they are compressed.
    pub fn records(&self) -> Result<Records<'_>, RecordError> {
        self.check_plain()?;
        Records::new(&self.header, &self.bytes, HEADER_SIZE)
    }

    /// The records, for a consumer that goes on with the batch at a later call; not if they are compressed.
    pub fn into_records(self) -> Result<OwnedRecords, RecordError> {
        self.check_plain()?;
        OwnedRecords::new(self.header, self.bytes, HEADER_SIZE)
    }

    /// The batch with its records decompressed. One that is not compressed is handed on, for nothing. A message set is
    /// rewritten as records, in any case.
    pub fn decompress(self, decompressor: &mut Decompressor, limits: Limits) -> Result<Unpacked, RecordError> {
        if legacy::is_message(self.header.magic) {
            return legacy::unpack(self, decompressor, limits);
        }
        let Self { header, bytes, .. } = self;
        match header.attributes.compression()? {
            Compression::None => Ok(Unpacked { header, bytes, at: HEADER_SIZE }),
            codec => {
                let records = bytes.get(HEADER_SIZE..).unwrap_or_default();
                Ok(Unpacked { bytes: decompressor.decompress(codec, records, limits)?, header, at: 0 })
            }
        }
    }

    fn check_plain(&self) -> Result<(), RecordError> {
        if legacy::is_message(self.header.magic) {
            return Err(RecordError::NotRewritten(self.header.magic));
        }
        match self.header.attributes.compression()? {
            Compression::None => Ok(()),
            codec => Err(RecordError::Compressed(codec)),
        }
    }
}

/// A batch whose records are not compressed, or not any more.
#[derive(Clone, Debug)]
pub struct Unpacked {
    pub(super) header: BatchHeader,
    /// Begins with the header, or with the first record if they were decompressed.
    pub(super) bytes: Bytes,
    /// Where the first record is.
    pub(super) at: usize,
}

impl Unpacked {
    /// The header, as sent: it still says what the records were compressed with. That of a message set has found out its
    /// offsets, times and count by now.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// What the records' places are relative to, and what stays in memory while one of them does.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// As [`RawBatch::records`].
    pub fn records(&self) -> Result<Records<'_>, RecordError> {
        Records::new(&self.header, &self.bytes, self.at)
    }

    /// As [`RawBatch::into_records`].
    pub fn into_records(self) -> Result<OwnedRecords, RecordError> {
        OwnedRecords::new(self.header, self.bytes, self.at)
    }
}

/// How far a batch has been read: the one place where its records are counted.
///
/// ```text
///   | header | record | record | record | record |
///                              ^ at     '- left: 2 -'
/// ```
/// It holds no bytes: its owner gives it the same header and batch at every step.
#[derive(Clone, Debug)]
pub struct RecordCursor {
    at: usize,
    left: u32,
    /// Nothing comes any more: the end was checked, or an error was handed out.
    ended: bool,
}

impl RecordCursor {
    /// Refuses a batch that claims more records than its bytes can hold.
    fn new(header: &BatchHeader, bytes: &Bytes, at: usize) -> Result<Self, RecordError> {
        // Whatever they were unpacked from: a record's fields are noted as 32-bit places in these bytes.
        if u32::try_from(bytes.len()).is_err() {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let mut reader = Reader::new(bytes);
        reader.take(at)?;
        let left = header.record_count();
        reader.check_count(left as usize, MIN_RECORD_SIZE)?;
        Ok(Self { at, left, ended: false })
    }

    /// The next record. After an error there are no more: where the next record begins is not known.
    pub fn next(&mut self, header: &BatchHeader, bytes: &Bytes) -> Option<Result<RecordAt, RecordError>> {
        if self.ended {
            return None;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.ended = true;
            return self.check_end(bytes).err().map(Err);
        };
        match RecordAt::decode(bytes, self.at, header) {
            Ok((record, next)) => {
                self.at = next;
                self.left = left;
                Some(Ok(record))
            }
            Err(error) => {
                self.ended = true;
                let missing = RecordError::MissingRecords { claimed: header.record_count(), missing: self.left };
                Some(Err(if self.at < bytes.len() { error } else { missing }))
            }
        }
    }

    fn check_end(&self, bytes: &Bytes) -> Result<(), RecordError> {
        let mut reader = Reader::new(bytes);
        reader.take(self.at)?;
        Ok(reader.finish()?)
    }

    /// Records that are still to come, by the header's count.
    pub fn left(&self) -> u32 {
        self.left
    }
}

/// A batch's records, lent: no allocation, no reference count.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: &'a BatchHeader,
    bytes: &'a Bytes,
    cursor: RecordCursor,
}

impl<'a> Records<'a> {
    fn new(header: &'a BatchHeader, bytes: &'a Bytes, at: usize) -> Result<Self, RecordError> {
        Ok(Self { header, bytes, cursor: RecordCursor::new(header, bytes, at)? })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.cursor.next(self.header, self.bytes)?;
        Some(next.map(|at| at.view(self.bytes)))
    }
}

/// A batch with its place in it, to be kept between calls.
///
/// `next_at` and `view` are apart, so that an owner can move on, decide (skip, stop at a bound), and lend afterwards.
#[derive(Clone, Debug)]
pub struct OwnedRecords {
    header: BatchHeader,
    bytes: Bytes,
    cursor: RecordCursor,
}

impl OwnedRecords {
    fn new(header: BatchHeader, bytes: Bytes, at: usize) -> Result<Self, RecordError> {
        Ok(Self { cursor: RecordCursor::new(&header, &bytes, at)?, header, bytes })
    }

    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Records that are still to come, by the header's count.
    pub fn left(&self) -> u32 {
        self.cursor.left()
    }

    /// Bytes of the batch, which stay in memory while this does.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Moves on, and says where the record lies: no reference count.
    pub fn next_at(&mut self) -> Option<Result<RecordAt, RecordError>> {
        self.cursor.next(&self.header, &self.bytes)
    }

    /// A record that [`Self::next_at`] found, lent.
    pub fn view(&self, at: RecordAt) -> RecordView<'_> {
        at.view(&self.bytes)
    }

    /// A record that [`Self::next_at`] found, with a share of the batch.
    pub fn slice(&self, at: RecordAt) -> RecordSlice {
        RecordSlice::new(self.bytes.clone(), at)
    }
}

impl Iterator for OwnedRecords {
    type Item = Result<RecordSlice, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_at()?;
        Some(next.map(|at| self.slice(at)))
    }
}
