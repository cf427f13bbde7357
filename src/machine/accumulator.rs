//! What one leader's task has to send: which partitions are due, what goes into the next request, what came of it.
//!
//! ```text
//!   open batch (shared, producer/open_batch)
//!       │ first record: linger starts            sealed: full, flushed
//!       ▼                                          ▼
//!   poll_take ── the driver takes it ──▶ push ─▶ PartitionQueue ─▶ poll_request ─▶ socket
//! ```
//! Partitions that can do something are in lists; nothing here walks over all of them, except when the identity changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{CallError, Token};
use super::sequence::{Attempt, Batch, Identity, Outcome, PartitionQueue, Placed, Reason, Receipts, Settled};
use crate::record::SealedBatch;
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use crate::wire::message::{Records, Uuid};

/// A partition within one producer: an index into its table.
pub type PartitionId = u32;

#[derive(Clone, Debug)]
pub struct Config {
    pub acks: i16,
    pub linger: Duration,
    pub max_request_size: usize,
    /// Requests without an answer per connection (max.in.flight.requests.per.connection).
    pub max_in_flight: usize,
    pub request_timeout: Duration,
}

/// What a partition is called in requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionName {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
}

/// A partition as it moves from one leader's task to the next.
pub struct Moving<R> {
    pub name: PartitionName,
    pub queue: PartitionQueue<R>,
}

pub enum Event<R> {
    Settled {
        id: PartitionId,
        settled: Settled<R>,
    },
    /// Leaders are not what the picture says.
    Refresh,
    /// The broker says who leads the partition now (KIP-951).
    Hint(Hint),
    /// A partition cannot go on under this epoch.
    NeedsNewerThan(Identity),
    /// A partition that was asked to leave is free to go.
    Left {
        id: PartitionId,
        partition: Moving<R>,
    },
}

/// Who leads a partition, by the word of a broker that does not.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
    pub leader: i32,
    pub leader_epoch: i32,
    /// Where that broker is, if the answer says so.
    pub endpoint: Option<NodeEndpoint>,
}

struct Slot<R> {
    name: PartitionName,
    queue: PartitionQueue<R>,
    /// When the first record of the open batch came.
    open_since: Option<Instant>,
    /// Take the open batch without waiting for its linger.
    is_urgent: bool,
    is_leaving: bool,
    timer: Option<Instant>,
    is_listed: bool,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
pub struct Accumulator<R> {
    config: Config,
    identity: Option<Identity>,
    is_idempotent: bool,
    slots: BTreeMap<PartitionId, Slot<R>>,
    /// Partitions that may have something to send, each once, in the order in which they became so.
    ready: VecDeque<PartitionId>,
    takes: VecDeque<PartitionId>,
    timers: BTreeSet<(Instant, PartitionId)>,
    requests: BTreeMap<Token, Vec<PartitionId>>,
    next_token: Token,
    events: VecDeque<Event<R>>,
}

/// A request to send, under the token by which its answer is known.
pub struct Send {
    pub token: Token,
    pub request: ProduceRequest,
    /// Topic ids are known for all of it, so that versions from 13 on can be used.
    pub has_ids: bool,
}

impl<R: Receipts> Accumulator<R> {
    pub fn new(config: Config, is_idempotent: bool) -> Self {
        Self {
            config,
            identity: None,
            is_idempotent,
            slots: BTreeMap::new(),
            ready: VecDeque::new(),
            takes: VecDeque::new(),
            timers: BTreeSet::new(),
            requests: BTreeMap::new(),
            next_token: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes charge of a partition.
    pub fn adopt(&mut self, now: Instant, id: PartitionId, partition: Moving<R>, open_since: Option<Instant>) {
        let Moving { name, queue } = partition;
        let slot = Slot { name, queue, open_since, is_urgent: false, is_leaving: false, timer: None, is_listed: false };
        self.slots.insert(id, slot);
        self.update(now, id);
    }

    /// Gives a partition back, with [`Event::Left`], as soon as nothing of it is in flight; at once if it is idempotent.
    pub fn release(&mut self, now: Instant, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.is_leaving = true;
            slot.queue.recall();
            self.update(now, id);
        }
    }

    /// The open batch got its first record.
    pub fn handle_first(&mut self, now: Instant, id: PartitionId, since: Instant) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.open_since = Some(since);
            self.update(now, id);
        }
    }

