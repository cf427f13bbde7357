//! A member by either protocol.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::error::TopicPartition;
use crate::machine::assignor::Topics;
use crate::machine::group::{Answer, Classic, Consumer, Identity, Output, Standing};
use crate::wire::error_code::ErrorCode;
use crate::wire::message::Uuid;

/// See [`crate::machine::group`] for what each does.
pub enum Member {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
}

macro_rules! both {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Member::Classic(member) => member.$method($($argument),*),
            Member::Consumer(member) => member.$method($($argument),*),
        }
    };
}

impl Member {
    pub fn committable(&self) -> BTreeSet<TopicPartition> {
        both!(self.committable())
    }

    pub fn ownership(&self) -> u64 {
        both!(self.ownership())
    }

    pub fn identity(&self) -> Identity {
        both!(self.identity())
    }

    pub fn standing(&self) -> Standing {
        both!(self.standing())
    }

    /// `pattern`: for the coordinator to match, which the classic protocol does not know. Neither: the group is left.
    pub fn subscribe(&mut self, now: Instant, topics: Option<BTreeSet<Arc<str>>>, pattern: Option<Arc<str>>) {
        match self {
            Self::Classic(member) => member.subscribe(now, topics),
            Self::Consumer(member) => member.subscribe(now, topics.unwrap_or_default(), pattern),
        }
    }

    pub fn described(&self) -> Option<&BTreeSet<Arc<str>>> {
        match self {
            Self::Classic(member) => member.described(),
            Self::Consumer(_) => None,
        }
    }

    pub fn handle_topics(&mut self, topics: &Topics) {
        if let Self::Classic(member) = self {
            member.handle_topics(topics);
        }
    }

    pub fn handle_names(&mut self, names: &BTreeMap<Uuid, Arc<str>>) {
        if let Self::Consumer(member) = self {
            member.handle_names(names);
        }
    }

    pub fn set_member_id(&mut self, member_id: Arc<str>) {
        if let Self::Consumer(member) = self {
            member.set_member_id(member_id);
        }
    }

    pub fn poll_begins(&mut self) {
        both!(self.poll_begins());
    }

    pub fn poll_ends(&mut self, now: Instant) {
        both!(self.poll_ends(now));
    }

    pub fn acknowledge(&mut self) {
        both!(self.acknowledge());
    }

    pub fn restart(&mut self, now: Instant) {
        both!(self.restart(now));
    }

    pub fn close(&mut self, leaves: bool) {
        both!(self.close(leaves));
    }

    pub fn handle_coordinator(&mut self, now: Instant, found: Result<i32, ErrorCode>, random: u64) {
        both!(self.handle_coordinator(now, found, random));
    }

    pub fn handle_refused_commit(&mut self, now: Instant, identity: &Identity, code: ErrorCode, random: u64) {
        match self {
            Self::Classic(member) => member.handle_refused_commit(now, identity, code, random),
            Self::Consumer(member) => member.handle_refused_commit(identity, code),
        }
    }

    pub fn handle_answer(&mut self, now: Instant, token: u64, answer: Answer, random: u64) {
        both!(self.handle_answer(now, token, answer, random));
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        both!(self.handle_timeout(now));
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        both!(self.poll_timeout())
    }

    pub fn poll_output(&mut self, now: Instant) -> Option<Output> {
        both!(self.poll_output(now))
    }
}
