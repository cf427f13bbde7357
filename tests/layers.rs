//! The rules of `ARCHITECTURE.md` that a compiler does not check: who may import whom, who may name tokio, clocks and
//! randomness, what a `mod.rs` holds, how long a file gets, and that nothing of ours is `unsafe`.
//!
//! It reads tokens, not types: comments, strings and doc examples do not count; `use` groups, renames, globs,
//! `super::super`, `$crate` and paths in the middle of an expression do. `planted_violations_are_found` keeps it honest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What each folder or root file of `src/` may import from this crate. Itself and what stands to the right, nothing
/// else; `PUBLIC` is what `lib.rs` re-exports, by those names.
const LAYERS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("record", &["wire"]),
    ("machine", &["wire", "record", "error"]),
    ("net", &["wire", "record", "machine", "error"]),
    // The three sorts of handles meet in `client` and nowhere else.
    ("producer", &["wire", "record", "machine", "net", "error", "count", "client", "config", PUBLIC]),
    ("consumer", &["wire", "record", "machine", "net", "error", "count", "client", "config", PUBLIC]),
    ("admin", &["wire", "record", "machine", "net", "error", "client", "config", PUBLIC]),
    // Says what went wrong below in words for users; what it wraps does not know it, except for machines' verdicts.
    ("error", &["wire", "record", "machine"]),
    ("count", &[]),
    ("client", &["wire", "record", "machine", "net", "error", "config", "producer", "consumer", "admin", PUBLIC]),
    ("config", &["record", "net", "error", "client", "producer", "consumer", "admin", PUBLIC]),
    // An oracle shares no code with what it judges.
    ("mock", &[PUBLIC]),
    // Text.
    ("guide", &[]),
    // Whatever any user could have written.
    ("chat", &[PUBLIC]),
    ("scheduler", &[PUBLIC]),
    ("bin", &[PUBLIC]),
    // For this repository's own tests.
    ("fuzzing", &["wire", "record", "machine", PUBLIC]),
    (
        "lib",
        &[
            "wire", "record", "machine", "net", "error", "client", "config", "producer", "consumer", "admin", "mock",
            "count",
        ],
    ),
];

/// In [`LAYERS`]: the crate's public API.
const PUBLIC: &str = "the public API";

/// Paths of other crates that only some folders may name.
const BANNED: &[Ban] = &[
    Ban {
        paths: &[
            "tokio::net",
            "tokio::io",
            "tokio::time",
            "tokio::spawn",
            "tokio::task::spawn",
            "tokio::task::spawn_blocking",
            "tokio::task::spawn_local",
            "tokio::task::Builder",
            "tokio::task::JoinSet",
            "tokio::task::LocalSet",
        ],
        except: |layer, _| matches!(layer, "net" | "mock" | "bin"),
        why: "sockets, timers and tasks are net/'s",
    },
    Ban {
        paths: &["tokio::runtime"],
        // Users may hand the builder a runtime of their own.
        except: |layer, _| matches!(layer, "net" | "mock" | "bin" | "client"),
        why: "tasks live on the runtime that net/ holds",
    },
    Ban { paths: &["tokio"], except: |layer, _| !PURE.contains(&layer), why: "a pure layer runs without a runtime" },
    Ban {
        paths: &["std::env"],
        // A test may be told which histories to run.
        except: |layer, test| test || !PURE.contains(&layer),
        why: "a pure layer touches nothing but its arguments",
    },
    Ban {
        paths: &["std::fs", "std::process", "std::thread", "std::net::TcpStream", "std::net::TcpListener"],
        except: |layer, _| !PURE.contains(&layer),
        why: "a pure layer touches nothing but its arguments",
    },
    Ban {
        paths: &["std::time::Instant::now", "std::time::SystemTime::now"],
        // There is no other way to make an `Instant`, so a test may begin with one.
        except: |layer, test| test || matches!(layer, "net" | "mock" | "bin"),
        why: "machines take `now`, tasks ask net::runtime",
    },
    Ban {
        paths: &["fastrand", "rand", "getrandom"],
        // The mock's generators are seeded by whoever starts it.
        except: |layer, test| test || matches!(layer, "net" | "mock" | "fuzzing"),
        why: "randomness comes from net::runtime, so that a test can seed it",
    },
    Ban {
        paths: &["kafka_protocol"],
        // Unit tests compare with it.
        except: |layer, test| test || layer == "mock",
        why: "the client decodes with its own cursor",
    },
];

