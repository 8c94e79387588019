//! One part of the suite at work: subjects of its own, deadlines, and panics that name the step.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::poll_fn;
use tokio::time::Instant;

use crate::error::Result;
use crate::pubsub::driver::{Driver, InboundMessage, OutboundMessage, Source};

/// Long enough for a busy machine: only a failure waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Probe {
    pub(super) driver: Arc<dyn Driver>,
    part: &'static str,
    base: String,
}

impl Probe {
    pub(super) fn new(driver: &Arc<dyn Driver>, part: &'static str) -> Self {
        let base = format!("conformance.{part}.{:016x}", rand::random::<u64>());
        Probe { driver: Arc::clone(driver), part, base }
    }

    /// A subject of this run.
    pub(super) fn subject(&self, tail: &str) -> Subject {
        Subject::from(format!("{}.{tail}", self.base))
    }

    pub(super) fn message(&self, tail: &str, payload: impl Into<Bytes>) -> OutboundMessage {
        OutboundMessage {
            subject: self.subject(tail),
            reply: None,
            headers: None,
            payload: payload.into(),
        }
    }

    pub(super) fn with_headers(
        &self,
        tail: &str,
        payload: impl Into<Bytes>,
        headers: HeaderMap,
    ) -> OutboundMessage {
        OutboundMessage { headers: Some(headers), ..self.message(tail, payload) }
    }

    pub(super) fn deadline() -> Instant {
        Instant::now() + PATIENCE
    }

    pub(super) fn fail(&self, step: &str, what: impl Debug) -> ! {
        panic!("{} driver, {}: {step}: {what:?}", self.driver.name(), self.part)
    }

    pub(super) fn check(&self, step: &str, holds: bool, found: impl Debug) {
        if !holds {
            self.fail(step, found);
        }
    }

    /// The result of a driver's call; it must end a little after the deadline that it was given.
    pub(super) async fn within<T>(&self, step: &str, call: impl Future<Output = T>) -> T {
        match tokio::time::timeout(PATIENCE * 2, call).await {
            Ok(value) => value,
            Err(_) => self.fail(step, "did not end by its deadline"),
        }
    }

    pub(super) async fn ok<T>(&self, step: &str, call: impl Future<Output = Result<T>>) -> T {
        match self.within(step, call).await {
            Ok(value) => value,
            Err(error) => self.fail(step, error),
        }
    }

    pub(super) async fn send(&self, message: OutboundMessage) {
        self.ok("publish", self.driver.publish(message, Self::deadline())).await;
    }

    pub(super) async fn publish(&self, tail: &str, payload: impl Into<Bytes>) {
        self.send(self.message(tail, payload)).await;
    }

    pub(super) async fn flush(&self) {
        self.ok("flush", self.driver.flush(Self::deadline())).await;
    }

    pub(super) async fn subscribe(&self, tail: &str, queue: Option<&str>) -> Inbox {
        let queue = queue.map(str::to_owned);
        let call = self.driver.subscribe(self.subject(tail), queue, Self::deadline());
        Inbox { source: self.ok("subscribe", call).await, probe: self.clone() }
    }

    pub(super) async fn request(
        &self,
        message: OutboundMessage,
        patience: Duration,
    ) -> Result<InboundMessage> {
        let call = self.driver.request(message, Instant::now() + patience);
        self.within("request", call).await
    }
}

/// A subscription under test.
pub(super) struct Inbox {
    pub(super) source: Box<dyn Source>,
    probe: Probe,
}

impl Inbox {
    /// The next message, or the end.
    pub(super) async fn next(&mut self, step: &str) -> Option<InboundMessage> {
        self.probe.within(step, poll_fn(|cx| self.source.poll_next(cx))).await
    }

    pub(super) async fn message(&mut self, step: &str) -> InboundMessage {
        match self.next(step).await {
            Some(message) => message,
            None => self.probe.fail(step, "the source ended"),
        }
    }

    pub(super) async fn drain(&mut self) {
        self.probe.ok("drain", self.source.drain(Probe::deadline())).await;
    }

    /// All that comes until the source ends.
    pub(super) async fn rest(&mut self) -> Vec<InboundMessage> {
        let mut messages = Vec::new();
        while let Some(message) = self.next("read what is left after a drain").await {
            messages.push(message);
        }
        let again = self.next("read again after the end").await;
        self.probe.check("the end is final", again.is_none(), again);
        messages
    }

    /// All that was published to this subscription, no more and no less: ends it by a drain.
    pub(super) async fn all(mut self) -> Vec<String> {
        self.probe.flush().await;
        self.drain().await;
        self.rest().await.iter().map(text).collect()
    }
}

pub(super) fn text(message: &InboundMessage) -> String {
    String::from_utf8_lossy(&message.payload).into_owned()
}
