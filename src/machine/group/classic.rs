//! The classic protocol: the members of a group agree on a leader, and the leader says who gets what.
//!
//! ```text
//!              subscribe                 the coordinator            join answered          this is the leader
//!   Out ────────────────────▶ Joining ◀── is known ──▶ JoinGroup ──────────────────▶ Describing ─────────▶ Syncing
//!    ▲                         ▲ ▲  eager: all is revoked first       │                   topics described    │ ▲
//!    │ leave, poll interval    │ │                                   '──────────────────────────────────────┼─'
//!    ├─────────────────────────┘ │                                                          sync answered   │
//!    │                           │ rebalance, metadata, subscription, what was revoked                      ▼
//!    └───────────────────────────┴──────────────────────────────────────────────────────────────────────  Stable
//! ```
//! **Eager or cooperative** is the member's own decision, as Java's: cooperative only if all strategies that it offers are.
//! Deciding by the strategy that the group chose would save a group some revocations while it moves from one to the other,
//! but a member that still has its partitions when it learns that the leader gave them to others is too late.
//!
//! **Nothing is owned longer than the coordinator would have it**: when no heartbeat came through for a session's length
//! after it was sent, all is lost here too, before the coordinator gives it to others. So heartbeats go on while a join
//! waits, as long as something is owned; and a join that is not answered by the time that a rebalance may take was lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Common, Coordinator, Counted, End};
use super::leader::Leader;
use super::types::{Answer, Call, Change, Config, Identity, Output, Problem, Standing};
use crate::error::TopicPartition;
use crate::machine::assignor::subscription::{NEWEST, decode_assignment, encode};
use crate::machine::assignor::{Assigned, Assignor, Protocol, Subscription, Topics};
use crate::machine::planted::bug;
use crate::wire::api::ApiKey;
use crate::wire::coordinator::heartbeat::HeartbeatRequest;
use crate::wire::coordinator::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::wire::coordinator::leave_group::{LeaveGroupRequest, MemberIdentity};
use crate::wire::coordinator::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::error_code::{Action, ErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in the group, and not on the way there.
    Out,
    /// To be joined as soon as nothing is in the way; `Some`: asked.
    Joining(Option<u64>),
    /// The leader waits to hear of topics.
    Describing,
    /// To be synced; `Some`: asked.
    Syncing(Option<u64>),
    Stable,
    /// What it has is given back before it leaves.
    Quitting,
    /// `Some`: asked.
    Leaving(Option<u64>, End),
    /// No poll came: until the next one.
    Idle,
    Failed,
    Closed,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
pub struct Classic {
    config: Config,
    /// Offered to the group in this order.
    assignors: Vec<Arc<dyn Assignor>>,
    is_cooperative: bool,
    state: State,
    member_id: Arc<str>,
    /// -1: none.
    generation: i32,
    topics: BTreeSet<Arc<str>>,
    /// Also to no topic: to a pattern that matches none.
    is_subscribed: bool,
    /// As the group was told.
    joined: BTreeSet<Arc<str>>,
    /// Of the strategy that the group chose.
    protocol: Arc<str>,
    leader: Option<Leader>,
    owned: Counted<BTreeSet<TopicPartition>>,
    /// What was assigned last, and when: strategies send it along.
    last: Option<(Vec<TopicPartition>, i32)>,
    reason: &'static str,
    /// What the listener was told to give back.
    revoking: Counted<Vec<TopicPartition>>,
    /// What follows the changes.
    then: Then,
    heartbeat: Option<(u64, Instant)>,
    next_heartbeat: Option<Instant>,
    /// When the heartbeat was sent that came through last.
    alive: Option<Instant>,
    /// A time at which no rebalance had begun: members that have not joined by `max_poll_interval` after one has are out.
    settled: Option<Instant>,
    common: Common,
}

/// What waits for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    Rejoin(&'static str),
    Depart { leaves: bool, end: End },
}

/// A broker answers a join only when all members came, or their time is up.
const MARGIN: Duration = Duration::from_secs(5);

