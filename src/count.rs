//! What handles count with: for their own snapshots, and with the feature `metrics` for whoever installed a recorder.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long something took, many times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// How many times.
    pub count: u64,
    /// All of them together.
    pub total: Duration,
    /// The longest.
    pub max: Duration,
}

impl Timing {
    /// The mean; zero if there was nothing yet.
    pub fn mean(&self) -> Duration {
        match u32::try_from(self.count) {
            Ok(0) => Duration::ZERO,
            Ok(count) => self.total / count,
            Err(_) => Duration::from_secs_f64(self.total.as_secs_f64() / self.count as f64),
        }
    }
}

/// Goes up.
pub(crate) struct Count {
    value: AtomicU64,
    #[cfg(feature = "metrics")]
    facade: metrics::Counter,
}

impl Count {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nobody is told"))]
    pub(crate) fn new(name: &'static str, client_id: &str) -> Self {
        Self {
            value: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            facade: metrics::counter!(name, "client_id" => client_id.to_owned()),
        }
    }

    pub(crate) fn add(&self, n: u64) {
        if n > 0 {
            self.value.fetch_add(n, Ordering::Relaxed);
            #[cfg(feature = "metrics")]
            self.facade.increment(n);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// How long something took, each time.
pub(crate) struct Times {
    count: AtomicU64,
    nanos: AtomicU64,
    longest: AtomicU64,
    #[cfg(feature = "metrics")]
    facade: metrics::Histogram,
}

impl Times {
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "nobody is told"))]
    pub(crate) fn new(name: &'static str, client_id: &str) -> Self {
        let (count, nanos, longest) = Default::default();
        Self {
            count,
            nanos,
            longest,
            #[cfg(feature = "metrics")]
            facade: metrics::histogram!(name, "client_id" => client_id.to_owned()),
        }
    }

    pub(crate) fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.longest.fetch_max(nanos, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        self.facade.record(time);
    }

    pub(crate) fn get(&self) -> Timing {
        let duration = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        Timing { count: self.count.load(Ordering::Relaxed), total: duration(&self.nanos), max: duration(&self.longest) }
    }
}
