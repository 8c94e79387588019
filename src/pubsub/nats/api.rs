//! Streams by the JetStream API.

use async_nats::jetstream::message::StreamMessage;
use serde_json::json;
use tokio::time::Instant;

use super::config::{changed, check_supported, new_stream, options, status};
use crate::connector::{Feature, Link};
use crate::deadline::within;
use crate::error::{BoxError, Error, ErrorKind, Result};
use crate::jetstream::{self, Info};
use crate::kv::retry::Retry;
use crate::pubsub::driver::{InboundMessage, Stored};
use crate::streams::{StreamConfig, StreamStatus};

/// How often a change that others seem to undo is made. Then the server has left it out, which looks
/// the same.
const CROSSED_AT_MOST: u32 = 10;

pub(super) async fn stream(
    link: &Link,
    name: &str,
    deadline: Instant,
) -> Result<Option<StreamStatus>> {
    let info = jetstream::info(link, name, deadline).await.map_err(|error| about(error, name))?;
    Ok(info.map(|info| status(name, &info)))
}

pub(super) async fn stream_of(
    link: &Link,
    subject: &str,
    deadline: Instant,
) -> Result<Option<String>> {
    let names = jetstream::names(link, Some(subject), deadline).await?;
    Ok(names.into_iter().next())
}

pub(super) async fn stream_names(link: &Link, deadline: Instant) -> Result<Vec<String>> {
    jetstream::names(link, None, deadline).await
}

/// Makes a stream, and takes it away again where the server left an option out.
pub(super) async fn create_stream(
    link: &Link,
    config: &StreamConfig,
    deadline: Instant,
) -> Result<StreamStatus> {
    let name = &config.name;
    let server = link.capabilities(deadline).await?;
    check_supported(config, &server)?;
    // Servers that keep no mark of who made a stream say nothing when they are told to make it twice.
    if !server.supports(Feature::StreamMetadata) && stream(link, name, deadline).await?.is_some() {
        let there = Error::new(ErrorKind::AlreadyExists, "there is a stream of this name");
        return Err(about(there, name));
    }
    let stream = new_stream(config, &server);
    let made = jetstream::create(link, name, &stream, deadline).await;
    let info = match made {
        Ok(info) => info,
        Err(error) => return Err(overlap(link, config, about(error, name), deadline).await),
    };
    if let Some(option) = options(config).first_missing(&info) {
        if let Err(error) = jetstream::delete(link, name, deadline).await {
            tracing::warn!(stream = name, %error, "a stream that lacks an option was not deleted");
        }
        return Err(about(left_out(option, server.server_version()), name));
    }
    Ok(status(name, &info))
}

/// Changes what `config` sets, from what is there now. The server takes a config whole, without a
/// condition: when the changes of two processes cross, the later one undoes the other. So what was
/// set is looked at once more; who comes even later is not seen.
pub(super) async fn update_stream(
    link: &Link,
    config: &StreamConfig,
    deadline: Instant,
) -> Result<StreamStatus> {
    let name = &config.name;
    let server = link.capabilities(deadline).await?;
    check_supported(config, &server)?;
    let options = options(config);
    let _one_at_a_time = within(deadline, link.changing_stream.lock()).await.map_err(|_| {
        let busy = "another call was still changing a stream at the deadline";
        about(Error::new(ErrorKind::Timeout, busy), name)
    })?;
    let mut retry = Retry::until(deadline);
    let mut tries = 0;
    loop {
        let before = current(link, name, deadline).await?;
        if options.first_missing(&before).is_none() {
            return Ok(status(name, &before));
        }
        let stream = changed(config, &options, &before);
        match jetstream::update(link, name, &stream, deadline).await {
            Ok(_) => tries += 1,
            Err(error) if jetstream::is_temporary(&error) && retry.pause().await => continue,
            Err(error) => {
                return Err(overlap(link, config, about(error, name), deadline).await);
            }
        }
        let now = current(link, name, deadline).await?;
        match options.first_undone(&before, &now) {
            None => return Ok(status(name, &now)),
            Some(_) if tries < CROSSED_AT_MOST && retry.pause().await => {}
            Some(option) => {
                return Err(about(left_out(option, server.server_version()), name));
            }
        }
    }
}

async fn current(link: &Link, name: &str, deadline: Instant) -> Result<Info> {
    let found = jetstream::info(link, name, deadline).await;
    let found = found.map_err(|error| about(error, name))?;
    found.ok_or_else(|| {
        about(Error::new(ErrorKind::NotFound, "there is no such stream; make it first"), name)
    })
}

/// Old servers leave out in silence what they do not know.
fn left_out(option: &'static str, version: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the server that holds the stream leaves this option out: it is older than needed; \
             connected to {version}"
        ),
    )
    .with("option", option)
}

/// Another stream has one of its subjects.
async fn overlap(link: &Link, config: &StreamConfig, error: Error, deadline: Instant) -> Error {
    if !jetstream::has_code(&error, jetstream::SUBJECTS_OVERLAP) {
        return error;
    }
    let conflict = Error::new(ErrorKind::Conflict, error.message().to_owned())
        .with("stream", &config.name)
        .with("subjects", config.subjects.join(","));
    for subject in &config.subjects {
        // Whoever may not ask is told the rest.
        let Ok(names) = jetstream::names(link, Some(subject), deadline).await else { break };
        if let Some(other) = names.into_iter().find(|other| *other != config.name) {
            return conflict.with("other", other);
        }
    }
    conflict
}

pub(super) async fn delete_stream(link: &Link, name: &str, deadline: Instant) -> Result<bool> {
    jetstream::delete(link, name, deadline).await.map_err(|error| about(error, name))
}

pub(super) async fn purge_stream(
    link: &Link,
    name: &str,
    subject: Option<&str>,
    deadline: Instant,
) -> Result<u64> {
    let purged = jetstream::purge(link, name, subject, deadline).await;
    purged.map_err(|error| about(error, name))
}

pub(super) async fn message_from(
    link: &Link,
    stream: &str,
    filter: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<Option<Stored>> {
    let which = json!({ "seq": sequence.max(1), "next_by_subj": filter });
    let found = jetstream::message(link, stream, &which, deadline).await;
    let Some(raw) = found.map_err(|error| about(error, stream))? else { return Ok(None) };
    let sequence = raw.sequence;
    let unreadable = |error: BoxError| {
        let unreadable = Error::new(ErrorKind::Decode, "the stored message cannot be read");
        about(unreadable, stream).with("sequence", sequence.to_string()).with_source(error)
    };
    let message = jetstream::read_message(raw).map_err(unreadable)?;
    let StreamMessage { subject, headers, payload, time, .. } = message;
    let headers = Some(headers).filter(|headers| !headers.is_empty());
    let message = InboundMessage { subject, reply: None, headers, payload };
    Ok(Some(Stored::new(message, sequence, time.into())))
}

pub(super) async fn delete_message(
    link: &Link,
    stream: &str,
    sequence: u64,
    deadline: Instant,
) -> Result<bool> {
    let deleted = jetstream::delete_message(link, stream, sequence, deadline).await;
    deleted.map_err(|error| about(error, stream))
}

fn about(error: Error, stream: &str) -> Error {
    error.with("stream", stream)
}
