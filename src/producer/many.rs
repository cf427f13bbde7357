//! Many records by one call.

use std::borrow::Borrow;
use std::fmt;

use super::append::Run;
use super::delivery::{Delivery, DeliveryError, RecordMetadata};
use super::handle::{Producer, YIELD_EVERY};
use super::record::Record;
use crate::error::Error;
use crate::net::{Yield, wall_clock_ms};

/// Why [`Producer::enqueue_all`] ended early, and what it had enqueued by then.
#[derive(Debug)]
#[non_exhaustive]
pub struct EnqueueAllError {
    /// Why the next record could not be enqueued.
    pub error: Error,
    /// The receipts of the records that were: so many from the front, in order. The next record is the one that `error` is
    /// about; it and those behind it were not enqueued.
    pub receipts: Vec<Delivery>,
}

impl fmt::Display for EnqueueAllError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of the call was not enqueued, nor any behind it: {}", self.receipts.len(), self.error)
    }
}

impl std::error::Error for EnqueueAllError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<EnqueueAllError> for Error {
    fn from(error: EnqueueAllError) -> Self {
        error.error
    }
}

impl Producer {
    /// [`enqueue`](Self::enqueue) for a slice or an iterator of records, in order; the receipts are in that order too.
    ///
    /// Cheaper than as many calls: the clock is read and a topic looked up once for a run of records.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena::Record;
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// let events = ["created", "paid", "shipped"];
    /// let records = events.iter().map(|event| Record::to("orders").key("42").value(*event));
    /// for receipt in producer.enqueue_all(records).await? {
    ///     receipt.await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`enqueue`](Self::enqueue), at the first record that has one, with the receipts of those before it.
    ///
    /// # Cancel safety
    /// Dropped early, it has enqueued some of the records from the front, and does not say how many.
    pub async fn enqueue_all<'a, R>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Delivery>, EnqueueAllError>
    where
        R: Borrow<Record<'a>>,
    {
        let records = records.into_iter();
        let mut receipts = Vec::with_capacity(records.size_hint().0.min(MOST_AT_ONCE));
        match self.append_all(records, &mut receipts).await {
            Ok(()) => Ok(receipts),
            Err(error) => Err(EnqueueAllError { error, receipts }),
        }
    }

    /// [`send`](Self::send) for a slice or an iterator of records, in order: waits until every one of them is
    /// acknowledged or failed. The results are in the records' order, one for each.
    ///
    /// The first record that cannot be enqueued ends it: that one and all behind it fail with its error, and are not
    /// written, so that order holds.
    ///
    /// # Cancel safety
    /// Dropped early, it has enqueued some of the records from the front, and those are sent.
    pub async fn send_all<'a, R>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Vec<Result<RecordMetadata, DeliveryError>>
    where
        R: Borrow<Record<'a>>,
    {
        let mut records = records.into_iter();
        let mut receipts = Vec::with_capacity(records.size_hint().0.min(MOST_AT_ONCE));
        let refused = self.append_all(&mut records, &mut receipts).await.err();
        let mut results = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            results.push(receipt.await);
        }
        if let Some(error) = refused {
            let behind = 1 + records.count();
            results.extend((0..behind).map(|_| Err(error.clone().into())));
        }
        results
    }

    async fn append_all<'a, R>(
        &self,
        records: impl Iterator<Item = R>,
        receipts: &mut Vec<Delivery>,
    ) -> Result<(), Error>
    where
        R: Borrow<Record<'a>>,
    {
        let inner = &*self.inner;
        let mut run = Run { is_many: true, ..Run::default() };
        for (n, record) in records.enumerate() {
            if n.is_multiple_of(YIELD_EVERY as usize) {
                // Others' turn, or a long slice would starve a current-thread runtime.
                if n > 0 {
                    Yield::default().await;
                }
                run.now = Some(wall_clock_ms());
            }
            let intercepted = inner.intercepted(record.borrow());
            let record = intercepted.as_deref().unwrap_or_else(|| record.borrow());
            let delivery = match inner.try_append(record, &mut run, true) {
                Ok(delivery) => delivery,
                Err(missing) => {
                    let delivery = Box::pin(inner.append_slowly(record, missing)).await?;
                    run.now = Some(wall_clock_ms());
                    delivery
                }
            };
            receipts.push(delivery);
        }
        Ok(())
    }
}

/// An iterator may promise more than there is memory for.
const MOST_AT_ONCE: usize = 1 << 16;
