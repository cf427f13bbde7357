//! Connections and brokers: what may become of a request, and of its answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use super::broker::{Stamp, Verdict};
use super::world::{What, World};
use super::{MS, Micros};
use crate::machine::accumulator::LaneId;
use crate::machine::connection::{CallError, Cause, Token};
use crate::record::{Batches, RawBatch};
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::produce::{PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse};

const FOR_NOW: &[ErrorCode] = &[
    ErrorCode::NOT_ENOUGH_REPLICAS,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::CORRUPT_MESSAGE,
    ErrorCode::THROTTLING_QUOTA_EXCEEDED,
];
const FOR_GOOD: &[ErrorCode] =
    &[ErrorCode::INVALID_RECORD, ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::TOPIC_AUTHORIZATION_FAILED];
/// Whether or not it was appended.
const OPEN: &[ErrorCode] = &[
    ErrorCode::REQUEST_TIMED_OUT,
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode::NETWORK_EXCEPTION,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::UNKNOWN_SERVER_ERROR,
    ErrorCode(999),
];
/// It was appended, and then the partition went elsewhere while its followers were waited for. The answer names the offset.
const DEPOSED: &[ErrorCode] = &[ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
const LOST_TRACK: &[ErrorCode] =
    &[ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::UNKNOWN_PRODUCER_ID, ErrorCode::INVALID_PRODUCER_EPOCH];

#[derive(Debug)]
pub(super) enum Wire {
    /// A connection can be written to.
    Connected {
        line: usize,
    },
    /// A request reaches its broker, or what is left of the connection that it was written to.
    Arrive {
        key: u64,
    },
    Answer {
        line: usize,
        generation: u64,
        token: Token,
        response: ProduceResponse,
    },
    /// The client sees the end of a connection.
    End {
        line: usize,
        generation: u64,
    },
    /// A connection may be written to again.
    Unmuted {
        line: usize,
        generation: u64,
    },
    /// A request has waited as long as it may.
    Deadline {
        line: usize,
        token: Token,
    },
}

impl Wire {
    pub(super) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Arrive { .. })
    }
}

#[derive(Default)]
struct Connection {
    /// How many there were before.
    generation: u64,
    is_up: bool,
    is_connecting: bool,
    /// Waiting for an answer, or to be written.
    open: VecDeque<Open>,
    /// Nothing overtakes anything.
    last_arrival: Micros,
    last_answer: Micros,
    /// The broker has closed this one.
    closed: Option<u64>,
    /// It serves a connection one request at a time.
    busy_until: Micros,
    /// Nothing is written before.
    muted_until: Micros,
}

struct Open {
    token: Token,
    is_written: bool,
    /// How long the broker may wait for followers.
    timeout: Micros,
    batches: Vec<Batch>,
}

/// One partition's part of a request.
#[derive(Clone)]
struct Batch {
    partition: usize,
    stamp: Stamp,
    records: Vec<u32>,
}

/// On its way to a broker.
struct Copy {
    line: usize,
    generation: u64,
    token: Token,
    timeout: Micros,
    batches: Vec<Batch>,
}

/// Connections to each node.
pub(super) const LANES: usize = LaneId::COUNT;
/// How long a request on the slow one may wait for followers.
const MOST_PATIENCE: Micros = 500 * MS;

pub(super) struct Network {
    /// By line: node and lane.
    connections: Vec<Connection>,
    copies: BTreeMap<u64, Copy>,
    next_copy: u64,
    hung_until: Vec<Micros>,
    /// Heads about whose brokers the client has heard that they answer others.
    pub(super) probed: BTreeSet<(usize, Token)>,
    /// Partitions of which a node has acknowledged something since they came to it.
    settled_in: BTreeSet<(usize, usize)>,
    /// Requests to a node that had a partition before it left: what they are told is not about its return.
    stale: BTreeSet<(usize, Token, usize)>,
}

impl Network {
    pub(super) fn new(nodes: usize) -> Self {
        let connections = (0..nodes * LANES).map(|_| Connection::default()).collect();
        let (copies, probed, settled_in, stale) = Default::default();
        Self { connections, copies, next_copy: 0, hung_until: vec![0; nodes], probed, settled_in, stale }
    }

    pub(super) fn heal(&mut self) {
        self.hung_until.fill(0);
    }

    /// What of a partition waits for an answer from this node.
    pub(super) fn open_requests(&self, node: usize, partition: usize) -> Vec<Vec<u32>> {
        let batches = self.lines(node).flat_map(|open| &open.batches);
        batches.filter(|batch| batch.partition == partition).map(|batch| batch.records.clone()).collect()
    }

