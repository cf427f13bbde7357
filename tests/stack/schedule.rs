//! What happens to a cluster in one history, drawn from its seed. Each seed first draws which kinds of faults are on, so
//! that some histories have few of them, and those often.

use std::time::Duration;

use fastrand::Rng;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
pub const BROKERS: i32 = 3;
/// When everything heals.
pub const HEALED: Duration = Duration::from_secs(15);

const NOT_LEADER: i16 = 6;
const REQUEST_TIMED_OUT: i16 = 7;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const KAFKA_STORAGE_ERROR: i16 = 56;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const LEADER_NOT_AVAILABLE: i16 = 5;
const MESSAGE_TOO_LARGE: i16 = 10;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Produce,
    Fetch,
    Metadata,
    InitProducerId,
    ListOffsets,
    ApiVersions,
}

/// What is done to a request, as the mock's `Fault` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    Error(i16),
    Delay(Duration),
    DelayAnswer(Duration),
    Close,
    LoseAnswer,
    SwallowAnswer,
    Stall,
    Cut(usize),
    WrongCorrelationId,
    Throttle(Duration),
    StaleMetadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// In percent of the requests of this kind to this broker.
    Request {
        asked: Asked,
        broker: i32,
        mishap: Mishap,
        percent: u8,
    },
    Kill(i32),
    ShutDown(i32),
    Hang(i32),
    MoveLeader {
        partition: i32,
    },
    HoldFollower {
        partition: i32,
    },
    SlowLink {
        broker: i32,
        latency: Duration,
    },
    EvictSessions,
}

/// One of the things that go wrong, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub trouble: Trouble,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub partitions: i32,
    pub records: usize,
    /// Between two records, about.
    pub pause: Duration,
    pub value_size: usize,
    pub linger: Duration,
    pub batch_size: usize,
    pub buffer_memory: usize,
    pub max_in_flight: usize,
    pub delivery_timeout: Duration,
    pub request_timeout: Duration,
    pub steps: Vec<Step>,
}

fn millis(rng: &mut Rng, range: std::ops::Range<u32>) -> Duration {
    MS * rng.u32(range)
}

impl Plan {
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let partitions = rng.i32(1..=4);
        let records = rng.usize(40..400);
        let request_timeout = millis(&mut rng, 500..4_000);
        let mut plan = Self {
            seed,
            partitions,
            records,
            pause: HEALED / (records as u32 + 1),
            value_size: *rng.choice([0, 0, 200, 3_000].iter()).unwrap_or(&0),
            linger: millis(&mut rng, 0..20),
            batch_size: *rng.choice([200, 1_000, 16_384].iter()).unwrap_or(&1_000),
            buffer_memory: *rng.choice([32_000, 1 << 20].iter()).unwrap_or(&32_000),
            max_in_flight: rng.usize(1..=5),
            delivery_timeout: request_timeout + MS * *rng.choice([100, 500, 2_000, 12_000].iter()).unwrap_or(&100),
            request_timeout,
            steps: Vec::new(),
        };
        plan.delivery_timeout = plan.delivery_timeout.max(plan.linger + request_timeout);
        let on: Vec<bool> = (0..9).map(|_| rng.bool()).collect();
        for _ in 0..rng.usize(1..40) {
            let kind = rng.usize(0..9);
            if on[kind] {
                let at = millis(&mut rng, 0..14_000);
                let longest = *rng.choice([300, 3_000, 10_000].iter()).unwrap_or(&300);
                let lasts = millis(&mut rng, 1..longest);
                let trouble = plan.trouble(&mut rng, kind);
                plan.steps.push(Step { at, lasts, trouble });
            }
        }
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    fn trouble(&self, rng: &mut Rng, kind: usize) -> Trouble {
        let broker = rng.i32(1..=BROKERS);
        let partition = rng.i32(0..self.partitions);
        match kind {
            0 => Trouble::Kill(broker),
            1 => Trouble::ShutDown(broker),
            2 => Trouble::Hang(broker),
            3 => Trouble::MoveLeader { partition },
            4 => Trouble::HoldFollower { partition },
            5 => Trouble::SlowLink { broker, latency: millis(rng, 1..400) },
            6 => Trouble::EvictSessions,
            _ => {
                let asked = *rng.choice(KINDS).unwrap_or(&Asked::Produce);
                let mishap = mishap(rng, asked);
                // Whatever keeps every request from being answered is an outage of that broker: mostly it is not.
                Trouble::Request { asked, broker, mishap, percent: *rng.choice(&[5, 20, 50, 100]).unwrap_or(&20) }
            }
        }
    }
}

/// Those that matter most, most often.
const KINDS: &[Asked] = &[
    Asked::Produce,
    Asked::Produce,
    Asked::Produce,
    Asked::Fetch,
    Asked::Fetch,
    Asked::Metadata,
    Asked::InitProducerId,
    Asked::ListOffsets,
    Asked::ApiVersions,
];

fn mishap(rng: &mut Rng, asked: Asked) -> Mishap {
    let errors: &[i16] = match asked {
        Asked::Produce => &[
            NOT_LEADER,
            REQUEST_TIMED_OUT,
            NOT_ENOUGH_REPLICAS,
            KAFKA_STORAGE_ERROR,
            MESSAGE_TOO_LARGE,
            TOPIC_AUTHORIZATION_FAILED,
        ],
        Asked::Fetch => &[
            NOT_LEADER,
            KAFKA_STORAGE_ERROR,
            FETCH_SESSION_ID_NOT_FOUND,
            INVALID_FETCH_SESSION_EPOCH,
            FENCED_LEADER_EPOCH,
            UNKNOWN_LEADER_EPOCH,
        ],
        Asked::Metadata | Asked::ListOffsets => &[LEADER_NOT_AVAILABLE],
        Asked::InitProducerId => &[COORDINATOR_LOAD_IN_PROGRESS],
        Asked::ApiVersions => &[],
    };
    match rng.usize(0..12) {
        0..3 if !errors.is_empty() => Mishap::Error(errors[rng.usize(..errors.len())]),
        3 => Mishap::Delay(millis(rng, 1..2_000)),
        4 => Mishap::DelayAnswer(millis(rng, 1..2_000)),
        5 => Mishap::Close,
        6 => Mishap::SwallowAnswer,
        7 => Mishap::Stall,
        8 => Mishap::Cut(rng.usize(0..60)),
        9 => Mishap::WrongCorrelationId,
        10 => Mishap::Throttle(millis(rng, 1..1_500)),
        11 if asked == Asked::Metadata => Mishap::StaleMetadata,
        _ => Mishap::LoseAnswer,
    }
}
