//! Brokers that stop, start, hang and hand over; and the cluster's own end.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use milena::mock::{Api, Fault, MockCluster, When};
use milena::{Address, Connector};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::fetch::{fetch, partition};
use crate::harness::{Batch, Peer, in_memory, produce_request, values};

async fn dial(cluster: &MockCluster, broker: usize) -> std::io::Result<Peer> {
    let stream = TcpStream::connect(&cluster.bootstrap()[broker - 1]).await?;
    Ok(Peer::over(Box::new(stream)))
}

#[tokio::test]
async fn a_cluster_on_tcp_serves_and_closes() {
    let cluster = MockCluster::builder().brokers(3).start().await;
    cluster.create_topic("t", 3);
    for broker in 1..=3 {
        let mut peer = dial(&cluster, broker).await.unwrap();
        let metadata = peer.metadata(&["t"]).await;
        assert_eq!(metadata.brokers.len(), 3);
        let leader = cluster.leader("t", broker as i32 - 1).unwrap();
        let mut leader = dial(&cluster, leader as usize).await.unwrap();
        // Larger than any buffer between the two, in both directions.
        let large = "x".repeat(1_000_000);
        assert_eq!(leader.produce("t", broker as i32 - 1, Batch::of(&[&large])).await.error_code, 0);
        let fetched = crate::fetch::fetch_bytes(&mut leader, "t", broker as i32 - 1, 0).await;
        assert_eq!(fetched.len(), Batch::of(&[&large]).bytes().len());
    }
    let addresses = cluster.bootstrap();
    let mut open = dial(&cluster, 1).await.unwrap();
    cluster.close().await;
    assert!(open.frame().await.is_none());
    for address in addresses {
        assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    }
}

