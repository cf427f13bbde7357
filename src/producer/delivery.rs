//! Receipts: how a caller learns what became of a record.
//!
//! A receipt is (shared batch, index): one reference count a record, and one wake-up a batch for each task that waits.
//! The shared part holds the outcome and wakers only. The payload is gone when the batch is settled, so receipts that
//! are kept pin nothing.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::account::{Account, shielded};
use super::budget::Short;
use super::trace::BatchSpan;
use crate::error::{Error, TopicPartition};
use crate::machine::sequence::{self, Placed};

/// Where a record went.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition's log. `None` when the broker does not say: with acks=0, and for a record whose
    /// first acknowledgement was lost so long ago that the broker only remembers having it.
    pub offset: Option<i64>,
    /// When the broker appended it, in milliseconds since 1970, for topics that stamp records themselves.
    pub log_append_time: Option<i64>,
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)?;
        match self.offset {
            Some(offset) => write!(f, "@{offset}"),
            None => write!(f, "@?"),
        }
    }
}

/// What is known of a record that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is not in the log and never will be: sending it again makes no duplicate.
    NotWritten,
    /// It may be in the log: its bytes reached, or may have reached, a broker that did not answer.
    Unknown,
}

/// Why a record was not acknowledged, and whether it may be in the log all the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeliveryError {
    /// What went wrong.
    pub error: Error,
    /// Whether the record may be in the log.
    pub fate: Fate,
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fate {
            Fate::NotWritten => write!(f, "not written: {}", self.error),
            Fate::Unknown => write!(f, "not acknowledged, may be written: {}", self.error),
        }
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<DeliveryError> for Error {
    fn from(error: DeliveryError) -> Self {
        error.error
    }
}

/// A record that never was enqueued.
impl From<Error> for DeliveryError {
    fn from(error: Error) -> Self {
        Self { error, fate: Fate::NotWritten }
    }
}

/// The receipt of one record: resolves when the record is acknowledged, or when it is certain that it will not be.
///
/// It always resolves, exactly once: within the producer's `delivery_timeout` plus one request timeout, or when the
/// producer is closed. Who does not care drops it: that drops the receipt, never the record. Keeping it costs one reference count.
///
/// # Cancel safety
/// It may be polled, dropped and kept at will, on any runtime.
pub struct Delivery {
    receipts: Arc<Receipts>,
    index: u32,
    /// Where its waker is, or [`NO_WAKER`]. Callers keep millions of receipts: this is 16 bytes, with an option it were 32.
    waker: u32,
}

const NO_WAKER: u32 = u32::MAX;

impl Delivery {
    /// The partition that the record went to.
    pub fn topic_partition(&self) -> TopicPartition {
        let account = &self.receipts.account;
        TopicPartition { topic: Arc::clone(&account.topic), partition: account.partition }
    }
}

impl Delivery {
    /// Gives the outcome to `callback` instead: for who has no task to wait in. (Java: `send(record, callback)`;
    /// librdkafka: the delivery report.)
    ///
    /// It is called once: on a task of the client, in the order of the partition's records, or here and now if the outcome is
    /// known already. It runs under no lock, so it may use the producer; it holds back what that task does next, so it must
    /// not block. A panic on the client's task is caught there. Costs the box of the closure, if that captures anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena::Record;
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 1);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # let producer = client.producer().build()?;
    /// let (done, waiting) = std::sync::mpsc::channel();
    /// producer.enqueue(Record::to("orders").value("created")).await?.on_delivery(move |result| {
    ///     let _ = done.send(result);
    /// });
    /// producer.flush().await;
    /// assert_eq!(waiting.recv()??.offset, Some(0));
    /// # Ok(()) }
    /// ```
    pub fn on_delivery(self, callback: impl FnOnce(Result<RecordMetadata, DeliveryError>) + Send + 'static) {
        {
            let mut listeners = self.receipts.listeners();
            // Settling sets the outcome first and then takes this lock, so one of the two sees the other.
            if self.receipts.outcome.get().is_none() {
                listeners.callbacks.push((self.index, Box::new(callback)));
                return;
            }
        }
        if let Some(result) = self.receipts.result(self.index) {
            callback(result);
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What nearly every poll finds, in the caller's code, so that the result is made where it is used.
        let Self { receipts, index, waker } = &mut *self;
        if let Some(Outcome::All(Ok(placed))) = receipts.outcome.get() {
            *waker = NO_WAKER;
            return Poll::Ready(Ok(receipts.metadata(*placed, *index)));
        }
        self.poll_slowly(cx)
    }
}

