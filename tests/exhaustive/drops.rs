//! Row 30 of the faults: every future of the API, dropped wherever it waits. What its documentation says of that holds, by
//! exact value.

use futures_util::StreamExt;
use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Consumer, ErrorCode, ErrorKind, NewTopic, OffsetReset, Producer, TopicPartition};

use crate::rig::*;

fn producer(cluster: &MockCluster) -> Producer {
    builder(cluster).build().unwrap().producer().build().unwrap()
}

/// What is in partition 0 in the end, behind one record more.
async fn log_behind_one_more(cluster: &MockCluster, producer: &Producer) -> Vec<usize> {
    producer.send(record(0, 99)).await.unwrap();
    producer.flush().await;
    assert_eq!(producer.metrics().buffer_used, 0);
    verify(cluster, "dropped");
    logs(cluster).remove(&0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn connect() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let before = tasks();
        let client = dropped_after(polls, builder(&cluster).connect()).await;
        let has_ended = client.is_some();
        drop(client);
        tokio::time::sleep(SECOND).await;
        assert_eq!(tasks(), before, "{polls} polls");
        builder(&cluster).connect().await.unwrap().admin().describe_cluster().await.unwrap();
        cluster.close().await;
        has_ended
    })
    .await;
}

/// Not enqueued before it is ready, here while the topic is looked up.
#[tokio::test(start_paused = true)]
async fn enqueue_to_a_new_topic() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let producer = producer(&cluster);
        let receipt = dropped_after(polls, producer.enqueue(record(0, 1))).await;
        let expected = if receipt.is_some() { vec![1, 99] } else { vec![99] };
        assert_eq!(log_behind_one_more(&cluster, &producer).await, expected, "{polls} polls");
        cluster.close().await;
        receipt.is_some()
    })
    .await;
}

/// A producer whose memory is taken by record 0, which is acknowledged after 100 ms.
async fn full(cluster: &MockCluster) -> Producer {
    let builder = builder(cluster).build().unwrap().producer().batch_size(16 * 1024).buffer_memory(32 * 1024);
    let producer = builder.build().unwrap();
    producer.send(record(0, 0)).await.unwrap();
    let large = || record(0, 0).value("0".repeat(12_000));
    cluster.inject(When::api(Api::Produce).times(1), Fault::delay_answer(MS * 100));
    while producer.try_enqueue(large()).is_ok() {}
    producer
}

#[tokio::test(start_paused = true)]
async fn enqueue_while_the_buffer_is_full() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let producer = full(&cluster).await;
        let receipt = dropped_after(polls, producer.enqueue(record(0, 1))).await;
        let log = log_behind_one_more(&cluster, &producer).await;
        let expected: &[usize] = if receipt.is_some() { &[1, 99] } else { &[99] };
        assert!(log.iter().skip_while(|number| **number == 0).eq(expected), "{polls} polls: {log:?}");
        cluster.close().await;
        receipt.is_some()
    })
    .await;
}

/// Dropped before the record is enqueued, it is not sent; later, it is.
#[tokio::test(start_paused = true)]
async fn send() {
    at_every_await(1, async |polls| {
        let cluster = cluster(1).await;
        let producer = producer(&cluster);
        let sent = dropped_after(polls, producer.send(record(0, 1))).await;
        let is_enqueued = producer.metrics().buffer_used > 0 || sent.is_some();
        let expected = if is_enqueued { vec![1, 99] } else { vec![99] };
        assert_eq!(log_behind_one_more(&cluster, &producer).await, expected, "{polls} polls");
        cluster.close().await;
        sent.is_some()
    })
    .await;
}

/// A receipt that is dropped takes nothing back.
#[tokio::test(start_paused = true)]
async fn a_receipt() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let producer = producer(&cluster);
        let receipt = producer.enqueue(record(0, 1)).await.unwrap();
        let placed = dropped_after(polls, receipt).await;
        assert_eq!(log_behind_one_more(&cluster, &producer).await, [1, 99], "{polls} polls");
        cluster.close().await;
        placed.is_some()
    })
    .await;
}

