//! Members of groups: who has what, and that nothing is read twice, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena::assignor::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use milena::{
    Client, Consumer, ConsumerBuilder, ConsumerHandle, ErrorKind, GroupProtocol, NewTopic, OffsetReset, RebalanceEvent,
    RebalanceListener, Rebalancing, Record, TopicPartition,
};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, eventually, fresh};

const SECOND: Duration = Duration::from_secs(1);

/// How members agree: a protocol, and its strategy.
#[derive(Clone)]
pub enum Way {
    Classic(Vec<Arc<dyn Assignor>>),
    /// By KIP-848.
    Broker(&'static str),
}

impl Way {
    fn cooperative() -> Self {
        Self::Classic(vec![Arc::new(CooperativeSticky)])
    }

    /// Those that hand over only what moves.
    fn incremental(cluster: &Cluster) -> Vec<Self> {
        let mut ways = vec![Self::cooperative()];
        if has_broker_side_groups(cluster) {
            ways.push(Self::Broker("uniform"));
        }
        ways
    }

    /// All that this cluster knows.
    fn all(cluster: &Cluster) -> Vec<Self> {
        let mut ways = vec![
            Self::Classic(vec![Arc::new(Range), Arc::new(CooperativeSticky)]),
            Self::Classic(vec![Arc::new(RoundRobin)]),
            Self::Classic(vec![Arc::new(Sticky)]),
        ];
        ways.extend(Self::incremental(cluster));
        if has_broker_side_groups(cluster) {
            ways.push(Self::Broker("range"));
        }
        ways
    }
}

pub fn has_broker_side_groups(cluster: &Cluster) -> bool {
    let version = std::env::var("KAFKA_VERSION").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    cluster.real.is_none() || major.is_some_and(|major| major >= 4)
}

pub fn member(client: &Client, group: &str, topic: &str, way: &Way) -> ConsumerBuilder {
    let builder = client.consumer().group(group).subscribe([topic]).auto_offset_reset(OffsetReset::Earliest);
    match way {
        Way::Classic(strategy) => builder
            .heartbeat_interval(SECOND / 5)
            .session_timeout(6 * SECOND)
            .partition_assignment_strategy(strategy.iter().cloned()),
        Way::Broker(strategy) => builder.group_protocol(GroupProtocol::Consumer).group_remote_assignor(*strategy),
    }
}

/// What was read, in order: partition, offset and when.
pub type Seen = Arc<Mutex<Vec<(i32, i64, Instant)>>>;

/// Reads until it is told to stop, and leaves.
pub struct Reader {
    pub handle: ConsumerHandle,
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Consumer>,
}

impl Reader {
    pub fn start(mut consumer: Consumer, seen: &Seen) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (handle, seen) = (consumer.handle(), Arc::clone(seen));
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    _ = &mut stopped => return consumer,
                    record = consumer.recv() => {
                        let record = record.unwrap();
                        seen.lock().unwrap().push((record.partition(), record.offset(), Instant::now()));
                    }
                }
            }
        });
        Self { handle, stop, task }
    }

    async fn stop(self) -> Consumer {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }

    pub async fn leave(self) {
        self.stop().await.close().await.unwrap();
    }

    pub async fn has(&self, count: usize) {
        eventually("the share", async || (self.handle.assignment().len() == count).then_some(())).await;
    }
}

