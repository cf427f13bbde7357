//! The open batch of a partition: the one place that callers and a leader's task share.
//!
//! A record is encoded under a lock that is held for its bytes alone. The task hears of two edges only: the first
//! record of a batch (its linger starts), and a batch that is sealed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::account::Account;
use super::budget::{Budget, STEP, Short};
use super::compression::Compression;
use super::delivery::{Delivery, Receipts, Settle};
use super::leader::Message;
use super::mailbox::Mailbox;
use super::pool::{self, Pool};
use super::record::Record;
use crate::error::Error;
use crate::machine::accumulator::PartitionId;
use crate::machine::sequence::Batch;
use crate::net::Runtime;
use crate::record::BatchWriter;

/// What all open batches of a producer have in common.
pub(super) struct Limits {
    pub(super) batch_size: usize,
    /// What a batch may grow to while it could not leave anyway. At least `batch_size`.
    pub(super) crowded_size: usize,
    /// Batches of one partition that may be under way at once.
    pub(super) in_flight: usize,
    pub(super) max_request_size: usize,
    pub(super) delivery_timeout: Duration,
    pub(super) runtime: Runtime,
    pub(super) budget: Arc<Budget>,
    pub(super) pool: Pool,
    pub(super) compression: Option<Arc<Compression>>,
}

/// A partition as callers see it. Aligned, so that two neighbours' locks never share a cache line.
#[repr(align(128))]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) topic: Arc<str>,
    pub(super) index: i32,
    pub(super) account: Arc<Account>,
    state: Mutex<State>,
}

struct State {
    open: Option<Open>,
    /// Sealed by callers, not yet fetched by the task, in order.
    sealed: VecDeque<Batch<Settle>>,
    /// Of the newest batch: when it is settled, so is everything before it.
    last: Option<Arc<Receipts>>,
    /// The task that has this partition now; none while it has no leader.
    owner: Option<Arc<Mailbox<Message>>>,
    closed: Option<Error>,
    /// What the last batch grew to, so that the next one starts there.
    usual_size: usize,
    /// The next caller that may wait lets others run first.
    owes_yield: bool,
}

struct Open {
    writer: BatchWriter,
    settle: Settle,
    since: Instant,
    /// Full at so many bytes.
    limit: usize,
}

impl Open {
    /// Into a buffer of twice the size, at least for `bytes`; one just as large as what is reserved if that is too much.
    #[cold]
    fn grow(&mut self, limits: &Limits, bytes: usize) {
        let wanted = limits.pool.rounded(bytes.max(self.writer.room().saturating_add(1)));
        let buffer = match self.settle.try_room(wanted) {
            true => limits.pool.take(wanted),
            // A little more, or it would grow again with the next record.
            false => pool::fresh(self.settle.reserved() + BatchWriter::INITIAL_CAPACITY),
        };
        limits.pool.put(self.writer.move_to(buffer));
        self.settle.try_room(self.writer.room());
    }

    /// Gives back what the batch will not use: of `buffer_memory`, and of its buffer if too many have room to spare.
    fn trim(&mut self, limits: &Limits) {
        let size = self.writer.size();
        self.settle.shrink_reserved(size);
        if !self.settle.try_room(self.writer.room()) {
            let close = limits.pool.rounded(size);
            let buffer = if self.settle.try_room(close) { limits.pool.take(close) } else { pool::fresh(size) };
            limits.pool.put(self.writer.move_to(buffer));
            self.settle.try_room(self.writer.room());
        }
    }
}

/// What became of an attempt to append.
pub(super) enum Append {
    Done(Delivery),
    /// A good moment to let others run: nothing was done, and the next attempt will not say so.
    Yield,
    /// So many bytes of the budget are needed first; with them, the next attempt does not fail for memory.
    NoMemory(usize),
    /// The partition has its share of the budget: some of its batches must be settled first.
    NoShare,
    Refused(Error),
}

impl Partition {
    pub(super) fn new(id: PartitionId, account: Account) -> Self {
        let state = State {
            open: None,
            sealed: VecDeque::new(),
            last: None,
            owner: None,
            closed: None,
            usual_size: BatchWriter::INITIAL_CAPACITY,
            owes_yield: false,
        };
        let (topic, index) = (Arc::clone(&account.topic), account.partition);
        Self { id, topic, index, account: Arc::new(account), state: Mutex::new(state) }
    }

