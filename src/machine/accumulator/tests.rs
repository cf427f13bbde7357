//! What one leader's task does, on a clock that the test moves, with the test as driver, connection and broker.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::machine::connection::Cause;
use crate::machine::sequence;
use crate::record::{BatchHeader, BatchWriter, NO_HEADERS};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::produce::{BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse};

mod lanes;
mod spare;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const LINGER: Duration = ms(5);
const BACKOFF: Duration = ms(100);
const DELIVERY: Duration = ms(10_000);
/// No jitter.
const MIDDLE: u64 = 1 << 63;
const FIRST: Identity = Identity { id: 7, epoch: 0, former_ids: 0 };
const SECOND: Identity = Identity { id: 7, epoch: 1, former_ids: 0 };

struct Rig {
    accumulator: Accumulator<u32>,
    now: Instant,
    is_idempotent: bool,
}

/// One partition in a request: (partition, epoch, sequence).
type Stamped = (PartitionId, i16, i32);

/// An event, as far as tests ask.
#[derive(Debug, PartialEq)]
enum Seen {
    /// (partition, batch, offset)
    Acknowledged(PartitionId, u32, Option<i64>),
    /// (partition, batch, maybe_written)
    Failed(PartitionId, u32, bool),
    Refresh,
    Hint(Hint),
    Overdue,
    Probe(LaneId, Token),
    Cut(LaneId),
    Open(LaneId),
    NeedsNewerThan(Identity),
    Left(PartitionId),
}
use Seen::{Acknowledged, Failed, Left};

impl Rig {
    fn with(config: Config, is_idempotent: bool) -> Self {
        let mut rig = Self { accumulator: Accumulator::new(config, is_idempotent), now: Instant::now(), is_idempotent };
        [LaneId::Fast, LaneId::Slow].into_iter().for_each(|lane| rig.accumulator.handle_up(rig.now, lane, true));
        if is_idempotent {
            rig.accumulator.set_identity(rig.now, Some(FIRST));
        }
        rig
    }

    /// With partitions 0 to `partitions` of topic `t`.
    fn new(partitions: u32) -> Self {
        let mut rig = Self::with(config(), true);
        (0..partitions).for_each(|id| rig.adopt(id));
        rig
    }

    fn adopt(&mut self, id: PartitionId) {
        let queue = queue(self.is_idempotent);
        self.accumulator.adopt(self.now, id, Moving { name: name(id), queue, had_leader: false }, None);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.accumulator.handle_timeout(self.now);
        let next = self.accumulator.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "a busy loop");
    }

    fn first(&mut self, id: PartitionId) {
        self.accumulator.handle_first(self.now, id, self.now);
    }

    fn push(&mut self, id: PartitionId, batch: u32) {
        self.push_large(id, batch, 0);
    }

    fn push_large(&mut self, id: PartitionId, batch: u32, size: usize) {
        let mut writer = BatchWriter::new(256);
        writer.append(0, None, Some(&vec![0; size]), NO_HEADERS).unwrap();
        self.accumulator.push(self.now, id, Batch::new(writer.finish(), batch, self.now + DELIVERY));
    }

    fn takes(&mut self) -> Vec<PartitionId> {
        let takes: Vec<_> = std::iter::from_fn(|| self.accumulator.poll_take()).collect();
        takes.iter().for_each(|id| self.accumulator.handle_taken(self.now, *id));
        takes
    }

    /// The next request: its token, and what is in it.
    fn request(&mut self) -> Option<(Token, Vec<Stamped>)> {
        let Send { token, request, .. } = self.accumulator.poll_request(self.now)?;
        let mut stamps = Vec::new();
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let Records(bytes) = data.records.as_ref().unwrap();
                let header = BatchHeader::peek(bytes).unwrap();
                stamps.push((data.index as PartitionId, header.producer_epoch, header.base_sequence));
            }
        }
        Some((token, stamps))
    }

    fn token(&mut self) -> Token {
        self.request().expect("something to send").0
    }

    /// The partitions of the next request.
    fn partitions(&mut self) -> Vec<PartitionId> {
        self.request().map(|(_, stamps)| stamps.iter().map(|(id, ..)| *id).collect()).unwrap_or_default()
    }

    fn respond(&mut self, token: Token, answers: Vec<PartitionProduceResponse>) {
        let topic =
            TopicProduceResponse { name: "t".into(), partition_responses: answers.into(), ..Default::default() };
        let response = ProduceResponse { responses: vec![topic].into(), ..Default::default() };
        self.accumulator.handle_response(self.now, token, &response, MIDDLE);
    }

    fn fail(&mut self, token: Token, sent: bool) {
        self.accumulator.handle_failed(self.now, token, &CallError::Lost { cause: Cause::Eof, sent }, MIDDLE);
    }

    fn events(&mut self) -> Vec<Seen> {
        let events = std::iter::from_fn(|| self.accumulator.poll_event());
        events.map(seen).collect()
    }

    /// The partition that left, and what came before.
    fn left(&mut self) -> (Moving<u32>, Vec<Seen>) {
        let mut before = Vec::new();
        while let Some(event) = self.accumulator.poll_event() {
            match event {
                Event::Left { partition, .. } => return (*partition, before),
                event => before.push(seen(event)),
            }
        }
        panic!("nobody left: {before:?}");
    }
}

