//! The members of a group under KIP-848, whose coordinator assigns: pure, on the cluster's clock. The rules are those of
//! Kafka 4.3's `GroupMetadataManager`.
//!
//! ```text
//!   a member comes, goes or subscribes anew, a topic changes          the assignor               the members' heartbeats
//!        group epoch + 1  ─────────────────────────────▶  target of that epoch  ─────────────▶  member epochs follow
//! ```
//! As with the [classic](super::classic) protocol nothing runs in the background: what was due by now happens when somebody
//! looks.

mod assignor;
mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use regex_lite::Regex;

pub(super) use assignor::Assignor;
use assignor::{Subscriber, assign};
pub(in crate::mock) use member::Partition;
use member::{Goal, Member, Phase, Since};
pub(super) use member::{LEAVES, LEAVES_FOR_NOW};

use super::classic::Caller;
use crate::mock::api::KafkaRelease;
use crate::mock::state::Refusal;
use crate::mock::topic::{Topic, TopicId};

/// How soon after the last time expressions are matched with topics again.
const REMATCHED: Duration = Duration::from_secs(10);

/// What brokers are configured with.
#[derive(Clone, Copy, Debug)]
pub(in crate::mock) struct Timing {
    /// `group.consumer.session.timeout.ms`.
    pub(in crate::mock) session: Duration,
    /// `group.consumer.heartbeat.interval.ms`.
    pub(in crate::mock) heartbeat: Duration,
    /// `group.consumer.assignment.interval.ms` (KIP-1263).
    pub(in crate::mock) assignment: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { session: Duration::from_secs(45), heartbeat: Duration::from_secs(5), assignment: Duration::from_secs(1) }
    }
}

/// The topics of the cluster, as coordinators know them.
#[derive(Clone, Copy, Debug)]
pub(in crate::mock) struct Topics<'a> {
    pub(in crate::mock) by_name: &'a BTreeMap<String, Topic>,
    /// How many were ever made.
    pub(in crate::mock) created: usize,
}

impl Topics<'_> {
    fn find(&self, name: &str) -> Option<(TopicId, i32)> {
        let topic = self.by_name.get(name)?;
        Some((topic.id, i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX)))
    }
}

#[derive(Debug)]
pub(in crate::mock) struct Consumer {
    group: String,
    release: KafkaRelease,
    timing: Timing,
    epoch: i32,
    target_epoch: i32,
    /// When the last target was made.
    assigned_at: Option<Duration>,
    target: BTreeMap<String, BTreeSet<Partition>>,
    members: BTreeMap<String, Member>,
    /// The member behind each instance id.
    instances: BTreeMap<String, String>,
    expressions: BTreeMap<String, Matches>,
    /// The topics that the group subscribes to, as they were when its epoch changed.
    known: BTreeMap<String, (TopicId, i32)>,
    /// A coordinator has just read the group from its log, and gives every member its time anew.
    is_loaded: bool,
}

/// The topics that an expression stands for.
#[derive(Clone, Debug)]
struct Matches {
    topics: BTreeSet<String>,
    at: Duration,
    /// How many topics had been made by then.
    created: usize,
}

/// A heartbeat; `None` where the member says nothing new.
#[derive(Clone, Debug, Default)]
pub(in crate::mock) struct Beat {
    pub(in crate::mock) member_id: String,
    pub(in crate::mock) epoch: i32,
    pub(in crate::mock) instance: Option<String>,
    pub(in crate::mock) rack: Option<String>,
    pub(in crate::mock) client_id: String,
    pub(in crate::mock) rebalance: Option<Duration>,
    pub(in crate::mock) names: Option<BTreeSet<String>>,
    pub(in crate::mock) regex: Option<String>,
    pub(in crate::mock) assignor: Option<Assignor>,
    pub(in crate::mock) owned: Option<BTreeSet<Partition>>,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mock) struct Told {
    pub(in crate::mock) epoch: i32,
    /// Zero when it has left.
    pub(in crate::mock) heartbeat: Duration,
    /// Said when it has changed, or when the member has said all of itself.
    pub(in crate::mock) assigned: Option<BTreeSet<Partition>>,
}

