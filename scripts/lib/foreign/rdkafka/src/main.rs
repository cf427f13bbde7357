//! What the rdkafka crate (librdkafka) sees of a cluster; `scripts/foreign-clients` compares it between clusters.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

const TOPIC: &str = "rdkafka";
const TIMEOUT: Duration = Duration::from_secs(10);

fn say(what: impl AsRef<str>, answer: impl Debug) {
    println!("{}: {answer:?}", what.as_ref());
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", std::env::var("KAFKA_BOOTSTRAP").expect("KAFKA_BOOTSTRAP is set"));
    config
}

async fn topics() -> Result<(), KafkaError> {
    let admin: AdminClient<DefaultClientContext> = config().create()?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let gone = format!("{TOPIC}-gone");
    let wanted = |name| NewTopic::new(name, 3, TopicReplication::Fixed(1));
    say("create", admin.create_topics(&[wanted(TOPIC), wanted(&gone)], &options).await?);
    say("create again", admin.create_topics(&[wanted(TOPIC)], &options).await?);
    say("create with a wrong name", admin.create_topics(&[wanted("a b")], &options).await?);
    tokio::time::sleep(Duration::from_secs(1)).await; // a real broker hears of its leaderships later
    say("add partitions", admin.create_partitions(&[NewPartitions::new(&gone, 5)], &options).await?);
    let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
    let mut listed: Vec<_> = metadata.topics().iter().filter(|topic| topic.name().starts_with(TOPIC)).collect();
    listed.sort_by_key(|topic| topic.name());
    for topic in listed {
        let partitions: Vec<_> = topic.partitions().iter().map(|p| (p.id(), p.leader(), p.replicas())).collect();
        say(format!("listed {}", topic.name()), partitions);
    }
    say("delete", admin.delete_topics(&[&gone], &options).await?);
    say("delete again", admin.delete_topics(&[&gone], &options).await?);
    Ok(())
}

async fn produce() -> Result<(), KafkaError> {
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for idempotent in ["false", "true"] {
            let mut config = config();
            config.set("compression.type", codec).set("enable.idempotence", idempotent).set("linger.ms", "20");
            let producer: FutureProducer = config.create()?;
            let mut sent = Vec::new();
            for n in 0..20 {
                let (key, value) = (format!("key-{n}"), format!("{codec} {n}").repeat(20));
                let headers = OwnedHeaders::new().insert(Header { key: "first", value: Some("1") });
                let headers = headers.insert(Header::<&str> { key: "second", value: None });
                let record = FutureRecord::to(TOPIC).key(&key).payload(&value).partition(0).headers(headers);
                sent.push(producer.send_result(record.timestamp(1_700_000_000_000 + n)).expect("the queue has room"));
            }
            let tombstone = FutureRecord::<str, str>::to(TOPIC).key("tombstone").partition(1);
            sent.push(producer.send_result(tombstone).expect("the queue has room"));
            let mut placed = Vec::new();
            for delivery in sent {
                let delivery = delivery.await.expect("the producer lives").map_err(|(error, _)| error)?;
                placed.push((delivery.partition, delivery.offset));
            }
            say(format!("produced {codec}, idempotent {idempotent}"), placed);
        }
    }
    Ok(())
}

fn consume() -> Result<(), KafkaError> {
    let consumer: BaseConsumer = config().set("group.id", TOPIC).set("enable.auto.commit", "false").create()?;
    let mut wanted = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in 0..3 {
        wanted.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition, TIMEOUT)?;
        say(format!("watermarks of {partition}"), (low, high));
        ends.insert(partition, high);
    }
    consumer.assign(&wanted)?;
    let mut lines = Vec::new();
    while (lines.len() as i64) < ends.values().sum() {
        let record = consumer.poll(TIMEOUT).expect("there is more")?;
        let headers: Vec<_> = record.headers().into_iter().flat_map(Headers::iter).collect();
        let at = (record.partition() == 0).then(|| record.timestamp());
        let value = record.payload().map(|value| value.len());
        lines.push(format!(
            "{}@{:03}: {:?} {value:?} {headers:?} {at:?}",
            record.partition(),
            record.offset(),
            record.key()
        ));
    }
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    let mut commits = TopicPartitionList::new();
    commits.add_partition_offset(TOPIC, 0, Offset::Offset(7))?;
    commits.add_partition_offset(TOPIC, 1, Offset::Offset(10))?;
    say("commit", consumer.commit(&commits, CommitMode::Sync));
    let committed = consumer.committed_offsets(wanted, TIMEOUT)?;
    say("committed", committed.elements().iter().map(|e| (e.partition(), e.offset())).collect::<Vec<_>>());
    let mut times = TopicPartitionList::new();
    times.add_partition_offset(TOPIC, 0, Offset::Offset(1_700_000_000_005))?;
    let found = consumer.offsets_for_times(times, TIMEOUT)?;
    say("by time", found.elements().iter().map(|e| e.offset()).collect::<Vec<_>>());
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), KafkaError> {
    topics().await?;
    produce().await?;
    consume()
}
