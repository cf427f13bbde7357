//! The judge finds what is wrong with a history, and nothing in one that is well.

use std::slice::from_ref;
use std::time::Duration;

use crate::judge::{Logs, Outcome, Seen, Sent, Verdict, judge, judge_other, judge_reader};

const SECOND: Duration = Duration::from_secs(1);

fn ack(offset: i64) -> Outcome {
    Outcome::Acknowledged { partition: 0, offset: Some(offset) }
}

fn sent(ends: &[Outcome]) -> Sent {
    Sent { enqueued: SECOND, ends: ends.iter().map(|end| (2 * SECOND, end.clone())).collect() }
}

fn verdict(ends: &[&[Outcome]], log: &[usize]) -> Verdict {
    let sent: Vec<_> = ends.iter().map(|ends| sent(ends)).collect();
    judge(&sent, &Logs::from([(0, log.to_vec())]), 3 * SECOND)
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
    assert_eq!(judge(&[slow], &Logs::from([(0, vec![0])]), 3 * SECOND).late, 1);
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
