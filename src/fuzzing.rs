//! What fuzz targets run, as ordinary functions: `fuzz/` calls them with fresh bytes, `tests/fuzz_corpus.rs` with the
//! committed ones, and other tests with mutations of their own. Each panics when an invariant breaks.
//!
//! The first two bytes of an input are the API's key and the version, so that a corpus stays valid when APIs are added.

use std::fmt::Debug;

use arbitrary::Unstructured;
use bytes::Bytes;

use crate::Address;
use crate::record::header::{HEADER_SIZE, MAGIC};
use crate::record::{
    BatchWriter, Batches, Compression, Compressor, ControlType, Decompressor, Limits, RawBatch, RecordError, RecordView,
};
use crate::wire::api::ApiKey;
use crate::wire::frame::{decode_api_versions, decode_body, decode_response, encode_body};
use crate::wire::message::{Context, Embedded, Request, Wire};
use crate::wire::{cluster, controller, coordinator, leader};

/// Something to do with every API of the tables.
pub trait Visit {
    fn request<R>(&mut self)
    where
        R: Request + Clone + Debug + PartialEq,
        R::Response: Clone + Debug + PartialEq;

    /// A message inside another one.
    fn embedded<E>(&mut self)
    where
        E: Embedded + Clone + Debug + PartialEq,
    {
    }
}

macro_rules! apis {
    ($($request:path,)*; $($data:path,)*) => {
        /// Shows every table to `visit`.
        pub fn each_request(visit: &mut impl Visit) {
            $(visit.request::<$request>();)*
            $(visit.embedded::<$data>();)*
        }
    };
}

apis! {
    leader::produce::ProduceRequest,
    leader::fetch::FetchRequest,
    leader::list_offsets::ListOffsetsRequest,
    cluster::metadata::MetadataRequest,
    coordinator::offset_commit::OffsetCommitRequest,
    coordinator::offset_fetch::OffsetFetchRequest,
    cluster::find_coordinator::FindCoordinatorRequest,
    coordinator::join_group::JoinGroupRequest,
    coordinator::heartbeat::HeartbeatRequest,
    coordinator::leave_group::LeaveGroupRequest,
    coordinator::sync_group::SyncGroupRequest,
    coordinator::describe_groups::DescribeGroupsRequest,
    cluster::list_groups::ListGroupsRequest,
    cluster::sasl_handshake::SaslHandshakeRequest,
    cluster::api_versions::ApiVersionsRequest,
    controller::create_topics::CreateTopicsRequest,
    controller::delete_topics::DeleteTopicsRequest,
    leader::delete_records::DeleteRecordsRequest,
    coordinator::init_producer_id::InitProducerIdRequest,
    leader::offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    coordinator::add_partitions_to_txn::AddPartitionsToTxnRequest,
    coordinator::add_offsets_to_txn::AddOffsetsToTxnRequest,
    coordinator::end_txn::EndTxnRequest,
    leader::write_txn_markers::WriteTxnMarkersRequest,
    coordinator::txn_offset_commit::TxnOffsetCommitRequest,
    cluster::describe_acls::DescribeAclsRequest,
    cluster::create_acls::CreateAclsRequest,
    cluster::delete_acls::DeleteAclsRequest,
    cluster::describe_configs::DescribeConfigsRequest,
    cluster::alter_configs::AlterConfigsRequest,
    cluster::alter_replica_log_dirs::AlterReplicaLogDirsRequest,
    cluster::describe_log_dirs::DescribeLogDirsRequest,
    cluster::sasl_authenticate::SaslAuthenticateRequest,
    controller::create_partitions::CreatePartitionsRequest,
    cluster::create_delegation_token::CreateDelegationTokenRequest,
    cluster::renew_delegation_token::RenewDelegationTokenRequest,
    cluster::expire_delegation_token::ExpireDelegationTokenRequest,
    cluster::describe_delegation_token::DescribeDelegationTokenRequest,
    coordinator::delete_groups::DeleteGroupsRequest,
    controller::elect_leaders::ElectLeadersRequest,
    cluster::incremental_alter_configs::IncrementalAlterConfigsRequest,
    controller::alter_partition_reassignments::AlterPartitionReassignmentsRequest,
    controller::list_partition_reassignments::ListPartitionReassignmentsRequest,
    coordinator::offset_delete::OffsetDeleteRequest,
    cluster::describe_client_quotas::DescribeClientQuotasRequest,
    cluster::alter_client_quotas::AlterClientQuotasRequest,
    cluster::describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
    controller::alter_user_scram_credentials::AlterUserScramCredentialsRequest,
    controller::describe_quorum::DescribeQuorumRequest,
    controller::update_features::UpdateFeaturesRequest,
    cluster::describe_cluster::DescribeClusterRequest,
    leader::describe_producers::DescribeProducersRequest,
    controller::unregister_broker::UnregisterBrokerRequest,
    coordinator::describe_transactions::DescribeTransactionsRequest,
    cluster::list_transactions::ListTransactionsRequest,
    coordinator::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
    coordinator::consumer_group_describe::ConsumerGroupDescribeRequest,
    cluster::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest,
    cluster::push_telemetry::PushTelemetryRequest,
    cluster::list_config_resources::ListConfigResourcesRequest,
    cluster::describe_topic_partitions::DescribeTopicPartitionsRequest,
    coordinator::share_group_heartbeat::ShareGroupHeartbeatRequest,
    coordinator::share_group_describe::ShareGroupDescribeRequest,
    leader::share_fetch::ShareFetchRequest,
    leader::share_acknowledge::ShareAcknowledgeRequest,
    controller::add_raft_voter::AddRaftVoterRequest,
    controller::remove_raft_voter::RemoveRaftVoterRequest,
    coordinator::streams_group_heartbeat::StreamsGroupHeartbeatRequest,
    coordinator::streams_group_describe::StreamsGroupDescribeRequest,
    coordinator::describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
    coordinator::alter_share_group_offsets::AlterShareGroupOffsetsRequest,
    coordinator::delete_share_group_offsets::DeleteShareGroupOffsetsRequest,
    coordinator::streams_group_topology_description_update::StreamsGroupTopologyDescriptionUpdateRequest,
    controller::unregister_controller::UnregisterControllerRequest,
    ; // and what is embedded in them
    coordinator::consumer_protocol_subscription::ConsumerProtocolSubscription,
    coordinator::consumer_protocol_assignment::ConsumerProtocolAssignment,
}

