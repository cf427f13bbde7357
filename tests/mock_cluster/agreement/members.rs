//! Members of groups under the classic protocol.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Interview, dial};
use crate::harness::{Peer, topic_name};

const MEMBER_ID_REQUIRED: i16 = 79;
const NEWEST_JOIN: i16 = 9;

pub(super) fn id(group: &str) -> GroupId {
    StrBytes::from(group.to_owned()).into()
}

pub(super) fn text(text: &str) -> StrBytes {
    text.to_owned().into()
}

pub(super) fn join(version: i16, group: &str, member: &str, protocols: &[(&str, &str)]) -> JoinGroupRequest {
    let protocol = |(name, metadata): &(&str, &str)| {
        let metadata = Bytes::from((*metadata).to_owned());
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata)
    };
    JoinGroupRequest::default()
        .with_group_id(id(group))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(if version == 0 { -1 } else { 10_000 })
        .with_member_id(text(member))
        .with_protocol_type("consumer".into())
        .with_protocols(protocols.iter().map(protocol).collect())
}

/// What is the same at every broker; ids by whom they stand for.
fn joined(answer: &JoinGroupResponse, who: &[(&str, &StrBytes)]) -> String {
    let name = |id: &StrBytes| {
        let known = who.iter().find(|(_, known)| *known == id).map(|(name, _)| *name);
        known.unwrap_or(if id.is_empty() { "nobody" } else { "somebody" }).to_owned()
    };
    let mut members: Vec<_> = answer
        .members
        .iter()
        .map(|m| (name(&m.member_id), m.group_instance_id.clone().map(|i| i.to_string()), m.metadata.clone()))
        .collect();
    members.sort();
    format!(
        "error {}, generation {}, {:?} {:?}, leader {}, member {}, skip {}, {members:?}",
        answer.error_code,
        answer.generation_id,
        answer.protocol_type.as_deref(),
        answer.protocol_name.as_deref(),
        name(&answer.leader),
        name(&answer.member_id),
        answer.skip_assignment,
    )
}

/// Of a group that has agreed on `range`.
pub(super) fn sync(
    group: &str,
    member: &StrBytes,
    generation: i32,
    assignments: &[(&StrBytes, &str)],
) -> SyncGroupRequest {
    let assignment = |(member, assignment): &(&StrBytes, &str)| {
        let assignment = Bytes::from((*assignment).to_owned());
        SyncGroupRequestAssignment::default().with_member_id((*member).clone()).with_assignment(assignment)
    };
    SyncGroupRequest::default()
        .with_group_id(id(group))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_protocol_type(Some("consumer".into()))
        .with_protocol_name(Some("range".into()))
        .with_assignments(assignments.iter().map(assignment).collect())
}

fn synced(answer: &SyncGroupResponse) -> String {
    let (kind, name) = (answer.protocol_type.as_deref(), answer.protocol_name.as_deref());
    format!("error {}, {kind:?} {name:?}, {:?}", answer.error_code, answer.assignment)
}

pub(super) fn heartbeat(group: &str, member: &StrBytes, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(id(group)).with_generation_id(generation).with_member_id(member.clone())
}

fn commit(group: &str, member: &StrBytes, generation: i32) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("committed")).with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(id(group))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(member.clone())
        .with_topics(vec![topic])
}

/// Joins as a new member, with the id that it is given if it has to.
pub(super) async fn enter(peer: &mut Peer, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
    for _ in 0..100 {
        let answer = peer.ask(version, &request).await;
        match answer.error_code {
            MEMBER_ID_REQUIRED => return peer.ask(version, &request.with_member_id(answer.member_id)).await,
            14..=16 => tokio::time::sleep(Duration::from_millis(100)).await, // the coordinator is loading
            _ => return answer,
        }
    }
    panic!("no coordinator");
}

impl Interview {
    pub(super) async fn members(&mut self) {
        self.refused_members().await;
        for version in self.versions::<JoinGroupRequest>() {
            self.one_member(version).await;
        }
        self.two_members().await;
        self.static_members().await;
    }

