//! What a member commits: one request after the other, never backwards unless reading went back, and nothing that it does not
//! have any more.
//!
//! ```text
//!   commit ──▶ queue ──▶ due: what is owned, and further than before ──▶ poll_request ──▶ handle_answer ──▶ Outcome
//!                ▲                                                                           │
//!                '── again: coordinator, an older generation or epoch, no answer ────────────┘
//! ```
//! A request is never given up once it was sent: an older one could land last otherwise, and rewind the group (rule 55). It
//! carries the member's generation as it is when it leaves. One that is refused because that moved on says nothing of the
//! membership, and is repeated under the new one for what is still owned (rules 54 and 63).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::types::{Identity, Standing};
use crate::error::TopicPartition;
use crate::machine::backoff::Backoff;
use crate::machine::planted::bug;
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};

/// What is committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The next offset to read.
    pub offset: i64,
    /// Of the record before it; -1: not known.
    pub leader_epoch: i32,
    pub metadata: Arc<str>,
}

/// One call of the user, or of a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Given back in the outcome.
    pub id: u64,
    pub entries: BTreeMap<TopicPartition, Entry>,
    /// The user said so: an offset may be behind the one before. Otherwise it counts as done then.
    pub may_go_back: bool,
    pub deadline: Instant,
}

/// An OffsetCommit to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub token: u64,
    pub identity: Identity,
    pub entries: BTreeMap<TopicPartition, Entry>,
}

/// What became of a commit: of each partition that was not committed, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub id: u64,
    pub failed: Vec<Failed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub partition: TopicPartition,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It belongs to another member, or to none; of a request that was on its way before that, the last code.
    NotOwned(ErrorCode),
    /// For good.
    Refused(ErrorCode),
    /// Nobody can be asked, and no waiting mends that: the driver knows why.
    Unreachable,
    /// Not in time. It may still be committed if it was sent.
    TimedOut { was_sent: bool, last: ErrorCode },
}

/// What an answer says beyond the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another broker coordinates the group.
    FindCoordinator,
    /// For the machine of the group: what was said to this member.
    Membership(Identity, ErrorCode),
}

#[derive(Debug)]
struct Open {
    commit: Commit,
    failed: Vec<Failed>,
    /// On its way, and not owned any more: not to be sent again, also if it is owned once more by then.
    gone: BTreeSet<TopicPartition>,
    /// Reading went on elsewhere since: what comes next may be further back.
    moved: BTreeSet<TopicPartition>,
    was_sent: bool,
    /// How often a topic was said not to exist.
    unknown: u32,
    last: ErrorCode,
}

/// A coordinator may hear later than its members of a topic that was just made. One that was deleted stays unknown (rule 13).
const MOST_UNKNOWN: u32 = 5;

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Ledger {
    standing: Standing,
    /// `None`: partitions are assigned by hand, and all may be committed.
    owned: Option<BTreeSet<TopicPartition>>,
    queue: VecDeque<Open>,
    /// The first of the queue is on its way.
    in_flight: Option<Request>,
    /// Of the first, its caller was told already that time was up.
    is_abandoned: bool,
    committed: BTreeMap<TopicPartition, i64>,
    backoff: Backoff,
    not_before: Option<Instant>,
    tokens: u64,
    outcomes: VecDeque<Outcome>,
    verdicts: VecDeque<Verdict>,
}

impl Ledger {
    pub fn new(retry_backoff: Duration, retry_backoff_max: Duration) -> Self {
        Self {
            standing: Standing::Out,
            owned: None,
            queue: VecDeque::new(),
            in_flight: None,
            is_abandoned: false,
            committed: BTreeMap::new(),
            backoff: Backoff::new(retry_backoff, retry_backoff_max),
            not_before: None,
            tokens: 0,
            outcomes: VecDeque::new(),
            verdicts: VecDeque::new(),
        }
    }

    /// As the machine of the group says; a new generation lets what waited for it go on.
    pub fn set_standing(&mut self, standing: Standing) {
        if self.standing != standing {
            self.not_before = None;
            self.standing = standing;
        }
    }

    /// What may be committed: what is owned, and what is being revoked until the listener has returned. What waits for
    /// something else is of another ownership from then on, and others may have committed since.
    pub fn set_owned(&mut self, owned: Option<BTreeSet<TopicPartition>>) {
        if self.owned == owned {
            return;
        }
        if let Some(owned) = owned.as_ref().filter(|_| !bug("commits_what_was_revoked")) {
            self.committed.retain(|partition, _| owned.contains(partition));
            for (place, open) in self.queue.iter_mut().enumerate() {
                if place == 0 && self.in_flight.is_some() {
                    let gone = open.commit.entries.keys().filter(|partition| !owned.contains(*partition));
                    open.gone.extend(gone.cloned());
                } else {
                    open.drop_unowned(owned);
                }
            }
        }
        self.owned = owned;
    }

