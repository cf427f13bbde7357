//! Streams that are choked, deaf, broken or slow. Those that are cut: `tests/exhaustive`.

use std::future::IntoFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{ErrorKind, NewTopic, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::rig::*;

/// A stream in the hands of a test.
#[derive(Clone, Default)]
struct Hand {
    /// Writes are not taken any more.
    is_choked: Arc<AtomicBool>,
    /// Writes fail. Until then nothing is read, if `is_deaf`.
    is_broken: Arc<AtomicBool>,
    is_deaf: Arc<AtomicBool>,
    /// Bytes at a time, in both directions; 0 is no limit.
    pace: usize,
}

struct Handled {
    inner: Box<dyn Transport>,
    hand: Hand,
}

impl Hand {
    fn take(&self, stream: Box<dyn Transport>) -> Box<dyn Transport> {
        Box::new(Handled { inner: stream, hand: self.clone() })
    }
}

impl Handled {
    /// How many bytes may pass now.
    fn allowance(&self, wanted: usize) -> usize {
        if self.hand.pace == 0 { wanted } else { wanted.min(self.hand.pace) }
    }
}

impl AsyncRead for Handled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.hand.is_deaf.load(SeqCst) && !self.hand.is_broken.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.remaining());
        let mut bytes = vec![0; allowance];
        let mut limited = ReadBuf::new(&mut bytes);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut limited);
        buf.put_slice(limited.filled());
        outcome
    }
}

impl AsyncWrite for Handled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.hand.is_broken.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.hand.is_choked.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.len());
        Pin::new(&mut self.inner).poll_write(cx, &buf[..allowance])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

async fn hand_in_hand(hand: &Hand) -> (MockCluster, Gate) {
    let cluster = one_in_memory().await;
    let hand = hand.clone();
    let gate = Gate::wrapping(&cluster, move |stream| hand.take(stream));
    (cluster, gate)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_still_read() {
    let hand = Hand::default();
    let (cluster, gate) = hand_in_hand(&hand).await;
    let client = gate.client(&cluster).request_timeout(SECOND * 5).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    cluster.inject(When::api(Api::Metadata).times(1), Fault::delay_answer(SECOND));
    let first = tokio::spawn(admin.describe_cluster().into_future());
    tokio::time::sleep(ms(100)).await;
    hand.is_choked.store(true, SeqCst);
    let names = (0..10_000).map(|nth| format!("a-topic-with-a-rather-long-name-{nth}"));
    let second = tokio::spawn(admin.describe_topics(names).timeout(SECOND * 3).into_future());
    let start = Instant::now();
    first.await.unwrap().unwrap();
    assert!(start.elapsed() <= SECOND, "{:?}", start.elapsed());
    assert_eq!(second.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    // A connection that takes nothing is given up after request_timeout, and the next one works.
    hand.is_choked.store(false, SeqCst);
    admin.describe_cluster().await.unwrap();
    cluster.close().await;
}

/// What the broker said before a write failed is not lost.
#[tokio::test(start_paused = true)]
async fn an_answer_that_arrived_survives_a_write_error() {
    let hand = Hand::default();
    let (cluster, gate) = hand_in_hand(&hand).await;
    let client = gate.client(&cluster).connect().await.unwrap();
    let admin = client.admin();
    admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
    let created = cluster.requests().len();
    hand.is_deaf.store(true, SeqCst);
    let first = tokio::spawn(admin.create_topics([NewTopic::new("bills", 1, 1)]).into_future());
    tokio::time::sleep(ms(100)).await;
    hand.is_broken.store(true, SeqCst);
    let second = tokio::spawn(admin.create_partitions("orders", 2).into_future());
    tokio::time::sleep(ms(1)).await;
    hand.is_deaf.store(false, SeqCst);
    hand.is_broken.store(false, SeqCst);
    // Asked again, it would find that the topic exists.
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(cluster.requests().len() > created);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn bytes_may_come_one_by_one() {
    for pace in [1, 2, 3, 7] {
        let hand = Hand { pace, ..Hand::default() };
        let (cluster, gate) = hand_in_hand(&hand).await;
        let client = gate.client(&cluster).connect().await.unwrap();
        exchange(&client).await.unwrap();
        assert_eq!(gate.attempts().len(), 3, "the seed, and two classes at the broker");
        cluster.close().await;
    }
}
