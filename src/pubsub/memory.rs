//! A pub/sub driver in this process: NATS' core semantics and those of JetStream's streams without a
//! server, for tests and first steps.
//!
//! Of core NATS it models subjects with `*` and `>`, queue groups (one member each, at random, also
//! when members subscribe with overlapping patterns), one copy for each overlapping or duplicate
//! subscription, order per publisher and subject, no-responders told to a request at once and to the
//! reply subject of a plain publish, a payload limit of 1 MiB with headers, and a bounded buffer for each subscription that drops the newest
//! message when it is full, as a slow consumer.
//!
//! Of streams it models what is stored, acknowledged and refused: subjects, retention, the limits of
//! age, number and size with what a full stream does, message ids within the duplicate window,
//! expectations, lifetimes of messages, roll-ups, several messages together or not at all, and
//! schedules by `@at` and `@every`. An acknowledged publish that no stream stores reaches nobody.
//!
//! Of durable consumers it models filters, starts, members that share, redelivery after the ack wait
//! or when asked, and the most in flight. What was dealt to a member that ends, and that it did not
//! give, goes to the others at once and does not count as delivered. A deleted consumer is made again
//! by its members, also in a new stream of the same name.
//!
//! Its clock is Tokio's: where that is paused, ages, waits and schedules are too. All is gone when the
//! driver is closed or its last clone dropped. Storage and compression are kept and change nothing.
//!
//! It does not model what belongs to a server: connections and their loss, delays, accounts and
//! permissions, replicas, and the JetStream API on its subjects. It refuses fast ingest and schedules
//! by calendar.

mod clock;
mod consumer;
mod duplicates;
mod filter;
mod incoming;
mod log;
mod member;
mod options;
mod schedule;
mod seat;
mod store;
mod stream;
mod streams;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_nats::{HeaderMap, HeaderName, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use rand::Rng as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use self::store::Store;
use super::driver::{Capabilities, Driver, InboundMessage, OutboundMessage, Source, Streams};
use super::{Ack, headers, subject};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;

/// The largest payload with its headers, in bytes: the default of a nats-server.
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024;

/// The in-process driver. Clones share one broker: they see each other's messages.
#[derive(Clone)]
pub struct MemoryDriver {
    broker: Arc<Broker>,
    store: Arc<Store>,
}

struct Broker {
    /// Messages that a subscription buffers before it drops the newest.
    capacity: usize,
    routes: Mutex<Routes>,
    dropped: AtomicU64,
    metrics: metrics::Connection,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Routes {
    closed: bool,
    /// Subscriptions without wildcards by subject, so that a publish meets only its own.
    exact: HashMap<String, Vec<Route>>,
    patterns: Vec<Route>,
}

/// The sending end of a subscription. It exists in `Routes` only: when it is gone, the receiver
/// gets what is buffered, then the end.
struct Route {
    id: u64,
    subject: Subject,
    queue: Option<String>,
    mailbox: mpsc::Sender<InboundMessage>,
}

impl MemoryDriver {
    /// A broker of its own, whose subscriptions buffer up to `capacity` messages each (at least
    /// one).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        MemoryDriver::counted(capacity, metrics::Connection::new("memory", ""))
    }

    /// The same, whose dropped messages are counted with a connector's.
    pub(crate) fn counted(capacity: usize, metrics: metrics::Connection) -> Self {
        MemoryDriver {
            broker: Arc::new(Broker {
                capacity: capacity.clamp(1, Semaphore::MAX_PERMITS),
                routes: Mutex::default(),
                dropped: AtomicU64::new(0),
                metrics,
                last_id: AtomicU64::new(0),
            }),
            store: Arc::default(),
        }
    }

    /// How many messages were dropped so far because a subscription's buffer was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.broker.dropped.load(Ordering::Relaxed)
    }

    /// Ends every subscription after what it has buffered, and every member of a consumer at once,
    /// drops all streams, and makes every later call fail with [`ErrorKind::Closed`]. For all clones,
    /// for good.
    pub fn close(&self) {
        let mut routes = self.broker.routes();
        routes.closed = true;
        routes.exact.clear();
        routes.patterns.clear();
        drop(routes);
        self.store.close();
    }

