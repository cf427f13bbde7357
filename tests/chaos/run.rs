//! One run: records go in, somebody reads along, somebody watches who leads, brokers are killed; then all is judged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena::{Client, Consumer, Fate, NewTopic, OffsetReset, Producer, Record, TopicPartition};

use crate::cluster::Cluster;
use crate::judge::{Election, Logs, Outcome, Seen, Sent, Terms, Verdict, judge, judge_other, judge_reader, recoveries};
use crate::proxy::Proxy;
use crate::reader::{number_of, read_along};

pub const PARTITIONS: i32 = 12;
const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a restart once the others have gone on without it.
    Kill,
    /// SIGSTOP, sometimes for too short a time for the cluster to notice.
    Freeze,
    /// Either.
    Both,
    /// Brokers are well, and a proxy harms connections.
    Cut,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub faults: Fault,
    /// Until so many are in, or for so long.
    pub records: usize,
    pub duration: Duration,
    /// Records per second.
    pub rate: u64,
    pub delivery_timeout: Duration,
    pub request_timeout: Duration,
    /// How long a killed broker stays away, and a stopped one does, at least and at most.
    pub away: (Duration, Duration),
    pub frozen: (Duration, Duration),
    /// What is left in peace between a broker's return and the next fault.
    pub rest: Duration,
    pub seed: u64,
    /// All have to be acknowledged.
    pub must_arrive: bool,
    /// Reads the log with kcat as well.
    pub with_kcat: bool,
    /// Where to write what became of each record.
    pub history: Option<String>,
}

pub struct Report {
    pub verdict: Verdict,
    pub faults: usize,
    /// Sorted.
    pub recoveries: Vec<Duration>,
    pub text: String,
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + MS * u32::try_from(self.below(to.saturating_sub(from).as_millis() as u64 + 1)).unwrap_or(0)
    }
}

/// `proxy`: where it stands before the brokers, the clients know of nothing else.
pub async fn run(cluster: Arc<Cluster>, proxy: Option<Arc<Proxy>>, plan: Plan) -> Report {
    let bootstrap = proxy.as_ref().map_or_else(|| cluster.bootstrap(), |proxy| proxy.bootstrap());
    let builder = Client::builder(bootstrap).client_id("chaos").request_timeout(plan.request_timeout);
    let client = builder.connect().await.expect("a cluster");
    let topic: Arc<str> = format!("chaos-{}-{:x}", std::process::id(), plan.seed).into();
    cluster.create_topic(&client, NewTopic::named(&*topic).partitions(PARTITIONS)).await;
    let begin = Instant::now();
    let (is_over, is_quiet) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let is_read = Arc::clone(&is_quiet);
    let reader = tokio::spawn(read_along(reader(&client, &topic), move || is_read.load(Ordering::Relaxed)));
    let elections = Arc::new(Mutex::new(Vec::new()));
    let watches: Vec<_> = watch(&cluster, &topic, begin, &elections, &is_over).await;
    let faults = match proxy {
        Some(proxy) => tokio::spawn(harm(proxy, Arc::clone(&is_over))),
        None => {
            tokio::spawn(cause_faults(Arc::clone(&cluster), plan.clone(), Arc::clone(&topic), Arc::clone(&is_over)))
        }
    };
    let producer = client.producer().delivery_timeout(plan.delivery_timeout).build().expect("a producer");
    let learned = Arc::new(Mutex::new(BTreeMap::new()));
    let learning = tokio::spawn(learn(producer.clone(), Arc::clone(&topic), begin, Arc::clone(&learned)));

    let (mut sent, ends) = produce(&producer, &topic, &plan, begin).await;
    println!("{:>6.1} s  {} records are in", begin.elapsed().as_secs_f64(), sent.len());
    // No more faults, and whatever is still open has its time.
    is_over.store(true, Ordering::Relaxed);
    let faults = faults.await.expect("faults are caused");
    let limit = plan.delivery_timeout + plan.request_timeout;
    let last = Instant::now() + limit;
    while ends.lock().unwrap().len() < sent.len() && Instant::now() < last {
        tokio::time::sleep(100 * MS).await;
    }
    learning.abort();
    producer.close(SECOND).await.expect("nothing is left to be told");
    for watch in watches {
        watch.await.expect("leaders are watched");
    }
    cluster.heal(&client, &topic, 60 * SECOND).await;
    is_quiet.store(true, Ordering::Relaxed);
    let logs = logs_of(&client, &topic).await;
    let total: usize = logs.values().map(Vec::len).sum();
    println!("{:>6.1} s  the logs hold {total} records", begin.elapsed().as_secs_f64());
    // Until then everything could still come; one that never does would be waited for in vain.
    let seen = tokio::time::timeout(90 * SECOND, reader).await.expect("the reader ends").expect("no panic");

    for (number, at, outcome) in std::mem::take(&mut *ends.lock().unwrap()) {
        sent[number].ends.push((at - begin, outcome));
    }
    // What waits for a busy machine's timers is late by that.
    let mut verdict = judge(&sent, &logs, &Terms::within(limit + SECOND));
    judge_reader(&mut verdict, &seen, &logs);
    if let Some(path) = &plan.history {
        std::fs::write(path, history(&sent)).expect("a file for the history");
    }
    if plan.with_kcat {
        judge_other(&mut verdict, "kcat", &kcat(&cluster, &topic).await, &logs);
    }
    if plan.must_arrive && verdict.acknowledged < sent.len() {
        verdict.problems.push(format!("{} of {} were not acknowledged", sent.len() - verdict.acknowledged, sent.len()));
    }
    let mut elections = std::mem::take(&mut *elections.lock().unwrap());
    for election in &mut elections {
        election.learned = learned.lock().unwrap().get(&(election.partition, election.epoch)).copied();
    }
    report(verdict, faults, begin, &sent, &seen, &elections)
}

