//! CreateTopics, DeleteTopics and CreatePartitions.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::api::KafkaRelease;
use super::broker::{Call, Handle, Handled};
use super::configs::{Entry, TopicConfig};
use super::fault::Target;
use super::state::{Refusal, State};
use super::topic::TopicId;

/// "Whatever the broker's default is", for counts of partitions and replicas.
const DEFAULT: i32 = -1;

/// What a topic or the whole request is refused for, before it is looked at.
fn refused(call: &Call<'_>, topic: &str) -> Option<i16> {
    let injected = call.effects.error_for(topic, None);
    let elsewhere = !call.shared.release.forwards_to_controller() && call.state().controller != call.broker;
    injected.or_else(|| elsewhere.then(|| ResponseError::NotController.code()))
}

fn message(text: impl Into<String>) -> Option<StrBytes> {
    Some(StrBytes::from(text.into())).filter(|text| !text.is_empty())
}

fn named(topics: impl Iterator<Item = String>) -> Vec<Target> {
    topics.map(|topic| Target { topic, partition: None }).collect()
}

/// Names that occur more than once.
fn repeated<'a>(names: impl Iterator<Item = &'a TopicName>) -> BTreeSet<TopicName> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

impl Handle for CreateTopicsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        named(self.topics.iter().map(|topic| topic.name.to_string()))
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let repeated = repeated(self.topics.iter().map(|topic| &topic.name));
        let mut done = BTreeSet::new();
        let once = call.shared.release >= KafkaRelease::V3_9;
        let topics = self.topics.into_iter().filter(|topic| done.insert(topic.name.clone()) || !once).map(|topic| {
            let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
            if let Some(error) = refused(call, &topic.name) {
                return result.with_error_code(error).with_configs(None);
            }
            let created = if repeated.contains(&topic.name) {
                Err(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name."))
            } else {
                create(call, &mut call.state(), &topic, self.validate_only)
            };
            match created {
                Ok(created) => result
                    .with_topic_id(created.id.to_wire())
                    .with_num_partitions(created.partitions)
                    .with_replication_factor(created.replicas)
                    .with_configs(Some(if call.version >= 5 { configs(&created.config) } else { Vec::new() })),
                Err(refusal) => result
                    .with_error_code(refusal.error.code())
                    .with_error_message(message(refusal.message))
                    .with_configs(Some(Vec::new())),
            }
        });
        let response = CreateTopicsResponse::default().with_topics(topics.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

struct Created {
    /// Zero if it was only validated.
    id: TopicId,
    partitions: i32,
    replicas: i16,
    config: TopicConfig,
}

fn create(call: &Call<'_>, state: &mut State, topic: &CreatableTopic, validate_only: bool) -> Result<Created, Refusal> {
    state.check_new(&topic.name)?;
    let mut config = state.new_config();
    for setting in &topic.configs {
        let value = setting.value.as_ref().map_or("", |value| value);
        config.set(&setting.name, value).map_err(|unfit| Refusal::new(ResponseError::InvalidConfig, unfit.message))?;
    }
    let replicas = if topic.assignments.is_empty() {
        let partitions = match topic.num_partitions {
            DEFAULT => call.shared.default_partitions,
            count => usize::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
                let message = "Number of partitions was set to an invalid non-positive value.";
                Refusal::new(ResponseError::InvalidPartitions, message)
            })?,
        };
        let replication = replication(state, topic.replication_factor)?;
        state.spread_new(partitions, replication)
    } else {
        if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
            let message =
                "A manual partition assignment was specified, but partitions or replication factor were not -1.";
            return Err(Refusal::new(ResponseError::InvalidRequest, message));
        }
        assigned(state, &topic.assignments)?
    };
    let partitions = i32::try_from(replicas.len()).unwrap_or(i32::MAX);
    let count = replicas.first().map_or(0, Vec::len);
    let id = if validate_only { TopicId::default() } else { state.create(&topic.name, replicas, config.clone()) };
    Ok(Created { id, partitions, replicas: i16::try_from(count).unwrap_or(i16::MAX), config })
}

fn replication(state: &State, asked: i16) -> Result<usize, Refusal> {
    let refuse = |message: String| Refusal::new(ResponseError::InvalidReplicationFactor, message);
    if i32::from(asked) == DEFAULT {
        return Ok(state.replication_default());
    }
    let replication = usize::try_from(asked).ok().filter(|count| *count > 0);
    let replication = replication.ok_or_else(|| refuse("Replication factor must be larger than 0, or -1.".into()))?;
    let live = state.live().count();
    if replication > live {
        let message =
            format!("Unable to replicate the partition {replication} time(s): only {live} broker(s) are registered.");
        return Err(refuse(message));
    }
    Ok(replication)
}

fn assigned(state: &State, assignments: &[CreatableReplicaAssignment]) -> Result<Vec<Vec<i32>>, Refusal> {
    let refuse = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let mut assignments: Vec<_> = assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition_index);
    if !assignments.iter().map(|assignment| assignment.partition_index).eq((0..).take(assignments.len())) {
        return Err(refuse("partitions should be a consecutive 0-based integer sequence"));
    }
    replica_lists(state, assignments.into_iter().map(|assignment| assignment.broker_ids.as_slice()))
}