/// Some of the records from the front are enqueued, and those are sent.
#[tokio::test(start_paused = true)]
async fn enqueue_all_and_send_all() {
    for is_send in [false, true] {
        at_every_await(2, async |polls| {
            let cluster = cluster(1).await;
            let producer = full(&cluster).await;
            let records = (100..400).map(|n| record(0, n));
            let has_ended = match is_send {
                false => dropped_after(polls, producer.enqueue_all(records)).await.is_some(),
                true => dropped_after(polls, producer.send_all(records)).await.is_some(),
            };
            let log = log_behind_one_more(&cluster, &producer).await;
            let behind: Vec<_> = log.into_iter().skip_while(|number| *number == 0).collect();
            let enqueued = behind.len() - 1;
            assert!(behind.iter().copied().eq((100..100 + enqueued).chain([99])), "{polls} polls: {behind:?}");
            assert!((polls > 0 || enqueued == 0) && (!has_ended || enqueued == 300), "{polls} polls: {enqueued}");
            cluster.close().await;
            has_ended
        })
        .await;
    }
}

/// Nothing is undone: what was enqueued is sent, at once if it was asked to at all.
#[tokio::test(start_paused = true)]
async fn flush() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let builder = builder(&cluster).build().unwrap().producer().linger(SECOND * 10);
        let producer = builder.build().unwrap();
        let begin = tokio::time::Instant::now();
        let mut receipts = Vec::new();
        for n in 0..3 {
            receipts.push(producer.enqueue(record(0, n)).await.unwrap());
        }
        let has_ended = dropped_after(polls, producer.flush()).await.is_some();
        for (receipt, n) in receipts.into_iter().zip(0..) {
            assert_eq!(receipt.await.unwrap().offset, Some(n));
        }
        assert_eq!(begin.elapsed() < SECOND, polls > 0, "{polls} polls: {:?}", begin.elapsed());
        assert_eq!(logs(&cluster)[&0], [0, 1, 2]);
        cluster.close().await;
        has_ended
    })
    .await;
}

