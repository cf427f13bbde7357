//! The budget: whatever is under way and buffered.

use super::*;

#[test]
fn a_stalled_caller_is_fetched_for_up_to_the_budget_and_no_further() {
    const TOTAL: usize = 100_000;
    let mut rig = Rig::with_buffer(4, TOTAL, 10_000);
    // Partition 3 is idle, the others have no end.
    let mut next = [0i64; 4];
    for _ in 0..100 {
        let Some(plan) = rig.plan() else { break };
        let mut answers = Vec::new();
        for asked in &plan.request.topics[0].partitions {
            let (at, limit) = (asked.partition as usize, asked.partition_max_bytes as usize);
            let mut records = Vec::new();
            while at != 3 && records.len() + 305 < limit {
                records.extend(batch(next[at], 14));
                next[at] += 14;
            }
            answers.push(data(asked.partition, records));
        }
        rig.wait(MAX_WAIT);
        rig.answer(&plan, answers);
        assert!(rig.credit.used() <= TOTAL, "{}", rig.credit.used());
        rig.events();
    }
    // Of the 60,000 beyond the shares 20,000, 10,000 and 10,000: the next piece would be more than what it leaves. And only
    // whole batches came.
    let used = rig.credit.used();
    assert!((70_000 - 3 * 10 * 305..=70_000).contains(&used), "{used}");
    // The full ones wait for their caller, the idle one for data.
    let waiting = rig.ask(LaneKind::Waiting, &[3]);
    assert!(rig.machine.is_starved());
    rig.silent();
    rig.credit.give_back(1, 20_000);
    let plan = rig.plan().unwrap();
    assert!(plan.lane == LaneKind::Immediate && named(&plan).contains(&1), "{plan:?}");
    rig.wait(MAX_WAIT);
    rig.answer(&waiting, [empty(3)]);
    rig.events();
    // Whoever has nothing buffered always has credit for a fetch.
    let used = rig.credit.used();
    rig.credit.take(0, TOTAL);
    let plan = rig.ask(LaneKind::Waiting, &[3]);
    assert!(plan.request.topics[0].partitions[0].partition_max_bytes >= 1_000);
    assert!(rig.credit.used() >= used + TOTAL);
}

/// A batch of this size, and nothing of it but its header is looked at.
fn large(base: i64, size: usize) -> Vec<u8> {
    let mut bytes = batch(base, 1);
    bytes.resize(size, 0);
    bytes[8..12].copy_from_slice(&(size as i32 - 12).to_be_bytes());
    bytes
}

/// What a broker answers whose logs have no end: in the order of the request, whole batches of one record as far as they
/// fit, and the first one in any case (KIP-74).
fn fill(plan: &Plan, size: usize) -> Vec<PartitionData> {
    let mut left = plan.request.max_bytes as usize;
    let mut is_first = true;
    let all = plan.request.topics.iter().flat_map(|topic| &topic.partitions);
    let answers = all.map(|asked| {
        let fits = left.min(asked.partition_max_bytes as usize) / size;
        let count = if std::mem::take(&mut is_first) { fits.max(1) } else { fits };
        left = left.saturating_sub(count * size);
        let records = (0..count as i64).flat_map(|n| large(asked.fetch_offset + n, size)).collect();
        PartitionData { high_watermark: i64::MAX, ..data(asked.partition, records) }
    });
    answers.collect()
}

/// Every one of them could be offered what is free; all of them together cannot. Their shares are smaller than a batch.
#[test]
fn a_thousand_partitions_are_asked_for_no_more_than_the_budget_has() {
    const TOTAL: usize = 6_400_000;
    const SIZE: usize = 16_000;
    let mut rig = Rig::with_buffer(1_000, TOTAL, 100_000);
    rig.machine.config.check_crcs = false;
    let (mut buffered, mut read) = (VecDeque::new(), BTreeMap::<PartitionId, usize>::new());
    for round in 0..400 {
        let plan = rig.plan().expect("nothing is asked");
        // Reserved as it was asked for, or buffered. A first batch that is larger than what was asked for arrives whole.
        assert!(rig.credit.used() <= TOTAL + SIZE, "{round}: {}", rig.credit.used());
        assert!(plan.request.max_bytes as usize <= TOTAL, "{round}: {}", plan.request.max_bytes);
        rig.answer(&plan, fill(&plan, SIZE));
        while let Some(event) = rig.machine.poll_event() {
            let Event::Answered { id, reserved, fetched, .. } = event else { panic!("{event:?}") };
            rig.credit.give_back(id, reserved);
            let Some(fetched) = fetched else { continue };
            rig.credit.take(id, fetched.bytes);
            *read.entry(id).or_default() += fetched.bytes;
            buffered.push_back((id, fetched.bytes));
        }
        assert!(rig.credit.used() <= TOTAL + SIZE, "{round}: {}", rig.credit.used());
        // Whoever reads is a little behind.
        while buffered.len() > 20 {
            buffered.pop_front().into_iter().for_each(|(id, bytes)| rig.credit.give_back(id, bytes));
        }
    }
    let (least, most) = (read.values().min().unwrap(), read.values().max().unwrap());
    assert!(read.len() == 1_000 && *least * 2 >= *most, "{} partitions: {least} to {most}", read.len());
}

/// Brokers send the first batch whole, whatever its size (KIP-74). One that cuts it tells how long it is, and is asked for
/// all of it, however much of the budget others hold.
#[test]
fn a_batch_larger_than_a_share_comes_from_a_broker_that_cuts_it() {
    const SIZE: usize = 90_000;
    let mut rig = Rig::with_buffer(10, 200_000, 100_000);
    rig.machine.config.check_crcs = false;
    (1..10).for_each(|id| rig.machine.pause(id, true));
    rig.credit.take(1, 200_000);
    let mut asked = Vec::new();
    let next = loop {
        rig.wait(ms(2_000));
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        asked.push(plan.request.topics[0].partitions[0].partition_max_bytes);
        let mut records = large(0, SIZE);
        records.truncate(plan.request.max_bytes as usize);
        rig.answer(&plan, [data(0, records)]);
        if let Some(event) = rig.events().pop() {
            break event;
        }
    };
    assert_eq!((&asked[..], &next[..]), (&[10_000, SIZE as i32][..], "0: 0..1"));
}
