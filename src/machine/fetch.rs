//! What to ask one leader for, and what to make of its answers.
//!
//! ```text
//!               ┌──── waiting lane:   whatever may be fetched; waits at the broker until there is data
//!   partitions ─┤
//!               └──── immediate lane: what became fetchable meanwhile (seek, new assignment, returned credit)
//! ```
//! A partition is in one request at most. While the waiting lane is out, whoever else can be fetched goes out on the
//! other one: at once where data is likely, and every few milliseconds where the last fetch was empty, until the waiting
//! lane is back and takes it in. The immediate lane never waits at the broker: so no fetch that waits for idle partitions
//! delays anybody.
//!
//! Partitions whose logs go on behind what came are shared between the lanes: while one half is dealt with, the other is
//! on its way, and the connection to a broker far away is never empty. How much is asked for of each, and in how many
//! requests that stand in line on the immediate lane if the way is long: `depth.rs`.
//!
//! Each lane has a session at the broker ([`fetch_session`](super::fetch_session)): a request names only what changed (those
//! that stand in line do without it), and a partition that an answer does not mention has nothing new. Such a one stands on
//! the waiting lane: its credit and its place in the next request are what they were, and nobody looks at it, so that a
//! thousand of them cost nothing when something comes for another.
//!
//! A partition belongs to one leader at a time, like a token: [`Fetch::add`] brings it with the offset to go on from,
//! and [`Event::Released`] takes it home, with the offset reached and the reason. What comes for a partition after it
//! left, was sought or came back is dropped by its stamp; nobody else's data is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accumulator::Hint;
use super::backoff::Backoff;
use super::connection::Token;
use super::credit::{Credit, PartitionId};
use super::fetch_session::{FetchSession, Opening, Wanted};
use super::planted::bug;
use crate::wire::api::ApiKey;
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, LeaderIdAndEpoch, PartitionData,
};
use crate::wire::leader::produce::NodeEndpoint;
use crate::wire::message::Uuid;

use depth::Depth;
use flight::{Asked, Flight};
pub use output::{Config, Event, Fetched, LaneKind, Marks, Plan, Route, Seen, Why};
use partition::{Partition, end_of};

mod depth;
mod flight;
mod output;
mod partition;

#[derive(Debug, Default)]
struct Topic {
    id: Uuid,
    partitions: BTreeMap<i32, PartitionId>,
}

/// See the module's documentation, and [`crate::machine`] for the contract.
#[derive(Debug)]
pub struct Fetch {
    config: Config,
    partitions: BTreeMap<PartitionId, Partition>,
    /// Those of them that no lane has.
    here: BTreeSet<PartitionId>,
    topics: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<Uuid, Arc<str>>,
    /// In the order of sending.
    flights: Vec<Flight>,
    /// What the waiting lane's last request asked for, and its answer did not mention: asked for again as it is.
    standing: Vec<Asked>,
    /// Of the credit, when something was last asked for.
    share: usize,
    sessions: [FetchSession; 2],
    /// Since when there is nothing to fetch here.
    idle_since: Option<Instant>,
    events: VecDeque<Event>,
    next_token: Token,
    next_stamp: u64,
    served: u64,
    starved: bool,
    depth: Depth,
    /// Of the leader as a whole: it does not answer, or answers what helps nobody.
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// A partition that was at its end is asked for so often while the waiting lane is out without it.
const PROBE: Duration = Duration::from_millis(20);
/// What has nothing to fetch for so long gives its sessions back: brokers have room for a thousand.
const IDLE: Duration = Duration::from_secs(1);
/// A request that ends its session.
const FINAL: i32 = -1;
/// The last version that names topics.
const BY_NAME: i16 = 12;

impl Fetch {
    pub fn new(config: Config) -> Self {
        Self {
            // An answer too early is followed by a pause even when retry_backoff is zero.
            backoff: Backoff::new(config.retry_backoff.max(Duration::from_millis(1)), config.retry_backoff_max),
            depth: Depth::new(config.partition_max_bytes, config.partition_most_bytes),
            config,
            partitions: BTreeMap::new(),
            here: BTreeSet::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            flights: Vec::new(),
            standing: Vec::new(),
            share: 0,
            sessions: Default::default(),
            idle_since: None,
            events: VecDeque::new(),
            next_token: 0,
            next_stamp: 0,
            served: 0,
            starved: false,
            not_before: None,
        }
    }

