//! One history: the public API on the mock cluster, in virtual time, while a plan goes wrong; then all is judged.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::mock::{Api, Fault, Link, MockCluster, Violation, ViolationKind, When};
use milena::{Client, Consumer, ErrorKind, Fate, OffsetReset, Producer, Record, TopicPartition};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::judge::{Logs, Outcome, Sent, Terms, Verdict, judge, judge_reader};
use crate::reader::{number_of, read_along};
use crate::schedule::{Asked, HEALED, MS, Mishap, Plan, SECOND, Step, Trouble};

const TOPIC: &str = "t";
/// When all is well again, whatever the worst back-off was.
const LIVELY: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub struct Told {
    pub verdict: Verdict,
    /// Every end that was told, and every request that a broker saw.
    #[cfg_attr(not(tokio_unstable), expect(dead_code, reason = "compared where it is the same each time"))]
    pub trace: Vec<String>,
}

/// Runs a plan on a thread of its own: what the client counts and draws per thread begins anew with each history.
pub fn run(plan: &Plan) -> Told {
    let ended = std::thread::scope(|scope| scope.spawn(|| run_here(plan)).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// On a runtime whose clock stands still and jumps.
fn run_here(plan: &Plan) -> Told {
    fastrand::seed(plan.seed); // what the client draws from, on this thread
    let mut builder = tokio::runtime::Builder::new_current_thread();
    // Whom a `watch` wakes first is tokio's own draw.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&plan.seed.to_le_bytes()));
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let told = timeout(SECOND * 600, history(plan)).await;
        told.unwrap_or_else(|_| {
            let mut told = Told::default();
            told.verdict.problems.push("stuck: ten minutes, and no end".into());
            told
        })
    })
}

async fn history(plan: &Plan) -> Told {
    let cluster =
        Rc::new(MockCluster::builder().brokers(crate::schedule::BROKERS).seed(plan.seed).in_memory().start().await);
    cluster.create_topic(TOPIC, plan.partitions as usize);
    let begin = Instant::now();
    let is_quiet = Rc::new(Cell::new(false));
    let is_read = Rc::clone(&is_quiet);
    let reader = tokio::task::spawn_local(read_along(consumer(&cluster, plan), move || is_read.get()));
    let troubles = tokio::task::spawn_local(cause(Rc::clone(&cluster), plan.clone(), begin));
    let producer = client(&cluster, plan)
        .producer()
        .linger(plan.linger)
        .batch_size(plan.batch_size)
        .buffer_memory(plan.buffer_memory)
        .max_in_flight(plan.max_in_flight)
        .delivery_timeout(plan.delivery_timeout)
        .max_block(SECOND)
        .build()
        .expect("a producer");
    let ends = Ends::default();
    let mut sent = produce(&producer, plan, &ends, begin).await;
    troubles.await.expect("no panic");

    // Everything is well: what is open ends, and every partition takes a record.
    let limit = plan.delivery_timeout + plan.request_timeout;
    let mut problems = Vec::new();
    for partition in 0..plan.partitions {
        let since = begin.elapsed();
        // Its own time may be shorter than what others left behind, which is in nobody's way for long.
        loop {
            let (number, enqueued) = (sent.len(), begin.elapsed());
            sent.push(Sent { enqueued, ends: Vec::new() });
            let value = number.to_string();
            let record = Record::to(TOPIC).partition(partition).value(&value).timestamp(when(begin));
            let told = producer.send(record).await;
            let late = begin.elapsed().saturating_sub(since + LIVELY);
            let outcome = match &told {
                Ok(placed) => Outcome::Acknowledged { partition, offset: placed.offset },
                Err(error) => outcome_of(error),
            };
            ends.lock().unwrap().push((number, begin.elapsed(), outcome));
            match told {
                _ if !late.is_zero() => {
                    problems.push(format!("partition {partition} after all was well: {late:?} late"))
                }
                Ok(_) => {}
                Err(error) if error.error.kind() == ErrorKind::Timeout => continue,
                Err(error) => problems.push(format!("partition {partition} after all was well: {error}")),
            }
            break;
        }
    }
    let last = Instant::now() + limit;
    while ends.lock().unwrap().len() < sent.len() && Instant::now() < last {
        sleep(MS * 100).await;
    }
    is_quiet.set(true);
    producer.close(SECOND).await.expect("nothing is left to be told");
    let mut trace = Vec::new();
    for (number, at, outcome) in std::mem::take(&mut *ends.lock().unwrap()) {
        trace.push(format!("{number} {at:?} {outcome:?}"));
        sent[number].ends.push((at, outcome));
    }
    let seen = match timeout(SECOND * 120, reader).await {
        Ok(seen) => seen.expect("no panic"),
        Err(_) => {
            problems.push("the reader does not come to an end".into());
            Vec::new()
        }
    };
    let logs: Logs = (0..plan.partitions).map(|partition| (partition, log(&cluster, partition))).collect();
    let mut verdict = judge(&sent, &logs, &Terms::within(limit + MS));
    if problems.is_empty() {
        judge_reader(&mut verdict, &seen, &logs);
    }
    verdict.problems.extend(problems);
    // Whom nobody answers the client asks who he is, by two empty lines: no frame.
    let is_wrong = |violation: &Violation| match violation.kind {
        ViolationKind::Undecodable => !violation.message.contains("the length of a frame is out of range"),
        _ => true,
    };
    let wrong = cluster.verify().into_iter().filter(is_wrong);
    verdict.problems.extend(wrong.map(|violation| format!("the mock says: {violation}")));
    for request in cluster.requests() {
        trace.push(format!("{:?} {} at {}: {} bytes", request.at, request.api, request.broker, request.size));
    }
    drop(producer);
    Rc::into_inner(cluster).expect("nobody else has it").close().await;
    Told { verdict, trace }
}

