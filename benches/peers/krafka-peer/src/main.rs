//! krafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Args, Clock, Idle, Stamps, payloads};
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::{Acks, Producer};
use krafka::{Compression, Kafka, Record};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let args = Args::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let kafka = Kafka::builder(args.bootstrap.clone()).connect().await.unwrap();
        match args.mode.as_str() {
            "produce" => produce(&kafka, &args).await,
            "latency" => latency(&kafka, &args).await,
            "idle-produce" => idle_produce(&kafka, &args).await,
            "consume" => consume(&kafka, &args).await,
            "end-to-end" => end_to_end(&kafka, &args).await,
            "idle-consume" => idle_consume(&kafka, &args).await,
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
    let builder = kafka.producer().acks(acks).compression(compression).linger(args.linger()).batch_size(args.batch);
    Arc::new(builder.buffer_memory(args.buffer).build().await.unwrap())
}

fn values(args: &Args) -> Arc<Vec<Bytes>> {
    Arc::new(payloads(args.size).into_iter().map(Bytes::from).collect())
}

/// Every record has its receipt. They are awaited in part before all are enqueued: each is an allocation.
async fn produce(kafka: &Kafka, args: &Args) {
    let producer = producer(kafka, args).await;
    let values = values(args);
    let _ = producer.send(Record::new(args.topic.as_str(), values[0].clone()).partition(0)).await.unwrap();
    let clock = Clock::start();
    let mut tasks = Vec::new();
    let mut first = 0;
    for task in 0..args.tasks {
        let (producer, values, args, share) =
            (Arc::clone(&producer), Arc::clone(&values), args.clone(), args.share(task));
        tasks.push(tokio::spawn(async move {
            let mut receipts = std::collections::VecDeque::new();
            for i in first..first + share {
                let record = Record::new(args.topic.as_str(), values[i as usize % values.len()].clone());
                let record = match args.partition(i) {
                    Some(partition) => record.partition(partition),
                    None if args.keyed => record.key(i.to_be_bytes().to_vec()),
                    None => record,
                };
                let receipt = producer.enqueue(record).await.unwrap();
                if args.receipts {
                    receipts.push_back(receipt);
                }
                if receipts.len() >= 400_000 {
                    for receipt in receipts.drain(..100_000) {
                        let _ = receipt.await.unwrap();
                    }
                }
            }
            producer.flush().await.unwrap();
            for receipt in receipts {
                let _ = receipt.await.unwrap();
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

async fn consumer(kafka: &Kafka, args: &Args, reset: AutoOffsetReset) -> Consumer {
    let builder = kafka.consumer_without_group().auto_offset_reset(reset).enable_auto_commit(false);
    let builder = if args.defaults { builder } else { builder.max_poll_records(10_000) };
    let builder = if args.poll_max > 0 { builder.max_poll_records(args.poll_max as i32) } else { builder };
    let consumer = builder.build().await.unwrap();
    consumer.assign(&args.topic, (0..args.partitions).collect()).await.unwrap();
    consumer
}

async fn consume(kafka: &Kafka, args: &Args) {
    let clock = Clock::start();
    let consumer = consumer(kafka, args, AutoOffsetReset::Earliest).await;
    let wanted = if args.stall.is_zero() { args.records } else { args.records.min(1000) };
    let (mut read, mut bytes, mut sum) = (0, 0, 0u64);
    while read < wanted {
        let records = consumer.poll(PATIENCE).await.unwrap();
        assert!(!records.is_empty(), "nothing came, after {read} records");
        clock.came();
        for record in &records {
            let value = record.value.as_ref().unwrap();
            read += 1;
            bytes += value.len() as u64;
            sum = sum.wrapping_add(value[value.len() / 2].into());
        }
    }
    std::hint::black_box(sum);
    tokio::time::sleep(args.stall).await;
    clock.report("krafka", args, read, bytes);
    consumer.close().await.unwrap();
}

/// The consumer has a handle of its own: on one, its fetches and the produce requests wait for each other.
async fn end_to_end(kafka: &Kafka, args: &Args) {
    let (stamps, payloads) = (Stamps::new(args), payloads(args.size));
    let consuming = async {
        let kafka = Kafka::builder(args.bootstrap.clone()).connect().await.unwrap();
        let consumer = consumer(&kafka, args, AutoOffsetReset::Latest).await;
        let mut us = Vec::new();
        while (us.len() as u64) < args.records {
            let records = consumer.poll(PATIENCE).await.unwrap();
            assert!(!records.is_empty(), "nothing came, after {} records", us.len());
            for record in &records {
                us.extend(stamps.since(record.value.as_ref().unwrap()));
            }
        }
        us
    };
    let producing = async {
        let producer = producer(kafka, args).await;
        let begun = tokio::time::Instant::now();
        let mut clock = Clock::start();
        for i in 0..args.records + args.warm_up() {
            tokio::time::sleep_until(begun + args.due(i)).await;
            if i == args.warm_up() {
                clock = Clock::start();
            }
            let value = stamps.put(&payloads[i as usize % payloads.len()], i);
            let record = Record::new(args.topic.as_str(), value).partition((i % args.partitions as u64) as i32);
            drop(producer.enqueue(record).await.unwrap());
        }
        producer.flush().await.unwrap();
        clock
    };
    let (us, clock) = tokio::join!(consuming, producing);
    clock.report_latency("krafka", args, us);
}

async fn idle_produce(kafka: &Kafka, args: &Args) {
    let producer = producer(kafka, args).await;
    let values = values(args);
    for partition in 0..args.partitions {
        let _ = producer.send(Record::new(args.topic.as_str(), values[0].clone()).partition(partition)).await.unwrap();
    }
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left).await;
    }
    idle.report("krafka", args);
    producer.close().await.unwrap();
}

async fn idle_consume(kafka: &Kafka, args: &Args) {
    let consumer = consumer(kafka, args, AutoOffsetReset::Earliest).await;
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        assert!(consumer.poll(left).await.unwrap().is_empty(), "a record came");
    }
    idle.report("krafka", args);
}

async fn latency(kafka: &Kafka, args: &Args) {
    let producer = producer(kafka, args).await;
    let values = values(args);
    let begun = tokio::time::Instant::now();
    let (mut waiting, mut clock) = (Vec::new(), Clock::start());
    for i in 0..args.records + args.warm_up() {
        tokio::time::sleep_until(begun + args.due(i)).await;
        if i == args.warm_up() {
            clock = Clock::start();
        }
        let record = Record::new(args.topic.as_str(), values[i as usize % values.len()].clone());
        let (producer, record) = (Arc::clone(&producer), record.partition((i % args.partitions as u64) as i32));
        waiting.push(tokio::spawn(async move {
            let start = Instant::now();
            let _ = producer.send(record).await.unwrap();
            start.elapsed().as_micros() as u64
        }));
    }
    let mut us = Vec::new();
    for task in waiting {
        us.push(task.await.unwrap());
    }
    clock.report_latency("krafka", args, us.split_off(args.warm_up() as usize));
}
