//! Histories of positions, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::machine::metadata;
use crate::record::RecordError;
use crate::wire::cluster::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const PATIENCE: Duration = ms(60_000);
const UNKNOWN_PATIENCE: Duration = ms(5_000);
/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;

/// A picture of three brokers and topic `t`, by what it says of each partition: leader (-1: none) and epoch.
fn cluster(error_code: ErrorCode, partitions: &[(i32, i32)]) -> Arc<Cluster> {
    of_incarnation(7, error_code, partitions)
}

fn of_incarnation(id: u8, error_code: ErrorCode, partitions: &[(i32, i32)]) -> Arc<Cluster> {
    let brokers =
        (1..=3).map(|node_id| MetadataResponseBroker { node_id, host: "b".into(), port: 9092, ..Default::default() });
    let partitions = partitions.iter().zip(0..).map(|(&(leader_id, leader_epoch), partition_index)| {
        MetadataResponsePartition { partition_index, leader_id, leader_epoch, ..Default::default() }
    });
    let topic = MetadataResponseTopic {
        error_code,
        name: Some("t".into()),
        topic_id: Uuid([id; 16]),
        partitions: partitions.collect(),
        ..Default::default()
    };
    let response = MetadataResponse { brokers: brokers.collect(), topics: vec![topic], ..Default::default() };
    let config = metadata::Config {
        max_age: ms(1000),
        retry_backoff: ms(100),
        retry_backoff_max: ms(1000),
        hedge_after: ms(500),
        seeds: 1,
    };
    let now = Instant::now();
    let mut machine = metadata::Metadata::new(now, config, 0);
    machine.want(now, &"t".into(), false);
    let query = machine.poll_query(now).unwrap();
    machine.handle_answer(now, query.id, &response, MIDDLE);
    Arc::clone(machine.cluster())
}

struct Rig {
    now: Instant,
    machine: Offsets,
}

impl Rig {
    fn new(reset: Reset) -> Self {
        let config = Config {
            reset,
            retry_backoff: ms(100),
            retry_backoff_max: ms(1000),
            patience: PATIENCE,
            unknown_patience: UNKNOWN_PATIENCE,
            follow_for: ms(300_000),
        };
        Self { now: Instant::now(), machine: Offsets::new(config) }
    }

    /// Knowing that broker 1 leads both partitions, in epoch 3.
    fn knowing(reset: Reset) -> Self {
        let mut rig = Self::new(reset);
        rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 3), (1, 3)]));
        rig
    }

    /// Partition 0 at offset 10, out with broker 1.
    fn fetching(reset: Reset) -> Self {
        let mut rig = Self::knowing(reset);
        rig.assign(0, Start::At(10));
        assert_eq!(rig.outputs(), ["route 0.0 to 1 at 10 in epoch 3"]);
        rig
    }

    fn assign(&mut self, index: i32, start: Start) {
        self.machine.assign(index as u64, "t".into(), index, 0, start);
    }

    fn seek(&mut self, generation: u64, start: Start) {
        self.machine.seek(0, generation, start);
    }

    fn released(&mut self, generation: u64, next: i64, why: Why) {
        self.released_after(generation, next, Seen::NOTHING, why);
    }

    fn released_after(&mut self, generation: u64, next: i64, seen: Seen, why: Why) {
        self.machine.handle_released(self.now, 0, generation, (next, seen), why, MIDDLE);
    }

    fn epoch_ended(&mut self, generation: u64, answer: Result<(i32, i64), ErrorCode>) {
        self.machine.handle_epoch_end(self.now, 0, generation, answer, MIDDLE);
    }

    fn listed(&mut self, generation: u64, answer: Result<i64, ErrorCode>) {
        self.machine.handle_offset(self.now, 0, generation, answer, MIDDLE);
    }

    fn committed(&mut self, generation: u64, answer: Result<Option<i64>, ()>) {
        let answer = answer.map(|offset| offset.map(|offset| (offset, -1)));
        self.machine.handle_committed(self.now, 0, generation, answer, MIDDLE);
    }

    fn outputs(&mut self) -> Vec<String> {
        let mut outputs = Vec::new();
        while let Some(output) = self.machine.poll_output(self.now) {
            outputs.push(match output {
                Output::Route { leader, route } => {
                    let Route { id, generation, offset, leader_epoch, .. } = route;
                    format!("route {id}.{generation} to {leader} at {offset} in epoch {leader_epoch}")
                }
                Output::Pause { leader, id, is_paused } => format!("tell {leader} that {id} pauses: {is_paused}"),
                Output::Diverged { id, generation, end } => format!("{id}.{generation} was cut at {end}"),
                Output::Recreated { id, generation } => format!("{id}.{generation} is another topic"),
                Output::AskEpochs { leader, asked } => {
                    let asked: Vec<_> =
                        asked.iter().map(|ask| (ask.id, ask.generation, ask.leader_epoch, ask.epoch)).collect();
                    format!("epochs of {asked:?} from {leader}")
                }
                Output::Recall { leader, id, generation } => format!("recall {id}.{generation} from {leader}"),
                Output::AskCommitted(asked) => format!("commits of {asked:?}"),
                Output::AskOffsets { leader, asked } => {
                    let time = |at| match at {
                        At::Time(time) => time,
                        At::Ago(ms) => -1_000 - ms,
                    };
                    let asked: Vec<_> = asked.iter().map(|ask| (ask.id, ask.generation, time(ask.at))).collect();
                    format!("ends of {asked:?} from {leader}")
                }
                Output::Position { id, generation, offset } => format!("{id}.{generation} is at {offset}"),
                Output::Report { id, generation, problem } => format!("report {id}.{generation}: {problem:?}"),
                Output::Stale => "stale".into(),
            });
        }
        let due = self.machine.poll_timeout();
        assert!(due.is_none_or(|at| at > self.now), "due, and nothing comes of it: {outputs:?}");
        outputs
    }

    /// Waits until it wants to be called, and no longer than `limit`.
    fn wait(&mut self, limit: Duration) -> Duration {
        let due = self.machine.poll_timeout().map_or(limit, |at| at - self.now).min(limit);
        self.now += due;
        self.machine.handle_timeout(self.now);
        due
    }
}

