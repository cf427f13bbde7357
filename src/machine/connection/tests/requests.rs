//! Requests and their answers: places, deadlines, silence.

use super::*;

#[test]
fn answers_belong_to_the_head_of_the_queue() {
    let mut rig = Rig::ready();
    (1..=3).for_each(|token| rig.send(token, ms(500)));
    let sent: Vec<_> = (0..3).map(|_| rig.transmit().unwrap().correlation).collect();
    rig.answer(sent[0]);
    rig.answer(sent[2]);
    let cause = format!("WrongCorrelation {{ expected: {}, got: {} }}", sent[1], sent[2]);
    let expected = ["answer 1".into(), format!("lost 2 sent {cause}"), format!("lost 3 sent {cause}")];
    assert_eq!(rig.events(), [&expected[..], &[format!("dead {cause}")]].concat());
}

#[test]
fn an_answer_that_nobody_asked_for_ends_it() {
    let mut rig = Rig::ready();
    rig.answer(9);
    assert_eq!(rig.events(), ["dead Unasked"]);
}

/// The peer cannot answer a request of which it has not seen a byte.
#[test]
fn an_answer_to_a_request_that_was_not_written_ends_it() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    let next = rig.connection.next_correlation - 1;
    rig.answer(next);
    assert_eq!(rig.events(), ["lost 1 unsent Unasked", "dead Unasked"]);
}

#[test]
fn the_terminal_cause_reaches_every_waiter_once() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.transmit();
    rig.send(2, ms(500));
    rig.send_silent(3, ms(500));
    rig.connection.mute(rig.now + ms(100));
    rig.send(4, ms(500));
    rig.connection.handle_lost(Some(&std::io::ErrorKind::ConnectionReset.into()));
    let cause = "Io { kind: ConnectionReset, message: \"connection reset\" }";
    let lost = |token, how| format!("lost {token} {how} {cause}");
    let expected = [lost(3, "unsent"), lost(1, "sent"), lost(2, "unsent"), lost(4, "unsent"), format!("dead {cause}")];
    assert_eq!(rig.events(), expected);
    // What comes later hears the same cause at once, and a second death changes nothing.
    rig.connection.close();
    rig.connection.handle_lost(None);
    rig.answer(1);
    rig.send(5, ms(500));
    assert_eq!(rig.events(), [lost(5, "unsent")]);
    assert_eq!(rig.transmit(), None);
}

/// Whoever stops listening at `Dead` must not miss a request that came between the death and its hearing of it.
#[test]
fn dead_is_the_last_event_even_for_a_request_that_comes_too_late() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.connection.close();
    rig.send(2, ms(500));
    assert_eq!(rig.events(), ["lost 1 unsent Closed", "lost 2 unsent Closed", "dead Closed"]);
}

#[test]
fn a_request_that_is_too_late_is_not_written() {
    let mut rig = Rig::ready();
    rig.send(1, ms(500));
    rig.transmit();
    // On a ready connection: it would take its neighbours with it at once.
    rig.send(2, ms(0));
    assert_eq!(rig.events(), ["failed 2 Fetch could not be sent in time: no connection was ready"]);
    rig.wait(ms(100));
    assert_eq!(rig.connection.in_flight(), 1);
    // One that waited while the connection was muted.
    rig.connection.mute(rig.now + ms(100));
    rig.send(3, ms(50));
    rig.wait(ms(60));
    assert_eq!(rig.events(), ["failed 3 Fetch could not be sent in time: no connection was ready"]);
    assert_eq!(rig.transmit(), None);
}

#[test]
fn a_waiting_request_fails_at_its_own_deadline_and_harms_nobody() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(100));
    rig.send(2, ms(900));
    rig.wait(ms(100));
    assert_eq!(rig.events(), ["failed 1 Fetch could not be sent in time: no connection was ready"]);
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.transmit().unwrap().token, 2);
}

/// Rule 75. A long poll may stand before a short request, so deadlines do not ascend.
#[test]
fn the_earliest_deadline_counts_wherever_it_stands() {
    let mut rig = Rig::ready();
    rig.send(1, ms(30_000));
    rig.wait(ms(10));
    rig.send(2, ms(200));
    rig.transmit();
    rig.transmit();
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(200)));
    rig.wait(ms(200));
    let cause = "RequestTimeout { api: Fetch, after: 200ms }";
    assert_eq!(rig.events(), [format!("lost 1 sent {cause}"), format!("lost 2 sent {cause}"), format!("dead {cause}")]);
}

