//! How large an answer may be.

use bytes::Bytes;
use milena::record::{BatchWriter, Identity, NO_HEADERS};
use milena::wire::cluster::api_versions::{ApiVersion, ApiVersionsResponse};
use milena::wire::cluster::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use milena::wire::frame::{decode_body, encode_body};
use milena::wire::leader::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use milena::wire::message::Records;
use milena::{Error, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::rig::*;

/// How large the answers of [`padding`] are, in bytes behind their size: that to ApiVersions, to Metadata, and to a fetch,
/// beyond what it asks for.
#[derive(Clone, Copy)]
struct Sizes {
    versions: usize,
    metadata: usize,
    fetch: usize,
}

/// The least that a client may be set to.
const LEAST: usize = 64 << 10;
const LIMITS: Sizes = Sizes { versions: 16 << 10, metadata: LEAST, fetch: LEAST };

/// A broker with one partition of one record, which pads its answers to `sizes`. Of one beyond its limit it sends the size
/// alone, so a client that waits for more is found out.
async fn padding(sizes: Sizes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(size) = stream.read_i32().await {
                    let mut request = vec![0; size as usize];
                    stream.read_exact(&mut request).await.unwrap();
                    let (answer, limit) = padded(&request.into(), address.port(), sizes);
                    stream.write_i32(answer.len() as i32).await.unwrap();
                    if answer.len() <= limit {
                        stream.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
    address.to_string()
}

/// The answer to a request, and what it may have.
fn padded(request: &Bytes, port: u16, sizes: Sizes) -> (Vec<u8>, usize) {
    let client_id = usize::from(request[9]) + 256 * usize::from(request[8]);
    let (version, correlation) = (i16::from_be_bytes([request[2], request[3]]), &request[4..8]);
    // The size, the limit, and the body with so many bytes of padding in a tagged field that nobody knows.
    type Body = Box<dyn Fn(usize) -> Bytes>;
    let (size, limit, tags, body): (usize, usize, &[u8], Body) = match request[1] {
        18 => {
            let offered = [(1, 4, 12), (3, 9, 9), (18, 0, 3)].map(|(api_key, min_version, max_version)| ApiVersion {
                api_key,
                min_version,
                max_version,
                ..Default::default()
            });
            let response = ApiVersionsResponse { api_keys: offered.to_vec(), ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            (sizes.versions, LIMITS.versions, &[], Box::new(body))
        }
        3 => {
            let broker = MetadataResponseBroker {
                node_id: 1,
                host: "127.0.0.1".into(),
                port: port.into(),
                ..Default::default()
            };
            let partition = MetadataResponsePartition { leader_id: 1, ..Default::default() };
            let topic =
                MetadataResponseTopic { name: Some("t".into()), partitions: vec![partition], ..Default::default() };
            let response =
                MetadataResponse { brokers: vec![broker], controller_id: 1, topics: vec![topic], ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            (sizes.metadata, LIMITS.metadata, &[0], Box::new(body))
        }
        1 => {
            let asked: FetchRequest = decode_body(&request.slice(11 + client_id..), version, true).unwrap();
            let mut writer = BatchWriter::new(100);
            writer.append(0, None, Some(b"v"), NO_HEADERS).unwrap();
            let records = Some(Records(writer.finish().stamp(Identity::NONE)));
            let partition = PartitionData { records, high_watermark: 1, ..Default::default() };
            let topic =
                FetchableTopicResponse { topic: "t".into(), partitions: vec![partition].into(), ..Default::default() };
            let response = FetchResponse { responses: vec![topic].into(), ..Default::default() };
            let body = move |pad| {
                let mut response = response.clone();
                response.unknown.push(99, vec![0; pad].into());
                encode_body(&response, version, true).unwrap()
            };
            let asked = usize::try_from(asked.max_bytes).unwrap();
            (asked + sizes.fetch, asked + LIMITS.fetch, &[0], Box::new(body))
        }
        api => panic!("API {api} is not offered"),
    };
    let least = 4 + tags.len() + body(0).len();
    let answers = (size - least - 8..=size - least).map(|pad| [correlation, tags, &body(pad)].concat());
    (answers.into_iter().find(|answer| answer.len() == size).expect("a length has one to five bytes"), limit)
}

/// The one record of [`padding`], or why not.
async fn the_record(sizes: Sizes) -> Result<i64, Error> {
    let client = quick(&[&padding(sizes).await]).max_response_size(LEAST).connect().await?;
    let mut consumer = client.consumer().build()?;
    consumer.assign([("t", 0)])?;
    consumer.seek(&("t", 0).into(), 0)?;
    Ok(tokio::time::timeout(SECOND * 20, consumer.recv()).await.expect("a record or an error")?.offset())
}

#[tokio::test]
async fn answers_are_accepted_up_to_the_limit_of_their_phase() {
    assert_eq!(the_record(LIMITS).await.unwrap(), 0);
    let Sizes { versions, metadata, fetch } = LIMITS;
    for (sizes, says) in [
        (Sizes { versions: versions + 1, ..LIMITS }, "a frame of 16385 bytes, where a broker's answer has 4 to 16384"),
        (Sizes { metadata: metadata + 1, ..LIMITS }, "Metadata was answered with 65537 bytes, and 65536 are the most"),
        // 1 MiB was asked for.
        (Sizes { fetch: fetch + 1, ..LIMITS }, "Fetch was answered with 1114113 bytes, and 1114112 are the most"),
    ] {
        let start = Instant::now();
        let error = the_record(sizes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(sizes.versions > versions || error.to_string().contains("raise max_response_size"), "{error}");
        assert!(start.elapsed() < SECOND * 10, "{:?}: {error}", start.elapsed());
    }
}
