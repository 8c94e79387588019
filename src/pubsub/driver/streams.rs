//! What a back end with streams implements beside [`Driver`](super::Driver): streams, what they
//! hold, and durable consumers.

use std::fmt;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use async_nats::Subject;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{InboundMessage, OutboundMessage, Pipeline, PipelineConfig};
use crate::difference::Difference;
use crate::error::Result;
use crate::pubsub::Ack;
use crate::streams::{StreamConfig, StreamStatus};

/// Which messages of its stream a new consumer begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Start {
    /// All that the stream has. The default.
    #[default]
    All,
    /// Those stored from now on.
    New,
    /// Those from this sequence of the stream on.
    Sequence(u64),
    /// Those stored at this time or later.
    Time(SystemTime),
}

/// A durable consumer as it is to be. All its members say the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerConfig {
    /// The stream that it reads.
    pub stream: String,
    /// Its name.
    pub name: String,
    /// The full subjects of the messages that it is for, with NATS' wildcards; at least one. Several
    /// must not overlap.
    pub filters: Vec<String>,
    /// Where it begins. Says nothing of a consumer that is there.
    pub start: Start,
    /// After this long without a word about it, a message is delivered again. At least 100 ms.
    pub ack_wait: Duration,
    /// The most messages that all its members together have, delivered and not settled.
    pub max_in_flight: usize,
}

impl ConsumerConfig {
    /// The consumer `name` of `stream`: all its messages, `ack_wait` 30 s, 10,000 in flight.
    #[must_use]
    pub fn new(stream: impl Into<String>, name: impl Into<String>) -> Self {
        ConsumerConfig {
            stream: stream.into(),
            name: name.into(),
            filters: vec![">".to_owned()],
            start: Start::All,
            ack_wait: Duration::from_secs(30),
            max_in_flight: 10_000,
        }
    }
}

/// A member of a durable consumer, and how the consumer differs from what this member asked for.
pub struct Consuming {
    /// The messages of this member.
    pub deliveries: Box<dyn Deliveries>,
    /// How long the consumer really waits for a word about a message; of several waits the shortest.
    pub ack_wait: Duration,
    /// The consumer was there and has other options than were asked for; it was left as it is.
    pub differences: Vec<Difference>,
}

impl fmt::Debug for Consuming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consuming")
            .field("ack_wait", &self.ack_wait)
            .field("differences", &self.differences)
            .finish_non_exhaustive()
    }
}

/// A message that a durable consumer delivered. Until it is settled, or extended, it is delivered
/// again after the consumer's `ack_wait`.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message, without a reply subject.
    pub message: InboundMessage,
    /// What [`Streams::settle`] knows this delivery by.
    pub receipt: Subject,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// How often it was delivered, this time included.
    pub deliveries: u64,
    /// When the stream stored it, by the back end's clock.
    pub stored: SystemTime,
    /// How many messages the consumer had not delivered for the first time yet.
    pub pending: u64,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settlement {
    /// It is done.
    Done,
    /// It is to be delivered again, after this long.
    Again(Duration),
    /// It is never to be delivered again to this consumer, for this reason.
    Never(String),
    /// It is at work: `ack_wait` begins anew.
    Working,
}

/// A message as a stream holds it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stored {
    /// The message, without a reply subject.
    pub message: InboundMessage,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, by the back end's clock.
    pub stored: SystemTime,
}

impl Stored {
    /// A message as drivers give it.
    #[must_use]
    pub fn new(message: InboundMessage, sequence: u64, stored: SystemTime) -> Self {
        Stored { message, sequence, stored }
    }
}

/// The streams of a back end.
///
/// As in [`Driver`](super::Driver), every method that waits ends by its `deadline`, names and
/// subjects were checked by the portable code, and no method has a default. What a stream or the
/// server cannot do is refused as [`Unsupported`](crate::ErrorKind::Unsupported).
pub trait Streams: Send + Sync {
    /// The stream of this name, if there is one.
    fn stream<'a>(
        &'a self,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<StreamStatus>>>;

    /// The name of the stream that stores what is published to this subject, which may have
    /// wildcards; the first one if there are several.
    fn stream_of<'a>(
        &'a self,
        subject: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<String>>>;

    /// The names of all streams, also of those that buckets and the like are made of, sorted.
    fn stream_names(&self, deadline: Instant) -> BoxFuture<'_, Result<Vec<String>>>;

