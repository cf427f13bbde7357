//! Topics as the whole cluster knows them: names, ids, configuration, partitions.

use std::fmt;

use super::configs::TopicConfig;
use super::partition::Partition;

/// A topic id. (`kafka-protocol` does not export its `Uuid`, so this is what the mock stores.)
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId([u8; 16]);

impl TopicId {
    /// A random (version 4) id.
    pub(super) fn random(rng: &mut fastrand::Rng) -> Self {
        let mut id = rng.u128(..).to_be_bytes();
        id[6] = (id[6] & 0x0f) | 0x40;
        id[8] = (id[8] & 0x3f) | 0x80;
        Self(id)
    }

    pub(super) fn from_wire(id: impl AsRef<[u8]>) -> Self {
        Self(id.as_ref().try_into().unwrap_or_default())
    }

    pub(super) fn to_wire<U: TryFrom<Vec<u8>> + Default>(self) -> U {
        U::try_from(self.0.to_vec()).unwrap_or_default()
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) config: TopicConfig,
    pub(super) partitions: Vec<Partition>,
}

impl Topic {
    /// Adds partitions with these replicas.
    pub(super) fn grow(&mut self, replicas: Vec<Vec<i32>>) {
        self.partitions.extend(replicas.into_iter().map(Partition::new));
        self.configured();
    }

    /// Tells the partitions what the configuration asks of them.
    pub(super) fn configured(&mut self) {
        for partition in &mut self.partitions {
            let needed = self.config.high_watermark_needs(partition.replicas.len());
            partition.need_in_sync(needed);
        }
    }

    pub(super) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// Whether Kafka allows a topic of this name; the error says why not.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err("Topic name is invalid: '.' or '..' is not allowed".to_owned());
    }
    if name.len() > 249 {
        return Err(format!("Topic name is invalid: the length of '{name}' is longer than the max allowed length 249"));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
        let allowed = "ASCII alphanumerics, '.', '_' and '-'";
        return Err(format!("Topic name is invalid: '{name}' contains one or more characters other than {allowed}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_allows() {
        for name in ["a", "A.b_c-9", "__consumer_offsets", "...", &"x".repeat(249)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn topic_ids_pass_through_the_wire_type() {
        let id = TopicId::random(&mut fastrand::Rng::with_seed(1));
        let topic = kafka_protocol::messages::fetch_request::FetchTopic::default().with_topic_id(id.to_wire());
        assert_eq!(TopicId::from_wire(topic.topic_id), id);
        assert!(TopicId::default().is_zero() && !id.is_zero());
    }
}
