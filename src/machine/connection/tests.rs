//! Histories of one connection, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::wire::cluster::api_versions::{ApiVersion, ApiVersionsResponse};

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
    fn api(&self) -> ApiKey {
        self.api
    }

    fn versions(&self) -> Versions {
        Versions { first: 4, last: 12 }
    }

    fn answer_within(&self) -> Option<Duration> {
        self.within
    }

    fn is_answered(&self) -> bool {
        self.is_answered
    }

    fn asked_bytes(&self) -> usize {
        self.asked_bytes
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

#[test]
fn versions_come_first_and_open_the_way() {
    let mut rig = Rig::new();
    rig.send(1, ms(500));
    assert!(rig.connection.versions().is_none());
    let asked = rig.transmit().unwrap();
    assert_eq!((asked.api, asked.version), (ApiKey::API_VERSIONS, 3));
    assert_eq!(rig.transmit(), None, "nothing else before versions are known");
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    rig.send(2, ms(500));
    assert_eq!(rig.events(), ["ready"]);
    // Versions by intersection: ours 4 to 12, the broker's 0 to 11.
    let (first, second) = (rig.transmit().unwrap(), rig.transmit().unwrap());
    assert_eq!((first.token, first.version, second.token), (1, 11, 2));
    assert_eq!(rig.connection.in_flight(), 2);
    rig.answer(first.correlation);
    rig.answer(second.correlation);
    assert_eq!(rig.events(), ["answer 1", "answer 2"]);
    assert_eq!(rig.connection.in_flight(), 0);
}

#[test]
fn an_answer_carries_its_version_and_bytes() {
    let mut rig = Rig::ready();
    rig.send(7, ms(500));
    let sent = rig.transmit().unwrap();
    rig.answer(sent.correlation);
    let Some(Event::Answer { token: 7, version: 11, frame }) = rig.connection.poll_event() else {
        panic!("no answer");
    };
    assert_eq!(frame, answer(sent.correlation));
}

/// KIP-511, and rule 73: strictly lower each time, so that a broker that refuses everything ends it.
#[test]
fn error_35_leads_to_lower_versions_and_to_an_end() {
    let known: &[&[(ApiKey, i16, i16)]] = &[
        &[],
        &[(ApiKey::API_VERSIONS, 0, 1)],
        &[(ApiKey::API_VERSIONS, 0, 99)],
        &[(ApiKey::API_VERSIONS, 5, 9)],
        &[(ApiKey::API_VERSIONS, 7, 2)],
    ];
    for (offered, expected) in known.iter().zip([&[3, 0][..], &[3, 1, 0], &[3, 2, 1, 0], &[3, 2, 1, 0], &[3, 0]]) {
        let mut rig = Rig::new();
        let mut asked = Vec::new();
        while let Some(question) = rig.transmit() {
            asked.push(question.version);
            rig.frame(versions_answer(question.correlation, 0, ErrorCode::UNSUPPORTED_VERSION, offered));
        }
        assert_eq!(asked, expected, "{offered:?}");
        assert_eq!(rig.events(), ["dead Refused(UNSUPPORTED_VERSION (35))"]);
    }
}

#[test]
fn a_fallback_works_and_does_not_extend_the_setup_time() {
    let mut rig = Rig::new();
    let first = rig.transmit().unwrap();
    rig.wait(ms(900));
    rig.frame(versions_answer(first.correlation, 0, ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::API_VERSIONS, 0, 2)]));
    let second = rig.transmit().unwrap();
    assert_eq!(second.version, 2);
    assert_ne!(first.correlation, second.correlation);
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(100)));
    rig.frame(versions_answer(second.correlation, 2, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.events(), ["ready"]);
}

#[test]
fn a_silent_peer_is_probed_once_before_it_is_given_up() {
    let mut rig = Rig::new();
    let probe = Frame { segments: vec![Bytes::from_static(PROBE)] };
    rig.connection.poll_transmit().unwrap();
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(900)));
    rig.wait(ms(900));
    assert_eq!(rig.connection.poll_transmit(), Some(probe));
    rig.wait(ms(99));
    assert_eq!(rig.connection.poll_transmit(), None);
    assert_eq!(rig.connection.handle_size(*b"HTTP"), None);
    assert_eq!(rig.events(), ["dead Http"]);

    // Whoever answers just in time is not.
    let mut rig = Rig::new();
    let asked = header(&rig.connection.poll_transmit().unwrap());
    rig.wait(ms(950));
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.connection.poll_transmit(), None);
    assert_eq!(rig.events(), ["ready"]);
}

