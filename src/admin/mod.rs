//! Administration: topics, partitions, the cluster. Start at [`Admin`].
//!
//! Operations on several things answer for each of them: awaiting the request gives all of the results or the first error,
//! and its `each()` gives every thing its own `Result`, as Java's Admin client does.
//!
//! ```
//! use milena::NewTopic;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
//! # let cluster = milena::mock::MockCluster::start().await;
//! # cluster.create_topic("payments", 1);
//! # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
//! let admin = client.admin();
//!
//! // All or an error.
//! let created = admin.create_topics([NewTopic::new("orders", 12, 1)]).await?;
//! assert_eq!(created[0].partitions, Some(12));
//!
//! // Each its own result.
//! let topics = [NewTopic::new("invoices", 3, 1), NewTopic::new("payments", 3, 1)];
//! for (topic, result) in admin.create_topics(topics).each().await {
//!     match result {
//!         Ok(created) => println!("{topic} has {:?} partitions", created.partitions),
//!         Err(error) if error.code() == Some(milena::ErrorCode::TOPIC_ALREADY_EXISTS) => println!("{topic} was there"),
//!         Err(error) => return Err(error),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # What a lost answer means
//! A request whose answer is lost is sent again, as Java's client does, until [`timeout`](CreateTopics::timeout) is over. The
//! first attempt may have worked all the same: then the second one answers that the topic exists already, or no longer, and
//! the error says that an earlier attempt may have been the reason. An error of kind [`Timeout`](crate::ErrorKind::Timeout) or
//! code `REQUEST_TIMED_OUT` leaves open whether it was done.
//!
//! # What other brokers know
//! A change is done when the controller has answered. Brokers learn of it a little later, so a topic may be unknown to
//! [`Admin::describe_topics`] for a moment after it was created, and still be listed after it was deleted.

mod batch;
mod cluster;
mod handle;
mod partitions;
mod topic_ref;
mod topics;

pub use cluster::{BrokerDescription, ClusterDescription, DescribeCluster};
pub use handle::{Admin, AdminFuture};
pub use partitions::CreatePartitions;
pub use topic_ref::{ParseTopicIdError, TopicId, TopicRef};
pub use topics::{
    CreateTopics, CreatedTopic, DeleteTopics, DescribeTopics, ListTopics, NewTopic, PartitionDescription,
    TopicDescription, TopicListing,
};
