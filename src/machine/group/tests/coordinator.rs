//! A classic group as its coordinator sees it, from what Kafka's does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use crate::error::TopicPartition;
use crate::machine::group::{Answer, Call, CommitRequest};
use crate::wire::coordinator::heartbeat::HeartbeatResponse;
use crate::wire::coordinator::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use crate::wire::coordinator::leave_group::LeaveGroupResponse;
use crate::wire::coordinator::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::error_code::ErrorCode;

pub enum Reply {
    Member(Answer),
    Commit(BTreeMap<TopicPartition, ErrorCode>),
}

/// Who asked, and under which token.
type From = (usize, u64);
type Replies = Vec<(From, Reply)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Until all members joined, or this.
    Preparing(Instant),
    /// The leader has not synced yet.
    Completing,
    Stable,
}

struct Known {
    metadata: Bytes,
    protocols: Vec<Arc<str>>,
    /// A join or a sync that waits.
    join: Option<From>,
    sync: Option<From>,
    expires: Instant,
    rebalance_timeout: Duration,
    assignment: Bytes,
}

pub struct Coordinator {
    session: Duration,
    state: State,
    generation: i32,
    members: BTreeMap<Arc<str>, Known>,
    /// Ids that were given out, and not come back with yet.
    pending: BTreeSet<Arc<str>>,
    leader: Arc<str>,
    protocol: Arc<str>,
    /// It loads until then.
    loading: Option<Instant>,
    /// The old one answers that it is not it, until asked where the new one is.
    has_moved: bool,
    pub committed: BTreeMap<TopicPartition, i64>,
}

impl Coordinator {
    pub fn new(session: Duration) -> Self {
        Self {
            session,
            state: State::Empty,
            generation: 0,
            members: BTreeMap::new(),
            pending: BTreeSet::new(),
            leader: "".into(),
            protocol: "".into(),
            loading: None,
            has_moved: false,
            committed: BTreeMap::new(),
        }
    }

    /// Another broker takes over, and sessions begin anew. The old one says so to those that wait, unless it is gone: then
    /// nobody answers them.
    pub fn fail_over(&mut self, now: Instant, is_gone: bool) -> Replies {
        let mut replies = Vec::new();
        self.loading = Some(now + Duration::from_millis(300));
        self.has_moved = true;
        self.pending.clear();
        for member in self.members.values_mut() {
            let (join, sync) = (member.join.take(), member.sync.take());
            member.expires = now + self.session;
            if !is_gone {
                let error_code = ErrorCode::NOT_COORDINATOR;
                let joined = Answer::Join(JoinGroupResponse { error_code, ..Default::default() });
                let synced = Answer::Sync(SyncGroupResponse { error_code, ..Default::default() });
                replies.extend(join.map(|from| (from, Reply::Member(joined))));
                replies.extend(sync.map(|from| (from, Reply::Member(synced))));
            }
        }
        if self.state == State::Completing {
            // Only a synced generation is in the log.
            self.prepare(now);
        }
        replies
    }

    fn refusal(&mut self, now: Instant) -> Option<ErrorCode> {
        if std::mem::take(&mut self.has_moved) {
            return Some(ErrorCode::NOT_COORDINATOR);
        }
        self.loading.filter(|until| *until > now).map(|_| ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    }

    pub fn handle(&mut self, now: Instant, from: From, call: Call, rng: &mut Rng) -> Replies {
        let refusal = self.refusal(now);
        let mut replies = match call {
            Call::Join(request) => self.join(now, from, request, refusal, rng),
            Call::Sync(request) => self.sync(now, from, request, refusal),
            Call::Heartbeat(request) => {
                let code = refusal.unwrap_or_else(|| self.heartbeat(now, &request.member_id, request.generation_id));
                let response = HeartbeatResponse { error_code: code, ..Default::default() };
                vec![(from, Reply::Member(Answer::Heartbeat(response)))]
            }
            Call::Leave(_, request) => {
                let known = self.members.contains_key(&request.member_id);
                let code = match refusal {
                    Some(code) => code,
                    None if known => ErrorCode::NONE,
                    None => ErrorCode::UNKNOWN_MEMBER_ID,
                };
                if code.is_ok() {
                    self.remove(now, &request.member_id);
                }
                let response = LeaveGroupResponse { error_code: code, ..Default::default() };
                vec![(from, Reply::Member(Answer::Leave(response)))]
            }
            Call::Group(request) => panic!("{request:?}"),
        };
        replies.extend(self.complete(now));
        replies
    }

    pub fn handle_time(&mut self, now: Instant) -> Replies {
        let expired = |member: &Known| member.join.is_none() && member.expires <= now;
        let expired: Vec<_> = self.members.iter().filter(|(_, m)| expired(m)).map(|(id, _)| Arc::clone(id)).collect();
        for id in expired {
            self.remove(now, &id);
        }
        self.complete(now)
    }

    fn join(
        &mut self,
        now: Instant,
        from: From,
        request: JoinGroupRequest,
        refusal: Option<ErrorCode>,
        rng: &mut Rng,
    ) -> Replies {
        let refuse = |error_code, member_id| {
            let response = JoinGroupResponse { error_code, member_id, ..Default::default() };
            vec![(from, Reply::Member(Answer::Join(response)))]
        };
        if let Some(code) = refusal {
            return refuse(code, request.member_id);
        }
        if request.member_id.is_empty() {
            let id: Arc<str> = format!("m{}-{:x}", from.0, rng.u64(..)).into();
            self.pending.insert(Arc::clone(&id));
            return refuse(ErrorCode::MEMBER_ID_REQUIRED, id);
        }
        let is_new = self.pending.remove(&request.member_id);
        if !is_new && !self.members.contains_key(&request.member_id) {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID, request.member_id);
        }
        let metadata = request.protocols[0].metadata.clone();
        let is_same = self.members.get(&request.member_id).is_some_and(|member| member.metadata == metadata);
        let is_leader = self.leader == request.member_id;
        if is_same && (self.state == State::Completing || self.state == State::Stable && !is_leader) {
            // It did not hear the answer to its join.
            return vec![(from, Reply::Member(Answer::Join(self.joined(&request.member_id))))];
        }
        let member = Known {
            metadata,
            protocols: request.protocols.iter().map(|protocol| Arc::clone(&protocol.name)).collect(),
            join: Some(from),
            sync: None,
            expires: now + self.session,
            rebalance_timeout: Duration::from_millis(request.rebalance_timeout_ms as u64),
            assignment: Bytes::new(),
        };
        self.members.insert(request.member_id, member);
        if !matches!(self.state, State::Preparing(_)) {
            self.prepare(now);
        }
        Vec::new()
    }