impl Classic {
    /// `assignors`: at least one, the preferred one first.
    pub fn new(config: Config, assignors: Vec<Arc<dyn Assignor>>) -> Self {
        Self {
            is_cooperative: assignors.iter().all(|assignor| assignor.protocol() == Protocol::Cooperative),
            assignors,
            state: State::Out,
            member_id: Arc::default(),
            generation: -1,
            topics: BTreeSet::new(),
            is_subscribed: false,
            joined: BTreeSet::new(),
            protocol: Arc::default(),
            leader: None,
            owned: Counted::default(),
            last: None,
            reason: "",
            revoking: Counted::default(),
            then: Then::Nothing,
            heartbeat: None,
            next_heartbeat: None,
            alive: None,
            settled: None,
            common: Common::new(config.retry_backoff, config.retry_backoff_max),
            config,
        }
    }

    /// What it has: no record and no commit of anything else.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// What it may commit: also what is being revoked, until the listener has returned.
    pub fn committable(&self) -> BTreeSet<TopicPartition> {
        let revoked = self.common.changes.iter().filter_map(|change| match change {
            Change::Revoked(revoked) => Some(revoked),
            _ => None,
        });
        self.owned.iter().chain(&*self.revoking).chain(revoked.flatten()).cloned().collect()
    }

    /// As long as this is the same, so is [`committable`](Self::committable).
    pub fn ownership(&self) -> u64 {
        self.owned.changes() + self.revoking.changes() + self.common.changes.changes()
    }

    pub fn identity(&self) -> Identity {
        let instance_id = self.config.instance_id.clone();
        Identity { member_id: Arc::clone(&self.member_id), instance_id, generation: self.generation }
    }

    pub fn standing(&self) -> Standing {
        match self.state {
            _ if self.generation < 0 => Standing::Out,
            State::Describing | State::Syncing(_) => Standing::Between,
            State::Stable | State::Joining(_) | State::Quitting => Standing::Member(self.identity()),
            State::Out | State::Leaving(..) | State::Idle | State::Failed | State::Closed => Standing::Out,
        }
    }

    /// The topics that the group's leader is to be told of.
    pub fn described(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.leader.as_ref().map(Leader::topics)
    }

    /// What is subscribed to now. None: the group is left. An empty set: the member stays, for a pattern that matches no
    /// topic yet, as Java's does.
    pub fn subscribe(&mut self, now: Instant, topics: Option<BTreeSet<Arc<str>>>) {
        self.is_subscribed = topics.is_some();
        self.topics = topics.unwrap_or_default();
        match self.state {
            State::Closed | State::Failed | State::Quitting | State::Leaving(..) | State::Idle => {}
            State::Out if !self.is_subscribed => {}
            State::Out => {
                self.common.begin(now);
                self.rejoin("subscribed");
            }
            _ if self.is_departing() => {}
            _ if !self.is_subscribed => self.quit(self.config.instance_id.is_none(), End::Out),
            State::Stable if self.topics != self.joined => self.rejoin("topics changed"),
            _ => {}
        }
    }

    /// Metadata of the topics that were to be described. What changes while the sync is on its way counts after it.
    pub fn handle_topics(&mut self, topics: &Topics) {
        let Some(leader) = &mut self.leader else { return };
        match self.state {
            State::Describing | State::Syncing(None) => {
                let assignor = self.assignors.iter().find(|assignor| *assignor.name() == *self.protocol);
                let Some(assignor) = assignor else { return };
                leader.assign(&**assignor, topics);
                self.state = State::Syncing(None);
            }
            State::Syncing(Some(_)) => leader.compare(topics),
            State::Stable => {
                leader.compare(topics);
                if leader.is_outdated() {
                    self.rejoin("metadata changed");
                }
            }
            _ => {}
        }
    }

    /// The user asks for records.
    pub fn poll_begins(&mut self) {
        self.common.poll_begins();
        match self.state {
            State::Idle => self.ended(End::Out),
            State::Leaving(asked, End::Idle) => self.state = State::Leaving(asked, End::Out),
            _ => {}
        }
    }

    /// The user has some to work on.
    pub fn poll_ends(&mut self, now: Instant) {
        self.common.poll_ends(now);
    }

    /// The listener has returned.
    pub fn acknowledge(&mut self) {
        self.common.is_acknowledged = true;
        self.revoking.clear();
    }

    /// After a failure: the cause may be gone.
    pub fn restart(&mut self, now: Instant) {
        if self.state == State::Failed {
            self.state = State::Out;
            (self.common.not_before, self.common.reported) = (None, None);
            let topics = std::mem::take(&mut self.topics);
            self.subscribe(now, self.is_subscribed.then_some(topics));
        }
    }

