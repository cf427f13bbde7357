//! Replays `fuzz/seeds` through the fuzz bodies, on stable and without C++: inputs that are legal, and every input that
//! ever made a target panic. Finds of a local fuzz run (`fuzz/corpus`, `fuzz/artifacts`) are replayed too, if there are
//! some.
//!
//! The legal ones are made by `cargo test --test fuzz_corpus -- --ignored write_seeds`, from the encoders that
//! `tests/differential.rs` checks: run it after adding an API.

use std::fmt::Debug;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use arbitrary::Unstructured;
use milena::fuzzing::{self, Visit, each_request, entropy};
use milena::record::{BatchWriter, Compression, Compressor, Identity};
use milena::wire::api::ApiKey;
use milena::wire::frame::encode_body;
use milena::wire::message::{Context, Request, Wire};

type Target = (&'static str, fn(&[u8]) -> bool);

/// Timestamp, key, value, headers.
type TestRecord<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, &'a [(&'a str, Option<&'a [u8]>)]);

const TARGETS: &[Target] = &[
    ("address", fuzzing::address),
    ("decompress_gzip", fuzzing::decompress_gzip),
    ("decompress_lz4", fuzzing::decompress_lz4),
    ("decompress_snappy", fuzzing::decompress_snappy),
    ("decompress_zstd", fuzzing::decompress_zstd),
    ("record_batch", fuzzing::record_batch),
    ("request_body", fuzzing::request_body),
    ("response_frame", fuzzing::response_frame),
    ("round_trip", fuzzing::round_trip),
];

#[test]
fn seeds_and_crashers_pass() {
    for (target, body) in TARGETS {
        for folder in ["seeds", "corpus", "artifacts"] {
            for path in files(&fuzz().join(folder).join(target)) {
                let data = fs::read(&path).unwrap();
                let shown = path.display();
                let result = catch_unwind(|| body(&data)).unwrap_or_else(|_| panic!("{shown} panics, see above"));
                // Those that libFuzzer named are whatever they are; ours are legal unless they say so.
                let name = path.file_name().unwrap().to_str().unwrap();
                let legal =
                    folder == "seeds" && !["bad-", "crash-", "oom-", "timeout-"].iter().any(|p| name.starts_with(p));
                assert!(result || !legal, "{shown} is no longer what it was: write_seeds, see the top of this file");
            }
        }
    }
}

#[test]
fn every_target_is_replayed_and_every_api_has_seeds() {
    let names = |folder: PathBuf| -> Vec<String> {
        files(&folder).iter().map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let listed: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(fuzz().join("targets")), listed, "a target without a line in TARGETS");
    for target in ["request_body", "response_frame", "round_trip"] {
        let seeds = names(fuzz().join("seeds").join(target));
        for api in apis() {
            assert!(seeds.iter().any(|seed| seed.starts_with(&format!("{api}-v"))), "no seed of {api} for {target}");
        }
    }
}

#[test]
#[ignore = "writes fuzz/seeds"]
fn write_seeds() {
    struct Write;
    impl Visit for Write {
        fn request<R>(&mut self)
        where
            R: Request + Clone + Debug + PartialEq,
            R::Response: Clone + Debug + PartialEq,
        {
            for version in [R::VERSIONS.first, R::VERSIONS.last] {
                let flexible = R::FLEXIBLE.contains(version);
                let cx = Context { version, flexible, nullable: false };
                let mut rng = fastrand::Rng::with_seed(R::API.0 as u64 * 100 + version as u64);
                let noise = entropy(&mut rng, 256);
                let request = R::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
                let response = R::Response::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
                let request = encode_body(&request, version, flexible).unwrap();
                let response = encode_body(&response, version, flexible).unwrap();
                let tags: &[u8] = if flexible && R::API != ApiKey::API_VERSIONS { &[0] } else { &[] };
                let head = [u8::try_from(R::API.0).unwrap(), u8::try_from(version).unwrap()];
                let name = format!("{}-v{version}", R::API);
                write("request_body", &name, &[&head, &request]);
                write("response_frame", &name, &[&head, &[0, 0, 0, 7], tags, &response]);
                write("round_trip", &name, &[&head, &noise]);
            }
        }
    }
    each_request(&mut Write);

    for (name, text) in [
        ("name", "kafka-1.example.org:9092"),
        ("ipv4", "127.0.0.1:1"),
        ("ipv6", "[2001:db8::1]:65535"),
        ("listener", "SASL_SSL://broker:9093"),
        ("bad-two", "a:1,b:2"),
        ("bad-port", "a:65536"),
        ("bad-ipv6", "::1:9092"),
        ("bad-space", "x://\ta:1"),
    ] {
        write("address", name, &[text.as_bytes()]);
    }

    let batch = |records: &[TestRecord], transactional| {
        let mut writer = BatchWriter::new(256);
        for (timestamp, key, value, headers) in records {
            writer.append(*timestamp, *key, *value, headers.iter().copied()).unwrap();
        }
        writer.finish().stamp(Identity { producer_id: 9, producer_epoch: 1, base_sequence: 5, transactional })
    };
    let one = batch(&[(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])], false);
    let several = batch(
        &[
            (1_700_000_000_000, None, Some(b""), &[("h", None), ("h", Some(b"again"))]),
            (1_600_000_000_000, Some(b""), None, &[]),
            (i64::MAX, Some(&[0; 70]), Some(&[7; 200]), &[("", Some(b""))]),
        ],
        true,
    );
    // A commit marker: the attributes at 22 say control, key and value are a version and a type, and an epoch.
    let mut marker = batch(&[(0, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 3]), &[])], true).to_vec();
    marker[22] |= 0x20;
    // The batch before it begins at offset 1000, and the log's end cuts the last one.
    let mut later = several.to_vec();
    later[6] = 0x03;
    write("record_batch", "one", &[&one]);
    write("record_batch", "several", &[&several]);
    write("record_batch", "marker", &[&marker]);
    write("record_batch", "two-and-a-half", &[&one, &later, &several[..100]]);
    write("record_batch", "bad-half", &[&several[..150]]);
    let mut gzip = one.to_vec();
    gzip[22] |= 1;
    write("record_batch", "bad-codec", &[&gzip]);
    let golden = |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap();
    for name in ["set-v0-none", "set-v0-lz4", "set-v1-gzip", "set-v1-snappy-append", "set-v1-none-append"] {
        write("record_batch", name, &[&golden(name)]);
    }
    write("record_batch", "set-all-formats", &[&golden("set-v0-gzip"), &one, &golden("set-v1-lz4")]);
    write("record_batch", "bad-set-half", &[&golden("set-v1-lz4")[..100]]);
    write_compressed();
}

