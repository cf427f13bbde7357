//! One authentication by one mechanism: what the client says, and what it makes of each answer.

use std::fmt;
use std::sync::Arc;

use super::failure::Problem;
use super::oauthbearer::OAuthBearer;
use super::plain::Plain;
use super::scram::{Derivation, Derived, Hash, Scram};
use super::secret::Secret;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    OAuthBearer,
}

impl Mechanism {
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OAuthBearer];

    /// As IANA registers it and SaslHandshake sends it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OAuthBearer => "OAUTHBEARER",
        }
    }

    /// Whether the peer, and whoever listens, learns something that works as the client's password.
    pub const fn reveals_secret(self) -> bool {
        matches!(self, Self::Plain | Self::OAuthBearer)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An exchange under way; made anew for every authentication.
#[derive(Debug)]
pub enum Exchange {
    Plain(Plain),
    Scram(Scram),
    OAuthBearer(OAuthBearer),
}

/// What follows an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Say(Secret),
    /// A password is to be hashed, which may take long, before there is anything to say.
    Derive(Derivation),
    /// The mechanism is done. It counts if the broker said so too.
    Over,
}

impl Exchange {
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::Plain(_) => Mechanism::Plain,
            Self::Scram(scram) => match scram.hash() {
                Hash::Sha512 => Mechanism::ScramSha512,
                _ => Mechanism::ScramSha256,
            },
            Self::OAuthBearer(_) => Mechanism::OAuthBearer,
        }
    }

    pub fn principal(&self) -> Option<Arc<str>> {
        match self {
            Self::Plain(plain) => Some(plain.principal()),
            Self::Scram(scram) => Some(scram.principal()),
            Self::OAuthBearer(bearer) => bearer.principal(),
        }
    }

    /// The first words, which are the client's in all of these mechanisms.
    pub fn begin(&mut self) -> Secret {
        match self {
            Self::Plain(plain) => plain.message(),
            Self::Scram(scram) => scram.first(),
            Self::OAuthBearer(bearer) => bearer.message(),
        }
    }

    /// The broker's answer to what was said last.
    pub fn handle(&mut self, answer: &[u8]) -> Result<Step, Problem> {
        match self {
            // RFC 4616 knows no answer; what a broker says beside its error code is not ours to judge.
            Self::Plain(_) => Ok(Step::Over),
            Self::Scram(scram) => scram.handle(answer),
            Self::OAuthBearer(bearer) => bearer.handle(answer),
        }
    }

    /// What [`Step::Derive`] asked for.
    pub fn handle_derived(&mut self, derived: Derived) -> Result<Secret, Problem> {
        match self {
            Self::Scram(scram) => scram.handle_derived(derived),
            Self::Plain(_) | Self::OAuthBearer(_) => Err(Problem::Invalid("nothing was to be derived")),
        }
    }

    /// `text`, which a peer wrote, without our secret in it.
    pub fn redact(&self, text: &str) -> String {
        match self {
            Self::Plain(plain) => plain.redact(text),
            Self::Scram(scram) => scram.redact(text),
            Self::OAuthBearer(bearer) => bearer.redact(text),
        }
    }
}
