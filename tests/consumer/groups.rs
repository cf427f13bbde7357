//! Members of a group, on the mock, in virtual time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::assignor::{Assignor, CooperativeSticky, Range, RoundRobin};
use milena::mock::{Api, Fault, MockCluster, When};
use milena::{
    Client, Consumer, ConsumerBuilder, ConsumerHandle, ErrorKind, GroupMembership, GroupProtocol, OffsetReset,
    Position, RebalanceEvent, RebalanceListener, Rebalancing, TopicPartition,
};
use tokio::time::{sleep, timeout};

use crate::rig::{SECOND, all, client, cluster, come_and_go, error, fill, silent, tp, until_it_has, within};

/// A member of group `g` that reads topic `t` from the beginning.
fn member(client: &Client) -> ConsumerBuilder {
    client.consumer().group("g").subscribe(["t"]).auto_offset_reset(OffsetReset::Earliest)
}

async fn next(consumer: &mut Consumer) -> (TopicPartition, i64) {
    let record = within(20 * SECOND, consumer.recv()).await.unwrap();
    (record.topic_partition(), record.offset())
}

fn parts(partitions: &[i32]) -> Vec<TopicPartition> {
    partitions.iter().copied().map(tp).collect()
}

#[tokio::test(start_paused = true)]
async fn a_member_alone_has_everything_and_commits_when_it_leaves() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    fill(&cluster, 30).await;
    let mut consumer = member(&client(&cluster).await).build().unwrap();
    for _ in 0..30 {
        next(&mut consumer).await;
    }
    assert_eq!(consumer.assignment(), parts(&[0, 1, 2]));
    assert_eq!(consumer.subscription(), ["t".into()]);
    let metrics = consumer.metrics();
    assert_eq!((metrics.rebalances, metrics.memberships_lost, metrics.rebalance_latency.count), (1, 0, 1));
    sleep(SECOND).await;
    assert_eq!(consumer.metrics().last_rebalance, metrics.last_rebalance.map(|ago| ago + SECOND));
    let metadata = consumer.group_metadata().unwrap();
    assert!(metadata.generation_id == 1 && !metadata.member_id.is_empty(), "{metadata:?}");
    consumer.close().await.unwrap();
    assert_eq!((0..3).map(|p| cluster.committed("g", "t", p)).collect::<Vec<_>>(), [Some(10), Some(10), Some(10)]);
    assert!(cluster.requests().iter().any(|request| request.api == Api::LeaveGroup));
    // The next one goes on there.
    fill(&cluster, 3).await;
    let mut consumer = member(&client(&cluster).await).build().unwrap();
    let mut offsets = BTreeSet::new();
    for _ in 0..3 {
        offsets.insert(next(&mut consumer).await);
    }
    assert_eq!(offsets, all(3).map(|tp| (tp, 10)).collect());
    consumer.close().await.unwrap();
    assert!(cluster.violations().is_empty());
}

/// What two members agree on by each strategy: shares that add up, and everything read once over joins and leaves.
#[tokio::test(start_paused = true)]
async fn members_share_and_nothing_is_read_twice_when_they_come_and_go() {
    let strategies: [Vec<Arc<dyn Assignor>>; 3] = [
        vec![Arc::new(Range), Arc::new(CooperativeSticky)],
        vec![Arc::new(CooperativeSticky)],
        vec![Arc::new(RoundRobin)],
    ];
    for strategy in strategies {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 6);
        let with = |client: &Client| member(client).partition_assignment_strategy(strategy.clone());
        let stays = [(0, 40), (3, 12), (6, 25), (14, 60)];
        come_and_go(&cluster, with, 6_000, Duration::from_millis(5), &stays, async {}).await;
    }
}