#[test]
fn a_committed_offset_is_where_it_begins() {
    let mut rig = Rig::knowing(Reset::Latest);
    rig.assign(0, Start::Committed);
    rig.assign(1, Start::Committed);
    assert_eq!(rig.outputs(), ["commits of [(0, 0), (1, 0)]"]);
    rig.committed(0, Ok(Some(42)));
    rig.machine.handle_committed(rig.now, 1, 0, Ok(None), MIDDLE);
    assert_eq!(rig.outputs(), ["0.0 is at 42", "route 0.0 to 1 at 42 in epoch 3", "ends of [(1, 0, -1)] from 1"]);
    rig.machine.handle_offset(rig.now, 1, 0, Ok(7), MIDDLE);
    assert_eq!(rig.outputs(), ["1.0 is at 7", "route 1.0 to 1 at 7 in epoch 3"]);
}

#[test]
fn policies_decide_where_nothing_is_committed() {
    for (reset, expected) in [
        (Reset::Earliest, "ends of [(0, 0, -2)] from 1"),
        (Reset::Latest, "ends of [(0, 0, -1)] from 1"),
        (Reset::None, "report 0.0: NoPosition"),
    ] {
        let mut rig = Rig::knowing(reset);
        rig.assign(0, Start::Committed);
        rig.outputs();
        rig.committed(0, Ok(None));
        assert_eq!(rig.outputs(), [expected]);
        let mut rig = Rig::knowing(reset);
        rig.assign(0, Start::Reset);
        assert_eq!(rig.outputs(), [expected]);
    }
    let mut rig = Rig::knowing(Reset::None);
    rig.assign(0, Start::Reset);
    rig.outputs();
    assert_eq!(rig.wait(PATIENCE), PATIENCE, "it waits for a seek alone");
    rig.seek(1, Start::At(5));
    assert_eq!(rig.outputs(), ["route 0.1 to 1 at 5 in epoch 3"]);
}