    /// Fetches a partition from now on, or, if it is here already, from elsewhere: after a seek.
    pub fn add(&mut self, route: Route) {
        self.disown(route.id);
        self.idle_since = None;
        let topic = self.topics.entry(Arc::clone(&route.topic)).or_default();
        topic.partitions.insert(route.index, route.id);
        if topic.id != route.topic_id {
            self.names.remove(&topic.id);
            topic.id = route.topic_id;
        }
        if !route.topic_id.is_zero() {
            self.names.insert(route.topic_id, Arc::clone(&route.topic));
        }
        let stamp = self.next_stamp;
        self.next_stamp += 1;
        self.served += 1;
        let partition = Partition {
            stamp,
            fresh: true,
            is_behind: false,
            fetched: 0,
            left_out: false,
            probe_at: None,
            not_before: None,
            backoff: Backoff::new(self.config.retry_backoff, self.config.retry_backoff_max),
            served: self.served,
            suspect: None,
            needs: 0,
            stalls: 0,
            largest: 0,
            seen: Seen::NOTHING,
            route,
        };
        self.here.insert(partition.route.id);
        self.partitions.insert(partition.route.id, partition);
    }

    /// A paused partition stays, with what is under way for it, and is not asked for any more.
    pub fn pause(&mut self, id: PartitionId, is_paused: bool) {
        if let Some(partition) = self.partitions.get_mut(&id) {
            partition.route.is_paused = is_paused;
            partition.fresh |= !is_paused;
        }
        // What stands is asked for without another look.
        for asked in self.flights.iter_mut().map(|flight| &mut flight.asked) {
            if let Ok(at) = asked.binary_search_by_key(&id, |asked| asked.id) {
                asked[at].is_idle = false;
            }
        }
        self.unstand(id);
    }

    /// Sends the partition home. One that is not here, or was sought since, left on its own.
    pub fn recall(&mut self, id: PartitionId, generation: u64) {
        if self.partitions.get(&id).is_some_and(|partition| partition.route.generation == generation) {
            self.release(id, Why::Recalled);
        }
    }

