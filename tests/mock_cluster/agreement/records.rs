//! Produced batches, and idempotence.

use std::time::Duration;

use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest,
};
use milena::record::Compression;

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, now_ms, produce_request, record, topic_name};

use super::{Interview, topic_id};

impl Interview {
    pub(super) async fn refused_batches(&mut self) {
        self.create("refused", 1, &[]).await;
        self.create("compacted", 1, &[("cleanup.policy", "compact")]).await;
        self.create("small", 1, &[("max.message.bytes", "100")]).await;
        let version = self.up_to::<ProduceRequest>(9);
        let cases = crate::produce::refused();
        // Here the mock is stricter, and says so in its documentation.
        let mut cases: Vec<_> = cases.into_iter().map(|(what, error, bytes)| (what.to_owned(), error, bytes)).collect();
        cases.extend(crate::produce::refused_packed());
        cases.retain(|(what, ..)| {
            !what.starts_with("offset deltas") && !what.starts_with("a record beyond the batch (")
        });
        for (what, _, bytes) in cases {
            let answer = self.peer.ask(version, &produce_request("refused", 0, bytes)).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(
                ("refused", &what),
                (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
            );
        }
        let segment = [("segment.bytes", "1048576"), ("max.message.bytes", "2000000")];
        self.create("segment", 1, &segment).await;
        let long = Batch::of(&[&"x".repeat(1_048_577)]);
        for topic in ["segment", "refused"] {
            let answer = self.peer.ask(version, &produce_request(topic, 0, long.clone())).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(("long", topic), (said.error_code, said.base_offset, said.log_start_offset));
        }
        let keyless = Batch::of(&["a", "b"]);
        let large = Batch::of(&[&"x".repeat(100)]);
        for (topic, batch) in [("compacted", keyless.clone()), ("small", large), ("nowhere", keyless.clone())] {
            let answer = self.peer.ask(version, &produce_request(topic, 0, batch)).await;
            let said = &answer.responses[0].partition_responses[0];
            let records: Vec<_> = said.record_errors.iter().map(|error| error.batch_index).collect();
            self.say(("refused", topic), (said.error_code, said.base_offset, records));
        }
        let late = Batch {
            records: [record(0, 0, None, None, &[]), record(9_000_000, 1, None, None, &[])].concat(),
            ..keyless.clone()
        };
        let answer = self.peer.ask(version, &produce_request("refused", 0, late)).await;
        let said = &answer.responses[0].partition_responses[0];
        let records: Vec<_> = said.record_errors.iter().map(|error| error.batch_index).collect();
        self.say("one record is late", (said.error_code, records));
        let answer = self.peer.ask(version, &produce_request("refused", 0, keyless.clone()).with_acks(2)).await;
        let said = &answer.responses[0].partition_responses[0];
        self.say("acks 2", (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset));
        let answer = self.peer.ask(version, &produce_request("refused", 3, keyless)).await;
        self.say("partition 3", answer.responses[0].partition_responses[0].error_code);
    }

    pub(super) async fn produced_batches(&mut self) {
        self.create("produced", 1, &[]).await;
        self.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        self.create("zipped", 1, &[("compression.type", "gzip")]).await;
        self.create("plain", 1, &[("compression.type", "uncompressed")]).await;
        let topic_ids =
            self.peer.ask(self.up_to::<MetadataRequest>(12), &MetadataRequest::default().with_topics(None)).await;
        let id = topic_ids.topics.iter().find(|topic| topic.name == Some(topic_name("produced"))).unwrap().topic_id;
        for version in self.versions::<ProduceRequest>() {
            let mut request = produce_request("produced", 0, Batch::of(&["a", "b"]));
            let mut unknown = produce_request("nowhere", 0, Batch::of(&["a"]));
            if version >= 13 {
                for (request, id) in [(&mut request, id), (&mut unknown, topic_id(9))] {
                    let data = request.topic_data[0].partition_data.clone();
                    let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(data);
                    request.topic_data[0] = topic;
                }
            }
            for request in [request, unknown] {
                let answer = self.peer.ask(version, &request).await;
                let said = &answer.responses[0].partition_responses[0];
                self.say(
                    ("produce", version),
                    (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
                );
            }
        }
        let version = self.up_to::<ProduceRequest>(9);
        for (what, batch) in [
            ("followed by a partial batch", [Batch::of(&["a"]).bytes(), vec![0; 11]].concat()),
            ("of 1970", Batch::of(&["a"]).at(0).bytes()),
            ("without a time", Batch::of(&["a"]).at(-1).bytes()),
            ("in half an hour", Batch::of(&["a"]).at(now_ms() + 1_800_000).bytes()),
            ("with a wrong largest time", Batch { max_timestamp: 5, ..Batch::of(&["a"]) }.bytes()),
            ("gzip", Batch::of(&["a", "b"]).packed(Compression::Gzip).bytes()),
            ("snappy", Batch::of(&["a", "b"]).packed(Compression::Snappy).bytes()),
            ("lz4", Batch::of(&["a", "b"]).packed(Compression::Lz4).bytes()),
            ("zstd", Batch::of(&["a", "b"]).packed(Compression::Zstd).bytes()),
            (
                "lz4 with a wrong largest time",
                Batch { max_timestamp: 5, ..Batch::of(&["a"]).packed(Compression::Lz4) }.bytes(),
            ),
            ("of append time", Batch { attributes: 8, ..Batch::of(&["a"]) }.bytes()),
        ] {
            // Brokers of 2.8 refused what newer ones forgive and put right, as the mock does.
            if what == "of append time" && self.newest::<ApiVersionsRequest>() < 4 {
                continue;
            }
            for topic in ["produced", "stamped", "zipped", "plain"] {
                let answer = self.peer.ask(version, &produce_request(topic, 0, batch.clone())).await;
                let said = &answer.responses[0].partition_responses[0];
                let stamped = said.log_append_time_ms >= 0;
                self.say(("produced", topic, what), (said.error_code, said.base_offset, stamped));
            }
        }
        let data = |index: i32, records: Option<Vec<u8>>| {
            PartitionProduceData::default().with_index(index).with_records(records.map(Into::into))
        };
        let partitions = vec![data(0, Some(Batch::of(&["a"]).bytes())), data(1, Some(Batch::of(&["a"]).bytes()))];
        let topic = TopicProduceData::default().with_name(topic_name("produced")).with_partition_data(partitions);
        let answer = self
            .peer
            .ask(version, &ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![topic]))
            .await;
        let mut said: Vec<_> =
            answer.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code, p.base_offset)).collect();
        said.sort();
        self.say("one partition of two", said);
        // What was stored, as it is fetched: header and all, but for times of the broker and the CRC over them.
        for topic in ["produced", "stamped", "zipped", "plain"] {
            let version = self.up_to::<FetchRequest>(12);
            let answer = self.peer.ask(version, &fetch(topic, vec![partition(0, 0)])).await;
            let records = answer.responses[0].partitions[0].records.clone().unwrap();
            let (mut at, mut stored) = (0, Vec::new());
            while at < records.len() {
                let size = 12 + u32::from_be_bytes(records[at + 8..at + 12].try_into().unwrap()) as usize;
                let header = records.slice(at..at + 61);
                let offset = i64::from_be_bytes(header[..8].try_into().unwrap());
                let max = i64::from_be_bytes(header[35..43].try_into().unwrap());
                let base = i64::from_be_bytes(header[27..35].try_into().unwrap());
                let difference = if topic == "stamped" { -1 } else { max - base };
                // Sizes of what the broker compresses depend on its library.
                let compared = if topic == "zipped" { 0 } else { size };
                stored.push((offset, compared, header[12..17].to_vec(), header[21..27].to_vec(), difference));
                at += size;
            }
            self.say(("stored", topic), stored);
        }
    }

    pub(super) async fn sequences(&mut self) {
        self.create("sequences", 2, &[]).await;
        let version = self.up_to::<ProduceRequest>(9);
        let half = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
        let mut ids = Vec::new();
        for _ in 0..100 {
            let answer = self.peer.ask(self.newest::<InitProducerIdRequest>(), &half).await;
            if answer.error_code != 14 {
                break; // the coordinator has loaded
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for version in self.versions::<InitProducerIdRequest>() {
            let answer = self.peer.ask(version, &half).await;
            ids.push(answer.producer_id.0);
            self.say(("producer id", version), (answer.error_code, answer.producer_epoch, answer.producer_id.0 >= 0));
        }
        if self.newest::<InitProducerIdRequest>() >= 3 {
            for (id, epoch) in [(5, -1), (-1, 5), (5, 5)] {
                let request = half.clone().with_producer_id(id.into()).with_producer_epoch(epoch);
                let answer = self.peer.ask(3, &request).await;
                self.say(("producer id", id, epoch), (answer.error_code, answer.producer_epoch));
            }
        }
        let (a, b, c) = (1_000_001, 1_000_002, 1_000_003); // ids that nobody was given do as well
        for (what, index, id, epoch, sequence, count) in [
            ("first", 0, a, 0, 0, 2),
            ("second", 0, a, 0, 2, 2),
            ("third", 0, a, 0, 4, 2),
            ("fourth", 0, a, 0, 6, 2),
            ("fifth", 0, a, 0, 8, 2),
            ("repeat first", 0, a, 0, 0, 2),
            ("sixth", 0, a, 0, 10, 2),
            ("repeat sixth", 0, a, 0, 10, 2),
            ("repeat second", 0, a, 0, 2, 2),
            ("repeat first again", 0, a, 0, 0, 2),
            ("a part of the sixth", 0, a, 0, 10, 1),
            ("across", 0, a, 0, 9, 2),
            ("gap", 0, a, 0, 14, 1),
            ("next", 0, a, 0, 12, 1),
            ("new epoch, wrong start", 0, a, 1, 13, 1),
            ("new epoch", 0, a, 1, 0, 1),
            ("old epoch", 0, a, 0, 13, 1),
            ("old epoch, repeat", 0, a, 0, 12, 1),
            ("new epoch, repeat", 0, a, 1, 0, 1),
            ("skip an epoch", 0, a, 5, 0, 1),
            ("unknown, late start", 0, b, 0, 100, 1),
            ("unknown, next", 0, b, 0, 101, 1),
            ("unknown, late epoch", 0, c, 3, 7, 1),
            ("unknown, older epoch", 0, c, 2, 0, 1),
            ("other partition", 1, a, 0, 5, 1),
            ("wraps", 1, b, 0, i32::MAX - 1, 3),
            ("wraps, repeat", 1, b, 0, i32::MAX - 1, 3),
            ("wrapped, next", 1, b, 0, 1, 1),
            ("to the end", 1, c, 0, i32::MAX - 1, 2),
            ("from 0 again", 1, c, 0, 0, 1),
            ("negative epoch", 1, 1_000_004, -1, 0, 1),
        ] {
            let batch = Batch::of(&vec!["x"; count]).by(id, epoch, sequence).at(1_700_000_000_000);
            let answer = self.peer.ask(version, &produce_request("sequences", index, batch)).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(
                ("sequence", what),
                (said.error_code, said.base_offset, said.log_append_time_ms, said.log_start_offset),
            );
        }
    }
}
