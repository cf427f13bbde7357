//! Histories of commits, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;

struct Rig {
    now: Instant,
    ledger: Ledger,
    token: u64,
    sent_as: Identity,
}

fn member(generation: i32) -> Standing {
    Standing::Member(Identity { member_id: "m1".into(), instance_id: None, generation })
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

impl Rig {
    /// A member in generation 1 with partitions 0 and 1.
    fn new() -> Self {
        let mut ledger = Ledger::new(ms(100), ms(1_000));
        ledger.set_standing(member(1));
        ledger.set_owned(Some([partition(0), partition(1)].into()));
        Self { now: Instant::now(), ledger, token: 0, sent_as: Identity::default() }
    }

    fn commit(&mut self, id: u64, offsets: &[(i32, i64)]) {
        self.commit_as(id, offsets, false);
    }

    fn commit_as(&mut self, id: u64, offsets: &[(i32, i64)], may_go_back: bool) {
        let entry = |offset| Entry { offset, leader_epoch: 3, metadata: "".into() };
        let entries = offsets.iter().map(|&(index, offset)| (partition(index), entry(offset))).collect();
        self.ledger.commit(Commit { id, entries, may_go_back, deadline: self.now + ms(5_000) });
    }

    /// The generation and offsets of what is due.
    fn sent(&mut self) -> Option<(i32, Vec<(i32, i64)>)> {
        let request = self.ledger.poll_request(self.now)?;
        (self.token, self.sent_as) = (request.token, request.identity.clone());
        let offsets = request.entries.iter().map(|(partition, entry)| (partition.partition, entry.offset)).collect();
        Some((request.identity.generation, offsets))
    }

    fn answer(&mut self, codes: &[(i32, ErrorCode)]) {
        let codes = codes.iter().map(|&(index, code)| (partition(index), code)).collect();
        self.ledger.handle_answer(self.now, self.token, Ok(codes), MIDDLE);
    }

    fn pass(&mut self, by: u64) {
        self.now += ms(by);
        self.ledger.handle_timeout(self.now);
    }

    /// What became of which commit: of each partition that failed, why.
    fn outcomes(&mut self) -> Vec<(u64, Vec<(i32, Why)>)> {
        let mut outcomes = Vec::new();
        while let Some(Outcome { id, failed }) = self.ledger.poll_outcome() {
            outcomes.push((id, failed.into_iter().map(|failed| (failed.partition.partition, failed.why)).collect()));
        }
        outcomes
    }

    fn verdicts(&mut self) -> Vec<Verdict> {
        std::iter::from_fn(|| self.ledger.poll_verdict()).collect()
    }
}

const OK: ErrorCode = ErrorCode::NONE;

/// Rule 55.
#[test]
fn one_goes_after_the_other() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5)]);
    rig.commit(2, &[(0, 7), (1, 2)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    assert_eq!(rig.sent(), None);
    rig.answer(&[(0, OK)]);
    // An answer is heard once.
    rig.answer(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 7), (1, 2)])));
    rig.answer(&[(0, OK), (1, ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    let refused = Why::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(rig.outcomes(), [(1, vec![]), (2, vec![(1, refused)])]);
    assert!(rig.ledger.is_idle() && rig.verdicts().is_empty());
}

/// P7.
#[test]
fn nothing_goes_back_unless_told_to() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 7)]);
    rig.sent();
    rig.answer(&[(0, OK)]);
    rig.commit(2, &[(0, 6)]);
    rig.commit(3, &[(0, 7), (1, 1)]);
    assert_eq!(rig.sent(), Some((1, vec![(1, 1)])));
    rig.answer(&[(1, OK)]);
    rig.commit_as(4, &[(0, 2)], true);
    assert_eq!(rig.sent(), Some((1, vec![(0, 2)])));
    rig.answer(&[(0, OK)]);
    assert_eq!(rig.outcomes(), [(1, vec![]), (2, vec![]), (3, vec![]), (4, vec![])]);
    // What was committed in another ownership says nothing.
    rig.ledger.set_owned(Some([partition(1)].into()));
    rig.ledger.set_owned(Some([partition(0), partition(1)].into()));
    rig.commit(5, &[(0, 1)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 1)])));
}

