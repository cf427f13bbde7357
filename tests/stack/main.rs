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
#[path = "../judge/records.rs"]
#[allow(dead_code, reason = "runs on real clusters judge more")]
mod judge;
#[path = "../chaos/reader.rs"]
mod reader;
mod schedule;

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use history::run;
use schedule::Plan;

/// In every run. `.ci/run` has optimised ones, and more of them.
const SEEDS: std::ops::Range<u64> = 0..100;

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

#[derive(Debug, Default)]
struct Total {
    histories: usize,
    troubles: usize,
    records: usize,
    acknowledged: usize,
    not_written: usize,
    unknown: usize,
}

/// What is wrong with the history of a seed, in full.
fn complaint(seed: u64, plan: Plan) -> String {
    let plan = minimised(plan);
    let told = run(&plan);
    let mut text = format!("seed {seed}: scripts/long/stack {seed}\n");
    told.verdict.problems.iter().for_each(|problem| writeln!(text, "  {problem}").unwrap());
    plan.steps.iter().for_each(|step| writeln!(text, "  {step:?}").unwrap());
    format!("{text}  {:?}", Plan { steps: Vec::new(), ..plan })
}

#[test]
fn promises_hold_in_every_history() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let plan = Plan::draw(seed);
            let verdict = run(&plan).verdict;
            assert!(verdict.is_clean(), "{}", complaint(seed, plan));
            let mut total = total.lock().expect("no other has failed");
            total.histories += 1;
            total.troubles += plan.steps.len();
            total.records += plan.records;
            total.acknowledged += verdict.acknowledged;
            total.not_written += verdict.not_written;
            total.unknown += verdict.unknown;
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().for_each(|thread| thread.join().expect("see above"));
    });
    let total = total.into_inner().expect("none has failed");
    println!("seeds {seeds:?}: {total:?}");
    if total.histories >= 100 {
        let Total { acknowledged, not_written, unknown, .. } = total;
        assert!(![acknowledged, not_written, unknown].contains(&0), "a simulation that tries nothing: {total:?}");
    }
}

/// As `scripts/long/stack` builds it.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 0..100 {
        let plan = Plan::draw(seed);
        let (first, second) = (run(&plan).trace, run(&plan).trace);
        let differs = first.iter().zip(&second).find(|(a, b)| a != b);
        assert!(differs.is_none() && first.len() == second.len(), "seed {seed}: {differs:?}");
    }
}
