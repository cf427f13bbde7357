//! Fetch sessions (KIP-227): a broker remembers what a consumer wants, so both sides only say what changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::error::ResponseError;

use super::topic::TopicId;

/// A topic as a fetch names it: by id from version 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// What a fetch wants of one partition.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) topic: TopicKey,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) max_bytes: usize,
    /// -1: whatever it is.
    pub(super) leader_epoch: i32,
    /// -1: do not check for divergence.
    pub(super) last_fetched_epoch: i32,
}

/// What decides whether an incremental response mentions a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    pub(super) has_records: bool,
    pub(super) failed: bool,
    pub(super) diverged: bool,
}

/// The session part of a fetch request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) id: i32,
    pub(super) epoch: i32,
    pub(super) by_topic_id: bool,
}

/// How a fetch relates to a session, and so what its response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// None: everything is answered, and session id 0.
    Sessionless,
    /// The first of one: everything is answered.
    First,
    /// Only what changed is answered.
    Incremental { id: i32 },
}

/// The sessions of one broker.
#[derive(Debug)]
pub(super) struct Sessions {
    slots: usize,
    sessions: BTreeMap<i32, Session>,
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Session {
    /// What the next request must say.
    epoch: i32,
    by_topic_id: bool,
    /// In the order in which they are read: who had data goes to the end.
    entries: BTreeMap<u64, Entry>,
    places: HashMap<(TopicKey, i32), u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Entry {
    wanted: Wanted,
    /// As last answered; -1 at first and after an error, so that the next response mentions the partition.
    high_watermark: i64,
    log_start: i64,
}

const FINAL_EPOCH: i32 = -1;

impl Sessions {
    pub(super) fn new(slots: usize, rng: fastrand::Rng) -> Self {
        Self { slots, sessions: BTreeMap::new(), rng }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn clear(&mut self) {
        self.sessions.clear();
    }

    /// What a request wants, given what it says and what its session remembers.
    pub(super) fn open(
        &mut self,
        ask: Ask,
        wanted: Vec<Wanted>,
        forgotten: Vec<(TopicKey, i32)>,
    ) -> Result<(Relation, Vec<Wanted>), ResponseError> {
        if ask.epoch == 0 || ask.epoch == FINAL_EPOCH {
            self.sessions.remove(&ask.id);
            return Ok((if ask.epoch == 0 { Relation::First } else { Relation::Sessionless }, wanted));
        }
        let session = self.sessions.get_mut(&ask.id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != ask.epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.by_topic_id != ask.by_topic_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        wanted.into_iter().for_each(|wanted| session.want(wanted));
        for forgotten in forgotten {
            if let Some(place) = session.places.remove(&forgotten) {
                session.entries.remove(&place);
            }
        }
        if session.entries.is_empty() {
            self.sessions.remove(&ask.id);
            return Ok((Relation::Sessionless, Vec::new()));
        }
        session.epoch = next_epoch(session.epoch);
        let wanted = session.entries.values().map(|entry| entry.wanted.clone()).collect();
        Ok((Relation::Incremental { id: ask.id }, wanted))
    }

    /// What a session wants already, whatever the request says.
    pub(super) fn wanted(&self, id: i32) -> impl Iterator<Item = (&TopicKey, i32)> {
        let entries = self.sessions.get(&id).into_iter().flat_map(|session| session.entries.values());
        entries.map(|entry| (&entry.wanted.topic, entry.wanted.partition))
    }

    /// Begins a session if there is a free slot; 0 if not.
    pub(super) fn begin(&mut self, by_topic_id: bool, answered: Vec<(Wanted, Found)>) -> i32 {
        if self.sessions.len() >= self.slots || answered.is_empty() {
            return 0;
        }
        let id = loop {
            let id = self.rng.i32(1..);
            if !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let (entries, places) = (BTreeMap::new(), HashMap::new());
        let mut session = Session { epoch: 1, by_topic_id, entries, places, next_place: 0 };
        for (wanted, found) in answered {
            let key = (wanted.topic.clone(), wanted.partition);
            session.want(wanted);
            session.answer(&key, Found { has_records: false, ..found }); // keeps the order of the request
        }
        self.sessions.insert(id, session);
        id
    }

    /// Whether an incremental response mentions this partition.
    pub(super) fn answer(&mut self, id: i32, wanted: &Wanted, found: Found) -> bool {
        let key = (wanted.topic.clone(), wanted.partition);
        self.sessions.get_mut(&id).is_none_or(|session| session.answer(&key, found))
    }
}

impl Session {
    fn want(&mut self, wanted: Wanted) {
        let key = (wanted.topic.clone(), wanted.partition);
        match self.places.get(&key).and_then(|place| self.entries.get_mut(place)) {
            Some(entry) => entry.wanted = wanted,
            None => {
                self.places.insert(key, self.next_place);
                self.entries.insert(self.next_place, Entry { wanted, high_watermark: -1, log_start: -1 });
                self.next_place += 1;
            }
        }
    }

    fn answer(&mut self, key: &(TopicKey, i32), found: Found) -> bool {
        let Some(place) = self.places.get_mut(key) else { return true };
        let Some(entry) = self.entries.get_mut(place) else { return true };
        let moved = (entry.high_watermark, entry.log_start) != (found.high_watermark, found.log_start);
        (entry.high_watermark, entry.log_start) = (found.high_watermark, found.log_start);
        if found.failed {
            entry.high_watermark = -1;
        }
        if found.has_records
            && let Some(entry) = self.entries.remove(place)
        {
            *place = self.next_place;
            self.entries.insert(self.next_place, entry);
            self.next_place += 1;
        }
        moved || found.has_records || found.failed || found.diverged
    }
}

/// Epochs count up from 1 and never reach 0 again, which would mean a new session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
