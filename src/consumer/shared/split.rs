//! The inbox of a consumer whose partitions have streams of their own:
//!
//! ```text
//!   leader tasks ── push ──▶ partition: [records, records, error] ──▶ take_of ── its stream
//!   assigned ───────────────▶ untaken: [partition, …] ──────────────▶ take_stream ── whoever runs the streams
//! ```
//! What is fetched ahead is bounded for each partition by its credit, so a stream that nobody reads holds up no other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::{Inbox, Shared, Taken, register};
use crate::consumer::current::Current;
use crate::consumer::cursor::Cursor;
use crate::consumer::hands::Caller;
use crate::error::Error;
use crate::machine::credit::PartitionId;
use crate::machine::offsets::Start;

#[derive(Debug, Default)]
pub(super) struct Split {
    /// Partitions without a stream.
    untaken: VecDeque<PartitionId>,
    /// Of streams that have something to hear of.
    woken: Vec<Waker>,
    /// Streams end.
    is_over: bool,
}

/// What comes next for whoever runs the streams.
pub enum Offered {
    /// A partition for a stream of its own.
    Partition(Arc<Cursor>),
    Error(Error),
    /// Nothing yet: the waker is registered.
    Nothing,
    Unassigned,
    Ended,
    Closed,
}

impl Shared {
    /// What is next of one partition, after what its stream has done with.
    pub fn take_of(&self, cx: &Context<'_>, id: PartitionId, done: Option<Box<Current>>) -> Taken {
        let mut inbox = self.lock();
        if let Some(buffer) = inbox.buffers.get_mut(&id) {
            buffer.waker = None;
        }
        if let Some(current) = done {
            inbox.put_back(current);
        }
        inbox.next_of(cx, id)
    }

    pub fn take_stream(&self, cx: &Context<'_>) -> Offered {
        self.lock().next_stream(cx)
    }
}

impl Inbox {
    /// From here on each partition goes to a stream of its own, and what was handed out counts as dealt with.
    pub fn begin_split(&mut self, current: Option<Box<Current>>) {
        if let Some(current) = current {
            self.put_back(current);
        }
        self.ready.clear();
        let untaken = self.buffers.keys().copied().collect();
        self.split = Some(Split { untaken, ..Split::default() });
        self.begin_work();
    }

    /// Streams end, and nothing more is begun.
    pub fn end_split(&mut self) {
        if let Some(split) = &mut self.split {
            split.is_over = true;
        }
        self.cursors().for_each(|cursor| cursor.track().lock().shut());
        self.wake_streams();
    }

    /// Whether nothing that was handed over is being dealt with; if something is, the waker hears of it.
    pub fn poll_quiet(&self, cx: &Context<'_>) -> bool {
        // Each of them: all have to know whom to wake.
        self.cursors().filter(|cursor| !cursor.track().poll_quiet(cx)).count() == 0
    }

    /// Whether whoever works on what this consumer brings waits for more. Streams do, if nothing is in hand, and nothing lies
    /// where nobody takes it.
    pub fn is_caller_waiting(&self) -> bool {
        let Some(split) = &self.split else { return self.hands.caller() == Caller::Waiting };
        let is_idle = |buffer: &super::Buffer| {
            (buffer.is_held || buffer.queue.is_empty()) && !buffer.cursor.track().lock().is_running()
        };
        split.untaken.is_empty() && self.buffers.values().all(is_idle)
    }