/// No more records are taken, and those that were are sent in the background.
#[tokio::test(start_paused = true)]
async fn close_of_a_producer() {
    at_every_await(1, async |polls| {
        let cluster = cluster(1).await;
        let before = tasks();
        let client = builder(&cluster).build().unwrap();
        let producer = client.producer().linger(SECOND * 10).build().unwrap();
        let receipt = producer.enqueue(record(0, 1)).await.unwrap();
        let closed = dropped_after(polls, producer.close(SECOND * 30)).await;
        let refused = producer.enqueue(record(0, 2)).await.err().map(|error| error.kind());
        assert_eq!(refused, (polls > 0).then_some(ErrorKind::Closed), "{polls} polls");
        assert_eq!(receipt.await.unwrap().offset, Some(0));
        drop((producer, client));
        tokio::time::sleep(SECOND * 30).await;
        let expected = if polls > 0 { vec![1] } else { vec![1, 2] };
        assert_eq!((tasks(), &logs(&cluster)[&0]), (before, &expected), "{polls} polls");
        cluster.close().await;
        closed.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn partitions_of_a_topic() {
    at_every_await(0, async |polls| {
        let cluster = cluster(3).await;
        let producer = producer(&cluster);
        let asked = dropped_after(polls, producer.partitions_for("t")).await;
        assert_eq!(producer.partitions_for("t").await.unwrap().len(), 3);
        let consumer = builder(&cluster).build().unwrap().consumer().build().unwrap();
        let again = dropped_after(polls, consumer.partitions_for("t")).await;
        assert_eq!(consumer.partitions_for("t").await.unwrap().len(), 3);
        cluster.close().await;
        asked.is_some() && again.is_some()
    })
    .await;
}

fn consumer(cluster: &MockCluster) -> Consumer {
    let client = builder(cluster).build().unwrap();
    let consumer = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([("t", 0)]).unwrap();
    consumer
}

/// A way to read: dropped after so many polls, it has either seen these offsets, or nothing.
type Reading = for<'a> fn(&'a mut Consumer, usize) -> futures_util::future::LocalBoxFuture<'a, Option<Vec<i64>>>;

const READINGS: [(&str, Reading); 5] = [
    ("recv", |consumer, polls| {
        Box::pin(async move { Some(vec![dropped_after(polls, consumer.recv()).await?.unwrap().offset()]) })
    }),
    ("try_next", |consumer, polls| {
        Box::pin(async move { Some(vec![dropped_after(polls, consumer.try_next()).await?.unwrap().unwrap().offset()]) })
    }),
    ("poll", |consumer, polls| {
        Box::pin(async move {
            let batch = dropped_after(polls, consumer.poll()).await?.unwrap().unwrap();
            Some(batch.map(|record| record.offset()).collect())
        })
    }),
    ("poll_max", |consumer, polls| {
        Box::pin(async move {
            let batch = dropped_after(polls, consumer.poll_max(2)).await?.unwrap().unwrap();
            // One of the two is left in the batch.
            Some(batch.take(1).map(|record| record.offset()).collect())
        })
    }),
    ("stream", |consumer, polls| {
        Box::pin(async move { Some(vec![dropped_after(polls, consumer.next()).await?.unwrap().unwrap().offset()]) })
    }),
];

/// No record is lost, and none comes twice: at the first record of a new consumer, and then at every one.
#[tokio::test(start_paused = true)]
async fn every_way_to_read() {
    for (name, read) in READINGS {
        at_every_await(0, async |polls| {
            let cluster = cluster(1).await;
            fill(&cluster, 10).await;
            let mut consumer = consumer(&cluster);
            let first = read(&mut consumer, polls).await;
            let has_ended = first.is_some();
            let mut seen = first.unwrap_or_default();
            while seen.len() < 10 {
                match read(&mut consumer, polls.max(1)).await {
                    Some(offsets) => seen.extend(offsets),
                    // Nothing else would let the world go on.
                    None => tokio::time::sleep(MS).await,
                }
            }
            assert!(seen.iter().copied().eq(0..10), "{name} after {polls} polls: {seen:?}");
            verify(&cluster, name);
            cluster.close().await;
            has_ended
        })
        .await;
    }
}

/// What was asked for is committed all the same, in its turn.
#[tokio::test(start_paused = true)]
async fn every_way_to_commit() {
    for way in 0..3 {
        at_every_await(0, async |polls| {
            let cluster = cluster(1).await;
            fill(&cluster, 10).await;
            let mut consumer = consumer(&cluster);
            for _ in 0..3 {
                let record = consumer.recv().await.unwrap();
                consumer.mark(&record);
            }
            let outcome = match way {
                0 => dropped_after(polls, consumer.commit()).await,
                1 => dropped_after(polls, consumer.commit_marked()).await,
                _ => dropped_after(polls, consumer.commit_offsets([(("t", 0), 3)])).await,
            };
            assert!(outcome.as_ref().is_none_or(Result::is_ok));
            // The next one stands behind it.
            consumer.commit_offsets([(("t", 0), 7)]).await.unwrap();
            assert_eq!(cluster.committed("g", "t", 0), Some(7));
            let requests = cluster.requests();
            let commits = requests.iter().filter(|request| request.api == Api::OffsetCommit).count();
            assert_eq!(commits, if polls > 0 { 2 } else { 1 }, "way {way} after {polls} polls");
            cluster.close().await;
            outcome.is_some()
        })
        .await;
    }
}

/// What only asks has no effect, and the next answer is as good as ever.
#[tokio::test(start_paused = true)]
async fn what_only_asks() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        fill(&cluster, 10).await;
        let consumer = consumer(&cluster);
        let tp = TopicPartition::new("t", 0);
        let ends = dropped_after(polls, consumer.watermarks(&tp)).await;
        let watermarks = consumer.watermarks(&tp).await.unwrap();
        assert_eq!((watermarks.low, watermarks.high), (0, 10));
        let times = dropped_after(polls, consumer.offsets_for_times([(("t", 0), 1)])).await;
        let found = consumer.offsets_for_times([(("t", 0), 1)]).await.unwrap();
        assert_eq!(found[&tp].map(|found| found.offset), Some(0));
        let committed = dropped_after(polls, consumer.committed([("t", 0)])).await;
        assert!(consumer.committed([("t", 0)]).await.unwrap().is_empty());
        verify(&cluster, "asked");
        cluster.close().await;
        ends.is_some() && times.is_some() && committed.is_some()
    })
    .await;
}

