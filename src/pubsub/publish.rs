//! Publishing: the message as it is built up, and fire-and-forget sending without a boxed future.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::{Either, Ready, ready};

use super::PubSub;
use super::driver::OutboundMessage;
use super::headers::{checked, wire_size};
use super::nats::check_size;
use super::publish_acked::PublishAcked;
use super::subject::check_publish;
use crate::call::Call;
use crate::deadline::after;
use crate::error::Result;
use crate::serializer::CONTENT_TYPE;

/// A message being built. Its payload never prints.
pub(crate) struct Draft {
    pub(super) handle: PubSub,
    topic: Subject,
    payload: Bytes,
    headers: Option<HeaderMap>,
    ignore_prefix: bool,
    pub(super) timeout: Option<Duration>,
}

impl Draft {
    pub(super) fn new(handle: PubSub, topic: Subject, payload: Bytes) -> Self {
        Draft { handle, topic, payload, headers: None, ignore_prefix: false, timeout: None }
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
        &self.topic
    }

    fn pack(self) -> Result<Parcel> {
        let timeout = self.limit(None);
        let (handle, message) = self.message()?;
        Ok(Parcel { handle, message, timeout })
    }

    /// The message to send, checked.
    pub(super) fn message(self) -> Result<(PubSub, OutboundMessage)> {
        let Draft { handle, topic, payload, headers, ignore_prefix, .. } = self;
        let subject = handle.subject(topic, ignore_prefix);
        check_publish(&subject)?;
        let core = handle.core();
        let limit = match &core.nats {
            Some(nats) => nats.max_payload(),
            None => core.driver.capabilities().max_payload,
        };
        check_size(limit, payload.len() + headers.as_ref().map_or(0, wire_size))
            .map_err(|error| error.with("topic", subject.as_str()))?;
        Ok((handle, OutboundMessage { subject, reply: None, payload, headers }))
    }
}

/// How a [`Publish`] is sent; made by this crate only.
pub trait Delivery {
    /// The future of the sending.
    type Future: Future<Output = Result<()>> + Send;

    #[doc(hidden)]
    fn deliver(self, parcel: Parcel) -> Self::Future;
}

/// A checked message on its way; opaque.
#[doc(hidden)]
#[derive(Debug)]
pub struct Parcel {
    handle: PubSub,
    message: OutboundMessage,
    timeout: Duration,
}

impl<F, Fut> Delivery for F
where
    F: FnOnce(Parcel) -> Fut,
    Fut: Future<Output = Result<()>> + Send,
{
    type Future = Fut;

    fn deliver(self, parcel: Parcel) -> Fut {
        self(parcel)
    }
}

/// A message to publish: options are chained, `.await` sends it. No future is boxed.
#[must_use = "a message is published only when this is awaited"]
pub struct Publish<D> {
    draft: Result<Draft>,
    delivery: D,
}

/// The future's type has no name, so the closure that makes it stands for it.
pub(super) fn publish(draft: Result<Draft>) -> Publish<impl Delivery> {
    let delivery = |parcel: Parcel| async move {
        let core = parcel.handle.core();
        match &core.nats {
            Some(nats) => nats.publish(parcel.message, parcel.timeout).await,
            None => core.driver.publish(parcel.message, after(parcel.timeout)).await,
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
    type IntoFuture = Either<Ready<Result<()>>, D::Future>;

    fn into_future(self) -> Self::IntoFuture {
        match self.draft.and_then(Draft::pack) {
            Ok(parcel) => Either::Right(self.delivery.deliver(parcel)),
            Err(error) => Either::Left(ready(Err(error.operation("publish")))),
        }
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
            .field("topic", &self.topic)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}