    /// Gives a message to the subscriptions and to the stream that it is for: how many subscriptions
    /// these were, and what the stream said.
    fn deliver(&self, message: OutboundMessage) -> Result<(usize, Option<Result<Ack>>)> {
        let message = checked(message)?;
        let stream = self.store.of_subject(&message.subject)?;
        let receivers = self.broker.publish(&message)?;
        let stored = stream.and_then(|stream| {
            let message = InboundMessage { reply: None, ..message.clone() };
            stream.try_with(|state, now| state.publish(message, now))
        });
        match (message.reply, &stored) {
            (Some(reply), Some(stored)) => {
                self.broker.publish(&acknowledgement(reply, stored))?;
            }
            (Some(reply), None) if receivers == 0 => {
                self.broker.publish(&no_responders(reply))?;
            }
            _ => {}
        }
        Ok((receivers, stored))
    }
}

impl Default for MemoryDriver {
    /// Buffers 65,536 messages a subscription, as `NATS.SUBSCRIPTION_CAPACITY` does by default.
    fn default() -> Self {
        MemoryDriver::new(65_536)
    }
}

impl fmt::Debug for MemoryDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes = self.broker.routes();
        let exact: usize = routes.exact.values().map(Vec::len).sum();
        f.debug_struct("MemoryDriver")
            .field("capacity", &self.broker.capacity)
            .field("closed", &routes.closed)
            .field("subscriptions", &(exact + routes.patterns.len()))
            .field("streams", &self.store.count())
            .field("dropped", &self.dropped())
            .finish()
    }
}

impl Driver for MemoryDriver {
    fn name(&self) -> &str {
        "memory"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::core(MAX_PAYLOAD).with_acked_publish()
    }

    fn publish(&self, message: OutboundMessage, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.deliver(message).map(|_| ()) })
    }

    fn publish_acked(
        &self,
        message: OutboundMessage,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Ack>> {
        Box::pin(async move {
            let subject = message.subject.clone();
            let no_stream = || {
                Error::no_responders("no stream stores this subject; create one that does")
                    .with("subject", subject.as_str())
            };
            if self.store.of_subject(&subject)?.is_none() {
                checked(message)?;
                return Err(no_stream());
            }
            self.deliver(message)?.1.unwrap_or_else(|| Err(no_stream()))
        })
    }

    fn request(
        &self,
        mut message: OutboundMessage,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<InboundMessage>> {
        Box::pin(async move {
            let subject = message.subject.clone();
            let inbox = Subject::from(format!("_INBOX.memory.{}", self.broker.next_id()));
            message.reply = Some(inbox.clone());
            let mut inbox = self.broker.subscribe(inbox, None, 1)?;
            if let (0, None) = self.deliver(message)? {
                return Err(Error::no_responders(
                    "nobody subscribes to this subject; start its responder",
                )
                .with("subject", subject.as_str()));
            }
            match tokio::time::timeout_at(deadline, inbox.mailbox.recv()).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => Err(closed()),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    "no answer within the deadline; see to the responder or give it more time",
                )
                .with("subject", subject.as_str())),
            }
        })
    }

    fn subscribe(
        &self,
        subject: Subject,
        queue: Option<String>,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Source>>> {
        Box::pin(async move {
            let source = self.broker.subscribe(subject, queue, self.broker.capacity)?;
            Ok(Box::new(source) as Box<dyn Source>)
        })
    }

    fn flush(&self, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        // A publish has reached every buffer when it returns; only a closed broker is news.
        Box::pin(async move { self.broker.open().map(|_| ()) })
    }

    fn streams(&self) -> Option<&dyn Streams> {
        Some(self)
    }
}

impl Broker {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Routes>> {
        let routes = self.routes();
        if routes.closed { Err(closed()) } else { Ok(routes) }
    }

