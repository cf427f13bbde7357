//! How to test your own code with the mock cluster: a chapter, no items.
//!
//! The mock is a cluster in your test's process: real frames, real checks, real errors, none of the waiting. Cargo needs
//! the feature for tests alone:
//!
//! ```toml
//! [dev-dependencies]
//! milena = { version = "0.1", features = ["mock"] }
//! tokio = { version = "1", features = ["macros", "rt", "test-util"] }
//! ```
//!
//! # A first test
//!
//! Start a cluster, give its addresses to your code, look into its logs. Here is the code under test, which the examples
//! below use too, and its test:
//!
//! ```
//! use milena::mock::MockCluster;
//! use milena::{Client, Error, Producer, Record};
//!
//! /// The code under test.
//! async fn place(producer: &Producer, customer: &str, order: &str) -> Result<(), Error> {
//!     producer.send(Record::to("orders").key(customer.to_owned()).value(order.to_owned())).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = MockCluster::builder().brokers(3).start().await;
//! cluster.create_topic("orders", 1);
//! let client = Client::builder(cluster.bootstrap()).connect().await?;
//!
//! place(&client.producer().build()?, "42", "a book").await?;
//!
//! let log = cluster.log("orders", 0);
//! assert_eq!(log[0].value.as_deref(), Some(&b"a book"[..]));
//! cluster.close().await; // panics, if a broker has: no test passes on a broken mock
//! # Ok(()) }
//! ```
//!
//! # An hour in a millisecond
//!
//! A cluster [in memory](super::MockClusterBuilder::in_memory) opens no socket, so tokio's clock can be paused: it jumps
//! to the next timer whenever every task waits. Time-outs, back-off and retries then cost nothing, and the same seed
//! gives the same run. Write `#[tokio::test(start_paused = true)]`, and hand over the
//! [connector](super::MockCluster::connector):
//!
//! ```
//! # use std::time::Duration;
//! # use milena::mock::MockCluster;
//! # use milena::{Client, Record};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = MockCluster::builder().in_memory().start().await;
//! cluster.create_topic("orders", 1);
//! let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await?;
//! let producer = client.producer().delivery_timeout(Duration::from_secs(3600)).build()?;
//!
//! producer.send(Record::to("orders").value("while all is well")).await?;
//! cluster.stop_broker(1).await;
//! let receipt = producer.enqueue(Record::to("orders").value("patient")).await?;
//! tokio::time::sleep(Duration::from_secs(1800)).await; // half an hour of reconnecting
//! cluster.start_broker(1).await;
//!
//! assert_eq!(receipt.await?.offset, Some(1));
//! cluster.close().await;
//! # Ok(()) }
//! ```
//!
//! # A fault, and what has to come of it
//!
//! [`inject`](super::MockCluster::inject) takes *when* and *what*. The handle tells how often it has struck: assert that
//! it has, or the test shows nothing. Here the acknowledgement of the first produce request is lost; an idempotent
//! producer repeats it, and the record is there once:
//!
//! ```
//! # use milena::mock::{Api, Fault, MockCluster, When};
//! # use milena::{Client, Record};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = MockCluster::builder().in_memory().start().await;
//! # cluster.create_topic("orders", 1);
//! # let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await?;
//! # let producer = client.producer().build()?;
//! let lost = cluster.inject(When::api(Api::Produce).nth(1), Fault::lose_answer());
//!
//! let sent = producer.send(Record::to("orders").value("once")).await?;
//!
//! assert_eq!(lost.struck(), 1);
//! assert_eq!(sent.offset, Some(0));
//! assert_eq!(cluster.log("orders", 0).len(), 1);
//! let produced = cluster.requests().iter().filter(|request| request.api == Api::Produce).count();
//! assert_eq!(produced, 2);
//! # cluster.close().await;
//! # Ok(()) }
//! ```
//!
//! An error that your code has to report, rather than survive, is given with its code, here `TOPIC_AUTHORIZATION_FAILED`:
//!
//! ```
//! # use milena::mock::{Api, Fault, MockCluster, When};
//! # use milena::{Client, Record};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = MockCluster::builder().in_memory().start().await;
//! # cluster.create_topic("orders", 1);
//! # let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await?;
//! # let producer = client.producer().build()?;
//! cluster.inject(When::api(Api::Produce).topic("orders"), Fault::error(29));
//! assert!(producer.send(Record::to("orders").value("forbidden")).await.is_err());
//! assert!(cluster.log("orders", 0).is_empty());
//! assert!(cluster.unused_faults().is_empty(), "every fault has struck");
//! # cluster.close().await;
//! # Ok(()) }
//! ```
//!
//! The others: [delay](super::Fault::delay), [stall](super::Fault::stall), [close](super::Fault::close),
//! [cut](super::Fault::cut) after some bytes, [corrupt](super::Fault::corrupt),
//! [stale metadata](super::Fault::stale_metadata), [throttle](super::Fault::throttle). Conditions add up: API, broker,
//! topic or partition, the nth, every kth, so many times, with a probability.
//!
//! # Brokers and leaders that move
//!
//! What operators and accidents do, a test does by a call, at the moment that it chooses:
//!
//! ```
//! # use std::time::Duration;
//! # use milena::mock::{Fault, Link, MockCluster, When};
//! # use milena::{Client, Record};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = MockCluster::builder().brokers(3).in_memory().start().await;
//! # cluster.create_topic("orders", 1);
//! # let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await?;
//! # let producer = client.producer().build()?;
//! cluster.move_leader("orders", 0, 2);
//! producer.send(Record::to("orders").value("to 2")).await?;
//! // Broker 1 does not hear of the next move, and goes on to name broker 2.
//! cluster.inject(When::any().broker(1), Fault::stale_metadata());
//! let added = cluster.add_broker().await;
//! cluster.move_leader("orders", 0, added);
//! // And broker 2 is far away, when it is not dead.
//! cluster.set_link(2, Link::new().latency(Duration::from_millis(80)));
//! producer.send(Record::to("orders").value("to the new one")).await?;
//! cluster.stop_broker(2).await; // as kill -9; `shut_down_broker` is in order
//! producer.send(Record::to("orders").value("still there")).await?;
//! let epochs: Vec<_> = cluster.batches("orders", 0).iter().map(|batch| batch.leader_epoch).collect();
//! assert!(epochs.is_sorted() && epochs[0] < epochs[2], "{epochs:?}");
//! # cluster.close().await;
//! # Ok(()) }
//! ```
//!
//! # Old brokers
//!
//! A cluster offers what a [release](super::KafkaRelease) of Kafka offered, less what you take away:
//!
//! ```
//! # use milena::mock::{Api, KafkaRelease, MockCluster};
//! # use milena::{Client, Record};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for &release in KafkaRelease::ALL {
//!     let cluster = MockCluster::builder().release(release).max_version(Api::Fetch, 10).start().await;
//!     cluster.create_topic("orders", 1);
//!     let client = Client::builder(cluster.bootstrap()).connect().await?;
//!     client.producer().build()?.send(Record::to("orders").value("x")).await?;
//!     assert!(cluster.requests().iter().all(|request| request.api != Api::Fetch || request.version <= 10));
//!     cluster.close().await;
//! }
//! # Ok(()) }
//! ```
//!
//! # The end of a test
//!
//! [`verify`](super::MockCluster::verify) judges the whole run by the rules that do not depend on your code: logs without
//! gaps, nothing acknowledged and lost, nothing there twice, sequence numbers in order, commits within the log. Each
//! [`Violation`](super::Violation) says which [rule](super::ViolationKind) was broken, and has the events that show it.
//!
//! ```
//! # use milena::mock::MockCluster;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # let cluster = MockCluster::start().await;
//! let violations = cluster.verify();
//! assert!(violations.is_empty(), "{violations:#?}");
//! cluster.close().await;
//! # }
//! ```
//!
//! # Other languages
//!
//! The same cluster as a program: `cargo run --example mock-cluster -- --port 9092 --topic orders:6`. It prints
//! `KAFKA_BOOTSTRAP=127.0.0.1:9092` once it serves, and stops at SIGTERM, or with `--until-stdin-closes` together with the
//! test that has started it.