/// A response frame without its size: correlation id, header, body. Whether it decoded; if so, it survives a round trip.
pub fn response_frame(data: &[u8]) -> bool {
    struct Body {
        frame: Bytes,
    }
    impl Case for Body {
        fn run<R>(&mut self, version: i16) -> bool
        where
            R: Request,
            R::Response: Debug + PartialEq,
        {
            if R::API == ApiKey::API_VERSIONS {
                let _ = decode_api_versions(&self.frame, version);
            }
            let response = decode_response::<R>(&self.frame, version);
            response.is_ok_and(|response| survives(&response, version, R::FLEXIBLE.contains(version)))
        }
    }
    with_api(data, |rest| Body { frame: Bytes::copy_from_slice(rest) })
}

/// A request without its header. Whether it decoded; if so, it survives a round trip.
pub fn request_body(data: &[u8]) -> bool {
    struct Body {
        body: Bytes,
    }
    impl Case for Body {
        fn run<R>(&mut self, version: i16) -> bool
        where
            R: Request + Debug + PartialEq,
        {
            let flexible = R::FLEXIBLE.contains(version);
            decode_body::<R>(&self.body, version, flexible).is_ok_and(|request| survives(&request, version, flexible))
        }
    }
    with_api(data, |rest| Body { body: Bytes::copy_from_slice(rest) })
}

/// Legal values, made from the input: request and response, each encoded, decoded and compared.
pub fn round_trip(data: &[u8]) -> bool {
    struct Body<'a> {
        entropy: &'a [u8],
    }
    impl Case for Body<'_> {
        fn run<R>(&mut self, version: i16) -> bool
        where
            R: Request + Debug + PartialEq,
            R::Response: Debug + PartialEq,
        {
            let cx = Context { version, flexible: R::FLEXIBLE.contains(version), nullable: false };
            let request = R::arbitrary(&mut Unstructured::new(self.entropy), cx);
            let response = R::Response::arbitrary(&mut Unstructured::new(self.entropy), cx);
            request.is_ok_and(|request| survives(&request, version, cx.flexible))
                && response.is_ok_and(|response| survives(&response, version, cx.flexible))
        }
    }
    with_api(data, |entropy| Body { entropy })
}

/// Record batches as a broker sends them, of all formats, but for the CRC, which no fuzzer would guess. Whether there was
/// a batch whose records all decoded; those are written again and read back.
pub fn record_batch(data: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(data);
    let checked = Batches::new(bytes.clone(), true).take_while(Result::is_ok).count();
    let mut batches = Batches::new(bytes.clone(), false);
    let (mut found, mut taken, mut whole) = (0, 0, false);
    while let Some(Ok(batch)) = batches.next() {
        found += 1;
        taken += batch.bytes().len();
        assert_eq!(batches.rest().len(), bytes.len() - taken, "batches leave no gap");
        assert_eq!(batch.header().size(), batch.bytes().len(), "a header is of another batch");
        if batch.header().magic == MAGIC {
            assert_eq!(batch.header().encode()[..], batch.bytes()[..HEADER_SIZE], "a header writes what it read");
            whole |= records(&batch);
        } else {
            whole |= messages(batch);
        }
    }
    assert!(checked <= found, "the CRC lets through what the length does not");
    assert!(batches.next().is_none(), "an error ends the batches");
    whole
}