    /// Encodes a record into the open batch. `permit` is memory that the caller has waited for, in bytes, and whatever
    /// of it is not used stays with the batch. [`Append::Yield`] comes only if the caller `may_yield`.
    #[inline]
    pub(super) fn append(
        &self,
        limits: &Limits,
        record: &Record<'_>,
        timestamp: i64,
        permit: &mut usize,
        may_yield: bool,
    ) -> Append {
        let (key, value) = (record.key_bytes(), record.value_bytes());
        let mut locked = self.lock();
        let (state, bell) = locked.parts();
        if let Some(error) = &state.closed {
            return Append::Refused(error.clone());
        }
        // Before anything is done, so that a caller who is dropped while others run has enqueued nothing.
        if may_yield && std::mem::take(&mut state.owes_yield) {
            return Append::Yield;
        }
        loop {
            let open = match &mut state.open {
                Some(open) => open,
                None => {
                    let mut settle = Settle::new(&self.account);
                    settle.add_reserved(std::mem::take(permit));
                    let usual = [limits.crowded_size, limits.batch_size].map(|most| state.usual_size.min(most));
                    let mut usual = usual.into_iter().map(|size| limits.pool.rounded(size));
                    let room = usual.find(|room| settle.try_room(*room)).unwrap_or(BatchWriter::INITIAL_CAPACITY);
                    let writer = BatchWriter::with_buffer(limits.pool.take(room));
                    let (since, limit) = (limits.runtime.now(), limits.batch_size);
                    state.open.insert(Open { writer, settle, since, limit })
                }
            };
            open.settle.add_reserved(std::mem::take(permit));
            // A record larger than a batch goes alone.
            let is_first = open.writer.is_empty();
            let limit = if is_first { limits.max_request_size } else { open.limit };
            let within = limit.min(open.settle.reserved()).min(open.writer.room());
            match open.writer.append_within(within, timestamp, key, value, record.headers()) {
                Ok(index) => {
                    let delivery = open.settle.receipts().receipt(index);
                    if is_first {
                        state.last = Some(Arc::clone(open.settle.receipts()));
                        let since = open.since;
                        tell(state, bell, Message::First { id: self.id, since });
                    }
                    // What is as large as a batch can take no more.
                    if state.open.as_ref().is_some_and(|open| open.writer.size() >= open.limit) {
                        self.seal(state, bell, limits);
                    }
                    return Append::Done(delivery);
                }
                Err(size) => {
                    let total = open.writer.size().saturating_add(size);
                    if total > limit {
                        if is_first {
                            discard(state, limits);
                            return Append::Refused(too_large(record, size, limits.max_request_size));
                        }
                        let larger = limit.saturating_mul(2).min(limits.crowded_size);
                        if total <= larger && self.is_crowded(limits) {
                            open.limit = larger;
                            tell(state, bell, Message::Full { id: self.id });
                        } else {
                            self.seal(state, bell, limits);
                        }
                        continue;
                    }
                    // It fits the batch; the batch needs memory.
                    let missing = total.saturating_sub(open.settle.reserved());
                    if missing == 0 {
                        open.grow(limits, total);
                        continue;
                    }
                    let step = missing.max(STEP.min(limit.saturating_sub(open.settle.reserved())));
                    let reserved = open.settle.try_reserve(step).or_else(|_| open.settle.try_reserve(missing));
                    if let Err(short) = reserved {
                        // What was waited for goes back and is asked for again in one piece: callers that each hold a
                        // part and wait for the rest could wait for each other.
                        let needed = missing + open.settle.take_reserved_if(is_first);
                        if is_first {
                            discard(state, limits);
                        }
                        if short == Short::Partition {
                            // Nothing of this partition lingers while somebody waits for its memory (rule 17).
                            self.seal(state, bell, limits);
                            return Append::NoShare;
                        }
                        return Append::NoMemory(needed);
                    }
                    // Less of the buffer is more than what is reserved.
                    open.settle.try_room(open.writer.room());
                }
            }
        }
    }

    /// Seals the open batch, if there is one: for a flush. The task is told; the newest batch's receipts come back.
    pub(super) fn flush(&self, limits: &Limits) -> Option<Arc<Receipts>> {
        let mut locked = self.lock();
        let (state, bell) = locked.parts();
        self.seal(state, bell, limits);
        state.last.clone().filter(|last| !last.is_settled())
    }

