//! Servers that are no Kafka, and a connector between a client and the mock.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::mock::MockCluster;
use milena::{Address, Client, ClientBuilder, Connecting, Connector, Error, ErrorCode, NewTopic, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

pub const SECOND: Duration = Duration::from_secs(1);

pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server on loopback that treats every connection as `serve` says.
pub async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Answers the first request with `bytes`, and closes.
pub async fn stranger(bytes: &'static [u8]) -> String {
    server(move |mut stream| async move {
        let _ = stream.read(&mut [0; 512]).await;
        let _ = stream.write(bytes).await;
    })
    .await
}

/// Accepts and says nothing.
pub async fn silent() -> String {
    server(|stream| async move {
        tokio::time::sleep(SECOND * 3600).await;
        drop(stream);
    })
    .await
}

/// A port at which nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Passes everything on to `target`.
pub async fn forward(listener: TcpListener, target: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            let Ok(mut onward) = TcpStream::connect(target).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
        });
    }
}

pub fn quick(bootstrap: &[&String]) -> ClientBuilder {
    Client::builder(bootstrap).connection_setup_timeout(ms(300), ms(300)).default_api_timeout(SECOND)
}

/// What connecting says, which takes at most `limit`.
pub async fn refusal(builder: ClientBuilder, limit: Duration) -> Error {
    let start = Instant::now();
    let error = builder.connect().await.expect_err("there is no Kafka");
    assert!(start.elapsed() < limit, "{:?}: {error}", start.elapsed());
    error
}

/// A connector in front of another one, which counts, refuses, and wraps streams.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<dyn Connector>,
    pub attempts: Arc<Mutex<Vec<Instant>>>,
    pub is_shut: Arc<AtomicBool>,
    wrap: Arc<Wrap>,
}

pub type Wrap = dyn Fn(Box<dyn Transport>) -> Box<dyn Transport> + Send + Sync;

impl Gate {
    pub fn new(cluster: &MockCluster) -> Self {
        Self::wrapping(cluster, |stream| stream)
    }

    pub fn wrapping(
        cluster: &MockCluster,
        wrap: impl Fn(Box<dyn Transport>) -> Box<dyn Transport> + Send + Sync + 'static,
    ) -> Self {
        let inner = Arc::new(cluster.connector());
        Self { inner, attempts: Arc::default(), is_shut: Arc::default(), wrap: Arc::new(wrap) }
    }

    pub fn attempts(&self) -> Vec<Instant> {
        self.attempts.lock().unwrap().clone()
    }

    pub fn client(&self, cluster: &MockCluster) -> ClientBuilder {
        Client::builder(cluster.bootstrap()).connector(self.clone())
    }
}

impl Connector for Gate {
    fn connect<'a>(&'a self, broker: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            self.attempts.lock().unwrap().push(Instant::now());
            if self.is_shut.load(SeqCst) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            Ok((self.wrap)(self.inner.connect(broker).await?))
        })
    }
}

pub async fn one_in_memory() -> MockCluster {
    MockCluster::builder().in_memory().start().await
}

/// A little of everything.
pub async fn exchange(client: &Client) -> Result<(), Error> {
    let admin = client.admin();
    match admin.create_topics([NewTopic::new("orders", 3, 1)]).await {
        // The first attempt's answer was lost: as documented.
        Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {
            assert!(error.to_string().contains("an earlier attempt"), "{error}");
        }
        outcome => assert_eq!(outcome?.len(), 1),
    }
    let topics = admin.describe_topics(["orders"]).await?;
    assert_eq!(topics[0].partitions.len(), 3);
    assert_eq!(admin.describe_cluster().await?.brokers.len(), 1);
    Ok(())
}
