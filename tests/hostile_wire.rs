//! No bytes that a broker can send make the decoder panic, or reserve more than a small multiple of what was sent.
//!
//! Three attacks on the responses of every API in every version: lengths and counts set to their edges at every offset
//! of a legal frame, frames cut at every byte and with bits flipped, and frames made for amplification: as many of the
//! smallest items as fit. The first two on record batches, too, plain and behind each codec. `scripts/long/hostile` goes
//! on until there were ten million mutants, and prints how many there were.
#![allow(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use arbitrary::Unstructured;
use bytes::Bytes;
use milena::fuzzing::{Visit, each_request, entropy};
use milena::record::{BatchWriter, Batches, Compression, Compressor, Decompressor, Identity, Limits};
use milena::wire::api::ApiKey;
use milena::wire::frame::{decode_api_versions, decode_body, decode_response, encode_body};
use milena::wire::leader::fetch::FetchRequest;
use milena::wire::leader::produce::{PartitionProduceResponse, ProduceRequest};
use milena::wire::message::{Context, Embedded, Field, InPlace, Kind, Request, Wire};

/// A decoded response may take this many bytes for each byte of its frame. An empty string in a list of strings is one
/// byte on the wire, and a pointer, a length and two reference counts in memory.
const RATIO: usize = 48;
/// The same for what is answered to Produce and Fetch, whose lists stay in their frame, and walked as the client does.
const RATIO_IN_PLACE: usize = 4;
/// What does not depend on the frame: its own reference count, a first unknown tag.
const CONSTANT: usize = 512;

const SEED: u64 = 20_261_121;

/// What is attacked: a message by name and version, decoded as the client does. Whether it was one.
struct Target<'a> {
    name: &'a dyn Display,
    version: i16,
    decode: &'a dyn Fn(&Bytes) -> bool,
    /// Bytes that decoding a frame of this length may take.
    allowed: &'a dyn Fn(usize) -> usize,
}

fn allowed(ratio: usize) -> impl Fn(usize) -> usize {
    move |frame| ratio * frame + CONSTANT
}

fn response<R: Request>(frame: &Bytes, version: i16) -> bool {
    if R::API == ApiKey::API_VERSIONS {
        let _ = decode_api_versions(frame, version);
    }
    match R::API {
        ApiKey::FETCH => decode_response::<FetchRequest>(frame, version).is_ok_and(|response| {
            walk(&response.node_endpoints, drop);
            walk(&response.responses, |topic| walk(&topic.partitions, drop));
            true
        }),
        ApiKey::PRODUCE => decode_response::<ProduceRequest>(frame, version).is_ok_and(|response| {
            walk(&response.node_endpoints, drop);
            let answers = |answer: PartitionProduceResponse| walk(&answer.record_errors, drop);
            walk(&response.responses, |topic| walk(&topic.partition_responses, answers));
            true
        }),
        _ => decode_response::<R>(frame, version).is_ok(),
    }
}

/// What was checked decodes, to the last item.
fn walk<T: Wire + Clone>(list: &InPlace<T>, each: impl Fn(T)) {
    let mut count = 0;
    for item in list {
        each(item);
        count += 1;
    }
    assert_eq!(count, list.len());
}

fn ratio_of(api: ApiKey) -> usize {
    if [ApiKey::FETCH, ApiKey::PRODUCE].contains(&api) { RATIO_IN_PLACE } else { RATIO }
}

/// The peak of what was allocated meanwhile, and whether it was what it should be.
fn attack(target: &Target<'_>, frame: &Bytes) -> (usize, bool) {
    let Target { name, version, decode, .. } = target;
    let mut decoded = false;
    let run = || allocation_counter::measure(|| decoded = decode(frame));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(allocated) => {
            let peak = usize::try_from(allocated.bytes_max).unwrap();
            let allowed = (target.allowed)(frame.len());
            assert!(peak <= allowed, "{name} v{version}: {peak} bytes for {}: {frame:02x?}", frame.len());
            (peak, decoded)
        }
        Err(panic) => {
            println!("{name} v{version} panics: {frame:02x?}");
            resume_unwind(panic);
        }
    }
}

