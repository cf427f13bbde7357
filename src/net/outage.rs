//! Addresses that could not be reached: one attempt at a time for all who want to go there.
//!
//! A client has several connections to a broker. If each came back by itself, an outage would see all of them knock. So
//! the back-off belongs to the address, one lane tries when it ends, and the others wait for what comes of that. A
//! connection that became ready ends it for everybody: a broker that cuts connections which work is not away.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::connector::Address;
use crate::machine::backoff::Backoff;

/// Ready when the outage is over.
pub type Over = Pin<Box<OwnedNotified>>;

pub struct Outages {
    base: Duration,
    max: Duration,
    addresses: Mutex<HashMap<Address, Outage>>,
}

struct Outage {
    backoff: Backoff,
    /// When the next attempt may be made. While one is under way: when another may be, if that one hangs.
    until: Instant,
    over: Arc<Notify>,
}

impl Outages {
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max: max.max(base), addresses: Mutex::default() }
    }

    /// Whether to connect now, and if so, whether others wait for it; or when to ask again.
    pub fn try_connect(&self, address: &Address, now: Instant) -> Result<bool, (Instant, Over)> {
        let mut addresses = self.lock();
        let Some(outage) = addresses.get_mut(address) else { return Ok(false) };
        if outage.until > now {
            return Err((outage.until, Box::pin(Arc::clone(&outage.over).notified_owned())));
        }
        outage.until = now + self.max;
        Ok(true)
    }

    /// An attempt failed, or a connection was lost. What all lose at once is one failure.
    pub fn fail(&self, address: &Address, now: Instant, was_scout: bool, random: u64) {
        let mut addresses = self.lock();
        let outage = addresses.entry(address.clone()).or_insert_with(|| Outage {
            backoff: Backoff::new(self.base, self.max),
            until: now,
            over: Arc::default(),
        });
        if was_scout || outage.until <= now {
            let delay = outage.backoff.next_delay(random);
            // The longest is spread upward alone: no more attempts a minute than it allows, whatever the jitter.
            let is_longest = delay > self.max.mul_f64(0.8);
            outage.until = now + if is_longest { delay.max(self.max) } else { delay };
        }
    }

    /// A connection to it is ready.
    pub fn end(&self, address: &Address) {
        if let Some(outage) = self.lock().remove(address) {
            outage.over.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, Outage>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]
mod tests {
    use super::*;

    const MIDDLE: u64 = 1 << 63;

    #[test]
    fn one_lane_tries_and_the_others_wait_for_it() {
        let ms = Duration::from_millis;
        let outages = Outages::new(ms(50), ms(1000));
        let (broker, other, now) = (Address::new("a", 1), Address::new("b", 1), Instant::now());
        assert_eq!(outages.try_connect(&broker, now).ok(), Some(false));
        // Four connections are lost together: one failure.
        (0..4).for_each(|_| outages.fail(&broker, now, false, MIDDLE));
        let until = |at| outages.try_connect(&broker, at).err().map(|(until, _)| until);
        assert_eq!(until(now), Some(now + ms(50)));
        assert_eq!(outages.try_connect(&other, now).ok(), Some(false));
        let mut at = now + ms(50);
        for delay in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(outages.try_connect(&broker, at).ok(), Some(true));
            assert_eq!(until(at), Some(at + ms(1000)), "while it tries");
            outages.fail(&broker, at, true, MIDDLE);
            assert_eq!(until(at), Some(at + ms(delay)));
            at += ms(delay);
        }
        let (_, mut over) = outages.try_connect(&broker, at - ms(1)).err().unwrap();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(over.as_mut().poll(&mut cx).is_pending());
        outages.end(&broker);
        assert!(over.as_mut().poll(&mut cx).is_ready());
        // The next failure waits the shortest time again.
        assert_eq!(outages.try_connect(&broker, at).ok(), Some(false));
        outages.fail(&broker, at, false, MIDDLE);
        assert_eq!(until(at), Some(at + ms(50)));
    }
}
