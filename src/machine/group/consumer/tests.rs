//! Histories of one member, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::wire::coordinator::consumer_group_heartbeat::Assignment;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;
/// The ids of topics `t` and `u`.
const T: Uuid = Uuid([1; 16]);
const U: Uuid = Uuid([2; 16]);

struct Rig {
    now: Instant,
    machine: Consumer,
    token: u64,
}

fn shown(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl Rig {
    fn new(instance_id: Option<&str>) -> Self {
        let config = ConsumerConfig {
            group: "g".into(),
            instance_id: instance_id.map(Into::into),
            rack: Some("r".into()),
            assignor: Some("uniform".into()),
            max_poll_interval: ms(60_000),
            request_timeout: ms(5_000),
            retry_backoff: ms(100),
            retry_backoff_max: ms(1_000),
        };
        Self { now: Instant::now(), machine: Consumer::new(config, "m1".into()), token: 0 }
    }

    /// In epoch 3, with partitions 0 and 1 of `t`.
    fn joined(instance_id: Option<&str>) -> Self {
        let mut rig = Self::new(instance_id);
        rig.subscribe("t");
        rig.expect(&["find"]);
        rig.machine.handle_coordinator(rig.now, Ok(1), MIDDLE);
        rig.expect(&["m1 epoch 0 full names [t] holds []"]);
        rig.answer(3, Some(&[(T, &[0, 1])]));
        rig.expect(&["resolve 1", "m1 epoch 3 holds [t:0,1]"]);
        rig.machine.handle_names(&BTreeMap::from([(T, "t".into()), (U, "u".into())]));
        rig.expect(&["assigned: t-0 t-1"]);
        rig.machine.acknowledge();
        rig.answer(3, None);
        rig.expect(&[]);
        rig
    }

    fn subscribe(&mut self, topics: &str) {
        self.machine.subscribe(self.now, topics.split_whitespace().map(Arc::from).collect(), None);
    }

    fn answer(&mut self, epoch: i32, assignment: Option<&[(Uuid, &[i32])]>) {
        let topics = |given: &[(Uuid, &[i32])]| {
            let topic = |&(topic_id, partitions): &(Uuid, &[i32])| TopicPartitions {
                topic_id,
                partitions: partitions.to_vec(),
                ..Default::default()
            };
            Assignment { topic_partitions: given.iter().map(topic).collect(), ..Default::default() }
        };
        let response = ConsumerGroupHeartbeatResponse {
            member_epoch: epoch,
            heartbeat_interval_ms: 3_000,
            assignment: assignment.map(topics),
            ..Default::default()
        };
        self.machine.handle_answer(self.now, self.token, Answer::Group(response), MIDDLE);
    }

    fn refuse(&mut self, error_code: ErrorCode) {
        let response = ConsumerGroupHeartbeatResponse { error_code, ..Default::default() };
        self.machine.handle_answer(self.now, self.token, Answer::Group(response), MIDDLE);
    }

    fn pass(&mut self, by: u64) {
        self.now += ms(by);
        self.machine.handle_timeout(self.now);
    }

    /// A heartbeat that says nothing, answered with another target.
    fn target(&mut self, epoch: i32, target: &[(Uuid, &[i32])]) {
        self.pass(3_000);
        self.expect(&[&format!("m1 epoch {}", self.machine.epoch)]);
        self.answer(epoch, Some(target));
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll_output(self.now) {
            outputs.push(match output {
                Output::FindCoordinator => "find".into(),
                Output::Send(crate::machine::group::Send { token, call: Call::Group(request), .. }) => {
                    self.token = token;
                    said(&request)
                }
                Output::Changed(Change::Assigned(partitions)) => format!("assigned: {}", shown(&partitions)),
                Output::Changed(Change::Revoked(partitions)) => format!("revoked: {}", shown(&partitions)),
                Output::Changed(Change::Lost(partitions)) => format!("lost: {}", shown(&partitions)),
                Output::Resolve(ids) => format!("resolve {}", ids.len()),
                Output::NeedMemberId => "need an id".into(),
                Output::Report(problem) => format!("report {problem:?}"),
                Output::Failed(problem) => format!("failed {problem:?}"),
                Output::Closed => "closed".into(),
                other => panic!("{other:?}"),
            });
        }
        let due = self.machine.poll_timeout();
        assert!(due.is_none_or(|at| at > self.now), "due, and nothing comes of it: {outputs:?}");
        outputs
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(self.outputs(), expected);
    }
}

fn said(request: &ConsumerGroupHeartbeatRequest) -> String {
    let mut text = format!("{} epoch {}", request.member_id, request.member_epoch);
    let is_full = request.rebalance_timeout_ms == 60_000;
    assert_eq!(is_full, request.rack_id.is_some() && request.server_assignor.as_deref() == Some("uniform"));
    if is_full {
        text += " full";
    }
    if let Some(names) = &request.subscribed_topic_names {
        text += &format!(" names [{}]", names.join(" "));
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        text += &format!(" regex '{regex}'");
    }
    if let Some(holds) = &request.topic_partitions {
        let topic = |topic: &TopicPartitions| {
            let indices: Vec<_> = topic.partitions.iter().map(ToString::to_string).collect();
            format!("{}:{}", if topic.topic_id == T { "t" } else { "u" }, indices.join(","))
        };
        text += &format!(" holds [{}]", holds.iter().map(topic).collect::<Vec<_>>().join(" "));
    }
    text
}

/// Rule 68: while the listener gives back, nothing is said of what is held; then what is left, and what is new.
#[test]
fn a_new_target_is_reconciled() {
    let mut rig = Rig::joined(None);
    rig.target(4, &[(T, &[1, 2])]);
    rig.expect(&["revoked: t-0"]);
    assert_eq!((rig.machine.owned().len(), rig.machine.committable().len()), (2, 3));
    assert_eq!(rig.machine.standing(), Standing::Member(rig.machine.identity()));
    rig.pass(3_000);
    // Held is what is owned, what is new, and what is not given back yet.
    rig.expect(&["m1 epoch 4 holds [t:0,1,2]"]);
    rig.answer(4, None);
    rig.machine.acknowledge();
    rig.expect(&["assigned: t-2"]);
    rig.machine.acknowledge();
    rig.expect(&["m1 epoch 4 holds [t:1,2]"]);
    rig.answer(4, None);
    rig.expect(&[]);
    rig.target(5, &[]);
    rig.expect(&["revoked: t-1 t-2"]);
    rig.machine.acknowledge();
    // Rule 67: nothing is an empty list.
    rig.expect(&["m1 epoch 5 holds []"]);
}

/// However many partitions it has, a driver goes through them only when they change.
#[test]
fn heartbeats_are_no_news_of_what_is_owned() {
    let mut rig = Rig::joined(None);
    let ownership = rig.machine.ownership();
    for _ in 0..10 {
        rig.pass(5_000);
        rig.expect(&["m1 epoch 3"]);
        rig.answer(3, None);
        rig.expect(&[]);
    }
    assert_eq!(rig.machine.ownership(), ownership);
    rig.target(4, &[(T, &[1])]);
    rig.expect(&["revoked: t-0"]);
    rig.machine.acknowledge();
    assert_ne!(rig.machine.ownership(), ownership);
}

/// Rules 68 and 86: the topic is asked for until metadata knows it, and held all along.
#[test]
fn a_topic_that_is_not_known_yet_is_kept() {
    let mut rig = Rig::joined(None);
    rig.target(4, &[(T, &[0, 1]), (U, &[5])]);
    rig.expect(&["resolve 1", "m1 epoch 4 holds [t:0,1 u:5]"]);
    rig.answer(4, None);
    rig.expect(&["resolve 1"]);
    rig.machine.handle_names(&BTreeMap::from([(U, "u".into())]));
    rig.expect(&["assigned: u-5"]);
}

/// Rule 67.
#[test]
fn who_is_fenced_loses_all_and_joins_anew() {
    for (code, new_id) in [(ErrorCode::FENCED_MEMBER_EPOCH, false), (ErrorCode::UNKNOWN_MEMBER_ID, true)] {
        let mut rig = Rig::joined(None);
        rig.pass(3_000);
        rig.expect(&["m1 epoch 3"]);
        rig.refuse(code);
        assert!(rig.machine.owned().is_empty() && rig.machine.committable().is_empty());
        assert_eq!(rig.machine.standing(), Standing::Out);
        let lost: &[&str] = if new_id { &["need an id", "lost: t-0 t-1"] } else { &["lost: t-0 t-1"] };
        rig.expect(lost);
        if new_id {
            rig.machine.set_member_id("m2".into());
        }
        rig.pass(10_000);
        rig.expect(&[]);
        rig.machine.acknowledge();
        let id = if new_id { "m2" } else { "m1" };
        rig.expect(&[&format!("{id} epoch 0 full names [t] holds []")]);
    }
}

/// Rule 67: after anything went wrong, all is said again.
#[test]
fn after_an_error_everything_is_said() {
    let mut rig = Rig::joined(None);
    let full = "m1 epoch 3 full names [t] holds [t:0,1]";
    rig.pass(3_000);
    rig.expect(&["m1 epoch 3"]);
    rig.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    rig.expect(&[]);
    rig.pass(100);
    rig.expect(&[full]);
    rig.refuse(ErrorCode::NOT_COORDINATOR);
    rig.pass(200);
    rig.expect(&["find"]);
    rig.machine.handle_coordinator(rig.now, Ok(2), MIDDLE);
    rig.expect(&[full]);
    rig.machine.handle_answer(rig.now, rig.token, Answer::Lost, MIDDLE);
    rig.pass(400);
    rig.expect(&["find"]);
    rig.machine.handle_coordinator(rig.now, Ok(2), MIDDLE);
    rig.expect(&[full]);
    // A late answer to an earlier one is none.
    rig.machine.handle_answer(rig.now, rig.token - 1, Answer::Lost, MIDDLE);
    rig.answer(3, None);
    rig.expect(&[]);
    rig.pass(3_000);
    rig.expect(&["m1 epoch 3"]);
}

/// An answer that came later than the next heartbeat was due, and with a back-off. (Seed 52 of the simulation.)
#[test]
fn an_overdue_heartbeat_wakes_nobody_during_the_back_off() {
    let mut rig = Rig::joined(None);
    rig.pass(3_000);
    rig.expect(&["m1 epoch 3"]);
    rig.pass(3_500);
    rig.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    rig.expect(&[]);
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(100)));
    rig.pass(100);
    rig.expect(&["m1 epoch 3 full names [t] holds [t:0,1]"]);
}

