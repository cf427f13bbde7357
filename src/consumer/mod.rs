//! Consumers: fetched in the background, decoded lazily, bounded in bytes.
//!
//! ```text
//!   handle ── commands ──▶ manager ── partitions ──▶ leader task ── Fetch ──▶ broker
//!     ▲   (assign, seek)      ▲  (machine::offsets)      │  (machine::fetch)
//!     │                       └──── released ────────────┤
//!     └──────── shared (records, errors, credit) ◀───────┘
//! ```
//! A record's way: `net` → `leader` → `shared` → `current` → `consumer`, one hop per answer and none per record. What
//! steers, `handle`, reaches the manager through `shared` too: so both have one order.
#![allow(missing_docs, reason = "private parts; what is public is re-exported at the root and documented")]

pub mod assignor;
mod batch;
mod builder;
mod commit;
#[allow(clippy::module_inception, reason = "it is what the folder is about")]
mod consumer;
mod current;
mod cursor;
mod group;
mod handle;
mod hands;
mod interceptor;
#[cfg(feature = "json")]
mod json;
mod leader;
mod lookup;
mod manager;
mod membership;
mod metrics;
mod problem;
mod pull;
mod record;
mod shared;
mod split;
mod trace;
mod turn;
mod unpack;
mod watch;
mod workers;

pub use batch::Batch;
pub use builder::{ConsumerBuilder, IsolationLevel, OffsetReset};
pub use commit::OffsetAndMetadata;
pub use consumer::{Consumer, GroupMembership};
pub use group::{GroupMetadata, GroupProtocol, RebalanceEvent, RebalanceEvents, RebalanceListener, Rebalancing};
pub use handle::{ConsumerHandle, Position, Watermarks};
pub use interceptor::ConsumerInterceptor;
pub use lookup::OffsetAndTimestamp;
pub use membership::RebalanceGuard;
pub use metrics::{ConsumerMetrics, PartitionMetrics};
pub use record::{BorrowedRecord, ConsumerRecord};
pub use split::{PartitionStream, PartitionStreams, PendingRecord};
pub use workers::{ErrorAction, FailurePolicy, WorkOrder, Workers};
