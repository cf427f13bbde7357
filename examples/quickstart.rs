//! Creates a topic, sends ten records, reads them back, and says what happened.
//!
//! ```text
//! cargo run --example quickstart                                       # on the embedded mock cluster
//! KAFKA_BOOTSTRAP=localhost:9092 cargo run --example quickstart        # on yours
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, NewTopic, OffsetReset, Record, TopicPartition};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (bootstrap, mock) = match std::env::var("KAFKA_BOOTSTRAP") {
        Ok(bootstrap) => (bootstrap.split(',').map(str::to_owned).collect(), None),
        Err(_) => {
            let mock = MockCluster::start().await;
            println!("KAFKA_BOOTSTRAP is not set: using the embedded mock cluster");
            (mock.bootstrap(), Some(mock))
        }
    };
    let client = Client::builder(&bootstrap).client_id("quickstart").connect().await?;
    println!("connected to {}", bootstrap.join(","));

    let topic = format!("quickstart-{}", std::process::id());
    let admin = client.admin();
    admin.create_topics([NewTopic::new(topic.as_str(), 3, 1)]).await?;
    println!("created topic {topic} with 3 partitions");

    let producer = client.producer().build()?;
    let mut receipts = Vec::new();
    for n in 0..10 {
        let record = Record::to(&topic).key(format!("customer-{}", n % 4)).value(format!("order {n}"));
        receipts.push(producer.enqueue(record).await?);
    }
    for receipt in receipts {
        println!("acknowledged: {:?}", receipt.await?);
    }
    producer.close(Duration::from_secs(30)).await?;

    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build()?;
    consumer.assign((0..3).map(|partition| TopicPartition::new(topic.as_str(), partition)))?;
    for _ in 0..10 {
        let record = consumer.recv().await?;
        println!(
            "read {}@{}: {} = {}",
            record.topic_partition(),
            record.offset(),
            String::from_utf8_lossy(record.key().unwrap_or_default()),
            String::from_utf8_lossy(record.value().unwrap_or_default()),
        );
    }
    consumer.close().await?;

    admin.delete_topics([topic.as_str()]).await?;
    println!("deleted topic {topic}");
    if let Some(mock) = mock {
        mock.close().await;
    }
    Ok(())
}
