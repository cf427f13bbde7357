//! What runs at every record, on its way out and when its fate is known.

use super::delivery::{DeliveryError, RecordMetadata};
use super::record::Record;

/// Sees every record of a producer: before it is sent, and when it is acknowledged or failed. For headers that all
/// records carry, and for counting. (Java: `ProducerInterceptor`.)
///
/// Without interceptors a producer does nothing for them. With one, each record costs its two calls.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use milena::{DeliveryError, Interceptor, Record, RecordMetadata};
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 1);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
///
/// #[derive(Clone, Default)]
/// struct Origin(Arc<AtomicU64>);
///
/// impl Interceptor for Origin {
///     fn on_send<'a>(&self, record: Record<'a>) -> Record<'a> {
///         record.header("origin", "checkout")
///     }
///
///     fn on_acknowledgement(&self, result: Result<&RecordMetadata, &DeliveryError>) {
///         if result.is_ok() {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let origin = Origin::default();
/// let producer = client.producer().interceptor(origin.clone()).build()?;
/// producer.send(Record::to("orders").value("created")).await?;
/// assert_eq!(origin.0.load(Ordering::Relaxed), 1);
/// assert_eq!(cluster.log("orders", 0)[0].headers[0].0, "origin");
/// # Ok(()) }
/// ```
pub trait Interceptor: Send + Sync + 'static {
    /// The record to send in place of `record`, before a partition is chosen for it. Runs on the thread that enqueues, once
    /// for each call that enqueues, under no lock of the client; a panic goes to the caller. It is also called for a record
    /// that is then refused, and for one whose future is dropped.
    fn on_send<'a>(&self, record: Record<'a>) -> Record<'a> {
        record
    }

    /// What became of a record, ahead of its receipt's callback. Also called for a record that was refused when it was
    /// enqueued. Runs on a task of the client, under no lock, and holds back what that task does next: it must not block.
    /// A panic is caught there.
    fn on_acknowledgement(&self, result: Result<&RecordMetadata, &DeliveryError>) {
        let _ = result;
    }
}
