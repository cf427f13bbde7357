//! The cluster as a whole: how it is built, started and closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::api::{Api, KafkaRelease, Versions};
use super::broker::{Broker, Shared};
use super::connector::MockConnector;
use super::group::Timing;
use super::runtime::Runtime;
use super::sasl::Users;
use crate::Address;

/// An in-process Kafka cluster. See the [module](super) for a guide.
///
/// It runs on the runtime that starts it, and stops when it is dropped: ports are closed and tasks ended soon after,
/// or, with [`close`](Self::close), when that returns. If one of its tasks has panicked, dropping or closing it panics
/// too, so that a test does not pass on a broken broker.
///
/// Methods that name a broker, a topic or a partition panic when there is none: a test that asks for it is wrong.
#[derive(Debug)]
#[must_use = "a cluster stops when it is dropped"]
pub struct MockCluster {
    pub(super) shared: Arc<Shared>,
    /// `None` in memory.
    listen: Option<Listen>,
}

impl MockCluster {
    /// Starts one broker of the newest release on a free port of the loopback interface.
    ///
    /// # Panics
    /// If no port can be bound, or outside of a tokio runtime.
    ///
    /// ```
    /// use milena::mock::MockCluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::start().await;
    /// cluster.create_topic("orders", 3);
    /// println!("any Kafka client can use {}", cluster.bootstrap().join(","));
    /// cluster.close().await;
    /// # }
    /// ```
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A cluster of another shape.
    pub fn builder() -> MockClusterBuilder {
        MockClusterBuilder { settings: Settings::default() }
    }

    /// The addresses of all brokers as `host:port`, to begin with. Those of an in-memory cluster mean something to its
    /// [`connector`](Self::connector) alone.
    pub fn bootstrap(&self) -> Vec<String> {
        self.shared.brokers().iter().map(|broker| broker.address.to_string()).collect()
    }

    /// Gives a user a password, from the next authentication on; sessions go on until they end.
    ///
    /// # Panics
    /// If the cluster lets in everybody.
    pub fn set_password(&self, user: &str, password: &str) {
        let users = self.shared.users.as_ref();
        users.expect("a cluster with users: see MockClusterBuilder::user").set_password(user, password);
    }

    /// Connects to the brokers in memory. Clusters on TCP have it too.
    pub fn connector(&self) -> MockConnector {
        MockConnector { shared: Arc::downgrade(&self.shared) }
    }

    /// Stops every broker, and waits until all connections, ports and tasks are gone.
    ///
    /// # Panics
    /// If a task of the cluster has panicked.
    pub async fn close(self) {
        for broker in self.shared.brokers() {
            broker.stop().await;
        }
    }

    /// A broker that is not started yet, with its port.
    pub(super) async fn place(&self, id: i32) -> (Broker, Option<TcpListener>) {
        place(id, self.listen.as_ref()).await
    }

    /// Opens the port of a broker, again on the same one if it had one.
    pub(super) async fn open(&self, broker: &Broker) {
        let listener = match &broker.bound {
            Some(address) => Some(listen(address).await),
            None => None,
        };
        broker.start();
        if let Some(listener) = listener {
            self.shared.listen(broker.id, listener);
        }
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        for broker in self.shared.brokers() {
            broker.abort();
        }
        self.shared.faults.clear();
        if let Some(message) = self.shared.take_panic()
            && !std::thread::panicking()
        {
            panic!("a task of the mock cluster panicked: {message}");
        }
    }
}

async fn listen(address: &Address) -> TcpListener {
    match TcpListener::bind((address.host(), address.port())).await {
        Ok(listener) => listener,
        Err(error) => panic!("the mock cluster cannot listen on {address}: {error}"),
    }
}

/// A broker that is not started yet, at its address.
async fn place(id: i32, wanted: Option<&Listen>) -> (Broker, Option<TcpListener>) {
    let Some(wanted) = wanted else {
        return (Broker::new(id, Address::new(format!("broker-{id}.mock"), 9092), None), None);
    };
    let listener = listen(&wanted.address_of(id)).await;
    let bound: Address = listener.local_addr().expect("a bound socket has an address").into();
    let address = Address::new(wanted.advertised().to_owned(), bound.port());
    (Broker::new(id, address, Some(bound)), Some(listener))
}

