//! What to ask one leader for, and what to make of its answers.
//!
//! ```text
//!               ┌──── waiting lane:   whatever may be fetched; waits at the broker until there is data
//!   partitions ─┤
//!               └──── immediate lane: what became fetchable meanwhile (seek, new assignment, returned credit)
//! ```
//! A partition is in one request at most. While the waiting lane is out, whoever else can be fetched goes out on the
//! other one: at once where data is likely, and with a short wait where the last fetch was empty, until the waiting
//! lane is back and takes it in. So no fetch that waits for idle partitions delays anybody.
//!
//! Each lane has a session at the broker ([`fetch_session`](super::fetch_session)): a request names only what changed, and
//! a partition that an answer does not mention has nothing new.
//!
//! A partition belongs to one leader at a time, like a token: [`Fetch::add`] brings it with the offset to go on from,
//! and [`Event::Released`] takes it home, with the offset reached and the reason. What comes for a partition after it
//! left, was sought or came back is dropped by its stamp; nobody else's data is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::aborted::Aborted;
use super::backoff::Backoff;
use super::connection::Token;
use super::credit::{Credit, PartitionId};
use super::fetch_session::{FetchSession, Opening, Wanted};
use crate::record::{self, Batches, RawBatch, RecordError};
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use crate::wire::message::{Records, Uuid};

#[derive(Clone, Debug)]
pub struct Config {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Of one answer.
    pub max_bytes: usize,
    /// Of one partition in one answer.
    pub partition_max_bytes: usize,
    pub check_crcs: bool,
    /// Only what was committed, and what was never part of a transaction.
    pub read_committed: bool,
    /// Where the client is, so that a replica near to it may be named (KIP-392).
    pub rack: Arc<str>,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

/// A partition on its way to a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub id: PartitionId,
    /// Changes with every seek; handed back with everything that concerns the partition.
    pub generation: u64,
    pub topic: Arc<str>,
    /// Zero when the broker is too old to have one.
    pub topic_id: Uuid,
    pub index: i32,
    /// Where to go on.
    pub offset: i64,
    pub leader_epoch: i32,
    /// Stays, and is not asked for.
    pub is_paused: bool,
}

/// One of a leader's two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    Waiting,
    Immediate,
}

/// A request to send.
#[derive(Debug)]
pub struct Plan {
    pub lane: LaneKind,
    pub token: Token,
    pub request: FetchRequest,
    /// Topic ids are used only if every topic has one.
    pub max_version: i16,
    /// How long the broker may keep it.
    pub max_wait: Duration,
}

/// Whole batches that continue where the partition's last ones ended, their checksums verified; without those of
/// aborted transactions, if only what was committed is read.
#[derive(Debug)]
pub struct Fetched {
    pub batches: VecDeque<RawBatch>,
    /// The first record that was asked for: the first batch may begin below.
    pub from: i64,
    /// Behind all of it, also behind what is not to be seen at its end.
    pub next: i64,
    pub bytes: usize,
}

/// Where the log begins and ends, as the answering broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub log_start: i64,
    /// Behind the last record that may be read, at the isolation that was asked for.
    pub end: i64,
}

/// What the last batch says that was fetched of a partition; -1 while there is none, or it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the leader that appended it.
    pub epoch: i32,
    pub timestamp: i64,
}

impl Seen {
    pub const NOTHING: Self = Self { epoch: -1, timestamp: -1 };
}

/// Why a partition came home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// [`Fetch::recall`] asked.
    Recalled,
    /// This broker does not lead it, or does not know it; so metadata is stale.
    Moved(ErrorCode),
    OutOfRange,
    /// Another replica is nearer (KIP-392).
    Preferred(i32),
    /// Read twice, and twice no record batch.
    Unreadable {
        /// Behind the batch, if its header can be believed.
        end: Option<i64>,
        error: RecordError,
    },
    /// Nothing of what was sent reaches beyond the offset.
    NoProgress,
    /// An answer that no waiting mends by itself.
    Refused(ErrorCode),
}