/// Rule 73: the code counts even when the list is empty, and with any list.
#[test]
fn versions_with_an_error_code_are_refused() {
    for offered in [&[][..], OFFERED] {
        let mut rig = Rig::new();
        let asked = rig.transmit().unwrap();
        rig.frame(versions_answer(asked.correlation, 3, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, offered));
        assert_eq!(rig.events(), ["dead Refused(CLUSTER_AUTHORIZATION_FAILED (31))"]);
    }
}

#[test]
fn versions_that_are_no_versions_end_the_connection() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(500));
    rig.frame([&asked.correlation.to_be_bytes()[..], &[0, 0, 0x7f, 0xff, 0xff, 0xff]].concat().into());
    let events = rig.events();
    assert!(events[0].starts_with("lost 1 unsent Decode { api: ApiVersions"), "{events:?}");
    assert!(events[1].starts_with("dead Decode"), "{events:?}");
    // The wrong correlation id ends it as well.
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.frame(versions_answer(asked.correlation + 1, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.events(), ["dead WrongCorrelation { expected: 0, got: 1 }"]);
}

#[test]
fn the_set_up_has_a_deadline() {
    let mut rig = Rig::new();
    rig.send(1, ms(60_000));
    rig.transmit();
    rig.wait(SETUP - ms(1));
    assert_eq!(rig.events(), [""; 0]);
    rig.wait(ms(1));
    assert_eq!(rig.events(), ["lost 1 unsent SetupTimeout { after: 1s }", "dead SetupTimeout { after: 1s }"]);
    assert_eq!(rig.connection.poll_timeout(), None);
}

#[test]
fn answers_belong_to_the_head_of_the_queue() {
    let mut rig = Rig::ready();
    (1..=3).for_each(|token| rig.send(token, ms(500)));
    let sent: Vec<_> = (0..3).map(|_| rig.transmit().unwrap().correlation).collect();
    rig.answer(sent[0]);
    rig.answer(sent[2]);
    let cause = format!("WrongCorrelation {{ expected: {}, got: {} }}", sent[1], sent[2]);
    let expected = ["answer 1".into(), format!("lost 2 sent {cause}"), format!("lost 3 sent {cause}")];
    assert_eq!(rig.events(), [&expected[..], &[format!("dead {cause}")]].concat());
}

#[test]
fn an_answer_that_nobody_asked_for_ends_it() {
    let mut rig = Rig::ready();
    rig.answer(9);
    assert_eq!(rig.events(), ["dead Unasked"]);
}

/// The peer cannot answer a request of which it has not seen a byte.
#[test]
fn an_answer_to_a_request_that_was_not_written_ends_it() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    let next = rig.connection.next_correlation - 1;
    rig.answer(next);
    assert_eq!(rig.events(), ["lost 1 unsent Unasked", "dead Unasked"]);
}

#[test]
fn the_terminal_cause_reaches_every_waiter_once() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.transmit();
    rig.send(2, ms(500));
    rig.send_silent(3, ms(500));
    rig.connection.mute(rig.now + ms(100));
    rig.send(4, ms(500));
    rig.connection.handle_lost(Some(&std::io::ErrorKind::ConnectionReset.into()));
    let cause = "Io { kind: ConnectionReset, message: \"connection reset\" }";
    let lost = |token, how| format!("lost {token} {how} {cause}");
    let expected = [lost(3, "unsent"), lost(1, "sent"), lost(2, "unsent"), lost(4, "unsent"), format!("dead {cause}")];
    assert_eq!(rig.events(), expected);
    // What comes later hears the same cause at once, and a second death changes nothing.
    rig.connection.close();
    rig.connection.handle_lost(None);
    rig.answer(1);
    rig.send(5, ms(500));
    assert_eq!(rig.events(), [lost(5, "unsent")]);
    assert_eq!(rig.transmit(), None);
}

/// Whoever stops listening at `Dead` must not miss a request that came between the death and its hearing of it.
#[test]
fn dead_is_the_last_event_even_for_a_request_that_comes_too_late() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.connection.close();
    rig.send(2, ms(500));
    assert_eq!(rig.events(), ["lost 1 unsent Closed", "lost 2 unsent Closed", "dead Closed"]);
}

