//! What becomes of a record whose handler fails.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::consumer::record::ConsumerRecord;
use crate::error::Error;
use crate::{Producer, Record};

/// What becomes of a record whose handler fails: for [`Workers::on_failure`](super::Workers::on_failure). An error and a panic
/// are the same to it.
///
/// First the handler gets the record again, up to so many [`attempts`](Self::attempts); then it is one of the three.
/// Meanwhile what stands behind the record in the worker's queue waits, so that order is kept.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 1);
/// # cluster.create_topic("orders.failed", 1);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # let producer = client.producer().build()?;
/// # for value in ["1", "two", "3"] { producer.send(milena::Record::to("orders").value(value)).await?; }
/// # let mut consumer = client.consumer().auto_offset_reset(milena::OffsetReset::Earliest).build()?;
/// # consumer.assign([("orders", 0)])?;
/// use milena::FailurePolicy;
/// use std::time::Duration;
///
/// let policy = FailurePolicy::dead_letter(producer, "orders.failed");
/// let policy = policy.attempts(2).backoff(Duration::from_millis(1), Duration::from_millis(10));
/// consumer.stop_at_end().await?;
/// let workers = consumer.workers(4).on_failure(policy);
/// workers.run(|record| async move {
///     let number: i64 = std::str::from_utf8(record.value().unwrap_or_default())?.parse()?;
///     println!("{number}");
///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
/// }).await?;
///
/// let mut failed = client.consumer().auto_offset_reset(milena::OffsetReset::Earliest).build()?;
/// failed.assign([("orders.failed", 0)])?;
/// let record = failed.recv().await?;
/// assert_eq!(record.value(), Some(&b"two"[..]));
/// let offset = record.headers().find(|header| header.key == b"milena.errors.offset").and_then(|header| header.value);
/// assert_eq!(offset, Some(&b"1"[..]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a policy does nothing until it is given to Workers::on_failure"]
pub struct FailurePolicy {
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
    pub(super) backoff_max: Duration,
    then: Then,
}

#[derive(Clone)]
enum Then {
    Stop,
    Skip,
    DeadLetter(Producer, Arc<str>),
}

/// What a handler brought back, if not success.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What a handler's panic said.
#[derive(Debug)]
pub struct Panicked(pub Cow<'static, str>);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

impl FailurePolicy {
    /// The pool stops, with an error that names the record ([`Error::handler_failure`]). The default.
    pub fn stop() -> Self {
        let (backoff, backoff_max) = (Duration::from_millis(100), Duration::from_secs(10));
        Self { attempts: 1, backoff, backoff_max, then: Then::Stop }
    }

    /// The record counts as done. Nobody hears of it, so a handler that fails should say so itself.
    pub fn skip() -> Self {
        Self { then: Then::Skip, ..Self::stop() }
    }

    /// The record goes to this topic, with its key, value and headers, and counts as done when the broker has acknowledged
    /// that. The pool stops if it does not. Headers say where it came from and what was wrong, in text:
    /// `milena.errors.topic`, `milena.errors.partition`, `milena.errors.offset`, `milena.errors.attempts`,
    /// `milena.errors.message`. (Kafka Connect: `errors.deadletterqueue.topic.name`.)
    ///
    /// A header of the record whose name is not UTF-8 cannot be written: then the pool stops too.
    pub fn dead_letter(producer: Producer, topic: impl Into<Arc<str>>) -> Self {
        Self { then: Then::DeadLetter(producer, topic.into()), ..Self::stop() }
    }

    /// How often a handler gets a record at most; 0 counts as 1. Default: 1, so no second time.
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: attempts.max(1), ..self }
    }

    /// How long to wait before the second attempt; each wait is twice the one before, up to `max`, and all are spread by a
    /// fifth. Default: 100 ms, up to 10 s.
    ///
    /// A rebalance that takes the partition away does not wait so long, nor does a pool that is to stop: the handler gets the
    /// record once more at once, and if that fails too, whoever reads the partition next begins with it.
    pub fn backoff(self, first: Duration, max: Duration) -> Self {
        Self { backoff: first, backoff_max: max, ..self }
    }

    /// After the last attempt. Done, or why the pool stops.
    pub(super) async fn conclude(&self, record: &ConsumerRecord, attempts: u32, cause: Cause) -> Result<(), Error> {
        let failed = |then: &str| {
            Error::handler_failed(record.topic_partition(), record.offset(), attempts, Arc::clone(&cause), then)
        };
        match &self.then {
            Then::Skip => Ok(()),
            Then::Stop => Err(failed("")),
            Then::DeadLetter(producer, topic) => {
                let written = match letter(record, topic, attempts, &cause) {
                    Some(letter) => producer.send(letter).await.map(|_| ()).map_err(|error| error.to_string()),
                    None => Err("the name of one of its headers is not UTF-8".into()),
                };
                written.map_err(|why| failed(&format!("; and its dead letter to `{topic}` was not written: {why}")))
            }
        }
    }
}

fn letter<'a>(record: &'a ConsumerRecord, topic: &Arc<str>, attempts: u32, cause: &Cause) -> Option<Record<'a>> {
    let mut letter = Record::to(Arc::clone(topic));
    if let Some(key) = record.key() {
        letter = letter.key(key);
    }
    if let Some(value) = record.value() {
        letter = letter.value(value);
    }
    for header in record.headers() {
        let name = std::str::from_utf8(header.key).ok()?;
        letter = match header.value {
            Some(value) => letter.header(name, value),
            None => letter.null_header(name),
        };
    }
    let letter = letter.header("milena.errors.topic", record.borrow().topic().as_bytes());
    let letter = letter.header("milena.errors.partition", record.partition().to_string());
    let letter = letter.header("milena.errors.offset", record.offset().to_string());
    let letter = letter.header("milena.errors.attempts", attempts.to_string());
    Some(letter.header("milena.errors.message", cause.to_string()))
}

impl fmt::Debug for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let then = match &self.then {
            Then::Stop => "stop",
            Then::Skip => "skip",
            Then::DeadLetter(_, topic) => topic,
        };
        f.debug_struct("FailurePolicy").field("attempts", &self.attempts).field("then", &then).finish_non_exhaustive()
    }
}
