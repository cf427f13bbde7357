//! Streams to the brokers without sockets.

use std::io;
use std::sync::Weak;

use super::broker::Shared;
use crate::{Address, Connecting, Connector, Transport};

/// Bytes that a stream holds for a side that does not read, as the buffers of a socket do.
const BUFFER: usize = 256 << 10;

/// Connects to the brokers of a [`MockCluster`](super::MockCluster) in memory, by the addresses that they advertise.
///
/// From [`MockCluster::connector`](super::MockCluster::connector). No socket is opened, so it works on paused time. A
/// stopped broker, an unknown address and a cluster that is gone refuse connections.
#[derive(Clone)]
pub struct MockConnector {
    pub(super) shared: Weak<Shared>,
}

impl std::fmt::Debug for MockConnector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockConnector").finish_non_exhaustive()
    }
}

impl Connector for MockConnector {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let refused = |why: &str| io::Error::new(io::ErrorKind::ConnectionRefused, format!("{address}: {why}"));
            let shared = self.shared.upgrade().ok_or_else(|| refused("the mock cluster is gone"))?;
            let brokers = shared.brokers();
            let broker = brokers.iter().find(|broker| broker.address == *address);
            let id = broker.ok_or_else(|| refused("no broker of the mock cluster"))?.id;
            let (client, server) = tokio::io::duplex(BUFFER);
            if !shared.serve(id, Box::new(server)) {
                return Err(refused("the broker is stopped"));
            }
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}