impl Delivery {
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecordMetadata, DeliveryError>> {
        if let Some(result) = self.receipts.result(self.index) {
            self.waker = NO_WAKER;
            return Poll::Ready(result);
        }
        let Self { receipts, waker, index } = self;
        let wakers = &mut receipts.listeners().wakers;
        // Settling sets the outcome first and then takes this lock, so one of the two sees the other.
        if let Some(result) = receipts.result(*index) {
            *waker = NO_WAKER;
            return Poll::Ready(result);
        }
        match wakers.get_mut(*waker as usize).filter(|_| *waker != NO_WAKER) {
            Some(registered) => registered.clone_from(cx.waker()),
            // Fewer than records.
            None => *waker = u32::try_from(wakers.insert(cx.waker().clone())).unwrap_or(NO_WAKER),
        }
        Poll::Pending
    }

    #[cold]
    fn forget_waker(&self) {
        self.receipts.listeners().wakers.try_remove(self.waker as usize);
    }
}

impl Drop for Delivery {
    #[inline]
    fn drop(&mut self) {
        if self.waker != NO_WAKER {
            self.forget_waker();
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Delivery").field(&self.topic_partition()).finish()
    }
}

/// What all receipts of one batch share.
pub(super) struct Receipts {
    account: Arc<Account>,
    /// How many records there are, once it is sealed.
    records: OnceLock<u32>,
    outcome: OnceLock<Outcome>,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    wakers: Slab<Waker>,
    /// By index, ascending unless several threads registered them.
    callbacks: Vec<(u32, Callback)>,
    span: BatchSpan,
}

type Callback = Box<dyn FnOnce(Result<RecordMetadata, DeliveryError>) + Send>;

enum Outcome {
    All(Result<Placed, DeliveryError>),
    /// Of a batch that was split.
    Parts(Parts),
}

/// Results from an index on, ascending.
type Parts = Vec<(u32, Result<Placed, DeliveryError>)>;

impl Outcome {
    /// How many of so many records were acknowledged.
    fn acknowledged(&self, records: u32) -> u32 {
        let of = |result: &Result<_, _>, count| if result.is_ok() { count } else { 0 };
        match self {
            Self::All(result) => of(result, records),
            Self::Parts(parts) => {
                let ends = parts.iter().skip(1).map(|(first, _)| *first).chain([records]);
                parts.iter().zip(ends).map(|((first, result), end)| of(result, end.saturating_sub(*first))).sum()
            }
        }
    }

    /// The result that an index belongs to, and the first index of those.
    fn of(&self, index: u32) -> Option<(u32, &Result<Placed, DeliveryError>)> {
        match self {
            Self::All(result) => Some((0, result)),
            Self::Parts(parts) => {
                let part = parts.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
                parts.get(part).map(|(first, result)| (*first, result))
            }
        }
    }
}

impl Receipts {
    fn result(&self, index: u32) -> Option<Result<RecordMetadata, DeliveryError>> {
        let (first, result) = self.outcome.get()?.of(index)?;
        Some(result.clone().map(|placed| self.metadata(placed, index - first)))
    }

    /// Of a record so many behind the first of those that were placed there.
    #[inline]
    fn metadata(&self, placed: Placed, nth: u32) -> RecordMetadata {
        RecordMetadata {
            topic: Arc::clone(&self.account.topic),
            partition: self.account.partition,
            offset: placed.base_offset.and_then(|base| base.checked_add(i64::from(nth))),
            log_append_time: placed.log_append_time,
        }
    }

    fn listeners(&self) -> std::sync::MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody, once: the interceptors, the callbacks, and the tasks that wait.
    fn settle(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_err() {
            return;
        }
        // Whoever comes from here on finds the outcome. What is told runs outside the lock: it may run anything (rule 24).
        let Listeners { wakers, mut callbacks, span } = std::mem::take(&mut *self.listeners());
        let Some(outcome) = self.outcome.get() else { return };
        span.end(outcome.of(0).map(|(_, result)| result));
        if let Some(records) = self.records.get() {
            self.account.load.remove();
            let acknowledged = outcome.acknowledged(*records);
            self.account.watch.counts.settled(acknowledged.into(), records.saturating_sub(acknowledged).into());
            if !self.account.watch.interceptors.is_empty() {
                (0..*records)
                    .filter_map(|index| self.result(index))
                    .for_each(|result| self.account.watch.tell(&result));
            }
        }
        if !callbacks.is_empty() {
            callbacks.sort_by_key(|(index, _)| *index);
            for (index, callback) in callbacks {
                if let Some(result) = self.result(index) {
                    shielded(|| callback(result));
                }
            }
        }
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// A receipt, of no record in particular when only the batch's end matters.
    #[inline]
    pub(super) fn receipt(self: &Arc<Self>, index: u32) -> Delivery {
        Delivery { receipts: Arc::clone(self), index, waker: NO_WAKER }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.outcome.get().is_some()
    }
}

/// The one right to settle a batch, or a part of one. Dropped unused (the runtime is gone), it says that nothing is
/// known.
pub(super) struct Settle {
    receipts: Arc<Receipts>,
    /// The batch still holds its memory, and somebody else tells, or has told, its receipts.
    is_told: bool,
    /// Set for a part of a batch that was split.
    part: Option<Part>,
    /// Bytes of `buffer_memory` that the batch holds.
    reserved: usize,
    /// Bytes that its buffer has beyond them.
    slack: usize,
}

/// The records of a split batch from `first` on. The last part that ends tells all of its receipts.
struct Part {
    first: u32,
    ended: Arc<Mutex<Ended>>,
}

struct Ended {
    open: usize,
    outcome: Parts,
}

impl Settle {
    pub(super) fn new(account: &Arc<Account>) -> Self {
        let (records, outcome, listeners) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        let receipts = Receipts { account: Arc::clone(account), records, outcome, listeners };
        Self { receipts: Arc::new(receipts), is_told: false, part: None, reserved: 0, slack: 0 }
    }

