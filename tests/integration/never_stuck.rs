//! What one partition, topic or broker does to the others: their sends take as long as those of another producer, whose
//! turns alternate with theirs, so that a busy machine delays both alike.

use std::time::{Duration, Instant};

use milena::{Client, ErrorKind, Fate, NewTopic, OffsetReset, Producer, Record, TopicPartition};

use crate::cluster::{Cluster, eventually, fresh};

const TURNS: usize = 300;
const MS: Duration = Duration::from_millis(1);

/// Two producers of clients of their own, without linger: who has the trouble, and who has not.
struct Pair {
    client: Client,
    subject: Producer,
    control: Producer,
    /// Healthy, with a copy at each of `brokers`, one partition to each.
    topic: String,
    partitions: usize,
}

impl Pair {
    async fn new(cluster: &Cluster, brokers: &[i32], id: &str) -> Self {
        let client = Client::builder(&cluster.bootstrap).client_id(id).connect().await.unwrap();
        let other = cluster.client().await;
        let topic = fresh("healthy");
        let placed = NewTopic::named(topic.as_str()).assignments(brokers.iter().map(|broker| [*broker]));
        create(&client, placed, &topic).await;
        let subject = client.producer().linger(Duration::ZERO).buffer_memory(4 << 20).build().unwrap();
        let control = other.producer().linger(Duration::ZERO).build().unwrap();
        let pair = Self { client, subject, control, topic, partitions: brokers.len() };
        pair.medians(50).await;
        pair
    }

    async fn send(&self, producer: &Producer, turn: usize) -> Duration {
        let start = Instant::now();
        let partition = (turn % self.partitions) as i32;
        producer.send(Record::to(&self.topic).partition(partition).value("v")).await.unwrap();
        start.elapsed()
    }

    async fn medians(&self, turns: usize) -> [Duration; 2] {
        let (mut subject, mut control) = (Vec::new(), Vec::new());
        for turn in 0..turns {
            subject.push(self.send(&self.subject, turn).await);
            control.push(self.send(&self.control, turn).await);
        }
        [subject, control].map(|mut took| {
            took.sort_unstable();
            took[took.len() / 2]
        })
    }

    /// Less than a millisecond more.
    async fn compare(&self, what: &str) {
        let [subject, control] = self.medians(TURNS).await;
        println!("{what}: {subject:?} beside it, {control:?} without");
        assert!(subject < control + MS, "{what}: {subject:?} beside it, {control:?} without");
    }
}

async fn create(client: &Client, topic: NewTopic, name: &str) {
    client.admin().create_topics([topic]).await.unwrap();
    eventually("the topic has leaders", async || {
        let described = client.admin().describe_topics([name]).await.ok()?.remove(0);
        (!described.partitions.is_empty() && described.partitions.iter().all(|p| p.leader.is_some())).then_some(())
    })
    .await;
}

