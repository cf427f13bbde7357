//! A consumer's group: its offsets, and the membership.
//!
//! ```text
//!   handle ── commands ──▶ driver ─┬─ member: which protocol ─▶ line ─▶ coordinator
//!                                  ├─ commits ─────────────────────────▶ coordinator
//!                                  ├─ topics: what is subscribed to, as metadata has it
//!                                  └─ listener: what the user is told
//! ```

mod change;
mod commits;
mod coordinator;
mod driver;
mod handle;
mod line;
mod listener;
mod member;
mod problem;
mod settings;
mod topics;

pub use handle::{Group, GroupMetadata};
pub use listener::{RebalanceEvent, RebalanceEvents, RebalanceListener, Rebalancing};
pub use settings::{GroupProtocol, Settings};
pub use topics::Subscription;
