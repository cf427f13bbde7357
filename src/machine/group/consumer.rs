//! The protocol of KIP-848: the coordinator says who gets what, and a heartbeat says all.
//!
//! ```text
//!            subscribe                  epoch 0, all that there is to say            another target
//!   Out ───────────────────▶ Joining ────────────────────────────────────▶ Stable ◀─────────────────┐
//!    ▲                          ▲  fenced, unknown: all is lost first         │ ▲                    │
//!    │ leave, poll interval     └─────────────────────────────────────────────┤ └─ assigned, and said ┘
//!    └────────────────────────────────────────────────────────────────────────┘    revoke what is gone
//! ```
//! **What is given back is given back by saying what is left**: while a listener runs, heartbeats name what is still held,
//! or nothing, which changes nothing (rule 68). After anything went wrong the next one says all (rule 67).
//!
//! The coordinator names topics by id. One that metadata does not know yet is not given up: it is asked for at every
//! heartbeat, and said to be held, since it will not be mentioned twice (rules 68 and 86).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::common::{Common, Coordinator, Counted, End};
use super::types::{Answer, Call, Change, Identity, Output, Problem, Standing};
use crate::error::TopicPartition;
use crate::machine::planted::bug;
use crate::wire::api::ApiKey;
use crate::wire::coordinator::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::message::Uuid;

/// Of a member.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub group: Arc<str>,
    /// Of a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// Where it runs (KIP-881).
    pub rack: Option<Arc<str>>,
    /// The coordinator's strategy; `None`: as the broker is configured.
    pub assignor: Option<Arc<str>>,
    /// After so long without a poll the member gives itself up; so long it may take to give partitions back.
    pub max_poll_interval: Duration,
    pub request_timeout: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    /// To be joined as soon as nothing is in the way.
    Joining,
    Stable,
    /// What it has is given back before it leaves, under this epoch (0: without a word).
    Quitting(i32, End),
    Leaving(i32, End),
    /// No poll came: until the next one.
    Idle,
    Failed,
    Closed,
}

type Held = BTreeSet<(Uuid, i32)>;

/// A heartbeat that was not answered yet.
#[derive(Debug)]
struct Beat {
    token: u64,
    said: Option<Held>,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Consumer {
    config: ConsumerConfig,
    state: State,
    member_id: Arc<str>,
    epoch: i32,
    topics: BTreeSet<Arc<str>>,
    /// In RE2's syntax, for the coordinator to match.
    regex: Option<Arc<str>>,
    /// The coordinator was told of one since the member joined.
    had_regex: bool,
    target: Held,
    names: BTreeMap<Uuid, Arc<str>>,
    owned: BTreeSet<TopicPartition>,
    /// What is owned, and what the listener has not given back yet.
    held: Counted<BTreeMap<(Uuid, i32), TopicPartition>>,
    revoking: Held,
    /// What the last heartbeat that came through said to be held.
    said: Held,
    /// The next one says all.
    is_full: bool,
    has_new_subscription: bool,
    must_beat: bool,
    beat: Option<Beat>,
    next_beat: Option<Instant>,
    interval: Duration,
    common: Common,
}

/// Until a coordinator says otherwise.
const INTERVAL: Duration = Duration::from_secs(5);
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;

impl Consumer {
    /// `member_id`: a UUID that nobody else has (KIP-1082).
    pub fn new(config: ConsumerConfig, member_id: Arc<str>) -> Self {
        Self {
            state: State::Out,
            member_id,
            epoch: 0,
            topics: BTreeSet::new(),
            regex: None,
            had_regex: false,
            target: Held::new(),
            names: BTreeMap::new(),
            owned: BTreeSet::new(),
            held: Counted::default(),
            revoking: Held::new(),
            said: Held::new(),
            is_full: true,
            has_new_subscription: false,
            must_beat: false,
            beat: None,
            next_beat: None,
            interval: INTERVAL,
            common: Common::new(config.retry_backoff, config.retry_backoff_max),
            config,
        }
    }

    /// What it has: no record of anything else.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// What it may commit: also what is being revoked, until the listener has returned.
    pub fn committable(&self) -> BTreeSet<TopicPartition> {
        self.held.values().cloned().collect()
    }

    /// As long as this is the same, so is [`committable`](Self::committable).
    pub fn ownership(&self) -> u64 {
        self.held.changes()
    }

