//! Fetches, their sessions, and where things are in a log.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    FetchRequest, ListOffsetsRequest, MetadataRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use tokio::time::Instant;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, produce_request, topic_name};

use super::{Interview, topic_id};

impl Interview {
    pub(super) async fn fetches(&mut self) {
        self.create("fetched", 2, &[]).await;
        for value in ["aaaa", "bbbb", "cccc"] {
            let request = produce_request("fetched", 0, Batch::of(&[value, value]));
            self.peer.ask(self.up_to::<ProduceRequest>(9), &request).await;
        }
        let size = Batch::of(&["aaaa", "aaaa"]).bytes().len() as i32;
        let newest = self.up_to::<FetchRequest>(12);
        let ids = self.peer.ask(self.up_to::<MetadataRequest>(12), &MetadataRequest::default().with_topics(None)).await;
        let id = ids.topics.iter().find(|topic| topic.name == Some(topic_name("fetched"))).unwrap().topic_id;
        let limited =
            |offset: i64, max: i32| fetch("fetched", vec![partition(0, offset).with_partition_max_bytes(max)]);
        let mut cases = vec![
            ("all", fetch("fetched", vec![partition(0, 0)])),
            ("within a batch", fetch("fetched", vec![partition(0, 3)])),
            ("at the end", fetch("fetched", vec![partition(0, 6)]).with_max_wait_ms(10)),
            ("beyond", fetch("fetched", vec![partition(0, 7)])),
            ("below", fetch("fetched", vec![partition(0, -1)])),
            ("no partition", fetch("fetched", vec![partition(7, 0)])),
            ("no topic", fetch("nowhere", vec![partition(0, 0)])),
            ("nothing", fetch("fetched", vec![])),
            ("limit 0", limited(0, 0)),
            ("limit 1", limited(0, 1)),
            ("one and a bit", limited(0, size + 7)),
            ("two", limited(2, 2 * size)),
            ("both, limit 1", fetch("fetched", vec![partition(0, 0), partition(1, 0)]).with_max_bytes(1)),
            (
                "both, two and a bit",
                fetch("fetched", vec![partition(1, 0), partition(0, 0)]).with_max_bytes(2 * size + 3),
            ),
            ("committed", fetch("fetched", vec![partition(0, 0)]).with_isolation_level(1)),
            ("committed, failed", fetch("fetched", vec![partition(0, 99)]).with_isolation_level(1)),
        ];
        if newest >= 9 {
            for epoch in [0, 1, 7] {
                let partition = partition(0, 0).with_current_leader_epoch(epoch);
                cases.push(("leader epoch", fetch("fetched", vec![partition])));
            }
        }
        if newest >= 12 {
            for (offset, epoch) in [(0, 0), (6, 0), (2, 5), (7, 0)] {
                let partition = partition(0, offset).with_last_fetched_epoch(epoch);
                cases.push(("fetched epoch", fetch("fetched", vec![partition]).with_max_wait_ms(10)));
            }
        }
        for (what, request) in cases {
            let answer = self.peer.ask(newest, &request).await;
            let said = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|p| {
                let epoch = (p.diverging_epoch.epoch, p.diverging_epoch.end_offset);
                let aborted = p.aborted_transactions.as_ref().map(Vec::len);
                let offsets = (p.high_watermark, p.last_stable_offset, p.log_start_offset);
                (
                    p.partition_index,
                    p.error_code,
                    offsets,
                    epoch,
                    aborted,
                    p.records.as_ref().map(|records| records.len()),
                )
            });
            let said: Vec<_> = said.collect();
            self.say(("fetch", what), (answer.error_code, answer.session_id, said));
        }
        for version in self.versions::<FetchRequest>() {
            for (what, offset, topic_id) in [("all", 0, id), ("beyond", 99, id), ("unknown id", 0, topic_id(3))] {
                let mut request = fetch("fetched", vec![partition(0, offset)]);
                if version >= 13 {
                    request.topics[0].topic_id = topic_id;
                    request.topics[0].topic = Default::default();
                }
                if version >= 15 {
                    request.replica_id = (-1).into();
                }
                let answer = self.peer.ask(version, &request).await;
                let data = &answer.responses[0].partitions[0];
                let length = data.records.as_ref().map(|records| records.len());
                self.say(
                    ("fetch", version, what),
                    (data.error_code, data.high_watermark, data.log_start_offset, length),
                );
            }
        }
        for (wait, min_bytes) in [(300, 1), (300, 0), (0, 1)] {
            let started = Instant::now();
            let request = fetch("fetched", vec![partition(0, 6)]).with_max_wait_ms(wait).with_min_bytes(min_bytes);
            self.peer.ask(newest, &request).await;
            self.say(("wait", wait, min_bytes), started.elapsed() >= Duration::from_millis(250));
        }
    }

    pub(super) async fn sessions(&mut self) {
        self.create("session", 2, &[]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        self.peer.ask(produce, &produce_request("session", 0, Batch::of(&["a"]))).await;
        let version = self.up_to::<FetchRequest>(12);
        let wanted = |partitions| FetchTopic::default().with_topic(topic_name("session")).with_partitions(partitions);
        let request = |id: i32, epoch: i32, topics: Vec<FetchTopic>| {
            let request = FetchRequest::default().with_max_wait_ms(20).with_min_bytes(1).with_max_bytes(1 << 20);
            request.with_session_id(id).with_session_epoch(epoch).with_topics(topics)
        };
        let first = request(0, 0, vec![wanted(vec![partition(0, 0), partition(1, 0)])]);
        let id = self.peer.ask(version, &first).await.session_id;
        let forget = ForgottenTopic::default().with_topic(topic_name("session")).with_partitions(vec![1]);
        let steps = [
            ("position moved", request(id, 1, vec![wanted(vec![partition(0, 1)])])),
            ("nothing new", request(id, 2, vec![])),
            ("an error", request(id, 3, vec![wanted(vec![partition(0, 9)])])),
            ("the same error", request(id, 4, vec![])),
            ("no error any more", request(id, 5, vec![wanted(vec![partition(0, 1)])])),
            ("nothing new again", request(id, 6, vec![])),
            ("position back", request(id, 7, vec![wanted(vec![partition(0, 0)])])),
            ("data again", request(id, 8, vec![])),
            ("an unknown partition", request(id, 9, vec![wanted(vec![partition(5, 0)])])),
            ("old epoch", request(id, 9, vec![])),
            ("early epoch", request(id, 12, vec![])),
            ("unknown id", request(if id == 77 { 78 } else { 77 }, 10, vec![])),
            ("still there", request(id, 10, vec![wanted(vec![partition(0, 1)])])),
            ("forget", request(id, 11, vec![]).with_forgotten_topics_data(vec![forget])),
            ("close", request(id, -1, vec![wanted(vec![partition(0, 0)])])),
            ("closed", request(id, 12, vec![])),
        ];
        for (what, request) in steps {
            let answer = self.peer.ask(version, &request).await;
            let said = answer.responses.iter().flat_map(|topic| &topic.partitions).map(|p| {
                (p.partition_index, p.error_code, p.high_watermark, p.records.as_ref().map(|records| records.len()))
            });
            let said: Vec<_> = said.collect();
            let session = if answer.session_id == id {
                "same"
            } else if answer.session_id == 0 {
                "none"
            } else {
                "other"
            };
            self.say(("session", what), (answer.error_code, session, said));
        }
    }

    pub(super) async fn offsets_and_epochs(&mut self) {
        self.create("listed", 2, &[]).await;
        let produce = self.up_to::<ProduceRequest>(9);
        for (values, time) in [(&["a", "b", "c"][..], 100_000), (&["d"], 50_000), (&["e", "f"], 200_000)] {
            self.peer.ask(produce, &produce_request("listed", 0, Batch::of(values).at(time))).await;
        }
        for version in self.versions::<ListOffsetsRequest>() {
            for index in [0, 1, 5] {
                for time in [0, 100_000, 100_002, 100_003, 200_001, 200_002, -1, -2, -3, -4, -5, -6] {
                    let asked = ListOffsetsPartition::default().with_partition_index(index).with_timestamp(time);
                    let topic = ListOffsetsTopic::default().with_name(topic_name("listed"));
                    let topic = topic.with_partitions(vec![asked.with_current_leader_epoch(-1)]);
                    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                    let answer = self.peer.ask(version, &request).await;
                    let found = &answer.topics[0].partitions[0];
                    self.say(
                        ("list", version, index, time),
                        (found.error_code, found.timestamp, found.offset, found.leader_epoch),
                    );
                }
            }
        }
        if self.newest::<ListOffsetsRequest>() >= 4 {
            for epoch in [0, 1] {
                let asked = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
                let topic = ListOffsetsTopic::default().with_name(topic_name("listed"));
                let asked = asked.with_current_leader_epoch(epoch);
                let twice = topic.clone().with_partitions(vec![asked.clone(), asked.clone()]);
                for topic in [topic.with_partitions(vec![asked]), twice] {
                    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
                    let answer = self.peer.ask(4, &request).await;
                    let said: Vec<_> =
                        answer.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.error_code, p.offset)).collect();
                    self.say(("list with epoch", epoch), said);
                }
            }
        }
        for version in self.versions::<OffsetForLeaderEpochRequest>() {
            for (index, current, epoch) in
                [(0, -1, 0), (0, -1, 1), (0, -1, -1), (0, 0, 0), (0, 3, 0), (1, -1, 0), (5, -1, 0)]
            {
                let asked =
                    OffsetForLeaderPartition::default().with_partition(index).with_current_leader_epoch(current);
                let topic = OffsetForLeaderTopic::default().with_topic(topic_name("listed"));
                let topic = topic.with_partitions(vec![asked.with_leader_epoch(epoch)]);
                let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
                let request = if version >= 3 { request.with_replica_id((-1).into()) } else { request };
                let answer = self.peer.ask(version, &request).await;
                let end = &answer.topics[0].partitions[0];
                self.say(
                    ("end of epoch", version, index, current, epoch),
                    (end.error_code, end.leader_epoch, end.end_offset),
                );
            }
        }
    }
}
