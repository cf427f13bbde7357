//! Sessions beside what a broker would remember of them, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use super::*;

fn wanted(topic: &str, index: i32, offset: i64) -> Wanted {
    let topic_id = Uuid([topic.as_bytes()[0]; 16]);
    Wanted { topic: topic.into(), topic_id, index, offset, leader_epoch: 0, max_bytes: 100 }
}

struct Rig {
    now: Instant,
    session: FetchSession,
}

impl Rig {
    fn new() -> Self {
        Self { now: Instant::now(), session: FetchSession::default() }
    }

    /// `id/epoch: named - forgotten`, of a request for partitions of `t` as (our id, offset), the index being the id.
    fn ask(&mut self, partitions: &[(u64, i64)]) -> String {
        let wanted: Vec<_> = partitions.iter().map(|&(id, offset)| (id, wanted("t", id as i32, offset))).collect();
        self.ask_for(&wanted, false)
    }

    fn ask_for(&mut self, wanted: &[(PartitionId, Wanted)], by_name: bool) -> String {
        let Opening { session_id, session_epoch, named, forgotten } =
            self.session.open(self.now, by_name, wanted, 0, |_| false);
        let named = wanted.iter().zip(named).filter(|(_, named)| *named);
        let named: Vec<_> = named.map(|((_, wanted), _)| format!("{}{}", wanted.topic, wanted.index)).collect();
        let forgotten = forgotten.iter().map(|topic| format!("{}{:?}", topic.topic, topic.partitions));
        let forgotten: Vec<_> = forgotten.collect();
        format!("{session_id}/{session_epoch}: {} - {}", named.join(" "), forgotten.join(" "))
    }

    fn answer(&mut self, id: i32) -> bool {
        self.session.handle_answer(self.now, id)
    }
}

/// Rule 40.
#[test]
fn only_what_changed_is_named() {
    let mut rig = Rig::new();
    assert_eq!(rig.ask(&[(0, 0), (1, 0), (2, 0)]), "0/0: t0 t1 t2 - ");
    assert!(!rig.answer(77), "the first answer mentions everything");
    assert_eq!(rig.ask(&[(0, 0), (1, 0), (2, 0)]), "77/1:  - ");
    assert!(rig.answer(77));
    assert_eq!(rig.ask(&[(2, 5), (0, 0), (3, 0)]), "77/2: t2 t3 - t[1]");
    assert!(rig.answer(77));
    assert_eq!(rig.ask(&[(3, 0)]), "77/3:  - t[0, 2]");
    rig.answer(77);
    assert_eq!(rig.ask(&[(0, 0), (3, 0)]), "77/4: t0 - ", "what was forgotten is named when it is back");
}

/// Rule 40: the state at the broker is certain only after an answer.
#[test]
fn after_a_lost_request_everything_is_named_and_the_old_session_replaced() {
    let mut rig = Rig::new();
    rig.ask(&[(0, 0), (1, 0)]);
    rig.answer(77);
    assert_eq!(rig.ask(&[(0, 5), (2, 0)]), "77/1: t0 t2 - t[1]");
    rig.session.reset();
    assert_eq!(rig.ask(&[(0, 5), (2, 0)]), "77/0: t0 t2 - ");
    rig.session.reset();
    assert_eq!(rig.ask(&[(2, 0)]), "77/0: t2 - ", "also when that one is lost");
    assert!(!rig.answer(78));
    assert_eq!(rig.ask(&[(2, 0)]), "78/1:  - ");
}

/// Rule 40, row 26.
#[test]
fn a_session_that_the_broker_lost_is_opened_anew_at_once() {
    for (code, replaced) in [(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 77)] {
        let mut rig = Rig::new();
        rig.ask(&[(0, 0), (1, 0)]);
        rig.answer(77);
        rig.ask(&[(0, 0), (1, 0)]);
        assert!(rig.session.handle_error(rig.now, code), "no need to wait");
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), format!("{replaced}/0: t0 t1 - "));
        rig.answer(78);
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), "78/1:  - ");
    }
}

/// Rule 40: SESSION_ID_NOT_FOUND in answer to epoch 0, and an id of 0.
#[test]
fn a_broker_without_room_is_not_asked_for_a_session_all_the_time() {
    let refused: fn(&mut Rig) = |rig| {
        assert!(!rig.session.handle_error(rig.now, ErrorCode::FETCH_SESSION_ID_NOT_FOUND));
    };
    let no_room: fn(&mut Rig) = |rig| assert!(!rig.answer(0));
    for outcome in [refused, no_room] {
        let mut rig = Rig::new();
        assert_eq!(rig.ask(&[(0, 0)]), "0/0: t0 - ");
        outcome(&mut rig);
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), "0/-1: t0 t1 - ");
        assert!(!rig.answer(0));
        rig.now += WITHOUT - Duration::from_millis(1);
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), "0/-1: t0 t1 - ");
        rig.session.reset();
        rig.now += Duration::from_millis(1);
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), "0/0: t0 t1 - ");
        rig.answer(5);
        assert_eq!(rig.ask(&[(0, 0), (1, 0)]), "5/1:  - ");
        // Closed by the broker, with an answer that counts; or a strange id.
        assert!(rig.answer(0));
        assert_eq!(rig.ask(&[(0, 0)]), "5/0: t0 - ");
    }
}

/// Rule 51: another error of the whole fetch does not go on with the epoch, and waits.
#[test]
fn an_unexpected_error_ends_the_session() {
    let mut rig = Rig::new();
    rig.ask(&[(0, 0)]);
    rig.answer(77);
    rig.ask(&[(0, 0)]);
    assert!(!rig.session.handle_error(rig.now, ErrorCode::UNKNOWN_SERVER_ERROR));
    assert_eq!(rig.ask(&[(0, 0)]), "77/0: t0 - ");
}

/// Rule 41: no dead entry stays behind a topic that was made again; nor behind names and ids in one session.
#[test]
fn another_topic_id_or_none_begins_another_session() {
    let mut rig = Rig::new();
    let two = [(0, wanted("t", 0, 0)), (1, wanted("u", 0, 0))];
    rig.ask_for(&two, false);
    rig.answer(77);
    let mut again = two.clone();
    again[0].1.topic_id = Uuid([9; 16]);
    assert_eq!(rig.ask_for(&again, false), "77/0: t0 u0 - ");
    rig.answer(78);
    assert_eq!(rig.ask_for(&again, true), "78/0: t0 u0 - ");
    rig.answer(79);
    assert_eq!(rig.ask_for(&again[1..], true), "79/1:  - t[0]", "a whole topic is forgotten too");
}

#[test]
fn a_partition_that_was_unassigned_and_assigned_anew_is_not_forgotten() {
    let mut rig = Rig::new();
    rig.ask_for(&[(0, wanted("t", 0, 7)), (1, wanted("t", 1, 0))], false);
    rig.answer(77);
    let same_place_other_id = [(1, wanted("t", 1, 0)), (5, wanted("t", 0, 9))];
    assert_eq!(rig.ask_for(&same_place_other_id, false), "77/1: t0 - ");
}

#[test]
fn epochs_never_come_back_to_the_one_that_begins_a_session() {
    let mut rig = Rig::new();
    rig.ask(&[(0, 0)]);
    rig.answer(77);
    rig.session.state = State::Open { id: 77, epoch: i32::MAX };
    assert_eq!(rig.ask(&[(0, 0)]), format!("77/{}:  - ", i32::MAX));
    rig.answer(77);
    assert_eq!(rig.ask(&[(0, 0)]), "77/1:  - ");
}
