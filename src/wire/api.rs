//! The APIs of the protocol by key, and the versions that a connection may use.

use std::fmt;

use super::message::{Request, Versions};

/// The key of an API. Unknown keys survive: a newer broker lists more of them than we know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

macro_rules! keys {
    ($($name:ident = $key:literal;)*) => {
        impl ApiKey {
            $(pub const $name: Self = Self($key);)*

            pub const ALL: &'static [Self] = &[$(Self($key)),*];

            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($key => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

keys! {
    PRODUCE = 0;
    FETCH = 1;
    LIST_OFFSETS = 2;
    METADATA = 3;
    LEADER_AND_ISR = 4;
    STOP_REPLICA = 5;
    UPDATE_METADATA = 6;
    CONTROLLED_SHUTDOWN = 7;
    OFFSET_COMMIT = 8;
    OFFSET_FETCH = 9;
    FIND_COORDINATOR = 10;
    JOIN_GROUP = 11;
    HEARTBEAT = 12;
    LEAVE_GROUP = 13;
    SYNC_GROUP = 14;
    DESCRIBE_GROUPS = 15;
    LIST_GROUPS = 16;
    SASL_HANDSHAKE = 17;
    API_VERSIONS = 18;
    CREATE_TOPICS = 19;
    DELETE_TOPICS = 20;
    DELETE_RECORDS = 21;
    INIT_PRODUCER_ID = 22;
    OFFSET_FOR_LEADER_EPOCH = 23;
    ADD_PARTITIONS_TO_TXN = 24;
    ADD_OFFSETS_TO_TXN = 25;
    END_TXN = 26;
    WRITE_TXN_MARKERS = 27;
    TXN_OFFSET_COMMIT = 28;
    DESCRIBE_ACLS = 29;
    CREATE_ACLS = 30;
    DELETE_ACLS = 31;
    DESCRIBE_CONFIGS = 32;
    ALTER_CONFIGS = 33;
    ALTER_REPLICA_LOG_DIRS = 34;
    DESCRIBE_LOG_DIRS = 35;
    SASL_AUTHENTICATE = 36;
    CREATE_PARTITIONS = 37;
    CREATE_DELEGATION_TOKEN = 38;
    RENEW_DELEGATION_TOKEN = 39;
    EXPIRE_DELEGATION_TOKEN = 40;
    DESCRIBE_DELEGATION_TOKEN = 41;
    DELETE_GROUPS = 42;
    ELECT_LEADERS = 43;
    INCREMENTAL_ALTER_CONFIGS = 44;
    ALTER_PARTITION_REASSIGNMENTS = 45;
    LIST_PARTITION_REASSIGNMENTS = 46;
    OFFSET_DELETE = 47;
    DESCRIBE_CLIENT_QUOTAS = 48;
    ALTER_CLIENT_QUOTAS = 49;
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50;
    ALTER_USER_SCRAM_CREDENTIALS = 51;
    VOTE = 52;
    BEGIN_QUORUM_EPOCH = 53;
    END_QUORUM_EPOCH = 54;
    DESCRIBE_QUORUM = 55;
    ALTER_PARTITION = 56;
    UPDATE_FEATURES = 57;
    ENVELOPE = 58;
    FETCH_SNAPSHOT = 59;
    DESCRIBE_CLUSTER = 60;
    DESCRIBE_PRODUCERS = 61;
    BROKER_REGISTRATION = 62;
    BROKER_HEARTBEAT = 63;
    UNREGISTER_BROKER = 64;
    DESCRIBE_TRANSACTIONS = 65;
    LIST_TRANSACTIONS = 66;
    ALLOCATE_PRODUCER_IDS = 67;
    CONSUMER_GROUP_HEARTBEAT = 68;
    CONSUMER_GROUP_DESCRIBE = 69;
    CONTROLLER_REGISTRATION = 70;
    GET_TELEMETRY_SUBSCRIPTIONS = 71;
    PUSH_TELEMETRY = 72;
    ASSIGN_REPLICAS_TO_DIRS = 73;
    LIST_CONFIG_RESOURCES = 74;
    DESCRIBE_TOPIC_PARTITIONS = 75;
    SHARE_GROUP_HEARTBEAT = 76;
    SHARE_GROUP_DESCRIBE = 77;
    SHARE_FETCH = 78;
    SHARE_ACKNOWLEDGE = 79;
    ADD_RAFT_VOTER = 80;
    REMOVE_RAFT_VOTER = 81;
    UPDATE_RAFT_VOTER = 82;
    INITIALIZE_SHARE_GROUP_STATE = 83;
    READ_SHARE_GROUP_STATE = 84;
    WRITE_SHARE_GROUP_STATE = 85;
    DELETE_SHARE_GROUP_STATE = 86;
    READ_SHARE_GROUP_STATE_SUMMARY = 87;
    STREAMS_GROUP_HEARTBEAT = 88;
    STREAMS_GROUP_DESCRIBE = 89;
    DESCRIBE_SHARE_GROUP_OFFSETS = 90;
    ALTER_SHARE_GROUP_OFFSETS = 91;
    DELETE_SHARE_GROUP_OFFSETS = 92;
    STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE = 93;
    UNREGISTER_CONTROLLER = 94;
}

impl fmt::Display for ApiKey {
    /// Kafka's name in the form of its documentation: `InitProducerId`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.name() else {
            return write!(f, "API {}", self.0);
        };
        name.split('_').try_for_each(|word| {
            let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
            write!(f, "{first}{}", rest.to_ascii_lowercase())
        })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The versions that one broker offers, as its ApiVersions answer listed them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerVersions {
    /// Ascending by key, one entry each.
    offered: Vec<(ApiKey, Versions)>,
}

/// A broker that does not speak any version of an API that both sides know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct UnsupportedApi {
    pub api: ApiKey,
    /// The versions of ours that would have done.
    pub ours: Versions,
    /// What the broker offers; `None`: it does not know the API.
    pub broker: Option<Versions>,
}

impl fmt::Display for UnsupportedApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { api, ours, broker } = self;
        match broker {
            Some(broker) => write!(f, "the broker offers {api} in versions {broker}, and this request needs {ours}"),
            None => write!(f, "the broker does not offer {api} (this request needs versions {ours})"),
        }
    }
}

impl BrokerVersions {
    /// Duplicates and inverted ranges are a hostile broker's: the first sane entry of a key counts.
    pub fn new(offered: impl IntoIterator<Item = (ApiKey, Versions)>) -> Self {
        let mut offered: Vec<_> = offered.into_iter().filter(|(_, v)| 0 <= v.first && v.first <= v.last).collect();
        offered.sort_by_key(|(key, _)| *key);
        offered.dedup_by_key(|(key, _)| *key);
        Self { offered }
    }

    pub fn offered(&self, api: ApiKey) -> Option<Versions> {
        let at = self.offered.binary_search_by_key(&api, |(key, _)| *key).ok()?;
        self.offered.get(at).map(|(_, versions)| *versions)
    }

    /// The newest version that both sides know, by intersection: never "version == n" (librdkafka#4948 broke so).
    pub fn pick(&self, api: ApiKey, ours: Versions) -> Result<i16, UnsupportedApi> {
        let broker = self.offered(api);
        let both = broker.and_then(|broker| broker.intersection(ours));
        both.map(|both| both.last).ok_or(UnsupportedApi { api, ours, broker })
    }

    /// [`Self::pick`] for a request type.
    pub fn pick_for<R: Request>(&self) -> Result<i16, UnsupportedApi> {
        self.pick(R::API, R::VERSIONS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(first: i16, last: i16) -> Versions {
        Versions { first, last }
    }

    #[test]
    fn names_print_as_kafka_writes_them() {
        assert_eq!(ApiKey::INIT_PRODUCER_ID.to_string(), "InitProducerId");
        assert_eq!(ApiKey::FETCH.to_string(), "Fetch");
        assert_eq!(ApiKey(9000).to_string(), "API 9000");
    }

    #[test]
    fn the_newest_common_version_is_picked() {
        let broker = BrokerVersions::new([(ApiKey::FETCH, v(4, 17)), (ApiKey::PRODUCE, v(0, 2))]);
        assert_eq!(broker.pick(ApiKey::FETCH, v(4, 18)), Ok(17));
        assert_eq!(broker.pick(ApiKey::FETCH, v(4, 12)), Ok(12));
        let error = broker.pick(ApiKey::PRODUCE, v(3, 13)).unwrap_err();
        assert_eq!(error.to_string(), "the broker offers Produce in versions 0-2, and this request needs 3-13");
        let error = broker.pick(ApiKey::INIT_PRODUCER_ID, v(0, 5)).unwrap_err();
        assert_eq!(error.to_string(), "the broker does not offer InitProducerId (this request needs versions 0-5)");
    }

    #[test]
    fn hostile_ranges_are_ignored() {
        let broker =
            BrokerVersions::new([(ApiKey::FETCH, v(9, 3)), (ApiKey::FETCH, v(4, 11)), (ApiKey::FETCH, v(-1, 99))]);
        assert_eq!(broker.offered(ApiKey::FETCH), Some(v(4, 11)));
    }
}
