//! What handles know of their group: the way to its task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::commits::{Offsets, Reply};
use super::coordinator::Coordinated;
use super::driver::{Command, Driver};
use super::listener::Audience;
use super::settings::Settings;
use super::topics::Subscription;
use crate::consumer::commit::OffsetAndMetadata;
use crate::consumer::handle::ConsumerHandle;
use crate::error::{Error, TopicPartition};
use crate::machine::group::Identity;
use crate::net::Core;

/// Who a consumer is in its group: what a transaction that commits its offsets has to say. (Java: `ConsumerGroupMetadata`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The group.
    pub group_id: Arc<str>,
    /// The generation, or the member's epoch by KIP-848; -1 as long as it is not a member.
    pub generation_id: i32,
    /// As which the coordinator knows it; empty as long as it does not.
    pub member_id: Arc<str>,
    /// Of a static member.
    pub group_instance_id: Option<Arc<str>>,
}

/// A group: its offsets, and the membership if there is one.
pub struct Group {
    pub coordinated: Arc<Coordinated>,
    pub settings: Settings,
    pub audience: Audience,
    subscription: Mutex<Option<Subscription>>,
    identity: Mutex<Identity>,
    /// The identity is of KIP-848: what is committed may be asked for as that member.
    has_epoch: AtomicBool,
    last_rebalance: Mutex<Option<Instant>>,
    task: Mutex<Option<mpsc::UnboundedSender<Command>>>,
}

impl Group {
    pub fn new(id: Arc<str>, settings: Settings) -> Self {
        Self {
            coordinated: Arc::new(Coordinated::new(id)),
            settings,
            audience: Audience::default(),
            subscription: Mutex::default(),
            identity: Mutex::new(Identity { generation: -1, ..Identity::default() }),
            has_epoch: AtomicBool::new(false),
            last_rebalance: Mutex::default(),
            task: Mutex::default(),
        }
    }

    /// Starts the task, if it does not run yet.
    pub fn start(self: &Arc<Self>, handle: &ConsumerHandle) -> mpsc::UnboundedSender<Command> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.get_or_insert_with(|| Driver::start(handle, self)).clone()
    }

    fn tell(self: &Arc<Self>, handle: &ConsumerHandle, command: Command) {
        // Fails when the task has ended, with the runtime or the consumer, and takes its caller's channel along.
        let _ = self.start(handle).send(command);
    }

    /// Dropping the future leaves the commit in its place.
    pub async fn commit(self: &Arc<Self>, handle: &ConsumerHandle, offsets: Offsets) -> Result<(), Error> {
        let (reply, outcome) = oneshot::channel();
        self.tell(handle, Command::Commit { offsets, reply: Reply::Caller(reply) });
        outcome.await.unwrap_or_else(|_| Err(Error::closed("client")))
    }

    pub fn commit_later(self: &Arc<Self>, handle: &ConsumerHandle, offsets: Offsets) {
        self.tell(handle, Command::Commit { offsets, reply: Reply::Reader });
    }

    /// Reading goes on elsewhere in these.
    pub fn moved(&self, partitions: BTreeSet<TopicPartition>) {
        // Without a task nothing was committed yet.
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = task.send(Command::Moved(partitions));
        }
    }

    pub async fn committed(
        &self,
        core: &Core,
        tps: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        // Whoever asks is told, member or not.
        self.coordinated.committed(core, tps, || None, |_| {}).await
    }

    /// To begin there: a member by KIP-848 asks under its epoch, so that one that the group has given up hears of that, and
    /// not of offsets that are others' by now.
    pub async fn beginnings(
        &self,
        core: &Core,
        tps: Vec<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        let doubt = |code| {
            if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
                // The consumer is gone otherwise, and so is the membership.
                let _ = task.send(Command::Doubt(code));
            }
        };
        self.coordinated.committed(core, tps, || self.epoch(), doubt).await
    }

    fn epoch(&self) -> Option<Identity> {
        let identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        (self.has_epoch.load(Ordering::Relaxed) && identity.generation > 0).then(|| identity.clone())
    }

    /// `settled`: dealt with of what is given back, if there is to be no subscription any more.
    pub fn subscribe(self: &Arc<Self>, handle: &ConsumerHandle, subscription: Option<Subscription>, settled: Offsets) {
        let mut known = self.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone_from(&subscription);
        // Under the lock, so that both have one order.
        self.tell(handle, Command::Subscribe(subscription, settled));
    }

    pub fn subscription(&self) -> Option<Subscription> {
        self.subscription.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the membership has ended, and what was to be committed is.
    pub async fn close(&self, leaves: Option<bool>) -> Result<(), Error> {
        let (done, closed) = oneshot::channel();
        let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return Ok(()) };
        // Gone with the runtime.
        let gone = || Error::closed("client");
        task.send(Command::Close { leaves, done }).map_err(|_| gone())?;
        closed.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The consumer was dropped.
    pub fn abandon(&self, settled: Offsets) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = task.send(Command::Abandon(settled));
        }
    }

    pub fn set_identity(&self, identity: Identity, has_epoch: bool) {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        *known = identity;
        self.has_epoch.store(has_epoch, Ordering::Relaxed);
    }

    pub fn rebalanced(&self, at: Instant) {
        *self.last_rebalance.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    pub fn last_rebalance(&self) -> Option<Instant> {
        *self.last_rebalance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn metadata(&self) -> GroupMetadata {
        let Identity { member_id, instance_id, generation } =
            self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
        GroupMetadata {
            group_id: Arc::clone(&self.coordinated.id),
            generation_id: generation,
            member_id,
            group_instance_id: instance_id.or_else(|| self.settings.instance_id.clone()),
        }
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.coordinated.id).finish_non_exhaustive()
    }
}