    pub fn identity(&self) -> Identity {
        let instance_id = self.config.instance_id.clone();
        Identity { member_id: Arc::clone(&self.member_id), instance_id, generation: self.epoch }
    }

    pub fn standing(&self) -> Standing {
        match self.state {
            State::Stable | State::Quitting(..) if self.epoch > 0 => Standing::Member(self.identity()),
            _ => Standing::Out,
        }
    }

    /// What is subscribed to now, by name, by a pattern for the coordinator, or both. Nothing: the group is left.
    pub fn subscribe(&mut self, now: Instant, topics: BTreeSet<Arc<str>>, regex: Option<Arc<str>>) {
        if self.topics == topics && self.regex == regex && self.state != State::Out {
            return;
        }
        (self.topics, self.regex) = (topics, regex);
        self.has_new_subscription = true;
        match self.state {
            State::Out if self.is_subscribed() => {
                self.common.begin(now);
                self.state = State::Joining;
            }
            State::Stable | State::Joining if !self.is_subscribed() => {
                let epoch = if self.config.instance_id.is_some() { LEAVE_FOR_A_WHILE } else { LEAVE };
                self.quit(epoch, End::Out);
            }
            State::Stable => self.must_beat = true,
            _ => {}
        }
    }

    /// Another id than the one that the coordinator does not know any more.
    pub fn set_member_id(&mut self, member_id: Arc<str>) {
        self.member_id = member_id;
    }

    /// Names of topics by id, from metadata.
    pub fn handle_names(&mut self, names: &BTreeMap<Uuid, Arc<str>>) {
        for (id, name) in names.iter().filter(|(id, _)| self.target.iter().any(|(wanted, _)| wanted == *id)) {
            self.names.insert(*id, Arc::clone(name));
        }
    }

