//! Publishing many messages: answers come to one inbox of the run and are known by their subjects,
//! so that a message costs neither a future nor a place in a map.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_nats::{Client, Message, Statistics, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::ingest::{Lanes, Route};
use super::{join, refused};
use crate::connector::capabilities::{ApiError, Feature};
use crate::connector::leave::Control;
use crate::connector::link::{Link, closed};
use crate::connector::status::Denied;
use crate::error::{Error, ErrorKind, Result};
use crate::pubsub::driver::{Acked, Answer, Fate, OutboundMessage, Pipeline, PipelineConfig};

/// How long a pipeline that has left a server waits for the next one at most.
const MOVE_AT_MOST: Duration = Duration::from_secs(20);
/// A batch that could not be ended for so long has ended by itself.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A pipeline for a run of its own, which a connector that drains does not begin.
pub(super) async fn open(
    link: &Arc<Link>,
    config: PipelineConfig,
    deadline: Instant,
) -> Result<Option<Box<dyn Pipeline>>> {
    link.ready(deadline).await?;
    if link.status().is_draining() {
        return Err(closed());
    }
    open_always(link, config, deadline).await.map(Some)
}

/// A pipeline for what a handler does, also while the connector drains.
pub(crate) async fn open_always(
    link: &Arc<Link>,
    config: PipelineConfig,
    deadline: Instant,
) -> Result<Box<dyn Pipeline>> {
    link.ready(deadline).await?;
    let capacity = link.settings().subscription_capacity();
    if config.window > capacity {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "a window of {} is above NATS.SUBSCRIPTION_CAPACITY, which is {capacity}; answers \
                 would be dropped: give a smaller window or raise the setting",
                config.window
            ),
        ));
    }
    let fast = config.fast_ingest
        && match link.capabilities(deadline).await {
            Ok(can) => can.supports(Feature::FastIngest),
            Err(_) => false,
        };
    let inbox = link.requests().feed();
    let all = format!("{inbox}.>");
    let connection = link.connects();
    // Known before it is asked for, so that a refusal is not missed.
    let control = link.sources().add(vec![Denied::subscription(&all, None)]);
    let subscriber = match join(link, all.as_str().into(), None, deadline).await {
        Ok(subscriber) => subscriber,
        Err(error) => {
            link.sources().remove(&control);
            return Err(error);
        }
    };
    Ok(Box::new(Many {
        client: link.client().clone(),
        statistics: link.client().statistics(),
        control,
        lanes: Lanes::new(link.clone(), inbox.clone(), config.window, fast),
        link: link.clone(),
        connection,
        inbox,
        subscriber: Some(subscriber),
        runtime: Handle::current(),
        stream: "".into(),
        answers: VecDeque::new(),
        unanswered: 0,
        left: None,
    }))
}

struct Many {
    link: Arc<Link>,
    client: Client,
    statistics: Arc<Statistics>,
    /// The connection that everything unanswered was sent on.
    connection: u64,
    inbox: String,
    /// Until this is dropped.
    subscriber: Option<Subscriber>,
    runtime: Handle,
    control: Arc<Control>,
    lanes: Lanes,
    /// The stream of the last answer: mostly that of the next one.
    stream: Arc<str>,
    answers: VecDeque<Answer>,
    /// Messages sent with an answer of their own, which has not come.
    unanswered: usize,
    /// Left this connection's server, which shuts down, at this time.
    left: Option<(u64, Instant)>,
}

/// What a stream says to a message: an acknowledgement, an error, or a word about a fast batch.
#[derive(Debug, Deserialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) seq: u64,
    /// After how many messages of a batch the next acknowledgement comes.
    #[serde(default)]
    pub(super) msgs: u64,
    /// The last message that a batch that has ended took.
    pub(super) count: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    pub(super) error: Option<ApiError>,
}

