//! Groups that have members: the classic protocol and KIP-848's, and what administrators do with groups.

mod classic;
mod consumer;
mod delete;
mod describe;
mod heartbeat;
mod membership;

pub(super) use classic::{Caller, Classic};
pub(super) use consumer::{Consumer, Partition, Timing, Topics};
