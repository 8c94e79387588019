//! An ordered consumer: a stream's messages in their order, pulled in bounded batches. At the first
//! doubt it is given up; its owner makes another one behind the last message.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, Subject, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, sleep_until};

use crate::connector::Link;
use crate::connector::status::Denied;
use crate::deadline::{after, within};
use crate::error::{Error, ErrorKind, Result};
use crate::jetstream;
use crate::jetstream::Position;

/// How long one try to make a consumer may take at first.
pub(crate) const TRY: Duration = Duration::from_secs(5);
/// The most messages that wait in memory.
const BATCH: usize = 16_384;
/// The most bytes that wait in memory, unless a single message is larger.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long one pull may wait for messages.
const PULL: Duration = Duration::from_secs(30);
/// How often the server says that it is there while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Without a word for so long, the consumer is taken to be lost.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the server keeps a consumer that nobody pulls from.
const INACTIVE: Duration = Duration::from_secs(15);
/// How long a message may have waited at the server without being missed: half the least lifetime of
/// a marker.
const FRESH: Duration = Duration::from_millis(500);

/// Where a consumer begins.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Start {
    /// With the last message of each subject.
    Last,
    /// With the first message.
    First,
    /// Behind this sequence of the stream.
    After(u64),
}

/// A message of the stream.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) subject: Subject,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
    /// By the stream.
    pub(crate) sequence: u64,
    /// By the server's clock.
    pub(crate) stored: Option<SystemTime>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Delivered),
    /// All that there was has been given. Told once, until the next message.
    CaughtUp,
    /// Nothing more will come of this consumer.
    Lost(Error),
}

#[derive(Debug)]
pub(crate) struct Consumer {
    link: Arc<Link>,
    stream: String,
    name: String,
    inbox: String,
    answers: Subscriber,
    changes: watch::Receiver<u64>,
    /// The connection that it was made on.
    connection: u64,
    /// It is for as long as the connector lives, and ends when that is drained.
    ends_with_drain: bool,
    /// The number of the pull that is open.
    pull: u64,
    /// How many messages it may still bring.
    open: usize,
    max_bytes: usize,
    /// Whether anything came of this pull.
    came: bool,
    /// The number of the last message, by the consumer.
    sequence: u64,
    /// How many messages were still to come then.
    pending: u64,
    told_caught_up: bool,
    /// When nothing waited at the server, as far as is known.
    fresh: Instant,
    /// Messages have waited at the server for so long that markers among them may have vanished.
    pub(crate) behind: bool,
}

impl Consumer {
    /// Makes a consumer of the messages with these subjects. It is asked for again, under another
    /// name, when no answer comes: a server that ends takes with it what it was asked, and a consumer
    /// that was given to that one server never answers.
    pub(crate) async fn create(
        link: &Arc<Link>,
        stream: &str,
        subjects: &[String],
        start: Start,
        headers_only: bool,
        deadline: Instant,
    ) -> Result<Self> {
        let mut patience = TRY;
        loop {
            let turn = deadline.min(after(patience));
            match Self::create_once(link, stream, subjects, start, headers_only, turn).await {
                // A large stream may need longer.
                Err(_) if turn < deadline && turn <= Instant::now() => patience *= 2,
                made => return made,
            }
        }
    }

