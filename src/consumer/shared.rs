//! What the handles, the manager and the leader tasks of one consumer share: its assignment, and fetched data on its way
//! to the caller.
//!
//! ```text
//!   leader tasks ── push ──▶ per partition: [records, records, error] ──▶ take ── caller
//!                                  '- ready: whose turn it is -'
//! ```
//! One short lock per fetched record set, none per record. What was fetched waits per partition, and partitions take
//! turns, so a full one delays nobody. An error waits behind the records that came before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::thread::ThreadId;

use tokio::sync::{Notify, mpsc};

mod split;

pub use split::Offered;
use split::Split;

use super::commit::OffsetAndMetadata;
use super::current::Current;
use super::cursor::Cursor;
use super::hands::{Caller, Calls, Hands};
use super::manager::{Assigned, Command};
use super::metrics::{ConsumerMetrics, LagGauge, PartitionMetrics};
use super::unpack::{Ahead, Unpacker};
use super::watch::Watch;
use crate::error::{Error, TopicPartition};
use crate::machine::credit::{Credit, PartitionId};
use crate::machine::fetch::{Fetched, Marks};
use crate::machine::offsets::Start;

#[derive(Debug)]
struct Buffer {
    cursor: Arc<Cursor>,
    queue: VecDeque<Item>,
    /// By the caller.
    is_paused: bool,
    /// Nothing is handed out or fetched: it is paused, at its end, or being revoked.
    is_held: bool,
    /// It is another member's soon.
    is_revoking: bool,
    /// Where it begins, while a rebalance listener has yet to return: until then the manager does not know of it.
    staged: Option<Start>,
    marks: Option<Marks>,
    gauge: LagGauge,
    /// Of the stream that it goes to.
    waker: Option<Waker>,
    /// Its stream was dropped when it had come to its end.
    is_left: bool,
}

#[derive(Debug)]
enum Item {
    /// With its first batch, if that is being opened already.
    Fetched(Fetched, Option<Ahead>),
    /// What the caller was reading when the partition was paused.
    Current(Box<Current>),
    /// Where it goes on, after a gap.
    Position(i64),
    Error(Error),
}

/// What comes next for the caller.
#[derive(Debug)]
pub enum Taken {
    Current(Box<Current>),
    Error(Error),
    /// Nothing yet: the waker is registered.
    Nothing,
    /// Nothing is assigned, so nothing will come.
    Unassigned,
    /// Everything was read up to where it should.
    Ended,
    Closed,
}

#[derive(Debug)]
pub struct Shared {
    inbox: Mutex<Inbox>,
    calls: Calls,
}

#[derive(Debug)]
pub struct Inbox {
    credit: Credit,
    unpacker: Arc<Unpacker>,
    watch: Arc<Watch>,
    assigned: BTreeMap<TopicPartition, PartitionId>,
    buffers: BTreeMap<PartitionId, Buffer>,
    next_id: PartitionId,
    /// Partitions with something queued, each once; but for those that are paused.
    ready: VecDeque<PartitionId>,
    /// Errors of no partition.
    errors: VecDeque<Error>,
    /// Leaders that left out a partition for lack of credit.
    starved: Vec<Arc<Notify>>,
    /// Leaders that let the caller go first.
    standing_back: Vec<Arc<Notify>>,
    /// Where the caller was when it asked for more, since the last of them stood back.
    came_back: Option<ThreadId>,
    waker: Option<Waker>,
    is_closed: bool,
    /// Partitions come from the group: none is no error.
    pub is_subscribed: bool,
    pub hands: Hands,
    /// Partitions have streams of their own.
    split: Option<Split>,
    /// Until the consumer is dropped. Under the same lock as what it tells of, so that both have one order.
    commands: Option<mpsc::UnboundedSender<Command>>,
}

/// Errors that are kept for a caller who does not look: of each partition, and of none.
const MAX_ERRORS: usize = 16;