#[derive(Debug)]
pub enum Event {
    /// A fetch of this partition is over: `reserved` bytes of credit are free, what was fetched takes its own.
    Answered {
        id: PartitionId,
        generation: u64,
        reserved: usize,
        fetched: Option<Fetched>,
        /// Unless it says nothing of them.
        marks: Option<Marks>,
    },
    /// The partition is no longer here. `next` is where to go on.
    Released { id: PartitionId, generation: u64, next: i64, seen: Seen, why: Why },
    /// Something suggests that the picture of the cluster is old.
    Stale,
    /// The leader refuses the request as a whole, for a reason that no waiting mends by itself.
    Refused(ErrorCode),
}

#[derive(Debug)]
struct Partition {
    route: Route,
    /// When it came, in counts: an answer to what was asked before is not for it.
    stamp: u64,
    in_flight: bool,
    /// There may be data: not known to be at the end of the log.
    fresh: bool,
    /// The last answer brought nothing although the log goes on: the broker had no room for its first batch. Once is
    /// normal, and the partition comes first next time; twice in a row is as good as an end.
    left_out: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// When it was last given data, in counts: whoever waits longest comes first.
    served: u64,
    /// What was no record batch here will be reported when it is none again.
    suspect: Option<i64>,
    /// A batch in front of it is larger than a fetch was.
    needs: usize,
    /// Answers in a row that had bytes and led nowhere.
    stalls: u32,
    /// The largest batch of the last answer that had any.
    largest: usize,
    seen: Seen,
}

#[derive(Debug)]
struct Asked {
    id: PartitionId,
    generation: u64,
    stamp: u64,
    reserved: usize,
    answered: bool,
}

#[derive(Debug)]
struct Flight {
    token: Token,
    sent: Instant,
    max_wait: Duration,
    /// Ascending by id.
    asked: Vec<Asked>,
}

