//! Where reading begins, and what a group remembers.

use std::sync::Arc;

use milena::mock::{Api, Fault, When};
use milena::{ErrorKind, OffsetAndMetadata, OffsetReset};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn without_a_position_the_policy_decides() {
    let cluster = filled(1, 1, 20).await;
    cluster.delete_records("t", 0, 5);
    for (reset, expected) in [(OffsetReset::Earliest, 5), (OffsetReset::Latest, 20)] {
        for group in [None, Some("nobody")] {
            let mut builder = client(&cluster).await.consumer().auto_offset_reset(reset);
            if let Some(group) = group {
                builder = builder.group(group).auto_commit(false);
            }
            let mut consumer = builder.build().unwrap();
            consumer.assign([("t", 0)]).unwrap();
            if reset == OffsetReset::Earliest {
                assert_eq!(consumer.recv().await.unwrap().offset(), expected);
            } else {
                silent(SECOND, &mut consumer).await;
                assert_eq!(consumer.position(&tp(0)), Some(expected));
            }
        }
    }
    let mut consumer = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::None).build().unwrap();
    consumer.assign([("t", 0)]).unwrap();
    let error = error(SECOND, &mut consumer).await;
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::OffsetOutOfRange, Some(&tp(0))));
    assert!(error.to_string().contains("auto_offset_reset"), "{error}");
    silent(100 * SECOND, &mut consumer).await;
    consumer.seek(&tp(0), 7).unwrap();
    assert_eq!(consumer.recv().await.unwrap().offset(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_log_has_lost_goes_by_the_policy() {
    for (reset, expected) in
        [(OffsetReset::Earliest, Some(500)), (OffsetReset::Latest, Some(1_000)), (OffsetReset::None, None)]
    {
        let cluster = filled(1, 1, 1_000).await;
        let mut consumer = client(&cluster).await.consumer().auto_offset_reset(reset).build().unwrap();
        consumer.assign([("t", 0)]).unwrap();
        consumer.seek(&tp(0), 100).unwrap();
        assert_eq!(consumer.recv().await.unwrap().offset(), 100);
        cluster.delete_records("t", 0, 500);
        consumer.seek(&tp(0), 200).unwrap();
        match expected {
            Some(500) => assert_eq!(consumer.recv().await.unwrap().offset(), 500),
            Some(end) => {
                silent(SECOND, &mut consumer).await;
                assert_eq!(consumer.position(&tp(0)), Some(end));
                fill(&cluster, 1).await;
                assert_eq!(consumer.recv().await.unwrap().offset(), end);
            }
            None => {
                let error = error(SECOND, &mut consumer).await;
                assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
                assert!(
                    error.to_string().contains("200") && error.to_string().contains("auto_offset_reset"),
                    "{error}"
                );
                assert_eq!(consumer.position(&tp(0)), Some(200));
                consumer.seek(&tp(0), 999).unwrap();
                assert_eq!(consumer.recv().await.unwrap().offset(), 999);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_is_where_the_next_one_begins() {
    let cluster = filled(3, 3, 300).await;
    let client = client(&cluster).await;
    let consumer = client.consumer().group("g").build().unwrap();
    let metadata = OffsetAndMetadata::new(60).metadata("half way").leader_epoch(0);
    let offsets = [(tp(0), OffsetAndMetadata::from(30)), (tp(1), metadata.clone())];
    consumer.commit_offsets(offsets).await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(30));
    let committed = consumer.committed(all(3)).await.unwrap();
    assert_eq!(committed.keys().cloned().collect::<Vec<_>>(), [tp(0), tp(1)]);
    assert_eq!((committed[&tp(0)].offset, committed[&tp(0)].leader_epoch), (30, None));
    assert_eq!(committed[&tp(1)], metadata);
    let none: [(&str, i32); 0] = [];
    assert!(consumer.committed(none).await.unwrap().is_empty());
    consumer.commit_offsets(none.map(|tp| (tp, 0))).await.unwrap();
    let mut next = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    next.assign(all(3)).unwrap();
    let mut starts = [None; 3];
    for _ in 0..70 + 40 + 100 {
        let record = next.recv().await.unwrap();
        starts[record.partition() as usize].get_or_insert_with(|| record.offset());
    }
    assert_eq!(starts, [Some(30), Some(60), Some(0)]);
    // A seek right behind the assignment wins.
    let mut sought = client.consumer().group("g").build().unwrap();
    sought.assign([tp(0)]).unwrap();
    sought.seek(&tp(0), 99).unwrap();
    assert_eq!(sought.recv().await.unwrap().offset(), 99);
    assert!(cluster.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn commits_find_their_coordinator_whatever_it_takes() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 1);
    let consumer = client(&cluster).await.consumer().group("g").build().unwrap();
    for (broker, offset) in [(1, 1), (2, 2), (3, 3)] {
        cluster.move_coordinator("g", broker);
        consumer.commit_offsets([(tp(0), offset)]).await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0), Some(offset));
    }
    for (api, codes) in [(Api::OffsetCommit, [14, 15, 16, 7]), (Api::OffsetFetch, [14, 15, 16, 88])] {
        for code in codes {
            let fault = cluster.inject(When::api(api).times(2), Fault::error(code));
            consumer.commit_offsets([(tp(0), i64::from(code))]).await.unwrap();
            let committed = consumer.committed([tp(0)]).await.unwrap();
            assert_eq!(committed[&tp(0)].offset, i64::from(code));
            assert_eq!(fault.struck(), 2, "{api:?} {code}");
        }
    }
    for fault in [Fault::close(), Fault::lose_answer(), Fault::cut(10), Fault::wrong_correlation_id()] {
        cluster.inject(When::api(Api::OffsetCommit).nth(1), fault.clone());
        cluster.inject(When::api(Api::FindCoordinator).nth(1), fault);
        consumer.commit_offsets([(tp(0), 9)]).await.unwrap();
    }
    let coordinator = cluster.coordinator("g").unwrap();
    cluster.stop_broker(coordinator).await;
    consumer.commit_offsets([(tp(0), 10)]).await.unwrap();
    assert_eq!(consumer.committed([tp(0)]).await.unwrap()[&tp(0)].offset, 10);
    cluster.clear_requests();
    for n in 0..10 {
        consumer.commit_offsets([(tp(0), n)]).await.unwrap();
    }
    assert!(cluster.requests().iter().all(|request| request.api == Api::OffsetCommit), "{:?}", cluster.requests());
}

#[tokio::test(start_paused = true)]
async fn commits_that_are_refused_say_why_and_for_which_partition() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let client = client(&cluster).await;
    let consumer = client.consumer().build().unwrap();
    for error in
        [consumer.commit_offsets([(tp(0), 1)]).await.unwrap_err(), consumer.committed([tp(0)]).await.unwrap_err()]
    {
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("group(..)"), "{error}");
    }
    let consumer = client.consumer().group("g").build().unwrap();
    assert_eq!(consumer.commit_offsets([(tp(0), -1)]).await.unwrap_err().kind(), ErrorKind::Config);
    let fault = cluster.inject(When::api(Api::OffsetCommit).partition("t", 1), Fault::error(29));
    let error = consumer.commit_offsets([(tp(0), 1), (tp(1), 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Authorization, Some(&tp(1))));
    assert!(error.code().is_some_and(|code| code.0 == 29) && !error.is_retriable(), "{error}");
    fault.remove();
    // A group that may not be asked for.
    let fault = cluster.inject(When::api(Api::FindCoordinator), Fault::error(30));
    let error = client.consumer().group("secret").build().unwrap().committed([tp(0)]).await.unwrap_err();
    assert!(error.code().is_some_and(|code| code.0 == 30) && error.to_string().contains("secret"), "{error}");
    fault.remove();
    let started = tokio::time::Instant::now();
    let fault = cluster.inject(When::api(Api::OffsetCommit), Fault::error(14));
    let error = consumer.commit_offsets([(tp(1), 1)]).await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Timeout, Some(&tp(1))));
    assert!(error.to_string().contains("default_api_timeout"), "{error}");
    assert!(started.elapsed() > 55 * SECOND && started.elapsed() <= 61 * SECOND, "{:?}", started.elapsed());
    assert!((50..200).contains(&fault.struck()), "{}", fault.struck());
}

