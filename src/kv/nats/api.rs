//! The part of the JetStream API that buckets need. Requests and answers are raw JSON, read
//! leniently: old servers leave fields out.

use std::time::{Duration, SystemTime};

use async_nats::Message;
use async_nats::jetstream::stream::RawMessage;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::bucket::Bucket;
use super::clock::Clock;
use crate::connector::Link;
use crate::connector::capabilities::ApiError;
use crate::connector::link::PATIENCE;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};

pub(super) const STREAM_NOT_FOUND: u64 = 10059;
const NO_MESSAGE_FOUND: u64 = 10037;
const NAME_IN_USE: u64 = 10058;
const WRONG_LAST_SEQUENCE: u64 = 10071;
const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
const MESSAGE_TOO_LARGE: u64 = 10054;
const STREAM_FULL: u64 = 10077;
const REPLICAS_NEED_A_CLUSTER: u64 = 10074;
const INVALID_CONFIG: u64 = 10052;
const UPDATE_REFUSED: u64 = 10069;
const STORE_NOT_MADE: u64 = 10049;
const TTL_INVALID: u64 = 10165;
const TTL_DISABLED: u64 = 10166;
const TOO_MANY_REQUESTS: u64 = 10167;
const ATOMIC_DISABLED: u64 = 10174;
const ATOMIC_INCOMPLETE: u64 = 10176;
const ATOMIC_TOO_MANY: u64 = 10210;

/// A stream as the server tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    pub(crate) config: Map<String, Value>,
    #[serde(default)]
    pub(super) state: State,
    created: Option<String>,
    /// When it answered, by its own clock; servers before 2.10 do not say.
    ts: Option<String>,
    #[serde(skip)]
    pub(super) clock: Clock,
}

/// What a stream holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) last_seq: u64,
}

impl Info {
    pub(crate) fn is_empty(&self) -> bool {
        self.state.messages == 0
    }

