//! What a test does to the replicas of a partition: holding them back, and letting them go.

use std::collections::BTreeSet;

use super::MockCluster;

/// Replication. Followers copy what their leader has at once, unless a test holds them back. A broker that is stopped
/// falls behind too, and out of the replicas that are in sync: only one that is in sync becomes the leader, unless
/// `unclean.leader.election.enable` is set.
///
/// ```
/// use milena::mock::MockCluster;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cluster = MockCluster::builder().brokers(2).start().await;
/// cluster.create_topic("orders", 1);
/// let leader = cluster.leader("orders", 0).unwrap();
/// let follower = 3 - leader;
/// // From now on a produce with acks=all waits, until it times out …
/// cluster.hold_follower("orders", 0, follower);
/// // … or its records are in the log of the leader alone …
/// cluster.drop_from_isr("orders", 0, follower);
/// assert_eq!(cluster.in_sync_replicas("orders", 0), [leader]);
/// // … and are lost with it:
/// cluster.move_leader("orders", 0, follower);
/// # cluster.close().await;
/// # }
/// ```
impl MockCluster {
    /// Holds back a follower: it copies nothing from its leader any more. It stays in sync, so the high watermark stays
    /// where it is, consumers see nothing new, and a produce with `acks=all` waits. A leader of its own partition has
    /// what it was held at, and no more.
    ///
    /// A real leader loses patience after `replica.lag.time.max.ms`; this one when a test says so, with
    /// [`drop_from_isr`](Self::drop_from_isr).
    ///
    /// # Panics
    /// If the broker is no follower of this partition.
    pub fn hold_follower(&self, topic: &str, partition: i32, follower: i32) {
        self.with_follower(topic, partition, follower, |partition| partition.hold(follower));
    }

    /// Takes a follower out of the replicas that are in sync, and holds it back. The high watermark no longer waits for
    /// it. If fewer are left than `min.insync.replicas`, produce requests with `acks=all` fail.
    ///
    /// # Panics
    /// If the broker is no follower of this partition.
    pub fn drop_from_isr(&self, topic: &str, partition: i32, follower: i32) {
        self.with_follower(topic, partition, follower, |partition| partition.drop_from_in_sync(follower));
    }

    /// Lets a follower go on that was held back. It has everything at once, and is in sync.
    ///
    /// # Panics
    /// If the broker is no follower of this partition.
    pub fn release_follower(&self, topic: &str, partition: i32, follower: i32) {
        let live = self.live();
        self.with_follower(topic, partition, follower, |partition| partition.release(follower, &live));
    }

    /// Keeps the high watermark of a partition where it is, whatever its replicas have: also that of a partition with
    /// one replica alone.
    pub fn hold_high_watermark(&self, topic: &str, partition: i32) {
        self.with_partition(topic, partition, |partition| partition.hold_high_watermark(true));
    }

    /// Lets the high watermark of a partition go to where it belongs.
    pub fn release_high_watermark(&self, topic: &str, partition: i32) {
        self.with_partition(topic, partition, |partition| partition.hold_high_watermark(false));
    }

    /// After a change of leader: who is able to catches up.
    pub(super) fn catch_up(&self, topic: &str, partition: i32) {
        let live = self.live();
        self.with_partition(topic, partition, |partition| partition.catch_up(&live));
    }

    fn live(&self) -> BTreeSet<i32> {
        self.shared.state().live().collect()
    }

    fn with_follower(
        &self,
        topic: &str,
        index: i32,
        follower: i32,
        act: impl FnOnce(&mut super::partition::Partition),
    ) {
        let acted = self.with_partition(topic, index, |partition| {
            let follows = partition.replicas.contains(&follower) && partition.leader != Some(follower);
            if follows {
                act(partition);
            }
            follows
        });
        assert!(acted, "broker {follower} does not follow the leader of {topic}-{index}");
    }
}
