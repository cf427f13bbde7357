//! Its consumer.

use std::sync::Arc;
use std::time::Duration;

use common::{Args, Clock, Idle, Stamps, payloads};
use milena::{Client, Consumer, OffsetReset, Record};
use tokio::time::{sleep, sleep_until, timeout};

use crate::produce::producer;

/// A client beside it would wait as long.
const PATIENCE: Duration = Duration::from_secs(10);

fn consumer(client: &Client, args: &Args, reset: OffsetReset) -> Consumer {
    let consumer = client.consumer().auto_offset_reset(reset).build().unwrap();
    consumer.assign((0..args.partitions).map(|partition| (args.topic.as_str(), partition))).unwrap();
    consumer
}

fn most(args: &Args) -> usize {
    if args.poll_max == 0 { usize::MAX } else { args.poll_max }
}

pub async fn consume(client: &Client, args: &Args) {
    let clock = Clock::start();
    let mut consumer = consumer(client, args, OffsetReset::Earliest);
    let (mut read, mut bytes, mut sum) = (0, 0, 0u64);
    let mut see = |value: Option<&[u8]>| {
        let value = value.unwrap();
        bytes += value.len() as u64;
        sum = sum.wrapping_add(value[value.len() / 2].into());
    };
    let wanted = if args.stall.is_zero() { args.records } else { args.records.min(1000) };
    while read < wanted {
        if args.one_by_one {
            see(consumer.recv().await.unwrap().value());
            read += 1;
        } else {
            for record in consumer.poll_max(most(args)).await.unwrap().unwrap() {
                see(record.value());
                read += 1;
            }
        }
        clock.came();
    }
    std::hint::black_box(sum);
    sleep(args.stall).await;
    clock.report("milena", args, read, bytes);
}

/// From the call that enqueues a record until the consumer has handed it out.
pub async fn end_to_end(client: &Client, args: &Args) {
    let stamps = Arc::new(Stamps::new(args));
    let payloads = payloads(args.size);
    let mut consumer = consumer(client, args, OffsetReset::Latest);
    let (of_consumer, seen) = (args.clone(), Arc::clone(&stamps));
    // A task of its own, as rskafka's: what `block_on` runs is woken on a thread that does nothing else, record by record.
    let consuming = tokio::spawn(async move {
        let (args, stamps) = (&of_consumer, &seen);
        let mut us = Vec::new();
        while (us.len() as u64) < args.records {
            if args.one_by_one {
                let record = timeout(PATIENCE, consumer.recv()).await.expect("nothing came").unwrap();
                us.extend(stamps.since(record.value().unwrap()));
            } else {
                let batch =
                    timeout(PATIENCE, consumer.poll_max(most(args))).await.expect("nothing came").unwrap().unwrap();
                for record in batch {
                    us.extend(stamps.since(record.value().unwrap()));
                }
            }
        }
        us
    });
    let producing = async {
        let producer = producer(client, args);
        let topic = producer.topic(args.topic.as_str());
        let begun = tokio::time::Instant::now();
        let mut clock = Clock::start();
        for i in 0..args.records + args.warm_up() {
            sleep_until(begun + args.due(i)).await;
            if i == args.warm_up() {
                clock = Clock::start();
            }
            let value = stamps.put(&payloads[i as usize % payloads.len()], i);
            let record = Record::to(&topic).partition((i % args.partitions as u64) as i32).value(&value);
            producer.enqueue(record).await.unwrap();
        }
        producer.flush().await;
        clock
    };
    let (us, clock) = tokio::join!(consuming, producing);
    clock.report_latency("milena", args, us.unwrap());
}

/// A consumer of partitions where nothing comes.
pub async fn idle(client: &Client, args: &Args) {
    let mut consumer = consumer(client, args, OffsetReset::Earliest);
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        let nothing = timeout(left, consumer.recv()).await;
        assert!(nothing.is_err(), "a record came, or an error: {nothing:?}");
    }
    idle.report("milena", args);
}
