//! The assignors of the coordinator (KIP-848): `uniform` and `range`, as Kafka's of these names. Members come in the order
//! of their ids, topics in the order of theirs, so that the same group gets the same assignment.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Partition;
use crate::mock::topic::TopicId;

/// What members ask the coordinator to assign by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::mock) enum Assignor {
    /// As even as can be, and then as little as possible moves.
    Uniform,
    /// A range of every topic for each member, whatever it had before.
    Range,
}

impl Assignor {
    /// All there are; the first is the default.
    pub(in crate::mock) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(in crate::mock) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    pub(in crate::mock) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }
}

/// A member, to an assignor.
#[derive(Debug)]
pub(super) struct Subscriber<'a> {
    pub(super) id: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) topics: BTreeSet<TopicId>,
    /// What was assigned to it the last time.
    pub(super) had: BTreeSet<Partition>,
}

/// Who gets what, in the order of `members`.
pub(super) fn assign(
    assignor: Assignor,
    members: &[Subscriber<'_>],
    counts: &BTreeMap<TopicId, i32>,
) -> Vec<BTreeSet<Partition>> {
    let topics: BTreeMap<TopicId, i32> = {
        let subscribed: BTreeSet<_> = members.iter().flat_map(|member| &member.topics).collect();
        counts.iter().filter(|(id, _)| subscribed.contains(id)).map(|(id, count)| (*id, *count)).collect()
    };
    let alike = members.windows(2).all(|pair| pair[0].topics == pair[1].topics);
    match assignor {
        Assignor::Range => range(members, &topics),
        Assignor::Uniform if alike => uniform(members, &topics),
        Assignor::Uniform => uniform_by_topic(members, &topics),
    }
}

fn range(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, i32>) -> Vec<BTreeSet<Partition>> {
    // Static members first, so that the others do not shift their ranges.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&place| {
        let Subscriber { id, instance, .. } = members[place];
        (instance.is_none(), instance, id)
    });
    let mut assigned = vec![BTreeSet::new(); members.len()];
    for (&topic, &count) in topics {
        let subscribed = || order.iter().filter(|&&place| members[place].topics.contains(&topic));
        let shares = i32::try_from(subscribed().count()).unwrap_or(i32::MAX);
        let mut next = 0;
        for (&place, nth) in subscribed().zip(0..) {
            let share = count / shares + i32::from(nth < count % shares);
            assigned[place].extend((next..next + share).map(|index| (topic, index)));
            next += share;
        }
    }
    assigned
}

/// All subscribe to the same: each keeps what it had, up to its share.
fn uniform(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, i32>) -> Vec<BTreeSet<Partition>> {
    let had: BTreeSet<_> = members.iter().flat_map(|member| &member.had).collect();
    let all = topics.iter().flat_map(|(topic, count)| (0..*count).map(|index| (*topic, index)));
    let all: Vec<Partition> = all.collect();
    let mut free: Vec<Partition> = all.iter().filter(|partition| !had.contains(partition)).copied().collect();
    let share = all.len().checked_div(members.len()).unwrap_or(0);
    let mut extra = all.len().checked_rem(members.len()).unwrap_or(0);
    let mut assigned: Vec<BTreeSet<Partition>> = Vec::new();
    let mut room = Vec::new();
    for (place, member) in members.iter().enumerate() {
        let mut keeps = member.had.clone();
        keeps.retain(|(topic, _)| topics.contains_key(topic));
        let most = share + usize::from(extra > 0);
        if let Some(first) = keeps.iter().nth(most).copied() {
            free.extend(keeps.split_off(&first));
        }
        // One more than the others goes to who has it already, unless there would be too few left to take it.
        let others_take_it = members.len() - place > extra;
        let wants = if keeps.len() < most && extra > 0 && others_take_it { share } else { most };
        extra -= usize::from(extra > 0 && wants == most);
        room.push(wants.saturating_sub(keeps.len()));
        assigned.push(keeps);
    }
    let mut free = free.into_iter();
    for (assigned, room) in assigned.iter_mut().zip(room) {
        assigned.extend(free.by_ref().take(room));
    }
    assigned
}

