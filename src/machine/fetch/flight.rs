//! A request that is under way, and the partitions that it asks for.

use std::time::{Duration, Instant};

use super::PROBE;
use super::output::LaneKind;
use crate::machine::connection::Token;
use crate::machine::credit::PartitionId;

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) id: PartitionId,
    pub(super) generation: u64,
    pub(super) stamp: u64,
    pub(super) reserved: usize,
    pub(super) answered: bool,
    /// It was at its end when it was last heard of, and nothing about it has changed since.
    pub(super) is_idle: bool,
    /// Its topic has no id.
    pub(super) is_by_name: bool,
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) lane: LaneKind,
    pub(super) token: Token,
    pub(super) sent: Instant,
    pub(super) max_wait: Duration,
    /// Ascending by id.
    pub(super) asked: Vec<Asked>,
    /// How many of them have data for certain.
    pub(super) behind: usize,
    /// One of them was asked for at the present depth.
    pub(super) is_deep: bool,
    /// The broker was asked as one who remembers.
    pub(super) has_session: bool,
    /// A partition of it has left since, or was sought: what the broker answers so early may be of that one alone.
    pub(super) is_dated: bool,
}

impl Flight {
    /// Its partitions have data, or it does not wait for any.
    pub(super) fn is_soon(&self) -> bool {
        self.behind > 0 || self.max_wait <= PROBE
    }
}
