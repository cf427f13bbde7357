//! The producer's machines against a model of brokers, in virtual time: one seed is one history.
//!
//! ```text
//!   callers ─▶ open batch ─▶ Accumulator of a leader's task ─▶ connection ─▶ broker: leader? epoch? sequence? ─▶ log
//!                 router: pictures, moves, identity   │            delays, cuts, hangs, late copies       │
//!                                                     └── every byte, receipt and offset ──▶ check ◀──────┘
//! ```
//! Each seed first draws which faults it has and how often, then places them; everything heals in the end, and then
//! all that is pending must complete. `world` is a driver as `producer/` has one, and the network; `broker` decides as
//! Kafka's `ProducerStateManager` does; `check` knows the promises of which the wire tells (P11,
//! P13, the rules), and hands the rest (P1 to P5) to the judge of every other history, `tests/judge`.
//! Replay one history with `MILENA_SEED=k`, run more with `MILENA_SEEDS=n`: see `tests`.

mod broker;
mod check;
#[path = "../../tests/judge/records.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
mod minimise;
mod network;
mod reading;
mod tests;
mod world;

use std::time::Instant;

/// Virtual time, in microseconds.
type Micros = u64;

const MS: Micros = 1000;

/// A generator of our own (SplitMix64), so that a seed means the same history for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.below(1000) < per_mille
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}