/// A rebalance waits for the caller, who has a record in hand; when it is back, not one more of what it gives away comes.
#[tokio::test(start_paused = true)]
async fn what_is_in_hand_is_dealt_with_before_it_goes_to_others() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let mut first = member(&client).build().unwrap();
    let in_hand = within(20 * SECOND, first.recv()).await.unwrap();
    let mut second = member(&client).build().unwrap();
    silent(60 * SECOND, &mut second).await;
    assert_eq!((first.assignment().len(), second.assignment().len()), (2, 0));
    let handle = first.handle();
    let reading = tokio::spawn(async move {
        let record = first.recv().await.unwrap();
        (first, record.topic_partition(), record.offset())
    });
    let (tp, offset) = next(&mut second).await;
    let (mut first, own, at) = reading.await.unwrap();
    assert_eq!((handle.assignment(), second.assignment()), (vec![own.clone()], vec![tp.clone()]));
    // Each goes on where the other, or itself, has left off; what was in hand is not read again.
    let behind =
        |partition: &TopicPartition| if *partition == in_hand.topic_partition() { in_hand.offset() + 1 } else { 0 };
    assert_eq!((at, offset), (behind(&own), behind(&tp)));
    for expected in at + 1..20 {
        assert_eq!(next(&mut first).await, (own.clone(), expected));
    }
    for expected in offset + 1..20 {
        assert_eq!(next(&mut second).await, (tp.clone(), expected));
    }
}

/// The same for a batch that is lent: it can be read to its end before the caller comes back.
#[tokio::test(start_paused = true)]
async fn a_batch_that_is_lent_is_dealt_with_and_a_lost_one_ends() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let builder = member(&client).max_poll_interval(30 * SECOND).session_timeout(10 * SECOND);
    let mut first = builder.build().unwrap();
    let handle = first.handle();
    let mut batch = within(20 * SECOND, first.poll()).await.unwrap().unwrap();
    assert_eq!(batch.next().unwrap().offset(), 0);
    let _second = member(&client).build().unwrap();
    sleep(15 * SECOND).await;
    assert_eq!(batch.by_ref().take(9).map(|record| record.offset()).collect::<Vec<_>>(), (1..10).collect::<Vec<_>>());
    assert_eq!(handle.assignment().len(), 1);
    // For too long: it is another's, and not one more record of it is yielded.
    sleep(25 * SECOND).await;
    assert!(batch.next().is_none());
    assert!(handle.assignment().is_empty());
    let refused = handle.commit_offsets([(tp(0), 10)]).await.unwrap_err();
    assert_eq!((refused.kind(), refused.topic_partition()), (ErrorKind::NotOwned, Some(&tp(0))));
    assert_eq!(refused.not_committed().len(), 1);
    assert_eq!(cluster.committed("g", "t", 0), Some(0), "where it began");
    // It says why, and is back.
    // Once by the rebalance, which it missed, and once more because it did not poll then either.
    assert_eq!(handle.metrics().memberships_lost, 2);
    let late = [error(SECOND, &mut first).await, error(SECOND, &mut first).await].map(|error| error.to_string());
    assert!(late[0].starts_with("a rebalance") && late[1].starts_with("no poll"), "{late:?}");
    drop(_second);
    assert_eq!(next(&mut first).await, (tp(0), 0));
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, entry: String) {
        self.0.lock().unwrap().push(entry);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Writes down what it is told; begins at offset 5, and commits 7 with a word when it gives something back.
struct Teller(Log);

impl RebalanceListener for Teller {
    fn assigned<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Box::pin(async move {
            self.0.push(format!("assigned {partitions:?}"));
            sleep(SECOND / 5).await;
            for partition in partitions {
                assert_eq!(consumer.position(partition), None, "nothing was looked for yet");
                consumer.seek(partition, 5).unwrap();
            }
            self.0.push("done".into());
        })
    }

    fn revoked<'a>(&'a self, consumer: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        Box::pin(async move {
            self.0.push(format!("revoked {partitions:?}, {} left", consumer.assignment().len()));
            sleep(SECOND / 5).await;
            let offsets = partitions.iter().map(|tp| (tp.clone(), milena::OffsetAndMetadata::new(7).metadata("bye")));
            consumer.commit_offsets(offsets).await.unwrap();
            self.0.push("done".into());
        })
    }

    fn lost<'a>(&'a self, _: &'a ConsumerHandle, partitions: &'a [TopicPartition]) -> Rebalancing<'a> {
        self.0.push(format!("lost {partitions:?}"));
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_seeks_commits_and_is_told_one_thing_at_a_time() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let log = Log::default();
    let strategy = || [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
    let builder = member(&client).partition_assignment_strategy(strategy());
    let mut first = builder.rebalance_listener(Teller(log.clone())).build().unwrap();
    let mut events = first.rebalance_events().unwrap();
    assert_eq!(next(&mut first).await.1, 5);
    assert_eq!(log.take(), ["assigned [t-0, t-1]", "done"]);
    let mut second = member(&client).partition_assignment_strategy(strategy()).auto_commit(false).build().unwrap();
    let reading = tokio::spawn(async move {
        until_it_has(&mut first, 1).await;
        sleep(SECOND * 5).await;
        first
    });
    // The listener's word is the last: it came after auto-commit's.
    assert_eq!(next(&mut second).await, (tp(1), 7));
    let first = reading.await.unwrap();
    // Two rebalances: one that takes it away, and one that gives it to the other.
    let quiet = ["assigned []", "done", "assigned []", "done"];
    assert_eq!(log.take(), [&["revoked [t-1], 1 left", "done"], &quiet[..]].concat());
    let committed = first.committed([tp(1)]).await.unwrap();
    assert_eq!((committed[&tp(1)].offset, &*committed[&tp(1)].metadata), (7, "bye"));
    first.close().await.unwrap();
    assert_eq!(log.take(), ["revoked [t-0], 0 left", "done"]);
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event);
    }
    let expected = [
        RebalanceEvent::Assigned(parts(&[0, 1])),
        RebalanceEvent::Revoked(parts(&[1])),
        RebalanceEvent::Assigned(parts(&[])),
        RebalanceEvent::Assigned(parts(&[])),
        RebalanceEvent::Revoked(parts(&[0])),
    ];
    assert_eq!(told, expected);
    // A consumer that is dropped has lost what it had, and leaves all the same.
    let dropped = member(&client).rebalance_listener(Teller(log.clone())).partition_assignment_strategy(strategy());
    let mut dropped = dropped.build().unwrap();
    let reading = tokio::spawn(async move {
        until_it_has(&mut second, 1).await;
        second
    });
    until_it_has(&mut dropped, 1).await;
    let mut second = reading.await.unwrap();
    log.take();
    let leaves = || cluster.requests().iter().filter(|request| request.api == Api::LeaveGroup).count();
    let before = leaves();
    drop(dropped);
    timeout(10 * SECOND, until_it_has(&mut second, 2)).await.unwrap();
    assert_eq!((log.take().len(), leaves()), (1, before + 1));
}

