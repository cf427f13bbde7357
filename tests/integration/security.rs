//! TLS, SASL and ACLs on a real broker: what lets a client in, and how it hears that it may not.
//!
//! Needs `scripts/kafka run --secure`, which sets the addresses of its listeners and makes the certificates.

use std::path::PathBuf;
use std::time::{Duration, Instant, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use milena::{Client, ClientBuilder, Error, ErrorKind, NewTopic, Record, Sasl, Tls, TlsFailure, TlsVersion, Token};

use crate::cluster::{Cluster, fresh, from_the_beginning, read, text};

/// The addresses of a listener.
fn listener(name: &str) -> Vec<String> {
    let addresses = std::env::var(format!("KAFKA_{name}")).expect("a cluster of scripts/kafka run --secure");
    addresses.split(',').map(str::to_owned).collect()
}

fn secret(name: &str) -> PathBuf {
    let folder = std::env::var_os("KAFKA_SECRETS").expect("a cluster of scripts/kafka run --secure");
    PathBuf::from(folder).join(name)
}

fn tls() -> Tls {
    Tls::new().ca_file(secret("ca.pem"))
}

fn mutual_tls() -> Tls {
    let key = secret("client-key-encrypted.pem");
    tls().client_certificate_files(secret("client.pem"), key).key_password("client-secret")
}

/// A JWT without a signature, which a broker without a verifier believes.
fn token(user: &str, lifetime: Duration) -> Token {
    let now = UNIX_EPOCH.elapsed().unwrap();
    let claims = format!(r#"{{"sub":"{user}","iat":{},"exp":{}}}"#, now.as_secs() - 1, (now + lifetime).as_secs());
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    Token::new(format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))).principal(user)
}

const HOUR: Duration = Duration::from_secs(3600);

