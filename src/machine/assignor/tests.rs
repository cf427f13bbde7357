//! The cases that Java's documentation and tests tell, drawn as tables; and what members say that is not so.

use std::sync::Arc;

use bytes::Bytes;

use super::subscription::{decode, decode_assignment, decode_sticky, encode, encode_assignment, encode_sticky};
use super::*;
use crate::error::TopicPartition;
use crate::wire::cursor::DecodeError;

/// `t0:2 t1:3@a,b,ab`: topics with so many partitions, in these racks (one letter each) in turn.
fn topics(text: &str) -> Topics {
    let topic = |word: &str| {
        let (name, rest) = word.split_once(':').unwrap();
        let (count, racks) = rest.split_once('@').unwrap_or((rest, ""));
        let racks: Vec<&str> = racks.split(',').collect();
        let of = |index: usize| racks[index % racks.len()].chars().map(|rack| rack.to_string().into()).collect();
        (name.into(), (0..count.parse().unwrap()).map(of).collect())
    };
    text.split_whitespace().map(topic).collect()
}

fn partitions(text: &str) -> Vec<TopicPartition> {
    let partition = |word: &str| {
        let (topic, index) = word.rsplit_once('p').unwrap();
        TopicPartition::new(topic, index.parse().unwrap())
    };
    text.split_whitespace().map(partition).collect()
}

/// `C0/i1@a: t0 t1 = t0p0 t1p1 #3`: a member, static, in a rack, what it wants and what it has of which generation
/// (#5 if nothing is said), in each way in which a member can say so.
fn member(text: &str) -> Member {
    let (head, rest) = text.split_once(':').unwrap();
    let (head, rack) = head.split_once('@').map_or((head, None), |(head, rack)| (head, Some(rack.into())));
    let (id, instance) = head.split_once('/').map_or((head, None), |(id, instance)| (id, Some(instance.into())));
    let (rest, generation) = rest.split_once('#').unwrap_or((rest, "5"));
    let (wants, owned) = rest.split_once('=').unwrap_or((rest, ""));
    let (owned, generation) = (partitions(owned), generation.trim().parse().unwrap());
    let user_data = encode_sticky(Assigned { partitions: &owned, generation }).ok().filter(|_| !owned.is_empty());
    let topics = wants.split_whitespace().map(Arc::from).collect();
    let generation = if owned.is_empty() { -1 } else { generation };
    let subscription = Subscription { topics, owned, generation, rack, user_data };
    Member { id: id.trim().into(), instance_id: instance, subscription }
}

fn check(assignor: &dyn Assignor, of: &str, members: &str, expected: &[&str]) {
    let members: Vec<_> = members.split('|').filter(|text| !text.is_empty()).map(member).collect();
    let assigned = assignor.assign(&members, &topics(of));
    let shown = |assigned: &Vec<TopicPartition>| {
        let words: Vec<_> = assigned.iter().map(|p| format!("{}p{}", p.topic, p.partition)).collect();
        words.join(" ")
    };
    let shown: Vec<_> = assigned.iter().map(shown).collect();
    assert_eq!(shown, expected, "{} of {of}: {members:?}", assignor.name());
}

#[test]
fn names_and_protocols_are_javas() {
    let all: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];
    let said = all.map(|assignor| (assignor.name(), assignor.protocol()));
    use Protocol::{Cooperative, Eager};
    let names = ["range", "roundrobin", "sticky", "cooperative-sticky"];
    assert_eq!(said, std::array::from_fn(|at| (names[at], if at == 3 { Cooperative } else { Eager })));
}

#[test]
fn range() {
    check(&Range, "t0:3 t1:3", "C0: t0 t1 | C1: t0 t1", &["t0p0 t0p1 t1p0 t1p1", "t0p2 t1p2"]);
    check(&Range, "t0:1", "C0: t0 | C1: t0", &["t0p0", ""]);
    check(&Range, "t0:2", "C0: t0 | C1:", &["t0p0 t0p1", ""]);
    check(&Range, "", "C0: t0", &[""]);
    check(&Range, "t1:3 t2:2", "C0: t1 | C1: t1 t2 | C2: t1", &["t1p0", "t1p1 t2p0 t2p1", "t1p2"]);
    // Static members keep their places under new ids; they come first.
    check(&Range, "t0:3", "C2/i1: t0 | C1/i2: t0 | C0: t0", &["t0p0", "t0p1", "t0p2"]);
}

