//! Record batches of format 2 (Kafka 0.11 and later): written in place, read lazily, never trusted. Message sets, the
//! formats before, are read by rewriting them ([`legacy`]).
//!
//! ```text
//!   BatchWriter ── finish ──▶ SealedBatch ─┬───────────── stamp ──▶ Bytes ──▶ Produce
//!                                          '─ compress ─────┘
//!   Fetch ──▶ Bytes ──▶ Batches ──▶ RawBatch ─┬──────────────────┬─ records ──────▶ Records ──▶ RecordView
//!                                             '─ decompress      │                                  borrowed
//!                                                   '▶ Unpacked ─┴─ into_records ─▶ OwnedRecords ──▶ RecordSlice
//!                                                                                       one reference count each
//! ```
#![deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects))]
#![allow(
    dead_code,
    unused_imports,
    reason = "both directions are whole, whether or not the client uses every accessor"
)]

pub mod codec;
pub mod control;
pub mod error;
pub mod header;
pub mod legacy;
pub mod reader;
pub mod sealed;
pub mod view;
pub mod writer;

#[cfg(test)]
mod tests;

pub use codec::{Compressor, Decompressor, Limits};
pub use control::ControlType;
pub use error::RecordError;
pub use header::{Attributes, BatchHeader, Compression, Identity, TimestampType};
pub use reader::{Batches, OwnedRecords, RawBatch, RecordCursor, Records, Unpacked, next_offset};
pub use sealed::SealedBatch;
pub use view::{Header, Headers, RecordAt, RecordSlice, RecordView};
pub use writer::{BatchWriter, NO_HEADERS, record_size_upper_bound};
