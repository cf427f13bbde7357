//! A member of a consumer group: by the classic protocol ([`Classic`]) or that of KIP-848 ([`Consumer`]), and what it
//! commits ([`Ledger`]).
//!
//! # What a driver must do
//! A machine says what is to be done ([`Output`]) and is told what came of it. All of it runs in one task, whose loop is:
//!
//! ```text
//!   loop {
//!       while let Some(output) = machine.poll_output(now)  ─▶  FindCoordinator   ask any broker        ─▶ handle_coordinator
//!                                                              Send              call the coordinator  ─▶ handle_answer
//!                                                              Describe          ask for metadata      ─▶ handle_topics
//!                                                              Resolve           ask for metadata      ─▶ handle_names
//!                                                              NeedMemberId      draw a UUID           ─▶ set_member_id
//!                                                              Changed           run the listener      ─▶ acknowledge
//!                                                              Report, Failed    tell the user
//!       wait for one of these, or until poll_timeout() and then handle_timeout
//!   }
//! ```
//! 1. **Ownership is what [`owned`](Classic::owned) says, from the moment it says so.** After every call it is asked before
//!    one more record is handed out: what it lacks is dropped from the buffers and never yielded again (rule 57).
//! 2. **A change is acknowledged when the listener has returned**, and not before. The machine gives out no second one
//!    before that, so listeners never overlap (rule 58). What was revoked may be committed until then; what was lost not.
//! 3. **One answer for each [`Send`]**, by its token: an answer, or [`Answer::Lost`] if the connection broke, its
//!    time ran out, or it could not be sent. Late and doubled ones are ignored.
//! 4. **Connections**: JoinGroup and SyncGroup wait at the broker, so they have one of their own; heartbeats and LeaveGroup
//!    another; commits a third (rules 54 and 71). Under KIP-848 no request waits. A coordinator that cannot be reached is [`Answer::Lost`].
//! 5. **Metadata**: `subscribe` is called with the names subscribed to as they are now (of a pattern: those that match), and
//!    again whenever that changes. Topics asked for by `Describe` belong to the group: as long as the machine says
//!    [`described`](Classic::described), `handle_topics` is called whenever their metadata has changed.
//! 6. **Polls**: `poll_begins` when the user asks for records, `poll_ends` when the user gets some. In between the time
//!    until `max_poll_interval` does not run.
//!    Under KIP-848 a pattern may be left to the coordinator, and what it assigns is taken as it is (rule 68).
//! 7. **Commits** go through the [`Ledger`], which is told after every call of the machine how the member stands and what
//!    it may commit (`standing`, `committable`), and whose verdicts about membership go back to it.
//! 8. `random`: any 64 random bits.

mod classic;
mod commit;
mod common;
mod consumer;
mod leader;
#[cfg(test)]
mod tests;
mod types;

pub use classic::Classic;
pub use commit::{Commit, Entry, Failed, Ledger, Outcome, Request as CommitRequest, Verdict, Why};
pub use consumer::{Consumer, ConsumerConfig};
pub use types::{Answer, Call, Change, Config, Identity, Output, Problem, Send, Standing};
