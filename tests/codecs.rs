//! The codecs: round trips, frames that other implementations wrote, and bytes that mean harm.
//!
//! `tests/golden/*.batch` are what the log of a Kafka 4.3.1 broker held after its console producer
//! (`--compression-codec`) had sent twelve lines; `tests/golden/lz4-*`, `zstd-*` and `gzip-*` are [`lines`] as
//! `lz4 -BD -B4`, `lz4 -BX --content-size`, `zstd -19 --check`, `zstd -3` (from a pipe) and `gzip -N -9` wrote them.
//! `scripts/long/codec-tools` lets the tools of today read what we write, and us what they write.

#![allow(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]

use std::io::Write;
use std::process::{Command, Stdio};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use milena::record::header::{self, Attributes, BatchHeader, CRC_AT, HEADER_SIZE, MAGIC};
use milena::record::{
    BatchWriter, Batches, Compression, Compressor, Decompressor, Identity, Limits, NO_HEADERS, RawBatch, RecordError,
};

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const MIB: usize = 1 << 20;

/// Makes `size` bytes.
type Generator = fn(&mut Rng, usize) -> Vec<u8>;

const GENERATORS: [(&str, Generator); 6] = [
    ("json", json),
    ("zeros", |_, size| vec![0; size]),
    ("noise", |rng, size| (0..size).map(|_| rng.u8(..)).collect()),
    ("two letters", |rng, size| (0..size).map(|_| if rng.bool() { b'a' } else { b'b' }).collect()),
    ("runs", |rng, size| {
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let end = size.min(bytes.len() + rng.usize(1..100_000));
            bytes.resize(end, rng.u8(..));
        }
        bytes
    }),
    ("far repeats", |rng, size| {
        let noise: Vec<u8> = (0..70_000).map(|_| rng.u8(..)).collect();
        noise.iter().copied().cycle().take(size).collect()
    }),
];

