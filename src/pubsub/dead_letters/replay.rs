//! Publishing dead letters again.

use std::time::Duration;

use async_nats::Subject;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::letter::DeadLetter;
use super::walk::Walk;
use super::{DeadLetters, Place};
use crate::call::{Call, Operation};
use crate::deadline::after;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::OutboundMessage;
use crate::pubsub::publish_acked::store;
use crate::pubsub::subject::check_publish;
use crate::pubsub::{Ack, IntoTopic};

/// Failures after which a replay of all gives up: the next ones would fail as well.
const MAX_FAILURES: usize = 100;

/// Replaying one dead letter, made by [`DeadLetters::replay`].
#[derive(Debug)]
pub struct Replay {
    letters: DeadLetters,
    sequence: u64,
    to: Option<Subject>,
}

/// Replaying dead letters, made by [`DeadLetters::replay_all`].
#[derive(Debug)]
pub struct ReplayAll {
    letters: DeadLetters,
    to: Option<Subject>,
}

/// What became of dead letters that were to be replayed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ReplayReport {
    /// How many were stored again and taken out of the dead letters.
    pub replayed: u64,
    /// Those that could not be, which are still dead letters.
    pub failed: Vec<ReplayFailure>,
    /// It gave up after 100 failures; those behind the last one were not tried.
    pub gave_up: bool,
}

/// A dead letter that could not be replayed.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReplayFailure {
    /// Its sequence in the dead-letter stream.
    pub sequence: u64,
    /// Why.
    pub error: Error,
}

impl Replay {
    pub(super) fn new(letters: DeadLetters, sequence: u64) -> Self {
        Replay { letters, sequence, to: None }
    }

    async fn run(self, timeout: Option<Duration>) -> Result<Option<Ack>> {
        let letters = self.letters.bound()?;
        let deadline = after(timeout.unwrap_or(letters.timeout()));
        let to = destination(&letters, self.to.as_ref())?;
        let place = letters.place(deadline).await?;
        let Some(letter) = letters.find(&place, self.sequence, deadline).await? else {
            return Ok(None);
        };
        let (ack, _) = replay(&place, &letter, to.as_ref(), deadline).await?;
        Ok(Some(ack))
    }
}

/// Options of replaying one dead letter.
impl Call<Replay> {
    /// Publishes it to this topic instead of the one that it came from, for example one that a
    /// repaired handler subscribes to.
    pub fn to(self, topic: impl IntoTopic) -> Self {
        self.map_operation(|replay| replay.to = Some(topic.into_topic()))
    }
}

impl Operation for Replay {
    type Output = Result<Option<Ack>>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let (durable, sequence) = (self.letters.durable.clone(), self.sequence.to_string());
        Box::pin(async move {
            self.run(timeout).await.map_err(|error| {
                let error = error.operation("replay a dead letter");
                error.with("durable", durable).with("sequence", sequence)
            })
        })
    }
}

impl ReplayAll {
    pub(super) fn new(letters: DeadLetters) -> Self {
        ReplayAll { letters, to: None }
    }

    async fn run(self, timeout: Option<Duration>) -> Result<ReplayReport> {
        let letters = self.letters.bound()?;
        let next = letters.clock(timeout);
        let to = destination(&letters, self.to.as_ref())?;
        let mut walk = Walk::begin(letters, next()).await?;
        let mut report = ReplayReport::default();
        loop {
            let done = report.replayed;
            let ended = |error: Error| error.with("replayed", done.to_string());
            let Some(letter) = walk.next(next()).await.map_err(ended)? else { return Ok(report) };
            match replay(walk.place(), &letter, to.as_ref(), next()).await {
                Ok((_, true)) => report.replayed += 1,
                // Somebody else has replayed it just now.
                Ok((_, false)) => {}
                Err(error) if is_outage(&error) => return Err(ended(error)),
                Err(error) => {
                    report.failed.push(ReplayFailure { sequence: letter.sequence(), error });
                    if report.failed.len() == MAX_FAILURES {
                        report.gave_up = true;
                        return Ok(report);
                    }
                }
            }
        }
    }
}

/// Options of replaying dead letters.
impl Call<ReplayAll> {
    /// Publishes them to this topic instead of those that they came from.
    pub fn to(self, topic: impl IntoTopic) -> Self {
        self.map_operation(|replay| replay.to = Some(topic.into_topic()))
    }
}

impl Operation for ReplayAll {
    type Output = Result<ReplayReport>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Self::Output> {
        let durable = self.letters.durable.clone();
        Box::pin(async move {
            let replayed = self.run(timeout).await;
            replayed
                .map_err(|error| error.operation("replay dead letters").with("durable", durable))
        })
    }
}

/// The full subject to replay to, if it is another one.
fn destination(letters: &DeadLetters, to: Option<&Subject>) -> Result<Option<Subject>> {
    let Some(topic) = to else { return Ok(None) };
    let subject = letters.subject_of(topic);
    check_publish(&subject)?;
    Ok(Some(subject))
}

/// Publishes one again and then takes it out of the dead letters; whether it was this call that
/// brought it to its end.
///
/// In this order a crash in between leaves the dead letter. The message id is made from it, so what
/// was stored already is not stored again.
async fn replay(
    place: &Place,
    letter: &DeadLetter,
    to: Option<&Subject>,
    deadline: Instant,
) -> Result<(Ack, bool)> {
    let subject = to.unwrap_or(letter.subject()).clone();
    let mut headers = letter.headers().clone();
    headers.insert("Nats-Msg-Id", letter.replay_id(&place.stream, &subject));
    let payload = letter.payload().clone();
    let message = OutboundMessage { subject, reply: None, headers: Some(headers), payload };
    let topic = message.subject.clone();
    let ack = store(&place.handle, &message, true, deadline)
        .await
        .map_err(|error| error.with("topic", topic.as_str()))?;
    let taken = place.delete(letter.sequence(), deadline).await?;
    let ours = taken || !ack.duplicate;
    Ok((ack, ours))
}

/// Whether an error is about the back end, and not about one message.
fn is_outage(error: &Error) -> bool {
    let of_all = matches!(error.kind(), ErrorKind::Closed | ErrorKind::Timeout);
    of_all || (error.kind() == ErrorKind::Unavailable && !error.is_no_responders())
}
