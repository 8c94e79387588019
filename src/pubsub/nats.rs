//! The NATS driver: core messaging and acknowledged publishing over one connection.

mod api;
mod batch;
pub(super) mod config;
mod consumer;
mod ingest;
pub(crate) mod many;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Ack;
use super::driver::{
    Capabilities, Driver, InboundMessage, OutboundMessage, Settlement, Source, Streams,
};
use crate::connector::State;
use crate::connector::capabilities::ApiError;
use crate::connector::leave::Control;
use crate::connector::link::{Link, closed, too_large};
use crate::connector::status::Denied;
use crate::deadline::{Deadline, after, within};
use crate::error::{Error, ErrorKind, Result};

/// Pub/sub on a NATS server.
#[derive(Debug, Clone)]
pub struct NatsDriver {
    link: Arc<Link>,
}

impl NatsDriver {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        NatsDriver { link }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Says what becomes of a delivery, without a boxed future.
    pub(crate) async fn settle_now(
        &self,
        receipt: &Subject,
        settlement: Settlement,
        deadline: impl Into<Deadline>,
    ) -> Result<()> {
        consumer::settle(&self.link, receipt, settlement, deadline).await
    }

    /// Requests without a boxed future.
    pub(crate) async fn ask(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> Result<InboundMessage> {
        let OutboundMessage { subject, payload, headers, .. } = message;
        let answer = self.link.request(subject, headers, payload, deadline).await?;
        Ok(inbound(answer))
    }
}

impl Driver for NatsDriver {
    fn name(&self) -> &str {
        "nats"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::core(self.link.client().max_payload()).with_acked_publish()
    }

    fn publish(&self, message: OutboundMessage, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        self.link.publish(message, deadline).boxed()
    }