/// A correlation id, the header's empty tags if it has some, and a body.
fn frame_of<R: Request>(version: i16, body: &[u8]) -> Vec<u8> {
    let tags: &[u8] = if R::FLEXIBLE.contains(version) && R::API != ApiKey::API_VERSIONS { &[0] } else { &[] };
    [&[0, 0, 0, 1], tags, body].concat()
}

/// Frames that were attacked, and how many of them were still what they should be.
#[derive(Default)]
struct Mutate {
    round: u64,
    mutants: u64,
    decoded: u64,
}

impl Mutate {
    fn attack(&mut self, target: &Target<'_>, frame: Vec<u8>) {
        let (_, decoded) = attack(target, &Bytes::from(frame));
        self.mutants += 1;
        self.decoded += u64::from(decoded);
    }

    fn mutants(&mut self, target: &Target<'_>, frame: &[u8], rng: &mut fastrand::Rng) {
        for end in 0..frame.len() {
            self.attack(target, frame[..end].to_vec());
        }
        // The headers, and more.
        for bit in 0..frame.len().min(64) * 8 {
            let mut mutant = frame.to_vec();
            mutant[bit / 8] ^= 1 << (bit % 8);
            self.attack(target, mutant);
        }
        // Whatever stands there, a length, a count or neither: every offset is set to every edge.
        for at in 0..frame.len() {
            let after = |width: usize| i64::try_from(frame.len().saturating_sub(at + width)).unwrap();
            for edge in [-1, 0, 1, i64::from(i32::MAX), after(4) + 1, i64::from(i32::MIN)] {
                let edge = i32::try_from(edge).unwrap();
                self.attack(target, spliced(frame, at, 4, &edge.to_be_bytes()));
            }
            for edge in [-1, 0, 1, i64::from(i16::MAX), after(2) + 1] {
                let edge = i16::try_from(edge).unwrap_or(i16::MAX);
                self.attack(target, spliced(frame, at, 2, &edge.to_be_bytes()));
            }
            // A varint may be longer than one byte, and what replaces it as well.
            let width = 1 + frame[at..].iter().take(4).take_while(|byte| **byte >= 0x80).count();
            // Unsigned (a length is one more than what it counts), and zigzag as in records: as many as are left, and one.
            let left = u32::try_from(after(width) + 1).unwrap();
            let edges = [&[0u8][..], &[1], &[2], &[0x7f], &[0xff, 0x7f], &uvarint(u32::MAX), &uvarint(u32::MAX - 1)];
            for edge in edges.into_iter().chain([&uvarint(left + 1)[..], &uvarint(2 * left)]) {
                self.attack(target, spliced(frame, at, width, edge));
            }
        }
        // Several at once.
        for _ in 0..frame.len() {
            let mut mutant = frame.to_vec();
            for _ in 0..rng.usize(2..6) {
                let at = rng.usize(..mutant.len());
                mutant[at] = [0, 1, 2, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..7)];
            }
            self.attack(target, mutant);
        }
    }
}

/// Runs `round` until there were as many mutants as `MILENA_CASES` wants, but once at least.
fn rounds(what: &str, mut round: impl FnMut(&mut Mutate)) -> Mutate {
    let wanted = std::env::var("MILENA_CASES").map_or(0, |cases| cases.parse().expect("MILENA_CASES is a number"));
    let mut mutate = Mutate::default();
    while mutate.round == 0 || mutate.mutants < wanted {
        round(&mut mutate);
        mutate.round += 1;
    }
    let Mutate { round, mutants, decoded } = mutate;
    println!("{mutants} mutants of {what} in {round} rounds, of which {decoded} still decoded; seed {SEED}");
    mutate
}

