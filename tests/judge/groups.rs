//! What was promised to the members of a group, and whether a history kept it.
//!
//! It knows nothing of clients or clusters: a history is plain data, wherever it was recorded. All moments are of one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Since whatever the history counts from.
pub type Moment = Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Said by the member.
    Assigned(Vec<i32>),
    Revoked(Vec<i32>),
    Lost(Vec<i32>),
    /// It was dealt with.
    Record {
        partition: i32,
        offset: i64,
    },
    /// A commit was waited for so long.
    Waited(Duration),
    /// An error that is no answer to being stopped or killed.
    Error(String),
    Left,
    /// Done to it, and said by who did it.
    Killed,
    /// Or the group has given it up, and it has not heard of that.
    Stopped,
    Resumed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Moment,
    pub member: usize,
    pub what: What,
}

/// As the coordinator wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub at: Moment,
    pub partition: i32,
    pub offset: i64,
}

/// Of one group, in the order of their moments; what is in the log; and what was allowed.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub events: Vec<Event>,
    pub commits: Vec<Committed>,
    /// How many records each partition has.
    pub ends: BTreeMap<i32, i64>,
    /// Members say what they have; otherwise only what they read is known of them.
    pub tells_ownership: bool,
    /// Nobody was killed or stopped: nothing may be dealt with twice.
    pub is_clean: bool,
    /// What clocks of log and members may differ by.
    pub blur: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub records: usize,
    pub commits: usize,
    pub errors: usize,
    /// Dealt with again, by whomever.
    pub again: usize,
    /// Of these, by a member that was stopped, of what it had when that began.
    pub after_waking: usize,
    pub unread: usize,
    pub two_owners: usize,
    /// Dealt with by who says that it is not its own.
    pub not_owned: usize,
    /// Left out or read again by one member while it had the partition.
    pub out_of_order: usize,
    pub commits_back: usize,
    /// Committed, and nobody had dealt with it by then.
    pub commits_ahead: usize,
    /// In words, the first ones.
    pub problems: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    fn count(&mut self, counter: impl Fn(&mut Self) -> &mut usize, problem: String) {
        *counter(self) += 1;
        self.tell(problem);
    }

    /// The first ones.
    fn tell(&mut self, problem: String) {
        if self.problems.len() < MOST_WORDS {
            self.problems.push(problem);
        }
    }
}

const MOST_WORDS: usize = 20;

/// What a member has by its own account.
#[derive(Default)]
struct Own {
    partitions: BTreeSet<i32>,
    /// What it had when it was stopped, or has taken since then, and has not given up by itself: others may have it by now.
    asleep: BTreeSet<i32>,
    /// Stopped, and not resumed.
    is_away: bool,
    /// Where each of its partitions goes on.
    next: BTreeMap<i32, i64>,
}

pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let mut members: BTreeMap<usize, Own> = BTreeMap::new();
    // By partition and offset: when it was first dealt with.
    let mut first: BTreeMap<(i32, i64), Moment> = BTreeMap::new();
    for Event { at, member, what } in &history.events {
        match what {
            What::Assigned(added) => {
                let is_away = members.get(member).is_some_and(|own| own.is_away);
                for partition in added {
                    let owner = members.iter().find(|(_, own)| own.partitions.contains(partition)).map(|(id, _)| *id);
                    if let Some(owner) = owner.filter(|_| !is_away) {
                        // P10.
                        let problem =
                            format!("two owners: {partition} is given to {member}, and still {owner}'s, {at:?}");
                        verdict.count(|v| &mut v.two_owners, problem);
                    }
                    let own = members.entry(*member).or_default();
                    own.asleep.remove(partition);
                    own.next.remove(partition);
                    let takes = if is_away { &mut own.asleep } else { &mut own.partitions };
                    takes.insert(*partition);
                }
            }
            What::Revoked(gone) | What::Lost(gone) => {
                let own = members.entry(*member).or_default();
                own.partitions.retain(|partition| !gone.contains(partition));
                own.asleep.retain(|partition| !gone.contains(partition));
            }
            What::Left | What::Killed => drop(members.remove(member)),
            What::Stopped => {
                let own = members.entry(*member).or_default();
                own.asleep.append(&mut own.partitions);
                own.is_away = true;
            }
            What::Resumed => members.entry(*member).or_default().is_away = false,
            What::Waited(_) => {}
            What::Error(_) => verdict.errors += 1,
            What::Record { partition, offset } => {
                verdict.records += 1;
                let about = format!("{partition}@{offset} by {member}, {at:?}");
                let is_again = first.contains_key(&(*partition, *offset));
                first.entry((*partition, *offset)).or_insert(*at);
                if is_again {
                    verdict.again += 1;
                    if history.is_clean {
                        verdict.tell(format!("dealt with twice: {about}"));
                    }
                }
                if !history.tells_ownership {
                    continue;
                }
                let own = members.entry(*member).or_default();
                if own.asleep.contains(partition) {
                    verdict.after_waking += usize::from(is_again);
                } else if !own.partitions.contains(partition) {
                    verdict.count(|v| &mut v.not_owned, format!("not its own: {about}"));
                }
                let next = own.next.insert(*partition, offset + 1);
                if let Some(next) = next.filter(|next| next != offset) {
                    verdict.count(|v| &mut v.out_of_order, format!("{next} was next: {about}"));
                }
            }
        }
    }
    for (partition, end) in &history.ends {
        let missing: Vec<_> = (0..*end).filter(|offset| !first.contains_key(&(*partition, *offset))).collect();
        if let (Some(from), Some(to)) = (missing.first(), missing.last()) {
            let problem = format!("unread: {} of partition {partition}, from {from} to {to} of {end}", missing.len());
            verdict.count(|v| &mut v.unread, problem);
            verdict.unread += missing.len() - 1;
        }
    }
    judge_commits(&mut verdict, history, &first);
    verdict
}

