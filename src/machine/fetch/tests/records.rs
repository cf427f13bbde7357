//! What is made of the bytes of an answer.

use super::*;
use crate::wire::leader::fetch::AbortedTransaction;

#[test]
fn the_first_batch_may_begin_below_and_gaps_are_passed() {
    let mut rig = Rig::new(1);
    rig.machine.add(route(0, 1, 7));
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    // One batch that ends below, one around the offset, a hole, and a partial one behind.
    let mut records = set(&[(0, 5), (5, 5), (20, 2)]);
    records.extend(&batch(22, 9)[..50]);
    rig.answer(&plan, [data(0, records)]);
    assert_eq!(rig.events(), ["0: 7..22"]);
}

#[test]
fn bytes_that_lead_nowhere_are_asked_for_ever_slower_and_reported() {
    let mut rig = Rig::new(2);
    rig.machine.add(route(0, 1, 100));
    for attempt in 0..3 {
        let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
        rig.wait(MAX_WAIT);
        rig.answer(&plan, [data(0, batch(0, 5)), empty(1)]);
        if attempt < 2 {
            assert!(rig.events().is_empty());
            // The other one is not held back.
            let other = rig.ask(LaneKind::Waiting, &[1]);
            rig.wait(MAX_WAIT);
            rig.answer(&other, [empty(1)]);
        }
    }
    assert_eq!(rig.events(), ["0 released at 100: NoProgress"]);
}

#[test]
fn a_batch_larger_than_the_limit_is_asked_for_whole() {
    let mut rig = Rig::with_buffer(1, 1 << 20, 1_000);
    let large = batch(0, 100);
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(plan.request.topics[0].partitions[0].partition_max_bytes, 1_000);
    rig.answer(&plan, [data(0, large[..1_000].to_vec())]);
    assert!(rig.events().is_empty());
    rig.wait(ms(200));
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    assert_eq!(plan.request.topics[0].partitions[0].partition_max_bytes as usize, large.len());
    rig.answer(&plan, [data(0, large)]);
    assert_eq!(rig.events(), ["0: 0..100"]);
    assert_eq!(rig.ask(LaneKind::Waiting, &[0]).request.topics[0].partitions[0].partition_max_bytes, 1_000);
}

#[test]
fn a_damaged_batch_is_fetched_once_more_and_then_reported_behind_what_is_sound() {
    let mut rig = Rig::new(2);
    let mut records = set(&[(0, 5), (5, 5)]);
    let at = batch(0, 5).len() + 80;
    records[at] ^= 1;
    let plan = rig.ask(LaneKind::Waiting, &[0, 1]);
    rig.answer(&plan, [data(0, records.clone()), empty(1)]);
    assert_eq!(rig.events(), ["0: 0..5"]);
    let plan = rig.ask(LaneKind::Waiting, &[1, 0]);
    rig.answer(&plan, [data(0, records.split_off(batch(0, 5).len())), data(1, batch(0, 1))]);
    assert_eq!(rig.events(), ["0 unreadable at 5, end Some(10)", "1: 0..1"]);
    rig.ask(LaneKind::Waiting, &[1]);
}

#[test]
fn a_batch_that_was_damaged_on_its_way_is_nobodys_business() {
    let mut rig = Rig::new(1);
    for base in [0, 5] {
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        let mut damaged = batch(base, 5);
        damaged[70] ^= 1;
        rig.answer(&plan, [data(0, damaged)]);
        assert!(rig.events().is_empty());
        rig.wait(ms(1000));
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        rig.answer(&plan, [data(0, batch(base, 5))]);
        assert_eq!(rig.events(), [format!("0: {base}..{}", base + 5)]);
    }
}

