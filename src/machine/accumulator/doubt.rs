//! Partitions whose leader may be another one by now, and when to ask who it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::PartitionId;

/// Brokers elect others when one has been silent for some seconds, 9 by default. So others are asked again every 50 ms for
/// ten seconds, and then after a fiftieth of the time for which a leader has been in doubt: a new one is found soon after a
/// short outage, and a long one is no storm.
pub(super) fn ask_again(in_doubt: Duration) -> Duration {
    if in_doubt < Duration::from_secs(10) {
        return Duration::from_millis(50);
    }
    (in_doubt / 50).min(Duration::from_secs(5))
}

/// What their last attempts died of says that they may be led elsewhere. The attempts themselves come too rarely to find
/// out, once they back off.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    astray: BTreeSet<PartitionId>,
    /// Since when, and when to ask again.
    times: Option<(Instant, Instant)>,
}

impl Doubt {
    pub(super) fn lose(&mut self, now: Instant, id: PartitionId) {
        self.astray.insert(id);
        self.times.get_or_insert_with(|| (now, now + ask_again(Duration::ZERO)));
    }

    /// It was acknowledged, has left, or has nothing to send.
    pub(super) fn find(&mut self, id: PartitionId) {
        // As nearly always: nobody is.
        if !self.astray.is_empty() && self.astray.remove(&id) && self.astray.is_empty() {
            self.times = None;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.times.map(|(_, again)| again)
    }

    /// Whether to ask now.
    pub(super) fn step(&mut self, now: Instant) -> bool {
        let Some((since, again)) = &mut self.times else { return false };
        let is_due = *again <= now;
        if is_due {
            *again = now + ask_again(now.saturating_duration_since(*since));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_outage_is_no_storm() {
        let again = |seconds| ask_again(Duration::from_secs(seconds)).as_millis();
        assert_eq!([0, 9, 10, 60, 250, 3600].map(again), [50, 50, 200, 1_200, 5_000, 5_000]);
    }
}
