//! What comes out, whatever goes wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Client, ErrorKind, OffsetReset, Record};

use crate::rig::*;

#[tokio::test(start_paused = true)]
async fn leaders_move_while_it_reads() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 3);
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    for round in 0..30 {
        fill(&cluster, 900).await;
        checker.read(&mut consumer, 450).await;
        cluster.move_leader("t", round % 3, (round / 2) % 3 + 1);
        checker.read(&mut consumer, 450).await;
    }
    assert_eq!(checker.count, 27_000);
    assert!(cluster.violations().is_empty());
    silent(SECOND, &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_noticed_without_any_data() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 1);
    let mut consumer = reader(&cluster).await;
    silent(SECOND, &mut consumer).await;
    let other = 3 - cluster.leader("t", 0).unwrap();
    cluster.move_leader("t", 0, other);
    fill(&cluster, 1).await;
    assert_eq!(within(2 * SECOND, consumer.recv()).await.unwrap().offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn brokers_stop_and_start() {
    let cluster = cluster(3).await;
    cluster.create_topic("t", 6);
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    for round in 0..9 {
        fill(&cluster, 600).await;
        checker.read(&mut consumer, 300).await;
        let broker = round % 3 + 1;
        cluster.stop_broker(broker).await;
        checker.read(&mut consumer, 300).await;
        cluster.start_broker(broker).await;
    }
    silent(SECOND, &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn one_broker_alone_stops_and_comes_back() {
    let cluster = filled(1, 1, 1_000).await;
    let mut consumer = reader(&cluster).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 1_000).await;
    cluster.stop_broker(1).await;
    silent(30 * SECOND, &mut consumer).await;
    // An outage is said, once, when it has lasted for default_api_timeout: of the metadata, and of the leader.
    let outage = error(60 * SECOND, &mut consumer).await;
    assert!(matches!(outage.kind(), ErrorKind::Connection | ErrorKind::Timeout), "{outage}");
    let outage = error(60 * SECOND, &mut consumer).await;
    assert!(matches!(outage.kind(), ErrorKind::Connection | ErrorKind::Timeout), "{outage}");
    silent(300 * SECOND, &mut consumer).await;
    cluster.start_broker(1).await;
    fill(&cluster, 1_000).await;
    checker.read(&mut consumer, 1_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_broker_delays_nobody_else() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 2);
    let mut consumer = reader(&cluster).await;
    silent(SECOND, &mut consumer).await;
    let hung = cluster.leader("t", 0).unwrap();
    assert_ne!(cluster.leader("t", 1), Some(hung));
    fill(&cluster, 2).await;
    let mut checker = Checker::default();
    checker.read(&mut consumer, 2).await;
    let producer = client(&cluster).await.producer().build().unwrap();
    cluster.hang_broker(hung);
    let (started, mut outages) = (tokio::time::Instant::now(), 0);
    for n in 1..100 {
        producer.send(Record::to("t").partition(1).value(n.to_string())).await.unwrap();
        match within(SECOND / 10, consumer.recv()).await {
            Ok(record) => checker.check(&record),
            // Away for longer than default_api_timeout is worth saying.
            Err(error) => {
                assert!(started.elapsed() > 60 * SECOND && error.kind() == ErrorKind::Timeout, "{error}");
                outages += 1;
                checker.check(&within(SECOND / 10, consumer.recv()).await.unwrap());
            }
        }
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(outages, 1);
    cluster.resume_broker(hung);
    producer.send(Record::to("t").partition(0).value("1")).await.unwrap();
    checker.check(&within(40 * SECOND, consumer.recv()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn damage_on_the_way_is_fetched_again() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    let producer = client(&cluster).await.producer().build().unwrap();
    let text = std::str::from_utf8(MARKER).unwrap();
    for value in ["a", text, "c"] {
        producer.send(Record::to("t").partition(0).value(value)).await.unwrap();
    }
    producer.send(Record::to("t").partition(1).value("z")).await.unwrap();
    for damages in [1, 1_000] {
        let wire = Wire::new(&cluster, damages);
        let client = Client::builder(cluster.bootstrap()).connector(wire.clone()).connect().await.unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
        consumer.assign(all(2)).unwrap();
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        while let Ok(outcome) = tokio::time::timeout(5 * SECOND, consumer.recv()).await {
            match outcome {
                Ok(record) => values.push(value(&record).to_owned()),
                Err(error) => errors.push(error),
            }
        }
        values.sort();
        if damages == 1 {
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(values, [text, "a", "c", "z"]);
            continue;
        }
        // Twice the same is damage at rest: said once, with the offset; what lies before and elsewhere comes.
        assert_eq!(wire.damages.load(Ordering::SeqCst), damages - 2);
        assert_eq!(values, ["a", "z"]);
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Corrupt, Some(&tp(0))));
        assert!(error.to_string().contains("offset 1") && error.to_string().contains("seek to 2"), "{error}");
        assert!(std::error::Error::source(error).is_some());
        assert_eq!(consumer.position(&tp(0)), Some(1));
        producer.send(Record::to("t").partition(1).value("zz")).await.unwrap();
        assert_eq!(value(&consumer.recv().await.unwrap()), "zz");
        consumer.seek(&tp(0), 2).unwrap();
        assert_eq!(value(&consumer.recv().await.unwrap()), "c");
        // Whoever does not check gets what there is.
        let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).check_crcs(false);
        let mut unchecked = builder.build().unwrap();
        unchecked.assign([tp(0)]).unwrap();
        unchecked.recv().await.unwrap();
        let damaged = unchecked.recv().await.unwrap();
        assert_eq!(damaged.offset(), 1);
        assert_ne!(damaged.value(), Some(MARKER));
    }
}

#[tokio::test(start_paused = true)]
async fn missing_topics_and_partitions_are_reported_and_found_later() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 1);
    let builder = client(&cluster).await.consumer().auto_offset_reset(OffsetReset::Earliest);
    let mut consumer = builder.build().unwrap();
    let started = tokio::time::Instant::now();
    consumer.assign([("missing", 0), ("t", 1)]).unwrap();
    let mut errors = [error(10 * SECOND, &mut consumer).await, error(10 * SECOND, &mut consumer).await];
    assert!(started.elapsed() < 7 * SECOND, "{:?}", started.elapsed());
    errors.sort_by_key(|error| error.topic_partition().cloned());
    assert_eq!(errors[0].kind(), ErrorKind::UnknownTopic);
    assert!(errors[0].to_string().contains("`missing`"), "{}", errors[0]);
    assert_eq!(errors[1].kind(), ErrorKind::UnknownPartition);
    assert!(errors[1].to_string().contains("`t` has 1 partition"), "{}", errors[1]);
    silent(60 * SECOND, &mut consumer).await;
    cluster.create_topic("missing", 1);
    let producer = client(&cluster).await.producer().build().unwrap();
    producer.send(Record::to("missing").value("there")).await.unwrap();
    assert_eq!(value(&within(5 * SECOND, consumer.recv()).await.unwrap()), "there");
    cluster.grow_topic("t", 2);
    producer.send(Record::to("t").partition(1).value("grown")).await.ok();
    // Nothing is wrong with the topic, so its news come with the next picture: metadata_max_age.
    assert_eq!(value(&within(310 * SECOND, consumer.recv()).await.unwrap()), "grown");
}

