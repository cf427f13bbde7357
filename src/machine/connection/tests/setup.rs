//! Versions first: what is offered, refused, or never said.

use super::*;

#[test]
fn versions_come_first_and_open_the_way() {
    let mut rig = Rig::new();
    rig.send(1, ms(500));
    assert!(rig.connection.versions().is_none());
    let asked = rig.transmit().unwrap();
    assert_eq!((asked.api, asked.version), (ApiKey::API_VERSIONS, 3));
    assert_eq!(rig.transmit(), None, "nothing else before versions are known");
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    rig.send(2, ms(500));
    assert_eq!(rig.events(), ["ready"]);
    // Versions by intersection: ours 4 to 12, the broker's 0 to 11.
    let (first, second) = (rig.transmit().unwrap(), rig.transmit().unwrap());
    assert_eq!((first.token, first.version, second.token), (1, 11, 2));
    assert_eq!(rig.connection.in_flight(), 2);
    rig.answer(first.correlation);
    rig.answer(second.correlation);
    assert_eq!(rig.events(), ["answer 1", "answer 2"]);
    assert_eq!(rig.connection.in_flight(), 0);
}

#[test]
fn an_answer_carries_its_version_and_bytes() {
    let mut rig = Rig::ready();
    rig.send(7, ms(500));
    let sent = rig.transmit().unwrap();
    rig.answer(sent.correlation);
    let Some(Event::Answer { token: 7, version: 11, frame }) = rig.connection.poll_event() else {
        panic!("no answer");
    };
    assert_eq!(frame, answer(sent.correlation));
}

/// KIP-511, and rule 73: strictly lower each time, so that a broker that refuses everything ends it.
#[test]
fn error_35_leads_to_lower_versions_and_to_an_end() {
    let known: &[&[(ApiKey, i16, i16)]] = &[
        &[],
        &[(ApiKey::API_VERSIONS, 0, 1)],
        &[(ApiKey::API_VERSIONS, 0, 99)],
        &[(ApiKey::API_VERSIONS, 5, 9)],
        &[(ApiKey::API_VERSIONS, 7, 2)],
    ];
    for (offered, expected) in known.iter().zip([&[3, 0][..], &[3, 1, 0], &[3, 2, 1, 0], &[3, 2, 1, 0], &[3, 0]]) {
        let mut rig = Rig::new();
        let mut asked = Vec::new();
        while let Some(question) = rig.transmit() {
            asked.push(question.version);
            rig.frame(versions_answer(question.correlation, 0, ErrorCode::UNSUPPORTED_VERSION, offered));
        }
        assert_eq!(asked, expected, "{offered:?}");
        assert_eq!(rig.events(), ["dead Refused(UNSUPPORTED_VERSION (35))"]);
    }
}

#[test]
fn a_fallback_works_and_does_not_extend_the_setup_time() {
    let mut rig = Rig::new();
    let first = rig.transmit().unwrap();
    rig.wait(ms(900));
    rig.frame(versions_answer(first.correlation, 0, ErrorCode::UNSUPPORTED_VERSION, &[(ApiKey::API_VERSIONS, 0, 2)]));
    let second = rig.transmit().unwrap();
    assert_eq!(second.version, 2);
    assert_ne!(first.correlation, second.correlation);
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(100)));
    rig.frame(versions_answer(second.correlation, 2, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.events(), ["ready"]);
}

#[test]
fn a_silent_peer_is_probed_once_before_it_is_given_up() {
    let mut rig = Rig::new();
    let probe = Frame { segments: vec![Bytes::from_static(PROBE)] };
    rig.connection.poll_transmit().unwrap();
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + ms(900)));
    rig.wait(ms(900));
    assert_eq!(rig.connection.poll_transmit(), Some(probe));
    rig.wait(ms(99));
    assert_eq!(rig.connection.poll_transmit(), None);
    assert_eq!(rig.connection.handle_size(*b"HTTP"), None);
    assert_eq!(rig.events(), ["dead Http"]);

    // Whoever answers just in time is not.
    let mut rig = Rig::new();
    let asked = header(&rig.connection.poll_transmit().unwrap());
    rig.wait(ms(950));
    rig.frame(versions_answer(asked.correlation, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.connection.poll_transmit(), None);
    assert_eq!(rig.events(), ["ready"]);
}

/// Rule 73: the code counts even when the list is empty, and with any list.
#[test]
fn versions_with_an_error_code_are_refused() {
    for offered in [&[][..], OFFERED] {
        let mut rig = Rig::new();
        let asked = rig.transmit().unwrap();
        rig.frame(versions_answer(asked.correlation, 3, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, offered));
        assert_eq!(rig.events(), ["dead Refused(CLUSTER_AUTHORIZATION_FAILED (31))"]);
    }
}

#[test]
fn versions_that_are_no_versions_end_the_connection() {
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.send(1, ms(500));
    rig.frame([&asked.correlation.to_be_bytes()[..], &[0, 0, 0x7f, 0xff, 0xff, 0xff]].concat().into());
    let events = rig.events();
    assert!(events[0].starts_with("lost 1 unsent Decode { api: ApiVersions"), "{events:?}");
    assert!(events[1].starts_with("dead Decode"), "{events:?}");
    // The wrong correlation id ends it as well.
    let mut rig = Rig::new();
    let asked = rig.transmit().unwrap();
    rig.frame(versions_answer(asked.correlation + 1, 3, ErrorCode::NONE, OFFERED));
    assert_eq!(rig.events(), ["dead WrongCorrelation { expected: 0, got: 1 }"]);
}

#[test]
fn the_set_up_has_a_deadline() {
    let mut rig = Rig::new();
    rig.send(1, ms(60_000));
    rig.transmit();
    rig.wait(SETUP - ms(1));
    assert_eq!(rig.events(), [""; 0]);
    rig.wait(ms(1));
    assert_eq!(rig.events(), ["lost 1 unsent SetupTimeout { after: 1s }", "dead SetupTimeout { after: 1s }"]);
    assert_eq!(rig.connection.poll_timeout(), None);
}
