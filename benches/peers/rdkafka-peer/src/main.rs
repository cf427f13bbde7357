//! librdkafka, by the rdkafka crate: the ThreadedProducer with its callbacks, and the FutureProducer for latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Args, Clock, Idle, Stamps, payloads};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, FutureProducer, FutureRecord, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientContext, Message, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let args = Args::parse();
    match args.mode.as_str() {
        "produce" => produce(&args),
        "latency" => latency(&args),
        "idle-produce" => idle_produce(&args),
        "consume" => consume(&args),
        "end-to-end" => end_to_end(&args),
        "idle-consume" => idle_consume(&args),
        mode => panic!("there is no mode {mode}"),
    }
}

/// What takes the place of a receipt.
#[derive(Clone, Default)]
struct Count {
    acknowledged: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.acknowledged } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn settings(args: &Args) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &args.bootstrap);
    if args.in_flight > 0 {
        settings.set("max.in.flight", args.in_flight.to_string());
    }
    if !args.defaults {
        settings
            .set("linger.ms", args.linger().as_millis().to_string())
            .set("batch.size", args.batch.to_string())
            .set("batch.num.messages", "100000")
            .set("compression.type", &args.codec)
            .set("acks", &args.acks)
            .set("enable.idempotence", args.idempotent.to_string())
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", (args.buffer >> 10).to_string());
    }
    settings
}

fn produce(args: &Args) {
    let count = Count::default();
    let producer: ThreadedProducer<Count> = settings(args).create_with_context(count.clone()).unwrap();
    let payloads = payloads(args.size);
    producer.client().fetch_metadata(Some(&args.topic), Duration::from_secs(10)).unwrap();
    let clock = Clock::start();
    std::thread::scope(|scope| {
        let mut first = 0;
        for task in 0..args.tasks {
            let (producer, payloads, share) = (&producer, &payloads, args.share(task));
            scope.spawn(move || {
                for i in first..first + share {
                    let key = i.to_be_bytes();
                    let record = BaseRecord::to(&args.topic).payload(&payloads[i as usize % payloads.len()][..]);
                    let mut record = if args.keyed { record.key(&key[..]) } else { record };
                    record.partition = args.partition(i);
                    while let Err((_, returned)) = producer.send(record) {
                        record = returned;
                        std::thread::sleep(Duration::from_micros(500));
                    }
                }
            });
            first += share;
        }
    });
    producer.flush(Duration::from_secs(60)).unwrap();
    let acknowledged = count.acknowledged.load(Ordering::Relaxed);
    assert_eq!((acknowledged, count.failed.load(Ordering::Relaxed)), (args.records, 0));
    clock.report("rdkafka", args, acknowledged, acknowledged * args.size as u64);
}

fn consumer(args: &Args, from: Offset) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", &args.bootstrap)
        .set("group.id", "bench")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    if !args.defaults {
        // It stops fetching for a second whenever its queue is full: deep queues and a short back-off are its best case.
        settings
            .set("queued.min.messages", "10000000")
            .set("queued.max.messages.kbytes", "262144")
            .set("fetch.queue.backoff.ms", "1");
    }
    let consumer: BaseConsumer = settings.create().unwrap();
    let mut partitions = TopicPartitionList::new();
    for partition in 0..args.partitions {
        partitions.add_partition_offset(&args.topic, partition, from).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    consumer
}

fn consume(args: &Args) {
    let clock = Clock::start();
    let consumer = consumer(args, Offset::Beginning);
    let wanted = if args.stall.is_zero() { args.records } else { args.records.min(1000) };
    let (mut read, mut bytes, mut sum) = (0, 0, 0u64);
    while read < wanted {
        let record = consumer.poll(PATIENCE).expect("nothing came").unwrap();
        let value = record.payload().unwrap();
        clock.came();
        read += 1;
        bytes += value.len() as u64;
        sum = sum.wrapping_add(value[value.len() / 2].into());
    }
    std::hint::black_box(sum);
    std::thread::sleep(args.stall);
    clock.report("rdkafka", args, read, bytes);
}

/// A thread that polls, and the callback producer in an open loop.
fn end_to_end(args: &Args) {
    let (stamps, payloads) = (Stamps::new(args), payloads(args.size));
    let mut clock = Clock::start();
    let us = std::thread::scope(|scope| {
        let consuming = scope.spawn(|| {
            let consumer = consumer(args, Offset::End);
            let mut us = Vec::new();
            while (us.len() as u64) < args.records {
                let record = consumer.poll(PATIENCE).expect("nothing came").unwrap();
                us.extend(stamps.since(record.payload().unwrap()));
            }
            us
        });
        let producer: ThreadedProducer<Count> = settings(args).create_with_context(Count::default()).unwrap();
        let begun = Instant::now();
        for i in 0..args.records + args.warm_up() {
            std::thread::sleep((begun + args.due(i)).saturating_duration_since(Instant::now()));
            if i == args.warm_up() {
                clock = Clock::start();
            }
            let value = stamps.put(&payloads[i as usize % payloads.len()], i);
            let record = BaseRecord::<[u8], _>::to(&args.topic).payload(&value[..]);
            producer.send(record.partition((i % args.partitions as u64) as i32)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        consuming.join().unwrap()
    });
    clock.report_latency("rdkafka", args, us);
}

fn idle_produce(args: &Args) {
    let producer: ThreadedProducer<Count> = settings(args).create_with_context(Count::default()).unwrap();
    let payloads = payloads(args.size);
    for partition in 0..args.partitions {
        let record = BaseRecord::<[u8], _>::to(&args.topic).payload(&payloads[0]).partition(partition);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        std::thread::sleep(left);
    }
    idle.report("rdkafka", args);
}

fn idle_consume(args: &Args) {
    let consumer = consumer(args, Offset::Beginning);
    let mut idle = Idle::start();
    loop {
        let left = idle.left(args);
        if left.is_zero() {
            break;
        }
        assert!(consumer.poll(left).is_none(), "a record came, or an error");
    }
    idle.report("rdkafka", args);
}

fn latency(args: &Args) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let producer: FutureProducer = settings(args).create().unwrap();
        let payloads: Arc<Vec<Vec<u8>>> = Arc::new(payloads(args.size));
        let begun = tokio::time::Instant::now();
        let (mut waiting, mut clock) = (Vec::new(), Clock::start());
        for i in 0..args.records + args.warm_up() {
            tokio::time::sleep_until(begun + args.due(i)).await;
            if i == args.warm_up() {
                clock = Clock::start();
            }
            let (producer, payloads, topic, partition) =
                (producer.clone(), Arc::clone(&payloads), args.topic.clone(), (i % args.partitions as u64) as i32);
            waiting.push(tokio::spawn(async move {
                let start = Instant::now();
                let record = FutureRecord::<[u8], _>::to(&topic).payload(&payloads[i as usize % payloads.len()]);
                producer.send(record.partition(partition), Duration::from_secs(5)).await.unwrap();
                start.elapsed().as_micros() as u64
            }));
        }
        let mut us = Vec::new();
        for task in waiting {
            us.push(task.await.unwrap());
        }
        clock.report_latency("rdkafka", args, us.split_off(args.warm_up() as usize));
    });
}
