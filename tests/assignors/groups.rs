//! Random groups, and how they change from one generation to the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use milena::TopicPartition;
use milena::machine::assignor::subscription::{decode, encode, encode_sticky};
use milena::machine::assignor::{
    Assigned, Assignments, Assignor, CooperativeSticky, Member, Range, RoundRobin, Sticky, Topics,
};

/// What a group is told, and by which strategy it goes.
pub struct Case {
    pub assignor: &'static dyn Assignor,
    pub members: Vec<Member>,
    pub topics: Topics,
    pub generation: i32,
    /// By us.
    pub assigned: Assignments,
    /// No claim is false, old or doubled, and no topic lost partitions.
    pub is_clean: bool,
}

pub const ASSIGNORS: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];

/// How a group is.
struct Nature {
    /// All want the same topics.
    alike: bool,
    racks: &'static [&'static str],
    /// Of 100 members, how many say where they are.
    placed: usize,
    static_ids: bool,
    /// Members that missed a generation, and double claims.
    zombies: bool,
    /// Topics may come back smaller.
    shrinks: bool,
}

struct Group {
    nature: Nature,
    members: Vec<Member>,
    topics: Topics,
    /// Who wrote it has not heard of generations in subscriptions.
    versions: Vec<i16>,
    generation: i32,
    is_clean: bool,
}

/// `rounds` generations of a random group under each strategy.
pub fn cases(seed: u64, rounds: i32) -> Vec<Case> {
    let mut cases = Vec::new();
    for assignor in ASSIGNORS {
        let mut rng = Rng::with_seed(seed);
        let mut group = Group::new(&mut rng);
        for _ in 0..rounds {
            // As the leader sees them.
            let members: Vec<_> = group.members.iter().map(travelled).collect();
            let case = Case {
                assignor,
                assigned: assignor.assign(&members, &group.topics),
                members,
                topics: group.topics.clone(),
                generation: group.generation,
                is_clean: group.is_clean,
            };
            group.next(assignor, &case.assigned, &mut rng);
            cases.push(case);
        }
    }
    cases
}

impl Group {
    fn new(rng: &mut Rng) -> Self {
        let nature = Nature {
            alike: rng.bool(),
            racks: [&[][..], &["a", "b"], &["eu-1", "eu-2", "eu-3", ""]][rng.usize(..3)],
            placed: [0, 60, 100][rng.usize(..3)],
            static_ids: rng.u8(..4) == 0,
            zombies: rng.u8(..5) == 0,
            shrinks: rng.u8(..25) == 0,
        };
        let mut group = Self {
            nature,
            members: Vec::new(),
            topics: Topics::new(),
            versions: Vec::new(),
            generation: 1,
            is_clean: true,
        };
        let most = if rng.u8(..10) == 0 { 40 } else { 9 };
        for _ in 0..rng.usize(1..=if most > 9 { 12 } else { 5 }) {
            group.add_topic(most, rng);
        }
        for _ in 0..rng.usize(1..=most) {
            group.join(rng);
        }
        group
    }

    fn add_topic(&mut self, most: usize, rng: &mut Rng) {
        const STEMS: [&str; 5] = ["t", "orders", "payments.eu", "clicks-", "a_long_name_of_a_topic"];
        let name: Arc<str> = format!("{}{}", STEMS[rng.usize(..5)], rng.u8(..30)).into();
        let even = rng.bool();
        let partitions = if even { 6 } else { rng.usize(1..=most + 3) };
        let partitions = (0..partitions).map(|_| self.replicas(rng)).collect();
        self.topics.insert(name, partitions);
    }

    fn replicas(&self, rng: &mut Rng) -> Vec<Arc<str>> {
        let racks = self.nature.racks;
        if racks.is_empty() {
            return Vec::new();
        }
        (0..rng.usize(..3)).map(|_| racks[rng.usize(..racks.len())].into()).collect()
    }

    fn wants(&self, rng: &mut Rng) -> Vec<Arc<str>> {
        if self.nature.alike {
            let first = self.members.first().map(|member| member.subscription.topics.clone());
            return first.unwrap_or_else(|| {
                let mut topics: Vec<_> = self.topics.keys().cloned().collect();
                // One that is not there yet.
                if rng.u8(..5) == 0 {
                    topics.push("missing".into());
                }
                topics
            });
        }
        let some = self.topics.keys().filter(|_| rng.u8(..3) > 0).cloned();
        let mut some: Vec<_> = some.collect();
        rng.shuffle(&mut some);
        some
    }

