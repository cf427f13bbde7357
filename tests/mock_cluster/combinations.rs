//! Every combination of faults, and of conditions, against what they should do together.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use milena::mock::{Api, Fault, FaultHandle, MockCluster, When};
use tokio::time::{Instant, timeout};

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request, values};

const STORAGE_ERROR: i16 = 56;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);
const CUT: usize = 6;

/// The faults, each a bit of a number.
const FAULTS: [&str; 11] = [
    "error",
    "stall",
    "delay",
    "close",
    "delay answer",
    "lose answer",
    "swallow answer",
    "cut",
    "wrong correlation id",
    "corrupt",
    "throttle",
];

fn fault(name: &str) -> Fault {
    match name {
        "error" => Fault::error(STORAGE_ERROR),
        "stall" => Fault::stall(),
        "delay" => Fault::delay(SECOND),
        "close" => Fault::close(),
        "delay answer" => Fault::delay_answer(2 * SECOND),
        "lose answer" => Fault::lose_answer(),
        "swallow answer" => Fault::swallow_answer(),
        "cut" => Fault::cut(CUT),
        "wrong correlation id" => Fault::wrong_correlation_id(),
        "corrupt" => Fault::corrupt(),
        "throttle" => Fault::throttle(4 * SECOND),
        _ => unreachable!(),
    }
}

/// What a client sees of one produce request and of a metadata request right behind it.
#[derive(Debug, PartialEq)]
struct Seen {
    handled: bool,
    /// When the answer came, or the connection was closed.
    at: Duration,
    first: First,
    /// When the second answer came; none on a connection that is closed or silent.
    second_at: Option<Duration>,
}

#[derive(Debug, PartialEq)]
enum First {
    /// The correlation id that it had, and how many bits of the rest were wrong.
    Answer {
        correlation_id: u8,
        wrong_bits: u32,
    },
    /// After so many bytes of an answer.
    Closed(usize),
    Silent,
}

fn expected(on: impl Fn(&str) -> bool) -> Seen {
    let mut at = if on("stall") { 10 * SECOND } else { Duration::ZERO };
    if on("close") {
        return Seen { handled: false, at, first: First::Closed(0), second_at: None };
    }
    at += if on("delay") { SECOND } else { Duration::ZERO };
    at += if on("delay answer") { 2 * SECOND } else { Duration::ZERO };
    let handled = !on("error");
    if on("lose answer") {
        return Seen { handled, at, first: First::Closed(0), second_at: None };
    }
    if on("swallow answer") {
        return Seen { handled, at: HOUR, first: First::Silent, second_at: None };
    }
    if on("cut") {
        return Seen { handled, at, first: First::Closed(CUT), second_at: None };
    }
    let correlation_id = if on("wrong correlation id") { 2 } else { 1 };
    let first = First::Answer { correlation_id, wrong_bits: on("corrupt").into() };
    let throttled = if on("throttle") { 4 * SECOND } else { Duration::ZERO };
    Seen { handled, at, first, second_at: Some(at + throttled) }
}

async fn seen(on: impl Fn(&str) -> bool, whole: &mut HashMap<(bool, bool), Bytes>) -> Seen {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let inject = |name: &&str| cluster.inject(When::api(Api::Produce).nth(1), fault(name));
    let injected: Vec<FaultHandle> = FAULTS.iter().filter(|name| on(name)).map(inject).collect();
    let mut peer = Peer::connect(&cluster, 1).await;
    let started = Instant::now();
    peer.send(9, &produce_request("t", 0, Batch::of(&["x"]))).await;
    peer.send(12, &MetadataRequest::default().with_topics(None)).await;
    if on("stall") {
        tokio::time::sleep(10 * SECOND).await;
        let stall = FAULTS.iter().filter(|name| on(name)).position(|name| *name == "stall").unwrap();
        injected[stall].remove();
    }
    let frame = timeout(HOUR - started.elapsed(), peer.frame()).await;
    let at = started.elapsed();
    let mut second_at = None;
    let first = match frame {
        Err(_) => First::Silent,
        Ok(None) => First::Closed(peer.leftover()),
        Ok(Some(frame)) => {
            let same = (on("error"), on("throttle"));
            let plain = whole.entry(same).or_insert_with(|| frame.clone());
            assert_eq!(frame[..3], [0, 0, 0]);
            let wrong = frame.iter().zip(plain.iter()).skip(4).map(|(a, b)| (a ^ b).count_ones()).sum();
            peer.frame().await.expect("the second answer");
            second_at = Some(started.elapsed());
            First::Answer { correlation_id: frame[3], wrong_bits: wrong }
        }
    };
    assert!(cluster.unused_faults().is_empty() && injected.iter().all(|fault| fault.struck() == 1));
    let handled = values(&cluster, "t", 0).len() == 1;
    cluster.close().await;
    Seen { handled, at, first, second_at }
}

#[tokio::test(start_paused = true)]
async fn every_combination_of_faults() {
    // The answers of those that change nothing else come first, and are checked themselves.
    let mut whole = HashMap::new();
    for same in [(false, false), (true, false), (false, true), (true, true)] {
        seen(|name| (name == "error" && same.0) || (name == "throttle" && same.1), &mut whole).await;
        let mut frame = whole[&same].slice(4..);
        let header = <ProduceRequest as Request>::Response::header_version(9);
        assert_eq!(header, 1);
        frame = frame.slice(1..); // no tagged fields in the header
        let answer = <ProduceRequest as Request>::Response::decode(&mut frame, 9).unwrap();
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, if same.0 { STORAGE_ERROR } else { 0 });
        assert_eq!(answer.throttle_time_ms, if same.1 { 4000 } else { 0 });
    }
    for subset in 0_u32..1 << FAULTS.len() {
        let on = |name: &str| {
            let bit = FAULTS.iter().position(|fault| *fault == name).unwrap();
            subset >> bit & 1 == 1
        };
        let names: Vec<_> = FAULTS.iter().filter(|name| on(name)).collect();
        assert_eq!(seen(on, &mut whole).await, expected(on), "{names:?}");
    }
}

