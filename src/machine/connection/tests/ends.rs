//! What ends a connection, and what is said of it.

use super::*;

/// Rule 87: what is written counts as use, and so does what is read; what is under way is no idleness at all.
#[test]
fn idleness_counts_from_the_last_use_in_either_direction() {
    let mut rig = Rig::ready();
    rig.wait(IDLE - ms(1));
    rig.send_silent(1, ms(500));
    rig.transmit();
    rig.wait(IDLE - ms(1));
    assert_eq!(rig.events(), ["sent 1"]);
    rig.send(2, IDLE * 3);
    let asked = rig.transmit().unwrap();
    rig.wait(IDLE * 2);
    rig.answer(asked.correlation);
    assert_eq!(rig.events(), ["answer 2"]);
    rig.wait(IDLE - ms(1));
    assert_eq!(rig.events(), [""; 0]);
    rig.wait(ms(1));
    assert_eq!(rig.events(), ["dead Idle"]);
}

#[test]
fn sizes_are_refused_before_anything_is_read() {
    let size = |size: i32| size.to_be_bytes();
    for (is_ready, good, bad) in [
        (false, &[4, 16 * 1024][..], &[3, 0, -1, i32::MIN, 16 * 1024 + 1, i32::MAX][..]),
        (true, &[4, 16 * 1024 + 1, LIMIT as i32], &[3, 0, -1, LIMIT as i32 + 1, i32::MAX]),
    ] {
        let rig = || if is_ready { Rig::ready() } else { Rig::new() };
        for &claimed in good {
            assert_eq!(rig().connection.handle_size(size(claimed)), Some(claimed as usize));
        }
        for &claimed in bad {
            let mut rig = rig();
            assert_eq!(rig.connection.handle_size(size(claimed)), None);
            let limit = if is_ready { LIMIT } else { 16 * 1024 };
            let cause = if is_ready && claimed > 4 {
                format!("FrameSize {{ api: ApiVersions, size: {claimed}, limit: {limit} }}")
            } else {
                format!("NoAnswer {{ size: {claimed}, limit: {limit} }}")
            };
            assert_eq!(rig.events(), [format!("dead {cause}")]);
        }
    }
}

/// Answers come in the order of requests: so do their limits.
#[test]
fn the_oldest_request_in_flight_says_how_large_the_next_frame_may_be() {
    const ASKED: usize = 5_000;
    let size = |size: usize| (size as i32).to_be_bytes();
    // Two that ask for no bytes and a fetch between them, all in flight; and what was answered of it.
    let rig = |answered: usize| {
        let mut rig = Rig::ready();
        let mut asked = Vec::new();
        for (token, asked_bytes) in [(1, 0), (2, ASKED), (3, 0)] {
            let api = if asked_bytes > 0 { ApiKey::FETCH } else { ApiKey::PRODUCE };
            let probe = Probe { api, asked_bytes, ..*probe(token) };
            rig.connection.send(rig.now, token, Box::new(probe), rig.now + SETUP);
            asked.push(rig.transmit().unwrap().correlation);
        }
        for correlation in &asked[..answered] {
            rig.answer(*correlation);
        }
        rig.events();
        rig
    };
    for (answered, api, limit) in
        [(0, "Produce", LIMIT), (1, "Fetch", LIMIT + ASKED), (2, "Produce", LIMIT), (3, "ApiVersions", LIMIT)]
    {
        assert_eq!(rig(answered).connection.handle_size(size(limit)), Some(limit), "{api}");
        let mut rig = rig(answered);
        assert_eq!(rig.connection.handle_size(size(limit + 1)), None, "{api}");
        let dead = rig.events().pop().unwrap();
        assert_eq!(dead, format!("dead FrameSize {{ api: {api}, size: {}, limit: {limit} }}", limit + 1));
    }
    // What was asked for counts from the whole of 31 bits, too.
    let mut rig = Rig::ready();
    rig.connection.send(rig.now, 1, Box::new(Probe { asked_bytes: usize::MAX, ..*probe(1) }), rig.now + SETUP);
    rig.transmit().unwrap();
    assert_eq!(rig.connection.handle_size(i32::MAX.to_be_bytes()), Some(i32::MAX as usize));
}

