//! Who keeps a group's offsets and looks after its members, and asking it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::consumer::commit::OffsetAndMetadata;
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::connection::{Call, CallError};
use crate::machine::group::Identity;
use crate::net::{Address, Class, Core, Endpoint, Route};
use crate::wire::cluster::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::coordinator::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::message::Request;

/// A group id, and its coordinator as far as it is known.
#[derive(Debug)]
pub struct Coordinated {
    pub id: Arc<str>,
    coordinator: Mutex<Option<Endpoint>>,
}

/// Why the coordinator was not found.
pub enum NotFound {
    Again(Error),
    Never(Error),
}

/// The last version without topic ids.
pub const BY_NAME: i16 = 9;

impl Coordinated {
    pub fn new(id: Arc<str>) -> Self {
        Self { id, coordinator: Mutex::default() }
    }

    /// What is committed for each of the partitions; those without a commit are left out. `member`: as whom to ask at each
    /// attempt, if as somebody; `doubt` hears of it when the coordinator sees that otherwise.
    pub async fn committed(
        &self,
        core: &Core,
        tps: Vec<TopicPartition>,
        member: impl Fn() -> Option<Identity>,
        doubt: impl Fn(ErrorCode),
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error> {
        if tps.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
        for tp in &tps {
            topics.entry(Arc::clone(&tp.topic)).or_default().push(tp.partition);
        }
        let what = format!("offsets of group `{}`", self.id);
        let found = |response: &OffsetFetchResponse| {
            let (tp, code) = verdict(response, &tps);
            if matches!(code, ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::UNKNOWN_MEMBER_ID) {
                doubt(code);
            }
            (tp, code)
        };
        let response = self.call(core, || fetch_forms(&self.id, member().as_ref(), &topics), found, &what).await?;
        let mut committed = BTreeMap::new();
        for (tp, offset, code) in fetched(&response) {
            code.check().map_err(|code| {
                let error = match tp.topic.is_empty() {
                    true => Error::broker(code, &what), // of the whole group
                    false => Error::broker(code, format_args!("{what}: {tp}")).with_partition(tp.clone()),
                };
                core.network.security.explain(error)
            })?;
            // Below zero: nothing is committed.
            if offset.offset >= 0 {
                committed.insert(tp, offset);
            }
        }
        Ok(committed)
    }

    /// One answer of the coordinator without an error that asks for another, before the client's limit.
    async fn call<R: Request>(
        &self,
        core: &Core,
        forms: impl Fn() -> Vec<Call<R>>,
        refused: impl Fn(&R::Response) -> (Option<TopicPartition>, ErrorCode),
        what: &str,
    ) -> Result<R::Response, Error> {
        let deadline = core.now() + core.api_timeout;
        let mut backoff = core.backoff();
        loop {
            let last = match self.coordinator(core, deadline).await {
                Err(NotFound::Never(error)) => return Err(error),
                Err(NotFound::Again(error)) => error,
                Ok(endpoint) => match send(core, Some(&endpoint), Class::Commit, forms(), deadline).await {
                    Ok(response) => {
                        let (tp, code) = refused(&response);
                        match code.action(R::API) {
                            Action::Retry | Action::Refresh => {}
                            Action::FindCoordinator => self.forget(&endpoint),
                            _ => return Ok(response),
                        }
                        let error = Error::broker(code, what);
                        match tp {
                            Some(tp) => error.with_partition(tp),
                            None => error,
                        }
                    }
                    Err(error) if error.is_transient() => {
                        self.forget(&endpoint);
                        error.into()
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            let delay = backoff.next_delay(core.network.runtime.random());
            if core.now() + delay >= deadline {
                let message = format!("{what}: not done within default_api_timeout: {last}");
                let error = Error::new(ErrorKind::Timeout, message);
                let tp = last.topic_partition().cloned();
                let error = error.with_source(last);
                return Err(match tp {
                    Some(tp) => error.with_partition(tp),
                    None => error,
                });
            }
            core.sleep(delay).await;
        }
    }

    pub async fn coordinator(&self, core: &Core, deadline: Instant) -> Result<Endpoint, NotFound> {
        if let Some(known) = self.lock().clone() {
            return Ok(known);
        }
        let batched = FindCoordinatorRequest { coordinator_keys: vec![Arc::clone(&self.id)], ..Default::default() };
        let single = FindCoordinatorRequest { key: Arc::clone(&self.id), ..Default::default() };
        let forms = vec![Call::new(batched), Call::up_to(single, 3)];
        let response = send(core, None, Class::General, forms, deadline).await.map_err(|error| {
            // Not the answer of a coordinator but of anybody: another may do.
            core.metadata.refresh();
            let again = error.is_transient();
            if again { NotFound::Again(error.into()) } else { NotFound::Never(error.into()) }
        })?;
        let (code, node, address) = located(&response);
        match (code.action(FindCoordinatorRequest::API), address) {
            (Action::Done, Some(address)) if node >= 0 => {
                let endpoint = Endpoint { node: Some(node), address };
                *self.lock() = Some(endpoint.clone());
                Ok(endpoint)
            }
            (Action::Fail | Action::Fatal, _) => {
                let error = Error::broker(code, format_args!("finding the coordinator of group `{}`", self.id));
                Err(NotFound::Never(core.network.security.explain(error)))
            }
            _ => {
                let message = format!("no broker knows the coordinator of group `{}` yet: {code}", self.id);
                Err(NotFound::Again(Error::new(ErrorKind::Timeout, message)))
            }
        }
    }

    pub fn forget(&self, endpoint: &Endpoint) {
        let mut known = self.lock();
        if known.as_ref() == Some(endpoint) {
            *known = None;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Endpoint>> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the first form that the broker's version can express: some requests changed their shape.
pub async fn send<R: Request>(
    core: &Core,
    to: Option<&Endpoint>,
    class: Class,
    forms: Vec<Call<R>>,
    deadline: Instant,
) -> Result<R::Response, CallError> {
    let deadline = deadline.min(core.now() + core.network.request_timeout);
    let mut outcome = Err(CallError::NotSentInTime { api: R::API });
    for form in forms {
        outcome = match to {
            Some(endpoint) => core.brokers.call(endpoint, class, form, deadline).await,
            None => core.try_call(Route::Any, class, form, deadline).await,
        };
        if !matches!(outcome, Err(CallError::Encode { .. })) {
            break;
        }
    }
    outcome
}

/// v9 knows members, v8 asks for groups, v7 for stable offsets; before that there was none of it.
fn fetch_forms(
    group: &Arc<str>,
    member: Option<&Identity>,
    topics: &BTreeMap<Arc<str>, Vec<i32>>,
) -> Vec<Call<OffsetFetchRequest>> {
    let asked = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
        name: Arc::clone(name),
        partition_indexes: partitions.clone(),
        ..Default::default()
    });
    let asked = OffsetFetchRequestGroup {
        group_id: Arc::clone(group),
        member_id: member.map(|member| Arc::clone(&member.member_id)),
        member_epoch: member.map_or(-1, |member| member.generation),
        topics: Some(asked.collect()),
        ..Default::default()
    };
    let batched = OffsetFetchRequest { groups: vec![asked], require_stable: true, ..Default::default() };
    let asked = topics.iter().map(|(name, partitions)| OffsetFetchRequestTopic {
        name: Arc::clone(name),
        partition_indexes: partitions.clone(),
        ..Default::default()
    });
    let oldest =
        OffsetFetchRequest { group_id: Arc::clone(group), topics: Some(asked.collect()), ..Default::default() };
    let stable = OffsetFetchRequest { require_stable: true, ..oldest.clone() };
    vec![Call::up_to(batched, BY_NAME), Call::up_to(stable, 7), Call::up_to(oldest, 6)]
}

fn located(response: &FindCoordinatorResponse) -> (ErrorCode, i32, Option<Address>) {
    let (code, node, host, port) = match response.coordinators.first() {
        Some(found) => (found.error_code, found.node_id, &found.host, found.port),
        None => (response.error_code, response.node_id, &response.host, response.port),
    };
    let address = u16::try_from(port).ok().filter(|port| *port > 0).map(|port| Address::new(Arc::clone(host), port));
    (code, node, address)
}

/// The code that decides. A partition that is not in the answer has not been answered: that it has no commit would have been
/// said (rule 60).
fn verdict(response: &OffsetFetchResponse, asked: &[TopicPartition]) -> (Option<TopicPartition>, ErrorCode) {
    let (tp, code) = worst(fetched(response).map(|(tp, _, code)| (tp, code)));
    if !code.is_ok() {
        return (tp, code);
    }
    let answered: BTreeSet<_> = fetched(response).map(|(tp, ..)| tp).collect();
    match asked.iter().find(|tp| !answered.contains(*tp)) {
        Some(missing) => (Some(missing.clone()), ErrorCode::OFFSET_NOT_AVAILABLE),
        None => (None, code),
    }
}

/// Of several codes one that no retry mends, else the first.
fn worst(codes: impl Iterator<Item = (TopicPartition, ErrorCode)>) -> (Option<TopicPartition>, ErrorCode) {
    let mut first = None;
    for (tp, code) in codes.filter(|(_, code)| !code.is_ok()) {
        let tp = Some(tp).filter(|tp| !tp.topic.is_empty());
        let is_final = matches!(code.action(OffsetFetchRequest::API), Action::Fail | Action::Fatal);
        if is_final {
            return (tp, code);
        }
        first = first.or(Some((tp, code)));
    }
    first.unwrap_or((None, ErrorCode::NONE))
}

/// Every partition of either form. An error of the whole answer comes first, under no topic's name.
fn fetched(response: &OffsetFetchResponse) -> impl Iterator<Item = (TopicPartition, OffsetAndMetadata, ErrorCode)> {
    let nothing = || (TopicPartition::new("", -1), OffsetAndMetadata::new(-1));
    let whole = response.groups.iter().map(|group| group.error_code).chain([response.error_code]);
    let whole = whole.filter(|code| !code.is_ok()).map(move |code| {
        let (tp, offset) = nothing();
        (tp, offset, code)
    });
    let new = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let tp = TopicPartition::new(Arc::clone(&topic.name), partition.partition_index);
            let offset = OffsetAndMetadata::new(partition.committed_offset)
                .leader_epoch(partition.committed_leader_epoch)
                .metadata(partition.metadata.clone().unwrap_or_default());
            (tp, offset, partition.error_code)
        })
    });
    let old = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| {
            let tp = TopicPartition::new(Arc::clone(&topic.name), partition.partition_index);
            let offset = OffsetAndMetadata::new(partition.committed_offset)
                .leader_epoch(partition.committed_leader_epoch)
                .metadata(partition.metadata.clone().unwrap_or_default());
            (tp, offset, partition.error_code)
        })
    });
    whole.chain(new).chain(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::coordinator::offset_fetch::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };

    /// Rule 60, in either form: a partition that is left out is asked for again, and does not begin somewhere else.
    #[test]
    fn a_partition_that_is_left_out_was_not_answered() {
        let asked = [TopicPartition::new("t", 0), TopicPartition::new("t", 1)];
        let of = |indexes: &[i32]| {
            let partition =
                |index: &i32| OffsetFetchResponsePartitions { partition_index: *index, ..Default::default() };
            let partitions = indexes.iter().map(partition).collect();
            let topic = OffsetFetchResponseTopics { name: "t".into(), partitions, ..Default::default() };
            let group = OffsetFetchResponseGroup { topics: vec![topic], ..Default::default() };
            OffsetFetchResponse { groups: vec![group], ..Default::default() }
        };
        let before = |indexes: &[i32]| {
            let partition =
                |index: &i32| OffsetFetchResponsePartition { partition_index: *index, ..Default::default() };
            let partitions = indexes.iter().map(partition).collect();
            let topic = OffsetFetchResponseTopic { name: "t".into(), partitions, ..Default::default() };
            OffsetFetchResponse { topics: vec![topic], ..Default::default() }
        };
        for response in [of(&[0, 1]), of(&[2, 1, 0]), before(&[0, 1])] {
            assert_eq!(verdict(&response, &asked), (None, ErrorCode::NONE));
        }
        for response in [of(&[0]), before(&[0, 2])] {
            let (tp, code) = verdict(&response, &asked);
            assert_eq!((tp.as_ref(), code.action(OffsetFetchRequest::API)), (Some(&asked[1]), Action::Retry));
        }
        assert_eq!(verdict(&of(&[]), &asked).0.as_ref(), Some(&asked[0]));
    }
}
