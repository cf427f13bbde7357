//! What the log has lost, and how that is said: retention, unclean elections, topics made again.

use milena::mock::{Api, MockCluster};
use milena::{ConsumerBuilder, Error, ErrorKind, OffsetReset};

use crate::rig::*;

const POLICIES: [OffsetReset; 3] = [OffsetReset::Earliest, OffsetReset::Latest, OffsetReset::None];

/// A hundred records in batches of twenty.
async fn fill_100(cluster: &MockCluster) {
    for _ in 0..5 {
        fill(cluster, 20).await;
    }
}

/// Topic `t` of one partition on two brokers, with 100 records that were read.
async fn read_100(cluster: &MockCluster, policy: OffsetReset) -> (milena::Consumer, Checker) {
    cluster.create_topic("t", 1);
    fill_100(cluster).await;
    let mut consumer = client(cluster).await.consumer().auto_offset_reset(policy).build().unwrap();
    consumer.incremental_assign([(tp(0), 0)]).unwrap();
    let mut checker = Checker::default();
    checker.read(&mut consumer, 100).await;
    (consumer, checker)
}

fn loss(error: &Error) -> (i64, i64) {
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::DataLoss, Some(&tp(0))), "{error}");
    let loss = error.data_loss().expect("it says from where to where");
    (loss.expected, loss.next)
}

/// Row 17, rule 42: an unclean election cut the log below what was read. Said, with both offsets; then the new records.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_cut_below_the_position_is_reported_whatever_the_policy() {
    for policy in POLICIES {
        let cluster = cluster(2).await;
        let (mut consumer, mut checker) = read_100(&cluster, policy).await;
        cut(&cluster, 60).await;
        fill(&cluster, 70).await;
        let error = error(20 * SECOND, &mut consumer).await;
        assert_eq!(loss(&error), (100, 60), "{policy:?}");
        checker.next.insert(0, 60);
        checker.read(&mut consumer, 70).await;
        silent(5 * SECOND, &mut consumer).await;
    }
}

/// The log is cut, and another broker leads from now on.
async fn cut(cluster: &MockCluster, at: i64) {
    let other = 3 - cluster.leader("t", 0).unwrap();
    cluster.truncate("t", 0, at);
    cluster.move_leader("t", 0, other);
}

/// What was only fetched, and not handed out, is no loss: it is dropped, and what has its place now is read.
#[tokio::test(start_paused = true)]
async fn a_cut_behind_the_position_is_not_noticed_by_the_caller() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 1);
    fill_100(&cluster).await;
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 50).await;
    tokio::time::sleep(SECOND).await;
    cut(&cluster, 80).await;
    fill(&cluster, 40).await;
    tokio::time::sleep(5 * SECOND).await;
    checker.read(&mut consumer, 70).await;
    silent(5 * SECOND, &mut consumer).await;
    assert!(cluster.requests().iter().any(|request| request.api == Api::OffsetForLeaderEpoch));
}

/// A new leader that has everything is validated, and costs nothing else.
#[tokio::test(start_paused = true)]
async fn a_clean_election_is_no_loss() {
    let cluster = cluster(2).await;
    let (mut consumer, mut checker) = read_100(&cluster, OffsetReset::None).await;
    for _ in 0..5 {
        cluster.move_leader("t", 0, 3 - cluster.leader("t", 0).unwrap());
        fill(&cluster, 10).await;
        checker.read(&mut consumer, 10).await;
    }
    silent(5 * SECOND, &mut consumer).await;
}

/// Rule 44: brokers without OffsetForLeaderEpoch cannot tell, and so nothing is lost.
#[tokio::test(start_paused = true)]
async fn without_the_request_nothing_is_validated() {
    let cluster = MockCluster::builder().brokers(2).without(Api::OffsetForLeaderEpoch).in_memory().start().await;
    let (mut consumer, mut checker) = read_100(&cluster, OffsetReset::None).await;
    cluster.move_leader("t", 0, 3 - cluster.leader("t", 0).unwrap());
    fill(&cluster, 10).await;
    checker.read(&mut consumer, 10).await;
}

/// Row 18, rule 45: retention passed the position. Reading goes on behind the gap, and none of what is there is skipped.
#[tokio::test(start_paused = true)]
async fn what_was_deleted_before_it_was_read_is_reported() {
    for policy in POLICIES {
        let cluster = cluster(2).await;
        let (mut consumer, mut checker) = read_100(&cluster, policy).await;
        consumer.pause(all(1));
        // What is under way still comes.
        tokio::time::sleep(SECOND).await;
        fill(&cluster, 100).await;
        cluster.delete_records("t", 0, 150);
        consumer.resume(all(1));
        let error = error(20 * SECOND, &mut consumer).await;
        if policy == OffsetReset::None {
            assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error}");
            silent(5 * SECOND, &mut consumer).await;
            consumer.seek(&tp(0), 150).unwrap();
        } else {
            assert_eq!(loss(&error), (100, 150), "{policy:?}");
            assert!(error.to_string().contains("offsets 100 to 149 were deleted"), "{error}");
        }
        checker.next.insert(0, 150);
        checker.read(&mut consumer, 50).await;
        silent(5 * SECOND, &mut consumer).await;
    }
}

/// Row 15, rules 41 and 48: a topic under the same name, in no time and between two fetches.
#[tokio::test(start_paused = true)]
async fn a_topic_made_again_is_reported_and_read_from_its_beginning() {
    for policy in POLICIES {
        let cluster = cluster(2).await;
        cluster.create_topic("u", 1);
        let (mut consumer, _) = read_100(&cluster, policy).await;
        consumer.incremental_assign([(("u", 0), 0)]).unwrap();
        silent(2 * SECOND, &mut consumer).await;
        cluster.delete_topic("t");
        cluster.create_topic("t", 1);
        fill(&cluster, 200).await;
        let error = error(20 * SECOND, &mut consumer).await;
        assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::TopicRecreated, Some(&tp(0))), "{error}");
        let mut checker = Checker::default();
        if policy == OffsetReset::None {
            assert_eq!(consumer.position(&tp(0)), None, "the old offset is nobody's");
            silent(5 * SECOND, &mut consumer).await;
            consumer.seek(&tp(0), 0).unwrap();
        }
        checker.read(&mut consumer, 200).await;
        silent(5 * SECOND, &mut consumer).await;
    }
}

/// A committed offset that the log has lost: by policy, and said.
#[tokio::test(start_paused = true)]
async fn a_committed_offset_that_is_gone_is_reported() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    fill_100(&cluster).await;
    cluster.delete_records("t", 0, 50);
    let build = |builder: ConsumerBuilder| builder.group("g").auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    let mut consumer = build(client(&cluster).await.consumer());
    consumer.commit_offsets([(tp(0), 20)]).await.unwrap();
    consumer.assign(all(1)).unwrap();
    assert_eq!(loss(&error(SECOND, &mut consumer).await), (20, 50));
    assert_eq!(consumer.recv().await.unwrap().offset(), 50);
}
