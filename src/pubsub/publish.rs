//! Publishing: the message as it is built up, and fire-and-forget sending without a boxed future.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use async_nats::client::traits::Publisher as _;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;

use super::PubSub;
use super::driver::OutboundMessage;
use super::headers::{checked, wire_size};
use super::nats::check_size;
use super::publish_acked::PublishAcked;
use super::subject::check_publish;
use crate::call::Call;
use crate::deadline::{after, poll_once};
use crate::error::Result;
use crate::serializer::CONTENT_TYPE;

/// A message being built: its subject is the topic until it is checked. Its payload never prints.
/// It is moved a few times, so what it seldom has is boxed.
#[doc(hidden)]
pub struct Draft {
    pub(super) handle: PubSub,
    subject: Subject,
    payload: Bytes,
    headers: Option<Box<HeaderMap>>,
    ignore_prefix: bool,
    pub(super) timeout: Option<Duration>,
}

impl Draft {
    pub(super) fn new(handle: PubSub, topic: Subject, payload: Bytes) -> Self {
        let (ignore_prefix, timeout) = (false, None);
        Draft { handle, subject: topic, payload, headers: None, ignore_prefix, timeout }
    }

    /// The payload was encoded by the handle's serializer: another than the default is named.
    pub(super) fn typed(mut self) -> Self {
        let serializer = self.handle.serializer();
        if !serializer.is_default() {
            let content_type = serializer.content_type().to_owned();
            self.headers.get_or_insert_default().insert(CONTENT_TYPE, content_type.as_str());
        }
        self
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let (name, value) = checked(name, value)?;
        self.headers.get_or_insert_default().append(name, value);
        Ok(self)
    }

    fn headers(mut self, headers: &HeaderMap) -> Self {
        let own = self.headers.get_or_insert_default();
        for (name, values) in headers.iter() {
            for value in values {
                own.append(name.clone(), value.clone());
            }
        }
        self
    }

    pub(super) fn without_prefix(mut self) -> Self {
        self.ignore_prefix = true;
        self
    }

    pub(super) fn set(&mut self, name: &'static str, value: &str) -> Result<()> {
        let (name, value) = checked(name, value)?;
        self.headers.get_or_insert_default().insert(name, value);
        Ok(())
    }

    pub(super) fn limit(&self, timeout: Option<Duration>) -> Duration {
        timeout.or(self.timeout).unwrap_or(self.handle.core().timeout)
    }

    pub(super) fn topic(&self) -> &str {
        &self.subject
    }

    /// Puts the prefix before the topic and checks the message.
    pub(super) fn check(&mut self) -> Result<()> {
        if !self.ignore_prefix && !self.handle.prefix().is_empty() {
            self.subject = self.handle.subject(&self.subject);
        }
        check_publish(&self.subject)?;
        let core = self.handle.core();
        let limit = match &core.nats {
            Some(nats) => nats.link().client().max_payload(),
            None => core.driver.capabilities().max_payload,
        };
        let headers = self.headers.as_deref().map_or(0, wire_size);
        check_size(limit, self.payload.len() + headers)
            .map_err(|error| error.with("topic", self.subject.as_str()))
    }

    /// The message to send, checked.
    pub(super) fn message(mut self) -> Result<(PubSub, OutboundMessage)> {
        self.check()?;
        let Draft { handle, subject, payload, headers, .. } = self;
        let headers = headers.map(|headers| *headers);
        Ok((handle, OutboundMessage { subject, reply: None, payload, headers }))
    }
}

/// How a [`Publish`] is sent; made by this crate only.
pub trait Delivery {
    /// The future of the sending.
    type Future: Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn deliver(self, draft: Result<Draft>) -> Self::Future;
}

impl<F, Fut> Delivery for F
where
    F: FnOnce(Result<Draft>) -> Fut,
    Fut: Future<Output = Result<()>> + Send,
{
    type Future = Fut;

    fn deliver(self, draft: Result<Draft>) -> Fut {
        self(draft)
    }
}

/// A message to publish: options are chained, `.await` sends it. No future is boxed.
#[must_use = "a message is published only when this is awaited"]
pub struct Publish<D> {
    draft: Result<Draft>,
    delivery: D,
}

/// The future's type has no name, so the closure that makes it stands for it. The future is large:
/// it is made where it will be polled, and the message moves straight into the client's.
pub(super) fn publish(draft: Result<Draft>) -> Publish<impl Delivery> {
    let delivery = |draft: Result<Draft>| async move {
        let mut draft = draft.map_err(|error| error.operation("publish"))?;
        draft.check().map_err(|error| error.operation("publish"))?;
        let Draft { handle, subject, payload, headers, timeout, .. } = draft;
        let headers = headers.map(|headers| *headers);
        let message = OutboundMessage { subject, reply: None, payload, headers };
        let core = handle.core();
        let timeout = timeout.unwrap_or(core.timeout);
        match &core.nats {
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
        }
        .map_err(|error| error.operation("publish"))
    };
    Publish { draft, delivery }
}

impl<D> Publish<D> {
    /// Adds a header; given again, a further value. A CR or LF in it is refused.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.draft = self.draft.and_then(|draft| draft.header(name, value));
        self
    }

    /// Adds headers.
    pub fn headers(mut self, headers: &HeaderMap) -> Self {
        self.draft = self.draft.map(|draft| draft.headers(headers));
        self
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(mut self) -> Self {
        self.draft = self.draft.map(Draft::without_prefix);
        self
    }

    /// Bounds the call. Default: `NATS.REQUEST_TIMEOUT` (10 s).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Ok(draft) = &mut self.draft {
            draft.timeout = Some(timeout);
        }
        self
    }

    /// Waits until a stream has stored the message: at least once.
    pub fn jetstream(self) -> Call<PublishAcked> {
        Call::new(PublishAcked::new(self.draft))
    }
}

impl<D: Delivery> IntoFuture for Publish<D> {
    type Output = Result<()>;
    type IntoFuture = D::Future;

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
