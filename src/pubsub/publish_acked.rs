//! Publishing that waits until a stream has stored the message, and retries where that is safe.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::PubSub;
use super::driver::OutboundMessage;
use super::nats::config::require_message_ttl;
use super::publish::Draft;
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Begun;

/// A stream's acknowledgement of one published message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// The stream that stored the message.
    pub stream: String,
    /// The message's sequence in that stream.
    pub sequence: u64,
    /// The stream had a message with this message id already and stored nothing.
    pub duplicate: bool,
}

impl Ack {
    /// An acknowledgement, as drivers give it.
    #[must_use]
    pub fn new(stream: impl Into<String>, sequence: u64, duplicate: bool) -> Self {
        Ack { stream: stream.into(), sequence, duplicate }
    }
}

/// Tries when no stream answers: one may just be electing a leader.
const TRIES: u32 = 3;
/// The wait between tries.
const RETRY_WAIT: Duration = Duration::from_millis(250);

/// Publishing into a stream, made by [`Publish::jetstream`](super::Publish::jetstream).
#[derive(Debug)]
pub struct PublishAcked {
    draft: Draft,
    message_id: bool,
    ttl: bool,
}

impl PublishAcked {
    pub(super) fn new(draft: Draft) -> Self {
        PublishAcked { draft, message_id: false, ttl: false }
    }

    pub(super) fn has_ttl(&self) -> bool {
        self.ttl
    }

    pub(super) fn into_draft(self) -> Draft {
        self.draft
    }
}

/// Options of an acknowledged publish.
///
/// Awaiting it gives the [`Ack`]. Errors beside those of
/// [`PubSub::publish`](super::PubSub::publish): `Unavailable` with
/// [`is_no_responders`](Error::is_no_responders) when no stream stores the topic (after 3 tries,
/// 250 ms apart: nothing was stored), `Conflict` when an expectation does not hold, `Timeout` when
/// no acknowledgement came (the message may be stored; with a message id the call has retried),
/// `Unsupported` where driver, server or stream cannot do what is asked.
impl Call<PublishAcked> {
    /// Lets the stream drop a message whose id it has seen within its duplicate window (2 minutes
    /// by default), and lets this call retry after a timeout. An empty id is refused: it would tell
    /// no message from another.
    pub fn message_id(self, id: impl AsRef<str>) -> Self {
        if id.as_ref().is_empty() {
            return self.map_operation(|publish| publish.draft.refuse(empty_id()));
        }
        self.set("Nats-Msg-Id", id.as_ref()).map_operation(|operation| operation.message_id = true)
    }

    /// Refuses unless the subject belongs to this stream.
    pub fn expect_stream(self, stream: impl AsRef<str>) -> Self {
        self.set("Nats-Expected-Stream", stream.as_ref())
    }

    /// Refuses unless the stream's last message has this sequence.
    pub fn expect_last_sequence(self, sequence: u64) -> Self {
        self.set("Nats-Expected-Last-Sequence", &sequence.to_string())
    }

    /// Refuses unless the stream's last message had this message id. On nats-server 2.15.1 a stream
    /// with several copies stops answering once this has failed; there
    /// [`expect_last_sequence`](Self::expect_last_sequence) is the safer one.
    pub fn expect_last_message_id(self, id: impl AsRef<str>) -> Self {
        self.set("Nats-Expected-Last-Msg-Id", id.as_ref())
    }

    /// Refuses unless the subject's last message has this sequence; 0: unless there is none.
    pub fn expect_last_subject_sequence(self, sequence: u64) -> Self {
        self.set("Nats-Expected-Last-Subject-Sequence", &sequence.to_string())
    }

    /// Lets the message expire: whole seconds, a fraction rounds up. Needs nats-server 2.11 and a
    /// stream that allows it
    /// ([`message_ttl`](crate::streams::StreamConfig::message_ttl)).
    pub fn ttl(self, ttl: Duration) -> Self {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        if seconds == 0 {
            let error = Error::new(
                ErrorKind::InvalidInput,
                "a TTL of zero; leave .ttl() out for a message that stays",
            );
            return self.map_operation(|publish| publish.draft.refuse(error));
        }
        self.set("Nats-TTL", &seconds.to_string()).map_operation(|publish| publish.ttl = true)
    }

    fn set(self, name: &'static str, value: &str) -> Self {
        self.map_operation(|publish| publish.draft.set(name, value))
    }
}

impl PublishAcked {
    async fn run(self, timeout: Option<Duration>) -> Result<Ack> {
        let topic = self.draft.topic().to_owned();
        let (handle, message, limit) = self.draft.finish(timeout)?;
        let deadline = after(limit);
        let acked = async {
            if self.ttl
                && let Some(nats) = &handle.core().nats
            {
                require_message_ttl(&*nats.link().capabilities(deadline).await?)?;
            }
            store(&handle, &message, self.message_id, deadline).await
        };
        acked.await.map_err(|error| error.with("topic", topic))
    }
}

/// Sends a message until it is stored, where another try cannot store it twice.
pub(super) async fn store(
    handle: &PubSub,
    message: &OutboundMessage,
    message_id: bool,
    deadline: Instant,
) -> Result<Ack> {
    let begun = Begun::now();
    let acked = send(handle, message, message_id, deadline).await;
    handle.core().metrics.acked(begun, &acked);
    acked
}

async fn send(
    handle: &PubSub,
    message: &OutboundMessage,
    message_id: bool,
    deadline: Instant,
) -> Result<Ack> {
    let share = deadline.saturating_duration_since(Instant::now()) / TRIES;
    let driver = &handle.core().driver;
    if !driver.capabilities().acked_publish {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the {} driver does not acknowledge messages", driver.name()),
        ));
    }
    let mut tries = 0;
    loop {
        tries += 1;
        // Only a message id makes a second try after a timeout safe.
        let try_until = if message_id { deadline.min(after(share)) } else { deadline };
        let error = match driver.publish_acked(message.clone(), try_until).await {
            Ok(ack) => return Ok(ack),
            Err(error) => error,
        };
        let again = error.is_no_responders()
            || (message_id && error.is_retryable() && !error.is_conflict());
        if !again || tries == TRIES || Instant::now() + RETRY_WAIT >= deadline {
            return Err(if error.is_no_responders() { no_stream() } else { error });
        }
        sleep(RETRY_WAIT).await;
    }
}

/// For a message id that would tell no message from another.
pub(super) fn empty_id() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "an empty message id, by which no duplicate is known; give one of its own to each message, \
         or leave it out",
    )
}

/// No stream stores a topic.
pub(super) fn no_stream() -> Error {
    Error::no_responders(
        "no stream stores this topic, or it has no leader now, or JetStream is off; create a \
         stream with this subject",
    )
}

impl Operation for PublishAcked {
    type Output = Result<Ack>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Ack>> {
        Box::pin(async move {
            self.run(timeout).await.map_err(|error| error.operation("publish to a stream"))
        })
    }
}
