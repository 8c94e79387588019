//! The words of the server for counters: stream config, headers, acknowledgements, values.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use async_nats::{HeaderMap, Message, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::CountersConfig;
use crate::connector::Link;
use crate::connector::capabilities::ApiError;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{self, Info};
use crate::kv::Storage;

/// The header of an add.
const NATS_INCR: &str = "Nats-Incr";
/// How many adds to a key the stream keeps: a server that starts again or was left behind learns the
/// message ids of the last minutes from what is stored, and an add's own value is read there when it
/// got no answer. Enough for what others add to a busy key until a lost add is tried again.
const KEPT: i64 = 10_000;
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The first try under this id is still on its way to the copies.
const DUPLICATE_IN_PROCESS: u64 = 10158;

/// A store that was found, with the beginnings of its keys' subjects.
#[derive(Debug)]
pub(super) struct Opened {
    /// As messages are stored: `$COUNTERS.<domain>.<name>.`
    pub(super) subjects: String,
    /// As adds are sent.
    pub(super) write: String,
    /// Where copies answer reads.
    pub(super) read: String,
    pub(super) direct: bool,
    /// How long message ids are remembered.
    pub(super) window: Duration,
}

impl Opened {
    /// The store that a stream holds, if it does.
    pub(super) fn new(link: &Link, stream: &str, info: &Info) -> Result<Self> {
        let subjects = info.config.get("subjects").and_then(Value::as_array);
        let subjects = match subjects.map(Vec::as_slice) {
            Some([Value::String(one)]) => one.strip_suffix('>').filter(|one| one.ends_with('.')),
            _ => None,
        };
        let Some(subjects) = subjects.filter(|_| info.flag("allow_msg_counter")) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the stream of this name holds no counters: it was made by something else, or by a \
                 server older than 2.12; use another name or delete it",
            )
            .with("stream", stream));
        };
        // An API prefix stands for another account, whose subjects are imported under it. A domain
        // is another server, whose subjects are known here.
        let write = match link.settings().jetstream_prefix() {
            Some(prefix) => format!("{}.{subjects}", prefix.trim_end_matches('.')),
            None => subjects.to_owned(),
        };
        let window = u64::try_from(info.number("duplicate_window")).ok().filter(|n| *n > 0);
        Ok(Opened {
            subjects: subjects.to_owned(),
            write,
            read: link.js_subject(&format!("DIRECT.GET.{stream}.{subjects}")).into_string(),
            direct: info.flag("allow_direct"),
            window: window.map_or(DUPLICATE_WINDOW, Duration::from_nanos),
        })
    }
}

/// The config of a new store. The domain is a token of the subjects, so that stores of one name in
/// two domains of one account do not both take an add.
pub(super) fn new_stream(
    config: &CountersConfig,
    stream: &str,
    domain: Option<&str>,
) -> Map<String, Value> {
    let domain = domain.unwrap_or("_");
    let window = config.duplicate_window.unwrap_or(DUPLICATE_WINDOW);
    let options = json!({
        "name": stream,
        "subjects": [format!("$COUNTERS.{domain}.{}.>", config.name)],
        "retention": "limits",
        "discard": "old",
        "storage": config.storage.unwrap_or_default().to_string(),
        "num_replicas": config.replicas.unwrap_or(1),
        "max_msgs_per_subject": KEPT,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_age": 0,
        "duplicate_window": u64::try_from(window.as_nanos()).unwrap_or(i64::MAX as u64),
        "allow_msg_counter": true,
        "allow_direct": true,
        "allow_rollup_hdrs": false,
        "deny_delete": true,
    });
    match options {
        Value::Object(options) => options,
        _ => Map::new(),
    }
}

/// Where a store that is there is not as asked: the option, how it is, how it was to be.
pub(super) fn differences(
    config: &CountersConfig,
    info: &Info,
) -> Vec<(&'static str, String, String)> {
    let mut differences = Vec::new();
    let mut compare = |option, wanted: Option<String>| {
        let found = match info.config.get(option) {
            Some(Value::String(text)) => text.clone(),
            other => other.map(Value::to_string).unwrap_or_default(),
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            differences.push((option, found, wanted));
        }
    };
    compare("num_replicas", config.replicas.map(|n| n.to_string()));
    compare("storage", config.storage.as_ref().map(Storage::to_string));
    compare("duplicate_window", config.duplicate_window.map(|d| d.as_nanos().to_string()));
    differences
}

pub(super) fn add_headers(sum: i128, id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_INCR, format!("{sum:+}"));
    headers.insert(NATS_MESSAGE_ID, id);
    headers
}

/// The acknowledgement of an add.
#[derive(Debug, PartialEq)]
pub(super) struct Ack {
    pub(super) seq: u64,
    /// The value after the add; `None` for one that was made by an earlier try.
    pub(super) value: Option<i128>,
}