    async fn create_once(
        link: &Arc<Link>,
        stream: &str,
        subjects: &[String],
        start: Start,
        headers_only: bool,
        deadline: Instant,
    ) -> Result<Self> {
        link.ready(deadline).await?;
        let changes = link.status().changes();
        let connection = link.connects();
        let inbox = link.requests().feed();
        let subscribed = within(deadline, link.client().subscribe(format!("{inbox}.*"))).await;
        let answers = match subscribed {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => return Err(Error::new(ErrorKind::Unavailable, error.to_string())),
            Err(_) => {
                return Err(Error::new(ErrorKind::Timeout, "the connection takes no more"));
            }
        };
        let name = format!("feed-{:016x}", rand::random::<u64>());
        let mut config = json!({
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": headers_only,
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": nanos(INACTIVE),
            "deliver_policy": match start {
                Start::Last => "last_per_subject",
                Start::First => "all",
                Start::After(_) => "by_start_sequence",
            },
        });
        if let Start::After(sequence) = start {
            config["opt_start_seq"] = json!(sequence + 1);
        }
        let pending =
            jetstream::create_consumer(link, stream, &name, subjects, config, deadline).await?;
        Ok(Consumer {
            link: link.clone(),
            stream: stream.to_owned(),
            name,
            inbox,
            answers,
            changes,
            connection,
            ends_with_drain: false,
            pull: 0,
            open: 0,
            max_bytes: BATCH_BYTES,
            came: true,
            sequence: 0,
            pending,
            told_caught_up: false,
            fresh: Instant::now(),
            behind: false,
        })
    }

    /// Begins to read for as long as the connector lives. Asks for messages, and for refusals of
    /// that: the server tells them as events.
    pub(crate) async fn stay(&mut self, deadline: Instant) -> Result<()> {
        self.ends_with_drain = true;
        self.pull(deadline).await?;
        match self.link.refusal(deadline, |denied| self.is_mine(denied)).await? {
            Some(denied) => Err(denied.error()),
            None => Ok(()),
        }
    }

    /// Asks for fewer bytes at a time, where no more will be read; at least one message.
    pub(crate) fn limit_bytes(&mut self, bytes: usize) {
        self.max_bytes = bytes.clamp(1024, BATCH_BYTES);
    }

    /// Whether all that there was has been given.
    pub(crate) fn has_ended(&self) -> bool {
        self.pending == 0
    }