/// Writes to each of six partitions, one record every so often, until it is told to stop. How many to each.
pub fn write(client: &Client, topic: &str) -> (tokio::sync::oneshot::Sender<()>, JoinHandle<i64>) {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let (producer, topic) = (client.producer().build().unwrap(), topic.to_owned());
    let task = tokio::spawn(async move {
        for n in 0.. {
            for partition in 0..6 {
                producer.enqueue(Record::to(&*topic).partition(partition).value(n.to_string())).await.unwrap();
            }
            if stopped.try_recv().is_ok() {
                producer.flush().await;
                return n + 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        0
    });
    (stop, task)
}

/// Each record once, in order within its partition.
fn check(seen: &Seen, count: i64) {
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset, _) in seen.lock().unwrap().iter() {
        let expected = next.entry(*partition).or_default();
        assert_eq!(offset, expected, "partition {partition}");
        *expected += 1;
    }
    assert_eq!(next, (0..6).map(|partition| (partition, count)).collect());
}

async fn until_all_is_read(seen: &Seen, count: i64) {
    eventually("everything is read", async || (seen.lock().unwrap().len() as i64 >= 6 * count).then_some(())).await;
}

pub async fn members_share_and_nothing_is_read_twice(cluster: Cluster) {
    let client = cluster.client().await;
    for way in Way::all(&cluster) {
        let (topic, group, seen) = (cluster.topic(&client, 6).await, fresh("g"), Seen::default());
        let join = || Reader::start(member(&client, &group, &topic, &way).build().unwrap(), &seen);
        let (stop, writing) = write(&client, &topic);
        let first = join();
        first.has(6).await;
        let second = join();
        second.has(3).await;
        let third = join();
        third.has(2).await;
        first.leave().await;
        second.has(3).await;
        let fourth = join();
        fourth.has(2).await;
        third.leave().await;
        second.leave().await;
        fourth.has(6).await;
        stop.send(()).unwrap();
        let count = writing.await.unwrap();
        until_all_is_read(&seen, count).await;
        fourth.leave().await;
        check(&seen, count);
        let committed = client.consumer().group(group.as_str()).build().unwrap();
        let committed = committed.committed((0..6).map(|p| TopicPartition::new(topic.as_str(), p))).await.unwrap();
        assert!(committed.len() == 6 && committed.values().all(|at| at.offset == count), "{committed:?}");
    }
}

/// While others join and leave, what does not move is read on, beside a commit every 100 ms.
pub async fn partitions_that_stay_flow_on(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        partitions_flow_on(&cluster, way).await;
    }
}

async fn partitions_flow_on(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group, seen) = (cluster.topic(&client, 6).await, fresh("g"), Seen::default());
    let join = |seen| Reader::start(member(&client, &group, &topic, &way).build().unwrap(), seen);
    let (stop, writing) = write(&client, &topic);
    let stays = join(&seen);
    stays.has(6).await;
    let handle = stays.handle.clone();
    let committing = tokio::spawn(async move {
        loop {
            // What goes back meanwhile is not this member's to commit.
            match handle.commit().await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotOwned => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let others = Seen::default();
    let started = Instant::now();
    let mut moved = BTreeSet::new();
    for _ in 0..6 {
        let other = join(&others);
        other.has(3).await;
        // It may leave before it has read anything of them.
        moved.extend(other.handle.assignment().into_iter().map(|tp| tp.partition));
        other.leave().await;
        stays.has(6).await;
    }
    let ended = Instant::now();
    committing.abort();
    assert!(committing.await.unwrap_err().is_cancelled());
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    eventually("everything is read", async || {
        (seen.lock().unwrap().len() as i64 + others.lock().unwrap().len() as i64 >= 6 * count).then_some(())
    })
    .await;
    stays.leave().await;
    // Partitions that it kept all the time.
    assert!(others.lock().unwrap().iter().all(|(partition, ..)| moved.contains(partition)));
    let mut gaps = Vec::new();
    for partition in (0..6).filter(|partition| !moved.contains(partition)) {
        let seen = seen.lock().unwrap();
        let times =
            seen.iter().filter(|(p, _, at)| *p == partition && *at > started && *at < ended).map(|(.., at)| *at);
        let times: Vec<_> = times.collect();
        gaps.extend(times.windows(2).map(|pair| pair[1] - pair[0]));
    }
    gaps.sort_unstable();
    let worst = gaps.last().copied().unwrap_or_default();
    println!("12 rebalances: of {} gaps the longest are {:?}", gaps.len(), &gaps[gaps.len().saturating_sub(3)..]);
    assert!(gaps.len() > 100 && worst < SECOND, "{} gaps, {worst:?}", gaps.len());
    let mut all: Vec<_> =
        seen.lock().unwrap().iter().chain(&*others.lock().unwrap()).map(|(p, o, _)| (*p, *o)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..6).flat_map(|p| (0..count).map(move |offset| (p, offset))).collect::<Vec<_>>());
}

/// Its runtime ends under it, as by a kill: others have its partitions when its session is over.
pub async fn a_member_that_dies_is_replaced(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        a_member_dies(&cluster, way).await;
    }
}

