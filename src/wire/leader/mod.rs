//! Requests that only a partition's leader answers.

pub mod delete_records;
pub mod describe_producers;
pub mod fetch;
pub mod list_offsets;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod write_txn_markers;
