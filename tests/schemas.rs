//! Our tables against Kafka's own schemas, field by field, as they lie in `kafka-clients-<version>.jar`: 4.4.0 for what
//! is spoken today, 2.8.2 for versions that Kafka 4.0 dropped and a table keeps.
//!
//! And our bytes against the classes in 4.4.0's jar, which Kafka itself made of its schemas: random legal values of every
//! message in every version, read and written again by Java. It knows what `kafka-protocol` lacks, see
//! `tests/differential.rs`.
//!
//! The jars come with Java, not with cargo: without them the comparisons are left out, and say so.
#![allow(clippy::print_stdout, reason = "says what was left out, and which command runs it")]

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use arbitrary::Unstructured;
use libtest_mimic::{Arguments, Failed, Trial};
use milena::fuzzing::{Visit, each_request, entropy};
use milena::wire::api::ApiKey;
use milena::wire::frame::encode_body;
use milena::wire::message::{Context, Embedded, Field, Kind, Request, Spec, Versions, Wire};
use serde_json::Value;

const NEWEST: &str = "4.4.0";
const OLDER: &str = "2.8.2";

/// Stands for the key of a message that travels inside another one.
const NO_API: ApiKey = ApiKey(-1);

/// Where a table and Kafka's schema differ, and why that is right. A line that nothing needs any more is an error.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        message: "InitProducerIdRequest",
        starts: "versions 0-5, Kafka has 0-6",
        _reason: "v6 (KIP-939, two-phase commit) is unstable in 4.4.0: brokers offer it only when told to",
    },
    Exception { message: "InitProducerIdResponse", starts: "versions 0-5, Kafka has 0-6", _reason: "as its request" },
    Exception {
        message: "AddPartitionsToTxnRequest",
        starts: "versions 0-3, Kafka has 0-5",
        _reason: "brokers refuse v4 and later from clients, so those must never be negotiated",
    },
    Exception {
        message: "AddPartitionsToTxnResponse",
        starts: "versions 0-3, Kafka has 0-5",
        _reason: "as its request",
    },
    Exception {
        message: "AlterClientQuotasResponse",
        starts: "entries: type []EntryResult, Kafka has []EntryData",
        _reason: "the request has another EntryData, and both live in one module",
    },
    Exception {
        message: "DescribeQuorumResponse",
        starts: "topics: type []TopicResult, Kafka has []TopicData",
        _reason: "the request has another TopicData, and both live in one module",
    },
    Exception {
        message: "DescribeQuorumResponse",
        starts: "topics.partitions: type []PartitionResult, Kafka has []PartitionData",
        _reason: "the request has another PartitionData, and both live in one module",
    },
];