/// A group as administrators see it.
#[derive(Debug)]
pub(in crate::mock) struct DescribedConsumers {
    pub(in crate::mock) epoch: i32,
    pub(in crate::mock) target_epoch: i32,
    pub(in crate::mock) assignor: Assignor,
    pub(in crate::mock) members: Vec<DescribedConsumer>,
}

#[derive(Debug)]
pub(in crate::mock) struct DescribedConsumer {
    pub(in crate::mock) member_id: String,
    pub(in crate::mock) instance: Option<String>,
    pub(in crate::mock) rack: Option<String>,
    pub(in crate::mock) client_id: String,
    pub(in crate::mock) epoch: i32,
    pub(in crate::mock) names: BTreeSet<String>,
    pub(in crate::mock) regex: String,
    pub(in crate::mock) assigned: BTreeSet<Partition>,
    pub(in crate::mock) target: BTreeSet<Partition>,
}

impl Consumer {
    pub(in crate::mock) fn new(group: &str, release: KafkaRelease, timing: Timing) -> Self {
        let has_interval = release >= KafkaRelease::V4_1;
        let first = i32::from(has_interval);
        Self {
            group: group.to_owned(),
            release,
            timing: if has_interval { timing } else { Timing { assignment: Duration::ZERO, ..timing } },
            epoch: first,
            target_epoch: first,
            assigned_at: None,
            target: BTreeMap::new(),
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            expressions: BTreeMap::new(),
            known: BTreeMap::new(),
            is_loaded: false,
        }
    }

    /// Kafka's name of the state.
    pub(in crate::mock) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_at(self.target_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(in crate::mock) fn described(&self) -> DescribedConsumers {
        let described = |(id, member): (&String, &Member)| DescribedConsumer {
            member_id: id.clone(),
            instance: member.instance.clone(),
            rack: member.rack.clone(),
            client_id: member.client_id.clone(),
            epoch: member.epoch,
            names: member.names.clone(),
            regex: member.regex.clone(),
            assigned: member.assigned.keys().chain(member.revoking.keys()).copied().collect(),
            target: self.target.get(id).cloned().unwrap_or_default(),
        };
        DescribedConsumers {
            epoch: self.epoch,
            target_epoch: self.target_epoch,
            assignor: self.assignor(),
            members: self.members.iter().map(described).collect(),
        }
    }

    /// Whether anybody subscribes to a topic, by its name or an expression.
    pub(in crate::mock) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscriptions().contains(topic)
    }

    // ---- what members ask ------------------------------------------------------------------------------------------

