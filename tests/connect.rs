//! Connections over real sockets and in-memory transports: who may stand at the other end, and how everything ends.
#![expect(clippy::disallowed_methods, reason = "a test has no client's runtime to ask for the time")]

use std::collections::HashMap;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_executor::block_on;
use milena::mock::{Api, Fault, MockCluster, When};
use milena::record::{BatchWriter, Identity, NO_HEADERS};
use milena::wire::cluster::api_versions::{ApiVersion, ApiVersionsResponse};
use milena::wire::cluster::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena::wire::frame::{decode_body, encode_body};
use milena::wire::leader::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use milena::wire::message::Records;
use milena::{Address, Client, ClientBuilder, Connecting, Connector, Error, ErrorCode, ErrorKind, NewTopic, Transport};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server on loopback that treats every connection as `serve` says.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Answers the first request with `bytes`, and closes.
async fn stranger(bytes: &'static [u8]) -> String {
    server(move |mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write(bytes).await;
    })
    .await
}

/// Accepts and says nothing.
async fn silent() -> String {
    server(|stream| async move {
        tokio::time::sleep(SECOND * 3600).await;
        drop(stream);
    })
    .await
}

/// A port at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Passes everything on to `target`.
async fn forward(listener: TcpListener, target: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            let Ok(mut onward) = TcpStream::connect(target).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        });
    }
}

fn quick(bootstrap: &[&String]) -> ClientBuilder {
    Client::builder(bootstrap).connection_setup_timeout(ms(300), ms(300)).default_api_timeout(SECOND)
}

/// What connecting says, which takes at most `limit`.
async fn refusal(builder: ClientBuilder, limit: Duration) -> Error {
    let start = Instant::now();
    let error = builder.connect().await.expect_err("there is no Kafka");
    assert!(start.elapsed() < limit, "{:?}: {error}", start.elapsed());
    error
}

#[tokio::test]
async fn an_unreachable_port_is_named() {
    let address = nobody().await;
    let error = refusal(quick(&[&address]), SECOND * 5).await;
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Connection, true));
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("refused"), "{text}");
}

/// Rule 76: whoever answers instead of a broker is called by its name.
#[tokio::test]
async fn strangers_are_recognised() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    const TLS_ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 0x28];
    const GARBAGE: &[u8] = &[0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 4];
    const HUGE: &[u8] = &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    const WRONG_CORRELATION: &[u8] = &[0, 0, 0, 10, 0, 0, 0x30, 0x39, 0, 0, 0, 0, 0, 0];
    const NO_VERSIONS: &[u8] = &[0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    for (bytes, hint) in [
        (HTTP, "an HTTP server answered, not a Kafka broker: is this the right port?"),
        (TLS_ALERT, "a TLS server answered"),
        (GARBAGE, "a frame of -559038737 bytes"),
        (HUGE, "a frame of 2147483647 bytes"),
        (WRONG_CORRELATION, "an answer to request 12345 where 0 was due"),
        (NO_VERSIONS, "ApiVersions answered with bytes that are not its format"),
    ] {
        let address = stranger(bytes).await;
        let error = refusal(quick(&[&address]), SECOND * 5).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        let text = error.to_string();
        assert!(text.contains(&address) && text.contains(hint), "{text}");
    }
}

