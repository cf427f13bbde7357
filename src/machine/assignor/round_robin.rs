//! `roundrobin`: all partitions of all topics in order, one to each member in turn, leaving out who is not subscribed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::java_order::compare;
use super::types::{Assignments, Assignor, Member, Topics};
use crate::error::TopicPartition;

/// As `org.apache.kafka.clients.consumer.RoundRobinAssignor`, which knows no racks.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(&self, members: &[Member], topics: &Topics) -> Assignments {
        let mut assignments = vec![Vec::new(); members.len()];
        // Of two members under one id the last one counts.
        let last: BTreeMap<_, _> = members.iter().enumerate().map(|(index, member)| (&member.id, index)).collect();
        let mut ring: Vec<_> = last.into_values().collect();
        ring.sort_by(|&a, &b| members[a].by_identity(&members[b]));
        let subscribed: BTreeSet<_> = ring.iter().flat_map(|&at| &members[at].subscription.topics).collect();
        let mut subscribed: Vec<_> = subscribed.into_iter().filter(|topic| topics.contains_key(*topic)).collect();
        subscribed.sort_by(|a, b| compare(a, b));
        let mut turn = 0;
        for topic in subscribed {
            let takes: Vec<bool> = ring.iter().map(|&at| members[at].subscribes(topic)).collect();
            for partition in 0..topics[topic].len() {
                // One of them does: that is why the topic is here.
                while !takes[turn] {
                    turn = (turn + 1) % ring.len();
                }
                let partition = i32::try_from(partition).unwrap_or(i32::MAX);
                assignments[ring[turn]].push(TopicPartition { topic: Arc::clone(topic), partition });
                turn = (turn + 1) % ring.len();
            }
        }
        assignments
    }
}
