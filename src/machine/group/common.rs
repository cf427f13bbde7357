//! What members keep by either protocol: where their coordinator is, what is to be told, when to try again.

use std::collections::{BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::types::{Call, Change, Output, Problem, Send};
use crate::error::TopicPartition;
use crate::machine::backoff::Backoff;

/// What comes after a leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Out,
    Idle,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinator {
    Unknown,
    Asked,
    Known,
}

/// A value that counts how often it was lent out to be changed: whoever has looked at it knows by that whether to look again.
#[derive(Debug, Default)]
pub struct Counted<T> {
    value: T,
    changes: u64,
}

impl<T> Counted<T> {
    pub fn changes(&self) -> u64 {
        self.changes
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Counted<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changes += 1;
        &mut self.value
    }
}

#[derive(Debug)]
pub struct Common {
    pub coordinator: Coordinator,
    /// To be told, one after the other.
    pub changes: Counted<VecDeque<Change>>,
    pub is_acknowledged: bool,
    /// Since when the user works on what was polled.
    pub working: Option<Instant>,
    pub is_polling: bool,
    pub backoff: Backoff,
    pub not_before: Option<Instant>,
    pub leave_by: Option<Instant>,
    pub reported: Option<Problem>,
    tokens: u64,
    pub outputs: VecDeque<Output>,
}

impl Common {
    pub fn new(retry_backoff: Duration, retry_backoff_max: Duration) -> Self {
        Self {
            coordinator: Coordinator::Unknown,
            changes: Counted::default(),
            is_acknowledged: true,
            working: None,
            is_polling: false,
            backoff: Backoff::new(retry_backoff, retry_backoff_max),
            not_before: None,
            leave_by: None,
            reported: None,
            tokens: 0,
            outputs: VecDeque::new(),
        }
    }

    /// What is to be told next, if the last was heard.
    pub fn next_change(&mut self) -> Option<Change> {
        // Asked at every wake-up: nothing has changed if there is nothing.
        if self.changes.is_empty() { None } else { self.changes.pop_front() }
    }

    /// A membership begins: from here on polls are waited for.
    pub fn begin(&mut self, now: Instant) {
        self.working = (!self.is_polling).then_some(now);
    }

    pub fn poll_begins(&mut self) {
        (self.working, self.is_polling) = (None, true);
    }

    pub fn poll_ends(&mut self, now: Instant) {
        (self.working, self.is_polling) = (Some(now), false);
    }

    pub fn find_coordinator(&mut self) {
        self.coordinator = Coordinator::Asked;
        self.outputs.push_back(Output::FindCoordinator);
    }

    /// Returns its token.
    pub fn send(&mut self, call: Call, timeout: Duration) -> u64 {
        self.tokens += 1;
        self.outputs.push_back(Output::Send(Send { token: self.tokens, call, timeout }));
        self.tokens
    }

    pub fn back_off(&mut self, now: Instant, random: u64) {
        self.not_before = Some(now + self.backoff.next_delay(random));
    }

    /// Once, until things went well again.
    pub fn report(&mut self, problem: Problem) {
        if self.reported.as_ref() != Some(&problem) {
            self.reported = Some(problem.clone());
            self.outputs.push_back(Output::Report(problem));
        }
    }

    /// Of what is lost, all that the listener knows of: also what was to be given back, and it has not heard that; but not
    /// what it was to be given.
    pub fn take_unheard(&mut self, mut lost: BTreeSet<TopicPartition>) -> BTreeSet<TopicPartition> {
        for change in std::mem::take(&mut *self.changes) {
            match change {
                Change::Revoked(revoked) => lost.extend(revoked),
                Change::Assigned(assigned) => lost.retain(|partition| !assigned.contains(partition)),
                Change::Lost(_) => self.changes.push_back(change),
            }
        }
        lost
    }
}
