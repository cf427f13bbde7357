//! Its producer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Args, Clock, Idle, payloads};
use milena::{Acks, Client, Compression, Producer, ProducerTopic, Record};

pub fn producer(client: &Client, args: &Args) -> Producer {
    let builder = client.producer();
    let builder = if args.in_flight > 0 { builder.max_in_flight(args.in_flight) } else { builder };
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
    let builder = builder.acks(acks).idempotence(args.idempotent).linger(args.linger()).batch_size(args.batch);
    builder.compression(compression).buffer_memory(args.buffer).build().unwrap()
}

fn record<'a>(topic: &'a ProducerTopic, partition: Option<i32>, value: &'a [u8]) -> Record<'a> {
    let record = Record::to(topic).value(value);
    match partition {
        Some(partition) => record.partition(partition),
        None => record,
    }
}

/// Every record has its receipt, which is kept until all are enqueued.
pub async fn produce(client: &Client, args: &Args) {
    let producer = producer(client, args);
    let payloads: Arc<Vec<Vec<u8>>> = Arc::new(payloads(args.size));
    producer.send(Record::to(&args.topic).partition(0).value(&payloads[0])).await.unwrap();
    let clock = Clock::start();
    let mut tasks = Vec::new();
    let mut first = 0;
    for task in 0..args.tasks {
        let (producer, payloads, args, share) =
            (producer.clone(), Arc::clone(&payloads), args.clone(), args.share(task));
        let task = async move {
            let topic = producer.topic(args.topic.as_str());
            let mut receipts = Vec::with_capacity(if args.receipts { share as usize } else { 0 });
            for i in first..first + share {
                let key = i.to_be_bytes();
                let record = record(&topic, args.partition(i), &payloads[i as usize % payloads.len()]);
                let record = if args.keyed { record.key(&key) } else { record };
                let receipt = producer.enqueue(record).await.unwrap();
                if args.receipts {
                    receipts.push(receipt);
                }
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
    if !args.receipts {
        producer.flush().await;
        let counts = producer.metrics();
        assert_eq!((counts.records_acknowledged, counts.records_failed), (args.records + 1, 0));
    }
    clock.report("milena", args, args.records, args.records * args.size as u64);
    producer.close(Duration::from_secs(10)).await.unwrap();
}

pub async fn latency(client: &Client, args: &Args) {
    let producer = producer(client, args);
    let payloads: Arc<Vec<Vec<u8>>> = Arc::new(payloads(args.size));
    let topic = producer.topic(args.topic.as_str());
    let begun = tokio::time::Instant::now();
    let (mut waiting, mut clock) = (Vec::new(), Clock::start());
    for i in 0..args.records + args.warm_up() {
        tokio::time::sleep_until(begun + args.due(i)).await;
        if i == args.warm_up() {
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
    clock.report_latency("milena", args, us.split_off(args.warm_up() as usize));
}

/// A producer that has sent one record to each partition.
pub async fn idle(client: &Client, args: &Args) {
    let producer = producer(client, args);
    let payloads = payloads(args.size);
    for partition in 0..args.partitions {
        producer.send(Record::to(&args.topic).partition(partition).value(&payloads[0])).await.unwrap();
    }
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        tokio::time::sleep(left).await;
    }
    idle.report("milena", args);
    producer.close(Duration::from_secs(10)).await.unwrap();
}
