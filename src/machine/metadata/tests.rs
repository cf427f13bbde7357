//! Histories of the picture of the cluster, on a clock that the test moves.
#![expect(clippy::disallowed_methods, reason = "there is no other way to make the first `Instant`")]

use std::collections::BTreeSet;

use super::*;
use crate::wire::cluster::metadata::MetadataResponseBroker;
use crate::wire::leader::produce::NodeEndpoint;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const MAX_AGE: Duration = ms(300_000);
const HEDGE: Duration = ms(500);
/// Jitter of exactly one: delays as they are configured.
const MIDDLE: u64 = 1 << 63;

struct Rig {
    now: Instant,
    machine: Metadata,
}

impl Rig {
    /// With `seeds` bootstrap addresses, and nothing known.
    fn new(seeds: usize) -> Self {
        let config =
            Config { max_age: MAX_AGE, retry_backoff: ms(100), retry_backoff_max: ms(1000), hedge_after: HEDGE, seeds };
        let now = Instant::now();
        Self { now, machine: Metadata::new(now, config, 0) }
    }

    /// With brokers 1 to `brokers` known, and `topics` wanted.
    fn knowing(seeds: usize, brokers: i32, topics: &[&str]) -> Self {
        let mut rig = Self::new(seeds);
        topics.iter().for_each(|name| rig.want(name, false));
        let query = rig.ask();
        let topics = topics.iter().map(|name| topic(name, &[(1, 0)]));
        rig.answer(&query, &response(brokers, topics));
        rig
    }

    fn want(&mut self, topic: &str, auto_create: bool) {
        self.machine.want(self.now, &topic.into(), auto_create);
    }

    fn refresh(&mut self) {
        self.machine.refresh(self.now);
    }

    fn poll(&mut self) -> Option<Query> {
        let query = self.machine.poll_query(self.now);
        let due = self.machine.poll_timeout();
        assert!(query.is_some() || due.is_none_or(|at| at > self.now), "due, and nothing is asked");
        query
    }

    /// The next question, waiting for it.
    fn ask(&mut self) -> Query {
        if let Some(due) = self.machine.poll_timeout() {
            self.now = self.now.max(due);
        }
        self.poll().expect("nothing is ever asked")
    }

    fn wait(&mut self, after: Duration) {
        self.now += after;
    }

    fn answer(&mut self, query: &Query, response: &MetadataResponse) {
        self.machine.handle_answer(self.now, query.id, response, MIDDLE);
    }

    fn fail(&mut self, query: &Query) {
        self.machine.handle_failure(self.now, query.id, MIDDLE);
    }

    /// How long until the next question.
    fn until_due(&self) -> Option<Duration> {
        self.machine.poll_timeout().map(|due| due.saturating_duration_since(self.now))
    }

    fn topic(&self, name: &str) -> &Topic {
        &self.machine.cluster().topics[name]
    }

    /// Leader and epoch of each partition; leader -1 is none.
    fn leaders(&self, name: &str) -> Vec<(i32, i32)> {
        let partitions = self.topic(name).partitions.iter();
        partitions.map(|partition| (partition.leader.unwrap_or(-1), partition.leader_epoch)).collect()
    }
}

fn response(brokers: i32, topics: impl IntoIterator<Item = MetadataResponseTopic>) -> MetadataResponse {
    let broker =
        |node_id| MetadataResponseBroker { node_id, host: "broker".into(), port: 9000 + node_id, ..Default::default() };
    MetadataResponse {
        brokers: (1..=brokers).map(broker).collect(),
        controller_id: 1,
        cluster_id: Some("kafka".into()),
        topics: topics.into_iter().collect(),
        ..Default::default()
    }
}

