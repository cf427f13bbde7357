//! What the handle, the manager and the leader tasks of one consumer share: fetched data on its way to the caller.
//!
//! ```text
//!   leader tasks ── push ──▶ per partition: [records, records, error] ──▶ take ── handle
//!                                  '- ready: whose turn it is -'
//! ```
//! One short lock per fetched record set, none per record. What was fetched waits per partition, and partitions take
//! turns, so a full one delays nobody. An error waits behind the records that came before it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::sync::Notify;

use crate::error::{Error, TopicPartition};
use crate::machine::credit::{Credit, PartitionId};
use crate::machine::fetch::Fetched;

/// One assigned partition, as everybody sees it.
#[derive(Debug)]
pub struct Cursor {
    pub id: PartitionId,
    pub topic_partition: TopicPartition,
    /// Goes up with every seek, and when the partition is taken away: what was fetched under another is stale.
    generation: AtomicU64,
    /// The next offset to hand out; below zero while it is not known.
    position: AtomicI64,
}

impl Cursor {
    pub fn new(id: PartitionId, topic_partition: TopicPartition) -> Self {
        Self { id, topic_partition, generation: AtomicU64::new(0), position: AtomicI64::new(-1) }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub fn position(&self) -> Option<i64> {
        Some(self.position.load(Ordering::Acquire)).filter(|position| *position >= 0)
    }

    /// By the caller, for each record. Seeks cannot come between: they need the lock, or the handle.
    pub fn advance(&self, next: i64) {
        self.position.store(next, Ordering::Release);
    }

    /// Everything before is stale. Returns the new generation.
    fn renew(&self, position: Option<i64>) -> u64 {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.position.store(position.unwrap_or(-1), Ordering::Release);
        generation
    }
}

#[derive(Debug)]
struct Buffer {
    cursor: Arc<Cursor>,
    queue: VecDeque<Item>,
}

#[derive(Debug)]
enum Item {
    Fetched(Fetched),
    /// Where it goes on, after a gap.
    Position(i64),
    Error(Error),
}

/// What comes next for the caller.
#[derive(Debug)]
pub enum Taken {
    Fetched {
        cursor: Arc<Cursor>,
        generation: u64,
        fetched: Fetched,
    },
    Error(Error),
    /// Nothing yet: the waker is registered.
    Nothing,
    /// Nothing is assigned, so nothing will come.
    Unassigned,
    Closed,
}

#[derive(Debug)]
pub struct Shared(Mutex<Inbox>);

#[derive(Debug)]
pub struct Inbox {
    pub credit: Credit,
    buffers: BTreeMap<PartitionId, Buffer>,
    /// Partitions with something queued, each once.
    ready: VecDeque<PartitionId>,
    /// Errors of no partition.
    errors: VecDeque<Error>,
    /// Leaders that left out a partition for lack of credit.
    starved: Vec<Arc<Notify>>,
    waker: Option<Waker>,
    is_closed: bool,
}

/// Errors that are kept for a caller who does not look: of each partition, and of none.
const MAX_ERRORS: usize = 16;

impl Shared {
    pub fn new(credit: Credit) -> Self {
        Self(Mutex::new(Inbox {
            credit,
            buffers: BTreeMap::new(),
            ready: VecDeque::new(),
            errors: VecDeque::new(),
            starved: Vec::new(),
            waker: None,
            is_closed: false,
        }))
    }

    pub fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exactly these partitions from now on. What others have queued is dropped, and nothing more comes of them.
    pub fn assign<'a>(&self, cursors: impl Iterator<Item = &'a Arc<Cursor>>) {
        let mut inbox = self.lock();
        let mut old = std::mem::take(&mut inbox.buffers);
        for cursor in cursors {
            let kept = old.remove(&cursor.id);
            let buffer = kept.unwrap_or_else(|| Buffer { cursor: Arc::clone(cursor), queue: VecDeque::new() });
            inbox.buffers.insert(cursor.id, buffer);
        }
        for buffer in old.values() {
            buffer.cursor.renew(None);
        }
        let Inbox { buffers, ready, credit, .. } = &mut *inbox;
        ready.retain(|id| buffers.contains_key(id));
        credit.assign(buffers.keys().copied());
        inbox.feed();
    }

    /// Drops what is queued of the partition, and returns the generation of what will come.
    pub fn seek(&self, cursor: &Cursor, position: Option<i64>) -> u64 {
        let mut inbox = self.lock();
        let generation = cursor.renew(position);
        inbox.purge(cursor.id);
        inbox.feed();
        generation
    }

