//! The buffer, and who waits for it.

use std::time::Duration;

use milena::mock::{Api, Fault, When};
use milena::{Client, ErrorKind, Fate, Producer, Record};
use tokio::time::Instant;

use crate::rig::{MS, SECOND, builder, cluster, latency, spread, worst_of};

/// How many records of 1 kB go in before the buffer is full.
fn fill(producer: &Producer, value: &[u8]) -> Vec<milena::Delivery> {
    let mut receipts = Vec::new();
    loop {
        match producer.try_enqueue(Record::to("t").partition((receipts.len() % 4) as i32).value(value)) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => {
                assert_eq!(refused.error.kind(), ErrorKind::BufferFull, "{refused}");
                return receipts;
            }
        }
    }
}

/// One partition cannot eat the buffer: who sends to a stuck one, for ten minutes, waits alone, or is told so by name.
#[tokio::test(start_paused = true)]
async fn a_stuck_partition_keeps_its_own_callers_waiting_and_nobody_else() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    let producer = client.producer().buffer_memory(1 << 20).batch_size(16 << 10).delivery_timeout(3_600 * SECOND);
    let producer = producer.max_block(20 * SECOND).build().unwrap();
    for partition in 0..2 {
        latency(&producer, partition).await;
    }
    let normal = worst_of(20, &producer, 1).await;
    let stuck = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::stall());
    let value = [7; 1_000];
    let mut receipts = Vec::new();
    let refused = loop {
        match producer.try_enqueue(Record::to("t").partition(0).value(&value)) {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused.error,
        }
    };
    assert_eq!((refused.kind(), refused.is_retriable()), (ErrorKind::BufferFull, true));
    assert_eq!(refused.topic_partition().unwrap().to_string(), "t-0");
    assert!(refused.to_string().contains("buffer_memory (1048576 bytes)"), "{refused}");
    // Half of the buffer, but for a batch.
    assert!((490..520).contains(&receipts.len()), "{} records of 1 kB", receipts.len());
    let stubborn: Vec<_> = (0..3)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                let mut given_up = 0;
                while given_up < 30 {
                    let start = Instant::now();
                    let error = producer.enqueue(Record::to("t").partition(0).value(&[7; 1_000])).await.unwrap_err();
                    assert_eq!(error.topic_partition().unwrap().to_string(), "t-0");
                    assert_eq!(start.elapsed().as_millis() / 100, 200, "max_block");
                    given_up += 1;
                }
            })
        })
        .collect();
    let mut worst = Duration::ZERO;
    for _ in 0..4_000 {
        worst = worst.max(latency(&producer, 1).await);
        tokio::time::sleep(151 * MS).await;
    }
    for stubborn in stubborn {
        stubborn.await.unwrap();
    }
    assert!(worst <= normal + MS, "{worst:?}, and {normal:?} before");
    // Those who wait go on, one after the other, once it moves.
    let waiting: Vec<_> = (0..40)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(
                async move { (producer.enqueue(Record::to("t").partition(0).value(&[8; 1_000])).await.unwrap(),) },
            )
        })
        .collect();
    tokio::time::sleep(SECOND).await;
    assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
    stuck.remove();
    for waiting in waiting {
        let (receipt,) = waiting.await.unwrap();
        receipt.await.unwrap();
    }
    for receipt in receipts.drain(..) {
        receipt.await.unwrap();
    }
}

/// P12, row 30: whatever callers do, the whole buffer is there again afterwards.
#[tokio::test(start_paused = true)]
async fn no_caller_can_leak_buffer_memory() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().buffer_memory(256 << 10).max_block(SECOND).build().unwrap();
    let value = [7; 1000];
    for partition in 0..4 {
        latency(&producer, partition).await;
    }
    producer.flush().await;
    let mut sent = 4;
    let mut first = None;
    for round in 0..30 {
        let stall = cluster.inject(When::api(Api::Produce), Fault::stall());
        let receipts = fill(&producer, &value);
        sent += receipts.len();
        let full = *first.get_or_insert(receipts.len());
        assert_eq!(receipts.len(), full, "round {round}");
        // Callers that wait for memory: some give up by themselves, some are dropped after some polls, of many sizes.
        let mut waiting = Vec::new();
        for n in 0..20 {
            let large = vec![1; 1 + n * 9_000];
            let producer = producer.clone();
            waiting.push(tokio::spawn(async move {
                producer.enqueue(Record::to("t").partition(n as i32 % 4).value(large)).await.map(drop)
            }));
        }
        tokio::time::sleep(100 * MS).await;
        for (n, waiting) in waiting.iter().enumerate() {
            if n % 2 == round % 2 {
                waiting.abort();
            }
        }
        if round % 3 == 0 {
            tokio::time::sleep(2 * SECOND).await;
        }
        match round % 2 {
            0 => drop(receipts),
            _ => drop(tokio::spawn(futures_util::future::join_all(receipts))),
        }
        stall.remove();
        for waiting in waiting {
            if let Ok(Ok(())) = waiting.await {
                sent += 1;
            }
        }
        producer.flush().await;
    }
    let written: usize = (0..4).map(|p| cluster.log("t", p).len()).sum();
    assert_eq!(written, sent);
}

