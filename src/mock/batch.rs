//! Record batches (format v2): their header, and what a broker checks before it appends one.
//!
//! ```text
//!  0        8       12       16     17    21     23       27       35       43         51     53        57     61
//!  ├────────┼────────┼────────┼──────┼─────┼──────┼────────┼────────┼────────┼──────────┼──────┼─────────┼──────┼──────┄
//!  │ base   │ length │ leader │magic │ CRC │attri-│ last   │ base   │ max    │ producer │prod. │ base    │count │records
//!  │ offset │ from 12│ epoch  │ = 2  │     │butes │ delta  │ time   │ time   │ id       │epoch │ sequence│      │
//!  └────────┴────────┴────────┴──────┴─────┴──────┴────────┴────────┴────────┴──────────┴──────┴─────────┴──────┴──────┄
//!                                          ╰─────────────── the CRC-32C covers from here to the end
//! ```
//!
//! The order of the checks, and the error of each, are those of Kafka's `ProduceRequest`, `UnifiedLog` and
//! `LogValidator`.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes};
use kafka_protocol::error::ResponseError;

use super::codec::{Broken, Codec, LARGEST};
use super::coordinator::Identity;
use super::records::walk;

/// Bytes before the records.
pub(super) const HEADER: usize = 61;
/// Base offset and length: what comes before the bytes that the length counts.
const OVERHEAD: usize = 12;
const CRC_FROM: usize = 21;
const MAGIC: i8 = 2;
/// A client that does not set a timestamp sends this one.
pub(super) const NO_TIMESTAMP: i64 = -1;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const DELETE_HORIZON: i16 = 0x40;
const CODEC: i16 = 0x07;

/// The fields of a batch's header, but for its length, magic and CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) attributes: i16,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) base_sequence: i32,
    pub(super) count: i32,
}

impl Header {
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER {
            return None;
        }
        let base_offset = bytes.get_i64();
        bytes.advance(4);
        let leader_epoch = bytes.get_i32();
        bytes.advance(5);
        Some(Self {
            base_offset,
            leader_epoch,
            attributes: bytes.get_i16(),
            last_offset_delta: bytes.get_i32(),
            base_timestamp: bytes.get_i64(),
            max_timestamp: bytes.get_i64(),
            producer_id: bytes.get_i64(),
            producer_epoch: bytes.get_i16(),
            base_sequence: bytes.get_i32(),
            count: bytes.get_i32(),
        })
    }

    /// The header as bytes, but for the CRC.
    fn write(&self, records: usize) -> [u8; HEADER] {
        let mut raw = [0; HEADER];
        let mut rest = &mut raw[..];
        rest.put_i64(self.base_offset);
        rest.put_u32(u32::try_from(HEADER - OVERHEAD + records).unwrap_or(u32::MAX));
        rest.put_i32(self.leader_epoch);
        rest.put_i8(MAGIC);
        rest.put_u32(0);
        rest.put_i16(self.attributes);
        rest.put_i32(self.last_offset_delta);
        rest.put_i64(self.base_timestamp);
        rest.put_i64(self.max_timestamp);
        rest.put_i64(self.producer_id);
        rest.put_i16(self.producer_epoch);
        rest.put_i32(self.base_sequence);
        rest.put_i32(self.count);
        raw
    }

    /// Checks records out of any codec; gives the largest timestamp.
    fn check_plain(&self, records: &[u8], rules: &Rules, now_ms: i64) -> Result<i64, Rejection> {
        let claims_append_time = self.attributes & LOG_APPEND_TIME != 0;
        let in_time =
            now_ms.saturating_sub(rules.timestamp_before_max)..=now_ms.saturating_add(rules.timestamp_after_max);
        let mut max_timestamp = NO_TIMESTAMP;
        let (mut late, mut faulty) = (Vec::new(), Vec::new());
        let mut index = 0;
        walk(records, self.count, |record| {
            // A real broker stores such a batch, and consumers then see offsets twice or not at all. No client means
            // that.
            if record.offset_delta != index {
                return Err("the offset deltas of the records do not count up from 0");
            }
            let timestamp = self.timestamp(record.timestamp_delta);
            if rules.compacted && record.key.is_none() {
                faulty.push((index, "a compacted topic takes no record without a key".to_owned()));
            } else if !rules.log_append_time && timestamp != NO_TIMESTAMP {
                if !in_time.contains(&timestamp) {
                    late.push((index, format!("the timestamp {timestamp} is out of range")));
                }
            } else if claims_append_time {
                late.push((index, "a producer may not set the timestamp type to LogAppendTime".to_owned()));
            }
            max_timestamp = max_timestamp.max(timestamp);
            index += 1;
            Ok(())
        })
        .map_err(|message| Rejection::by_log(ResponseError::InvalidRecord, message))?;
        let (error, message) = if late.is_empty() {
            (ResponseError::InvalidRecord, "one or more records have been rejected")
        } else {
            (ResponseError::InvalidTimestamp, "one or more records have been rejected due to invalid timestamp")
        };
        faulty.append(&mut late);
        if faulty.is_empty() {
            return Ok(max_timestamp);
        }
        faulty.sort();
        Err(Rejection { records: faulty, ..Rejection::by_log(error, message) })
    }

    pub(super) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset of the record with this delta.
    pub(super) fn offset_of(&self, delta: i32) -> i64 {
        self.base_offset + i64::from(delta)
    }

    /// When the tombstones of a compacted batch may go.
    pub(super) fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    pub(super) fn with_delete_horizon(&self, horizon: i64) -> Self {
        Self { base_timestamp: horizon, attributes: self.attributes | DELETE_HORIZON, ..self.clone() }
    }

    pub(super) fn has_producer(&self) -> bool {
        self.producer_id > -1
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(super) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// `None` for records as they are; `Err` for a codec that Kafka does not know.
    pub(super) fn codec(&self) -> Result<Option<Codec>, i16> {
        match self.attributes & CODEC {
            0 => Ok(None),
            id => Codec::of_id(id).map(Some).ok_or(id),
        }
    }

    /// The timestamp that the producer gave to the record with this delta.
    pub(super) fn own_timestamp(&self, delta: i64) -> i64 {
        self.base_timestamp.wrapping_add(delta)
    }

    /// The timestamp of the record with this delta: its own, or when the broker appended the batch.
    pub(super) fn timestamp(&self, delta: i64) -> i64 {
        if self.attributes & LOG_APPEND_TIME != 0 { self.max_timestamp } else { self.own_timestamp(delta) }
    }
}