/// Two copies have to be in sync, and the broker of one is dead: refused for now, for as long as that lasts. Somebody fills
/// the buffer for it as far as one partition may.
pub async fn a_partition_without_isr(cluster: Cluster) {
    if cluster.brokers < 3 {
        return;
    }
    let pair = Pair::new(&cluster, &[1], "without-isr").await;
    let stuck = fresh("stuck");
    let topic = NewTopic::named(stuck.as_str()).assignments([[1, 2]]).config("min.insync.replicas", "2");
    create(&pair.client, topic, &stuck).await;
    let name = &cluster.real.as_ref().unwrap().name;
    cluster.script(&["kill", name, "2"], "");
    eventually("the dead copy is not in sync any more", async || {
        let described = pair.client.admin().describe_topics([stuck.as_str()]).await.ok()?.remove(0);
        (described.partitions[0].in_sync == [1]).then_some(())
    })
    .await;
    let mut held = vec![pair.subject.enqueue(Record::to(&stuck).value("first")).await.unwrap()];
    pair.compare("a partition without ISR").await;
    let refused = loop {
        match pair.subject.try_enqueue(Record::to(&stuck).value(&[7; 1_000])) {
            Ok(receipt) => held.push(receipt),
            Err(refused) => break refused.error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::BufferFull, "{refused}");
    assert_eq!(refused.topic_partition().unwrap().to_string(), format!("{stuck}-0"));
    pair.compare("a partition whose callers have filled what it may have of the buffer").await;
    cluster.script(&["restart", name, "2"], "");
    for (n, receipt) in held.into_iter().enumerate() {
        assert_eq!(receipt.await.unwrap().offset, Some(n as i64));
    }
}

/// A compacted topic takes no record without a key: INVALID_RECORD, each time.
pub async fn a_rejected_record(cluster: Cluster) {
    let pair = Pair::new(&cluster, &[1], "rejected").await;
    let compacted = fresh("compacted");
    let topic = NewTopic::named(compacted.as_str()).assignments([[1]]).config("cleanup.policy", "compact");
    create(&pair.client, topic, &compacted).await;
    let producer = pair.subject.clone();
    let rejecting = tokio::spawn(async move {
        for _ in 0..1_000 {
            let error = producer.send(Record::to(&compacted).value("no key")).await.unwrap_err();
            assert_eq!((error.fate, error.error.code().map(|code| code.0)), (Fate::NotWritten, Some(87)), "{error}");
            tokio::time::sleep(5 * MS).await;
        }
    });
    pair.compare("records that are rejected").await;
    rejecting.abort();
    assert!(rejecting.await.is_err_and(|error| error.is_cancelled()), "each was rejected");
}

pub async fn a_deleted_topic(cluster: Cluster) {
    let pair = Pair::new(&cluster, &[1], "deleted").await;
    let doomed = fresh("doomed");
    create(&pair.client, NewTopic::named(doomed.as_str()).assignments([[1], [1]]), &doomed).await;
    pair.subject.send(Record::to(&doomed).value("v")).await.unwrap();
    pair.client.admin().delete_topics([doomed.as_str()]).await.unwrap();
    // The controller has answered; the leader learns of it from the metadata log, and takes records until then.
    for partition in [0, 1] {
        eventually("the leader takes no more", async || {
            let record = Record::to(&doomed).partition(partition).value("v");
            let receipt = pair.subject.enqueue(record).await.unwrap();
            tokio::time::timeout(2_000 * MS, receipt).await.is_err().then_some(())
        })
        .await;
    }
    let held: Vec<_> = futures_util::future::join_all(
        (0..100).map(|n| pair.subject.enqueue(Record::to(&doomed).partition(n % 2).value("lost"))),
    )
    .await;
    pair.compare("a deleted topic").await;
    pair.subject.purge();
    for receipt in held {
        receipt.unwrap().await.unwrap_err();
    }
}

/// It waits at the same broker, for the same client, for up to a minute at a time.
pub async fn an_idle_consumer(cluster: Cluster) {
    let pair = Pair::new(&cluster, &[1], "idle").await;
    let idle = fresh("idle");
    create(&pair.client, NewTopic::named(idle.as_str()).assignments([[1]]), &idle).await;
    let builder = pair.client.consumer().auto_offset_reset(OffsetReset::Latest).fetch_max_wait(60_000 * MS);
    let mut consumer = builder.build().unwrap();
    consumer.assign([TopicPartition::new(idle.as_str(), 0)]).unwrap();
    let reading = tokio::spawn(async move { consumer.recv().await });
    tokio::time::sleep(500 * MS).await;
    pair.compare("an idle consumer").await;
    reading.abort();
}

/// A quota of this client at one of three brokers: it answers at once, and asks for silence (KIP-219).
pub async fn a_throttled_broker(cluster: Cluster) {
    if cluster.brokers < 3 {
        return;
    }
    let id = fresh("throttled");
    let pair = Pair::new(&cluster, &[2, 3], &id).await;
    let slow = fresh("slow");
    create(&pair.client, NewTopic::named(slow.as_str()).assignments([[1]]), &slow).await;
    pair.subject.send(Record::to(&slow).value("v")).await.unwrap();
    let bootstrap = cluster.bootstrap.join(",");
    let quota =
        ["--alter", "--add-config", "producer_byte_rate=20000", "--entity-type", "clients", "--entity-name", &id];
    cluster.script(&[&["tool", "configs", "--bootstrap-server", &bootstrap][..], &quota].concat(), "");
    let producer = pair.subject.clone();
    let loading = tokio::spawn(async move {
        loop {
            producer.send(Record::to(&slow).value(&[7; 20_000])).await.unwrap();
        }
    });
    eventually("the broker throttles", async || {
        let start = Instant::now();
        // Behind the silence of that connection.
        pair.subject.send(Record::to(&pair.topic).value("v")).await.unwrap();
        let asked = tokio::time::timeout(500 * MS, pair.subject.flush()).await;
        asked.is_err().then_some(start)
    })
    .await;
    pair.compare("a throttled broker").await;
    loading.abort();
}

/// SIGSTOP for the follower of one partition: the leader holds that one's batches back for seconds, until it gives the
/// follower up. The others at that leader lose one lane switch at most.
pub async fn a_stopped_follower(cluster: Cluster) {
    if cluster.brokers < 3 {
        return;
    }
    let pair = Pair::new(&cluster, &[1], "follower").await;
    let held = fresh("held");
    create(&pair.client, NewTopic::named(held.as_str()).assignments([[1, 2]]), &held).await;
    pair.subject.send(Record::to(&held).value("0")).await.unwrap();
    let name = &cluster.real.as_ref().unwrap().name;
    cluster.script(&["kill", name, "2", "STOP"], "");
    let start = Instant::now();
    let waiting = pair.subject.enqueue(Record::to(&held).value("1")).await.unwrap();
    tokio::time::sleep(10 * MS).await;
    let first = pair.send(&pair.subject, 0).await;
    println!("behind a batch whose follower is stopped: {first:?}");
    pair.compare("a stopped follower").await;
    let compared = start.elapsed();
    cluster.script(&["kill", name, "2", "CONT"], "");
    waiting.await.unwrap();
    println!("compared for {compared:?}; the batch arrived {:?} after the stop", start.elapsed());
    assert!(first < Duration::from_secs(1), "{first:?}");
}