#[test]
fn a_request_that_is_too_late_is_not_written() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.transmit();
    // On a ready connection: it would take its neighbours with it at once.
    rig.send(2, ms(0));
    assert_eq!(rig.events(), ["failed 2 Fetch could not be sent in time: no connection was ready"]);
    rig.wait(ms(100));
    assert_eq!(rig.connection.in_flight(), 1);
    // One that waited while the connection was muted.
    rig.connection.mute(rig.now + ms(100));
    rig.send(3, ms(50));
    rig.wait(ms(60));
    assert_eq!(rig.events(), ["failed 3 Fetch could not be sent in time: no connection was ready"]);
    assert_eq!(rig.transmit(), None);
}

#[test]
fn a_waiting_request_fails_at_its_own_deadline_and_harms_nobody() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(100));
    rig.send(2, ms(900));
    rig.wait(ms(100));
    assert_eq!(rig.events(), ["failed 1 Fetch could not be sent in time: no connection was ready"]);
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.transmit().unwrap().token, 2);
}

/// Rule 75. A long poll may stand before a short request, so deadlines do not ascend.
#[test]
fn the_earliest_deadline_counts_wherever_it_stands() {
    let mut rig = Rig::ready();
    rig.send(1, ms(30_000));
    rig.wait(ms(10));
    rig.send(2, ms(200));
    rig.transmit();
    rig.transmit();
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(200)));
    rig.wait(ms(200));
    let cause = "RequestTimeout { api: Fetch, after: 200ms }";
    assert_eq!(rig.events(), [format!("lost 1 sent {cause}"), format!("lost 2 sent {cause}"), format!("dead {cause}")]);
}

/// Rule 72: whoever asked may stop waiting earlier than the connection is given up.
#[test]
fn a_caller_in_a_hurry_does_not_condemn_the_connection() {
    let mut rig = Rig::ready();
    let patient = |token| Box::new(Probe { within: Some(ms(30_000)), ..*probe(token) });
    rig.connection.send(rig.now, 1, patient(1), rig.now + ms(100));
    let asked = rig.transmit().unwrap();
    rig.wait(ms(10_000));
    rig.answer(asked.correlation);
    assert_eq!(rig.events(), ["answer 1"]);
    // It may still not be sent later than whoever asked waits for it.
    rig.connection.mute(rig.now + ms(500));
    rig.connection.send(rig.now, 2, patient(2), rig.now + ms(100));
    rig.wait(ms(100));
    assert_eq!(rig.events(), ["failed 2 Fetch could not be sent in time: no connection was ready"]);
    rig.wait(ms(400));
    rig.connection.send(rig.now, 3, patient(3), rig.now + ms(100));
    rig.transmit();
    rig.wait(ms(30_000));
    let cause = "RequestTimeout { api: Fetch, after: 30s }";
    assert_eq!(rig.events(), [format!("lost 3 sent {cause}"), format!("dead {cause}")]);
}

/// Rule 23: acks=0 goes unanswered, except at Azure Event Hubs.
#[test]
fn silent_requests_are_done_when_written_and_their_answers_are_dropped() {
    for is_answered in [false, true] {
        let mut rig = Rig::ready();
        rig.send_silent(1, ms(500));
        rig.send(2, ms(500));
        rig.send_silent(3, ms(500));
        assert_eq!(rig.events(), [""; 0], "not before it is written");
        let sent: Vec<_> = (0..3).map(|_| rig.transmit().unwrap().correlation).collect();
        assert_eq!(rig.events(), ["sent 1", "sent 3"]);
        assert_eq!(rig.connection.in_flight(), 1);
        for (at, correlation) in sent.into_iter().enumerate() {
            if at == 1 || is_answered {
                rig.answer(correlation);
            }
        }
        assert_eq!(rig.events(), ["answer 2"]);
        rig.send(4, ms(500));
        let last = rig.transmit().unwrap();
        rig.answer(last.correlation);
        assert_eq!(rig.events(), ["answer 4"]);
    }
}

#[test]
fn a_million_silent_requests_are_not_remembered() {
    let mut rig = Rig::ready();
    for token in 0..10_000 {
        rig.send_silent(token, ms(500));
        rig.transmit();
        assert_eq!(rig.connection.poll_event().map(|event| text(&event)), Some(format!("sent {token}")));
    }
    assert!(rig.connection.silent.len() <= MAX_SILENT);
}

