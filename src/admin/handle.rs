//! The handle, and what its requests share.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::Error;
use crate::net::Core;

/// Administers a cluster: creates, deletes, lists and describes what is in it. From [`Client::admin`].
///
/// Cheap to clone. Every method returns a request that is sent when it is awaited, with methods for its options. Dropping
/// such a future stops waiting and trying again; what was sent may take effect all the same.
///
/// (Java: `org.apache.kafka.clients.admin.Admin`.)
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// let admin = client.admin();
/// for broker in admin.describe_cluster().await?.brokers {
///     println!("broker {} at {}:{}", broker.id, broker.host, broker.port);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Admin {
    core: Arc<Core>,
}

/// What awaiting an admin request awaits.
pub type AdminFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

impl Admin {
    pub(crate) fn new(client: &Client) -> Self {
        Self { core: Arc::clone(client.core()) }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("bootstrap", &self.core.seeds).finish_non_exhaustive()
    }
}

/// How long a request may take in all, and which setting says so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TimeLimit(pub Option<Duration>);

impl TimeLimit {
    /// The deadline from now on, and what an error calls it.
    pub(super) fn start(self, core: &Core) -> (Instant, String) {
        let (limit, setting) = match self.0 {
            Some(timeout) => (timeout, "timeout"),
            None => (core.api_timeout, "default_api_timeout"),
        };
        // A limit beyond what the clock can say is none.
        let deadline = core.now().checked_add(limit).unwrap_or_else(|| core.now() + core.api_timeout);
        (deadline, format!("{limit:?} ({setting})"))
    }
}
