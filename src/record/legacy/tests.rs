//! Message sets drawn by hand, those that Kafka's own classes wrote (`tests/java/MessageSets.java`), and all that they
//! must not be.

use fastrand::Rng;

use super::*;
use crate::record::{BatchWriter, Batches, Compressor, NO_HEADERS, TimestampType, next_offset};

/// Offset 5 in format 0, offset 9 at 1000 ms in format 1.
#[rustfmt::skip]
const GOLDEN: [u8; 63] = [
    0, 0, 0, 0, 0, 0, 0, 5,             // offset
    0, 0, 0, 16,                        // size
    0x1f, 0xec, 0xd7, 0x0a,             // CRC, by Python's zlib
    0, 0,                               // magic, attributes
    0, 0, 0, 1, b'k', 0, 0, 0, 1, b'v',
    0, 0, 0, 0, 0, 0, 0, 9,
    0, 0, 0, 23,
    0x09, 0xb6, 0x6c, 0xaa,
    1, 0,
    0, 0, 0, 0, 0, 0, 0x03, 0xe8,       // timestamp
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, b'v',
];

type Plan = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// One message.
fn message(magic: u8, attributes: u8, (offset, timestamp, key, value): &Plan) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend(timestamp.to_be_bytes());
    }
    for field in [key, value] {
        body.extend(field.as_ref().map_or(-1, |field| field.len() as i32).to_be_bytes());
        body.extend(field.iter().flatten());
    }
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((body.len() as i32 + 4).to_be_bytes());
    message.extend(crc32fast::hash(&body).to_be_bytes());
    message.extend(body);
    message
}

fn plain(magic: u8, plans: &[Plan]) -> Vec<u8> {
    plans.iter().flat_map(|plan| message(magic, 0, plan)).collect()
}

/// A wrapper around these bytes.
fn wrapper(magic: u8, codec: Compression, offset: i64, inner: &[u8]) -> Vec<u8> {
    let value = Compressor::new().compress(codec, None, inner).unwrap().to_vec();
    let bits = Attributes::default().with_compression(codec).0 as u8;
    message(magic, bits, &(offset, 77, None, Some(value)))
}

fn at(offset: i64) -> Plan {
    (offset, 1000 + offset, Some(b"k".to_vec()), Some(b"v".to_vec()))
}

/// What is read of a set before it ends or fails.
fn read_within(set: &[u8], check_crc: bool, limits: Limits) -> (Vec<Plan>, Result<(), RecordError>) {
    let mut found = Vec::new();
    let mut decompressor = Decompressor::new();
    for batch in Batches::new(Bytes::copy_from_slice(set), check_crc) {
        let unpacked = match batch.and_then(|batch| batch.decompress(&mut decompressor, limits)) {
            Ok(unpacked) => unpacked,
            Err(error) => return (found, Err(error)),
        };
        assert!(unpacked.bytes().len() <= limits.max_output.max(set.len()));
        let (first, last) = (unpacked.header().base_offset, unpacked.header().last_offset());
        let is_set = is_message(unpacked.header().magic);
        let records = match unpacked.into_records() {
            Ok(records) => records,
            Err(error) => return (found, Err(error)),
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) if !is_set => return (found, Err(error)),
                Err(error) => panic!("rewritten as what is no record: {error}"),
            };
            assert!((first..=last).contains(&record.offset()));
            assert!(!is_set || record.headers().len() == 0);
            let [key, value] = [record.key(), record.value()].map(|field| field.map(<[u8]>::to_vec));
            found.push((record.offset(), record.timestamp(), key, value));
        }
    }
    (found, Ok(()))
}

fn read(set: &[u8]) -> Vec<Plan> {
    let (found, result) = read_within(set, true, Limits::default());
    assert_eq!(result, Ok(()));
    found
}

fn problem(set: &[u8]) -> RecordError {
    read_within(set, true, Limits::default()).1.unwrap_err()
}

fn offsets(set: &[u8]) -> Vec<i64> {
    read(set).iter().map(|record| record.0).collect()
}

macro_rules! golden {
    ($($name:literal)*) => {
        [$(($name, include_bytes!(concat!("../../../tests/golden/", $name)).as_slice())),*]
    };
}

/// By name, in the order of `message-sets.txt`.
const GOLDEN_SETS: [(&str, &[u8]); 12] = golden! {
    "set-v0-gzip" "set-v0-lz4" "set-v0-none" "set-v0-snappy"
    "set-v1-gzip" "set-v1-gzip-append" "set-v1-lz4" "set-v1-lz4-append"
    "set-v1-none" "set-v1-none-append" "set-v1-snappy" "set-v1-snappy-append"
};

