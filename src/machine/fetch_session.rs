//! What a broker remembers of the fetches on one lane (KIP-227), so that a request names only what changed.
//!
//! ```text
//!             first answer gives an id         each answer
//!   Opening ──────────────────────────▶ Open ───────────────┐
//!    ▲  │ names everything, epoch 0      │ ▲ names changes,  │
//!    │  │                                │ '─ epoch + 1 ─────┘
//!    │  '─ the broker has no room: id 0 ─┼─▶ Without (names everything, epoch -1)
//!    └──── lost, refused, cancelled ◀────┘       │ a minute later
//!    └───────────────────────────────────────────┘
//! ```
//! What the broker knows is certain only after an answer (rule 40): whatever becomes of a request but a good answer,
//! the next one names everything again, in a session of its own, and says which one it replaces.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::credit::PartitionId;
use super::planted::bug;
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::fetch::ForgottenTopic;
use crate::wire::message::Uuid;

/// What a fetch wants of one partition, as the broker remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub max_bytes: i32,
}

/// What a request says of its session.
#[derive(Debug)]
pub struct Opening {
    pub session_id: i32,
    pub session_epoch: i32,
    /// The wanted partitions that it names: the others are as the broker knows them.
    pub named: Vec<bool>,
    pub forgotten: Vec<ForgottenTopic>,
}

