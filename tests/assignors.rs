//! Assignors in random groups: beside Java's classes, of which they must give the very answers, and beside what every
//! assignment has to be.

#![allow(missing_docs, clippy::print_stdout, reason = "a test that says what it left out")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use groups::{Case, cases, version};
use milena::TopicPartition;
use milena::machine::assignor::subscription::{decode_assignment, encode, encode_assignment};
use milena::machine::assignor::{Assigned, Assignments, Member, Racks};

#[path = "assignors/groups.rs"]
mod groups;

/// Groups, each under four strategies, for as many generations.
const GROUPS: u64 = 600;
const ROUNDS: i32 = 5;

#[test]
fn java_assigns_the_same() {
    let Some(jar) = jar() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("assignors");
    std::fs::create_dir_all(&folder).unwrap();
    let all: Vec<Case> = (0..GROUPS).flat_map(|seed| cases(seed, ROUNDS)).collect();
    assert_eq!(all.len(), 12_000);
    let (asked, answered) = (folder.join("groups"), folder.join("assignments"));
    std::fs::write(&asked, all.iter().map(written).collect::<String>()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java/Assignors.java");
    // What it logs is not wanted; slf4j lies beside the jar.
    let mut java = Command::new("java");
    java.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off").arg("-cp").arg(jar.with_file_name("*"));
    let java = java.arg(source).args([&asked, &answered]).output().unwrap();
    assert!(java.status.success(), "{}", String::from_utf8_lossy(&java.stderr));
    let answers = std::fs::read_to_string(&answered).unwrap();
    let mut answers = answers.lines();

    let mut kinds = BTreeMap::new();
    for (number, case) in all.iter().enumerate() {
        let kind = compare(case, &mut answers)
            .unwrap_or_else(|problem| panic!("group {number}, {}: {problem}\n{}", case.assignor.name(), written(case)));
        *kinds.entry((case.assignor.name().to_owned(), kind)).or_insert(0) += 1;
    }
    let count = |kind: Kind| kinds.iter().filter(|((_, other), _)| *other == kind).map(|(_, n)| n).sum::<i32>();
    let counts = [Kind::Same, Kind::JavaIsWrong, Kind::JavaMistakesNothing].map(count);
    assert_eq!(counts, [11_880, 21, 99], "{kinds:#?}");
}

/// The comparison itself, which otherwise would never be seen to fail. Needs no Java.
#[test]
fn planted_differences_are_found() {
    let of_two = |case: &Case| case.is_clean && case.assigned.len() == 2 && !case.assigned.contains(&Vec::new());
    let case = (0..GROUPS).flat_map(|seed| cases(seed, 1)).find(of_two).unwrap();
    let line = |(member, assigned): (&Member, &Vec<TopicPartition>)| {
        let last = Assigned { partitions: assigned, generation: case.generation };
        let user_data = case.assignor.user_data(Some(last)).map_or_else(|| "-".into(), |data| hex(&data));
        let subscription = encode(&member.subscription, version(member)).unwrap();
        format!("{} {} {user_data}", hex(&encode_assignment(assigned, 3).unwrap()), hex(&subscription))
    };
    let answer: Vec<_> = case.members.iter().zip(&case.assigned).map(line).chain(["end".into()]).collect();
    let answered = |answer: &[String]| compare(&case, &mut answer.iter().map(String::as_str));
    assert_eq!(answered(&answer), Ok(Kind::Same));
    let mut swapped = case.assigned.clone();
    swapped.swap(0, 1);
    let swapped: Vec<_> = case.members.iter().zip(&swapped).map(line).chain(["end".into()]).collect();
    assert!(answered(&swapped).is_err());
    assert!(answered(&["threw java.lang.NullPointerException".into()]).is_err());
    let mut doubled = case.assigned.clone();
    doubled[0] = doubled.concat();
    assert!(check(&case, &doubled).unwrap_err().contains("two owners"));
}

/// Among clean groups, as even as can be: nobody has two more than one who could have one of them.
#[test]
fn sticky_is_balanced() {
    let mut checked = 0;
    for case in (0..GROUPS).flat_map(|seed| cases(seed, ROUNDS)).filter(|case| case.assignor.name() == "sticky") {
        for (more, wants) in case.assigned.iter().zip(&case.members) {
            for (less, member) in case.assigned.iter().zip(&case.members) {
                let could = |p: &&TopicPartition| member.subscription.topics.contains(&p.topic);
                let movable = if more.len() > less.len() + 1 { more.iter().find(could) } else { None };
                assert_eq!(movable, None, "from {} to {}\n{}", wants.id, member.id, written(&case));
                checked += 1;
            }
        }
    }
    assert!(checked > 50_000, "{checked}");
}

/// Where all subscribe alike and racks play no part, nothing moves that could have stayed: everybody keeps what it has,
/// up to its share.
#[test]
fn no_partition_moves_without_need() {
    let mut checked = 0;
    for case in (0..GROUPS).flat_map(|seed| cases(seed, ROUNDS)) {
        let first = &case.members[0].subscription.topics;
        let is_alike = case.members.iter().all(|member| member.subscription.topics == *first);
        let has_racks = case.members.iter().any(|member| member.subscription.rack.is_some());
        if case.assignor.name() != "cooperative-sticky" || !case.is_clean || has_racks || !is_alike {
            continue;
        }
        let there_is = |p: &&TopicPartition| case.topics.contains_key(&p.topic) && first.contains(&p.topic);
        let owned = case.members.iter().map(|member| member.subscription.owned.iter().filter(there_is).count());
        let owned: Vec<_> = owned.collect();
        let all: usize = first.iter().filter_map(|topic| case.topics.get(topic)).map(Vec::len).sum();
        let (least, extras) = (all / owned.len(), all % owned.len());
        let over = owned.iter().filter(|owned| **owned > least).count();
        let can_stay = owned.iter().map(|owned| (*owned).min(least)).sum::<usize>() + over.min(extras);
        let kept = |(assigned, member): (&Vec<TopicPartition>, &Member)| {
            assigned.iter().filter(|partition| member.subscription.owned.contains(partition)).count()
        };
        let stayed: usize = case.assigned.iter().zip(&case.members).map(kept).sum();
        assert_eq!(stayed, can_stay, "{}", written(&case));
        checked += 1;
    }
    assert!(checked > 500, "{checked}");
}

/// How an answer of ours stands beside Java's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Same,
    /// Java gave up, or gave what is no assignment.
    JavaIsWrong,
    /// Java took who subscribes to nothing for one who wants what all others want.
    JavaMistakesNothing,
}

