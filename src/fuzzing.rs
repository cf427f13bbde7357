//! What fuzz targets run, as ordinary functions: `fuzz/` calls them with fresh bytes, `tests/fuzz_corpus.rs` with the
//! committed ones, and other tests with mutations of their own. Each panics when an invariant breaks.
//!
//! The first two bytes of an input are the API's key and the version, so that a corpus stays valid when APIs are added.

use std::fmt::Debug;

use bytes::Bytes;

use crate::wire::api::ApiKey;
use crate::wire::frame::{decode_api_versions, decode_body, decode_response, encode_body};
use crate::wire::message::{Context, Request, Wire};
use crate::wire::{cluster, controller, coordinator, leader};

/// Something to do with every API of the tables.
pub trait Visit {
    fn request<R>(&mut self)
    where
        R: Request + Clone + Debug + PartialEq,
        R::Response: Clone + Debug + PartialEq;
}

macro_rules! apis {
    ($($request:path,)*) => {
        /// Shows every API of the tables to `visit`.
        pub fn each_request(visit: &mut impl Visit) {
            $(visit.request::<$request>();)*
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
    cluster::api_versions::ApiVersionsRequest,
    controller::create_topics::CreateTopicsRequest,
    controller::delete_topics::DeleteTopicsRequest,
    coordinator::init_producer_id::InitProducerIdRequest,
    controller::create_partitions::CreatePartitionsRequest,
}

/// A response frame without its size: correlation id, header, body. Whatever decodes must survive a round trip.
pub fn response_frame(data: &[u8]) {
    struct Body {
        frame: Bytes,
    }
    impl Case for Body {
        fn run<R>(&mut self, version: i16)
        where
            R: Request,
            R::Response: Debug + PartialEq,
        {
            if let Ok(response) = decode_response::<R>(&self.frame, version) {
                survives(&response, version, R::FLEXIBLE.contains(version));
            }
            if R::API == ApiKey::API_VERSIONS {
                let _ = decode_api_versions(&self.frame, version);
            }
        }
    }
    with_api(data, |rest| Body { frame: Bytes::copy_from_slice(rest) });
}

/// A request without its header: what the mock's and other people's frames hold.
pub fn request_body(data: &[u8]) {
    struct Body {
        body: Bytes,
    }
    impl Case for Body {
        fn run<R>(&mut self, version: i16)
        where
            R: Request + Debug + PartialEq,
        {
            let flexible = R::FLEXIBLE.contains(version);
            if let Ok(request) = decode_body::<R>(&self.body, version, flexible) {
                survives(&request, version, flexible);
            }
        }
    }
    with_api(data, |rest| Body { body: Bytes::copy_from_slice(rest) });
}

/// Legal values, made from the input: request and response, each encoded, decoded and compared.
pub fn round_trip(data: &[u8]) {
    struct Body<'a> {
        entropy: &'a [u8],
    }
    impl Case for Body<'_> {
        fn run<R>(&mut self, version: i16)
        where
            R: Request + Debug + PartialEq,
            R::Response: Debug + PartialEq,
        {
            let cx = Context { version, flexible: R::FLEXIBLE.contains(version), nullable: false };
            let mut u = arbitrary::Unstructured::new(self.entropy);
            if let Ok(request) = R::arbitrary(&mut u, cx) {
                survives(&request, version, cx.flexible);
            }
            let mut u = arbitrary::Unstructured::new(self.entropy);
            if let Ok(response) = R::Response::arbitrary(&mut u, cx) {
                survives(&response, version, cx.flexible);
            }
        }
    }
    with_api(data, |entropy| Body { entropy });
}

/// A `host:port`, as users and brokers write it. What parses must print as something that parses to the same.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<crate::Address>() {
        assert_eq!(address.to_string().parse(), Ok(address), "`{text}`");
    }
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

/// Encodes, decodes, compares.
fn survives<T: Wire + Debug + PartialEq>(value: &T, version: i16, flexible: bool) {
    let bytes = match encode_body(value, version, flexible) {
        Ok(bytes) => bytes,
        Err(error) => panic!("v{version} does not encode: {error}\n{value:?}"),
    };
    let again = match decode_body::<T>(&bytes, version, flexible) {
        Ok(again) => again,
        Err(error) => panic!("v{version} does not decode what it encoded: {error}\n{value:?}"),
    };
    assert!(same(&again, value), "v{version} changed\n{value:?}\nto\n{again:?}");
}

/// Equal, or equal but for NaN.
pub fn same<T: Debug + PartialEq>(a: &T, b: &T) -> bool {
    a == b || format!("{a:?}") == format!("{b:?}")
}

trait Case {
    fn run<R>(&mut self, version: i16)
    where
        R: Request + Debug + PartialEq,
        R::Response: Debug + PartialEq;
}

/// Finds the API and version that `data` begins with, and runs the case with what follows.
fn with_api<'a, C: Case>(data: &'a [u8], case: impl FnOnce(&'a [u8]) -> C) {
    struct Find<C> {
        key: u8,
        version: i16,
        case: C,
    }
    impl<C: Case> Visit for Find<C> {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            if i16::from(self.key) == R::API.0 && R::VERSIONS.contains(self.version) {
                self.case.run::<R>(self.version);
            }
        }
    }
    if let [key, version, rest @ ..] = data {
        each_request(&mut Find { key: *key, version: i16::from(*version), case: case(rest) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `api NAME = key` line of the tables, so that a new table cannot be forgotten by the oracles.
    #[test]
    fn no_table_is_left_out() {
        fn keys(folder: &std::path::Path, found: &mut Vec<i16>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    keys(&path, found);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let lines = text.lines().filter_map(|line| line.strip_prefix("    api "));
                found.extend(lines.map(|line| {
                    let (_, key) = line.split_once(" = ").unwrap();
                    key.split_once(' ').unwrap().0.parse::<i16>().unwrap()
                }));
            }
        }
        struct Keys(Vec<i16>);
        impl Visit for Keys {
            fn request<R: Request>(&mut self) {
                self.0.push(R::API.0);
            }
        }
        let mut written = Vec::new();
        keys(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire"), &mut written);
        let mut listed = Keys(Vec::new());
        each_request(&mut listed);
        written.sort_unstable();
        listed.0.sort_unstable();
        assert_eq!(listed.0, written, "`apis!` above and the tables in src/wire disagree");
    }
}