impl Shared {
    pub fn new(credit: Credit, unpacker: Arc<Unpacker>, watch: Arc<Watch>) -> Self {
        let inbox = Inbox {
            credit,
            unpacker,
            watch,
            assigned: BTreeMap::new(),
            buffers: BTreeMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            errors: VecDeque::new(),
            starved: Vec::new(),
            standing_back: Vec::new(),
            came_back: None,
            waker: None,
            is_closed: false,
            is_subscribed: false,
            hands: Hands::default(),
            split: None,
            commands: None,
        };
        Self { inbox: Mutex::new(inbox), calls: Calls::default() }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The position was found: known at once if there was none, else when what came before is handed out.
    pub fn found(&self, id: PartitionId, generation: u64, position: i64) {
        self.deliver(|inbox| match inbox.buffers.get(&id) {
            Some(Buffer { cursor, .. }) if cursor.generation == generation && cursor.position().is_none() => {
                cursor.advance(position);
                cursor.settle();
                inbox.hold(id);
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
        self.deliver(|inbox| {
            inbox.is_closed = true;
            inbox.commands = None;
            inbox.wake_streams();
        });
    }

    /// Changes the inbox, and wakes the caller and streams, outside of the lock, if there is something for them.
    pub fn deliver<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        self.deliver_before(None, change).0
    }

    /// The same; and whether the caller was woken before whom a leader stands back: it is notified when they ask for more. For
    /// one of several streams it does not: the others would wait for that one.
    pub fn deliver_before<T>(&self, leader: Option<&Arc<Notify>>, change: impl FnOnce(&mut Inbox) -> T) -> (T, bool) {
        let mut inbox = self.lock();
        let outcome = change(&mut inbox);
        let waker = if inbox.is_silent() { None } else { inbox.waker.take() };
        let woken = inbox.woken();
        let leader = leader.filter(|_| waker.is_some() && inbox.split.is_none());
        if let Some(leader) = leader {
            inbox.standing_back.push(Arc::clone(leader));
            inbox.came_back = None;
        }
        drop(inbox);
        waker.into_iter().chain(woken).for_each(Waker::wake);
        (outcome, leader.is_some())
    }

    /// The caller asks for more, and a rebalance waits for that.
    #[cold]
    pub fn come_back(&self) {
        self.deliver(|inbox| {
            self.calls.answer();
            inbox.hands.come_back();
            inbox.hold_for_revocation();
        });
    }

    /// The caller has stopped waiting.
    #[cold]
    pub fn step_away(&self) {
        self.lock().hands.step_away();
    }

    /// For the group's task: these are to be given back, as soon as the caller has dealt with what it has in hand.
    pub fn call_back(&self, ids: BTreeSet<PartitionId>) {
        self.deliver(|inbox| {
            if inbox.hands.call_back(ids) {
                inbox.hold_for_revocation();
            } else {
                self.calls.call();
            }
        });
    }

    /// What is next, after what the caller has done with.
    pub fn take(&self, cx: &Context<'_>, done: Option<Box<Current>>) -> Taken {
        let mut inbox = self.lock();
        if let Some(current) = done {
            inbox.put_back(current);
        }
        inbox.take(cx)
    }
}

impl Buffer {
    /// How far the position is behind the end of the log.
    fn lag(&self) -> Option<i64> {
        Some(self.marks?.end.saturating_sub(self.cursor.position()?).max(0))
    }

    fn show_lag(&self) {
        if let Some(lag) = self.lag() {
            self.gauge.set(lag);
        }
    }

    /// What is next in the queue is opened while the caller is busy with something else.
    fn look_ahead(&mut self, unpacker: &Arc<Unpacker>) {
        if let Some(Item::Fetched(fetched, ahead @ None)) = self.queue.front_mut() {
            *ahead = fetched.batches.front().and_then(|batch| unpacker.ahead(batch));
        }
    }
}

impl Inbox {
    /// For the manager, if there is one still.
    pub fn tell(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The manager goes first only with its runtime, which the caller then hears of.
            let _ = commands.send(command);
        }
    }

    pub fn attend(&mut self, commands: mpsc::UnboundedSender<Command>) {
        self.commands = Some(commands);
    }

    /// The consumer is gone: its manager goes when nobody can tell it anything.
    /// Returns what was assigned.
    pub fn leave(&mut self) -> Vec<TopicPartition> {
        self.commands = None;
        self.is_closed = true;
        self.buffers.values().for_each(|buffer| buffer.cursor.retire());
        self.wake_streams();
        self.buffers.clear();
        std::mem::take(&mut self.assigned).into_keys().collect()
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assigned.keys()
    }

    pub fn cursors(&self) -> impl Iterator<Item = &Arc<Cursor>> {
        self.buffers.values().map(|buffer| &buffer.cursor)
    }

    pub fn cursor(&self, tp: &TopicPartition) -> Option<&Arc<Cursor>> {
        Some(&self.buffers.get(self.assigned.get(tp)?)?.cursor)
    }

    /// How far the position is behind the end of the log.
    pub fn lag(&self, tp: &TopicPartition) -> Option<i64> {
        self.buffers.get(self.assigned.get(tp)?)?.lag()
    }

    pub fn metrics(&self) -> ConsumerMetrics {
        let decompressed = self.unpacker.decompressed();
        let used = |id| self.credit.used_by(id) as u64;
        let partitions = self.assigned.iter().filter_map(|(tp, id)| {
            let buffer = self.buffers.get(id)?;
            let (position, lag, buffer_used) = (buffer.cursor.position(), buffer.lag(), used(*id));
            Some((tp.clone(), PartitionMetrics { position, lag, buffer_used }))
        });
        ConsumerMetrics {
            buffer_used: (self.credit.used() + decompressed) as u64,
            decompressed: decompressed as u64,
            buffer_total: self.credit.total() as u64,
            partitions: partitions.collect(),
            ..self.watch.counts.snapshot()
        }
    }

    pub fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        let paused = self.buffers.values().filter(|buffer| buffer.is_paused);
        paused.map(|buffer| &buffer.cursor.topic_partition)
    }

    /// A new partition; it is not assigned yet. [`Self::reassigned`] follows.
    pub fn add(&mut self, tp: TopicPartition) -> Arc<Cursor> {
        let cursor = Arc::new(Cursor::new(self.next_id, tp.clone()));
        self.next_id += 1;
        self.assigned.insert(tp, cursor.id);
        let gauge = LagGauge::new(&self.watch.client_id, &cursor.topic_partition);
        let buffer = Buffer {
            cursor: Arc::clone(&cursor),
            queue: VecDeque::new(),
            is_paused: false,
            is_held: false,
            is_revoking: false,
            staged: None,
            marks: None,
            gauge,
            waker: None,
            is_left: false,
        };
        self.buffers.insert(cursor.id, buffer);
        self.track(&cursor);
        self.offer(cursor.id);
        cursor
    }

    /// Drops what is queued of the partition; nothing more comes of it.
    pub fn remove(&mut self, tp: &TopicPartition) -> Option<PartitionId> {
        let id = self.assigned.remove(tp)?;
        self.wake_stream(id);
        self.withdraw(id);
        if let Some(buffer) = self.buffers.remove(&id) {
            buffer.cursor.retire();
            // It is nobody's lag any more.
            buffer.gauge.set(0);
        }
        Some(id)
    }

    /// After [`Self::add`] and [`Self::remove`]: shares the credit anew.
    pub fn reassigned(&mut self) {
        let Self { buffers, ready, credit, .. } = self;
        ready.retain(|id| buffers.contains_key(id));
        credit.assign(buffers.keys().copied());
        self.feed();
    }

    /// Drops what is queued of the partition, and returns the cursor of what will come.
    pub fn renew(&mut self, id: PartitionId, position: Option<i64>) -> Option<Arc<Cursor>> {
        let cursor = self.buffers.get(&id)?.cursor.renew(position);
        self.track(&cursor);
        self.succeed(id, cursor)
    }

    /// The same, at a position that it has come to: what workers still have of what was before that counts.
    pub fn resume(&mut self, id: PartitionId, position: i64) -> Option<Arc<Cursor>> {
        let cursor = self.buffers.get(&id)?.cursor.resume(position);
        self.succeed(id, cursor)
    }

    fn succeed(&mut self, id: PartitionId, cursor: Arc<Cursor>) -> Option<Arc<Cursor>> {
        self.buffers.get_mut(&id)?.cursor = Arc::clone(&cursor);
        self.purge(id);
        self.hold(id);
        self.feed();
        Some(cursor)
    }

    pub fn pause(&mut self, id: PartitionId, is_paused: bool) {
        if let Some(buffer) = self.buffers.get_mut(&id) {
            buffer.is_paused = is_paused;
            self.hold(id);
        }
    }

    /// Keeps a new partition from the manager until it is [released](Self::release).
    pub fn stage(&mut self, id: PartitionId, start: Start) {
        if let Some(buffer) = self.buffers.get_mut(&id) {
            buffer.staged = Some(start);
        }
    }

    /// Lets the manager know of a new partition, which begins where it should by now.
    pub fn release(&mut self, id: PartitionId) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        let Some(start) = buffer.staged.take() else { return };
        let (topic_partition, generation) = (buffer.cursor.topic_partition.clone(), buffer.cursor.generation);
        let is_held = buffer.is_held;
        let added = vec![Assigned { id, topic_partition, generation, start }];
        self.tell(Command::Assign { added, removed: Vec::new() });
        if is_held {
            self.tell(Command::Pause { id, is_paused: true });
        }
    }