#[test]
fn a_lookup_that_fails_is_repeated_with_back_off_and_reported_once() {
    let mut rig = Rig::knowing(Reset::Earliest);
    rig.assign(0, Start::Reset);
    let (mut asked, mut reports) = (0, Vec::new());
    let end = rig.now + PATIENCE * 2;
    while rig.now < end {
        for output in rig.outputs() {
            if output.starts_with("ends") {
                asked += 1;
                rig.listed(0, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
            } else if output != "stale" {
                reports.push((rig.now + PATIENCE * 2 - end, output));
            }
        }
        rig.wait(ms(1000));
    }
    assert!((115..130).contains(&asked), "{asked}");
    assert_eq!(reports, [(PATIENCE, "report 0.0: Unresolved(NOT_LEADER_OR_FOLLOWER (6))".to_owned())]);
    // A negative end of a log is none; what no waiting mends is said at once.
    rig.listed(0, Ok(-1));
    assert_eq!(rig.outputs()[1], "report 0.0: Refused { api: ListOffsets, code: UNKNOWN_SERVER_ERROR (-1) }");
    rig.seek(1, Start::Earliest);
    assert_eq!(rig.outputs(), ["ends of [(0, 1, -2)] from 1"]);
    rig.listed(1, Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let report = "report 0.1: Refused { api: ListOffsets, code: TOPIC_AUTHORIZATION_FAILED (29) }";
    assert_eq!(rig.outputs(), [report]);
    rig.wait(ms(1000));
    assert_eq!(rig.outputs(), ["ends of [(0, 1, -2)] from 1"]);
    rig.listed(1, Ok(0));
    assert_eq!(rig.outputs(), ["0.1 is at 0", "route 0.1 to 1 at 0 in epoch 3"]);
}

#[test]
fn commits_that_cannot_be_asked_are_asked_again() {
    let mut rig = Rig::knowing(Reset::Earliest);
    rig.assign(0, Start::Committed);
    rig.outputs();
    rig.committed(0, Err(()));
    assert!(rig.outputs().is_empty());
    assert_eq!(rig.wait(ms(5000)), ms(100));
    assert_eq!(rig.outputs(), ["commits of [(0, 0)]"]);
    // A seek is faster.
    rig.seek(1, Start::At(5));
    assert_eq!(rig.outputs(), ["route 0.1 to 1 at 5 in epoch 3"]);
    rig.committed(0, Ok(Some(42)));
    assert!(rig.outputs().is_empty());
}

#[test]
fn a_leader_move_brings_the_partition_home_and_on() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    assert_eq!(rig.outputs(), ["recall 0.0 from 1"]);
    assert!(rig.machine.is_used(1));
    // The next picture asks for nothing twice.
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    assert!(rig.outputs().is_empty());
    rig.released(0, 25, Why::Recalled);
    assert_eq!(rig.outputs(), ["route 0.0 to 2 at 25 in epoch 4"]);
    assert!(rig.machine.is_used(2) && !rig.machine.is_used(1));
    // Or the old leader says so first: then the picture is old.
    rig.released(0, 25, Why::Moved(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(rig.outputs().is_empty());
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(3, 5), (1, 3)]));
    rig.wait(ms(100));
    assert_eq!(rig.outputs(), ["route 0.0 to 3 at 25 in epoch 5"]);
}

#[test]
fn an_epoch_alone_brings_it_home_and_none_goes_back() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 4), (1, 3)]));
    assert_eq!(rig.outputs(), ["recall 0.0 from 1"]);
    rig.released(0, 10, Why::Recalled);
    assert_eq!(rig.outputs(), ["route 0.0 to 1 at 10 in epoch 4"], "nothing was read: there is nothing to validate");
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 2), (1, 3)]));
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(-1, 4), (1, 3)]));
    assert!(rig.outputs().is_empty(), "without a leader it stays where it is");
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 2), (1, 3)]));
    assert_eq!(rig.outputs(), ["recall 0.0 from 1"]);
    rig.released(0, 10, Why::Recalled);
    assert_eq!(rig.outputs(), ["route 0.0 to 2 at 10 in epoch 4"]);
}

/// Rules 41 and 48: nothing that is known of the old topic is applied to the new one.
#[test]
fn a_topic_of_another_id_is_another_topic() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.machine.handle_cluster(of_incarnation(8, ErrorCode::NONE, &[(2, 0)]));
    assert_eq!(rig.outputs(), ["recall 0.0 from 1"]);
    rig.released_after(0, 20, SEEN, Why::Recalled);
    assert_eq!(rig.outputs(), ["0.0 is another topic"]);
    assert_eq!(rig.wait(PATIENCE), PATIENCE, "it waits for a seek");
    rig.seek(1, Start::Earliest);
    assert_eq!(rig.outputs(), ["ends of [(0, 1, -2)] from 2"]);
    rig.listed(1, Ok(0));
    assert_eq!(rig.outputs(), ["0.1 is at 0", "route 0.1 to 2 at 0 in epoch 0"]);
}

/// The record before the position is of epoch 3, and of second 5.
const SEEN: Seen = Seen { epoch: 3, timestamp: 5_000 };

