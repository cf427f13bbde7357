//! milena.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Args, Clock, WARM_UP, payloads};
use milena::{Acks, Client, Compression, OffsetReset, Producer, Record};

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::builder([&args.bootstrap]).connect().await.unwrap();
        match args.mode.as_str() {
            "produce" => produce(&client, &args).await,
            "consume" => consume(&client, &args).await,
            "latency" => latency(&client, &args).await,
            mode => panic!("there is no mode {mode}"),
        }
    });
}

fn producer(client: &Client, args: &Args) -> Producer {
    let builder = client.producer();
    if args.defaults {
        return builder.build().unwrap();
    }
    let compression = match args.codec.as_str() {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        codec => panic!("there is no codec {codec}"),
    };
    let acks = match args.acks.as_str() {
        "all" => Acks::All,
        "1" => Acks::Leader,
        _ => Acks::None,
    };
    let linger = if args.mode == "latency" { Duration::ZERO } else { args.linger };
    let builder = builder.acks(acks).idempotence(args.idempotent).linger(linger).batch_size(args.batch);
    builder.compression(compression).buffer_memory(256 << 20).build().unwrap()
}

/// Every record has its receipt, which is kept until all are enqueued.
async fn produce(client: &Client, args: &Args) {
    let producer = producer(client, args);
    let payloads: Arc<Vec<Vec<u8>>> = Arc::new(payloads(args.size));
    producer.send(Record::to(&args.topic).partition(0).value(&payloads[0])).await.unwrap();
    let clock = Clock::start();
    let mut tasks = Vec::new();
    let mut first = 0;
    for task in 0..args.tasks {
        let (producer, payloads, args, share) = (producer.clone(), Arc::clone(&payloads), args.clone(), args.share(task));
        let task = async move {
            let topic = producer.topic(args.topic.as_str());
            let mut receipts = Vec::with_capacity(share as usize);
            for i in first..first + share {
                let key = i.to_be_bytes();
                let record = Record::to(&topic).value(&payloads[i as usize % payloads.len()]);
                let record = if args.keyed { record.key(&key) } else { record.partition(args.partition(i)) };
                receipts.push(producer.enqueue(record).await.unwrap());
            }
            for receipt in receipts {
                receipt.await.unwrap();
            }
        };
        tasks.push(tokio::spawn(task));
        first += share;
    }
    for task in tasks {
        task.await.unwrap();
    }
    clock.report("milena", args, args.records, args.records * args.size as u64);
    producer.close(Duration::from_secs(10)).await.unwrap();
}

async fn consume(client: &Client, args: &Args) {
    let clock = Clock::start();
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign((0..args.partitions).map(|partition| (args.topic.as_str(), partition))).unwrap();
    let (mut bytes, mut sum) = (0, 0u64);
    for _ in 0..args.records {
        let record = consumer.recv().await.unwrap();
        let value = record.value().unwrap();
        bytes += value.len() as u64;
        sum = sum.wrapping_add(value[value.len() / 2].into());
    }
    std::hint::black_box(sum);
    clock.report("milena", args, args.records, bytes);
}

async fn latency(client: &Client, args: &Args) {
    let producer = producer(client, args);
    let payloads: Arc<Vec<Vec<u8>>> = Arc::new(payloads(args.size));
    let topic = producer.topic(args.topic.as_str());
    let gap = Duration::from_secs(1) / args.rate as u32;
    let mut due = tokio::time::Instant::now();
    let (mut waiting, mut clock) = (Vec::new(), Clock::start());
    for i in 0..args.records + WARM_UP {
        due += gap;
        tokio::time::sleep_until(due).await;
        if i == WARM_UP {
            clock = Clock::start();
        }
        let (producer, payloads, topic, partition) =
            (producer.clone(), Arc::clone(&payloads), topic.clone(), (i % args.partitions as u64) as i32);
        waiting.push(tokio::spawn(async move {
            let start = Instant::now();
            let record = Record::to(&topic).partition(partition).value(&payloads[i as usize % payloads.len()]);
            producer.send(record).await.unwrap();
            start.elapsed().as_micros() as u64
        }));
    }
    let mut us = Vec::new();
    for task in waiting {
        us.push(task.await.unwrap());
    }
    clock.report_latency("milena", args, us.split_off(WARM_UP as usize));
}
