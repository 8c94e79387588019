//! Subscribing with a handler, and the handle on a live subscription.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use futures::future::BoxFuture;

use super::dispatch::{self, Stop, Task};
use super::driver::Source;
use super::durable::{Member, bad_concurrency};
use super::subject::{check_queue, check_subscribe};
use super::{Handler, PubSub};
use crate::call::{Call, Operation};
use crate::connector::link::closed;
use crate::deadline::{after, within};
use crate::difference::Difference;
use crate::error::{Error, ErrorKind, Result};
use crate::layers::Layer;
use crate::metrics;

/// Where and how to subscribe; shared by handlers and streams.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) handle: PubSub,
    pub(super) topic: Subject,
    pub(super) queue: Option<String>,
    pub(super) ignore_prefix: bool,
}

impl Place {
    pub(super) fn new(handle: PubSub, topic: Subject) -> Self {
        Place { handle, topic, queue: None, ignore_prefix: false }
    }

    pub(super) fn queue(&mut self, queue: &str) {
        self.queue = Some(queue.to_owned());
    }

    pub(super) fn ignore_prefix(&mut self) {
        self.ignore_prefix = true;
    }

    /// Subscribes; gives the bound handle, the source and the record that a drain finds.
    pub(super) async fn open(
        self,
        timeout: Option<Duration>,
    ) -> Result<(PubSub, Box<dyn Source>, Arc<Task>)> {
        let Place { handle, topic, queue, ignore_prefix } = self;
        let handle = handle.bind()?;
        let subject = if ignore_prefix { topic } else { handle.subject(&topic) };
        check_subscribe(&subject)?;
        if let Some(queue) = &queue {
            check_queue(queue)?;
        }
        let core = handle.core();
        let deadline = after(timeout.unwrap_or(core.timeout));
        let name = subject.as_str().to_owned();
        let added = Added::new(&handle, &name, core.metrics.subscription(&name));
        let source = core
            .driver
            .subscribe(subject, queue, deadline)
            .await
            .map_err(|error| error.with("topic", name))?;
        let task = added.keep()?;
        Ok((handle, source, task))
    }
}

/// The record of a subscription that is being made: known before it is made, so that no drain can
/// miss it, and forgotten when it is not made.
pub(super) struct Added {
    handle: PubSub,
    task: Option<Arc<Task>>,
}

impl Added {
    pub(super) fn new(handle: &PubSub, topic: &str, metrics: metrics::Subscription) -> Self {
        let task = handle.core().tasks().add(topic, metrics);
        Added { handle: handle.clone(), task: Some(task) }
    }

    /// The subscription is made; refused when it is to end already.
    pub(super) fn keep(mut self) -> Result<Arc<Task>> {
        match self.task.take_if(|task| task.wish().is_none()) {
            Some(task) => Ok(task),
            None => Err(closed()),
        }
    }
}

impl Drop for Added {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            self.handle.core().tasks().remove(task);
            task.end();
        }
    }
}

/// The most handlers of one subscription at once: each is a task from the start.
pub(super) const MAX_CONCURRENCY: usize = 65_536;

/// A subscription to make, by [`PubSub::subscribe`].
pub struct Subscribe<H> {
    pub(super) place: Place,
    pub(super) handler: H,
    pub(super) concurrency: usize,
    /// What the layers need, asked before anything is made.
    pub(super) checks: Vec<BoxFuture<'static, Result<()>>>,
}

impl<H: Handler> Subscribe<H> {
    pub(super) fn new(handle: PubSub, topic: Subject, handler: H) -> Self {
        Subscribe { place: Place::new(handle, topic), handler, concurrency: 1, checks: Vec::new() }
    }
}

impl<H: Handler> Call<Subscribe<H>> {
    /// Joins a queue group: each message goes to one of its members.
    pub fn queue(self, group: impl AsRef<str>) -> Self {
        self.map_operation(|subscribe| subscribe.place.queue(group.as_ref()))
    }

    /// Lets up to `n` handlers run at once, on as many threads as there are; messages then finish
    /// in any order. 1 to 65,536; default: 1, in order.
    pub fn concurrency(self, n: usize) -> Self {
        self.map_operation(|subscribe| subscribe.concurrency = n)
    }

    /// Takes the topic as the full subject.
    pub fn ignore_prefix(self) -> Self {
        self.map_operation(|subscribe| subscribe.place.ignore_prefix())
    }

    /// Puts a layer around the handler, and around the layers that it has: the one added last is
    /// the outermost. [`layers`](crate::layers) has a right and a wrong order.
    ///
    /// On await, also the errors of the layer: `Unsupported` when it needs what the server lacks.
    pub fn layer<L: Layer<H>>(self, layer: L) -> Call<Subscribe<impl Handler>> {
        self.map(|subscribe| {
            let Subscribe { place, handler, concurrency, mut checks } = subscribe;
            checks.extend(layer.check());
            Subscribe { place, handler: layer.layer(handler), concurrency, checks }
        })
    }
}