/// Each has subscriptions of its own: what is free goes to who has least, and then from who has most to who has least.
fn uniform_by_topic(members: &[Subscriber<'_>], topics: &BTreeMap<TopicId, i32>) -> Vec<BTreeSet<Partition>> {
    let keeps = |member: &Subscriber<'_>| {
        let keeps = member.had.iter().filter(|(topic, _)| member.topics.contains(topic) && topics.contains_key(topic));
        keeps.copied().collect::<BTreeSet<_>>()
    };
    let mut assigned: Vec<_> = members.iter().map(keeps).collect();
    let subscribers = |topic: &TopicId| -> Vec<usize> {
        (0..members.len()).filter(|&place| members[place].topics.contains(topic)).collect()
    };
    // Those that give each subscriber most come first: the others can then even it out.
    let mut order: Vec<_> = topics.iter().map(|(topic, count)| (*topic, *count, subscribers(topic))).collect();
    order.sort_by(|(a, a_count, a_members), (b, b_count, b_members)| {
        let share = |count: &i32, members: &[usize]| f64::from(*count) / members.len() as f64;
        let by_share = share(b_count, b_members).total_cmp(&share(a_count, a_members));
        by_share.then(a_members.len().cmp(&b_members.len())).then(a.cmp(b))
    });
    for (topic, count, subscribers) in &order {
        for partition in (0..*count).map(|index| (*topic, index)) {
            if assigned.iter().any(|assigned| assigned.contains(&partition)) {
                continue;
            }
            if let Some(&place) = subscribers.iter().min_by_key(|&&place| (assigned[place].len(), place)) {
                assigned[place].insert(partition);
            }
        }
    }
    // Kafka's limit of rounds, after which it leaves it as it is.
    for _ in 0..16 {
        let moved =
            order.iter().map(|(topic, _, subscribers)| even_out(*topic, subscribers, &mut assigned)).sum::<usize>();
        if moved == 0 {
            break;
        }
    }
    assigned
}

/// Moves partitions of one topic from who has most to who has least; says how many.
fn even_out(topic: TopicId, subscribers: &[usize], assigned: &mut [BTreeSet<Partition>]) -> usize {
    let mut moved = 0;
    loop {
        let last = |place: usize| assigned[place].range((topic, 0)..=(topic, i32::MAX)).next_back().copied();
        let most = subscribers.iter().filter_map(|&place| Some((assigned[place].len(), place, last(place)?))).max();
        let least = subscribers.iter().map(|&place| (assigned[place].len(), place)).min();
        let (Some((most, from, partition)), Some((least, to))) = (most, least) else { return moved };
        if most - least <= 1 {
            return moved;
        }
        assigned[from].remove(&partition);
        assigned[to].insert(partition);
        moved += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(byte: u8) -> TopicId {
        TopicId::from_wire([byte; 16])
    }

    fn member<'a>(id: &'a str, topics: &[u8], had: &[(u8, i32)]) -> Subscriber<'a> {
        let topics = topics.iter().map(|byte| topic(*byte)).collect();
        Subscriber { id, instance: None, topics, had: had.iter().map(|(byte, index)| (topic(*byte), *index)).collect() }
    }

    fn shown(assigned: &[BTreeSet<Partition>]) -> Vec<String> {
        let one =
            |(id, index): &Partition| format!("{}-{index}", <[u8; 16]>::try_from(id.to_wire::<Vec<u8>>()).unwrap()[0]);
        assigned.iter().map(|assigned| assigned.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn uniform_keeps_what_it_can() {
        let counts = BTreeMap::from([(topic(1), 5)]);
        let members = [member("a", &[1], &[(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]), member("b", &[1], &[])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["1-0 1-1 1-2", "1-3 1-4"]);
        // The second has one more, and keeps it.
        let members = [member("a", &[1], &[(1, 0), (1, 1)]), member("b", &[1], &[(1, 2), (1, 3), (1, 4)])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["1-0 1-1", "1-2 1-3 1-4"]);
        // More members than partitions.
        let counts = BTreeMap::from([(topic(1), 1)]);
        let members = [member("a", &[1], &[]), member("b", &[1], &[(1, 0)]), member("c", &[1], &[])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["", "1-0", ""]);
    }

    #[test]
    fn uniform_is_even_where_subscriptions_differ() {
        let counts = BTreeMap::from([(topic(1), 4), (topic(2), 2)]);
        let members = [member("a", &[1, 2], &[]), member("b", &[1], &[])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["1-2 2-0 2-1", "1-0 1-1 1-3"]);
        let members = [member("a", &[1, 2], &[(1, 0), (1, 1), (1, 2), (1, 3)]), member("b", &[1], &[])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["1-0 2-0 2-1", "1-1 1-2 1-3"]);
        // Nobody else may have the second topic, and nobody at all the third.
        let counts = BTreeMap::from([(topic(1), 1), (topic(2), 5), (topic(3), 9)]);
        let members = [member("a", &[1], &[]), member("b", &[1, 2], &[])];
        assert_eq!(shown(&assign(Assignor::Uniform, &members, &counts)), ["1-0", "2-0 2-1 2-2 2-3 2-4"]);
    }

    #[test]
    fn range_begins_with_static_members() {
        let counts = BTreeMap::from([(topic(1), 3), (topic(2), 4)]);
        let mut members = [member("a", &[1, 2], &[]), member("b", &[1, 2], &[(1, 2)])];
        members[1].instance = Some("i");
        assert_eq!(shown(&assign(Assignor::Range, &members, &counts)), ["1-2 2-2 2-3", "1-0 1-1 2-0 2-1"]);
        let members = [member("a", &[1], &[]), member("b", &[1, 2], &[])];
        assert_eq!(shown(&assign(Assignor::Range, &members, &counts)), ["1-0 1-1", "1-2 2-0 2-1 2-2 2-3"]);
        assert!(assign(Assignor::Range, &[], &counts).is_empty());
    }
}