async fn a_member_dies(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group, seen) = (cluster.topic(&client, 6).await, fresh("g"), Seen::default());
    let (stop, writing) = write(&client, &topic);
    let survivor = Reader::start(member(&client, &group, &topic, &way).build().unwrap(), &seen);
    survivor.has(6).await;
    let (bootstrap, died) = (cluster.bootstrap.clone(), Seen::default());
    let (dying, has_died) = (Arc::clone(&died), tokio::sync::oneshot::channel());
    let (topic_too, group_too) = (topic.clone(), group.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::builder(&bootstrap).connect().await.unwrap();
            let builder = member(&client, &group_too, &topic_too, &way).auto_commit_interval(SECOND / 10);
            let reader = Reader::start(builder.build().unwrap(), &dying);
            reader.has(3).await;
            tokio::time::sleep(SECOND).await;
            std::mem::forget(reader);
        });
        runtime.shutdown_background();
        has_died.0.send(()).unwrap();
    });
    has_died.1.await.unwrap();
    let started = Instant::now();
    survivor.has(6).await;
    println!("taken over {:?} after the death", started.elapsed());
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    let all = || {
        let mut all: Vec<_> =
            seen.lock().unwrap().iter().chain(&*died.lock().unwrap()).map(|(p, o, _)| (*p, *o)).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    eventually("everything is read", async || (all().len() as i64 >= 6 * count).then_some(())).await;
    survivor.leave().await;
    assert_eq!(all(), (0..6).flat_map(|p| (0..count).map(move |offset| (p, offset))).collect::<Vec<_>>());
}

struct Teller(Arc<Mutex<Vec<String>>>);

impl RebalanceListener for Teller {
    fn assigned<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Box::pin(async move {
            for partition in partitions {
                consumer.seek(partition, 5).unwrap();
            }
            self.0.lock().unwrap().push(format!("assigned {}", partitions.len()));
        })
    }

    fn revoked<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Box::pin(async move {
            let offsets = partitions.iter().map(|tp| (tp.clone(), milena::OffsetAndMetadata::new(7).metadata("bye")));
            consumer.commit_offsets(offsets).await.unwrap();
            self.0.lock().unwrap().push(format!("revoked {}", partitions.len()));
        })
    }
}

pub async fn a_listener_commits_and_seeks(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        a_listener(&cluster, way).await;
    }
}

