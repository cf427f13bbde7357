//! A group under KIP-848 as its coordinator sees it, from what Kafka's does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::TopicPartition;
use crate::machine::group::CommitRequest;
use crate::machine::group::consumer::by_topic;
use crate::wire::coordinator::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Uuid;

pub type Held = BTreeSet<(Uuid, i32)>;

/// A static member that left, and will be back.
const AWAY: i32 = -2;

#[derive(Clone)]
struct Known {
    instance: Option<Arc<str>>,
    epoch: i32,
    previous: i32,
    topics: BTreeSet<Arc<str>>,
    /// With the epoch since which it has them.
    assigned: BTreeMap<(Uuid, i32), i32>,
    revoking: BTreeMap<(Uuid, i32), i32>,
    rebalance: Duration,
    expires: Instant,
    revokes_by: Option<Instant>,
}

pub struct Coordinator {
    session: Duration,
    pub interval: Duration,
    epoch: i32,
    members: BTreeMap<Arc<str>, Known>,
    target: BTreeMap<Arc<str>, Held>,
    pub topics: BTreeMap<Arc<str>, (Uuid, i32)>,
    /// Epochs that have passed are good for commits (KIP-1251), as from Kafka 4.3 on.
    is_lenient: bool,
    loading: Option<Instant>,
    has_moved: bool,
    pub committed: BTreeMap<TopicPartition, i64>,
}

impl Coordinator {
    pub fn new(session: Duration, interval: Duration, is_lenient: bool) -> Self {
        Self {
            session,
            interval,
            epoch: 0,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            topics: BTreeMap::new(),
            is_lenient,
            loading: None,
            has_moved: false,
            committed: BTreeMap::new(),
        }
    }

    /// Another broker takes over; all is in its log, and sessions begin anew.
    pub fn fail_over(&mut self, now: Instant) {
        self.loading = Some(now + Duration::from_millis(300));
        self.has_moved = true;
        for member in self.members.values_mut() {
            member.expires = now + self.session;
            let rebalance = member.rebalance;
            member.revokes_by.iter_mut().for_each(|by| *by = now + rebalance);
        }
    }

    pub fn knows(&self, member: &str) -> bool {
        self.members.get(member).is_some_and(|known| known.epoch > 0)
    }

    /// Whether a member is to have a partition.
    pub fn wants(&self, member: &str, topic: &str, index: i32) -> bool {
        let Some((id, _)) = self.topics.get(topic) else { return false };
        self.target.get(member).is_some_and(|target| target.contains(&(*id, index)))
    }

    pub fn grow(&mut self, topic: &str) {
        self.topics.get_mut(topic).unwrap().1 += 1;
        self.assign();
    }

    pub fn handle_time(&mut self, now: Instant) {
        let is_out = |member: &Known| member.expires <= now || member.revokes_by.is_some_and(|by| by <= now);
        let out: Vec<_> = self.members.iter().filter(|(_, one)| is_out(one)).map(|(id, _)| Arc::clone(id)).collect();
        for id in &out {
            self.members.remove(id);
        }
        if !out.is_empty() {
            self.assign();
        }
    }