#[tokio::test(start_paused = true)]
async fn an_assignment_may_create_the_topic() {
    let cluster = MockCluster::builder().in_memory().auto_create_topics(true).start().await;
    let client = client(&cluster).await;
    for (allowed, topic) in [(true, "new"), (false, "other")] {
        let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest).allow_auto_create_topics(allowed);
        let mut consumer = builder.build().unwrap();
        consumer.assign([(topic, 0)]).unwrap();
        if allowed {
            silent(20 * SECOND, &mut consumer).await;
        } else {
            assert_eq!(error(10 * SECOND, &mut consumer).await.kind(), ErrorKind::UnknownTopic);
        }
        assert_eq!(cluster.partitions(topic).is_some(), allowed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_topic_is_reported_and_read_again_when_it_comes_back() {
    let cluster = filled(1, 1, 10).await;
    let mut consumer = reader(&cluster).await;
    Checker::default().read(&mut consumer, 10).await;
    cluster.delete_topic("t");
    assert_eq!(error(20 * SECOND, &mut consumer).await.kind(), ErrorKind::UnknownTopic);
    cluster.create_topic("t", 1);
    fill(&cluster, 5).await;
    // Another topic: said, and read from its beginning.
    let again = error(20 * SECOND, &mut consumer).await;
    assert_eq!(again.kind(), ErrorKind::TopicRecreated, "{again}");
    Checker::default().read(&mut consumer, 5).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_are_reported_once_and_end_with_their_cause() {
    let cluster = filled(1, 2, 200).await;
    let fault = cluster.inject(When::api(Api::Fetch).partition("t", 0), Fault::error(29));
    let mut consumer = reader(&cluster).await;
    let (mut records, mut errors) = (0, Vec::new());
    while let Ok(outcome) = tokio::time::timeout(30 * SECOND, consumer.recv()).await {
        match outcome {
            Ok(record) => records += usize::from(record.partition() == 1),
            Err(error) => errors.push(error),
        }
    }
    assert_eq!((records, errors.len()), (100, 1), "{errors:?}");
    assert_eq!((errors[0].kind(), errors[0].topic_partition()), (ErrorKind::Authorization, Some(&tp(0))));
    assert!(errors[0].to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{}", errors[0]);
    assert!((25..60).contains(&fault.struck()), "{}", fault.struck());
    fault.remove();
    for n in 0..100 {
        assert_eq!(within(2 * SECOND, consumer.recv()).await.unwrap().offset(), n);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_said_at_once() {
    let cluster = filled(1, 1, 1).await;
    cluster.stop_broker(1).await;
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).build().unwrap();
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().unwrap();
    consumer.assign([tp(0)]).unwrap();
    let refused = error(2 * SECOND, &mut consumer).await;
    assert_eq!(refused.kind(), ErrorKind::Connection, "{refused}");
    silent(100 * SECOND, &mut consumer).await;
    cluster.start_broker(1).await;
    assert_eq!(within(5 * SECOND, consumer.recv()).await.unwrap().offset(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_cannot_fetch_is_named() {
    let cluster = MockCluster::builder().in_memory().max_version(Api::Fetch, 3).start().await;
    cluster.create_topic("t", 1);
    let mut consumer = reader(&cluster).await;
    let unsupported = error(5 * SECOND, &mut consumer).await;
    assert_eq!(unsupported.kind(), ErrorKind::Unsupported);
    assert!(unsupported.to_string().contains("Fetch"), "{unsupported}");
    silent(60 * SECOND, &mut consumer).await;
}

#[tokio::test(start_paused = true)]
async fn throttling_is_obeyed_and_delays_nobody_else() {
    let cluster = cluster(2).await;
    cluster.create_topic("t", 2);
    let throttled = cluster.leader("t", 0).unwrap();
    let mut consumer = reader(&cluster).await;
    silent(SECOND, &mut consumer).await;
    let fault = cluster.inject(When::api(Api::Fetch).broker(throttled).times(1), Fault::throttle(5 * SECOND));
    fault.wait_struck(1).await;
    tokio::time::sleep(SECOND).await;
    cluster.clear_requests();
    fill(&cluster, 2).await;
    let started = tokio::time::Instant::now();
    let first = consumer.recv().await.unwrap();
    assert!(first.partition() == 1 && started.elapsed() < SECOND / 10, "{:?}", started.elapsed());
    assert_eq!(within(6 * SECOND, consumer.recv()).await.unwrap().partition(), 0);
    assert!(started.elapsed() > SECOND, "{:?}", started.elapsed());
    assert!(cluster.violations().is_empty());
}

/// Everything at once, on many seeds: each record comes once, in order.
#[tokio::test(start_paused = true)]
async fn storms_lose_and_double_nothing() {
    for seed in 0..40 {
        let cluster = MockCluster::builder().brokers(3).in_memory().seed(seed).start().await;
        cluster.create_topic("t", 4);
        fill(&cluster, 4_000).await;
        for (n, fault) in [
            Fault::close(),
            Fault::lose_answer(),
            Fault::cut(5 + seed as usize * 13),
            Fault::wrong_correlation_id(),
            Fault::delay(Duration::from_millis(300)),
            Fault::delay_answer(Duration::from_millis(700)),
            Fault::error(6),
            Fault::error(74),
            Fault::error(75),
            Fault::error(56),
            Fault::error(-1),
            Fault::error(100),
            Fault::throttle(Duration::from_millis(200)),
        ]
        .into_iter()
        .enumerate()
        {
            // Each seed has its own mix.
            if (seed >> (n % 5)) & 1 == 0 {
                cluster.inject(When::api(Api::Fetch).probability(0.05), fault.clone());
                cluster.inject(When::api(Api::ListOffsets).probability(0.1), fault);
            }
        }
        let client = Client::builder(cluster.bootstrap())
            .connector(cluster.connector())
            .request_timeout(2 * SECOND)
            .connect()
            .await
            .unwrap();
        let builder = client.consumer().auto_offset_reset(OffsetReset::Earliest);
        // Small fetches, so that there are many.
        let mut consumer = builder.max_partition_fetch_bytes(2_000).fetch_buffer(16_000).build().unwrap();
        consumer.assign(all(4)).unwrap();
        let mut checker = Checker::default();
        let mut moves = 0;
        while checker.count < 4_000 {
            match within(120 * SECOND, consumer.recv()).await {
                Ok(record) => checker.check(&record),
                // UNKNOWN_SERVER_ERROR is no error to keep quiet about.
                Err(error) => assert!(error.code().is_some_and(|code| code.0 == -1), "seed {seed}: {error}"),
            }
            if checker.count % 500 == 250 {
                cluster.move_leader("t", moves % 4, moves % 3 + 1);
                moves += 1;
            }
        }
        cluster.clear_faults();
        while let Ok(outcome) = tokio::time::timeout(3 * SECOND, consumer.recv()).await {
            assert!(outcome.is_err_and(|error| error.code().is_some_and(|code| code.0 == -1)));
        }
        assert!(cluster.violations().is_empty(), "seed {seed}: {:?}", cluster.violations());
        consumer.close().await.unwrap();
        cluster.close().await;
    }
}

/// Bits flipped anywhere in what brokers say: no panic, no hang, and the consumer works once they are whole again.
#[tokio::test(start_paused = true)]
async fn flipped_bits_are_survived() {
    for seed in 0..100 {
        // From version 8 on, a bit in the throttle time silences the client for weeks, as it was told.
        let newest = if seed % 2 == 0 { 7 } else { 99 };
        let builder = MockCluster::builder().brokers(2).in_memory().seed(seed).max_version(Api::Fetch, newest);
        let cluster = builder.start().await;
        cluster.create_topic("t", 2);
        fill(&cluster, 400).await;
        let faults = [Api::Fetch, Api::ListOffsets, Api::OffsetFetch, Api::FindCoordinator]
            .map(|api| cluster.inject(When::api(api).probability(0.7), Fault::corrupt()));
        let client = Client::builder(cluster.bootstrap())
            .connector(cluster.connector())
            .request_timeout(2 * SECOND)
            .default_api_timeout(5 * SECOND)
            .connect()
            .await
            .unwrap();
        let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).group("g").build().unwrap();
        consumer.assign(all(2)).unwrap();
        let _ = tokio::time::timeout(20 * SECOND, async {
            loop {
                let _ = consumer.recv().await;
            }
        })
        .await;
        faults.iter().for_each(|fault| fault.remove());
        // Whatever it believed meanwhile, a seek puts right.
        for partition in 0..2 {
            consumer.seek(&tp(partition), 0).unwrap();
        }
        let mut checker = Checker::default();
        while checker.count < 400 && newest == 7 {
            if let Ok(record) = within(60 * SECOND, consumer.recv()).await {
                checker.check(&record);
            }
        }
        cluster.close().await;
    }
}
