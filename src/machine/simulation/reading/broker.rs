//! Logs with their epochs, transactions and versions, and what brokers answer to those who read them.

use std::collections::{BTreeMap, BTreeSet};

use super::Random;
use crate::record::{BatchWriter, Identity, NO_HEADERS};
use crate::wire::error_code::ErrorCode;
use crate::wire::leader::fetch::{AbortedTransaction, FetchPartition, FetchRequest, FetchTopic};
use crate::wire::leader::list_offsets::{EARLIEST, LATEST};
use crate::wire::message::Uuid;

pub(super) const NODES: usize = 3;

/// One record, or the marker that ends a transaction, as it was appended: its number is its place among all of them.
pub(super) struct Entry {
    pub(super) partition: usize,
    pub(super) offset: i64,
    /// The one before it in its log, then.
    pub(super) before: Option<usize>,
    pub(super) is_marker: bool,
    pub(super) producer: Option<i64>,
}

struct Stored {
    base: i64,
    count: usize,
    timestamp: i64,
    producer: Option<i64>,
    /// Whether it ends a transaction, and how.
    ends: Option<bool>,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Log {
    pub(super) leader: Option<usize>,
    pub(super) epoch: i32,
    pub(super) start: i64,
    /// Of each offset, also of those that were deleted.
    pub(super) numbers: Vec<usize>,
    batches: Vec<Stored>,
    /// Where each leader's term began.
    terms: Vec<(i32, i64)>,
    /// A transaction that is open, and where it began.
    open: Option<(i64, i64)>,
    /// Producer, first offset and that of the marker.
    aborted: Vec<(i64, i64, i64)>,
    /// How far each node has copied it.
    copied: [i64; NODES],
}

/// All that was ever appended.
#[derive(Default)]
pub(super) struct Truth {
    pub(super) entries: Vec<Entry>,
    pub(super) aborted: BTreeSet<i64>,
    next_producer: i64,
}

impl Truth {
    pub(super) fn is_visible(&self, number: usize, is_committed: bool) -> bool {
        let entry = &self.entries[number];
        let is_aborted = entry.producer.is_some_and(|producer| self.aborted.contains(&producer));
        !(entry.is_marker || is_committed && is_aborted)
    }

    /// Of those that a caller is to see, the one before this.
    pub(super) fn before(&self, number: usize, is_committed: bool) -> Option<usize> {
        let mut before = self.entries[number].before;
        while let Some(number) = before.filter(|number| !self.is_visible(*number, is_committed)) {
            before = self.entries[number].before;
        }
        before
    }
}

impl Log {
    pub(super) fn new(leader: usize) -> Self {
        Self { leader: Some(leader), terms: vec![(0, 0)], ..Self::default() }
    }

    pub(super) fn end(&self) -> i64 {
        self.numbers.len() as i64
    }

    pub(super) fn number_at(&self, offset: i64) -> Option<usize> {
        self.numbers.get(usize::try_from(offset).ok()?).copied()
    }

    pub(super) fn stable_end(&self) -> i64 {
        self.open.map_or_else(|| self.end(), |(_, first)| first)
    }

    pub(super) fn append(&mut self, truth: &mut Truth, partition: usize, count: usize, timestamp: i64) {
        self.write(truth, partition, count, timestamp, None, None);
    }

    /// Begins a transaction, goes on with it or ends it.
    pub(super) fn transact(&mut self, truth: &mut Truth, partition: usize, timestamp: i64, random: &mut Random) {
        match self.open {
            Some((_, _)) if random.chance(500) => self.end_transaction(truth, partition, timestamp, random.chance(500)),
            Some((producer, _)) => self.write(truth, partition, 2, timestamp, Some(producer), None),
            None => {
                truth.next_producer += 1;
                let producer = truth.next_producer;
                self.open = Some((producer, self.end()));
                self.write(truth, partition, 2, timestamp, Some(producer), None);
            }
        }
    }

