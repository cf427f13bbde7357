//! Message sets: formats 0 and 1, from before Kafka 0.11. Old topics on old brokers still hold them; nobody writes them
//! here.
//!
//! ```text
//!    0        8      12    16  17  18          26 (v0: 18)
//!    | offset | size | crc | m | a | timestamp | key length | key | value length | value |  next message ...
//!    |  i64   | i32  | u32 |   |   | i64, v1   |    i32     |     |     i32      |       |
//!                    '--------------- size counts these ---------------------------------'
//!                          '--------- the CRC (IEEE) covers these -----------------------'
//!
//!   a wrapper:  | offset | size | crc | m | codec | timestamp | -1 | length | a compressed set of plain messages |
//! ```
//! `magic` lies where a batch has it. A wrapper carries the offset of its **last** message. The messages inside have
//! offsets relative to that in format 1, as far as compaction left gaps between them; absolute ones in format 0.
//!
//! **A set is read by rewriting it**, once, as the records of a batch of format 2: then whoever reads records knows one
//! format alone, and pays nothing for the others. A record is never longer than its message was, and no field lies
//! behind its old place, so this happens in place, in what was decompressed:
//! ```text
//!   v0   | 22 bytes           | key | 4 bytes     | value |         |  v1: 30 bytes before the key
//!   v2   | 17 bytes at most | key | 5 at most | value | 1 |         |  v1: 26 at most
//! ```

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use super::codec::{Decompressor, Limits};
use super::error::RecordError;
use super::header::{Attributes, BatchHeader, Compression, Identity, PREFIX_SIZE};
use super::reader::{RawBatch, Unpacked};
use super::writer::{varint_size, zigzag};
use crate::wire::cursor::DecodeError;

/// What the CRC covers begins behind it.
const CRC_COVERS_FROM: usize = 16;
/// `size` of a message without key and value, which in format 1 has a timestamp.
pub const MIN_SIZE: i32 = 14;
const MIN_SIZE_1: i32 = 22;
/// Where the length of the key is.
const KEY_AT: usize = 18;
const KEY_AT_1: usize = 26;
/// Plain messages are handed out by so many bytes at a time, so that rewriting them takes no second copy of all that was
/// fetched.
const RUN: usize = 64 << 10;

/// Whether this is the magic of a message.
pub fn is_message(magic: i8) -> bool {
    matches!(magic, 0 | 1)
}

/// A message's fixed fields.
#[derive(Clone, Copy, Debug)]
struct Message {
    offset: i64,
    crc: u32,
    magic: i8,
    attributes: Attributes,
    /// -1 in format 0.
    timestamp: i64,
    /// Bytes of all of it.
    size: usize,
}

impl Message {
    /// The message in front, unless the bytes end before it does.
    fn peek(bytes: &[u8]) -> Result<Option<Self>, RecordError> {
        let mut rest = bytes;
        let (Ok(offset), Ok(length)) = (rest.try_get_i64(), rest.try_get_i32()) else { return Ok(None) };
        if length < MIN_SIZE {
            return Err(RecordError::BadLength(length));
        }
        let (Ok(crc), Ok(magic)) = (rest.try_get_u32(), rest.try_get_i8()) else { return Ok(None) };
        if !is_message(magic) {
            return Err(RecordError::UnsupportedMagic(magic));
        }
        if magic == 1 && length < MIN_SIZE_1 {
            return Err(RecordError::BadLength(length));
        }
        if offset < 0 || offset == i64::MAX {
            return Err(RecordError::BadOffsets { base_offset: offset, last_offset_delta: 0 });
        }
        let size = usize::try_from(length).unwrap_or(0).saturating_add(PREFIX_SIZE);
        if bytes.len() < size {
            return Ok(None);
        }
        // The smallest size has room for these.
        let attributes = i16::from(rest.try_get_u8().unwrap_or(0));
        let (attributes, timestamp) = match magic {
            0 => (Attributes(attributes & Attributes::CODEC), -1),
            _ => {
                let known = Attributes::CODEC | Attributes::LOG_APPEND_TIME;
                (Attributes(attributes & known), rest.try_get_i64().unwrap_or(-1))
            }
        };
        Ok(Some(Self { offset, crc, magic, attributes, timestamp, size }))
    }

    fn check_crc(&self, bytes: &[u8]) -> Result<(), RecordError> {
        match crc32fast::hash(bytes.get(CRC_COVERS_FROM..self.size).unwrap_or_default()) {
            found if found == self.crc => Ok(()),
            found => Err(RecordError::CorruptCrc { expected: self.crc, found }),
        }
    }

    fn is_compressed(&self) -> bool {
        self.attributes.compression() != Ok(Compression::None)
    }

