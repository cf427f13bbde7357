//! Who of a classic group gets which partition: Kafka's strategies, and the trait [`Assignor`] for others.
//!
//! Given to [`partition_assignment_strategy`](crate::ConsumerBuilder::partition_assignment_strategy). Each of Kafka's answers
//! exactly as Java's class of that name does, so that members of both may be in one group.

pub use crate::machine::assignor::{
    Assigned, Assignments, Assignor, CooperativeSticky, Member, Protocol, Racks, Range, RoundRobin, Sticky,
    Subscription, Topics,
};