/// Rule 42: what was read is held against the log of each new leader, and of each new term.
#[test]
fn a_new_epoch_is_validated_before_it_is_fetched_from() {
    for picture in [[(2, 4), (1, 3)], [(1, 4), (1, 3)]] {
        let leader = picture[0].0;
        let mut rig = Rig::fetching(Reset::Latest);
        rig.machine.handle_cluster(cluster(ErrorCode::NONE, &picture));
        rig.outputs();
        rig.released_after(0, 25, SEEN, Why::Recalled);
        let ask = [format!("epochs of [(0, 0, 4, 3)] from {leader}")];
        assert_eq!(rig.outputs(), ask);
        // A leader that does not know its term yet, and one that does not answer.
        for code in [ErrorCode::UNKNOWN_LEADER_EPOCH, ErrorCode::NONE, ErrorCode::FENCED_LEADER_EPOCH] {
            rig.epoch_ended(0, Err(code));
            assert!(rig.outputs().iter().all(|output| output == "stale"));
            rig.wait(ms(1000));
            assert_eq!(rig.outputs(), ask, "{code}");
        }
        rig.epoch_ended(0, Ok((3, 25)));
        assert_eq!(rig.outputs(), [format!("route 0.0 to {leader} at 25 in epoch 4")]);
        // What is read in the new term needs no proof, and neither does a position that was proven.
        rig.released(0, 25, Why::Moved(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        rig.wait(ms(1000));
        assert_eq!(rig.outputs(), [format!("route 0.0 to {leader} at 25 in epoch 4")]);
    }
}

/// The same of a leader that comes while its predecessor is asked: what that one answers says nothing of its log.
#[test]
fn an_answer_about_one_leader_proves_nothing_of_the_next() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    rig.outputs();
    rig.released_after(0, 25, SEEN, Why::Recalled);
    assert_eq!(rig.outputs(), ["epochs of [(0, 0, 4, 3)] from 2"]);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(3, 5), (1, 3)]));
    rig.outputs();
    rig.epoch_ended(0, Ok((3, 25)));
    assert_eq!(rig.outputs(), ["epochs of [(0, 0, 5, 3)] from 3"]);
    rig.epoch_ended(0, Ok((3, 25)));
    assert_eq!(rig.outputs(), ["route 0.0 to 3 at 25 in epoch 5"]);
}

/// Rule 42, row 17.
#[test]
fn a_log_that_was_cut_is_told_with_the_place() {
    for (answer, expected) in [
        (Ok((3, 20)), vec!["0.0 was cut at 20"]),
        // The epoch is not in that log at all.
        (Ok((2, 7)), vec!["0.0 was cut at 7"]),
        (Ok((2, 90)), vec!["0.0 was cut at 25"]),
        // Not known, and so no loss (the sentinel).
        (Ok((-1, -1)), vec!["route 0.0 to 2 at 25 in epoch 4"]),
        (Ok((3, 26)), vec!["route 0.0 to 2 at 25 in epoch 4"]),
    ] {
        let mut rig = Rig::fetching(Reset::Latest);
        rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
        rig.outputs();
        rig.released_after(0, 25, SEEN, Why::Recalled);
        rig.outputs();
        rig.epoch_ended(0, answer);
        assert_eq!(rig.outputs(), expected);
        if expected[0].starts_with("route") {
            continue;
        }
        assert_eq!(rig.wait(PATIENCE), PATIENCE, "it waits for a seek");
        rig.seek(1, Start::At(7));
        assert_eq!(rig.outputs(), ["route 0.1 to 2 at 7 in epoch 4"]);
    }
}

/// Rule 42: two cuts in a row, and the second one is below what the first one has left. Found by a history of
/// `simulation::reading`.
#[test]
fn what_was_read_below_a_cut_is_held_against_the_next_leader_too() {
    // Where the caller was: at the place of the first cut, or below it with more in its buffer.
    for position in [20, 18] {
        for (answer, expected) in [
            (Ok((2, 20)), format!("route 0.1 to 1 at {position} in epoch 5")),
            (Ok((2, 15)), "0.1 was cut at 15".into()),
        ] {
            let mut rig = Rig::fetching(Reset::Latest);
            rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
            rig.outputs();
            rig.released_after(0, 25, SEEN, Why::Recalled);
            rig.outputs();
            rig.epoch_ended(0, Ok((2, 20)));
            assert_eq!(rig.outputs(), ["0.0 was cut at 20"]);
            rig.seek(1, Start::At(position));
            assert_eq!(rig.outputs(), [format!("route 0.1 to 2 at {position} in epoch 4")], "its leader was asked");
            rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 5), (1, 3)]));
            rig.outputs();
            rig.released(1, position, Why::Recalled);
            assert_eq!(rig.outputs(), ["epochs of [(0, 1, 5, 2)] from 1"]);
            rig.epoch_ended(1, answer);
            assert_eq!(rig.outputs(), [expected]);
        }
    }
    // Below the place of the cut the record before may be of an older epoch, and is no other one for that; at it, it is.
    for (position, expected) in [(18, "route 0.1 to 1 at 18 in epoch 5"), (20, "0.1 was cut at 19")] {
        let mut rig = Rig::fetching(Reset::Latest);
        rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
        rig.outputs();
        rig.released_after(0, 25, SEEN, Why::Recalled);
        rig.outputs();
        rig.epoch_ended(0, Ok((2, 20)));
        rig.seek(1, Start::At(position));
        rig.outputs();
        rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 5), (1, 3)]));
        rig.outputs();
        rig.released(1, position, Why::Recalled);
        rig.outputs();
        rig.epoch_ended(1, Ok((1, 19)));
        assert_eq!(rig.outputs(), [expected]);
    }
}