#[tokio::test(start_paused = true)]
async fn an_assignment_waits_for_a_coordinator_that_loads() {
    let cluster = filled(1, 1, 10).await;
    let client = client(&cluster).await;
    client.consumer().group("g").build().unwrap().commit_offsets([(tp(0), 4)]).await.unwrap();
    let fault = cluster.inject(When::api(Api::OffsetFetch), Fault::error(14));
    let mut consumer = client.consumer().group("g").build().unwrap();
    consumer.assign([tp(0)]).unwrap();
    silent(20 * SECOND, &mut consumer).await;
    fault.remove();
    assert_eq!(within(2 * SECOND, consumer.recv()).await.unwrap().offset(), 4);
    // What no waiting mends is said, once, and tried again.
    let fault = cluster.inject(When::api(Api::OffsetFetch), Fault::error(30));
    let mut consumer = client.consumer().group("g").build().unwrap();
    consumer.assign([tp(0)]).unwrap();
    let refused = error(SECOND, &mut consumer).await;
    assert!(refused.code().is_some_and(|code| code.0 == 30), "{refused}");
    silent(20 * SECOND, &mut consumer).await;
    fault.remove();
    assert_eq!(within(2 * SECOND, consumer.recv()).await.unwrap().offset(), 4);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_named() {
    let cluster = cluster(1).await;
    let client = client(&cluster).await;
    let long = Arc::<str>::from("");
    for (builder, setting) in [
        (client.consumer().group(long), "group"),
        (client.consumer().fetch_max_bytes(0), "fetch_max_bytes"),
        (client.consumer().fetch_max_bytes(1 << 40), "fetch_max_bytes"),
        (client.consumer().fetch_min_bytes(1 << 40), "fetch_min_bytes"),
        (client.consumer().max_partition_fetch_bytes(0), "max_partition_fetch_bytes"),
        (client.consumer().fetch_buffer(0), "fetch_buffer"),
        (client.consumer().fetch_max_wait(SECOND * 1_000_000), "fetch_max_wait"),
    ] {
        let error = builder.build().unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(setting), "{error}");
    }
}