    /// A partition has left this node's task.
    pub(super) fn leave(&mut self, node: usize, partition: usize) {
        self.settled_in.remove(&(node, partition));
        let open = self.connections[node * LANES..][..LANES].iter().flat_map(|connection| &connection.open);
        let its = open.filter(|open| open.batches.iter().any(|batch| batch.partition == partition));
        self.stale.extend(its.map(|open| (node, open.token, partition)));
    }

    pub(super) fn open_everything(&self, node: usize) -> Vec<Vec<u32>> {
        self.lines(node).flat_map(|open| &open.batches).map(|batch| batch.records.clone()).collect()
    }

    fn lines(&self, node: usize) -> impl Iterator<Item = &Open> {
        self.connections[node * LANES..][..LANES].iter().flat_map(|connection| &connection.open)
    }

    /// When a node would answer something cheap on another connection.
    pub(super) fn awake_at(&self, node: usize, now: Micros) -> Micros {
        self.hung_until[node].max(now)
    }

    pub(super) fn is_under_way(&self, partition: usize) -> bool {
        let open = self.connections.iter().flat_map(|connection| &connection.open).flat_map(|open| &open.batches);
        let copies = self.copies.values().flat_map(|copy| &copy.batches);
        open.chain(copies).any(|batch| batch.partition == partition)
    }
}

impl World {
    fn delay(&mut self) -> Micros {
        self.random.between(self.plan.delay / 4, self.plan.delay)
    }