/// Rule 45: a cut is no beginning either, for which the policy would be.
#[test]
fn what_is_deleted_behind_a_cut_is_reported() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    rig.outputs();
    rig.released_after(0, 25, SEEN, Why::Recalled);
    rig.outputs();
    rig.epoch_ended(0, Ok((2, 20)));
    rig.seek(1, Start::At(20));
    rig.outputs();
    rig.released(1, 20, Why::OutOfRange);
    assert_eq!(rig.outputs(), ["ends of [(0, 1, -2)] from 2"]);
}

/// Rule 44: an explicit offset borrows no epoch, a committed one brings its own.
#[test]
fn only_what_was_read_is_validated() {
    let mut rig = Rig::knowing(Reset::Latest);
    rig.assign(0, Start::Committed);
    rig.outputs();
    rig.machine.handle_committed(rig.now, 0, 0, Ok(Some((42, 2))), MIDDLE);
    assert_eq!(rig.outputs(), ["0.0 is at 42", "epochs of [(0, 0, 3, 2)] from 1"]);
    rig.seek(1, Start::At(50));
    assert_eq!(rig.outputs(), ["route 0.1 to 1 at 50 in epoch 3"]);
    rig.epoch_ended(0, Ok((2, 10)));
    assert!(rig.outputs().is_empty(), "of a past life");
    rig.released_after(1, 60, SEEN, Why::Recalled);
    rig.seek(2, Start::At(55));
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    assert_eq!(rig.outputs(), ["route 0.2 to 2 at 55 in epoch 4"]);
}

/// Rule 45, row 18: what was being read goes on with the first record that was not seen, whatever the policy.
#[test]
fn a_position_that_fell_out_of_the_log_goes_on_behind_the_gap() {
    for reset in [Reset::Earliest, Reset::Latest, Reset::Ago(1), Reset::None] {
        let is_none = reset == Reset::None;
        let begin = || {
            let mut rig = Rig::fetching(reset);
            rig.released_after(0, 25, SEEN, Why::OutOfRange);
            assert_eq!(rig.outputs(), ["ends of [(0, 0, -2)] from 1"], "at once");
            rig
        };
        // Deleted below: retention.
        let mut rig = begin();
        rig.listed(0, Ok(30));
        let expected =
            ["report 0.0: Lost { expected: 25, next: 30 }", "0.0 is at 30", "route 0.0 to 1 at 30 in epoch 3"];
        assert_eq!(rig.outputs(), if is_none { vec!["report 0.0: OutOfRange(25)"] } else { expected.to_vec() });
        // Not out of it after all: a broker that lagged.
        let mut rig = begin();
        rig.listed(0, Ok(10));
        assert_eq!(rig.outputs(), ["ends of [(0, 0, -1)] from 1"]);
        rig.listed(0, Ok(25));
        assert!(rig.outputs().is_empty());
        rig.wait(ms(1000));
        assert_eq!(rig.outputs(), ["route 0.0 to 1 at 25 in epoch 3"]);
        // It ends below: by the time of the last record.
        let mut rig = begin();
        rig.listed(0, Ok(10));
        rig.outputs();
        rig.listed(0, Ok(20));
        if is_none {
            assert_eq!(rig.outputs(), ["report 0.0: OutOfRange(25)"]);
            continue;
        }
        assert_eq!(rig.outputs(), ["ends of [(0, 0, 5001)] from 1"]);
        rig.listed(0, Ok(-1));
        assert_eq!(rig.outputs(), ["ends of [(0, 0, -1)] from 1"], "nothing is younger: the end (rule 47)");
        rig.listed(0, Ok(20));
        let expected =
            ["report 0.0: Lost { expected: 25, next: 20 }", "0.0 is at 20", "route 0.0 to 1 at 20 in epoch 3"];
        assert_eq!(rig.outputs(), expected);
    }
}