#[test]
fn a_damaged_message_of_an_old_format_is_reported_likewise() {
    let mut rig = Rig::new(1);
    let sets = include_bytes!("../../../../tests/golden/set-v1-gzip");
    // Two wrappers, with offsets 100 to 109 and 1115 to 1136; the value of the second is damaged.
    let second = 12 + usize::from(sets[11]) + 256 * usize::from(sets[10]);
    let mut damaged = sets.to_vec();
    damaged[second + 60] ^= 1;
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, damaged.clone())]);
    assert_eq!(rig.events(), ["0: 0..110"]);
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, damaged.split_off(second))]);
    assert_eq!(rig.events(), ["0 unreadable at 110, end Some(1137)"]);
}

#[test]
fn a_new_format_is_reported_at_once_and_any_length_is_survived() {
    let mut rig = Rig::new(1);
    let mut new = batch(0, 5);
    new[16] = 3;
    let plan = rig.ask(LaneKind::Waiting, &[0]);
    rig.answer(&plan, [data(0, new)]);
    assert_eq!(rig.events(), ["0 unreadable at 0, end None"]);
    for length in [i32::MIN, -1, 0, 1, 48, i32::MAX] {
        let mut rig = Rig::new(1);
        let mut lying = batch(0, 5);
        lying[8..12].copy_from_slice(&length.to_be_bytes());
        let mut events = Vec::new();
        for _ in 0..6 {
            let Some(plan) = rig.plan() else { break };
            rig.answer(&plan, [data(0, lying.clone())]);
            events.extend(rig.events());
            rig.wait(ms(2000));
        }
        assert_eq!(events.len(), 1, "{length}: {events:?}");
        assert!(rig.machine.partitions.is_empty());
    }
}

/// Rule 35, 39: markers and what was aborted are passed, and take no credit.
#[test]
fn who_reads_what_was_committed_sees_no_aborted_transaction() {
    let transactional = |base: i64, attributes: u8| {
        let mut bytes = batch(base, 2);
        bytes[22] |= attributes;
        bytes[43..51].copy_from_slice(&7i64.to_be_bytes());
        bytes
    };
    let log = [transactional(0, 0x10), transactional(2, 0x30), transactional(4, 0x10), transactional(6, 0x30)].concat();
    for (read_committed, expected) in [(true, (4, 8, 1)), (false, (0, 8, 4))] {
        let mut rig = Rig::new(1);
        rig.machine.config.read_committed = read_committed;
        rig.machine.config.check_crcs = false;
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        assert_eq!(plan.request.isolation_level, i8::from(read_committed));
        let aborted = vec![AbortedTransaction { producer_id: 7, first_offset: 0, ..Default::default() }];
        let answer = PartitionData { aborted_transactions: Some(aborted), ..data(0, log.clone()) };
        rig.answer(&plan, [answer]);
        let Some(Event::Answered { fetched: Some(fetched), .. }) = rig.machine.poll_event() else { panic!() };
        let seen: Vec<_> = fetched.batches.iter().filter(|batch| !batch.header().is_control()).collect();
        let first = seen.first().unwrap().header().base_offset;
        let shown = if read_committed { fetched.batches.len() } else { 4 };
        assert_eq!((first, fetched.next, shown), expected);
        assert_eq!(fetched.bytes, fetched.batches.iter().map(|batch| batch.bytes().len()).sum::<usize>());
    }
}

/// The broker cuts at the limit, and what it cuts is sent again: so the limit is a whole number of batches.
#[test]
fn the_limit_follows_the_size_of_the_batches() {
    for (size, expected) in [(900 << 10, (900 << 10) + (900 << 10) / 64), (128 << 10, 1 << 20), (2 << 20, 1 << 20)] {
        let mut rig = Rig::new(1);
        rig.machine.config.check_crcs = false;
        let plan = rig.ask(LaneKind::Waiting, &[0]);
        let mut large = batch(0, 1);
        large.resize(size, 0);
        large[8..12].copy_from_slice(&(size as i32 - 12).to_be_bytes());
        rig.answer(&plan, [data(0, large)]);
        assert_eq!(rig.events(), ["0: 0..1"]);
        let asked = &rig.ask(LaneKind::Waiting, &[0]).request.topics[0].partitions[0];
        assert_eq!(asked.partition_max_bytes as usize, expected, "{size}");
    }
}
