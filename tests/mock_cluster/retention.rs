//! What brokers throw away: by time, by size, by key, and by order.

use std::time::Duration;

use kafka_protocol::records::RecordBatchDecoder;
use milena::mock::MockCluster;
use milena::record::Compression;

use crate::agreement::configs::{delete_records, incremental};
use crate::fetch::fetch_bytes;
use crate::harness::{Batch, Peer, in_memory, now_ms, record, values};

/// A batch of these keys and values.
fn keyed(records: &[(&str, Option<&str>)]) -> Batch {
    let bytes = records.iter().zip(0..).flat_map(|((key, value), index)| {
        record(index.into(), index, Some(key.as_bytes()), value.map(str::as_bytes), &[("h", Some(b"1"))])
    });
    let count = records.len() as i32;
    let batch = Batch { records: bytes.collect(), count, last_offset_delta: count - 1, ..Batch::of(&["x"]) };
    batch.at(now_ms())
}

async fn compacted() -> (MockCluster, Peer) {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_topic_config("t", "cleanup.policy", "compact");
    let peer = Peer::connect(&cluster, 1).await;
    (cluster, peer)
}

/// Offset, key, value: of what is in the log.
fn log(cluster: &MockCluster) -> Vec<(i64, String, Option<String>)> {
    let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = cluster.log("t", 0).into_iter();
    records.map(|record| (record.offset, text(record.key.unwrap()), record.value.map(text))).collect()
}

