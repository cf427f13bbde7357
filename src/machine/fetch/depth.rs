//! How much to ask for of one partition at once, over a long way.
//!
//! ```text
//!   lane 0   ask ·············▶ bytes ask ·············▶ bytes
//!   lane 1        ask ·············▶ bytes ask ·············▶ bytes
//!                                         '--- gap ----'
//! ```
//! Two fetches are under way, and each asks anew when its bytes are there. As long as those of the other one last, nothing
//! is lost. Where they do not, nothing comes for a while although there is more: then each asks for so much more as would
//! have filled the gap. That is bandwidth times delay, without knowing either.
//!
//! From then on the partitions are in more requests than two, so that pieces are smaller for the same number of bytes under
//! way:
//! ```text
//!   lane 0   ask ·············▶ bytes ask ·············▶ bytes
//!   lane 1   ask ················▶ bytes ask ··············▶ bytes
//!            ask ···················▶ bytes ask ·············▶ bytes       in line: the broker begins with one
//!            ask ······················▶ bytes ask ············▶ bytes     when it has sent the one before
//! ```

use std::time::{Duration, Instant};

use super::output::LaneKind;

#[derive(Debug)]
pub(super) struct Depth {
    least: usize,
    most: usize,
    ask: usize,
    /// When the last answer was complete, of whichever lane.
    landed: Option<Instant>,
    /// There was a gap before the lane's last answer that tells.
    was_short: [bool; 2],
}

/// Over a long way up to so many requests stand in line at the broker on the immediate lane, each for its part of the
/// partitions. In fewer and larger pieces as many bytes would take longer: nothing of a piece can be read, or asked for anew,
/// before the whole of it is there.
const PIPELINE: usize = 7;
/// A gap counts from this part of the time on.
const PART: u32 = 8;
/// And from here on: a broker next door has gaps between its answers too, and larger pieces would only leave the
/// processor's caches.
const FAR: Duration = Duration::from_millis(1);

impl Depth {
    pub(super) fn new(least: usize, most: usize) -> Self {
        Self { least, most: most.max(least), ask: least, landed: None, was_short: [false; 2] }
    }

    pub(super) fn least(&self) -> usize {
        self.least
    }

    pub(super) fn ask(&self) -> usize {
        self.ask
    }

    /// How many requests may be on the immediate lane, one behind the other.
    pub(super) fn pipeline(&self) -> usize {
        if self.ask > self.least { PIPELINE } else { 1 }
    }

    /// An answer is there, of which the first byte came at `begun`. It tells something if it was asked for at the present
    /// depth, and of partitions that have more.
    pub(super) fn handle_answer(
        &mut self,
        now: Instant,
        lane: LaneKind,
        (sent, begun): (Instant, Instant),
        tells: bool,
    ) {
        let landed = self.landed.replace(now);
        if !tells {
            return;
        }
        let gap = begun.saturating_duration_since(landed.map_or(sent, |landed| landed.max(sent)));
        let bytes = now.saturating_duration_since(begun);
        let is_short = gap >= FAR && gap > (gap + bytes) / PART;
        // Once may be a busy broker, or a connection that had to be made.
        if std::mem::replace(&mut self.was_short[lane as usize], is_short) && is_short {
            let (gap, bytes) = (gap.as_micros(), bytes.as_micros().max(1));
            let more = (self.ask as u128 * gap / bytes).min(self.ask as u128 * 3);
            self.ask = self.ask.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)).min(self.most);
        }
    }

    /// Another way begins.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.least, self.most);
    }
}
