//! Compressed batches that become large: delivered within the limits, and reported beyond them, one time each.
//!
//! The client, the mock cluster and the test share a thread, so what is counted is what all three allocate.

#![allow(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]

use milena::mock::MockCluster;
use milena::record::{BatchWriter, Compression, Compressor, NO_HEADERS};
use milena::{Consumer, ErrorKind, OffsetReset};

use crate::harness::Batch;
use crate::rig::*;

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const MIB: usize = 1 << 20;

/// Attributes of a batch: the codec is in the three lowest bits.
fn id(codec: Compression) -> i16 {
    CODECS.iter().position(|other| *other == codec).unwrap() as i16 + 1
}

/// A batch of `count` records that are compressed already.
fn packed(codec: Compression, count: i32, records: Vec<u8>) -> Batch {
    Batch { attributes: id(codec), count, last_offset_delta: count - 1, records, ..Batch::of(&["x"]) }
}

fn compress(codec: Compression, plain: &[u8]) -> Vec<u8> {
    Compressor::new().compress(codec, None, plain).unwrap().to_vec()
}

/// Records as a batch holds them, all their values from `value`, until they are `size` bytes or a little more.
fn records(size: usize, mut value: impl FnMut(&mut Vec<u8>)) -> (i32, Vec<u8>) {
    let mut writer = BatchWriter::new(size);
    let (mut count, mut buffer) = (0, Vec::new());
    while count == 0 || writer.size() < size {
        buffer.clear();
        value(&mut buffer);
        writer.append(0, None, Some(&buffer), NO_HEADERS).unwrap();
        count += 1;
    }
    let batch = writer.finish().stamp(milena::record::Identity::NONE);
    (count, batch[milena::record::header::HEADER_SIZE..].to_vec())
}

/// Topic `t` with one partition, and these batches in it.
async fn log(batches: impl IntoIterator<Item = Batch>) -> MockCluster {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    for batch in batches {
        // Brokers look into what is produced: this one has it from elsewhere.
        cluster.append_unchecked("t", 0, &batch.bytes());
    }
    cluster
}

/// 19 million records, each as small as a record gets, in 200 KB of gzip.
fn bomb() -> Batch {
    const COUNT: i32 = 19_000_000;
    // Length, attributes, timestamp, offset, no key, no value, no headers. Members one behind the other are one stream.
    let record = [12, 0, 0, 0, 1, 1, 0];
    let part = record.repeat(COUNT as usize / 38);
    let member = Compressor::new().compress(Compression::Gzip, Some(9), &part).unwrap().to_vec();
    let bomb = member.repeat(38);
    assert!((100_000..250_000).contains(&bomb.len()), "{} bytes", bomb.len());
    packed(Compression::Gzip, COUNT, bomb)
}

/// Meets the bomb at offset 2, behind two records and before one, and gets past it.
async fn survive(mut consumer: Consumer) {
    for n in ["0", "1"] {
        assert_eq!(value(&consumer.recv().await.unwrap()), n);
    }
    let error = error(SECOND, &mut consumer).await;
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::BatchTooLarge, Some(&tp(0))));
    assert_eq!(
        error.to_string(),
        "t-0 at offset 2: the batch's records are more than 33554432 bytes when decompressed, and \
         max_decompressed_batch is 33554432: raise it, or seek to 19000002 to read on behind its batch"
    );
    // Once, and nothing moves.
    silent(10 * SECOND, &mut consumer).await;
    assert_eq!(consumer.position(&tp(0)), Some(2));
    consumer.seek(&tp(0), 19_000_002).unwrap();
    let next = consumer.recv().await.unwrap();
    assert_eq!((next.offset(), value(&next)), (19_000_002, "behind it"));
}

#[test]
fn a_bomb_costs_an_error_and_no_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (cluster, consumer) = runtime.block_on(async {
        let cluster = log([Batch::of(&["0", "1"]), bomb(), Batch::of(&["behind it"])]).await;
        let consumer = reader(&cluster).await;
        (cluster, consumer)
    });
    // Of a process of its own, so that what other tests take does not count; where the kernel tells.
    let resident = |field: &str| -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let alone = std::env::var_os("MILENA_BOMB_ALONE").is_some();
    let counted = allocation_counter::measure(|| runtime.block_on(survive(consumer)));
    println!("a bomb: {} KiB allocated at the peak", counted.bytes_max / 1024);
    assert!(counted.bytes_max < 64 * MIB as u64, "{counted:?}");
    drop(cluster);
    if alone {
        // Without the pages of the program's own file, of which there are more with every test.
        println!("resident at the peak: {} KiB", resident("VmHWM:").unwrap() - resident("RssFile:").unwrap());
    } else if cfg!(target_os = "linux") {
        let name = std::thread::current().name().unwrap().to_owned();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture"])
            .env("MILENA_BOMB_ALONE", "1")
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(child.status.success(), "{output}");
        let peak = output.split("resident at the peak: ").nth(1).and_then(|rest| rest.split(' ').next());
        let peak: usize = peak.unwrap_or_else(|| panic!("{output}")).parse().unwrap();
        println!("a bomb: {peak} KiB resident at the peak, the mock cluster included, the program not");
        assert!(peak < 48 * 1024, "{peak} KiB");
    }
}