fn json(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 200);
    while bytes.len() < size {
        let (trace, user, time) = (rng.u64(..), rng.u32(..10_000), rng.u32(..5_000));
        let level = rng.choice(["INFO", "WARN", "DEBUG"]).unwrap();
        let service = rng.choice(["checkout", "search", "payment"]).unwrap();
        let line = format!(
            "{{\"level\":\"{level}\",\"service\":\"{service}\",\"trace\":\"{trace:016x}\",\"user\":{user},\"ms\":{time}}}"
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// What the golden files hold.
fn lines() -> Vec<u8> {
    (0..20_000).flat_map(|n| format!("line {}\n", n % 3_000).into_bytes()).collect()
}

fn unlimited() -> Limits {
    Limits { max_output: usize::MAX, ratio: usize::MAX }
}

fn compressed(codec: Compression, input: &[u8]) -> Vec<u8> {
    Compressor::new().compress(codec, None, input).unwrap().to_vec()
}

fn decompressed(codec: Compression, input: &[u8], limits: Limits) -> Result<Bytes, RecordError> {
    Decompressor::new().decompress(codec, input, limits)
}

// ---- both ways ----

#[test]
fn round_trips() {
    let mut rng = Rng::with_seed(1);
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    let edges =
        [0, 1, 2, 3, 6, 7, 12, 13, 100, 1_000, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 131_072, 200_000];
    for codec in CODECS {
        for (name, generate) in GENERATORS {
            let sizes = edges.into_iter().chain([rng.usize(..20_000), rng.usize(..300_000), 3 * MIB / 2]);
            for size in sizes {
                let input = generate(&mut rng, size);
                let packed = compressor.compress(codec, None, &input).unwrap();
                let output = decompressor.decompress(codec, packed, unlimited()).unwrap();
                assert!(output == input, "{codec}: {size} bytes of {name}");
            }
        }
    }
}

#[test]
fn every_level() {
    let mut rng = Rng::with_seed(2);
    let input = json(&mut rng, 50_000);
    let mut compressor = Compressor::new();
    for codec in CODECS {
        let Some(levels) = codec.levels() else { continue };
        let mut sizes = Vec::new();
        for level in levels.clone() {
            let packed = compressor.compress(codec, Some(level), &input).unwrap();
            sizes.push(packed.len());
            assert_eq!(decompressed(codec, packed, Limits::default()).unwrap(), input, "{codec} {level}");
        }
        assert!(sizes.last() < sizes.first(), "{codec}: {sizes:?}");
        // Beyond the ends is the nearest.
        let beyond = compressor.compress(codec, Some(levels.end() + 100), &input).unwrap().len();
        assert_eq!(Some(&beyond), sizes.last());
        assert_eq!(compressor.compress(codec, Some(-7), &input).unwrap().len(), sizes[0]);
    }
}

#[test]
fn a_compressor_forgets_what_it_compressed() {
    let mut rng = Rng::with_seed(3);
    let inputs: Vec<_> = (0..20).map(|_| json(&mut rng, 3_000)).collect();
    let mut reused = Compressor::new();
    for codec in CODECS {
        for input in &inputs {
            assert_eq!(reused.compress(codec, None, input).unwrap(), compressed(codec, input), "{codec}");
        }
    }
}

// ---- in batches ----

fn writer(values: usize) -> BatchWriter {
    let mut writer = BatchWriter::new(0);
    for n in 0..values {
        let value = format!("{{\"n\":{n},\"text\":\"the same again and again\"}}");
        writer.append(1_000 + n as i64, Some(b"key"), Some(value.as_bytes()), [("h", None)]).unwrap();
    }
    writer
}

fn only(set: Bytes) -> RawBatch {
    let mut batches = Batches::new(set, true);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none() && batches.rest().is_empty());
    batch
}

#[test]
fn a_compressed_batch_says_what_the_plain_one_does() {
    let identity = Identity { producer_id: 5, producer_epoch: 1, base_sequence: 2, transactional: true };
    let plain = only(writer(1_000).finish().stamp(identity));
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    for codec in CODECS {
        let mut sealed = writer(1_000).finish();
        assert_eq!(sealed.compress(codec, None, &mut compressor), Ok(true));
        assert_eq!(sealed.compress(codec, None, &mut compressor), Ok(false), "once is enough");
        let size = sealed.size();
        let bytes = sealed.stamp(identity);
        assert_eq!(bytes.len(), size);
        assert!(size < plain.bytes().len() / 3, "{codec}: {size} bytes");
        let batch = only(bytes);
        let expected = BatchHeader {
            attributes: plain.header().attributes.with_compression(codec),
            length: batch.header().length,
            crc: batch.header().crc,
            ..*plain.header()
        };
        assert_eq!(*batch.header(), expected);
        assert_eq!(batch.header().attributes.compression(), Ok(codec));
        assert_eq!(batch.records().unwrap_err(), RecordError::Compressed(codec));
        assert_eq!(batch.clone().into_records().unwrap_err(), RecordError::Compressed(codec));

        let unpacked = batch.decompress(&mut decompressor, Limits::default()).unwrap();
        assert_eq!(unpacked.bytes()[..], plain.bytes()[HEADER_SIZE..]);
        let mut owned = unpacked.clone().into_records().unwrap();
        let (before, after) = (plain.records().unwrap(), unpacked.records().unwrap());
        let mut count = 0;
        for (before, after) in before.map(Result::unwrap).zip(after.map(Result::unwrap)) {
            let owned = owned.next().unwrap().unwrap();
            for after in [after, owned.view(), owned.detach().view()] {
                assert_eq!((before.offset(), before.timestamp()), (after.offset(), after.timestamp()));
                assert_eq!((before.key(), before.value()), (after.key(), after.value()));
                assert!(before.headers().eq(after.headers()));
            }
            count += 1;
        }
        assert_eq!(count, 1_000);
        assert!(owned.next().is_none());
    }
    // What is not compressed needs no decompressing, and no copy.
    let unpacked = plain.clone().decompress(&mut decompressor, Limits { max_output: 0, ratio: 0 }).unwrap();
    assert_eq!(unpacked.bytes().as_ptr(), plain.bytes().as_ptr());
    assert_eq!(unpacked.records().unwrap().count(), 1_000);
}

#[test]
fn what_does_not_shrink_stays_as_it_is() {
    let mut rng = Rng::with_seed(4);
    let mut compressor = Compressor::new();
    for codec in CODECS.into_iter().chain([Compression::None]) {
        for size in [0, 10, 1_000, 100_000] {
            let noise: Vec<u8> = (0..size).map(|_| rng.u8(..)).collect();
            let fill = || {
                let mut writer = BatchWriter::new(0);
                writer.append(1, None, Some(&noise), NO_HEADERS).unwrap();
                writer.finish()
            };
            let mut sealed = fill();
            assert_eq!(sealed.compress(codec, None, &mut compressor), Ok(false), "{codec}, {size} bytes");
            assert_eq!(sealed.stamp(Identity::NONE), fill().stamp(Identity::NONE));
        }
    }
    // Nor does what was sent: a retry sends the same bytes.
    let mut sealed = writer(100).finish();
    let bytes = sealed.stamp(Identity::NONE);
    assert_eq!(sealed.compress(Compression::Lz4, None, &mut compressor), Ok(false));
    assert_eq!(sealed.stamp(Identity::NONE), bytes);
}

#[test]
fn compressing_allocates_nothing_once_it_is_warm() {
    let mut compressor = Compressor::new();
    for codec in CODECS {
        let mut batches: Vec<_> = (0..3).map(|_| writer(2_000).finish()).collect();
        batches[0].compress(codec, None, &mut compressor).unwrap();
        let counted = allocation_counter::measure(|| {
            for batch in &mut batches[1..] {
                assert_eq!(batch.compress(codec, None, &mut compressor), Ok(true));
            }
        });
        // rust-zstd makes two small boxes for each frame.
        let (count, bytes) = if codec == Compression::Zstd { (4, 200) } else { (0, 0) };
        assert!(counted.count_total <= count && counted.bytes_total <= bytes, "{codec}: {counted:?}");
    }
}

#[test]
fn decompressing_allocates_nothing_once_its_reader_is_done() {
    let mut decompressor = Decompressor::new();
    let input = json(&mut Rng::with_seed(5), MIB);
    for codec in CODECS {
        let packed = compressed(codec, &input);
        let mut decompress = || decompressor.decompress(codec, &packed, Limits::default()).unwrap();
        let first = decompress();
        assert!(first == input);
        let at = first.as_ptr();
        // Somebody still reads it: the next batch must not be written over it, and costs its own size.
        let mut second = Bytes::new();
        let counted = allocation_counter::measure(|| second = decompress());
        assert!(first == input && second == input && second.as_ptr() != at, "{codec}");
        assert!(counted.bytes_max < 9 * MIB as u64 / 8 + 100, "{codec}: {counted:?}");
        // Nobody reads that one: its memory is taken again, but for what counts its readers.
        let at = second.as_ptr();
        drop(second);
        let counted = allocation_counter::measure(|| assert_eq!(decompress().as_ptr(), at, "{codec}"));
        assert!(counted.count_total <= 2 && counted.bytes_total < 100, "{codec}: {counted:?}");
        drop(decompress().slice(100..));
        assert_eq!(decompress().as_ptr(), at, "{codec}");
        assert!(first == input);
    }
}

#[test]
fn a_small_batch_behind_a_large_one_keeps_no_large_buffer() {
    let mut decompressor = Decompressor::new();
    let (large, small) = (json(&mut Rng::with_seed(5), MIB), json(&mut Rng::with_seed(6), 1_000));
    for codec in CODECS {
        drop(decompressor.decompress(codec, &compressed(codec, &large), Limits::default()).unwrap());
        let packed = compressed(codec, &small);
        let mut kept = Vec::with_capacity(100);
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                kept.push(decompressor.decompress(codec, &packed, Limits::default()).unwrap());
            }
        });
        assert!(kept.iter().all(|batch| *batch == small), "{codec}");
        // The large buffer is at hand already, and stays with the decompressor.
        assert!(counted.bytes_current < 110_000, "{codec}: {counted:?}");
    }
}