    /// Ends the membership: with a leave, or by falling silent (static members, KIP-1092).
    pub fn close(&mut self, leaves: bool) {
        match self.state {
            State::Closed => {}
            State::Leaving(asked, _) => self.state = State::Leaving(asked, End::Closed),
            State::Failed => self.quit(false, End::Closed),
            _ => self.quit(leaves, End::Closed),
        }
    }

    pub fn handle_coordinator(&mut self, now: Instant, found: Result<i32, ErrorCode>, random: u64) {
        if self.common.coordinator != Coordinator::Asked {
            return;
        }
        self.common.coordinator = Coordinator::Unknown;
        match found {
            // Below zero is nobody, and must not be kept (rule 65).
            Ok(node) if node >= 0 => self.common.coordinator = Coordinator::Known,
            Err(code) if matches!(code.action(ApiKey::FIND_COORDINATOR), Action::Fail | Action::Fatal) => {
                self.fail(Problem::Refused { api: ApiKey::FIND_COORDINATOR, code });
            }
            _ => self.common.back_off(now, random),
        }
    }

    /// Of a commit under this identity: what it says of the membership. Of an older one it says nothing (rule 63).
    pub fn handle_refused_commit(&mut self, now: Instant, identity: &Identity, code: ErrorCode, random: u64) {
        if (*identity == self.identity() || bug("late_commit_error_rejoins")) && self.generation >= 0 {
            match code {
                ErrorCode::REBALANCE_IN_PROGRESS if self.state == State::Stable => self.rejoin("group rebalances"),
                // The join was answered, and the answer is on its way over another connection.
                ErrorCode::ILLEGAL_GENERATION if matches!(self.state, State::Joining(_)) => {}
                ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::FENCED_INSTANCE_ID => {
                    self.refused(now, ApiKey::OFFSET_COMMIT, code, random);
                }
                _ => {}
            }
        }
    }

    pub fn handle_answer(&mut self, now: Instant, token: u64, answer: Answer, random: u64) {
        if self.heartbeat.is_some_and(|(asked, _)| asked == token) {
            return self.heartbeat_answered(now, answer, random);
        }
        self.take_answer(now, token, answer, random);
        if self.is_departing() && self.state == State::Joining(None) {
            // There will be no other generation to commit under.
            self.state = State::Quitting;
        }
    }