    /// When the stream was made.
    pub(super) fn created(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.created.as_deref()?).ok()
    }

    /// A duration of the config, where it is not zero.
    pub(super) fn duration(&self, field: &str) -> Option<Duration> {
        let nanos = u64::try_from(self.number(field)).ok().filter(|nanos| *nanos > 0)?;
        Some(Duration::from_nanos(nanos))
    }

    /// A text of the config; where there is none, the empty one.
    pub(super) fn text(&self, field: &str) -> &str {
        self.config.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// A number of the config; where there is none, zero.
    pub(crate) fn number(&self, field: &str) -> i64 {
        self.config.get(field).and_then(Value::as_i64).unwrap_or(0)
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

/// Makes a stream.
pub(crate) async fn create(
    link: &Link,
    stream: &str,
    config: &Map<String, Value>,
    deadline: Instant,
) -> Result<Info> {
    let sent = SystemTime::now();
    let subject = format!("STREAM.CREATE.{stream}");
    let made = call(link, &subject, body(&json!(config)), deadline).await?;
    Ok(told(made, sent))
}

/// Changes a stream to `config`.
pub(super) async fn update(
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
pub(super) async fn delete(link: &Link, stream: &str, deadline: Instant) -> Result<bool> {
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
    let mut patience = PATIENCE;
    let mut asked_before = false;
    loop {
        let turn = deadline.min(after(patience));
        match call(link, &subject, Bytes::new(), turn).await {
            Ok(Deleted { success }) => return Ok(success),
            // The call before this one did it, only its answer did not come.
            Err(error) if error.is_not_found() => return Ok(asked_before && was_there),
            Err(error) if error.is_timeout() && turn < deadline && turn <= Instant::now() => {
                asked_before = true;
                patience *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The names of all streams.
pub(super) async fn names(link: &Link, deadline: Instant) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        total: usize,
        streams: Option<Vec<String>>,
    }
    let mut names = Vec::new();
    loop {
        let request = body(&json!({ "offset": names.len() }));
        let page: Page = ask(link, "STREAM.NAMES", request, deadline).await?;
        let found = page.streams.unwrap_or_default();
        let last = found.is_empty();
        names.extend(found);
        if last || names.len() >= page.total {
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
    #[derive(Deserialize)]
    struct Found {
        message: RawMessage,
    }
    let request = body(&json!({ "last_by_subj": subject }));
    match ask::<Found>(link, &format!("STREAM.MSG.GET.{stream}"), request, deadline).await {
        Ok(found) => Ok(Some(found.message)),
        Err(error) if has_code(&error, NO_MESSAGE_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a consumer of the messages with these subjects: how many there are for it.
pub(super) async fn create_consumer(
    link: &Link,
    stream: &str,
    name: &str,
    subjects: &[String],
    mut config: Value,
    deadline: Instant,
) -> Result<u64> {
    #[derive(Deserialize)]
    struct Created {
        #[serde(default)]
        num_pending: u64,
    }
    // With one subject it is part of the call's, so that it can be permitted by it.
    let call_subject = match subjects {
        [subject] => {
            config["filter_subject"] = json!(subject);
            format!("CONSUMER.CREATE.{stream}.{name}.{subject}")
        }
        subjects => {
            config["filter_subjects"] = json!(subjects);
            format!("CONSUMER.CREATE.{stream}.{name}")
        }
    };
    let request = body(&json!({ "stream_name": stream, "config": config }));
    let created: Created = call(link, &call_subject, request, deadline).await?;
    Ok(created.num_pending)
}

/// The context that holds the server's own number of an error.
const ERR_CODE: &str = "err_code";

/// Whether it is the server's refusal of this number.
pub(crate) fn has_code(error: &Error, code: u64) -> bool {
    error.context(ERR_CODE).is_some_and(|found| found.parse() == Ok(code))
}

/// Whether a stream could not be made because of its files: also, for a moment, when they are those
/// of a stream of that name which was just deleted.
pub(crate) fn is_store_not_made(error: &Error) -> bool {
    has_code(error, STORE_NOT_MADE)
}

/// A request as it is sent.
pub(crate) fn body(json: &Value) -> Bytes {
    json.to_string().into()
}

/// A call that changes nothing, or no more when it is done twice, which may be asked again.
pub(crate) async fn ask<T: DeserializeOwned>(
    link: &Link,
    subject: &str,
    payload: Bytes,
    deadline: Instant,
) -> Result<T> {
    read(link.ask(link.js_subject(subject), payload, deadline).await)
}

/// A call that may change something.
pub(crate) async fn call<T: DeserializeOwned>(
    link: &Link,
    subject: &str,
    payload: Bytes,
    deadline: Instant,
) -> Result<T> {
    read(link.request_change(link.js_subject(subject), None, payload, deadline).await)
}

/// What a call was answered with.
fn read<T: DeserializeOwned>(answer: Result<Message>) -> Result<T> {
    #[derive(Deserialize)]
    struct Failed {
        error: Option<ApiError>,
    }
    let answer = answer.map_err(|error| {
        if error.is_no_responders() {
            Error::no_responders(
                "JetStream does not answer: it is not enabled for this server and account, or \
                 NATS.JETSTREAM_DOMAIN or NATS.JETSTREAM_PREFIX is wrong, or it is not up",
            )
        } else {
            error
        }
    })?;
    let unreadable = |error: serde_json::Error| {
        Error::new(ErrorKind::Other, "the answer of the JetStream API cannot be read")
            .with_source(error)
    };
    let failed: Failed = serde_json::from_slice(&answer.payload).map_err(unreadable)?;
    match failed.error {
        Some(failure) => Err(error(&failure)),
        None => serde_json::from_slice(&answer.payload).map_err(unreadable),
    }
}

/// A refusal of the server as this crate's error, with its own number as context.
pub(crate) fn error(failure: &ApiError) -> Error {
    let kind = match failure.err_code {
        STREAM_NOT_FOUND => ErrorKind::NotFound,
        NAME_IN_USE => ErrorKind::AlreadyExists,
        // The same refusal has two numbers, depending on the server and on replication.
        WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT => ErrorKind::Conflict,
        MESSAGE_TOO_LARGE | STREAM_FULL => ErrorKind::TooLarge,
        REPLICAS_NEED_A_CLUSTER | TTL_DISABLED | ATOMIC_DISABLED => ErrorKind::Unsupported,
        INVALID_CONFIG | UPDATE_REFUSED | TTL_INVALID => ErrorKind::InvalidInput,
        TOO_MANY_REQUESTS | ATOMIC_INCOMPLETE | ATOMIC_TOO_MANY => ErrorKind::Unavailable,
        _ if failure.code == 503 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    Error::new(kind, failure.description.clone()).with(ERR_CODE, failure.err_code.to_string())
}

/// The refusal of a write to `bucket`, naming the limit that it is about.
pub(super) fn write_error(failure: &ApiError, bucket: &Bucket) -> Error {
    match failure.err_code {
        MESSAGE_TOO_LARGE => {
            let limit =
                bucket.max_value_size.map_or("its limit".to_owned(), |n| format!("{n} bytes"));
            Error::new(
                ErrorKind::TooLarge,
                format!("the bucket takes values of at most {limit}, headers included"),
            )
        }
        STREAM_FULL => Error::new(ErrorKind::TooLarge, "the bucket is full (max_bytes)"),
        WRONG_LAST_SEQUENCE | WRONG_LAST_SEQUENCE_CONSTANT => {
            Error::new(ErrorKind::Conflict, "the key has another revision")
                .with(ERR_CODE, failure.err_code.to_string())
        }
        _ => error(failure),
    }
}

/// Whether a refusal is about this moment, or about options that have changed: nothing was stored,
/// and after a look at the bucket the same call may succeed.
pub(crate) fn is_temporary(error: &Error) -> bool {
    let told = error.context(ERR_CODE).is_some();
    told && (error.kind() == ErrorKind::Unavailable || is_switched_off(error))
}

/// Whether messages of a batch did not arrive; nothing of it was stored.
pub(super) fn is_incomplete(error: &Error) -> bool {
    has_code(error, ATOMIC_INCOMPLETE)
}

/// Whether the bucket lacks an option that the call needs.
pub(super) fn is_switched_off(error: &Error) -> bool {
    has_code(error, TTL_DISABLED) || has_code(error, ATOMIC_DISABLED)
}
