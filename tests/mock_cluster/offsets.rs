//! Coordinators and committed offsets.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::{Message, StrBytes};

use crate::harness::{Peer, in_memory, topic_name};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const NOT_COORDINATOR: i16 = 16;
const GROUP_ID_NOT_FOUND: i16 = 69;
const UNKNOWN_MEMBER_ID: i16 = 25;

fn commit(group: &str, topic: &str, index: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_metadata(Some("note".into()));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(StrBytes::from(group.to_owned()).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

async fn commit_error(peer: &mut Peer, request: &OffsetCommitRequest) -> i16 {
    peer.ask(9, request).await.topics[0].partitions[0].error_code
}

fn fetch(version: i16, group: &str, topics: Option<&[(&str, &[i32])]>) -> OffsetFetchRequest {
    let group = StrBytes::from(group.to_owned());
    if version >= 8 {
        let topics = topics.map(|topics| {
            let topic = |(name, indexes): &(&str, &[i32])| {
                OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(indexes.to_vec())
            };
            topics.iter().map(topic).collect()
        });
        let group = OffsetFetchRequestGroup::default().with_group_id(group.into()).with_topics(topics);
        return OffsetFetchRequest::default().with_groups(vec![group]);
    }
    let topics = topics.map(|topics| {
        let topic = |(name, indexes): &(&str, &[i32])| {
            OffsetFetchRequestTopic::default().with_name(topic_name(name)).with_partition_indexes(indexes.to_vec())
        };
        topics.iter().map(topic).collect()
    });
    OffsetFetchRequest::default().with_group_id(group.into()).with_topics(topics)
}

/// The group's error, and topic, partition, offset, metadata and error of each offset.
async fn fetched(
    peer: &mut Peer,
    version: i16,
    request: &OffsetFetchRequest,
) -> (i16, Vec<(String, i32, i64, String, i16)>) {
    let answer = peer.ask(version, request).await;
    let mut found = Vec::new();
    if version >= 8 {
        for topic in &answer.groups[0].topics {
            for p in &topic.partitions {
                let metadata = p.metadata.as_ref().map(|text| text.to_string()).unwrap_or_default();
                found.push((topic.name.to_string(), p.partition_index, p.committed_offset, metadata, p.error_code));
            }
        }
        return (answer.groups[0].error_code, found);
    }
    for topic in &answer.topics {
        for p in &topic.partitions {
            let metadata = p.metadata.as_ref().map(|text| text.to_string()).unwrap_or_default();
            found.push((topic.name.to_string(), p.partition_index, p.committed_offset, metadata, p.error_code));
        }
    }
    (answer.error_code, found)
}

#[tokio::test(start_paused = true)]
async fn every_version_finds_the_coordinator() {
    let cluster = in_memory(3).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    let mut coordinators = std::collections::BTreeSet::new();
    for group in ["a", "b", "c", "orders", "billing", "ä"] {
        let expected = cluster.coordinator(group).unwrap();
        coordinators.insert(expected);
        for version in FindCoordinatorRequest::VERSIONS.min..=FindCoordinatorRequest::VERSIONS.max {
            let key = StrBytes::from(group.to_owned());
            let (error, id, host, port) = if version >= 4 {
                let request =
                    FindCoordinatorRequest::default().with_coordinator_keys(vec![key.clone(), "other".into()]);
                let answer = peer.ask(version, &request).await;
                assert_eq!((answer.coordinators.len(), &answer.coordinators[0].key), (2, &key));
                let found = answer.coordinators[0].clone();
                (found.error_code, found.node_id.0, found.host, found.port)
            } else {
                let answer = peer.ask(version, &FindCoordinatorRequest::default().with_key(key)).await;
                (answer.error_code, answer.node_id.0, answer.host, answer.port)
            };
            assert_eq!((error, id), (0, expected), "{group}, version {version}");
            assert_eq!(format!("{host}:{port}"), cluster.bootstrap()[id as usize - 1]);
        }
    }
    assert!(coordinators.len() > 1, "groups are spread over the brokers");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn every_version_commits_and_fetches() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    let none = ("t".to_owned(), 0, -1, String::new(), 0);
    for version in OffsetFetchRequest::VERSIONS.min..=OffsetFetchRequest::VERSIONS.max {
        let found = fetched(&mut peer, version, &fetch(version, "g", Some(&[("t", &[0])]))).await;
        assert_eq!(found, (0, vec![none.clone()]), "version {version}");
    }
    for version in OffsetCommitRequest::VERSIONS.min..=OffsetCommitRequest::VERSIONS.max {
        let offset = 100 + i64::from(version);
        let answer = peer.ask(version, &commit("g", "t", 0, offset)).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, 0, "version {version}");
        assert_eq!(cluster.committed("g", "t", 0), Some(offset));
    }
    let some = ("t".to_owned(), 0, 109, "note".to_owned(), 0);
    for version in OffsetFetchRequest::VERSIONS.min..=OffsetFetchRequest::VERSIONS.max {
        let found = fetched(&mut peer, version, &fetch(version, "g", Some(&[("t", &[0])]))).await;
        assert_eq!(found, (0, vec![some.clone()]), "version {version}");
        if version >= 2 {
            let found = fetched(&mut peer, version, &fetch(version, "g", None)).await;
            assert_eq!(found, (0, vec![some.clone()]), "version {version}");
        }
    }
    assert_eq!(cluster.committed("g", "t", 1), None);
    cluster.delete_topic("t");
    assert_eq!(fetched(&mut peer, 9, &fetch(9, "g", None)).await, (0, vec![]));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_refused() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let mut large = commit("g", "t", 0, 1);
    large.topics[0].partitions[0].committed_metadata = Some("x".repeat(4097).into());
    for (request, error) in [
        (commit("", "t", 0, 1), 0),
        (commit("g", "nowhere", 0, 1), UNKNOWN_TOPIC_OR_PARTITION),
        (commit("g", "t", 1, 1), UNKNOWN_TOPIC_OR_PARTITION),
        (large, OFFSET_METADATA_TOO_LARGE),
        (commit("g", "t", 0, 1).with_generation_id_or_member_epoch(0), GROUP_ID_NOT_FOUND),
        (commit("g", "t", 0, 1), 0),
        (commit("g", "t", 0, 1).with_generation_id_or_member_epoch(0), UNKNOWN_MEMBER_ID),
        (commit("g", "t", 0, 1).with_member_id("m".into()), 0),
    ] {
        assert_eq!(commit_error(&mut peer, &request).await, error, "{request:?}");
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn only_the_coordinator_answers() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    for (coordinator, other) in [(1, 2), (2, 1)] {
        cluster.move_coordinator("g", coordinator);
        assert_eq!(cluster.coordinator("g"), Some(coordinator));
        let mut peer = Peer::connect(&cluster, other).await;
        assert_eq!(commit_error(&mut peer, &commit("g", "t", 0, 1)).await, NOT_COORDINATOR);
        for version in OffsetFetchRequest::VERSIONS.min..=OffsetFetchRequest::VERSIONS.max {
            let (error, found) = fetched(&mut peer, version, &fetch(version, "g", Some(&[("t", &[0])]))).await;
            let said = if version >= 2 { error } else { found[0].4 };
            assert_eq!(said, NOT_COORDINATOR, "version {version}");
        }
        let mut peer = Peer::connect(&cluster, coordinator).await;
        assert_eq!(commit_error(&mut peer, &commit("g", "t", 0, i64::from(coordinator))).await, 0);
    }
    cluster.stop_broker(2).await;
    assert_eq!(cluster.coordinator("g"), Some(1), "another takes over, offsets and all");
    let mut peer = Peer::connect(&cluster, 1).await;
    assert_eq!(fetched(&mut peer, 9, &fetch(9, "g", None)).await.1[0].2, 2);
    cluster.close().await;
}
