//! The client: what producers, consumers and admin share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admin;
use crate::config::Changes;
use crate::consumer::ConsumerBuilder;
use crate::error::Error;
#[cfg(feature = "tls")]
use crate::net::Tls;
use crate::net::{Address, AddressMap, Connector, Core, Network, Outages, Runtime, Sasl, Security, Tcp};

/// A Kafka client: one cluster's addresses, connections and metadata, from which producers, consumers and admin
/// handles are made.
///
/// Cheap to clone; all clones share everything. Its tasks live on the tokio runtime on which it was built (or on
/// [`ClientBuilder::runtime`]), and every handle may be used from any other runtime or executor. When the last handle
/// is dropped, tasks end and connections close by themselves.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # let bootstrap = cluster.bootstrap();
/// let client = milena::Client::builder(bootstrap).client_id("billing").connect().await?;
/// let producer = client.producer().build()?;
/// let admin = client.admin();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
    /// What properties say of producers and consumers.
    changes: Arc<Changes>,
}

impl Client {
    /// Starts from the addresses of one or more brokers, as `host:port`, `ip:port` or `[ipv6]:port`.
    ///
    /// One address that answers is enough: the others of the cluster are learned from it. Several help while some
    /// brokers are down. (Java: `bootstrap.servers`.) What is wrong with an address is said by
    /// [`ClientBuilder::build`].
    pub fn builder<A: AsRef<str>>(bootstrap: impl IntoIterator<Item = A>) -> ClientBuilder {
        let bootstrap = bootstrap.into_iter().map(|address| address.as_ref().to_owned()).collect();
        ClientBuilder {
            bootstrap,
            client_id: "milena".into(),
            connector: Box::new(Tcp),
            address_map: None,
            sasl: None,
            #[cfg(feature = "tls")]
            tls: None,
            runtime: None,
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            setup_timeout: Duration::from_secs(10),
            setup_timeout_max: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            max_idle: Duration::from_secs(540),
            max_response_size: 32 << 20,
            changes: Changes::default(),
        }
    }

    /// A handle to administer the cluster: topics, partitions, what there is.
    pub fn admin(&self) -> Admin {
        Admin::new(self)
    }

    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Configures a consumer; [`ConsumerBuilder::build`] makes it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # client.producer().build()?.send(milena::Record::to("orders").value("created")).await?;
    /// use milena::OffsetReset;
    ///
    /// let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build()?;
    /// consumer.assign([("orders", 0)])?;
    /// let record = consumer.recv().await?;
    /// assert_eq!(record.value(), Some(&b"created"[..]));
    /// # Ok(()) }
    /// ```
    pub fn consumer(&self) -> ConsumerBuilder {
        self.changes.consumer(ConsumerBuilder::new(self.core()))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("bootstrap", &self.core.seeds).finish_non_exhaustive()
    }
}

/// The settings that all handles of a client share. Each names its default and its name in Java's client.
#[must_use = "a builder does nothing until `build` or `connect`"]
pub struct ClientBuilder {
    bootstrap: Vec<String>,
    client_id: Arc<str>,
    connector: Box<dyn Connector>,
    address_map: Option<Box<AddressMap>>,
    sasl: Option<Sasl>,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    runtime: Option<Runtime>,
    request_timeout: Duration,
    api_timeout: Duration,
    setup_timeout: Duration,
    setup_timeout_max: Duration,
    reconnect_backoff: Duration,
    reconnect_backoff_max: Duration,
    retry_backoff: Duration,
    retry_backoff_max: Duration,
    metadata_max_age: Duration,
    max_idle: Duration,
    max_response_size: usize,
    changes: Changes,
}

impl ClientBuilder {
    pub(crate) fn with_changes(self, changes: Changes) -> Self {
        Self { changes, ..self }
    }