#[tokio::test]
async fn dropping_the_cluster_closes_it_too() {
    let cluster = MockCluster::start().await;
    let address = cluster.bootstrap()[0].clone();
    let connector = cluster.connector();
    let mut open = dial(&cluster, 1).await.unwrap();
    open.metadata(&[]).await;
    drop(cluster);
    assert!(timeout(Duration::from_secs(10), open.frame()).await.unwrap().is_none());
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let address: Address = address.parse().unwrap();
    let error = connector.connect(&address).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn ten_brokers_start_fast() {
    let started = std::time::Instant::now();
    let cluster = MockCluster::builder().brokers(10).start().await;
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
    cluster.close().await;
}

#[tokio::test]
async fn the_in_memory_way_works_beside_tcp() {
    let cluster = MockCluster::start().await;
    cluster.create_topic("t", 1);
    Peer::connect(&cluster, 1).await.produce("t", 0, Batch::of(&["a"])).await;
    dial(&cluster, 1).await.unwrap().produce("t", 0, Batch::of(&["b"])).await;
    assert_eq!(values(&cluster, "t", 0), ["a", "b"]);
    let unknown = Address::new("example.org", 9092);
    assert!(cluster.connector().connect(&unknown).await.is_err());
    cluster.close().await;
}

#[tokio::test]
async fn a_stopped_broker_is_gone_and_comes_back_at_its_port() {
    let cluster = MockCluster::builder().brokers(3).start().await;
    cluster.create_topic("t", 3);
    let stopped = cluster.leader("t", 0).unwrap();
    let other = stopped % 3 + 1;
    let mut open = dial(&cluster, stopped as usize).await.unwrap();
    let before = open.metadata(&["t"]).await;
    let epoch = before.topics[0].partitions[0].leader_epoch;

    cluster.stop_broker(stopped).await;
    cluster.stop_broker(stopped).await; // nothing more
    assert!(open.frame().await.is_none());
    assert!(dial(&cluster, stopped as usize).await.is_err());
    let mut peer = dial(&cluster, other as usize).await.unwrap();
    let metadata = peer.metadata(&["t"]).await;
    assert_eq!(metadata.brokers.len(), 2);
    assert!(metadata.brokers.iter().all(|broker| broker.node_id.0 != stopped));
    assert_ne!(metadata.controller_id.0, stopped);
    let partition = &metadata.topics[0].partitions[0];
    assert_ne!(partition.leader_id.0, stopped);
    assert_eq!(partition.leader_epoch, epoch + 1);
    assert_eq!((partition.isr_nodes.len(), partition.offline_replicas[0].0), (2, stopped));
    assert_eq!(cluster.live_brokers().len(), 2);

    cluster.start_broker(stopped).await;
    cluster.start_broker(stopped).await; // nothing more
    let mut again = dial(&cluster, stopped as usize).await.unwrap();
    let metadata = again.metadata(&["t"]).await;
    assert_eq!(metadata.brokers.len(), 3);
    assert_ne!(metadata.topics[0].partitions[0].leader_id.0, stopped, "leaderships do not come back by themselves");
    cluster.close().await;
}

#[tokio::test]
async fn a_broker_is_added() {
    for in_memory in [false, true] {
        let builder = MockCluster::builder().brokers(2);
        let cluster = if in_memory { builder.in_memory() } else { builder }.start().await;
        cluster.create_topic("before", 2);
        assert_eq!(cluster.add_broker().await, 3);
        assert_eq!((cluster.bootstrap().len(), cluster.live_brokers()), (3, vec![1, 2, 3]));
        cluster.create_topic("after", 3);
        let leaders: std::collections::BTreeSet<_> =
            (0..3).filter_map(|index| cluster.leader("after", index)).collect();
        assert_eq!(leaders.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
        let mut peer = if in_memory { Peer::connect(&cluster, 3).await } else { dial(&cluster, 3).await.unwrap() };
        let metadata = peer.metadata(&["before"]).await;
        assert_eq!(metadata.brokers.len(), 3);
        assert!(metadata.topics[0].partitions.iter().all(|partition| partition.replica_nodes.len() == 2));
        cluster.move_leader("before", 0, 3);
        assert_eq!(peer.produce("before", 0, Batch::of(&["x"])).await.error_code, 0);
        assert_eq!(values(&cluster, "before", 0), ["x"]);
        // It is a broker as any other.
        cluster.stop_broker(3).await;
        assert!(peer.frame().await.is_none());
        assert_ne!(cluster.leader("before", 0), Some(3));
        cluster.start_broker(3).await;
        assert_eq!(cluster.live_brokers(), [1, 2, 3]);
        cluster.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_replicas_there_is_no_leader() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    let first = cluster.leader("t", 0).unwrap();
    let second = 3 - first;
    let mut peer = Peer::connect(&cluster, first).await;
    peer.produce("t", 0, Batch::of(&["a"])).await;
    cluster.stop_broker(first).await;
    assert_eq!(cluster.leader("t", 0), Some(second));
    cluster.stop_broker(second).await;
    assert_eq!(cluster.leader("t", 0), None);
    let address: Address = cluster.bootstrap()[0].parse().unwrap();
    assert!(cluster.connector().connect(&address).await.is_err());
    cluster.start_broker(first).await;
    assert_eq!(cluster.leader("t", 0), None, "it was not in sync when the other stopped");
    cluster.start_broker(second).await;
    assert_eq!(cluster.leader("t", 0), Some(second));
    assert_eq!(cluster.in_sync_replicas("t", 0).len(), 2);
    assert_eq!(values(&cluster, "t", 0), ["a"], "records outlive their brokers");
    let metadata = Peer::connect(&cluster, first).await.metadata(&["t"]).await;
    assert_eq!(metadata.topics[0].partitions[0].leader_epoch, 3, "to the other, to none, and back");
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_leader_says_so() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.stop_broker(2).await;
    cluster.create_topic("single", 1);
    cluster.start_broker(2).await;
    assert_eq!(cluster.leader("single", 0), Some(1));
    cluster.stop_broker(1).await;
    let metadata = Peer::connect(&cluster, 2).await.metadata(&["single"]).await;
    let partition = &metadata.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id.0, metadata.topics[0].error_code), (5, -1, 0));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_broker_reads_and_says_nothing() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut waiting = Peer::connect(&cluster, 1).await;
    waiting.send(12, &fetch("t", vec![partition(0, 0)])).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.hang_broker(1);
    let started = Instant::now();
    let mut peer = Peer::connect(&cluster, 1).await;
    peer.send(12, &MetadataRequest::default()).await;
    assert!(timeout(Duration::from_secs(60), peer.frame()).await.is_err());
    assert!(timeout(Duration::from_secs(60), waiting.frame()).await.is_err(), "what was under way hangs too");
    assert_eq!(Peer::connect(&cluster, 2).await.metadata(&["t"]).await.topics[0].partitions[0].leader_id.0, 1);
    cluster.resume_broker(1);
    peer.receive::<MetadataRequest>(12).await;
    assert!(waiting.frame().await.is_some());
    assert_eq!(started.elapsed(), Duration::from_secs(120));
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_shuts_down_in_order() {
    let cluster = in_memory(2).await;
    cluster.create_topic("t", 1);
    cluster.move_leader("t", 0, 1);
    let mut idle = Peer::connect(&cluster, 1).await;
    idle.metadata(&[]).await;
    let mut fetching = Peer::connect(&cluster, 1).await;
    fetching.send(9, &fetch("t", vec![partition(0, 0)]).with_max_wait_ms(i32::MAX)).await;
    cluster.inject(When::api(Api::Metadata), Fault::delay(Duration::from_millis(300)));
    let mut asking = Peer::connect(&cluster, 1).await;
    asking.send(12, &MetadataRequest::default()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = Instant::now();
    cluster.shut_down_broker(1).await;
    assert_eq!(started.elapsed(), Duration::from_millis(299), "as long as a request is being handled");
    assert_eq!(cluster.leader("t", 0), Some(2));
    asking.receive::<MetadataRequest>(12).await;
    let answer = fetching.receive::<kafka_protocol::messages::FetchRequest>(9).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 6, "it does not lead any more");
    assert!(asking.frame().await.is_none() && fetching.frame().await.is_none() && idle.frame().await.is_none());
    cluster.shut_down_broker(1).await; // nothing more
    cluster.start_broker(1).await;
    Peer::connect(&cluster, 1).await.metadata(&["t"]).await;
    // What takes too long is cut off.
    cluster.inject(When::api(Api::Metadata), Fault::delay(Duration::from_secs(60)));
    let mut asking = Peer::connect(&cluster, 1).await;
    asking.send(12, &MetadataRequest::default()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let started = Instant::now();
    cluster.shut_down_broker(1).await;
    assert_eq!(started.elapsed(), Duration::from_millis(500));
    assert!(asking.frame().await.is_none());
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn leaders_move() {
    let cluster = in_memory(3).await;
    cluster.create_topic("t", 1);
    let epochs = async |leader: i32| {
        cluster.move_leader("t", 0, leader);
        let partition = Peer::connect(&cluster, 1).await.metadata(&["t"]).await.topics[0].partitions[0].clone();
        assert_eq!((partition.leader_id.0, cluster.leader("t", 0)), (leader, Some(leader)));
        let answer = Peer::connect(&cluster, leader).await.produce("t", 0, Batch::of(&["x"])).await;
        assert_eq!(answer.error_code, 0);
        for other in (1..=3).filter(|other| *other != leader) {
            assert_eq!(Peer::connect(&cluster, other).await.produce("t", 0, Batch::of(&["y"])).await.error_code, 6);
        }
        partition.leader_epoch
    };
    let (first, second, again, third) = (epochs(2).await, epochs(3).await, epochs(3).await, epochs(1).await);
    assert_eq!((second, again, third), (first + 1, first + 1, first + 2));
    let in_log: Vec<_> = cluster.batches("t", 0).iter().map(|batch| batch.leader_epoch).collect();
    assert_eq!(in_log, [first, second, second, third]);
    cluster.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_closed_cluster_lets_go_of_everything() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.inject(When::any().nth(1), Fault::stall());
    let mut stalled = Peer::connect(&cluster, 1).await;
    stalled.send(12, &MetadataRequest::default()).await;
    let mut fetching = Peer::connect(&cluster, 1).await;
    fetching.send(12, &fetch("t", vec![partition(0, 0)]).with_max_wait_ms(i32::MAX)).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 2, "one for each connection");
    cluster.close().await;
    assert_eq!(metrics.num_alive_tasks(), 0);
    assert!(stalled.frame().await.is_none() && fetching.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_can_be_used_from_another_runtime() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    let (connector, address) = (cluster.connector(), cluster.bootstrap()[0].parse::<Address>().unwrap());
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stream = connector.connect(&address).await.unwrap();
            Peer::over(stream).produce("t", 0, Batch::of(&["x"])).await.error_code
        })
    });
    while !other.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(other.join().unwrap(), 0);
    cluster.close().await;
}

