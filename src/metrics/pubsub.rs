//! Metrics of publishing, requests and subscriptions.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram};

use super::lazy::{Bounded, Handles, Lazy, Maker};
use super::{Begun, error_label, list};
use crate::error::{Error, Result};

/// The metrics of a pub/sub driver. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct PubSub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    driver: String,
    connector: String,
    lazy: Lazy<PubSubHandles>,
    subscriptions: Bounded<Lazy<SubscriptionHandles>>,
    durables: Bounded<Lazy<SubscriptionHandles>>,
}

#[derive(Debug)]
struct PubSubHandles {
    published: Counter,
    acked: Counter,
    ack_duration: Histogram,
    batch_size: Histogram,
    requests: Counter,
    request_duration: Histogram,
}

impl Handles for PubSubHandles {
    fn make(maker: &Maker<'_>) -> Self {
        PubSubHandles {
            published: maker.counter_of(&list::PUBLISHED, [("delivery", CORE)]),
            acked: maker.counter_of(&list::PUBLISHED, [("delivery", ACKED)]),
            ack_duration: maker.histogram(&list::ACK_DURATION),
            batch_size: maker.histogram(&list::BATCH_SIZE),
            requests: maker.counter(&list::REQUESTS),
            request_duration: maker.histogram(&list::REQUEST_DURATION),
        }
    }
}

const CORE: &str = "core";
const ACKED: &str = "acked";

impl PubSub {
    /// Those of a driver; `connector` is empty for a driver that no connector made.
    pub(crate) fn new(driver: &str, connector: &str) -> Self {
        PubSub(Arc::new(Inner {
            driver: driver.to_owned(),
            connector: connector.to_owned(),
            lazy: Lazy::new([("driver", driver), ("connector", connector)]),
            subscriptions: Bounded::default(),
            durables: Bounded::default(),
        }))
    }

    /// What came of a message that was to be handed to the connection.
    #[inline]
    pub(crate) fn published(&self, result: &Result<()>) {
        match result {
            Ok(()) => {
                if let Some(handles) = self.0.lazy.get() {
                    handles.published.increment(1);
                }
            }
            Err(error) => self.publish_failed(CORE, error),
        }
    }

    /// What came of a message that a stream was to store.
    pub(crate) fn acked<T>(&self, begun: Begun, result: &Result<T>) {
        match result {
            Ok(_) => {
                if let Some(handles) = self.0.lazy.get() {
                    handles.acked.increment(1);
                    handles.ack_duration.record(begun.seconds());
                }
            }
            Err(error) => self.publish_failed(ACKED, error),
        }
    }

    /// A call published this many messages.
    pub(crate) fn batch(&self, size: usize) {
        if let Some(handles) = self.0.lazy.get() {
            handles.batch_size.record(size as f64);
        }
    }

    fn publish_failed(&self, delivery: &str, error: &Error) {
        let more = [("delivery", delivery), ("error", &error_label(error))];
        self.0.lazy.count(&list::PUBLISH_FAILURES, more);
    }

    /// What came of a request.
    pub(crate) fn requested<T>(&self, begun: Begun, result: &Result<T>) {
        match result {
            Ok(_) => {
                if let Some(handles) = self.0.lazy.get() {
                    handles.requests.increment(1);
                    handles.request_duration.record(begun.seconds());
                }
            }
            Err(error) => {
                let label = error_label(error);
                let more = [("error", &*label)];
                self.0.lazy.count(&list::REQUEST_FAILURES, more);
            }
        }
    }

    /// Those of a subscription to a pattern.
    pub(crate) fn subscription(&self, topic: &str) -> Subscription {
        let Inner { subscriptions, .. } = &*self.0;
        Subscription(subscriptions.of(topic, |topic| self.lazy(topic, "", "")))
    }

    /// Those of a durable subscription; its topic is the consumer's filters.
    pub(crate) fn durable(&self, topic: &str, stream: &str, durable: &str) -> Subscription {
        // Neither a stream's nor a consumer's name has a dot.
        let id = [stream, durable, topic].join(".");
        Subscription(self.0.durables.of(&id, |bounded| match bounded == id {
            true => self.lazy(topic, stream, durable),
            false => self.lazy(bounded, bounded, bounded),
        }))
    }

    fn lazy(&self, topic: &str, stream: &str, durable: &str) -> Lazy<SubscriptionHandles> {
        let Inner { driver, connector, .. } = &*self.0;
        Lazy::new([
            ("driver", driver),
            ("connector", connector),
            ("topic", topic),
            ("stream", stream),
            ("durable", durable),
        ])
    }
}

/// The metrics of a subscription; all of one pattern share them.
#[derive(Debug, Clone)]
pub(crate) struct Subscription(Arc<Lazy<SubscriptionHandles>>);

#[derive(Debug)]
struct SubscriptionHandles {
    received: Counter,
    handled: Counter,
    failed: Counter,
    panicked: Counter,
    retried: Counter,
    rejected: Counter,
    dead_lettered: Counter,
    in_flight: Gauge,
    duration: Histogram,
    remade: Counter,
    restarts: Counter,
}

impl Handles for SubscriptionHandles {
    fn make(maker: &Maker<'_>) -> Self {
        SubscriptionHandles {
            received: maker.counter(&list::RECEIVED),
            handled: maker.counter(&list::HANDLED),
            failed: maker.counter_of(&list::FAILED, [("cause", "error")]),
            panicked: maker.counter_of(&list::FAILED, [("cause", "panic")]),
            retried: maker.counter(&list::RETRIED),
            rejected: maker.counter(&list::REJECTED),
            dead_lettered: maker.counter(&list::DEAD_LETTERED),
            in_flight: maker.gauge(&list::IN_FLIGHT),
            duration: maker.histogram(&list::HANDLER_DURATION),
            remade: maker.counter(&list::CONSUMER_REMADE),
            restarts: maker.counter(&list::CONSUMER_RESTARTS),
        }
    }
}

/// What a subscription counts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Handled,
    Failed,
    Panicked,
}

impl Subscription {
    #[inline]
    pub(crate) fn received(&self) {
        if let Some(handles) = self.0.get() {
            handles.received.increment(1);
        }
    }

    /// A handler gets a message; what is given back counts it as at work.
    #[inline]
    pub(crate) fn begin(&self) -> AtWork<'_> {
        let handles = self.0.get();
        if let Some(handles) = handles {
            handles.in_flight.increment(1);
        }
        AtWork(handles.map(|handles| (handles, Begun::now())))
    }

    #[inline]
    pub(crate) fn count(&self, end: End) {
        let Some(handles) = self.0.get() else { return };
        let counter = match end {
            End::Handled => &handles.handled,
            End::Failed => &handles.failed,
            End::Panicked => &handles.panicked,
        };
        counter.increment(1);
    }

    /// The consumer was made again this often, and its requests begun anew this often, since the
    /// last time.
    pub(crate) fn consumer(&self, remade: u64, restarts: u64) {
        if let Some(handles) = self.0.get() {
            handles.remade.increment(remade);
            handles.restarts.increment(restarts);
        }
    }
}

/// A message that a handler is at work on, until this is dropped.
#[must_use]
pub(crate) struct AtWork<'a>(Option<(&'a SubscriptionHandles, Begun)>);

impl AtWork<'_> {
    /// The same as dropping it.
    #[inline]
    pub(crate) fn end(self) {}
}

impl Drop for AtWork<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((handles, begun)) = &self.0 {
            handles.in_flight.decrement(1);
            handles.duration.record(begun.seconds());
        }
    }
}