fn compare<'a>(case: &Case, answers: &mut impl Iterator<Item = &'a str>) -> Result<Kind, String> {
    check(case, &case.assigned)?;
    // By topic, as it travels.
    let travel = |assigned: &Vec<_>| decode_assignment(&encode_assignment(assigned, 3).unwrap()).unwrap();
    let ours: Assignments = case.assigned.iter().map(travel).collect();
    let mut theirs = Vec::new();
    for member in &case.members {
        let line = answers.next().ok_or("no answer")?;
        if line.starts_with("threw") {
            return if case.is_clean { Err(line.into()) } else { Ok(Kind::JavaIsWrong) };
        }
        let words: Vec<_> = line.split(' ').map(unhex).collect();
        let [Some(assignment), Some(subscription), user_data] = &*words else { return Err(line.into()) };
        let assigned = decode_assignment(assignment).map_err(|error| error.to_string())?;
        // Bytes: of assignments, of subscriptions, and of what the strategy adds to the next one.
        if encode_assignment(&assigned, 3).as_ref() != Ok(assignment) {
            return Err(format!("assignment {assigned:?}"));
        }
        if encode(&member.subscription, version(member)).as_ref() != Ok(subscription) {
            return Err(format!("subscription {member:?}"));
        }
        let last = Assigned { partitions: &assigned, generation: case.generation };
        if case.assignor.user_data(Some(last)) != *user_data {
            return Err(format!("user data after {assigned:?}"));
        }
        theirs.push(assigned);
    }
    assert_eq!(answers.next(), Some("end"));
    if ours == theirs {
        return Ok(Kind::Same);
    }
    if case.members.iter().any(|member| member.subscription.topics.is_empty()) {
        return Ok(Kind::JavaMistakesNothing);
    }
    match check(case, &theirs) {
        Err(_) if !case.is_clean => Ok(Kind::JavaIsWrong),
        wrong => Err(format!("ours {ours:?}\njava {theirs:?}\n(which is {wrong:?})")),
    }
}

