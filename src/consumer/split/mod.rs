//! A stream for each partition of one consumer, and what that does to what counts as dealt with.
//!
//! ```text
//!   split ──▶ PartitionStreams ── assigned ──▶ PartitionStream orders-0 ──▶ PendingRecord ── ack ──▶ ledger of the partition
//!                                          └──▶ PartitionStream orders-1 ──▶ …                 up to the first without one:
//!                                                                                              what a commit takes
//! ```
//! The ledger is that of workers; what is fetched and waits is in the inbox, and bounded there (`shared/split`).
#![allow(missing_docs, reason = "private parts; what is public is re-exported at the root and documented")]

mod pending;
mod stream;
mod streams;

pub use pending::PendingRecord;
pub use stream::PartitionStream;
pub use streams::PartitionStreams;