struct Exception {
    message: &'static str,
    /// How the problem begins.
    starts: &'static str,
    _reason: &'static str,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("planted_differences_are_found", planted_differences_are_found)];
    match Jars::find() {
        Ok(jars) => {
            let (jar, older_jar) = (jars.newest_jar.clone(), jars.older_jar.clone());
            let left_out = !required() && !has_jdk();
            let trial = Trial::test("java_writes_the_same_bytes", move || same_bytes(&jar));
            trials.push(trial.with_ignored_flag(left_out));
            let trial = Trial::test("java_writes_and_reads_the_same_message_sets", move || message_sets(&older_jar));
            trials.push(trial.with_ignored_flag(left_out));
            trials.extend(comparisons(jars));
        }
        Err(missing) if required() => {
            trials.push(Trial::test("jars_are_there", move || Err(missing.into())));
        }
        Err(missing) => {
            println!("\nLEFT OUT: the comparison with Kafka's schemas. {missing}");
            let left_out = Trial::test("tables_are_kafkas_schemas", move || Err(missing.into()));
            trials.push(left_out.with_ignored_flag(true));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A missing jar, or Java, is then a failure.
fn required() -> bool {
    env::var("MILENA_REQUIRE_JARS").is_ok_and(|value| value == "1")
}

/// Whether `java` is there and can run a source file.
fn has_jdk() -> bool {
    let modules = Command::new("java").arg("--list-modules").output();
    let has = modules.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("jdk.compiler"));
    if !has {
        println!("\nLEFT OUT: the comparison with Kafka's own classes, which needs a JDK (17 or newer) as `java`.");
    }
    has
}

fn same_bytes(jar: &Path) -> Result<(), Failed> {
    struct Messages(String);
    impl Messages {
        fn add<T: Wire>(&mut self, version: i16, flexible: bool) {
            let Kind::Struct(name, _) = T::KIND else { unreachable!() };
            let mut rng = fastrand::Rng::with_seed(version as u64);
            for n in 0..20 {
                let noise = entropy(&mut rng, 16 << (n % 8));
                let cx = Context { version, flexible, nullable: false };
                let message = T::arbitrary(&mut Unstructured::new(&noise), cx).unwrap();
                write!(self.0, "{name} {version} ").unwrap();
                for byte in encode_body(&message, version, flexible).unwrap() {
                    write!(self.0, "{byte:02x}").unwrap();
                }
                self.0.push('\n');
            }
        }
    }
    impl Visit for Messages {
        fn request<R: Request>(&mut self) {
            for version in R::VERSIONS.first..=R::VERSIONS.last {
                self.add::<R>(version, R::FLEXIBLE.contains(version));
                self.add::<R::Response>(version, R::FLEXIBLE.contains(version));
            }
        }

        fn embedded<E: Embedded>(&mut self) {
            (E::VERSIONS.first..=E::VERSIONS.last).for_each(|version| self.add::<E>(version, false));
        }
    }
    let mut messages = Messages(String::new());
    each_request(&mut messages);
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages");
    std::fs::write(&file, messages.0)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/SameBytes.java");
    let java = Command::new("java").arg("-cp").arg(jar).arg(source).arg(file).output()?;
    let said = String::from_utf8_lossy(&java.stdout);
    if java.status.success() {
        Ok(())
    } else {
        Err(format!("\n{said}{}", String::from_utf8_lossy(&java.stderr)).into())
    }
}

/// `tests/golden/set-*`, which `record/legacy/tests.rs` reads: Kafka's classes write them again, and find in both what
/// `message-sets.txt` says.
fn message_sets(older_jar: &Path) -> Result<(), Failed> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The codecs' jars lie beside it.
    let class_path = older_jar.with_file_name("*");
    let java = |command: &str, files: &[PathBuf]| {
        let mut java = Command::new("java");
        java.arg("-cp").arg(&class_path).arg(root.join("tests/java/MessageSets.java")).arg(command).args(files);
        let output = java.output()?;
        if output.status.success() {
            Ok::<_, Failed>(String::from_utf8(output.stdout)?)
        } else {
            Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)).into())
        }
    };
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("message-sets");
    std::fs::create_dir_all(&fresh)?;
    java("write", std::slice::from_ref(&fresh))?;
    let golden = root.join("tests/golden");
    let read = std::fs::read_to_string(golden.join("message-sets.txt"))?;
    let mut names: Vec<_> = read.lines().filter_map(|line| line.split(';').next()).collect();
    names.dedup();
    assert_eq!(names.len(), 12);
    for folder in [&golden, &fresh] {
        let files: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
        assert_eq!(java("read", &files)?, read, "{}", folder.display());
    }
    // Another Java may deflate in another way.
    for name in names.iter().filter(|name| !name.contains("gzip")) {
        assert_eq!(std::fs::read(golden.join(name))?, std::fs::read(fresh.join(name))?, "{name}");
    }
    Ok(())
}