/// A peer that reads nothing: silent requests pile up before the socket, and the oldest one's deadline ends it.
#[test]
fn silent_requests_that_cannot_be_written_have_a_deadline() {
    let mut rig = Rig::ready();
    rig.send_silent(1, ms(300));
    rig.send_silent(2, ms(400));
    rig.wait(ms(300));
    let cause = "RequestTimeout { api: Produce, after: 300ms }";
    let expected = [format!("lost 1 unsent {cause}"), format!("lost 2 unsent {cause}"), format!("dead {cause}")];
    assert_eq!(rig.events(), expected);
}

/// KIP-219.
#[test]
fn a_mute_holds_back_what_is_sent_from_now_on() {
    let mut rig = Rig::ready();
    rig.send(1, ms(5000));
    rig.connection.mute(rig.now + ms(200));
    rig.connection.mute(rig.now + ms(100));
    rig.send(2, ms(5000));
    rig.send(3, ms(5000));
    let first = rig.transmit().unwrap();
    assert_eq!((first.token, rig.transmit()), (1, None));
    rig.wait(ms(199));
    // Answers still come in.
    rig.answer(first.correlation);
    assert_eq!((rig.events(), rig.transmit()), (vec!["answer 1".to_owned()], None));
    rig.wait(ms(1));
    assert_eq!((rig.transmit().unwrap().token, rig.transmit().unwrap().token), (2, 3));
    rig.send(4, ms(5000));
    assert_eq!(rig.transmit().unwrap().token, 4);
}

#[test]
fn a_mute_of_24_days_does_not_outlive_the_close() {
    let mut rig = Rig::ready();
    rig.connection.mute(rig.now + Duration::from_secs(24 * 24 * 3600));
    rig.send(1, ms(5000));
    rig.connection.close();
    assert_eq!(rig.events(), ["lost 1 unsent Closed", "dead Closed"]);
}

#[test]
fn a_mute_before_versions_are_known_holds_too() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(5000));
    rig.connection.mute(rig.now + ms(200));
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!((rig.events(), rig.transmit()), (vec!["ready".to_owned()], None));
    rig.wait(ms(200));
    assert_eq!(rig.transmit().unwrap().token, 1);
}

/// Rule 87: what is written counts as use, and so does what is read; what is under way is no idleness at all.
#[test]
fn idleness_counts_from_the_last_use_in_either_direction() {
    let mut rig = Rig::ready();
    rig.wait(IDLE - ms(1));
    rig.send_silent(1, ms(500));
    rig.transmit();
    rig.wait(IDLE - ms(1));
    assert_eq!(rig.events(), ["sent 1"]);
    rig.send(2, IDLE * 3);
    let asked = rig.transmit().unwrap();
    rig.wait(IDLE * 2);
    rig.answer(asked.correlation);
    assert_eq!(rig.events(), ["answer 2"]);
    rig.wait(IDLE - ms(1));
    assert_eq!(rig.events(), [""; 0]);
    rig.wait(ms(1));
    assert_eq!(rig.events(), ["dead Idle"]);
}

#[test]
fn sizes_are_refused_before_anything_is_read() {
    let size = |size: i32| size.to_be_bytes();
    for (is_ready, good, bad) in [
        (false, &[4, 16 * 1024][..], &[3, 0, -1, i32::MIN, 16 * 1024 + 1, i32::MAX][..]),
        (true, &[4, 16 * 1024 + 1, LIMIT as i32], &[3, 0, -1, LIMIT as i32 + 1, i32::MAX]),
    ] {
        let rig = || if is_ready { Rig::ready() } else { Rig::new() };
        for &claimed in good {
            assert_eq!(rig().connection.handle_size(size(claimed)), Some(claimed as usize));
        }
        for &claimed in bad {
            let mut rig = rig();
            assert_eq!(rig.connection.handle_size(size(claimed)), None);
            let limit = if is_ready { LIMIT } else { 16 * 1024 };
            let cause = if is_ready && claimed > 4 {
                format!("FrameSize {{ api: ApiVersions, size: {claimed}, limit: {limit} }}")
            } else {
                format!("NoAnswer {{ size: {claimed}, limit: {limit} }}")
            };
            assert_eq!(rig.events(), [format!("dead {cause}")]);
        }
    }
}

