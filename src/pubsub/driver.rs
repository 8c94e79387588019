//! What a pub/sub back end implements: raw bytes in and out, errors, capabilities, sources that
//! can be drained. Prefix, serializer, retries and handlers are the portable type's.

use std::any::Any;
use std::fmt;
use std::task::{Context, Poll};

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

pub use async_nats::message::OutboundMessage;

mod pipeline;
mod streams;

pub use pipeline::{Acked, Answer, Fate, Pipeline, PipelineConfig};
pub use streams::{
    ConsumerConfig, Consuming, Deliveries, Delivery, DeliveryEvents, Settlement, Start, Stored,
    Streams,
};

use super::Ack;
use crate::error::Result;

/// What a driver can do. What is not claimed is refused as
/// [`Unsupported`](crate::ErrorKind::Unsupported) before anything is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Acknowledged publishing: [`Driver::publish_acked`].
    pub acked_publish: bool,
    /// The largest payload with its headers, in bytes.
    pub max_payload: usize,
}

impl Capabilities {
    /// Core messaging only, payloads up to `max_payload` bytes.
    #[must_use]
    pub const fn core(max_payload: usize) -> Self {
        Capabilities { acked_publish: false, max_payload }
    }

    /// Also acknowledges what it stored.
    #[must_use]
    pub const fn with_acked_publish(mut self) -> Self {
        self.acked_publish = true;
        self
    }
}

/// A message as a driver receives it, subject in full. Its payload and headers never print in
/// `Debug`.
#[derive(Clone)]
pub struct InboundMessage {
    /// The full subject that it was published to.
    pub subject: Subject,
    /// Where an answer is expected.
    pub reply: Option<Subject>,
    /// The headers, if there are any.
    pub headers: Option<HeaderMap>,
    /// The payload.
    pub payload: Bytes,
}

impl fmt::Debug for InboundMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundMessage")
            .field("subject", &self.subject)
            .field("reply", &self.reply)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}

/// A pub/sub back end.
///
/// Every method that waits ends by its `deadline`: with
/// [`Timeout`](crate::ErrorKind::Timeout) when the back end was reached and did not answer, with
/// [`Unavailable`](crate::ErrorKind::Unavailable) when it could not be reached. Subjects are full
/// and checked by the portable type: a subject to publish to has no wildcard, no empty token, no
/// white space.
///
/// No method has a default: a wrapper that forgets one does not compile.
pub trait Driver: Any + fmt::Debug + Send + Sync {
    /// The driver's name, as in [`add_driver`](super::add_driver): `nats`, `memory` ...
    fn name(&self) -> &str;

    /// What this driver can do now.
    fn capabilities(&self) -> Capabilities;

    /// Sends a message; done when it is accepted for sending, not when somebody has it.
    ///
    /// Nobody receives a message with a reply subject: an empty message with the header
    /// `Status: 503` comes there, where the back end can tell.
    fn publish(&self, message: OutboundMessage, deadline: Instant) -> BoxFuture<'_, Result<()>>;

    /// Sends a message and waits until a stream has stored it. One try: the portable type retries.
    ///
    /// Requires [`Capabilities::acked_publish`]. No stream for the subject: an error with
    /// [`is_no_responders`](crate::Error::is_no_responders).
    fn publish_acked(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Ack>>;

    /// Sends a message and waits for the first answer. The driver sets the reply subject.
    ///
    /// Nobody subscribes: an error with [`is_no_responders`](crate::Error::is_no_responders), at
    /// once, where the back end can tell.
    fn request(
        &self,
        message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<InboundMessage>>;

    /// Subscribes; done when the back end has the subscription. In a queue group each message goes
    /// to one member. Wildcards are NATS': `*` one token, `>` the rest.
    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Source>>>;

    /// A round trip: when it is done, the back end has all that was published before.
    fn flush(&self, deadline: Instant) -> BoxFuture<'_, Result<()>>;

    /// The back end's streams and durable consumers, if it has such.
    fn streams(&self) -> Option<&dyn Streams>;
}

/// The receiving end of one subscription. Dropping it unsubscribes.
pub trait Source: Send + 'static {
    /// The next message; `None` when the subscription ended.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<InboundMessage>>;

    /// Stops new messages without losing those under way: when it is done, `poll_next` gives what
    /// is left and then `None`. An error says that messages may have been lost. Called once; may
    /// run while a handler is busy.
    fn drain(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>>;

    /// Ends the subscription at once; what is buffered is lost.
    fn close(&mut self) -> BoxFuture<'_, ()>;
}
