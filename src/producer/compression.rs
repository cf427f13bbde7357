//! Compression of sealed batches: small ones at once, large ones beside the task that sends them.
//!
//! ```text
//!   leader's task ─ lend ─▶ waiting jobs ─▶ as many workers as there are cores, on the runtime's blocking threads
//!        ▲                                      │ each with tables that it takes from here and puts back
//!        └────────────── Message::Packed ◀──────┘
//! ```
//! A lent batch keeps its place in its partition's queue, so whatever finishes first, the order stays.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::account::Watch;
use super::leader::Message;
use crate::machine::accumulator::PartitionId;
use crate::machine::sequence::Reason;
use crate::net::Runtime;
use crate::record::{self, Compressor, SealedBatch};

/// What is as large as this is not compressed on a task that others wait for.
pub(super) const LARGE: usize = 64 << 10;

/// The codec of a producer, and who works for it.
pub(super) struct Compression {
    codec: record::Compression,
    level: Option<i32>,
    runtime: Runtime,
    watch: Arc<Watch>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    workers: usize,
    /// Tables of compressors that nobody uses at the moment.
    idle: Vec<Compressor>,
}

impl Compression {
    pub(super) fn new(
        codec: record::Compression,
        level: Option<i32>,
        runtime: Runtime,
        watch: &Arc<Watch>,
    ) -> Arc<Self> {
        Arc::new(Self { codec, level, runtime, watch: Arc::clone(watch), state: Mutex::default() })
    }

    /// Compresses a batch here and now. One that does not shrink stays as it is.
    pub(super) fn compress(&self, sealed: &mut SealedBatch) -> Result<(), Reason> {
        let idle = self.lock().idle.pop();
        let mut compressor = idle.unwrap_or_default();
        let input = sealed.size();
        let done = sealed.compress(self.codec, self.level, &mut compressor);
        self.lock().idle.push(compressor);
        self.watch.counts.compressed(input, sealed.size());
        done.map(drop).map_err(|error| Reason::Compression(error.to_string().into()))
    }

    /// Compresses a batch elsewhere, and tells `home` when it is done.
    pub(super) fn lend(self: &Arc<Self>, id: PartitionId, number: u64, sealed: SealedBatch, home: Sender) {
        let mut state = self.lock();
        state.waiting.push_back(Job { id, number, sealed: Some(sealed), home, is_back: false });
        if state.workers < self.runtime.parallelism() {
            state.workers += 1;
            drop(state);
            let worker = Worker { compression: Arc::clone(self), is_done: false };
            self.runtime.spawn_blocking(move || worker.run());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) type Sender = mpsc::UnboundedSender<Message>;

/// One batch, on its way there and back. It comes back whatever happens: its place in the queue waits for it.
struct Job {
    id: PartitionId,
    number: u64,
    sealed: Option<SealedBatch>,
    home: Sender,
    is_back: bool,
}

impl Job {
    fn run(mut self, compression: &Compression) {
        let Some(mut sealed) = self.sealed.take() else { return };
        let packed = compression.compress(&mut sealed).map(|()| sealed);
        self.give_back(packed);
    }

    fn give_back(&mut self, sealed: Result<SealedBatch, Reason>) {
        self.is_back = true;
        let _ = self.home.send(Message::Packed { id: self.id, number: self.number, sealed });
    }
}

impl Drop for Job {
    /// Never begun, because the runtime is shutting down or another job has panicked; or this one has.
    fn drop(&mut self) {
        if !self.is_back {
            let sealed = self.sealed.take().ok_or_else(|| Reason::Compression("the codec panicked".into()));
            self.give_back(sealed);
        }
    }
}

/// Works until there are no jobs.
struct Worker {
    compression: Arc<Compression>,
    is_done: bool,
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.next() {
            job.run(&self.compression);
        }
    }

    fn next(&mut self) -> Option<Job> {
        let mut state = self.compression.lock();
        let job = state.waiting.pop_front();
        if job.is_none() {
            // Under the same lock: whoever comes next starts a worker.
            state.workers -= 1;
            self.is_done = true;
        }
        job
    }
}

impl Drop for Worker {
    /// Early, it takes nobody else's work with it: what no worker is left for goes back as it is.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.compression.lock();
        state.workers -= 1;
        let left = if state.workers == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(left);
    }
}
