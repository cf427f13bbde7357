//! What one leader's task has to send: which partitions are due, what goes into the next request, what came of it.
//!
//! ```text
//!   open batch (shared, producer/open_batch)
//!       │ first record: linger starts            sealed: full, flushed
//!       ▼                                          ▼
//!   poll_take ── the driver takes it ──▶ push ─▶ PartitionQueue ─▶ poll_request ─▶ socket
//! ```
//! Partitions that can do something are in lists; nothing here walks over all of them, except when the identity changes.
//!
//! **Lanes.** A partition that keeps the others waiting goes on over a slow connection of its own (`accumulator/slow.rs`).
//! A small request goes over a spare one rather than stand in line, if there is one (`accumulator/spare.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connection::{CallError, Token};
use super::planted::bug;
use super::sequence::{Attempt, Batch, Identity, Outcome, PartitionQueue, Placed, Reason, Receipts, Settled};
use crate::record::SealedBatch;
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::produce::{
    NodeEndpoint, PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use crate::wire::message::{Records, Uuid};

mod answers;
mod doubt;
mod line;
mod slow;
mod spare;

use answers::{hint_of, reason_of};
use doubt::Doubt;
pub use line::LaneId;
use line::{Line, Step};
use slow::NEWCOMERS_PATIENCE;
use spare::Pace;

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
    /// It comes from another leader.
    pub had_leader: bool,
}

pub enum Event<R> {
    Settled {
        id: PartitionId,
        settled: Settled<R>,
    },
    /// Leaders are not what the picture says.
    Refresh,
    /// An answer of this leader is overdue: it may hang, so another broker is to say who leads now.
    Overdue,
    /// Asks this leader for anything cheap, over a connection of somebody else: [`Accumulator::handle_probe`].
    Probe {
        lane: LaneId,
        token: Token,
    },
    /// Nothing on this connection will be waited for: it is to be cut before anything is sent.
    Cut(LaneId),
    /// There is use for a connection on this lane: [`Accumulator::handle_up`].
    Open(LaneId),
    /// The broker says who leads the partition now (KIP-951).
    Hint(Hint),
    /// A partition cannot go on under this epoch.
    NeedsNewerThan(Identity),
    /// A partition that was asked to leave is free to go.
    Left {
        id: PartitionId,
        /// Boxed: the other events are small, and there is one for each batch.
        partition: Box<Moving<R>>,
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
    lane: LaneId,
    /// It came from another leader, and this one has acknowledged nothing of it: on the slow lane, with others like it.
    is_newcomer: bool,
    /// Where its batches in flight are.
    flies: LaneId,
    /// On the slow lane: how long the broker may wait for its followers.
    patience: Duration,
    /// How much longer than that its answers may take: twice as long after each that did not come in time, or a leader
    /// that is slow with everything would never get to answer.
    allowance: Duration,
    /// Answers in the usual time, in a row, and how many bring it back to the fast lane: more with each relapse.
    quick: u32,
    relapses: u32,
}

struct Request {
    lane: LaneId,
    ids: Vec<PartitionId>,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
pub struct Accumulator<R> {
    config: Config,
    identity: Option<Identity>,
    is_idempotent: bool,
    slots: BTreeMap<PartitionId, Slot<R>>,
    /// By [`LaneId`].
    lines: [Line; LaneId::COUNT],
    pace: Pace,
    /// How long the leader takes to answer what is not slow.
    usual: Option<Duration>,
    /// When it last did.
    last_fast: Option<Instant>,
    doubt: Doubt,
    /// Partitions on the slow lane.
    slow: BTreeSet<PartitionId>,
    takes: VecDeque<PartitionId>,
    timers: BTreeSet<(Instant, PartitionId)>,
    /// Ascending by token: not many are under way at once.
    requests: VecDeque<(Token, Request)>,
    next_token: Token,
    events: VecDeque<Event<R>>,
}

/// A request to send, under the token by which its answer is known.
pub struct Send {
    pub lane: LaneId,
    pub token: Token,
    pub request: ProduceRequest,
    /// Topic ids are known for all of it, so that versions from 13 on can be used.
    pub has_ids: bool,
    /// How many of its batches were sent before.
    pub retries: usize,
    /// Of the others, the earliest deadline: that of the one that was begun first.
    pub oldest: Option<Instant>,
}

impl<R: Receipts> Accumulator<R> {
    pub fn new(config: Config, is_idempotent: bool) -> Self {
        Self {
            config,
            identity: None,
            is_idempotent,
            slots: BTreeMap::new(),
            lines: LaneId::ALL.map(|_| Line::new()),
            pace: Pace::default(),
            usual: None,
            last_fast: None,
            doubt: Doubt::default(),
            slow: BTreeSet::new(),
            takes: VecDeque::new(),
            timers: BTreeSet::new(),
            requests: VecDeque::new(),
            next_token: 0,
            events: VecDeque::new(),
        }
    }