/// A topic by the leader and epoch of its partitions.
fn topic(name: &str, partitions: &[(i32, i32)]) -> MetadataResponseTopic {
    let partition = |(index, &(leader_id, leader_epoch)): (usize, &(i32, i32))| MetadataResponsePartition {
        partition_index: index as i32,
        leader_id,
        leader_epoch,
        ..Default::default()
    };
    MetadataResponseTopic {
        name: Some(name.into()),
        partitions: partitions.iter().enumerate().map(partition).collect(),
        ..Default::default()
    }
}

fn refused(name: &str, error_code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code, ..topic(name, &[]) }
}

fn names(query: &Query) -> Vec<&str> {
    query.request.topics.iter().flatten().map(|topic| topic.name.as_deref().unwrap()).collect()
}

#[test]
fn the_first_question_goes_to_a_seed_at_once() {
    let mut rig = Rig::new(3);
    let query = rig.poll().unwrap();
    assert_eq!((query.target, names(&query)), (Target::Seed(0), vec![]));
    assert!(!query.request.allow_auto_topic_creation);
    rig.answer(&query, &response(2, []));
    let cluster = rig.machine.cluster();
    assert_eq!((cluster.id.as_deref(), cluster.controller, cluster.answers), (Some("kafka"), Some(1), 1));
    assert_eq!((cluster.brokers[&2].port, &*cluster.brokers[&2].host), (9002, "broker"));
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

#[test]
fn questions_go_around() {
    let mut rig = Rig::knowing(1, 3, &[]);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let query = rig.ask();
        rig.answer(&query, &response(3, []));
        asked.push(query.target);
    }
    assert_eq!(asked[..3].iter().map(|target| format!("{target:?}")).collect::<BTreeSet<_>>().len(), 3, "{asked:?}");
    assert_eq!(asked[..3], asked[3..]);
}

/// Rule 79: a hung broker does not keep the client ignorant, and is not asked a second time meanwhile.
#[test]
fn a_question_that_stays_open_is_put_to_others() {
    let mut rig = Rig::knowing(1, 5, &[]);
    let first = rig.ask();
    rig.wait(HEDGE - ms(1));
    assert!(rig.poll().is_none());
    rig.wait(ms(1));
    let second = rig.poll().unwrap();
    assert!(rig.poll().is_none());
    rig.wait(HEDGE);
    let third = rig.poll().unwrap();
    let targets: Vec<_> = [&first, &second, &third].iter().map(|query| query.target).collect();
    assert!(targets[0] != targets[1] && targets[1] != targets[2] && targets[0] != targets[2], "{targets:?}");
    // Three at a time are enough.
    assert_eq!(rig.until_due(), None);
    rig.wait(HEDGE * 100);
    assert!(rig.poll().is_none());
    rig.answer(&second, &response(5, []));
    assert_eq!(rig.until_due(), Some(MAX_AGE));
    // The others' answers are news and change no schedule; their failures change nothing.
    rig.wait(ms(50));
    rig.answer(&first, &response(4, []));
    rig.fail(&third);
    assert_eq!((rig.machine.cluster().brokers.len(), rig.until_due()), (4, Some(MAX_AGE - ms(50))));
    assert!(!rig.machine.is_lost());
}

#[test]
fn one_broker_alone_gets_no_competition_from_itself() {
    let mut rig = Rig::knowing(1, 1, &[]);
    rig.ask();
    assert_eq!(rig.until_due(), None);
}

#[test]
fn a_failed_question_goes_to_the_next_at_once_and_a_failed_round_is_followed_by_a_pause() {
    let mut rig = Rig::new(3);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let mut asked = BTreeSet::new();
        for nth in 0..3 {
            assert_eq!(rig.machine.is_lost(), !pauses.is_empty());
            let query = rig.poll().unwrap_or_else(|| panic!("question {nth} is not asked at once"));
            asked.insert(format!("{:?}", query.target));
            rig.fail(&query);
        }
        assert_eq!(asked.len(), 3, "each seed once in a round: {asked:?}");
        assert!(rig.machine.is_lost());
        let pause = rig.until_due().unwrap();
        rig.wait(pause);
        pauses.push(pause.as_millis());
    }
    assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000, 1000]);
    // An answer ends it all.
    let query = rig.poll().unwrap();
    rig.answer(&query, &response(1, []));
    assert!(!rig.machine.is_lost());
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

