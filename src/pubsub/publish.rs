//! Publishing: the message as it is built up, and fire-and-forget sending without a boxed future.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use serde::Serialize;

use super::PubSub;
use super::driver::OutboundMessage;
use super::headers::{checked, wire_size};
use super::nats::check_size;
use super::publish_acked::PublishAcked;
use super::subject::check_publish;
use crate::call::Call;
use crate::deadline::{after, poll_once};
use crate::error::{Error, Result};
use crate::registry::not_registered;
use crate::serializer::CONTENT_TYPE;

/// A message being built: its subject is the topic until it is checked. Its payload never prints.
///
/// What is wrong is kept until the call is awaited. It is built where it stays, and what it seldom
/// has is boxed: every move of it costs about as much as a lock.
#[doc(hidden)]
pub struct Draft {
    /// Bound to a driver; there is none only with a fault.
    handle: Option<PubSub>,
    subject: Subject,
    payload: Bytes,
    headers: Option<Box<HeaderMap>>,
    fault: Option<Error>,
    ignore_prefix: bool,
    timeout: Option<Duration>,
}

impl Draft {
    /// A message for the topic with the payload that `encode` gives, by the handle if there is one.
    #[inline]
    pub(super) fn new(
        handle: Result<PubSub>,
        topic: Subject,
        encode: impl FnOnce(&PubSub) -> Result<Bytes>,
    ) -> Self {
        let (handle, payload, fault) = match handle {
            Ok(handle) => match encode(&handle) {
                Ok(payload) => (Some(handle), payload, None),
                Err(error) => (Some(handle), Bytes::new(), Some(error)),
            },
            Err(error) => (None, Bytes::new(), Some(error)),
        };
        let (headers, ignore_prefix, timeout) = (None, false, None);
        Draft { handle, subject: topic, payload, headers, fault, ignore_prefix, timeout }
    }

    /// The same with a value that the handle's serializer encodes: another than the default is
    /// named in a header.
    #[inline]
    pub(super) fn of<T: Serialize + ?Sized>(
        handle: Result<PubSub>,
        topic: Subject,
        value: &T,
    ) -> Self {
        let mut draft = Draft::new(handle, topic, |handle| handle.serializer().encode(value));
        if let Some(handle) = &draft.handle
            && !handle.serializer().is_default()
        {
            let content_type = handle.serializer().content_type().to_owned();
            draft.set(CONTENT_TYPE, &content_type);
        }
        draft
    }

    /// A message that is refused when it is to be sent.
    pub(super) fn refused(fault: Error) -> Self {
        Draft::new(Err(fault), Subject::from_static(""), |_| Ok(Bytes::new()))
    }

    pub(super) fn has_header(&self, name: &str) -> bool {
        self.headers.as_deref().is_some_and(|headers| headers.get(name).is_some())
    }

    /// How much of the full subject will be the handle's prefix.
    pub(super) fn prefix_len(&self) -> usize {
        match &self.handle {
            Some(handle) if !self.ignore_prefix => handle.prefix().len(),
            _ => 0,
        }
    }

    /// Notes the first thing that is wrong.
    pub(super) fn refuse(&mut self, error: Error) {
        self.fault.get_or_insert(error);
    }

