//! The whole stack in virtual time: producer and consumer by their public API, on the mock cluster, while brokers die and
//! requests go astray as a seed says. The judge is the one that judges runs on real clusters (`tests/chaos`).
//!
//! ```text
//! cargo test --test stack                 the seeds of every run
//! scripts/long/stack 0..10000             more of them
//! scripts/long/stack 4711                 one, which comes out the same each time: tokio's own draws are seeded, too
//! ```
//!
//! A seed that fails prints itself, and the fewest of its troubles that make it fail.
#![allow(clippy::print_stdout, reason = "a test program reports")]
#![allow(clippy::disallowed_methods, reason = "it reads clocks and spawns")]

mod history;
#[path = "../chaos/judge.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
mod schedule;

use std::fmt::Write;

use history::run;
use schedule::Plan;

/// In every run.
const SEEDS: std::ops::Range<u64> = 0..300;

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("MILENA_SEEDS") else { return SEEDS };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("MILENA_SEEDS is {text:?}: N or N..M is wanted"));
    match text.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&text)..number(&text) + 1,
    }
}

/// Without those troubles that it does not need to fail.
fn minimised(mut plan: Plan) -> Plan {
    let mut at = 0;
    while at < plan.steps.len() {
        let mut fewer = plan.clone();
        fewer.steps.remove(at);
        if run(&fewer).verdict.is_clean() { at += 1 } else { plan = fewer }
    }
    plan
}

#[test]
fn promises_hold_in_every_history() {
    let (mut count, mut records, mut acknowledged, mut unknown, mut not_written, mut steps) = (0, 0, 0, 0, 0, 0);
    let seeds = seeds();
    for seed in seeds.clone() {
        let plan = Plan::draw(seed);
        let told = run(&plan);
        if !told.verdict.is_clean() {
            let plan = minimised(plan);
            let told = run(&plan);
            let mut text = format!("seed {seed}: scripts/long/stack {seed}\n");
            told.verdict.problems.iter().for_each(|problem| writeln!(text, "  {problem}").unwrap());
            plan.steps.iter().for_each(|step| writeln!(text, "  {step:?}").unwrap());
            panic!("{text}  {:?}", Plan { steps: Vec::new(), ..plan });
        }
        count += 1;
        steps += plan.steps.len();
        records += plan.records;
        acknowledged += told.verdict.acknowledged;
        unknown += told.verdict.unknown;
        not_written += told.verdict.not_written;
    }
    println!(
        "seeds {seeds:?}: {count} histories, {steps} troubles, {records} records: {acknowledged} acknowledged, \
         {not_written} not written, {unknown} unknown"
    );
    if count >= 100 {
        assert!(acknowledged > 0 && unknown > 0 && not_written > 0, "a simulation that tries nothing");
    }
}

/// As `scripts/long/stack` builds it.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 0..8 {
        let plan = Plan::draw(seed);
        let (first, second) = (run(&plan).trace, run(&plan).trace);
        let differs = first.iter().zip(&second).find(|(a, b)| a != b);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:?}");
    }
}