/// KIP-899: addresses may all have changed, so the seeds are asked again once every known broker failed.
#[test]
fn the_seeds_are_asked_when_all_brokers_failed() {
    for rotation in 0..4 {
        let mut rig = Rig::knowing(2, 3, &[]);
        rig.machine.rotation += rotation;
        for _ in 0..2 {
            let mut asked = Vec::new();
            for _ in 0..5 {
                let query = rig.ask();
                asked.push(query.target);
                rig.fail(&query);
            }
            assert!(rig.machine.is_lost());
            assert!(asked[..3].iter().all(|target| matches!(target, Target::Broker(_))), "{asked:?}");
            assert!(asked[3..].iter().all(|target| matches!(target, Target::Seed(_))), "{asked:?}");
            asked.sort_by_key(|target| format!("{target:?}"));
            asked.dedup();
            assert_eq!(asked.len(), 5);
        }
    }
}

#[test]
fn an_answer_without_brokers_or_with_an_error_is_a_failure() {
    let bad = [
        response(0, []),
        MetadataResponse { error_code: ErrorCode::REBOOTSTRAP_REQUIRED, ..response(3, []) },
        response(0, [topic("t", &[(1, 9)])]),
    ];
    for bad in bad {
        let mut rig = Rig::knowing(1, 2, &["t"]);
        let before = Arc::clone(rig.machine.cluster());
        for _ in 0..2 {
            let query = rig.ask();
            rig.answer(&query, &bad);
        }
        assert_eq!(rig.machine.cluster(), &before);
        assert!(matches!(rig.ask().target, Target::Seed(_)));
    }
}

/// Rule 43.
#[test]
fn leader_epochs_do_not_go_back() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    let ask = |rig: &mut Rig, partitions: &[(i32, i32)]| {
        rig.refresh();
        let query = rig.ask();
        rig.answer(&query, &response(3, [topic("t", partitions)]));
        rig.leaders("t")
    };
    assert_eq!(ask(&mut rig, &[(2, 7), (1, 4)]), [(2, 7), (1, 4)]);
    // Partition by partition: one is stale, the other is news.
    assert_eq!(ask(&mut rig, &[(1, 6), (3, 5)]), [(2, 7), (3, 5)]);
    assert_eq!(rig.until_due(), Some(ms(100)), "worth asking again soon");
    assert_eq!(ask(&mut rig, &[(2, 7), (3, 5)]), [(2, 7), (3, 5)]);
    assert_eq!(rig.until_due(), Some(MAX_AGE));
    // Four repeats in a row are a stale broker, the fifth is a topic that was made anew.
    for _ in 0..4 {
        assert_eq!(ask(&mut rig, &[(1, 0), (1, 0)]), [(2, 7), (3, 5)]);
    }
    assert_eq!(ask(&mut rig, &[(1, 0), (1, 0)]), [(1, 0), (1, 0)]);
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

