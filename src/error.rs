//! The one error of the public API.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::machine::connection::{CallError, Cause};
use crate::machine::trust::TlsFailure;
use crate::wire::error_code::ErrorCode;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition by topic and index.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self::new(topic, partition)
    }
}

impl fmt::Display for TopicPartition {
    /// As Kafka's logs write it: `topic-3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What went wrong, in one word. More will come: match with a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or an argument that cannot work; the message names it.
    Config,
    /// No broker could be reached, or a connection broke.
    Connection,
    /// Not done within a time limit; the message names the setting.
    Timeout,
    /// The topic does not exist, or no broker knows it yet.
    UnknownTopic,
    /// The topic has no such partition.
    UnknownPartition,
    /// The record alone is larger than `max_request_size`, or than the broker takes.
    RecordTooLarge,
    /// No buffer space for another record; the message names the setting.
    BufferFull,
    /// A value that serde could not write as JSON; the message says what failed.
    Serialization,
    /// The broker is too old, or this version of milena cannot do it; the message names both sides' versions.
    Unsupported,
    /// The broker refused with an error code: see [`Error::code`].
    Broker,
    /// The peer does not speak Kafka's protocol.
    Protocol,
    /// The broker does not accept who the client says it is, or could not prove who it is itself: by SASL. The message
    /// names the mechanism and the principal.
    Authentication,
    /// The principal may not do this: an ACL is missing. See [`Error::code`] for on what.
    Authorization,
    /// TLS was not agreed upon: a certificate that is not trusted, has expired or is for another host, no common version,
    /// or a peer that does not speak TLS. See [`Error::tls`].
    Tls,
    /// Fetched bytes that fail their checksum or are no record batch. The position stays before them.
    Corrupt,
    /// A fetched batch that becomes larger than `max_decompressed_batch` when it is decompressed. The position stays
    /// before it.
    BatchTooLarge,
    /// No position to read from, and the reset policy is `none`; or the position left the log.
    OffsetOutOfRange,
    /// What a consumer should have read next is not in the log any more: see [`Error::data_loss`]. Reading goes on.
    DataLoss,
    /// A topic that a consumer reads was deleted, and another one has its name now. Reading goes on at its beginning.
    TopicRecreated,
    /// A consumer was asked to stop at an end, or after a while without records, and has come there.
    NoMoreRecords,
    /// A commit for partitions that are not this member's any more: they were revoked or lost meanwhile, and whoever has them
    /// goes on from the commit before. See [`Error::not_committed`].
    NotOwned,
    /// Given up because [`Producer::purge`](crate::Producer::purge) asked for it.
    Purged,
    /// The client, producer or consumer is closed.
    Closed,
}

/// A gap that a consumer met: it expected one offset and goes on at another.
///
/// If `next` is greater, the records between were deleted before they were read: by retention, or an admin. If it is
/// smaller, the log was cut there, as by an unclean election (KIP-320): records from `next` on that were read before are
/// not in the log, and others have or will have their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataLoss {
    /// The offset of the record that should have come next.
    pub expected: i64,
    /// Where reading goes on.
    pub next: i64,
}

impl fmt::Display for DataLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} was expected, and reading goes on at {}", self.expected, self.next)
    }
}

impl std::error::Error for DataLoss {}

impl DataLoss {
    pub(crate) fn new(expected: i64, next: i64) -> Self {
        Self { expected, next }
    }
}

