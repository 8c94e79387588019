//! Dead letters: what a durable subscription cannot handle goes to a topic of its own, with the
//! reason, before the stream's message is given up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::{HeaderMap, Subject};
use futures::future::{Either, select};
use std::pin::pin;
use tokio::time::{Instant, sleep};

use super::delivered::Delivered;
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::PubSub;
use crate::pubsub::driver::{OutboundMessage, Streams};
use crate::pubsub::headers::{of_the_user, wire_size};
use crate::pubsub::nats::check_size;
use crate::streams::{StreamConfig, StreamStatus};

/// Why the message was given up: one line of at most 1,024 bytes.
pub(crate) const CAUSE: &str = "Dead-Letter-Cause";
/// How often it had been delivered.
pub(crate) const DELIVERIES: &str = "Dead-Letter-Deliveries";
/// Its full subject.
pub(crate) const SUBJECT: &str = "Dead-Letter-Subject";
/// The stream that it comes from.
pub(crate) const STREAM: &str = "Dead-Letter-Stream";
/// Its sequence there.
pub(crate) const SEQUENCE: &str = "Dead-Letter-Sequence";
/// The durable consumer that could not handle it.
pub(crate) const CONSUMER: &str = "Dead-Letter-Consumer";
/// When that stream stored it, as in RFC 3339.
pub(crate) const TIME: &str = "Dead-Letter-Time";
/// The message id that it had, if it had one.
pub(crate) const MESSAGE_ID: &str = "Dead-Letter-Message-Id";
/// The id by which a stream stores a message once.
const NATS_MESSAGE_ID: &str = "Nats-Msg-Id";

/// The first token of dead-letter topics that nobody chose.
pub(crate) const ROOT: &str = "dead";
/// The stream for these, made where no other one stores them.
pub(crate) const STREAM_NAME: &str = "DEAD_LETTERS";
/// How long that stream knows message ids.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(24 * 3600);

const MAX_CAUSE: usize = 1_024;
/// How long a dead letter is tried while no stream answers, before its message goes back to its
/// stream: a handler's place is taken meanwhile.
const TRY_FOR: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How long no other one is tried then.
const PAUSE: Duration = Duration::from_secs(5);

/// Where the dead letters of a subscription go.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    /// The full subject.
    pub(super) subject: Subject,
    /// The stream to make where none stores that subject.
    stream: StreamConfig,
    /// No stream answered lately: until when none is tried, and why.
    unheard: Arc<Mutex<Option<(Instant, Error)>>>,
}

impl DeadLetters {
    /// Those of the durable consumer `name`: to `topic`, or to a topic of its own. A prefix is put
    /// before topics and, as a word of its own, before the stream's name.
    pub(super) fn of(name: &str, topic: Option<&str>, prefix: &str) -> Self {
        let subject = match topic {
            Some(topic) => [prefix, topic].concat(),
            None => format!("{prefix}{ROOT}.{name}"),
        };
        let root = format!("{prefix}{ROOT}.");
        let stores = if subject.starts_with(&root) { root + ">" } else { subject.clone() };
        let stream = StreamConfig::new(stream_name(prefix), [stores])
            .description("dead letters of durable subscriptions")
            .duplicate_window(DUPLICATE_WINDOW);
        DeadLetters { subject: subject.into(), stream, unheard: Arc::default() }
    }

