use std::fmt::Debug;

use super::*;

fn error(pairs: &[(&str, &str)]) -> String {
    let pairs = [("bootstrap.servers", "localhost:9092")].iter().chain(pairs).copied();
    match ClientBuilder::from_properties(pairs) {
        Ok(_) => "no error".into(),
        Err(error) => {
            assert_eq!(error.kind(), crate::ErrorKind::Config);
            error.to_string()
        }
    }
}

/// What the builders made of a client with these properties show.
async fn shown(pairs: &[(&str, &str)]) -> String {
    let pairs = [("bootstrap.servers", "localhost:9092")].iter().chain(pairs).copied();
    let client = ClientBuilder::from_properties(pairs).unwrap().build().unwrap();
    let show = |builder: &dyn Debug| format!("{builder:?}");
    show(&client.producer()) + &show(&client.consumer())
}

#[tokio::test]
async fn producers_and_consumers_are_configured() {
    let shown = shown(&[
        ("acks", "1"),
        ("linger.ms", "7"),
        ("batch.size", "12345"),
        ("queue.buffering.max.kbytes", "2048"),
        ("enable.idempotence", "false"),
        ("group.id", "billing"),
        ("auto.offset.reset", "smallest"),
        ("fetch.min.bytes", "77"),
        ("session.timeout.ms", "30000"),
        ("enable.auto.commit", "false"),
        ("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor, range"),
    ])
    .await;
    for part in [
        "acks: Leader",
        "linger: 7ms",
        "batch_size: 12345",
        "buffer_memory: 2097152",
        "idempotence: Some(false)",
        "group: Some(\"billing\")",
        "reset: Earliest",
        "min_bytes: 77",
        "session_timeout: Some(30s)",
        "auto_commit: Some(false)",
        "assignors: [\"cooperative-sticky\", \"range\"]",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (pairs, expected) in [
        (&[("lingr.ms", "5")][..], "unknown property `lingr.ms`: did you mean `linger.ms`?"),
        (&[("no.such.thing.at.all", "5")], "unknown property `no.such.thing.at.all`"),
        (&[("linger.ms", "soon")], "linger.ms=soon is no number of milliseconds"),
        (&[("linger.ms", "-1")], "linger.ms=-1 is no time in milliseconds that can be waited for"),
        (&[("acks", "2")], "acks=2 is none of all, -1, 1 and 0"),
        (
            &[("linger.ms", "5"), ("queue.buffering.max.ms", "6")],
            "linger.ms=5 and queue.buffering.max.ms=6 contradict each other",
        ),
        (&[("compression.gzip.level", "9")], "compression.gzip.level is given, but compression.type is none"),
        (&[("compression.type", "brotli")], "compression.type=brotli is none of none, gzip, snappy, lz4 and zstd"),
        (&[("enable.metrics.push", "true")], "enable.metrics.push=true cannot be had: metrics are not pushed"),
        (&[("group.protocol", "streams")], "group.protocol=streams is none of classic, consumer and auto"),
        (
            &[("partition.assignment.strategy", "range,best")],
            "partition.assignment.strategy=range,best names none of range, roundrobin, sticky and cooperative-sticky: give \
             your own to ConsumerBuilder::partition_assignment_strategy",
        ),
        (&[("transactional.id", "x")], "transactional.id is not supported (yet): leave it out if its default will do"),
        (
            &[("security.protocol", "TLS")],
            "security.protocol is TLS: it must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        ),
        (&[("sasl.username", "alice")], "sasl.username is given, but security.protocol is PLAINTEXT"),
        (&[("ssl.key.password", "x")], "ssl.key.password is given, but security.protocol is PLAINTEXT"),
        (
            &[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "SCRAM-SHA-1")],
            "sasl.mechanism is SCRAM-SHA-1: it must be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        ),
        (
            &[("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "SCRAM-SHA-256")],
            "SCRAM-SHA-256 needs sasl.username and sasl.password, or sasl.jaas.config",
        ),
        (
            &[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "a"),
                ("sasl.password", "b"),
            ],
            "PLAIN with security.protocol=SASL_PLAINTEXT shows its secret to everyone on the way: use SASL_SSL or SCRAM, or \
             add milena.sasl.dangerous.over.plaintext=true",
        ),
        (
            &[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "SCRAM-SHA-256"),
                ("sasl.jaas.config", "x.PlainLoginModule required username=a password=b;"),
            ],
            "sasl.jaas.config has a PlainLoginModule, but sasl.mechanism is SCRAM-SHA-256, which wants a ScramLoginModule",
        ),
        (
            &[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "SCRAM-SHA-256"),
                ("sasl.username", "a"),
                ("sasl.jaas.config", "x.ScramLoginModule required username=a password=b;"),
            ],
            "sasl.username and sasl.jaas.config say who the client is in two ways",
        ),
        (
            &[("sasl.password", "xyzzy"), ("sasl.password", "zzyzx")],
            "sasl.password is given twice, with different values",
        ),
    ] {
        assert_eq!(error(pairs), expected);
    }
    assert_eq!(
        ClientBuilder::from_properties([("client.id", "x")]).unwrap_err().to_string(),
        "bootstrap.servers is missing"
    );
}

#[test]
fn kerberos_and_java_s_stores_name_the_way_out() {
    let sasl = ("security.protocol", "SASL_SSL");
    for pairs in [&[sasl][..], &[sasl, ("sasl.mechanism", "GSSAPI")], &[sasl, ("sasl.kerberos.service.name", "kafka")]]
    {
        let error = error(pairs);
        if cfg!(feature = "tls") {
            assert!(
                error.contains("Kerberos (GSSAPI) needs libraries in C") && error.contains("SCRAM-SHA-512"),
                "{error}"
            );
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn stores_are_converted_by_the_command_that_is_printed() {
    let ssl = ("security.protocol", "SSL");
    assert_eq!(
        error(&[ssl, ("ssl.truststore.location", "/x/trust.jks")]),
        "ssl.truststore.location is a JKS store, and PEM is needed: convert it by `keytool -importkeystore -srckeystore \
         /x/trust.jks -destkeystore /x/trust.jks.p12 -deststoretype PKCS12 && openssl pkcs12 -in /x/trust.jks.p12 -nokeys \
         -out ca.pem`, and say ssl.truststore.type=PEM"
    );
    assert_eq!(
        error(&[ssl, ("ssl.keystore.location", "/x/key.p12"), ("ssl.keystore.type", "PKCS12")]),
        "ssl.keystore.location is a PKCS12 store, and PEM is needed: convert it by `openssl pkcs12 -in /x/key.p12 -out \
         client.pem`, and say ssl.keystore.type=PEM"
    );
    assert_eq!(
        error(&[ssl, ("ssl.certificate.location", "/x/client.pem")]),
        "ssl.certificate.location is given: the client's certificate and key have to come together, and in one way"
    );
}

#[cfg(feature = "tls")]
#[test]
fn security_is_configured_by_either_client_s_names() {
    let java = [
        ("bootstrap.servers", "localhost:9093"),
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        (
            "sasl.jaas.config",
            "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\"s3cret\";",
        ),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.certificates", include_str!("../../net/tls/testdata/certificate.pem")),
        ("ssl.enabled.protocols", "TLSv1.3"),
        ("ssl.endpoint.identification.algorithm", ""),
    ];
    let rdkafka = [
        ("metadata.broker.list", "localhost:9093"),
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanisms", "SCRAM-SHA-512"),
        ("sasl.username", "alice"),
        ("sasl.password", "s3cret"),
        ("ssl.ca.pem", include_str!("../../net/tls/testdata/certificate.pem")),
        ("ssl.enabled.protocols", "TLSv1.3"),
        ("ssl.endpoint.identification.algorithm", "none"),
    ];
    let [java, rdkafka] = [&java[..], &rdkafka[..]]
        .map(|pairs| format!("{:?}", ClientBuilder::from_properties(pairs.iter().copied()).unwrap()));
    assert_eq!(java, rdkafka);
    for part in ["ScramSha512", "min_version: V1_3", "any_host: true"] {
        assert!(java.contains(part), "{java}");
    }
    assert!(!java.contains("s3cret"));
}

#[test]
fn a_file_is_read_and_its_lines_are_named() {
    let path = std::env::temp_dir().join(format!("milena-properties-{}", std::process::id()));
    std::fs::write(&path, "# a client\nbootstrap.servers = localhost:1, localhost:2\nclient.id: x\nlinger.ms 5\n")
        .unwrap();
    let builder = ClientBuilder::from_properties_file(&path).unwrap();
    assert!(format!("{builder:?}").contains(r#"["localhost:1", "localhost:2"]"#), "{builder:?}");
    std::fs::write(&path, "bootstrap.servers=localhost:1\n\nacks=many\n").unwrap();
    let error = ClientBuilder::from_properties_file(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}: line 3: acks=many is none of all, -1, 1 and 0", path.display()));
    std::fs::remove_file(&path).unwrap();
    assert!(
        ClientBuilder::from_properties_file(&path).unwrap_err().to_string().starts_with(&path.display().to_string())
    );
}
