//! Kafka's error codes, and what to do about each.

use std::fmt;

use super::api::ApiKey;

/// An error code of Kafka's protocol (`org.apache.kafka.common.protocol.Errors`).
///
/// A newtype, so that a code which this version does not know survives and prints as its number.
///
/// ```
/// use milena::ErrorCode;
///
/// assert_eq!(ErrorCode(6), ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// assert_eq!(ErrorCode(6).to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
/// assert_eq!(ErrorCode(999).to_string(), "error code 999");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

/// What a client does when a broker answers with a code: one total table of (API, code), so that no call site decides
/// on its own. Whether a code is retriable depends on the request: out of range is an end for a commit and a
/// beginning for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It worked.
    Done,
    /// It worked before: the log has this batch already (DUPLICATE_SEQUENCE_NUMBER).
    Duplicate,
    /// The same again at the same broker, after a back-off.
    Retry,
    /// The wrong broker, or one that lags: refresh metadata, then try again, after a back-off.
    Refresh,
    /// The group or transaction has another coordinator: find it, then try again.
    FindCoordinator,
    /// A batch that is too large for the broker: split it, unless it holds one record.
    Split,
    /// The position is outside the log: apply the reset policy.
    ResetOffset,
    /// The fetch session is gone or out of step: start a full one.
    ResetSession,
    /// The broker's memory of this producer and ours differ: go on under a new epoch.
    NewEpoch,
    /// This request, batch or item fails; the client goes on.
    Fail,
    /// The producer or member is finished: fenced, or not allowed to be who it says it is.
    Fatal,
}

