//! Consumers: fetched in the background, decoded lazily, bounded in bytes.
//!
//! ```text
//!   handle ── commands ──▶ manager ── partitions ──▶ leader task ── Fetch ──▶ broker
//!     ▲   (assign, seek)      ▲  (machine::offsets)      │  (machine::fetch)
//!     │                       └──── released ────────────┤
//!     └──────── shared (records, errors, credit) ◀───────┘
//! ```
//! A record's way: `net` → `leader` → `shared` → `current` → `handle`, one hop per answer and none per record.
#![allow(missing_docs, reason = "private parts; what is public is re-exported at the root and documented")]

mod builder;
mod commit;
mod current;
mod handle;
mod leader;
mod manager;
mod problem;
mod record;
mod shared;

pub use builder::{ConsumerBuilder, OffsetReset};
pub use commit::OffsetAndMetadata;
pub use handle::{Consumer, Position};
pub use record::ConsumerRecord;