/// What there is to compress: nothing, text, runs, and noise, which is stored; alone and twice.
fn write_compressed() {
    let mut rng = fastrand::Rng::with_seed(1);
    let text = "{\"level\":\"INFO\",\"text\":\"the same again and again\"}".repeat(30);
    let inputs: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("text", text.into_bytes()),
        ("zeros", vec![0; 100_000]),
        ("noise", (0..300).map(|_| rng.u8(..)).collect()),
        ("mixed", entropy(&mut rng, 3_000)),
    ];
    let mut compressor = Compressor::new();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let target = format!("decompress_{codec}");
        for (name, input) in &inputs {
            let packed = compressor.compress(codec, None, input).unwrap();
            write(&target, name, &[packed]);
            if *name == "text" {
                write(&target, "twice", &[packed, packed]);
                let cut = if codec == Compression::Snappy { 60 } else { packed.len() - 1 };
                write(&target, "bad-cut", &[&packed[..cut]]);
            }
        }
        let bomb = compressor.compress(codec, None, &vec![b'x'; (1 << 20) + 1]).unwrap();
        write(&target, "bad-bomb", &[bomb]);
    }
    write("decompress_snappy", "unframed", &[&[11, 5 << 2], b"hello ", &[0b0000_0101, 6]]);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (target, name) in [
        ("decompress_lz4", "lz4-linked"),
        ("decompress_lz4", "lz4-checksums-and-size"),
        ("decompress_zstd", "zstd-19-checksum"),
        ("decompress_zstd", "zstd-pipe"),
        ("decompress_zstd", "zstd-window-128-mib"),
        ("decompress_gzip", "gzip-name"),
    ] {
        write(target, name, &[&fs::read(golden.join(name)).unwrap()]);
    }
}

fn write(target: &str, name: &str, parts: &[&[u8]]) {
    let folder = fuzz().join("seeds").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), parts.concat()).unwrap();
}

fn apis() -> Vec<ApiKey> {
    struct Keys(Vec<ApiKey>);
    impl Visit for Keys {
        fn request<R: Request>(&mut self) {
            self.0.push(R::API);
        }
    }
    let mut keys = Keys(Vec::new());
    each_request(&mut keys);
    keys.0
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The files of a folder in the order of their names; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
