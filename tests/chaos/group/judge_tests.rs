//! The judge of groups finds what is wrong with a history, and nothing in one that is well.

use std::collections::BTreeMap;
use std::time::Duration;

use super::judge::{Arrivals, Committed, Event, History, Verdict, What, gaps, judge, takeovers};

const MS: Duration = Duration::from_millis(1);

/// A millisecond after the other: who, and what.
fn events(told: &[(usize, What)]) -> Vec<Event> {
    let event =
        |(at, (member, what)): (u32, &(usize, What))| Event { at: MS * at, member: *member, what: what.clone() };
    (0..).zip(told).map(event).collect()
}

fn record(offset: i64) -> What {
    What::Record { partition: 0, offset }
}

fn assigned() -> What {
    What::Assigned(vec![0])
}

/// Of a log with as many records.
fn history(end: i64, is_clean: bool, told: &[(usize, What)]) -> History {
    let ends = BTreeMap::from([(0, end)]);
    History { events: events(told), ends, tells_ownership: true, is_clean, ..History::default() }
}

fn committed(offsets: &[(u32, i64)]) -> Vec<Committed> {
    offsets.iter().map(|(at, offset)| Committed { at: MS * *at, partition: 0, offset: *offset }).collect()
}

pub fn a_group_that_keeps_its_promises_is_clean() {
    let handed_over = [(1, assigned()), (1, record(0)), (1, What::Revoked(vec![0])), (2, assigned()), (2, record(1))];
    let mut history = history(2, true, &handed_over);
    history.commits = committed(&[(1, 1), (2, 1), (4, 2)]);
    let verdict = judge(&history);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!((verdict.records, verdict.commits, verdict.again), (2, 3, 0));
    // Who is killed or stopped gives nothing back, and what it had done may be done again.
    let killed = [(1, assigned()), (1, record(0)), (1, What::Killed), (2, assigned()), (2, record(0)), (2, record(1))];
    let verdict = judge(&self::history(2, false, &killed));
    assert!(verdict.is_clean() && verdict.again == 1, "{verdict:?}");
    let stopped = [(1, assigned()), (1, What::Stopped), (2, assigned()), (2, record(0)), (1, What::Resumed)];
    let woken = [&stopped[..], &[(1, record(0)), (1, What::Lost(vec![0])), (2, record(1))]].concat();
    let verdict = judge(&self::history(2, false, &woken));
    assert!(verdict.is_clean() && (verdict.again, verdict.after_waking) == (1, 1), "{verdict:?}");
    // Whom the group has given up may hear late of what it was given before that.
    let late = [(1, What::Stopped), (2, assigned()), (2, record(0)), (1, assigned()), (1, record(0))];
    let told = [&late[..], &[(1, What::Lost(vec![0])), (1, What::Resumed), (2, record(1))]].concat();
    let verdict = judge(&self::history(2, false, &told));
    assert!(verdict.is_clean() && (verdict.again, verdict.after_waking) == (1, 1), "{verdict:?}");
}

pub fn every_fault_of_a_group_is_found() {
    let alone = |count: fn(&Verdict) -> usize, history: &History| {
        let verdict = judge(history);
        assert_eq!((count(&verdict), verdict.problems.len()), (1, 1), "{verdict:?}");
    };
    let well = [(1, assigned()), (1, record(0))];
    let with = |more: &[(usize, What)]| [&well[..], more].concat();
    alone(|v| v.two_owners, &history(1, true, &with(&[(2, assigned())])));
    alone(|v| v.unread, &history(2, true, &well));
    alone(|v| v.not_owned, &history(2, true, &with(&[(2, record(1))])));
    alone(|v| v.not_owned, &history(2, true, &with(&[(1, What::Revoked(vec![0])), (1, record(1))])));
    alone(|v| v.not_owned, &history(2, true, &with(&[(1, What::Stopped), (1, What::Lost(vec![0])), (1, record(1))])));
    let stopped = [(1, What::Stopped), (2, assigned()), (1, What::Resumed)];
    alone(|v| v.two_owners, &history(1, true, &with(&[&stopped[..], &[(1, assigned())]].concat())));
    alone(|v| v.not_owned, &history(1, true, &[(1, What::Stopped), (1, record(0))]));
    alone(|v| v.out_of_order, &history(0, true, &with(&[(1, record(2))])));
    let passed_on = [(1, What::Revoked(vec![0])), (2, assigned()), (2, record(0))];
    alone(|v| v.again, &history(1, true, &with(&passed_on)));
    let back = History { commits: committed(&[(2, 1), (3, 0)]), ..history(1, true, &well) };
    alone(|v| v.commits_back, &back);
    for commits in [[(0, 1)], [(2, 2)]] {
        alone(|v| v.commits_ahead, &History { commits: committed(&commits), ..history(1, true, &well) });
    }
}

pub fn times_are_of_partitions_that_move_and_of_those_that_stay() {
    let read =
        |at: u32, member, partition, offset| Event { at: MS * at, member, what: What::Record { partition, offset } };
    let events = [
        read(1, 1, 0, 0),
        read(2, 2, 1, 0),
        read(3, 1, 2, 0),
        read(11, 1, 0, 1),
        read(20, 2, 0, 2),
        read(25, 2, 1, 1),
        read(40, 2, 1, 2),
    ];
    assert_eq!(takeovers(&events, 1, MS * 10), BTreeMap::from([(0, Some(MS * 10)), (2, None)]));
    assert_eq!(takeovers(&events, 2, MS * 10), BTreeMap::from([(1, None)]));
    // Everything was there before it was asked for.
    let there: Arrivals = (0..3).flat_map(|partition| (0..4).map(move |offset| ((partition, offset), MS))).collect();
    let gaps = |from: u32, to: u32| gaps(&events, &there, MS * from, MS * to);
    // The first one moves: what stays has gaps, and what is not read any more has one to the end.
    assert_eq!(gaps(10, 30), BTreeMap::from([(1, MS * 15), (2, MS * 20)]));
    assert_eq!(gaps(3, 50).get(&1), Some(&(MS * 22)));
    // Nobody can read what is not there: one came late, and the next one of another never.
    let mut there = there.clone();
    there.insert((1, 1), MS * 21);
    there.remove(&(2, 1));
    let gaps = |from: u32, to: u32| super::judge::gaps(&events, &there, MS * from, MS * to);
    assert_eq!(gaps(10, 30), BTreeMap::from([(1, MS * 5), (2, Duration::ZERO)]));
    assert_eq!(gaps(3, 50).get(&1), Some(&(MS * 15)));
}
