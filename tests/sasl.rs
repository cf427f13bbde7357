//! Who a client is: SASL on the mock cluster, in virtual time.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::mock::{Api, Fault, KafkaRelease, MockCluster, MockClusterBuilder, When};
use milena::{
    Client, ClientBuilder, CredentialProvider, Credentials, ErrorKind, NewTopic, OffsetReset, ProviderError, Providing,
    Record, Sasl, Token, TokenProvider,
};

const SECOND: Duration = Duration::from_secs(1);

fn cluster() -> MockClusterBuilder {
    MockCluster::builder().in_memory().user("alice", "alice-secret").user("bob", "bob-secret")
}

fn builder(cluster: &MockCluster, sasl: Sasl) -> ClientBuilder {
    Client::builder(cluster.bootstrap()).connector(cluster.connector()).sasl(sasl)
}

fn mechanisms(user: &str, password: &str) -> [(&'static str, Sasl); 3] {
    [
        ("PLAIN", Sasl::plain(user, password).dangerous_over_plaintext()),
        ("SCRAM-SHA-256", Sasl::scram_sha_256(user, password)),
        ("SCRAM-SHA-512", Sasl::scram_sha_512(user, password)),
    ]
}

fn count(cluster: &MockCluster, api: Api) -> usize {
    cluster.requests().iter().filter(|request| request.api == api).count()
}

/// How often each connection authenticated.
fn logins(cluster: &MockCluster) -> BTreeMap<u64, usize> {
    let mut logins = BTreeMap::new();
    for request in cluster.requests().iter().filter(|request| request.api == Api::SaslHandshake) {
        *logins.entry(request.connection).or_default() += 1;
    }
    logins
}

#[tokio::test(start_paused = true)]
async fn every_mechanism_lets_every_handle_in() {
    for release in [KafkaRelease::V2_1, KafkaRelease::V4_1] {
        let cluster = cluster().release(release).start().await;
        for (name, sasl) in mechanisms("alice", "alice-secret") {
            let client = builder(&cluster, sasl).connect().await.unwrap();
            client.admin().create_topics([NewTopic::new(name, 1, 1)]).await.unwrap();
            let producer = client.producer().build().unwrap();
            producer.send(Record::to(name).value("in")).await.unwrap();
            let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
            consumer.assign([(name, 0)]).unwrap();
            assert_eq!(consumer.recv().await.unwrap().value(), Some(&b"in"[..]));
        }
        assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_told_at_once_and_not_tried_again() {
    let cluster = cluster().start().await;
    cluster.create_topic("t", 1);
    for (name, sasl) in mechanisms("alice", "a-wrong-password") {
        let start = tokio::time::Instant::now();
        let error = builder(&cluster, sasl.clone()).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(!error.is_retriable());
        let text = format!("{error} {error:?} {:?}", error.source().map(ToString::to_string));
        assert!(text.contains(name) && text.contains("`alice`") && !text.contains("a-wrong-password"), "{text}");
        // And by every handle of a client that did not wait.
        cluster.clear_requests();
        let client = builder(&cluster, sasl).build().unwrap();
        let producer = client.producer().build().unwrap();
        let sent = producer.send(Record::to("t").value("x")).await.unwrap_err();
        assert_eq!(sent.error.kind(), ErrorKind::Authentication, "{sent}");
        let created = client.admin().create_topics([NewTopic::new("u", 1, 1)]).await.unwrap_err();
        assert_eq!(created.kind(), ErrorKind::Authentication, "{created}");
        let mut consumer = client.consumer().group("g").build().unwrap();
        let committed = consumer.committed([("t", 0)]).await.unwrap_err();
        assert_eq!(committed.kind(), ErrorKind::Authentication, "{committed}");
        consumer.assign([("t", 0)]).unwrap();
        let received = consumer.recv().await.unwrap_err();
        assert_eq!(received.kind(), ErrorKind::Authentication, "{received}");
        assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
        let tries = count(&cluster, Api::SaslHandshake);
        assert!(tries < 25, "{tries} tries, the background's with their back-off included");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_listener_wants_is_said() {
    let scram = || Sasl::scram_sha_256("alice", "alice-secret");
    let plain_only = cluster().sasl_mechanisms(["PLAIN"]).start().await;
    let error = builder(&plain_only, scram()).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("does not offer this mechanism on this listener, but PLAIN"), "{error}");

    let open = MockCluster::builder().in_memory().start().await;
    let error = builder(&open, scram()).connect().await.unwrap_err();
    assert!(error.to_string().contains("does not authenticate its clients"), "{error}");

    let without = cluster().without(Api::SaslHandshake).start().await;
    let error = builder(&without, scram()).connect().await.unwrap_err();
    assert!(error.to_string().contains("the broker is too old"), "{error}");
}

#[tokio::test]
async fn secrets_do_not_go_over_plaintext_unless_told() {
    let bearer = || Sasl::oauthbearer(Token::new("abc"));
    for sasl in [Sasl::plain("alice", "alice-secret"), bearer()] {
        let error = Client::builder(["localhost:9092"]).sasl(sasl.clone()).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("Sasl::dangerous_over_plaintext"), "{error}");
        Client::builder(["localhost:9092"]).sasl(sasl.dangerous_over_plaintext()).build().unwrap();
    }
    Client::builder(["localhost:9092"]).sasl(Sasl::scram_sha_512("alice", "alice-secret")).build().unwrap();
}

/// Row 29 and rule 77: sessions of two seconds under pipelined load, byte for byte.
#[tokio::test(start_paused = true)]
async fn sessions_are_renewed_under_load_without_a_loss() {
    for (name, sasl) in mechanisms("alice", "alice-secret") {
        let cluster = cluster().session_lifetime(2 * SECOND).start().await;
        cluster.create_topic("t", 4);
        // Every produce takes a while, so that several are under way whenever a session ends.
        cluster.inject(When::api(Api::Produce), Fault::delay_answer(Duration::from_millis(30)));
        let client = builder(&cluster, sasl).connect().await.unwrap();
        let producer = client.producer().linger(Duration::ZERO).build().unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign((0..4).map(|partition| ("t", partition))).unwrap();
        let mut receipts = Vec::new();
        for n in 0..2_000 {
            receipts.push(producer.enqueue(Record::to("t").partition(n % 4).value(n.to_string())).await.unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            assert_eq!(receipt.await.unwrap().offset, Some(n as i64 / 4), "{name}: in the order of sending, each once");
        }
        let mut read = Vec::new();
        for _ in 0..2_000 {
            let record = consumer.recv().await.unwrap();
            read.push(String::from_utf8(record.value().unwrap().to_vec()).unwrap().parse::<i32>().unwrap());
        }
        read.sort_unstable();
        assert_eq!(read, (0..2_000).collect::<Vec<_>>());
        assert!(cluster.violations().is_empty(), "{name}: {:?}", cluster.violations());
        let logins = logins(&cluster);
        // 20 seconds: the produce, fetch and metadata connections lived through all of them.
        assert!(logins.values().filter(|&&times| times >= 9).count() >= 3, "{name}: {logins:?}");
        assert!(logins.len() <= 5, "{name}: no connection was made anew: {logins:?}");
    }
}

/// A request that the session's end would meet waits for the new one; it is not sent into the old one.
#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_at_85_to_95_percent() {
    let cluster = cluster().session_lifetime(100 * SECOND).start().await;
    let client = builder(&cluster, Sasl::scram_sha_256("alice", "alice-secret")).connect().await.unwrap();
    tokio::time::sleep(1000 * SECOND).await;
    let mut last = BTreeMap::new();
    let mut renewals = 0;
    for request in cluster.requests().iter().filter(|request| request.api == Api::SaslHandshake) {
        if let Some(before) = last.insert(request.connection, request.at) {
            let after = (request.at - before).as_secs_f64();
            assert!((84.9..=95.1).contains(&after), "{after}");
            renewals += 1;
        }
    }
    assert!(renewals >= 10, "{renewals}");
    drop(client);
}

struct Changing(Arc<Mutex<&'static str>>);

impl CredentialProvider for Changing {
    fn credentials(&self) -> Providing<'_, Credentials> {
        let password = *self.0.lock().unwrap();
        Box::pin(async move { Ok(Credentials::new("alice", password)) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_password_may_change_under_way() {
    let cluster = cluster().session_lifetime(10 * SECOND).start().await;
    cluster.create_topic("t", 1);
    let password = Arc::new(Mutex::new("alice-secret"));
    let sasl = Sasl::scram_sha_512_with(Changing(Arc::clone(&password)));
    let client = builder(&cluster, sasl).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("t").value("1")).await.unwrap();
    cluster.set_password("alice", "a new one");
    *password.lock().unwrap() = "a new one";
    for n in 2..20 {
        tokio::time::sleep(2 * SECOND).await;
        producer.send(Record::to("t").value(n.to_string())).await.unwrap();
    }
    assert!(cluster.violations().is_empty(), "{:?}", cluster.violations());
    assert!(logins(&cluster).values().any(|&times| times >= 3), "on the same connection: {:?}", logins(&cluster));
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_withdrawn_ends_with_the_session() {
    let cluster = cluster().session_lifetime(10 * SECOND).start().await;
    cluster.create_topic("t", 1);
    let client = builder(&cluster, Sasl::scram_sha_256("alice", "alice-secret")).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("t").value("1")).await.unwrap();
    cluster.set_password("alice", "a new one");
    producer.send(Record::to("t").value("2")).await.unwrap();
    tokio::time::sleep(20 * SECOND).await;
    let start = tokio::time::Instant::now();
    let error = producer.send(Record::to("t").value("3")).await.unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(start.elapsed() <= 2 * SECOND, "{:?}", start.elapsed());
    // The one that was right is right again: nothing is broken for good.
    cluster.set_password("alice", "alice-secret");
    tokio::time::sleep(5 * SECOND).await;
    producer.send(Record::to("t").value("4")).await.unwrap();
    assert_eq!(cluster.log("t", 0).len(), 3);
}

/// Rule 77: what fails is the connection, not what waits for it.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_costs_a_connection_and_no_record() {
    let cluster = cluster().session_lifetime(2 * SECOND).start().await;
    cluster.create_topic("t", 1);
    let client = builder(&cluster, Sasl::scram_sha_256("alice", "alice-secret")).connect().await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).build().unwrap();
    // The seventh, tenth, ...: renewals, each of which is refused once.
    let refused = cluster.inject(When::api(Api::SaslAuthenticate).every(7), Fault::error(58));
    let mut receipts = Vec::new();
    for n in 0..500 {
        receipts.push((n, producer.enqueue(Record::to("t").value(n.to_string())).await.unwrap()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut kept = 0;
    for (_, receipt) in receipts {
        match receipt.await {
            Ok(_) => kept += 1,
            // Only where a fresh connection was refused as well.
            Err(error) => assert_eq!(error.error.kind(), ErrorKind::Authentication),
        }
    }
    assert!(refused.struck() >= 2 && kept >= 400, "{} refusals, {kept} kept", refused.struck());
}

struct Flaky(Mutex<u32>);

impl TokenProvider for Flaky {
    fn token(&self) -> Providing<'_, Token> {
        let mut calls = self.0.lock().unwrap();
        *calls += 1;
        let outcome = match *calls {
            1 => Err(ProviderError::transient("the issuer is away")),
            _ => Err(ProviderError::new("the issuer does not know us")),
        };
        Box::pin(std::future::ready(outcome))
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_without_credentials_is_quoted() {
    let cluster = cluster().start().await;
    let sasl = Sasl::oauthbearer(Flaky(Mutex::new(0))).dangerous_over_plaintext();
    let client = builder(&cluster, sasl).build().unwrap();
    let admin = client.admin();
    let error = admin.list_topics().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(!error.is_retriable());
    assert!(error.to_string().contains("no credentials: the issuer does not know us"), "{error}");
}

struct Hanging;

impl TokenProvider for Hanging {
    fn token(&self) -> Providing<'_, Token> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_is_bounded_by_the_set_up_time() {
    let cluster = cluster().start().await;
    let sasl = Sasl::oauthbearer(Hanging).dangerous_over_plaintext();
    let start = tokio::time::Instant::now();
    let error = builder(&cluster, sasl).connect().await.unwrap_err();
    assert!(error.to_string().contains("connection_setup_timeout"), "{error}");
    assert!(error.is_retriable() && start.elapsed() <= 11 * SECOND, "{error} after {:?}", start.elapsed());
}

/// More iterations than fit between two polls are counted beside the tasks; more than a million are refused.
#[tokio::test]
async fn iterations_are_bounded() {
    let sasl = || Sasl::scram_sha_256("alice", "alice-secret");
    let many = cluster().scram_iterations(20_000).start().await;
    builder(&many, sasl()).connect().await.unwrap();
    for iterations in [4095, 1_000_001] {
        let hostile = cluster().scram_iterations(iterations).start().await;
        let error = builder(&hostile, sasl()).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authentication);
        assert!(error.to_string().contains(&format!("asks for {iterations} iterations")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acl_that_is_missing_names_the_principal() {
    let cluster = cluster().start().await;
    cluster.create_topic("t", 1);
    let client = builder(&cluster, Sasl::scram_sha_256("bob", "bob-secret")).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("t").value("x")).await.unwrap();
    cluster.inject(When::api(Api::Produce), Fault::error(29));
    let start = tokio::time::Instant::now();
    let error = producer.send(Record::to("t").value("x")).await.unwrap_err().error;
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(error.to_string().contains("the client is `bob`, by SCRAM-SHA-256"), "{error}");
    assert!(start.elapsed() < SECOND);
    cluster.clear_faults();
    cluster.inject(When::api(Api::CreateTopics), Fault::error(29));
    let error = client.admin().create_topics([NewTopic::new("u", 1, 1)]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(error.to_string().contains("`bob`"), "{error}");
    assert_eq!(count(&cluster, Api::CreateTopics), 1, "not tried again");
}

/// Rule: secrets never print. Everything that holds one, as `{:?}` and `{:#?}`, and every error of it.
#[tokio::test(start_paused = true)]
async fn nothing_prints_a_secret() {
    const SECRET: &str = "xyzzy-secret";
    let token = Token::new(SECRET).principal("p").extension("k", "v");
    let credentials = Credentials::new("user", SECRET);
    let sasl = [
        Sasl::plain("user", SECRET).dangerous_over_plaintext(),
        Sasl::scram_sha_512("user", SECRET),
        Sasl::scram_sha_256_with(credentials.clone()),
        Sasl::oauthbearer(token.clone()).dangerous_over_plaintext(),
    ];
    let mut printed = format!("{token:?} {token:#?} {credentials:?} {credentials:#?}");
    let cluster = cluster().start().await;
    for sasl in sasl {
        printed += &format!("{sasl:?} {sasl:#?}");
        let builder = builder(&cluster, sasl.clone());
        printed += &format!("{builder:?} {builder:#?}");
        let error = builder.connect().await.unwrap_err();
        printed += &format!("{error} {error:?} {error:#?}");
        let mut source = error.source();
        while let Some(error) = source {
            printed += &format!("{error} {error:?} {error:#?}");
            source = error.source();
        }
    }
    #[cfg(feature = "tls")]
    {
        let tls = milena::Tls::new().client_certificate_pem(SECRET, SECRET).key_password(SECRET).ca_pem(SECRET);
        printed += &format!("{tls:?} {tls:#?}");
        let builder = Client::builder(["localhost:1"]).tls(tls);
        printed += &format!("{builder:?} {builder:#?}");
        let error = builder.build().unwrap_err();
        printed += &format!("{error} {error:?} {error:#?}");
    }
    assert!(printed.contains("user") && printed.len() > 1000);
    assert!(!printed.contains(SECRET), "{printed}");
    // As numbers neither.
    assert!(!printed.contains("120, 121, 122, 122, 121"), "{printed}");
}
