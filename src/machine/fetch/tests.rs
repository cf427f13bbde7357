//! Histories of fetches from one leader, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::record::Identity;
use crate::record::writer::{BatchWriter, NO_HEADERS};
use crate::wire::leader::fetch::{AbortedTransaction, FetchableTopicResponse};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const MAX_WAIT: Duration = ms(500);
/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;
const CODE_NOT_LEADER: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;

/// A batch of `count` records of 10 bytes from `base` on, as a broker stores it.
fn batch(base: i64, count: usize) -> Vec<u8> {
    let mut writer = BatchWriter::new(1024);
    for n in 0..count {
        writer.append(n as i64, None, Some(&[n as u8; 10]), NO_HEADERS).unwrap();
    }
    let mut bytes = writer.finish().stamp(Identity::NONE).to_vec();
    // Outside of what the CRC covers.
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes
}

fn set(batches: &[(i64, usize)]) -> Vec<u8> {
    batches.iter().flat_map(|&(base, count)| batch(base, count)).collect()
}

struct Rig {
    now: Instant,
    machine: Fetch,
    credit: Credit,
}

impl Rig {
    /// With partitions 0 to `partitions` of topic `t` at offset 0, their ids the same.
    fn new(partitions: u64) -> Self {
        Self::with_buffer(partitions, 64 << 20, 1 << 20)
    }

    fn with_buffer(partitions: u64, total: usize, per_fetch: usize) -> Self {
        let config = Config {
            max_wait: MAX_WAIT,
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: per_fetch,
            check_crcs: true,
            read_committed: false,
            rack: "".into(),
            retry_backoff: ms(100),
            retry_backoff_max: ms(1000),
        };
        let mut credit = Credit::new(total, per_fetch);
        credit.assign(0..partitions);
        let mut rig = Self { now: Instant::now(), machine: Fetch::new(config), credit };
        (0..partitions).for_each(|id| rig.machine.add(route(id, 0, 0)));
        rig
    }

    fn plan(&mut self) -> Option<Plan> {
        self.machine.poll_fetch(self.now, &mut self.credit)
    }

    /// The next request, which names these partitions.
    fn ask(&mut self, lane: LaneKind, partitions: &[i32]) -> Plan {
        let plan = self.plan().expect("nothing is asked");
        assert_eq!(plan.lane, lane);
        assert_eq!(named(&plan), partitions);
        plan
    }

    fn silent(&mut self) {
        if let Some(plan) = self.plan() {
            panic!("{:?} is asked for {:?}", plan.lane, named(&plan));
        }
    }

    fn answer(&mut self, plan: &Plan, partitions: impl IntoIterator<Item = PartitionData>) {
        self.answer_as(plan, response(partitions));
    }

    fn answer_as(&mut self, plan: &Plan, response: FetchResponse) {
        self.machine.handle_answer(self.now, plan.token, response, MIDDLE);
    }

    /// What happened: fetched data by partition as (from, first base offset, next offset), everything else in words.
    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Answered { id, reserved, fetched, .. } => {
                    self.credit.give_back(id, reserved);
                    if let Some(fetched) = fetched {
                        self.credit.take(id, fetched.bytes);
                        let last = fetched.batches.back().unwrap().header().next_offset();
                        events.push(format!("{id}: {}..{last}", fetched.from));
                    }
                }
                Event::Released { id, next, why, .. } => events.push(match why {
                    Why::Unreadable { end, .. } => format!("{id} unreadable at {next}, end {end:?}"),
                    why => format!("{id} released at {next}: {why:?}"),
                }),
                Event::Stale => events.push("stale".into()),
                Event::Refused(code) => events.push(format!("refused: {code}")),
            }
        }
        events
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.machine.handle_timeout(self.now);
    }
}

fn route(id: PartitionId, generation: u64, offset: i64) -> Route {
    Route {
        id,
        generation,
        topic: "t".into(),
        topic_id: Uuid([7; 16]),
        index: id as i32,
        offset,
        leader_epoch: 3,
        is_paused: false,
    }
}

fn named(plan: &Plan) -> Vec<i32> {
    plan.request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.partition)).collect()
}

fn response(partitions: impl IntoIterator<Item = PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse {
        topic_id: Uuid([7; 16]),
        partitions: partitions.into_iter().collect::<Vec<_>>().into(),
        ..Default::default()
    };
    FetchResponse { responses: vec![topic].into(), ..Default::default() }
}

fn data(partition: i32, records: Vec<u8>) -> PartitionData {
    PartitionData { partition_index: partition, records: Some(Records(records.into())), ..Default::default() }
}

fn empty(partition: i32) -> PartitionData {
    data(partition, Vec::new())
}

