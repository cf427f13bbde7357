//! Goes through what was fetched, record by record: for a consumer through that of all its partitions, for a stream through
//! that of one.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::current::{Current, Reading, Step};
use super::cursor::Cursor;
use super::manager::Command;
use super::problem::unreadable;
use super::record::Source;
use super::shared::{Shared, Taken};
use super::unpack::Unpacker;
use crate::error::Error;
use crate::machine::offsets::Start;
use crate::record::RecordAt;

pub struct Pull {
    current: Option<Box<Current>>,
    unpacker: Arc<Unpacker>,
    /// Records handed out since the last time the runtime got its turn.
    streak: u32,
    /// The current set is not to be gone on with.
    is_refused: bool,
}

/// What whoever asked gets.
pub enum Pulled {
    /// The current batch has a record.
    Record,
    Error(Error),
    /// Nothing yet: the waker is registered.
    Nothing,
    Unassigned,
    Ended,
    Closed,
}

/// So many records, and the runtime gets its turn: a future that is always ready would starve its neighbours.
const MAX_STREAK: u32 = 128;
/// A finished batch is a good moment, unless batches are tiny.
const MIN_STREAK: u32 = 32;
/// What a lent batch counts for.
const BATCH_STREAK: u32 = 8;

impl Pull {
    pub fn new(unpacker: Arc<Unpacker>) -> Self {
        Self { current: None, unpacker, streak: 0, is_refused: false }
    }

    /// Where what is being read comes from.
    #[inline]
    pub fn cursor(&self) -> Option<&Arc<Cursor>> {
        self.current.as_ref().map(|current| current.cursor())
    }

    pub fn unpacker(&self) -> &Arc<Unpacker> {
        &self.unpacker
    }

    /// The next record of the current batch, unless it is time for others.
    #[inline]
    pub fn next(&mut self) -> Option<(&Arc<Source>, RecordAt)> {
        if self.streak >= MAX_STREAK {
            return None;
        }
        let mut reading = self.current.as_mut()?.reading()?;
        let at = reading.next()?;
        self.streak += 1;
        Some((reading.source, at))
    }

    /// Nothing more of the current set is wanted.
    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    pub fn put_down(&mut self) -> Option<Box<Current>> {
        self.current.take()
    }

    /// What is left of the current batch.
    pub fn lend(&mut self) -> Option<Reading<'_>> {
        self.streak += BATCH_STREAK;
        self.current.as_mut()?.reading()
    }

    /// `take`: what is next, after what is done with.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        take: impl Fn(&Context<'_>, Option<Box<Current>>) -> Taken,
    ) -> Poll<Pulled> {
        let mut limit = MAX_STREAK;
        loop {
            if self.streak >= limit {
                self.streak = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !std::mem::take(&mut self.is_refused)
                && let Some(current) = &mut self.current
            {
                match current.step(&self.unpacker, cx.waker()) {
                    Step::Record => return Poll::Ready(Pulled::Record),
                    Step::Batch => {
                        self.streak += 1;
                        limit = MIN_STREAK;
                        continue;
                    }
                    Step::Bad { offset, end, error } => {
                        let cursor = Arc::clone(current.cursor());
                        shared.deliver(|inbox| {
                            if let Some(new) = inbox.resume(cursor.id, offset) {
                                let (id, generation) = (new.id, new.generation);
                                inbox.tell(Command::Seek { id, generation, start: Start::Halted });
                            }
                        });
                        return Poll::Ready(Pulled::Error(unreadable(
                            &cursor.topic_partition,
                            offset,
                            Some(end),
                            error,
                        )));
                    }
                    Step::Waiting => {
                        self.streak = 0;
                        return Poll::Pending;
                    }
                    Step::Done => {}
                }
            }
            let pulled = match take(cx, self.current.take()) {
                Taken::Current(current) => {
                    self.current = Some(current);
                    continue;
                }
                Taken::Error(error) => return Poll::Ready(Pulled::Error(error)),
                Taken::Closed => return Poll::Ready(Pulled::Closed),
                // Ready at once, every time: a loop that goes on after these must not starve its neighbours.
                Taken::Unassigned | Taken::Ended if self.streak == 0 => {
                    self.streak = 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Taken::Unassigned => Pulled::Unassigned,
                Taken::Ended => Pulled::Ended,
                Taken::Nothing => Pulled::Nothing,
            };
            self.streak = 0;
            return Poll::Ready(pulled);
        }
    }
}
