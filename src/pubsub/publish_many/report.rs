//! What came of many messages.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// Failures that a report tells in full; all are counted.
pub(super) const FAILURES_KEPT: usize = 1_000;

/// How messages went to their streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Way {
    /// Each with an acknowledgement of its own, a bounded number of them under way at once.
    Window,
    /// At least some with one acknowledgement for hundreds (ADR-50, nats-server 2.14).
    FastIngest,
    /// All together or none (ADR-50, nats-server 2.12).
    Atomic,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Window => "window",
            Way::FastIngest => "fast ingest",
            Way::Atomic => "atomic batch",
        })
    }
}

/// A message that was not published.
#[derive(Debug)]
#[non_exhaustive]
pub struct PublishFailure {
    /// Its place in the input, from 0.
    pub index: u64,
    /// Its topic, without the handle's prefix.
    pub topic: String,
    /// Why.
    pub error: Error,
    /// Nobody knows whether a stream has it. Otherwise it is not stored.
    pub may_be_stored: bool,
}

/// What has been done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishProgress {
    /// Messages that a stream has, without known duplicates.
    pub stored: u64,
    /// Messages that a stream had already, by their id.
    pub duplicates: u64,
    /// Messages that failed.
    pub failed: u64,
    /// Since the call began.
    pub elapsed: Duration,
}

impl PublishProgress {
    /// How many messages of the input are done, from its beginning.
    #[must_use]
    pub const fn done(&self) -> u64 {
        self.stored + self.duplicates + self.failed
    }
}

/// What came of publishing many messages.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "messages may have failed: look at it, or turn failures into an error by into_result()"]
pub struct PublishReport {
    /// Messages that a stream has, without known duplicates: fast ingest does not tell duplicates,
    /// so there they count as stored.
    pub stored: u64,
    /// Messages that a stream had already, by their id, and did not store again.
    pub duplicates: u64,
    /// Messages that failed.
    pub failed: u64,
    /// The first 1,000 failures, in the order of the input.
    pub failures: Vec<PublishFailure>,
    /// How long it took.
    pub elapsed: Duration,
    /// The fastest way that messages went.
    pub way: Way,
    /// Why the input was not read to its end: the first failure with
    /// [`stop_on_failure`](crate::Call::stop_on_failure), the call's time limit, or a connection
    /// that is closed for good. What was read of it is counted above.
    pub stopped: Option<Error>,
}

impl PublishReport {
    pub(super) fn new(way: Way) -> Self {
        PublishReport {
            stored: 0,
            duplicates: 0,
            failed: 0,
            failures: Vec::new(),
            elapsed: Duration::ZERO,
            way,
            stopped: None,
        }
    }

    pub(super) fn fail(&mut self, failure: PublishFailure) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(failure);
        }
    }

    pub(super) fn progress(&self, elapsed: Duration) -> PublishProgress {
        let PublishReport { stored, duplicates, failed, .. } = *self;
        PublishProgress { stored, duplicates, failed, elapsed }
    }

    /// Every message of the input was published, now or before.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.stopped.is_none()
    }

    /// The report itself when every message was published.
    ///
    /// # Errors
    /// The first failure, or why the input was not read to its end, with the counts.
    pub fn into_result(mut self) -> Result<PublishReport> {
        if self.is_complete() {
            return Ok(self);
        }
        let (stored, failed) = (self.stored + self.duplicates, self.failed);
        let error = if self.failures.is_empty() {
            self.stopped.take()
        } else {
            let PublishFailure { index, topic, error, .. } = self.failures.swap_remove(0);
            Some(error.with("index", index.to_string()).with("topic", topic))
        };
        let error = error.unwrap_or_else(|| Error::new(ErrorKind::Other, "messages failed"));
        Err(error.with("published", stored.to_string()).with("failed", failed.to_string()))
    }
}