    /// The caller goes on there.
    pub fn seek(&mut self, cursor: &Cursor, start: Start) {
        match self.buffers.get_mut(&cursor.id).and_then(|buffer| buffer.staged.as_mut()) {
            Some(staged) => *staged = start,
            None => self.tell(Command::Seek { id: cursor.id, generation: cursor.generation, start }),
        }
    }

    /// Nothing more of these is handed out, though they are assigned still.
    pub fn hold_for_revocation(&mut self) {
        for id in self.hands.revoking() {
            if let Some(buffer) = self.buffers.get_mut(&id) {
                buffer.is_revoking = true;
                match self.split {
                    None => buffer.cursor.track().close(),
                    // What was handed over is begun: nothing waits behind it.
                    Some(_) => buffer.cursor.track().lock().shut(),
                }
                self.hold(id);
                self.wake_stream(id);
            }
        }
    }

    /// Whether what is to be given back can be taken: neither the caller nor a worker is at it.
    pub fn are_hands_free(&self) -> bool {
        let is_busy = |id| self.buffers.get(&id).is_some_and(|buffer| buffer.cursor.is_busy());
        self.hands.are_free() && !self.hands.revoking().into_iter().any(is_busy)
    }

    /// From here on workers say what is dealt with; the caller comes for more, and has dealt with what it had.
    pub fn begin_work(&mut self) {
        self.hands.work(true);
        let cursors: Vec<_> = self.cursors().map(Arc::clone).collect();
        cursors.iter().for_each(|cursor| self.track(cursor));
        self.hands.put_down();
        self.hold_for_revocation();
    }