#[test]
fn range_with_racks() {
    // Everybody is near everything: as if there were none.
    check(&Range, "t0:3@abc", "C0@a: t0 | C1@b: t0 | C2@c: t0", &["t0p0", "t0p1", "t0p2"]);
    check(&Range, "t0:3@c,b,a", "C0@a: t0 | C1@b: t0 | C2@c: t0", &["t0p2", "t0p1", "t0p0"]);
    // Co-partitioned topics stay together, or nobody is near.
    let racks = "t0:3@c,b,a t1:3@c,b,a";
    check(&Range, racks, "C0@a: t0 t1 | C1@b: t0 t1 | C2@c: t0 t1", &["t0p2 t1p2", "t0p1 t1p1", "t0p0 t1p0"]);
    let racks = "t0:3@c,b,a t1:3@a,b,c";
    check(&Range, racks, "C0@a: t0 t1 | C1@b: t0 t1 | C2@c: t0 t1", &["t0p0 t1p0", "t0p1 t1p1", "t0p2 t1p2"]);
    // Nobody is there.
    check(&Range, "t0:2@x,y", "C0@a: t0 | C1@b: t0", &["t0p0", "t0p1"]);
}

#[test]
fn round_robin() {
    let same = "C0: t0 t1 | C1: t0 t1";
    check(&RoundRobin, "t0:3 t1:3", same, &["t0p0 t0p2 t1p1", "t0p1 t1p0 t1p2"]);
    let steps = "C0: t0 | C1: t0 t1 | C2: t0 t1 t2";
    check(&RoundRobin, "t0:1 t1:2 t2:3", steps, &["t0p0", "t1p0", "t1p1 t2p0 t2p1 t2p2"]);
    check(&RoundRobin, "t0:2", "C9/i0: t0 | C0/i1: t0 | C1:", &["t0p0", "t0p1", ""]);
}

#[test]
fn sticky_keeps_what_there_is() {
    let of = "t0:2 t1:2 t2:2 t3:2";
    let all = "t0 t1 t2 t3";
    let fresh = &["t0p0 t1p1 t3p0", "t0p1 t2p0 t3p1", "t1p0 t2p1"];
    check(&Sticky, of, &format!("C0: {all} | C1: {all} | C2: {all}"), fresh);
    // C1 is gone.
    let members = format!("C0: {all} = t0p0 t1p1 t3p0 | C2: {all} = t1p0 t2p1");
    check(&Sticky, of, &members, &["t0p0 t3p0 t1p1 t0p1", "t1p0 t2p1 t2p0 t3p1"]);

    let of = "t0:1 t1:2 t2:3";
    check(&Sticky, of, "C0: t0 | C1: t0 t1 | C2: t0 t1 t2", &["t0p0", "t1p0 t1p1", "t2p0 t2p1 t2p2"]);
    let members = "C1: t0 t1 = t1p0 t1p1 | C2: t0 t1 t2 = t2p0 t2p1 t2p2";
    check(&Sticky, of, members, &["t1p0 t1p1 t0p0", "t2p0 t2p1 t2p2"]);
    // One comes, and gets its share from who has most.
    check(&Sticky, "t:4", "C0: t = tp0 tp1 | C1: t = tp2 tp3 | C2: t", &["tp0 tp1", "tp2", "tp3"]);
    check(&Sticky, "t:3", "C0: t = tp0 tp1 tp2 | C1: t", &["tp0 tp1", "tp2"]);
}

#[test]
fn sticky_moves_to_be_near() {
    let members = "C0@a: t = tp0 tp1 | C1@b: t = tp2 tp3";
    check(&Sticky, "t:4@a,a,b,b", members, &["tp0 tp1", "tp2 tp3"]);
    check(&Sticky, "t:4@b,b,a,a", members, &["tp2 tp3", "tp0 tp1"]);
    // Not at the price of being uneven.
    check(&Sticky, "t:4@a,a,a,b", "C0@a: t | C1@b: t", &["tp0 tp1", "tp3 tp2"]);
    check(&Sticky, "t:2@a,b u:2@b,a", "C0@a: t u | C1@b: t | C2@b: u", &["tp0 up1", "tp1", "up0"]);
}

#[test]
fn cooperative_waits_for_who_has_it() {
    // First the partition is withheld; then, given back, it goes where it belongs.
    let assignor = &CooperativeSticky;
    check(assignor, "t:3", "C0: t = tp0 tp1 tp2 | C1: t", &["tp0 tp1", ""]);
    check(assignor, "t:3", "C0: t = tp0 tp1 | C1: t", &["tp0 tp1", "tp2"]);
    // To be nearer, too; and where subscriptions differ.
    check(assignor, "t:2@b,a", "C0@a: t = tp0 | C1@b: t = tp1", &["", ""]);
    check(assignor, "t:4 u:1", "C0: t u = tp0 tp1 tp2 tp3 | C1: t", &["tp2 tp3 up0", ""]);
}