/// Lists of replicas that a client has chosen: known brokers, each once, as many everywhere.
fn replica_lists<'a>(state: &State, lists: impl Iterator<Item = &'a [BrokerId]>) -> Result<Vec<Vec<i32>>, Refusal> {
    let refuse = |message: &str| Refusal::new(ResponseError::InvalidReplicaAssignment, message);
    let lists: Vec<Vec<i32>> = lists.map(|brokers| brokers.iter().map(|broker| broker.0).collect()).collect();
    for brokers in &lists {
        if brokers.is_empty() || lists.first().is_some_and(|first| first.len() != brokers.len()) {
            return Err(refuse(
                "The manual partition assignment has partitions with no or with different numbers of replicas.",
            ));
        }
        if brokers.iter().collect::<BTreeSet<_>>().len() < brokers.len() {
            return Err(refuse("The manual partition assignment includes a broker more than once."));
        }
        if !brokers.iter().all(|broker| state.is_live(*broker)) {
            return Err(refuse("The manual partition assignment includes a broker that is not registered."));
        }
    }
    Ok(lists)
}

fn configs(config: &TopicConfig) -> Vec<CreatableTopicConfigs> {
    let entry = |entry: Entry<'_>| {
        CreatableTopicConfigs::default()
            .with_name(entry.name.into())
            .with_value(Some(entry.value.to_owned().into()))
            .with_config_source(entry.source as i8)
    };
    config.all().map(entry).collect()
}

impl Handle for DeleteTopicsRequest {
    fn targets(&self, call: &Call<'_>) -> Vec<Target> {
        let state = call.state();
        let by_state = self.topics.iter().filter_map(|topic| match &topic.name {
            Some(name) => Some(name.to_string()),
            None => state.name_of(TopicId::from_wire(topic.topic_id)).map(str::to_owned),
        });
        named(self.topic_names.iter().map(|name| name.to_string()).chain(by_state))
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let by_name = self.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name)));
        let responses = by_name.chain(self.topics).map(|topic| {
            let by_id = call.version >= 6 && !TopicId::from_wire(topic.topic_id).is_zero();
            let with_ids = call.shared.release >= KafkaRelease::V3_9;
            let name = topic.name.as_ref().filter(|_| with_ids);
            let id = name.and_then(|name| Some(call.state().topic(name)?.id.to_wire()));
            let (name, deleted) = delete(call, &topic, by_id);
            let (error, text) = deleted.err().unwrap_or_default();
            DeletableTopicResult::default()
                .with_name(name.map(|name| StrBytes::from(name).into()))
                .with_topic_id(id.unwrap_or(topic.topic_id))
                .with_error_code(error)
                .with_error_message(message(text))
        });
        let response = DeleteTopicsResponse::default().with_responses(responses.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn delete(call: &Call<'_>, topic: &DeleteTopicState, by_id: bool) -> (Option<String>, Result<(), (i16, String)>) {
    let fail = |error: ResponseError, text: &str| Err((error.code(), text.to_owned()));
    let name = match (&topic.name, by_id) {
        (Some(name), true) => {
            let text = "You may not specify both topic name and topic id.";
            return (Some(name.to_string()), fail(ResponseError::InvalidRequest, text));
        }
        (Some(name), false) => Some(name.to_string()),
        (None, _) => call.state().name_of(TopicId::from_wire(topic.topic_id)).map(str::to_owned),
    };
    let Some(name) = name else {
        return (None, fail(ResponseError::UnknownTopicId, "This server does not host this topic ID."));
    };
    if let Some(error) = refused(call, &name) {
        return (Some(name), Err((error, String::new())));
    }
    let deleted = if call.state().delete(&name) {
        Ok(())
    } else {
        fail(ResponseError::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    };
    (Some(name), deleted)
}

impl Handle for CreatePartitionsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        named(self.topics.iter().map(|topic| topic.name.to_string()))
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let repeated = repeated(self.topics.iter().map(|topic| &topic.name));
        let mut done = BTreeSet::new();
        let results = self.topics.into_iter().filter(|topic| done.insert(topic.name.clone())).map(|topic| {
            let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
            if let Some(error) = refused(call, &topic.name) {
                return result.with_error_code(error);
            }
            let grown = if repeated.contains(&topic.name) {
                Err(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name."))
            } else {
                grow(&mut call.state(), &topic, self.validate_only)
            };
            match grown {
                Ok(()) => result,
                Err(refusal) => {
                    result.with_error_code(refusal.error.code()).with_error_message(message(refusal.message))
                }
            }
        });
        let response = CreatePartitionsResponse::default().with_results(results.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn grow(state: &mut State, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refusal> {
    let topic = state.topic(&asked.name);
    let topic = topic.ok_or_else(|| Refusal::new(ResponseError::UnknownTopicOrPartition, ""))?;
    let now = topic.partitions.len();
    let wanted = usize::try_from(asked.count).unwrap_or(0);
    if wanted <= now {
        let message =
            format!("Topic currently has {now} partitions, which is not less than the requested {}.", asked.count);
        return Err(Refusal::new(ResponseError::InvalidPartitions, message));
    }
    let new = wanted - now;
    let replicas = match &asked.assignments {
        Some(assignments) if assignments.len() != new => {
            let message = format!(
                "Attempted to add {new} additional partition(s), but {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
        }
        Some(assignments) => replica_lists(state, assignments.iter().map(|one| one.broker_ids.as_slice()))?,
        None => {
            let replication = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
            let shift = topic.partitions.first().and_then(|partition| partition.replicas.first()).copied().unwrap_or(1);
            let shift = usize::try_from(shift - 1).unwrap_or(0);
            state.spread(now, new, replication.min(state.live().count()), shift)
        }
    };
    if !validate_only && let Some(topic) = state.topic_mut(&asked.name) {
        topic.grow(replicas);
    }
    Ok(())
}
