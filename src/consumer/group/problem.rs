//! The words for what keeps a member from its group.

use std::sync::Arc;

use super::settings::Settings;
use crate::error::{Error, ErrorKind};
use crate::machine::group::Problem;
use crate::wire::error_code::ErrorCode;

pub fn describe(problem: &Problem, group: &Arc<str>, settings: &Settings) -> Error {
    match problem {
        Problem::Refused { api, code } => {
            let error = Error::broker(*code, format_args!("{api} of group `{group}`"));
            match *code {
                ErrorCode::FENCED_INSTANCE_ID | ErrorCode::UNRELEASED_INSTANCE_ID => {
                    let id = settings.instance_id.as_deref().unwrap_or_default();
                    error.with_note(&format!("; another member has the group_instance_id `{id}`: give each its own"))
                }
                ErrorCode::INCONSISTENT_GROUP_PROTOCOL => error.with_note(
                    "; the members have no strategy in common: see partition_assignment_strategy, or they differ in \
                     group_protocol",
                ),
                ErrorCode::INVALID_SESSION_TIMEOUT => error.with_note(
                    "; session_timeout is not between the broker's group.min.session.timeout.ms and \
                     group.max.session.timeout.ms",
                ),
                _ => error,
            }
        }
        Problem::Unsupported { api } => Error::new(
            ErrorKind::Unsupported,
            format!("group `{group}`: the broker does not know {api} as this member needs it: it is too old"),
        ),
        Problem::UnknownProtocol(protocol) => Error::new(
            ErrorKind::Protocol,
            format!("group `{group}` goes by the strategy `{protocol}`, which this member did not offer"),
        ),
        Problem::Malformed => Error::new(
            ErrorKind::Protocol,
            format!("the leader of group `{group}` gave this member what is no assignment; it joins again"),
        ),
        Problem::PollInterval => Error::new(
            ErrorKind::Timeout,
            format!(
                "no poll for longer than max_poll_interval ({:?}): this consumer has left group `{group}`, and joins \
                 again; raise max_poll_interval, or do less between polls",
                settings.max_poll_interval
            ),
        ),
        Problem::LateRejoin => Error::new(
            ErrorKind::Timeout,
            format!(
                "a rebalance of group `{group}` waited for this consumer for longer than max_poll_interval ({:?}): its \
                 partitions are lost, and it joins again; poll more often, let go of guards, or raise max_poll_interval",
                settings.max_poll_interval
            ),
        ),
        Problem::SessionExpired => Error::new(
            ErrorKind::Timeout,
            format!(
                "no heartbeat reached the coordinator of group `{group}` for as long as a session lasts: its partitions \
                 are lost, and it joins again"
            ),
        ),
    }
}