#[test]
fn a_committed_offset_that_the_log_has_lost_goes_by_the_policy_and_is_reported() {
    let mut rig = Rig::knowing(Reset::Earliest);
    rig.assign(0, Start::Committed);
    rig.outputs();
    rig.committed(0, Ok(Some(42)));
    rig.outputs();
    rig.released(0, 42, Why::OutOfRange);
    assert_eq!(rig.outputs(), ["ends of [(0, 0, -2)] from 1"]);
    rig.listed(0, Ok(100));
    let expected =
        ["report 0.0: Lost { expected: 42, next: 100 }", "0.0 is at 100", "route 0.0 to 1 at 100 in epoch 3"];
    assert_eq!(rig.outputs(), expected);
}

/// Rule 47, KIP-1106.
#[test]
fn times_are_looked_up_and_what_is_younger_than_all_is_the_end() {
    let mut rig = Rig::knowing(Reset::Ago(60_000));
    rig.assign(0, Start::Reset);
    assert_eq!(rig.outputs(), ["ends of [(0, 0, -61000)] from 1"]);
    rig.listed(0, Ok(-1));
    assert_eq!(rig.outputs(), ["ends of [(0, 0, -1)] from 1"]);
    rig.seek(1, Start::Time(77));
    assert_eq!(rig.outputs(), ["ends of [(0, 1, 77)] from 1"]);
    rig.listed(1, Ok(5));
    assert_eq!(rig.outputs(), ["0.1 is at 5", "route 0.1 to 1 at 5 in epoch 3"]);
}

/// Rule 46.
#[test]
fn a_nearer_replica_is_fetched_from_until_it_fails_or_the_time_is_over() {
    let follow = |rig: &mut Rig| {
        rig.released(0, 10, Why::Preferred(2));
        assert_eq!(rig.outputs(), ["route 0.0 to 2 at 10 in epoch 3"]);
        assert!(rig.machine.is_used(2));
    };
    let mut rig = Rig::fetching(Reset::Earliest);
    follow(&mut rig);
    // The leader is still another one.
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 3), (1, 3)]));
    assert!(rig.outputs().is_empty());
    assert_eq!(rig.wait(ms(1_000_000)), ms(300_000));
    assert_eq!(rig.outputs(), ["recall 0.0 from 2"]);
    rig.released(0, 15, Why::Recalled);
    assert_eq!(rig.outputs(), ["route 0.0 to 1 at 15 in epoch 3"]);
    // Below what the follower has, or above: the leader knows.
    for why in [Why::OutOfRange, Why::Moved(ErrorCode::NOT_LEADER_OR_FOLLOWER)] {
        let mut rig = Rig::fetching(Reset::Earliest);
        follow(&mut rig);
        rig.released(0, 10, why);
        rig.wait(ms(1000));
        assert_eq!(rig.outputs(), ["route 0.0 to 1 at 10 in epoch 3"]);
    }
    // It is down: the leader at once, which is not to name it again for a while.
    let mut rig = Rig::fetching(Reset::Earliest);
    follow(&mut rig);
    rig.machine.handle_released(rig.now, 0, 0, (10, Seen::NOTHING), Why::Unreachable, MIDDLE);
    let Some(Output::Route { leader: 1, route }) = rig.machine.poll_output(rig.now) else { panic!("it goes on") };
    assert_eq!((route.leader_until, route.is_nearby), (Some(rig.now + LEADER_FOR), false));
    // It is gone from the picture.
    follow(&mut rig);
    let mut without = Cluster::clone(&cluster(ErrorCode::NONE, &[(1, 3), (1, 3)]));
    without.brokers.remove(&2);
    rig.machine.handle_cluster(Arc::new(without));
    assert_eq!(rig.outputs(), ["recall 0.0 from 2"]);
    rig.released(0, 12, Why::Recalled);
    assert_eq!(rig.outputs(), ["route 0.0 to 1 at 12 in epoch 3"]);
    // A broker that nobody knows.
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.released(0, 10, Why::Preferred(9));
    assert_eq!(rig.outputs(), ["stale"]);
    rig.wait(ms(1000));
    assert_eq!(rig.outputs(), ["route 0.0 to 1 at 10 in epoch 3"]);
}