/// What every assignment must be.
fn check(case: &Case, assignments: &Assignments) -> Result<(), String> {
    let mut owners = BTreeMap::new();
    for (at, assigned) in assignments.iter().enumerate() {
        for partition in assigned {
            let count = case.topics.get(&partition.topic).map_or(0, Vec::len);
            if partition.partition < 0 || partition.partition as usize >= count {
                return Err(format!("{partition} is not there"));
            }
            if !case.members[at].subscription.topics.contains(&partition.topic) {
                return Err(format!("{partition} is not wanted"));
            }
            if owners.insert(partition.clone(), at).is_some() {
                return Err(format!("{partition} has two owners"));
            }
        }
    }
    let wanted: BTreeSet<_> = case.members.iter().flat_map(|member| &member.subscription.topics).collect();
    for (topic, partitions) in case.topics.iter().filter(|(topic, _)| wanted.contains(topic)) {
        for partition in (0..partitions.len()).map(|index| TopicPartition::new(topic.clone(), index as i32)) {
            let has = |member: &&Member| member.subscription.owned.contains(&partition);
            let owner = case.members.iter().position(|member| has(&member));
            match (owners.get(&partition), owner) {
                (None, None) => return Err(format!("{partition} has no owner")),
                (Some(&at), Some(_)) if !has(&&case.members[at]) => {
                    return Err(format!("{partition} is not free yet"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn written(case: &Case) -> String {
    let mut text = format!("group {} {}\n", case.assignor.name(), case.generation);
    for (name, partitions) in &case.topics {
        let racks =
            |racks: &Racks| racks.iter().map(|rack| format!("r{}", hex(rack.as_bytes()))).collect::<Vec<_>>().join(",");
        let racks = partitions.iter().map(|of| if of.is_empty() { "-".into() } else { racks(of) });
        writeln!(text, "topic {} {}", hex(name.as_bytes()), racks.collect::<Vec<_>>().join(";")).unwrap();
    }
    for member in &case.members {
        let instance = member.instance_id.as_ref().map_or_else(|| "-".into(), |id| hex(id.as_bytes()));
        let bytes = encode(&member.subscription, version(member)).unwrap();
        writeln!(text, "member {} {instance} {}", hex(member.id.as_bytes()), hex(&bytes)).unwrap();
    }
    text + "end\n"
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Option<Bytes> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (text != "-").then(|| (0..text.len()).step_by(2).map(|at| digit(at).unwrap()).collect())
}

/// Of Kafka 4.3.1, as `scripts/kafka` keeps it. What needs it is left out without it, unless `MILENA_REQUIRE_JARS` says
/// that it is needed.
fn jar() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("MILENA_KAFKA_JARS")
        .or_else(|| set("MILENA_KAFKA_CACHE"))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("milena-kafka")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/milena-kafka")));
    let jar = cache.unwrap_or_default().join("4.3.1/jars/kafka-clients-4.3.1.jar");
    let modules = Command::new("java").arg("--list-modules").output();
    let has_jdk = modules.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("jdk.compiler"));
    if jar.is_file() && has_jdk {
        return Some(jar);
    }
    let why = format!("needs {} (scripts/kafka fetch --version 4.3.1) and a JDK 17 as `java`", jar.display());
    assert!(env::var("MILENA_REQUIRE_JARS").as_deref() != Ok("1"), "{why}");
    println!("LEFT OUT: the comparison with Java's assignors {why}");
    None
}
