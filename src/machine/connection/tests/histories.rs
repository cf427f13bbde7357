//! Histories at random.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

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