// ---- what others wrote ----

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn batches_of_javas_producer() {
    for codec in CODECS {
        let batch = only(golden(&format!("{codec}.batch")).into());
        assert_eq!(batch.header().attributes.compression(), Ok(codec));
        let unpacked = batch.decompress(&mut Decompressor::new(), Limits::default()).unwrap();
        let values: Vec<_> = unpacked
            .records()
            .unwrap()
            .map(|record| String::from_utf8(record.unwrap().value().unwrap().to_vec()).unwrap())
            .collect();
        let expected: Vec<_> = (1..=12).map(|n| format!("the same again and again, number {n}")).collect();
        assert_eq!(values, expected, "{codec}");
    }
}

#[test]
fn frames_of_the_command_line_tools() {
    for (name, codec) in [
        ("lz4-linked", Compression::Lz4),
        ("lz4-checksums-and-size", Compression::Lz4),
        ("zstd-19-checksum", Compression::Zstd),
        ("zstd-pipe", Compression::Zstd),
        ("gzip-name", Compression::Gzip),
    ] {
        let packed = golden(name);
        assert!(decompressed(codec, &packed, Limits::default()).unwrap() == lines(), "{name}");
        // Checksums are looked at: none of these has a byte that may be another, but for a name, a time, or padding.
        for at in [packed.len() - 1, packed.len() / 2, packed.len() - 6] {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x10;
            let other = decompressed(codec, &damaged, Limits::default());
            assert!(other.is_err() || name == "zstd-pipe", "{name}, byte {at}");
        }
    }
}