    /// Gives the message to each subscription that it is for, and returns how many these are.
    fn publish(&self, message: &InboundMessage) -> Result<usize> {
        // Held while the message is delivered: this keeps the order, and a drain that has removed
        // its route knows that all that was published before is in its buffer.
        let routes = self.open()?;
        let mut receivers = 0;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for route in routes.matching(&message.subject) {
            match &route.queue {
                None => {
                    self.deliver(route, message);
                    receivers += 1;
                }
                Some(name) => match groups.iter_mut().find(|group| group.name == name) {
                    Some(group) => group.offer(route),
                    None => groups.push(Group { name, members: 1, chosen: route }),
                },
            }
        }
        for group in &groups {
            self.deliver(group.chosen, message);
        }
        Ok(receivers + groups.len())
    }

    fn deliver(&self, route: &Route, message: &InboundMessage) {
        if let Err(mpsc::error::TrySendError::Full(_)) = route.mailbox.try_send(message.clone()) {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            self.metrics.dropped();
            // A slow consumer drops many: told at 1, 2, 4, 8 ...
            if dropped.is_power_of_two() {
                tracing::warn!(
                    subject = route.subject.as_str(),
                    dropped,
                    "slow consumer: its buffer is full, messages are dropped"
                );
            }
        }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn subscribe(
        self: &Arc<Self>,
        subject: Subject,
        queue: Option<String>,
        capacity: usize,
    ) -> Result<MemorySource> {
        let mut routes = self.open()?;
        let (sender, mailbox) = mpsc::channel(capacity);
        let id = self.next_id();
        let route = Route { id, subject: subject.clone(), queue, mailbox: sender };
        if subject::has_wildcard(&subject) {
            routes.patterns.push(route);
        } else {
            routes.exact.entry(subject.to_string()).or_default().push(route);
        }
        Ok(MemorySource { broker: Arc::clone(self), id, subject, mailbox })
    }
}

impl Routes {
    fn matching(&self, subject: &Subject) -> impl Iterator<Item = &Route> {
        let patterns =
            self.patterns.iter().filter(move |route| subject::matches(&route.subject, subject));
        self.exact.get(subject.as_str()).into_iter().flatten().chain(patterns)
    }

    fn remove(&mut self, id: u64, subject: &Subject) {
        if subject::has_wildcard(subject) {
            self.patterns.retain(|route| route.id != id);
        } else if let Some(routes) = self.exact.get_mut(subject.as_str()) {
            routes.retain(|route| route.id != id);
            if routes.is_empty() {
                self.exact.remove(subject.as_str());
            }
        }
    }
}

/// The members of one queue group that a message is for. As on a server, the name alone makes the
/// group: members may have subscribed with different patterns.
struct Group<'a> {
    name: &'a str,
    members: u32,
    chosen: &'a Route,
}

impl<'a> Group<'a> {
    /// Lets each of the `members` seen so far be the chosen one with the same chance.
    fn offer(&mut self, route: &'a Route) {
        self.members += 1;
        if rand::rng().random_ratio(1, self.members) {
            self.chosen = route;
        }
    }
}

/// The receiving end of a subscription.
struct MemorySource {
    broker: Arc<Broker>,
    id: u64,
    subject: Subject,
    mailbox: mpsc::Receiver<InboundMessage>,
}

impl MemorySource {
    fn unsubscribe(&self) {
        self.broker.routes().remove(self.id, &self.subject);
    }
}

impl Source for MemorySource {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<InboundMessage>> {
        self.mailbox.poll_recv(cx)
    }

    fn drain(&mut self, _deadline: Instant) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.unsubscribe();
            Ok(())
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.unsubscribe();
            while self.mailbox.try_recv().is_ok() {}
        })
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

/// A message within the payload limit.
fn checked(message: OutboundMessage) -> Result<InboundMessage> {
    let size = message.payload.len() + message.headers.as_ref().map_or(0, headers::wire_size);
    if size > MAX_PAYLOAD {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "payload and headers have {size} bytes, the limit is {MAX_PAYLOAD}; send less, or a \
                 reference to it"
            ),
        )
        .with("subject", message.subject.as_str()));
    }
    let OutboundMessage { subject, reply, headers, payload } = message;
    Ok(InboundMessage { subject, reply, headers, payload })
}

