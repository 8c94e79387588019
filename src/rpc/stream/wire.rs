//! What streams need of the connection.

use std::any::Any;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use tokio::sync::watch;

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
