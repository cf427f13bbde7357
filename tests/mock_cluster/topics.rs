//! Metadata and the administration of topics.

use std::collections::BTreeSet;

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest, MetadataRequest,
};
use kafka_protocol::protocol::Message;
use milena::mock::{KafkaRelease, MockCluster};

use crate::harness::{Peer, in_memory, topic_name};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const NOT_CONTROLLER: i16 = 41;
const INVALID_REQUEST: i16 = 42;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn named(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    MetadataRequest::default().with_topics(Some(vec![topic]))
}

fn name_of(topic: &MetadataResponseTopic) -> &str {
    topic.name.as_ref().map_or("", |name| name)
}

#[tokio::test(start_paused = true)]
async fn every_version_of_metadata_is_served() {
    let cluster = in_memory(3).await;
    cluster.create_topic("a", 4);
    cluster.create_topic("b", 1);
    let mut peer = Peer::connect(&cluster, 2).await;
    for version in MetadataRequest::VERSIONS.min..=MetadataRequest::VERSIONS.max {
        let all = if version == 0 { Some(vec![]) } else { None };
        let answer = peer.ask(version, &MetadataRequest::default().with_topics(all)).await;
        assert_eq!(answer.topics.iter().map(name_of).collect::<Vec<_>>(), ["a", "b"], "version {version}");
        let brokers: Vec<_> = answer.brokers.iter().map(|b| (b.node_id.0, format!("{}:{}", b.host, b.port))).collect();
        assert_eq!(brokers, (1..).zip(cluster.bootstrap()).collect::<Vec<_>>());
        assert_eq!(answer.topics[0].partitions.len(), 4);
        if version >= 1 {
            assert_eq!(answer.controller_id.0, 1);
            let none = peer.ask(version, &MetadataRequest::default().with_topics(Some(vec![]))).await;
            assert!(none.topics.is_empty() && none.brokers.len() == 3, "version {version}");
        }
        let answer = peer.ask(version, &named("b")).await;
        assert_eq!((answer.topics.len(), answer.topics[0].error_code), (1, 0));
        let answer = peer.ask(version, &named("nowhere")).await;
        assert_eq!((name_of(&answer.topics[0]), answer.topics[0].error_code), ("nowhere", UNKNOWN_TOPIC_OR_PARTITION));
        let answer = peer.ask(version, &named("no where")).await;
        assert_eq!(answer.topics[0].error_code, INVALID_TOPIC);
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn topics_are_found_by_id() {
    let cluster = in_memory(1).await;
    cluster.create_topic("a", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let id = peer.metadata(&["a"]).await.topics[0].topic_id;
    let by_id = |id| {
        MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_topic_id(id).with_name(None)]))
    };
    for version in 12..=13 {
        let answer = peer.ask(version, &by_id(id)).await;
        assert_eq!((name_of(&answer.topics[0]), answer.topics[0].error_code), ("a", 0));
    }
    cluster.delete_topic("a");
    cluster.create_topic("a", 1);
    let answer = peer.ask(12, &by_id(id)).await;
    assert_eq!((answer.topics[0].error_code, answer.topics[0].topic_id), (UNKNOWN_TOPIC_ID, id));
    assert_ne!(peer.metadata(&["a"]).await.topics[0].topic_id, id, "a topic that is created again has another id");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_ids() {
    let mut ids = Vec::new();
    for seed in [1, 1, 2] {
        let cluster = MockCluster::builder().in_memory().seed(seed).start().await;
        cluster.create_topic("a", 1);
        ids.push(Peer::connect(&cluster, 1).await.metadata(&["a"]).await.topics[0].topic_id);
        cluster.close().await;
    }
    assert!(ids[0] == ids[1] && ids[1] != ids[2]);
}

#[tokio::test(start_paused = true)]
async fn leaders_and_replicas_are_spread() {
    let cluster = in_memory(5).await;
    cluster.create_topic("a", 10);
    let answer = Peer::connect(&cluster, 1).await.metadata(&["a"]).await;
    let mut led = [0; 5];
    for partition in &answer.topics[0].partitions {
        led[partition.leader_id.0 as usize - 1] += 1;
        let replicas: BTreeSet<_> = partition.replica_nodes.iter().map(|id| id.0).collect();
        assert!(replicas.len() == 3 && replicas.contains(&partition.leader_id.0));
        assert_eq!(partition.isr_nodes, partition.replica_nodes);
        assert!(partition.offline_replicas.is_empty());
        assert_eq!(partition.leader_epoch, 0);
    }
    assert_eq!(led, [2; 5]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn topics_are_made_by_metadata_only_if_both_sides_want_it() {
    for (broker_allows, client_allows) in [(true, true), (true, false), (false, true)] {
        let builder = MockCluster::builder().in_memory().auto_create_topics(broker_allows).default_partitions(3);
        let cluster = builder.start().await;
        let mut peer = Peer::connect(&cluster, 1).await;
        let request = named("a").with_allow_auto_topic_creation(client_allows);
        let answer = peer.ask(12, &request).await;
        assert_eq!(answer.topics[0].error_code, UNKNOWN_TOPIC_OR_PARTITION, "the first time in any case");
        let made = broker_allows && client_allows;
        assert_eq!(cluster.partitions("a"), made.then_some(3));
        if broker_allows {
            peer.ask(3, &named("old")).await;
            assert_eq!(cluster.partitions("old"), Some(3), "version 3 cannot say no");
            peer.ask(12, &named("a b").with_allow_auto_topic_creation(true)).await;
            assert_eq!(cluster.partitions("a b"), None);
        }
        cluster.close().await;
    }
}

fn creatable(name: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
}

async fn create(peer: &mut Peer, topic: CreatableTopic) -> i16 {
    peer.ask(7, &CreateTopicsRequest::default().with_topics(vec![topic])).await.topics[0].error_code
}

fn assignment(index: i32, brokers: &[i32]) -> CreatableReplicaAssignment {
    CreatableReplicaAssignment::default()
        .with_partition_index(index)
        .with_broker_ids(brokers.iter().map(|id| (*id).into()).collect())
}

#[tokio::test(start_paused = true)]
async fn topics_are_created() {
    let cluster = in_memory(2).await;
    let mut peer = Peer::connect(&cluster, 2).await;
    for version in CreateTopicsRequest::VERSIONS.min..=CreateTopicsRequest::VERSIONS.max {
        let name = format!("v{version}");
        let request = CreateTopicsRequest::default().with_topics(vec![creatable(&name, 3, 2)]);
        let answer = peer.ask(version, &request.clone().with_validate_only(true)).await;
        assert_eq!((answer.topics[0].error_code, cluster.partitions(&name)), (0, None), "version {version}");
        let answer = peer.ask(version, &request).await;
        let created = &answer.topics[0];
        assert_eq!((created.error_code, cluster.partitions(&name)), (0, Some(3)), "version {version}");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (3, 2));
            let configs = created.configs.as_ref().unwrap();
            assert!(configs.iter().any(|c| &*c.name == "max.message.bytes" && c.value.as_deref() == Some("1048588")));
        }
        if version >= 7 {
            assert_eq!(created.topic_id, peer.metadata(&[&name]).await.topics[0].topic_id);
        }
        let answer = peer.ask(version, &request).await;
        assert_eq!(answer.topics[0].error_code, TOPIC_ALREADY_EXISTS, "version {version}");
    }
    assert_eq!(create(&mut peer, creatable("defaults", -1, -1)).await, 0);
    assert_eq!(cluster.partitions("defaults"), Some(1));
    let assigned = creatable("assigned", -1, -1);
    let assigned = assigned.with_assignments(vec![assignment(1, &[1, 2]), assignment(0, &[2, 1])]);
    assert_eq!(create(&mut peer, assigned).await, 0);
    assert_eq!((cluster.leader("assigned", 0), cluster.leader("assigned", 1)), (Some(2), Some(1)));
    let config = |value: &str| {
        let name = "message.timestamp.type".into();
        vec![CreatableTopicConfig::default().with_name(name).with_value(Some(value.to_owned().into()))]
    };
    assert_eq!(create(&mut peer, creatable("c", 1, 1).with_configs(config("LogAppendTime"))).await, 0);
    assert_eq!(create(&mut peer, creatable("d", 1, 1).with_configs(config("Whenever"))).await, INVALID_CONFIG);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn topics_that_are_not_created() {
    let cluster = in_memory(2).await;
    cluster.create_topic("a.b", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let assigned = |assignments: Vec<CreatableReplicaAssignment>| creatable("t", -1, -1).with_assignments(assignments);
    for (topic, error) in [
        (creatable("", 1, 1), INVALID_TOPIC),
        (creatable("..", 1, 1), INVALID_TOPIC),
        (creatable("t t", 1, 1), INVALID_TOPIC),
        (creatable(&"t".repeat(250), 1, 1), INVALID_TOPIC),
        (creatable("a_b", 1, 1), INVALID_TOPIC),
        (creatable("a.b", 1, 1), TOPIC_ALREADY_EXISTS),
        (creatable("t", 0, 1), INVALID_PARTITIONS),
        (creatable("t", -2, 1), INVALID_PARTITIONS),
        (creatable("t", 1, 0), INVALID_REPLICATION_FACTOR),
        (creatable("t", 1, -2), INVALID_REPLICATION_FACTOR),
        (creatable("t", 1, 3), INVALID_REPLICATION_FACTOR),
        (assigned(vec![assignment(1, &[1])]), INVALID_REPLICA_ASSIGNMENT),
        (assigned(vec![assignment(0, &[1]), assignment(0, &[2])]), INVALID_REPLICA_ASSIGNMENT),
        (assigned(vec![assignment(0, &[1]), assignment(1, &[1, 2])]), INVALID_REPLICA_ASSIGNMENT),
        (assigned(vec![assignment(0, &[1, 1])]), INVALID_REPLICA_ASSIGNMENT),
        (assigned(vec![assignment(0, &[3])]), INVALID_REPLICA_ASSIGNMENT),
        (creatable("t", 1, -1).with_assignments(vec![assignment(0, &[1])]), INVALID_REQUEST),
    ] {
        assert_eq!(create(&mut peer, topic.clone()).await, error, "{topic:?}");
    }
    let twice = CreateTopicsRequest::default().with_topics(vec![creatable("t", 1, 1), creatable("t", 2, 1)]);
    let answer = peer.ask(7, &twice).await;
    assert_eq!((answer.topics.len(), answer.topics[0].error_code), (1, INVALID_REQUEST));
    assert_eq!(cluster.partitions("t"), None);
    cluster.close().await;
}

/// Before brokers forwarded it (KIP-590), only the controller could do this.
#[tokio::test(start_paused = true)]
async fn old_brokers_send_one_to_the_controller() {
    let cluster = MockCluster::builder().in_memory().brokers(2).release(KafkaRelease::V2_8).start().await;
    cluster.create_topic("old", 1);
    for (broker, error) in [(2, NOT_CONTROLLER), (1, 0)] {
        let mut peer = Peer::connect(&cluster, broker).await;
        assert_eq!(create(&mut peer, creatable("t", 1, 1)).await, error);
        assert_eq!(grow(&mut peer, growth("old", 2)).await, error);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("old")]);
        assert_eq!(peer.ask(4, &request).await.responses[0].error_code, error);
    }
    cluster.move_controller(2);
    let answer = Peer::connect(&cluster, 1).await.ask(9, &MetadataRequest::default()).await;
    assert_eq!(answer.controller_id.0, 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn topics_are_deleted_by_name_and_by_id() {
    let cluster = in_memory(1).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    for version in DeleteTopicsRequest::VERSIONS.min..=DeleteTopicsRequest::VERSIONS.max {
        cluster.create_topic("t", 1);
        let names = vec![topic_name("t"), topic_name("nowhere")];
        let request = if version >= 6 {
            let state = |name| DeleteTopicState::default().with_name(Some(name));
            DeleteTopicsRequest::default().with_topics(names.into_iter().map(state).collect())
        } else {
            DeleteTopicsRequest::default().with_topic_names(names)
        };
        let answer = peer.ask(version, &request).await;
        let errors: Vec<_> = answer.responses.iter().map(|response| response.error_code).collect();
        assert_eq!(errors, [0, UNKNOWN_TOPIC_OR_PARTITION], "version {version}");
        assert_eq!(cluster.partitions("t"), None);
    }
    cluster.create_topic("t", 1);
    let id = peer.metadata(&["t"]).await.topics[0].topic_id;
    let by_id = |name: Option<&str>| {
        let state = DeleteTopicState::default().with_topic_id(id).with_name(name.map(topic_name));
        DeleteTopicsRequest::default().with_topics(vec![state])
    };
    assert_eq!(peer.ask(6, &by_id(Some("t"))).await.responses[0].error_code, INVALID_REQUEST);
    let answer = peer.ask(6, &by_id(None)).await;
    assert_eq!((answer.responses[0].error_code, answer.responses[0].name.as_ref()), (0, Some(&topic_name("t"))));
    assert_eq!(peer.ask(6, &by_id(None)).await.responses[0].error_code, UNKNOWN_TOPIC_ID);
    cluster.close().await;
}

pub fn growth(topic: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count).with_assignments(None)
}

async fn grow(peer: &mut Peer, topic: CreatePartitionsTopic) -> i16 {
    peer.ask(3, &CreatePartitionsRequest::default().with_topics(vec![topic])).await.results[0].error_code
}

#[tokio::test(start_paused = true)]
async fn topics_grow() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    let brokers = |ids: &[i32]| {
        CreatePartitionsAssignment::default().with_broker_ids(ids.iter().map(|id| (*id).into()).collect())
    };
    for (topic, error) in [
        (growth("nowhere", 3), UNKNOWN_TOPIC_OR_PARTITION),
        (growth("t", 2), INVALID_PARTITIONS),
        (growth("t", 1), INVALID_PARTITIONS),
        (growth("t", -1), INVALID_PARTITIONS),
        (growth("t", 4).with_assignments(Some(vec![brokers(&[1])])), INVALID_REPLICA_ASSIGNMENT),
        (growth("t", 3).with_assignments(Some(vec![brokers(&[7])])), INVALID_REPLICA_ASSIGNMENT),
        (growth("t", 3).with_assignments(Some(vec![brokers(&[2, 1])])), 0),
    ] {
        assert_eq!(grow(&mut peer, topic.clone()).await, error, "{topic:?}");
    }
    assert_eq!((cluster.partitions("t"), cluster.leader("t", 2)), (Some(3), Some(2)));
    for version in CreatePartitionsRequest::VERSIONS.min..=CreatePartitionsRequest::VERSIONS.max {
        let count = 4 + i32::from(version);
        let request = CreatePartitionsRequest::default().with_topics(vec![growth("t", count)]);
        let answer = peer.ask(version, &request.clone().with_validate_only(true)).await;
        assert_eq!((answer.results[0].error_code, cluster.partitions("t")), (0, Some(count as usize - 1)));
        assert_eq!(peer.ask(version, &request).await.results[0].error_code, 0);
        assert_eq!(cluster.partitions("t"), Some(count as usize));
    }
    cluster.grow_topic("t", 10);
    assert_eq!(peer.metadata(&["t"]).await.topics[0].partitions.len(), 10);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_described() {
    let cluster = in_memory(2).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    for version in DescribeClusterRequest::VERSIONS.min..=DescribeClusterRequest::VERSIONS.max {
        let answer = peer.ask(version, &DescribeClusterRequest::default()).await;
        assert_eq!((answer.error_code, answer.controller_id.0, answer.brokers.len()), (0, 1, 2));
        assert_eq!(answer.cluster_id.len(), 22);
    }
    let controllers = DescribeClusterRequest::default().with_endpoint_type(2);
    assert_eq!(peer.ask(1, &controllers).await.error_code, 114);
    cluster.close().await;
}
