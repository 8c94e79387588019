//! The inbox of a member and the pulls that are open for it. At the first doubt it is given up; its
//! owner leaves the inbox without losing what is under way, and opens another one.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::message::OutboundMessage;
use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use super::known::{Consumer, Limits};
use crate::connector::leave::Control;
use crate::connector::status::Denied;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream::{Position, nanos};
use crate::pubsub::driver::{Delivery, InboundMessage};

/// How long one pull may wait for messages.
const PULL: Duration = Duration::from_secs(30);
/// How often the server says that it is there while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Without a word for so long, with a pull open, something is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// The most bytes that one pull brings, unless a single message is larger.
const PULL_BYTES: usize = 8 * 1024 * 1024;
/// How often it is asked how far all members are.
const REFRESH: Duration = Duration::from_secs(10);

/// Why nothing more will come of a feed.
#[derive(Debug)]
pub(super) enum Lost {
    /// To be begun anew.
    Doubt(Error),
    /// The server asks its clients to go to another one.
    Moving,
    /// What the server does not permit.
    Refused(Error),
    /// The connection has ended for good.
    Closed,
}

pub(super) struct Feed {
    consumer: Arc<Consumer>,
    control: Arc<Control>,
    subscriber: Subscriber,
    inbox: String,
    pull_subject: Subject,
    limits: Limits,
    /// The most messages that it may have under way, whatever room there is.
    most: usize,
    /// The connection that it was opened on.
    connection: u64,
    /// Messages and words taken off the subscriber.
    taken: u64,
    /// How many messages are asked for and were not taken yet.
    open: usize,
    pulls: u64,
    max_bytes: usize,
    /// A pull that the connection did not take at once.
    sending: Option<BoxFuture<'static, Result<()>>>,
    /// The server said something since the last look at the clock.
    heard: bool,
    /// It ever said something.
    pub(super) lively: bool,
    last_word: Instant,
    silence: Pin<Box<Sleep>>,
    refresh: Option<BoxFuture<'static, ()>>,
    refreshed: Instant,
    /// What was taken when that was asked last.
    told: u64,
}

impl Feed {
    /// Subscribes to an inbox of its own.
    pub(super) async fn open(consumer: &Arc<Consumer>, deadline: Instant) -> Result<Box<Self>> {
        let link = &consumer.link;
        link.connected(deadline).await?;
        let connection = link.connects();
        let inbox = link.requests().feed();
        let subject = format!("{inbox}.*");
        let pull_subject = consumer.pull_subject();
        let refusal = Denied::subscription(&subject, None);
        let subscribed = within(deadline, link.client().subscribe(subject)).await;
        let subscriber = match subscribed {
            Ok(Ok(subscriber)) => subscriber,
            Ok(Err(error)) => return Err(Error::new(ErrorKind::Unavailable, error.to_string())),
            Err(_) => return Err(Error::new(ErrorKind::Timeout, "the connection takes no more")),
        };
        let mut refusals = vec![Denied::publishing(&pull_subject), refusal.clone()];
        refusals.extend(consumer.ack_subjects().map(|subject| Denied::publishing(&subject)));
        let mut feed = Box::new(Feed {
            control: link.sources().add(refusals),
            subscriber,
            inbox,
            pull_subject,
            limits: Limits::default(),
            most: 1,
            connection,
            taken: 0,
            open: 0,
            pulls: 0,
            max_bytes: PULL_BYTES.max(2 * link.client().max_payload()),
            sending: None,
            heard: false,
            lively: false,
            last_word: Instant::now(),
            silence: Box::pin(sleep_until(after(SILENCE))),
            refresh: None,
            refreshed: Instant::now(),
            told: 0,
            consumer: consumer.clone(),
        });
        feed.set_limits();
        consumer.try_to_settle(deadline).await?;
        let control = feed.control.clone();
        match link.refusal(deadline, |denied| control.is_mine(denied)).await? {
            Some(denied) => Err(denied.error()),
            None => Ok(feed),
        }
    }

