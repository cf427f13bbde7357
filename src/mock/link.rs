//! The network between clients and brokers: how long bytes are under way, and how many fit through.
//!
//! ```text
//!             request_bandwidth   request_latency
//!   client ──▶ one after another ──▶ under way ──▶ broker
//!          ◀── under way ◀── one after another ◀──
//!             answer_latency      answer_bandwidth
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::broker::{Broker, Shared};
use super::runtime::Runtime;
use crate::Transport;

/// Bytes that a link holds in each direction before it pushes back.
const UNDER_WAY: usize = 4 << 20;
/// What is read at once, and so arrives at once.
const CHUNK: usize = 16 << 10;
/// The buffer between the link and the broker.
const BUFFER: usize = 64 << 10;

/// The network between clients and a broker, each direction for itself; for
/// [`set_link`](super::MockCluster::set_link). As it is made by [`new`](Self::new), nothing takes any time.
///
/// ```
/// use std::time::Duration;
///
/// use milena::mock::Link;
///
/// // 20 ms there and 20 ms back, and answers at a megabyte a second.
/// let far = Link::new().latency(Duration::from_millis(20)).answer_bandwidth(1_000_000);
/// assert_ne!(far, Link::new());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a link does nothing until it is given to `MockCluster::set_link`"]
pub struct Link {
    requests: Way,
    answers: Way,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    latency: Duration,
    /// 0: as many as there are.
    bytes_per_second: u64,
}

impl Link {
    /// A link on which nothing takes any time.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long bytes are under way, in each direction: the time of a round trip is twice that.
    pub fn latency(self, latency: Duration) -> Self {
        self.request_latency(latency).answer_latency(latency)
    }

    /// How long bytes are under way from clients to the broker.
    pub fn request_latency(mut self, latency: Duration) -> Self {
        self.requests.latency = latency;
        self
    }

    /// How long bytes are under way from the broker to clients.
    pub fn answer_latency(mut self, latency: Duration) -> Self {
        self.answers.latency = latency;
        self
    }

    /// Bytes per second in each direction, for every connection; 0 is no limit.
    pub fn bandwidth(self, bytes_per_second: u64) -> Self {
        self.request_bandwidth(bytes_per_second).answer_bandwidth(bytes_per_second)
    }

    /// Bytes per second from clients to the broker, for every connection; 0 is no limit.
    pub fn request_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.requests.bytes_per_second = bytes_per_second;
        self
    }

    /// Bytes per second from the broker to clients, for every connection; 0 is no limit.
    pub fn answer_bandwidth(mut self, bytes_per_second: u64) -> Self {
        self.answers.bytes_per_second = bytes_per_second;
        self
    }

    pub(super) fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// How long a request of this size takes to arrive.
    pub(super) fn request_time(&self, bytes: usize) -> Duration {
        self.requests.time(bytes) + self.requests.latency
    }

    /// How long an answer of this size takes to arrive.
    pub(super) fn answer_time(&self, bytes: usize) -> Duration {
        self.answers.time(bytes) + self.answers.latency
    }
}

impl Way {
    /// How long so many bytes keep the way busy.
    fn time(&self, bytes: usize) -> Duration {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000).checked_div(self.bytes_per_second);
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

/// The links of a cluster: by broker, and by the client's id if it is set for one client.
#[derive(Debug)]
pub(super) struct Links(watch::Sender<BTreeMap<(i32, Option<String>), Link>>);

impl Default for Links {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Links {
    pub(super) fn set(&self, broker: i32, client: Option<&str>, link: Link) {
        self.0.send_modify(|links| {
            links.insert((broker, client.map(str::to_owned)), link);
        });
    }

    /// The link of a client, which has no id before its first request.
    pub(super) fn of(&self, broker: i32, client: Option<&str>) -> Link {
        let links = self.0.borrow();
        if links.is_empty() {
            return Link::default();
        }
        let own = client.and_then(|client| links.get(&(broker, Some(client.to_owned()))));
        own.or_else(|| links.get(&(broker, None))).copied().unwrap_or_default()
    }

    /// Wakes whoever waits at the next change.
    pub(super) fn changes(&self) -> watch::Receiver<BTreeMap<(i32, Option<String>), Link>> {
        self.0.subscribe()
    }
}

/// Puts the link between a broker and a connection: what is read from the result has come by it, and what is written
/// goes by it. It is asked for its speed with every chunk, so it can change at any time.
pub(super) fn carry(
    shared: &Arc<Shared>,
    broker: &Broker,
    client: Arc<OnceLock<String>>,
    stream: Box<dyn Transport>,
) -> Box<dyn Transport> {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (from_client, to_client) = tokio::io::split(stream);
    let (from_broker, to_broker) = tokio::io::split(far);
    let (id, cluster) = (broker.id, shared.clone());
    let carrying = async move {
        let link = || cluster.links.of(id, client.get().map(String::as_str));
        let requests = pump(&cluster.runtime, from_client, to_broker, || link().requests);
        let answers = pump(&cluster.runtime, from_broker, to_client, || link().answers);
        tokio::select! {
            biased;
            // The broker has closed the connection, and what it said has arrived: nobody reads the rest.
            _ = answers => {}
            () = async { drop(requests.await); pending().await } => {}
        }
    };
    shared.spawn(broker, carrying); // a broker that has stopped drops it, and so closes both ends
    Box::new(near)
}

/// Carries bytes until one side closes; then tells the other, once everything has arrived.
async fn pump<R, W>(
    runtime: &Runtime,
    mut from: ReadHalf<R>,
    mut to: WriteHalf<W>,
    way: impl Fn() -> Way,
) -> io::Result<()>
where
    R: Transport,
    W: Transport,
{
    let mut under_way: VecDeque<(Duration, bytes::Bytes)> = VecDeque::new();
    let (mut bytes, mut open, mut free_at) = (0, true, Duration::ZERO);
    let mut buffer = BytesMut::new();
    loop {
        let arrival = under_way.front().map(|(arrival, _)| *arrival);
        buffer.reserve(CHUNK);
        tokio::select! {
            biased;
            () = runtime.sleep_until(arrival.unwrap_or_default()), if arrival.is_some() => {
                if let Some((_, mut chunk)) = under_way.pop_front() {
                    bytes -= chunk.len();
                    to.write_all_buf(&mut chunk).await?;
                    to.flush().await?;
                }
            }
            read = from.read_buf(&mut buffer), if open && bytes < UNDER_WAY => {
                open = read? > 0;
                if open {
                    let (chunk, way) = (buffer.split().freeze(), way());
                    bytes += chunk.len();
                    free_at = free_at.max(runtime.elapsed()).saturating_add(way.time(chunk.len()));
                    under_way.push_back((free_at.saturating_add(way.latency), chunk));
                }
            }
            else => break,
        }
    }
    to.shutdown().await
}