    fn join(&mut self, rng: &mut Rng) {
        let client = ["consumer-orders", "c", "münchen", "😀"][if rng.u8(..4) == 0 { rng.usize(..4) } else { 0 }];
        let id = format!("{client}-{}-{:016x}", self.members.len(), rng.u64(..));
        let instance_id = (self.nature.static_ids && rng.u8(..3) > 0).then(|| format!("i{}", rng.u16(..)).into());
        let mut member = Member { id: id.into(), instance_id, ..Default::default() };
        member.subscription.topics = self.wants(rng);
        member.subscription.generation = -1;
        if rng.usize(..100) < self.nature.placed && !self.nature.racks.is_empty() {
            let mut racks = self.nature.racks.to_vec();
            racks.push("elsewhere");
            member.subscription.rack = Some(racks[rng.usize(..racks.len())].into());
        }
        self.members.push(member);
        self.versions.push([3, 3, 3, 2, 1, 0][rng.usize(..6)]);
    }

    /// What members then have, who of them comes back, and who else.
    fn next(&mut self, assignor: &dyn Assignor, assigned: &[Vec<TopicPartition>], rng: &mut Rng) {
        for ((member, partitions), version) in self.members.iter_mut().zip(assigned).zip(&self.versions) {
            if self.nature.zombies && rng.u8(..6) == 0 {
                self.is_clean = false;
                continue; // It missed this one, and says what it had before.
            }
            let mut partitions = partitions.clone();
            if self.nature.zombies && rng.u8(..6) == 0 {
                self.is_clean = false;
                partitions.extend(assigned[rng.usize(..assigned.len())].iter().take(2).cloned());
            }
            let last = Assigned { partitions: &partitions, generation: self.generation };
            let subscription = &mut member.subscription;
            subscription.user_data = assignor.user_data(Some(last));
            if *version == 0 && assignor.name() == "sticky" {
                // As Kafka 2.2 and before wrote it, without a generation.
                let data = encode_sticky(last).unwrap();
                subscription.user_data = Some(data.slice(..data.len() - 4));
                self.is_clean = false;
            }
            if rng.u8(..50) == 0 {
                subscription.user_data = [None, Some(Bytes::from_static(b"\x00\x00\x00\x09?"))][rng.usize(..2)].clone();
                self.is_clean = false;
            }
            subscription.generation = if *version >= 2 { self.generation } else { -1 };
            subscription.owned.clear();
            if assignor.name() == "cooperative-sticky" {
                // A member of version 0 cannot say what it owns: it would not be in such a group, or own nothing.
                subscription.owned = if *version >= 1 { partitions } else { Vec::new() };
            }
        }
        self.generation += 1;
        for _ in 0..rng.usize(..3) {
            if self.members.len() > 1 && rng.bool() {
                let at = rng.usize(..self.members.len());
                self.members.remove(at);
                self.versions.remove(at);
            } else {
                self.join(rng);
            }
        }
        self.change_topics(rng);
        if rng.u8(..4) == 0 {
            // Members show up in the order of their ids, or as they came.
            let mut both: Vec<_> = self.members.drain(..).zip(self.versions.drain(..)).collect();
            rng.shuffle(&mut both);
            (self.members, self.versions) = both.into_iter().unzip();
        }
    }

    fn change_topics(&mut self, rng: &mut Rng) {
        if rng.u8(..4) == 0 {
            let names: Vec<_> = self.topics.keys().cloned().collect();
            let name = Arc::clone(&names[rng.usize(..names.len())]);
            let more = self.replicas(rng);
            match rng.u8(..4) {
                0 => drop(self.topics.remove(&name).filter(|_| names.len() > 1)),
                1 if self.nature.shrinks => {
                    self.topics.get_mut(&name).unwrap().truncate(1);
                    self.is_clean = false;
                }
                2 => self.add_topic(9, rng),
                _ => self.topics.get_mut(&name).unwrap().push(more),
            }
        }
        if rng.u8(..6) == 0 {
            let alike = self.nature.alike;
            let wanted: Vec<_> = self.topics.keys().cloned().collect();
            for member in &mut self.members {
                if alike {
                    member.subscription.topics.clone_from(&wanted);
                } else if rng.bool() {
                    let some: BTreeSet<_> = wanted.iter().filter(|_| rng.bool()).cloned().collect();
                    member.subscription.topics = some.into_iter().collect();
                }
            }
        }
        if self.topics.is_empty() {
            self.add_topic(5, rng);
        }
    }
}

fn travelled(member: &Member) -> Member {
    let bytes = encode(&member.subscription, version(member)).unwrap();
    Member { subscription: decode(&bytes).unwrap(), ..member.clone() }
}

/// In which version its subscription is written: what it says tells.
pub fn version(member: &Member) -> i16 {
    let subscription = &member.subscription;
    match (&subscription.rack, subscription.generation, subscription.owned.is_empty()) {
        (Some(_), ..) => 3,
        (_, 0.., _) => 2,
        (.., false) => 1,
        _ => 0,
    }
}