#[test]
fn streams_one_behind_the_other() {
    for codec in CODECS {
        let stream = compressed(codec, b"to be ");
        let both = [stream.clone(), compressed(codec, b"or not")].concat();
        assert_eq!(decompressed(codec, &both, Limits::default()).unwrap(), &b"to be or not"[..], "{codec}");
        let garbage = [stream, b"garbage".to_vec()].concat();
        assert!(decompressed(codec, &garbage, Limits::default()).is_err(), "{codec}");
    }
}

#[test]
fn snappy_without_a_frame() {
    // 11 bytes: "hello " as a literal, then five of them copied. librdkafka and old Go clients write no frame.
    let raw = [11, 5 << 2, b'h', b'e', b'l', b'l', b'o', b' ', 0b0000_0101, 6];
    assert_eq!(decompressed(Compression::Snappy, &raw, Limits::default()).unwrap(), &b"hello hello"[..]);
}

#[test]
fn frames_as_java_wants_them() {
    // Lz4BlockInputStream refuses other versions and linked blocks, and checks the header's checksum.
    assert_eq!(compressed(Compression::Lz4, b"abc"), b"\x04\x22\x4d\x18\x60\x40\x82\x03\0\0\x80abc\0\0\0\0");
    assert_eq!(compressed(Compression::Snappy, b"abc"), b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x05\x03\x08abc");
    assert_eq!(compressed(Compression::Gzip, b"abc")[..10], *b"\x1f\x8b\x08\0\0\0\0\0\0\xff");
    assert_eq!(compressed(Compression::Zstd, b"abc"), b"\x28\xb5\x2f\xfd\x20\x03\x19\0\0abc");
}

#[test]
#[ignore = "needs zstd, lz4 and gzip: scripts/long/codec-tools"]
fn other_tools_agree() {
    fn pipe(command: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child =
            Command::new(command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            child.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "{command:?}");
        output.stdout
    }
    type Argv = &'static [&'static str];
    let tools: [(Compression, Argv, &[Argv]); 3] = [
        (Compression::Gzip, &["gzip", "-dc"], &[&["gzip", "-1c"], &["gzip", "-9c"]]),
        (
            Compression::Lz4,
            &["lz4", "-dc"],
            &[&["lz4", "-c"], &["lz4", "-9c", "-B5"], &["lz4", "-c", "-BD", "-B4"], &["lz4", "-c", "-BX"]],
        ),
        (
            Compression::Zstd,
            &["zstd", "-dc"],
            &[&["zstd", "-c"], &["zstd", "-c", "-1", "--no-check"], &["zstd", "-c", "--ultra", "-22"]],
        ),
    ];
    let mut rng = Rng::with_seed(6);
    for (codec, unpack, packs) in tools {
        for (name, generate) in GENERATORS {
            for size in [0, 1, 1_000, 65_536, 100_000, 1_500_000] {
                let input = generate(&mut rng, size);
                assert!(pipe(unpack, &compressed(codec, &input)) == input, "{codec}: {size} bytes of {name}");
                for pack in packs {
                    let output = decompressed(codec, &pipe(pack, &input), unlimited()).unwrap();
                    assert!(output == input, "{pack:?}: {size} bytes of {name}");
                }
            }
        }
    }
}