#[tokio::test(start_paused = true)]
async fn sixteen_mib_behind_forty_kib_are_delivered() {
    let mut rng = fastrand::Rng::with_seed(400);
    let (count, plain) = records(16 * MIB, |value| {
        value.extend_from_slice(
            "{\"sensor\":\"boiler\",\"state\":\"fine\",\"text\":\"as ever\"}".repeat(200).as_bytes(),
        );
        value.extend((0..20).map(|_| rng.u8(..)));
    });
    let zstd = compress(Compression::Zstd, &plain);
    let ratio = plain.len() / zstd.len();
    assert!((350..450).contains(&ratio), "{ratio}: {} of {}", zstd.len(), plain.len());
    let cluster = log([packed(Compression::Zstd, count, zstd), Batch::of(&["behind it"])]).await;
    let mut consumer = reader(&cluster).await;
    for offset in 0..i64::from(count) {
        let record = within(SECOND, consumer.recv()).await.unwrap();
        assert_eq!((record.offset(), record.value().map(<[u8]>::len)), (offset, Some(10_220)));
    }
    assert_eq!(value(&consumer.recv().await.unwrap()), "behind it");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_exact() {
    let mut rng = fastrand::Rng::with_seed(1);
    let (count, plain) = records(100_000, |value| {
        value.extend_from_slice(b"always the same ");
        value.extend((0..4).map(|_| rng.u8(..)));
    });
    for codec in CODECS {
        let cluster = log([packed(codec, count, compress(codec, &plain)), Batch::of(&["behind it"])]).await;
        let reader = |limit: usize| {
            let cluster = &cluster;
            async move {
                let builder = client(cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
                let consumer = builder.max_decompressed_batch(limit).build().unwrap();
                consumer.assign([tp(0)]).unwrap();
                consumer
            }
        };
        let mut consumer = reader(plain.len()).await;
        for offset in 0..i64::from(count) {
            assert_eq!(consumer.recv().await.unwrap().offset(), offset, "{codec}");
        }
        assert_eq!(value(&consumer.recv().await.unwrap()), "behind it", "{codec}");

        let limit = plain.len() - 1;
        let mut consumer = reader(limit).await;
        let error = error(SECOND, &mut consumer).await;
        assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::BatchTooLarge, Some(&tp(0))), "{codec}");
        let text = error.to_string();
        let expected = format!("max_decompressed_batch is {limit}: raise it, or seek to {count} to read on");
        assert!(text.starts_with("t-0 at offset 0: ") && text.contains(&expected), "{codec}: {text}");
        assert_eq!(consumer.position(&tp(0)), Some(0), "{codec}");
        consumer.seek(&tp(0), i64::from(count)).unwrap();
        assert_eq!(value(&consumer.recv().await.unwrap()), "behind it", "{codec}");
    }
}

/// Beyond 8 MiB, 1,100 bytes of one are too many. zstd makes that many; gzip, the next best at it, does not.
#[tokio::test(start_paused = true)]
async fn the_ratio_is_limited_beyond_8_mib() {
    // One record, whose head is eight bytes: four of a length, one each of attributes, timestamp, offset and key; then
    // four of the value's length, the value, and no headers.
    let plain = |size: usize| {
        let (count, plain) = records(0, |value| value.resize(size - 13, 0));
        assert_eq!((count, plain.len()), (1, size));
        plain
    };
    for codec in CODECS {
        for (size, delivered) in [(8 * MIB, true), (8 * MIB + 1, codec != Compression::Zstd)] {
            let records = compress(codec, &plain(size));
            let compressed = records.len();
            assert_eq!(size / compressed > 1_100, codec == Compression::Zstd, "{codec}");
            let cluster = log([packed(codec, 1, records), Batch::of(&["behind it"])]).await;
            let mut consumer = reader(&cluster).await;
            if delivered {
                let record = within(SECOND, consumer.recv()).await.unwrap();
                assert_eq!(record.value().map(<[u8]>::len), Some(size - 13), "{codec}");
            } else {
                let error = error(SECOND, &mut consumer).await;
                assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::BatchTooLarge, Some(&tp(0))));
                assert_eq!(
                    error.to_string(),
                    format!(
                        "t-0 at offset 0: the batch's {compressed} bytes of records are more than 1100 times as many \
                         when decompressed, which beyond 8 MiB is refused, whatever max_decompressed_batch is; seek to \
                         1 to read on behind its batch"
                    )
                );
                silent(10 * SECOND, &mut consumer).await;
                assert_eq!(consumer.position(&tp(0)), Some(0));
                consumer.seek(&tp(0), 1).unwrap();
            }
            assert_eq!(value(&consumer.recv().await.unwrap()), "behind it", "{codec}");
        }
    }
}
