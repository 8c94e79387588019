//! Streams by the JetStream API.

use async_nats::jetstream::message::StreamMessage;
use serde_json::json;
use tokio::time::Instant;

use super::config::{changed, check_supported, new_stream, options, status};
use crate::connector::Link;
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{self, Info, Options};
use crate::kv::retry::Retry;
use crate::pubsub::driver::{InboundMessage, Stored};
use crate::streams::{StreamConfig, StreamStatus};

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
    let stream = new_stream(config, &server);
    let made = jetstream::create(link, name, &stream, deadline).await;
    let info = made.map_err(|error| overlap(about(error, name)))?;
    if let Err(error) = check_options(&options(config), &info, server.server_version()) {
        if let Err(error) = jetstream::delete(link, name, deadline).await {
            tracing::warn!(stream = name, %error, "a stream that lacks an option was not deleted");
        }
        return Err(about(error, name));
    }
    Ok(status(name, &info))
}

/// Changes what `config` sets, from what is there now. The server takes each change whole and does
/// not tell when two cross, so what was set is looked at once more.
pub(super) async fn update_stream(
    link: &Link,
    config: &StreamConfig,
    deadline: Instant,
) -> Result<StreamStatus> {
    let name = &config.name;
    let server = link.capabilities(deadline).await?;
    check_supported(config, &server)?;
    let options = options(config);
    let mut retry = Retry::until(deadline);
    loop {
        let before = current(link, name, deadline).await?;
        if options.first_missing(&before).is_none() {
            return Ok(status(name, &before));
        }
        let stream = changed(config, &options, &before);
        match jetstream::update(link, name, &stream, deadline).await {
            Ok(info) => {
                check_options(&options, &info, server.server_version())
                    .map_err(|error| about(error, name))?;
            }
            Err(error) if jetstream::is_temporary(&error) && retry.pause().await => continue,
            Err(error) => return Err(overlap(about(error, name))),
        }
        let now = current(link, name, deadline).await?;
        if !options.is_undone(&before.config, &now) || !retry.pause().await {
            return Ok(status(name, &now));
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
fn check_options(options: &Options, info: &Info, version: &str) -> Result<()> {
    match options.first_missing(info) {
        None => Ok(()),
        Some(option) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the server that holds the stream leaves this option out: it is older than needed; \
                 connected to {version}"
            ),
        )
        .with("option", option)),
    }
}

/// Another stream has one of its subjects.
fn overlap(error: Error) -> Error {
    if !jetstream::has_code(&error, jetstream::SUBJECTS_OVERLAP) {
        return error;
    }
    let stream = error.context("stream").unwrap_or_default().to_owned();
    Error::new(ErrorKind::Conflict, error.message().to_owned()).with("stream", stream)
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
    let message = StreamMessage::try_from(raw).map_err(|error| {
        let unreadable = Error::new(ErrorKind::Decode, "the stored message cannot be read");
        about(unreadable, stream).with("sequence", sequence.to_string()).with_source(error)
    })?;
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