/// Rule 78, KIP-951: one leader and one broker, if they are news.
#[test]
fn a_hint_changes_one_leader_and_one_broker_alone() {
    let mut rig = Rig::knowing(1, 2, &["t", "u"]);
    let endpoint =
        |node_id, host: &str| Some(NodeEndpoint { node_id, host: host.into(), port: 9999, ..Default::default() });
    let hint = |topic: &str, leader, leader_epoch, endpoint| Hint {
        topic: topic.into(),
        topic_id: Uuid::default(),
        partition: 0,
        leader,
        leader_epoch,
        endpoint,
    };
    let before = Arc::clone(rig.machine.cluster());
    for old in
        [hint("t", 2, 0, None), hint("missing", 2, 5, None), hint("t", 9, 5, None), hint("t", 9, 5, endpoint(9, ""))]
    {
        assert!(!rig.machine.handle_hint(&old), "{old:?}");
    }
    let other = Hint { topic_id: Uuid([3; 16]), ..hint("t", 2, 5, None) };
    assert_eq!(rig.machine.handle_hint(&other), before.topics["t"].id.is_zero());
    assert!(rig.machine.handle_hint(&hint("t", 9, 6, endpoint(9, "new"))));
    assert_eq!((rig.leaders("t"), rig.leaders("u")), (vec![(9, 6)], vec![(1, 0)]));
    let after = Arc::clone(rig.machine.cluster());
    assert_eq!(after.brokers.len(), 3);
    assert_eq!((&*after.brokers[&9].host, after.brokers[&9].port), ("new", 9999));
    assert_eq!((&after.brokers[&1], after.answers), (&before.brokers[&1], before.answers));
    assert!(!rig.machine.handle_hint(&hint("t", 2, 5, None)), "an older one, late");
    // An answer of a broker that lags does not undo it.
    rig.refresh();
    let query = rig.ask();
    rig.answer(&query, &response(2, [topic("t", &[(1, 5)])]));
    assert_eq!(rig.leaders("t"), [(9, 6)]);
}

/// Rule 43: without an epoch a truncation goes unseen, so "unknown" never replaces what is known.
#[test]
fn an_epoch_of_minus_one_is_never_accepted_for_a_known_one() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    for _ in 0..50 {
        rig.refresh();
        let query = rig.ask();
        rig.answer(&query, &response(3, [topic("t", &[(-1, -1)])]));
        assert_eq!(rig.leaders("t"), [(1, 0)]);
        assert!(rig.until_due().unwrap() <= ms(1000), "and it is asked for again");
    }
    // Brokers that know no epochs at all are another thing.
    rig.want("old", false);
    let query = rig.ask();
    rig.answer(&query, &response(3, [topic("old", &[(1, -1)])]));
    rig.refresh();
    let query = rig.ask();
    rig.answer(&query, &response(3, [topic("old", &[(2, -1)])]));
    assert_eq!(rig.leaders("old"), [(2, -1)]);
}

/// A leaderless window with an epoch is believed, and asked about again soon.
#[test]
fn a_partition_without_a_leader_is_trouble() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    rig.refresh();
    let query = rig.ask();
    rig.answer(&query, &response(3, [topic("t", &[(-1, 1)])]));
    assert_eq!((rig.leaders("t"), rig.until_due()), (vec![(-1, 1)], Some(ms(100))));
    assert_eq!(rig.machine.cluster().leader("t", 0), None);
}

