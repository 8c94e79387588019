//! What a message asks of its stream by its headers, checked before anything is stored.

use std::borrow::Cow;
use std::time::Duration;

use async_nats::HeaderMap;
use tokio::time::Instant;

use super::clock::later;
use super::log;
use super::schedule::Schedule;
use super::stream::State;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::InboundMessage;
use crate::streams::Discard;

/// What becomes of a message.
pub(super) enum Verdict {
    /// The stream has it, under this sequence.
    Duplicate(u64),
    Store(Plan),
}

/// How a message is to be stored.
#[derive(Default)]
pub(super) struct Plan {
    /// By this moment it is over, if it ever is.
    pub(super) end: Option<Instant>,
    pub(super) rollup: Option<Rollup>,
    pub(super) schedule: Option<Schedule>,
    /// The schedule of this subject is over with it.
    pub(super) ends_schedule: Option<String>,
}

/// What a message puts an end to.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rollup {
    Subject,
    All,
}

/// A header's value, empty ones left out.
pub(super) fn header<'a>(headers: Option<&'a HeaderMap>, name: &str) -> Option<&'a str> {
    headers?.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
}

/// The lifetime that a `Nats-TTL` header gives; `None` within for one without end.
pub(super) fn lifetime(text: &str) -> Option<Option<Duration>> {
    if text == "never" {
        return Some(None);
    }
    let seconds = text.parse().ok().map(Duration::from_secs);
    let time = seconds.or_else(|| humantime::parse_duration(text).ok())?;
    (time >= Duration::from_secs(1)).then_some(Some(Duration::from_secs(time.as_secs())))
}

impl State {
    /// What the stream makes of a message. It changes nothing.
    pub(super) fn check(&self, message: &InboundMessage, now: Instant) -> Result<Verdict> {
        let headers = message.headers.as_ref();
        let header = |name| header(headers, name);
        if header("Nats-Expected-Stream").is_some_and(|name| name != self.config.name) {
            return Err(self.conflict("the subject belongs to another stream"));
        }
        let mut plan = self.plan(message, now)?;
        if let Some(sequence) = header("Nats-Msg-Id").and_then(|id| self.duplicates.find(id)) {
            return Ok(Verdict::Duplicate(sequence));
        }
        self.check_expectations(message)?;
        plan.rollup = match header("Nats-Rollup") {
            None => plan.schedule.is_some().then_some(Rollup::Subject),
            Some("sub") => Some(Rollup::Subject),
            Some("all") => Some(Rollup::All),
            Some(_) => return Err(self.invalid("Nats-Rollup is neither `sub` nor `all`")),
        };
        self.check_room(message, plan.rollup)?;
        Ok(Verdict::Store(plan))
    }

    fn plan(&self, message: &InboundMessage, now: Instant) -> Result<Plan> {
        let header = |name| header(message.headers.as_ref(), name);
        let age = self.age().map(|age| later(now, age));
        let mut plan = Plan { end: age, ..Plan::default() };
        if let Some(text) = header("Nats-TTL") {
            if self.config.message_ttl != Some(true) {
                return Err(self.unsupported(
                    "the stream allows no lifetimes of messages; switch message_ttl on",
                ));
            }
            let Some(lifetime) = lifetime(text) else {
                return Err(self.invalid("Nats-TTL is no lifetime; give whole seconds, 1 or more"));
            };
            plan.end = lifetime.map(|time| {
                let end = later(now, time);
                age.map_or(end, |age| age.min(end))
            });
        }
        if header("Nats-Schedule").is_some() {
            plan.schedule = Some(Schedule::read(self, message, now)?);
        }
        if header("Nats-Schedule-Next") == Some("purge") {
            plan.ends_schedule = header("Nats-Scheduler").map(str::to_owned);
        }
        Ok(plan)
    }

    fn check_expectations(&self, message: &InboundMessage) -> Result<()> {
        let header = |name| header(message.headers.as_ref(), name);
        let number = |name| match header(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                self.invalid("an expected sequence is no number").with("header", name)
            }),
        };
        let differs = |expected: Option<u64>, last| expected.is_some_and(|wanted| wanted != last);
        if differs(number("Nats-Expected-Last-Sequence")?, self.log.last()) {
            return Err(self.conflict("the stream has another last sequence"));
        }
        let subject = header("Nats-Expected-Last-Subject-Sequence-Subject");
        let last = self.log.last_of(subject.unwrap_or(&message.subject));
        if differs(number("Nats-Expected-Last-Subject-Sequence")?, last) {
            return Err(self.conflict("the subject has another last sequence"));
        }
        if header("Nats-Expected-Last-Msg-Id").is_some_and(|id| id != self.duplicates.last()) {
            return Err(self.conflict("the stream's last message has another id"));
        }
        Ok(())
    }

    fn check_room(&self, message: &InboundMessage, rollup: Option<Rollup>) -> Result<()> {
        let config = &self.config;
        let limit = config.max_message_size.filter(|limit| *limit > 0);
        let body = message.payload.len() + log::headers_size(message);
        if let Some(limit) = limit.filter(|limit| body > *limit) {
            return Err(self
                .too_large(format!("the stream takes messages of up to {limit} bytes; send less"))
                .with("size", body.to_string()));
        }
        let size = log::size(message);
        let bytes = config.max_bytes.filter(|limit| *limit > 0);
        if bytes.is_some_and(|limit| size > limit) {
            return Err(self.too_large("the message is larger than the stream may be (max_bytes)"));
        }
        if config.discard != Some(Discard::New) || rollup == Some(Rollup::All) {
            return Ok(());
        }
        let messages = config.max_messages.filter(|limit| *limit > 0);
        // A message that takes the place of another of its subject needs no room.
        let replaces = match config.max_messages_per_subject.filter(|limit| *limit > 0) {
            Some(limit) => self.of_subject(message) >= limit,
            None => rollup.is_some() && self.of_subject(message) > 0,
        };
        if messages.is_some_and(|limit| self.log.len() >= limit) && !replaces {
            return Err(self.full("the stream is full (max_messages) and gives nothing up"));
        }
        if bytes.is_some_and(|limit| self.log.bytes() + size > limit) {
            return Err(self.full("the stream is full (max_bytes) and gives nothing up"));
        }
        Ok(())
    }

    fn of_subject(&self, message: &InboundMessage) -> u64 {
        self.log.of_subject(&message.subject).map_or(0, |them| them.len() as u64)
    }

    pub(super) fn error(&self, kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Error {
        Error::new(kind, what).with("stream", &self.config.name)
    }

    pub(super) fn conflict(&self, what: &'static str) -> Error {
        self.error(ErrorKind::Conflict, what)
    }

    pub(super) fn invalid(&self, what: &'static str) -> Error {
        self.error(ErrorKind::InvalidInput, what)
    }

    pub(super) fn unsupported(&self, what: &'static str) -> Error {
        self.error(ErrorKind::Unsupported, what)
    }

    fn full(&self, what: &'static str) -> Error {
        self.error(ErrorKind::Unavailable, what)
    }

    fn too_large(&self, what: impl Into<Cow<'static, str>>) -> Error {
        self.error(ErrorKind::TooLarge, what)
    }
}
