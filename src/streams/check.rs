//! What no back end accepts is refused before anything is sent.

use std::time::Duration;

use super::StreamConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::subject::{check_subscribe, overlap};

/// The shortest time that a nats-server accepts for what a stream holds.
const MIN_TIME: Duration = Duration::from_millis(100);
/// The longest: nanoseconds in 63 bits.
const MAX_TIME: Duration = Duration::from_nanos(i64::MAX as u64);
/// The most copies that a nats-server cluster keeps.
const MAX_REPLICAS: usize = 5;
/// The longest description that a nats-server accepts, in bytes.
const MAX_DESCRIPTION: usize = 4096;
/// The longest name of a stream, in bytes.
const MAX_NAME: usize = 255;

impl StreamConfig {
    /// Checks what no back end accepts.
    pub(crate) fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        let about = |error: Error| error.with("stream", &self.name);
        self.check_subjects().map_err(about)?;
        let time = |time: Duration| !(MIN_TIME..=MAX_TIME).contains(&time);
        let age = |age: Duration| !age.is_zero() && time(age);
        let count = |n: u64| i64::try_from(n).is_err();
        let limits = [
            (
                self.description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION),
                "description",
                "at most 4096 bytes",
            ),
            (self.replicas.is_some_and(|n| !(1..=MAX_REPLICAS).contains(&n)), "replicas", "1 to 5"),
            (self.max_age.is_some_and(age), "max_age", "zero or at least 100ms, below 292 years"),
            (self.max_bytes.is_some_and(count), "max_bytes", "below 2^63"),
            (self.max_messages.is_some_and(count), "max_messages", "below 2^63"),
            (
                self.max_messages_per_subject.is_some_and(count),
                "max_messages_per_subject",
                "below 2^63",
            ),
            (
                self.max_message_size.is_some_and(|n| i32::try_from(n).is_err()),
                "max_message_size",
                "below 2 GiB",
            ),
            (
                self.duplicate_window.is_some_and(time),
                "duplicate_window",
                "at least 100ms, below 292 years",
            ),
            (self.outlives(), "duplicate_window", "no longer than max_age"),
        ];
        match limits.into_iter().find(|(wrong, ..)| *wrong) {
            None => Ok(()),
            Some((_, option, range)) => {
                Err(about(Error::new(ErrorKind::InvalidInput, format!("{option} must be {range}"))))
            }
        }
    }

    fn check_subjects(&self) -> Result<()> {
        for (n, subject) in self.subjects.iter().enumerate() {
            check_subscribe(subject)?;
            if let Some(other) = self.subjects[..n].iter().find(|other| overlap(other, subject)) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("the subjects {other} and {subject} have messages in common; keep one"),
                ));
            }
        }
        Ok(())
    }

    /// Message ids would be known for longer than messages are kept.
    fn outlives(&self) -> bool {
        let age = self.max_age.filter(|age| !age.is_zero());
        self.duplicate_window.zip(age).is_some_and(|(window, age)| window > age)
    }
}

/// Checks the name of a stream.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let problem = match fault(name) {
        None => return Ok(()),
        Some(Fault::Empty) => "the stream has no name",
        Some(Fault::Long) => "a stream's name has at most 255 bytes",
        Some(Fault::Illegal) => {
            "a stream's name has no dot, wildcard, slash, white space or control character"
        }
    };
    Err(Error::new(ErrorKind::InvalidInput, problem).with("stream", name))
}

/// Checks the name of a consumer.
pub(super) fn check_consumer(name: &str) -> Result<()> {
    let problem = match fault(name) {
        None => return Ok(()),
        Some(Fault::Empty) => "the consumer has no name",
        Some(Fault::Long) => "a consumer's name has at most 255 bytes",
        Some(Fault::Illegal) => {
            "a consumer's name has no dot, wildcard, slash, white space or control character"
        }
    };
    Err(Error::new(ErrorKind::InvalidInput, problem).with("consumer", name))
}

enum Fault {
    Empty,
    Long,
    Illegal,
}

/// Names are tokens of subjects and folders of the server.
fn fault(name: &str) -> Option<Fault> {
    let illegal =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    if name.is_empty() {
        Some(Fault::Empty)
    } else if name.len() > MAX_NAME {
        Some(Fault::Long)
    } else {
        name.contains(illegal).then_some(Fault::Illegal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_back_end_accepts_is_refused_and_named() {
        let stream = || StreamConfig::new("S", ["s.>"]);
        let second = Duration::from_secs(1);
        let wrong = [
            (stream().max_age(Duration::from_millis(99)), "max_age"),
            (stream().max_age(Duration::MAX), "max_age"),
            (stream().replicas(0), "replicas"),
            (stream().replicas(6), "replicas"),
            (stream().max_bytes(u64::MAX), "max_bytes"),
            (stream().max_messages(u64::MAX), "max_messages"),
            (stream().max_messages_per_subject(u64::MAX), "max_messages_per_subject"),
            (stream().max_message_size(1 << 31), "max_message_size"),
            (stream().duplicate_window(Duration::ZERO), "duplicate_window"),
            (stream().duplicate_window(2 * second).max_age(second), "no longer than max_age"),
            (stream().description("x".repeat(4097)), "description"),
            (StreamConfig::new("", ["a"]), "no name"),
            (StreamConfig::new("a.b", ["a"]), "no dot"),
            (StreamConfig::new("a b", ["a"]), "white space"),
            (StreamConfig::new("a/b", ["a"]), "slash"),
            (StreamConfig::new("a".repeat(256), ["a"]), "255"),
            (StreamConfig::new("S", ["a..b"]), "empty token"),
            (StreamConfig::new("S", ["a.>.b"]), "not the last token"),
            (StreamConfig::new("S", ["a.b*"]), "wildcard"),
            (StreamConfig::new("S", [""]), "empty"),
            (StreamConfig::new("S", ["a.*", "b", "*.c"]), "a.* and *.c have messages in common"),
            (StreamConfig::new("S", ["a", "a"]), "keep one"),
        ];
        for (config, named) in wrong {
            let error = config.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(named), "{named}: {error}");
            assert!(error.context("stream").is_some(), "{error}");
        }
        let right = stream().max_age(Duration::ZERO).replicas(5).max_bytes(0).max_messages(0);
        right.duplicate_window(2 * second).description("x".repeat(4096)).check().unwrap();
        StreamConfig::new("é-_:S", ["a.*.c", "b.>", "a.b"]).check().unwrap();
        assert!(check_consumer("a.b").unwrap_err().to_string().contains("a consumer's name"));
    }
}