/// Python's, Go's and Node's servers wait for the end of the first line: our request has none.
#[tokio::test]
async fn a_patient_http_server_is_recognised_too() {
    let address = server(|mut stream| async move {
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            let mut part = [0; 64];
            match stream.read(&mut part).await {
                Ok(read @ 1..) => line.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        let _ = stream.write(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let start = Instant::now();
    let error = refusal(quick(&[&address]), SECOND * 5).await;
    assert!(error.to_string().contains("an HTTP server answered"), "{error}");
    assert!(start.elapsed() < ms(600), "within the set-up time-out: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_closes_at_once_may_want_tls() {
    let address = server(|stream| async move { drop(stream) }).await;
    let error = refusal(quick(&[&address]), SECOND * 5).await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("a TLS or SASL listener, or no Kafka broker"), "{error}");
}

#[tokio::test]
async fn a_silent_server_costs_the_set_up_time_out() {
    let address = silent().await;
    let start = Instant::now();
    let error = refusal(quick(&[&address]), SECOND * 3).await;
    assert!(start.elapsed() >= ms(300));
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Timeout, true));
    let text = error.to_string();
    assert!(text.contains(&address) && text.contains("300ms (connection_setup_timeout)"), "{text}");
}

#[tokio::test]
async fn one_good_address_is_enough_wherever_it_stands() {
    let cluster = MockCluster::start().await;
    let good = cluster.bootstrap().remove(0);
    let bad = [nobody().await, silent().await, stranger(b"HTTP/1.1 400 Bad Request").await];
    for at in 0..=bad.len() {
        let mut bootstrap: Vec<_> = bad.iter().collect();
        bootstrap.insert(at, &good);
        let start = Instant::now();
        let client = quick(&bootstrap).connect().await.unwrap();
        client.admin().describe_cluster().await.unwrap();
        assert!(start.elapsed() < SECOND * 5, "{:?}", start.elapsed());
        // Without `connect`: the first call finds the good one as well, whatever the strangers say.
        let client = quick(&bootstrap).default_api_timeout(SECOND * 20).build().unwrap();
        client.admin().describe_cluster().await.unwrap();
    }
    cluster.close().await;
}

/// When all fail, each one's reason is told.
#[tokio::test]
async fn every_address_tells_its_reason() {
    let (nobody, http) = (nobody().await, stranger(b"HTTP/1.1 400 Bad Request").await);
    let error = refusal(quick(&[&nobody, &http]), SECOND * 5).await;
    let text = error.to_string();
    assert!(text.contains(&format!("{nobody}: could not connect")), "{text}");
    assert!(text.contains(&format!("{http}: an HTTP server answered")), "{text}");
}

#[tokio::test]
async fn addresses_can_be_mapped() {
    let cluster = MockCluster::builder().brokers(3).start().await;
    let real: Vec<Address> = cluster.bootstrap().iter().map(|address| address.parse().unwrap()).collect();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (map, target) = (Arc::clone(&seen), real[1].clone());
    let client = Client::builder(["kafka.internal:9092"])
        .address_map(move |address| {
            map.lock().unwrap().push(address.clone());
            if address.host() == "kafka.internal" { target.clone() } else { address.clone() }
        })
        .connect()
        .await
        .unwrap();
    for _ in 0..20 {
        client.admin().describe_cluster().await.unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen[0], Address::new("kafka.internal", 9092));
    assert!(seen[1..].iter().any(|address| real.contains(address)), "brokers' own addresses are mapped too: {seen:?}");
    cluster.close().await;
}

#[tokio::test]
async fn an_ipv6_literal_works() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return; // the machine has no ::1
    };
    let cluster = MockCluster::start().await;
    let bootstrap = listener.local_addr().unwrap().to_string();
    assert!(bootstrap.starts_with("[::1]:"));
    tokio::spawn(forward(listener, cluster.bootstrap().remove(0)));
    let client = quick(&[&bootstrap]).connect().await.unwrap();
    client.admin().describe_cluster().await.unwrap();
    cluster.close().await;
}