    fn take_answer(&mut self, now: Instant, token: u64, answer: Answer, random: u64) {
        match (self.state, answer) {
            (State::Joining(Some(asked)), answer) if asked == token => {
                self.state = State::Joining(None);
                match answer {
                    Answer::Join(response) if response.error_code.is_ok() => self.joined(now, response),
                    Answer::Join(response) if response.error_code == ErrorCode::MEMBER_ID_REQUIRED => {
                        self.member_id = response.member_id;
                    }
                    Answer::Join(response) => self.refused(now, ApiKey::JOIN_GROUP, response.error_code, random),
                    Answer::Unsupported => self.fail(Problem::Unsupported { api: ApiKey::JOIN_GROUP }),
                    _ => self.lost_coordinator(now, random),
                }
            }
            (State::Syncing(Some(asked)), answer) if asked == token => {
                // Whatever went wrong, the way back is another join.
                self.state = State::Joining(None);
                match answer {
                    Answer::Sync(response) if response.error_code.is_ok() => self.synced(now, &response, random),
                    Answer::Sync(response) => self.refused(now, ApiKey::SYNC_GROUP, response.error_code, random),
                    Answer::Unsupported => self.fail(Problem::Unsupported { api: ApiKey::SYNC_GROUP }),
                    _ => self.lost_coordinator(now, random),
                }
            }
            (State::Leaving(Some(asked), end), answer) if asked == token => {
                self.state = State::Leaving(None, end);
                let code = match &answer {
                    Answer::Leave(response) => response.error_code,
                    Answer::Unsupported => ErrorCode::UNSUPPORTED_VERSION,
                    _ => ErrorCode::COORDINATOR_NOT_AVAILABLE,
                };
                match code.action(ApiKey::LEAVE_GROUP) {
                    Action::Retry | Action::Refresh => self.common.back_off(now, random),
                    Action::FindCoordinator => self.lost_coordinator(now, random),
                    _ => self.ended(end),
                }
            }
            _ => {}
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.common.not_before.is_some_and(|at| at <= now) {
            self.common.not_before = None;
        }
        if let (State::Leaving(_, end), true) = (self.state, self.common.leave_by.is_some_and(|at| at <= now)) {
            return self.ended(end);
        }
        if let Some((_, problem)) = self.session_end().filter(|(at, _)| *at <= now) {
            self.common.report(problem);
            self.forget_coordinator();
            self.lose(false);
        }
        if self.poll_end().is_some_and(|at| at <= now) {
            self.common.working = None;
            self.common.report(Problem::PollInterval);
            self.lose_all();
            // At once, whether or not the listener ever returns: others wait for what it has.
            self.depart(now, self.config.instance_id.is_none(), End::Idle);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = self.next_heartbeat.filter(|_| self.can_beat());
        let session = self.session_end().map(|(at, _)| at);
        [self.common.not_before, self.common.leave_by, session, self.poll_end(), heartbeat].into_iter().flatten().min()
    }

    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.common.outputs.is_empty() {
            self.proceed(now);
        }
        self.common.outputs.pop_front()
    }

    /// Does what nothing stands in the way of.
    fn proceed(&mut self, now: Instant) {
        if self.common.is_acknowledged || bug("listeners_overlap") {
            if let Some(change) = self.common.next_change() {
                self.common.is_acknowledged = false;
                if let Change::Revoked(revoked) = &change {
                    self.revoking.clone_from(revoked);
                }
                return self.common.outputs.push_back(Output::Changed(change));
            }
            match std::mem::replace(&mut self.then, Then::Nothing) {
                Then::Nothing => {}
                Then::Rejoin(reason) => {
                    self.reason = reason;
                    self.state = State::Joining(None);
                }
                Then::Depart { leaves, end } => self.depart(now, leaves, end),
            }
        }
        if self.common.not_before.is_some_and(|at| at > now) {
            return self.beat(now);
        }
        let is_ready = self.common.is_acknowledged && self.common.changes.is_empty();
        let must_ask = match self.state {
            State::Joining(None) => is_ready,
            State::Syncing(None) | State::Leaving(None, _) => true,
            _ => self.common.coordinator == Coordinator::Unknown && self.generation >= 0,
        };
        match (self.common.coordinator, self.state) {
            _ if !must_ask => {}
            (Coordinator::Unknown, _) => {
                return self.common.find_coordinator();
            }
            (Coordinator::Asked, _) => {}
            (Coordinator::Known, State::Joining(_)) => return self.join(),
            (Coordinator::Known, State::Syncing(_)) => return self.sync(now),
            (Coordinator::Known, State::Leaving(_, end)) => return self.send_leave(end),
            (Coordinator::Known, _) => {}
        }
        self.beat(now);
    }

    /// Hands back what must be before a join, and then joins.
    fn rejoin(&mut self, reason: &'static str) {
        let is_over = matches!(self.state, State::Leaving(..) | State::Idle | State::Failed | State::Closed);
        if is_over || self.is_departing() {
            return;
        }
        let revoked: Vec<_> = if self.is_cooperative || bug("eager_keeps_partitions") {
            // What is not subscribed to any more is not held until the leader says so.
            self.owned.iter().filter(|partition| !self.topics.contains(&partition.topic)).cloned().collect()
        } else {
            self.owned.iter().cloned().collect()
        };
        for partition in &revoked {
            self.owned.remove(partition);
        }
        self.tell(Change::Revoked(revoked));
        self.then = Then::Rejoin(reason);
    }

    fn tell(&mut self, change: Change) {
        if !matches!(&change, Change::Revoked(none) | Change::Lost(none) if none.is_empty()) {
            self.common.changes.push_back(change);
        }
    }

    fn join(&mut self) {
        self.joined = self.topics.clone();
        let owned: Vec<_> = self.owned.iter().cloned().collect();
        let last = self.last.as_ref().map(|(partitions, generation)| Assigned { partitions, generation: *generation });
        let protocols = self.assignors.iter().map(|assignor| {
            let subscription = Subscription {
                topics: self.topics.iter().cloned().collect(),
                owned: owned.clone(),
                generation: self.generation,
                rack: self.config.rack.clone(),
                user_data: assignor.user_data(last),
            };
            // Longer than the protocol can say: then the coordinator refuses what is left of it.
            let metadata = encode(&subscription, NEWEST).unwrap_or_default();
            JoinGroupRequestProtocol { name: assignor.name().into(), metadata, ..Default::default() }
        });
        let request = JoinGroupRequest {
            group_id: Arc::clone(&self.config.group),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.max_poll_interval),
            member_id: Arc::clone(&self.member_id),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: protocols.collect(),
            reason: Some(self.reason.into()),
            ..Default::default()
        };
        let token = self.common.send(Call::Join(request), self.rebalance_timeout());
        self.state = State::Joining(Some(token));
    }