/// Why a batch was not appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) error: ResponseError,
    pub(super) message: Cow<'static, str>,
    /// Records at fault, by their index in the batch (KIP-467).
    pub(super) records: Vec<(i32, String)>,
    /// Refused by the log itself: the answer then says where the log starts.
    pub(super) by_log: bool,
}

impl Rejection {
    pub(super) fn new(error: ResponseError, message: impl Into<Cow<'static, str>>) -> Self {
        Self { error, message: message.into(), records: Vec::new(), by_log: false }
    }

    pub(super) fn by_log(error: ResponseError, message: impl Into<Cow<'static, str>>) -> Self {
        Self { by_log: true, ..Self::new(error, message) }
    }
}

/// `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAs {
    /// As its producer has compressed it.
    Sent,
    /// With this codec, or none.
    With(Option<Codec>),
}

/// What a topic's configuration asks of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `max.message.bytes`, header included.
    pub(super) max_bytes: usize,
    /// `segment.bytes`: a batch must fit into a segment.
    pub(super) segment_bytes: usize,
    /// `compression.type`: what is stored, whatever was sent.
    pub(super) stored_as: StoredAs,
    /// `message.timestamp.type=LogAppendTime`.
    pub(super) log_append_time: bool,
    /// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`.
    pub(super) timestamp_before_max: i64,
    pub(super) timestamp_after_max: i64,
    /// `cleanup.policy` contains `compact`, so every record needs a key.
    pub(super) compacted: bool,
}

/// A batch that may be appended, as far as it alone can tell: leaders, sequences and epochs are the log's business.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) header: Header,
    /// The whole header as it goes into the log: kept apart from the records, which stay a slice of the request's
    /// frame.
    raw: [u8; HEADER],
    records: Bytes,
}

impl Batch {
    /// Checks the records of one partition of a Produce request, which must be one batch.
    pub(super) fn check(data: &Bytes, produce_version: i16, rules: &Rules, now_ms: i64) -> Result<Self, Rejection> {
        let data = single(data, produce_version)?;
        // `single` has seen the magic; the rest of a header may still be missing.
        if data.first_chunk::<8>() != Some(&[0; 8]) {
            let message = "the base offset of a produced batch should be 0";
            return Err(Rejection::by_log(ResponseError::InvalidRecord, message));
        }
        if data.len() > rules.max_bytes {
            let message =
                format!("the batch has {} bytes, more than max.message.bytes={}", data.len(), rules.max_bytes);
            return Err(Rejection::new(ResponseError::MessageTooLarge, message));
        }
        let corrupt = |message: &'static str| Rejection::new(ResponseError::CorruptMessage, message);
        let header = Header::parse(&data).ok_or_else(|| corrupt("the batch is shorter than a header"))?;
        if crc32c::crc32c(&data[CRC_FROM..]).to_be_bytes() != data[CRC_FROM - 4..CRC_FROM] {
            return Err(corrupt("the CRC of the batch is wrong"));
        }
        let mut raw = [0; HEADER];
        raw.copy_from_slice(&data[..HEADER]);
        let mut batch = Self { header, raw, records: data.slice(HEADER..) };
        batch.check_header()?;
        let max_timestamp = batch.check_records(rules, now_ms)?;
        batch.set_time(rules.log_append_time, if rules.log_append_time { now_ms } else { max_timestamp });
        let size = HEADER + batch.records.len();
        if size > rules.max_bytes {
            let message = format!("compressed anew, the batch has {size} bytes, more than {}", rules.max_bytes);
            return Err(Rejection::new(ResponseError::MessageTooLarge, message));
        }
        if size > rules.segment_bytes {
            let message = format!("the batch has {size} bytes, more than segment.bytes={}", rules.segment_bytes);
            return Err(Rejection::new(ResponseError::RecordListTooLarge, message));
        }
        batch.seal();
        Ok(batch)
    }

