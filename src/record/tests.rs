//! Batches against bytes drawn by hand, against another implementation, and against whatever a broker may send.

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use kafka_protocol::records as oracle;

use super::header::{self, CRC_AT, HEADER_SIZE};
use super::*;
use crate::wire::cursor::DecodeError;

const IDENTITY: Identity = Identity { producer_id: 4000, producer_epoch: 7, base_sequence: 9, transactional: true };

/// Two records at 1000 and 999 ms: everything there is, and nothing but nulls.
#[rustfmt::skip]
const GOLDEN: [u8; 84] = [
    0, 0, 0, 0, 0, 0, 0, 0,             // base offset
    0, 0, 0, 72,                        // length: 49 of header, 23 of records
    0xff, 0xff, 0xff, 0xff,             // leader epoch: the broker's to set
    2,                                  // magic
    0xc3, 0xb3, 0x0e, 0xf8,             // CRC-32C, from a bitwise loop
    0, 0x10,                            // attributes: transactional
    0, 0, 0, 1,                         // last offset delta
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,       // base timestamp
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,       // max timestamp
    0, 0, 0, 0, 0, 0, 0x0f, 0xa0,       // producer id
    0, 7,                               // producer epoch
    0, 0, 0, 9,                         // base sequence
    0, 0, 0, 2,                         // count
    30, 0, 0, 0, 2, b'k', 2, b'v', 4,   // length 15, attributes, timestamp +0, offset +0, key, value, two headers:
        2, b'h', 2, b'x', 2, b'h', 1,   //   h = x, h = null
    12, 0, 1, 2, 1, 1, 0,               // length 6, attributes, timestamp -1, offset +1, null, null, no headers
];

#[test]
fn the_bytes_drawn_by_hand() {
    let mut writer = BatchWriter::new(0);
    let headers: [(&str, Option<&[u8]>); 2] = [("h", Some(b"x")), ("h", None)];
    assert_eq!(writer.append(1000, Some(b"k"), Some(b"v"), headers), Ok(0));
    assert_eq!(writer.append(999, None, None, NO_HEADERS), Ok(1));
    let mut batch = writer.finish();
    assert_eq!(batch.bytes(), None, "what is not stamped cannot be sent");
    assert_eq!(&batch.stamp(IDENTITY)[..], GOLDEN);

    let mut batches = Batches::new(Bytes::from_static(&GOLDEN), true);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    assert_eq!(batch.header().identity(), IDENTITY);
    assert_eq!((batch.header().last_offset(), batch.header().next_offset()), (1, 2));
    let views: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
    assert_eq!((views[0].offset(), views[0].timestamp()), (0, 1000));
    assert_eq!((views[0].key(), views[0].value()), (Some(&b"k"[..]), Some(&b"v"[..])));
    let headers: Vec<_> = views[0].headers().map(|h| (h.name().unwrap(), h.value)).collect();
    assert_eq!(headers, [("h", Some(&b"x"[..])), ("h", None)]);
    assert_eq!((views[1].offset(), views[1].timestamp()), (1, 999));
    assert_eq!((views[1].key(), views[1].value(), views[1].headers().len()), (None, None, 0));
}

#[test]
fn sizes_that_queues_are_planned_with() {
    assert_eq!(size_of::<RecordAt>(), 40);
    assert_eq!(size_of::<RecordView>(), 48);
    assert_eq!(size_of::<RecordSlice>(), 72);
    assert!(size_of::<RecordError>() <= 32);
}

// ---- both ways beside another implementation ----

