//! Sending records.
//!
//! ```text
//!   handle ─▶ partitioner ─▶ open_batch ─▶ leader (one task each) ─▶ machine/sequence ─▶ net/lane
//!   delivery ◀────────────────────────────── settle ◀──────────────── machine/accumulator ◀─┘
//!                         router: which leader has which partition, and the producer's id
//! ```

mod budget;
mod builder;
mod compression;
mod delivery;
mod handle;
mod leader;
mod open_batch;
mod partitioner;
mod record;
mod router;
mod topic;

pub use builder::{Acks, ProducerBuilder};
pub use delivery::{Delivery, DeliveryError, Fate, RecordMetadata};
pub use handle::{Producer, TryEnqueueError};
pub use record::{Data, Name, Record};
