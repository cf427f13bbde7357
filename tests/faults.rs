//! `tests/faults.md` names a test for every fault, and each of them is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Faults of transactions, which are not written yet.
const LATER: [usize; 3] = [19, 21, 22];

/// The names of a file's tests: functions below an attribute that ends in `test`.
fn tests_of(path: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    let (mut names, mut is_test) = (Vec::new(), false);
    for line in text.lines().map(str::trim) {
        let attribute = line.strip_prefix("#[").and_then(|line| line.split(['(', ']']).next());
        is_test |= attribute.is_some_and(|name| name == "test" || name == "tokio::test");
        if let Some((_, name)) = line.split_once("fn ").filter(|_| is_test && !line.starts_with("//")) {
            names.push(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            is_test = false;
        }
    }
    names
}

/// By row: the files that it names, each with its tests.
fn rows(table: &str) -> BTreeMap<usize, Vec<(String, Vec<String>)>> {
    let mut rows = BTreeMap::new();
    for line in table.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(row) = cells.get(1).and_then(|cell| cell.parse().ok()) else { continue };
        let mut files: Vec<(String, Vec<String>)> = Vec::new();
        for quoted in cells[3].split('`').skip(1).step_by(2) {
            match files.last_mut() {
                _ if quoted.ends_with(".rs") => files.push((quoted.into(), Vec::new())),
                Some((_, tests)) => tests.push(quoted.into()),
                None => panic!("row {row}: `{quoted}` has no file"),
            }
        }
        assert!(rows.insert(row, files).is_none(), "row {row} twice");
    }
    rows
}

#[test]
fn every_fault_has_a_test_that_exists() {
    let rows = rows(include_str!("faults.md"));
    assert!(rows.keys().copied().eq(1..=30), "{:?}", rows.keys());
    let mut wrong = Vec::new();
    for (row, files) in rows {
        if files.is_empty() != LATER.contains(&row) {
            wrong.push(format!("row {row}: {} files", files.len()));
        }
        for (path, named) in files {
            let known = tests_of(&path);
            let missing = named.iter().filter(|name| !known.contains(name));
            wrong.extend(missing.map(|name| format!("row {row}: there is no test `{name}` in {path}")));
            if named.is_empty() {
                wrong.push(format!("row {row}: no test of {path} is named"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What runs on real clusters: a test that the integration suite lists, or a mode of `scripts/chaos`, whose words are all among
/// those that it takes.
#[test]
fn half_of_the_faults_are_shown_on_real_clusters() {
    let (suite, chaos) = (include_str!("integration/main.rs"), include_str!("../scripts/chaos"));
    // The patterns of its `case`: a | b | c) …
    let patterns = chaos.lines().filter_map(|line| line.split_once(')')).map(|(patterns, _)| patterns);
    let taken: BTreeSet<_> = patterns.flat_map(|patterns| patterns.split('|')).map(str::trim).collect();
    let mut rows = 0;
    for line in include_str!("faults.md").lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let Some(row) = cells.get(1).and_then(|cell| cell.parse::<usize>().ok()) else { continue };
        let named: Vec<_> = cells[4].split('`').skip(1).step_by(2).collect();
        rows += usize::from(!named.is_empty());
        for name in named {
            let is_there = match name.strip_prefix("scripts/chaos ") {
                Some(mode) => mode.split(' ').all(|word| taken.contains(word)),
                None => suite.lines().any(|line| line.trim() == name),
            };
            assert!(is_there, "row {row}: there is no {name}");
        }
    }
    assert!(rows >= 15, "{rows} rows");
}

/// It notices what is missing.
#[test]
fn tests_are_told_from_what_is_none() {
    let own = tests_of("tests/faults.rs");
    assert_eq!(
        own,
        [
            "every_fault_has_a_test_that_exists",
            "half_of_the_faults_are_shown_on_real_clusters",
            "tests_are_told_from_what_is_none",
        ]
    );
    assert_eq!(tests_of("tests/none.rs"), [""; 0]);
    let table = "| 3 | a fault | `tests/a.rs`: `one` `two` · `src/b.rs`: `three` |";
    let files = [("tests/a.rs", vec!["one", "two"]), ("src/b.rs", vec!["three"])];
    let files = files.map(|(file, tests)| (file.to_string(), tests.into_iter().map(String::from).collect()));
    assert_eq!(rows(table), [(3, files.to_vec())].into());
}