    /// The next message; an error when nothing more will come.
    pub(super) fn poll_next(
        &mut self,
        room: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Delivery, Lost>> {
        self.check_calls()?;
        loop {
            self.poll_pull(room, cx)?;
            let Poll::Ready(message) = self.subscriber.poll_next_unpin(cx) else { break };
            let Some(message) = message else { return Poll::Ready(Err(Lost::Closed)) };
            self.taken += 1;
            self.heard = true;
            match read(message) {
                Ok(delivery) => {
                    self.open = self.open.saturating_sub(1);
                    return Poll::Ready(Ok(delivery));
                }
                Err(word) => self.read_word(&word)?,
            }
        }
        // Nothing has arrived: time to look around.
        self.check_connection()?;
        self.poll_silence(cx)?;
        self.poll_refresh(cx);
        self.control.waker.register(cx.waker());
        self.check_calls()?;
        Poll::Pending
    }

    /// What others want of it.
    fn check_calls(&self) -> Result<(), Lost> {
        if self.control.moving.load(Ordering::Acquire) {
            return Err(Lost::Moving);
        }
        if self.control.refused.load(Ordering::Acquire) {
            let status = self.consumer.link.status();
            return Err(Lost::Refused(self.control.take_refusal(status)));
        }
        Ok(())
    }

    fn check_connection(&self) -> Result<(), Lost> {
        let link = &self.consumer.link;
        if link.is_open() && link.connects() == self.connection {
            return Ok(());
        }
        Err(doubt("the connection was lost"))
    }

    /// Asks for messages when half of those that there is room for have come, so that the next ones
    /// are on their way before the last one is there.
    fn poll_pull(&mut self, room: usize, cx: &mut Context<'_>) -> Result<(), Lost> {
        if let Some(sending) = &mut self.sending {
            match sending.poll_unpin(cx) {
                Poll::Ready(sent) => {
                    self.sending = None;
                    sent.map_err(Lost::Doubt)?;
                }
                Poll::Pending => return Ok(()),
            }
        }
        let window = room.min(self.most);
        if window == 0 || self.open > window / 2 {
            return Ok(());
        }
        self.pull(window - self.open);
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll_unpin(cx)
        {
            self.sending = None;
            sent.map_err(Lost::Doubt)?;
        }
        Ok(())
    }

    #[cold]
    fn pull(&mut self, wanted: usize) {
        let link = &self.consumer.link;
        let batch = wanted.min(self.limits.batch.unwrap_or(usize::MAX));
        let expires = self.limits.expires.map_or(PULL, |longest| longest.min(PULL));
        let mut request = json!({
            "batch": batch,
            "expires": nanos(expires),
            "idle_heartbeat": nanos(HEARTBEAT.min(expires / 2)),
        });
        if let Some(bytes) = self.bytes_of(batch) {
            request["max_bytes"] = json!(bytes);
        }
        let now = Instant::now();
        if self.open == 0 {
            self.last_word = now;
        }
        self.open += batch;
        self.pulls += 1;
        let mut reply = String::with_capacity(self.inbox.len() + 24);
        let _ = write!(reply, "{}.{}-{batch}", self.inbox, self.pulls);
        let message = OutboundMessage {
            subject: self.pull_subject.clone(),
            reply: Some(reply.into()),
            payload: request.to_string().into(),
            headers: None,
        };
        let link = link.clone();
        self.sending = Some(async move { link.publish(message, after(SILENCE)).await }.boxed());
        self.refresh(now);
    }

    /// The limit of a pull in bytes, if its messages could be too large together.
    fn bytes_of(&self, batch: usize) -> Option<usize> {
        let limit = self.limits.bytes.unwrap_or(usize::MAX);
        let largest = self.consumer.link.client().max_payload();
        let bounded = batch.saturating_mul(largest) > self.max_bytes;
        (bounded || limit < usize::MAX).then_some(self.max_bytes.min(limit))
    }

    /// Asks how far all members are, now and then.
    fn refresh(&mut self, now: Instant) {
        if self.refresh.is_none() && now - self.refreshed > REFRESH {
            (self.refreshed, self.told) = (now, self.taken);
            let consumer = self.consumer.clone();
            self.refresh = Some(async move { consumer.refresh(after(REFRESH)).await }.boxed());
        }
    }

    fn poll_refresh(&mut self, cx: &mut Context<'_>) {
        if let Some(refresh) = &mut self.refresh
            && refresh.poll_unpin(cx).is_ready()
        {
            self.refresh = None;
            self.set_limits();
        }
    }

    /// Keeps to what the consumer allows. What does not fit into the subscription's channel is
    /// dropped, and the server's words need some of it as well.
    fn set_limits(&mut self) {
        self.limits = self.consumer.limits();
        let channel = self.consumer.link.settings().subscription_capacity() / 2;
        self.most = channel.min(self.limits.in_flight.unwrap_or(usize::MAX)).max(1);
    }

    /// The clock is read only when there is nothing else to do.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        if self.heard {
            (self.heard, self.lively) = (false, true);
            self.last_word = Instant::now();
        }
        while self.silence.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let mut end = now + SILENCE;
            if self.open > 0 {
                end = self.last_word + SILENCE;
                if now >= end {
                    return Err(doubt("the server is silent"));
                }
            }
            self.silence.as_mut().reset(end);
            if self.taken > self.told {
                self.refresh(now);
            }
        }
        Ok(())
    }

    /// What the server says in place of a message.
    fn read_word(&mut self, word: &Message) -> Result<(), Lost> {
        let Some(status) = word.status else {
            tracing::debug!("somebody else sent a message to the inbox of a consumer");
            return Ok(());
        };
        let asked: usize = word
            .subject
            .rsplit_once('-')
            .and_then(|(_, batch)| batch.parse().ok())
            .unwrap_or_default();
        let left = word.headers.as_ref().and_then(|all| all.get("Nats-Pending-Messages"));
        let left = left.and_then(|left| left.as_str().parse().ok()).unwrap_or(asked);
        let said = word.description.as_deref().unwrap_or_default();
        match status.as_u16() {
            100 => {}
            404 | 408 => self.open = self.open.saturating_sub(left),
            409 if said.contains("Batch Completed") => {
                self.open = self.open.saturating_sub(left);
            }
            409 if said.contains("Exceeds MaxBytes") => {
                self.open = self.open.saturating_sub(left);
                if left == asked {
                    self.take_larger()?;
                }
            }
            503 => return Err(doubt("the consumer does not answer")),
            status => {
                let error = Error::new(ErrorKind::Unavailable, "the server ends the pull");
                return Err(Lost::Doubt(error.with("status", format!("{status} {said}"))));
            }
        }
        Ok(())
    }

    /// Nothing came though there is something: a message that is larger than the limit.
    fn take_larger(&mut self) -> Result<(), Lost> {
        let most = self.limits.bytes.unwrap_or(i32::MAX as usize);
        if self.max_bytes >= most {
            return Err(doubt("the next message is larger than the consumer allows (max_bytes)"));
        }
        self.max_bytes = self.max_bytes.saturating_mul(2).min(most);
        Ok(())
    }

    /// Leaves the inbox: all that was under way to it. An error says that more was.
    pub(super) async fn leave(
        mut self: Box<Self>,
        deadline: Instant,
    ) -> (VecDeque<Message>, Result<()>) {
        (self.sending, self.refresh) = (None, None);
        let mut rest = VecDeque::new();
        let link = self.consumer.link.clone();
        let left = link.leave(&mut self.subscriber, self.taken, &mut rest, deadline).await;
        self.take(&mut rest);
        self.control.moving.store(false, Ordering::Release);
        (rest, left)
    }

    /// Takes what has arrived.
    pub(super) fn take(&mut self, rest: &mut VecDeque<Message>) {
        // Whatever the task's share of time: with that used up, a full channel would look empty.
        while let Some(Some(message)) = unconstrained(self.subscriber.next()).now_or_never() {
            self.taken += 1;
            rest.push_back(message);
        }
    }

    pub(super) async fn close(mut self: Box<Self>, deadline: Instant) {
        let _ = within(deadline, self.subscriber.unsubscribe()).await;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.control.moving.store(false, Ordering::Release);
        self.consumer.link.sources().remove(&self.control);
    }
}