type Ends = Arc<Mutex<Vec<(usize, Duration, Outcome)>>>;

fn client(cluster: &MockCluster, plan: &Plan) -> Client {
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector());
    builder.request_timeout(plan.request_timeout).build().expect("a client")
}

fn outcome_of(error: &milena::DeliveryError) -> Outcome {
    match error.fate {
        Fate::NotWritten => Outcome::NotWritten(error.error.to_string()),
        _ => Outcome::Unknown(error.error.to_string()),
    }
}

/// The wall's clock would give each run batches of another size.
fn when(begin: Instant) -> i64 {
    1_700_000_000_000 + begin.elapsed().as_millis() as i64
}

async fn produce(producer: &Producer, plan: &Plan, ends: &Ends, begin: Instant) -> Vec<Sent> {
    let mut rng = fastrand::Rng::with_seed(plan.seed ^ 1);
    let mut sent = Vec::new();
    while sent.len() < plan.records {
        let number = sent.len();
        sent.push(Sent { enqueued: begin.elapsed(), ends: Vec::new() });
        let value = format!("{number}{}", " ".repeat(rng.usize(0..=plan.value_size)));
        let record = Record::to(TOPIC).partition(rng.i32(0..plan.partitions)).value(&value).timestamp(when(begin));
        let (told, at) = (Arc::clone(ends), begin);
        let tell = move |outcome| told.lock().unwrap().push((number, at.elapsed(), outcome));
        let enqueued = producer.enqueue(record).await;
        sent[number].enqueued = begin.elapsed(); // its time runs from here: before, it waited for memory
        match enqueued {
            Ok(receipt) => receipt.on_delivery(move |result| {
                tell(match result {
                    Ok(placed) => Outcome::Acknowledged { partition: placed.partition, offset: placed.offset },
                    Err(error) => outcome_of(&error),
                });
            }),
            Err(error) => tell(Outcome::NotWritten(error.to_string())),
        }
        // Some come together.
        if rng.u8(0..4) > 0 {
            sleep(plan.pause).await;
        }
    }
    sent
}

fn consumer(cluster: &MockCluster, plan: &Plan) -> Consumer {
    let consumer = client(cluster, plan).consumer().auto_offset_reset(OffsetReset::Earliest);
    let consumer = consumer.build().expect("a consumer");
    consumer.assign((0..plan.partitions).map(|partition| TopicPartition::new(TOPIC, partition))).expect("partitions");
    consumer
}

fn log(cluster: &MockCluster, partition: i32) -> Vec<usize> {
    let log = cluster.log(TOPIC, partition);
    assert!(log.iter().zip(0..).all(|(record, offset)| record.offset == offset));
    log.iter().map(|record| number_of(record.value.as_deref())).collect()
}