/// What is committed without being asked for: what was handed out before the last call, at the interval.
#[tokio::test(start_paused = true)]
async fn auto_commit_leaves_out_what_is_in_hand() {
    for assigns in [true, false] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        fill(&cluster, 40).await;
        let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = if assigns { builder } else { builder.subscribe(["t"]) }.build().unwrap();
        if assigns {
            consumer.assign(all(1)).unwrap();
        }
        for offset in 0..3 {
            assert_eq!(next(&mut consumer).await, (tp(0), offset));
        }
        assert_eq!(cluster.committed("g", "t", 0), None);
        sleep(6 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(2));
        let mut batch = consumer.poll_max(10).await.unwrap().unwrap();
        assert_eq!(batch.by_ref().take(5).count(), 5);
        sleep(6 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(3), "the batch is in hand");
        assert_eq!(batch.count(), 5);
        // Nothing is committed that was committed before.
        let commits = || cluster.requests().iter().filter(|request| request.api == Api::OffsetCommit).count();
        let before = commits();
        sleep(60 * SECOND).await;
        assert_eq!(commits(), before);
        assert_eq!(next(&mut consumer).await, (tp(0), 13));
        sleep(6 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(13));
        // A commit that was asked for is not taken back.
        consumer.commit().await.unwrap();
        sleep(11 * SECOND).await;
        assert_eq!(cluster.committed("g", "t", 0), Some(14));
        assert_eq!(next(&mut consumer).await, (tp(0), 14));
        consumer.close().await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0), Some(15), "closing says that it is dealt with");
    }
    // Off, it is off.
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 5).await;
    let mut consumer = member(&client(&cluster).await).auto_commit(false).build().unwrap();
    assert_eq!(next(&mut consumer).await, (tp(0), 0));
    assert_eq!(next(&mut consumer).await, (tp(0), 1));
    sleep(20 * SECOND).await;
    consumer.close().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), None);
}