    /// The next request, if a lane is free and something can be fetched.
    pub fn poll_fetch(&mut self, now: Instant, credit: &mut Credit) -> Option<Plan> {
        self.starved = false;
        if self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        // Only those that are likely to have data.
        let (lane, is_late) = match (self.waiting(), self.immediate().count()) {
            (None, _) => (LaneKind::Waiting, false),
            (Some(waiting), 0) => {
                // It comes back soon, and takes in those that are at their ends.
                let back = waiting.sent + waiting.max_wait;
                (LaneKind::Immediate, back.saturating_duration_since(now) <= PROBE)
            }
            (Some(_), count) if count < self.depth.pipeline() => (LaneKind::Immediate, true),
            _ => return None,
        };
        if std::mem::replace(&mut self.share, credit.share()) != credit.share() {
            // What idle ones may hold is not what they do.
            for asked in std::mem::take(&mut self.standing) {
                credit.give_back(asked.id, asked.reserved);
                self.give_up(Asked { answered: true, ..asked });
            }
            let asked = self.flights.iter_mut().flat_map(|flight| &mut flight.asked);
            asked.for_each(|asked| asked.is_idle = false);
        }
        let mut chosen = Vec::new();
        let (mut asking, mut behind, mut dry) = (0, 0, 0);
        for (id, partition) in self.here.iter().filter_map(|id| Some((*id, self.partitions.get(id)?))) {
            asking += usize::from(partition.fresh);
            if partition.is_out(now) {
                continue;
            }
            behind += usize::from(partition.is_behind);
            dry += usize::from(partition.is_dry(credit.used_by(id)));
            let is_early = is_late || partition.probe_at.is_some_and(|at| now < at);
            if lane == LaneKind::Waiting || !is_early || partition.fresh {
                chosen.push((partition.served, id, 0));
            }
        }
        let stands = lane == LaneKind::Waiting && !self.standing.is_empty();
        if chosen.is_empty() && !stands {
            return None;
        }
        // What nobody needs who asks for the usual.
        let least = self.depth.least();
        // As many requests are under way, and of two more something is not read yet, which keeps the whole answer that it
        // came in: each has its part of the budget, a quarter next door.
        let requests = (behind + self.behind()).clamp(2, 1 + self.depth.pipeline());
        let most = credit.total() / (requests + 2);
        let deep = credit.free().saturating_sub(least.saturating_mul(asking)).min(most);
        // As much of it for each, or the first would get ahead of the others.
        let dry = dry.max(1);
        let (deep, free) = (deep / dry, credit.free());
        // A broker fills the answer in the order of the request.
        chosen.sort_unstable();
        chosen.retain_mut(|(_, id, bytes)| {
            let Some(partition) = self.partitions.get_mut(id) else { return false };
            let used = credit.used_by(*id);
            let mut limit = match partition.is_dry(used) {
                true => self.depth.ask().min(least.saturating_add(deep)).min(credit.even(*id, free, dry)).max(least),
                false => least,
            };
            let offer = loop {
                let mut wanted = partition.wants(limit);
                if !partition.fresh && !partition.left_out {
                    // Always the same, so that a session need not hear of it again.
                    wanted = wanted.min(credit.share());
                }
                match credit.offer(*id, wanted) {
                    // It was sent a part of its first batch, and another part would lead nowhere.
                    Some(bytes) if bytes < partition.needs => break Some(partition.needs),
                    None if limit > least => limit = (limit / 2).max(least),
                    offer => break offer,
                }
            };
            *bytes = offer.unwrap_or(0);
            // Before the next one is offered anything: all of them together have to stay within the budget.
            credit.take(*id, *bytes);
            self.starved |= offer.is_none();
            partition.fresh |= offer.is_none();
            offer.is_some()
        });
        self.share(&mut chosen, credit);
        (stands || !chosen.is_empty()).then(|| self.plan(now, lane, &chosen))
    }

    /// Leaves to the other requests as many of those that have data as make it even, but nothing to a waiting lane that may
    /// wait at the broker. Whoever is left over has waited longest when a lane is free, and comes first.
    fn share(&self, chosen: &mut Vec<(u64, PartitionId, usize)>, credit: &mut Credit) {
        let requests = self.depth.pipeline() + usize::from(self.waiting().is_none_or(Flight::is_soon));
        let is_behind = |id: &PartitionId| self.partitions.get(id).is_some_and(|partition| partition.is_behind);
        let behind = chosen.iter().filter(|(_, id, _)| is_behind(id)).count();
        let all = behind + self.behind();
        let even = if bug("the_last_one_is_left_over") { all / requests } else { all.div_ceil(requests) };
        let mut left = even.min(behind);
        chosen.retain(|(_, id, bytes)| {
            let stays = !is_behind(id) || left > 0;
            left -= usize::from(stays && is_behind(id));
            if !stays {
                credit.give_back(*id, *bytes);
            }
            stays
        });
    }

    fn waiting(&self) -> Option<&Flight> {
        self.flights.iter().find(|flight| flight.lane == LaneKind::Waiting)
    }

    fn immediate(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|flight| flight.lane == LaneKind::Immediate)
    }