    /// Whether it has this partition: only then may its batches be taken and [pushed](Self::push), since the partition
    /// may have left with an event that the driver has not come to.
    pub fn has(&self, id: PartitionId) -> bool {
        self.slots.contains_key(&id)
    }

    /// A batch was sealed by its caller. The partition must be here.
    pub fn push(&mut self, now: Instant, id: PartitionId, batch: Batch<R>) {
        debug_assert!(self.has(id), "nobody would ever send the batch, or tell its receipts");
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.queue.push(batch);
            self.update(now, id);
        }
    }

    /// A batch that was lent to be compressed comes back.
    pub fn give_back(&mut self, now: Instant, id: PartitionId, number: u64, sealed: Result<SealedBatch, Reason>) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.queue.give_back(number, sealed);
            self.update(now, id);
        }
    }

    /// The driver has emptied the open batch; a new one announces itself by its first record.
    pub fn handle_taken(&mut self, now: Instant, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.open_since = None;
            slot.is_urgent = false;
            self.update(now, id);
        }
    }

    /// No open batch lingers from now on: somebody flushes, or waits for memory (rule 17).
    pub fn hurry(&mut self, now: Instant) {
        let open: Vec<_> = self.slots.iter().filter(|(_, slot)| slot.open_since.is_some()).map(|(id, _)| *id).collect();
        for id in open {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.is_urgent = true;
            }
            self.update(now, id);
        }
    }

    pub fn set_identity(&mut self, now: Instant, identity: Option<Identity>) {
        if self.identity == identity {
            return;
        }
        self.identity = identity;
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.update(now, id);
        }
    }

    /// The next partition whose open batch is to be taken and pushed.
    pub fn poll_take(&mut self) -> Option<PartitionId> {
        // What has left meanwhile is for its next leader to take.
        std::iter::from_fn(|| self.takes.pop_front())
            .find(|id| self.slots.contains_key(id) || cfg!(milena_bug = "take_what_left"))
    }

    /// The next request: the heads of as many ready partitions as fit, at least one.
    pub fn poll_request(&mut self, now: Instant) -> Option<Send> {
        if self.requests.len() >= self.config.max_in_flight {
            return None;
        }
        let token = self.next_token;
        let mut size = 0;
        let mut ids = Vec::new();
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut has_ids = true;
        while let Some(id) = self.ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            slot.is_listed = false;
            if slot.is_leaving {
                continue;
            }
            let Some(next) = slot.queue.startable(now, self.identity) else { continue };
            if size > 0 && size + next > self.config.max_request_size {
                slot.is_listed = true;
                self.ready.push_front(id);
                break;
            }
            let Some(bytes) = slot.queue.start(now, token, self.identity) else { continue };
            size += next;
            ids.push(id);
            has_ids &= !slot.name.topic_id.is_zero();
            add(&mut topics, &slot.name, bytes);
        }
        if ids.is_empty() {
            return None;
        }
        for id in &ids {
            self.update(now, *id);
        }
        self.next_token += 1;
        self.requests.insert(token, ids);
        let timeout_ms = i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest { acks: self.config.acks, timeout_ms, topic_data: topics, ..Default::default() };
        Some(Send { token, request, has_ids })
    }

    /// The answer to a request. Partitions that it does not mention are tried again; others than those asked about,
    /// and second mentions, are ignored (rule 21).
    pub fn handle_response(&mut self, now: Instant, token: Token, response: &ProduceResponse, random: u64) {
        let asked = self.requests.remove(&token).unwrap_or_default();
        let mut answers = Answers::new(asked.iter().filter_map(|id| Some((*id, &self.slots.get(id)?.name))));
        answers.find(response);
        for (id, answer) in answers.answers {
            let outcome = match &answer {
                None if cfg!(milena_bug = "unmentioned_is_well") => {
                    Outcome::Acknowledged(Placed { base_offset: None, log_append_time: None })
                }
                None => Outcome::Ended(Attempt::Unmentioned),
                Some(answer) if answer.error_code.is_ok() => Outcome::Acknowledged(Placed {
                    base_offset: (answer.base_offset >= 0).then_some(answer.base_offset),
                    log_append_time: (answer.log_append_time_ms >= 0).then_some(answer.log_append_time_ms),
                }),
                Some(answer) => {
                    let hint = self.slots.get(&id).and_then(|slot| hint_of(&slot.name, answer, response));
                    self.events.extend(hint.map(Event::Hint));
                    let (code, message) = (answer.error_code, reason_of(answer));
                    Outcome::Ended(Attempt::Refused { code, message })
                }
            };
            self.handle_outcome(now, id, token, outcome, random);
        }
    }

    /// A request with acks=0 was written to the socket: all that can be known of it.
    pub fn handle_sent(&mut self, now: Instant, token: Token, random: u64) {
        for id in self.requests.remove(&token).unwrap_or_default() {
            let placed = Placed { base_offset: None, log_append_time: None };
            self.handle_outcome(now, id, token, Outcome::Acknowledged(placed), random);
        }
    }

    pub fn handle_failed(&mut self, now: Instant, token: Token, error: &CallError, random: u64) {
        for id in self.requests.remove(&token).unwrap_or_default() {
            let outcome = Outcome::Ended(Attempt::Failed(error.clone()));
            self.handle_outcome(now, id, token, outcome, random);
        }
    }

    /// The connection was given up: no open request will be answered.
    pub fn handle_all_failed(&mut self, now: Instant, error: &CallError, random: u64) {
        for token in self.requests.keys().copied().collect::<Vec<_>>() {
            self.handle_failed(now, token, error, random);
        }
    }

    /// The topic was created again, under another id.
    pub fn rename(&mut self, id: PartitionId, topic_id: Uuid) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.name.topic_id = topic_id;
        }
    }

    /// Gives up all that is sealed, for `reason`.
    pub fn fail_all(&mut self, now: Instant, reason: &Reason) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            for settled in slot.queue.fail_all(reason) {
                self.events.push_back(Event::Settled { id, settled });
            }
            self.update(now, id);
        }
    }

    pub fn poll_event(&mut self) -> Option<Event<R>> {
        self.events.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                return;
            }
            self.timers.pop_first();
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.timer = None;
            }
            self.update(now, id);
        }
    }

    pub fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.slots.keys().copied()
    }

    fn handle_outcome(&mut self, now: Instant, id: PartitionId, token: Token, outcome: Outcome, random: u64) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.queue.handle_outcome(now, token, outcome, random) {
            self.events.push_back(Event::Refresh);
        }
        self.update(now, id);
    }

    /// Brings the lists and the timer of one partition up to date. Called after every change to it.
    fn update(&mut self, now: Instant, id: PartitionId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        while let Some(settled) = slot.queue.poll_settled(now) {
            self.events.push_back(Event::Settled { id, settled });
        }
        if slot.is_leaving && slot.queue.can_leave() {
            if let Some(timer) = slot.timer {
                self.timers.remove(&(timer, id));
            }
            if let Some(Slot { name, queue, .. }) = self.slots.remove(&id) {
                self.events.push_back(Event::Left { id, partition: Moving { name, queue } });
            }
            return;
        }
        if let Some(spent) = slot.queue.needs_newer_than().filter(|_| self.is_idempotent)
            && self.identity == Some(spent)
        {
            self.events.push_back(Event::NeedsNewerThan(spent));
        }
        let mut timer = slot.queue.poll_timeout(now);
        let is_waiting = slot.is_leaving || slot.open_since.is_some() && cfg!(milena_bug = "forgotten_while_lingering");
        if slot.queue.startable(now, self.identity).is_some() && !slot.is_listed && !is_waiting {
            slot.is_listed = true;
            self.ready.push_back(id);
        }
        // Only when it could be sent at once: until then the open batch keeps growing.
        if let Some(since) = slot.open_since
            && slot.queue.has_room(now)
            && !slot.is_leaving
        {
            let due = since + self.config.linger;
            if slot.is_urgent || due <= now {
                slot.open_since = None;
                self.takes.push_back(id);
            } else {
                timer = Some(timer.map_or(due, |at| at.min(due)));
            }
        }
        if slot.timer != timer {
            if let Some(old) = slot.timer {
                self.timers.remove(&(old, id));
            }
            if let Some(new) = timer {
                self.timers.insert((new, id));
            }
            slot.timer = timer;
        }
    }
}

