//! Telling the user what a rebalance does.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::consumer::handle::ConsumerHandle;
use crate::error::TopicPartition;

/// What a method of [`RebalanceListener`] returns: `Box::pin(async move { … })`.
pub type Rebalancing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Is told when partitions come and go, and may take its time over it. (Java: `ConsumerRebalanceListener`.)
///
/// Its methods never overlap, and the group waits for them: heartbeats go on meanwhile, and so do records of partitions
/// that stay, but a change that takes longer than [`max_poll_interval`](crate::ConsumerBuilder::max_poll_interval) costs the
/// membership. They run on a task of the client's runtime, so they must not block; a panic counts as a return. The handle is
/// the consumer's: a listener may commit, seek, pause and ask for offsets.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
/// # let cluster = milena::mock::MockCluster::start().await;
/// # cluster.create_topic("orders", 2);
/// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
/// # client.producer().build()?.send(milena::Record::to("orders").partition(0).value("x")).await?;
/// use milena::{ConsumerHandle, Position, RebalanceListener, Rebalancing, TopicPartition};
///
/// struct FromTheBeginning;
///
/// impl RebalanceListener for FromTheBeginning {
///     fn assigned<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
///         Box::pin(async move {
///             for partition in partitions {
///                 // Before anything of it was fetched: this is where it starts.
///                 let _ = consumer.seek(partition, Position::Beginning);
///             }
///         })
///     }
/// }
///
/// let builder = client.consumer().group("billing").subscribe(["orders"]);
/// let mut consumer = builder.rebalance_listener(FromTheBeginning).build()?;
/// assert_eq!(consumer.recv().await?.offset(), 0);
/// consumer.close().await?;
/// # Ok(()) }
/// ```
pub trait RebalanceListener: Send + Sync + 'static {
    /// These are this consumer's now, on top of what it has; nothing of them was fetched yet, so a
    /// [`seek`](ConsumerHandle::seek) here is where they start. Without one they start where the group has committed. Called
    /// at the end of each rebalance, with an empty list if it brought nothing.
    fn assigned<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// These go to others when this returns. All that was handed out of them has been dealt with, or the caller has been
    /// back at least; nothing more of them comes. What auto-commit commits it has committed; the listener may commit more, by
    /// [`commit_offsets`](ConsumerHandle::commit_offsets), as the partitions are not assigned any more.
    fn revoked<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        let _ = (consumer, partitions);
        Box::pin(std::future::ready(()))
    }

    /// These are others' already: the membership was lost, or the consumer dropped. They cannot be committed any more.
    /// Without a method of its own, what [`revoked`](Self::revoked) does, as in Java.
    fn lost<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        self.revoked(consumer, partitions)
    }
}

/// What happened to the partitions of a member of a group: from [`RebalanceEvents`], after the listener has returned, if
/// there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebalanceEvent {
    /// Given to this consumer, on top of what it has. Ends every rebalance, also one that brought nothing.
    Assigned(Vec<TopicPartition>),
    /// Given back.
    Revoked(Vec<TopicPartition>),
    /// Gone: the membership was lost.
    Lost(Vec<TopicPartition>),
}

impl RebalanceEvent {
    /// The partitions that it is about.
    pub fn partitions(&self) -> &[TopicPartition] {
        match self {
            Self::Assigned(partitions) | Self::Revoked(partitions) | Self::Lost(partitions) => partitions,
        }
    }
}

/// What rebalances do, as a stream: from [`ConsumerHandle::rebalance_events`]. It ends with the consumer.
#[derive(Debug)]
pub struct RebalanceEvents(mpsc::UnboundedReceiver<RebalanceEvent>);

impl RebalanceEvents {
    /// The next one; none when the consumer is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<RebalanceEvent> {
        self.0.recv().await
    }
}

impl Stream for RebalanceEvents {
    type Item = RebalanceEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RebalanceEvent>> {
        self.0.poll_recv(cx)
    }
}

/// Those who hear of rebalances by events.
#[derive(Debug, Default)]
pub struct Audience(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    assigned: BTreeSet<TopicPartition>,
    listeners: Vec<mpsc::UnboundedSender<RebalanceEvent>>,
}

impl Audience {
    /// Who comes late is told first of what was assigned by then.
    pub fn join(&self) -> RebalanceEvents {
        let (sender, events) = mpsc::unbounded_channel();
        let mut told = self.lock();
        if !told.assigned.is_empty() {
            let _ = sender.send(RebalanceEvent::Assigned(told.assigned.iter().cloned().collect()));
        }
        told.listeners.push(sender);
        RebalanceEvents(events)
    }

    pub fn tell(&self, event: &RebalanceEvent) {
        let mut told = self.lock();
        match event {
            RebalanceEvent::Assigned(added) => told.assigned.extend(added.iter().cloned()),
            RebalanceEvent::Revoked(gone) | RebalanceEvent::Lost(gone) => {
                gone.iter().for_each(|partition| _ = told.assigned.remove(partition));
            }
        }
        told.listeners.retain(|to| to.send(event.clone()).is_ok());
    }

    /// There will be no more.
    pub fn dismiss(&self) {
        self.lock().listeners.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
