//! What a broker checks before it appends, and what idempotence means.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use kafka_protocol::protocol::Message;
use kafka_protocol::records::{
    Compression as Codec, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use milena::record::{Compression, Decompressor, Limits};

use crate::harness::{Batch, CODECS, Peer, in_memory, now_ms, produce_request, record, topic_name, values};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const RECORD_LIST_TOO_LARGE: i16 = 18;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_REQUIRED_ACKS: i16 = 21;
const INVALID_TIMESTAMP: i16 = 32;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

#[tokio::test(start_paused = true)]
async fn records_get_consecutive_offsets() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    let answer = peer.produce("t", 0, Batch::of(&["a", "b"])).await;
    assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, 0, -1));
    let answer = peer.produce("t", 0, Batch::of(&["c"])).await;
    assert_eq!((answer.error_code, answer.base_offset, answer.log_start_offset), (0, 2, 0));
    assert_eq!(values(&cluster, "t", 0), ["a", "b", "c"]);
    assert_eq!(cluster.offsets("t", 0), (0, 3));
    assert_eq!(cluster.offsets("t", 1), (0, 0));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_log_holds_keys_tombstones_and_duplicate_headers() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let headers: [(&str, Option<&[u8]>); 3] = [("h", Some(b"1")), ("h", None), ("", Some(b""))];
    let mut batch = Batch::of(&["", ""]);
    batch.records = record(0, 0, Some(b"k"), Some(b"v"), &headers);
    batch.records.extend(record(7, 1, Some(b""), None, &[]));
    batch = batch.at(now_ms());
    let base = batch.base_timestamp;
    Peer::connect(&cluster, 1).await.produce("t", 0, batch).await;
    let log = cluster.log("t", 0);
    assert_eq!((log[0].offset, log[1].offset), (0, 1));
    assert_eq!((log[0].timestamp, log[1].timestamp), (base, base + 7));
    assert_eq!((log[0].key.as_deref(), log[0].value.as_deref()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!((log[1].key.as_deref(), log[1].value.as_deref()), (Some(&b""[..]), None));
    let headers: Vec<_> = log[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    assert_eq!(headers, [("h", Some(&b"1"[..])), ("h", None), ("", Some(&b""[..]))]);
    // The largest timestamp was not what the header said, so the broker has put it right.
    assert_eq!(cluster.batches("t", 0)[0].max_timestamp, base + 7);
    cluster.close().await;
}

/// `kafka-protocol` is a second opinion on the batch format: what it encodes is accepted, and what is stored it can
/// decode.
#[tokio::test(start_paused = true)]
async fn kafka_protocol_agrees_on_batches() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let record = |offset: i64| Record {
        transactional: false,
        control: false,
        partition_leader_epoch: 0,
        delete_horizon: false,
        producer_id: 4,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: now_ms() - 1_000_000 + offset * 100_000,
        key: (offset % 2 == 0).then(|| Bytes::from(vec![7; 200])),
        value: Some(Bytes::from(vec![b'v'; offset as usize * 1000])),
        headers: [("a".into(), Some(Bytes::from_static(b"b"))), ("c".into(), None)].into_iter().collect(),
    };
    let records: Vec<_> = (0..9).map(record).collect();
    let mut encoded = bytes::BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Codec::None };
    RecordBatchEncoder::encode(&mut encoded, &records, &options).unwrap();
    let mut peer = Peer::connect(&cluster, 1).await;
    for round in 0..2 {
        let mut again = encoded.clone();
        if round == 1 {
            again = Batch::of(&["x"]).bytes()[..].into(); // the second batch is not at offset 0
        }
        assert_eq!(peer.produce("t", 0, again.freeze()).await.error_code, 0);
    }
    let mut fetched = crate::fetch::fetch_bytes(&mut peer, "t", 0, 0).await;
    let decoded = RecordBatchDecoder::decode_all(&mut fetched).unwrap();
    assert_eq!(decoded[0].records, records);
    assert_eq!((decoded[1].records[0].offset, decoded[1].records[0].value.as_deref()), (9, Some(&b"x"[..])));
    cluster.close().await;
}

