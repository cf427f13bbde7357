//! The protocol's bytes: cursor, frames, and one table per message.
//!
//! Folders are named after who answers: [`cluster`] (any broker), [`leader`], [`coordinator`], [`controller`].
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![allow(missing_docs, reason = "the tables say what Kafka's schemas say; nothing here is public API but ErrorCode")]
#![allow(dead_code, reason = "tables are whole: both directions and every field, whether or not the client reads it")]

pub mod api;
pub mod cluster;
pub mod controller;
pub mod coordinator;
pub mod cursor;
pub mod error_code;
pub mod frame;
pub mod in_place;
pub mod leader;
pub mod message;
mod value;

#[cfg(test)]
mod tests;
