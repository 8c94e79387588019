//! What a stream keeps, and for how long.

use std::fmt;
use std::time::Duration;

use super::Storage;

/// When a stream gives a message up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Retention {
    /// When it is too old, or the stream is full. The default.
    #[default]
    Limits,
    /// When a consumer has settled it; each message is for one consumer only.
    WorkQueue,
    /// When every consumer that it is for has settled it.
    Interest,
}

/// What a full stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Discard {
    /// Gives up its oldest messages. The default.
    #[default]
    Old,
    /// Refuses new ones.
    New,
}

/// A stream as it is to be.
///
/// What is not set keeps its default in a new stream, and its present value in one that is there.
/// Zero means no limit.
///
/// ```
/// use std::time::Duration;
/// use nats_connector::streams::{Retention, StreamConfig};
///
/// let orders = StreamConfig::new("ORDERS", ["orders.>"])
///     .retention(Retention::WorkQueue)
///     .max_age(Duration::from_secs(7 * 24 * 3600))
///     .replicas(3);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a configuration does nothing until it is given to a call"]
pub struct StreamConfig {
    pub(crate) name: String,
    pub(crate) subjects: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) retention: Option<Retention>,
    pub(crate) storage: Option<Storage>,
    pub(crate) replicas: Option<usize>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_messages: Option<u64>,
    pub(crate) max_messages_per_subject: Option<u64>,
    pub(crate) max_message_size: Option<usize>,
    pub(crate) discard: Option<Discard>,
    pub(crate) duplicate_window: Option<Duration>,
    pub(crate) compression: Option<bool>,
    pub(crate) message_ttl: Option<bool>,
    pub(crate) schedules: Option<bool>,
    pub(crate) fast_ingest: Option<bool>,
    pub(crate) atomic_publish: Option<bool>,
}

impl StreamConfig {
    /// The stream `name`, which keeps what is published to these subjects; everything else at its
    /// default.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        subjects: impl IntoIterator<Item = S>,
    ) -> Self {
        StreamConfig {
            name: name.into(),
            subjects: subjects.into_iter().map(Into::into).collect(),
            description: None,
            retention: None,
            storage: None,
            replicas: None,
            max_age: None,
            max_bytes: None,
            max_messages: None,
            max_messages_per_subject: None,
            max_message_size: None,
            discard: None,
            duplicate_window: None,
            compression: None,
            message_ttl: None,
            schedules: None,
            fast_ingest: None,
            atomic_publish: None,
        }
    }

    /// What the stream is for; at most 4,096 bytes.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// When messages go. Default [`Retention::Limits`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Where messages are kept. Default [`Storage::File`]; a stream that is there cannot change it.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How many servers of a cluster keep a copy: 1 to 5. Default 1.
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// How long a message is kept; at least 100 ms. Default: no limit.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How much the stream may hold, in bytes. Default: no limit.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// How many messages the stream may hold. Default: no limit.
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.max_messages = Some(messages);
        self
    }

    /// How many messages of each subject the stream may hold. Default: no limit.
    pub fn max_messages_per_subject(mut self, messages: u64) -> Self {
        self.max_messages_per_subject = Some(messages);
        self
    }

    /// The largest message with its headers, in bytes. Default: as large as the server allows.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.max_message_size = Some(bytes);
        self
    }

    /// What a full stream does. Default [`Discard::Old`].
    pub fn discard(mut self, discard: Discard) -> Self {
        self.discard = Some(discard);
        self
    }

    /// How long the stream knows message ids, at least 100 ms: within it a message that is
    /// published twice is stored once. Default 2 minutes, less for a shorter `max_age`.
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = Some(window);
        self
    }

    /// Whether the server compresses what it stores. Default `false`; needs nats-server 2.10.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = Some(on);
        self
    }

    /// Whether single messages may have a lifetime of their own. Default `false`; needs nats-server
    /// 2.11, and cannot be taken back.
    pub fn message_ttl(mut self, on: bool) -> Self {
        self.message_ttl = Some(on);
        self
    }

    /// Whether the stream publishes messages later. Default `false`; needs nats-server 2.12, and
    /// cannot be taken back.
    pub fn schedules(mut self, on: bool) -> Self {
        self.schedules = Some(on);
        self
    }

    /// Whether many messages may be published without an acknowledgement for each: the fastest way.
    /// Default `false`; needs nats-server 2.14.
    pub fn fast_ingest(mut self, on: bool) -> Self {
        self.fast_ingest = Some(on);
        self
    }

    /// Whether several messages may be published together or not at all. Default `false`; needs
    /// nats-server 2.12.
    pub fn atomic_publish(mut self, on: bool) -> Self {
        self.atomic_publish = Some(on);
        self
    }

    /// The stream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it keeps the messages of.
    #[must_use]
    pub fn subjects(&self) -> &[String] {
        &self.subjects
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Retention::Limits => "limits",
            Retention::WorkQueue => "work queue",
            Retention::Interest => "interest",
        })
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Discard::Old => "old",
            Discard::New => "new",
        })
    }
}
