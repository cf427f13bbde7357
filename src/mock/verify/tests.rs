//! Each rule is broken once by a history that is written by hand, beside the same history without the mistake.

use super::*;

fn stored(base_offset: i64, records: i64) -> (StoredBatch, u32) {
    let batch = StoredBatch {
        base_offset,
        last_offset: base_offset + records - 1,
        size: 100,
        leader_epoch: 0,
        codec: None,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        max_timestamp: 0,
        is_transactional: false,
        is_control: false,
    };
    (batch, base_offset as u32)
}

fn by(producer_id: i64, base_sequence: i32, (batch, crc): (StoredBatch, u32)) -> (StoredBatch, u32) {
    (StoredBatch { producer_id, producer_epoch: 0, base_sequence, ..batch }, crc)
}

fn log(start: i64, end: i64, batches: Vec<(StoredBatch, u32)>) -> LogView {
    LogView { topic: "t".to_owned(), start, end, batches, ..LogView::default() }
}

fn sent(base_sequence: i32, records: i32, answer: Option<Result<i64, i16>>) -> Sent {
    let batch = SeenBatch {
        at: Duration::ZERO,
        broker: 1,
        connection: 1,
        topic: "t".to_owned(),
        partition: 0,
        producer_id: if base_sequence < 0 { -1 } else { 7 },
        producer_epoch: 0,
        base_sequence,
        records,
        acks: -1,
        answer,
    };
    let records_crc = answer.and_then(Result::ok).unwrap_or(0) as u32;
    Sent { batch, topic_id: TopicId::default(), leader_epoch: 0, records_crc }
}

fn kinds(batches: Vec<Sent>, logs: &[LogView]) -> Vec<ViolationKind> {
    let recorded = Recorded { batches, ..Recorded::default() };
    check(&recorded, logs).into_iter().map(|violation| violation.kind).collect()
}

#[test]
fn offsets_without_gap_or_overlap() {
    use ViolationKind::{OffsetGap, OffsetOverlap};
    let judged = |log: LogView| kinds(Vec::new(), &[log]);
    assert_eq!(judged(log(0, 0, Vec::new())), []);
    assert_eq!(judged(log(0, 5, vec![stored(0, 2), stored(2, 3)])), []);
    assert_eq!(judged(log(1, 5, vec![stored(0, 2), stored(2, 3)])), [], "trimmed within a batch");
    assert_eq!(judged(log(7, 7, Vec::new())), [], "all trimmed");
    assert_eq!(judged(log(0, 6, vec![stored(0, 2), stored(3, 3)])), [OffsetGap]);
    assert_eq!(judged(log(0, 5, vec![stored(1, 4)])), [OffsetGap], "nothing at the start");
    assert_eq!(judged(log(0, 4, vec![stored(0, 2), stored(1, 3)])), [OffsetOverlap]);
    assert_eq!(judged(log(0, 6, vec![stored(0, 5)])), [OffsetGap]);
    assert_eq!(judged(log(0, 4, vec![stored(0, 5)])), [OffsetOverlap]);
    let compacted = LogView { compacted: true, ..log(0, 9, vec![stored(1, 1), stored(4, 2)]) };
    assert_eq!(judged(compacted.clone()), []);
    let overlapping = LogView { batches: vec![stored(1, 4), stored(4, 2)], ..compacted };
    assert_eq!(judged(overlapping), [OffsetOverlap]);
    let found = check(&Recorded::default(), &[log(0, 6, vec![stored(0, 2), stored(3, 3)])]);
    assert_eq!(found[0].to_string(), "t-0@3: no batch has the offsets 2 to 2");
    assert_eq!(found[0].events.len(), 2);
}

#[test]
fn nothing_appended_twice() {
    let once = vec![by(7, 0, stored(0, 2)), by(7, 2, stored(2, 2)), by(8, 0, stored(4, 2)), stored(6, 1), stored(7, 1)];
    assert_eq!(kinds(Vec::new(), &[log(0, 8, once)]), []);
    let twice = vec![by(7, 0, stored(0, 2)), by(7, 2, stored(2, 2)), by(7, 0, stored(4, 2))];
    assert_eq!(kinds(Vec::new(), &[log(0, 6, twice)]), [ViolationKind::DuplicateAppend]);
}

