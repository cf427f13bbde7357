//! What a test does to a cluster.

use std::sync::Arc;

use super::MockCluster;
use super::batch::Batch;
use super::broker::Broker;
use super::fault::{Fault, FaultHandle, When};
use super::link::Link;
use super::partition::Partition;
use super::state::State;
use super::topic::Topic;

/// Topics.
impl MockCluster {
    /// Creates a topic, with three replicas or as many as there are brokers. Leaders go round the brokers.
    ///
    /// # Panics
    /// If there is one of this name, Kafka does not allow the name, or no broker runs.
    pub fn create_topic(&self, name: &str, partitions: usize) {
        assert!(partitions >= 1, "a topic has at least one partition");
        let mut state = self.shared.state();
        assert!(state.live().next().is_some(), "no broker runs");
        if let Err(refusal) = state.check_new(name) {
            drop(state);
            panic!("the topic {name} cannot be created: {}", refusal.message);
        }
        let replicas = state.spread_new(partitions, state.replication_default());
        let config = state.new_config();
        state.create(name, replicas, config);
    }

    /// Deletes a topic with its records and the offsets committed for it. A topic that is created again has another id.
    pub fn delete_topic(&self, name: &str) {
        let deleted = self.shared.state().delete(name);
        assert!(deleted, "there is no topic {name}");
    }

    /// Gives a topic more partitions, up to `count`.
    ///
    /// # Panics
    /// If it has as many already, or no broker runs.
    pub fn grow_topic(&self, name: &str, count: usize) {
        let mut state = self.shared.state();
        assert!(state.live().next().is_some(), "no broker runs");
        let now = topic_mut(&mut state, name).partitions.len();
        assert!(now < count, "the topic {name} has {now} partitions");
        let replicas = state.spread(now, count - now, state.replication_default(), 0);
        topic_mut(&mut state, name).grow(replicas);
    }

    /// Sets a topic's configuration, by Kafka's names. The mock acts on
    ///
    /// - `max.message.bytes`, `segment.bytes` (a batch must fit into a segment), `compression.type`;
    /// - `message.timestamp.type`, `message.timestamp.before.max.ms`, `message.timestamp.after.max.ms`, and
    ///   `message.timestamp.difference.max.ms` of older releases;
    /// - `min.insync.replicas`, `unclean.leader.election.enable`;
    /// - `cleanup.policy` (a compacted topic takes no record without a key), `retention.bytes` (at each produce),
    ///   `retention.ms` (with [`apply_retention`](Self::apply_retention)), `min.compaction.lag.ms` and
    ///   `delete.retention.ms` (with [`compact`](Self::compact)).
    ///
    /// The others are known, checked and described, and that is all.
    ///
    /// # Panics
    /// If Kafka has no such setting, or not with such a value.
    ///
    /// ```
    /// # use milena::mock::MockCluster;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let cluster = MockCluster::start().await;
    /// cluster.create_topic("orders", 1);
    /// cluster.set_topic_config("orders", "message.timestamp.type", "LogAppendTime");
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn set_topic_config(&self, topic: &str, name: &str, value: &str) {
        let mut state = self.shared.state();
        let set = topic_mut(&mut state, topic).config.set(name, value);
        state.configured(topic);
        drop(state);
        if let Err(unfit) = set {
            panic!("the topic {topic} cannot be configured so: {}", unfit.message);
        }
    }

    /// Appends a batch to a partition's log without a look at its records: what a damaged disk holds, or a broker sends
    /// that means harm. Its offsets, leader epoch and CRC are made right.
    ///
    /// # Panics
    /// If it is shorter than a batch's header.
    pub fn append_unchecked(&self, topic: &str, partition: i32, batch: &[u8]) {
        let batch = Batch::unchecked(batch).unwrap_or_else(|| panic!("{} bytes are no batch", batch.len()));
        let appended = self.with_partition(topic, partition, |partition| partition.append(batch, false));
        if let Err(rejection) = appended {
            panic!("the log of {topic}-{partition} does not take the batch: {}", rejection.message);
        }
    }

