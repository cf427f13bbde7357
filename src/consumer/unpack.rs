//! Decompresses batches: large ones ahead of the caller, on threads where nobody waits.
//!
//! ```text
//!   leader task ── queued first ──▶ Ahead ─┐              a few ahead for each partition, while the budget lasts
//!   caller ─────── opens a batch ─▶ Ahead ─┴─▶ a worker: decompresses, wakes whoever waits for it
//! ```

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::net::{self, Runtime, Workers};
use crate::record::{Compression, Decompressor, Limits, RawBatch, RecordError, Unpacked};

pub struct Unpacker {
    limits: Limits,
    /// How many decompressed bytes there may be, with those that are expected, before nothing more is decompressed ahead.
    budget: usize,
    decompressed: Arc<AtomicUsize>,
    /// What became of a byte of the last large batch, in sixteenths; zero: there was none yet.
    ratio: AtomicUsize,
    workers: Arc<Workers<Job>>,
    /// Their tables and buffers are worth keeping.
    idle: Mutex<Vec<Decompressor>>,
}

/// A batch that waits for a worker.
struct Job {
    unpacker: Arc<Unpacker>,
    batch: RawBatch,
    progress: Running,
    /// What it will presumably become.
    expected: Charge,
}

/// A batch whose records can be read, and what it takes of the budget for as long as it lives.
#[derive(Debug)]
pub struct Opened {
    pub batch: Unpacked,
    pub charge: Charge,
}

/// Decompressed bytes, while they are there.
#[derive(Debug)]
pub struct Charge {
    decompressed: Arc<AtomicUsize>,
    bytes: usize,
}

/// A batch that is being decompressed elsewhere.
#[derive(Debug)]
pub struct Ahead(Arc<Mutex<Progress>>);

#[derive(Debug)]
enum Progress {
    Running(Option<Waker>),
    Done(Result<Opened, RecordError>),
    /// No worker came to it: the runtime has ended.
    Abandoned,
    Taken,
}

/// Smaller batches take less time than to hand them over.
const LARGE: usize = 64 << 10;
/// Each keeps up to 2 MiB, in which its last batch mostly still is.
const MAX_IDLE: usize = 8;

impl Unpacker {
    pub fn new(runtime: Runtime, limits: Limits, budget: usize) -> Self {
        let (decompressed, ratio, idle) = Default::default();
        Self { limits, budget, decompressed, ratio, workers: Workers::new(runtime), idle }
    }

    /// Decompressed bytes that are there now, read or not yet.
    pub fn decompressed(&self) -> usize {
        self.decompressed.load(Ordering::Relaxed)
    }

    /// How much of the buffer is not there for fetching: what is decompressed, and room for more if that is the way of
    /// this log.
    pub fn set_aside(&self) -> usize {
        let reserve = if self.ratio.load(Ordering::Relaxed) > 0 { self.budget } else { 0 };
        self.decompressed().max(reserve)
    }

    /// Here and now.
    pub fn open(&self, batch: RawBatch) -> Result<Opened, RecordError> {
        let mut decompressor = self.idle();
        let (is_compressed, size) = (is_compressed(&batch), batch.bytes().len());
        let opened = batch.decompress(&mut decompressor, self.limits);
        let mut idle = lock(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(decompressor);
        }
        drop(idle);
        opened.map(|batch| {
            // What is not compressed is a slice of what was fetched, and accounted for there.
            let bytes = if is_compressed { batch.bytes().len() } else { 0 };
            if is_compressed && size >= LARGE {
                self.ratio.store((bytes.saturating_mul(16) / size).max(1), Ordering::Relaxed);
            }
            Opened { batch, charge: Charge::new(&self.decompressed, bytes) }
        })
    }

    /// The one that has waited longest of those whose last batch has been read. While there are few, rather one more than
    /// one whose memory would be lost to its readers: that halved what was resident at the peak of reading zstd, and took
    /// 6 % off its CPU.
    fn idle(&self) -> Decompressor {
        let mut idle = lock(&self.idle);
        match idle.iter().position(Decompressor::is_free) {
            Some(at) => idle.remove(at),
            None if idle.len() < MAX_IDLE => Decompressor::new(),
            None => idle.remove(0),
        }
    }

