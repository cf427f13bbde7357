//! Requests about many things, each of which the broker answers on its own.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::handle::{Admin, TimeLimit};
use crate::error::{Error, ErrorKind};
use crate::machine::connection::Call;
use crate::net::{Class, Route};
use crate::wire::error_code::{Action, ErrorCode};
use crate::wire::message::Request;

/// One kind of such a request.
pub(super) trait Batch: Sync {
    type Request: Request;
    /// What an item is called, in the request, in its answer and in errors.
    type Key: Clone + PartialEq + fmt::Display + Send + Sync;
    type Item: Send + Sync;
    type Output: Clone + Send;

    const ROUTE: Route;
    const CLASS: Class;
    /// What it does, as in "creating topics".
    const WHAT: &'static str;
    /// What may have come of a request whose answer nobody saw; `None` if it changes nothing.
    const OPEN_OUTCOME: Option<&'static str>;

    /// The request for these items. The broker may take `timeout_ms` for it.
    fn call(&self, items: &[&(Self::Key, Self::Item)], timeout_ms: i32) -> Call<Self::Request>;

    fn answers(&self, response: <Self::Request as Request>::Response) -> Vec<Answer<Self::Key, Self::Output>>;

    fn action(code: ErrorCode) -> Action {
        code.action(Self::Request::API)
    }
}

/// What a broker says of one item.
pub(super) struct Answer<K, T> {
    pub key: K,
    pub code: ErrorCode,
    pub message: Option<Arc<str>>,
    pub output: T,
}

/// The result of every item, in the order asked.
pub(super) type Outcomes<B> = Vec<(<B as Batch>::Key, Result<<B as Batch>::Output, Error>)>;

impl Admin {
    /// Asks until every item is answered for good or the time is over. Only items that should be tried again are.
    pub(super) async fn each<B: Batch>(
        &self,
        batch: B,
        items: Vec<(B::Key, B::Item)>,
        limit: TimeLimit,
    ) -> Outcomes<B> {
        let core = self.core();
        let (deadline, limit) = limit.start(core);
        let mut progress = Progress::<B> {
            open: (0..items.len()).collect(),
            outcomes: items.iter().map(|_| None).collect(),
            items,
            maybe_done: false,
        };
        if !progress.open.is_empty() {
            match core.metadata.known(&core.network, deadline, &limit).await {
                Ok(()) => self.ask(batch, &mut progress, deadline, &limit).await,
                Err(error) => progress.fail_open(|_| error.clone()),
            }
        }
        let explained = |outcome: Result<_, Error>| outcome.map_err(|error| core.network.security.explain(error));
        progress.finish().into_iter().map(|(key, outcome)| (key, explained(outcome))).collect()
    }

    async fn ask<B: Batch>(&self, batch: B, progress: &mut Progress<B>, deadline: Instant, limit: &str) {
        let core = self.core();
        let mut backoff = core.backoff();
        loop {
            let items: Vec<_> = progress.open.iter().map(|&at| &progress.items[at]).collect();
            // A tenth is left for the answer to come back.
            let attempt = deadline.saturating_duration_since(core.now()).min(core.network.request_timeout) * 9 / 10;
            let timeout_ms = i32::try_from(attempt.as_millis()).unwrap_or(i32::MAX);
            let call = batch.call(&items, timeout_ms);
            let last = match core.try_call(B::ROUTE, B::CLASS, call, deadline).await {
                Ok(response) => progress.take(batch.answers(response)),
                Err(error) if error.is_transient() => {
                    progress.maybe_done |= error.maybe_sent();
                    Some(Error::from(error))
                }
                Err(error) => {
                    let error = Error::from(error);
                    let text = format!("{}: {error}", B::WHAT);
                    return progress.fail_open(|_| Error::new(error.kind(), text.clone()).with_source(error.clone()));
                }
            };
            // Nothing is left to ask.
            let Some(last) = last else { return };
            core.metadata.refresh();
            let delay = backoff.next_delay(core.network.runtime.random());
            if core.now() + delay >= deadline {
                let maybe = if progress.maybe_done { B::OPEN_OUTCOME } else { None };
                let maybe = maybe.map(|outcome| format!("; {outcome}")).unwrap_or_default();
                return progress.fail_open(|key| {
                    let text = format!("{key}: {} was not done within {limit}: {last}{maybe}", B::WHAT);
                    Error::new(ErrorKind::Timeout, text).with_source(last.clone())
                });
            }
            core.sleep(delay).await;
        }
    }
}

struct Progress<B: Batch> {
    items: Vec<(B::Key, B::Item)>,
    outcomes: Vec<Option<Result<B::Output, Error>>>,
    /// Items without an outcome, ascending.
    open: Vec<usize>,
    /// An attempt was lost after it was sent.
    maybe_done: bool,
}

impl<B: Batch> Progress<B> {
    /// Settles what an answer settles; the last error of what has to be asked again, if anything has.
    fn take(&mut self, answers: Vec<Answer<B::Key, B::Output>>) -> Option<Error> {
        let mut last = None;
        for at in std::mem::take(&mut self.open) {
            let (key, _) = &self.items[at];
            self.outcomes[at] = match answers.iter().find(|answer| answer.key == *key) {
                None => {
                    let text = format!("{key}: the broker's answer to {} does not mention it", B::WHAT);
                    Some(Err(Error::new(ErrorKind::Protocol, text)))
                }
                Some(answer) => match B::action(answer.code) {
                    Action::Done => Some(Ok(answer.output.clone())),
                    Action::Retry | Action::Refresh => {
                        last = Some(self.refusal(answer));
                        self.open.push(at);
                        None
                    }
                    _ => Some(Err(self.refusal(answer))),
                },
            };
        }
        last
    }

    fn refusal(&self, answer: &Answer<B::Key, B::Output>) -> Error {
        let mut note = String::new();
        if let Some(message) = answer.message.as_deref().filter(|message| !message.is_empty()) {
            note = format!(": {message}");
        }
        match B::OPEN_OUTCOME {
            Some(outcome) if answer.code == ErrorCode::REQUEST_TIMED_OUT => note += &format!("; {outcome}"),
            Some(_) if self.maybe_done => note += " (an earlier attempt whose answer was lost may be the reason)",
            _ => {}
        }
        Error::broker(answer.code, &answer.key).with_note(&note)
    }

    fn fail_open(&mut self, error: impl Fn(&B::Key) -> Error) {
        for at in std::mem::take(&mut self.open) {
            self.outcomes[at] = Some(Err(error(&self.items[at].0)));
        }
    }

    fn finish(self) -> Outcomes<B> {
        let outcomes = self.items.into_iter().zip(self.outcomes);
        let unsettled = || Error::new(ErrorKind::Protocol, format!("{}: no outcome", B::WHAT));
        outcomes.map(|((key, _), outcome)| (key, outcome.unwrap_or_else(|| Err(unsettled())))).collect()
    }
}

/// All outputs or the first error, which says how many others there are.
pub(super) fn all<K, T>(outcomes: Vec<(K, Result<T, Error>)>) -> Result<Vec<T>, Error> {
    let count = outcomes.len();
    let mut outputs = Vec::with_capacity(count);
    let mut errors = Vec::new();
    for (_, outcome) in outcomes {
        match outcome {
            Ok(output) => outputs.push(output),
            Err(error) => errors.push(error),
        }
    }
    match (errors.len(), errors.into_iter().next()) {
        (_, None) => Ok(outputs),
        (1, Some(error)) if count == 1 => Err(error),
        (failed, Some(error)) => Err(error.with_note(&format!(" ({failed} of {count} failed)"))),
    }
}
