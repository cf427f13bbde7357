//! Something goes wrong with every request of a small run, one at a time: an error that passes, one that does not, what a
//! network does; and what leads and coordinates moves.

use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Error, OffsetReset};
use tokio::time::Instant;

use crate::judge::{Seen, Sent, Terms, Verdict, judge, judge_reader};
use crate::rig::*;

/// What is done to one request.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// An error that passes, by the kind of request.
    Retriable,
    /// One that does not.
    Final,
    Close,
    LoseAnswer,
    SwallowAnswer,
    Stall,
    WrongCorrelationId,
    Delay,
    Throttle,
}

const HARMLESS: [Mishap; 8] = [
    Mishap::Retriable,
    Mishap::Close,
    Mishap::LoseAnswer,
    Mishap::SwallowAnswer,
    Mishap::Stall,
    Mishap::WrongCorrelationId,
    Mishap::Delay,
    Mishap::Throttle,
];

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
const GROUP_AUTHORIZATION_FAILED: i16 = 30;
const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;

impl Mishap {
    /// None: there is no such error for this kind.
    fn fault(self, api: Api) -> Option<Fault> {
        Some(match self {
            Self::Retriable => Fault::error(match api {
                Api::Metadata => UNKNOWN_TOPIC_OR_PARTITION,
                Api::InitProducerId => COORDINATOR_LOAD_IN_PROGRESS,
                Api::Produce | Api::Fetch | Api::ListOffsets => NOT_LEADER_OR_FOLLOWER,
                Api::FindCoordinator => COORDINATOR_NOT_AVAILABLE,
                Api::OffsetCommit | Api::OffsetFetch => NOT_COORDINATOR,
                _ => return None,
            }),
            Self::Final => Fault::error(match api {
                Api::Metadata | Api::Produce | Api::Fetch | Api::ListOffsets => TOPIC_AUTHORIZATION_FAILED,
                Api::InitProducerId => CLUSTER_AUTHORIZATION_FAILED,
                Api::FindCoordinator | Api::OffsetCommit | Api::OffsetFetch => GROUP_AUTHORIZATION_FAILED,
                _ => return None,
            }),
            Self::Close => Fault::close(),
            Self::LoseAnswer => Fault::lose_answer(),
            Self::SwallowAnswer => Fault::swallow_answer(),
            Self::Stall => Fault::stall(),
            Self::WrongCorrelationId => Fault::wrong_correlation_id(),
            Self::Delay => Fault::delay(SECOND),
            Self::Throttle => Fault::throttle(SECOND),
        })
    }
}

