//! What the feature `tracing` shows of a producer. A program of its own: subscribers are asked about a span's place once
//! for all threads, so other tests beside it would disturb.

use std::sync::{Arc, Mutex};

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, Record};

/// By OpenTelemetry's names, one span for a batch, and its end when the batch is settled.
#[tokio::test(start_paused = true)]
async fn a_batch_is_a_span() {
    let spans = Spans::default();
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
    let spans = spans.0.lock().unwrap();
    let sent: Vec<_> = spans.iter().filter(|span| span.name == "send").collect();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|span| span.is_closed), "receipts that are kept keep no span: {}", receipts.len());
    let field =
        |n: usize, name: &str| sent[n].fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value);
    assert_eq!(field(1, "otel.name"), Some("send t"));
    assert_eq!(field(1, "messaging.system"), Some("kafka"));
    assert_eq!(field(1, "messaging.destination.name"), Some("t"));
    assert_eq!(field(1, "messaging.destination.partition.id"), Some("0"));
    assert_eq!(field(1, "messaging.batch.message_count"), Some("10"));
    assert_eq!(field(1, "messaging.kafka.offset"), Some("1"));
    assert_eq!((field(1, "error.type"), field(2, "error.type")), (None, Some("TOPIC_AUTHORIZATION_FAILED (29)")));
    assert_eq!((field(2, "otel.status_code"), field(2, "milena.fate")), (Some("ERROR"), Some("NotWritten")));
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<SeenSpan>>>);

struct SeenSpan {
    name: &'static str,
    fields: Vec<(String, String)>,
    is_closed: bool,
}

impl tracing::field::Visit for SeenSpan {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.fields.push((field.name().to_owned(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.fields.push((field.name().to_owned(), value.to_owned()));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "milena::producer"
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut seen = SeenSpan { name: span.metadata().name(), fields: Vec::new(), is_closed: false };
        span.record(&mut seen);
        let mut spans = self.0.lock().unwrap();
        spans.push(seen);
        tracing::span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.0.lock().unwrap()[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn try_close(&self, span: tracing::span::Id) -> bool {
        self.0.lock().unwrap()[span.into_u64() as usize - 1].is_closed = true;
        true
    }
}
