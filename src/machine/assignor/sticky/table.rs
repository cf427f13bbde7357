//! Members, topics and partitions by number, in the orders that the algorithm goes by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::TopicPartition;
use crate::machine::assignor::java_order::{compare, hash, walk};
use crate::machine::assignor::types::{Member, Racks, Topics, needs_racks};

/// Members are numbered by id, topics by name, and partitions by topic and index, without gaps.
pub struct Table<'a> {
    pub members: Vec<Row<'a>>,
    /// The members' numbers as Java's map walks them.
    pub walk: Vec<usize>,
    pub topics: Vec<Column<'a>>,
    topic_of: Vec<usize>,
    racks: Vec<&'a Racks>,
    /// Whether racks are held against each other at all.
    pub minds_racks: bool,
}

/// A member.
pub struct Row<'a> {
    pub member: &'a Member,
    /// Among the caller's members.
    pub place: usize,
    /// The topics that exist, ascending.
    pub topics: Vec<usize>,
    pub subscribes: Vec<bool>,
    rack: Option<&'a str>,
}

/// A topic.
pub struct Column<'a> {
    name: &'a Arc<str>,
    pub hash: u32,
    pub first: usize,
    pub count: usize,
    /// The members that want it, ascending.
    pub takers: Vec<usize>,
}

impl<'a> Table<'a> {
    pub fn new(members: &'a [Member], topics: &'a Topics) -> Self {
        // Of two members under one id the coordinator could not tell which is which: the last one counts.
        let places: BTreeMap<_, _> = members.iter().enumerate().map(|(place, member)| (&member.id, place)).collect();
        let mut places: Vec<_> = places.into_values().collect();
        places.sort_by(|&a, &b| compare(&members[a].id, &members[b].id));
        let numbers: BTreeMap<_, _> = places.iter().enumerate().map(|(at, &place)| (&members[place].id, at)).collect();
        let walked = walk(members.iter().map(|member| &*member.id));
        let walked = walked.into_iter().map(|place| numbers[&members[place].id]).collect();

        let wanted: BTreeSet<_> = places.iter().flat_map(|&place| &members[place].subscription.topics).collect();
        let mut wanted: Vec<_> = wanted.into_iter().filter_map(|topic| topics.get_key_value(topic)).collect();
        wanted.retain(|(_, partitions)| !partitions.is_empty());
        wanted.sort_by(|a, b| compare(a.0, b.0));
        let mut table = Self {
            members: Vec::with_capacity(places.len()),
            walk: walked,
            topics: Vec::with_capacity(wanted.len()),
            topic_of: Vec::new(),
            racks: Vec::new(),
            minds_racks: false,
        };
        for (index, &(name, partitions)) in wanted.iter().enumerate() {
            let (first, count) = (table.racks.len(), partitions.len());
            table.topics.push(Column { name, hash: hash(name), first, count, takers: Vec::new() });
            table.racks.extend(partitions);
            table.topic_of.resize(first + count, index);
        }
        for place in places {
            table.add(place, &members[place]);
        }
        let of_members: BTreeSet<_> = table.members.iter().filter_map(|row| row.rack).collect();
        table.minds_racks = needs_racks(&of_members, table.racks.iter().copied());
        table
    }

    fn add(&mut self, place: usize, member: &'a Member) {
        let known = member.subscription.topics.iter().filter_map(|topic| self.number_of(topic));
        let topics: Vec<_> = known.collect::<BTreeSet<_>>().into_iter().collect();
        let mut subscribes = vec![false; self.topics.len()];
        for &topic in &topics {
            subscribes[topic] = true;
            self.topics[topic].takers.push(self.members.len());
        }
        self.members.push(Row { member, place, topics, subscribes, rack: member.rack() });
    }

    pub fn partitions(&self) -> usize {
        self.racks.len()
    }

    pub fn topic_of(&self, partition: usize) -> usize {
        self.topic_of[partition]
    }

    pub fn index_of(&self, partition: usize) -> usize {
        partition - self.topics[self.topic_of[partition]].first
    }

    pub fn partition(&self, partition: usize) -> TopicPartition {
        let topic = Arc::clone(self.topics[self.topic_of[partition]].name);
        TopicPartition { topic, partition: i32::try_from(self.index_of(partition)).unwrap_or(i32::MAX) }
    }

    /// None if there is no such partition, or nobody wants it.
    pub fn find(&self, partition: &TopicPartition) -> Option<usize> {
        let topic = &self.topics[self.number_of(&partition.topic)?];
        let index = usize::try_from(partition.partition).ok().filter(|&index| index < topic.count)?;
        Some(topic.first + index)
    }

    fn number_of(&self, topic: &str) -> Option<usize> {
        self.topics.binary_search_by(|known| compare(known.name, topic)).ok()
    }

    pub fn wants(&self, member: usize, partition: usize) -> bool {
        self.members[member].subscribes[self.topic_of[partition]]
    }

    /// Whether all members name the same topics, also those that there are not.
    pub fn all_subscribe_alike(&self) -> bool {
        let named = |row: &Row<'a>| row.member.subscription.topics.iter().collect::<BTreeSet<_>>();
        let first = self.members.first().map(named);
        self.members.iter().all(|row| Some(named(row)) == first)
    }

    /// Whether the member says where it is, and the partition has no replica there.
    pub fn is_far(&self, member: usize, partition: usize) -> bool {
        self.minds_racks && self.members[member].rack.is_some_and(|rack| !self.is_in(partition, rack))
    }

    /// Whether the partition has a replica where the member says that it is.
    pub fn is_near(&self, member: usize, partition: usize) -> bool {
        self.members[member].rack.is_some_and(|rack| self.is_in(partition, rack))
    }

    fn is_in(&self, partition: usize, rack: &str) -> bool {
        self.racks[partition].iter().any(|other| &**other == rack)
    }

    /// How many members are near it.
    pub fn neighbours(&self, partition: usize, in_rack: &BTreeMap<&str, usize>) -> usize {
        let racks: BTreeSet<&str> = self.racks[partition].iter().map(|rack| &**rack).collect();
        racks.into_iter().filter_map(|rack| in_rack.get(rack)).sum()
    }

    /// How many members there are in each rack.
    pub fn members_by_rack(&self) -> BTreeMap<&'a str, usize> {
        let mut counts = BTreeMap::new();
        for rack in self.members.iter().filter_map(|row| row.rack) {
            *counts.entry(rack).or_default() += 1;
        }
        counts
    }
}