/// Number, when, how it ended.
type Ends = Arc<Mutex<Vec<(usize, Instant, Outcome)>>>;

/// A record's value is its number, its key one of a thousand.
async fn produce(producer: &Producer, topic: &str, plan: &Plan, begin: Instant) -> (Vec<Sent>, Ends) {
    let ends = Ends::default();
    let mut sent = Vec::new();
    let mut keys = Random(plan.seed ^ 0x6b65_7973);
    while sent.len() < plan.records && begin.elapsed() < plan.duration {
        // What is due by now; a burst after a pause is welcome.
        let due = (begin.elapsed().as_micros() as u64 * plan.rate / 1_000_000) as usize + 1;
        while sent.len() < due.min(plan.records) {
            let number = sent.len();
            let (key, value) = (format!("key {}", keys.below(1000)), number.to_string());
            sent.push(Sent { enqueued: begin.elapsed(), ends: Vec::new() });
            let ends = Arc::clone(&ends);
            let tell = move |outcome| ends.lock().unwrap().push((number, Instant::now(), outcome));
            match producer.enqueue(Record::to(topic).key(&key).value(&value)).await {
                Ok(receipt) => receipt.on_delivery(move |result| {
                    tell(match result {
                        Ok(placed) => Outcome::Acknowledged { partition: placed.partition, offset: placed.offset },
                        Err(error) if error.fate == Fate::NotWritten => Outcome::NotWritten(error.error.to_string()),
                        Err(error) => Outcome::Unknown(error.error.to_string()),
                    });
                }),
                Err(error) => tell(Outcome::NotWritten(error.to_string())),
            }
        }
        tokio::time::sleep(2 * MS).await;
    }
    (sent, ends)
}

/// For as long as records go in. How many connections came to harm.
async fn harm(proxy: Arc<Proxy>, is_over: Arc<AtomicBool>) -> usize {
    proxy.set_harmful(true);
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(100 * MS).await;
    }
    proxy.set_harmful(false);
    println!("the proxy: {:?}", proxy.counts);
    proxy.harms()
}

/// Brokers in turn, for as long as records go in. How many faults there were.
async fn cause_faults(cluster: Arc<Cluster>, plan: Plan, topic: Arc<str>, is_over: Arc<AtomicBool>) -> usize {
    let begin = Instant::now();
    let say = |what: String| println!("{:>6.1} s  {what}", begin.elapsed().as_secs_f64());
    // Its own: what it asks must not tell the producer's client anything.
    let client = Client::builder(cluster.bootstrap()).client_id("chaos-faults").connect().await.expect("a cluster");
    let mut random = Random(plan.seed);
    let mut faults = 0;
    tokio::time::sleep(2 * SECOND).await;
    let start = random.below(3) as usize;
    for broker in [1, 2, 3].into_iter().cycle().skip(start) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let is_killed = match plan.faults {
            Fault::Kill => true,
            Fault::Freeze | Fault::Cut => false,
            Fault::Both => random.below(2) == 0,
        };
        faults += 1;
        if is_killed {
            say(format!("broker {broker} is killed"));
            cluster.kill(broker).await;
            tokio::time::sleep(random.between(plan.away.0, plan.away.1)).await;
            say(format!("broker {broker} is started"));
            cluster.restart(broker).await;
        } else {
            let pause = random.between(plan.frozen.0, plan.frozen.1);
            say(format!("broker {broker} stops for {pause:?}"));
            cluster.freeze(broker).await;
            tokio::time::sleep(pause).await;
            cluster.thaw(broker).await;
        }
        // Two copies missing at once would be an outage for everybody.
        if !cluster.heal(&client, &topic, 120 * SECOND).await {
            say(format!("broker {broker} is back, and its copies are not in sync"));
        }
        tokio::time::sleep(random.between(plan.rest / 2, plan.rest)).await;
    }
    faults
}

