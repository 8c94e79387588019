//! A received message.

use std::fmt;
use std::sync::Arc;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::PubSub;
use super::driver::InboundMessage;
use super::durable::{Delivered, DeliveryInfo};
use super::publish::{Delivery, Draft, Publish, publish};
use crate::error::{Error, ErrorKind, Result};
use crate::serializer::CONTENT_TYPE;

/// A received message. Its payload is shared, not copied; it never prints in `Debug`.
#[derive(Clone)]
pub struct Message {
    raw: Raw,
    handle: PubSub,
}

#[derive(Clone)]
enum Raw {
    Core(InboundMessage),
    Durable(Arc<Delivered>),
}

impl Message {
    pub(super) fn new(raw: InboundMessage, handle: PubSub) -> Self {
        Message { raw: Raw::Core(raw), handle }
    }

    /// A message of a durable subscription.
    pub(super) fn delivered(delivered: Arc<Delivered>, handle: PubSub) -> Self {
        Message { raw: Raw::Durable(delivered), handle }
    }

    /// The message as it was received; of a durable subscription a copy.
    pub(crate) fn into_inbound(self) -> InboundMessage {
        match self.raw {
            Raw::Core(raw) => raw,
            Raw::Durable(delivered) => delivered.message.clone(),
        }
    }

    #[inline]
    fn raw(&self) -> &InboundMessage {
        match &self.raw {
            Raw::Core(raw) => raw,
            Raw::Durable(delivered) => &delivered.message,
        }
    }

    /// The topic, without the prefix of the handle that received it, so that it can be published
    /// to again.
    #[must_use]
    pub fn topic(&self) -> &str {
        let subject = self.subject();
        subject.strip_prefix(self.handle.prefix()).unwrap_or(subject)
    }

    /// The full subject.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.raw().subject
    }

    /// The payload as it came.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.raw().payload
    }

    /// The headers, if there are any.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.raw().headers.as_ref()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// How a durable subscription got the message; `None` in any other subscription.
    #[must_use]
    pub fn delivery(&self) -> Option<&DeliveryInfo> {
        match &self.raw {
            Raw::Core(_) => None,
            Raw::Durable(delivered) => Some(&delivered.info),
        }
    }

    /// The full subject that an answer goes to, if the sender waits for one; never in a durable
    /// subscription.
    #[must_use]
    pub fn reply(&self) -> Option<&Subject> {
        self.raw().reply.as_ref()
    }

    /// The handle that received the message: prefix, serializer and driver.
    #[must_use]
    pub fn pubsub(&self) -> &PubSub {
        &self.handle
    }

    /// The payload as a value, by the serializer that its `Content-Type` header names; without the
    /// header by the handle's.
    ///
    /// A durable subscription remembers the failure: when its handler then fails too, whatever its
    /// error says, the message is rejected and not delivered again, which would not help.
    ///
    /// # Errors
    /// `Decode` naming the topic.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.handle
            .serializer()
            .for_content_type(self.header(CONTENT_TYPE))
            .and_then(|serializer| serializer.decode(&self.raw().payload))
            .map_err(|error| {
                if let Raw::Durable(delivered) = &self.raw {
                    delivered.set_undecodable(true);
                }
                error.operation("decode").with("topic", self.raw().subject.as_str())
            })
    }

    /// A durable subscription's message that could not be decoded.
    pub(crate) fn is_undecodable(&self) -> bool {
        matches!(&self.raw, Raw::Durable(delivered) if delivered.is_undecodable())
    }

    /// Answers the sender: a publish to the reply subject, without prefix.
    ///
    /// # Errors
    /// `InvalidInput` when the sender waits for no answer; else as
    /// [`publish`](PubSub::publish).
    pub fn respond<T: Serialize + ?Sized>(&self, value: &T) -> Publish<impl Delivery + use<T>> {
        let (handle, reply) = self.answer();
        publish(Draft::of(handle, reply, value).without_prefix())
    }

    /// Answers the sender with bytes as they are.
    ///
    /// # Errors
    /// As [`respond`](Self::respond).
    pub fn respond_bytes<B: Into<Bytes>>(&self, payload: B) -> Publish<impl Delivery + use<B>> {
        let (handle, reply) = self.answer();
        publish(Draft::new(handle, reply, |_| Ok(payload.into())).without_prefix())
    }

    /// The handle to answer by, and where to.
    fn answer(&self) -> (Result<PubSub>, Subject) {
        if let Some(reply) = &self.raw().reply {
            return (Ok(self.handle.clone()), reply.clone());
        }
        let error = Error::new(
            ErrorKind::InvalidInput,
            "the message has no reply subject: it was published, not requested",
        );
        let error = error.operation("respond").with("topic", self.raw().subject.as_str());
        (Err(error), Subject::from_static(""))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("subject", &self.raw().subject)
            .field("reply", &self.raw().reply)
            .field("payload", &format_args!("{} bytes", self.raw().payload.len()))
            .finish_non_exhaustive()
    }
}
