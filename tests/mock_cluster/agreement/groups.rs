//! Coordinators and committed offsets.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use crate::harness::topic_name;

use super::Interview;

impl Interview {
    pub(super) async fn groups(&mut self) {
        self.create("committed", 2, &[]).await;
        for version in self.versions::<FindCoordinatorRequest>() {
            // The first answers of a real cluster may be that it makes the offsets topic.
            for _ in 0..100 {
                let error = if version >= 4 {
                    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into()]);
                    self.peer.ask(version, &request).await.coordinators[0].error_code
                } else {
                    self.peer.ask(version, &FindCoordinatorRequest::default().with_key("g".into())).await.error_code
                };
                if error == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.say(("coordinator", version), "found");
        }
        let commit = |group: &str, topic: &str, index: i32, generation: i32, metadata: String| {
            let partition =
                OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(42);
            let partition = partition.with_committed_leader_epoch(0).with_committed_metadata(Some(metadata.into()));
            let topic =
                OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
            let group = StrBytes::from(group.to_owned());
            let request = OffsetCommitRequest::default().with_group_id(group.into()).with_topics(vec![topic]);
            request.with_generation_id_or_member_epoch(generation)
        };
        for version in self.versions::<OffsetCommitRequest>() {
            let mut request = commit("g", "committed", 0, -1, format!("v{version}"));
            if version < 6 {
                request.topics[0].partitions[0].committed_leader_epoch = -1;
            }
            let mut error = 14;
            for _ in 0..100 {
                error = self.peer.ask(version, &request).await.topics[0].partitions[0].error_code;
                if error != 14 {
                    break; // the coordinator has loaded
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            self.say(("commit", version), error);
        }
        let newest = self.up_to::<OffsetCommitRequest>(8);
        for (what, request) in [
            ("no group", commit("", "committed", 0, -1, String::new())),
            ("no topic", commit("g", "nowhere", 0, -1, String::new())),
            ("no partition", commit("g", "committed", 9, -1, String::new())),
            ("large metadata", commit("g", "committed", 1, -1, "x".repeat(4097))),
            ("largest metadata", commit("g", "committed", 1, -1, "x".repeat(4096))),
            ("a generation", commit("new", "committed", 0, 3, String::new())),
            ("a generation of a known group", commit("g", "committed", 0, 3, String::new())),
            ("a member", commit("g", "committed", 0, -1, String::new()).with_member_id("m".into())),
        ] {
            let answer = self.peer.ask(newest, &request).await;
            self.say(("commit", what), answer.topics[0].partitions[0].error_code);
        }
        for version in self.versions::<OffsetFetchRequest>().filter(|version| *version < 8) {
            let topic = OffsetFetchRequestTopic::default().with_name(topic_name("committed"));
            let topic = topic.with_partition_indexes(vec![0, 5]);
            let mut asked = vec![Some(vec![topic])];
            if version >= 2 {
                asked.push(None);
            }
            for (topics, group) in asked.into_iter().flat_map(|topics| [(topics.clone(), "g"), (topics, "nobody")]) {
                let group = StrBytes::from(group.to_owned());
                let request = OffsetFetchRequest::default().with_group_id(group.into()).with_topics(topics.clone());
                let answer = self.peer.ask(version, &request).await;
                let mut said = Vec::new();
                for p in answer.topics.iter().flat_map(|topic| &topic.partitions) {
                    let length = p.metadata.as_ref().map(|metadata| metadata.len());
                    said.push((p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, length));
                }
                said.sort();
                self.say(("offsets", version, topics.is_some()), (answer.error_code, said));
            }
        }
    }
}
