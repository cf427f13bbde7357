//! Transactions: errors of their coordinator, and what readers see.

use std::time::Duration;

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, ProduceRequest,
};

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, produce_request};
use crate::transactions::{aborted, add, end, init, transactional};

use super::Interview;

impl Interview {
    /// Asks for a producer id until the coordinator has loaded, and is done with the transaction before.
    async fn producer(&mut self, name: &str) -> (i64, i16) {
        for _ in 0..200 {
            let answer = self.peer.ask(self.up_to::<InitProducerIdRequest>(4), &init(name)).await;
            match answer.error_code {
                0 => return (answer.producer_id.0, answer.producer_epoch),
                14 | 15 | 16 | 51 => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("error {other}"),
            }
        }
        panic!("no producer id for {name}");
    }

    async fn ended(&mut self, name: &str, producer: (i64, i16), committed: bool, version: i16) -> (i16, Option<i16>) {
        for _ in 0..200 {
            let answer = self.peer.ask(version, &end(name, producer, committed)).await;
            if answer.error_code != 51 {
                return (answer.error_code, (version >= 5).then_some(answer.producer_epoch));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the transaction {name} does not end");
    }

    async fn added(&mut self, name: &str, producer: (i64, i16), topic: &str, partitions: &[i32]) -> Vec<(i32, i16)> {
        let version = self.up_to::<AddPartitionsToTxnRequest>(3);
        for _ in 0..200 {
            let answer = self.peer.ask(version, &add(name, producer, topic, partitions)).await;
            let results = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
            let mut results: Vec<_> = results.map(|one| (one.partition_index, one.partition_error_code)).collect();
            results.sort();
            if results.iter().all(|(_, error)| *error != 51) {
                return results;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nothing can be added to the transaction {name}");
    }

    /// Until what was ended is in the log: the markers of a real broker come a little later.
    async fn settled(&mut self, topic: &str, high_watermark: i64, last_stable: i64) {
        let version = self.up_to::<FetchRequest>(12);
        for _ in 0..200 {
            let request = fetch(topic, vec![partition(0, 0)]).with_max_wait_ms(0);
            let answer = self.peer.ask(version, &request).await;
            let data = &answer.responses[0].partitions[0];
            if (data.high_watermark, data.last_stable_offset) == (high_watermark, last_stable) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{topic} is not stable up to {last_stable}");
    }

    pub(super) async fn transactions(&mut self) {
        self.create("transactions", 1, &[]).await;
        let topic = "transactions";
        for version in self.versions::<FindCoordinatorRequest>().filter(|version| *version >= 1) {
            for key_type in [1, 9] {
                let mut error = 15;
                for _ in 0..200 {
                    let request = FindCoordinatorRequest::default().with_key_type(key_type);
                    error = if version >= 4 {
                        let request = request.with_coordinator_keys(vec!["x".into()]);
                        self.peer.ask(version, &request).await.coordinators[0].error_code
                    } else {
                        self.peer.ask(version, &request.with_key("x".into())).await.error_code
                    };
                    if error != 15 {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                self.say(("coordinator of", version, key_type), error);
            }
        }
        let x = self.producer("x").await;
        self.say("first epoch", x.1);
        for (what, request) in [
            ("no name", init("")),
            ("no time", init("x").with_transaction_timeout_ms(0)),
            ("too long", init("x").with_transaction_timeout_ms(900_001)),
        ] {
            let answer = self.peer.ask(self.up_to::<InitProducerIdRequest>(4), &request).await;
            self.say(("init", what), (answer.error_code, answer.producer_epoch));
        }
        for version in self.versions::<EndTxnRequest>().filter(|version| *version < 5) {
            for (what, name, producer) in [
                ("nothing begun", "x", x),
                ("no name", "", x),
                ("unknown name", "nobody", x),
                ("unknown id", "x", (x.0 + 1_000_000, x.1)),
                ("old epoch", "x", (x.0, x.1 - 1)),
                ("new epoch", "x", (x.0, x.1 + 1)),
            ] {
                for commit in [true, false] {
                    let answer = self.ended(name, producer, commit, version).await;
                    self.say(("end", version, what, commit), answer);
                }
            }
        }
        for (what, name, producer, partitions) in [
            ("unknown name", "nobody", x, &[0][..]),
            ("no name", "", x, &[0]),
            ("unknown id", "x", (x.0 + 1_000_000, x.1), &[0]),
            ("old epoch", "x", (x.0, x.1 - 1), &[0]),
            ("an unknown partition", "x", x, &[0, 7]),
        ] {
            let results = self.added(name, producer, topic, partitions).await;
            self.say(("add", what), results);
        }
        // Batches of a transaction that nobody has begun. Brokers of 2.8 take them.
        let produce = self.up_to::<ProduceRequest>(11);
        if produce >= 10 {
            for version in 3..=produce {
                for (what, name, producer) in [
                    ("not added", "x", x),
                    ("unknown name", "nobody", x),
                    ("unknown id", "x", (x.0 + 1_000_000, x.1)),
                    ("new epoch", "x", (x.0, x.1 + 1)),
                ] {
                    let answer = self.peer.ask(version, &transactional(name, topic, producer, 0, "v")).await;
                    let said = &answer.responses[0].partition_responses[0];
                    self.say(("produce", version, what), (said.error_code, said.base_offset, said.log_start_offset));
                }
            }
        }
        // Two transactions, one in the other.
        let y = self.producer("y").await;
        let produce = self.up_to::<ProduceRequest>(9);
        self.peer.ask(produce, &produce_request(topic, 0, Batch::of(&["plain"]))).await;
        for (name, producer) in [("x", x), ("y", y)] {
            let results = self.added(name, producer, topic, &[0]).await;
            self.say(("add", name), results);
        }
        for (name, producer, sequence) in [("x", x, 0), ("y", y, 0), ("x", x, 1)] {
            let answer = self.peer.ask(produce, &transactional(name, topic, producer, sequence, "v")).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(("write", name, sequence), (said.error_code, said.base_offset));
        }
        let outside = Batch::of(&["outside"]).by(x.0, x.1, 2);
        let answer = self.peer.ask(produce, &produce_request(topic, 0, outside)).await;
        self.say("outside of its transaction", answer.responses[0].partition_responses[0].error_code);
        self.readers("open", x.0, y.0).await;
        let version = self.up_to::<EndTxnRequest>(3);
        let answer = self.ended("y", y, false, version).await;
        self.say("abort y", answer);
        self.settled(topic, 5, 1).await;
        let answer = self.ended("x", x, true, version).await;
        self.say("commit x", answer);
        self.settled(topic, 6, 6).await;
        self.readers("ended", x.0, y.0).await;
        for (name, producer, commit) in [("x", x, true), ("x", x, false), ("y", y, false), ("y", y, true)] {
            let answer = self.ended(name, producer, commit, version).await;
            self.say(("end again", name, commit), answer);
        }
        // Fenced in the middle of a transaction.
        let results = self.added("x", x, topic, &[0]).await;
        let answer = self.peer.ask(produce, &transactional("x", topic, x, 2, "v")).await;
        self.say("another", (results, answer.responses[0].partition_responses[0].error_code));
        let again = self.producer("x").await;
        self.say("its next epoch", (again.0 == x.0, again.1));
        self.settled(topic, 8, 8).await;
        self.readers("fenced", x.0, y.0).await;
        for version in self.versions::<EndTxnRequest>() {
            let answer = self.ended("x", x, true, version).await;
            self.say(("fenced, end", version), answer.0);
        }
        let results = self.added("x", x, topic, &[0]).await;
        self.say("fenced, add", results);
        let answer = self.peer.ask(produce, &transactional("x", topic, x, 3, "v")).await;
        self.say("fenced, write", answer.responses[0].partition_responses[0].error_code);
        if self.newest::<InitProducerIdRequest>() >= 4 {
            for (what, id, epoch) in
                [("current", x.0, again.1), ("last", x.0, again.1), ("older", x.0, 0), ("other", 5, 0)]
            {
                for version in [3, 4] {
                    let request = init("x").with_producer_id(id.into()).with_producer_epoch(epoch);
                    let answer = self.peer.ask(version, &request).await;
                    self.say(("init, expecting", what, version), (answer.error_code, answer.producer_epoch));
                }
            }
        }
        if self.newest::<EndTxnRequest>() >= 5 && self.newest::<ProduceRequest>() >= 12 {
            self.bumping_transactions().await;
        }
    }

    /// KIP-890: producing begins a transaction, and its end is a new epoch.
    async fn bumping_transactions(&mut self) {
        self.create("bumping", 1, &[]).await;
        let z = self.producer("z").await;
        for (what, epoch, commit) in [("commit nothing", z.1, true), ("abort nothing", z.1, false)] {
            let answer = self.ended("z", (z.0, epoch), commit, 5).await;
            self.say(("bumping", what), answer);
        }
        let mut epoch = z.1 + 1;
        for commit in [true, false] {
            let answer = self.peer.ask(12, &transactional("z", "bumping", (z.0, epoch), 0, "v")).await;
            let said = &answer.responses[0].partition_responses[0];
            self.say(("bumping, write", commit), (said.error_code, said.base_offset));
            for again in [commit, commit, !commit] {
                let answer = self.ended("z", (z.0, epoch), again, 5).await;
                self.say(("bumping, end", commit, again), answer);
            }
            epoch += 1;
            let answer = self.peer.ask(12, &transactional("z", "bumping", (z.0, epoch - 1), 1, "v")).await;
            self.say(("bumping, old epoch", commit), answer.responses[0].partition_responses[0].error_code);
        }
        self.settled("bumping", 4, 4).await;
        self.readers_of("bumping", "bumping", z.0, -1).await;
    }

    async fn readers(&mut self, what: &str, x: i64, y: i64) {
        self.readers_of("transactions", what, x, y).await;
    }

    /// What a reader gets from every offset, and where it believes the end to be.
    async fn readers_of(&mut self, topic: &str, what: &str, x: i64, y: i64) {
        let version = self.up_to::<FetchRequest>(12);
        for isolation in [0, 1] {
            for offset in 0..9 {
                let request = fetch(topic, vec![partition(0, offset)]).with_max_wait_ms(0);
                let answer = self.peer.ask(version, &request.with_isolation_level(isolation)).await;
                let data = &answer.responses[0].partitions[0];
                let name = |id: i64| {
                    if id == x {
                        'x'
                    } else if id == y {
                        'y'
                    } else {
                        '?'
                    }
                };
                let mut list = aborted(data)
                    .map(|list| list.into_iter().map(|(id, offset)| (name(id), offset)).collect::<Vec<_>>());
                list.iter_mut().for_each(|list| list.sort());
                let records = data.records.clone().unwrap_or_default();
                let (mut at, mut batches) = (0, Vec::new());
                while at < records.len() {
                    let size = 12 + u32::from_be_bytes(records[at + 8..at + 12].try_into().unwrap()) as usize;
                    let batch = &records[at..at + size];
                    let control = batch[22] & 0x20 != 0;
                    // Without offset, CRC and times: attributes, delta | producer epoch, sequence, count | the marker.
                    let marker = if control { batch[61..].to_vec() } else { Vec::new() };
                    batches.push((size, batch[21..27].to_vec(), batch[51..61].to_vec(), marker));
                    at += size;
                }
                let offsets = (data.high_watermark, data.last_stable_offset);
                self.say((topic, what, isolation, offset), (data.error_code, offsets, list, batches));
            }
            if self.newest::<ListOffsetsRequest>() >= 2 {
                for time in [-1, -2, 0] {
                    let found = crate::replicas::offset_at(&mut self.peer, topic, time, isolation, 2).await;
                    self.say((topic, what, isolation, "time", time), found);
                }
            }
        }
    }
}
