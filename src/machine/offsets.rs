//! Where each partition of a consumer stands: how its position is found, and who fetches from there.
//!
//! ```text
//!             commits asked        log's ends asked          a leader is known
//!   Committed ────────────▶ Listing ──────────────▶ Home ──────────────────────▶ Out(leader)
//!       │  found                ▲                   ▲ ▲ │ ▲ released, recalled      │
//!       └───────────────────────┼───────────────────┘ │ ▼ └─────────────────────────┤
//!                               │        still there  │ Validating: a new epoch     │
//!                               │                     '─┤                           │
//!                               │                       ▼ the log was cut           │
//!                               ├──────────── out of range ◀────────────────────────┤
//!                               ▼                                                   ▼
//!                      a seek leads here from everywhere ◀────────────────────── Halted
//! ```
//! A partition is at home here or out with one broker, never both, so what was fetched can be neither lost nor doubled
//! when leaders move. Errors of one partition hold back that one, with a back-off of its own; each is reported once
//! until things went well again.
//!
//! An offset that was read is held against the log whenever a leader's epoch is another one than that of the record
//! before it (KIP-320, rule 42): if the log was cut below it, [`Output::Diverged`] says so. One that fell out of the log
//! goes on with the first record that was not seen (rule 45), and that is reported too. The policy is for a beginning.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem::Discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::credit::PartitionId;
use super::fetch::{Route, Seen, Why};
use super::metadata::Cluster;
use super::planted::bug;
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::list_offsets::{EARLIEST, LATEST};
use crate::wire::message::Uuid;

pub use output::{AskedEpoch, AskedOffset, At, Config, Output, Problem, Reset, Start};

mod output;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Committed {
        is_asked: bool,
    },
    Listing {
        at: At,
        why: Looking,
        is_asked: bool,
    },
    Home {
        offset: i64,
    },
    /// Whether the log still has what was read before `offset`.
    Validating {
        offset: i64,
        /// The leader of this epoch was asked.
        asked: Option<i32>,
    },
    Out {
        leader: i32,
        offset: i64,
        since: Instant,
    },
    Halted,
}

/// What an offset is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looking {
    /// To begin there.
    Start,
    /// The log does not have this offset, says its leader; the log's start as far as that was asked for.
    Bounds { expected: i64, start: Option<i64> },
    /// To go on there, and to say so.
    Lost { expected: i64 },
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
    /// Of the leader in whose log the position was last found to be.
    valid_epoch: i32,
    /// Of the record before the position.
    seen: Seen,
    /// Where the log was cut, and the epoch of what lies below: until a seek says where to go on.
    cut: Option<(i64, i32)>,
    /// The record before the position may be of an older epoch than that which was seen: it lies below a cut.
    is_below: bool,
    /// Something was fetched since it began where it was told to: the policy has no say any more.
    has_progressed: bool,
    /// The offset is the group's, not the caller's: if the log has lost it, that is worth saying.
    was_committed: bool,
    is_paused: bool,
    /// The replica that the leader named, until then (KIP-392).
    preferred: Option<(i32, Instant)>,
    /// A replica that the leader named did not answer: so long the leader will do.
    leader_until: Option<Instant>,
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
    /// Those with a preferred replica.
    following: BTreeSet<PartitionId>,
    outputs: VecDeque<Output>,
}

/// How long the leader is fetched from when a replica that it named does not answer. The cluster notices within that time.
const LEADER_FOR: Duration = Duration::from_secs(30);