    /// Where key and value lie behind the message's first byte, if they are not null.
    fn fields(&self, bytes: &[u8]) -> Result<[Option<Range<usize>>; 2], RecordError> {
        let message = bytes.get(..self.size).unwrap_or_default();
        let mut at = if self.magic == 0 { KEY_AT } else { KEY_AT_1 };
        let mut field = || {
            let mut rest = message.get(at..).unwrap_or_default();
            let end = |needed| DecodeError::UnexpectedEnd { needed, remaining: message.len().saturating_sub(at) };
            let length = rest.try_get_i32().map_err(|_| end(4))?;
            let start = at.saturating_add(4);
            let length = match usize::try_from(length) {
                Ok(length) if length <= rest.len() => Some(length),
                Ok(length) => return Err(end(length)),
                Err(_) if length == -1 => None,
                Err(_) => return Err(DecodeError::NegativeLength(length.into())),
            };
            at = start.saturating_add(length.unwrap_or(0));
            Ok(length.map(|_| start..at))
        };
        let fields = [field()?, field()?];
        match message.len().saturating_sub(at) {
            0 => Ok(fields),
            left => Err(DecodeError::TrailingBytes(left).into()),
        }
    }
}

/// The plain messages in front that go together, or a wrapper alone, as a batch with a header made up for it; unless
/// the bytes end before.
pub fn next(rest: &mut Bytes, check_crc: bool) -> Result<Option<RawBatch>, RecordError> {
    let Some(first) = Message::peek(rest)? else { return Ok(None) };
    if check_crc {
        first.check_crc(rest)?;
    }
    let mut run = Run::new(&first);
    if !first.is_compressed() {
        while let Some(behind) = rest.get(run.size..)
            && let Ok(Some(next)) = Message::peek(behind)
            && run.takes(&next)
            // What ends it here is found again, and reported, in front of the next ones.
            && (!check_crc || next.check_crc(behind).is_ok())
        {
            run.add(&next);
        }
    }
    Ok(Some(RawBatch { header: run.header(), bytes: rest.split_to(run.size), is_checked: check_crc }))
}

/// Messages that become one batch: they have everything in common that a batch's header says once.
struct Run {
    first: Message,
    last_offset: i64,
    max_timestamp: i64,
    count: i32,
    size: usize,
}

impl Run {
    fn new(first: &Message) -> Self {
        let Message { offset, timestamp, size, .. } = *first;
        Self { first: *first, last_offset: offset, max_timestamp: timestamp, count: 1, size }
    }

    fn takes(&self, next: &Message) -> bool {
        let first = &self.first;
        let distance = next.offset.checked_sub(first.offset);
        self.size.saturating_add(next.size) <= RUN
            && (next.magic, next.attributes) == (first.magic, first.attributes)
            && next.offset > self.last_offset
            && distance.is_some_and(|distance| i32::try_from(distance).is_ok())
            // The broker's time is one for a whole batch.
            && (next.timestamp == first.timestamp || !first.attributes.is_log_append_time())
    }

    fn add(&mut self, next: &Message) {
        self.last_offset = next.offset;
        self.max_timestamp = self.max_timestamp.max(next.timestamp);
        self.count = self.count.saturating_add(1);
        self.size = self.size.saturating_add(next.size);
    }

    /// A wrapper's says of what is inside only where it ends.
    fn header(&self) -> BatchHeader {
        let first = &self.first;
        BatchHeader {
            base_offset: first.offset,
            // The first message's was an `i32`, and a run is shorter than most of those.
            length: i32::try_from(self.size.saturating_sub(PREFIX_SIZE)).unwrap_or(i32::MAX),
            partition_leader_epoch: -1,
            magic: first.magic,
            crc: 0,
            attributes: first.attributes,
            // As `takes` saw.
            last_offset_delta: i32::try_from(self.last_offset.saturating_sub(first.offset)).unwrap_or(i32::MAX),
            base_timestamp: first.timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: Identity::NONE.producer_id,
            producer_epoch: Identity::NONE.producer_epoch,
            base_sequence: Identity::NONE.base_sequence,
            count: self.count,
        }
    }
}

/// Whether the bytes of all messages are the ones that were written.
pub fn check_crc(set: &[u8]) -> Result<(), RecordError> {
    let mut rest = set;
    while let Some(message) = Message::peek(rest)? {
        message.check_crc(rest)?;
        rest = rest.get(message.size..).unwrap_or_default();
    }
    Ok(())
}

/// Where to go on behind the message in front, as far as it can be believed.
pub fn next_offset(bytes: &[u8]) -> Option<i64> {
    Some(Message::peek(bytes).ok()??.offset.saturating_add(1))
}

/// What [`next`] found, as records of format 2.
pub fn unpack(batch: RawBatch, decompressor: &mut Decompressor, limits: Limits) -> Result<Unpacked, RecordError> {
    let RawBatch { header, bytes, is_checked } = batch;
    let codec = match header.attributes.compression()? {
        Compression::None => return rewrite(BytesMut::from(&bytes[..]), header, None, false),
        // Younger than batches.
        Compression::Zstd => return Err(RecordError::MessageSet("is compressed with zstd")),
        codec => codec,
    };
    let wrapper = Message::peek(&bytes)?.ok_or(RecordError::MessageSet("has no wrapper"))?;
    let [_, value] = wrapper.fields(&bytes)?;
    let value = value.and_then(|value| bytes.get(value)).ok_or(RecordError::MessageSet("is compressed into null"))?;
    let messages = decompressor.decompress_in(header.magic, codec, value, limits)?;
    // Up to 2 MiB the decompressor wants the buffer back, and this is a copy.
    let messages = messages.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    rewrite(messages, header, Some(&wrapper), is_checked)
}

