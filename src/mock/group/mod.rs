//! Groups that have members: the classic protocol, and what administrators see of it.

mod classic;
mod describe;
mod membership;

pub(super) use classic::{Caller, Classic};