    async fn refused_members(&mut self) {
        let version = self.up_to::<JoinGroupRequest>(NEWEST_JOIN);
        let protocols = [("range", "m")];
        let of = |member: &str| join(version, "refused", member, &protocols);
        enter(&mut self.peer, version, of("")).await; // which makes the group, and waits for the coordinator
        for (what, request) in [
            ("no group", of("").with_group_id(id(""))),
            ("a short session", of("").with_session_timeout_ms(0)),
            ("a long session", of("").with_session_timeout_ms(1_800_001)),
            ("no protocols", of("").with_protocols(Vec::new())),
            ("another type", of("").with_protocol_type("connect".into())),
            ("another protocol", join(version, "refused", "", &[("sticky", "m")])),
            ("a stranger", of("stranger")),
            ("a stranger in a new group", of("stranger").with_group_id(id("refused-new"))),
            ("an instance with an id", of("stranger").with_group_instance_id(Some("i".into()))),
        ] {
            let answer = self.peer.ask(version, &request).await;
            self.say(("join", what), joined(&answer, &[("itself", &request.member_id)]));
        }
        let stranger = text("stranger");
        for group in ["refused", "refused-nowhere", ""] {
            let newest = self.newest::<SyncGroupRequest>();
            let answer = self.peer.ask(newest, &sync(group, &stranger, 1, &[])).await;
            self.say(("sync by a stranger", group), synced(&answer));
            let newest = self.newest::<HeartbeatRequest>();
            let answer = self.peer.ask(newest, &heartbeat(group, &stranger, 1)).await;
            self.say(("heartbeat of a stranger", group), answer.error_code);
            let identity = MemberIdentity::default().with_member_id(stranger.clone());
            let leave = LeaveGroupRequest::default().with_group_id(id(group)).with_members(vec![identity]);
            let newest = self.newest::<LeaveGroupRequest>();
            let answer = self.peer.ask(newest, &leave).await;
            let members: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
            self.say(("a stranger leaves", group), (answer.error_code, members));
        }
    }

    /// All that one member does, in every version of JoinGroup, and those of the others from the same time.
    async fn one_member(&mut self, version: i16) {
        let group = format!("one-{version}");
        let (syncs, beats) = (self.up_to::<SyncGroupRequest>(version), self.up_to::<HeartbeatRequest>(version));
        let leaves = self.up_to::<LeaveGroupRequest>(version);
        let first = join(version, &group, "", &[("range", "r"), ("sticky", "s")]);
        let answer = self.peer.ask(version, &first).await;
        let asked_again = answer.error_code == MEMBER_ID_REQUIRED;
        self.say((version, "comes"), (asked_again, !answer.member_id.is_empty(), answer.members.len()));
        let me = answer.member_id.clone();
        let answer =
            if asked_again { self.peer.ask(version, &first.clone().with_member_id(me.clone())).await } else { answer };
        self.say((version, "joined"), joined(&answer, &[("me", &me)]));
        let early = self.peer.ask(8.min(self.newest::<OffsetCommitRequest>()), &commit(&group, &me, 1)).await;
        self.say((version, "commits before it has synced"), early.topics[0].partitions[0].error_code);
        let answer = self.peer.ask(syncs, &sync(&group, &me, 1, &[(&me, "all of it")])).await;
        self.say((version, "synced"), synced(&answer));
        let answer = self.peer.ask(syncs, &sync(&group, &me, 1, &[])).await;
        self.say((version, "synced again"), synced(&answer));
        for (what, member, generation) in
            [("alive", me.clone(), 1), ("an old generation", me.clone(), 0), ("another", text("another"), 1)]
        {
            let answer = self.peer.ask(beats, &heartbeat(&group, &member, generation)).await;
            self.say((version, "heartbeat", what), answer.error_code);
            let answer = self.peer.ask(syncs, &sync(&group, &member, generation, &[])).await;
            self.say((version, "sync", what), answer.error_code);
            let commits = 8.min(self.newest::<OffsetCommitRequest>());
            let answer = self.peer.ask(commits, &commit(&group, &member, generation)).await;
            self.say((version, "commit", what), answer.topics[0].partitions[0].error_code);
        }
        let commits = 8.min(self.newest::<OffsetCommitRequest>());
        let answer = self.peer.ask(commits, &commit(&group, &StrBytes::default(), -1)).await;
        self.say((version, "commit by nobody"), answer.topics[0].partitions[0].error_code);
        self.describe(&group).await;
        let answer = self.peer.ask(version, &first.with_member_id(me.clone())).await;
        self.say((version, "the leader joins again"), joined(&answer, &[("me", &me)]));
        self.describe(&group).await;
        let leave = LeaveGroupRequest::default().with_group_id(id(&group));
        let leave = if leaves < 3 {
            leave.with_member_id(me.clone())
        } else {
            leave.with_members(vec![MemberIdentity::default().with_member_id(me.clone())])
        };
        for what in ["leaves", "leaves again"] {
            let answer = self.peer.ask(leaves, &leave).await;
            let members: Vec<_> = answer.members.iter().map(|member| member.error_code).collect();
            self.say((version, what), (answer.error_code, members));
        }
        let answer = self.peer.ask(beats, &heartbeat(&group, &me, 2)).await;
        self.say((version, "alive after it has left"), answer.error_code);
        self.describe(&group).await;
    }