    /// A task sends a request. Its batches are read from the real bytes, as a broker would read them.
    pub(super) fn send(&mut self, node: usize, lane: LaneId, token: Token, request: &ProduceRequest) {
        let line = node * LANES + lane as usize;
        self.ledger.summary.requests += 1;
        let mut batches = Vec::new();
        for data in request.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            let bytes = data.records.clone().unwrap_or_default().0;
            let mut parsed = Batches::new(bytes.clone(), true);
            let (Some(Ok(batch)), None) = (parsed.next(), parsed.next()) else {
                self.ledger.problems.push(format!("P11: not a batch: {bytes:?}"));
                return;
            };
            let partition = data.index as usize;
            let header = batch.header();
            let stamp = Stamp { id: header.producer_id, epoch: header.producer_epoch, sequence: header.base_sequence };
            let records = records_of(&batch);
            if batches.iter().any(|other: &Batch| other.partition == partition) {
                self.ledger.problems.push(format!("P11: partition {partition} twice in a request: {records:?}"));
            }
            self.ledger.send(self.now, (line, token), partition, stamp, &records, bytes);
            batches.push(Batch { partition, stamp, records });
        }
        let is_settled = |batch: &Batch| self.network.settled_in.contains(&(node, batch.partition));
        let is_shared = batches.len() > 1 && batches.iter().any(is_settled);
        if lane == LaneId::Slow && (is_shared || !self.network.connections[line].open.is_empty()) {
            self.ledger.problems.push("a slow partition is not alone".into());
        }
        if LaneId::SPARE.contains(&lane) {
            self.ledger.summary.spare += 1;
            if !self.network.connections[line].open.is_empty() {
                self.ledger.problems.push("two requests on a spare connection".into());
            }
        }
        let timeout = request.timeout_ms as Micros * MS;
        if lane == LaneId::Slow {
            self.ledger.summary.slow += 1;
            if timeout > MOST_PATIENCE {
                self.ledger.problems.push(format!("a slow partition keeps its connection for {timeout} us"));
            }
        }
        let connection = &mut self.network.connections[line];
        connection.open.push_back(Open { token, is_written: false, timeout, batches });
        if connection.open.len() > self.plan.max_in_flight {
            self.ledger.problems.push("P11: more requests in flight than allowed".into());
        }
        self.after(self.plan.request_timeout, What::Wire(Wire::Deadline { line, token }));
        self.write(line);
    }

    pub(super) fn wire(&mut self, wire: Wire) {
        match wire {
            Wire::Connected { line } => {
                let connection = &mut self.network.connections[line];
                (connection.is_up, connection.is_connecting) = (true, false);
                self.tell_up(line, true);
                self.write(line);
            }
            Wire::Arrive { key } => self.arrive(key),
            Wire::Answer { line, generation, token, response } => self.answer(line, generation, token, &response),
            Wire::End { line, generation } => {
                if self.network.connections[line].generation == generation {
                    self.lose(line, &Cause::Eof);
                }
            }
            Wire::Unmuted { line, generation } => {
                if self.network.connections[line].generation == generation {
                    self.write(line);
                }
            }
            Wire::Deadline { line, token } => self.deadline(line, token),
        }
    }

    /// Writes what waits, or connects first.
    fn write(&mut self, line: usize) {
        let connection = &mut self.network.connections[line];
        if !connection.is_up {
            if !connection.open.is_empty() {
                self.connect(line);
            }
            return;
        }
        let generation = connection.generation;
        if connection.muted_until > self.now {
            return;
        }
        let waiting = connection.open.iter_mut().filter(|open| !open.is_written);
        let written: Vec<_> = waiting
            .map(|open| {
                open.is_written = true;
                Copy { line, generation, token: open.token, timeout: open.timeout, batches: open.batches.clone() }
            })
            .collect();
        for copy in written {
            copy.batches.iter().for_each(|batch| self.ledger.write(batch.partition, &batch.records));
            let delay = self.delay();
            let connection = &mut self.network.connections[line];
            connection.last_arrival = connection.last_arrival.max(self.now + delay);
            let (at, key) = (connection.last_arrival, self.network.next_copy);
            self.network.next_copy += 1;
            self.network.copies.insert(key, copy);
            self.at(at, What::Wire(Wire::Arrive { key }));
        }
    }

    /// Unless there is a connection, or an attempt.
    fn connect(&mut self, line: usize) {
        let connection = &mut self.network.connections[line];
        if connection.is_up || std::mem::replace(&mut connection.is_connecting, true) {
            return;
        }
        // Once all is well again, so are connections: or a history would now and then need more than its time.
        let reconnect = if self.is_healed { self.plan.reconnect.min(50 * MS) } else { self.plan.reconnect };
        let delay = self.random.between(MS / 10, reconnect);
        self.after(delay, What::Wire(Wire::Connected { line }));
    }

    /// The client has use for a connection.
    pub(super) fn open(&mut self, node: usize, lane: LaneId) {
        self.connect(node * LANES + lane as usize);
    }

    fn arrive(&mut self, key: u64) {
        let Some(Copy { line, generation, token, timeout, .. }) = self.network.copies.get(&key) else { return };
        let (line, generation, token, timeout) = (*line, *generation, *token, *timeout);
        let node = line / LANES;
        if self.network.hung_until[node] > self.now {
            return self.at(self.network.hung_until[node], What::Wire(Wire::Arrive { key }));
        }
        let faults = self.plan.faults.clone();
        let connection = &mut self.network.connections[line];
        let is_dead = connection.generation != generation || connection.closed == Some(generation);
        let busy_until = connection.busy_until;
        if busy_until > self.now && !is_dead {
            return self.at(busy_until, What::Wire(Wire::Arrive { key }));
        }
        if is_dead {
            let roll = self.random.below(1000);
            if roll < faults.late_copy / 2 && !self.is_healed {
                // Later still: it waits in some buffer.
                let delay = self.random.between(MS, 2000 * MS);
                return self.after(delay, What::Wire(Wire::Arrive { key }));
            }
            let Some(copy) = self.network.copies.remove(&key) else { return };
            if roll < faults.late_copy {
                copy.batches.iter().for_each(|batch| drop(self.process(node, batch)));
            }
            return;
        }
        if self.random.chance(faults.hang) {
            let pause = self.random.between(10 * MS, 3 * self.plan.request_timeout);
            self.network.hung_until[node] = self.now + pause;
            return self.at(self.now + pause, What::Wire(Wire::Arrive { key }));
        }
        let delay = self.delay();
        let Some(copy) = self.network.copies.remove(&key) else { return };
        if self.random.chance(faults.cut_before) {
            self.network.connections[line].closed = Some(generation);
            return self.after(delay, What::Wire(Wire::End { line, generation }));
        }
        let mut answers: Vec<_> = copy.batches.iter().filter_map(|batch| self.process(node, batch)).collect();
        if self.random.chance(faults.cut_after) {
            self.network.connections[line].closed = Some(generation);
            return self.after(delay, What::Wire(Wire::End { line, generation }));
        }
        if self.random.chance(faults.silent) {
            return;
        }
        // acks=all: a batch is answered once its followers have it, and holds the connection until then.
        let mut hold = 0;
        for answer in answers.iter_mut().filter(|answer| answer.error_code.is_ok()) {
            let held = self.logs[answer.index as usize].held_until.saturating_sub(self.now);
            hold = hold.max(held.min(timeout));
            if held > timeout {
                (answer.error_code, answer.base_offset) = (ErrorCode::REQUEST_TIMED_OUT, -1);
            }
        }
        self.network.connections[line].busy_until = self.now + hold;
        let delay = delay + hold;
        if self.random.chance(faults.hostile_answer) {
            answers.push(PartitionProduceResponse { index: 77, base_offset: 5, ..Default::default() });
            answers.extend(answers.first().cloned().map(|twin| PartitionProduceResponse { base_offset: 1, ..twin }));
        }
        let topic =
            TopicProduceResponse { name: "t".into(), partition_responses: answers.into(), ..Default::default() };
        let response = ProduceResponse { responses: vec![topic].into(), ..Default::default() };
        let connection = &mut self.network.connections[line];
        connection.last_answer = connection.last_answer.max(self.now + delay);
        let at = connection.last_answer;
        self.at(at, What::Wire(Wire::Answer { line, generation, token, response }));
    }

    /// What a broker does with one batch, and what it says; `None`: nothing.
    fn process(&mut self, node: usize, batch: &Batch) -> Option<PartitionProduceResponse> {
        let faults = &self.plan.faults;
        let refused = |error_code| {
            let index = batch.partition as i32;
            Some(PartitionProduceResponse { index, error_code, base_offset: -1, ..Default::default() })
        };
        let log = &self.logs[batch.partition];
        if log.leader != Some(node) {
            let mut answer = refused(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
            if let Some(leader) = log.leader.filter(|_| self.random.chance(faults.hint)) {
                answer.current_leader.leader_id = leader as i32;
                answer.current_leader.leader_epoch = log.leader_epoch as i32;
            }
            return Some(answer);
        }
        for (rate, codes) in
            [(faults.refuse_for_now, FOR_NOW), (faults.refuse_for_good, FOR_GOOD), (faults.lose_track, LOST_TRACK)]
        {
            if self.random.chance(rate) {
                return refused(self.random.pick(codes));
            }
        }
        let is_open = self.random.chance(faults.leave_open);
        if is_open && self.random.chance(400) {
            return refused(self.random.pick(OPEN));
        }
        let verdict = self.logs[batch.partition].append(batch.stamp, &batch.records);
        if is_open {
            return match verdict {
                Verdict::Appended(base_offset) | Verdict::Duplicate(base_offset) if self.random.chance(300) => {
                    let error_code = self.random.pick(DEPOSED);
                    Some(PartitionProduceResponse { base_offset, ..refused(error_code)? })
                }
                _ => refused(self.random.pick(OPEN)),
            };
        }
        if self.random.chance(faults.unmentioned) {
            return None;
        }
        let base_offset = match verdict {
            Verdict::Appended(offset) => offset,
            Verdict::Duplicate(_) if self.plan.is_old_broker => return refused(ErrorCode::DUPLICATE_SEQUENCE_NUMBER),
            Verdict::Duplicate(offset) => offset,
            Verdict::Refused(code) => return refused(code),
        };
        Some(PartitionProduceResponse { index: batch.partition as i32, base_offset, ..Default::default() })
    }

    fn answer(&mut self, line: usize, generation: u64, token: Token, response: &ProduceResponse) {
        let connection = &mut self.network.connections[line];
        if connection.generation != generation {
            return;
        }
        // In order, or it is no answer.
        match connection.open.pop_front() {
            Some(open) if open.token == token => {
                let topics = response.responses.iter();
                let answers: Vec<_> =
                    topics.flat_map(|topic| topic.partition_responses.iter().collect::<Vec<_>>()).collect();
                for batch in open.batches {
                    let own = answers.iter().find(|answer| answer.index == batch.partition as i32);
                    let is_known = own.is_some_and(|own| {
                        let code = own.error_code;
                        let is_settled = [FOR_NOW, FOR_GOOD, LOST_TRACK].iter().any(|known| known.contains(&code));
                        // None of those comes with an offset.
                        code.is_ok() || is_settled && own.base_offset < 0
                    });
                    if !is_known {
                        self.ledger.leave_open(&batch.records);
                    }
                    let is_well = |code: ErrorCode| code.is_ok() || code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER;
                    let is_acknowledged = own.is_some_and(|own| is_well(own.error_code));
                    // One that ended as unknown may be left behind in flight: then its queue does not hear of this.
                    let is_heard = !self.network.stale.contains(&(line / LANES, token, batch.partition))
                        && !self.ledger.is_told(&batch.records);
                    if is_acknowledged && is_heard {
                        self.network.settled_in.insert((line / LANES, batch.partition));
                    }
                    self.ledger.end_attempt((line, token), batch.partition, is_acknowledged);
                }
                let until = self.throttle(line);
                self.with_task(line / LANES, |task, now, random| {
                    if let Some(until) = until {
                        task.handle_muted(now, LaneId::ALL[line % LANES], until);
                    }
                    task.handle_response(now, token, response, random);
                });
            }
            // An earlier one was never answered: the connection is given up.
            open => {
                connection.open.extend(open);
                let expected = 0;
                self.lose(line, &Cause::WrongCorrelation { expected, got: expected + 1 });
            }
        }
    }

    /// The answer asks for silence: until then.
    fn throttle(&mut self, line: usize) -> Option<Instant> {
        if !self.random.chance(self.plan.faults.throttle) {
            return None;
        }
        let until = self.now + self.random.between(MS, 2 * self.plan.request_timeout);
        let connection = &mut self.network.connections[line];
        connection.muted_until = connection.muted_until.max(until);
        let (until, generation) = (connection.muted_until, connection.generation);
        self.at(until, What::Wire(Wire::Unmuted { line, generation }));
        Some(self.instant_of(until))
    }

    fn deadline(&mut self, line: usize, token: Token) {
        let connection = &mut self.network.connections[line];
        let Some(place) = connection.open.iter().position(|open| open.token == token) else { return };
        if connection.open[place].is_written {
            let after = std::time::Duration::from_micros(self.plan.request_timeout);
            return self.lose(line, &Cause::RequestTimeout { api: ApiKey::PRODUCE, after });
        }
        let open = connection.open.remove(place);
        for batch in open.iter().flat_map(|open| &open.batches) {
            self.ledger.end_attempt((line, token), batch.partition, false);
        }
        let error = CallError::NotSentInTime { api: ApiKey::PRODUCE };
        self.with_task(line / LANES, |task, now, random| task.handle_failed(now, token, &error, random));
    }

    /// The broker ends a connection that has been idle.
    pub(super) fn cut_idle(&mut self) {
        let is_idle = |connection: &Connection| connection.is_up && connection.open.is_empty();
        let idle: Vec<_> = (0..).zip(&self.network.connections).filter(|(_, connection)| is_idle(connection)).collect();
        if !idle.is_empty() && !self.is_healed {
            let (line, _) = idle[self.random.index(idle.len())];
            self.lose(line, &Cause::Eof);
        }
    }

    fn tell_up(&mut self, line: usize, is_up: bool) {
        self.with_task(line / LANES, |task, now, _| task.handle_up(now, LaneId::ALL[line % LANES], is_up));
    }

    /// The client cuts a connection: everything on it was taken back.
    pub(super) fn cut(&mut self, node: usize, lane: LaneId) {
        let line = node * LANES + lane as usize;
        self.ledger.summary.cuts += 1;
        let head = self.network.connections[line].open.front().map(|open| open.token);
        if !head.is_some_and(|head| self.network.probed.contains(&(line, head))) {
            self.ledger.problems.push(format!("row 6: cut, and nobody knows whether the broker answers: {head:?}"));
        }
        let connection = &mut self.network.connections[line];
        connection.generation += 1;
        connection.is_up = false;
        (connection.busy_until, connection.muted_until) = (0, 0);
        for open in std::mem::take(&mut connection.open) {
            for batch in &open.batches {
                // Whether or not it was written, the queue knows no better than that it may have been.
                self.ledger.leave_open(&batch.records);
                self.ledger.end_attempt((line, open.token), batch.partition, false);
            }
        }
    }

    /// The client's end of a connection: what was written is lost, what was not waits for the next one.
    fn lose(&mut self, line: usize, cause: &Cause) {
        let connection = &mut self.network.connections[line];
        connection.generation += 1;
        connection.is_up = false;
        (connection.busy_until, connection.muted_until) = (0, 0);
        let (lost, waiting): (Vec<_>, Vec<_>) = connection.open.drain(..).partition(|open| open.is_written);
        connection.open.extend(waiting);
        for open in &lost {
            for batch in &open.batches {
                self.ledger.leave_open(&batch.records);
                self.ledger.end_attempt((line, open.token), batch.partition, false);
            }
        }
        // As the driver does: all of them, before anything is sent again.
        let random = self.random.next();
        self.with_task(line / LANES, |task, now, _| {
            task.handle_up(now, LaneId::ALL[line % LANES], false);
            for open in lost {
                let error = CallError::Lost { cause: cause.clone(), sent: true };
                task.handle_failed(now, open.token, &error, random);
            }
        });
        self.write(line);
    }
}

fn records_of(batch: &RawBatch) -> Vec<u32> {
    let records = batch.records().into_iter().flatten().flatten();
    let numbers = records.filter_map(|record| Some(u32::from_be_bytes(*record.value()?.first_chunk()?)));
    numbers.collect()
}