/// Auto-commit goes where reading goes, also back, as Java's does. What was committed by hand since then it does not undo.
#[tokio::test(start_paused = true)]
async fn auto_commit_follows_a_seek() {
    for assigns in [true, false] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        fill(&cluster, 40).await;
        let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
        let builder = if assigns { builder } else { builder.subscribe(["t"]) };
        let mut consumer = builder.build().unwrap();
        if assigns {
            consumer.assign(all(1)).unwrap();
        }
        let committed = async || {
            sleep(6 * SECOND).await;
            cluster.committed("g", "t", 0)
        };
        for offset in 0..10 {
            assert_eq!(next(&mut consumer).await, (tp(0), offset));
        }
        assert_eq!(committed().await, Some(9));
        consumer.seek(&tp(0), 3).unwrap();
        assert_eq!(committed().await, Some(3));
        for offset in 3..6 {
            assert_eq!(next(&mut consumer).await, (tp(0), offset));
        }
        assert_eq!(committed().await, Some(5), "the last one is in hand");
        consumer.commit().await.unwrap();
        assert_eq!(committed().await, Some(6));
        consumer.seek(&tp(0), 30).unwrap();
        assert_eq!(next(&mut consumer).await, (tp(0), 30));
        assert_eq!(committed().await, Some(30));
        consumer.seek(&tp(0), Position::Beginning).unwrap();
        assert_eq!(committed().await, Some(0));
        assert_eq!(next(&mut consumer).await, (tp(0), 0));
        consumer.close().await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0), Some(1));
        assert!(cluster.violations().is_empty());
    }
}

/// What was committed of the old topic is nothing to the new one.
#[tokio::test(start_paused = true)]
async fn auto_commit_begins_anew_with_a_topic_that_is_made_again() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 40).await;
    let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(1)).unwrap();
    for offset in 0..30 {
        assert_eq!(next(&mut consumer).await, (tp(0), offset));
    }
    sleep(6 * SECOND).await;
    assert_eq!(cluster.committed("g", "t", 0), Some(29));
    cluster.delete_topic("t");
    cluster.create_topic("t", 1);
    fill(&cluster, 10).await;
    // What was fetched of the old one comes first.
    let told = timeout(60 * SECOND, async { while consumer.recv().await.is_ok() {} }).await;
    told.expect("an error that says so");
    for offset in 0..4 {
        assert_eq!(next(&mut consumer).await, (tp(0), offset));
    }
    sleep(6 * SECOND).await;
    assert_eq!(cluster.committed("g", "t", 0), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_guard_keeps_a_rebalance_away() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let strategy = || [Arc::new(CooperativeSticky) as Arc<dyn Assignor>];
    let mut first = member(&client).partition_assignment_strategy(strategy()).build().unwrap();
    let handle = first.handle();
    next(&mut first).await;
    let guards = [first.hold_rebalance(), first.hold_rebalance()];
    let mut second = member(&client).partition_assignment_strategy(strategy()).build().unwrap();
    let reading = tokio::spawn(async move {
        // It comes back for more all the time, and what stays flows on.
        let mut last = BTreeSet::new();
        while let Ok(Ok(record)) = timeout(30 * SECOND, first.recv()).await {
            last.insert((record.partition(), record.offset()));
            sleep(SECOND / 2).await;
        }
        (first, last)
    });
    silent(20 * SECOND, &mut second).await;
    assert_eq!(handle.assignment().len(), 2);
    let [one, other] = guards;
    drop(one);
    silent(5 * SECOND, &mut second).await;
    drop(other);
    let (moved, at) = next(&mut second).await;
    let (_first, seen) = reading.await.unwrap();
    assert_eq!(moved, tp(1));
    // Everything of the partition that stayed was read, and of the other nothing twice.
    assert!((0..20).all(|offset| seen.contains(&(0, offset)) || offset == 0), "{seen:?}");
    assert!(seen.iter().all(|(partition, offset)| *partition == 0 || *offset < at), "{at}: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_static_member_comes_back_to_what_it_had() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let build = |id: &'static str| member(&client).group_instance_id(id).build().unwrap();
    let (mut first, mut second) = (build("one"), build("two"));
    let other = tokio::spawn(async move {
        until_it_has(&mut second, 2).await;
        second
    });
    until_it_has(&mut first, 2).await;
    let mut second = other.await.unwrap();
    let (had, generation) = (first.assignment(), second.group_metadata().unwrap().generation_id);
    first.close().await.unwrap();
    silent(20 * SECOND, &mut {
        second.seek_to_end::<TopicPartition>([]).unwrap();
        second
    })
    .await;
    let mut first = build("one");
    until_it_has(&mut first, 2).await;
    assert_eq!(first.assignment(), had);
    let metadata = first.group_metadata().unwrap();
    assert_eq!((metadata.generation_id, metadata.group_instance_id.as_deref()), (generation, Some("one")));
    // Told to leave, it does.
    let leaves = || cluster.requests().iter().filter(|request| request.api == Api::LeaveGroup).count();
    assert_eq!(leaves(), 0);
    first.close_with(GroupMembership::Leave).await.unwrap();
    assert_eq!(leaves(), 1);
}

/// Who comes last under a name has it; the other one says so, and does not take it back.
#[tokio::test(start_paused = true)]
async fn a_fenced_member_says_so() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let build = || member(&client).group_instance_id("one").build().unwrap();
    let mut first = build();
    until_it_has(&mut first, 1).await;
    let mut second = build();
    until_it_has(&mut second, 1).await;
    let fenced = error(20 * SECOND, &mut first).await;
    assert!(fenced.code().is_some_and(|code| code.0 == 82) && fenced.to_string().contains("`one`"), "{fenced}");
    assert!(first.assignment().is_empty());
    silent(60 * SECOND, &mut first).await;
    assert_eq!(second.assignment(), parts(&[0]));
}