    /// Takes charge of a partition.
    pub fn adopt(&mut self, now: Instant, id: PartitionId, partition: Moving<R>, open_since: Option<Instant>) {
        let Moving { name, mut queue, had_leader } = partition;
        if had_leader {
            // That was the former leader's.
            queue.retry_now();
        }
        // Not for the time that it takes to connect: that is longer than others would have to wait. (Seed 16551.)
        let is_newcomer = had_leader && self.has_lanes() && self.lines[LaneId::Slow as usize].is_up();
        if is_newcomer {
            self.slow.insert(id);
        }
        let slot = Slot {
            name,
            queue,
            open_since,
            is_urgent: false,
            is_leaving: false,
            timer: None,
            is_listed: false,
            lane: if is_newcomer { LaneId::Slow } else { LaneId::Fast },
            is_newcomer,
            flies: LaneId::Fast,
            patience: if is_newcomer { NEWCOMERS_PATIENCE } else { Duration::ZERO },
            allowance: Duration::ZERO,
            quick: 0,
            relapses: 0,
        };
        self.slots.insert(id, slot);
        self.update(now, id);
    }

    /// Gives a partition back, with [`Event::Left`], as soon as nothing of it is in flight; at once if it is idempotent.
    pub fn release(&mut self, now: Instant, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.is_leaving = true;
            if !bug("leaves_when_answered") {
                slot.queue.recall();
            }
            self.update(now, id);
        }
    }