// ---- harm ----

#[test]
fn cut_anywhere() {
    let mut rng = Rng::with_seed(7);
    let mut decompressor = Decompressor::new();
    for codec in CODECS {
        for (name, generate) in GENERATORS {
            for size in [1, 300, 70_000] {
                let input = generate(&mut rng, size);
                let packed = compressed(codec, &input);
                let step = if packed.len() > 4_000 { 97 } else { 1 };
                for end in (0..packed.len()).step_by(step) {
                    match decompressor.decompress(codec, &packed[..end], Limits::default()) {
                        Err(RecordError::Codec { codec: found, .. }) => assert_eq!(found, codec),
                        // Blocks of snappy have no end, and zstd's frames none in front of the first.
                        Ok(output) => {
                            let whole_blocks = codec == Compression::Snappy && output.len() % (32 << 10) == 0;
                            assert!(whole_blocks || end == 0, "{codec}: {end} of {} bytes of {name}", packed.len());
                            assert!(input.starts_with(&output));
                        }
                        Err(error) => panic!("{codec}, {name}, {end}: {error}"),
                    }
                }
            }
        }
    }
}

#[test]
fn bits_flipped() {
    let mut rng = Rng::with_seed(8);
    let mut decompressor = Decompressor::new();
    let limits = Limits { max_output: MIB, ..Limits::default() };
    let mut run = |codec, packed: &[u8]| {
        let counted = allocation_counter::measure(|| {
            if let Ok(output) = decompressor.decompress(codec, packed, limits) {
                assert!(output.len() <= MIB);
            }
        });
        // Output and its copy, and zstd's window and tables.
        assert!(counted.bytes_max < 5 * MIB as u64, "{codec}: {counted:?}");
    };
    for codec in CODECS {
        for (_, generate) in GENERATORS {
            let packed = compressed(codec, &generate(&mut rng, 500));
            for at in 0..packed.len() {
                for bit in 0..8 {
                    let mut damaged = packed.clone();
                    damaged[at] ^= 1 << bit;
                    run(codec, &damaged);
                }
            }
            let packed = compressed(codec, &generate(&mut rng, 100_000));
            for _ in 0..100 {
                let mut damaged = packed.clone();
                for _ in 0..rng.usize(1..5) {
                    let at = rng.usize(..damaged.len());
                    damaged[at] = rng.u8(..);
                }
                run(codec, &damaged);
            }
        }
        for _ in 0..2_000 {
            let noise: Vec<u8> = (0..rng.usize(..100)).map(|_| rng.u8(..)).collect();
            run(codec, &noise);
            // Behind a good beginning.
            let mut packed = compressed(codec, b"good");
            packed.truncate(rng.usize(..packed.len()));
            packed.extend_from_slice(&noise);
            run(codec, &packed);
        }
    }
}

/// Decompresses what must not be; the error, and the peak of what was allocated.
fn bomb(codec: Compression, packed: &[u8], limits: Limits) -> (RecordError, u64) {
    let mut error = None;
    let counted = allocation_counter::measure(|| error = decompressed(codec, packed, limits).err());
    (error.expect("it goes beyond the limit"), counted.bytes_max)
}

