//! The markers that end a transaction in the log.
//!
//! ```text
//!   key:  | version i16 | type i16 |       value: | version i16 | coordinator epoch i32 |
//! ```
//! A control batch holds one record. It takes an offset, and no user ever sees it.

use super::error::RecordError;
use super::view::RecordView;
use crate::wire::cursor::{DecodeError, Reader};

/// What a control record says of its producer's open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// Everything since the last marker is void.
    Abort,
    /// Everything since the last marker counts.
    Commit,
    /// For KRaft's own log, or of a later Kafka: not about transactions, to be skipped.
    Other(i16),
}

impl ControlType {
    /// Reads the key of a record from a batch that is [`is_control`](super::BatchHeader::is_control).
    pub fn decode(record: RecordView<'_>) -> Result<Self, RecordError> {
        let mut key = record.key_reader().ok_or(DecodeError::UnexpectedNull)?;
        Self::read(&mut key)
    }

    fn read(key: &mut Reader<'_>) -> Result<Self, RecordError> {
        // Later versions may only append fields, so what follows is no concern.
        let version = key.i16()?;
        if version < 0 {
            return Err(RecordError::BadControlKey(version));
        }
        Ok(match key.i16()? {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }
}