impl Offsets {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            cluster: Arc::default(),
            partitions: BTreeMap::new(),
            at_home: BTreeSet::new(),
            following: BTreeSet::new(),
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
            valid_epoch: -1,
            seen: Seen::NOTHING,
            cut: None,
            is_below: false,
            has_progressed: false,
            was_committed: false,
            is_paused: false,
            preferred: None,
            leader_until: None,
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
        self.following.remove(&id);
        if let Some(Partition { state: State::Out { leader, .. }, generation, .. }) = self.partitions.remove(&id) {
            self.outputs.push_back(Output::Recall { leader, id, generation });
        }
    }

    /// A paused partition goes where it belongs, and is not fetched.
    pub fn pause(&mut self, id: PartitionId, is_paused: bool) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        if std::mem::replace(&mut partition.is_paused, is_paused) == is_paused {
            return;
        }
        if let (State::Out { leader, .. }, false) = (partition.state, partition.is_recalled)
            && (is_paused || !bug("never_resumes"))
        {
            self.outputs.push_back(Output::Pause { leader, id, is_paused });
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
        // An explicit offset says nothing of epochs, and must not borrow one (rule 44).
        (partition.seen, partition.is_below) = (Seen::NOTHING, false);
        partition.went_well();
        let cut = partition.cut.take();
        if let State::Out { leader, since, .. } = partition.state {
            if let (Start::At(offset), false) = (start, was_recalled) {
                // The leader goes on from there, without a way home and back.
                partition.state = State::Out { leader, offset, since };
                (partition.has_progressed, partition.was_committed) = (false, false);
                let route = partition.route(id, offset);
                return self.outputs.push_back(Output::Route { leader, route });
            }
            if !was_recalled {
                self.outputs.push_back(Output::Recall { leader, id, generation: old });
            }
        }
        self.start(id, start);
        if let (Some((end, epoch)), Start::At(offset)) = (cut, start)
            && offset <= end
            && !bug("a_cut_is_a_beginning")
            && let Some(partition) = self.partitions.get_mut(&id)
        {
            // What was read below the cut goes on: the next leader may have less of it (rule 42).
            partition.seen = Seen { epoch, timestamp: -1 };
            (partition.is_below, partition.has_progressed) = (offset < end, true);
        }
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
            // A replica that is gone from the picture is dead: the leader it is, then.
            let preferred = partition.preferred.filter(|(node, _)| self.cluster.brokers.contains_key(node));
            let at = preferred.map_or(broker.id, |(node, _)| node);
            let is_other_topic = !topic.id.is_zero() && topic.id != partition.topic_id;
            // In a new epoch the log may be another one, also under the same leader.
            if at != leader || is_other_topic || epoch > partition.leader_epoch {
                partition.is_recalled = true;
                self.outputs.push_back(Output::Recall { leader, id, generation: partition.generation });
            }
        }
    }

    /// A leader sent the partition home: with where to go on, and what was seen before that.
    pub fn handle_released(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        (next, seen): (i64, Seen),
        why: Why,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let State::Out { offset, since, .. } = partition.state else { return };
        if partition.generation != generation && !bug("comes_home_from_before_a_seek") {
            return;
        }
        partition.is_recalled = false;
        partition.state = State::Home { offset: next };
        partition.has_progressed |= next > offset;
        if next > offset && !bug("forgets_the_epoch") {
            (partition.seen, partition.is_below) = (seen, false);
        }
        let was_following = partition.preferred.is_some();
        if !matches!(why, Why::Recalled) {
            // Whatever a follower cannot do, the leader can.
            partition.preferred = None;
            self.following.remove(&id);
        }
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
            Why::Preferred(node) if self.cluster.brokers.contains_key(&node) => {
                partition.preferred = Some((node, now + self.config.follow_for));
                self.following.insert(id);
                return;
            }
            Why::Preferred(_) => {
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                return self.outputs.push_back(Output::Stale);
            }
            Why::Unreachable => {
                partition.leader_until = Some(now + LEADER_FOR);
                return;
            }
            Why::OutOfRange => {
                // At once the first time: this is how a position is found that the log has lost.
                if partition.backoff.failures() > 0 {
                    partition.not_before = Some(now + partition.backoff.clone().next_delay(random));
                }
                partition.backoff.next_delay(random);
                if was_following {
                    // It may be behind, or have less than the leader (rule 46).
                    return;
                }
                let expected = next;
                if partition.has_progressed && !bug("resets_behind_what_was_read") {
                    let why = Looking::Bounds { expected, start: None };
                    return self.look(id, At::Time(EARLIEST), why);
                }
                let why = if partition.was_committed { Looking::Lost { expected } } else { Looking::Start };
                return match self.config.reset {
                    Reset::None => self.halt(id, Problem::OutOfRange(next)),
                    Reset::Earliest => self.look(id, At::Time(EARLIEST), why),
                    Reset::Latest => self.look(id, At::Time(LATEST), why),
                    Reset::Ago(ms) => self.look(id, At::Ago(ms), why),
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

    /// What the group's coordinator said: an offset and the epoch of the record before it (-1: not known), or that nothing is committed. `Err`: it could not be asked, which
    /// is reported by whoever asked.
    pub fn handle_committed(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        answer: Result<Option<(i64, i32)>, ()>,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.generation == generation) else { return };
        let State::Committed { is_asked } = &mut partition.state else { return };
        *is_asked = false;
        match answer {
            Ok(Some((offset, epoch))) => {
                partition.backoff.reset();
                partition.seen.epoch = epoch;
                partition.was_committed = true;
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
        let is_its =
            |partition: &&mut Partition| partition.generation == generation || bug("answers_from_before_a_seek");
        let Some(partition) = self.partitions.get_mut(&id).filter(is_its) else { return };
        let State::Listing { at, why, is_asked } = &mut partition.state else { return };
        *is_asked = false;
        let (at, why) = (*at, *why);
        let code = match answer {
            Ok(offset) if offset >= 0 => return self.listed(now, id, why, offset, random),
            // Nothing is as young as that: the end (rule 47).
            Ok(_) if at != At::Time(EARLIEST) && at != At::Time(LATEST) => {
                return self.look(id, At::Time(LATEST), why);
            }
            // An end of a log is never negative (rule 47).
            Ok(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
            Err(code) => code,
        };
        self.refused(now, id, ApiKey::LIST_OFFSETS, code, random);
    }

    /// What a leader said of an epoch: the last one that it knows up to there, and where that one ended; or -1, if it has
    /// none. `Err(NONE)`: it did not answer.
    pub fn handle_epoch_end(
        &mut self,
        now: Instant,
        id: PartitionId,
        generation: u64,
        answer: Result<(i32, i64), ErrorCode>,
        random: u64,
    ) {
        let Some(partition) = self.partitions.get_mut(&id).filter(|p| p.generation == generation) else { return };
        let State::Validating { offset, asked } = &mut partition.state else { return };
        let Some(of) = asked.take() else { return };
        let offset = *offset;
        let has_all = |epoch, end| end >= offset && (epoch >= partition.seen.epoch || partition.is_below);
        match answer {
            // A broker that does not know is no proof of a loss (rule 42).
            Ok((epoch, end)) if epoch < 0 || end < 0 || has_all(epoch, end) => {
                // Of a leader that has come since, it says nothing: that one may have cut the log.
                partition.valid_epoch = if bug("validates_for_the_next_leader") { partition.leader_epoch } else { of };
                partition.backoff.reset();
                partition.state = State::Home { offset };
            }
            Ok((epoch, end)) => {
                self.at_home.remove(&id);
                partition.state = State::Halted;
                let end = end.min(offset);
                (partition.cut, partition.valid_epoch) = (Some((end, epoch)), of);
                self.outputs.push_back(Output::Diverged { id, generation, end });
            }
            Err(code) => self.refused(now, id, ApiKey::OFFSET_FOR_LEADER_EPOCH, code, random),
        }
    }

    /// Whether the policy says where to go on.
    pub fn may_reset(&self) -> bool {
        self.config.reset != Reset::None
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
        let followed = self.following.iter().filter_map(|id| {
            let partition = self.partitions.get(id)?;
            // At home, whoever goes out next looks at the time: nothing is to be done when it has come.
            let is_out = matches!(partition.state, State::Out { .. }) || bug("waits_for_what_is_over");
            partition.preferred.filter(|_| is_out && !partition.is_recalled).map(|(_, until)| until)
        });
        times.chain(followed).min()
    }

    /// A spurious one does nothing; what is due is found by `poll_output`.
    pub fn handle_timeout(&mut self, now: Instant) {
        for id in &self.at_home {
            if let Some(partition) = self.partitions.get_mut(id) {
                partition.not_before = partition.not_before.filter(|at| now < *at);
            }
        }
        for &id in &self.following {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let is_over = partition.preferred.is_some_and(|(_, until)| until <= now);
            if let (State::Out { leader, .. }, true, false) = (partition.state, is_over, partition.is_recalled) {
                partition.is_recalled = true;
                self.outputs.push_back(Output::Recall { leader, id, generation: partition.generation });
            }
        }
    }

    fn start(&mut self, id: PartitionId, start: Start) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let listing = |at| State::Listing { at, why: Looking::Start, is_asked: false };
        partition.has_progressed = false;
        partition.was_committed = false;
        partition.state = match (start, self.config.reset) {
            (Start::Committed, _) => State::Committed { is_asked: false },
            (Start::At(offset), _) => State::Home { offset },
            (Start::Earliest, _) | (Start::Reset, Reset::Earliest) => listing(At::Time(EARLIEST)),
            (Start::Latest, _) | (Start::Reset, Reset::Latest) => listing(At::Time(LATEST)),
            (Start::Time(time), _) => listing(At::Time(time)),
            (Start::Reset, Reset::Ago(ms)) => listing(At::Ago(ms)),
            (Start::Reset, Reset::None) => return self.halt(id, Problem::NoPosition),
            (Start::Halted, _) => State::Halted,
        };
        match partition.state {
            State::Halted => self.at_home.remove(&id),
            _ => self.at_home.insert(id),
        };
    }

    fn look(&mut self, id: PartitionId, at: At, why: Looking) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.state = State::Listing { at, why, is_asked: false };
            self.at_home.insert(id);
        }
    }

    fn listed(&mut self, now: Instant, id: PartitionId, why: Looking, offset: i64, random: u64) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        let expected = match why {
            Looking::Start => return self.found(id, offset),
            Looking::Bounds { expected, start: None } if offset <= expected => {
                let why = Looking::Bounds { expected, start: Some(offset) };
                return self.look(id, At::Time(LATEST), why);
            }
            Looking::Bounds { expected, start: Some(_) } if expected <= offset && !bug("believes_who_is_behind") => {
                // The leader has it after all: it was not one yet, or had not caught up (row 18).
                partition.state = State::Home { offset: expected };
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                return;
            }
            Looking::Bounds { expected, .. } | Looking::Lost { expected } => expected,
        };
        if self.config.reset == Reset::None {
            return self.halt(id, Problem::OutOfRange(expected));
        }
        if let (Looking::Bounds { start: Some(_), .. }, 0..) = (why, partition.seen.timestamp) {
            // The log ends below: what is younger than the last record that was read, was not (rule 45).
            let younger = At::Time(partition.seen.timestamp.saturating_add(1));
            return self.look(id, younger, Looking::Lost { expected });
        }
        partition.seen = Seen::NOTHING;
        if !bug("loses_without_a_word") {
            self.report(id, Problem::Lost { expected, next: offset });
        }
        self.found(id, offset);
    }

    fn refused(&mut self, now: Instant, id: PartitionId, api: ApiKey, code: ErrorCode, random: u64) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.last_code = code;
        partition.not_before = Some(now + partition.backoff.next_delay(random));
        match code.action(api) {
            Action::Fail | Action::Fatal => self.report(id, Problem::Refused { api, code }),
            Action::Retry => {}
            _ => self.outputs.push_back(Output::Stale),
        }
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
        let mut validations: BTreeMap<i32, Vec<AskedEpoch>> = BTreeMap::new();
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
            let generation = partition.generation;
            if let Some((_, epoch, topic_id)) = place {
                let was = std::mem::replace(&mut partition.topic_id, topic_id);
                let is_same = was == topic_id || was.is_zero() || topic_id.is_zero() || bug("goes_on_in_another_topic");
                partition.leader_epoch = if is_same { partition.leader_epoch.max(epoch) } else { epoch };
                if !is_same {
                    // Nothing that is known of the old one is true of this one (rules 41, 48).
                    (partition.seen, partition.valid_epoch, partition.cut) = (Seen::NOTHING, -1, None);
                    gone.push(id);
                    partition.state = State::Halted;
                    self.outputs.push_back(Output::Recreated { id, generation });
                    continue;
                }
            }
            let leader_epoch = partition.leader_epoch;
            if let State::Home { offset } = partition.state
                && partition.must_validate()
            {
                partition.state = State::Validating { offset, asked: None };
            }
            match (&mut partition.state, place) {
                (State::Committed { is_asked: is_asked @ false }, _) => {
                    *is_asked = true;
                    committed.push((id, generation));
                }
                (State::Listing { at, is_asked: is_asked @ false, .. }, Some((leader, ..))) => {
                    *is_asked = true;
                    let asked = AskedOffset { id, generation, at: *at, leader_epoch };
                    listings.entry(leader).or_default().push(asked);
                }
                (State::Validating { asked: asked @ None, .. }, Some((leader, ..))) => {
                    *asked = Some(leader_epoch);
                    let asked = AskedEpoch { id, generation, leader_epoch, epoch: partition.seen.epoch };
                    validations.entry(leader).or_default().push(asked);
                }
                (&mut State::Home { offset }, Some((leader, ..))) => {
                    gone.push(id);
                    if partition
                        .preferred
                        .is_some_and(|(node, until)| until <= now || !self.cluster.brokers.contains_key(&node))
                    {
                        partition.preferred = None;
                        self.following.remove(&id);
                    }
                    let leader = partition.preferred.map_or(leader, |(node, _)| node);
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
        let asks = validations.into_iter().map(|(leader, asked)| Output::AskEpochs { leader, asked });
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
        let is_unknown = topic.error.is_unknown_topic();
        match topic.partition(partition.index) {
            _ if is_unknown => Some((Problem::UnknownTopic(topic.error), brief)),
            None if topic.partitions.is_empty() => Some((Problem::UnknownTopic(topic.error), patient)),
            None => Some((Problem::UnknownPartition { count: topic.partitions.len() }, brief)),
            Some(known) if known.leader.is_none() => Some((Problem::NoLeader, patient)),
            // The picture is fine, and its leader says otherwise.
            Some(_) if matches!(partition.state, State::Listing { .. } | State::Validating { .. }) => {
                Some((Problem::Unresolved(code), patient))
            }
            Some(_) if !code.is_ok() => Some((Problem::Refused { api: ApiKey::FETCH, code }, patient)),
            Some(_) => None,
        }
    }
}

impl Partition {
    /// Whether its leader is another one, or in another term, than the one that appended what was read last.
    fn must_validate(&self) -> bool {
        self.seen.epoch >= 0 && self.leader_epoch > self.seen.epoch.max(self.valid_epoch) && !bug("never_validates")
    }

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
            is_nearby: self.preferred.is_some(),
            leader_until: self.leader_until,
            is_paused: self.is_paused,
        }
    }
}

#[cfg(test)]
mod tests;
