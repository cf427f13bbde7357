//! Who of a classic group gets which partition: what the group's leader works out, as pure functions.
//!
//! ```text
//!   JoinGroup's answer: members ──▶ subscription::decode ──▶ Member ─┐
//!                                                                   ├─▶ Assignor::assign ──▶ subscription::encode_assignment ──▶ SyncGroup
//!                            metadata: partitions and their racks ──┘
//! ```
//! Four strategies, Kafka's own: [`Range`], [`RoundRobin`], [`Sticky`] and [`CooperativeSticky`]; what else there may be
//! comes in through the trait [`Assignor`]. Leaders change, and the next one may run Java: so each answers exactly as
//! Java's class of that name (4.3.1), ties included, which Java breaks by the order of its hash maps ([`java_order`]).
//! `tests/assignors.rs` compares them, case by case.
//!
//! What members say is not trusted (rule 70): partitions that there are not, partitions claimed twice, claims of older
//! generations and user data that is none can make an assignment less sticky, never wrong.

mod cooperative;
pub mod java_order;
mod range;
mod round_robin;
mod sticky;
pub mod subscription;
#[cfg(test)]
mod tests;
mod types;

pub use cooperative::CooperativeSticky;
pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::Sticky;
pub use types::{Assigned, Assignments, Assignor, Member, Protocol, Racks, Subscription, Topics};
