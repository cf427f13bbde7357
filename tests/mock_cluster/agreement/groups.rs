//! Coordinators and committed offsets.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use milena::wire::frame::{decode_body, encode_body};
use milena::wire::message::Uuid;

/// The client's own tables.
mod by_id {
    pub(super) use milena::wire::coordinator::offset_commit::*;
    pub(super) use milena::wire::coordinator::offset_fetch::*;
}

use crate::harness::topic_name;

use super::Interview;

impl Interview {
    /// v10 names topics by id. `kafka-protocol` does not know it, so the client's own tables ask.
    pub(super) async fn offsets_by_topic_id(&mut self) {
        if [8, 9].iter().any(|key| self.newest[key] < 10) {
            self.say("no offsets by topic id", ());
            return;
        }
        let metadata = self.peer.ask(12, &MetadataRequest::default().with_topics(None)).await;
        let found = metadata.topics.iter().find(|topic| topic.name == Some(topic_name("committed"))).unwrap();
        let known = Uuid(*found.topic_id.as_bytes());
        let unknown = Uuid([9; 16]);
        let topic = |topic_id: Uuid, index: i32| by_id::OffsetCommitRequestTopic {
            topic_id,
            partitions: vec![by_id::OffsetCommitRequestPartition {
                partition_index: index,
                committed_offset: 77,
                committed_leader_epoch: 0,
                committed_metadata: Some("ten".into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = by_id::OffsetCommitRequest {
            group_id: "g10".into(),
            topics: vec![topic(known, 1), topic(unknown, 0), topic(known, 9), topic(Uuid::ZERO, 0)],
            ..Default::default()
        };
        let body = self.peer.ask_body(8, 10, &encode_body(&request, 10, true).unwrap()).await;
        let answer: by_id::OffsetCommitResponse = decode_body(&body, 10, true).unwrap();
        let id = |id: Uuid| {
            if id == known {
                "known"
            } else if id == unknown {
                "unknown"
            } else {
                "other"
            }
        };
        let topics = answer.topics.iter();
        let mut said: Vec<_> = topics
            .flat_map(|topic| topic.partitions.iter().map(|p| (id(topic.topic_id), p.partition_index, p.error_code.0)))
            .collect();
        said.sort();
        self.say("committed by topic id", said);
        let asked = |topic_id: Uuid, indexes: &[i32]| by_id::OffsetFetchRequestTopics {
            topic_id,
            partition_indexes: indexes.to_vec(),
            ..Default::default()
        };
        for topics in [Some(vec![asked(known, &[1, 0]), asked(unknown, &[0])]), None] {
            for group in ["g10", "nobody"] {
                let what = (topics.is_some(), group);
                let group = by_id::OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: topics.clone(),
                    ..Default::default()
                };
                let request = by_id::OffsetFetchRequest { groups: vec![group], ..Default::default() };
                let body = self.peer.ask_body(9, 10, &encode_body(&request, 10, true).unwrap()).await;
                let answer: by_id::OffsetFetchResponse = decode_body(&body, 10, true).unwrap();
                let mut said = Vec::new();
                for topic in &answer.groups[0].topics {
                    for p in &topic.partitions {
                        let offset = (p.committed_offset, p.committed_leader_epoch, p.metadata.clone());
                        said.push((id(topic.topic_id), p.partition_index, p.error_code.0, offset));
                    }
                }
                said.sort();
                self.say(("offsets by topic id", what), (answer.groups[0].error_code.0, said));
            }
        }
    }

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
                if ![14, 15, 16].contains(&error) {
                    break; // the coordinator has been elected, and has loaded
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