    #[inline]
    pub(super) fn receipts(&self) -> &Arc<Receipts> {
        &self.receipts
    }

    #[inline]
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Takes so many bytes more of the budget, if there are.
    pub(super) fn try_reserve(&mut self, bytes: usize) -> Result<(), Short> {
        self.receipts.account.share.try_reserve(bytes, self.reserved)?;
        self.reserved += bytes;
        Ok(())
    }

    /// The batch holds so many bytes more, already taken from the budget.
    pub(super) fn add_reserved(&mut self, bytes: usize) {
        if bytes > 0 {
            self.receipts.account.share.add(bytes);
            self.reserved += bytes;
        }
    }

    /// Gives back what a sealed batch will not use.
    pub(super) fn shrink_reserved(&mut self, bytes: usize) {
        self.receipts.account.share.release(self.reserved.saturating_sub(bytes));
        self.reserved = self.reserved.min(bytes);
    }

    /// The batch's buffer has room for so many bytes. `false`: that is too much beyond what is reserved.
    pub(super) fn try_room(&mut self, room: usize) -> bool {
        let slack = room.saturating_sub(self.reserved);
        let can = slack == self.slack || self.receipts.account.share.try_slack(self.slack, slack);
        if can {
            self.slack = slack;
        }
        can
    }

    /// The batch takes no more than its `records`, has so many `bytes`, and counts as waiting until it is settled.
    pub(super) fn seal(&mut self, records: usize, bytes: usize) {
        if self.receipts.records.set(records as u32).is_ok() {
            self.receipts.account.load.add();
            self.receipts.account.watch.counts.sealed(records, bytes);
            self.receipts.listeners().span = BatchSpan::begin(&self.receipts.account, records, bytes);
        }
    }

    /// Gives back all of it, if `all`, and says how much that was.
    pub(super) fn take_reserved_if(&mut self, all: bool) -> usize {
        let taken = if all { std::mem::take(&mut self.reserved) } else { 0 };
        self.receipts.account.share.release(taken);
        taken
    }

    /// Tells every receipt, and gives the memory back.
    pub(super) fn settle(mut self, result: Result<Placed, DeliveryError>) {
        self.set(result);
    }

    fn set(&mut self, result: Result<Placed, DeliveryError>) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let outcome = match self.part.take() {
            None => Outcome::All(result),
            Some(Part { first, ended }) => {
                let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                let at = ended.outcome.partition_point(|(other, _)| *other < first);
                ended.outcome.insert(at, (first, result));
                ended.open -= 1;
                if ended.open > 0 {
                    return;
                }
                Outcome::Parts(std::mem::take(&mut ended.outcome))
            }
        };
        self.receipts.settle(outcome);
    }
}

impl sequence::Receipts for Settle {
    fn split_off(&mut self, index: usize) -> Self {
        self.receipts.account.is_strict.store(true, Ordering::Relaxed);
        let part = self.part.get_or_insert_with(|| {
            let ended = Ended { open: 1, outcome: Vec::new() };
            Part { first: 0, ended: Arc::new(Mutex::new(ended)) }
        });
        part.ended.lock().unwrap_or_else(PoisonError::into_inner).open += 1;
        // A batch has less than 2³¹ records.
        let first = part.first + index as u32;
        let part = Part { first, ended: Arc::clone(&part.ended) };
        let half = self.reserved / 2;
        self.reserved -= half;
        let receipts = Arc::clone(&self.receipts);
        Self { receipts, is_told: self.is_told, part: Some(part), reserved: half, slack: 0 }
    }

    fn take(&mut self) -> Self {
        let is_told = std::mem::replace(&mut self.is_told, true);
        let receipts = Arc::clone(&self.receipts);
        Self { receipts, is_told, part: self.part.take(), reserved: 0, slack: 0 }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        // Settled, as nearly always: then the error is not even made.
        if !self.is_told {
            self.set(Err(DeliveryError { error: Error::closed("producer"), fate: Fate::Unknown }));
        }
        self.receipts.account.share.release(self.reserved);
        self.receipts.account.share.try_slack(self.slack, 0);
    }
}
