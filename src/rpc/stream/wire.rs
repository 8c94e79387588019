//! What streams need of the connection.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::Instant;

use crate::connector::State;
use crate::connector::status::Denied;
use crate::deadline::after;
use crate::error::{Error, Result};
use crate::pubsub::PubSub;
use crate::pubsub::driver::{Driver, OutboundMessage, Source};
use crate::pubsub::nats::NatsDriver;
use crate::rpc::Rpc;

/// The handle that a stream goes over, and its driver.
#[derive(Debug, Clone)]
pub(super) struct Wire {
    pubsub: PubSub,
    driver: Arc<dyn Driver>,
    /// How long a call on it may take.
    pub(super) timeout: Duration,
}

/// What a stream that does not end by itself is given of a drain's time, to tell its caller.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long an answer is sent again to a caller that does not listen for it yet.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);
/// How soon it is sent again at first, and at last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// What the connection had been through at some moment; `None`: a driver without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    connects: u64,
    dropped: u64,
}

impl Wire {
    pub(super) fn of(rpc: &Rpc) -> Result<Wire> {
        let pubsub = rpc.pubsub().bind()?;
        let (driver, timeout) = (pubsub.driver()?, pubsub.default_timeout()?);
        Ok(Wire { pubsub, driver, timeout })
    }

    fn nats(&self) -> Option<&NatsDriver> {
        let driver: &dyn Any = &*self.driver;
        driver.downcast_ref()
    }

    pub(super) fn new_inbox(&self) -> Result<Subject> {
        self.pubsub.inbox()
    }

    pub(super) async fn subscribe(&self, inbox: &Subject) -> Result<Box<dyn Source>> {
        self.driver.subscribe(inbox.clone(), None, after(self.timeout)).await
    }

    pub(super) async fn publish(
        &self,
        subject: Subject,
        reply: Option<Subject>,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<()> {
        let headers = (!headers.is_empty()).then_some(headers);
        self.pubsub.send(OutboundMessage { subject, reply, headers, payload }, None).await
    }

    /// Publishes to a caller that may begin to listen only now: where nobody did, the server says so,
    /// and it is sent again.
    pub(super) async fn publish_until_heard(
        &self,
        subject: &Subject,
        headers: &HeaderMap,
        payload: &Bytes,
    ) -> Result<()> {
        let inbox = self.new_inbox()?;
        let mut source = self.subscribe(&inbox).await?;
        let begun = Instant::now();
        let mut pause = AGAIN.0;
        loop {
            let (headers, payload) = (headers.clone(), payload.clone());
            self.publish(subject.clone(), Some(inbox.clone()), headers, payload).await?;
            // The server's word about it comes before the end of a round trip.
            self.driver.flush(after(self.timeout)).await?;
            let word = unconstrained(poll_fn(|cx| Poll::Ready(source.poll_next(cx)))).await;
            // A drain is not held up.
            let limit = if self.is_draining() { LAST_WORD / 2 } else { LISTENS_WITHIN };
            if word.is_pending() || begun.elapsed() >= limit {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(AGAIN.1);
        }
    }

    pub(super) fn past(&self) -> Option<Past> {
        let link = self.nats()?.link();
        let dropped = link.status().dropped.load(Ordering::Relaxed);
        Some(Past { connects: link.connects(), dropped })
    }

    /// Whether the connection was lost since.
    pub(super) fn was_lost(&self, since: Option<Past>) -> bool {
        let link = self.nats().map(NatsDriver::link);
        link.zip(since).is_some_and(|(link, past)| {
            // The client's own state: events can be late.
            let gone = matches!(link.state(), State::Disconnected | State::Closed);
            gone || link.connects() != past.connects
        })
    }

    /// Whether messages were dropped here since, of whatever subscription.
    pub(super) fn has_dropped(&self, since: Option<Past>) -> bool {
        self.past().zip(since).is_some_and(|(now, past)| now.dropped != past.dropped)
    }

    /// Forgets that the server has refused messages for a subject.
    pub(super) fn forget_refusal(&self, subject: &Subject) {
        if let Some(nats) = self.nats() {
            nats.link().status().take_denied(|denied| *denied == Denied::publishing(subject));
        }
    }

    /// That the server has refused messages for a subject. It stays known: others may have sent there.
    pub(super) fn refusal(&self, subject: &Subject) -> Option<Error> {
        let refused = Denied::publishing(subject);
        let known = self.nats()?.link().status().has_denied(|denied| *denied == refused);
        known.then(|| refused.error())
    }

    /// Resolves with everything that happens to the connection.
    pub(super) fn changes(&self) -> Option<watch::Receiver<u64>> {
        Some(self.nats()?.link().status().changes())
    }

    fn is_draining(&self) -> bool {
        self.nats().is_some_and(|nats| nats.link().status().is_draining())
    }

    /// Resolves shortly before a drain of the connection gives up what still runs.
    pub(super) async fn drain_ends(&self) {
        let Some(link) = self.nats().map(NatsDriver::link) else { return pending().await };
        let mut changes = link.status().changes();
        while !link.status().is_draining() {
            if changes.changed().await.is_err() {
                return pending().await;
            }
        }
        let limit = link.settings().drain_timeout();
        tokio::time::sleep(limit - (limit / 5).min(LAST_WORD)).await;
    }
}