/// Does what the plan says, and makes everything well in the end.
async fn cause(cluster: Rc<MockCluster>, plan: Plan, begin: Instant) {
    let stopped = Rc::new(RefCell::new(BTreeMap::new()));
    let steps: Vec<_> = plan
        .steps
        .iter()
        .map(|step| tokio::task::spawn_local(trouble(Rc::clone(&cluster), *step, begin, Rc::clone(&stopped))))
        .collect();
    for step in steps {
        step.await.expect("no panic");
    }
    sleep_until(begin + HEALED).await;
    assert_eq!(cluster.live_brokers().len(), crate::schedule::BROKERS as usize);
}

/// How many troubles keep a broker down: the last one starts it again.
type Stopped = Rc<RefCell<BTreeMap<i32, usize>>>;

async fn trouble(cluster: Rc<MockCluster>, step: Step, begin: Instant, stopped: Stopped) {
    sleep_until(begin + step.at).await;
    let end = begin + (step.at + step.lasts).min(HEALED);
    match step.trouble {
        Trouble::Kill(broker) | Trouble::ShutDown(broker) => {
            *stopped.borrow_mut().entry(broker).or_default() += 1;
            if matches!(step.trouble, Trouble::Kill(_)) {
                cluster.stop_broker(broker).await;
            } else {
                cluster.shut_down_broker(broker).await;
            }
            sleep_until(end).await;
            let is_last = {
                let mut stopped = stopped.borrow_mut();
                let count = stopped.entry(broker).or_default();
                *count -= 1;
                *count == 0
            };
            if is_last {
                cluster.start_broker(broker).await;
            }
        }
        Trouble::Hang(broker) => {
            cluster.hang_broker(broker);
            sleep_until(end).await;
            cluster.resume_broker(broker);
        }
        Trouble::MoveLeader { partition } => {
            let in_sync = cluster.in_sync_replicas(TOPIC, partition);
            let live = cluster.live_brokers();
            let next = in_sync.iter().find(|b| live.contains(b) && cluster.leader(TOPIC, partition) != Some(**b));
            if let Some(next) = next {
                cluster.move_leader(TOPIC, partition, *next);
            }
        }
        Trouble::HoldFollower { partition } => {
            let leader = cluster.leader(TOPIC, partition);
            let Some(follower) = (1..=crate::schedule::BROKERS).find(|broker| Some(*broker) != leader) else { return };
            if leader.is_none() {
                return;
            }
            cluster.hold_follower(TOPIC, partition, follower);
            sleep_until(end).await;
            // It may lead by now.
            if cluster.leader(TOPIC, partition) != Some(follower) {
                cluster.release_follower(TOPIC, partition, follower);
            }
        }
        Trouble::SlowLink { broker, latency } => {
            cluster.set_link(broker, Link::new().latency(latency));
            sleep_until(end).await;
            cluster.set_link(broker, Link::new());
        }
        Trouble::EvictSessions => cluster.evict_fetch_sessions(),
        Trouble::Request { asked, broker, mishap, percent } => {
            let api = match asked {
                Asked::Produce => Api::Produce,
                Asked::Fetch => Api::Fetch,
                Asked::Metadata => Api::Metadata,
                Asked::InitProducerId => Api::InitProducerId,
                Asked::ListOffsets => Api::ListOffsets,
                Asked::ApiVersions => Api::ApiVersions,
            };
            let when = When::api(api).broker(broker).probability(f64::from(percent) / 100.0);
            let fault = cluster.inject(when, fault_of(mishap));
            sleep_until(end).await;
            fault.remove();
        }
    }
}

fn fault_of(mishap: Mishap) -> Fault {
    match mishap {
        Mishap::Error(code) => Fault::error(code),
        Mishap::Delay(time) => Fault::delay(time),
        Mishap::DelayAnswer(time) => Fault::delay_answer(time),
        Mishap::Close => Fault::close(),
        Mishap::LoseAnswer => Fault::lose_answer(),
        Mishap::SwallowAnswer => Fault::swallow_answer(),
        Mishap::Stall => Fault::stall(),
        Mishap::Cut(bytes) => Fault::cut(bytes),
        Mishap::WrongCorrelationId => Fault::wrong_correlation_id(),
        Mishap::Throttle(time) => Fault::throttle(time),
        Mishap::StaleMetadata => Fault::stale_metadata(),
    }
}