    fn track(&self, cursor: &Cursor) {
        if self.hands.is_working() {
            cursor.begin_work(self.hands.bell());
        }
    }

    /// Workers finish what they have begun, and what lies before it.
    pub fn close_work(&self) {
        self.cursors().for_each(|cursor| cursor.track().close());
    }

    /// Workers are gone, or begin nothing any more: what is left comes again.
    pub fn end_work(&mut self) {
        self.hands.work(false);
        let cursors: Vec<_> = self.cursors().map(Arc::clone).collect();
        for cursor in cursors {
            if let Some((position, epoch)) = cursor.end_work()
                && let Some(new) = self.renew(cursor.id, Some(position))
            {
                new.settle_epoch(epoch);
                self.seek(&new, Start::At(position));
            }
        }
        self.hands.put_down();
    }

    /// What the caller has dealt with, of every partition that it has begun with.
    pub fn settled(&self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        let cursors = self.buffers.values().map(|buffer| &buffer.cursor);
        cursors.filter_map(|cursor| Some((cursor.topic_partition.clone(), cursor.settled()?))).collect()
    }

    /// The caller has nothing in hand any more, whatever it was.
    pub fn settle(&mut self) {
        // But for workers, who say themselves.
        self.cursors().filter(|cursor| !cursor.is_tracked()).for_each(|cursor| cursor.settle());
        self.hands.put_down();
    }

