//! Metrics of publishing, requests and subscriptions.

use std::sync::Arc;

use ::metrics::{Counter, Gauge, Histogram};

use super::lazy::{Bounded, Handles, Lazy, Maker};
use super::{Begun, error_label, list};
use crate::error::{Error, Result};
use crate::pubsub::driver::DeliveryEvents;

/// The metrics of a pub/sub driver. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct PubSub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    driver: String,
    connector: String,
    lazy: Lazy<PubSubHandles>,
    subscriptions: Bounded<Series>,
    durables: Bounded<Series>,
}

#[derive(Debug)]
struct PubSubHandles {
    published: Counter,
    acked: Counter,
    ack_duration: Histogram,
    requests: Counter,
    request_duration: Histogram,
}

impl Handles for PubSubHandles {
    fn make(maker: &Maker<'_>) -> Self {
        PubSubHandles {
            published: maker.counter_of(&list::PUBLISHED, [("delivery", CORE)]),
            acked: maker.counter_of(&list::PUBLISHED, [("delivery", ACKED)]),
            ack_duration: maker.histogram(&list::ACK_DURATION),
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

    /// What came of one of many messages that streams were to store.
    pub(crate) fn stored<T>(&self, result: &Result<T, &Error>) {
        match result {
            Ok(_) => {
                if let Some(handles) = self.0.lazy.get() {
                    handles.acked.increment(1);
                }
            }
            Err(error) => self.publish_failed(ACKED, error),
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
        let series = |topic: &str| Series { all: self.lazy(topic, "", ""), durable: None };
        Subscription(self.0.subscriptions.of(topic, series))
    }

    /// Those of a durable subscription; its topic is the consumer's filters.
    pub(crate) fn durable(&self, topic: &str, stream: &str, durable: &str) -> Subscription {
        // Neither a stream's nor a consumer's name has a dot.
        let id = [stream, durable, topic].join(".");
        let series = |known: &str| {
            let (topic, stream, durable) =
                if known == id { (topic, stream, durable) } else { (known, known, known) };
            let durables = Some(self.lazy(topic, stream, durable));
            Series { all: self.lazy(topic, stream, durable), durable: durables }
        };
        Subscription(self.0.durables.of(&id, series))
    }

    fn lazy<T: Handles>(&self, topic: &str, stream: &str, durable: &str) -> Lazy<T> {
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

/// The metrics of a subscription; all with the same labels share them.
#[derive(Debug, Clone)]
pub(crate) struct Subscription(Arc<Series>);

#[derive(Debug)]
struct Series {
    all: Lazy<SubscriptionHandles>,
    /// What only a durable one has.
    durable: Option<Lazy<DurableHandles>>,
}

#[derive(Debug)]
struct SubscriptionHandles {
    received: Counter,
    handled: Counter,
    failed: Counter,
    panicked: Counter,
    in_flight: Gauge,
    duration: Histogram,
}

impl Handles for SubscriptionHandles {
    fn make(maker: &Maker<'_>) -> Self {
        SubscriptionHandles {
            received: maker.counter(&list::RECEIVED),
            handled: maker.counter(&list::HANDLED),
            failed: maker.counter_of(&list::FAILED, [("cause", "error")]),
            panicked: maker.counter_of(&list::FAILED, [("cause", "panic")]),
            in_flight: maker.gauge(&list::IN_FLIGHT),
            duration: maker.histogram(&list::HANDLER_DURATION),
        }
    }
}

#[derive(Debug)]
struct DurableHandles {
    redelivered: Counter,
    retried: Counter,
    rejected: Counter,
    dead_lettered: Counter,
    not_stored: Counter,
    let_go: Counter,
    unsettled: Counter,
    remade: Counter,
    restarts: Counter,
}

impl Handles for DurableHandles {
    fn make(maker: &Maker<'_>) -> Self {
        DurableHandles {
            redelivered: maker.counter(&list::REDELIVERED),
            retried: maker.counter(&list::RETRIED),
            rejected: maker.counter(&list::REJECTED),
            dead_lettered: maker.counter(&list::DEAD_LETTERED),
            not_stored: maker.counter(&list::NOT_STORED),
            let_go: maker.counter(&list::LET_GO),
            unsettled: maker.counter(&list::UNSETTLED),
            remade: maker.counter(&list::CONSUMER_REMADE),
            restarts: maker.counter(&list::CONSUMER_RESTARTS),
        }
    }
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Handled,
    Failed,
    Panicked,
}

/// What became of a message of a durable subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Redelivered,
    Retried,
    Rejected,
    DeadLettered,
    NotStored,
    LetGo,
    Unsettled,
}

impl Subscription {
    #[inline]
    pub(crate) fn received(&self) {
        if let Some(handles) = self.0.all.get() {
            handles.received.increment(1);
        }
    }

    /// A handler gets a message; what is given back counts it as at work.
    #[inline]
    pub(crate) fn begin(&self) -> AtWork<'_> {
        let handles = self.0.all.get();
        if let Some(handles) = handles {
            handles.in_flight.increment(1);
        }
        AtWork(handles.map(|handles| (handles, Begun::now())))
    }

    #[inline]
    pub(crate) fn count(&self, end: End) {
        let Some(handles) = self.0.all.get() else { return };
        let counter = match end {
            End::Handled => &handles.handled,
            End::Failed => &handles.failed,
            End::Panicked => &handles.panicked,
        };
        counter.increment(1);
    }

    pub(crate) fn became(&self, fate: Fate, messages: u64) {
        let Some(handles) = self.0.durable.as_ref().and_then(Lazy::get) else { return };
        let counter = match fate {
            Fate::Redelivered => &handles.redelivered,
            Fate::Retried => &handles.retried,
            Fate::Rejected => &handles.rejected,
            Fate::DeadLettered => &handles.dead_lettered,
            Fate::NotStored => &handles.not_stored,
            Fate::LetGo => &handles.let_go,
            Fate::Unsettled => &handles.unsettled,
        };
        counter.increment(messages);
    }

    /// What has happened to a consumer so far, and what was told of that before.
    pub(crate) fn consumer(&self, told: &mut DeliveryEvents, now: DeliveryEvents) {
        if *told == now {
            return;
        }
        let Some(handles) = self.0.durable.as_ref().and_then(Lazy::get) else { return };
        handles.remade.increment(now.consumer_remade.saturating_sub(told.consumer_remade));
        handles.restarts.increment(now.restarts.saturating_sub(told.restarts));
        *told = now;
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