/// Compressed batches that a broker refuses, and the error that says so.
pub fn refused_packed() -> Vec<(String, i16, Vec<u8>)> {
    let good = || Batch::of(&["a value", "another value"]);
    let plain = |delta: i32| record(0, delta, None, Some(b"v"), &[]);
    let mut longer = plain(1);
    longer[0] += 2;
    let mut negative_headers = plain(1);
    *negative_headers.last_mut().unwrap() = 1;
    let mut shorter = plain(1);
    *shorter.last_mut().unwrap() = 2;
    let null_header_name = vec![18, 0, 0, 2, 1, 1, 2, 1, 1, 0];
    let mut cases = Vec::new();
    for codec in CODECS {
        let with = |records: Vec<u8>| Batch { records, ..good() }.packed(codec).bytes();
        let mut cut = good().packed(codec);
        cut.records.truncate(cut.records.len() - 9);
        let mut garbage = good().packed(codec);
        garbage.records = b"these are no records at all, and no stream either".to_vec();
        let mut empty = good().packed(codec);
        empty.records.clear();
        for (what, error, bytes) in [
            ("cut", UNKNOWN_SERVER_ERROR, cut.bytes()),
            ("garbage", UNKNOWN_SERVER_ERROR, garbage.bytes()),
            // To zstd, nothing is a stream of nothing.
            (
                "no stream",
                if codec == Compression::Zstd { INVALID_RECORD } else { UNKNOWN_SERVER_ERROR },
                empty.bytes(),
            ),
            ("fewer records", INVALID_RECORD, with(plain(0))),
            ("more records", INVALID_RECORD, with([plain(0), plain(1), plain(2)].concat())),
            ("a record beyond the batch", INVALID_RECORD, with([plain(0), longer.clone()].concat())),
            ("a record shorter than its fields", INVALID_RECORD, with([plain(0), shorter.clone()].concat())),
            ("a negative number of headers", INVALID_RECORD, with([plain(0), negative_headers.clone()].concat())),
            ("a header without a name", INVALID_RECORD, with([plain(0), null_header_name.clone()].concat())),
            ("offset deltas with a gap", INVALID_RECORD, with([plain(0), plain(2)].concat())),
            ("a wrong count", INVALID_RECORD, Batch { count: 3, ..good() }.packed(codec).bytes()),
            ("a time in two hours", INVALID_TIMESTAMP, good().at(now_ms() + 7_200_000).packed(codec).bytes()),
        ] {
            cases.push((format!("{what} ({codec:?})"), error, bytes));
        }
    }
    cases
}

