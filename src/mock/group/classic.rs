//! The members of a group under the classic protocol, and what becomes of them: pure, on the cluster's clock.
//!
//! ```text
//!            first join                 all joined, or time is up           the leader's assignments
//!   Empty ──────────────▶ Preparing ──────────────────────────▶ Completing ──────────────────────────▶ Stable
//!     ▲                      ▲  └─ nobody joined ─▶ Empty            │ a member comes, goes, or changes      │
//!     └──────────────────────┴───────────────────────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! Nothing runs in the background: whatever was due by now happens when somebody looks ([`Classic::pass_time`]), as if it
//! had happened when it was due. Who waits for an answer holds a ticket for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::{Decodable, Message};

use crate::mock::api::KafkaRelease;

/// The type of the protocol that consumers speak.
pub(super) const CONSUMER: &str = "consumer";

/// Kafka's `group.initial.rebalance.delay.ms` is none here: the first member of a group waits for nobody.
#[derive(Clone, Debug, Default)]
pub(in crate::mock) struct Classic {
    protocol_type: Option<String>,
    generation: i32,
    /// What the members of this generation have agreed on.
    protocol: Option<String>,
    leader: Option<String>,
    phase: Phase,
    members: BTreeMap<String, Member>,
    /// Ids that were given to those who have to join again with them, and until when.
    promised: BTreeMap<String, Duration>,
    /// The member behind each instance id.
    instances: BTreeMap<String, String>,
    answers: BTreeMap<Ticket, Answer>,
    next_ticket: Ticket,
    release: KafkaRelease,
    /// A coordinator has just read the group from its log, and gives every member its time anew.
    is_loaded: bool,
    /// What the log of a coordinator holds: the group as it was when it was last stable, or empty.
    logged: Option<Box<Self>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Empty,
    /// Members join, until then.
    Preparing(Duration),
    /// Members wait for the leader's assignments, until then.
    Completing(Duration),
    Stable,
}

#[derive(Clone, Debug)]
struct Member {
    instance: Option<String>,
    client_id: String,
    session: Duration,
    rebalance: Duration,
    protocols: Vec<(String, Bytes)>,
    waits: Waits,
    /// The generation that it joined last.
    generation: i32,
    assignment: Bytes,
    /// When its session ends, unless it waits for an answer.
    until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    No,
    Join(Ticket),
    Sync(Ticket),
}

/// What somebody who waits will get an answer by.
pub(in crate::mock) type Ticket = u64;

#[derive(Clone, Debug)]
enum Answer {
    Join(Result<Joined, ResponseError>),
    Sync(Result<Synced, ResponseError>),
}

/// Either now, or when all have come.
#[derive(Debug)]
pub(in crate::mock) enum Step<T> {
    Done(T),
    Wait(Ticket),
}

/// Who wants to join.
#[derive(Clone, Debug)]
pub(in crate::mock) struct Join {
    pub(in crate::mock) member_id: String,
    pub(in crate::mock) instance: Option<String>,
    pub(in crate::mock) client_id: String,
    pub(in crate::mock) session: Duration,
    pub(in crate::mock) rebalance: Duration,
    pub(in crate::mock) protocol_type: String,
    pub(in crate::mock) protocols: Vec<(String, Bytes)>,
    /// The id that a new member gets.
    pub(in crate::mock) new_id: String,
    /// A new member has to come again with the id that it was given (KIP-394).
    pub(in crate::mock) come_again: bool,
    /// A leader that comes back may be told to leave the assignment as it is (KIP-814).
    pub(in crate::mock) may_skip: bool,
}

/// A member of the generation that begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mock) struct Joined {
    pub(in crate::mock) generation: i32,
    pub(in crate::mock) protocol_type: Option<String>,
    pub(in crate::mock) protocol: Option<String>,
    pub(in crate::mock) leader: String,
    pub(in crate::mock) member_id: String,
    pub(in crate::mock) skip_assignment: bool,
    /// Id, instance and metadata of all, for the leader.
    pub(in crate::mock) members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mock) struct Synced {
    pub(in crate::mock) protocol_type: Option<String>,
    pub(in crate::mock) protocol: Option<String>,
    pub(in crate::mock) assignment: Bytes,
}