/// One trial for each message, and one that asks whether all exceptions are needed.
fn comparisons(jars: Jars) -> Vec<Trial> {
    struct Tables(Vec<Table>);
    impl Tables {
        fn add(&mut self, kind: Kind, api: ApiKey, versions: Versions, flexible: Versions) {
            let Kind::Struct(name, fields) = kind else { panic!("{kind:?} is no message") };
            self.0.push(Table { name, api, versions, flexible, fields });
        }
    }
    impl Visit for Tables {
        fn request<R: Request>(&mut self) {
            self.add(R::KIND, R::API, R::VERSIONS, R::FLEXIBLE);
            self.add(<R::Response as Wire>::KIND, R::API, R::VERSIONS, R::FLEXIBLE);
        }

        fn embedded<E: Embedded>(&mut self) {
            self.add(E::KIND, NO_API, E::VERSIONS, Versions::NONE);
        }
    }
    let mut tables = Tables(Vec::new());
    each_request(&mut tables);
    let tables = tables.0;
    let jars = Arc::new(jars);
    let mut trials = Vec::new();
    for &table in &tables {
        let jars = jars.clone();
        trials.push(Trial::test(table.name, move || {
            let excepted = |p: &String| EXCEPTIONS.iter().any(|e| e.message == table.name && p.starts_with(e.starts));
            fail_with(table.problems(&jars).into_iter().filter(|problem| !excepted(problem)).collect())
        }));
    }
    trials.push(Trial::test("exceptions_are_needed", move || {
        let needed = |e: &&Exception| {
            let table = tables.iter().find(|table| table.name == e.message);
            table.is_some_and(|table| table.problems(&jars).iter().any(|problem| problem.starts_with(e.starts)))
        };
        let unused = EXCEPTIONS.iter().filter(|e| !needed(e));
        fail_with(unused.map(|e| format!("{}: no longer `{}`", e.message, e.starts)).collect())
    }));
    trials
}

fn fail_with(problems: Vec<String>) -> Result<(), Failed> {
    if problems.is_empty() { Ok(()) } else { Err(format!("\n{}\n", problems.join("\n")).into()) }
}

/// One message of ours.
#[derive(Clone, Copy)]
struct Table {
    name: &'static str,
    api: ApiKey,
    versions: Versions,
    flexible: Versions,
    fields: &'static [Field],
}

impl Table {
    fn problems(&self, jars: &Jars) -> Vec<String> {
        let Some(newest) = jars.newest.get(self.name) else {
            return vec![format!("Kafka {NEWEST} has no {}", self.name)];
        };
        let mut problems = self.compare(&Schema::parse(newest));
        let first = Schema::parse(newest).valid.first;
        // What the newest schemas no longer describe, version by version.
        for version in self.versions.first..first {
            let older = jars.older.get(self.name).map(|text| Schema::parse(text));
            match older.filter(|older| older.valid.contains(version)) {
                None => problems.push(format!("v{version} is neither in Kafka {NEWEST} nor in {OLDER}")),
                Some(older) => {
                    let (ours, theirs) = (at(version, ours(self.fields)), at(version, older.fields));
                    let found = compare_lines(&ours, &theirs, "", &|_| true);
                    problems.extend(found.into_iter().map(|problem| format!("v{version} {problem}")));
                }
            }
        }
        problems
    }

    fn compare(&self, theirs: &Schema) -> Vec<String> {
        let mut problems = Vec::new();
        let mut same = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                problems.push(format!("{what} {ours}, Kafka has {theirs}"));
            }
        };
        same("key", self.api.0.to_string(), theirs.key.to_string());
        same("versions", range(self.versions), range(theirs.valid));
        same("flexible", range(self.flexible), range(theirs.flexible));
        if theirs.unstable && self.versions.last >= theirs.valid.last {
            problems.push(format!("v{} is unstable in Kafka {NEWEST}", theirs.valid.last));
        }
        let dropped = theirs.valid.first;
        let wanted = |line: &Line| overlap(line.versions, self.versions);
        let ours = ours(self.fields);
        // A field that is only of versions that Kafka dropped is compared with the older schema alone.
        let ours: Vec<Line> = ours.into_iter().filter(|line| line.versions.last >= dropped).collect();
        problems.extend(compare_lines(&ours, &theirs.fields, "", &wanted));
        problems
    }
}

/// A schema of Kafka's.
struct Schema {
    key: i64,
    valid: Versions,
    flexible: Versions,
    unstable: bool,
    fields: Vec<Line>,
}

/// A field, in the words of Kafka's schemas.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: String,
    kind: String,
    versions: Versions,
    nullable: Versions,
    tag: Option<u32>,
    default: String,
    ignorable: bool,
    fields: Vec<Self>,
}