    /// Drops the records of a partition from `offset` on, in whole batches, under a new leader epoch: what happens when
    /// a replica that lags behind becomes the leader. Sequences of idempotent producers go back with them.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) {
        self.with_partition(topic, partition, |partition| {
            partition.truncate(offset);
        });
    }

    /// Moves the start of a partition's log up to `offset`, as retention and DeleteRecords do; no further than the high
    /// watermark.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        self.with_partition(topic, partition, |partition| partition.delete_before(offset));
    }

    /// Makes every partition forget all producer ids, as brokers do with those that were idle for long
    /// (`producer.id.expiration.ms`). Their next batches are taken as the first, whatever their sequence numbers.
    pub fn expire_producers(&self) {
        self.shared.state().each_partition(|partition| partition.log.forget_producers());
    }
}

/// Brokers.
impl MockCluster {
    /// Stops a broker as `kill -9` does: its port and its connections are closed when this returns, wherever its
    /// requests were. Its partitions get other leaders among the replicas that live, and its groups another
    /// coordinator. Nothing if it is stopped.
    pub async fn stop_broker(&self, broker: i32) {
        let broker = self.broker(broker);
        broker.stop().await;
        self.shared.state().set_live(broker.id, false);
    }

    /// Adds a broker, and gives its id: one more than the largest. It accepts connections when this returns, is no replica
    /// of what there is, and takes its turn with partitions that are created from then on.
    ///
    /// ```
    /// # use milena::mock::MockCluster;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let cluster = MockCluster::start().await;
    /// cluster.create_topic("orders", 1);
    /// let added = cluster.add_broker().await;
    /// cluster.move_leader("orders", 0, added);
    /// assert_eq!((added, cluster.leader("orders", 0)), (2, Some(2)));
    /// # cluster.close().await;
    /// # }
    /// ```
    ///
    /// # Panics
    /// If no port can be bound.
    pub async fn add_broker(&self) -> i32 {
        let id = self.shared.brokers().last().map_or(1, |broker| broker.id + 1);
        let (broker, listener) = self.place(id).await;
        broker.start();
        self.shared.add_broker(broker);
        self.shared.state().add_broker(id);
        if let Some(listener) = listener {
            self.shared.listen(id, listener);
        }
        id
    }

    /// Shuts a broker down in order, as SIGTERM does: its partitions get other leaders first, it finishes the requests
    /// that it is handling, for half a second at most, and closes its connections and its port. Nothing if it is stopped.
    pub async fn shut_down_broker(&self, broker: i32) {
        let broker = self.broker(broker);
        self.shared.state().set_live(broker.id, false);
        broker.drain();
        self.shared.runtime.wait_at_most(DRAIN, broker.drained()).await;
        broker.stop().await;
    }

    /// Starts a stopped broker, at the same address. It leads the partitions that had no leader. Nothing if it runs.
    ///
    /// # Panics
    /// If its port was taken meanwhile.
    pub async fn start_broker(&self, broker: i32) {
        let broker = self.broker(broker);
        if !self.shared.state().is_live(broker.id) {
            broker.set_hung(false);
            self.open(&broker).await;
            self.shared.state().set_live(broker.id, true);
        }
    }

    /// Makes a broker accept and read, but neither handle nor answer, as a process that is stopped by SIGSTOP. It keeps
    /// its leaderships.
    pub fn hang_broker(&self, broker: i32) {
        self.broker(broker).set_hung(true);
    }

    /// Lets a hung broker go on, with the requests that it has read meanwhile.
    pub fn resume_broker(&self, broker: i32) {
        self.broker(broker).set_hung(false);
    }

    /// Makes a broker the leader of a partition, in a new leader epoch, and a replica if it was none. The brokers
    /// answer according to it at once. What a follower lacks that was [held back](Self::hold_follower) is lost, also to
    /// the other replicas.
    ///
    /// # Panics
    /// If the broker is stopped.
    pub fn move_leader(&self, topic: &str, partition: i32, broker: i32) {
        assert!(self.shared.state().is_live(self.broker(broker).id), "broker {broker} is stopped");
        self.with_partition(topic, partition, |partition| {
            partition.add_replica(broker);
            if partition.leader != Some(broker) {
                partition.elect(broker);
            }
        });
        self.catch_up(topic, partition);
    }

