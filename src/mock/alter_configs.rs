//! DescribeConfigs, IncrementalAlterConfigs and AlterConfigs, for topics and for what all brokers have in common.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as AlterResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::api::KafkaRelease;
use super::broker::{Call, Handle, Handled};
use super::configs::{Entry, Source, Unfit, broker_entries, check_broker_default};
use super::fault::Target;
use super::state::{Refusal, State};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn topic_target((kind, name): (i8, &str)) -> Option<Target> {
    (kind == TOPIC).then(|| Target { topic: name.to_owned(), partition: None })
}

/// The code that a test wants for a resource.
fn injected(call: &Call<'_>, kind: i8, name: &str) -> Result<(), Refusal> {
    let code = if kind == TOPIC { call.effects.error_for(name, None) } else { call.effects.error() };
    let error = code.map(|code| ResponseError::try_from_code(code).unwrap_or(ResponseError::Unknown(code)));
    error.map_or(Ok(()), |error| Err(Refusal::new(error, "injected by the test")))
}

fn message(refusal: &Refusal) -> Option<StrBytes> {
    Some(StrBytes::from(refusal.message.clone())).filter(|text| !text.is_empty())
}

/// Whether a resource is this broker, or (empty) all of them.
fn check_broker(call: &Call<'_>, name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.parse() == Ok(call.broker) {
        return Ok(());
    }
    let message = format!("Unexpected broker id, expected {} or empty string, but received {name}", call.broker);
    Err(Refusal::new(ResponseError::InvalidRequest, message))
}

impl Handle for DescribeConfigsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let resources = self.resources.iter();
        resources.filter_map(|one| topic_target((one.resource_type, &one.resource_name))).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let results = self.resources.into_iter().map(|resource| {
            let described = injected(call, resource.resource_type, &resource.resource_name)
                .and_then(|()| describe(call, &resource, self.include_synonyms));
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name);
            match described {
                Ok(configs) => result.with_error_message(Some(StrBytes::default())).with_configs(configs),
                Err(refusal) => result.with_error_code(refusal.error.code()).with_error_message(message(&refusal)),
            }
        });
        let response = DescribeConfigsResponse::default().with_results(results.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

fn describe(
    call: &Call<'_>,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    let state = call.state();
    let keys = resource.configuration_keys.as_ref();
    let keys = keys.filter(|keys| !keys.is_empty());
    let wanted = |entry: &Entry<'_>| keys.is_none_or(|keys| keys.iter().any(|key| &**key == entry.name));
    let entry = |entry: Entry<'_>| described(call, &entry, synonyms);
    match resource.resource_type {
        TOPIC => {
            let name = &*resource.resource_name;
            super::topic::check_name(name)
                .map_err(|message| Refusal::new(ResponseError::InvalidTopicException, message))?;
            let topic = state.topic(name).ok_or_else(|| unknown_topic(name))?;
            Ok(topic.config.all().filter(wanted).map(entry).collect())
        }
        BROKER => {
            check_broker(call, &resource.resource_name)?;
            let entries = broker_entries(call.shared.release, &state.broker_defaults).filter(wanted);
            // Without a broker's id, it is about what was set on all of them.
            let all = resource.resource_name.is_empty();
            Ok(entries.filter(|entry| !all || entry.source == Source::AllBrokers).map(entry).collect())
        }
        other => Err(Refusal::new(ResponseError::InvalidRequest, format!("Unsupported resource type: {other}"))),
    }
}

fn unknown_topic(name: &str) -> Refusal {
    Refusal::new(ResponseError::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."))
}

fn described(call: &Call<'_>, entry: &Entry<'_>, synonyms: bool) -> DescribeConfigsResourceResult {
    let text = |text: &str| Some(StrBytes::from(text.to_owned()));
    let synonym = |(name, value, source): &(&str, &str, Source)| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from((*name).to_owned()))
            .with_value(text(value))
            .with_source(*source as i8)
    };
    let synonyms = entry.synonyms.iter().filter(|_| synonyms).map(synonym);
    let result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from(entry.name))
        .with_value(text(entry.value))
        .with_config_source(entry.source as i8)
        .with_synonyms(synonyms.collect());
    if call.version >= 3 { result.with_config_type(entry.kind).with_documentation(None) } else { result }
}

/// What is to be done to one setting.
struct Change {
    name: String,
    operation: i8,
    value: Option<String>,
}