impl Schema {
    fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(&without_comments(text)).expect("a schema");
        let common: BTreeMap<&str, &Value> =
            list(&json, "commonStructs").iter().map(|it| (it["name"].as_str().unwrap(), &it["fields"])).collect();
        Self {
            key: json["apiKey"].as_i64().unwrap_or_else(|| NO_API.0.into()),
            valid: versions(&json["validVersions"]),
            flexible: versions(&json["flexibleVersions"]),
            unstable: json["latestVersionUnstable"].as_bool().unwrap_or(false),
            fields: lines(list(&json, "fields"), &common),
        }
    }
}

fn list<'a>(json: &'a Value, key: &str) -> &'a [Value] {
    json.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn lines(fields: &[Value], common: &BTreeMap<&str, &Value>) -> Vec<Line> {
    let line = |field: &Value| {
        let kind = field["type"].as_str().unwrap().to_owned();
        let inline = list(field, "fields");
        let fields = match common.get(kind.trim_start_matches("[]")) {
            Some(shared) if inline.is_empty() => shared.as_array().unwrap(),
            _ => inline,
        };
        let text = match field.get("default") {
            None => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        let span = versions(&field["versions"]);
        let tag = field.get("tag").map(|tag| u32::try_from(tag.as_u64().unwrap()).unwrap());
        // The tables have no way to say that a field became a tagged one later; nothing needs it so far.
        assert!(tag.is_none() || versions(&field["taggedVersions"]) == span, "{field}");
        Line {
            name: snake(field["name"].as_str().unwrap()),
            versions: span,
            nullable: field.get("nullableVersions").map_or(Versions::NONE, versions),
            tag,
            default: text.filter(|text| !text.is_empty()).map_or_else(|| zero(&kind), |text| canonical(&text)),
            ignorable: field["ignorable"].as_bool().unwrap_or(false),
            fields: lines(fields, common),
            kind,
        }
    };
    fields.iter().map(line).collect()
}

/// Our table in the same words.
fn ours(fields: &[Field]) -> Vec<Line> {
    let line = |field: &Field| {
        let (kind, null) = match field.kind {
            Kind::Nullable(inner) => (*inner, true),
            other => (other, false),
        };
        let default = match field.default {
            None if null => "null".to_owned(),
            None => zero(&name(kind)),
            Some("None") => "null".to_owned(),
            Some(text) => {
                let text = text.strip_prefix("Some(").and_then(|text| text.strip_suffix(")")).unwrap_or(text);
                if text.ends_with("::new()") || text.ends_with("::default()") {
                    zero(&name(kind))
                } else {
                    canonical(text)
                }
            }
        };
        let Spec { versions, nullable, tag, ignorable } = field.spec;
        // `Option` without a version that has null, or null without `Option`, is a slip of the table.
        let mut kind_name = name(kind);
        if null != (nullable != Versions::NONE) {
            kind_name.push_str(if null { " in an Option" } else { " without Option" });
        }
        Line {
            name: field.name.trim_start_matches("r#").to_owned(),
            kind: kind_name,
            versions,
            nullable,
            tag,
            default,
            ignorable,
            fields: nested(kind).map_or_else(Vec::new, ours),
        }
    };
    fields.iter().map(line).collect()
}

fn name(kind: &Kind) -> String {
    match kind {
        Kind::Primitive(name) | Kind::Struct(name, _) => (*name).to_owned(),
        Kind::Array(item) => format!("[]{}", name(item)),
        Kind::Nullable(inner) => name(inner),
    }
}

fn nested(kind: &Kind) -> Option<&'static [Field]> {
    match kind {
        Kind::Primitive(_) => None,
        Kind::Struct(_, fields) => Some(fields),
        Kind::Array(inner) | Kind::Nullable(inner) => nested(inner),
    }
}

/// What the fields are in one version.
fn at(version: i16, fields: Vec<Line>) -> Vec<Line> {
    let only = Versions { first: version, last: version };
    let kept = fields.into_iter().filter(|line| line.versions.contains(version));
    kept.map(|line| Line {
        versions: only,
        nullable: if line.nullable.contains(version) { only } else { Versions::NONE },
        fields: at(version, line.fields),
        ..line
    })
    .collect()
}

