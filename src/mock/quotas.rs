//! Quotas: how many bytes a client may move in a second, and how long it is throttled when it moves more (KIP-13, 219).
//!
//! A client owes time: so many bytes, so long. It may owe a second's worth. What is beyond that its next answer says in
//! `throttle_time_ms`, and for as long the broker reads nothing from the connection. Whoever owes too much before a fetch
//! gets an answer without records, as from a real broker.

use std::collections::BTreeMap;
use std::time::Duration;

use super::MockCluster;
use super::broker::Call;

/// What a client may owe before it is throttled.
const ALLOWED: Duration = Duration::from_secs(1);

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measured {
    Produced,
    Fetched,
}

/// The quotas of a cluster. Each broker measures for itself.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    bytes_per_second: BTreeMap<(String, Measured), u64>,
    /// When a client has paid for all, by broker.
    paid: BTreeMap<(i32, String, Measured), Duration>,
}

impl Quotas {
    /// What a client owes beyond what is allowed.
    fn excess(&self, broker: i32, client: &str, what: Measured, now: Duration) -> Duration {
        let paid = self.paid.get(&(broker, client.to_owned(), what)).copied().unwrap_or_default();
        paid.saturating_sub(now).saturating_sub(ALLOWED)
    }

    fn charge(&mut self, broker: i32, client: &str, what: Measured, bytes: usize, now: Duration) {
        let Some(limit) = self.bytes_per_second.get(&(client.to_owned(), what)) else { return };
        let micros = (bytes as u64).saturating_mul(1_000_000) / limit;
        let paid = self.paid.entry((broker, client.to_owned(), what)).or_default();
        *paid = now.max(*paid).saturating_add(Duration::from_micros(micros));
    }

    fn set(&mut self, client: &str, what: Measured, bytes_per_second: Option<u64>) {
        self.paid.retain(|(_, name, measured), _| (name.as_str(), *measured) != (client, what));
        match bytes_per_second {
            Some(limit) => _ = self.bytes_per_second.insert((client.to_owned(), what), limit),
            None => _ = self.bytes_per_second.remove(&(client.to_owned(), what)),
        }
    }
}

impl Call<'_> {
    /// Charges the client for what it has moved.
    pub(super) fn charge(&self, what: Measured, bytes: usize) {
        let (client, now) = (self.client_id.unwrap_or_default(), self.shared.runtime.elapsed());
        self.state().quotas.charge(self.broker, client, what, bytes, now);
    }

    /// Throttles the client if it owes too much. Says whether it does.
    pub(super) fn throttle(&self, what: Measured) -> bool {
        let (client, now) = (self.client_id.unwrap_or_default(), self.shared.runtime.elapsed());
        let excess = self.state().quotas.excess(self.broker, client, what, now);
        if !excess.is_zero() {
            self.mute(excess);
        }
        !excess.is_zero()
    }
}

/// Quotas, by client id. A client may use a second's worth at once. What it moves beyond that, its answers say in
/// `throttle_time_ms`, and the broker reads nothing from its connection for as long. Each broker measures for itself.
///
/// ```
/// use milena::mock::MockCluster;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cluster = MockCluster::start().await;
/// cluster.set_produce_quota("importer", Some(1 << 20));
/// // … the client with this id now produces a mebibyte a second …
/// cluster.set_produce_quota("importer", None);
/// # cluster.close().await;
/// # }
/// ```
impl MockCluster {
    /// Limits what a client produces to so many bytes a second (`producer_byte_rate`), or takes the limit away.
    ///
    /// # Panics
    /// On a limit of 0.
    pub fn set_produce_quota(&self, client_id: &str, bytes_per_second: Option<u64>) {
        self.set_quota(client_id, Measured::Produced, bytes_per_second);
    }

    /// Limits what a client fetches to so many bytes a second (`consumer_byte_rate`), or takes the limit away. A fetch
    /// that comes too early is answered without records.
    ///
    /// # Panics
    /// On a limit of 0.
    pub fn set_fetch_quota(&self, client_id: &str, bytes_per_second: Option<u64>) {
        self.set_quota(client_id, Measured::Fetched, bytes_per_second);
    }

    fn set_quota(&self, client_id: &str, what: Measured, bytes_per_second: Option<u64>) {
        assert!(bytes_per_second != Some(0), "a client that may move nothing is better stopped by a fault");
        self.shared.state().quotas.set(client_id, what, bytes_per_second);
    }
}