    /// On another thread, if that is worth it and there is room.
    pub fn ahead(self: &Arc<Self>, batch: &RawBatch) -> Option<Ahead> {
        if batch.bytes().len() < LARGE || !is_compressed(batch) {
            return None;
        }
        // Any number may be asked for at once, before the first has shown how large they become.
        let expected = match self.ratio.load(Ordering::Relaxed) {
            0 => self.limits.max_output,
            ratio => (batch.bytes().len() / 16).saturating_mul(ratio + ratio / 4).min(self.limits.max_output),
        };
        let decompressed = self.decompressed();
        let is_worth_it = decompressed == 0 || decompressed.saturating_add(expected) <= self.budget;
        is_worth_it.then(|| {
            let expected = Charge::new(&self.decompressed, expected);
            let progress = Arc::new(Mutex::new(Progress::Running(None)));
            let ahead = Ahead(Arc::clone(&progress));
            let (unpacker, batch) = (Arc::clone(self), batch.clone());
            self.workers.push(Job { unpacker, batch, progress: Running(progress), expected });
            ahead
        })
    }
}

impl net::Job for Job {
    fn run(self) {
        // After a seek nobody waits for it.
        if self.progress.is_wanted() {
            let opened = self.unpacker.open(self.batch);
            drop(self.expected);
            self.progress.end(Progress::Done(opened));
        }
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").field("decompressed", &self.decompressed).finish_non_exhaustive()
    }
}

fn is_compressed(batch: &RawBatch) -> bool {
    !matches!(batch.header().attributes.compression(), Ok(Compression::None))
}

impl Ahead {
    /// The batch, once it is there; or `None`, and `waker` hears of it. `Some(None)`: it has to be opened here after all.
    pub fn poll(&self, waker: &Waker) -> Option<Option<Result<Opened, RecordError>>> {
        let mut progress = lock(&self.0);
        match std::mem::replace(&mut *progress, Progress::Taken) {
            Progress::Running(_) => {
                *progress = Progress::Running(Some(waker.clone()));
                None
            }
            Progress::Done(opened) => Some(Some(opened)),
            Progress::Abandoned | Progress::Taken => Some(None),
        }
    }
}

/// The worker's end of a job.
struct Running(Arc<Mutex<Progress>>);

