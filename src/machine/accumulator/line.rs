//! The requests on one of a leader's connections, and whether their answers are overdue.
//!
//! ```text
//!            head unanswered beyond its limit      a cheap request elsewhere was answered      still unanswered
//!   Calm ────────────────────────────────▶ Asked ────────────────────────────▶ Granted ──────────▶ cut
//!    ▲          Probe                        │ Overdue, again and again           │
//!    └────────── the head was answered ◀─────┴────────────────────────────────────┘
//! ```
//! A broker serves a connection one request at a time, so what is not answered in time holds back all that is behind
//! it. A broker that answers nothing anywhere is another case: nothing is cut then.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::PartitionId;
use super::doubt::ask_again;
use crate::machine::connection::Token;
use crate::machine::planted::bug;

/// Which of a leader's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneId {
    /// For everybody.
    Fast,
    /// For partitions that keep the others waiting, one in each request, and for those that come from another leader.
    Slow,
    /// For small requests while the fast one has something to answer.
    Spare0,
    Spare1,
}

impl LaneId {
    pub const COUNT: usize = Self::ALL.len();
    pub const ALL: [Self; 4] = [Self::Fast, Self::Slow, Self::Spare0, Self::Spare1];
    /// With the fast one as many as a broker has threads for its connections (num.network.threads).
    pub const SPARE: [Self; 2] = [Self::Spare0, Self::Spare1];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suspicion {
    Calm,
    Asked { again: Instant, is_probing: bool },
    Granted { until: Instant },
}

/// What is to be done about a head that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask this broker for anything, on another connection, if a token is given; and another broker who leads, if this is
    /// not the first step.
    Ask { probe: Option<Token>, is_first: bool },
    /// The broker answers others: cut the connection.
    Cut,
}

/// An answer that was held up together with the probe's may come right behind it.
pub(super) const GRACE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Line {
    /// Partitions that may have something to send, each once, in the order in which they became so.
    pub(super) ready: VecDeque<PartitionId>,
    /// Requests without an answer, in the order of sending.
    open: VecDeque<Token>,
    /// Since when the first of them is the broker's to answer.
    since: Option<Instant>,
    /// Nothing was in front of it.
    is_first: bool,
    is_up: bool,
    is_opening: bool,
    muted_until: Option<Instant>,
    suspicion: Suspicion,
}

impl Line {
    pub(super) fn new() -> Self {
        let (ready, open) = Default::default();
        Self {
            ready,
            open,
            since: None,
            is_first: false,
            is_up: false,
            is_opening: false,
            muted_until: None,
            suspicion: Suspicion::Calm,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn head(&self) -> Option<Token> {
        self.open.front().copied()
    }

    /// Whether there is a head to be answered.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// How long its head has been the broker's.
    pub(super) fn waited(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }

    /// Whether what is sent on it now is the broker's at once.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.open.is_empty() && self.is_up && self.muted_until.is_none_or(|until| until <= now)
    }

    /// Whether there is neither a connection nor an attempt to make one.
    pub(super) fn is_closed(&self) -> bool {
        !self.is_up && !self.is_opening
    }

    /// A connection is asked for.
    pub(super) fn open(&mut self) {
        self.is_opening = true;
    }

    /// How many requests it may have, of at most so many: what can be written at once, or by whom a connection is made. A
    /// batch that expires before it is written leaves a gap in front of what was handed over behind it.
    pub(super) fn most(&self, now: Instant, most: usize) -> usize {
        match self.muted_until {
            Some(until) if until > now && !bug("hands_over_while_muted") => 0,
            _ if !self.is_up && !bug("hands_over_before_it_is_up") => most.min(1),
            _ => most,
        }
    }

    /// When it is not muted any more, if anything waits for that.
    pub(super) fn muted_until(&self) -> Option<Instant> {
        self.muted_until.filter(|_| !self.ready.is_empty())
    }

    pub(super) fn unmute(&mut self, now: Instant) {
        self.muted_until = self.muted_until.filter(|until| *until > now);
    }

    pub(super) fn push(&mut self, now: Instant, token: Token) {
        self.open.push_back(token);
        if self.open.len() == 1 {
            self.begin(now);
            self.is_first = true;
        }
    }

    /// A request was answered, or lost. If it was the head: how long the broker had taken, and whether that was all the time
    /// since it was sent.
    #[inline]
    pub(super) fn remove(&mut self, now: Instant, token: Token) -> Option<(Duration, bool)> {
        if self.head() != Some(token) {
            self.open.retain(|open| *open != token);
            return None;
        }
        self.open.pop_front();
        let took = self.waited(now).map(|took| (took, self.is_first));
        self.begin(now);
        self.is_first = false;
        took
    }

    /// Everything on it was taken back.
    pub(super) fn take(&mut self) -> VecDeque<Token> {
        (self.since, self.suspicion) = (None, Suspicion::Calm);
        (self.is_up, self.is_opening, self.muted_until) = (false, false, None);
        std::mem::take(&mut self.open)
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    pub(super) fn set_up(&mut self, now: Instant, is_up: bool) {
        (self.is_up, self.is_opening) = (is_up, false);
        self.muted_until = None;
        self.begin(now);
    }

    /// The broker asked for silence (KIP-219): what is sent from now on is not its to answer before.
    pub(super) fn mute(&mut self, now: Instant, until: Instant) {
        self.muted_until = Some(until);
        self.begin(now);
    }

    /// The clock of the head starts.
    fn begin(&mut self, now: Instant) {
        let start = self.muted_until.map_or(now, |until| until.max(now));
        self.since = (!self.open.is_empty()).then_some(start);
        self.suspicion = Suspicion::Calm;
    }

    /// The probe for this head came back, or failed.
    pub(super) fn handle_probe(&mut self, now: Instant, token: Token, is_answered: bool, grace: Duration) {
        if let Suspicion::Asked { is_probing, .. } = &mut self.suspicion
            && self.open.front() == Some(&token)
        {
            if is_answered {
                self.suspicion = Suspicion::Granted { until: now + grace };
            } else {
                *is_probing = false;
            }
        }
    }

    pub(super) fn poll_timeout(&self, limit: Duration) -> Option<Instant> {
        let since = self.since?;
        Some(match self.suspicion {
            Suspicion::Calm => since + limit,
            Suspicion::Asked { again, .. } => again,
            Suspicion::Granted { until } => until,
        })
    }

    pub(super) fn step(&mut self, now: Instant, limit: Duration) -> Option<Step> {
        if self.poll_timeout(limit)? > now {
            return None;
        }
        let (is_first, was_probing) = match self.suspicion {
            Suspicion::Granted { .. } => return Some(Step::Cut),
            Suspicion::Asked { .. } if bug("probe_not_awaited") => return Some(Step::Cut),
            Suspicion::Asked { is_probing, .. } => (false, is_probing),
            Suspicion::Calm => (true, false),
        };
        // There is nothing to cut before there is a connection.
        let probe = self.head().filter(|_| self.is_up && !was_probing);
        // Half as often at first: each head starts anew, and what is in doubt has been asked about before.
        let waited = self.waited(now).unwrap_or_default();
        let again = now + ask_again(waited).max(Duration::from_millis(100));
        self.suspicion = Suspicion::Asked { again, is_probing: was_probing || probe.is_some() };
        Some(Step::Ask { probe, is_first })
    }
}