fn refused(partition: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData { partition_index: partition, error_code, ..Default::default() }
}

#[test]
fn what_was_fetched_is_handed_on_and_fetching_goes_on_behind_it() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    assert_eq!((plan.request.max_wait_ms, plan.request.min_bytes, plan.max_version), (500, 1, FETCH_LAST));
    assert_eq!(plan.request.max_bytes, 2 << 20, "no more than what is reserved");
    assert_eq!((plan.request.session_id, plan.request.session_epoch), (0, 0), "it asks for a session");
    let first = &plan.request.topics[0].partitions[0];
    assert_eq!((first.fetch_offset, first.current_leader_epoch, first.partition_max_bytes), (0, 3, 1 << 20));
    rig.silent();
    rig.answer(&plan, [data(0, set(&[(0, 5), (5, 5)])), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..10"]);
    let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
    assert_eq!(plan.request.topics[0].partitions[1].fetch_offset, 10, "whoever had data last comes last");
    rig.answer(&plan, [empty(1), data(0, set(&[(10, 1)]))]);
    assert_eq!(rig.events(), ["0: 10..11"]);
}

#[test]
fn one_topic_without_an_id_keeps_the_request_to_names() {
    let mut rig = Rig::new(1);
    rig.credit.assign([0, 9]);
    rig.machine.add(Route { topic: "old".into(), topic_id: Uuid::ZERO, ..route(9, 0, 0) });
    let plan = rig.plan().unwrap();
    assert_eq!(plan.max_version, 12);
    let by_name = |topic: &str, data| FetchableTopicResponse {
        topic: topic.into(),
        partitions: vec![data].into(),
        ..Default::default()
    };
    let responses = vec![by_name("t", data(0, batch(0, 1))), by_name("old", data(9, batch(0, 2)))].into();
    rig.answer_as(&plan, FetchResponse { responses, ..Default::default() });
    assert_eq!(rig.events(), ["0: 0..1", "9: 0..2"]);
}

#[test]
fn a_partition_that_comes_while_others_wait_goes_out_at_once_on_the_other_lane() {
    let mut rig = Rig::new(1);
    rig.credit.assign([0, 1]);
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.wait(ms(100));
    rig.machine.add(route(1, 0, 0));
    let plan = rig.ask(LaneKind::Immediate, &[1]);
    assert_eq!(plan.max_wait, Duration::ZERO);
    rig.answer(&plan, [data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["1: 0..1"]);
    // As long as there is data it is asked for at once; at the end of the log, with a short wait.
    let plan = rig.ask(LaneKind::Immediate, &[1]);
    assert_eq!(plan.max_wait, Duration::ZERO);
    rig.answer(&plan, [empty(1)]);
    let mut probes = 0;
    while let Some(plan) = rig.plan() {
        assert_eq!((plan.lane, plan.max_wait), (LaneKind::Immediate, ms(25)));
        rig.wait(ms(25));
        rig.answer(&plan, [empty(1)]);
        probes += 1;
    }
    // Shortly before the waiting lane is back it is left alone, so that both go out together.
    assert_eq!(probes, 15);
    rig.wait(ms(25));
    rig.answer(&waiting, [empty(0)]);
    rig.ask(LaneKind::Waiting, &[0, 1]);
    assert!(rig.events().is_empty());
}

#[test]
fn what_was_asked_before_a_seek_is_dropped_and_nobody_elses() {
    let mut rig = Rig::new(2);
    let old = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.add(route(0, 1, 700));
    assert!(rig.events().is_empty());
    assert_eq!(rig.credit.used(), 1 << 20, "its old reservation is void");
    let new = rig.ask(LaneKind::Immediate, &[0]);
    assert_eq!(new.request.topics[0].partitions[0].fetch_offset, 700);
    rig.answer(&old, [data(0, batch(0, 5)), data(1, batch(0, 3))]);
    assert_eq!(rig.events(), ["1: 0..3"]);
    // The partition is out on the other lane still.
    rig.ask(LaneKind::Waiting, &[1]);
    rig.answer(&new, [data(0, batch(700, 2))]);
    assert_eq!(rig.events(), ["0: 700..702"]);
}

#[test]
fn what_left_and_came_back_is_not_given_what_was_asked_before() {
    let mut rig = Rig::new(1);
    let old = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.recall(0, 99);
    assert!(rig.events().is_empty(), "asked back under a generation that it has not");
    rig.machine.recall(0, 0);
    assert_eq!(rig.events(), ["0 released at 0: Recalled"]);
    rig.machine.recall(0, 0);
    assert!(rig.machine.partitions.is_empty() && rig.events().is_empty());
    rig.machine.add(route(0, 0, 0));
    let new = rig.ask(LaneKind::Immediate, &[0]);
    rig.answer(&old, [data(0, batch(0, 5))]);
    assert!(rig.events().is_empty());
    rig.answer(&new, [data(0, batch(0, 5))]);
    assert_eq!(rig.events(), ["0: 0..5"]);
    assert_eq!(rig.credit.used(), batch(0, 5).len());
}

#[test]
fn the_first_batch_may_begin_below_and_gaps_are_passed() {
    let mut rig = Rig::new(1);
    rig.machine.add(route(0, 1, 7));
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    // One batch that ends below, one around the offset, a hole, and a partial one behind.
    let mut records = set(&[(0, 5), (5, 5), (20, 2)]);
    records.extend(&batch(22, 9)[..50]);
    rig.answer(&plan, [data(0, records)]);
    assert_eq!(rig.events(), ["0: 7..22"]);
}

#[test]
fn bytes_that_lead_nowhere_are_asked_for_ever_slower_and_reported() {
    let mut rig = Rig::new(2);
    rig.machine.add(route(0, 1, 100));
    for attempt in 0..3 {
        let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [data(0, batch(0, 5)), empty(1)]);
        if attempt < 2 {
            assert!(rig.events().is_empty());
            // The other one is not held back.
            let other = rig.ask(LaneKind::Waiting, &[1]);
            rig.wait(MAX_WAIT);
            rig.answer(&other, [empty(1)]);
        }
    }
    assert_eq!(rig.events(), ["0 released at 100: NoProgress"]);
}

#[test]
fn a_batch_larger_than_the_limit_is_asked_for_whole() {
    let mut rig = Rig::with_buffer(1, 1 << 20, 1_000);
    let large = batch(0, 100);
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(plan.request.topics[0].partitions[0].partition_max_bytes, 1_000);
    rig.answer(&plan, [data(0, large[..1_000].to_vec())]);
    assert!(rig.events().is_empty());
    rig.wait(ms(200));
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(plan.request.topics[0].partitions[0].partition_max_bytes as usize, large.len());
    rig.answer(&plan, [data(0, large)]);
    assert_eq!(rig.events(), ["0: 0..100"]);
    assert_eq!(rig.ask(LaneKind::Waiting, &[0]).request.topics[0].partitions[0].partition_max_bytes, 1_000);
}

#[test]
fn a_damaged_batch_is_fetched_once_more_and_then_reported_behind_what_is_sound() {
    let mut rig = Rig::new(2);
    let mut records = set(&[(0, 5), (5, 5)]);
    let at = batch(0, 5).len() + 80;
    records[at] ^= 1;
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer(&plan, [data(0, records.clone()), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..5"]);
    let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
    rig.answer(&plan, [data(0, records.split_off(batch(0, 5).len())), data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["0 unreadable at 5, end Some(10)", "1: 0..1"]);
    rig.ask(LaneKind::Waiting, &[1]);
}

#[test]
fn a_batch_that_was_damaged_on_its_way_is_nobodys_business() {
    let mut rig = Rig::new(1);
    for base in [0, 5] {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        let mut damaged = batch(base, 5);
        damaged[70] ^= 1;
        rig.answer(&plan, [data(0, damaged)]);
        assert!(rig.events().is_empty());
        rig.wait(ms(1000));
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.answer(&plan, [data(0, batch(base, 5))]);
        assert_eq!(rig.events(), [format!("0: {base}..{}", base + 5)]);
    }
}

#[test]
fn a_damaged_message_of_an_old_format_is_reported_likewise() {
    let mut rig = Rig::new(1);
    let sets = include_bytes!("../../../tests/golden/set-v1-gzip");
    // Two wrappers, with offsets 100 to 109 and 1115 to 1136; the value of the second is damaged.
    let second = 12 + usize::from(sets[11]) + 256 * usize::from(sets[10]);
    let mut damaged = sets.to_vec();
    damaged[second + 60] ^= 1;
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, damaged.clone())]);
    assert_eq!(rig.events(), ["0: 0..110"]);
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, damaged.split_off(second))]);
    assert_eq!(rig.events(), ["0 unreadable at 110, end Some(1137)"]);
}