async fn a_listener(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 2).await, fresh("g"));
    let producer = client.producer().build().unwrap();
    for n in 0..40 {
        producer.send(Record::to(&topic).partition(n % 2).value("x")).await.unwrap();
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let builder = member(&client, &group, &topic, &way);
    let consumer = builder.rebalance_listener(Teller(Arc::clone(&told))).build().unwrap();
    let mut events = consumer.rebalance_events().unwrap();
    let seen = Seen::default();
    let first = Reader::start(consumer, &seen);
    eventually("all are read", async || (seen.lock().unwrap().len() == 30).then_some(())).await;
    assert!(seen.lock().unwrap().iter().all(|(_, offset, _)| *offset >= 5));
    let others = Seen::default();
    let builder = member(&client, &group, &topic, &way);
    let second = Reader::start(builder.build().unwrap(), &others);
    eventually("the rest is read", async || (others.lock().unwrap().len() == 13).then_some(())).await;
    assert!(others.lock().unwrap().iter().all(|(_, offset, _)| *offset >= 7));
    first.leave().await;
    second.has(2).await;
    let committed = second.handle.committed([(topic.as_str(), 0), (topic.as_str(), 1)]).await.unwrap();
    assert!(committed.values().any(|at| &*at.metadata == "bye" && at.offset == 7), "{committed:?}");
    second.leave().await;
    let mut told = told.lock().unwrap().clone();
    let mut kinds = Vec::new();
    while let Some(event) = events.next().await {
        kinds.push(match event {
            RebalanceEvent::Assigned(partitions) => format!("assigned {}", partitions.len()),
            RebalanceEvent::Revoked(partitions) => format!("revoked {}", partitions.len()),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(kinds, told);
    // The classic protocol ends each of its rounds by saying what it brought.
    told.retain(|what| what != "assigned 0");
    assert_eq!(told, ["assigned 2", "revoked 1", "revoked 1"]);
}

pub async fn what_is_dealt_with_is_committed(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        dealt_with(&cluster, way).await;
    }
}

async fn dealt_with(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 1).await, fresh("g"));
    let producer = client.producer().build().unwrap();
    for _ in 0..10 {
        producer.send(Record::to(&topic).value("x")).await.unwrap();
    }
    let tp = TopicPartition::new(topic.as_str(), 0);
    let mut consumer = member(&client, &group, &topic, &way).auto_commit_interval(SECOND / 5).build().unwrap();
    let handle = consumer.handle();
    let committed = async || handle.committed([tp.clone()]).await.unwrap().get(&tp).map(|at| at.offset);
    for offset in 0..5 {
        assert_eq!(consumer.recv().await.unwrap().offset(), offset);
    }
    eventually("the first four are committed", async || (committed().await == Some(4)).then_some(())).await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(committed().await, Some(4), "the fifth is in hand");
    assert_eq!(consumer.recv().await.unwrap().offset(), 5);
    handle.commit().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(committed().await, Some(6), "who commits says that it is dealt with");
    consumer.recv().await.unwrap();
    consumer.close().await.unwrap();
    let mut next = member(&client, &group, &topic, &way).build().unwrap();
    assert_eq!(next.recv().await.unwrap().offset(), 7);
    next.close().await.unwrap();
}

pub async fn a_static_member_comes_back(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        a_static_member(&cluster, way).await;
    }
}

async fn a_static_member(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group, seen) = (cluster.topic(&client, 6).await, fresh("g"), Seen::default());
    let join =
        |id: &str| Reader::start(member(&client, &group, &topic, &way).group_instance_id(id).build().unwrap(), &seen);
    let (stop, writing) = write(&client, &topic);
    let (one, two) = (join("one"), join("two"));
    one.has(3).await;
    two.has(3).await;
    let mut events = two.handle.rebalance_events().unwrap();
    assert_eq!(events.next().await, Some(RebalanceEvent::Assigned(two.handle.assignment())), "as it was before");
    let had = one.handle.assignment();
    one.leave().await;
    let one = join("one");
    one.has(3).await;
    assert_eq!(one.handle.assignment(), had);
    let noticed = tokio::time::timeout(SECOND, events.next()).await;
    assert!(noticed.is_err(), "the other one has noticed: {noticed:?}");
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    until_all_is_read(&seen, count).await;
    one.leave().await;
    two.leave().await;
    check(&seen, count);
}

pub async fn a_pattern_finds_topics_that_come_later(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        a_pattern(&cluster, way).await;
    }
}

