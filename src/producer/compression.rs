//! Compression of sealed batches: small ones at once, large ones beside the task that sends them.
//!
//! ```text
//!   leader's task ─ lend ─▶ waiting jobs ─▶ workers, on the runtime's blocking threads
//!        ▲                                      │ each with tables that it takes from here and puts back
//!        └────────────── Message::Packed ◀──────┘
//! ```
//! A lent batch keeps its place in its partition's queue, so whatever finishes first, the order stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::Watch;
use super::leader::Message;
use super::mailbox::Mailbox;
use crate::machine::accumulator::PartitionId;
use crate::machine::sequence::Reason;
use crate::net::{self, Runtime, Workers};
use crate::record::{self, Compressor, SealedBatch};

/// What is as large as this is not compressed on a task that others wait for.
pub(super) const LARGE: usize = 64 << 10;

/// The codec of a producer, and who works for it.
pub(super) struct Compression {
    codec: record::Compression,
    level: Option<i32>,
    watch: Arc<Watch>,
    workers: Arc<Workers<Job>>,
    /// Tables of compressors that nobody uses at the moment.
    idle: Mutex<Vec<Compressor>>,
}

impl Compression {
    pub(super) fn new(
        codec: record::Compression,
        level: Option<i32>,
        runtime: Runtime,
        watch: &Arc<Watch>,
    ) -> Arc<Self> {
        let workers = Workers::new(runtime);
        Arc::new(Self { codec, level, watch: Arc::clone(watch), workers, idle: Mutex::default() })
    }

    /// Compresses a batch here and now. One that does not shrink stays as it is.
    pub(super) fn compress(&self, sealed: &mut SealedBatch) -> Result<(), Reason> {
        let idle = self.idle().pop();
        let mut compressor = idle.unwrap_or_default();
        let input = sealed.size();
        let done = sealed.compress(self.codec, self.level, &mut compressor);
        self.idle().push(compressor);
        self.watch.counts.compressed(input, sealed.size());
        done.map(drop).map_err(|error| Reason::Compression(error.to_string().into()))
    }

    /// Compresses a batch elsewhere, and tells `home` when it is done.
    pub(super) fn lend(
        self: &Arc<Self>,
        id: PartitionId,
        number: u64,
        sealed: SealedBatch,
        home: Arc<Mailbox<Message>>,
    ) {
        let compression = Arc::clone(self);
        self.workers.push(Job { compression, id, number, sealed: Some(sealed), home, is_back: false });
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Compressor>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One batch, on its way there and back. It comes back whatever happens: its place in the queue waits for it.
struct Job {
    compression: Arc<Compression>,
    id: PartitionId,
    number: u64,
    sealed: Option<SealedBatch>,
    home: Arc<Mailbox<Message>>,
    is_back: bool,
}

impl net::Job for Job {
    fn run(mut self) {
        let Some(mut sealed) = self.sealed.take() else { return };
        let packed = self.compression.compress(&mut sealed).map(|()| sealed);
        self.give_back(packed);
    }
}

impl Job {
    fn give_back(&mut self, sealed: Result<SealedBatch, Reason>) {
        self.is_back = true;
        self.home.send(Message::Packed { id: self.id, number: self.number, sealed });
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
