//! The mock against a real broker: both are asked the same questions, and the answers compared line by line.
//!
//! Without a real broker only the mock is asked, which shows that the questions make sense. With one:
//!
//! ```text
//! scripts/kafka run --version 4.3.1 -- cargo test --test mock_cluster agreement
//! scripts/kafka run --version 3.9.2 -- cargo test --test mock_cluster agreement
//! scripts/kafka run --version 2.8.2 -- cargo test --test mock_cluster agreement
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use milena::mock::{KafkaRelease, MockCluster};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, now_ms, produce_request, record, topic_name};
use crate::topics::growth;

#[tokio::test(flavor = "multi_thread")]
async fn the_mock_answers_as_a_real_broker() {
    let real = std::env::var("KAFKA_BOOTSTRAP").ok();
    let version = std::env::var("KAFKA_VERSION").unwrap_or_else(|_| "4".to_owned());
    let release = match version.split('.').next() {
        Some("2") => KafkaRelease::V2_8,
        Some("3") => KafkaRelease::V3_9,
        _ => KafkaRelease::V4_1,
    };
    let mock = MockCluster::builder().release(release).start().await;
    let answers = interview(&mock.bootstrap()[0]).await;
    mock.close().await;
    let Some(real) = real else { return };
    let expected = interview(real.split(',').next().unwrap()).await;
    let mut differences = Vec::new();
    for (answer, expected) in answers.iter().zip(&expected).filter(|(answer, expected)| answer != expected) {
        differences.push(format!("real: {expected}\nmock: {answer}"));
    }
    let count = differences.len();
    assert!(differences.is_empty(), "{count} of {} answers differ:\n{}", expected.len(), differences.join("\n"));
    assert_eq!(answers.len(), expected.len());
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

async fn interview(address: &str) -> Vec<String> {
    let mut interview = Interview {
        peer: dial(address).await,
        address: address.to_owned(),
        newest: BTreeMap::new(),
        lines: Vec::new(),
    };
    interview.api_versions().await;
    interview.topics().await;
    interview.refused_batches().await;
    interview.produced_batches().await;
    interview.sequences().await;
    interview.fetches().await;
    interview.sessions().await;
    interview.offsets_and_epochs().await;
    interview.groups().await;
    interview.metadata().await;
    interview.closed_connections().await;
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
        ];
        self.say("newest versions", served);
        for version in self.versions::<ApiVersionsRequest>() {
            let answer = self.peer.ask(version, &software(version)).await;
            let produce = answer.api_keys.iter().find(|entry| entry.api_key == 0).map(|entry| entry.min_version);
            self.say(("api versions", version), (answer.error_code, answer.throttle_time_ms, produce));
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

    async fn topics(&mut self) {
        self.create("first.topic", 2, &[]).await;
        let newest = self.newest::<CreateTopicsRequest>();
        let me = self.peer.ask(1, &MetadataRequest::default()).await.brokers[0].node_id;
        let creatable = |name: &str, partitions: i32, replication: i16| {
            let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(partitions);
            topic.with_replication_factor(replication)
        };
        let assigned =
            |index: i32| CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(vec![me]);
        let config = |name: &str, value: &str| {
            let name = StrBytes::from(name.to_owned());
            let config = CreatableTopicConfig::default().with_name(name);
            creatable("t", 1, 1).with_configs(vec![config.with_value(Some(StrBytes::from(value.to_owned())))])
        };
        for (what, topics) in [
            ("empty name", vec![creatable("", 1, 1)]),
            ("dots", vec![creatable("..", 1, 1)]),
            ("a space", vec![creatable("a b", 1, 1)]),
            ("long", vec![creatable(&"x".repeat(250), 1, 1)]),
            ("longest", vec![creatable(&"x".repeat(249), 1, 1)]),
            ("exists", vec![creatable("first.topic", 1, 1)]),
            ("collides", vec![creatable("first_topic", 1, 1)]),
            ("no partitions", vec![creatable("t", 0, 1)]),
            ("-2 partitions", vec![creatable("t", -2, 1)]),
            ("no replicas", vec![creatable("t", 1, 0)]),
            ("-2 replicas", vec![creatable("t", 1, -2)]),
            ("9 replicas", vec![creatable("t", 1, 9)]),
            ("twice", vec![creatable("t", 1, 1), creatable("t", 2, 1), creatable("other", 1, 1)]),
            ("gap", vec![creatable("t", -1, -1).with_assignments(vec![assigned(1)])]),
            ("assigned and counted", vec![creatable("t", 1, 1).with_assignments(vec![assigned(0)])]),
            ("assigned", vec![creatable("t", -1, -1).with_assignments(vec![assigned(1), assigned(0)])]),
            ("unknown config", vec![config("no.such.thing", "1")]),
            ("bad number", vec![config("max.message.bytes", "many")]),
            ("bad choice", vec![config("message.timestamp.type", "createTime")]),
            ("bad policy", vec![config("cleanup.policy", "compact,keep")]),
            ("good config", vec![config("retention.ms", "5000")]),
        ] {
            let request =
                CreateTopicsRequest::default().with_topics(topics).with_validate_only(true).with_timeout_ms(10_000);
            let answer = self.peer.ask(newest, &request).await;
            let said = answer.topics.iter().map(|topic| {
                let size = (newest >= 5).then_some((topic.num_partitions, topic.replication_factor));
                (topic.name.to_string(), topic.error_code, size)
            });
            let mut said: Vec<_> = said.collect();
            said.sort();
            self.say(("create", what), said);
        }
        for version in self.versions::<CreateTopicsRequest>() {
            let name = format!("created-by-v{version}");
            let request =
                CreateTopicsRequest::default().with_topics(vec![creatable(&name, 2, 1)]).with_timeout_ms(10_000);
            for round in 0..2 {
                let answer = self.peer.ask(version, &request).await;
                let topic = &answer.topics[0];
                let size = (version >= 5).then_some((topic.num_partitions, topic.replication_factor));
                let id = version >= 7 && !topic.topic_id.is_nil();
                let configs = topic.configs.as_ref().map(|configs| configs.is_empty());
                self.say(("create", version, round), (topic.error_code, size, id, (version >= 5).then_some(configs)));
            }
        }
        self.until_led("created-by-v2").await;
        let version = self.newest::<CreatePartitionsRequest>();
        for (topic, count) in
            [("nowhere", 3), ("created-by-v2", 2), ("created-by-v2", 1), ("created-by-v2", -1), ("created-by-v2", 3)]
        {
            for validate_only in [true, false] {
                let request = CreatePartitionsRequest::default().with_topics(vec![growth(topic, count)]);
                let answer =
                    self.peer.ask(version, &request.with_timeout_ms(10_000).with_validate_only(validate_only)).await;
                self.say(("grow", topic, count, validate_only), answer.results[0].error_code);
            }
        }
        for version in self.versions::<DeleteTopicsRequest>() {
            let names = [format!("created-by-v{}", (version + 1).max(2)), "nowhere".to_owned()];
            let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
            let request = if version >= 6 {
                let by_name = names.iter().map(|name| DeleteTopicState::default().with_name(Some(topic_name(name))));
                request.with_topics(by_name.collect())
            } else {
                request.with_topic_names(names.iter().map(|name| topic_name(name)).collect())
            };
            let answer = self.peer.ask(version, &request).await;
            let mut said: Vec<_> = answer
                .responses
                .iter()
                .map(|r| (r.name.as_ref().map(|name| name.to_string()), r.error_code, !r.topic_id.is_nil()))
                .collect();
            said.sort();
            self.say(("delete", version), said);
        }
        if self.newest::<DeleteTopicsRequest>() >= 6 {
            let unknown = DeleteTopicState::default().with_name(None).with_topic_id(topic_id(7));
            let answer = self
                .peer
                .ask(6, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![unknown]))
                .await;
            self.say("delete an unknown id", (answer.responses[0].error_code, answer.responses[0].name.is_none()));
        }
        if self.newest::<DescribeClusterRequest>() >= 0 {
            for version in self.versions::<DescribeClusterRequest>() {
                let answer = self.peer.ask(version, &DescribeClusterRequest::default()).await;
                self.say(
                    ("cluster", version),
                    (answer.error_code, answer.brokers.len(), answer.cluster_authorized_operations),
                );
                let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
                let answer = self.peer.ask(version, &request).await;
                self.say(("cluster operations", version), answer.cluster_authorized_operations);
            }
        }
    }

    async fn refused_batches(&mut self) {
        self.create("refused", 1, &[]).await;
        self.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
        self.create("small", 1, &[("max.message.bytes", "100")]).await;
        let version = self.up_to::<ProduceRequest>(9);
        let mut cases: Vec<_> = crate::produce::refused();
        // Here the mock is stricter, and says so in its documentation.
        cases.retain(|(what, ..)| !what.starts_with("offset deltas"));
        for (what, _, bytes) in cases {
            let answer = self.peer.ask(version, &produce_request("refused", 0, bytes)).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(
                ("refused", what),
                (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
            );
        }
        let keyless = Batch::of(&["a", "b"]);
        let large = Batch::of(&[&"x".repeat(100)]);
        for (topic, batch) in [("compacted", keyless.clone()), ("small", large), ("nowhere", keyless.clone())] {
            let answer = self.peer.ask(version, &produce_request(topic, 0, batch)).await;
            let said = &answer.responses[0].partition_responses[0];
            let records: Vec<_> = said.record_errors.iter().map(|error| error.batch_index).collect();
            self.say(("refused", topic), (said.error_code, said.base_offset, records));
        }
        let late = Batch {
            records: [record(0, 0, None, None, &[]), record(9_000_000, 1, None, None, &[])].concat(),
            ..keyless.clone()
        };
        let answer = self.peer.ask(version, &produce_request("refused", 0, late)).await;
        let said = &answer.responses[0].partition_responses[0];
        let records: Vec<_> = said.record_errors.iter().map(|error| error.batch_index).collect();
        self.say("one record is late", (said.error_code, records));
        let answer = self.peer.ask(version, &produce_request("refused", 0, keyless.clone()).with_acks(2)).await;
        let said = &answer.responses[0].partition_responses[0];
        self.say("acks 2", (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset));
        let answer = self.peer.ask(version, &produce_request("refused", 3, keyless)).await;
        self.say("partition 3", answer.responses[0].partition_responses[0].error_code);
    }

    async fn produced_batches(&mut self) {
        self.create("produced", 1, &[]).await;
        self.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let topic_ids =
            self.peer.ask(self.up_to::<MetadataRequest>(12), &MetadataRequest::default().with_topics(None)).await;
        let id = topic_ids.topics.iter().find(|topic| topic.name == Some(topic_name("produced"))).unwrap().topic_id;
        for version in self.versions::<ProduceRequest>() {
            let mut request = produce_request("produced", 0, Batch::of(&["a", "b"]));
            let mut unknown = produce_request("nowhere", 0, Batch::of(&["a"]));
            if version >= 13 {
                for (request, id) in [(&mut request, id), (&mut unknown, topic_id(9))] {
                    let data = request.topic_data[0].partition_data.clone();
                    let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(data);
                    request.topic_data[0] = topic;
                }
            }
            for request in [request, unknown] {
                let answer = self.peer.ask(version, &request).await;
                let said = &answer.responses[0].partition_responses[0];
                self.say(
                    ("produce", version),
                    (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
                );
            }
        }
        let version = self.up_to::<ProduceRequest>(9);
        for (what, batch) in [
            ("followed by a partial batch", [Batch::of(&["a"]).bytes(), vec![0; 11]].concat()),
            ("of 1970", Batch::of(&["a"]).at(0).bytes()),
            ("without a time", Batch::of(&["a"]).at(-1).bytes()),
            ("in half an hour", Batch::of(&["a"]).at(now_ms() + 1_800_000).bytes()),
            ("with a wrong largest time", Batch { max_timestamp: 5, ..Batch::of(&["a"]) }.bytes()),
            ("of append time", Batch { attributes: 8, ..Batch::of(&["a"]) }.bytes()),
        ] {
            // Brokers of 2.8 refused what newer ones forgive and put right, as the mock does.
            if what == "of append time" && self.newest::<ApiVersionsRequest>() < 4 {
                continue;
            }
            for topic in ["produced", "stamped"] {
                let answer = self.peer.ask(version, &produce_request(topic, 0, batch.clone())).await;
                let said = &answer.responses[0].partition_responses[0];
                let stamped = said.log_append_time_ms >= 0;
                self.say(("produced", topic, what), (said.error_code, said.base_offset, stamped));
            }
        }
        let data = |index: i32, records: Option<Vec<u8>>| {
            PartitionProduceData::default().with_index(index).with_records(records.map(Into::into))
        };
        let partitions = vec![data(0, Some(Batch::of(&["a"]).bytes())), data(1, Some(Batch::of(&["a"]).bytes()))];
        let topic = TopicProduceData::default().with_name(topic_name("produced")).with_partition_data(partitions);
        let answer = self
            .peer
            .ask(version, &ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![topic]))
            .await;
        let mut said: Vec<_> =
            answer.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code, p.base_offset)).collect();
        said.sort();
        self.say("one partition of two", said);
        // What was stored, as it is fetched: header and all, but for times of the broker and the CRC over them.
        for topic in ["produced", "stamped"] {
            let version = self.up_to::<FetchRequest>(12);
            let answer = self.peer.ask(version, &fetch(topic, vec![partition(0, 0)])).await;
            let records = answer.responses[0].partitions[0].records.clone().unwrap();
            let (mut at, mut stored) = (0, Vec::new());
            while at < records.len() {
                let size = 12 + u32::from_be_bytes(records[at + 8..at + 12].try_into().unwrap()) as usize;
                let header = records.slice(at..at + 61);
                let offset = i64::from_be_bytes(header[..8].try_into().unwrap());
                let max = i64::from_be_bytes(header[35..43].try_into().unwrap());
                let base = i64::from_be_bytes(header[27..35].try_into().unwrap());
                let difference = if topic == "stamped" { -1 } else { max - base };
                stored.push((offset, size, header[12..17].to_vec(), header[21..27].to_vec(), difference));
                at += size;
            }
            self.say(("stored", topic), stored);
        }
    }

    async fn sequences(&mut self) {
        self.create("sequences", 2, &[]).await;
        let version = self.up_to::<ProduceRequest>(9);
        let half = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let mut ids = Vec::new();
        for _ in 0..100 {
            let answer = self.peer.ask(self.newest::<InitProducerIdRequest>(), &half).await;
            if answer.error_code != 14 {
                break; // the coordinator has loaded
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for version in self.versions::<InitProducerIdRequest>() {
            let answer = self.peer.ask(version, &half).await;
            ids.push(answer.producer_id.0);
            self.say(("producer id", version), (answer.error_code, answer.producer_epoch, answer.producer_id.0 >= 0));
        }
        if self.newest::<InitProducerIdRequest>() >= 3 {
            for (id, epoch) in [(5, -1), (-1, 5), (5, 5)] {
                let request = half.clone().with_producer_id(id.into()).with_producer_epoch(epoch);
                let answer = self.peer.ask(3, &request).await;
                self.say(("producer id", id, epoch), (answer.error_code, answer.producer_epoch));
            }
        }
        let (a, b, c) = (1_000_001, 1_000_002, 1_000_003); // ids that nobody was given do as well
        for (what, index, id, epoch, sequence, count) in [
            ("first", 0, a, 0, 0, 2),
            ("second", 0, a, 0, 2, 2),
            ("third", 0, a, 0, 4, 2),
            ("fourth", 0, a, 0, 6, 2),
            ("fifth", 0, a, 0, 8, 2),
            ("repeat first", 0, a, 0, 0, 2),
            ("sixth", 0, a, 0, 10, 2),
            ("repeat sixth", 0, a, 0, 10, 2),
            ("repeat second", 0, a, 0, 2, 2),
            ("repeat first again", 0, a, 0, 0, 2),
            ("a part of the sixth", 0, a, 0, 10, 1),
            ("across", 0, a, 0, 9, 2),
            ("gap", 0, a, 0, 14, 1),
            ("next", 0, a, 0, 12, 1),
            ("new epoch, wrong start", 0, a, 1, 13, 1),
            ("new epoch", 0, a, 1, 0, 1),
            ("old epoch", 0, a, 0, 13, 1),
            ("old epoch, repeat", 0, a, 0, 12, 1),
            ("new epoch, repeat", 0, a, 1, 0, 1),
            ("skip an epoch", 0, a, 5, 0, 1),
            ("unknown, late start", 0, b, 0, 100, 1),
            ("unknown, next", 0, b, 0, 101, 1),
            ("unknown, late epoch", 0, c, 3, 7, 1),
            ("unknown, older epoch", 0, c, 2, 0, 1),
            ("other partition", 1, a, 0, 5, 1),
            ("wraps", 1, b, 0, i32::MAX - 1, 3),
            ("wraps, repeat", 1, b, 0, i32::MAX - 1, 3),
            ("wrapped, next", 1, b, 0, 1, 1),
            ("to the end", 1, c, 0, i32::MAX - 1, 2),
            ("from 0 again", 1, c, 0, 0, 1),
            ("negative epoch", 1, 1_000_004, -1, 0, 1),
        ] {
            let batch = Batch::of(&vec!["x"; count]).by(id, epoch, sequence).at(1_700_000_000_000);
            let answer = self.peer.ask(version, &produce_request("sequences", index, batch)).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(
                ("sequence", what),
                (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
            );
        }
    }

    async fn fetches(&mut self) {
        self.create("fetched", 2, &[]).await;
        for value in ["aaaa", "bbbb", "cccc"] {
            let request = produce_request("fetched", 0, Batch::of(&[value, value]));
            self.peer.ask(self.up_to::<ProduceRequest>(9), &request).await;
        }
        let size = Batch::of(&["aaaa", "aaaa"]).bytes().len() as i32;
        let newest = self.up_to::<FetchRequest>(12);
        let ids = self.peer.ask(self.up_to::<MetadataRequest>(12), &MetadataRequest::default().with_topics(None)).await;
        let id = ids.topics.iter().find(|topic| topic.name == Some(topic_name("fetched"))).unwrap().topic_id;
        let limited =
            |offset: i64, max: i32| fetch("fetched", vec![partition(0, offset).with_partition_max_bytes(max)]);
        let mut cases = vec![
            ("all", fetch("fetched", vec![partition(0, 0)])),
            ("within a batch", fetch("fetched", vec![partition(0, 3)])),
            ("at the end", fetch("fetched", vec![partition(0, 6)]).with_max_wait_ms(10)),
            ("beyond", fetch("fetched", vec![partition(0, 7)])),
            ("below", fetch("fetched", vec![partition(0, -1)])),
            ("no partition", fetch("fetched", vec![partition(7, 0)])),
            ("no topic", fetch("nowhere", vec![partition(0, 0)])),
            ("nothing", fetch("fetched", vec![])),
            ("limit 0", limited(0, 0)),
            ("limit 1", limited(0, 1)),
            ("one and a bit", limited(0, size + 7)),
            ("two", limited(2, 2 * size)),
            ("both, limit 1", fetch("fetched", vec![partition(0, 0), partition(1, 0)]).with_max_bytes(1)),
            (
                "both, two and a bit",
                fetch("fetched", vec![partition(1, 0), partition(0, 0)]).with_max_bytes(2 * size + 3),
            ),
            ("committed", fetch("fetched", vec![partition(0, 0)]).with_isolation_level(1)),
            ("committed, failed", fetch("fetched", vec![partition(0, 99)]).with_isolation_level(1)),
        ];
        if newest >= 9 {
            for epoch in [0, 1, 7] {
                let partition = partition(0, 0).with_current_leader_epoch(epoch);
                cases.push(("leader epoch", fetch("fetched", vec![partition])));
            }
        }
        if newest >= 12 {
            for (offset, epoch) in [(0, 0), (6, 0), (2, 5), (7, 0)] {
                let partition = partition(0, offset).with_last_fetched_epoch(epoch);
                cases.push(("fetched epoch", fetch("fetched", vec![partition]).with_max_wait_ms(10)));
            }
        }
        for (what, request) in cases {
            let answer = self.peer.ask(newest, &request).await;
            let said = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|p| {
                let epoch = (p.diverging_epoch.epoch, p.diverging_epoch.end_offset);
                let aborted = p.aborted_transactions.as_ref().map(Vec::len);
                let offsets = (p.high_watermark, p.last_stable_offset, p.log_start_offset);
                (
                    p.partition_index,
                    p.error_code,
                    offsets,
                    epoch,
                    aborted,
                    p.records.as_ref().map(|records| records.len()),
                )
            });
            let said: Vec<_> = said.collect();
            self.say(("fetch", what), (answer.error_code, answer.session_id, said));
        }
        for version in self.versions::<FetchRequest>() {
            for (what, offset, topic_id) in [("all", 0, id), ("beyond", 99, id), ("unknown id", 0, topic_id(3))] {
                let mut request = fetch("fetched", vec![partition(0, offset)]);
                if version >= 13 {
                    request.topics[0].topic_id = topic_id;
                    request.topics[0].topic = Default::default();
                }
                if version >= 15 {
                    request.replica_id = (-1).into();
                }
                let answer = self.peer.ask(version, &request).await;
                let data = &answer.responses[0].partitions[0];
                let length = data.records.as_ref().map(|records| records.len());
                self.say(
                    ("fetch", version, what),
                    (data.error_code, data.high_watermark, data.log_start_offset, length),
                );
            }
        }
        for (wait, min_bytes) in [(300, 1), (300, 0), (0, 1)] {
            let started = Instant::now();
            let request = fetch("fetched", vec![partition(0, 6)]).with_max_wait_ms(wait).with_min_bytes(min_bytes);
            self.peer.ask(newest, &request).await;
            self.say(("wait", wait, min_bytes), started.elapsed() >= Duration::from_millis(250));
        }
    }

    async fn sessions(&mut self) {
        self.create("session", 2, &[]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        self.peer.ask(produce, &produce_request("session", 0, Batch::of(&["a"]))).await;
        let version = self.up_to::<FetchRequest>(12);
        let wanted = |partitions| FetchTopic::default().with_topic(topic_name("session")).with_partitions(partitions);
        let request = |id: i32, epoch: i32, topics: Vec<FetchTopic>| {
            let request = FetchRequest::default().with_max_wait_ms(20).with_min_bytes(1).with_max_bytes(1 << 20);
            request.with_session_id(id).with_session_epoch(epoch).with_topics(topics)
        };
        let first = request(0, 0, vec![wanted(vec![partition(0, 0), partition(1, 0)])]);
        let id = self.peer.ask(version, &first).await.session_id;
        let forget = ForgottenTopic::default().with_topic(topic_name("session")).with_partitions(vec![1]);
        let steps = [
            ("position moved", request(id, 1, vec![wanted(vec![partition(0, 1)])])),
            ("nothing new", request(id, 2, vec![])),
            ("an error", request(id, 3, vec![wanted(vec![partition(0, 9)])])),
            ("the same error", request(id, 4, vec![])),
            ("no error any more", request(id, 5, vec![wanted(vec![partition(0, 1)])])),
            ("nothing new again", request(id, 6, vec![])),
            ("position back", request(id, 7, vec![wanted(vec![partition(0, 0)])])),
            ("data again", request(id, 8, vec![])),
            ("an unknown partition", request(id, 9, vec![wanted(vec![partition(5, 0)])])),
            ("old epoch", request(id, 9, vec![])),
            ("early epoch", request(id, 12, vec![])),
            ("unknown id", request(if id == 77 { 78 } else { 77 }, 10, vec![])),
            ("still there", request(id, 10, vec![wanted(vec![partition(0, 1)])])),
            ("forget", request(id, 11, vec![]).with_forgotten_topics_data(vec![forget])),
            ("close", request(id, -1, vec![wanted(vec![partition(0, 0)])])),
            ("closed", request(id, 12, vec![])),
        ];
        for (what, request) in steps {
            let answer = self.peer.ask(version, &request).await;
            let said = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|p| {
                (p.partition_index, p.error_code, p.high_watermark, p.records.as_ref().map(|records| records.len()))
            });
            let said: Vec<_> = said.collect();
            let session = if answer.session_id == id {
                "same"
            } else if answer.session_id == 0 {
                "none"
            } else {
                "other"
            };
            self.say(("session", what), (answer.error_code, session, said));
        }
    }

    async fn offsets_and_epochs(&mut self) {
        self.create("listed", 2, &[]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        for (values, time) in [(&["a", "b", "c"][..], 100_000), (&["d"], 50_000), (&["e", "f"], 200_000)] {
            self.peer.ask(produce, &produce_request("listed", 0, Batch::of(values).at(time))).await;
        }
        for version in self.versions::<ListOffsetsRequest>() {
            for index in [0, 1, 5] {
                for time in [0, 100_000, 100_002, 100_003, 200_001, 200_002, -1, -2, -3, -4, -5, -6] {
                    let asked = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(time);
                    let topic = ListOffsetsTopic::default().with_name(topic_name("listed"));
                    let topic = topic.with_partitions(vec![asked.with_current_leader_epoch(-1)]);
                    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                    let answer = self.peer.ask(version, &request).await;
                    let found = &answer.topics[0].partitions[0];
                    self.say(
                        ("list", version, index, time),
                        (found.error_code, found.timestamp, found.offset, found.leader_epoch),
                    );
                }
            }
        }
        if self.newest::<ListOffsetsRequest>() >= 4 {
            for epoch in [0, 1] {
                let asked = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
                let topic = ListOffsetsTopic::default().with_name(topic_name("listed"));
                let asked = asked.with_current_leader_epoch(epoch);
                let twice = topic.clone().with_partitions(vec![asked.clone(), asked.clone()]);
                for topic in [topic.with_partitions(vec![asked]), twice] {
                    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                    let answer = self.peer.ask(4, &request).await;
                    let said: Vec<_> =
                        answer.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.error_code, p.offset)).collect();
                    self.say(("list with epoch", epoch), said);
                }
            }
        }
        for version in self.versions::<OffsetForLeaderEpochRequest>() {
            for (index, current, epoch) in
                [(0, -1, 0), (0, -1, 1), (0, -1, -1), (0, 0, 0), (0, 3, 0), (1, -1, 0), (5, -1, 0)]
            {
                let asked =
                    OffsetForLeaderPartition::default().with_partition(index).with_current_leader_epoch(current);
                let topic = OffsetForLeaderTopic::default().with_topic(topic_name("listed"));
                let topic = topic.with_partitions(vec![asked.with_leader_epoch(epoch)]);
                let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
                let answer = self.peer.ask(version, &request).await;
                let end = &answer.topics[0].partitions[0];
                self.say(
                    ("end of epoch", version, index, current, epoch),
                    (end.error_code, end.leader_epoch, end.end_offset),
                );
            }
        }
    }

    async fn groups(&mut self) {
        self.create("committed", 2, &[]).await;
        for version in self.versions::<FindCoordinatorRequest>() {
            // The first answers of a real cluster may be that it makes the offsets topic.
            for _ in 0..100 {
                let error = if version >= 4 {
                    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()]);
                    self.peer.ask(version, &request).await.coordinators[0].error_code
                } else {
                    self.peer.ask(version, &FindCoordinatorRequest::default().with_key("g".into())).await.error_code
                };
                if error == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.say(("coordinator", version), "found");
        }
        let commit = |group: &str, topic: &str, index: i32, generation: i32, metadata: String| {
            let partition =
                OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(42);
            let partition = partition.with_committed_leader_epoch(0).with_committed_metadata(Some(metadata.into()));
            let topic =
                OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
            let group = StrBytes::from(group.to_owned());
            let request = OffsetCommitRequest::default().with_group_id(group.into()).with_topics(vec![topic]);
            request.with_generation_id_or_member_epoch(generation)
        };
        for version in self.versions::<OffsetCommitRequest>() {
            let mut request = commit("g", "committed", 0, -1, format!("v{version}"));
            if version < 6 {
                request.topics[0].partitions[0].committed_leader_epoch = -1;
            }
            let mut error = 14;
            for _ in 0..100 {
                error = self.peer.ask(version, &request).await.topics[0].partitions[0].error_code;
                if error != 14 {
                    break; // the coordinator has loaded
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.say(("commit", version), error);
        }
        let newest = self.up_to::<OffsetCommitRequest>(8);
        for (what, request) in [
            ("no group", commit("", "committed", 0, -1, String::new())),
            ("no topic", commit("g", "nowhere", 0, -1, String::new())),
            ("no partition", commit("g", "committed", 9, -1, String::new())),
            ("large metadata", commit("g", "committed", 1, -1, "x".repeat(4097))),
            ("largest metadata", commit("g", "committed", 1, -1, "x".repeat(4096))),
            ("a generation", commit("new", "committed", 0, 3, String::new())),
            ("a generation of a known group", commit("g", "committed", 0, 3, String::new())),
            ("a member", commit("g", "committed", 0, -1, String::new()).with_member_id("m".into())),
        ] {
            let answer = self.peer.ask(newest, &request).await;
            self.say(("commit", what), answer.topics[0].partitions[0].error_code);
        }
        for version in self.versions::<OffsetFetchRequest>().filter(|version| *version < 8) {
            let topic = OffsetFetchRequestTopic::default().with_name(topic_name("committed"));
            let topic = topic.with_partition_indexes(vec![0, 5]);
            let mut asked = vec![Some(vec![topic])];
            if version >= 2 {
                asked.push(None);
            }
            for (topics, group) in asked.into_iter().flat_map(|topics| [(topics.clone(), "g"), (topics, "nobody")]) {
                let group = StrBytes::from(group.to_owned());
                let request = OffsetFetchRequest::default().with_group_id(group.into()).with_topics(topics.clone());
                let answer = self.peer.ask(version, &request).await;
                let mut said = Vec::new();
                for p in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                    let length = p.metadata.as_ref().map(|metadata| metadata.len());
                    said.push((p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, length));
                }
                said.sort();
                self.say(("offsets", version, topics.is_some()), (answer.error_code, said));
            }
        }
    }

    async fn metadata(&mut self) {
        for version in self.versions::<MetadataRequest>() {
            let mut names = vec!["fetched", "nowhere", "no where", "", ".."];
            if version < 1 {
                names.truncate(2); // in this version real brokers take odd names for anything
            }
            for name in names {
                let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
                let request =
                    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
                let answer = self.peer.ask(version, &request).await;
                let said: Vec<_> = answer
                    .topics
                    .iter()
                    .map(|topic| {
                        let id = version >= 10 && !topic.topic_id.is_nil();
                        let partitions: Vec<_> = topic
                            .partitions
                            .iter()
                            .map(|p| {
                                (
                                    p.partition_index,
                                    p.error_code,
                                    p.leader_epoch,
                                    p.replica_nodes.len(),
                                    p.isr_nodes.len(),
                                )
                            })
                            .collect();
                        (topic.error_code, topic.name.as_ref().map(|name| name.to_string()), id, partitions)
                    })
                    .map(|mut said| {
                        said.3.sort();
                        said
                    })
                    .collect();
                self.say(("metadata", version, name), (answer.brokers.len(), answer.error_code, said));
            }
        }
        if self.newest::<MetadataRequest>() >= 12 {
            let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(topic_id(5));
            let answer = self.peer.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).await;
            let topic = &answer.topics[0];
            self.say(
                "metadata of an unknown id",
                (topic.error_code, topic.name.is_none(), topic.topic_id.as_bytes() == &[5; 16]),
            );
        }
        if self.newest::<MetadataRequest>() >= 10 {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name("fetched")));
            let request = MetadataRequest::default()
                .with_topics(Some(vec![topic]))
                .with_include_topic_authorized_operations(true);
            let answer = self.peer.ask(10, &request.with_include_cluster_authorized_operations(true)).await;
            self.say(
                "operations",
                (answer.cluster_authorized_operations, answer.topics[0].topic_authorized_operations),
            );
        }
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