struct Ban {
    paths: &'static [&'static str],
    /// (layer, in a test)
    except: fn(&str, bool) -> bool,
    why: &'static str,
}

/// The layers whose functions depend on their arguments alone.
const PURE: &[&str] = &["wire", "record", "machine"];

const LONGEST_FILE: usize = 800;

#[test]
fn src_keeps_the_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src"));
    let lib = &files["lib.rs"];
    let public = public_names(lib);
    assert!(public.contains_key("Connector"), "the re-exports of lib.rs were not understood: {public:?}");
    let problems: Vec<String> = files.iter().flat_map(|(path, text)| check(path, text, &public)).collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn nothing_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src", "tests", "benches", "examples", "fuzz", "scripts"] {
        for (path, text) in rust_files(&root.join(folder)) {
            // A workspace of its own, which calls C libraries.
            if folder == "benches" && path.starts_with("peers/") {
                continue;
            }
            let found: Vec<_> = tokens(&text).into_iter().filter(|t| t.is("unsafe")).map(|t| t.line).collect();
            assert!(found.is_empty(), "{folder}/{path}: unsafe in lines {found:?}");
        }
    }
}

/// Row 13 of `faults.md`: a wall clock that stands, jumps to 1970 or to 2100 delays nothing and ends nothing, for nothing
/// waits by it: it stamps records, and turns the age of an offset that is asked for into a time.
#[test]
fn nothing_waits_by_the_wall_clock() {
    let files = rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let asks = |text: &str| {
        let tokens = tokens(text);
        tokens.iter().any(|token| token.is("wall_clock_ms"))
            || tokens.windows(4).any(|four| four[0].is("SystemTime") && four[1].is("::") && four[2].is("now"))
    };
    assert!(asks("let now = SystemTime::now();") && !asks("SystemTime::UNIX_EPOCH; // wall_clock_ms()"));
    let client = files.iter().filter(|(path, _)| !path.starts_with("mock/") && !path.starts_with("bin/"));
    let asking: Vec<_> = client.filter(|(_, text)| asks(text)).map(|(path, _)| path.as_str()).collect();
    let known = ["consumer/manager.rs", "net/mod.rs", "net/runtime.rs", "producer/append.rs", "producer/many.rs"];
    assert_eq!(asking, known);
}

