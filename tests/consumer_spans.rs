//! What the feature `tracing` shows of a consumer. A program of its own: subscribers are asked about a span's place once
//! for all threads, so other tests beside it would disturb.

#![allow(clippy::disallowed_methods, reason = "tests have clocks")]

#[path = "spans/seen.rs"]
mod seen;

use milena::mock::MockCluster;
use milena::{Client, OffsetReset, Record};
use seen::Spans;

/// By OpenTelemetry's names, one span for a batch, from its first record until the caller is done with it.
#[tokio::test(start_paused = true)]
async fn a_batch_is_a_span() {
    let cluster = MockCluster::builder().in_memory().start().await;
    cluster.create_topic("t", 1);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("t").value("first")).await.unwrap();
    producer.send_all((0..10).map(|_| Record::to("t").value("v"))).await;
    let size = cluster.batches("t", 0)[1].size.to_string();
    let spans = Spans::of("milena::consumer");
    let _guard = tracing::subscriber::set_default(spans.clone());
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([("t", 0)]).unwrap();
    consumer.recv().await.unwrap();
    assert_eq!(spans.seen().iter().map(|span| span.is_closed).collect::<Vec<_>>(), [false]);
    assert_eq!(consumer.poll_max(4).await.unwrap().unwrap().count(), 4);
    // Sought away from: these four are what it was.
    consumer.seek(&("t", 0).into(), 11).unwrap();
    assert!(tokio::time::timeout(std::time::Duration::from_secs(1), consumer.recv()).await.is_err());
    let spans = spans.seen();
    assert_eq!(spans.iter().map(|span| (span.name, span.is_closed)).collect::<Vec<_>>(), [("poll", true); 2]);
    let field = |n: usize, name: &str| spans[n].field(name);
    assert_eq!(
        (field(0, "messaging.batch.message_count"), field(1, "messaging.batch.message_count")),
        (Some("1"), Some("4"))
    );
    assert_eq!(field(1, "otel.name"), Some("poll t"));
    assert_eq!(field(1, "otel.kind"), Some("consumer"));
    assert_eq!(field(1, "messaging.system"), Some("kafka"));
    assert_eq!(field(1, "messaging.destination.name"), Some("t"));
    assert_eq!(field(1, "messaging.destination.partition.id"), Some("0"));
    assert_eq!(field(1, "messaging.kafka.offset"), Some("1"));
    assert_eq!(field(1, "messaging.message.envelope.size"), Some(&*size));
    assert_eq!(field(1, "error.type"), None);
}
