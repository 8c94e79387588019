//! Messages that are published together or not at all: an atomic batch (ADR-50).
//!
//! The stream's leader holds the messages of a batch until the last one commits them. A batch that
//! lost a message on the way is refused as a whole, and one without a commit is forgotten by the
//! server after ten seconds.

use async_nats::HeaderValue;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use serde::Deserialize;
use tokio::time::Instant;

use super::config::require_atomic_publish;
use super::{check_size, refused};
use crate::connector::Link;
use crate::connector::capabilities::ApiError;
use crate::connector::status::Denied;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{has_code, is_incomplete};
use crate::kv::retry::Retry;
use crate::pubsub::Ack;
use crate::pubsub::driver::OutboundMessage;
use crate::pubsub::headers::wire_size;

/// A message id that the stream knows already.
const DUPLICATE: u64 = 10_201;

/// What the stream says to the commit.
#[derive(Debug, Deserialize)]
struct Commit {
    stream: Option<String>,
    #[serde(default)]
    seq: u64,
    count: Option<u64>,
    error: Option<ApiError>,
}

pub(super) async fn publish(
    link: &Link,
    stream: &str,
    messages: Vec<OutboundMessage>,
    deadline: Instant,
) -> Result<Ack> {
    require_atomic_publish(&*link.capabilities(deadline).await?)?;
    let mut retry = Retry::until(deadline);
    loop {
        let batch = batch(&messages);
        check_sizes(link, &batch)?;
        let error = match send(link, batch, deadline).await {
            Ok(ack) => return Ok(ack),
            Err(error) => error.with("stream", stream),
        };
        if is_incomplete(&error) {
            check_permitted(link, &messages, deadline).await?;
        }
        // Nothing was stored, and the next try may find another leader.
        let again = error.is_no_responders()
            || (error.kind() == ErrorKind::Unavailable && error.context("err_code").is_some());
        if !again || !retry.pause().await {
            return Err(error);
        }
    }
}

/// The messages with the headers that make them one batch.
fn batch(messages: &[OutboundMessage]) -> Vec<OutboundMessage> {
    let id = format!("{:032x}", rand::random::<u128>());
    let last = messages.len();
    let with_headers = |(sequence, message): (usize, &OutboundMessage)| {
        let mut message = message.clone();
        let headers = message.headers.get_or_insert_default();
        headers.insert(NATS_BATCH_ID, id.as_str());
        headers.insert(NATS_BATCH_SEQUENCE, HeaderValue::from(sequence as u64));
        if sequence == last {
            headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        }
        message
    };
    (1..).zip(messages).map(with_headers).collect()
}

fn check_sizes(link: &Link, batch: &[OutboundMessage]) -> Result<()> {
    let limit = link.client().max_payload();
    for (index, message) in batch.iter().enumerate() {
        let headers = message.headers.as_ref().map_or(0, wire_size);
        check_size(limit, message.payload.len() + headers).map_err(|error| {
            error.with("index", index.to_string()).with("subject", message.subject.as_str())
        })?;
    }
    Ok(())
}

/// Sends a batch. `Timeout` comes from the commit alone: before it nothing can be stored.
async fn send(link: &Link, batch: Vec<OutboundMessage>, deadline: Instant) -> Result<Ack> {
    let count = batch.len();
    for (index, message) in batch.into_iter().enumerate() {
        let OutboundMessage { subject, payload, headers, .. } = message;
        if index + 1 == count {
            let said = link.request_change(subject, headers, payload, deadline).await?;
            return committed(&said.payload, count as u64);
        }
        if index == 0 {
            // Its answer, which is empty, tells that there is a leader who takes the batch.
            let begun = link.request_change(subject, headers, payload, deadline).await;
            let begun = begun.map_err(not_sent)?;
            if !begun.payload.is_empty() {
                return Err(not_a_batch(&begun.payload));
            }
        } else {
            let message = OutboundMessage { subject, reply: None, payload, headers };
            link.publish(message, deadline).await.map_err(not_sent)?;
        }
    }
    Err(Error::new(ErrorKind::InvalidInput, "a batch without messages"))
}

fn committed(payload: &[u8], count: u64) -> Result<Ack> {
    match serde_json::from_slice::<Commit>(payload) {
        Ok(Commit { error: Some(error), .. }) => Err(whole(&error)),
        Ok(Commit { stream: Some(stream), seq, count: Some(stored), .. }) if stored == count => {
            Ok(Ack::new(stream, seq, false))
        }
        _ => Err(older()),
    }
}

/// What the stream says to the first message where that begins no batch.
fn not_a_batch(payload: &[u8]) -> Error {
    match serde_json::from_slice::<Commit>(payload) {
        Ok(Commit { error: Some(error), .. }) => whole(&error),
        _ => older(),
    }
}

/// The stream refused the batch as a whole, without telling for which message.
fn whole(error: &ApiError) -> Error {
    let error = refused(error);
    let kind = match error.kind() {
        _ if is_incomplete(&error) => ErrorKind::Unavailable,
        _ if has_code(&error, DUPLICATE) => ErrorKind::AlreadyExists,
        kind => kind,
    };
    let refused = Error::new(kind, format!("{}; nothing is stored", error.message()));
    match error.context("err_code") {
        Some(code) => refused.with("err_code", code),
        None => refused,
    }
}

fn older() -> Error {
    Error::new(
        ErrorKind::Other,
        "the server did not take the messages as one batch, and may have stored them one by one; is \
         the one that holds the stream older than the one connected to?",
    )
}

/// Without its commit a batch is forgotten, whatever became of this message.
fn not_sent(error: Error) -> Error {
    if !error.is_timeout() {
        return error;
    }
    Error::new(
        ErrorKind::Unavailable,
        "the stream did not take the batch in time; nothing is stored",
    )
    .with_source(error)
}

/// Only the first and the last message are answered: what the server told of the others.
async fn check_permitted(
    link: &Link,
    messages: &[OutboundMessage],
    deadline: Instant,
) -> Result<()> {
    let place = |denied: &Denied| {
        messages.iter().position(|message| message.subject.as_str() == denied.subject)
    };
    let ours = |denied: &Denied| denied.publish && place(denied).is_some();
    match link.refusal(deadline, ours).await? {
        Some(denied) => {
            let index = place(&denied).unwrap_or_default();
            Err(denied.error().with("index", index.to_string()))
        }
        None => Ok(()),
    }
}
