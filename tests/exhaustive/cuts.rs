//! Row 1 of the faults: at every byte of an exchange, in both directions, the connection ends.

use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Client, Error, ErrorKind, NewTopic, OffsetReset};
use tokio::time::Instant;

use crate::judge::{Logs, Outcome, Seen, Sent, Terms, Verdict, judge, judge_reader};
use crate::rig::*;

/// Runs a history for the cut at every byte in both directions: it says whether the exchange came that far. How many
/// bytes there were.
async fn at_every_byte(mut history: impl AsyncFnMut(Cut) -> bool) -> [usize; 2] {
    let mut counts = [0; 2];
    for (toward, count) in [Toward::Broker, Toward::Client].into_iter().zip(&mut counts) {
        while within(SECOND * 600, &format!("{toward:?} {count}"), history(Cut { toward, at: *count })).await {
            *count += 1;
        }
    }
    counts
}

/// A cluster, and a client whose connection ends there, once.
async fn cut_once(cut: Cut) -> (MockCluster, Wire, Client) {
    let cluster = cluster(1).await;
    let wire = Wire::cut_once(&cluster, cut);
    let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).build().unwrap();
    (cluster, wire, client)
}

/// Three batches of one record each, of which the first is acknowledged before the others go out together.
async fn produce(client: &Client, delivery_timeout: Duration) -> Vec<Sent> {
    let builder = client.producer().linger(Duration::ZERO).batch_size(1).max_block(delivery_timeout);
    let producer = builder.delivery_timeout(delivery_timeout).build().unwrap();
    let begin = Instant::now();
    let mut sent = Vec::new();
    let mut receipts = Vec::new();
    for n in 0..3 {
        match producer.enqueue(record(0, n)).await {
            Ok(receipt) => {
                let enqueued = begin.elapsed();
                receipts.push((n, tokio::spawn(async move { (receipt.await, begin.elapsed()) })));
                sent.push(Sent { enqueued, ends: Vec::new() });
            }
            Err(error) => {
                let ends = vec![(begin.elapsed(), Outcome::NotWritten(error.to_string()))];
                sent.push(Sent { enqueued: begin.elapsed(), ends });
            }
        }
        tokio::time::sleep(if n == 0 { MS * 50 } else { MS }).await;
    }
    for (n, receipt) in receipts {
        let (result, at) = receipt.await.unwrap();
        sent[n].ends.push((at, outcome(0, result)));
    }
    producer.close(SECOND * 60).await.unwrap();
    sent
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_three_batches_costs_nothing() {
    let counts = at_every_byte(async |cut| {
        let (cluster, wire, client) = cut_once(cut).await;
        let sent = produce(&client, SECOND * 120).await;
        let logs = logs(&cluster);
        let verdict = judge(&sent, &logs, &Terms::within(SECOND * 150));
        assert!(verdict.is_clean(), "{cut:?}: {verdict:?}");
        assert_eq!((verdict.acknowledged, &logs[&0]), (3, &vec![0, 1, 2]), "{cut:?}: {sent:?}");
        if !wire.is_cut() {
            assert_eq!(cluster.batches("t", 0).len(), 3);
        }
        verify(&cluster, &format!("{cut:?}"));
        cluster.close().await;
        wire.is_cut()
    })
    .await;
    assert!(counts[0] > 400 && counts[1] > 800, "{counts:?}");
}

/// Every connection ends at the same byte, for as long as a batch may take: what its receipt says is true.
#[tokio::test(start_paused = true)]
async fn receipts_are_true_when_every_connection_is_cut_at_the_same_byte() {
    let mut told = [0; 3];
    let counts = at_every_byte(async |cut| {
        let cluster = cluster(1).await;
        let wire = Wire::cut_always(&cluster, cut);
        let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).request_timeout(MS * 300);
        let sent = produce(&client.build().unwrap(), MS * 600).await;
        let verdict = judge(&sent, &logs(&cluster), &Terms::within(MS * 901));
        assert!(verdict.is_clean(), "{cut:?}: {verdict:?}");
        for (told, count) in told.iter_mut().zip([verdict.acknowledged, verdict.not_written, verdict.unknown]) {
            *told += count;
        }
        verify(&cluster, &format!("{cut:?}"));
        cluster.close().await;
        wire.is_cut()
    })
    .await;
    assert!(counts[0] > 200 && counts[1] > 400, "{counts:?}");
    assert!(!told.contains(&0), "acknowledged, not written, unknown: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_three_fetched_batches_costs_nothing() {
    let counts = at_every_byte(async |cut| {
        let (cluster, wire, client) = cut_once(cut).await;
        fill(&cluster, 3).await;
        let builder = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
        let mut consumer = builder.build().unwrap();
        consumer.assign([("t", 0)]).unwrap();
        let mut seen = Vec::new();
        let mut errors = Vec::new();
        while seen.len() < 3 {
            let record = match consumer.recv().await {
                Ok(record) => record,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let (partition, offset) = (record.partition(), record.offset());
            seen.push(Seen::Record { partition, offset, number: number(record.value()) });
            if offset == 1 {
                // From here on, while the rest is fetched.
                consumer.commit().await.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
                assert_eq!(cluster.committed("g", "t", 0), Some(2), "{cut:?}");
            }
        }
        let mut verdict = Verdict::default();
        judge_reader(&mut verdict, &seen, &Logs::from([(0, vec![0, 1, 2])]));
        assert!(verdict.is_clean(), "{cut:?}: {verdict:?}");
        // Who had never answered may be no broker at all: that is said once, and tried again.
        let is_first_word = |error: &Error| error.to_string().starts_with("no broker could be reached");
        assert!(errors.len() <= 1 && errors.iter().all(is_first_word), "{cut:?}: {errors:?}");
        consumer.close().await.unwrap();
        verify(&cluster, &format!("{cut:?}"));
        cluster.close().await;
        wire.is_cut()
    })
    .await;
    assert!(counts[0] > 400 && counts[1] > 800, "{counts:?}");
}

/// The same of what an admin asks, whose answers may be lost: then it says so.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_of_what_an_admin_asks_is_survived() {
    let counts = at_every_byte(async |cut| {
        let (cluster, wire, client) = cut_once(cut).await;
        let admin = client.admin();
        if let Err(error) = admin.create_topics([NewTopic::new("orders", 3, 1)]).await {
            assert!(error.to_string().contains("an earlier attempt"), "{cut:?}: {error}");
        }
        let topics = admin.describe_topics(["orders"]).await.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert_eq!(topics[0].partitions.len(), 3, "{cut:?}");
        let described = admin.describe_cluster().await.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert_eq!(described.brokers.len(), 1, "{cut:?}");
        cluster.close().await;
        wire.is_cut()
    })
    .await;
    assert!(counts[0] > 200 && counts[1] > 500, "{counts:?}");
}

/// Every connection ends after so many bytes: no call can succeed, and every one says so in its time.
#[tokio::test(start_paused = true)]
async fn cuts_for_ever_are_errors_in_time() {
    for at in 0..120 {
        for toward in [Toward::Broker, Toward::Client] {
            let cut = Cut { toward, at };
            let cluster = cluster(1).await;
            let client = Client::builder(cluster.bootstrap()).connector(Wire::cut_always(&cluster, cut));
            let client = client.default_api_timeout(SECOND * 5).build().unwrap();
            let start = Instant::now();
            let outcome = within(SECOND * 60, &format!("{cut:?}"), async { client.admin().list_topics().await }).await;
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::Timeout, "{cut:?}: {error}");
            } else {
                assert!(toward == Toward::Broker && at >= 60, "{cut:?}: it cannot have got through");
            }
            assert!(start.elapsed() <= SECOND * 5, "{cut:?}: {:?}", start.elapsed());
            cluster.close().await;
        }
    }
}