/// What a stream's refusal means for its message.
pub(super) fn fate_of(error: &ApiError) -> Fate {
    match error.err_code {
        // An earlier sending of it is under way.
        10158 => Fate::Doubtful(refused(error)),
        // The stream is full; other faults of the store may come after the message was agreed on.
        10077 if error.description.contains("maximum") => Fate::Refused(refused(error)),
        10077 => Fate::Doubtful(refused(error)),
        _ if error.code == 503 => Fate::NotTaken(Some(refused(error))),
        _ => Fate::Refused(refused(error)),
    }
}

pub(super) fn no_responders(subject: &str) -> Error {
    Error::no_responders("no stream took the message").with("reply", subject)
}

impl Many {
    fn connects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Relaxed)
    }

    /// Why nothing can come or go any more.
    fn closed(&self) -> Option<Error> {
        if self.control.refused.load(Ordering::Acquire) {
            return Some(self.control.take_refusal(self.link.status()));
        }
        self.link.status().is_closed().then(|| self.link.no_answer())
    }

    /// Whether nothing may be sent since the server asked its clients to go. All that is under way is
    /// answered first.
    fn is_leaving(&mut self) -> bool {
        if self.control.moving.load(Ordering::Acquire) {
            if self.unanswered == 0 && self.lanes.are_idle() {
                self.left = Some((self.connection, Instant::now()));
                self.control.moving.store(false, Ordering::Release);
            } else {
                self.lanes.flush();
            }
            return true;
        }
        match self.left {
            Some((from, since)) if self.connects() == from && since.elapsed() < MOVE_AT_MOST => {
                true
            }
            Some(_) => {
                self.left = None;
                false
            }
            None => false,
        }
    }

    /// What the answer tells, if it is one that somebody waits for.
    fn take(&mut self, message: &Message) {
        let Some(rest) = message.subject.get(self.inbox.len() + 1..) else { return };
        let Ok(number) = rest.parse() else {
            self.lanes.take(rest, message, &mut self.answers);
            return;
        };
        self.unanswered = self.unanswered.saturating_sub(1);
        let fate = if message.status == Some(StatusCode::NO_RESPONDERS) {
            Fate::NotTaken(Some(no_responders(rest)))
        } else {
            self.fate(&message.payload)
        };
        self.answers.push_back(Answer::One(number, fate));
    }

    fn fate(&mut self, payload: &[u8]) -> Fate {
        match serde_json::from_slice::<Said<'_>>(payload) {
            Ok(Said { error: Some(error), .. }) => fate_of(&error),
            Ok(Said { stream: Some(stream), seq, duplicate, .. }) => {
                if *self.stream != *stream {
                    self.stream = stream.into();
                }
                Fate::Acked(Acked::new(self.stream.clone(), Some(seq), duplicate))
            }
            Ok(_) => {
                Fate::Refused(Error::new(ErrorKind::Other, "the acknowledgement names no stream"))
            }
            Err(error) => Fate::Refused(
                Error::new(
                    ErrorKind::Other,
                    "the answer is no acknowledgement: a plain subscriber of the subject answered \
                     instead of a stream",
                )
                .with_source(error),
            ),
        }
    }

    /// Hands a message to the client, which has said that it takes one.
    fn hand_over(&mut self, message: OutboundMessage) -> Result<()> {
        self.client.start_send_unpin(message).map_err(|error| self.link.publish_error(&error))
    }

    /// Sends what keeps fast batches going, and ends them.
    fn poll_lanes(&mut self, cx: &mut Context<'_>) {
        self.lanes.poll_questions(cx);
        self.give_orders(cx);
    }

    fn give_orders(&mut self, cx: &mut Context<'_>) {
        while self.lanes.has_orders() {
            if !self.link.is_open()
                || !matches!(self.client.poll_ready_unpin(cx), Poll::Ready(Ok(())))
            {
                return;
            }
            let Some(OutboundMessage { subject, reply, .. }) = self.lanes.next_order() else {
                return;
            };
            let message = OutboundMessage { subject, reply, payload: Bytes::new(), headers: None };
            if self.hand_over(message).is_err() {
                return;
            }
        }
    }

    /// Tells that what is under way was lost with its connection.
    fn notice_loss(&mut self) {
        let now = self.connects();
        if now == self.connection && self.link.is_open() {
            return;
        }
        self.connection = now;
        let lost = self.unanswered > 0 || !self.lanes.are_idle();
        self.unanswered = 0;
        self.lanes.drop_batches();
        if lost {
            self.answers.push_back(Answer::Lost(Error::new(
                ErrorKind::Unavailable,
                "the connection was lost before the acknowledgement came",
            )));
        }
    }
}

