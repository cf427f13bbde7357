//! Many handlers at a time inside one consumer, and what that does to what counts as dealt with.
//!
//! ```text
//!   run ── recv ──▶ register ──▶ by key or partition ──▶ worker 0 ─▶ start ─▶ handler ─▶ done
//!    ▲                 │                               ▶ worker 1 ─▶ …                   │
//!    └── bytes ────────┼─────────────────────────────────────────────────────────────────┤
//!                      └──▶ ledger of the partition ◀─────────────────────────────────────┘
//!                            up to the first that is not done: what a commit takes
//! ```
#![allow(missing_docs, reason = "private parts; what is public is re-exported at the root and documented")]

mod budget;
mod failure;
mod ledger;
mod pool;
mod track;
mod worker;

pub use failure::FailurePolicy;
pub use pool::{ErrorAction, WorkOrder, Workers};
pub use track::Track;
