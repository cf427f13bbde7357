//! Topics: create, delete, list, describe.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Answer, Batch, all};
use super::handle::{Admin, AdminFuture, TimeLimit};
use super::topic_ref::{TopicId, TopicRef};
use crate::error::Error;
use crate::machine::connection::Call;
use crate::net::{Class, Route};
use crate::wire::cluster::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::controller::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::controller::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::wire::error_code::{Action, ErrorCode};

/// A topic to create. (Java: `NewTopic`.)
///
/// ```
/// use milena::NewTopic;
///
/// let compacted = NewTopic::new("accounts", 6, 3).config("cleanup.policy", "compact");
/// let as_the_broker_likes = NewTopic::named("logs");
/// let placed = NewTopic::named("orders").assignments([[1, 2], [2, 3], [3, 1]]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a topic is created by `Admin::create_topics`"]
pub struct NewTopic {
    name: Arc<str>,
    partitions: i32,
    replication_factor: i16,
    assignments: Vec<Vec<i32>>,
    configs: Vec<(Arc<str>, Arc<str>)>,
}

/// In place of a count: whatever the broker's default is (KIP-464).
const BROKER_DEFAULT: i32 = -1;
/// Since this version of CreateTopics.
const BROKER_DEFAULT_SINCE: i16 = 4;

impl NewTopic {
    /// A topic with so many partitions, each on so many brokers. The leader counts as a replica: 1 is a single copy.
    pub fn new(name: impl Into<Arc<str>>, partitions: i32, replication_factor: i16) -> Self {
        Self { partitions, replication_factor, ..Self::named(name) }
    }

    /// A topic with the broker's `num.partitions` and `default.replication.factor`, until
    /// [`partitions`](Self::partitions) or [`replication_factor`](Self::replication_factor) say otherwise. The broker's
    /// defaults need Kafka 2.4 or newer; from an older one, creating the topic fails with an error that says so.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            partitions: BROKER_DEFAULT,
            replication_factor: BROKER_DEFAULT as i16,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }

    /// How many partitions. They can be added to later ([`Admin::create_partitions`]) and never taken away.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many brokers keep a copy of each partition.
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = replicas;
        self
    }

    /// A setting of the topic, by Kafka's name: `retention.ms`, `cleanup.policy`, `min.insync.replicas`. What is not set
    /// follows the broker's defaults.
    pub fn config(mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }

    /// Which brokers keep each partition, by their ids, preferred leader first; as many partitions as there are lists.
    /// Takes the place of the counts of partitions and replicas.
    pub fn assignments<R: Into<Vec<i32>>>(mut self, replicas: impl IntoIterator<Item = R>) -> Self {
        self.assignments = replicas.into_iter().map(Into::into).collect();
        self
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn needs_broker_defaults(&self) -> bool {
        let is_default = self.partitions == BROKER_DEFAULT || i32::from(self.replication_factor) == BROKER_DEFAULT;
        self.assignments.is_empty() && is_default
    }

    fn to_wire(&self) -> CreatableTopic {
        let is_placed = !self.assignments.is_empty();
        let assignment = |(partition_index, broker_ids): (i32, &Vec<i32>)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: broker_ids.clone(),
            ..Default::default()
        };
        let config = |(name, value): &(Arc<str>, Arc<str>)| CreatableTopicConfig {
            name: Arc::clone(name),
            value: Some(Arc::clone(value)),
            ..Default::default()
        };
        CreatableTopic {
            name: Arc::clone(&self.name),
            num_partitions: if is_placed { BROKER_DEFAULT } else { self.partitions },
            replication_factor: if is_placed { BROKER_DEFAULT as i16 } else { self.replication_factor },
            assignments: (0..).zip(&self.assignments).map(assignment).collect(),
            configs: self.configs.iter().map(config).collect(),
            ..Default::default()
        }
    }
}

/// A topic as it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; `None` from brokers before Kafka 2.8, and when it was only validated.
    pub id: Option<TopicId>,
    /// How many partitions it got; `None` from brokers before Kafka 2.4.
    pub partitions: Option<i32>,
    /// How many copies of each; `None` from brokers before Kafka 2.4.
    pub replication_factor: Option<i16>,
}

/// Topics.
impl Admin {
    /// Creates topics. Sent when awaited; see [`CreateTopics`] for the options and what comes back.
    ///
    /// ```
    /// # use milena::NewTopic;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// let orders = NewTopic::new("orders", 12, 1).config("retention.ms", "86400000");
    /// client.admin().create_topics([orders]).await?;
    /// # assert_eq!(cluster.partitions("orders"), Some(12));
    /// # Ok(()) }
    /// ```
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> CreateTopics {
        CreateTopics {
            admin: self.clone(),
            topics: topics.into_iter().collect(),
            validate_only: false,
            limit: TimeLimit::default(),
        }
    }