impl Opening {
    /// Of a request without a session, which names so many partitions.
    pub fn without(count: usize) -> Self {
        Self { session_id: 0, session_epoch: NONE, named: vec![true; count], forgotten: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next request begins a session. `old` is what it replaces at the broker; 0 is none.
    Opening { old: i32 },
    /// The next request says this epoch.
    Open { id: i32, epoch: i32 },
    /// The broker has no sessions, or no room for one.
    Without { until: Instant },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct FetchSession {
    state: State,
    /// What the broker remembers after the request that is under way, by the partition that wanted it.
    known: BTreeMap<PartitionId, (Wanted, u64)>,
    /// Requests so far: what a request does not want is what it has not stamped.
    requests: u64,
    /// A session speaks of topics by name or by id, never both.
    by_name: bool,
}

/// A request that begins a session.
const FIRST: i32 = 0;
/// A request without one.
const NONE: i32 = -1;
/// A broker that had no room is asked for a session again after so long: the slots of clients that went are free then.
const WITHOUT: Duration = Duration::from_secs(60);

impl Default for FetchSession {
    fn default() -> Self {
        Self { state: State::Opening { old: 0 }, known: BTreeMap::new(), requests: 0, by_name: false }
    }
}

impl FetchSession {
    /// Whether the next request names everything that it wants, when these are among it.
    pub fn begins_anew(&self, by_name: bool, wanted: &[(PartitionId, Wanted)]) -> bool {
        !matches!(self.state, State::Open { .. }) || by_name != self.by_name || self.is_recreated(wanted)
    }

    /// What the next request says, when it wants these partitions, and so many more that stand as the broker knows them.
    /// It is answered for by one of the `handle_` below.
    pub fn open(
        &mut self,
        now: Instant,
        by_name: bool,
        wanted: &[(PartitionId, Wanted)],
        standing: usize,
        stands: impl Fn(PartitionId) -> bool,
    ) -> Opening {
        if by_name != self.by_name || self.is_recreated(wanted) {
            self.reset();
            self.by_name = by_name;
        }
        if matches!(self.state, State::Without { until } if until <= now) {
            self.state = State::Opening { old: 0 };
        }
        let (session_id, session_epoch) = match self.state {
            State::Open { id, epoch } => {
                self.requests += 1;
                let named = wanted.iter().map(|(id, wanted)| self.is_news(*id, wanted) && !bug("session_never_moves"));
                let named: Vec<bool> = named.collect();
                let forgotten = self.forget(wanted, &named, standing, stands);
                return Opening { session_id: id, session_epoch: epoch, named, forgotten };
            }
            State::Opening { old } => {
                self.requests += 1;
                self.known.extend(wanted.iter().map(|(id, wanted)| (*id, (wanted.clone(), self.requests))));
                (old, FIRST)
            }
            State::Without { .. } => return Opening::without(wanted.len()),
        };
        Opening { session_id, session_epoch, named: vec![true; wanted.len()], forgotten: Vec::new() }
    }

    /// A good answer. Says whether it was an incremental one: whom it does not mention has nothing new.
    pub fn handle_answer(&mut self, now: Instant, session_id: i32) -> bool {
        match self.state {
            State::Open { id, epoch } if session_id == id => {
                // 0 would begin another one.
                self.state = State::Open { id, epoch: epoch.checked_add(1).unwrap_or(1) };
                true
            }
            // The broker closed it, or mixes it up with another: this answer counts, the next request begins anew.
            State::Open { .. } => {
                self.reset();
                true
            }
            State::Opening { .. } if session_id > 0 => {
                self.state = State::Open { id: session_id, epoch: 1 };
                false
            }
            State::Opening { .. } => {
                self.known.clear();
                self.state = State::Without { until: now + WITHOUT };
                false
            }
            State::Without { .. } => false,
        }
    }

    /// The broker refused the request as a whole. Says whether naming everything may help, so that the next request need
    /// not wait.
    pub fn handle_error(&mut self, now: Instant, code: ErrorCode) -> bool {
        let was_open = matches!(self.state, State::Open { .. });
        match code {
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND => {
                self.known.clear();
                // Told of a new one, and never heard of it: this broker cannot do it.
                self.state = if was_open { State::Opening { old: 0 } } else { State::Without { until: now + WITHOUT } };
            }
            _ => self.reset(),
        }
        let codes = [
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        ];
        was_open && codes.contains(&code)
    }

    /// What the broker knows now is not certain: the request was lost.
    pub fn reset(&mut self) {
        self.known.clear();
        self.state = match self.state {
            State::Open { id, .. } => State::Opening { old: id },
            state => state,
        };
    }

    /// Whether a broker remembers anything, as far as one can tell.
    pub fn is_remembered(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Opening { old: 1.. })
    }

    /// The session that is not needed any more, if there is one. The next request begins another.
    pub fn end(&mut self) -> Option<i32> {
        self.reset();
        match self.state {
            State::Opening { old: old @ 1.. } => {
                self.state = State::Opening { old: 0 };
                Some(old)
            }
            _ => None,
        }
    }

    /// By name a broker cannot tell the old topic from the new one, so both are never in one request.
    fn is_recreated(&self, wanted: &[(PartitionId, Wanted)]) -> bool {
        wanted.iter().any(|(id, wanted)| self.known.get(id).is_some_and(|(known, _)| known.topic_id != wanted.topic_id))
    }

    fn is_news(&mut self, id: PartitionId, wanted: &Wanted) -> bool {
        match self.known.entry(id) {
            Place::Vacant(place) => {
                place.insert((wanted.clone(), self.requests));
                true
            }
            Place::Occupied(mut place) => {
                let (known, stamp) = place.get_mut();
                *stamp = self.requests;
                let is_news = known != wanted;
                if is_news {
                    known.clone_from(wanted);
                }
                is_news
            }
        }
    }

    /// Takes out what this request does not want any more.
    fn forget(
        &mut self,
        wanted: &[(PartitionId, Wanted)],
        named: &[bool],
        standing: usize,
        stands: impl Fn(PartitionId) -> bool,
    ) -> Vec<ForgottenTopic> {
        if self.known.len() == wanted.len() + standing {
            return Vec::new();
        }
        let mut gone = Vec::new();
        let requests = self.requests;
        self.known.retain(|id, (known, stamp)| {
            let is_wanted = *stamp == requests || stands(*id);
            if !is_wanted {
                gone.push((Arc::clone(&known.topic), known.topic_id, known.index));
            }
            is_wanted
        });
        let mut forgotten: Vec<ForgottenTopic> = Vec::new();
        for (topic, topic_id, index) in gone {
            // Assigned anew, under another id of ours: at the broker it is the same.
            let mut named = wanted.iter().zip(named).filter(|(_, named)| **named);
            if named.any(|((_, wanted), _)| wanted.index == index && wanted.topic == topic) {
                continue;
            }
            match forgotten.iter_mut().find(|known| known.topic == topic) {
                Some(known) => known.partitions.push(index),
                None => {
                    forgotten.push(ForgottenTopic { topic, topic_id, partitions: vec![index], ..Default::default() })
                }
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests;