macro_rules! codes {
    ($($code:literal $name:ident $class:ident;)*) => {
        impl ErrorCode {
            $(
                #[doc = concat!("`", stringify!($name), "`, code ", stringify!($code), ".")]
                pub const $name: Self = Self($code);
            )*

            /// Every code that this version knows, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self($code)),*];

            /// Kafka's name of the code, if this version knows it.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// Whether Java's client calls the code retriable (`RetriableException`). A hint for users: what the
            /// client itself does depends on the request as well.
            pub const fn is_retriable(self) -> bool {
                match self.0 {
                    $($code => codes!(@ $class),)*
                    _ => false,
                }
            }
        }
    };
    (@ retriable) => { true };
    (@ final) => { false };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR final;
    0 NONE final;
    1 OFFSET_OUT_OF_RANGE final;
    2 CORRUPT_MESSAGE retriable;
    3 UNKNOWN_TOPIC_OR_PARTITION retriable;
    4 INVALID_FETCH_SIZE final;
    5 LEADER_NOT_AVAILABLE retriable;
    6 NOT_LEADER_OR_FOLLOWER retriable;
    7 REQUEST_TIMED_OUT retriable;
    8 BROKER_NOT_AVAILABLE final;
    9 REPLICA_NOT_AVAILABLE retriable;
    10 MESSAGE_TOO_LARGE final;
    11 STALE_CONTROLLER_EPOCH final;
    12 OFFSET_METADATA_TOO_LARGE final;
    13 NETWORK_EXCEPTION retriable;
    14 COORDINATOR_LOAD_IN_PROGRESS retriable;
    15 COORDINATOR_NOT_AVAILABLE retriable;
    16 NOT_COORDINATOR retriable;
    17 INVALID_TOPIC_EXCEPTION final;
    18 RECORD_LIST_TOO_LARGE final;
    19 NOT_ENOUGH_REPLICAS retriable;
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retriable;
    21 INVALID_REQUIRED_ACKS final;
    22 ILLEGAL_GENERATION final;
    23 INCONSISTENT_GROUP_PROTOCOL final;
    24 INVALID_GROUP_ID final;
    25 UNKNOWN_MEMBER_ID final;
    26 INVALID_SESSION_TIMEOUT final;
    27 REBALANCE_IN_PROGRESS final;
    28 INVALID_COMMIT_OFFSET_SIZE final;
    29 TOPIC_AUTHORIZATION_FAILED final;
    30 GROUP_AUTHORIZATION_FAILED final;
    31 CLUSTER_AUTHORIZATION_FAILED final;
    32 INVALID_TIMESTAMP final;
    33 UNSUPPORTED_SASL_MECHANISM final;
    34 ILLEGAL_SASL_STATE final;
    35 UNSUPPORTED_VERSION final;
    36 TOPIC_ALREADY_EXISTS final;
    37 INVALID_PARTITIONS final;
    38 INVALID_REPLICATION_FACTOR final;
    39 INVALID_REPLICA_ASSIGNMENT final;
    40 INVALID_CONFIG final;
    41 NOT_CONTROLLER retriable;
    42 INVALID_REQUEST final;
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT final;
    44 POLICY_VIOLATION final;
    45 OUT_OF_ORDER_SEQUENCE_NUMBER final;
    46 DUPLICATE_SEQUENCE_NUMBER final;
    47 INVALID_PRODUCER_EPOCH final;
    48 INVALID_TXN_STATE final;
    49 INVALID_PRODUCER_ID_MAPPING final;
    50 INVALID_TRANSACTION_TIMEOUT final;
    51 CONCURRENT_TRANSACTIONS retriable;
    52 TRANSACTION_COORDINATOR_FENCED final;
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED final;
    54 SECURITY_DISABLED final;
    55 OPERATION_NOT_ATTEMPTED final;
    56 KAFKA_STORAGE_ERROR retriable;
    57 LOG_DIR_NOT_FOUND final;
    58 SASL_AUTHENTICATION_FAILED final;
    59 UNKNOWN_PRODUCER_ID final;
    60 REASSIGNMENT_IN_PROGRESS final;
    61 DELEGATION_TOKEN_AUTH_DISABLED final;
    62 DELEGATION_TOKEN_NOT_FOUND final;
    63 DELEGATION_TOKEN_OWNER_MISMATCH final;
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED final;
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED final;
    66 DELEGATION_TOKEN_EXPIRED final;
    67 INVALID_PRINCIPAL_TYPE final;
    68 NON_EMPTY_GROUP final;
    69 GROUP_ID_NOT_FOUND final;
    70 FETCH_SESSION_ID_NOT_FOUND retriable;
    71 INVALID_FETCH_SESSION_EPOCH retriable;
    72 LISTENER_NOT_FOUND retriable;
    73 TOPIC_DELETION_DISABLED final;
    74 FENCED_LEADER_EPOCH retriable;
    75 UNKNOWN_LEADER_EPOCH retriable;
    76 UNSUPPORTED_COMPRESSION_TYPE final;
    77 STALE_BROKER_EPOCH final;
    78 OFFSET_NOT_AVAILABLE retriable;
    79 MEMBER_ID_REQUIRED final;
    80 PREFERRED_LEADER_NOT_AVAILABLE retriable;
    81 GROUP_MAX_SIZE_REACHED final;
    82 FENCED_INSTANCE_ID final;
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retriable;
    84 ELECTION_NOT_NEEDED retriable;
    85 NO_REASSIGNMENT_IN_PROGRESS final;
    86 GROUP_SUBSCRIBED_TO_TOPIC final;
    87 INVALID_RECORD final;
    88 UNSTABLE_OFFSET_COMMIT retriable;
    89 THROTTLING_QUOTA_EXCEEDED retriable;
    90 PRODUCER_FENCED final;
    91 RESOURCE_NOT_FOUND final;
    92 DUPLICATE_RESOURCE final;
    93 UNACCEPTABLE_CREDENTIAL final;
    94 INCONSISTENT_VOTER_SET final;
    95 INVALID_UPDATE_VERSION final;
    96 FEATURE_UPDATE_FAILED final;
    97 PRINCIPAL_DESERIALIZATION_FAILURE final;
    98 SNAPSHOT_NOT_FOUND final;
    99 POSITION_OUT_OF_RANGE final;
    100 UNKNOWN_TOPIC_ID retriable;
    101 DUPLICATE_BROKER_REGISTRATION final;
    102 BROKER_ID_NOT_REGISTERED final;
    103 INCONSISTENT_TOPIC_ID retriable;
    104 INCONSISTENT_CLUSTER_ID final;
    105 TRANSACTIONAL_ID_NOT_FOUND final;
    106 FETCH_SESSION_TOPIC_ID_ERROR retriable;
    107 INELIGIBLE_REPLICA final;
    108 NEW_LEADER_ELECTED final;
    109 OFFSET_MOVED_TO_TIERED_STORAGE final;
    110 FENCED_MEMBER_EPOCH final;
    111 UNRELEASED_INSTANCE_ID final;
    112 UNSUPPORTED_ASSIGNOR final;
    113 STALE_MEMBER_EPOCH final;
    114 MISMATCHED_ENDPOINT_TYPE final;
    115 UNSUPPORTED_ENDPOINT_TYPE final;
    116 UNKNOWN_CONTROLLER_ID final;
    117 UNKNOWN_SUBSCRIPTION_ID final;
    118 TELEMETRY_TOO_LARGE final;
    119 INVALID_REGISTRATION final;
    120 TRANSACTION_ABORTABLE final;
    121 INVALID_RECORD_STATE final;
    122 SHARE_SESSION_NOT_FOUND retriable;
    123 INVALID_SHARE_SESSION_EPOCH retriable;
    124 FENCED_STATE_EPOCH final;
    125 INVALID_VOTER_KEY final;
    126 DUPLICATE_VOTER final;
    127 VOTER_NOT_FOUND final;
    128 INVALID_REGULAR_EXPRESSION final;
    129 REBOOTSTRAP_REQUIRED final;
    130 STREAMS_INVALID_TOPOLOGY final;
    131 STREAMS_INVALID_TOPOLOGY_EPOCH final;
    132 STREAMS_TOPOLOGY_FENCED final;
    133 SHARE_SESSION_LIMIT_REACHED retriable;
    134 GROUP_DELETION_FAILED final;
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED final;
    136 CONTROLLER_ID_NOT_REGISTERED final;
}

