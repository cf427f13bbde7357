//! `sticky`: as even as can be, and of all even assignments nearly the one that moves least.
//!
//! ```text
//!                               all subscribe to the same topics ──▶ constrained: counts are known beforehand
//!   table ─▶ claims: who has what ─┤
//!                               they do not ─────────────────────▶ general: hand out, then move while it gets better
//! ```
//! Members near a replica of a partition are preferred where racks matter (KIP-881), and a partition may leave its owner
//! for that. `cooperative-sticky` is the same, and withholds what must be given back first.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::subscription::{decode_sticky, encode_sticky};
use super::types::{Assigned, Assignments, Assignor, Member, Subscription, Topics};
use crate::error::TopicPartition;
use claims::Claims;
use table::Table;

mod claims;
mod constrained;
mod general;
mod movements;
mod table;

/// As `org.apache.kafka.clients.consumer.StickyAssignor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

impl Assignor for Sticky {
    fn name(&self) -> &str {
        "sticky"
    }

    fn user_data(&self, last: Option<Assigned<'_>>) -> Option<Bytes> {
        // Too long for the protocol, which no list that came in by it is: less sticky then.
        last.and_then(|last| encode_sticky(last).ok())
    }

    fn assign(&self, members: &[Member], topics: &Topics) -> Assignments {
        assign(members, topics, in_user_data).0
    }
}

/// What a member says that it has, and since which generation.
pub(super) struct Claim {
    pub owned: Vec<TopicPartition>,
    pub generation: Option<i32>,
}

fn in_user_data(subscription: &Subscription) -> Claim {
    let (owned, generation) = match subscription.user_data.as_ref().filter(|data| !data.is_empty()) {
        None => (Vec::new(), None),
        Some(data) => decode_sticky(data).unwrap_or((Vec::new(), Some(-1))),
    };
    Claim { owned, generation }
}

/// With the partitions that another member has to give back first, as far as that is known.
pub(super) fn assign(
    members: &[Member],
    topics: &Topics,
    claim: fn(&Subscription) -> Claim,
) -> (Assignments, BTreeSet<TopicPartition>) {
    let table = Table::new(members, topics);
    if table.members.is_empty() {
        return (vec![Vec::new(); members.len()], BTreeSet::new());
    }
    let claims = Claims::new(&table, claim);
    let mut moving = BTreeSet::new();
    let assigned = if table.all_subscribe_alike() {
        let (assigned, claimed) = constrained::assign(&table, &claims);
        moving.extend(claimed.into_iter().map(|partition| table.partition(partition)));
        assigned
    } else {
        general::assign(&table, claims)
    };
    let mut assignments = vec![Vec::new(); members.len()];
    for (member, partitions) in table.members.iter().zip(assigned) {
        assignments[member.place] = partitions.into_iter().map(|partition| table.partition(partition)).collect();
    }
    (assignments, moving)
}
