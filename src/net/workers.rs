//! What computes for long, beside the tasks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::runtime::Runtime;

/// Runs jobs in the order in which they come, as many at a time as there are cores, on the runtime's blocking threads. A
/// thread goes on as long as there are jobs: to wake one for each costs more than a small job does.
pub struct Workers<J> {
    runtime: Runtime,
    state: Mutex<State<J>>,
}

/// One that nobody comes to, because the runtime has ended or another one has panicked, is dropped.
pub trait Job: Send + 'static {
    fn run(self);
}

struct State<J> {
    waiting: VecDeque<J>,
    workers: usize,
}

/// Works until there are no jobs.
struct Worker<J: Job> {
    workers: Arc<Workers<J>>,
    is_done: bool,
}

impl<J: Job> Workers<J> {
    pub fn new(runtime: Runtime) -> Arc<Self> {
        Arc::new(Self { runtime, state: Mutex::new(State { waiting: VecDeque::new(), workers: 0 }) })
    }

    pub fn push(self: &Arc<Self>, job: J) {
        let mut state = self.lock();
        state.waiting.push_back(job);
        if state.workers < self.runtime.parallelism() {
            state.workers += 1;
            drop(state);
            let worker = Worker { workers: Arc::clone(self), is_done: false };
            self.runtime.spawn_blocking(move || worker.run());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> Worker<J> {
    fn run(mut self) {
        while let Some(job) = self.next() {
            job.run();
        }
    }

    fn next(&mut self) -> Option<J> {
        let mut state = self.workers.lock();
        let job = state.waiting.pop_front();
        if job.is_none() {
            // Under the same lock: whoever comes next starts a worker.
            state.workers -= 1;
            self.is_done = true;
        }
        job
    }
}

impl<J: Job> Drop for Worker<J> {
    /// Early, it takes nobody else's work with it, unless no worker is left.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut state = self.workers.lock();
        state.workers -= 1;
        let left = if state.workers == 0 { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::net::TestRuntime;

    struct Numbered {
        number: usize,
        running: Arc<AtomicUsize>,
        said: mpsc::Sender<Said>,
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Said {
        /// With so many others.
        Ran(usize, usize),
        Dropped(usize),
    }

    const PANICS: usize = 1_000;

    impl Job for Numbered {
        fn run(self) {
            assert_ne!(self.number, PANICS, "the planned panic");
            let others = self.running.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            self.running.fetch_sub(1, Ordering::SeqCst);
            self.said.send(Said::Ran(self.number, others)).unwrap();
        }
    }

    impl Drop for Numbered {
        fn drop(&mut self) {
            self.said.send(Said::Dropped(self.number)).unwrap();
        }
    }

    struct Rig {
        runtime: TestRuntime,
        workers: Arc<Workers<Numbered>>,
        running: Arc<AtomicUsize>,
        sender: mpsc::Sender<Said>,
        said: mpsc::Receiver<Said>,
    }

    impl Rig {
        fn new() -> Self {
            let runtime = TestRuntime::new();
            let workers = Workers::new(runtime.runtime());
            let (sender, said) = mpsc::channel();
            Self { runtime, workers, running: Arc::default(), sender, said }
        }

        fn push(&self, number: usize) {
            let (running, said) = (Arc::clone(&self.running), self.sender.clone());
            self.workers.push(Numbered { number, running, said });
        }

        fn until_nobody_works(&self) {
            while self.workers.lock().workers > 0 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn each_job_runs_once_with_as_many_others_as_there_are_cores() {
        let rig = Rig::new();
        (0..PANICS).for_each(|number| rig.push(number));
        rig.until_nobody_works();
        let ran = rig.said.try_iter().filter_map(|said| match said {
            Said::Ran(number, others) => Some((number, others)),
            Said::Dropped(_) => None,
        });
        let (mut numbers, others): (Vec<_>, Vec<_>) = ran.unzip();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..PANICS));
        assert!(others.into_iter().max() < Some(rig.runtime.runtime().parallelism()));
    }

    #[test]
    fn a_panic_takes_one_job_and_the_next_one_has_a_worker() {
        let rig = Rig::new();
        rig.push(PANICS);
        assert_eq!(rig.said.recv().unwrap(), Said::Dropped(PANICS));
        rig.until_nobody_works();
        rig.push(1);
        assert_eq!(rig.said.recv().unwrap(), Said::Ran(1, 0));
    }

    #[test]
    fn jobs_of_a_runtime_that_has_ended_are_dropped() {
        let mut rig = Rig::new();
        // Not of the one that the workers have.
        drop(std::mem::replace(&mut rig.runtime, TestRuntime::new()));
        for number in 0..3 {
            rig.push(number);
            assert_eq!(rig.said.recv().unwrap(), Said::Dropped(number));
        }
        assert_eq!(rig.workers.lock().workers, 0);
    }
}