fn add(topics: &mut Vec<TopicProduceData>, name: &PartitionName, bytes: Bytes) {
    let data = PartitionProduceData { index: name.index, records: Some(Records(bytes)), ..Default::default() };
    match topics.iter_mut().find(|topic| topic.name == name.topic && topic.topic_id == name.topic_id) {
        Some(topic) => topic.partition_data.push(data),
        None => topics.push(TopicProduceData {
            name: Arc::clone(&name.topic),
            topic_id: name.topic_id,
            partition_data: vec![data],
            ..Default::default()
        }),
    }
}

/// What one walk over a response finds for each partition that was asked about, in the order of the request.
struct Answers {
    answers: Vec<(PartitionId, Option<PartitionProduceResponse>)>,
    /// By id when the answer has one (v13 and later), else by name: where that partition is in `answers`. Ascending.
    places: Vec<(Mention, usize)>,
}

/// A topic's id or its name, the other being empty; and the index of the partition.
type Mention = (Uuid, Arc<str>, i32);

impl Answers {
    fn new<'a>(asked: impl Iterator<Item = (PartitionId, &'a PartitionName)>) -> Self {
        let mut found = Self { answers: Vec::new(), places: Vec::new() };
        for (id, name) in asked {
            let place = found.answers.len();
            found.answers.push((id, None));
            found.places.push(((Uuid::ZERO, Arc::clone(&name.topic), name.index), place));
            if !name.topic_id.is_zero() {
                found.places.push(((name.topic_id, Arc::default(), name.index), place));
            }
        }
        found.places.sort_unstable();
        found
    }

    /// The first mention counts.
    fn find(&mut self, response: &ProduceResponse) {
        for topic in &response.responses {
            let name = if topic.topic_id.is_zero() { topic.name } else { Arc::default() };
            for answer in &topic.partition_responses {
                let wanted = (topic.topic_id, &name, answer.index);
                let at = self.places.binary_search_by(|((id, name, index), _)| (*id, name, *index).cmp(&wanted));
                let Some((_, place)) = at.ok().and_then(|at| self.places.get(at)) else { continue };
                if let Some((_, none @ None)) = self.answers.get_mut(*place) {
                    *none = Some(answer);
                }
            }
        }
    }
}

/// Rule 78, KIP-951.
fn hint_of(name: &PartitionName, answer: &PartitionProduceResponse, response: &ProduceResponse) -> Option<Hint> {
    let LeaderIdAndEpoch { leader_id: leader, leader_epoch, .. } = answer.current_leader;
    let is_moved = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&answer.error_code);
    let PartitionName { topic, topic_id, index } = name;
    (is_moved && leader >= 0 && leader_epoch >= 0).then(|| Hint {
        topic: Arc::clone(topic),
        topic_id: *topic_id,
        partition: *index,
        leader,
        leader_epoch,
        endpoint: response.node_endpoints.iter().find(|endpoint| endpoint.node_id == leader),
    })
}

/// What the broker says of the batch, and of its first bad record (KIP-467).
fn reason_of(answer: &PartitionProduceResponse) -> Option<Arc<str>> {
    let record = answer.record_errors.iter().next().and_then(|record| {
        let message = record.batch_index_error_message.as_deref()?;
        Some(format!("record {} of the batch: {message}", record.batch_index).into())
    });
    record.or_else(|| answer.error_message.clone())
}

#[cfg(test)]
mod tests;