#[test]
fn subscriptions_change_at_once() {
    let mut rig = Rig::joined(None);
    rig.subscribe("t u");
    rig.expect(&["m1 epoch 3 names [t u]"]);
    // Said again if it was not heard, and once only.
    rig.refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    rig.pass(100);
    rig.expect(&["m1 epoch 3 full names [t u] holds [t:0,1]"]);
    rig.answer(4, None);
    rig.subscribe("t u");
    rig.expect(&[]);
    rig.machine.subscribe(rig.now, BTreeSet::new(), Some("t.*".into()));
    rig.expect(&["m1 epoch 4 names [] regex 't.*'"]);
    rig.answer(5, None);
    rig.machine.subscribe(rig.now, BTreeSet::from(["u".into()]), None);
    rig.expect(&["m1 epoch 5 names [u] regex ''"]);
    rig.answer(6, None);
    rig.subscribe("");
    rig.expect(&["revoked: t-0 t-1"]);
    rig.machine.acknowledge();
    rig.expect(&["m1 epoch -1"]);
    rig.answer(-1, None);
    rig.expect(&[]);
    assert_eq!(rig.machine.poll_timeout(), None);
}

#[test]
fn static_members_come_back() {
    let mut rig = Rig::joined(Some("i"));
    rig.machine.close(false);
    rig.expect(&["revoked: t-0 t-1"]);
    rig.pass(3_000);
    rig.expect(&["m1 epoch 3"]);
    rig.machine.acknowledge();
    rig.expect(&["m1 epoch -2"]);
    // It is tried again until it was heard, or its time is up.
    rig.machine.handle_answer(rig.now, rig.token, Answer::Lost, MIDDLE);
    rig.pass(100);
    rig.expect(&["find"]);
    rig.machine.handle_coordinator(rig.now, Ok(2), MIDDLE);
    rig.expect(&["m1 epoch -2"]);
    rig.refuse(ErrorCode::UNKNOWN_MEMBER_ID);
    rig.expect(&["closed"]);

    // The one that was killed still holds the name, until its session ends.
    let mut rig = Rig::new(Some("i"));
    rig.subscribe("t");
    rig.outputs();
    rig.machine.handle_coordinator(rig.now, Ok(1), MIDDLE);
    rig.expect(&["m1 epoch 0 full names [t] holds []"]);
    rig.refuse(ErrorCode::UNRELEASED_INSTANCE_ID);
    let code = ErrorCode::UNRELEASED_INSTANCE_ID;
    rig.expect(&[&format!("report {:?}", Problem::Refused { api: ApiKey::CONSUMER_GROUP_HEARTBEAT, code })]);
    rig.pass(100);
    rig.expect(&["m1 epoch 0 full names [t] holds []"]);
    rig.refuse(code);
    rig.expect(&[]);
    rig.pass(200);
    rig.expect(&["m1 epoch 0 full names [t] holds []"]);
}