/// Rule 17: what a caller opens after another one began to wait for memory does not linger either.
#[tokio::test(start_paused = true)]
async fn nothing_lingers_while_somebody_waits_for_memory() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = builder(&cluster).connect().await.unwrap();
    let patient = client.producer().linger(50 * SECOND).buffer_memory(64 << 10).build().unwrap();
    let start = Instant::now();
    let tasks = (0..40).map(|n: usize| {
        let producer = patient.clone();
        async move {
            let value = vec![0; if n.is_multiple_of(3) { 50_000 } else { 9_000 }];
            producer.enqueue(Record::to("t").partition(n as i32 % 4).value(value)).await.unwrap();
        }
    });
    futures_util::future::join_all(tasks).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// Rule 18: a flush waits for what was there when it was called, however much comes after.
#[tokio::test(start_paused = true)]
async fn a_flush_ends_while_others_keep_enqueueing() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    let client = builder(&cluster).connect().await.unwrap();
    let producer = client.producer().buffer_memory(1 << 20).build().unwrap();
    latency(&producer, 0).await;
    cluster.inject(When::api(Api::Produce), Fault::delay_answer(5 * MS));
    let others: Vec<_> = (0..4)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move {
                loop {
                    producer.enqueue(Record::to("t").value(&[0; 1000])).await.unwrap();
                }
            })
        })
        .collect();
    tokio::time::sleep(100 * MS).await;
    for _ in 0..20 {
        let start = Instant::now();
        producer.flush().await;
        assert!(start.elapsed() < 200 * MS, "{:?}", start.elapsed());
    }
    // And behind failures: every batch is refused, and flushes end all the same.
    cluster.inject(When::api(Api::Produce), Fault::error(87));
    for _ in 0..20 {
        let start = Instant::now();
        producer.flush().await;
        assert!(start.elapsed() < 200 * MS, "{:?}", start.elapsed());
    }
    others.iter().for_each(tokio::task::JoinHandle::abort);
}

/// P4: a partition without any leader keeps its deadlines, however often its producer is asked for something else. Here
/// its records fill the buffer, and somebody asks for room all the time.
#[tokio::test(start_paused = true)]
async fn records_for_a_leaderless_partition_expire_in_time_while_callers_ask_for_room() {
    let cluster = cluster(2).await;
    let client = builder(&cluster).connect().await.unwrap();
    spread(&cluster, &client, 2).await;
    // Without a leader from the start: the partition never had a task.
    cluster.stop_broker(1).await;
    let client = Client::builder([&cluster.bootstrap()[1]]).connector(cluster.connector()).request_timeout(SECOND);
    let client = client.connect().await.unwrap();
    let producer = client.producer().delivery_timeout(5 * SECOND).buffer_memory(64 << 10).build().unwrap();
    latency(&producer, 1).await;
    let start = Instant::now();
    let mut stuck = Vec::new();
    while let Ok(receipt) = producer.try_enqueue(Record::to("t").partition(0).value(&[0; 1000])) {
        stuck.push(receipt);
    }
    assert!(stuck.len() > 50);
    while producer.try_enqueue(Record::to("t").partition(1).value(&[0; 1000])).is_err() {
        tokio::time::sleep(20 * MS).await;
        assert!(start.elapsed() <= 6 * SECOND, "{:?}", start.elapsed());
    }
    for receipt in stuck {
        let error = receipt.await.unwrap_err();
        assert_eq!((error.fate, error.error.kind()), (Fate::NotWritten, ErrorKind::Timeout), "{error}");
    }
    assert!(start.elapsed() <= 6 * SECOND, "{:?}", start.elapsed());
}