#[test]
fn the_messages_drawn_by_hand() {
    let (k, v) = (Some(b"k".to_vec()), Some(b"v".to_vec()));
    assert_eq!(read(&GOLDEN), [(5, -1, k.clone(), v.clone()), (9, 1000, None, v.clone())]);
    assert_eq!(message(0, 0, &(5, -1, k, v.clone())), GOLDEN[..28]);
    assert_eq!(message(1, 0, &(9, 1000, None, v)), GOLDEN[28..]);
    let mut batches = Batches::new(Bytes::from_static(&GOLDEN), true);
    let old = batches.next().unwrap().unwrap();
    assert_eq!((old.header().magic, old.header().size(), old.header().next_offset()), (0, 28, 6));
    assert_eq!(old.header().partition_leader_epoch, -1);
    assert_eq!(old.check_crc(), Ok(()));
    assert_eq!(old.records().unwrap_err(), RecordError::NotRewritten(0));
    assert_eq!(batches.next().unwrap().unwrap().into_records().unwrap_err(), RecordError::NotRewritten(1));
    assert!(batches.next().is_none() && batches.rest().is_empty());
}

#[test]
fn what_kafkas_classes_wrote_is_read_as_they_read_it() {
    let mut lines = include_str!("../../../tests/golden/message-sets.txt").lines();
    for (name, set) in GOLDEN_SETS {
        let mut decompressor = Decompressor::new();
        for batch in Batches::new(Bytes::from_static(set), true) {
            let batch = batch.unwrap();
            let time = match batch.header().attributes.timestamp_type() {
                TimestampType::Create => "create",
                TimestampType::LogAppend => "append",
            };
            let unpacked = batch.decompress(&mut decompressor, Limits::default()).unwrap();
            for record in unpacked.records().unwrap() {
                let record = record.unwrap();
                let [key, value] = [record.key(), record.value()].map(|field| match field {
                    Some(field) => format!("'{}'", std::str::from_utf8(field).unwrap()),
                    None => "null".to_owned(),
                });
                let line = format!("{name};{};{};{time};{key};{value}", record.offset(), record.timestamp());
                assert_eq!(Some(&*line), lines.next());
            }
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn a_set_cut_anywhere_gives_its_whole_messages() {
    for (name, set) in GOLDEN_SETS {
        let all = read(set);
        let mut most = 0;
        for end in 0..set.len() {
            let some = read(&set[..end]);
            assert_eq!(some, all[..some.len()], "{name}, {end}");
            assert!(some.len() >= most && some.len() < all.len(), "{name}, {end}");
            most = some.len();
            let mut batches = Batches::new(Bytes::copy_from_slice(&set[..end]), true);
            batches.by_ref().for_each(drop);
            let needs = batches.needs();
            assert!(needs.is_none_or(|needs| needs > batches.rest().len()), "{name}, {end}: {needs:?}");
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    for (name, set) in GOLDEN_SETS {
        let all = read(set);
        // All bits of the first messages; behind them, which differ in nothing, one of each byte.
        for bit in (0..120 * 8).chain((120..set.len()).map(|byte| byte * 8 + byte % 8)) {
            let mut flipped = set.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let (found, result) = read_within(&flipped, true, Limits::default());
            // Outside of the CRC there are offsets, and lengths, which make a message look cut, or another one.
            let same = |found: &Plan, sent: &Plan| (found.1, &found.2, &found.3) == (sent.1, &sent.2, &sent.3);
            let sound = found.iter().zip(&all).all(|(found, sent)| same(found, sent));
            assert!(sound && (result.is_err() || found.len() <= all.len()), "{name}, bit {bit}: {result:?}");
            // And without it, whatever comes is no panic.
            let _ = read_within(&flipped, false, Limits::default());
        }
    }
}

#[test]
fn any_plain_messages_are_the_same_as_records() {
    let mut rng = Rng::with_seed(3);
    let blob = |rng: &mut Rng| match rng.u8(..10) {
        0 => None,
        1 => Some(vec![b'x'; rng.usize(60..70)]),
        2 => Some(vec![b'y'; rng.usize(8_180..8_200)]),
        3 if rng.u8(..20) == 0 => Some(vec![b'z'; rng.usize(65_000..70_000)]),
        _ => Some((0..rng.usize(..6)).map(|_| rng.u8(..)).collect()),
    };
    for round in 0..300 {
        let magic = rng.u8(..2);
        let mut offset = rng.i64(0..1 << 40);
        let plans: Vec<Plan> = (0..rng.usize(1..40))
            .map(|_| {
                offset += if rng.u8(..20) == 0 { rng.i64(1..1 << 33) } else { rng.i64(1..100) };
                let timestamp = match rng.u8(..4) {
                    _ if magic == 0 => -1,
                    0 => *rng.choice(&[i64::MIN, i64::MAX, -1, 0]).unwrap(),
                    _ => 1_500_000_000_000 + rng.i64(-1_000..1_000),
                };
                (offset, timestamp, blob(&mut rng), blob(&mut rng))
            })
            .collect();
        let set = plain(magic, &plans);
        assert_eq!(read(&set), plans, "round {round}");

        // The same inside a wrapper, as far as offsets there can say it.
        let first = plans[0].0;
        let last = plans[plans.len() - 1].0;
        if last - first < 1 << 30 {
            let codec = *rng.choice(&[Compression::Gzip, Compression::Snappy, Compression::Lz4]).unwrap();
            let relative =
                |plan: &Plan| (plan.0 - if magic == 1 { first } else { 0 }, plan.1, plan.2.clone(), plan.3.clone());
            let inner: Vec<Plan> = plans.iter().map(relative).collect();
            assert_eq!(read(&wrapper(magic, codec, last, &plain(magic, &inner))), plans, "round {round}, {codec}");
        }
    }
}

#[test]
fn all_formats_in_one_answer() {
    let mut writer = BatchWriter::new(0);
    writer.append(4, Some(b"k"), Some(b"v"), NO_HEADERS).unwrap();
    writer.append(5, Some(b"k"), Some(b"v"), NO_HEADERS).unwrap();
    let mut batch = writer.finish().stamp(Identity::NONE).to_vec();
    batch[..8].copy_from_slice(&30i64.to_be_bytes());
    let set = [
        plain(0, &[at(3), at(4)]),
        plain(1, &[at(10)]),
        wrapper(1, Compression::Gzip, 21, &plain(1, &[at(0), at(1)])),
        batch,
        plain(1, &[at(40)]),
        plain(1, &[at(50)])[..20].to_vec(),
    ];
    assert_eq!(offsets(&set.concat()), [3, 4, 10, 20, 21, 30, 31, 40]);
    assert_eq!(next_offset(&set[1]), Some(11));
    assert_eq!(next_offset(&set[2]), Some(22));
    assert_eq!(next_offset(&set[3]), Some(32));
    assert_eq!(next_offset(&set[5]), None);
}

#[test]
fn offsets_inside_a_wrapper() {
    let inner = |offsets: &[i64]| plain(1, &offsets.iter().map(|offset| at(*offset)).collect::<Vec<_>>());
    let outer = |offset, offsets: &[i64]| wrapper(1, Compression::Lz4, offset, &inner(offsets));
    // Compaction keeps the offset of the last one, and gaps.
    assert_eq!(offsets(&outer(109, &[0, 3, 9])), [100, 103, 109]);
    assert_eq!(offsets(&outer(109, &[3, 8])), [104, 109]);
    // A wrapper at 0 is taken as it is.
    assert_eq!(offsets(&outer(0, &[0, 1, 2])), [0, 1, 2]);
    assert_eq!(problem(&outer(1, &[0, 1, 2])), RecordError::MessageSet("has more offsets inside than before its end"));
    for wrong in [&[0, 0][..], &[1, 0], &[0, 1 << 31]] {
        assert_eq!(problem(&outer(5 << 40, wrong)), RecordError::MessageSet("has offsets out of order"));
    }

    // Format 0 has absolute ones. What compaction took behind them is passed with the wrapper.
    let set = wrapper(0, Compression::Snappy, 120, &plain(0, &[at(105), at(110)]));
    assert_eq!(offsets(&set), [105, 110]);
    let batch = Batches::new(set.into(), true).next().unwrap().unwrap();
    assert_eq!(batch.header().next_offset(), 121);
    let unpacked = batch.decompress(&mut Decompressor::new(), Limits::default()).unwrap();
    assert_eq!(
        (unpacked.header().base_offset, unpacked.header().next_offset(), unpacked.header().count),
        (105, 121, 2)
    );
    let far = wrapper(0, Compression::Snappy, 1 << 40, &plain(0, &[at(105)]));
    assert_eq!(problem(&far), RecordError::MessageSet("ends far behind its messages"));
}

#[test]
fn wrappers_that_cannot_be() {
    let one = plain(1, &[at(0)]);
    for (set, why) in [
        (wrapper(1, Compression::Gzip, 5, b""), "is compressed, and has no messages inside"),
        (wrapper(1, Compression::Gzip, 5, &wrapper(1, Compression::Gzip, 0, &one)), "is compressed twice"),
        (wrapper(1, Compression::Gzip, 5, &plain(0, &[at(0)])), "has messages of another format inside"),
        (wrapper(0, Compression::Gzip, 5, &one), "has messages of another format inside"),
        (wrapper(1, Compression::Gzip, 5, &one[..one.len() - 1]), "ends within a message"),
        (wrapper(1, Compression::Gzip, 5, &one[..3]), "ends within a message"),
        (message(1, 1, &(5, 0, None, None)), "is compressed into null"),
        (message(1, 4, &(5, 0, None, Some(one.clone()))), "is compressed with zstd"),
    ] {
        assert_eq!(problem(&set), RecordError::MessageSet(why));
        // It costs itself alone: where it ends is known.
        assert_eq!(next_offset(&set), Some(6));
    }
    assert_eq!(problem(&message(1, 5, &at(5))), RecordError::UnknownCodec(5));
    let broken = message(1, 1, &(5, 0, None, Some(b"no gzip".to_vec())));
    assert!(matches!(problem(&broken), RecordError::Codec { codec: Compression::Gzip, .. }));
    // A batch inside.
    let batch = BatchWriter::new(0).finish().stamp(Identity::NONE);
    assert_eq!(problem(&wrapper(1, Compression::Gzip, 5, &batch)), RecordError::UnsupportedMagic(2));
}

#[test]
fn messages_that_lie() {
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut set = plain(1, &[at(5)]);
        change(&mut set);
        let crc = crc32fast::hash(&set[16..]);
        set[12..16].copy_from_slice(&crc.to_be_bytes());
        set
    };
    let put = |at: usize, bytes: [u8; 4]| sealed(&move |set| set[at..at + 4].copy_from_slice(&bytes));
    assert_eq!(problem(&put(8, [0, 0, 0, 13])), RecordError::BadLength(13));
    assert_eq!(problem(&put(8, [0, 0, 0, 21])), RecordError::BadLength(21));
    assert_eq!(problem(&put(8, [0xff; 4])), RecordError::BadLength(-1));
    assert_eq!(
        problem(&put(0, [0x80, 0, 0, 0])),
        RecordError::BadOffsets { base_offset: i64::MIN + 5, last_offset_delta: 0 }
    );
    let decode = |error: DecodeError| RecordError::Decode(error);
    let end = |needed, remaining| decode(DecodeError::UnexpectedEnd { needed, remaining });
    assert_eq!(problem(&put(26, [0, 0, 0, 7])), end(7, 10));
    assert_eq!(problem(&put(26, [0, 0, 0, 6])), end(4, 0));
    assert_eq!(problem(&put(26, [0xff, 0xff, 0xff, 0xfe])), decode(DecodeError::NegativeLength(-2)));
    assert_eq!(problem(&put(26, [0x7f, 0xff, 0xff, 0xff])), end(0x7fff_ffff, 10));
    assert_eq!(problem(&put(31, [0, 0, 0, 0])), decode(DecodeError::TrailingBytes(1)));
    assert_eq!(problem(&put(31, [0, 0, 0, 2])), end(2, 5));
}

#[test]
fn checksums_are_verified_unless_told_not_to() {
    let mut set = plain(1, &[at(5), at(6), at(7)]);
    let last = set.len() - 1;
    set[last] = b'w';
    let (found, result) = read_within(&set, true, Limits::default());
    assert_eq!((found, matches!(result, Err(RecordError::CorruptCrc { .. }))), (vec![at(5), at(6)], true));
    assert_eq!(read_within(&set, false, Limits::default()).0.len(), 3);
    // Inside a sound wrapper, too.
    let set = wrapper(1, Compression::Gzip, 7, &set);
    let (found, result) = read_within(&set, true, Limits::default());
    assert_eq!((found, matches!(result, Err(RecordError::CorruptCrc { .. }))), (vec![], true));
    assert_eq!(read_within(&set, false, Limits::default()).0.len(), 3);
    // And of a batch that was taken without looking.
    let batch = Batches::new(set.into(), false).next().unwrap().unwrap();
    assert_eq!(batch.check_crc(), Ok(()));
}

#[test]
fn the_lz4_of_format_0() {
    let inner = plain(0, &[at(5)]);
    let frame = Compressor::new().compress(Compression::Lz4, None, &inner).unwrap().to_vec();
    assert_eq!(frame[4..7], [0x60, 0x40, 0x82]);
    for (sum, magic, sound) in [(0x82, 0, true), (0x1a, 0, true), (0x00, 0, false), (0x82, 1, true), (0x1a, 1, false)] {
        let mut frame = frame.clone();
        frame[6] = sum;
        let inner = Decompressor::new().decompress_in(magic, Compression::Lz4, &frame, Limits::default());
        assert_eq!(inner.is_ok(), sound, "{sum:x} in format {magic}");
    }
    // What Java wrote has the sum that covers too much.
    let java = GOLDEN_SETS[1].1;
    let at = java.windows(6).position(|window| window == b"\x04\x22\x4d\x18\x60\x40").unwrap();
    assert_eq!(java[at + 6], 0x1a);
}

#[test]
fn wrappers_decompress_within_the_limits() {
    let value = vec![b'x'; 10_000];
    let inner = plain(1, &[(0, 7, None, Some(value.clone())), (1, 7, None, Some(value))]);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let set = [plain(1, &[at(5)]), wrapper(1, codec, 7, &inner)].concat();
        let limits = |max_output| Limits { max_output, ..Limits::default() };
        assert_eq!(read_within(&set, true, limits(inner.len())).0.len(), 3, "{codec}");
        let (found, result) = read_within(&set, true, limits(inner.len() - 1));
        let error = RecordError::TooLargeDecompressed { limit: inner.len() - 1 };
        assert_eq!((found, result), (vec![at(5)], Err(error)), "{codec}");
    }
    // Twenty thousand bytes that would become nine million.
    let bomb = wrapper(1, Compression::Gzip, 7, &vec![0; 9 << 20]);
    assert!(bomb.len() < 20_000);
    let strict = Limits { ratio: 100, ..Limits::default() };
    assert!(matches!(read_within(&bomb, true, strict).1, Err(RecordError::Ratio { ratio: 100, .. })));
}

#[test]
fn plain_messages_come_in_runs() {
    let sizes = |set: Vec<u8>| {
        let batches = Batches::new(set.into(), true).map(|batch| batch.unwrap().header().count);
        batches.collect::<Vec<_>>()
    };
    let many: Vec<Plan> = (0..10_000).map(at).collect();
    // 36 bytes each: 1,820 of them are not more than 64 KiB.
    assert_eq!(sizes(plain(1, &many)), [1820, 1820, 1820, 1820, 1820, 900]);
    let large = (5, 0, None, Some(vec![0; 100_000]));
    assert_eq!(sizes(plain(1, &[at(4), large, at(6)])), [1, 1, 1]);
    assert_eq!(sizes(plain(1, &[at(4), at(5), at(5), at(6), at(2)])), [2, 2, 1]);
    assert_eq!(sizes(plain(1, &[at(0), at((1 << 31) - 1), at(1 << 31)])), [2, 1]);
    // The broker's time is one for a whole batch; the bit is none in format 0.
    let append = |magic, times: &[i64]| {
        let plans = times.iter().enumerate().map(|(n, time)| (n as i64, *time, None, None));
        plans.flat_map(|plan| message(magic, 8, &plan)).collect::<Vec<u8>>()
    };
    assert_eq!(sizes(append(1, &[7, 7, 8])), [2, 1]);
    assert_eq!(read(&append(1, &[7, 7, 8])).iter().map(|record| record.1).collect::<Vec<_>>(), [7, 7, 8]);
    assert_eq!(sizes(append(0, &[7, 7, 8])), [3]);
}

#[test]
fn rewriting_allocates_by_the_batch() {
    let many: Vec<Plan> = (0..1_000).map(at).collect();
    let set = Bytes::from(plain(1, &many));
    let mut decompressor = Decompressor::new();
    let mut count = 0;
    let allocated = allocation_counter::measure(|| {
        for batch in Batches::new(set.clone(), true) {
            let unpacked = batch.unwrap().decompress(&mut decompressor, Limits::default()).unwrap();
            count += unpacked.records().unwrap().map(Result::unwrap).count();
        }
    });
    assert_eq!(count, 1_000);
    assert!(allocated.count_total < 10, "{allocated:?}");
    assert!(allocated.bytes_max < set.len() as u64 + 1024, "{allocated:?}");
}
