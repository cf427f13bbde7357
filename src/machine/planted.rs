//! Classic bugs of Kafka clients, planted for the simulation to find: `scripts/long/planted-bugs`.
//!
//! They exist in builds with `--cfg milena_bugs` alone; elsewhere [`bug`] is a constant.

use std::sync::OnceLock;

static PLANTED: OnceLock<String> = OnceLock::new();

/// From now on the machines have the bug of this name.
#[cfg(test)]
pub fn plant(name: String) {
    let _ = PLANTED.set(name);
}

#[inline]
pub fn bug(name: &str) -> bool {
    cfg!(milena_bugs) && PLANTED.get().is_some_and(|planted| planted == name)
}