#[derive(Debug, Default)]
struct Topic {
    id: Uuid,
    partitions: BTreeMap<i32, PartitionId>,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Fetch {
    config: Config,
    partitions: BTreeMap<PartitionId, Partition>,
    topics: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<Uuid, Arc<str>>,
    flights: [Option<Flight>; 2],
    sessions: [FetchSession; 2],
    events: VecDeque<Event>,
    next_token: Token,
    next_stamp: u64,
    served: u64,
    starved: bool,
    /// Of the leader as a whole: it does not answer, or answers what helps nobody.
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// A partition that was at its end is asked for so long at a time while the waiting lane is out without it.
const PROBE: Duration = Duration::from_millis(25);
/// Answers in a row that had bytes and led nowhere, before that is an error.
const MAX_STALLS: u32 = 3;
/// The last version that names topics.
const BY_NAME: i16 = 12;

impl Fetch {
    pub fn new(config: Config) -> Self {
        Self {
            // An answer too early is followed by a pause even when retry_backoff is zero.
            backoff: Backoff::new(config.retry_backoff.max(Duration::from_millis(1)), config.retry_backoff_max),
            config,
            partitions: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            flights: [None, None],
            sessions: Default::default(),
            events: VecDeque::new(),
            next_token: 0,
            next_stamp: 0,
            served: 0,
            starved: false,
            not_before: None,
        }
    }

    /// Fetches a partition from now on, or, if it is here already, from elsewhere: after a seek.
    pub fn add(&mut self, route: Route) {
        self.disown(route.id);
        let topic = self.topics.entry(Arc::clone(&route.topic)).or_default();
        topic.partitions.insert(route.index, route.id);
        if topic.id != route.topic_id {
            self.names.remove(&topic.id);
            topic.id = route.topic_id;
        }
        if !route.topic_id.is_zero() {
            self.names.insert(route.topic_id, Arc::clone(&route.topic));
        }
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        self.served += 1;
        let partition = Partition {
            stamp,
            in_flight: false,
            fresh: true,
            left_out: false,
            not_before: None,
            backoff: Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max),
            served: self.served,
            suspect: None,
            needs: 0,
            stalls: 0,
            largest: 0,
            seen: Seen::NOTHING,
            route,
        };
        self.partitions.insert(partition.route.id, partition);
    }

    /// A paused partition stays, with what is under way for it, and is not asked for any more.
    pub fn pause(&mut self, id: PartitionId, is_paused: bool) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.route.is_paused = is_paused;
            partition.fresh |= !is_paused;
        }
    }

    /// Sends the partition home. One that is not here, or was sought since, left on its own.
    pub fn recall(&mut self, id: PartitionId, generation: u64) {
        if self.partitions.get(&id).is_some_and(|partition| partition.route.generation == generation) {
            self.release(id, Why::Recalled);
        }
    }

    /// The next request, if a lane is free and something can be fetched.
    pub fn poll_fetch(&mut self, now: Instant, credit: &mut Credit) -> Option<Plan> {
        self.starved = false;
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let (lane, is_late) = match &self.flights {
            [None, _] => (LaneKind::Waiting, false),
            [Some(waiting), None] => {
                // It comes back soon, and takes in those that are at their ends.
                let back = waiting.sent + waiting.max_wait;
                (LaneKind::Immediate, back.saturating_duration_since(now) <= PROBE)
            }
            _ => return None,
        };
        let mut chosen = Vec::new();
        for (&id, partition) in &mut self.partitions {
            let is_out =
                partition.in_flight || partition.route.is_paused || partition.not_before.is_some_and(|at| now < at);
            if is_out || (lane == LaneKind::Immediate && is_late && !partition.fresh) {
                continue;
            }
            let mut wanted = partition.wants(self.config.partition_max_bytes);
            if !partition.fresh {
                // Always the same, so that a session need not hear of it again.
                wanted = wanted.min(credit.share());
            }
            match credit.offer(id, wanted) {
                Some(bytes) => chosen.push((partition.served, id, bytes)),
                None => {
                    self.starved = true;
                    partition.fresh = true;
                }
            }
        }
        if chosen.is_empty() {
            return None;
        }
        // A broker fills the answer in the order of the request.
        chosen.sort_unstable();
        Some(self.plan(now, lane, &chosen, credit))
    }

    /// Whether the last `poll_fetch` left out a partition for lack of credit alone.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    pub fn handle_answer(&mut self, now: Instant, token: Token, response: FetchResponse, random: u64) {
        let Some((lane, mut flight)) = self.land(token) else { return };
        if !response.error_code.is_ok() {
            let may_help = self.sessions[lane as usize].handle_error(now, response.error_code);
            match response.error_code.action(ApiKey::FETCH) {
                // The ids of topics that the session spoke of are not the broker's.
                Action::ResetSession if response.error_code == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => {
                    self.events.push_back(Event::Stale);
                }
                Action::Retry | Action::ResetSession => {}
                Action::Refresh => self.events.push_back(Event::Stale),
                _ => self.events.push_back(Event::Refused(response.error_code)),
            }
            if !may_help {
                self.back_off(now, random);
            }
            return self.settle(flight);
        }
        let is_incremental = self.sessions[lane as usize].handle_answer(now, response.session_id);
        let mut is_useful = false;
        for topic in &response.responses {
            let name = if topic.topic_id.is_zero() { Some(&topic.topic) } else { self.names.get(&topic.topic_id) };
            let Some(name) = name.cloned() else { continue };
            for data in &topic.partitions {
                // Unasked, or twice: the first one counts.
                let known = self.topics.get(&name).and_then(|topic| topic.partitions.get(&data.partition_index));
                let Some(&id) = known else { continue };
                let Ok(at) = flight.asked.binary_search_by_key(&id, |asked| asked.id) else { continue };
                let Some(asked) = flight.asked.get_mut(at).filter(|asked| !asked.answered) else { continue };
                asked.answered = true;
                let (generation, stamp, reserved) = (asked.generation, asked.stamp, asked.reserved);
                let marks = self.marks(&data);
                let (fetched, why) = self.handle_partition(now, id, stamp, data, random);
                is_useful |= fetched.is_some() || matches!(why, Some(Why::Preferred(_)));
                self.events.push_back(Event::Answered { id, generation, reserved, fetched, marks });
                if let Some(why) = why {
                    self.release(id, why);
                }
            }
        }
        // A broker that answers too early and with nothing is asked no faster than a failing one.
        let is_patient = flight.max_wait.is_zero() && lane == LaneKind::Immediate;
        if is_useful {
            self.backoff.reset();
        } else if !is_patient && now.saturating_duration_since(flight.sent) <= flight.max_wait / 2 {
            self.back_off(now, random);
        }
        for asked in flight.asked.iter().filter(|asked| !asked.answered) {
            if let Some(partition) = self.partitions.get_mut(&asked.id).filter(|p| p.stamp == asked.stamp) {
                if is_incremental {
                    partition.at_end();
                } else {
                    partition.not_before = Some(now + partition.backoff.next_delay(random));
                }
            }
        }
        self.settle(flight);
    }

    /// The request was lost, or could not be sent. Its partitions stay, and are asked for again.
    pub fn handle_failed(&mut self, now: Instant, token: Token, random: u64) {
        let Some((lane, flight)) = self.land(token) else { return };
        self.sessions[lane as usize].reset();
        self.back_off(now, random);
        self.events.push_back(Event::Stale);
        self.settle(flight);
    }

    /// Both connections are gone with all that was under way.
    pub fn handle_lanes_lost(&mut self) {
        for flight in std::mem::take(&mut self.flights).into_iter().flatten() {
            self.settle(flight);
        }
        self.sessions = Default::default();
        self.not_before = None;
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `poll_fetch` may have something that it has not now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.flights.iter().all(Option::is_some) || self.partitions.is_empty() {
            return None;
        }
        let waiting = self.partitions.values().filter(|partition| !partition.in_flight);
        self.not_before.into_iter().chain(waiting.filter_map(|partition| partition.not_before)).min()
    }

    /// Partitions whose pauses are over may be fetched again.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.not_before = self.not_before.filter(|at| now < *at);
        for partition in self.partitions.values_mut() {
            partition.not_before = partition.not_before.filter(|at| now < *at);
        }
    }

    fn plan(
        &mut self,
        now: Instant,
        lane: LaneKind,
        chosen: &[(u64, PartitionId, usize)],
        credit: &mut Credit,
    ) -> Plan {
        let mut wanted = Vec::with_capacity(chosen.len());
        let mut asked = Vec::with_capacity(chosen.len());
        let (mut total, mut is_fresh, mut max_version) = (0usize, false, FETCH_LAST);
        for &(_, id, bytes) in chosen {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let route = &partition.route;
            partition.in_flight = true;
            credit.take(id, bytes);
            total = total.saturating_add(bytes);
            is_fresh |= partition.fresh;
            if route.topic_id.is_zero() {
                max_version = BY_NAME;
            }
            wanted.push((id, route.wanted(bytes)));
            let (generation, stamp) = (route.generation, partition.stamp);
            asked.push(Asked { id, generation, stamp, reserved: bytes, answered: false });
        }
        asked.sort_unstable_by_key(|asked| asked.id);
        let opening = self.sessions[lane as usize].open(now, max_version == BY_NAME, &wanted);
        let Opening { session_id, session_epoch, named, forgotten } = opening;
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut places: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for ((_, wanted), _) in wanted.into_iter().zip(named).filter(|(_, named)| *named) {
            let Wanted { topic, topic_id, index, offset, leader_epoch, max_bytes } = wanted;
            let place = *places.entry(Arc::clone(&topic)).or_insert_with(|| {
                topics.push(FetchTopic { topic, topic_id, ..Default::default() });
                topics.len() - 1
            });
            topics[place].partitions.push(FetchPartition {
                partition: index,
                current_leader_epoch: leader_epoch,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            });
        }
        let max_wait = match lane {
            LaneKind::Waiting => self.config.max_wait,
            LaneKind::Immediate if is_fresh => Duration::ZERO,
            LaneKind::Immediate => PROBE.min(self.config.max_wait),
        };
        let token = self.next_token;
        self.next_token += 1;
        self.flights[lane as usize] = Some(Flight { token, sent: now, max_wait, asked });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.min_bytes,
            isolation_level: i8::from(self.config.read_committed),
            rack_id: Arc::clone(&self.config.rack),
            max_bytes: clamp(total.min(self.config.max_bytes)),
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data: forgotten,
            ..Default::default()
        };
        Plan { lane, token, request, max_version, max_wait }
    }

    /// Takes a flight off its lane.
    fn land(&mut self, token: Token) -> Option<(LaneKind, Flight)> {
        let is_it = |flight: &Option<Flight>| flight.as_ref().is_some_and(|flight| flight.token == token);
        let at = self.flights.iter().position(is_it)?;
        let flight = self.flights[at].take()?;
        for asked in &flight.asked {
            if let Some(partition) = self.partitions.get_mut(&asked.id).filter(|p| p.stamp == asked.stamp) {
                partition.in_flight = false;
            }
        }
        Some((if at == 0 { LaneKind::Waiting } else { LaneKind::Immediate }, flight))
    }

    /// Returns the credit of whatever had no answer.
    fn settle(&mut self, flight: Flight) {
        for Asked { id, generation, stamp, reserved, answered } in flight.asked {
            if let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.stamp == stamp) {
                partition.in_flight = false;
            }
            if !answered {
                self.events.push_back(Event::Answered { id, generation, reserved, fetched: None, marks: None });
            }
        }
    }

    fn back_off(&mut self, now: Instant, random: u64) {
        self.not_before = Some(now + self.backoff.next_delay(random));
    }

    /// What is under way for the partition will not be its own any more, so it needs no credit: whoever seeks must not
    /// wait for room that stale data holds.
    fn disown(&mut self, id: PartitionId) {
        for flight in self.flights.iter_mut().flatten() {
            let Ok(at) = flight.asked.binary_search_by_key(&id, |asked| asked.id) else { continue };
            let asked = &mut flight.asked[at];
            if !std::mem::replace(&mut asked.answered, true) {
                let (generation, reserved) = (asked.generation, asked.reserved);
                self.events.push_back(Event::Answered { id, generation, reserved, fetched: None, marks: None });
            }
        }
    }

    fn release(&mut self, id: PartitionId, why: Why) {
        self.disown(id);
        let Some(Partition { route, seen, .. }) = self.partitions.remove(&id) else { return };
        if let Some(topic) = self.topics.get_mut(&route.topic) {
            if topic.partitions.get(&route.index) == Some(&id) {
                topic.partitions.remove(&route.index);
            }
            if topic.partitions.is_empty() {
                self.names.remove(&topic.id);
                self.topics.remove(&route.topic);
            }
        }
        if matches!(why, Why::Moved(_)) {
            self.events.push_back(Event::Stale);
        }
        let Route { generation, offset: next, .. } = route;
        self.events.push_back(Event::Released { id, generation, next, seen, why });
    }

    fn marks(&self, data: &PartitionData) -> Option<Marks> {
        let marks = Marks { log_start: data.log_start_offset, end: end_of(data, &self.config) };
        (data.error_code.is_ok() && marks.end >= 0).then_some(marks)
    }

    fn handle_partition(
        &mut self,
        now: Instant,
        id: PartitionId,
        stamp: u64,
        data: PartitionData,
        random: u64,
    ) -> (Option<Fetched>, Option<Why>) {
        // It went away, or comes from elsewhere now: this is not its data any more.
        let Some(partition) = self.partitions.get_mut(&id).filter(|partition| partition.stamp == stamp) else {
            return (None, None);
        };
        let code = data.error_code;
        let why = match code.action(ApiKey::FETCH) {
            // It has sent nothing, then.
            Action::Done if data.preferred_read_replica >= 0 => Why::Preferred(data.preferred_read_replica),
            Action::Done => {
                self.served += 1;
                return partition.handle_records(now, data, &self.config, self.served, random);
            }
            Action::ResetOffset => Why::OutOfRange,
            Action::Refresh | Action::ResetSession => Why::Moved(code),
            // The broker's own copy is damaged: once more, then say so.
            Action::Retry if code == ErrorCode::CORRUPT_MESSAGE && partition.backoff.failures() > 0 => {
                Why::Refused(code)
            }
            Action::Retry => {
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                return (None, None);
            }
            _ => Why::Refused(code),
        };
        (None, Some(why))
    }
}

