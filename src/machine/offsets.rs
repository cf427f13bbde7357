//! Where each partition of a consumer stands: how its position is found, and who fetches from there.
//!
//! ```text
//!             commits asked        log's ends asked         a leader is known
//!   Committed ────────────▶ Listing ───────────────▶ Home ───────────────────▶ Out(leader)
//!       │  found                ▲                     ▲ ▲ released, recalled      │
//!       └───────────────────────┼─────────────────────┘ └─────────────────────────┤
//!                               └──────── out of range, by policy ◀───────────────┤
//!                                                                                 ▼
//!                      a seek leads here from everywhere ◀─────────────────── Halted
//! ```
//! A partition is at home here or out with one leader, never both, so what was fetched can be neither lost nor doubled
//! when leaders move. Errors of one partition hold back that one, with a back-off of its own; each is reported once
//! until things went well again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::credit::PartitionId;
use super::fetch::{Route, Why};
use super::metadata::Cluster;
use crate::record::RecordError;
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::list_offsets::{EARLIEST, LATEST};
use crate::wire::message::Uuid;

/// Where to begin when there is no position, or none that the log still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
    None,
}

/// How a partition begins: at its assignment, or by a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What the group committed, else by policy.
    Committed,
    /// By policy.
    Reset,
    At(i64),
    Earliest,
    Latest,
    /// Nowhere until the next seek: the caller met what it cannot read.
    Halted,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub reset: Reset,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// How long a position may be looked for, or a leader missing, before that is reported.
    pub patience: Duration,
    /// How long a topic or partition may be unknown before that is reported: brokers learn of new ones one by one.
    pub unknown_patience: Duration,
}

/// What the caller should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    UnknownTopic(ErrorCode),
    UnknownPartition {
        count: usize,
    },
    /// The topic is refused as such: its name, or who asks.
    Topic(ErrorCode),
    NoLeader,
    /// The offset lies outside the log, and the policy is `None`.
    OutOfRange(i64),
    /// Nothing was committed, and the policy is `None`.
    NoPosition,
    Unreadable {
        offset: i64,
        /// Behind the batch, if its header can be believed.
        end: Option<i64>,
        error: RecordError,
    },
    NoProgress {
        offset: i64,
    },
    Refused {
        api: ApiKey,
        code: ErrorCode,
    },
    /// The position could not be found in time.
    Unresolved(ErrorCode),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Give the partition to this leader.
    Route {
        leader: i32,
        route: Route,
    },
    /// The leader stays, its epoch is another.
    Update {
        leader: i32,
        id: PartitionId,
        leader_epoch: i32,
    },
    /// Ask for it back.
    Recall {
        leader: i32,
        id: PartitionId,
        generation: u64,
    },
    /// Ask the group's coordinator.
    AskCommitted(Vec<(PartitionId, u64)>),
    /// Ask a leader for an end of the log.
    AskOffsets {
        leader: i32,
        asked: Vec<AskedOffset>,
    },
    /// The position is known.
    Position {
        id: PartitionId,
        generation: u64,
        offset: i64,
    },
    Report {
        id: PartitionId,
        generation: u64,
        problem: Problem,
    },
    /// The picture of the cluster is old.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedOffset {
    pub id: PartitionId,
    pub generation: u64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Committed { is_asked: bool },
    Listing { timestamp: i64, is_asked: bool },
    Home { offset: i64 },
    Out { leader: i32, offset: i64, since: Instant },
    Halted,
}

#[derive(Debug)]
struct Partition {
    topic: Arc<str>,
    index: i32,
    generation: u64,
    state: State,
    /// Asked back, and not home yet.
    is_recalled: bool,
    topic_id: Uuid,
    /// Of the last leader; never goes back while the topic is the same.
    leader_epoch: i32,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// What keeps it from being out with a leader that works, and since when.
    trouble: Option<(Discriminant<Problem>, Instant)>,
    last_code: ErrorCode,
    reported: Option<Problem>,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Offsets {
    config: Config,
    cluster: Arc<Cluster>,
    partitions: BTreeMap<PartitionId, Partition>,
    /// Those that are neither out nor halted.
    at_home: BTreeSet<PartitionId>,
    outputs: VecDeque<Output>,
}

impl Offsets {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            cluster: Arc::default(),
            partitions: BTreeMap::new(),
            at_home: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    pub fn assign(&mut self, id: PartitionId, topic: Arc<str>, index: i32, generation: u64, start: Start) {
        let partition = Partition {
            topic,
            index,
            generation,
            state: State::Halted,
            is_recalled: false,
            topic_id: Uuid::ZERO,
            leader_epoch: -1,
            backoff: Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max),
            not_before: None,
            trouble: None,
            last_code: ErrorCode::NONE,
            reported: None,
        };
        self.partitions.insert(id, partition);
        self.start(id, start);
    }

