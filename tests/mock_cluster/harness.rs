//! A raw client: requests of `kafka-protocol` over one connection, and record batches made by hand.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    MetadataRequest, MetadataResponse, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use milena::mock::MockCluster;
use milena::record::{Compression, Compressor};
use milena::{Address, Connector, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The codecs of record batches.
pub const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// One connection to a broker.
pub struct Peer {
    stream: Box<dyn Transport>,
    buffer: BytesMut,
    next_correlation_id: i32,
    pub answered: i32,
}

impl Peer {
    /// Connects in memory.
    pub async fn connect(cluster: &MockCluster, broker: i32) -> Self {
        let address: Address = cluster.bootstrap()[broker as usize - 1].parse().unwrap();
        Self::over(cluster.connector().connect(&address).await.unwrap())
    }

    pub fn over(stream: Box<dyn Transport>) -> Self {
        Self { stream, buffer: BytesMut::new(), next_correlation_id: 1, answered: 0 }
    }

    /// Sends a request and takes its answer.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: HeaderVersion,
    {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.try_send(version, request).await.unwrap();
    }

    async fn try_send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<()> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next_correlation_id)
            .with_client_id(Some("harness".into()));
        self.next_correlation_id += 1;
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, R::header_version(version)).unwrap();
        request.encode(&mut bytes, version).unwrap();
        self.try_send_bytes(&bytes).await
    }

    /// As [`ask`](Self::ask); `None` when the connection is closed instead.
    pub async fn try_ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response>
    where
        R::Response: HeaderVersion,
    {
        self.try_send(version, request).await.ok()?;
        let frame = self.frame().await?;
        Some(self.decode::<R>(version, frame))
    }

    /// Asks in a flexible version with a body that is encoded already; gives that of the answer.
    pub async fn ask_body(&mut self, key: i16, version: i16, body: &[u8]) -> Bytes {
        let mut bytes = Vec::new();
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(self.next_correlation_id);
        bytes.put_i16(-1);
        bytes.put_u8(0);
        bytes.put_slice(body);
        self.next_correlation_id += 1;
        self.send_bytes(&bytes).await;
        let mut frame = self.frame().await.expect("the connection was closed");
        self.answered += 1;
        assert_eq!((frame.get_i32(), frame.get_u8()), (self.answered, 0));
        frame
    }

    /// Sends a frame of these bytes.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.unwrap();
    }

    async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut frame = BytesMut::new();
        frame.put_u32(bytes.len() as u32);
        frame.put_slice(bytes);
        self.stream.write_all_buf(&mut frame).await
    }

    /// Takes the answer to the oldest request that has none; checks its correlation id.
    pub async fn receive<R: Request>(&mut self, version: i16) -> R::Response
    where
        R::Response: HeaderVersion,
    {
        let frame = self.frame().await.expect("the connection was closed");
        self.decode::<R>(version, frame)
    }

    fn decode<R: Request>(&mut self, version: i16, mut frame: Bytes) -> R::Response
    where
        R::Response: HeaderVersion,
    {
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        self.answered += 1;
        assert_eq!(header.correlation_id, self.answered, "answers come in the order of requests");
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes too many in a response of version {version}", frame.len());
        response
    }

    /// The next frame, or `None` when the broker closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            if let Some(length) = self.buffer.first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Some(self.buffer.split_to(length).freeze());
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What was received of a frame that never came whole.
    pub fn leftover(&self) -> usize {
        self.buffer.len()
    }

    /// Produces to one partition with version 9, acks=all.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        records: impl Into<Bytes>,
    ) -> PartitionProduceResponse {
        let response = self.ask(9, &produce_request(topic, partition, records)).await;
        response.responses[0].partition_responses[0].clone()
    }

    pub async fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(topics.iter().map(topic).collect()));
        self.ask(12, &request).await
    }
}

pub fn topic_name(name: &str) -> TopicName {
    StrBytes::from(name.to_owned()).into()
}

pub fn produce_request(topic: &str, partition: i32, records: impl Into<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records.into()));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

/// A batch to be made by hand, right unless a test makes it wrong.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    pub magic: i8,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    pub records: Vec<u8>,
}

impl Batch {
    /// Values without keys, now and in the order of time.
    pub fn of(values: &[&str]) -> Self {
        let records = values
            .iter()
            .zip(0..)
            .flat_map(|(value, index)| record(i64::from(index), index, None, Some(value.as_bytes()), &[]));
        let count = values.len() as i32;
        Self { count, last_offset_delta: count - 1, records: records.collect(), ..Self::empty() }.at(now_ms())
    }

    fn empty() -> Self {
        Self {
            base_offset: 0,
            magic: 2,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            records: Vec::new(),
        }
    }

    pub fn at(self, base_timestamp: i64) -> Self {
        let max_timestamp = base_timestamp + i64::from(self.count) - 1;
        Self { base_timestamp, max_timestamp, ..self }
    }

    pub fn by(self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        Self { producer_id, producer_epoch, base_sequence, ..self }
    }

    /// The same records behind a codec. The client's own codecs make it: not those of the mock.
    pub fn packed(self, codec: Compression) -> Self {
        let records = Compressor::new().compress(codec, None, &self.records).unwrap().to_vec();
        let id = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .iter()
            .position(|known| *known == codec);
        Self { records, attributes: self.attributes | id.unwrap() as i16, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut covered = Vec::new();
        covered.put_i16(self.attributes);
        covered.put_i32(self.last_offset_delta);
        covered.put_i64(self.base_timestamp);
        covered.put_i64(self.max_timestamp);
        covered.put_i64(self.producer_id);
        covered.put_i16(self.producer_epoch);
        covered.put_i32(self.base_sequence);
        covered.put_i32(self.count);
        covered.put_slice(&self.records);
        let mut bytes = Vec::new();
        bytes.put_i64(self.base_offset);
        bytes.put_i32(4 + 1 + 4 + covered.len() as i32);
        bytes.put_i32(-1);
        bytes.put_i8(self.magic);
        bytes.put_u32(crc32c(&covered));
        bytes.put_slice(&covered);
        bytes
    }
}

impl From<Batch> for Bytes {
    fn from(batch: Batch) -> Self {
        batch.bytes().into()
    }
}

/// One record with its length.
pub fn record(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, Option<&[u8]>)],
) -> Vec<u8> {
    let mut body = vec![0];
    zigzag(&mut body, timestamp_delta);
    zigzag(&mut body, offset_delta.into());
    for field in [key, value] {
        field_bytes(&mut body, field);
    }
    zigzag(&mut body, headers.len() as i64);
    for (name, value) in headers {
        field_bytes(&mut body, Some(name.as_bytes()));
        field_bytes(&mut body, *value);
    }
    let mut record = Vec::new();
    zigzag(&mut record, body.len() as i64);
    record.extend(body);
    record
}

fn field_bytes(out: &mut Vec<u8>, field: Option<&[u8]>) {
    zigzag(out, field.map_or(-1, |field| field.len() as i64));
    out.extend(field.unwrap_or_default());
}

pub fn zigzag(out: &mut Vec<u8>, value: i64) {
    let mut left = (value << 1 ^ value >> 63) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// CRC-32C bit by bit: slow, and obviously not the crate that the mock uses.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

pub fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

/// The values in a partition's log, as text.
pub fn values(cluster: &MockCluster, topic: &str, partition: i32) -> Vec<String> {
    let text = |value: Option<Bytes>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
    cluster.log(topic, partition).into_iter().map(|record| text(record.value)).collect()
}

pub async fn in_memory(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).in_memory().start().await
}
