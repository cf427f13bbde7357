//! Groups whose members come, go, fall silent and change coordinators, in virtual time. What every broker answers to whom
//! is in `agreement/members.rs`.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use milena::mock::{Api, Fault, MockCluster, When};
use tokio::time::Instant;

use crate::harness::{Peer, in_memory};

const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const GROUP_MAX_SIZE_REACHED: i16 = 81;

const SECOND: Duration = Duration::from_secs(1);
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);

/// A member of the group `g`, on a connection of its own. Before version 4 nobody has to come twice.
struct Member {
    peer: Peer,
    id: StrBytes,
    instance: Option<&'static str>,
    generation: i32,
}

impl Member {
    async fn of(cluster: &MockCluster, broker: i32) -> Self {
        Self { peer: Peer::connect(cluster, broker).await, id: StrBytes::default(), instance: None, generation: -1 }
    }

    fn version(&self) -> i16 {
        if self.instance.is_some() { 5 } else { 3 }
    }

    async fn ask_to_join(&mut self) {
        let protocol = JoinGroupRequestProtocol::default().with_name("range".into()).with_metadata("m".into());
        let request = JoinGroupRequest::default()
            .with_group_id(StrBytes::from("g".to_owned()).into())
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(Into::into))
            .with_session_timeout_ms(SESSION.as_millis() as i32)
            .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
            .with_protocol_type("consumer".into())
            .with_protocols(vec![protocol]);
        self.peer.send(self.version(), &request).await;
    }

    async fn hear(&mut self) -> JoinGroupResponse {
        let answer = self.peer.receive::<JoinGroupRequest>(self.version()).await;
        if answer.error_code == 0 {
            (self.id, self.generation) = (answer.member_id.clone(), answer.generation_id);
        }
        answer
    }

    async fn join(&mut self) -> JoinGroupResponse {
        self.ask_to_join().await;
        self.hear().await
    }

    async fn ask_to_sync(&mut self, assignments: &[(&StrBytes, &'static str)]) {
        let assignment = |(id, assignment): &(&StrBytes, &'static str)| {
            let assignment = Bytes::from_static(assignment.as_bytes());
            SyncGroupRequestAssignment::default().with_member_id((*id).clone()).with_assignment(assignment)
        };
        let request = SyncGroupRequest::default()
            .with_group_id(StrBytes::from("g".to_owned()).into())
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(Into::into))
            .with_generation_id(self.generation)
            .with_assignments(assignments.iter().map(assignment).collect());
        self.peer.send(3, &request).await;
    }

    async fn hear_assignment(&mut self) -> (i16, Bytes) {
        let answer = self.peer.receive::<SyncGroupRequest>(3).await;
        (answer.error_code, answer.assignment)
    }

    async fn sync(&mut self, assignments: &[(&StrBytes, &'static str)]) -> (i16, Bytes) {
        self.ask_to_sync(assignments).await;
        self.hear_assignment().await
    }

    async fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(StrBytes::from("g".to_owned()).into())
            .with_member_id(self.id.clone())
            .with_group_instance_id(self.instance.map(Into::into))
            .with_generation_id(self.generation);
        self.peer.ask(3, &request).await.error_code
    }
}

/// Two members of a stable group; the first leads.
async fn two(cluster: &MockCluster) -> (Member, Member) {
    let (mut a, mut b) = (Member::of(cluster, 1).await, Member::of(cluster, 1).await);
    a.join().await;
    b.ask_to_join().await;
    a.join().await;
    b.hear().await;
    b.ask_to_sync(&[]).await;
    let assigned = [(&a.id.clone(), "a's"), (&b.id, "b's")];
    assert_eq!(a.sync(&assigned).await, (0, "a's".into()));
    assert_eq!(b.hear_assignment().await, (0, "b's".into()));
    assert_eq!((a.generation, b.generation), (2, 2));
    (a, b)
}

async fn state(member: &mut Member) -> (String, usize) {
    let request = DescribeGroupsRequest::default().with_groups(vec![StrBytes::from("g".to_owned()).into()]);
    let answer = member.peer.ask(5, &request).await;
    (answer.groups[0].group_state.to_string(), answer.groups[0].members.len())
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_loses_its_place_when_its_session_ends() {
    let cluster = in_memory(1).await;
    let (mut a, mut b) = two(&cluster).await;
    for _ in 0..9 {
        tokio::time::sleep(SECOND).await;
        assert_eq!(a.heartbeat().await, 0);
    }
    assert_eq!(b.heartbeat().await, 0, "a second before its end");
    let start = Instant::now();
    while a.heartbeat().await == 0 {
        tokio::time::sleep(SECOND / 10).await;
    }
    let waited = start.elapsed();
    assert!((SESSION..SESSION + SECOND / 5).contains(&waited), "{waited:?}");
    assert_eq!(state(&mut a).await, ("PreparingRebalance".into(), 1));
    assert_eq!(b.heartbeat().await, UNKNOWN_MEMBER_ID);
    let answer = a.join().await;
    assert_eq!((answer.error_code, answer.generation_id, answer.members.len()), (0, 3, 1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_waits_for_members_and_no_longer_than_they_said() {
    let cluster = in_memory(1).await;
    let (mut a, mut b) = two(&cluster).await;
    let mut c = Member::of(&cluster, 1).await;
    let start = Instant::now();
    c.ask_to_join().await;
    a.ask_to_join().await;
    // The second is alive, and does not join.
    for _ in 0..59 {
        tokio::time::sleep(SECOND).await;
        assert_eq!(b.heartbeat().await, REBALANCE_IN_PROGRESS);
    }
    let answer = a.hear().await;
    let waited = start.elapsed();
    assert!((REBALANCE..REBALANCE + SECOND / 5).contains(&waited), "{waited:?}");
    assert_eq!((answer.generation_id, answer.leader == a.id, answer.members.len()), (3, true, 2));
    assert_eq!(c.hear().await.generation_id, 3);
    assert_eq!(b.heartbeat().await, UNKNOWN_MEMBER_ID);
    // A leader that does not assign is out after as long again; who waits for it hears of it.
    c.ask_to_sync(&[]).await;
    for _ in 0..59 {
        tokio::time::sleep(SECOND).await;
        assert_eq!(a.heartbeat().await, 0);
    }
    assert_eq!(c.hear_assignment().await, (REBALANCE_IN_PROGRESS, Bytes::new()));
    assert_eq!(a.heartbeat().await, UNKNOWN_MEMBER_ID);
    let answer = c.join().await;
    assert_eq!((answer.generation_id, answer.leader == c.id, answer.members.len()), (4, true, 1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_static_member_may_be_away_for_its_session() {
    let cluster = in_memory(1).await;
    let mut a = Member { instance: Some("i1"), ..Member::of(&cluster, 1).await };
    a.join().await;
    let id = a.id.clone();
    assert_eq!(a.sync(&[(&id, "all")]).await, (0, "all".into()));
    tokio::time::sleep(SESSION - SECOND).await;
    let mut again = Member { instance: Some("i1"), ..Member::of(&cluster, 1).await };
    let answer = again.join().await;
    assert_eq!((answer.error_code, answer.generation_id), (0, 1), "no rebalance");
    assert_eq!(again.sync(&[]).await, (0, "all".into()));
    tokio::time::sleep(SESSION - SECOND).await;
    assert_eq!(state(&mut again).await, ("Stable".into(), 1));
    tokio::time::sleep(SECOND).await;
    assert_eq!(state(&mut again).await, ("Empty".into(), 0));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_coordinator_knows_what_was_stable() {
    let cluster = in_memory(2).await;
    cluster.move_coordinator("g", 1);
    let (mut a, mut b) = two(&cluster).await;
    // A rebalance is under way, and is forgotten.
    let mut c = Member::of(&cluster, 1).await;
    c.ask_to_join().await;
    a.ask_to_join().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(b.heartbeat().await, REBALANCE_IN_PROGRESS);
    tokio::time::sleep(SESSION - SECOND * 2).await;
    cluster.move_coordinator("g", 2);
    assert_eq!(a.hear().await.error_code, NOT_COORDINATOR);
    assert_eq!(c.hear().await.error_code, NOT_COORDINATOR);
    assert_eq!(b.heartbeat().await, NOT_COORDINATOR);
    // All have a whole session again.
    tokio::time::sleep(SESSION - SECOND).await;
    for member in [&mut a, &mut b] {
        member.peer = Peer::connect(&cluster, 2).await;
        assert_eq!(member.heartbeat().await, 0);
    }
    assert_eq!(state(&mut a).await, ("Stable".into(), 2));
    b.generation = 3;
    assert_eq!(b.heartbeat().await, ILLEGAL_GENERATION, "nobody ever saw the third");
    // The broker dies, and the first takes over again.
    cluster.stop_broker(2).await;
    a.peer = Peer::connect(&cluster, 1).await;
    assert_eq!((a.heartbeat().await, a.sync(&[]).await), (0, (0, "a's".into())));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_shuts_down_while_members_wait() {
    let cluster = in_memory(2).await;
    cluster.move_coordinator("g", 1);
    let (mut a, _b) = two(&cluster).await;
    a.ask_to_join().await;
    tokio::time::sleep(SECOND).await;
    let start = Instant::now();
    cluster.shut_down_broker(1).await;
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(a.hear().await.error_code, NOT_COORDINATOR);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn faults_strike_members() {
    let cluster = in_memory(1).await;
    let (mut a, mut b) = two(&cluster).await;
    cluster.inject(When::api(Api::Heartbeat).times(1), Fault::error(REBALANCE_IN_PROGRESS));
    assert_eq!((a.heartbeat().await, a.heartbeat().await), (REBALANCE_IN_PROGRESS, 0));
    cluster.inject(When::api(Api::JoinGroup).times(1), Fault::error(GROUP_MAX_SIZE_REACHED));
    assert_eq!(b.join().await.error_code, GROUP_MAX_SIZE_REACHED);
    cluster.inject(When::api(Api::SyncGroup).times(1), Fault::error(NOT_COORDINATOR));
    assert_eq!(b.sync(&[]).await, (NOT_COORDINATOR, Bytes::new()));
    assert_eq!(b.sync(&[]).await, (0, "b's".into()), "and nothing else has happened");
    cluster.close().await;
}