/// One request of a fixed series.
#[derive(Clone, Copy)]
struct Asked {
    api: Api,
    broker: i32,
    index: i32,
}

#[tokio::test(start_paused = true)]
async fn every_combination_of_conditions() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 2);
    cluster.move_leader("t", 0, 1);
    cluster.move_leader("t", 1, 2);
    let mut peers = [Peer::connect(&cluster, 1).await, Peer::connect(&cluster, 2).await];
    let series = [(0, 0), (1, 0), (0, 1), (1, 1), (1, 1), (0, 1), (0, 0), (1, 1), (1, 1), (0, 1), (1, 1), (1, 1)];
    let series = series.map(|(api, index)| Asked {
        api: if api == 0 { Api::Fetch } else { Api::Produce },
        broker: index + 1,
        index,
    });
    for choice in 0..3 * 32 {
        let (targets, bits) = (choice / 32, choice % 32);
        let on = |bit: u32| bits >> bit & 1 == 1;
        let mut when = if on(0) { When::api(Api::Produce) } else { When::any() };
        if on(1) {
            when = when.broker(2);
        }
        when = match targets {
            0 => when,
            1 => when.topic("t"),
            _ => when.partition("t", 1),
        };
        if on(2) {
            when = when.nth(2);
        }
        if on(3) {
            when = when.every(2);
        }
        if on(4) {
            when = when.times(2);
        }
        cluster.clear_faults();
        let injected = cluster.inject(when.clone(), Fault::delay(Duration::ZERO));
        let (mut matched, mut struck) = (0, 0);
        for (round, asked) in series.into_iter().enumerate() {
            let peer = &mut peers[asked.broker as usize - 1];
            if asked.api == Api::Produce {
                assert_eq!(peer.produce("t", asked.index, Batch::of(&["x"])).await.error_code, 0);
            } else {
                peer.ask(12, &fetch("t", vec![partition(asked.index, 0)])).await;
            }
            let matches = (!on(0) || asked.api == Api::Produce)
                && (!on(1) || asked.broker == 2)
                && (targets < 2 || asked.index == 1);
            if matches {
                matched += 1;
                let counted = matched - i32::from(on(2)); // those before the second do not count
                let due = counted >= 1 && (!on(3) || counted % 2 == 0);
                // The nth is one, unless more are asked for.
                let most = if on(4) {
                    2
                } else if on(2) {
                    1
                } else {
                    u64::MAX
                };
                struck += u64::from(due && struck < most);
            }
            assert_eq!(injected.struck(), struck, "request {round} of {when:?}");
        }
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn faults_that_struck_nothing_are_told() {
    let cluster = in_memory(1).await;
    let used = cluster.inject(When::api(Api::Metadata), Fault::delay(SECOND));
    let unused = cluster.inject(When::api(Api::Produce).topic("ordres"), Fault::close());
    let removed = cluster.inject(When::api(Api::Fetch), Fault::close());
    removed.remove();
    Peer::connect(&cluster, 1).await.metadata(&[]).await;
    let described =
        |cluster: &MockCluster| cluster.unused_faults().iter().map(|f| format!("{f:?}")).collect::<Vec<_>>();
    assert_eq!(described(&cluster), [format!("{removed:?}"), format!("{unused:?}")]);
    assert!(described(&cluster)[1].contains("ordres"), "{:?}", described(&cluster));
    assert_eq!((used.struck(), unused.struck()), (1, 0));
    cluster.clear_faults();
    assert_eq!(described(&cluster).len(), 2, "also after they were cleared");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_broker_tells_the_past() {
    let cluster = in_memory(3).await;
    cluster.create_topic("t", 1);
    cluster.create_topic("gone", 1);
    cluster.move_leader("t", 0, 1);
    cluster.move_controller(1);
    let epoch = async |broker: i32| {
        let metadata = Peer::connect(&cluster, broker).await.metadata(&["t", "gone", "new"]).await;
        let topics = metadata.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>();
        let partition = &metadata.topics[0].partitions[0];
        (partition.leader_id.0, partition.leader_epoch, topics, metadata.brokers.len(), metadata.controller_id.0)
    };
    let before = epoch(1).await;
    assert_eq!((before.0, &before.2[..], before.3, before.4), (1, &[0, 0, 3][..], 3, 1));
    let stale = cluster.inject(When::any().broker(1), Fault::stale_metadata());
    cluster.move_leader("t", 0, 2);
    cluster.delete_topic("gone");
    cluster.create_topic("new", 1);
    cluster.stop_broker(3).await;
    cluster.move_controller(2);
    assert_eq!(epoch(1).await, before);
    assert_eq!(epoch(2).await, (2, before.1 + 1, vec![0, 3, 0], 2, 2));
    // Only what it says is old: it does not lead any more, and answers so.
    assert_eq!(Peer::connect(&cluster, 1).await.produce("t", 0, Batch::of(&["x"])).await.error_code, 6);
    // A topic of the same name is another one, which a stale broker does not know.
    let id = async |broker: i32| Peer::connect(&cluster, broker).await.metadata(&["t"]).await.topics[0].topic_id;
    let old = id(1).await;
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    assert_eq!(id(1).await, old);
    assert_ne!(id(2).await, old);
    stale.remove();
    assert_ne!(id(1).await, old);
    cluster.close().await;
}