/// Reading went back: what is committed for that is not held against what was read before, also if that is on its way.
#[test]
fn what_is_read_again_is_committed_again() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 100), (1, 100)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 100), (1, 100)])));
    rig.commit(2, &[(0, 110), (1, 110)]);
    rig.ledger.moved(&[partition(0)].into());
    rig.commit(3, &[(0, 5), (1, 5)]);
    rig.answer(&[(0, OK), (1, OK)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 110), (1, 110)])));
    rig.answer(&[(0, OK), (1, OK)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    rig.answer(&[(0, OK)]);
    // From there on it goes forward again.
    rig.commit(4, &[(0, 4)]);
    assert_eq!(rig.sent(), None);
    rig.commit(5, &[(0, 6)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 6)])));
    assert_eq!(rig.outcomes(), [(1, vec![]), (2, vec![]), (3, vec![]), (4, vec![])]);
}

#[test]
fn what_is_not_owned_is_not_committed() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5), (9, 5)]);
    rig.commit(2, &[(0, 6), (1, 6)]);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    // On its way it is not held back; waiting it is.
    rig.ledger.set_owned(Some([partition(1)].into()));
    rig.answer(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]);
    assert_eq!(rig.sent(), Some((1, vec![(1, 6)])));
    rig.answer(&[(1, OK)]);
    let last = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    let first = vec![(9, Why::NotOwned(OK)), (0, Why::NotOwned(last))];
    assert_eq!(rig.outcomes(), [(1, first), (2, vec![(0, Why::NotOwned(OK))])]);
    rig.ledger.set_standing(Standing::Out);
    rig.ledger.set_owned(Some(BTreeSet::new()));
    rig.commit(3, &[(0, 7)]);
    assert_eq!((rig.sent(), rig.outcomes()), (None, vec![(3, vec![(0, Why::NotOwned(OK))])]));
}

/// Others may have committed in between.
#[test]
fn what_was_owned_before_is_not_committed_when_it_is_owned_again() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5), (1, 5)]);
    rig.sent();
    rig.commit(2, &[(0, 6)]);
    rig.ledger.set_owned(Some([partition(1)].into()));
    rig.ledger.set_owned(Some([partition(0), partition(1)].into()));
    rig.ledger.set_standing(member(2));
    rig.answer(&[(0, ErrorCode::ILLEGAL_GENERATION), (1, ErrorCode::ILLEGAL_GENERATION)]);
    assert_eq!(rig.sent(), Some((2, vec![(1, 5)])));
    rig.answer(&[(1, OK)]);
    assert_eq!(rig.sent(), None);
    let first = vec![(0, Why::NotOwned(ErrorCode::ILLEGAL_GENERATION))];
    assert_eq!(rig.outcomes(), [(1, first), (2, vec![(0, Why::NotOwned(OK))])]);
}

/// Rules 54 and 63: what moved on is no end, and the request goes again as who the member is now.
#[test]
fn a_newer_generation_takes_over() {
    for code in [
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::STALE_MEMBER_EPOCH,
    ] {
        let mut rig = Rig::new();
        rig.commit(1, &[(0, 5), (1, 5)]);
        assert_eq!(rig.sent(), Some((1, vec![(0, 5), (1, 5)])));
        rig.ledger.set_standing(Standing::Between);
        rig.answer(&[(0, code), (1, code)]);
        assert_eq!(rig.verdicts(), [Verdict::Membership(rig.sent_as.clone(), code)]);
        rig.pass(1_000);
        assert_eq!(rig.sent(), None);
        rig.ledger.set_standing(member(2));
        rig.ledger.set_owned(Some([partition(0)].into()));
        assert_eq!(rig.sent(), Some((2, vec![(0, 5)])), "at once");
        rig.answer(&[(0, OK)]);
        assert_eq!(rig.outcomes(), [(1, vec![(1, Why::NotOwned(code))])]);
    }
}

/// Row 25: the answer of a coordinator that is none, or none at all, leaves the request as it was.
#[test]
fn a_coordinator_that_moved_is_asked_again() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5)]);
    rig.sent();
    rig.answer(&[(0, ErrorCode::NOT_COORDINATOR)]);
    assert_eq!(rig.verdicts(), [Verdict::FindCoordinator]);
    assert_eq!(rig.ledger.poll_timeout(), Some(rig.now + ms(100)));
    rig.pass(100);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    rig.ledger.handle_answer(rig.now, rig.token, Err(()), MIDDLE);
    assert_eq!(rig.verdicts(), [Verdict::FindCoordinator]);
    rig.pass(200);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    // A partition that is left out is asked for again.
    rig.answer(&[]);
    rig.pass(400);
    assert_eq!(rig.sent(), Some((1, vec![(0, 5)])));
    rig.answer(&[(0, OK)]);
    assert_eq!(rig.outcomes(), [(1, vec![])]);
}

