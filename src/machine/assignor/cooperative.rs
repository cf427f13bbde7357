//! `cooperative-sticky`: as `sticky`, and what another member still owns is given to nobody yet (KIP-429).
//!
//! Its owner gives it back when it sees that it is gone, and the group is joined once more: then it is free.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::sticky::{self, Claim};
use super::subscription::{decode_cooperative, encode_cooperative};
use super::types::{Assigned, Assignments, Assignor, Member, Protocol, Subscription, Topics};

/// As `org.apache.kafka.clients.consumer.CooperativeStickyAssignor`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CooperativeSticky;

impl Assignor for CooperativeSticky {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Cooperative
    }

    fn user_data(&self, last: Option<Assigned<'_>>) -> Option<Bytes> {
        Some(encode_cooperative(last.map_or(-1, |last| last.generation)))
    }

    fn assign(&self, members: &[Member], topics: &Topics) -> Assignments {
        let (mut assignments, moving) = sticky::assign(members, topics, in_subscription);
        let mut owners: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate() {
            for owned in &member.subscription.owned {
                owners.entry(owned).or_default().push(index);
            }
        }
        for (index, assignment) in assignments.iter_mut().enumerate() {
            assignment.retain(|partition| {
                let is_free = owners.get(partition).is_none_or(|owners| owners.contains(&index));
                is_free && !moving.contains(partition)
            });
        }
        assignments
    }
}

fn in_subscription(subscription: &Subscription) -> Claim {
    let generation = match (&subscription.user_data, subscription.generation) {
        (None, ..0) => None,
        // Before KIP-792 it stood here.
        (Some(data), ..0) => Some(decode_cooperative(data).unwrap_or(-1)),
        (_, generation) => Some(generation),
    };
    Claim { owned: subscription.owned.clone(), generation }
}
