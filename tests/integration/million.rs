//! A million records there and back.

use std::time::Instant;

use cpu_time::ProcessTime;
use milena::Record;

use crate::cluster::{Cluster, from_the_beginning};

const RECORDS: usize = 1_000_000;
const PARTITIONS: usize = 6;
const SIZE: usize = 100;

/// 1,000,000 records of 100 bytes through six partitions: complete, in order, byte for byte. Prints what it cost.
pub async fn a_million_records(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, PARTITIONS as i32).await;
    let producer = client.producer().build().unwrap();

    let (start, cpu) = (Instant::now(), ProcessTime::now());
    let mut receipts = Vec::with_capacity(RECORDS);
    let mut value = [0; SIZE];
    for n in 0..RECORDS {
        fill(&mut value, n);
        // Runs of a thousand, as a sticky partitioner makes them.
        let partition = (n / 1_000 % PARTITIONS) as i32;
        receipts.push(producer.enqueue(Record::to(&topic).partition(partition).value(&value)).await.unwrap());
    }
    let mut next = [0; PARTITIONS];
    for (n, receipt) in receipts.into_iter().enumerate() {
        let sent = receipt.await.unwrap();
        let next = &mut next[n / 1_000 % PARTITIONS];
        assert_eq!(sent.offset, Some(*next));
        *next += 1;
    }
    report("produced, each with its receipt", start, cpu);

    let mut consumer = from_the_beginning(&client, &topic, 0..PARTITIONS as i32);
    let (start, cpu) = (Instant::now(), ProcessTime::now());
    // The number of the next record in each partition.
    let mut next: [usize; PARTITIONS] = std::array::from_fn(|partition| partition * 1_000);
    let mut offsets = [0; PARTITIONS];
    for _ in 0..RECORDS {
        let record = consumer.recv().await.unwrap();
        let partition = record.partition() as usize;
        assert_eq!(record.offset(), offsets[partition]);
        offsets[partition] += 1;
        let n = &mut next[partition];
        fill(&mut value, *n);
        assert_eq!(record.value(), Some(&value[..]), "record {n} of partition {partition}");
        *n += if *n % 1_000 == 999 { (PARTITIONS - 1) * 1_000 + 1 } else { 1 };
    }
    report("consumed by recv, each compared", start, cpu);
    assert_eq!(offsets.iter().sum::<i64>(), RECORDS as i64);

    let mut consumer = from_the_beginning(&client, &topic, 0..PARTITIONS as i32);
    let (start, cpu) = (Instant::now(), ProcessTime::now());
    let mut next: [usize; PARTITIONS] = std::array::from_fn(|partition| partition * 1_000);
    let mut count = 0;
    while count < RECORDS {
        for record in consumer.poll().await.unwrap().unwrap() {
            let n = &mut next[record.partition() as usize];
            fill(&mut value, *n);
            assert_eq!(record.value(), Some(&value[..]), "record {n}");
            *n += if *n % 1_000 == 999 { (PARTITIONS - 1) * 1_000 + 1 } else { 1 };
            count += 1;
        }
    }
    report("consumed by poll, each compared", start, cpu);
}

/// Bytes that tell one record from every other.
fn fill(value: &mut [u8; SIZE], n: usize) {
    let mut state = n as u64 ^ 0x9e37_79b9_7f4a_7c15;
    for chunk in value.chunks_mut(8) {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(n as u64 | 1);
        chunk.copy_from_slice(&state.to_be_bytes()[..chunk.len()]);
    }
}

fn report(what: &str, start: Instant, cpu: ProcessTime) {
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu.elapsed().as_secs_f64());
    let build = if cfg!(debug_assertions) { "a debug build, for figures use --release" } else { "release" };
    println!(
        "{what}: {:.0} records/s, {:.3} µs of client CPU per record ({build})",
        RECORDS as f64 / wall,
        cpu * 1e6 / RECORDS as f64
    );
}
