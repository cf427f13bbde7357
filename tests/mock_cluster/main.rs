//! The mock cluster, driven by raw requests. Every rule of a real broker that it claims to have is tested here; most of
//! these tests could be run against a real one.

#![allow(clippy::disallowed_methods, reason = "tests have clocks")]

mod agreement;
mod brokers;
mod combinations;
mod consumer_groups;
mod faults;
mod fetch;
mod groups;
mod harness;
mod links;
mod offsets;
mod produce;
mod protocol;
mod quotas;
mod replicas;
mod retention;
mod topics;
mod transactions;
mod verify;
