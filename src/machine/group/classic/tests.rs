//! Histories of one member, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use std::collections::BTreeMap;

use super::*;
use crate::machine::assignor::subscription::{decode, encode_assignment};
use crate::machine::assignor::{CooperativeSticky, Range, Sticky};
use crate::wire::coordinator::heartbeat::HeartbeatResponse;
use crate::wire::coordinator::join_group::JoinGroupResponseMember;
use crate::wire::coordinator::leave_group::LeaveGroupResponse;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;
const E: fn(i16) -> ErrorCode = ErrorCode;

struct Rig {
    now: Instant,
    machine: Classic,
    /// The last token of each call.
    tokens: BTreeMap<&'static str, u64>,
}

fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |word: &str| {
        let (topic, index) = word.split_once('-').unwrap();
        TopicPartition::new(topic, index.parse().unwrap())
    };
    text.split_whitespace().map(partition).collect()
}

fn shown(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl Rig {
    fn new(instance_id: Option<&str>, assignors: Vec<Arc<dyn Assignor>>) -> Self {
        let config = Config {
            group: "g".into(),
            instance_id: instance_id.map(Into::into),
            rack: None,
            session_timeout: ms(10_000),
            heartbeat_interval: ms(3_000),
            max_poll_interval: ms(60_000),
            request_timeout: ms(5_000),
            retry_backoff: ms(100),
            retry_backoff_max: ms(1_000),
        };
        Self { now: Instant::now(), machine: Classic::new(config, assignors), tokens: BTreeMap::new() }
    }

    /// A follower in generation 1 with these partitions of `t`.
    fn following(assignors: Vec<Arc<dyn Assignor>>, assigned: &str) -> Self {
        let mut rig = Self::new(None, assignors);
        rig.subscribe("t");
        rig.expect(&["find"]);
        rig.coordinator();
        rig.expect(&["join '' gen -1: t owns ''"]);
        rig.join(1, "m1", "m0", &[]);
        rig.expect(&["sync m1 gen 1: []"]);
        rig.sync(assigned);
        rig.expect(&[&format!("assigned: {assigned}")]);
        rig.machine.acknowledge();
        rig.expect(&[]);
        rig
    }

    fn subscribe(&mut self, topics: &str) {
        let topics = (!topics.is_empty()).then(|| topics.split_whitespace().map(Arc::from).collect());
        self.machine.subscribe(self.now, topics);
    }

    fn coordinator(&mut self) {
        self.machine.handle_coordinator(self.now, Ok(1), MIDDLE);
    }

    fn answer(&mut self, call: &str, answer: Answer) {
        self.machine.handle_answer(self.now, self.tokens[call], answer, MIDDLE);
    }

    fn join(&mut self, generation_id: i32, member_id: &str, leader: &str, members: &[(&str, &str)]) {
        let response = self.join_response(generation_id, member_id, leader, members);
        self.answer("join", Answer::Join(response));
    }

    fn join_response(&self, generation: i32, member: &str, leader: &str, all: &[(&str, &str)]) -> JoinGroupResponse {
        let members = all.iter().map(|(id, topics)| {
            let topics = topics.split_whitespace().map(Arc::from).collect();
            let metadata = encode(&Subscription { topics, generation: -1, ..Default::default() }, 3).unwrap();
            JoinGroupResponseMember { member_id: (*id).into(), metadata, ..Default::default() }
        });
        JoinGroupResponse {
            generation_id: generation,
            protocol_name: Some(self.machine.assignors[0].name().into()),
            leader: leader.into(),
            member_id: member.into(),
            members: members.collect(),
            ..Default::default()
        }
    }

    fn join_error(&mut self, error_code: ErrorCode) {
        let member_id = "m1".into();
        self.answer("join", Answer::Join(JoinGroupResponse { error_code, member_id, ..Default::default() }));
    }

    fn sync(&mut self, assigned: &str) {
        let assignment = encode_assignment(&partitions(assigned), 3).unwrap();
        self.answer("sync", Answer::Sync(SyncGroupResponse { assignment, ..Default::default() }));
    }

    fn sync_error(&mut self, error_code: ErrorCode) {
        self.answer("sync", Answer::Sync(SyncGroupResponse { error_code, ..Default::default() }));
    }

    fn beat(&mut self, error_code: ErrorCode) {
        self.pass(3_000);
        self.expect(&[&format!("beat m1 gen {}", self.machine.generation)]);
        self.beaten(error_code);
    }

    fn beaten(&mut self, error_code: ErrorCode) {
        self.answer("beat", Answer::Heartbeat(HeartbeatResponse { error_code, ..Default::default() }));
    }

    fn pass(&mut self, by: u64) {
        self.now += ms(by);
        self.machine.handle_timeout(self.now);
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll_output(self.now) {
            outputs.push(match output {
                Output::FindCoordinator => "find".into(),
                Output::Send(crate::machine::group::Send { token, call, .. }) => self.sent(token, call),
                Output::Describe(topics) => format!("describe {topics:?}"),
                Output::Changed(Change::Assigned(partitions)) => format!("assigned: {}", shown(&partitions)),
                Output::Changed(Change::Revoked(partitions)) => format!("revoked: {}", shown(&partitions)),
                Output::Changed(Change::Lost(partitions)) => format!("lost: {}", shown(&partitions)),
                Output::Report(problem) => format!("report {problem:?}"),
                Output::Failed(problem) => format!("failed {problem:?}"),
                Output::Closed => "closed".into(),
                other @ (Output::Resolve(_) | Output::NeedMemberId) => panic!("{other:?}"),
            });
        }
        let due = self.machine.poll_timeout();
        assert!(due.is_none_or(|at| at > self.now), "due, and nothing comes of it: {outputs:?}");
        outputs
    }

    fn sent(&mut self, token: u64, call: Call) -> String {
        let (name, text) = match call {
            Call::Join(request) => {
                assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (10_000, 60_000));
                let said = decode(&request.protocols[0].metadata).unwrap();
                let (topics, owned) = (said.topics.join(" "), shown(&said.owned));
                ("join", format!("join '{}' gen {}: {topics} owns '{owned}'", request.member_id, said.generation))
            }
            Call::Sync(request) => {
                let given = request.assignments.iter().map(|given| {
                    format!("{}: {}", given.member_id, shown(&decode_assignment(&given.assignment).unwrap()))
                });
                let given: Vec<_> = given.collect();
                ("sync", format!("sync {} gen {}: {given:?}", request.member_id, request.generation_id))
            }
            Call::Heartbeat(request) => ("beat", format!("beat {} gen {}", request.member_id, request.generation_id)),
            Call::Leave(new, old) => {
                assert_eq!((&new.members[0].member_id, new.members.len()), (&old.member_id, 1));
                ("leave", format!("leave {}", old.member_id))
            }
            Call::Group(request) => panic!("{request:?}"),
        };
        self.tokens.insert(name, token);
        text
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.outputs(), expected);
    }
}