/// P14: a partition that cannot go out, since nobody leads it, does not wake anybody for a replica whose time is over.
#[test]
fn a_replicas_time_wakes_nobody_for_a_partition_at_home() {
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.released(0, 10, Why::Preferred(2));
    assert_eq!(rig.outputs(), ["route 0.0 to 2 at 10 in epoch 3"]);
    rig.machine.handle_cluster(cluster(ErrorCode::LEADER_NOT_AVAILABLE, &[(-1, 4), (1, 3)]));
    rig.outputs();
    rig.released(0, 15, Why::Recalled);
    rig.outputs();
    // `outputs` holds that nothing is due of which nothing comes.
    for _ in 0..10 {
        rig.wait(ms(100_000));
        rig.outputs();
    }
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 4), (1, 3)]));
    assert_eq!(rig.outputs(), ["route 0.0 to 1 at 15 in epoch 4"]);
}

#[test]
fn a_paused_partition_is_told_where_it_is_and_wherever_it_goes() {
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.machine.pause(0, true);
    rig.machine.pause(0, true);
    assert_eq!(rig.outputs(), ["tell 1 that 0 pauses: true"]);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    rig.outputs();
    rig.machine.handle_released(rig.now, 0, 0, (10, Seen::NOTHING), Why::Recalled, MIDDLE);
    let Some(Output::Route { leader: 2, route }) = rig.machine.poll_output(rig.now) else { panic!("it goes on") };
    assert!(route.is_paused);
    rig.machine.pause(0, false);
    assert_eq!(rig.outputs(), ["tell 2 that 0 pauses: false"]);
}

#[test]
fn a_seek_goes_straight_to_the_leader() {
    let mut rig = Rig::fetching(Reset::Latest);
    rig.seek(1, Start::At(500));
    assert_eq!(rig.outputs(), ["route 0.1 to 1 at 500 in epoch 3"]);
    // What left the leader before it heard of the seek is no news.
    rig.released(0, 11, Why::Moved(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(rig.outputs().is_empty() && rig.machine.is_used(1));
    rig.seek(2, Start::Latest);
    assert_eq!(rig.outputs(), ["recall 0.1 from 1", "ends of [(0, 2, -1)] from 1"]);
    rig.released(1, 600, Why::Recalled);
    rig.listed(1, Ok(99));
    assert!(rig.outputs().is_empty());
    rig.listed(2, Ok(1000));
    assert_eq!(rig.outputs(), ["0.2 is at 1000", "route 0.2 to 1 at 1000 in epoch 3"]);
    // An older seek that arrives late is none.
    rig.seek(1, Start::At(0));
    assert!(rig.outputs().is_empty());
    // While it is on its way home it waits for nobody.
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    assert_eq!(rig.outputs(), ["recall 0.2 from 1"]);
    rig.seek(3, Start::At(7));
    assert_eq!(rig.outputs(), ["route 0.3 to 2 at 7 in epoch 4"]);
    rig.released(2, 1000, Why::Recalled);
    assert!(rig.outputs().is_empty() && rig.machine.is_used(2));
}

#[test]
fn out_of_range_goes_by_the_policy() {
    for (reset, expected) in [
        (Reset::Earliest, "ends of [(0, 0, -2)] from 1"),
        (Reset::Latest, "ends of [(0, 0, -1)] from 1"),
        (Reset::None, "report 0.0: OutOfRange(10)"),
    ] {
        let mut rig = Rig::fetching(reset);
        rig.released(0, 10, Why::OutOfRange);
        assert_eq!(rig.outputs(), [expected], "at once");
    }
    // A leader that says so of the very end that it named is not asked at round-trip speed.
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.released(0, 10, Why::OutOfRange);
    for _ in 0..5 {
        rig.wait(ms(1000));
        assert_eq!(rig.outputs(), ["ends of [(0, 0, -2)] from 1"]);
        rig.listed(0, Ok(10));
        assert_eq!(rig.outputs(), ["0.0 is at 10", "route 0.0 to 1 at 10 in epoch 3"]);
        rig.released(0, 10, Why::OutOfRange);
        assert!(rig.outputs().is_empty());
    }
}

#[test]
fn what_cannot_be_read_waits_for_a_seek() {
    let error = RecordError::CorruptCrc { expected: 1, found: 2 };
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.released(0, 17, Why::Unreadable { end: Some(20), error });
    let report = format!("report 0.0: {:?}", Problem::Unreadable { offset: 17, end: Some(20), error });
    assert_eq!(rig.outputs(), [report]);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(2, 4), (1, 3)]));
    assert_eq!((rig.outputs().len(), rig.wait(PATIENCE)), (0, PATIENCE));
    rig.seek(1, Start::At(20));
    assert_eq!(rig.outputs(), ["route 0.1 to 2 at 20 in epoch 4"]);
    rig.seek(2, Start::Halted);
    assert_eq!(rig.outputs(), ["recall 0.1 from 2"]);
    rig.released(1, 20, Why::Recalled);
    assert_eq!((rig.outputs().len(), rig.wait(PATIENCE)), (0, PATIENCE));
}

