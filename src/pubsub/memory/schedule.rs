//! Messages that a stream publishes later: once, or again and again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use tokio::time::Instant;

use super::clock::later;
use super::incoming::{header, lifetime};
use super::stream::State;
use crate::error::Result;
use crate::pubsub::driver::InboundMessage;
use crate::pubsub::subject;

/// The shortest interval.
const SHORTEST: Duration = Duration::from_secs(1);

/// When a schedule's message is published, and where to.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    next: Instant,
    every: Option<Duration>,
    target: Subject,
    ttl: Option<String>,
}

/// The schedules of a stream, by the sequences of their messages.
#[derive(Default)]
pub(super) struct Schedules {
    known: HashMap<u64, Schedule>,
    due: BTreeSet<(Instant, u64)>,
}

impl Schedule {
    /// The schedule that a message is.
    pub(super) fn read(state: &State, message: &InboundMessage, now: Instant) -> Result<Self> {
        let header = |name| header(message.headers.as_ref(), name);
        if state.config.schedules != Some(true) {
            return Err(
                state.unsupported("the stream publishes nothing later; switch schedules on")
            );
        }
        for name in ["Nats-Schedule-Source", "Nats-Schedule-Time-Zone", "Nats-Schedule-Rollup"] {
            if header(name).is_some() {
                return Err(state
                    .unsupported("the memory driver does not know this header of a schedule")
                    .with("header", name));
            }
        }
        let text = header("Nats-Schedule").unwrap_or_default();
        let malformed = || {
            state
                .invalid("not a schedule; give `@at <RFC 3339 time>` or `@every <duration>`")
                .with("schedule", text)
        };
        let (next, every) = match text.split_once(' ') {
            Some(("@at", time)) => {
                let time = humantime::parse_rfc3339(time.trim()).map_err(|_| malformed())?;
                (state.clock.instant(time).max(now), None)
            }
            Some(("@every", time)) => {
                let time = duration(time.trim()).ok_or_else(malformed)?;
                if time < SHORTEST {
                    return Err(state.invalid("a schedule's interval is below 1 s"));
                }
                (later(now, time), Some(time))
            }
            _ if text.starts_with('@') || text.split_whitespace().count() >= 5 => {
                return Err(state
                    .unsupported("the memory driver has no calendar; use `@at` or `@every`")
                    .with("schedule", text));
            }
            _ => return Err(malformed()),
        };
        let target = header("Nats-Schedule-Target").unwrap_or_default();
        let is_ours = state.stores(target) && *target != *message.subject;
        if !is_ours || subject::check_publish(target).is_err() {
            return Err(state
                .invalid("a schedule's target is another subject of the same stream")
                .with("target", target));
        }
        let ttl = header("Nats-Schedule-TTL").map(str::to_owned);
        if let Some(ttl) = &ttl {
            if state.config.message_ttl != Some(true) {
                return Err(state.unsupported(
                    "the stream allows no lifetimes of messages; switch message_ttl on",
                ));
            }
            if lifetime(ttl).is_none() {
                return Err(state.invalid("Nats-Schedule-TTL is no lifetime"));
            }
        }
        Ok(Schedule { next, every, target: Subject::from(target), ttl })
    }

    /// The message that it publishes, made from the one that it is.
    pub(super) fn produce(&self, message: &InboundMessage, next: &str) -> InboundMessage {
        let mut headers = HeaderMap::new();
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            let text: &str = name.as_ref();
            let ours = ["Nats-Schedule", "Nats-Expected-"].iter().any(|it| text.starts_with(it));
            if ours || ["Nats-Msg-Id", "Nats-TTL", "Nats-Rollup"].contains(&text) {
                continue;
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert("Nats-Scheduler", message.subject.as_str());
        headers.insert("Nats-Schedule-Next", next);
        if let Some(ttl) = &self.ttl {
            headers.insert("Nats-TTL", ttl.as_str());
        }
        InboundMessage {
            subject: self.target.clone(),
            reply: None,
            headers: Some(headers),
            payload: message.payload.clone(),
        }
    }

    /// When it publishes again after `now`, if it does. What was missed is left out.
    pub(super) fn again(&self, now: Instant) -> Option<Schedule> {
        let every = self.every?;
        let next = later(self.next, every);
        Some(Schedule { next: if next > now { next } else { later(now, every) }, ..self.clone() })
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

impl Schedules {
    pub(super) fn insert(&mut self, sequence: u64, schedule: Schedule) {
        self.due.insert((schedule.next, sequence));
        self.known.insert(sequence, schedule);
    }

    pub(super) fn remove(&mut self, sequence: u64) -> Option<Schedule> {
        let schedule = self.known.remove(&sequence)?;
        self.due.remove(&(schedule.next, sequence));
        Some(schedule)
    }

    /// Whether this message is one.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.known.contains_key(&sequence)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(u64, Schedule)> {
        let (at, sequence) = self.due.first().copied()?;
        if at > now {
            return None;
        }
        Some((sequence, self.remove(sequence)?))
    }
}

/// A duration as nats-servers write and read it: `1h30m`, `1.5s`, `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|it| !it.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_servers_write_them() {
        for (text, milliseconds) in
            [("1s", 1_000), ("1h30m", 5_400_000), ("1m0s", 60_000), ("1.5s", 1_500), ("2ms", 2)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "1d", "1 s", "0s", "1e3s", "..s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