/// A record to be, with everything owned.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plan {
    fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        self.headers.iter().map(|(key, value)| (&key[..], value.as_deref()))
    }

    fn of(record: RecordView<'_>) -> Self {
        let headers = record.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec)));
        Self {
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

fn blob(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..20) {
        0 => 0,
        1 => rng.usize(60..70),       // lengths of one and two bytes
        2 => rng.usize(8_180..8_200), // of two and three
        _ => rng.usize(..40),
    };
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

fn maybe(rng: &mut Rng) -> Option<Vec<u8>> {
    rng.u8(..5).ne(&0).then(|| blob(rng))
}

/// `tame`: as the other implementation can say it, with distinct header names of text and times that it can subtract.
fn plan(rng: &mut Rng, tame: bool) -> Plan {
    let timestamp = match rng.u8(..10) {
        0 if !tame => rng.i64(..),
        1 if !tame => *rng.choice(&[i64::MIN, i64::MAX, -1, 0]).unwrap(),
        2 => 1_790_000_000_000 + rng.i64(-100_000_000..100_000_000),
        _ => 1_790_000_000_000 + rng.i64(-100..100),
    };
    let count = if rng.u8(..3) == 0 { rng.usize(..4) } else { 0 };
    let headers = (0..count).map(|index| {
        let key = if tame { format!("name {index}").into_bytes() } else { blob(rng) };
        (key, maybe(rng))
    });
    let headers = headers.collect();
    Plan { timestamp, key: maybe(rng), value: maybe(rng), headers }
}

fn write(plans: &[Plan], identity: Identity) -> Bytes {
    let mut writer = BatchWriter::new(0);
    for plan in plans {
        writer.append(plan.timestamp, plan.key.as_deref(), plan.value.as_deref(), plan.headers()).unwrap();
    }
    writer.finish().stamp(identity)
}

fn only(set: &Bytes) -> RawBatch {
    let mut batches = Batches::new(set.clone(), true);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none() && batches.rest().is_empty());
    batch
}

fn to_oracle(plans: &[Plan], identity: Identity) -> Vec<oracle::Record> {
    let records = plans.iter().enumerate().map(|(index, plan)| oracle::Record {
        transactional: identity.transactional,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: identity.producer_id,
        producer_epoch: identity.producer_epoch,
        timestamp_type: oracle::TimestampType::Creation,
        offset: index as i64,
        sequence: identity.base_sequence.wrapping_add(index as i32),
        timestamp: plan.timestamp,
        key: plan.key.clone().map(Bytes::from),
        value: plan.value.clone().map(Bytes::from),
        headers: plan
            .headers
            .iter()
            .map(|(key, value)| (String::from_utf8(key.clone()).unwrap().into(), value.clone().map(Bytes::from)))
            .collect(),
    });
    records.collect()
}

#[test]
fn another_implementation_reads_what_is_written() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..500 {
        let plans: Vec<_> = (0..rng.usize(1..90)).map(|_| plan(&mut rng, true)).collect();
        let identity = Identity { transactional: rng.bool(), base_sequence: rng.i32(0..), ..IDENTITY };
        let mut set = write(&plans, identity);
        let decoded = oracle::RecordBatchDecoder::decode(&mut set).unwrap();
        assert!(set.is_empty());
        assert_eq!(decoded.compression, oracle::Compression::None);
        assert_eq!(decoded.records, to_oracle(&plans, identity));
    }
}

#[test]
fn what_another_implementation_writes_is_read() {
    let mut rng = Rng::with_seed(2);
    let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
    for _ in 0..500 {
        let mut plans: Vec<_> = (0..rng.usize(1..90)).map(|_| plan(&mut rng, true)).collect();
        let mut set = BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut set, &to_oracle(&plans, IDENTITY), &options).unwrap();
        let batch = only(&set.freeze());
        assert_eq!(batch.header().identity(), IDENTITY);
        for (index, (record, plan)) in batch.records().unwrap().zip(&plans).enumerate() {
            let record = record.unwrap();
            assert_eq!(record.offset(), index as i64);
            assert_eq!(Plan::of(record), *plan);
        }
        // It writes times relative to the smallest one, milena to the first, as Java: in order these are the same.
        plans.sort_by_key(|plan| plan.timestamp);
        let mut set = BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut set, &to_oracle(&plans, IDENTITY), &options).unwrap();
        assert_eq!(write(&plans, IDENTITY), set);
    }
}