    /// Nothing more comes for now: what is open need not linger. It is sealed, or takes the next run too if it could not
    /// leave before that anyway.
    pub(super) fn end_run(&self, limits: &Limits) {
        let mut locked = self.lock();
        let (state, bell) = locked.parts();
        match &state.open {
            Some(open) if open.writer.size() < limits.crowded_size - limits.batch_size && self.is_crowded(limits) => {
                tell(state, bell, Message::Full { id: self.id });
            }
            _ => self.seal(state, bell, limits),
        }
    }

    /// Everything that waits here, the open batch too, sealed and in order.
    pub(super) fn take(&self, limits: &Limits) -> impl Iterator<Item = Batch<Settle>> + use<> {
        let state = &mut *self.lock().state;
        let sealed = std::mem::take(&mut state.sealed);
        sealed.into_iter().chain(close(state, limits))
    }

    /// What callers have sealed; the open batch stays open.
    pub(super) fn take_sealed(&self) -> VecDeque<Batch<Settle>> {
        std::mem::take(&mut self.lock().state.sealed)
    }

    /// `owner` hears of edges from now on. What came before: whether an open batch has begun, and since when.
    pub(super) fn set_owner(&self, owner: Option<Arc<Mailbox<Message>>>) -> Option<Instant> {
        let state = &mut *self.lock().state;
        state.owner = owner;
        state.open.as_ref().map(|open| open.since)
    }

    /// Refuses every later append with `error`, and hands over what waits.
    pub(super) fn close(&self, limits: &Limits, error: Error) -> impl Iterator<Item = Batch<Settle>> + use<> {
        self.lock().state.closed.get_or_insert(error);
        self.account.share.close();
        self.take(limits)
    }

    /// As many batches are under way as may be: what is sealed now could not be sent yet. What goes on growing goes out in
    /// fewer, larger requests, so that distance to the leader costs no throughput. Not if a batch was too large for the
    /// topic before: this one would be split too.
    #[cold]
    fn is_crowded(&self, limits: &Limits) -> bool {
        !self.account.is_strict.load(Ordering::Relaxed) && self.account.load.batches() as usize >= limits.in_flight
    }

    fn seal(&self, state: &mut State, bell: &mut Bell, limits: &Limits) {
        if let Some(batch) = close(state, limits) {
            state.owes_yield = true;
            state.sealed.push_back(batch);
            if state.sealed.len() == 1 {
                tell(state, bell, Message::Sealed { id: self.id });
            }
        }
    }

    fn lock(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { state, bell: Bell(None) }
    }
}

/// In this order: the lock is free again before the task that was told something is woken.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    bell: Bell,
}

impl Locked<'_> {
    fn parts(&mut self) -> (&mut State, &mut Bell) {
        (&mut self.state, &mut self.bell)
    }
}

/// Of the task that was told something.
struct Bell(Option<Arc<Mailbox<Message>>>);

impl Drop for Bell {
    #[inline]
    fn drop(&mut self) {
        if let Some(owner) = &self.0 {
            owner.ring();
        }
    }
}

/// To a task that is gone it says nothing: that one has closed its partitions, or its runtime has ended and the router's guard
/// does.
fn tell(state: &State, bell: &mut Bell, message: Message) {
    if let Some(owner) = &state.owner {
        owner.put(message);
        bell.0.get_or_insert_with(|| Arc::clone(owner));
    }
}

/// Forgets an open batch that has no record.
fn discard(state: &mut State, limits: &Limits) {
    if let Some(open) = state.open.take() {
        limits.pool.put(open.writer.into_buffer());
    }
}

fn close(state: &mut State, limits: &Limits) -> Option<Batch<Settle>> {
    let mut open = state.open.take()?;
    open.trim(limits);
    let Open { writer, mut settle, since, .. } = open;
    state.usual_size = writer.size();
    settle.seal(writer.len(), writer.size());
    Some(Batch::new(writer.finish(), settle, since + limits.delivery_timeout))
}

