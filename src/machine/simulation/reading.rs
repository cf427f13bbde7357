//! The consumer's machines against a model of brokers, in virtual time: one seed is one history.
//!
//! ```text
//!   caller ─▶ seeks, pauses, reads          Offsets ◀── pictures ── Metadata
//!      ▲                                    │     ▲                    │ asks, hints
//!      │ batches                      routes│     │home                ▼
//!      └──────────────────────── Fetch, one per broker ◀── cuts, hangs, throttles ──▶ brokers: logs, epochs, sessions
//! ```
//! Each seed first draws which faults it has and how often, then places them; everything heals in the end, and then every
//! partition is read to its end (P13). Whoever begins somewhere, or seeks, lands where the log says; whatever a caller reads
//! must follow, in some version of the log, what it read before, but for what was reported, and what is reported lost is
//! (P6); of aborted transactions nothing is seen (P8); all credit comes back (P12).
//! A history without reports, seeks and transactions goes before the judge of every other history, too: `tests/judge`.
//! `world` is a driver as `consumer/` has one, and the network; `broker` keeps the logs, `answers` says what brokers make of
//! requests, `caller` reads and checks. Replay one history with `MILENA_SEED=k`, run more with `MILENA_SEEDS=n`: see `tests`.

mod answers;
mod broker;
mod caller;
mod tests;
mod world;

use std::time::Instant;

use super::{History, MS, Micros, Random, faults, judge};
use crate::machine::offsets::Reset;
use broker::NODES;

/// What one seed is about. Rates are per mille, if they are not per second.
#[derive(Clone, Debug)]
struct Plan {
    partitions: usize,
    is_committed: bool,
    /// A group has been here before, or so it seems.
    begins_where_committed: bool,
    reset: Reset,
    /// Bytes that may be buffered, and that one fetch of one partition asks for.
    buffer: usize,
    per_fetch: usize,
    request_timeout: Micros,
    backoff: Micros,
    delay: Micros,
    heals_at: Micros,
    /// Records go in after so long; callers read after so long.
    append: Micros,
    read: Micros,
    /// Brokers that remember no sessions.
    forgetful: usize,
    faults: Faults,
}

faults! {
    cut_before,
    cut_after,
    /// Never answered.
    silent,
    /// A broker stands still.
    hang,
    throttle,
    /// A partition is refused for a passing reason.
    refuse,
    /// "Out of range", by a leader that has not caught up.
    behind,
    /// A bit is another one on the way.
    flip,
    hostile_answer,
    hint,
    /// The leader names a replica that is nearer, or none that there is.
    nearby,
    stale_metadata,
    transactions,
    /// Per second.
    moves,
    /// Of those, by an election that cuts the log.
    unclean,
    /// A partition has no leader for a while when it moves.
    leaderless,
    retention,
    recreations,
    evictions,
    /// A broker is elsewhere from now on: its connections are left.
    relocations,
    seeks,
    pauses,
    /// A leader says where an epoch ended, and before that is heard of, another one has cut its log.
    overtaken,
}

impl History for Plan {
    type Summary = Summary;

    const NAME: &'static str = "machine::simulation::reading";

    const SIMPLER: &'static [fn(&mut Self)] = &[
        |plan| plan.partitions = 1,
        |plan| plan.is_committed = false,
        |plan| plan.begins_where_committed = false,
        |plan| plan.buffer = 100_000,
        |plan| plan.per_fetch = 2_000,
        |plan| plan.forgetful = NODES,
        |plan| plan.delay = MS / 2,
        |plan| plan.read = MS,
        |plan| plan.append = 100 * MS,
        |plan| plan.heals_at /= 2,
        |plan| plan.heals_at -= plan.heals_at / 10,
    ];

    fn rates(&mut self) -> Vec<(&'static str, &mut u64)> {
        self.faults.kinds()
    }

    fn run(self, start: Instant, random: Random) -> Result<Summary, String> {
        world::World::new(start, self, random).run()
    }

    fn draw(random: &mut Random) -> Self {
        let mut rate = |rare: u64, frequent: u64| match random.below(5) {
            0..3 => 0,
            3 => rare,
            _ => frequent,
        };
        let faults = Faults {
            cut_before: rate(20, 150),
            cut_after: rate(20, 150),
            silent: rate(10, 80),
            hang: rate(5, 40),
            throttle: rate(20, 150),
            refuse: rate(20, 150),
            behind: rate(20, 100),
            flip: rate(20, 100),
            hostile_answer: rate(50, 300),
            hint: rate(300, 1000),
            nearby: rate(50, 300),
            stale_metadata: rate(100, 500),
            transactions: rate(150, 600),
            moves: rate(1, 8),
            unclean: rate(200, 700),
            leaderless: rate(200, 600),
            retention: rate(1, 4),
            recreations: rate(1, 2),
            evictions: rate(1, 6),
            relocations: rate(1, 4),
            seeks: rate(1, 8),
            pauses: rate(1, 8),
            overtaken: rate(100, 500),
        };
        Self {
            partitions: random.between(1, 3) as usize,
            is_committed: random.chance(500),
            begins_where_committed: random.chance(200),
            reset: random.pick(&[Reset::Earliest, Reset::Earliest, Reset::Latest, Reset::None]),
            buffer: random.pick(&[4_000, 100_000]),
            per_fetch: random.pick(&[300, 2_000]),
            request_timeout: random.between(100, 800) * MS,
            backoff: random.pick(&[5 * MS, 50 * MS]),
            delay: random.pick(&[MS / 2, 3 * MS, 30 * MS]),
            heals_at: random.between(500, 3000) * MS,
            append: random.pick(&[2 * MS, 20 * MS, 100 * MS]),
            read: random.pick(&[MS, 10 * MS, 200 * MS]),
            forgetful: random.index(NODES + 1),
            faults,
        }
    }
}

/// What a history was like, for whoever asks whether the simulation tries anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    events: u64,
    requests: u64,
    read: u64,
    lost: u64,
    diverged: u64,
    recreated: u64,
    halted: u64,
    followed: u64,
    /// Those in which the judge of all histories could have a say.
    judged: u64,
    hash: u64,
}

impl Summary {
    fn mix(&mut self, value: u64) {
        self.hash = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.requests += other.requests;
        self.read += other.read;
        self.lost += other.lost;
        self.diverged += other.diverged;
        self.recreated += other.recreated;
        self.halted += other.halted;
        self.followed += other.followed;
        self.judged += other.judged;
    }
}