/// Claims are held against each other: the newer counts, and of two of one generation neither.
#[test]
fn claims_are_not_believed_twice() {
    check(&Sticky, "t:2", "C0: t = tp0 tp1 #3 | C1: t = tp0 #4", &["tp1", "tp0"]);
    check(&Sticky, "t:2", "C0: t = tp0 tp1 #4 | C1: t = tp0 #4", &["tp1", "tp0"]);
    // To whom it goes shows only in the next generation.
    check(&CooperativeSticky, "t:2", "C0: t = tp0 tp1 #4 | C1: t = tp0 #4", &["tp1", ""]);
    // What there is not, or what was never asked for.
    check(&Sticky, "t:2", "C0: t = tp0 tp7 up1 tp-1 | C1: t = tp1", &["tp0", "tp1"]);
    check(&Sticky, "t:2 u:1", "C0: t = up0 tp0 tp0 | C1: u", &["tp0 tp1", "up0"]);
    // One id twice: the last of them counts.
    for assignor in [&Range as &dyn Assignor, &RoundRobin, &Sticky, &CooperativeSticky] {
        check(assignor, "t:2", "C0: t | C0: t", &["", "tp0 tp1"]);
        check(assignor, "t:2", "", &[]);
    }
}

#[test]
fn user_data_that_is_none_is_no_claim() {
    let of = topics("t:2");
    let mut members = vec![member("C0: t = tp1"), member("C1: t")];
    let good = members[0].subscription.user_data.clone().unwrap();
    assert_eq!(decode_sticky(&good).unwrap(), (partitions("tp1"), Some(5)));
    // Cut anywhere: what Kafka 2.2 wrote has no generation, the rest is nothing.
    for len in 0..good.len() {
        let cut = good.slice(..len);
        let found = decode_sticky(&cut);
        assert_eq!(found.is_ok(), len >= good.len() - 4, "{len}");
        members[0].subscription.user_data = Some(cut);
        assert_eq!(Sticky.assign(&members, &of).concat().len(), 2);
    }
    for huge in ["\x7f\u{0}\u{0}\u{0}", "\0\0\0\x01\0\x01t\x7f\0\0\0"] {
        let found = decode_sticky(&Bytes::from(huge.as_bytes().to_vec()));
        assert!(matches!(found, Err(DecodeError::CountTooLarge { .. })), "{found:?}");
    }
}

#[test]
fn subscriptions_travel() {
    let whole = Subscription {
        topics: vec!["b".into(), "a".into()],
        owned: partitions("bp1 ap0 bp0"),
        generation: 7,
        rack: Some("r".into()),
        user_data: Some(Bytes::from_static(b"x")),
    };
    let sorted =
        Subscription { topics: vec!["a".into(), "b".into()], owned: partitions("ap0 bp0 bp1"), ..whole.clone() };
    let without_rack = Subscription { rack: None, ..sorted.clone() };
    let without_generation = Subscription { generation: -1, ..without_rack.clone() };
    let without_owned = Subscription { owned: Vec::new(), ..without_generation.clone() };
    for (version, expected) in [without_owned, without_generation, without_rack, sorted].into_iter().enumerate() {
        let bytes = encode(&whole, version as i16).unwrap();
        assert_eq!(bytes[..2], [0, version as u8]);
        assert_eq!(decode(&bytes), Ok(expected));
    }
    // A version that is not known yet: as the newest, without what follows.
    let mut later = encode(&whole, 3).unwrap().to_vec();
    later[1] = 9;
    later.extend(b"more");
    assert_eq!(decode(&later.into()).unwrap().rack.as_deref(), Some("r"));
    assert_eq!(decode(&Bytes::from_static(&[0xff, 0xff])), Err(DecodeError::NegativeLength(-1)));
    assert!(decode(&Bytes::new()).is_err());
}

#[test]
fn assignments_travel() {
    let assigned = partitions("bp1 ap0 bp0");
    let bytes = encode_assignment(&assigned, 3).unwrap();
    // version 3 | 2 topics | "b": 1, 0 | "a": 0 | no user data
    let drawn = b"\0\x03\0\0\0\x02\0\x01b\0\0\0\x02\0\0\0\x01\0\0\0\0\0\x01a\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";
    assert_eq!(bytes, drawn[..]);
    assert_eq!(decode_assignment(&bytes), Ok(partitions("bp1 bp0 ap0")));
    assert_eq!(decode_assignment(&Bytes::new()), Ok(Vec::new()));
}