    /// Deletes topics and all of their records, by name or by [`TopicId`]. Sent when awaited.
    ///
    /// By id, a topic that was deleted and created again meanwhile is left alone; this needs Kafka 2.8.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # cluster.create_topic("orders", 1);
    /// client.admin().delete_topics(["orders"]).await?;
    /// # assert_eq!(cluster.partitions("orders"), None);
    /// # Ok(()) }
    /// ```
    pub fn delete_topics<T: Into<TopicRef>>(&self, topics: impl IntoIterator<Item = T>) -> DeleteTopics {
        DeleteTopics {
            admin: self.clone(),
            topics: topics.into_iter().map(Into::into).collect(),
            limit: TimeLimit::default(),
        }
    }

    /// Lists the topics of the cluster that the client may see, by name in ascending order. Sent when awaited.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # cluster.create_topic("orders", 1);
    /// let topics = client.admin().list_topics().await?;
    /// assert_eq!(&*topics[0].name, "orders");
    /// # Ok(()) }
    /// ```
    pub fn list_topics(&self) -> ListTopics {
        ListTopics { admin: self.clone(), internal: false, limit: TimeLimit::default() }
    }

    /// Describes topics, by name or by [`TopicId`]: their partitions, and who leads and keeps them. Sent when awaited.
    ///
    /// Never creates a topic, whatever the broker's `auto.create.topics.enable` says.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// # cluster.create_topic("orders", 3);
    /// let topics = client.admin().describe_topics(["orders"]).await?;
    /// for partition in &topics[0].partitions {
    ///     println!("{}: led by {:?}, in sync {:?}", partition.index, partition.leader, partition.in_sync);
    /// }
    /// # assert_eq!(topics[0].partitions.len(), 3);
    /// # Ok(()) }
    /// ```
    pub fn describe_topics<T: Into<TopicRef>>(&self, topics: impl IntoIterator<Item = T>) -> DescribeTopics {
        DescribeTopics {
            admin: self.clone(),
            topics: topics.into_iter().map(Into::into).collect(),
            limit: TimeLimit::default(),
        }
    }
}

/// Creates topics when awaited; from [`Admin::create_topics`]. (Java: `createTopics` and `CreateTopicsOptions`.)
///
/// Awaiting it gives the created topics in the order asked, or the first error; the others may have been created then. See
/// [`each`](Self::each) for a result per topic.
///
/// # Errors
/// Of a topic, by [`code`](Error::code): `TOPIC_ALREADY_EXISTS`, `INVALID_PARTITIONS`, `INVALID_REPLICATION_FACTOR` (more
/// than there are brokers), `INVALID_CONFIG`, `INVALID_TOPIC_EXCEPTION` (its name), `POLICY_VIOLATION`,
/// `TOPIC_AUTHORIZATION_FAILED`, `REQUEST_TIMED_OUT` (it may have been created); the text has what the broker says of it. Of
/// the request: [`Timeout`](crate::ErrorKind::Timeout), [`Unsupported`](crate::ErrorKind::Unsupported).
///
/// # Cancel safety
/// Dropping the future stops waiting and trying again; topics may be created all the same.
#[derive(Debug)]
#[must_use = "nothing is created until it is awaited"]
pub struct CreateTopics {
    admin: Admin,
    topics: Vec<NewTopic>,
    validate_only: bool,
    limit: TimeLimit,
}

impl CreateTopics {
    /// Only checks whether the topics could be created. Default: creates them. (Java: `validateOnly`.)
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

    /// Creates them, with a result for each topic by its name, in the order asked. Cancel safety as above.
    pub async fn each(self) -> Vec<(Arc<str>, Result<CreatedTopic, Error>)> {
        let named = |topic: NewTopic| (TopicRef::Name(Arc::clone(&topic.name)), topic);
        let names: Vec<_> = self.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        let items = self.topics.into_iter().map(named).collect();
        let outcomes = self.admin.each(Create { validate_only: self.validate_only }, items, self.limit).await;
        names.into_iter().zip(outcomes.into_iter().map(|(_, outcome)| outcome)).collect()
    }
}

impl IntoFuture for CreateTopics {
    type Output = Result<Vec<CreatedTopic>, Error>;
    type IntoFuture = AdminFuture<Vec<CreatedTopic>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { all(self.each().await) })
    }
}

