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

/// Each method has its row, once, and each row its method.
fn is_whole(page: &str, heading: &str, methods: &BTreeSet<String>) {
    let listed = rows(&read(page), heading);
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "a row twice: {listed:?}");
    let missing: Vec<_> = methods.difference(&unique).collect();
    let gone: Vec<_> = unique.difference(methods).collect();
    assert!(missing.is_empty() && gone.is_empty(), "{page}: without a row: {missing:?}; without a method: {gone:?}");
}

#[test]
fn every_setting_of_a_producer_is_in_the_table() {
    let methods = settings(&read("src/producer/builder.rs"));
    assert!(methods.contains("acks") && methods.contains("interceptor"), "the builder was not understood: {methods:?}");
    is_whole("src/guide/producer_settings.md", "## Of the producer", &methods);
}

#[test]
fn every_setting_of_a_consumer_is_in_the_table() {
    let methods = settings(&read("src/consumer/builder.rs"));
    assert!(
        methods.contains("group") && methods.contains("interceptor"),
        "the builder was not understood: {methods:?}"
    );
    is_whole("src/guide/consumer_settings.md", "## Of the consumer", &methods);
}

#[test]
fn every_setting_of_the_client_is_in_the_table() {
    let mut methods = settings(&read("src/client.rs"));
    assert!(methods.contains("client_id") && methods.contains("tls"), "the builder was not understood: {methods:?}");
    methods.insert("builder".into());
    is_whole("src/guide/client_settings.md", "## Of the client", &methods);
}

/// The same for a consumer: of Java's consumer, of librdkafka's for consumers, and of `KafkaConsumer`.
#[test]
fn no_option_of_other_consumers_is_forgotten() {
    let page = read("src/guide/consumer_settings.md") + &read("src/guide/client_settings.md");
    let java = "allow.auto.create.topics auto.commit.interval.ms auto.offset.reset bootstrap.servers check.crcs \
                client.dns.lookup client.id client.rack config.providers connections.max.idle.ms default.api.timeout.ms \
                enable.auto.commit enable.metrics.push exclude.internal.topics fetch.max.bytes fetch.max.wait.ms \
                fetch.min.bytes group.id group.instance.id group.protocol group.remote.assignor heartbeat.interval.ms \
                interceptor.classes isolation.level key.deserializer max.partition.fetch.bytes max.poll.interval.ms \
                max.poll.records metadata.max.age.ms metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms \
                metric.reporters metrics.num.samples metrics.recording.level metrics.sample.window.ms \
                partition.assignment.strategy receive.buffer.bytes reconnect.backoff.max.ms reconnect.backoff.ms \
                request.timeout.ms retry.backoff.max.ms retry.backoff.ms security.protocol security.providers \
                send.buffer.bytes session.timeout.ms socket.connection.setup.timeout.ms value.deserializer";
    let librdkafka = "allow.auto.create.topics auto.commit.enable auto.offset.reset check.crcs consume_cb \
                      coordinator.query.interval.ms enable.auto.offset.store enable.partition.eof fetch.error.backoff.ms \
                      fetch.max.bytes fetch.message.max.bytes fetch.min.bytes fetch.queue.backoff.ms fetch.wait.max.ms \
                      group.protocol.type isolation.level max.partition.fetch.bytes offset.store.method \
                      offset.store.path offset_commit_cb queued.max.messages.kbytes queued.min.messages rebalance_cb \
                      receive.message.max.bytes stats_cb statistics.interval.ms";
    let python = "bootstrap_servers client_id group_id group_instance_id key_deserializer value_deserializer \
                  fetch_min_bytes fetch_max_wait_ms fetch_max_bytes max_partition_fetch_bytes request_timeout_ms \
                  retry_backoff_ms reconnect_backoff_ms reconnect_backoff_max_ms auto_offset_reset enable_auto_commit \
                  auto_commit_interval_ms default_offset_commit_callback check_crcs isolation_level \
                  allow_auto_create_topics metadata_max_age_ms partition_assignment_strategy max_poll_records \
                  max_poll_interval_ms session_timeout_ms heartbeat_interval_ms receive_buffer_bytes \
                  send_buffer_bytes socket_options consumer_timeout_ms security_protocol api_version \
                  api_version_auto_timeout_ms connections_max_idle_ms metric_reporters metrics_enabled \
                  metrics_num_samples metrics_sample_window_ms selector exclude_internal_topics socks5_proxy \
                  kafka_client";
    for name in [java, librdkafka, python].into_iter().flat_map(str::split_whitespace) {
        assert!(page.contains(&format!("`{name}`")), "{name} is on neither page");
    }
}

/// Every option of Java's producer and of kafka-python's is in the tables, or said to have no counterpart, or one of
/// those for security, metrics, sockets and transactions, which other chapters are about.
#[test]
fn no_option_of_the_others_is_forgotten() {
    let page = read("src/guide/producer_settings.md") + &read("src/guide/client_settings.md");
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
