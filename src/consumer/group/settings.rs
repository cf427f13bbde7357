//! How a consumer is a member of its group.

use std::sync::Arc;
use std::time::Duration;

use super::listener::RebalanceListener;
use super::member::Member;
use crate::machine::assignor::{Assignor, CooperativeSticky, Range};
use crate::machine::group::{Classic, Config, Consumer, ConsumerConfig};
use crate::net::Core;

/// How the members of a group agree on who reads what. (Java: `group.protocol`.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// One of the members works it out, by [`partition_assignment_strategy`](crate::ConsumerBuilder::partition_assignment_strategy).
    /// The default, as in Java.
    #[default]
    Classic,
    /// The broker works it out (KIP-848): changes touch only what moves, and a member that is slow holds up nobody else. From
    /// Kafka 4.0 on.
    Consumer,
    /// [`Consumer`](Self::Consumer) where the broker has it, [`Classic`](Self::Classic) where it does not: found out when the
    /// group is joined first. What is set for the classic protocol counts only there. (Java has no such choice.)
    Auto,
}

pub struct Settings {
    pub protocol: GroupProtocol,
    pub remote_assignor: Option<Arc<str>>,
    pub instance_id: Option<Arc<str>>,
    pub session_timeout: Duration,
    pub heartbeat_interval: Duration,
    pub max_poll_interval: Duration,
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// None: it is off.
    pub auto_commit: Option<Duration>,
    pub rack: Option<Arc<str>>,
    pub listener: Option<Arc<dyn RebalanceListener>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: GroupProtocol::default(),
            remote_assignor: None,
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            assignors: vec![Arc::new(Range), Arc::new(CooperativeSticky)],
            auto_commit: None,
            rack: None,
            listener: None,
        }
    }
}

impl Settings {
    /// `protocol`: with `Auto`, that of KIP-848.
    pub fn member(&self, core: &Core, group: &Arc<str>, protocol: GroupProtocol) -> Member {
        let (group, instance_id, rack) = (Arc::clone(group), self.instance_id.clone(), self.rack.clone());
        let max_poll_interval = self.max_poll_interval;
        let request_timeout = core.network.request_timeout;
        let (retry_backoff, retry_backoff_max) = (core.retry_backoff, core.retry_backoff_max);
        match protocol {
            GroupProtocol::Classic => {
                let config = Config {
                    group,
                    instance_id,
                    rack,
                    session_timeout: self.session_timeout,
                    heartbeat_interval: self.heartbeat_interval,
                    max_poll_interval,
                    request_timeout,
                    retry_backoff,
                    retry_backoff_max,
                };
                Member::Classic(Box::new(Classic::new(config, self.assignors.clone())))
            }
            GroupProtocol::Consumer | GroupProtocol::Auto => {
                let config = ConsumerConfig {
                    group,
                    instance_id,
                    rack,
                    assignor: self.remote_assignor.clone(),
                    max_poll_interval,
                    request_timeout,
                    retry_backoff,
                    retry_backoff_max,
                };
                Member::Consumer(Box::new(Consumer::new(config, member_id(core))))
            }
        }
    }
}

/// One that nobody else has (KIP-1082): a UUID of version 4.
pub fn member_id(core: &Core) -> Arc<str> {
    let (high, low) = (core.network.runtime.random(), core.network.runtime.random());
    let (high, low) = (high & !0xf000 | 0x4000, low & !(3 << 62) | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
    .into()
}