#[test]
fn a_new_format_is_reported_at_once_and_any_length_is_survived() {
    let mut rig = Rig::new(1);
    let mut new = batch(0, 5);
    new[16] = 3;
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, new)]);
    assert_eq!(rig.events(), ["0 unreadable at 0, end None"]);
    for length in [i32::MIN, -1, 0, 1, 48, i32::MAX] {
        let mut rig = Rig::new(1);
        let mut lying = batch(0, 5);
        lying[8..12].copy_from_slice(&length.to_be_bytes());
        let mut events = Vec::new();
        for _ in 0..6 {
            let Some(plan) = rig.plan() else { break };
            rig.answer(&plan, [data(0, lying.clone())]);
            events.extend(rig.events());
            rig.wait(ms(2000));
        }
        assert_eq!(events.len(), 1, "{length}: {events:?}");
        assert!(rig.machine.partitions.is_empty());
    }
}

#[test]
fn each_error_has_its_way() {
    for (code, expected) in [
        (CODE_NOT_LEADER, vec!["stale", "0 released at 0: Moved(NOT_LEADER_OR_FOLLOWER (6))"]),
        (ErrorCode::UNKNOWN_TOPIC_ID, vec!["stale", "0 released at 0: Moved(UNKNOWN_TOPIC_ID (100))"]),
        (ErrorCode::FENCED_LEADER_EPOCH, vec!["stale", "0 released at 0: Moved(FENCED_LEADER_EPOCH (74))"]),
        (ErrorCode::OFFSET_OUT_OF_RANGE, vec!["0 released at 0: OutOfRange"]),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, vec!["0 released at 0: Refused(TOPIC_AUTHORIZATION_FAILED (29))"]),
        (ErrorCode(999), vec!["0 released at 0: Refused(error code 999)"]),
        // The leader is behind the client's picture: it will come to know.
        (ErrorCode::UNKNOWN_LEADER_EPOCH, vec![]),
        (ErrorCode::OFFSET_NOT_AVAILABLE, vec![]),
    ] {
        let mut rig = Rig::new(2);
        let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [refused(0, code), empty(1)]);
        assert_eq!(rig.events(), expected, "{code}");
        rig.ask(LaneKind::Waiting, &[1]);
        if expected.is_empty() {
            assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(100)));
            rig.wait(ms(100));
            rig.ask(LaneKind::Immediate, &[0]);
        }
    }
}

