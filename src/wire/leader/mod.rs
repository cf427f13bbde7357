//! Requests that only a partition's leader answers.

pub mod fetch;
pub mod list_offsets;
pub mod produce;