    /// Adds a header.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        match checked(name, value) {
            Ok((name, value)) => self.headers.get_or_insert_default().append(name, value),
            Err(error) => self.refuse(error),
        }
    }

    /// Sets a header.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match checked(name, value) {
            Ok((name, value)) => self.headers.get_or_insert_default().insert(name, value),
            Err(error) => self.refuse(error),
        }
    }

    /// Adds headers that were checked when they were made.
    pub(super) fn add_all(&mut self, headers: &HeaderMap) {
        let own = self.headers.get_or_insert_default();
        for (name, values) in headers.iter() {
            for value in values {
                own.append(name.clone(), value.clone());
            }
        }
    }

    /// The same with these headers and no others.
    pub(super) fn with_headers(mut self, headers: Option<HeaderMap>) -> Self {
        self.headers = headers.filter(|headers| !headers.is_empty()).map(Box::new);
        self
    }

    pub(super) fn without_prefix(mut self) -> Self {
        self.ignore_prefix();
        self
    }

    pub(super) fn ignore_prefix(&mut self) {
        self.ignore_prefix = true;
    }

    pub(super) fn topic(&self) -> &str {
        &self.subject
    }

    /// Puts the prefix before the topic and checks the message; gives its handle.
    #[inline]
    fn check(&mut self) -> Result<&PubSub> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let Some(handle) = &self.handle else { return Err(not_registered()) };
        if !self.ignore_prefix && !handle.prefix().is_empty() {
            self.subject = handle.subject(&self.subject);
        }
        check_publish(&self.subject)?;
        let core = handle.core();
        let limit = match &core.nats {
            Some(nats) => nats.link().client().max_payload(),
            None => core.driver.capabilities().max_payload,
        };
        let size = self.payload.len() + self.headers.as_deref().map_or(0, wire_size);
        check_size(limit, size).map_err(|error| error.with("topic", self.subject.as_str()))?;
        #[cfg(feature = "otel")]
        crate::otel::inject(&mut self.headers, limit - size);
        Ok(handle)
    }

    /// The checked message, its handle, and the time that the call may take.
    pub(super) fn finish(
        mut self,
        timeout: Option<Duration>,
    ) -> Result<(PubSub, OutboundMessage, Duration)> {
        self.take(timeout)
    }

    /// As [`finish`](Self::finish); a draft that is refused keeps its subject.
    pub(super) fn take(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<(PubSub, OutboundMessage, Duration)> {
        let handle = self.check()?.clone();
        let timeout = timeout.or(self.timeout).unwrap_or(handle.core().timeout);
        let subject = std::mem::replace(&mut self.subject, Subject::from_static(""));
        let payload = std::mem::take(&mut self.payload);
        let headers = self.headers.take().map(|headers| *headers);
        Ok((handle, OutboundMessage { subject, reply: None, payload, headers }, timeout))
    }
}

/// How a [`Publish`] is sent; made by this crate only.
pub trait Delivery {
    /// The future of the sending.
    type Future: Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn deliver(self, draft: Draft) -> Self::Future;
}

impl<F, Fut> Delivery for F
where
    F: FnOnce(Draft) -> Fut,
    Fut: Future<Output = Result<()>> + Send,
{
    type Future = Fut;

    fn deliver(self, draft: Draft) -> Fut {
        self(draft)
    }
}

/// A message to publish: options are chained, `.await` sends it. No future is boxed, so unlike the
/// other calls it is not a future itself: `join!` and `spawn` take `publish(..).into_future()`.
#[must_use = "a message is published only when this is awaited"]
pub struct Publish<D> {
    draft: Draft,
    delivery: D,
}

/// The future's type has no name, so the closure that makes it stands for it. The future is large:
/// it is made where it will be polled, and the message moves straight into the client's.
#[inline]
pub(super) fn publish(draft: Draft) -> Publish<impl Delivery> {
    let delivery = |mut draft: Draft| async move {
        draft.check().map_err(|error| error.operation("publish"))?;
        let Some(handle) = &draft.handle else { return Err(not_registered()) };
        let core = handle.core();
        let message = OutboundMessage {
            subject: draft.subject,
            reply: None,
            payload: draft.payload,
            headers: draft.headers.map(|headers| *headers),
        };
        let timeout = draft.timeout.unwrap_or(core.timeout);
        let published = match &core.nats {
            Some(nats) => {
                let link = nats.link();
                let mut publish = pin!(link.client().publish_message(message));
                let first = match link.is_open() {
                    true => poll_once(publish.as_mut()).await,
                    false => Poll::Pending,
                };
                match first {
                    Poll::Ready(sent) => sent.map_err(|error| link.publish_error(&error)),
                    Poll::Pending => link.send(publish, timeout).await,
                }
            }
            None => core.driver.publish(message, after(timeout)).await,
        };
        core.metrics.published(&published);
        published.map_err(|error| error.operation("publish"))
    };
    Publish { draft, delivery }
}

impl<D> Publish<D> {
    /// Adds a header; given again, a further value. A CR or LF in it is refused.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.draft.add(name, value);
        self
    }

    /// Adds headers.
    pub fn headers(mut self, headers: &HeaderMap) -> Self {
        self.draft.add_all(headers);
        self
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(mut self) -> Self {
        self.draft.ignore_prefix();
        self
    }

    /// Bounds the call. Default: `NATS.REQUEST_TIMEOUT` (10 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.draft.timeout = Some(timeout);
        self
    }

    /// Waits until a stream has stored the message: at least once.
    pub fn jetstream(self) -> Call<PublishAcked> {
        Call::new(PublishAcked::new(self.draft))
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }
}

impl<D: Delivery> IntoFuture for Publish<D> {
    type Output = Result<()>;
    type IntoFuture = D::Future;

    #[inline]
    fn into_future(self) -> D::Future {
        self.delivery.deliver(self.draft)
    }
}

impl<D> fmt::Debug for Publish<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("draft", &self.draft).finish_non_exhaustive()
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("topic", &self.subject)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}