fn seen(event: Event<u32>) -> Seen {
    match event {
        Event::Settled { id, settled: Settled { receipts, result: Ok(placed), .. } } => {
            Acknowledged(id, receipts, placed.base_offset)
        }
        Event::Settled { id, settled: Settled { receipts, result: Err(failure), .. } } => {
            Failed(id, receipts, failure.maybe_written)
        }
        Event::Hint(hint) => Seen::Hint(hint),
        Event::Overdue => Seen::Overdue,
        Event::Probe { lane, token } => Seen::Probe(lane, token),
        Event::Cut(lane) => Seen::Cut(lane),
        Event::Open(lane) => Seen::Open(lane),
        Event::Refresh => Seen::Refresh,
        Event::NeedsNewerThan(identity) => Seen::NeedsNewerThan(identity),
        Event::Left { id, .. } => Left(id),
    }
}

fn config() -> Config {
    Config { acks: -1, linger: LINGER, max_request_size: 1 << 20, max_in_flight: 5, request_timeout: ms(2000) }
}

fn queue(is_idempotent: bool) -> PartitionQueue<u32> {
    let window = if is_idempotent { sequence::WINDOW } else { 1 };
    PartitionQueue::new(sequence::Config {
        is_idempotent,
        window,
        remembered: ms(60_000),
        retry_backoff: BACKOFF,
        retry_backoff_max: ms(1000),
    })
}

fn name(id: PartitionId) -> PartitionName {
    PartitionName { topic: "t".into(), topic_id: Uuid::default(), index: id as i32 }
}

fn ok(id: PartitionId, base_offset: i64) -> PartitionProduceResponse {
    PartitionProduceResponse { index: id as i32, base_offset, ..Default::default() }
}

fn refused(id: PartitionId, error_code: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse { index: id as i32, error_code, base_offset: -1, ..Default::default() }
}

/// Linger starts with the first record, and ends with a take.
#[test]
fn an_open_batch_is_taken_when_its_linger_ends() {
    let mut rig = Rig::new(2);
    rig.first(0);
    assert_eq!(rig.accumulator.poll_timeout(), Some(rig.now + LINGER));
    rig.pass(ms(3));
    rig.first(1);
    assert_eq!(rig.takes(), Vec::<u32>::new());
    rig.pass(ms(2));
    assert_eq!(rig.takes(), [0]);
    rig.pass(ms(3));
    assert_eq!(rig.takes(), [1]);
    assert_eq!(rig.accumulator.poll_timeout(), None);
    // With no linger it is due at once; with one that ran out while nobody had the partition, too.
    let mut eager = Rig::with(Config { linger: Duration::ZERO, ..config() }, true);
    eager.adopt(0);
    eager.first(0);
    assert_eq!(eager.takes(), [0]);
    let queue = queue(true);
    rig.accumulator.adopt(rig.now, 2, Moving { name: name(2), queue, had_leader: false }, Some(rig.now - LINGER));
    assert_eq!(rig.takes(), [2]);
}