#[tokio::test(start_paused = true)]
async fn topics_by_pattern_and_topics_that_come_later() {
    let cluster = MockCluster::builder().brokers(1).in_memory().auto_create_topics(false).start().await;
    cluster.create_topic("t", 1);
    cluster.create_topic("other", 1);
    let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector());
    let client = builder.metadata_max_age(10 * SECOND).connect().await.unwrap();
    let mut consumer = client.consumer().group("g").subscribe_pattern("t.?").build().unwrap();
    let mut named = client.consumer().group("h").subscribe(["t2", "later"]).build().unwrap();
    until_it_has(&mut consumer, 1).await;
    cluster.create_topic("t2", 2);
    cluster.create_topic("t-far", 2);
    until_it_has(&mut consumer, 3).await;
    assert_eq!(consumer.assignment(), [tp(0), ("t2", 0).into(), ("t2", 1).into()]);
    assert!(consumer.subscription().is_empty());
    until_it_has(&mut named, 2).await;
    cluster.create_topic("later", 1);
    until_it_has(&mut named, 3).await;
    // At run time, to something else.
    consumer.subscribe(["other"]).unwrap();
    timeout(60 * SECOND, async {
        while consumer.assignment() != [("other", 0).into()] {
            let _ = timeout(SECOND / 10, consumer.recv()).await;
        }
    })
    .await
    .unwrap();
    consumer.unsubscribe();
    assert!(consumer.assignment().is_empty() && consumer.subscription().is_empty());
    assert_eq!(error(SECOND, &mut consumer).await.kind(), ErrorKind::Config);
    consumer.assign([("t", 0)]).unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(consumer.assignment(), [tp(0)]);
}