impl Mutate {
    fn message<T: Wire>(&mut self, target: &Target<'_>, seed: u64, flexible: bool, frame: impl Fn(&[u8]) -> Vec<u8>) {
        let version = target.version;
        let mut rng = fastrand::Rng::with_seed(seed + 1_000_000 * self.round);
        let noise = entropy(&mut rng, 400);
        let cx = Context { version, flexible, nullable: false };
        let message = T::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
        let frame = frame(&encode_body(&message, version, flexible).unwrap());
        let (_, decoded) = attack(target, &Bytes::from(frame.clone()));
        assert!(decoded, "{} v{version} does not decode before it is mutated", target.name);
        self.mutants(target, &frame, &mut rng);
    }
}
impl Visit for Mutate {
    fn request<R>(&mut self)
    where
        R: Request + Clone + Debug + PartialEq,
        R::Response: Clone + Debug + PartialEq,
    {
        for version in R::VERSIONS.first..=R::VERSIONS.last {
            let flexible = R::FLEXIBLE.contains(version);
            let decode = |frame: &Bytes| response::<R>(frame, version);
            let target = Target { name: &R::API, version, decode: &decode, allowed: &allowed(ratio_of(R::API)) };
            let seed = SEED + (R::API.0 as u64) * 100 + version as u64;
            self.message::<R::Response>(&target, seed, flexible, |body| frame_of::<R>(version, body));
        }
    }

    fn embedded<E: Embedded>(&mut self) {
        let Kind::Struct(name, _) = E::KIND else { unreachable!() };
        for version in E::VERSIONS.first..=E::VERSIONS.last {
            let decode = |body: &Bytes| decode_body::<E>(body, version, false).is_ok();
            let target = Target { name: &name, version, decode: &decode, allowed: &allowed(RATIO) };
            self.message::<E>(&target, SEED + version as u64, false, <[u8]>::to_vec);
        }
    }
}

#[test]
fn mutated_frames() {
    let mutate = rounds("frames", each_request);
    assert!(mutate.mutants > 100_000 && mutate.decoded > mutate.mutants / 100);
}

/// Batches with and without a codec, whose CRC is taken for right: whoever writes a mutant writes its CRC as well.
#[test]
fn mutated_batches() {
    const LIMITS: Limits = Limits { max_output: 64 << 10, ratio: 1_100 };
    fn read(set: &Bytes, decompressor: &mut Decompressor) -> bool {
        let mut whole = false;
        for batch in Batches::new(set.clone(), false).map_while(Result::ok) {
            let Ok(batch) = batch.decompress(decompressor, LIMITS) else { return false };
            let Ok(records) = batch.records() else { return false };
            for record in records {
                let Ok(record) = record else { return false };
                whole |= record.headers().count() < usize::MAX;
            }
            let owned = batch.into_records().into_iter().flatten().map_while(Result::ok);
            owned.for_each(|record| assert!(record.value().is_none_or(|value| value.len() <= LIMITS.max_output)));
        }
        whole
    }
    /// What they decompress to, which any of them claims to need, and zstd's window and tables.
    fn allowed(_: usize) -> usize {
        LIMITS.max_output * 3 + (512 << 10)
    }
    let decompressor = std::cell::RefCell::new(Decompressor::new());
    let decode = |set: &Bytes| read(set, &mut decompressor.borrow_mut());
    let mut compressor = Compressor::new();
    let mutate = rounds("record batches", |mutate| {
        let mut rng = fastrand::Rng::with_seed(SEED + mutate.round);
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let mut writer = BatchWriter::new(0);
            for n in 0..rng.i64(1..6) {
                let (key, value) = (entropy(&mut rng, 9), entropy(&mut rng, 60));
                let headers = [("trace", Some(&value[..7])), ("", None)].into_iter().take(n as usize % 3);
                writer.append(n, Some(&key), rng.bool().then_some(&value.repeat(2)[..]), headers).unwrap();
            }
            // Noise does not shrink, and is sent as it is.
            writer.append(9, None, Some(&[b'x'; 500]), [("trace", None)]).unwrap();
            let mut batch = writer.finish();
            batch.compress(codec, None, &mut compressor).unwrap();
            let set =
                batch.stamp(Identity { producer_id: 7, producer_epoch: 0, base_sequence: 3, transactional: true });
            let name = format!("a batch of {codec}");
            let target = Target { name: &name, version: 2, decode: &decode, allowed: &allowed };
            // Its memory is kept from one batch to the next: the first one gets it.
            assert!(decode(&set), "{name} does not decode before it is mutated");
            mutate.mutants(&target, &set, &mut rng);
        }
    });
    assert!(mutate.mutants > 10_000 && mutate.decoded > mutate.mutants / 100);
}

