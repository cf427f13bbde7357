//! Committing, one request after the other: drives [`Ledger`], for members and for those who assign by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::coordinator::{BY_NAME, Coordinated, NotFound, send};
use crate::consumer::commit::OffsetAndMetadata;
use crate::consumer::shared::Shared;
use crate::consumer::watch::Watch;
use crate::error::{Error, ErrorKind, TopicPartition};
use crate::machine::connection::Call;
use crate::machine::group::{Commit, CommitRequest, Entry, Failed, Ledger, Outcome, Standing, Verdict, Why};
use crate::net::{Class, Core};
use crate::wire::coordinator::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::message::Request;

pub type Offsets = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// Who hears of the outcome.
#[derive(Debug)]
pub enum Reply {
    Caller(oneshot::Sender<Result<(), Error>>),
    /// Whoever reads records, if it failed.
    Reader,
    /// Nobody asked. That partitions have gone meanwhile is told elsewhere; what else failed, to whoever reads.
    Auto,
}

/// What the coordinator said to one request.
pub struct Answered {
    token: u64,
    answer: Result<BTreeMap<TopicPartition, ErrorCode>, Unanswered>,
}

enum Unanswered {
    Again(Error),
    Never(Error),
}

pub struct Commits {
    core: Arc<Core>,
    coordinated: Arc<Coordinated>,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    ledger: Ledger,
    open: BTreeMap<u64, (Offsets, Reply)>,
    next_id: u64,
    /// What was committed last without being asked for.
    auto: BTreeMap<TopicPartition, i64>,
    /// Why the last request was not answered.
    last: Option<Error>,
    /// While the consumer closes: what was not committed that nobody else is told of.
    missed: Option<Vec<Failed>>,
    /// What a commit has to be done within.
    limit: &'static str,
    answers: mpsc::UnboundedSender<Answered>,
}

impl Commits {
    pub fn new(
        core: &Arc<Core>,
        coordinated: &Arc<Coordinated>,
        shared: &Arc<Shared>,
        watch: &Arc<Watch>,
        answers: mpsc::UnboundedSender<Answered>,
    ) -> Self {
        let mut ledger = Ledger::new(core.retry_backoff, core.retry_backoff_max);
        // Until there is a membership: of nobody, who commits whatever it is told to.
        ledger.set_standing(nobody());
        Self {
            core: Arc::clone(core),
            coordinated: Arc::clone(coordinated),
            shared: Arc::clone(shared),
            watch: Arc::clone(watch),
            ledger,
            open: BTreeMap::new(),
            next_id: 0,
            auto: BTreeMap::new(),
            last: None,
            missed: None,
            limit: "default_api_timeout",
            answers,
        }
    }

    /// From here on whoever closes hears of what fails, for nobody reads any more.
    pub fn begin_closing(&mut self) {
        self.missed = Some(Vec::new());
    }

    /// Nothing is waited for any more. What was not committed since [`begin_closing`](Self::begin_closing).
    pub fn end(&mut self) -> Option<Error> {
        self.limit = "request_timeout, in which a consumer closes";
        self.ledger.abandon();
        self.tell();
        let missed = self.missed.take().unwrap_or_default();
        self.describe(missed)
    }

    /// `None`: there is no membership.
    pub fn set_standing(&mut self, standing: Option<Standing>) {
        self.ledger.set_standing(standing.unwrap_or_else(nobody));
    }

    /// `None`: partitions are assigned by hand.
    pub fn set_owned(&mut self, owned: Option<BTreeSet<TopicPartition>>) {
        self.ledger.set_owned(owned);
    }

    pub fn commit(&mut self, offsets: Offsets, reply: Reply) {
        let id = self.next_id;
        self.next_id += 1;
        let entry = |committed: &OffsetAndMetadata| Entry {
            offset: committed.offset,
            leader_epoch: committed.leader_epoch.unwrap_or(-1),
            metadata: Arc::clone(&committed.metadata),
        };
        let entries = offsets.iter().map(|(tp, committed)| (tp.clone(), entry(committed))).collect();
        // Calls have an order, and so has what they commit; only what nobody asked for must not undo what somebody did.
        let may_go_back = !matches!(reply, Reply::Auto);
        let deadline = self.core.now() + self.core.api_timeout;
        self.open.insert(id, (offsets, reply));
        self.ledger.commit(Commit { id, entries, may_go_back, deadline });
    }

    /// Reading goes on elsewhere in these, perhaps further back.
    pub fn moved(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.auto.retain(|tp, _| !partitions.contains(tp));
        self.ledger.moved(partitions);
    }

    /// What the caller has dealt with, as far as that is news.
    pub fn commit_settled(&mut self, settled: Offsets) {
        self.auto.retain(|tp, _| settled.contains_key(tp));
        let auto = &self.auto;
        let news = settled.into_iter().filter(|(tp, committed)| auto.get(tp) != Some(&committed.offset));
        let news: Offsets = news.collect();
        if !news.is_empty() {
            self.auto.extend(news.iter().map(|(tp, committed)| (tp.clone(), committed.offset)));
            self.commit(news, Reply::Auto);
        }
    }

    pub fn is_idle(&self) -> bool {
        self.ledger.is_idle()
    }