/// Makes records of messages, in place.
fn rewrite(
    messages: BytesMut,
    mut header: BatchHeader,
    wrapper: Option<&Message>,
    check_crc: bool,
) -> Result<Unpacked, RecordError> {
    let is_relative = wrapper.is_some_and(|wrapper| wrapper.magic == 1);
    let is_log_append_time = header.attributes.is_log_append_time();
    let mut rewriter = Rewriter { buffer: messages, written: 0 };
    let (mut at, mut count, mut origin, mut last) = (0usize, 0i32, 0i64, -1i32);
    while at < rewriter.buffer.len() {
        let rest = rewriter.buffer.get(at..).unwrap_or_default();
        let message = Message::peek(rest)?.ok_or(RecordError::MessageSet("ends within a message"))?;
        if message.magic != header.magic {
            return Err(RecordError::MessageSet("has messages of another format inside"));
        }
        if message.is_compressed() {
            return Err(RecordError::MessageSet("is compressed twice"));
        }
        if check_crc {
            message.check_crc(rest)?;
        }
        let fields = message.fields(rest)?;
        if count == 0 {
            origin = if is_relative { 0 } else { message.offset };
            header.base_timestamp = message.timestamp;
            if !is_log_append_time {
                header.max_timestamp = message.timestamp;
            }
        }
        let delta = message.offset.checked_sub(origin).and_then(|delta| i32::try_from(delta).ok());
        last = delta.filter(|delta| *delta > last).ok_or(RecordError::MessageSet("has offsets out of order"))?;
        if !is_log_append_time {
            header.max_timestamp = header.max_timestamp.max(message.timestamp);
        }
        count = count.saturating_add(1);
        rewriter.record(at, message.timestamp.wrapping_sub(header.base_timestamp), last, fields);
        at = at.saturating_add(message.size);
    }
    if count == 0 {
        return Err(RecordError::MessageSet("is compressed, and has no messages inside"));
    }
    header.base_offset = match wrapper {
        // Some producers left the wrapper at 0, and brokers then took the offsets inside as they were.
        Some(wrapper) if is_relative && wrapper.offset > 0 => wrapper
            .offset
            .checked_sub(last.into())
            .filter(|base| *base >= 0)
            .ok_or(RecordError::MessageSet("has more offsets inside than before its end"))?,
        _ => origin,
    };
    // What compaction took behind the last message is passed with it.
    let end = header.base_offset.saturating_add(last.into()).max(wrapper.map_or(0, |wrapper| wrapper.offset));
    let length = i32::try_from(end.saturating_sub(header.base_offset));
    header.last_offset_delta = length.map_err(|_| RecordError::MessageSet("ends far behind its messages"))?;
    header.count = count;
    header.check_offsets()?;
    Ok(Unpacked { header, bytes: rewriter.finish(), at: 0 })
}

/// ```text
///   | record | record |  free  | message being read | message |
///                     ^ written
/// ```
struct Rewriter {
    buffer: BytesMut,
    written: usize,
}

impl Rewriter {
    /// The message at `at`, whose fields lie behind it at `fields`.
    fn record(&mut self, at: usize, timestamp_delta: i64, offset_delta: i32, fields: [Option<Range<usize>>; 2]) {
        let timestamp = zigzag(timestamp_delta);
        let offset = zigzag(offset_delta.into());
        let lengths = fields.each_ref().map(|field| match field {
            Some(field) => (field.len() as u64) << 1,
            None => zigzag(-1),
        });
        let size = |length: u64, field: &Option<Range<usize>>| {
            varint_size(length).saturating_add(field.as_ref().map_or(0, Range::len))
        };
        let sizes = lengths.iter().zip(&fields).map(|(length, field)| size(*length, field));
        // Attributes and the count of headers are a byte each.
        let body = [2, varint_size(timestamp), varint_size(offset)].into_iter().chain(sizes).sum::<usize>();
        self.varint((body as u64) << 1);
        self.put(&[0]);
        self.varint(timestamp);
        self.varint(offset);
        for (length, field) in lengths.into_iter().zip(fields) {
            self.varint(length);
            if let Some(field) = field {
                self.take(at.saturating_add(field.start)..at.saturating_add(field.end));
            }
        }
        self.put(&[0]);
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.written.saturating_add(bytes.len());
        if let Some(room) = self.buffer.get_mut(self.written..end) {
            room.copy_from_slice(bytes);
        }
        self.written = end;
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    /// Moves a field to the front, or leaves it where it is.
    fn take(&mut self, field: Range<usize>) {
        debug_assert!(self.written <= field.start, "a record overtakes its message");
        let end = self.written.saturating_add(field.len());
        if self.written <= field.start && field.end <= self.buffer.len() {
            self.buffer.copy_within(field, self.written);
        }
        self.written = end;
    }

    fn finish(mut self) -> Bytes {
        self.buffer.truncate(self.written);
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests;