/// The kinds of faults that a plan has, each with how often it strikes.
macro_rules! faults {
    ($($(#[$about:meta])* $name:ident,)*) => {
        #[derive(Clone, Default)]
        pub(super) struct Faults {
            $($(#[$about])* pub(super) $name: u64,)*
        }

        impl Faults {
            /// All kinds, by their names.
            fn kinds(&mut self) -> Vec<(&'static str, &mut u64)> {
                vec![$((stringify!($name), &mut self.$name)),*]
            }
        }

        /// Those that there are.
        impl std::fmt::Debug for Faults {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut own = self.clone();
                f.debug_map().entries(own.kinds().into_iter().filter(|(_, rate)| **rate > 0)).finish()
            }
        }
    };
}
use faults;

/// What one seed is about. Rates are per mille.
#[derive(Clone, Debug)]
struct Plan {
    nodes: usize,
    partitions: usize,
    is_idempotent: bool,
    linger: Micros,
    delivery_timeout: Micros,
    request_timeout: Micros,
    backoff: Micros,
    max_in_flight: usize,
    /// Batches of a partition in flight.
    window: usize,
    /// For how long brokers surely remember an idle producer.
    remembered: Micros,
    max_request_size: usize,
    batch_records: usize,
    /// Callers append so many records, one after so long.
    records: u64,
    pause: Micros,
    delay: Micros,
    metadata_delay: Micros,
    /// Until a leader's task hears of a new epoch.
    identity_delay: Micros,
    reconnect: Micros,
    /// Faults end and healing begins.
    heals_at: Micros,
    /// Instead of that, the producer is closed.
    is_stopped: bool,
    /// As before 2.5: no sequence but 0 from a producer that is not known, and no offset with a duplicate.
    is_old_broker: bool,
    first_sequence: i32,
    first_epoch: i16,
    faults: Faults,
}

faults! {
    /// The connection ends before the request is read.
    cut_before,
    /// After it was appended.
    cut_after,
    /// Appended, and never answered.
    silent,
    /// What was written to a connection that ended arrives all the same, late.
    late_copy,
    /// A broker pauses.
    hang,
    refuse_for_now,
    refuse_for_good,
    /// Appended or not, the answer does not say.
    leave_open,
    lose_track,
    unmentioned,
    hostile_answer,
    /// The broker asks for silence on a connection (KIP-219).
    throttle,
    /// Each so often per second.
    moves,
    stalls,
    expiries,
    /// A partition has no leader for a while when it moves.
    leaderless,
    /// Of those, such that are taken back soon.
    returns,
    /// A follower stops, so often per second.
    holds,
    /// A broker ends a connection that nobody uses, so often per second.
    idle_cuts,
    /// A broker that is not the leader says who is.
    hint,
}

impl History for Plan {
    type Summary = Summary;

    const NAME: &'static str = "machine::simulation::tests";

    const SIMPLER: &'static [fn(&mut Self)] = &[
        |plan| plan.records /= 2,
        |plan| plan.records -= plan.records.min(1),
        |plan| plan.partitions = 1,
        |plan| plan.partitions -= usize::from(plan.partitions > 1),
        |plan| plan.nodes = 2,
        |plan| plan.batch_records = 1,
        |plan| plan.max_in_flight = 1,
        |plan| plan.max_request_size = 1 << 20,
        |plan| plan.linger = 0,
        |plan| plan.identity_delay = 0,
        |plan| plan.first_epoch = 0,
        |plan| plan.first_sequence = 0,
        |plan| plan.is_old_broker = false,
        |plan| plan.is_stopped = false,
        // What is done without idempotence is no simpler case of what is done with it, and neither are five batches in
        // flight without it: they may change their order.
        |plan| plan.window = 1,
    ];

    fn rates(&mut self) -> Vec<(&'static str, &mut u64)> {
        self.faults.kinds()
    }

    fn run(self, start: Instant, random: Random) -> Result<Summary, String> {
        world::World::new(start, self, random).run()
    }

    fn draw(random: &mut Random) -> Self {
        // Each fault is off, rare or frequent on its own: what needs a quiet spell is found as well as what needs noise.
        let mut rate = |rare: u64, frequent: u64| match random.below(5) {
            0..3 => 0,
            3 => rare,
            _ => frequent,
        };
        let mut faults = Faults {
            cut_before: rate(20, 150),
            cut_after: rate(20, 150),
            silent: rate(10, 80),
            late_copy: rate(300, 900),
            hang: rate(10, 80),
            refuse_for_now: rate(30, 300),
            refuse_for_good: rate(30, 200),
            leave_open: rate(30, 250),
            lose_track: rate(20, 100),
            unmentioned: rate(20, 100),
            hostile_answer: rate(100, 500),
            moves: rate(1, 12),
            stalls: rate(1, 4),
            expiries: rate(1, 10),
            leaderless: rate(200, 600),
            returns: rate(200, 700),
            holds: rate(1, 4),
            idle_cuts: rate(1, 8),
            hint: rate(300, 1000),
            throttle: rate(20, 150),
        };
        // Only what a batch survives.
        if random.chance(300) {
            (faults.refuse_for_good, faults.leave_open, faults.lose_track, faults.expiries) = (0, 0, 0, 0);
        }
        let storm = random.chance(250);
        let is_idempotent = !random.chance(120);
        // Without idempotence more than one is by permission to change their order.
        let window = if is_idempotent { random.pick(&[1, 5, 5, 5]) } else { random.pick(&[1, 3]) };
        let request_timeout = random.between(200, 1200) * MS;
        let records = random.between(15, 60);
        // The longest ones set the deadlines of batches that are in flight together far apart.
        let pause = random.pick(&[MS / 5, 10 * MS, 60 * MS, 150 * MS]);
        let delivery_timeout = if storm { random.between(60, 400) * MS } else { random.between(1500, 6000) * MS };
        Self {
            nodes: random.between(2, 3) as usize,
            partitions: random.between(1, 4) as usize,
            is_idempotent,
            linger: random.pick(&[0, 5 * MS, 20 * MS]),
            delivery_timeout: delivery_timeout.max(60 * MS),
            request_timeout,
            backoff: random.pick(&[10 * MS, 50 * MS]),
            max_in_flight: random.pick(&[1, 2, 5, 5]),
            window,
            remembered: random.pick(&[100 * MS, 1000 * MS]),
            max_request_size: random.pick(&[100, 300, 1 << 20]),
            batch_records: random.between(1, 4) as usize,
            records,
            pause,
            delay: random.pick(&[MS / 2, 3 * MS, 40 * MS]),
            metadata_delay: random.pick(&[2 * MS, 50 * MS, 500 * MS]),
            identity_delay: random.pick(&[0, MS, 200 * MS]),
            reconnect: random.pick(&[MS, 20 * MS, 300 * MS, 800 * MS]),
            heals_at: records * pause + random.between(0, 1000) * MS,
            is_stopped: random.chance(150),
            is_old_broker: random.chance(200),
            first_sequence: if random.chance(150) { i32::MAX - random.below(8) as i32 } else { 0 },
            first_epoch: if random.chance(100) { i16::MAX - 1 - random.below(2) as i16 } else { 0 },
            faults,
        }
    }
}

/// What a history was like, for whoever asks whether the simulation tries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    events: u64,
    records: u64,
    acknowledged: u64,
    not_written: u64,
    unknown: u64,
    requests: u64,
    /// On the slow lane.
    slow: u64,
    /// On spare connections.
    spare: u64,
    cuts: u64,
    splits: u64,
    hints: u64,
    /// Of everything that was put on the wire and settled, in order.
    hash: u64,
}

impl Summary {
    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

/// What a seed is drawn to be, and what becomes of it.
trait History: Clone + std::fmt::Debug + 'static {
    type Summary: Copy + PartialEq + std::fmt::Debug;

    /// The tests that run it.
    const NAME: &'static str;
    /// Simpler values of everything that is no fault. Each is tried for itself.
    const SIMPLER: &'static [fn(&mut Self)];

    fn draw(random: &mut Random) -> Self;

    /// Of its faults, by their names.
    fn rates(&mut self) -> Vec<(&'static str, &mut u64)>;

    fn run(self, start: Instant, random: Random) -> Result<Self::Summary, String>;
}

/// Runs one history. `start` is whatever the clock shows; nothing depends on it.
fn run<H: History>(start: Instant, seed: u64) -> Result<H::Summary, String> {
    let mut random = Random(seed);
    H::draw(&mut random).run(start, random)
}

/// As another plan would have it with what is drawn behind that of this seed.
fn run_as<H: History>(start: Instant, seed: u64, plan: H) -> Result<H::Summary, String> {
    let mut random = Random(seed);
    let _ = H::draw(&mut random);
    plan.run(start, random)
}
