//! Sending records.
//!
//! ```text
//!   handle ─▶ partitioner ─▶ open_batch ─▶ leader (one task each) ─▶ machine/sequence ─▶ net/lane
//!   delivery ◀────────────────────────────── settle ◀──────────────── machine/accumulator ◀─┘
//!                         router: which leader has which partition, and the producer's id
//! ```

mod budget;
mod builder;
mod delivery;
mod handle;
mod leader;
mod load;
mod open_batch;
pub mod partitioner;
mod record;
mod router;
mod sticky;
mod topic;

pub use builder::{Acks, ProducerBuilder};
pub use delivery::{Delivery, DeliveryError, Fate, RecordMetadata};
pub use handle::{Producer, TryEnqueueError};
pub use record::{Data, Name, Record};
