//! Requests that the controller answers; since KRaft any broker forwards them.

pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