struct Create {
    validate_only: bool,
}

impl Batch for Create {
    type Request = CreateTopicsRequest;
    type Key = TopicRef;
    type Item = NewTopic;
    type Output = CreatedTopic;

    const ROUTE: Route = Route::Controller;
    const CLASS: Class = Class::Admin;
    const WHAT: &'static str = "creating topics";
    const OPEN_OUTCOME: Option<&'static str> = Some("whether the topic was created is open");

    fn call(&self, items: &[&(TopicRef, NewTopic)], timeout_ms: i32) -> Call<CreateTopicsRequest> {
        let request = CreateTopicsRequest {
            topics: items.iter().map(|(_, topic)| topic.to_wire()).collect(),
            timeout_ms,
            validate_only: self.validate_only,
            ..Default::default()
        };
        if items.iter().any(|(_, topic)| topic.needs_broker_defaults()) {
            return Call::at_least(request, BROKER_DEFAULT_SINCE);
        }
        Call::new(request)
    }

    fn answers(&self, response: CreateTopicsResponse) -> Vec<Answer<TopicRef, CreatedTopic>> {
        let answer = |topic: crate::wire::controller::create_topics::CreatableTopicResult| Answer {
            key: TopicRef::Name(Arc::clone(&topic.name)),
            code: topic.error_code,
            message: topic.error_message,
            output: CreatedTopic {
                name: topic.name,
                id: TopicId::from_wire(topic.topic_id),
                partitions: (topic.num_partitions >= 0).then_some(topic.num_partitions),
                replication_factor: (topic.replication_factor >= 0).then_some(topic.replication_factor),
            },
        };
        response.topics.into_iter().map(answer).collect()
    }
}

/// Deletes topics when awaited; from [`Admin::delete_topics`]. (Java: `deleteTopics`.)
///
/// Awaiting it succeeds when all are deleted, and gives the first error otherwise; the others may have been deleted then. See
/// [`each`](Self::each) for a result per topic.
///
/// # Errors
/// Of a topic: [`UnknownTopic`](crate::ErrorKind::UnknownTopic), and by [`code`](Error::code) `TOPIC_AUTHORIZATION_FAILED`,
/// `TOPIC_DELETION_DISABLED`, `REQUEST_TIMED_OUT` (it may have been deleted). Of the request:
/// [`Timeout`](crate::ErrorKind::Timeout), [`Unsupported`](crate::ErrorKind::Unsupported) (by id, before Kafka 2.8).
///
/// # Cancel safety
/// Dropping the future stops waiting and trying again; topics may be deleted all the same.
#[derive(Debug)]
#[must_use = "nothing is deleted until it is awaited"]
pub struct DeleteTopics {
    admin: Admin,
    topics: Vec<TopicRef>,
    limit: TimeLimit,
}

impl DeleteTopics {
    /// How long it may take in all, attempts after the first included. Default:
    /// [`default_api_timeout`](crate::ClientBuilder::default_api_timeout). (Java: `timeoutMs`.)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit(Some(timeout));
        self
    }

    /// Deletes them, with a result for each topic, in the order asked. Cancel safety as above.
    pub async fn each(self) -> Vec<(TopicRef, Result<(), Error>)> {
        let by_id = self.topics.iter().any(|topic| matches!(topic, TopicRef::Id(_)));
        let items = self.topics.into_iter().map(|topic| (topic, ())).collect();
        self.admin.each(Delete { by_id }, items, self.limit).await
    }
}

impl IntoFuture for DeleteTopics {
    type Output = Result<(), Error>;
    type IntoFuture = AdminFuture<()>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { all(self.each().await).map(|_| ()) })
    }
}

struct Delete {
    by_id: bool,
}

/// The first version of DeleteTopics that knows ids, in a layout of its own.
const DELETE_BY_ID_SINCE: i16 = 6;

impl Batch for Delete {
    type Request = DeleteTopicsRequest;
    type Key = TopicRef;
    type Item = ();
    type Output = ();

    const ROUTE: Route = Route::Controller;
    const CLASS: Class = Class::Admin;
    const WHAT: &'static str = "deleting topics";
    const OPEN_OUTCOME: Option<&'static str> = Some("whether the topic was deleted is open");