/// A name with two addresses, of which one answers: either one.
#[tokio::test]
async fn all_addresses_of_a_name_are_tried() {
    let resolved: Vec<SocketAddr> = tokio::net::lookup_host("localhost:1").await.unwrap().collect();
    let cluster = MockCluster::start().await;
    for ip in resolved.iter().map(SocketAddr::ip) {
        let Ok(listener) = TcpListener::bind((ip, 0)).await else { continue };
        let bootstrap = format!("localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(forward(listener, cluster.bootstrap().remove(0)));
        quick(&[&bootstrap]).connect().await.unwrap();
    }
    cluster.close().await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_named() {
    let bootstrap = "no-such-host.invalid:9092".to_owned();
    let error = refusal(quick(&[&bootstrap]).connection_setup_timeout(SECOND * 20, SECOND * 20), SECOND * 30).await;
    assert!(matches!(error.kind(), ErrorKind::Connection | ErrorKind::Timeout), "{error:?}");
    assert!(error.to_string().contains("no-such-host.invalid:9092"), "{error}");
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let builder = || Client::builder(["localhost:9092"]);
    let zero = Duration::ZERO;
    for (setting, builder) in [
        ("no bootstrap address", Client::builder([""; 0])),
        ("`localhost` is not a broker address", Client::builder(["localhost"])),
        ("`a:1,b:2`", Client::builder(["a:1,b:2"])),
        ("client_id", builder().client_id("x".repeat(250))),
        ("request_timeout", builder().request_timeout(zero)),
        ("request_timeout", builder().request_timeout(Duration::MAX)),
        ("default_api_timeout", builder().default_api_timeout(zero)),
        ("connection_setup_timeout", builder().connection_setup_timeout(zero, SECOND)),
        ("connection_setup_timeout", builder().connection_setup_timeout(SECOND * 2, SECOND)),
        ("reconnect_backoff", builder().reconnect_backoff(SECOND * 2, SECOND)),
        ("retry_backoff", builder().retry_backoff(SECOND * 2, SECOND)),
        ("retry_backoff", builder().retry_backoff(SECOND, Duration::MAX)),
        ("metadata_max_age", builder().metadata_max_age(zero)),
        ("connections_max_idle", builder().connections_max_idle(zero)),
        ("max_response_size", builder().max_response_size(1)),
        ("max_response_size", builder().max_response_size(usize::MAX)),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Config, false));
        assert!(error.to_string().contains(setting), "{setting}: {error}");
    }
}

#[test]
fn a_client_outside_of_a_runtime_says_what_it_needs() {
    let error = Client::builder(["localhost:9092"]).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("ClientBuilder::runtime"), "{error}");
}

#[tokio::test]
async fn a_client_needs_no_broker_until_it_is_used() {
    for address in [nobody().await, silent().await] {
        let client = quick(&[&address]).build().unwrap();
        let start = Instant::now();
        let error = client.admin().describe_cluster().await.unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Timeout, true));
        assert!((ms(900)..SECOND * 3).contains(&start.elapsed()), "{:?}", start.elapsed());
        let text = error.to_string();
        assert!(text.contains("1s (default_api_timeout)") && text.contains(&address), "{text}");
    }
    // What no waiting mends does not wait.
    let address = stranger(b"HTTP/1.1 400 Bad Request").await;
    let client = quick(&[&address]).default_api_timeout(SECOND * 60).build().unwrap();
    let start = Instant::now();
    let error = client.admin().describe_cluster().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Protocol && start.elapsed() < SECOND * 5, "{:?} {error}", start.elapsed());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn handles_work_from_any_executor() {
    let (home, other) = (runtime(), runtime());
    let cluster = home.block_on(MockCluster::start());
    let builder = Client::builder(cluster.bootstrap()).runtime(home.handle().clone());
    // Made on no runtime at all.
    let client = block_on(builder.connect()).unwrap();
    let admin = client.admin();
    block_on(async { admin.create_topics([NewTopic::new("a", 1, 1)]).await }).unwrap();
    other.block_on(async { admin.create_topics([NewTopic::new("b", 1, 1)]).await }).unwrap();
    // A time-out needs a timer, which the executor does not have.
    cluster.hang_broker(1);
    let error = block_on(async { admin.list_topics().timeout(ms(200)).await }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    cluster.resume_broker(1);
    // The second runtime may end before the client.
    drop(other);
    assert_eq!(block_on(async { admin.list_topics().await }).unwrap().len(), 2);
    home.block_on(cluster.close());
}

/// The client's own runtime ending is no reason to hang.
#[test]
fn a_client_outlives_its_runtime_as_an_error() {
    let (home, other) = (runtime(), runtime());
    let cluster = other.block_on(MockCluster::start());
    let builder = Client::builder(cluster.bootstrap()).runtime(home.handle().clone());
    let admin = other.block_on(builder.connect()).unwrap().admin();
    home.shutdown_background();
    std::thread::sleep(ms(50));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        other.block_on(async {
            tokio::time::timeout(SECOND * 10, admin.list_topics().timeout(SECOND).into_future()).await
        })
    }));
    if let Ok(outcome) = outcome {
        outcome.expect("it hangs").unwrap_err();
    }
    other.block_on(cluster.close());
}

/// Counts the connections of a client that are open.
#[derive(Clone, Default)]
struct Open(Arc<AtomicUsize>);

struct Counted<T>(T, Open);