pub(super) fn acknowledged(payload: &[u8], stream: &str) -> Result<Ack> {
    #[derive(Deserialize)]
    struct Answer {
        stream: Option<String>,
        seq: Option<u64>,
        val: Option<String>,
        #[serde(default)]
        duplicate: bool,
        error: Option<ApiError>,
    }
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(refusal), .. }) => Err(jetstream::error(&refusal)),
        Ok(Answer { stream: Some(by), seq: Some(seq), val, duplicate, .. }) if by == stream => {
            match val {
                Some(val) => Ok(Ack { seq, value: Some(number(&val)?) }),
                None if duplicate => Ok(Ack { seq, value: None }),
                None => Err(Error::new(
                    ErrorKind::Unsupported,
                    "the server that holds the store is older than 2.12: it stored the add and did \
                     not count it",
                )),
            }
        }
        Ok(Answer { stream: Some(by), .. }) => Err(Error::new(
            ErrorKind::Other,
            "another stream than the store's took the add: its subjects cover those of counters",
        )
        .with("stream", by)),
        Ok(_) | Err(_) => Err(Error::new(
            ErrorKind::Other,
            "the answer to an add is no acknowledgement of a stream: something else answers on the \
             subjects of the store",
        )),
    }
}

/// Nobody served the subject, or the stream is gone or has no leader now.
pub(super) fn is_gone(error: &Error) -> bool {
    error.is_no_responders() || error.is_not_found() || jetstream::is_temporary(error)
}

/// Nobody knows whether the message was stored.
pub(super) fn is_doubtful(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable)
        || jetstream::has_code(error, DUPLICATE_IN_PROCESS)
}

/// The value in a message that the leader gave.
pub(super) fn stored(raw: RawMessage) -> Result<i128> {
    let message = StreamMessage::try_from(raw).map_err(|error| {
        Error::new(ErrorKind::Decode, "the stored message cannot be read").with_source(error)
    })?;
    value(&message.payload)
}

/// The value in a stored message.
fn value(payload: &[u8]) -> Result<i128> {
    #[derive(Deserialize)]
    struct Stored {
        val: String,
    }
    let stored: Stored = serde_json::from_slice(payload).map_err(|error| {
        Error::new(ErrorKind::Decode, "what is stored is no counter").with_source(error)
    })?;
    number(&stored.val)
}

fn number(text: &str) -> Result<i128> {
    text.parse().map_err(|_| {
        Error::new(ErrorKind::Decode, "the counter does not fit into an i64").with("value", text)
    })
}

/// The value in the answer to a direct get.
pub(super) fn direct(answer: &Message) -> Result<Option<i128>> {
    match answer.status {
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(Error::new(ErrorKind::Other, "the server refused to read the counter")
            .with("answer", status.to_string())),
        None => value(&answer.payload).map(Some),
    }
}

/// The subjects of a stream that match a filter, page by page.
pub(super) async fn subjects(
    link: &Link,
    stream: &str,
    filter: &str,
    deadline: Instant,
) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        state: State,
        #[serde(default)]
        total: usize,
    }
    #[derive(Deserialize)]
    struct State {
        #[serde(default)]
        subjects: Option<HashMap<String, u64>>,
    }
    let mut found = Vec::new();
    loop {
        let request = jetstream::body(&json!({ "subjects_filter": filter, "offset": found.len() }));
        let page: Page =
            jetstream::call(link, &format!("STREAM.INFO.{stream}"), request, deadline).await?;
        let subjects = page.state.subjects.unwrap_or_default();
        let last = subjects.is_empty() || found.len() + subjects.len() >= page.total;
        found.extend(subjects.into_keys());
        if last {
            return Ok(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_told_apart() {
        let ack = |json: &str| acknowledged(json.as_bytes(), "COUNTERS_a");
        let counted = ack(r#"{"stream":"COUNTERS_a","seq":7,"val":"-12"}"#).unwrap();
        assert_eq!(counted, Ack { seq: 7, value: Some(-12) });
        let again = ack(r#"{"stream":"COUNTERS_a","seq":7,"duplicate":true}"#).unwrap();
        assert_eq!(again, Ack { seq: 7, value: None });
        let kind = |json: &str| ack(json).unwrap_err().kind();
        assert_eq!(kind(r#"{"stream":"COUNTERS_a","seq":7}"#), ErrorKind::Unsupported);
        assert_eq!(kind(r#"{"stream":"OTHER","seq":7,"val":"1"}"#), ErrorKind::Other);
        let huge = "9".repeat(60);
        let huge = format!(r#"{{"stream":"COUNTERS_a","seq":7,"val":"{huge}"}}"#);
        assert_eq!(kind(&huge), ErrorKind::Decode);
        assert_eq!(kind(""), ErrorKind::Other);
        let busy = r#"{"error":{"code":409,"err_code":10158,"description":"in process"}}"#;
        assert!(is_doubtful(&ack(busy).unwrap_err()));
        let moving = r#"{"error":{"code":503,"err_code":10008,"description":"unavailable"}}"#;
        assert!(is_gone(&ack(moving).unwrap_err()));
    }

    #[test]
    fn adds_are_written_with_their_sign() {
        let written = |n| add_headers(n, "id").get(NATS_INCR).map(ToString::to_string);
        assert_eq!(written(5).as_deref(), Some("+5"));
        assert_eq!(written(-2).as_deref(), Some("-2"));
        assert_eq!(written(0).as_deref(), Some("+0"));
    }
}
