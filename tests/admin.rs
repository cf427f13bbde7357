//! The admin handle against the mock cluster, on paused time.
#![expect(clippy::disallowed_methods, reason = "a test has no client's runtime to ask for the time")]

use std::future::IntoFuture;
use std::time::Duration;

use milena::admin::{TopicId, TopicRef};
use milena::mock::{Api, Fault, KafkaRelease, MockCluster, MockClusterBuilder, When};
use milena::{Admin, Client, ErrorCode, ErrorKind, NewTopic};

const SECOND: Duration = Duration::from_secs(1);

async fn start(builder: MockClusterBuilder) -> (MockCluster, Admin) {
    let cluster = builder.in_memory().start().await;
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    cluster.clear_requests();
    (cluster, client.admin())
}

fn one() -> MockClusterBuilder {
    MockCluster::builder()
}

fn three() -> MockClusterBuilder {
    MockCluster::builder().brokers(3)
}

/// How many requests of a kind the brokers have seen.
fn count(cluster: &MockCluster, api: Api) -> usize {
    cluster.requests().iter().filter(|request| request.api == api).count()
}

#[tokio::test(start_paused = true)]
async fn topics_come_and_go() {
    let (cluster, admin) = start(three()).await;
    let created = admin
        .create_topics([NewTopic::new("orders", 12, 3).config("retention.ms", "1000"), NewTopic::new("bills", 1, 1)])
        .await
        .unwrap();
    assert_eq!(created.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["orders", "bills"]);
    assert_eq!((created[0].partitions, created[0].replication_factor), (Some(12), Some(3)));
    let id = created[0].id.unwrap();

    let listed = admin.list_topics().await.unwrap();
    assert_eq!(listed.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["bills", "orders"]);
    assert_eq!((listed[1].id, listed[1].is_internal), (Some(id), false));

    let described = admin.describe_topics(["orders", "bills"]).await.unwrap();
    assert_eq!((&*described[0].name, described[0].id, described[0].partitions.len()), ("orders", Some(id), 12));
    for (at, partition) in described[0].partitions.iter().enumerate() {
        assert_eq!(partition.index, at as i32);
        assert_eq!(partition.leader, cluster.leader("orders", partition.index));
        assert_eq!((partition.replicas.len(), partition.in_sync.len(), partition.offline.len()), (3, 3, 0));
        assert!(partition.leader_epoch.is_some());
    }

    admin.create_partitions("bills", 4).await.unwrap();
    assert_eq!(cluster.partitions("bills"), Some(4));

    admin.delete_topics(["orders", "bills"]).await.unwrap();
    assert_eq!(admin.list_topics().internal().await.unwrap(), []);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn every_topic_has_its_own_result() {
    let (cluster, admin) = start(one()).await;
    cluster.create_topic("there", 1);
    let topics = || ["new", "there", "bad name!", "wide"].map(|name| NewTopic::new(name, 1, 1));
    let mut topics = topics().to_vec();
    topics[3] = NewTopic::new("wide", 1, 5);
    let results = admin.create_topics(topics).each().await;
    let codes: Vec<_> =
        results.iter().map(|(name, result)| (&**name, result.as_ref().err().and_then(|e| e.code()))).collect();
    assert_eq!(
        codes,
        [
            ("new", None),
            ("there", Some(ErrorCode::TOPIC_ALREADY_EXISTS)),
            ("bad name!", Some(ErrorCode::INVALID_TOPIC_EXCEPTION)),
            ("wide", Some(ErrorCode::INVALID_REPLICATION_FACTOR)),
        ]
    );
    // The message names the topic, the code, and has what the broker says.
    let error = results[1].1.as_ref().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("topic `there`: the broker answered TOPIC_ALREADY_EXISTS (36): "), "{text}");
    assert!(text.contains("already exists"), "{text}");
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Broker, false));

    // All or an error: the first one, and how many.
    let error = admin.create_topics(["a", "there", "a b"].map(|name| NewTopic::new(name, 1, 1))).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert!(error.to_string().ends_with("(2 of 3 failed)"), "{error}");
    assert_eq!(cluster.partitions("a"), Some(1), "the others are created");

    let results = admin.delete_topics(["a", "gone"]).each().await;
    assert!(results[0].1.is_ok());
    assert_eq!(results[1].1.as_ref().unwrap_err().kind(), ErrorKind::UnknownTopic);
    let results = admin.describe_topics(["gone", "there"]).each().await;
    let error = results[0].1.as_ref().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::UnknownTopic, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)));
    assert!(results[1].1.is_ok());
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_asked_is_nothing_sent() {
    let (cluster, admin) = start(one()).await;
    assert_eq!(admin.create_topics([]).await.unwrap(), []);
    admin.delete_topics([""; 0]).await.unwrap();
    assert_eq!(admin.describe_topics([""; 0]).await.unwrap(), []);
    assert_eq!(cluster.requests(), []);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn the_same_topic_twice_is_refused_twice() {
    let (cluster, admin) = start(one()).await;
    let results = admin.create_topics([NewTopic::new("twin", 1, 1), NewTopic::new("twin", 2, 1)]).each().await;
    assert_eq!(results.len(), 2);
    for (name, result) in results {
        assert_eq!((&*name, result.unwrap_err().code()), ("twin", Some(ErrorCode::INVALID_REQUEST)));
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn validation_changes_nothing() {
    let (cluster, admin) = start(one()).await;
    let created = admin.create_topics([NewTopic::new("orders", 3, 1)]).validate_only().await.unwrap();
    assert_eq!((created[0].partitions, created[0].id), (Some(3), None));
    let error = admin.create_topics([NewTopic::new("orders", 3, 9)]).validate_only().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_REPLICATION_FACTOR));
    assert_eq!(cluster.partitions("orders"), None);
    cluster.create_topic("orders", 3);
    admin.create_partitions("orders", 5).validate_only().await.unwrap();
    assert_eq!(cluster.partitions("orders"), Some(3));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn counts_may_be_left_to_the_broker() {
    let (cluster, admin) = start(three().default_partitions(7)).await;
    let created = admin.create_topics([NewTopic::named("logs")]).await.unwrap();
    assert_eq!(created[0].partitions, Some(7));
    admin.create_topics([NewTopic::named("metrics").partitions(2)]).await.unwrap();
    assert_eq!(cluster.partitions("metrics"), Some(2));
    cluster.close().await;

    // Before Kafka 2.4 there is no such thing, and the error says which side needs what.
    let (cluster, admin) = start(one().max_version(Api::CreateTopics, 3)).await;
    let error = admin.create_topics([NewTopic::named("logs")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("CreateTopics in versions 2-3, and this request needs 4-7"), "{error}");
    let created = admin.create_topics([NewTopic::new("logs", 2, 1)]).await.unwrap();
    assert_eq!((created[0].partitions, created[0].id), (None, None), "such a broker does not say");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn replicas_can_be_placed() {
    let (cluster, admin) = start(three()).await;
    admin.create_topics([NewTopic::new("orders", 9, 9).assignments([[3, 1], [2, 3]])]).await.unwrap();
    admin.create_partitions("orders", 3).assignments([[1, 2]]).await.unwrap();
    let topics = admin.describe_topics(["orders"]).await.unwrap();
    let replicas: Vec<_> = topics[0].partitions.iter().map(|partition| &partition.replicas[..]).collect();
    assert_eq!(replicas, [[3, 1], [2, 3], [1, 2]]);
    let error = admin.create_partitions("orders", 5).assignments([[1, 2]]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::INVALID_REPLICA_ASSIGNMENT));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn partitions_only_grow() {
    let (cluster, admin) = start(one()).await;
    cluster.create_topic("orders", 3);
    for total in [3, 2, 0, -1] {
        let error = admin.create_partitions("orders", total).await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::INVALID_PARTITIONS), "{error}");
        assert!(error.to_string().starts_with("topic `orders`: "), "{error}");
    }
    let error = admin.create_partitions("gone", 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_id_means_one_incarnation() {
    let (cluster, admin) = start(one()).await;
    let first = admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap()[0].id.unwrap();
    let described = admin.describe_topics([first]).await.unwrap();
    assert_eq!((&*described[0].name, described[0].id), ("orders", Some(first)));
    admin.delete_topics([first]).await.unwrap();
    let second = admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap()[0].id.unwrap();
    assert_ne!(first, second);
    for error in [admin.delete_topics([first]).await.unwrap_err(), admin.describe_topics([first]).await.unwrap_err()] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::UnknownTopic, Some(ErrorCode::UNKNOWN_TOPIC_ID)));
        assert!(error.to_string().starts_with(&format!("topic id {first}: ")), "{error}");
    }
    // Names and ids mix.
    cluster.create_topic("bills", 1);
    let mixed = || [TopicRef::from("bills"), TopicRef::from(second)];
    let described = admin.describe_topics(mixed()).await.unwrap();
    assert_eq!(described.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["bills", "orders"]);
    admin.delete_topics(mixed()).await.unwrap();
    assert_eq!(admin.list_topics().await.unwrap(), []);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn ids_need_brokers_that_know_them() {
    let (cluster, admin) = start(one().max_version(Api::DeleteTopics, 5).max_version(Api::Metadata, 11)).await;
    cluster.create_topic("orders", 1);
    let id = TopicId::from_bytes([7; 16]);
    let error = admin.delete_topics([id]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("DeleteTopics in versions 1-5, and this request needs 6-6"), "{error}");
    let error = admin.describe_topics([id]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    admin.delete_topics(["orders"]).await.unwrap();
    cluster.close().await;
}

/// Before KRaft, brokers do not pass requests on.
#[tokio::test(start_paused = true)]
async fn changes_go_to_the_controller() {
    for release in [KafkaRelease::V2_1, KafkaRelease::V2_8] {
        let (cluster, admin) = start(three().release(release)).await;
        let controller = cluster.controller();
        assert_eq!(admin.describe_cluster().await.unwrap().controller, Some(controller));
        for round in 0..5 {
            let name = format!("topic-{round}");
            admin.create_topics([NewTopic::new(&*name, 1, 1)]).await.unwrap();
            admin.create_partitions(&*name, 2).await.unwrap();
            admin.delete_topics([&*name]).await.unwrap();
        }
        let is_change = |api| matches!(api, Api::CreateTopics | Api::CreatePartitions | Api::DeleteTopics);
        let seen: Vec<_> = cluster.requests().into_iter().filter(|request| is_change(request.api)).collect();
        assert_eq!(seen.len(), 15);
        assert!(seen.iter().all(|request| request.broker == controller), "{seen:?}");
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_moved_is_looked_for() {
    let (cluster, admin) = start(three().release(KafkaRelease::V2_8)).await;
    // The one that the client knows is no longer it.
    let old = cluster.controller();
    cluster.move_controller(old % 3 + 1);
    admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
    assert_eq!(cluster.partitions("orders"), Some(1));
    let brokers: Vec<_> =
        cluster.requests().into_iter().filter(|request| request.api == Api::CreateTopics).map(|r| r.broker).collect();
    assert_eq!(brokers.last(), Some(&cluster.controller()), "{brokers:?}");
    cluster.close().await;
}

/// A second attempt that named all topics would find its own work in the way.
#[tokio::test(start_paused = true)]
async fn only_what_asks_for_it_is_tried_again() {
    for code in [ErrorCode::NOT_CONTROLLER, ErrorCode::THROTTLING_QUOTA_EXCEEDED] {
        let (cluster, admin) = start(one()).await;
        cluster.inject(When::api(Api::CreateTopics).topic("b").times(3), Fault::error(code.0));
        let topics = ["a", "b", "c"].map(|name| NewTopic::new(name, 1, 1));
        let created = admin.create_topics(topics).await.unwrap();
        assert_eq!(created.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(count(&cluster, Api::CreateTopics), 4);
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_refused_fails_in_time_and_says_why() {
    let (cluster, admin) = start(one()).await;
    cluster.inject(When::api(Api::CreateTopics).topic("b"), Fault::error(ErrorCode::NOT_CONTROLLER.0));
    let start = tokio::time::Instant::now();
    let topics = ["a", "b"].map(|name| NewTopic::new(name, 1, 1));
    let results = admin.create_topics(topics).timeout(SECOND * 5).each().await;
    assert!(start.elapsed() <= SECOND * 5 && start.elapsed() > SECOND * 3, "{:?}", start.elapsed());
    assert!(results[0].1.is_ok());
    let error = results[1].1.as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let text = error.to_string();
    assert!(text.contains("topic `b`") && text.contains("5s (timeout)") && text.contains("NOT_CONTROLLER"), "{text}");
    assert!(!text.contains("open"), "every attempt was answered: {text}");
    // Back-off: not a storm.
    assert!(count(&cluster, Api::CreateTopics) <= 12, "{}", count(&cluster, Api::CreateTopics));
    cluster.close().await;
}

/// As Java: the answer to a retry may be about the work of the attempt before it. The error says so.
#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again() {
    let (cluster, admin) = start(one()).await;
    cluster.inject(When::api(Api::CreateTopics).times(1), Fault::lose_answer());
    let error = admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert!(error.to_string().contains("an earlier attempt whose answer was lost may be the reason"), "{error}");
    assert_eq!(cluster.partitions("orders"), Some(1));
    // A connection that ends before the request is read costs nothing.
    cluster.inject(When::api(Api::CreateTopics).times(1), Fault::close());
    admin.create_topics([NewTopic::new("bills", 1, 1)]).await.unwrap();
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_time_out_at_the_broker_is_an_open_outcome() {
    let (cluster, admin) = start(one()).await;
    cluster.create_topic("there", 1);
    for api in [Api::CreateTopics, Api::DeleteTopics, Api::CreatePartitions] {
        cluster.inject(When::api(api), Fault::error(ErrorCode::REQUEST_TIMED_OUT.0));
    }
    let errors = [
        admin.create_topics([NewTopic::new("new", 1, 1)]).await.unwrap_err(),
        admin.delete_topics(["there"]).await.unwrap_err(),
        admin.create_partitions("there", 2).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), Some(ErrorCode::REQUEST_TIMED_OUT));
        assert!(error.is_retriable() && error.to_string().ends_with(" is open"), "{error}");
    }
    assert_eq!(count(&cluster, Api::CreateTopics), 1, "asking again is the caller's decision");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_controller_does_not_hang_the_caller() {
    let (cluster, admin) = start(one()).await;
    cluster.hang_broker(1);
    let start = tokio::time::Instant::now();
    let error = admin.create_topics([NewTopic::new("orders", 1, 1)]).timeout(SECOND * 2).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::Timeout, SECOND * 2));
    assert!(error.to_string().contains("2s (timeout)"), "{error}");
    // The default is the client's.
    let start = tokio::time::Instant::now();
    let error = admin.list_topics().await.unwrap_err();
    assert!(start.elapsed() <= SECOND * 60 && error.to_string().contains("60s (default_api_timeout)"), "{error}");
    cluster.resume_broker(1);
    assert!(admin.describe_cluster().await.is_ok());
    cluster.close().await;
}

/// Rule 71: a controller that takes its time stands in nobody's way.
#[tokio::test(start_paused = true)]
async fn a_slow_change_delays_no_metadata() {
    let (cluster, admin) = start(one()).await;
    cluster.inject(When::api(Api::CreateTopics), Fault::delay(SECOND * 20));
    let slow = tokio::spawn(admin.create_topics([NewTopic::new("orders", 1, 1)]).into_future());
    tokio::time::sleep(SECOND).await;
    let start = tokio::time::Instant::now();
    admin.describe_cluster().await.unwrap();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    slow.await.unwrap().unwrap();
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn descriptions_follow_the_cluster() {
    let (cluster, admin) = start(three()).await;
    admin.create_topics([NewTopic::new("orders", 1, 3)]).await.unwrap();
    cluster.move_leader("orders", 0, 2);
    let before = admin.describe_topics(["orders"]).await.unwrap().remove(0).partitions.remove(0);
    assert_eq!(before.leader, Some(2));
    cluster.stop_broker(2).await;
    let after = admin.describe_topics(["orders"]).await.unwrap().remove(0).partitions.remove(0);
    assert_ne!(after.leader, Some(2));
    assert!(after.leader_epoch > before.leader_epoch);
    assert_eq!((after.offline, after.in_sync.len()), (vec![2], 2));
    let brokers = admin.describe_cluster().await.unwrap().brokers;
    assert_eq!(brokers.iter().map(|broker| broker.id).collect::<Vec<_>>(), [1, 3]);
    assert_eq!((&*brokers[0].host, brokers[0].port), ("broker-1.mock", 9092));
    cluster.close().await;
}

/// To describe is not to create, and "unknown" is an answer.
#[tokio::test(start_paused = true)]
async fn a_misspelt_topic_is_neither_created_nor_asked_for_twice() {
    let (cluster, admin) = start(three().auto_create_topics(true)).await;
    let error = admin.describe_topics(["typo"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert_eq!((cluster.partitions("typo"), count(&cluster, Api::Metadata)), (None, 1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_harms_nobody() {
    let (cluster, admin) = start(one()).await;
    cluster.inject(When::api(Api::CreateTopics).times(1), Fault::delay(SECOND));
    let dropped = admin.create_topics([NewTopic::new("orders", 1, 1)]).into_future();
    assert!(tokio::time::timeout(SECOND / 2, dropped).await.is_err());
    admin.create_topics([NewTopic::new("bills", 1, 1)]).await.unwrap();
    // What was sent takes effect all the same.
    assert_eq!(cluster.partitions("orders"), Some(1));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_topics_are_one_request() {
    let (cluster, admin) = start(three()).await;
    let topics = (0..1000).map(|nth| NewTopic::new(format!("topic-{nth:04}"), 1, 1));
    assert_eq!(admin.create_topics(topics).await.unwrap().len(), 1000);
    assert_eq!(count(&cluster, Api::CreateTopics), 1);
    let listed = admin.list_topics().await.unwrap();
    assert!(listed.len() == 1000 && listed.is_sorted_by(|a, b| a.name < b.name));
    let described = admin.describe_topics(listed.iter().map(|topic| topic.name.clone())).await.unwrap();
    assert!(described.iter().zip(&listed).all(|(described, listed)| described.name == listed.name));
    cluster.close().await;
}

/// Over sockets, and with the options in a row.
#[tokio::test]
async fn it_works_over_tcp() {
    let cluster = MockCluster::builder().brokers(3).start().await;
    let client = Client::builder(cluster.bootstrap()).connect().await.unwrap();
    let admin = client.admin();
    let topics = [NewTopic::new("orders", 3, 3)];
    admin.create_topics(topics).timeout(SECOND * 30).await.unwrap();
    assert_eq!(admin.describe_cluster().timeout(SECOND * 30).await.unwrap().brokers.len(), 3);
    assert_eq!(admin.list_topics().timeout(SECOND * 30).await.unwrap().len(), 1);
    assert_eq!(admin.describe_topics(["orders"]).timeout(SECOND * 30).await.unwrap()[0].partitions.len(), 3);
    admin.create_partitions("orders", 4).timeout(SECOND * 30).await.unwrap();
    admin.delete_topics(["orders"]).timeout(SECOND * 30).await.unwrap();
    cluster.close().await;
}