/// Produced data that a broker refuses, and the error that says so.
pub fn refused() -> Vec<(&'static str, i16, Vec<u8>)> {
    let good = || Batch::of(&["a", "b"]);
    let flipped = |at: usize| {
        let mut bytes = good().bytes();
        bytes[at] ^= 1;
        bytes
    };
    let doubled = || [good().bytes(), good().bytes()].concat();
    let length = |length: i32| {
        let mut bytes = good().bytes();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let with_records = |records: Vec<u8>| Batch { records, ..good() }.bytes();
    let two = |first: Vec<u8>, second: Vec<u8>| with_records([first, second].concat());
    let plain = |delta: i32| record(0, delta, None, Some(b"v"), &[]);
    let mut longer = plain(1);
    longer[0] += 2; // a record that claims one byte more than there is
    let mut many_headers = plain(1);
    *many_headers.last_mut().unwrap() = 2; // one header, where there is none
    let mut negative_headers = plain(1);
    *negative_headers.last_mut().unwrap() = 1;
    let null_header_name = [&[18, 0, 0, 2, 1, 1, 2, 1, 1, 0][..]].concat();

    vec![
        ("nothing", INVALID_RECORD, vec![]),
        ("a batch that ends early", INVALID_RECORD, good().bytes()[..70].to_vec()),
        ("two batches", INVALID_RECORD, doubled()),
        ("magic 1", INVALID_RECORD, Batch { magic: 1, ..good() }.bytes()),
        ("magic 0", INVALID_RECORD, Batch { magic: 0, ..good() }.bytes()),
        ("magic 3", CORRUPT_MESSAGE, Batch { magic: 3, ..good() }.bytes()),
        ("a base offset", INVALID_RECORD, Batch { base_offset: 5, ..good() }.bytes()),
        ("length 13", CORRUPT_MESSAGE, length(13)),
        ("a negative length", CORRUPT_MESSAGE, length(-1)),
        ("a length that is no whole header", CORRUPT_MESSAGE, length(48)[..60].to_vec()),
        ("a wrong CRC", CORRUPT_MESSAGE, flipped(17)),
        ("a flipped bit in the attributes", CORRUPT_MESSAGE, flipped(21)),
        ("a flipped bit in the last byte", CORRUPT_MESSAGE, flipped(good().bytes().len() - 1)),
        ("no records", INVALID_RECORD, Batch { count: 0, last_offset_delta: -1, records: vec![], ..good() }.bytes()),
        ("a negative count", INVALID_RECORD, Batch { count: -1, ..good() }.bytes()),
        ("a negative last offset delta", INVALID_RECORD, Batch { last_offset_delta: -1, ..good() }.bytes()),
        ("a count that is too small", INVALID_RECORD, Batch { count: 1, ..good() }.bytes()),
        ("a last offset delta that is too large", INVALID_RECORD, Batch { last_offset_delta: 2, ..good() }.bytes()),
        ("fewer records than it says", INVALID_RECORD, with_records(plain(0))),
        ("more records than it says", INVALID_RECORD, with_records([plain(0), plain(1), plain(2)].concat())),
        ("offset deltas with a gap", INVALID_RECORD, two(plain(0), plain(2))),
        ("offset deltas from 1", INVALID_RECORD, two(plain(1), plain(2))),
        ("a record beyond the batch", INVALID_RECORD, two(plain(0), longer)),
        ("a record shorter than its fields", INVALID_RECORD, two(plain(0), many_headers)),
        ("a negative number of headers", INVALID_RECORD, two(plain(0), negative_headers)),
        ("a header without a name", INVALID_RECORD, two(plain(0), null_header_name)),
        ("a control batch", INVALID_RECORD, Batch { attributes: 0x20, ..good() }.bytes()),
        ("a producer id without a sequence", INVALID_RECORD, good().by(1, 0, -1).bytes()),
        ("a codec that does not exist", -1, Batch { attributes: 5, ..good() }.bytes()),
        (
            "a transactional batch",
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Batch { attributes: 0x10, ..good().by(1, 0, 0) }.bytes(),
        ),
        ("a time in two hours", INVALID_TIMESTAMP, good().at(now_ms() + 7_200_000).bytes()),
    ]
}

#[tokio::test(start_paused = true)]
async fn batches_that_a_broker_refuses() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let plain = refused().into_iter().map(|(what, error, bytes)| (what.to_owned(), error, bytes));
    for (what, error, bytes) in plain.chain(refused_packed()) {
        let answer = Peer::connect(&cluster, 1).await.produce("t", 0, bytes).await;
        assert_eq!((answer.error_code, answer.base_offset), (error, -1), "{what}: {:?}", answer.error_message);
        assert_eq!(cluster.offsets("t", 0), (0, 0), "{what}");
    }
    // Half an hour ahead is allowed, and so is whatever happened long ago; what follows a batch and is none is ignored.
    let mut peer = Peer::connect(&cluster, 1).await;
    let good = || Batch::of(&["a", "b"]);
    let followed = [good().bytes(), vec![0; 11]].concat();
    for bytes in [good().at(now_ms() + 1_800_000).bytes(), good().at(0).bytes(), good().at(-1).bytes(), followed] {
        let answer = peer.produce("t", 0, bytes).await;
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_flip_of_any_bit_is_seen() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let good = Batch::of(&["some value"]).by(7, 0, 0).bytes();
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = peer.produce("t", 0, bytes).await.error_code;
        let leader_epoch = (12..16).contains(&(bit / 8)); // not covered by the CRC; the broker writes its own
        assert_eq!(error == 0, leader_epoch, "bit {bit}: {error}");
    }
    assert_eq!(values(&cluster, "t", 0).len(), 1, "the epochs' flips are repetitions of one batch");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_records() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_topic_config("t", "cleanup.policy", "compact");
    let mut batch = Batch::of(&["", "", ""]);
    let keyed = |delta: i32| record(0, delta, Some(b"k"), None, &[]);
    batch.records = [record(0, 0, None, None, &[]), keyed(1), record(0, 2, None, None, &[])].concat();
    let answer = Peer::connect(&cluster, 1).await.produce("t", 0, batch.clone()).await;
    assert_eq!(answer.error_code, INVALID_RECORD);
    assert_eq!(answer.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), [0, 2]);
    batch.records = [keyed(0), keyed(1), keyed(2)].concat();
    assert_eq!(Peer::connect(&cluster, 1).await.produce("t", 0, batch).await.error_code, 0);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn batches_have_a_largest_size() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let overhead = Batch::of(&[""]).bytes().len() + 4; // two lengths of a larger value take two bytes more each
    let largest = Batch::of(&[&"x".repeat(1_048_588 - overhead)]);
    assert_eq!(largest.bytes().len(), 1_048_588);
    assert_eq!(peer.produce("t", 0, largest).await.error_code, 0);
    let larger = Batch::of(&[&"x".repeat(1_048_588 - overhead + 1)]);
    assert_eq!(peer.produce("t", 0, larger).await.error_code, MESSAGE_TOO_LARGE);
    cluster.set_topic_config("t", "max.message.bytes", "100");
    assert_eq!(peer.produce("t", 0, Batch::of(&[&"x".repeat(100)])).await.error_code, MESSAGE_TOO_LARGE);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_fits_into_a_segment() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_topic_config("t", "max.message.bytes", "2000000");
    cluster.set_topic_config("t", "segment.bytes", "1048576");
    let mut peer = Peer::connect(&cluster, 1).await;
    let overhead = Batch::of(&[""]).bytes().len() + 4;
    let largest = Batch::of(&[&"x".repeat(1_048_576 - overhead)]);
    assert_eq!(largest.bytes().len(), 1_048_576);
    assert_eq!(peer.produce("t", 0, largest).await.error_code, 0);
    let larger = Batch::of(&[&"x".repeat(1_048_576 - overhead + 1)]);
    assert_eq!(peer.produce("t", 0, larger).await.error_code, RECORD_LIST_TOO_LARGE);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn compressed_batches_are_read() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    for (codec, base) in CODECS.into_iter().zip([0, 2, 4, 6]) {
        let batch = Batch::of(&["a", "b"]).at(100_000 + base).packed(codec);
        // What the header says of the largest time is put right, and the CRC with it.
        let answer = peer.produce("t", 0, Batch { max_timestamp: 7, ..batch }).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, base));
        assert_eq!(cluster.batches("t", 0).last().unwrap().max_timestamp, 100_001 + base);
    }
    assert_eq!(values(&cluster, "t", 0), ["a", "b", "a", "b", "a", "b", "a", "b"]);
    let codecs: Vec<_> = cluster.batches("t", 0).iter().map(|batch| batch.codec.unwrap()).collect();
    assert_eq!(codecs, ["gzip", "snappy", "lz4", "zstd"]);
    assert_eq!(cluster.log("t", 0)[5].timestamp, 100_005);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_may_choose_the_codec() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let sent = ["uncompressed", "gzip", "snappy", "lz4", "zstd", "producer"];
    for stored in sent {
        cluster.set_topic_config("t", "compression.type", stored);
        for codec in [Compression::None].into_iter().chain(CODECS) {
            assert_eq!(peer.produce("t", 0, Batch::of(&["a", "b"]).packed(codec)).await.error_code, 0);
        }
    }
    let codecs: Vec<_> = cluster.batches("t", 0).iter().map(|batch| batch.codec).collect();
    let same = |codec: Option<&'static str>| [codec; 5].into_iter();
    let expected = same(None).chain(same(Some("gzip"))).chain(same(Some("snappy"))).chain(same(Some("lz4")));
    let as_sent = [None, Some("gzip"), Some("snappy"), Some("lz4"), Some("zstd")];
    assert_eq!(codecs, expected.chain(same(Some("zstd"))).chain(as_sent).collect::<Vec<_>>());
    assert_eq!(values(&cluster, "t", 0).len(), 60);
    // Under a right CRC, and readable by others.
    let fetched = crate::fetch::fetch_bytes(&mut peer, "t", 0, 0).await;
    let mut at = 0;
    while at < fetched.len() {
        let size = 12 + u32::from_be_bytes(fetched[at + 8..at + 12].try_into().unwrap()) as usize;
        let codec = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            [usize::from(fetched[at + 22] & 7)];
        let records = &fetched[at + 61..at + size];
        let records = Decompressor::new().decompress(codec, records, Limits::default()).unwrap();
        assert_eq!(records, Batch::of(&["a", "b"]).records);
        at += size;
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn log_append_time_is_the_brokers() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.set_topic_config("t", "message.timestamp.type", "LogAppendTime");
    let mut peer = Peer::connect(&cluster, 1).await;
    let before = now_ms();
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    let answer = peer.produce("t", 0, Batch::of(&["a", "b"]).at(5)).await;
    assert_eq!(answer.error_code, 0);
    let appended = answer.log_append_time_ms - before;
    assert!((3_590_000..3_610_000).contains(&appended), "an hour later on the cluster's clock, not {appended} ms");
    assert!(cluster.log("t", 0).iter().all(|record| record.timestamp == answer.log_append_time_ms));
    // What is fetched says so, under a CRC that is right.
    let mut fetched = crate::fetch::fetch_bytes(&mut peer, "t", 0, 0).await;
    let decoded = RecordBatchDecoder::decode_all(&mut fetched).unwrap();
    assert_eq!(decoded[0].records[0].timestamp_type, TimestampType::LogAppend);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn repetitions_of_the_last_five_batches_succeed_with_their_offsets() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let batch = |sequence: i32| Batch::of(&["x", "y"]).by(9, 0, sequence);
    for index in 0..6 {
        assert_eq!(peer.produce("t", 0, batch(index * 2)).await.base_offset, i64::from(index) * 2);
    }
    for index in 1..6 {
        let answer = peer.produce("t", 0, batch(index * 2)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(index) * 2));
    }
    // The first is forgotten; a part of one, and what lies across two, were never batches.
    assert_eq!(peer.produce("t", 0, batch(0)).await.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);
    let part = Batch::of(&["x"]).by(9, 0, 10);
    assert_eq!(peer.produce("t", 0, part).await.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(peer.produce("t", 0, batch(9)).await.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(peer.produce("t", 0, batch(14)).await.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap");
    assert_eq!(peer.produce("t", 0, batch(12)).await.base_offset, 12);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn epochs_of_a_producer_only_grow() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    let batch = |epoch: i16, sequence: i32| Batch::of(&["x"]).by(3, epoch, sequence);
    assert_eq!(peer.produce("t", 0, batch(1, 41)).await.error_code, 0, "an unknown producer starts anywhere");
    assert_eq!(peer.produce("t", 0, batch(1, 42)).await.error_code, 0);
    assert_eq!(peer.produce("t", 0, batch(0, 43)).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(peer.produce("t", 0, batch(2, 43)).await.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(peer.produce("t", 0, batch(2, 0)).await.error_code, 0, "a new epoch starts at 0");
    assert_eq!(peer.produce("t", 0, batch(1, 42)).await.error_code, INVALID_PRODUCER_EPOCH);
    assert_eq!(peer.produce("t", 0, batch(2, 0)).await.base_offset, 2, "a repetition");
    assert_eq!(peer.produce("t", 1, batch(1, 7)).await.error_code, 0, "each partition has its own view");
    assert_eq!(cluster.offsets("t", 0), (0, 3));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn sequences_wrap_to_zero() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let across = || Batch::of(&["a", "b", "c"]).by(1, 0, i32::MAX - 1); // MAX - 1, MAX, 0
    assert_eq!(peer.produce("t", 0, across()).await.error_code, 0);
    assert_eq!(peer.produce("t", 0, across()).await.base_offset, 0, "a repetition");
    assert_eq!(peer.produce("t", 0, Batch::of(&["d"]).by(1, 0, 1)).await.base_offset, 3);
    let up_to_the_end = Batch::of(&["a", "b"]).by(2, 0, i32::MAX - 1);
    assert_eq!(peer.produce("t", 0, up_to_the_end).await.error_code, 0);
    assert_eq!(peer.produce("t", 0, Batch::of(&["c"]).by(2, 0, 0)).await.base_offset, 6);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_forgotten_may_go_on_anywhere() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.produce("t", 0, Batch::of(&["a"]).by(1, 3, 0)).await;
    cluster.expire_producers();
    let answer = peer.produce("t", 0, Batch::of(&["a"]).by(1, 3, 0)).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 1), "not recognised as a repetition");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn truncation_takes_sequences_back() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    for sequence in 0..4 {
        peer.produce("t", 0, Batch::of(&[&format!("{sequence}")]).by(1, 0, sequence)).await;
    }
    cluster.truncate("t", 0, 2);
    assert_eq!(cluster.offsets("t", 0), (0, 2));
    let answer = peer.produce("t", 0, Batch::of(&["3"]).by(1, 0, 3)).await;
    assert_eq!(answer.error_code, OUT_OF_ORDER_SEQUENCE_NUMBER, "batch 2 is gone, so 3 is too early");
    assert_eq!(peer.produce("t", 0, Batch::of(&["2"]).by(1, 0, 2)).await.base_offset, 2);
    assert_eq!(cluster.batches("t", 0)[2].leader_epoch, 1);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn acks_decide_what_is_answered() {
    let cluster = in_memory(3).await;
    cluster.create_topic("t", 1);
    let leader = cluster.leader("t", 0).unwrap();
    let mut peer = Peer::connect(&cluster, leader).await;
    let with_acks = |acks: i16| produce_request("t", 0, Batch::of(&["x"])).with_acks(acks);
    // No answer to acks=0: the next answer is to the next request.
    peer.send(9, &with_acks(0)).await;
    peer.answered += 1;
    let answer = peer.ask(9, &with_acks(1)).await;
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 1);
    let answer = peer.ask(9, &with_acks(2)).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, INVALID_REQUIRED_ACKS);
    cluster.set_topic_config("t", "min.insync.replicas", "3");
    let follower = (1..=3).find(|id| *id != leader).unwrap();
    cluster.stop_broker(follower).await;
    let answer = peer.ask(9, &with_acks(-1)).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, NOT_ENOUGH_REPLICAS);
    assert_eq!(peer.ask(9, &with_acks(1)).await.responses[0].partition_responses[0].error_code, 0);
    // An error with acks=0 closes the connection, since there is no other way to tell.
    peer.send(9, &produce_request("nowhere", 0, Batch::of(&["x"])).with_acks(0)).await;
    assert!(peer.frame().await.is_none());
    assert_eq!(values(&cluster, "t", 0).len(), 3);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn zstd_needs_version_7() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let zstd = Batch::of(&["x"]).packed(Compression::Zstd);
    let request = produce_request("t", 0, zstd);
    let answer = peer.ask(6, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, UNSUPPORTED_COMPRESSION_TYPE);
    let answer = peer.ask(7, &request).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(cluster.batches("t", 0)[0].codec, Some("zstd"));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn every_version_of_produce_is_served() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let mut peer = Peer::connect(&cluster, 1).await;
    let id = peer.metadata(&["t"]).await.topics[0].topic_id;
    for version in ProduceRequest::VERSIONS.min..=ProduceRequest::VERSIONS.max {
        let mut good = produce_request("t", 0, Batch::of(&["x"]));
        let mut unknown = produce_request("nowhere", 0, Batch::of(&["x"]));
        let mut invalid = produce_request("t", 0, Batch::of(&["x"]).at(now_ms() + 10_000_000));
        if version >= 13 {
            let by_id = |request: &mut ProduceRequest, id| {
                let data = request.topic_data[0].partition_data.clone();
                request.topic_data[0] = TopicProduceData::default().with_topic_id(id).with_partition_data(data);
            };
            by_id(&mut good, id);
            by_id(&mut invalid, id);
            by_id(&mut unknown, Default::default());
        }
        let answer = peer.ask(version, &good).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "version {version}");
        let answer = peer.ask(version, &unknown).await;
        let expected = if version >= 13 { 100 } else { 3 };
        assert_eq!(answer.responses[0].partition_responses[0].error_code, expected, "version {version}");
        let answer = peer.ask(version, &invalid).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, INVALID_TIMESTAMP, "version {version}");
    }
    assert_eq!(values(&cluster, "t", 0).len(), 11);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_request_may_fail_in_part() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 2);
    let mut peer = Peer::connect(&cluster, 1).await;
    let data =
        |index: i32, records: Option<Bytes>| PartitionProduceData::default().with_index(index).with_records(records);
    let good = || Some(Batch::of(&["x"]).into());
    let partitions = vec![data(0, good()), data(1, None), data(2, good()), data(-1, good()), data(1, good())];
    let topic = TopicProduceData::default().with_name(topic_name("t")).with_partition_data(partitions);
    let answer = peer.ask(9, &ProduceRequest::default().with_acks(1).with_topic_data(vec![topic])).await;
    let errors: Vec<_> = answer.responses[0].partition_responses.iter().map(|p| (p.index, p.error_code)).collect();
    assert_eq!(errors, [(0, 0), (1, INVALID_RECORD), (2, 3), (-1, 3), (1, 0)]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn producer_ids_are_new_each_time() {
    let cluster = in_memory(2).await;
    let request = || InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
    let mut ids = Vec::new();
    for broker in [1, 2, 1] {
        let mut peer = Peer::connect(&cluster, broker).await;
        for version in InitProducerIdRequest::VERSIONS.min..=InitProducerIdRequest::VERSIONS.max {
            let answer = peer.ask(version, &request()).await;
            assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
            ids.push(answer.producer_id.0);
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 18);
    let mut peer = Peer::connect(&cluster, 1).await;
    let half = request().with_producer_id(5.into());
    assert_eq!(peer.ask(3, &half).await.error_code, 42);
    cluster.close().await;
}