    /// The position was found: known at once if there was none, else when what came before is handed out.
    pub fn found(&self, id: PartitionId, generation: u64, position: i64) {
        self.deliver(|inbox| match inbox.buffers.get(&id) {
            Some(Buffer { cursor, .. }) if cursor.generation() == generation && cursor.position().is_none() => {
                cursor.advance(position);
            }
            _ => inbox.push(id, generation, Item::Position(position)),
        });
    }

    /// An error of one partition, behind the records that came before it.
    pub fn fail(&self, id: PartitionId, generation: u64, error: Error) {
        self.deliver(|inbox| inbox.push(id, generation, Item::Error(error)));
    }

    /// An error of all of the consumer.
    pub fn fail_all(&self, error: Error) {
        self.deliver(|inbox| {
            if inbox.errors.len() < MAX_ERRORS {
                inbox.errors.push_back(error);
            }
        });
    }

    /// Nothing comes any more.
    pub fn close(&self) {
        self.deliver(|inbox| inbox.is_closed = true);
    }

    /// Changes the inbox, and wakes the caller, outside of the lock, if there is something for it.
    pub fn deliver(&self, change: impl FnOnce(&mut Inbox)) {
        let mut inbox = self.lock();
        change(&mut inbox);
        let waker = if inbox.is_silent() { None } else { inbox.waker.take() };
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What is next. `done` is what the caller has finished with, and returns its credit.
    pub fn take(&self, cx: &Context<'_>, done: Option<(PartitionId, usize)>) -> Taken {
        let mut inbox = self.lock();
        if let Some((id, bytes)) = done {
            inbox.credit.give_back(id, bytes);
            inbox.feed();
        }
        inbox.take(cx)
    }
}

impl Inbox {
    /// A fetch is over: its reservation is free, and what it brought is queued, if it is still wanted.
    pub fn answer(&mut self, id: PartitionId, generation: u64, reserved: usize, fetched: Option<Fetched>) {
        self.credit.give_back(id, reserved);
        if let Some(fetched) = fetched {
            self.push(id, generation, Item::Fetched(fetched));
        }
        self.feed();
    }

    /// Notified once when credit is returned.
    pub fn starve(&mut self, leader: &Arc<Notify>) {
        if !self.starved.iter().any(|known| Arc::ptr_eq(known, leader)) {
            self.starved.push(Arc::clone(leader));
        }
    }

    fn feed(&mut self) {
        self.starved.drain(..).for_each(|leader| leader.notify_one());
    }

    fn is_silent(&self) -> bool {
        self.ready.is_empty() && self.errors.is_empty() && !self.is_closed
    }

    fn push(&mut self, id: PartitionId, generation: u64, item: Item) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        if buffer.cursor.generation() != generation {
            return;
        }
        match &item {
            Item::Fetched(fetched) => self.credit.take(id, fetched.bytes),
            Item::Error(_)
                if buffer.queue.iter().filter(|item| matches!(item, Item::Error(_))).count() >= MAX_ERRORS =>
            {
                return;
            }
            Item::Error(_) | Item::Position(_) => {}
        }
        if buffer.queue.is_empty() {
            self.ready.push_back(id);
        }
        buffer.queue.push_back(item);
    }

    fn purge(&mut self, id: PartitionId) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        for item in buffer.queue.drain(..) {
            if let Item::Fetched(fetched) = item {
                self.credit.give_back(id, fetched.bytes);
            }
        }
        self.ready.retain(|ready| *ready != id);
    }

    fn take(&mut self, cx: &Context<'_>) -> Taken {
        if let Some(error) = self.errors.pop_front() {
            return Taken::Error(error);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(buffer) = self.buffers.get_mut(&id) else { continue };
            let Some(item) = buffer.queue.pop_front() else { continue };
            if !buffer.queue.is_empty() {
                self.ready.push_back(id);
            }
            match item {
                Item::Error(error) => return Taken::Error(error),
                Item::Position(position) => buffer.cursor.advance(position),
                Item::Fetched(fetched) => {
                    let cursor = Arc::clone(&buffer.cursor);
                    return Taken::Fetched { generation: cursor.generation(), cursor, fetched };
                }
            }
        }
        if self.is_closed {
            return Taken::Closed;
        }
        if self.buffers.is_empty() {
            return Taken::Unassigned;
        }
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Taken::Nothing
    }
}
