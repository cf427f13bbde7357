//! Small cases, all of them: a connection cut at every byte, a future dropped wherever it waits, an error for every
//! request. Everything runs on the mock in paused time; histories go before the judge of `tests/judge`.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]

mod cuts;
mod drops;
mod errors;
#[path = "../judge/records.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
mod rig;