    /// Makes a broker the coordinator of a group; its offsets stay, and its members if it was stable. A rebalance that
    /// was under way is forgotten, as at a real broker, and those who wait for it hear NOT_COORDINATOR.
    pub fn move_coordinator(&self, group: &str, broker: i32) {
        let broker = self.broker(broker).id;
        let mut state = self.shared.state();
        state.coordinators.insert(group.to_owned(), broker);
        state.settle_groups();
    }

    /// Makes a broker the controller.
    pub fn move_controller(&self, broker: i32) {
        self.shared.state().controller = self.broker(broker).id;
    }

    /// Makes every broker forget all fetch sessions, as if others had needed the slots.
    pub fn evict_fetch_sessions(&self) {
        self.shared.state().sessions.values_mut().for_each(|sessions| sessions.clear());
    }

    fn broker(&self, id: i32) -> Arc<Broker> {
        let found = self.shared.broker(id);
        found.unwrap_or_else(|| panic!("there is no broker {id}, but 1 to {}", self.shared.brokers().len()))
    }
}

/// The network.
impl MockCluster {
    /// Sets the latency and bandwidth between all clients and a broker, also for connections that are open: from the next
    /// bytes on. What is under way keeps its time. Works in memory on paused time, and over TCP, where it comes on top.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use milena::mock::{Link, MockCluster};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::builder().brokers(3).start().await;
    /// cluster.set_link(2, Link::new().latency(Duration::from_millis(50)));
    /// // … broker 2 is far away …
    /// cluster.set_link(2, Link::new());
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn set_link(&self, broker: i32, link: Link) {
        self.shared.links.set(self.broker(broker).id, None, link);
    }

    /// As [`set_link`](Self::set_link), for one client, known by the client id of its requests; it goes before what is
    /// set for all. On a new connection it holds from the first request on.
    pub fn set_client_link(&self, client_id: &str, broker: i32, link: Link) {
        self.shared.links.set(self.broker(broker).id, Some(client_id), link);
    }
}

/// Faults.
impl MockCluster {
    /// Puts a fault in place, until it is used up, removed by its handle, or [cleared](Self::clear_faults).
    ///
    /// ```
    /// use milena::mock::{Api, Fault, MockCluster, When};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::start().await;
    /// let lost = cluster.inject(When::api(Api::Produce).nth(2), Fault::lose_answer());
    /// // … the second produce request is applied, and its acknowledgement lost …
    /// assert_eq!(lost.struck(), 0);
    /// lost.remove();
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn inject(&self, when: When, fault: Fault) -> FaultHandle {
        self.shared.faults.inject(when, fault, || self.shared.state().sketch())
    }

    /// Removes all faults. Requests that were stalled go on.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// The faults that have struck no request, of those in place and those that were taken away: a test that means to
    /// show how its code stands a fault can see that there was one.
    ///
    /// ```
    /// use milena::mock::{Api, Fault, MockCluster, When};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let cluster = MockCluster::start().await;
    /// cluster.inject(When::api(Api::Produce).topic("ordres"), Fault::close());
    /// // … a test of the topic `orders` …
    /// assert_eq!(cluster.unused_faults().len(), 1);
    /// # cluster.close().await;
    /// # }
    /// ```
    pub fn unused_faults(&self) -> Vec<FaultHandle> {
        self.shared.faults.unused()
    }
}

impl MockCluster {
    pub(super) fn with_topic<T>(&self, name: &str, act: impl FnOnce(&mut Topic) -> T) -> T {
        let mut state = self.shared.state();
        let acted = state.topic_mut(name).map(act);
        drop(state);
        acted.unwrap_or_else(|| panic!("there is no topic {name}"))
    }

    pub(super) fn with_partition<T>(&self, topic: &str, index: i32, act: impl FnOnce(&mut Partition) -> T) -> T {
        let mut state = self.shared.state();
        let acted = state.partition_mut(topic, index).map(act);
        drop(state);
        acted.unwrap_or_else(|| panic!("there is no partition {topic}-{index}"))
    }
}

/// How long a broker that is shut down waits for what it is handling.
const DRAIN: std::time::Duration = std::time::Duration::from_millis(500);

fn topic_mut<'a>(state: &'a mut State, name: &str) -> &'a mut Topic {
    state.topic_mut(name).unwrap_or_else(|| panic!("there is no topic {name}"))
}