/// Its caller is told; what was sent keeps its place until it is answered.
#[test]
fn time_runs_out_and_nothing_overtakes() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5)]);
    rig.sent();
    rig.pass(1_000);
    rig.commit(2, &[(0, 6)]);
    rig.pass(4_000);
    assert_eq!(rig.outcomes(), [(1, vec![(0, Why::TimedOut { was_sent: true, last: OK })])]);
    assert_eq!(rig.sent(), None);
    rig.pass(1_000);
    assert_eq!(rig.outcomes(), [(2, vec![(0, Why::TimedOut { was_sent: false, last: OK })])]);
    assert_eq!(rig.ledger.poll_timeout(), None);
    rig.commit(3, &[(0, 7)]);
    assert_eq!(rig.sent(), None);
    rig.answer(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)]);
    rig.pass(100);
    assert_eq!(rig.sent(), Some((1, vec![(0, 7)])));
    rig.answer(&[(0, OK)]);
    assert_eq!(rig.outcomes(), [(3, vec![])]);
}

#[test]
fn fenced_is_final_and_so_is_what_has_no_membership() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 5)]);
    rig.sent();
    rig.answer(&[(0, ErrorCode::FENCED_INSTANCE_ID)]);
    assert_eq!(rig.outcomes(), [(1, vec![(0, Why::Refused(ErrorCode::FENCED_INSTANCE_ID))])]);
    let fenced = Verdict::Membership(rig.sent_as.clone(), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.verdicts(), [fenced]);
    // By hand assigned: any partition, and a group that is in use refuses it.
    rig.ledger.set_standing(Standing::Member(Identity { generation: -1, ..Identity::default() }));
    rig.ledger.set_owned(None);
    rig.commit(2, &[(9, 5)]);
    assert_eq!(rig.sent(), Some((-1, vec![(9, 5)])));
    rig.answer(&[(9, ErrorCode::UNKNOWN_MEMBER_ID)]);
    assert_eq!(rig.outcomes(), [(2, vec![(9, Why::Refused(ErrorCode::UNKNOWN_MEMBER_ID))])]);
}

/// Rule 13: a topic that was just made may be unknown for a moment; one that was deleted holds nothing up for longer.
#[test]
fn a_topic_that_is_gone_holds_nothing_up() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 10), (1, 20)]);
    rig.commit(2, &[(1, 21)]);
    let mut sent = 0;
    while rig.ledger.holds(&[partition(0)]) {
        assert!(rig.sent().is_some_and(|(_, offsets)| offsets.contains(&(0, 10))));
        sent += 1;
        rig.answer(&[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), (1, ErrorCode::NONE)]);
        rig.pass(800);
    }
    assert_eq!(sent, 5);
    let failed = Failed { partition: partition(0), why: Why::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) };
    assert_eq!(rig.ledger.poll_outcome(), Some(Outcome { id: 1, failed: vec![failed] }));
    assert_eq!(rig.sent(), Some((1, vec![(1, 21)])));
}

/// Whoever closes waits no more, and hears of each that was not committed.
#[test]
fn what_is_abandoned_is_told() {
    let mut rig = Rig::new();
    rig.commit(1, &[(0, 10)]);
    rig.commit(2, &[(0, 11), (1, 20)]);
    assert!(rig.sent().is_some());
    rig.ledger.abandon();
    assert!(rig.ledger.is_idle());
    let late = |index, was_sent| Failed {
        partition: partition(index),
        why: Why::TimedOut { was_sent, last: ErrorCode::NONE },
    };
    assert_eq!(rig.ledger.poll_outcome(), Some(Outcome { id: 1, failed: vec![late(0, true)] }));
    assert_eq!(rig.ledger.poll_outcome(), Some(Outcome { id: 2, failed: vec![late(0, false), late(1, false)] }));
    assert_eq!(rig.ledger.poll_outcome(), None);
    // A caller whose time was up is told once.
    rig.commit(3, &[(0, 12)]);
    assert!(rig.sent().is_some());
    rig.pass(5_000);
    assert!(rig.ledger.poll_outcome().is_some());
    rig.ledger.abandon();
    assert_eq!(rig.ledger.poll_outcome(), None);
}
