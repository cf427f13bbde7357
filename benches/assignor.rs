//! What a rebalance costs the leader: 100 members, 1,000 partitions.

#![allow(missing_docs, reason = "what `criterion_group!` makes is public and has none")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use milena::machine::assignor::{
    Assigned, Assignor, CooperativeSticky, Member, Range, RoundRobin, Sticky, Subscription, Topics,
};

const MEMBERS: usize = 100;
const TOPICS: usize = 10;
const PARTITIONS: usize = 100;
const RACKS: [&str; 3] = ["a", "b", "c"];

/// Every partition in two of three racks.
fn topics() -> Topics {
    let partition = |n: usize| vec![RACKS[n % 3].into(), RACKS[(n + 1) % 3].into()];
    (0..TOPICS).map(|n| (format!("topic-{n}").into(), (0..PARTITIONS).map(partition).collect())).collect()
}

/// `differ`: each leaves out one topic, so that the general algorithm is needed.
fn members(count: usize, differ: bool, racks: bool) -> Vec<Member> {
    let topics: Vec<Arc<str>> = topics().into_keys().collect();
    let member = |n: usize| {
        let mut topics = topics.clone();
        if differ {
            topics.remove(n % TOPICS);
        }
        let rack = racks.then(|| RACKS[n % 3].into());
        let subscription = Subscription { topics, rack, generation: -1, ..Default::default() };
        Member {
            id: format!("consumer-{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 0xffff_ffff).into(),
            subscription,
            ..Default::default()
        }
    };
    (0..count).map(member).collect()
}

/// A generation later, with a tenth of the members gone and as many new ones.
fn after_change(assignor: &dyn Assignor, before: &[Member], topics: &Topics) -> Vec<Member> {
    let assigned = assignor.assign(before, topics);
    let mut members = before.to_vec();
    for (member, partitions) in members.iter_mut().zip(&assigned) {
        let last = Assigned { partitions, generation: 1 };
        member.subscription.user_data = assignor.user_data(Some(last));
        member.subscription.generation = 1;
        member.subscription.owned.clone_from(partitions);
    }
    for member in members.iter_mut().step_by(10) {
        let topics = member.subscription.topics.clone();
        member.id = format!("{}-new", member.id).into();
        member.subscription =
            Subscription { topics, rack: member.subscription.rack.clone(), generation: -1, ..Default::default() };
    }
    members
}

fn rebalance(c: &mut Criterion) {
    let topics = topics();
    let assignors: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    for (name, differ, racks) in
        [("alike", false, false), ("differ", true, false), ("racks", false, true), ("differ, racks", true, true)]
    {
        let mut group = c.benchmark_group(format!("100 members, 1,000 partitions: {name}"));
        group.sample_size(10);
        for assignor in assignors {
            let fresh = members(MEMBERS, differ, racks);
            group.bench_function(format!("{} first", assignor.name()), |b| {
                b.iter(|| black_box(assignor.assign(black_box(&fresh), &topics)));
            });
            let later = after_change(assignor, &fresh, &topics);
            group.bench_function(format!("{} later", assignor.name()), |b| {
                b.iter(|| black_box(assignor.assign(black_box(&later), &topics)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, rebalance);
criterion_main!(benches);
