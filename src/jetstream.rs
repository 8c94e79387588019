//! The JetStream API, which buckets, counters, streams and consumers are made with. Requests and
//! answers are raw JSON, read leniently: old servers leave fields out.

use async_nats::Message;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::connector::Link;
use crate::connector::capabilities::ApiError;
use crate::error::{Error, ErrorKind, Result};
use crate::kv::retry::Retry;
use refusal::is_between_leaders;

mod clock;
mod consumer;
pub(crate) mod feed;
mod options;
mod position;
mod refusal;
mod stored;
mod stream;

pub(crate) use clock::Clock;
pub(crate) use consumer::create_consumer;
pub(crate) use options::{Options, nanos};
pub(crate) use position::Position;
pub(crate) use refusal::{
    MESSAGE_TOO_LARGE, STREAM_FULL, STREAM_SEALED, SUBJECTS_OVERLAP, error, has_code,
    is_incomplete, is_switched_off, is_temporary, is_wrong_last_sequence,
};
pub(crate) use stored::read_message;
pub(crate) use stream::{
    Info, create, delete, delete_message, info, last_message, message, names, purge, update,
};

/// A request as it is sent.
pub(crate) fn body(json: &Value) -> Bytes {
    json.to_string().into()
}

/// A call that changes nothing, or no more when it is done twice, which may be asked again: also while
/// a cluster has no leader.
pub(crate) async fn ask<T: DeserializeOwned>(
    link: &Link,
    subject: &str,
    payload: Bytes,
    deadline: Instant,
) -> Result<T> {
    let mut retry = Retry::until(deadline);
    loop {
        match read(link.ask(link.js_subject(subject), payload.clone(), deadline).await) {
            Err(error) if is_between_leaders(&error) && retry.pause().await => {}
            done => return done,
        }
    }
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