/// Dropped early, there is no end; else the end is where the log ended then.
#[tokio::test(start_paused = true)]
async fn stop_at_end() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        fill(&cluster, 3).await;
        let mut consumer = consumer(&cluster);
        let stopped = dropped_after(polls, consumer.stop_at_end()).await;
        for n in 0..3 {
            assert_eq!(consumer.recv().await.unwrap().offset(), n);
        }
        fill(&cluster, 1).await;
        let next = tokio::time::timeout(SECOND, consumer.try_next()).await.unwrap().unwrap();
        let expected = if stopped.is_some() { None } else { Some(3) };
        assert_eq!(next.map(|record| record.offset()), expected, "{polls} polls");
        cluster.close().await;
        stopped.is_some()
    })
    .await;
}

/// Closed all the same: nothing is left here, nor at the broker.
#[tokio::test(start_paused = true)]
async fn close_of_a_consumer() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        fill(&cluster, 3).await;
        tokio::time::sleep(SECOND).await;
        let before = tasks();
        let mut consumer = consumer(&cluster);
        consumer.recv().await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(cluster.fetch_sessions(1), 1);
        let closed = dropped_after(polls, consumer.close()).await;
        tokio::time::sleep(SECOND * 2).await;
        assert_eq!((tasks(), cluster.fetch_sessions(1)), (before, 0), "{polls} polls");
        cluster.close().await;
        closed.is_some()
    })
    .await;
}

/// Topics are created, deleted, grown or not; whoever asks again finds out, and nothing happens twice.
#[tokio::test(start_paused = true)]
async fn what_an_admin_changes() {
    at_every_await(0, async |polls| {
        let cluster = cluster(1).await;
        let admin = builder(&cluster).build().unwrap().admin();
        let create = || admin.create_topics([NewTopic::new("new", 2, 1)]).into_future();
        let created = dropped_after(polls, create()).await;
        match create().await {
            Ok(topics) => assert!(topics.len() == 1 && created.is_none(), "{polls} polls"),
            Err(error) => {
                assert!(error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) && polls > 0, "{polls} polls: {error}");
            }
        }
        assert_eq!(cluster.partitions("new"), Some(2));
        let grown = dropped_after(polls, admin.create_partitions("new", 3).into_future()).await;
        tokio::time::sleep(SECOND).await;
        // Whatever was written is done.
        let has_grown = cluster.partitions("new") == Some(3);
        assert_eq!(has_grown, polls > 0, "{polls} polls");
        let deleted = dropped_after(polls, admin.delete_topics(["new"]).into_future()).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(cluster.partitions("new").is_none(), polls > 0, "{polls} polls");
        let again = admin.delete_topics(["new"]).await.err().and_then(|error| error.code());
        assert_eq!(again, (polls > 0).then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{polls} polls");
        verify(&cluster, "administered");
        cluster.close().await;
        created.is_some() && grown.is_some() && deleted.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_an_admin_asks() {
    at_every_await(0, async |polls| {
        let cluster = cluster(2).await;
        let before = tasks();
        let client = builder(&cluster).build().unwrap();
        let admin = client.admin();
        let described = dropped_after(polls, admin.describe_cluster().into_future()).await;
        assert_eq!(admin.describe_cluster().await.unwrap().brokers.len(), 1);
        let listed = dropped_after(polls, admin.list_topics().into_future()).await;
        assert_eq!(admin.list_topics().await.unwrap().len(), 1);
        let topics = dropped_after(polls, admin.describe_topics(["t"]).into_future()).await;
        assert_eq!(admin.describe_topics(["t"]).await.unwrap()[0].partitions.len(), 2);
        verify(&cluster, "asked");
        drop((client, admin));
        tokio::time::sleep(SECOND).await;
        assert_eq!(tasks(), before, "{polls} polls");
        cluster.close().await;
        described.is_some() && listed.is_some() && topics.is_some()
    })
    .await;
}
