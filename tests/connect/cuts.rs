//! Streams that are choked, deaf, broken, or cut at any byte.

use std::future::IntoFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
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
    /// So many bytes more in both directions together, then the stream ends.
    fuse: Option<Arc<Fuse>>,
}

struct Fuse {
    left: AtomicUsize,
    /// Whether streams that are made later are cut as well.
    is_single: bool,
    has_blown: AtomicBool,
    bytes: AtomicUsize,
}

struct Handled {
    inner: Box<dyn Transport>,
    hand: Hand,
    /// Cut off by the fuse.
    is_dead: bool,
}

impl Hand {
    fn take(&self, stream: Box<dyn Transport>) -> Box<dyn Transport> {
        Box::new(Handled { inner: stream, hand: self.clone(), is_dead: false })
    }
}

impl Handled {
    /// How many bytes may pass now.
    fn allowance(&mut self, wanted: usize) -> usize {
        let paced = if self.hand.pace == 0 { wanted } else { wanted.min(self.hand.pace) };
        match &self.hand.fuse {
            Some(fuse) if !(fuse.is_single && fuse.has_blown.load(SeqCst)) => paced.min(fuse.left.load(SeqCst)),
            _ => paced,
        }
    }

    fn passed(&mut self, bytes: usize) {
        if let Some(fuse) = &self.hand.fuse {
            fuse.bytes.fetch_add(bytes, SeqCst);
            if !(fuse.is_single && fuse.has_blown.load(SeqCst)) {
                fuse.left.fetch_sub(bytes, SeqCst);
            }
        }
    }

    fn is_cut(&mut self) -> bool {
        if let Some(fuse) = &self.hand.fuse
            && fuse.left.load(SeqCst) == 0
            && !(fuse.is_single && fuse.has_blown.swap(true, SeqCst))
        {
            self.is_dead = true;
        }
        self.is_dead
    }
}

impl AsyncRead for Handled {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return Poll::Ready(Ok(()));
        }
        if self.hand.is_deaf.load(SeqCst) && !self.hand.is_broken.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.remaining());
        let mut bytes = vec![0; allowance];
        let mut limited = ReadBuf::new(&mut bytes);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut limited);
        buf.put_slice(limited.filled());
        self.passed(limited.filled().len());
        outcome
    }
}

impl AsyncWrite for Handled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_cut() || self.hand.is_broken.load(SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.hand.is_choked.load(SeqCst) {
            return Poll::Pending;
        }
        let allowance = self.allowance(buf.len());
        let outcome = Pin::new(&mut self.inner).poll_write(cx, &buf[..allowance]);
        if let Poll::Ready(Ok(written)) = outcome {
            self.passed(written);
        }
        outcome
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

/// Row 1 of the faults: at every byte of the exchange, in both directions, the stream ends once.
#[tokio::test(start_paused = true)]
async fn a_cut_at_any_byte_is_survived() {
    let mut after = usize::MAX;
    loop {
        let fuse = Arc::new(Fuse {
            left: AtomicUsize::new(after),
            is_single: true,
            has_blown: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
        });
        let hand = Hand { fuse: Some(Arc::clone(&fuse)), ..Hand::default() };
        let (cluster, gate) = hand_in_hand(&hand).await;
        let client = gate.client(&cluster).default_api_timeout(SECOND * 5).build().unwrap();
        let outcome = tokio::time::timeout(SECOND * 60, exchange(&client)).await;
        outcome.unwrap_or_else(|_| panic!("a cut after {after} bytes hangs")).unwrap_or_else(|error| {
            panic!("a cut after {after} bytes: {error}");
        });
        cluster.close().await;
        after = match after {
            // The first run counts.
            usize::MAX => {
                assert!(fuse.bytes.load(SeqCst) > 500, "{}", fuse.bytes.load(SeqCst));
                fuse.bytes.load(SeqCst)
            }
            0 => return,
            after => after - 1,
        };
    }
}

/// Every connection ends after so many bytes: no call can succeed, and every one says so in its time.
#[tokio::test(start_paused = true)]
async fn cuts_for_ever_are_errors_in_time() {
    for after in 0..120 {
        let cluster = one_in_memory().await;
        let gate = Gate::wrapping(&cluster, move |stream| {
            let fuse = Fuse {
                left: AtomicUsize::new(after),
                is_single: false,
                has_blown: AtomicBool::new(false),
                bytes: AtomicUsize::new(0),
            };
            Hand { fuse: Some(Arc::new(fuse)), ..Hand::default() }.take(stream)
        });
        let client = gate.client(&cluster).default_api_timeout(SECOND * 5).build().unwrap();
        let start = Instant::now();
        let outcome = tokio::time::timeout(SECOND * 60, client.admin().list_topics().into_future()).await;
        let error = outcome.unwrap_or_else(|_| panic!("cuts after {after} bytes hang")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(start.elapsed() <= SECOND * 5, "{:?}", start.elapsed());
        assert!(gate.attempts().len() < 20, "{} attempts in five seconds", gate.attempts().len());
        cluster.close().await;
    }
}
