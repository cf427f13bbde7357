//! The course of an authentication on one connection, and when it is due again.
//!
//! ```text
//!            begin             prepared               mechanism accepted             Over, and code 0
//!   Valid ─────────▶ Working ───────────▶ Handshake ───────────────────▶ Token ─────────────────────▶ Valid
//!     ▲                 ▲                                                 │ ▲                           │
//!     │                 └──────────── a password is to be hashed ─────────┘ └─ something to say         │
//!     └──────────────── until 85 to 95 % of the session's lifetime are over (KIP-368) ──────────────────┘
//! ```
//! The connection owns requests and frames, and sees to it that nothing else is under way meanwhile (rule 77).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::exchange::{Exchange, Mechanism, Step};
use super::failure::{Failure, Problem, tame};
use super::scram::{Derivation, Derived};
use super::secret::Secret;
use crate::wire::api::{ApiKey, BrokerVersions};
use crate::wire::cluster::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::wire::cluster::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use crate::wire::cursor::{EncodeError, Frame};
use crate::wire::error_code::ErrorCode;
use crate::wire::frame::{self, RequestHeader};
use crate::wire::message::Versions;

/// What the driver has to do before the login goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// Bring credentials and a nonce.
    Prepare,
    Derive(Derivation),
}

/// What came of a [`Work`].
#[derive(Debug)]
pub enum Done {
    Prepared(Result<Exchange, Failure>),
    Derived(Derived),
}

/// What to send next.
#[derive(Debug)]
pub enum Message {
    Handshake(Mechanism),
    Token(Secret),
}

/// What follows an answer.
#[derive(Debug)]
pub enum Progress {
    Send(Message),
    /// There is [`Work`].
    Wait,
    /// Authenticated, for the first time on this connection or again.
    Done {
        is_first: bool,
    },
}

/// Asked, and not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub api: ApiKey,
    pub version: i16,
    pub correlation: i32,
}

#[derive(Debug)]
enum Stage {
    /// Not begun, or successful until `due` at least.
    Valid {
        due: Option<Instant>,
    },
    /// The driver works: on an exchange to begin, or for this one.
    Working(Option<Exchange>),
    Handshake(Exchange),
    Token(Exchange),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Login {
    mechanism: Mechanism,
    principal: Option<Arc<str>>,
    stage: Stage,
    work: Option<Work>,
    asked: Option<Asked>,
    is_first: bool,
    /// When the latest round began.
    began: Option<Instant>,
    /// Of a lifetime, in thousandths: 850 to 950, so that connections of one age do not come together.
    share: u32,
}

/// Brokers refuse to authenticate a connection again within a second.
const SHORTEST_ROUND: Duration = Duration::from_millis(1050);

impl Login {
    /// `random` is any 64 random bits, drawn by the caller.
    pub fn new(mechanism: Mechanism, random: u64) -> Self {
        let share = 850 + u32::try_from(random % 101).unwrap_or(0);
        let stage = Stage::Valid { due: None };
        Self { mechanism, principal: None, stage, work: None, asked: None, is_first: true, began: None, share }
    }

    pub fn begin(&mut self, now: Instant) {
        self.began = Some(now);
        self.work = Some(Work::Prepare);
        self.stage = Stage::Working(None);
    }

    pub fn poll_work(&mut self) -> Option<Work> {
        self.work.take()
    }

    /// When to begin again.
    pub fn due(&self) -> Option<Instant> {
        match self.stage {
            Stage::Valid { due } => due,
            _ => None,
        }
    }

    pub fn asked(&self) -> Option<Asked> {
        self.asked
    }

    pub fn handle_done(&mut self, done: Done) -> Result<Option<Message>, Failure> {
        match (done, std::mem::replace(&mut self.stage, Stage::Working(None))) {
            (Done::Prepared(Ok(exchange)), Stage::Working(None)) => {
                self.mechanism = exchange.mechanism();
                self.principal = exchange.principal();
                self.stage = Stage::Handshake(exchange);
                Ok(Some(Message::Handshake(self.mechanism)))
            }
            (Done::Prepared(Err(failure)), _) => Err(Failure { again: !self.is_first, ..failure }),
            (Done::Derived(derived), Stage::Working(Some(mut exchange))) => {
                let token = exchange.handle_derived(derived).map_err(|problem| self.failure(problem))?;
                self.stage = Stage::Token(exchange);
                Ok(Some(Message::Token(token)))
            }
            // Done twice, or for a round that is over: nobody waits for it.
            (_, stage) => {
                self.stage = stage;
                Ok(None)
            }
        }
    }

    /// The frame of a message, which is then on its way.
    pub fn encode(
        &mut self,
        message: Message,
        versions: &BrokerVersions,
        correlation: i32,
        client_id: &str,
    ) -> Result<Frame, Failure> {
        let client_id = Some(client_id);
        let too_old = |_| self.failure(Problem::TooOld);
        let too_long = |_: EncodeError| self.failure(Problem::Credentials("they are too long"));
        let (api, version, frame) = match message {
            Message::Handshake(mechanism) => {
                let request = SaslHandshakeRequest { mechanism: Arc::from(mechanism.name()), ..Default::default() };
                // v0 is followed by tokens without frames; every broker since 1.0 has v1.
                let api = ApiKey::SASL_HANDSHAKE;
                let version = versions.pick(api, Versions { first: 1, last: 1 }).map_err(too_old)?;
                let header = RequestHeader { version, correlation, client_id };
                (api, version, frame::encode_request(&request, header).map_err(too_long)?)
            }
            Message::Token(token) => {
                let version = versions.pick_for::<SaslAuthenticateRequest>().map_err(too_old)?;
                let header = RequestHeader { version, correlation, client_id };
                (ApiKey::SASL_AUTHENTICATE, version, encode_token(&token, header).map_err(too_long)?)
            }
        };
        self.asked = Some(Asked { api, version, correlation });
        Ok(frame)
    }