#[test]
fn bombs() {
    // 19 million records of seven bytes, which is as small as they get.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let four_mib: Vec<u8> = record.into_iter().cycle().take(4 * MIB / 7 * 7).collect();
    for codec in CODECS {
        let part = compressed(codec, &four_mib);
        let parts = 133_000_000 / four_mib.len() + 1;
        let packed = part.repeat(parts);
        let (error, peak) = bomb(codec, &packed, Limits::default());
        println!("{codec}: {} bytes of {}, peak {peak}", packed.len(), parts * four_mib.len());
        let expected = match error {
            // zstd is that good.
            RecordError::Ratio { compressed, ratio: 1_100 } => {
                compressed * 1_100 < 32 * MIB && compressed == packed.len()
            }
            RecordError::TooLargeDecompressed { limit } => limit == 32 * MIB,
            _ => false,
        };
        assert!(expected, "{codec}: {error:?}");
        // Output, one and a half times while it grows; zstd's window besides.
        assert!(peak < 58 * MIB as u64, "{codec}: {peak}");

        // The same as a batch, which costs its reader an error, and the next batch arrives.
        let batches = BytesMut::from_iter(
            [batch_of(codec, 19_000_000, &packed), batch_of(codec, 1, &compressed(codec, &record))].concat(),
        );
        let mut batches = Batches::new(batches.freeze(), true);
        let mut decompressor = Decompressor::new();
        let failed = batches.next().unwrap().unwrap().decompress(&mut decompressor, Limits::default());
        assert_eq!(failed.unwrap_err(), error);
        let next = batches.next().unwrap().unwrap().decompress(&mut decompressor, Limits::default()).unwrap();
        assert_eq!(next.records().unwrap().map(Result::unwrap).count(), 1);
    }
}

fn batch_of(codec: Compression, count: i32, records: &[u8]) -> Vec<u8> {
    let header = BatchHeader {
        base_offset: 0,
        length: (HEADER_SIZE - 12 + records.len()) as i32,
        partition_leader_epoch: 0,
        magic: MAGIC,
        crc: 0,
        attributes: Attributes(0).with_compression(codec),
        last_offset_delta: count - 1,
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count,
    };
    let mut batch = [&header.encode(), records].concat();
    let crc = header::checksum(&batch).to_be_bytes();
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc);
    batch
}

#[test]
fn a_window_costs_what_is_decoded() {
    // Level 22 says that it refers back 128 MiB, whatever comes.
    let frame = golden("zstd-window-128-mib");
    let small = allocation_counter::measure(|| {
        assert!(decompressed(Compression::Zstd, &frame, Limits::default()).unwrap() == lines());
    });
    assert!(small.bytes_max < 3 * MIB as u64, "{small:?}");

    // As much as the limit lets through: the records, and all of them once more as the window, each of which may move.
    let noise: Vec<u8> =
        (0..32 * MIB / 8).flat_map(|n| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()).collect();
    let frame = zstd_frame(27, &noise);
    let mut output = Bytes::new();
    let large = allocation_counter::measure(|| {
        output = decompressed(Compression::Zstd, &frame, Limits::default()).unwrap();
    });
    assert!(output == noise);
    println!("32 MiB behind a window of 128 MiB: peak {}", large.bytes_max);
    assert!(large.bytes_max < 83 * MIB as u64, "{large:?}");
}

#[test]
fn a_window_beyond_128_mib_is_refused_before_it_costs() {
    assert_eq!(decompressed(Compression::Zstd, &zstd_frame(27, b"abc"), Limits::default()).unwrap(), &b"abc"[..]);
    for log in [28, 31, 41] {
        let mut error = None;
        let counted = allocation_counter::measure(|| {
            error = decompressed(Compression::Zstd, &zstd_frame(log, b"abc"), unlimited()).err();
        });
        let problem = if log <= 31 { "its window is beyond 128 MiB" } else { "it does not decode" };
        assert_eq!(error, Some(RecordError::Codec { codec: Compression::Zstd, problem }), "{log}");
        assert!(counted.bytes_max < MIB as u64, "{counted:?}");
    }
}