#[test]
fn refusals_are_reported_once_and_tried_again() {
    let mut rig = Rig::fetching(Reset::Earliest);
    for attempt in 0..5 {
        rig.released(0, 10, Why::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        let report = "report 0.0: Refused { api: Fetch, code: TOPIC_AUTHORIZATION_FAILED (29) }";
        assert_eq!(rig.outputs(), if attempt == 0 { vec![report] } else { vec![] });
        assert!(rig.wait(PATIENCE) >= ms(100));
        assert_eq!(rig.outputs(), ["route 0.0 to 1 at 10 in epoch 3"]);
    }
    // It went well for a while: the next time is news.
    rig.released(0, 11, Why::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(rig.outputs().len(), 1);
}

#[test]
fn unknown_topics_and_partitions_are_reported_within_seconds_and_found_later() {
    let mut rig = Rig::new(Reset::Earliest);
    rig.assign(5, Start::Reset);
    assert_eq!(rig.wait(PATIENCE), PATIENCE, "no broker has answered yet: that is another's to report");
    rig.now -= PATIENCE;
    rig.machine.handle_cluster(cluster(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]));
    assert!(rig.outputs().is_empty());
    assert_eq!(rig.wait(PATIENCE), UNKNOWN_PATIENCE);
    assert_eq!(rig.outputs(), ["report 5.0: UnknownTopic(UNKNOWN_TOPIC_OR_PARTITION (3))"]);
    assert_eq!(rig.wait(PATIENCE), PATIENCE, "once");
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(1, 0); 6]));
    assert_eq!(rig.outputs(), ["ends of [(5, 0, -2)] from 1"]);

    let mut rig = Rig::knowing(Reset::Earliest);
    rig.assign(5, Start::Reset);
    assert!(rig.outputs().is_empty());
    rig.wait(PATIENCE);
    assert_eq!(rig.outputs(), ["report 5.0: UnknownPartition { count: 2 }"]);

    let mut rig = Rig::new(Reset::Earliest);
    rig.machine.handle_cluster(cluster(ErrorCode::TOPIC_AUTHORIZATION_FAILED, &[]));
    rig.assign(0, Start::Reset);
    assert_eq!(rig.outputs(), ["report 0.0: Topic(TOPIC_AUTHORIZATION_FAILED (29))"]);

    let mut rig = Rig::new(Reset::Earliest);
    rig.machine.handle_cluster(cluster(ErrorCode::NONE, &[(-1, 0)]));
    rig.assign(0, Start::At(5));
    assert!(rig.outputs().is_empty());
    assert_eq!(rig.wait(PATIENCE * 2), PATIENCE);
    assert_eq!(rig.outputs(), ["report 0.0: NoLeader"]);
}

#[test]
fn a_leader_that_refuses_what_the_picture_says_is_reported_if_it_lasts() {
    let mut rig = Rig::fetching(Reset::Earliest);
    let (start, mut reports) = (rig.now, Vec::new());
    for _ in 0..100 {
        rig.released(0, 10, Why::Moved(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        reports.extend(rig.outputs().into_iter().map(|output| (rig.now - start, output)));
        rig.wait(ms(1000));
        reports.extend(rig.outputs().into_iter().filter(|o| !o.starts_with("route")).map(|o| (rig.now - start, o)));
    }
    assert!(rig.now - start > PATIENCE);
    let [(at, report)] = reports.as_slice() else { panic!("{reports:?}") };
    assert!(*at >= PATIENCE && *at < PATIENCE + ms(1001), "{at:?}");
    assert_eq!(report, "report 0.0: Refused { api: Fetch, code: NOT_LEADER_OR_FOLLOWER (6) }");
}

#[test]
fn what_is_unassigned_is_asked_back_and_forgotten() {
    let mut rig = Rig::fetching(Reset::Earliest);
    rig.assign(1, Start::Committed);
    rig.outputs();
    rig.machine.unassign(0);
    rig.machine.unassign(1);
    rig.machine.unassign(77);
    assert_eq!(rig.outputs(), ["recall 0.0 from 1"]);
    rig.released(0, 10, Why::Recalled);
    rig.machine.handle_committed(rig.now, 1, 0, Ok(Some((1, -1))), MIDDLE);
    rig.seek(9, Start::At(1));
    assert_eq!((rig.outputs().len(), rig.machine.poll_timeout()), (0, None));
}