#[test]
fn sequences_without_gaps() {
    use ViolationKind::SequenceGap;
    let judged = |sequences: &[(i32, i32)]| {
        kinds(sequences.iter().map(|(sequence, records)| sent(*sequence, *records, None)).collect(), &[])
    };
    assert_eq!(judged(&[(0, 2), (2, 3), (5, 1)]), []);
    assert_eq!(judged(&[(0, 2), (2, 3), (0, 2), (2, 3), (5, 1)]), [], "repeated");
    assert_eq!(judged(&[(0, 4), (0, 2), (2, 2), (4, 1)]), [], "split because it was too large");
    assert_eq!(judged(&[(-1, 4), (-1, 2)]), [], "not idempotent");
    assert_eq!(judged(&[(1, 2)]), [SequenceGap]);
    assert_eq!(judged(&[(0, 2), (3, 1), (4, 1)]), [SequenceGap], "told once");
    assert_eq!(judged(&[(0, 2), (5, 1), (2, 3)]), [SequenceGap], "overtaken");
    assert_eq!(judged(&[(0, i32::MAX), (i32::MAX, 1), (0, 5)]), [], "from 0 on after the largest");
    let mut other_epoch = vec![sent(0, 2, None), sent(0, 2, None), sent(2, 1, None)];
    other_epoch[1].batch.producer_epoch = 1;
    assert_eq!(kinds(other_epoch, &[]), [], "each epoch has its own");
    let recorded = Recorded { batches: vec![sent(9, 1, None)], batches_dropped: true, ..Recorded::default() };
    assert_eq!(check(&recorded, &[]), [], "what came before is not known any more");
}

#[test]
fn what_is_acknowledged_is_there() {
    use ViolationKind::LostWrite;
    let there = || log(0, 5, vec![by(7, 0, stored(0, 2)), by(7, 2, stored(2, 3))]);
    let acknowledged = || vec![sent(0, 2, Some(Ok(0))), sent(2, 3, Some(Ok(2)))];
    assert_eq!(kinds(acknowledged(), &[there()]), []);
    let lost = log(0, 2, vec![by(7, 0, stored(0, 2))]);
    assert_eq!(kinds(acknowledged(), std::slice::from_ref(&lost)), [LostWrite]);
    let elsewhere = vec![sent(0, 2, Some(Ok(1)))];
    assert_eq!(kinds(elsewhere, &[there()]), [LostWrite]);
    let mut changed = acknowledged();
    changed[1].records_crc += 1;
    assert_eq!(kinds(changed, &[there()]), [LostWrite], "other records");
    // What may be missing.
    assert_eq!(kinds(acknowledged(), &[]), [], "the topic is gone");
    assert_eq!(kinds(acknowledged(), &[LogView { cuts: vec![(1, 2)], ..lost.clone() }]), [], "truncated since");
    assert_eq!(kinds(acknowledged(), &[LogView { cuts: vec![(0, 2)], ..lost.clone() }]), [LostWrite], "before that");
    assert_eq!(kinds(acknowledged(), &[log(5, 5, Vec::new())]), [], "deleted");
    let mut leader_only = acknowledged();
    leader_only[1].batch.acks = 1;
    assert_eq!(kinds(leader_only.clone(), std::slice::from_ref(&lost)), [LostWrite], "acks=1");
    let deposed = LogView { cuts: vec![(1, 2)], ..lost.clone() };
    assert_eq!(kinds(leader_only.clone(), &[deposed]), [], "the next leader did not have it");
    leader_only[1].batch.acks = 0;
    assert_eq!(kinds(leader_only, std::slice::from_ref(&lost)), [], "acks=0");
    assert_eq!(kinds(vec![sent(0, 2, Some(Ok(0))), sent(2, 3, Some(Err(6)))], std::slice::from_ref(&lost)), []);
    assert_eq!(kinds(vec![sent(0, 2, Some(Ok(0))), sent(2, 3, None)], std::slice::from_ref(&lost)), []);
    assert_eq!(kinds(vec![sent(0, 2, Some(Ok(-1)))], &[lost]), [], "a duplicate whose offset is not known");
}

#[test]
fn commits_within_the_log() {
    let commit = |offset| SeenCommit {
        at: Duration::ZERO,
        broker: 2,
        connection: 3,
        group: "g".to_owned(),
        topic: "t".to_owned(),
        partition: 0,
        offset,
        log_end: 10,
    };
    let recorded = Recorded { commits: vec![commit(0), commit(10), commit(11)], ..Recorded::default() };
    let found = check(&recorded, &[]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].kind, ViolationKind::CommitBeyondEnd);
    assert_eq!(found[0].events, [Event::Commit(commit(11))]);
    assert_eq!(found[0].to_string(), "broker 2, connection 3: g committed 11 for t-0, whose log ended at 10");
}
