//! Groups under KIP-848 whose members fall silent, do not give back, and change coordinators, in virtual time. What every
//! broker answers to whom is in `agreement/consumer_groups.rs`.

use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    OffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use milena::mock::{Api, Fault, KafkaRelease, MockCluster, When};
use tokio::time::sleep;

use crate::harness::{Peer, in_memory, topic_name};

const NOT_COORDINATOR: i16 = 16;
const UNKNOWN_MEMBER_ID: i16 = 25;
const UNSUPPORTED_VERSION: i16 = 35;
const FENCED_MEMBER_EPOCH: i16 = 110;
const STALE_MEMBER_EPOCH: i16 = 113;

const SECOND: Duration = Duration::from_secs(1);
const SESSION: Duration = Duration::from_secs(45);
const REBALANCE_MS: i32 = 20_000;

/// A member of the group `g`, on a connection of its own.
struct Member {
    peer: Peer,
    id: &'static str,
    epoch: i32,
    instance: Option<&'static str>,
    /// Partitions of the topic `t`, as the coordinator has told.
    assigned: Vec<i32>,
    topic: [u8; 16],
}

impl Member {
    async fn of(cluster: &MockCluster, broker: i32, id: &'static str) -> Self {
        let peer = Peer::connect(cluster, broker).await;
        Self { peer, id, epoch: 0, instance: None, assigned: Vec::new(), topic: [0; 16] }
    }

    fn silent(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(StrBytes::from("g").into())
            .with_member_id(self.id.into())
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.map(Into::into))
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None)
    }

    async fn ask(&mut self, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let answer = self.peer.ask(1, &request).await;
        if answer.error_code == 0 {
            self.epoch = answer.member_epoch;
        }
        if let Some(assignment) = &answer.assignment {
            self.assigned = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
            self.topic = assignment.topic_partitions.first().map_or(self.topic, |topic| *topic.topic_id.as_bytes());
        }
        answer
    }

    async fn join(&mut self) -> ConsumerGroupHeartbeatResponse {
        let request = self.silent().with_member_epoch(0).with_rebalance_timeout_ms(REBALANCE_MS);
        let names = Some(vec![topic_name("t")]);
        self.ask(request.with_subscribed_topic_names(names).with_topic_partitions(Some(Vec::new()))).await
    }

    async fn alive(&mut self) -> i16 {
        self.ask(self.silent()).await.error_code
    }

    /// Says that it has what it was told, and no more.
    async fn has(&mut self) -> i16 {
        let partitions = TopicPartitions::default().with_partitions(self.assigned.clone());
        let partitions = partitions.with_topic_id(self.topic.to_vec().try_into().unwrap_or_default());
        let owned = if self.assigned.is_empty() { Vec::new() } else { vec![partitions] };
        self.ask(self.silent().with_topic_partitions(Some(owned))).await.error_code
    }

    async fn commit(&mut self, epoch: i32, partitions: &[i32]) -> Vec<i16> {
        let partition = |index: &i32| OffsetCommitRequestPartition::default().with_partition_index(*index);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t"));
        let topic = topic.with_partitions(partitions.iter().map(partition).collect());
        let request = OffsetCommitRequest::default().with_group_id(StrBytes::from("g").into()).with_topics(vec![topic]);
        let request = request.with_member_id(self.id.into()).with_generation_id_or_member_epoch(epoch);
        self.peer.ask(9, &request).await.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    }

    /// The state of the group, and its members with their epochs and partitions.
    async fn describe(&mut self) -> String {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![StrBytes::from("g").into()]);
        let answer = self.peer.ask(1, &request).await;
        let group = &answer.groups[0];
        let members = group.members.iter().map(|member| {
            let topics = member.assignment.topic_partitions.iter();
            let partitions: Vec<i32> = topics.flat_map(|topic| topic.partitions.clone()).collect();
            format!(", {} at {} has {partitions:?}", member.member_id.as_str(), member.member_epoch)
        });
        format!("{} {}{}", group.group_state.as_str(), group.group_epoch, members.collect::<String>())
    }
}

