//! The topics that `run` measures on.

use std::time::Duration;

use common::Args;
use milena::{Client, NewTopic};

const PATIENCE: Duration = Duration::from_secs(120);
/// Kafka's controller writes no more than 10,000 records of its log for one request.
const AT_ONCE: i32 = 5_000;

/// Returns once every partition has a leader that knows of it, so that no client's first record waits for one, and none is
/// there before a reader has asked where the end is.
pub async fn create(client: &Client, args: &Args) {
    let admin = client.admin();
    let topic = NewTopic::named(args.topic.as_str()).partitions(args.partitions.min(AT_ONCE));
    admin.create_topics([topic]).timeout(PATIENCE).await.unwrap();
    let mut count = AT_ONCE;
    while count < args.partitions {
        count = args.partitions.min(count + AT_ONCE);
        admin.create_partitions(args.topic.as_str(), count).timeout(PATIENCE).await.unwrap();
    }
    loop {
        let described = admin.describe_topics([args.topic.as_str()]).await;
        let led =
            |partitions: &[milena::PartitionDescription]| partitions.iter().filter(|p| p.leader.is_some()).count();
        if described.is_ok_and(|topics| topics.iter().all(|topic| led(&topic.partitions) == args.partitions as usize)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asker = client.consumer().build().unwrap();
    asker.offsets_for_times((0..args.partitions).map(|partition| ((args.topic.as_str(), partition), 0))).await.unwrap();
}

pub async fn delete(client: &Client, args: &Args) {
    client.admin().delete_topics([args.topic.as_str()]).timeout(PATIENCE).await.unwrap();
}
