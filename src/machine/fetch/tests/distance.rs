//! Brokers far away: what is under way on both lanes, and how much of it.

use super::*;

/// A batch, and the log goes on behind it.
fn more(partition: i32, base: i64) -> PartitionData {
    PartitionData { high_watermark: 1_000_000, ..data(partition, batch(base, 5)) }
}

/// Asked for by id, whatever the order.
fn asked(rig: &mut Rig, lane: LaneKind) -> (Plan, Vec<i32>) {
    let plan = rig.plan().expect("nothing is asked");
    assert_eq!(plan.lane, lane);
    let mut named = named(&plan);
    named.sort_unstable();
    (plan, named)
}

/// The next request on each lane, as the partitions that it names.
fn both(rig: &mut Rig) -> [(Plan, Vec<i32>); 2] {
    let both = [LaneKind::Waiting, LaneKind::Immediate].map(|lane| asked(rig, lane));
    rig.silent();
    both
}

fn bring(rig: &mut Rig, (plan, partitions): &(Plan, Vec<i32>)) {
    let offsets = |at: i32| rig.machine.partitions[&(at as PartitionId)].route.offset;
    let answers: Vec<_> = partitions.iter().map(|&at| more(at, offsets(at))).collect();
    rig.answer(plan, answers);
    assert_eq!(rig.events().len(), partitions.len());
}

#[test]
fn half_of_those_that_have_data_is_on_its_way_while_the_other_is_dealt_with() {
    let mut rig = Rig::new(6);
    let all = asked(&mut rig, LaneKind::Waiting);
    assert_eq!(all.1, [0, 1, 2, 3, 4, 5]);
    bring(&mut rig, &all);
    let [mut waiting, mut immediate] = both(&mut rig);
    assert_eq!((&waiting.1[..], &immediate.1[..]), (&[0, 1, 2][..], &[3, 4, 5][..]));
    // Each goes on by itself, and neither has to hear of the other's.
    for _ in 0..3 {
        bring(&mut rig, &waiting);
        waiting = asked(&mut rig, LaneKind::Waiting);
        assert_eq!(waiting.1, [0, 1, 2]);
        bring(&mut rig, &immediate);
        immediate = asked(&mut rig, LaneKind::Immediate);
        assert_eq!(immediate.1, [3, 4, 5]);
    }
    assert_eq!((waiting.0.max_wait, immediate.0.max_wait), (MAX_WAIT, Duration::ZERO));
}

#[test]
fn what_began_unevenly_is_even_after_one_answer_each() {
    let mut rig = Rig::new(1);
    rig.credit.assign(0..6);
    let first = asked(&mut rig, LaneKind::Waiting);
    rig.machine.add(route(1, 0, 0));
    let second = asked(&mut rig, LaneKind::Immediate);
    (2..6).for_each(|id| rig.machine.add(route(id, 0, 0)));
    bring(&mut rig, &first);
    let five = asked(&mut rig, LaneKind::Waiting);
    assert_eq!(five.1, [0, 2, 3, 4, 5], "of those that are new nobody knows what they have");
    bring(&mut rig, &five);
    // The other one was asked for before it was known to have more.
    let [first, second] = [asked(&mut rig, LaneKind::Waiting), second];
    assert_eq!(first.1, [0, 2, 3]);
    bring(&mut rig, &second);
    let second = asked(&mut rig, LaneKind::Immediate);
    assert_eq!(second.1, [1, 4, 5]);
    rig.silent();
}

#[test]
fn a_lane_that_may_wait_at_the_broker_gets_nothing_to_leave_behind() {
    let mut rig = Rig::new(5);
    let all = asked(&mut rig, LaneKind::Waiting);
    rig.wait(MAX_WAIT);
    rig.answer(&all.0, (0..5).map(empty));
    // It waits for all of them. Four are sought, and have data.
    let idle = asked(&mut rig, LaneKind::Waiting);
    (1..5).for_each(|id| rig.machine.add(route(id, 1, 0)));
    let mut immediate = asked(&mut rig, LaneKind::Immediate);
    for _ in 0..3 {
        assert_eq!(immediate.1, [1, 2, 3, 4]);
        bring(&mut rig, &immediate);
        immediate = asked(&mut rig, LaneKind::Immediate);
    }
    // When it is back it looks for the idle one only briefly, because half of the others is for it.
    rig.wait(MAX_WAIT);
    rig.answer(&idle.0, [empty(0)]);
    let idle = asked(&mut rig, LaneKind::Waiting);
    assert_eq!((&idle.1[..], idle.0.max_wait), (&[0][..], PROBE));
    bring(&mut rig, &immediate);
    let immediate = asked(&mut rig, LaneKind::Immediate);
    assert_eq!(immediate.1, [1, 2]);
    rig.silent();
    rig.wait(PROBE);
    rig.answer(&idle.0, [empty(0)]);
    let waiting = asked(&mut rig, LaneKind::Waiting);
    assert_eq!((&waiting.1[..], waiting.0.max_wait), (&[0, 3, 4][..], MAX_WAIT));
    // One that comes now is nobody's to leave.
    rig.machine.add(route(2, 2, 700));
    bring(&mut rig, &waiting);
    assert_eq!(asked(&mut rig, LaneKind::Waiting).1, [0, 2, 3, 4]);
    rig.silent();
    drop(immediate);
}

