//! The judge finds what is wrong with a history, and nothing in one that is well.

use std::slice::from_ref;
use std::time::Duration;

use crate::judge::{Logs, Order, Outcome, Seen, Sent, Terms, Verdict, judge, judge_other, judge_reader};

const SECOND: Duration = Duration::from_secs(1);

fn ack(offset: i64) -> Outcome {
    Outcome::Acknowledged { partition: 0, offset: Some(offset) }
}

fn sent(ends: &[Outcome]) -> Sent {
    Sent { enqueued: SECOND, ends: ends.iter().map(|end| (2 * SECOND, end.clone())).collect() }
}

fn verdict(ends: &[&[Outcome]], log: &[usize]) -> Verdict {
    let sent: Vec<_> = ends.iter().map(|ends| sent(ends)).collect();
    judge(&sent, &Logs::from([(0, log.to_vec())]), &Terms::within(3 * SECOND))
}

pub fn a_history_without_faults_is_clean() {
    let absent = Outcome::NotWritten(String::new());
    let unknown = Outcome::Unknown(String::new());
    let history: [&[_]; 5] = [&[ack(0)], &[absent], from_ref(&unknown), from_ref(&unknown), &[ack(2)]];
    let verdict = verdict(&history, &[0, 2, 4]);
    assert!(verdict.is_clean(), "{verdict:?}");
    let Verdict { acknowledged, not_written, unknown, unknown_in_log, .. } = verdict;
    assert_eq!((acknowledged, not_written, unknown, unknown_in_log), (2, 1, 2, 1));
}

pub fn every_fault_of_a_history_is_found() {
    let absent = || Outcome::NotWritten(String::new());
    let alone = |count: fn(&Verdict) -> usize, ends: &[&[Outcome]], log: &[usize]| {
        let verdict = verdict(ends, log);
        assert_eq!((count(&verdict), verdict.problems.len()), (1, 1), "{verdict:?}");
    };
    alone(|v| v.lost, &[&[ack(0)], &[ack(1)]], &[0]);
    alone(|v| v.lost, &[&[ack(1)], &[ack(1)]], &[0, 1]);
    alone(|v| v.duplicated, &[&[ack(0)], &[ack(1)]], &[0, 1, 0]);
    alone(|v| v.reordered, &[&[ack(1)], &[ack(0)]], &[1, 0]);
    alone(|v| v.falsely_absent, &[&[absent()], &[ack(1)]], &[0, 1]);
    alone(|v| v.unresolved, &[&[], &[ack(0)]], &[1]);
    alone(|v| v.resolved_twice, &[&[ack(0), absent()]], &[0]);
    alone(|v| v.strange, &[&[ack(0)]], &[0, 7]);
    let slow = Sent { enqueued: SECOND, ends: vec![(5 * SECOND, ack(0))] };
    assert_eq!(judge(&[slow], &Logs::from([(0, vec![0])]), &Terms::within(3 * SECOND)).late, 1);
}

pub fn what_the_terms_allow_is_no_fault_and_no_more() {
    let unknown = || Outcome::Unknown(String::new());
    let history = [sent(&[ack(1)]), sent(&[unknown()]), sent(&[ack(3)])];
    let count = |log: &[usize], terms: &Terms| {
        let verdict = judge(&history, &Logs::from([(0, log.to_vec())]), terms);
        (verdict.reordered, verdict.duplicated, verdict.late, verdict.problems.len())
    };
    let within = Terms::within(SECOND);
    assert_eq!(count(&[1, 0, 0, 2], &within), (1, 1, 0, 2));
    // Record 1 was not acknowledged, and record 0 may be there twice.
    let acknowledged = Terms { order: Order::Acknowledged, ..within.clone() };
    assert_eq!(count(&[1, 0, 0, 2], &acknowledged), (0, 1, 0, 1));
    assert_eq!(count(&[1, 0, 0, 2], &Terms { may_repeat: [0].into(), ..acknowledged.clone() }), (0, 0, 0, 0));
    assert_eq!(count(&[1, 0, 0, 2], &Terms { may_repeat: [1].into(), ..acknowledged }), (0, 1, 0, 1));
    let reversed = [sent(&[ack(1)]), sent(&[ack(0)])];
    let reversed =
        |order| judge(&reversed, &Logs::from([(0, vec![1, 0])]), &Terms { order, ..within.clone() }).reordered;
    assert_eq!([Order::All, Order::Acknowledged, Order::Any].map(reversed), [1, 1, 0]);
    // All end after one second, and half of one was allowed.
    let half = Terms::within(SECOND / 2);
    let late = |terms: Terms| count(&[1, 0, 1, 2], &terms).2;
    assert_eq!(late(half.clone()), 3);
    assert_eq!(late(Terms { grace: SECOND / 2, ..half.clone() }), 0);
    let stalled = |from, to| Terms { stalls: vec![(SECOND * from / 4, SECOND * to / 4)], ..half.clone() };
    assert_eq!([late(stalled(5, 8)), late(stalled(5, 7)), late(stalled(7, 8)), late(stalled(5, 6))], [0, 3, 3, 3]);
}

pub fn every_fault_of_a_reader_is_found() {
    let logs = Logs::from([(0, vec![0, 1, 2])]);
    let saw = |offset: i64| Seen::Record { partition: 0, offset, number: offset as usize };
    let event = |what: &str| Seen::Event { partition: Some(0), what: what.into() };
    let judged = |seen: &[Seen]| {
        let mut verdict = Verdict::default();
        judge_reader(&mut verdict, seen, &logs);
        (verdict.skipped, verdict.seen_again, verdict.strange)
    };
    assert_eq!(judged(&[saw(0), saw(1), saw(2)]), (0, 0, 0));
    assert_eq!(judged(&[saw(0), saw(2)]), (1, 0, 0));
    assert_eq!(judged(&[saw(0), saw(1)]), (1, 0, 0));
    assert_eq!(judged(&[saw(0), saw(1), saw(1), saw(2)]), (0, 1, 0));
    assert_eq!(judged(&[saw(0), event("DataLoss"), saw(2)]), (0, 0, 0));
    assert_eq!(judged(&[saw(0), event("Timeout"), saw(2)]), (1, 0, 0));
    assert_eq!(judged(&[saw(0), Seen::Record { partition: 0, offset: 1, number: 5 }, saw(2)]), (0, 0, 1));
    let mut verdict = Verdict::default();
    judge_other(&mut verdict, "another", &logs, &logs);
    assert!(verdict.is_clean());
    judge_other(&mut verdict, "another", &Logs::from([(0, vec![0, 2])]), &logs);
    assert_eq!(verdict.strange, 1);
}