    /// The open batch got its first record.
    pub fn handle_first(&mut self, now: Instant, id: PartitionId, since: Instant) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.open_since = Some(since);
            slot.is_urgent = false;
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
            self.hurry_one(now, id);
        }
    }

    /// The open batch of this partition, if there is one, lingers no more.
    pub fn hurry_one(&mut self, now: Instant, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.open_since.is_some()) {
            slot.is_urgent = true;
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
        std::iter::from_fn(|| self.takes.pop_front()).find(|id| self.slots.contains_key(id) || bug("take_what_left"))
    }

    /// The next request: as many ready partitions as fit, at least one; on the slow lane one, or newcomers.
    pub fn poll_request(&mut self, now: Instant) -> Option<Send> {
        // The fast lane once more: the slow one may have found a partition on its list that has come back, and nothing
        // else might ask again before that partition's deadline.
        [LaneId::Fast, LaneId::Slow, LaneId::Fast].into_iter().find_map(|lane| self.poll_lane(now, lane))
    }

    fn poll_lane(&mut self, now: Instant, lane: LaneId) -> Option<Send> {
        if self.lines[lane as usize].ready.is_empty() {
            return None;
        }
        let most = if lane == LaneId::Fast { self.config.max_in_flight } else { 1 };
        let allowed = self.lines[lane as usize].most(now, most);
        // Not while the broker wants silence, nor before the fast one is up.
        let spare = if lane == LaneId::Fast && allowed == most { self.spare(now) } else { None };
        if spare.is_none() && self.lines[lane as usize].len() >= allowed {
            return None;
        }
        let way = spare.unwrap_or(lane);
        let token = self.next_token;
        let mut size = 0;
        let mut ids = Vec::new();
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut has_ids = true;
        let (mut retries, mut oldest) = (0, None::<Instant>);
        let mut timeout = self.config.request_timeout;
        while let Some(id) = self.lines[lane as usize].ready.pop_front() {
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            if slot.lane != lane {
                // It changed lanes while it was listed.
                self.lines[slot.lane as usize].ready.push_back(id);
                continue;
            }
            slot.is_listed = false;
            let Some(next) = slot.startable(now, self.identity) else { continue };
            let is_apart = lane == LaneId::Slow && !slot.is_newcomer && !bug("slow_lane_is_shared");
            if size > 0 && (is_apart || size + next > self.config.max_request_size) {
                slot.is_listed = true;
                self.lines[lane as usize].ready.push_front(id);
                break;
            }
            let upcoming = slot.queue.upcoming(now, self.identity);
            let Some(bytes) = slot.queue.start(now, token, self.identity) else { continue };
            match upcoming {
                Some((false, deadline)) => oldest = Some(oldest.map_or(deadline, |oldest| oldest.min(deadline))),
                _ => retries += 1,
            }
            slot.flies = way;
            size += next;
            ids.push(id);
            has_ids &= !slot.name.topic_id.is_zero();
            add(&mut topics, &slot.name, bytes);
            if lane == LaneId::Slow {
                timeout = if bug("slow_waits_long") { timeout } else { timeout.min(slot.patience) };
                if is_apart {
                    break;
                }
            }
        }
        if ids.is_empty() {
            return None;
        }
        for id in &ids {
            self.update(now, *id);
        }
        self.next_token += 1;
        self.requests.push_back((token, Request { lane: way, ids }));
        self.lines[way as usize].push(now, token);
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest { acks: self.config.acks, timeout_ms, topic_data: topics, ..Default::default() };
        Some(Send { lane: way, token, request, has_ids, retries, oldest })
    }

    /// A request is over: its partitions, and how long the broker had it if all before it were answered; whether that was
    /// all the time since it was sent, too.
    fn take_request(&mut self, now: Instant, token: Token) -> Option<(Request, Option<(Duration, bool)>)> {
        let (_, request) = match self.requests.front() {
            Some((first, _)) if *first == token => self.requests.pop_front()?,
            _ => self.requests.remove(self.place_of(token)?)?,
        };
        let took = self.lines[request.lane as usize].remove(now, token);
        Some((request, took))
    }

    fn place_of(&self, token: Token) -> Option<usize> {
        self.requests.binary_search_by_key(&token, |(token, _)| *token).ok()
    }

    /// The connection of a lane can be written to, or is gone. Until it can, its requests are not the broker's to answer.
    pub fn handle_up(&mut self, now: Instant, lane: LaneId, is_up: bool) {
        self.lines[lane as usize].set_up(now, is_up);
    }

    /// Nothing is sent on this lane until then.
    pub fn handle_muted(&mut self, now: Instant, lane: LaneId, until: Instant) {
        self.lines[lane as usize].mute(now, until);
    }

    /// What came of an [`Event::Probe`].
    pub fn handle_probe(&mut self, now: Instant, lane: LaneId, token: Token, is_answered: bool) {
        if !self.has_lanes() {
            return;
        }
        let grace = self.grace();
        self.lines[lane as usize].handle_probe(now, token, is_answered, grace);
    }

    /// Whether overdue partitions are moved at all.
    fn has_lanes(&self) -> bool {
        self.is_idempotent && self.config.acks == -1
    }

    /// The answer to a request. Partitions that it does not mention are tried again; others than those asked about,
    /// and second mentions, are ignored (rule 21).
    pub fn handle_response(&mut self, now: Instant, token: Token, response: &ProduceResponse, random: u64) {
        let Some((Request { lane, ids }, took)) = self.take_request(now, token) else { return };
        if let Some((took, is_whole)) = took.filter(|_| lane != LaneId::Slow) {
            self.learn(now, took);
            if is_whole {
                self.pace.learn(took);
            }
        }
        let took = took.map(|(took, _)| took);
        let has_lanes = self.has_lanes();
        let asked = ids.iter().filter_map(|id| Some((*id, &self.slots.get(id)?.name)));
        for (id, answer) in answers::find(asked, response) {
            let outcome = match &answer {
                None if bug("unmentioned_is_well") => {
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
                    Outcome::Ended(Attempt::refused(answer.error_code, answer.base_offset, reason_of(answer)))
                }
            };
            let Some(slot) = self.slots.get_mut(&id) else { continue };
            let is_its = slot.queue.is_waiting_for(token);
            let is_acknowledged = match &outcome {
                Outcome::Acknowledged(_) => true,
                Outcome::Ended(Attempt::Refused { code, .. }) => code.action(ApiKey::PRODUCE) == Action::Duplicate,
                Outcome::Ended(_) => false,
            };
            // It has waited at the broker, which is pause enough: its followers may be there any moment, or the leader may
            // know its office.
            let mut has_waited =
                is_its && slot.is_newcomer && !is_acknowledged && took.is_some_and(|took| took >= slot.patience);
            let is_revived =
                has_lanes && is_its && is_acknowledged && lane == LaneId::Slow && slot.queue.is_backing_off();
            match &outcome {
                _ if !has_lanes || !is_its => {}
                _ if is_acknowledged && slot.is_newcomer => {
                    (slot.is_newcomer, slot.lane) = (false, LaneId::Fast);
                    self.slow.remove(&id);
                }
                _ if is_acknowledged && lane == LaneId::Slow => {
                    self.speed_up(now, id, took.unwrap_or_default());
                }
                Outcome::Ended(Attempt::Refused { code, .. }) if code.action(ApiKey::PRODUCE) == Action::Retry => {
                    if lane == LaneId::Slow && *code == ErrorCode::REQUEST_TIMED_OUT {
                        has_waited |= took.is_some_and(|took| took >= slot.patience);
                        slot.wait_longer();
                    }
                    self.slow_down(id);
                }
                _ => {}
            }
            self.handle_outcome(now, id, token, outcome, random);
            if has_waited && let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.retry_now();
                self.update(now, id);
            }
            if is_revived {
                self.revive(now);
            }
        }
    }

    /// A request with acks=0 was written to the socket: all that can be known of it.
    pub fn handle_sent(&mut self, now: Instant, token: Token, random: u64) {
        for id in self.take_request(now, token).map(|(request, _)| request.ids).unwrap_or_default() {
            let placed = Placed { base_offset: None, log_append_time: None };
            self.handle_outcome(now, id, token, Outcome::Acknowledged(placed), random);
        }
    }

    pub fn handle_failed(&mut self, now: Instant, token: Token, error: &CallError, random: u64) {
        for id in self.take_request(now, token).map(|(request, _)| request.ids).unwrap_or_default() {
            let outcome = Outcome::Ended(Attempt::Failed(error.clone()));
            self.handle_outcome(now, id, token, outcome, random);
        }
    }

    /// The connection was given up: no open request will be answered.
    pub fn handle_all_failed(&mut self, now: Instant, error: &CallError, random: u64) {
        for token in self.requests.iter().map(|(token, _)| *token).collect::<Vec<_>>() {
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
        let mut earliest =
            [self.timers.first().map(|(at, _)| *at), self.doubt.poll_timeout()].into_iter().flatten().min();
        for lane in LaneId::ALL {
            let line = &self.lines[lane as usize];
            let head = if line.is_waiting() { line.poll_timeout(self.limit(lane)) } else { None };
            earliest = [earliest, head, line.muted_until()].into_iter().flatten().min();
        }
        earliest
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        for lane in LaneId::ALL {
            self.lines[lane as usize].unmute(now);
            if !self.lines[lane as usize].is_waiting() {
                continue;
            }
            let (limit, has_lanes) = (self.limit(lane), self.has_lanes());
            match self.lines[lane as usize].step(now, limit) {
                None => {}
                Some(Step::Ask { probe, is_first }) => {
                    let probe = probe.filter(|_| has_lanes);
                    // A leader that is only slow says so first: asking others for thousands of leaders helps nobody.
                    if probe.is_none() || !is_first {
                        self.events.push_back(Event::Overdue);
                    }
                    self.events.extend(probe.map(|token| Event::Probe { lane, token }));
                }
                Some(Step::Cut) => self.cut(now, lane),
            }
        }
        if self.doubt.step(now) {
            self.events.push_back(Event::Overdue);
        }
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
        let is_acknowledged = matches!(outcome, Outcome::Acknowledged(_));
        if slot.queue.handle_outcome(now, token, outcome, random) {
            self.events.push_back(Event::Refresh);
            self.doubt.lose(now, id);
        } else if is_acknowledged {
            self.doubt.find(id);
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
            if slot.is_listed && !bug("listed_twice") {
                // It may come back, and be listed anew: then its batches would go out two in a request.
                self.lines.iter_mut().for_each(|line| line.ready.retain(|listed| *listed != id));
            }
            self.doubt.find(id);
            self.slow.remove(&id);
            if let Some(Slot { name, queue, .. }) = self.slots.remove(&id) {
                let partition = Box::new(Moving { name, queue, had_leader: true });
                self.events.push_back(Event::Left { id, partition });
            }
            return;
        }
        if let Some(spent) = slot.queue.needs_newer_than().filter(|_| self.is_idempotent)
            && self.identity == Some(spent)
        {
            self.events.push_back(Event::NeedsNewerThan(spent));
        }
        if slot.queue.is_empty() {
            self.doubt.find(id);
        }
        let mut timer = slot.queue.poll_timeout(now);
        let is_waiting = slot.open_since.is_some() && bug("forgotten_while_lingering");
        if !slot.is_listed && slot.startable(now, self.identity).is_some() && !is_waiting {
            slot.is_listed = true;
            let ready = &mut self.lines[slot.lane as usize].ready;
            match slot.is_newcomer {
                // They are soon gone; what is slow for longer may have the lane for half a second each.
                true => ready.push_front(id),
                false => ready.push_back(id),
            }
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

impl<R: Receipts> Slot<R> {
    /// The size of what it would send now, if it may: not while it leaves, nor on one lane while it waits on the other.
    fn startable(&self, now: Instant, identity: Option<Identity>) -> Option<usize> {
        if self.is_leaving || self.flies != self.lane && self.queue.is_in_flight() && !bug("on_both_lanes") {
            return None;
        }
        self.queue.startable(now, identity)
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

#[cfg(test)]
mod tests;