/// Rule 72: whoever asked may stop waiting earlier than the connection is given up.
#[test]
fn a_caller_in_a_hurry_does_not_condemn_the_connection() {
    let mut rig = Rig::ready();
    let patient = |token| Box::new(Probe { within: Some(ms(30_000)), ..*probe(token) });
    rig.connection.send(rig.now, 1, patient(1), rig.now + ms(100));
    let asked = rig.transmit().unwrap();
    rig.wait(ms(10_000));
    rig.answer(asked.correlation);
    assert_eq!(rig.events(), ["answer 1"]);
    // It may still not be sent later than whoever asked waits for it.
    rig.connection.mute(rig.now + ms(500));
    rig.connection.send(rig.now, 2, patient(2), rig.now + ms(100));
    rig.wait(ms(100));
    assert_eq!(rig.events(), ["failed 2 Fetch could not be sent in time: no connection was ready"]);
    rig.wait(ms(400));
    rig.connection.send(rig.now, 3, patient(3), rig.now + ms(100));
    rig.transmit();
    rig.wait(ms(30_000));
    let cause = "RequestTimeout { api: Fetch, after: 30s }";
    assert_eq!(rig.events(), [format!("lost 3 sent {cause}"), format!("dead {cause}")]);
}

/// Rule 23: acks=0 goes unanswered, except at Azure Event Hubs.
#[test]
fn silent_requests_are_done_when_written_and_their_answers_are_dropped() {
    for is_answered in [false, true] {
        let mut rig = Rig::ready();
        rig.send_silent(1, ms(500));
        rig.send(2, ms(500));
        rig.send_silent(3, ms(500));
        assert_eq!(rig.events(), [""; 0], "not before it is written");
        let sent: Vec<_> = (0..3).map(|_| rig.transmit().unwrap().correlation).collect();
        assert_eq!(rig.events(), ["sent 1", "sent 3"]);
        assert_eq!(rig.connection.in_flight(), 1);
        for (at, correlation) in sent.into_iter().enumerate() {
            if at == 1 || is_answered {
                rig.answer(correlation);
            }
        }
        assert_eq!(rig.events(), ["answer 2"]);
        rig.send(4, ms(500));
        let last = rig.transmit().unwrap();
        rig.answer(last.correlation);
        assert_eq!(rig.events(), ["answer 4"]);
    }
}

#[test]
fn a_million_silent_requests_are_not_remembered() {
    let mut rig = Rig::ready();
    for token in 0..10_000 {
        rig.send_silent(token, ms(500));
        rig.transmit();
        assert_eq!(rig.connection.poll_event().map(|event| text(&event)), Some(format!("sent {token}")));
    }
    assert!(rig.connection.silent.len() <= MAX_SILENT);
}

/// A peer that reads nothing: silent requests pile up before the socket, and the oldest one's deadline ends it.
#[test]
fn silent_requests_that_cannot_be_written_have_a_deadline() {
    let mut rig = Rig::ready();
    rig.send_silent(1, ms(300));
    rig.send_silent(2, ms(400));
    rig.wait(ms(300));
    let cause = "RequestTimeout { api: Produce, after: 300ms }";
    let expected = [format!("lost 1 unsent {cause}"), format!("lost 2 unsent {cause}"), format!("dead {cause}")];
    assert_eq!(rig.events(), expected);
}

/// KIP-219.
#[test]
fn a_mute_holds_back_what_is_sent_from_now_on() {
    let mut rig = Rig::ready();
    rig.send(1, ms(5000));
    rig.connection.mute(rig.now + ms(200));
    rig.connection.mute(rig.now + ms(100));
    rig.send(2, ms(5000));
    rig.send(3, ms(5000));
    let first = rig.transmit().unwrap();
    assert_eq!((first.token, rig.transmit()), (1, None));
    rig.wait(ms(199));
    // Answers still come in.
    rig.answer(first.correlation);
    assert_eq!((rig.events(), rig.transmit()), (vec!["answer 1".to_owned()], None));
    rig.wait(ms(1));
    assert_eq!((rig.transmit().unwrap().token, rig.transmit().unwrap().token), (2, 3));
    rig.send(4, ms(5000));
    assert_eq!(rig.transmit().unwrap().token, 4);
}

#[test]
fn a_mute_of_24_days_does_not_outlive_the_close() {
    let mut rig = Rig::ready();
    rig.connection.mute(rig.now + Duration::from_secs(24 * 24 * 3600));
    rig.send(1, ms(5000));
    rig.connection.close();
    assert_eq!(rig.events(), ["lost 1 unsent Closed", "dead Closed"]);
}

#[test]
fn a_mute_before_versions_are_known_holds_too() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(5000));
    rig.connection.mute(rig.now + ms(200));
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!((rig.events(), rig.transmit()), (vec!["ready".to_owned()], None));
    rig.wait(ms(200));
    assert_eq!(rig.transmit().unwrap().token, 1);
}