    pub(in crate::mock) fn heartbeat(
        &mut self,
        now: Duration,
        beat: Beat,
        topics: Topics<'_>,
    ) -> Result<Told, Refusal> {
        self.pass_time(now);
        if beat.epoch == LEAVES || beat.epoch == LEAVES_FOR_NOW {
            return self.leave(&beat);
        }
        let known = self.find(&beat)?;
        self.check_expression(known.as_deref(), &beat)?;
        let before = self.enter(known, &beat);
        let id = beat.member_id;
        let Some(member) = self.members.get_mut(&id) else { unreachable!("it has just come in") };
        let (names, regex) = (member.names.clone(), member.regex.clone());
        let full = beat.rebalance.is_some() && (beat.names.is_some() || beat.regex.is_some()) && beat.owned.is_some();
        member.instance = beat.instance.or_else(|| member.instance.take());
        member.rack = beat.rack.or_else(|| member.rack.take());
        member.rebalance = beat.rebalance.unwrap_or(member.rebalance);
        member.assignor = beat.assignor.or(member.assignor);
        member.names = beat.names.unwrap_or_else(|| names.clone());
        member.regex = beat.regex.unwrap_or_else(|| regex.clone());
        member.client_id = beat.client_id;
        let renamed = member.names != names;
        let (expressed, new_regex) = (member.regex != regex, member.regex.clone());

        // A new expression counts when it has been matched: until then there is nothing to assign.
        let others = |regex: &str| self.members.iter().any(|(other, member)| *other != id && member.regex == regex);
        if expressed && !regex.is_empty() && !others(&regex) {
            self.expressions.remove(&regex);
        }
        let unmatched = expressed && !new_regex.is_empty() && !others(&new_regex);
        let matched = expressed && !unmatched && (new_regex.is_empty() || self.expressions.contains_key(&new_regex));
        let subscriptions = self.known_topics(topics);
        if renamed || matched || self.epoch == 0 || subscriptions != self.known {
            self.epoch += 1;
            self.known = subscriptions;
        }
        self.make_target(now, topics);
        self.reconcile(now, &id, beat.owned.as_ref(), renamed || expressed, topics);
        self.match_expressions(now, unmatched, topics);
        let Some(member) = self.members.get_mut(&id) else { unreachable!("nobody has left meanwhile") };
        member.until = now + self.timing.session;
        let tells = beat.epoch == 0 || full || member.assigned != before.assigned;
        Ok(Told {
            epoch: member.epoch,
            heartbeat: self.timing.heartbeat,
            assigned: tells.then(|| member.assigned.keys().copied().collect()),
        })
    }

    fn leave(&mut self, beat: &Beat) -> Result<Told, Refusal> {
        let told = Told { epoch: beat.epoch, heartbeat: Duration::ZERO, assigned: None };
        let Some(instance) = &beat.instance else {
            self.member(&beat.member_id)?;
            self.remove(&beat.member_id);
            return Ok(told);
        };
        self.static_member(instance, &beat.member_id)?;
        match self.members.get_mut(&beat.member_id) {
            Some(member) if beat.epoch == LEAVES_FOR_NOW => member.leave_for_now(),
            _ => self.remove(&beat.member_id),
        }
        Ok(told)
    }

    /// Under the classic protocol members leave so, and administrators have them leave.
    pub(in crate::mock) fn leave_group(
        &mut self,
        now: Duration,
        member_id: &str,
        instance: Option<&str>,
    ) -> Result<(), ResponseError> {
        self.pass_time(now);
        let id = match instance {
            None => member_id.to_owned(),
            Some(instance) => {
                let id = self.instances.get(instance).ok_or(ResponseError::UnknownMemberId)?;
                if !member_id.is_empty() && member_id != id {
                    return Err(ResponseError::FencedInstanceId);
                }
                id.clone()
            }
        };
        self.member(&id).map_err(|refusal| refusal.error)?;
        self.remove(&id);
        Ok(())
    }

    /// What a member hears who speaks the classic protocol.
    pub(in crate::mock) fn refuse_classic(&self, instance: Option<&str>, member_id: &str) -> ResponseError {
        let known = instance.and_then(|instance| self.instances.get(instance));
        if known.is_some_and(|id| id != member_id) {
            ResponseError::FencedInstanceId
        } else {
            ResponseError::UnknownMemberId
        }
    }

    /// Whether somebody is a member.
    pub(in crate::mock) fn has(&mut self, now: Duration, member_id: &str) -> bool {
        self.pass_time(now);
        self.members.contains_key(member_id)
    }