fn eager() -> Vec<Arc<dyn Assignor>> {
    vec![Arc::new(Range), Arc::new(CooperativeSticky)]
}

fn cooperative() -> Vec<Arc<dyn Assignor>> {
    vec![Arc::new(CooperativeSticky)]
}

fn of(topic: &str, count: usize) -> Topics {
    Topics::from([(topic.into(), vec![Vec::new(); count])])
}

#[test]
fn a_leader_joins_assigns_and_beats() {
    let mut rig = Rig::new(None, eager());
    rig.expect(&[]);
    rig.subscribe("t");
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join '' gen -1: t owns ''"]);
    rig.join_error(ErrorCode::MEMBER_ID_REQUIRED);
    rig.expect(&["join 'm1' gen -1: t owns ''"]);
    assert_eq!(rig.machine.standing(), Standing::Out);
    rig.join(4, "m1", "m1", &[("m1", "t"), ("m2", "t u")]);
    rig.expect(&[r#"describe {"t", "u"}"#]);
    assert_eq!(rig.machine.standing(), Standing::Between);
    let mut topics = of("t", 3);
    topics.extend(of("other", 1));
    rig.machine.handle_topics(&topics);
    rig.expect(&[r#"sync m1 gen 4: ["m1: t-0 t-1", "m2: t-2"]"#]);
    rig.sync("t-0 t-1");
    rig.expect(&["assigned: t-0 t-1"]);
    assert_eq!(rig.machine.standing(), Standing::Member(rig.machine.identity()));
    rig.machine.acknowledge();
    rig.beat(ErrorCode::NONE);
    // What nobody subscribes to is no news; what somebody does is.
    topics.extend(of("other", 2));
    rig.machine.handle_topics(&topics);
    rig.expect(&[]);
    topics.extend(of("u", 2));
    rig.machine.handle_topics(&topics);
    rig.expect(&["revoked: t-0 t-1"]);
    rig.machine.acknowledge();
    rig.expect(&["join 'm1' gen 4: t owns ''"]);
}

/// A partition that appears between the assignment and the answer to the sync must not wait for the next one that does.
#[test]
fn metadata_that_changes_while_the_leader_syncs_is_not_forgotten() {
    for (then, news) in [(4, true), (3, false)] {
        let mut rig = Rig::new(None, cooperative());
        rig.subscribe("t");
        rig.outputs();
        rig.coordinator();
        rig.expect(&["join '' gen -1: t owns ''"]);
        rig.join(4, "m1", "m1", &[("m1", "t")]);
        rig.expect(&[r#"describe {"t"}"#]);
        rig.machine.handle_topics(&of("t", 2));
        // Not sent yet: the assignment is made of what is newest.
        rig.machine.handle_topics(&of("t", 3));
        rig.expect(&[r#"sync m1 gen 4: ["m1: t-0 t-1 t-2"]"#]);
        rig.machine.handle_topics(&of("t", 5));
        rig.machine.handle_topics(&of("t", then));
        rig.expect(&[]);
        rig.sync("t-0 t-1 t-2");
        rig.expect(&["assigned: t-0 t-1 t-2"]);
        rig.machine.acknowledge();
        let expected: &[&str] = if news { &["join 'm1' gen 4: t owns 't-0 t-1 t-2'"] } else { &[] };
        rig.expect(expected);
    }
}

/// Rules 57 and 58: what is revoked is gone at once, and the group is joined when the listener has returned.
#[test]
fn eager_members_give_everything_back() {
    let mut rig = Rig::following(eager(), "t-0 t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.expect(&["revoked: t-0 t-1"]);
    assert!(rig.machine.owned().is_empty() && rig.machine.committable().len() == 2);
    // The listener takes its time; heartbeats go on.
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.machine.acknowledge();
    assert!(rig.machine.committable().is_empty());
    rig.expect(&["join 'm1' gen 1: t owns ''"]);
    rig.join(2, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 2: []"]);
    rig.sync("t-1");
    rig.expect(&["assigned: t-1"]);
}

/// Rule 62: what stays is not touched, what goes is given back, and then the group is joined once more, at once.
#[test]
fn cooperative_members_give_back_what_moves() {
    let mut rig = Rig::following(cooperative(), "t-0 t-1");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.expect(&["join 'm1' gen 1: t owns 't-0 t-1'"]);
    assert_eq!((rig.machine.owned().len(), rig.machine.standing()), (2, Standing::Member(rig.machine.identity())));
    // While it waits it is alive.
    rig.pass(3_000);
    rig.expect(&["beat m1 gen 1"]);
    rig.beaten(ErrorCode::ILLEGAL_GENERATION);
    rig.join(2, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 2: []"]);
    rig.sync("t-1 t-2");
    rig.expect(&["revoked: t-0"]);
    assert_eq!(shown(&rig.machine.owned().iter().cloned().collect::<Vec<_>>()), "t-1 t-2");
    rig.machine.acknowledge();
    rig.expect(&["assigned: t-2"]);
    rig.machine.acknowledge();
    rig.expect(&["join 'm1' gen 2: t owns 't-1 t-2'"]);
}

/// Rule 61: an unknown id is no use any more; a generation that is gone does not take the id with it. Either way all is lost.
#[test]
fn a_membership_that_is_gone_takes_all_along() {
    for (code, id) in [(ErrorCode::UNKNOWN_MEMBER_ID, ""), (ErrorCode::ILLEGAL_GENERATION, "m1")] {
        for assignors in [eager(), cooperative()] {
            let mut rig = Rig::following(assignors, "t-0");
            rig.beat(code);
            rig.expect(&["lost: t-0"]);
            assert_eq!((rig.machine.committable().len(), rig.machine.standing()), (0, Standing::Out));
            rig.machine.acknowledge();
            rig.expect(&[&format!("join '{id}' gen -1: t owns ''")]);
        }
    }
}

#[test]
fn a_fenced_member_is_finished() {
    for (code, api) in [
        (ErrorCode::FENCED_INSTANCE_ID, ApiKey::HEARTBEAT),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, ApiKey::HEARTBEAT),
        (E(999), ApiKey::HEARTBEAT),
    ] {
        let mut rig = Rig::following(eager(), "t-0");
        rig.beat(code);
        rig.expect(&[&format!("failed {:?}", Problem::Refused { api, code }), "lost: t-0"]);
        rig.machine.acknowledge();
        rig.pass(100_000);
        rig.subscribe("t u");
        rig.expect(&[]);
        let mut again = Rig { now: rig.now, machine: rig.machine, tokens: rig.tokens };
        again.machine.restart(again.now);
        again.expect(&["join 'm1' gen -1: t u owns ''"]);
    }
    for code in [
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::INVALID_SESSION_TIMEOUT,
        ErrorCode::INVALID_GROUP_ID,
    ] {
        let mut rig = Rig::new(None, eager());
        rig.subscribe("t");
        rig.outputs();
        rig.coordinator();
        rig.outputs();
        rig.join_error(code);
        rig.expect(&[&format!("failed {:?}", Problem::Refused { api: ApiKey::JOIN_GROUP, code })]);
        rig.machine.close(true);
        rig.expect(&["closed"]);
    }
}

#[test]
fn a_coordinator_that_moved_is_looked_for() {
    let mut rig = Rig::following(eager(), "t-0");
    rig.beat(ErrorCode::NOT_COORDINATOR);
    rig.expect(&[]);
    rig.pass(100);
    rig.expect(&["find"]);
    rig.machine.handle_coordinator(rig.now, Ok(-1), MIDDLE);
    rig.pass(200);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&[]);
    rig.pass(2_700);
    rig.expect(&["beat m1 gen 1"]);
    // No answer is the same; what was asked it will not answer any more.
    let old = rig.tokens["beat"];
    rig.answer("beat", Answer::Lost);
    rig.machine.handle_answer(rig.now, old, Answer::Heartbeat(HeartbeatResponse::default()), MIDDLE);
    rig.pass(400);
    rig.expect(&["find"]);
}

#[test]
fn joins_and_syncs_are_tried_again() {
    let mut rig = Rig::new(None, eager());
    rig.subscribe("t");
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join '' gen -1: t owns ''"]);
    rig.join_error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    rig.expect(&[]);
    rig.pass(100);
    rig.expect(&["join '' gen -1: t owns ''"]);
    rig.answer("join", Answer::Lost);
    rig.pass(200);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join '' gen -1: t owns ''"]);
    rig.join(3, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 3: []"]);
    // Rule 61.
    rig.sync_error(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.pass(400);
    rig.expect(&["join 'm1' gen 3: t owns ''"]);
    rig.join(4, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 4: []"]);
    rig.answer("sync", Answer::Lost);
    rig.pass(800);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join 'm1' gen 4: t owns ''"]);
    rig.join(5, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 5: []"]);
    rig.sync_error(ErrorCode::UNKNOWN_MEMBER_ID);
    rig.expect(&["join '' gen -1: t owns ''"]);
    rig.answer("join", Answer::Unsupported);
    rig.expect(&[&format!("failed {:?}", Problem::Unsupported { api: ApiKey::JOIN_GROUP })]);
}

/// However many partitions it has, a driver goes through them only when they change.
#[test]
fn heartbeats_are_no_news_of_what_is_owned() {
    let mut rig = Rig::following(cooperative(), "t-0 t-1");
    let ownership = rig.machine.ownership();
    for _ in 0..10 {
        rig.pass(3_000);
        rig.expect(&["beat m1 gen 1"]);
        rig.beaten(ErrorCode::NONE);
        rig.expect(&[]);
    }
    assert_eq!(rig.machine.ownership(), ownership);
    rig.subscribe("u");
    assert_ne!(rig.machine.ownership(), ownership);
}

/// Nobody else can have been given what is still owned here.
#[test]
fn a_session_ends_here_before_it_ends_there() {
    let mut rig = Rig::following(cooperative(), "t-0");
    rig.pass(3_000);
    rig.expect(&["beat m1 gen 1"]);
    rig.beaten(ErrorCode::NONE);
    rig.pass(3_000);
    rig.expect(&["beat m1 gen 1"]);
    // Sent at 3 s, and none came through since then.
    rig.pass(6_999);
    rig.expect(&[]);
    rig.pass(1);
    rig.expect(&["report SessionExpired", "lost: t-0"]);
    rig.machine.acknowledge();
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join 'm1' gen -1: t owns ''"]);
}

/// The coordinator counts from when a heartbeat reached it, which is after it was sent, and may be long before it is answered.
#[test]
fn a_session_counts_from_when_a_heartbeat_was_sent() {
    for code in [ErrorCode::NONE, ErrorCode::REBALANCE_IN_PROGRESS] {
        let mut rig = Rig::following(cooperative(), "t-0");
        rig.pass(3_000);
        rig.expect(&["beat m1 gen 1"]);
        rig.pass(4_000);
        rig.expect(&[]);
        rig.beaten(code);
        rig.outputs();
        rig.pass(5_999);
        rig.expect(&[]);
        rig.pass(1);
        rig.expect(&["report SessionExpired", "lost: t-0"]);
    }
}

/// A member that has not joined in the time that a rebalance may take is out, however well its heartbeats come through.
#[test]
fn a_listener_that_outlasts_a_rebalance_loses_what_it_has() {
    let mut rig = Rig::following(eager(), "t-0");
    rig.machine.poll_begins();
    // Sent at 3 s, when no rebalance had begun.
    rig.beat(ErrorCode::NONE);
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.expect(&["revoked: t-0"]);
    for _ in 0..18 {
        rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    }
    rig.pass(2_999);
    rig.expect(&[]);
    assert_eq!(rig.machine.committable().len(), 1);
    rig.pass(1);
    rig.expect(&["report LateRejoin"]);
    assert!(rig.machine.committable().is_empty());
    assert_eq!(rig.machine.standing(), Standing::Out);
    rig.machine.acknowledge();
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join 'm1' gen -1: t owns ''"]);
}

/// What it was asked it will not answer: another one is asked again, and what still comes from the old one is nothing.
#[test]
fn another_coordinator_is_asked_again() {
    let mut rig = Rig::following(cooperative(), "t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let join = "join 'm1' gen 1: t owns 't-0'";
    rig.expect(&[join]);
    rig.beat(ErrorCode::NOT_COORDINATOR);
    rig.pass(100);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&[join]);
    rig.pass(2_900);
    rig.expect(&["beat m1 gen 1"]);
    rig.answer("join", Answer::Lost);
    rig.beaten(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.machine.owned().len(), 1);
    rig.pass(200);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&[join]);
    // The same of a leave.
    let mut rig = Rig::following(cooperative(), "");
    rig.machine.close(true);
    rig.expect(&["leave m1"]);
    rig.answer("leave", Answer::Lost);
    rig.pass(100);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["leave m1"]);
}

/// Row 24: it leaves on its own, even if its listener is stuck in what it works on.
#[test]
fn who_does_not_poll_leaves() {
    let mut rig = Rig::following(eager(), "t-0");
    rig.machine.poll_begins();
    for _ in 0..30 {
        rig.beat(ErrorCode::NONE);
    }
    rig.machine.poll_ends(rig.now);
    for _ in 0..19 {
        rig.beat(ErrorCode::NONE);
    }
    rig.pass(3_000);
    rig.expect(&["report PollInterval", "lost: t-0", "leave m1"]);
    assert_eq!(rig.machine.standing(), Standing::Out);
    rig.answer("leave", Answer::Leave(LeaveGroupResponse::default()));
    rig.expect(&[]);
    rig.machine.poll_begins();
    rig.expect(&[]);
    rig.machine.acknowledge();
    rig.expect(&["join '' gen -1: t owns ''"]);
}

/// Who closes polls no more, and is not taken for one who works for too long.
#[test]
fn a_close_outlasts_the_poll_interval() {
    let mut rig = Rig::following(eager(), "t-0");
    rig.machine.poll_ends(rig.now);
    for _ in 0..19 {
        rig.beat(ErrorCode::NONE);
    }
    rig.machine.close(true);
    rig.expect(&["revoked: t-0"]);
    rig.beat(ErrorCode::NONE);
    rig.expect(&[]);
    rig.machine.acknowledge();
    rig.expect(&["leave m1"]);
    rig.answer("leave", Answer::Leave(LeaveGroupResponse::default()));
    rig.expect(&["closed"]);
}

#[test]
fn static_members_fall_silent() {
    let mut rig = Rig::new(Some("i"), eager());
    rig.subscribe("t");
    rig.outputs();
    rig.coordinator();
    rig.outputs();
    rig.join(1, "m1", "m0", &[]);
    rig.outputs();
    rig.sync("t-0");
    rig.expect(&["assigned: t-0"]);
    rig.machine.acknowledge();
    rig.machine.close(false);
    rig.expect(&["revoked: t-0"]);
    rig.machine.acknowledge();
    rig.expect(&["closed"]);
    rig.pass(100_000);
    rig.expect(&[]);
}

/// KIP-814 and rule 66: a leader that came back is told to keep the assignment; if that is not for what it subscribes to
/// now, it joins again.
#[test]
fn a_leader_that_came_back_compares() {
    for (topics, outputs) in [("t", &["assigned: t-0"][..]), ("t u", &["assigned: t-0"])] {
        let mut rig = Rig::new(Some("i"), cooperative());
        rig.subscribe(topics);
        rig.outputs();
        rig.coordinator();
        rig.outputs();
        let response = rig.join_response(7, "m1", "m1", &[("m1", topics), ("m2", "t")]);
        rig.answer("join", Answer::Join(JoinGroupResponse { skip_assignment: true, ..response }));
        rig.outputs();
        let mut known = of("t", 2);
        known.extend(of("u", 1));
        rig.machine.handle_topics(&known);
        rig.expect(&["sync m1 gen 7: []"]);
        rig.sync("t-0");
        rig.expect(outputs);
        rig.machine.acknowledge();
        let joins: &[&str] = if topics == "t" { &[] } else { &["join 'm1' gen 7: t u owns 't-0'"] };
        rig.expect(joins);
    }
}

#[test]
fn subscriptions_change_and_end() {
    let mut rig = Rig::following(cooperative(), "t-0 t-1");
    rig.subscribe("t");
    rig.expect(&[]);
    rig.subscribe("u");
    rig.expect(&["revoked: t-0 t-1"]);
    rig.machine.acknowledge();
    rig.expect(&["join 'm1' gen 1: u owns ''"]);
    // What changes on the way is joined for afterwards.
    rig.subscribe("u v");
    rig.join(2, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 2: []"]);
    rig.sync("u-0 x-0 u-0");
    rig.expect(&["assigned: u-0"]);
    rig.machine.acknowledge();
    rig.expect(&["join 'm1' gen 2: u v owns 'u-0'"]);
    rig.subscribe("");
    rig.expect(&["revoked: u-0"]);
    rig.machine.acknowledge();
    rig.expect(&["leave m1"]);
    rig.answer("leave", Answer::Leave(LeaveGroupResponse::default()));
    rig.expect(&[]);
    assert_eq!(rig.machine.poll_timeout(), None);
    rig.subscribe("t");
    rig.expect(&["join '' gen -1: t owns ''"]);
}

/// Of a pattern that matches nothing yet, or nothing any more: a member like any other, which has nothing.
#[test]
fn a_member_stays_without_topics() {
    let mut rig = Rig::new(None, eager());
    rig.machine.subscribe(rig.now, Some(BTreeSet::new()));
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["join '' gen -1:  owns ''"]);
    rig.join(1, "m1", "m1", &[("m1", "")]);
    rig.expect(&["describe {}"]);
    rig.machine.handle_topics(&Topics::new());
    rig.expect(&["sync m1 gen 1: [\"m1: \"]"]);
    rig.sync("");
    rig.expect(&["assigned: "]);
    rig.machine.acknowledge();
    rig.beat(ErrorCode::NONE);
    rig.subscribe("t");
    rig.expect(&["join 'm1' gen 1: t owns ''"]);
    rig.join(2, "m1", "m0", &[]);
    rig.expect(&["sync m1 gen 2: []"]);
    rig.sync("t-0");
    rig.expect(&["assigned: t-0"]);
    rig.machine.acknowledge();
    rig.machine.subscribe(rig.now, Some(BTreeSet::new()));
    rig.expect(&["revoked: t-0"]);
    rig.machine.acknowledge();
    rig.expect(&["join 'm1' gen 2:  owns ''"]);
}

#[test]
fn a_close_revokes_leaves_and_ends() {
    let mut rig = Rig::following(eager(), "t-0");
    rig.machine.close(true);
    rig.expect(&["revoked: t-0"]);
    // The listener commits; the member stays alive.
    rig.beat(ErrorCode::NONE);
    rig.machine.acknowledge();
    rig.expect(&["leave m1"]);
    rig.answer("leave", Answer::Lost);
    rig.pass(100);
    rig.expect(&["find"]);
    rig.coordinator();
    rig.expect(&["leave m1"]);
    rig.pass(4_899);
    rig.expect(&[]);
    rig.pass(1);
    rig.expect(&["closed"]);
    rig.machine.close(true);
    rig.subscribe("t");
    rig.expect(&[]);
}

/// Rule 58.
#[test]
fn listeners_never_overlap() {
    let mut rig = Rig::following(cooperative(), "t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.outputs();
    rig.join(2, "m1", "m0", &[]);
    rig.outputs();
    rig.sync("t-1");
    rig.expect(&["revoked: t-0"]);
    // Lost while the listener hears of something else: what it has not heard of never was.
    rig.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(rig.machine.owned().is_empty() && rig.machine.committable().is_empty());
    rig.expect(&[]);
    rig.machine.acknowledge();
    rig.expect(&["join '' gen -1: t owns ''"]);
}

/// Rule 63: only what was said to this generation counts.
#[test]
fn a_refused_commit_says_something_of_its_own_generation() {
    let mut rig = Rig::following(eager(), "t-0");
    let identity = rig.machine.identity();
    let older = Identity { generation: 0, ..identity.clone() };
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION, ErrorCode::REBALANCE_IN_PROGRESS] {
        rig.machine.handle_refused_commit(rig.now, &older, code, MIDDLE);
    }
    rig.machine.handle_refused_commit(rig.now, &identity, ErrorCode::TOPIC_AUTHORIZATION_FAILED, MIDDLE);
    rig.expect(&[]);
    rig.machine.handle_refused_commit(rig.now, &identity, ErrorCode::ILLEGAL_GENERATION, MIDDLE);
    rig.expect(&["lost: t-0"]);
}

/// The coordinator has answered the join, and then a commit under the old generation, whose answer is here first.
#[test]
fn a_commit_that_the_next_generation_refuses_costs_nothing() {
    let mut rig = Rig::following(cooperative(), "t-0");
    let identity = rig.machine.identity();
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let joining = rig.outputs();
    assert!(joining.iter().any(|output| output.starts_with("join ")), "{joining:?}");
    assert_eq!(rig.machine.identity(), identity);
    rig.machine.handle_refused_commit(rig.now, &identity, ErrorCode::ILLEGAL_GENERATION, MIDDLE);
    rig.expect(&[]);
    assert_eq!(rig.machine.committable().len(), 1);
    // Who is not known is out all the same.
    rig.machine.handle_refused_commit(rig.now, &identity, ErrorCode::UNKNOWN_MEMBER_ID, MIDDLE);
    assert!(rig.machine.committable().is_empty());
}

/// Rule 70, on both ends.
#[test]
fn what_is_malformed_is_survived() {
    let mut rig = Rig::new(None, vec![Arc::new(Sticky)]);
    rig.subscribe("t");
    rig.outputs();
    rig.coordinator();
    rig.outputs();
    let mut response = rig.join_response(1, "m1", "m1", &[("m1", "t"), ("m2", "t")]);
    response.members[1].metadata = b"\0\x03\x7f\xff\xff\xff".as_slice().into();
    rig.answer("join", Answer::Join(response.clone()));
    rig.expect(&[r#"describe {"t"}"#]);
    rig.machine.handle_topics(&of("t", 2));
    rig.expect(&[r#"sync m1 gen 1: ["m1: t-0 t-1", "m2: "]"#]);
    rig.answer("sync", Answer::Sync(SyncGroupResponse { assignment: b"?".as_slice().into(), ..Default::default() }));
    rig.expect(&["report Malformed"]);
    rig.pass(100);
    rig.expect(&["join 'm1' gen 1: t owns ''"]);
    response.protocol_name = Some("nobody's".into());
    rig.answer("join", Answer::Join(response));
    rig.expect(&[&format!("failed {:?}", Problem::UnknownProtocol("nobody's".into()))]);
}

/// A rebalance that is under way when it closes goes on until what it has is committed: once the join is answered, the
/// coordinator takes no commit under the generation before.
#[test]
fn who_closes_in_a_rebalance_commits_under_the_next_generation() {
    let mut rig = Rig::following(cooperative(), "t-0 t-1");
    let before = rig.machine.identity();
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.expect(&["join 'm1' gen 1: t owns 't-0 t-1'"]);
    rig.machine.close(true);
    rig.expect(&["revoked: t-0 t-1"]);
    assert_eq!(rig.machine.standing(), Standing::Member(before.clone()));
    rig.machine.handle_refused_commit(rig.now, &before, ErrorCode::ILLEGAL_GENERATION, MIDDLE);
    assert_eq!(rig.machine.committable().len(), 2);
    rig.join(2, "m1", "m1", &[("m1", "t")]);
    rig.expect(&[r#"describe {"t"}"#]);
    assert_eq!(rig.machine.standing(), Standing::Between);
    rig.machine.handle_topics(&of("t", 3));
    rig.expect(&[r#"sync m1 gen 2: ["m1: t-0 t-1 t-2"]"#]);
    // It takes nothing new.
    rig.sync("t-0 t-1 t-2");
    rig.expect(&[]);
    assert_eq!(rig.machine.standing(), Standing::Member(Identity { generation: 2, ..before.clone() }));
    assert_eq!(rig.machine.committable().into_iter().collect::<Vec<_>>(), partitions("t-0 t-1"));
    rig.machine.handle_refused_commit(rig.now, &before, ErrorCode::ILLEGAL_GENERATION, MIDDLE);
    assert_eq!(rig.machine.committable().len(), 2);
    rig.machine.acknowledge();
    rig.expect(&["leave m1"]);
    rig.answer("leave", Answer::Leave(LeaveGroupResponse::default()));
    rig.expect(&["closed"]);
}

/// The commit may be through before: then the join is not waited for, nor is it sent again.
#[test]
fn who_closes_in_a_rebalance_waits_for_nothing_but_its_commit() {
    let mut rig = Rig::following(cooperative(), "t-0");
    rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    rig.outputs();
    rig.machine.close(true);
    rig.expect(&["revoked: t-0"]);
    rig.machine.acknowledge();
    rig.expect(&["leave m1"]);
    rig.join(2, "m1", "m0", &[]);
    rig.expect(&[]);
    rig.answer("leave", Answer::Leave(LeaveGroupResponse::default()));
    rig.expect(&["closed"]);
    for answer in [Answer::Lost, Answer::Join(JoinGroupResponse { error_code: E(27), ..Default::default() })] {
        let mut rig = Rig::following(cooperative(), "t-0");
        rig.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        rig.outputs();
        rig.machine.close(true);
        rig.answer("join", answer);
        rig.expect(&["revoked: t-0"]);
        rig.pass(1_000);
        let outputs = rig.outputs();
        assert!(!outputs.iter().any(|output| output.starts_with("join")), "{outputs:?}");
        assert_eq!(rig.machine.committable().len(), 1);
        rig.coordinator();
        rig.machine.acknowledge();
        assert_eq!(rig.outputs().last().map(String::as_str), Some("leave m1"));
    }
}