/// Alters one resource, or says why nothing of it is done.
fn alter(
    call: &Call<'_>,
    (kind, name): (i8, &str),
    changes: &[Change],
    replace_all: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    injected(call, kind, name)?;
    let refuse = |error: ResponseError, message: String| Err(Refusal::new(error, message));
    let mut seen = BTreeSet::new();
    if let Some(twice) = changes.iter().find(|change| !seen.insert(&change.name)) {
        return refuse(ResponseError::InvalidRequest, format!("Error due to duplicate config keys: {}", twice.name));
    }
    if let Some(null) = changes.iter().find(|change| change.operation != DELETE && change.value.is_none()) {
        let old = replace_all && call.shared.release <= KafkaRelease::V2_8;
        let error = if old { ResponseError::UnknownServerError } else { ResponseError::InvalidRequest };
        return refuse(error, format!("Null value not supported for : {}", null.name));
    }
    let mut state = call.state();
    match kind {
        TOPIC => alter_topic(call.shared.release, &mut state, name, changes, replace_all, validate_only),
        BROKER => {
            if !name.is_empty() {
                check_broker(call, name)?;
                let message = "the mock can change settings of all brokers alone: leave the name empty".to_owned();
                return refuse(ResponseError::InvalidRequest, message);
            }
            alter_brokers(call, &mut state, changes, validate_only)
        }
        other => refuse(ResponseError::InvalidRequest, format!("Unsupported resource type: {other}")),
    }
}

/// Old brokers said of a bad value that the request is bad.
fn refusal(release: KafkaRelease, unfit: Unfit) -> Refusal {
    let invalid = !unfit.unknown && release <= KafkaRelease::V2_8;
    let error = if invalid { ResponseError::InvalidRequest } else { ResponseError::InvalidConfig };
    Refusal::new(error, unfit.message)
}

fn alter_topic(
    release: KafkaRelease,
    state: &mut State,
    name: &str,
    changes: &[Change],
    replace_all: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    if name.is_empty() {
        let message = "Default topic resources are not allowed.";
        return Err(Refusal::new(ResponseError::InvalidRequest, message));
    }
    let topic = state.topic_mut(name).ok_or_else(|| unknown_topic(name))?;
    let mut config = topic.config.clone();
    if replace_all {
        config.clear();
    }
    for Change { name, operation, value } in changes {
        let value = value.as_deref().unwrap_or_default();
        let changed = match *operation {
            SET => config.set(name, value),
            DELETE => {
                config.unset(name);
                Ok(())
            }
            APPEND | SUBTRACT => config.edit(name, value, *operation == APPEND),
            other => {
                let message = format!("Unknown operation {other}");
                return Err(Refusal::new(ResponseError::UnknownServerError, message)); // as a real broker answers
            }
        };
        changed.map_err(|unfit| refusal(release, unfit))?;
    }
    if !validate_only {
        topic.config = config;
        state.configured(name);
    }
    Ok(())
}

fn alter_brokers(call: &Call<'_>, state: &mut State, changes: &[Change], validate_only: bool) -> Result<(), Refusal> {
    let mut checked = Vec::new();
    for Change { name, operation, value } in changes {
        let value = match *operation {
            SET => value.as_deref(),
            DELETE => None,
            other => {
                let message = format!("the mock does not know operation {other} on brokers");
                return Err(Refusal::new(ResponseError::InvalidRequest, message));
            }
        };
        let known = check_broker_default(call.shared.release, name, value);
        checked.push((known.map_err(|unfit| refusal(call.shared.release, unfit))?, value));
    }
    for (name, value) in checked.into_iter().filter(|_| !validate_only) {
        state.set_broker_default(name, value);
    }
    Ok(())
}

impl Handle for IncrementalAlterConfigsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let resources = self.resources.iter();
        resources.filter_map(|one| topic_target((one.resource_type, &one.resource_name))).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let results = self.resources.into_iter().map(|resource| {
            let changes = resource.configs.into_iter().map(|config| Change {
                name: config.name.to_string(),
                operation: config.config_operation,
                value: config.value.map(|value| value.to_string()),
            });
            let changes: Vec<_> = changes.collect();
            let of = (resource.resource_type, &*resource.resource_name);
            let refused = alter(call, of, &changes, false, self.validate_only).err();
            IncrementalResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_error_code(refused.as_ref().map_or(0, |refusal| refusal.error.code()))
                .with_error_message(refused.as_ref().and_then(message))
        });
        let response = IncrementalAlterConfigsResponse::default().with_responses(results.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}

impl Handle for AlterConfigsRequest {
    fn targets(&self, _: &Call<'_>) -> Vec<Target> {
        let resources = self.resources.iter();
        resources.filter_map(|one| topic_target((one.resource_type, &one.resource_name))).collect()
    }

    async fn handle(self, call: &Call<'_>) -> Handled {
        let results = self.resources.into_iter().map(|resource| {
            let changes = resource.configs.into_iter().map(|config| {
                let (name, value) = (config.name.to_string(), config.value.map(|value| value.to_string()));
                Change { name, operation: SET, value }
            });
            let changes: Vec<_> = changes.collect();
            let of = (resource.resource_type, &*resource.resource_name);
            let refused = alter(call, of, &changes, true, self.validate_only).err();
            AlterResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_error_code(refused.as_ref().map_or(0, |refusal| refusal.error.code()))
                .with_error_message(refused.as_ref().and_then(message))
        });
        let response = AlterConfigsResponse::default().with_responses(results.collect());
        call.answer(&response.with_throttle_time_ms(call.throttle_ms()))
    }
}