fn entry(offset: i64, key: &str, value: Option<&str>) -> (i64, String, Option<String>) {
    (offset, key.to_owned(), value.map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn compaction_keeps_the_last_of_each_key_at_its_offset() {
    let (cluster, mut peer) = compacted().await;
    peer.produce("t", 0, keyed(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))])).await;
    peer.produce("t", 0, keyed(&[("c", Some("1"))])).await;
    peer.produce("t", 0, keyed(&[("c", None), ("a", Some("3"))]).packed(Compression::Lz4)).await;
    cluster.compact("t");
    assert_eq!(log(&cluster), [entry(1, "b", Some("1")), entry(4, "c", None), entry(5, "a", Some("3"))]);
    assert_eq!((cluster.offsets("t", 0), cluster.high_watermark("t", 0)), ((0, 6), 6));
    let batches: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.base_offset, b.last_offset, b.codec)).collect();
    assert_eq!(batches, [(0, 2, None), (4, 5, Some("lz4"))], "the first still covers what it had, the second is gone");
    // Under a right CRC, and as others read it.
    let mut fetched = fetch_bytes(&mut peer, "t", 0, 0).await;
    assert_eq!(fetched[7], 0);
    let first = fetched.split_to(12 + u32::from_be_bytes(fetched[8..12].try_into().unwrap()) as usize);
    let decoded = RecordBatchDecoder::decode_all(&mut first.clone()).unwrap();
    let record = &decoded[0].records[0];
    assert_eq!((decoded[0].records.len(), record.offset, record.key.as_deref()), (1, 1, Some(&b"b"[..])));
    // A fetch from the middle of a gap gets what is after it.
    let after = fetch_bytes(&mut peer, "t", 0, 3).await;
    assert_eq!(i64::from_be_bytes(after[..8].try_into().unwrap()), 4);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn tombstones_go_when_their_time_is_over() {
    let (cluster, mut peer) = compacted().await;
    cluster.set_topic_config("t", "delete.retention.ms", "60000");
    peer.produce("t", 0, keyed(&[("a", Some("1")), ("b", Some("1"))])).await;
    peer.produce("t", 0, keyed(&[("a", None), ("c", Some("1"))])).await;
    peer.produce("t", 0, keyed(&[("d", Some("1"))])).await;
    let times: Vec<_> = cluster.log("t", 0).iter().map(|record| record.timestamp).collect();
    for wait in [0, 59] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        cluster.compact("t");
        let expected =
            [entry(1, "b", Some("1")), entry(2, "a", None), entry(3, "c", Some("1")), entry(4, "d", Some("1"))];
        assert_eq!(log(&cluster), expected);
    }
    // The batch says since when (KIP-534), where its base timestamp was; the records' times are the same.
    assert_eq!(cluster.log("t", 0).iter().map(|record| record.timestamp).collect::<Vec<_>>(), times[1..]);
    let fetched = fetch_bytes(&mut peer, "t", 0, 2).await;
    assert_eq!(fetched[22] & 0x40, 0x40);
    let horizon = i64::from_be_bytes(fetched[27..35].try_into().unwrap());
    assert!((58_000..=62_000).contains(&(horizon - times[0])), "{}", horizon - times[0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.compact("t");
    assert_eq!(log(&cluster), [entry(1, "b", Some("1")), entry(3, "c", Some("1")), entry(4, "d", Some("1"))]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_says_what_its_producer_has_written() {
    let (cluster, mut peer) = compacted().await;
    peer.produce("t", 0, keyed(&[("a", Some("1"))]).by(7, 0, 0)).await;
    peer.produce("t", 0, keyed(&[("a", Some("2"))]).by(8, 0, 0)).await;
    peer.produce("t", 0, keyed(&[("a", Some("3"))])).await;
    cluster.compact("t");
    assert_eq!(log(&cluster), [entry(2, "a", Some("3"))]);
    let batches: Vec<_> = cluster.batches("t", 0).iter().map(|b| (b.base_offset, b.producer_id, b.size)).collect();
    assert_eq!(batches[..2], [(0, 7, 61), (1, 8, 61)], "nothing but a header");
    cluster.truncate("t", 0, 2);
    let repetition = peer.produce("t", 0, keyed(&[("a", Some("2"))]).by(8, 0, 0)).await;
    assert_eq!((repetition.error_code, repetition.base_offset), (0, 1));
    assert_eq!(peer.produce("t", 0, keyed(&[("a", Some("4"))]).by(7, 0, 1)).await.base_offset, 2);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn compaction_leaves_what_is_young_and_what_is_open() {
    let (cluster, mut peer) = compacted().await;
    cluster.set_topic_config("t", "min.compaction.lag.ms", "10000");
    peer.produce("t", 0, keyed(&[("a", Some("1"))])).await;
    peer.produce("t", 0, keyed(&[("a", Some("2"))])).await;
    cluster.compact("t");
    assert_eq!(log(&cluster).len(), 2);
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.hold_high_watermark("t", 0);
    peer.ask(9, &crate::harness::produce_request("t", 0, keyed(&[("a", Some("3"))]).at(1)).with_acks(1)).await;
    cluster.compact("t");
    assert_eq!(log(&cluster), [entry(1, "a", Some("2")), entry(2, "a", Some("3"))], "3 may still be lost");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn compaction_drops_what_was_aborted() {
    let (cluster, mut peer) = compacted().await;
    peer.produce("t", 0, keyed(&[("a", Some("1"))])).await;
    cluster.write_transactional("t", 0, 4, ["without a key"]);
    cluster.write_marker("t", 0, 4, false);
    peer.produce("t", 0, keyed(&[("b", Some("1"))])).await;
    cluster.compact("t");
    assert_eq!(log(&cluster), [entry(0, "a", Some("1")), entry(3, "b", Some("1"))]);
    assert_eq!(cluster.batches("t", 0).iter().filter(|batch| batch.is_control).count(), 1);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn records_get_too_old() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    cluster.set_topic_config("t", "retention.ms", "60000");
    peer.produce("t", 0, Batch::of(&["a", "b"])).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    peer.produce("t", 0, Batch::of(&["c"]).at(now_ms() + 50_000)).await;
    cluster.apply_retention("t");
    assert_eq!(cluster.offsets("t", 0), (0, 3));
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.apply_retention("t");
    assert_eq!((cluster.offsets("t", 0), values(&cluster, "t", 0)), ((2, 3), vec!["c".to_owned()]));
    cluster.set_topic_config("t", "cleanup.policy", "compact");
    tokio::time::sleep(Duration::from_secs(200)).await;
    cluster.apply_retention("t");
    assert_eq!(cluster.offsets("t", 0), (2, 3), "nothing is deleted that is compacted");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_up_to_the_high_watermark() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.produce("t", 0, Batch::of(&["a", "b"])).await;
    cluster.hold_high_watermark("t", 0);
    let unseen = crate::harness::produce_request("t", 0, Batch::of(&["c"])).with_acks(1);
    peer.ask(9, &unseen).await;
    for (offset, error, start) in [(3, 1, -1), (1, 0, 1), (-1, 0, 2)] {
        let answer = peer.ask(2, &delete_records("t", 0, offset)).await;
        let said = &answer.topics[0].partitions[0];
        assert_eq!((said.error_code, said.low_watermark), (error, start), "{offset}");
    }
    assert_eq!(cluster.offsets("t", 0), (2, 3));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_set_on_all_brokers_is_what_topics_have() {
    let cluster = in_memory(2).await;
    cluster.create_topic("own", 1);
    cluster.create_topic("t", 1);
    cluster.set_topic_config("own", "max.message.bytes", "1000");
    let leader = cluster.leader("t", 0).unwrap();
    let mut peer = Peer::connect(&cluster, leader).await;
    let set =
        |value: Option<&'static str>| incremental(4, "", &[("message.max.bytes", i8::from(value.is_none()), value)]);
    assert_eq!(peer.ask(1, &set(Some("80"))).await.responses[0].error_code, 0);
    let batch = || Batch::of(&["a value of some length"]);
    assert_eq!(peer.produce("t", 0, batch()).await.error_code, 10);
    let other = cluster.leader("own", 0).unwrap();
    assert_eq!(Peer::connect(&cluster, other).await.produce("own", 0, batch()).await.error_code, 0);
    assert_eq!(peer.ask(1, &set(None)).await.responses[0].error_code, 0);
    assert_eq!(peer.produce("t", 0, batch()).await.error_code, 0);
    assert_eq!(peer.ask(1, &incremental(4, "", &[("log.dirs", 0, Some("/"))])).await.responses[0].error_code, 40);
    cluster.close().await;
}
