//! Nobody waits for anybody else: what is slow, hung, throttled or dead delays itself alone, and leaves nothing behind.
//! On the mock cluster in memory, on paused time, so that every figure is exact.
#![allow(clippy::disallowed_methods, reason = "tests read tokio's paused clock and spawn")]
#![allow(clippy::print_stdout, reason = "figures of an outage are worth reading")]

mod ends;
mod lanes;
mod memory;
mod neighbours;
mod outage;
mod rig;
