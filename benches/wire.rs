//! Frames beside those of `kafka-protocol`, which are the same bytes: each pair is compared before it is timed.

#![allow(missing_docs, reason = "what `criterion_group!` makes is public and has none")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes, encode_request_header_into_buffer};
use milena::wire::cluster::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena::wire::frame::{RequestHeader, decode_response, encode_body, encode_request};
use milena::wire::leader::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use milena::wire::leader::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena::wire::message::Records;

/// One batch of 1 MiB in a Produce request: a sealed batch is never copied again, so its size should not show.
fn produce(c: &mut Criterion) {
    const VERSION: i16 = 12;
    let mut group = c.benchmark_group("produce frame");
    for kib in [16, 1024] {
        let payload = Bytes::from(vec![7u8; kib * 1024]);
        let request = || ProduceRequest {
            acks: -1,
            timeout_ms: 30_000,
            topic_data: vec![TopicProduceData {
                name: Arc::from("orders"),
                partition_data: vec![PartitionProduceData {
                    index: 3,
                    records: Some(Records(payload.clone())),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let header = RequestHeader { version: VERSION, correlation: 9, client_id: Some("milena") };
        let theirs = || {
            oracle::ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![
                oracle::produce_request::TopicProduceData::default()
                    .with_name(oracle::TopicName(StrBytes::from_static_str("orders")))
                    .with_partition_data(vec![
                        oracle::produce_request::PartitionProduceData::default()
                            .with_index(3)
                            .with_records(Some(payload.clone())),
                    ]),
            ])
        };
        let their_frame = |request: &oracle::ProduceRequest| {
            let header = oracle::RequestHeader::default()
                .with_request_api_key(0)
                .with_request_api_version(VERSION)
                .with_correlation_id(9)
                .with_client_id(Some(StrBytes::from_static_str("milena")));
            let mut bytes = BytesMut::new();
            encode_request_header_into_buffer(&mut bytes, &header).expect("a header");
            request.encode(&mut bytes, VERSION).expect("encodes");
            bytes
        };
        let ours = encode_request(&request(), header).expect("encodes");
        assert_eq!(ours.to_bytes()[4..], their_frame(&theirs())[..]);

        group.throughput(Throughput::Bytes(payload.len() as u64));
        let message = request();
        group.bench_function(format!("milena, {kib} KiB"), |b| {
            b.iter(|| encode_request(black_box(&message), header).expect("encodes"))
        });
        let message = theirs();
        group.bench_function(format!("kafka-protocol, {kib} KiB"), |b| b.iter(|| their_frame(black_box(&message))));
    }
    group.finish();
}

/// A hundred partitions with 1 KiB of records each, all slices of the frame.
fn fetch(c: &mut Criterion) {
    const VERSION: i16 = 13;
    let partition = |index| PartitionData {
        partition_index: index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        log_start_offset: 0,
        records: Some(Records(Bytes::from(vec![7; 1024]))),
        ..Default::default()
    };
    let topic =
        FetchableTopicResponse { partitions: (0..100).map(partition).collect::<Vec<_>>().into(), ..Default::default() };
    let response = FetchResponse { session_id: 5, responses: vec![topic].into(), ..Default::default() };
    let (frame, body) = frame(encode_body(&response, VERSION, true).expect("encodes"));
    assert_eq!(decode_response::<FetchRequest>(&frame, VERSION).expect("decodes"), response);
    let theirs = oracle::FetchResponse::decode(&mut body.clone(), VERSION).expect("decodes");
    assert_eq!(theirs.responses[0].partitions.len(), 100);

    let mut group = c.benchmark_group("fetch response, 100 partitions");
    group.throughput(Throughput::Elements(100));
    group.bench_function("milena", |b| b.iter(|| decode_response::<FetchRequest>(black_box(&frame), VERSION)));
    group.bench_function("kafka-protocol", |b| {
        b.iter(|| oracle::FetchResponse::decode(&mut black_box(&body).clone(), VERSION))
    });
    group.finish();
}

/// What asks for those: a session's first request, which names them all.
fn fetch_request(c: &mut Criterion) {
    const VERSION: i16 = 13;
    let partition = |index| FetchPartition {
        partition: index,
        current_leader_epoch: 7,
        fetch_offset: 1_000_000,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topic = FetchTopic { partitions: (0..100).map(partition).collect(), ..Default::default() };
    let request =
        FetchRequest { max_wait_ms: 500, min_bytes: 1, session_epoch: 0, topics: vec![topic], ..Default::default() };
    let header = RequestHeader { version: VERSION, correlation: 9, client_id: Some("milena") };
    let ours = encode_request(&request, header).expect("encodes").to_bytes();
    // size, key, version, correlation id, client id, header tags
    let body = ours.slice(4 + 2 + 2 + 4 + 2 + 6 + 1..);
    let theirs = oracle::FetchRequest::decode(&mut body.clone(), VERSION).expect("decodes");
    let their_body = |buffer: &mut BytesMut| {
        buffer.clear();
        theirs.encode(buffer, VERSION).expect("encodes");
    };
    let mut buffer = BytesMut::new();
    their_body(&mut buffer);
    assert_eq!(buffer[..], body[..]);

    let mut group = c.benchmark_group("fetch request, 100 partitions");
    group.throughput(Throughput::Elements(100));
    group.bench_function("milena", |b| b.iter(|| encode_request(black_box(&request), header).expect("encodes")));
    group
        .bench_function("kafka-protocol, body alone, buffer reused", |b| b.iter(|| their_body(black_box(&mut buffer))));
    group.finish();
}

/// 20 topics of 50 partitions with three replicas each: what a client of a middling cluster reads at every refresh.
fn metadata(c: &mut Criterion) {
    const VERSION: i16 = 12;
    let broker = |id| MetadataResponseBroker {
        node_id: id,
        host: format!("broker-{id}.example.org").into(),
        port: 9092,
        rack: Some("rack".into()),
        ..Default::default()
    };
    let partition = |index: i32| MetadataResponsePartition {
        partition_index: index,
        leader_id: index % 3,
        leader_epoch: 7,
        replica_nodes: vec![0, 1, 2],
        isr_nodes: vec![0, 1, 2],
        ..Default::default()
    };
    let topic = |index: i32| MetadataResponseTopic {
        name: Some(format!("topic-{index}").into()),
        partitions: (0..50).map(partition).collect(),
        ..Default::default()
    };
    let response = MetadataResponse {
        brokers: (0..3).map(broker).collect(),
        topics: (0..20).map(topic).collect(),
        ..Default::default()
    };
    let (frame, body) = frame(encode_body(&response, VERSION, true).expect("encodes"));
    assert_eq!(decode_response::<MetadataRequest>(&frame, VERSION).expect("decodes"), response);
    let theirs = oracle::MetadataResponse::decode(&mut body.clone(), VERSION).expect("decodes");
    assert_eq!(theirs.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 1000);

    let mut group = c.benchmark_group("metadata response, 1000 partitions");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("milena", |b| b.iter(|| decode_response::<MetadataRequest>(black_box(&frame), VERSION)));
    group.bench_function("kafka-protocol", |b| {
        b.iter(|| oracle::MetadataResponse::decode(&mut black_box(&body).clone(), VERSION))
    });
    group.finish();
}

/// A body behind a correlation id and empty header tags, and the body alone.
fn frame(body: Bytes) -> (Bytes, Bytes) {
    let frame = Bytes::from([&[0, 0, 0, 1, 0], &body[..]].concat());
    let body = frame.slice(5..);
    (frame, body)
}

criterion_group!(benches, produce, fetch_request, fetch, metadata);
criterion_main!(benches);