/// Java's stays subscribed, and so a member: whoever looks at the group sees it, and a topic that comes is its own at once.
#[tokio::test(start_paused = true)]
async fn a_pattern_that_matches_nothing_stays_a_member() {
    for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
        let cluster = MockCluster::builder().brokers(1).in_memory().auto_create_topics(false).start().await;
        cluster.create_topic("other", 1);
        let builder = Client::builder(cluster.bootstrap()).connector(cluster.connector());
        let client = builder.metadata_max_age(10 * SECOND).connect().await.unwrap();
        let builder = client.consumer().group("g").group_protocol(protocol);
        let mut consumer = builder.subscribe_pattern("t.?").build().unwrap();
        let until_it_has = async |consumer: &mut Consumer, partitions: &[TopicPartition]| {
            let polling = async {
                while consumer.assignment() != partitions {
                    // That a topic is gone may be said.
                    let _ = timeout(SECOND / 10, consumer.recv()).await;
                }
            };
            timeout(60 * SECOND, polling).await.unwrap_or_else(|_| panic!("never {partitions:?}: {consumer:?}"));
        };
        silent(20 * SECOND, &mut consumer).await;
        let member = consumer.group_metadata().unwrap();
        assert!(member.generation_id > 0 && consumer.assignment().is_empty(), "{protocol:?}: {member:?}");
        cluster.create_topic("t", 2);
        until_it_has(&mut consumer, &parts(&[0, 1])).await;
        cluster.delete_topic("t");
        until_it_has(&mut consumer, &[]).await;
        let _ = timeout(30 * SECOND, consumer.recv()).await;
        cluster.create_topic("t2", 1);
        until_it_has(&mut consumer, &[("t2", 0).into()]).await;
        // Another pattern, which matches nothing either.
        consumer.subscribe_pattern("u.?").unwrap();
        until_it_has(&mut consumer, &[]).await;
        silent(20 * SECOND, &mut consumer).await;
        let same = consumer.group_metadata().unwrap();
        assert!(same.member_id == member.member_id && same.generation_id > member.generation_id, "{same:?}");
        let left = cluster.requests().iter().filter(|request| request.api == Api::LeaveGroup).count();
        assert_eq!((left, consumer.metrics().memberships_lost), (0, 0), "{protocol:?}");
        consumer.close().await.unwrap();
        assert!(cluster.violations().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moves_or_dies_takes_nothing_along() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 20).await;
    let client = client(&cluster).await;
    let mut consumer = member(&client).build().unwrap();
    next(&mut consumer).await;
    let metadata = consumer.group_metadata().unwrap();
    for broker in [1, 2, 3] {
        cluster.move_coordinator("g", broker);
        consumer.commit().await.unwrap();
        sleep(10 * SECOND).await;
        next(&mut consumer).await;
    }
    let coordinator = cluster.coordinator("g").unwrap();
    cluster.stop_broker(coordinator).await;
    consumer.commit().await.unwrap();
    sleep(60 * SECOND).await;
    next(&mut consumer).await;
    assert_eq!(consumer.group_metadata().unwrap(), metadata, "nothing has happened to the membership");
    consumer.close().await.unwrap();
}