/// While a batch is under way the open one keeps growing, however long it has lingered.
#[test]
fn an_open_batch_waits_for_what_was_sealed_before_it() {
    let mut rig = Rig::new(1);
    rig.push(0, 1);
    rig.push(0, 2);
    rig.first(0);
    rig.accumulator.hurry(rig.now);
    let token = rig.token();
    rig.pass(LINGER * 10);
    assert_eq!(rig.takes(), Vec::<u32>::new());
    rig.respond(token, vec![ok(0, 0)]);
    assert_eq!(rig.takes(), Vec::<u32>::new());
    let token = rig.token();
    rig.respond(token, vec![ok(0, 1)]);
    assert_eq!(rig.takes(), [0]);
}

/// Rule 17: for open batches only, whether or not they can be taken yet.
#[test]
fn hurry_ends_every_linger() {
    let mut rig = Rig::new(4);
    rig.first(0);
    rig.first(1);
    rig.push(2, 1);
    let token = rig.token();
    rig.first(2);
    rig.accumulator.hurry(rig.now);
    assert_eq!(rig.takes(), [0, 1]);
    rig.respond(token, vec![ok(2, 0)]);
    assert_eq!(rig.takes(), [2]);
    // The next ones linger again.
    rig.first(0);
    assert_eq!(rig.takes(), Vec::<u32>::new());
    rig.pass(LINGER);
    assert_eq!(rig.takes(), [0]);
}

/// A full batch that others hold back; if it is sealed after all, the next one lingers as any other.
#[test]
fn hurry_one_is_for_the_batch_that_is_open() {
    let mut rig = Rig::new(2);
    rig.first(0);
    rig.first(1);
    rig.accumulator.hurry_one(rig.now, 0);
    assert_eq!(rig.takes(), [0]);
    rig.accumulator.hurry_one(rig.now, 0);
    rig.first(0);
    assert_eq!(rig.takes(), Vec::<u32>::new());

    rig.push(1, 1);
    let token = rig.token();
    rig.accumulator.hurry_one(rig.now, 1);
    rig.push(1, 2);
    rig.first(1);
    rig.respond(token, vec![ok(1, 0)]);
    let token = rig.token();
    rig.respond(token, vec![ok(1, 1)]);
    assert_eq!(rig.takes(), Vec::<u32>::new());
    rig.pass(LINGER);
    assert_eq!(rig.takes(), [0, 1]);
}