/// A refusal, and the member id that goes with it.
pub(in crate::mock) type Refused = (ResponseError, String);

/// Who says so.
#[derive(Clone, Copy, Debug)]
pub(in crate::mock) struct Caller<'a> {
    pub(in crate::mock) member_id: &'a str,
    pub(in crate::mock) instance: Option<&'a str>,
    pub(in crate::mock) generation: i32,
}

/// A member as administrators see it.
#[derive(Debug)]
pub(in crate::mock) struct Described {
    pub(in crate::mock) member_id: String,
    pub(in crate::mock) instance: Option<String>,
    pub(in crate::mock) client_id: String,
    pub(in crate::mock) metadata: Bytes,
    pub(in crate::mock) assignment: Bytes,
}

impl Classic {
    /// As coordinators of this release have it.
    pub(in crate::mock) fn of(release: KafkaRelease) -> Self {
        Self { release, ..Self::default() }
    }

    /// The group is forgotten, and may begin anew. What has been answered and not been fetched yet is kept: somebody waits.
    pub(in crate::mock) fn forget(&mut self) {
        let answers = std::mem::take(&mut self.answers);
        *self = Self { answers, next_ticket: self.next_ticket, ..Self::of(self.release) };
    }

    /// Kafka's name of the state.
    pub(in crate::mock) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Empty => "Empty",
            Phase::Preparing(_) => "PreparingRebalance",
            Phase::Completing(_) => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// Empty until somebody has joined.
    pub(in crate::mock) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// The protocol of the group, and its members; what they agreed on, and what they said of themselves, is shown of a
    /// stable group only.
    pub(in crate::mock) fn described(&self) -> (&str, Vec<Described>) {
        let is_stable = self.phase == Phase::Stable;
        // The coordinator that was written anew for 4.0 shows what was assigned last.
        let shows_old = self.release >= KafkaRelease::V4_0;
        let protocol = self.protocol.as_deref().filter(|_| is_stable).unwrap_or_default();
        let described = |(id, member): (&String, &Member)| Described {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            metadata: if is_stable { member.metadata(protocol) } else { Bytes::new() },
            assignment: if is_stable || shows_old { member.assignment.clone() } else { Bytes::new() },
        };
        (protocol, self.members.iter().map(described).collect())
    }

    /// Whether a member subscribes to a topic, as far as the coordinator can read what it said.
    pub(in crate::mock) fn is_subscribed(&self, topic: &str) -> bool {
        if self.protocol_type() != CONSUMER || self.members.is_empty() {
            return false;
        }
        let subscribed = |member: &Member| {
            let mut metadata = member.metadata(self.protocol.as_deref()?);
            let version = metadata.try_get_i16().ok()?.min(ConsumerProtocolSubscription::VERSIONS.max);
            let subscription = ConsumerProtocolSubscription::decode(&mut metadata, version).ok()?;
            Some(subscription.topics.iter().any(|subscribed| **subscribed == *topic))
        };
        let all: Option<Vec<bool>> = self.members.values().map(subscribed).collect();
        all.is_none_or(|all| all.contains(&true))
    }

    // ---- what members ask ------------------------------------------------------------------------------------------

