//! The APIs that the mock serves, and the versions of each that a Kafka release offers.

use std::collections::BTreeMap;
use std::fmt;

use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiVersionsRequest,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    ElectLeadersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, SaslAuthenticateRequest, SaslHandshakeRequest, SyncGroupRequest,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Message, VersionRange};

use super::by_topic_id;

/// Declares [`Api`]: name, request type, and the highest version in each [`KafkaRelease`] (`-1`: not there yet).
macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $request:ty, $max:expr;)*) => {
        /// A request type of the Kafka protocol that the mock serves.
        ///
        /// ```
        /// use milena::mock::Api;
        ///
        /// assert_eq!(Api::from_key(3), Some(Api::Metadata));
        /// assert_eq!(Api::InitProducerId.key(), 22);
        /// assert_eq!(Api::Fetch.to_string(), "Fetch");
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Api {
            $($(#[$doc])* $name,)*
        }

        impl Api {
            /// Every API that the mock serves.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The key that stands for it on the wire.
            pub const fn key(self) -> i16 {
                match self {
                    $(Self::$name => $key,)*
                }
            }

            /// The API of a key, if the mock serves it.
            pub const fn from_key(key: i16) -> Option<Self> {
                match key {
                    $($key => Some(Self::$name),)*
                    _ => None,
                }
            }

            const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// What the mock can decode. (`ApiKey::valid_versions` promises more than `kafka-protocol` can.)
            fn decodable(self) -> VersionRange {
                let range = match self {
                    $(Self::$name => <$request as Message>::VERSIONS,)*
                };
                by_topic_id::extend(self, range)
            }

            const fn newest(self) -> [i16; KafkaRelease::COUNT] {
                match self {
                    $(Self::$name => $max,)*
                }
            }
        }
    };
}

apis! {
    /// Appends record batches.
    Produce = 0, ProduceRequest, [7, 9, 11, 12, 13];
    /// Reads record batches, waiting for them if told to.
    Fetch = 1, FetchRequest, [10, 12, 17, 17, 18];
    /// Looks up offsets by time, and the ends of a log.
    ListOffsets = 2, ListOffsetsRequest, [4, 6, 9, 10, 10];
    /// Describes brokers, topics and partition leaders.
    Metadata = 3, MetadataRequest, [7, 11, 12, 13, 13];
    /// Stores a group's offsets.
    OffsetCommit = 8, OffsetCommitRequest, [6, 8, 9, 9, 10];
    /// Reads a group's offsets.
    OffsetFetch = 9, OffsetFetchRequest, [5, 7, 9, 9, 10];
    /// Names the broker that coordinates a group.
    FindCoordinator = 10, FindCoordinatorRequest, [2, 3, 6, 6, 6];
    /// Joins a group, under the classic protocol.
    JoinGroup = 11, JoinGroupRequest, [3, 7, 9, 9, 9];
    /// Keeps a member in its group.
    Heartbeat = 12, HeartbeatRequest, [2, 4, 4, 4, 4];
    /// Takes members out of their group.
    LeaveGroup = 13, LeaveGroupRequest, [2, 4, 5, 5, 5];
    /// Brings a group's assignments from its leader to its members.
    SyncGroup = 14, SyncGroupRequest, [2, 5, 5, 5, 5];
    /// Picks how to authenticate.
    SaslHandshake = 17, SaslHandshakeRequest, [1, 1, 1, 1, 1];
    /// Lists APIs and their versions.
    ApiVersions = 18, ApiVersionsRequest, [2, 3, 4, 4, 4];
    /// Creates topics.
    CreateTopics = 19, CreateTopicsRequest, [3, 7, 7, 7, 7];
    /// Deletes topics.
    DeleteTopics = 20, DeleteTopicsRequest, [3, 6, 6, 6, 6];
    /// Hands out producer ids, for idempotence.
    InitProducerId = 22, InitProducerIdRequest, [1, 4, 5, 5, 5];
    /// Says where a leader epoch ended: how a consumer detects truncation.
    OffsetForLeaderEpoch = 23, OffsetForLeaderEpochRequest, [2, 4, 4, 4, 4];
    /// Adds partitions to a transaction.
    AddPartitionsToTxn = 24, AddPartitionsToTxnRequest, [1, 3, 5, 5, 5];
    /// Adds the offsets of a group to a transaction.
    AddOffsetsToTxn = 25, AddOffsetsToTxnRequest, [1, 3, 4, 4, 4];
    /// Commits or aborts a transaction.
    EndTxn = 26, EndTxnRequest, [1, 3, 4, 5, 5];
    /// Stores a group's offsets when a transaction commits.
    TxnOffsetCommit = 28, TxnOffsetCommitRequest, [2, 3, 4, 5, 5];
    /// Deletes the records of a partition below an offset.
    DeleteRecords = 21, DeleteRecordsRequest, [1, 2, 2, 2, 2];
    /// Describes what is configured on topics and brokers.
    DescribeConfigs = 32, DescribeConfigsRequest, [2, 4, 4, 4, 4];
    /// Configures topics and brokers anew.
    AlterConfigs = 33, AlterConfigsRequest, [1, 2, 2, 2, 2];
    /// Authenticates, one token each way.
    SaslAuthenticate = 36, SaslAuthenticateRequest, [0, 2, 2, 2, 2];
    /// Adds partitions to topics.
    CreatePartitions = 37, CreatePartitionsRequest, [1, 3, 3, 3, 3];
    /// Changes single settings of topics and brokers.
    IncrementalAlterConfigs = 44, IncrementalAlterConfigsRequest, [-1, 1, 1, 1, 1];
    /// Describes the cluster, without topics.
    DescribeCluster = 60, DescribeClusterRequest, [-1, 0, 1, 2, 2];
    /// Describes groups and their members.
    DescribeGroups = 15, DescribeGroupsRequest, [2, 5, 5, 6, 6];
    /// Lists the groups that a broker coordinates.
    ListGroups = 16, ListGroupsRequest, [2, 4, 5, 5, 5];
    /// Deletes groups that have no members.
    DeleteGroups = 42, DeleteGroupsRequest, [1, 2, 2, 2, 2];
    /// Deletes offsets of a group, for topics that it does not subscribe to.
    OffsetDelete = 47, OffsetDeleteRequest, [-1, 0, 0, 0, 0];
    /// Joins a group, stays in it and leaves it, under KIP-848. Brokers of 3.9 list it, and answer that they cannot.
    ConsumerGroupHeartbeat = 68, ConsumerGroupHeartbeatRequest, [-1, -1, 0, 1, 1];
    /// Describes groups and their members, under KIP-848.
    ConsumerGroupDescribe = 69, ConsumerGroupDescribeRequest, [-1, -1, 0, 1, 1];
    /// Describes how large the logs of a broker are.
    DescribeLogDirs = 35, DescribeLogDirsRequest, [1, 2, 4, 4, 4];
    /// Makes preferred replicas leaders, or any where there is no leader.
    ElectLeaders = 43, ElectLeadersRequest, [-1, 2, 2, 2, 2];
    /// Describes topics and their partitions, page by page.
    DescribeTopicPartitions = 75, DescribeTopicPartitionsRequest, [-1, -1, 0, 0, 0];
    /// Describes who writes to a partition, and whose transactions are open.
    DescribeProducers = 61, DescribeProducersRequest, [-1, 0, 0, 0, 0];
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Kafka release to stand for: it decides which versions of which APIs the brokers offer.
///
/// The default is the newest. Versions that `kafka-protocol` cannot encode are left out: InitProducerId v6.
///
/// ```
/// use milena::mock::{KafkaRelease, MockCluster};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let old = MockCluster::builder().release(KafkaRelease::V2_1).start().await;
/// # old.close().await;
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KafkaRelease {
    /// 2.1 (2018), the oldest that a 4.x client talks to (KIP-896).
    V2_1,
    /// 2.8 (2021): the first topic ids, controller still by ZooKeeper.
    V2_8,
    /// 3.9 (2024), the last with ZooKeeper.
    V3_9,
    /// 4.0 (2025): old versions removed, the new group protocol on.
    V4_0,
    /// 4.1 (2025): produce by topic id.
    #[default]
    V4_1,
}

impl KafkaRelease {
    const COUNT: usize = 5;

    const fn index(self) -> usize {
        match self {
            Self::V2_1 => 0,
            Self::V2_8 => 1,
            Self::V3_9 => 2,
            Self::V4_0 => 3,
            Self::V4_1 => 4,
        }
    }

    /// Every release, oldest first.
    pub const ALL: &'static [Self] = &[Self::V2_1, Self::V2_8, Self::V3_9, Self::V4_0, Self::V4_1];

    /// KIP-848 is on by default from 4.0 on.
    pub(super) fn has_consumer_groups(self) -> bool {
        self >= Self::V4_0
    }

    /// Before 3.0 (KIP-590), brokers did not forward what only the controller can do.
    pub(super) fn forwards_to_controller(self) -> bool {
        self > Self::V2_8
    }
}

/// Major and minor, as in `4.1`.
impl fmt::Display for KafkaRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_1 => "2.1",
            Self::V2_8 => "2.8",
            Self::V3_9 => "3.9",
            Self::V4_0 => "4.0",
            Self::V4_1 => "4.1",
        })
    }
}

