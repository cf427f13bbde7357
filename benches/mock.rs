//! What the mock cluster costs: CPU per record of 100 bytes, in batches of 128 KiB, produced and fetched; and how long
//! ten brokers take to start. `cargo bench --bench mock`.
//!
//! The client is prepared frames over an in-memory stream on the same thread, so the figures are an upper bound: they
//! have its copies in them. Medians of eleven runs.
#![allow(clippy::print_stdout, reason = "a bench prints figures")]
#![allow(clippy::disallowed_methods, reason = "and has a clock")]

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cpu_time::ProcessTime;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use milena::mock::MockCluster;
use milena::{Connector, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BATCH: usize = 128 << 10;
const VALUE: usize = 100;
const BATCHES: usize = 100;
const RUNS: usize = 11;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut produce, mut fetch) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (produced, fetched) = runtime.block_on(produce_and_fetch());
        produce.push(produced);
        fetch.push(fetched);
    }
    println!("produce: {:.4} us CPU per record", median(produce));
    println!("fetch:   {:.4} us CPU per record", median(fetch));
    let starts = (0..RUNS).map(|_| runtime.block_on(start_ten()).as_secs_f64() * 1e3);
    println!("ten brokers on TCP: {:.2} ms to start", median(starts.collect()));
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn start_ten() -> Duration {
    let started = Instant::now();
    let cluster = MockCluster::builder().brokers(10).start().await;
    let elapsed = started.elapsed();
    cluster.close().await;
    elapsed
}

/// Microseconds of CPU for each record, of produce and of fetch.
async fn produce_and_fetch() -> (f64, f64) {
    let cluster = MockCluster::builder().in_memory().start().await;
    cluster.create_topic("t", 1);
    let address = cluster.bootstrap()[0].parse().expect("an address");
    let mut stream = cluster.connector().connect(&address).await.expect("a broker");
    let (batch, records) = batch();
    let total = (BATCHES * records) as f64;

    let data = PartitionProduceData::default().with_records(Some(batch.clone()));
    let topic = TopicProduceData::default().with_name(name()).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
    let frame = encode(PRODUCE, &request);
    let mut buffer = BytesMut::with_capacity(2 * BATCH);
    let started = ProcessTime::now();
    for _ in 0..BATCHES {
        let answer: ProduceResponse = ask(&mut stream, &frame, &mut buffer, PRODUCE).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let produce = started.elapsed().as_secs_f64() * 1e6 / total;

    let mut frames = Vec::new();
    let size = batch.len() as i32; // with more room, a part of the next batch would come along
    for batch in 0..BATCHES {
        let partition = FetchPartition::default()
            .with_fetch_offset((batch * records) as i64)
            .with_current_leader_epoch(-1)
            .with_partition_max_bytes(size);
        let topic = FetchTopic::default().with_topic(name()).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_max_wait_ms(500).with_min_bytes(1).with_max_bytes(size);
        frames.push(encode(FETCH, &request.with_session_epoch(-1).with_topics(vec![topic])));
    }
    let started = ProcessTime::now();
    for frame in &frames {
        let answer: FetchResponse = ask(&mut stream, frame, &mut buffer, FETCH).await;
        let fetched = answer.responses[0].partitions[0].records.as_ref().map_or(0, Bytes::len);
        assert_eq!(fetched, batch.len());
    }
    let fetch = started.elapsed().as_secs_f64() * 1e6 / total;
    assert!(cluster.verify().is_empty());
    cluster.close().await;
    (produce, fetch)
}

fn name() -> kafka_protocol::messages::TopicName {
    StrBytes::from("t").into()
}

fn encode<R: Request>(version: i16, request: &R) -> Bytes {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).expect("a header");
    request.encode(&mut body, version).expect("a request");
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.extend_from_slice(&body);
    frame.freeze()
}

async fn ask<R: Decodable + HeaderVersion>(
    stream: &mut Box<dyn Transport>,
    frame: &Bytes,
    buffer: &mut BytesMut,
    version: i16,
) -> R {
    stream.write_all_buf(&mut frame.clone()).await.expect("the request is sent");
    let length = loop {
        if let Some(length) = buffer.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
            && buffer.len() >= 4 + length
        {
            break length;
        }
        buffer.reserve(2 * BATCH);
        assert!(stream.read_buf(buffer).await.expect("the answer comes") > 0);
    };
    buffer.advance(4);
    let mut answer = buffer.split_to(length).freeze();
    answer.advance(if R::header_version(version) == 0 { 4 } else { 5 });
    R::decode(&mut answer, version).expect("an answer")
}

/// A batch of as many records as fit, and their number.
fn batch() -> (Bytes, usize) {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_millis() as i64;
    let mut records = BytesMut::new();
    let mut count = 0;
    while records.len() + VALUE + 16 + 61 <= BATCH {
        let mut body = BytesMut::new();
        body.put_u8(0);
        zigzag(&mut body, 0);
        zigzag(&mut body, count);
        zigzag(&mut body, -1);
        zigzag(&mut body, VALUE as i64);
        body.put_bytes(b'x', VALUE);
        zigzag(&mut body, 0);
        zigzag(&mut records, body.len() as i64);
        records.extend_from_slice(&body);
        count += 1;
    }
    let mut covered = BytesMut::new();
    covered.put_i16(0);
    covered.put_i32(count as i32 - 1);
    covered.put_i64(now);
    covered.put_i64(now);
    covered.put_i64(-1);
    covered.put_i16(-1);
    covered.put_i32(-1);
    covered.put_i32(count as i32);
    covered.extend_from_slice(&records);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(covered.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_u8(2);
    batch.put_u32(crc32c::crc32c(&covered));
    batch.extend_from_slice(&covered);
    (batch.freeze(), count as usize)
}

fn zigzag(out: &mut BytesMut, value: i64) {
    let mut left = (value << 1 ^ value >> 63) as u64;
    while left >= 0x80 {
        out.put_u8(left as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8(left as u8);
}