    fn joined(&mut self, now: Instant, response: JoinGroupResponse) {
        let protocol = response.protocol_name.unwrap_or_default();
        if !self.assignors.iter().any(|assignor| *assignor.name() == *protocol) {
            return self.fail(Problem::UnknownProtocol(protocol));
        }
        self.protocol = protocol;
        self.member_id = response.member_id;
        self.generation = response.generation_id;
        // From here on the session runs again.
        self.heartbeat = None;
        (self.alive, self.next_heartbeat) = (Some(now), Some(now + self.config.heartbeat_interval));
        self.common.not_before = None;
        self.leader = None;
        self.state = State::Syncing(None);
        if response.leader == self.member_id {
            let leader = Leader::new(response.members, response.skip_assignment);
            self.common.outputs.push_back(Output::Describe(leader.topics().clone()));
            self.leader = Some(leader);
            self.state = State::Describing;
        }
    }

    fn sync(&mut self, now: Instant) {
        self.settled = Some(now);
        let assignments = self.leader.as_mut().map(Leader::take_assignments).unwrap_or_default();
        let request = SyncGroupRequest {
            group_id: Arc::clone(&self.config.group),
            generation_id: self.generation,
            member_id: Arc::clone(&self.member_id),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(Arc::clone(&self.protocol)),
            assignments,
            ..Default::default()
        };
        let token = self.common.send(Call::Sync(request), self.rebalance_timeout());
        self.state = State::Syncing(Some(token));
    }

    fn synced(&mut self, now: Instant, response: &SyncGroupResponse, random: u64) {
        let Ok(assigned) = decode_assignment(&response.assignment) else {
            self.common.report(Problem::Malformed);
            self.common.back_off(now, random);
            return self.rejoin("malformed assignment");
        };
        self.common.backoff.reset();
        self.common.reported = None;
        // Only what the group was told; a leader that gives more does not know what it does.
        let is_good = |p: &TopicPartition| self.joined.contains(&p.topic) && p.partition >= 0;
        let assigned: BTreeSet<_> = assigned.into_iter().filter(is_good).collect();
        self.last = Some((assigned.iter().cloned().collect(), self.generation));
        if self.is_departing() {
            // What it gives back is its own until it leaves: nobody was given what it had said that it has (KIP-429).
            self.state = State::Quitting;
            return;
        }
        self.state = State::Stable;
        let revoked: Vec<_> = self.owned.difference(&assigned).cloned().collect();
        let added: Vec<_> = assigned.difference(&self.owned).cloned().collect();
        *self.owned = assigned;
        let has_revoked = !revoked.is_empty();
        self.tell(Change::Revoked(revoked));
        self.tell(Change::Assigned(added));
        let was_skipped = self.leader.as_mut().is_some_and(|leader| leader.must_compare(&self.joined, &self.owned));
        if has_revoked && !bug("given_back_and_not_joined") {
            // Others wait for it (KIP-429, rule 62).
            self.rejoin("partitions given back");
        } else if was_skipped {
            // The assignment that was kept is not for what is subscribed to now (rule 66).
            self.rejoin("topics changed while away");
        } else if self.leader.as_ref().is_some_and(Leader::is_outdated) {
            self.rejoin("metadata changed");
        } else if self.topics != self.joined {
            self.rejoin("topics changed");
        }
    }