    /// Whether this caller may commit offsets of these partitions now.
    pub(in crate::mock) fn may_commit(
        &mut self,
        now: Duration,
        caller: Caller<'_>,
        in_transaction: bool,
        mut partitions: impl Iterator<Item = Partition>,
    ) -> Result<(), ResponseError> {
        self.pass_time(now);
        if caller.generation < 0 && self.members.is_empty() {
            return Ok(()); // a consumer that assigns partitions to itself
        }
        let is_nobody = caller.member_id.is_empty() && caller.instance.is_none() && caller.generation == -1;
        if in_transaction && is_nobody {
            return Ok(());
        }
        let member = self.members.get(caller.member_id).ok_or(ResponseError::UnknownMemberId)?;
        // An epoch that has passed is good for what the member had in it already, and still has (KIP-1251).
        let had = |partition| member.has_since(&partition).is_some_and(|since| since <= caller.generation);
        let allowed = match caller.generation.cmp(&member.epoch) {
            std::cmp::Ordering::Equal => true,
            std::cmp::Ordering::Greater => false,
            std::cmp::Ordering::Less => self.release >= KafkaRelease::V4_1 && partitions.all(had),
        };
        match allowed {
            true => Ok(()),
            false if in_transaction => Err(ResponseError::IllegalGeneration),
            false => Err(ResponseError::StaleMemberEpoch),
        }
    }