const FETCH_LAST: i16 = <FetchRequest as crate::wire::message::Request>::VERSIONS.last;

fn clamp(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

impl Route {
    fn wanted(&self, bytes: usize) -> Wanted {
        Wanted {
            topic: Arc::clone(&self.topic),
            topic_id: self.topic_id,
            index: self.index,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            max_bytes: clamp(bytes),
        }
    }
}

impl Partition {
    /// There is nothing more for now.
    fn at_end(&mut self) {
        self.fresh = false;
        self.left_out = false;
        self.backoff.reset();
    }

    /// How much to ask for: as many batches as go into the limit, by the size of the last ones. The broker cuts where the
    /// limit is, and a batch that it cuts comes twice.
    fn wants(&self, limit: usize) -> usize {
        let slack = self.largest / 64;
        match limit.checked_div(self.largest) {
            _ if self.needs > 0 => limit.max(self.needs),
            None | Some(0) => limit,
            Some(count) => (count * self.largest).saturating_add(slack).min(limit),
        }
    }

    /// Takes the whole batches, as far as they are sound and lie ahead.
    fn handle_records(
        &mut self,
        now: Instant,
        data: PartitionData,
        config: &Config,
        served: u64,
        random: u64,
    ) -> (Option<Fetched>, Option<Why>) {
        let end = end_of(&data, config);
        let Records(records) = data.records.unwrap_or_default();
        if records.is_empty() {
            // A batch larger than what the answer had left for it is not sent at all, unless it is the first.
            let was_left_out = self.left_out;
            self.at_end();
            self.left_out = end > self.route.offset;
            self.fresh = self.left_out && !was_left_out;
            return (None, None);
        }
        self.left_out = false;
        let from = self.route.offset;
        // Without the isolation the list means nothing, whatever a broker sends (rule 39).
        let aborted = data.aborted_transactions.filter(|_| config.read_committed).unwrap_or_default();
        let Walk { fetched, next, fault, needs, largest, seen } =
            walk(records, from, config.check_crcs, Aborted::new(aborted));
        self.route.offset = next;
        if next > from {
            (self.largest, self.seen) = (largest, seen);
        }
        self.fresh = true;
        if next > from {
            self.served = served;
            self.needs = 0;
            self.stalls = 0;
            self.backoff.reset();
        }
        let fetched = (next > from).then_some(fetched);
        match fault {
            // The same place for the second time: it is not the way here that damaged it.
            Some((error, end)) if self.suspect == Some(next) || matches!(error, RecordError::UnsupportedMagic(_)) => {
                return (fetched, Some(Why::Unreadable { end, error }));
            }
            Some(_) => self.suspect = Some(next),
            None if next == from => {
                self.needs = needs.unwrap_or(0);
                self.stalls += 1;
                if self.stalls >= MAX_STALLS {
                    return (None, Some(Why::NoProgress));
                }
                self.not_before = Some(now + self.backoff.next_delay(random));
            }
            None => self.suspect = None,
        }
        (fetched, None)
    }
}

/// Behind the last record that may be read. Before the last stable offset was known to them, brokers sent -1.
fn end_of(data: &PartitionData, config: &Config) -> i64 {
    if config.read_committed && data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark }
}

