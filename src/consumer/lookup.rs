//! Offsets by time, asked of whoever leads the partitions, until there is an answer for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::connection::Call;
use crate::net::{Class, Core, Route};
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::leader::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::wire::message::Request;

/// A record's place in the log and in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970; -1 where an end of the log was asked for.
    pub timestamp: i64,
    /// The epoch of the leader that appended it, if the broker says so.
    pub leader_epoch: Option<i32>,
}

/// What one leader is asked: the timestamp and the leader's epoch by partition.
pub type Asked = BTreeMap<TopicPartition, (i64, i32)>;

/// A ListOffsets for all of `asked`.
pub fn request(core: &Core, asked: &Asked, read_committed: bool) -> ListOffsetsRequest {
    let mut topics: BTreeMap<Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (tp, &(timestamp, current_leader_epoch)) in asked {
        topics.entry(Arc::clone(&tp.topic)).or_default().push(ListOffsetsPartition {
            partition_index: tp.partition,
            current_leader_epoch,
            timestamp,
            ..Default::default()
        });
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(name, partitions)| ListOffsetsTopic { name, partitions, ..Default::default() });
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: i8::from(read_committed),
        topics: topics.collect(),
        timeout_ms: i32::try_from(core.network.request_timeout.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    }
}

/// The answers by partition; of several for one, any.
pub fn answers(response: &ListOffsetsResponse) -> BTreeMap<TopicPartition, &ListOffsetsPartitionResponse> {
    let answers = response.topics.iter().flat_map(|topic| {
        let tp = |index| TopicPartition::new(Arc::clone(&topic.name), index);
        topic.partitions.iter().map(move |partition| (tp(partition.partition_index), partition))
    });
    answers.collect()
}

/// The offset at or behind each timestamp, or of an end of the log; none where there is no such record.
pub async fn list(
    core: &Core,
    mut asked: BTreeMap<TopicPartition, i64>,
    read_committed: bool,
) -> Result<BTreeMap<TopicPartition, Option<OffsetAndTimestamp>>, Error> {
    let deadline = core.now() + core.api_timeout;
    let mut backoff = core.backoff();
    let mut found = BTreeMap::new();
    loop {
        let mut last = None;
        for (leader, asked_here) in by_leader(core, &asked, deadline).await? {
            match ask(core, leader, &asked_here, read_committed, deadline).await {
                Err(error) => last = Some(error),
                Ok(answered) => {
                    for (tp, offset) in answered {
                        match offset {
                            Ok(offset) => {
                                asked.remove(&tp);
                                found.insert(tp, offset);
                            }
                            Err(code) => match code.action(ListOffsetsRequest::API) {
                                Action::Fail | Action::Fatal => return Err(refused(&tp, code)),
                                _ => last = Some(refused(&tp, code)),
                            },
                        }
                    }
                }
            }
        }
        if asked.is_empty() {
            return Ok(found);
        }
        core.metadata.refresh();
        let delay = backoff.next_delay(core.network.runtime.random());
        if core.now() + delay >= deadline {
            let what = format!("offsets of {} partitions", asked.len());
            let last = last.unwrap_or_else(|| Error::new(ErrorKind::Timeout, "they have no leader"));
            let message = format!("{what}: not found within default_api_timeout: {last}");
            return Err(Error::new(ErrorKind::Timeout, message).with_source(last));
        }
        core.sleep(delay).await;
    }
}

/// Who is to be asked for what. Partitions without a leader are left out.
async fn by_leader(
    core: &Core,
    asked: &BTreeMap<TopicPartition, i64>,
    deadline: Instant,
) -> Result<BTreeMap<i32, Asked>, Error> {
    let mut leaders: BTreeMap<i32, Asked> = BTreeMap::new();
    for (tp, &timestamp) in asked {
        let topic = core.metadata.topic(&core.network, &tp.topic, false, deadline, "default_api_timeout").await?;
        let Some(partition) = topic.partition(tp.partition) else {
            let count = topic.partitions.len();
            let message =
                format!("topic `{}` has {count} partitions, from 0, and no partition {}", tp.topic, tp.partition);
            return Err(Error::new(ErrorKind::UnknownPartition, message).with_partition(tp.clone()));
        };
        if let Some(leader) = partition.leader {
            leaders.entry(leader).or_default().insert(tp.clone(), (timestamp, partition.leader_epoch));
        }
    }
    Ok(leaders)
}

type Answered = BTreeMap<TopicPartition, Result<Option<OffsetAndTimestamp>, ErrorCode>>;

async fn ask(
    core: &Core,
    leader: i32,
    asked: &Asked,
    read_committed: bool,
    deadline: Instant,
) -> Result<Answered, Error> {
    let call = Call::new(request(core, asked, read_committed));
    let response = core.try_call(Route::Node(leader), Class::General, call, deadline).await?;
    let answers = answers(&response);
    let answered = asked.iter().filter_map(|(tp, (timestamp, _))| {
        let answer = answers.get(tp)?;
        let offset = answer.error_code.check().and_then(|()| match answer.offset {
            // An end of a log is never negative (rule 47).
            ..0 if *timestamp < 0 => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
            ..0 => Ok(None),
            offset => Ok(Some(OffsetAndTimestamp {
                offset,
                timestamp: answer.timestamp,
                leader_epoch: Some(answer.leader_epoch).filter(|epoch| *epoch >= 0),
            })),
        });
        Some((tp.clone(), offset))
    });
    Ok(answered.collect())
}

fn refused(tp: &TopicPartition, code: ErrorCode) -> Error {
    Error::broker(code, format_args!("offsets of {tp}")).with_partition(tp.clone())
}