/// Where brokers listen.
#[derive(Clone, Debug, Default)]
struct Listen {
    host: Option<String>,
    /// Of the first broker; 0: any that is free, for every broker.
    port: u16,
    advertised: Option<String>,
}

impl Listen {
    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    fn advertised(&self) -> &str {
        // Nobody can connect to a wildcard.
        let reachable = match self.host() {
            "0.0.0.0" | "::" => "127.0.0.1",
            host => host,
        };
        self.advertised.as_deref().unwrap_or(reachable)
    }

    fn address_of(&self, broker: i32) -> Address {
        let after_first = u16::try_from(broker - 1).ok().filter(|_| self.port > 0);
        let port = self.port.checked_add(after_first.unwrap_or(0));
        Address::new(self.host(), port.unwrap_or_else(|| panic!("there is no port for broker {broker} after 65535")))
    }
}

/// What a cluster is built with.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) brokers: i32,
    in_memory: bool,
    listen: Listen,
    pub(super) auto_create_topics: bool,
    pub(super) default_partitions: usize,
    pub(super) fetch_sessions: usize,
    pub(super) racks: Vec<String>,
    pub(super) release: KafkaRelease,
    removed: Vec<Api>,
    capped: Vec<(Api, i16)>,
    pub(super) seed: u64,
    timing: Timing,
    classic_groups_only: bool,
    passwords: BTreeMap<String, String>,
    mechanisms: Vec<String>,
    session_lifetime: Option<Duration>,
    scram_iterations: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: 1,
            in_memory: false,
            listen: Listen::default(),
            auto_create_topics: false,
            default_partitions: 1,
            fetch_sessions: 1000,
            racks: Vec::new(),
            release: KafkaRelease::default(),
            removed: Vec::new(),
            capped: Vec::new(),
            seed: 0,
            timing: Timing::default(),
            classic_groups_only: false,
            passwords: BTreeMap::new(),
            mechanisms: ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(String::from).to_vec(),
            session_lifetime: None,
            scram_iterations: 4096,
        }
    }
}

impl Settings {
    pub(super) fn users(&self) -> Option<Users> {
        let Self { passwords, mechanisms, session_lifetime, scram_iterations, .. } = self;
        let users = || Users::new(passwords.clone(), mechanisms.clone(), *session_lifetime, *scram_iterations);
        (!passwords.is_empty()).then(users)
    }

    pub(super) fn consumer_groups(&self) -> Option<Timing> {
        (self.release.has_consumer_groups() && !self.classic_groups_only).then_some(self.timing)
    }

    pub(super) fn versions(&self) -> Versions {
        let mut versions = Versions::of(self.release);
        self.removed.iter().for_each(|api| versions.remove(*api));
        self.capped.iter().for_each(|(api, max)| versions.cap(*api, *max));
        versions
    }
}

/// Builds a [`MockCluster`]; from [`MockCluster::builder`].
///
/// ```
/// use milena::mock::{Api, KafkaRelease, MockCluster};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cluster = MockCluster::builder()
///     .brokers(3)
///     .in_memory()
///     .release(KafkaRelease::V3_9)
///     .without(Api::InitProducerId)
///     .start()
///     .await;
/// assert_eq!(cluster.bootstrap().len(), 3);
/// # cluster.close().await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct MockClusterBuilder {
    settings: Settings,
}

impl MockClusterBuilder {
    /// How many brokers there are; their ids count from 1. The default is 1.
    ///
    /// # Panics
    /// Below 1.
    pub fn brokers(mut self, brokers: i32) -> Self {
        assert!(brokers >= 1, "a cluster needs a broker, and {brokers} are none");
        self.settings.brokers = brokers;
        self
    }

    /// No sockets: the brokers are reached through [`MockCluster::connector`] alone. The default is loopback TCP.
    ///
    /// This is how to test on paused time: tokio jumps over sleeps only while nothing outside the process can happen.
    pub fn in_memory(mut self) -> Self {
        self.settings.in_memory = true;
        self
    }