    /// The stream of the partition is gone, with `current` in hand. Another one goes on behind what was acknowledged.
    pub fn leave_stream(&mut self, id: PartitionId, current: Option<Box<Current>>) {
        if let Some(current) = current {
            self.put_back(current);
        }
        let Some(buffer) = self.buffers.get_mut(&id) else { return };
        buffer.waker = None;
        // It had ended: what is in hand of it may still be acknowledged.
        if buffer.is_revoking || self.split.as_ref().is_none_or(|split| split.is_over) {
            return;
        }
        if buffer.cursor.is_at_end() {
            buffer.is_left = true;
            return;
        }
        // Without a position nothing was handed out, and there is nothing to go back to.
        if let Some(from) = buffer.cursor.settled()
            && let Some(new) = self.renew(id, Some(from.offset))
        {
            new.settle_epoch(from.leader_epoch.unwrap_or(-1));
            // Once more, now that it knows of the epoch.
            self.track(&new);
            self.seek(&new, Start::At(from.offset));
        }
        self.offer(id);
    }

    /// There may be more behind what was the end.
    pub(super) fn go_on(&mut self, id: PartitionId) {
        if let Some(buffer) = self.buffers.get_mut(&id)
            && !buffer.cursor.is_at_end()
            && std::mem::take(&mut buffer.is_left)
        {
            self.leave_stream(id, None);
        }
    }

    /// A partition is there for a stream.
    pub(super) fn offer(&mut self, id: PartitionId) {
        if let Some(split) = &mut self.split {
            split.untaken.push_back(id);
        }
    }

    pub(super) fn withdraw(&mut self, id: PartitionId) {
        if let Some(split) = &mut self.split {
            split.untaken.retain(|untaken| *untaken != id);
        }
    }

    pub(super) fn has_offer(&self) -> bool {
        self.split.as_ref().is_some_and(|split| !split.untaken.is_empty())
    }

    /// Something is queued, and may be handed out.
    pub(super) fn make_ready(&mut self, id: PartitionId) {
        match self.split {
            None => self.ready.push_back(id),
            Some(_) => self.wake_stream(id),
        }
    }

    pub(super) fn wake_stream(&mut self, id: PartitionId) {
        if let Some(split) = &mut self.split
            && let Some(buffer) = self.buffers.get_mut(&id)
        {
            split.woken.extend(buffer.waker.take());
        }
    }

    pub(super) fn wake_streams(&mut self) {
        if let Some(split) = &mut self.split {
            split.woken.extend(self.buffers.values_mut().filter_map(|buffer| buffer.waker.take()));
        }
    }

    /// To be woken, outside of the lock.
    pub(super) fn woken(&mut self) -> Vec<Waker> {
        self.split.as_mut().map(|split| std::mem::take(&mut split.woken)).unwrap_or_default()
    }

    fn next_of(&mut self, cx: &Context<'_>, id: PartitionId) -> Taken {
        loop {
            let is_over = self.is_closed || self.split.as_ref().is_none_or(|split| split.is_over);
            let buffer = self.buffers.get_mut(&id).filter(|buffer| !buffer.is_revoking && !is_over);
            let Some(buffer) = buffer else { return Taken::Ended };
            let item = if buffer.is_held { None } else { buffer.queue.pop_front() };
            if let Some(item) = item {
                buffer.look_ahead(&self.unpacker);
                match self.open(id, item) {
                    Some(taken) => return taken,
                    None => continue,
                }
            }
            if buffer.cursor.is_at_end() {
                return Taken::Ended;
            }
            register(&mut buffer.waker, cx);
            return Taken::Nothing;
        }
    }

    fn next_stream(&mut self, cx: &Context<'_>) -> Offered {
        if let Some(error) = self.errors.pop_front() {
            return Offered::Error(error);
        }
        if self.is_closed {
            return Offered::Closed;
        }
        while let Some(id) = self.split.as_mut().and_then(|split| split.untaken.pop_front()) {
            // It may be on its way out already.
            if let Some(buffer) = self.buffers.get(&id).filter(|buffer| !buffer.is_revoking) {
                return Offered::Partition(Arc::clone(&buffer.cursor));
            }
        }
        if self.buffers.is_empty() && !self.is_subscribed {
            return Offered::Unassigned;
        }
        if self.has_ended() {
            return Offered::Ended;
        }
        register(&mut self.waker, cx);
        Offered::Nothing
    }
}