/// Rule 55: of two commits the older one never lands last, also when nobody waits for it any more.
#[tokio::test(start_paused = true)]
async fn commits_are_made_in_the_order_of_the_calls() {
    let cluster = filled(1, 1, 100).await;
    let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(1)).unwrap();
    // The first one is refused for a while, and its caller is gone.
    let refused = cluster.inject(When::api(Api::OffsetCommit).times(3), Fault::error(14));
    let handle = consumer.handle();
    let first = handle.commit_offsets([(tp(0), 5)]);
    assert!(tokio::time::timeout(SECOND / 100, first).await.is_err());
    for _ in 0..10 {
        consumer.recv().await.unwrap();
    }
    consumer.commit_async().unwrap();
    consumer.commit_offsets([(tp(0), OffsetAndMetadata::new(11).metadata("eleven"))]).await.unwrap();
    assert_eq!((refused.struck(), cluster.committed("g", "t", 0)), (3, Some(11)));
    let committed = &consumer.committed([tp(0)]).await.unwrap()[&tp(0)];
    assert_eq!((committed.offset, &*committed.metadata), (11, "eleven"));
    let commits = cluster.requests().iter().filter(|request| request.api == Api::OffsetCommit).count();
    assert_eq!(commits, 3 + 3);
    // What failed in the background comes with the records.
    cluster.inject(When::api(Api::OffsetCommit).times(1), Fault::error(30));
    consumer.commit_async().unwrap();
    consumer.seek(&tp(0), 100).unwrap();
    let error = error(SECOND, &mut consumer).await;
    assert!(
        error.kind() == ErrorKind::Authorization && error.to_string().contains("GROUP_AUTHORIZATION_FAILED"),
        "{error}"
    );
}