    fn prepare(&mut self, now: Instant) {
        let longest = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default();
        self.state = State::Preparing(now + longest);
    }

    /// Ends what waited, if nothing is waited for any more.
    fn complete(&mut self, now: Instant) -> Replies {
        let mut replies = Vec::new();
        if !matches!(self.state, State::Completing) {
            // Who waits for a sync of a generation that is gone.
            for member in self.members.values_mut() {
                if let Some(from) = member.sync.take() {
                    let response =
                        SyncGroupResponse { error_code: ErrorCode::REBALANCE_IN_PROGRESS, ..Default::default() };
                    replies.push((from, Reply::Member(Answer::Sync(response))));
                }
            }
        }
        let State::Preparing(until) = self.state else { return replies };
        if until > now && (self.members.values().any(|member| member.join.is_none()) || self.members.is_empty()) {
            return replies;
        }
        self.members.retain(|_, member| member.join.is_some());
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            return replies;
        }
        self.state = State::Completing;
        if !self.members.contains_key(&self.leader) {
            self.leader = Arc::clone(self.members.keys().next().unwrap());
        }
        // All offer the same.
        self.protocol = Arc::clone(&self.members[&self.leader].protocols[0]);
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.joined(&id);
            let member = self.members.get_mut(&id).unwrap();
            member.expires = now + self.session;
            if let Some(from) = member.join.take() {
                replies.push((from, Reply::Member(Answer::Join(response))));
            }
        }
        replies
    }

    fn joined(&self, id: &Arc<str>) -> JoinGroupResponse {
        let is_leader = *id == self.leader;
        let all = self.members.iter().map(|(id, member)| JoinGroupResponseMember {
            member_id: Arc::clone(id),
            metadata: member.metadata.clone(),
            ..Default::default()
        });
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_name: Some(Arc::clone(&self.protocol)),
            leader: Arc::clone(&self.leader),
            member_id: Arc::clone(id),
            members: if is_leader { all.collect() } else { Vec::new() },
            ..Default::default()
        }
    }

    fn sync(&mut self, now: Instant, from: From, request: SyncGroupRequest, refusal: Option<ErrorCode>) -> Replies {
        let code = match (refusal, self.members.get(&request.member_id)) {
            (Some(code), _) => code,
            (_, None) => ErrorCode::UNKNOWN_MEMBER_ID,
            _ if request.generation_id != self.generation => ErrorCode::ILLEGAL_GENERATION,
            _ if matches!(self.state, State::Preparing(_)) => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        };
        let answer = |error_code, assignment| {
            Reply::Member(Answer::Sync(SyncGroupResponse { error_code, assignment, ..Default::default() }))
        };
        if !code.is_ok() {
            return vec![(from, answer(code, Bytes::new()))];
        }
        self.members.get_mut(&request.member_id).unwrap().sync = Some(from);
        if self.state == State::Completing && request.member_id == self.leader {
            for given in request.assignments {
                self.members.get_mut(&given.member_id).unwrap().assignment = given.assignment;
            }
            self.state = State::Stable;
        }
        if self.state != State::Stable {
            return Vec::new();
        }
        let members = self.members.values_mut();
        let waiting = members.filter_map(|member| {
            let from = member.sync.take()?;
            member.expires = now + self.session;
            Some((from, answer(ErrorCode::NONE, member.assignment.clone())))
        });
        waiting.collect()
    }

    fn heartbeat(&mut self, now: Instant, id: &Arc<str>, generation: i32) -> ErrorCode {
        let Some(member) = self.members.get_mut(id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        member.expires = now + self.session;
        if matches!(self.state, State::Preparing(_)) { ErrorCode::REBALANCE_IN_PROGRESS } else { ErrorCode::NONE }
    }

    fn remove(&mut self, now: Instant, id: &Arc<str>) {
        self.members.remove(id);
        if matches!(self.state, State::Stable | State::Completing) {
            self.prepare(now);
        }
    }

    pub fn commit(&mut self, now: Instant, request: CommitRequest) -> BTreeMap<TopicPartition, ErrorCode> {
        let code = match (self.refusal(now), self.members.get(&request.identity.member_id)) {
            (Some(code), _) => code,
            (_, None) => ErrorCode::UNKNOWN_MEMBER_ID,
            _ if request.identity.generation != self.generation => ErrorCode::ILLEGAL_GENERATION,
            _ if self.state == State::Completing => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => ErrorCode::NONE,
        };
        if code.is_ok() {
            self.members.get_mut(&request.identity.member_id).unwrap().expires = now + self.session;
            for (partition, entry) in &request.entries {
                self.committed.insert(partition.clone(), entry.offset);
            }
        }
        request.entries.keys().map(|partition| (partition.clone(), code)).collect()
    }
}
