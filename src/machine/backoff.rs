//! Exponential back-off with jitter (KIP-144 for connections, KIP-580 for requests).

use std::time::Duration;

/// Counts failures in a row and says how long to wait after each.
///
/// The n-th wait is `base × 2ⁿ`, at most `max`, spread by ±20 % so that clients that lost the same broker do not
/// come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max: max.max(base), failures: 0 }
    }

    /// A success: the next failure waits `base` again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts one more failure. `random` is any 64 random bits, drawn by the caller.
    pub fn next_delay(&mut self, random: u64) -> Duration {
        let doubled = self.base.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        let delay = doubled.min(self.max);
        // 0.8 to 1.2, in steps of 2⁻³²
        let jitter = 0.8 + 0.4 * (random >> 32) as f64 / f64::from(u32::MAX);
        delay.mul_f64(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_maximum_and_starts_again() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(50), ms(1000));
        let middle = 1 << 63;
        let delays: Vec<_> = (0..7).map(|_| backoff.next_delay(middle).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert!(backoff.next_delay(0) == ms(40) && backoff.failures() == 1);
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        for random in [0, 1 << 40, u64::MAX] {
            let delay = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next_delay(random);
            assert!((800..=1200).contains(&delay.as_millis()), "{delay:?}");
        }
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..1000 {
            backoff.next_delay(0);
        }
    }
}