/// A message set of before batches: when it was rewritten as records, nothing can be wrong with them.
fn messages(set: RawBatch) -> bool {
    assert!(set.records().is_err() && set.clone().into_records().is_err(), "no records yet");
    let _ = set.check_crc();
    let (raw, size) = (*set.header(), set.bytes().len());
    let Ok(unpacked) = set.decompress(&mut Decompressor::new(), LIMITS) else { return false };
    let header = *unpacked.header();
    assert!(unpacked.bytes().len() <= if raw.is_compressed() { LIMITS.max_output } else { size }, "it grew");
    assert!(header.next_offset() >= raw.next_offset(), "its end was passed already");
    let mut last = None;
    for record in unpacked.records().expect("rewritten") {
        let record = record.expect("rewritten");
        assert!((header.base_offset..=header.last_offset()).contains(&record.offset()));
        assert!(last.replace(record.offset()) < Some(record.offset()), "offsets go up");
        assert_same(record, record.to_slice().detach().view());
        assert_eq!(record.headers().len(), 0);
        assert!(record.timestamp() <= header.max_timestamp);
    }
    last.is_some()
}

fn records(batch: &RawBatch) -> bool {
    let Ok(lent) = batch.records() else {
        assert!(batch.clone().into_records().is_err(), "lent and owned differ");
        return false;
    };
    let header = batch.header();
    let mut owned = batch.clone().into_records().expect("lent and owned are one");
    let mut writer = BatchWriter::new(batch.bytes().len());
    let (mut count, mut whole) = (0u32, true);
    for record in lent {
        let again = owned.next().expect("lent and owned are one");
        let (Ok(record), Ok(again)) = (record, again) else {
            whole = false;
            continue;
        };
        count += 1;
        assert!((header.base_offset..=header.last_offset()).contains(&record.offset()));
        assert_same(record, again.view());
        assert_same(record, again.detach().view());
        if header.is_control() {
            let _ = ControlType::decode(record);
        }
        let headers = record.headers().map(|header| (header.key, header.value));
        writer.append(record.timestamp(), record.key(), record.value(), headers).expect("no larger than it was");
    }
    assert!(owned.next().is_none(), "lent and owned are one");
    assert!(count <= header.record_count(), "more records than the header claims");
    if !whole {
        return false;
    }
    assert_eq!(count, header.record_count(), "a missing record is an error");
    let written = writer.finish().stamp(header.identity());
    let mut batches = Batches::new(written, true);
    let again = batches.next().expect("what was written is a batch").expect("with a valid CRC");
    assert!(batches.next().is_none() && batches.rest().is_empty());
    let before = batch.records().into_iter().flatten().flatten();
    let after = again.records().expect("plain").map(|record| record.expect("what was written is read"));
    let mut offsets = 0..i64::from(count);
    for (before, after) in before.zip(after) {
        assert_eq!(Some(after.offset()), offsets.next());
        assert_eq!(before.timestamp(), after.timestamp());
        assert_eq!((before.key(), before.value()), (after.key(), after.value()));
        assert!(before.headers().eq(after.headers()));
    }
    assert!(offsets.is_empty(), "records were lost");
    true
}

fn assert_same(a: RecordView<'_>, b: RecordView<'_>) {
    assert_eq!((a.offset(), a.timestamp(), a.key(), a.value()), (b.offset(), b.timestamp(), b.key(), b.value()));
    assert!(a.headers().eq(b.headers()), "other headers");
}

/// `decompress` of gzip.
pub fn decompress_gzip(data: &[u8]) -> bool {
    decompress(Compression::Gzip, data)
}

/// `decompress` of snappy.
pub fn decompress_snappy(data: &[u8]) -> bool {
    decompress(Compression::Snappy, data)
}

/// `decompress` of lz4.
pub fn decompress_lz4(data: &[u8]) -> bool {
    decompress(Compression::Lz4, data)
}

/// `decompress` of zstd.
pub fn decompress_zstd(data: &[u8]) -> bool {
    decompress(Compression::Zstd, data)
}

/// What costs a fuzzer no time.
const LIMITS: Limits = Limits { max_output: 1 << 20, ratio: 1_100 };