fn too_large(record: &Record<'_>, size: usize, limit: usize) -> Error {
    Error::new(
        crate::ErrorKind::RecordTooLarge,
        format!(
            "a record for topic `{}` takes {size} bytes and its batch's header 61, which is more than max_request_size ({limit})",
            record.topic_name()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::task::{Context, Poll, Wake, Waker};

    use super::super::account::Watch;
    use super::super::budget::Share;
    use super::super::load::Load;
    use super::super::mailbox::{Inbox, mailbox};
    use super::super::metrics::Counts;
    use super::*;

    const BATCH_SIZE: usize = 1000;

    /// A leader's task that looks whether the lock is free whenever it is woken.
    struct Task {
        partition: Partition,
        woken: AtomicUsize,
        in_vain: AtomicUsize,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            let count = if self.partition.state.try_lock().is_ok() { &self.woken } else { &self.in_vain };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Rig {
        limits: Limits,
        task: Arc<Task>,
        inbox: Inbox<Message>,
    }

    impl Rig {
        fn new() -> Self {
            let runtime = Runtime::current().unwrap();
            let budget = Arc::new(Budget::new(1 << 20));
            let watch = Watch { client_id: "test".into(), interceptors: Vec::new(), counts: Counts::new("test") };
            let account = Account {
                topic: "t".into(),
                partition: 0,
                load: Load::new(&runtime),
                share: Share::new(&budget),
                is_strict: AtomicBool::new(false),
                watch: Arc::new(watch),
            };
            let limits = Limits {
                batch_size: BATCH_SIZE,
                crowded_size: 8 * BATCH_SIZE,
                in_flight: 1,
                max_request_size: 8 * BATCH_SIZE,
                delivery_timeout: Duration::from_secs(120),
                runtime,
                pool: Pool::new(&budget, 8 * BATCH_SIZE),
                budget,
                compression: None,
            };
            let (owner, inbox) = mailbox();
            let partition = Partition::new(7, account);
            assert_eq!(partition.set_owner(Some(owner)), None);
            let task = Arc::new(Task { partition, woken: AtomicUsize::new(0), in_vain: AtomicUsize::new(0) });
            let mut rig = Self { limits, task, inbox };
            assert_eq!(rig.heard(), "");
            rig
        }

        fn append(&self, bytes: usize) -> Append {
            let value = vec![0; bytes];
            self.task.partition.append(&self.limits, &Record::to("t").value(&value), 0, &mut 0, false)
        }

        /// What the task was told, and that it was woken for it once, with the lock free.
        fn heard(&mut self) -> String {
            let waker = Waker::from(Arc::clone(&self.task));
            let mut messages = Vec::new();
            let polled = self.inbox.poll_many(&mut Context::from_waker(&waker), &mut messages, 100);
            let counts = [&self.task.woken, &self.task.in_vain].map(|count| count.swap(0, Ordering::Relaxed));
            assert_eq!(counts, [usize::from(polled.is_ready()), 0]);
            if polled.is_ready() {
                // The next wake is heard too.
                assert!(matches!(
                    self.inbox.poll_many(&mut Context::from_waker(&waker), &mut messages, 1),
                    Poll::Pending
                ));
            }
            let name = |message| match message {
                Message::First { id: 7, .. } => "first ",
                Message::Full { id: 7 } => "full ",
                Message::Sealed { id: 7 } => "sealed ",
                _ => "another ",
            };
            messages.into_iter().map(name).collect()
        }
    }

    /// It asks for the lock first of all, and on another thread it would find it taken.
    #[tokio::test]
    async fn whoever_is_told_something_is_woken_when_the_lock_is_free_again() {
        let mut rig = Rig::new();
        assert!(matches!(rig.append(100), Append::Done(_)));
        assert_eq!(rig.heard(), "first ");
        assert!(matches!(rig.append(100), Append::Done(_)));
        assert_eq!(rig.heard(), "");
        // One that is full, and the next one.
        assert!(matches!(rig.append(900), Append::Done(_)));
        assert_eq!(rig.heard(), "sealed first ");
        // As many are under way as may be: it grows on.
        assert!(matches!(rig.append(900), Append::Done(_)));
        assert_eq!(rig.heard(), "full ");
        rig.task.partition.end_run(&rig.limits);
        assert_eq!(rig.heard(), "full ");
        assert_eq!(rig.task.partition.take_sealed().len(), 1);
        assert!(rig.task.partition.flush(&rig.limits).is_some());
        assert_eq!(rig.heard(), "sealed ");
        assert_eq!(rig.task.partition.take(&rig.limits).count(), 1);
        // What is as large as a batch is told of as sealed, too.
        assert!(matches!(rig.append(1000), Append::Done(_)));
        assert_eq!(rig.heard(), "first sealed ");
    }
}