#[test]
fn whatever_was_appended_comes_back() {
    let mut rng = Rng::with_seed(3);
    let mut spare = BytesMut::from(&b"left over"[..]);
    for _ in 0..200 {
        let plans: Vec<_> = (0..rng.usize(1..200)).map(|_| plan(&mut rng, false)).collect();
        let mut writer = BatchWriter::with_buffer(spare);
        assert!(writer.is_empty() && writer.size() == HEADER_SIZE && writer.max_timestamp().is_none());
        for (index, plan) in plans.iter().enumerate() {
            let (key, value) = (plan.key.as_deref(), plan.value.as_deref());
            let (before, size) = (writer.size(), writer.record_size(plan.timestamp, key, value, plan.headers()));
            assert!(size <= record_size_upper_bound(key, value, plan.headers()));
            let one_less = before + size - 1;
            let refused = writer.append_within(one_less, plan.timestamp, key, value, plan.headers());
            assert_eq!((refused, writer.size(), writer.len()), (Err(size), before, index));
            let taken = writer.append_within(before + size, plan.timestamp, key, value, plan.headers());
            assert_eq!((taken, writer.size()), (Ok(index as u32), before + size));
        }
        let max = plans.iter().map(|p| p.timestamp).max();
        assert_eq!(writer.max_timestamp(), max);
        let mut sealed = writer.finish();
        let set = sealed.stamp(IDENTITY);
        assert_eq!((sealed.len(), sealed.size(), Some(sealed.max_timestamp())), (plans.len(), set.len(), max));

        let batch = only(&set);
        assert_eq!(batch.header(), sealed.header());
        assert_eq!(batch.header().encode(), set[..HEADER_SIZE]);
        let read: Vec<_> = batch.records().unwrap().map(|r| Plan::of(r.unwrap())).collect();
        assert_eq!(read, plans);
        drop((set, batch));
        spare = sealed.recycle().expect("nobody else holds it");
    }
}

// ---- stamping ----

fn one(value: &[u8]) -> SealedBatch {
    let mut writer = BatchWriter::new(0);
    writer.append(5, None, Some(value), NO_HEADERS).unwrap();
    writer.finish()
}

#[test]
fn the_same_identity_sends_the_identical_bytes() {
    let mut batch = one(b"value");
    let sent = batch.stamp(IDENTITY);
    let again = batch.stamp(IDENTITY);
    assert_eq!(sent.as_ptr(), again.as_ptr());
    assert_eq!(batch.bytes().unwrap().as_ptr(), sent.as_ptr());
    assert!(batch.recycle().is_none(), "a request still holds the bytes");
}

#[test]
fn a_new_epoch_rewrites_in_place_or_beside_a_held_clone() {
    let bumped = Identity { producer_epoch: 8, base_sequence: 0, ..IDENTITY };
    let mut batch = one(b"value");
    let sent = batch.stamp(IDENTITY);
    let (place, before) = (sent.as_ptr(), sent.to_vec());
    let copied = batch.stamp(bumped);
    assert_ne!(copied.as_ptr(), place, "a socket may still be reading these");
    assert_eq!(sent, before);
    assert_eq!(only(&copied).header().identity(), bumped);

    let place = copied.as_ptr();
    drop((sent, copied));
    let back = batch.stamp(IDENTITY);
    assert_eq!(back.as_ptr(), place, "nobody held it, so nothing is copied");
    assert_eq!(back, before);
}

/// Whatever it is compressed with: every record once, in order, in two batches that are each smaller.
#[test]
fn a_split_keeps_every_record_in_order() {
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for codec in codecs.into_iter().filter(|codec| codec.is_available()) {
        for count in [2_i64, 3, 10, 1000] {
            let mut writer = BatchWriter::new(0);
            for n in 0..count {
                // The first is larger than all the others together.
                let value = vec![b'v'; if n == 0 { 50_000 } else { 20 }];
                let headers = [("h", Some(&b"x"[..])), ("n", None)];
                writer.append(1000 - n, Some(&n.to_be_bytes()), Some(&value), headers).unwrap();
            }
            let mut whole = writer.finish();
            assert!(whole.split().unwrap().is_none(), "not stamped yet");
            whole.compress(codec, None, &mut Compressor::new()).unwrap();
            whole.stamp(IDENTITY);
            let (front, back) = whole.split().unwrap().unwrap();
            assert_eq!(front.len() + back.len(), count as usize);
            assert!(front.len() == 1 || codec != Compression::None, "{codec} {count}: by bytes, not by records");
            let mut next = 0_i64;
            for mut half in [front, back] {
                assert!(half.size() < whole.size() || codec != Compression::None, "{codec} {count}");
                let unpacked = only(&half.stamp(IDENTITY)).decompress(&mut Decompressor::new(), Limits::default());
                for record in unpacked.unwrap().records().unwrap() {
                    let record = record.unwrap();
                    assert_eq!((record.timestamp(), record.key()), (1000 - next, Some(&next.to_be_bytes()[..])));
                    assert_eq!(record.headers().len(), 2);
                    next += 1;
                }
            }
            assert_eq!(next, count);
        }
    }
    let mut one = one(b"v");
    one.stamp(IDENTITY);
    assert!(one.split().unwrap().is_none());
}