/// Compressed records. Whether they decompress, within a limit; what they are then, and they themselves taken for
/// records, survive a round trip.
fn decompress(codec: Compression, data: &[u8]) -> bool {
    if !codec.is_available() {
        return false;
    }
    let (mut compressor, mut decompressor) = (Compressor::new(), Decompressor::new());
    let output = decompressor.decompress(codec, data, LIMITS);
    for input in [data, output.as_deref().unwrap_or_default()] {
        let packed = compressor.compress(codec, None, input).expect("anything compresses");
        let again = decompressor.decompress(codec, packed, LIMITS).expect("what was compressed decompresses");
        assert!(again == input, "{codec}: a round trip changed {} bytes", input.len());
    }
    match output {
        Ok(output) => {
            assert!(output.len() <= LIMITS.max_output);
            let less = Limits { max_output: output.len().saturating_sub(1), ..LIMITS };
            let cut = decompressor.decompress(codec, data, less);
            assert!(output.is_empty() || matches!(cut, Err(RecordError::TooLargeDecompressed { .. })), "{cut:?}");
            true
        }
        Err(RecordError::Codec { .. } | RecordError::TooLargeDecompressed { .. }) => false,
        Err(error) => panic!("{codec} says {error:?}"),
    }
}

/// A `host:port`, as users and brokers write it. Whether it is one; it then prints as something that parses to the same.
pub fn address(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(address) = text.parse::<Address>() else { return false };
    assert_eq!(address.to_string().parse(), Ok(address), "`{text}`");
    true
}

/// Bytes to make values from: runs of noise, of text and of edge values, so that strings grow past one-byte lengths
/// and integers meet their ends. Plain noise is hardly ever UTF-8.
pub fn entropy(rng: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = if rng.u8(..) < 16 { rng.usize(100..400) } else { rng.usize(1..24) };
        let sort = rng.u8(..8);
        bytes.extend((0..run).map(|_| match sort {
            0 => 0x00,
            1 => 0xff,
            2..4 => rng.u8(b'a'..=b'z'),
            _ => rng.u8(..),
        }));
    }
    bytes.truncate(len);
    bytes
}

/// Encodes, decodes, compares; true, or a panic.
fn survives<T: Wire + Debug + PartialEq>(value: &T, version: i16, flexible: bool) -> bool {
    let bytes = match encode_body(value, version, flexible) {
        Ok(bytes) => bytes,
        Err(error) => panic!("v{version} does not encode: {error}\n{value:?}"),
    };
    let again = match decode_body::<T>(&bytes, version, flexible) {
        Ok(again) => again,
        Err(error) => panic!("v{version} does not decode what it encoded: {error}\n{value:?}"),
    };
    assert!(same(&again, value), "v{version} changed\n{value:?}\nto\n{again:?}");
    true
}

/// Equal, or equal but for NaN.
pub fn same<T: Debug + PartialEq>(a: &T, b: &T) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

trait Case {
    fn run<R>(&mut self, version: i16) -> bool
    where
        R: Request + Debug + PartialEq,
        R::Response: Debug + PartialEq;
}

/// Finds the API and version that `data` begins with, and runs the case with what follows.
fn with_api<'a, C: Case>(data: &'a [u8], case: impl FnOnce(&'a [u8]) -> C) -> bool {
    struct Find<C> {
        key: u8,
        version: i16,
        case: C,
        result: bool,
    }
    impl<C: Case> Visit for Find<C> {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            if i16::from(self.key) == R::API.0 && R::VERSIONS.contains(self.version) {
                self.result = self.case.run::<R>(self.version);
            }
        }
    }
    let [key, version, rest @ ..] = data else { return false };
    let mut find = Find { key: *key, version: i16::from(*version), case: case(rest), result: false };
    each_request(&mut find);
    find.result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Kind;

    /// Every `api NAME = key` and `data Name` line of the tables, so that a new table cannot be forgotten by the oracles.
    #[test]
    fn no_table_is_left_out() {
        fn lines(folder: &std::path::Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    lines(&path, found);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for line in text.lines() {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    match &words[..] {
                        ["api", _, "=", key, ..] if line.starts_with("    api ") => found.push((*key).to_owned()),
                        ["data", name, ..] if line.starts_with("    data ") => found.push((*name).to_owned()),
                        _ => {}
                    }
                }
            }
        }
        struct Listed(Vec<String>);
        impl Visit for Listed {
            fn request<R: Request>(&mut self) {
                self.0.push(R::API.0.to_string());
            }

            fn embedded<E: Embedded>(&mut self) {
                let Kind::Struct(name, _) = E::KIND else { unreachable!() };
                self.0.push(name.to_owned());
            }
        }
        let mut written = Vec::new();
        lines(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire"), &mut written);
        let mut listed = Listed(Vec::new());
        each_request(&mut listed);
        written.sort_unstable();
        listed.0.sort_unstable();
        assert_eq!(listed.0, written, "`apis!` above and the tables in src/wire disagree");
    }
}