#[test]
fn what_cannot_be_mended_ends_it() {
    for code in [
        ErrorCode::UNSUPPORTED_ASSIGNOR,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::INVALID_REGULAR_EXPRESSION,
        ErrorCode::INVALID_REQUEST,
        ErrorCode(999),
    ] {
        let mut rig = Rig::joined(None);
        rig.pass(3_000);
        rig.expect(&["m1 epoch 3"]);
        rig.refuse(code);
        let problem = Problem::Refused { api: ApiKey::CONSUMER_GROUP_HEARTBEAT, code };
        rig.expect(&[&format!("failed {problem:?}"), "lost: t-0 t-1"]);
        rig.machine.acknowledge();
        rig.pass(100_000);
        rig.expect(&[]);
        rig.machine.restart(rig.now);
        rig.expect(&["m1 epoch 0 full names [t] holds []"]);
        rig.machine.handle_answer(rig.now, rig.token, Answer::Unsupported, MIDDLE);
        let problem = Problem::Unsupported { api: ApiKey::CONSUMER_GROUP_HEARTBEAT };
        rig.expect(&[&format!("failed {problem:?}")]);
        rig.machine.close(true);
        rig.expect(&["closed"]);
    }
}

/// Row 24.
#[test]
fn who_does_not_poll_leaves() {
    let mut rig = Rig::joined(None);
    rig.machine.poll_begins();
    rig.machine.poll_ends(rig.now);
    for _ in 0..19 {
        rig.pass(3_000);
        rig.expect(&["m1 epoch 3"]);
        rig.answer(3, None);
    }
    rig.pass(3_000);
    rig.expect(&["report PollInterval", "lost: t-0 t-1", "m1 epoch -1"]);
    rig.answer(-1, None);
    rig.machine.acknowledge();
    rig.expect(&[]);
    rig.machine.poll_begins();
    rig.expect(&["m1 epoch 0 full names [t] holds []"]);
}