    /// Whether this caller may read the offsets of the group now.
    pub(in crate::mock) fn may_fetch(
        &mut self,
        now: Duration,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), ResponseError> {
        self.pass_time(now);
        let Some(member_id) = member_id else {
            // Real brokers stumble over an epoch without a member.
            return if epoch < 0 { Ok(()) } else { Err(ResponseError::UnknownServerError) };
        };
        let member = self.members.get(member_id).ok_or(ResponseError::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ResponseError::StaleMemberEpoch) }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    /// What was due by now happens: sessions end, and members that do not give back what they have to are out.
    pub(in crate::mock) fn pass_time(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_loaded) {
            for member in self.members.values_mut() {
                member.until = now + self.timing.session;
                let revokes = member.phase == Phase::Unrevoked;
                member.revokes_until = revokes.then_some((now + member.rebalance, member.epoch));
            }
        }
        let is_out = |member: &Member| {
            member.until <= now
                || member.revokes_until.is_some_and(|(until, epoch)| until <= now && epoch == member.epoch)
        };
        let out: Vec<String> = self.members.iter().filter(|(_, one)| is_out(one)).map(|(id, _)| id.clone()).collect();
        out.iter().for_each(|id| self.remove(id));
    }

    /// The coordinator is another, or the same after a new start. All that members were told is in its log.
    pub(in crate::mock) fn move_coordinator(&mut self) {
        self.is_loaded = true;
    }

    // ---- inside ----------------------------------------------------------------------------------------------------

    fn member(&self, id: &str) -> Result<&Member, Refusal> {
        let unknown = || {
            Refusal::new(
                ResponseError::UnknownMemberId,
                format!("Member {id} is not a member of group {}.", self.group),
            )
        };
        self.members.get(id).ok_or_else(unknown)
    }

    /// The member behind an instance id, which has to have this id.
    fn static_member(&self, instance: &str, id: &str) -> Result<&Member, Refusal> {
        let known = self.instances.get(instance).ok_or_else(|| {
            Refusal::new(ResponseError::UnknownMemberId, format!("Instance id {instance} is unknown."))
        })?;
        if known != id {
            let message = format!("Static member {id} with instance id {instance} was fenced by member {known}.");
            return Err(Refusal::new(ResponseError::FencedInstanceId, message));
        }
        self.member(id)
    }

    /// The id under which the group knows who sends this; `None`: it is new.
    fn find(&self, beat: &Beat) -> Result<Option<String>, Refusal> {
        let joins = beat.epoch == 0;
        let Some(instance) = &beat.instance else {
            return match self.members.get(&beat.member_id) {
                None if joins => Ok(None),
                _ => {
                    self.member(&beat.member_id)?.check_epoch(beat)?;
                    Ok(Some(beat.member_id.clone()))
                }
            };
        };
        if !joins {
            self.static_member(instance, &beat.member_id)?.check_epoch(beat)?;
            return Ok(Some(beat.member_id.clone()));
        }
        let Some(id) = self.instances.get(instance) else { return Ok(None) };
        if self.members.get(id).is_some_and(|member| member.epoch != LEAVES_FOR_NOW) {
            let message = format!(
                "Static member {} with instance id {instance} cannot join the group because the instance id is owned by {id} \
                 member.",
                beat.member_id
            );
            return Err(Refusal::new(ResponseError::UnreleasedInstanceId, message));
        }
        Ok(Some(id.clone()))
    }

    fn check_expression(&self, known: Option<&str>, beat: &Beat) -> Result<(), Refusal> {
        let Some(regex) = beat.regex.as_ref().filter(|regex| !regex.is_empty()) else { return Ok(()) };
        let had = known.and_then(|id| self.members.get(id)).map(|member| &member.regex);
        let is_known = self.members.values().any(|member| member.regex == *regex);
        if had == Some(regex) || is_known {
            return Ok(());
        }
        expression(regex).map(|_| ()).map_err(|error| {
            let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.");
            Refusal::new(ResponseError::InvalidRegularExpression, message)
        })
    }

    /// The member is in the group from here on, under the id that it has now. Returns it as it was.
    fn enter(&mut self, known: Option<String>, beat: &Beat) -> Member {
        let id = &beat.member_id;
        if let Some(old) = known.filter(|old| old != id || beat.epoch == 0 && beat.instance.is_some()) {
            // A static member is back, perhaps under another id: it takes what it had.
            if let Some(mut member) = self.members.remove(&old) {
                (member.epoch, member.previous_epoch, member.revokes_until) = (0, 0, None);
                self.members.insert(id.clone(), member);
            }
            if let Some(target) = self.target.remove(&old) {
                self.target.insert(id.clone(), target);
            }
        }
        if let Some(instance) = &beat.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        let new = || Member { previous_epoch: -1, ..Member::default() };
        self.members.entry(id.clone()).or_insert_with(new).clone()
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        self.target.remove(id);
        if let Some(instance) = member.instance {
            self.instances.remove(&instance);
        }
        if !self.members.values().any(|other| other.regex == member.regex) {
            self.expressions.remove(&member.regex);
        }
        self.epoch += 1;
        let mut known = std::mem::take(&mut self.known);
        let subscriptions = self.subscriptions();
        known.retain(|name, _| subscriptions.contains(name.as_str()));
        self.known = known;
    }

    /// The names of all topics that anybody subscribes to.
    fn subscriptions(&self) -> BTreeSet<&str> {
        let named = self.members.values().flat_map(|member| &member.names);
        let expressed = self.expressions.values().flat_map(|matches| &matches.topics);
        named.chain(expressed).map(String::as_str).collect()
    }

    fn known_topics(&self, topics: Topics<'_>) -> BTreeMap<String, (TopicId, i32)> {
        let known = |name: &str| Some((name.to_owned(), topics.find(name)?));
        self.subscriptions().into_iter().filter_map(known).collect()
    }

    fn subscribed(&self, member: &Member, topics: Topics<'_>) -> BTreeSet<TopicId> {
        let expressed = self.expressions.get(&member.regex).into_iter().flat_map(|matches| &matches.topics);
        member.names.iter().chain(expressed).filter_map(|name| Some(topics.find(name)?.0)).collect()
    }

    /// What most members ask for.
    fn assignor(&self) -> Assignor {
        let votes = |one: &Assignor| self.members.values().filter(|member| member.assignor == Some(*one)).count();
        let [uniform, range] = Assignor::ALL;
        if votes(&range) > votes(&uniform) { range } else { uniform }
    }

    fn make_target(&mut self, now: Duration, topics: Topics<'_>) {
        let may = self.assigned_at.is_none_or(|at| now >= at + self.timing.assignment);
        if self.target_epoch >= self.epoch || !may {
            return;
        }
        let subscribers = self.members.iter().map(|(id, member)| Subscriber {
            id,
            instance: member.instance.as_deref(),
            topics: self.subscribed(member, topics),
            had: self.target.get(id).cloned().unwrap_or_default(),
        });
        let subscribers: Vec<_> = subscribers.collect();
        let counts = self.subscriptions().into_iter().filter_map(|name| topics.find(name)).collect();
        let assigned = assign(self.assignor(), &subscribers, &counts);
        self.target = self.members.keys().cloned().zip(assigned).collect();
        (self.target_epoch, self.assigned_at) = (self.epoch, Some(now));
    }

    fn reconcile(
        &mut self,
        now: Duration,
        id: &str,
        owned: Option<&BTreeSet<Partition>>,
        resubscribed: bool,
        topics: Topics<'_>,
    ) {
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let of = |since: &Since| since.keys().copied().collect::<Vec<_>>();
        let taken = others.flat_map(|(_, other)| [of(&other.assigned), of(&other.revoking)].concat()).collect();
        let Some(mut member) = self.members.get(id).cloned() else { return };
        let before = member.clone();
        let (nothing, subscribed) = (BTreeSet::new(), self.subscribed(&member, topics));
        member.reconcile(&Goal {
            epoch: self.target_epoch,
            target: self.target.get(id).unwrap_or(&nothing),
            subscribed: &subscribed,
            resubscribed,
            owned,
            taken: &taken,
        });
        if member != before {
            let revokes = member.phase == Phase::Unrevoked;
            member.revokes_until = revokes.then_some((now + member.rebalance, member.epoch));
            self.members.insert(id.to_owned(), member);
        }
    }

    /// Expressions are matched with the topics there are: at real brokers on another thread, so that what comes of it is
    /// seen with the next heartbeat.
    fn match_expressions(&mut self, now: Duration, wanted: bool, topics: Topics<'_>) {
        let regexes = self.members.values().map(|member| &member.regex).filter(|regex| !regex.is_empty());
        let regexes: BTreeSet<String> = regexes.cloned().collect();
        let last = self.expressions.values().next();
        if regexes.is_empty() || last.is_some_and(|last| now <= last.at + REMATCHED) {
            return;
        }
        let are_new = last.is_some_and(|last| last.created < topics.created);
        if !wanted && !are_new && regexes.len() == self.expressions.len() {
            return;
        }
        let mut changed = false;
        for regex in regexes {
            let found = expression(&regex).ok().map(|regex| {
                topics.by_name.keys().filter(|name| regex.is_match(name)).cloned().collect::<BTreeSet<_>>()
            });
            let matches = Matches { topics: found.unwrap_or_default(), at: now, created: topics.created };
            let new = matches.topics.clone();
            let old = self.expressions.insert(regex, matches).map(|old| old.topics).unwrap_or_default();
            changed |= old != new;
        }
        let known = self.known_topics(topics);
        if changed || known != self.known {
            self.epoch += 1;
            self.known = known;
        }
    }
}