    fn beat(&mut self, now: Instant) {
        if self.can_beat() && self.next_heartbeat.is_some_and(|at| at <= now) {
            let request = HeartbeatRequest {
                group_id: Arc::clone(&self.config.group),
                generation_id: self.generation,
                member_id: Arc::clone(&self.member_id),
                group_instance_id: self.config.instance_id.clone(),
                ..Default::default()
            };
            // One that is lost must leave time for another.
            let timeout = self.config.request_timeout.min(self.config.session_timeout / 2);
            let token = self.common.send(Call::Heartbeat(request), timeout);
            self.heartbeat = Some((token, now));
            self.next_heartbeat = Some(now + self.config.heartbeat_interval);
        }
    }

    fn can_beat(&self) -> bool {
        let is_member = match self.state {
            State::Describing | State::Syncing(_) | State::Stable | State::Quitting => true,
            // The coordinator waits for a member that joins without asking; but it may be another one by now.
            State::Joining(_) => self.has_any(),
            _ => false,
        };
        is_member && self.generation >= 0 && self.heartbeat.is_none() && self.common.coordinator == Coordinator::Known
    }

    fn heartbeat_answered(&mut self, now: Instant, answer: Answer, random: u64) {
        let Some((_, sent)) = self.heartbeat.take() else { return };
        let code = match answer {
            Answer::Heartbeat(response) => response.error_code,
            _ => return self.lost_coordinator(now, random),
        };
        let is_joining = matches!(self.state, State::Joining(_));
        match code {
            ErrorCode::NONE => (self.alive, self.settled) = (Some(sent), Some(sent)),
            ErrorCode::REBALANCE_IN_PROGRESS => {
                self.alive = Some(sent);
                if self.state == State::Stable {
                    self.rejoin("group rebalances");
                }
            }
            // The join was answered, and the answer is on its way.
            ErrorCode::ILLEGAL_GENERATION if is_joining => {}
            code => self.refused(now, ApiKey::HEARTBEAT, code, random),
        }
    }

    fn refused(&mut self, now: Instant, api: ApiKey, code: ErrorCode, random: u64) {
        match code {
            ErrorCode::UNKNOWN_MEMBER_ID => self.lose(true),
            ErrorCode::ILLEGAL_GENERATION => self.lose(false),
            ErrorCode::REBALANCE_IN_PROGRESS => {
                self.common.back_off(now, random);
                self.rejoin("group rebalances");
            }
            code => match code.action(api) {
                Action::Retry | Action::Refresh => self.common.back_off(now, random),
                Action::FindCoordinator => self.lost_coordinator(now, random),
                _ => self.fail(Problem::Refused { api, code }),
            },
        }
    }

    /// The membership is gone, and with it all that it had: to be told before the group is joined anew.
    fn lose(&mut self, with_id: bool) {
        if with_id && !bug("unknown_member_keeps_its_id") {
            self.member_id = Arc::default();
        }
        self.generation = -1;
        self.leader = None;
        (self.heartbeat, self.alive, self.next_heartbeat) = (None, None, None);
        if !bug("lost_membership_keeps_partitions") {
            self.lose_all();
        }
        self.rejoin("membership lost");
        if matches!(self.state, State::Describing | State::Syncing(_) | State::Stable | State::Joining(_)) {
            self.state = State::Joining(None);
        }
    }

    /// Also what was to be given back, and the listener has not heard of.
    fn lose_all(&mut self) {
        let lost = self.common.take_unheard(std::mem::take(&mut *self.owned));
        self.revoking.clear();
        self.tell(Change::Lost(lost.into_iter().collect()));
    }

    fn fail(&mut self, problem: Problem) {
        self.state = State::Failed;
        self.lose(false);
        self.then = Then::Nothing;
        self.common.outputs.push_back(Output::Failed(problem));
    }

    /// Out of the group: after what it has was given back. A rebalance that is under way is not waited for, but goes on for as
    /// long as that takes: once its join was answered, the coordinator takes no commit under the generation before, nor any
    /// until all have synced.
    fn quit(&mut self, leaves: bool, end: End) {
        let revoked = std::mem::take(&mut *self.owned);
        self.tell(Change::Revoked(revoked.into_iter().collect()));
        let is_rebalancing = matches!(self.state, State::Joining(Some(_)) | State::Describing | State::Syncing(_));
        if !(is_rebalancing && self.has_any()) || bug("quits_in_mid_rebalance") {
            self.state = State::Quitting;
        }
        self.then = Then::Depart { leaves, end };
    }