/// Who closes polls no more, and is not taken for one who works for too long.
#[test]
fn a_close_outlasts_the_poll_interval() {
    let mut rig = Rig::joined(None);
    rig.machine.poll_ends(rig.now);
    for _ in 0..19 {
        rig.pass(3_000);
        rig.expect(&["m1 epoch 3"]);
        rig.answer(3, None);
    }
    rig.machine.close(true);
    rig.expect(&["revoked: t-0 t-1"]);
    rig.pass(3_000);
    rig.expect(&["m1 epoch 3"]);
    rig.answer(3, None);
    rig.machine.acknowledge();
    rig.expect(&["m1 epoch -1"]);
    rig.answer(-1, None);
    rig.expect(&["closed"]);
}

/// Rule 58; and what the listener has not heard of never was.
#[test]
fn listeners_never_overlap() {
    let mut rig = Rig::joined(None);
    rig.target(4, &[(T, &[1, 2])]);
    rig.expect(&["revoked: t-0"]);
    rig.pass(3_000);
    rig.expect(&["m1 epoch 4 holds [t:0,1,2]"]);
    rig.refuse(ErrorCode::FENCED_MEMBER_EPOCH);
    assert!(rig.machine.committable().is_empty());
    rig.expect(&[]);
    rig.machine.acknowledge();
    rig.expect(&["lost: t-1"]);
    rig.machine.acknowledge();
    rig.expect(&["m1 epoch 0 full names [t] holds []"]);
}

/// Rule 63: a commit does not know; a heartbeat does.
#[test]
fn a_refused_commit_asks_for_a_heartbeat() {
    let mut rig = Rig::joined(None);
    let identity = rig.machine.identity();
    let older = Identity { generation: 2, ..identity.clone() };
    rig.machine.handle_refused_commit(&older, ErrorCode::STALE_MEMBER_EPOCH);
    rig.expect(&[]);
    rig.machine.handle_refused_commit(&identity, ErrorCode::STALE_MEMBER_EPOCH);
    rig.expect(&["m1 epoch 3"]);
    // Who closes commits under the epoch that it hears of, and does not wait for the next interval.
    rig.answer(3, None);
    rig.machine.close(true);
    rig.expect(&["revoked: t-0 t-1"]);
    rig.machine.handle_refused_commit(&identity, ErrorCode::STALE_MEMBER_EPOCH);
    rig.expect(&["m1 epoch 3"]);
    rig.answer(4, None);
    assert_eq!(rig.machine.standing(), Standing::Member(Identity { generation: 4, ..identity }));
    assert_eq!(rig.machine.committable().len(), 2);
}