impl Member {
    /// Whether a heartbeat is of the epoch in which the member is, or of the one before, whose answer may have got lost.
    fn check_epoch(&self, beat: &Beat) -> Result<(), Refusal> {
        let repeats = || {
            let had = |owned: &BTreeSet<Partition>| owned.iter().all(|one| self.assigned.contains_key(one));
            beat.epoch == self.previous_epoch && beat.owned.as_ref().is_some_and(had)
        };
        let than = match beat.epoch.cmp(&self.epoch) {
            _ if beat.epoch == 0 => return Ok(()),
            std::cmp::Ordering::Equal => return Ok(()),
            std::cmp::Ordering::Less if repeats() => return Ok(()),
            std::cmp::Ordering::Less => "smaller",
            std::cmp::Ordering::Greater => "greater",
        };
        let message = format!(
            "The consumer group member has a {than} member epoch ({}) than the one known by the group coordinator ({}). \
             The member must abandon all its partitions and rejoin.",
            beat.epoch, self.epoch
        );
        Err(Refusal::new(ResponseError::FencedMemberEpoch, message))
    }
}

/// An expression that a topic's whole name has to match.
fn expression(regex: &str) -> Result<Regex, regex_lite::Error> {
    Regex::new(regex)?; // on its own: a parenthesis too many would suit the ones around it
    Regex::new(&format!("^(?:{regex})$"))
}
