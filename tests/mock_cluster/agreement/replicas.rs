//! Followers that lag behind: on a real cluster a process that is stopped, on the mock one that is held back.
//!
//! ```text
//! scripts/kafka run --brokers 3 -- cargo test --test mock_cluster as_on_real_brokers
//! ```

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, ElectLeadersRequest, MetadataRequest, ProduceRequest,
    ProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use milena::mock::{KafkaRelease, MockCluster};
use tokio::time::timeout;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, produce_request, topic_name};
use crate::replicas::offset_at;

use super::{Interview, dial};

const TOPICS: [(&str, &str); 2] = [("lenient", "1"), ("strict", "2")];

/// Who holds a follower back.
enum Side<'a> {
    Mock(&'a MockCluster),
    Real,
}

impl Side<'_> {
    fn signal(&self, signal: &str) {
        let script = std::env::var("KAFKA_SCRIPT").unwrap();
        let done = Command::new(script).args(["kill", &std::env::var("KAFKA_NAME").unwrap(), "2", signal]).status();
        assert!(done.unwrap().success());
    }

    fn each(&self, act: impl Fn(&MockCluster, &str)) {
        if let Self::Mock(mock) = self {
            TOPICS.iter().for_each(|(topic, _)| act(mock, topic));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_as_on_real_brokers() {
    let real = std::env::var("KAFKA_BOOTSTRAP").ok().filter(|_| std::env::var("KAFKA_BROKERS").is_ok_and(|n| n == "3"));
    let old = std::env::var("KAFKA_VERSION").is_ok_and(|version| version.starts_with('2'));
    let release = if old { KafkaRelease::V2_8 } else { KafkaRelease::V4_1 };
    // A real leader takes this long, at most, to give up on a follower.
    let patience = if real.is_some() { 20_000 } else { 300 };
    let mock = MockCluster::builder().brokers(3).release(release).start().await;
    let first = mock.bootstrap()[0].clone();
    let answers = conversation(Side::Mock(&mock), &first, patience).await;
    mock.close().await;
    if let Some(real) = real {
        let first = real.split(',').next().unwrap();
        assert_eq!(answers, conversation(Side::Real, first, patience).await, "left: mock, right: real");
    }
}

/// P5: what a leader appended, and was waiting with for a follower when it was deposed, it refuses as one that never had it,
/// but for the offset.
#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_leader_as_on_real_brokers() {
    let real = std::env::var("KAFKA_BOOTSTRAP").ok().filter(|_| std::env::var("KAFKA_BROKERS").is_ok_and(|n| n == "3"));
    let real = real.filter(|_| !std::env::var("KAFKA_VERSION").is_ok_and(|version| version.starts_with('2')));
    let mock = MockCluster::builder().brokers(3).release(KafkaRelease::V4_1).start().await;
    let answers = deposed(Side::Mock(&mock), &mock.bootstrap()[0]).await;
    // NOT_LEADER_OR_FOLLOWER, the offset all the same, and who leads now.
    assert_eq!(answers, ["\"deposed\": (6, 1, 3)", "\"never had it\": (6, -1, 3)"]);
    mock.close().await;
    if let Some(real) = real {
        assert_eq!(answers, deposed(Side::Real, real.split(',').next().unwrap()).await, "left: mock, right: real");
    }
}

async fn deposed(side: Side<'_>, address: &str) -> Vec<String> {
    let (newest, lines) = Default::default();
    let mut interview = Interview { peer: dial(address).await, address: address.to_owned(), newest, lines };
    interview.api_versions().await;
    interview.lines.clear();
    interview.assigned("deposed", [1, 2, 3], "1").await;
    interview.write("deposed", "a", -1, 5_000).await;
    interview.lines.clear();
    match side {
        Side::Mock(mock) => mock.hold_follower("deposed", 0, 2),
        Side::Real => side.signal("STOP"),
    }
    let mut waiting = dial(address).await;
    let asked = |value| produce_request("deposed", 0, Batch::of(&[value])).with_timeout_ms(60_000);
    waiting.send(11, &asked("b")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    match side {
        Side::Mock(mock) => mock.move_leader("deposed", 0, 3),
        Side::Real => interview.prefer("deposed", [3, 1, 2]).await,
    }
    let answer = timeout(Duration::from_secs(30), waiting.receive::<ProduceRequest>(11)).await.unwrap();
    interview.refused("deposed", &answer);
    let answer = waiting.ask(11, &asked("c")).await;
    interview.refused("never had it", &answer);
    if let Side::Real = side {
        side.signal("CONT");
    }
    interview.lines
}

async fn conversation(side: Side<'_>, address: &str, patience: i32) -> Vec<String> {
    let mut interview = Interview {
        peer: dial(address).await,
        address: address.to_owned(),
        newest: BTreeMap::new(),
        lines: Vec::new(),
    };
    interview.api_versions().await;
    interview.lines.clear();
    for (topic, min_insync) in TOPICS {
        interview.replicated(topic, min_insync).await;
        interview.write(topic, "a", -1, 5_000).await;
    }
    match side {
        Side::Mock(_) => side.each(|mock, topic| mock.hold_follower(topic, 0, 2)),
        Side::Real => side.signal("STOP"),
    }
    let mut waiting: Vec<Peer> = Vec::new();
    for (topic, _) in TOPICS {
        interview.write(topic, "b", -1, 500).await;
        interview.look(topic, "held").await;
        let mut peer = dial(address).await;
        peer.send(7, &produce_request(topic, 0, Batch::of(&["c"])).with_timeout_ms(patience)).await;
        waiting.push(peer);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    side.each(|mock, topic| mock.drop_from_isr(topic, 0, 2));
    for (peer, (topic, _)) in waiting.iter_mut().zip(TOPICS) {
        let answer = timeout(Duration::from_secs(60), peer.receive::<ProduceRequest>(7)).await.unwrap();
        let said = &answer.responses[0].partition_responses[0];
        interview.say(("waited", topic), (said.error_code, said.base_offset));
    }
    for (topic, _) in TOPICS {
        interview.in_sync(topic, 1).await;
        interview.write(topic, "d", -1, 1_000).await;
        interview.write(topic, "e", 1, 1_000).await;
        interview.look(topic, "dropped").await;
    }
    match side {
        Side::Mock(_) => side.each(|mock, topic| mock.release_follower(topic, 0, 2)),
        Side::Real => side.signal("CONT"),
    }
    for (topic, _) in TOPICS {
        interview.in_sync(topic, 2).await;
        tokio::time::sleep(Duration::from_millis(if patience > 1000 { 1000 } else { 0 })).await;
        interview.look(topic, "released").await;
        interview.write(topic, "f", -1, 5_000).await;
    }
    interview.lines
}

impl Interview {
    /// Makes a topic on brokers 1 and 2, and waits for its leader.
    async fn replicated(&mut self, topic: &str, min_insync: &str) {
        self.assigned(topic, [1, 2], min_insync).await;
    }

    async fn assigned<const N: usize>(&mut self, topic: &str, replicas: [i32; N], min_insync: &str) {
        let name = StrBytes::from_static_str("min.insync.replicas");
        let config = CreatableTopicConfig::default().with_name(name);
        let config = config.with_value(Some(StrBytes::from(min_insync.to_owned())));
        let assigned = CreatableReplicaAssignment::default().with_broker_ids(replicas.map(Into::into).into());
        let created = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assigned])
            .with_configs(vec![config]);
        let request = CreateTopicsRequest::default().with_topics(vec![created]).with_timeout_ms(10_000);
        // Only the controller of an old cluster makes topics, and it may be any of them.
        let all = std::env::var("KAFKA_BOOTSTRAP").unwrap_or_default();
        let all: Vec<_> = all.split(',').filter(|_| all.contains(&self.address)).chain([&*self.address]).collect();
        for address in all {
            let answer = dial(address).await.ask(4, &request).await;
            if answer.topics[0].error_code != 41 {
                assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
                break;
            }
        }
        self.until_led(topic).await;
        self.in_sync(topic, N).await;
    }

    /// The first of these replicas becomes the leader. The controller may have to be elected before.
    async fn prefer(&mut self, topic: &str, replicas: [i32; 3]) {
        let partition = ReassignablePartition::default()
            .with_replicas(Some(replicas.map(Into::into).into()))
            .with_partition_index(0);
        let moved = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let reassign = AlterPartitionReassignmentsRequest::default().with_topics(vec![moved]).with_timeout_ms(10_000);
        let named = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![0]);
        let elect = ElectLeadersRequest::default().with_topic_partitions(Some(vec![named])).with_timeout_ms(10_000);
        for _ in 0..100 {
            self.peer.ask(0, &reassign).await;
            let elected = self.peer.ask(2, &elect).await;
            let results = elected.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
            // ELECTION_NOT_NEEDED: it has been done.
            if elected.error_code == 0 && results.clone().all(|result| [0, 84].contains(&result.error_code)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("no other leader");
    }

    fn refused(&mut self, what: &str, answer: &ProduceResponse) {
        let said = &answer.responses[0].partition_responses[0];
        self.say(what, (said.error_code, said.base_offset, said.current_leader.leader_id.0));
    }

    async fn write(&mut self, topic: &str, value: &str, acks: i16, timeout_ms: i32) {
        let request = produce_request(topic, 0, Batch::of(&[value])).with_acks(acks).with_timeout_ms(timeout_ms);
        let answer = self.peer.ask(7, &request).await;
        let said = &answer.responses[0].partition_responses[0];
        self.say(("write", topic, value, acks), (said.error_code, said.base_offset));
    }

    /// What a consumer sees.
    async fn look(&mut self, topic: &str, what: &str) {
        for offset in 0..7 {
            let request = fetch(topic, vec![partition(0, offset)]).with_max_wait_ms(0);
            let answer = self.peer.ask(11, &request).await;
            let data = &answer.responses[0].partitions[0];
            let length = data.records.as_ref().map_or(0, |records| records.len());
            self.say((what, topic, offset), (data.error_code, data.high_watermark, length));
        }
        for time in [-1, -2, 0] {
            let found = offset_at(&mut self.peer, topic, time, 0, 5).await;
            self.say((what, topic, "at", time), found);
        }
    }

    /// Waits until so many replicas are in sync.
    async fn in_sync(&mut self, topic: &str, count: usize) {
        use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
        for _ in 0..300 {
            let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
            let answer = self.peer.ask(7, &MetadataRequest::default().with_topics(Some(vec![asked]))).await;
            if answer.topics[0].partitions[0].isr_nodes.len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {count} replicas of {topic} are in sync");
    }
}
