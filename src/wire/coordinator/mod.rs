//! Requests that a group's or a transaction's coordinator answers.

pub mod init_producer_id;
pub mod offset_commit;
pub mod offset_fetch;
