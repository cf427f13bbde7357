//! SASL as a broker sees it: who may come in, and for how long. Written from the RFCs, not from the client.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};

use super::api::Api;
use super::broker::{Call, Handle, Handled, Shared};
use super::fault::Target;
use super::sasl_scram::{self as scram, Server};

/// The users of a cluster that wants to know them.
#[derive(Debug)]
pub(super) struct Users {
    passwords: Mutex<BTreeMap<String, String>>,
    mechanisms: Vec<String>,
    lifetime: Option<Duration>,
    iterations: u32,
    /// What is slow to compute, by user, password and hash.
    salted: Mutex<BTreeMap<(String, String, bool), Vec<u8>>>,
}

impl Users {
    pub(super) fn new(
        passwords: BTreeMap<String, String>,
        mechanisms: Vec<String>,
        lifetime: Option<Duration>,
        iterations: u32,
    ) -> Self {
        let salted = Mutex::default();
        Self { passwords: Mutex::new(passwords), mechanisms, lifetime, iterations, salted }
    }

    pub(super) fn set_password(&self, user: &str, password: &str) {
        self.lock().insert(user.to_owned(), password.to_owned());
    }

    fn password(&self, user: &str) -> Option<String> {
        self.lock().get(user).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.passwords.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a connection has come.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<Passage>);

#[derive(Debug, Default)]
struct Passage {
    stage: Stage,
    /// When the last authentication began.
    began: Option<Duration>,
    user: Option<String>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Outside,
    Chosen(String),
    Scram(Server),
    Inside {
        until: Option<Duration>,
    },
    Failed,
}

impl Gate {
    /// What is wrong with a request at this point, if anything is: a real broker closes the connection over it.
    pub(super) fn refusal(&self, shared: &Shared, api: Api) -> Option<String> {
        shared.users.as_ref()?;
        match &self.lock().stage {
            Stage::Inside { until } => {
                let is_over = until.is_some_and(|until| shared.runtime.elapsed() >= until);
                (is_over && api != Api::SaslHandshake).then(|| format!("{api} behind the end of the session"))
            }
            Stage::Outside if matches!(api, Api::ApiVersions | Api::SaslHandshake) => None,
            Stage::Chosen(_) | Stage::Scram(_) if api == Api::SaslAuthenticate => None,
            stage => Some(format!("{api} before the client has authenticated ({stage:?})")),
        }
    }

    /// Whether the connection is to be closed, now that the client has been told.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.lock().stage, Stage::Failed)
    }

    fn lock(&self) -> MutexGuard<'_, Passage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brokers refuse to authenticate a connection again within a second.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);

impl Handle for SaslHandshakeRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let now = call.shared.runtime.elapsed();
        let mut passage = call.gate.lock();
        let is_early = passage.began.is_some_and(|began| now < began + SHORTEST_ROUND);
        let (error, mechanisms) = match &call.shared.users {
            _ if call.effects.error().is_some() => (call.effects.error().unwrap_or_default(), &[][..]),
            None => (ResponseError::IllegalSaslState.code(), &[][..]),
            Some(_) if is_early => (ResponseError::IllegalSaslState.code(), &[][..]),
            Some(users) if !users.mechanisms.contains(&self.mechanism.to_string()) => {
                (ResponseError::UnsupportedSaslMechanism.code(), &users.mechanisms[..])
            }
            Some(users) => (0, &users.mechanisms[..]),
        };
        passage.began = Some(now);
        passage.stage = if error == 0 { Stage::Chosen(self.mechanism.to_string()) } else { Stage::Failed };
        let mechanisms = mechanisms.iter().map(|name| name.clone().into()).collect();
        call.answer(&SaslHandshakeResponse::default().with_error_code(error).with_mechanisms(mechanisms))
    }
}

impl Handle for SaslAuthenticateRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        Vec::new()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let mut passage = call.gate.lock();
        let outcome = match (&call.shared.users, call.effects.error()) {
            (Some(users), None) => passage.authenticate(users, &self.auth_bytes, call),
            _ => Err("Authentication failed".to_owned()),
        };
        let answer = SaslAuthenticateResponse::default();
        match outcome {
            Ok(token) => {
                let lifetime = match (&passage.stage, &call.shared.users) {
                    (Stage::Inside { .. }, Some(users)) => users.lifetime.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                let mut answer = answer.with_auth_bytes(token.into());
                if call.version >= 1 {
                    answer.session_lifetime_ms = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
                }
                call.answer(&answer)
            }
            Err(message) => {
                passage.stage = Stage::Failed;
                let code = call.effects.error().unwrap_or(ResponseError::SaslAuthenticationFailed.code());
                call.answer(&answer.with_error_code(code).with_error_message(Some(message.into())))
            }
        }
    }
}

impl Passage {
    /// What to answer to a client's token.
    fn authenticate(&mut self, users: &Users, token: &[u8], call: &Call<'_>) -> Result<Vec<u8>, String> {
        match std::mem::take(&mut self.stage) {
            Stage::Chosen(mechanism) if mechanism == "PLAIN" => {
                let text = std::str::from_utf8(token).map_err(|_| "Invalid SASL/PLAIN response")?;
                let fields: Vec<&str> = text.split('\0').collect();
                let [authorization, user, password] = fields[..] else {
                    return Err(format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", fields.len()));
                };
                if !(authorization.is_empty() || authorization == user)
                    || users.password(user).as_deref() != Some(password)
                {
                    return Err("Authentication failed: Invalid username or password".to_owned());
                }
                self.enter(user.to_owned(), users, call)?;
                Ok(Vec::new())
            }
            Stage::Chosen(mechanism) => {
                let hash = if mechanism == "SCRAM-SHA-512" { scram::Hash::Sha512 } else { scram::Hash::Sha256 };
                let nonce = format!("{:x}", call.state().random());
                let (server, answer) = Server::first(hash, token, &nonce, users.iterations)?;
                self.stage = Stage::Scram(server);
                Ok(answer.into_bytes())
            }
            Stage::Scram(server) => {
                let failed = "Authentication failed during authentication due to invalid credentials with SASL mechanism \
                              SCRAM";
                let password = users.password(&server.user).ok_or(failed)?;
                let answer = {
                    let key = (server.user.clone(), password.clone(), matches!(server.hash, scram::Hash::Sha512));
                    let mut salted = users.salted.lock().unwrap_or_else(PoisonError::into_inner);
                    let salted = salted.entry(key).or_insert_with(|| server.salted(&password));
                    server.last(token, salted).ok_or(failed)?
                };
                self.enter(server.user, users, call)?;
                Ok(answer.into_bytes())
            }
            _ => Err("SaslAuthenticate without SaslHandshake".to_owned()),
        }
    }

    fn enter(&mut self, user: String, users: &Users, call: &Call<'_>) -> Result<(), String> {
        if self.user.as_ref().is_some_and(|before| *before != user) {
            return Err("Cannot change principals during re-authentication".to_owned());
        }
        self.user = Some(user);
        self.stage = Stage::Inside { until: users.lifetime.map(|lifetime| call.shared.runtime.elapsed() + lifetime) };
        Ok(())
    }
}