    pub fn commit(&mut self, commit: Commit) {
        let (gone, moved) = (BTreeSet::new(), BTreeSet::new());
        let mut open =
            Open { commit, failed: Vec::new(), gone, moved, was_sent: false, unknown: 0, last: ErrorCode::NONE };
        if let Some(owned) = &self.owned {
            open.drop_unowned(owned);
        }
        self.queue.push_back(open);
    }

    /// Reading goes on elsewhere in these, perhaps further back: what is committed from here on is not held against what was
    /// committed, or waits to be, before.
    pub fn moved(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.committed.retain(|partition, _| !partitions.contains(partition));
        self.queue.iter_mut().for_each(|open| open.moved.extend(partitions.iter().cloned()));
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight.is_none()
    }

    /// Whether a commit of one of these waits or is on its way.
    pub fn holds(&self, partitions: &[TopicPartition]) -> bool {
        let sent = self.in_flight.iter().flat_map(|request| request.entries.keys());
        let waiting = self.queue.iter().flat_map(|open| open.commit.entries.keys());
        sent.chain(waiting).any(|partition| partitions.contains(partition))
    }

    /// The request cannot be sent, and no later one could: all that waits fails with it.
    pub fn give_up(&mut self, token: u64, why: Why) {
        if self.in_flight.take_if(|request| request.token == token).is_none() {
            return;
        }
        let is_told = std::mem::take(&mut self.is_abandoned);
        for (place, mut open) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if place > 0 || !is_told {
                let failed = std::mem::take(&mut open.commit.entries).into_keys();
                open.failed.extend(failed.map(|partition| Failed { partition, why }));
                self.outcomes.push_back(Outcome { id: open.commit.id, failed: open.failed });
            }
        }
    }

    /// Nothing is waited for any more: time is up for all that waits or is on its way.
    pub fn abandon(&mut self) {
        let is_told = std::mem::take(&mut self.is_abandoned);
        self.in_flight = None;
        for (place, open) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            if place > 0 || !is_told {
                self.outcomes.push_back(open.late());
            }
        }
    }

    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        loop {
            if self.in_flight.is_some() && !bug("commits_overtake") {
                return None;
            }
            self.drop_what_goes_back();
            let open = self.queue.front()?;
            if open.commit.entries.is_empty() {
                self.finish();
                continue;
            }
            let Standing::Member(identity) = &self.standing else { return None };
            if self.not_before.is_some_and(|at| at > now) {
                return None;
            }
            self.tokens += 1;
            let (identity, entries) = (identity.clone(), open.commit.entries.clone());
            let request = Request { token: self.tokens, identity, entries };
            self.queue.front_mut()?.was_sent = true;
            self.in_flight = Some(request.clone());
            return Some(request);
        }
    }

    /// `Err`: there was none. A partition that is not in it was not answered.
    pub fn handle_answer(
        &mut self,
        now: Instant,
        token: u64,
        answer: Result<BTreeMap<TopicPartition, ErrorCode>, ()>,
        random: u64,
    ) {
        let Some(request) = self.in_flight.take_if(|request| request.token == token) else { return };
        let Some(mut open) = self.queue.pop_front() else { return };
        let is_abandoned = std::mem::take(&mut self.is_abandoned);
        let answer = answer.unwrap_or_else(|()| {
            self.verdict(Verdict::FindCoordinator);
            BTreeMap::new()
        });
        open.unknown += u32::from(answer.values().any(|code| code.is_unknown_topic()));
        let mut waits = false;
        for (partition, entry) in &request.entries {
            let code = answer.get(partition).copied();
            match code {
                Some(ErrorCode::NONE) => {
                    if !open.moved.contains(partition) {
                        self.committed.insert(partition.clone(), entry.offset);
                    }
                    open.commit.entries.remove(partition);
                    continue;
                }
                Some(code) if code.is_unknown_topic() && open.unknown >= MOST_UNKNOWN => {
                    open.fail(partition, Why::Refused(code));
                }
                Some(code) if self.is_final(&request.identity, code) => {
                    open.fail(partition, Why::Refused(code));
                }
                code if open.gone.contains(partition) && !bug("commit_survives_revocation") => {
                    open.fail(partition, Why::NotOwned(code.unwrap_or(ErrorCode::REQUEST_TIMED_OUT)));
                }
                _ => waits = true,
            }
            open.last = code.unwrap_or(ErrorCode::REQUEST_TIMED_OUT);
        }
        if !waits {
            self.backoff.reset();
        } else if !is_abandoned && open.commit.deadline > now {
            // Under another generation at once.
            let is_stale = matches!(&self.standing, Standing::Member(identity) if *identity != request.identity);
            self.not_before = (!is_stale).then(|| now + self.backoff.next_delay(random));
        } else {
            let (was_sent, last) = (open.was_sent, open.last);
            for partition in std::mem::take(&mut open.commit.entries).into_keys() {
                open.failed.push(Failed { partition, why: Why::TimedOut { was_sent, last } });
            }
        }
        match (open.commit.entries.is_empty(), is_abandoned) {
            (true, true) => {}
            (true, false) => self.outcomes.push_back(Outcome { id: open.commit.id, failed: open.failed }),
            (false, _) => self.queue.push_front(open),
        }
    }

    /// Whether trying again is of no use; what the code says beyond the commit goes out as a verdict.
    fn is_final(&mut self, identity: &Identity, code: ErrorCode) -> bool {
        match code {
            ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::STALE_MEMBER_EPOCH => {
                self.verdict(Verdict::Membership(identity.clone(), code));
                // Who has no membership to renew.
                identity.generation < 0
            }
            ErrorCode::FENCED_INSTANCE_ID => {
                self.verdict(Verdict::Membership(identity.clone(), code));
                true
            }
            code => match code.action(ApiKey::OFFSET_COMMIT) {
                Action::FindCoordinator => {
                    self.verdict(Verdict::FindCoordinator);
                    false
                }
                Action::Retry | Action::Refresh => false,
                _ => true,
            },
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.not_before.is_some_and(|at| at <= now) {
            self.not_before = None;
        }
        let mut kept = VecDeque::new();
        for (place, open) in std::mem::take(&mut self.queue).into_iter().enumerate() {
            let is_out = place == 0 && self.in_flight.is_some();
            if open.commit.deadline > now || (is_out && self.is_abandoned) {
                kept.push_back(open);
                continue;
            }
            self.outcomes.push_back(open.late());
            if is_out {
                // Its place is kept: nothing may overtake it.
                self.is_abandoned = true;
                kept.push_back(open);
            }
        }
        self.queue = kept;
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let skip = usize::from(self.is_abandoned);
        let deadline = self.queue.iter().skip(skip).map(|open| open.commit.deadline).min();
        let waits = self.not_before.filter(|_| self.in_flight.is_none() && !self.queue.is_empty());
        deadline.into_iter().chain(waits).min()
    }

    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// Of the first in the queue: what is no further than what was committed is done.
    fn drop_what_goes_back(&mut self) {
        let Some(Open { commit, .. }) = self.queue.front_mut() else { return };
        if !commit.may_go_back && !bug("commits_rewind") {
            let committed = &self.committed;
            commit
                .entries
                .retain(|partition, entry| committed.get(partition).is_none_or(|committed| entry.offset > *committed));
        }
    }

    fn finish(&mut self) {
        if let Some(open) = self.queue.pop_front() {
            self.outcomes.push_back(Outcome { id: open.commit.id, failed: open.failed });
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        if !self.verdicts.contains(&verdict) {
            self.verdicts.push_back(verdict);
        }
    }
}

impl Open {
    /// Time is up for what is left of it.
    fn late(&self) -> Outcome {
        let why = Why::TimedOut { was_sent: self.was_sent, last: self.last };
        let left = self.commit.entries.keys().map(|partition| Failed { partition: partition.clone(), why });
        Outcome { id: self.commit.id, failed: self.failed.iter().cloned().chain(left).collect() }
    }

    fn drop_unowned(&mut self, owned: &BTreeSet<TopicPartition>) {
        let (last, failed) = (self.last, &mut self.failed);
        self.commit.entries.retain(|partition, _| {
            let is_owned = owned.contains(partition);
            if !is_owned {
                failed.push(Failed { partition: partition.clone(), why: Why::NotOwned(last) });
            }
            is_owned
        });
    }

    fn fail(&mut self, partition: &TopicPartition, why: Why) {
        self.commit.entries.remove(partition);
        self.failed.push(Failed { partition: partition.clone(), why });
    }
}

#[cfg(test)]
mod tests;