    /// The address that brokers listen on. The default is `127.0.0.1`; `0.0.0.0` is every interface.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.settings.listen.host = Some(host.into());
        self
    }

    /// The port of the first broker; the next ones get those after it. The default is 0: each has any that is free.
    pub fn port(mut self, port: u16) -> Self {
        self.settings.listen.port = port;
        self
    }

    /// The host that clients are told (`advertised.listeners`). The default is the [`host`](Self::host), or `127.0.0.1`
    /// if that is a wildcard, which nobody can connect to.
    pub fn advertised_host(mut self, host: impl Into<String>) -> Self {
        self.settings.listen.advertised = Some(host.into());
        self
    }

    /// Whether a Metadata request that allows it creates the topics it names (`auto.create.topics.enable`). The default
    /// is `false`, unlike Kafka's, so that a misspelt topic fails.
    pub fn auto_create_topics(mut self, auto_create: bool) -> Self {
        self.settings.auto_create_topics = auto_create;
        self
    }

    /// Partitions of topics that are created without saying how many (`num.partitions`). The default is 1.
    ///
    /// # Panics
    /// On 0.
    pub fn default_partitions(mut self, partitions: usize) -> Self {
        assert!(partitions >= 1, "a topic has at least one partition");
        self.settings.default_partitions = partitions;
        self
    }

    /// Fetch sessions that each broker remembers (`max.incremental.fetch.session.cache.slots`). The default is 1000.
    /// Consumers beyond that fetch without a session.
    pub fn fetch_sessions(mut self, slots: usize) -> Self {
        self.settings.fetch_sessions = slots;
        self
    }

    /// The racks that brokers are in (`broker.rack`): the first broker in the first one, and so on, from the front again
    /// when there are more brokers. Leaders then send a consumer that says where it is (`client.rack`) to a replica in
    /// its own rack (KIP-392), as with `replica.selector.class` set to Kafka's `RackAwareReplicaSelector`. The default is
    /// none: consumers read from leaders.
    ///
    /// ```
    /// use milena::mock::MockCluster;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::builder().brokers(3).racks(["a", "b", "c"]).start().await;
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn racks<R: Into<String>>(mut self, racks: impl IntoIterator<Item = R>) -> Self {
        self.settings.racks = racks.into_iter().map(Into::into).collect();
        self
    }

    /// The Kafka release whose API versions the brokers offer. The default is the newest that the mock knows.
    pub fn release(mut self, release: KafkaRelease) -> Self {
        self.settings.release = release;
        self
    }

    /// Takes an API away: it is not listed, and a request for it closes the connection.
    pub fn without(mut self, api: Api) -> Self {
        self.settings.removed.push(api);
        self
    }

    /// Offers an API up to this version at most. Below the lowest version that the release offers, this takes the API
    /// away.
    pub fn max_version(mut self, api: Api, version: i16) -> Self {
        self.settings.capped.push((api, version));
        self
    }

    /// A cluster without KIP-848, as 3.9 is by default and later releases with `group.version=0`: a heartbeat of its members
    /// is answered by UNSUPPORTED_VERSION. To have it not listed at all, as by older brokers and by others than Kafka, take
    /// it away by [`without`](Self::without).
    pub fn classic_groups_only(mut self) -> Self {
        self.settings.classic_groups_only = true;
        self
    }

    /// After how much silence a member is out of its group, under KIP-848 (`group.consumer.session.timeout.ms`). The default
    /// is 45 seconds.
    pub fn consumer_session_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timing.session = timeout;
        self
    }

    /// How often members are told to send heartbeats, under KIP-848 (`group.consumer.heartbeat.interval.ms`). The default is
    /// 5 seconds.
    pub fn consumer_heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.timing.heartbeat = interval;
        self
    }

    /// How long a group keeps an assignment at least, under KIP-848, so that members that come together are assigned to
    /// together (`group.consumer.assignment.interval.ms`, KIP-1263). The default is 1 second; before
    /// [`V4_1`](KafkaRelease::V4_1) there is no such interval.
    pub fn consumer_assignment_interval(mut self, interval: Duration) -> Self {
        self.settings.timing.assignment = interval;
        self
    }

    /// Lets in only who authenticates, by SASL PLAIN or SCRAM: this user, and others that are added so. The default is no
    /// user: everybody is let in, and a client that wants to authenticate is told that it cannot.
    ///
    /// ```
    /// use milena::mock::MockCluster;
    /// use milena::{Client, Sasl};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), milena::Error> {
    /// let cluster = MockCluster::builder().user("alice", "alice-secret").start().await;
    /// let client = Client::builder(cluster.bootstrap()).sasl(Sasl::scram_sha_256("alice", "alice-secret")).connect().await?;
    /// # drop(client);
    /// # cluster.close().await;
    /// # Ok(()) }
    /// ```
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.settings.passwords.insert(name.into(), password.into());
        self
    }

    /// The mechanisms by which users authenticate (`sasl.enabled.mechanisms`). The default is PLAIN, SCRAM-SHA-256 and
    /// SCRAM-SHA-512, which is what there is.
    ///
    /// # Panics
    /// On another.
    pub fn sasl_mechanisms<M: Into<String>>(mut self, mechanisms: impl IntoIterator<Item = M>) -> Self {
        self.settings.mechanisms = mechanisms.into_iter().map(Into::into).collect();
        for mechanism in &self.settings.mechanisms {
            let is_known = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism.as_str());
            assert!(is_known, "the mock does not know the SASL mechanism {mechanism}");
        }
        self
    }

    /// When clients have to authenticate again (`connections.max.reauth.ms`, KIP-368). The default is never.
    pub fn session_lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.session_lifetime = Some(lifetime);
        self
    }

    /// The iteration count of SCRAM. The default is 4096, which is Kafka's.
    pub fn scram_iterations(mut self, iterations: u32) -> Self {
        self.settings.scram_iterations = iterations;
        self
    }

    /// Seeds what is random: topic ids, fetch session ids, the probabilities of faults, corrupted bits. The default is
    /// 0, and the same seed gives the same choices for the same requests.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Starts the brokers. They accept connections when this returns.
    ///
    /// # Panics
    /// If no port can be bound, or outside of a tokio runtime.
    pub async fn start(self) -> MockCluster {
        let settings = self.settings;
        let listen = (!settings.in_memory).then(|| settings.listen.clone());
        let mut brokers = Vec::new();
        let mut listeners = Vec::new();
        for id in 1..=settings.brokers {
            let (broker, listener) = place(id, listen.as_ref()).await;
            brokers.push(broker);
            listeners.extend(listener.map(|listener| (id, listener)));
        }
        let shared = Arc::new(Shared::new(Runtime::current(), settings, brokers));
        shared.brokers().iter().for_each(|broker| broker.start());
        for (id, listener) in listeners {
            shared.listen(id, listener);
        }
        MockCluster { shared, listen }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::super::ViolationKind;
    use super::*;

    /// Stands for a bug in a broker: whoever reads from it panics.
    struct Bug;

    impl AsyncRead for Bug {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("a bug in a broker");
        }
    }

    impl AsyncWrite for Bug {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    async fn with_bug() -> MockCluster {
        let cluster = MockCluster::builder().in_memory().start().await;
        assert!(cluster.shared.serve(1, Box::new(Bug)));
        tokio::task::yield_now().await;
        cluster
    }

    #[tokio::test]
    #[should_panic(expected = "a task of the mock cluster panicked: a bug in a broker")]
    async fn closing_surfaces_a_panic() {
        with_bug().await.close().await;
    }

    #[tokio::test]
    #[should_panic(expected = "a task of the mock cluster panicked: a bug in a broker")]
    async fn dropping_surfaces_a_panic() {
        drop(with_bug().await);
    }

    #[tokio::test]
    async fn verify_surfaces_a_panic() {
        let cluster = with_bug().await;
        let violations = cluster.verify();
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].kind, ViolationKind::Panicked);
        assert_eq!(violations[0].message, "a task of the mock cluster panicked: a bug in a broker");
        assert_eq!(cluster.shared.take_panic().as_deref(), Some("a bug in a broker")); // or closing it panics
        cluster.close().await;
    }

    #[tokio::test]
    #[should_panic(expected = "the test's own")]
    async fn a_panic_of_the_test_comes_first() {
        let _cluster = with_bug().await;
        panic!("the test's own");
    }

    #[test]
    fn a_cluster_can_be_shared() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<MockCluster>();
        shared::<MockConnector>();
        shared::<super::super::FaultHandle>();
    }
}