#[test]
fn what_is_too_large_says_which_setting_helps() {
    let cause = Cause::FrameSize { api: ApiKey::METADATA, size: 101, limit: 100 };
    assert!(!cause.is_transient(), "the next answer is as large");
    assert_eq!(
        cause.to_string(),
        "Metadata was answered with 101 bytes, and 100 are the most that is accepted (max_response_size, and what a \
         fetch asks for): raise max_response_size"
    );
    let cause = Cause::NoAnswer { size: -1, limit: 100 };
    assert!(cause.is_transient());
    assert_eq!(cause.to_string(), "a frame of -1 bytes, where a broker's answer has 4 to 100: is this a Kafka broker?");
}

/// Rule 76: a stranger on the port is called by its name.
#[test]
fn strangers_are_recognised_by_their_first_bytes() {
    for (prefix, cause) in [
        (*b"HTTP", "Http"),
        (*b"<htm", "Http"),
        (*b"<!DO", "Http"),
        ([0x15, 3, 3, 0], "Tls"),
        ([0x15, 3, 1, 0], "Tls"),
        ([0x16, 3, 3, 1], "Tls"),
        (*b"SSH-", "NoAnswer { size: 1397966893, limit: 16384 }"),
    ] {
        let mut rig = Rig::new();
        rig.send(1, ms(500));
        assert_eq!(rig.connection.handle_size(prefix), None);
        assert_eq!(rig.events(), [format!("lost 1 unsent {cause}"), format!("dead {cause}")]);
    }
}

#[test]
fn the_end_of_the_stream_tells_whether_anything_was_heard() {
    let mut rig = Rig::new();
    rig.connection.handle_lost(None);
    assert_eq!(rig.events(), ["dead EofAtStart"]);
    let mut rig = Rig::ready();
    rig.connection.handle_lost(None);
    assert_eq!(rig.events(), ["dead Eof"]);
    // A stranger that closes with our request unread resets the stream.
    for kind in [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe] {
        let mut rig = Rig::new();
        rig.connection.handle_lost(Some(&kind.into()));
        assert_eq!(rig.events(), ["dead EofAtStart"]);
    }
}

#[test]
fn what_the_broker_does_not_offer_is_named_and_the_connection_lives() {
    let mut rig = Rig::ready();
    let request = |api| Box::new(Probe { api, ..*probe(1) });
    rig.connection.send(rig.now, 1, request(ApiKey::INIT_PRODUCER_ID), rig.now + ms(500));
    rig.connection.send(rig.now, 2, request(ApiKey::METADATA), rig.now + ms(500));
    let error = Some(EncodeError::NotInVersion { field: "bars", version: 11 });
    rig.connection.send(rig.now, 3, Box::new(Probe { error, ..*probe(3) }), rig.now + ms(500));
    rig.send(4, ms(500));
    assert_eq!(
        rig.events(),
        [
            "failed 1 the broker does not offer InitProducerId (this request needs versions 4-12)",
            "failed 2 the broker offers Metadata in versions 0-3, and this request needs 4-12",
            "failed 3 Fetch cannot be written: `bars` is not part of version 11 of the request",
        ]
    );
    assert_eq!(rig.transmit().unwrap().token, 4);
}

#[test]
fn correlation_ids_stay_positive() {
    let mut rig = Rig::ready();
    rig.connection.next_correlation = i32::MAX;
    rig.send(1, ms(500));
    rig.send(2, ms(500));
    let sent = [rig.transmit().unwrap().correlation, rig.transmit().unwrap().correlation];
    assert_eq!(sent, [i32::MAX, 0]);
    sent.into_iter().for_each(|correlation| rig.answer(correlation));
    assert_eq!(rig.events(), ["answer 1", "answer 2"]);
}
