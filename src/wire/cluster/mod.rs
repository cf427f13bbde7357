//! Requests that any broker answers. Some brokers speak for themselves alone: all are asked for groups and transactions,
//! one in particular for its disks and configuration.

pub mod alter_client_quotas;
pub mod alter_configs;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod create_acls;
pub mod create_delegation_token;
pub mod delete_acls;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_log_dirs;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
pub mod expire_delegation_token;
pub mod find_coordinator;
pub mod get_telemetry_subscriptions;
pub mod incremental_alter_configs;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_transactions;
pub mod metadata;
pub mod push_telemetry;
pub mod renew_delegation_token;
pub mod sasl_authenticate;
pub mod sasl_handshake;
