//! rskafka. It has no producer over several partitions, no idempotence and no receipts of single records: a task for each
//! partition that sends a batch and waits for it is what it offers. No mode latency therefore, no keys, no tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{Args, Clock, payloads};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::record::Record;

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ClientBuilder::new(vec![args.bootstrap.clone()]).build().await.unwrap();
        let mut partitions = Vec::new();
        for partition in 0..args.partitions {
            let opened = client.partition_client(args.topic.clone(), partition, UnknownTopicHandling::Retry).await;
            partitions.push(Arc::new(opened.unwrap()));
        }
        match args.mode.as_str() {
            "produce" => produce(partitions, &args).await,
            "consume" => consume(partitions, &args).await,
            mode => panic!("there is no mode {mode}"),
        }
    });
}

async fn produce(partitions: Vec<Arc<PartitionClient>>, args: &Args) {
    let compression = match args.codec.as_str() {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        codec => panic!("there is no codec {codec}"),
    };
    let payloads = Arc::new(payloads(args.size));
    let clock = Clock::start();
    let share = args.records / args.partitions as u64;
    let batch = (args.batch / args.size.max(1)).max(1) as u64;
    let mut tasks = Vec::new();
    for partition in partitions {
        let payloads = Arc::clone(&payloads);
        tasks.push(tokio::spawn(async move {
            for first in (0..share).step_by(batch as usize) {
                let record = |i: u64| Record {
                    key: None,
                    value: Some(payloads[i as usize % payloads.len()].clone()),
                    headers: BTreeMap::new(),
                    timestamp: chrono::Utc::now(),
                };
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

async fn consume(partitions: Vec<Arc<PartitionClient>>, args: &Args) {
    let clock = Clock::start();
    let mut tasks = Vec::new();
    for partition in partitions {
        tasks.push(tokio::spawn(async move {
            let end = partition.get_offset(OffsetAt::Latest).await.unwrap();
            let mut next = partition.get_offset(OffsetAt::Earliest).await.unwrap();
            let (mut read, mut bytes, mut sum) = (0u64, 0, 0u64);
            while next < end {
                let (records, _) = partition.fetch_records(next, 1..1 << 20, 500).await.unwrap();
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
    // Whole partitions, whatever --records says.
    clock.report("rskafka", args, read, bytes);
}
