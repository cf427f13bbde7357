//! A cluster in memory, a wire that ends where a test wants it to, and futures that are dropped where they wait.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use milena::mock::{MockCluster, MockConnector, ViolationKind};
use milena::{Address, Client, ClientBuilder, Connecting, Connector, Fate, Record, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::judge::{Logs, Outcome};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// A broker with a topic `t`.
pub async fn cluster(partitions: usize) -> MockCluster {
    let cluster = MockCluster::builder().in_memory().start().await;
    cluster.create_topic("t", partitions);
    cluster
}

pub fn builder(cluster: &MockCluster) -> ClientBuilder {
    Client::builder(cluster.bootstrap()).connector(cluster.connector())
}

/// Record `number`: its value is its number, its size always the same.
pub fn record(partition: i32, number: usize) -> Record<'static> {
    Record::to("t").partition(partition).value(number.to_string()).timestamp(1_700_000_000_000)
}

pub fn number(value: Option<&[u8]>) -> usize {
    value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok()).unwrap_or(usize::MAX)
}

/// What is in the logs.
pub fn logs(cluster: &MockCluster) -> Logs {
    let partitions = cluster.partitions("t").expect("it is there") as i32;
    let log = |partition| {
        let log = cluster.log("t", partition);
        assert!(log.iter().zip(0..).all(|(record, offset)| record.offset == offset));
        log.iter().map(|record| number(record.value.as_deref())).collect()
    };
    (0..partitions).map(|partition| (partition, log(partition))).collect()
}

/// One record of each batch, in its own request, into partition 0.
pub async fn fill(cluster: &MockCluster, count: usize) {
    let producer = builder(cluster).build().unwrap().producer().linger(Duration::ZERO).build().unwrap();
    for n in 0..count {
        producer.send(record(0, n)).await.unwrap();
    }
    producer.close(SECOND).await.unwrap();
}

pub fn outcome(partition: i32, result: Result<milena::RecordMetadata, milena::DeliveryError>) -> Outcome {
    match result {
        Ok(placed) => Outcome::Acknowledged { partition, offset: placed.offset },
        Err(error) if error.fate == Fate::NotWritten => Outcome::NotWritten(error.error.to_string()),
        Err(error) => Outcome::Unknown(error.error.to_string()),
    }
}

/// The client kept the protocol. Whom nobody answers it asks who he is, by two empty lines: those are no frame.
#[track_caller]
pub fn verify(cluster: &MockCluster, about: &str) {
    let mut violations = cluster.verify();
    violations.retain(|violation| {
        violation.kind != ViolationKind::Undecodable
            || !violation.message.contains("the length of a frame is out of range")
    });
    assert!(violations.is_empty(), "{about}: {violations:#?}");
}

pub async fn within<T>(limit: Duration, about: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future).await.unwrap_or_else(|_| panic!("{about}: not within {limit:?}"))
}

pub fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// What a future comes to that is dropped after so many polls, if it comes to anything by then. It is polled when it is
/// woken, so each number is a place where it waits.
pub async fn dropped_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A history for each number of polls, from none on, until the future in it has ended by itself, as it says. It must have
/// waited at `least` so many times.
pub async fn at_every_await(least: usize, mut history: impl AsyncFnMut(usize) -> bool) {
    for polls in 0..1_000 {
        if within(SECOND * 600, &format!("dropped after {polls} polls"), history(polls)).await {
            assert!(polls > least, "it waited {} times", polls - 1);
            return;
        }
    }
    panic!("it does not end");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    Broker,
    Client,
}

/// Connects to a mock cluster by streams that end where they are told: behind `at` bytes in one direction.
#[derive(Clone)]
pub struct Wire {
    to: MockConnector,
    cut: Cut,
    is_single: bool,
    counter: Arc<Counter>,
}

#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub toward: Toward,
    pub at: usize,
}

/// Of all streams together.
#[derive(Default)]
struct Counter {
    /// Bytes in the direction of the cut.
    passed: AtomicUsize,
    cuts: AtomicUsize,
}

impl Wire {
    /// One stream ends, once all have passed so many bytes together.
    pub fn cut_once(cluster: &MockCluster, cut: Cut) -> Self {
        Self { to: cluster.connector(), cut, is_single: true, counter: Arc::default() }
    }

    /// Every stream ends there.
    pub fn cut_always(cluster: &MockCluster, cut: Cut) -> Self {
        Self { is_single: false, ..Self::cut_once(cluster, cut) }
    }

    /// Whether it came to that.
    pub fn is_cut(&self) -> bool {
        self.counter.cuts.load(SeqCst) > 0
    }
}

impl Connector for Wire {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async {
            let inner = self.to.connect(broker).await?;
            let stream = Stream { inner, wire: self.clone(), passed: 0, is_dead: false };
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

struct Stream {
    inner: Box<dyn Transport>,
    wire: Wire,
    passed: usize,
    is_dead: bool,
}

impl Stream {
    /// How many bytes may pass in this direction; none: here it ends.
    fn allowance(&mut self, toward: Toward, wanted: usize) -> Option<usize> {
        let Wire { cut, is_single, ref counter, .. } = self.wire;
        if toward == cut.toward && !self.is_dead && !(is_single && self.wire.is_cut()) {
            let passed = if is_single { counter.passed.load(SeqCst) } else { self.passed };
            if passed < cut.at {
                return Some((cut.at - passed).min(wanted));
            }
            counter.cuts.fetch_add(1, SeqCst);
            self.is_dead = true;
        }
        (!self.is_dead).then_some(wanted)
    }

    fn passed(&mut self, toward: Toward, bytes: usize) {
        if toward == self.wire.cut.toward {
            self.passed += bytes;
            self.wire.counter.passed.fetch_add(bytes, SeqCst);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(allowance) = self.allowance(Toward::Client, buf.remaining()) else { return Poll::Ready(Ok(())) };
        let mut bytes = vec![0; allowance];
        let mut limited = ReadBuf::new(&mut bytes);
        let outcome = Pin::new(&mut self.inner).poll_read(cx, &mut limited);
        buf.put_slice(limited.filled());
        self.passed(Toward::Client, limited.filled().len());
        outcome
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Some(allowance) = self.allowance(Toward::Broker, buf.len()) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let outcome = Pin::new(&mut self.inner).poll_write(cx, &buf[..allowance]);
        if let Poll::Ready(Ok(written)) = outcome {
            self.passed(Toward::Broker, written);
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
