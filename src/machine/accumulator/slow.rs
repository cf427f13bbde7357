//! The fast lane and the slow one: how long an answer may take, and whom it moves to the other if it takes longer.
//!
//! A request that waits for a slow follower holds its connection, and whatever is behind it. A partition whose head stays
//! unanswered well beyond the leader's usual time, or is refused for now, goes on over the slow one, alone in its requests,
//! which say that they want to be answered soon; it comes back after a success. The others are freed by cutting the fast
//! connection: the same bytes under the same sequences go out again. So this is for idempotent producers with acks=all
//! alone: without the one nothing may be sent twice, without the other nothing waits.
//!
//! A partition that comes from another leader begins on the slow connection, if there is one, together with those that came
//! with it: its followers have to find the new leader first, and what is acknowledged has to wait for them.

use std::time::{Duration, Instant};

use super::line::{GRACE, LaneId};
use super::{Accumulator, Event, PartitionId, Slot};
use crate::machine::planted::bug;
use crate::machine::sequence::Receipts;

/// Well beyond the usual time begins here at the earliest, and here while no time is usual yet.
const LEAST_LIMIT: Duration = Duration::from_millis(50);
const FIRST_LIMIT: Duration = Duration::from_millis(250);
/// How long a broker may wait for followers before it answers the slow lane: at first, and at most.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);
const MOST_PATIENCE: Duration = Duration::from_millis(500);
/// The same for newcomers at first: one whose followers stay away keeps the others waiting for so long.
pub(super) const NEWCOMERS_PATIENCE: Duration = Duration::from_millis(100);

impl<R: Receipts> Accumulator<R> {
    /// How long the head of a lane may be unanswered.
    pub(super) fn limit(&self, lane: LaneId) -> Duration {
        let limit = self.usual.map_or(FIRST_LIMIT, |usual| (usual * 3).max(LEAST_LIMIT));
        let head = self.lines[lane as usize].head().filter(|_| lane == LaneId::Slow);
        let slot = head.and_then(|head| self.slots.get(self.requests.get(self.place_of(head)?)?.1.ids.first()?));
        slot.map_or(limit, |slot| limit + slot.patience + slot.allowance)
    }

    /// How long after the answer to a probe the head's may come.
    pub(super) fn grace(&self) -> Duration {
        self.usual.map_or(GRACE, |usual| (usual * 2).clamp(GRACE, LEAST_LIMIT))
    }

    /// The head of a lane was answered, in so much time.
    pub(super) fn learn(&mut self, now: Instant, took: Duration) {
        self.last_fast = Some(now);
        self.usual = Some(match self.usual {
            None => took,
            // It forgets a slow spell faster than a quick one.
            Some(usual) if took < usual => (usual + took) / 2,
            Some(usual) => usual + (took - usual) / 8,
        });
    }

    /// Moves a partition to the slow lane.
    pub(super) fn slow_down(&mut self, id: PartitionId) {
        let patience = self.usual.map_or(LEAST_PATIENCE, |usual| (usual * 2).clamp(LEAST_PATIENCE, MOST_PATIENCE));
        if let Some(slot) = self.slots.get_mut(&id).filter(|slot| slot.lane == LaneId::Fast) {
            slot.lane = LaneId::Slow;
            slot.patience = patience;
            slot.quick = 0;
            slot.relapses += 1;
            self.slow.insert(id);
        }
    }

    /// A batch was acknowledged on the slow lane: back to the fast one, if that took no longer than usual.
    pub(super) fn speed_up(&mut self, now: Instant, id: PartitionId, took: Duration) {
        let is_alone = self.last_fast.is_none_or(|last| last + took < now);
        if is_alone {
            // Nobody was quicker meanwhile: this is how long the leader takes.
            self.usual = Some(self.usual.unwrap_or_default().max(took.min(MOST_PATIENCE)));
        }
        let is_quick = is_alone || took <= self.limit(LaneId::Fast);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.quick = if is_quick { slot.quick + 1 } else { 0 };
            slot.allowance = if is_quick { Duration::ZERO } else { slot.allowance };
            if slot.quick >= 1 << (slot.relapses.clamp(1, 7) - 1) && !bug("never_returns") {
                slot.lane = LaneId::Fast;
                self.slow.remove(&id);
            }
        }
    }

    /// A partition that was stuck is not any more. What ended that may have ended it for the others on the slow lane: they
    /// wait for no back-off.
    pub(super) fn revive(&mut self, now: Instant) {
        for id in self.slow.iter().copied().collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.queue.retry_now();
            }
            self.update(now, id);
        }
    }

    /// The head of a lane is overdue, and its broker answers others.
    pub(super) fn cut(&mut self, now: Instant, lane: LaneId) {
        let tokens = self.lines[lane as usize].take();
        self.events.push_back(Event::Cut(lane));
        let mut cut = Vec::new();
        for (nth, token) in tokens.into_iter().enumerate() {
            let request = self.place_of(token).and_then(|place| self.requests.remove(place));
            for id in request.map(|(_, request)| request.ids).unwrap_or_default() {
                // Those that left, and maybe came back, have taken it back before.
                let Some(slot) = self.slots.get_mut(&id) else { continue };
                if !slot.queue.take_back(token) {
                    continue;
                }
                cut.push(id);
                if nth > 0 {
                    continue;
                }
                match lane {
                    LaneId::Slow => {
                        slot.wait_longer();
                        slot.allowance =
                            (slot.allowance * 2).clamp(LEAST_LIMIT, self.config.request_timeout.max(LEAST_LIMIT));
                        // Whatever spreads it: partitions that were cut together come back one after the other.
                        slot.queue.back_off(now, token.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                    }
                    _ => self.slow_down(id),
                }
            }
        }
        for id in cut {
            self.update(now, id);
        }
    }
}

impl<R: Receipts> Slot<R> {
    /// Its followers were not there in time.
    pub(super) fn wait_longer(&mut self) {
        self.patience = (self.patience * 2).min(MOST_PATIENCE);
        // Those that came with it are there by now, or as badly off.
        self.is_newcomer &= self.patience < MOST_PATIENCE;
    }
}
