//! The mock against a real broker: both are asked the same questions, and the answers compared line by line.
//!
//! Without a real broker only the mock is asked, which shows that the questions make sense. With one:
//!
//! ```text
//! scripts/kafka run --version 4.3.1 --config group.consumer.migration.policy=disabled -- \
//!   cargo test --test mock_cluster agreement
//! scripts/kafka run --version 3.9.2 -- cargo test --test mock_cluster agreement
//! scripts/kafka run --version 2.8.2 -- cargo test --test mock_cluster agreement
//! ```

mod administration;
pub mod configs;
mod consumer_groups;
mod groups;
mod members;
mod reading;
mod records;
mod replicas;
mod topics;
mod transactions;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use milena::mock::{KafkaRelease, MockCluster};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Batch, Peer, produce_request, topic_name};

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_answers_as_a_real_broker() {
    compare(async |interview| {
        interview.topics().await;
        interview.refused_batches().await;
        interview.produced_batches().await;
        interview.sequences().await;
        interview.fetches().await;
        interview.sessions().await;
        interview.offsets_and_epochs().await;
        interview.groups().await;
        interview.offsets_by_topic_id().await;
        interview.described_groups().await;
        interview.members().await;
        interview.log_dirs().await;
        interview.elections().await;
        interview.topics_by_page().await;
        interview.transactions().await;
        interview.configs().await;
        interview.deleted_records().await;
        interview.metadata().await;
        interview.closed_connections().await;
    })
    .await;
}

/// Groups under KIP-848, and what administrators do with groups of either protocol.
#[tokio::test(flavor = "multi_thread")]
async fn the_mock_answers_consumer_groups_as_a_real_broker() {
    compare(Interview::consumer_groups).await;
}

/// Asks the mock, and a real broker if there is one.
async fn compare(questions: impl AsyncFn(&mut Interview)) {
    let real = std::env::var("KAFKA_BOOTSTRAP").ok();
    let version = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "4".to_owned());
    let release = match version.split('.').next() {
        Some("2") => KafkaRelease::V2_8,
        Some("3") => KafkaRelease::V3_9,
        _ => KafkaRelease::V4_1,
    };
    // As scripts/kafka configures real brokers.
    let mock = MockCluster::builder().release(release).consumer_heartbeat_interval(Duration::from_secs(1));
    let mock = mock.consumer_session_timeout(Duration::from_secs(10)).start().await;
    let answers = interview(&mock.bootstrap()[0], &questions).await;
    mock.close().await;
    let Some(real) = real else { return };
    let expected = interview(real.split(',').next().unwrap(), &questions).await;
    // By what was asked, not by place: one answer may be several lines.
    let only = |who: &str, ours: &[String], theirs: &[String]| {
        let lines = ours.iter().filter(|line| !theirs.contains(line));
        lines.map(|line| format!("{who}: {line}")).collect::<Vec<_>>()
    };
    let differences = [only("real", &expected, &answers), only("mock", &answers, &expected)].concat();
    let count = differences.len();
    assert!(differences.is_empty(), "{count} of {} answers differ:\n{}", expected.len(), differences.join("\n"));
    assert_eq!(answers, expected, "the same answers, in another order");
}

/// A conversation with one broker, in lines.
struct Interview {
    peer: Peer,
    address: String,
    newest: BTreeMap<i16, i16>,
    lines: Vec<String>,
}

async fn dial(address: &str) -> Peer {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Peer::over(Box::new(stream))
}

async fn interview(address: &str, questions: &impl AsyncFn(&mut Interview)) -> Vec<String> {
    let mut interview = Interview {
        peer: dial(address).await,
        address: address.to_owned(),
        newest: BTreeMap::new(),
        lines: Vec::new(),
    };
    interview.api_versions().await;
    questions(&mut interview).await;
    interview.lines
}

