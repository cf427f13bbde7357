//! Who comes first when an answer is there: whoever waits for its records, or the next fetch.
//!
//! ```text
//!   leader's task   answer ─ wakes ─┐                             ┌─ next fetch
//!   caller's                        └─ records ─ asks for more ───┘
//! ```
//! To plan and to write a fetch takes as long as the caller needs for a record or two. So the fetch stands back until the
//! caller asks for more: each wakes the other on the same thread, one behind the other, and no second thread has to be woken,
//! which costs more than both. (A task that yields instead wakes one: another thread might run it.)
//!
//! This helps only where the caller comes back at once, and runs where it was woken: not one that computes for long, waits for
//! something else, or has a thread of its own, as what `block_on` runs. It shows by what the caller does, and the fetch goes
//! first then.

use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Stands back, and learns whether that was of use.
#[derive(Debug, Default)]
pub struct Turn {
    /// Since when, and on which thread.
    stood_back: Option<(Instant, ThreadId)>,
    /// Times in a row that it was of no use.
    in_vain: u32,
    /// Answers to come that it does not stand back for.
    pause: u32,
}

/// The fetch waits no longer than that, whatever the caller does.
const PATIENCE: Duration = Duration::from_millis(10);
/// A caller that comes back so soon is worth the wait.
const SOON: Duration = Duration::from_micros(100);
/// Once may be a busy machine.
const ENOUGH: u32 = 2;
/// Then so many fetches go first before it is tried again.
const PAUSE: u32 = 100;

impl Turn {
    /// An answer is there that somebody waits for: whether the fetch should stand back.
    pub fn may_stand_back(&mut self) -> bool {
        let may = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        may
    }

    pub fn stand_back(&mut self, now: Instant, here: ThreadId) {
        self.stood_back = Some((now, here));
    }

    pub fn stands_back(&self) -> bool {
        self.stood_back.is_some()
    }

    /// When the fetch goes out at the latest.
    pub fn until(&self) -> Option<Instant> {
        self.stood_back.map(|(since, _)| since + PATIENCE)
    }

    /// The fetch goes out. `caller` is where the caller has asked for more meanwhile.
    pub fn go_on(&mut self, now: Instant, caller: Option<ThreadId>) {
        let Some((since, here)) = self.stood_back.take() else { return };
        if caller == Some(here) && now.saturating_duration_since(since) <= SOON {
            self.in_vain = 0;
        } else if caller.is_some() || now >= since + SOON {
            self.in_vain += 1;
        }
        if self.in_vain >= ENOUGH {
            (self.in_vain, self.pause) = (0, PAUSE);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]
mod tests {
    use super::*;

    /// Stands back, and goes on after so long.
    fn once(turn: &mut Turn, after: Duration, caller: Option<ThreadId>) -> bool {
        let (now, here) = (Instant::now(), std::thread::current().id());
        if !turn.may_stand_back() {
            return false;
        }
        turn.stand_back(now, here);
        assert_eq!(turn.until(), Some(now + PATIENCE));
        turn.go_on(now + after, caller);
        assert!(!turn.stands_back());
        true
    }

    #[test]
    fn it_stands_back_for_a_caller_that_comes_back_at_once() {
        let here = Some(std::thread::current().id());
        let mut turn = Turn::default();
        for _ in 0..1_000 {
            assert!(once(&mut turn, SOON, here));
        }
        // One answer that came late, and what was ended by something else before it could be seen to be of use.
        assert!(once(&mut turn, SOON * 2, here) && once(&mut turn, SOON, here));
        assert!(once(&mut turn, PATIENCE, None) && once(&mut turn, SOON / 2, None) && once(&mut turn, SOON, here));
        assert!(once(&mut turn, SOON, here));
    }

    #[test]
    fn it_goes_first_where_standing_back_was_of_no_use_twice() {
        let here = std::thread::current().id();
        let elsewhere = std::thread::spawn(|| std::thread::current().id()).join().unwrap();
        for (after, caller) in
            [(SOON * 2, Some(here)), (SOON / 2, Some(elsewhere)), (PATIENCE, None), (SOON * 2, Some(elsewhere))]
        {
            let mut turn = Turn::default();
            for _ in 0..3 {
                assert!(once(&mut turn, after, caller) && once(&mut turn, after, caller));
                for _ in 0..PAUSE {
                    assert!(!once(&mut turn, after, caller));
                }
            }
        }
    }
}