    /// How many partitions are under way that have data for certain.
    fn behind(&self) -> usize {
        self.flights.iter().map(|flight| flight.behind).sum()
    }

    /// What is under way on a lane.
    pub fn under_way(&self, lane: LaneKind) -> Vec<Token> {
        self.flights.iter().filter(|flight| flight.lane == lane).map(|flight| flight.token).collect()
    }

    /// When a request that is under way was sent.
    pub fn sent(&self, token: Token) -> Option<Instant> {
        self.flights.iter().find(|flight| flight.token == token).map(|flight| flight.sent)
    }

    /// Whether the last `poll_fetch` left out a partition for lack of credit alone.
    pub fn is_starved(&self) -> bool {
        self.starved
    }

    /// `begun` is when its first byte came.
    pub fn handle_answer(&mut self, now: Instant, begun: Instant, token: Token, response: FetchResponse, random: u64) {
        let Some(mut flight) = self.land(token) else { return };
        let (lane, has_session) = (flight.lane, flight.has_session);
        if !response.error_code.is_ok() {
            let session = self.sessions.get_mut(lane as usize).filter(|_| has_session);
            let may_help = session.is_some_and(|session| session.handle_error(now, response.error_code));
            match response.error_code.action(ApiKey::FETCH) {
                // The ids of topics that the session spoke of are not the broker's.
                Action::ResetSession if response.error_code == ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => {
                    self.events.push_back(Event::Stale);
                }
                Action::Retry | Action::ResetSession => {}
                Action::Refresh => self.events.push_back(Event::Stale),
                _ => self.events.push_back(Event::Refused(response.error_code)),
            }
            if !may_help {
                self.back_off(now, random);
            }
            return self.settle(flight);
        }
        let session = self.sessions.get_mut(lane as usize).filter(|_| has_session);
        let is_incremental = session.is_some_and(|session| session.handle_answer(now, response.session_id));
        let mut is_useful = false;
        let mut is_behind = false;
        for topic in &response.responses {
            let name = if topic.topic_id.is_zero() { Some(&topic.topic) } else { self.names.get(&topic.topic_id) };
            let Some(name) = name.cloned() else { continue };
            for data in &topic.partitions {
                // Unasked, or twice: the first one counts.
                let known = self.topics.get(&name).and_then(|topic| topic.partitions.get(&data.partition_index));
                let Some(&id) = known else { continue };
                let Ok(at) = flight.asked.binary_search_by_key(&id, |asked| asked.id) else { continue };
                let Some(asked) = flight.asked.get_mut(at).filter(|asked| !asked.answered) else { continue };
                asked.answered = true;
                let (generation, stamp, reserved) = (asked.generation, asked.stamp, asked.reserved);
                let marks = self.marks(&data);
                let received = data.records.as_ref().map_or(0, |records| records.0.len());
                if let Some(hint) = hint(&name, topic.topic_id, &data, &response) {
                    self.events.push_back(Event::Hint(hint));
                }
                let (fetched, why) = self.handle_partition(now, id, stamp, data, random);
                is_behind |= fetched.is_some() && self.partitions.get(&id).is_some_and(|p| p.is_behind);
                is_useful |= fetched.is_some() || matches!(why, Some(Why::Preferred(_)));
                self.events.push_back(Event::Answered { id, generation, reserved, received, fetched, marks });
                if let Some(why) = why {
                    self.release(id, why);
                }
            }
        }
        self.depth.handle_answer(now, lane, (flight.sent, begun), is_behind && flight.is_deep);
        // A broker that answers too early and with nothing is asked no faster than a failing one.
        let is_patient = flight.is_dated || (flight.max_wait.is_zero() && lane == LaneKind::Immediate);
        if is_useful {
            self.backoff.reset();
        } else if !is_patient && now.saturating_duration_since(flight.sent) <= flight.max_wait / 2 {
            self.back_off(now, random);
        }
        for asked in flight.asked.iter_mut().filter(|asked| !asked.answered && !asked.is_idle) {
            if let Some(partition) = self.partitions.get_mut(&asked.id).filter(|p| p.stamp == asked.stamp) {
                if is_incremental {
                    partition.at_end(now);
                    // It may hold its share and no more, and be asked from this broker for as long as it is here.
                    let route = &partition.route;
                    asked.is_idle = asked.reserved <= self.share && !route.is_paused && route.leader_until.is_none();
                } else {
                    partition.not_before = Some(now + partition.backoff.next_delay(random));
                }
            }
        }
        if lane == LaneKind::Waiting && is_incremental {
            // They are as the broker knows them, and have their credit: nothing is to be done about any of them.
            self.standing = std::mem::take(&mut flight.asked);
            flight.asked = self.standing.extract_if(.., |asked| asked.answered || !asked.is_idle).collect();
        }
        self.settle(flight);
    }