    pub fn unassign(&mut self, id: PartitionId) {
        self.at_home.remove(&id);
        if let Some(Partition { state: State::Out { leader, .. }, generation, .. }) = self.partitions.remove(&id) {
            self.outputs.push_back(Output::Recall { leader, id, generation });
        }
    }

    /// `generation` is the new one: what comes in under older ones is no news any more.
    pub fn seek(&mut self, id: PartitionId, generation: u64, start: Start) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if generation <= partition.generation {
            return;
        }
        let old = std::mem::replace(&mut partition.generation, generation);
        let was_recalled = std::mem::take(&mut partition.is_recalled);
        partition.not_before = None;
        partition.went_well();
        if let State::Out { leader, since, .. } = partition.state {
            if let (Start::At(offset), false) = (start, was_recalled) {
                // The leader goes on from there, without a way home and back.
                partition.state = State::Out { leader, offset, since };
                let route = partition.route(id, offset);
                return self.outputs.push_back(Output::Route { leader, route });
            }
            if !was_recalled {
                self.outputs.push_back(Output::Recall { leader, id, generation: old });
            }
        }
        self.start(id, start);
    }

    /// Leaders and epochs as they are known now.
    pub fn handle_cluster(&mut self, cluster: Arc<Cluster>) {
        self.cluster = cluster;
        for (&id, partition) in &mut self.partitions {
            let State::Out { leader, .. } = partition.state else { continue };
            let Some(topic) = self.cluster.topics.get(&partition.topic) else { continue };
            let Some((broker, epoch)) = self.cluster.leader(&partition.topic, partition.index) else { continue };
            if partition.is_recalled {
                continue;
            }
            if broker.id != leader || (!topic.id.is_zero() && topic.id != partition.topic_id) {
                partition.is_recalled = true;
                self.outputs.push_back(Output::Recall { leader, id, generation: partition.generation });
            } else if epoch > partition.leader_epoch {
                partition.leader_epoch = epoch;
                self.outputs.push_back(Output::Update { leader, id, leader_epoch: epoch });
            }
        }
    }

    /// A leader sent the partition home.
    pub fn handle_released(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        next: i64,
        why: Why,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let State::Out { offset, since, .. } = partition.state else { return };
        if partition.generation != generation {
            return;
        }
        partition.is_recalled = false;
        partition.state = State::Home { offset: next };
        self.at_home.insert(id);
        if next > offset || now.saturating_duration_since(since) > self.config.unknown_patience {
            // It went well for a while.
            partition.went_well();
        }
        let problem = match why {
            Why::Recalled => return,
            Why::Moved(code) => {
                partition.last_code = code;
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                return;
            }
            Why::OutOfRange => {
                // At once the first time: this is how a position is found that the log has lost.
                if partition.backoff.failures() > 0 {
                    partition.not_before = Some(now + partition.backoff.clone().next_delay(random));
                }
                partition.backoff.next_delay(random);
                return match self.config.reset {
                    Reset::None => self.halt(id, Problem::OutOfRange(next)),
                    Reset::Earliest => self.start(id, Start::Earliest),
                    Reset::Latest => self.start(id, Start::Latest),
                };
            }
            Why::Unreadable { end, error } => {
                return self.halt(id, Problem::Unreadable { offset: next, end, error });
            }
            Why::NoProgress => Problem::NoProgress { offset: next },
            Why::Refused(code) => Problem::Refused { api: ApiKey::FETCH, code },
        };
        partition.not_before = Some(now + partition.backoff.next_delay(random));
        self.report(id, problem);
    }

    /// What the group's coordinator said: an offset, or that nothing is committed. `Err`: it could not be asked, which
    /// is reported by whoever asked.
    pub fn handle_committed(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        answer: Result<Option<i64>, ()>,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.generation == generation) else { return };
        let State::Committed { is_asked } = &mut partition.state else { return };
        *is_asked = false;
        match answer {
            Ok(Some(offset)) => {
                partition.backoff.reset();
                self.found(id, offset);
            }
            Ok(None) => {
                partition.backoff.reset();
                self.start(id, Start::Reset);
            }
            Err(()) => partition.not_before = Some(now + partition.backoff.next_delay(random)),
        }
    }

    /// What a leader said of an end of the log; `Err(NONE)`: it did not answer.
    pub fn handle_offset(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        answer: Result<i64, ErrorCode>,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.generation == generation) else { return };
        let State::Listing { is_asked, .. } = &mut partition.state else { return };
        *is_asked = false;
        match answer {
            Ok(offset) if offset >= 0 => self.found(id, offset),
            Ok(_) | Err(_) => {
                // An end of a log is never negative (rule 47).
                let code = answer.err().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
                partition.last_code = code;
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                match code.action(ApiKey::LIST_OFFSETS) {
                    Action::Fail | Action::Fatal => {
                        self.report(id, Problem::Refused { api: ApiKey::LIST_OFFSETS, code });
                    }
                    Action::Retry => {}
                    _ => self.outputs.push_back(Output::Stale),
                }
            }
        }
    }

    /// Whether a partition is out with this leader.
    pub fn is_used(&self, node: i32) -> bool {
        let is_there = |partition: &Partition| matches!(partition.state, State::Out { leader, .. } if leader == node);
        self.partitions.values().any(is_there)
    }

    /// Drains what is to be done.
    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.outputs.is_empty() {
            self.advance(now);
        }
        self.outputs.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let times = self.at_home.iter().filter_map(|id| {
            let partition = self.partitions.get(id)?;
            let patience = match (partition.trouble, self.trouble(partition)) {
                (Some((_, since)), Some((_, patience))) if partition.reported.is_none() => Some(since + patience),
                _ => None,
            };
            partition.not_before.into_iter().chain(patience).min()
        });
        times.min()
    }

    /// A spurious one does nothing; what is due is found by `poll_output`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in &self.at_home {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.not_before = partition.not_before.filter(|at| now < *at);
            }
        }
    }

    fn start(&mut self, id: PartitionId, start: Start) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let listing = |timestamp| State::Listing { timestamp, is_asked: false };
        partition.state = match (start, self.config.reset) {
            (Start::Committed, _) => State::Committed { is_asked: false },
            (Start::At(offset), _) => State::Home { offset },
            (Start::Earliest, _) | (Start::Reset, Reset::Earliest) => listing(EARLIEST),
            (Start::Latest, _) | (Start::Reset, Reset::Latest) => listing(LATEST),
            (Start::Reset, Reset::None) => return self.halt(id, Problem::NoPosition),
            (Start::Halted, _) => State::Halted,
        };
        match partition.state {
            State::Halted => self.at_home.remove(&id),
            _ => self.at_home.insert(id),
        };
    }

    fn found(&mut self, id: PartitionId, offset: i64) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.state = State::Home { offset };
        partition.not_before = None;
        partition.trouble = None;
        partition.reported = None;
        self.outputs.push_back(Output::Position { id, generation: partition.generation, offset });
    }

    fn halt(&mut self, id: PartitionId, problem: Problem) {
        self.at_home.remove(&id);
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.state = State::Halted;
            partition.reported = None;
            self.report(id, problem);
        }
    }

    /// Once, until something else is wrong or nothing was for a while.
    fn report(&mut self, id: PartitionId, problem: Problem) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let is_known = partition.reported.as_ref() == Some(&problem);
        if !is_known {
            partition.reported = Some(problem.clone());
            self.outputs.push_back(Output::Report { id, generation: partition.generation, problem });
        }
    }

    /// Takes everybody at home one step further, as far as that is possible now.
    fn advance(&mut self, now: Instant) {
        let mut committed = Vec::new();
        let mut listings: BTreeMap<i32, Vec<AskedOffset>> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut problems = Vec::new();
        for &id in &self.at_home {
            let Some(partition) = self.partitions.get(&id) else { continue };
            let trouble = self.trouble(partition);
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            // Another trouble is given its time anew.
            let kind = trouble.as_ref().map(|(problem, _)| std::mem::discriminant(problem));
            partition.trouble = kind.map(|kind| match partition.trouble {
                Some((known, since)) if known == kind => (kind, since),
                _ => (kind, now),
            });
            if let (Some((problem, patience)), Some((_, since)), None) =
                (trouble, partition.trouble, &partition.reported)
                && since + patience <= now
            {
                problems.push((id, problem));
            }
            if partition.not_before.is_some_and(|at| now < at) {
                continue;
            }
            let place = self.cluster.leader(&partition.topic, partition.index).and_then(|(broker, epoch)| {
                let topic = self.cluster.topics.get(&partition.topic)?;
                Some((broker.id, epoch, topic.id))
            });
            if let Some((_, epoch, topic_id)) = place {
                let is_same = partition.topic_id == topic_id;
                partition.leader_epoch = if is_same { partition.leader_epoch.max(epoch) } else { epoch };
                partition.topic_id = topic_id;
            }
            let (generation, leader_epoch) = (partition.generation, partition.leader_epoch);
            match (&mut partition.state, place) {
                (State::Committed { is_asked: is_asked @ false }, _) => {
                    *is_asked = true;
                    committed.push((id, generation));
                }
                (State::Listing { timestamp, is_asked: is_asked @ false }, Some((leader, ..))) => {
                    *is_asked = true;
                    let asked = AskedOffset { id, generation, timestamp: *timestamp, leader_epoch };
                    listings.entry(leader).or_default().push(asked);
                }
                (&mut State::Home { offset }, Some((leader, ..))) => {
                    gone.push(id);
                    partition.state = State::Out { leader, offset, since: now };
                    let route = partition.route(id, offset);
                    self.outputs.push_back(Output::Route { leader, route });
                }
                _ => {}
            }
        }
        for id in &gone {
            self.at_home.remove(id);
        }
        problems.into_iter().for_each(|(id, problem)| self.report(id, problem));
        if !committed.is_empty() {
            self.outputs.push_back(Output::AskCommitted(committed));
        }
        let asks = listings.into_iter().map(|(leader, asked)| Output::AskOffsets { leader, asked });
        self.outputs.extend(asks);
    }

    /// What keeps a partition at home, and how long that is nobody's business.
    fn trouble(&self, partition: &Partition) -> Option<(Problem, Duration)> {
        let patient = self.config.patience;
        let brief = self.config.unknown_patience.min(patient);
        let code = partition.last_code;
        // Looking for commits, retries and what failed are the asker's, who reports it.
        if matches!(partition.state, State::Committed { .. }) {
            return None;
        }
        let Some(topic) = self.cluster.topics.get(&partition.topic) else {
            // Not answered for yet. That no broker answers is reported for the client as a whole.
            return (self.cluster.answers > 0)
                .then_some((Problem::UnknownTopic(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), patient));
        };
        if matches!(topic.error, ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
            return Some((Problem::Topic(topic.error), Duration::ZERO));
        }
        let is_unknown = matches!(topic.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID);
        match topic.partition(partition.index) {
            _ if is_unknown => Some((Problem::UnknownTopic(topic.error), brief)),
            None if topic.partitions.is_empty() => Some((Problem::UnknownTopic(topic.error), patient)),
            None => Some((Problem::UnknownPartition { count: topic.partitions.len() }, brief)),
            Some(known) if known.leader.is_none() => Some((Problem::NoLeader, patient)),
            // The picture is fine, and its leader says otherwise.
            Some(_) if matches!(partition.state, State::Listing { .. }) => Some((Problem::Unresolved(code), patient)),
            Some(_) if !code.is_ok() => Some((Problem::Refused { api: ApiKey::FETCH, code }, patient)),
            Some(_) => None,
        }
    }
}

impl Partition {
    fn went_well(&mut self) {
        self.trouble = None;
        self.last_code = ErrorCode::NONE;
        self.reported = None;
        self.backoff.reset();
    }

    fn route(&self, id: PartitionId, offset: i64) -> Route {
        Route {
            id,
            generation: self.generation,
            topic: Arc::clone(&self.topic),
            topic_id: self.topic_id,
            index: self.index,
            offset,
            leader_epoch: self.leader_epoch,
        }
    }
}

#[cfg(test)]
mod tests;