    /// Makes a stream. [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when there is one of this
    /// name, [`Conflict`](crate::ErrorKind::Conflict) when another one has one of its subjects.
    fn create_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>>;

    /// Changes what `config` sets and keeps the rest. [`NotFound`](crate::ErrorKind::NotFound)
    /// without such a stream.
    fn update_stream<'a>(
        &'a self,
        config: &'a StreamConfig,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<StreamStatus>>;

    /// Deletes a stream with all it holds; whether there was one.
    fn delete_stream<'a>(&'a self, name: &'a str, deadline: Instant)
    -> BoxFuture<'a, Result<bool>>;

    /// Takes out the messages of one subject, which may have wildcards, or all; how many these were.
    fn purge_stream<'a>(
        &'a self,
        name: &'a str,
        subject: Option<&'a str>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<u64>>;

    /// The first message at or behind `sequence` whose subject the filter covers, as the stream's
    /// leader has it. [`NotFound`](crate::ErrorKind::NotFound) without such a stream.
    fn message_from<'a>(
        &'a self,
        stream: &'a str,
        filter: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Stored>>>;

    /// Takes one message out; whether it was there.
    fn delete_message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;

    /// The names of a stream's consumers, sorted.
    fn consumer_names<'a>(
        &'a self,
        stream: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Deletes a consumer; whether there was one.
    fn delete_consumer<'a>(
        &'a self,
        stream: &'a str,
        name: &'a str,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<bool>>;

    /// A way to publish many messages that is better than one
    /// [`publish_acked`](super::Driver::publish_acked) for each, where the back end has one.
    fn pipeline(
        &self,
        config: PipelineConfig,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Option<Box<dyn Pipeline>>>>;

    /// Publishes several messages to one stream, all or none; gives the acknowledgement of the last
    /// one, which those before it directly precede. [`Unsupported`](crate::ErrorKind::Unsupported)
    /// for a stream that does not do it. Other errors than [`Timeout`](crate::ErrorKind::Timeout):
    /// nothing is stored.
    fn publish_atomic<'a>(
        &'a self,
        stream: &'a str,
        messages: Vec<OutboundMessage>,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Ack>>;

    /// Joins a durable consumer as one more member; makes the consumer if there is none. One that is
    /// there is left as it is and the differences are told, unless `overwrite` asks to change what
    /// can be changed. [`NotFound`](crate::ErrorKind::NotFound) without such a stream.
    ///
    /// The server delivers without limit: counting deliveries is the portable code's.
    fn consume<'a>(
        &'a self,
        config: &'a ConsumerConfig,
        overwrite: bool,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Consuming>>;

    /// Says what becomes of a delivery; done when that is accepted for sending, as
    /// [`Driver::publish`](super::Driver::publish). While disconnected it waits for the connection,
    /// until `deadline`.
    fn settle<'a>(
        &'a self,
        receipt: &'a Subject,
        settlement: Settlement,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<()>>;
}

/// The messages of one member of a durable consumer. Dropping it leaves the consumer as it is; what
/// was delivered and not settled comes again, to whichever member.
///
/// It lives for as long as its owner wants: it goes on by itself after lost connections, server
/// restarts and changes of leader, waits while the consumer is paused, and makes the consumer again
/// when somebody deleted it: behind the last message that it knows to be settled, so that none is
/// missed, with a warning. It makes nothing that outlives it but the consumer.
pub trait Deliveries: Send + 'static {
    /// The next message; `None` when it has ended. `room` is how many messages the member can take
    /// now: the source never has more than this many under way, asked for or waiting in it. It may
    /// shrink from one call to the next, which holds for what is asked for later: what has arrived
    /// is given also when there is no room.
    fn poll_next(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<Option<Delivery>>;

    /// Stops asking for messages: when it is done, `poll_next` gives those that have arrived and
    /// then `None`. An error says that more may have been delivered, which come again after
    /// `ack_wait`.
    fn drain(&mut self, deadline: Instant) -> BoxFuture<'_, Result<()>>;

    /// Ends it at once; what has arrived in it and was not given comes again after `ack_wait`.
    fn close(&mut self) -> BoxFuture<'_, ()>;

    /// What has happened to it so far.
    fn events(&self) -> DeliveryEvents;
}

/// What has happened to the member of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeliveryEvents {
    /// The consumer was gone and was made again.
    pub consumer_remade: u64,
    /// Requests for messages that had to be begun anew: silence, a lost connection, a new leader.
    pub restarts: u64,
}