    pub(in crate::mock) fn join(&mut self, now: Duration, join: Join) -> Result<Step<Joined>, Refused> {
        self.pass_time(now);
        let refused = |error| (error, join.member_id.clone());
        if !self.suits(&join) {
            return Err(refused(ResponseError::InconsistentGroupProtocol));
        }
        if join.member_id.is_empty() {
            return self.join_first(now, join);
        }
        if self.promised.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            return Ok(self.enter(now, id, join));
        }
        self.known(&join.member_id, join.instance.as_deref()).map_err(refused)?;
        let id = join.member_id.clone();
        let changed = self.members.get(&id).is_some_and(|member| member.protocols != join.protocols);
        let leads = self.leader.as_ref() == Some(&id);
        let again = match self.phase {
            Phase::Preparing(_) => true,
            // The answer has got lost.
            Phase::Completing(_) => changed,
            // A leader that joins has seen something, and a member that stays as it is asks in vain.
            Phase::Stable => changed || leads,
            Phase::Empty => return Err(refused(ResponseError::UnknownMemberId)),
        };
        if !again {
            self.refresh(now, &id);
            return Ok(Step::Done(self.joined(&id)));
        }
        Ok(self.come_back(now, &id, join))
    }

    /// Somebody without a member id.
    fn join_first(&mut self, now: Duration, join: Join) -> Result<Step<Joined>, Refused> {
        let known = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        let id = join.new_id.clone();
        match known {
            Some(old) => Ok(self.replace(now, &old, id, join)),
            None if join.instance.is_none() && join.come_again => {
                self.promised.insert(id.clone(), now + join.session);
                Err((ResponseError::MemberIdRequired, id))
            }
            None => Ok(self.enter(now, id, join)),
        }
    }

    pub(in crate::mock) fn sync(
        &mut self,
        now: Duration,
        caller: Caller<'_>,
        protocol: (Option<&str>, Option<&str>),
        assignments: impl IntoIterator<Item = (String, Bytes)>,
    ) -> Result<Step<Synced>, ResponseError> {
        self.pass_time(now);
        self.check(caller)?;
        let differs =
            |said: Option<&str>, known: &Option<String>| said.is_some_and(|said| known.as_deref() != Some(said));
        if differs(protocol.0, &self.protocol_type) || differs(protocol.1, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing(_) => Err(ResponseError::RebalanceInProgress),
            Phase::Stable => {
                self.refresh(now, caller.member_id);
                Ok(Step::Done(self.synced(caller.member_id)))
            }
            Phase::Completing(_) => {
                let ticket = self.ticket();
                if let Some(member) = self.members.get_mut(caller.member_id) {
                    member.waits = Waits::Sync(ticket);
                }
                if self.leader.as_deref() == Some(caller.member_id) {
                    self.assign(now, assignments.into_iter().collect());
                }
                Ok(Step::Wait(ticket))
            }
        }
    }

    pub(in crate::mock) fn heartbeat(&mut self, now: Duration, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.pass_time(now);
        self.check(caller)?;
        self.refresh(now, caller.member_id);
        match self.phase {
            Phase::Empty => Err(ResponseError::UnknownMemberId),
            Phase::Preparing(_) => Err(ResponseError::RebalanceInProgress),
            Phase::Completing(_) | Phase::Stable => Ok(()),
        }
    }

    /// A member leaves; by its instance id alone, if that is all that is given (KIP-345).
    pub(in crate::mock) fn leave(
        &mut self,
        now: Duration,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        self.pass_time(now);
        if instance.is_none() && self.promised.remove(member_id).is_some() {
            self.try_complete_join(now);
            return Ok(());
        }
        let id = match instance.and_then(|instance| self.instances.get(instance)) {
            Some(id) if member_id.is_empty() => id.clone(),
            _ => member_id.to_owned(),
        };
        self.known(&id, instance)?;
        self.remove(now, &id);
        Ok(())
    }

    /// Whether this caller may commit offsets now.
    pub(in crate::mock) fn may_commit(
        &mut self,
        now: Duration,
        caller: Caller<'_>,
        in_transaction: bool,
    ) -> Result<(), ResponseError> {
        self.pass_time(now);
        let is_nobody = caller.member_id.is_empty() && caller.instance.is_none();
        if caller.generation < 0 && self.phase == Phase::Empty {
            return Ok(()); // a consumer that assigns partitions to itself
        }
        if caller.generation < 0 && is_nobody {
            // A transaction's offsets need no member (before KIP-447).
            return if in_transaction { Ok(()) } else { Err(ResponseError::UnknownMemberId) };
        }
        self.check(caller)?;
        if matches!(self.phase, Phase::Completing(_)) && !in_transaction {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.refresh(now, caller.member_id);
        Ok(())
    }

    pub(in crate::mock) fn take_joined(&mut self, ticket: Ticket) -> Option<Result<Joined, ResponseError>> {
        match self.answers.remove(&ticket)? {
            Answer::Join(joined) => Some(joined),
            Answer::Sync(_) => None,
        }
    }

    pub(in crate::mock) fn take_synced(&mut self, ticket: Ticket) -> Option<Result<Synced, ResponseError>> {
        match self.answers.remove(&ticket)? {
            Answer::Sync(synced) => Some(synced),
            Answer::Join(_) => None,
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// When something is due next.
    pub(in crate::mock) fn next_due(&self) -> Option<Duration> {
        let phase = match self.phase {
            Phase::Preparing(until) | Phase::Completing(until) => Some(until),
            Phase::Empty | Phase::Stable => None,
        };
        let sessions = self.members.values().filter(|member| member.waits == Waits::No).map(|member| member.until);
        phase.into_iter().chain(sessions).chain(self.promised.values().copied()).min()
    }

    /// What was due by now happens, one thing after the other.
    pub(in crate::mock) fn pass_time(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_loaded) {
            self.members.values_mut().for_each(|member| member.until = now + member.session);
        }
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            self.ring(due);
        }
    }

    fn ring(&mut self, due: Duration) {
        self.promised.retain(|_, until| *until > due);
        match self.phase {
            Phase::Preparing(until) if until <= due => return self.complete_join(due),
            Phase::Completing(until) if until <= due => {
                let current = self.generation;
                let late = self.ids(|member| member.generation == current && !matches!(member.waits, Waits::Sync(_)));
                return late.iter().for_each(|id| self.remove(due, id));
            }
            _ => {}
        }
        let silent = self.ids(|member| member.waits == Waits::No && member.until <= due);
        silent.iter().for_each(|id| self.remove(due, id));
        self.try_complete_join(due);
    }

    /// The coordinator is another, or the same after a new start: it knows what is in the log. Who waits hears nothing.
    pub(in crate::mock) fn move_coordinator(&mut self) {
        let logged = self.logged.take();
        let (next_ticket, release) = (self.next_ticket, self.release);
        *self = logged.map_or_else(|| Self::of(release), |logged| *logged);
        (self.next_ticket, self.is_loaded) = (next_ticket, true);
        self.log();
    }

    // ---- inside ----------------------------------------------------------------------------------------------------

    fn ids(&self, which: impl Fn(&Member) -> bool) -> BTreeSet<String> {
        self.members.iter().filter(|(_, member)| which(member)).map(|(id, _)| id.clone()).collect()
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn log(&mut self) {
        self.logged = None;
        let mut logged = self.clone();
        logged.answers.clear();
        logged.promised.clear();
        logged.members.values_mut().for_each(|member| member.waits = Waits::No);
        self.logged = Some(Box::new(logged));
    }

    /// Whether a member is of the group's type, and knows a protocol that all know.
    fn suits(&self, join: &Join) -> bool {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        let others = || {
            self.members.iter().filter(|(id, member)| {
                let is_itself =
                    **id == join.member_id || (member.instance.is_some() && member.instance == join.instance);
                !is_itself
            })
        };
        if others().next().is_none() {
            return true;
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join.protocols.iter().any(|(name, _)| others().all(|(_, member)| member.knows(name)))
    }

    /// Whether there is such a member, with this instance id.
    fn known(&self, member_id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        match instance.map(|instance| self.instances.get(instance)) {
            Some(Some(id)) if id != member_id => return Err(ResponseError::FencedInstanceId),
            Some(None) if self.release > KafkaRelease::V2_8 => return Err(ResponseError::UnknownMemberId),
            _ => {}
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ResponseError::UnknownMemberId) }
    }

    fn check(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.known(caller.member_id, caller.instance)?;
        if caller.generation == self.generation { Ok(()) } else { Err(ResponseError::IllegalGeneration) }
    }

    fn refresh(&mut self, now: Duration, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.until = now + member.session;
        }
    }

    /// A new member.
    fn enter(&mut self, now: Duration, id: String, join: Join) -> Step<Joined> {
        let ticket = self.ticket();
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            instance: join.instance,
            client_id: join.client_id,
            session: join.session,
            rebalance: join.rebalance,
            protocols: join.protocols,
            waits: Waits::Join(ticket),
            generation: -1,
            assignment: Bytes::new(),
            until: now + join.session,
        };
        self.members.insert(id, member);
        self.prepare(now);
        Step::Wait(ticket)
    }

    /// A member that is known joins again.
    fn come_back(&mut self, now: Duration, id: &str, join: Join) -> Step<Joined> {
        let ticket = self.ticket();
        if let Some(member) = self.members.get_mut(id) {
            member.client_id = join.client_id;
            (member.session, member.rebalance) = (join.session, join.rebalance);
            member.protocols = join.protocols;
            member.waits = Waits::Join(ticket);
        }
        self.prepare(now);
        Step::Wait(ticket)
    }

    /// A static member is back, under a new id. If the group is stable, it stays so.
    fn replace(&mut self, now: Duration, old: &str, id: String, join: Join) -> Step<Joined> {
        let Some(mut member) = self.members.remove(old) else { return self.enter(now, id, join) };
        match std::mem::replace(&mut member.waits, Waits::No) {
            Waits::Join(ticket) => _ = self.answers.insert(ticket, Answer::Join(Err(ResponseError::FencedInstanceId))),
            Waits::Sync(ticket) => _ = self.answers.insert(ticket, Answer::Sync(Err(ResponseError::FencedInstanceId))),
            Waits::No => {}
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let led = self.leader.as_deref() == Some(old);
        if led {
            self.leader = Some(id.clone());
        }
        let may_skip = join.may_skip;
        (member.client_id, member.protocols) = (join.client_id.clone(), join.protocols.clone());
        (member.session, member.rebalance) = (join.session, join.rebalance);
        self.members.insert(id.clone(), member);
        self.refresh(now, &id);
        if self.phase != Phase::Stable || self.vote() != self.protocol {
            return self.come_back(now, &id, join);
        }
        self.log();
        let mut joined = self.joined(&id);
        if led && may_skip {
            joined.skip_assignment = true;
        } else if led {
            // Who is not the leader does not assign: it is told of the id that it had.
            (joined.leader, joined.members) = (old.to_owned(), Vec::new());
        }
        Step::Done(joined)
    }

    fn remove(&mut self, now: Duration, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        let unknown = ResponseError::UnknownMemberId;
        match member.waits {
            Waits::Join(ticket) => _ = self.answers.insert(ticket, Answer::Join(Err(unknown))),
            Waits::Sync(ticket) => _ = self.answers.insert(ticket, Answer::Sync(Err(unknown))),
            Waits::No => {}
        }
        if let Some(instance) = member.instance {
            self.instances.remove(&instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.prepare(now);
    }

    /// A rebalance begins, unless one is under way.
    fn prepare(&mut self, now: Duration) {
        let before = self.phase;
        if !matches!(before, Phase::Preparing(_)) {
            for member in self.members.values_mut() {
                if matches!(before, Phase::Completing(_)) {
                    member.assignment.clear();
                }
                if let Waits::Sync(ticket) = member.waits {
                    member.waits = Waits::No;
                    member.until = now + member.session;
                    self.answers.insert(ticket, Answer::Sync(Err(ResponseError::RebalanceInProgress)));
                }
            }
            let longest = self.members.values().map(|member| member.rebalance).max().unwrap_or_default();
            self.phase = Phase::Preparing(now + longest);
        }
        if before == Phase::Empty { self.complete_join(now) } else { self.try_complete_join(now) }
    }

    fn try_complete_join(&mut self, now: Duration) {
        let all_here = self.members.values().all(|member| matches!(member.waits, Waits::Join(_)));
        if matches!(self.phase, Phase::Preparing(_)) && all_here && self.promised.is_empty() {
            self.complete_join(now);
        }
    }

    /// Time is up, or all are here: who has not joined is out, but for static members.
    fn complete_join(&mut self, now: Duration) {
        let joined = |member: &Member| matches!(member.waits, Waits::Join(_));
        self.members.retain(|_, member| joined(member) || member.instance.is_some());
        if self.members.is_empty() {
            self.generation += 1;
            (self.phase, self.protocol, self.leader) = (Phase::Empty, None, None);
            return self.log();
        }
        let longest = self.members.values().map(|member| member.rebalance).max().unwrap_or_default();
        let leads = self.leader.as_ref().is_some_and(|id| self.members.get(id).is_some_and(joined));
        if !leads {
            let first = self.members.iter().find(|(_, member)| joined(member)).map(|(id, _)| id.clone());
            let Some(first) = first else {
                self.phase = Phase::Preparing(now + longest);
                return;
            };
            self.leader = Some(first);
        }
        self.generation += 1;
        self.protocol = self.vote();
        self.phase = Phase::Completing(now + longest);
        for id in self.ids(joined) {
            let answer = Answer::Join(Ok(self.joined(&id)));
            let Some(member) = self.members.get_mut(&id) else { continue };
            (member.generation, member.until) = (self.generation, now + member.session);
            if let Waits::Join(ticket) = std::mem::replace(&mut member.waits, Waits::No) {
                self.answers.insert(ticket, answer);
            }
        }
    }

    /// The leader has assigned.
    fn assign(&mut self, now: Duration, mut assignments: BTreeMap<String, Bytes>) {
        self.phase = Phase::Stable;
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        for id in self.ids(|member| matches!(member.waits, Waits::Sync(_))) {
            let answer = Answer::Sync(Ok(self.synced(&id)));
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.until = now + member.session;
            if let Waits::Sync(ticket) = std::mem::replace(&mut member.waits, Waits::No) {
                self.answers.insert(ticket, answer);
            }
        }
        self.log();
    }

    /// What most members like best, of what all of them know.
    fn vote(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let common = |name: &str| self.members.values().all(|other| other.knows(name));
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| common(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    fn joined(&self, id: &str) -> Joined {
        let protocol = self.protocol.clone();
        let leader = self.leader.clone().unwrap_or_default();
        let name = protocol.as_deref().unwrap_or_default();
        let members = self.members.iter().filter(|_| leader == id);
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            members: members.map(|(id, member)| (id.clone(), member.instance.clone(), member.metadata(name))).collect(),
            protocol,
            leader,
            member_id: id.to_owned(),
            skip_assignment: false,
        }
    }

    fn synced(&self, id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }
}

impl Member {
    fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It hears of it after the group was deleted: whoever waits holds a ticket of the old one.
    #[test]
    fn who_waits_gets_an_answer_from_a_group_that_is_forgotten() {
        let mut group = Classic::of(KafkaRelease::V4_1);
        let join = |id: &str| Join {
            member_id: String::new(),
            instance: None,
            client_id: "c".to_owned(),
            session: Duration::from_secs(10),
            rebalance: Duration::from_secs(60),
            protocol_type: CONSUMER.to_owned(),
            protocols: vec![("range".to_owned(), Bytes::new())],
            new_id: id.to_owned(),
            come_again: false,
            may_skip: false,
        };
        let ticket = |group: &mut Classic, id: &str| match group.join(Duration::ZERO, join(id)) {
            Ok(Step::Wait(ticket)) => ticket,
            other => panic!("{other:?}"),
        };
        let (first, second) = (ticket(&mut group, "a"), ticket(&mut group, "b"));
        for id in ["b", "a"] {
            group.leave(Duration::ZERO, id, None).unwrap();
        }
        assert_eq!(group.state(), "Empty");
        group.forget();
        assert_eq!(group.protocol_type(), "");
        let third = ticket(&mut group, "c");
        assert!(group.take_joined(first).is_some_and(|joined| joined.is_ok()));
        assert_eq!(group.take_joined(second), Some(Err(ResponseError::UnknownMemberId)));
        assert_eq!(group.take_joined(third).map(|joined| joined.map(|joined| joined.generation)), Some(Ok(1)));
    }
}