async fn a_pattern(cluster: &Cluster, way: Way) {
    let builder = Client::builder(&cluster.bootstrap).client_id("suite").metadata_max_age(SECOND);
    let client = builder.connect().await.unwrap();
    let (prefix, group) = (fresh("p"), fresh("g"));
    let create = async |name: &str| {
        let topic = NewTopic::new(format!("{prefix}.{name}"), 2, cluster.replicas());
        client.admin().create_topics([topic]).await.unwrap();
    };
    create("other").await;
    let builder = member(&client, &group, "", &way).subscribe_pattern(format!("{prefix}[.][a-c]"));
    let consumer = builder.build().unwrap();
    let seen = Seen::default();
    let reader = Reader::start(consumer, &seen);
    // A member also as long as nothing matches.
    let joined = async || reader.handle.group_metadata().filter(|member| member.generation_id > 0);
    let member = eventually("a member of nothing", joined).await;
    assert!(reader.handle.assignment().is_empty());
    create("a").await;
    reader.has(2).await;
    assert_eq!(reader.handle.group_metadata().unwrap().member_id, member.member_id);
    create("b").await;
    reader.has(4).await;
    let producer = client.producer().build().unwrap();
    producer.send(Record::to(format!("{prefix}.b")).partition(1).value("x")).await.unwrap();
    eventually("the new topic is read", async || (seen.lock().unwrap().len() == 1).then_some(())).await;
    reader.leave().await;
}

pub async fn a_member_that_does_not_poll_is_out_and_comes_back(cluster: Cluster) {
    for way in Way::incremental(&cluster) {
        a_member_does_not_poll(&cluster, way).await;
    }
}

async fn a_member_does_not_poll(cluster: &Cluster, way: Way) {
    let client = cluster.client().await;
    let (topic, group) = (cluster.topic(&client, 1).await, fresh("g"));
    let producer = client.producer().build().unwrap();
    for _ in 0..10 {
        producer.send(Record::to(&topic).value("x")).await.unwrap();
    }
    let mut consumer = member(&client, &group, &topic, &way).max_poll_interval(2 * SECOND).build().unwrap();
    let mut events = consumer.rebalance_events().unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset(), 0);
    assert_eq!(consumer.recv().await.unwrap().offset(), 1);
    assert_eq!(events.next().await.unwrap().partitions().len(), 1);
    assert!(matches!(events.next().await, Some(RebalanceEvent::Lost(_))));
    let late = consumer.commit_offsets([((topic.as_str(), 0), 2)]).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotOwned, "{late}");
    let said = consumer.recv().await.unwrap_err();
    assert!(said.to_string().contains("max_poll_interval"), "{said}");
    assert_eq!(consumer.recv().await.unwrap().offset(), 0, "nothing was committed");
    consumer.close().await.unwrap();
}

/// The protocol of KIP-848 where the broker has it, and the classic one where it does not; both can be in one group.
pub async fn the_best_protocol_is_found(cluster: Cluster) {
    let client = cluster.client().await;
    let (topic, group, seen) = (cluster.topic(&client, 6).await, fresh("g"), Seen::default());
    let builder =
        || client.consumer().group(group.as_str()).subscribe([&*topic]).auto_offset_reset(OffsetReset::Earliest);
    let (stop, writing) = write(&client, &topic);
    let first = Reader::start(builder().group_protocol(GroupProtocol::Auto).build().unwrap(), &seen);
    first.has(6).await;
    let member_id = first.handle.group_metadata().unwrap().member_id;
    // One that was chosen here has the form of a UUID, one that the coordinator gave out begins with the client's id.
    assert_eq!(!member_id.starts_with("suite"), has_broker_side_groups(&cluster), "{member_id}");
    // A real broker takes both into one group.
    let other = if cluster.real.is_some() { GroupProtocol::Classic } else { GroupProtocol::Auto };
    let second = Reader::start(builder().group_protocol(other).build().unwrap(), &seen);
    second.has(3).await;
    first.leave().await;
    second.has(6).await;
    stop.send(()).unwrap();
    let count = writing.await.unwrap();
    until_all_is_read(&seen, count).await;
    second.leave().await;
    check(&seen, count);
}
