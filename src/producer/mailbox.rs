//! The way of messages to a leader's task: put in, and told of, in two steps.
//!
//! ```text
//!   caller   lock ─ record ─ put ─ unlock ─ ring ──┐
//!   task                                           └─▶ woken ─ lock ─ take the batch
//! ```
//! Whoever holds a partition's lock puts a message in before the lock is free, so that messages come in the order of what
//! they tell, and rings when it is: to wake a task on another thread takes as long as that one needs to come, and the lock is
//! the first thing that it asks for.

use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use atomic_waker::AtomicWaker;
use tokio::task::coop;

pub(super) struct Mailbox<T> {
    sender: Sender<T>,
    /// Behind the sender: rung by its drop, when nothing more can come.
    bell: Bell,
}

struct Bell(Arc<AtomicWaker>);

/// Where the messages come out. It has ended when the last [`Mailbox`] is gone.
pub(super) struct Inbox<T> {
    receiver: Receiver<T>,
    bell: Arc<AtomicWaker>,
}

pub(super) fn mailbox<T>() -> (Arc<Mailbox<T>>, Inbox<T>) {
    let (sender, receiver) = mpsc::channel();
    let bell = Arc::new(AtomicWaker::new());
    (Arc::new(Mailbox { sender, bell: Bell(Arc::clone(&bell)) }), Inbox { receiver, bell })
}

/// Somebody's way to a task that may be gone.
pub(super) type WeakMailbox<T> = Weak<Mailbox<T>>;

impl<T> Mailbox<T> {
    /// The task hears of it when somebody [rings](Self::ring). To one that is gone, nothing needs to be told.
    pub(super) fn put(&self, message: T) {
        let _ = self.sender.send(message);
    }

    pub(super) fn ring(&self) {
        self.bell.0.wake();
    }

    pub(super) fn send(&self, message: T) {
        self.put(message);
        self.ring();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl<T> Inbox<T> {
    /// Takes up to `most` messages; none means that none will come. Nothing is taken while it is pending.
    pub(super) fn poll_many(&mut self, cx: &mut Context<'_>, messages: &mut Vec<T>, most: usize) -> Poll<usize> {
        // A flood of messages must not keep the task from letting others run.
        let turn = ready!(coop::poll_proceed(cx));
        // First: whoever rings between the two is heard by one of them.
        self.bell.register(cx.waker());
        let before = messages.len();
        while messages.len() - before < most {
            match self.receiver.try_recv() {
                Ok(message) => messages.push(message),
                Err(TryRecvError::Empty) if messages.len() == before => return Poll::Pending,
                Err(_) => break,
            }
        }
        turn.made_progress();
        Poll::Ready(messages.len() - before)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Rig {
        count: Arc<Count>,
        inbox: Inbox<u32>,
    }

    impl Rig {
        fn poll(&mut self, most: usize) -> Poll<Vec<u32>> {
            let waker = Waker::from(Arc::clone(&self.count));
            let mut messages = Vec::new();
            let polled = self.inbox.poll_many(&mut Context::from_waker(&waker), &mut messages, most);
            polled.map(|count| {
                assert_eq!(count, messages.len());
                messages
            })
        }

        fn woken(&self) -> usize {
            self.count.0.load(Ordering::Relaxed)
        }
    }

    fn rig() -> (Arc<Mailbox<u32>>, Rig) {
        let (mailbox, inbox) = mailbox();
        (mailbox, Rig { count: Arc::default(), inbox })
    }

    #[test]
    fn who_puts_wakes_nobody_and_who_rings_wakes_once() {
        let (mailbox, mut rig) = rig();
        assert!(rig.poll(9).is_pending());
        mailbox.put(1);
        mailbox.put(2);
        assert_eq!(rig.woken(), 0);
        mailbox.ring();
        mailbox.ring();
        assert_eq!(rig.woken(), 1);
        assert_eq!(rig.poll(9), Poll::Ready(vec![1, 2]));
        assert!(rig.poll(9).is_pending());
        mailbox.send(3);
        assert_eq!(rig.woken(), 2);
        assert_eq!(rig.poll(9), Poll::Ready(vec![3]));
    }

    #[test]
    fn it_takes_so_many_at_once_and_loses_none() {
        let (mailbox, mut rig) = rig();
        (0..5).for_each(|message| mailbox.put(message));
        assert_eq!(rig.poll(2), Poll::Ready(vec![0, 1]));
        assert_eq!(rig.poll(3), Poll::Ready(vec![2, 3, 4]));
        assert!(rig.poll(1).is_pending());
    }

    #[test]
    fn it_ends_behind_the_last_message_when_the_last_mailbox_is_gone() {
        let (mailbox, mut rig) = rig();
        let (weak, second) = (Arc::downgrade(&mailbox), Arc::clone(&mailbox));
        assert!(rig.poll(9).is_pending());
        second.put(1);
        drop(mailbox);
        assert_eq!(rig.woken(), 0);
        drop(second);
        assert_eq!(rig.woken(), 1);
        assert_eq!(rig.poll(9), Poll::Ready(vec![1]));
        assert_eq!(rig.poll(9), Poll::Ready(vec![]));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn to_one_that_is_gone_nothing_is_told() {
        let (mailbox, rig) = rig();
        drop(rig);
        mailbox.send(1);
    }
}