    /// The next message, or what there is to say in its place. It waits for as long as it takes, and
    /// can be dropped while it does.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            if self.open == 0
                && let Err(error) = self.pull(after(SILENCE)).await
            {
                return Next::Lost(error);
            }
            let answer = match unconstrained(self.answers.next()).now_or_never() {
                Some(answer) => answer,
                None if self.pending == 0 && !self.told_caught_up => {
                    self.told_caught_up = true;
                    return Next::CaughtUp;
                }
                None => match self.wait().await {
                    Ok(answer) => answer,
                    Err(lost) => return Next::Lost(lost),
                },
            };
            let Some(answer) = answer else {
                return Next::Lost(lost("the subscription has ended"));
            };
            match self.read(answer) {
                Ok(Some(message)) => return Next::Message(message),
                Ok(None) => {}
                Err(lost) => return Next::Lost(lost),
            }
        }
    }

    async fn wait(&mut self) -> Result<Option<Message>> {
        self.note_fresh();
        let silence = sleep_until(Instant::now() + SILENCE);
        tokio::pin!(silence);
        loop {
            self.check_connection()?;
            tokio::select! {
                biased;
                answer = self.answers.next() => {
                    self.note_fresh();
                    return Ok(answer);
                }
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Err(lost("the connection has ended"));
                    }
                    self.check_permitted()?;
                }
                () = &mut silence => {
                    self.check_permitted()?;
                    return Err(lost("the server is silent"));
                }
            }
        }
    }

    /// With a pull open and nothing to come, the server sends at once what there will be.
    fn note_fresh(&mut self) {
        if self.pending == 0 {
            self.fresh = Instant::now();
        }
    }

    fn check_connection(&self) -> Result<()> {
        let status = self.link.status();
        if status.is_closed() || (self.ends_with_drain && status.is_draining()) {
            return Err(lost("the connector ends"));
        }
        if !self.link.is_open() || self.link.connects() != self.connection {
            return Err(lost("the connection was lost"));
        }
        Ok(())
    }

    fn check_permitted(&self) -> Result<()> {
        let denied = self.link.status().take_denied(|denied| self.is_mine(denied));
        denied.map_or(Ok(()), |denied| Err(denied.error()))
    }

    fn is_mine(&self, denied: &Denied) -> bool {
        if denied.publish {
            denied.subject == self.pull_subject().as_str()
        } else {
            denied.subject.strip_suffix(".*") == Some(self.inbox.as_str())
        }
    }

    fn pull_subject(&self) -> Subject {
        self.link.js_subject(&format!("CONSUMER.MSG.NEXT.{}.{}", self.stream, self.name))
    }

    async fn pull(&mut self, deadline: Instant) -> Result<()> {
        self.check_connection()?;
        if self.fresh.elapsed() > FRESH {
            self.behind = true;
        }
        if !self.came {
            // Nothing came though there is something: a message that is larger than the limit.
            self.max_bytes = self.max_bytes.saturating_mul(2).min(i32::MAX as usize);
        }
        self.pull += 1;
        let batch = BATCH.min(self.link.settings().subscription_capacity() / 2).max(1);
        let request = json!({
            "batch": batch,
            "max_bytes": self.max_bytes,
            "expires": nanos(PULL),
            "idle_heartbeat": nanos(HEARTBEAT),
        });
        let message = OutboundMessage {
            subject: self.pull_subject(),
            reply: Some(format!("{}.{}", self.inbox, self.pull).into()),
            payload: request.to_string().into(),
            headers: None,
        };
        self.link.publish(message, deadline).await?;
        (self.open, self.came) = (batch, false);
        Ok(())
    }

    fn read(&mut self, message: Message) -> Result<Option<Delivered>> {
        if let Some(status) = message.status {
            return self.read_status(status.as_u16(), &message).map(|()| None);
        }
        let reply = message.reply.as_deref().unwrap_or_default();
        let position = Position::read(reply).ok_or_else(|| lost("a message without a place"))?;
        if position.consumer != self.sequence + 1 {
            return Err(lost("messages are missing"));
        }
        self.sequence = position.consumer;
        self.pending = position.pending;
        self.open = self.open.saturating_sub(1);
        self.came = true;
        self.told_caught_up = false;
        Ok(Some(Delivered {
            subject: message.subject,
            headers: message.headers,
            payload: message.payload,
            sequence: position.stream,
            stored: Some(position.stored()),
        }))
    }

    fn read_status(&mut self, status: u16, message: &Message) -> Result<()> {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        if number != Some(self.pull) {
            return Ok(());
        }
        let said = message.description.as_deref().unwrap_or_default();
        match status {
            100 => {
                let last = message.headers.as_ref().and_then(|all| all.get("Nats-Last-Consumer"));
                let last = last.and_then(|last| last.as_str().parse().ok());
                if last.is_some_and(|last: u64| last > self.sequence) {
                    return Err(lost("messages are missing"));
                }
                // It comes while there is nothing to send.
                self.pending = 0;
            }
            408 => {
                self.came = true;
                self.open = 0;
            }
            409 if said.contains("MaxBytes") || said.contains("Batch Completed") => self.open = 0,
            503 => return Err(lost("the consumer is gone")),
            _ => {
                return Err(
                    lost("the consumer has ended").with("status", format!("{status} {said}"))
                );
            }
        }
        Ok(())
    }
}

impl Drop for Consumer {
    /// Tells the server that it is no longer needed, unless that takes waiting: it then goes when it
    /// has been inactive.
    fn drop(&mut self) {
        if !self.link.is_open() {
            return;
        }
        let call = format!("CONSUMER.DELETE.{}.{}", self.stream, self.name);
        let subject = self.link.js_subject(&call);
        // An answer that nobody takes: the server does nothing without one being asked for.
        let reply = Some(self.link.requests().nobody());
        let message = OutboundMessage { subject, reply, payload: Bytes::new(), headers: None };
        let _ = self.link.publish(message, Instant::now()).now_or_never();
    }
}

fn lost(cause: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, cause)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