#[test]
fn an_empty_batch_is_one_that_reads_as_empty() {
    let mut batch = BatchWriter::new(0).finish();
    assert!(batch.is_empty());
    let set = batch.stamp(Identity::NONE);
    assert_eq!(only(&set).records().unwrap().count(), 0);
}

// ---- what brokers really send ----

/// The batch with a field changed, and a CRC that is right again.
fn forged(set: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::peek(set).unwrap();
    change(&mut header);
    let mut set = set.to_vec();
    set[..HEADER_SIZE].copy_from_slice(&header.encode());
    resealed(set)
}

fn resealed(mut set: Vec<u8>) -> Bytes {
    let crc = header::checksum(&set);
    set[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(set)
}

#[test]
fn log_append_time_is_every_records_time() {
    let set = forged(&GOLDEN, |h| {
        h.attributes.0 |= 0x08;
        h.max_timestamp = 77_777;
    });
    let batch = only(&set);
    assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppend);
    assert!(batch.records().unwrap().all(|r| r.unwrap().timestamp() == 77_777));
}

#[test]
fn compaction_leaves_gaps_and_empty_batches() {
    // The last two of four records are gone: the next offset is still that of the four.
    let set = forged(&GOLDEN, |h| {
        h.base_offset = 100;
        h.last_offset_delta = 3;
        h.attributes.0 |= 0x40;
    });
    let batch = only(&set);
    assert!(batch.header().attributes.has_delete_horizon());
    assert_eq!(batch.records().unwrap().map(|r| r.unwrap().offset()).collect::<Vec<_>>(), [100, 101]);
    assert_eq!(batch.header().next_offset(), 104);

    // All are gone: the header stays, for the producer's sequence.
    let set = forged(&GOLDEN[..HEADER_SIZE], |h| {
        h.length = 49;
        h.count = 0;
        h.last_offset_delta = 3;
    });
    assert_eq!(only(&set).records().unwrap().count(), 0);
    assert_eq!(only(&set).header().next_offset(), 4);
}

#[test]
fn markers() {
    let marker = |key: &[u8]| {
        let mut writer = BatchWriter::new(0);
        writer.append(5, Some(key), Some(&[0, 0, 0, 0, 0, 9]), NO_HEADERS).unwrap();
        let set = forged(&writer.finish().stamp(IDENTITY), |h| h.attributes.0 |= 0x20);
        let batch = only(&set);
        assert!(batch.header().is_control() && batch.header().is_transactional());
        let record = batch.records().unwrap().next().unwrap().unwrap();
        ControlType::decode(record)
    };
    assert_eq!(marker(&[0, 0, 0, 0]), Ok(ControlType::Abort));
    assert_eq!(marker(&[0, 0, 0, 1]), Ok(ControlType::Commit));
    assert_eq!(marker(&[0, 0, 0, 2]), Ok(ControlType::Other(2)));
    assert_eq!(marker(&[0, 1, 0, 1, 5, 5]), Ok(ControlType::Commit), "a later version appends");
    assert_eq!(marker(&[0xff, 0xff, 0, 1]), Err(RecordError::BadControlKey(-1)));
    let short = DecodeError::UnexpectedEnd { needed: 2, remaining: 1 };
    assert_eq!(marker(&[0, 0, 0]), Err(short.into()), "the value behind it is not the key's");
    let record = only(&Bytes::from_static(&GOLDEN)).into_records().unwrap().nth(1).unwrap().unwrap();
    assert_eq!(ControlType::decode(record.view()), Err(DecodeError::UnexpectedNull.into()));
}

