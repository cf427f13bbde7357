//! Buffers of batches. One that is settled leaves its buffer to the next ones: that is mapped, and often still in a cache,
//! where a fresh one of 128 KiB costs its page faults every time.
//!
//! ```text
//!   buffer_memory:  | reserved by batches        | kept here: at most as much as is free ... |
//!   beside it:      | slack: what buffers have beyond what is reserved | kept here while nothing is free |
//! ```
//! So what a producer holds is `buffer_memory` and a few MiB, whatever it sends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;

use super::budget::Budget;
use crate::record::BatchWriter;

pub(super) struct Pool {
    budget: Arc<Budget>,
    /// What a full batch takes: up to there buffers come in sizes, so that one serves another partition too.
    largest: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Free ones by [`size_of`], and behind those what is larger.
    free: Vec<Vec<BytesMut>>,
    bytes: usize,
}

const SMALLEST: usize = 256;

/// Kept however little memory is free: as fast as batches are settled, others take the memory.
const KEPT: usize = 4 << 20;

impl Pool {
    pub(super) fn new(budget: &Arc<Budget>, batch_size: usize) -> Self {
        let sizes = (0..).find(|n| size_of(*n) >= batch_size).unwrap_or_default() + 1;
        let state = State { free: (0..=sizes).map(|_| Vec::new()).collect(), bytes: 0 };
        Self { budget: Arc::clone(budget), largest: size_of(sizes - 1), state: Mutex::new(state) }
    }

    /// What [`Self::take`] gives for so many bytes, unless it is asked for no more.
    pub(super) fn rounded(&self, bytes: usize) -> usize {
        if bytes > self.largest { bytes } else { (0..).map(size_of).find(|size| *size >= bytes).unwrap_or(bytes) }
    }

    /// A buffer for a batch of so many bytes.
    pub(super) fn take(&self, bytes: usize) -> BytesMut {
        let mut state = self.lock();
        let sizes = state.free.len().saturating_sub(1);
        let kept = match (0..sizes).find(|n| size_of(*n) >= bytes) {
            Some(size) => state.free[size].pop(),
            None => {
                let fits = |buffer: &BytesMut| (bytes..=bytes + bytes / 8).contains(&room_of(buffer));
                let at = state.free[sizes].iter().position(fits);
                at.map(|at| state.free[sizes].swap_remove(at))
            }
        };
        if let Some(buffer) = kept {
            state.bytes -= room_of(&buffer);
            return buffer;
        }
        let dropped = state.shrink(self.budget.free().max(KEPT).saturating_sub(bytes));
        drop(state);
        drop(dropped);
        fresh(self.rounded(bytes))
    }

    /// Takes a buffer back, to give it to another batch.
    pub(super) fn put(&self, buffer: BytesMut) {
        let room = room_of(&buffer);
        let mut state = self.lock();
        if room < size_of(0) || state.bytes + room > self.budget.free().max(KEPT) {
            return;
        }
        let sizes = state.free.len().saturating_sub(1);
        let size = match room > self.largest {
            true => sizes,
            false => (0..sizes).rev().find(|n| size_of(*n) <= room).unwrap_or_default(),
        };
        state.bytes += room;
        state.free[size].push(buffer);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps no more than so many bytes: what takes most goes first.
    fn shrink(&mut self, bytes: usize) -> Vec<BytesMut> {
        let mut dropped = Vec::new();
        while self.bytes > bytes {
            let Some(buffer) = self.free.iter_mut().rev().find_map(Vec::pop) else { break };
            self.bytes -= room_of(&buffer);
            dropped.push(buffer);
        }
        dropped
    }
}

/// A buffer of exactly so many bytes.
pub(super) fn fresh(bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(bytes + BatchWriter::SPARE);
    // Shared, by one for now: its count is allocated here once, and not whenever it is frozen.
    drop(buffer.split_off(buffer.capacity()));
    buffer
}

/// How large a batch can become in a buffer.
pub(super) fn room_of(buffer: &BytesMut) -> usize {
    buffer.capacity().saturating_sub(BatchWriter::SPARE)
}

/// 256 bytes, 512, 1 KiB and so on: thousands of partitions with a record or two each have no room to spare.
fn size_of(n: usize) -> usize {
    SMALLEST.saturating_mul(1usize.checked_shl(n as u32).unwrap_or(usize::MAX))
}
