//! A batch between its last record and its acknowledgement.

use bytes::{Bytes, BytesMut};

use super::codec::{Compressor, Decompressor, Limits};
use super::error::RecordError;
use super::header::{self, BatchHeader, CRC_AT, Compression, HEADER_SIZE, Identity, PREFIX_SIZE};
use super::reader::Batches;
use super::writer::BatchWriter;

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
    /// `buffer` begins with room for `header`, and holds all else that `header` says.
    pub(super) fn new(header: BatchHeader, buffer: BytesMut) -> Self {
        Self { header, bytes: Batch::Unstamped(buffer) }
    }

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

    /// Puts the records behind a codec, unless that makes them no smaller; `level` as [`Compressor::compress`] takes it.
    /// Whether it did. Only before the first stamp: what was sent is not changed.
    ///
    /// The batch stays in its buffer, so this allocates nothing but what `compressor` keeps.
    pub fn compress(
        &mut self,
        codec: Compression,
        level: Option<i32>,
        compressor: &mut Compressor,
    ) -> Result<bool, RecordError> {
        let Batch::Unstamped(buffer) = &mut self.bytes else { return Ok(false) };
        if self.header.is_compressed() || codec == Compression::None {
            return Ok(false);
        }
        let records = buffer.get(HEADER_SIZE..).unwrap_or_default();
        let compressed = compressor.compress(codec, level, records)?;
        if compressed.len() >= records.len() {
            return Ok(false);
        }
        buffer.truncate(HEADER_SIZE);
        buffer.extend_from_slice(compressed);
        self.header.attributes = self.header.attributes.with_compression(codec);
        // Less than before, which was an `i32`.
        self.header.length = i32::try_from(buffer.len().saturating_sub(PREFIX_SIZE)).unwrap_or(i32::MAX);
        Ok(true)
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

    /// Two batches of about as many bytes, in order, for a broker that takes none of this size; each behind the same
    /// codec. `None`: it holds a single record. Only after a stamp.
    ///
    /// Reads and writes every record again, which a producer does when a broker's limit is below its own, and seldom.
    pub fn split(&self) -> Result<Option<(Self, Self)>, RecordError> {
        let Some(bytes) = self.bytes().filter(|_| self.len() > 1) else { return Ok(None) };
        let codec = self.header.attributes.compression()?;
        let Some(raw) = Batches::new(bytes, false).next() else { return Ok(None) };
        // Our own batch: as large as it was before it was compressed.
        let limits = Limits { max_output: i32::MAX as usize, ratio: usize::MAX };
        let unpacked = raw?.decompress(&mut Decompressor::new(), limits)?;
        let room = if codec == Compression::None { 0 } else { HEADER_SIZE };
        let half = unpacked.bytes().len().saturating_add(room).saturating_add(HEADER_SIZE) / 2;
        let (mut front, mut back) = (BatchWriter::new(half), BatchWriter::new(half));
        let mut left = self.len();
        for record in unpacked.records()? {
            let record = record?;
            left = left.saturating_sub(1);
            // A record at least in each.
            let is_front = front.is_empty() || (left > 0 && back.is_empty() && front.size() < half);
            let writer = if is_front { &mut front } else { &mut back };
            let headers: Vec<_> = record.headers().map(|header| (header.key, header.value)).collect();
            writer.append(record.timestamp(), record.key(), record.value(), headers)?;
        }
        let mut compressor = Compressor::new();
        let (mut front, mut back) = (front.finish(), back.finish());
        front.compress(codec, None, &mut compressor)?;
        back.compress(codec, None, &mut compressor)?;
        Ok(Some((front, back)))
    }

    /// The bytes of the last stamp: what was sent, and what a retry sends.
    pub fn bytes(&self) -> Option<Bytes> {
        match &self.bytes {
            Batch::Unstamped(_) => None,
            Batch::Stamped(bytes) => Some(bytes.clone()),
        }
    }

    /// The buffer for another [`BatchWriter`](super::BatchWriter), unless a request still holds the bytes.
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
