//! The spare connections: what is small does not stand in line.
//!
//! A broker serves a connection one request at a time, and each takes several hops between its threads: requests that come
//! within one another's time wait in line on one connection where they would pass on several, since a broker has several
//! threads for its connections, and more for requests. So a small request of partitions that have nothing under way goes
//! over a connection on which nothing else is, if there is one. Large ones do not: when there is much to send, one
//! connection is as quick as several, and cheaper.
//!
//! A connection costs the broker something, so one more is made only for who would have gained much by it: when a request
//! has missed one while the leader was later than it need be (a collection of garbage, a compiler, a neighbour, followers
//! that it waits for). It ends as every connection does that is idle for long.

use std::time::{Duration, Instant};

use super::{Accumulator, Event, LaneId};
use crate::machine::planted::bug;
use crate::machine::sequence::Receipts;

/// What is ready counts as small up to so many partitions, and bytes.
const PARTITIONS: usize = 16;
const BYTES: usize = 16 << 10;

/// Nobody is late earlier than this: a turn of a thread more or less is no news.
const LEAST: Duration = Duration::from_micros(300);

/// How long a leader takes for a request that nothing is in front of.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Where it was quickest lately. A slow spell raises it by less than one percent with each answer.
    quickest: Option<Duration>,
    last: Duration,
}

impl Pace {
    pub(super) fn learn(&mut self, took: Duration) {
        self.last = took;
        self.quickest = Some(self.quickest.map_or(took, |quickest| took.min(quickest + quickest / 128)));
    }

    /// Whether a request that has waited so long is late, or would be if it took as long as the last one.
    fn is_late(&self, waited: Duration) -> bool {
        self.quickest.is_some_and(|quickest| waited.max(self.last) > LEAST.max(quickest * 2))
    }
}

impl<R: Receipts> Accumulator<R> {
    /// Where to send what is ready for the fast lane, if not there.
    pub(super) fn spare(&mut self, now: Instant) -> Option<LaneId> {
        let waited = self.lines[LaneId::Fast as usize].waited(now)?;
        if !self.is_small(now) {
            return None;
        }
        let line = |lane: &LaneId| &self.lines[*lane as usize];
        if let Some(lane) = LaneId::SPARE.into_iter().find(|lane| line(lane).is_free(now)) {
            return Some(lane);
        }
        if self.pace.is_late(waited)
            && let Some(lane) = LaneId::SPARE.into_iter().find(|lane| line(lane).is_closed())
        {
            self.lines[lane as usize].open();
            self.events.push_back(Event::Open(lane));
        }
        None
    }

    /// Whether all that is ready fits a small request, and nothing of it may have to wait for what is under way elsewhere.
    fn is_small(&self, now: Instant) -> bool {
        let ready = &self.lines[LaneId::Fast as usize].ready;
        let sizes = ready.iter().map(|id| {
            let slot = self.slots.get(id)?;
            let is_free = slot.lane == LaneId::Fast && (!slot.queue.is_in_flight() || bug("on_both_lanes"));
            slot.startable(now, self.identity).filter(|_| is_free)
        });
        ready.len() <= PARTITIONS && sizes.sum::<Option<usize>>().is_some_and(|sum| (1..=BYTES).contains(&sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_twice_the_quickest_and_never_less_than_a_turn_of_a_thread() {
        let us = Duration::from_micros;
        let mut pace = Pace::default();
        assert!(!pace.is_late(us(1_000_000)), "nothing is known");
        pace.learn(us(100));
        assert!(!pace.is_late(us(300)) && pace.is_late(us(301)));
        pace.learn(us(1_000));
        assert!(pace.is_late(us(0)), "the next is expected to take as long as the last");
        pace.learn(us(200));
        assert!(!pace.is_late(us(300)));
        // A leader far away is no late one, and one that is slow for good is so no longer after some hundred answers.
        let mut far = Pace::default();
        far.learn(us(20_000));
        assert!(!far.is_late(us(40_000)) && far.is_late(us(40_001)));
        let count = (0..)
            .take_while(|_| {
                pace.learn(us(20_000));
                pace.is_late(us(0))
            })
            .count();
        assert!((200..1_000).contains(&count), "{count}");
    }
}
