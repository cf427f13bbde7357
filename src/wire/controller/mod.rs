//! Requests that the controller answers; since KRaft any broker forwards them.

pub mod add_raft_voter;
pub mod alter_partition_reassignments;
pub mod alter_user_scram_credentials;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_quorum;
pub mod elect_leaders;
pub mod list_partition_reassignments;
pub mod remove_raft_voter;
pub mod unregister_broker;
pub mod unregister_controller;
pub mod update_features;