/// Answers come in the order of requests: so do their limits.
#[test]
fn the_oldest_request_in_flight_says_how_large_the_next_frame_may_be() {
    const ASKED: usize = 5_000;
    let size = |size: usize| (size as i32).to_be_bytes();
    // Two that ask for no bytes and a fetch between them, all in flight; and what was answered of it.
    let rig = |answered: usize| {
        let mut rig = Rig::ready();
        let mut asked = Vec::new();
        for (token, asked_bytes) in [(1, 0), (2, ASKED), (3, 0)] {
            let api = if asked_bytes > 0 { ApiKey::FETCH } else { ApiKey::PRODUCE };
            let probe = Probe { api, asked_bytes, ..*probe(token) };
            rig.connection.send(rig.now, token, Box::new(probe), rig.now + SETUP);
            asked.push(rig.transmit().unwrap().correlation);
        }
        for correlation in &asked[..answered] {
            rig.answer(*correlation);
        }
        rig.events();
        rig
    };
    for (answered, api, limit) in
        [(0, "Produce", LIMIT), (1, "Fetch", LIMIT + ASKED), (2, "Produce", LIMIT), (3, "ApiVersions", LIMIT)]
    {
        assert_eq!(rig(answered).connection.handle_size(size(limit)), Some(limit), "{api}");
        let mut rig = rig(answered);
        assert_eq!(rig.connection.handle_size(size(limit + 1)), None, "{api}");
        let dead = rig.events().pop().unwrap();
        assert_eq!(dead, format!("dead FrameSize {{ api: {api}, size: {}, limit: {limit} }}", limit + 1));
    }
    // What was asked for counts from the whole of 31 bits, too.
    let mut rig = Rig::ready();
    rig.connection.send(rig.now, 1, Box::new(Probe { asked_bytes: usize::MAX, ..*probe(1) }), rig.now + SETUP);
    rig.transmit().unwrap();
    assert_eq!(rig.connection.handle_size(i32::MAX.to_be_bytes()), Some(i32::MAX as usize));
}

#[test]
fn what_is_too_large_says_which_setting_helps() {
    let cause = Cause::FrameSize { api: ApiKey::METADATA, size: 101, limit: 100 };
    assert!(!cause.is_transient(), "the next answer is as large");
    assert_eq!(
        cause.to_string(),
        "Metadata was answered with 101 bytes, and 100 are the most that is accepted (max_response_size, and what a \
         fetch asks for): raise max_response_size"
    );
    let cause = Cause::NoAnswer { size: -1, limit: 100 };
    assert!(cause.is_transient());
    assert_eq!(cause.to_string(), "a frame of -1 bytes, where a broker's answer has 4 to 100: is this a Kafka broker?");
}

/// Rule 76: a stranger on the port is called by its name.
#[test]
fn strangers_are_recognised_by_their_first_bytes() {
    for (prefix, cause) in [
        (*b"HTTP", "Http"),
        (*b"<htm", "Http"),
        (*b"<!DO", "Http"),
        ([0x15, 3, 3, 0], "Tls"),
        ([0x15, 3, 1, 0], "Tls"),
        ([0x16, 3, 3, 1], "Tls"),
        (*b"SSH-", "NoAnswer { size: 1397966893, limit: 16384 }"),
    ] {
        let mut rig = Rig::new();
        rig.send(1, ms(500));
        assert_eq!(rig.connection.handle_size(prefix), None);
        assert_eq!(rig.events(), [format!("lost 1 unsent {cause}"), format!("dead {cause}")]);
    }
}

#[test]
fn the_end_of_the_stream_tells_whether_anything_was_heard() {
    let mut rig = Rig::new();
    rig.connection.handle_lost(None);
    assert_eq!(rig.events(), ["dead EofAtStart"]);
    let mut rig = Rig::ready();
    rig.connection.handle_lost(None);
    assert_eq!(rig.events(), ["dead Eof"]);
    // A stranger that closes with our request unread resets the stream.
    for kind in [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe] {
        let mut rig = Rig::new();
        rig.connection.handle_lost(Some(&kind.into()));
        assert_eq!(rig.events(), ["dead EofAtStart"]);
    }
}