/// All differences, in the order of Kafka's fields. `wanted`: whether a field that only Kafka has is missed.
fn compare_lines(ours: &[Line], theirs: &[Line], inside: &str, wanted: &dyn Fn(&Line) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    let mut last = 0;
    for line in theirs {
        let path = format!("{inside}{}", line.name);
        let Some(place) = ours.iter().position(|it| it.name == line.name) else {
            if wanted(line) {
                problems.push(format!("{path} is missing: {} {}", line.kind, range(line.versions)));
            }
            continue;
        };
        if place < last {
            problems.push(format!("{path} stands too early"));
        }
        last = place;
        let it = &ours[place];
        let mut same = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                problems.push(format!("{path}: {what} {ours}, Kafka has {theirs}"));
            }
        };
        same("type", it.kind.clone(), line.kind.clone());
        same("versions", range(it.versions), range(line.versions));
        // Kafka's lists of null versions may begin before the field does.
        same("null", range(within(it.nullable, it.versions)), range(within(line.nullable, line.versions)));
        same("tag", format!("{:?}", it.tag), format!("{:?}", line.tag));
        same("default", it.default.clone(), line.default.clone());
        same("ignorable", it.ignorable.to_string(), line.ignorable.to_string());
        problems.extend(compare_lines(&it.fields, &line.fields, &format!("{path}."), wanted));
    }
    for line in ours.iter().filter(|line| theirs.iter().all(|it| it.name != line.name)) {
        problems.push(format!("{inside}{} is not Kafka's", line.name));
    }
    problems
}

fn overlap(a: Versions, b: Versions) -> bool {
    a.intersection(b).is_some()
}

fn within(inner: Versions, outer: Versions) -> Versions {
    inner.intersection(outer).unwrap_or(Versions::NONE)
}

/// As Kafka writes versions.
fn range(versions: Versions) -> String {
    match versions {
        Versions::NONE => "none".to_owned(),
        Versions { first, last: i16::MAX } => format!("{first}+"),
        Versions { first, last } if first == last => first.to_string(),
        Versions { first, last } => format!("{first}-{last}"),
    }
}

fn versions(json: &Value) -> Versions {
    let text = json.as_str().expect("versions");
    let number = |text: &str| text.parse::<i16>().expect("a version");
    match text.split_once('-') {
        _ if text == "none" => Versions::NONE,
        Some((first, last)) => Versions { first: number(first), last: number(last) },
        None => match text.strip_suffix('+') {
            Some(first) => Versions { first: number(first), last: i16::MAX },
            None => Versions { first: number(text), last: number(text) },
        },
    }
}

/// The value that a type has when nothing else is said.
fn zero(kind: &str) -> String {
    match kind {
        "int8" | "int16" | "uint16" | "int32" | "uint32" | "int64" => "0".into(),
        "float64" => "0.0".into(),
        "bool" => "false".into(),
        _ => "empty".into(),
    }
}

/// One way to write a default that has several: `0x7fffffff`, `i32::MAX`, `"text".into()`.
fn canonical(text: &str) -> String {
    let text = text.replace('_', "").replace("- ", "-");
    if let Some(string) = text.split('"').nth(1) {
        return string.to_owned();
    }
    for (name, value) in [
        ("i16::MAX", i64::from(i16::MAX)),
        ("i32::MAX", i64::from(i32::MAX)),
        ("i32::MIN", i64::from(i32::MIN)),
        ("i64::MAX", i64::MAX),
        ("i64::MIN", i64::MIN),
    ] {
        if text == name {
            return value.to_string();
        }
    }
    let hex = text.strip_prefix("0x").and_then(|digits| i64::from_str_radix(digits, 16).ok());
    hex.map_or(text, |value| value.to_string())
}