/// The versions that brokers offer: a release, less what a test takes away.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    offered: BTreeMap<Api, VersionRange>,
}

impl Versions {
    pub(super) fn of(release: KafkaRelease) -> Self {
        let offered = Api::ALL.iter().filter_map(|&api| {
            let decodable = api.decodable();
            let range = VersionRange { min: decodable.min, max: decodable.max.min(api.newest()[release.index()]) };
            (!range.is_empty()).then_some((api, range))
        });
        Self { offered: offered.collect() }
    }

    pub(super) fn remove(&mut self, api: Api) {
        self.offered.remove(&api);
    }

    /// Offers `api` up to `max` at most; below its lowest version, not at all.
    pub(super) fn cap(&mut self, api: Api, max: i16) {
        if let Some(range) = self.offered.get_mut(&api) {
            range.max = range.max.min(max);
            if range.is_empty() {
                self.offered.remove(&api);
            }
        }
    }

    pub(super) fn contains(&self, api: Api, version: i16) -> bool {
        self.offered.get(&api).is_some_and(|range| (range.min..=range.max).contains(&version))
    }

    pub(super) fn range(&self, api: Api) -> Option<VersionRange> {
        self.offered.get(&api).copied()
    }

    /// What an ApiVersions response lists.
    pub(super) fn advertised(&self) -> impl Iterator<Item = (Api, VersionRange)> {
        self.offered.iter().map(|(&api, &range)| {
            // Every release, 4.x included, lists Produce from 0 and refuses 0 to 2: without it librdkafka takes the
            // broker for one that cannot do compression (KAFKA-18659).
            let min = if api == Api::Produce { 0 } else { range.min };
            (api, VersionRange { min, max: range.max })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_names_agree() {
        for &api in Api::ALL {
            assert_eq!(Api::from_key(api.key()), Some(api));
            assert_eq!(format!("{api:?}"), api.to_string());
        }
        assert_eq!(Api::from_key(7), None);
    }

    #[test]
    fn releases_grow() {
        let releases =
            [KafkaRelease::V2_1, KafkaRelease::V2_8, KafkaRelease::V3_9, KafkaRelease::V4_0, KafkaRelease::V4_1];
        assert_eq!(releases.len(), KafkaRelease::COUNT);
        for &api in Api::ALL {
            let newest = releases.map(|release| api.newest()[release.index()]);
            assert!(newest.is_sorted(), "{api}: {newest:?}");
            assert!(api.decodable().max <= newest[KafkaRelease::COUNT - 1], "{api}: decodable but not offered");
        }
    }

    #[test]
    fn apis_can_be_capped_and_taken_away() {
        let mut versions = Versions::of(KafkaRelease::V2_1);
        assert!(!versions.contains(Api::DescribeCluster, 0));
        assert!(versions.contains(Api::Produce, 7) && !versions.contains(Api::Produce, 8));
        versions.cap(Api::Produce, 5);
        versions.cap(Api::Fetch, 3);
        versions.remove(Api::InitProducerId);
        assert!(!versions.contains(Api::Produce, 6) && versions.contains(Api::Produce, 5));
        assert!(!versions.contains(Api::Fetch, 4) && !versions.contains(Api::InitProducerId, 0));
        let produce = versions.advertised().find(|(api, _)| *api == Api::Produce).unwrap().1;
        assert_eq!((produce.min, produce.max), (0, 5));
    }
}
