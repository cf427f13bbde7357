//! Each codec, both ways, on batches of JSON-like records: 16 KiB and 1 MiB, and with state that is kept as the client
//! keeps it. MB/s are of records, not compressed.

#![allow(missing_docs, reason = "what `criterion_group!` makes is public and has none")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use milena::record::{BatchWriter, Batches, Compression, Compressor, Decompressor, Identity, Limits, NO_HEADERS};

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const SIZES: [(usize, &str); 2] = [(16 << 10, "16 KiB"), (1 << 20, "1 MiB")];

/// A batch of `size` bytes at most: lines of a service's log, with what differs in them.
fn batch(size: usize) -> BatchWriter {
    let mut rng = Rng::with_seed(1);
    let mut writer = BatchWriter::new(size);
    let mut time = 1_790_000_000_000;
    loop {
        let (trace, user, ms) = (rng.u128(..), rng.u32(..100_000), rng.u32(..5_000));
        let level = rng.choice(["INFO", "INFO", "INFO", "WARN", "DEBUG"]).expect("some");
        let path = rng.choice(["/api/v1/orders", "/api/v1/cart", "/api/v1/search", "/healthz"]).expect("some");
        let value = format!(
            "{{\"ts\":{time},\"level\":\"{level}\",\"service\":\"checkout\",\"path\":\"{path}\",\
             \"trace_id\":\"{trace:032x}\",\"user\":{user},\"duration_ms\":{ms},\"message\":\"request completed\"}}"
        );
        if writer.append_within(size, time, None, Some(value.as_bytes()), NO_HEADERS).is_err() {
            return writer;
        }
        time += i64::from(rng.u8(..20));
    }
}

fn records(size: usize) -> Vec<u8> {
    let set = batch(size).finish().stamp(Identity::NONE);
    let batch = Batches::new(set, false).next().expect("one").expect("whole");
    batch.bytes()[milena::record::header::HEADER_SIZE..].to_vec()
}

fn codecs(c: &mut Criterion) {
    for (size, name) in SIZES {
        let input = records(size);
        let mut group = c.benchmark_group(format!("compress {name}"));
        group.throughput(Throughput::Bytes(input.len() as u64));
        let mut compressor = Compressor::new();
        for codec in CODECS {
            let ratio = input.len() as f64 / compressor.compress(codec, None, &input).expect("codec").len() as f64;
            group.bench_function(format!("{codec} ({ratio:.2}x)"), |b| {
                b.iter(|| compressor.compress(codec, None, black_box(&input)).map(<[u8]>::len))
            });
        }
        group.finish();
        let mut group = c.benchmark_group(format!("decompress {name}"));
        group.throughput(Throughput::Bytes(input.len() as u64));
        let mut decompressor = Decompressor::new();
        for codec in CODECS {
            let packed = compressor.compress(codec, None, &input).expect("codec").to_vec();
            group.bench_function(codec.to_string(), |b| {
                b.iter(|| decompressor.decompress(codec, black_box(&packed), Limits::default()))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codecs);
criterion_main!(benches);
