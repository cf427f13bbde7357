//! Runs the histories.
//!
//! ```text
//!   cargo test --lib simulation                                      the seeds from 0 on, as many as a test may take
//!   MILENA_SEEDS=1000000 cargo test --release --lib simulation       more of them
//!   MILENA_SEED=4711 cargo test --lib simulation                     one, with its plan and summary
//!   MILENA_BUG=name MILENA_SEEDS=20000                               built with `--cfg milena_bugs`: how soon it is found
//! ```
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]
#![allow(clippy::print_stdout, reason = "a replay shows what it did")]

use super::*;
use crate::machine::planted;

/// What fits in about five seconds of an unoptimised build.
const SEEDS: u64 = 5000;

#[test]
fn promises_hold_in_every_history() {
    let start = Instant::now();
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("MILENA_SEED") {
        Some(seed) => {
            println!("{:#?}", Plan::draw(&mut Random(seed)));
            seed..seed + 1
        }
        None => 0..number("MILENA_SEEDS").unwrap_or(SEEDS),
    };
    if let Some(seeds) = planted::seeds() {
        return planted::hunt(seeds, |seed| run(start, seed).map(drop));
    }
    let mut total = Summary::default();
    for seed in seeds.clone() {
        let ended = std::panic::catch_unwind(|| run(start, seed));
        let summary = match ended.unwrap_or_else(|_| Err("a panic, see above".into())) {
            Ok(summary) => summary,
            Err(problems) => panic!("\n{problems}\n\nMILENA_SEED={seed} cargo test --lib simulation\n"),
        };
        // Nothing but the seed decides.
        if seed % 100 == 0 {
            assert_eq!(run(start, seed), Ok(summary), "MILENA_SEED={seed} is not replayed identically");
        }
        total.events += summary.events;
        total.records += summary.records;
        total.acknowledged += summary.acknowledged;
        total.not_written += summary.not_written;
        total.unknown += summary.unknown;
        total.requests += summary.requests;
        total.slow += summary.slow;
        total.cuts += summary.cuts;
        total.splits += summary.splits;
        total.hints += summary.hints;
    }
    println!("seeds {seeds:?}: {total:?}");
    if seeds.end - seeds.start >= 100 {
        let Summary { acknowledged, not_written, unknown, slow, cuts, splits, hints, .. } = total;
        let tried = [acknowledged, not_written, unknown, slow, cuts, splits, hints];
        assert!(!tried.contains(&0), "a simulation that tries nothing: {total:?}");
    }
}