    /// The name that brokers put into their logs, quotas and metrics. Default `milena`. (Java: `client.id`.)
    pub fn client_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.client_id = id.into();
        self
    }

    /// How streams to brokers are opened. Default: DNS, every address in turn, TCP. See [`Connector`].
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connector = Box::new(connector);
        self
    }

    /// Where to connect instead of the address that a broker advertises: for port forwards, containers and tests.
    /// Also applied to the bootstrap addresses. Default: as advertised.
    ///
    /// ```
    /// use milena::{Address, Client};
    /// let builder = Client::builder(["localhost:19092"]).address_map(|broker| match broker.host() {
    ///     "kafka-1.cluster.internal" => Address::new("localhost", 19092),
    ///     "kafka-2.cluster.internal" => Address::new("localhost", 19093),
    ///     _ => broker.clone(),
    /// });
    /// ```
    pub fn address_map(mut self, map: impl Fn(&Address) -> Address + Send + Sync + 'static) -> Self {
        self.address_map = Some(Box::new(map));
        self
    }

    /// Speaks TLS to brokers. Default: plaintext, as in Java. (Java: `security.protocol=SSL` or `SASL_SSL`, `ssl.*`.)
    ///
    /// Streams of a custom [`Connector`] are encrypted too. The broker's certificate has to be for the host that it
    /// advertises, or that the bootstrap list names, also where an [`address_map`](Self::address_map) leads elsewhere.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Proves to brokers who the client is. Default: nobody in particular, or the subject of the TLS certificate.
    /// (Java: `security.protocol=SASL_SSL` or `SASL_PLAINTEXT`, `sasl.*`.)
    pub fn sasl(mut self, sasl: Sasl) -> Self {
        self.sasl = Some(sasl);
        self
    }

    /// The runtime for the client's tasks; it needs its IO and time drivers enabled. Default: the one that
    /// [`build`](Self::build) is called on.
    pub fn runtime(mut self, handle: tokio::runtime::Handle) -> Self {
        self.runtime = Some(Runtime::from_handle(handle));
        self
    }

    /// How long one request may go unanswered before its connection is given up and the request is tried again
    /// elsewhere. Default 30 s. Long polls get their own waiting time on top. (Java: `request.timeout.ms`.)
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long an admin, offset or commit call may take in all, retries included. Default 60 s.
    /// (Java: `default.api.timeout.ms`.)
    pub fn default_api_timeout(mut self, timeout: Duration) -> Self {
        self.api_timeout = timeout;
        self
    }

    /// How long a new connection may take until it is open: at first, and at most, after failures that doubled it; spread
    /// by ±20 %. And `first` again, each time, until the broker has told its versions. Default 10 s and 30 s.
    /// (Java: `socket.connection.setup.timeout.ms` and `.max.ms`.)
    pub fn connection_setup_timeout(mut self, first: Duration, max: Duration) -> Self {
        (self.setup_timeout, self.setup_timeout_max) = (first, max);
        self
    }

    /// The pause before a lost connection is made again: after the first failure, and at most. Doubled by each
    /// failure, spread by ±20 %, back to the first after a connection that worked. Default 50 ms and 1 s.
    /// (Java: `reconnect.backoff.ms` and `.max.ms`.)
    pub fn reconnect_backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.reconnect_backoff, self.reconnect_backoff_max) = (first, max);
        self
    }

    /// The pause before a request is tried again after a retriable error: at first, and at most. Default 100 ms and
    /// 1 s. (Java: `retry.backoff.ms` and `.max.ms`.)
    pub fn retry_backoff(mut self, first: Duration, max: Duration) -> Self {
        (self.retry_backoff, self.retry_backoff_max) = (first, max);
        self
    }

    /// The age at which the picture of the cluster is renewed even when nothing seems wrong; it bounds how long new
    /// partitions stay unseen. Default 5 minutes. (Java: `metadata.max.age.ms`.)
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.metadata_max_age = age;
        self
    }

    /// How long a connection may stay unused before it is closed; it is made again when needed. Default 9 minutes,
    /// below the 10 after which brokers close it. (Java: `connections.max.idle.ms`.)
    pub fn connections_max_idle(mut self, idle: Duration) -> Self {
        self.max_idle = idle;
        self
    }

    /// How many bytes an answer may have, beyond the records that a fetch asks for
    /// ([`fetch_max_bytes`](crate::ConsumerBuilder::fetch_max_bytes)): so this bounds metadata and whatever an admin call
    /// returns, and the single batch larger than a fetch asked for, which brokers send all the same. A longer answer ends
    /// its connection before it is read, or anything reserved for it, with an error that names this setting. Default
    /// 32 MiB; 64 KiB to 2 GiB - 1. Raise it where topics have a larger `max.message.bytes`. What a broker says until a
    /// connection is ready is bounded by 16 KiB, whatever is set here. (librdkafka: `receive.message.max.bytes`.)
    pub fn max_response_size(mut self, bytes: usize) -> Self {
        self.max_response_size = bytes;
        self
    }

    /// Makes the client without waiting for a broker; its tasks begin to look for one at once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming the address or setting, or that there is no runtime.
    pub fn build(self) -> Result<Client, Error> {
        if self.bootstrap.is_empty() {
            return Err(Error::config("no bootstrap address: give at least one, as host:port"));
        }
        let seeds = self
            .bootstrap
            .iter()
            .map(|text| text.parse::<Address>().map_err(|error| Error::config(error.to_string()).with_source(error)));
        let seeds = seeds.collect::<Result<Vec<_>, _>>()?;
        if self.client_id.len() > MAX_CLIENT_ID {
            return Err(Error::config(format!("client_id is longer than {MAX_CLIENT_ID} bytes")));
        }
        for (setting, value) in [
            ("request_timeout", self.request_timeout),
            ("default_api_timeout", self.api_timeout),
            ("connection_setup_timeout", self.setup_timeout),
            ("metadata_max_age", self.metadata_max_age),
            ("connections_max_idle", self.max_idle),
        ] {
            if value.is_zero() || value > MAX_DURATION {
                return Err(Error::config(format!("{setting} is {value:?}: it must be above zero and at most a year")));
            }
        }
        for (setting, first, max) in [
            ("connection_setup_timeout", self.setup_timeout, self.setup_timeout_max),
            ("reconnect_backoff", self.reconnect_backoff, self.reconnect_backoff_max),
            ("retry_backoff", self.retry_backoff, self.retry_backoff_max),
        ] {
            // Zero would make an outage a busy loop.
            if first.is_zero() || max < first || max > MAX_DURATION {
                let message = format!(
                    "{setting} is {first:?} to {max:?}: the first must be above zero, the maximum no less, and at most a year"
                );
                return Err(Error::config(message));
            }
        }
        if self.max_response_size < 64 << 10 || self.max_response_size > i32::MAX as usize {
            return Err(Error::config(format!(
                "max_response_size is {}: it must be 64 KiB to 2 GiB - 1",
                self.max_response_size
            )));
        }
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Runtime::current()?,
        };
        let security = Security {
            sasl: self.sasl.map(Arc::new),
            #[cfg(feature = "tls")]
            tls: self.tls.map(|tls| tls.load(runtime.now())).transpose()?,
        };
        if let Some(sasl) = &security.sasl
            && sasl.needs_tls()
            && !security.is_encrypted()
        {
            return Err(Error::config(format!(
                "{} over plaintext shows its secret to everyone on the way: add ClientBuilder::tls, use SCRAM, or say \
                 Sasl::dangerous_over_plaintext",
                sasl.mechanism()
            )));
        }
        let network = Network {
            runtime,
            security,
            connector: self.connector,
            address_map: self.address_map,
            client_id: self.client_id,
            setup_timeout: self.setup_timeout,
            setup_timeout_max: self.setup_timeout_max,
            max_idle: self.max_idle,
            max_response_size: self.max_response_size,
            request_timeout: self.request_timeout,
            outages: Outages::new(self.reconnect_backoff, self.reconnect_backoff_max),
        };
        let core = Core::new(
            network,
            seeds,
            self.metadata_max_age,
            self.retry_backoff,
            self.retry_backoff_max,
            self.api_timeout,
        );
        Ok(Client { core: Arc::new(core), changes: Arc::new(self.changes) })
    }

    /// [`build`](Self::build), and waits until a broker has answered.
    ///
    /// # Errors
    /// Those of `build`, and once every address has failed, what each of them said: refused, silent for
    /// [`connection_setup_timeout`](Self::connection_setup_timeout), closed at once, or another protocol's server.
    ///
    /// # Cancel safety
    /// Dropping the future drops the client.
    pub async fn connect(self) -> Result<Client, Error> {
        let client = self.build()?;
        client.core.metadata.first_answer().await?;
        Ok(client)
    }
}

const MAX_CLIENT_ID: usize = 249;
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ClientBuilder");
        debug.field("bootstrap", &self.bootstrap).field("sasl", &self.sasl);
        #[cfg(feature = "tls")]
        debug.field("tls", &self.tls);
        debug.finish_non_exhaustive()
    }
}
