//! Topics, partitions and the cluster.

use milena::{Error, ErrorKind, NewTopic};

use crate::cluster::{Cluster, eventually, fresh};

pub async fn topics_are_created_described_listed_and_deleted(cluster: Cluster) {
    let client = cluster.client().await;
    let admin = client.admin();
    let name = cluster.topic(&client, 3).await;

    let topic = admin.describe_topics([name.as_str()]).await.unwrap().remove(0);
    assert_eq!(&*topic.name, name);
    assert!(!topic.is_internal);
    for (index, partition) in topic.partitions.iter().enumerate() {
        assert_eq!(partition.index, index as i32);
        assert_eq!(partition.replicas.len(), cluster.replicas() as usize);
        assert!(partition.replicas.contains(&partition.leader.unwrap()));
    }
    let listed = admin.list_topics().await.unwrap();
    assert_eq!(listed.iter().filter(|topic| *topic.name == *name).count(), 1);

    admin.delete_topics([name.as_str()]).await.unwrap();
    eventually("the topic is gone", async || {
        let listed = admin.list_topics().await.unwrap();
        listed.iter().all(|topic| *topic.name != *name).then_some(())
    })
    .await;
}

pub async fn refusals_are_typed_and_name_the_topic(cluster: Cluster) {
    let client = cluster.client().await;
    let admin = client.admin();
    let name = cluster.topic(&client, 1).await;
    let missing = fresh("missing");
    let check = |error: Error, code: i16, named: &str| {
        assert_eq!(error.code().map(|code| code.0), Some(code), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    };
    let created = admin.create_topics([NewTopic::new(name.as_str(), 1, 1), NewTopic::new("a b", 1, 1)]).each().await;
    let mut created = created.into_iter();
    check(created.next().unwrap().1.unwrap_err(), 36, &name);
    check(created.next().unwrap().1.unwrap_err(), 17, "a b");
    let too_many = admin.create_topics([NewTopic::new(missing.as_str(), 1, 100)]).await.unwrap_err();
    check(too_many, 38, &missing);
    let none = admin.create_topics([NewTopic::new(missing.as_str(), 0, 1)]).await.unwrap_err();
    check(none, 37, &missing);
    let deleted = admin.delete_topics([missing.as_str()]).await.unwrap_err();
    assert_eq!(deleted.kind(), ErrorKind::UnknownTopic, "{deleted}");
    check(deleted, 3, &missing);
    let described = admin.describe_topics([missing.as_str()]).await.unwrap_err();
    assert_eq!(described.kind(), ErrorKind::UnknownTopic, "{described}");
    let fewer = admin.create_partitions(name.as_str(), 1).await.unwrap_err();
    check(fewer, 37, &name);
}

pub async fn partitions_are_added(cluster: Cluster) {
    let client = cluster.client().await;
    let admin = client.admin();
    let name = cluster.topic(&client, 1).await;
    admin.create_partitions(name.as_str(), 4).await.unwrap();
    eventually("four partitions", async || {
        let topic = admin.describe_topics([name.as_str()]).await.unwrap().remove(0);
        (topic.partitions.len() == 4).then_some(())
    })
    .await;
}

pub async fn the_cluster_is_described(cluster: Cluster) {
    let client = cluster.client().await;
    let described = client.admin().describe_cluster().await.unwrap();
    assert_eq!(described.brokers.len(), cluster.brokers as usize);
    assert!(described.cluster_id.is_some_and(|id| !id.is_empty()));
    let controller = described.controller.unwrap();
    assert!(described.brokers.iter().any(|broker| broker.id == controller), "{controller}");
    let mut addresses: Vec<_> = described.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
    let mut bootstrap = cluster.bootstrap.clone();
    addresses.sort();
    bootstrap.sort();
    assert_eq!(addresses, bootstrap);
}