    /// Makes the stream for them like the one that they come from, unless there is one.
    pub(super) async fn ensure(
        &mut self,
        streams: &dyn Streams,
        source: &str,
        deadline: Instant,
    ) -> Result<()> {
        if streams.stream_of(&self.subject, deadline).await?.is_some() {
            return Ok(());
        }
        if let Some(StreamStatus { config, .. }) = streams.stream(source, deadline).await? {
            (self.stream.replicas, self.stream.storage) = (config.replicas, config.storage);
        }
        let made = streams.create_stream(&self.stream, deadline).await;
        let Err(error) = made else { return Ok(()) };
        // Another member may have made it just now.
        if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict) {
            if streams.stream_of(&self.subject, deadline).await?.is_some() {
                return Ok(());
            }
            let message = "no stream stores the dead letters, and the one to make for them has the \
                           name or subjects of another; make a stream with this subject, or choose \
                           another one by .dead_letters(topic)";
            return Err(Error::new(ErrorKind::AlreadyExists, message)
                .with("subject", self.subject.as_str())
                .with("stream", self.stream.name.as_str())
                .with_source(error));
        }
        Err(error.with("subject", self.subject.as_str()))
    }

    /// Stores a message that was delivered so often as a dead letter, once however often it is tried.
    /// Done when a stream has it. What a stream refuses is not tried again here, and neither is
    /// anything soon after no stream has answered. `stopping` ends the waits between tries.
    pub(super) async fn store(
        &self,
        handle: &PubSub,
        letter: &Delivered,
        (cause, deliveries): (&str, u64),
        stopping: impl Future<Output = ()>,
    ) -> Result<()> {
        let core = handle.core();
        let message = self.letter(letter, cause, deliveries);
        let size = message.payload.len() + message.headers.as_ref().map_or(0, wire_size);
        check_size(core.driver.capabilities().max_payload, size)?;
        if let Some((until, error)) = &*self.unheard()
            && Instant::now() < *until
        {
            return Err(error.again());
        }
        let (mut wait, mut stopping) = (FIRST_WAIT, pin!(stopping));
        let deadline = after(core.timeout.min(TRY_FOR));
        loop {
            let tried = core.driver.publish_acked(message.clone(), deadline).await;
            let Err(error) = tried else {
                *self.unheard() = None;
                return Ok(());
            };
            if !error.is_retryable() || is_answer(&error) {
                return Err(error);
            }
            if error.is_no_responders()
                && let Some(streams) = core.driver.streams()
                && let Err(error) =
                    self.clone().ensure(streams, letter.info.stream(), deadline).await
                && (is_answer(&error) || !error.is_retryable())
            {
                return Err(self.give_up(error));
            }
            if Instant::now() + wait >= deadline {
                return Err(self.give_up(error));
            }
            match select(stopping.as_mut(), pin!(sleep(wait))).await {
                Either::Left(_) => return Err(error),
                Either::Right(_) => wait *= 2,
            }
        }
    }

    /// No stream answers: others wait before they try it, too.
    fn give_up(&self, error: Error) -> Error {
        *self.unheard() = Some((after(PAUSE), error.again()));
        error
    }

    fn unheard(&self) -> MutexGuard<'_, Option<(Instant, Error)>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn letter(&self, letter: &Delivered, cause: &str, deliveries: u64) -> OutboundMessage {
        let Delivered { message, info, .. } = letter;
        let mut headers = message.headers.as_ref().map(of_the_user).unwrap_or_default();
        let id = message.headers.as_ref().and_then(|headers| headers.get(NATS_MESSAGE_ID));
        let stored = info.stored().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (stream, sequence, consumer) = (info.stream(), info.sequence(), info.consumer());
        set(&mut headers, CAUSE, &one_line(cause));
        set(&mut headers, DELIVERIES, &deliveries.to_string());
        set(&mut headers, SUBJECT, &message.subject);
        set(&mut headers, STREAM, stream);
        set(&mut headers, SEQUENCE, &sequence.to_string());
        set(&mut headers, CONSUMER, consumer);
        set(&mut headers, TIME, &humantime::format_rfc3339_nanos(info.stored()).to_string());
        if let Some(id) = id {
            headers.insert(MESSAGE_ID, id.clone());
        }
        // A stream that was made anew gives the same sequences again, at other times.
        let id = format!("{stream}:{sequence}:{}:{consumer}", stored.as_nanos());
        set(&mut headers, NATS_MESSAGE_ID, &id);
        let (subject, payload) = (self.subject.clone(), message.payload.clone());
        OutboundMessage { subject, reply: None, payload, headers: Some(headers) }
    }
}

/// Whether a stream, or the server for it, has answered: with a number, or with the stream's name.
fn is_answer(error: &Error) -> bool {
    error.context("err_code").is_some() || error.context("stream").is_some()
}

/// Sets a header whose value has no line end.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, value);
}

/// `DEAD_LETTERS`, behind the prefix in capitals.
fn stream_name(prefix: &str) -> String {
    let words = prefix.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name: String = words.map(|word| word.to_ascii_uppercase() + "_").collect();
    name.push_str(STREAM_NAME);
    name
}

/// The text as one line that a header can hold.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_CAUSE {
        let end = (0..=MAX_CAUSE - 3).rev().find(|&end| line.is_char_boundary(end));
        line.truncate(end.unwrap_or_default());
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_named_after_the_prefix() {
        for (prefix, name) in [
            ("", "DEAD_LETTERS"),
            ("app.", "APP_DEAD_LETTERS"),
            ("my-app.eu.", "MY_APP_EU_DEAD_LETTERS"),
            ("é", "DEAD_LETTERS"),
        ] {
            assert_eq!(stream_name(prefix), name);
        }
        let own = DeadLetters::of("billing", None, "app.");
        assert_eq!(own.subject.as_str(), "app.dead.billing");
        assert_eq!(own.stream.subjects(), ["app.dead.>"]);
        let below = DeadLetters::of("billing", Some("dead.all"), "");
        assert_eq!(
            (below.subject.as_str(), below.stream.subjects()),
            ("dead.all", &["dead.>".to_owned()][..])
        );
        let chosen = DeadLetters::of("billing", Some("failed.orders"), "app.");
        assert_eq!(chosen.subject.as_str(), "app.failed.orders");
        assert_eq!(chosen.stream.subjects(), ["app.failed.orders"]);
    }

    #[test]
    fn a_cause_is_one_short_line() {
        assert_eq!(one_line(" a\r\nb\tc\n"), "a  b c");
        let long = one_line(&"é".repeat(2_000));
        assert!(long.len() <= MAX_CAUSE && long.ends_with("é..."), "{} bytes", long.len());
        assert_eq!(one_line(&"x".repeat(MAX_CAUSE)).len(), MAX_CAUSE);
    }
}