/// A frame with a window of `1 << log`, that does not say how long it is: blocks as they are.
fn zstd_frame(log: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let mut blocks = content.chunks(128 << 10).peekable();
    while let Some(block) = blocks.next() {
        let head = (block.len() as u32) << 3 | u32::from(blocks.peek().is_none());
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}

#[test]
fn limits_are_exact() {
    let mut rng = Rng::with_seed(9);
    for codec in CODECS {
        for size in [1, 1_000, 65_536, 100_000, 3 * MIB] {
            let input = json(&mut rng, size);
            let packed = compressed(codec, &input);
            let limits = |max_output| Limits { max_output, ..Limits::default() };
            assert!(decompressed(codec, &packed, limits(size)).unwrap() == input, "{codec}, {size}");
            for limit in [size - 1, size / 2, 0] {
                let error = decompressed(codec, &packed, limits(limit)).unwrap_err();
                assert_eq!(error, RecordError::TooLargeDecompressed { limit }, "{codec}, {size}");
            }
        }
    }
}

#[test]
fn ratios() {
    // Only zstd is ever that good: what the others make of 32 MiB of nothing is delivered.
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let packed = compressed(codec, &vec![0; 32 * MIB]);
        assert!(32 * MIB / packed.len() < 1_100, "{codec}");
        assert_eq!(decompressed(codec, &packed, Limits::default()).unwrap().len(), 32 * MIB, "{codec}");
    }
    // 8 MiB of nothing is no attack, a byte more is; unless somebody asks for it.
    let packed = compressed(Compression::Zstd, &vec![0; 8 * MIB]);
    assert!(8 * MIB / packed.len() > 1_100);
    assert_eq!(decompressed(Compression::Zstd, &packed, Limits::default()).unwrap().len(), 8 * MIB);
    let packed = compressed(Compression::Zstd, &vec![0; 8 * MIB + 1]);
    let error = decompressed(Compression::Zstd, &packed, Limits::default()).unwrap_err();
    assert_eq!(error, RecordError::Ratio { compressed: packed.len(), ratio: 1_100 });
    let any = Limits { ratio: usize::MAX, ..Limits::default() };
    assert_eq!(decompressed(Compression::Zstd, &packed, any).unwrap().len(), 8 * MIB + 1);

    // 400 times is what happy users have.
    let mut rng = Rng::with_seed(10);
    let chunk = json(&mut rng, 64 << 10);
    let mut input = Vec::new();
    while input.len() < 16 * MIB {
        input.extend_from_slice(&chunk[..chunk.len() - 150]);
        input.extend((0..150).map(|_| rng.u8(..)));
    }
    let packed = compressed(Compression::Zstd, &input);
    let ratio = input.len() / packed.len();
    assert!((300..500).contains(&ratio), "{ratio}");
    let mut output = Bytes::new();
    let counted = allocation_counter::measure(|| {
        output = decompressed(Compression::Zstd, &packed, Limits::default()).unwrap();
    });
    assert!(output == input);
    assert!(counted.bytes_max < 64 * MIB as u64, "{counted:?}");
}

#[test]
fn claims_are_not_believed() {
    let most = |codec, packed: &[u8]| {
        let counted = allocation_counter::measure(|| {
            decompressed(codec, packed, Limits::default()).unwrap_err();
        });
        counted.bytes_max
    };
    // A varint of 4 GiB, alone and as a block.
    assert_eq!(most(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]), 0);
    let framed =
        [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06".as_slice(), &[0xff, 0xff, 0xff, 0xff, 0x0f, 0]].concat();
    assert_eq!(most(Compression::Snappy, &framed), 0);
    let huge_block = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\x7f\xff\xff\xff".as_slice(), &[0; 9]].concat();
    assert_eq!(most(Compression::Snappy, &huge_block), 0);
    // A frame of 4 MiB blocks and 2^62 bytes; its first block ends early, the second one is a lie.
    let lz4 = |rest: &[u8]| {
        let mut frame = b"\x04\x22\x4d\x18\x68\x70\0\0\0\0\0\0\0\x40".to_vec();
        frame.push((twox_hash::XxHash32::oneshot(0, &frame[4..]) >> 8) as u8);
        [frame, rest.to_vec()].concat()
    };
    assert_eq!(most(Compression::Lz4, &lz4(&[0, 0, 0x40, 0])), 0);
    assert!(most(Compression::Lz4, &lz4(&[3, 0, 0, 0, 0x1f, b'a', 1])) < 2_000);
    // A frame whose window is 128 MiB, and that says 2^62 bytes.
    let zstd = b"\x28\xb5\x2f\xfd\xc0\x88\0\0\0\0\0\0\0\x40\0\0\0";
    let peak = most(Compression::Zstd, zstd);
    assert!(peak < MIB as u64, "{peak}");
}
