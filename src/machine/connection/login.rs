//! A connection logs in: before it is ready, and again before its session ends.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Cause, Connection, Event, State, Written};
use crate::machine::sasl::{self, Login, Progress, Work};
use crate::wire::api::ApiKey;
use crate::wire::cluster::sasl_authenticate::SaslAuthenticateRequest;
use crate::wire::cluster::sasl_handshake::SaslHandshakeRequest;
use crate::wire::frame;

impl Connection {
    /// Told before anything else: the connection logs in before it is ready, and again before a session ends.
    pub fn require_login(&mut self, login: Login) {
        self.login = Some(login);
    }

    /// What the driver has to do before the login goes on; it tells by [`Self::handle_work`].
    pub fn poll_work(&mut self) -> Option<Work> {
        self.login.as_mut().and_then(Login::poll_work)
    }

    pub fn handle_work(&mut self, done: sasl::Done) {
        let Some(login) = &mut self.login else { return };
        match login.handle_done(done) {
            Ok(Some(message)) => self.transmit_login(message),
            Ok(None) => {}
            Err(failure) => self.die(Cause::Login(Arc::new(failure))),
        }
    }

    pub(super) fn login_due(&self) -> Option<Instant> {
        self.login.as_ref().and_then(Login::due)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.login_due().is_some_and(|due| due <= now)
    }

    /// Nothing is under way, so that all that comes next is the login's.
    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.transmits.is_empty() && self.muted_until.is_none()
    }

    /// Rule 77: from when it is due, requests are parked; once all are answered, the connection is the login's alone.
    pub(super) fn log_in_again(&mut self, now: Instant) {
        if !self.is_due(now) || !self.is_quiet() {
            return;
        }
        if let (State::Ready(versions), Some(login)) = (&self.state, &mut self.login) {
            login.begin(now);
            let deadline = now + self.config.setup_timeout;
            self.state = State::LoggingIn { versions: Arc::clone(versions), deadline };
        }
    }

    fn transmit_login(&mut self, message: sasl::Message) {
        let correlation = self.correlation();
        let (State::LoggingIn { versions, .. }, Some(login)) = (&self.state, &mut self.login) else { return };
        match login.encode(message, versions, correlation, &self.config.client_id) {
            Ok(frame) => self.transmits.push_back((frame, Written::Negotiation)),
            Err(failure) => self.die(Cause::Login(Arc::new(failure))),
        }
    }

    pub(super) fn handle_login(&mut self, now: Instant, correlation: i32, frame: &Bytes) {
        let Some(login) = &mut self.login else { return };
        let Some(asked) = login.asked() else { return self.die(Cause::Unasked) };
        if asked.correlation != correlation {
            return self.die(Cause::WrongCorrelation { expected: asked.correlation, got: correlation });
        }
        let progress = match asked.api {
            ApiKey::SASL_HANDSHAKE => frame::decode_response::<SaslHandshakeRequest>(frame, asked.version)
                .map(|response| login.handle_handshake(&response)),
            _ => frame::decode_response::<SaslAuthenticateRequest>(frame, asked.version)
                .map(|response| login.handle_token(now, &response)),
        };
        match progress {
            Err(error) => self.die(Cause::Decode { api: asked.api, error }),
            Ok(Err(failure)) => self.die(Cause::Login(Arc::new(failure))),
            Ok(Ok(Progress::Wait)) => {}
            Ok(Ok(Progress::Send(message))) => self.transmit_login(message),
            Ok(Ok(Progress::Done { is_first })) => {
                let State::LoggingIn { versions, .. } = &self.state else { return };
                let versions = Arc::clone(versions);
                self.state = State::Ready(Arc::clone(&versions));
                if is_first {
                    self.events.push_back(Event::Ready(versions));
                }
                self.send_waiting(now);
            }
        }
    }

    pub(super) fn login_timed_out(&mut self) {
        if let Some(login) = &self.login {
            let failure = login.timed_out(self.config.setup_timeout);
            self.die(Cause::Login(Arc::new(failure)));
        }
    }
}
