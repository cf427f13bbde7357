//! Every commit of a group, in order: on real brokers from the log that they keep of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::{Client, OffsetReset};
use tokio::task::JoinHandle;

use super::judge::Committed;
use super::member::now;
use crate::cluster::Cluster;

const LOG: &str = "__consumer_offsets";

/// The broker that coordinates the group.
pub async fn coordinator(cluster: &Cluster, client: &Client, group: &str) -> i32 {
    if let Cluster::Mock(mock) = cluster {
        return mock.coordinator(group).expect("a coordinator");
    }
    let described = client.admin().describe_topics([LOG]).await.expect("the log of commits");
    let partitions = &described[0].partitions;
    // As Java hashes strings; an id is ASCII.
    let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    let index = hash.unsigned_abs() as usize % partitions.len();
    partitions.iter().find(|p| p.index as usize == index).and_then(|p| p.leader).expect("its leader")
}

/// Looks what is committed all the time: for the mock, which keeps no log of it.
pub fn watch(
    cluster: &Arc<Cluster>,
    group: &str,
    topic: &str,
    partitions: i32,
    is_over: &Arc<AtomicBool>,
) -> JoinHandle<Vec<Committed>> {
    let (cluster, is_over) = (Arc::clone(cluster), Arc::clone(is_over));
    let (group, topic) = (group.to_owned(), topic.to_owned());
    tokio::spawn(async move {
        let mut seen: Vec<Committed> = Vec::new();
        let mut last = vec![None; partitions as usize];
        while let (Cluster::Mock(mock), false) = (&*cluster, is_over.load(Ordering::Relaxed)) {
            for (partition, last) in (0..).zip(&mut last) {
                let committed = mock.committed(&group, &topic, partition);
                if let (Some(offset), true) = (committed, committed != *last) {
                    seen.push(Committed { at: now(), partition, offset });
                }
                *last = committed;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen
    })
}

/// From the log.
pub async fn read(client: &Client, group: &str, topic: &str) -> Vec<Committed> {
    let mut consumer = client.consumer().auto_offset_reset(OffsetReset::Earliest).build().expect("a consumer");
    let partitions = consumer.partitions_for(LOG).await.expect("the log of commits");
    consumer.assign(partitions).expect("its partitions");
    consumer.stop_at_end().await.expect("ends");
    let mut seen = Vec::new();
    while let Some(batch) = consumer.poll().await.expect("a log that can be read") {
        for record in batch {
            let place = record.key().and_then(place);
            let offset = record.value().and_then(|value| Some(i64::from_be_bytes(*value.get(2..)?.first_chunk()?)));
            if let (Some((of, name, partition)), Some(offset)) = (place, offset)
                && of == group
                && name == topic
            {
                let at = Duration::from_millis(u64::try_from(record.timestamp()).unwrap_or_default());
                seen.push(Committed { at, partition, offset });
            }
        }
    }
    seen
}

/// ```text
///   i16 version 0 or 1 │ i16 length, group │ i16 length, topic │ i32 partition
/// ```
fn place(key: &[u8]) -> Option<(&str, &str, i32)> {
    let (version, rest) = key.split_first_chunk()?;
    let text = |bytes| -> Option<(&str, &[u8])> {
        let (length, rest): (&[u8; 2], &[u8]) = <[u8]>::split_first_chunk(bytes)?;
        let (text, rest) = rest.split_at_checked(i16::from_be_bytes(*length).try_into().ok()?)?;
        Some((std::str::from_utf8(text).ok()?, rest))
    };
    let (group, rest) = text(rest)?;
    let (topic, rest) = text(rest)?;
    let is_offset = matches!(i16::from_be_bytes(*version), 0 | 1);
    is_offset.then_some((group, topic, i32::from_be_bytes(*rest.first_chunk()?)))
}
