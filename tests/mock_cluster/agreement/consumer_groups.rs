//! Groups under KIP-848, and what administrators do with groups of either protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, DeleteGroupsRequest,
    DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::sleep;

use super::Interview;
use super::members::{enter, heartbeat, id, join, sync, text};
use crate::harness::topic_name;

/// For how long a group keeps an assignment at least (KIP-1263).
const INTERVAL: Duration = Duration::from_millis(1_100);
/// In which a coordinator hears of what has become of topics, and matches expressions with them.
const HEARS: Duration = Duration::from_millis(500);

/// A member, and what it says of itself.
#[derive(Clone)]
struct Member {
    group: &'static str,
    id: StrBytes,
    epoch: i32,
    instance: Option<&'static str>,
    topics: Vec<&'static str>,
    assignor: Option<&'static str>,
    rebalance_ms: i32,
}

impl Member {
    fn of(group: &'static str, id: &str) -> Self {
        let topics = vec!["g848"];
        Self { group, id: text(id), epoch: 0, instance: None, topics, assignor: None, rebalance_ms: 60_000 }
    }

    /// All that a member says when it joins.
    fn joins(&self) -> ConsumerGroupHeartbeatRequest {
        self.silent()
            .with_member_epoch(0)
            .with_rebalance_timeout_ms(self.rebalance_ms)
            .with_subscribed_topic_names(Some(self.topics.iter().map(|topic| topic_name(topic)).collect()))
            .with_server_assignor(self.assignor.map(text))
            .with_topic_partitions(Some(Vec::new()))
    }

    /// A heartbeat that says nothing new.
    fn silent(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(id(self.group))
            .with_member_id(self.id.clone())
            .with_member_epoch(self.epoch)
            .with_instance_id(self.instance.map(text))
            .with_rebalance_timeout_ms(-1)
            .with_subscribed_topic_names(None)
            .with_topic_partitions(None)
    }

    fn leaves(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        self.silent().with_member_epoch(epoch)
    }
}

/// What brokers and their topics are called here.
#[derive(Default)]
struct Names(BTreeMap<[u8; 16], String>);

impl Names {
    fn shown(&self, topic: impl AsRef<[u8]>, partitions: &[i32]) -> String {
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        let known = <[u8; 16]>::try_from(topic.as_ref()).ok().and_then(|id| self.0.get(&id));
        format!("{}{partitions:?}", known.map_or("?", |name| name))
    }

    fn owned(&self, topic: &str, partitions: &[i32]) -> Option<Vec<TopicPartitions>> {
        let (id, _) = self.0.iter().find(|(_, name)| *name == topic).unwrap();
        let id = id.to_vec().try_into().unwrap_or_default();
        Some(vec![TopicPartitions::default().with_topic_id(id).with_partitions(partitions.to_vec())])
    }
}

impl Interview {
    pub(super) async fn consumer_groups(&mut self) {
        self.create("g848", 4, &[]).await;
        self.create("g848-other", 2, &[]).await;
        // Real brokers make the topic of coordinators for the first who looks for one.
        let find = FindCoordinatorRequest::default().with_key(text("g848-first"));
        self.peer.ask(1, &find).await;
        let version = self.up_to::<JoinGroupRequest>(9);
        enter(&mut self.peer, version, join(version, "g848-first", "", &[("range", "m")])).await;
        self.deleted_groups().await;
        if self.newest::<ConsumerGroupHeartbeatRequest>() < 0 {
            return;
        }
        let names = self.names().await;
        self.refused_heartbeats(&names).await;
        if self.newest::<ConsumerGroupHeartbeatRequest>() < 1 {
            return;
        }
        for version in self.versions::<ConsumerGroupHeartbeatRequest>() {
            self.one_consumer(version, &names).await;
        }
        self.two_consumers(&names).await;
        self.ranges(&names).await;
        self.differing_subscriptions(&names).await;
        self.static_consumers(&names).await;
        self.who_does_not_revoke(&names).await;
        self.changing_topics().await;
        self.changed_protocols(&names).await;
        self.expressions_and_sessions().await;
    }

    async fn names(&mut self) -> Names {
        let version = self.up_to::<MetadataRequest>(12);
        let answer = self.peer.ask(version, &MetadataRequest::default().with_topics(None)).await;
        let named = answer.topics.iter().filter_map(|t| Some((*t.topic_id.as_bytes(), t.name.as_ref()?.to_string())));
        Names(named.collect())
    }

    /// Says what a member is told, and has it move to its new epoch.
    async fn beat(&mut self, what: &str, member: &mut Member, request: &ConsumerGroupHeartbeatRequest, names: &Names) {
        let version = self.newest::<ConsumerGroupHeartbeatRequest>();
        self.beat_as(version, what, member, request, names).await;
    }