/// `frame` with the `width` bytes at `at` replaced.
fn spliced(frame: &[u8], at: usize, width: usize, bytes: &[u8]) -> Vec<u8> {
    let behind = frame.len().min(at + width);
    [&frame[..at], bytes, &frame[behind..]].concat()
}

/// For every list of every response: a frame that is little more than that list, full of the smallest items there are,
/// each with some unknown tags or none. The worst of them is what a hostile broker can get out of one byte.
#[test]
fn smallest_items() {
    struct Amplify {
        /// Percent of a byte allocated per byte received, by message, with the place.
        worst: BTreeMap<String, (usize, String)>,
    }
    impl Visit for Amplify {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            for version in R::VERSIONS.first..=R::VERSIONS.last {
                let flexible = R::FLEXIBLE.contains(version);
                let decode = |frame: &Bytes| response::<R>(frame, version);
                let target = Target { name: &R::API, version, decode: &decode, allowed: &allowed(ratio_of(R::API)) };
                let frame = |body: &[u8]| frame_of::<R>(version, body);
                self.message(&target, &<R::Response as Wire>::KIND, flexible, frame);
            }
        }

        fn embedded<E: Embedded>(&mut self) {
            let Kind::Struct(name, _) = E::KIND else { unreachable!() };
            for version in E::VERSIONS.first..=E::VERSIONS.last {
                let decode = |body: &Bytes| decode_body::<E>(body, version, false).is_ok();
                let target = Target { name: &name, version, decode: &decode, allowed: &allowed(RATIO) };
                self.message(&target, &E::KIND, false, <[u8]>::to_vec);
            }
        }
    }
    impl Amplify {
        fn message(&mut self, target: &Target<'_>, kind: &Kind, flexible: bool, frame: impl Fn(&[u8]) -> Vec<u8>) {
            let Kind::Struct(_, fields) = *kind else { unreachable!() };
            let Target { name, version, .. } = *target;
            for list in lists(fields, version) {
                for tags in if flexible { &[0, 1, 2, 5, 9][..] } else { &[0] } {
                    let mut smallest = Smallest { version, flexible, count: 300, tags: *tags, bytes: Vec::new() };
                    smallest.message(fields, &list);
                    let frame = Bytes::from(frame(&smallest.bytes));
                    let place = format!("v{version}, {}, {tags} tags each", path(fields, &list));
                    let (peak, decoded) = attack(target, &frame);
                    assert!(decoded, "{name} {place} does not decode");
                    let ratio = 100 * peak / frame.len();
                    let worst = self.worst.entry(name.to_string()).or_default();
                    if ratio > worst.0 {
                        *worst = (ratio, place);
                    }
                }
            }
        }
    }
    let mut amplify = Amplify { worst: BTreeMap::new() };
    each_request(&mut amplify);
    for (name, (percent, place)) in &amplify.worst {
        println!("{name}: {}.{:02} bytes per byte ({place})", percent / 100, percent % 100);
    }
    assert!(amplify.worst.len() > 10);
}