    fn refusal(&mut self, now: Instant) -> Option<ErrorCode> {
        if std::mem::take(&mut self.has_moved) {
            return Some(ErrorCode::NOT_COORDINATOR);
        }
        self.loading.filter(|until| *until > now).map(|_| ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    }

    pub fn heartbeat(
        &mut self,
        now: Instant,
        request: ConsumerGroupHeartbeatRequest,
    ) -> ConsumerGroupHeartbeatResponse {
        let refusal = self.refusal(now);
        let answered = refusal.map_or_else(|| self.answer(now, request), Err);
        answered.unwrap_or_else(|error_code| ConsumerGroupHeartbeatResponse { error_code, ..Default::default() })
    }

    fn answer(
        &mut self,
        now: Instant,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse, ErrorCode> {
        let id = Arc::clone(&request.member_id);
        assert!(!id.is_empty(), "{request:?}");
        let owned: Option<Held> = request.topic_partitions.as_ref().map(|topics| {
            topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect()
        });
        let namesake = request.instance_id.as_ref().and_then(|instance| {
            let mut members = self.members.iter();
            members.find(|(_, member)| member.instance.as_ref() == Some(instance)).map(|(id, _)| Arc::clone(id))
        });
        if request.member_epoch < 0 {
            if namesake.is_some_and(|other| other != id) {
                return Err(ErrorCode::FENCED_INSTANCE_ID);
            }
            let member = self.members.get_mut(&id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            if request.member_epoch == AWAY {
                assert!(request.instance_id.is_some(), "{request:?}");
                (member.epoch, member.revokes_by) = (AWAY, None);
                member.revoking.clear();
            } else {
                self.members.remove(&id);
                self.assign();
            }
            let member_epoch = request.member_epoch;
            return Ok(ConsumerGroupHeartbeatResponse { member_epoch, ..Default::default() });
        }
        if request.member_epoch == 0 {
            assert_eq!(owned.as_ref().map(BTreeSet::len), Some(0), "{request:?}");
            assert!(request.rebalance_timeout_ms > 0 && request.subscribed_topic_names.is_some(), "{request:?}");
            if let Some(old) = namesake {
                if self.members[&old].epoch != AWAY {
                    return Err(ErrorCode::UNRELEASED_INSTANCE_ID);
                }
                let mut member = self.members.remove(&old).unwrap();
                (member.epoch, member.previous) = (0, 0);
                self.members.insert(Arc::clone(&id), member);
                if let Some(target) = self.target.remove(&old) {
                    self.target.insert(Arc::clone(&id), target);
                }
            }
        } else if request.instance_id.is_some() {
            match namesake {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(other) if other != id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        let known = self.members.get(&id);
        match known {
            None if request.member_epoch > 0 => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(known) if request.member_epoch > 0 && request.member_epoch != known.epoch => {
                let has = |owned: &Held| owned.iter().all(|one| known.assigned.contains_key(one));
                if request.member_epoch != known.previous || !owned.as_ref().is_some_and(has) {
                    return Err(ErrorCode::FENCED_MEMBER_EPOCH);
                }
            }
            _ => {}
        }
        let mut member = known.cloned().unwrap_or_else(|| Known {
            instance: request.instance_id.clone(),
            epoch: 0,
            previous: -1,
            topics: BTreeSet::new(),
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            rebalance: Duration::ZERO,
            expires: now,
            revokes_by: None,
        });
        if let Ok(rebalance) = u64::try_from(request.rebalance_timeout_ms) {
            member.rebalance = Duration::from_millis(rebalance);
        }
        member.expires = now + self.session;
        let before = member.assigned.clone();
        let names =
            request.subscribed_topic_names.map_or_else(|| member.topics.clone(), |names| names.into_iter().collect());
        let is_new = known.is_none() || names != member.topics;
        member.topics = names;
        self.members.insert(Arc::clone(&id), member);
        if is_new {
            self.assign();
        }
        let is_full = request.rebalance_timeout_ms > 0;
        let member = self.reconcile(now, &id, owned.as_ref());
        let assigned = (is_full || member.assigned != before).then(|| member.assigned.keys().copied().collect());
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(id),
            member_epoch: member.epoch,
            heartbeat_interval_ms: self.interval.as_millis() as i32,
            assignment: assigned
                .map(|held: Held| Assignment { topic_partitions: by_topic(&held), ..Default::default() }),
            ..Default::default()
        })
    }

    /// What is gone is to be given back before anything new is given, and nobody gets what another one may still have.
    fn reconcile(&mut self, now: Instant, id: &Arc<str>, owned: Option<&Held>) -> Known {
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let taken: Held =
            others.flat_map(|(_, other)| other.assigned.keys().chain(other.revoking.keys())).copied().collect();
        let target = self.target.get(id).cloned().unwrap_or_default();
        let epoch = self.epoch;
        let member = self.members.get_mut(id).unwrap();
        let may_have = |gone: &BTreeMap<(Uuid, i32), i32>| {
            owned.is_none_or(|owned| owned.iter().any(|one| gone.contains_key(one)))
        };
        if !member.revoking.is_empty() && may_have(&member.revoking) {
            return member.clone();
        }
        let (mut keeps, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut member.assigned).into_iter().partition(|(one, _)| target.contains(one));
        member.previous = member.epoch;
        if !gone.is_empty() && may_have(&gone) {
            (member.assigned, member.revoking) = (keeps, gone);
            member.revokes_by = Some(now + member.rebalance);
            return member.clone();
        }
        let free = target.iter().filter(|one| !keeps.contains_key(*one) && !taken.contains(*one)).copied();
        let free: Vec<_> = free.collect();
        keeps.extend(free.into_iter().map(|one| (one, epoch)));
        (member.assigned, member.epoch, member.revokes_by) = (keeps, epoch, None);
        member.revoking.clear();
        member.clone()
    }

    /// Topic by topic: who has more than its share loses the rest, and what nobody has goes to who has least.
    fn assign(&mut self) {
        self.epoch += 1;
        let mut target: BTreeMap<Arc<str>, Held> =
            self.members.keys().map(|id| (Arc::clone(id), Held::new())).collect();
        for (name, (topic, count)) in &self.topics {
            let subscribers: Vec<_> = self.members.iter().filter(|(_, member)| member.topics.contains(name)).collect();
            let Some(share) = (*count as usize).checked_div(subscribers.len()) else { continue };
            let mut extra = *count as usize % subscribers.len();
            let mut free: Held = (0..*count).map(|index| (*topic, index)).collect();
            let mut of_topic: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
            for (id, _) in &subscribers {
                let had = self.target.get(*id).into_iter().flatten().filter(|(of, _)| of == topic);
                let mut keeps: Vec<_> = had.copied().collect();
                keeps.truncate(share + usize::from(extra > 0));
                extra -= usize::from(keeps.len() > share);
                free.retain(|one| !keeps.contains(one));
                of_topic.insert(*id, keeps.len());
                target.get_mut(*id).unwrap().extend(keeps);
            }
            for one in free {
                let (id, has) = of_topic.iter_mut().min_by_key(|(_, has)| **has).unwrap();
                *has += 1;
                target.get_mut(*id).unwrap().insert(one);
            }
        }
        self.target = target;
    }

    pub fn commit(&mut self, now: Instant, request: CommitRequest) -> BTreeMap<TopicPartition, ErrorCode> {
        let refusal = self.refusal(now);
        let id = |partition: &TopicPartition| (self.topics[&partition.topic].0, partition.partition);
        let epoch = request.identity.generation;
        let code = match (refusal, self.members.get(&request.identity.member_id)) {
            (Some(code), _) => code,
            (_, None) => ErrorCode::UNKNOWN_MEMBER_ID,
            (_, Some(member)) if epoch == member.epoch => ErrorCode::NONE,
            (_, Some(member)) => {
                let since = |one| member.assigned.get(&one).or_else(|| member.revoking.get(&one)).copied();
                let has = |partition: &TopicPartition| since(id(partition)).is_some_and(|since| since <= epoch);
                let is_good = self.is_lenient && epoch < member.epoch && request.entries.keys().all(has);
                if is_good { ErrorCode::NONE } else { ErrorCode::STALE_MEMBER_EPOCH }
            }
        };
        if code.is_ok() {
            for (partition, entry) in &request.entries {
                self.committed.insert(partition.clone(), entry.offset);
            }
        }
        request.entries.keys().map(|partition| (partition.clone(), code)).collect()
    }
}