    /// Where reading ends.
    pub fn set_end(&mut self, id: PartitionId, end: Option<i64>) {
        if let Some(buffer) = self.buffers.get_mut(&id) {
            buffer.cursor.set_end(end);
            self.hold(id);
            self.go_on(id);
        }
    }

    /// A fetch is over: its reservation is free, and what it brought is queued, if it is still wanted.
    pub fn answer(
        &mut self,
        id: PartitionId,
        generation: u64,
        reserved: usize,
        fetched: Option<Fetched>,
        marks: Option<Marks>,
    ) {
        self.credit.give_back(id, reserved);
        if let (Some(buffer), Some(marks)) = (self.buffers.get_mut(&id), marks) {
            buffer.marks = Some(marks);
            buffer.show_lag();
        }
        if let Some(fetched) = fetched {
            self.push(id, generation, Item::Fetched(fetched, None));
        }
        self.feed();
    }

    /// The credit as it is now: what is decompressed is no longer there for fetching.
    pub fn credit(&mut self) -> &mut Credit {
        self.credit.set_aside(self.unpacker.set_aside());
        &mut self.credit
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

    /// The caller asks for more, and leaders that let it go first may fetch.
    fn let_go_on(&mut self) {
        if !self.standing_back.is_empty() {
            self.came_back = Some(std::thread::current().id());
            self.standing_back.drain(..).for_each(|leader| leader.notify_one());
        }
    }

    /// The fetch of a leader goes out. Where the caller was when it asked for more, if it did.
    pub fn go_ahead(&mut self, leader: &Arc<Notify>) -> Option<ThreadId> {
        self.standing_back.retain(|known| !Arc::ptr_eq(known, leader));
        self.came_back
    }

    fn is_silent(&self) -> bool {
        self.ready.is_empty() && !self.has_offer() && self.errors.is_empty() && !self.is_closed && !self.has_ended()
    }

    fn has_ended(&self) -> bool {
        !self.buffers.is_empty() && self.buffers.values().all(|buffer| buffer.cursor.is_at_end())
    }

    /// Whether anything of the partition may be handed out and fetched, now that this may have changed.
    fn hold(&mut self, id: PartitionId) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        let is_held = buffer.is_paused || buffer.is_revoking || buffer.cursor.is_at_end();
        if std::mem::replace(&mut buffer.is_held, is_held) == is_held {
            return;
        }
        buffer.cursor.hold(is_held);
        let is_queued = !buffer.queue.is_empty();
        self.ready.retain(|ready| *ready != id);
        if !is_held && is_queued {
            self.make_ready(id);
        }
        // Its stream may have come to its end.
        self.wake_stream(id);
        self.tell(Command::Pause { id, is_paused: is_held });
    }