#[test]
fn a_cut_set_gives_its_whole_batches() {
    let mut set = GOLDEN.to_vec();
    set.extend_from_slice(&one(&[7; 300]).stamp(IDENTITY));
    set.extend_from_slice(&GOLDEN);
    let set = Bytes::from(set);
    let ends = [84, 84 + 61 + 2 + 4 + 2 + 300 + 1, set.len()];
    for cut in 0..=set.len() {
        let mut batches = Batches::new(set.slice(..cut), true);
        let whole: Vec<_> = batches.by_ref().map(|b| b.unwrap().header().size()).collect();
        assert_eq!(whole.len(), ends.iter().filter(|end| **end <= cut).count(), "cut at {cut}");
        assert_eq!(whole.iter().sum::<usize>() + batches.rest().len(), cut);
        match batches.rest().len() {
            ..12 => assert_eq!(batches.needs(), None),
            _ => assert_eq!(batches.needs(), Some(ends[whole.len()] - whole.iter().sum::<usize>())),
        }
    }
}

#[test]
fn formats_and_codecs_that_cannot_be_read_are_named() {
    for magic in [3, 4, -1i8] {
        let mut set = GOLDEN.to_vec();
        set[16] = magic as u8;
        let mut batches = Batches::new(Bytes::from(set.clone()), true);
        assert_eq!(batches.next().unwrap().unwrap_err(), RecordError::UnsupportedMagic(magic));
        assert!(batches.next().is_none());
        assert_eq!(BatchHeader::peek(&set), Err(RecordError::UnsupportedMagic(magic)));
    }
    for (codec, error) in [
        (1, RecordError::Compressed(Compression::Gzip)),
        (2, RecordError::Compressed(Compression::Snappy)),
        (3, RecordError::Compressed(Compression::Lz4)),
        (4, RecordError::Compressed(Compression::Zstd)),
        (5, RecordError::UnknownCodec(5)),
    ] {
        let batch = only(&forged(&GOLDEN, |h| h.attributes.0 |= codec));
        assert!(batch.header().is_compressed());
        assert_eq!(batch.records().unwrap_err(), error);
        assert_eq!(batch.into_records().unwrap_err(), error);
    }
    let message = RecordError::Compressed(Compression::Zstd).to_string();
    assert_eq!(message, "the batch's records are still compressed with zstd");
}

// ---- what nobody should send ----

#[test]
fn headers_that_lie_are_refused() {
    let peek = |change: fn(&mut BatchHeader)| BatchHeader::peek(&forged(&GOLDEN, change)).unwrap_err();
    assert_eq!(peek(|h| h.length = 48), RecordError::BadLength(48));
    assert_eq!(peek(|h| h.length = i32::MIN), RecordError::BadLength(i32::MIN));
    assert_eq!(peek(|h| h.count = -1), RecordError::BadCount(-1));
    let offsets = |base_offset, last_offset_delta| RecordError::BadOffsets { base_offset, last_offset_delta };
    assert_eq!(peek(|h| h.last_offset_delta = -1), offsets(0, -1));
    assert_eq!(peek(|h| h.base_offset = -1), offsets(-1, 1));
    assert_eq!(peek(|h| h.base_offset = i64::MAX - 1), offsets(i64::MAX - 1, 1));
    let truncated = RecordError::Truncated { needed: 61, remaining: 60 };
    assert_eq!(BatchHeader::peek(&GOLDEN[..60]), Err(truncated));

    // A length that no format has ends the set, even if nothing else of the batch is there.
    for length in [13, 0, -1, i32::MIN] {
        let mut set = vec![0; 8];
        set.extend_from_slice(&i32::to_be_bytes(length));
        let mut batches = Batches::new(Bytes::from(set), true);
        assert_eq!(batches.next().unwrap().unwrap_err(), RecordError::BadLength(length));
        assert!(batches.next().is_none());
    }
}

