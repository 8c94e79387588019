//! One dead letter.

use std::fmt;
use std::time::SystemTime;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::record::Record;
use crate::error::Result;
use crate::pubsub::PubSub;
use crate::pubsub::driver::Stored;
use crate::serializer::CONTENT_TYPE;

/// A message that a durable subscription has given up, as its dead-letter stream keeps it. Its
/// payload, headers and message id never print in `Debug`.
#[derive(Clone)]
pub struct DeadLetter {
    handle: PubSub,
    sequence: u64,
    time: SystemTime,
    record: Record,
    headers: HeaderMap,
    payload: Bytes,
}

impl DeadLetter {
    /// What a dead-letter stream has, if it was written as a dead letter.
    pub(super) fn read(handle: &PubSub, stored: Stored) -> Option<Self> {
        let Stored { message, sequence, stored: time } = stored;
        let (record, headers) = Record::read(message.headers.as_ref()?)?;
        let payload = message.payload;
        Some(DeadLetter { handle: handle.clone(), sequence, time, record, headers, payload })
    }

    /// Its sequence in the dead-letter stream: what [`DeadLetters`](super::DeadLetters) knows it by.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The topic that the message was published to, without the prefix of the handle.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.record.subject.strip_prefix(self.handle.prefix()).unwrap_or(&self.record.subject)
    }

    /// The full subject that the message was published to.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.record.subject
    }

    /// The stream that the message came from.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.record.stream
    }

    /// The message's sequence in that stream.
    #[must_use]
    pub fn stream_sequence(&self) -> u64 {
        self.record.sequence
    }

    /// The durable consumer that gave it up.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.record.consumer
    }

    /// Why: the handler's last error, or the reason that it rejected the message for.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.record.cause
    }

    /// How often the message was delivered to the handler.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.record.deliveries
    }

    /// When it became a dead letter, by the server's clock.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// When the message was published, by the server's clock.
    #[must_use]
    pub fn published(&self) -> Option<SystemTime> {
        self.record.published
    }

    /// The message id that the message was published with.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.record.message_id.as_deref()
    }

    /// The headers that the message was published with, but for those that servers read
    /// (`Nats-...`).
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of such a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(async_nats::HeaderValue::as_str)
    }

    /// The message's payload.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The payload as a value, by the serializer that its `Content-Type` header names; without the
    /// header by the handle's.
    ///
    /// # Errors
    /// `Decode` naming the topic.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.handle
            .serializer()
            .for_content_type(self.header(CONTENT_TYPE))
            .and_then(|serializer| serializer.decode(&self.payload))
            .map_err(|error| error.operation("decode").with("topic", self.subject().as_str()))
    }

    /// The stream `dead` will know the replayed message by this id. Its time is in it, as a stream
    /// made anew counts from 1 again; its destination, as it may go to several.
    pub(super) fn replay_id(&self, dead: &str, to: &str) -> String {
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("replay:{dead}:{}:{}:{to}", self.sequence, since.as_nanos())
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("sequence", &self.sequence)
            .field("time", &self.time)
            .field("record", &self.record)
            .field("payload", &format_args!("{} bytes", self.payload.len()))
            .finish_non_exhaustive()
    }
}
