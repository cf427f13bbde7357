//! What goes into the machine of fetches, and what comes out of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::machine::accumulator::Hint;
use crate::machine::connection::Token;
use crate::machine::credit::PartitionId;
use crate::record::{RawBatch, RecordError};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::fetch::FetchRequest;
use crate::wire::message::Uuid;

#[derive(Clone, Debug)]
pub struct Config {
    /// How long the broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Of one answer.
    pub max_bytes: usize,
    /// Of one partition in one answer.
    pub partition_max_bytes: usize,
    /// The same for one whose caller waits because the broker is far away.
    pub partition_most_bytes: usize,
    pub check_crcs: bool,
    /// Only what was committed, and what was never part of a transaction.
    pub read_committed: bool,
    /// Where the client is, so that a replica near to it may be named (KIP-392).
    pub rack: Arc<str>,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
}

/// A partition on its way to a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub id: PartitionId,
    /// Changes with every seek; handed back with everything that concerns the partition.
    pub generation: u64,
    pub topic: Arc<str>,
    /// Zero when the broker is too old to have one.
    pub topic_id: Uuid,
    pub index: i32,
    /// Where to go on.
    pub offset: i64,
    pub leader_epoch: i32,
    /// To a replica that the leader named (KIP-392): if it cannot be reached, the leader can.
    pub is_nearby: bool,
    /// The replica that the leader names did not answer: until then the leader is not told where the client is.
    pub leader_until: Option<Instant>,
    /// Stays, and is not asked for.
    pub is_paused: bool,
}

/// One of a leader's two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneKind {
    Waiting,
    Immediate,
}

/// A request to send.
#[derive(Debug)]
pub struct Plan {
    pub lane: LaneKind,
    pub token: Token,
    pub request: FetchRequest,
    /// Topic ids are used only if every topic has one.
    pub max_version: i16,
    /// How long the broker may keep it.
    pub max_wait: Duration,
}

/// Whole batches that continue where the partition's last ones ended, their checksums verified; without those of
/// aborted transactions, if only what was committed is read.
#[derive(Debug)]
pub struct Fetched {
    pub batches: VecDeque<RawBatch>,
    /// The first record that was asked for: the first batch may begin below.
    pub from: i64,
    /// Behind all of it, also behind what is not to be seen at its end.
    pub next: i64,
    pub bytes: usize,
}

/// Where the log begins and ends, as the answering broker knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub log_start: i64,
    /// Behind the last record that may be read, at the isolation that was asked for.
    pub end: i64,
}

/// What the last batch says that was fetched of a partition; -1 while there is none, or it does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Of the leader that appended it.
    pub epoch: i32,
    pub timestamp: i64,
}

impl Seen {
    pub const NOTHING: Self = Self { epoch: -1, timestamp: -1 };
}

/// Why a partition came home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// [`Fetch::recall`](super::Fetch::recall) asked.
    Recalled,
    /// This broker does not lead it, or does not know it; so metadata is stale.
    Moved(ErrorCode),
    OutOfRange,
    /// Another replica is nearer (KIP-392).
    Preferred(i32),
    /// This replica, which is not the leader, did not answer.
    Unreachable,
    /// Read twice, and twice no record batch.
    Unreadable {
        /// Behind the batch, if its header can be believed.
        end: Option<i64>,
        error: RecordError,
    },
    /// Nothing of what was sent reaches beyond the offset.
    NoProgress,
    /// An answer that no waiting mends by itself.
    Refused(ErrorCode),
}

#[derive(Debug)]
pub enum Event {
    /// A fetch of this partition is over: `reserved` bytes of credit are free, what was fetched takes its own.
    Answered {
        id: PartitionId,
        generation: u64,
        reserved: usize,
        /// Bytes of records that came for it, whatever became of them.
        received: usize,
        fetched: Option<Fetched>,
        /// Unless it says nothing of them.
        marks: Option<Marks>,
    },
    /// The partition is no longer here. `next` is where to go on.
    Released { id: PartitionId, generation: u64, next: i64, seen: Seen, why: Why },
    /// The broker said who leads the partition now (KIP-951).
    Hint(Hint),
    /// The broker need not remember this session any more: [`Fetch::farewell`](super::Fetch::farewell).
    SessionOver(i32),
    /// Something suggests that the picture of the cluster is old.
    Stale,
    /// The leader refuses the request as a whole, for a reason that no waiting mends by itself.
    Refused(ErrorCode),
}

impl Event {
    /// So much credit is free again, and that is all.
    pub fn nothing(id: PartitionId, generation: u64, reserved: usize) -> Self {
        Self::Answered { id, generation, reserved, received: 0, fetched: None, marks: None }
    }
}
