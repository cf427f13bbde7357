//! The cluster under test, and what every test does with it.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, Consumer, ConsumerRecord, NewTopic, OffsetReset, TopicPartition};

/// A mock of its own for each test, or the real one that all share; topics have names of their own.
pub struct Cluster {
    pub bootstrap: Vec<String>,
    pub brokers: i16,
    pub real: Option<Real>,
    /// Keeps it alive.
    _mock: Option<MockCluster>,
}

/// What `scripts/kafka run` tells of a real cluster.
pub struct Real {
    pub name: String,
    pub script: String,
}

impl Cluster {
    pub async fn from_environment() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(bootstrap) => {
                let real = Real { name: variable("KAFKA_NAME"), script: variable("KAFKA_SCRIPT") };
                let bootstrap: Vec<String> = bootstrap.split(',').map(str::to_owned).collect();
                Self { brokers: bootstrap.len() as i16, bootstrap, real: Some(real), _mock: None }
            }
            Err(_) => {
                // As `scripts/kafka` has it.
                let (session, heartbeat) = (Duration::from_secs(10), Duration::from_secs(1));
                let builder = MockCluster::builder().brokers(3).racks(["rack-1", "rack-2", "rack-3"]);
                let builder = builder.consumer_session_timeout(session).consumer_heartbeat_interval(heartbeat);
                let mock = builder.start().await;
                Self { bootstrap: mock.bootstrap(), brokers: 3, real: None, _mock: Some(mock) }
            }
        }
    }

    pub async fn client(&self) -> Client {
        Client::builder(&self.bootstrap).client_id("suite").connect().await.unwrap()
    }

    /// Replicas of the topics of this suite: three with two in sync where there are so many brokers.
    pub fn replicas(&self) -> i16 {
        self.brokers.min(3)
    }

    /// A new topic, which every broker knows by the time this returns.
    pub async fn topic(&self, client: &Client, partitions: i32) -> String {
        self.topic_with(client, partitions, &[]).await
    }

    pub async fn topic_with(&self, client: &Client, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = fresh("t");
        let mut topic = NewTopic::new(name.as_str(), partitions, self.replicas());
        if self.replicas() == 3 {
            topic = topic.config("min.insync.replicas", "2");
        }
        for (key, value) in configs {
            topic = topic.config(*key, *value);
        }
        let admin = client.admin();
        admin.create_topics([topic]).await.unwrap();
        eventually("the topic has leaders", async || {
            let described = admin.describe_topics([name.as_str()]).await.ok()?;
            let topic = described.into_iter().next()?;
            (topic.partitions.len() == partitions as usize && topic.partitions.iter().all(|p| p.leader.is_some()))
                .then_some(())
        })
        .await;
        name
    }

    /// Runs `scripts/kafka` of this cluster.
    pub fn script(&self, arguments: &[&str], input: &str) -> Output {
        let real = self.real.as_ref().expect("a real cluster");
        let mut child = Command::new(&real.script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}\n{error}", output.status);
        output
    }
}

/// A name that no other test of any run has.
pub fn fresh(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{prefix}-{}-{}-{}", std::process::id(), since.as_millis(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "in a minute, never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A consumer of these partitions, from their beginning.
pub fn from_the_beginning(client: &Client, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Consumer {
    let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(partitions.into_iter().map(|partition| TopicPartition::new(topic, partition))).unwrap();
    consumer
}

/// The next so many records, checked to come without a gap in each partition.
pub async fn read(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let mut next = BTreeMap::new();
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        let record = consumer.recv().await.unwrap();
        if let Some(expected) = next.insert(record.topic_partition(), record.offset() + 1) {
            assert_eq!(record.offset(), expected, "{}", record.topic_partition());
        }
        records.push(record);
    }
    records
}

pub fn text(bytes: Option<&[u8]>) -> Option<&str> {
    bytes.map(|bytes| std::str::from_utf8(bytes).unwrap())
}
