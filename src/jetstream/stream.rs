//! Streams: asked for, made, changed, emptied, deleted, read.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::refusal::{
    DELETE_FAILED, NO_MESSAGE_FOUND, SEQUENCE_NOT_FOUND, STORE_NOT_MADE, has_code,
    is_between_leaders, is_temporary,
};
use super::{Clock, ask, body, call};
use crate::connector::Link;
use crate::connector::link::PATIENCE;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::retry::Retry;

/// How long a server may take to remove the files of a deleted stream, before a new one of its name
/// can be made.
const DELETED_FILES: Duration = Duration::from_secs(2);

/// A stream as the server tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) config: Map<String, Value>,
    #[serde(default)]
    pub(crate) state: State,
    created: Option<String>,
    /// When it answered, by its own clock; servers before 2.10 do not say.
    ts: Option<String>,
    #[serde(skip)]
    pub(crate) clock: Clock,
}

/// What a stream holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) consumer_count: usize,
}

impl Info {
    pub(crate) fn is_empty(&self) -> bool {
        self.state.messages == 0
    }

    /// When the stream was made.
    pub(crate) fn created(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.created.as_deref()?).ok()
    }

    /// A duration of the config, where it is not zero.
    pub(crate) fn duration(&self, field: &str) -> Option<Duration> {
        let nanos = u64::try_from(self.number(field)).ok().filter(|nanos| *nanos > 0)?;
        Some(Duration::from_nanos(nanos))
    }

    /// A text of the config; where there is none, the empty one.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.config.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number of the config; where there is none, zero.
    pub(crate) fn number(&self, field: &str) -> i64 {
        self.config.get(field).and_then(Value::as_i64).unwrap_or(0)
    }

    /// A limit of the config; zero where there is none.
    pub(crate) fn limit(&self, field: &str) -> u64 {
        u64::try_from(self.number(field)).unwrap_or(0)
    }

    pub(crate) fn flag(&self, field: &str) -> bool {
        self.config.get(field).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Asks for a stream; `None` when the server says that there is none.
pub(crate) async fn info(link: &Link, stream: &str, deadline: Instant) -> Result<Option<Info>> {
    let sent = SystemTime::now();
    match ask(link, &format!("STREAM.INFO.{stream}"), Bytes::new(), deadline).await {
        Ok(info) => Ok(Some(told(info, sent))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a stream. To the server, making the same stream twice is making it once, so it is asked
/// again when no answer comes, and while a cluster has no leader or too few servers.
pub(crate) async fn create(
    link: &Link,
    stream: &str,
    config: &Map<String, Value>,
    deadline: Instant,
) -> Result<Info> {
    let subject = format!("STREAM.CREATE.{stream}");
    let request = body(&json!(config));
    let mut files = Retry::until(deadline.min(after(DELETED_FILES)));
    let mut leader = Retry::until(deadline);
    loop {
        let sent = SystemTime::now();
        match insist(link, &subject, &request, deadline).await.0 {
            Ok(made) => return Ok(told(made, sent)),
            Err(error) if has_code(&error, STORE_NOT_MADE) && files.pause().await => {}
            Err(error) if is_between_leaders(&error) && leader.pause().await => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks for a change that is the same when it is made twice, until there is an answer: while a leader
/// is elected nobody answers what was asked, and a server that ends takes it along. Also tells
/// whether it was asked before.
async fn insist<T: DeserializeOwned>(
    link: &Link,
    subject: &str,
    request: &Bytes,
    deadline: Instant,
) -> (Result<T>, bool) {
    let mut patience = PATIENCE;
    let mut unanswered = None;
    loop {
        let turn = deadline.min(after(patience));
        let done = call(link, subject, request.clone(), turn).await;
        patience *= 2;
        match done {
            Err(error) if error.is_timeout() && Instant::now() < deadline => {
                unanswered = Some(error);
            }
            // Not sent; what was asked before may have been taken.
            Err(error) if is_unreached(&error) => {
                if turn == deadline || Instant::now() < turn {
                    let asked_before = unanswered.is_some();
                    return (Err(unanswered.unwrap_or(error)), asked_before);
                }
            }
            done => return (done, unanswered.is_some()),
        }
    }
}

/// Whether no server took a call, as opposed to one that refused it.
fn is_unreached(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && !is_temporary(error)
}

/// Changes a stream to `config`.
pub(crate) async fn update(
    link: &Link,
    stream: &str,
    config: &Map<String, Value>,
    deadline: Instant,
) -> Result<Info> {
    let sent = SystemTime::now();
    let subject = format!("STREAM.UPDATE.{stream}");
    let changed = call(link, &subject, body(&json!(config)), deadline).await?;
    Ok(told(changed, sent))
}

/// An answer with what it says of the server's clock.
fn told(mut info: Info, sent: SystemTime) -> Info {
    if let Some(at) = info.ts.as_deref().and_then(|ts| humantime::parse_rfc3339(ts).ok()) {
        info.clock = Clock::read(sent, at, SystemTime::now());
    }
    info
}

/// Deletes a stream; whether there was one.
///
/// It is emptied first: the server removes the files later, and a stream of the same name that is
/// made before would find its messages in them. Both are asked again when no answer comes: while a
/// leader is elected, nobody answers what was asked.
pub(crate) async fn delete(link: &Link, stream: &str, deadline: Instant) -> Result<bool> {
    #[derive(Deserialize)]
    struct Deleted {
        success: bool,
    }
    // Whoever may not empty it may still delete it, and is told there what is wrong.
    let now = Instant::now();
    let half = now + deadline.saturating_duration_since(now) / 2;
    let emptied = ask(link, &format!("STREAM.PURGE.{stream}"), Bytes::new(), half).await;
    let mut was_there = true;
    if let Err::<Deleted, _>(error) = emptied {
        was_there = !error.is_not_found();
        tracing::debug!(stream, %error, "a stream was not emptied before it is deleted");
    }
    let subject = format!("STREAM.DELETE.{stream}");
    match insist(link, &subject, &Bytes::new(), deadline).await {
        (Ok(Deleted { success }), _) => Ok(success),
        // The call before this one did it, only its answer did not come.
        (Err(error), asked_before) if error.is_not_found() => Ok(asked_before && was_there),
        (Err(error), _) => Err(error),
    }
}

/// Takes out the messages of one subject, which may have wildcards, or all; how many these were.
pub(crate) async fn purge(
    link: &Link,
    stream: &str,
    filter: Option<&str>,
    deadline: Instant,
) -> Result<u64> {
    #[derive(Deserialize)]
    struct Purged {
        #[serde(default)]
        purged: u64,
    }
    let request = filter.map(|filter| body(&json!({ "filter": filter }))).unwrap_or_default();
    let subject = format!("STREAM.PURGE.{stream}");
    call(link, &subject, request, deadline).await.map(|Purged { purged }| purged)
}

/// The names of all streams, or of those with subjects in common with `subject`, sorted.
pub(crate) async fn names(
    link: &Link,
    subject: Option<&str>,
    deadline: Instant,
) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        total: usize,
        streams: Option<Vec<String>>,
    }
    let mut names = Vec::new();
    loop {
        let mut request = json!({ "offset": names.len() });
        if let Some(subject) = subject {
            request["subject"] = json!(subject);
        }
        let page: Page = ask(link, "STREAM.NAMES", body(&request), deadline).await?;
        let found = page.streams.unwrap_or_default();
        let last = found.is_empty();
        names.extend(found);
        if last || names.len() >= page.total {
            // A page may repeat what the one before had, when streams are made meanwhile.
            names.sort_unstable();
            names.dedup();
            return Ok(names);
        }
    }
}

/// The last message of a subject, as the stream's leader has it.
pub(crate) async fn last_message(
    link: &Link,
    stream: &str,
    subject: &str,
    deadline: Instant,
) -> Result<Option<RawMessage>> {
    message(link, stream, &json!({ "last_by_subj": subject }), deadline).await
}

/// The message that `which` tells, as the stream's leader has it.
pub(crate) async fn message(
    link: &Link,
    stream: &str,
    which: &Value,
    deadline: Instant,
) -> Result<Option<RawMessage>> {
    #[derive(Deserialize)]
    struct Found {
        message: RawMessage,
    }
    let subject = format!("STREAM.MSG.GET.{stream}");
    match ask::<Found>(link, &subject, body(which), deadline).await {
        Ok(found) => Ok(Some(found.message)),
        Err(error) if has_code(&error, NO_MESSAGE_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes one message out; whether it was there.
pub(crate) async fn delete_message(
    link: &Link,
    stream: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<bool> {
    #[derive(Deserialize)]
    struct Deleted {
        success: bool,
    }
    let request = body(&json!({ "seq": sequence, "no_erase": true }));
    match call(link, &format!("STREAM.MSG.DELETE.{stream}"), request, deadline).await {
        Ok(Deleted { success }) => Ok(success),
        Err(error) if has_code(&error, SEQUENCE_NOT_FOUND) || is_not_stored(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a delete failed because there is no such message, which has no number of its own.
fn is_not_stored(error: &Error) -> bool {
    has_code(error, DELETE_FAILED)
        && matches!(error.message(), "stream store EOF" | "no message found" | "deleted message")
}