#[test]
fn damage_at_the_broker_is_tried_twice() {
    let mut rig = Rig::new(1);
    for expected in [vec![], vec!["0 released at 0: Refused(CORRUPT_MESSAGE (2))"]] {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [refused(0, ErrorCode::CORRUPT_MESSAGE)]);
        assert_eq!(rig.events(), expected);
        rig.wait(ms(100));
    }
}

#[test]
fn an_answer_that_helps_nobody_is_not_asked_for_at_round_trip_speed() {
    let mut rig = Rig::new(1);
    let started = rig.now;
    for _ in 0..10 {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.wait(ms(1));
        rig.answer(&plan, [empty(0)]);
        rig.silent();
        let due = rig.machine.poll_timeout().expect("a pause has an end");
        rig.wait(due - rig.now);
    }
    assert!(rig.now - started > ms(5_000), "{:?}", rig.now - started);
    // One that took its time is in order.
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.wait(MAX_WAIT);
    rig.answer(&plan, [empty(0)]);
    rig.ask(LaneKind::Waiting, &[0]);
}

#[test]
fn the_leader_as_a_whole_may_refuse_or_go_away() {
    for (code, expected) in [
        (ErrorCode::UNKNOWN_SERVER_ERROR, vec!["refused: UNKNOWN_SERVER_ERROR (-1)"]),
        (CODE_NOT_LEADER, vec!["stale"]),
        (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, vec![]),
    ] {
        let mut rig = Rig::new(2);
        let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
        rig.answer_as(&plan, FetchResponse { error_code: code, ..Default::default() });
        assert_eq!(rig.events(), expected);
        assert_eq!(rig.credit.used(), 0);
        rig.silent();
        rig.wait(ms(100));
        rig.ask(LaneKind::Waiting, &[0, 1]);
    }
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
    assert_eq!((rig.events(), rig.credit.used()), (vec!["stale".to_owned()], 0));
    rig.silent();
    rig.wait(ms(100));
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.handle_lanes_lost();
    assert_eq!((rig.events().len(), rig.credit.used()), (0, 0));
    // Its answer was on a connection that is gone; a token is known once.
    rig.answer(&plan, [data(0, batch(0, 1))]);
    assert!(rig.events().is_empty());
    rig.ask(LaneKind::Waiting, &[0, 1]);
}

