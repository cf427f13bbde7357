//! Record batches (format v2): their header, what a broker checks before it appends one, and a walk over the records.
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

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;

/// Bytes before the records.
pub(super) const HEADER: usize = 61;
/// Base offset and length: what comes before the bytes that the length counts.
const OVERHEAD: usize = 12;
const CRC_FROM: usize = 21;
/// A client that does not set a timestamp sends this one.
pub(super) const NO_TIMESTAMP: i64 = -1;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const CODECS: [Option<&str>; 5] = [None, Some("gzip"), Some("snappy"), Some("lz4"), Some("zstd")];

/// The fields of a batch's header, but for its length, magic and CRC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) base_offset: i64,
    pub(super) leader_epoch: i32,
    attributes: i16,
    pub(super) last_offset_delta: i32,
    base_timestamp: i64,
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

    pub(super) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    pub(super) fn has_producer(&self) -> bool {
        self.producer_id > -1
    }

    pub(super) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// The codec's name, or `None` for records as they are; `Err` for one that Kafka does not know.
    pub(super) fn codec(&self) -> Result<Option<&'static str>, i16> {
        let id = self.attributes & 0x07;
        usize::try_from(id).ok().and_then(|id| CODECS.get(id).copied()).ok_or(id)
    }

    /// The timestamp of the record with this delta: its own, or when the broker appended the batch.
    fn timestamp(&self, delta: i64) -> i64 {
        if self.attributes & LOG_APPEND_TIME != 0 {
            self.max_timestamp
        } else {
            self.base_timestamp.wrapping_add(delta)
        }
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

/// What a topic's configuration asks of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `max.message.bytes`, header included.
    pub(super) max_bytes: usize,
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
        Ok(batch)
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

    /// Walks the records; gives the largest timestamp. Compressed records are taken at their header's word.
    fn check_records(&self, rules: &Rules, now_ms: i64) -> Result<i64, Rejection> {
        let header = &self.header;
        let claims_append_time = header.attributes & LOG_APPEND_TIME != 0;
        if header.codec() != Ok(None) {
            return Ok(header.max_timestamp);
        }
        let mut max_timestamp = NO_TIMESTAMP;
        let (mut late, mut faulty) = (Vec::new(), Vec::new());
        let mut index = 0;
        walk(header, &self.records, |record| {
            // A real broker stores such a batch, and consumers then see offsets twice or not at all. No client means
            // that.
            if record.offset_delta != index {
                return Err("the offset deltas of the records do not count up from 0");
            }
            if rules.compacted && record.key.is_none() {
                faulty.push((index, "a compacted topic takes no record without a key".to_owned()));
            } else if !rules.log_append_time && record.timestamp != NO_TIMESTAMP {
                let age = now_ms.saturating_sub(record.timestamp);
                if age > rules.timestamp_before_max || age.saturating_neg() > rules.timestamp_after_max {
                    late.push((index, format!("the timestamp {} is out of range", record.timestamp)));
                }
            } else if claims_append_time {
                late.push((index, "a producer may not set the timestamp type to LogAppendTime".to_owned()));
            }
            max_timestamp = max_timestamp.max(record.timestamp);
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

    /// Sets timestamp type and largest timestamp, which the CRC covers.
    fn set_time(&mut self, log_append_time: bool, max_timestamp: i64) {
        let attributes =
            (self.header.attributes & !LOG_APPEND_TIME) | if log_append_time { LOG_APPEND_TIME } else { 0 };
        if (attributes, max_timestamp) == (self.header.attributes, self.header.max_timestamp) {
            return;
        }
        self.header.attributes = attributes;
        self.header.max_timestamp = max_timestamp;
        self.raw[21..23].copy_from_slice(&attributes.to_be_bytes());
        self.raw[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
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

/// One record, in place.
pub(super) struct RawRecord<'a> {
    pub(super) timestamp: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    headers: Reader<'a>,
    header_count: i32,
}

impl<'a> RawRecord<'a> {
    /// Names and values, in order, duplicates included.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut reader = self.headers;
        (0..self.header_count).map_while(move |_| Some((reader.bytes()??, reader.bytes()?)))
    }
}

/// Visits the records of an uncompressed batch, and checks that they fill it exactly.
pub(super) fn walk<'a>(
    header: &Header,
    records: &'a [u8],
    mut visit: impl FnMut(RawRecord<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut reader = Reader(records);
    for _ in 0..header.count {
        let body = reader.length().and_then(|length| reader.take(length?));
        let record = body.ok_or("a record is longer than its batch")?;
        visit(record_of(header, record).ok_or("a record's fields do not fill it exactly")?)?;
    }
    if reader.0.is_empty() { Ok(()) } else { Err("there are more records in the batch than it claims") }
}

fn record_of<'a>(header: &Header, record: &'a [u8]) -> Option<RawRecord<'a>> {
    let mut reader = Reader(record);
    reader.take(1)?; // attributes, unused
    let timestamp = header.timestamp(reader.varlong()?);
    let offset_delta = reader.varint()?;
    let (key, value) = (reader.bytes()?, reader.bytes()?);
    let header_count = reader.varint().filter(|&count| count >= 0)?;
    let headers = reader;
    for _ in 0..header_count {
        reader.bytes()??; // a header's name is never null, its value may be
        reader.bytes()?;
    }
    reader.0.is_empty().then_some(RawRecord { timestamp, offset_delta, key, value, headers, header_count })
}

/// A cursor that hands out only what is there.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A zigzag number of at most `MAX` bytes.
    fn zigzag<const MAX: usize>(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for (index, &byte) in self.0.iter().take(MAX).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.0 = &self.0[index + 1..];
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    fn varint(&mut self) -> Option<i32> {
        i32::try_from(self.zigzag::<5>()?).ok()
    }

    fn varlong(&mut self) -> Option<i64> {
        self.zigzag::<10>()
    }

    /// A length; below zero it stands for null.
    fn length(&mut self) -> Option<Option<usize>> {
        Some(usize::try_from(self.varint()?).ok())
    }

    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.length()? {
            None => Some(None),
            Some(length) => Some(Some(self.take(length)?)),
        }
    }
}
