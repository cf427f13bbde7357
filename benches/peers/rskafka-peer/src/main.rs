//! rskafka. It has no producer over several partitions, no idempotence and no receipts of single records: a task for each
//! partition that sends a batch and waits for it is what it offers. So it has no keys, no tasks that share a producer, and
//! nothing that could be idle; in mode latency each record is a batch of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Args, Clock, Stamps, payloads};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        match args.mode.as_str() {
            "produce" => produce(open(&args).await, &args).await,
            "latency" => latency(open(&args).await, &args).await,
            "consume" => consume(open(&args).await, &args).await,
            "end-to-end" => end_to_end(&args).await,
            mode => panic!("rskafka has no mode {mode}"),
        }
    });
}

async fn open(args: &Args) -> Vec<Arc<PartitionClient>> {
    let client = ClientBuilder::new(vec![args.bootstrap.clone()]).build().await.unwrap();
    let mut partitions = Vec::new();
    for partition in 0..args.partitions {
        let opened = client.partition_client(args.topic.clone(), partition, UnknownTopicHandling::Retry).await;
        partitions.push(Arc::new(opened.unwrap()));
    }
    partitions
}

fn compression(args: &Args) -> Compression {
    match args.codec.as_str() {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        codec => panic!("there is no codec {codec}"),
    }
}

fn record(value: Vec<u8>) -> Record {
    Record { key: None, value: Some(value), headers: BTreeMap::new(), timestamp: chrono::Utc::now() }
}

async fn produce(partitions: Vec<Arc<PartitionClient>>, args: &Args) {
    let compression = compression(args);
    let payloads = Arc::new(payloads(args.size));
    let clock = Clock::start();
    let share = args.records / args.partitions as u64;
    let batch = (args.batch / args.size.max(1)).max(1) as u64;
    let mut tasks = Vec::new();
    for partition in partitions {
        let payloads = Arc::clone(&payloads);
        tasks.push(tokio::spawn(async move {
            for first in (0..share).step_by(batch as usize) {
                let record = |i: u64| record(payloads[i as usize % payloads.len()].clone());
                let records = (first..share.min(first + batch)).map(record).collect();
                partition.produce(records, compression).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let sent = share * args.partitions as u64;
    clock.report("rskafka", args, sent, sent * args.size as u64);
}

async fn latency(partitions: Vec<Arc<PartitionClient>>, args: &Args) {
    let payloads = Arc::new(payloads(args.size));
    let compression = compression(args);
    let begun = tokio::time::Instant::now();
    let (mut waiting, mut clock) = (Vec::new(), Clock::start());
    for i in 0..args.records + args.warm_up() {
        tokio::time::sleep_until(begun + args.due(i)).await;
        if i == args.warm_up() {
            clock = Clock::start();
        }
        let (partition, payloads) = (Arc::clone(&partitions[i as usize % partitions.len()]), Arc::clone(&payloads));
        waiting.push(tokio::spawn(async move {
            let start = Instant::now();
            partition.produce(vec![record(payloads[i as usize % payloads.len()].clone())], compression).await.unwrap();
            start.elapsed().as_micros() as u64
        }));
    }
    let mut us = Vec::new();
    for task in waiting {
        us.push(task.await.unwrap());
    }
    clock.report_latency("rskafka", args, us.split_off(args.warm_up() as usize));
}

async fn consume(partitions: Vec<Arc<PartitionClient>>, args: &Args) {
    let clock = Arc::new(Clock::start());
    let wanted = if args.stall.is_zero() { u64::MAX } else { 1000 / partitions.len() as u64 };
    let mut tasks = Vec::new();
    for partition in partitions {
        let clock = Arc::clone(&clock);
        tasks.push(tokio::spawn(async move {
            let end = partition.get_offset(OffsetAt::Latest).await.unwrap();
            let mut next = partition.get_offset(OffsetAt::Earliest).await.unwrap();
            let (mut read, mut bytes, mut sum) = (0u64, 0, 0u64);
            while next < end && read < wanted {
                let (records, _) = partition.fetch_records(next, 1..1 << 20, 500).await.unwrap();
                clock.came();
                for record in &records {
                    let value = record.record.value.as_ref().unwrap();
                    read += 1;
                    bytes += value.len() as u64;
                    sum = sum.wrapping_add(value[value.len() / 2].into());
                }
                if let Some(last) = records.last() {
                    next = last.offset + 1;
                }
            }
            std::hint::black_box(sum);
            (read, bytes)
        }));
    }
    let (mut read, mut bytes) = (0, 0);
    for task in tasks {
        let (some, of) = task.await.unwrap();
        read += some;
        bytes += of;
    }
    tokio::time::sleep(args.stall).await;
    // Whole partitions, whatever --records says.
    clock.report("rskafka", args, read, bytes);
}

/// A client, and so a connection, for each partition that is read: on one, the fetches of six would wait for each other.
async fn end_to_end(args: &Args) {
    let (stamps, payloads) = (Arc::new(Stamps::new(args)), payloads(args.size));
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
    for partition in 0..args.partitions as usize {
        let (args, stamps, send) = (args.clone(), Arc::clone(&stamps), send.clone());
        tokio::spawn(async move {
            let partition = Arc::clone(&open(&args).await[partition]);
            let mut next = partition.get_offset(OffsetAt::Latest).await.unwrap();
            loop {
                let (records, _) = partition.fetch_records(next, 1..1 << 20, 500).await.unwrap();
                for record in &records {
                    if let Some(us) = stamps.since(record.record.value.as_ref().unwrap()) {
                        send.send(us).unwrap();
                    }
                    next = record.offset + 1;
                }
            }
        });
    }
    let partitions = open(args).await;
    let begun = tokio::time::Instant::now();
    let mut clock = Clock::start();
    for i in 0..args.records + args.warm_up() {
        tokio::time::sleep_until(begun + args.due(i)).await;
        if i == args.warm_up() {
            clock = Clock::start();
        }
        let value = stamps.put(&payloads[i as usize % payloads.len()], i);
        let (partition, compression) = (Arc::clone(&partitions[i as usize % partitions.len()]), compression(args));
        tokio::spawn(async move { partition.produce(vec![record(value)], compression).await.unwrap() });
    }
    let mut us = Vec::new();
    while (us.len() as u64) < args.records {
        us.push(tokio::time::timeout(Duration::from_secs(10), receive.recv()).await.expect("nothing came").unwrap());
    }
    clock.report_latency("rskafka", args, us);
}