#[test]
fn one_request_carries_every_ready_partition_by_topic() {
    let mut rig = Rig::new(2);
    let queue = queue(true);
    let other = PartitionName { topic: "u".into(), topic_id: Uuid([1; 16]), index: 0 };
    rig.accumulator.adopt(rig.now, 9, Moving { name: other, queue, had_leader: false }, None);
    for id in [1, 9, 0] {
        rig.push(id, id);
    }
    let Send { request, has_ids, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert!(!has_ids, "topic t's is not known");
    assert_eq!((request.acks, request.timeout_ms), (-1, 2000));
    let shape: Vec<_> = request.topic_data.iter().map(|topic| (&*topic.name, topic.partition_data.len())).collect();
    assert_eq!(shape, [("t", 2), ("u", 1)]);
    assert!(rig.accumulator.poll_request(rig.now).is_none());
}

/// Rule 16: versions from 13 on need the ids of all topics in it.
#[test]
fn ids_are_used_once_all_are_known_and_answers_are_found_by_them() {
    let mut rig = Rig::new(1);
    rig.accumulator.rename(0, Uuid([7; 16]));
    rig.push(0, 1);
    let Send { token, request, has_ids, .. } = rig.accumulator.poll_request(rig.now).unwrap();
    assert!(has_ids && request.topic_data[0].topic_id == Uuid([7; 16]));
    let topic = |id, offset| TopicProduceResponse {
        topic_id: Uuid([id; 16]),
        partition_responses: vec![ok(0, offset)].into(),
        ..Default::default()
    };
    let response = ProduceResponse { responses: vec![topic(8, 1), topic(7, 2)].into(), ..Default::default() };
    rig.accumulator.handle_response(rig.now, token, &response, MIDDLE);
    assert_eq!(rig.events(), [Acknowledged(0, 1, Some(2))]);
}

/// A request holds what fits, at least one batch; what did not fit goes first into the next one.
#[test]
fn requests_are_bounded_in_size_and_fair() {
    let mut rig = Rig::with(Config { max_request_size: 2500, max_in_flight: 100, ..config() }, true);
    (0..4).for_each(|id| rig.adopt(id));
    for id in 0..4 {
        rig.push_large(id, id, 1000);
    }
    assert_eq!(rig.partitions(), [0, 1]);
    rig.adopt(4);
    rig.push_large(4, 4, 10);
    assert_eq!(rig.partitions(), [2, 3, 4]);
    // One that is larger than a request goes alone.
    rig.adopt(5);
    rig.push_large(5, 5, 5000);
    rig.adopt(6);
    rig.push(6, 6);
    assert_eq!(rig.partitions(), [5]);
    assert_eq!(rig.partitions(), [6]);
}

/// A partition that is always ready comes after those that waited.
#[test]
fn a_busy_partition_queues_behind_the_others() {
    let mut rig = Rig::with(Config { max_request_size: 1, max_in_flight: 1, ..config() }, true);
    (0..3).for_each(|id| rig.adopt(id));
    (0..10).for_each(|batch| rig.push(0, batch));
    rig.push(1, 0);
    rig.push(2, 0);
    let mut order = Vec::new();
    for offset in 0..6 {
        let (token, stamps) = rig.request().unwrap();
        order.extend(stamps.iter().map(|(id, ..)| *id));
        let answers = stamps.iter().map(|(id, ..)| ok(*id, offset)).collect();
        rig.respond(token, answers);
    }
    assert_eq!(order, [0, 1, 2, 0, 0, 0]);
}

/// P11.
#[test]
fn no_more_requests_are_open_than_allowed() {
    let mut rig = Rig::with(Config { max_in_flight: 2, ..config() }, true);
    (0..3).for_each(|id| rig.adopt(id));
    rig.push(0, 0);
    let first = rig.token();
    rig.push(1, 1);
    rig.token();
    rig.push(2, 2);
    assert_eq!(rig.request(), None);
    rig.fail(first, true);
    assert_eq!(rig.request().unwrap().1, [(2, 0, 0)]);
    assert_eq!(rig.request(), None);
}

/// Rule 21: missing ones are tried again, second mentions and strangers are ignored.
#[test]
fn unmentioned_doubled_and_invented_partitions() {
    let mut rig = Rig::new(3);
    (0..3).for_each(|id| rig.push(id, id));
    let token = rig.token();
    rig.respond(token, vec![ok(77, 1), refused(0, ErrorCode::INVALID_RECORD), ok(0, 5), ok(2, 6), ok(2, 7)]);
    assert_eq!(rig.events(), [Failed(0, 0, false), Acknowledged(2, 2, Some(6))]);
    rig.pass(BACKOFF);
    let (token, again) = rig.request().unwrap();
    assert_eq!(again, [(1, 0, 0)]);
    // The answer that did not mention it may have meant an append: a refusal does not undo that (rule 3).
    rig.respond(token, vec![refused(1, ErrorCode::INVALID_RECORD)]);
    assert_eq!(rig.events(), [Failed(1, 1, true)]);
}

/// Brokers keep the order of the request as a rule, and nobody has promised it.
#[test]
fn every_partition_finds_its_answer_in_any_order() {
    for has_ids in [false, true] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut rig = Rig::new(2);
            let other = PartitionName { topic: "u".into(), topic_id: Uuid::ZERO, index: 0 };
            rig.accumulator.adopt(rig.now, 9, Moving { name: other, queue: queue(true), had_leader: false }, None);
            if has_ids {
                [(0, 7), (1, 7), (9, 8)]
                    .into_iter()
                    .for_each(|(id, topic)| rig.accumulator.rename(id, Uuid([topic; 16])));
            }
            // The topics in turns, which the request does not keep.
            [0, 9, 1].into_iter().for_each(|id| rig.push(id, id));
            let token = rig.token();
            let topic = |(name, id, index, offset): (&str, u8, _, _)| TopicProduceResponse {
                name: if has_ids { "" } else { name }.into(),
                topic_id: Uuid(if has_ids { [id; 16] } else { [0; 16] }),
                partition_responses: vec![ok(index, offset)].into(),
                ..Default::default()
            };
            let answers = [("t", 7, 0, 10), ("u", 8, 0, 20), ("t", 7, 1, 30)];
            let responses: Vec<_> = order.into_iter().map(|place| topic(answers[place])).collect();
            let response = ProduceResponse { responses: responses.into(), ..Default::default() };
            rig.accumulator.handle_response(rig.now, token, &response, MIDDLE);
            let expected = [Acknowledged(0, 0, Some(10)), Acknowledged(9, 9, Some(20)), Acknowledged(1, 1, Some(30))];
            assert_eq!(rig.events(), expected, "{order:?}, ids: {has_ids}");
        }
    }
}

