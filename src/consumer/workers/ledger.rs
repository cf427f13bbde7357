//! Which records of one partition are dealt with, when they are in any order.
//!
//! ```text
//!   offset    3   4   5   7   8   9          (6 was compacted away)
//!            done  ·  run done  ·  ·          · waits, run: a handler is at it
//!                 ▲        ▲         ▲
//!               prefix  started    reached    committed is the prefix: 4
//! ```
//! Only what is not done is kept, so an answer costs the logarithm of that and the memory is bounded by it.
//!
//! A partition that is to be given back in order must not leave holes: who comes next begins at the prefix, and would do
//! again what was done behind a hole. So what lies before a record that was started is done too, and only the rest is
//! dropped.

use std::collections::BTreeMap;
use std::task::{Context, Waker};

/// One registration of a record: an offset may come twice, when a log was cut.
pub type Ticket = u64;

#[derive(Debug)]
pub struct Ledger {
    /// Handed out, and not done.
    open: BTreeMap<i64, Open>,
    /// Behind all that was handed out; below zero while nothing is known.
    reached: i64,
    /// Of the leader that appended the record before it.
    reached_epoch: i32,
    /// The last record that was ever started; -1: none.
    started: i64,
    running: usize,
    /// The first that was abandoned: what lies behind it need not be kept.
    abandoned: Option<i64>,
    /// Of whoever waits until nobody is at anything any more.
    waker: Option<Waker>,
    next_ticket: Ticket,
    /// Of the cursor that hands out, and where that began.
    generation: u64,
    from: i64,
    intake: Intake,
}

#[derive(Debug)]
struct Open {
    ticket: Ticket,
    /// Of the leader that appended the record before this one.
    epoch_before: i32,
}

/// What may be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    All,
    /// What lies before a record that was started.
    Gaps,
    Nothing,
}

impl Ledger {
    /// `reached`: behind what was handed out before; `epoch`: of the record before that.
    pub fn new(generation: u64, reached: Option<i64>, epoch: i32) -> Self {
        Self {
            open: BTreeMap::new(),
            reached: reached.unwrap_or(-1),
            reached_epoch: epoch,
            started: -1,
            running: 0,
            abandoned: None,
            waker: None,
            next_ticket: 0,
            generation,
            from: reached.unwrap_or(-1),
            intake: Intake::All,
        }
    }

    /// A record was handed out. None: it is void, for the log was cut before it.
    pub fn register(&mut self, generation: u64, offset: i64, epoch: i32) -> Option<Ticket> {
        if self.is_void(generation, offset) {
            return None;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if self.abandoned.is_none_or(|first| offset < first) {
            self.open.insert(offset, Open { ticket, epoch_before: self.reached_epoch });
        }
        if offset >= self.reached {
            (self.reached, self.reached_epoch) = (offset.saturating_add(1), epoch);
        }
        Some(ticket)
    }

    /// A record goes straight to whoever deals with it, who has begun then. None: nothing of the partition does any more.
    pub fn hand_over(&mut self, generation: u64, offset: i64, epoch: i32) -> Option<Ticket> {
        if self.is_closed() {
            return None;
        }
        let ticket = self.register(generation, offset, epoch)?;
        self.started = self.started.max(offset);
        self.running += 1;
        Some(ticket)
    }

    /// What was started is put away, and not done: the prefix ends before it for good.
    pub fn abandon(&mut self, offset: i64, ticket: Ticket) {
        if self.is_open(offset, ticket) {
            drop(self.open.split_off(&offset.saturating_add(1)));
            self.abandoned = Some(offset);
        }
        self.running = self.running.saturating_sub(1);
    }

    /// The position is there: offsets before it that were not handed out will not be.
    pub fn reach(&mut self, generation: u64, position: i64, epoch: i32) {
        if generation < self.generation {
            return;
        }
        if position < self.reached {
            self.cut(generation, position);
        } else if position > self.reached {
            (self.reached, self.reached_epoch) = (position, epoch);
        }
    }

    /// Another cursor goes on at `position`. What was handed out from there on is void.
    pub fn cut(&mut self, generation: u64, position: i64) {
        self.generation = generation;
        self.from = position;
        drop(self.open.split_off(&position));
        self.abandoned = self.abandoned.filter(|first| *first < position);
        self.started = self.started.min(position - 1);
        if position < self.reached {
            (self.reached, self.reached_epoch) = (position, -1);
        }
    }

    /// Whether a handler may begin with it.
    pub fn start(&mut self, offset: i64, ticket: Ticket) -> bool {
        let may = match self.intake {
            Intake::All => true,
            Intake::Gaps => offset <= self.started,
            Intake::Nothing => false,
        };
        if !may || !self.is_open(offset, ticket) {
            return false;
        }
        self.started = self.started.max(offset);
        self.running += 1;
        true
    }

    /// The handler is through with what was started.
    pub fn done(&mut self, offset: i64, ticket: Ticket) {
        if self.is_open(offset, ticket) {
            self.open.remove(&offset);
        }
        self.running = self.running.saturating_sub(1);
    }

    /// The handler gave up what was started: nothing behind it will count.
    pub fn fail(&mut self) {
        self.shut();
        self.running = self.running.saturating_sub(1);
    }

    /// Whether what was started should be tried again.
    pub fn is_shut(&self) -> bool {
        self.intake == Intake::Nothing
    }

    /// Nothing behind the last record that was started is started any more.
    pub fn close(&mut self) {
        if self.intake == Intake::All {
            self.intake = Intake::Gaps;
        }
    }

    /// Nothing is started any more.
    pub fn shut(&mut self) {
        self.intake = Intake::Nothing;
    }

    pub fn is_closed(&self) -> bool {
        self.intake != Intake::All
    }

    /// Whether there is something that has to be done before the partition can be given back.
    pub fn is_busy(&self) -> bool {
        let has_gaps = || self.open.first_key_value().is_some_and(|(first, _)| *first <= self.started);
        self.running > 0 || (!self.is_shut() && has_gaps())
    }

    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// Whether nothing runs; if something does, the waker hears of it when it does not, if nothing more begins.
    pub fn poll_quiet(&mut self, cx: &Context<'_>) -> bool {
        if self.running > 0 {
            self.waker = Some(cx.waker().clone());
        }
        self.running == 0
    }

    pub fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }

    /// Whether everything that was handed out is done.
    pub fn is_clear(&self) -> bool {
        self.open.is_empty()
    }

    /// Everything before it is dealt with; and the epoch of the record before it.
    pub fn prefix(&self) -> Option<(i64, i32)> {
        let prefix = match self.open.first_key_value() {
            Some((first, open)) => (*first, open.epoch_before),
            None => (self.reached, self.reached_epoch),
        };
        Some(prefix).filter(|(offset, _)| *offset >= 0)
    }

    fn is_void(&self, generation: u64, offset: i64) -> bool {
        generation < self.generation && offset >= self.from
    }

    fn is_open(&self, offset: i64, ticket: Ticket) -> bool {
        self.open.get(&offset).is_some_and(|open| open.ticket == ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers these, all of epoch 4.
    fn handed_out(ledger: &mut Ledger, offsets: &[i64]) -> Vec<(i64, Ticket)> {
        offsets.iter().map(|offset| (*offset, ledger.register(0, *offset, 4).unwrap())).collect()
    }

    #[test]
    fn the_prefix_ends_before_the_first_that_is_not_done() {
        let mut ledger = Ledger::new(0, Some(3), 2);
        assert_eq!(ledger.prefix(), Some((3, 2)));
        let records = handed_out(&mut ledger, &[3, 4, 7, 8]);
        records.iter().for_each(|(offset, ticket)| assert!(ledger.start(*offset, *ticket)));
        let mut done = |at: usize| {
            ledger.done(records[at].0, records[at].1);
            (ledger.prefix(), ledger.is_clear())
        };
        assert_eq!(done(1), (Some((3, 2)), false));
        assert_eq!(done(0), (Some((7, 4)), false), "over the gap");
        assert_eq!(done(3), (Some((7, 4)), false));
        assert_eq!(done(2), (Some((9, 4)), true));
        ledger.reach(0, 12, 5);
        assert_eq!(ledger.prefix(), Some((12, 5)), "offsets that nobody sees");
        assert_eq!(Ledger::new(0, None, -1).prefix(), None);
    }

    #[test]
    fn what_is_closed_fills_its_gaps_and_begins_nothing_else() {
        let mut ledger = Ledger::new(0, Some(0), -1);
        let records = handed_out(&mut ledger, &[0, 1, 2, 3]);
        let (first, second, third, fourth) = (records[0], records[1], records[2], records[3]);
        assert!(ledger.start(first.0, first.1) && ledger.start(third.0, third.1));
        ledger.close();
        ledger.done(first.0, first.1);
        ledger.done(third.0, third.1);
        assert!(ledger.is_busy(), "1 lies before 2, which is done");
        assert!(!ledger.start(fourth.0, fourth.1));
        assert!(ledger.start(second.0, second.1) && ledger.is_busy());
        ledger.done(second.0, second.1);
        assert!(!ledger.is_busy() && !ledger.is_clear());
        assert_eq!(ledger.prefix(), Some((3, 4)));
    }

    #[test]
    fn what_is_shut_waits_for_what_runs_and_no_more() {
        let mut ledger = Ledger::new(0, Some(0), -1);
        let records = handed_out(&mut ledger, &[0, 1, 2]);
        assert!(ledger.start(0, records[0].1) && ledger.start(2, records[2].1));
        ledger.fail();
        assert!(ledger.is_busy() && !ledger.start(1, records[1].1));
        ledger.done(2, records[2].1);
        assert!(!ledger.is_busy());
        assert_eq!(ledger.prefix(), Some((0, -1)));
    }

    #[test]
    fn after_a_cut_old_answers_count_for_nothing_behind_it() {
        let mut ledger = Ledger::new(0, Some(0), -1);
        let records = handed_out(&mut ledger, &[0, 1, 2, 3]);
        assert!(records.iter().all(|(offset, ticket)| ledger.start(*offset, *ticket)));
        ledger.cut(1, 2);
        assert_eq!(ledger.register(0, 4, 4), None, "of the log as it was");
        let again = ledger.register(1, 2, 5).unwrap();
        ledger.done(2, records[2].1);
        ledger.done(0, records[0].1);
        ledger.done(1, records[1].1);
        assert_eq!(ledger.prefix().unwrap().0, 2);
        assert!(ledger.start(2, again));
        ledger.done(2, again);
        assert_eq!(ledger.prefix(), Some((3, 5)));
        ledger.reach(0, 9, 4);
        assert_eq!(ledger.prefix(), Some((3, 5)), "the old cursor");
    }

    #[test]
    fn the_prefix_stays_before_what_was_abandoned() {
        let mut ledger = Ledger::new(0, Some(0), -1);
        let hand_over = |ledger: &mut Ledger, offset| ledger.hand_over(0, offset, 4);
        let tickets: Vec<_> = (0..6).map(|offset| hand_over(&mut ledger, offset).unwrap()).collect();
        ledger.abandon(3, tickets[3]);
        assert_eq!(ledger.open.len(), 4, "what lies behind it is not kept");
        ledger.done(5, tickets[5]);
        ledger.done(4, tickets[4]);
        ledger.abandon(1, tickets[1]);
        let later = hand_over(&mut ledger, 6).unwrap();
        assert_eq!((ledger.open.len(), ledger.running), (2, 3));
        ledger.done(0, tickets[0]);
        assert_eq!(ledger.prefix(), Some((1, 4)));
        ledger.shut();
        assert_eq!(hand_over(&mut ledger, 7), None);
        assert!(ledger.is_busy());
        ledger.done(2, tickets[2]);
        ledger.done(6, later);
        assert!(!ledger.is_busy());
        assert_eq!(ledger.prefix(), Some((1, 4)));
        ledger.cut(1, 1);
        assert_eq!((ledger.prefix(), ledger.abandoned), (Some((1, -1)), None));
    }

    /// Against a list that is walked: gaps, answers in any order, closed at any time.
    #[test]
    fn it_agrees_with_a_walk_over_everything() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut ledger = Ledger::new(0, Some(0), -1);
            let (mut next, mut started, mut is_closed) = (0, -1, false);
            // (offset, ticket, 0 waits, 1 runs, 2 done)
            let mut model: Vec<(i64, Ticket, u8)> = Vec::new();
            for _ in 0..random.usize(1..200) {
                match random.u8(0..10) {
                    0..4 => {
                        next += i64::from(random.u8(0..3));
                        model.push((next, ledger.register(0, next, 0).unwrap(), 0));
                        next += 1;
                    }
                    4..9 if !model.is_empty() => {
                        let at = random.usize(..model.len());
                        let (offset, ticket, state) = &mut model[at];
                        match *state {
                            0 => {
                                let may = !is_closed || *offset <= started;
                                assert_eq!(ledger.start(*offset, *ticket), may);
                                if may {
                                    (*state, started) = (1, started.max(*offset));
                                }
                            }
                            1 => {
                                ledger.done(*offset, *ticket);
                                *state = 2;
                            }
                            _ => assert!(!ledger.start(*offset, *ticket)),
                        }
                    }
                    9 if random.u8(0..20) == 0 => {
                        ledger.close();
                        is_closed = true;
                    }
                    _ => {}
                }
                let first = model.iter().find(|(_, _, state)| *state < 2);
                let behind = model.last().map_or(0, |(offset, ..)| offset + 1);
                let expected = first.map_or(behind, |(offset, ..)| *offset);
                assert_eq!(ledger.prefix().unwrap().0, expected, "seed {seed}");
                let is_busy = model.iter().any(|(offset, _, state)| *state < 2 && *offset <= started);
                assert_eq!(ledger.is_busy(), is_busy, "seed {seed}");
            }
        }
    }
}
