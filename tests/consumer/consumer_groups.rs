//! Members of a group under KIP-848, on the mock, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Consumer, ConsumerBuilder, GroupProtocol, OffsetReset, Record};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::rig::{SECOND, client, cluster};

fn member(client: &Client) -> ConsumerBuilder {
    let member = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    member.group_protocol(GroupProtocol::Consumer)
}

async fn until_it_has(consumer: &mut Consumer, count: usize) {
    let polling = async {
        while consumer.assignment().len() != count {
            if let Ok(record) = timeout(SECOND / 10, consumer.recv()).await {
                record.unwrap();
            }
        }
    };
    timeout(120 * SECOND, polling).await.unwrap_or_else(|_| panic!("{consumer:?} never has {count} partitions"));
}

/// Also while the coordinator moves: everything is read once, in order.
#[tokio::test(start_paused = true)]
async fn members_share_and_nothing_is_read_twice_when_they_come_and_go() {
    for assignor in ["uniform", "range"] {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 6);
        let client = client(&cluster).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let writing = tokio::spawn({
            let client = client.clone();
            async move {
                let producer = client.producer().build().unwrap();
                for n in 0..3_000 {
                    producer.send(Record::to("t").partition(n % 6).value((n / 6).to_string())).await.unwrap();
                    sleep(Duration::from_millis(20)).await;
                }
            }
        });
        // Each reads for its time, and leaves.
        let reading = |start: u32, end: u32| {
            let (seen, client) = (Arc::clone(&seen), client.clone());
            tokio::spawn(async move {
                sleep(SECOND * start).await;
                let member = member(&client).subscribe(["t"]).group_remote_assignor(assignor);
                let mut consumer = member.build().unwrap();
                let until = Instant::now() + SECOND * (end - start);
                while let Ok(record) = timeout_at(until, consumer.recv()).await {
                    let record = record.unwrap();
                    seen.lock().unwrap().push((record.partition(), record.offset()));
                }
                consumer.close().await.unwrap();
            })
        };
        let members = [reading(0, 80), reading(5, 40), reading(12, 55), reading(30, 110)];
        for broker in [1, 3, 2] {
            sleep(SECOND * 20).await;
            cluster.move_coordinator("g", broker);
        }
        for member in members {
            member.await.unwrap();
        }
        writing.await.unwrap();
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        for partition in 0..6 {
            let offsets: Vec<i64> = seen.iter().filter(|(p, _)| *p == partition).map(|(_, offset)| *offset).collect();
            assert!(offsets.is_sorted(), "partition {partition} was not read in order");
        }
        seen.sort_unstable();
        let expected: Vec<_> = (0..6).flat_map(|p| (0..500).map(move |offset| (p, offset))).collect();
        assert_eq!(seen, expected);
        assert!(cluster.violations().is_empty());
    }
}

/// The coordinator matches, and finds a topic that is made later.
#[tokio::test(start_paused = true)]
async fn a_pattern_is_the_coordinators_to_match() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    cluster.create_topic("other", 1);
    let client = client(&cluster).await;
    let mut consumer = member(&client).subscribe_pattern("t.*").build().unwrap();
    until_it_has(&mut consumer, 2).await;
    cluster.create_topic("t-later", 3);
    until_it_has(&mut consumer, 5).await;
    cluster.delete_topic("t-later");
    until_it_has(&mut consumer, 2).await;
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_static_member_comes_back_to_what_it_had() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = client(&cluster).await;
    let build = |id: &'static str| member(&client).subscribe(["t"]).group_instance_id(id).build().unwrap();
    let (mut one, mut two) = (build("one"), build("two"));
    until_it_has(&mut one, 4).await;
    let polling = tokio::spawn(async move {
        until_it_has(&mut two, 2).await;
        two
    });
    until_it_has(&mut one, 2).await;
    let _two = polling.await.unwrap();
    let (had, epoch) = (one.assignment(), one.group_metadata().unwrap().generation_id);
    one.close().await.unwrap();
    sleep(SECOND * 10).await;
    let mut one = build("one");
    until_it_has(&mut one, 2).await;
    assert_eq!((one.assignment(), one.group_metadata().unwrap().generation_id), (had, epoch));
}