/// All `.rs` files below `folder`, by their path in it; none if there is no such folder (yet).
fn rust_files(folder: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = format!("{prefix}{name}");
            if entry.file_type().unwrap().is_dir() {
                if name != "target" {
                    walk(&entry.path(), &format!("{path}/"), files);
                }
            } else if name.ends_with(".rs") {
                files.insert(path, fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(folder, "", &mut files);
    files
}

/// What `lib.rs` re-exports: name to the layer that it comes from.
fn public_names(lib: &str) -> BTreeMap<String, String> {
    let tokens = tokens(lib);
    let scan = Scan::of(&tokens, Vec::new(), false);
    let public = scan.uses.iter().filter(|u| u.public && !u.glob);
    public
        .filter_map(|u| match scan.resolve(&u.path, &u.module) {
            Resolved::Here(path) => Some((u.name.clone(), path.first()?.clone())),
            Resolved::Elsewhere(_) => None,
        })
        .collect()
}

/// All that is wrong with one file of `src/`.
fn check(path: &str, text: &str, public: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(String::from).collect();
    let layer = module[0].clone();
    let last = module.last().unwrap().clone();
    if last == "mod" || path == "lib.rs" || layer == "bin" {
        module.pop();
    }
    if layer == "bin" {
        module.clear();
    }
    let Some((_, may)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("src/{path}: `{layer}` has no layer: give it a line in tests/layers.rs")];
    };
    let all = tokens(text);
    let test_file = path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let scan = Scan::of(&all, module, test_file);
    // A renamed import shows wherever the name is used: once is enough.
    let mut seen = BTreeSet::new();

    for mention in scan.mentions() {
        let line = mention.line;
        match &mention.path {
            Resolved::Here(target) if layer != "bin" => {
                let wrong = match target.first() {
                    None if layer == "lib" => None,
                    None => Some("the whole crate root".to_owned()),
                    Some(first) if *first == layer || may.contains(&first.as_str()) => None,
                    Some(first) if LAYERS.iter().any(|(name, _)| name == first) => Some(format!("{first}/")),
                    Some(first) => match public.get(first) {
                        Some(_) if may.contains(&PUBLIC) => None,
                        Some(from) if *from == layer || may.contains(&from.as_str()) => None,
                        Some(from) => Some(format!("`{first}` of {from}/")),
                        None if layer == "lib" => None,
                        None => Some(format!("`crate::{first}`, of no layer")),
                    },
                };
                if let Some(wrong) = wrong.filter(|wrong| seen.insert(wrong.clone())) {
                    let path = target.join("::");
                    problems.push(format!("{line}: {layer}/ imports {wrong} (crate::{path})"));
                }
            }
            Resolved::Here(_) => {}
            Resolved::Elsewhere(target) => {
                for ban in BANNED.iter().filter(|ban| !(ban.except)(&layer, mention.test)) {
                    if let Some(banned) = ban.paths.iter().find(|banned| mention.names(target, banned)) {
                        problems.push(format!("{line}: {layer}/ names {banned}: {}", ban.why));
                    }
                }
            }
        }
    }
    for window in all.windows(3) {
        let [dot, name, call] = window else { continue };
        if PURE.contains(&layer.as_str()) && dot.is(".") && name.is("elapsed") && call.is("(") {
            problems.push(format!("{}: {layer}/ calls .elapsed(), which reads the clock", name.line));
        }
    }
    if last == "mod" || path == "lib.rs" {
        let items = ["fn", "impl", "struct", "enum", "trait", "static", "macro_rules"];
        for token in all.iter().filter(|t| items.iter().any(|item| t.is(item))) {
            let Token { text, line } = token;
            problems.push(format!("{line}: `{text}` in a {last}.rs, which holds docs and re-exports only"));
        }
    }
    let lines = text.lines().count() - scan.test_lines;
    if !test_file && lines > LONGEST_FILE {
        problems.push(format!("{lines}: more than {LONGEST_FILE} lines: this file is two things"));
    }
    problems.into_iter().map(|problem| format!("src/{path}:{problem}")).collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Token {
    /// A word, `::`, or one character of punctuation.
    text: String,
    line: usize,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Words and punctuation; comments, literals and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let begun = line;
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => i = string_end(&chars, i),
            // 'a' and '\n' are characters, 'a without a second quote is a lifetime.
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            '\'' => {
                i += 1;
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
            }
            c if c.is_alphanumeric() || c == '_' => {
                while at(i).is_alphanumeric() || at(i) == '_' {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = chars[i..].iter().take_while(|c| **c == '#').count();
                if matches!(word.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    let rest: String = chars[i + hashes + 1..].iter().collect();
                    let inside = rest.find(&end).map_or(rest.len(), |found| found + end.len());
                    i += hashes + 1 + rest[..inside].chars().count();
                } else if matches!(word.as_str(), "b" | "c") && at(i) == '"' {
                    i = string_end(&chars, i);
                } else if word == "r" && hashes == 1 {
                    i += 1; // a raw identifier: the word follows
                } else if !c.is_numeric() {
                    tokens.push(Token { text: word, line });
                }
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token { text: "::".into(), line });
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { text: c.into(), line });
                }
                i += 1;
            }
        }
        line = begun + chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Behind the closing quote of a string that opens at `i`.
