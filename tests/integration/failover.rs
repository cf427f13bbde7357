//! Brokers that are killed and stopped.

use std::time::{Duration, Instant};

use milena::{Client, NewTopic, Record};

use crate::cluster::{Cluster, eventually, fresh, from_the_beginning, read, text};

/// SIGKILL for the leader in the middle of a stream; on one broker the stream waits for its return.
pub async fn a_killed_broker_loses_and_doubles_nothing(cluster: Cluster) {
    let client = cluster.client().await;
    let topic = cluster.topic(&client, 3).await;
    let name = cluster.real.as_ref().unwrap().name.clone();
    let producer = client.producer().build().unwrap();
    let mut reader = from_the_beginning(&client, &topic, 0..3);
    let reading = tokio::spawn(async move { read(&mut reader, 6_000).await });
    let mut receipts = Vec::new();
    let mut victim = None;
    for n in 0..6_000 {
        let record = Record::to(&topic).partition(n % 3).value((n / 3).to_string());
        receipts.push(producer.enqueue(record).await.unwrap());
        if n % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if n == 2_000 {
            let leader = leader_of(&client, &topic, 0).await.unwrap().to_string();
            cluster.script(&["kill", &name, &leader], "");
            victim = Some(leader);
        }
        if n == 2_500 && cluster.brokers == 1 {
            cluster.script(&["restart", &name, "1"], "");
        }
    }
    for (n, receipt) in receipts.into_iter().enumerate() {
        let sent = receipt.await.unwrap_or_else(|error| panic!("record {n}: {error}"));
        assert_eq!(sent.partition, n as i32 % 3);
    }
    let mut next = [0; 3];
    for record in reading.await.unwrap() {
        let next = &mut next[record.partition() as usize];
        assert_eq!(text(record.value()), Some(&*next.to_string()), "partition {}", record.partition());
        *next += 1;
    }
    assert_eq!(next, [2_000; 3]);
    if cluster.brokers > 1 {
        cluster.script(&["restart", &name, &victim.unwrap()], "");
        let admin = client.admin();
        eventually("all replicas are in sync again", async || {
            let topic = admin.describe_topics([topic.as_str()]).await.ok()?.remove(0);
            topic.partitions.iter().all(|p| p.in_sync.len() == p.replicas.len()).then_some(())
        })
        .await;
    }
}

/// SIGSTOP: the broker keeps its connections and answers nothing. Requests end within their time-out, others go on.
pub async fn a_stopped_broker_delays_nobody_else(cluster: Cluster) {
    let client = Client::builder(&cluster.bootstrap).request_timeout(Duration::from_secs(3)).connect().await.unwrap();
    let name = cluster.real.as_ref().unwrap().name.clone();
    let topic = cluster.topic(&client, 3).await;
    let producer = client.producer().delivery_timeout(Duration::from_secs(120)).build().unwrap();
    for partition in 0..3 {
        producer.send(Record::to(&topic).partition(partition).value("0")).await.unwrap();
    }
    let stopped = leader_of(&client, &topic, 0).await.unwrap();
    // Where no broker has to wait for the stopped one: single copies at the others.
    let others = fresh("others");
    let placed: Vec<_> = (1..=i32::from(cluster.brokers)).filter(|id| *id != stopped).map(|id| [id]).collect();
    if !placed.is_empty() {
        client.admin().create_topics([NewTopic::named(others.as_str()).assignments(placed.clone())]).await.unwrap();
        for partition in 0..placed.len() {
            producer.send(Record::to(&others).partition(partition as i32).value("warm")).await.unwrap();
        }
    }
    let stopped = stopped.to_string();
    cluster.script(&["kill", &name, &stopped, "STOP"], "");
    let start = Instant::now();
    let held = producer.enqueue(Record::to(&topic).partition(0).value("1")).await.unwrap();
    // Beyond the end of the held request, and of its connection. A single one may be slow on a busy machine.
    let mut slow = Vec::new();
    while !placed.is_empty() && start.elapsed() < Duration::from_secs(5) {
        for partition in 0..placed.len() {
            let began = Instant::now();
            producer.send(Record::to(&others).partition(partition as i32).value("v")).await.unwrap();
            slow.push(began.elapsed());
        }
    }
    slow.sort_unstable();
    if let [.., third, _, worst] = slow[..] {
        println!("{} sends to others meanwhile, {worst:?} at worst", slow.len());
        assert!(third < Duration::from_millis(500), "{third:?}");
        assert!(worst < Duration::from_secs(2), "{worst:?}");
    }
    if cluster.brokers == 1 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        cluster.script(&["kill", &name, &stopped, "CONT"], "");
    }
    held.await.unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    println!("partition 0 was acknowledged {took:?} after its leader was stopped");
    if cluster.brokers > 1 {
        cluster.script(&["kill", &name, &stopped, "CONT"], "");
    }
    for partition in 0..3 {
        producer.send(Record::to(&topic).partition(partition).value("2")).await.unwrap();
    }
    let expected = [2, 2, 2];
    let mut seen = [0; 3];
    for record in read(&mut from_the_beginning(&client, &topic, 0..3), 7).await {
        seen[record.partition() as usize] += 1;
    }
    assert_eq!(seen, [expected[0] + 1, expected[1], expected[2]]);
}

async fn leader_of(client: &Client, topic: &str, partition: usize) -> Option<i32> {
    client.admin().describe_topics([topic]).await.unwrap().remove(0).partitions[partition].leader
}