    fn call(&self, items: &[&(TopicRef, ())], timeout_ms: i32) -> Call<DeleteTopicsRequest> {
        let request = DeleteTopicsRequest { timeout_ms, ..Default::default() };
        if self.by_id {
            let topic = |(topic, ()): &&(TopicRef, ())| match topic {
                TopicRef::Name(name) => DeleteTopicState { name: Some(Arc::clone(name)), ..Default::default() },
                TopicRef::Id(id) => DeleteTopicState { name: None, topic_id: id.to_wire(), ..Default::default() },
            };
            let topics = items.iter().map(topic).collect();
            return Call::at_least(DeleteTopicsRequest { topics, ..request }, DELETE_BY_ID_SINCE);
        }
        let name = |(topic, ()): &&(TopicRef, ())| match topic {
            TopicRef::Name(name) => Some(Arc::clone(name)),
            TopicRef::Id(_) => None,
        };
        let topic_names = items.iter().filter_map(name).collect();
        Call::up_to(DeleteTopicsRequest { topic_names, ..request }, DELETE_BY_ID_SINCE - 1)
    }

    fn answers(&self, response: DeleteTopicsResponse) -> Vec<Answer<TopicRef, ()>> {
        let mut answers = Vec::new();
        for topic in response.responses {
            let id = TopicId::from_wire(topic.topic_id).map(TopicRef::Id);
            // An answer by id may have found the name as well.
            for key in topic.name.map(TopicRef::Name).into_iter().chain(id) {
                let message = topic.error_message.clone();
                answers.push(Answer { key, code: topic.error_code, message, output: () });
            }
        }
        answers
    }
}

/// A topic in a list of them. (Java: `TopicListing`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; `None` from brokers before Kafka 2.8.
    pub id: Option<TopicId>,
    /// Whether it is Kafka's own, as `__consumer_offsets` is.
    pub is_internal: bool,
}

/// Lists topics when awaited; from [`Admin::list_topics`]. (Java: `listTopics` and `ListTopicsOptions`.)
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout), when no broker answered.
///
/// # Cancel safety
/// It changes nothing, so it may be dropped at any time.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct ListTopics {
    admin: Admin,
    internal: bool,
    limit: TimeLimit,
}

impl ListTopics {
    /// Lists Kafka's own topics too. Default: leaves them out. (Java: `listInternal`.)
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// How long it may take in all, attempts after the first included. Default:
    /// [`default_api_timeout`](crate::ClientBuilder::default_api_timeout). (Java: `timeoutMs`.)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit(Some(timeout));
        self
    }

    async fn ask(self) -> Result<Vec<TopicListing>, Error> {
        let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
        let response = self.admin.metadata(request, self.limit, "the list of topics").await?;
        Ok(listings(response, self.internal))
    }
}

fn listings(response: MetadataResponse, internal: bool) -> Vec<TopicListing> {
    let listing = |topic: MetadataResponseTopic| {
        let id = TopicId::from_wire(topic.topic_id);
        Some(TopicListing { name: topic.name?, id, is_internal: topic.is_internal })
    };
    let mut topics: Vec<_> = response.topics.into_iter().filter_map(listing).collect();
    topics.retain(|topic| internal || !topic.is_internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    topics
}

impl IntoFuture for ListTopics {
    type Output = Result<Vec<TopicListing>, Error>;
    type IntoFuture = AdminFuture<Vec<TopicListing>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

/// What there is to know of a topic. (Java: `TopicDescription`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; `None` from brokers before Kafka 2.8.
    pub id: Option<TopicId>,
    /// Whether it is Kafka's own, as `__consumer_offsets` is.
    pub is_internal: bool,
    /// Its partitions, by index in ascending order.
    pub partitions: Vec<PartitionDescription>,
}

/// What there is to know of a partition. Brokers are given by their ids; [`Admin::describe_cluster`] has their addresses.
/// (Java: `TopicPartitionInfo`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its index, from 0.
    pub index: i32,
    /// The broker that leads it; `None` while there is none, or the one asked does not know it.
    pub leader: Option<i32>,
    /// Counts the changes of leader; `None` from brokers that do not say.
    pub leader_epoch: Option<i32>,
    /// The brokers that keep a copy, preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that have everything that was acknowledged with acks=all.
    pub in_sync: Vec<i32>,
    /// Those of them that are down.
    pub offline: Vec<i32>,
}

impl From<MetadataResponsePartition> for PartitionDescription {
    fn from(partition: MetadataResponsePartition) -> Self {
        Self {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: (partition.leader_epoch >= 0).then_some(partition.leader_epoch),
            replicas: partition.replica_nodes,
            in_sync: partition.isr_nodes,
            offline: partition.offline_replicas,
        }
    }
}