    /// The request was lost, or could not be sent. Its partitions stay, and are asked for again.
    pub fn handle_failed(&mut self, now: Instant, token: Token, random: u64) {
        let Some(flight) = self.land(token) else { return };
        // It may have been more than the line carries in the time that a request has.
        self.depth.reset();
        if flight.has_session && !bug("session_outlives_a_loss") {
            self.sessions[flight.lane as usize].reset();
        }
        self.back_off(now, random);
        self.events.push_back(Event::Stale);
        let is_nearby = |asked: &&Asked| {
            let partition = self.partitions.get(&asked.id).filter(|partition| partition.stamp == asked.stamp);
            partition.is_some_and(|partition| partition.route.is_nearby)
        };
        let nearby: Vec<_> = flight.asked.iter().filter(is_nearby).map(|asked| asked.id).collect();
        self.settle(flight);
        // Their leader may be all right (rule 46).
        nearby.into_iter().for_each(|id| self.release(id, Why::Unreachable));
    }

    /// Both connections are gone with all that was under way.
    pub fn handle_lanes_lost(&mut self) {
        for flight in std::mem::take(&mut self.flights) {
            self.settle(flight);
        }
        self.unstand_all();
        self.sessions = Default::default();
        self.not_before = None;
        self.depth.reset();
    }

    /// What the broker still remembers for this client, which is going away.
    pub fn end_sessions(&mut self) -> Vec<i32> {
        self.sessions.iter_mut().filter_map(FetchSession::end).collect()
    }

    /// The request that ends a session. It may go out on any connection, and its answer says nothing.
    pub fn farewell(session_id: i32) -> FetchRequest {
        FetchRequest { session_id, session_epoch: FINAL, ..Default::default() }
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `poll_fetch` may have something that it has not now.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(since) = self.idle_since {
            return Some(since + IDLE);
        }
        let waiting = self.waiting();
        if self.partitions.is_empty() || waiting.is_some() && self.immediate().next().is_some() {
            return None;
        }
        let here = || self.here.iter().filter_map(|id| self.partitions.get(id));
        let pauses = here().filter_map(|partition| partition.not_before);
        // Those that the waiting lane will not be back for.
        let back = waiting.map(|waiting| waiting.sent + waiting.max_wait);
        let idle = here().filter(|partition| !partition.fresh && !partition.route.is_paused);
        let probes = idle.filter_map(|partition| partition.probe_at);
        let probes = probes.map(|at| self.not_before.map_or(at, |pause| pause.max(at)));
        let probes = probes.filter(|at| back.is_some_and(|back| back.saturating_duration_since(*at) > PROBE));
        self.not_before.into_iter().chain(pauses).chain(probes).min()
    }

