//! What the tools of administrators ask: groups, directories of logs, elections, topics page by page.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{
    DescribeGroupsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    ListGroupsRequest, ProduceRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::harness::{Batch, produce_request, topic_name};

use super::Interview;

fn texts(values: &[&str]) -> Vec<StrBytes> {
    values.iter().map(|value| StrBytes::from((*value).to_owned())).collect()
}

impl Interview {
    /// The group `g` has committed by now, and has no members.
    pub(super) async fn described_groups(&mut self) {
        for version in self.versions::<ListGroupsRequest>() {
            let states: &[&[&str]] =
                if version >= 4 { &[&[], &["Empty"], &["Stable"], &["Dead", "empty"]] } else { &[&[]] };
            let types: &[&[&str]] =
                if version >= 5 { &[&[], &["classic"], &["consumer"], &["Classic"]] } else { &[&[]] };
            for (states, types) in states.iter().flat_map(|states| types.iter().map(move |types| (states, types))) {
                let request = ListGroupsRequest::default().with_states_filter(texts(states));
                let answer = self.peer.ask(version, &request.with_types_filter(texts(types))).await;
                let found = answer.groups.iter().find(|group| &*group.group_id.0 == "g");
                let found = found.map(|group| (&group.protocol_type, &group.group_state, &group.group_type));
                self.say(("groups", version, states, types), (answer.error_code, found));
            }
        }
        for version in self.versions::<DescribeGroupsRequest>() {
            for operations in if version >= 3 { [false, true].iter() } else { [false].iter() } {
                let groups = texts(&["g", "nobody", ""]).into_iter().map(Into::into).collect();
                let request = DescribeGroupsRequest::default().with_groups(groups);
                let request = request.with_include_authorized_operations(*operations);
                // A real broker answers for one partition of its offsets topic after the other.
                let mut groups = self.peer.ask(version, &request).await.groups;
                groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
                for group in groups {
                    let said = (group.error_code, group.error_message, group.group_state, group.protocol_type);
                    let rest = (group.protocol_data, group.members.len(), group.authorized_operations);
                    self.say(("group", version, operations, &*group.group_id.0), (said, rest));
                }
            }
        }
    }

    pub(super) async fn log_dirs(&mut self) {
        self.create("directory", 2, &[]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        self.peer.ask(produce, &produce_request("directory", 1, Batch::of(&["a", "b"]))).await;
        self.peer.ask(produce, &produce_request("directory", 1, Batch::of(&["c"]))).await;
        let topic = |name: &str, indexes: &[i32]| {
            DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(indexes.to_vec())
        };
        for version in self.versions::<DescribeLogDirsRequest>() {
            for asked in [
                None,
                Some(vec![topic("directory", &[0, 1])]),
                Some(vec![topic("directory", &[1, 7]), topic("nowhere", &[0])]),
                Some(vec![topic("directory", &[])]),
                Some(Vec::new()),
            ] {
                let what = (
                    version,
                    asked.as_ref().map(|topics| topics.iter().map(|t| t.partitions.len()).collect::<Vec<_>>()),
                );
                let answer = self.peer.ask(version, &DescribeLogDirsRequest::default().with_topics(asked)).await;
                let mut said = Vec::new();
                for topic in answer.results.iter().flat_map(|result| &result.topics) {
                    for p in topic.partitions.iter().filter(|_| topic.name == topic_name("directory")) {
                        said.push((p.partition_index, p.partition_size, p.offset_lag, p.is_future_key));
                    }
                }
                said.sort();
                let errors: Vec<_> = answer.results.iter().map(|result| result.error_code).collect();
                self.say(("log dirs", what), (answer.error_code, errors, said));
            }
        }
    }

    pub(super) async fn elections(&mut self) {
        let topic = |name: &str, indexes: &[i32]| {
            TopicPartitions::default().with_topic(topic_name(name)).with_partitions(indexes.to_vec())
        };
        for version in self.versions::<ElectLeadersRequest>() {
            for election in if version >= 1 { [0, 1].iter() } else { [0].iter() } {
                for asked in [None, Some(vec![topic("directory", &[0, 9]), topic("nowhere", &[0])]), Some(Vec::new())] {
                    let what = (version, election, asked.as_ref().map(Vec::len));
                    let request = ElectLeadersRequest::default().with_topic_partitions(asked).with_timeout_ms(5000);
                    let answer = self.peer.ask(version, &request.with_election_type(*election)).await;
                    let mut said = Vec::new();
                    for topic in &answer.replica_election_results {
                        for p in &topic.partition_result {
                            said.push((topic.topic.0.to_string(), p.partition_id, p.error_code));
                        }
                    }
                    said.sort();
                    self.say(("elected", what), (answer.error_code, said));
                }
            }
        }
    }

    pub(super) async fn topics_by_page(&mut self) {
        if self.newest::<DescribeTopicPartitionsRequest>() < 0 {
            return self.say("no topics by page", ());
        }
        self.create("page-a", 3, &[]).await;
        self.create("page-b", 2, &[]).await;
        let cursor = |topic: &str, index: i32| {
            Some(Cursor::default().with_topic_name(topic_name(topic)).with_partition_index(index))
        };
        let both = &["page-b", "page-a"];
        for (names, limit, from) in [
            (&both[..], 2000, None),
            (both, 2, None),
            (both, 3, None),
            (both, 4, None),
            (both, 0, None),
            (both, 2, cursor("page-a", 2)),
            (both, 2, cursor("page-b", 0)),
            (both, 2, cursor("page-a", 9)),
            (both, 2, cursor("page-aa", 0)),
            (&["nowhere", "page-b", "a b"], 2000, None),
            (&["page-a", "page-a"], 2000, None),
        ] {
            let what = (names, limit, from.as_ref().map(|from| (from.topic_name.0.to_string(), from.partition_index)));
            let topics = names.iter().map(|name| TopicRequest::default().with_name(topic_name(name)));
            let request = DescribeTopicPartitionsRequest::default().with_topics(topics.collect());
            let request = request.with_response_partition_limit(limit).with_cursor(from);
            let answer = self.peer.ask(0, &request).await;
            let next = answer.next_cursor.map(|next| (next.topic_name.0.to_string(), next.partition_index));
            self.say(("page", &what), (answer.throttle_time_ms, next));
            for topic in answer.topics {
                let name = topic.name.as_ref().map(|name| name.0.to_string());
                let said = (topic.error_code, name, topic.topic_id.is_nil(), topic.is_internal);
                self.say(("on page", &what), (said, topic.topic_authorized_operations));
                for p in topic.partitions {
                    let who =
                        (p.leader_id == p.replica_nodes[0], p.leader_epoch, p.replica_nodes.len(), p.isr_nodes.len());
                    let rest = (p.eligible_leader_replicas, p.last_known_elr, p.offline_replicas);
                    self.say(("on page", &what, p.partition_index), (p.error_code, who, rest));
                }
            }
        }
    }
}
