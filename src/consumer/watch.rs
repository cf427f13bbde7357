//! What a consumer keeps of its work beside the work: who watches, and how much there was.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::commit::OffsetAndMetadata;
use super::interceptor::ConsumerInterceptor;
use super::metrics::Counts;
use crate::error::{Error, TopicPartition};

/// Shared by a consumer's tasks and callers.
pub(super) struct Watch {
    pub(super) client_id: Arc<str>,
    pub(super) interceptors: Vec<Box<dyn ConsumerInterceptor>>,
    pub(super) counts: Counts,
}

impl Watch {
    pub(super) fn new(client_id: &Arc<str>, interceptors: Vec<Box<dyn ConsumerInterceptor>>) -> Arc<Self> {
        Arc::new(Self { client_id: Arc::clone(client_id), interceptors, counts: Counts::new(client_id) })
    }

    /// Tells interceptors what became of a commit. It is the user's code on a task of the client, which must survive it: the
    /// panic hook has reported a panic by the time that it is caught.
    pub(super) fn tell_commit(
        &self,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
        outcome: Result<(), &Error>,
    ) {
        for interceptor in &self.interceptors {
            let _ = catch_unwind(AssertUnwindSafe(|| interceptor.on_commit(offsets, outcome)));
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
