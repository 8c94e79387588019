//! All messages together, or none.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::report::{PublishReport, Way};
use super::{Options, Outgoing};
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::PubSub;
use crate::pubsub::driver::{Acked, OutboundMessage, Streams};
use crate::pubsub::nats::config::require_atomic_publish;
use crate::pubsub::publish_acked::no_stream;
use crate::pubsub::subject;

/// The most messages of one batch.
const MOST: usize = 1_000;

pub(super) async fn publish<S>(
    handle: &PubSub,
    source: S,
    mut options: Options,
    timeout: Option<Duration>,
) -> Result<PublishReport>
where
    S: Stream + Send,
    S::Item: Into<Outgoing>,
{
    let begun = Instant::now();
    let core = handle.core();
    let deadline = after(timeout.unwrap_or(core.timeout));
    let Some(streams) = core.driver.streams() else {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the {} driver has no streams to publish all or nothing to",
                core.driver.name()
            ),
        ));
    };
    if let Some(nats) = &core.nats {
        require_atomic_publish(&*nats.link().capabilities(deadline).await?)?;
    }
    let messages = within(deadline, collect(handle, source, options.message_ids.take()))
        .await
        .map_err(|_| {
        Error::new(
            ErrorKind::Timeout,
            "the input did not end within the time limit; nothing was sent",
        )
    })??;
    let mut report = PublishReport::new(Way::Atomic);
    let count = messages.len() as u64;
    if count > 0 {
        let stream = one_stream(streams, &messages, deadline).await?;
        let ack = streams.publish_atomic(&stream, messages, deadline).await?;
        report.stored = count;
        for _ in 0..count {
            core.metrics.stored(&Ok(()));
        }
        if let Some(each) = &mut options.each {
            let stream: std::sync::Arc<str> = ack.stream.into();
            for index in 0..count {
                let sequence = (ack.sequence + index + 1).checked_sub(count);
                each(index, Ok(&Acked::new(stream.clone(), sequence, false)));
            }
        }
    }
    report.elapsed = begun.elapsed();
    if let Some((_, tell)) = &mut options.progress {
        tell(report.progress(report.elapsed));
    }
    Ok(report)
}

/// The checked messages.
async fn collect<S>(handle: &PubSub, source: S, ids: Option<String>) -> Result<Vec<OutboundMessage>>
where
    S: Stream + Send,
    S::Item: Into<Outgoing>,
{
    let mut source = pin!(source);
    let mut messages = Vec::new();
    while let Some(item) = source.next().await {
        let index = messages.len();
        if index == MOST {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "more than 1,000 messages, which is the most that can be published all or nothing; \
                 nothing was sent",
            ));
        }
        let Outgoing { mut draft, id, .. } = item.into();
        if let (Some(prefix), false) = (&ids, id) {
            draft.set("Nats-Msg-Id", &format!("{prefix}-{index}"));
        }
        let topic = draft.topic().to_owned();
        let told =
            |error: Error| error.with("index", index.to_string()).with("topic", topic.as_str());
        let (own, message, _) = draft.finish(None).map_err(told)?;
        if !std::sync::Arc::ptr_eq(&own.core().life, &handle.core().life) {
            return Err(told(super::run::foreign()));
        }
        messages.push(message);
    }
    Ok(messages)
}

/// The stream that stores all messages, which must be one that takes batches.
async fn one_stream(
    streams: &dyn Streams,
    messages: &[OutboundMessage],
    deadline: Instant,
) -> Result<String> {
    let Some(first) = messages.first() else { return Ok(String::new()) };
    let about = |error: Error, index: usize, message: &OutboundMessage| {
        error.with("index", index.to_string()).with("subject", message.subject.as_str())
    };
    let name = streams.stream_of(&first.subject, deadline).await?;
    let name = name.ok_or_else(|| about(no_stream(), 0, first))?;
    let Some(stream) = streams.stream(&name, deadline).await? else {
        return Err(about(no_stream(), 0, first));
    };
    if stream.config.atomic_publish != Some(true) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "this stream does not take messages all or nothing; switch it on by \
             StreamConfig::atomic_publish(true), which needs nats-server 2.12",
        )
        .with("stream", name));
    }
    let stores = |message: &OutboundMessage| {
        stream.config.subjects.iter().any(|it| subject::matches(it, &message.subject))
    };
    match messages.iter().enumerate().find(|(_, message)| !stores(message)) {
        None => Ok(name),
        Some((index, message)) => Err(about(
            Error::new(
                ErrorKind::InvalidInput,
                "this message does not belong to the stream of the first one; all messages that are \
                 published all or nothing must go to one stream",
            )
            .with("stream", name),
            index,
            message,
        )),
    }
}
