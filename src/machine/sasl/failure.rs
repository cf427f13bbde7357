//! Why an authentication failed, in words that name the mechanism and the principal and never the secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::Mechanism;
use crate::wire::error_code::ErrorCode;

/// An authentication that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub mechanism: Mechanism,
    /// Who the client says it is, as far as it knows.
    pub principal: Option<Arc<str>>,
    pub problem: Problem,
    /// The connection was authenticated before: a fresh one may do better (rule 77).
    pub again: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("the broker refused ({code}): {message}")]
    Refused { code: ErrorCode, message: Arc<str> },
    #[error("the broker does not offer this mechanism on this listener, but {offered}")]
    NotOffered { offered: Arc<str> },
    #[error("this listener does not authenticate its clients: leave SASL out, or use another port")]
    NoSasl,
    #[error("the broker is too old: authentication needs SaslHandshake v1 and SaslAuthenticate (Kafka 1.0)")]
    TooOld,
    /// What the broker sent is not in its place.
    #[error("the broker's answer is not valid: {0}")]
    Invalid(&'static str),
    #[error(
        "the broker asks for {asked} iterations, outside of {}..={}: it may be an impostor",
        super::scram::ITERATIONS.start(),
        super::scram::ITERATIONS.end()
    )]
    Iterations { asked: u64 },
    #[error("the broker could not prove that it knows the password: it may be an impostor")]
    Impostor,
    #[error("the credentials cannot be sent: {0}")]
    Credentials(&'static str),
    /// Whoever was to bring credentials did not.
    #[error("no credentials: {message}")]
    Provider { message: Arc<str>, is_transient: bool },
    #[error("not done within {after:?} (connection_setup_timeout)")]
    TimedOut { after: Duration },
}

impl Failure {
    /// Whether a new connection may do better without any change of settings.
    pub fn is_transient(&self) -> bool {
        let passes = matches!(self.problem, Problem::Provider { is_transient: true, .. } | Problem::TimedOut { .. });
        self.again || passes
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mechanism, principal, problem, again } = self;
        f.write_str(if *again { "authenticating again" } else { "authenticating" })?;
        match principal {
            Some(principal) => write!(f, " by {mechanism} as `{principal}`: {problem}"),
            None => write!(f, " by {mechanism}: {problem}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A peer's text for a message of ours: one line, of bounded length.
pub fn tame(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut tame: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        tame.push('…');
    }
    tame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_is_one_short_line() {
        assert_eq!(tame("no\n\x1b[31mway"), "no  [31mway");
        assert_eq!(tame(&"x".repeat(1000)).chars().count(), 301);
    }

    #[test]
    fn a_failure_names_mechanism_and_principal() {
        let problem = Problem::Refused { code: ErrorCode::SASL_AUTHENTICATION_FAILED, message: "no".into() };
        let failure =
            Failure { mechanism: Mechanism::ScramSha256, principal: Some("alice".into()), problem, again: false };
        assert_eq!(
            failure.to_string(),
            "authenticating by SCRAM-SHA-256 as `alice`: the broker refused (SASL_AUTHENTICATION_FAILED (58)): no"
        );
        assert!(!failure.is_transient());
        assert!(Failure { again: true, ..failure }.is_transient());
    }
}