/// Rule 14.
#[test]
fn a_lagging_answer_loses_no_partition_and_no_topic() {
    let mut rig = Rig::knowing(1, 3, &["t", "u"]);
    let next = |rig: &mut Rig, topics: &[MetadataResponseTopic]| {
        rig.refresh();
        let query = rig.ask();
        rig.answer(&query, &response(3, topics.iter().cloned()));
    };
    next(&mut rig, &[topic("t", &[(1, 0), (2, 0), (3, 0)]), topic("u", &[(1, 0)])]);
    next(&mut rig, &[topic("t", &[(3, 1)])]);
    assert_eq!(rig.leaders("t"), [(3, 1), (2, 0), (3, 0)]);
    assert_eq!(rig.leaders("u"), [(1, 0)]);
    // An error keeps the partitions of the last answer without one, and says so.
    next(&mut rig, &[refused("t", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(rig.leaders("t").len(), 3);
    assert_eq!(rig.topic("t").error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    // Partitions that are not 0 to n-1 are no picture of a topic.
    for indexes in [&[0, 2][..], &[1], &[0, 0], &[-1, 0]] {
        let mut broken = topic("t", &vec![(1, 50); indexes.len()]);
        for (partition, index) in broken.partitions.iter_mut().zip(indexes) {
            partition.partition_index = *index;
        }
        next(&mut rig, &[broken]);
        assert_eq!(rig.leaders("t"), [(3, 1), (2, 0), (3, 0)]);
        assert_eq!(rig.topic("t").error, ErrorCode::LEADER_NOT_AVAILABLE);
    }
    let mut shuffled = topic("t", &[(1, 2), (2, 2), (3, 2)]);
    shuffled.partitions.reverse();
    next(&mut rig, &[shuffled]);
    assert_eq!(rig.leaders("t"), [(1, 2), (2, 2), (3, 2)]);
}

#[test]
fn a_topic_with_another_id_starts_from_nothing() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    let with_id = |id, partitions: &[(i32, i32)]| MetadataResponseTopic { topic_id: id, ..topic("t", partitions) };
    let next = |rig: &mut Rig, answer| {
        rig.refresh();
        let query = rig.ask();
        rig.answer(&query, &response(3, [answer]));
        (rig.topic("t").id, rig.leaders("t"))
    };
    let (one, two) = (Uuid([1; 16]), Uuid([2; 16]));
    assert_eq!(next(&mut rig, with_id(one, &[(1, 9), (2, 9)])), (one, vec![(1, 9), (2, 9)]));
    assert_eq!(next(&mut rig, with_id(two, &[(3, 0)])), (two, vec![(3, 0)]));
    // Between the two it did not exist; its id is kept with its partitions.
    let gone = refused("t", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(next(&mut rig, gone), (two, vec![(3, 0)]));
}

#[test]
fn hostile_brokers_are_left_out() {
    let mut rig = Rig::new(1);
    let query = rig.ask();
    let mut hostile = response(3, [topic("", &[(i32::MIN, i32::MAX)])]);
    hostile.brokers[0].port = -1;
    hostile.brokers[1].port = 70_000;
    hostile.topics.push(MetadataResponseTopic { name: None, ..topic("", &[]) });
    hostile.controller_id = -7;
    rig.answer(&query, &hostile);
    let cluster = rig.machine.cluster();
    assert_eq!(cluster.brokers.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!((cluster.controller, cluster.leader("", 0)), (None, None));
}

#[test]
fn a_new_topic_is_asked_for_at_once_even_while_a_question_is_open() {
    let mut rig = Rig::knowing(1, 3, &[]);
    rig.want("a", false);
    let without_b = rig.poll().unwrap();
    rig.want("b", false);
    let with_b = rig.poll().unwrap();
    assert_eq!((names(&without_b), names(&with_b)), (vec!["a"], vec!["a", "b"]));
    assert_ne!(without_b.target, with_b.target);
    // What does not name it is news, and ends nothing.
    rig.answer(&without_b, &response(3, [topic("a", &[(1, 0)])]));
    assert_eq!(rig.until_due(), Some(HEDGE));
    rig.answer(&with_b, &response(3, [topic("a", &[(1, 0)]), topic("b", &[(1, 0)])]));
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

/// A thousand topics wanted one by one are a handful of questions, not a thousand.
#[test]
fn many_new_topics_share_questions() {
    let mut rig = Rig::knowing(1, 5, &[]);
    let mut open: Vec<_> = Vec::new();
    for nth in 0..1000 {
        rig.want(&format!("topic-{nth}"), false);
        open.extend(rig.poll());
    }
    assert_eq!(open.len(), MAX_OPEN);
    for query in open {
        rig.answer(&query, &response(5, []));
    }
    assert_eq!(names(&rig.poll().unwrap()).len(), 1000);
}

#[test]
fn a_topic_that_is_known_is_not_asked_for_again() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    for _ in 0..1000 {
        rig.want("t", false);
        assert!(rig.poll().is_none());
    }
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

#[test]
fn refreshes_are_a_back_off_apart() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    let end = rig.now + ms(60_000);
    let mut questions = 0;
    while rig.now < end {
        rig.refresh();
        if let Some(query) = rig.poll() {
            questions += 1;
            rig.answer(&query, &response(3, [topic("t", &[(1, 0)])]));
        }
        rig.wait(ms(1));
    }
    assert!((590..=600).contains(&questions), "{questions}");
}

/// P14: in an outage, whatever the callers do, each address is asked at most once per back-off.
#[test]
fn an_outage_makes_no_storm() {
    for (seeds, brokers) in [(1, 0), (3, 0), (1, 3)] {
        let mut rig = if brokers == 0 { Rig::new(seeds) } else { Rig::knowing(seeds, brokers, &["t"]) };
        let start = rig.now;
        let mut questions = 0;
        while rig.now < start + ms(60_000) {
            rig.refresh();
            rig.want("t", true);
            rig.want(&format!("new-{}", (rig.now - start).as_millis() / 100), true);
            while let Some(query) = rig.poll() {
                questions += 1;
                rig.fail(&query);
            }
            rig.wait(ms(1));
        }
        // Five short pauses at first, then one a second.
        let rounds = 65;
        let addresses = seeds + brokers as usize;
        assert!(questions <= rounds * addresses, "{seeds} seeds, {brokers} brokers: {questions} questions");
        assert!(questions >= 50 * addresses, "{seeds} seeds, {brokers} brokers: {questions} questions");
    }
}

#[test]
fn a_topic_in_trouble_is_asked_for_with_back_off_and_then_at_the_usual_age() {
    for code in
        [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::TOPIC_AUTHORIZATION_FAILED]
    {
        let mut rig = Rig::knowing(1, 3, &[]);
        rig.want("t", false);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let query = rig.ask();
            rig.answer(&query, &response(3, [refused("t", code)]));
            pauses.push(rig.until_due().unwrap().as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000], "{code}");
        let query = rig.ask();
        rig.answer(&query, &response(3, [topic("t", &[(1, 0)])]));
        assert_eq!(rig.until_due(), Some(MAX_AGE));
        // The next trouble begins with the shortest pause again.
        rig.refresh();
        let query = rig.ask();
        rig.answer(&query, &response(3, [refused("t", code)]));
        assert_eq!(rig.until_due(), Some(ms(100)));
    }
    // A name that no topic can have stays wrong: asking again is no help.
    let mut rig = Rig::knowing(1, 3, &[]);
    rig.want("no such name!", false);
    let query = rig.ask();
    rig.answer(&query, &response(3, [refused("no such name!", ErrorCode::INVALID_TOPIC_EXCEPTION)]));
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

/// A request that permits creation never names a topic for which nobody permitted it, whatever is known of that one.
#[test]
fn the_permission_to_create_is_each_topics_own() {
    let mut rig = Rig::knowing(1, 3, &["there", "gone"]);
    rig.want("gone", false);
    rig.want("missing", false);
    rig.want("new", true);
    let mut named = BTreeSet::new();
    for _ in 0..4 {
        let query = rig.ask();
        let may_create = query.request.allow_auto_topic_creation;
        named.insert((may_create, names(&query).join(" ")));
        let answers = names(&query).into_iter().map(|name| match name {
            "there" => topic(name, &[(1, 0)]),
            _ => refused(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        });
        let answers = answers.collect::<Vec<_>>();
        rig.answer(&query, &response(3, answers));
    }
    let expected = [(false, "gone missing new there".to_owned()), (true, "new".to_owned())];
    assert_eq!(named.into_iter().collect::<Vec<_>>(), expected);
    // Once it is there, nothing may be created any more; and a permission can be given later.
    let query = rig.ask();
    rig.answer(&query, &response(3, [topic("new", &[(1, 0)])]));
    for _ in 0..2 {
        let query = rig.ask();
        assert!(!query.request.allow_auto_topic_creation);
        rig.answer(&query, &response(3, [refused("missing", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
    }
    rig.want("missing", true);
    rig.refresh();
    let asked: Vec<_> = (0..2)
        .map(|_| {
            let query = rig.ask();
            let missing = refused("missing", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            rig.answer(&query, &response(3, [missing]));
            (query.request.allow_auto_topic_creation, names(&query).join(" "))
        })
        .collect();
    assert!(asked.contains(&(true, "missing new".to_owned())), "{asked:?}");
}

/// A turn that names only the topics to create renews nothing else: the whole picture is asked for at once after it.
#[test]
fn a_creating_turn_is_followed_by_a_whole_one() {
    let mut rig = Rig::knowing(1, 3, &["there"]);
    rig.want("new", true);
    let creating = rig.ask();
    assert_eq!((names(&creating), creating.request.allow_auto_topic_creation), (vec!["new"], true));
    rig.answer(&creating, &response(3, [topic("new", &[(1, 0)])]));
    let whole = rig.poll().expect("at once");
    assert_eq!((names(&whole), whole.request.allow_auto_topic_creation), (vec!["new", "there"], false));
    rig.answer(&whole, &response(3, [topic("new", &[(1, 0)]), topic("there", &[(1, 0)])]));
    assert_eq!(rig.until_due(), Some(MAX_AGE));
}

#[test]
fn the_picture_is_renewed_at_its_maximum_age() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    rig.wait(MAX_AGE - ms(1));
    assert!(rig.poll().is_none());
    rig.wait(ms(1));
    assert_eq!(names(&rig.poll().unwrap()), ["t"]);
}

/// Row 27: what was only looked for, a misspelt name say, is asked for again and again for a while, and then no more.
#[test]
fn a_topic_that_was_only_looked_for_is_forgotten() {
    let mut rig = Rig::knowing(1, 3, &["used"]);
    let look_for = |rig: &mut Rig, name: &str, deadline| rig.machine.look_for(rig.now, &name.into(), true, deadline);
    look_for(&mut rig, "misspelt", None);
    look_for(&mut rig, "used", None);
    let patient = rig.now + 2 * LOOKED_FOR;
    look_for(&mut rig, "late", Some(patient));
    let start = rig.now;
    let mut last = BTreeSet::new();
    while rig.now < start + 3 * LOOKED_FOR {
        let query = rig.ask();
        for name in names(&query) {
            last.retain(|(_, seen): &(Instant, String)| seen != name);
            last.insert((rig.now, name.to_owned()));
        }
        let answers = names(&query).into_iter().map(|name| match name {
            "used" => topic(name, &[(1, 0)]),
            _ => refused(name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        });
        let answers = answers.collect::<Vec<_>>();
        rig.answer(&query, &response(3, answers));
    }
    let last: Vec<_> =
        last.into_iter().map(|(at, name)| ((at - start).as_secs().next_multiple_of(100), name)).collect();
    assert_eq!(last[..2], [(300, "misspelt".to_owned()), (600, "late".to_owned())]);
    assert_eq!(last[2].1, "used");
    assert_eq!(rig.machine.cluster().topics.keys().map(|name| &**name).collect::<Vec<_>>(), ["used"]);
    // Wanted again, it is asked for at once.
    look_for(&mut rig, "misspelt", None);
    assert!(names(&rig.poll().unwrap()).contains(&"misspelt"));
}

#[test]
fn topics_that_nobody_asked_for_are_not_kept() {
    let mut rig = Rig::knowing(1, 3, &["t"]);
    rig.refresh();
    let query = rig.ask();
    let flood = (0..1000).map(|n| topic(&format!("flood-{n}"), &[(1, 0)]));
    rig.answer(&query, &response(3, flood.chain([topic("t", &[(2, 1)])])));
    assert_eq!(rig.machine.cluster().topics.len(), 1);
    assert_eq!(rig.leaders("t"), [(2, 1)]);
}