#[test]
fn hostile_answers_move_nothing_twice_and_nothing_that_was_not_asked() {
    let mut rig = Rig::new(3);
    rig.machine.recall(2, 0);
    rig.events();
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    let strange = [data(0, batch(0, 5)), data(0, batch(5, 5)), data(2, batch(0, 1)), data(-7, batch(0, 1))];
    let mut answer = response(strange);
    let mut topics: Vec<_> = answer.responses.iter().collect();
    topics.push(FetchableTopicResponse {
        topic_id: Uuid([8; 16]),
        partitions: vec![data(0, batch(0, 9))].into(),
        ..Default::default()
    });
    answer.responses = topics.into();
    rig.answer_as(&plan, answer);
    assert_eq!(rig.events(), ["0: 0..5"]);
    // Partition 1 was left out of the answer: asked again, but not at once.
    rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(rig.machine.poll_timeout(), Some(rig.now + ms(100)));
}

#[test]
fn a_stalled_caller_is_fetched_for_up_to_the_budget_and_no_further() {
    const TOTAL: usize = 100_000;
    let mut rig = Rig::with_buffer(4, TOTAL, 10_000);
    // Partition 3 is idle, the others have no end.
    let mut next = [0i64; 4];
    for _ in 0..100 {
        let Some(plan) = rig.plan() else { break };
        let mut answers = Vec::new();
        for asked in &plan.request.topics[0].partitions {
            let (at, limit) = (asked.partition as usize, asked.partition_max_bytes as usize);
            let mut records = Vec::new();
            while at != 3 && records.len() + 305 < limit {
                records.extend(batch(next[at], 14));
                next[at] += 14;
            }
            answers.push(data(asked.partition, records));
        }
        rig.wait(MAX_WAIT);
        rig.answer(&plan, answers);
        assert!(rig.credit.used() <= TOTAL, "{}", rig.credit.used());
        rig.events();
    }
    assert!(rig.credit.used() > TOTAL * 7 / 10, "{}", rig.credit.used());
    // The full ones wait for their caller, the idle one for data.
    let waiting = rig.ask(LaneKind::Waiting, &[3]);
    assert!(rig.machine.is_starved());
    rig.silent();
    rig.credit.give_back(1, 20_000);
    let plan = rig.plan().unwrap();
    assert!(plan.lane == LaneKind::Immediate && named(&plan).contains(&1), "{plan:?}");
    rig.wait(MAX_WAIT);
    rig.answer(&waiting, [empty(3)]);
    rig.events();
    // Whoever has nothing buffered always has credit for a fetch.
    let used = rig.credit.used();
    rig.credit.take(0, TOTAL);
    let plan = rig.ask(LaneKind::Waiting, &[3]);
    assert!(plan.request.topics[0].partitions[0].partition_max_bytes >= 1_000);
    assert!(rig.credit.used() >= used + TOTAL);
}

/// What a broker does with sessions: it remembers, and only mentions news.
#[derive(Default)]
struct Broker {
    sessions: BTreeMap<i32, (i32, BTreeMap<i32, FetchPartition>)>,
    last_id: i32,
}

impl Broker {
    /// The partitions that are to be read, and the id to answer with.
    fn open(&mut self, request: &FetchRequest) -> Result<(Vec<FetchPartition>, i32), ErrorCode> {
        let named = request.topics.iter().flat_map(|topic| topic.partitions.iter().cloned());
        let named = named.map(|partition| (partition.partition, partition));
        if request.session_epoch <= 0 {
            self.sessions.remove(&request.session_id);
            let named: BTreeMap<_, _> = named.collect();
            let wanted = named.values().cloned().collect();
            if request.session_epoch < 0 {
                return Ok((wanted, 0));
            }
            self.last_id += 1;
            self.sessions.insert(self.last_id, (1, named));
            return Ok((wanted, self.last_id));
        }
        let Some((epoch, known)) = self.sessions.get_mut(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if *epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        *epoch += 1;
        known.extend(named);
        request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions).for_each(|index| {
            assert!(known.remove(index).is_some(), "{index} is forgotten twice");
        });
        Ok((known.values().cloned().collect(), request.session_id))
    }
}

impl Rig {
    /// A broker whose partitions are all at their end, but for those that have something.
    fn answer_by(&mut self, broker: &mut Broker, plan: &Plan, news: impl IntoIterator<Item = PartitionData>) {
        let answer = match broker.open(&plan.request) {
            Ok((_, session_id)) => FetchResponse { session_id, ..response(news) },
            Err(error_code) => FetchResponse { error_code, ..Default::default() },
        };
        self.answer_as(plan, answer);
    }
}