fn failure(set: &Bytes) -> RecordError {
    let batch = only(set);
    let mut records = match batch.records() {
        Ok(records) => records,
        Err(error) => return error,
    };
    let error = records.by_ref().find_map(Result::err).expect("a lie");
    assert!(records.next().is_none(), "nothing comes after an error");
    let owned = batch.clone().into_records().unwrap().find_map(Result::err);
    assert_eq!(owned, Some(error));
    error
}

#[test]
fn counts_that_lie_are_found() {
    let set = forged(&GOLDEN, |h| h.count = 3);
    assert_eq!(failure(&set), RecordError::MissingRecords { claimed: 3, missing: 1 });
    let set = forged(&GOLDEN, |h| h.count = 1);
    assert_eq!(failure(&set), DecodeError::TrailingBytes(7).into());
    let set = forged(&GOLDEN, |h| h.count = 0);
    assert_eq!(failure(&set), DecodeError::TrailingBytes(23).into());
    let set = forged(&GOLDEN, |h| h.count = i32::MAX);
    let count = DecodeError::CountTooLarge { count: i32::MAX as usize, min_size: 7, remaining: 23 };
    assert_eq!(failure(&set), count.into());
    let set = forged(&GOLDEN, |h| h.last_offset_delta = 0);
    assert_eq!(failure(&set), RecordError::BadOffsetDelta { delta: 1, last: 0 });
}

/// A batch of one record with these bytes.
fn raw_record(record: &[u8]) -> Bytes {
    let mut set = GOLDEN[..HEADER_SIZE].to_vec();
    set.extend_from_slice(record);
    forged(&set, |h| {
        h.length = 49 + record.len() as i32;
        h.count = 1;
    })
}

#[test]
fn records_that_lie_are_found() {
    let end = |needed, remaining| RecordError::Decode(DecodeError::UnexpectedEnd { needed, remaining });
    let negative = |length| RecordError::Decode(DecodeError::NegativeLength(length));
    for (record, error) in [
        (&[11, 0, 0, 0, 1, 1, 0][..], negative(-6)),
        (&[14, 0, 0, 0, 1, 1, 0], end(7, 6)),
        (&[10, 0, 0, 0, 1, 1, 0], end(1, 0)),
        (&[14, 0, 0, 0, 1, 1, 0, 9], DecodeError::TrailingBytes(1).into()),
        (&[12, 0, 0, 1, 1, 1, 0], RecordError::BadOffsetDelta { delta: -1, last: 1 }),
        (&[12, 0, 0, 4, 1, 1, 0], RecordError::BadOffsetDelta { delta: 2, last: 1 }),
        (&[12, 0, 0, 0, 3, 1, 0], negative(-2)),
        (&[12, 0, 0, 0, 1, 3, 0], negative(-2)),
        (&[12, 0, 0, 0, 1, 1, 1], negative(-1)),
        (&[12, 0, 0, 0, 8, 1, 0], end(4, 2)),
        (&[14, 0, 0, 0, 1, 6, 0, 0], end(3, 2)),
        // Header counts: one that 0 bytes cannot hold, and one that would have reserved gigabytes.
        (&[12, 0, 0, 0, 1, 1, 2], DecodeError::CountTooLarge { count: 1, min_size: 2, remaining: 0 }.into()),
        (
            &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f],
            DecodeError::CountTooLarge { count: i32::MAX as usize, min_size: 2, remaining: 0 }.into(),
        ),
        // Header keys are never null, and end where their record does.
        (&[16, 0, 0, 0, 1, 1, 2, 1, 0], negative(-1)),
        (&[16, 0, 0, 0, 1, 1, 2, 2, 0], end(1, 0)),
        (&[16, 0, 0, 0, 1, 1, 2, 0, 3], negative(-2)),
        // Integers that are longer than their type.
        (&[0xff, 0xff, 0xff, 0xff, 0x1f, 0, 0, 0], DecodeError::VarintTooLong.into()),
        (&[20, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 1, 0], DecodeError::VarintTooLong.into()),
    ] {
        assert_eq!(failure(&raw_record(record)), error, "{record:?}");
    }
    // Not a lie: what fits in two bytes may take three.
    let set = raw_record(&[0x8c, 0x80, 0, 0, 0, 0, 1, 1, 0]);
    assert!(only(&set).records().unwrap().all(|r| r.is_ok()));
}