/// P7: further and further, and never beyond what was dealt with.
fn judge_commits(verdict: &mut Verdict, history: &History, first: &BTreeMap<(i32, i64), Moment>) {
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    for Committed { at, partition, offset } in &history.commits {
        verdict.commits += 1;
        let before = last.insert(*partition, *offset);
        if let Some(before) = before.filter(|before| before > offset) {
            let problem = format!("a commit went back: {partition} from {before} to {offset}, {at:?}");
            verdict.count(|v| &mut v.commits_back, problem);
        }
        let dealt_with = first.get(&(*partition, offset - 1));
        if *offset > 0 && dealt_with.is_none_or(|dealt_with| *dealt_with > *at + history.blur) {
            let problem = format!("committed ahead: {partition}@{offset}, {at:?}, dealt with {dealt_with:?}");
            verdict.count(|v| &mut v.commits_ahead, problem);
        }
    }
}

/// For each partition that the member had read last, from then on to the first record by another one: how long.
/// `None`: nobody went on there.
pub fn takeovers(events: &[Event], member: usize, at: Moment) -> BTreeMap<i32, Option<Duration>> {
    let mut last: BTreeMap<i32, usize> = BTreeMap::new();
    let mut taken: BTreeMap<i32, Option<Duration>> = BTreeMap::new();
    let mut is_after = false;
    for event in events {
        if event.at >= at && !is_after {
            is_after = true;
            taken.extend(last.iter().filter(|(_, owner)| **owner == member).map(|(partition, _)| (*partition, None)));
        }
        let What::Record { partition, .. } = event.what else { continue };
        last.insert(partition, event.member);
        if let (true, Some(took @ None)) = (is_after && event.member != member, taken.get_mut(&partition)) {
            *took = Some(event.at - at);
        }
    }
    taken
}

/// By partition and offset: since when a record is in the log.
pub type Arrivals = BTreeMap<(i32, i64), Moment>;

/// The longest time within this window in which a partition's next record was in the log and was not dealt with; of those
/// partitions alone that one member had from the last record before it to the first one behind it. By partition.
pub fn gaps(events: &[Event], arrivals: &Arrivals, from: Moment, to: Moment) -> BTreeMap<i32, Duration> {
    let mut kept: BTreeMap<i32, Option<Kept>> = BTreeMap::new();
    let mut is_over: BTreeSet<i32> = BTreeSet::new();
    let waited = |partition, kept: Kept, until: Moment| {
        let Some(arrived) = arrivals.get(&(partition, kept.next)) else { return Duration::ZERO };
        until.min(to).saturating_sub(kept.since.max(*arrived).max(from))
    };
    for event in events {
        let What::Record { partition, offset } = event.what else { continue };
        if is_over.contains(&partition) {
            continue;
        }
        let this = Kept { owner: event.member, since: event.at, next: offset + 1, longest: Duration::ZERO };
        if event.at < from {
            kept.insert(partition, Some(this));
        } else if let Some(entry) = kept.get_mut(&partition) {
            *entry = entry
                .filter(|before| before.owner == event.member)
                .map(|before| Kept { longest: before.longest.max(waited(partition, before, event.at)), ..this });
        }
        if event.at >= to {
            is_over.insert(partition);
        }
    }
    let told = kept.iter().filter_map(|(partition, kept)| {
        let kept = (*kept)?;
        let to_the_end = if is_over.contains(partition) { Duration::ZERO } else { waited(*partition, kept, to) };
        Some((*partition, kept.longest.max(to_the_end)))
    });
    told.collect()
}

/// A partition that has not moved: what it came to.
#[derive(Clone, Copy)]
struct Kept {
    owner: usize,
    /// When its last record was dealt with,
    since: Moment,
    /// and which is next.
    next: i64,
    longest: Duration,
}
