//! What the feature `tracing` shows of a producer. A program of its own: subscribers are asked about a span's place once
//! for all threads, so other tests beside it would disturb.

#[path = "spans/seen.rs"]
mod seen;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, Record};
use seen::Spans;

/// By OpenTelemetry's names, one span for a batch, and its end when the batch is settled.
#[tokio::test(start_paused = true)]
async fn a_batch_is_a_span() {
    let spans = Spans::of("milena::producer");
    let _guard = tracing::subscriber::set_default(spans.clone());
    let cluster = MockCluster::builder().in_memory().start().await;
    cluster.create_topic("t", 1);
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let producer = client.producer().build().unwrap();
    producer.send(Record::to("t").value("known")).await.unwrap();
    let receipts = producer.enqueue_all((0..10).map(|_| Record::to("t").value("v"))).await.unwrap();
    producer.flush().await;
    cluster.inject(When::api(Api::Produce).times(1), Fault::error(29));
    producer.send(Record::to("t").value("v")).await.unwrap_err();
    let spans = spans.seen();
    let sent: Vec<_> = spans.iter().filter(|span| span.name == "send").collect();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|span| span.is_closed), "receipts that are kept keep no span: {}", receipts.len());
    let field = |n: usize, name: &str| sent[n].field(name);
    assert_eq!(field(1, "otel.name"), Some("send t"));
    assert_eq!(field(1, "messaging.system"), Some("kafka"));
    assert_eq!(field(1, "messaging.destination.name"), Some("t"));
    assert_eq!(field(1, "messaging.destination.partition.id"), Some("0"));
    assert_eq!(field(1, "messaging.batch.message_count"), Some("10"));
    assert_eq!(field(1, "messaging.kafka.offset"), Some("1"));
    assert_eq!((field(1, "error.type"), field(2, "error.type")), (None, Some("TOPIC_AUTHORIZATION_FAILED (29)")));
    assert_eq!((field(2, "otel.status_code"), field(2, "milena.fate")), (Some("ERROR"), Some("NotWritten")));
}