    async fn beat_as(
        &mut self,
        version: i16,
        what: &str,
        member: &mut Member,
        request: &ConsumerGroupHeartbeatRequest,
        names: &Names,
    ) {
        let answer = self.peer.ask(version, request).await;
        let assigned = answer.assignment.map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            let mut shown: Vec<_> = topics.map(|topic| names.shown(topic.topic_id, &topic.partitions)).collect();
            shown.sort();
            shown.join(" ")
        });
        let message = answer.error_message.as_deref().unwrap_or_default();
        // Its member ids, and the words of its library of regular expressions, are each broker's own.
        let message = message.split(" is not a valid regular expression").next().unwrap_or_default();
        let is_own = answer.member_id.as_ref().is_some_and(|id| *id == request.member_id);
        let told = (answer.error_code, is_own, answer.member_epoch, answer.heartbeat_interval_ms);
        self.say((member.group, what), (told, assigned, message));
        if answer.error_code == 0 {
            member.epoch = answer.member_epoch;
            member.id = answer.member_id.unwrap_or_default();
        }
    }

    /// What administrators see.
    async fn describe_consumers(&mut self, group: &str, names: &Names) {
        for version in self.versions::<ConsumerGroupDescribeRequest>() {
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(group)]);
            let request = request.with_include_authorized_operations(version == 1);
            let answer = self.peer.ask(version, &request).await;
            let described = &answer.groups[0];
            let shown = |topics: &[kafka_protocol::messages::consumer_group_describe_response::TopicPartitions]| {
                let mut shown: Vec<_> = topics.iter().map(|t| names.shown(t.topic_id, &t.partitions)).collect();
                shown.sort();
                shown.join(" ")
            };
            let mut members: Vec<_> = described
                .members
                .iter()
                .map(|m| {
                    let mut topics: Vec<_> = m.subscribed_topic_names.iter().map(|name| name.to_string()).collect();
                    topics.sort();
                    format!(
                        "{:?} {:?} epoch {} {} {} {topics:?} {:?} has {} gets {} type {}",
                        m.instance_id,
                        m.rack_id,
                        m.member_epoch,
                        m.client_id.as_str(),
                        m.client_host.as_str(),
                        m.subscribed_topic_regex,
                        shown(&m.assignment.topic_partitions),
                        shown(&m.target_assignment.topic_partitions),
                        m.member_type,
                    )
                })
                .collect();
            members.sort();
            let (state, assignor) = (described.group_state.as_str(), described.assignor_name.as_str());
            let epochs = (described.group_epoch, described.assignment_epoch);
            let error = (described.error_code, described.error_message.as_deref());
            self.say((group, version), (error, state, assignor, epochs, described.authorized_operations, members));
        }
        let request = DescribeGroupsRequest::default().with_groups(vec![id(group)]);
        for version in [5, self.newest::<DescribeGroupsRequest>()] {
            let answer = self.peer.ask(version, &request).await;
            let classic = &answer.groups[0];
            let words =
                (classic.group_state.as_str(), classic.protocol_type.as_str(), classic.error_message.as_deref());
            self.say((group, "to DescribeGroups", version), (classic.error_code, words));
        }
        for kind in ["", "consumer", "Classic"] {
            let filter = Some(text(kind)).filter(|kind| !kind.is_empty());
            let request = ListGroupsRequest::default().with_types_filter(filter.into_iter().collect());
            let answer = self.peer.ask(5, &request).await;
            let listed = answer.groups.iter().find(|listed| *listed.group_id == *group);
            let listed = listed.map(|l| (l.protocol_type.as_str(), l.group_state.as_str(), l.group_type.as_str()));
            self.lines.push(format!("{group} is listed as {kind:?}: {listed:?}"));
        }
    }

    async fn refused_heartbeats(&mut self, names: &Names) {
        for version in self.versions::<ConsumerGroupHeartbeatRequest>() {
            let member = Member::of("refused-848", "m");
            let (joins, beats) = (member.joins(), member.silent().with_member_epoch(7));
            let known = Member::of("refused-known", "m");
            self.beat_as(version, "comes", &mut known.clone(), &known.joins(), names).await;
            if self.newest::<ConsumerGroupHeartbeatRequest>() < 1 {
                let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id("refused-known"), id("")]);
                let answer = self.peer.ask(0, &request).await;
                let codes: Vec<_> = answer.groups.iter().map(|g| (g.error_code, g.error_message.clone())).collect();
                self.say("described", codes);
                return;
            }
            let regex = |regex: &str| known.joins().with_subscribed_topic_regex(Some(text(regex)));
            for (what, request) in [
                ("no group", joins.clone().with_group_id(id(""))),
                ("no member id later", beats.clone().with_member_id(text(""))),
                ("no member id to leave", member.leaves(-1).with_member_id(text(" "))),
                ("an empty instance", joins.clone().with_instance_id(Some(text("")))),
                ("an empty rack", joins.clone().with_rack_id(Some(text(" ")))),
                ("no rebalance timeout", joins.clone().with_rebalance_timeout_ms(-1)),
                ("does not say what it has", joins.clone().with_topic_partitions(None)),
                ("has something", joins.clone().with_topic_partitions(names.owned("g848", &[0]))),
                ("subscribes to nothing", joins.clone().with_subscribed_topic_names(None)),
                ("a dynamic member leaves for now", member.leaves(-2)),
                ("epoch -3", member.leaves(-3)),
                ("another assignor", joins.clone().with_server_assignor(Some(text("sticky")))),
                ("unknown group", beats.clone()),
                ("leaves an unknown group", member.leaves(-1)),
                ("an instance leaves an unknown group", member.leaves(-2).with_instance_id(Some(text("i")))),
                ("unknown member", beats.clone().with_group_id(id("refused-known")).with_member_id(text("n"))),
                (
                    "an unknown member leaves",
                    member.leaves(-1).with_group_id(id("refused-known")).with_member_id(text("n")),
                ),
                ("a greater epoch", beats.clone().with_group_id(id("refused-known"))),
                ("a smaller epoch", beats.clone().with_group_id(id("refused-known")).with_member_epoch(1)),
                (
                    "an unknown instance",
                    beats.clone().with_group_id(id("refused-known")).with_instance_id(Some(text("i"))),
                ),
            ] {
                self.beat_as(version, what, &mut member.clone(), &request, names).await;
            }
            if version >= 1 {
                for bad in ["(", "a)(b", "*", "[z-a]"] {
                    self.beat_as(version, bad, &mut known.clone(), &regex(bad), names).await;
                }
            }
            let none = member.joins().with_member_id(text("")).with_group_id(id("refused-nameless"));
            self.beat_as(version, "no member id", &mut member.clone(), &none, names).await;
        }
    }

    /// All that one member does.
    async fn one_consumer(&mut self, version: i16, names: &Names) {
        let group = if version == 0 { "one-848-0" } else { "one-848-1" };
        let mut m = Member::of(group, "m");
        let joins = m.joins().with_rack_id(Some(text("r")));
        self.beat_as(version, "joins", &mut m, &joins, names).await;
        self.describe_consumers(group, names).await;
        let silent = m.silent();
        self.beat_as(version, "alive", &mut m, &silent, names).await;
        let owned = m.silent().with_topic_partitions(names.owned("g848", &[0, 1, 2, 3]));
        self.beat_as(version, "says what it has", &mut m, &owned, names).await;
        let full = m.joins().with_member_epoch(m.epoch).with_topic_partitions(names.owned("g848", &[0, 1, 2, 3]));
        self.beat_as(version, "says everything", &mut m, &full, names).await;
        let joins = m.joins();
        self.beat_as(version, "joins again", &mut m, &joins, names).await;
        self.consumer_offsets(&m).await;
        self.classic_members(&m).await;
        self.delete_offsets(group, &[("g848", 0), ("g848-other", 0), ("nowhere", 0)]).await;
        self.delete_group(group).await;

        sleep(INTERVAL).await;
        let resubscribes = m.silent().with_subscribed_topic_names(Some(vec![topic_name("g848-other")]));
        self.beat_as(version, "subscribes to another topic", &mut m, &resubscribes, names).await;
        self.describe_consumers(group, names).await;
        let silent = m.silent();
        self.beat_as(version, "says nothing of it", &mut m, &silent, names).await;
        let gave = m.silent().with_topic_partitions(Some(Vec::new()));
        self.beat_as(version, "has given it back", &mut m, &gave, names).await;
        self.describe_consumers(group, names).await;
        // Too soon for another assignment.
        let resubscribes = m.silent().with_subscribed_topic_names(Some(vec![topic_name("nowhere")]));
        let resubscribes = resubscribes.with_topic_partitions(names.owned("g848-other", &[0, 1]));
        self.beat_as(version, "subscribes to a topic that is not there", &mut m, &resubscribes, names).await;
        self.describe_consumers(group, names).await;
        let gave = m.silent().with_topic_partitions(Some(Vec::new()));
        self.beat_as(version, "has given it back too", &mut m, &gave, names).await;
        sleep(INTERVAL).await;
        let silent = m.silent();
        self.beat_as(version, "alive, with nothing", &mut m, &silent, names).await;

        let leaves = m.leaves(-1);
        self.beat_as(version, "leaves", &mut m.clone(), &leaves, names).await;
        self.beat_as(version, "leaves again", &mut m.clone(), &leaves, names).await;
        let silent = m.silent();
        self.beat_as(version, "alive after it has left", &mut m.clone(), &silent, names).await;
        self.describe_consumers(group, names).await;
        self.consumer_offsets(&m).await;
        self.delete_offsets(group, &[("g848", 0), ("g848", 9)]).await;
        self.delete_group(group).await;
        self.describe_consumers(group, names).await;
    }

    /// Who may commit and read offsets.
    async fn consumer_offsets(&mut self, m: &Member) {
        let commit = |version: i16, member: &StrBytes, epoch: i32, indexes: &[i32]| {
            let partition = |index: &i32| {
                OffsetCommitRequestPartition::default().with_partition_index(*index).with_committed_offset(1)
            };
            let topic = OffsetCommitRequestTopic::default().with_name(topic_name("g848"));
            let topic = topic.with_partitions(indexes.iter().map(partition).collect());
            let request = OffsetCommitRequest::default().with_group_id(id(m.group)).with_topics(vec![topic]);
            (version, request.with_generation_id_or_member_epoch(epoch).with_member_id(member.clone()))
        };
        let (nobody, stranger) = (text(""), text("stranger"));
        for (what, (version, request)) in [
            ("", commit(9, &m.id, m.epoch, &[0, 1])),
            ("by version 8", commit(8, &m.id, m.epoch, &[0])),
            ("by a stranger", commit(9, &stranger, m.epoch, &[0])),
            ("by a stranger, version 8", commit(8, &stranger, m.epoch, &[0])),
            ("by nobody", commit(9, &nobody, -1, &[0])),
            ("of a greater epoch", commit(9, &m.id, m.epoch + 1, &[0])),
            ("of a smaller epoch", commit(9, &m.id, m.epoch - 1, &[0, 1])),
            ("of no epoch", commit(9, &m.id, -1, &[0])),
            ("of an unknown partition", commit(9, &m.id, m.epoch, &[0, 9])),
        ] {
            let answer = self.peer.ask(version, &request).await;
            let partitions = answer.topics[0].partitions.iter();
            let mut codes: Vec<_> = partitions.map(|p| (p.partition_index, p.error_code)).collect();
            codes.sort_unstable();
            self.say((m.group, "commit", what), codes);
        }
        for version in [8, 9] {
            for (what, member, epoch) in [
                ("", Some(&m.id), m.epoch),
                ("by nobody", None, -1),
                ("by nobody, of an epoch", None, m.epoch),
                ("by a stranger", Some(&stranger), m.epoch),
                ("by an empty id", Some(&nobody), -1),
                ("of a greater epoch", Some(&m.id), m.epoch + 1),
                ("of no epoch", Some(&m.id), -1),
            ] {
                if version < 9 && member != Some(&m.id) {
                    continue;
                }
                let topic = OffsetFetchRequestTopics::default().with_name(topic_name("g848"));
                let topic = topic.with_partition_indexes(vec![0, 2]);
                let mut group =
                    OffsetFetchRequestGroup::default().with_group_id(id(m.group)).with_topics(Some(vec![topic]));
                if version >= 9 {
                    group = group.with_member_id(member.cloned()).with_member_epoch(epoch);
                }
                let request = OffsetFetchRequest::default().with_groups(vec![group]);
                let answer = self.peer.ask(version, &request).await;
                let group = &answer.groups[0];
                let partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
                let offsets: Vec<_> = partitions.map(|p| (p.error_code, p.committed_offset)).collect();
                self.say((m.group, "offsets", version, what), (group.error_code, offsets));
            }
        }
    }

    /// What members of the other protocol hear.
    async fn classic_members(&mut self, m: &Member) {
        for member in [m.id.clone(), text("stranger")] {
            let who = if member == m.id { "the member" } else { "a stranger" };
            let newest = self.up_to::<JoinGroupRequest>(9);
            let answer = self.peer.ask(newest, &join(newest, m.group, &member, &[("range", "m")])).await;
            self.say((m.group, who, "joins"), (answer.error_code, answer.member_id == member, answer.generation_id));
            let answer = self.peer.ask(5, &sync(m.group, &member, m.epoch, &[])).await;
            self.say((m.group, who, "syncs"), (answer.error_code, answer.assignment));
            let answer = self.peer.ask(4, &heartbeat(m.group, &member, m.epoch)).await;
            self.say((m.group, who, "is alive"), answer.error_code);
            let instance = heartbeat(m.group, &member, m.epoch).with_group_instance_id(Some(text("i")));
            let answer = self.peer.ask(4, &instance).await;
            self.say((m.group, who, "is alive as an instance"), answer.error_code);
        }
        let identity = |member: &str| MemberIdentity::default().with_member_id(text(member));
        let members = vec![identity("stranger"), identity("").with_group_instance_id(Some(text("i")))];
        let leave = LeaveGroupRequest::default().with_group_id(id(m.group)).with_members(members);
        let answer = self.peer.ask(5, &leave).await;
        let codes: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
        self.say((m.group, "strangers leave"), (answer.error_code, codes));
    }

    async fn delete_group(&mut self, group: &str) {
        for version in [0, self.newest::<DeleteGroupsRequest>()] {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![id(group)]);
            let answer = self.peer.ask(version, &request).await;
            self.say(("delete", group, version), answer.results.iter().map(|r| r.error_code).collect::<Vec<_>>());
        }
    }

    async fn delete_offsets(&mut self, group: &str, partitions: &[(&str, i32)]) {
        if self.newest::<OffsetDeleteRequest>() < 0 {
            return;
        }
        let topics = partitions.iter().map(|(topic, index)| {
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(*index);
            OffsetDeleteRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])
        });
        // One topic to a request: answers come in any order.
        for topic in topics {
            let what = (topic.name.to_string(), topic.partitions[0].partition_index);
            let request = OffsetDeleteRequest::default().with_group_id(id(group)).with_topics(vec![topic]);
            let answer = self.peer.ask(0, &request).await;
            let codes: Vec<_> = answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
            self.say(("delete offset", group, what), (answer.error_code, codes));
        }
    }

    /// Of groups under the classic protocol.
    async fn deleted_groups(&mut self) {
        let version = self.up_to::<JoinGroupRequest>(9);
        // Version 0, one topic, no user data.
        let subscription = Bytes::from_static(b"\0\0\0\0\0\x01\0\x04g848\xff\xff\xff\xff");
        let mut request = join(version, "deleted", "", &[("range", "")]);
        request.protocols[0].metadata = subscription;
        let member = enter(&mut self.peer, version, request).await.member_id;
        self.delete_offsets("deleted", &[("g848-other", 0)]).await; // before it has an assignment
        let syncs = self.newest::<SyncGroupRequest>();
        self.peer.ask(syncs, &sync("deleted", &member, 1, &[(&member, "x")])).await;
        let all = [("g848", 0), ("g848-other", 0), ("nowhere", 0), ("g848", 9)];
        self.delete_offsets("deleted", &all).await;
        self.delete_group("deleted").await;
        let identity = MemberIdentity::default().with_member_id(member.clone());
        let leave = LeaveGroupRequest::default().with_group_id(id("deleted")).with_members(vec![identity]);
        self.peer.ask(self.newest::<LeaveGroupRequest>(), &leave).await;
        self.delete_offsets("deleted", &all).await;
        self.describe("deleted").await;
        self.delete_group("deleted").await;
        self.describe("deleted").await;
        // Whose members are no consumers, and whose subscriptions cannot be read.
        let other = join(version, "connectors", "", &[("range", "m")]).with_protocol_type("connect".into());
        enter(&mut self.peer, version, other).await;
        enter(&mut self.peer, version, join(version, "unreadable", "", &[("range", "m")])).await;
        for group in ["connectors", "unreadable", "nobody"] {
            self.delete_offsets(group, &[("g848", 0)]).await;
            self.delete_group(group).await;
        }
        self.delete_offsets("", &[("g848", 0)]).await;
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("g848")).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default().with_group_id(id("nobody")).with_topics(vec![topic]);
        for version in [8, 9] {
            let version = self.up_to::<OffsetCommitRequest>(version);
            let request = request.clone().with_generation_id_or_member_epoch(3);
            let answer = self.peer.ask(version, &request).await;
            self.say(("commit to a group that is not there", version), answer.topics[0].partitions[0].error_code);
        }
        let answer = self.peer.ask(4, &heartbeat("deleted", &member, 1)).await;
        self.say("alive in a deleted group", answer.error_code);
    }

    async fn two_consumers(&mut self, names: &Names) {
        let group = "two-848";
        let (mut a, mut b) = (Member::of(group, "a"), Member::of(group, "b"));
        let joins = a.joins();
        self.beat("a joins", &mut a, &joins, names).await;
        let joins = b.joins();
        self.beat("b joins, too soon for another assignment", &mut b, &joins, names).await;
        self.describe_consumers(group, names).await;
        sleep(INTERVAL).await;
        let silent = b.silent();
        self.beat("b hears that all is taken", &mut b, &silent, names).await;
        self.describe_consumers(group, names).await;
        let silent = a.silent();
        self.beat("a hears what to give back", &mut a, &silent, names).await;
        self.describe_consumers(group, names).await;
        self.consumer_offsets(&a).await;
        let has = a.silent().with_topic_partitions(names.owned("g848", &[0, 1, 2, 3]));
        self.beat("a still has it", &mut a, &has, names).await;
        let silent = b.silent();
        self.beat("b hears nothing", &mut b, &silent, names).await;
        let has = a.silent().with_topic_partitions(names.owned("g848", &[0, 1]));
        let before = a.epoch;
        self.beat("a has given it back", &mut a, &has, names).await;
        // The answer may have got lost.
        for (what, owned) in [
            ("a repeats that", names.owned("g848", &[0, 1])),
            ("a repeats it with less", names.owned("g848", &[1])),
            ("a repeats it with more", names.owned("g848", &[0, 3])),
            ("a repeats it without", None),
        ] {
            let repeats = a.silent().with_member_epoch(before).with_topic_partitions(owned);
            self.beat(what, &mut a.clone(), &repeats, names).await;
        }
        let mut late = a.clone();
        late.epoch = before;
        self.consumer_offsets(&late).await;
        let silent = b.silent();
        self.beat("b hears what it has now", &mut b, &silent, names).await;
        self.describe_consumers(group, names).await;
        let mut early = b.clone();
        early.epoch -= 1;
        self.consumer_offsets(&early).await;
        self.delete_group(group).await;

        sleep(INTERVAL).await;
        let leaves = a.leaves(-1);
        self.beat("a leaves", &mut a, &leaves, names).await;
        self.describe_consumers(group, names).await;
        let silent = b.silent();
        self.beat("b gets all of it", &mut b, &silent, names).await;
        let identity = MemberIdentity::default().with_member_id(b.id.clone());
        let leave = LeaveGroupRequest::default().with_group_id(id(group)).with_members(vec![identity]);
        let answer = self.peer.ask(5, &leave).await;
        self.say("b is removed", (answer.error_code, answer.members[0].error_code));
        let silent = b.silent();
        self.beat("b is out", &mut b, &silent, names).await;
    }

    /// Ranges follow the ids of the members, the static ones first.
    async fn ranges(&mut self, names: &Names) {
        let of = |member: &str, instance: Option<&'static str>| Member {
            instance,
            topics: vec!["g848", "g848-other"],
            assignor: Some("range"),
            ..Member::of("range-848", member)
        };
        let mut members = [of("a", None), of("b", Some("i")), of("c", None)];
        for member in &mut members {
            let joins = member.joins();
            self.beat("joins", member, &joins, names).await;
            sleep(INTERVAL).await;
        }
        for round in 0..4 {
            for (place, member) in members.iter_mut().enumerate() {
                let keeps = [[3].as_slice(), &[0, 1], &[2]][place];
                let other = [[].as_slice(), &[0], &[1]][place];
                let owned = [names.owned("g848", keeps), names.owned("g848-other", other)];
                let owned = owned.into_iter().flatten().flatten().collect();
                let beats = member.silent().with_topic_partitions(Some(owned));
                self.beat(&format!("{place} in round {round}"), member, &beats, names).await;
            }
        }
        self.describe_consumers("range-848", names).await;
        // Most ask for another assignor.
        sleep(INTERVAL).await;
        for place in [0, 2] {
            let votes = members[place].silent().with_server_assignor(Some(text("uniform")));
            self.beat("votes for uniform", &mut members[place], &votes, names).await;
        }
        self.describe_consumers("range-848", names).await;
    }

    /// Of whom only one may have a topic.
    async fn differing_subscriptions(&mut self, names: &Names) {
        let mut a = Member::of("mixed-848", "a");
        let mut b = Member { topics: vec!["g848", "g848-other"], ..Member::of("mixed-848", "b") };
        for member in [&mut a, &mut b] {
            let joins = member.joins();
            self.beat("joins", member, &joins, names).await;
            sleep(INTERVAL).await;
        }
        let silent = a.silent();
        self.beat("a hears of it", &mut a, &silent, names).await;
        let gave = a.silent().with_topic_partitions(names.owned("g848", &[0, 1, 2]));
        self.beat("a has given back", &mut a, &gave, names).await;
        let silent = b.silent();
        self.beat("b hears of it", &mut b, &silent, names).await;
        self.describe_consumers("mixed-848", names).await;
    }

    async fn static_consumers(&mut self, names: &Names) {
        let group = "static-848";
        let mut a = Member { instance: Some("i"), ..Member::of(group, "a") };
        let joins = a.joins();
        self.beat("a joins", &mut a, &joins, names).await;
        sleep(INTERVAL).await;
        let mut again = Member { instance: Some("i"), ..Member::of(group, "again") };
        let joins = again.joins();
        self.beat("it cannot come back while it is there", &mut again, &joins, names).await;
        let joins = a.joins();
        self.beat("nor under the same id", &mut a.clone(), &joins, names).await;
        let beats = again.silent().with_member_epoch(a.epoch);
        self.beat("another under its instance", &mut again.clone(), &beats, names).await;
        for epoch in [-1, -2] {
            let leaves = again.leaves(epoch);
            self.beat("another leaves under its instance", &mut again.clone(), &leaves, names).await;
            let leaves = again.leaves(epoch).with_instance_id(Some(text("j")));
            self.beat("an unknown instance leaves", &mut again.clone(), &leaves, names).await;
        }
        let leaves = a.leaves(-2);
        self.beat("a leaves for now", &mut a.clone(), &leaves, names).await;
        self.describe_consumers(group, names).await;
        self.consumer_offsets(&a).await;
        let silent = a.silent();
        self.beat("a is alive all the same", &mut a.clone(), &silent, names).await;
        let leaves = a.leaves(-2);
        self.beat("a leaves once more", &mut a.clone(), &leaves, names).await;
        let joins = again.joins();
        self.beat("it is back under another id", &mut again, &joins, names).await;
        self.describe_consumers(group, names).await;
        let silent = a.silent();
        self.beat("a is out", &mut a.clone(), &silent, names).await;
        let unnamed = Member { instance: None, ..a.clone() }.silent();
        self.beat("a is out without its instance", &mut a.clone(), &unnamed, names).await;
        let silent = again.silent();
        self.beat("it is alive", &mut again, &silent, names).await;
        // Gone for now, while another gets what was assigned anew.
        let leaves = again.leaves(-2);
        self.beat("it leaves for now", &mut again.clone(), &leaves, names).await;
        let mut b = Member::of(group, "b");
        let joins = b.joins();
        self.beat("b joins", &mut b, &joins, names).await;
        let joins = again.joins();
        self.beat("it is back", &mut again, &joins, names).await;
        let silent = b.silent();
        self.beat("b gets half", &mut b, &silent, names).await;
        self.describe_consumers(group, names).await;
        let identity = MemberIdentity::default().with_group_instance_id(Some(text("i")));
        let leave = LeaveGroupRequest::default().with_group_id(id(group)).with_members(vec![identity]);
        let answer = self.peer.ask(5, &leave).await;
        self.say("removed by its instance", (answer.error_code, answer.members[0].error_code));
        self.describe_consumers(group, names).await;
    }

    async fn who_does_not_revoke(&mut self, names: &Names) {
        let group = "stubborn-848";
        let mut a = Member { rebalance_ms: 1_500, ..Member::of(group, "a") };
        let mut b = Member::of(group, "b");
        for member in [&mut a, &mut b] {
            let joins = member.joins();
            self.beat("joins", member, &joins, names).await;
            sleep(INTERVAL).await;
        }
        for _ in 0..3 {
            let has = a.silent().with_topic_partitions(names.owned("g848", &[0, 1, 2, 3]));
            self.beat("a keeps what it has", &mut a, &has, names).await;
            sleep(HEARS).await;
        }
        sleep(HEARS).await;
        let silent = a.silent();
        self.beat("a is out", &mut a, &silent, names).await;
        let silent = b.silent();
        self.beat("b has all", &mut b, &silent, names).await;
        self.describe_consumers(group, names).await;
    }

    async fn changing_topics(&mut self) {
        let mut m = Member { topics: vec!["grows", "comes"], ..Member::of("topics-848", "m") };
        self.create("grows", 1, &[]).await;
        sleep(HEARS).await;
        let names = self.names().await;
        let joins = m.joins();
        self.beat("joins", &mut m, &joins, &names).await;
        sleep(INTERVAL).await;
        let topic = CreatePartitionsTopic::default().with_name(topic_name("grows")).with_count(3);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)]);
        self.peer.ask(3, &request.with_timeout_ms(10_000)).await;
        sleep(HEARS).await;
        let silent = m.silent();
        self.beat("there are more partitions", &mut m, &silent, &names).await;
        sleep(INTERVAL).await;
        self.create("comes", 2, &[]).await;
        sleep(HEARS).await;
        let (names, silent) = (self.names().await, m.silent());
        self.beat("there is another topic", &mut m, &silent, &names).await;
        sleep(INTERVAL).await;
        let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("grows")]);
        self.peer.ask(5, &request.with_timeout_ms(10_000)).await;
        sleep(HEARS).await;
        let silent = m.silent();
        self.beat("there is a topic less", &mut m, &silent, &names).await;
        let has = m.silent().with_topic_partitions(names.owned("comes", &[0, 1]));
        self.beat("it has given it back", &mut m, &has, &names).await;
        self.describe_consumers("topics-848", &names).await;
    }

    /// From one protocol to the other, which is possible while there are no members.
    async fn changed_protocols(&mut self, names: &Names) {
        let version = self.up_to::<JoinGroupRequest>(9);
        // Offsets that were committed by nobody stay.
        let mut m = Member::of("converted", "m");
        self.consumer_offsets(&Member { epoch: -1, id: text(""), ..m.clone() }).await;
        self.describe("converted").await;
        let silent = m.silent().with_member_epoch(3);
        self.beat("alive in a classic group", &mut m.clone(), &silent, names).await;
        let leaves = m.leaves(-1);
        self.beat("leaves a classic group", &mut m.clone(), &leaves, names).await;
        let joins = m.joins();
        self.beat("joins an empty classic group", &mut m, &joins, names).await;
        self.describe_consumers("converted", names).await;
        self.consumer_offsets(&m).await;
        let request = join(version, "converted", "", &[("range", "m")]);
        let answer = self.peer.ask(version, &request).await;
        self.say("a classic member joins", (answer.error_code, answer.member_id.is_empty(), answer.generation_id));
        let leaves = m.leaves(-1);
        self.beat("leaves", &mut m.clone(), &leaves, names).await;
        let classic = enter(&mut self.peer, version, request).await;
        self.say("a classic member joins then", (classic.error_code, classic.generation_id));
        self.describe("converted").await;
        let joins = m.joins();
        self.beat("joins a classic group that has members", &mut m, &joins, names).await;
        let silent = m.silent();
        self.beat("alive in a classic group that has members", &mut m, &silent, names).await;
        let identity = MemberIdentity::default().with_member_id(classic.member_id);
        let leave = LeaveGroupRequest::default().with_group_id(id("converted")).with_members(vec![identity]);
        self.peer.ask(5, &leave).await;
        let joins = m.joins();
        self.beat("joins the classic group that was left", &mut m, &joins, names).await;
        self.describe_consumers("converted", names).await;
    }

    /// Expressions are matched again after ten seconds, in which others fall silent for too long.
    async fn expressions_and_sessions(&mut self) {
        self.create("rx-one", 2, &[]).await;
        sleep(HEARS).await;
        let names = self.names().await;
        let mut silent = Member::of("silent-848", "m");
        let joins = silent.joins();
        self.beat("joins", &mut silent, &joins, &names).await;
        let mut left = Member { instance: Some("i"), ..Member::of("gone-848", "m") };
        let joins = left.joins();
        self.beat("joins", &mut left, &joins, &names).await;
        let leaves = left.leaves(-2);
        self.beat("leaves for now", &mut left.clone(), &leaves, &names).await;

        let mut m = Member { topics: Vec::new(), ..Member::of("regex-848", "m") };
        let joins = m.joins().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("rx-.*")));
        self.beat("joins", &mut m, &joins, &names).await;
        sleep(HEARS).await;
        let beats = m.silent();
        self.beat("its expression has been matched", &mut m, &beats, &names).await;
        self.describe_consumers("regex-848", &names).await;
        let same = m.silent().with_subscribed_topic_regex(Some(text("rx-.*")));
        self.beat("says it again", &mut m, &same, &names).await;
        let mut other = Member { topics: vec!["g848"], ..Member::of("regex-848", "n") };
        sleep(INTERVAL).await;
        let joins = other.joins().with_subscribed_topic_regex(Some(text("rx-.*")));
        self.beat("another joins with it", &mut other, &joins, &names).await;
        self.create("rx-two", 1, &[]).await;
        let names = self.names().await;
        sleep(HEARS).await;
        let beats = m.silent();
        self.beat("there is another topic", &mut m, &beats, &names).await;
        let given = m.silent().with_topic_partitions(Some(Vec::new()));
        for _ in 0..3 {
            sleep(Duration::from_secs(3)).await;
            let beats = other.silent();
            self.beat("another is alive", &mut other, &beats, &names).await;
        }
        sleep(Duration::from_secs(2)).await;
        for (group, mut member) in [("silent", silent), ("gone", left)] {
            let beats = member.silent();
            self.beat(&format!("{group} is out"), &mut member, &beats, &names).await;
        }
        self.describe_consumers("silent-848", &names).await;
        self.describe_consumers("gone-848", &names).await;
        let given = given.with_member_epoch(m.epoch);
        self.beat("it has given everything back", &mut m, &given, &names).await;
        sleep(HEARS).await;
        for member in [&mut m, &mut other] {
            let beats = member.silent();
            self.beat("the other topic has been found", member, &beats, &names).await;
        }
        let none = other.silent().with_subscribed_topic_regex(Some(text("")));
        sleep(INTERVAL).await;
        self.beat("takes it back", &mut other, &none, &names).await;
        self.describe_consumers("regex-848", &names).await;
    }
}
