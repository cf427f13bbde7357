//! State machines without IO: every one is a plain struct that is told the time.
//!
//! The contract, the same for all: `handle_*(now, input)` feeds, plain verbs command, `poll_*` drains what came of it
//! until `None`, and `poll_timeout()` says when to call `handle_timeout(now)` at the latest. `now` never decreases, a
//! spurious `handle_timeout` does nothing, and every token gets exactly one event. Nothing here reads a clock, draws
//! a random number or depends on the order of a hash map, so any history can be replayed.
#![allow(missing_docs, reason = "private layer: documented where a reader needs it, not item by item")]
#![cfg_attr(not(feature = "__internals"), allow(dead_code, reason = "getters that only tests and simulations read"))]

pub mod aborted;
pub mod accumulator;
pub mod assignor;
pub mod backoff;
pub mod connection;
pub mod credit;
pub mod fetch;
pub mod fetch_session;
pub mod group;
pub mod metadata;
pub mod offsets;
pub mod planted;
pub mod sasl;
pub mod sequence;
#[cfg(test)]
mod simulation;
pub mod trust;
