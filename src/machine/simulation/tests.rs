//! Runs the histories.
//!
//! ```text
//!   cargo test --lib simulation::tests                               the seeds from 0 on, as many as a test may take
//!   MILENA_SEEDS=1000000 cargo test --release --lib simulation::tests more of them; also from..to
//!   MILENA_SEED=4711 cargo test --lib simulation::tests              one, with its plan and summary, or what it needs to fail
//!   MILENA_BUG=name MILENA_SEEDS=20000                               built with `--cfg milena_bugs`: how soon it is found
//! ```
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]
#![allow(clippy::print_stdout, reason = "a replay shows what it did")]

use std::ops::Range;

use super::minimise::minimised;
use super::*;
use crate::machine::planted;

/// What fits in about five seconds of an unoptimised build. `.ci/run` runs more of them.
const SEEDS: Range<u64> = 0..5000;

impl Summary {
    fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.records += other.records;
        self.acknowledged += other.acknowledged;
        self.not_written += other.not_written;
        self.unknown += other.unknown;
        self.requests += other.requests;
        self.slow += other.slow;
        self.spare += other.spare;
        self.cuts += other.cuts;
        self.splits += other.splits;
        self.hints += other.hints;
    }
}

fn ended<S>(history: impl FnOnce() -> Result<S, String>) -> Result<S, String> {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(history));
    ended.unwrap_or_else(|_| Err("a panic, see above".into()))
}

/// What is wrong with the history of a seed, and the least that it takes.
fn complaint<H: History>(start: Instant, seed: u64, problems: &str) -> String {
    let history = |plan: &H| ended(|| run_as(start, seed, plan.clone()));
    let plan = minimised(H::draw(&mut Random(seed)), |plan| history(plan).is_err());
    let least = history(&plan).expect_err("it fails");
    format!(
        "\n{problems}\n\nThe faults that it needs, and how often they strike, are those of\n{plan:?}\nthen it is:\n{least}\n\n\
         MILENA_SEED={seed} cargo test --lib {}\n",
        H::NAME
    )
}

/// Runs the histories that are asked for, or looks for the bug that is planted; `add` makes a sum of their summaries.
pub(super) fn run_all<H: History>(default: Range<u64>, mut add: impl FnMut(H::Summary)) -> Option<Range<u64>> {
    let start = Instant::now();
    if let Some(seeds) = planted::seeds() {
        planted::hunt(seeds, |seed| run::<H>(start, seed).map(drop));
        return None;
    }
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text:?} is no seed, and no range of seeds"));
    let asked = std::env::var("MILENA_SEEDS").ok();
    let asked = asked.as_deref().map(|text| match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(text),
    });
    let seeds = match std::env::var("MILENA_SEED") {
        Ok(seed) => {
            let seed = number(&seed);
            println!("{:#?}", H::draw(&mut Random(seed)));
            seed..seed + 1
        }
        Err(_) => asked.unwrap_or(default),
    };
    for seed in seeds.clone() {
        let summary = match ended(|| run::<H>(start, seed)) {
            Ok(summary) => summary,
            Err(problems) => panic!("{}", complaint::<H>(start, seed, &problems)),
        };
        // Nothing but the seed decides.
        if seed.is_multiple_of(100) || seeds.end - seeds.start == 1 {
            assert_eq!(run::<H>(start, seed), Ok(summary), "MILENA_SEED={seed} is not replayed identically");
        }
        add(summary);
    }
    Some(seeds)
}

#[test]
fn promises_hold_in_every_history() {
    let mut total = Summary::default();
    let Some(seeds) = run_all::<Plan>(SEEDS, |summary| total.add(&summary)) else { return };
    println!("seeds {seeds:?}: {total:?}");
    if seeds.end - seeds.start >= 100 {
        let Summary { acknowledged, not_written, unknown, slow, spare, cuts, splits, hints, .. } = total;
        let tried = [acknowledged, not_written, unknown, slow, spare, cuts, splits, hints];
        assert!(!tried.contains(&0), "a simulation that tries nothing: {total:?}");
    }
}

/// A plan in which everything is on, and what is left of it when it takes so little to fail.
#[test]
fn what_a_history_needs_to_fail_is_found() {
    let mut everything = Plan::draw(&mut Random(0));
    everything.rates().into_iter().zip(1..).for_each(|((_, rate), n)| *rate = n);
    let needed = |plan: &Plan| {
        let mut plan = plan.clone();
        let kinds = plan.faults.kinds().into_iter().filter(|(_, rate)| **rate > 0);
        kinds.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let all = needed(&everything);
    assert_eq!(all.len(), 20);
    // Each alone, two together, and either of two.
    for (at, name) in all.iter().enumerate() {
        let least = minimised(everything.clone(), |plan| needed(plan).contains(name));
        assert_eq!(needed(&least), [*name]);
        assert_eq!(format!("{:?}", least.faults), format!("{{{name:?}: {}}}", at + 1));
        assert_eq!((least.records, least.partitions, least.nodes, least.window), (0, 1, 2, 1), "{least:?}");
    }
    let least = minimised(everything.clone(), |plan| plan.faults.moves > 0 && plan.faults.hang > 0 && plan.records > 6);
    assert_eq!((needed(&least), least.records), (vec!["hang", "moves"], 7));
    let least = minimised(everything.clone(), |plan| plan.faults.moves > 0 || plan.faults.hang > 0);
    assert_eq!(needed(&least), ["moves"]);
    // Whatever fails with nothing needs nothing; what needs everything keeps it.
    assert_eq!(needed(&minimised(everything.clone(), |_| true)), [""; 0]);
    let least = minimised(everything.clone(), |plan| needed(plan) == all && plan.partitions == everything.partitions);
    assert_eq!((needed(&least), least.partitions), (all.clone(), everything.partitions));
}