/// Why an operation failed. Cheap to clone: one failed batch fails all of its receipts with the same error.
///
/// Its text says what happened, names the setting or the value that matters, and the remedy where there is one; its
/// cause chain is [`std::error::Error::source`]. Programs ask the predicates, never the text.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = milena::Client::builder(["localhost"]).connect().await.unwrap_err();
/// assert_eq!(error.kind(), milena::ErrorKind::Config);
/// assert!(!error.is_retriable());
/// assert!(error.to_string().contains("`localhost` is not a broker address"), "{error}");
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    code: Option<ErrorCode>,
    topic_partition: Option<TopicPartition>,
    is_retriable: bool,
    tls: Option<TlsFailure>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What went wrong, in one word.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The broker's error code, if a broker answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.code
    }

    /// The partition that it is about, if it is about one.
    pub fn topic_partition(&self) -> Option<&TopicPartition> {
        self.0.topic_partition.as_ref()
    }

    /// From where to where reading went on instead, if this is a [`DataLoss`](ErrorKind::DataLoss).
    pub fn data_loss(&self) -> Option<DataLoss> {
        self.0.source.as_ref()?.downcast_ref::<DataLoss>().copied()
    }

    /// Of a commit that failed, the partitions that were not committed, and why each. The others of the call were.
    pub fn not_committed(&self) -> &[(TopicPartition, Self)] {
        let source = self.0.source.as_ref().and_then(|source| source.downcast_ref::<NotCommitted>());
        source.map_or(&[], |not_committed| &not_committed.0)
    }

    /// What is wrong with TLS, of an [`ErrorKind::Tls`].
    pub fn tls(&self) -> Option<TlsFailure> {
        self.0.tls
    }

    /// Whether the same call may work later without any change: what failed was the network, a time limit, a full
    /// buffer, or a broker in transition. The client has retried already within its own limits.
    pub fn is_retriable(&self) -> bool {
        self.0.is_retriable
    }

    /// Whether the client, producer or consumer that returned this is finished and every later call will fail too.
    pub fn is_fatal(&self) -> bool {
        self.0.kind == ErrorKind::Closed
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let is_retriable = matches!(kind, ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::BufferFull);
        let message = message.into();
        Self(Arc::new(Inner {
            kind,
            message,
            code: None,
            topic_partition: None,
            is_retriable,
            tls: None,
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    pub(crate) fn closed(what: &'static str) -> Self {
        Self::new(ErrorKind::Closed, format!("the {what} is closed"))
    }

    /// A broker's refusal. `context` says of what.
    pub(crate) fn broker(code: ErrorCode, context: impl fmt::Display) -> Self {
        let kind = match code {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => ErrorKind::UnknownTopic,
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => ErrorKind::RecordTooLarge,
            ErrorCode::UNSUPPORTED_VERSION => ErrorKind::Unsupported,
            ErrorCode::OFFSET_OUT_OF_RANGE => ErrorKind::OffsetOutOfRange,
            code if code.is_authorization() => ErrorKind::Authorization,
            _ => ErrorKind::Broker,
        };
        let error = Self::new(kind, format!("{context}: the broker answered {code}"));
        error.edit(|inner| {
            inner.code = Some(code);
            inner.is_retriable = code.is_retriable();
        })
    }

    pub(crate) fn with_partition(self, topic_partition: TopicPartition) -> Self {
        self.edit(|inner| inner.topic_partition = Some(topic_partition))
    }

    pub(crate) fn with_source(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.source = Some(Box::new(source)))
    }

    /// Of a commit: for each partition that was not committed, why. None: all were.
    pub(crate) fn not_committed_of(each: Vec<(TopicPartition, Self)>) -> Option<Self> {
        let (tp, first) = each.first()?;
        let mut message = first.to_string();
        let others: Vec<_> = each.iter().skip(1).map(|(tp, _)| tp.to_string()).collect();
        if !others.is_empty() {
            message += "; nor were committed: ";
            message += &others.join(", ");
        }
        let (kind, code, is_retriable) = (first.kind(), first.code(), first.is_retriable());
        let error = Self::new(kind, message).with_partition(tp.clone());
        Some(
            error.with_source(NotCommitted(each)).edit(|inner| (inner.code, inner.is_retriable) = (code, is_retriable)),
        )
    }

    /// The same error with `note` behind its text, whoever else holds it.
    pub(crate) fn with_note(self, note: &str) -> Self {
        if note.is_empty() {
            return self;
        }
        let inner = Inner {
            kind: self.0.kind,
            message: format!("{}{note}", self.0.message).into(),
            code: self.0.code,
            topic_partition: self.0.topic_partition.clone(),
            is_retriable: self.0.is_retriable,
            tls: self.0.tls,
            source: None,
        };
        let noted = Self(Arc::new(inner));
        if self.0.source.is_some() { noted.with_source(self) } else { noted }
    }

    /// The same error told in other words: what it is stays, and it becomes the source.
    pub(crate) fn reworded(self, message: String) -> Self {
        let Inner { kind, code, is_retriable, tls, .. } = *self.0;
        Self::new(kind, message).with_source(self).edit(|inner| {
            (inner.code, inner.is_retriable, inner.tls) = (code, is_retriable, tls);
        })
    }

    /// For the builders above, which hold the only reference.
    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }
}

/// See [`Error::not_committed`].
#[derive(Debug)]
struct NotCommitted(Vec<(TopicPartition, Error)>);

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} partitions were not committed", self.0.len())
    }
}

impl std::error::Error for NotCommitted {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, code, topic_partition, .. } = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", kind).field("message", message);
        if let Some(code) = code {
            debug.field("code", code);
        }
        if let Some(topic_partition) = topic_partition {
            debug.field("topic_partition", topic_partition);
        }
        debug.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        let kind = match &cause {
            Cause::ConnectTimeout { .. } | Cause::SetupTimeout { .. } | Cause::RequestTimeout { .. } => {
                ErrorKind::Timeout
            }
            Cause::Http
            | Cause::Tls
            | Cause::NoAnswer { .. }
            | Cause::FrameSize { .. }
            | Cause::WrongCorrelation { .. }
            | Cause::Unasked
            | Cause::Decode { .. } => ErrorKind::Protocol,
            Cause::Refused(_) => ErrorKind::Unsupported,
            Cause::Login(_) => ErrorKind::Authentication,
            Cause::Untrusted { .. } => ErrorKind::Tls,
            Cause::Closed => ErrorKind::Closed,
            Cause::Connect { .. }
            | Cause::Io { .. }
            | Cause::Eof
            | Cause::EofAtStart
            | Cause::EofAtFirstRequest
            | Cause::Idle => ErrorKind::Connection,
        };
        let (is_retriable, tls) = match &cause {
            Cause::Login(failure) => (Some(failure.is_transient()), None),
            Cause::Untrusted { failure, .. } => (None, Some(*failure)),
            _ => (None, None),
        };
        Self::new(kind, cause.to_string()).with_source(cause).edit(|inner| {
            inner.is_retriable = is_retriable.unwrap_or(inner.is_retriable);
            inner.tls = tls;
        })
    }
}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost { cause, .. } => cause.into(),
            CallError::NotSentInTime { .. } | CallError::NotAwaited { .. } => {
                Self::new(ErrorKind::Timeout, error.to_string()).with_source(error)
            }
            CallError::Unsupported(_) | CallError::Encode { .. } => {
                Self::new(ErrorKind::Unsupported, error.to_string()).with_source(error)
            }
        }
    }
}