    pub(super) async fn describe(&mut self, group: &str) {
        let version = self.up_to::<DescribeGroupsRequest>(5);
        let answer = self.peer.ask(version, &DescribeGroupsRequest::default().with_groups(vec![id(group)])).await;
        let described = &answer.groups[0];
        let mut members: Vec<_> = described
            .members
            .iter()
            .map(|m| {
                let instance = m.group_instance_id.clone().map(|instance| instance.to_string());
                let (client, host) = (m.client_id.to_string(), m.client_host.to_string());
                (instance, client, host, m.member_metadata.clone(), m.member_assignment.clone())
            })
            .collect();
        members.sort();
        let (state, kind, data) = (&*described.group_state, &*described.protocol_type, &*described.protocol_data);
        self.lines.push(format!("{group} is {state} {kind} {data:?}: {members:?}"));
        let version = self.newest::<ListGroupsRequest>();
        let answer = self.peer.ask(version, &ListGroupsRequest::default()).await;
        let listed = answer.groups.iter().find(|listed| *listed.group_id == *group);
        let listed = listed.map(|l| (l.protocol_type.to_string(), l.group_state.to_string(), l.group_type.to_string()));
        self.lines.push(format!("{group} is listed: {listed:?}"));
    }

    async fn two_members(&mut self) {
        let version = self.up_to::<JoinGroupRequest>(NEWEST_JOIN);
        let (syncs, beats) = (self.newest::<SyncGroupRequest>(), self.newest::<HeartbeatRequest>());
        let commits = 8.min(self.newest::<OffsetCommitRequest>());
        let (mut a, mut b) = (dial(&self.address).await, dial(&self.address).await);
        let group = "two";
        let of_a = join(version, group, "", &[("range", "ra"), ("sticky", "sa")]);
        let answer = enter(&mut a, version, of_a.clone()).await;
        let first = answer.member_id.clone();
        a.ask(syncs, &sync(group, &first, 1, &[(&first, "all")])).await;
        let of_a = of_a.with_member_id(first.clone());

        let of_b = join(version, group, "", &[("range", "rb"), ("sticky", "sb")]);
        let second = b.ask(version, &of_b).await.member_id;
        let of_b = of_b.with_member_id(second.clone());
        let who = [("first", &first), ("second", &second)];
        let answer = a.ask(beats, &heartbeat(group, &first, 1)).await;
        self.say("an id is promised: heartbeat", answer.error_code);
        b.send(version, &of_b).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = a.ask(beats, &heartbeat(group, &first, 1)).await;
        self.say("another joins: heartbeat", answer.error_code);
        let answer = a.ask(commits, &commit(group, &first, 1)).await;
        self.say("another joins: commit", answer.topics[0].partitions[0].error_code);
        let answer = a.ask(syncs, &sync(group, &first, 1, &[])).await;
        self.say("another joins: sync", synced(&answer));
        self.describe(group).await;
        let answer = a.ask(version, &of_a).await;
        self.say("two: the first", joined(&answer, &who));
        self.say("two: the second", joined(&b.receive::<JoinGroupRequest>(version).await, &who));
        self.describe(group).await;
        let answer = b.ask(beats, &heartbeat(group, &second, 2)).await;
        self.say("two: heartbeat before the assignment", answer.error_code);
        let answer = b.ask(commits, &commit(group, &second, 2)).await;
        self.say("two: commit before the assignment", answer.topics[0].partitions[0].error_code);
        let answer = b.ask(version, &of_b).await;
        self.say("two: the second lost its answer", joined(&answer, &who));
        b.send(syncs, &sync(group, &second, 2, &[])).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = a.ask(syncs, &sync(group, &first, 2, &[(&second, "b's"), (&first, "a's")])).await;
        self.say("two: the first has", synced(&answer));
        self.say("two: the second has", synced(&b.receive::<SyncGroupRequest>(syncs).await));
        self.describe(group).await;
        let answer = b.ask(version, &of_b).await;
        self.say("two: a follower joins again, as it was", joined(&answer, &who));
        let wrong = sync(group, &second, 2, &[]).with_protocol_name(Some("sticky".into()));
        if syncs >= 5 {
            let nameless = wrong.clone().with_protocol_name(None);
            let answer = b.ask(syncs, &wrong).await;
            self.say("two: sync with another protocol", synced(&answer));
            let answer = b.ask(syncs, &nameless).await;
            self.say("two: sync without a protocol", synced(&answer));
        }
        let answer = b.ask(version, &join(version, group, &second, &[("round-robin", "x")])).await;
        self.say("two: nothing in common", joined(&answer, &who));

        let changed = join(version, group, &second, &[("sticky", "sb2"), ("range", "rb2")]);
        b.send(version, &changed).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let answer = a.ask(beats, &heartbeat(group, &first, 2)).await;
        self.say("a follower changes: heartbeat", answer.error_code);
        let only_sticky = join(version, group, &first, &[("sticky", "sa2")]);
        let answer = a.ask(version, &only_sticky).await;
        self.say("changed: the first", joined(&answer, &who));
        self.say("changed: the second", joined(&b.receive::<JoinGroupRequest>(version).await, &who));
        let identity = MemberIdentity::default().with_member_id(second.clone());
        let leave = LeaveGroupRequest::default().with_group_id(id(group)).with_members(vec![identity]);
        let assigned = sync(group, &first, 3, &[(&second, "b's"), (&first, "a's")]);
        a.send(syncs, &assigned.with_protocol_name(Some("sticky".into()))).await;
        self.say("changed: the first has", synced(&a.receive::<SyncGroupRequest>(syncs).await));
        let answer = b.ask(self.newest::<LeaveGroupRequest>(), &leave).await;
        self.say("the second leaves", (answer.error_code, answer.members[0].error_code));
        let answer = a.ask(beats, &heartbeat(group, &first, 3)).await;
        self.say("the second has left: heartbeat", answer.error_code);
        let answer = a.ask(version, &only_sticky).await;
        self.say("alone again", joined(&answer, &who));
    }