impl Interview {
    fn say(&mut self, what: impl Debug, answer: impl Debug) {
        self.lines.push(format!("{what:?}: {answer:?}"));
    }

    /// Versions of a request that both sides can speak.
    fn versions<R: Request>(&self) -> impl Iterator<Item = i16> + use<R> {
        R::VERSIONS.min..=self.newest::<R>()
    }

    fn newest<R: Request>(&self) -> i16 {
        self.newest.get(&R::KEY).map_or(-1, |newest| R::VERSIONS.max.min(*newest))
    }

    /// The newest version up to `max`.
    fn up_to<R: Request>(&self, max: i16) -> i16 {
        self.newest::<R>().min(max)
    }

    async fn api_versions(&mut self) {
        let software = |version: i16| {
            let request = ApiVersionsRequest::default();
            if version < 3 {
                return request;
            }
            request.with_client_software_name("harness".into()).with_client_software_version("1".into())
        };
        let answer = self.peer.ask(0, &software(0)).await;
        self.newest = answer.api_keys.iter().map(|entry| (entry.api_key, entry.max_version)).collect();
        let served = [
            self.newest::<ProduceRequest>(),
            self.newest::<FetchRequest>(),
            self.newest::<ListOffsetsRequest>(),
            self.newest::<MetadataRequest>(),
            self.newest::<OffsetCommitRequest>(),
            self.newest::<OffsetFetchRequest>(),
            self.newest::<FindCoordinatorRequest>(),
            self.newest::<ApiVersionsRequest>(),
            self.newest::<CreateTopicsRequest>(),
            self.newest::<DeleteTopicsRequest>(),
            self.newest::<InitProducerIdRequest>(),
            self.newest::<OffsetForLeaderEpochRequest>(),
            self.newest::<CreatePartitionsRequest>(),
            self.newest::<DescribeClusterRequest>(),
            self.newest::<AddPartitionsToTxnRequest>(),
            self.newest::<AddOffsetsToTxnRequest>(),
            self.newest::<EndTxnRequest>(),
            self.newest::<TxnOffsetCommitRequest>(),
            self.newest::<AlterConfigsRequest>(),
            self.newest::<DeleteRecordsRequest>(),
            self.newest::<DescribeConfigsRequest>(),
            self.newest::<DescribeProducersRequest>(),
            self.newest::<IncrementalAlterConfigsRequest>(),
            self.newest::<DescribeGroupsRequest>(),
            self.newest::<DescribeLogDirsRequest>(),
            self.newest::<DescribeTopicPartitionsRequest>(),
            self.newest::<ElectLeadersRequest>(),
            self.newest::<ListGroupsRequest>(),
            self.newest::<ConsumerGroupHeartbeatRequest>(),
            self.newest::<ConsumerGroupDescribeRequest>(),
            self.newest::<DeleteGroupsRequest>(),
            self.newest::<OffsetDeleteRequest>(),
        ];
        self.say("newest versions", served);
        for version in self.versions::<ApiVersionsRequest>() {
            let answer = self.peer.ask(version, &software(version)).await;
            let produce = answer.api_keys.iter().find(|entry| entry.api_key == 0).map(|entry| entry.min_version);
            self.say(("api versions", version), (answer.error_code, answer.throttle_time_ms, produce));
            let supported = answer.supported_features.iter().map(|f| (&f.name, f.min_version, f.max_version));
            let finalized = answer.finalized_features.iter();
            let finalized = finalized.map(|f| (&f.name, f.min_version_level, f.max_version_level));
            let of_groups = |(name, ..): &(&StrBytes, i16, i16)| name.as_str() == "group.version";
            let features =
                (supported.filter(of_groups).collect::<Vec<_>>(), finalized.filter(of_groups).collect::<Vec<_>>());
            self.lines.push(format!("features {version}: {features:?}"));
        }
        if self.newest::<ApiVersionsRequest>() >= 3 {
            for (name, version) in [("", "1"), ("a", ""), ("-", "1"), ("a b", "1"), ("a.-b", "1")] {
                let request = ApiVersionsRequest::default().with_client_software_name(name.into());
                let answer = self.peer.ask(3, &request.with_client_software_version(version.into())).await;
                self.say(("software", name, version), (answer.error_code, answer.api_keys.is_empty()));
            }
        }
    }