    fn publish_acked(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Ack>> {
        async move {
            let answer = self.ask(message, deadline).await?;
            let answer: AckAnswer = serde_json::from_slice(&answer.payload).map_err(|error| {
                Error::new(
                    ErrorKind::Other,
                    "the answer is no acknowledgement: a plain subscriber of the subject answered \
                     instead of a stream",
                )
                .with_source(error)
            })?;
            match answer {
                AckAnswer { error: Some(error), .. } => Err(refused(&error)),
                AckAnswer { stream: Some(stream), seq, duplicate, .. } => {
                    Ok(Ack::new(stream, seq, duplicate))
                }
                _ => Err(Error::new(ErrorKind::Other, "the acknowledgement names no stream")),
            }
        }
        .boxed()
    }

    fn request(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<InboundMessage>> {
        self.ask(message, deadline).boxed()
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Source>>> {
        async move {
            // Before the first connect the client keeps it and makes it then; a refusal ends it.
            let connecting = self.link.state() == State::Connecting;
            if !connecting {
                self.link.ready(deadline).await?;
            }
            if self.link.status().is_draining() {
                return Err(closed());
            }
            let refusal = Denied::subscription(&subject, queue.as_deref());
            let refused = |denied: &Denied| *denied == refusal;
            self.link.status().take_denied(refused);
            let subscriber = join(&self.link, subject.clone(), queue.clone(), deadline).await?;
            // Known before it is asked about, so that a refusal that comes late ends it.
            let source = NatsSource {
                link: self.link.clone(),
                control: self.link.sources().add(vec![refusal.clone()]),
                subject,
                queue,
                phase: Phase::Live(subscriber),
                buffered: VecDeque::new(),
                taken: 0,
                moves: None,
            };
            if !connecting && let Some(denied) = self.link.refusal(deadline, refused).await? {
                return Err(denied.error());
            }
            Ok(Box::new(source) as Box<dyn Source>)
        }
        .boxed()
    }

    fn flush(&self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        async move {
            match self.link.refusal(deadline, |denied| denied.publish).await? {
                Some(denied) => Err(denied.error()),
                None => Ok(()),
            }
        }
        .boxed()
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(self)
    }
}

/// A stream's answer to a published message.
#[derive(Debug, Deserialize)]
struct AckAnswer {
    stream: Option<String>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

const TTL_DISABLED: u64 = 10166;

/// A stream refused a message.
fn refused(error: &ApiError) -> Error {
    let kind = match error.err_code {
        // Wrong last sequence (per subject or of the stream), wrong last message id, expected
        // stream mismatch; and the same found late in a cluster.
        10060 | 10070 | 10071 | 10164 => ErrorKind::Conflict,
        10054 => ErrorKind::TooLarge,
        // Lifetimes and batches that the stream does not take.
        10165 | TTL_DISABLED | 10174 => ErrorKind::Unsupported,
        _ if error.code == 503 => ErrorKind::Unavailable,
        _ => ErrorKind::Other,
    };
    let remedy = match error.err_code {
        TTL_DISABLED => "; create the stream with .message_ttl(true), or update it",
        _ => "",
    };
    Error::new(kind, format!("the stream refused the message: {}{remedy}", error.description))
        .with("err_code", error.err_code.to_string())
}

async fn join(
    link: &Link,
    subject: Subject,
    queue: Option<String>,
    deadline: Instant,
) -> Result<Subscriber> {
    let subscribe = async {
        match queue {
            Some(queue) => link.client().queue_subscribe(subject, queue).await,
            None => link.client().subscribe(subject).await,
        }
    };
    match within(deadline, subscribe).await {
        Ok(Ok(subscriber)) => Ok(subscriber),
        Ok(Err(error)) if link.status().is_closed() => Err(closed().with_source(error)),
        Ok(Err(error)) => Err(Error::new(ErrorKind::InvalidInput, error.to_string())),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the connection takes no more")),
    }
}

fn inbound(message: Message) -> InboundMessage {
    let Message { subject, reply, payload, mut headers, status, .. } = message;
    if let Some(status) = status {
        headers.get_or_insert_default().insert("Status", u16::from(status).to_string());
    }
    InboundMessage { subject, reply, headers, payload }
}

/// One subscription, which moves with the connection when its server asks it to leave.
struct NatsSource {
    link: Arc<Link>,
    subject: Subject,
    queue: Option<String>,
    control: Arc<Control>,
    phase: Phase,
    /// Messages taken off the subscriber while leaving.
    buffered: VecDeque<Message>,
    /// Messages taken off the subscriber since it was made.
    taken: u64,
    /// Tells when the move that this source left for is done.
    moves: Option<watch::Receiver<u64>>,
}

/// After this long a subscription is made again even where the move is not known to be done.
const MOVE_AT_MOST: Duration = Duration::from_secs(20);

enum Phase {
    /// Subscribed.
    Live(Subscriber),
    /// Leaving a server that shuts down.
    Leaving(BoxFuture<'static, (Subscriber, VecDeque<Message>)>),
    /// Left, to come back: what is left is read first.
    Away(Subscriber),
    /// Subscribing again at another server.
    Joining(BoxFuture<'static, Result<Subscriber>>),
    /// Left for good: what is left is read.
    Rest(Subscriber),
    /// Nothing more will come.
    Ended,
}

impl NatsSource {
    /// Leaves the server that shuts down, on its own.
    fn start_leaving(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Live(mut subscriber) => {
                let (link, control, taken) = (self.link.clone(), self.control.clone(), self.taken);
                self.moves = Some(link.sources().moves());
                let leaving = async move {
                    let mut buffered = VecDeque::new();
                    let deadline = after(Duration::from_secs(5));
                    if let Err(error) =
                        link.leave(&mut subscriber, taken, &mut buffered, deadline).await
                    {
                        tracing::warn!(%error, "messages may be lost while changing servers");
                    }
                    control.moving.store(false, Ordering::Release);
                    (subscriber, buffered)
                };
                self.phase = Phase::Leaving(leaving.boxed());
            }
            other => self.phase = other,
        }
    }

    /// Subscribes again as soon as the connection has moved.
    fn start_joining(&mut self) {
        let (link, subject, queue) = (self.link.clone(), self.subject.clone(), self.queue.clone());
        let moves = self.moves.take();
        let joining = async move {
            if let Some(mut moves) = moves {
                let _ = within(MOVE_AT_MOST, moves.changed()).await;
            }
            loop {
                match join(&link, subject.clone(), queue.clone(), after(Duration::from_secs(5)))
                    .await
                {
                    Err(error) if !error.is_closed() => {
                        tracing::warn!(%error, %subject, "cannot subscribe again, trying on");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => return other,
                }
            }
        };
        self.phase = Phase::Joining(joining.boxed());
    }

    fn refuse(&mut self) {
        let error = self.control.take_refusal(self.link.status());
        tracing::error!(%error, "a subscription has ended");
        self.phase = Phase::Ended;
    }
}

impl Source for NatsSource {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<InboundMessage>> {
        loop {
            if let Some(message) = self.buffered.pop_front() {
                return Poll::Ready(Some(inbound(message)));
            }
            if self.control.moving.load(Ordering::Acquire) {
                self.start_leaving();
            }
            if self.control.refused.load(Ordering::Acquire) {
                self.control.refused.store(false, Ordering::Release);
                self.refuse();
            }
            match &mut self.phase {
                Phase::Live(subscriber) => {
                    if let Poll::Ready(next) = subscriber.poll_next_unpin(cx) {
                        self.taken += 1;
                        if next.is_none() {
                            self.phase = Phase::Ended;
                        }
                        return Poll::Ready(next.map(inbound));
                    }
                    self.control.waker.register(cx.waker());
                    let called = self.control.moving.load(Ordering::Acquire)
                        || self.control.refused.load(Ordering::Acquire);
                    if !called {
                        return Poll::Pending;
                    }
                }
                Phase::Leaving(leaving) => match leaving.poll_unpin(cx) {
                    Poll::Ready((subscriber, buffered)) => {
                        self.buffered = buffered;
                        self.phase = Phase::Away(subscriber);
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Away(subscriber) => match subscriber.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => return Poll::Ready(Some(inbound(message))),
                    Poll::Ready(None) => self.start_joining(),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Joining(joining) => match joining.poll_unpin(cx) {
                    Poll::Ready(Ok(subscriber)) => {
                        self.taken = 0;
                        self.phase = Phase::Live(subscriber);
                    }
                    Poll::Ready(Err(_)) => self.phase = Phase::Ended,
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Rest(subscriber) => match subscriber.poll_next_unpin(cx) {
                    Poll::Ready(Some(message)) => return Poll::Ready(Some(inbound(message))),
                    Poll::Ready(None) => self.phase = Phase::Ended,
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Ended => return Poll::Ready(None),
            }
        }
    }

    fn drain(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>> {
        async move {
            if let Phase::Leaving(leaving) = &mut self.phase {
                let (subscriber, buffered) = leaving.await;
                self.buffered = buffered;
                self.phase = Phase::Away(subscriber);
            }
            let mut left = Ok(());
            if let Phase::Live(subscriber) = &mut self.phase {
                left = self.link.leave(subscriber, self.taken, &mut self.buffered, deadline).await;
            }
            self.phase = match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Live(subscriber) | Phase::Away(subscriber) => Phase::Rest(subscriber),
                Phase::Rest(subscriber) => Phase::Rest(subscriber),
                Phase::Leaving(_) | Phase::Joining(_) | Phase::Ended => Phase::Ended,
            };
            left
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        async move {
            self.buffered.clear();
            if let Phase::Live(mut subscriber) = std::mem::replace(&mut self.phase, Phase::Ended) {
                let deadline = after(self.link.settings().request_timeout());
                let _ = within(deadline, subscriber.unsubscribe()).await;
            }
        }
        .boxed()
    }
}

impl Drop for NatsSource {
    fn drop(&mut self) {
        self.link.sources().remove(&self.control);
    }
}

/// For payloads above the limit, before anything is sent.
pub(crate) fn check_size(limit: usize, size: usize) -> Result<()> {
    if size > limit {
        return Err(too_large(limit).with("size", size.to_string()));
    }
    Ok(())
}