impl Consumer {
    pub(super) fn pull_subject(&self) -> Subject {
        let (stream, name) = (&self.config.stream, &self.config.name);
        self.link.js_subject(&format!("CONSUMER.MSG.NEXT.{stream}.{name}"))
    }

    /// Says a word about a message that never is, which shows whether this user may settle any: else
    /// all would be handled over and over. Where the API is another one's, that shows later.
    async fn try_to_settle(&self, deadline: Instant) -> Result<()> {
        if self.link.js_put_prefix().is_some() {
            return Ok(());
        }
        let (stream, name) = (&self.config.stream, &self.config.name);
        let message = OutboundMessage {
            subject: format!("$JS.ACK.{stream}.{name}.0.0.0.0.0").into(),
            reply: None,
            payload: Bytes::from_static(b"+WPI"),
            headers: None,
        };
        self.link.publish(message, deadline).await
    }

    /// Where its messages are settled: one form or the other, as the server is set.
    fn ack_subjects(&self) -> impl Iterator<Item = String> {
        let (stream, name) = (&self.config.stream, &self.config.name);
        ["", "*.*."].into_iter().map(move |begin| format!("$JS.ACK.{begin}{stream}.{name}.>"))
    }
}

/// A message of the stream; what is none comes back. A stored message can look like the server's
/// own words, but for where it is to be acknowledged.
#[inline]
pub(super) fn read(message: Message) -> Result<Delivery, Box<Message>> {
    let position = message.reply.as_deref().and_then(Position::read);
    let (Some(position), true) = (position, message.reply.is_some()) else {
        return Err(Box::new(message));
    };
    let Message { subject, reply, payload, headers, .. } = message;
    Ok(Delivery {
        message: InboundMessage { subject, reply: None, headers, payload },
        receipt: reply.unwrap_or_else(|| Subject::from_static("")),
        sequence: position.stream,
        deliveries: position.deliveries,
        stored: position.stored(),
        pending: position.pending,
    })
}

fn doubt(cause: &'static str) -> Lost {
    Lost::Doubt(Error::new(ErrorKind::Unavailable, cause))
}