/// KIP-227: what nothing happens to is named once.
#[test]
fn a_thousand_idle_partitions_are_named_once_and_asked_for_twice_a_second() {
    let (mut rig, mut broker) = (Rig::new(1_000), Broker::default());
    let plan = rig.plan().unwrap();
    assert_eq!(named(&plan).len(), 1_000);
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &plan, (0..1_000).map(empty));
    assert!(rig.events().is_empty());
    // Those at their end ask for no more than their shares, which the session hears of once.
    let plan = rig.plan().unwrap();
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &plan, []);
    rig.events();
    for _ in 0..100 {
        let plan = rig.plan().unwrap();
        assert_eq!((named(&plan).len(), plan.request.forgotten_topics_data.len()), (0, 0));
        rig.silent();
        assert_eq!(rig.machine.poll_timeout(), None, "nothing to wake up for");
        rig.wait(MAX_WAIT);
        rig.answer_by(&mut broker, &plan, []);
        rig.events();
    }
    // One has data: it alone is named again, with where it goes on.
    let plan = rig.plan().unwrap();
    rig.answer_by(&mut broker, &plan, [data(500, batch(0, 3))]);
    assert_eq!(rig.events(), ["500: 0..3"]);
    let plan = rig.plan().unwrap();
    assert_eq!((named(&plan), plan.request.topics[0].partitions[0].fetch_offset), (vec![500], 3));
    assert_eq!(broker.sessions.len(), 1);
}

/// KIP-227, with the second lane: what was sought goes out at once, and comes back to its neighbours afterwards.
#[test]
fn a_seek_beside_a_hundred_idle_partitions_is_one_request_for_it_alone() {
    let (mut rig, mut broker) = (Rig::new(101), Broker::default());
    for _ in 0..2 {
        let plan = rig.plan().unwrap();
        rig.wait(MAX_WAIT);
        rig.answer_by(&mut broker, &plan, (0..101).map(empty));
        assert!(rig.events().is_empty());
    }
    let waiting = rig.ask(LaneKind::Waiting, &[]);
    rig.machine.add(route(7, 1, 40));
    let plan = rig.ask(LaneKind::Immediate, &[7]);
    assert_eq!((plan.max_wait, plan.request.session_epoch), (Duration::ZERO, 0));
    rig.answer_by(&mut broker, &plan, [data(7, batch(40, 2))]);
    assert_eq!(rig.events(), ["7: 40..42"]);
    let plan = rig.ask(LaneKind::Immediate, &[7]);
    rig.answer_by(&mut broker, &plan, []);
    rig.events();
    rig.wait(MAX_WAIT);
    rig.answer_by(&mut broker, &waiting, []);
    assert!(rig.events().is_empty());
    let plan = rig.ask(LaneKind::Waiting, &[7]);
    assert_eq!(plan.request.topics[0].partitions[0].fetch_offset, 42);
    assert_eq!(broker.sessions.len(), 2, "a session for each lane");
}

/// Rule 40, row 26: a broker that lost its sessions is told everything at once.
#[test]
fn evicted_sessions_cost_one_round_trip() {
    for evict in [
        |broker: &mut Broker| broker.sessions.clear(),
        |broker: &mut Broker| broker.sessions.get_mut(&1).unwrap().0 = 99,
    ] {
        let (mut rig, mut broker) = (Rig::new(3), Broker::default());
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        rig.answer_by(&mut broker, &plan, [data(0, batch(0, 1)), data(1, batch(0, 1)), data(2, batch(0, 1))]);
        rig.events();
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        assert_eq!((plan.request.session_id, plan.request.session_epoch), (1, 1));
        evict(&mut broker);
        rig.answer_by(&mut broker, &plan, []);
        assert_eq!((rig.events().len(), rig.credit.used()), (0, 3 * batch(0, 1).len()));
        let plan = rig.ask(LaneKind::Waiting, &[0, 1, 2]);
        assert_eq!(plan.request.session_epoch, 0);
        rig.answer_by(&mut broker, &plan, [data(2, batch(1, 1))]);
        assert_eq!(rig.events(), ["2: 1..2"]);
        assert_eq!(broker.sessions.len(), 1, "no session is left behind");
    }
}

/// Rule 41: a topic that was made again leaves nothing behind in the session, so its neighbours go on undisturbed.
#[test]
fn a_dead_entry_is_evicted_from_the_session() {
    let (mut rig, mut broker) = (Rig::new(2), Broker::default());
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer_by(&mut broker, &plan, [data(0, batch(0, 1)), data(1, batch(0, 1))]);
    rig.events();
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer_by(&mut broker, &plan, [refused(0, ErrorCode::INCONSISTENT_TOPIC_ID), data(1, batch(1, 1))]);
    assert_eq!(rig.events(), ["stale", "0 released at 1: Moved(INCONSISTENT_TOPIC_ID (103))", "1: 1..2"]);
    let plan = rig.ask(LaneKind::Waiting, &[1]);
    let forgotten: Vec<_> = plan.request.forgotten_topics_data.iter().map(|topic| topic.partitions.clone()).collect();
    assert_eq!(forgotten, [[0]]);
    rig.answer_by(&mut broker, &plan, [data(1, batch(2, 1))]);
    assert_eq!(rig.events(), ["1: 2..3"]);
}