fn string_end(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// One name that a `use` brings in.
#[derive(Clone, Debug)]
struct Use {
    path: Vec<String>,
    /// What it is called from here on.
    name: String,
    glob: bool,
    public: bool,
    module: Vec<String>,
    line: usize,
    test: bool,
}

/// A path in an expression, a type, an attribute or a macro.
#[derive(Clone, Debug)]
struct Inline {
    path: Vec<String>,
    module: Vec<String>,
    line: usize,
    test: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Resolved {
    /// From the root of this crate.
    Here(Vec<String>),
    Elsewhere(Vec<String>),
}

struct Mention {
    path: Resolved,
    glob: bool,
    line: usize,
    test: bool,
}

impl Mention {
    /// Whether `target` is `banned`, lies in it, or is a glob that brings it in.
    fn names(&self, target: &[String], banned: &str) -> bool {
        let banned: Vec<&str> = banned.split("::").collect();
        let same = target.iter().zip(&banned).all(|(a, b)| a == b || (a == "core" && *b == "std"));
        same && (target.len() >= banned.len() || self.glob)
    }
}

/// The paths of one file.
#[derive(Default)]
struct Scan {
    uses: Vec<Use>,
    inline: Vec<Inline>,
    /// Modules that the file declares, with all their ancestors.
    children: Vec<Vec<String>>,
    /// Lines inside `#[cfg(test)] mod … { … }`.
    test_lines: usize,
}

impl Scan {
    fn of(tokens: &[Token], file_module: Vec<String>, test_file: bool) -> Self {
        let mut scan = Self::default();
        let is = |i: usize, text: &str| tokens.get(i).is_some_and(|t: &Token| t.is(text));
        // Inline modules around the current token: name, the depth inside, whether a test, first line.
        let mut inside: Vec<(String, usize, bool, usize)> = Vec::new();
        let (mut depth, mut i) = (0, 0);
        // Whether `#[cfg(test)]` stands before what comes next.
        let mut for_tests = false;
        while let Some(token) = tokens.get(i) {
            let mut module = file_module.clone();
            module.extend(inside.iter().map(|(name, ..)| name.clone()));
            let test = test_file || for_tests || inside.iter().any(|(_, _, test, _)| *test);
            let line = token.line;
            match token.text.as_str() {
                "{" => (depth, for_tests, i) = (depth + 1, false, i + 1),
                ";" => (for_tests, i) = (false, i + 1),
                "}" => {
                    if inside.last().is_some_and(|(_, at, ..)| *at == depth) {
                        let (_, _, is_test, from) = inside.pop().unwrap();
                        if is_test && !inside.iter().any(|(_, _, test, _)| *test) {
                            scan.test_lines += line - from + 1;
                        }
                    }
                    (depth, for_tests, i) = (depth.saturating_sub(1), false, i + 1);
                }
                "cfg" if is(i + 1, "(") => {
                    let words: Vec<&str> =
                        tokens[i..].iter().map(|t| t.text.as_str()).take_while(|t| *t != "]").collect();
                    for_tests |= words.contains(&"test") && !words.contains(&"not");
                    i += words.len();
                }
                // `pub(crate)` and `pub(in crate::wire)` are no imports.
                "pub" if is(i + 1, "(") => {
                    while i < tokens.len() && !is(i, ")") {
                        i += 1;
                    }
                    i += 1;
                }
                "mod" if is(i + 2, "{") || is(i + 2, ";") => {
                    let name = tokens[i + 1].text.clone();
                    let mut child = module;
                    child.push(name.clone());
                    scan.children.push(child);
                    if is(i + 2, "{") {
                        inside.push((name, depth + 1, for_tests, line));
                        (depth, for_tests) = (depth + 1, false);
                    } else {
                        for_tests = false;
                    }
                    i += 3;
                }
                // `use<'a>` in a bound is no import.
                "use" if !is(i + 1, "<") => {
                    let public = i > 0 && (is(i - 1, "pub") || is(i - 1, ")"));
                    let base = Use { path: vec![], name: String::new(), glob: false, public, module, line, test };
                    i = scan.use_tree(tokens, i + 1, &base);
                }
                _ if token.is_word() || (token.is("::") && tokens.get(i + 1).is_some_and(Token::is_word)) => {
                    let associated = token.is("::") && i > 0 && is(i - 1, ">");
                    let (path, next) = path_at(tokens, i);
                    if path.len() > 1 && !associated {
                        scan.inline.push(Inline { path, module, line, test });
                    }
                    i = next;
                }
                _ => i += 1,
            }
        }
        scan
    }

    /// Reads one tree of a `use`, from `i` on; returns where it ends.
    fn use_tree(&mut self, tokens: &[Token], mut i: usize, base: &Use) -> usize {
        let is = |i: usize, text: &str| tokens.get(i).is_some_and(|t: &Token| t.is(text));
        let mut item = Use { line: tokens.get(i).map_or(base.line, |t| t.line), ..base.clone() };
        loop {
            if is(i, "{") {
                i += 1;
                while i < tokens.len() && !is(i, "}") {
                    i = self.use_tree(tokens, i, &item);
                    if is(i, ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            match tokens.get(i) {
                Some(token) if token.is("*") => {
                    item.glob = true;
                    i += 1;
                }
                Some(token) if token.is("$") => i += 1,
                Some(token) if token.is("::") && item.path.is_empty() => {
                    item.path.push("::".into());
                    i += 1;
                    continue;
                }
                // `{self}` names what stands before the braces.
                Some(token) if token.is("self") && !item.path.is_empty() => i += 1,
                Some(token) => {
                    item.path.push(token.text.clone());
                    i += 1;
                }
                None => return i,
            }
            if is(i, "::") {
                i += 1;
            } else if !is(i.saturating_sub(1), "$") {
                break;
            }
        }
        item.name = item.path.last().cloned().unwrap_or_default();
        if is(i, "as") {
            item.name.clone_from(&tokens[i + 1].text);
            i += 2;
        }
        self.uses.push(item);
        i
    }

    /// Where a path leads, seen from `module`.
    fn resolve(&self, path: &[String], module: &[String]) -> Resolved {
        let mut path = path.to_vec();
        let mut module = module.to_vec();
        // Renames of renames end somewhere; a loop of them does not compile.
        for _ in 0..8 {
            let (first, rest) = path.split_first().expect("paths are not empty");
            match first.as_str() {
                "::" => return Resolved::Elsewhere(rest.to_vec()),
                "crate" => return Resolved::Here(rest.to_vec()),
                "self" => return Resolved::Here([&module[..], rest].concat()),
                "super" => {
                    module.pop();
                    if rest.first().is_some_and(|next| next == "super") {
                        path = rest.to_vec();
                        continue;
                    }
                    return Resolved::Here([&module[..], rest].concat());
                }
                _ => {}
            }
            if self.children.contains(&[&module[..], std::slice::from_ref(first)].concat()) {
                return Resolved::Here([&module[..], &path[..]].concat());
            }
            // An import is no rename of itself.
            let Some(used) = self.uses.iter().find(|u| u.name == *first && !u.glob && u.path != path) else {
                break;
            };
            let outward = used.path.first() == Some(first);
            module.clone_from(&used.module);
            path = [&used.path[..], rest].concat();
            // `use tokio;` and `use net::net;` lead out of the file.
            if outward {
                break;
            }
        }
        Resolved::Elsewhere(path)
    }

    fn mentions(&self) -> Vec<Mention> {
        let mut mentions = Vec::new();
        for used in &self.uses {
            let path = self.resolve(&used.path, &used.module);
            // The crate root under a name of its own would open every layer, and so would a glob of it.
            let root = path == Resolved::Here(vec![]);
            if !root || used.glob || used.name != "crate" {
                mentions.push(Mention { path, glob: used.glob, line: used.line, test: used.test });
            }
        }
        for inline in &self.inline {
            let Inline { line, test, .. } = *inline;
            mentions.push(Mention { path: self.resolve(&inline.path, &inline.module), glob: false, line, test });
            // What a glob of another crate may have brought in.
            for used in self.uses.iter().filter(|u| u.glob) {
                if let Resolved::Elsewhere(base) = self.resolve(&used.path, &used.module) {
                    let path = Resolved::Elsewhere([base, inline.path.clone()].concat());
                    mentions.push(Mention { path, glob: false, line, test });
                }
            }
        }
        mentions
    }
}

/// The path that begins at `i`, and where it ends: `a::b::c`, `::a::b`; generic arguments end it.
fn path_at(tokens: &[Token], mut i: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    if tokens[i].is("::") {
        path.push("::".into());
        i += 1;
    }
    while let Some(word) = tokens.get(i).filter(|t| t.is_word()) {
        path.push(word.text.clone());
        i += 1;
        let goes_on = tokens.get(i).is_some_and(|t| t.is("::")) && tokens.get(i + 1).is_some_and(Token::is_word);
        if !goes_on {
            // `Vec::<T>`: the `::` belongs to what was read.
            i += usize::from(tokens.get(i).is_some_and(|t| t.is("::")));
            break;
        }
        i += 1;
    }
    (path, i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public() -> BTreeMap<String, String> {
        public_names(
            "pub mod mock; mod net; mod wire;\npub use net::{Connector, Tcp};\npub use wire::error_code::ErrorCode;",
        )
    }

    #[test]
    fn planted_violations_are_found() {
        for (path, text, expected) in [
            ("wire/a.rs", "use crate::record::Batch;", "src/wire/a.rs:1: wire/ imports record/"),
            ("wire/a.rs", "\n\nuse crate::{\n    wire::x,\n    record::{self, y},\n};", ":5: wire/ imports record/"),
            ("wire/a.rs", "use crate::error::Error;", "imports error/"),
            ("wire/deep/a.rs", "use super::super::super::net::x;", "imports net/"),
            ("wire/deep/mod.rs", "use super::super::machine::x;", "imports machine/"),
            ("wire/a.rs", "fn f() { let x: Vec<crate::machine::X> = g(); }", "imports machine/"),
            ("wire/a.rs", "fn f() { super::super::machine::g() }", "imports machine/"),
            ("wire/a.rs", "macro_rules! m { () => { $crate::machine::X }; }", "imports machine/"),
            ("wire/a.rs", "mod inner { fn f() { super::super::super::net::g() } }", "imports net/"),
            ("wire/a.rs", "use crate::Tcp;", "imports `Tcp` of net/"),
            ("wire/a.rs", "use crate::Nothing;", "of no layer"),
            ("wire/a.rs", "use crate::*;", "the whole crate root"),
            ("wire/a.rs", "use crate as all; fn f() { all::net::g() }", "imports net/"),
            ("wire/a.rs", "use super::super as all;", "the whole crate root"),
            ("record/a.rs", "pub(crate) use crate::machine::X;", "imports machine/"),
            ("machine/a.rs", "use crate::net::X;", "imports net/"),
            ("machine/a.rs", "use tokio::sync::Notify;", "names tokio"),
            ("machine/a.rs", "#[cfg(test)] mod tests { #[tokio::test] async fn f() {} }", "names tokio"),
            ("machine/a.rs", "use std::time::Instant; fn f() { Instant::now(); }", "names std::time::Instant::now"),
            ("machine/a.rs", "use std::time::{self as t}; fn f() { t::SystemTime::now(); }", "SystemTime::now"),
            ("machine/a.rs", "use std::time::*; fn f() { Instant::now(); }", "names std::time::Instant::now"),
            ("machine/a.rs", "fn f(x: X) { x.started.elapsed(); }", ".elapsed()"),
            ("machine/a.rs", "fn f() { fastrand::u64(..); }", "names fastrand"),
            ("machine/a.rs", "fn f() { ::rand::random(); }", "names rand"),
            ("machine/a.rs", "use std::fs::File;", "names std::fs"),
            ("producer/a.rs", "use crate::consumer::X;", "imports consumer/"),
            ("producer/a.rs", "use crate::{admin, net};", "imports admin/"),
            ("consumer/a.rs", "#[cfg(feature = \"mock\")] use crate::mock::MockCluster;", "imports mock/"),
            ("consumer/a.rs", "use tokio::{sync::Notify, time::sleep};", "names tokio::time"),
            ("consumer/a.rs", "use tokio::task; fn f() { task::spawn(g()); }", "names tokio::task::spawn"),
            ("consumer/a.rs", "use tokio::*;", "names tokio::net"),
            ("admin/a.rs", "fn f() { tokio::spawn(g()); }", "names tokio::spawn"),
            ("admin/a.rs", "use tokio as t; fn f() { t::runtime::Handle::current(); }", "names tokio::runtime"),
            ("net/a.rs", "use crate::producer::X;", "imports producer/"),
            ("net/a.rs", "use kafka_protocol::messages;", "names kafka_protocol"),
            ("mock/a.rs", "use crate::wire::cursor::Reader;", "imports wire/"),
            ("mock/a.rs", "type C = crate::net::Connector;", "imports net/"),
            ("chat/a.rs", "use crate::producer::X;", "imports producer/"),
            ("error.rs", "use crate::net::X;", "imports net/"),
            ("client.rs", "use crate::mock::X;", "imports mock/"),
            ("novel/mod.rs", "", "`novel` has no layer"),
            ("net/mod.rs", "pub fn f() {}", "`fn` in a mod.rs"),
            ("net/mod.rs", "//! Docs.\nimpl X {}", ":2: `impl` in a mod.rs"),
        ] {
            let problems = check(path, text, &public());
            assert!(problems.iter().any(|p| p.contains(expected)), "{path}: {text}\nfound: {problems:?}");
        }
        let long = check("net/a.rs", &"\n".repeat(801), &public());
        assert!(long.iter().any(|p| p.contains("801: more than 800 lines")), "{long:?}");
        assert!(tokens("fn f() { unsafe { g() } }").iter().any(|t| t.is("unsafe")));
    }

    #[test]
    fn what_is_allowed_passes() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "//\n".repeat(900));
        for (path, text) in [
            (
                "wire/a.rs",
                "use super::cursor::Reader;\nuse crate::wire::{api, frame};\npub(in crate::wire) use {a, b};",
            ),
            ("wire/a.rs", "// use crate::net::X;\n/* /* nested */ crate::net */\n/// [`crate::net::X`]\nfn f() {}"),
            ("wire/a.rs", r###"const A: &str = "use crate::net; \" unsafe"; const B: &str = r#"crate::net::"x""#;"###),
            ("wire/a.rs", "fn f<'a>(x: &'a str) -> char { let c = '\"'; let d = '\\''; c } // \"crate::net\""),
            ("wire/a.rs", "mod inner { use super::super::cursor; fn f() { super::g() } }"),
            ("wire/a.rs", "#[cfg(test)] mod tests { use super::*; fn f() { fastrand::Rng::with_seed(1); } }"),
            ("wire/a.rs", "fn f() -> impl Iterator<Item = u8> + use<'_> { <X as Y>::net::<T>(); Vec::<u8>::new() }"),
            ("machine/a.rs", "use crate::{error::Error, record, wire};\nuse std::time::{Duration, Instant};"),
            ("machine/tests.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
            ("machine/a.rs", "#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }"),
            ("net/a.rs", "use tokio::time; fn f() { time::Instant::now(); fastrand::u64(..); tokio::spawn(g()); }"),
            ("producer/a.rs", "use tokio::sync::Notify; use crate::{Connector, ErrorCode, client::Client, net};"),
            ("mock/a.rs", "use tokio::{net, io}; use crate::{Connector, ErrorCode}; use super::log;"),
            ("net/mod.rs", "//! Docs.\nmod connector;\npub use connector::{Address, Tcp as T};"),
            ("wire/a.rs", &tests),
        ] {
            let problems = check(path, text, &public());
            assert!(problems.is_empty(), "{path}: {text}\nfound: {problems:?}");
        }
    }
}