    pub(super) fn end_transaction(&mut self, truth: &mut Truth, partition: usize, timestamp: i64, commits: bool) {
        let Some((producer, first)) = self.open.take() else { return };
        if !commits {
            truth.aborted.insert(producer);
            self.aborted.push((producer, first, self.end()));
        }
        self.write(truth, partition, 1, timestamp, Some(producer), Some(commits));
    }

    fn write(
        &mut self,
        truth: &mut Truth,
        partition: usize,
        count: usize,
        timestamp: i64,
        producer: Option<i64>,
        ends: Option<bool>,
    ) {
        let base = self.end();
        let mut writer = BatchWriter::new(256);
        for _ in 0..count {
            let number = truth.entries.len();
            let marker = [0, 0, 0, u8::from(ends == Some(true))];
            let key = ends.map(|_| &marker[..]);
            writer.append(timestamp, key, Some(&(number as u32).to_be_bytes()), NO_HEADERS).expect("there is room");
            truth.entries.push(Entry {
                partition,
                offset: self.end(),
                before: self.numbers.last().copied(),
                is_marker: ends.is_some(),
                producer,
            });
            self.numbers.push(number);
        }
        let identity = producer.map_or(Identity::NONE, |producer_id| Identity {
            producer_id,
            producer_epoch: 0,
            base_sequence: if ends.is_some() { -1 } else { 0 },
            transactional: true,
        });
        let mut bytes = writer.finish().stamp(identity).to_vec();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        if ends.is_some() {
            bytes[22] |= 0x20;
            let sum = crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&sum.to_be_bytes());
        }
        self.batches.push(Stored { base, count, timestamp, producer, ends, bytes });
    }

    /// Another leader, or the same one again.
    pub(super) fn elect(&mut self, leader: usize) {
        self.leader = Some(leader);
        self.epoch += 1;
        let end = self.end();
        self.terms.retain(|(_, start)| *start < end);
        self.terms.push((self.epoch, end));
    }

    /// By one that has less: the log is cut where no transaction was open.
    pub(super) fn elect_uncleanly(&mut self, leader: usize, random: &mut Random) {
        let mut open = BTreeSet::new();
        let mut places = Vec::new();
        for batch in &self.batches {
            if open.is_empty() {
                places.push(batch.base);
            }
            match (batch.producer, batch.ends) {
                (Some(producer), None) => drop(open.insert(producer)),
                (Some(producer), Some(_)) => drop(open.remove(&producer)),
                _ => {}
            }
        }
        if let Some(at) = (!places.is_empty()).then(|| places[places.len() - 1 - random.index(places.len().min(4))]) {
            self.batches.retain(|batch| batch.base < at);
            self.numbers.truncate(at as usize);
            self.aborted.retain(|(_, first, _)| *first < at);
            self.open = self.open.filter(|(_, first)| *first < at);
            self.copied.iter_mut().for_each(|copied| *copied = (*copied).min(at));
        }
        self.elect(leader);
    }

    /// What lies below is deleted.
    pub(super) fn retain_from(&mut self, at: i64) {
        self.start = self.start.max(at.min(self.stable_end()));
        let start = self.start;
        self.batches.retain(|batch| batch.base + batch.count as i64 > start);
    }

    /// The first offset that is no older, or an end of the log; -1: nothing is as young.
    pub(super) fn offset_of(&self, time: i64, is_committed: bool) -> i64 {
        match time {
            EARLIEST => self.start,
            LATEST if is_committed => self.stable_end(),
            LATEST => self.end(),
            _ => {
                let found = self.batches.iter().find(|batch| batch.timestamp >= time);
                found.map_or(-1, |batch| batch.base.max(self.start))
            }
        }
    }

    /// The last epoch up to this one, and where it ended.
    pub(super) fn end_of_epoch(&self, epoch: i32) -> (i32, i64) {
        // Of one before all that it knows a broker says that it ended where those begin: LeaderEpochFileCache.
        let Some(at) = self.terms.iter().rposition(|(term, _)| *term <= epoch) else {
            return (epoch, self.terms.first().map_or(0, |(_, start)| *start));
        };
        let end = self.terms.get(at + 1).map_or_else(|| self.end(), |(_, start)| *start);
        (self.terms[at].0, end)
    }