/// Asks each broker who leads, on connections of their own.
async fn watch(
    cluster: &Cluster,
    topic: &Arc<str>,
    begin: Instant,
    elections: &Arc<Mutex<Vec<Election>>>,
    is_over: &Arc<AtomicBool>,
) -> Vec<tokio::task::JoinHandle<()>> {
    // Per partition: the newest epoch, and when somebody last said so.
    let known: Arc<Mutex<BTreeMap<i32, (i32, Duration)>>> = Arc::default();
    let mut watches = Vec::new();
    for _ in 0..3 {
        let builder = Client::builder(cluster.bootstrap()).client_id("chaos-watch").request_timeout(500 * MS);
        let client = builder.connect().await.expect("a cluster");
        let (topic, elections, known, is_over) =
            (Arc::clone(topic), Arc::clone(elections), Arc::clone(&known), Arc::clone(is_over));
        watches.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let asked = begin.elapsed();
                let asking = client.admin().describe_topics([&*topic]).timeout(SECOND);
                if let Ok(topics) = asking.await {
                    let seen = begin.elapsed();
                    let mut known = known.lock().unwrap();
                    for told in topics.iter().flat_map(|topic| &topic.partitions) {
                        let (Some(_), Some(epoch)) = (told.leader, told.leader_epoch) else { continue };
                        match known.get_mut(&told.index) {
                            Some((newest, last)) if *newest == epoch => *last = asked.max(*last),
                            Some((newest, last)) if *newest < epoch => {
                                let (partition, learned) = (told.index, None);
                                let election = Election { partition, epoch, after: *last, seen, learned };
                                (*newest, *last) = (epoch, asked);
                                elections.lock().unwrap().push(election);
                            }
                            Some(_) => {}
                            None => drop(known.insert(told.index, (epoch, asked))),
                        }
                    }
                }
                tokio::time::sleep(20 * MS).await;
            }
        }));
    }
    watches
}

/// When the producer's own client learned of each leader: it is told what it knows, and asks nobody.
async fn learn(
    producer: Producer,
    topic: Arc<str>,
    begin: Instant,
    learned: Arc<Mutex<BTreeMap<(i32, i32), Duration>>>,
) {
    loop {
        if let Ok(partitions) = producer.partitions_for(Arc::clone(&topic)).await {
            let now = begin.elapsed();
            let mut learned = learned.lock().unwrap();
            for (index, epoch) in partitions.iter().filter_map(|p| Some((p.index, p.leader_epoch?))) {
                learned.entry((index, epoch)).or_insert(now);
            }
        }
        tokio::time::sleep(5 * MS).await;
    }
}

fn reader(client: &Client, topic: &str) -> Consumer {
    let consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().expect("a consumer");
    consumer.assign((0..PARTITIONS).map(|partition| TopicPartition::new(topic, partition))).expect("partitions");
    consumer
}

/// What is in the log when all is quiet.
async fn logs_of(client: &Client, topic: &str) -> Logs {
    let mut consumer = reader(client, topic);
    let mut logs: Logs = (0..PARTITIONS).map(|partition| (partition, Vec::new())).collect();
    consumer.stop_at_end().await.expect("ends");
    while let Some(batch) = consumer.poll().await.expect("a log that can be read") {
        for record in batch {
            let log = logs.entry(record.partition()).or_default();
            assert_eq!(record.offset(), log.len() as i64, "partition {}", record.partition());
            log.push(number_of(record.value()));
        }
    }
    logs
}