fn mechanisms(user: &str, password: &str) -> [(&'static str, Sasl); 4] {
    [
        ("PLAIN", Sasl::plain(user, password)),
        ("SCRAM-SHA-256", Sasl::scram_sha_256(user, password)),
        ("SCRAM-SHA-512", Sasl::scram_sha_512(user, password)),
        ("OAUTHBEARER", Sasl::oauthbearer(token(user, HOUR))),
    ]
}

/// Admin, producer and consumer over one client.
async fn everything_works(what: &str, builder: ClientBuilder) {
    let client = builder.connect().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let topic = fresh("secure");
    let admin = client.admin();
    admin.create_topics([NewTopic::new(topic.as_str(), 2, 1)]).await.unwrap();
    let producer = client.producer().build().unwrap();
    let mut receipts = Vec::new();
    for n in 0..500 {
        let value = format!("{n} {}", "x".repeat(n * 7));
        let partition = i32::from(n % 2 == 1);
        receipts.push(producer.enqueue(Record::to(&topic).partition(partition).value(value)).await.unwrap());
    }
    for receipt in receipts {
        receipt.await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let mut seen = [0, 0];
    for record in read(&mut from_the_beginning(&client, &topic, [0, 1]), 500).await {
        let at = &mut seen[record.partition() as usize];
        let n = *at * 2 + record.partition() as usize;
        assert_eq!(text(record.value()), Some(&*format!("{n} {}", "x".repeat(n * 7))), "{what}");
        *at += 1;
    }
    admin.delete_topics([topic.as_str()]).await.unwrap();
}

pub async fn the_matrix_of_tls_and_sasl(_: Cluster) {
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for (listeners, tls) in [(["SSL", "SASL_SSL"], tls()), (["MTLS", "SASL_MTLS"], mutual_tls())] {
            let tls = tls.min_version(version).max_version(version);
            let what = format!("{} {version:?}", listeners[0]);
            let open = Client::builder(listener(listeners[0])).tls(tls.clone());
            everything_works(&what, open).await;
            for (name, sasl) in mechanisms("alice", "alice-secret") {
                let secure = Client::builder(listener(listeners[1])).tls(tls.clone()).sasl(sasl);
                everything_works(&format!("{what} {name}"), secure).await;
            }
        }
    }
}

pub async fn sasl_without_tls(_: Cluster) {
    for (name, sasl) in mechanisms("alice", "alice-secret") {
        let sasl = sasl.dangerous_over_plaintext();
        everything_works(name, Client::builder(listener("SASL_PLAINTEXT")).sasl(sasl)).await;
    }
}

/// What `builder` fails with, within a second.
async fn refused(what: &str, builder: ClientBuilder) -> Error {
    let start = Instant::now();
    let error = builder.connect().await.expect_err(what);
    assert!(start.elapsed() < Duration::from_secs(1), "{what}: after {:?}", start.elapsed());
    error
}

pub async fn wrong_passwords(_: Cluster) {
    for (name, sasl) in mechanisms("alice", "not-hers").into_iter().take(3) {
        let error = refused(name, Client::builder(listener("SASL_SSL")).tls(tls()).sasl(sasl)).await;
        assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
        let said = error.to_string();
        assert!(said.contains(&format!("by {name} as `alice`")) && !said.contains("not-hers"), "{said}");
    }
    for (what, token) in [("no token at all", Token::new("abc")), ("an old one", token("alice", Duration::ZERO))] {
        let builder = Client::builder(listener("SASL_SSL")).tls(tls()).sasl(Sasl::oauthbearer(token));
        let error = refused(what, builder).await;
        assert_eq!(error.kind(), ErrorKind::Authentication, "{what}: {error}");
    }
}

pub async fn certificates_that_are_refused(_: Cluster) {
    let ssl = || Client::builder(listener("SSL"));
    for (what, builder, failure) in [
        ("wrong CA", ssl().tls(Tls::new().ca_file(secret("other-ca.pem"))), TlsFailure::UnknownIssuer),
        ("the web's CAs", ssl().tls(Tls::new().web_roots()), TlsFailure::UnknownIssuer),
        ("expired", Client::builder(listener("EXPIRED")).tls(tls()), TlsFailure::Expired),
        ("wrong host", Client::builder(listener("WRONG_HOST")).tls(tls()), TlsFailure::WrongHost),
        (
            "no certificate, 1.2",
            Client::builder(listener("MTLS")).tls(tls().max_version(TlsVersion::V1_2)),
            TlsFailure::ClientCertificate,
        ),
        ("no certificate, 1.3", Client::builder(listener("MTLS")).tls(tls()), TlsFailure::ClientCertificate),
    ] {
        let error = refused(what, builder).await;
        // In place of an alert, Kafka 2.8 on Java 17 begins a second handshake, or sends what can't be decrypted.
        let is_confused = failure == TlsFailure::ClientCertificate
            && error.tls() == Some(TlsFailure::Handshake)
            && std::env::var("KAFKA_VERSION").unwrap().starts_with("2.");
        let failure = if is_confused { TlsFailure::Handshake } else { failure };
        assert_eq!((error.kind(), error.tls()), (ErrorKind::Tls, Some(failure)), "{what}: {error}");
        assert!(!error.is_retriable(), "{what}");
    }
    // The name alone may be left out of it, by name.
    let any = Client::builder(listener("WRONG_HOST")).tls(tls().dangerous_accept_any_host());
    everything_works("any host", any).await;
    let other = Tls::new().ca_file(secret("other-ca.pem")).dangerous_accept_any_host();
    let error = refused("any host, wrong CA", Client::builder(listener("WRONG_HOST")).tls(other)).await;
    assert_eq!(error.tls(), Some(TlsFailure::UnknownIssuer));
}

pub async fn protocols_that_do_not_match(_: Cluster) {
    let error = refused("TLS to plaintext", Client::builder(listener("BOOTSTRAP")).tls(tls())).await;
    assert!(error.to_string().contains("is this a TLS listener?"), "{error}");
    let error = refused("plaintext to TLS", Client::builder(listener("SSL"))).await;
    assert!(error.to_string().contains("TLS"), "{error}");
    let scram = Sasl::scram_sha_256("alice", "alice-secret");
    let error = refused("SASL to plaintext", Client::builder(listener("BOOTSTRAP")).sasl(scram)).await;
    assert!(error.to_string().contains("does not authenticate its clients"), "{error}");
    let error = refused("plaintext to SASL", Client::builder(listener("SASL_PLAINTEXT"))).await;
    assert!(error.to_string().contains("SASL"), "{error}");
}

/// `bob` may do nothing.
pub async fn a_missing_acl(cluster: Cluster) {
    let topic = cluster.topic(&cluster.client().await, 1).await;
    for (name, sasl) in mechanisms("bob", "bob-secret") {
        let builder = Client::builder(listener("SASL_SSL")).tls(tls()).sasl(sasl);
        let client = builder.connect().await.unwrap();
        let within_a_second = async |what: &str, future: std::pin::Pin<Box<dyn Future<Output = Error>>>| {
            let start = Instant::now();
            let error = future.await;
            assert_eq!(error.kind(), ErrorKind::Authorization, "{what}: {error}");
            assert!(error.to_string().contains(&format!("the client is `bob`, by {name}")), "{what}: {error}");
            assert!(start.elapsed() < Duration::from_secs(1), "{what}: after {:?}", start.elapsed());
        };
        let producer = client.producer().build().unwrap();
        let record = Record::to(&topic).value("x");
        let send = async move { producer.send(record).await.unwrap_err().error };
        within_a_second("send", Box::pin(send)).await;
        let mut consumer = client.consumer().group("bobs").build().unwrap();
        consumer.assign([(topic.as_str(), 0)]).unwrap();
        let receive = async move { consumer.recv().await.unwrap_err() };
        within_a_second("recv", Box::pin(receive)).await;
        let consumer = client.consumer().group("bobs").build().unwrap();
        let name = topic.clone();
        let committed = async move { consumer.committed([(name.as_str(), 0)]).await.unwrap_err() };
        within_a_second("committed", Box::pin(committed)).await;
        let admin = client.admin();
        let create = async move { admin.create_topics([NewTopic::new(fresh("bobs"), 1, 1)]).await.unwrap_err() };
        within_a_second("create", Box::pin(create)).await;
        let admin = client.admin();
        let name = topic.clone();
        let describe = async move { admin.describe_topics([name.as_str()]).await.unwrap_err() };
        within_a_second("describe", Box::pin(describe)).await;
    }
}

/// Sessions of two seconds, under load, for seven seconds.
pub async fn sessions_are_renewed_under_load(cluster: Cluster) {
    let own = cluster.client().await;
    for (name, sasl) in mechanisms("alice", "alice-secret") {
        let topic = cluster.topic(&own, 3).await;
        let client = Client::builder(listener("REAUTH")).sasl(sasl.dangerous_over_plaintext()).connect().await.unwrap();
        let producer = client.producer().linger(Duration::ZERO).build().unwrap();
        let reader = client.clone();
        let name_of_topic = topic.clone();
        let mut consumer = from_the_beginning(&reader, &name_of_topic, 0..3);
        let start = Instant::now();
        let mut receipts = Vec::new();
        let mut count = 0_usize;
        while start.elapsed() < Duration::from_secs(7) {
            for _ in 0..20 {
                let record = Record::to(&topic).partition((count % 3) as i32).value(format!("{count}"));
                receipts.push(producer.enqueue(record).await.unwrap());
                count += 1;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for (n, receipt) in receipts.into_iter().enumerate() {
            let receipt = receipt.await.unwrap_or_else(|error| panic!("{name}: record {n} of {count}: {error}"));
            assert_eq!(receipt.offset, Some(n as i64 / 3), "{name}");
        }
        let mut next = [0, 1, 2];
        for record in read(&mut consumer, count).await {
            let n = &mut next[record.partition() as usize];
            assert_eq!(text(record.value()), Some(&*n.to_string()), "{name}");
            *n += 3;
        }
    }
}

/// A certificate that is renewed in place is used by the next connection.
pub async fn certificates_are_reloaded(_: Cluster) {
    let folder = std::env::temp_dir().join(fresh("milena-tls"));
    std::fs::create_dir(&folder).unwrap();
    let ca = folder.join("ca.pem");
    std::fs::copy(secret("other-ca.pem"), &ca).unwrap();
    let client = Client::builder(listener("SSL")).tls(Tls::new().ca_file(&ca)).build().unwrap();
    let admin = client.admin();
    let error = admin.list_topics().await.unwrap_err();
    assert_eq!(error.tls(), Some(TlsFailure::UnknownIssuer), "{error}");
    // Half written: what was before stays, and the error says so.
    std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    // Between attempts, which back off, the outcome of the last one is what is told.
    let within = tokio::time::Instant::now() + Duration::from_secs(15);
    loop {
        let error = admin.list_topics().await.unwrap_err();
        if error.to_string().contains("its files have changed since, and cannot be used") {
            break;
        }
        assert!(tokio::time::Instant::now() < within, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::copy(secret("ca.pem"), &ca).unwrap();
    let within = tokio::time::Instant::now() + Duration::from_secs(15);
    while let Err(error) = admin.list_topics().await {
        assert!(tokio::time::Instant::now() < within, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    std::fs::remove_dir_all(folder).unwrap();
}