/// Who leaves some over takes them first the next time, if the other lane does not come back.
#[test]
fn nobody_starves_while_the_other_lane_hangs() {
    let mut rig = Rig::new(6);
    let all = asked(&mut rig, LaneKind::Waiting);
    bring(&mut rig, &all);
    let [hanging, mut immediate] = both(&mut rig);
    // Those of the lane that hangs are sought: they are free, and it still counts.
    for at in &hanging.1 {
        rig.machine.add(route(*at as PartitionId, 1, 0));
    }
    let mut served = BTreeMap::new();
    for _ in 0..12 {
        bring(&mut rig, &immediate);
        immediate.1.iter().for_each(|at| *served.entry(*at).or_insert(0) += 1);
        immediate = asked(&mut rig, LaneKind::Immediate);
    }
    assert!(served.len() == 6 && served.values().all(|count| *count >= 6), "{served:?}");
}

/// What a caller gets within four seconds who reads at once, or not at all, through a line of 40 MB a second.
struct Line {
    round_trip: Duration,
    partitions: u64,
    buffer: usize,
    /// How much is read in a second; all of it at once if nothing is said.
    reads: Option<u64>,
    /// Of the answer that came last nothing is read before the next request.
    lags: bool,
    most: usize,
}

struct Outcome {
    bytes: usize,
    /// The most that was asked for of one partition, and in the last three seconds.
    most: usize,
    most_late: usize,
    /// The most that was used by all.
    used: usize,
    /// Bytes of each.
    read: BTreeMap<PartitionId, usize>,
}

const RATE: u64 = 40_000_000;
const BASE: usize = 100 << 10;

impl Default for Line {
    fn default() -> Self {
        Self { round_trip: ms(0), partitions: 6, buffer: 64 * BASE, reads: None, lags: false, most: 8 * BASE }
    }
}

