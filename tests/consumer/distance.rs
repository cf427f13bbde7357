//! A broker far away: requests that stand in line on one connection end with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use milena::mock::{Link, MockConnector};
use milena::{Address, Client, Connecting, Connector, OffsetReset, Record};
use tokio::time::Instant;

use crate::rig::*;
use crate::tap::tap;

const PARTITIONS: i32 = 6;
const RECORDS: i64 = 1_000;

/// Makes one large answer unreadable: the sixth of the fourth connection.
struct Garbling {
    to: MockConnector,
    connections: AtomicUsize,
    garbled: Arc<AtomicBool>,
}

const LARGE: usize = 20_000;
/// In a fetch answer from version 12 on: length, correlation id, no tagged fields, throttle, error, session; then how many
/// topics.
const TOPICS: usize = 4 + 4 + 1 + 4 + 2 + 4;

impl Connector for Garbling {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let inner = self.to.connect(broker).await?;
            // Two for everything else, one that may wait at the broker, one that does not.
            let is_immediate = self.connections.fetch_add(1, Ordering::SeqCst) == 3;
            let garbled = Arc::clone(&self.garbled);
            let (mut place, mut size, mut large) = (0, 0, 0);
            Ok(tap(inner, move |heard| {
                let Poll::Ready(bytes) = heard else { return };
                for byte in bytes {
                    match place {
                        0..4 => size = size << 8 | usize::from(*byte),
                        4 => large += usize::from(size > LARGE),
                        // More of them than a number of topics can say.
                        TOPICS.. if is_immediate && large == 6 && place < TOPICS + 10 => {
                            *byte = 0xff;
                            garbled.store(true, Ordering::SeqCst);
                        }
                        _ => {}
                    }
                    place += 1;
                    if place == 4 + size {
                        (place, size) = (0, 0);
                    }
                }
            }))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_line_behind_an_answer_that_nobody_understands_is_asked_for_again() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", PARTITIONS as usize);
    let producer = client(&cluster).await.producer().build().unwrap();
    for n in 0..RECORDS {
        for partition in 0..PARTITIONS {
            let value = format!("{n:0>10000}");
            producer.enqueue(Record::to("t").partition(partition).value(value)).await.unwrap();
        }
    }
    producer.close(60 * SECOND).await.unwrap();
    cluster.set_link(1, Link::new().latency(Duration::from_millis(10)));
    let garbled = Arc::new(AtomicBool::new(false));
    let wire = Garbling { to: cluster.connector(), connections: AtomicUsize::new(0), garbled: Arc::clone(&garbled) };
    let client = Client::builder(cluster.bootstrap()).connector(wire).connect().await.unwrap();
    let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.fetch_buffer(16 << 20).build().unwrap();
    consumer.assign(all(PARTITIONS)).unwrap();
    let mut next = [0; PARTITIONS as usize];
    let mut longest = Duration::ZERO;
    for _ in 0..RECORDS * i64::from(PARTITIONS) {
        let asked = Instant::now();
        let record = within(60 * SECOND, consumer.recv()).await.unwrap();
        longest = longest.max(asked.elapsed());
        let next = &mut next[record.partition() as usize];
        assert_eq!(record.offset(), *next, "partition {}", record.partition());
        *next += 1;
    }
    assert!(garbled.load(Ordering::SeqCst), "nothing was garbled");
    // The one, and several behind it, none of which waits for its deadline.
    let failed = consumer.metrics().fetches_failed;
    assert!((3..=7).contains(&failed), "{failed} fetches failed");
    assert!(longest < SECOND / 2, "{longest:?} without a record");
}