/// Rule 35, 39: markers and what was aborted are passed, and take no credit.
#[test]
fn who_reads_what_was_committed_sees_no_aborted_transaction() {
    let transactional = |base: i64, attributes: u8| {
        let mut bytes = batch(base, 2);
        bytes[22] |= attributes;
        bytes[43..51].copy_from_slice(&7i64.to_be_bytes());
        bytes
    };
    let log = [transactional(0, 0x10), transactional(2, 0x30), transactional(4, 0x10), transactional(6, 0x30)].concat();
    for (read_committed, expected) in [(true, (4, 8, 1)), (false, (0, 8, 4))] {
        let mut rig = Rig::new(1);
        rig.machine.config.read_committed = read_committed;
        rig.machine.config.check_crcs = false;
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        assert_eq!(plan.request.isolation_level, i8::from(read_committed));
        let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 0, ..Default::default() }];
        let answer = PartitionData { aborted_transactions: Some(aborted), ..data(0, log.clone()) };
        rig.answer(&plan, [answer]);
        let Some(Event::Answered { fetched: Some(fetched), .. }) = rig.machine.poll_event() else { panic!() };
        let seen: Vec<_> = fetched.batches.iter().filter(|batch| !batch.header().is_control()).collect();
        let first = seen.first().unwrap().header().base_offset;
        let shown = if read_committed { fetched.batches.len() } else { 4 };
        assert_eq!((first, fetched.next, shown), expected);
        assert_eq!(fetched.bytes, fetched.batches.iter().map(|batch| batch.bytes().len()).sum::<usize>());
    }
}

/// The broker cuts at the limit, and what it cuts is sent again: so the limit is a whole number of batches.
#[test]
fn the_limit_follows_the_size_of_the_batches() {
    for (size, expected) in [(900 << 10, (900 << 10) + (900 << 10) / 64), (128 << 10, 1 << 20), (2 << 20, 1 << 20)] {
        let mut rig = Rig::new(1);
        rig.machine.config.check_crcs = false;
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        let mut large = batch(0, 1);
        large.resize(size, 0);
        large[8..12].copy_from_slice(&(size as i32 - 12).to_be_bytes());
        rig.answer(&plan, [data(0, large)]);
        assert_eq!(rig.events(), ["0: 0..1"]);
        let asked = &rig.ask(LaneKind::Waiting, &[0]).request.topics[0].partitions[0];
        assert_eq!(asked.partition_max_bytes as usize, expected, "{size}");
    }
}

/// KIP-392: the leader says where to fetch, and sends nothing.
#[test]
fn a_preferred_replica_takes_the_partition() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    let preferred = PartitionData { preferred_read_replica: 4, ..empty(0) };
    rig.answer(&plan, [preferred, data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["0 released at 0: Preferred(4)", "1: 0..1"]);
}