/// The same by another client, librdkafka's.
async fn kcat(cluster: &Cluster, topic: &str) -> Logs {
    let bootstrap = cluster.bootstrap().join(",");
    let arguments = ["-C", "-q", "-b", &bootstrap, "-t", topic, "-o", "beginning", "-e", "-f", "%p %o %s\n"];
    let run = tokio::process::Command::new("kcat").args(arguments).stdin(Stdio::null()).output();
    let output = run.await.expect("kcat can be run");
    assert!(output.status.success(), "kcat: {}", String::from_utf8_lossy(&output.stderr));
    let mut logs = Logs::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut numbers = line.split(' ');
        let (partition, offset) = (numbers.next(), numbers.next());
        let (Some(Ok(partition)), Some(Ok(offset))) = (partition.map(str::parse), offset.map(str::parse::<usize>))
        else {
            panic!("kcat printed {line:?}");
        };
        let log = logs.entry(partition).or_default();
        assert_eq!(offset, log.len(), "kcat, partition {partition}");
        log.push(number_of(numbers.next().map(str::as_bytes)));
    }
    logs
}

/// A line for each record: number, milliseconds of its enqueueing and end, what it was told.
fn history(sent: &[Sent]) -> String {
    let mut text = String::new();
    for (number, Sent { enqueued, ends }) in sent.iter().enumerate() {
        for (at, outcome) in ends {
            let told = match outcome {
                Outcome::Acknowledged { partition, offset } => {
                    format!("acknowledged\t{partition}\t{}", offset.map_or_else(|| "?".into(), |o| o.to_string()))
                }
                Outcome::NotWritten(why) => format!("not written\t{why}"),
                Outcome::Unknown(why) => format!("unknown\t{why}"),
            };
            writeln!(text, "{number}\t{}\t{}\t{told}", enqueued.as_millis(), at.as_millis()).unwrap();
        }
    }
    text
}

fn report(
    verdict: Verdict,
    faults: usize,
    begin: Instant,
    sent: &[Sent],
    seen: &[Seen],
    elections: &[Election],
) -> Report {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<34} {value}").unwrap();
    line("records enqueued, seconds", format!("{}, {:.0}", sent.len(), begin.elapsed().as_secs_f64()));
    line("faults, elections seen", format!("{faults}, {}", elections.len()));
    line("acknowledged", verdict.acknowledged.to_string());
    let Verdict { lost, duplicated, reordered, .. } = verdict;
    line("lost / duplicated / reordered", format!("{lost} / {duplicated} / {reordered}"));
    line("not written / falsely said so", format!("{} / {}", verdict.not_written, verdict.falsely_absent));
    line("unknown / of these in the log", format!("{} / {}", verdict.unknown, verdict.unknown_in_log));
    let Verdict { unresolved, resolved_twice, late, .. } = verdict;
    line("unresolved / told twice / late", format!("{unresolved} / {resolved_twice} / {late}"));
    let longest = sent.iter().filter_map(|sent| Some(sent.ends.first()?.0 - sent.enqueued)).max();
    line("longest time to an end", format!("{:?}", longest.unwrap_or_default()));
    let Verdict { skipped, seen_again, events, .. } = verdict;
    let read = seen.iter().filter(|seen| matches!(seen, Seen::Record { .. })).count();
    line("read along / skipped / again", format!("{read} / {skipped} / {seen_again}; {events} events"));
    line("strange", verdict.strange.to_string());
    // What an answer may have missed between two questions.
    let mut found = recoveries(sent, elections);
    found.sort_by_key(|(_, took)| *took);
    if let Some((worst, took)) = found.last() {
        let middle = &found[found.len() / 2];
        let blur = |election: &Election| election.seen.saturating_sub(election.after);
        let told = |(election, took): &(Election, Duration)| {
            let Election { partition, epoch, .. } = election;
            format!("{took:?} (seen within {:?}; partition {partition}, epoch {epoch})", blur(election))
        };
        line("election to first acknowledgement", format!("median {}", told(middle)));
        line("", format!("worst {}", told(&(worst.clone(), *took))));
        line("", format!("of {} elections, counted from when the old leader was last seen", found.len()));
        let knew = |(election, _): &(Election, Duration)| Some(election.learned?.saturating_sub(election.after));
        let mut knew: Vec<_> = found.iter().filter_map(knew).collect();
        knew.sort_unstable();
        if let (Some(middle), Some(worst)) = (knew.get(knew.len() / 2), knew.last()) {
            line("of that until the client knew", format!("median {middle:?}, worst {worst:?}"));
        }
    }
    for seen in seen.iter().filter(|seen| matches!(seen, Seen::Event { .. })).take(10) {
        line("the reader's", format!("{seen:?}"));
    }
    for problem in &verdict.problems {
        line("PROBLEM", problem.clone());
    }
    let recoveries = found.into_iter().map(|(_, took)| took).collect();
    Report { verdict, faults, recoveries, text }
}