/// One answer for each token.
#[test]
fn an_answer_to_nothing_is_ignored() {
    let mut rig = Rig::new(1);
    rig.push(0, 1);
    rig.push(0, 2);
    let token = rig.token();
    rig.respond(token, vec![ok(0, 0)]);
    let next = rig.token();
    rig.respond(token, vec![ok(0, 9)]);
    rig.fail(token, true);
    rig.fail(99, true);
    assert_eq!(rig.events(), [Acknowledged(0, 1, Some(0))]);
    rig.respond(next, vec![ok(0, 1)]);
    assert_eq!(rig.events(), [Acknowledged(0, 2, Some(1))]);
}

/// Rule 12, and what a topic with LogAppendTime answers.
#[test]
fn offsets_and_times_are_told_when_the_broker_tells_them() {
    let mut rig = Rig::new(2);
    rig.push(0, 0);
    rig.push(1, 1);
    let token = rig.token();
    rig.respond(token, vec![ok(0, -1), PartitionProduceResponse { log_append_time_ms: 1234, ..ok(1, 5) }]);
    let placed: Vec<_> = std::iter::from_fn(|| rig.accumulator.poll_event())
        .map(|event| match event {
            Event::Settled { settled: Settled { result: Ok(placed), .. }, .. } => {
                (placed.base_offset, placed.log_append_time)
            }
            _ => panic!("not acknowledged"),
        })
        .collect();
    assert_eq!(placed, [(None, None), (Some(5), Some(1234))]);
}

/// KIP-467: the message of the record says more than that of the batch.
#[test]
fn a_refusal_carries_the_brokers_words() {
    let mut rig = Rig::new(1);
    for (record_errors, message) in [
        (vec![], "batch"),
        (
            vec![BatchIndexAndErrorMessage {
                batch_index: 4,
                batch_index_error_message: Some("bad key".into()),
                ..Default::default()
            }],
            "record 4 of the batch: bad key",
        ),
    ] {
        rig.push(0, 0);
        let token = rig.token();
        let error_message = Some("batch".into());
        let answer = PartitionProduceResponse {
            record_errors: record_errors.into(),
            error_message,
            ..refused(0, ErrorCode::INVALID_RECORD)
        };
        rig.respond(token, vec![answer]);
        let Some(Event::Settled { settled: Settled { result: Err(failure), .. }, .. }) = rig.accumulator.poll_event()
        else {
            panic!()
        };
        let reason = Attempt::refused(ErrorCode::INVALID_RECORD, -1, Some(message.into()));
        assert_eq!(failure.reason, Reason::Rejected(reason));
    }
}

/// Row 6: a dead connection loses all that is open on it, and each partition has its own back-off.
#[test]
fn a_lost_connection_fails_every_open_request() {
    let mut rig = Rig::new(2);
    rig.push(0, 0);
    rig.token();
    rig.push(1, 1);
    rig.token();
    let error = CallError::Lost { cause: Cause::Closed, sent: true };
    rig.accumulator.handle_all_failed(rig.now, &error, MIDDLE);
    assert_eq!(rig.events(), [Seen::Refresh, Seen::Refresh]);
    assert_eq!(rig.request(), None);
    // Others are asked who leads before that.
    assert_eq!(rig.accumulator.poll_timeout(), Some(rig.now + BACKOFF / 2));
    rig.pass(BACKOFF / 2);
    assert_eq!((rig.events(), rig.request()), (vec![Seen::Overdue], None));
    assert_eq!(rig.accumulator.poll_timeout(), Some(rig.now + BACKOFF / 2));
    rig.pass(BACKOFF / 2);
    assert_eq!(rig.request().unwrap().1, [(0, 0, 0), (1, 0, 0)]);
}

