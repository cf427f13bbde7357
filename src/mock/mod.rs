//! An in-process Kafka cluster for tests and examples.

mod api;
mod assembly;
mod batch;
mod broker;
mod cluster;
mod connector;
mod fault;
mod fetch;
mod frame;
mod history;
mod list_offsets;
mod log;
mod metadata;
mod offsets;
mod operations;
mod produce;
mod producers;
mod runtime;
mod session;
mod state;
mod topic;
mod topics;
mod versions;
mod view;

pub use api::{Api, KafkaRelease};
pub use cluster::{MockCluster, MockClusterBuilder};
pub use connector::MockConnector;
pub use fault::{Fault, FaultHandle, When};
pub use history::{SeenRequest, Violation};
pub use view::{StoredBatch, StoredRecord};