#[derive(Debug, Default)]
struct Run {
    /// What was asked, in order.
    asked: Vec<Api>,
    struck: u64,
    verdict: Verdict,
    /// What the calls said, by what they were.
    errors: Vec<(&'static str, Error)>,
    /// Records in the logs.
    logged: [usize; 2],
    committed: [Option<i64>; 2],
}

/// What goes wrong, with the nth request.
enum Trouble {
    Fault(u64, Fault),
    /// Everything that a broker leads or coordinates is another one's.
    Move(u64),
}

/// On two brokers, requests to one and the other come in any order.
async fn run(brokers: i32, trouble: Option<Trouble>) -> Run {
    let cluster = MockCluster::builder().brokers(brokers).in_memory().start().await;
    cluster.create_topic("t", 2);
    let (moves, fault) = match trouble {
        None => (false, None),
        Some(Trouble::Fault(nth, fault)) => (false, Some(cluster.inject(When::any().nth(nth), fault))),
        Some(Trouble::Move(nth)) => (true, Some(cluster.inject(When::any().nth(nth), Fault::delay(MS)))),
    };
    let moving = async {
        match &fault {
            Some(fault) if moves => fault.wait_struck(1).await,
            _ => pending().await,
        }
        for partition in 0..2 {
            let other = cluster.leader("t", partition).map_or(1, |leader| 3 - leader);
            cluster.move_leader("t", partition, other);
        }
        let other = cluster.coordinator("g").map_or(1, |coordinator| 3 - coordinator);
        cluster.move_coordinator("g", other);
        pending::<()>().await;
    };
    let mut run = tokio::select! {
        biased;
        () = moving => unreachable!(),
        run = write_and_read(&cluster) => run,
    };
    verify(&cluster, "errors");
    run.asked = cluster.requests().iter().map(|request| request.api).collect();
    run.struck = fault.map_or(0, |fault| fault.struck());
    cluster.close().await;
    run
}

/// Two rounds of records to two partitions are written, read and committed.
async fn write_and_read(cluster: &MockCluster) -> Run {
    let client = builder(cluster).request_timeout(SECOND * 2).default_api_timeout(SECOND * 20).build().unwrap();
    let producer = client.producer().linger(Duration::ZERO).delivery_timeout(SECOND * 20).build().unwrap();
    let begin = Instant::now();
    let mut run = Run::default();
    let mut sent: Vec<Sent> = Vec::new();
    for n in 0..4 {
        let (number, partition, enqueued) = (n as usize, n % 2, begin.elapsed());
        let told = producer.send(record(partition, number)).await;
        if let Err(error) = &told {
            run.errors.push(("send", error.error.clone()));
        }
        sent.push(Sent { enqueued, ends: vec![(begin.elapsed(), outcome(partition, told))] });
    }
    let logs = logs(cluster);
    run.verdict = judge(&sent, &logs, &Terms::within(SECOND * 82));
    run.logged = [0, 1].map(|partition| logs[&partition].len());
    let in_log: usize = run.logged.iter().sum();

    let consumer = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = consumer.build().unwrap();
    consumer.assign([("t", 0), ("t", 1)]).unwrap();
    let mut seen = Vec::new();
    while seen.len() < in_log {
        match within(SECOND * 120, "recv", consumer.recv()).await {
            Ok(record) => {
                let (partition, offset) = (record.partition(), record.offset());
                seen.push(Seen::Record { partition, offset, number: number(record.value()) });
            }
            Err(error) => run.errors.push(("recv", error)),
        }
    }
    judge_reader(&mut run.verdict, &seen, &logs);
    if let Err(error) = consumer.commit().await {
        run.errors.push(("commit", error));
    }
    run.committed = [0, 1].map(|partition| cluster.committed("g", "t", partition));
    match consumer.committed([("t", 0), ("t", 1)]).await {
        Ok(told) => {
            let told = [0, 1].map(|partition| told.get(&("t", partition).into()).map(|told| told.offset));
            assert_eq!(told, run.committed);
        }
        Err(error) => run.errors.push(("committed", error)),
    }
    consumer.close().await.unwrap();
    producer.close(SECOND).await.unwrap();
    run
}

/// The run without faults.
async fn calm(brokers: i32) -> Run {
    let calm = run(brokers, None).await;
    assert!(calm.errors.is_empty() && calm.verdict.is_clean() && calm.committed == [Some(2); 2], "{calm:?}");
    assert!(calm.asked.len() >= 14 && calm.asked.len() <= 50, "{:?}", calm.asked);
    calm
}

/// What passes by itself costs nothing but time: nobody hears of it.
#[tokio::test(start_paused = true)]
async fn what_passes_is_not_noticed_at_any_request() {
    let calm = calm(1).await;
    for mishap in HARMLESS {
        for (nth, api) in (1..).zip(&calm.asked) {
            let Some(fault) = mishap.fault(*api) else { continue };
            let told = within(
                SECOND * 600,
                &format!("{mishap:?} for {api:?} {nth}"),
                run(1, Some(Trouble::Fault(nth, fault))),
            )
            .await;
            let Run { verdict, errors, committed, struck, .. } = &told;
            assert_eq!(*struck, 1, "{mishap:?} for {api:?}, request {nth}");
            let is_well = verdict.is_clean() && verdict.acknowledged == 4 && *committed == [Some(2); 2];
            assert!(is_well && errors.is_empty(), "{mishap:?} for {api:?}, request {nth}: {told:#?}");
        }
    }
}

/// Whoever leads a partition, or coordinates the group, gives it away while the request is under way.
#[tokio::test(start_paused = true)]
async fn leaders_and_coordinators_move_at_any_request() {
    let count = calm(2).await.asked.len() as u64;
    let mut moves = 0;
    for nth in 1..=count {
        let told = within(SECOND * 600, &format!("request {nth}"), run(2, Some(Trouble::Move(nth)))).await;
        let Run { verdict, errors, committed, struck, .. } = &told;
        let is_well = verdict.is_clean() && verdict.acknowledged == 4 && *committed == [Some(2); 2];
        assert!(is_well && errors.is_empty(), "request {nth}: {told:#?}");
        moves += struck;
    }
    assert!(moves >= count - 4, "{moves} moves in {count} runs");
}

/// What does not is told to those whom it concerns, once, and what they hear is true; everything else goes on.
#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_told_to_whom_it_concerns() {
    let calm = calm(1).await;
    let mut heard = BTreeSet::new();
    for (nth, api) in (1..).zip(&calm.asked) {
        let Some(fault) = Mishap::Final.fault(*api) else { continue };
        let told = within(SECOND * 600, &format!("{api:?} {nth}"), run(1, Some(Trouble::Fault(nth, fault)))).await;
        let Run { verdict, errors, committed, logged, struck, .. } = &told;
        let calls: Vec<_> = errors.iter().map(|(call, _)| *call).collect();
        let may_hear: &[&[&str]] = match api {
            // The first one asks for brokers alone. What a topic is refused for is not asked again at once.
            Api::Metadata => &[&[], &["send"; 4]],
            Api::InitProducerId => &[&["send"; 4]],
            Api::Produce => &[&["send"]],
            Api::FindCoordinator => &[&["recv"]],
            Api::OffsetFetch => &[&["recv"], &["committed"]],
            Api::ListOffsets => &[&["recv", "recv"]],
            // The first one names both partitions. Nobody waits for what the last ones bring.
            Api::Fetch => &[&[], &["recv", "recv"]],
            _ => &[&["commit"]],
        };
        assert!(*struck == 1 && may_hear.contains(&&*calls), "{api:?}, request {nth}: {told:#?}");
        let is_told_well = |error: &Error| error.code().is_some() && !error.to_string().contains("--1");
        assert!(errors.iter().all(|(_, error)| is_told_well(error)), "{errors:?}");
        heard.extend(calls.iter().copied());
        let refused = calls.iter().filter(|call| **call == "send").count();
        assert!(verdict.is_clean(), "{api:?}, request {nth}: {told:#?}");
        assert_eq!((verdict.acknowledged, verdict.not_written), (4 - refused, refused), "{api:?}, request {nth}");
        let is_committed = !calls.contains(&"commit");
        let expected = logged.map(|count| Some(count as i64).filter(|count| is_committed && *count > 0));
        assert_eq!(*committed, expected, "{api:?}, request {nth}");
    }
    assert_eq!(heard, ["commit", "committed", "recv", "send"].into());
}
