//! What makes a consumer a member of its group: subscribing, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::group::{GroupMetadata, RebalanceEvents, Subscription};
use super::handle::ConsumerHandle;
use super::manager::Command;
use super::shared::Shared;
use crate::error::{Error, TopicPartition};
use crate::machine::credit::PartitionId;
use crate::machine::offsets::Start;

/// # Groups
impl ConsumerHandle {
    /// Becomes a member of the [`group`](super::ConsumerBuilder::group), and reads its share of these topics from now on;
    /// of other topics no more. Topics that do not exist yet are read once they do. An empty list is
    /// [`unsubscribe`](Self::unsubscribe). (Java: `subscribe`.)
    ///
    /// Returns at once: the group is joined in the background. What goes wrong there is reported by
    /// [`recv`](super::Consumer::recv).
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group, for a topic without a name, and while partitions are
    /// [assigned](Self::assign) by hand; [`ErrorKind::Closed`](crate::ErrorKind::Closed) when the consumer is gone. Nothing has
    /// changed then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # client.producer().build()?.send(milena::Record::to("orders").value("created")).await?;
    /// use milena::OffsetReset;
    ///
    /// let mut consumer = client.consumer().group("billing").auto_offset_reset(OffsetReset::Earliest).build()?;
    /// consumer.subscribe(["orders"])?;
    /// assert_eq!(consumer.recv().await?.value(), Some(&b"created"[..]));
    /// assert_eq!(consumer.assignment().len(), 3);
    /// consumer.close().await?;
    /// # Ok(()) }
    /// ```
    pub fn subscribe<T: Into<Arc<str>>>(&self, topics: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let topics: BTreeSet<Arc<str>> = topics.into_iter().map(Into::into).collect();
        if topics.is_empty() {
            self.unsubscribe();
            return Ok(());
        }
        self.set_subscription(Subscription::topics(topics)?)
    }

    /// The same for every topic whose whole name matches a regular expression, also those that are made later: they are found
    /// when the list of topics is asked for again, every [`metadata_max_age`](crate::ClientBuilder::metadata_max_age).
    /// Internal topics match none. By [`GroupProtocol::Consumer`](super::GroupProtocol) the broker matches, in RE2's syntax.
    /// (Java: `subscribe(Pattern)`, `subscribe(SubscriptionPattern)`.)
    ///
    /// # Errors
    /// As for [`subscribe`](Self::subscribe), and [`ErrorKind::Config`](crate::ErrorKind::Config) for what is no regular
    /// expression.
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<(), Error> {
        self.set_subscription(Subscription::pattern(pattern)?)
    }

    /// Gives back all partitions, and leaves the group, in the background. What was handed out counts as dealt with, and is
    /// committed if [`auto_commit`](super::ConsumerBuilder::auto_commit) is on. Partitions that are assigned by hand are
    /// unassigned. (Java: `unsubscribe`.)
    pub fn unsubscribe(&self) {
        let mut settled = BTreeMap::new();
        let was_subscribed = self.shared.deliver(|inbox| {
            inbox.settle();
            settled = inbox.settled();
            std::mem::take(&mut inbox.is_subscribed)
        });
        let all = self.assignment();
        // Nothing is added, so nothing can be wrong.
        let _ = self.reassign(Vec::new(), &all);
        if let (true, Some(group)) = (was_subscribed, &self.group) {
            group.subscribe(self, None, settled);
        }
    }

    /// The topics that are subscribed to, by name. Empty for a pattern, for partitions that are assigned by hand, and for none.
    /// (Java: `subscription`.)
    pub fn subscription(&self) -> Vec<Arc<str>> {
        match self.group.as_ref().and_then(|group| group.subscription()) {
            Some(Subscription::Topics(topics)) => topics.into_iter().collect(),
            Some(Subscription::Pattern(_)) | None => Vec::new(),
        }
    }

