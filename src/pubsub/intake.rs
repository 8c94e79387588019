//! What calls stand on: subscriptions whose owner takes messages in at once and works on them in
//! tasks of its own, bytes to full subjects, and inboxes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::time::Instant;

use super::dispatch::{Running, Stop, Task, read};
use super::driver::{InboundMessage, OutboundMessage, Source};
use super::headers::wire_size;
use super::nats::check_size;
use super::publish::Draft;
use super::request::Request;
use super::subject::check_publish;
use super::subscription::Place;
use super::{Message, PubSub, Subscription};
use crate::deadline::after;
use crate::error::Result;

/// A subscription that was made and has no loop yet. Dropping it unsubscribes.
pub(crate) struct Intake {
    handle: PubSub,
    source: Option<Box<dyn Source>>,
    task: Arc<Task>,
}

impl Intake {
    /// Where the tasks of the subscription are spawned and its messages counted. Each message given
    /// to `take` of [`start`](Self::start) is to be counted once.
    pub(crate) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Starts the loop: each message goes to `take`, and nothing is read while that waits. After the
    /// last one `rest` runs; a drain waits for it.
    pub(crate) fn start<F, Fut>(
        mut self,
        take: F,
        rest: impl Future<Output = ()> + Send + 'static,
    ) -> Subscription
    where
        F: FnMut(InboundMessage) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (handle, task) = (self.handle.clone(), self.task.clone());
        if let Some(source) = self.source.take() {
            let running = Running { task: task.clone(), handle: handle.clone() };
            task.spawn(async move {
                read(source, &running.task, take).await;
                rest.await;
                drop(running);
            });
        }
        Subscription::running(handle, task)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        // Without a loop nothing else ends the record.
        if self.source.is_some() {
            drop(Running { task: self.task.clone(), handle: self.handle.clone() });
        }
    }
}

impl Subscription {
    /// Asks the subscription to end at once, without waiting for that.
    pub(crate) fn close(&self) {
        self.task().stop(Stop::Close, after(self.handle().core().timeout));
    }

    /// Asks the subscription to take what is under way and to end by the deadline.
    pub(crate) fn leave(&self, deadline: Instant) {
        self.task().stop(Stop::Drain, deadline);
    }

    /// Resolves when it has ended.
    pub(crate) async fn ended(&self) {
        self.task().ended().await;
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.task().has_ended()
    }
}

impl PubSub {
    /// The full subject of a topic on the handle that this one stands for now.
    pub(crate) fn full_subject(&self, topic: &str, ignore_prefix: bool) -> Result<Subject> {
        if ignore_prefix {
            return Ok(topic.into());
        }
        Ok(self.bind()?.subject(topic))
    }

    /// The limit of a call that has none of its own.
    pub(crate) fn default_timeout(&self) -> Result<Duration> {
        Ok(self.bind()?.core().timeout)
    }

    /// Subscribes to a full subject.
    pub(crate) async fn intake(
        &self,
        subject: Subject,
        queue: Option<String>,
        timeout: Option<Duration>,
    ) -> Result<Intake> {
        let mut place = Place::new(self.clone(), subject);
        place.queue = queue;
        place.ignore_prefix();
        let (handle, source, task) = place.open(timeout).await?;
        Ok(Intake { handle, source: Some(source), task })
    }

    /// Sends bytes to a full subject and waits for the first answer, without a boxed future.
    pub(crate) async fn ask(
        &self,
        subject: Subject,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Option<Duration>,
    ) -> Result<Message> {
        let draft = Draft::new(self.bind(), subject, |_| Ok(payload));
        Request::new(draft.without_prefix().with_headers(headers)).run(timeout).await
    }

    /// Publishes a message to its full subject as it is, with its reply subject.
    pub(crate) async fn send(
        &self,
        message: OutboundMessage,
        timeout: Option<Duration>,
    ) -> Result<()> {
        let handle = self.bind()?;
        check_publish(&message.subject)?;
        let core = handle.core();
        let limit = match &core.nats {
            Some(nats) => nats.link().client().max_payload(),
            None => core.driver.capabilities().max_payload,
        };
        let size = message.payload.len() + message.headers.as_ref().map_or(0, wire_size);
        let subject = message.subject.as_str();
        check_size(limit, size).map_err(|error| error.with("topic", subject))?;
        let timeout = timeout.unwrap_or(core.timeout);
        let sent = match &core.nats {
            Some(nats) => nats.link().publish(message, timeout).await,
            None => core.driver.publish(message, after(timeout)).await,
        };
        core.metrics.published(&sent);
        sent
    }

    /// A subject of its own for what answers to this process, to be subscribed to.
    pub(crate) fn inbox(&self) -> Result<Subject> {
        let handle = self.bind()?;
        Ok(match &handle.core().nats {
            Some(nats) => nats.link().client().new_inbox().into(),
            None => format!("_INBOX.{:032x}", rand::random::<u128>()).into(),
        })
    }
}
