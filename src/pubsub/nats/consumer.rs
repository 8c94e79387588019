//! Durable consumers by the JetStream API, in raw JSON.

mod config;
mod feed;
mod known;
mod member;

use std::sync::Arc;

use async_nats::Subject;
use async_nats::message::OutboundMessage;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use crate::connector::Link;
use crate::connector::link::PATIENCE;
use crate::deadline::{Deadline, after};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::pubsub::driver::{ConsumerConfig, Consuming, Settlement};

/// The names of a stream's consumers.
pub(super) async fn names(link: &Link, stream: &str, deadline: Instant) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        total: usize,
        consumers: Option<Vec<String>>,
    }
    let mut names = Vec::new();
    loop {
        let request = jetstream::body(&json!({ "offset": names.len() }));
        let page: Page =
            jetstream::ask(link, &format!("CONSUMER.NAMES.{stream}"), request, deadline).await?;
        let found = page.consumers.unwrap_or_default();
        let last = found.is_empty();
        names.extend(found);
        if last || names.len() >= page.total {
            names.sort_unstable();
            names.dedup();
            break;
        }
    }
    // A cluster lists no consumers of a stream that is not there.
    if names.is_empty() && jetstream::info(link, stream, deadline).await?.is_none() {
        return Err(Error::new(ErrorKind::NotFound, "there is no such stream"));
    }
    Ok(names)
}

/// Deletes a consumer; whether there was one. It is asked again when no answer comes.
pub(super) async fn delete(
    link: &Link,
    stream: &str,
    name: &str,
    deadline: Instant,
) -> Result<bool> {
    #[derive(Deserialize)]
    struct Deleted {
        success: bool,
    }
    let subject = format!("CONSUMER.DELETE.{stream}.{name}");
    let mut patience = PATIENCE;
    let mut asked_before = false;
    loop {
        let turn = deadline.min(after(patience));
        match jetstream::call(link, &subject, Bytes::new(), turn).await {
            Ok(Deleted { success }) => return Ok(success),
            // The call before this one may have done it, only its answer did not come.
            Err(error) if config::is_missing(&error) => return Ok(asked_before),
            Err(error) if error.is_timeout() && turn < deadline && turn <= Instant::now() => {
                asked_before = true;
                patience *= 2;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Joins a consumer, which is made if there is none.
pub(super) async fn consume(
    link: &Arc<Link>,
    config: &ConsumerConfig,
    overwrite: bool,
    deadline: Instant,
) -> Result<Consuming> {
    member::join(link, config, overwrite, deadline).await
}

/// Says what becomes of a delivery. While disconnected it waits for the connection: what is said too
/// late is said in vain.
pub(crate) async fn settle(
    link: &Link,
    receipt: &Subject,
    settlement: Settlement,
    deadline: impl Into<Deadline>,
) -> Result<()> {
    let deadline = deadline.into();
    let payload = match settlement {
        Settlement::Done => Bytes::from_static(b"+ACK"),
        Settlement::Working => Bytes::from_static(b"+WPI"),
        Settlement::Again(delay) if delay.is_zero() => Bytes::from_static(b"-NAK"),
        Settlement::Again(delay) => {
            format!("-NAK {{\"delay\": {}}}", jetstream::nanos(delay)).into()
        }
        Settlement::Never(reason) => term(link, &reason, deadline.instant()).await,
    };
    let message = OutboundMessage { subject: receipt.clone(), reply: None, payload, headers: None };
    if !link.is_open() {
        link.connected(deadline).await?;
    }
    link.publish(message, deadline).await
}

/// The first server that takes a reason; older ones take no notice of what has one.
const REASONS: (u64, u64, u64) = (2, 10, 4);

#[cold]
async fn term(link: &Link, reason: &str, deadline: Instant) -> Bytes {
    let capabilities = link.capabilities(deadline).await;
    match capabilities {
        Ok(server) if server.version() >= REASONS && !reason.is_empty() => {
            format!("+TERM {reason}").into()
        }
        _ => Bytes::from_static(b"+TERM"),
    }
}