/// What is sent to the reply subject of a message that nobody received.
fn no_responders(reply: Subject) -> InboundMessage {
    let headers = HeaderMap::from_iter([(HeaderName::from_static("Status"), "503".into())]);
    InboundMessage { subject: reply, reply: None, headers: Some(headers), payload: Bytes::new() }
}

/// What a stream sends to the reply subject of a plain message.
fn acknowledgement(reply: Subject, stored: &Result<Ack>) -> InboundMessage {
    let answer = match stored {
        Ok(ack) if ack.duplicate => {
            serde_json::json!({"stream": ack.stream, "seq": ack.sequence, "duplicate": true})
        }
        Ok(ack) => serde_json::json!({"stream": ack.stream, "seq": ack.sequence}),
        Err(error) => {
            serde_json::json!({"error": {"code": 400, "description": error.message()}})
        }
    };
    let payload = answer.to_string().into();
    InboundMessage { subject: reply, reply: None, headers: None, payload }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the memory driver is closed; make a new one")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::poll_fn;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    fn message(subject: &str, payload: &'static str) -> OutboundMessage {
        OutboundMessage {
            subject: Subject::from(subject),
            reply: None,
            headers: None,
            payload: Bytes::from(payload),
        }
    }

    async fn next(source: &mut Box<dyn Source>) -> Option<Bytes> {
        poll_fn(|cx| source.poll_next(cx)).await.map(|message| message.payload)
    }

    #[tokio::test]
    async fn a_full_buffer_drops_the_newest_and_counts_it() {
        let driver = MemoryDriver::new(2);
        let mut source = driver.subscribe(Subject::from("a"), None, soon()).await.unwrap();
        for payload in ["1", "2", "3", "4"] {
            driver.publish(message("a", payload), soon()).await.unwrap();
        }
        assert_eq!(driver.dropped(), 2);
        assert_eq!(next(&mut source).await.unwrap(), "1");
        driver.publish(message("a", "5"), soon()).await.unwrap();
        source.drain(soon()).await.unwrap();
        assert_eq!(next(&mut source).await.unwrap(), "2");
        assert_eq!(next(&mut source).await.unwrap(), "5");
        assert_eq!(next(&mut source).await, None);
    }

    #[tokio::test]
    async fn closing_ends_subscriptions_after_their_buffer_and_refuses_later_calls() {
        let driver = MemoryDriver::default();
        let mut source = driver.subscribe(Subject::from("a.*"), None, soon()).await.unwrap();
        driver.publish(message("a.b", "1"), soon()).await.unwrap();

        let mut asked = driver.request(message("a.ask", "?"), soon());
        assert!(futures::poll!(&mut asked).is_pending());
        driver.close();
        assert!(asked.await.unwrap_err().is_closed());
        assert_eq!(next(&mut source).await.unwrap(), "1");
        assert_eq!(next(&mut source).await.unwrap(), "?");
        assert_eq!(next(&mut source).await, None);

        assert!(driver.publish(message("a.b", "2"), soon()).await.unwrap_err().is_closed());
        assert!(driver.request(message("a.b", "2"), soon()).await.unwrap_err().is_closed());
        assert!(driver.flush(soon()).await.unwrap_err().is_closed());
        let subscribed = driver.subscribe(Subject::from("a"), None, soon()).await;
        assert!(subscribed.err().unwrap().is_closed());
    }

    #[tokio::test]
    async fn nothing_is_left_of_subscriptions_and_requests_that_ended() {
        let driver = MemoryDriver::default();
        for subject in ["a", "a", "a.>"] {
            let mut source = driver.subscribe(Subject::from(subject), None, soon()).await.unwrap();
            source.drain(soon()).await.unwrap();
        }
        let silent = driver.subscribe(Subject::from("a"), None, soon()).await.unwrap();
        let deadline = Instant::now() + Duration::from_millis(10);
        assert!(driver.request(message("a", "?"), deadline).await.unwrap_err().is_timeout());
        drop(silent);
        let error = driver.request(message("a", "?"), soon()).await.unwrap_err();
        assert!(error.is_no_responders(), "{error}");
        assert!(format!("{driver:?}").contains("subscriptions: 0,"), "{driver:?}");
    }
}