    /// Whether a commit of one of these waits or is on its way.
    pub fn holds(&self, partitions: &[TopicPartition]) -> bool {
        self.ledger.holds(partitions)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ledger.poll_timeout()
    }

    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.ledger.poll_verdict()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.ledger.handle_timeout(now);
    }

    pub fn handle_answer(&mut self, now: Instant, answered: Answered) {
        let Answered { token, answer } = answered;
        let random = self.core.network.runtime.random();
        match answer {
            Ok(codes) => {
                self.last = None;
                self.ledger.handle_answer(now, token, Ok(codes), random);
            }
            Err(Unanswered::Again(error)) => {
                self.last = Some(error);
                self.ledger.handle_answer(now, token, Err(()), random);
            }
            Err(Unanswered::Never(error)) => {
                self.last = Some(error);
                self.ledger.give_up(token, Why::Unreachable);
            }
        }
    }

    /// Sends what is due, and tells what has come of it.
    pub fn drive(&mut self, now: Instant) {
        while let Some(request) = self.ledger.poll_request(now) {
            let (core, coordinated, answers) =
                (Arc::clone(&self.core), Arc::clone(&self.coordinated), self.answers.clone());
            self.core.network.runtime.spawn(async move {
                let token = request.token;
                let answer = ask(&core, &coordinated, request).await;
                let _ = answers.send(Answered { token, answer });
            });
        }
        self.tell();
    }

    fn tell(&mut self) {
        while let Some(Outcome { id, mut failed }) = self.ledger.poll_outcome() {
            let Some((offsets, reply)) = self.open.remove(&id) else { continue };
            let mut is_told = false;
            if matches!(reply, Reply::Auto) {
                // To be committed again as soon as there is another chance.
                self.auto.retain(|tp, _| failed.iter().all(|failed| failed.partition != *tp));
                // Of a topic that was deleted, which is told elsewhere, nothing is left to go on from.
                failed.retain(|failed| !matches!(failed.why, Why::Refused(code) if code.is_unknown_topic()));
                is_told = failed.iter().all(|failed| matches!(failed.why, Why::NotOwned(_)));
            }
            if let (Some(missed), Reply::Auto | Reply::Reader) = (&mut self.missed, &reply) {
                missed.extend(failed.iter().cloned());
                is_told = true;
            }
            let outcome = match self.describe(failed) {
                Some(error) => Err(error),
                None => Ok(()),
            };
            // What never went backwards went nowhere: of that there is nothing to tell.
            self.watch.tell_commit(&offsets, outcome.as_ref().copied());
            match (reply, outcome) {
                // Nobody waits any more if its future was dropped.
                (Reply::Caller(caller), outcome) => drop(caller.send(outcome)),
                (Reply::Reader | Reply::Auto, Err(error)) if !is_told => self.shared.fail_all(error),
                (Reply::Reader | Reply::Auto, _) => {}
            }
        }
    }

    fn describe(&self, failed: Vec<Failed>) -> Option<Error> {
        let what = format!("committing offsets of group `{}`", self.coordinated.id);
        let security = &self.core.network.security;
        let each = failed.into_iter().map(|Failed { partition, why }| {
            let error = match why {
                Why::Refused(code) => security.explain(Error::broker(code, format_args!("{what}: {partition}"))),
                Why::NotOwned(_) => {
                    let message =
                        format!("{what}: {partition} is not this member's any more: another one goes on there");
                    Error::new(ErrorKind::NotOwned, message)
                }
                Why::Unreachable => match &self.last {
                    Some(error) => error.clone(),
                    None => Error::closed("client"),
                },
                Why::TimedOut { was_sent, last } => {
                    let why = match &self.last {
                        Some(error) => error.to_string(),
                        None if was_sent => last.to_string(),
                        None => "this consumer is not a member of its group for now".to_owned(),
                    };
                    Error::new(ErrorKind::Timeout, format!("{what}: not done within {}: {why}", self.limit))
                }
            };
            (partition, error)
        });
        Error::not_committed_of(each.collect())
    }
}

fn nobody() -> Standing {
    Standing::Member(crate::machine::group::Identity { generation: -1, ..Default::default() })
}

async fn ask(
    core: &Core,
    coordinated: &Coordinated,
    request: CommitRequest,
) -> Result<BTreeMap<TopicPartition, ErrorCode>, Unanswered> {
    let deadline = core.now() + core.network.request_timeout;
    let coordinator = coordinated.coordinator(core, deadline).await.map_err(|error| match error {
        NotFound::Again(error) => Unanswered::Again(error),
        NotFound::Never(error) => Unanswered::Never(error),
    })?;
    let forms = vec![Call::up_to(form(&coordinated.id, request), BY_NAME)];
    let response = match send(core, Some(&coordinator), Class::Commit, forms, deadline).await {
        Ok(response) => response,
        Err(error) if error.is_transient() => {
            coordinated.forget(&coordinator);
            return Err(Unanswered::Again(error.into()));
        }
        Err(error) => return Err(Unanswered::Never(error.into())),
    };
    let codes: BTreeMap<_, _> = codes(response).collect();
    if codes.values().any(|code| code.action(OffsetCommitRequest::API) == Action::FindCoordinator) {
        coordinated.forget(&coordinator);
    }
    Ok(codes)
}

fn form(group: &Arc<str>, request: CommitRequest) -> OffsetCommitRequest {
    let mut topics: BTreeMap<Arc<str>, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (tp, entry) in request.entries {
        topics.entry(tp.topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: tp.partition,
            committed_offset: entry.offset,
            committed_leader_epoch: entry.leader_epoch,
            committed_metadata: Some(entry.metadata),
            ..Default::default()
        });
    }
    let topics = topics.into_iter();
    let topics = topics.map(|(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() });
    let identity = request.identity;
    OffsetCommitRequest {
        group_id: Arc::clone(group),
        generation_id_or_member_epoch: identity.generation,
        member_id: identity.member_id,
        group_instance_id: identity.instance_id,
        topics: topics.collect(),
        ..Default::default()
    }
}

fn codes(response: OffsetCommitResponse) -> impl Iterator<Item = (TopicPartition, ErrorCode)> {
    response.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |partition| {
            (TopicPartition::new(Arc::clone(&name), partition.partition_index), partition.error_code)
        })
    })
}