/// Idempotent producers that only retry, against brokers that come and go, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_is_in_the_log_once() {
    const PRODUCERS: i32 = 6;
    const BATCHES: i32 = 60;
    let cluster = Arc::new(MockCluster::builder().brokers(3).in_memory().seed(7).start().await);
    cluster.create_topic("t", 3);
    cluster.inject(When::api(Api::Produce).probability(0.1), Fault::lose_answer());
    cluster.inject(When::api(Api::Produce).probability(0.1), Fault::close());
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|id| {
            let cluster = cluster.clone();
            tokio::spawn(async move {
                let index = id % 3;
                let mut acknowledged = Vec::new();
                let mut peer = None;
                for sequence in 0..BATCHES {
                    let value = format!("{id}-{sequence}");
                    let request = produce_request("t", index, Batch::of(&[&value]).by(id.into(), 0, sequence));
                    loop {
                        let leader = cluster.leader("t", index);
                        let address = leader.map(|leader| cluster.bootstrap()[leader as usize - 1].parse().unwrap());
                        if peer.is_none()
                            && let Some(address) = address
                        {
                            peer = cluster.connector().connect(&address).await.ok().map(Peer::over);
                        }
                        let Some(connected) = &mut peer else {
                            tokio::task::yield_now().await;
                            continue;
                        };
                        let answer = connected.try_ask(9, &request).await;
                        let answer = answer.map(|answer| answer.responses[0].partition_responses[0].clone());
                        match answer.map(|answer| (answer.error_code, answer.base_offset)) {
                            Some((0, offset)) => {
                                acknowledged.push((offset, value));
                                break;
                            }
                            Some((6, _)) | None => peer = None,
                            Some(other) => panic!("{other:?}"),
                        }
                    }
                }
                (index, acknowledged)
            })
        })
        .collect();
    let mut round = 0;
    while !producers.iter().all(|producer| producer.is_finished()) {
        let broker = round % 3 + 1;
        cluster.stop_broker(broker).await;
        cluster.start_broker(broker).await;
        cluster.move_leader("t", round % 3, (round + 1) % 3 + 1);
        round += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for producer in producers {
        let (index, acknowledged) = producer.await.unwrap();
        let log = values(&cluster, "t", index);
        assert_eq!(log.len(), 2 * BATCHES as usize, "two producers write to each partition");
        assert!(acknowledged.iter().map(|(offset, _)| offset).is_sorted());
        assert!(acknowledged.iter().all(|(offset, value)| log[*offset as usize] == *value));
    }
    assert!(cluster.violations().is_empty());
    Arc::into_inner(cluster).unwrap().close().await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "there is no partition t-1")]
async fn asking_for_what_is_not_there_panics() {
    let cluster = in_memory(1).await;
    cluster.create_topic("t", 1);
    cluster.log("t", 1);
}
