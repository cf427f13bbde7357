//! What runs at every record that is handed out, and at every commit.

use std::collections::BTreeMap;

use super::commit::OffsetAndMetadata;
use super::record::BorrowedRecord;
use crate::error::{Error, TopicPartition};

/// Sees every record that a consumer hands out, and every commit of its own. For counting, auditing, and for the trace
/// that a record's headers carry. (Java: `ConsumerInterceptor`.)
///
/// Without interceptors a consumer does nothing for them. With one, each record costs its call. It changes nothing of a
/// record: what a caller gets lies in the batch as it was fetched.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use milena::{BorrowedRecord, ConsumerInterceptor, Error, OffsetAndMetadata, OffsetReset, TopicPartition};
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 1);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # client.producer().build()?.send(milena::Record::to("orders").value("created")).await?;
///
/// #[derive(Clone, Default)]
/// struct Audit {
///     bytes: Arc<AtomicU64>,
///     commits: Arc<AtomicU64>,
/// }
///
/// impl ConsumerInterceptor for Audit {
///     fn on_consume(&self, record: BorrowedRecord<'_>) {
///         self.bytes.fetch_add(record.value().map_or(0, <[u8]>::len) as u64, Ordering::Relaxed);
///     }
///
///     fn on_commit(&self, _: &BTreeMap<TopicPartition, OffsetAndMetadata>, outcome: Result<(), &Error>) {
///         self.commits.fetch_add(u64::from(outcome.is_ok()), Ordering::Relaxed);
///     }
/// }
///
/// let audit = Audit::default();
/// let builder = client.consumer().group("billing").auto_offset_reset(OffsetReset::Earliest);
/// let mut consumer = builder.interceptor(audit.clone()).build()?;
/// consumer.assign([("orders", 0)])?;
/// consumer.recv().await?;
/// consumer.commit().await?;
/// assert_eq!((audit.bytes.load(Ordering::Relaxed), audit.commits.load(Ordering::Relaxed)), (7, 1));
/// # Ok(()) }
/// ```
pub trait ConsumerInterceptor: Send + Sync + 'static {
    /// A record that is handed out now. Runs on the caller's thread, under no lock of the client; a panic goes to the caller,
    /// who has had the record then.
    fn on_consume(&self, record: BorrowedRecord<'_>) {
        let _ = record;
    }

    /// A commit that was made, or failed, ahead of whoever waits for it. Runs on a task of the client, under no lock, and
    /// holds back the commits behind it: it must not block. A panic is caught there.
    fn on_commit(&self, offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>, outcome: Result<(), &Error>) {
        let _ = (offsets, outcome);
    }
}