/// acks=0: written is all that can be known, and it counts.
#[test]
fn without_acks_a_write_is_the_end() {
    let mut rig = Rig::with(Config { acks: 0, ..config() }, false);
    rig.adopt(0);
    rig.push(0, 1);
    let token = rig.token();
    rig.accumulator.handle_sent(rig.now, token, MIDDLE);
    assert_eq!(rig.events(), [Acknowledged(0, 1, None)]);
}

/// Row 20: asked for once something waits for it, and again while nobody has brought it.
#[test]
fn a_spent_epoch_is_reported_until_a_newer_one_comes() {
    let mut rig = Rig::new(2);
    rig.push(0, 1);
    let token = rig.token();
    rig.respond(token, vec![refused(0, ErrorCode::UNKNOWN_SERVER_ERROR)]);
    assert_eq!(rig.events(), [Failed(0, 1, true)]);
    rig.push(0, 2);
    assert_eq!(rig.events(), [Seen::NeedsNewerThan(FIRST)]);
    // The other partition does not need it.
    rig.push(1, 3);
    let (token, stamps) = rig.request().unwrap();
    assert_eq!(stamps, [(1, 0, 0)]);
    rig.accumulator.set_identity(rig.now, None);
    assert_eq!((rig.events(), rig.request()), (vec![], None));
    rig.accumulator.set_identity(rig.now, Some(SECOND));
    assert_eq!(rig.request().unwrap().1, [(0, 1, 0)]);
    // And keeps its epoch while something of it is in flight (rule 9).
    rig.respond(token, vec![refused(1, ErrorCode::NOT_ENOUGH_REPLICAS)]);
    rig.pass(BACKOFF);
    let (token, stamps) = rig.request().unwrap();
    assert_eq!(stamps, [(1, 0, 0)]);
    rig.respond(token, vec![ok(1, 0)]);
    rig.push(1, 4);
    assert_eq!(rig.request().unwrap().1, [(1, 1, 0)]);
}

/// Nothing is sent before there is a producer id; without idempotence none is needed.
#[test]
fn the_identity_is_waited_for() {
    let mut rig = Rig::with(config(), true);
    rig.accumulator.set_identity(rig.now, None);
    rig.adopt(0);
    rig.push(0, 1);
    assert_eq!((rig.request(), rig.accumulator.poll_timeout()), (None, Some(rig.now + DELIVERY)));
    rig.accumulator.set_identity(rig.now, Some(FIRST));
    assert_eq!(rig.request().unwrap().1, [(0, 0, 0)]);
    let mut rig = Rig::with(config(), false);
    rig.adopt(0);
    rig.push(0, 1);
    assert_eq!(rig.request().unwrap().1, [(0, -1, -1)]);
}

/// Row 4: an idempotent partition leaves at once, with its batches in order, and late answers hit nothing.
#[test]
fn a_released_partition_leaves_with_what_it_has() {
    let mut old = Rig::new(2);
    let mut new = Rig::new(0);
    new.now = old.now;
    old.push(0, 1);
    old.push(0, 2);
    let late = old.token();
    old.accumulator.release(old.now, 0);
    let (moving, before) = old.left();
    assert_eq!(before, []);
    assert_eq!(old.accumulator.partitions().collect::<Vec<_>>(), [1]);
    new.accumulator.adopt(new.now, 0, moving, None);
    let (token, stamps) = new.request().unwrap();
    assert_eq!(stamps, [(0, 0, 0)]);
    // The same token there means another attempt.
    assert_eq!(token, late);
    old.respond(late, vec![ok(0, 3)]);
    assert_eq!(old.events(), []);
    new.respond(token, vec![ok(0, 3)]);
    assert_eq!(new.events(), [Acknowledged(0, 1, Some(3))]);
    assert_eq!(new.request().unwrap().1, [(0, 0, 1)]);
}