/// A group of two, on the first broker: the first has partitions 0 and 1, the second 2 and 3.
async fn two(cluster: &MockCluster) -> (Member, Member) {
    cluster.create_topic("t", 4);
    cluster.move_coordinator("g", 1);
    let (mut a, mut b) = (Member::of(cluster, 1, "a").await, Member::of(cluster, 1, "b").await);
    a.join().await;
    b.join().await;
    sleep(SECOND).await;
    a.alive().await;
    a.has().await;
    b.alive().await;
    assert_eq!(a.describe().await, "Stable 3, a at 3 has [0, 1], b at 3 has [2, 3]");
    (a, b)
}

#[tokio::test(start_paused = true)]
async fn who_falls_silent_is_out() {
    let cluster = in_memory(1).await;
    let (mut a, mut b) = two(&cluster).await;
    sleep(SESSION - SECOND).await;
    assert_eq!(a.ask(a.silent()).await.heartbeat_interval_ms, 5_000);
    sleep(SECOND / 2).await;
    assert_eq!(b.describe().await, "Stable 3, a at 3 has [0, 1], b at 3 has [2, 3]");
    sleep(SECOND / 2).await;
    assert_eq!(a.describe().await, "Assigning 4, a at 3 has [0, 1]");
    assert_eq!(b.alive().await, UNKNOWN_MEMBER_ID);
    assert_eq!(a.alive().await, 0);
    assert_eq!((a.epoch, &*a.assigned), (4, [0, 1, 2, 3].as_slice()));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_give_back_is_out() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 4);
    let (mut a, mut b) = (Member::of(&cluster, 1, "a").await, Member::of(&cluster, 1, "b").await);
    a.join().await;
    b.join().await;
    sleep(SECOND).await;
    a.alive().await;
    assert_eq!(a.assigned, [0, 1]);
    for _ in 0..19 {
        // It says that it is alive, and not that it has given anything back.
        sleep(SECOND).await;
        assert_eq!((a.alive().await, b.alive().await), (0, 0));
        assert_eq!((a.epoch, &*b.assigned), (2, [].as_slice()));
    }
    assert_eq!(b.describe().await, "Reconciling 3, a at 2 has [0, 1, 2, 3], b at 3 has []");
    sleep(SECOND).await;
    assert_eq!(a.alive().await, UNKNOWN_MEMBER_ID);
    b.alive().await;
    assert_eq!(b.describe().await, "Stable 4, b at 4 has [0, 1, 2, 3]");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_knows_all_and_gives_everybody_time() {
    let cluster = in_memory(2).await;
    let (mut a, b) = two(&cluster).await;
    sleep(SESSION - SECOND).await;
    cluster.move_coordinator("g", 2);
    assert_eq!(a.alive().await, NOT_COORDINATOR);
    sleep(SESSION - SECOND).await;
    for mut member in [a, b] {
        member.peer = Peer::connect(&cluster, 2).await;
        assert_eq!(member.commit(3, &[0]).await, [0]);
        assert_eq!(member.has().await, 0);
        assert_eq!(member.describe().await, "Stable 3, a at 3 has [0, 1], b at 3 has [2, 3]");
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_got_lost_can_be_asked_for_again() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut a = Member::of(&cluster, 1, "a").await;
    cluster.inject(When::api(Api::ConsumerGroupHeartbeat).times(1), Fault::lose_answer());
    let joins = a.silent().with_rebalance_timeout_ms(REBALANCE_MS).with_topic_partitions(Some(Vec::new()));
    let joins = joins.with_subscribed_topic_names(Some(vec![topic_name("t")]));
    assert!(a.peer.try_ask(1, &joins).await.is_none());
    a.peer = Peer::connect(&cluster, 1).await;
    assert_eq!(a.join().await.error_code, 0);
    assert_eq!(a.describe().await, "Stable 2, a at 2 has [0, 1]");
    a.epoch = 1;
    assert_eq!(a.alive().await, FENCED_MEMBER_EPOCH);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_epoch_that_has_passed_is_good_for_what_a_member_had_in_it() {
    for (release, first, expected) in [
        (KafkaRelease::V4_0, 1, [vec![STALE_MEMBER_EPOCH], vec![STALE_MEMBER_EPOCH; 2]]),
        (KafkaRelease::V4_1, 2, [vec![0], vec![STALE_MEMBER_EPOCH; 2]]),
    ] {
        let cluster = MockCluster::builder().release(release).in_memory().start().await;
        cluster.create_topic("t", 4);
        let (mut a, mut b) = (Member::of(&cluster, 1, "a").await, Member::of(&cluster, 1, "b").await);
        a.join().await;
        assert_eq!(a.epoch, first);
        sleep(SECOND).await;
        b.join().await;
        a.alive().await;
        a.has().await;
        assert_eq!((a.epoch, &*a.assigned), (first + 1, [0, 1].as_slice()));
        assert_eq!(a.commit(first + 1, &[0, 1]).await, [0, 0]);
        assert_eq!([a.commit(first, &[0]).await, a.commit(first, &[0, 2]).await], expected, "{release}");
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_come_together_are_assigned_to_together() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 6);
    let mut members = Vec::new();
    for id in ["a", "b", "c"] {
        let mut member = Member::of(&cluster, 1, id).await;
        member.join().await;
        members.push(member);
    }
    assert_eq!(members[0].assigned, [0, 1, 2, 3, 4, 5]);
    assert_eq!(members[0].describe().await, "Assigning 4, a at 2 has [0, 1, 2, 3, 4, 5], b at 2 has [], c at 2 has []");
    sleep(SECOND).await;
    for member in &mut members {
        member.alive().await;
        member.has().await;
    }
    assert_eq!(members[0].describe().await, "Stable 4, a at 4 has [0, 1], b at 4 has [2, 3], c at 4 has [4, 5]");
    cluster.close().await;
    let cluster = MockCluster::builder().in_memory().consumer_assignment_interval(Duration::ZERO).start().await;
    cluster.create_topic("t", 2);
    let (mut a, mut b) = (Member::of(&cluster, 1, "a").await, Member::of(&cluster, 1, "b").await);
    a.join().await;
    b.join().await;
    a.alive().await;
    assert_eq!(a.assigned, [0]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_does_not_come_back_is_out() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut a = Member::of(&cluster, 1, "a").await;
    a.instance = Some("i");
    a.join().await;
    assert_eq!(a.ask(a.silent().with_member_epoch(-2)).await.member_epoch, -2);
    sleep(SESSION - SECOND).await;
    assert_eq!(a.describe().await, "Reconciling 2, a at -2 has [0, 1]");
    sleep(SECOND).await;
    assert_eq!(a.describe().await, "Empty 3");
    cluster.close().await;
}

/// What a broker says of consumer groups in ApiVersions: the API, and its finalized feature.
async fn offered(cluster: &MockCluster) -> (Option<i16>, Vec<(String, i16)>) {
    let mut peer = Peer::connect(cluster, 1).await;
    let request = ApiVersionsRequest::default().with_client_software_name("harness".into());
    let answer = peer.ask(3, &request.with_client_software_version("1".into())).await;
    let api = answer.api_keys.iter().find(|entry| entry.api_key == Api::ConsumerGroupHeartbeat.key());
    let features = answer.finalized_features.iter();
    let features = features.map(|feature| (feature.name.to_string(), feature.max_version_level));
    (api.map(|entry| entry.max_version), features.filter(|(name, _)| name == "group.version").collect())
}

#[tokio::test(start_paused = true)]
async fn clusters_without_kip_848() {
    let builder = || MockCluster::builder().in_memory();
    for (builder, expected) in [
        (builder(), Some((1, 1))),
        (builder().classic_groups_only(), Some((1, 0))),
        (builder().release(KafkaRelease::V4_0), Some((1, 1))),
        (builder().release(KafkaRelease::V3_9), Some((0, 0))),
        (builder().release(KafkaRelease::V2_8), None),
        (builder().without(Api::ConsumerGroupHeartbeat), None),
    ] {
        let cluster = builder.start().await;
        cluster.create_topic("t", 1);
        let (version, features) = offered(&cluster).await;
        assert_eq!(version, expected.map(|(version, _)| version));
        if let Some((version, level)) = expected {
            let on = level > 0;
            assert_eq!(features.iter().any(|(_, level)| *level == 1), on);
            let mut member = Member::of(&cluster, 1, "a").await;
            let joins = member.silent().with_rebalance_timeout_ms(1).with_topic_partitions(Some(Vec::new()));
            let joins = joins.with_subscribed_topic_names(Some(vec![topic_name("t")]));
            let answer = member.peer.ask(version, &joins).await;
            assert_eq!(answer.error_code, if on { 0 } else { UNSUPPORTED_VERSION });
        }
        cluster.close().await;
    }
}
