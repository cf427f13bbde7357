//! What a producer keeps of its batches beside the batches: who watches them, and how many wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::budget::Share;
use super::delivery::{DeliveryError, RecordMetadata};
use super::interceptor::Interceptor;
use super::load::Load;
use super::metrics::Counts;

/// What all batches of one partition share.
pub(super) struct Account {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) load: Load,
    pub(super) share: Share,
    /// The broker has refused a batch for its size.
    pub(super) is_strict: AtomicBool,
    pub(super) watch: Arc<Watch>,
}

/// What all partitions of one producer share.
pub(super) struct Watch {
    #[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "spans name it"))]
    pub(super) client_id: Arc<str>,
    pub(super) interceptors: Vec<Box<dyn Interceptor>>,
    pub(super) counts: Counts,
}

impl Watch {
    /// Tells interceptors what became of a record.
    pub(super) fn tell(&self, result: &Result<RecordMetadata, DeliveryError>) {
        for interceptor in &self.interceptors {
            shielded(|| interceptor.on_acknowledgement(result.as_ref()));
        }
    }
}

/// Runs the user's code on a task of the client, which must survive it. The panic hook has reported the panic by the time
/// that it is caught.
pub(super) fn shielded(f: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(f));
}
