//! More partitions for a topic.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Answer, Batch, all};
use super::handle::{Admin, AdminFuture, TimeLimit};
use super::topic_ref::TopicRef;
use crate::error::Error;
use crate::machine::connection::Call;
use crate::net::{Class, Route};
use crate::wire::controller::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};

/// Partitions.
impl Admin {
    /// Gives a topic more partitions, up to `total` of them. Sent when awaited.
    ///
    /// Keys that were hashed to a partition so far may belong to another one afterwards. Producers and consumers notice the
    /// new partitions at the latest after [`metadata_max_age`](crate::ClientBuilder::metadata_max_age).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # cluster.create_topic("orders", 3);
    /// client.admin().create_partitions("orders", 12).await?;
    /// # assert_eq!(cluster.partitions("orders"), Some(12));
    /// # Ok(()) }
    /// ```
    pub fn create_partitions(&self, topic: impl Into<Arc<str>>, total: i32) -> CreatePartitions {
        CreatePartitions {
            admin: self.clone(),
            topic: topic.into(),
            total,
            assignments: None,
            validate_only: false,
            limit: TimeLimit::default(),
        }
    }
}

/// Adds partitions to a topic when awaited; from [`Admin::create_partitions`]. (Java: `createPartitions` and `NewPartitions`.)
///
/// # Errors
/// [`UnknownTopic`](crate::ErrorKind::UnknownTopic); by [`code`](Error::code) `INVALID_PARTITIONS` (it has as many already),
/// `INVALID_REPLICA_ASSIGNMENT`, `REASSIGNMENT_IN_PROGRESS`, `TOPIC_AUTHORIZATION_FAILED`, `REQUEST_TIMED_OUT` (they may have
/// been added); [`Timeout`](crate::ErrorKind::Timeout).
///
/// # Cancel safety
/// Dropping the future stops waiting and trying again; partitions may be added all the same.
#[derive(Debug)]
#[must_use = "nothing is added until it is awaited"]
pub struct CreatePartitions {
    admin: Admin,
    topic: Arc<str>,
    total: i32,
    assignments: Option<Vec<Vec<i32>>>,
    validate_only: bool,
    limit: TimeLimit,
}

impl CreatePartitions {
    /// Which brokers keep each new partition, by their ids, preferred leader first; one list for each that is added. Default:
    /// the controller chooses.
    pub fn assignments<R: Into<Vec<i32>>>(mut self, replicas: impl IntoIterator<Item = R>) -> Self {
        self.assignments = Some(replicas.into_iter().map(Into::into).collect());
        self
    }

    /// Only checks whether the partitions could be added. Default: adds them. (Java: `validateOnly`.)
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }

    /// How long it may take in all, attempts after the first included. Default:
    /// [`default_api_timeout`](crate::ClientBuilder::default_api_timeout). (Java: `timeoutMs`.)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit(Some(timeout));
        self
    }
}

impl IntoFuture for CreatePartitions {
    type Output = Result<(), Error>;
    type IntoFuture = AdminFuture<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let assignment = |broker_ids| CreatePartitionsAssignment { broker_ids, ..Default::default() };
            let topic = CreatePartitionsTopic {
                name: Arc::clone(&self.topic),
                count: self.total,
                assignments: self.assignments.map(|all| all.into_iter().map(assignment).collect()),
                ..Default::default()
            };
            let items = vec![(TopicRef::Name(self.topic), topic)];
            let outcomes = self.admin.each(Grow { validate_only: self.validate_only }, items, self.limit).await;
            all(outcomes).map(|_| ())
        })
    }
}

struct Grow {
    validate_only: bool,
}

impl Batch for Grow {
    type Request = CreatePartitionsRequest;
    type Key = TopicRef;
    type Item = CreatePartitionsTopic;
    type Output = ();

    const ROUTE: Route = Route::Controller;
    const CLASS: Class = Class::Admin;
    const WHAT: &'static str = "adding partitions";
    const OPEN_OUTCOME: Option<&'static str> = Some("whether the partitions were added is open");

    fn call(&self, items: &[&(TopicRef, CreatePartitionsTopic)], timeout_ms: i32) -> Call<CreatePartitionsRequest> {
        Call::new(CreatePartitionsRequest {
            topics: items.iter().map(|(_, topic)| topic.clone()).collect(),
            timeout_ms,
            validate_only: self.validate_only,
            ..Default::default()
        })
    }

    fn answers(&self, response: CreatePartitionsResponse) -> Vec<Answer<TopicRef, ()>> {
        let answers = response.results.into_iter().map(|topic| Answer {
            key: TopicRef::Name(topic.name),
            code: topic.error_code,
            message: topic.error_message,
            output: (),
        });
        answers.collect()
    }
}