/// `IncludeTopicAuthorizedOperations` to `include_topic_authorized_operations`, `Enable2Pc` to `enable2_pc`.
fn snake(camel: &str) -> String {
    let mut snake = String::new();
    for c in camel.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

/// JSON without `// comments`, which Kafka's has between fields.
fn without_comments(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let (mut string, mut escaped, mut end) = (false, false, line.len());
        for (i, c) in line.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = string,
                '"' => string = !string,
                '/' if !string && line[i..].starts_with("//") => {
                    end = i;
                    break;
                }
                _ => {}
            }
        }
        out.push_str(&line[..end]);
        out.push('\n');
    }
    out
}

/// The schemas in the jars: message to JSON.
struct Jars {
    newest: BTreeMap<String, String>,
    older: BTreeMap<String, String>,
    newest_jar: PathBuf,
    older_jar: PathBuf,
}

impl Jars {
    /// Looks where the caller says (`MILENA_KAFKA_JARS`), else where `scripts/kafka` keeps them.
    fn find() -> Result<Self, String> {
        let folder = match env::var_os("MILENA_KAFKA_JARS") {
            Some(given) => PathBuf::from(given),
            None => cache().ok_or("There is neither MILENA_KAFKA_JARS nor HOME.")?,
        };
        let read = |version: &str| {
            let jar = format!("kafka-clients-{version}.jar");
            // As `scripts/kafka` keeps them, as Maven does, or side by side.
            let version_folder = folder.join(version);
            let places = [version_folder.join("jars").join(&jar), version_folder.join(&jar), folder.join(&jar)];
            let found = places.iter().find(|place| place.is_file()).ok_or_else(|| {
                format!(
                    "No {jar} in {}. To run it: scripts/kafka fetch --version {NEWEST} --version {OLDER} && \
                     cargo test --test schemas (or set MILENA_KAFKA_JARS to a folder with both jars)",
                    folder.display()
                )
            })?;
            let schemas = schemas(found).map_err(|error| format!("{} cannot be read: {error}", found.display()))?;
            Ok::<_, String>((schemas, found.clone()))
        };
        let (newest, newest_jar) = read(NEWEST)?;
        let (older, older_jar) = read(OLDER)?;
        Ok(Self { newest, older, newest_jar, older_jar })
    }
}

fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("MILENA_KAFKA_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("milena-kafka")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/milena-kafka")))
}

fn schemas(jar: &Path) -> Result<BTreeMap<String, String>, Box<dyn std::error::Error>> {
    let mut zip = zip::ZipArchive::new(File::open(jar)?)?;
    let names = zip.file_names().map(|name| name.map(String::from)).collect::<Result<Vec<_>, _>>()?;
    let mut schemas = BTreeMap::new();
    for name in names {
        let inside = name.strip_prefix("common/message/").and_then(|file| file.strip_suffix(".json"));
        if let Some(message) = inside {
            let mut text = String::new();
            zip.by_name(&name)?.read_to_string(&mut text)?;
            schemas.insert(message.to_owned(), text);
        }
    }
    if schemas.len() < 100 { Err("it has no common/message/*.json".into()) } else { Ok(schemas) }
}

