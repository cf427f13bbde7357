//! Requests that any broker answers.

pub mod api_versions;
pub mod find_coordinator;
pub mod metadata;