    /// Partitions whose pauses are over may be fetched again.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.rest(now);
        self.not_before = self.not_before.filter(|at| now < *at);
        for id in &self.here {
            let Some(partition) = self.partitions.get_mut(id) else { continue };
            partition.not_before = partition.not_before.filter(|at| now < *at);
            // From then on it goes out as soon as the lane is free, and nobody has to wake up for it.
            partition.probe_at = partition.probe_at.filter(|at| now < *at);
        }
    }

    /// The request for these, whose credit is taken, and for what stands on the lane.
    fn plan(&mut self, now: Instant, lane: LaneKind, chosen: &[(u64, PartitionId, usize)]) -> Plan {
        let mut wanted = Vec::with_capacity(chosen.len());
        let mut asked = match lane {
            LaneKind::Waiting => std::mem::take(&mut self.standing),
            LaneKind::Immediate => Vec::new(),
        };
        let count = asked.len();
        let mut total: usize = asked.iter().map(|asked| asked.reserved).sum();
        let mut by_name = asked.iter().any(|asked| asked.is_by_name);
        let (mut is_pinned, mut behind, mut is_deep) = (false, 0, false);
        for &(_, id, bytes) in chosen {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let route = &partition.route;
            self.here.remove(&id);
            behind += usize::from(partition.is_behind);
            // Rounded down to whole batches.
            is_deep |= partition.is_behind && bytes > self.depth.ask() / 2;
            total = total.saturating_add(bytes);
            is_pinned |= partition.route.leader_until.is_some_and(|until| now < until);
            let is_by_name = route.topic_id.is_zero();
            by_name |= is_by_name;
            wanted.push((id, route.wanted(bytes)));
            let (generation, stamp) = (route.generation, partition.stamp);
            let (reserved, answered, is_idle) = (bytes, false, false);
            asked.push(Asked { id, generation, stamp, reserved, answered, is_idle, is_by_name });
        }
        let is_alone = lane == LaneKind::Waiting || behind == 0 && self.immediate().next().is_none();
        // One behind the other, each for others: a session would hear of all of them every time.
        let has_session = is_alone || self.depth.pipeline() == 1;
        let session = &mut self.sessions[lane as usize];
        let standing = asked.get(..count).unwrap_or_default();
        let opening = if !has_session {
            Opening::without(wanted.len())
        } else if session.begins_anew(by_name, &wanted) && !bug("stands_in_a_session_to_come") {
            // Nobody stands in a session that is to come.
            let routes = standing.iter().filter_map(|asked| Some((asked, &self.partitions.get(&asked.id)?.route)));
            wanted.extend(routes.map(|(asked, route)| (asked.id, route.wanted(asked.reserved))));
            asked.iter_mut().for_each(|asked| asked.is_idle = false);
            session.open(now, by_name, &wanted, 0, |_| false)
        } else {
            let stands = |id| standing.binary_search_by_key(&id, |asked| asked.id).is_ok();
            session.open(now, by_name, &wanted, count, stands)
        };
        // Two runs: to merge them takes no more than to look at each.
        asked.sort_by_key(|asked| asked.id);
        let Opening { session_id, session_epoch, named, forgotten } = opening;
        let mut topics: Vec<FetchTopic> = Vec::new();
        // Of all but the first, since most requests are of one topic. By id as well: an offset in a topic that was deleted is
        // none in another one of its name (rule 48).
        let mut places: BTreeMap<(Arc<str>, Uuid), usize> = BTreeMap::new();
        for ((_, wanted), _) in wanted.into_iter().zip(named).filter(|(_, named)| *named) {
            let Wanted { topic, topic_id, index, offset, leader_epoch, max_bytes } = wanted;
            let is_its = |known: &FetchTopic| {
                known.topic == topic && (known.topic_id == topic_id || bug("one_id_for_each_name"))
            };
            let partition = FetchPartition {
                partition: index,
                current_leader_epoch: leader_epoch,
                fetch_offset: offset,
                partition_max_bytes: max_bytes,
                ..Default::default()
            };
            let place = match topics.first() {
                None => 0,
                Some(first) if is_its(first) => 0,
                Some(_) => *places.entry((Arc::clone(&topic), topic_id)).or_insert(topics.len()),
            };
            match topics.get_mut(place) {
                Some(known) => known.partitions.push(partition),
                None => topics.push(FetchTopic { topic, topic_id, partitions: vec![partition], ..Default::default() }),
            }
        }
        let max_wait = match lane {
            // Half of what the other one has is for this one: it is there soon, and then so is this.
            LaneKind::Waiting if behind == 0 && self.behind() > 1 => self.config.max_wait.min(PROBE),
            LaneKind::Waiting => self.config.max_wait,
            LaneKind::Immediate => Duration::ZERO,
        };
        let token = self.next_token;
        self.next_token += 1;
        let (sent, is_dated) = (now, false);
        self.flights.push(Flight { lane, token, sent, max_wait, asked, behind, is_deep, has_session, is_dated });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.config.min_bytes,
            isolation_level: i8::from(self.config.read_committed),
            // Of the request as a whole: neighbours read from the leader for a while, too.
            rack_id: if is_pinned { Arc::default() } else { Arc::clone(&self.config.rack) },
            max_bytes: clamp(total.min(self.config.max_bytes)),
            session_id,
            session_epoch,
            topics,
            forgotten_topics_data: forgotten,
            ..Default::default()
        };
        let max_version = if by_name { BY_NAME } else { FETCH_LAST };
        Plan { lane, token, request, max_version, max_wait }
    }

    /// Takes a flight off its lane.
    fn land(&mut self, token: Token) -> Option<Flight> {
        let at = self.flights.iter().position(|flight| flight.token == token)?;
        Some(self.flights.remove(at))
    }

    /// Returns the credit of whatever had no answer.
    fn settle(&mut self, flight: Flight) {
        flight.asked.into_iter().for_each(|asked| self.give_up(asked));
    }

    fn give_up(&mut self, Asked { id, generation, stamp, reserved, answered, .. }: Asked) {
        let is_its = self.partitions.get(&id).is_some_and(|partition| partition.stamp == stamp);
        if is_its && (answered || !bug("never_fetched_again")) {
            self.here.insert(id);
        }
        if !answered && !bug("keeps_credit") {
            self.events.push_back(Event::nothing(id, generation, reserved));
        }
    }

    /// It is looked at again before the next request.
    fn unstand(&mut self, id: PartitionId) {
        if let Ok(at) = self.standing.binary_search_by_key(&id, |asked| asked.id) {
            let asked = self.standing.remove(at);
            self.give_up(asked);
        }
    }

    fn unstand_all(&mut self) {
        std::mem::take(&mut self.standing).into_iter().for_each(|asked| self.give_up(asked));
    }

    /// Whoever comes back soon, as after a seek by time, finds the session as it was.
    fn rest(&mut self, now: Instant) {
        let is_idle = self.partitions.is_empty() && self.flights.is_empty();
        if !is_idle || !self.sessions.iter().any(FetchSession::is_remembered) {
            self.idle_since = None;
        } else if now >= *self.idle_since.get_or_insert(now) + IDLE {
            self.idle_since = None;
            let over = self.end_sessions();
            self.events.extend(over.into_iter().map(Event::SessionOver));
        }
    }

    /// Once for all that was under way: what fails beside it, as all that stands in line on one connection, says nothing new.
    fn back_off(&mut self, now: Instant, random: u64) {
        if self.not_before.is_none_or(|at| at <= now) {
            self.not_before = Some(now + self.backoff.next_delay(random));
        }
    }

    /// What is under way for the partition will not be its own any more, so it needs no credit: whoever seeks must not
    /// wait for room that stale data holds.
    fn disown(&mut self, id: PartitionId) {
        if bug("data_from_before_a_seek") {
            return;
        }
        for flight in self.flights.iter_mut() {
            let Ok(at) = flight.asked.binary_search_by_key(&id, |asked| asked.id) else { continue };
            let asked = &mut flight.asked[at];
            if !std::mem::replace(&mut asked.answered, true) {
                flight.is_dated = true;
                let (generation, reserved) = (asked.generation, asked.reserved);
                self.events.push_back(Event::nothing(id, generation, reserved));
            }
        }
        self.unstand(id);
    }

    fn release(&mut self, id: PartitionId, why: Why) {
        self.disown(id);
        let Some(Partition { route, seen, .. }) = self.partitions.remove(&id) else { return };
        self.here.remove(&id);
        if let Some(topic) = self.topics.get_mut(&route.topic) {
            if topic.partitions.get(&route.index) == Some(&id) {
                topic.partitions.remove(&route.index);
            }
            if topic.partitions.is_empty() {
                self.names.remove(&topic.id);
                self.topics.remove(&route.topic);
            }
        }
        if matches!(why, Why::Moved(_)) {
            self.events.push_back(Event::Stale);
        }
        let Route { generation, offset: next, .. } = route;
        self.events.push_back(Event::Released { id, generation, next, seen, why });
    }

    fn marks(&self, data: &PartitionData) -> Option<Marks> {
        let marks = Marks { log_start: data.log_start_offset, end: end_of(data, &self.config) };
        (data.error_code.is_ok() && marks.end >= 0).then_some(marks)
    }

    fn handle_partition(
        &mut self,
        now: Instant,
        id: PartitionId,
        stamp: u64,
        data: PartitionData,
        random: u64,
    ) -> (Option<Fetched>, Option<Why>) {
        // It went away, or comes from elsewhere now: this is not its data any more.
        let is_its = |partition: &&mut Partition| partition.stamp == stamp || bug("data_from_before_a_seek");
        let Some(partition) = self.partitions.get_mut(&id).filter(is_its) else {
            return (None, None);
        };
        let code = data.error_code;
        let why = match code.action(ApiKey::FETCH) {
            // It has sent nothing, then.
            Action::Done if data.preferred_read_replica >= 0 => Why::Preferred(data.preferred_read_replica),
            Action::Done => {
                self.served += 1;
                return partition.handle_records(now, data, &self.config, self.served, random);
            }
            Action::ResetOffset => Why::OutOfRange,
            Action::Refresh | Action::ResetSession => Why::Moved(code),
            // The broker's own copy is damaged: once more, then say so.
            Action::Retry if code == ErrorCode::CORRUPT_MESSAGE && partition.backoff.failures() > 0 => {
                Why::Refused(code)
            }
            Action::Retry => {
                partition.not_before = Some(now + partition.backoff.next_delay(random));
                return (None, None);
            }
            _ => Why::Refused(code),
        };
        (None, Some(why))
    }
}

/// Rule 78, KIP-951: who leads the partition, by the word of a broker that does not.
fn hint(name: &Arc<str>, topic_id: Uuid, data: &PartitionData, response: &FetchResponse) -> Option<Hint> {
    let LeaderIdAndEpoch { leader_id: leader, leader_epoch, .. } = data.current_leader;
    let is_moved = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&data.error_code);
    (is_moved && leader >= 0 && leader_epoch >= 0).then(|| {
        let endpoint = response.node_endpoints.iter().find(|endpoint| endpoint.node_id == leader);
        let endpoint = endpoint.map(|found| NodeEndpoint {
            node_id: found.node_id,
            host: found.host,
            port: found.port,
            rack: found.rack,
            ..Default::default()
        });
        let (topic, partition) = (Arc::clone(name), data.partition_index);
        Hint { topic, topic_id, partition, leader, leader_epoch, endpoint }
    })
}

const FETCH_LAST: i16 = <FetchRequest as crate::wire::message::Request>::VERSIONS.last;

fn clamp(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

impl Route {
    fn wanted(&self, bytes: usize) -> Wanted {
        Wanted {
            topic: Arc::clone(&self.topic),
            topic_id: self.topic_id,
            index: self.index,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            max_bytes: clamp(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
