//! krafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Args, Clock, WARM_UP, payloads};
use krafka::consumer::AutoOffsetReset;
use krafka::producer::{Acks, Producer};
use krafka::{Compression, Kafka, Record};

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let kafka = Kafka::builder(args.bootstrap.clone()).connect().await.unwrap();
        match args.mode.as_str() {
            "produce" => produce(&kafka, &args).await,
            "consume" => consume(&kafka, &args).await,
            "latency" => latency(&kafka, &args).await,
            mode => panic!("there is no mode {mode}"),
        }
    });
}

async fn producer(kafka: &Kafka, args: &Args) -> Arc<Producer> {
    if args.defaults {
        return Arc::new(kafka.producer().build().await.unwrap());
    }
    let acks = match args.acks.as_str() {
        "all" => Acks::All,
        "1" => Acks::Leader,
        _ => Acks::None,
    };
    let compression = match args.codec.as_str() {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        codec => panic!("there is no codec {codec}"),
    };
    let linger = if args.mode == "latency" { Duration::ZERO } else { args.linger };
    let builder = kafka.producer().acks(acks).compression(compression).linger(linger).batch_size(args.batch);
    Arc::new(builder.buffer_memory(256 << 20).build().await.unwrap())
}

fn values(args: &Args) -> Arc<Vec<Bytes>> {
    Arc::new(payloads(args.size).into_iter().map(Bytes::from).collect())
}

/// Every record has its receipt. They are awaited in part before all are enqueued: each is an allocation.
async fn produce(kafka: &Kafka, args: &Args) {
    let producer = producer(kafka, args).await;
    let values = values(args);
    producer.send(Record::new(args.topic.as_str(), values[0].clone()).partition(0)).await.unwrap();
    let clock = Clock::start();
    let mut tasks = Vec::new();
    let mut first = 0;
    for task in 0..args.tasks {
        let (producer, values, args, share) = (Arc::clone(&producer), Arc::clone(&values), args.clone(), args.share(task));
        tasks.push(tokio::spawn(async move {
            let mut receipts = std::collections::VecDeque::new();
            for i in first..first + share {
                let record = Record::new(args.topic.as_str(), values[i as usize % values.len()].clone());
                let record =
                    if args.keyed { record.key(i.to_be_bytes().to_vec()) } else { record.partition(args.partition(i)) };
                receipts.push_back(producer.enqueue(record).await.unwrap());
                if receipts.len() >= 400_000 {
                    for receipt in receipts.drain(..100_000) {
                        receipt.await.unwrap();
                    }
                }
            }
            producer.flush().await.unwrap();
            for receipt in receipts {
                receipt.await.unwrap();
            }
        }));
        first += share;
    }
    for task in tasks {
        task.await.unwrap();
    }
    clock.report("krafka", args, args.records, args.records * args.size as u64);
    producer.close().await.unwrap();
}

async fn consume(kafka: &Kafka, args: &Args) {
    let clock = Clock::start();
    let builder = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest).enable_auto_commit(false);
    let builder = if args.defaults { builder } else { builder.max_poll_records(10_000) };
    let consumer = builder.build().await.unwrap();
    consumer.assign(&args.topic, (0..args.partitions).collect()).await.unwrap();
    for partition in 0..args.partitions {
        consumer.seek_to_beginning(&args.topic, partition).await.unwrap();
    }
    let (mut read, mut bytes, mut sum) = (0, 0, 0u64);
    while read < args.records {
        let records = consumer.poll(Duration::from_secs(10)).await.unwrap();
        assert!(!records.is_empty(), "nothing came for ten seconds, after {read} records");
        for record in &records {
            let value = record.value.as_ref().unwrap();
            read += 1;
            bytes += value.len() as u64;
            sum = sum.wrapping_add(value[value.len() / 2].into());
        }
    }
    std::hint::black_box(sum);
    clock.report("krafka", args, read, bytes);
    consumer.close().await.unwrap();
}

async fn latency(kafka: &Kafka, args: &Args) {
    let producer = producer(kafka, args).await;
    let values = values(args);
    let gap = Duration::from_secs(1) / args.rate as u32;
    let mut due = tokio::time::Instant::now();
    let (mut waiting, mut clock) = (Vec::new(), Clock::start());
    for i in 0..args.records + WARM_UP {
        due += gap;
        tokio::time::sleep_until(due).await;
        if i == WARM_UP {
            clock = Clock::start();
        }
        let record = Record::new(args.topic.as_str(), values[i as usize % values.len()].clone());
        let (producer, record) = (Arc::clone(&producer), record.partition((i % args.partitions as u64) as i32));
        waiting.push(tokio::spawn(async move {
            let start = Instant::now();
            producer.send(record).await.unwrap();
            start.elapsed().as_micros() as u64
        }));
    }
    let mut us = Vec::new();
    for task in waiting {
        us.push(task.await.unwrap());
    }
    clock.report_latency("krafka", args, us.split_off(WARM_UP as usize));
}