impl ErrorCode {
    /// Whether this is `NONE`.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// `Ok` for `NONE`, the code itself otherwise.
    pub const fn check(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// Whether the broker knows who asks, and that they may not.
    pub const fn is_authorization(self) -> bool {
        matches!(
            self,
            Self::TOPIC_AUTHORIZATION_FAILED
                | Self::GROUP_AUTHORIZATION_FAILED
                | Self::CLUSTER_AUTHORIZATION_FAILED
                | Self::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | Self::DELEGATION_TOKEN_AUTHORIZATION_FAILED
        )
    }

    /// Whether there is no such topic or partition, for all that the broker knows.
    pub const fn is_unknown_topic(self) -> bool {
        matches!(self, Self::UNKNOWN_TOPIC_OR_PARTITION | Self::UNKNOWN_TOPIC_ID)
    }

    /// Whether a broker that answered a produce request with this code and this offset certainly did not append the batch.
    ///
    /// A positive list: everything else, unknown codes included, leaves the outcome open (P5). So does an offset beside the
    /// two codes that end a wait for followers: the broker appended the batch there, and lost the partition before they
    /// had it (Kafka's `DelayedProduce`). If the next leader is one of those that had, the batch stays.
    pub const fn proves_not_appended(self, base_offset: i64) -> bool {
        if matches!(self, Self::NOT_LEADER_OR_FOLLOWER | Self::UNKNOWN_TOPIC_OR_PARTITION) {
            return base_offset < 0;
        }
        matches!(
            self,
            Self::CORRUPT_MESSAGE
                | Self::LEADER_NOT_AVAILABLE
                | Self::MESSAGE_TOO_LARGE
                | Self::INVALID_TOPIC_EXCEPTION
                | Self::RECORD_LIST_TOO_LARGE
                | Self::NOT_ENOUGH_REPLICAS
                | Self::INVALID_REQUIRED_ACKS
                | Self::TOPIC_AUTHORIZATION_FAILED
                | Self::CLUSTER_AUTHORIZATION_FAILED
                | Self::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | Self::INVALID_TIMESTAMP
                | Self::UNSUPPORTED_VERSION
                | Self::INVALID_REQUEST
                | Self::UNSUPPORTED_FOR_MESSAGE_FORMAT
                | Self::POLICY_VIOLATION
                | Self::OUT_OF_ORDER_SEQUENCE_NUMBER
                | Self::INVALID_PRODUCER_EPOCH
                | Self::INVALID_TXN_STATE
                | Self::INVALID_PRODUCER_ID_MAPPING
                | Self::UNKNOWN_PRODUCER_ID
                | Self::FENCED_LEADER_EPOCH
                | Self::UNSUPPORTED_COMPRESSION_TYPE
                | Self::INVALID_RECORD
                | Self::PRODUCER_FENCED
                | Self::UNKNOWN_TOPIC_ID
                | Self::THROTTLING_QUOTA_EXCEEDED
        )
    }

    /// What to do when `api` is answered with this code.
    pub const fn action(self, api: ApiKey) -> Action {
        match (api, self) {
            (_, Self::NONE) => Action::Done,

            // Before what holds for all: the codes that mean something of their own to one API.
            (ApiKey::PRODUCE, Self::DUPLICATE_SEQUENCE_NUMBER) => Action::Duplicate,
            (ApiKey::PRODUCE, Self::MESSAGE_TOO_LARGE | Self::RECORD_LIST_TOO_LARGE) => Action::Split,
            (
                ApiKey::PRODUCE,
                Self::OUT_OF_ORDER_SEQUENCE_NUMBER | Self::UNKNOWN_PRODUCER_ID | Self::INVALID_PRODUCER_EPOCH,
            ) => Action::NewEpoch,
            // Damaged on its way: the same bytes again (Java retries CorruptRecordException too).
            (ApiKey::PRODUCE, Self::CORRUPT_MESSAGE) => Action::Retry,
            (ApiKey::FETCH | ApiKey::OFFSET_FOR_LEADER_EPOCH, Self::OFFSET_OUT_OF_RANGE) => Action::ResetOffset,
            (
                ApiKey::FETCH,
                Self::FETCH_SESSION_ID_NOT_FOUND
                | Self::INVALID_FETCH_SESSION_EPOCH
                | Self::FETCH_SESSION_TOPIC_ID_ERROR,
            ) => Action::ResetSession,
            // Of a member whose heartbeat is on its way, or has yet to hear what became of it: asked again as who it is then.
            (ApiKey::OFFSET_FETCH, Self::STALE_MEMBER_EPOCH | Self::UNKNOWN_MEMBER_ID) => Action::Retry,
            // A lagging broker does not know a topic that another one has; so it is a matter of metadata for whoever
            // talks to a leader, and an answer for whoever asks about topics as such.
            (
                ApiKey::CREATE_TOPICS
                | ApiKey::DELETE_TOPICS
                | ApiKey::CREATE_PARTITIONS
                | ApiKey::DELETE_RECORDS
                | ApiKey::DESCRIBE_CONFIGS
                | ApiKey::INCREMENTAL_ALTER_CONFIGS,
                Self::UNKNOWN_TOPIC_OR_PARTITION | Self::UNKNOWN_TOPIC_ID,
            ) => Action::Fail,
            // The outcome of a topic operation that timed out at the broker is open; asking again is the user's call.
            (ApiKey::CREATE_TOPICS | ApiKey::DELETE_TOPICS | ApiKey::CREATE_PARTITIONS, Self::REQUEST_TIMED_OUT) => {
                Action::Fail
            }

            (
                _,
                Self::UNKNOWN_TOPIC_OR_PARTITION
                | Self::UNKNOWN_TOPIC_ID
                | Self::INCONSISTENT_TOPIC_ID
                | Self::LEADER_NOT_AVAILABLE
                | Self::NOT_LEADER_OR_FOLLOWER
                | Self::REPLICA_NOT_AVAILABLE
                | Self::NETWORK_EXCEPTION
                | Self::KAFKA_STORAGE_ERROR
                | Self::LISTENER_NOT_FOUND
                | Self::FENCED_LEADER_EPOCH
                | Self::NOT_CONTROLLER
                | Self::BROKER_NOT_AVAILABLE
                | Self::REBOOTSTRAP_REQUIRED,
            ) => Action::Refresh,
            (_, Self::NOT_COORDINATOR | Self::COORDINATOR_NOT_AVAILABLE) => Action::FindCoordinator,
            (
                _,
                Self::COORDINATOR_LOAD_IN_PROGRESS
                | Self::REQUEST_TIMED_OUT
                | Self::NOT_ENOUGH_REPLICAS
                | Self::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                | Self::CONCURRENT_TRANSACTIONS
                | Self::UNKNOWN_LEADER_EPOCH
                | Self::OFFSET_NOT_AVAILABLE
                | Self::UNSTABLE_OFFSET_COMMIT
                | Self::THROTTLING_QUOTA_EXCEEDED
                | Self::PREFERRED_LEADER_NOT_AVAILABLE
                | Self::ELIGIBLE_LEADERS_NOT_AVAILABLE
                | Self::CORRUPT_MESSAGE,
            ) => Action::Retry,
            (
                _,
                Self::PRODUCER_FENCED
                | Self::INVALID_PRODUCER_EPOCH
                | Self::FENCED_INSTANCE_ID
                | Self::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
                | Self::SASL_AUTHENTICATION_FAILED
                | Self::UNSUPPORTED_SASL_MECHANISM
                | Self::ILLEGAL_SASL_STATE,
            ) => Action::Fatal,
            _ => Action::Fail,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_total_and_only_none_is_done() {
        for api in ApiKey::ALL {
            for code in ErrorCode::ALL.iter().copied().chain([ErrorCode(999), ErrorCode(i16::MIN)]) {
                let action = code.action(*api);
                assert_eq!(action == Action::Done, code.is_ok(), "{api:?} {code}");
                assert!(action != Action::Duplicate || *api == ApiKey::PRODUCE, "{api:?} {code}");
            }
        }
    }

    /// A code that Java retries is never a plain failure here, the topic operations aside; and an unknown code is.
    #[test]
    fn what_java_retries_is_not_given_up() {
        let known = [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::SHARE_SESSION_LIMIT_REACHED];
        for code in ErrorCode::ALL.iter().copied().filter(|code| code.is_retriable() && !known.contains(code)) {
            if code.name().is_some_and(|name| name.contains("SESSION")) {
                continue; // sessions belong to one API each
            }
            assert_ne!(code.action(ApiKey::FETCH), Action::Fail, "{code}");
            assert_ne!(code.action(ApiKey::PRODUCE), Action::Fail, "{code}");
        }
        assert_eq!(ErrorCode(999).action(ApiKey::PRODUCE), Action::Fail);
    }

    #[test]
    fn an_offset_beside_a_lost_office_leaves_the_outcome_open() {
        for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION] {
            assert!(code.proves_not_appended(-1), "{code}");
            assert!(!code.proves_not_appended(0), "{code}");
        }
        // Of the others it says nothing: a broker that fills in a zero there has not appended what it refuses.
        assert!(ErrorCode::INVALID_RECORD.proves_not_appended(0));
        for code in [ErrorCode(999), ErrorCode::REQUEST_TIMED_OUT, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND] {
            assert!(!code.proves_not_appended(-1), "{code}");
        }
    }

    #[test]
    fn the_same_code_differs_by_api() {
        use ErrorCode as E;
        for (api, code, action) in [
            (ApiKey::PRODUCE, E::DUPLICATE_SEQUENCE_NUMBER, Action::Duplicate),
            (ApiKey::PRODUCE, E::MESSAGE_TOO_LARGE, Action::Split),
            (ApiKey::PRODUCE, E::OUT_OF_ORDER_SEQUENCE_NUMBER, Action::NewEpoch),
            (ApiKey::PRODUCE, E::NOT_LEADER_OR_FOLLOWER, Action::Refresh),
            (ApiKey::PRODUCE, E::TOPIC_AUTHORIZATION_FAILED, Action::Fail),
            (ApiKey::FETCH, E::OFFSET_OUT_OF_RANGE, Action::ResetOffset),
            (ApiKey::OFFSET_COMMIT, E::OFFSET_OUT_OF_RANGE, Action::Fail),
            (ApiKey::FETCH, E::INVALID_FETCH_SESSION_EPOCH, Action::ResetSession),
            (ApiKey::METADATA, E::UNKNOWN_TOPIC_OR_PARTITION, Action::Refresh),
            (ApiKey::DELETE_TOPICS, E::UNKNOWN_TOPIC_OR_PARTITION, Action::Fail),
            (ApiKey::OFFSET_COMMIT, E::NOT_COORDINATOR, Action::FindCoordinator),
            (ApiKey::INIT_PRODUCER_ID, E::PRODUCER_FENCED, Action::Fatal),
        ] {
            assert_eq!(code.action(api), action, "{api:?} {code}");
        }
    }
}