/// The coordinator has answered the join, and takes no commit under the generation before: it is committed under the next one,
/// and nothing is read again.
#[tokio::test(start_paused = true)]
async fn who_closes_in_a_rebalance_commits_all_that_it_has_dealt_with() {
    for until in [Duration::ZERO, SECOND, 3 * SECOND] {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 2);
        fill(&cluster, 20).await;
        let client = client(&cluster).await;
        let member =
            || member(&client).partition_assignment_strategy([Arc::new(CooperativeSticky) as Arc<dyn Assignor>]);
        let mut first = member().build().unwrap();
        for _ in 0..20 {
            next(&mut first).await;
        }
        let slow =
            [Api::JoinGroup, Api::SyncGroup].map(|api| cluster.inject(When::api(api), Fault::delay_answer(2 * SECOND)));
        let mut second = member().build().unwrap();
        // The new one's, without an id and with it, and the first one's.
        slow[0].wait_struck(3).await;
        sleep(until + Duration::from_millis(1)).await;
        first.close().await.unwrap();
        assert_eq!(
            (0..2).map(|p| cluster.committed("g", "t", p)).collect::<Vec<_>>(),
            [Some(10), Some(10)],
            "{until:?}"
        );
        silent(60 * SECOND, &mut second).await;
        assert_eq!(second.assignment().len(), 2);
        assert!(cluster.violations().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_says_what_it_did_not_commit() {
    let cases = [
        // Of one of the two; for good.
        (Some(Fault::error(29)), true, 1, Some((ErrorKind::Authorization, Duration::ZERO))),
        // It is not known any more.
        (Some(Fault::error(25)), true, 2, Some((ErrorKind::NotOwned, Duration::ZERO))),
        // No answer.
        (Some(Fault::stall()), true, 2, Some((ErrorKind::Timeout, 30 * SECOND))),
        (None, true, 0, None),
        (Some(Fault::error(29)), false, 0, None),
    ];
    for (fault, auto_commit, count, expected) in cases {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 2);
        fill(&cluster, 20).await;
        let builder = member(&client(&cluster).await);
        let builder = builder.auto_commit(auto_commit);
        let mut consumer = builder.build().unwrap();
        for _ in 0..20 {
            next(&mut consumer).await;
        }
        if let Some(fault) = fault {
            let when = When::api(Api::OffsetCommit);
            cluster.inject(if count == 1 { when.partition("t", 1) } else { when }, fault);
        }
        let start = tokio::time::Instant::now();
        let outcome = consumer.close().await;
        match expected {
            None => outcome.unwrap(),
            Some((kind, after)) => {
                let error = outcome.unwrap_err();
                let each = error.not_committed();
                assert_eq!((error.kind(), each.len()), (kind, count), "{error}");
                assert!(each.iter().all(|(tp, error)| &*tp.topic == "t" && error.kind() == kind), "{each:?}");
                assert!(error.to_string().contains("group `g`") && error.to_string().contains("t-1"), "{error}");
                let took = start.elapsed();
                assert!(took >= after && took < after + SECOND, "{kind:?} after {took:?}");
            }
        }
        let committed = if count == 0 && auto_commit { Some(10) } else { None };
        assert_eq!(cluster.committed("g", "t", 1), committed);
    }
}

/// Nor does it wait for a membership that has ended otherwise meanwhile.
#[tokio::test(start_paused = true)]
async fn a_close_outlasts_its_membership_by_its_commit_alone() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 10).await;
    let mut consumer = member(&client(&cluster).await).heartbeat_interval(SECOND).build().unwrap();
    for _ in 0..10 {
        next(&mut consumer).await;
    }
    cluster.inject(When::api(Api::OffsetCommit), Fault::delay_answer(5 * SECOND));
    let refusal = cluster.inject(When::api(Api::Heartbeat), Fault::error(30));
    let start = tokio::time::Instant::now();
    consumer.close().await.unwrap();
    assert!(start.elapsed() < 6 * SECOND, "{:?}", start.elapsed());
    assert_eq!((cluster.committed("g", "t", 0), refusal.struck()), (Some(10), 1));
}

/// No answer to a heartbeat for longer than a session lasts: what it has is lost before others get it, and it comes back.
#[tokio::test(start_paused = true)]
async fn a_member_that_hears_nothing_gives_up_before_others_take_over() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill(&cluster, 20).await;
    let client = client(&cluster).await;
    let mut consumer = member(&client).session_timeout(10 * SECOND).build().unwrap();
    next(&mut consumer).await;
    let mut events = consumer.rebalance_events().unwrap();
    let silence = cluster.inject(When::api(Api::Heartbeat), Fault::stall());
    let started = tokio::time::Instant::now();
    assert_eq!(events.next().await, Some(RebalanceEvent::Assigned(parts(&[0]))), "as it was before");
    assert_eq!(events.next().await, Some(RebalanceEvent::Lost(parts(&[0]))));
    assert!(started.elapsed() >= 9 * SECOND && started.elapsed() <= 10 * SECOND, "{:?}", started.elapsed());
    silence.remove();
    assert_eq!(events.next().await, Some(RebalanceEvent::Assigned(parts(&[0]))));
    let expired = error(SECOND, &mut consumer).await;
    assert!(expired.to_string().contains("heartbeat"), "{expired}");
    assert_eq!(next(&mut consumer).await, (tp(0), 0), "it was in hand, and never committed");
    // One connection that hangs is replaced in time.
    cluster.inject(When::api(Api::Heartbeat).times(1), Fault::stall());
    assert!(timeout(60 * SECOND, events.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_named() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let client = client(&cluster).await;
    let grouped = || client.consumer().group("g");
    for (builder, setting) in [
        (client.consumer().subscribe(["t"]), "subscribe"),
        (grouped().subscribe::<&str>([]), "subscribe"),
        (grouped().subscribe([""]), "subscribe"),
        (grouped().subscribe_pattern("("), "subscribe_pattern"),
        (grouped().subscribe_pattern(""), "subscribe_pattern"),
        (grouped().session_timeout(Duration::ZERO), "session_timeout"),
        (grouped().heartbeat_interval(60 * SECOND), "heartbeat_interval"),
        (grouped().max_poll_interval(Duration::ZERO), "max_poll_interval"),
        (grouped().partition_assignment_strategy([]), "partition_assignment_strategy"),
        (grouped().group_instance_id(""), "group_instance_id"),
        (grouped().auto_commit_interval(Duration::ZERO), "auto_commit_interval"),
        (grouped().group_remote_assignor("range"), "group_remote_assignor"),
        (grouped().group_protocol(GroupProtocol::Consumer).session_timeout(SECOND), "session_timeout"),
        (client.consumer().auto_commit(true), "auto_commit"),
        (client.consumer().group_instance_id("one"), "group_instance_id"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(setting), "{setting}: {error}");
    }
    // By hand or by the group, not both.
    let consumer = grouped().subscribe(["t"]).build().unwrap();
    for refused in [
        consumer.assign([tp(0)]).unwrap_err(),
        consumer.incremental_assign([(tp(0), Position::Beginning)]).unwrap_err(),
        consumer.incremental_unassign([tp(0)]).unwrap_err(),
    ] {
        assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("unsubscribe"), "{refused}");
    }
    let consumer = grouped().build().unwrap();
    consumer.assign([tp(0)]).unwrap();
    let refused = consumer.subscribe(["t"]).unwrap_err();
    assert!(refused.kind() == ErrorKind::Config && refused.to_string().contains("unsubscribe"), "{refused}");
    consumer.unsubscribe();
    consumer.subscribe(["t"]).unwrap();
    assert_eq!(client.consumer().build().unwrap().subscribe(["t"]).unwrap_err().kind(), ErrorKind::Config);
}