impl Pipeline for Many {
    fn poll_ready(&mut self, subject: &Subject, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(error) = self.closed() {
            return Poll::Ready(Err(error));
        }
        if !self.link.is_open() || self.connects() != self.connection || self.is_leaving() {
            return Poll::Pending;
        }
        if !self.lanes.is_ready(subject, cx) {
            return Poll::Pending;
        }
        let ready = ready!(self.client.poll_ready_unpin(cx));
        Poll::Ready(ready.map_err(|error| self.link.publish_error(&error)))
    }

    fn send(&mut self, number: u64, mut message: OutboundMessage) -> Result<()> {
        let reply = match self.lanes.route(&message.subject) {
            Route::Fast(lane) => self.lanes.add(lane, number, &message.subject),
            Route::Plain | Route::Unknown => {
                self.unanswered += 1;
                let mut reply = String::with_capacity(self.inbox.len() + 12);
                let _ = write!(reply, "{}.{number}", self.inbox);
                reply
            }
        };
        message.reply = Some(reply.into());
        self.hand_over(message)
    }

    fn flush(&mut self) {
        self.lanes.flush();
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Poll::Ready(answer);
            }
            // It ends with the connection; whoever sends next is told.
            if let Some(subscriber) = &mut self.subscriber
                && let Poll::Ready(Some(message)) = subscriber.poll_next_unpin(cx)
            {
                self.take(&message);
                continue;
            }
            self.notice_loss();
            self.poll_lanes(cx);
            if self.answers.is_empty() {
                self.control.waker.register(cx.waker());
                return Poll::Pending;
            }
        }
    }

    fn look(&mut self, waits: &dyn Fn(&str) -> bool) {
        if let Some(error) = self.closed() {
            self.answers.push_back(Answer::Closed(error));
            return;
        }
        self.is_leaving();
        self.lanes.look(Instant::now(), &mut self.answers);
        if !self.link.is_open() {
            // Sets right what a lost event left wrong.
            self.link.state();
        }
        // One subject after the other, so that all are told.
        loop {
            let first: RefCell<Option<String>> = RefCell::default();
            let is_first = |subject: &String| {
                first.borrow_mut().get_or_insert_with(|| subject.clone()) == subject
            };
            let denied = self.link.status().take_denied(|denied| {
                denied.publish && waits(&denied.subject) && is_first(&denied.subject)
            });
            let Some(denied) = denied else { return };
            self.lanes.refuse(&denied.subject);
            self.answers.push_back(Answer::Denied(denied.subject.as_str().into(), denied.error()));
        }
    }

    fn fast(&self) -> u64 {
        self.lanes.fast()
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        self.link.sources().remove(&self.control);
        // The server shares its pace among all open batches, and would wait ten seconds for more.
        self.lanes.end_all();
        let orders: Vec<_> = iter::from_fn(|| self.lanes.next_order()).collect();
        if orders.is_empty() || !self.link.is_open() {
            return;
        }
        // The client may not take anything just now: its room may be full, or the turn of the task
        // that is dropped used up. The answers are unsubscribed from behind the last order.
        let (mut client, subscriber) = (self.client.clone(), self.subscriber.take());
        self.runtime.spawn(timeout(END_WITHIN, async move {
            for order in orders {
                if client.send(order).await.is_err() {
                    break;
                }
            }
            drop(subscriber);
        }));
    }
}
