//! What a consumer holds in memory whose caller stops reading. A program of its own, with one test: it looks at what the
//! whole process takes.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "tests have clocks, and tell what they measured")]

use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, Compression, OffsetReset, Record};

const MIB: usize = 1 << 20;
const BUDGET: usize = 48 * MIB;
const PARTITIONS: i32 = 6;

/// Resident memory now.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Of plain batches, of large ones that become three times their size, and of small ones that become two hundred times
/// theirs: the budget covers what is asked for, buffered and decompressed, and 32 MiB are enough for everything else.
#[test]
fn a_caller_who_stops_reading_costs_the_budget_and_little_more() {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = elsewhere.block_on(MockCluster::start());
    let mut noise = fastrand::Rng::with_seed(1);
    for (topic, codec, mib) in
        [("plain", Compression::None, 96), ("large", Compression::Lz4, 200), ("small", Compression::Lz4, 200)]
    {
        cluster.create_topic(topic, PARTITIONS as usize);
        cluster.set_topic_config(topic, "max.message.bytes", "2000000");
        here.block_on(async {
            let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
            let producer =
                client.producer().compression(codec).batch_size(MIB).max_request_size(2 * MIB).build().unwrap();
            let mut value = vec![0; MIB / 4];
            // A third of it, or nothing. What is the same in the next record is too far away for the codec to see.
            if topic != "small" {
                value.chunks_exact_mut(16).for_each(|chunk| noise.fill(&mut chunk[..5]));
            }
            for n in 0..mib * 4 {
                producer.enqueue(Record::to(topic).partition(n % PARTITIONS).value(&value)).await.unwrap();
            }
            producer.close(Duration::from_secs(60)).await.unwrap();
        });
        let before = resident();
        let (held, metrics) = here.block_on(async {
            let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
            let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).fetch_buffer(BUDGET);
            let mut consumer = builder.build().unwrap();
            consumer.assign((0..PARTITIONS).map(|partition| (topic, partition))).unwrap();
            // Some batches, so that it is known how they compress; then no more.
            for _ in 0..40 {
                consumer.recv().await.unwrap();
            }
            let mut held = 0;
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                held = held.max(resident().saturating_sub(before));
            }
            (held, consumer.metrics())
        });
        let used = metrics.buffer_used as usize;
        println!("{topic}: {} MiB more in memory, {} of {} used", held / MIB, used / MIB, BUDGET / MIB);
        assert!(held <= BUDGET + 32 * MIB, "{topic}: {} MiB; {metrics:?}", held / MIB);
        assert!(used <= BUDGET + 8 * MIB, "{topic}: {metrics:?}");
        if topic != "small" {
            assert!(
                used >= BUDGET / 2,
                "{topic}: hardly anything was fetched ahead, so nothing was measured: {metrics:?}"
            );
        }
        cluster.delete_topic(topic);
    }
}
