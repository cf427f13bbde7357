//! What becomes of a change of the assignment. The next one waits until it is through:
//!
//! ```text
//!   revoked   ask the caller back ─▶ out of the buffers ─▶ commit what was dealt with ─▶ listener ─▶ acknowledge
//!   assigned  into the buffers, unfetched ─▶ listener ─▶ fetch ─▶ acknowledge
//!   lost      out of the buffers at once ─▶ listener ─▶ acknowledge
//! ```

use tokio::sync::mpsc;

use super::driver::{Answer, Driver};
use super::listener::RebalanceEvent;
use super::member::Member;
use crate::consumer::trace::RebalanceSpan;
use crate::error::TopicPartition;
use crate::machine::group::Change;
use crate::machine::offsets::Start;

/// Where a change of the assignment is.
pub enum Step {
    None,
    /// Until the caller has dealt with what it has in hand.
    Returning(Vec<TopicPartition>),
    /// Until commits of these are through.
    Committing(Vec<TopicPartition>),
    /// Until the listener has returned.
    Listening(RebalanceEvent, RebalanceSpan),
}

impl Driver {
    pub(super) fn change(&mut self, change: Change) {
        let now = self.core.now();
        self.rebalancing.get_or_insert(now);
        match change {
            Change::Assigned(added) => {
                (self.reported, self.may_fall_back) = (None, false);
                let listens = self.group.settings.listener.is_some();
                let wanted = added.iter().map(|tp| (tp.clone(), Start::Committed)).collect();
                let ids = self.handle.take_on(wanted, listens);
                self.assigned.extend(ids);
                self.settled = None;
                self.listen(RebalanceEvent::Assigned(added));
            }
            Change::Revoked(revoked) => {
                let ids = revoked.iter().filter_map(|tp| self.assigned.get(tp).copied()).collect();
                self.handle.shared.call_back(ids);
                self.step = Step::Returning(revoked);
            }
            Change::Lost(lost) => self.listen(RebalanceEvent::Lost(lost)),
        }
    }

    /// Takes the change of the assignment that is under way as far as it goes. Whether it moved.
    pub(super) fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.step, Step::None) {
            Step::None => false,
            Step::Returning(revoked) => {
                if self.has_lost(&revoked) {
                    self.listen(RebalanceEvent::Lost(revoked));
                } else if self.closing.is_some() || self.handle.shared.lock().are_hands_free() {
                    if self.group.settings.auto_commit.is_some() {
                        let mut settled = self.handle.shared.lock().settled();
                        settled.retain(|tp, _| revoked.contains(tp));
                        self.commits.commit_settled(settled);
                    }
                    self.take_away(&revoked);
                    self.step = Step::Committing(revoked);
                } else {
                    self.step = Step::Returning(revoked);
                    return false;
                }
                true
            }
            Step::Committing(revoked) => {
                if self.has_lost(&revoked) {
                    self.listen(RebalanceEvent::Lost(revoked));
                } else if !self.commits.holds(&revoked) {
                    let is_dropped = self.handle.shared.lock().is_closed();
                    let lost = is_dropped.then(|| RebalanceEvent::Lost(revoked.clone()));
                    self.listen(lost.unwrap_or(RebalanceEvent::Revoked(revoked)));
                } else {
                    self.step = Step::Committing(revoked);
                    return false;
                }
                true
            }
            listening @ Step::Listening(..) => {
                self.step = listening;
                false
            }
        }
    }

    /// What was to be given back was taken away meanwhile.
    fn has_lost(&self, revoked: &[TopicPartition]) -> bool {
        let committable = self.member.as_ref().map(Member::committable).unwrap_or_default();
        revoked.iter().any(|tp| !committable.contains(tp))
    }

    fn listen(&mut self, event: RebalanceEvent) {
        self.handle.shared.lock().hands.revoked();
        let span = RebalanceSpan::begin(&self.handle.watch, &self.group.coordinated.id, &event);
        self.step = Step::Listening(event.clone(), span);
        let done = Listened(self.answers.clone());
        let Some(listener) = self.group.settings.listener.clone() else { return drop(done) };
        let handle = self.handle.clone();
        self.core.network.runtime.spawn(async move {
            // Says so when it is dropped: also if the listener panics.
            let _done = done;
            match &event {
                RebalanceEvent::Assigned(partitions) => listener.assigned(&handle, partitions).await,
                RebalanceEvent::Revoked(partitions) => listener.revoked(&handle, partitions).await,
                RebalanceEvent::Lost(partitions) => listener.lost(&handle, partitions).await,
            }
        });
    }

    pub(super) fn listened(&mut self) {
        let Step::Listening(event, _span) = std::mem::replace(&mut self.step, Step::None) else { return };
        if let RebalanceEvent::Assigned(added) = &event {
            let mut inbox = self.handle.shared.lock();
            added.iter().filter_map(|tp| self.assigned.get(tp)).for_each(|id| inbox.release(*id));
        }
        let now = self.core.now();
        match &event {
            RebalanceEvent::Assigned(_) => {
                let since = self.rebalancing.take().unwrap_or(now);
                self.handle.watch.counts.rebalanced(now.saturating_duration_since(since));
                self.group.rebalanced(now);
            }
            RebalanceEvent::Lost(_) => self.handle.watch.counts.lost(),
            RebalanceEvent::Revoked(_) => {}
        }
        self.group.audience.tell(&event);
        if let Some(member) = &mut self.member {
            member.acknowledge();
        }
    }
}

struct Listened(mpsc::UnboundedSender<Answer>);

impl Drop for Listened {
    fn drop(&mut self) {
        let _ = self.0.send(Answer::Listened);
    }
}