impl Line {
    fn run(&self) -> Outcome {
        let mut rig = Rig::with_buffer(self.partitions, self.buffer, BASE);
        rig.machine.depth = Depth::new(BASE, self.most);
        rig.machine.config.check_crcs = false;
        let begun = rig.now;
        let block = {
            let mut writer = BatchWriter::new(16 << 10);
            writer.append(0, None, Some(&[0; 10 << 10]), NO_HEADERS).unwrap();
            writer.finish().stamp(Identity::NONE).to_vec()
        };
        let mut flights: Vec<(Instant, Instant, Plan)> = Vec::new();
        let mut buffered: VecDeque<(u64, usize)> = VecDeque::new();
        let (mut free, mut bytes, mut most, mut most_late, mut used) = (rig.now, 0, 0, 0, 0);
        let mut read_until = rig.now;
        let (mut limits, mut read) = (BTreeMap::new(), BTreeMap::new());
        loop {
            while let Some(plan) = rig.plan() {
                let mut size = 0;
                let all = plan.request.topics.iter().flat_map(|topic| &topic.partitions);
                let all: usize = all.map(|asked| asked.partition_max_bytes as usize).sum();
                // Two are on their way, and two more may be half read.
                assert!(all <= self.buffer / 4 + self.partitions as usize * BASE, "{all} bytes in a request");
                for asked in plan.request.topics.iter().flat_map(|topic| &topic.partitions) {
                    limits.insert((plan.token, asked.partition), asked.partition_max_bytes as usize / block.len());
                    size += asked.partition_max_bytes as u64 / block.len() as u64 * block.len() as u64;
                    most = most.max(asked.partition_max_bytes as usize);
                    if rig.now > begun + ms(1_000) {
                        most_late = most_late.max(asked.partition_max_bytes as usize);
                    }
                }
                // The broker is as fast as it can be, and the line belongs to one answer after the other.
                let first = free.max(rig.now + self.round_trip / 2);
                free = first + Duration::from_nanos(size * 1_000_000_000 / RATE);
                flights.push((free + self.round_trip / 2, first + self.round_trip / 2, plan));
            }
            used = used.max(rig.credit.used());
            flights.sort_by_key(|(landed, ..)| std::cmp::Reverse(*landed));
            let Some((landed, first, plan)) = flights.pop().filter(|(landed, ..)| *landed < begun + ms(4_000)) else {
                return Outcome { bytes, most, most_late, used, read };
            };
            rig.wait(landed.saturating_duration_since(rig.now));
            let answers = plan.request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| {
                let mut records = Vec::new();
                for n in 0..limits[&(plan.token, asked.partition)] as i64 {
                    records.extend((asked.fetch_offset + n).to_be_bytes());
                    records.extend(&block[8..]);
                }
                PartitionData { high_watermark: i64::MAX, ..data(asked.partition, records) }
            });
            let response = response(answers.collect::<Vec<_>>());
            rig.machine.handle_answer(rig.now, first, plan.token, response, MIDDLE);
            while let Some(event) = rig.machine.poll_event() {
                let Event::Answered { id, reserved, fetched: Some(fetched), .. } = event else { continue };
                rig.credit.give_back(id, reserved);
                rig.credit.take(id, fetched.bytes);
                bytes += fetched.bytes;
                *read.entry(id).or_insert(0) += fetched.bytes;
                buffered.push_back((id, fetched.bytes));
            }
            let elapsed = rig.now.duration_since(read_until).as_nanos() as u64;
            let mut left = self.reads.map_or(usize::MAX, |rate| (elapsed * rate / 1_000_000_000) as usize);
            let kept = if self.lags { plan.request.topics.iter().map(|topic| topic.partitions.len()).sum() } else { 0 };
            while let Some((id, size)) = buffered.front().copied().filter(|_| buffered.len() > kept) {
                let Some(rest) = left.checked_sub(size) else { break };
                left = rest;
                read_until = rig.now;
                buffered.pop_front();
                rig.credit.give_back(id, size);
            }
        }
    }
}

#[test]
fn throughput_does_not_depend_on_the_distance_while_the_budget_is_large_enough() {
    let Outcome { bytes: near, most, .. } = Line::default().run();
    assert!(near > 159_000_000 && most == BASE, "{near} bytes, and nothing is to be gained by asking for more: {most}");
    for round_trip in [5, 20, 50] {
        let Outcome { bytes: far, most, used, read, .. } =
            Line { round_trip: ms(round_trip), ..Default::default() }.run();
        assert!(far >= near * 9 / 10, "{round_trip} ms: {far} of {near}");
        // Whoever is asked for more at once gets no more of the line.
        let (least, largest) = (read.values().min().unwrap(), read.values().max().unwrap());
        assert!(*least > largest * 9 / 10 && read.len() == 6, "{round_trip} ms: {read:?}");
        assert!((round_trip > 5) == (most > BASE) && used <= 64 * BASE, "{round_trip} ms: {most}, {used}");
    }
    // Half as much again as bandwidth times delay: that is enough in small pieces. In two large ones it is two thirds.
    let Outcome { bytes: far, .. } = Line { round_trip: ms(50), buffer: 30 * BASE, ..Default::default() }.run();
    assert!(far >= near * 9 / 10, "in a small budget: {far} of {near}");
    // The budget is not large enough for all that is asked for, and the last one makes do with no less than the others.
    let Outcome { read, .. } = Line { round_trip: ms(50), lags: true, ..Default::default() }.run();
    let (least, largest) = (read.values().min().unwrap(), read.values().max().unwrap());
    assert!(*least > largest * 9 / 10, "{read:?}");
}

#[test]
fn no_more_is_asked_for_than_what_was_set_or_than_the_budget_has() {
    let far = || Line { round_trip: ms(20), ..Default::default() };
    let Outcome { bytes, most, .. } = Line { most: BASE, ..far() }.run();
    assert_eq!(most, BASE);
    assert!(bytes < 120_000_000, "what it costs: {bytes}");
    let Outcome { bytes, used, .. } = Line { buffer: 8 * BASE, ..far() }.run();
    assert!(used <= 8 * BASE && bytes > 60_000_000, "{used}, {bytes}");
    // Each of many would find enough of it.
    let Outcome { most, used, .. } = Line { partitions: 40, round_trip: ms(200), ..far() }.run();
    assert!(most > BASE && used <= 64 * BASE, "{most}, {used}");
    // Who reads less than what comes is not waiting for the broker, as soon as some of it is left over.
    let Outcome { most_late: most, used, .. } = Line { reads: Some(RATE / 4), ..far() }.run();
    assert!(most <= BASE && used <= 64 * BASE && used > 50 * BASE, "{most}, {used}");
}