#[test]
fn times_may_be_anything() {
    for (base, delta, time) in [(i64::MAX, 1, i64::MIN), (i64::MIN, -1, i64::MAX), (0, i64::MIN, i64::MIN)] {
        let mut writer = BatchWriter::new(0);
        writer.append(base, None, None, NO_HEADERS).unwrap();
        writer.append(base.wrapping_add(delta), None, None, NO_HEADERS).unwrap();
        let batch = only(&writer.finish().stamp(IDENTITY));
        assert_eq!(batch.records().unwrap().last().unwrap().unwrap().timestamp(), time);
    }
}

#[test]
fn a_record_cut_anywhere_is_an_error() {
    for cut in HEADER_SIZE..GOLDEN.len() {
        let set = forged(&GOLDEN[..cut], |h| h.length = cut as i32 - 12);
        failure(&set);
    }
}

/// Reads everything there is to read.
fn exhaust(set: Bytes, check_crc: bool) -> Result<usize, RecordError> {
    let mut seen = 0usize;
    for batch in Batches::new(set, check_crc) {
        let batch = batch?;
        for record in batch.records()? {
            let record = record?;
            assert!((batch.header().base_offset..=batch.header().last_offset()).contains(&record.offset()));
            seen += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
            assert_eq!(record.headers().len(), record.headers().map(|h| seen += h.key.len()).count());
            let _ = ControlType::decode(record);
            assert_eq!(Plan::of(record.to_slice().detach().view()), Plan::of(record));
        }
    }
    Ok(seen)
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    let whole = exhaust(Bytes::from_static(&GOLDEN), true).unwrap();
    for bit in 0..GOLDEN.len() * 8 {
        let mut set = GOLDEN.to_vec();
        set[bit / 8] ^= 1 << (bit % 8);
        let result = exhaust(Bytes::from(set.clone()), true);
        match bit / 8 {
            0..8 if bit == 7 => assert!(matches!(result, Err(RecordError::BadOffsets { .. }))),
            // Base offset and leader epoch: the broker's own, and the CRC does not cover them.
            0..8 | 12..16 => assert_eq!(result, Ok(whole)),
            // The length: refused, or a batch that is not all there, or one that the CRC finds short.
            8..12 => match result {
                Ok(seen) => assert_eq!(seen, 0),
                Err(error) => assert!(matches!(error, RecordError::BadLength(_) | RecordError::CorruptCrc { .. })),
            },
            // Another format: none that there is, or one that has its checksum elsewhere.
            16 if set[16] > 1 => assert!(matches!(result, Err(RecordError::UnsupportedMagic(_)))),
            16 => assert!(matches!(result, Err(RecordError::CorruptCrc { .. }))),
            _ => {
                let refused = RecordError::CorruptCrc { expected: 0, found: 0 };
                let error = result.unwrap_err();
                // What the header's own checks find they may name first.
                let named = matches!(error, RecordError::BadCount(_) | RecordError::BadOffsets { .. });
                let crc = std::mem::discriminant(&error) == std::mem::discriminant(&refused);
                assert!(named || crc, "bit {bit}: {error}");
            }
        }
        // And without the CRC: anything, but no panic.
        let _ = exhaust(Bytes::from(set.clone()), false);
        let _ = exhaust(resealed(set), true);
    }
}

#[test]
fn bytes_of_any_kind_are_survived() {
    let mut rng = Rng::with_seed(4);
    let mut good = 0;
    for round in 0..4_000 {
        let plans: Vec<_> = (0..rng.usize(1..6)).map(|_| plan(&mut rng, false)).collect();
        let mut set = write(&plans, IDENTITY).to_vec();
        if round % 2 == 0 {
            set.extend_from_within(..);
        }
        for _ in 0..rng.usize(1..4) {
            // Mostly where structure is: the headers, and the first records.
            let within = if rng.bool() { 64 } else { 400 };
            let at = rng.usize(..set.len().min(within));
            let byte = rng.u8(..);
            set[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff, byte]).unwrap();
        }
        good += usize::from(exhaust(Bytes::from(set.clone()), false).is_ok());
        good += usize::from(exhaust(resealed(set), true).is_ok());
    }
    assert!(good > 500, "the mutations leave something to read: {good}");
    for _ in 0..20_000 {
        let noise: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
        let _ = BatchHeader::peek(&noise);
        let _ = exhaust(raw_record(&noise), true);
        let _ = exhaust(Bytes::from(noise), false);
    }
}

