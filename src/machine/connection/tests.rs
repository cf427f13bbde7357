//! Histories of one connection, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;
use crate::wire::cluster::api_versions::{ApiVersion, ApiVersionsResponse};

mod ends;
mod histories;
mod requests;
mod setup;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const SETUP: Duration = ms(1000);
const IDLE: Duration = ms(60_000);
const LIMIT: usize = 1 << 20;

fn config() -> Config {
    Config { client_id: "me".into(), setup_timeout: SETUP, max_idle: IDLE, max_response_size: LIMIT }
}

/// A request whose body is its token, so that a test knows it again on the wire.
struct Probe {
    api: ApiKey,
    token: Token,
    is_answered: bool,
    asked_bytes: usize,
    within: Option<Duration>,
    error: Option<EncodeError>,
}

impl Outgoing for Probe {
    fn terms(&self) -> Terms {
        Terms {
            api: self.api,
            versions: Versions { first: 4, last: 12 },
            answer_within: self.within,
            is_answered: self.is_answered,
            asked_bytes: self.asked_bytes,
        }
    }

    fn encode(&self, header: RequestHeader<'_>) -> Result<Frame, EncodeError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut bytes = vec![0, 0, 0, 16];
        bytes.extend(self.api.0.to_be_bytes());
        bytes.extend(header.version.to_be_bytes());
        bytes.extend(header.correlation.to_be_bytes());
        bytes.extend(self.token.to_be_bytes());
        Ok(Frame { segments: vec![bytes.into()] })
    }
}

fn probe(token: Token) -> Box<Probe> {
    Box::new(Probe { api: ApiKey::FETCH, token, is_answered: true, asked_bytes: 0, within: None, error: None })
}

fn silent(token: Token) -> Box<Probe> {
    Box::new(Probe { api: ApiKey::PRODUCE, is_answered: false, ..*probe(token) })
}

/// What a frame says in front of its body.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    api: ApiKey,
    version: i16,
    correlation: i32,
    /// The last eight bytes: a probe's token.
    token: Token,
}

fn header(frame: &Frame) -> Header {
    let bytes = frame.to_bytes();
    Header {
        api: ApiKey(i16::from_be_bytes(bytes[4..6].try_into().unwrap())),
        version: i16::from_be_bytes(bytes[6..8].try_into().unwrap()),
        correlation: i32::from_be_bytes(bytes[8..12].try_into().unwrap()),
        token: u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().unwrap()),
    }
}

fn answer(correlation: i32) -> Bytes {
    [&correlation.to_be_bytes()[..], b"answer"].concat().into()
}

const OFFERED: &[(ApiKey, i16, i16)] =
    &[(ApiKey::API_VERSIONS, 0, 4), (ApiKey::FETCH, 0, 11), (ApiKey::PRODUCE, 3, 20), (ApiKey::METADATA, 0, 3)];

fn versions_answer(correlation: i32, version: i16, error_code: ErrorCode, offered: &[(ApiKey, i16, i16)]) -> Bytes {
    let entry = |&(key, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: key.0,
        min_version,
        max_version,
        ..Default::default()
    };
    let response =
        ApiVersionsResponse { error_code, api_keys: offered.iter().map(entry).collect(), ..Default::default() };
    let body = frame::encode_body(&response, version, version >= 3).unwrap();
    [&correlation.to_be_bytes()[..], &body].concat().into()
}

/// A connection, its clock, and the end of its wire.
struct Rig {
    now: Instant,
    connection: Connection,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, connection: Connection::new(now, config()) }
    }

    fn ready() -> Self {
        let mut rig = Self::new();
        let asked = rig.transmit().unwrap();
        rig.frame(versions_answer(asked.correlation, asked.version, ErrorCode::NONE, OFFERED));
        assert!(matches!(rig.connection.poll_event(), Some(Event::Ready(_))));
        rig
    }

    fn send(&mut self, token: Token, after: Duration) {
        self.connection.send(self.now, token, probe(token), self.now + after);
    }

    fn send_silent(&mut self, token: Token, after: Duration) {
        self.connection.send(self.now, token, silent(token), self.now + after);
    }

    fn transmit(&mut self) -> Option<Header> {
        // A probe is no request.
        let mut frames = std::iter::from_fn(|| self.connection.poll_transmit());
        frames.find(|frame| frame.segments[0] != PROBE).as_ref().map(header)
    }

    fn frame(&mut self, frame: Bytes) {
        self.connection.handle_frame(self.now, frame);
    }

    fn answer(&mut self, correlation: i32) {
        self.frame(answer(correlation));
    }

    /// Goes on to `after` from now and lets the timers that are due ring, each at its own time.
    fn wait(&mut self, after: Duration) {
        let end = self.now + after;
        while let Some(at) = self.connection.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.connection.handle_timeout(self.now);
            assert!(self.connection.poll_timeout().is_none_or(|next| next > self.now), "a timer rings forever");
        }
        self.now = end;
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.connection.poll_event()).map(|event| text(&event)).collect()
    }
}

/// An event in a word or two, so that histories compare at a glance.
fn text(event: &Event) -> String {
    match event {
        Event::Ready(_) => "ready".into(),
        Event::Answer { token, .. } => format!("answer {token}"),
        Event::Sent { token } => format!("sent {token}"),
        Event::Failed { token, error: CallError::Lost { cause, sent } } => {
            format!("lost {token} {} {cause:?}", if *sent { "sent" } else { "unsent" })
        }
        Event::Failed { token, error } => format!("failed {token} {error}"),
        Event::Dead(cause) => format!("dead {cause:?}"),
    }
}
