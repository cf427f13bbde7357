//! Versions, frames, and what closes a connection.

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, DescribeClusterRequest, InitProducerIdRequest, MetadataRequest,
    RequestHeader, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, Request};
use milena::mock::{Api, KafkaRelease, MockCluster};

use crate::harness::{Peer, in_memory};

const UNSUPPORTED_VERSION: i16 = 35;

fn software() -> ApiVersionsRequest {
    ApiVersionsRequest::default().with_client_software_name("milena".into()).with_client_software_version("0.1".into())
}

fn max_of(response: &ApiVersionsResponse, api: Api) -> Option<i16> {
    response.api_keys.iter().find(|entry| entry.api_key == api.key()).map(|entry| entry.max_version)
}

#[tokio::test(start_paused = true)]
async fn releases_offer_their_versions() {
    for (release, api_versions, produce, describe_cluster) in [
        (KafkaRelease::V2_1, 2, 7, None),
        (KafkaRelease::V2_8, 3, 9, Some(0)),
        (KafkaRelease::V3_9, 4, 11, Some(1)),
        (KafkaRelease::V4_0, 4, 12, Some(2)),
        (KafkaRelease::V4_1, 4, 13, Some(2)),
    ] {
        let cluster = MockCluster::builder().in_memory().release(release).start().await;
        let mut peer = Peer::connect(&cluster, 1).await;
        for version in ApiVersionsRequest::VERSIONS.min..=api_versions {
            let response = peer.ask(version, &if version >= 3 { software() } else { Default::default() }).await;
            assert_eq!(response.error_code, 0, "{release:?}");
            assert_eq!(max_of(&response, Api::ApiVersions), Some(api_versions), "{release:?}");
            assert_eq!(max_of(&response, Api::Produce), Some(produce), "{release:?}");
            assert_eq!(max_of(&response, Api::DescribeCluster), describe_cluster, "{release:?}");
        }
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn apis_can_be_taken_away_and_capped() {
    let cluster = MockCluster::builder()
        .in_memory()
        .without(Api::InitProducerId)
        .max_version(Api::Metadata, 5)
        .max_version(Api::Fetch, 3)
        .start()
        .await;
    let response = Peer::connect(&cluster, 1).await.ask(3, &software()).await;
    assert_eq!(max_of(&response, Api::InitProducerId), None);
    assert_eq!(max_of(&response, Api::Fetch), None, "there is no version below 4");
    assert_eq!(max_of(&response, Api::Metadata), Some(5));

    let mut peer = Peer::connect(&cluster, 1).await;
    peer.ask(5, &MetadataRequest::default()).await;
    peer.send(6, &MetadataRequest::default()).await;
    assert!(peer.frame().await.is_none(), "closed");
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(4, &InitProducerIdRequest::default()).await;
    assert!(peer.frame().await.is_none(), "closed");
    let messages: Vec<_> = cluster.violations().into_iter().map(|violation| violation.message).collect();
    assert_eq!(messages, ["Metadata v6 is not offered, but 0-5", "InitProducerId is not offered"]);
    cluster.close().await;
}

/// KIP-511: the one version that is answered although the broker does not know it.
#[tokio::test(start_paused = true)]
async fn too_new_an_api_versions_is_answered_in_version_0() {
    let cluster = MockCluster::builder().in_memory().release(KafkaRelease::V2_8).start().await;
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(4, &software()).await;
    let mut frame = peer.frame().await.unwrap();
    assert_eq!(frame.split_to(4)[..], [0, 0, 0, 1], "the correlation id, and no tagged fields after it");
    let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    assert!(frame.is_empty());
    assert_eq!(response.error_code, UNSUPPORTED_VERSION);
    assert_eq!(response.api_keys.len(), 1);
    assert_eq!(max_of(&response, Api::ApiVersions), Some(3));
    peer.answered += 1;
    assert_eq!(peer.ask(3, &software()).await.error_code, 0, "the connection goes on");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn client_software_needs_a_name() {
    let cluster = in_memory(1).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    for (name, version, error) in [
        ("apache-kafka-java", "4.1.0", 0),
        ("a", "1", 0),
        ("", "1", 42),
        ("milena", "", 42),
        ("-a", "1", 42),
        ("a.", "1", 42),
        ("a b", "1", 42),
    ] {
        let request = ApiVersionsRequest::default();
        let request = request.with_client_software_name(name.into()).with_client_software_version(version.into());
        assert_eq!(peer.ask(3, &request).await.error_code, error, "{name}/{version}");
    }
    cluster.close().await;
}

fn encoded<R: Request>(request: &R, version: i16) -> BytesMut {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, R::header_version(version)).unwrap();
    request.encode(&mut bytes, version).unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_closes_the_connection() {
    let cluster = in_memory(1).await;
    let metadata = encoded(&MetadataRequest::default(), 9);
    let shorter = &metadata[..metadata.len() - 1];
    let other_api = encoded(&WriteTxnMarkersRequest::default(), 1);
    for (what, bytes) in [
        ("nothing", &[][..]),
        ("half a header", &metadata[..3]),
        ("a header alone", &metadata[..8]),
        ("a byte too few", shorter),
        ("an API that is not served", &other_api),
    ] {
        let mut peer = Peer::connect(&cluster, 1).await;
        peer.send_bytes(bytes).await;
        assert!(peer.frame().await.is_none(), "{what}");
    }
    let violations = cluster.violations();
    assert_eq!(violations.len(), 5, "{violations:?}");
    assert!(violations[3].to_string().starts_with("broker 1, connection 4: a Metadata v9 request"), "{violations:?}");
    cluster.close().await;
}

/// librdkafka does it, and real brokers serve it.
#[tokio::test(start_paused = true)]
async fn bytes_too_many_are_noted_and_served() {
    let cluster = in_memory(1).await;
    let mut peer = Peer::connect(&cluster, 1).await;
    let longer = [&encoded(&MetadataRequest::default(), 9)[..], &[0]].concat();
    peer.send_bytes(&longer).await;
    assert!(peer.frame().await.is_some());
    assert_eq!(cluster.violations()[0].message, "a Metadata v9 request has 1 bytes too many");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn lengths_out_of_range_are_not_read() {
    let cluster = in_memory(1).await;
    for length in [-1_i32, i32::MIN, (100 << 20) + 1, i32::MAX] {
        let address = cluster.bootstrap()[0].parse().unwrap();
        let mut stream = milena::Connector::connect(&cluster.connector(), &address).await.unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_i32(length);
        tokio::io::AsyncWriteExt::write_all_buf(&mut stream, &mut bytes).await.unwrap();
        assert!(Peer::over(stream).frame().await.is_none(), "{length}");
    }
    assert_eq!(cluster.violations().len(), 4);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn requests_are_noted() {
    let cluster = in_memory(2).await;
    let mut first = Peer::connect(&cluster, 1).await;
    let mut second = Peer::connect(&cluster, 2).await;
    first.metadata(&[]).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    second.ask(0, &DescribeClusterRequest::default()).await;
    first.ask(0, &ApiVersionsRequest::default()).await;
    let requests = cluster.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.api, r.version, r.broker, r.connection, r.correlation_id)).collect();
    let expected = [(Api::Metadata, 12, 1, 1, 1), (Api::DescribeCluster, 0, 2, 2, 1), (Api::ApiVersions, 0, 1, 1, 2)];
    assert_eq!(seen, expected);
    assert_eq!(requests[0].client_id.as_deref(), Some("harness"));
    assert_eq!((requests[1].at - requests[0].at).as_secs(), 3);
    cluster.clear_requests();
    assert!(cluster.requests().is_empty() && cluster.violations().is_empty());
    cluster.close().await;
}
