//! Attempts to connect: how many, how often, and when again.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use milena::NewTopic;
use tokio::time::Instant;

use crate::rig::*;

/// P14: in an outage, whatever the callers do.
#[tokio::test(start_paused = true)]
async fn an_outage_makes_no_storm_of_connections() {
    let cluster = one_in_memory().await;
    // Never reached at all, and lost after it worked.
    for was_there in [false, true] {
        let gate = Gate::new(&cluster);
        gate.is_shut.store(!was_there, SeqCst);
        let client = gate.client(&cluster).build().unwrap();
        let admin = client.admin();
        if was_there {
            admin.create_topics([NewTopic::new("orders", 1, 1)]).await.unwrap();
            gate.is_shut.store(true, SeqCst);
            cluster.stop_broker(1).await;
        }
        gate.attempts.lock().unwrap().clear();
        let end = Instant::now() + SECOND * 60;
        let callers = (0..20).map(|_| {
            let admin = admin.clone();
            tokio::spawn(async move {
                while Instant::now() < end {
                    admin.describe_cluster().timeout(ms(20)).await.unwrap_err();
                    admin.delete_topics(["orders"]).timeout(ms(20)).await.unwrap_err();
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
        // Per lane a few short pauses, then one of 0.8 to 1.2 s each; lanes: the seed, and the broker for two classes.
        let attempts = gate.attempts().len();
        let lanes = if was_there { 3 } else { 1 };
        assert!((30..=80 * lanes).contains(&attempts), "{attempts} attempts in a minute, was there: {was_there}");
        // And it recovers by itself.
        gate.is_shut.store(false, SeqCst);
        cluster.start_broker(1).await;
        admin.describe_cluster().timeout(SECOND * 5).await.unwrap();
    }
    cluster.close().await;
}

/// A broker that cuts connections which work is not punished as one that is away.
#[tokio::test(start_paused = true)]
async fn a_connection_that_worked_resets_the_back_off() {
    let cluster = one_in_memory().await;
    let gate = Gate::new(&cluster);
    let client = gate.client(&cluster).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    for _ in 0..20 {
        gate.attempts.lock().unwrap().clear();
        let cut = Instant::now();
        cluster.stop_broker(1).await;
        cluster.start_broker(1).await;
        // 50 ms and its jitter before the connection is made anew; the request itself waits for its own back-off at most.
        admin.describe_cluster().timeout(ms(300)).await.unwrap();
        let first = gate.attempts()[0] - cut;
        assert!(first <= ms(125), "{first:?}");
        tokio::time::sleep(SECOND).await;
    }
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_made_again() {
    let cluster = one_in_memory().await;
    let gate = Gate::new(&cluster);
    let client = gate.client(&cluster).connections_max_idle(SECOND * 10).connect().await.unwrap();
    let admin = client.admin();
    admin.describe_cluster().await.unwrap();
    let before = gate.attempts().len();
    tokio::time::sleep(SECOND * 9).await;
    admin.describe_cluster().await.unwrap();
    assert_eq!(gate.attempts().len(), before);
    tokio::time::sleep(SECOND * 11).await;
    let start = Instant::now();
    admin.describe_cluster().await.unwrap();
    assert_eq!(gate.attempts().len(), before + 1);
    assert!(start.elapsed() < ms(10), "idleness is no failure, so there is no pause: {:?}", start.elapsed());
    cluster.close().await;
}
/// What a user's connector does wrong costs the attempt, not the broker.
#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_is_asked_again() {
    let cluster = one_in_memory().await;
    let panics = AtomicUsize::new(3);
    let gate = Gate::wrapping(&cluster, move |stream| {
        let again = panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        assert!(!again, "a planted panic");
        stream
    });
    let client = gate.client(&cluster).build().unwrap();
    exchange(&client).await.unwrap();
    assert_eq!(gate.attempts().len(), 6);
    cluster.close().await;
}