    async fn static_members(&mut self) {
        let version = self.up_to::<JoinGroupRequest>(NEWEST_JOIN);
        let (syncs, beats) = (self.newest::<SyncGroupRequest>(), self.newest::<HeartbeatRequest>());
        let (mut a, mut b) = (dial(&self.address).await, dial(&self.address).await);
        let group = "static";
        let of = |instance: &str, metadata: &str| {
            join(version, group, "", &[("range", metadata)]).with_group_instance_id(Some(text(instance)))
        };
        let answer = enter(&mut a, version, of("i1", "1")).await;
        let first = answer.member_id.clone();
        self.say("static: the first", joined(&answer, &[("first", &first)]));
        a.ask(syncs, &sync(group, &first, 1, &[(&first, "all")]).with_group_instance_id(Some("i1".into()))).await;
        b.send(version, &of("i2", "2")).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        a.send(version, &of("i1", "1").with_member_id(first.clone())).await;
        let answer = b.receive::<JoinGroupRequest>(version).await;
        let second = answer.member_id.clone();
        self.say("static: the second", joined(&answer, &[("first", &first), ("second", &second)]));
        let answer = a.receive::<JoinGroupRequest>(version).await;
        self.say("static: the leader", joined(&answer, &[("first", &first), ("second", &second)]));
        b.send(syncs, &sync(group, &second, 2, &[]).with_group_instance_id(Some("i2".into()))).await;
        let assignments = [(&first, "a's"), (&second, "b's")];
        a.ask(syncs, &sync(group, &first, 2, &assignments).with_group_instance_id(Some("i1".into()))).await;
        self.say("static: the second has", synced(&b.receive::<SyncGroupRequest>(syncs).await));
        self.describe(group).await;

        // Both come back without their ids, and the group stays as it is.
        let answer = b.ask(version, &of("i2", "2")).await;
        let again = answer.member_id.clone();
        let who = [("first", &first), ("second", &second), ("second again", &again)];
        self.say("static: the second is back", joined(&answer, &who));
        let answer = b.ask(syncs, &sync(group, &again, 2, &[]).with_group_instance_id(Some("i2".into()))).await;
        self.say("static: the second still has", synced(&answer));
        for (what, member, instance) in [
            ("under its old id", &second, Some("i2")),
            ("under its old id alone", &second, None),
            ("under its new id", &again, Some("i2")),
            ("under the id of another", &again, Some("i1")),
            ("as an unknown instance", &again, Some("i3")),
        ] {
            let request = heartbeat(group, member, 2).with_group_instance_id(instance.map(text));
            let answer = b.ask(beats, &request).await;
            self.say(("static: heartbeat", what), answer.error_code);
        }
        let answer = b.ask(version, &of("i2", "2").with_member_id(second.clone())).await;
        self.say("static: joins under its old id", joined(&answer, &who));
        let answer = a.ask(version, &of("i1", "1")).await;
        let leader = answer.member_id.clone();
        let who = [("first", &first), ("first again", &leader), ("second again", &again)];
        self.say("static: the leader is back", joined(&answer, &who));
        let answer = a.ask(beats, &heartbeat(group, &leader, 2).with_group_instance_id(Some("i1".into()))).await;
        self.say("static: no rebalance", answer.error_code);
        let identity = |member: &StrBytes, instance: &str| {
            MemberIdentity::default().with_member_id(member.clone()).with_group_instance_id(Some(text(instance)))
        };
        let none = StrBytes::default();
        let members = vec![identity(&second, "i2"), identity(&none, "i3"), identity(&none, "i2")];
        let leave = LeaveGroupRequest::default().with_group_id(id(group)).with_members(members);
        let answer = a.ask(self.newest::<LeaveGroupRequest>(), &leave).await;
        let said: Vec<_> = answer.members.iter().map(|m| (m.group_instance_id.clone(), m.error_code)).collect();
        self.say("static: removed by its instance", (answer.error_code, said));
        let answer = a.ask(beats, &heartbeat(group, &leader, 2).with_group_instance_id(Some("i1".into()))).await;
        self.say("static: a rebalance now", answer.error_code);
        self.describe(group).await;
    }
}
