//! What goes into the machine of positions, and what comes out of it.

use std::time::Duration;

use crate::machine::credit::PartitionId;
use crate::machine::fetch::Route;
use crate::record::RecordError;
use crate::wire::api::ApiKey;
use crate::wire::error_code::ErrorCode;

/// Where to begin when there is no position, or none that the log still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    Earliest,
    Latest,
    /// At the first record that is no older, in milliseconds (KIP-1106).
    Ago(i64),
    None,
}

/// What a leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The first record that is no older, in milliseconds since 1970; or one of the ends.
    Time(i64),
    /// So many milliseconds before the request.
    Ago(i64),
}

/// How a partition begins: at its assignment, or by a seek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// What the group committed, else by policy.
    Committed,
    /// By policy.
    Reset,
    At(i64),
    Earliest,
    Latest,
    /// At the first record that is no older, in milliseconds since 1970; behind the last one if there is none.
    Time(i64),
    /// Nowhere until the next seek: the caller met what it cannot read.
    Halted,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub reset: Reset,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// How long a position may be looked for, or a leader missing, before that is reported.
    pub patience: Duration,
    /// How long a topic or partition may be unknown before that is reported: brokers learn of new ones one by one.
    pub unknown_patience: Duration,
    /// How long a nearer replica is fetched from before the leader is asked again which one that is.
    pub follow_for: Duration,
}

/// What the caller should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    UnknownTopic(ErrorCode),
    UnknownPartition {
        count: usize,
    },
    /// The topic is refused as such: its name, or who asks.
    Topic(ErrorCode),
    NoLeader,
    /// The offset lies outside the log, and the policy is `None`.
    OutOfRange(i64),
    /// Nothing was committed, and the policy is `None`.
    NoPosition,
    Unreadable {
        offset: i64,
        /// Behind the batch, if its header can be believed.
        end: Option<i64>,
        error: RecordError,
    },
    NoProgress {
        offset: i64,
    },
    Refused {
        api: ApiKey,
        code: ErrorCode,
    },
    /// The position could not be found in time.
    Unresolved(ErrorCode),
    /// Not what was expected is next, but this: the log does not have the offset any more.
    Lost {
        expected: i64,
        next: i64,
    },
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Give the partition to this leader.
    Route {
        leader: i32,
        route: Route,
    },
    /// It stays there, and is asked for or not.
    Pause {
        leader: i32,
        id: PartitionId,
        is_paused: bool,
    },
    /// Ask for it back.
    Recall {
        leader: i32,
        id: PartitionId,
        generation: u64,
    },
    /// Ask the group's coordinator.
    AskCommitted(Vec<(PartitionId, u64)>),
    /// Ask a leader for an end of the log.
    AskOffsets {
        leader: i32,
        asked: Vec<AskedOffset>,
    },
    /// Ask a leader where epochs ended.
    AskEpochs {
        leader: i32,
        asked: Vec<AskedEpoch>,
    },
    /// The log was cut at `end`, below what was fetched, and holds other records from there on. A seek to that place, or
    /// to where the caller is if that is below, is expected.
    Diverged {
        id: PartitionId,
        generation: u64,
        end: i64,
    },
    /// The topic was deleted, and another one has its name. A seek to its beginning is expected.
    Recreated {
        id: PartitionId,
        generation: u64,
    },
    /// The position is known.
    Position {
        id: PartitionId,
        generation: u64,
        offset: i64,
    },
    Report {
        id: PartitionId,
        generation: u64,
        problem: Problem,
    },
    /// The picture of the cluster is old.
    Stale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedOffset {
    pub id: PartitionId,
    pub generation: u64,
    pub at: At,
    pub leader_epoch: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedEpoch {
    pub id: PartitionId,
    pub generation: u64,
    /// Of whom is asked.
    pub leader_epoch: i32,
    /// Whose end is asked for.
    pub epoch: i32,
}