impl<T> Drop for Counted<T> {
    fn drop(&mut self) {
        self.1.0.fetch_sub(1, SeqCst);
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SECOND * 10, "{what}");
        tokio::time::sleep(ms(5)).await;
    }
}

#[test]
fn dropping_the_last_handle_ends_tasks_and_connections() {
    let (home, other) = (runtime(), runtime());
    let tasks = || home.metrics().num_alive_tasks();
    other.block_on(async {
        let cluster = MockCluster::builder().brokers(3).start().await;
        // Every connection goes through here, and its end is seen from the broker's side.
        let open = Open::default();
        let mut proxies = HashMap::new();
        for address in cluster.bootstrap() {
            let (counter, target) = (open.clone(), address.clone());
            let proxy = server(move |mut stream| {
                counter.0.fetch_add(1, SeqCst);
                let (counted, target) = (Counted((), counter.clone()), target.clone());
                async move {
                    let mut onward = TcpStream::connect(target).await.unwrap();
                    let (mut from_client, mut to_client) = stream.split();
                    let (mut from_broker, mut to_broker) = onward.split();
                    // A broker that hangs does not close its side.
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_broker) => {}
                        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
                    }
                    drop(counted);
                }
            })
            .await;
            proxies.insert(address, proxy);
        }
        let map = move |address: &Address| proxies[&address.to_string()].parse().unwrap();
        let builder = || Client::builder(cluster.bootstrap()).runtime(home.handle().clone()).address_map(map.clone());

        let client = builder().connect().await.unwrap();
        let admin = client.admin();
        for _ in 0..10 {
            admin.describe_cluster().await.unwrap();
        }
        admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
        assert!(open.0.load(SeqCst) >= 2 && tasks() >= 3);
        let second = client.clone();
        drop(client);
        drop(admin);
        second.admin().describe_cluster().await.unwrap();
        drop(second);
        until("tasks stay", || tasks() == 0).await;
        until("connections stay", || open.0.load(SeqCst) == 0).await;

        // While requests are open, at brokers that hang.
        let client = builder().connect().await.unwrap();
        (1..=3).for_each(|broker| cluster.hang_broker(broker));
        let admin = client.admin();
        let call = tokio::spawn(async move { admin.create_topics([NewTopic::new("late", 1, 1)]).await });
        tokio::time::sleep(ms(100)).await;
        call.abort();
        drop(client);
        until("tasks stay while brokers hang", || tasks() == 0).await;
        until("connections stay while brokers hang", || open.0.load(SeqCst) == 0).await;

        // While nothing has ever answered.
        let client = builder().build().unwrap();
        tokio::time::sleep(ms(100)).await;
        drop(client);
        until("tasks stay that never connected", || tasks() == 0).await;
        until("connections stay that never were ready", || open.0.load(SeqCst) == 0).await;
        (1..=3).for_each(|broker| cluster.resume_broker(broker));
        cluster.close().await;
    });
}

/// A connector in front of another one, which counts, refuses, and wraps streams.
#[derive(Clone)]
struct Gate {
    inner: Arc<dyn Connector>,
    attempts: Arc<Mutex<Vec<Instant>>>,
    is_shut: Arc<AtomicBool>,
    wrap: Arc<Wrap>,
}

type Wrap = dyn Fn(Box<dyn Transport>) -> Box<dyn Transport> + Send + Sync;

impl Gate {
    fn new(cluster: &MockCluster) -> Self {
        Self::wrapping(cluster, |stream| stream)
    }

    fn wrapping(
        cluster: &MockCluster,
        wrap: impl Fn(Box<dyn Transport>) -> Box<dyn Transport> + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(cluster.connector());
        Self { inner, attempts: Arc::default(), is_shut: Arc::default(), wrap: Arc::new(wrap) }
    }

    fn attempts(&self) -> Vec<Instant> {
        self.attempts.lock().unwrap().clone()
    }

    fn client(&self, cluster: &MockCluster) -> ClientBuilder {
        Client::builder(cluster.bootstrap()).connector(self.clone())
    }
}

impl Connector for Gate {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            self.attempts.lock().unwrap().push(Instant::now());
            if self.is_shut.load(SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Ok((self.wrap)(self.inner.connect(broker).await?))
        })
    }
}

async fn one_in_memory() -> MockCluster {
    MockCluster::builder().in_memory().start().await
}

