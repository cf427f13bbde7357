//! Connections over real sockets and in-memory transports: who may stand at the other end, and how everything ends.
#![expect(clippy::disallowed_methods, reason = "a test has no client's runtime to ask for the time")]

use std::collections::HashMap;
use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_executor::block_on;
use milena::mock::MockCluster;
use milena::{Address, Client, ErrorKind, NewTopic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use rig::*;

mod cuts;
mod limits;
mod outages;
mod rig;

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