    /// Sends a leave, if there is something to leave.
    fn depart(&mut self, now: Instant, leaves: bool, end: End) {
        (self.leader, self.heartbeat, self.then) = (None, None, Then::Nothing);
        if leaves && !self.member_id.is_empty() {
            self.state = State::Leaving(None, end);
            (self.common.leave_by, self.common.not_before) = (Some(now + self.config.request_timeout), None);
        } else {
            self.ended(end);
        }
    }

    fn ended(&mut self, end: End) {
        self.member_id = Arc::default();
        (self.generation, self.alive, self.next_heartbeat, self.common.leave_by) = (-1, None, None, None);
        match end {
            End::Idle => self.state = State::Idle,
            End::Closed => {
                self.state = State::Closed;
                self.common.outputs.push_back(Output::Closed);
            }
            End::Out => {
                self.state = State::Out;
                if self.is_subscribed {
                    self.rejoin("subscribed");
                }
            }
        }
    }

    fn send_leave(&mut self, end: End) {
        let group_id = Arc::clone(&self.config.group);
        let member = MemberIdentity {
            member_id: Arc::clone(&self.member_id),
            group_instance_id: self.config.instance_id.clone(),
            reason: Some(self.reason.into()),
            ..Default::default()
        };
        let new = LeaveGroupRequest { group_id: Arc::clone(&group_id), members: vec![member], ..Default::default() };
        let old = LeaveGroupRequest { group_id, member_id: Arc::clone(&self.member_id), ..Default::default() };
        let token = self.common.send(Call::Leave(new, old), self.config.request_timeout);
        self.state = State::Leaving(Some(token), end);
    }

    fn lost_coordinator(&mut self, now: Instant, random: u64) {
        self.forget_coordinator();
        self.common.back_off(now, random);
    }

    /// What it was asked it will not answer.
    fn forget_coordinator(&mut self) {
        if self.common.coordinator == Coordinator::Known {
            self.common.coordinator = Coordinator::Unknown;
        }
        self.heartbeat = None;
        self.state = match self.state {
            State::Joining(_) | State::Syncing(Some(_)) if self.is_departing() => State::Quitting,
            State::Joining(_) | State::Syncing(Some(_)) => State::Joining(None),
            State::Leaving(_, end) => State::Leaving(None, end),
            state => state,
        };
    }

    /// Partitions, also those that the listener is told, or is to be told, to give back.
    fn has_any(&self) -> bool {
        let told = |change: &Change| matches!(change, Change::Revoked(_));
        !self.owned.is_empty() || !self.revoking.is_empty() || self.common.changes.iter().any(told)
    }

    /// It leaves as soon as what it has is given back.
    fn is_departing(&self) -> bool {
        matches!(self.then, Then::Depart { .. })
    }

    /// When the coordinator may give to others what is still here: because no heartbeat came through, or no join after a
    /// rebalance had begun.
    fn session_end(&self) -> Option<(Instant, Problem)> {
        let holds = self.has_any();
        let session = self.alive.filter(|_| holds || self.state == State::Stable);
        let session = session.map(|alive| (alive + self.config.session_timeout, Problem::SessionExpired));
        let session = session.filter(|_| !bug("owns_beyond_its_session"));
        let rebalance = self.settled.filter(|_| holds && self.generation >= 0);
        let rebalance = rebalance.map(|settled| (settled + self.config.max_poll_interval, Problem::LateRejoin));
        session.into_iter().chain(rebalance).min_by_key(|(at, _)| *at)
    }

    fn poll_end(&self) -> Option<Instant> {
        let is_in = matches!(
            self.state,
            State::Joining(_) | State::Describing | State::Syncing(_) | State::Stable | State::Quitting
        );
        // Who closes polls no more; its listener has as long as a rebalance may take.
        let is_closing = matches!(self.then, Then::Depart { end: End::Closed, .. });
        self.common.working.filter(|_| is_in && !is_closing).map(|since| since + self.config.max_poll_interval)
    }

    fn rebalance_timeout(&self) -> Duration {
        self.config.request_timeout.max(self.config.max_poll_interval.saturating_add(MARGIN))
    }
}

/// Of consumers; Connect has another one.
const PROTOCOL_TYPE: &str = "consumer";

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
