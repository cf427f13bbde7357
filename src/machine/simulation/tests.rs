//! Runs the histories.
//!
//! ```text
//!   cargo test --lib simulation                                      the seeds from 0 on, as many as a test may take
//!   MILENA_SEEDS=1000000 cargo test --release --lib simulation       more of them; also from..to
//!   MILENA_SEED=4711 cargo test --lib simulation                     one, with its plan and summary
//!   MILENA_BUG=name MILENA_SEEDS=20000                               built with `--cfg milena_bugs`: how soon it is found
//! ```
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]
#![allow(clippy::print_stdout, reason = "a replay shows what it did")]

use std::ops::Range;

use super::*;
use crate::machine::planted;

/// What fits in about five seconds of an unoptimised build. `.ci/run` runs more of them.
const SEEDS: Range<u64> = 0..5000;

fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no seed, and no range of seeds"));
    if let Ok(seed) = std::env::var("MILENA_SEED") {
        let seed = number(&seed);
        println!("{:#?}", Plan::draw(&mut Random(seed)));
        return seed..seed + 1;
    }
    let Ok(text) = std::env::var("MILENA_SEEDS") else { return SEEDS };
    text.split_once("..").map_or_else(|| 0..number(&text), |(from, to)| number(from)..number(to))
}

impl Summary {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.not_written += other.not_written;
        self.unknown += other.unknown;
        self.requests += other.requests;
        self.slow += other.slow;
        self.cuts += other.cuts;
        self.splits += other.splits;
        self.hints += other.hints;
    }
}

#[test]
fn promises_hold_in_every_history() {
    let start = Instant::now();
    if let Some(seeds) = planted::seeds() {
        return planted::hunt(seeds, |seed| run(start, seed).map(drop));
    }
    let seeds = seeds();
    let mut total = Summary::default();
    for seed in seeds.clone() {
        let ended = std::panic::catch_unwind(|| run(start, seed));
        let summary = match ended.unwrap_or_else(|_| Err("a panic, see above".into())) {
            Ok(summary) => summary,
            Err(problems) => panic!("\n{problems}\n\nMILENA_SEED={seed} cargo test --lib simulation\n"),
        };
        // Nothing but the seed decides.
        if seed.is_multiple_of(100) {
            assert_eq!(run(start, seed), Ok(summary), "MILENA_SEED={seed} is not replayed identically");
        }
        total.add(&summary);
    }
    println!("seeds {seeds:?}: {total:?}");
    if seeds.end - seeds.start >= 100 {
        let Summary { acknowledged, not_written, unknown, slow, cuts, splits, hints, .. } = total;
        let tried = [acknowledged, not_written, unknown, slow, cuts, splits, hints];
        assert!(!tried.contains(&0), "a simulation that tries nothing: {total:?}");
    }
}