    /// The user asks for records.
    pub fn poll_begins(&mut self) {
        self.common.poll_begins();
        match self.state {
            State::Idle => self.ended(End::Out),
            State::Leaving(epoch, End::Idle) => self.state = State::Leaving(epoch, End::Out),
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
        if !self.revoking.is_empty() {
            for partition in std::mem::take(&mut self.revoking) {
                self.held.remove(&partition);
            }
        }
    }

    /// After a failure: the cause may be gone.
    pub fn restart(&mut self, now: Instant) {
        if self.state == State::Failed {
            self.common.begin(now);
            (self.common.not_before, self.common.reported) = (None, None);
            self.state = if self.is_subscribed() { State::Joining } else { State::Out };
        }
    }

    /// Ends the membership: for good, or so that a static member can come back; other members then fall silent (KIP-1092).
    pub fn close(&mut self, leaves: bool) {
        let epoch = match (leaves, &self.config.instance_id) {
            (true, _) => LEAVE,
            (false, Some(_)) if bug("static_member_leaves_for_good") => LEAVE,
            (false, Some(_)) => LEAVE_FOR_A_WHILE,
            (false, None) => 0,
        };
        match self.state {
            State::Closed => {}
            State::Leaving(epoch, _) => self.state = State::Leaving(epoch, End::Closed),
            State::Failed => self.quit(0, End::Closed),
            _ => self.quit(epoch, End::Closed),
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

    /// Of a commit under this identity. Only a heartbeat knows what has become of the membership (rule 63).
    pub fn handle_refused_commit(&mut self, identity: &Identity, code: ErrorCode) {
        if *identity == self.identity() && matches!(self.state, State::Stable | State::Quitting(..)) {
            match code {
                ErrorCode::FENCED_INSTANCE_ID if self.state == State::Stable => {
                    self.fail(Problem::Refused { api: ApiKey::OFFSET_COMMIT, code })
                }
                _ => self.must_beat = true,
            }
        }
    }

    pub fn handle_answer(&mut self, now: Instant, token: u64, answer: Answer, random: u64) {
        let Some(beat) = self.beat.take_if(|beat| beat.token == token) else { return };
        let response = match answer {
            Answer::Group(response) => response,
            Answer::Unsupported => {
                return self.fail(Problem::Unsupported { api: ApiKey::CONSUMER_GROUP_HEARTBEAT });
            }
            _ => return self.lost_coordinator(now, random),
        };
        if let State::Leaving(_, end) = self.state {
            let code = response.error_code;
            return match code.action(ApiKey::CONSUMER_GROUP_HEARTBEAT) {
                Action::Retry | Action::Refresh => self.common.back_off(now, random),
                Action::FindCoordinator => self.lost_coordinator(now, random),
                // Done, or there is nothing to leave.
                _ => self.ended(end),
            };
        }
        match response.error_code {
            ErrorCode::NONE => self.succeeded(now, beat, response),
            code => self.refused(now, code, random),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.common.not_before.is_some_and(|at| at <= now) {
            self.common.not_before = None;
        }
        if let (State::Leaving(_, end), true) = (self.state, self.common.leave_by.is_some_and(|at| at <= now)) {
            return self.ended(end);
        }
        if self.poll_end().is_some_and(|at| at <= now) {
            self.common.working = None;
            self.common.report(Problem::PollInterval);
            self.lose();
            // At once, whether or not the listener ever returns: others wait for what it has.
            let epoch = if self.config.instance_id.is_some() { LEAVE_FOR_A_WHILE } else { LEAVE };
            self.depart(now, epoch, End::Idle);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        // Overdue or not: nothing goes out before the back-off ends, and to wake for it sooner is to wake without end.
        let allowed = |at: Instant| self.common.not_before.map_or(at, |until| at.max(until));
        let next = self.next_beat.filter(|_| self.can_beat()).map(allowed);
        [self.common.not_before, self.common.leave_by, self.poll_end(), next].into_iter().flatten().min()
    }

    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        if self.common.outputs.is_empty() {
            self.proceed(now);
        }
        self.common.outputs.pop_front()
    }

    /// Does what nothing stands in the way of.
    fn proceed(&mut self, now: Instant) {
        if self.common.is_acknowledged && self.common.changes.is_empty() {
            match self.state {
                State::Stable => self.reconcile(),
                State::Quitting(epoch, end) => self.depart(now, epoch, end),
                _ => {}
            }
        }
        let change = if self.common.is_acknowledged { self.common.next_change() } else { None };
        if let Some(change) = change {
            self.common.is_acknowledged = false;
            return self.common.outputs.push_back(Output::Changed(change));
        }
        if self.common.not_before.is_some_and(|at| at > now) {
            return;
        }
        let is_ready = match self.state {
            State::Joining => self.common.is_acknowledged && self.common.changes.is_empty(),
            State::Stable | State::Quitting(..) | State::Leaving(..) => true,
            State::Out | State::Idle | State::Failed | State::Closed => false,
        };
        match self.common.coordinator {
            Coordinator::Unknown if is_ready => {
                self.common.find_coordinator();
            }
            Coordinator::Known if is_ready && self.beat.is_none() && self.is_due(now) => self.send(now),
            _ => {}
        }
    }

    /// Towards the target: what is gone is given back first, then what is new is taken, and then that is said.
    fn reconcile(&mut self) {
        if self.has_all_and_no_more() {
            // At every wake-up: a look at each partition is all that it costs.
            self.must_beat |= self.is_other_than_said();
            return;
        }
        let gone: Vec<_> = self.held.keys().filter(|partition| !self.target.contains(*partition)).collect();
        let is_new = |partition: &&(Uuid, i32)| !self.held.contains_key(*partition);
        let named = |(id, index): &(Uuid, i32)| {
            self.names.get(id).map(|name| ((*id, *index), TopicPartition::new(Arc::clone(name), *index)))
        };
        let added: Vec<_> = self.target.iter().filter(is_new).filter_map(named).collect();
        if gone.is_empty() && added.is_empty() {
            self.must_beat |= self.is_other_than_said();
            return;
        }
        let revoked: Vec<_> = gone.iter().filter_map(|partition| self.held.get(partition).cloned()).collect();
        let revoking: Held = gone.into_iter().copied().collect();
        for partition in &revoked {
            self.owned.remove(partition);
        }
        if !revoked.is_empty() {
            if bug("given_back_while_the_listener_runs") {
                self.held.retain(|partition, _| !revoking.contains(partition));
            }
            self.revoking = revoking;
            self.common.changes.push_back(Change::Revoked(revoked));
        }
        if !added.is_empty() {
            self.owned.extend(added.iter().map(|(_, partition)| partition.clone()));
            self.common
                .changes
                .push_back(Change::Assigned(added.iter().map(|(_, partition)| partition.clone()).collect()));
            self.held.extend(added);
        }
    }

    /// What is held, and what will be when its name is known.
    fn holds(&self) -> Held {
        let unnamed = self.target.iter().filter(|(id, _)| !self.names.contains_key(id));
        self.held.keys().chain(unnamed).copied().collect()
    }

    fn has_all_and_no_more(&self) -> bool {
        self.held.keys().eq(&self.target)
    }

    fn is_other_than_said(&self) -> bool {
        let on_its_way = self.beat.as_ref().and_then(|beat| beat.said.as_ref());
        let said = on_its_way.unwrap_or(&self.said);
        match self.has_all_and_no_more() {
            _ if bug("never_says_what_is_left") => false,
            true => !self.held.keys().eq(said),
            false => self.holds() != *said,
        }
    }

    fn can_beat(&self) -> bool {
        let is_member = matches!(self.state, State::Stable | State::Quitting(..)) && self.epoch > 0;
        is_member && self.beat.is_none() && self.common.coordinator == Coordinator::Known
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.state {
            State::Joining | State::Leaving(..) => true,
            _ => self.can_beat() && (self.must_beat || self.next_beat.is_none_or(|at| at <= now)),
        }
    }

    fn send(&mut self, now: Instant) {
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: Arc::clone(&self.config.group),
            member_id: Arc::clone(&self.member_id),
            member_epoch: self.epoch,
            instance_id: self.config.instance_id.clone(),
            ..Default::default()
        };
        let mut said = None;
        if let State::Leaving(epoch, _) = self.state {
            request.member_epoch = epoch;
        } else {
            if self.is_full {
                request.rack_id = self.config.rack.clone();
                request.rebalance_timeout_ms =
                    i32::try_from(self.config.max_poll_interval.as_millis()).unwrap_or(i32::MAX);
                request.server_assignor = self.config.assignor.clone();
            }
            if self.is_full || self.has_new_subscription {
                request.subscribed_topic_names = Some(self.topics.iter().cloned().collect());
                // An empty one takes back an earlier one. A broker of v0 knows none: who never had one says nothing.
                self.had_regex = self.regex.is_some() || (self.had_regex && self.epoch > 0);
                request.subscribed_topic_regex = self.regex.clone().or_else(|| self.had_regex.then(Arc::default));
            }
            if self.is_full || self.is_other_than_said() {
                let holds = self.holds();
                request.topic_partitions = Some(by_topic(&holds));
                said = Some(holds);
            }
            self.has_new_subscription = false;
            self.must_beat = false;
        }
        let token = self.common.send(Call::Group(request), self.config.request_timeout);
        self.beat = Some(Beat { token, said });
        self.next_beat = Some(now + self.interval);
    }

    fn succeeded(&mut self, now: Instant, beat: Beat, response: ConsumerGroupHeartbeatResponse) {
        self.common.backoff.reset();
        self.common.reported = None;
        self.is_full = false;
        self.epoch = response.member_epoch;
        if self.state == State::Joining {
            self.state = State::Stable;
        }
        if let Some(said) = beat.said {
            self.said = said;
        }
        let interval = u64::try_from(response.heartbeat_interval_ms).unwrap_or_default();
        self.interval =
            if interval > 0 && !bug("heartbeats_at_its_own_pace") { Duration::from_millis(interval) } else { INTERVAL };
        self.next_beat = self.next_beat.map(|_| now + self.interval);
        if let Some(assignment) = response.assignment {
            let all = assignment.topic_partitions.into_iter();
            let of = |topic: TopicPartitions| {
                let id = topic.topic_id;
                topic.partitions.into_iter().filter(|index| *index >= 0).map(move |index| (id, index))
            };
            self.target = all.flat_map(of).collect();
            self.names.retain(|id, _| self.target.iter().any(|(wanted, _)| wanted == id));
        }
        let unknown = self.target.iter().map(|(id, _)| *id).filter(|id| !self.names.contains_key(id));
        let unknown: BTreeSet<_> = unknown.collect();
        if !unknown.is_empty() && self.state == State::Stable && !bug("never_asks_for_names") {
            self.common.outputs.push_back(Output::Resolve(unknown));
        }
    }

    fn refused(&mut self, now: Instant, code: ErrorCode, random: u64) {
        // Whatever it was that did not come through, the next one says all.
        self.is_full = !bug("refused_and_says_little");
        let problem = Problem::Refused { api: ApiKey::CONSUMER_GROUP_HEARTBEAT, code };
        match code {
            ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::STALE_MEMBER_EPOCH => self.lose(),
            ErrorCode::UNKNOWN_MEMBER_ID => {
                self.common.outputs.push_back(Output::NeedMemberId);
                if !bug("unknown_and_owns_on") {
                    self.lose();
                }
            }
            // Held by the member that it was before, until that one's session ends; or by another one that lives.
            ErrorCode::UNRELEASED_INSTANCE_ID if self.epoch == 0 => {
                self.common.report(problem);
                self.common.back_off(now, random);
            }
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
                self.common.report(problem);
                self.common.back_off(now, random);
            }
            code => match code.action(ApiKey::CONSUMER_GROUP_HEARTBEAT) {
                Action::Retry | Action::Refresh => self.common.back_off(now, random),
                Action::FindCoordinator => self.lost_coordinator(now, random),
                _ => self.fail(problem),
            },
        }
        self.must_beat = true;
    }

    /// All is lost, and to be told before the group is joined anew, under the same id in epoch 0.
    fn lose(&mut self) {
        let lost = self.common.take_unheard(std::mem::take(&mut self.owned));
        if !lost.is_empty() {
            self.common.changes.push_back(Change::Lost(lost.into_iter().collect()));
        }
        if !bug("fenced_and_commits_on") {
            self.held.clear();
        }
        self.revoking.clear();
        self.target.clear();
        self.said.clear();
        (self.epoch, self.is_full, self.next_beat) = (0, true, None);
        if self.state == State::Stable {
            self.state = State::Joining;
        }
    }

    fn fail(&mut self, problem: Problem) {
        self.state = State::Failed;
        self.lose();
        self.common.outputs.push_back(Output::Failed(problem));
    }

    fn quit(&mut self, epoch: i32, end: End) {
        let revoked: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        if !revoked.is_empty() {
            // What was assigned and the listener has not heard of, it need not hear of.
            let unheard = self.common.changes.iter().filter_map(|change| match change {
                Change::Assigned(assigned) => Some(assigned.clone()),
                _ => None,
            });
            let unheard: BTreeSet<_> = unheard.flatten().collect();
            self.common.changes.retain(|change| !matches!(change, Change::Assigned(_)));
            let heard: Vec<_> = revoked.into_iter().filter(|partition| !unheard.contains(partition)).collect();
            if !heard.is_empty() {
                self.common.changes.push_back(Change::Revoked(heard));
            }
        }
        self.state = State::Quitting(epoch, end);
    }

    /// Says that it leaves, if there is something to leave.
    fn depart(&mut self, now: Instant, epoch: i32, end: End) {
        self.held.clear();
        let is_known = self.epoch > 0 || self.state != State::Quitting(epoch, end) || self.beat.is_some();
        if epoch < 0 && is_known {
            self.state = State::Leaving(epoch, end);
            (self.beat, self.common.not_before, self.common.leave_by) =
                (None, None, Some(now + self.config.request_timeout));
        } else {
            self.ended(end);
        }
    }

    fn ended(&mut self, end: End) {
        (self.epoch, self.is_full, self.next_beat, self.common.leave_by, self.beat) = (0, true, None, None, None);
        self.target.clear();
        self.said.clear();
        match end {
            End::Idle => self.state = State::Idle,
            End::Closed => {
                self.state = State::Closed;
                self.common.outputs.push_back(Output::Closed);
            }
            End::Out => self.state = if self.is_subscribed() { State::Joining } else { State::Out },
        }
    }

    fn is_subscribed(&self) -> bool {
        !self.topics.is_empty() || self.regex.is_some()
    }

    fn lost_coordinator(&mut self, now: Instant, random: u64) {
        self.common.coordinator = Coordinator::Unknown;
        (self.beat, self.is_full, self.must_beat) = (None, !bug("lost_and_says_little"), true);
        self.common.back_off(now, random);
    }

    fn poll_end(&self) -> Option<Instant> {
        // Who closes polls no more.
        let is_in = !bug("works_for_ever")
            && matches!(self.state, State::Joining | State::Stable | State::Quitting(_, End::Out));
        self.common.working.filter(|_| is_in).map(|since| since + self.config.max_poll_interval)
    }
}

pub(super) fn by_topic(held: &Held) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, index) in held {
        topics.entry(*id).or_default().push(*index);
    }
    let topics = topics.into_iter();
    topics.map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions, ..Default::default() }).collect()
}

#[cfg(test)]
mod tests;
