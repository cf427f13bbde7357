//! Classic bugs of Kafka clients, planted for the simulations to find: `scripts/long/planted-bugs`.
//!
//! They exist in builds with `--cfg milena_bugs` alone; elsewhere [`bug`] is a constant.

use std::sync::OnceLock;

#[cfg(test)]
pub use hunt::{hunt, seeds};

static PLANTED: OnceLock<String> = OnceLock::new();

#[inline]
pub fn bug(name: &str) -> bool {
    cfg!(milena_bugs) && PLANTED.get().is_some_and(|planted| planted == name)
}

#[cfg(test)]
mod hunt {
    #![allow(clippy::print_stdout, reason = "what was found is for scripts/long/planted-bugs to read")]

    use std::env;
    use std::panic::{self, AssertUnwindSafe};

    use super::PLANTED;

    /// How often a bug is looked for, anew behind the seed that found it.
    const FINDS: usize = 9;

    /// If a bug is to be looked for, it is in the machines from now on: in how many seeds.
    pub fn seeds() -> Option<u64> {
        PLANTED.set(env::var("MILENA_BUG").ok()?).ok()?;
        Some(env::var("MILENA_SEEDS").map_or(20_000, |text| text.parse().expect("a number")))
    }

    /// Prints how many seeds it took to find the bug that is planted: the median, how often, and what was seen first.
    pub fn hunt(seeds: u64, history: impl Fn(u64) -> Result<(), String>) {
        let (mut took, mut since, mut seen) = (Vec::new(), 0, String::new());
        for seed in 0..seeds {
            let ended = panic::catch_unwind(AssertUnwindSafe(|| history(seed)));
            let panicked = |panic: Box<dyn std::any::Any + Send>| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                Err(text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_string())
            };
            if let Err(problems) = ended.unwrap_or_else(panicked) {
                if took.is_empty() {
                    let lines = problems.lines().map(str::trim).filter(|line| !line.is_empty());
                    seen = format!("seed {seed}: {}", lines.collect::<Vec<_>>().join(" "));
                }
                took.push(seed + 1 - since);
                since = seed + 1;
                if took.len() == FINDS {
                    break;
                }
            }
        }
        took.sort_unstable();
        match took.get(took.len() / 2) {
            Some(median) => println!("FOUND {median} {} {seen}", took.len()),
            None => println!("MISSED"),
        }
    }
}