    /// Who this consumer is in its group: what a transaction that commits its offsets has to say. None without a group.
    /// (Java: `groupMetadata`.)
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.group.as_ref().map(|group| group.metadata())
    }

    /// What rebalances do from now on, as a stream: for those who would rather not be called back. It begins with what is
    /// assigned already, if that is anything. What it tells has happened; who must act before partitions go needs a
    /// [`rebalance_listener`](super::ConsumerBuilder::rebalance_listener). Events that are not taken are kept.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) without a group.
    pub fn rebalance_events(&self) -> Result<RebalanceEvents, Error> {
        Ok(self.group()?.audience.join())
    }

    /// Keeps partitions from being taken away for as long as the guard lives: while work on what they brought goes on
    /// elsewhere, where coming back for more does not say that it is done.
    ///
    /// A rebalance that wants some back stops handing out of these, and waits for the caller to come back and for all guards
    /// to be dropped; partitions that stay flow on. It does not wait for longer than
    /// [`max_poll_interval`](super::ConsumerBuilder::max_poll_interval): then the membership is lost, guard or not. Closing
    /// does not wait for guards.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # cluster.create_topic("orders", 3);
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # client.producer().build()?.send(milena::Record::to("orders").value("created")).await?;
    /// use milena::OffsetReset;
    ///
    /// let builder = client.consumer().group("billing").subscribe(["orders"]).auto_offset_reset(OffsetReset::Earliest);
    /// let mut consumer = builder.build()?;
    /// let record = consumer.recv().await?;
    /// let (guard, handle) = (consumer.hold_rebalance(), consumer.handle());
    /// let work = tokio::spawn(async move {
    ///     println!("{:?}", record.value());
    ///     handle.mark(&record);
    ///     drop(guard);
    /// });
    /// # work.await.unwrap();
    /// # Ok(()) }
    /// ```
    pub fn hold_rebalance(&self) -> RebalanceGuard {
        self.shared.lock().hands.guard();
        RebalanceGuard(Arc::clone(&self.shared))
    }

    pub(super) fn set_subscription(&self, subscription: Subscription) -> Result<(), Error> {
        let group = self.group.as_ref().ok_or_else(|| {
            Error::config(
                "a subscription needs a group to share the topics with: name one with ConsumerBuilder::group(..)",
            )
        })?;
        self.shared.deliver(|inbox| {
            if inbox.is_closed() {
                return Err(Error::closed("consumer"));
            }
            if !inbox.is_subscribed && inbox.assignment().next().is_some() {
                let message = "partitions are assigned by hand: unsubscribe, which unassigns them, before subscribing";
                return Err(Error::config(message));
            }
            inbox.is_subscribed = true;
            Ok(())
        })?;
        group.subscribe(self, Some(subscription), BTreeMap::new());
        Ok(())
    }

    /// What the group gave to this member; fetched once it is [released](super::shared::Inbox::release), if it is to wait for
    /// that.
    pub(super) fn take_on(
        &self,
        wanted: Vec<(TopicPartition, Start)>,
        waits: bool,
    ) -> Vec<(TopicPartition, PartitionId)> {
        self.shared.deliver(|inbox| {
            // Unsubscribed meanwhile: the group's task is about to hear of it.
            if inbox.is_closed() || !inbox.is_subscribed {
                return Vec::new();
            }
            let mut ids = Vec::with_capacity(wanted.len());
            for (tp, start) in wanted {
                if inbox.cursor(&tp).is_some() {
                    continue;
                }
                let cursor = inbox.add(tp.clone());
                self.core.metadata.hold(&tp.topic, self.auto_create);
                inbox.stage(cursor.id, start);
                ids.push((tp, cursor.id));
            }
            inbox.reassigned();
            if !waits {
                ids.iter().for_each(|(_, id)| inbox.release(*id));
            }
            ids
        })
    }

    /// What the group has taken from this member.
    pub(super) fn take_away(&self, ids: &[PartitionId]) {
        self.shared.deliver(|inbox| {
            let gone: Vec<TopicPartition> =
                inbox.cursors().filter(|cursor| ids.contains(&cursor.id)).map(|c| c.topic_partition.clone()).collect();
            for tp in &gone {
                inbox.remove(tp);
                self.core.metadata.release(&tp.topic);
            }
            inbox.reassigned();
            inbox.tell(Command::Assign { added: Vec::new(), removed: ids.to_vec() });
        });
    }
}

/// Keeps partitions from being taken away while it lives: from [`ConsumerHandle::hold_rebalance`].
#[derive(Debug)]
#[must_use = "a rebalance is kept away only for as long as it lives"]
pub struct RebalanceGuard(Arc<Shared>);

impl Drop for RebalanceGuard {
    fn drop(&mut self) {
        self.0.lock().hands.unguard();
    }
}