/// A broker that does not know the protocol of KIP-848, or does not let the group use it: the classic one will do, if that was
/// left open.
#[tokio::test(start_paused = true)]
async fn where_the_broker_cannot_do_it_the_members_do() {
    let old = MockCluster::builder().in_memory().without(Api::ConsumerGroupHeartbeat).start().await;
    let new = cluster(1).await;
    new.inject(When::api(Api::ConsumerGroupHeartbeat), Fault::error(35));
    for cluster in [old, new] {
        cluster.create_topic("t", 2);
        fill(&cluster, 4).await;
        let client = client(&cluster).await;
        let mut consumer = member(&client).group_protocol(GroupProtocol::Auto).build().unwrap();
        for _ in 0..4 {
            next(&mut consumer).await;
        }
        assert_eq!(consumer.group_metadata().unwrap().generation_id, 1);
        consumer.close().await.unwrap();
        let mut refused = member(&client).group_protocol(GroupProtocol::Consumer).build().unwrap();
        let error = error(20 * SECOND, &mut refused).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        silent(60 * SECOND, &mut refused).await;
    }
}

/// By KIP-848, in virtual time: shares, and what is in hand.
#[tokio::test(start_paused = true)]
async fn by_the_brokers_protocol_a_rebalance_waits_for_what_is_in_hand() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 2);
    fill(&cluster, 40).await;
    let client = client(&cluster).await;
    let build = || member(&client).group_protocol(GroupProtocol::Consumer).build().unwrap();
    let mut first = build();
    let in_hand = within(20 * SECOND, first.recv()).await.unwrap();
    let mut second = build();
    silent(60 * SECOND, &mut second).await;
    let handle = first.handle();
    let reading = tokio::spawn(async move {
        let mut read = vec![(in_hand.partition(), in_hand.offset())];
        while let Ok(record) = timeout(60 * SECOND, first.recv()).await {
            let record = record.unwrap();
            read.push((record.partition(), record.offset()));
        }
        (first, read)
    });
    let mut others = Vec::new();
    while let Ok(record) = timeout(60 * SECOND, second.recv()).await {
        let record = record.unwrap();
        others.push((record.partition(), record.offset()));
    }
    let (first, mut read) = reading.await.unwrap();
    assert_eq!((handle.assignment().len(), second.assignment().len()), (1, 1));
    assert!(!others.is_empty());
    read.extend(others);
    read.sort_unstable();
    assert_eq!(read, (0..2).flat_map(|p| (0..20).map(move |offset| (p, offset))).collect::<Vec<_>>());
    first.close().await.unwrap();
    until_it_has(&mut second, 2).await;
    second.close().await.unwrap();
    assert!(cluster.violations().is_empty());
}
