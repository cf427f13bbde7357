//! The cluster as such: its id, its controller, its brokers.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Answer, Batch};
use super::handle::{Admin, AdminFuture, TimeLimit};
use crate::error::{Error, ErrorKind};
use crate::machine::connection::Call;
use crate::net::{Class, Route};
use crate::wire::cluster::metadata::{MetadataRequest, MetadataResponse, MetadataResponseBroker};

/// What there is to know of a cluster. (Java: `DescribeClusterResult`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The id that the cluster got when it was set up.
    pub cluster_id: Option<Arc<str>>,
    /// The broker to which changes go; `None` while there is none. With KRaft it is any broker, which passes them on.
    pub controller: Option<i32>,
    /// The brokers that are up, by id in ascending order.
    pub brokers: Vec<BrokerDescription>,
}

/// A broker and where it listens. (Java: `Node`.)
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its id.
    pub id: i32,
    /// The host that it advertises, before any [`address_map`](crate::ClientBuilder::address_map).
    pub host: Arc<str>,
    /// The port that it advertises.
    pub port: i32,
    /// Where it stands (`broker.rack`), if that is configured.
    pub rack: Option<Arc<str>>,
}

/// The cluster.
impl Admin {
    /// Describes the cluster: its id, controller and brokers. Sent when awaited.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena::Error> {
    /// # let cluster = milena::mock::MockCluster::builder().brokers(3).start().await;
    /// # let client = milena::Client::builder(cluster.bootstrap()).connect().await?;
    /// let cluster = client.admin().describe_cluster().await?;
    /// println!("{:?} has {} brokers", cluster.cluster_id, cluster.brokers.len());
    /// # assert_eq!(cluster.brokers.len(), 3);
    /// # Ok(()) }
    /// ```
    pub fn describe_cluster(&self) -> DescribeCluster {
        DescribeCluster { admin: self.clone(), limit: TimeLimit::default() }
    }

    /// One Metadata request, to whichever broker answers. `what` is looked for: errors say so.
    pub(super) async fn metadata(
        &self,
        request: MetadataRequest,
        limit: TimeLimit,
        what: &'static str,
    ) -> Result<MetadataResponse, Error> {
        let outcomes = self.each(Look { what }, vec![(what, request)], limit).await;
        let outcome = outcomes.into_iter().next().map(|(_, outcome)| outcome);
        outcome.unwrap_or_else(|| Err(Error::new(ErrorKind::Protocol, what)))
    }
}

struct Look {
    what: &'static str,
}

impl Batch for Look {
    type Request = MetadataRequest;
    type Key = &'static str;
    type Item = MetadataRequest;
    type Output = MetadataResponse;

    const ROUTE: Route = Route::Any;
    const CLASS: Class = Class::General;
    const WHAT: &'static str = "the request";
    const OPEN_OUTCOME: Option<&'static str> = None;

    fn call(&self, items: &[&(&'static str, MetadataRequest)], _: i32) -> Call<MetadataRequest> {
        Call::new(items.first().map(|(_, request)| request.clone()).unwrap_or_default())
    }

    fn answers(&self, response: MetadataResponse) -> Vec<Answer<&'static str, MetadataResponse>> {
        vec![Answer { key: self.what, code: response.error_code, message: None, output: response }]
    }
}

/// Describes the cluster when awaited; from [`Admin::describe_cluster`]. (Java: `describeCluster`.)
///
/// # Errors
/// [`Timeout`](crate::ErrorKind::Timeout), when no broker answered.
///
/// # Cancel safety
/// It changes nothing, so it may be dropped at any time.
#[derive(Debug)]
#[must_use = "nothing is asked until it is awaited"]
pub struct DescribeCluster {
    admin: Admin,
    limit: TimeLimit,
}

impl DescribeCluster {
    /// How long it may take in all, attempts after the first included. Default:
    /// [`default_api_timeout`](crate::ClientBuilder::default_api_timeout). (Java: `timeoutMs`.)
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limit = TimeLimit(Some(timeout));
        self
    }

    async fn ask(self) -> Result<ClusterDescription, Error> {
        let request =
            MetadataRequest { topics: Some(Vec::new()), allow_auto_topic_creation: false, ..Default::default() };
        let response = self.admin.metadata(request, self.limit, "the cluster").await?;
        let broker = |broker: MetadataResponseBroker| BrokerDescription {
            id: broker.node_id,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        };
        let mut brokers: Vec<_> = response.brokers.into_iter().map(broker).collect();
        brokers.sort_by_key(|broker| broker.id);
        let controller = (response.controller_id >= 0).then_some(response.controller_id);
        Ok(ClusterDescription { cluster_id: response.cluster_id, controller, brokers })
    }
}

impl IntoFuture for DescribeCluster {
    type Output = Result<ClusterDescription, Error>;
    type IntoFuture = AdminFuture<ClusterDescription>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}
