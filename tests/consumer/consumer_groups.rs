//! Members of a group under KIP-848, on the mock, in virtual time.

use std::time::Duration;

use milena::{Client, ConsumerBuilder, GroupProtocol, OffsetReset};
use tokio::time::sleep;

use crate::rig::{SECOND, client, cluster, come_and_go, until_it_has};

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