    /// Why this broker says nothing of the log.
    pub(super) fn refusal(&self, node: usize, epoch: i32) -> Option<ErrorCode> {
        match epoch {
            _ if self.leader != Some(node) => Some(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            0.. if epoch < self.epoch => Some(ErrorCode::FENCED_LEADER_EPOCH),
            0.. if epoch > self.epoch => Some(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => None,
        }
    }

    /// How far a node lets others read.
    pub(super) fn readable(&mut self, node: usize, is_committed: bool, random: &mut Random) -> i64 {
        let end = if is_committed { self.stable_end() } else { self.end() };
        if self.leader == Some(node) {
            return end;
        }
        let copied = &mut self.copied[node];
        *copied = (*copied).max(self.numbers.len() as i64 - random.below(8) as i64).max(0);
        end.min(*copied)
    }

    /// Batches from the one on that holds `offset`, and what was aborted in them.
    pub(super) fn read(
        &self,
        offset: i64,
        end: i64,
        most: usize,
        is_first: bool,
    ) -> (Vec<u8>, Vec<AbortedTransaction>) {
        let mut bytes = Vec::new();
        let mut last = offset;
        for batch in self.batches.iter().filter(|batch| batch.base + batch.count as i64 > offset && batch.base < end) {
            bytes.extend(&batch.bytes);
            last = batch.base + batch.count as i64;
            if bytes.len() >= most {
                if !(is_first && bytes.len() == batch.bytes.len()) {
                    bytes.truncate(most);
                }
                break;
            }
        }
        let within = self.aborted.iter().filter(|(_, first, marker)| *first < last && *marker >= offset);
        let aborted = within.map(|(producer_id, first_offset, _)| AbortedTransaction {
            producer_id: *producer_id,
            first_offset: *first_offset,
            ..Default::default()
        });
        (bytes, aborted.collect())
    }
}

/// By the bit, which is enough for markers.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(sum & 1)))
    })
}

/// A partition, and of which topic by that name.
pub(super) type Asked = (Uuid, FetchPartition);

/// What a broker remembers of who fetches from it (KIP-227).
#[derive(Default)]
pub(super) struct Sessions {
    known: BTreeMap<i32, (i32, BTreeMap<i32, Asked>)>,
    last_id: i32,
}

impl Sessions {
    pub(super) fn evict(&mut self) {
        self.known.clear();
    }

    /// What a request asks for, and nothing changes; `None`: not that of the session.
    pub(super) fn peek(&self, request: &FetchRequest) -> Option<Vec<Asked>> {
        let mut copy = Self { known: BTreeMap::new(), last_id: self.last_id };
        if let Some(session) = self.known.get(&request.session_id) {
            copy.known.insert(request.session_id, session.clone());
        }
        copy.open(request, false).ok().map(|(wanted, ..)| wanted)
    }

    /// The partitions that are asked for, whether all of them are to be answered for, and the id to answer with.
    pub(super) fn open(
        &mut self,
        request: &FetchRequest,
        remembers: bool,
    ) -> Result<(Vec<Asked>, bool, i32), ErrorCode> {
        let of = |topic: &FetchTopic| {
            let id = topic.topic_id;
            topic
                .partitions
                .iter()
                .map(move |partition| (partition.partition, (id, partition.clone())))
                .collect::<Vec<_>>()
        };
        let named: BTreeMap<_, _> = request.topics.iter().flat_map(of).collect();
        if request.session_epoch <= 0 {
            self.known.remove(&request.session_id);
            let wanted = named.values().cloned().collect();
            if request.session_epoch < 0 || !remembers {
                return Ok((wanted, true, 0));
            }
            self.last_id += 1;
            self.known.insert(self.last_id, (1, named));
            return Ok((wanted, true, self.last_id));
        }
        let Some((epoch, known)) = self.known.get_mut(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if *epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        *epoch += 1;
        known.extend(named);
        request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions).for_each(|index| {
            known.remove(index);
        });
        Ok((known.values().cloned().collect(), false, request.session_id))
    }
}
