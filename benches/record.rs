//! Record batches beside those of `kafka-protocol`: 1000 records of 100 bytes.

#![allow(missing_docs, reason = "what `criterion_group!` makes is public and has none")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::records as oracle;
use milena::record::{BatchWriter, Batches, Identity, NO_HEADERS, RawBatch, SealedBatch, header};

const RECORDS: usize = 1000;
const NOW: i64 = 1_790_000_000_000;
const VALUE: &[u8] = &[b'v'; 100];
const KEY: &[u8] = &[b'k'; 16];
const HEADERS: [(&str, Option<&[u8]>); 1] = [("trace", Some(b"0123456789abcdef"))];
const IDENTITY: Identity = Identity { producer_id: 4000, producer_epoch: 1, base_sequence: 77, transactional: false };

fn fill(writer: &mut BatchWriter, keyed: bool) {
    for index in 0..RECORDS {
        let now = NOW + (index / 16) as i64;
        let appended = match keyed {
            true => writer.append(now, black_box(Some(KEY)), black_box(Some(VALUE)), HEADERS),
            false => writer.append(now, None, black_box(Some(VALUE)), NO_HEADERS),
        };
        appended.expect("a record fits");
    }
}

fn sealed(keyed: bool) -> SealedBatch {
    let mut writer = BatchWriter::new(256 * 1024);
    fill(&mut writer, keyed);
    writer.finish()
}

fn oracle_records(keyed: bool) -> Vec<oracle::Record> {
    let record = |index: usize| oracle::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: IDENTITY.producer_id,
        producer_epoch: IDENTITY.producer_epoch,
        timestamp_type: oracle::TimestampType::Creation,
        offset: index as i64,
        sequence: IDENTITY.base_sequence + index as i32,
        timestamp: NOW + (index / 16) as i64,
        key: keyed.then_some(Bytes::from_static(KEY)),
        value: Some(Bytes::from_static(VALUE)),
        headers: if keyed {
            HEADERS.into_iter().map(|(k, v)| (k.into(), v.map(Bytes::from_static))).collect()
        } else {
            Default::default()
        },
    };
    (0..RECORDS).map(record).collect()
}

fn encode(c: &mut Criterion) {
    for keyed in [false, true] {
        let mut group = c.benchmark_group(if keyed { "encode, key and header" } else { "encode, value alone" });
        group.throughput(Throughput::Elements(RECORDS as u64));
        let mut spare = Some(BytesMut::with_capacity(256 * 1024));
        group.bench_function("milena, buffer reused, stamped", |b| {
            b.iter(|| {
                let mut writer = BatchWriter::with_buffer(spare.take().unwrap_or_default());
                fill(&mut writer, keyed);
                let mut batch = writer.finish();
                black_box(batch.stamp(IDENTITY));
                spare = batch.recycle();
            })
        });
        group.bench_function("milena, from 1 KiB, stamped", |b| {
            b.iter(|| {
                let mut writer = BatchWriter::new(BatchWriter::INITIAL_CAPACITY);
                fill(&mut writer, keyed);
                writer.finish().stamp(IDENTITY)
            })
        });
        let mut spare = Some(BytesMut::with_capacity(256 * 1024));
        group.bench_function("milena, append alone", |b| {
            b.iter(|| {
                let mut writer = BatchWriter::with_buffer(spare.take().unwrap_or_default());
                fill(&mut writer, keyed);
                spare = writer.finish().recycle();
            })
        });
        let records = oracle_records(keyed);
        let mut buffer = BytesMut::with_capacity(256 * 1024);
        let options = oracle::RecordEncodeOptions { version: 2, compression: oracle::Compression::None };
        group.bench_function("kafka-protocol, buffer reused, records at hand", |b| {
            b.iter(|| {
                buffer.clear();
                oracle::RecordBatchEncoder::encode(&mut buffer, &records, &options).expect("encodes");
                black_box(&buffer);
            })
        });
        group.finish();
    }
}

fn decode(c: &mut Criterion) {
    for keyed in [false, true] {
        let mut group = c.benchmark_group(if keyed { "decode, key and header" } else { "decode, value alone" });
        group.throughput(Throughput::Elements(RECORDS as u64));
        let set = sealed(keyed).stamp(IDENTITY);
        let only = |check| -> RawBatch { Batches::new(set.clone(), check).next().expect("one").expect("whole") };
        for check in [true, false] {
            group.bench_function(if check { "milena, views, CRC" } else { "milena, views" }, |b| {
                b.iter(|| {
                    let batch = only(check);
                    let mut bytes = 0;
                    for record in batch.records().expect("plain") {
                        let record = record.expect("whole");
                        bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                    }
                    bytes
                })
            });
        }
        group.bench_function("milena, views with headers, CRC", |b| {
            b.iter(|| {
                let batch = only(true);
                let mut bytes = 0;
                for record in batch.records().expect("plain") {
                    let record = record.expect("whole");
                    bytes += record.value().map_or(0, <[u8]>::len);
                    bytes += record.headers().map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len)).sum::<usize>();
                }
                bytes
            })
        });
        group.bench_function("milena, owned, CRC", |b| {
            b.iter(|| {
                let mut bytes = 0;
                for record in only(true).into_records().expect("plain") {
                    let record = black_box(record.expect("whole"));
                    bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                }
                bytes
            })
        });
        group.bench_function("kafka-protocol, CRC", |b| {
            b.iter(|| {
                let mut set = set.clone();
                let mut bytes = 0;
                for record in oracle::RecordBatchDecoder::decode(&mut set).expect("decodes").records {
                    bytes += record.key.map_or(0, |k| k.len()) + record.value.map_or(0, |v| v.len());
                }
                bytes
            })
        });
        group.finish();
    }
}

fn stamp(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    for kib in [1, 16, 128, 1024] {
        let value = vec![7; kib * 1024];
        let mut writer = BatchWriter::new(0);
        writer.append(NOW, None, Some(&value), NO_HEADERS).expect("fits");
        let mut batch = writer.finish();
        let bytes = batch.stamp(IDENTITY);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        drop(bytes);
        let mut identity = IDENTITY;
        group.bench_function(format!("another epoch, {kib} KiB"), |b| {
            b.iter(|| {
                identity.producer_epoch = identity.producer_epoch.wrapping_add(1);
                black_box(batch.stamp(identity));
            })
        });
        group.bench_function(format!("the same again, {kib} KiB"), |b| b.iter(|| black_box(batch.stamp(identity))));
    }
    group.finish();
}

/// Beside the crate that `kafka-protocol` uses.
fn crc(c: &mut Criterion) {
    /// Bytes of a batch that come before those that are checksummed.
    const BEFORE: usize = 21;
    let mut group = c.benchmark_group("CRC");
    for (size, name) in
        [(100, "100 B"), (1 << 10, "1 KiB"), (16 << 10, "16 KiB"), (128 << 10, "128 KiB"), (1 << 20, "1 MiB")]
    {
        let batch: Vec<u8> = (0..BEFORE + size).map(|n| (n * 7) as u8).collect();
        assert_eq!(header::checksum(&batch), crc32c::crc32c(&batch[BEFORE..]));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("milena, {name}"), |b| b.iter(|| header::checksum(black_box(&batch))));
        group.bench_function(format!("crc32c, {name}"), |b| b.iter(|| crc32c::crc32c(black_box(&batch[BEFORE..]))));
    }
    group.finish();
}

criterion_group!(benches, encode, decode, stamp, crc);
criterion_main!(benches);