/// The lists in a message, each as the indices of the fields that lead to it.
fn lists(fields: &[Field], version: i16) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    for (i, field) in fields.iter().enumerate().filter(|(_, field)| field.spec.versions.contains(version)) {
        let (inner, is_list) = match plain(field.kind) {
            Kind::Array(item) => (plain(item), true),
            other => (other, false),
        };
        if is_list {
            found.push(vec![i]);
        }
        if let Kind::Struct(_, fields) = inner {
            found.extend(lists(fields, version).into_iter().map(|rest| [vec![i], rest].concat()));
        }
    }
    found
}

fn plain(kind: &'static Kind) -> &'static Kind {
    if let Kind::Nullable(inner) = kind { inner } else { kind }
}

/// The names along a path.
fn path(fields: &[Field], list: &[usize]) -> String {
    let Some((first, rest)) = list.split_first() else { return String::new() };
    let field = &fields[*first];
    let inner = match plain(field.kind) {
        Kind::Array(item) => plain(item),
        other => other,
    };
    match inner {
        Kind::Struct(_, fields) if !rest.is_empty() => format!("{}.{}", field.name, path(fields, rest)),
        _ => field.name.to_owned(),
    }
}

/// Writes the smallest message there is, but for one list.
struct Smallest {
    version: i16,
    flexible: bool,
    /// Items in that list.
    count: u32,
    /// Unknown tagged fields in every struct.
    tags: u8,
    bytes: Vec<u8>,
}

impl Smallest {
    fn message(&mut self, fields: &'static [Field], list: &[usize]) {
        let version = self.version;
        let mut tagged = None;
        for (i, field) in fields.iter().enumerate().filter(|(_, field)| field.spec.versions.contains(version)) {
            let on_path = list.split_first().filter(|(first, _)| **first == i).map(|(_, rest)| rest);
            match field.spec.tag {
                None => self.value(field.kind, field.spec.nullable.contains(version), on_path),
                Some(tag) if on_path.is_some() => tagged = Some((tag, field, on_path)),
                Some(_) => {}
            }
        }
        if self.flexible {
            self.bytes.extend(uvarint(u32::from(self.tags) + u32::from(tagged.is_some())));
            if let Some((tag, field, on_path)) = tagged {
                let outer = std::mem::take(&mut self.bytes);
                self.value(field.kind, field.spec.nullable.contains(version), on_path);
                let inner = std::mem::replace(&mut self.bytes, outer);
                self.bytes.extend(uvarint(tag));
                self.bytes.extend(uvarint(u32::try_from(inner.len()).unwrap()));
                self.bytes.extend(inner);
            }
            for tag in 0..self.tags {
                self.bytes.extend([100 + tag, 0]);
            }
        }
    }

    fn value(&mut self, kind: &'static Kind, nullable: bool, list: Option<&[usize]>) {
        match plain(kind) {
            Kind::Struct(_, fields) => match list {
                None if nullable => self.bytes.push(0xff),
                _ => {
                    self.bytes.extend(nullable.then_some(1));
                    self.message(fields, list.unwrap_or_default());
                }
            },
            Kind::Primitive(name) => {
                let size = match *name {
                    "int8" | "bool" => 1,
                    "int16" | "uint16" => 2,
                    "int32" | "uint32" => 4,
                    "int64" | "float64" => 8,
                    "uuid" => 16,
                    "string" => return self.length(0, 2),
                    "bytes" | "records" => return self.length(0, 4),
                    other => panic!("how large is {other}?"),
                };
                self.bytes.extend(std::iter::repeat_n(0, size));
            }
            Kind::Array(item) => {
                let count = match list {
                    None => 0,
                    Some([]) => self.count,
                    Some(_) => 1,
                };
                self.length(count, 4);
                for _ in 0..count {
                    self.value(item, false, list);
                }
            }
            Kind::Nullable(_) => unreachable!(),
        }
    }

    fn length(&mut self, length: u32, width: usize) {
        if self.flexible {
            self.bytes.extend(uvarint(length + 1));
        } else {
            self.bytes.extend(&length.to_be_bytes()[4 - width..]);
        }
    }
}

fn uvarint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