/// Describes topics when awaited; from [`Admin::describe_topics`]. (Java: `describeTopics`.)
///
/// Awaiting it gives the descriptions in the order asked, or the first error. See [`each`](Self::each) for a result per topic.
///
/// # Errors
/// Of a topic: [`UnknownTopic`](crate::ErrorKind::UnknownTopic), and by [`code`](Error::code) `TOPIC_AUTHORIZATION_FAILED`,
/// `INVALID_TOPIC_EXCEPTION`. Of the request: [`Timeout`](crate::ErrorKind::Timeout),
/// [`Unsupported`](crate::ErrorKind::Unsupported) (by id, before Kafka 3.1).
///
/// # Cancel safety
/// It changes nothing, so it may be dropped at any time.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct DescribeTopics {
    admin: Admin,
    topics: Vec<TopicRef>,
    limit: TimeLimit,
}

impl DescribeTopics {
    /// How long it may take in all, attempts after the first included. Default:
    /// [`default_api_timeout`](crate::ClientBuilder::default_api_timeout). (Java: `timeoutMs`.)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit(Some(timeout));
        self
    }

    /// Describes them, with a result for each topic, in the order asked. Cancel safety as above.
    pub async fn each(self) -> Vec<(TopicRef, Result<TopicDescription, Error>)> {
        let items = self.topics.into_iter().map(|topic| (topic, ())).collect();
        self.admin.each(Describe, items, self.limit).await
    }
}

impl IntoFuture for DescribeTopics {
    type Output = Result<Vec<TopicDescription>, Error>;
    type IntoFuture = AdminFuture<Vec<TopicDescription>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { all(self.each().await) })
    }
}

struct Describe;

/// The first version of Metadata that takes an id without a name; 10 and 11 have the field, and brokers refuse it.
const DESCRIBE_BY_ID_SINCE: i16 = 12;

impl Batch for Describe {
    type Request = MetadataRequest;
    type Key = TopicRef;
    type Item = ();
    type Output = TopicDescription;

    const ROUTE: Route = Route::Any;
    const CLASS: Class = Class::General;
    const WHAT: &'static str = "describing topics";
    const OPEN_OUTCOME: Option<&'static str> = None;

    fn call(&self, items: &[&(TopicRef, ())], _: i32) -> Call<MetadataRequest> {
        let topic = |(topic, ()): &&(TopicRef, ())| match topic {
            TopicRef::Name(name) => MetadataRequestTopic { name: Some(Arc::clone(name)), ..Default::default() },
            TopicRef::Id(id) => MetadataRequestTopic { name: None, topic_id: id.to_wire(), ..Default::default() },
        };
        let topics = Some(items.iter().map(topic).collect());
        let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        if items.iter().any(|(topic, ())| matches!(topic, TopicRef::Id(_))) {
            return Call::at_least(request, DESCRIBE_BY_ID_SINCE);
        }
        Call::new(request)
    }

    fn answers(&self, response: MetadataResponse) -> Vec<Answer<TopicRef, TopicDescription>> {
        let mut answers = Vec::new();
        for topic in response.topics {
            let id = TopicId::from_wire(topic.topic_id);
            let mut partitions: Vec<_> = topic.partitions.into_iter().map(PartitionDescription::from).collect();
            partitions.sort_by_key(|partition| partition.index);
            let output = TopicDescription {
                name: topic.name.clone().unwrap_or_default(),
                id,
                is_internal: topic.is_internal,
                partitions,
            };
            for key in topic.name.map(TopicRef::Name).into_iter().chain(id.map(TopicRef::Id)) {
                answers.push(Answer { key, code: topic.error_code, message: None, output: output.clone() });
            }
        }
        answers
    }

    /// For whoever asks about topics as such, "unknown" is an answer, not a matter of asking elsewhere.
    fn action(code: ErrorCode) -> Action {
        match code {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => Action::Fail,
            code => code.action(crate::wire::api::ApiKey::METADATA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_topics_are_listed_on_request() {
        let topic = |name: Option<&str>, is_internal| MetadataResponseTopic {
            name: name.map(Arc::from),
            is_internal,
            ..Default::default()
        };
        let topics = vec![topic(Some("z"), false), topic(None, false), topic(Some("__consumer_offsets"), true)];
        let response = MetadataResponse { topics, ..Default::default() };
        let names = |internal| listings(response.clone(), internal).into_iter().map(|t| t.name.to_string());
        assert_eq!(names(false).collect::<Vec<_>>(), ["z"]);
        assert_eq!(names(true).collect::<Vec<_>>(), ["__consumer_offsets", "z"]);
    }
}