/// P14: in an outage, whatever the callers do.
#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_storm_of_connections() {
    let cluster = one_in_memory().await;
    // Never reached at all, and lost after it worked.
    for was_there in [false, true] {
        let gate = Gate::new(&cluster);
        gate.is_shut.store(!was_there, SeqCst);
        let client = gate.client(&cluster).build().unwrap();
        let admin = client.admin();
        if was_there {
            admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
            gate.is_shut.store(true, SeqCst);
            cluster.stop_broker(1).await;
        }
        gate.attempts.lock().unwrap().clear();
        let end = Instant::now() + SECOND * 60;
        let callers = (0..20).map(|_| {
            let admin = admin.clone();
            tokio::spawn(async move {
                while Instant::now() < end {
                    admin.describe_cluster().timeout(ms(20)).await.unwrap_err();
                    admin.delete_topics(["orders"]).timeout(ms(20)).await.unwrap_err();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        // Per lane a few short pauses, then one of 0.8 to 1.2 s each; lanes: the seed, and the broker for two classes.
        let attempts = gate.attempts().len();
        let lanes = if was_there { 3 } else { 1 };
        assert!((30..=80 * lanes).contains(&attempts), "{attempts} attempts in a minute, was there: {was_there}");
        // And it recovers by itself.
        gate.is_shut.store(false, SeqCst);
        cluster.start_broker(1).await;
        admin.describe_cluster().timeout(SECOND * 5).await.unwrap();
    }
    cluster.close().await;
}

/// A broker that cuts connections which work is not punished as one that is away.
#[tokio::test(start_paused = true)]
async fn a_connection_that_worked_resets_the_back_off() {
    let cluster = one_in_memory().await;
    let gate = Gate::new(&cluster);
    let client = gate.client(&cluster).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    for _ in 0..20 {
        gate.attempts.lock().unwrap().clear();
        let cut = Instant::now();
        cluster.stop_broker(1).await;
        cluster.start_broker(1).await;
        // 50 ms and its jitter before the connection is made anew; the request itself waits for its own back-off at most.
        admin.describe_cluster().timeout(ms(300)).await.unwrap();
        let first = gate.attempts()[0] - cut;
        assert!(first <= ms(125), "{first:?}");
        tokio::time::sleep(SECOND).await;
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_made_again() {
    let cluster = one_in_memory().await;
    let gate = Gate::new(&cluster);
    let client = gate.client(&cluster).connections_max_idle(SECOND * 10).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    let before = gate.attempts().len();
    tokio::time::sleep(SECOND * 9).await;
    admin.describe_cluster().await.unwrap();
    assert_eq!(gate.attempts().len(), before);
    tokio::time::sleep(SECOND * 11).await;
    let start = Instant::now();
    admin.describe_cluster().await.unwrap();
    assert_eq!(gate.attempts().len(), before + 1);
    assert!(start.elapsed() < ms(10), "idleness is no failure, so there is no pause: {:?}", start.elapsed());
    cluster.close().await;
}

/// A stream in the hands of a test.
#[derive(Clone, Default)]
struct Hand {
    /// Writes are not taken any more.
    is_choked: Arc<AtomicBool>,
    /// Writes fail. Until then nothing is read, if `is_deaf`.
    is_broken: Arc<AtomicBool>,
    is_deaf: Arc<AtomicBool>,
    /// Bytes at a time, in both directions; 0 is no limit.
    pace: usize,
    /// So many bytes more in both directions together, then the stream ends.
    fuse: Option<Arc<Fuse>>,
}

struct Fuse {
    left: AtomicUsize,
    /// Whether streams that are made later are cut as well.
    is_single: bool,
    has_blown: AtomicBool,
    bytes: AtomicUsize,
}

struct Handled {
    inner: Box<dyn Transport>,
    hand: Hand,
    /// Cut off by the fuse.
    is_dead: bool,
}

impl Hand {
    fn take(&self, stream: Box<dyn Transport>) -> Box<dyn Transport> {
        Box::new(Handled { inner: stream, hand: self.clone(), is_dead: false })
    }
}

impl Handled {
    /// How many bytes may pass now.
    fn allowance(&mut self, wanted: usize) -> usize {
        let paced = if self.hand.pace == 0 { wanted } else { wanted.min(self.hand.pace) };
        match &self.hand.fuse {
            Some(fuse) if !(fuse.is_single && fuse.has_blown.load(SeqCst)) => paced.min(fuse.left.load(SeqCst)),
            _ => paced,
        }
    }

    fn passed(&mut self, bytes: usize) {
        if let Some(fuse) = &self.hand.fuse {
            fuse.bytes.fetch_add(bytes, SeqCst);
            if !(fuse.is_single && fuse.has_blown.load(SeqCst)) {
                fuse.left.fetch_sub(bytes, SeqCst);
            }
        }
    }

    fn is_cut(&mut self) -> bool {
        if let Some(fuse) = &self.hand.fuse
            && fuse.left.load(SeqCst) == 0
            && !(fuse.is_single && fuse.has_blown.swap(true, SeqCst))
        {
            self.is_dead = true;
        }
        self.is_dead
    }
}

impl AsyncRead for Handled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return Poll::Ready(Ok(()));
        }
        if self.hand.is_deaf.load(SeqCst) && !self.hand.is_broken.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.remaining());
        let mut bytes = vec![0; allowance];
        let mut limited = ReadBuf::new(&mut bytes);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut limited);
        buf.put_slice(limited.filled());
        self.passed(limited.filled().len());
        outcome
    }
}

impl AsyncWrite for Handled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut() || self.hand.is_broken.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.hand.is_choked.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.len());
        let outcome = Pin::new(&mut self.inner).poll_write(cx, &buf[..allowance]);
        if let Poll::Ready(Ok(written)) = outcome {
            self.passed(written);
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn hand_in_hand(hand: &Hand) -> (MockCluster, Gate) {
    let cluster = one_in_memory().await;
    let hand = hand.clone();
    let gate = Gate::wrapping(&cluster, move |stream| hand.take(stream));
    (cluster, gate)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_still_read() {
    let hand = Hand::default();
    let (cluster, gate) = hand_in_hand(&hand).await;
    let client = gate.client(&cluster).request_timeout(SECOND * 5).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    cluster.inject(When::api(Api::Metadata).times(1), Fault::delay_answer(SECOND));
    let first = tokio::spawn(admin.describe_cluster().into_future());
    tokio::time::sleep(ms(100)).await;
    hand.is_choked.store(true, SeqCst);
    let names = (0..10_000).map(|nth| format!("a-topic-with-a-rather-long-name-{nth}"));
    let second = tokio::spawn(admin.describe_topics(names).timeout(SECOND * 3).into_future());
    let start = Instant::now();
    first.await.unwrap().unwrap();
    assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    // A connection that takes nothing is given up after request_timeout, and the next one works.
    hand.is_choked.store(false, SeqCst);
    admin.describe_cluster().await.unwrap();
    cluster.close().await;
}

/// What the broker said before a write failed is not lost.
#[tokio::test(start_paused = true)]
async fn an_answer_that_arrived_survives_a_write_error() {
    let hand = Hand::default();
    let (cluster, gate) = hand_in_hand(&hand).await;
    let client = gate.client(&cluster).connect().await.unwrap();
    let admin = client.admin();
    admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
    let created = cluster.requests().len();
    hand.is_deaf.store(true, SeqCst);
    let first = tokio::spawn(admin.create_topics([NewTopic::new("bills", 1, 1)]).into_future());
    tokio::time::sleep(ms(100)).await;
    hand.is_broken.store(true, SeqCst);
    let second = tokio::spawn(admin.create_partitions("orders", 2).into_future());
    tokio::time::sleep(ms(1)).await;
    hand.is_deaf.store(false, SeqCst);
    hand.is_broken.store(false, SeqCst);
    // Asked again, it would find that the topic exists.
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(cluster.requests().len() > created);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn bytes_may_come_one_by_one() {
    for pace in [1, 2, 3, 7] {
        let hand = Hand { pace, ..Hand::default() };
        let (cluster, gate) = hand_in_hand(&hand).await;
        let client = gate.client(&cluster).connect().await.unwrap();
        exchange(&client).await.unwrap();
        assert_eq!(gate.attempts().len(), 3, "the seed, and two classes at the broker");
        cluster.close().await;
    }
}

/// A little of everything.
async fn exchange(client: &Client) -> Result<(), Error> {
    let admin = client.admin();
    match admin.create_topics([NewTopic::new("orders", 3, 1)]).await {
        // The first attempt's answer was lost: as documented.
        Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
            assert!(error.to_string().contains("an earlier attempt"), "{error}");
        }
        outcome => assert_eq!(outcome?.len(), 1),
    }
    let topics = admin.describe_topics(["orders"]).await?;
    assert_eq!(topics[0].partitions.len(), 3);
    assert_eq!(admin.describe_cluster().await?.brokers.len(), 1);
    Ok(())
}

/// Row 1 of the faults: at every byte of the exchange, in both directions, the stream ends once.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_is_survived() {
    let mut after = usize::MAX;
    loop {
        let fuse = Arc::new(Fuse {
            left: AtomicUsize::new(after),
            is_single: true,
            has_blown: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
        });
        let hand = Hand { fuse: Some(Arc::clone(&fuse)), ..Hand::default() };
        let (cluster, gate) = hand_in_hand(&hand).await;
        let client = gate.client(&cluster).default_api_timeout(SECOND * 5).build().unwrap();
        let outcome = tokio::time::timeout(SECOND * 60, exchange(&client)).await;
        outcome.unwrap_or_else(|_| panic!("a cut after {after} bytes hangs")).unwrap_or_else(|error| {
            panic!("a cut after {after} bytes: {error}");
        });
        cluster.close().await;
        after = match after {
            // The first run counts.
            usize::MAX => {
                assert!(fuse.bytes.load(SeqCst) > 500, "{}", fuse.bytes.load(SeqCst));
                fuse.bytes.load(SeqCst)
            }
            0 => return,
            after => after - 1,
        };
    }
}

/// Every connection ends after so many bytes: no call can succeed, and every one says so in its time.
#[tokio::test(start_paused = true)]
async fn cuts_for_ever_are_errors_in_time() {
    for after in 0..120 {
        let cluster = one_in_memory().await;
        let gate = Gate::wrapping(&cluster, move |stream| {
            let fuse = Fuse {
                left: AtomicUsize::new(after),
                is_single: false,
                has_blown: AtomicBool::new(false),
                bytes: AtomicUsize::new(0),
            };
            Hand { fuse: Some(Arc::new(fuse)), ..Hand::default() }.take(stream)
        });
        let client = gate.client(&cluster).default_api_timeout(SECOND * 5).build().unwrap();
        let start = Instant::now();
        let outcome = tokio::time::timeout(SECOND * 60, client.admin().list_topics().into_future()).await;
        let error = outcome.unwrap_or_else(|_| panic!("cuts after {after} bytes hang")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(start.elapsed() <= SECOND * 5, "{:?}", start.elapsed());
        assert!(gate.attempts().len() < 20, "{} attempts in five seconds", gate.attempts().len());
        cluster.close().await;
    }
}

/// What a user's connector does wrong costs the attempt, not the broker.
#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_asked_again() {
    let cluster = one_in_memory().await;
    let panics = AtomicUsize::new(3);
    let gate = Gate::wrapping(&cluster, move |stream| {
        let again = panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        assert!(!again, "a planted panic");
        stream
    });
    let client = gate.client(&cluster).build().unwrap();
    exchange(&client).await.unwrap();
    assert_eq!(gate.attempts().len(), 6);
    cluster.close().await;
}

/// How large the answers of [`padding`] are, in bytes behind their size: that to ApiVersions, to Metadata, and to a fetch,
/// beyond what it asks for.
#[derive(Clone, Copy)]
struct Sizes {
    versions: usize,
    metadata: usize,
    fetch: usize,
}

/// The least that a client may be set to.
const LEAST: usize = 64 << 10;
const LIMITS: Sizes = Sizes { versions: 16 << 10, metadata: LEAST, fetch: LEAST };

/// A broker with one partition of one record, which pads its answers to `sizes`. Of one beyond its limit it sends the size
/// alone, so a client that waits for more is found out.
async fn padding(sizes: Sizes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(size) = stream.read_i32().await {
                    let mut request = vec![0; size as usize];
                    stream.read_exact(&mut request).await.unwrap();
                    let (answer, limit) = padded(&request.into(), address.port(), sizes);
                    stream.write_i32(answer.len() as i32).await.unwrap();
                    if answer.len() <= limit {
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    address.to_string()
}

/// The answer to a request, and what it may have.
fn padded(request: &Bytes, port: u16, sizes: Sizes) -> (Vec<u8>, usize) {
    let client_id = usize::from(request[9]) + 256 * usize::from(request[8]);
    let (version, correlation) = (i16::from_be_bytes([request[2], request[3]]), &request[4..8]);
    // The size, the limit, and the body with so many bytes of padding in a tagged field that nobody knows.
    type Body = Box<dyn Fn(usize) -> Bytes>;
    let (size, limit, tags, body): (usize, usize, &[u8], Body) = match request[1] {
        18 => {
            let offered = [(1, 4, 12), (3, 9, 9), (18, 0, 3)].map(|(api_key, min_version, max_version)| ApiVersion {
                api_key,
                min_version,
                max_version,
                ..Default::default()
            });
            let response = ApiVersionsResponse { api_keys: offered.to_vec(), ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            (sizes.versions, LIMITS.versions, &[], Box::new(body))
        }
        3 => {
            let broker = MetadataResponseBroker {
                node_id: 1,
                host: "127.0.0.1".into(),
                port: port.into(),
                ..Default::default()
            };
            let partition = MetadataResponsePartition { leader_id: 1, ..Default::default() };
            let topic =
                MetadataResponseTopic { name: Some("t".into()), partitions: vec![partition], ..Default::default() };
            let response =
                MetadataResponse { brokers: vec![broker], controller_id: 1, topics: vec![topic], ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            (sizes.metadata, LIMITS.metadata, &[0], Box::new(body))
        }
        1 => {
            let asked: FetchRequest = decode_body(&request.slice(11 + client_id..), version, true).unwrap();
            let mut writer = BatchWriter::new(100);
            writer.append(0, None, Some(b"v"), NO_HEADERS).unwrap();
            let records = Some(Records(writer.finish().stamp(Identity::NONE)));
            let partition = PartitionData { records, high_watermark: 1, ..Default::default() };
            let topic =
                FetchableTopicResponse { topic: "t".into(), partitions: vec![partition].into(), ..Default::default() };
            let response = FetchResponse { responses: vec![topic].into(), ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            let asked = usize::try_from(asked.max_bytes).unwrap();
            (asked + sizes.fetch, asked + LIMITS.fetch, &[0], Box::new(body))
        }
        api => panic!("API {api} is not offered"),
    };
    let least = 4 + tags.len() + body(0).len();
    let answers = (size - least - 8..=size - least).map(|pad| [correlation, tags, &body(pad)].concat());
    (answers.into_iter().find(|answer| answer.len() == size).expect("a length has one to five bytes"), limit)
}

/// The one record of [`padding`], or why not.
async fn the_record(sizes: Sizes) -> Result<i64, Error> {
    let client = quick(&[&padding(sizes).await]).max_response_size(LEAST).connect().await?;
    let mut consumer = client.consumer().build()?;
    consumer.assign([("t", 0)])?;
    consumer.seek(&("t", 0).into(), 0)?;
    Ok(tokio::time::timeout(SECOND * 20, consumer.recv()).await.expect("a record or an error")?.offset())
}

#[tokio::test]
async fn answers_are_accepted_up_to_the_limit_of_their_phase() {
    assert_eq!(the_record(LIMITS).await.unwrap(), 0);
    let Sizes { versions, metadata, fetch } = LIMITS;
    for (sizes, says) in [
        (Sizes { versions: versions + 1, ..LIMITS }, "a frame of 16385 bytes, where a broker's answer has 4 to 16384"),
        (Sizes { metadata: metadata + 1, ..LIMITS }, "Metadata was answered with 65537 bytes, and 65536 are the most"),
        // 1 MiB was asked for.
        (Sizes { fetch: fetch + 1, ..LIMITS }, "Fetch was answered with 1114113 bytes, and 1114112 are the most"),
    ] {
        let start = Instant::now();
        let error = the_record(sizes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(sizes.versions > versions || error.to_string().contains("raise max_response_size"), "{error}");
        assert!(start.elapsed() < SECOND * 10, "{:?}: {error}", start.elapsed());
    }
}
