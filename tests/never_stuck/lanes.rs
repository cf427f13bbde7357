//! The connections to a leader: a partition that keeps others waiting goes on alone, and a broker that hangs is not taken
//! for one.

use milena::mock::{Api, Fault, When};
use milena::{Client, Record};
use tokio::time::Instant;

use crate::rig::{MS, SECOND, latency, start, worst_of};

/// A batch that the broker does not answer, and others behind it on the same connection: they wait for one lane switch,
/// and from then on for nothing.
#[tokio::test(start_paused = true)]
async fn a_stalled_partition_costs_its_neighbours_one_switch() {
    let (cluster, producer) = start(1, 3).await;
    let normal = worst_of(20, &producer, 1).await;
    let stalled = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::stall());
    let stuck = producer.enqueue(Record::to("t").partition(0).value("stuck")).await.unwrap();
    stalled.wait_struck(1).await;
    let switch = latency(&producer, 1).await;
    println!("a neighbour's first record took {switch:?}, and {normal:?} before");
    assert!(switch < 60 * MS, "{switch:?}");
    let (one, two) = tokio::join!(worst_of(2_000, &producer, 1), worst_of(2_000, &producer, 2));
    assert!(one.max(two) <= normal + MS, "{one:?} and {two:?}, {normal:?} before");
    // It is tried again, politely.
    let attempts = stalled.struck();
    assert!((3..60).contains(&attempts), "{attempts} attempts in 14 s");
    stalled.remove();
    assert_eq!(stuck.await.unwrap().offset, Some(1));
    for _ in 0..4 {
        producer.send(Record::to("t").partition(0).value("again")).await.unwrap();
    }
    let normal_again = latency(&producer, 0).await;
    assert!(normal_again <= normal + MS, "{normal_again:?}");
    assert_eq!(cluster.log("t", 0).len(), 7);
}

/// Whoever waited behind the first has had a connection made: what gets stuck from then on costs nobody even the switch.
#[tokio::test(start_paused = true)]
async fn the_second_partition_that_stalls_delays_nobody() {
    let (cluster, producer) = start(1, 4).await;
    let normal = worst_of(20, &producer, 1).await;
    for (partition, is_first) in [(0, true), (2, false), (3, false)] {
        let stalled = cluster.inject(When::api(Api::Produce).partition("t", partition), Fault::stall());
        let stuck = producer.enqueue(Record::to("t").partition(partition).value("stuck")).await.unwrap();
        stalled.wait_struck(1).await;
        tokio::time::sleep(MS).await;
        let neighbour = latency(&producer, 1).await;
        println!("behind partition {partition}: {neighbour:?}, and {normal:?} before");
        assert!(is_first || neighbour <= normal + MS, "{neighbour:?}");
        stalled.remove();
        stuck.await.unwrap();
        // Back to where the others are.
        for _ in 0..4 {
            producer.send(Record::to("t").partition(partition).value("again")).await.unwrap();
        }
    }
    let lengths: Vec<_> = (0..4).map(|partition| cluster.log("t", partition).len()).collect();
    assert_eq!(lengths, [6, 24, 6, 6]);
}

/// In one request with the one that stalls: it waits a little longer, until that has had its turn alone.
#[tokio::test(start_paused = true)]
async fn a_partition_in_the_same_request_is_freed_soon() {
    let (cluster, producer) = start(1, 4).await;
    let stalled = cluster.inject(When::api(Api::Produce).partition("t", 0), Fault::stall());
    let begin = Instant::now();
    let mut receipts = Vec::new();
    for partition in 0..4 {
        receipts.push(producer.enqueue(Record::to("t").partition(partition).value("together")).await.unwrap());
    }
    let stuck = receipts.remove(0);
    for receipt in receipts {
        receipt.await.unwrap();
    }
    println!("together with a partition that stalls: {:?}", begin.elapsed());
    assert!(begin.elapsed() < 200 * MS, "{:?}", begin.elapsed());
    for partition in 1..4 {
        latency(&producer, partition).await;
    }
    let worst = worst_of(500, &producer, 3).await;
    assert!(worst < 2 * MS, "{worst:?}");
    stalled.remove();
    stuck.await.unwrap();
    let lengths: Vec<_> = (0..4).map(|partition| cluster.log("t", partition).len()).collect();
    assert_eq!(lengths, [2, 3, 3, 503]);
}

