//! Sending records.
//!
//! ```text
//!   handle ─▶ partitioner ─▶ open_batch ─▶ leader (one task each) ─▶ machine/sequence ─▶ net/lane
//!   delivery ◀────────────────────────────── settle ◀──────────────── machine/accumulator ◀─┘
//!                         router: which leader has which partition, and the producer's id
//! ```

mod account;
mod append;
mod budget;
mod builder;
mod compression;
mod delivery;
mod handle;
mod interceptor;
#[cfg(feature = "json")]
mod json;
mod leader;
mod load;
mod mailbox;
mod many;
mod metrics;
mod open_batch;
pub mod partitioner;
mod partitions;
mod pool;
mod record;
mod router;
mod sticky;
mod topic;
mod trace;

pub use builder::{Acks, ProducerBuilder};
pub use delivery::{Delivery, DeliveryError, Fate, RecordMetadata};
pub use handle::{Producer, TryEnqueueError};
pub use interceptor::Interceptor;
pub use many::EnqueueAllError;
pub use metrics::ProducerMetrics;
pub use record::{Data, Name, Record};
pub use topic::ProducerTopic;