    /// A batch of a transaction that a test writes.
    pub(super) fn transactional(producer: Identity, sequence: i32, count: i32, now_ms: i64, records: Bytes) -> Self {
        let header = Header {
            base_offset: 0,
            leader_epoch: 0,
            attributes: TRANSACTIONAL,
            last_offset_delta: count - 1,
            base_timestamp: now_ms,
            max_timestamp: now_ms,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: sequence,
            count,
        };
        Self::of_records(header, records)
    }

    /// A batch whatever its records are.
    pub(super) fn unchecked(data: &[u8]) -> Option<Self> {
        let header = Header::parse(data)?;
        Some(Self::of_records(header, Bytes::copy_from_slice(data.get(HEADER..)?)))
    }

    /// A batch that the broker makes itself.
    pub(super) fn of_records(header: Header, records: Bytes) -> Self {
        let mut batch = Self { header, raw: [0; HEADER], records };
        batch.seal();
        batch
    }

    fn check_header(&self) -> Result<(), Rejection> {
        let header = &self.header;
        let invalid = |message: String| Err(Rejection::by_log(ResponseError::InvalidRecord, message));
        if let Err(id) = header.codec() {
            let message = format!("there is no compression codec {id}");
            return Err(Rejection::by_log(ResponseError::UnknownServerError, message)); // as a real broker answers
        }
        if header.last_offset_delta < 0 {
            return invalid(format!("the last offset delta is {}", header.last_offset_delta));
        }
        if header.count <= 0 {
            return invalid(format!("the batch claims {} records", header.count));
        }
        if i64::from(header.last_offset_delta) + 1 != i64::from(header.count) {
            let delta = header.last_offset_delta;
            return invalid(format!("{} records do not go with a last offset delta of {delta}", header.count));
        }
        if header.attributes & CONTROL != 0 {
            return invalid("clients may not write control records".to_owned());
        }
        if header.has_producer() && header.base_sequence < 0 {
            return invalid(format!("a producer id with the sequence number {}", header.base_sequence));
        }
        Ok(())
    }

    /// Walks the records, out of their codec if they are in one, and stores them in another if the topic wants that.
    /// Gives the largest timestamp.
    fn check_records(&mut self, rules: &Rules, now_ms: i64) -> Result<i64, Rejection> {
        let source = self.header.codec().ok().flatten();
        let plain = match source {
            None => self.records.clone(),
            Some(codec) => codec.decompress(&self.records).map_err(|broken| unreadable(codec, broken))?.into(),
        };
        let max_timestamp = self.header.check_plain(&plain, rules, now_ms)?;
        if let StoredAs::With(target) = rules.stored_as
            && target != source
        {
            self.records = target.map_or_else(|| plain.clone(), |codec| codec.compress(&plain).into());
            self.header.attributes = (self.header.attributes & !CODEC) | target.map_or(0, Codec::id);
        }
        Ok(max_timestamp)
    }

    /// Sets timestamp type and largest timestamp.
    fn set_time(&mut self, log_append_time: bool, max_timestamp: i64) {
        let time_type = if log_append_time { LOG_APPEND_TIME } else { 0 };
        self.header.attributes = (self.header.attributes & !LOG_APPEND_TIME) | time_type;
        self.header.max_timestamp = max_timestamp;
    }

    /// Writes the header as it has become, and the CRC over it, if anything is new.
    fn seal(&mut self) {
        let raw = self.header.write(self.records.len());
        if raw[CRC_FROM..] == self.raw[CRC_FROM..] {
            return; // a batch in another codec has other attributes
        }
        self.raw = raw;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.raw[CRC_FROM..]), &self.records);
        self.raw[CRC_FROM - 4..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
    }

    /// Gives the batch its place in a log. The CRC does not cover these fields.
    pub(super) fn place(&mut self, base_offset: i64, leader_epoch: i32) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
        self.raw[..8].copy_from_slice(&base_offset.to_be_bytes());
        self.raw[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    }

    /// Header and records, to be sent one after the other.
    pub(super) fn into_parts(self) -> (Header, Bytes, Bytes) {
        (self.header, Bytes::copy_from_slice(&self.raw), self.records)
    }
}