impl<H: Handler> Operation for Subscribe<H> {
    type Output = Result<Subscription>;

    fn start(self, timeout: Option<Duration>) -> BoxFuture<'static, Result<Subscription>> {
        let subscribe = async move {
            if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
                return Err(bad_concurrency(self.concurrency));
            }
            for check in self.checks {
                check.await?;
            }
            let (handle, source, task) = self.place.open(timeout).await?;
            dispatch::start(source, self.handler, self.concurrency, handle.clone(), &task);
            Ok(Subscription::running(handle, task))
        };
        Box::pin(async move { subscribe.await.map_err(|error| error.operation("subscribe")) })
    }
}

impl<H> fmt::Debug for Subscribe<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("place", &self.place)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// A live subscription. Dropping it leaves the subscription running.
#[derive(Clone)]
pub struct Subscription {
    handle: PubSub,
    task: Arc<Task>,
    durable: Option<Arc<Joined>>,
}

/// What a durable subscription has beside.
struct Joined {
    member: Arc<Member>,
    differences: Vec<Difference>,
}

/// Counts of one subscription since it was made.
///
/// With [`ordered_by`](Call::ordered_by) a message that failed is tried again in its lane, without a
/// new delivery: that is not counted in `redelivered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SubscriptionStats {
    /// Messages taken from the subscription.
    pub received: u64,
    /// Messages whose handler ended well.
    pub handled: u64,
    /// Messages whose handler gave an error.
    pub failed: u64,
    /// Messages whose handler panicked.
    pub panicked: u64,
    /// Of a durable subscription, as all that follow, which are zero in any other: deliveries that
    /// were not the first of their message.
    pub redelivered: u64,
    /// Deliveries after which the message was to come again.
    pub retried: u64,
    /// Messages that their handler rejected, or could not decode.
    pub rejected: u64,
    /// Dead letters that a stream has stored.
    pub dead: u64,
    /// Dead letters that no stream has stored yet: tries that failed.
    pub not_stored: u64,
    /// Messages whose handlers took so long that they were delivered again.
    pub let_go: u64,
    /// Messages whose settlement could not be sent: they come again.
    pub unsettled: u64,
    /// How often the consumer was gone and was made again.
    pub remade: u64,
}

impl Subscription {
    pub(super) fn durable(
        handle: PubSub,
        task: Arc<Task>,
        member: Arc<Member>,
        differences: Vec<Difference>,
    ) -> Self {
        let durable = Some(Arc::new(Joined { member, differences }));
        Subscription { handle, task, durable }
    }

    /// The handle on a loop that runs.
    pub(super) fn running(handle: PubSub, task: Arc<Task>) -> Self {
        Subscription { handle, task, durable: None }
    }

    pub(super) fn handle(&self) -> &PubSub {
        &self.handle
    }

    pub(super) fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// The full subject; of a durable subscription with several topics the first one.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.task.topic
    }

    /// How the consumer that a durable subscription found differs from what was asked for: it was
    /// left as it is. Empty when it was made, or changed.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        self.durable.as_ref().map_or(&[], |durable| &durable.differences)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        let mut stats = self.task.stats();
        if let Some(durable) = &self.durable {
            durable.member.count(&mut stats);
        }
        stats
    }

    /// Ends the subscription: the handler at work finishes, messages that wait are dropped; those of
    /// a durable subscription go to other members, at once or, where no server is there to hear of
    /// it, after the ack wait.
    /// Limited by the handle's timeout.
    ///
    /// # Errors
    /// `Timeout` when the handler, the settlement of its message or the server takes longer; the
    /// subscription ends all the same.
    ///
    /// # Cancel safety
    /// The subscription ends even when this is dropped.
    pub async fn unsubscribe(&self) -> Result<()> {
        self.stop(Stop::Close).await
    }

    /// Ends the subscription without losing a message: takes no new ones, handles all that are
    /// under way or wait, then ends. A durable subscription ends as by
    /// [`unsubscribe`](Self::unsubscribe): no message of it is lost. Limited by the handle's timeout.
    ///
    /// # Errors
    /// `Timeout` when the handlers or the server take longer; the drain goes on.
    ///
    /// # Cancel safety
    /// The drain goes on when this is dropped.
    pub async fn drain(&self) -> Result<()> {
        self.stop(Stop::Drain).await
    }

    async fn stop(&self, stop: Stop) -> Result<()> {
        let deadline = after(self.handle.core().timeout);
        self.task.stop(stop, deadline);
        within(deadline, self.task.ended()).await.map_err(|_| {
            let message = if self.task.is_busy() {
                "a message is still at its handler, or is being settled; the subscription ends with it"
            } else {
                "the server does not answer; the subscription ends all the same"
            };
            Error::new(ErrorKind::Timeout, message).with("topic", self.task.topic.as_str())
        })
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.task.topic)
            .field("stats", &self.stats())
            .finish()
    }
}