/// A follower of one partition stops, for longer than any request may take: the leader waits for it, and answers nothing
/// behind it on that connection. Nobody else notices but for the switch, and what was sent arrives once it is back.
#[tokio::test(start_paused = true)]
async fn a_stopped_follower_of_one_partition_delays_that_one_alone() {
    let (cluster, producer) = start(2, 1).await;
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let topic = milena::NewTopic::named("u").assignments([[1, 2], [1, 2], [1, 2]]);
    client.admin().create_topics([topic]).await.unwrap();
    let send = |partition: i32| {
        let start = Instant::now();
        let sending = producer.send(Record::to("u").partition(partition).value("v"));
        async move { sending.await.map(|sent| (sent.offset, start.elapsed())) }
    };
    for partition in 0..3 {
        send(partition).await.unwrap();
    }
    cluster.hold_follower("u", 0, 2);
    let stuck: Vec<_> = futures_util::future::join_all(
        (0..20).map(|n| producer.enqueue(Record::to("u").partition(0).value(n.to_string()))),
    )
    .await;
    tokio::time::sleep(MS).await;
    let (_, switch) = send(1).await.unwrap();
    println!("behind a partition whose follower has stopped: {switch:?}");
    assert!(switch < 100 * MS, "{switch:?}");
    let begin = Instant::now();
    while begin.elapsed() < 60 * SECOND {
        for partition in 1..3 {
            let (_, took) = send(partition).await.unwrap();
            assert!(took < MS, "{took:?}");
        }
        tokio::time::sleep(31 * MS).await;
    }
    cluster.release_follower("u", 0, 2);
    for (n, receipt) in stuck.into_iter().enumerate() {
        assert_eq!(receipt.unwrap().await.unwrap().offset, Some(n as i64 + 1));
    }
    let values: Vec<_> = cluster.log("u", 0).iter().skip(1).map(|record| record.value.clone().unwrap()).collect();
    assert_eq!(values, (0..20).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
}

/// A leader dies, and its partitions come to another one, which waits for followers that have not found it yet. Nobody
/// else at that leader notices, not for one send; and those that came go on soon after their followers have come.
#[tokio::test(start_paused = true)]
async fn what_a_dead_leader_leaves_behind_delays_nobody_at_its_next_one() {
    let (cluster, producer) = start(3, 1).await;
    let client = Client::builder(cluster.bootstrap()).connector(cluster.connector()).connect().await.unwrap();
    let topic = milena::NewTopic::named("u").assignments([[1, 2], [3, 2], [3, 2], [3, 2], [1, 2]]);
    client.admin().create_topics([topic]).await.unwrap();
    let send = |partition: i32| producer.send(Record::to("u").partition(partition).value("v"));
    for partition in 0..5 {
        send(partition).await.unwrap();
    }
    // What waits for a dead broker as its follower, until the election, has made the second connection.
    cluster.hold_follower("u", 4, 2);
    let stuck = producer.enqueue(Record::to("u").partition(4).value("v")).await.unwrap();
    tokio::time::sleep(SECOND).await;
    cluster.release_follower("u", 4, 2);
    stuck.await.unwrap();
    cluster.hang_broker(3);
    let moved: Vec<_> = futures_util::future::join_all(
        (1..4).map(|partition| producer.enqueue(Record::to("u").partition(partition).value("moved"))),
    )
    .await;
    for partition in 1..4 {
        cluster.move_leader("u", partition, 1);
        cluster.hold_follower("u", partition, 2);
    }
    let begin = Instant::now();
    while begin.elapsed() < SECOND {
        let start = Instant::now();
        send(0).await.unwrap();
        assert!(start.elapsed() < MS, "{:?}, {:?} after the others came", start.elapsed(), begin.elapsed());
        tokio::time::sleep(3 * MS).await;
    }
    let arrived = Instant::now();
    for partition in 1..4 {
        cluster.release_follower("u", partition, 2);
    }
    for receipt in moved {
        assert_eq!(receipt.unwrap().await.unwrap().offset, Some(1));
    }
    assert!(arrived.elapsed() < 10 * MS, "{:?}", arrived.elapsed());
    for partition in 1..4 {
        assert_eq!(cluster.log("u", partition).len(), 2);
    }
}

/// Every answer is late, produce or not: the broker hangs, so nothing is cut or sent again.
#[tokio::test(start_paused = true)]
async fn a_broker_that_hangs_is_left_alone() {
    let (cluster, producer) = start(1, 2).await;
    cluster.hang_broker(1);
    let receipts = [
        producer.enqueue(Record::to("t").partition(0).value("0")).await.unwrap(),
        producer.enqueue(Record::to("t").partition(1).value("1")).await.unwrap(),
    ];
    tokio::time::sleep(5 * SECOND).await;
    cluster.clear_requests();
    cluster.resume_broker(1);
    let begin = Instant::now();
    for receipt in receipts {
        receipt.await.unwrap();
    }
    assert!(begin.elapsed() < 20 * MS, "{:?}", begin.elapsed());
    latency(&producer, 0).await;
    let connections: std::collections::BTreeSet<_> = cluster
        .requests()
        .iter()
        .filter(|request| request.api == Api::Produce)
        .map(|request| request.connection)
        .collect();
    assert_eq!(connections.len(), 1, "the connection that it had");
}

/// A hung leader whose partition has moved: another broker is asked soon, not when the request times out.
#[tokio::test(start_paused = true)]
async fn records_flow_soon_after_the_partitions_of_a_hung_leader_have_moved() {
    for moved_after in [10 * MS, 400 * MS, 3 * SECOND] {
        let (cluster, producer) = start(3, 3).await;
        let old = cluster.leader("t", 0).unwrap();
        let new = cluster.live_brokers().into_iter().find(|&broker| broker != old).unwrap();
        cluster.hang_broker(old);
        let receipt = producer.enqueue(Record::to("t").partition(0).value("held")).await.unwrap();
        tokio::time::sleep(moved_after).await;
        cluster.move_leader("t", 0, new);
        let elected = Instant::now();
        receipt.await.unwrap();
        println!("moved after {moved_after:?}: acknowledged {:?} after the election", elected.elapsed());
        assert!(elected.elapsed() < 500 * MS, "{:?}", elected.elapsed());
        cluster.resume_broker(old);
        latency(&producer, 0).await;
        assert_eq!(cluster.log("t", 0).len(), 3);
    }
}

/// A leader that takes a second for every batch, and answers everything else at once: it gets the time that it takes.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_slow_with_every_batch_is_given_time() {
    let (cluster, producer) = start(1, 2).await;
    cluster.inject(When::api(Api::Produce), Fault::delay_answer(SECOND));
    let first = latency(&producer, 0).await;
    assert!(first < 10 * SECOND, "{first:?}");
    for _ in 0..10 {
        latency(&producer, 0).await;
    }
    let usual = latency(&producer, 0).await;
    assert!(usual < 1_100 * MS, "{usual:?}");
    assert_eq!(cluster.log("t", 0).len(), 13);
}
