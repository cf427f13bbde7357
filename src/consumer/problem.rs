//! The words for what goes wrong with a partition: what happened, which setting matters, what to do.

use crate::error::{DataLoss, Error, ErrorKind, TopicPartition};
use crate::machine::offsets::Problem;
use crate::record::RecordError;
use crate::wire::error_code::ErrorCode;

pub fn describe(problem: Problem, tp: &TopicPartition) -> Error {
    let topic = &tp.topic;
    let error = match problem {
        Problem::UnknownTopic(code @ (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)) => {
            Error::broker(code, format_args!("topic `{topic}` is unknown, and is read as soon as it exists"))
        }
        Problem::UnknownTopic(_) => Error::new(
            ErrorKind::UnknownTopic,
            format!("topic `{topic}` has no partitions yet; it is read once it has"),
        ),
        Problem::UnknownPartition { count } => {
            let message = format!("topic `{topic}` has {count} partitions, from 0, and no partition {}", tp.partition);
            Error::new(ErrorKind::UnknownPartition, message)
        }
        Problem::Topic(code) => Error::broker(code, format_args!("topic `{topic}`")),
        Problem::NoLeader => {
            let message = format!("{tp} has been without a leader for default_api_timeout; reading goes on with one");
            Error::new(ErrorKind::Timeout, message)
        }
        Problem::OutOfRange(offset) => {
            let message = format!(
                "the log of {tp} does not have offset {offset}, and auto_offset_reset is None: seek to go on reading"
            );
            Error::new(ErrorKind::OffsetOutOfRange, message)
        }
        Problem::NoPosition => {
            let message =
                format!("no offset is committed for {tp}, and auto_offset_reset is None: seek to begin reading");
            Error::new(ErrorKind::OffsetOutOfRange, message)
        }
        Problem::Unreadable { offset, end, error } => return unreadable(tp, offset, end, error),
        Problem::NoProgress { offset } => {
            let message = format!(
                "the broker sent bytes for {tp} at offset {offset} that hold no whole batch at or behind it; tried again"
            );
            Error::new(ErrorKind::Protocol, message)
        }
        Problem::Refused { api, code } => Error::broker(code, format_args!("{api} of {tp}")),
        Problem::Unresolved(code) => {
            let why = if code.is_ok() { "its leader did not answer".into() } else { format!("its leader said {code}") };
            let message = format!("no position was found for {tp} within default_api_timeout: {why}; tried again");
            Error::new(ErrorKind::Timeout, message)
        }
        Problem::Lost { expected, next } => data_loss(tp, expected, next),
    };
    error.with_partition(tp.clone())
}

/// `expected` should have come next, and `next` does.
pub fn data_loss(tp: &TopicPartition, expected: i64, next: i64) -> Error {
    let message = if expected < next {
        format!(
            "{tp}: offsets {expected} to {} were deleted before they were read; reading goes on at {next}",
            next - 1
        )
    } else {
        format!("{tp}: the log was cut at {next}, and offset {expected} came next; reading goes on at {next}")
    };
    Error::new(ErrorKind::DataLoss, message).with_source(DataLoss::new(expected, next)).with_partition(tp.clone())
}

/// The topic is another one than the one that was read.
pub fn recreated(tp: &TopicPartition, goes_on: bool) -> Error {
    let (topic, then) = (&tp.topic, if goes_on { "reading goes on at its beginning" } else { "seek to read it" });
    let message = format!("topic `{topic}` was deleted, and another one has its name: {then}");
    Error::new(ErrorKind::TopicRecreated, message).with_partition(tp.clone())
}

/// `end`: the offset behind the batch, as far as its header can be believed.
pub fn unreadable(tp: &TopicPartition, offset: i64, end: Option<i64>, error: RecordError) -> Error {
    let kind = match error {
        RecordError::CodecMissing(_) | RecordError::UnsupportedMagic(_) | RecordError::UnknownCodec(_) => {
            ErrorKind::Unsupported
        }
        RecordError::TooLargeDecompressed { .. } | RecordError::Ratio { .. } => ErrorKind::BatchTooLarge,
        _ => ErrorKind::Corrupt,
    };
    let past = match end {
        Some(end) => format!("seek to {end} to read on behind its batch"),
        None => "seek past it to read on".into(),
    };
    let message = match error {
        RecordError::TooLargeDecompressed { limit } => {
            format!("{tp} at offset {offset}: {error}, and max_decompressed_batch is {limit}: raise it, or {past}")
        }
        RecordError::Ratio { .. } => format!(
            "{tp} at offset {offset}: {error}, which beyond 8 MiB is refused, whatever max_decompressed_batch is; {past}"
        ),
        _ => format!("{tp} at offset {offset} cannot be read: {error}; {past}"),
    };
    Error::new(kind, message).with_source(error).with_partition(tp.clone())
}