/// Rule 52.
#[test]
fn a_paused_partition_is_not_asked_for_and_what_is_under_way_is_kept() {
    let mut rig = Rig::new(2);
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.machine.pause(0, true);
    rig.answer(&plan, [data(0, batch(0, 3)), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..3"]);
    rig.wait(MAX_WAIT);
    let waiting = rig.ask(LaneKind::Waiting, &[1]);
    rig.silent();
    rig.machine.pause(0, false);
    let plan = rig.ask(LaneKind::Immediate, &[0]);
    assert_eq!((plan.max_wait, plan.request.topics[0].partitions[0].fetch_offset), (Duration::ZERO, 3));
    rig.answer(&waiting, []);
}

/// A partition whose first batch found no room in the answer is asked for again at once, and once.
#[test]
fn what_was_left_out_for_lack_of_room_is_not_taken_for_idle() {
    let mut rig = Rig::new(2);
    let left_out = |partition, high_watermark| PartitionData { high_watermark, ..empty(partition) };
    rig.machine.recall(1, 0);
    rig.events();
    let waiting = rig.ask(LaneKind::Waiting, &[0]);
    rig.machine.add(route(1, 1, 0));
    for wait in [0, 0, 25] {
        let plan = rig.ask(LaneKind::Immediate, &[1]);
        assert_eq!(plan.max_wait, ms(wait));
        rig.wait(ms(wait));
        rig.answer(&plan, [left_out(1, 100)]);
    }
    rig.answer(&waiting, [left_out(0, 0)]);
}

/// A leader with endless logs, a caller who takes, seeks and stalls, partitions that leave and come back, and answers
/// that are lost: whatever happens, each partition's data continues exactly where it ended.
#[test]
fn random_histories_lose_and_double_nothing() {
    for seed in 0..2_000u64 {
        history(seed);
    }
}

fn history(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    const PARTITIONS: u64 = 4;
    let mut rig = Rig::with_buffer(PARTITIONS, 20_000, 2_000);
    // Every other broker has sessions.
    let mut broker = Broker::default();
    // What the next data must begin with, under which generation; and what is at home.
    let mut expected = [(0i64, 0u64); PARTITIONS as usize];
    let mut at_home: BTreeMap<PartitionId, i64> = BTreeMap::new();
    let mut flights: Vec<Plan> = Vec::new();
    let mut buffered: Vec<(PartitionId, usize)> = Vec::new();
    for _ in 0..100 {
        match random(9) {
            0..=2 => {
                while let Some(plan) = rig.plan() {
                    flights.push(plan);
                }
                assert!(flights.len() <= 2);
            }
            3 | 4 if !flights.is_empty() => {
                let mut plan = flights.swap_remove(random(flights.len() as u64) as usize);
                if seed.is_multiple_of(2) {
                    (plan.request.session_id, plan.request.session_epoch) = (0, -1);
                }
                if random(30) == 0 {
                    broker.sessions.clear();
                }
                // A lost request may have reached the broker all the same.
                let is_lost = random(6) == 0;
                let opened = if is_lost && random(2) == 0 { Ok((Vec::new(), 0)) } else { broker.open(&plan.request) };
                if let (Err(error_code), false) = (&opened, is_lost) {
                    rig.answer_as(&plan, FetchResponse { error_code: *error_code, ..Default::default() });
                } else if is_lost {
                    rig.machine.handle_failed(rig.now, plan.token, MIDDLE);
                } else {
                    let mut answers = Vec::new();
                    let (wanted, session_id) = opened.unwrap();
                    for asked in &wanted {
                        answers.push(match random(9) {
                            8 if plan.request.session_epoch > 0 => continue,
                            0 => refused(asked.partition, CODE_NOT_LEADER),
                            1 => empty(asked.partition),
                            _ => {
                                // Batches of ten, so the first one may begin below.
                                let base = asked.fetch_offset / 10 * 10;
                                let mut records = set(&[(base, 10), (base + 10, 10)]);
                                let cut = random(5) as usize;
                                records.truncate(records.len() - cut * 30);
                                data(asked.partition, records)
                            }
                        });
                    }
                    rig.answer_as(&plan, FetchResponse { session_id, ..response(answers) });
                }
            }
            5 => {
                let id = random(PARTITIONS);
                let (_, generation) = expected[id as usize];
                let to = random(1000) as i64;
                expected[id as usize] = (to, generation + 1);
                at_home.remove(&id);
                rig.machine.add(route(id, generation + 1, to));
            }
            6 => {
                let id = random(PARTITIONS);
                rig.machine.recall(id, expected[id as usize].1);
            }
            7 => {
                for (id, next) in std::mem::take(&mut at_home) {
                    rig.machine.add(route(id, expected[id as usize].1, next));
                }
            }
            _ => {
                buffered.drain(..).for_each(|(id, bytes)| rig.credit.give_back(id, bytes));
                let time = ms(random(300));
                rig.wait(time);
            }
        }
        while let Some(event) = rig.machine.poll_event() {
            match event {
                Event::Answered { id, generation, reserved, fetched, .. } => {
                    rig.credit.give_back(id, reserved);
                    let Some(fetched) = fetched else { continue };
                    let (next, current) = &mut expected[id as usize];
                    assert_eq!(generation, *current, "seed {seed}: data of a past life");
                    assert_eq!(fetched.from, *next, "seed {seed}");
                    *next = fetched.batches.back().unwrap().header().next_offset();
                    rig.credit.take(id, fetched.bytes);
                    buffered.push((id, fetched.bytes));
                }
                Event::Released { id, generation, next, .. } => {
                    if (next, generation) == expected[id as usize] {
                        at_home.insert(id, next);
                    } else {
                        assert!(generation < expected[id as usize].1, "seed {seed}: released at {next}");
                    }
                }
                Event::Stale | Event::Refused(_) => {}
            }
        }
    }
    // Every reservation comes back.
    flights.iter().for_each(|plan| rig.machine.handle_failed(rig.now, plan.token, MIDDLE));
    while let Some(event) = rig.machine.poll_event() {
        if let Event::Answered { id, reserved, .. } = event {
            rig.credit.give_back(id, reserved);
        }
    }
    let left: usize = buffered.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(rig.credit.used(), left, "seed {seed}");
}
