//! Runs the histories.
//!
//! ```text
//!   cargo test --lib reading                                         the seeds from 0 on, as many as a test may take
//!   MILENA_SEEDS=100000 cargo test --release --lib reading           more of them; also from..to
//!   MILENA_SEED=4711 cargo test --lib reading                        one, with its plan, or what it needs to fail
//!   MILENA_BUG=name MILENA_SEEDS=20000                               built with `--cfg milena_bugs`: how soon it is found
//! ```
#![allow(clippy::print_stdout, reason = "a replay shows what it did")]

use super::super::tests::run_all;
use super::*;

/// What fits in about five seconds of an unoptimised build. `.ci/run` runs more of them.
const SEEDS: std::ops::Range<u64> = 0..400;

#[test]
fn whoever_reads_misses_nothing_in_any_history() {
    let mut total = Summary::default();
    let Some(seeds) = run_all::<Plan>(SEEDS, |summary| total.add(&summary)) else { return };
    println!("reading, seeds {seeds:?}: {total:?}");
    if seeds.end - seeds.start >= 100 {
        let Summary { read, lost, diverged, recreated, halted, followed, judged, .. } = total;
        let tried = [read, lost, diverged, recreated, halted, followed, judged];
        assert!(!tried.contains(&0), "a simulation that tries nothing: {total:?}");
    }
}
