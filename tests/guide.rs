//! The guide's tables are whole: a setting that is not in them fails here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The public methods that take `mut self`, of all files of a folder or of one file: a builder's settings.
fn settings(source: &str) -> BTreeSet<String> {
    let methods = source.lines().filter_map(|line| line.trim().strip_prefix("pub fn "));
    let setting = |line: &str| {
        line.split_once('(').filter(|(_, rest)| rest.starts_with("mut self")).map(|(name, _)| name.to_owned())
    };
    // A generic parameter stands before the parenthesis.
    methods.filter_map(setting).map(|name| name.split('<').next().unwrap_or_default().to_owned()).collect()
}

/// What stands in backticks at the front of each row, under a heading.
fn rows(page: &str, heading: &str) -> Vec<String> {
    let section = page.split(heading).nth(1).unwrap_or_else(|| panic!("no {heading:?}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let row = |line: &str| line.strip_prefix("| `").and_then(|rest| rest.split('`').next()).map(str::to_owned);
    section.lines().filter_map(row).collect()
}

#[test]
fn every_setting_of_a_producer_is_in_the_table() {
    let page = read("src/guide/producer_settings.md");
    let listed = rows(&page, "## Of the producer");
    let methods = settings(&read("src/producer/builder.rs"));
    assert!(methods.contains("acks") && methods.contains("interceptor"), "the builder was not understood: {methods:?}");
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "a row twice: {listed:?}");
    let missing: Vec<_> = methods.difference(&unique).collect();
    let gone: Vec<_> = unique.difference(&methods).collect();
    assert!(missing.is_empty() && gone.is_empty(), "without a row: {missing:?}; without a method: {gone:?}");
}

#[test]
fn every_setting_of_the_client_that_is_named_exists() {
    let page = read("src/guide/producer_settings.md");
    let mut methods = settings(&read("src/client.rs"));
    methods.insert("builder".into());
    for name in rows(&page, "## Of the client") {
        assert!(methods.contains(&name), "there is no ClientBuilder::{name}");
    }
}

/// Every option of Java's producer and of kafka-python's is in the tables, or said to have no counterpart, or one of
/// those for security, metrics, sockets and transactions, which other chapters are about.
#[test]
fn no_option_of_the_others_is_forgotten() {
    let page = read("src/guide/producer_settings.md");
    let java = "acks batch.size bootstrap.servers buffer.memory client.id compression.type \
                compression.gzip.level compression.lz4.level compression.zstd.level \
                max.in.flight.requests.per.connection connections.max.idle.ms delivery.timeout.ms \
                enable.idempotence interceptor.classes key.serializer linger.ms max.block.ms max.request.size \
                metadata.max.age.ms metadata.max.idle.ms partitioner.adaptive.partitioning.enable \
                partitioner.availability.timeout.ms partitioner.class partitioner.ignore.keys reconnect.backoff.max.ms \
                reconnect.backoff.ms request.timeout.ms retries retry.backoff.max.ms retry.backoff.ms \
                socket.connection.setup.timeout.ms value.serializer";
    let python = "bootstrap_servers client_id key_serializer value_serializer enable_idempotence delivery_timeout_ms acks \
                  batch_size linger_ms compression_type max_in_flight_requests_per_connection partitioner connections_max_idle_ms max_block_ms max_request_size \
                  allow_auto_create_topics metadata_max_age_ms retry_backoff_ms request_timeout_ms reconnect_backoff_ms \
                  reconnect_backoff_max_ms socks5_proxy socket_options retries";
    for name in java.split_whitespace().chain(python.split_whitespace()) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not on the page");
    }
}