/// Far away those that have data go out in several requests, one behind the other, each by itself from then on.
#[test]
fn over_a_long_way_requests_stand_in_line_at_the_broker() {
    let mut rig = Rig::new(6);
    let all = asked(&mut rig, LaneKind::Waiting);
    rig.wait(ms(20));
    bring(&mut rig, &all);
    for _ in 0..2 {
        let both = both(&mut rig);
        rig.wait(ms(20));
        both.iter().for_each(|flight| bring(&mut rig, flight));
    }
    let mut line = vec![asked(&mut rig, LaneKind::Waiting)];
    line.extend((0..5).map(|_| asked(&mut rig, LaneKind::Immediate)));
    rig.silent();
    let mut partitions: Vec<_> = line.iter().flat_map(|(_, partitions)| partitions).copied().collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3, 4, 5]);
    // In a session each would have to forget those of the one before.
    let sessions = line.iter().map(|(plan, _)| (plan.request.session_id, plan.request.session_epoch));
    assert!(sessions.skip(1).all(|session| session == (0, -1)));
    for at in [3, 1, 0, 5] {
        bring(&mut rig, &line[at]);
        let lane = if at == 0 { LaneKind::Waiting } else { LaneKind::Immediate };
        let (plan, partitions) = asked(&mut rig, lane);
        assert_eq!(partitions, line[at].1);
        line[at] = (plan, partitions);
        rig.silent();
    }
    // One that is sought does not wait for any of them, and one that has nothing does not go out alone.
    let sought = line[2].1[0];
    rig.machine.add(route(sought as PartitionId, 1, 700));
    line.push(asked(&mut rig, LaneKind::Immediate));
    assert_eq!(line[6].1, [sought]);
    rig.silent();
    let idle = line[4].1[0];
    rig.answer(&line[4].0, [empty(idle)]);
    rig.silent();
    // With their connection all of them are gone, and only they; that is one failure, however many they are.
    let lost = rig.machine.under_way(LaneKind::Immediate);
    assert_eq!(lost.len(), 5);
    lost.into_iter().for_each(|token| rig.machine.handle_failed(rig.now, token, MIDDLE));
    assert_eq!(rig.machine.under_way(LaneKind::Waiting), [line[0].0.token]);
    rig.events();
    rig.wait(ms(99));
    rig.silent();
    rig.wait(ms(1));
    // It may have been too much for the line: as next door, until there are gaps again.
    let (_, again) = asked(&mut rig, LaneKind::Immediate);
    rig.silent();
    assert!(again.len() == 4 && again.contains(&sought) && again.contains(&idle), "{again:?}");
}

/// A gap counts from a millisecond on, and from the second one in a row.
#[test]
fn a_broker_next_door_is_asked_for_the_usual() {
    let start = Rig::new(1).now;
    let ask = |gap: u64, count: u32| {
        let mut depth = Depth::new(BASE, 8 * BASE);
        let (mut landed, micros) = (start, Duration::from_micros);
        for _ in 0..=count {
            let begun = landed + micros(gap);
            let now = begun + micros(100);
            depth.handle_answer(now, LaneKind::Waiting, (landed, begun), landed > start);
            landed = now;
        }
        depth.ask()
    };
    assert_eq!([ask(999, 9), ask(1_000, 1), ask(1_000, 2)], [BASE, BASE, 4 * BASE]);
}

/// One partition is in one fetch at a time, whatever the distance: the most that it may ask for has to do.
#[test]
fn a_single_partition_comes_in_larger_pieces_over_a_long_way() {
    let line = |most| Line { round_trip: ms(20), partitions: 1, most, ..Default::default() }.run();
    let (shallow, deep) = (line(BASE), line(8 * BASE));
    // In whole batches.
    assert!(deep.most > 7 * BASE && deep.most <= 8 * BASE, "{}", deep.most);
    assert!(deep.bytes > 4 * shallow.bytes, "{}, and {} without", deep.bytes, shallow.bytes);
}
