//! A subscriber that remembers.

use std::sync::{Arc, Mutex, MutexGuard};

/// What became of the spans of one target.
#[derive(Clone)]
pub struct Spans {
    target: &'static str,
    seen: Arc<Mutex<Vec<SeenSpan>>>,
}

pub struct SeenSpan {
    pub name: &'static str,
    fields: Vec<(String, String)>,
    pub is_closed: bool,
}

impl Spans {
    pub fn of(target: &'static str) -> Self {
        Self { target, seen: Arc::default() }
    }

    pub fn seen(&self) -> MutexGuard<'_, Vec<SeenSpan>> {
        self.seen.lock().unwrap()
    }
}

impl SeenSpan {
    /// What was recorded last under this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

impl tracing::field::Visit for SeenSpan {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.fields.push((field.name().to_owned(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        self.fields.push((field.name().to_owned(), value.to_owned()));
    }
}

impl tracing::Subscriber for Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == self.target
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut seen = SeenSpan { name: span.metadata().name(), fields: Vec::new(), is_closed: false };
        span.record(&mut seen);
        let mut spans = self.seen();
        spans.push(seen);
        tracing::span::Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut self.seen()[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn try_close(&self, span: tracing::span::Id) -> bool {
        self.seen()[span.into_u64() as usize - 1].is_closed = true;
        true
    }
}