impl Running {
    fn is_wanted(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn end(&self, outcome: Progress) {
        let waker = {
            let mut progress = lock(&self.0);
            if !matches!(*progress, Progress::Running(_)) {
                return;
            }
            match std::mem::replace(&mut *progress, outcome) {
                Progress::Running(waker) => waker,
                _ => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(Progress::Abandoned);
    }
}

impl Charge {
    fn new(decompressed: &Arc<AtomicUsize>, bytes: usize) -> Self {
        decompressed.fetch_add(bytes, Ordering::Relaxed);
        Self { decompressed: Arc::clone(decompressed), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.decompressed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::task::Wake;

    use super::*;
    use crate::net::TestRuntime;
    use crate::record::writer::{BatchWriter, NO_HEADERS};
    use crate::record::{Batches, Compressor, Identity};

    /// A batch of one record of so many bytes, which compress to about a third.
    fn batch(size: usize, codec: Compression) -> RawBatch {
        let mut state = 1u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [a, b, c, d, e, f, g, h] = state.to_be_bytes();
            [a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        });
        let mut writer = BatchWriter::new(1024);
        writer.append(0, None, Some(&noise.flatten().take(size).collect::<Vec<_>>()), NO_HEADERS).unwrap();
        let mut batch = writer.finish();
        if codec != Compression::None {
            batch.compress(codec, None, &mut Compressor::new()).unwrap();
        }
        Batches::new(batch.stamp(Identity::NONE), true).next().unwrap().unwrap()
    }

    struct Told(mpsc::Sender<()>);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
        }
    }

    fn unpacker(runtime: &TestRuntime, max_output: usize, budget: usize) -> Arc<Unpacker> {
        let limits = Limits { max_output, ..Limits::default() };
        Arc::new(Unpacker::new(runtime.runtime(), limits, budget))
    }

    fn until_opened(ahead: &Ahead) -> Result<Opened, RecordError> {
        loop {
            match ahead.poll(Waker::noop()) {
                Some(outcome) => return outcome.unwrap(),
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_large_batch_is_opened_elsewhere_and_whoever_waits_is_woken() {
        let runtime = TestRuntime::new();
        let unpacker = unpacker(&runtime, 10 << 20, 1 << 20);
        let ahead = unpacker.ahead(&batch(1 << 20, Compression::Lz4)).unwrap();
        let (sender, told) = mpsc::channel();
        let waker = Arc::new(Told(sender)).into();
        let opened = loop {
            match ahead.poll(&waker) {
                Some(opened) => break opened.unwrap().unwrap(),
                None => told.recv().unwrap(),
            }
        };
        assert_eq!(opened.batch.records().unwrap().next().unwrap().unwrap().value().unwrap().len(), 1 << 20);
        assert!(unpacker.decompressed() > 1 << 20);
        // The budget is spent until this one is done with.
        assert!(unpacker.ahead(&batch(1 << 20, Compression::Lz4)).is_none());
        drop(opened);
        assert_eq!(unpacker.decompressed(), 0);
        assert!(unpacker.ahead(&batch(1 << 20, Compression::Lz4)).is_some());
    }

    /// Batches of several partitions are there at once, and each is read before or after any other.
    #[test]
    fn memory_that_has_been_read_is_used_again() {
        let runtime = TestRuntime::new();
        let unpacker = unpacker(&runtime, 10 << 20, 1 << 20);
        let open = || unpacker.open(batch(200_000, Compression::Lz4)).unwrap();
        let mut opened: Vec<_> = (0..6).map(|_| open()).collect();
        for nth in [2, 5, 0] {
            let place = opened[nth].batch.bytes().as_ptr();
            drop(opened.remove(nth));
            opened.insert(nth, open());
            assert_eq!(opened[nth].batch.bytes().as_ptr(), place);
        }
        assert_eq!(lock(&unpacker.idle).len(), 6);
    }

    #[test]
    fn what_nobody_waits_for_any_more_leaves_nothing_behind() {
        let runtime = TestRuntime::new();
        let unpacker = unpacker(&runtime, 10 << 20, 100 << 20);
        let mut ahead: Vec<_> = (0..20).map(|_| unpacker.ahead(&batch(1 << 20, Compression::Lz4)).unwrap()).collect();
        ahead.truncate(5);
        for ahead in ahead {
            assert!(until_opened(&ahead).unwrap().batch.bytes().len() > 1 << 20);
        }
        while unpacker.decompressed() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn small_and_plain_batches_are_opened_here() {
        let runtime = TestRuntime::new();
        let unpacker = unpacker(&runtime, 10 << 20, 1 << 20);
        assert!(unpacker.ahead(&batch(1_000, Compression::Lz4)).is_none());
        assert!(unpacker.ahead(&batch(1 << 20, Compression::None)).is_none());
        let plain = unpacker.open(batch(1 << 20, Compression::None)).unwrap();
        assert_eq!((plain.charge.bytes, unpacker.decompressed()), (0, 0));
    }

    #[test]
    fn limits_hold_elsewhere_too_and_a_runtime_that_ends_leaves_nobody_waiting() {
        let runtime = TestRuntime::new();
        let small = unpacker(&runtime, 1_000, 1 << 20);
        let ahead = small.ahead(&batch(1 << 20, Compression::Lz4)).unwrap();
        assert!(matches!(until_opened(&ahead), Err(RecordError::TooLargeDecompressed { limit: 1_000 })));
        let late = unpacker(&runtime, 10 << 20, 1 << 20);
        drop(runtime);
        let ahead = late.ahead(&batch(1 << 20, Compression::Lz4)).unwrap();
        assert!(matches!(ahead.poll(Waker::noop()), Some(None)), "it is opened by whoever asks");
    }
}