#[test]
fn what_the_broker_does_not_offer_is_named_and_the_connection_lives() {
    let mut rig = Rig::ready();
    let request = |api| Box::new(Probe { api, ..*probe(1) });
    rig.connection.send(rig.now, 1, request(ApiKey::INIT_PRODUCER_ID), rig.now + ms(500));
    rig.connection.send(rig.now, 2, request(ApiKey::METADATA), rig.now + ms(500));
    let error = Some(EncodeError::NotInVersion { field: "bars", version: 11 });
    rig.connection.send(rig.now, 3, Box::new(Probe { error, ..*probe(3) }), rig.now + ms(500));
    rig.send(4, ms(500));
    assert_eq!(
        rig.events(),
        [
            "failed 1 the broker does not offer InitProducerId (this request needs versions 4-12)",
            "failed 2 the broker offers Metadata in versions 0-3, and this request needs 4-12",
            "failed 3 Fetch cannot be written: `bars` is not part of version 11 of the request",
        ]
    );
    assert_eq!(rig.transmit().unwrap().token, 4);
}

#[test]
fn correlation_ids_stay_positive() {
    let mut rig = Rig::ready();
    rig.connection.next_correlation = i32::MAX;
    rig.send(1, ms(500));
    rig.send(2, ms(500));
    let sent = [rig.transmit().unwrap().correlation, rig.transmit().unwrap().correlation];
    assert_eq!(sent, [i32::MAX, 0]);
    sent.into_iter().for_each(|correlation| rig.answer(correlation));
    assert_eq!(rig.events(), ["answer 1", "answer 2"]);
}

/// Random histories of everything at once. Whatever happens: one event per token, the right one, nothing after `Dead`,
/// and timers that ring once.
#[test]
fn every_token_gets_one_event_whatever_happens() {
    let mut total = Totals::default();
    for seed in 0..20_000 {
        History::new(seed).run(&mut total);
    }
    // The generator reaches what it should; otherwise the test proves little.
    let Totals { answered, sent, lost_sent, lost_unsent, unsupported, late, causes } = total;
    assert!([answered, sent, lost_sent, lost_unsent, unsupported, late].iter().all(|&count| count > 1000));
    assert!(causes.len() >= 11, "{causes:?}");
}

#[derive(Default)]
struct Totals {
    answered: u64,
    sent: u64,
    lost_sent: u64,
    lost_unsent: u64,
    unsupported: u64,
    late: u64,
    causes: BTreeSet<&'static str>,
}