/// There and back again, before the first answer: it belongs to an attempt that was taken back.
#[test]
fn a_late_answer_does_not_settle_what_came_back() {
    let mut rig = Rig::new(1);
    rig.push(0, 1);
    let late = rig.token();
    rig.accumulator.release(rig.now, 0);
    let (moving, _) = rig.left();
    rig.accumulator.adopt(rig.now, 0, moving, None);
    rig.respond(late, vec![ok(0, 3)]);
    assert_eq!(rig.events(), []);
    let token = rig.token();
    assert_ne!(token, late);
    rig.fail(late, true);
    rig.respond(token, vec![ok(0, 4)]);
    assert_eq!(rig.events(), [Acknowledged(0, 1, Some(4))]);
}

/// Rule 7: without idempotence it stays until it knows.
#[test]
fn a_released_partition_without_idempotence_waits_for_its_answer() {
    for is_lost in [false, true] {
        let mut rig = Rig::with(config(), false);
        rig.adopt(0);
        rig.push(0, 1);
        rig.push(0, 2);
        let token = rig.token();
        rig.accumulator.release(rig.now, 0);
        rig.pass(ms(500));
        assert_eq!((rig.request(), rig.events()), (None, vec![Seen::Overdue]), "nothing is sent twice");
        match is_lost {
            false => rig.respond(token, vec![ok(0, 3)]),
            true => rig.fail(token, true),
        }
        let (moving, before) = rig.left();
        match is_lost {
            false => assert_eq!(before, [Acknowledged(0, 1, Some(3))]),
            true => assert_eq!(before, [Seen::Refresh]),
        }
        assert!(!moving.queue.is_empty());
        assert_eq!(rig.request(), None);
    }
}

/// P4 and P5, for everything of a leader at once.
#[test]
fn giving_up_everything_settles_everything_truthfully() {
    let mut rig = Rig::new(3);
    rig.push(0, 1);
    rig.push(0, 2);
    let token = rig.token();
    rig.push(1, 3);
    rig.accumulator.fail_all(rig.now, &Reason::Closed);
    assert_eq!(rig.events(), [Failed(0, 1, true), Failed(0, 2, false), Failed(1, 3, false)]);
    rig.respond(token, vec![ok(0, 0)]);
    assert_eq!((rig.events(), rig.request(), rig.accumulator.poll_timeout()), (vec![], None, None));
}

/// The contract of all machines: nothing happens before its time, and nothing asks to be called at once for ever.
#[test]
fn timers_are_exact_and_spurious_calls_do_nothing() {
    let mut rig = Rig::new(3);
    rig.push(0, 1);
    let token = rig.token();
    rig.respond(token, vec![refused(0, ErrorCode::NOT_ENOUGH_REPLICAS)]);
    rig.first(1);
    rig.accumulator.set_identity(rig.now, None);
    rig.push(2, 2);
    let start = rig.now;
    for (at, takes, events) in [
        (LINGER, vec![1], vec![]),
        (BACKOFF, vec![], vec![]),
        (DELIVERY, vec![], vec![Failed(0, 1, false), Failed(2, 2, false)]),
    ] {
        assert_eq!(rig.accumulator.poll_timeout(), Some(start + at));
        rig.pass(start + at - rig.now - ms(1));
        rig.accumulator.handle_timeout(rig.now);
        assert_eq!((rig.takes(), rig.events()), (vec![], vec![]));
        assert_eq!(rig.accumulator.poll_timeout(), Some(start + at));
        rig.pass(ms(1));
        assert_eq!((rig.takes(), rig.events()), (takes, events));
        if at == BACKOFF {
            let (token, stamps) = rig.request().unwrap();
            assert_eq!(stamps, [(0, 0, 0)], "what is stamped needs no identity");
            rig.respond(token, vec![refused(0, ErrorCode::NOT_ENOUGH_REPLICAS)]);
            rig.pass(ms(300));
            rig.events();
        }
    }
    assert_eq!(rig.accumulator.poll_timeout(), None);
}

/// A partition can leave between its linger's end and the driver's take. Whoever has it next takes the open batch;
/// if this driver did, it would hold batches of a partition that is not its own any more.
#[test]
fn what_has_left_is_not_taken() {
    let mut rig = Rig::new(2);
    rig.first(0);
    rig.first(1);
    rig.pass(LINGER);
    rig.accumulator.release(rig.now, 0);
    assert!(!rig.accumulator.has(0) && rig.accumulator.has(1));
    assert_eq!(rig.takes(), [1]);
    assert_eq!(rig.events(), [Left(0)]);
}
