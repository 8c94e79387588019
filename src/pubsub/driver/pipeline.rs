//! Publishing many messages one after another, with an answer for each, without a future for each.

use std::sync::Arc;
use std::task::{Context, Poll};

use async_nats::Subject;

use super::OutboundMessage;
use crate::error::{Error, Result};

/// What a pipeline is to do.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct PipelineConfig {
    /// The most messages that are under way at once: sent and not answered. At least one.
    pub window: usize,
    /// Whether a stream that takes many messages without an acknowledgement for each (fast ingest)
    /// may be given them in this way.
    pub fast_ingest: bool,
}

impl PipelineConfig {
    /// A window of 1,000, with fast ingest.
    #[must_use]
    pub const fn new() -> Self {
        PipelineConfig { window: 1_000, fast_ingest: true }
    }
}

impl Default for PipelineConfig {
    fn default() -> Self {
        PipelineConfig::new()
    }
}

/// A message that a stream has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acked {
    /// The stream.
    pub stream: Arc<str>,
    /// The message's sequence in the stream, where the back end tells it: fast ingest does not.
    pub sequence: Option<u64>,
    /// The stream had a message with this id already and stored nothing. Fast ingest does not tell.
    pub duplicate: bool,
}

impl Acked {
    /// An acknowledgement, as drivers give it.
    #[must_use]
    pub const fn new(stream: Arc<str>, sequence: Option<u64>, duplicate: bool) -> Self {
        Acked { stream, sequence, duplicate }
    }
}

/// What became of a message in a pipeline.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fate {
    /// A stream has it.
    Acked(Acked),
    /// It was refused for good. It is not stored.
    Refused(Error),
    /// Nobody took it, so that it is not stored and can be sent again: after a while where an error
    /// tells why, else at once.
    NotTaken(Option<Error>),
    /// Nobody knows whether it is stored.
    Doubtful(Error),
}

/// What a pipeline tells.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// What became of the message with this number.
    One(u64, Fate),
    /// The connection was lost: nobody knows of all that was sent and not answered.
    Lost(Error),
    /// This subject is not permitted: all that was sent to it and not answered is not stored.
    Denied(Subject, Error),
    /// No answer will ever come any more, and nothing can be sent.
    Closed(Error),
}

/// A way to publish many messages. Dropping it leaves what is under way without an answer.
///
/// Messages reach a stream in the order in which they were sent.
pub trait Pipeline: Send + 'static {
    /// Ready when a message to this subject can be sent now; pending while the connection takes no
    /// more, or is lost, and while the stream has enough to do. An error: it never will be.
    fn poll_ready(&mut self, subject: &Subject, cx: &mut Context<'_>) -> Poll<Result<()>>;

    /// Sends a message for whose subject [`poll_ready`](Self::poll_ready) was just ready, under a
    /// number of the caller's. An error: it was not sent.
    fn send(&mut self, number: u64, message: OutboundMessage) -> Result<()>;

    /// Says that no more messages come before some answer does.
    fn flush(&mut self);

    /// The next answer. A message that is lost in silence has none: giving up is the caller's, and
    /// so is to know the numbers that it waits for.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer>;

    /// Called about ten times a second, so that it needs no timers of its own. `waits` tells whether a
    /// message to a subject was sent and has no answer.
    fn look(&mut self, waits: &dyn Fn(&str) -> bool);

    /// How many messages went by fast ingest so far.
    fn fast(&self) -> u64;
}