struct Walk {
    fetched: Fetched,
    next: i64,
    /// What is no batch, and the offset behind it as far as its header can be believed.
    fault: Option<(RecordError, Option<i64>)>,
    needs: Option<usize>,
    largest: usize,
    seen: Seen,
}

/// The batches from `from` on, until the bytes end or are none.
fn walk(records: Bytes, from: i64, check_crcs: bool, mut aborted: Aborted) -> Walk {
    let mut fetched = Fetched { batches: VecDeque::new(), from, next: from, bytes: 0 };
    let (mut next, mut fault, mut walked, mut largest, mut seen) = (from, None, 0, 0, Seen::NOTHING);
    let mut batches = Batches::new(records.clone(), check_crcs);
    for batch in &mut batches {
        match batch {
            Ok(batch) => {
                let size = batch.bytes().len();
                walked += size;
                largest = largest.max(size);
                // Whatever lies below was seen before, but a marker there still ends its transaction.
                let is_hidden = aborted.hides(batch.header());
                if batch.header().next_offset() > next {
                    next = batch.header().next_offset();
                    let header = batch.header();
                    seen = Seen { epoch: header.partition_leader_epoch, timestamp: header.max_timestamp };
                    if !is_hidden {
                        fetched.bytes += size;
                        fetched.batches.push_back(batch);
                    }
                }
            }
            Err(error) => {
                let end = records.get(walked..).and_then(record::next_offset);
                fault = Some((error, end.filter(|end| *end > next)));
            }
        }
    }
    fetched.next = next;
    Walk { fetched, next, fault, needs: batches.needs(), largest, seen }
}

#[cfg(test)]
mod tests;