/// The comparison itself, which otherwise would never be seen to fail. Needs no jar.
fn planted_differences_are_found() -> Result<(), Failed> {
    const SCHEMA: &str = r#"
        // A comment, with "quotes".
        { "apiKey": 3, "validVersions": "1-9", "flexibleVersions": "6+", "fields": [
          { "name": "Topics", "type": "[]Topic", "versions": "0+", "nullableVersions": "1+", "fields": [ // and one here
            { "name": "Name", "type": "string", "versions": "0+", "about": "see https://example.org" },
            { "name": "Size2Mb", "type": "int32", "versions": "4-7", "default": "0x7f", "ignorable": true },
            { "name": "Owner", "type": "string", "versions": "5+", "nullableVersions": "5+", "default": "null",
              "taggedVersions": "5+", "tag": 1 }
          ]}
        ]}"#;
    const NAME: Field = field("name", &Kind::Primitive("string"), Spec::EMPTY.versions(0, i16::MAX), None);
    const SIZE: Field =
        field("size2_mb", &Kind::Primitive("int32"), Spec::EMPTY.versions(4, 7).ignorable(), Some("127"));
    const OWNER_SPEC: Spec = Spec::EMPTY.versions(5, i16::MAX).null(5, i16::MAX).tag(1);
    const OWNER: Field = field("owner", &Kind::Nullable(&Kind::Primitive("string")), OWNER_SPEC, None);

    const fn field(name: &'static str, kind: &'static Kind, spec: Spec, default: Option<&'static str>) -> Field {
        Field { name, kind, spec, default }
    }
    fn problems(api: ApiKey, versions: (i16, i16), flexible: i16, topic: &'static [Field]) -> String {
        // As the tables are constants, tests leak theirs.
        let item: &'static Kind = Box::leak(Box::new(Kind::Struct("Topic", topic)));
        let array: &'static Kind = Box::leak(Box::new(Kind::Array(item)));
        let nullable: &'static Kind = Box::leak(Box::new(Kind::Nullable(array)));
        let spec = Spec::EMPTY.versions(0, i16::MAX).null(1, i16::MAX);
        let fields = vec![field("topics", nullable, spec, Some("Some(Vec::new())"))];
        let versions = Versions { first: versions.0, last: versions.1 };
        let flexible = Versions { first: flexible, last: i16::MAX };
        let table = Table { name: "Planted", api, versions, flexible, fields: fields.leak() };
        table.compare(&Schema::parse(SCHEMA)).join("; ")
    }
    fn topic(fields: &[Field]) -> &'static [Field] {
        fields.to_vec().leak()
    }

    let right = topic(&[NAME, SIZE, OWNER]);
    assert_eq!(problems(ApiKey::METADATA, (1, 9), 6, right), "");
    assert_eq!(problems(ApiKey::FETCH, (1, 9), 6, right), "key 1, Kafka has 3");
    assert_eq!(problems(ApiKey::METADATA, (0, 9), 6, right), "versions 0-9, Kafka has 1-9");
    assert_eq!(problems(ApiKey::METADATA, (1, 9), 7, right), "flexible 7+, Kafka has 6+");
    // A field that no version of ours has may be left out, others not.
    assert_eq!(problems(ApiKey::METADATA, (1, 3), 6, topic(&[NAME])), "versions 1-3, Kafka has 1-9");
    let plain = Spec::EMPTY.versions(0, i16::MAX);
    for (fields, problem) in [
        ([NAME, SIZE, Field { name: "x", ..OWNER }], "topics.owner is missing: string 5+; topics.x is not Kafka's"),
        ([SIZE, NAME, OWNER], "topics.size2_mb stands too early"),
        ([Field { kind: &Kind::Primitive("bytes"), ..NAME }, SIZE, OWNER], "topics.name: type bytes, Kafka has string"),
        (
            [Field { spec: plain.null(3, 4), ..NAME }, SIZE, OWNER],
            "topics.name: type string without Option, Kafka has string",
        ),
        (
            [NAME, Field { spec: SIZE.spec.versions(4, 8), ..SIZE }, OWNER],
            "topics.size2_mb: versions 4-8, Kafka has 4-7",
        ),
        ([NAME, Field { default: None, ..SIZE }, OWNER], "topics.size2_mb: default 0, Kafka has 127"),
        (
            [NAME, Field { spec: Spec::EMPTY.versions(4, 7), ..SIZE }, OWNER],
            "topics.size2_mb: ignorable false, Kafka has true",
        ),
        ([NAME, SIZE, Field { spec: OWNER_SPEC.tag(2), ..OWNER }], "topics.owner: tag Some(2), Kafka has Some(1)"),
        ([NAME, SIZE, Field { spec: OWNER_SPEC.null(6, 9), ..OWNER }], "topics.owner: null 6-9, Kafka has 5+"),
        (
            [NAME, SIZE, Field { default: Some("Some(Arc::default())"), ..OWNER }],
            "topics.owner: default empty, Kafka has null",
        ),
    ] {
        let found = problems(ApiKey::METADATA, (1, 9), 6, topic(&fields));
        assert!(found.starts_with(problem), "expected {problem}\nfound    {found}");
    }
    Ok(())
}