    /// Makes a topic, and waits for its leaders.
    async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let config = |(name, value): &(&str, &str)| {
            let (name, value) = (StrBytes::from((*name).to_owned()), StrBytes::from((*value).to_owned()));
            CreatableTopicConfig::default().with_name(name).with_value(Some(value))
        };
        let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions);
        let topic = topic.with_replication_factor(1).with_configs(configs.iter().map(config).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let answer = self.peer.ask(self.up_to::<CreateTopicsRequest>(5), &request).await;
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
        self.until_led(name).await;
    }

    async fn until_led(&mut self, name: &str) {
        for _ in 0..100 {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            let request = MetadataRequest::default().with_topics(Some(vec![topic]));
            let answer = self.peer.ask(self.up_to::<MetadataRequest>(9), &request).await;
            let led = |topic: &kafka_protocol::messages::metadata_response::MetadataResponseTopic| {
                topic.error_code == 0 && topic.partitions.iter().all(|p| p.error_code == 0 && p.leader_id.0 >= 0)
            };
            if answer.topics.iter().all(led) && self.serves(name, answer.topics[0].partitions.len()).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{name} got no leader");
    }

    /// Whether the broker has heard of its leaderships, which is later than the controller's decision.
    async fn serves(&mut self, name: &str, partitions: usize) -> bool {
        let partition =
            |index: usize| ListOffsetsPartition::default().with_partition_index(index as i32).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name(name));
        let topic = topic.with_partitions((0..partitions).map(partition).collect());
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        self.peer.ask(1, &request).await.topics[0].partitions.iter().all(|partition| partition.error_code == 0)
    }

    /// What makes a broker hang up, or say nothing.
    async fn closed_connections(&mut self) {
        let batch = || Batch::of(&["x"]);
        let version = self.up_to::<ProduceRequest>(9);
        for (what, request) in [
            ("acks 0", produce_request("produced", 0, batch()).with_acks(0)),
            ("acks 0, unknown topic", produce_request("nowhere", 0, batch()).with_acks(0)),
            ("acks 0, corrupt", produce_request("produced", 0, Batch { magic: 3, ..batch() }).with_acks(0)),
        ] {
            let mut peer = dial(&self.address).await;
            peer.send(version, &request).await;
            let heard = timeout(Duration::from_millis(300), peer.frame()).await.map(|frame| frame.is_some());
            self.say(("closed", what), heard);
        }
        let newest = self.newest[&MetadataRequest::KEY];
        let mut bytes: Vec<u8> = Vec::new();
        bytes.extend(MetadataRequest::KEY.to_be_bytes());
        bytes.extend((newest + 1).to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
        let mut peer = dial(&self.address).await;
        peer.send_bytes(&bytes).await;
        let heard = timeout(Duration::from_secs(5), peer.frame()).await.map(|frame| frame.is_some());
        self.say(("closed", "a version too new"), heard);
        let newest = self.newest[&ApiVersionsRequest::KEY];
        bytes.splice(..4, [ApiVersionsRequest::KEY.to_be_bytes(), (newest + 1).to_be_bytes()].concat());
        let mut peer = dial(&self.address).await;
        peer.send_bytes(&bytes).await;
        let frame = timeout(Duration::from_secs(5), peer.frame()).await.unwrap().unwrap();
        self.say("ApiVersions too new", (&frame[..10], frame.len()));
    }
}

/// An id that no topic has.
fn topic_id<U: TryFrom<Vec<u8>> + Default>(byte: u8) -> U {
    U::try_from(vec![byte; 16]).unwrap_or_default()
}
