//! The consumer's promises, on the mock cluster.

#![allow(clippy::disallowed_methods, reason = "tests have clocks and tasks")]

mod bombs;
mod consumer_groups;
mod distance;
mod faults;
mod flow;
mod followers;
mod groups;
#[path = "../mock_cluster/harness.rs"]
#[allow(dead_code, reason = "shared with the mock's own tests, which use all of it")]
mod harness;
#[path = "../judge/groups.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
mod latency;
mod memory;
mod metrics;
mod offsets;
mod polling;
mod reading;
mod rig;
mod sessions;
mod split;
mod steering;
mod surface;
#[path = "../wires/tap.rs"]
mod tap;
mod transactions;
mod truncation;
mod workers;