struct History {
    seed: u64,
    random: fastrand::Rng,
    rig: Rig,
    /// Open tokens; whether bytes of theirs went out.
    open: BTreeMap<Token, bool>,
    next_token: Token,
    /// What the peer has read and not answered.
    read: VecDeque<Header>,
    dead: Option<Cause>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: fastrand::Rng::with_seed(seed),
            rig: Rig::new(),
            open: BTreeMap::new(),
            next_token: 0,
            read: VecDeque::new(),
            dead: None,
        }
    }

    fn run(&mut self, total: &mut Totals) {
        for _ in 0..self.random.usize(1..60) {
            self.step();
            self.check(total);
        }
        self.rig.connection.close();
        self.check(total);
        assert!(self.open.is_empty(), "seed {}: never heard of {:?}", self.seed, self.open);
        assert!(self.dead.is_some() && self.rig.connection.poll_timeout().is_none());
    }

    fn step(&mut self) {
        let Self { random, rig, .. } = self;
        match random.u8(0..100) {
            0..30 => {
                let token = self.next_token;
                self.next_token += 1;
                let apis = [ApiKey::FETCH, ApiKey::FETCH, ApiKey::FETCH, ApiKey::METADATA, ApiKey::END_TXN];
                let request = match random.u8(0..4) {
                    0 => silent(token),
                    _ => Box::new(Probe { api: *random.choice(&apis).unwrap(), ..*probe(token) }),
                };
                let deadline = rig.now + ms(random.u64(0..300) * if random.u8(0..8) == 0 { 0 } else { 10 });
                rig.connection.send(rig.now, token, request, deadline);
                self.open.insert(token, false);
            }
            30..60 => {
                if let Some(sent) = rig.transmit() {
                    if sent.api != ApiKey::API_VERSIONS {
                        *self.open.get_mut(&sent.token).expect("written while nobody waits") = true;
                    }
                    // Event Hubs answers acks=0, Kafka does not.
                    if sent.api != ApiKey::PRODUCE || self.seed.is_multiple_of(2) {
                        self.read.push_back(sent);
                    }
                }
            }
            60..80 => {
                if let Some(asked) = self.read.pop_front() {
                    let frame = match (asked.api, random.u8(0..20)) {
                        (_, 0) => answer(asked.correlation ^ 1),
                        (ApiKey::API_VERSIONS, 1) => {
                            let code = ErrorCode(random.i16(-1..100));
                            let layout = if code.0 == 35 { 0 } else { asked.version };
                            versions_answer(asked.correlation, layout, code, OFFERED)
                        }
                        (ApiKey::API_VERSIONS, 2..5) => {
                            let code = ErrorCode::UNSUPPORTED_VERSION;
                            versions_answer(asked.correlation, 0, code, OFFERED)
                        }
                        (ApiKey::API_VERSIONS, _) => {
                            versions_answer(asked.correlation, asked.version, ErrorCode::NONE, OFFERED)
                        }
                        _ => answer(asked.correlation),
                    };
                    let prefix = i32::try_from(frame.len()).unwrap().to_be_bytes();
                    if rig.connection.handle_size(prefix) == Some(frame.len()) {
                        rig.frame(frame);
                    }
                }
            }
            80..92 => {
                let longest = *random.choice(&[3, 30, 300, 3000, 100_000]).unwrap();
                let after = ms(random.u64(0..longest));
                rig.wait(after);
            }
            92..94 => rig.connection.mute(rig.now + ms(random.u64(0..500))),
            94..96 => {
                let claimed = [i32::MAX, -1, 3, 50, i32::from_be_bytes(*b"HTTP"), 0x1503_0300];
                let prefix = random.choice(claimed).unwrap().to_be_bytes();
                rig.connection.handle_size(prefix);
            }
            96 => rig.answer(random.i32(0..5)),
            97 => rig.connection.handle_lost(None),
            98 => rig.connection.handle_lost(Some(&std::io::ErrorKind::BrokenPipe.into())),
            _ => rig.connection.close(),
        }
    }

    fn check(&mut self, total: &mut Totals) {
        let seed = self.seed;
        let was_dead = self.dead.is_some();
        while let Some(event) = self.rig.connection.poll_event() {
            assert!(was_dead || self.dead.is_none(), "seed {seed}: {} after Dead", text(&event));
            let mut settle = |token| {
                self.open.remove(&token).unwrap_or_else(|| panic!("seed {seed}: a second event: {}", text(&event)))
            };
            match &event {
                Event::Ready(_) => assert!(!was_dead),
                Event::Answer { token, .. } => {
                    assert!(settle(*token) && !was_dead);
                    total.answered += 1;
                }
                Event::Sent { token } => {
                    assert!(settle(*token) && !was_dead);
                    total.sent += 1;
                }
                Event::Failed { token, error } => {
                    let wrote = settle(*token);
                    match error {
                        CallError::Lost { sent, cause } => {
                            assert_eq!(*sent, wrote, "seed {seed}: token {token}");
                            assert!(!was_dead || Some(cause) == self.dead.as_ref());
                            *(if wrote { &mut total.lost_sent } else { &mut total.lost_unsent }) += 1;
                        }
                        CallError::NotSentInTime { .. } => total.late += u64::from(!wrote),
                        CallError::Unsupported(_) => total.unsupported += u64::from(!wrote),
                        CallError::Encode { .. } | CallError::NotAwaited { .. } => panic!("{error}"),
                    }
                    assert_eq!(error.maybe_sent(), wrote);
                }
                Event::Dead(cause) => {
                    assert!(!was_dead && self.open.is_empty(), "seed {seed}: {cause} leaves {:?}", self.open);
                    let name = format!("{cause:?}");
                    total.causes.insert(name.split([' ', '(']).next().unwrap().to_owned().leak());
                    self.dead = Some(cause.clone());
                }
            }
        }
        assert_eq!(self.dead.is_some(), self.rig.connection.is_dead());
        // A spurious timeout does nothing.
        let connection = &mut self.rig.connection;
        let due = connection.poll_timeout();
        if due.is_none_or(|at| at > self.rig.now) {
            connection.handle_timeout(self.rig.now);
            assert!(connection.poll_event().is_none() && connection.poll_timeout() == due, "seed {seed}");
        }
    }
}
