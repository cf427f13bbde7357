//! An in-process Kafka cluster for tests and examples.
//!
//! [`MockCluster`] runs brokers that real clients of any language can talk to: they check what is produced as strictly
//! as real ones, wait for data as real ones do, and fail when and how a test wants. Nothing is written to disk, and
//! nothing outlives the cluster. The [`guide`] shows how to test your own code with it.
//!
//! ```
//! use milena::mock::MockCluster;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cluster = MockCluster::builder().brokers(3).start().await;
//! cluster.create_topic("orders", 6);
//! let bootstrap = cluster.bootstrap().join(",");
//! // … run the code under test against `bootstrap`, and then look at what really happened …
//! assert_eq!(cluster.offsets("orders", 0), (0, 0));
//! assert!(cluster.log("orders", 0).is_empty());
//! assert!(cluster.verify().is_empty(), "{:#?}", cluster.verify());
//! cluster.close().await;
//! # }
//! ```
//!
//! # Sockets or memory
//!
//! By default brokers listen on free ports of the loopback interface, and [`bootstrap`](MockCluster::bootstrap) has
//! their addresses. [`in_memory`](MockClusterBuilder::in_memory) clusters have no sockets: give
//! [`connector`](MockCluster::connector) to a client. They are for tests on tokio's paused time
//! (`#[tokio::test(start_paused = true)]`), in which an hour of time-outs and retries takes milliseconds and gives the
//! same result each time.
//!
//! # Making things fail
//!
//! [`inject`](MockCluster::inject) takes [`When`] and [`Fault`]: which requests, and what happens to them. The handle
//! that it returns counts, and takes the fault away again.
//!
//! ```
//! use std::time::Duration;
//!
//! use milena::mock::{Api, Fault, MockCluster, When};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let cluster = MockCluster::start().await;
//! // The second produce is applied, but its acknowledgement lost.
//! let lost = cluster.inject(When::api(Api::Produce).nth(2), Fault::lose_answer());
//! // One fetch in a hundred takes a second.
//! cluster.inject(When::api(Api::Fetch).probability(0.01), Fault::delay(Duration::from_secs(1)));
//! // Partition 3 of `orders` answers NOT_LEADER_OR_FOLLOWER five times.
//! cluster.inject(When::api(Api::Produce).partition("orders", 3).times(5), Fault::error(6));
//! // … run the code under test …
//! assert_eq!(lost.struck(), 0);
//! cluster.clear_faults();
//! # cluster.close().await;
//! # }
//! ```
//!
//! Brokers [stop](MockCluster::stop_broker), [shut down](MockCluster::shut_down_broker), are
//! [added](MockCluster::add_broker), [start](MockCluster::start_broker) and [hang](MockCluster::hang_broker);
//! leaders, coordinators and the controller [move](MockCluster::move_leader); logs are
//! [truncated](MockCluster::truncate) and [trimmed](MockCluster::delete_records); topics are deleted and created again
//! under another id. [Links](MockCluster::set_link) have latency and bandwidth.
//!
//! [`verify`](MockCluster::verify) judges what has happened, from the requests to the logs.
//!
//! # What happens to records
//!
//! Followers are [held back](MockCluster::hold_follower), and with them the high watermark and whoever waits for
//! `acks=all`; a leader that lacks records loses them. Producers write transactions through the protocol; a test of a
//! reader [writes them itself](MockCluster::write_transactional). Topics are [configured](MockCluster::set_topic_config),
//! [compacted](MockCluster::compact), and [lose what is old](MockCluster::apply_retention). Clients have
//! [quotas](MockCluster::set_produce_quota).
//!
//! # What is real, and what is not
//!
//! The answers are compared with those of real brokers (4.x, 3.9 and 2.8), question by question; what differs is said
//! here.
//!
//! - Versions are those of a [`KafkaRelease`], less what a test takes away. A request that a broker does not know closes the
//!   connection, as at a real one, and is listed in [`violations`](MockCluster::violations).
//! - A connection is served one request at a time: a fetch that waits, or a produce that is delayed, holds all that comes
//!   after it.
//! - Produced batches pass the checks of a real broker in its order, with its error codes; compressed ones are
//!   decompressed for it. Stricter than a real one: offset deltas must count up from 0, a compressed record must be as
//!   long as it says, and a batch may not have more than 256 MiB without its codec.
//! - Idempotent producers are deduplicated by their last five batches. Transactions end at once: no marker is ever late.
//! - A partition has one copy of its records, and for each replica the offset up to which it has them. Followers have
//!   everything at once, unless they are [held back](MockCluster::hold_follower) or stopped; a new leader that lacks
//!   records loses them. A broker that hangs still copies as a follower. Records survive when their brokers stop.
//! - A cluster with [users](MockClusterBuilder::user) wants SASL PLAIN or SCRAM, and what they may do is everything. There is
//!   no TLS.
//! - There are no segments: retention deletes batches, and compaction leaves nothing out but what is not stable yet.
//! - Of broker settings, those can be changed that are the defaults of topics, and on all brokers alike. There are no
//!   APIs for quotas.
//! - Groups have members under the classic protocol and under KIP-848's, static ones too; they change from one to the other
//!   while they have no members, and not otherwise (`group.consumer.migration.policy=disabled`). The first member of a
//!   classic group waits for nobody (`group.initial.rebalance.delay.ms` is 0). When a coordinator moves, the next one knows
//!   what was stable, as from a real log, and a classic rebalance that was under way is forgotten.
//! - The coordinator's assignors are `uniform` and `range`, without regard to racks. Expressions for topics are those of the
//!   crate `regex-lite`, which are RE2's but for classes of Unicode.
//! - DeleteRecords does not wait for followers that are held back. Logs are in memory, and the size of the disk is unknown.

mod alter_configs;
mod api;
mod assembly;
mod batch;
mod broker;
mod by_topic_id;
mod cluster;
mod codec;
mod configs;
mod connector;
mod coordinator;
mod delete_records;
mod describe_topics;
mod elect_leaders;
mod fault;
mod fetch;
mod frame;
mod group;
pub mod guide;
mod history;
mod link;
mod list_offsets;
mod log;
mod log_dirs;
mod metadata;
mod offsets;
mod operations;
mod partition;
mod produce;
mod producers;
mod quotas;
mod records;
mod replication;
mod retention;
mod runtime;
mod sasl;
mod sasl_scram;
mod session;
mod state;
mod tap;
mod topic;
mod topics;
mod transactions;
mod verify;
mod versions;
mod view;

pub use api::{Api, KafkaRelease};
pub use cluster::{MockCluster, MockClusterBuilder};
pub use connector::MockConnector;
pub use fault::{Fault, FaultHandle, When};
pub use history::{SeenBatch, SeenCommit, SeenRequest};
pub use link::Link;
pub use verify::{Event, Violation, ViolationKind};
pub use view::{StoredBatch, StoredRecord};