    pub fn handle_handshake(&mut self, response: &SaslHandshakeResponse) -> Result<Progress, Failure> {
        self.asked = None;
        let problem = match response.error_code {
            ErrorCode::NONE => {
                let Stage::Handshake(mut exchange) = std::mem::replace(&mut self.stage, Stage::Working(None)) else {
                    return Err(self.failure(Problem::Invalid("an answer to a SaslHandshake that was not asked for")));
                };
                let token = exchange.begin();
                self.stage = Stage::Token(exchange);
                return Ok(Progress::Send(Message::Token(token)));
            }
            ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
                let offered: Vec<&str> = response.mechanisms.iter().map(|mechanism| &**mechanism).collect();
                Problem::NotOffered { offered: tame(&offered.join(", ")).into() }
            }
            ErrorCode::ILLEGAL_SASL_STATE if self.is_first => Problem::NoSasl,
            code => Problem::Refused { code, message: "SaslHandshake".into() },
        };
        Err(self.failure(problem))
    }

    pub fn handle_token(&mut self, now: Instant, response: &SaslAuthenticateResponse) -> Result<Progress, Failure> {
        self.asked = None;
        let Stage::Token(mut exchange) = std::mem::replace(&mut self.stage, Stage::Working(None)) else {
            return Err(self.failure(Problem::Invalid("an answer to a SaslAuthenticate that was not asked for")));
        };
        if !response.error_code.is_ok() {
            let said = response.error_message.as_deref().unwrap_or_default();
            let mut message = tame(&exchange.redact(said));
            if let Exchange::OAuthBearer(bearer) = &exchange
                && let Some(said) = bearer.said()
            {
                message = format!("{message} {said}");
            }
            return Err(self.failure(Problem::Refused { code: response.error_code, message: message.into() }));
        }
        match exchange.handle(&response.auth_bytes).map_err(|problem| self.failure(problem))? {
            Step::Say(token) => {
                self.stage = Stage::Token(exchange);
                Ok(Progress::Send(Message::Token(token)))
            }
            Step::Derive(derivation) => {
                self.work = Some(Work::Derive(derivation));
                self.stage = Stage::Working(Some(exchange));
                Ok(Progress::Wait)
            }
            Step::Over => {
                let due = self.due_again(now, response.session_lifetime_ms);
                self.stage = Stage::Valid { due };
                Ok(Progress::Done { is_first: std::mem::replace(&mut self.is_first, false) })
            }
        }
    }

    /// Zero is for ever; less means nothing.
    fn due_again(&self, now: Instant, lifetime_ms: i64) -> Option<Instant> {
        let lifetime = Duration::from_millis(u64::try_from(lifetime_ms).ok().filter(|&ms| ms > 0)?);
        let share = lifetime.checked_mul(self.share)? / 1000;
        // Later than a broker would accept it again, unless the session is over by then.
        let floor = self.began.map(|began| began + SHORTEST_ROUND).filter(|&at| at < now + lifetime);
        let due = now.checked_add(share)?;
        Some(floor.map_or(due, |floor| due.max(floor)))
    }

    /// Its time is over.
    pub fn timed_out(&self, after: Duration) -> Failure {
        self.failure(Problem::TimedOut { after })
    }

    fn failure(&self, problem: Problem) -> Failure {
        let Self { mechanism, principal, is_first, .. } = self;
        Failure { mechanism: *mechanism, principal: principal.clone(), problem, again: !is_first }
    }
}

/// A SaslAuthenticate request whose token is in one place, which is wiped once it is written.
///
/// ```text
///   | size i32 | header ... | length i32 | token |         up to v1
///   | size i32 | header ... | length+1 uvarint | token | tags: 0 |
/// ```
fn encode_token(token: &Secret, header: RequestHeader<'_>) -> Result<Frame, EncodeError> {
    // The frame of as many zeros, which is then written over: where the token is, and only there.
    let token = token.expose();
    let zeros = SaslAuthenticateRequest { auth_bytes: Bytes::from(vec![0; token.len()]), ..Default::default() };
    let mut frame = Vec::from(frame::encode_request(&zeros, header)?.to_bytes());
    let tail = usize::from(header.version >= 2);
    let end = frame.len() - tail;
    frame[end - token.len()..end].copy_from_slice(token);
    Ok(Frame { segments: vec![Secret::new(frame).into_bytes()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_encoded_as_the_table_says() {
        for version in 0..=2 {
            for length in [0, 1, 126, 127, 128, 1000, 1024, 20_000] {
                let token = vec![7; length];
                let header = RequestHeader { version, correlation: 9, client_id: Some("me") };
                let ours = encode_token(&Secret::new(token.clone()), header).unwrap();
                let request = SaslAuthenticateRequest { auth_bytes: token.into(), ..Default::default() };
                let table = frame::encode_request(&request, header).unwrap();
                assert_eq!(ours.to_bytes(), table.to_bytes(), "v{version}, {length} bytes");
            }
        }
    }
}