/// A record that a test writes, with neither key nor headers.
pub(super) struct TransactionalRecord<'a> {
    pub(super) offset_delta: i32,
    pub(super) value: &'a [u8],
}

impl TransactionalRecord<'_> {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut body = vec![0, 0];
        put_zigzag(&mut body, self.offset_delta.into());
        put_zigzag(&mut body, -1);
        put_zigzag(&mut body, i64::try_from(self.value.len()).unwrap_or(i64::MAX));
        body.extend_from_slice(self.value);
        body.push(0);
        let mut record = Vec::with_capacity(body.len() + 5);
        put_zigzag(&mut record, i64::try_from(body.len()).unwrap_or(i64::MAX));
        record.extend(body);
        record
    }
}

/// Appends a zigzag number.
pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// The end of a transaction in one partition: a control batch with one record.
///
/// ```text
///  key │ version i16 = 0 ┊ type i16: 0 abort, 1 commit │  value │ version i16 = 0 ┊ coordinator epoch i32 │
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Marker {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) commit: bool,
    pub(super) coordinator_epoch: i32,
    pub(super) now_ms: i64,
}

impl Marker {
    pub(super) fn batch(&self, log_append_time: bool) -> Batch {
        let header = Header {
            base_offset: 0,
            leader_epoch: 0,
            attributes: CONTROL | TRANSACTIONAL | if log_append_time { LOG_APPEND_TIME } else { 0 },
            last_offset_delta: 0,
            base_timestamp: self.now_ms,
            max_timestamp: self.now_ms,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: -1,
            count: 1,
        };
        // Lengths are zigzag numbers: twice what they say.
        let mut records = vec![2 * 16, 0, 0, 0, 2 * 4, 0, 0, 0, u8::from(self.commit), 2 * 6, 0, 0];
        records.put_i32(self.coordinator_epoch);
        records.put_u8(0);
        Batch::of_records(header, records.into())
    }

    /// Commit or not, and the coordinator's epoch.
    pub(super) fn read(mut key: &[u8], mut value: &[u8]) -> Option<(bool, i32)> {
        (key.len() >= 4 && value.len() >= 6).then(|| {
            key.advance(2);
            value.advance(2);
            (key.get_i16() == 1, value.get_i32())
        })
    }
}

/// Why a batch is refused whose records are out of reach.
fn unreadable(codec: Codec, broken: Broken) -> Rejection {
    let codec = codec.name();
    match broken {
        Broken::TooLarge => {
            let message = format!("without {codec} the batch has more than the mock's {LARGEST} bytes");
            Rejection::new(ResponseError::MessageTooLarge, message)
        }
        Broken::Early => Rejection::by_log(ResponseError::UnknownServerError, format!("the {codec} stream ends early")),
        Broken::Damaged => Rejection::by_log(ResponseError::UnknownServerError, format!("this is no {codec} stream")),
    }
}

/// The one batch in `data`, without what may follow it.
fn single(data: &Bytes, produce_version: i16) -> Result<Bytes, Rejection> {
    let invalid = |message: &'static str| Rejection::new(ResponseError::InvalidRecord, message);
    let size = next(data)?.ok_or_else(|| invalid("there must be one record batch per partition, and there is none"))?;
    let magic = data[16];
    if magic != 2 {
        return Err(invalid("the magic of a record batch must be 2"));
    }
    if produce_version < 7 && data.get(22).is_some_and(|attributes| attributes & 0x07 == 4) {
        let message = "zstd needs version 7 of Produce";
        return Err(Rejection::new(ResponseError::UnsupportedCompressionType, message));
    }
    if next(&data[size..])?.is_some() {
        return Err(invalid("there must be one record batch per partition, and there are more"));
    }
    Ok(data.slice(..size))
}

/// The size of the batch that `data` begins with, if it is there whole. Real brokers ignore a partial one.
fn next(data: &[u8]) -> Result<Option<usize>, Rejection> {
    let corrupt = |message: &'static str| Rejection::new(ResponseError::CorruptMessage, message);
    let Some(length) = data.get(8..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    let length = usize::try_from(length).ok().filter(|&length| length >= 14); // the smallest message that ever was
    let length = length.ok_or_else(|| corrupt("the length of the batch is below the smallest possible"))?;
    match data.get(16) {
        None => Ok(None),
        Some(0..=2) => Ok((data.len() - OVERHEAD >= length).then_some(OVERHEAD + length)),
        Some(_) => Err(corrupt("the magic of the batch is none that exists")),
    }
}