    fn push(&mut self, id: PartitionId, generation: u64, item: Item) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        if buffer.cursor.generation != generation {
            return;
        }
        match &item {
            Item::Fetched(fetched, _) => self.credit.take(id, fetched.bytes),
            Item::Error(_)
                if buffer.queue.iter().filter(|item| matches!(item, Item::Error(_))).count() >= MAX_ERRORS =>
            {
                return;
            }
            Item::Error(_) | Item::Position(_) | Item::Current(_) => {}
        }
        let is_news = buffer.queue.is_empty() && !buffer.is_held;
        buffer.queue.push_back(item);
        buffer.look_ahead(&self.unpacker);
        if is_news {
            self.make_ready(id);
        }
    }

    fn purge(&mut self, id: PartitionId) {
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        for item in buffer.queue.drain(..) {
            match item {
                Item::Fetched(fetched, _) => self.credit.give_back(id, fetched.bytes),
                Item::Current(current) => self.credit.give_back(id, current.bytes()),
                Item::Position(_) | Item::Error(_) => {}
            }
        }
        self.ready.retain(|ready| *ready != id);
    }

    /// What the caller is done with, or may not go on with: paused, or at its end.
    fn put_back(&mut self, current: Box<Current>) {
        let (id, bytes) = (current.cursor().id, current.bytes());
        // Whoever asks for more has nothing in hand.
        current.cursor().settle();
        self.let_go_on();
        if let Some(buffer) = self.buffers.get(&id) {
            buffer.show_lag();
        }
        let is_kept = !current.is_done() && !current.cursor().is_stale();
        match self.buffers.get_mut(&id).filter(|_| is_kept) {
            Some(buffer) => {
                let was_queued = !buffer.queue.is_empty();
                buffer.queue.push_front(Item::Current(current));
                if !was_queued && !buffer.is_held {
                    // Paused for a moment, and resumed.
                    self.make_ready(id);
                }
                self.hold(id);
            }
            None => {
                let is_at_end = current.cursor().is_at_end();
                drop(current);
                self.credit.give_back(id, bytes);
                if is_at_end {
                    self.hold(id);
                }
                self.feed();
            }
        }
    }

    fn take(&mut self, cx: &Context<'_>) -> Taken {
        let taken = self.next(cx);
        self.hands.took(match &taken {
            Taken::Current(_) => Caller::Holding,
            Taken::Nothing => Caller::Waiting,
            _ => Caller::Away,
        });
        taken
    }

    fn next(&mut self, cx: &Context<'_>) -> Taken {
        if let Some(error) = self.errors.pop_front() {
            return Taken::Error(error);
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(buffer) = self.buffers.get_mut(&id) else { continue };
            let Some(item) = buffer.queue.pop_front() else { continue };
            if !buffer.queue.is_empty() {
                self.ready.push_back(id);
                buffer.look_ahead(&self.unpacker);
            }
            if let Some(taken) = self.open(id, item) {
                return taken;
            }
        }
        if self.is_closed {
            return Taken::Closed;
        }
        if self.buffers.is_empty() && !self.is_subscribed {
            return Taken::Unassigned;
        }
        if self.has_ended() {
            return Taken::Ended;
        }
        register(&mut self.waker, cx);
        Taken::Nothing
    }

    /// What an item of the partition is to whoever takes it; none: only the position has moved.
    fn open(&mut self, id: PartitionId, item: Item) -> Option<Taken> {
        let cursor = &self.buffers.get(&id)?.cursor;
        match item {
            Item::Error(error) => Some(Taken::Error(error)),
            Item::Position(position) => {
                if cursor.position().is_some_and(|before| position < before) {
                    self.tell(Command::WentBack(id));
                }
                cursor.advance(position);
                cursor.settle();
                self.hold(id);
                None
            }
            Item::Current(current) => Some(Taken::Current(current)),
            Item::Fetched(fetched, ahead) => {
                let (cursor, watch) = (Arc::clone(cursor), Arc::clone(&self.watch));
                Some(Taken::Current(Box::new(Current::new(cursor, watch, fetched, ahead))))
            }
        }
    }
}

fn register(known: &mut Option<Waker>, cx: &Context<'_>) {
    match known {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}
