//! Lent batches: what `poll` hands out, and what happens to the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;
use milena::{BorrowedRecord, Consumer, ConsumerHandle, OffsetReset, Record};

use crate::rig::*;

fn text<'a>(record: &BorrowedRecord<'a>) -> &'a str {
    std::str::from_utf8(record.value().unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn batches_are_complete_and_in_order_however_many_are_asked_for() {
    let cluster = filled(2, 3, 6_000).await;
    for max in [1, 7, 100, 333, usize::MAX] {
        let mut consumer = reader(&cluster).await;
        let mut next = [0i64; 3];
        while next != [2_000; 3] {
            let batch = within(SECOND, consumer.poll_max(max)).await.unwrap().expect("it waits for ever");
            let tp = batch.topic_partition().clone();
            let partition = tp.partition;
            let at_most = batch.size_hint().1.unwrap();
            // They outlive the iterator's steps, and cost nothing.
            let records: Vec<_> = batch.collect();
            assert!((1..=max).contains(&records.len()) && records.len() <= at_most, "{} of {max}", records.len());
            for record in &records {
                let next = &mut next[partition as usize];
                assert_eq!((record.offset(), text(record)), (*next, &*next.to_string()));
                assert_eq!(record.topic_partition(), &tp);
                *next += 1;
            }
            assert_eq!(consumer.position(&tp), Some(next[partition as usize]));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_position_moves_with_each_record_and_the_rest_comes_first() {
    let cluster = filled(1, 1, 1_000).await;
    let mut consumer = reader(&cluster).await;
    let handle = consumer.handle();
    let mut batch = consumer.poll().await.unwrap().unwrap();
    assert_eq!(handle.position(&tp(0)), Some(0), "nothing is handed out yet");
    for n in 0..10 {
        assert_eq!(batch.next().unwrap().offset(), n);
        assert_eq!(handle.position(&tp(0)), Some(n + 1));
    }
    // Both ways of reading share the position.
    assert_eq!(consumer.recv().await.unwrap().offset(), 10);
    let kept = consumer.poll().await.unwrap().unwrap().next().unwrap().to_owned();
    assert_eq!((kept.offset(), value(&kept)), (11, "11"));
    assert_eq!(consumer.poll_max(0).await.unwrap().unwrap().count(), 0);
    let mut expected = 12;
    while expected < 1_000 {
        for record in consumer.poll().await.unwrap().unwrap().take(5) {
            assert_eq!(record.offset(), expected);
            expected += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_poll_anywhere_loses_nothing() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 3);
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    let check = |checker: &mut Checker, record: BorrowedRecord<'_>| checker.check(&record.to_owned());
    for round in 0..200 {
        if round % 20 == 0 {
            fill(&cluster, 900).await;
        }
        for _ in 0..round % 7 {
            if let Some(batch) = consumer.poll_max(50).now_or_never() {
                batch.unwrap().unwrap().take(round % 11).for_each(|record| check(&mut checker, record));
            }
        }
        if let Ok(batch) = tokio::time::timeout(SECOND / 1000, consumer.poll()).await {
            batch.unwrap().unwrap().for_each(|record| check(&mut checker, record));
        }
    }
    while checker.count < 9_000 {
        let batch = within(SECOND, consumer.poll()).await.unwrap().unwrap();
        batch.for_each(|record| check(&mut checker, record));
    }
    assert_eq!(checker.next, (0..3).map(|p| (p, 3_000)).collect());
    assert!(cluster.violations().is_empty());
}

/// What the handle is for: all of it works while a batch is lent, in a loop that waits for other things too.
#[tokio::test(start_paused = true)]
async fn a_loop_with_select_marks_commits_pauses_and_seeks_while_a_batch_is_lent() {
    let cluster = filled(1, 2, 2_000).await;
    let builder = client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.build().unwrap();
    consumer.assign(all(2)).unwrap();
    let handle = consumer.handle();
    let mut ticks = tokio::time::interval(SECOND / 10);
    let (mut seen, mut ticked, mut has_sought) = ([0; 2], 0, false);
    while seen[0] + seen[1] < 2_500 {
        tokio::select! {
            batch = consumer.poll() => {
                for record in batch.unwrap().unwrap() {
                    seen[record.partition() as usize] += 1;
                    handle.mark(record);
                    if record.offset() == 499 && record.partition() == 0 && !has_sought {
                        has_sought = true;
                        handle.pause([tp(1)]);
                        handle.commit_marked().await.unwrap();
                        assert_eq!(cluster.committed("g", "t", 0), Some(500));
                        handle.seek(&tp(0), 0).unwrap();
                        handle.resume([tp(1)]);
                    }
                }
            }
            _ = ticks.tick() => ticked += 1,
        }
    }
    assert_eq!(seen, [1_500, 1_000]);
    assert!(ticked > 0);
    handle.commit().await.unwrap();
    assert_eq!((cluster.committed("g", "t", 0), cluster.committed("g", "t", 1)), (Some(1_000), Some(1_000)));
}

#[tokio::test(start_paused = true)]
async fn a_lent_batch_ends_when_its_partition_is_sought_or_paused_or_taken_away() {
    let cluster = filled(1, 1, 1_000).await;
    let mut consumer = reader(&cluster).await;
    let handle = consumer.handle();
    let mut batch = consumer.poll().await.unwrap().unwrap();
    batch.next().unwrap();
    handle.seek(&tp(0), 700).unwrap();
    assert!(batch.next().is_none());
    assert_eq!(handle.position(&tp(0)), Some(700));
    let mut batch = within(SECOND, consumer.poll()).await.unwrap().unwrap();
    assert_eq!(batch.next().unwrap().offset(), 700);
    handle.pause([tp(0)]);
    assert!(batch.next().is_none());
    silent(SECOND, &mut consumer).await;
    handle.resume([tp(0)]);
    let mut batch = within(SECOND, consumer.poll()).await.unwrap().unwrap();
    assert_eq!(batch.next().unwrap().offset(), 701, "a pause moves nothing");
    handle.incremental_unassign([tp(0)]).unwrap();
    assert!(batch.next().is_none() && handle.assignment().is_empty());
}

/// Marks go forward only, and belong to what was read: a record from before a seek marks nothing.
#[tokio::test(start_paused = true)]
async fn marks_never_go_back() {
    let cluster = filled(1, 1, 10).await;
    let mut consumer: Consumer =
        client(&cluster).await.consumer().group("g").auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign(all(1)).unwrap();
    let handle: ConsumerHandle = consumer.handle();
    let (first, second) = (consumer.recv().await.unwrap(), consumer.recv().await.unwrap());
    handle.commit_marked().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), None, "nothing is marked");
    handle.mark(&second);
    handle.mark(&first);
    handle.commit_marked().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(2));
    let sixth = {
        handle.seek(&tp(0), 5).unwrap();
        consumer.recv().await.unwrap()
    };
    handle.seek(&tp(0), 0).unwrap();
    handle.mark(&sixth);
    handle.commit_marked().await.unwrap();
    assert_eq!(cluster.committed("g", "t", 0), Some(2), "what was left behind is not committed");
    drop(consumer);
    assert!(handle.commit().await.is_err() && handle.assignment().is_empty());
    assert!(handle.assign(all(1)).is_ok() && handle.assignment().is_empty(), "nobody is there to read");
}

/// Batches of one record each: many batches, each one lent.
#[tokio::test(start_paused = true)]
async fn batches_of_one_record_are_lent_too_and_let_others_run() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 1);
    let producer = client(&cluster).await.producer().build().unwrap();
    for n in 0..300 {
        producer.send(Record::to("t").value(n.to_string())).await.unwrap();
    }
    let mut consumer = reader(&cluster).await;
    // All of it is there, before anybody else wants to run.
    tokio::time::sleep(SECOND).await;
    let turns = Arc::<AtomicUsize>::default();
    let neighbour = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut next = 0;
    while next < 300 {
        for record in consumer.poll().await.unwrap().unwrap() {
            assert_eq!(record.offset(), next);
            next += 1;
        }
    }
    neighbour.abort();
    let turns = turns.load(Ordering::SeqCst);
    assert!((15..=300).contains(&turns), "{turns}");
}