// ---- owners ----

#[test]
fn a_batch_is_kept_between_calls() {
    let mut rng = Rng::with_seed(5);
    let plans: Vec<_> = (0..100).map(|_| plan(&mut rng, false)).collect();
    let set = write(&plans, IDENTITY);
    let mut kept = only(&set).into_records().unwrap();
    assert_eq!((kept.left(), kept.size(), kept.header().count), (100, set.len(), 100));
    let mut slices = Vec::new();
    for (index, plan) in plans.iter().enumerate() {
        let at = kept.next_at().unwrap().unwrap();
        assert_eq!((at.offset(), at.timestamp()), (index as i64, plan.timestamp));
        assert_eq!(Plan::of(kept.view(at)), *plan);
        slices.push(kept.slice(at));
        assert_eq!(kept.left() as usize, 99 - index);
    }
    assert!(kept.next_at().is_none());
    drop((kept, set));
    for (slice, plan) in slices.iter().zip(&plans) {
        assert_eq!(slice.key(), plan.key.as_deref());
        assert_eq!(slice.value(), plan.value.as_deref());
        assert_eq!(slice.key_bytes().as_deref(), plan.key.as_deref());
        assert_eq!(slice.value_bytes().as_deref(), plan.value.as_deref());
        let own = slice.detach();
        assert_eq!(Plan::of(own.view()), *plan);
        assert_eq!((own.offset(), own.timestamp()), (slice.offset(), slice.timestamp()));
        assert!(own.pinned() < slice.pinned());
        assert_eq!(Plan::of(own.detach().view()), *plan);
    }
}

// ---- allocations ----

#[test]
fn appending_allocates_only_to_grow() {
    let mut writer = BatchWriter::new(BatchWriter::INITIAL_CAPACITY);
    let headers: [(&str, Option<&[u8]>); 2] = [("one", Some(b"1")), ("two", None)];
    let allocated = allocation_counter::measure(|| {
        for time in 0..10_000 {
            writer.append(time, Some(b"key"), Some(&[0; 100]), headers).unwrap();
        }
    });
    // From 1 KiB to 2 MiB by doubling.
    assert!(allocated.count_total <= 12, "{allocated:?}");

    let mut spare = writer.finish().recycle();
    let allocated = allocation_counter::measure(|| {
        let mut writer = BatchWriter::with_buffer(spare.take().unwrap());
        for time in 0..10_000 {
            writer.append(time, Some(b"key"), Some(&[0; 100]), headers).unwrap();
        }
        spare = writer.finish().recycle();
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[test]
fn reading_allocates_nothing() {
    let mut writer = BatchWriter::new(0);
    for time in 0..1000 {
        writer.append(time, Some(b"key"), Some(&[0; 100]), [("h", Some(&b"1"[..]))]).unwrap();
    }
    let set = writer.finish().stamp(IDENTITY);
    let mut bytes = 0;
    let allocated = allocation_counter::measure(|| {
        for batch in Batches::new(set.clone(), true) {
            let batch = batch.unwrap();
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                bytes += record.value().unwrap().len() + record.headers().map(|h| h.key.len()).sum::<usize>();
            }
            for record in batch.into_records().unwrap() {
                bytes += record.unwrap().value().unwrap().len();
            }
        }
    });
    assert_eq!(bytes, 201_000);
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

#[test]
fn a_claimed_count_reserves_nothing() {
    let sets =
        [forged(&GOLDEN, |h| h.count = i32::MAX), raw_record(&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f])];
    for set in sets {
        let shared = set.clone(); // the first clone of a `Bytes` allocates its count
        let allocated = allocation_counter::measure(|| {
            exhaust(shared, true).unwrap_err();
        });
        assert_eq!(allocated.count_total, 0);
    }
}
