//! Members of a group under KIP-848, on the mock, in virtual time.

use std::time::Duration;

use milena::mock::{Api, Fault, When};
use milena::{Client, ConsumerBuilder, GroupProtocol, OffsetReset};
use tokio::time::sleep;

use crate::rig::{SECOND, client, cluster, come_and_go, fill, tp, until_it_has, within};

fn member(client: &Client) -> ConsumerBuilder {
    let member = client.consumer().group("g").auto_offset_reset(OffsetReset::Earliest);
    member.group_protocol(GroupProtocol::Consumer)
}

/// Also while the coordinator moves: everything is read once, in order.
#[tokio::test(start_paused = true)]
async fn members_share_and_nothing_is_read_twice_when_they_come_and_go() {
    for assignor in ["uniform", "range"] {
        let cluster = cluster(3).await;
        cluster.create_topic("t", 6);
        let with = |client: &Client| member(client).subscribe(["t"]).group_remote_assignor(assignor);
        let stays = [(0, 80), (5, 40), (12, 55), (30, 110)];
        let moves = async {
            for broker in [1, 3, 2] {
                sleep(SECOND * 20).await;
                cluster.move_coordinator("g", broker);
            }
        };
        come_and_go(&cluster, with, 3_000, Duration::from_millis(20), &stays, moves).await;
    }
}

/// A member asks as itself where to begin. That the coordinator has another epoch in mind, or has not heard of it, is a matter
/// of the next heartbeat, which is sent at once; and of a member of the classic protocol there is no epoch to say.
#[tokio::test(start_paused = true)]
async fn where_to_begin_is_asked_under_the_epoch() {
    let mut sizes = Vec::new();
    let ways =
        [(GroupProtocol::Classic, None), (GroupProtocol::Consumer, Some(113)), (GroupProtocol::Consumer, Some(25))];
    for (protocol, code) in ways {
        let cluster = cluster(1).await;
        cluster.create_topic("t", 1);
        fill(&cluster, 10).await;
        let client = client(&cluster).await;
        client.consumer().group("g").build().unwrap().commit_offsets([(tp(0), 7)]).await.unwrap();
        if let Some(code) = code {
            cluster.inject(When::api(Api::OffsetFetch).times(1), Fault::error(code));
        }
        let mut consumer = member(&client).subscribe(["t"]).group_protocol(protocol).build().unwrap();
        let started = tokio::time::Instant::now();
        assert_eq!(within(SECOND, consumer.recv()).await.unwrap().offset(), 7);
        let requests = cluster.requests();
        let asked: Vec<_> = requests.iter().filter(|request| request.api == Api::OffsetFetch).collect();
        assert_eq!(asked.len(), 1 + usize::from(code.is_some()));
        assert!(asked.iter().all(|request| request.version == 9 && request.size == asked[0].size));
        sizes.push(asked[0].size);
        // One that joins, one that says what it has, and one for the doubt.
        let beats = requests.iter().filter(|request| request.api == Api::ConsumerGroupHeartbeat).count();
        let expected = if protocol == GroupProtocol::Classic { 0 } else { 3 };
        assert_eq!(beats, expected, "in {:?}", started.elapsed());
        assert_eq!(consumer.metrics().memberships_lost, 0);
        consumer.close().await.unwrap();
        assert!(cluster.violations().is_empty());
    }
    assert_eq!([sizes[1] - sizes[0], sizes[2] - sizes[0]], [36, 36], "a UUID where there was none");
}

/// The coordinator matches, and finds a topic that is made later.
#[tokio::test(start_paused = true)]
async fn a_pattern_is_the_coordinators_to_match() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 2);
    cluster.create_topic("other", 1);
    let client = client(&cluster).await;
    let mut consumer = member(&client).subscribe_pattern("t.*").build().unwrap();
    until_it_has(&mut consumer, 2).await;
    cluster.create_topic("t-later", 3);
    until_it_has(&mut consumer, 5).await;
    cluster.delete_topic("t-later");
    until_it_has(&mut consumer, 2).await;
    consumer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_static_member_comes_back_to_what_it_had() {
    let cluster = cluster(1).await;
    cluster.create_topic("t", 4);
    let client = client(&cluster).await;
    let build = |id: &'static str| member(&client).subscribe(["t"]).group_instance_id(id).build().unwrap();
    let (mut one, mut two) = (build("one"), build("two"));
    until_it_has(&mut one, 4).await;
    let polling = tokio::spawn(async move {
        until_it_has(&mut two, 2).await;
        two
    });
    until_it_has(&mut one, 2).await;
    let _two = polling.await.unwrap();
    let (had, epoch) = (one.assignment(), one.group_metadata().unwrap().generation_id);
    one.close().await.unwrap();
    sleep(SECOND * 10).await;
    let mut one = build("one");
    until_it_has(&mut one, 2).await;
    assert_eq!((one.assignment(), one.group_metadata().unwrap().generation_id), (had, epoch));
}
